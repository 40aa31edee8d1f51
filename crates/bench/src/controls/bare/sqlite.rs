//! The bare loop on SQLite.

use std::path::Path;

use allocation_domain::LineId;
use rusqlite::{Connection, Result};

use super::Lot;

/// Opens a file as the adapter does.
pub(super) fn open(file: &Path) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000;",
    )?;
    Ok(connection)
}

/// One transaction.
pub(super) fn write(connection: &mut Connection, lot: &Lot, balances: Option<String>) -> Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut newest: Option<i64> = connection
        .prepare_cached("SELECT newest_event FROM products WHERE sku = ?1")?
        .query_row([&lot.sku], |row| row.get(0))?;
    let mut events =
        connection.prepare_cached("INSERT INTO events (sku, sequence, body, previous) VALUES (?1, ?2, ?3, ?4)")?;
    for (sequence, event) in lot.sequences().zip(&lot.events) {
        newest = Some(events.insert((&lot.sku, number(sequence), event, newest))?);
    }
    let line = LineId::default();
    let line = line.as_str();
    connection
        .prepare_cached(
            "UPDATE products SET version = ?2, changed_at = ?6, newest_order_id = ?4, newest_line = ?5, newest_event = ?7
             WHERE sku = ?1 AND version = ?3",
        )?
        .execute((&lot.sku, number(lot.last()), number(lot.version), lot.orders.last(), line, lot.at, newest))?;
    connection.prepare_cached("UPDATE batches SET allocated = ?3 WHERE sku = ?1 AND reference = ?2")?.execute((
        &lot.sku,
        &lot.batch,
        number(lot.allocated()),
    ))?;
    let mut lines = connection.prepare_cached(
        "INSERT INTO lines (requested, placed, backordered, queued, priority, in_parts, batch, order_id, sku, line,
                            accepted, previous_order_id, previous_line)
         VALUES (1, 1, 0, 0, 0, 0, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut previous = lot.previous.as_ref();
    for (sequence, order) in lot.sequences().zip(&lot.orders) {
        let before = previous.replace(order);
        lines.execute((&lot.batch, order, &lot.sku, line, number(sequence), before, before.map(|_| line)))?;
    }
    if let Some(balances) = balances {
        connection
            .prepare_cached("INSERT INTO balances (sku, sequence, position, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute((&lot.sku, number(lot.last()), newest, balances))?;
    }
    connection.execute_batch("COMMIT")
}

/// Brings everything into the file itself.
pub(super) fn settle(connection: &Connection) -> Result<()> {
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
