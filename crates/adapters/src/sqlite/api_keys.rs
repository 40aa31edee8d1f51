//! API keys on SQLite.

use allocation_service_layer::access::KeyDigest;
use allocation_service_layer::ports::api_keys::{ApiKey, ApiKeys};
use allocation_service_layer::ports::database::StoreResult;
use async_trait::async_trait;
use rusqlite::Row;
use time::OffsetDateTime;

use super::{SqliteDatabase, all, store_error};
use crate::api_key_row::{ApiKeyRow, COLUMNS};
use crate::rows::micros;

fn api_key(row: &Row<'_>) -> StoreResult<ApiKey> {
    let (digest, name, generation, scopes, created_at, expires_at, revoked_at, last_used_at) =
        row.try_into().map_err(store_error)?;
    ApiKeyRow { digest, name, generation, scopes, created_at, expires_at, revoked_at, last_used_at }.api_key()
}

#[async_trait]
impl ApiKeys for SqliteDatabase {
    async fn add_api_key(&self, key: &ApiKey, others_until: Option<OffsetDateTime>) -> StoreResult<()> {
        let row = ApiKeyRow::from(key);
        self.write(move |connection| {
            let tx = connection.transaction().map_err(store_error)?;
            if let Some(until) = others_until {
                let sql = "UPDATE api_keys SET expires_at = min(coalesce(expires_at, ?2), ?2) WHERE name = ?1";
                tx.execute(sql, (&row.name, micros(until))).map_err(store_error)?;
            }
            let sql = format!("INSERT INTO api_keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
            let ApiKeyRow { digest, name, generation, scopes, created_at, expires_at, revoked_at, last_used_at } = row;
            tx.execute(&sql, (digest, name, generation, scopes, created_at, expires_at, revoked_at, last_used_at))
                .map_err(store_error)?;
            tx.commit().map_err(store_error)
        })
        .await
    }

    async fn api_keys(&self) -> StoreResult<Vec<ApiKey>> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys ORDER BY name, generation");
        SqliteDatabase::read(self, move |tx| all(tx, &sql, (), api_key)).await
    }

    async fn api_key(&self, digest: &KeyDigest) -> StoreResult<Option<ApiKey>> {
        let digest = *digest;
        SqliteDatabase::read(self, move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE digest = ?1");
            Ok(all(tx, &sql, [digest.0], api_key)?.pop())
        })
        .await
    }

    async fn revoke_api_key(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<bool> {
        let digest = *digest;
        self.write(move |connection| {
            let sql = "UPDATE api_keys SET revoked_at = ?2 WHERE digest = ?1 AND revoked_at IS NULL";
            Ok(connection.execute(sql, (digest.0, micros(at))).map_err(store_error)? == 1)
        })
        .await
    }

    async fn note_api_key_use(&self, digest: &KeyDigest, at: OffsetDateTime) -> StoreResult<()> {
        let digest = *digest;
        self.note(move |connection| {
            let sql = "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, ?2), ?2) WHERE digest = ?1";
            connection.execute(sql, (digest.0, micros(at))).map_err(store_error)?;
            Ok(())
        })
        .await
    }
}
