//! Brokers that are away, full, hung, or refuse what they are given.

use allocation_testing::brokers::Broker;
use allocation_testing::servers::SmtpCatcher;

use crate::world::{World, for_each_broker};

for_each_broker!(
    what_a_broker_refuses_it_gets_once_it_takes_it,
    what_a_consumer_did_not_acknowledge_comes_again;
    harmed:
    a_broker_that_was_taken_away_gets_everything_when_it_is_back,
    a_broker_that_was_killed_gets_everything_when_it_is_back,
    a_broker_that_is_full_gets_everything_once_it_has_room,
    a_broker_that_hangs_holds_up_no_other_sink,
);

async fn a_broker_that_was_taken_away_gets_everything_when_it_is_back(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    world.work(&program, 50).await;
    world.all_is_told(&program).await;
    world.broker.take_away();
    world.work(&program, 50).await;
    world.deliveries_fail(&program).await;
    world.broker.bring_back().await;
    world.work(&program, 50).await;
    world.all_is_told(&program).await;
}

async fn a_broker_that_was_killed_gets_everything_when_it_is_back(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    for _ in 0..2 {
        world.work(&program, 100).await;
        world.take().await;
        world.broker.kill();
        world.work(&program, 50).await;
        world.broker.bring_back().await;
    }
    world.all_is_told(&program).await;
}

async fn what_a_broker_refuses_it_gets_once_it_takes_it(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    world.work(&program, 50).await;
    world.all_is_told(&program).await;
    world.broker.refuse().await;
    let before = world.told().clone();
    world.work(&program, 50).await;
    world.deliveries_fail(&program).await;
    world.take().await;
    assert_eq!(*world.told(), before, "none was taken");
    world.broker.accept().await;
    world.all_is_told(&program).await;
}

async fn a_broker_that_is_full_gets_everything_once_it_has_room(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    world.work(&program, 50).await;
    world.all_is_told(&program).await;
    world.broker.fill().await;
    world.work(&program, 50).await;
    world.deliveries_fail(&program).await;
    world.broker.drain().await;
    world.all_is_told(&program).await;
}

async fn a_broker_that_hangs_holds_up_no_other_sink(broker: Box<dyn Broker>) {
    let mail = SmtpCatcher::start().await;
    let mut world = World::new(broker).with("SMTP_URL", &mail.url());
    let program = world.serve().await;
    world.work(&program, 10).await;
    world.all_is_told(&program).await;
    world.broker.pause();
    world.work(&program, 10).await;
    world.run_out(&program).await;
    allocation_testing::eventually("a mail", async || (mail.mails().len() == 1).then_some(())).await;
    allocation_testing::eventually("mail to have seen all, and the broker not", async || {
        let lag = world.metric(&program, "allocation_sink_lag_events").await;
        (lag.contains(&0.0) && lag.iter().any(|&events| events > 0.0)).then_some(())
    })
    .await;
    allocation_testing::eventually("its lag to grow old", async || {
        world.metric(&program, "allocation_sink_lag_seconds").await.iter().any(|&age| age > 1.0).then_some(())
    })
    .await;
    world.broker.resume();
    world.all_is_told(&program).await;
}

async fn what_a_consumer_did_not_acknowledge_comes_again(broker: Box<dyn Broker>) {
    let mut world = World::new(broker);
    let program = world.serve().await;
    world.work(&program, 50).await;
    world.all_is_told(&program).await;
    let before = world.told().clone();
    world.broker.redeliver().await;
    let again = allocation_testing::eventually("the page again", async || {
        let page = world.broker.next().await;
        (!page.is_empty()).then_some(page)
    })
    .await;
    let last: serde_json::Value = serde_json::from_str(again.last().unwrap()).unwrap();
    assert_eq!(last["sequence"], before[last["subject"].as_str().unwrap()], "up to the last event");
    world.work(&program, 10).await;
    world.all_is_told(&program).await;
}
