//! Both ways through a broker: events out of the log, and allocations that come as messages.

use std::net::SocketAddr;
use std::time::Duration;

use allocation_testing::brokers::{Broker, Nats, Rabbit, RedisStreams};
use allocation_testing::program::Program;

use crate::Outcome;
use crate::controls::bare;
use crate::harness::Bench;
use crate::http;
use crate::load::open_loop::{self, Arrivals};
use crate::load::{PRODUCTS, sku};
use crate::report::real;
use crate::store::On;

/// Events in the log, and messages, of one measurement.
const MANY: u64 = 100_000;

/// Events a second while the way to the broker is timed.
const GENTLE: u64 = 1_000;

/// The brokers, what they are called among the sinks, and the events a second that each should be given at least.
pub(crate) const BROKERS: [(&str, &str, f64); 3] =
    [("Redis stream", "redis-stream", 20_000.0), ("NATS", "nats", 10_000.0), ("RabbitMQ", "rabbitmq", 10_000.0)];

/// The name of the figure of events that go to a broker.
pub(crate) fn relayed(on: On, broker: &str) -> String {
    format!("{}, relay to {broker}", on.name())
}

/// The name of the figure of how long that takes.
pub(crate) fn delay(on: On, broker: &str) -> String {
    format!("{}, from change to {broker} at 1,000 events/s, p99", on.name())
}

/// The name of the figure of allocations that come from a broker.
pub(crate) fn consumed(on: On, broker: &str) -> String {
    format!("{}, allocations from {broker}", on.name())
}

/// The name of its control's figure.
pub(crate) fn control(on: On, broker: &str) -> String {
    format!("beside {broker}: {}", bare::figure(on))
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    let rounds = bench.options.few_rounds();
    for round in 1..=rounds {
        for (name, sink, _) in BROKERS {
            for on in On::BOTH {
                bench.progress(&format!("brokers, round {round} of {rounds}: {name}, {}", on.name()));
                // A broker of its own for each measurement: what one leaves behind is no load on the next.
                relay(bench, on, name, sink).await?;
                consume(bench, on, name).await?;
            }
        }
    }
    Ok(())
}

async fn start(name: &str) -> Box<dyn Broker> {
    match name {
        "NATS" => Box::new(Nats::start().await),
        "RabbitMQ" => Box::new(Rabbit::quorum().await),
        _ => Box::new(RedisStreams::start().await),
    }
}

async fn serve(bench: &Bench, store: &crate::store::Store, broker: &dyn Broker) -> Program {
    let environment = broker.environment();
    let settings: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    store.serve_with(bench, &settings).await
}

/// A log full of events, and then new ones at a gentle pace.
async fn relay(bench: &mut Bench, on: On, name: &str, sink: &str) -> Outcome<()> {
    let broker = start(name).await;
    let mut store = bench.store(on).await?;
    bare::fill(&mut store, MANY / 2, MANY / 2 / (PRODUCTS - 1)).await?;
    let events = store.promised + PRODUCTS;
    let program = serve(bench, &store, broker.as_ref()).await;
    let delivered = format!("allocation_events_delivered_total{{sink=\"{sink}\"}}");
    let ((), seconds) = bench.timed(until(program.address(), &delivered, events)).await?;
    bench.figures.add(&relayed(on, name), "events/s", real(events) / seconds);

    let before = delivered_within(program.address(), sink).await?;
    let arrivals = Arrivals {
        rate: GENTLE,
        seconds: bench.options.seconds + 1,
        connections: 64,
        prefix: bench.prefix(),
        products: (1, PRODUCTS),
    };
    let seen = open_loop::finish(open_loop::start(program.address(), &arrivals)?).await?;
    store.promised += seen.created;
    until(program.address(), &delivered, events + seen.created).await?;
    let after = delivered_within(program.address(), sink).await?;
    bench.figures.add(&delay(on, name), "ms", 1_000.0 * p99(&before, &after).ok_or("no page was delivered")?);
    bench.stop(program).await;
    bench.check(&store).await?;
    store.remove().await
}

/// Messages that are all there when the program comes.
async fn consume(bench: &mut Bench, on: On, name: &str) -> Outcome<()> {
    let mut broker = start(name).await;
    let mut store = bench.store(on).await?;
    let (prefix, sku) = (bench.prefix(), sku(1));
    let messages: Vec<String> = (1..=MANY).map(|n| message(&format!("{prefix}-{n}"), &sku)).collect();
    for some in messages.chunks(1_000) {
        broker.send(some).await;
    }
    let rate = bare::rate(bench, on).await?;
    bench.figures.add(&control(on, name), "lines/s", rate);
    let mut settings = broker.environment();
    settings.push(("RELAY".into(), "off".into()));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let program = store.serve_with(bench, &settings).await;
    let ((), seconds) = bench.timed(until(program.address(), "allocation_messages_consumed_total{", MANY)).await?;
    bench.figures.add(&consumed(on, name), "lines/s", real(MANY) / seconds);
    store.promised = MANY;
    bench.stop(program).await;
    bench.check(&store).await?;
    store.remove().await
}

fn message(order: &str, sku: &str) -> String {
    serde_json::json!({
        "specversion": "1.0", "id": order, "source": "/bench", "type": "allocation.command.allocate.v1",
        "data": {"order_id": order, "lines": [{"sku": sku, "qty": 1}]},
    })
    .to_string()
}

/// Waits until a metric, over all labels that begin so, has come to so much.
async fn until(program: SocketAddr, metric: &str, wanted: u64) -> Outcome<()> {
    /// Nothing measured here takes as long.
    const PATIENCE: Duration = Duration::from_mins(2);
    let reached = async {
        loop {
            let text = http::once(program, "GET", "/metrics", "").await?.body;
            let of_it = text.lines().filter(|line| line.starts_with(metric));
            let sum: u64 = of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
            if sum >= wanted {
                return Outcome::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.map_err(|_| format!("{metric} never came to {wanted}"))?
}

/// How many pages a sink had within how many seconds.
async fn delivered_within(program: SocketAddr, sink: &str) -> Outcome<Vec<(f64, f64)>> {
    let text = http::once(program, "GET", "/metrics", "").await?.body;
    let of = format!("sink=\"{sink}\"");
    let bucket = |line: &str| {
        let labels = line.strip_prefix("allocation_delivery_seconds_bucket{").filter(|labels| labels.contains(&of))?;
        let (labels, count) = labels.rsplit_once("} ")?;
        let most = labels.split(',').find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'))?;
        Some((if most == "+Inf" { f64::INFINITY } else { most.parse().ok()? }, count.parse().ok()?))
    };
    let mut buckets: Vec<(f64, f64)> = text.lines().filter_map(bucket).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(buckets)
}

/// Within how many seconds 99 of 100 pages were delivered that came between the two: the upper end of their bucket.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> Option<f64> {
    let new = |at: usize| after[at].1 - before.get(at).map_or(0.0, |(_, count)| *count);
    let all = new(after.len().checked_sub(1)?);
    (0..after.len()).find(|&at| all > 0.0 && new(at) >= 0.99 * all).map(|at| after[at].0)
}
