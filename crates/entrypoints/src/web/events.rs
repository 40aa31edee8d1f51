//! The event log as a feed: a consumer needs no broker.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::WebState;
use super::extract::QueryFields;
use super::problem::Problem;
use crate::asked::fields::{Faults, Limit};

pub(super) fn routes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(list_events))
}

/// A page of the feed.
#[derive(Serialize, ToSchema)]
struct EventPage {
    /// Events in order of position; those of one SKU in the order they happened.
    events: Vec<PlacedEvent>,
    /// What to give as `after` next time.
    next: u64,
}

/// An event with its place in the feed.
#[derive(Serialize, ToSchema)]
struct PlacedEvent {
    /// Its place; rises, and never changes.
    position: u64,
    /// The event, a `CloudEvents` 1.0 object, as it was stored.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
}

/// Events after a position.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "`next` of the page before; from the beginning unless said"),
        ("limit" = Option<u64>, Query, description = "How many, 1 to 1,000; 100 unless said")
    ),
    responses(
        (status = 200, description = "A page; empty when there is nothing new", body = EventPage),
        (status = 410, description = "`after` is older than what is kept", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_events(State(state): State<WebState>, mut query: QueryFields) -> Result<Json<EventPage>, Problem> {
    let mut faults = Faults::default();
    let after = query.take::<u64>(&mut faults, "after").unwrap_or(0);
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    query.finish(&mut faults);
    faults.or(Some(()))?;
    let page = state.log.read(after, limit).await?;
    if after < page.kept_after {
        let detail = format!("events up to {} are no longer kept", page.kept_after);
        return Err(Problem::new(StatusCode::GONE, "feed-gone", "No longer kept", detail));
    }
    let next = page.events.last().map_or(after, |last| last.position);
    let events = page
        .events
        .into_iter()
        .map(|event| Ok(PlacedEvent { position: event.position, event: RawValue::from_string(event.body)? }))
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|error| Problem::internal(format!("a stored event is not JSON: {error}")))?;
    Ok(Json(EventPage { events, next }))
}
