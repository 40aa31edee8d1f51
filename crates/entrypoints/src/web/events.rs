//! The event log as a feed: a consumer needs no broker.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use allocation_service_layer::access::{Access, Caller, Scope};
use allocation_service_layer::feed::{Address, Feed, Filter, Found, News};
use allocation_service_layer::ports::event_log::FeedEvent;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::WebState;
use super::access::{Asks, Routes};
use super::extract::QueryFields;
use super::json::Json;
use super::problem::Problem;
use crate::asked::fields::{Faults, Limit, Parse, Scalar, Topic, Wait};
use crate::asked::schemas;

/// How many events a stream holds at most for a reader that is slow.
const STREAMED: usize = 100;
/// How many events a stream passes over before it says how far it is.
const PASSED_OVER: u64 = 1_000;

pub(super) fn routes() -> Routes {
    Routes::new().needing(Scope::EventsRead, routes!(list_events)).needing(Scope::EventsRead, routes!(stream_events))
}

/// A page of the feed.
#[derive(Serialize, ToSchema)]
struct EventPage {
    /// Events in order of position; those of one SKU in the order they happened.
    events: Vec<PlacedEvent>,
    /// What to give as `after` next time. It moves on past events that were not wanted, too.
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

/// What a stream says at a time.
#[derive(ToSchema)]
#[expect(dead_code, reason = "tells the document, and is never made")]
struct StreamedEvent {
    /// The position.
    id: String,
    /// The type of the event; left out: only how far the stream is.
    event: Option<String>,
    /// The event as it was stored, as JSON.
    data: Option<String>,
}

/// Takes `sku` and `type`.
fn filter(query: &mut QueryFields, faults: &mut Faults) -> Filter {
    Filter {
        skus: query.take_all(faults, "sku").into_iter().collect(),
        topics: query.take_all(faults, "type").into_iter().map(|Topic(topic)| topic).collect(),
    }
}

/// What was found, unless something before it is gone.
fn kept(after: u64, found: Found) -> Result<Found, Problem> {
    if after < found.kept_after {
        let kept_after = found.kept_after;
        let detail = format!(
            "events up to position {kept_after} were archived; the first there is has position {}: give after={kept_after}",
            kept_after + 1
        );
        return Err(Problem::new(StatusCode::GONE, "feed-gone", "No longer kept", detail));
    }
    Ok(found)
}

/// Events after a position.
///
/// With `wait`, the answer comes as soon as there is an event that is wanted. One request looks at 10,000 events at most: an empty page whose
/// `next` has moved on says to ask again.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("after" = Option<schemas::Count>, Query, description = "`next` of the page before; 0, the beginning, unless said"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said"),
        ("wait" = Option<schemas::WaitSeconds>, Query, description = "For how many seconds to wait when there is nothing yet, 0 to 60; 0 unless said"),
        ("sku" = Option<Vec<schemas::Sku>>, Query, description = "Of these products only; may be given several times"),
        ("type" = Option<Vec<schemas::TopicName>>, Query, description = "Events of these types only, as `line_allocated` or `allocation.line_allocated.v1`; may be given several times")
    ),
    responses(
        (status = 200, description = "A page; empty when there is nothing new", body = EventPage),
        (status = 410, description = "Events after `after` were archived; the first position there is stands in `detail`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_events(State(state): State<WebState>, mut query: QueryFields) -> Result<Json<EventPage>, Problem> {
    let mut faults = Faults::default();
    let after = query.take::<u64>(&mut faults, "after").unwrap_or(0);
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    let Wait(wait) = query.take(&mut faults, "wait").unwrap_or_default();
    let filter = filter(&mut query, &mut faults);
    query.finish(&mut faults);
    faults.or(Some(()))?;
    let found = if wait.is_zero() {
        state.feed.find(after, limit, &filter).await?
    } else {
        let (_reader, _aside) = (state.gate.reader()?, state.gate.step_aside());
        state.feed.wait_for(after, limit, &filter, wait).await?
    };
    let Found { events, next, .. } = kept(after, found)?;
    let events = events
        .into_iter()
        .map(|event| Ok(PlacedEvent { position: event.position, event: RawValue::from_string(event.body)? }))
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|error| Problem::internal(format!("a stored event is not JSON: {error}")))?;
    Ok(Json(EventPage { events, next }))
}

