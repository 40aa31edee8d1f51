//! C: the same web stack answering the same requests without a store. What a request costs before any of our work.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use allocation_adapters::sqlite::SqliteDatabase;
use allocation_adapters::system::{SystemClock, SystemEntropy};
use allocation_adapters::tls::Trust;
use allocation_adapters::webhook::{HttpWebhooks, Reach};
use allocation_domain::{AcceptedLine, BatchRef, Calendar, Command, Part, Product, Sku};
use allocation_entrypoints::web::{self, ConnectionLimits, RequestLimits, Server, Surroundings, WebParts};
use allocation_service_layer::access::Access;
use allocation_service_layer::feed::Feed;
use allocation_service_layer::group_commit::{Commands, HandlerError};
use allocation_service_layer::handlers::{OrderReply, Reply, Verdict};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::reader::Foresight;
use allocation_service_layer::ports::tracer::Traces;
use allocation_service_layer::views::LineView;
use allocation_service_layer::webhooks::Hooks;
use allocation_service_layer::{Message, Usual};
use allocation_testing::program::Program;
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::Bench;
use crate::load::{Request, Skus, batch};
use crate::{Outcome, hidden};

/// The name of its figure.
pub(crate) fn figure(request: Request, connections: u64) -> String {
    format!("C: web stack alone, {}, {connections} connections", request.name())
}

/// Measures it.
pub(crate) async fn measure(bench: &mut Bench, request: Request, connections: u64) -> Outcome<()> {
    let rate = rate(bench, request, connections).await?;
    bench.figures.add(&figure(request, connections), "requests/s", rate);
    Ok(())
}

/// Requests a second.
pub(crate) async fn rate(bench: &mut Bench, request: Request, connections: u64) -> Outcome<f64> {
    let program = start(bench).await?;
    let load = bench.load(request, Skus::One, connections);
    let answered = bench.wrk(program.address(), load).await?;
    program.kill().await;
    if answered.refused > 0 {
        bench.fail(format!("the web stack alone refused {} requests ({load:?})", answered.refused));
    }
    Ok(answered.rate())
}

/// Starts the web stack in a process of its own.
async fn start(bench: &Bench) -> Outcome<Program> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg(hidden::WEB_STACK).arg(bench.folder().join("web-stack.db"));
    Ok(Program::spawn(command.stdin(Stdio::null()).kill_on_drop(true)).await)
}

/// The web stack itself, put together as the program does it.
pub(crate) fn main(file: &Path) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = SqliteDatabase::open(file, clock.clone())?;
        store.migrate().await?;
        let log = Arc::new(store.clone());
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let state = WebParts {
            commands: Arc::new(Canned { batch: BatchRef::new(batch(1))?, clock: clock.clone() }),
            reader: Arc::new(store.clone()),
            foresight: Arc::new(Nothing(Usual::default())),
            feed: Arc::new(Feed::new(log.clone(), metrics.clone(), stop.clone())),
            hooks: Arc::new(Hooks {
                store: log.clone(),
                log,
                sender: Arc::new(HttpWebhooks::new(Reach::PUBLIC, Duration::from_secs(15), &Trust::default())?),
                clock: clock.clone(),
                entropy: Arc::new(SystemEntropy),
            }),
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            metrics: metrics.clone(),
            traces: Traces::default(),
            access: Access::Open,
            limits: RequestLimits::default(),
            leaving: stop.clone(),
            surroundings: Surroundings::default(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        eprintln!("listening address={}", listener.local_addr()?);
        let server = Server::new(web::router(state.into()), ConnectionLimits::default(), clock, metrics);
        server.run(listener, stop).await;
        Ok(())
    })
}

/// Promises everything, at once, and remembers nothing.
struct Canned {
    batch: BatchRef,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Commands for Canned {
    async fn handle(&self, message: Message) -> Result<Verdict, HandlerError> {
        let Command::Allocate(command) = message.command else { return Ok(Ok(Reply::Done)) };
        let calendar = Calendar::new(self.clock.now().date());
        let lines = command.lines().iter().map(|line| {
            let mut accepted = AcceptedLine::new(line.key.clone(), line.qty, 1, line.terms.clone());
            accepted.parts.push(Part { accepted: 1, batch: Some(self.batch.clone()), qty: line.qty, locked: false });
            LineView::new(&line.sku, &accepted, |_| None, &calendar)
        });
        Ok(Ok(Reply::Order(OrderReply { created: true, lines: lines.collect() })))
    }
}

/// Nothing is ever due.
struct Nothing(Usual);

#[async_trait]
impl Foresight for Nothing {
    async fn foresee(&self, _: &[Sku]) -> StoreResult<Vec<Product>> {
        Ok(Vec::new())
    }

    fn usual(&self) -> &Usual {
        &self.0
    }
}
