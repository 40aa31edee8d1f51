//! Traces as OpenTelemetry has them, sent to a collector: OTLP over HTTP, in protobuf.
//!
//! Spans are gathered and sent by a thread of the SDK's. What it can't send in time it drops; nobody waits for it, and nobody fails.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::tracer::{self, Beginning, Kind};
use async_trait::async_trait;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, redirect};
use tokio::runtime::Handle;
use url::Url;

use crate::tls::{self, Trust, describe};

/// How long a collector may take to answer, at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of an answer is read: it says what was not taken, and is short.
const MOST_READ: usize = 64 * 1024;
/// How often it is said that a collector takes nothing.
const COMPLAIN_EVERY: Duration = Duration::from_mins(5);
/// How long the last spans may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why traces can't be sent. None of it tells a secret.
#[derive(Debug, thiserror::Error)]
pub enum BadCollector {
    /// The endpoint won't do.
    #[error(
        "must be a URL such as http://localhost:4318, without a user, a password or a query; what is secret goes into OTEL_EXPORTER_OTLP_HEADERS"
    )]
    Endpoint,
    /// A header won't do.
    #[error("must be headers such as api-key=secret,tenant=ours, percent-encoded")]
    Headers,
    /// There is no client of HTTP.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    /// The SDK does not want it so.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

/// Where spans go.
#[derive(Clone)]
pub struct Collector {
    endpoint: Url,
    headers: HashMap<String, String>,
    service: String,
}

impl fmt::Debug for Collector {
    /// Without the values of its headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        let Self { endpoint, service, .. } = self;
        f.debug_struct("Collector")
            .field("endpoint", &endpoint.as_str())
            .field("headers", &headers)
            .field("service", service)
            .finish()
    }
}

impl Collector {
    /// The one at this endpoint (`http://host:port`, below which it has `v1/traces`), with headers as OpenTelemetry writes them (`a=b,c=d`), told of a service by name.
    ///
    /// # Errors
    /// When one of them is no such thing.
    pub fn new(endpoint: &str, headers: &str, service: &str) -> Result<Self, BadCollector> {
        let mut endpoint = Url::parse(endpoint).map_err(|_| BadCollector::Endpoint)?;
        let has_more = !endpoint.username().is_empty()
            || endpoint.password().is_some()
            || endpoint.query().is_some()
            || endpoint.fragment().is_some();
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() || has_more {
            return Err(BadCollector::Endpoint);
        }
        let path = format!("{}/v1/traces", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        let headers = headers.split(',').map(str::trim).filter(|header| !header.is_empty());
        let headers = headers.map(read_header).collect::<Option<_>>().ok_or(BadCollector::Headers)?;
        Ok(Self { endpoint, headers, service: service.to_owned() })
    }
}

/// `name=value`, the value percent-encoded.
fn read_header(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), percent_decode_str(value.trim()).decode_utf8().ok()?);
    HeaderName::try_from(name).ok()?;
    HeaderValue::try_from(&*value).ok()?;
    Some((name.to_owned(), value.into_owned()))
}

/// Tells a collector of spans.
pub struct OtlpTracer {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl OtlpTracer {
    /// Tells this one, whose certificate is believed as everybody's is. Must be called within a runtime, which does the sending.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(collector: Collector, trust: &Trust, clock: Arc<dyn Clock>) -> Result<Self, BadCollector> {
        let Collector { endpoint, headers, service } = collector;
        let client = tls::http_client(trust)?.redirect(redirect::Policy::none()).timeout(PATIENCE);
        // Without TLS nobody may stand in between.
        let client = if endpoint.scheme() == "http" { client.no_proxy() } else { client }.build()?;
        let place = endpoint.origin().ascii_serialization();
        let sender = Sender { client, runtime: Handle::current(), complaints: Arc::new(Complaints::new(place, clock)) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_endpoint(endpoint)
            .with_headers(headers)
            .with_timeout(PATIENCE)
            .build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version).with_service_name(service).build();
        // What is sampled it reads itself, from the environment.
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let tracer = provider.tracer("allocation");
        Ok(Self { provider, tracer })
    }

    /// Sends what was not sent yet, for some seconds at most.
    pub async fn end(&self) {
        let provider = self.provider.clone();
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FAREWELL)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans were not taken in time");
        }
    }
}

impl tracer::Tracer for OtlpTracer {
    fn begin(&self, beginning: Beginning<'_>) -> Option<Box<dyn tracer::Span>> {
        let Beginning { kind, name, parent, since } = beginning;
        let mut builder = self.tracer.span_builder(name.to_string()).with_kind(match kind {
            Kind::Server => SpanKind::Server,
            Kind::Consumer => SpanKind::Consumer,
            Kind::Internal => SpanKind::Internal,
            Kind::Producer => SpanKind::Producer,
            Kind::Client => SpanKind::Client,
        });
        builder.start_time = since.map(Into::into);
        let context = parent
            .and_then(context)
            .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let span = self.tracer.build_with_context(builder, &context);
        span.is_recording().then(|| Box::new(Recorded(span)) as Box<dyn tracer::Span>)
    }
}

