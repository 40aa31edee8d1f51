//! Requests, from their first line to the end of their body.

use std::sync::Arc;

use allocation_entrypoints::web::{self, RequestLimits, Surroundings, WebParts};
use allocation_service_layer::access::Access;
use allocation_service_layer::feed::Feed;
use allocation_service_layer::group_commit::{Lane, Limits};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::tracer::Traces;
use allocation_service_layer::webhooks::Hooks;
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::{FakeDatabase, FakeReceivers};
use allocation_testing::shorthand::{allocate, declare_batch};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// The longest answer that is looked at.
const LONGEST: usize = 16 * 1024 * 1024;

/// `METHOD /path`, headers, an empty line, the body. The rest of what HTTP has is read by a library.
fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes.windows(2).position(|two| two == b"\n\n")?;
    let mut head = bytes[..end].split(|&byte| byte == b'\n');
    let mut first = head.next()?.splitn(2, |&byte| byte == b' ');
    let mut request = Request::builder().method(first.next()?).uri(first.next()?);
    for line in head {
        let colon = line.iter().position(|&byte| byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    request.body(Body::from(bytes[end + 2..].to_vec())).ok()
}

/// The whole API over a store in memory with a little in it.
async fn api() -> Router {
    let clock = Arc::new(ManualClock::new());
    let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock: clock.clone(), keep: None };
    for verdict in fixture.handle([declare_batch("b", "LAMP", 10, None), allocate("o", &[("LAMP", 3)])]).await {
        verdict.expect("a batch and an order");
    }
    let bus = Arc::new(fixture.bus());
    let (lane, commands) = Lane::new(bus.clone(), Limits::default());
    tokio::spawn(lane.run());
    let store = Arc::new(fixture.store.clone());
    let (entropy, metrics, stop) = (Arc::new(CountingEntropy::default()), Metrics::new(), CancellationToken::new());
    let hooks = Hooks {
        store: store.clone(),
        log: store.clone(),
        sender: Arc::new(FakeReceivers::default()),
        clock: clock.clone(),
        entropy: entropy.clone(),
    };
    let parts = WebParts {
        commands: Arc::new(commands),
        reader: store.clone(),
        foresight: bus,
        feed: Arc::new(Feed::new(store, metrics.clone(), stop.clone())),
        hooks: Arc::new(hooks),
        clock,
        entropy,
        metrics,
        traces: Traces::default(),
        access: Access::Open,
        limits: RequestLimits::default(),
        leaving: stop,
        surroundings: Surroundings::default(),
    };
    web::router(parts.into())
}

/// Whatever is asked, the service does not fail, and what it says is JSON is.
pub(crate) fn read(bytes: &[u8]) {
    let Some(request) = request(bytes) else { return };
    crate::runtime().block_on(async {
        let answer = api().await.call(request).await.expect("a router always answers");
        let status = answer.status();
        let kind =
            answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        assert!(!status.is_server_error(), "{status}");
        // A stream of events has no end.
        if kind.contains("json") {
            let body = to_bytes(answer.into_body(), LONGEST).await.expect("its body");
            let said = serde_json::from_slice::<serde_json::Value>(&body);
            assert!(body.is_empty() || said.is_ok(), "{status} {kind}: {}", String::from_utf8_lossy(&body));
        }
    });
}
