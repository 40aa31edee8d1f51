//! Puts the parts together: the one place that knows which adapter is behind which port.

use std::num::NonZeroU32;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use allocation_adapters::oidc::OidcKeys;
use allocation_adapters::postgres::{PostgresDatabase, PostgresOptions};
use allocation_adapters::sqlite::SqliteDatabase;
use allocation_adapters::system::{SystemClock, SystemEntropy};
use allocation_adapters::tls::Trust;
use allocation_entrypoints::consumer::Consumer;
use allocation_entrypoints::files::Kind;
use allocation_service_layer::access::{Issuer, KeyRing, TokenRules, Tokens};
use allocation_service_layer::archive::Archivist;
use allocation_service_layer::group_commit::{Commands, Lane, LaneHandle, Limits};
use allocation_service_layer::handlers::Verdict;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::api_keys::ApiKeys;
use allocation_service_layer::ports::archive::Archive;
use allocation_service_layer::ports::clock::{Clock, Entropy};
use allocation_service_layer::ports::database::{self, StoreResult};
use allocation_service_layer::ports::dead_letters::DeadLetters;
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::housekeeping::Housekeeping;
use allocation_service_layer::ports::reader::{Foresight, Reader};
use allocation_service_layer::ports::tracer::Traces;
use allocation_service_layer::ports::webhooks::Webhooks;
use allocation_service_layer::{Message, MessageBus, Usual};
use tokio::sync::{oneshot, watch};

use crate::Failure;
use crate::config::{self, BadVariable, Config, Database, Oidc};
use crate::import::{self, Summary};

/// The machine's clock and dice, what is counted, and traces.
#[derive(Clone)]
pub(crate) struct Ambient {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
}

impl Ambient {
    fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            metrics: Metrics::new(),
            traces: Traces::default(),
        }
    }
}

/// The store that is configured.
#[derive(Clone)]
pub(crate) struct Store {
    kind: StoreKind,
    usual: Usual,
    most_holds: Option<u64>,
    pub(crate) ambient: Ambient,
}

#[derive(Clone)]
enum StoreKind {
    Sqlite(SqliteDatabase),
    Postgres(PostgresDatabase, OfLane),
}

/// The same database with a connection for a lane, which works in a runtime of its own.
#[derive(Clone)]
struct OfLane(PostgresDatabase);

/// A lane that is at work.
pub(crate) struct RunningLane {
    pub(crate) handle: LaneHandle,
    /// What readers see of what is due.
    pub(crate) foresight: Arc<dyn Foresight>,
    /// Is told of every commit.
    pub(crate) committed: watch::Receiver<()>,
    /// Answers when the lane has ended, which it does once every handle is gone.
    pub(crate) ended: oneshot::Receiver<()>,
}

