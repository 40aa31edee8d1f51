//! Backups: taken while others write, whole, in nobody's place unless told so; and put back.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use allocation_testing::program::command;
use allocation_testing::servers::tool;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::books::{books, run};
use crate::support::{On, PROGRAM, Service, Store};

/// A folder for databases and their backups.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The store in the file of this name.
    fn store(&self, name: &str) -> Store {
        Store::at(format!("sqlite:{}", self.path(name).display()), tempfile::tempdir().unwrap())
    }

    /// All that is here.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs `backup` or `restore` on the store in the file `database`: exit status, and what it said.
    async fn run(&self, database: &str, what: &str, file: &str, more: &[&str]) -> (i32, String) {
        let file = self.path(file);
        run(&self.store(database), &[&[what, file.to_str().unwrap()], more].concat()).await
    }

    /// A store with a few promises, which a service that has ended left in the file of this name.
    async fn filled(&self, name: &str) -> Store {
        let store = self.store(name);
        let service = store.serve().await;
        service.batch("LAMP", "b", json!({"qty": 10})).await;
        service.ask("o1", 4, json!({})).await.expect(201);
        assert_eq!(service.program.stop().await, Some(0));
        store
    }
}

/// The orders that are in a database.
fn orders(path: &Path) -> BTreeSet<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT order_id FROM lines").unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Clients that ask for promises until they are told to stop, and what they were promised.
struct Clients {
    stop: Arc<AtomicBool>,
    promised: Arc<Mutex<BTreeSet<String>>>,
    tasks: JoinSet<()>,
}

