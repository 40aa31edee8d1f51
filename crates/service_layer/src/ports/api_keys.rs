//! API keys: who may use the API, and how they are kept.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::database::StoreResult;
use crate::access::{KeyDigest, KeyName, Scopes};

/// An API key, without its text: only a digest of that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// A digest of its text, which names it.
    pub digest: KeyDigest,
    /// Whose it is. Keys that replace one another share it.
    pub name: KeyName,
    /// Which of the keys of that name, from 1.
    pub generation: u64,
    /// What it allows.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// From when on it is of no use; none: it does not end by itself.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
    /// When it was used last, to the minute or so.
    pub last_used_at: Option<OffsetDateTime>,
}

impl ApiKey {
    /// Whether it opens anything at this time.
    pub fn in_force(&self, now: OffsetDateTime) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Keeps API keys.
#[async_trait]
pub trait ApiKeys: Send + Sync + 'static {
    /// Keeps a new one. With `others_until`, those of the same name expire by then, in the same step.
    ///
    /// # Errors
    /// A [`StoreError::Conflict`](super::database::StoreError::Conflict) when there is one of that name and generation, or with that digest.
    async fn add_api_key(&self, key: &ApiKey, others_until: Option<OffsetDateTime>) -> StoreResult<()>;

    /// All of them, by name and generation; those of no use any more, too.
    async fn api_keys(&self) -> StoreResult<Vec<ApiKey>>;

    /// The one with this digest.
    async fn api_key(&self, digest: &KeyDigest) -> StoreResult<Option<ApiKey>>;

    /// Revokes one, for good. `false`: there is none, or it was revoked before.
    async fn revoke_api_key(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<bool>;

    /// Notes when one was used. An earlier time than is known changes nothing.
    async fn note_api_key_use(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<()>;
}
