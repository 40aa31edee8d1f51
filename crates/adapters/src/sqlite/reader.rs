//! The read side: every call one snapshot, on connections of its own.

use std::iter::Peekable;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, Product, Sku};
use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::reader::{LineFilter, Reader, StoredLine};
use allocation_service_layer::verify::ProductBooks;
use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::{
    BATCH, LINE, MIGRATIONS, SqliteDatabase, all, applied, batch, chained, eta, line, number_at, open_reader,
    store_error, text_at, walk,
};
use crate::migrations;
use crate::rows::{self, count, damaged, number};

fn product(row: &Row<'_>) -> StoreResult<(Sku, u64, u64, bool)> {
    let raised = row.get(3).map_err(store_error)?;
    Ok((rows::sku(text_at(row, 0)?)?, count(number_at(row, 1)?)?, count(number_at(row, 2)?)?, raised))
}

const PRODUCT: &str = "sku, version, backordered, out_of_stock_raised";

fn with_open_batches(connection: &Connection, heads: Vec<(Sku, u64, u64, bool)>) -> StoreResult<Vec<Product>> {
    let open = format!("SELECT {BATCH} FROM batches WHERE sku = ?1 AND is_open");
    heads
        .into_iter()
        .map(|(sku, version, backordered, raised)| {
            let batches = all(connection, &open, [sku.as_str()], batch)?;
            Ok(Product::restore(sku, version, backordered, raised, batches))
        })
        .collect()
}

fn stored_line(row: &Row<'_>) -> StoreResult<StoredLine> {
    let sku = rows::sku(text_at(row, 7)?)?;
    Ok(StoredLine { sku, line: line(row)?, eta: eta(row, 6)? })
}

const WITH_BATCH: &str = "b.eta, l.sku FROM lines l LEFT JOIN batches b ON b.sku = l.sku AND b.reference = l.batch";

#[async_trait]
impl Reader for SqliteDatabase {
    async fn product(&self, sku: &Sku) -> StoreResult<Option<Product>> {
        let sku = sku.clone();
        self.read(move |tx| {
            let sql = format!("SELECT {PRODUCT} FROM products WHERE sku = ?1");
            let heads = all(tx, &sql, [sku.as_str()], product)?;
            Ok(with_open_batches(tx, heads)?.pop())
        })
        .await
    }

    async fn products(&self, after: Option<&Sku>, limit: usize) -> StoreResult<Vec<Product>> {
        let after = after.map_or(String::new(), ToString::to_string);
        self.read(move |tx| {
            let sql = format!("SELECT {PRODUCT} FROM products WHERE sku > ?1 ORDER BY sku LIMIT ?2");
            let heads = all(tx, &sql, (after, number(limit as u64)), product)?;
            with_open_batches(tx, heads)
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
            walk(tx, &sku, after.as_ref(), |line, eta| {
                if filter.admits(&line) {
                    lines.push(StoredLine { sku: sku.clone(), line, eta });
                }
                Ok(lines.len() < limit)
            })?;
            Ok(lines)
        })
        .await
    }

    async fn order(&self, order_id: &OrderId) -> StoreResult<Vec<StoredLine>> {
        let order_id = order_id.clone();
        self.read(move |tx| {
            let sql = format!("SELECT {LINE}, {WITH_BATCH} WHERE l.order_id = ?1 ORDER BY l.sku, l.line");
            all(tx, &sql, [order_id.as_str()], stored_line)
        })
        .await
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

    async fn ready(&self) -> StoreResult<()> {
        self.read(|tx| migrations::missing(migrations::pending(MIGRATIONS, &applied(tx)?)?)).await
    }

    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()> {
        let path = self.path.clone();
        let (books, mut received) = tokio::sync::mpsc::channel(16);
        let work = tokio::task::spawn_blocking(move || {
            let mut connection = open_reader(&path)?;
            let tx = connection.transaction().map_err(store_error)?;
            audit(&tx, &mut |product| books.blocking_send(product).is_ok())
        });
        while let Some(product) = received.recv().await {
            visit(product);
        }
        work.await.map_err(damaged)?
    }
}

/// Goes through all tables side by side, each in the order of SKU.
fn audit(connection: &Connection, visit: &mut dyn FnMut(ProductBooks) -> bool) -> StoreResult<()> {
    let prepare = |sql: &str| connection.prepare(sql).map_err(store_error);
    let mut heads = prepare(&format!("SELECT {PRODUCT}, newest_order_id, newest_line FROM products ORDER BY sku"))?;
    let mut batches = prepare(&format!("SELECT {BATCH}, sku FROM batches ORDER BY sku"))?;
    let mut lines = prepare(&format!(
        "SELECT {LINE}, l.sku, l.previous_order_id, l.previous_line FROM lines l ORDER BY l.sku, l.accepted"
    ))?;
    let mut events = prepare("SELECT sequence, body, sku FROM events ORDER BY sku, sequence")?;

    let mut heads = by_sku(&mut heads, 0, |row| Ok((product(row)?, chained(row, 4)?)))?;
    let mut batches = by_sku(&mut batches, 5, batch)?;
    let mut lines = by_sku(&mut lines, 6, |row| Ok((line(row)?, chained(row, 7)?)))?;
    let mut events = by_sku(&mut events, 2, |row| {
        Ok((count(row.get(0).map_err(store_error)?)?, row.get::<_, String>(1).map_err(store_error)?))
    })?;
    loop {
        let next = [peek(&mut heads)?, peek(&mut batches)?, peek(&mut lines)?, peek(&mut events)?];
        let Some(sku) = next.into_iter().flatten().min() else { return Ok(()) };
        let (head, newest) = take(&mut heads, &sku)?.pop().unzip();
        let of_product: Vec<Batch> = take(&mut batches, &sku)?;
        let (of_lines, previous): (Vec<AcceptedLine>, Vec<Option<LineKey>>) =
            take(&mut lines, &sku)?.into_iter().unzip();
        // Each line points to the one before it, and the product to the last.
        let before = std::iter::once(None).chain(of_lines.iter().map(|line| Some(&line.key)));
        let unbroken = before.eq(previous.iter().chain([&newest.flatten()]).map(Option::as_ref));
        let books = ProductBooks {
            product: head.map(|(sku, version, backordered, raised)| {
                Product::restore(sku, version, backordered, raised, of_product)
            }),
            events: take(&mut events, &sku)?,
            faults: (!unbroken).then(|| "the chain of its lines is broken".to_owned()).into_iter().collect(),
            lines: of_lines,
            sku,
        };
        if !visit(books) {
            return Ok(());
        }
    }
}

type Rows<'a, T> = Peekable<Box<dyn Iterator<Item = StoreResult<(Sku, T)>> + 'a>>;

fn by_sku<'a, T: 'a>(
    statement: &'a mut rusqlite::Statement<'_>,
    sku: usize,
    make: impl Fn(&Row<'_>) -> StoreResult<T> + 'a,
) -> StoreResult<Rows<'a, T>> {
    let mut cursor = statement.query(()).map_err(store_error)?;
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
