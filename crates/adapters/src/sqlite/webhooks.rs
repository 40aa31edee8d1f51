//! Webhooks on SQLite.

use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::webhooks::{Webhook, WebhookId, Webhooks};
use async_trait::async_trait;
use rusqlite::{Row, params};

use super::{SqliteDatabase, all, store_error};
use crate::rows::number;
use crate::webhook_row::{COLUMNS, WebhookRow};

fn webhook(row: &Row<'_>) -> StoreResult<Webhook> {
    let read = || -> rusqlite::Result<WebhookRow> {
        Ok(WebhookRow {
            id: row.get(0)?,
            revision: row.get(1)?,
            url: row.get(2)?,
            skus: row.get(3)?,
            topics: row.get(4)?,
            secret: row.get(5)?,
            old_secret: row.get(6)?,
            old_secret_until: row.get(7)?,
            created_at: row.get(8)?,
            paused: row.get(9)?,
            attempts: row.get(10)?,
            failing_since: row.get(11)?,
            next_attempt: row.get(12)?,
            failed_at: row.get(13)?,
            failure: row.get(14)?,
        })
    };
    read().map_err(store_error)?.webhook()
}

#[async_trait]
impl Webhooks for SqliteDatabase {
    async fn add(&self, hook: &Webhook, position: u64) -> StoreResult<()> {
        let (row, sink) = (WebhookRow::from(hook), hook.id.sink());
        self.write(move |connection| {
            let tx = connection.transaction().map_err(store_error)?;
            tx.execute("INSERT INTO sinks (name, position) VALUES (?1, ?2)", (sink, number(position)))
                .map_err(store_error)?;
            let sql = format!(
                "INSERT INTO webhooks ({COLUMNS})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
            );
            tx.execute(
                &sql,
                params![
                    row.id,
                    row.revision,
                    row.url,
                    row.skus,
                    row.topics,
                    row.secret,
                    row.old_secret,
                    row.old_secret_until,
                    row.created_at,
                    row.paused,
                    row.attempts,
                    row.failing_since,
                    row.next_attempt,
                    row.failed_at,
                    row.failure,
                ],
            )
            .map_err(store_error)?;
            tx.commit().map_err(store_error)
        })
        .await
    }

    async fn hooks(&self) -> StoreResult<Vec<Webhook>> {
        SqliteDatabase::read(self, |tx| all(tx, &format!("SELECT {COLUMNS} FROM webhooks ORDER BY id"), (), webhook))
            .await
    }

    async fn hook(&self, id: WebhookId) -> StoreResult<Option<Webhook>> {
        SqliteDatabase::read(self, move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE id = ?1");
            Ok(all(tx, &sql, [id.to_string()], webhook)?.pop())
        })
        .await
    }

    async fn change(&self, hook: &Webhook) -> StoreResult<bool> {
        let row = WebhookRow::from(hook);
        self.write(move |connection| {
            let changed = connection.execute(
                "UPDATE webhooks SET revision = revision + 1, url = ?3, skus = ?4, topics = ?5, secret = ?6,
                 old_secret = ?7, old_secret_until = ?8, paused = ?9, attempts = ?10, failing_since = ?11,
                 next_attempt = ?12, failed_at = ?13, failure = ?14
                 WHERE id = ?1 AND revision = ?2",
                params![
                    row.id,
                    row.revision,
                    row.url,
                    row.skus,
                    row.topics,
                    row.secret,
                    row.old_secret,
                    row.old_secret_until,
                    row.paused,
                    row.attempts,
                    row.failing_since,
                    row.next_attempt,
                    row.failed_at,
                    row.failure,
                ],
            );
            Ok(changed.map_err(store_error)? == 1)
        })
        .await
    }

    async fn remove(&self, id: WebhookId) -> StoreResult<bool> {
        self.write(move |connection| {
            let tx = connection.transaction().map_err(store_error)?;
            tx.execute("DELETE FROM sinks WHERE name = ?1", [id.sink()]).map_err(store_error)?;
            let removed = tx.execute("DELETE FROM webhooks WHERE id = ?1", [id.to_string()]).map_err(store_error)?;
            tx.commit().map_err(store_error)?;
            Ok(removed == 1)
        })
        .await
    }
}
