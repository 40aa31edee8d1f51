//! How many allocations a second, beside what the web stack, the stores and PostgreSQL's own benchmark make of the same minute.

use crate::Outcome;
use crate::controls::pgbench::{Pgbench, Way};
use crate::controls::{bare, web_stack};
use crate::harness::Bench;
use crate::load::{Request, Skus};
use crate::store::On;

/// The name of its figure.
pub(crate) fn figure(on: On, request: Request, skus: Skus, connections: u64) -> String {
    format!("{}, {}, {}, {connections} connections", on.name(), request.name(), skus.name())
}

/// The name of the limit: what two cores could do if the web stack and the store's writing were all there is.
pub(crate) fn limit(on: On, request: Request, connections: u64) -> String {
    format!("L: {}, {}, {connections} connections", on.name(), request.name())
}

struct Plan {
    full: bool,
    requests: Vec<Request>,
    skus: Vec<Skus>,
    connections: Vec<u64>,
    clients: Vec<u64>,
}

impl Plan {
    fn of(bench: &Bench, most_clients: u64) -> Self {
        if bench.options.full {
            return Self {
                full: true,
                requests: vec![Request::Put(1), Request::Post, Request::Put(10)],
                skus: vec![Skus::One, Skus::Even, Skus::Zipf],
                connections: vec![1, 16, 64, 256, 1_000],
                clients: vec![1, 8, 32, most_clients],
            };
        }
        Self {
            full: false,
            requests: vec![Request::Put(1), Request::Post],
            skus: vec![Skus::One, Skus::Even],
            connections: vec![64, 256],
            clients: vec![1, 8, 32],
        }
    }

    /// Without `FULL` only the newer way of asking is measured in every combination; the original's is the same behind the door.
    fn wants(&self, request: Request, skus: Skus, connections: u64) -> bool {
        self.full || request == Request::Put(1) || (skus == Skus::One && connections == 256)
    }
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    let pgbench = Pgbench::new(bench).await?;
    let plan = Plan::of(bench, pgbench.most);
    for round in 1..=bench.options.rounds {
        bench.progress(&format!("throughput, round {round} of {}: bare loops", bench.options.rounds));
        for on in On::BOTH {
            bare::measure(bench, on).await?;
        }
        for &connections in &plan.connections {
            for &request in &plan.requests {
                bench.progress(&format!("throughput, round {round}: {}, {connections} connections", request.name()));
                subjects(bench, &plan, request, connections).await?;
            }
        }
        bench.progress(&format!("throughput, round {round}: pgbench"));
        for &clients in &plan.clients {
            for skus in [Skus::One, Skus::Even] {
                for way in [Way::Cte, Way::Orm] {
                    pgbench.measure(bench, way, skus, clients).await?;
                }
            }
        }
        if !bench.options.full {
            pgbench.measure(bench, Way::Cte, Skus::One, pgbench.most).await?;
        }
    }
    Ok(())
}

/// The web stack alone, then the program on each store.
async fn subjects(bench: &mut Bench, plan: &Plan, request: Request, connections: u64) -> Outcome<()> {
    let wanted = || plan.skus.iter().copied().filter(|&skus| plan.wants(request, skus, connections));
    if wanted().next().is_none() {
        return Ok(());
    }
    web_stack::measure(bench, request, connections).await?;
    for on in On::BOTH {
        add_limit(bench, on, request, connections);
        for skus in wanted() {
            let mut store = bench.store(on).await?;
            let load = bench.load(request, skus, connections);
            let answered = bench.allocate(&mut store, load).await?;
            store.remove().await?;
            bench.figures.add(&figure(on, request, skus, connections), "requests/s", answered.rate());
        }
    }
    Ok(())
}

fn add_limit(bench: &mut Bench, on: On, request: Request, connections: u64) {
    let web_stack = bench.figures.last(&web_stack::figure(request, connections));
    let bare = bench.figures.last(&bare::figure(on));
    if let (Some(web_stack), Some(bare)) = (web_stack, bare) {
        let lines = crate::report::real(request.lines());
        let limit = 1.0 / (1.0 / web_stack + lines / (2.0 * bare));
        bench.figures.add(&self::limit(on, request, connections), "requests/s", limit);
    }
}
