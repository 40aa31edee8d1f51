//! The event log on PostgreSQL. A serial number is not the order of commits, so an event gets its place in the feed after its commit.

use std::time::Duration;

use allocation_service_layer::ports::database::{KeyOf, StoreError, StoreResult};
use allocation_service_layer::ports::event_log::{EventLog, FeedEvent, FeedPage, Progress};
use allocation_service_layer::ports::housekeeping::Housekeeping;
use async_trait::async_trait;
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::value::Value;
use super::writes::Statement;
use super::{PostgresDatabase, PostgresTransaction, all, get};
use crate::FORGOTTEN_AT_ONCE;
use crate::rows::{self, count, number};

/// Takes committed units of work, lowest id first, and gives their events the next positions. A unit of work that has a lower id
/// and commits later is simply taken later.
const NUMBER: &str = "WITH taken AS (
    DELETE FROM units_of_work WHERE id IN (SELECT id FROM units_of_work ORDER BY id LIMIT $1)
    RETURNING id, skus, first_sequences, last_sequences
), runs AS (
    SELECT taken.id, run.place, run.sku, run.first_sequence, run.last_sequence
    FROM taken, unnest(skus, first_sequences, last_sequences)
        WITH ORDINALITY run(sku, first_sequence, last_sequence, place)
), last AS (
    SELECT coalesce((SELECT last_position FROM feed ORDER BY last_position DESC LIMIT 1), 0) AS position
), placed AS (
    INSERT INTO feed (last_position, sku, first_sequence, last_sequence)
    SELECT last.position + (sum(last_sequence - first_sequence + 1) OVER (ORDER BY id, place))::bigint,
           sku, first_sequence, last_sequence
    FROM runs, last
)
SELECT count(*) FROM taken";

/// The position before the oldest event that is kept.
macro_rules! kept_after {
    () => {
        "SELECT last_position - (last_sequence - first_sequence) - 1 FROM feed ORDER BY last_position LIMIT 1"
    };
}

/// The events of a page, each with the position after which events are kept: what is archived meanwhile is in both or in neither.
const READ: &str = concat!(
    "SELECT f.last_position - (f.last_sequence - e.sequence) AS position, e.body, (",
    kept_after!(),
    ")
FROM (SELECT * FROM feed WHERE last_position > $1 ORDER BY last_position LIMIT $2) f
CROSS JOIN LATERAL (
    SELECT sequence, body FROM events
    WHERE sku = f.sku AND sequence BETWEEN f.first_sequence AND f.last_sequence
      AND sequence > f.last_sequence - (f.last_position - $1)
    ORDER BY sequence) e
ORDER BY f.last_position, e.sequence LIMIT $2"
);

#[async_trait]
impl EventLog for PostgresDatabase {
    async fn number(&self, limit: usize) -> StoreResult<usize> {
        let client = self.client().await?;
        // Most of the time there is nothing to do, and then nothing is locked or written.
        if all(&client, "SELECT 1 FROM units_of_work LIMIT 1", &[], |_| Ok(())).await?.is_empty() {
            return Ok(0);
        }
        // One at a time; the next statement sees what the one before us has done.
        let lock = Statement::new("SELECT 1 FROM leases WHERE task = 'numbering' FOR UPDATE", Vec::new());
        let number = Statement::new(NUMBER, vec![Box::new(number(limit as u64))]);
        let answers = PostgresTransaction::new(client, self.options.clone()).run(vec![lock, number]).await?;
        let taken = answers.last().and_then(|rows| rows.first()).map_or(Ok(0), |row| count(get(row, 0)?))?;
        usize::try_from(taken).map_err(|error| StoreError::Failed(error.to_string()))
    }

    async fn read(&self, after: u64, limit: usize) -> StoreResult<FeedPage> {
        let read =
            |row: &Row| Ok((FeedEvent { position: count(get(row, 0)?)?, body: get(row, 1)? }, count(get(row, 2)?)?));
        let (events, kept_after): (Vec<_>, Vec<_>) =
            self.all(READ, &[&number(after), &number(limit as u64)], read).await?.into_iter().unzip();
        let kept_after = if let Some(kept_after) = kept_after.first() {
            *kept_after
        } else {
            self.all(kept_after!(), &[], |row| count(get(row, 0)?)).await?.pop().unwrap_or(0)
        };
        Ok(FeedPage { kept_after, events })
    }

    async fn last_position(&self) -> StoreResult<u64> {
        let sql = "SELECT coalesce(max(last_position), 0) FROM feed";
        Ok(self.all(sql, &[], |row| count(get(row, 0)?)).await?.pop().unwrap_or(0))
    }

