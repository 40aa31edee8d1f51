//! The bench: measures the program against what its machine could do at best, in one run.
//!
//! **What it is.** Groups of measurements ([`subjects`]) beside the [`controls`] they are compared to, gone through alternately and several
//! times, since a machine's speed drifts. It starts its own servers, loads them from processes of their own ([`load`]), and believes no
//! figure whose answers are not in the store ([`checks`]). The [`report`] compares what was seen to the goals.
//!
//! **What it may know.** Everything: it puts the web stack together as the program does, and writes rows as the adapters do. Nothing may
//! know it.
//!
//! **How to add…**
//! - *a measurement*: a function in [`subjects`] that takes the [`harness::Bench`] and adds figures by name; its line in `GROUPS`.
//! - *a control*: the same, in [`controls`].
//! - *a goal*: its line in [`report::goals`], which finds figures by the names that measurements give them.
//!
//! `FULL=1` measures everything, `ROUNDS` says how often, `SECONDS_EACH` how long, `ONLY` names a part of the groups to run, and
//! `BEFORE` an earlier state of the program to compare it with.

mod checks;
mod controls;
mod far;
mod harness;
mod http;
mod load;
mod machine;
mod options;
mod process;
mod report;
mod store;
mod subjects;

use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;

use allocation_service_layer::ports::clock::Clock;

use crate::harness::Bench;
use crate::machine::Machine;
use crate::options::Options;
use crate::report::{Report, goals};

/// The program's allocator, so that the controls have no other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What keeps the bench from going on, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;
/// What may fail so.
type Outcome<T> = Result<T, Failure>;

/// What the bench starts itself as.
mod hidden {
    pub(crate) const OPEN_LOOP: &str = "open-loop";
    pub(crate) const WEB_STACK: &str = "web-stack";
}

type Group = for<'a> fn(&'a mut Bench) -> Pin<Box<dyn Future<Output = Outcome<()>> + 'a>>;

/// What is measured, in this order.
const GROUPS: &[(&str, Group)] = &[
    ("before", |bench| Box::pin(subjects::before::run(bench))),
    ("throughput", |bench| Box::pin(subjects::throughput::run(bench))),
    ("sold-out", |bench| Box::pin(subjects::sold_out::run(bench))),
    ("copies", |bench| Box::pin(subjects::copies::run(bench))),
    ("lone", |bench| Box::pin(subjects::lone::run(bench))),
    ("latency", |bench| Box::pin(subjects::latency::run(bench))),
    ("overload", |bench| Box::pin(subjects::overload::run(bench))),
    ("import", |bench| Box::pin(subjects::import::run(bench))),
    ("brokers", |bench| Box::pin(subjects::brokers::run(bench))),
    ("reads", |bench| Box::pin(subjects::reads::run(bench))),
    ("growth", |bench| Box::pin(subjects::growth::run(bench))),
    ("cancelled", |bench| Box::pin(subjects::cancelled::run(bench))),
    ("cut", |bench| Box::pin(subjects::cut::run(bench))),
    ("cost", |bench| Box::pin(subjects::cost::run(bench))),
    ("syncs", |bench| Box::pin(subjects::syncs::run(bench))),
    ("start", |bench| Box::pin(subjects::start::run(bench))),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        None => bench(),
        Some((name, rest)) if name == hidden::OPEN_LOOP => load::open_loop::main(rest).map(|()| true),
        Some((name, [file])) if name == hidden::WEB_STACK => controls::web_stack::main(Path::new(file)).map(|()| true),
        Some(_) => {
            Err("takes no arguments; FULL, ROUNDS, SECONDS_EACH, ONLY and BEFORE come from the environment".into())
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("allocation-bench: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Runs the groups and publishes what they found; `false` when something did not hold.
fn bench() -> Outcome<bool> {
    if machine::is_in_memory(&std::env::temp_dir()) {
        return elsewhere();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut bench = Bench::start(Options::from_environment()?)?;
        // Ended early, it still has to tidy up: what it holds stops and removes itself when dropped.
        tokio::select! {
            () = measure(&mut bench) => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Err("interrupted".into());
            }
        }
        let report = Report {
            at: bench.clock.now(),
            machine: Machine::this(),
            options: &bench.options,
            figures: &bench.figures,
            goals: goals::all(&bench.figures, &bench.options),
            failures: &bench.failures,
        };
        report.publish()?;
        Ok(bench.failures.is_empty())
    })
}

async fn measure(bench: &mut Bench) {
    for (name, group) in GROUPS {
        if bench.options.wants(name)
            && let Err(failure) = group(bench).await
        {
            bench.fail(format!("{name}: {failure}"));
        }
    }
}

/// Starts again with temporary files on a disk: in memory, nothing would ever wait for one.
fn elsewhere() -> Outcome<bool> {
    const DISK: &str = "/var/tmp";
    if machine::is_in_memory(Path::new(DISK)) {
        return Err("set TMPDIR to a folder on a disk: there is none to measure".into());
    }
    let status = std::process::Command::new(std::env::current_exe()?).env("TMPDIR", DISK).status()?;
    Ok(status.success())
}
