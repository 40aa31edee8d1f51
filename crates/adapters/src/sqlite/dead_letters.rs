//! Dead letters on SQLite.

use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::dead_letters::{DeadLetter, DeadLetters, KeptLetter};
use async_trait::async_trait;
use rusqlite::Row;

use super::event_log::{instant, millis};
use super::{SqliteDatabase, all, store_error};
use crate::rows::{self, count, number};

fn kept(row: &Row<'_>) -> StoreResult<KeptLetter> {
    let (id, times, received_at, source, channel, headers, body, reason): (i64, i64, i64, _, _, String, _, _) =
        row.try_into().map_err(store_error)?;
    let (received_at, headers) = (instant(received_at)?, rows::parse_headers(&headers)?);
    let letter = DeadLetter { received_at, source, channel, headers, body, reason };
    Ok(KeptLetter { id: count(id)?, times: count(times)?, letter })
}

#[async_trait]
impl DeadLetters for SqliteDatabase {
    async fn bury(&self, letter: &DeadLetter) -> StoreResult<()> {
        let (digest, headers, letter) = (rows::digest(letter), rows::headers_text(&letter.headers), letter.clone());
        self.write(move |connection| {
            let DeadLetter { received_at, source, channel, headers: _, body, reason } = letter;
            connection
                .execute(
                    "INSERT INTO dead_letters (digest, received_at, source, channel, headers, body, reason, times)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)
                     ON CONFLICT (digest) DO UPDATE SET received_at = excluded.received_at, headers = excluded.headers,
                         reason = excluded.reason, times = times + 1",
                    (digest, millis(received_at), source, channel, headers, body, reason),
                )
                .map_err(store_error)?;
            Ok(())
        })
        .await
    }

    async fn letters(&self, before: Option<u64>, limit: usize) -> StoreResult<Vec<KeptLetter>> {
        SqliteDatabase::read(self, move |tx| {
            let sql = "SELECT id, times, received_at, source, channel, headers, body, reason FROM dead_letters
                       WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
            all(tx, sql, (number(before.unwrap_or(u64::MAX)), number(limit as u64)), kept)
        })
        .await
    }

    async fn letter(&self, id: u64) -> StoreResult<Option<KeptLetter>> {
        SqliteDatabase::read(self, move |tx| {
            let sql = "SELECT id, times, received_at, source, channel, headers, body, reason FROM dead_letters
                       WHERE id = ?1";
            Ok(all(tx, sql, [number(id)], kept)?.pop())
        })
        .await
    }

    async fn drop_letter(&self, id: u64) -> StoreResult<bool> {
        self.write(move |connection| {
            let dropped = connection.execute("DELETE FROM dead_letters WHERE id = ?1", [number(id)]);
            Ok(dropped.map_err(store_error)? == 1)
        })
        .await
    }

    async fn count_letters(&self) -> StoreResult<u64> {
        SqliteDatabase::read(self, |tx| {
            let letters = tx.query_row("SELECT count(*) FROM dead_letters", (), |row| row.get(0));
            count(letters.map_err(store_error)?)
        })
        .await
    }
}
