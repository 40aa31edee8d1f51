//! The program beside an earlier state of itself, by turns: what a change has cost or won. Only with `BEFORE`, which names the state as `git` does, or a
//! program that is built already.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use allocation_testing::program::Program;
use allocation_testing::servers::tool;
use tokio::process::Command;

use crate::Outcome;
use crate::harness::Bench;
use crate::load::wrk::Load;
use crate::load::{Request, Skus};
use crate::report::real;
use crate::store::On;

/// What is compared: the usual request at two numbers of connections, and the original's.
pub(crate) const LOADS: [(Request, Skus, u64); 5] = [
    (Request::Put(1), Skus::One, 64),
    (Request::Put(1), Skus::Even, 64),
    (Request::Put(1), Skus::One, 256),
    (Request::Put(1), Skus::Even, 256),
    (Request::Post, Skus::One, 256),
];

/// The name of the figure of one of the two.
pub(crate) fn figure(on: On, (request, skus, connections): (Request, Skus, u64), before: Option<&str>) -> String {
    let when = before.map_or("now", |before| before.rsplit('/').next().unwrap_or(before));
    format!("{}, {}, {}, {connections} connections, {when} by turns", on.name(), request.name(), skus.name())
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    let Some(before) = bench.options.before.clone() else { return Ok(()) };
    let built = PathBuf::from(&before);
    let earlier = if built.is_file() {
        built
    } else {
        bench.progress(&format!("building {before}"));
        build(&before, tempfile::tempdir()?.path()).await?
    };
    let programs = [bench.program.clone(), earlier];
    let measured = match by_turns(bench, &programs, &before).await {
        Ok(()) => count(bench, &programs, &before).await,
        failed => failed,
    };
    let [now, _] = programs;
    bench.program = now;
    measured
}

/// Measures both programs, and leaves the bench with one of them.
async fn by_turns(bench: &mut Bench, programs: &[PathBuf; 2], before: &str) -> Outcome<()> {
    for round in 1..=bench.options.rounds {
        bench.progress(&format!("{before} and now by turns, round {round} of {}", bench.options.rounds));
        for on in On::BOTH {
            for load in LOADS {
                // Each goes first once: what goes first finds another machine than what follows it.
                let mut rates = [0.0; 2];
                for turn in [0, 1, 1, 0] {
                    bench.program.clone_from(&programs[turn]);
                    rates[turn] += measure(bench, on, load).await?;
                }
                for (before, rate) in [None, Some(before)].into_iter().zip(rates) {
                    bench.figures.add(&figure(on, load, before), "requests/s", rate / 2.0);
                }
            }
        }
    }
    Ok(())
}

/// Requests a second that the bench's program answers.
async fn measure(bench: &mut Bench, on: On, (request, skus, connections): (Request, Skus, u64)) -> Outcome<f64> {
    let mut store = bench.store(on).await?;
    let answered = bench.allocate(&mut store, bench.load(request, skus, connections)).await?;
    store.remove().await?;
    Ok(answered.rate())
}

/// The name of the figure of instructions.
pub(crate) fn instructions(before: Option<&str>) -> String {
    format!("{}, instructions of a request, all of the program", figure(On::Sqlite, COUNTED, before))
}

/// What instructions are counted of.
const COUNTED: (Request, Skus, u64) = (Request::Put(1), Skus::One, 64);

/// Counts the instructions of a request, which no other process disturbs, with callgrind, and leaves the bench with one of the programs.
async fn count(bench: &mut Bench, programs: &[PathBuf; 2], before: &str) -> Outcome<()> {
    let (Some(valgrind), Some(control)) = (tool("valgrind", "valgrind"), tool("callgrind_control", "valgrind")) else {
        eprintln!("    no valgrind: instructions were not counted");
        return Ok(());
    };
    let (request, skus, connections) = COUNTED;
    for (before, program) in [None, Some(before)].into_iter().zip(programs) {
        bench.progress(&format!("instructions of {}", program.display()));
        bench.program.clone_from(program);
        let mut store = bench.store(On::Sqlite).await?;
        let counts = bench.folder().join("instructions");
        let mut command = Command::new(&valgrind);
        command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
        command.arg(program).arg("serve").stdin(Stdio::null()).kill_on_drop(true);
        command.env_clear().env("DATABASE_URL", &store.url).env("LISTEN", "127.0.0.1:0");
        let counted = Program::spawn(&mut command).await;
        let pid = counted.pid().to_string();
        // What the first requests find for the first time is no part of it.
        bench.ask(&counted, &mut store, Load { request, skus, connections, seconds: 4 }).await?;
        Command::new(&control).args(["--zero", &pid]).stdout(Stdio::null()).status().await?;
        // Under callgrind the program is fifty times as slow: long enough for thousands of requests.
        let answered = bench.ask(&counted, &mut store, Load { request, skus, connections, seconds: 12 }).await?;
        Command::new(&control).args(["--dump", &pid]).stdout(Stdio::null()).status().await?;
        let total = std::fs::read_to_string(counts.with_extension("1"))?;
        let total: f64 =
            total.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("no count")?.trim().parse()?;
        bench.figures.add(&instructions(before), "", total / real(answered.accepted));
        drop(counted);
        store.remove().await?;
    }
    Ok(())
}

/// Builds the release of an earlier state, beside that of the present one, and says where it is.
async fn build(revision: &str, sources: &Path) -> Outcome<PathBuf> {
    let archive = sources.join("sources.tar");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut git = Command::new("git");
    git.current_dir(root).args(["archive", "--output"]).arg(&archive).arg(revision);
    let mut tar = Command::new("tar");
    tar.current_dir(sources).arg("--extract").arg("--file").arg(&archive);
    let target = std::env::current_exe()?.with_file_name("before");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(sources).env("CARGO_TARGET_DIR", &target);
    cargo.args(["build", "--quiet", "--release", "--locked", "--package", "allocation"]);
    for mut command in [git, tar, cargo] {
        if !command.status().await?.success() {
            return Err(format!("{revision} can't be built: {command:?} failed").into());
        }
    }
    Ok(target.join("release/allocation"))
}
