//! Two copies of the program on one PostgreSQL, all wanting the same product, against one copy with as many connections.

use crate::Outcome;
use crate::harness::Bench;
use crate::load::{Request, Skus};
use crate::store::On;

/// The name of the figure of one copy.
pub(crate) const ONE: &str = "one copy, PostgreSQL, PUT, one SKU, 256 connections";
/// The name of the figure of two.
pub(crate) const TWO: &str = "two copies, PostgreSQL, PUT, one SKU, 128 connections each";

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for round in 1..=bench.options.rounds {
        bench.progress(&format!("two copies, round {round} of {}", bench.options.rounds));
        let load = bench.load(Request::Put(1), Skus::One, 256);
        let mut store = bench.store(On::Postgres).await?;
        let alone = bench.allocate(&mut store, load).await?;
        store.remove().await?;
        bench.figures.add(ONE, "requests/s", alone.rate());

        let mut store = bench.store(On::Postgres).await?;
        let (first, second) = (store.serve(bench).await, store.serve(bench).await);
        let load = bench.load(Request::Put(1), Skus::One, 128);
        let prefixes = (bench.prefix(), bench.prefix());
        let (one, two) = futures_util::future::try_join(
            bench.only_wrk(first.address(), load, &prefixes.0),
            bench.only_wrk(second.address(), load, &prefixes.1),
        )
        .await?;
        for (program, answered) in [(first, &one), (second, &two)] {
            bench.accept(&mut store, load, answered);
            // What one has promised, the other must know as well.
            bench.look_up(program.address(), &one.samples).await?;
            bench.look_up(program.address(), &two.samples).await?;
            bench.stop(program).await;
        }
        bench.check(&store).await?;
        store.remove().await?;
        bench.figures.add(TWO, "requests/s", one.rate() + two.rate());
    }
    Ok(())
}
