//! Webhooks: who is told of events by a request of ours, and how they are kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::database::StoreResult;
use super::event_publisher::DeliveryError;
use crate::feed::Filter;
use crate::webhooks::Secret;

/// Names a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(pub Uuid);

impl WebhookId {
    /// Under which name its progress is kept.
    pub fn sink(self) -> String {
        format!("webhook:{self}")
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WebhookId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Why a webhook is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// Somebody wanted it so.
    Asked,
    /// The receiver answered that it is gone.
    Gone,
    /// The receiver has failed for too long.
    Failing,
}

impl Paused {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Asked, Self::Gone, Self::Failing];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

/// Deliveries that have failed without a success since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// When it began.
    pub since: OffsetDateTime,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next: OffsetDateTime,
}

/// A delivery that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: OffsetDateTime,
    /// Why.
    pub why: String,
}

/// Somebody who is told of events by a request of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub id: WebhookId,
    /// How often it was changed.
    pub revision: u64,
    /// Where requests go.
    pub url: String,
    /// Which events it is told of.
    pub filter: Filter,
    /// What signs them.
    pub secret: Secret,
    /// What signed them before, and signs them too until then.
    pub old_secret: Option<(Secret, OffsetDateTime)>,
    /// When it was registered.
    pub created_at: OffsetDateTime,
    /// Why it is told nothing; none: it is active.
    pub paused: Option<Paused>,
    /// What is going wrong at the moment.
    pub trouble: Option<Trouble>,
    /// What went wrong last.
    pub last_failure: Option<Failure>,
}

/// Keeps webhooks.
#[async_trait]
pub trait Webhooks: Send + Sync + 'static {
    /// Keeps a new one, which has seen the feed up to `position`.
    async fn add(&self, hook: &Webhook, position: u64) -> StoreResult<()>;

    /// All of them, in order of registration.
    async fn hooks(&self) -> StoreResult<Vec<Webhook>>;

    /// One of them.
    async fn hook(&self, id: WebhookId) -> StoreResult<Option<Webhook>>;

    /// Puts another form in the place of the one with the same revision, and raises that. `false` when somebody else has changed or removed it.
    async fn change(&self, hook: &Webhook) -> StoreResult<bool>;

    /// Forgets one, and how far it was. `false` when there was none.
    async fn remove(&self, id: WebhookId) -> StoreResult<bool>;
}

/// A signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPost {
    /// Where it goes.
    pub url: String,
    /// `webhook-id`: the event's.
    pub id: String,
    /// `webhook-timestamp`: seconds of Unix time.
    pub timestamp: i64,
    /// `webhook-signature`: one for each secret.
    pub signature: String,
    /// The trace that the request belongs to.
    pub traceparent: Option<Arc<str>>,
    /// The event.
    pub body: String,
}

/// What the receiver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// Sends requests to webhooks.
#[async_trait]
pub trait WebhookSender: Send + Sync + 'static {
    /// The URL in its usual form, if requests may go there as far as one can tell without asking for addresses; else why not.
    fn admit(&self, url: &str) -> Result<String, String>;

    /// Sends one. Any answer is an answer, whatever its status.
    async fn send(&self, post: &SignedPost) -> Result<Answer, DeliveryError>;
}
