//! For those who run the service.

use std::time::Duration;

use allocation_service_layer::access::Scope;
use allocation_service_layer::ports::reader::Connections;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use utoipa_axum::routes;

use super::WebState;
use super::access::Routes;
use super::problem::Problem;

/// How long the store may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Routes {
    Routes::new()
        .open(routes!(healthz))
        .open(routes!(readyz))
        // What is counted is the log in sum, so whoever may read that may have it; and who scrapes it need not be an admin.
        .needing(Scope::EventsRead, routes!(metrics))
}

/// Whether the process is alive. Says nothing of the store.
#[utoipa::path(
    get, path = "/healthz", tag = "operations",
    responses((status = 200, description = "Alive", body = String, content_type = "text/plain"))
)]
async fn healthz() -> &'static str {
    "OK"
}

/// Whether requests should be sent here: the store can be reached, its migrations are done, and this copy is not about to stop.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "Ready", body = String, content_type = "text/plain"),
        (status = 500, description = "The schema is not what this program needs", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not ready", body = Problem, content_type = "application/problem+json")
    )
)]
async fn readyz(State(state): State<WebState>) -> Result<&'static str, Problem> {
    let not_ready = |why: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", why);
    if state.leaving.is_cancelled() {
        return Err(not_ready("the service is about to stop"));
    }
    match tokio::time::timeout(PATIENCE, state.reader.ready()).await {
        Ok(ready) => ready.map_err(|error| not_ready(&error.to_string()))?,
        Err(_) => return Err(not_ready("the store does not answer")),
    }
    Ok("OK")
}

/// What is counted, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Metrics in the OpenMetrics text format", body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(state): State<WebState>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let Connections { used, wanted } = state.reader.connections();
    let metrics = &state.metrics;
    metrics.store_connections_used.set(used.try_into().unwrap_or(i64::MAX));
    metrics.store_connections_wanted.set(wanted.try_into().unwrap_or(i64::MAX));
    ([(header::CONTENT_TYPE, content_type)], metrics.encode())
}
