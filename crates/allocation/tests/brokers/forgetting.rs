//! A broker that loses what it has acknowledged gets it again from the log.

use allocation_testing::brokers::Broker;

use crate::world::{World, for_each_broker};

for_each_broker!(a_broker_that_forgets_gets_it_all_again_by_a_replay, a_sink_that_is_not_configured_is_named);

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

async fn a_sink_that_is_not_configured_is_named(broker: Box<dyn Broker>) {
    let world = World::new(broker);
    let refused = world.run(&["events", "replay", "--sink", "pigeon", "--from", "1", "--to", "1"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("pigeon") && said.contains(world.sink()), "{said}");
}
