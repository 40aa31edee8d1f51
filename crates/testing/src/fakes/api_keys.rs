//! API keys in memory.

use allocation_service_layer::access::KeyDigest;
use allocation_service_layer::ports::api_keys::{ApiKey, ApiKeys};
use allocation_service_layer::ports::database::{StoreError, StoreResult};
use async_trait::async_trait;
use time::OffsetDateTime;

use super::FakeDatabase;

#[async_trait]
impl ApiKeys for FakeDatabase {
    async fn add_api_key(&self, key: &ApiKey, others_until: Option<OffsetDateTime>) -> StoreResult<()> {
        let mut state = self.state.lock().await;
        let same = |known: &ApiKey| (&known.name, known.generation) == (&key.name, key.generation);
        if state.api_keys.iter().any(|known| same(known) || known.digest == key.digest) {
            return Err(StoreError::Conflict(format!("API key {} {} is known", key.name, key.generation)));
        }
        if let Some(until) = others_until {
            for known in state.api_keys.iter_mut().filter(|known| known.name == key.name) {
                known.expires_at = Some(known.expires_at.map_or(until, |end| end.min(until)));
            }
        }
        state.api_keys.push(key.clone());
        state.api_keys.sort_by(|a, b| (&a.name, a.generation).cmp(&(&b.name, b.generation)));
        Ok(())
    }

    async fn api_keys(&self) -> StoreResult<Vec<ApiKey>> {
        Ok(self.state.lock().await.api_keys.clone())
    }

    async fn api_key(&self, digest: &KeyDigest) -> StoreResult<Option<ApiKey>> {
        Ok(self.state.lock().await.api_keys.iter().find(|key| key.digest == *digest).cloned())
    }

    async fn revoke_api_key(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<bool> {
        let mut state = self.state.lock().await;
        let key = state.api_keys.iter_mut().find(|key| key.digest == *digest && key.revoked_at.is_none());
        Ok(key.map(|key| key.revoked_at = Some(at)).is_some())
    }

    async fn note_api_key_use(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<()> {
        let mut state = self.state.lock().await;
        if let Some(key) = state.api_keys.iter_mut().find(|key| key.digest == *digest) {
            key.last_used_at = key.last_used_at.max(Some(at));
        }
        Ok(())
    }
}
