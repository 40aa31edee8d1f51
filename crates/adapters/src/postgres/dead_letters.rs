//! Dead letters on PostgreSQL.

use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::dead_letters::{DeadLetter, DeadLetters, KeptLetter};
use async_trait::async_trait;
use tokio_postgres::Row;

use super::{PostgresDatabase, get};
use crate::rows::{self, count, number};

fn kept(row: &Row) -> StoreResult<KeptLetter> {
    let letter = DeadLetter {
        received_at: get(row, 2)?,
        source: get(row, 3)?,
        channel: get(row, 4)?,
        headers: rows::parse_headers(get(row, 5)?)?,
        body: get(row, 6)?,
        reason: get(row, 7)?,
    };
    Ok(KeptLetter { id: count(get(row, 0)?)?, times: count(get(row, 1)?)?, letter })
}

#[async_trait]
impl DeadLetters for PostgresDatabase {
    async fn bury(&self, letter: &DeadLetter) -> StoreResult<()> {
        let (digest, headers) = (rows::digest(letter), rows::headers_text(&letter.headers));
        let DeadLetter { received_at, source, channel, headers: _, body, reason } = letter;
        let sql = "INSERT INTO dead_letters AS d
                       (digest, received_at, source, channel, headers, body, reason, times)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, 1)
                   ON CONFLICT (digest) DO UPDATE SET received_at = excluded.received_at, headers = excluded.headers,
                       reason = excluded.reason, times = d.times + 1";
        self.all(sql, &[&digest, received_at, source, channel, &headers, body, reason], |_| Ok(())).await.map(drop)
    }

    async fn letters(&self, before: Option<u64>, limit: usize) -> StoreResult<Vec<KeptLetter>> {
        let sql = "SELECT id, times, received_at, source, channel, headers, body, reason FROM dead_letters
                   WHERE id < $1 ORDER BY id DESC LIMIT $2";
        self.all(sql, &[&number(before.unwrap_or(u64::MAX)), &number(limit as u64)], kept).await
    }

    async fn letter(&self, id: u64) -> StoreResult<Option<KeptLetter>> {
        let sql =
            "SELECT id, times, received_at, source, channel, headers, body, reason FROM dead_letters WHERE id = $1";
        Ok(self.all(sql, &[&number(id)], kept).await?.pop())
    }

    async fn drop_letter(&self, id: u64) -> StoreResult<bool> {
        let sql = "DELETE FROM dead_letters WHERE id = $1 RETURNING 1";
        Ok(!self.all(sql, &[&number(id)], |_| Ok(())).await?.is_empty())
    }

    async fn count_letters(&self) -> StoreResult<u64> {
        Ok(self.all("SELECT count(*) FROM dead_letters", &[], |row| count(get(row, 0)?)).await?.pop().unwrap_or(0))
    }
}
