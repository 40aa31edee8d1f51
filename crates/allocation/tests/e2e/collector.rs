//! A collector of traces of the tests' own, on a free port, with TLS or without.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use allocation_testing::certificates::Pair;
use allocation_testing::eventually;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::serve::Listener;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A collector that remembers what it was sent.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

/// A span, as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    /// In nanoseconds.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) failed: bool,
    pub(crate) attributes: BTreeMap<String, String>,
    /// What is said of whoever sent it.
    pub(crate) resource: BTreeMap<String, String>,
}

impl Seen {
    /// What belongs to it says so.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self::at(format!("http://{}", listener.local_addr().unwrap()));
        let router = collector.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        collector
    }

    /// One that speaks TLS only, showing this pair.
    pub(crate) async fn start_with_tls(pair: &Pair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self::at(format!("https://{}", listener.local_addr().unwrap()));
        let (listener, router) = (TlsListener(listener, pair.server().into()), collector.router());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        collector
    }

    fn at(url: String) -> Self {
        Self { url, requests: Arc::default() }
    }

    fn router(&self) -> Router {
        Router::new().route("/v1/traces", post(take)).with_state(self.clone())
    }

    /// Headers and bodies, as they came.
    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.requests.lock().unwrap().clone()
    }

    /// All spans, in the order they came.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let mut spans = Vec::new();
        for (_, body) in self.requests() {
            for of_resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                let resource = texts(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
                for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                    spans.push(Seen {
                        name: span.name,
                        trace: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        began: span.start_time_unix_nano,
                        ended: span.end_time_unix_nano,
                        failed: span.status.is_some_and(|status| status.code == i32::from(StatusCode::Error)),
                        attributes: texts(span.attributes),
                        resource: resource.clone(),
                    });
                }
            }
        }
        spans
    }

    /// The spans of a trace that have this name, once there are so many.
    pub(crate) async fn named(&self, name: &str, trace: &str, count: usize) -> Vec<Seen> {
        let what = format!("{count} spans {name:?} of {trace}");
        eventually(&what, async || {
            let spans: Vec<_> =
                self.spans().into_iter().filter(|span| span.name == name && span.trace == trace).collect();
            (spans.len() >= count).then_some(spans)
        })
        .await
    }

    /// The only one.
    pub(crate) async fn one(&self, name: &str, trace: &str) -> Seen {
        let mut spans = self.named(name, trace, 1).await;
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) {
    collector.requests.lock().unwrap().push((headers, body));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

/// Takes those with whom TLS can be spoken.
struct TlsListener(TcpListener, TlsAcceptor);

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
