//! A year in the life of a warehouse, on both stores. `make year` prints it.

use std::time::{Duration, Instant};

use allocation_testing::contracts::a_year_in_the_life_of_a_warehouse;
use allocation_testing::real_orders::real_orders;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "measures how long the tests take")]
async fn a_year_in_the_life_of_a_warehouse_goes_alike_on_both_stores_in_under_a_minute() {
    let Some((batches, orders)) = real_orders() else { return };
    let read = |file| std::fs::read_to_string(file).expect("a text");
    let (batches, orders) = (read(batches), read(orders));
    let started = Instant::now();
    let year = a_year_in_the_life_of_a_warehouse(super::sqlite::fixture().await, &batches, &orders).await;
    let took = started.elapsed();
    println!("{year}");
    let again = a_year_in_the_life_of_a_warehouse(super::postgres::fixture().await, &batches, &orders).await;
    println!(
        "replayed in {:.1} s on SQLite, {:.1} s on PostgreSQL",
        took.as_secs_f64(),
        started.elapsed().saturating_sub(took).as_secs_f64()
    );
    assert_eq!(year, again, "{again}");
    assert!(started.elapsed() < Duration::from_mins(2) && took < Duration::from_mins(1), "each in under a minute");
}
