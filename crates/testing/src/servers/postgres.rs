//! A throwaway PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::keeper::{Keeper, Ways};
use super::programs::{Found, Wanted};
use super::{NO_TLS, command, folder, free_port, write_pair};
use crate::certificates::Pair;

const FOLDERS: &[&str] = &["/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin"];
pub(super) const INITDB: Wanted =
    Wanted { program: "initdb", folders: FOLDERS, package: "postgresql", image: "docker.io/library/postgres:15" };

/// The variable under which a server that was started for the whole test run is known.
pub(super) const RUNNING: &str = "ALLOCATION_TEST_POSTGRES_PORT";

/// For everything but durability.
const CARELESS: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];

/// For the loss of a server, and not of its machine.
const IN_STEP: [&str; 3] = ["fsync=off", "synchronous_commit=on", "full_page_writes=off"];

/// For every server.
const ALL: [&str; 3] = ["max_connections=830", "shared_buffers=128MB", "max_wal_size=2GB"];

/// When its configuration was read last.
const LOADED: &str = "SELECT pg_conf_load_time()::text";

/// At this signal it ends at once and in good order; at SIGTERM it would wait for its clients.
const END: &str = "INT";

/// Ends it with all its processes: one that outlived the first would keep the next server from starting. The first stands still before they are
/// counted, or it might begin another.
pub(super) const KILL: &str = r#"kill -STOP "$server"
    until grep -qs '^State:.[TZ]' "/proc/$server/status"; do sleep 0.01; done
    processes=$(cat "/proc/$server/task/$server/children")
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

    /// A server for a [`standby`](PostgresServer::standby): it waits for that, and for no disk.
    pub fn start_primary() -> Self {
        Self::with(&IN_STEP, None)
    }

    /// A server as [`PostgresServer::start`] gives it, that offers TLS and shows this pair.
    pub fn start_with_tls(pair: &Pair) -> Self {
        Self::with(&CARELESS, Some(pair))
    }

    fn with(settings: &[&str], pair: Option<&Pair>) -> Self {
        let (folder, port) = (folder("postgres"), free_port());
        let path = folder.path().to_owned();
        let mut settings: Vec<String> = settings.iter().chain(&ALL).map(|&setting| setting.to_owned()).collect();
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
                kept(&initdb, folder, port, settings("-c"))
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

    /// Makes a standby of it that listens on this port, or on any, and waits until it is in step. From then on this server answers no COMMIT that the
    /// standby does not have. `None`: servers are containers on this machine.
    pub async fn standby(&self, port: Option<u16>) -> Option<Self> {
        let Found::Program(initdb) = INITDB.find() else { return None };
        let (folder, port) = (folder("postgres"), port.unwrap_or_else(free_port));
        let path = folder.path().to_owned();
        // Where it really is, so are its neighbours.
        let initdb = initdb.canonicalize().expect("initdb");
        let copied = command(initdb.with_file_name("pg_basebackup"))
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .args(["--host=127.0.0.1", "--username=allocation", &format!("--port={}", self.port), "--pgdata"])
            .arg(path.join("data"))
            .stdin(Stdio::null())
            .output()
            .expect("pg_basebackup");
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        let settings = IN_STEP.iter().chain(&ALL).flat_map(|&setting| ["-c".to_owned(), setting.to_owned()]);
        let mut keeper = kept(&initdb, folder, port, settings);
        keeper.begin();
        let admin = admin(self.port).await;
        for sql in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            admin.simple_query(sql).await.expect("a setting");
        }
        crate::eventually("a standby in step", async || {
            let in_step = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'";
            admin.query_opt(in_step, &[]).await.expect("a query")
        })
        .await;
        Some(Self { keeper, port, folder: path })
    }

    /// Makes a primary of a standby, and waits until it is one.
    pub async fn promote(&self) {
        let promoted = admin(self.port).await.query_one("SELECT pg_promote()", &[]).await.expect("a promotion");
        assert!(promoted.get::<_, bool>(0), "it is a primary");
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

/// Keeps a server whose data is in its folder.
fn kept(initdb: &Path, folder: TempDir, port: u16, settings: impl Iterator<Item = String>) -> Keeper {
    let mut postgres = Command::new(initdb.with_file_name("postgres"));
    postgres.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path());
    postgres.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(settings);
    Keeper::new(&postgres, folder, &Ways { end: END, kill: KILL.into(), ..Ways::of_program() })
}

/// The URL of an empty database on the server that all tests of this run share.
pub async fn postgres_url() -> String {
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    let started_for_us = std::env::var(RUNNING).ok().and_then(|port| port.parse().ok());
    let port = started_for_us.unwrap_or_else(|| SHARED.get_or_init(PostgresServer::start).port());
    empty_database(port).await
}

pub(super) async fn empty_database(port: u16) -> String {
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
