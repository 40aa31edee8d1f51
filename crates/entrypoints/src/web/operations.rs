//! For those who run the service.

use allocation_service_layer::access::Scope;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa_axum::routes;

use super::WebState;
use super::access::Routes;
use super::problem::Problem;

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

/// Whether requests can be served: the store is reachable and its migrations are done.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "Ready", body = String, content_type = "text/plain"),
        (status = 500, description = "The schema is not what this program needs", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not ready", body = Problem, content_type = "application/problem+json")
    )
)]
async fn readyz(State(state): State<WebState>) -> Result<&'static str, Problem> {
    state.reader.ready().await.map_err(|error| {
        Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", error.to_string())
    })?;
    Ok("OK")
}

/// What is counted, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Metrics in the OpenMetrics text format", body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(state): State<WebState>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], state.metrics.encode())
}
