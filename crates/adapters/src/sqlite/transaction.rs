//! The write side: one transaction at a time, on the one connection that writes.

use allocation_domain::{AcceptedLine, BatchRef, LineKey, OrderId, Product, Sku};
use allocation_service_layer::ports::database::{
    Change, ProductChanges, ProductRepository, RecordedEvent, Selection, StoreError, StoreResult, Transaction,
};
use allocation_service_layer::wire::date_text;
use rusqlite::{CachedStatement, Connection};
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;

use super::{BATCH, LINE, all, batch, line, store_error};
use crate::rows::{self, count, damaged, number};

/// A transaction that owns the writing connection until it ends. Its futures never wait: SQLite does its work when called.
pub struct SqliteTransaction {
    connection: OwnedMutexGuard<Connection>,
    now: OffsetDateTime,
    finished: bool,
}

impl SqliteTransaction {
    pub(super) fn begin(connection: OwnedMutexGuard<Connection>, now: OffsetDateTime) -> StoreResult<Self> {
        // IMMEDIATE: takes the write lock now, so that what is read below can't be stale when it is written.
        connection.execute_batch("BEGIN IMMEDIATE").map_err(store_error)?;
        Ok(Self { connection, now, finished: false })
    }

    fn statement(&self, sql: &str) -> StoreResult<CachedStatement<'_>> {
        self.connection.prepare_cached(sql).map_err(store_error)
    }

    fn product(&self, sku: &Sku) -> StoreResult<Option<Product>> {
        let head = all(
            &self.connection,
            "SELECT version, backordered, out_of_stock_raised FROM products WHERE sku = ?1",
            [sku.as_str()],
            |row| row.try_into().map_err(store_error),
        )?;
        let Some(&(version, backordered, raised)) = head.first() else { return Ok(None) };
        let open = format!("SELECT {BATCH} FROM batches WHERE sku = ?1 AND is_open");
        let batches = all(&self.connection, &open, [sku.as_str()], batch)?;
        Ok(Some(Product::restore(sku.clone(), count(version)?, count(backordered)?, raised, batches)))
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
}

impl ProductRepository for SqliteTransaction {
    async fn load(&mut self, wanted: &Selection) -> StoreResult<Vec<Product>> {
        let mut products = std::collections::BTreeMap::new();
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

    async fn newest_lines(&mut self, sku: &Sku, reference: &BatchRef, limit: usize) -> StoreResult<Vec<AcceptedLine>> {
        let sql = format!(
            "SELECT {LINE} FROM lines l INDEXED BY lines_by_seniority
             WHERE sku = ?1 AND batch = ?2 ORDER BY accepted DESC LIMIT ?3"
        );
        all(&self.connection, &sql, (sku.as_str(), reference.as_str(), number(limit as u64)), line)
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
            let head = (sku, number(product.version()), number(product.backordered()), product.out_of_stock_raised());
            if change.saved_version == 0 {
                self.statement(
                    "INSERT INTO products (sku, version, backordered, out_of_stock_raised) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(head)
                .map_err(store_error)?;
            } else {
                let (sku, version, backordered, raised) = head;
                let updated = self
                    .statement(
                        "UPDATE products SET version = ?2, backordered = ?3, out_of_stock_raised = ?4
                         WHERE sku = ?1 AND version = ?5",
                    )?
                    .execute((sku, version, backordered, raised, number(change.saved_version)))
                    .map_err(store_error)?;
                if updated != 1 {
                    return Err(StoreError::Conflict(format!("{sku} is not at version {}", change.saved_version)));
                }
            }
            for (kind, batch) in &change.batches {
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
            }
            for (kind, line) in &change.lines {
                let sql = match kind {
                    Change::Insert => {
                        "INSERT INTO lines
                             (requested, allocated, backordered, cancelled, batch, order_id, sku, line, accepted)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
                    }
                    // `accepted` never changes; it is named so that both forms take the same parameters.
                    Change::Update => {
                        "UPDATE lines SET requested = ?1, allocated = ?2, backordered = ?3, cancelled = ?4, batch = ?5
                         WHERE order_id = ?6 AND sku = ?7 AND line = ?8 AND accepted = ?9"
                    }
                };
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
                );
                self.statement(sql)?.execute(params).map_err(store_error)?;
            }
        }
        Ok(())
    }
}