/// Events as they come, as server-sent events.
///
/// `id` is the position, `event` the type, `data` the event as it was stored. A reader that comes back says in `Last-Event-ID` how far it was,
/// as browsers do. A comment each 15 seconds shows that it is alive.
/// It ends when the service stops, can't read on, or the credential is no longer valid; come back then.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events",
    params(
        ("after" = Option<schemas::Count>, Query, description = "The position to begin after; 0, the beginning, unless said"),
        ("Last-Event-ID" = Option<schemas::LastEventId>, Header, description = "The same, and goes before `after`"),
        ("sku" = Option<Vec<schemas::Sku>>, Query, description = "Of these products only; may be given several times"),
        ("type" = Option<Vec<schemas::TopicName>>, Query, description = "Events of these types only, as `line_allocated` or `allocation.line_allocated.v1`; may be given several times")
    ),
    responses(
        (status = 200, description = "Events without end, each like this", body = StreamedEvent, content_type = "text/event-stream"),
        (status = 410, description = "Events after this position were archived; the first that there is stands in `detail`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn stream_events(
    State(state): State<WebState>,
    Asks(caller): Asks,
    headers: HeaderMap,
    mut query: QueryFields,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    let after = query.take::<u64>(&mut faults, "after");
    let last = last_event_id(&mut faults, &headers);
    let filter = filter(&mut query, &mut faults);
    query.finish(&mut faults);
    faults.or(Some(()))?;
    let after = last.or(after).unwrap_or(0);
    let (place, heartbeat) = (state.gate.reader()?, state.limits.heartbeat);
    let feed = state.feed.clone();
    let news = feed.news();
    let found = kept(after, feed.find(after, STREAMED, &filter).await?)?;
    let reader = (state.access.clone(), caller);
    let page = VecDeque::new();
    let mut reading =
        Reading { feed, reader, news, filter, page, next: after, told: after, seen_all: false, _place: place };
    reading.turn_to(found);
    let events = stream::unfold(reading, async |reading| {
        let (event, reading) = reading.read_on().await?;
        Some((Ok::<_, Infallible>(event), reading))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(heartbeat)).into_response())
}

/// How far a reader was that comes back.
fn last_event_id(faults: &mut Faults, headers: &HeaderMap) -> Option<u64> {
    const NAME: &str = "Last-Event-ID";
    let text = headers.get(NAME)?.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return None;
    }
    u64::parse(&Scalar::Text(text)).map_err(|why| faults.add(NAME, why)).ok()
}

/// A stream and how far its reader is. The next page is read once the last one has been sent.
struct Reading {
    feed: Arc<Feed>,
    /// Who reads, and who says whether they still may.
    reader: (Access, Caller),
    news: News,
    filter: Filter,
    page: VecDeque<FeedEvent>,
    /// The last position that was looked at.
    next: u64,
    /// The last position that the reader was told of.
    told: u64,
    seen_all: bool,
    /// Its place among those who wait.
    _place: OwnedSemaphorePermit,
}

impl Reading {
    fn turn_to(&mut self, found: Found) {
        self.seen_all = found.events.is_empty() && !found.is_enough(self.next);
        self.next = found.next;
        self.page = found.events.into();
    }

    /// Whether the reader would be let in now: a key may have been revoked since.
    async fn may_read_on(&self) -> bool {
        let (access, caller) = &self.reader;
        access.still_admits(caller, Scope::EventsRead).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a stream of events ends, as its reader's credential can't be checked");
            false
        })
    }

    /// What to send next; none: the stream ends.
    async fn read_on(mut self) -> Option<(Event, Self)> {
        loop {
            if self.feed.is_stopping() {
                return None;
            }
            if let Some(event) = self.page.pop_front() {
                self.told = event.position;
                return Some((sent(&event), self));
            }
            if self.next - self.told >= PASSED_OVER {
                // A position without data is no event to a reader, and yet where it goes on when it comes back.
                self.told = self.next;
                return Some((Event::default().id(self.next.to_string()), self));
            }
            if self.seen_all {
                let (feed, next) = (self.feed.clone(), self.next);
                feed.unless_stopping(self.news.after(next)).await?;
            }
            if !self.may_read_on().await {
                return None;
            }
            match self.feed.find_news(self.next, STREAMED, &self.filter).await {
                Ok(found) if found.kept_after <= self.next => self.turn_to(found),
                Ok(_) => return None,
                Err(error) => {
                    tracing::warn!(%error, "a stream of events ends, as they can't be read");
                    return None;
                }
            }
        }
    }
}

/// A stored event as it is sent.
fn sent(stored: &FeedEvent) -> Event {
    let event = Event::default().id(stored.position.to_string()).data(&stored.body);
    match Address::of(stored) {
        Some(address) => event.event(address.r#type),
        None => event,
    }
}
