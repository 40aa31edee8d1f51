//! Webhooks: who is told of events by a request of ours.

use std::collections::BTreeSet;

use allocation_domain::Sku;
use allocation_service_layer::access::Scope;
use allocation_service_layer::feed::Filter;
use allocation_service_layer::ports::webhooks::{Paused, WebhookId};
use allocation_service_layer::sinks::Begin;
use allocation_service_layer::webhooks::{Changes, FilterChanges, Refused, Status};
use allocation_service_layer::wire::instant_text;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::WebState;
use super::access::Routes;
use super::extract::Body;
use super::json::Json;
use super::problem::{BodyProblems, Problem};
use crate::asked::fields::{Faults, Field, ListField, Names, Parse, Scalar, Topic, Unknown};
use crate::asked::schemas;

/// The most products one webhook may name.
const MOST_SKUS: usize = 1_000;

pub(super) fn routes() -> Routes {
    Routes::new()
        // Who may say where events are sent has them all, those that read too: a URL often has a secret in it.
        .needing(Scope::Admin, routes!(post_webhook, list_webhooks))
        .needing(Scope::Admin, routes!(get_webhook, patch_webhook, delete_webhook))
        .needing(Scope::Admin, routes!(test_webhook))
}

/// A URL as it was given; whether requests may go there is for their sender to say.
struct UrlText(String);

impl Parse for UrlText {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Text(text) => Ok(Self((*text).to_owned())),
            _ => Err("must be a text".into()),
        }
    }
}

/// Where a new webhook begins.
struct From(Begin);

impl Parse for From {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let named = |begin: &Begin| matches!(value, Scalar::Text(text) if *text == begin.name());
        Begin::ALL.into_iter().find(named).map(Self).ok_or_else(|| "must be beginning or now".into())
    }
}

/// Whether a webhook is told of events.
struct Active(bool);

impl Parse for Active {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Text("active") => Ok(Self(true)),
            Scalar::Text("paused") => Ok(Self(false)),
            _ => Err("must be active or paused".into()),
        }
    }
}

impl Parse for WebhookId {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let id = if let Scalar::Text(text) = value { text.parse().ok() } else { None };
        id.ok_or_else(|| "must be the id of a webhook".into())
    }
}

