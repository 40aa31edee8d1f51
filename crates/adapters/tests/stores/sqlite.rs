//! SQLite.

use std::sync::Arc;

use allocation_adapters::sqlite::SqliteDatabase;
use allocation_domain::Sku;
use allocation_service_layer::ports::database::{Database, ProductRepository, RecordedEvent, Transaction};
use allocation_service_layer::ports::reader::Reader;
use allocation_service_layer::verify::verify;
use allocation_testing::clock::ManualClock;
use allocation_testing::contracts::Fixture;
use allocation_testing::shorthand::{allocate, change_quantity, create_batch};
use allocation_testing::{random_histories, store_contract};
use futures_util::future::join_all;
use rusqlite::Connection;
use tempfile::TempDir;

fn open(folder: &TempDir) -> SqliteDatabase {
    SqliteDatabase::open(folder.path().join("allocation.db"), Arc::new(ManualClock::new())).expect("a store")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

pub(crate) async fn fixture() -> Fixture<SqliteDatabase> {
    let (folder, clock) = (folder(), Arc::new(ManualClock::new()));
    let store = SqliteDatabase::open(folder.path().join("allocation.db"), clock.clone()).expect("a store");
    store.migrate().await.expect("migrations");
    Fixture { store, clock, keep: Some(folder) }
}

store_contract!(fixture);
random_histories!(fixture);

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_start_at_once_migrate_once() {
    let folder = folder();
    let copies: Vec<_> = (0..8).map(|_| open(&folder)).collect();
    for migrated in join_all(copies.iter().map(SqliteDatabase::migrate)).await {
        migrated.expect("a migration");
    }
    copies[0].ready().await.expect("a ready store");
}

#[tokio::test]
async fn a_store_is_not_ready_before_it_is_migrated() {
    let folder = folder();
    open(&folder).ready().await.expect_err("nothing is there");
}

/// Has a later release apply a migration that serves programs as old as this.
fn migrate_further(fixture: &Fixture<SqliteDatabase>, serves: i64) {
    let applied = "INSERT INTO schema_migrations (version, name, checksum, serves) VALUES (999, 'future', '', ";
    raw(fixture, &format!("{applied}{serves})"));
}

#[tokio::test]
async fn a_schema_that_is_newer_and_does_not_serve_the_program_is_refused() {
    let fixture = fixture().await;
    migrate_further(&fixture, 999);
    for refused in [fixture.store.migrate().await, fixture.store.ready().await] {
        let refused = refused.expect_err("newer");
        assert!(refused.to_string().contains("migration 999, newer than this program"), "{refused}");
    }
}

#[tokio::test]
async fn a_schema_that_is_newer_and_serves_the_program_is_ready() {
    let fixture = fixture().await;
    migrate_further(&fixture, 1);
    fixture.store.migrate().await.expect("nothing to do");
    fixture.store.ready().await.expect("a store that serves it");
}

#[tokio::test]
async fn a_migration_that_was_changed_afterwards_is_refused() {
    let fixture = fixture().await;
    raw(&fixture, "UPDATE schema_migrations SET checksum = 'other'");
    let refused = fixture.store.migrate().await.expect_err("changed");
    assert!(refused.to_string().contains("another form"), "{refused}");
}

fn connection(fixture: &Fixture<SqliteDatabase>) -> Connection {
    let folder = fixture.keep.as_ref().expect("the store's folder");
    Connection::open(folder.path().join("allocation.db")).expect("the file")
}

fn raw(fixture: &Fixture<SqliteDatabase>, sql: &str) {
    assert!(connection(fixture).execute(sql, ()).expect(sql) > 0, "{sql}");
}

#[tokio::test]
async fn the_schema_itself_refuses_to_sell_a_unit_twice() {
    let fixture = fixture().await;
    fixture.handle([create_batch("b", "A", 10, None), allocate("o", &[("A", 1)])]).await;
    for sql in [
        "UPDATE batches SET allocated = 11",
        "UPDATE batches SET quantity = -1",
        "UPDATE lines SET placed = 2",
        "UPDATE lines SET batch = NULL",
        "UPDATE products SET backordered = -1",
    ] {
        connection(&fixture).execute(sql, ()).expect_err(sql);
    }
}

#[tokio::test]
async fn a_check_of_the_books_says_where_they_differ() {
    for (sql, difference) in [
        ("UPDATE batches SET allocated = allocated - 1 WHERE reference = 'b'", "batch b"),
        ("DELETE FROM batches WHERE reference = 'b'", "batch b is told of by events and is not there"),
        ("UPDATE products SET backordered = 0", "0 units backordered, by its events 6"),
        ("UPDATE products SET version = version + 1", "its last event is"),
        ("UPDATE products SET out_of_stock_raised = NOT out_of_stock_raised", "out-of-stock-raised"),
        ("DELETE FROM products", "has rows but is no product"),
        ("DELETE FROM lines WHERE order_id = 'o1'", "told of by events and is not there"),
        ("UPDATE lines SET order_id = 'x' WHERE order_id = 'o1'", "is in no event"),
        ("UPDATE lines SET previous_order_id = NULL WHERE order_id = 'o2'", "chain"),
        ("UPDATE products SET newest_order_id = 'o1'", "chain"),
        ("UPDATE events SET previous = NULL WHERE sequence = 3", "the chain of its events is broken"),
        ("UPDATE products SET newest_event = 1", "the chain of its events is broken"),
        ("DELETE FROM events WHERE sequence = 2", "does not follow the one before it"),
        ("UPDATE events SET body = '{}' WHERE sequence = 2", "can't be read"),
    ] {
        let fixture = fixture().await;
        fixture
            .handle([
                create_batch("b", "A", 10, None),
                allocate("o1", &[("A", 4)]),
                allocate("o2", &[("A", 6)]),
                change_quantity("b", "A", 5),
            ])
            .await;
        fixture.assert_balanced().await;
        raw(&fixture, sql);
        let findings = verify(&fixture.store).await.expect("a check");
        assert!(findings.differences.iter().any(|found| found.contains(difference)), "{sql}: {findings:#?}");
    }
}

/// Appends an event to a product that is known to be at this version, as what was decided ahead is written; and leaves it at that, or takes it back.
async fn append(fixture: &Fixture<SqliteDatabase>, version: u64, commit: bool) {
    let sku = Sku::new("A").expect("a SKU");
    let event = RecordedEvent { sku: sku.clone(), sequence: version + 1, body: "{}".to_owned() };
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.lock(&[(&sku, version)]).await.expect("its version");
    tx.record(&[event]).await.expect("it is written");
    if commit {
        tx.commit().await.expect("a commit");
    }
}

/// After which event the product's fourth comes.
fn before_the_fourth(fixture: &Fixture<SqliteDatabase>) -> i64 {
    let sql = "SELECT previous FROM events WHERE sequence = 4";
    connection(fixture).query_row(sql, (), |row| row.get(0)).expect("the event")
}

#[tokio::test]
async fn what_is_known_of_chains_is_forgotten_once_another_process_has_written() {
    let fixture = fixture().await;
    fixture.handle([create_batch("b", "A", 10, None), allocate("o1", &[("A", 1)]), allocate("o2", &[("A", 1)])]).await;
    raw(&fixture, "UPDATE products SET newest_event = 2");
    append(&fixture, 3, true).await;
    assert_eq!(before_the_fourth(&fixture), 2);
}

#[tokio::test]
async fn what_was_taken_back_is_in_no_chain() {
    let fixture = fixture().await;
    fixture.handle([create_batch("b", "A", 10, None), allocate("o1", &[("A", 1)]), allocate("o2", &[("A", 1)])]).await;
    append(&fixture, 3, false).await;
    append(&fixture, 3, true).await;
    assert_eq!(before_the_fourth(&fixture), 3);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_by_name() {
    let Err(error) = SqliteDatabase::open("/nowhere/at/all.db", Arc::new(ManualClock::new())) else {
        panic!("nothing is there")
    };
    assert!(error.to_string().contains("/nowhere/at/all.db"), "{error}");
}
