//! The write side: one transaction at a time, on the one connection that writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, PartKey, Product, Seniority, Sku, Strategy};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{
    Change, DueBy, HeldFor, KeyOf, NotedBalances, ProductChanges, ProductRepository, RecordedEvent, RequestKey,
    Selection, StoreError, StoreResult, Transaction, Units,
};
use allocation_service_layer::verify::ProductBooks;
use allocation_service_layer::wire::{date_text, levels_json};
use rusqlite::{CachedStatement, Connection, params};
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;

use super::ends::End;
use super::reader::books;
use super::{
    BATCH, LINE, OPEN_BATCHES, PRODUCT_WITH_ENDS, Writer, all, batch, line, movements, named_units, product_with_end,
    store_error, waiting, walk,
};
use crate::rows::{self, damaged, number};

/// A transaction that owns the writing connection until it ends. Its futures never wait: SQLite does its work when called.
pub struct SqliteTransaction {
    writer: OwnedMutexGuard<Writer>,
    now: OffsetDateTime,
    finished: bool,
}

impl SqliteTransaction {
    pub(super) fn begin(writer: OwnedMutexGuard<Writer>, clock: &dyn Clock) -> StoreResult<Self> {
        // IMMEDIATE: takes the write lock now, so that what is read below can't be stale when it is written.
        writer.connection.execute_batch("BEGIN IMMEDIATE").map_err(store_error)?;
        let mut begun = Self { writer, now: rows::storable(clock.now()), finished: false };
        let Writer { connection, ends } = &mut *begun.writer;
        ends.begin(connection)?;
        Ok(begun)
    }

