//! Commands that come through brokers: each acts once and in order, whoever dies meanwhile.

use std::ops::RangeInclusive;

use allocation_service_layer::failpoints::Failpoint;
use allocation_testing::brokers::Broker;
use allocation_testing::eventually;
use allocation_testing::program::Program;
use serde_json::{Value, json};

use crate::world::{World, for_each_broker};

for_each_broker!(
    a_command_that_comes_again_acts_once,
    what_was_not_acknowledged_comes_to_the_next_life_and_acts_once,
    of_two_copies_one_consumes_and_when_it_dies_the_other_goes_on_in_order,
    what_cannot_be_used_is_kept_and_holds_up_nobody;
    harmed: a_broker_that_was_killed_is_consumed_from_again,
);

/// Says that a batch has so many units in all; one command after the other, so that each tells of itself and of its place.
fn declared(totals: RangeInclusive<u64>) -> Vec<String> {
    let message = |total: u64| {
        json!({"specversion": "1.0", "id": format!("d{total}"), "source": "/test", "type": "allocation.command.declare_batch.v1",
               "data": {"sku": "LAMP", "ref": "b", "qty": total}})
        .to_string()
    };
    totals.map(message).collect()
}

/// Sends them, again if the broker may not have them.
async fn send(world: &mut World, messages: &[String]) {
    eventually("the broker to take messages", async || world.broker.send(messages).await.then_some(())).await;
}

/// Waits until the batch has had so many totals, and fails the test when they were others or not in this order.
async fn are_done(world: &World, program: &Program, totals: RangeInclusive<u64>) {
    let wanted = totals.clone().count();
    let had = eventually("all of them", async || {
        let page: Value = serde_json::from_str(&world.get(program, "/v1/events?sku=LAMP&limit=1000").await).unwrap();
        let of_batch = |placed: &Value| {
            let data = &placed["event"]["data"];
            data["to"].as_u64().or(data["qty"].as_u64())
        };
        let had: Vec<u64> = page["events"].as_array().unwrap().iter().filter_map(of_batch).collect();
        (had.len() >= wanted).then_some(had)
    })
    .await;
    assert!(had.iter().copied().eq(totals), "{had:?}");
}

async fn a_command_that_comes_again_acts_once(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    send(&mut world, &declared(1..=20)).await;
    let program = world.serve().await;
    send(&mut world, &declared(1..=20)).await;
    send(&mut world, &declared(11..=40)).await;
    are_done(&world, &program, 1..=40).await;
}

async fn what_was_not_acknowledged_comes_to_the_next_life_and_acts_once(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    send(&mut world, &declared(1..=50)).await;
    world.serve_until_it_dies_at(Failpoint::PageDone).await;
    send(&mut world, &declared(51..=60)).await;
    let program = world.serve().await;
    are_done(&world, &program, 1..=60).await;
}

async fn a_broker_that_was_killed_is_consumed_from_again(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    for first in [1, 21] {
        send(&mut world, &declared(first..=first + 19)).await;
        world.broker.kill();
        world.broker.bring_back().await;
    }
    send(&mut world, &declared(41..=60)).await;
    are_done(&world, &program, 1..=60).await;
}

async fn of_two_copies_one_consumes_and_when_it_dies_the_other_goes_on_in_order(broker: Box<dyn Broker>) {
    let mut world = World::on_postgres(broker).await;
    let first = world.serve().await;
    send(&mut world, &declared(1..=50)).await;
    are_done(&world, &first, 1..=50).await;
    let second = world.serve().await;
    send(&mut world, &declared(51..=300)).await;
    first.kill().await;
    send(&mut world, &declared(301..=350)).await;
    are_done(&world, &second, 1..=350).await;
}

async fn what_cannot_be_used_is_kept_and_holds_up_nobody(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    let mut messages = declared(1..=10);
    messages.insert(5, "nonsense".into());
    send(&mut world, &messages).await;
    are_done(&world, &program, 1..=10).await;
    let said = eventually("the letter", async || {
        let said = String::from_utf8(world.run(&["dead-letters", "list"]).await.stdout).unwrap();
        (!said.starts_with("0 ")).then_some(said)
    })
    .await;
    assert!(said.contains("nonsense") && said.ends_with("1 dead letters\n"), "{said}");
}
