//! Refusing what is sold out, which is what a flash sale is mostly made of: at the web stack's speed, and without a write.

use crate::Outcome;
use crate::controls::web_stack;
use crate::harness::Bench;
use crate::http::{all_orders_got, metric, once};
use crate::load::{Request, Skus, batch, sku};
use crate::store::On;

const CONNECTIONS: u64 = 256;
const COMMITS: &str = "allocation_commits_total";

/// The name of its figure.
pub(crate) fn figure(on: On) -> String {
    format!("{}, sold out, {CONNECTIONS} connections", on.name())
}

/// The name of the figure of commits meanwhile.
pub(crate) fn commits(on: On) -> String {
    format!("{}, commits while sold out", on.name())
}

/// The name of its control's figure, measured here so that it is of the same minute.
pub(crate) const CONTROL: &str = "C beside it: web stack alone, PUT, 256 connections";

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for round in 1..=bench.options.rounds {
        bench.progress(&format!("sold out, round {round} of {}", bench.options.rounds));
        let load = bench.load(Request::Put(1), Skus::One, CONNECTIONS);
        let control = web_stack::rate(bench, load.request, CONNECTIONS).await?;
        bench.figures.add(CONTROL, "requests/s", control);
        for on in On::BOTH {
            let store = bench.store(on).await?;
            let program = store.serve(bench).await;
            let address = program.address();
            let declaration = format!("/v1/products/{}/batches/{}", sku(1), batch(1));
            once(address, "PUT", &declaration, r#"{"qty":0}"#).await?;
            // The first refusal is told to the world; those after it change nothing.
            let order = format!(r#"{{"lines":[{{"sku":"{}","qty":1}}]}}"#, sku(1));
            let first = once(address, "PUT", "/v1/orders/first-refused", &order).await?;
            if first.status != 409 {
                bench.fail(format!("{on:?}: sold out, and answered {}", first.status));
            }
            let before = metric(address, COMMITS).await?;
            let answered = bench.wrk(address, load).await?;
            let after = metric(address, COMMITS).await?;
            if answered.accepted > 0 || !all_orders_got(address, 409).await? {
                bench.fail(format!("{on:?}: sold out, and not all were told so ({} taken)", answered.accepted));
            }
            bench.stop(program).await;
            bench.check(&store).await?;
            store.remove().await?;
            bench.figures.add(&figure(on), "requests/s", answered.rate());
            bench.figures.add(&commits(on), "", crate::report::real(after - before));
        }
    }
    Ok(())
}