    fn statement(&self, sql: &str) -> StoreResult<CachedStatement<'_>> {
        self.connection().prepare_cached(sql).map_err(store_error)
    }

    fn connection(&self) -> &Connection {
        &self.writer.connection
    }

    fn product(&mut self, sku: &Sku) -> StoreResult<Option<Product>> {
        let head = all(self.connection(), PRODUCT_WITH_ENDS, [sku.as_str()], product_with_end)?;
        let Some((mut stored, end)) = head.into_iter().next() else { return Ok(None) };
        self.writer.ends.put(sku.clone(), end);
        stored.batches = all(self.connection(), OPEN_BATCHES, [sku.as_str()], batch)?;
        Ok(Some(Product::restore(stored, self.now)))
    }

    fn save_batch(
        statements: &mut Statements<'_>,
        change: &ProductChanges<'_>,
        kind: Change,
        batch: &Batch,
    ) -> StoreResult<()> {
        let sku = change.product.sku().as_str();
        let (held, allocated, reference) = (number(batch.held), number(batch.allocated), batch.reference.as_str());
        let sql = match kind {
            Change::Placements => {
                let sql = "UPDATE batches SET held = ?1, allocated = ?2 WHERE sku = ?3 AND reference = ?4";
                statements.find(sql)?.execute((held, allocated, sku, reference)).map_err(store_error)?;
                return Ok(());
            }
            Change::Insert => {
                "INSERT INTO batches (quantity, declared, quarantined, held, allocated, eta, arrived, expires_on, expired,
                                      cancelled, revision, is_open, changed_by, sku, reference, created_after, location)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
            }
            Change::Update => {
                "UPDATE batches SET quantity = ?1, declared = ?2, quarantined = ?3, held = ?4, allocated = ?5, eta = ?6,
                                    arrived = ?7, expires_on = ?8, expired = ?9, cancelled = ?10, revision = ?11,
                                    is_open = ?12, changed_by = ?13
                 WHERE sku = ?14 AND reference = ?15"
            }
        };
        let params: [&dyn rusqlite::ToSql; 17] = [
            &number(batch.quantity.units()),
            &number(batch.declared.units()),
            &number(batch.quarantined),
            &held,
            &allocated,
            &batch.eta.map(date_text),
            &batch.arrived.map(number),
            &batch.expires_on.map(date_text),
            &batch.expired,
            &batch.cancelled,
            &number(batch.revision),
            &batch.is_open(),
            &number(change.product.version()),
            &sku,
            &reference,
            &number(change.saved_version),
            &batch.location.as_str(),
        ];
        let wanted = if kind == Change::Insert { &params[..] } else { &params[..15] };
        statements.find(sql)?.execute(wanted).map_err(store_error)?;
        Ok(())
    }

    /// Writes a line: a new one with the key of the line before it, on which it is chained.
    fn save_line(
        statements: &mut Statements<'_>,
        product: &Product,
        line: &AcceptedLine,
        kind: Change,
        previous: Option<&LineKey>,
    ) -> StoreResult<()> {
        let sku = product.sku().as_str();
        let units = rows::Units::of(line);
        let key = (line.key.order_id.as_str(), line.key.line.as_str());
        let rare = RareColumns::of(product, line);
        // Half of the columns are null in nearly all lines: not to bind them saves a fortieth of an import's instructions.
        let sql = match kind {
            Change::Insert if rare.are_null() => {
                "INSERT INTO lines (order_id, sku, line, requested, placed, backordered, queued, batch, priority,
                                    in_parts, accepted, previous_order_id, previous_line)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
            }
            Change::Insert => {
                "INSERT INTO lines (order_id, sku, line, requested, placed, backordered, queued, batch, priority,
                                    in_parts, accepted, previous_order_id, previous_line, dropped, cancelled, lapsed,
                                    held_until, by_date, not_before, min_split, shipped, min_days, spoils_on,
                                    over_locations, locations)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                         ?22, ?23, ?24, ?25)"
            }
            Change::Update | Change::Placements => {
                "UPDATE lines SET requested = ?4, placed = ?5, backordered = ?6, queued = ?7, batch = ?8, priority = ?9,
                                  in_parts = ?10, dropped = ?14, cancelled = ?15, lapsed = ?16, held_until = ?17,
                                  by_date = ?18, not_before = ?19, min_split = ?20, shipped = ?21, min_days = ?22,
                                  spoils_on = ?23, over_locations = ?24, locations = ?25
                 WHERE order_id = ?1 AND sku = ?2 AND line = ?3"
            }
        };
        let statement = statements.find(sql)?;
        let mut bind = |first: usize, values: &[&dyn rusqlite::ToSql]| {
            let mut columns = (first..).zip(values);
            columns.try_for_each(|(at, value)| statement.raw_bind_parameter(at, *value).map_err(store_error))
        };
        bind(
            1,
            &[
                &key.0,
                &sku,
                &key.1,
                &number(line.requested.units()),
                &number(units.placed),
                &number(units.backordered),
                &number(line.queued),
                &units.batch,
                &line.terms.priority,
                &units.in_parts,
            ],
        )?;
        if kind == Change::Insert {
            let before = previous.map(|key| (key.order_id.as_str(), key.line.as_str())).unzip();
            bind(11, &[&number(line.accepted), &before.0, &before.1])?;
        }
        if kind != Change::Insert || !rare.are_null() {
            bind(14, &rare.columns())?;
        }
        statement.raw_execute().map_err(store_error)?;
        if kind != Change::Insert {
            statements
                .find("DELETE FROM parts WHERE sku = ?1 AND order_id = ?2 AND line = ?3")?
                .execute((sku, key.0, key.1))
                .map_err(store_error)?;
        }
        if units.in_parts {
            let insert = statements.find(
                "INSERT INTO parts (sku, order_id, line, priority, accepted, batch, qty, locked)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for part in &line.parts {
                let batch = part.batch.as_ref().map(BatchRef::as_str);
                let (accepted, qty) = (number(part.accepted), number(part.qty.units()));
                insert
                    .execute((sku, key.0, key.1, line.terms.priority, accepted, batch, qty, part.locked))
                    .map_err(store_error)?;
            }
        }
        for (nth, shipped) in line.shipped.iter().enumerate() {
            let (qty, returned) = (number(shipped.qty), number(shipped.returned));
            let upsert = statements.find(
                "INSERT INTO shipments (sku, order_id, line, nth, batch, qty, returned)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT DO UPDATE SET qty = excluded.qty, returned = excluded.returned",
            )?;
            upsert
                .execute((sku, key.0, key.1, number(nth as u64), shipped.batch.as_str(), qty, returned))
                .map_err(store_error)?;
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
        walk(self.connection(), sku, from, |line| {
            let simple = !rows::Units::of(&line).in_parts;
            if simple && line.hold.is_none() && line.terms.priority == 0 && line.is_in(reference) {
                found.push(Units { accepted: line.accepted, line, locked: false });
            }
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }
}

/// What is null of a line that asks for nothing special, and to which nothing has happened yet.
#[derive(PartialEq, Default)]
struct RareColumns {
    dropped: Option<i64>,
    cancelled: Option<i64>,
    lapsed: Option<i64>,
    held_until: Option<i64>,
    by_date: Option<String>,
    not_before: Option<String>,
    min_split: Option<i64>,
    shipped: Option<i64>,
    min_days: Option<u16>,
    spoils_on: Option<String>,
    over_locations: Option<bool>,
    locations: Option<String>,
}

impl RareColumns {
    fn of(product: &Product, line: &AcceptedLine) -> Self {
        Self {
            dropped: rows::rare(line.dropped),
            cancelled: rows::rare(line.cancelled),
            lapsed: rows::rare(line.lapsed),
            held_until: line.hold.map(rows::micros),
            by_date: line.terms.by.map(date_text),
            not_before: line.terms.not_before.map(date_text),
            min_split: rows::min_split(line.terms.split),
            shipped: rows::rare(line.shipped()),
            min_days: line.terms.min_days,
            spoils_on: product.spoils_on(line).map(date_text),
            over_locations: rows::over_locations(line.terms.split),
            locations: line.terms.locations.as_ref().and_then(|accepted| rows::names(accepted.iter())),
        }
    }

    fn columns(&self) -> [&dyn rusqlite::ToSql; 12] {
        [
            &self.dropped,
            &self.cancelled,
            &self.lapsed,
            &self.held_until,
            &self.by_date,
            &self.not_before,
            &self.min_split,
            &self.shipped,
            &self.min_days,
            &self.spoils_on,
            &self.over_locations,
            &self.locations,
        ]
    }

    fn are_null(&self) -> bool {
        *self == Self::default()
    }
}

/// Statements that are run again and again, each looked up once: a lookup goes by the whole text, and one for each row took 6 to 9 % of an import's instructions.
struct Statements<'c> {
    connection: &'c Connection,
    in_use: Vec<(&'static str, CachedStatement<'c>)>,
}

