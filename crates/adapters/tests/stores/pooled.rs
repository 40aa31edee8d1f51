//! PostgreSQL without anything that outlasts a transaction: behind a pooler of transactions, where this machine has one.

use std::sync::Arc;

use allocation_adapters::postgres::{PostgresDatabase, PostgresOptions, Statements};
use allocation_testing::clock::ManualClock;
use allocation_testing::contracts::Fixture;
use allocation_testing::servers::{PgBouncer, postgres_url};
use allocation_testing::store_contract;
use tokio::sync::OnceCell;

/// As many sessions as a store has connections: more than one transaction is open at a time in some contracts.
const SESSIONS: usize = 6;

pub(crate) async fn fixture() -> Fixture<PostgresDatabase> {
    static POOLER: OnceCell<Option<PgBouncer>> = OnceCell::const_new();
    let direct = postgres_url().await;
    let pooler = POOLER.get_or_init(|| PgBouncer::start(&direct, SESSIONS)).await;
    let url = match pooler {
        Some(pooler) => pooler.before(&direct),
        None => direct,
    };
    let clock = Arc::new(ManualClock::new());
    let options = PostgresOptions {
        connections: SESSIONS,
        statements: Statements::Unnamed,
        clock: Some(clock.clone()),
        ..PostgresOptions::default()
    };
    let store = PostgresDatabase::new(&url, options).expect("a URL");
    store.migrate().await.expect("migrations");
    Fixture { store, clock, keep: None }
}

store_contract!(fixture);
