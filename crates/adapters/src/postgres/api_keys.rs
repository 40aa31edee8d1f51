//! API keys on PostgreSQL.

use allocation_service_layer::access::KeyDigest;
use allocation_service_layer::ports::api_keys::{ApiKey, ApiKeys};
use allocation_service_layer::ports::database::StoreResult;
use async_trait::async_trait;
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::{PostgresDatabase, get};
use crate::api_key_row::{ApiKeyRow, COLUMNS};
use crate::rows::micros;

fn api_key(row: &Row) -> StoreResult<ApiKey> {
    ApiKeyRow {
        digest: get(row, 0)?,
        name: get(row, 1)?,
        generation: get(row, 2)?,
        scopes: get(row, 3)?,
        created_at: get(row, 4)?,
        expires_at: get(row, 5)?,
        revoked_at: get(row, 6)?,
        last_used_at: get(row, 7)?,
    }
    .api_key()
}

#[async_trait]
impl ApiKeys for PostgresDatabase {
    async fn add_api_key(&self, key: &ApiKey, others_until: Option<OffsetDateTime>) -> StoreResult<()> {
        let row = ApiKeyRow::from(key);
        // Both read the table as it was before, so the new one keeps its own end. Without `$9` the least is what there was.
        let sql = format!(
            "WITH others AS (UPDATE api_keys SET expires_at = least(expires_at, $9) WHERE name = $2)
             INSERT INTO api_keys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        );
        self.all(
            &sql,
            &[
                &row.digest,
                &row.name,
                &row.generation,
                &row.scopes,
                &row.created_at,
                &row.expires_at,
                &row.revoked_at,
                &row.last_used_at,
                &others_until.map(micros),
            ],
            |_| Ok(()),
        )
        .await
        .map(drop)
    }

    async fn api_keys(&self) -> StoreResult<Vec<ApiKey>> {
        self.all(&format!("SELECT {COLUMNS} FROM api_keys ORDER BY name, generation"), &[], api_key).await
    }

    async fn api_key(&self, digest: &KeyDigest) -> StoreResult<Option<ApiKey>> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE digest = $1");
        Ok(self.all(&sql, &[&digest.0.as_slice()], api_key).await?.pop())
    }

    async fn revoke_api_key(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<bool> {
        let sql = "UPDATE api_keys SET revoked_at = $2 WHERE digest = $1 AND revoked_at IS NULL RETURNING 1";
        Ok(!self.all(sql, &[&digest.0.as_slice(), &micros(at)], |_| Ok(())).await?.is_empty())
    }

    async fn note_api_key_use(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<()> {
        let sql = "UPDATE api_keys SET last_used_at = greatest(last_used_at, $2) WHERE digest = $1";
        self.all(sql, &[&digest.0.as_slice(), &micros(at)], |_| Ok(())).await.map(drop)
    }
}
