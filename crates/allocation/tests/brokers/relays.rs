//! Two copies of the program on one PostgreSQL.

use allocation_testing::brokers::Broker;

use crate::world::{World, for_each_broker};

for_each_broker!(
    of_two_copies_one_may_be_killed_in_the_middle,
    transactions_that_commit_in_another_order_than_they_began_are_all_told,
);

async fn of_two_copies_one_may_be_killed_in_the_middle(broker: Box<dyn Broker>) {
    let mut world = World::on_postgres(broker).await;
    // The first has the lease: it is the one that relays.
    let first = world.serve().await;
    world.work(&first, 100).await;
    world.all_is_told(&first).await;
    let second = world.serve().await;
    world.work(&second, 200).await;
    first.kill().await;
    world.work(&second, 100).await;
    world.all_is_told(&second).await;
}

/// A unit of work has its id before it commits, and a sink that goes by them misses those that commit late.
async fn transactions_that_commit_in_another_order_than_they_began_are_all_told(broker: Box<dyn Broker>) {
    let mut world = World::on_postgres(broker).await;
    let program = world.serve().await;
    world.work(&program, 1).await;
    world.all_is_told(&program).await;
    let held = world.hold_back("LAMP").await;
    let second = world.serve().await;
    let ids = world.ids_given().await;
    let waiting = world.buy(&second, "late", "LAMP");
    world.until_somebody_waits().await;
    assert_eq!(world.ids_given().await, ids + 1, "what commits late has its id already");
    world.buy(&program, "early", "BED").await.unwrap();
    while !world.told_of("BED", 3).await {}
    held.let_go().await;
    waiting.await.unwrap();
    world.all_is_told(&program).await;
}
