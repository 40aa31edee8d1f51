//! The read side: every call one snapshot, on connections of its own.

use std::collections::BTreeSet;
use std::iter::Peekable;

use allocation_domain::product::StoredProduct;
use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, Product, Seniority, Sku};
use allocation_service_layer::TimeZones;
use allocation_service_layer::ports::archive::Checkpoint;
use allocation_service_layer::ports::database::{NotedBalances, StoreResult};
use allocation_service_layer::ports::reader::{
    Among, Connections, Due, LineFilter, Reader, Span, StockTotals, StoredLine, Whereabouts,
};
use allocation_service_layer::verify::ProductBooks;
use allocation_service_layer::wire::date_text;
use async_trait::async_trait;
use rusqlite::{Connection, Row, Statement};
use time::OffsetDateTime;

use super::archive::{self, CHECKPOINT, CHECKPOINT_BATCH, CHECKPOINT_LINE};
use super::ends::End;
use super::{
    BATCH, BATCH_COLUMNS, LINE, LINE_COLUMNS, MIGRATIONS, OPEN_BATCHES, PRODUCT, SqliteDatabase, all, applied, batch,
    chained, date_at, line, movements, number_at, open_reader, product, product_with_end, store_error, text_at,
    waiting, walk,
};
use crate::migrations;
use crate::rows::{self, count, damaged, number};
use crate::sqlite::READERS;

fn with_open_batches(
    connection: &Connection,
    heads: Vec<StoredProduct>,
    now: OffsetDateTime,
) -> StoreResult<Vec<Product>> {
    heads
        .into_iter()
        .map(|mut stored| {
            stored.batches = all(connection, OPEN_BATCHES, [stored.sku.as_str()], batch)?;
            Ok(Product::restore(stored, now))
        })
        .collect()
}

/// With what is said of the line's batches.
fn with_batches(connection: &Connection, sku: Sku, line: AcceptedLine) -> StoreResult<StoredLine> {
    let sql = "SELECT eta, location FROM batches WHERE sku = ?1 AND reference = ?2";
    let mut batches = Vec::with_capacity(1);
    for (reference, _) in line.placements() {
        batches.extend(all(connection, sql, (sku.as_str(), reference.as_str()), |row| {
            let (eta, location) = (date_at(row, 0)?, rows::location(text_at(row, 1)?)?);
            Ok(Whereabouts { reference: reference.clone(), eta, location })
        })?);
    }
    Ok(StoredLine { sku, line, batches })
}

/// By when something is due, as the tables have it.
struct By {
    now: OffsetDateTime,
    until: i64,
    today: String,
}

impl By {
    fn now(store: &SqliteDatabase, time_zones: &TimeZones) -> Self {
        let now = rows::storable(store.clock.now());
        Self { now, until: rows::micros(now), today: date_text(time_zones.calendar(now).latest()) }
    }

    /// What is due of these, which come by SKU.
    fn due_among(&self, tx: &Connection, skus: impl IntoIterator<Item = Sku>) -> StoreResult<Due> {
        let sql = "SELECT EXISTS (SELECT 1 FROM lines INDEXED BY lines_held WHERE sku = ?1 AND held_until <= ?2)
            OR EXISTS (SELECT 1 FROM lines INDEXED BY lines_spoiling WHERE sku = ?1 AND spoils_on <= ?3)
            OR EXISTS (SELECT 1 FROM batches INDEXED BY batches_open
                       WHERE sku = ?1 AND is_open AND NOT expired AND expires_on < ?3)
            OR EXISTS (SELECT 1 FROM products p WHERE p.sku = ?1 AND p.levels IS NOT NULL AND p.backordered > 0
                       AND EXISTS (SELECT 1 FROM batches b INDEXED BY batches_open WHERE b.sku = ?1 AND b.is_open AND b.eta <= ?3))";
        let mut due = Vec::new();
        for sku in skus {
            let is_due = |row: &Row<'_>| row.get::<_, bool>(0).map_err(store_error);
            if all(tx, sql, (sku.as_str(), self.until, &self.today), is_due)? == [true] {
                due.push(sku);
            }
        }
        Ok(Due { now: self.now, skus: due })
    }
}

