//! The read side: every call one statement, and so one snapshot.

use allocation_domain::{Batch, BatchRef, LineKey, OrderId, Product, Sku};
use allocation_service_layer::ports::database::{StoreError, StoreResult};
use allocation_service_layer::ports::reader::{LineFilter, LineStateName, Reader, StoredLine};
use allocation_service_layer::verify::ProductBooks;
use async_trait::async_trait;
use tokio_postgres::Row;

use super::{APPLIED, BATCH, LINE, MIGRATIONS, PostgresDatabase, batch, eta, get, line, store_error, versions};
use crate::migrations;
use crate::rows::{self, count, number};

const PRODUCT: &str = "p.sku, p.version, p.backordered, p.out_of_stock_raised";

/// Puts rows of products with a batch each (or none) together again; they come in the order of SKU.
fn products(rows: &[Row]) -> StoreResult<Vec<Product>> {
    rows.chunk_by(|a, b| a.get::<_, &str>(0) == b.get::<_, &str>(0))
        .map(|of_one| {
            let head = &of_one[0];
            let batches: Vec<Batch> = of_one
                .iter()
                .filter(|row| matches!(row.try_get::<_, Option<&str>>(4), Ok(Some(_))))
                .map(|row| batch(row, 4))
                .collect::<StoreResult<_>>()?;
            let (version, backordered) = (count(get(head, 1)?)?, count(get(head, 2)?)?);
            Ok(Product::restore(rows::sku(get(head, 0)?)?, version, backordered, get(head, 3)?, batches))
        })
        .collect()
}

fn stored_line(row: &Row) -> StoreResult<StoredLine> {
    Ok(StoredLine { sku: rows::sku(get(row, 7)?)?, line: line(row)?, eta: eta(row, 6)? })
}

const WITH_BATCH: &str = "b.eta, l.sku FROM lines l LEFT JOIN batches b ON b.sku = l.sku AND b.reference = l.batch";

#[async_trait]
impl Reader for PostgresDatabase {
    async fn product(&self, sku: &Sku) -> StoreResult<Option<Product>> {
        let sql = format!(
            "SELECT {PRODUCT}, {BATCH} FROM products p LEFT JOIN batches b ON b.sku = p.sku AND b.is_open WHERE p.sku = $1"
        );
        let client = self.client().await?;
        let statement = client.prepare_cached(&sql).await.map_err(store_error)?;
        let rows = client.query(&statement, &[&sku.as_str()]).await.map_err(store_error)?;
        Ok(products(&rows)?.pop())
    }

    async fn products(&self, after: Option<&Sku>, limit: usize) -> StoreResult<Vec<Product>> {
        let sql = format!(
            "SELECT {PRODUCT}, {BATCH}
             FROM (SELECT * FROM products WHERE sku > $1 ORDER BY sku LIMIT $2) p
             LEFT JOIN batches b ON b.sku = p.sku AND b.is_open ORDER BY p.sku"
        );
        let client = self.client().await?;
        let statement = client.prepare_cached(&sql).await.map_err(store_error)?;
        let after = after.map_or("", Sku::as_str);
        let rows = client.query(&statement, &[&after, &number(limit as u64)]).await.map_err(store_error)?;
        products(&rows)
    }

    async fn product_lines(
        &self,
        sku: &Sku,
        filter: &LineFilter,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<StoredLine>> {
        let state = match filter.state {
            None => "TRUE",
            Some(LineStateName::Allocated) => "l.allocated > 0",
            Some(LineStateName::Backordered) => "l.backordered > 0",
            Some(LineStateName::Cancelled) => "l.cancelled > 0",
        };
        let sql = format!(
            "SELECT {LINE}, {WITH_BATCH}
             WHERE l.sku = $1 AND ($2::text IS NULL OR l.batch = $2) AND {state}
               AND ($3::text IS NULL
                    OR l.accepted < (SELECT accepted FROM lines WHERE order_id = $3 AND sku = $1 AND line = $4))
             ORDER BY l.sku DESC, l.accepted DESC LIMIT $5"
        );
        let batch = filter.batch.as_ref().map(BatchRef::as_str);
        let (order_id, line) = (after.map(|key| key.order_id.as_str()), after.map(|key| key.line.as_str()));
        self.all(&sql, &[&sku.as_str(), &batch, &order_id, &line, &number(limit as u64)], stored_line).await
    }

    async fn order(&self, order_id: &OrderId) -> StoreResult<Vec<StoredLine>> {
        let sql = format!("SELECT {LINE}, {WITH_BATCH} WHERE l.order_id = $1 ORDER BY l.sku, l.line");
        self.all(&sql, &[&order_id.as_str()], stored_line).await
    }

    async fn skus_of(&self, reference: &BatchRef) -> StoreResult<Vec<Sku>> {
        let sql = "SELECT sku FROM batches WHERE reference = $1 ORDER BY sku";
        self.all(sql, &[&reference.as_str()], |row| rows::sku(get(row, 0)?)).await
    }

    async fn ready(&self) -> StoreResult<()> {
        let client = self.client().await?;
        let applied = client.query(APPLIED, &[]).await.map_err(|error| match store_error(error) {
            StoreError::Failed(_) => StoreError::Failed("migrations are not applied".into()),
            other => other,
        })?;
        migrations::missing(migrations::pending(MIGRATIONS, &versions(&applied)?)?)
    }

    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()> {
        let mut client = self.client().await?;
        let tx = client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(store_error)?;
        // Products of which any row is left, one by one: their events are many, and of one product only are in memory.
        let names = "SELECT sku FROM products UNION SELECT sku FROM batches
                     UNION SELECT DISTINCT sku FROM lines UNION SELECT DISTINCT sku FROM events ORDER BY 1";
        let head =
            tx.prepare(&format!("SELECT {PRODUCT} FROM products p WHERE sku = $1")).await.map_err(store_error)?;
        let all_batches =
            tx.prepare(&format!("SELECT {BATCH} FROM batches b WHERE sku = $1")).await.map_err(store_error)?;
        let all_lines = tx.prepare(&format!("SELECT {LINE} FROM lines l WHERE sku = $1")).await.map_err(store_error)?;
        let all_events = tx
            .prepare("SELECT sequence, body FROM events WHERE sku = $1 ORDER BY sequence")
            .await
            .map_err(store_error)?;
        for name in tx.query(names, &[]).await.map_err(store_error)? {
            let name: &str = get(&name, 0)?;
            let (heads, batches, lines, events) = futures_util::future::try_join4(
                tx.query(&head, &[&name]),
                tx.query(&all_batches, &[&name]),
                tx.query(&all_lines, &[&name]),
                tx.query(&all_events, &[&name]),
            )
            .await
            .map_err(store_error)?;
            let sku = rows::sku(name)?;
            let batches: Vec<Batch> = batches.iter().map(|row| batch(row, 0)).collect::<StoreResult<_>>()?;
            let product = match heads.first() {
                None => None,
                Some(row) => {
                    let (version, backordered) = (count(get(row, 1)?)?, count(get(row, 2)?)?);
                    Some(Product::restore(sku.clone(), version, backordered, get(row, 3)?, batches))
                }
            };
            visit(ProductBooks {
                product,
                sku,
                faults: Vec::new(),
                lines: lines.iter().map(line).collect::<StoreResult<_>>()?,
                events: events
                    .iter()
                    .map(|row| Ok((count(get(row, 0)?)?, get::<String>(row, 1)?)))
                    .collect::<StoreResult<_>>()?,
            });
        }
        tx.commit().await.map_err(store_error)
    }
}
