//! How long an answer takes at half of what the program can do, when requests arrive whether or not they are served.

use crate::Outcome;
use crate::harness::Bench;
use crate::load::open_loop::{self, Arrivals};
use crate::load::{PRODUCTS, Request, Skus};
use crate::store::On;

/// The name of its figure.
pub(crate) fn figure(on: On) -> String {
    format!("{}, p99 at half of peak load", on.name())
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for round in 1..=bench.options.rounds {
        for on in On::BOTH {
            bench.progress(&format!("latency, round {round} of {}: {}", bench.options.rounds, on.name()));
            let mut store = bench.store(on).await?;
            let program = store.serve(bench).await;
            let load = bench.load(Request::Put(1), Skus::Even, 256);
            let peak = bench.ask(&program, &mut store, load).await?.rate();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is neither large nor negative"
            )]
            let rate = (peak / 2.0) as u64;
            let seconds = bench.options.seconds + 1;
            let arrivals =
                Arrivals { rate, seconds, connections: 256, prefix: bench.prefix(), products: (1, PRODUCTS) };
            let seen = open_loop::finish(open_loop::start(program.address(), &arrivals)?).await?;
            if seen.other + seen.refused > 0 {
                bench.fail(format!(
                    "{on:?}: {} of {} requests at half of peak load failed",
                    seen.other + seen.refused,
                    rate * seconds
                ));
            }
            store.promised += seen.created;
            bench.stop(program).await;
            bench.check(&store).await?;
            store.remove().await?;
            bench.figures.add(&format!("{}, peak in this measurement", on.name()), "requests/s", peak);
            bench.figures.add(&format!("{}, p50 at half of peak load", on.name()), "ms", seen.p50);
            bench.figures.add(&figure(on), "ms", seen.p99);
            bench.figures.add(&format!("{}, longest at half of peak load", on.name()), "ms", seen.longest);
        }
    }
    Ok(())
}