#[async_trait]
impl Reader for SqliteDatabase {
    async fn products_named(&self, skus: &[Sku]) -> StoreResult<Vec<Product>> {
        let skus: BTreeSet<Sku> = skus.iter().cloned().collect();
        let now = rows::storable(self.clock.now());
        self.read(move |tx| {
            let sql = format!("SELECT {PRODUCT} FROM products WHERE sku = ?1");
            let mut heads = Vec::with_capacity(skus.len());
            for sku in &skus {
                heads.extend(all(tx, &sql, [sku.as_str()], product)?);
            }
            with_open_batches(tx, heads, now)
        })
        .await
    }

    async fn products(&self, after: Option<&Sku>, waiting: bool, limit: usize) -> StoreResult<Vec<Product>> {
        let after = after.map_or(String::new(), ToString::to_string);
        let now = rows::storable(self.clock.now());
        self.read(move |tx| {
            let waiting = if waiting { "AND backordered > 0" } else { "" };
            let sql = format!("SELECT {PRODUCT} FROM products WHERE sku > ?1 {waiting} ORDER BY sku LIMIT ?2");
            let heads = all(tx, &sql, (after, number(limit as u64)), product)?;
            with_open_batches(tx, heads, now)
        })
        .await
    }

    async fn product_lines(
        &self,
        sku: &Sku,
        filter: &LineFilter,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<StoredLine>> {
        let (sku, filter, after) = (sku.clone(), filter.clone(), after.cloned());
        self.read(move |tx| {
            let mut lines = Vec::new();
            walk(tx, &sku, after.as_ref(), |line| {
                if filter.admits(&line) {
                    lines.push(with_batches(tx, sku.clone(), line)?);
                }
                Ok(lines.len() < limit)
            })?;
            Ok(lines)
        })
        .await
    }

    async fn queue(&self, sku: &Sku, after: Option<Seniority>, limit: usize) -> StoreResult<Vec<(StoredLine, u64)>> {
        let sku = sku.clone();
        self.read(move |tx| {
            waiting(tx, &sku, u64::MAX, after, limit)?
                .into_iter()
                .map(|units| Ok((with_batches(tx, sku.clone(), units.line)?, units.accepted)))
                .collect()
        })
        .await
    }

    async fn order(&self, order_id: &OrderId, time_zones: &TimeZones) -> StoreResult<(Vec<StoredLine>, Due)> {
        let (order_id, by) = (order_id.clone(), By::now(self, time_zones));
        self.read(move |tx| {
            let sql = format!("SELECT {LINE} FROM lines l WHERE l.order_id = ?1 ORDER BY l.sku, l.line");
            let lines = all(tx, &sql, [order_id.as_str()], |row| Ok((rows::sku(text_at(row, 17)?)?, line(tx, row)?)))?;
            let skus: BTreeSet<Sku> = lines.iter().map(|(sku, _)| sku.clone()).collect();
            let lines: StoreResult<_> = lines.into_iter().map(|(sku, line)| with_batches(tx, sku, line)).collect();
            Ok((lines?, by.due_among(tx, skus)?))
        })
        .await
    }

    async fn due(&self, among: Among<'_>, time_zones: &TimeZones) -> StoreResult<Due> {
        let by = By::now(self, time_zones);
        let mut skus: Vec<Sku> = match among {
            Among::These(skus) => skus.to_vec(),
            Among::After(after, limit) => {
                let after = after.map_or(String::new(), ToString::to_string);
                let sql = "SELECT sku FROM (
                    SELECT sku FROM lines INDEXED BY lines_due WHERE held_until <= ?1
                    UNION SELECT sku FROM lines INDEXED BY lines_spoiling_by_day WHERE spoils_on <= ?2
                    UNION SELECT sku FROM batches INDEXED BY batches_perishable
                        WHERE expires_on < ?2 AND expires_on IS NOT NULL AND is_open AND NOT expired)
                    WHERE sku > ?3 ORDER BY sku LIMIT ?4";
                let (now, params) = (by.now, (by.until, by.today, after, number(limit as u64)));
                let found = self.read(move |tx| all(tx, sql, params, |row| rows::sku(text_at(row, 0)?)));
                return Ok(Due { now, skus: found.await? });
            }
        };
        skus.sort_unstable();
        self.read(move |tx| by.due_among(tx, skus)).await
    }

    async fn span(&self, sku: &Sku, batch: Option<&BatchRef>) -> StoreResult<Option<Span>> {
        let (sku, batch) = (sku.clone(), batch.cloned());
        self.read(move |tx| movements::span(tx, &sku, batch.as_ref())).await
    }

