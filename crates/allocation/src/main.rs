//! The program and nothing else: reads the configuration, puts the parts together, and runs what it is told to.

mod api_keys;
mod archive;
mod backup;
mod books;
mod bootstrap;
mod config;
mod dead_letters;
mod health;
mod import;
mod life;
mod replay;
mod serve;
mod sinks;
mod telemetry;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

use allocation_adapters::sqlite::Existing;
use allocation_domain::commands::WhenShort;
use allocation_entrypoints::files::Kind;
use clap::{Parser, Subcommand};

use crate::bootstrap::Store;
use crate::config::{Config, Database, Parts};
use crate::replay::{Bound, Range};
use crate::when::When;

/// Threads of many connections allocate at the same time; this allocator keeps them out of each other's way.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Decides which stock fulfils which order, and keeps the promise.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Configuration comes from the environment: `allocation config` lists all of it."
)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Serve the web API, relay events and consume messages, each unless switched off
    Serve,
    /// Consume messages from the broker, and nothing else
    Consume,
    /// Relay events to broker and mail, and nothing else
    Relay,
    /// Bring the store's schema up to date
    Migrate,
    /// Import a CSV file, strictly in its order; `-` reads standard input
    #[command(subcommand)]
    Import(Import),
    /// Look after the event log
    #[command(subcommand)]
    Events(Events),
    /// Check that the tables say what the event log says; exit status 1 if they differ
    Verify,
    /// Show where the tables differ from the event log, and mend them if told to; exit status 1 if they still differ
    Repair {
        /// Mend them, and note in the log that it was done
        #[arg(long)]
        apply: bool,
    },
    /// Copy the SQLite database to a file, while the service goes on, and check the copy; exit status 1 if its books differ
    Backup {
        /// The file
        file: PathBuf,
        /// Put it in the place of a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Put a backup where the SQLite database is to be, and check it; exit status 1 if its books differ
    Restore {
        /// The backup
        file: PathBuf,
        /// Put it in the place of the database that is there, which nobody may have open
        #[arg(long)]
        force: bool,
    },
    /// Messages that could not be used
    #[command(subcommand)]
    DeadLetters(dead_letters::What),
    /// API keys: who may use the web API
    #[command(subcommand)]
    Keys(api_keys::What),
    /// Print every variable with its meaning, default and current value
    Config,
    /// Ask a running service whether it is ready; exit status 1 if it is not
    Health,
}

#[derive(Subcommand)]
enum Events {
    /// Publish a range of events again, in order, to a broker that has lost them; consumers that have had them get them twice
    Replay {
        /// The sink, as metrics call it: redis, redis-stream, nats, rabbitmq
        #[arg(long)]
        sink: String,
        /// The first event: its position, or an instant such as 2011-01-02T03:04:05Z
        #[arg(long)]
        from: Bound,
        /// The last event: its position, or an instant
        #[arg(long)]
        to: Bound,
    },
    /// Take old events that every sink has seen out of the log; the books are kept
    Archive {
        /// Those before this: so many days ago, or an instant such as 2011-01-02T03:04:05Z
        #[arg(long)]
        before: When,
        /// Append them to this file first, a line of JSON for each
        #[arg(long)]
        to: Option<PathBuf>,
    },
    /// Show how far each sink and webhook has seen the log
    Sinks,
    /// Forget a sink that is no more, so that it keeps nothing in the log
    Forget {
        /// The sink, as `events sinks` shows it
        #[arg(long)]
        sink: String,
    },
}

#[derive(Subcommand)]
enum Import {
    /// Batches: columns `ref,sku,qty`, and `eta`, `expires_on`, `location` if there are any
    Batches {
        /// The file
        file: PathBuf,
    },
    /// Orders: columns `order_id,sku,qty`; adjacent rows of one order form an order
    Orders {
        /// What to do with an order that there is not enough for: promise nothing, what there is, or what there is and let the rest wait
        #[arg(long, value_enum, default_value = "reject")]
        when_short: Policy,
        /// The file
        file: PathBuf,
    },
}

/// What to do with an order that there is not enough for.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Policy {
    Reject,
    Partial,
    Backorder,
}

impl From<Policy> for WhenShort {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Reject => Self::Reject,
            Policy::Partial => Self::Partial,
            Policy::Backorder => Self::Backorder,
        }
    }
}

/// Something that keeps the program from doing its work, in words for whoever started it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Exit status of a program that failed; 1 is for what it found.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("allocation: {failure}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: &Subcommands) -> Result<ExitCode, Failure> {
    let config = Config::from_environment()?;
    if matches!(command, Subcommands::Config) {
        print!("{}", config.describe());
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::start(&config)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if matches!(config.database, Database::Sqlite(_)) {
        // The lane keeps a core busy where SQLite works in its thread: one worker less saves 5 % at full load.
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        runtime.worker_threads((cores - 1).max(1));
    }
    let runtime = runtime.enable_all().build()?;
    let code = runtime.block_on(run_async(command, &config));
    // A lookup or a read that hangs must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

/// What becomes of a file that is there already.
fn existing(force: bool) -> Existing {
    if force { Existing::Replaced } else { Existing::Kept }
}

async fn run_async(command: &Subcommands, config: &Config) -> Result<ExitCode, Failure> {
    match command {
        Subcommands::Config => unreachable!("answered without a runtime"),
        Subcommands::Serve => serve::run(config, config.parts).await?,
        Subcommands::Consume => serve::run(config, Parts::only_consumer(config)?).await?,
        Subcommands::Relay => serve::run(config, Parts::ONLY_RELAY).await?,
        Subcommands::Migrate => Store::open(config)?.migrate().await?,
        Subcommands::Import(what) => {
            let store = Store::open_migrated(config).await?;
            let (kind, file) = match what {
                Import::Batches { file } => (Kind::Batches, file),
                Import::Orders { when_short, file } => (Kind::Orders((*when_short).into()), file),
            };
            let summary = store.import(kind, file).await?;
            println!("{summary}");
            return Ok(ExitCode::from(u8::from(summary.bad_rows > 0)));
        }
        Subcommands::Events(Events::Replay { sink, from, to }) => {
            let published = replay::run(config, sink, Range { from: *from, to: *to }).await?;
            println!("published {published} events again");
        }
        Subcommands::Events(Events::Archive { before, to }) => {
            println!("{}", archive::run(config, *before, to.as_deref()).await?);
        }
        Subcommands::Events(Events::Sinks) => sinks::show(config).await?,
        Subcommands::Events(Events::Forget { sink }) => sinks::forget(config, sink).await?,
        Subcommands::Verify => return books::verify(config).await,
        Subcommands::Repair { apply } => return books::repair(config, *apply).await,
        Subcommands::Backup { file, force } => return backup::backup(config, file, existing(*force)).await,
        Subcommands::Restore { file, force } => return backup::restore(config, file, existing(*force)).await,
        Subcommands::DeadLetters(what) => return dead_letters::run(config, what).await,
        Subcommands::Keys(what) => return api_keys::run(config, what).await,
        Subcommands::Health => return Ok(ExitCode::from(u8::from(!health::ready(config).await?))),
    }
    Ok(ExitCode::SUCCESS)
}
