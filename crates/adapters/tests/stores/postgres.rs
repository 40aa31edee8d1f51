//! PostgreSQL.

use std::sync::Arc;

use allocation_adapters::postgres::{PostgresDatabase, PostgresOptions};
use allocation_domain::Command;
use allocation_domain::product::SupplyChange;
use allocation_service_layer::message_bus::MessageBus;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{Database, StoreError};
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::reader::Reader;
use allocation_service_layer::unit_of_work::{UnitOfWork, Wanted};
use allocation_service_layer::wire::parse_event;
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::contracts::Fixture;
use allocation_testing::eventually;
use allocation_testing::servers::postgres_url;
use allocation_testing::shorthand::{allocate, change_quantity, create_batch, deallocate, message, sku};
use allocation_testing::{random_histories, store_contract};
use futures_util::future::join_all;
use tokio_postgres::{Client, NoTls};

fn options(clock: Option<Arc<dyn Clock>>) -> PostgresOptions {
    PostgresOptions { connections: 6, clock, ..PostgresOptions::default() }
}

pub(crate) async fn fixture() -> Fixture<PostgresDatabase> {
    let clock = Arc::new(ManualClock::new());
    let store = PostgresDatabase::new(&postgres_url().await, options(Some(clock.clone()))).expect("a URL");
    store.migrate().await.expect("migrations");
    Fixture { store, clock, keep: None }
}

store_contract!(fixture);
random_histories!(fixture);

