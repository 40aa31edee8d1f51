//! A throwaway PostgreSQL.

use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::NoTls;

use super::programs::{Found, Wanted};
use super::{command, end, folder, free_port, supervise};

const FOLDERS: &[&str] = &["/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin"];
const INITDB: Wanted =
    Wanted { program: "initdb", folders: FOLDERS, package: "postgresql", image: "docker.io/library/postgres:15" };

/// The variable under which a server that was started for the whole test run is known.
pub const RUNNING: &str = "ALLOCATION_TEST_POSTGRES_PORT";

/// A server of its own.
pub struct PostgresServer {
    supervisor: Child,
    port: u16,
}

impl PostgresServer {
    /// A server that never waits for the disk: for everything but durability.
    pub fn start() -> Self {
        Self::with(&["fsync=off", "synchronous_commit=off", "full_page_writes=off"])
    }

    /// A server that is careful with data, as in production.
    pub fn start_durable() -> Self {
        Self::with(&["fsync=on", "synchronous_commit=on"])
    }

    fn with(settings: &[&str]) -> Self {
        let (folder, port) = (folder("postgres"), free_port());
        let mut settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        settings.extend(["max_connections=830".into(), "shared_buffers=128MB".into(), "max_wal_size=2GB".into()]);
        let settings = |flag: &'static str| settings.clone().into_iter().flat_map(move |s| [flag.to_owned(), s]);
        let supervisor = match INITDB.find() {
            Found::Program(initdb) => {
                let data = folder.path().join("data");
                let made = command(&initdb)
                    .args(["--auth=trust", "--username=allocation", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
                    .arg("--pgdata")
                    .arg(&data)
                    .stdin(Stdio::null())
                    .output()
                    .expect("initdb");
                assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
                let mut arguments: Vec<String> =
                    ["-D", &data.to_string_lossy(), "-k", &folder.path().to_string_lossy()].map(str::to_owned).into();
                arguments.extend(["-h".into(), "127.0.0.1".into(), "-p".into(), port.to_string()]);
                arguments.extend(settings("-c"));
                supervise(&initdb.with_file_name("postgres"), &arguments, folder)
            }
            Found::Image(image) => {
                let mut arguments: Vec<String> =
                    ["run", "--rm", "--init", "-e", "POSTGRES_HOST_AUTH_METHOD=trust"].map(str::to_owned).into();
                arguments.extend(["-e".into(), "POSTGRES_USER=allocation".into(), "-p".into()]);
                arguments.extend([format!("127.0.0.1:{port}:5432"), image.to_owned()]);
                arguments.extend(settings("-c"));
                supervise("docker".as_ref(), &arguments, folder)
            }
        };
        Self { supervisor, port }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it takes connections, makes an empty database, and gives its URL.
    pub async fn database(&self) -> String {
        empty_database(self.port).await
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        end(&mut self.supervisor);
    }
}

/// The URL of an empty database on the server that all tests of this run share.
pub async fn postgres_url() -> String {
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    let started_for_us = std::env::var(RUNNING).ok().and_then(|port| port.parse().ok());
    let port = started_for_us.unwrap_or_else(|| SHARED.get_or_init(PostgresServer::start).port());
    empty_database(port).await
}

async fn empty_database(port: u16) -> String {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let name = format!("test_{}_{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
    let server = format!("postgres://allocation@127.0.0.1:{port}");
    let admin = crate::eventually("PostgreSQL to take connections", async || {
        let (client, connection) = tokio_postgres::connect(&format!("{server}/postgres"), NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    })
    .await;
    // Copying files is quicker here than writing them to the log.
    let create = format!("CREATE DATABASE {name} STRATEGY file_copy");
    admin.batch_execute(&create).await.expect("a new database");
    format!("{server}/{name}")
}
