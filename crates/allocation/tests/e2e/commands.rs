//! The program's other commands, and how it starts, stops and complains.

use std::path::Path;

use allocation_testing::program::{Program, command};
use serde_json::json;

use crate::support::{On, PROGRAM, Store, client, on_both_stores};

on_both_stores!(
    it_migrates_when_told_and_waits_to_be_told_when_switched_off,
    it_stops_when_asked_and_goes_on_where_it_was,
);

async fn it_migrates_when_told_and_waits_to_be_told_when_switched_off(on: On) {
    let store = Store::new(on).await.with("MIGRATE", "off");
    let refused = store.run(&["serve"]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(!store.run(&["verify"]).await.status.success());
    assert!(store.run(&["migrate"]).await.status.success());
    assert!(store.run(&["migrate"]).await.status.success(), "again does no harm");
    store.serve().await.get("/readyz").await.expect(200);
    store.assert_balanced().await;
}

async fn it_stops_when_asked_and_goes_on_where_it_was(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 1)]).await.expect(201);
    assert_eq!(service.program.stop().await, Some(0));
    let service = store.serve().await;
    service.order("o1", &[("LAMP", 1)]).await.expect(200);
}

#[tokio::test]
async fn a_bad_value_stops_it_at_once_with_the_variables_name() {
    // Some are found out only once there is a store.
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("LISTEN", "nowhere"),
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "sqlite:/nowhere/at/all.db"),
        ("REDIS_URL", "http://x"),
        ("LOG", "a=b=c"),
        ("DB_HOST", "db"),
    ] {
        let mut serve = command(Path::new(PROGRAM), &[(name, value)], &["serve"]);
        let output = serve.current_dir(folder.path()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {said}");
        let named = if name == "DB_HOST" { "DB_PASSWORD" } else { name };
        assert!(said.contains(named), "{name}={value}: {said}");
    }
    let mails = [("SMTP_URL", "smtp://localhost:1"), ("NOTIFY_TO", "nobody")];
    let mut relay = command(Path::new(PROGRAM), &mails, &["relay"]);
    let output = relay.current_dir(folder.path()).output().await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("NOTIFY_TO"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let store = Store::new(On::Sqlite).await;
    let service = store.serve().await;
    let address = service.program.address().to_string();
    let other = Store::new(On::Sqlite).await.with("LISTEN", &address);
    let output = other.run(&["serve"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("LISTEN") && said.contains(&address), "{said}");
}

#[tokio::test]
async fn config_lists_every_variable_and_no_secret() {
    let given = [("DATABASE_URL", "postgres://u:hunter2@db/x"), ("LISTEN", "127.0.0.1:7000")];
    let output = command(Path::new(PROGRAM), &given, &["config"]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.contains("LISTEN=127.0.0.1:7000") && text.contains("DATABASE_URL=postgres://u:***@db/x"), "{text}");
    assert!(!text.contains("hunter2"));
    for name in ["REDIS_HOST", "SMTP_URL", "NOTIFY_TO", "API_HOST", "QUEUE_LENGTH", "DB_PASSWORD_FILE"] {
        assert!(text.contains(name), "{name}");
    }
}

#[tokio::test]
async fn with_nothing_set_it_serves_a_file_in_the_folder_it_is_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = command(Path::new(PROGRAM), &[("LISTEN", "127.0.0.1:0")], &["serve"]);
    let program = Program::spawn(serve.current_dir(folder.path())).await;
    let health = client().get(program.url("/readyz")).send().await.unwrap();
    assert_eq!(health.status().as_u16(), 200);
    assert!(folder.path().join("allocation.db").is_file());
    drop(program);
}

#[tokio::test]
async fn health_says_whether_a_service_is_ready() {
    let nobody = command(Path::new(PROGRAM), &[("API_HOST", "host.invalid")], &["health"]).output().await.unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("host.invalid:80 is not ready"));
}

#[tokio::test]
async fn what_only_looks_makes_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("there.db").display());
    for arguments in [&["verify"][..], &["repair"], &["events", "sinks"], &["dead-letters", "list"], &["keys", "list"]]
    {
        let told = command(Path::new(PROGRAM), &[("DATABASE_URL", &url)], arguments).output().await.unwrap();
        assert_eq!(told.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&told.stderr).contains("there is no database at"), "{told:?}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}
