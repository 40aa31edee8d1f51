//! What every measurement works with: the servers, the tools, and the books of what was found.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::program::Program;
use allocation_testing::servers::{PostgresServer, tool};
use tempfile::TempDir;

use crate::Outcome;
use crate::load::wrk::{self, Answered, Load};
use crate::options::Options;
use crate::report::Figures;
use crate::store::{self, On, Store};

/// The bench at work.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) clock: SystemClock,
    pub(crate) figures: Figures,
    pub(crate) failures: Vec<String>,
    pub(crate) postgres: PostgresServer,
    /// The release build of the program.
    pub(crate) program: PathBuf,
    wrk: PathBuf,
    folder: TempDir,
    /// Begins every order id; different in every run of the bench.
    name: String,
    runs: u64,
}

impl Bench {
    pub(crate) fn start(options: Options) -> Outcome<Self> {
        let program = std::env::current_exe()?.with_file_name("allocation");
        if !program.is_file() {
            return Err("the program is not built: `cargo build --release --package allocation` first".into());
        }
        let clock = SystemClock::new();
        let folder = tempfile::Builder::new().prefix("allocation-bench-").tempdir()?;
        store::write_stock(folder.path())?;
        Ok(Self {
            options,
            clock,
            figures: Figures::default(),
            failures: Vec::new(),
            postgres: PostgresServer::start_durable(),
            program,
            wrk: tool("wrk", "wrk").ok_or("wrk is not installed, and can't be")?,
            folder,
            name: format!("{:x}", clock.now().unix_timestamp()),
            runs: 0,
        })
    }

    /// A folder for passing files, gone at the end.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What begins the order ids of the next run.
    pub(crate) fn prefix(&mut self) -> String {
        self.runs += 1;
        format!("{}-{}", self.name, self.runs)
    }

    /// Says what comes next.
    pub(crate) fn progress(&self, what: &str) {
        eprintln!("{:>4} s  {what}", self.clock.monotonic().as_secs());
    }

    /// Something did not hold: the bench goes on, and fails at its end.
    pub(crate) fn fail(&mut self, what: String) {
        eprintln!("    FAILED: {what}");
        self.failures.push(what);
    }

    /// How long something takes, in seconds.
    pub(crate) async fn timed<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<(T, f64)> {
        let started = self.clock.monotonic();
        let done = work.await?;
        Ok((done, self.clock.monotonic().saturating_sub(started).as_secs_f64()))
    }

    /// Time for one run.
    pub(crate) fn run_time(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }

    /// A load of the usual length.
    pub(crate) fn load(&self, request: crate::load::Request, skus: crate::load::Skus, connections: u64) -> Load {
        Load { request, skus, connections, seconds: self.options.seconds }
    }

    /// A new store with stock in it.
    pub(crate) async fn store(&self, on: On) -> Outcome<Store> {
        Store::new(self, on).await
    }

    /// Runs `wrk` against an address, and nothing else: several may run at once.
    pub(crate) async fn only_wrk(&self, address: SocketAddr, load: Load, prefix: &str) -> Outcome<Answered> {
        wrk::run(&self.wrk, self.folder.path(), address, load, prefix).await
    }

    /// Runs `wrk` against an address, where every request must be answered.
    pub(crate) async fn wrk(&mut self, address: SocketAddr, load: Load) -> Outcome<Answered> {
        let prefix = self.prefix();
        let answered = self.only_wrk(address, load, &prefix).await?;
        if answered.broken > 0 {
            self.fail(format!("{} requests went without an answer ({load:?})", answered.broken));
        }
        Ok(answered)
    }

    /// Takes note of what was promised, which must be everything that was asked for.
    pub(crate) fn accept(&mut self, store: &mut Store, load: Load, answered: &Answered) {
        let Answered { refused, broken, .. } = answered;
        if refused + broken > 0 {
            self.fail(format!("{refused} requests were refused, {broken} went without an answer ({load:?})"));
        }
        store.promised += answered.accepted * load.request.lines();
    }

    /// Asks a program for lines, and looks some of them up.
    pub(crate) async fn ask(&mut self, program: &Program, store: &mut Store, load: Load) -> Outcome<Answered> {
        let prefix = self.prefix();
        let answered = self.only_wrk(program.address(), load, &prefix).await?;
        self.accept(store, load, &answered);
        self.look_up(program.address(), &answered.samples).await?;
        Ok(answered)
    }

    /// Serves a store, asks for lines, and checks that they are there: what most measurements are.
    pub(crate) async fn allocate(&mut self, store: &mut Store, load: Load) -> Outcome<Answered> {
        let program = store.serve(self).await;
        let answered = self.ask(&program, store, load).await?;
        self.stop(program).await;
        self.check(store).await?;
        Ok(answered)
    }

    /// Stops a program the way its operator would.
    pub(crate) async fn stop(&mut self, program: Program) {
        let status = program.stop().await;
        if status != Some(0) {
            self.fail(format!("the program ended with {status:?}"));
        }
    }
}