    async fn progress(&self, sink: &str) -> StoreResult<u64> {
        let sql = "SELECT position FROM sinks WHERE name = $1";
        Ok(self.all(sql, &[&sink], |row| count(get(row, 0)?)).await?.pop().unwrap_or(0))
    }

    async fn advance(&self, sink: &str, position: u64) -> StoreResult<bool> {
        // Does not wait for the disk, which saves a sync for each page that a sink has seen: if this is lost, it sees the page again.
        let sql = "UPDATE sinks SET position = greatest(position, $2)
                   FROM (SELECT set_config('synchronous_commit', 'off', true) OFFSET 0) now WHERE name = $1 RETURNING 1";
        Ok(!self.all(sql, &[&sink, &number(position)], |_| Ok(())).await?.is_empty())
    }

    async fn sinks(&self) -> StoreResult<Vec<Progress>> {
        let sql = "SELECT name, position FROM sinks ORDER BY name";
        self.all(sql, &[], |row| Ok(Progress { name: get(row, 0)?, position: count(get(row, 1)?)? })).await
    }

    async fn introduce(&self, sink: &str, position: u64) -> StoreResult<bool> {
        let sql = "INSERT INTO sinks (name, position) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1";
        Ok(!self.all(sql, &[&sink, &number(position)], |_| Ok(())).await?.is_empty())
    }

    async fn forget(&self, sink: &str) -> StoreResult<bool> {
        let sql = "DELETE FROM sinks WHERE name = $1 RETURNING 1";
        Ok(!self.all(sql, &[&sink], |_| Ok(())).await?.is_empty())
    }

    async fn lease(&self, task: &str, holder: &str, ttl: Duration) -> StoreResult<bool> {
        let sql = "INSERT INTO leases AS l (task, holder, expires_at)
                   VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
                   ON CONFLICT (task) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
                   WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp() RETURNING 1";
        Ok(!self.all(sql, &[&task, &holder, &ttl.as_secs_f64()], |_| Ok(())).await?.is_empty())
    }

    async fn release(&self, task: &str, holder: &str) -> StoreResult<()> {
        let sql = "DELETE FROM leases WHERE task = $1 AND holder = $2";
        self.all(sql, &[&task, &holder], |_| Ok(())).await.map(drop)
    }

    async fn last_notified(&self, subject: &str) -> StoreResult<Option<OffsetDateTime>> {
        let sql = "SELECT at FROM notified WHERE subject = $1";
        Ok(self.all(sql, &[&subject], |row| get(row, 0)).await?.pop())
    }

    async fn set_notified(&self, subject: &str, at: OffsetDateTime) -> StoreResult<()> {
        let sql = "INSERT INTO notified (subject, at) VALUES ($1, $2)
                   ON CONFLICT (subject) DO UPDATE SET at = excluded.at";
        self.all(sql, &[&subject, &at], |_| Ok(())).await.map(drop)
    }
}

#[async_trait]
impl Housekeeping for PostgresDatabase {
    async fn forget_keys(&self, of: KeyOf, age: Duration) -> StoreResult<u64> {
        let oldest = rows::micros(self.clock().await? - age);
        let sql = "WITH gone AS (
                       DELETE FROM request_keys WHERE ctid = ANY(ARRAY(
                           SELECT ctid FROM request_keys WHERE of_message = $1 AND at < $2 LIMIT $3)) RETURNING 1)
                   SELECT count(*) FROM gone";
        self.forget_in_steps(sql, &[&(of == KeyOf::Message), &oldest, &i64::from(FORGOTTEN_AT_ONCE)]).await
    }

    async fn forget_holds(&self, age: Duration) -> StoreResult<u64> {
        let oldest = rows::micros(self.clock().await? - age);
        let sql = "WITH gone AS (
                       DELETE FROM holders WHERE ctid = ANY(ARRAY(
                           SELECT ctid FROM holders WHERE until < $1 LIMIT $2)) RETURNING 1)
                   SELECT count(*) FROM gone";
        self.forget_in_steps(sql, &[&oldest, &i64::from(FORGOTTEN_AT_ONCE)]).await
    }
}

impl PostgresDatabase {
    /// Has a statement that forgets some and counts them carried out until there are no more.
    async fn forget_in_steps(&self, sql: &str, params: &[&dyn Value]) -> StoreResult<u64> {
        let mut forgotten = 0;
        loop {
            let gone: i64 = self.all(sql, params, |row| get(row, 0)).await?.pop().unwrap_or(0);
            forgotten += count(gone)?;
            if gone < i64::from(FORGOTTEN_AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }
}
