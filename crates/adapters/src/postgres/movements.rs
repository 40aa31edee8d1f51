//! The ledger of movements.

use allocation_domain::{BatchRef, Sku};
use allocation_service_layer::ports::database::{NotedBalances, StoreResult};
use allocation_service_layer::ports::reader::Span;
use allocation_service_layer::wire::names_batch;
use tokio_postgres::Row;

use super::{PostgresDatabase, get};
use crate::rows::{count, number};

/// Notes balances: of the SKUs `$1` after the events `$2`.
pub(super) const INSERT_BALANCES: &str = "INSERT INTO balances (sku, sequence, body)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])";

/// Reads the balances of a product that are noted, from three columns.
pub(super) fn balances(row: &Row, sku: &Sku) -> StoreResult<NotedBalances> {
    Ok(NotedBalances { sku: sku.clone(), sequence: count(get(row, 0)?)?, body: get(row, 1)? })
}

/// Reads a span from two columns.
pub(super) fn span_at(row: &Row, first: usize) -> StoreResult<Span> {
    Ok(Span { after: count(get(row, first)?)?, until: count(get(row, first + 1)?)? })
}

impl PostgresDatabase {
    /// Where a product's events are, or those of one of its batches.
    pub(super) async fn find_span(&self, sku: &Sku, batch: Option<&BatchRef>) -> StoreResult<Option<Span>> {
        let span = |row: &Row| span_at(row, 0);
        let found = if let Some(reference) = batch {
            let sql = "SELECT b.created_after, CASE WHEN b.is_open THEN p.version ELSE b.changed_by END
                       FROM products p JOIN batches b ON b.sku = p.sku WHERE p.sku = $1 AND b.reference = $2";
            self.all(sql, &[&sku.as_str(), &reference.as_str()], span).await?
        } else {
            self.all("SELECT 0::bigint, version FROM products WHERE sku = $1", &[&sku.as_str()], span).await?
        };
        Ok(found.into_iter().next())
    }

    /// The balances noted last, of those up to an event.
    pub(super) async fn find_balances(&self, sku: &Sku, until: u64) -> StoreResult<Option<NotedBalances>> {
        let sql = "SELECT sequence, body FROM balances WHERE sku = $1 AND sequence <= $2
                   ORDER BY sku DESC, sequence DESC LIMIT 1";
        let found = self.all(sql, &[&sku.as_str(), &number(until)], |row| balances(row, sku)).await?;
        Ok(found.into_iter().next())
    }

    /// A product's events after one and up to another, by sequence; given a batch, those that name it.
    pub(super) async fn find_events(
        &self,
        sku: &Sku,
        batch: Option<&BatchRef>,
        after: u64,
        until: u64,
    ) -> StoreResult<Vec<String>> {
        let sql = "SELECT body FROM events WHERE sku = $1 AND sequence > $2 AND sequence <= $3
                     AND ($4::text IS NULL OR strpos(body, $4) > 0)
                   ORDER BY sku, sequence";
        let named = batch.map(names_batch);
        self.all(sql, &[&sku.as_str(), &number(after), &number(until), &named], |row| get(row, 0)).await
    }
}
