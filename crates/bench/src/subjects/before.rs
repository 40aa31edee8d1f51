//! The program beside an earlier state of itself, by turns: what a change has cost or won. Only with `BEFORE`, which names the state as `git` does, or a
//! program that is built already.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::Outcome;
use crate::harness::Bench;
use crate::load::{Request, Skus};
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
    for round in 1..=bench.options.rounds {
        bench.progress(&format!("{before} and now by turns, round {round} of {}", bench.options.rounds));
        for on in On::BOTH {
            for load in LOADS {
                measure(bench, on, load, None).await?;
                let now = std::mem::replace(&mut bench.program, earlier.clone());
                let measured = measure(bench, on, load, Some(&before)).await;
                bench.program = now;
                measured?;
            }
        }
    }
    Ok(())
}

async fn measure(bench: &mut Bench, on: On, load: (Request, Skus, u64), before: Option<&str>) -> Outcome<()> {
    let (request, skus, connections) = load;
    let mut store = bench.store(on).await?;
    let answered = bench.allocate(&mut store, bench.load(request, skus, connections)).await?;
    store.remove().await?;
    bench.figures.add(&figure(on, load, before), "requests/s", answered.rate());
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