    async fn noted_balances(&self, sku: &Sku, sequence: u64) -> StoreResult<Option<NotedBalances>> {
        let sku = sku.clone();
        self.read(move |tx| movements::noted_balances(tx, &sku, sequence)).await
    }

    async fn events_of(&self, sku: &Sku, batch: Option<&BatchRef>, after: u64, until: u64) -> StoreResult<Vec<String>> {
        let (sku, batch) = (sku.clone(), batch.cloned());
        self.read(move |tx| movements::events_of(tx, &sku, batch.as_ref(), after, until)).await
    }

    async fn archived(&self, sku: &Sku) -> StoreResult<Option<NotedBalances>> {
        let sku = sku.clone();
        self.read(move |tx| movements::archived(tx, &sku)).await
    }

    async fn skus_of(&self, reference: &BatchRef) -> StoreResult<Vec<Sku>> {
        let reference = reference.clone();
        self.read(move |tx| {
            all(tx, "SELECT sku FROM batches WHERE reference = ?1 ORDER BY sku", [reference.as_str()], |row| {
                rows::sku(text_at(row, 0)?)
            })
        })
        .await
    }

    async fn totals(&self) -> StoreResult<StockTotals> {
        self.read(|tx| {
            let sql = "SELECT coalesce(sum(quantity), 0), coalesce(sum(quarantined), 0), coalesce(sum(held), 0),
                              coalesce(sum(allocated), 0), count(*) FILTER (WHERE held + allocated + quarantined > quantity),
                              (SELECT coalesce(sum(backordered), 0) FROM products WHERE backordered > 0)
                       FROM batches WHERE is_open";
            let totals = all(tx, sql, (), |row| {
                let number = |column| count(row.get(column).map_err(store_error)?);
                Ok(StockTotals {
                    stock: number(0)?,
                    quarantined: number(1)?,
                    held: number(2)?,
                    allocated: number(3)?,
                    overpromised_batches: number(4)?,
                    backordered: number(5)?,
                })
            });
            Ok(totals?.pop().unwrap_or_default())
        })
        .await
    }

    fn connections(&self) -> Connections {
        // Who waits for a turn is not told.
        Connections { used: READERS - self.reading.available_permits(), wanted: 0 }
    }

    async fn ready(&self) -> StoreResult<()> {
        self.read(|tx| migrations::missing(migrations::pending(MIGRATIONS, &applied(tx)?)?)).await
    }

    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()> {
        let path = self.path.clone();
        let now = rows::storable(self.clock.now());
        let (books, mut received) = tokio::sync::mpsc::channel(16);
        let work = tokio::task::spawn_blocking(move || {
            let mut connection = open_reader(&path)?;
            let tx = connection.transaction().map_err(store_error)?;
            audit(&tx, now, &mut |product| books.blocking_send(product).is_ok())
        });
        while let Some(product) = received.recv().await {
            visit(product);
        }
        work.await.map_err(damaged)?
    }
}

/// Goes through all tables side by side, each in the order of SKU.
fn audit(connection: &Connection, now: OffsetDateTime, visit: &mut dyn FnMut(ProductBooks) -> bool) -> StoreResult<()> {
    let mut tables = Tables::read(connection, "")?;
    let mut tables = tables.side_by_side(connection, [])?;
    while let Some(sku) = tables.next()? {
        if !visit(tables.books(sku, now)?) {
            break;
        }
    }
    Ok(())
}

/// All that is stored of one product.
pub(super) fn books(connection: &Connection, sku: &Sku, now: OffsetDateTime) -> StoreResult<ProductBooks> {
    let mut tables = Tables::read(connection, "WHERE sku = ?1")?;
    tables.side_by_side(connection, [sku.as_str()])?.books(sku.clone(), now)
}

/// Statements that read the tables in the order of SKU.
struct Tables<'c> {
    heads: Statement<'c>,
    batches: Statement<'c>,
    lines: Statement<'c>,
    orphans: Statement<'c>,
    balances: Statement<'c>,
    checkpoints: Statement<'c>,
    checkpoint_batches: Statement<'c>,
    checkpoint_lines: Statement<'c>,
    events: Statement<'c>,
}