impl Clients {
    fn begin(service: &Arc<Service>) -> Self {
        let mut clients = Self { stop: Arc::default(), promised: Arc::default(), tasks: JoinSet::new() };
        for client in 0..8 {
            let (service, stop, promised) = (service.clone(), clients.stop.clone(), clients.promised.clone());
            clients.tasks.spawn(async move {
                for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let order_id = format!("o{client}-{n}");
                    service.order(&order_id, &[("HOT", 1)]).await.expect(201);
                    promised.lock().unwrap().insert(order_id);
                }
            });
        }
        clients
    }

    fn promised(&self) -> BTreeSet<String> {
        self.promised.lock().unwrap().clone()
    }

    /// Waits until they have had so many more promises.
    async fn go_on(&self, more: usize) {
        let wanted = self.promised().len() + more;
        allocation_testing::eventually("promises", async || (self.promised().len() >= wanted).then_some(())).await;
    }

    async fn end(mut self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        self.promised()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_taken_under_load_is_whole_and_balanced() {
    const OLD: usize = 3_000;
    let place = Place::new();
    let store = place.store("live.db");
    let service = Arc::new(store.serve().await);
    service.batch("HOT", "b", json!({"qty": 1_000_000})).await;
    // Something to copy.
    let rows: String = (0..OLD).map(|n| format!("old-{n},HOT,1\n")).collect();
    let (status, _, complaints) = store.import(&["orders"], &format!("order_id,sku,qty\n{rows}")).await;
    assert_eq!(status, Some(0), "{complaints}");

    let clients = Clients::begin(&service);
    let mut backups = Vec::new();
    for n in 0..4 {
        clients.go_on(50).await;
        let (name, before) = (format!("backup-{n}"), clients.promised());
        let (status, said) = place.run("live.db", "backup", &name, &[]).await;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("the books balance"), "{said}");
        let after = clients.promised();
        assert!(after.len() > before.len(), "nothing was promised while the backup was taken");
        backups.push((name, before));
    }
    clients.go_on(50).await;
    let promised = clients.end().await;
    store.assert_balanced().await;

    for (name, before) in &backups {
        let restored = format!("{name}-restored.db");
        let (status, said) = place.run(&restored, "restore", name, &[]).await;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("the books balance"), "{said}");
        let there = orders(&place.path(&restored));
        assert!(before.is_subset(&there), "promised before the backup and not in it");
        let (old, new): (Vec<_>, Vec<_>) = there.into_iter().partition(|order| order.starts_with("old-"));
        assert_eq!(old.len(), OLD);
        assert!(new.len() < promised.len(), "it has what was promised after it");
    }

    // What was restored goes on from there.
    let restored = place.store("backup-0-restored.db");
    let service = restored.serve().await;
    service.order("next", &[("HOT", 7)]).await.expect(201);
    assert_eq!(service.fate("next").await, "allocated: b 7");
    restored.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_takes_nobodys_place_unless_told() {
    let place = Place::new();
    let store = place.filled("live.db").await;
    std::fs::write(place.path("backup"), "my diary").unwrap();
    let (status, said) = place.run("live.db", "backup", "backup", &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(std::fs::read_to_string(place.path("backup")).unwrap(), "my diary");

    assert_eq!(place.run("live.db", "backup", "backup", &["--force"]).await.0, 0);
    assert_eq!(orders(&place.path("backup")), BTreeSet::from(["o1".into()]));
    // A later one in the place of an earlier one.
    let service = store.serve().await;
    service.ask("o2", 1, json!({})).await.expect(201);
    assert_eq!(place.run("live.db", "backup", "backup", &["--force"]).await.0, 0);
    assert_eq!(orders(&place.path("backup")), BTreeSet::from(["o1".into(), "o2".into()]));

    // Never of the database itself, which others have open.
    let (status, said) = place.run("live.db", "backup", "live.db", &["--force"]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("the database itself"), "{said}");
    service.ask("o3", 1, json!({})).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_one_file_that_its_owner_alone_may_read() {
    let place = Place::new();
    drop(place.filled("live.db").await);
    assert_eq!(place.run("live.db", "backup", "backup", &[]).await.0, 0);
    assert_eq!(place.names(), ["backup", "live.db"]);
    assert_eq!(std::fs::metadata(place.path("backup")).unwrap().permissions().mode() & 0o777, 0o600);
    // It is there to be read from anywhere, also where nothing can be written beside it.
    let url = format!("file:{}?immutable=1", place.path("backup").display());
    let lines: i64 = Connection::open(url).unwrap().query_row("SELECT count(*) FROM lines", (), |r| r.get(0)).unwrap();
    assert_eq!(lines, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_what_is_not_there_makes_nothing() {
    let place = Place::new();
    let (status, said) = place.run("none.db", "backup", "backup", &[]).await;
    assert_eq!(status, 2, "{said}");
    drop(place.filled("live.db").await);
    let (status, said) = place.run("live.db", "backup", "no/such/folder/backup", &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("no/such/folder"), "{said}");
    let names = place.names();
    assert!(names.iter().all(|name| name.starts_with("live.db")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_takes_the_place_of_nothing_unless_told() {
    let place = Place::new();
    let store = place.filled("live.db").await;
    assert_eq!(place.run("live.db", "backup", "backup", &[]).await.0, 0);
    let service = store.serve().await;
    service.ask("o2", 1, json!({})).await.expect(201);

    let (status, said) = place.run("live.db", "restore", "backup", &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("is there already"), "{said}");
    // Not even then while a service has it open: it would go on with a file that has no name.
    let (status, said) = place.run("live.db", "restore", "backup", &["--force"]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("in use"), "{said}");
    service.ask("o3", 1, json!({})).await.expect(201);

    // A service that was killed leaves commits beside the file; they must not get into what takes its place.
    service.program.kill().await;
    let wal = place.path("live.db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0);
    let (status, said) = place.run("live.db", "restore", "backup", &["--force"]).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("restored") && said.contains("the books balance"), "{said}");
    assert_eq!(place.names(), ["backup", "live.db"]);
    assert_eq!(orders(&place.path("live.db")), BTreeSet::from(["o1".into()]));
    store.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_does_not_come_to_the_name_of_a_lost_database() {
    let place = Place::new();
    let store = place.filled("live.db").await;
    assert_eq!(place.run("live.db", "backup", "backup", &[]).await.0, 0);
    let service = store.serve().await;
    service.ask("o2", 1, json!({})).await.expect(201);
    service.program.kill().await;
    // Its last commits are still there, and whoever looks for them should have them.
    std::fs::remove_file(place.path("live.db")).unwrap();
    let (status, said) = place.run("live.db", "restore", "backup", &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("live.db-wal is there already"), "{said}");
    assert_eq!(place.run("live.db", "restore", "backup", &["--force"]).await.0, 0);
    assert_eq!(orders(&place.path("live.db")), BTreeSet::from(["o1".into()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_is_not_restored_and_a_damaged_database_can_be_replaced() {
    let place = Place::new();
    let store = place.store("live.db");
    let service = store.serve().await;
    service.batch("HOT", "b", json!({"qty": 1_000_000})).await;
    let rows: String = (0..300).map(|n| format!("o{n},HOT,1\n")).collect();
    assert_eq!(store.import(&["orders"], &format!("order_id,sku,qty\n{rows}")).await.0, Some(0));
    service.program.stop().await;
    assert_eq!(place.run("live.db", "backup", "backup", &[]).await.0, 0);

    let whole = std::fs::read(place.path("backup")).unwrap();
    let mut holed = whole.clone();
    let middle = whole.len() / 8192 * 4096;
    holed[middle..middle + 4096].fill(0);
    let other = place.path("other");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE diary (day TEXT)").unwrap();
    let bad = [
        ("a hole", holed.clone()),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("a text", b"my diary, which is no database at all".repeat(100)),
        ("empty", Vec::new()),
        ("another database", std::fs::read(&other).unwrap()),
    ];
    for (what, bytes) in bad {
        std::fs::write(place.path("bad"), bytes).unwrap();
        let (status, said) = place.run("new.db", "restore", "bad", &[]).await;
        assert_eq!(status, 2, "{what}: {said}");
        let (status, said) = place.run("live.db", "restore", "bad", &["--force"]).await;
        assert_eq!(status, 2, "{what}: {said}");
        assert_eq!(orders(&place.path("live.db")).len(), 300, "{what}");
    }
    assert!(!place.path("new.db").exists());

    std::fs::write(place.path("live.db"), &holed).unwrap();
    let (status, said) = place.run("live.db", "backup", "later", &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(!place.path("later").exists(), "a backup of what is damaged");
    for damaged in [&holed[..], b"no database"] {
        std::fs::write(place.path("live.db"), damaged).unwrap();
        assert_eq!(place.run("live.db", "restore", "backup", &["--force"]).await.0, 0);
        store.assert_balanced().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_that_differ_are_kept_and_told() {
    let (store, service) = books(On::Sqlite).await;
    service.program.stop().await;
    let place = Place::new();
    let backup = place.path("backup");
    let file = store.environment()[0].1.trim_start_matches("sqlite:").to_owned();
    let damage = "UPDATE batches SET quantity = quantity + 5 WHERE sku = 'LAMP' AND reference = 'b'";
    Connection::open(file).unwrap().execute_batch(damage).unwrap();
    let (status, said) = run(&store, &["backup", backup.to_str().unwrap()]).await;
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("batch b") && said.contains("backed up"), "{said}");
    let (status, said) = place.run("new.db", "restore", "backup", &[]).await;
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("batch b") && said.contains("restored"), "{said}");
    let restored = place.store("new.db");
    assert_eq!(run(&restored, &["repair", "--apply"]).await.0, 0);
    restored.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_gets_its_name_when_it_is_on_disk() {
    let Some(strace) = tool("strace", "strace") else {
        println!("skipped: needs strace");
        return;
    };
    let place = Place::new();
    let store = place.filled("live.db").await;
    for (name, how) in [("backup", &[][..]), ("backup", &["--force"])] {
        let trace = place.path("trace");
        let mut traced = command(&strace, &store.environment(), &["-f", "-qq", "-y", "-o"]);
        traced.arg(&trace).args(["-e", "trace=fsync,fdatasync,pwrite64,write,rename,renameat,renameat2,link,linkat"]);
        traced.args([PROGRAM, "backup"]).arg(place.path(name)).args(how).stdout(Stdio::null());
        assert!(traced.status().await.unwrap().success());
        let text = std::fs::read_to_string(&trace).unwrap();
        let calls: Vec<&str> = text.lines().collect();
        let target = format!("{}\"", place.path(name).display());
        let named = calls.iter().rposition(|call| call.contains(&target)).unwrap_or_else(|| panic!("{text}"));
        let of_copy = |call: &&str| call.contains("copy.db>");
        let written = calls.iter().rposition(|call| call.contains("write") && of_copy(call)).unwrap();
        let synced = calls.iter().rposition(|call| call.contains("sync(") && of_copy(call)).unwrap();
        assert!(written < synced && synced < named, "{text}");
        let folder = format!("<{}>", place.0.path().display());
        assert!(calls[named..].iter().any(|call| call.contains("sync(") && call.contains(&folder)), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_it_is_said_what_to_do_instead() {
    let store = Store::new(On::Postgres).await;
    let place = Place::new();
    let file = place.path("backup");
    for (command, instead) in [("backup", "pg_dump"), ("restore", "pg_restore")] {
        let (status, said) = run(&store, &[command, file.to_str().unwrap()]).await;
        assert_eq!(status, 2, "{said}");
        assert!(said.contains(instead) && said.contains("allocation verify"), "{said}");
    }
    assert_eq!(place.names(), [] as [&str; 0]);
}