impl<'c> Statements<'c> {
    fn find(&mut self, sql: &'static str) -> StoreResult<&mut CachedStatement<'c>> {
        let known = self.in_use.iter().position(|(known, _)| std::ptr::eq(*known, sql));
        let at = known.unwrap_or(self.in_use.len());
        if known.is_none() {
            self.in_use.push((sql, self.connection.prepare_cached(sql).map_err(store_error)?));
        }
        Ok(&mut self.in_use[at].1)
    }
}

/// Units in a batch that are held, of a priority of their own, or in rows of their own, in the order in which they lose their place.
const RARE_LOSERS: &str = "SELECT order_id, line, accepted, locked FROM (
    SELECT l.order_id, l.line, l.accepted, l.priority, 1 AS held, 0 AS locked FROM lines l INDEXED BY lines_held
    WHERE l.sku = ?1 AND l.held_until IS NOT NULL AND l.batch = ?2
    UNION ALL
    SELECT l.order_id, l.line, l.accepted, l.priority, 0, 0 FROM lines l INDEXED BY lines_with_priority
    WHERE l.sku = ?1 AND l.priority <> 0 AND l.held_until IS NULL AND l.batch = ?2
    UNION ALL
    SELECT p.order_id, p.line, p.accepted, p.priority, l.held_until IS NOT NULL, p.locked FROM parts p INDEXED BY parts_in_batch
    JOIN lines l ON l.order_id = p.order_id AND l.sku = p.sku AND l.line = p.line
    WHERE p.sku = ?1 AND p.batch = ?2
    ) ORDER BY held DESC, locked, priority, accepted DESC LIMIT ?3";

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if self.connection().execute_batch("ROLLBACK").is_err() {
            tracing::debug!("nothing to roll back: the transaction had ended by itself");
        }
        self.writer.ends.forget();
    }
}

impl Transaction for SqliteTransaction {
    fn now(&self) -> OffsetDateTime {
        self.now
    }

    async fn record(&mut self, events: &[RecordedEvent]) -> StoreResult<()> {
        let sql = "INSERT INTO events (sku, sequence, previous, body) VALUES (?1, ?2, ?3, ?4)";
        let Writer { connection, ends } = &mut *self.writer;
        let mut insert = connection.prepare_cached(sql).map_err(store_error)?;
        for RecordedEvent { sku, sequence, body } in events {
            let end = ends.of_mut(sku);
            let row = (sku.as_str(), number(*sequence), end.event, body);
            end.event = Some(insert.insert(row).map_err(store_error)?);
        }
        Ok(())
    }

    async fn note(&mut self, balances: &[NotedBalances]) -> StoreResult<()> {
        movements::note(self.connection(), balances)
    }

    async fn request_keys(&mut self, keys: &[Arc<str>]) -> StoreResult<Vec<RequestKey>> {
        let mut known = Vec::new();
        for key in keys {
            let sql = "SELECT content, of_message FROM request_keys WHERE key = ?1";
            known.extend(all(self.connection(), sql, [key], |row| {
                let (content, of_message): (_, bool) = row.try_into().map_err(store_error)?;
                let of = if of_message { KeyOf::Message } else { KeyOf::Request };
                Ok(RequestKey { key: key.clone(), of, content })
            })?);
        }
        Ok(known)
    }

