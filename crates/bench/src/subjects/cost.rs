//! What a million allocations cost in processor and disk, and how much memory a thousand connections take.

use crate::Outcome;
use crate::harness::Bench;
use crate::load::{Request, Skus};
use crate::process::{self, Usage};
use crate::report::real;
use crate::store::{On, Store};

const CONNECTIONS: u64 = 1_000;
const MIB: f64 = 1024.0 * 1024.0;

/// The name of its figure.
pub(crate) fn memory(on: On) -> String {
    format!("{}, peak memory of the program at 1,000 connections", on.name())
}

/// The name of the figure of what a thousand connections get done.
pub(crate) fn rate(on: On) -> String {
    format!("{}, PUT, one SKU, 1,000 connections beside 256", on.name())
}

/// The name of the figure to compare that to.
pub(crate) fn rate_of_fewer(on: On) -> String {
    format!("{}, PUT, one SKU, 256 connections beside 1,000", on.name())
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    for round in 1..=bench.options.rounds {
        for on in On::BOTH {
            bench.progress(&format!("cost, round {round} of {}: {}", bench.options.rounds, on.name()));
            measure(bench, on).await?;
        }
    }
    Ok(())
}

/// A run at 256 connections, and one at a thousand.
async fn measure(bench: &mut Bench, on: On) -> Outcome<()> {
    let mut fewer = bench.store(on).await?;
    let load = bench.load(Request::Put(1), Skus::One, 256);
    let answered = bench.allocate(&mut fewer, load).await?;
    fewer.remove().await?;
    bench.figures.add(&rate_of_fewer(on), "requests/s", answered.rate());

    let mut store = bench.store(on).await?;
    let server = server(&store).await?;
    let program = store.serve(bench).await;
    let used = || {
        let of_server = server.map_or(Some(Usage::default()), process::usage_with_children);
        Some((process::usage(program.pid())?, of_server?))
    };
    let before = used();
    let load = bench.load(Request::Put(1), Skus::One, CONNECTIONS);
    let answered = bench.ask(&program, &mut store, load).await?;
    let (after, peak) = (used(), process::peak_memory(program.pid()));
    bench.stop(program).await;
    bench.check(&store).await?;
    store.remove().await?;

    bench.figures.add(&rate(on), "requests/s", answered.rate());
    if let Some(peak) = peak {
        bench.figures.add(&memory(on), "MiB", peak);
    }
    if let (Some((program_before, server_before)), Some((program_after, server_after))) = (before, after) {
        let millions = real(answered.accepted) / 1e6;
        let (program, server) = (program_after.since(program_before), server_after.since(server_before));
        let name = |what: &str| format!("{}, a million allocations: {what}", on.name());
        bench.figures.add(&name("processor, program"), "s", program.cpu_seconds / millions);
        if on == On::Postgres {
            bench.figures.add(&name("processor, server"), "s", server.cpu_seconds / millions);
        }
        let written = program.plus(server).bytes_written / MIB;
        bench.figures.add(&name("written to disk"), "MiB", written / millions);
    }
    Ok(())
}

/// The process that started all others of the database's server.
async fn server(store: &Store) -> Outcome<Option<u32>> {
    if store.on == On::Sqlite {
        return Ok(None);
    }
    let ours: i32 = store.connect().await?.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    Ok(process::parent(ours.unsigned_abs()))
}