impl<'c> Tables<'c> {
    fn read(connection: &'c Connection, which: &str) -> StoreResult<Self> {
        let and = if which.is_empty() { "WHERE" } else { "AND" };
        let prepare = |sql: String| connection.prepare(&sql).map_err(store_error);
        Ok(Self {
            heads: prepare(format!("SELECT {PRODUCT}, newest_order_id, newest_line, newest_event FROM products {which} ORDER BY sku"))?,
            batches: prepare(format!(
                "SELECT {BATCH}, sku, created_after, changed_by FROM batches {which} ORDER BY sku"
            ))?,
            lines: prepare(format!(
                "SELECT {LINE}, l.previous_order_id, l.previous_line FROM lines l {which} ORDER BY l.sku, l.accepted"
            ))?,
            orphans: prepare(format!(
                "SELECT sku, order_id FROM parts p {which} {and} NOT EXISTS
                     (SELECT 1 FROM lines l WHERE l.order_id = p.order_id AND l.sku = p.sku AND l.line = p.line AND l.in_parts)
                 UNION ALL
                 SELECT sku, order_id FROM shipments s {which} {and} NOT EXISTS
                     (SELECT 1 FROM lines l WHERE l.order_id = s.order_id AND l.sku = s.sku AND l.line = s.line
                      AND l.shipped > 0)
                 ORDER BY sku"
            ))?,
            balances: prepare(format!("SELECT sequence, body, sku FROM balances {which} ORDER BY sku, sequence"))?,
            checkpoints: prepare(format!("SELECT {CHECKPOINT} FROM checkpoints {which} ORDER BY sku"))?,
            checkpoint_batches: prepare(format!("SELECT {CHECKPOINT_BATCH} FROM checkpoint_batches {which} ORDER BY sku"))?,
            checkpoint_lines: prepare(format!("SELECT {CHECKPOINT_LINE} FROM checkpoint_lines {which} ORDER BY sku"))?,
            events: prepare(format!(
                "SELECT sequence, body, sku, position, previous FROM events {which} ORDER BY sku, sequence"
            ))?,
        })
    }

    fn side_by_side<'a>(
        &'a mut self,
        connection: &'a Connection,
        params: impl rusqlite::Params + Clone,
    ) -> StoreResult<SideBySide<'a>> {
        Ok(SideBySide {
            heads: by_sku(&mut self.heads, params.clone(), 0, product_with_end)?,
            batches: by_sku(&mut self.batches, params.clone(), BATCH_COLUMNS, |row| {
                Ok((batch(row)?, movements::span_at(row, BATCH_COLUMNS + 1)?))
            })?,
            lines: by_sku(&mut self.lines, params.clone(), 17, |row| {
                Ok((line(connection, row)?, chained(row, LINE_COLUMNS)?))
            })?,
            orphans: by_sku(&mut self.orphans, params.clone(), 0, |row| Ok(text_at(row, 1)?.to_owned()))?,
            balances: by_sku(&mut self.balances, params.clone(), 2, |row| {
                let (sku, sequence) = (rows::sku(text_at(row, 2)?)?, count(number_at(row, 0)?)?);
                Ok(NotedBalances { sku, sequence, body: text_at(row, 1)?.to_owned() })
            })?,
            checkpoints: by_sku(&mut self.checkpoints, params.clone(), 0, archive::checkpoint_at)?,
            checkpoint_batches: by_sku(&mut self.checkpoint_batches, params.clone(), 0, archive::batch_at)?,
            checkpoint_lines: by_sku(&mut self.checkpoint_lines, params.clone(), 0, archive::line_at)?,
            events: by_sku(&mut self.events, params, 2, |row| {
                let event = (count(number_at(row, 0)?)?, text_at(row, 1)?.to_owned());
                Ok((event, (number_at(row, 3)?, row.get(4).map_err(store_error)?)))
            })?,
        })
    }
}

/// Where an event is, and where the one before it is.
type Place = (i64, Option<i64>);

/// The tables, each up to where it was read.
struct SideBySide<'a> {
    heads: Rows<'a, (StoredProduct, End)>,
    batches: Rows<'a, (Batch, Span)>,
    lines: Rows<'a, (AcceptedLine, Option<LineKey>)>,
    orphans: Rows<'a, String>,
    balances: Rows<'a, NotedBalances>,
    checkpoints: Rows<'a, Checkpoint>,
    checkpoint_batches: Rows<'a, (BatchRef, String)>,
    checkpoint_lines: Rows<'a, (LineKey, String)>,
    events: Rows<'a, ((u64, String), Place)>,
}