impl Store {
    /// Opens the store that is configured.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        Self::open_at(config, &config.database)
    }

    /// The same for a command that would find nothing in a new one: a file that is not there is not made, nor is a schema.
    pub(crate) async fn open_known(config: &Config) -> Result<Self, Failure> {
        if let Database::Sqlite(file) = &config.database
            && !file.exists()
        {
            return Err(format!("there is no database at {}; DATABASE_URL says where it is", file.display()).into());
        }
        let store = Self::open(config)?;
        store.reader().ready().await?;
        Ok(store)
    }

    /// Opens another one in its stead.
    pub(crate) fn open_at(config: &Config, database: &Database) -> Result<Self, Failure> {
        let ambient = Ambient::new();
        let kind = match database {
            Database::Sqlite(file) => {
                let opened = SqliteDatabase::open(file, ambient.clock.clone());
                StoreKind::Sqlite(opened.map_err(|error| BadVariable::new("DATABASE_URL", error))?)
            }
            Database::Postgres(url) => {
                let open = |connections| {
                    let options = PostgresOptions {
                        connections,
                        lock_skus: config.lock_skus,
                        statements: config.statements,
                        trust: config.trust.clone(),
                        ..PostgresOptions::default()
                    };
                    let opened = PostgresDatabase::new(config::reveal(url), options);
                    opened.map_err(|error| BadVariable::new("DATABASE_URL", error))
                };
                StoreKind::Postgres(open(config.pool - 1)?, OfLane(open(1)?))
            }
        };
        Ok(Self { kind, usual: config.usual.clone(), most_holds: config.most_holds(), ambient })
    }

    /// Opens the store, and brings its schema up to date unless that is switched off.
    pub(crate) async fn open_migrated(config: &Config) -> Result<Self, Failure> {
        let store = Self::open(config)?;
        if config.migrate {
            store.migrate().await?;
        } else {
            store.reader().ready().await?;
        }
        Ok(store)
    }

    pub(crate) async fn migrate(&self) -> StoreResult<()> {
        match &self.kind {
            StoreKind::Sqlite(store) => store.migrate().await,
            StoreKind::Postgres(store, _) => store.migrate().await,
        }
    }

    pub(crate) fn reader(&self) -> Arc<dyn Reader> {
        match &self.kind {
            StoreKind::Sqlite(store) => Arc::new(store.clone()),
            StoreKind::Postgres(store, _) => Arc::new(store.clone()),
        }
    }

    pub(crate) fn log(&self) -> Arc<dyn EventLog> {
        match &self.kind {
            StoreKind::Sqlite(store) => Arc::new(store.clone()),
            StoreKind::Postgres(store, _) => Arc::new(store.clone()),
        }
    }

    pub(crate) fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        match &self.kind {
            StoreKind::Sqlite(store) => Arc::new(store.clone()),
            StoreKind::Postgres(store, _) => Arc::new(store.clone()),
        }
    }

    pub(crate) fn webhooks(&self) -> Arc<dyn Webhooks> {
        match &self.kind {
            StoreKind::Sqlite(store) => Arc::new(store.clone()),
            StoreKind::Postgres(store, _) => Arc::new(store.clone()),
        }
    }

    pub(crate) fn archive(&self) -> Arc<dyn Archive> {
        match &self.kind {
            StoreKind::Sqlite(store) => Arc::new(store.clone()),
            StoreKind::Postgres(store, _) => Arc::new(store.clone()),
        }
    }

    /// What takes old events out of the log.
    pub(crate) fn archivist(&self) -> Archivist {
        let Ambient { clock, entropy, metrics, .. } = self.ambient.clone();
        let holder = entropy.uuid(clock.now()).to_string();
        Archivist { log: self.log(), archive: self.archive(), clock, metrics, holder }
    }

    pub(crate) fn api_keys(&self) -> Arc<dyn ApiKeys> {
        match &self.kind {
            StoreKind::Sqlite(store) => Arc::new(store.clone()),
            StoreKind::Postgres(store, _) => Arc::new(store.clone()),
        }
    }

    /// What makes API keys.
    pub(crate) fn issuer(&self) -> Issuer {
        let Ambient { clock, entropy, .. } = self.ambient.clone();
        Issuer { store: self.api_keys(), clock, entropy }
    }

    /// What looks API keys up; each may be used so many times a second.
    pub(crate) fn key_ring(&self, pace: Option<NonZeroU32>) -> KeyRing {
        let ring = KeyRing::new(self.api_keys(), self.ambient.clock.clone());
        match pace {
            Some(a_second) => ring.with_pace(a_second),
            None => ring,
        }
    }

    /// What checks tokens of this issuer; each caller may use them so many times a second.
    pub(crate) fn tokens(&self, oidc: &Oidc, trust: &Trust, pace: Option<NonZeroU32>) -> Result<Tokens, Failure> {
        let Oidc { issuer, audience, algorithms } = oidc.clone();
        let rules = TokenRules { issuer: issuer.as_str().to_owned(), audience, algorithms };
        let source = OidcKeys::new(issuer, trust).map_err(|error| BadVariable::new("OIDC_ISSUER", error))?;
        let Ambient { clock, metrics, .. } = self.ambient.clone();
        let tokens = Tokens::new(rules, Arc::new(source), clock, metrics);
        Ok(match pace {
            Some(a_second) => tokens.with_pace(a_second),
            None => tokens,
        })
    }

    pub(crate) fn housekeeping(&self) -> Arc<dyn Housekeeping> {
        match &self.kind {
            StoreKind::Sqlite(store) => Arc::new(store.clone()),
            StoreKind::Postgres(store, _) => Arc::new(store.clone()),
        }
    }

    /// Whether events have their places in the feed only once a relay has given them.
    pub(crate) fn needs_numbering(&self) -> bool {
        matches!(self.kind, StoreKind::Postgres(..))
    }

    fn bus<D: database::Database>(&self, database: D) -> MessageBus<D> {
        let Ambient { clock, entropy, metrics, .. } = self.ambient.clone();
        MessageBus::new(database, clock, entropy, metrics)
            .with_usual(self.usual.clone())
            .with_most_holds(self.most_holds)
    }

    /// Starts the lane that all commands of this process go through, as a thread of its own.
    pub(crate) fn start_lane(&self, limits: Limits) -> Result<RunningLane, Failure> {
        match &self.kind {
            // SQLite works when called and keeps its thread waiting for the disk.
            StoreKind::Sqlite(store) => {
                let bus = Arc::new(self.bus(store.clone()));
                let runtime = tokio::runtime::Handle::current();
                self.run_lane(bus.clone(), bus, limits, move |lane| runtime.block_on(lane))
            }
            // A unit of work goes back and forth between us and the server. Among the tasks of all requests, each of its steps would wait for its turn: a runtime
            // of its own saves a seventh of what 256 connections can do.
            StoreKind::Postgres(store, OfLane(own)) => {
                let (bus, foresight) = (self.bus(own.clone()), self.bus(store.clone()));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                self.run_lane(Arc::new(bus), Arc::new(foresight), limits, move |lane| {
                    runtime.block_on(lane);
                    // A lookup of a name that hangs must not keep the process from ending.
                    runtime.shutdown_background();
                })
            }
        }
    }

    fn run_lane<D: database::Database>(
        &self,
        bus: Arc<MessageBus<D>>,
        foresight: Arc<dyn Foresight>,
        limits: Limits,
        run: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + 'static,
    ) -> Result<RunningLane, Failure> {
        let (end, ended) = oneshot::channel();
        let committed = bus.committed();
        let (lane, handle) = Lane::with_traces(bus, limits, self.ambient.traces.clone());
        std::thread::Builder::new().name("lane".into()).spawn(move || {
            run(Box::pin(lane.run()));
            let _ = end.send(());
        })?;
        Ok(RunningLane { handle, foresight, committed, ended })
    }

    /// What turns messages into commands for this bus.
    pub(crate) fn consumer(&self, commands: Arc<dyn Commands>) -> Consumer {
        let Ambient { clock, entropy, metrics, traces } = self.ambient.clone();
        let holder = entropy.uuid(clock.now()).to_string();
        let (reader, log, dead_letters) = (self.reader(), self.log(), self.dead_letters());
        Consumer { commands, reader, log, dead_letters, clock, entropy, metrics, traces, holder }
    }

    /// Has one command handled to its end, without a lane.
    pub(crate) async fn handle(&self, message: Message) -> StoreResult<Verdict> {
        match &self.kind {
            StoreKind::Sqlite(store) => self.bus(store.clone()).handle(message).await,
            StoreKind::Postgres(store, _) => self.bus(store.clone()).handle(message).await,
        }
    }

    /// Imports a file.
    pub(crate) async fn import(&self, kind: Kind, file: &Path) -> Result<Summary, Failure> {
        match &self.kind {
            StoreKind::Sqlite(store) => import::run(self.bus(store.clone()), &self.ambient, kind, file).await,
            StoreKind::Postgres(store, _) => import::run(self.bus(store.clone()), &self.ambient, kind, file).await,
        }
    }
}