/// A new webhook.
#[derive(Deserialize, ToSchema)]
struct NewWebhook {
    /// Where requests go: HTTPS, and a public address unless the service is told otherwise.
    #[serde(default)]
    #[schema(value_type = String, required, format = "uri", max_length = 2048, example = "https://example.com/hooks")]
    url: Field<UrlText>,
    /// Events of these types only, such as `line_allocated`; null or none: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<schemas::TopicName>>)]
    types: ListField<Topic>,
    /// Of these products only, 1,000 at most; null or none: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<schemas::Sku>>, max_items = 1000)]
    skus: ListField<Sku>,
    /// Whether it is told of what has been, `beginning`, or of what comes, `now`.
    #[serde(default)]
    #[schema(value_type = schemas::BeginName, default = "now")]
    from: Field<From>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What of a webhook is to be another way.
#[derive(Deserialize, ToSchema)]
struct WebhookChanges {
    /// Where requests go.
    #[serde(default)]
    #[schema(value_type = String, format = "uri", max_length = 2048)]
    url: Field<UrlText>,
    /// Events of these types only; null or none: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<schemas::TopicName>>)]
    types: ListField<Topic>,
    /// Of these products only, 1,000 at most; null or none: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<schemas::Sku>>, max_items = 1000)]
    skus: ListField<Sku>,
    /// `active` or `paused`. Made active it goes on where it was, at once.
    #[serde(default)]
    #[schema(value_type = schemas::ActiveName)]
    state: Field<Active>,
    /// Gives it another secret. For 24 hours requests are signed with the one before as well.
    #[serde(default)]
    #[schema(value_type = bool)]
    rotate_secret: Field<bool>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// A webhook and how far it is.
#[derive(Serialize, ToSchema)]
struct Webhook {
    /// Its name.
    id: String,
    /// Where requests go.
    url: String,
    /// Types of events that it is told of; none: all.
    types: Vec<&'static str>,
    /// Products of which it is told; none: all.
    skus: Vec<String>,
    /// When it was registered.
    created_at: String,
    /// `active` or `paused`.
    state: &'static str,
    /// Why it is paused: `asked`, `gone` (the receiver answered 410) or `failing` (for a day).
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The last position that it has seen or passed over.
    position: u64,
    /// How many events come after that.
    lag: u64,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<LastFailure>,
    /// When the next event is tried again, if one could not be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<String>,
    /// What signs its requests; shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A delivery that failed.
#[derive(Serialize, ToSchema)]
struct LastFailure {
    /// When.
    at: String,
    /// Why.
    detail: String,
}

/// All webhooks.
#[derive(Serialize, ToSchema)]
struct WebhookList {
    /// In order of registration.
    webhooks: Vec<Webhook>,
}

/// What has come of a test.
#[derive(Serialize, ToSchema)]
struct TestResult {
    /// Whether the receiver took it.
    delivered: bool,
    /// What it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

fn webhook(status: Status) -> Webhook {
    let Status { hook, position, lag } = status;
    let failure = hook.last_failure;
    Webhook {
        id: hook.id.to_string(),
        url: hook.url,
        types: hook.filter.topics.into_iter().collect(),
        skus: hook.filter.skus.iter().map(Sku::to_string).collect(),
        created_at: instant_text(hook.created_at),
        state: if hook.paused.is_some() { "paused" } else { "active" },
        reason: hook.paused.map(Paused::name),
        position,
        lag,
        last_failure: failure.map(|failure| LastFailure { at: instant_text(failure.at), detail: failure.why }),
        next_attempt: hook.trouble.filter(|_| hook.paused.is_none()).map(|trouble| instant_text(trouble.next)),
        secret: None,
    }
}

fn with_secret(status: Status) -> Webhook {
    let secret = status.hook.secret.reveal();
    Webhook { secret: Some(secret), ..webhook(status) }
}

/// A list of a body as a set; null is an empty one.
fn set<T: Parse, U: Ord>(
    faults: &mut Faults,
    name: &str,
    most: usize,
    list: ListField<T>,
    make: impl Fn(T) -> U,
) -> Option<BTreeSet<U>> {
    match list {
        ListField::Missing => None,
        ListField::Null(()) => Some(BTreeSet::new()),
        ListField::Given(given) if given.len() > most => {
            faults.add(name, format!("must have {most} items at most"));
            None
        }
        ListField::Given(given) => {
            let items = given.into_iter().enumerate();
            let read = items.filter_map(|(at, item)| faults.required(format!("{name}[{at}]"), item)).map(make);
            Some(read.collect())
        }
        ListField::Bad(_) => {
            faults.add(name, "must be a list of texts, or null");
            None
        }
    }
}

fn topics(faults: &mut Faults, list: ListField<Topic>) -> Option<BTreeSet<&'static str>> {
    set(faults, "types", MOST_SKUS, list, |Topic(topic)| topic)
}

fn skus(faults: &mut Faults, list: ListField<Sku>) -> Option<BTreeSet<Sku>> {
    set(faults, "skus", MOST_SKUS, list, |sku| sku)
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::BadUrl(why) => {
            let mut faults = Faults::default();
            faults.add("url", why);
            faults.or(None::<()>).expect_err("there is a fault").into()
        }
        Refused::TooMany => {
            Problem::new(StatusCode::CONFLICT, "too-many-webhooks", "Too many webhooks", refused.to_string())
        }
    }
}

fn unknown(id: WebhookId) -> Problem {
    Problem::unknown(format!("there is no webhook {id}"))
}

/// The webhook that the path names.
fn named(path: &Names, faults: &mut Faults) -> Option<WebhookId> {
    path.get(faults, "id")
}

/// Registers a URL that events are sent to.
///
/// Each event is sent as a POST of its JSON, at least once, those of one product in order, and signed as Standard Webhooks says: `webhook-id`,
/// `webhook-timestamp`, `webhook-signature`. An answer of 2xx takes it; anything else is tried again, after 5 seconds at first and an hour at last.
/// The secret is in this answer and in no other.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "webhooks",
    request_body = NewWebhook,
    responses(
        (status = 201, description = "Registered", body = Webhook),
        (status = 409, description = "There are too many", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values, or a URL that nothing may be sent to", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn post_webhook(
    State(state): State<WebState>,
    Body(body): Body<NewWebhook>,
) -> Result<(StatusCode, Json<Webhook>), Problem> {
    let mut faults = Faults::default();
    let url = faults.required("url", body.url);
    let topics = topics(&mut faults, body.types).unwrap_or_default();
    let skus = skus(&mut faults, body.skus).unwrap_or_default();
    let from = faults.optional("from", body.from);
    faults.unknown("", &body.unknown);
    let UrlText(url) = faults.or(url)?;
    let From(begin) = from.unwrap_or(From(Begin::WithNext));
    let status = state.hooks.register(&url, Filter { skus, topics }, begin).await?.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(with_secret(status))))
}

/// All webhooks.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks",
    responses(
        (status = 200, description = "All of them", body = WebhookList),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_webhooks(State(state): State<WebState>) -> Result<Json<WebhookList>, Problem> {
    let webhooks = state.hooks.list().await?.into_iter().map(webhook).collect();
    Ok(Json(WebhookList { webhooks }))
}

/// A webhook and how far it is.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = schemas::WebhookId, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook", body = Webhook),
        (status = 404, description = "Unknown", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn get_webhook(State(state): State<WebState>, path: Names) -> Result<Json<Webhook>, Problem> {
    let mut faults = Faults::default();
    let id = named(&path, &mut faults);
    let id = faults.or(id)?;
    let status = state.hooks.get(id).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(webhook(status)))
}

/// Changes a webhook. The answer has its secret only if it was given another.
#[utoipa::path(
    patch, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = schemas::WebhookId, Path, description = "The webhook")),
    request_body = WebhookChanges,
    responses(
        (status = 200, description = "Changed", body = Webhook),
        (status = 404, description = "Unknown", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values, or a URL that nothing may be sent to", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn patch_webhook(
    State(state): State<WebState>,
    path: Names,
    Body(body): Body<WebhookChanges>,
) -> Result<Json<Webhook>, Problem> {
    let mut faults = Faults::default();
    let id = named(&path, &mut faults);
    let url = faults.optional("url", body.url).map(|UrlText(url)| url);
    let topics = topics(&mut faults, body.types);
    let skus = skus(&mut faults, body.skus);
    let active = faults.optional("state", body.state).map(|Active(active)| active);
    let rotate_secret = faults.optional("rotate_secret", body.rotate_secret).unwrap_or(false);
    faults.unknown("", &body.unknown);
    let id = faults.or(id)?;
    let changes = Changes { url, filter: FilterChanges { skus, topics }, active, rotate_secret };
    let status = state.hooks.change(id, changes).await?.ok_or_else(|| unknown(id))?.map_err(refused)?;
    Ok(Json(if rotate_secret { with_secret(status) } else { webhook(status) }))
}

/// Forgets a webhook. At most what is on its way is still sent.
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = schemas::WebhookId, Path, description = "The webhook")),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 404, description = "Unknown", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn delete_webhook(State(state): State<WebState>, path: Names) -> Result<StatusCode, Problem> {
    let mut faults = Faults::default();
    let id = named(&path, &mut faults);
    let id = faults.or(id)?;
    if state.hooks.remove(id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(id)) }
}

/// Sends a webhook an event of type `allocation.webhook_test.v1`, once, and answers with what came of it.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/test", tag = "webhooks",
    params(("id" = schemas::WebhookId, Path, description = "The webhook")),
    responses(
        (status = 200, description = "It was sent", body = TestResult),
        (status = 404, description = "Unknown", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn test_webhook(State(state): State<WebState>, path: Names) -> Result<Json<TestResult>, Problem> {
    let mut faults = Faults::default();
    let id = named(&path, &mut faults);
    let id = faults.or(id)?;
    Ok(Json(match state.hooks.test(id).await?.ok_or_else(|| unknown(id))? {
        Ok(answer) => {
            TestResult { delivered: (200..300).contains(&answer.status), status: Some(answer.status), detail: None }
        }
        Err(error) => TestResult { delivered: false, status: None, detail: Some(error.to_string()) },
    }))
}
