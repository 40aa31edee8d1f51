//! A batch with a hundred thousand lines is cut to nothing while other products are asked for: how long that takes, and how long the others
//! wait at worst.

use std::time::Duration;

use crate::Outcome;
use crate::controls::bare;
use crate::harness::Bench;
use crate::http::once;
use crate::load::open_loop::{self, Arrivals};
use crate::load::{PRODUCTS, batch, sku};
use crate::store::On;

const LINES: u64 = 100_000;

/// Low, so that waiting is the cut's doing.
const RATE: u64 = 1_000;

/// The name of its figure.
pub(crate) fn figure(on: On) -> String {
    format!("{}, a cut of 100,000 lines", on.name())
}

/// The name of the figure of others' longest wait.
pub(crate) fn others(on: On) -> String {
    format!("{}, longest answer to others meanwhile", on.name())
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for on in On::BOTH {
        bench.progress(&format!("a cut of 100,000 lines: {}", on.name()));
        let mut store = bench.store(on).await?;
        bare::fill(&mut store, LINES, 0).await?;
        let program = store.serve(bench).await;
        let address = program.address();
        // Until well after the cut, which takes a few seconds.
        let arrivals =
            Arrivals { rate: RATE, seconds: 10, connections: 256, prefix: bench.prefix(), products: (2, PRODUCTS) };
        let generator = open_loop::start(address, &arrivals)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let declaration = format!("/v1/products/{}/batches/{}", sku(1), batch(1));
        let (answer, took) = bench.timed(once(address, "PUT", &declaration, r#"{"qty":0}"#)).await?;
        if answer.status != 200 || !answer.body.contains(&format!(r#""displaced_total":{LINES}"#)) {
            let end = answer.body.rsplit(',').next().unwrap_or_default();
            bench.fail(format!("{on:?}: the cut answered {} in {took:.3} s, ending in {end}", answer.status));
        }
        if took > 9.0 {
            bench.fail(format!("{on:?}: the cut took {took:.0} s, longer than the load beside it"));
        }
        let seen = open_loop::finish(generator).await?;
        if seen.other > 0 {
            bench.fail(format!("{on:?}: {} requests failed during the cut", seen.other));
        }
        store.promised += seen.created;
        bench.stop(program).await;
        bench.check(&store).await?;
        store.remove().await?;
        bench.figures.add(&figure(on), "s", took);
        bench.figures.add(&others(on), "ms", seen.longest);
    }
    Ok(())
}
