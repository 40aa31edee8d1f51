//! Webhooks: events go to whoever has registered a URL for them, signed as [Standard Webhooks](https://www.standardwebhooks.com) says.

mod delivery;
mod signature;

use std::collections::BTreeSet;
use std::sync::Arc;

use allocation_domain::Sku;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub use self::delivery::{Delivery, Step};
pub use self::signature::{BadSecret, Secret};
use crate::feed::Filter;
use crate::ports::clock::{Clock, Entropy};
use crate::ports::database::{StoreError, StoreResult};
use crate::ports::event_log::EventLog;
use crate::ports::event_publisher::DeliveryError;
use crate::ports::webhooks::{Answer, Paused, SignedPost, Webhook, WebhookId, WebhookSender, Webhooks};
use crate::sinks::Begin;
use crate::wire::{SOURCE, event_type, instant_text};

/// The most there may be.
pub const MOST_WEBHOOKS: usize = 256;
/// How long a secret that was replaced goes on signing.
const OLD_SECRET: Duration = Duration::DAY;
/// How often a change is tried that somebody else's came before.
const TRIES: usize = 10;

/// Why a webhook can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing may be sent there.
    #[error("{0}")]
    BadUrl(String),
    /// There are [`MOST_WEBHOOKS`] already.
    #[error("there may be {MOST_WEBHOOKS} webhooks at most")]
    TooMany,
}

/// A webhook and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The webhook.
    pub hook: Webhook,
    /// The last position that it has seen or passed over.
    pub position: u64,
    /// How many events come after that.
    pub lag: u64,
}

/// What is to be another way; what is not said stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Where requests go.
    pub url: Option<String>,
    /// Which events it is told of.
    pub filter: FilterChanges,
    /// Whether it is told of anything.
    pub active: Option<bool>,
    /// Whether it gets another secret.
    pub rotate_secret: bool,
}

/// What of a filter is to be another way.
#[derive(Debug, Clone, Default)]
pub struct FilterChanges {
    /// The products.
    pub skus: Option<BTreeSet<Sku>>,
    /// The names of events.
    pub topics: Option<BTreeSet<&'static str>>,
}

/// Registers webhooks and looks after them.
pub struct Hooks {
    /// Where they are kept.
    pub store: Arc<dyn Webhooks>,
    /// What they are told of.
    pub log: Arc<dyn EventLog>,
    /// Sends to them.
    pub sender: Arc<dyn WebhookSender>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes names and secrets.
    pub entropy: Arc<dyn Entropy>,
}

impl Hooks {
    /// Registers one, and where in the log it begins.
    ///
    /// # Errors
    /// When the store can't do it.
    pub async fn register(&self, url: &str, filter: Filter, begin: Begin) -> StoreResult<Result<Status, Refused>> {
        let url = match self.sender.admit(url) {
            Ok(url) => url,
            Err(why) => return Ok(Err(Refused::BadUrl(why))),
        };
        if self.store.hooks().await?.len() >= MOST_WEBHOOKS {
            return Ok(Err(Refused::TooMany));
        }
        let now = self.clock.now();
        let hook = Webhook {
            id: WebhookId(self.entropy.uuid(now)),
            revision: 1,
            url,
            filter,
            secret: Secret::new(self.entropy.as_ref()),
            old_secret: None,
            created_at: now,
            paused: None,
            trouble: None,
            last_failure: None,
        };
        let position = begin.position(self.log.as_ref()).await?;
        self.store.add(&hook, position).await?;
        self.status(hook).await.map(Ok)
    }

