//! The event log on SQLite: with one writer, the row id is the order of commits.

use std::time::Duration;

use allocation_service_layer::ports::database::{KeyOf, StoreResult};
use allocation_service_layer::ports::event_log::{EventLog, FeedEvent, FeedPage, Progress};
use allocation_service_layer::ports::housekeeping::Housekeeping;
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Params};
use time::OffsetDateTime;

use super::{SqliteDatabase, all, store_error};
use crate::FORGOTTEN_AT_ONCE;
use crate::rows::{self, count, damaged, number};

pub(super) fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

pub(super) fn instant(millis: i64) -> StoreResult<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).map_err(damaged)
}

#[async_trait]
impl EventLog for SqliteDatabase {
    async fn number(&self, _limit: usize) -> StoreResult<usize> {
        Ok(0)
    }

    async fn read(&self, after: u64, limit: usize) -> StoreResult<FeedPage> {
        SqliteDatabase::read(self, move |tx| {
            let oldest: Option<i64> =
                tx.query_row("SELECT min(position) FROM events", (), |row| row.get(0)).map_err(store_error)?;
            let events = all(
                tx,
                "SELECT position, body FROM events WHERE position > ?1 ORDER BY position LIMIT ?2",
                (number(after), number(limit as u64)),
                |row| {
                    let (position, body): (i64, String) = row.try_into().map_err(store_error)?;
                    Ok(FeedEvent { position: count(position)?, body })
                },
            )?;
            Ok(FeedPage { kept_after: count(oldest.unwrap_or(1) - 1)?, events })
        })
        .await
    }

    async fn last_position(&self) -> StoreResult<u64> {
        SqliteDatabase::read(self, |tx| {
            let last: Option<i64> =
                tx.query_row("SELECT max(position) FROM events", (), |row| row.get(0)).map_err(store_error)?;
            count(last.unwrap_or(0))
        })
        .await
    }

    async fn progress(&self, sink: &str) -> StoreResult<u64> {
        let sink = sink.to_owned();
        SqliteDatabase::read(self, move |tx| {
            let seen = tx.query_row("SELECT position FROM sinks WHERE name = ?1", [sink], |row| row.get(0));
            count(seen.optional().map_err(store_error)?.unwrap_or(0))
        })
        .await
    }

    async fn advance(&self, sink: &str, position: u64) -> StoreResult<bool> {
        let sink = sink.to_owned();
        self.note(move |connection| {
            let known = connection
                .prepare_cached("UPDATE sinks SET position = max(position, ?2) WHERE name = ?1")
                .and_then(|mut update| update.execute((sink, number(position))))
                .map_err(store_error)?;
            Ok(known == 1)
        })
        .await
    }

    async fn sinks(&self) -> StoreResult<Vec<Progress>> {
        SqliteDatabase::read(self, |tx| {
            all(tx, "SELECT name, position FROM sinks ORDER BY name", (), |row| {
                let (name, position): (_, i64) = row.try_into().map_err(store_error)?;
                Ok(Progress { name, position: count(position)? })
            })
        })
        .await
    }

    async fn introduce(&self, sink: &str, position: u64) -> StoreResult<bool> {
        let sink = sink.to_owned();
        self.write(move |connection| {
            let sql = "INSERT INTO sinks (name, position) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            Ok(connection.execute(sql, (sink, number(position))).map_err(store_error)? == 1)
        })
        .await
    }

    async fn forget(&self, sink: &str) -> StoreResult<bool> {
        let sink = sink.to_owned();
        self.write(move |connection| {
            Ok(connection.execute("DELETE FROM sinks WHERE name = ?1", [sink]).map_err(store_error)? == 1)
        })
        .await
    }

    async fn lease(&self, task: &str, holder: &str, ttl: Duration) -> StoreResult<bool> {
        let (task, holder, now) = (task.to_owned(), holder.to_owned(), self.clock.now());
        self.note(move |connection| {
            let taken = connection
                .execute(
                    "INSERT INTO leases (task, holder, expires_at) VALUES (?1, ?2, ?3)
                     ON CONFLICT (task) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
                     WHERE holder = excluded.holder OR expires_at < ?4",
                    (task, holder, millis(now + ttl), millis(now)),
                )
                .map_err(store_error)?;
            Ok(taken == 1)
        })
        .await
    }

    async fn release(&self, task: &str, holder: &str) -> StoreResult<()> {
        let (task, holder) = (task.to_owned(), holder.to_owned());
        self.note(move |connection| {
            connection
                .execute("DELETE FROM leases WHERE task = ?1 AND holder = ?2", (task, holder))
                .map_err(store_error)?;
            Ok(())
        })
        .await
    }

    async fn last_notified(&self, subject: &str) -> StoreResult<Option<OffsetDateTime>> {
        let subject = subject.to_owned();
        SqliteDatabase::read(self, move |tx| {
            let at = tx.query_row("SELECT at FROM notified WHERE subject = ?1", [subject], |row| row.get(0));
            at.optional().map_err(store_error)?.map(instant).transpose()
        })
        .await
    }

    async fn set_notified(&self, subject: &str, at: OffsetDateTime) -> StoreResult<()> {
        let subject = subject.to_owned();
        self.write(move |connection| {
            connection
                .execute("INSERT OR REPLACE INTO notified (subject, at) VALUES (?1, ?2)", (subject, millis(at)))
                .map_err(store_error)?;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Housekeeping for SqliteDatabase {
    async fn forget_keys(&self, of: KeyOf, age: Duration) -> StoreResult<u64> {
        let (of_message, oldest) = (of == KeyOf::Message, rows::micros(self.clock.now() - age));
        let sql = "DELETE FROM request_keys WHERE key IN (
                       SELECT key FROM request_keys WHERE of_message = ?1 AND at < ?2 LIMIT ?3)";
        self.forget_in_steps(sql, (of_message, oldest, FORGOTTEN_AT_ONCE)).await
    }

    async fn forget_holds(&self, age: Duration) -> StoreResult<u64> {
        let oldest = rows::micros(self.clock.now() - age);
        let sql = "DELETE FROM holders WHERE (sku, order_id, line) IN (
                       SELECT sku, order_id, line FROM holders WHERE until < ?1 LIMIT ?2)";
        self.forget_in_steps(sql, (oldest, FORGOTTEN_AT_ONCE)).await
    }
}

impl SqliteDatabase {
    /// Has a statement that forgets some carried out until there are no more, letting others write in between.
    async fn forget_in_steps(
        &self,
        sql: &'static str,
        params: impl Params + Copy + Send + 'static,
    ) -> StoreResult<u64> {
        let mut forgotten = 0;
        loop {
            let gone = self.write(move |connection| connection.execute(sql, params).map_err(store_error)).await?;
            forgotten += gone as u64;
            if gone < FORGOTTEN_AT_ONCE as usize {
                return Ok(forgotten);
            }
        }
    }
}
