//! A single client of PostgreSQL, who gains nothing from others' company: at most a little slower than the plain transaction, and
//! few round trips away from the answer when the database is far.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::controls::pgbench::{self, Pgbench, Way};
use crate::harness::Bench;
use crate::load::{Request, Skus};
use crate::store::On;
use crate::{Outcome, far};

/// The name of its figure.
pub(crate) const FIGURE: &str = "PostgreSQL, PUT, one SKU, a lone request";
/// The name of the figure with the database a millisecond away.
pub(crate) const FAR: &str = "PostgreSQL, PUT, one SKU, a lone request, 1 ms more for each round trip to the database";

/// The name of its control's figure.
pub(crate) fn control() -> String {
    format!("beside it: {}", pgbench::figure(Way::Orm, Skus::One, 1))
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    let pgbench = Pgbench::new(bench).await?;
    let load = bench.load(Request::Put(1), Skus::One, 1);
    for round in 1..=bench.options.rounds {
        bench.progress(&format!("a lone request, round {round} of {}", bench.options.rounds));
        let rate = pgbench.rate(bench, Way::Orm, Skus::One, 1).await?;
        bench.figures.add(&control(), "ms", 1e3 / rate);

        let mut store = bench.store(On::Postgres).await?;
        let answered = bench.allocate(&mut store, load).await?;
        store.remove().await?;
        bench.figures.add(FIGURE, "ms", 1e3 / answered.rate());

        let mut store = bench.store(On::Postgres).await?;
        let database = SocketAddr::from((Ipv4Addr::LOCALHOST, bench.postgres.port()));
        let proxy = far::proxy(database, Duration::from_millis(1))?;
        let near = std::mem::take(&mut store.url);
        store.url = near.replace(&database.to_string(), &proxy.to_string());
        let program = store.serve(bench).await;
        store.url = near;
        let answered = bench.ask(&program, &mut store, load).await?;
        bench.stop(program).await;
        bench.check(&store).await?;
        store.remove().await?;
        bench.figures.add(FAR, "ms", 1e3 / answered.rate());
    }
    Ok(())
}
