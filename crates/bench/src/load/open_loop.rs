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

/// What arrives.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    /// Requests a second.
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    /// How many connections share the requests.
    pub(crate) connections: u64,
    /// Begins every order id.
    pub(crate) prefix: String,
    /// The products asked for, in turn.
    pub(crate) products: (u64, u64),
}

/// What came of it, latencies in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) created: u64,
    /// Turned away with 503.
    pub(crate) refused: u64,
    /// Any other answer, or none.
    pub(crate) other: u64,
    /// From the first request to the last answer.
    pub(crate) seconds: f64,
    /// Of those that were turned away.
    pub(crate) refused_p99: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

/// Starts the generator in a process of its own.
pub(crate) fn start(address: SocketAddr, arrivals: &Arrivals) -> Outcome<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let (first, last) = arrivals.products;
    command.args([hidden::OPEN_LOOP, &address.to_string(), &arrivals.prefix]);
    command.args([arrivals.rate, arrivals.seconds, arrivals.connections, first, last].map(|number| number.to_string()));
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
}

/// Waits for the generator's end.
pub(crate) async fn finish(generator: Child) -> Outcome<Seen> {
    let output = generator.wait_with_output().await?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    Ok(Seen {
        created: told["created"].as_u64().unwrap_or(0),
        refused: told["refused"].as_u64().unwrap_or(0),
        other: told["other"].as_u64().unwrap_or(0),
        seconds: number("seconds"),
        refused_p99: number("refused_p99"),
        p50: number("p50"),
        p99: number("p99"),
        longest: number("longest"),
    })
}

/// The generator itself: reads its arguments, sends, and prints what it saw.
pub(crate) fn main(arguments: &[String]) -> Outcome<()> {
    let [address, prefix, numbers @ ..] = arguments else { return Err("too few arguments".into()) };
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<u64>, _>>()?;
    let &[rate, seconds, connections, first, last] = numbers.as_slice() else {
        return Err("too few arguments".into());
    };
    let arrivals = Arrivals { rate, seconds, connections, prefix: prefix.clone(), products: (first, last) };
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
    /// Of answers that are not refusals.
    latencies: RefCell<Vec<Duration>>,
    refusals: RefCell<Vec<Duration>>,
}

async fn generate(address: SocketAddr, arrivals: Arrivals) -> Outcome<()> {
    let mut clients = Vec::new();
    for _ in 0..arrivals.connections {
        clients.push(Client::connect(address).await?);
    }
    let shared = Rc::new(Shared {
        arrivals,
        clock: SystemClock::new(),
        next: Cell::new(0),
        created: Cell::new(0),
        other: Cell::new(0),
        latencies: RefCell::default(),
        refusals: RefCell::default(),
    });
    let tasks: Vec<_> =
        clients.into_iter().map(|client| tokio::task::spawn_local(send(client, shared.clone()))).collect();
    for task in tasks {
        task.await?;
    }
    let seconds = shared.clock.monotonic().as_secs_f64();
    let (mut latencies, mut refusals) = (shared.latencies.take(), shared.refusals.take());
    latencies.sort_unstable();
    refusals.sort_unstable();
    let percentile = |of: &[Duration], share: usize| {
        let at = (of.len() * share / 1000).min(of.len().saturating_sub(1));
        of.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    println!(
        "{}",
        serde_json::json!({
            "created": shared.created.get(), "refused": refusals.len(), "other": shared.other.get(),
            "seconds": seconds, "refused_p99": percentile(&refusals, 990),
            "p50": percentile(&latencies, 500), "p99": percentile(&latencies, 990),
            "longest": percentile(&latencies, 1000),
        })
    );
    Ok(())
}

/// One connection: takes the next request that is due, until there is none.
async fn send(mut client: Client, shared: Rc<Shared>) {
    let Arrivals { rate, seconds, prefix, products: (first, last), .. } = &shared.arrivals;
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
        let latency = shared.clock.monotonic().saturating_sub(due);
        let count = match answer {
            Ok(answer) if answer.status == 503 => {
                shared.refusals.borrow_mut().push(latency);
                continue;
            }
            Ok(answer) if answer.status == 201 => &shared.created,
            _ => &shared.other,
        };
        shared.latencies.borrow_mut().push(latency);
        count.set(count.get() + 1);
    }
}
