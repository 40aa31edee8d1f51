//! Ten times as much offered as a slow store can take: what is accepted must be as much as ever, and the rest be turned away at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::harness::Bench;
use crate::load::open_loop::{self, Arrivals};
use crate::load::{PRODUCTS, Request, Skus};
use crate::report::real;
use crate::store::On;
use crate::{Outcome, far, process};

/// What the store can take.
pub(crate) const CAPACITY: &str = "PostgreSQL slowed down, as many connections as may wait";
/// What was promised while ten times as much was offered.
pub(crate) const USEFUL: &str = "PostgreSQL slowed down, promised while ten times as much is offered";
/// How long the others had to wait for their refusal.
pub(crate) const REFUSED: &str = "PostgreSQL slowed down, p99 of refusals meanwhile";
/// The program's memory meanwhile.
pub(crate) const MEMORY: &str = "PostgreSQL slowed down, peak memory of the program meanwhile";

/// On every message to the database; two of them, and 256 lines a unit of work, make about 2,000 lines a second.
const DELAY: Duration = Duration::from_millis(60);
/// Fewer may wait than clients ask, so that clients are turned away and not kept waiting.
const QUEUE: (&str, &str) = ("QUEUE_LENGTH", "512");
/// As many as have a place in the queue: nobody is turned away, even while a unit of work is small, and units of work are full.
const WAITING: u64 = 512;
const CONNECTIONS: u64 = 1_000;

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for round in 1..=bench.options.few_rounds() {
        bench.progress(&format!("overload, round {round} of {}", bench.options.few_rounds()));
        let mut store = bench.store(On::Postgres).await?;
        let database = SocketAddr::from((Ipv4Addr::LOCALHOST, bench.postgres.port()));
        let near = store.url.clone();
        store.url = near.replace(&database.to_string(), &far::proxy(database, DELAY)?.to_string());
        let program = store.serve_with(bench, &[QUEUE]).await;

        let mut load = bench.load(Request::Put(1), Skus::Even, WAITING);
        load.seconds += 2;
        let capacity = bench.ask(&program, &mut store, load).await?.rate();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
        let rate = (capacity * 10.0) as u64;
        let (seconds, prefix, products) = (bench.options.seconds + 4, bench.prefix(), (1, PRODUCTS));
        let arrivals = Arrivals { rate, seconds, connections: CONNECTIONS, prefix, products };
        let seen = open_loop::finish(open_loop::start(program.address(), &arrivals)?).await?;
        if seen.other > 0 {
            bench.fail(format!("{} requests of an overload were neither promised nor turned away", seen.other));
        }
        store.promised += seen.created;
        let peak = process::peak_memory(program.pid()).ok_or("the program is gone")?;
        bench.stop(program).await;
        store.url = near;
        bench.check(&store).await?;
        store.remove().await?;
        bench.figures.add(CAPACITY, "requests/s", capacity);
        bench.figures.add(USEFUL, "requests/s", real(seen.created) / seen.seconds);
        bench.figures.add(REFUSED, "ms", seen.refused_p99);
        bench.figures.add(MEMORY, "MiB", peak);
    }
    Ok(())
}