impl SideBySide<'_> {
    /// The next product of which any table has a row.
    fn next(&mut self) -> StoreResult<Option<Sku>> {
        let next = [
            peek(&mut self.heads)?,
            peek(&mut self.batches)?,
            peek(&mut self.lines)?,
            peek(&mut self.orphans)?,
            peek(&mut self.balances)?,
            peek(&mut self.checkpoints)?,
            peek(&mut self.checkpoint_batches)?,
            peek(&mut self.checkpoint_lines)?,
            peek(&mut self.events)?,
        ];
        Ok(next.into_iter().flatten().min())
    }

    /// What all tables have of a product.
    fn books(&mut self, sku: Sku, now: OffsetDateTime) -> StoreResult<ProductBooks> {
        let (head, end) = take(&mut self.heads, &sku)?.pop().unzip();
        let end = end.unwrap_or_default();
        let (batches, spans): (Vec<Batch>, Vec<Span>) = take(&mut self.batches, &sku)?.into_iter().unzip();
        let (lines, previous): (Vec<AcceptedLine>, Vec<Option<LineKey>>) =
            take(&mut self.lines, &sku)?.into_iter().unzip();
        let mut faults: Vec<String> = take(&mut self.orphans, &sku)?
            .into_iter()
            .map(|order_id| format!("order {order_id} has parts or shipments but no line for them"))
            .collect();
        // Each line points to the one before it, and the product to the last.
        let before = std::iter::once(None).chain(lines.iter().map(|line| Some(&line.key)));
        if !before.eq(previous.iter().chain([&end.line]).map(Option::as_ref)) {
            faults.push("the chain of its lines is broken".to_owned());
        }
        let (events, places): (Vec<_>, Vec<Place>) = take(&mut self.events, &sku)?.into_iter().unzip();
        let mut checkpoint = take(&mut self.checkpoints, &sku)?.pop();
        let batches_of = take(&mut self.checkpoint_batches, &sku)?;
        let lines_of = take(&mut self.checkpoint_lines, &sku)?;
        match &mut checkpoint {
            Some(checkpoint) => (checkpoint.batches, checkpoint.lines) = (batches_of, lines_of),
            None if batches_of.is_empty() && lines_of.is_empty() => {}
            None => faults.push("has batches or lines of a checkpoint that is not there".to_owned()),
        }
        let before = std::iter::once(None).chain(places.iter().map(|(position, _)| Some(*position)));
        let pointers = places.iter().map(|(_, previous)| *previous).chain([end.event]);
        // The first points to one that was archived, if any was.
        let archived = usize::from(checkpoint.is_some());
        if !before.skip(archived).eq(pointers.skip(archived)) {
            faults.push("the chain of its events is broken".to_owned());
        }
        Ok(ProductBooks {
            spans: batches.iter().map(|batch| batch.reference.clone()).zip(spans).collect(),
            product: head.map(|stored| Product::restore(StoredProduct { batches, ..stored }, now)),
            balances: take(&mut self.balances, &sku)?,
            checkpoint,
            events,
            faults,
            lines,
            sku,
            now,
        })
    }
}

type Rows<'a, T> = Peekable<Box<dyn Iterator<Item = StoreResult<(Sku, T)>> + 'a>>;

fn by_sku<'a, T: 'a>(
    statement: &'a mut Statement<'_>,
    params: impl rusqlite::Params,
    sku: usize,
    make: impl Fn(&Row<'_>) -> StoreResult<T> + 'a,
) -> StoreResult<Rows<'a, T>> {
    let mut cursor = statement.query(params).map_err(store_error)?;
    let rows: Box<dyn Iterator<Item = StoreResult<(Sku, T)>> + 'a> = Box::new(std::iter::from_fn(move || {
        let row = match cursor.next() {
            Ok(row) => row?,
            Err(error) => return Some(Err(store_error(error))),
        };
        Some(text_at(row, sku).and_then(rows::sku).and_then(|sku| Ok((sku, make(row)?))))
    }));
    Ok(rows.peekable())
}

fn peek<T>(rows: &mut Rows<'_, T>) -> StoreResult<Option<Sku>> {
    match rows.peek() {
        None => Ok(None),
        Some(Ok((sku, _))) => Ok(Some(sku.clone())),
        Some(Err(error)) => Err(error.clone()),
    }
}

fn take<T>(rows: &mut Rows<'_, T>, sku: &Sku) -> StoreResult<Vec<T>> {
    let mut taken = Vec::new();
    while let Some(row) = rows.next_if(|row| row.as_ref().map_or(true, |(of, _)| of == sku)) {
        taken.push(row?.1);
    }
    Ok(taken)
}
