//! Archiving on SQLite: the oldest events are the first rows of their table.

use allocation_domain::{BatchRef, LineKey};
use allocation_service_layer::ports::archive::{Archive, Checkpoint, Removal, Replacement};
use allocation_service_layer::ports::database::{NotedBalances, Selection, StoreError, StoreResult};
use async_trait::async_trait;
use rusqlite::{Connection, Row, TransactionBehavior};

use super::{SqliteDatabase, all, number_at, store_error, text_at};
use crate::rows::{self, count, number};

/// The columns that [`checkpoint_at`] reads.
pub(super) const CHECKPOINT: &str = "sku, sequence, head, balances";
/// The columns that [`batch_at`] reads.
pub(super) const CHECKPOINT_BATCH: &str = "sku, reference, body";
/// The columns that [`line_at`] reads.
pub(super) const CHECKPOINT_LINE: &str = "sku, order_id, line, body";

/// Reads a checkpoint without its batches and lines.
pub(super) fn checkpoint_at(row: &Row<'_>) -> StoreResult<Checkpoint> {
    let (sku, sequence) = (rows::sku(text_at(row, 0)?)?, count(number_at(row, 1)?)?);
    Ok(Checkpoint {
        balances: NotedBalances { sku, sequence, body: text_at(row, 3)?.to_owned() },
        head: text_at(row, 2)?.to_owned(),
        batches: Vec::new(),
        lines: Vec::new(),
    })
}

/// Reads what a checkpoint says of a batch.
pub(super) fn batch_at(row: &Row<'_>) -> StoreResult<(BatchRef, String)> {
    Ok((rows::reference(text_at(row, 1)?)?, text_at(row, 2)?.to_owned()))
}

/// Reads what a checkpoint says of a line.
pub(super) fn line_at(row: &Row<'_>) -> StoreResult<(LineKey, String)> {
    Ok((rows::line_key(text_at(row, 1)?, text_at(row, 2)?)?, text_at(row, 3)?.to_owned()))
}

#[async_trait]
impl Archive for SqliteDatabase {
    async fn checkpoints(&self, wanted: &Selection) -> StoreResult<Vec<Checkpoint>> {
        let wanted = wanted.clone();
        self.read(move |tx| {
            let head = format!("SELECT {CHECKPOINT} FROM checkpoints WHERE sku = ?1");
            let batch = format!("SELECT {CHECKPOINT_BATCH} FROM checkpoint_batches WHERE sku = ?1 AND reference = ?2");
            let line = format!(
                "SELECT {CHECKPOINT_LINE} FROM checkpoint_lines WHERE sku = ?1 AND order_id = ?2 AND line = ?3"
            );
            let mut found = Vec::new();
            for sku in &wanted.skus {
                let of = sku.as_str();
                for mut checkpoint in all(tx, &head, [of], checkpoint_at)? {
                    for (_, reference) in wanted.batches.iter().filter(|(named, _)| named == sku) {
                        checkpoint.batches.extend(all(tx, &batch, (of, reference.as_str()), batch_at)?);
                    }
                    for (_, key) in wanted.lines.iter().filter(|(named, _)| named == sku) {
                        let named = (of, key.order_id.as_str(), key.line.as_str());
                        checkpoint.lines.extend(all(tx, &line, named, line_at)?);
                    }
                    found.push(checkpoint);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn take_out(&self, removal: &Removal) -> StoreResult<()> {
        let removal = removal.clone();
        self.write(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
            let oldest = "SELECT min(position) FROM events";
            let oldest: Option<i64> = tx.query_row(oldest, (), |row| row.get(0)).map_err(store_error)?;
            let behind = "SELECT EXISTS (SELECT 1 FROM sinks WHERE position < ?1)";
            let behind: bool = tx.query_row(behind, [number(removal.until)], |row| row.get(0)).map_err(store_error)?;
            if oldest != Some(number(removal.after + 1)) || behind {
                return Err(StoreError::Conflict("somebody else archives, or a sink has come".to_owned()));
            }
            for replacement in &removal.products {
                replace(&tx, replacement)?;
            }
            tx.execute("DELETE FROM events WHERE position <= ?1", [number(removal.until)]).map_err(store_error)?;
            tx.commit().map_err(store_error)
        })
        .await
    }
}

fn replace(connection: &Connection, Replacement { checkpoint, .. }: &Replacement) -> StoreResult<()> {
    let execute = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)
    };
    let (sku, sequence) = (checkpoint.sku().as_str(), number(checkpoint.sequence()));
    execute(
        "INSERT OR REPLACE INTO checkpoints (sku, sequence, head, balances) VALUES (?1, ?2, ?3, ?4)",
        &[&sku, &sequence, &checkpoint.head, &checkpoint.balances.body],
    )?;
    execute("DELETE FROM balances WHERE sku = ?1 AND sequence <= ?2", &[&sku, &sequence])?;
    for (reference, body) in &checkpoint.batches {
        execute(
            "INSERT OR REPLACE INTO checkpoint_batches (sku, reference, body) VALUES (?1, ?2, ?3)",
            &[&sku, &reference.as_str(), body],
        )?;
    }
    for (key, body) in &checkpoint.lines {
        execute(
            "INSERT OR REPLACE INTO checkpoint_lines (sku, order_id, line, body) VALUES (?1, ?2, ?3, ?4)",
            &[&sku, &key.order_id.as_str(), &key.line.as_str(), body],
        )?;
    }
    Ok(())
}
