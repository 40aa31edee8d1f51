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

/// The ids of events rise in the order in which transactions began, and a sink that goes by them misses those that commit late.
async fn transactions_that_commit_in_another_order_than_they_began_are_all_told(broker: Box<dyn Broker>) {
    let mut world = World::on_postgres(broker).await;
    let program = world.serve().await;
    world.work(&program, 1).await;
    world.all_is_told(&program).await;
    let held = world.hold_back("LAMP").await;
    // Asks for the lamps that are held back, and has already begun, when the other copy buys beds.
    let second = world.serve().await;
    let waiting = world.buy(&second, "late", "LAMP");
    world.until_somebody_waits().await;
    world.buy(&program, "early", "BED").await.unwrap();
    while !world.told_of("BED", 3).await {}
    held.commit().await;
    waiting.await.unwrap();
    world.all_is_told(&program).await;
}
