//! The write side: one transaction at a time, on the one connection that writes.

use std::collections::BTreeMap;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, Product, Sku};
use allocation_service_layer::ports::database::{
    Change, ProductChanges, ProductRepository, RecordedEvent, Selection, StoreError, StoreResult, Transaction,
};
use allocation_service_layer::wire::date_text;
use rusqlite::{CachedStatement, Connection};
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;

use super::{BATCH, LINE, all, batch, chained, line, number_at, store_error, walk};
use crate::rows::{self, count, damaged, number};

/// A transaction that owns the writing connection until it ends. Its futures never wait: SQLite does its work when called.
pub struct SqliteTransaction {
    connection: OwnedMutexGuard<Connection>,
    now: OffsetDateTime,
    finished: bool,
    /// The newest line of each product loaded: where new ones are chained on.
    newest: BTreeMap<Sku, Option<LineKey>>,
}

impl SqliteTransaction {
    pub(super) fn begin(connection: OwnedMutexGuard<Connection>, now: OffsetDateTime) -> StoreResult<Self> {
        // IMMEDIATE: takes the write lock now, so that what is read below can't be stale when it is written.
        connection.execute_batch("BEGIN IMMEDIATE").map_err(store_error)?;
        Ok(Self { connection, now, finished: false, newest: BTreeMap::new() })
    }

    fn statement(&self, sql: &str) -> StoreResult<CachedStatement<'_>> {
        self.connection.prepare_cached(sql).map_err(store_error)
    }

    fn product(&mut self, sku: &Sku) -> StoreResult<Option<Product>> {
        let head = all(
            &self.connection,
            "SELECT version, backordered, out_of_stock_raised, newest_order_id, newest_line FROM products WHERE sku = ?1",
            [sku.as_str()],
            |row| Ok((number_at(row, 0)?, number_at(row, 1)?, row.get(2).map_err(store_error)?, chained(row, 3)?)),
        )?;
        let Some((version, backordered, raised, newest)) = head.into_iter().next() else { return Ok(None) };
        self.newest.insert(sku.clone(), newest);
        let open = format!("SELECT {BATCH} FROM batches WHERE sku = ?1 AND is_open");
        let batches = all(&self.connection, &open, [sku.as_str()], batch)?;
        Ok(Some(Product::restore(sku.clone(), count(version)?, count(backordered)?, raised, batches)))
    }

    fn save_batch(&self, sku: &str, kind: Change, batch: &Batch) -> StoreResult<()> {
        let sql = match kind {
            Change::Insert => {
                "INSERT INTO batches (quantity, allocated, eta, revision, is_open, sku, reference)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
            }
            Change::Update => {
                "UPDATE batches SET quantity = ?1, allocated = ?2, eta = ?3, revision = ?4, is_open = ?5
                 WHERE sku = ?6 AND reference = ?7"
            }
        };
        let params = (
            number(batch.quantity.units()),
            number(batch.allocated),
            batch.eta.map(date_text),
            number(batch.revision),
            batch.is_open(),
            sku,
            batch.reference.as_str(),
        );
        self.statement(sql)?.execute(params).map_err(store_error)?;
        Ok(())
    }

    fn update_line(&self, sku: &str, line: &AcceptedLine) -> StoreResult<()> {
        let mut update = self.statement(
            "UPDATE lines SET allocated = ?1, backordered = ?2, cancelled = ?3, batch = ?4
             WHERE order_id = ?5 AND sku = ?6 AND line = ?7",
        )?;
        let params = (
            number(line.allocated()),
            number(line.backordered()),
            number(line.cancelled()),
            line.batch().map(BatchRef::as_str),
            line.key.order_id.as_str(),
            sku,
            line.key.line.as_str(),
        );
        update.execute(params).map_err(store_error)?;
        Ok(())
    }

    fn insert_line(&self, sku: &str, line: &AcceptedLine, previous: Option<&LineKey>) -> StoreResult<()> {
        let mut insert = self.statement(
            "INSERT INTO lines (requested, allocated, backordered, cancelled, batch, order_id, sku, line, accepted,
                                previous_order_id, previous_line)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        let params = (
            number(line.requested.units()),
            number(line.allocated()),
            number(line.backordered()),
            number(line.cancelled()),
            line.batch().map(BatchRef::as_str),
            line.key.order_id.as_str(),
            sku,
            line.key.line.as_str(),
            number(line.accepted),
            previous.map(|key| key.order_id.as_str()),
            previous.map(|key| key.line.as_str()),
        );
        insert.execute(params).map_err(store_error)?;
        Ok(())
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if !self.finished && self.connection.execute_batch("ROLLBACK").is_err() {
            tracing::debug!("nothing to roll back: the transaction had ended by itself");
        }
    }
}

impl Transaction for SqliteTransaction {
    fn now(&self) -> OffsetDateTime {
        self.now
    }

