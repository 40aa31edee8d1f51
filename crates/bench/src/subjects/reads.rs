//! How many questions a second: a product's numbers, and an order's lines.

use crate::Outcome;
use crate::controls::bare;
use crate::harness::Bench;
use crate::load::{PRODUCTS, Request, Skus};
use crate::store::On;

const LINES_OF_EACH: u64 = 20;
const CONNECTIONS: u64 = 64;

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for on in On::BOTH {
        bench.progress(&format!("reads: {}", on.name()));
        let mut store = bench.store(on).await?;
        bare::fill(&mut store, LINES_OF_EACH, LINES_OF_EACH).await?;
        let program = store.serve(bench).await;
        for request in [Request::GetOrder(LINES_OF_EACH * PRODUCTS), Request::GetProduct] {
            for _ in 0..bench.options.rounds {
                let load = bench.load(request, Skus::Even, CONNECTIONS);
                let answered = bench.ask(&program, &mut store, load).await?;
                let name = format!("{}, {}, {CONNECTIONS} connections", on.name(), request.name());
                bench.figures.add(&name, "requests/s", answered.rate());
            }
        }
        bench.stop(program).await;
        bench.check(&store).await?;
        store.remove().await?;
    }
    Ok(())
}
