//! How many events a second a broker takes from us, in pages as the relay has them.
//!
//! `cargo nextest run --release -p allocation-adapters --test brokers --run-ignored only --no-capture -j 1`

use allocation_adapters::nats::NatsPublisher;
use allocation_adapters::rabbitmq::{RabbitPublisher, Unrouted};
use allocation_adapters::redis::{RedisStream, StreamSettings};
use allocation_adapters::system::SystemClock;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::event_publisher::EventPublisher;
use allocation_testing::brokers::{Broker, Nats, Rabbit, RedisStreams};

use crate::events;

const PAGE: usize = 1_000;
const EVENTS: u64 = 100_000;

fn url(broker: &dyn Broker) -> String {
    broker.environment().remove(0).1
}

async fn measure(publisher: &dyn EventPublisher, least: u32) {
    let clock = SystemClock::new();
    let events = events(0..EVENTS, 1_000);
    publisher.publish(&events[..1]).await.expect("a broker that is there");
    let begun = clock.now();
    for page in events.chunks(PAGE) {
        publisher.publish(page).await.expect("a broker that is there");
    }
    let rate = f64::from(u32::try_from(EVENTS).unwrap()) / (clock.now() - begun).as_seconds_f64();
    println!("{}: {rate:.0} events/s", publisher.name());
    assert!(rate >= f64::from(least), "{}: {rate:.0} of {least} events/s", publisher.name());
}

#[tokio::test]
#[ignore = "a measurement"]
async fn redis_takes_twenty_thousand_events_a_second() {
    let broker = RedisStreams::start().await;
    let settings = StreamSettings { key: "allocation.events".into(), cap: 1_000_000 };
    measure(&RedisStream::new(&url(&broker), settings, Metrics::new()).unwrap(), 20_000).await;
}

#[tokio::test]
#[ignore = "a measurement"]
async fn nats_takes_ten_thousand_events_a_second() {
    let broker = Nats::start().await;
    measure(&NatsPublisher::new(&url(&broker), "allocation-events"), 10_000).await;
}

#[tokio::test]
#[ignore = "a measurement"]
async fn rabbitmq_takes_ten_thousand_events_a_second() {
    let broker = Rabbit::quorum().await;
    let publisher = RabbitPublisher::new(&url(&broker), "allocation.events", Unrouted::Wait, Metrics::new());
    measure(&publisher, 10_000).await;
}
