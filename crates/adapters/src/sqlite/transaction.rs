//! The write side: one transaction at a time, on the one connection that writes.

use std::collections::BTreeMap;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, PartKey, Product, Seniority, Sku};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{
    Change, ProductChanges, ProductRepository, RecordedEvent, Selection, StoreError, StoreResult, Transaction, Units,
};
use allocation_service_layer::verify::ProductBooks;
use allocation_service_layer::wire::date_text;
use rusqlite::{CachedStatement, Connection};
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;

use super::reader::books;
use super::{
    BATCH, LINE, OPEN_BATCHES, PRODUCT_COLUMNS, PRODUCT_WITH_NEWEST, all, batch, chained, line, named_units, product,
    store_error, waiting, walk,
};
use crate::rows::{self, damaged, number};

/// A transaction that owns the writing connection until it ends. Its futures never wait: SQLite does its work when called.
pub struct SqliteTransaction {
    connection: OwnedMutexGuard<Connection>,
    now: OffsetDateTime,
    finished: bool,
    /// The newest line of each product loaded: where new ones are chained on.
    newest: BTreeMap<Sku, Option<LineKey>>,
}

impl SqliteTransaction {
    pub(super) fn begin(connection: OwnedMutexGuard<Connection>, clock: &dyn Clock) -> StoreResult<Self> {
        // IMMEDIATE: takes the write lock now, so that what is read below can't be stale when it is written.
        connection.execute_batch("BEGIN IMMEDIATE").map_err(store_error)?;
        let now = rows::storable(clock.now());
        Ok(Self { connection, now, finished: false, newest: BTreeMap::new() })
    }

