//! The ledger of movements. Events are chained, each to the one of the same product before it, so that a product's are found without an
//! index; and balances are noted with the place of their event, so that the chain can be begun there.

use std::collections::BTreeMap;

use allocation_domain::{BatchRef, Sku};
use allocation_service_layer::ports::database::{NotedBalances, StoreResult};
use allocation_service_layer::ports::reader::Span;
use allocation_service_layer::wire::names_batch;
use rusqlite::{Connection, Row};

use super::{all, number_at, store_error, text_at};
use crate::rows::{count, damaged, number};

/// An event as the chain has it: its place and its number, then its row.
type Link<'a> = (i64, u64, &'a Row<'a>);

/// Visits a product's events, last first, from the one in this place on, until `visit` says `false` or the rest was archived.
fn walk(
    connection: &Connection,
    from: Option<i64>,
    mut visit: impl FnMut(Link<'_>) -> StoreResult<bool>,
) -> StoreResult<()> {
    let sql = "SELECT sequence, previous, body FROM events WHERE position = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut next = from;
    while let Some(position) = next {
        let mut found = statement.query([position]).map_err(store_error)?;
        let Some(row) = found.next().map_err(store_error)? else { break };
        if !visit((position, count(number_at(row, 0)?)?, row))? {
            break;
        }
        next = row.get(1).map_err(store_error)?;
    }
    Ok(())
}

/// Where the last event of a product is.
fn newest(connection: &Connection, sku: &Sku) -> StoreResult<Option<i64>> {
    let sql = "SELECT newest_event FROM products WHERE sku = ?1";
    let found = all(connection, sql, [sku.as_str()], |row| row.get(0).map_err(store_error))?;
    Ok(found.into_iter().next().flatten())
}

/// Reads a span from two columns.
pub(super) fn span_at(row: &Row<'_>, first: usize) -> StoreResult<Span> {
    Ok(Span { after: count(number_at(row, first)?)?, until: count(number_at(row, first + 1)?)? })
}

/// Where a product's events are, or those of one of its batches.
pub(super) fn span(connection: &Connection, sku: &Sku, batch: Option<&BatchRef>) -> StoreResult<Option<Span>> {
    let span = |row: &Row<'_>| span_at(row, 0);
    let found = if let Some(reference) = batch {
        let sql = "SELECT b.created_after, iif(b.is_open, p.version, b.changed_by)
                   FROM products p JOIN batches b ON b.sku = p.sku WHERE p.sku = ?1 AND b.reference = ?2";
        all(connection, sql, (sku.as_str(), reference.as_str()), span)
    } else {
        all(connection, "SELECT 0, version FROM products WHERE sku = ?1", [sku.as_str()], span)
    };
    Ok(found?.into_iter().next())
}

/// The balances noted last, of those up to an event.
pub(super) fn noted_balances(connection: &Connection, sku: &Sku, until: u64) -> StoreResult<Option<NotedBalances>> {
    let sql = "SELECT sequence, body FROM balances WHERE sku = ?1 AND sequence <= ?2 ORDER BY sequence DESC LIMIT 1";
    let found = all(connection, sql, (sku.as_str(), number(until)), |row| {
        Ok(NotedBalances { sku: sku.clone(), sequence: count(number_at(row, 0)?)?, body: text_at(row, 1)?.to_owned() })
    });
    Ok(found?.into_iter().next())
}

/// What a product's batches came to by its last event that was archived.
pub(super) fn archived(connection: &Connection, sku: &Sku) -> StoreResult<Option<NotedBalances>> {
    let sql = "SELECT sequence, balances FROM checkpoints WHERE sku = ?1";
    let found = all(connection, sql, [sku.as_str()], |row| {
        Ok(NotedBalances { sku: sku.clone(), sequence: count(number_at(row, 0)?)?, body: text_at(row, 1)?.to_owned() })
    });
    Ok(found?.into_iter().next())
}

/// Notes balances of products whose events are all in the chain.
pub(super) fn note(connection: &Connection, balances: &[NotedBalances]) -> StoreResult<()> {
    let mut of_products: BTreeMap<&Sku, BTreeMap<u64, &str>> = BTreeMap::new();
    for NotedBalances { sku, sequence, body } in balances {
        of_products.entry(sku).or_default().insert(*sequence, body);
    }
    let sql = "INSERT INTO balances (sku, sequence, position, body) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = connection.prepare_cached(sql).map_err(store_error)?;
    for (sku, mut unnoted) in of_products {
        walk(connection, newest(connection, sku)?, |(position, sequence, _)| {
            if let Some(body) = unnoted.remove(&sequence) {
                insert.execute((sku.as_str(), number(sequence), position, body)).map_err(store_error)?;
            }
            Ok(!unnoted.is_empty())
        })?;
        if let Some(sequence) = unnoted.keys().next() {
            return Err(damaged(format!("no event {sequence} of {sku}")));
        }
    }
    Ok(())
}

/// A product's events after one and up to another, by sequence; given a batch, those that name it.
pub(super) fn events_of(
    connection: &Connection,
    sku: &Sku,
    batch: Option<&BatchRef>,
    after: u64,
    until: u64,
) -> StoreResult<Vec<String>> {
    let noted = "SELECT position FROM balances WHERE sku = ?1 AND sequence >= ?2 ORDER BY sequence LIMIT 1";
    let noted = all(connection, noted, (sku.as_str(), number(until)), |row| number_at(row, 0))?;
    let from = noted.first().copied().map_or_else(|| newest(connection, sku), |position| Ok(Some(position)))?;
    let named = batch.map(names_batch);
    let mut events = Vec::new();
    walk(connection, from, |(_, sequence, row)| {
        if sequence > after && sequence <= until {
            let body = text_at(row, 2)?;
            if named.as_ref().is_none_or(|named| body.contains(named)) {
                events.push(body.to_owned());
            }
        }
        Ok(sequence > after + 1)
    })?;
    events.reverse();
    Ok(events)
}

/// Chains all events of a product anew, and says where the last is.
pub(super) fn chain(connection: &Connection, sku: &Sku) -> StoreResult<Option<i64>> {
    let sql = "UPDATE events SET previous = c.previous
               FROM (SELECT position, lag(position) OVER (ORDER BY sequence) AS previous FROM events WHERE sku = ?1) c
               WHERE events.position = c.position";
    connection.execute(sql, [sku.as_str()]).map_err(store_error)?;
    let last = "SELECT position FROM events WHERE sku = ?1 ORDER BY sequence DESC LIMIT 1";
    Ok(all(connection, last, [sku.as_str()], |row| number_at(row, 0))?.first().copied())
}
