//! Whether every commit waits for the disk: syncs are counted beside commits, under a load so low that they can't hide behind each other.

use std::process::Stdio;

use allocation_testing::program::Program;
use allocation_testing::servers::tool;
use tokio::process::Command;

use crate::Outcome;
use crate::harness::Bench;
use crate::http::metric;
use crate::load::wrk::Load;
use crate::load::{Request, Skus};
use crate::process;
use crate::report::real;
use crate::store::{On, Store};

const COMMITS: &str = "allocation_commits_total";
const CONNECTIONS: u64 = 4;

/// The name of the figure of commits.
pub(crate) fn commits(on: On) -> String {
    format!("{}, commits, {CONNECTIONS} connections", on.name())
}

/// The name of the figure of syncs meanwhile.
pub(crate) fn syncs(on: On) -> String {
    format!("{}, syncs of these commits", on.name())
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    bench.progress("syncs against commits");
    let load = bench.load(Request::Put(1), Skus::Even, CONNECTIONS);
    sqlite(bench, load).await?;
    postgres(bench, load).await
}

fn add(bench: &mut Bench, on: On, made: u64, synced: u64) {
    bench.figures.add(&commits(on), "", real(made));
    bench.figures.add(&syncs(on), "", real(synced));
    if synced < made {
        bench.fail(format!("{on:?}: {made} commits and only {synced} syncs"));
    }
}

/// The program under `strace`.
async fn sqlite(bench: &mut Bench, load: Load) -> Outcome<()> {
    let Some(strace) = tool("strace", "strace") else {
        eprintln!("    no strace: the syncs of SQLite were not counted");
        return Ok(());
    };
    let mut store = bench.store(On::Sqlite).await?;
    let counts = bench.folder().join("syncs");
    let mut command = Command::new(strace);
    command.args(["-f", "-c", "-e", "trace=fsync,fdatasync", "-o"]).arg(&counts).arg(&bench.program).arg("serve");
    command.env_clear().env("DATABASE_URL", &store.url).env("LISTEN", "127.0.0.1:0");
    let traced = Program::spawn(command.stdin(Stdio::null()).kill_on_drop(true)).await;
    let answered = bench.ask(&traced, &mut store, load).await?;
    let made = metric(traced.address(), COMMITS).await?;
    // strace ends, and writes its counts, when what it traces ends.
    for program in process::children(traced.pid()) {
        Command::new("kill").args(["-TERM", &program.to_string()]).status().await?;
    }
    let synced = allocation_testing::eventually("what strace counted", async || total(&counts)).await;
    drop(traced);
    bench.check(&store).await?;
    store.remove().await?;
    bench.progress(&format!("{} allocations in {made} commits", answered.accepted));
    add(bench, On::Sqlite, made, synced);
    Ok(())
}

/// The calls of all kinds in a table by `strace -c`, once it is written.
fn total(table: &std::path::Path) -> Option<u64> {
    let text = std::fs::read_to_string(table).ok()?;
    text.contains("total").then_some(())?;
    let calls = text.lines().filter(|line| line.ends_with("fsync") || line.ends_with("fdatasync"));
    calls.map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum()
}

/// What the server itself counts.
async fn postgres(bench: &mut Bench, load: Load) -> Outcome<()> {
    let mut store: Store = bench.store(On::Postgres).await?;
    let client = store.connect().await?;
    client.batch_execute("SELECT pg_stat_reset_shared('wal')").await?;
    let program = store.serve(bench).await;
    bench.ask(&program, &mut store, load).await?;
    let made = metric(program.address(), COMMITS).await?;
    // A connection hands its counts over when it ends.
    bench.stop(program).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let count = "SELECT wal_sync::bigint FROM pg_stat_wal";
    // Since version 18 it is counted elsewhere.
    let newer = "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'";
    let row = match client.query_one(count, &[]).await {
        Ok(row) => row,
        Err(_) => client.query_one(newer, &[]).await?,
    };
    let synced: i64 = row.get(0);
    drop(client);
    bench.check(&store).await?;
    store.remove().await?;
    add(bench, On::Postgres, made, synced.unsigned_abs());
    Ok(())
}
