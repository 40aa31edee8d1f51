//! Makes API keys, replaces and revokes them.

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use super::{KeyName, KeyText, Scopes};
use crate::ports::api_keys::{ApiKey, ApiKeys};
use crate::ports::clock::{Clock, Entropy};
use crate::ports::database::StoreResult;

/// Why a key can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody has this name.
    #[error("there is an API key {0} already: replace it with `allocation keys rotate {0}`, or revoke it first")]
    Exists(KeyName),
    /// There is nothing to replace.
    #[error("no API key {0} is in force; make one with `allocation keys create`")]
    NotInForce(KeyName),
    /// It would be of no use from the start.
    #[error("a key must expire in the future")]
    Past,
}

/// A key that was made. Its text is here, and nowhere else.
#[derive(Debug)]
pub struct Issued {
    /// For whoever is to use it.
    pub text: KeyText,
    /// What is kept of it.
    pub key: ApiKey,
}

/// Makes API keys, replaces and revokes them.
pub struct Issuer {
    /// Where they are kept.
    pub store: Arc<dyn ApiKeys>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes them.
    pub entropy: Arc<dyn Entropy>,
}

impl Issuer {
    /// Makes one under a name that none in force has.
    ///
    /// # Errors
    /// When the store can't do it.
    pub async fn create(
        &self,
        name: KeyName,
        scopes: Scopes,
        expires_at: Option<OffsetDateTime>,
    ) -> StoreResult<Result<Issued, Refused>> {
        let now = self.clock.now();
        if expires_at.is_some_and(|end| end <= now) {
            return Ok(Err(Refused::Past));
        }
        let known = self.of(&name).await?;
        if known.iter().any(|key| key.in_force(now)) {
            return Ok(Err(Refused::Exists(name)));
        }
        let issued = self.make(name, known.last(), scopes, expires_at);
        self.store.add_api_key(&issued.key, None).await?;
        Ok(Ok(issued))
    }

    /// Makes one in the place of those of a name, which go on for `overlap`. It allows what the newest does and lasts as long as that was to, unless
    /// said.
    ///
    /// # Errors
    /// When the store can't do it.
    pub async fn rotate(
        &self,
        name: KeyName,
        overlap: Duration,
        expires_at: Option<OffsetDateTime>,
    ) -> StoreResult<Result<Issued, Refused>> {
        let now = self.clock.now();
        let known = self.of(&name).await?;
        let Some(newest) = known.last().filter(|key| key.in_force(now)) else {
            return Ok(Err(Refused::NotInForce(name)));
        };
        let as_long = newest.expires_at.map(|end| now.saturating_add(end - newest.created_at));
        let expires_at = expires_at.or(as_long);
        if expires_at.is_some_and(|end| end <= now) {
            return Ok(Err(Refused::Past));
        }
        let issued = self.make(name, Some(newest), newest.scopes.clone(), expires_at);
        self.store.add_api_key(&issued.key, Some(now.saturating_add(overlap))).await?;
        Ok(Ok(issued))
    }

    /// All of them, by name, oldest first; those of no use any more, too.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn list(&self) -> StoreResult<Vec<ApiKey>> {
        self.store.api_keys().await
    }

    /// Revokes the key with this id, or every one of this name, and gives those that were revoked by it.
    ///
    /// # Errors
    /// When the store can't do it.
    pub async fn revoke(&self, named: &str) -> StoreResult<Vec<ApiKey>> {
        let now = self.clock.now();
        let mut revoked = Vec::new();
        for key in self.store.api_keys().await? {
            let meant = key.name.as_str() == named || key.digest.id() == named;
            if meant && self.store.revoke_api_key(&key.digest, now).await? {
                revoked.push(ApiKey { revoked_at: Some(now), ..key });
            }
        }
        Ok(revoked)
    }

    /// Keys of a name, oldest first.
    async fn of(&self, name: &KeyName) -> StoreResult<Vec<ApiKey>> {
        let keys = self.store.api_keys().await?;
        Ok(keys.into_iter().filter(|key| key.name == *name).collect())
    }

    fn make(
        &self,
        name: KeyName,
        newest: Option<&ApiKey>,
        scopes: Scopes,
        expires_at: Option<OffsetDateTime>,
    ) -> Issued {
        let text = KeyText::new(self.entropy.as_ref());
        let key = ApiKey {
            digest: text.digest(),
            name,
            generation: newest.map_or(1, |key| key.generation + 1),
            scopes,
            created_at: self.clock.now(),
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        Issued { text, key }
    }
}
