//! Whether it slows down with what is there already: a filled store against an empty one, alternately.
//!
//! Half of the lines are of the product that all want next, half are of the others.

use crate::Outcome;
use crate::controls::bare;
use crate::harness::Bench;
use crate::load::{PRODUCTS, Request, Skus};
use crate::report::number;
use crate::report::real;
use crate::store::{On, Store};

pub(super) const CONNECTIONS: u64 = 256;

/// Beyond this, checking the books would take longer than everything else.
const CHECKED: u64 = 1_000_000;

/// The name of its figure; 0 lines: an empty store.
pub(crate) fn figure(on: On, skus: Skus, lines: u64) -> String {
    format!("{}, PUT, {}, {CONNECTIONS} connections, {} lines there", on.name(), skus.name(), number(real(lines)))
}

/// How many lines are there.
pub(crate) fn sizes(full: bool) -> &'static [u64] {
    if full { &[100_000, 1_000_000, 10_000_000] } else { &[100_000] }
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for on in On::BOTH {
        on_one(bench, on).await?;
    }
    Ok(())
}

async fn on_one(bench: &mut Bench, on: On) -> Outcome<()> {
    let rounds = bench.options.few_rounds();
    let mut filled = Vec::new();
    for &lines in sizes(bench.options.full) {
        bench.progress(&format!("growth: {}, writing {} lines", on.name(), number(real(lines))));
        let mut store = bench.store(on).await?;
        bare::fill(&mut store, lines / 2, lines / 2 / (PRODUCTS - 1)).await?;
        filled.push((lines, store));
    }
    for round in 1..=rounds {
        for skus in [Skus::One, Skus::Even] {
            bench.progress(&format!("growth, round {round} of {rounds}: {}, {}", on.name(), skus.name()));
            let mut empty = bench.store(on).await?;
            measure(bench, &mut empty, skus, 0).await?;
            empty.remove().await?;
            for (lines, store) in &mut filled {
                measure(bench, store, skus, *lines).await?;
            }
        }
    }
    for (lines, store) in filled {
        if lines > CHECKED {
            eprintln!("    the books of {} lines were not checked: it would take too long", number(real(lines)));
        } else {
            bench.check(&store).await?;
        }
        store.remove().await?;
    }
    Ok(())
}

async fn measure(bench: &mut Bench, store: &mut Store, skus: Skus, lines: u64) -> Outcome<()> {
    let rate = rate(bench, store, skus).await?;
    bench.figures.add(&figure(store.on, skus, lines), "requests/s", rate);
    Ok(())
}

/// Requests a second. The books of a filled store are checked once, at its end.
pub(super) async fn rate(bench: &mut Bench, store: &mut Store, skus: Skus) -> Outcome<f64> {
    let program = store.serve(bench).await;
    let load = bench.load(Request::Put(1), skus, CONNECTIONS);
    let answered = bench.ask(&program, store, load).await?;
    bench.stop(program).await;
    Ok(answered.rate())
}
