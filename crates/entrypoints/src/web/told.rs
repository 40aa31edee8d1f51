//! What is told of each request: it has a name, is timed and counted, and is a line in the log and a span of a trace.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use allocation_service_layer::access::Caller;
use allocation_service_layer::metrics::{RequestLabels, RouteLabels};
use allocation_service_layer::ports::tracer::{Kind, Span, Traces};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::{WebState, headers};
use crate::traceparent;

/// The header that names a request, on its way in and back.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header that says what trace a request belongs to.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest name that a caller may give.
const LONGEST: usize = 128;

/// The name of a request: the caller's own, or else one that we give. Its changes carry it.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

impl RequestId {
    /// The caller's own name for the request, if it is text of 1 to 128 characters.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get(X_REQUEST_ID)?.to_str().ok()?.trim();
        (1..=LONGEST).contains(&id.len()).then(|| Self(id.into()))
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Has a request come through the gate, and tells of it.
pub(super) async fn pass(State(state): State<WebState>, mut request: Request, next: Next) -> Response {
    let id = RequestId::given(request.headers()).unwrap_or_else(|| state.new_request_id());
    request.extensions_mut().insert(id.clone());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let (asked, uri) = (request.method().clone(), request.uri().clone());
    let span = begin_span(&state.traces, &route, &mut request);
    let started = state.clock.monotonic();
    let mut response = state.gate.pass(&route, request, next).await;
    let took = state.clock.monotonic().saturating_sub(started);
    log(&asked, uri.path(), &route, &id, &response, took);
    state.surroundings.tell(headers::is_page(uri.path()), response.headers_mut());
    if let Ok(id) = HeaderValue::try_from(&*id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    let status = response.status().as_u16();
    if let Some(span) = span {
        end_span(span, &route, &id, status);
    }
    let labels = RequestLabels { route: RouteLabels { method: method(&asked), route }, status };
    state.metrics.request_seconds.get_or_create(&labels.route).observe(took.as_secs_f64());
    state.metrics.requests.get_or_create(&labels).inc();
    response
}

/// Begins the request's span, in the trace of its caller if that is in one. What follows from the request follows from the span.
fn begin_span(traces: &Traces, route: &str, request: &mut Request) -> Option<Box<dyn Span>> {
    // Those who look every few seconds how we are would be most of what is told.
    if !traces.are_kept() || is_watched(route) {
        return None;
    }
    let name = method(request.method());
    let parent = request.headers().get(TRACEPARENT).and_then(|text| text.to_str().ok()).and_then(traceparent);
    let mut span = match route {
        "none" => traces.begin(Kind::Server, format_args!("{name}"), parent.as_deref()),
        route => traces.begin(Kind::Server, format_args!("{name} {route}"), parent.as_deref()),
    }?;
    span.text("http.request.method", name);
    if let Ok(text) = HeaderValue::try_from(&*span.traceparent()) {
        request.headers_mut().insert(TRACEPARENT, text);
    }
    Some(span)
}

fn end_span(mut span: Box<dyn Span>, route: &str, id: &str, status: u16) {
    span.text("http.route", route);
    span.text("allocation.request_id", id);
    span.number("http.response.status_code", status.into());
    if status >= 500 {
        span.fail("");
    }
}

/// Whether it is a route of those who watch over the service.
pub(super) fn is_watched(route: &str) -> bool {
    matches!(route, "/healthz" | "/readyz" | "/metrics")
}

/// Writes the request's line. Of the URL only the path: what is asked in it is the caller's.
fn log(method: &Method, path: &str, route: &str, id: &str, response: &Response, took: Duration) {
    let (status, seconds) = (response.status(), took.as_secs_f64());
    // Who, once they have been let in.
    let actor = response.extensions().get::<Caller>().map(|caller| &*caller.actor);
    let number = status.as_u16();
    // Being busy is no defect, and there may be very many of these.
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(target: "request", %method, path, route, status = number, seconds, request_id = id, actor);
    } else {
        tracing::info!(target: "request", %method, path, route, status = number, seconds, request_id = id, actor);
    }
}

/// The method as a label: callers may make up any number of others.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