    async fn remember_keys(&mut self, keys: &[RequestKey]) -> StoreResult<()> {
        let sql = "INSERT INTO request_keys (key, of_message, content, at) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = self.statement(sql)?;
        for RequestKey { key, of, content } in keys {
            insert.execute((key, *of == KeyOf::Message, content, rows::micros(self.now))).map_err(store_error)?;
        }
        Ok(())
    }

    async fn holds_of(&mut self, holders: &[Arc<str>]) -> StoreResult<Vec<(Arc<str>, u64)>> {
        // Nobody else has a transaction that writes.
        let sql = "SELECT count(*) FROM holders WHERE holder = ?1 AND until > ?2";
        let mut counted = Vec::with_capacity(holders.len());
        for holder in holders {
            let held = all(self.connection(), sql, (&**holder, rows::micros(self.now)), |row| {
                rows::count(row.get(0).map_err(store_error)?)
            })?;
            counted.extend(held.into_iter().map(|held| (holder.clone(), held)));
        }
        Ok(counted)
    }

    async fn note_holds(&mut self, holds: &[HeldFor], ended: &[(Sku, LineKey)]) -> StoreResult<()> {
        let sql = "INSERT INTO holders AS h (sku, order_id, line, holder, until) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (sku, order_id, line) DO UPDATE
                   SET until = excluded.until, holder = CASE WHEN h.until > ?6 THEN h.holder ELSE excluded.holder END";
        let mut upsert = self.statement(sql)?;
        for HeldFor { sku, line, holder, until } in holds {
            let (order_id, line, now) = (line.order_id.as_str(), line.line.as_str(), rows::micros(self.now));
            upsert
                .execute((sku.as_str(), order_id, line, &**holder, rows::micros(*until), now))
                .map_err(store_error)?;
        }
        let mut delete = self.statement("DELETE FROM holders WHERE sku = ?1 AND order_id = ?2 AND line = ?3")?;
        for (sku, line) in ended {
            delete.execute((sku.as_str(), line.order_id.as_str(), line.line.as_str())).map_err(store_error)?;
        }
        Ok(())
    }

    async fn commit(mut self) -> StoreResult<()> {
        self.connection().execute_batch("COMMIT").map_err(store_error)?;
        self.finished = true;
        Ok(())
    }