    async fn record(&mut self, events: &[RecordedEvent]) -> StoreResult<()> {
        let mut insert = self.statement("INSERT INTO events (sku, sequence, body) VALUES (?1, ?2, ?3)")?;
        for event in events {
            insert.execute((event.sku.as_str(), number(event.sequence), &event.body)).map_err(store_error)?;
        }
        Ok(())
    }

    async fn commit(mut self) -> StoreResult<()> {
        self.connection.execute_batch("COMMIT").map_err(store_error)?;
        self.finished = true;
        Ok(())
    }

    async fn end(self) -> StoreResult<()> {
        // Dropping it rolls back.
        Ok(())
    }
}

impl ProductRepository for SqliteTransaction {
    async fn load(&mut self, wanted: &Selection) -> StoreResult<Vec<Product>> {
        let mut products = BTreeMap::new();
        for sku in &wanted.skus {
            if let Some(product) = self.product(sku)? {
                products.insert(sku.clone(), product);
            }
        }
        let by_key = format!("SELECT {LINE} FROM lines l WHERE order_id = ?1 AND sku = ?2 AND line = ?3");
        for (sku, key) in &wanted.lines {
            if let Some(product) = products.get_mut(sku) {
                let named = (key.order_id.as_str(), sku.as_str(), key.line.as_str());
                product.remember(all(&self.connection, &by_key, named, line)?);
            }
        }
        let closed = format!("SELECT {BATCH} FROM batches WHERE sku = ?1 AND reference = ?2 AND NOT is_open");
        for (sku, reference) in &wanted.batches {
            if let Some(product) = products.get_mut(sku)
                && product.batch(reference).is_none()
            {
                let named = (sku.as_str(), reference.as_str());
                product.remember_batches(all(&self.connection, &closed, named, batch)?);
            }
        }
        Ok(products.into_values().collect())
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let mut keys = Vec::new();
        for order_id in orders {
            let found =
                all(&self.connection, "SELECT sku, line FROM lines WHERE order_id = ?1", [order_id.as_str()], |row| {
                    let text = |column| row.get_ref(column).map_err(store_error)?.as_str().map_err(damaged);
                    Ok((rows::sku(text(0)?)?, rows::line_key(order_id.as_str(), text(1)?)?))
                })?;
            keys.extend(found);
        }
        Ok(keys)
    }

    async fn newest_lines(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<AcceptedLine>> {
        let mut newest = Vec::new();
        walk(&self.connection, sku, after, |line, _| {
            if line.batch() == Some(reference) {
                newest.push(line);
            }
            Ok(newest.len() < limit)
        })?;
        Ok(newest)
    }

    async fn waiting_lines(
        &mut self,
        sku: &Sku,
        max_units: u64,
        after: u64,
        limit: usize,
    ) -> StoreResult<Vec<AcceptedLine>> {
        let sql = format!(
            "SELECT {LINE} FROM lines l INDEXED BY lines_waiting
             WHERE sku = ?1 AND accepted > ?2 AND backordered > 0 AND backordered <= ?3 ORDER BY accepted LIMIT ?4"
        );
        let params = (sku.as_str(), number(after), number(max_units), number(limit as u64));
        all(&self.connection, &sql, params, line)
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        for change in changes {
            let product = change.product;
            let sku = product.sku().as_str();
            for (kind, batch) in &change.batches {
                self.save_batch(sku, *kind, batch)?;
            }
            let mut newest = self.newest.remove(product.sku()).flatten();
            let (mut new, known): (Vec<_>, Vec<_>) = change.lines.iter().partition(|(kind, _)| *kind == Change::Insert);
            new.sort_by_key(|(_, line)| line.accepted);
            for (_, line) in new {
                self.insert_line(sku, line, newest.as_ref())?;
                newest = Some(line.key.clone());
            }
            for (_, line) in known {
                self.update_line(sku, line)?;
            }
            // One statement for both cases would say `ON CONFLICT`, and then no conflict would be found.
            let sql = if change.saved_version == 0 {
                "INSERT INTO products (version, backordered, out_of_stock_raised, newest_order_id, newest_line, sku)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?7 = 0"
            } else {
                "UPDATE products SET version = ?1, backordered = ?2, out_of_stock_raised = ?3, newest_order_id = ?4,
                                     newest_line = ?5
                 WHERE sku = ?6 AND version = ?7"
            };
            let params = (
                number(product.version()),
                number(product.backordered()),
                product.out_of_stock_raised(),
                newest.as_ref().map(|key| key.order_id.as_str()),
                newest.as_ref().map(|key| key.line.as_str()),
                sku,
                number(change.saved_version),
            );
            if self.statement(sql)?.execute(params).map_err(store_error)? != 1 {
                return Err(StoreError::Conflict(format!("{sku} is not at version {}", change.saved_version)));
            }
            self.newest.insert(product.sku().clone(), newest);
        }
        Ok(())
    }
}
