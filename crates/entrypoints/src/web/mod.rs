//! The web entrypoint: HTTP requests in, commands to the bus, answers out.

mod access;
mod batches;
mod certificate;
mod document;
mod events;
mod extract;
mod floor;
mod gate;
mod headers;
mod json;
mod keyed;
mod movements;
mod operations;
mod orders;
mod original;
mod problem;
mod products;
mod quotes;
mod server;
mod told;
mod transfers;
mod webhooks;

use std::ops::Deref;
use std::sync::Arc;

use access::{Asks, Routes};
use allocation_domain::Command;
use allocation_service_layer::Message;
use allocation_service_layer::access::Access;
use allocation_service_layer::feed::Feed;
use allocation_service_layer::group_commit::Commands;
use allocation_service_layer::handlers::{BatchReply, OrderReply, Reply, Verdict};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::{Clock, Entropy};
use allocation_service_layer::ports::reader::{Foresight, Reader};
use allocation_service_layer::ports::tracer::Traces;
use allocation_service_layer::webhooks::Hooks;
use allocation_service_layer::wire::Cause;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::middleware;
pub use certificate::{BadCertificate, Certificate, CertificateFiles};
use gate::Gate;
pub use gate::RequestLimits;
pub use headers::{NoOrigin, Origin, Surroundings};
use keyed::Running;
use problem::Problem;
pub use server::{ConnectionLimits, Server};
use tokio_util::sync::CancellationToken;
use told::RequestId;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{OpenApi, openapi};
use utoipa_swagger_ui::SwaggerUi;

use crate::traceparent;

/// What the handlers of requests work with.
pub struct WebParts {
    /// The bus.
    pub commands: Arc<dyn Commands>,
    /// The read side.
    pub reader: Arc<dyn Reader>,
    /// What readers see of what is due.
    pub foresight: Arc<dyn Foresight>,
    /// The feed.
    pub feed: Arc<Feed>,
    /// The webhooks.
    pub hooks: Arc<Hooks>,
    /// Tells the day.
    pub clock: Arc<dyn Clock>,
    /// Names requests.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is told of each request as a span.
    pub traces: Traces,
    /// Lets callers in.
    pub access: Access,
    /// What requests may take up.
    pub limits: RequestLimits,
    /// Cancelled when the service is about to stop, so that no more requests are sent here.
    pub leaving: CancellationToken,
    /// Where it stands.
    pub surroundings: Surroundings,
}

/// [`WebParts`], shared by all requests.
#[derive(Clone)]
pub struct WebState {
    parts: Arc<WebParts>,
    gate: Arc<Gate>,
    running: Running,
}

impl From<WebParts> for WebState {
    fn from(parts: WebParts) -> Self {
        let gate = Arc::new(Gate::new(parts.limits, parts.metrics.clone()));
        Self { parts: Arc::new(parts), gate, running: Running::default() }
    }
}

impl Deref for WebState {
    type Target = WebParts;

    fn deref(&self) -> &WebParts {
        &self.parts
    }
}

impl WebState {
    /// Names a request whose caller has not.
    fn new_request_id(&self) -> RequestId {
        RequestId(self.entropy.uuid(self.clock.now()).to_string().into())
    }

    /// Has a command handled.
    async fn handle(&self, command: Command, cause: Cause) -> Result<Verdict, Problem> {
        self.commands.handle(Message::new(command, cause)).await.map_err(Problem::from)
    }

    /// Has a command about an order handled.
    async fn order(&self, message: Message) -> Result<OrderReply, Problem> {
        match self.commands.handle(message).await?? {
            Reply::Order(reply) => Ok(reply),
            _ => Err(Problem::other_reply()),
        }
    }

    /// Has a command about a batch handled.
    async fn batch(&self, message: Message) -> Result<BatchReply, Problem> {
        match self.commands.handle(message).await?? {
            Reply::Batch(reply) => Ok(reply),
            _ => Err(Problem::other_reply()),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "allocation",
        description = "Decides which stock fulfils which order, and keeps the promise.\n\nUnder `/v1`, whatever is not a \
            success is `application/problem+json` (RFC 9457) with a `type` of its own for each kind.\n\nEvery answer names its \
            request in `X-Request-Id`: as the caller did in the same header, or else by a name of its own. Events and log carry it.\n\nA query \
            parameter that is empty counts as not given; one that is not known is refused.",
        license(name = "MIT", identifier = "MIT")
    ),
    servers((url = "/")),
    tags(
        (name = "products", description = "Stock: products and their batches"),
        (name = "orders", description = "Promises: orders and their lines"),
        (name = "floor", description = "The warehouse floor: picking, shipping, returns, transfers"),
        (name = "events", description = "The event log as a feed"),
        (name = "webhooks", description = "Events sent to a URL"),
        (name = "original", description = "The routes of the Python original, as its clients speak them"),
        (name = "operations", description = "For those who run it")
    )
)]
struct ApiDoc;

fn documented(access: &Access, metrics: &Metrics) -> (Router<WebState>, openapi::OpenApi) {
    let routes = Routes::new()
        .merge(products::routes())
        .merge(movements::routes())
        .merge(batches::routes())
        .merge(orders::routes())
        .merge(quotes::routes())
        .merge(floor::routes())
        .merge(transfers::routes())
        .merge(events::routes())
        .merge(webhooks::routes())
        .merge(original::routes())
        .merge(operations::routes());
    let (served, mut document) = routes.mount(ApiDoc::openapi(), access, metrics).split_for_parts();
    document::complete(&mut document);
    (served, document)
}

/// The OpenAPI document, as JSON.
pub fn openapi() -> String {
    let (_, document) = documented(&Access::Open, &Metrics::new());
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Everything that is served.
pub fn router(state: WebState) -> Router {
    let (router, document) = documented(&state.access, &state.metrics);
    let cors = state.surroundings.cors();
    let router = router
        // No scope: it says what the source does, and holds no data; and a browser that opens a page has no credential to give.
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(CatchPanicLayer::custom(|_| Problem::internal("a handler panicked").into()))
        .layer(middleware::from_fn_with_state(state.clone(), told::pass))
        .with_state(state);
    // Outermost, so that refusals may be read by pages too.
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// Where a request's changes come from: `http` when nobody had to say who they are.
struct Caused(Cause);

impl FromRequestParts<WebState> for Caused {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Self::Rejection> {
        let Asks(caller) = Asks::from_request_parts(parts, state).await?;
        let given = parts.extensions.get::<RequestId>();
        let RequestId(correlation) = given.cloned().unwrap_or_else(|| state.new_request_id());
        let trace = parts.headers.get(told::TRACEPARENT).and_then(|text| text.to_str().ok());
        Ok(Self(Cause { correlation, actor: caller.actor, traceparent: trace.and_then(traceparent) }))
    }
}
