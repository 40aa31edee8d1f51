//! Whether a product slows down with lines that are over: all promised and then cancelled, through the program itself.

use std::net::SocketAddr;

use futures_util::future::try_join_all;

use super::growth::{CONNECTIONS, rate};
use crate::Outcome;
use crate::controls::bare;
use crate::harness::Bench;
use crate::http::Client;
use crate::load::Skus;
use crate::report::{number, real};
use crate::store::On;

/// Who cancel.
const CLIENTS: usize = 64;

/// The name of the figure with so many cancelled lines there; 0 lines: beside it, with none.
pub(crate) fn figure(on: On, lines: u64) -> String {
    let lines = number(real(lines));
    format!("{}, PUT, one SKU, {CONNECTIONS} connections, {lines} cancelled lines there", on.name())
}

/// How many lines are over.
pub(crate) fn lines(full: bool) -> u64 {
    if full { 1_000_000 } else { 100_000 }
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for on in On::BOTH {
        on_one(bench, on).await?;
    }
    Ok(())
}

async fn on_one(bench: &mut Bench, on: On) -> Outcome<()> {
    let lines = lines(bench.options.full);
    bench.progress(&format!("cancelled: {}, writing {} lines and cancelling them", on.name(), number(real(lines))));
    let mut store = bench.store(on).await?;
    bare::fill(&mut store, lines, 0).await?;
    let program = store.serve(bench).await;
    let ((), seconds) = bench.timed(cancel(program.address(), lines)).await?;
    bench.figures.add(
        &format!("{}, DELETE order, {CLIENTS} connections", on.name()),
        "requests/s",
        real(lines) / seconds,
    );
    bench.stop(program).await;
    bench.check(&store).await?;
    for round in 1..=bench.options.few_rounds() {
        bench.progress(&format!("cancelled, round {round}: {}", on.name()));
        let mut empty = bench.store(on).await?;
        let beside = rate(bench, &mut empty, Skus::One).await?;
        empty.remove().await?;
        let rate = rate(bench, &mut store, Skus::One).await?;
        bench.figures.add(&figure(on, 0), "requests/s", beside);
        bench.figures.add(&figure(on, lines), "requests/s", rate);
    }
    bench.check(&store).await?;
    store.remove().await
}

/// Cancels each order that [`bare::fill`] has made.
async fn cancel(program: SocketAddr, orders: u64) -> Outcome<()> {
    try_join_all((0..CLIENTS).map(async |first| {
        let mut client = Client::connect(program).await?;
        for order in (1..=orders).skip(first).step_by(CLIENTS) {
            let answer = client.send("DELETE", &format!("/v1/orders/fill-{order}"), "").await?;
            if answer.status != 200 {
                return Err(format!("order fill-{order} was not cancelled: {}", answer.body).into());
            }
        }
        Outcome::Ok(())
    }))
    .await?;
    Ok(())
}
