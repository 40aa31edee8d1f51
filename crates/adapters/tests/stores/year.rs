//! A year in the life of a warehouse, on both stores. `make year` prints it.

use std::time::{Duration, Instant};

use allocation_testing::contracts::{Fixture, Store, Year, a_year_in_the_life_of_a_warehouse};
use allocation_testing::real_orders::real_orders;

/// The year month by month, and how long it took.
#[expect(clippy::disallowed_methods, reason = "measures how long the tests take")]
async fn year<S: Store>(fixture: Fixture<S>) -> Option<(Year, Duration)> {
    let (batches, orders) = real_orders()?;
    let read = |file| std::fs::read_to_string(file).expect("a text");
    let started = Instant::now();
    let year = a_year_in_the_life_of_a_warehouse(fixture, &read(batches), &read(orders)).await;
    Some((year, started.elapsed()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_in_the_life_of_a_warehouse_goes_alike_on_both_stores_in_under_a_minute() {
    // Side by side.
    let on_sqlite = tokio::spawn(year(super::sqlite::fixture().await));
    let on_postgres = year(super::postgres::fixture().await).await;
    let on_sqlite = on_sqlite.await.expect("no panic");
    let (Some((year, on_sqlite)), Some((again, on_postgres))) = (on_sqlite, on_postgres) else { return };
    println!("{year}");
    println!(
        "replayed in {:.1} s on SQLite, {:.1} s on PostgreSQL",
        on_sqlite.as_secs_f64(),
        on_postgres.as_secs_f64()
    );
    assert_eq!(year, again, "{again}");
    assert!(on_sqlite.max(on_postgres) < Duration::from_mins(1), "each in under a minute");
}