    async fn end(mut self) -> StoreResult<()> {
        self.connection().execute_batch("ROLLBACK").map_err(store_error)?;
        self.finished = true;
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
                product.remember(all(self.connection(), &by_key, named, |row| line(self.connection(), row))?);
            }
        }
        let closed = format!("SELECT {BATCH} FROM batches WHERE sku = ?1 AND reference = ?2 AND NOT is_open");
        for (sku, reference) in &wanted.batches {
            if let Some(product) = products.get_mut(sku)
                && product.batch(reference).is_none()
            {
                let named = (sku.as_str(), reference.as_str());
                product.remember_batches(all(self.connection(), &closed, named, batch)?);
            }
        }
        Ok(products.into_values().collect())
    }

    async fn lock(&mut self, known: &[(&Sku, u64)]) -> StoreResult<()> {
        // All is locked already; what is written has to be chained on.
        let Writer { connection, ends } = &mut *self.writer;
        ends.bring(connection, known)
    }

    async fn batches(&mut self, named: &[(Sku, BatchRef)]) -> StoreResult<Vec<(Sku, Batch)>> {
        let sql = format!("SELECT {BATCH} FROM batches WHERE sku = ?1 AND reference = ?2");
        let mut found = Vec::with_capacity(named.len());
        for (sku, reference) in named {
            let batches = all(self.connection(), &sql, (sku.as_str(), reference.as_str()), batch)?;
            found.extend(batches.into_iter().map(|batch| (sku.clone(), batch)));
        }
        Ok(found)
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let mut keys = Vec::new();
        for order_id in orders {
            let found = all(
                self.connection(),
                "SELECT sku, line FROM lines WHERE order_id = ?1",
                [order_id.as_str()],
                |row| {
                    let text = |column| row.get_ref(column).map_err(store_error)?.as_str().map_err(damaged);
                    Ok((rows::sku(text(0)?)?, rows::line_key(order_id.as_str(), text(1)?)?))
                },
            )?;
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
        let mut losers = named_units(self.connection(), sku, RARE_LOSERS, params)?;
        if !losers.is_empty() {
            losers.extend(usual);
            losers.sort_by_key(|units| {
                let seniority = std::cmp::Reverse(units.line.seniority(units.accepted));
                (units.line.hold.is_none(), units.locked, seniority)
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
        waiting(self.connection(), sku, largest_free, after, limit)
    }

    async fn due_lines(&mut self, products: &[DueBy]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        let held = format!("SELECT {LINE} FROM lines l INDEXED BY lines_held WHERE sku = ?1 AND held_until <= ?2");
        let spoiling =
            format!("SELECT {LINE} FROM lines l INDEXED BY lines_spoiling WHERE sku = ?1 AND spoils_on <= ?2");
        let mut due = Vec::new();
        for DueBy { sku, now, today } in products {
            let read = |row: &rusqlite::Row<'_>| line(self.connection(), row);
            let mut lines = all(self.connection(), &held, (sku.as_str(), rows::micros(*now)), read)?;
            lines.extend(all(self.connection(), &spoiling, (sku.as_str(), date_text(*today)), read)?);
            due.extend(lines.into_iter().map(|line| (sku.clone(), line)));
        }
        Ok(due)
    }

    async fn books(&mut self, sku: &Sku) -> StoreResult<ProductBooks> {
        books(self.connection(), sku, self.now)
    }

    async fn replace(&mut self, product: &Product) -> StoreResult<()> {
        for table in ["products", "batches", "lines", "parts", "shipments", "balances"] {
            let sql = format!("DELETE FROM {table} WHERE sku = ?1");
            self.connection().execute(&sql, [product.sku().as_str()]).map_err(store_error)?;
        }
        let event = movements::chain(self.connection(), product.sku())?;
        self.writer.ends.put(product.sku().clone(), End { event, ..End::default() });
        let everything = ProductChanges {
            product,
            saved_version: 0,
            settings: true,
            batches: product.batches().iter().map(|batch| (Change::Insert, batch)).collect(),
            lines: product.lines().map(|line| (Change::Insert, line)).collect(),
        };
        self.save(&[everything]).await
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        let Writer { connection, ends } = &mut *self.writer;
        let mut statements = Statements { connection, in_use: Vec::new() };
        for change in changes {
            let product = change.product;
            let sku = product.sku().as_str();
            for (kind, batch) in &change.batches {
                Self::save_batch(&mut statements, change, *kind, batch)?;
            }
            let newest = ends.of_mut(product.sku());
            newest.version = product.version();
            let (mut new, known): (Vec<_>, Vec<_>) = change.lines.iter().partition(|(kind, _)| *kind == Change::Insert);
            new.sort_by_key(|(_, line)| line.accepted);
            for (kind, line) in new {
                Self::save_line(&mut statements, product, line, kind, newest.line.as_ref())?;
                newest.line = Some(line.key.clone());
            }
            for (kind, line) in known {
                Self::save_line(&mut statements, product, line, kind, None)?;
            }
            // One statement for both cases would say `ON CONFLICT`, and then no conflict would be found.
            let sql = if change.saved_version == 0 {
                "INSERT INTO products (version, changed_at, backordered, queued, out_of_stock_raised, queue_cap,
                                       auto_improve, strategy, min_days, requires_expiry, overdue_days, levels, low,
                                       newest_order_id, newest_line, newest_event, sku)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17 WHERE ?18 = 0"
            } else {
                "UPDATE products SET version = ?1, changed_at = ?2, backordered = ?3, queued = ?4,
                                     out_of_stock_raised = ?5, queue_cap = ?6, auto_improve = ?7, strategy = ?8,
                                     min_days = ?9, requires_expiry = ?10, overdue_days = ?11, levels = ?12, low = ?13,
                                     newest_order_id = ?14, newest_line = ?15, newest_event = ?16
                 WHERE sku = ?17 AND version = ?18"
            };
            let settings = product.settings();
            let params = params![
                number(product.version()),
                rows::micros(product.changed_at()),
                number(product.backordered()),
                number(product.queued()),
                product.out_of_stock_raised(),
                settings.queue_cap.map(number),
                settings.auto_improve,
                settings.strategy.map(Strategy::name),
                settings.min_days,
                settings.requires_expiry,
                settings.overdue_days,
                levels_json(&settings.levels),
                rows::names(product.low().iter()),
                newest.line.as_ref().map(|key| key.order_id.as_str()),
                newest.line.as_ref().map(|key| key.line.as_str()),
                newest.event,
                sku,
                number(change.saved_version),
            ];
            if statements.find(sql)?.execute(params).map_err(store_error)? != 1 {
                return Err(StoreError::Conflict(format!("{sku} is not at version {}", change.saved_version)));
            }
        }
        Ok(())
    }
}
