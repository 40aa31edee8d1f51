//! The relay against fakes: what goes to brokers and by mail, and who sends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use allocation_domain::Command;
use allocation_service_layer::handlers::Verdict;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::event_log::{EventLog, FeedEvent};
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::relay::{Relay, Sink};
use allocation_testing::clock::ManualClock;
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::{FakeDatabase, FakeNotifications, FakePublisher};
use allocation_testing::shorthand::{allocate, create_batch, declare_batch, message};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// A fixture on which these commands were handled.
async fn after(commands: impl IntoIterator<Item = Command>) -> Fixture<FakeDatabase> {
    let clock = Arc::new(ManualClock::new());
    let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock, keep: None };
    for verdict in fixture.handle(commands).await {
        verdict.expect("part of the set-up");
    }
    fixture
}

/// Handles one command.
async fn one(fixture: &Fixture<FakeDatabase>, command: Command) -> Verdict {
    fixture.handle([command]).await.remove(0)
}

fn relay(fixture: &Fixture<FakeDatabase>, holder: &str, sinks: Vec<Sink>) -> Relay {
    let log = Arc::new(fixture.store.clone());
    Relay::new(log, fixture.clock.clone(), Metrics::new(), sinks, holder.into())
}

#[tokio::test]
async fn a_broker_that_is_down_delays_events_and_loses_none() {
    let fixture = after([create_batch("b", "TABLE", 10, None), allocate("o1", &[("TABLE", 1)])]).await;
    let broker = Arc::new(FakePublisher::default());
    broker.fail(2);
    let sink = Sink::Publisher(broker.clone());
    let relay = relay(&fixture, "a", vec![sink.clone()]);
    relay.step(&sink).await.unwrap_err();
    relay.step(&sink).await.unwrap_err();
    assert_eq!(relay.step(&sink).await.unwrap(), 2);
    assert_eq!(relay.step(&sink).await.unwrap(), 0);
    fixture.handle([allocate("o2", &[("TABLE", 1)])]).await;
    assert_eq!(relay.step(&sink).await.unwrap(), 1);
    let positions: Vec<u64> = broker.published().iter().map(|event| event.position).collect();
    assert_eq!(positions, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_running_relay_delivers_what_it_is_told_of_and_stops_when_told() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let broker = Arc::new(FakePublisher::default());
    broker.fail(3);
    let relay = relay(&fixture, "a", vec![Sink::Publisher(broker.clone())]);
    let (bus, stop) = (fixture.bus(), CancellationToken::new());
    let (committed, token) = (bus.committed(), stop.clone());
    let running = tokio::spawn(async move { relay.run(committed, token).await });
    bus.handle(message(allocate("o1", &[("TABLE", 1)]))).await.unwrap().unwrap();
    allocation_testing::eventually("both events", async || (broker.published().len() == 2).then_some(())).await;
    stop.cancel();
    running.await.unwrap();
    assert!(fixture.store.lease("relay", "b", Duration::from_secs(1)).await.unwrap(), "the lease is given back");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_told_to_stop_ends_the_page_that_is_on_its_way() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let broker = Arc::new(FakePublisher::default());
    broker.hang(true);
    let relay = relay(&fixture, "a", vec![Sink::Publisher(broker.clone())]);
    let (bus, stop) = (fixture.bus(), CancellationToken::new());
    let (committed, token) = (bus.committed(), stop.clone());
    let running = tokio::spawn(async move { relay.run(committed, token).await });
    allocation_testing::eventually("a page on its way", async || broker.is_asked().then_some(())).await;
    stop.cancel();
    tokio::task::yield_now().await;
    broker.hang(false);
    running.await.unwrap();
    assert_eq!(broker.published().len(), 1);
    assert_eq!(fixture.store.progress("fake").await.unwrap(), 1, "it is noted, so that nobody is told again");
}

#[tokio::test(start_paused = true)]
async fn of_two_relays_one_works_and_the_other_takes_over_when_it_is_gone() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let brokers = [Arc::new(FakePublisher::default()), Arc::new(FakePublisher::default())];
    let stops = [CancellationToken::new(), CancellationToken::new()];
    let bus = fixture.bus();
    let mut running = Vec::new();
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        let relay = relay(&fixture, name, vec![Sink::Publisher(brokers[n].clone())]);
        let (committed, stop) = (bus.committed(), stops[n].clone());
        running.push(tokio::spawn(async move { relay.run(committed, stop).await }));
        if n == 0 {
            let first = &brokers[0];
            allocation_testing::eventually("the first", async || (!first.published().is_empty()).then_some(())).await;
        }
    }
    bus.handle(message(allocate("o1", &[("TABLE", 1)]))).await.unwrap().unwrap();
    allocation_testing::eventually("the first again", async || (brokers[0].published().len() == 2).then_some(())).await;
    assert!(brokers[1].published().is_empty());
    stops[0].cancel();
    bus.handle(message(allocate("o2", &[("TABLE", 1)]))).await.unwrap().unwrap();
    allocation_testing::eventually("the second", async || (!brokers[1].published().is_empty()).then_some(())).await;
    assert_eq!(brokers[1].published()[0].position, 3, "it goes on where the first had got to");
    stops[1].cancel();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_answers_delays_itself_only_and_is_let_go_with_the_lease() {
    let fixture = after([create_batch("b", "TABLE", 1, None)]).await;
    one(&fixture, allocate("big", &[("TABLE", 2)])).await.unwrap_err();
    let (broker, mail) = (Arc::new(FakePublisher::default()), Arc::new(FakeNotifications::default()));
    broker.hang(true);
    let relay = relay(&fixture, "a", vec![Sink::Publisher(broker.clone()), Sink::Mail(mail.clone())]);
    let (bus, stop) = (fixture.bus(), CancellationToken::new());
    let (committed, token) = (bus.committed(), stop.clone());
    let running = tokio::spawn(async move { relay.run(committed, token).await });
    allocation_testing::eventually("a mail", async || (mail.sent().len() == 1).then_some(())).await;

    // Another takes the lease, which the first had lost: it leaves the broker alone.
    fixture.clock.advance(Duration::from_mins(1));
    assert!(fixture.store.lease("relay", "b", Duration::from_mins(1)).await.unwrap());
    tokio::time::sleep(Duration::from_secs(10)).await;
    broker.hang(false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(broker.published().is_empty());
    fixture.store.release("relay", "b").await.unwrap();
    allocation_testing::eventually("the lease again", async || (broker.published().len() == 2).then_some(())).await;
    stop.cancel();
    running.await.unwrap();
}

/// A client of a broker with a defect.
#[derive(Default)]
struct Defective {
    panicked: AtomicBool,
    behind_it: FakePublisher,
}

#[async_trait]
impl EventPublisher for Defective {
    fn name(&self) -> &'static str {
        self.behind_it.name()
    }

    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError> {
        assert!(self.panicked.swap(true, Ordering::SeqCst), "a defect that shows once");
        self.behind_it.publish(events).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_is_fed_again() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let broker = Arc::new(Defective::default());
    let relay = relay(&fixture, "a", vec![Sink::Publisher(broker.clone())]);
    let (bus, stop) = (fixture.bus(), CancellationToken::new());
    let running = tokio::spawn({
        let (committed, stop) = (bus.committed(), stop.clone());
        async move { relay.run(committed, stop).await }
    });
    allocation_testing::eventually("the event", async || (broker.behind_it.published().len() == 1).then_some(())).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_sink_tells_how_old_is_what_it_has_not_seen() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let broker = Arc::new(FakePublisher::default());
    let sink = Sink::Publisher(broker.clone());
    let (log, metrics) = (Arc::new(fixture.store.clone()), Metrics::new());
    let relay = Relay::new(log, fixture.clock.clone(), metrics.clone(), vec![sink.clone()], "a".into());
    let age = || {
        let said = metrics.encode();
        let line = said.lines().find(|line| line.starts_with("allocation_sink_lag_seconds{")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    fixture.clock.advance(Duration::from_secs(90));
    broker.fail(1);
    relay.step(&sink).await.unwrap_err();
    assert!((age() - 90.0).abs() < 0.001, "{}", age());
    relay.step(&sink).await.unwrap();
    relay.step(&sink).await.unwrap();
    assert!(age() < 0.001, "{}", age());
}

#[tokio::test]
async fn out_of_stock_is_mailed_at_most_once_an_hour_for_each_product() {
    let fixture = after([create_batch("b", "TABLE", 1, None), create_batch("b", "CHAIR", 1, None)]).await;
    let mail = Arc::new(FakeNotifications::default());
    let sink = Sink::Mail(mail.clone());
    let relay = relay(&fixture, "a", vec![sink.clone()]);
    let run_out = async |name: &str| {
        one(&fixture, allocate(&format!("big-{name}"), &[(name, 100)])).await.unwrap_err();
        // Stock comes back and runs out again.
        one(&fixture, declare_batch("extra", name, 1, None)).await.unwrap();
        one(&fixture, declare_batch("extra", name, 0, None)).await.unwrap();
    };
    run_out("TABLE").await;
    run_out("TABLE").await;
    run_out("CHAIR").await;
    mail.fail(1);
    relay.step(&sink).await.unwrap_err();
    while relay.step(&sink).await.unwrap() > 0 {}
    assert_eq!(mail.sent(), ["Out of stock for SKU TABLE", "Out of stock for SKU CHAIR"]);
    fixture.clock.advance(Duration::from_mins(59));
    run_out("TABLE").await;
    while relay.step(&sink).await.unwrap() > 0 {}
    assert_eq!(mail.sent().len(), 2);
    fixture.clock.advance(Duration::from_mins(1));
    run_out("TABLE").await;
    while relay.step(&sink).await.unwrap() > 0 {}
    assert_eq!(mail.sent().len(), 3);
}
