//! Load that arrives whether or not it is served: latency counts from the moment a request was due, so that a stall is not hidden by
//! clients that wait for it.
//!
//! It wakes once a millisecond, so up to that much of what it measures is its own.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_service_layer::ports::clock::Clock;
use tokio::process::{Child, Command};
use tokio::task::LocalSet;

use super::sku;
use crate::http::Client;
use crate::report::real;
use crate::{Outcome, hidden};

/// How many connections share the requests.
const CONNECTIONS: usize = 256;

/// What arrives.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    /// Requests a second.
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    /// Begins every order id.
    pub(crate) prefix: String,
    /// The products asked for, in turn.
    pub(crate) products: (u64, u64),
}

/// What came of it, latencies in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) created: u64,
    /// Any other answer, or none.
    pub(crate) other: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

/// Starts the generator in a process of its own.
pub(crate) fn start(address: SocketAddr, arrivals: &Arrivals) -> Outcome<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let (first, last) = arrivals.products;
    command.args([hidden::OPEN_LOOP, &address.to_string(), &arrivals.prefix]);
    command.args([arrivals.rate, arrivals.seconds, first, last].map(|number| number.to_string()));
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
}

/// Waits for the generator's end.
pub(crate) async fn finish(generator: Child) -> Outcome<Seen> {
    let output = generator.wait_with_output().await?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    Ok(Seen {
        created: told["created"].as_u64().unwrap_or(0),
        other: told["other"].as_u64().unwrap_or(0),
        p50: number("p50"),
        p99: number("p99"),
        longest: number("longest"),
    })
}

/// The generator itself: reads its arguments, sends, and prints what it saw.
pub(crate) fn main(arguments: &[String]) -> Outcome<()> {
    let [address, prefix, numbers @ ..] = arguments else { return Err("too few arguments".into()) };
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<u64>, _>>()?;
    let &[rate, seconds, first, last] = numbers.as_slice() else { return Err("too few arguments".into()) };
    let arrivals = Arrivals { rate, seconds, prefix: prefix.clone(), products: (first, last) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(generate(address.parse()?, arrivals)))
}

/// What all connections share.
struct Shared {
    arrivals: Arrivals,
    clock: SystemClock,
    next: Cell<u64>,
    created: Cell<u64>,
    other: Cell<u64>,
    latencies: RefCell<Vec<Duration>>,
}

async fn generate(address: SocketAddr, arrivals: Arrivals) -> Outcome<()> {
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(address).await?);
    }
    let shared = Rc::new(Shared {
        arrivals,
        clock: SystemClock::new(),
        next: Cell::new(0),
        created: Cell::new(0),
        other: Cell::new(0),
        latencies: RefCell::default(),
    });
    let tasks: Vec<_> =
        clients.into_iter().map(|client| tokio::task::spawn_local(send(client, shared.clone()))).collect();
    for task in tasks {
        task.await?;
    }
    let mut latencies = shared.latencies.take();
    latencies.sort_unstable();
    let percentile = |share: usize| {
        let at = (latencies.len() * share / 1000).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    println!(
        "{}",
        serde_json::json!({
            "created": shared.created.get(), "other": shared.other.get(),
            "p50": percentile(500), "p99": percentile(990), "longest": percentile(1000),
        })
    );
    Ok(())
}

/// One connection: takes the next request that is due, until there is none.
async fn send(mut client: Client, shared: Rc<Shared>) {
    let Arrivals { rate, seconds, prefix, products: (first, last) } = &shared.arrivals;
    loop {
        let nth = shared.next.get();
        if nth >= rate * seconds {
            return;
        }
        shared.next.set(nth + 1);
        let due = Duration::from_secs_f64(real(nth) / real(*rate));
        tokio::time::sleep(due.saturating_sub(shared.clock.monotonic())).await;
        let (path, product) = (format!("/v1/orders/{prefix}-{nth}"), sku(first + nth % (last - first + 1)));
        let body = format!(r#"{{"lines":[{{"sku":"{product}","qty":1}}]}}"#);
        let answer = client.send("PUT", &path, &body).await;
        shared.latencies.borrow_mut().push(shared.clock.monotonic().saturating_sub(due));
        let count = if answer.is_ok_and(|answer| answer.status == 201) { &shared.created } else { &shared.other };
        count.set(count.get() + 1);
    }
}
