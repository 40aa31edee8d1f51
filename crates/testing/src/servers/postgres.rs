//! A throwaway PostgreSQL.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::{Client, NoTls};

use super::keeper::{Keeper, Ways};
use super::programs::{Found, Wanted};
use super::{NO_TLS, command, folder, free_port, write_pair};
use crate::certificates::Pair;

const FOLDERS: &[&str] = &["/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin"];
const INITDB: Wanted =
    Wanted { program: "initdb", folders: FOLDERS, package: "postgresql", image: "docker.io/library/postgres:15" };

/// The variable under which a server that was started for the whole test run is known.
pub const RUNNING: &str = "ALLOCATION_TEST_POSTGRES_PORT";

/// For everything but durability.
const CARELESS: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];

/// When its configuration was read last.
const LOADED: &str = "SELECT pg_conf_load_time()::text";

/// At this signal it ends at once and in good order; at SIGTERM it would wait for its clients.
const END: &str = "INT";

/// Ends it with all its processes: one that outlived the first would keep the next server from starting.
const KILL: &str = r#"processes=$(cat "/proc/$server/task/$server/children")
    kill -KILL "$server" $processes
    for process in $processes; do
        while grep -qs '^State:.[^Z]' "/proc/$process/status"; do sleep 0.01; done
    done"#;

/// A server of its own.
pub struct PostgresServer {
    keeper: Keeper,
    port: u16,
    folder: PathBuf,
}

impl PostgresServer {
    /// A server that never waits for the disk: for everything but durability.
    pub fn start() -> Self {
        Self::with(&CARELESS, None)
    }

    /// A server that is careful with data, as in production.
    pub fn start_durable() -> Self {
        Self::with(&["fsync=on", "synchronous_commit=on"], None)
    }

    /// A server as [`PostgresServer::start`] gives it, that offers TLS and shows this pair.
    pub fn start_with_tls(pair: &Pair) -> Self {
        Self::with(&CARELESS, Some(pair))
    }

    fn with(settings: &[&str], pair: Option<&Pair>) -> Self {
        let (folder, port) = (folder("postgres"), free_port());
        let path = folder.path().to_owned();
        let mut settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        settings.extend(["max_connections=830".into(), "shared_buffers=128MB".into(), "max_wal_size=2GB".into()]);
        if let Some(pair) = pair {
            let files = write_pair(pair, &path);
            let (chain, key) = (files.chain.display(), files.key.display());
            settings.extend(["ssl=on".into(), format!("ssl_cert_file={chain}"), format!("ssl_key_file={key}")]);
        }
        let settings = |flag: &'static str| settings.clone().into_iter().flat_map(move |s| [flag.to_owned(), s]);
        let mut keeper = match INITDB.find() {
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
                let mut postgres = Command::new(initdb.with_file_name("postgres"));
                postgres.arg("-D").arg(data).arg("-k").arg(folder.path());
                postgres.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(settings("-c"));
                Keeper::new(&postgres, folder, &Ways { end: END, kill: KILL.into(), ..Ways::of_program() })
            }
            Found::Image(image) => {
                assert!(pair.is_none(), "{NO_TLS}");
                let options = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust", "-e", "POSTGRES_USER=allocation"];
                let (options, arguments) = (options.map(str::to_owned), settings("-c").collect::<Vec<_>>());
                Keeper::container(image, END, (port, 5432), "/var/lib/postgresql/data", &options, &arguments, folder)
            }
        };
        keeper.begin();
        Self { keeper, port, folder: path }
    }

    /// Has it show another pair from now on.
    pub async fn show(&self, pair: &Pair) {
        write_pair(pair, &self.folder);
        let admin = admin(self.port).await;
        let before = admin.query_one(LOADED, &[]).await.expect("a query").get::<_, String>(0);
        admin.execute("SELECT pg_reload_conf()", &[]).await.expect("a reload");
        crate::eventually("its configuration to be read again", async || {
            let now = admin.query_one(LOADED, &[]).await.expect("a query").get::<_, String>(0);
            (now != before).then_some(())
        })
        .await;
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it takes connections, makes an empty database, and gives its URL.
    pub async fn database(&self) -> String {
        empty_database(self.port).await
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        self.keeper.kill();
    }

    /// Starts it again with what it has kept, and waits until it has recovered.
    pub async fn bring_back(&mut self) {
        self.keeper.begin();
        admin(self.port).await;
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
    // Copying files is quicker here than writing them to the log.
    let create = format!("CREATE DATABASE {name} STRATEGY file_copy");
    admin(port).await.batch_execute(&create).await.expect("a new database");
    format!("{}/{name}", url(port))
}

fn url(port: u16) -> String {
    format!("postgres://allocation@127.0.0.1:{port}")
}

/// A connection to the server, as soon as it takes any.
async fn admin(port: u16) -> Client {
    let url = format!("{}/postgres", url(port));
    crate::eventually("PostgreSQL to take connections", async || {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    })
    .await
}