/// A store together with a connection past it.
async fn with_client() -> (Fixture<PostgresDatabase>, Client) {
    let (clock, url) = (Arc::new(ManualClock::new()), postgres_url().await);
    let store = PostgresDatabase::new(&url, options(Some(clock.clone()))).expect("a URL");
    store.migrate().await.expect("migrations");
    (Fixture { store, clock, keep: None }, connect(&url).await)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A store whose clock is the server's.
async fn migrated(url: &str) -> PostgresDatabase {
    let store = PostgresDatabase::new(url, options(None)).expect("a URL");
    store.migrate().await.expect("migrations");
    store
}

/// The same, and a bus over it.
async fn bus_on_the_servers_clock(url: &str) -> (PostgresDatabase, MessageBus<PostgresDatabase>) {
    let store = migrated(url).await;
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let bus = MessageBus::new(store.clone(), clock, Arc::new(CountingEntropy::default()), Metrics::new());
    (store, bus)
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_start_at_once_migrate_once() {
    let url = postgres_url().await;
    let copies: Vec<_> = (0..8).map(|_| PostgresDatabase::new(&url, options(None)).expect("a URL")).collect();
    copies[0].ready().await.expect_err("nothing is there yet");
    for migrated in join_all(copies.iter().map(PostgresDatabase::migrate)).await {
        migrated.expect("a migration");
    }
    copies[0].ready().await.expect("a ready store");
}

/// Has a later release apply a migration that serves programs as old as this.
async fn migrate_further(client: &Client, serves: i64) {
    let applied = "INSERT INTO schema_migrations (version, name, checksum, serves) VALUES (999, 'future', '', $1)";
    client.execute(applied, &[&serves]).await.expect("an insert");
}

#[tokio::test]
async fn a_schema_that_is_newer_and_does_not_serve_the_program_is_refused() {
    let (fixture, client) = with_client().await;
    migrate_further(&client, 999).await;
    for refused in [fixture.store.migrate().await, fixture.store.ready().await] {
        let refused = refused.expect_err("newer");
        assert!(refused.to_string().contains("migration 999, newer than this program"), "{refused}");
    }
}

#[tokio::test]
async fn a_schema_that_is_newer_and_serves_the_program_is_ready() {
    let (fixture, client) = with_client().await;
    migrate_further(&client, 2).await;
    fixture.store.migrate().await.expect("nothing to do");
    fixture.store.ready().await.expect("a store that serves it");
}

#[tokio::test]
async fn a_migration_lets_others_pass_while_it_can_not_have_a_table() {
    let url = postgres_url().await;
    let (store, client, watcher) = (migrated(&url).await, connect(&url).await, connect(&url).await);
    // The last one is to be applied again, and somebody has a table for longer than it waits.
    client.batch_execute("DELETE FROM schema_migrations WHERE version = 2").await.expect("a row less");
    client.batch_execute("BEGIN; LOCK TABLE batches IN SHARE UPDATE EXCLUSIVE MODE").await.expect("a lock");
    let migrating = tokio::spawn(async move { store.migrate().await });
    let waits = async || {
        let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        !watcher.query(waiting, &[]).await.expect("a query").is_empty()
    };
    eventually("it to wait", async || waits().await.then_some(())).await;
    eventually("it to let others pass", async || (!waits().await).then_some(())).await;
    assert!(!migrating.is_finished());
    client.batch_execute("COMMIT").await.expect("the lock is let go");
    migrating.await.expect("no panic").expect("the migration is applied");
    migrated(&url).await.ready().await.expect("a ready store");
}

#[tokio::test]
async fn the_schema_itself_refuses_to_sell_a_unit_twice() {
    let (fixture, client) = with_client().await;
    fixture.handle([create_batch("b", "A", 10, None), allocate("o", &[("A", 1)])]).await;
    for sql in [
        "UPDATE batches SET allocated = 11",
        "UPDATE batches SET quantity = -1",
        "UPDATE lines SET placed = 2",
        "UPDATE lines SET batch = NULL",
        "UPDATE products SET backordered = -1",
        "INSERT INTO lines (sku, accepted, order_id, line, requested, placed, backordered)
         SELECT sku, 99, order_id, line, 1, 0, 1 FROM lines",
    ] {
        client.execute(sql, &[]).await.expect_err(sql);
    }
}

/// A unit of work that has done everything but commit.
async fn open(
    fixture: &Fixture<PostgresDatabase>,
    command: &Command,
) -> UnitOfWork<<PostgresDatabase as Database>::Tx> {
    let tx = fixture.store.begin().await.expect("a transaction");
    let mut uow = UnitOfWork::new(tx, Arc::new(CountingEntropy::default()), Arc::default());
    uow.load(Wanted::of([command])).await.expect("a load");
    let Command::ChangeBatchQuantity(change) = command else { unreachable!() };
    let product = uow.product_mut(&change.sku).expect("the product");
    product.change_supply(&change.reference, &SupplyChange::Quantity(change.qty), &[]).expect("a change");
    uow.gather();
    // Has pending changes written: the serial ids are taken now.
    uow.losers(&change.sku, &change.reference, None, 1).await.expect("a query");
    uow
}

#[tokio::test]
async fn what_commits_late_with_an_early_id_is_missed_by_no_reader() {
    let fixture = fixture().await;
    fixture.handle([create_batch("b", "A", 1, None), create_batch("b", "B", 1, None)]).await;
    let early = open(&fixture, &change_quantity("b", "A", 2)).await;
    let late = open(&fixture, &change_quantity("b", "B", 2)).await;

    late.commit().await.expect("a commit");
    let seen = fixture.events().await;
    assert_eq!(seen.last().map(|(sku, sequence, _)| (sku.as_str(), *sequence)), Some(("B", 2)));
    let position = fixture.store.last_position().await.expect("a position");

    early.commit().await.expect("a commit");
    fixture.events().await;
    let page = EventLog::read(&fixture.store, position, 10).await.expect("a page");
    assert_eq!(page.events.len(), 1, "the reader goes on from where it was and finds it");
    assert_eq!(parse_event(&page.events[0].body).expect("an event").sku, sku("A"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_number_at_once_give_no_position_twice() {
    let fixture = fixture().await;
    let skus: Vec<String> = (0..50).map(|n| format!("S{n}")).collect();
    fixture.handle(skus.iter().map(|of| create_batch("b", of, 1, None))).await;
    let numbering = (0..8).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move { while store.number(3).await.expect("numbers") > 0 {} })
    });
    for done in join_all(numbering).await {
        done.expect("no panic");
    }
    let page = EventLog::read(&fixture.store, 0, 1_000).await.expect("a page");
    assert!(page.events.iter().map(|event| event.position).eq(1..=50));
}

#[tokio::test]
async fn a_feed_whose_beginning_was_removed_says_so() {
    let (fixture, client) = with_client().await;
    fixture.handle((0..5).map(|n| create_batch("b", &format!("S{n}"), 1, None))).await;
    fixture.events().await;
    client.execute("DELETE FROM feed WHERE last_position <= 3", &[]).await.expect("a delete");
    assert_eq!(EventLog::read(&fixture.store, 0, 10).await.expect("a page").kept_after, 3);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_holds_no_lock_and_no_connection() {
    let (fixture, client) = with_client().await;
    fixture.handle([create_batch("b", "A", 1, None)]).await;
    for units in 2..20 {
        drop(open(&fixture, &change_quantity("b", "A", units)).await);
    }
    fixture.handle([change_quantity("b", "A", 30)]).await;
    let stuck =
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    eventually("no transaction to be left open", async || {
        client.query(stuck, &[]).await.expect("a query").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_not_a_defect() {
    let nowhere = PostgresDatabase::new("postgres://allocation@127.0.0.1:1/none", options(None)).expect("a URL");
    let Err(error) = nowhere.begin().await else { panic!("nobody is there") };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_was_cut_is_replaced() {
    let (fixture, client) = with_client().await;
    fixture.handle([create_batch("b", "A", 10, None)]).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.query(cut, &[]).await.expect("a cut");
    let bus = fixture.bus();
    eventually("a new connection", async || bus.handle(message(allocate("o", &[("A", 1)]))).await.ok())
        .await
        .expect("a promise");
}

/// That all events of the store are of these minutes.
async fn check_that_events_are_of_now(store: &PostgresDatabase, client: &Client) {
    while store.number(10).await.expect("numbers") > 0 {}
    let row = client.query_one("SELECT clock_timestamp()", &[]).await.expect("a query");
    let now: time::OffsetDateTime = row.get(0);
    for event in EventLog::read(store, 0, 10).await.expect("a page").events {
        let at = parse_event(&event.body).expect("an event").time;
        assert!((now - at).abs() < time::Duration::minutes(5), "{at} is not about {now}");
    }
}

#[tokio::test]
async fn now_is_the_databases_unless_a_test_says_otherwise() {
    let url = postgres_url().await;
    let (store, bus) = bus_on_the_servers_clock(&url).await;
    bus.handle(message(create_batch("b", "A", 1, None))).await.expect("the store works").expect("a batch");
    check_that_events_are_of_now(&store, &connect(&url).await).await;
}

/// A unit of work that loads no product is not told the time.
#[tokio::test]
async fn what_is_promised_from_memory_after_a_command_without_a_product_is_of_now() {
    let url = postgres_url().await;
    let (store, bus) = bus_on_the_servers_clock(&url).await;
    bus.handle(message(create_batch("b", "A", 1, None))).await.expect("the store works").expect("a batch");
    bus.handle(message(deallocate("nobody's", None))).await.expect("the store works").expect_err("an unknown order");
    bus.handle(message(allocate("o", &[("A", 1)]))).await.expect("the store works").expect("a promise");
    check_that_events_are_of_now(&store, &connect(&url).await).await;
}

/// By another index every lookup would read all lines of the product, or the batches of all products.
#[tokio::test]
async fn lines_and_batches_are_looked_up_by_their_keys_however_few_there_were_when_that_was_planned() {
    const NEW: usize = 20;
    const PRODUCTS: usize = 200;
    let (url, orders) = (postgres_url().await, |from: usize| (from..from + NEW).map(|n| format!("o-{n}")));
    let asked = |orders: &[String]| orders.iter().map(|id| message(allocate(id, &[("A", 1)]))).collect::<Vec<_>>();
    let (_, first) = bus_on_the_servers_clock(&url).await;
    for product in std::iter::once("A".to_owned()).chain((1..PRODUCTS).map(|n| format!("A{n}"))) {
        first
            .handle(message(create_batch("b", &product, 1_000, None)))
            .await
            .expect("the store works")
            .expect("a batch");
    }
    // Each plans when there are more lines than the last one saw.
    let mut buses = Vec::new();
    for copy in 0..25 {
        let (_, bus) = bus_on_the_servers_clock(&url).await;
        for verdict in bus.handle_batch(&asked(&orders(copy * NEW).collect::<Vec<_>>())).await {
            verdict.expect("the store works").expect("a promise");
        }
        buses.push(bus);
    }
    let client = connect(&url).await;
    let counted = async |what: &str, of: &str| -> i64 {
        let sql = format!("SELECT sum({what})::bigint FROM pg_stat_user_indexes WHERE {of}");
        client.query_one(&sql, &[]).await.expect("a query").get(0)
    };
    let all = asked(&orders(0).collect::<Vec<_>>());
    let lookups = i64::try_from(buses.len() * all.len()).expect("few");
    for bus in &buses {
        bus.handle_batch(&all).await;
    }
    // A connection that ends tells what it has read, all at once.
    drop((first, buses));
    eventually("all lookups to have been by key", async || {
        (counted("idx_scan", "indexrelname = 'lines_by_order'").await >= 2 * lookups).then_some(())
    })
    .await;
    let others = counted("idx_tup_read", "relname = 'lines' AND indexrelname <> 'lines_by_order'").await;
    assert!(others < lookups, "{others} entries of other indexes were read");
    let batches = counted("idx_tup_read", "relname = 'batches'").await;
    // Each is read when it is made, and that of the one product by each copy a few times.
    assert!(batches < 5 * i64::try_from(PRODUCTS).expect("few"), "{batches} batches were read");
}

#[tokio::test]
async fn more_products_than_one_locking_statement_may_name_are_locked_all_the_same() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let few = PostgresOptions { lock_skus: 3, ..options(Some(clock.clone())) };
    let store = PostgresDatabase::new(&postgres_url().await, few).expect("a URL");
    store.migrate().await.expect("migrations");
    let bus = MessageBus::new(store, clock, Arc::new(CountingEntropy::default()), Metrics::new());
    let skus: Vec<String> = (0..10).map(|n| format!("S{n}")).collect();
    let batches: Vec<_> = skus.iter().map(|of| message(create_batch("b", of, 1, None))).collect();
    bus.handle_batch(&batches).await;
    let lines: Vec<(&str, u64)> = skus.iter().map(|of| (of.as_str(), 1)).collect();
    bus.handle(message(allocate("o", &lines))).await.expect("the store works").expect("a promise");
}

/// The transaction ended with the COMMIT behind what was refused.
#[tokio::test]
async fn a_product_that_was_not_as_it_was_remembered_costs_no_connection() {
    let (fixture, client) = with_client().await;
    let (one, other) = (fixture.bus(), fixture.bus());
    let backends = async || -> Vec<i32> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'allocation'
                   AND datname = current_database() ORDER BY pid";
        client.query(sql, &[]).await.expect("a query").iter().map(|row| row.get(0)).collect()
    };
    one.handle(message(create_batch("b", "A", 10, None))).await.expect("the store works").expect("a batch");
    let before = backends().await;
    for n in 0..3 {
        for (name, bus) in [("one", &one), ("other", &other)] {
            let order = message(allocate(&format!("{name}-{n}"), &[("A", 1)]));
            bus.handle(order).await.expect("the store works").expect("a promise");
        }
    }
    assert_eq!(backends().await, before);
}