/// What a `traceparent` says.
fn context(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    let context = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default());
    context.is_valid().then_some(context)
}

/// A span that will be sent. The SDK ends it when it is dropped.
struct Recorded(Span);

impl tracer::Span for Recorded {
    fn traceparent(&self) -> Arc<str> {
        let context = self.0.span_context();
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags()).into()
    }

    fn text(&mut self, name: &'static str, value: &str) {
        self.0.set_attribute(KeyValue::new(name, value.to_owned()));
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.set_attribute(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn fail(&mut self, why: &str) {
        self.0.set_status(Status::error(why.to_owned()));
    }
}

/// Sends what the SDK's thread hands over, on the runtime.
struct Sender {
    client: Client,
    runtime: Handle,
    complaints: Arc<Complaints>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // Its headers may be secret: then they are not printed.
        request.headers_mut().values_mut().for_each(|value| value.set_sensitive(true));
        let request = request.try_into()?;
        let (client, complaints) = (self.client.clone(), self.complaints.clone());
        let sent = self.runtime.spawn(async move {
            let sent = send(&client, request).await;
            complaints.note(&sent);
            sent
        });
        Ok(sent.await??)
    }
}

async fn send(client: &Client, request: reqwest::Request) -> Result<Response<Bytes>, reqwest::Error> {
    let mut answer = client.execute(request).await?;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > MOST_READ {
            body.clear();
            break;
        }
        body.extend_from_slice(&piece);
    }
    let mut response = Response::new(body.into());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

/// Says that a collector takes nothing, now and then, and that it does again.
struct Complaints {
    place: String,
    clock: Arc<dyn Clock>,
    /// When it was said last; none: all is well.
    said: Mutex<Option<Duration>>,
}

impl Complaints {
    fn new(place: String, clock: Arc<dyn Clock>) -> Self {
        Self { place, clock, said: Mutex::default() }
    }

    fn note(&self, sent: &Result<Response<Bytes>, reqwest::Error>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let why = match sent {
            Ok(answer) if answer.status().is_success() => {
                if said.take().is_some() {
                    tracing::info!(collector = self.place, "spans are taken again");
                }
                return;
            }
            Ok(answer) => format!("answered {}", answer.status()),
            Err(error) => describe(error),
        };
        let now = self.clock.monotonic();
        if said.is_none_or(|last| now.saturating_sub(last) >= COMPLAIN_EVERY) {
            *said = Some(now);
            tracing::warn!(collector = self.place, why, "spans can't be sent, and are lost meanwhile");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_known_by_its_url_and_told_no_secret_in_it() {
        for (endpoint, sent_to) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://otel.example/tenant/7/", "https://otel.example/tenant/7/v1/traces"),
        ] {
            assert_eq!(Collector::new(endpoint, "", "x").unwrap().endpoint.as_str(), sent_to);
        }
        for bad in [
            "",
            "localhost:4318",
            "grpc://h",
            "http://u:hunter2@h",
            "http://u@h",
            "http://h?k=hunter2",
            "http://h#hunter2",
        ] {
            let refused = Collector::new(bad, "", "x").unwrap_err().to_string();
            assert!(refused.contains("must be a URL") && !refused.contains("hunter2"), "{bad}: {refused}");
        }
    }

    #[test]
    fn headers_are_read_as_opentelemetry_writes_them_and_not_printed() {
        let collector = Collector::new("http://h", "api-key=hunter2, Authorization=Basic%20aDpi==,", "x").unwrap();
        assert_eq!(collector.headers["api-key"], "hunter2");
        assert_eq!(collector.headers["Authorization"], "Basic aDpi==");
        assert!(!format!("{collector:?}").contains("hunter2"));
        for bad in ["hunter2", "a b=hunter2", "a=hunter2%0a", "=hunter2"] {
            let refused = Collector::new("http://h", bad, "x").unwrap_err().to_string();
            assert!(refused.contains("must be headers") && !refused.contains("hunter2"), "{bad}: {refused}");
        }
    }

    #[test]
    fn what_is_no_trace_is_none() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(context(trace).unwrap().is_sampled());
        assert!(!context(&trace.replace("-01", "-00")).unwrap().is_sampled());
        for bad in ["", "00-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-x-y-z"] {
            assert!(context(bad).is_none(), "{bad}");
        }
    }
}
