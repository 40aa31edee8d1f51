//! Webhooks on PostgreSQL.

use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::webhooks::{Webhook, WebhookId, Webhooks};
use async_trait::async_trait;
use tokio_postgres::Row;

use super::{PostgresDatabase, get};
use crate::rows::number;
use crate::webhook_row::{COLUMNS, WebhookRow};

fn webhook(row: &Row) -> StoreResult<Webhook> {
    WebhookRow {
        id: get(row, 0)?,
        revision: get(row, 1)?,
        url: get(row, 2)?,
        skus: get(row, 3)?,
        topics: get(row, 4)?,
        secret: get(row, 5)?,
        old_secret: get(row, 6)?,
        old_secret_until: get(row, 7)?,
        created_at: get(row, 8)?,
        paused: get(row, 9)?,
        attempts: get(row, 10)?,
        failing_since: get(row, 11)?,
        next_attempt: get(row, 12)?,
        failed_at: get(row, 13)?,
        failure: get(row, 14)?,
    }
    .webhook()
}

#[async_trait]
impl Webhooks for PostgresDatabase {
    async fn add(&self, hook: &Webhook, position: u64) -> StoreResult<()> {
        let row = WebhookRow::from(hook);
        let sql = format!(
            "WITH begun AS (INSERT INTO sinks (name, position) VALUES ($16, $17))
             INSERT INTO webhooks ({COLUMNS})
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
        );
        self.all(
            &sql,
            &[
                &row.id,
                &row.revision,
                &row.url,
                &row.skus,
                &row.topics,
                &row.secret,
                &row.old_secret,
                &row.old_secret_until,
                &row.created_at,
                &row.paused,
                &row.attempts,
                &row.failing_since,
                &row.next_attempt,
                &row.failed_at,
                &row.failure,
                &hook.id.sink(),
                &number(position),
            ],
            |_| Ok(()),
        )
        .await
        .map(drop)
    }

    async fn hooks(&self) -> StoreResult<Vec<Webhook>> {
        self.all(&format!("SELECT {COLUMNS} FROM webhooks ORDER BY id"), &[], webhook).await
    }

    async fn hook(&self, id: WebhookId) -> StoreResult<Option<Webhook>> {
        let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE id = $1");
        Ok(self.all(&sql, &[&id.to_string()], webhook).await?.pop())
    }

    async fn change(&self, hook: &Webhook) -> StoreResult<bool> {
        let row = WebhookRow::from(hook);
        let sql = "UPDATE webhooks SET revision = revision + 1, url = $3, skus = $4, topics = $5, secret = $6,
                   old_secret = $7, old_secret_until = $8, paused = $9, attempts = $10, failing_since = $11,
                   next_attempt = $12, failed_at = $13, failure = $14
                   WHERE id = $1 AND revision = $2 RETURNING 1";
        let changed = self
            .all(
                sql,
                &[
                    &row.id,
                    &row.revision,
                    &row.url,
                    &row.skus,
                    &row.topics,
                    &row.secret,
                    &row.old_secret,
                    &row.old_secret_until,
                    &row.paused,
                    &row.attempts,
                    &row.failing_since,
                    &row.next_attempt,
                    &row.failed_at,
                    &row.failure,
                ],
                |_| Ok(()),
            )
            .await?;
        Ok(!changed.is_empty())
    }

    async fn remove(&self, id: WebhookId) -> StoreResult<bool> {
        let sql = "WITH forgotten AS (DELETE FROM sinks WHERE name = $2)
                   DELETE FROM webhooks WHERE id = $1 RETURNING 1";
        Ok(!self.all(sql, &[&id.to_string(), &id.sink()], |_| Ok(())).await?.is_empty())
    }
}
