//! A webhook's columns and back, alike for every store.

use allocation_domain::Sku;
use allocation_service_layer::feed::Filter;
use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::webhooks::{Failure, Paused, Trouble, Webhook};
use allocation_service_layer::webhooks::Secret;
use allocation_service_layer::wire::TOPICS;

use crate::rows::{count, damaged, instant, micros, number};

/// The columns, in the order of [`WebhookRow`].
pub(crate) const COLUMNS: &str = "id, revision, url, skus, topics, secret, old_secret, old_secret_until, created_at,
    paused, attempts, failing_since, next_attempt, failed_at, failure";

/// A webhook's columns.
pub(crate) struct WebhookRow {
    pub(crate) id: String,
    pub(crate) revision: i64,
    pub(crate) url: String,
    /// A line for each; none: all.
    pub(crate) skus: String,
    pub(crate) topics: String,
    pub(crate) secret: String,
    pub(crate) old_secret: Option<String>,
    pub(crate) old_secret_until: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) paused: Option<String>,
    pub(crate) attempts: i64,
    pub(crate) failing_since: Option<i64>,
    pub(crate) next_attempt: Option<i64>,
    pub(crate) failed_at: Option<i64>,
    pub(crate) failure: Option<String>,
}

impl From<&Webhook> for WebhookRow {
    fn from(hook: &Webhook) -> Self {
        let (old_secret, until) = hook.old_secret.as_ref().map(|(secret, until)| (secret, *until)).unzip();
        Self {
            id: hook.id.to_string(),
            revision: number(hook.revision),
            url: hook.url.clone(),
            skus: hook.filter.skus.iter().map(Sku::as_str).collect::<Vec<_>>().join("\n"),
            topics: hook.filter.topics.iter().copied().collect::<Vec<_>>().join("\n"),
            secret: hook.secret.reveal(),
            old_secret: old_secret.map(Secret::reveal),
            old_secret_until: until.map(micros),
            created_at: micros(hook.created_at),
            paused: hook.paused.map(|paused| paused.name().to_owned()),
            attempts: hook.trouble.map_or(0, |trouble| trouble.attempts.into()),
            failing_since: hook.trouble.map(|trouble| micros(trouble.since)),
            next_attempt: hook.trouble.map(|trouble| micros(trouble.next)),
            failed_at: hook.last_failure.as_ref().map(|failure| micros(failure.at)),
            failure: hook.last_failure.as_ref().map(|failure| failure.why.clone()),
        }
    }
}

impl WebhookRow {
    /// The webhook.
    pub(crate) fn webhook(self) -> StoreResult<Webhook> {
        let topic = |name: &str| {
            TOPICS.iter().copied().find(|topic| *topic == name).ok_or_else(|| damaged(format!("no event {name}")))
        };
        let paused = |name: String| {
            Paused::ALL
                .into_iter()
                .find(|paused| paused.name() == name)
                .ok_or_else(|| damaged(format!("paused {name}")))
        };
        let trouble = match self.failing_since.zip(self.next_attempt) {
            Some((since, next)) => Some(Trouble {
                since: instant(since)?,
                attempts: u32::try_from(self.attempts).map_err(damaged)?,
                next: instant(next)?,
            }),
            None => None,
        };
        let old_secret = match self.old_secret.zip(self.old_secret_until) {
            Some((secret, until)) => Some((Secret::parse(&secret).map_err(damaged)?, instant(until)?)),
            None => None,
        };
        let last_failure = match self.failed_at.zip(self.failure) {
            Some((at, why)) => Some(Failure { at: instant(at)?, why }),
            None => None,
        };
        Ok(Webhook {
            id: self.id.parse().map_err(damaged)?,
            revision: count(self.revision)?,
            url: self.url,
            filter: Filter {
                skus: self.skus.lines().map(crate::rows::sku).collect::<StoreResult<_>>()?,
                topics: self.topics.lines().map(topic).collect::<StoreResult<_>>()?,
            },
            secret: Secret::parse(&self.secret).map_err(damaged)?,
            old_secret,
            created_at: instant(self.created_at)?,
            paused: self.paused.map(paused).transpose()?,
            trouble,
            last_failure,
        })
    }
}