    /// All of them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn list(&self) -> StoreResult<Vec<Status>> {
        let mut all = Vec::new();
        for hook in self.store.hooks().await? {
            all.push(self.status(hook).await?);
        }
        Ok(all)
    }

    /// One of them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn get(&self, id: WebhookId) -> StoreResult<Option<Status>> {
        match self.store.hook(id).await? {
            Some(hook) => self.status(hook).await.map(Some),
            None => Ok(None),
        }
    }

    async fn status(&self, hook: Webhook) -> StoreResult<Status> {
        let position = self.log.progress(&hook.id.sink()).await?;
        let lag = self.log.last_position().await?.saturating_sub(position);
        Ok(Status { hook, position, lag })
    }

    /// Changes one. What was going wrong is forgotten when it gets another URL or is made active.
    ///
    /// # Errors
    /// When the store can't do it.
    pub async fn change(&self, id: WebhookId, changes: Changes) -> StoreResult<Option<Result<Status, Refused>>> {
        let url = match changes.url.as_deref().map(|url| self.sender.admit(url)).transpose() {
            Ok(url) => url,
            Err(why) => return Ok(Some(Err(Refused::BadUrl(why)))),
        };
        let now = self.clock.now();
        let replacement = changes.rotate_secret.then(|| Secret::new(self.entropy.as_ref()));
        let done = alter(self.store.as_ref(), id, |hook| {
            if let Some(url) = &url {
                hook.url.clone_from(url);
                hook.trouble = None;
            }
            if let Some(skus) = &changes.filter.skus {
                hook.filter.skus.clone_from(skus);
            }
            if let Some(topics) = &changes.filter.topics {
                hook.filter.topics.clone_from(topics);
            }
            match changes.active {
                Some(true) => (hook.paused, hook.trouble) = (None, None),
                Some(false) => hook.paused = hook.paused.or(Some(Paused::Asked)),
                None => {}
            }
            if let Some(secret) = &replacement {
                let old = std::mem::replace(&mut hook.secret, secret.clone());
                hook.old_secret = Some((old, now + OLD_SECRET));
            }
        });
        match done.await? {
            Some(hook) => Ok(Some(Ok(self.status(hook).await?))),
            None => Ok(None),
        }
    }

    /// Forgets one. `false` when there was none.
    ///
    /// # Errors
    /// When the store can't do it.
    pub async fn remove(&self, id: WebhookId) -> StoreResult<bool> {
        self.store.remove(id).await
    }

    /// Sends one an event that says nothing.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn test(&self, id: WebhookId) -> StoreResult<Option<Result<Answer, DeliveryError>>> {
        let Some(hook) = self.store.hook(id).await? else { return Ok(None) };
        let now = self.clock.now();
        let event = self.entropy.uuid(now);
        let post = signed(&hook, event.to_string(), test_event(event, now), now);
        Ok(Some(self.sender.send(&post).await))
    }
}

/// An event that says nothing.
fn test_event(id: Uuid, now: OffsetDateTime) -> String {
    serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": event_type("webhook_test"),
        "time": instant_text(now),
        "data": {},
    })
    .to_string()
}

/// An event as it is sent to a webhook.
fn signed(hook: &Webhook, id: String, body: String, now: OffsetDateTime) -> SignedPost {
    let timestamp = now.unix_timestamp();
    let old = hook.old_secret.iter().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
    let signatures = std::iter::once(&hook.secret).chain(old).map(|secret| secret.sign(&id, timestamp, &body));
    let signature = signatures.collect::<Vec<_>>().join(" ");
    SignedPost { url: hook.url.clone(), id, timestamp, signature, traceparent: None, body }
}

/// Changes a webhook, again when somebody else was faster; none: there is no such webhook.
async fn alter(
    store: &dyn Webhooks,
    id: WebhookId,
    change: impl Fn(&mut Webhook) + Send + Sync,
) -> StoreResult<Option<Webhook>> {
    for _ in 0..TRIES {
        let Some(mut hook) = store.hook(id).await? else { return Ok(None) };
        let before = hook.clone();
        change(&mut hook);
        if hook == before {
            return Ok(Some(hook));
        }
        if store.change(&hook).await? {
            hook.revision += 1;
            return Ok(Some(hook));
        }
    }
    Err(StoreError::Conflict(format!("webhook {id} is changed again and again")))
}
