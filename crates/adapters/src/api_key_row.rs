//! An API key's columns and back, alike for every store.

use allocation_service_layer::access::KeyDigest;
use allocation_service_layer::ports::api_keys::ApiKey;
use allocation_service_layer::ports::database::StoreResult;

use crate::rows::{count, damaged, instant, micros, number};

/// The columns, in the order of [`ApiKeyRow`].
pub(crate) const COLUMNS: &str = "digest, name, generation, scopes, created_at, expires_at, revoked_at, last_used_at";

/// An API key's columns.
pub(crate) struct ApiKeyRow {
    pub(crate) digest: Vec<u8>,
    pub(crate) name: String,
    pub(crate) generation: i64,
    pub(crate) scopes: String,
    pub(crate) created_at: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) revoked_at: Option<i64>,
    pub(crate) last_used_at: Option<i64>,
}

impl From<&ApiKey> for ApiKeyRow {
    fn from(key: &ApiKey) -> Self {
        Self {
            digest: key.digest.0.to_vec(),
            name: key.name.to_string(),
            generation: number(key.generation),
            scopes: key.scopes.to_string(),
            created_at: micros(key.created_at),
            expires_at: key.expires_at.map(micros),
            revoked_at: key.revoked_at.map(micros),
            last_used_at: key.last_used_at.map(micros),
        }
    }
}

impl ApiKeyRow {
    /// The key.
    pub(crate) fn api_key(self) -> StoreResult<ApiKey> {
        let digest = self.digest.try_into().map_err(|_| damaged("a digest of another length"))?;
        Ok(ApiKey {
            digest: KeyDigest(digest),
            name: self.name.parse().map_err(damaged)?,
            generation: count(self.generation)?,
            scopes: self.scopes.parse().map_err(damaged)?,
            created_at: instant(self.created_at)?,
            expires_at: self.expires_at.map(instant).transpose()?,
            revoked_at: self.revoked_at.map(instant).transpose()?,
            last_used_at: self.last_used_at.map(instant).transpose()?,
        })
    }
}