    fn statement(&self, sql: &str) -> StoreResult<CachedStatement<'_>> {
        self.connection.prepare_cached(sql).map_err(store_error)
    }

    fn product(&mut self, sku: &Sku) -> StoreResult<Option<Product>> {
        let head = all(&self.connection, PRODUCT_WITH_NEWEST, [sku.as_str()], |row| {
            Ok((product(row)?, chained(row, PRODUCT_COLUMNS)?))
        })?;
        let Some((mut stored, newest)) = head.into_iter().next() else { return Ok(None) };
        self.newest.insert(sku.clone(), newest);
        stored.batches = all(&self.connection, OPEN_BATCHES, [sku.as_str()], batch)?;
        Ok(Some(Product::restore(stored, self.now)))
    }

    fn save_batch(&self, sku: &str, kind: Change, batch: &Batch) -> StoreResult<()> {
        let sql = match kind {
            Change::Insert => {
                "INSERT INTO batches (quantity, held, allocated, eta, cancelled, revision, is_open, sku, reference)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            }
            Change::Update => {
                "UPDATE batches SET quantity = ?1, held = ?2, allocated = ?3, eta = ?4, cancelled = ?5, revision = ?6,
                                    is_open = ?7
                 WHERE sku = ?8 AND reference = ?9"
            }
        };
        let params = (
            number(batch.quantity.units()),
            number(batch.held),
            number(batch.allocated),
            batch.eta.map(date_text),
            batch.cancelled,
            number(batch.revision),
            batch.is_open(),
            sku,
            batch.reference.as_str(),
        );
        self.statement(sql)?.execute(params).map_err(store_error)?;
        Ok(())
    }

    /// Writes a line: a new one with the key of the line before it, on which it is chained.
    fn save_line(&self, sku: &str, line: &AcceptedLine, kind: Change, previous: Option<&LineKey>) -> StoreResult<()> {
        let sql = match kind {
            Change::Insert => {
                "INSERT INTO lines (requested, placed, backordered, queued, batch, dropped, cancelled, lapsed, held_until,
                                    priority, by_date, not_before, min_split, in_parts, order_id, sku, line, accepted,
                                    previous_order_id, previous_line)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
            }
            Change::Update => {
                "UPDATE lines SET requested = ?1, placed = ?2, backordered = ?3, queued = ?4, batch = ?5, dropped = ?6,
                                  cancelled = ?7, lapsed = ?8, held_until = ?9, priority = ?10, by_date = ?11,
                                  not_before = ?12, min_split = ?13, in_parts = ?14
                 WHERE order_id = ?15 AND sku = ?16 AND line = ?17"
            }
        };
        let units = rows::Units::of(line);
        let key = (line.key.order_id.as_str(), line.key.line.as_str());
        let mut statement = self.statement(sql)?;
        let mut at = 0;
        let mut bind = |value: &dyn rusqlite::ToSql| {
            at += 1;
            statement.raw_bind_parameter(at, value).map_err(store_error)
        };
        bind(&number(line.requested.units()))?;
        bind(&number(units.placed))?;
        bind(&number(units.backordered))?;
        bind(&number(line.queued))?;
        bind(&units.batch)?;
        bind(&rows::rare(line.dropped))?;
        bind(&rows::rare(line.cancelled))?;
        bind(&rows::rare(line.lapsed))?;
        bind(&line.hold.map(rows::micros))?;
        bind(&line.terms.priority)?;
        bind(&line.terms.by.map(date_text))?;
        bind(&line.terms.not_before.map(date_text))?;
        bind(&rows::min_split(line.terms.split))?;
        bind(&units.in_parts)?;
        bind(&key.0)?;
        bind(&sku)?;
        bind(&key.1)?;
        if kind == Change::Insert {
            bind(&number(line.accepted))?;
            bind(&previous.map(|key| key.order_id.as_str()))?;
            bind(&previous.map(|key| key.line.as_str()))?;
        }
        statement.raw_execute().map_err(store_error)?;
        if kind == Change::Update {
            self.statement("DELETE FROM parts WHERE sku = ?1 AND order_id = ?2 AND line = ?3")?
                .execute((sku, key.0, key.1))
                .map_err(store_error)?;
        }
        if units.in_parts {
            let mut insert = self.statement(
                "INSERT INTO parts (sku, order_id, line, priority, accepted, batch, qty)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for part in &line.parts {
                let batch = part.batch.as_ref().map(BatchRef::as_str);
                let (accepted, qty) = (number(part.accepted), number(part.qty.units()));
                insert.execute((sku, key.0, key.1, line.terms.priority, accepted, batch, qty)).map_err(store_error)?;
            }
        }
        Ok(())
    }

    /// Lines of one batch that are neither held nor of a priority of their own, accepted last first: nearly all lines are so, and have no
    /// index; they are found by following the chain.
    fn usual_losers(
        &self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&PartKey>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        // Where to go on is a line; units of a line that has several acceptances are found elsewhere.
        let from = after.map(|after| &after.line);
        let mut found = Vec::new();
        walk(&self.connection, sku, from, |line| {
            let simple = !rows::Units::of(&line).in_parts;
            if simple && line.hold.is_none() && line.terms.priority == 0 && line.is_in(reference) {
                found.push(Units { accepted: line.accepted, line });
            }
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }
}

/// Units in a batch that are held, of a priority of their own, or in rows of their own, in the order in which they lose their place.
const RARE_LOSERS: &str = "SELECT order_id, line, accepted FROM (
    SELECT l.order_id, l.line, l.accepted, l.priority, 1 AS held FROM lines l INDEXED BY lines_held
    WHERE l.sku = ?1 AND l.held_until IS NOT NULL AND l.batch = ?2
    UNION ALL
    SELECT l.order_id, l.line, l.accepted, l.priority, 0 FROM lines l INDEXED BY lines_with_priority
    WHERE l.sku = ?1 AND l.priority <> 0 AND l.held_until IS NULL AND l.batch = ?2
    UNION ALL
    SELECT p.order_id, p.line, p.accepted, p.priority, l.held_until IS NOT NULL FROM parts p INDEXED BY parts_in_batch
    JOIN lines l ON l.order_id = p.order_id AND l.sku = p.sku AND l.line = p.line
    WHERE p.sku = ?1 AND p.batch = ?2
    ) ORDER BY held DESC, priority, accepted DESC LIMIT ?3";

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
                product.remember(all(&self.connection, &by_key, named, |row| line(&self.connection, row))?);
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

    async fn losers(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&PartKey>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        let usual = self.usual_losers(sku, reference, after, limit)?;
        let params = (sku.as_str(), reference.as_str(), number(limit as u64));
        let mut losers = named_units(&self.connection, sku, RARE_LOSERS, params)?;
        if !losers.is_empty() {
            losers.extend(usual);
            losers.sort_by_key(|units| {
                (units.line.hold.is_none(), units.line.terms.priority, std::cmp::Reverse(units.accepted))
            });
            losers.truncate(limit);
            return Ok(losers);
        }
        Ok(usual)
    }

    async fn waiting(
        &mut self,
        sku: &Sku,
        largest_free: u64,
        after: Option<Seniority>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        waiting(&self.connection, sku, largest_free, after, limit)
    }

    async fn due_holds(&mut self, products: &[(Sku, OffsetDateTime)]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        let sql = format!("SELECT {LINE} FROM lines l INDEXED BY lines_held WHERE sku = ?1 AND held_until <= ?2");
        let mut due = Vec::new();
        for (sku, now) in products {
            let lines =
                all(&self.connection, &sql, (sku.as_str(), rows::micros(*now)), |row| line(&self.connection, row))?;
            due.extend(lines.into_iter().map(|line| (sku.clone(), line)));
        }
        Ok(due)
    }

    async fn books(&mut self, sku: &Sku) -> StoreResult<ProductBooks> {
        books(&self.connection, sku, self.now)
    }

    async fn replace(&mut self, product: &Product) -> StoreResult<()> {
        for table in ["products", "batches", "lines", "parts"] {
            let sql = format!("DELETE FROM {table} WHERE sku = ?1");
            self.connection.execute(&sql, [product.sku().as_str()]).map_err(store_error)?;
        }
        self.newest.remove(product.sku());
        let everything = ProductChanges {
            product,
            saved_version: 0,
            batches: product.batches().iter().map(|batch| (Change::Insert, batch)).collect(),
            lines: product.lines().map(|line| (Change::Insert, line)).collect(),
        };
        self.save(&[everything]).await
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
            for (kind, line) in new {
                self.save_line(sku, line, kind, newest.as_ref())?;
                newest = Some(line.key.clone());
            }
            for (kind, line) in known {
                self.save_line(sku, line, kind, None)?;
            }
            // One statement for both cases would say `ON CONFLICT`, and then no conflict would be found.
            let sql = if change.saved_version == 0 {
                "INSERT INTO products (version, changed_at, backordered, queued, out_of_stock_raised, queue_cap,
                                       auto_improve, newest_order_id, newest_line, sku)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE ?11 = 0"
            } else {
                "UPDATE products SET version = ?1, changed_at = ?2, backordered = ?3, queued = ?4,
                                     out_of_stock_raised = ?5, queue_cap = ?6, auto_improve = ?7, newest_order_id = ?8,
                                     newest_line = ?9
                 WHERE sku = ?10 AND version = ?11"
            };
            let settings = product.settings();
            let params = (
                number(product.version()),
                rows::micros(product.changed_at()),
                number(product.backordered()),
                number(product.queued()),
                product.out_of_stock_raised(),
                settings.queue_cap.map(number),
                settings.auto_improve,
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
