//! A broker that loses what it has acknowledged gets it again from the log.

use allocation_testing::brokers::{Broker, RedisStreams};
use allocation_testing::eventually;
use serde_json::Value;

use crate::world::{World, for_each_broker};

for_each_broker!(a_sink_that_is_not_configured_is_named; harmed: a_broker_that_forgets_gets_it_all_again_by_a_replay);

async fn a_broker_that_forgets_gets_it_all_again_by_a_replay(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    world.work(&program, 100).await;
    world.all_is_told(&program).await;
    let before = world.told().clone();
    assert_eq!(program.stop().await, Some(0));
    world.broker.forget().await;
    world.forget_what_was_told();

    let last: u64 = before.values().sum();
    let replayed =
        world.run(&["events", "replay", "--sink", world.sink(), "--from", "1", "--to", &last.to_string()]).await;
    let said = String::from_utf8_lossy(&replayed.stdout);
    assert!(replayed.status.success(), "{replayed:?}");
    assert_eq!(said, format!("published {last} events again\n"));
    let program = world.serve().await;
    world.all_is_told(&program).await;
    assert_eq!(*world.told(), before);
    world.work(&program, 10).await;
    world.all_is_told(&program).await;
}

/// Redis that syncs once a second has nothing of the last second on its disk when the machine fails. Here it stops writing at a moment of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_without_its_last_second_gets_that_again_by_a_replay() {
    let mut world = World::new(Box::new(RedisStreams::start().await));
    let program = world.serve().await;
    world.work(&program, 100).await;
    world.all_is_told(&program).await;
    let on_disk: u64 = world.told().values().sum();
    stop_writing(world.variable("REDIS_URL")).await;
    // Some of what will be lost the consumer has had by then, and some it has not.
    world.work(&program, 15).await;
    world.all_is_told(&program).await;
    world.work(&program, 15).await;
    let all: u64 = world.versions(&program).await.values().sum();
    let all = f64::from(u32::try_from(all).unwrap());
    eventually("Redis to have taken everything", async || {
        let delivered = world.metric(&program, "allocation_events_delivered_total").await;
        delivered.iter().all(|&events| events >= all).then_some(())
    })
    .await;
    world.broker.kill();
    world.broker.bring_back().await;

    // Nobody knows yet, and new events come behind a gap.
    world.work(&program, 10).await;
    let page = eventually("new events", async || {
        let page = world.broker.next().await;
        (!page.is_empty()).then_some(page)
    })
    .await;
    let first: Value = serde_json::from_str(&page[0]).unwrap();
    let last = world.told()[first["subject"].as_str().unwrap()];
    assert!(first["sequence"].as_u64().unwrap() > last + 1, "none is missing between {last} and {first}");
    let now: u64 = world.versions(&program).await.values().sum();
    // Nobody knows either which was the last that it has: some come again.
    let (from, to) = ((on_disk - 50).to_string(), now.to_string());
    let replayed = world.run(&["events", "replay", "--sink", "redis-stream", "--from", &from, "--to", &to]).await;
    assert!(replayed.status.success(), "{replayed:?}");
    world.all_is_told(&program).await;
}

/// Has a Redis keep nothing more on its disk.
async fn stop_writing(url: &str) {
    let client = ::redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let stop = ::redis::cmd("CONFIG").arg(&["SET", "appendonly", "no"]).to_owned();
    let () = stop.query_async(&mut connection).await.unwrap();
}

async fn a_sink_that_is_not_configured_is_named(broker: Box<dyn Broker>) {
    let world = World::new(broker);
    let refused = world.run(&["events", "replay", "--sink", "pigeon", "--from", "1", "--to", "1"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("pigeon") && said.contains(world.sink()), "{said}");
}
