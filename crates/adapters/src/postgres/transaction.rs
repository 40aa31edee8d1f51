//! The write side: a transaction that owns its connection, with few round trips however much is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, Product, Sku};
use allocation_service_layer::ports::database::{
    Change, ProductChanges, ProductRepository, RecordedEvent, Selection, StoreError, StoreResult, Transaction,
};
use deadpool_postgres::Object;
use futures_util::future::{TryFutureExt, try_join, try_join_all};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{BATCH, LINE, PostgresOptions, batch, get, line, store_error};
use crate::rows::{self, count, number};

/// Starts a transaction. READ COMMITTED, so that what is read after the products are locked is fresh.
///
/// The planner settings hold for this transaction only: every hot statement looks its rows up by key, and a plan made while the tables were
/// small or never analysed must not scan them once they are large.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; \
     SET LOCAL enable_bitmapscan = off";

/// A transaction that owns its connection. Dropped unfinished, the connection is closed, which rolls back.
pub struct PostgresTransaction {
    /// `None` once finished.
    client: Option<Object>,
    options: Arc<PostgresOptions>,
    begun: bool,
    now: OffsetDateTime,
}

type Param = Box<dyn ToSql + Sync + Send>;

impl PostgresTransaction {
    pub(super) fn new(client: Object, options: Arc<PostgresOptions>) -> Self {
        Self { client: Some(client), options, begun: false, now: OffsetDateTime::UNIX_EPOCH }
    }

    fn client(&self) -> StoreResult<&Object> {
        self.client.as_ref().ok_or_else(|| StoreError::Failed("the transaction has ended".into()))
    }

    /// Sends statements one behind the other without waiting for answers in between, after BEGIN if that was not sent yet.
    /// They are carried out in this order; the first that fails makes the whole fail.
    async fn pipeline(&mut self, statements: Vec<(String, Vec<Param>)>) -> StoreResult<Vec<Vec<Row>>> {
        let begin = !std::mem::replace(&mut self.begun, true);
        let client = self.client()?;
        // Known statements cost nothing here; a new one costs a round trip, once for each connection.
        let mut prepared = Vec::with_capacity(statements.len());
        for (sql, params) in &statements {
            prepared.push((client.prepare_cached(sql).await.map_err(store_error)?, params));
        }
        // The requests are sent in the order in which the futures are first polled, and both joins poll in order.
        let begin = async { if begin { client.batch_execute(BEGIN).await } else { Ok(()) } };
        let queries = prepared.iter().map(|(statement, params)| async move {
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
            client.query(statement, &params).await
        });
        let ((), rows) = try_join(begin, try_join_all(queries)).map_err(store_error).await?;
        Ok(rows)
    }

    async fn query(&mut self, sql: String, params: Vec<Param>) -> StoreResult<Vec<Row>> {
        Ok(self.pipeline(vec![(sql, params)]).await?.pop().unwrap_or_default())
    }

    /// As `pipeline`, for writes that must each touch the given number of rows.
    async fn write(&mut self, statements: Vec<(&'static str, Vec<Param>, usize)>) -> StoreResult<()> {
        let expected: Vec<usize> = statements.iter().map(|(_, _, rows)| *rows).collect();
        let statements = statements.into_iter().map(|(sql, params, _)| (sql.to_owned(), params)).collect();
        let written = self.pipeline(statements).await?;
        for (rows, expected) in written.iter().zip(expected) {
            let written = match rows.first() {
                Some(row) => usize::try_from(get::<i64>(row, 0)?).unwrap_or(0),
                None => 0,
            };
            if written != expected {
                return Err(StoreError::Conflict(format!("{written} of {expected} rows are as they were read")));
            }
        }
        Ok(())
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && self.begun
        {
            drop(Object::take(client));
        }
    }
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Param {
    Box::new(texts.into_iter().map(str::to_owned).collect::<Vec<String>>())
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Param {
    Box::new(numbers.into_iter().map(number).collect::<Vec<i64>>())
}

impl Transaction for PostgresTransaction {
    fn now(&self) -> OffsetDateTime {
        self.now
    }

    async fn record(&mut self, events: &[RecordedEvent]) -> StoreResult<()> {
        let mut runs: BTreeMap<&Sku, (u64, u64)> = BTreeMap::new();
        for event in events {
            let run = runs.entry(&event.sku).or_insert((event.sequence, event.sequence));
            *run = (run.0.min(event.sequence), run.1.max(event.sequence));
        }
        self.write(vec![
            (
                "WITH new AS (
                     INSERT INTO events (sku, sequence, body)
                     SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]) RETURNING 1)
                 SELECT count(*) FROM new",
                vec![
                    texts(events.iter().map(|event| event.sku.as_str())),
                    numbers(events.iter().map(|event| event.sequence)),
                    texts(events.iter().map(|event| event.body.as_str())),
                ],
                events.len(),
            ),
            (
                "WITH new AS (
                     INSERT INTO units_of_work (skus, first_sequences, last_sequences)
                     VALUES ($1, $2, $3) RETURNING 1)
                 SELECT count(*) FROM new",
                vec![
                    texts(runs.keys().map(|sku| sku.as_str())),
                    numbers(runs.values().map(|(first, _)| *first)),
                    numbers(runs.values().map(|(_, last)| *last)),
                ],
                1,
            ),
        ])
        .await
    }

    async fn commit(mut self) -> StoreResult<()> {
        if self.begun {
            self.client()?.batch_execute("COMMIT").await.map_err(store_error)?;
        }
        self.client = None;
        Ok(())
    }
}

impl ProductRepository for PostgresTransaction {
    async fn load(&mut self, wanted: &Selection) -> StoreResult<Vec<Product>> {
        let skus: Vec<&str> = wanted.skus.iter().map(Sku::as_str).collect();
        let mut statements: Vec<(String, Vec<Param>)> = Vec::new();
        // First the locks, in byte order of SKU; then, in statements of their own, what they protect: one statement that locks and joins would go
        // on with the old counters after it had to wait.
        for some in skus.chunks(self.options.lock_skus.max(1)) {
            statements.push((
                "SELECT sku, version, backordered, out_of_stock_raised FROM products
                 WHERE sku = ANY($1::text[]) ORDER BY sku FOR NO KEY UPDATE"
                    .into(),
                vec![texts(some.iter().copied())],
            ));
        }
        let locks = statements.len();
        statements.push((
            format!("SELECT b.sku, {BATCH} FROM batches b WHERE b.sku = ANY($1::text[]) AND b.is_open"),
            vec![texts(skus.iter().copied())],
        ));
        statements.push((
            format!(
                "SELECT k.sku, {BATCH} FROM unnest($1::text[], $2::text[]) k(sku, reference)
                 CROSS JOIN LATERAL (SELECT * FROM batches b WHERE b.sku = k.sku AND b.reference = k.reference
                                     AND NOT b.is_open) b"
            ),
            vec![
                texts(wanted.batches.iter().map(|(sku, _)| sku.as_str())),
                texts(wanted.batches.iter().map(|(_, reference)| reference.as_str())),
            ],
        ));
        statements.push((
            format!(
                "SELECT {LINE}, k.sku FROM unnest($1::text[], $2::text[], $3::text[]) k(sku, order_id, line)
                 CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = k.order_id AND l.sku = k.sku
                                     AND l.line = k.line) l"
            ),
            vec![
                texts(wanted.lines.iter().map(|(sku, _)| sku.as_str())),
                texts(wanted.lines.iter().map(|(_, key)| key.order_id.as_str())),
                texts(wanted.lines.iter().map(|(_, key)| key.line.as_str())),
            ],
        ));
        statements.push(("SELECT clock_timestamp()".into(), Vec::new()));
        let answers = self.pipeline(statements).await?;
        let [heads @ .., open, closed, lines, clock] = answers.as_slice() else {
            return Err(StoreError::Failed("fewer answers than statements".into()));
        };
        debug_assert_eq!(heads.len(), locks);

        self.now = match (&self.options.clock, clock.first()) {
            (Some(clock), _) => clock.now(),
            (None, Some(row)) => get(row, 0)?,
            (None, None) => self.now,
        };
        let mut batches: BTreeMap<&str, Vec<Batch>> = BTreeMap::new();
        let mut named = std::collections::BTreeSet::new();
        for row in open {
            batches.entry(get(row, 0)?).or_default().push(batch(row, 1)?);
        }
        for row in closed {
            // A batch may be named twice.
            if named.insert((get::<&str>(row, 0)?, get::<&str>(row, 1)?)) {
                batches.entry(get(row, 0)?).or_default().push(batch(row, 1)?);
            }
        }
        let mut products: BTreeMap<Sku, Product> = BTreeMap::new();
        for row in heads.iter().flatten() {
            let of_product = batches.remove(get::<&str>(row, 0)?).unwrap_or_default();
            let sku = rows::sku(get(row, 0)?)?;
            let (version, backordered) = (count(get(row, 1)?)?, count(get(row, 2)?)?);
            products.insert(sku.clone(), Product::restore(sku, version, backordered, get(row, 3)?, of_product));
        }
        for row in lines {
            if let Some(product) = products.get_mut(get::<&str>(row, 6)?) {
                product.remember([line(row)?]);
            }
        }
        Ok(products.into_values().collect())
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let sql = "SELECT l.sku, l.order_id, l.line FROM unnest($1::text[]) k(order_id)
                   CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = k.order_id) l";
        let rows = self.query(sql.into(), vec![texts(orders.iter().map(OrderId::as_str))]).await?;
        rows.iter().map(|row| Ok((rows::sku(get(row, 0)?)?, rows::line_key(get(row, 1)?, get(row, 2)?)?))).collect()
    }

    async fn newest_lines(&mut self, sku: &Sku, reference: &BatchRef, limit: usize) -> StoreResult<Vec<AcceptedLine>> {
        let sql = format!(
            "SELECT {LINE} FROM lines l WHERE l.sku = $1 AND l.batch = $2 ORDER BY l.sku DESC, l.accepted DESC LIMIT $3"
        );
        let params: Vec<Param> = vec![
            Box::new(sku.as_str().to_owned()),
            Box::new(reference.as_str().to_owned()),
            Box::new(number(limit as u64)),
        ];
        self.query(sql, params).await?.iter().map(line).collect()
    }

    async fn waiting_lines(
        &mut self,
        sku: &Sku,
        max_units: u64,
        after: u64,
        limit: usize,
    ) -> StoreResult<Vec<AcceptedLine>> {
        let sql = format!(
            "SELECT {LINE} FROM lines l WHERE l.sku = $1 AND l.accepted > $2 AND l.backordered > 0
             AND l.backordered <= $3 ORDER BY l.sku, l.accepted LIMIT $4"
        );
        let params: Vec<Param> = vec![
            Box::new(sku.as_str().to_owned()),
            Box::new(number(after)),
            Box::new(number(max_units)),
            Box::new(number(limit as u64)),
        ];
        self.query(sql, params).await?.iter().map(line).collect()
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        let mut statements = Vec::new();
        for (kind, sql) in [(true, INSERT_PRODUCTS), (false, UPDATE_PRODUCTS)] {
            let some: Vec<&ProductChanges<'_>> =
                changes.iter().filter(|change| (change.saved_version == 0) == kind).collect();
            if !some.is_empty() {
                let products = || some.iter().map(|change| change.product);
                let raised: Vec<bool> = products().map(Product::out_of_stock_raised).collect();
                let params = vec![
                    texts(products().map(|product| product.sku().as_str())),
                    numbers(products().map(Product::version)),
                    numbers(products().map(Product::backordered)),
                    Box::new(raised) as Param,
                    numbers(some.iter().map(|change| change.saved_version)),
                ];
                statements.push((sql, params, some.len()));
            }
        }
        for (kind, sql) in [(Change::Insert, INSERT_BATCHES), (Change::Update, UPDATE_BATCHES)] {
            let some: Vec<(&Sku, &Batch)> = changes
                .iter()
                .flat_map(|change| change.batches.iter().map(|(kind, batch)| (*kind, change.product.sku(), *batch)))
                .filter_map(|(this, sku, batch)| (this == kind).then_some((sku, batch)))
                .collect();
            if !some.is_empty() {
                let batches = || some.iter().map(|(_, batch)| *batch);
                let etas: Vec<_> = batches().map(|batch| batch.eta).collect();
                let open: Vec<bool> = batches().map(Batch::is_open).collect();
                let params = vec![
                    texts(some.iter().map(|(sku, _)| sku.as_str())),
                    texts(batches().map(|batch| batch.reference.as_str())),
                    numbers(batches().map(|batch| batch.quantity.units())),
                    numbers(batches().map(|batch| batch.allocated)),
                    Box::new(etas) as Param,
                    numbers(batches().map(|batch| batch.revision)),
                    Box::new(open) as Param,
                ];
                statements.push((sql, params, some.len()));
            }
        }
        for (kind, sql) in [(Change::Insert, INSERT_LINES), (Change::Update, UPDATE_LINES)] {
            let some: Vec<(&Sku, &AcceptedLine)> = changes
                .iter()
                .flat_map(|change| change.lines.iter().map(|(kind, line)| (*kind, change.product.sku(), *line)))
                .filter_map(|(this, sku, line)| (this == kind).then_some((sku, line)))
                .collect();
            if !some.is_empty() {
                let lines = || some.iter().map(|(_, line)| *line);
                let in_batch: Vec<Option<String>> =
                    lines().map(|line| line.batch().map(|reference| reference.as_str().to_owned())).collect();
                let mut params = vec![
                    texts(some.iter().map(|(sku, _)| sku.as_str())),
                    numbers(lines().map(|line| line.accepted)),
                    numbers(lines().map(AcceptedLine::allocated)),
                    numbers(lines().map(AcceptedLine::backordered)),
                    numbers(lines().map(AcceptedLine::cancelled)),
                    Box::new(in_batch) as Param,
                ];
                if kind == Change::Insert {
                    params.push(texts(lines().map(|line| line.key.order_id.as_str())));
                    params.push(texts(lines().map(|line| line.key.line.as_str())));
                    params.push(numbers(lines().map(|line| line.requested.units())));
                }
                statements.push((sql, params, some.len()));
            }
        }
        self.write(statements).await
    }
}

const INSERT_PRODUCTS: &str = "WITH new AS (
    INSERT INTO products (sku, version, backordered, out_of_stock_raised)
    SELECT sku, version, backordered, raised
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[], $5::bigint[]) u(sku, version, backordered, raised, saved)
    RETURNING 1)
SELECT count(*) FROM new";

const UPDATE_PRODUCTS: &str = "WITH changed AS (
    UPDATE products p SET version = u.version, backordered = u.backordered, out_of_stock_raised = u.raised
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[], $5::bigint[]) u(sku, version, backordered, raised, saved)
    WHERE p.sku = u.sku AND p.version = u.saved RETURNING 1)
SELECT count(*) FROM changed";

const INSERT_BATCHES: &str = "WITH new AS (
    INSERT INTO batches (sku, reference, quantity, allocated, eta, revision, is_open)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::date[], $6::bigint[], $7::boolean[])
    RETURNING 1)
SELECT count(*) FROM new";

const UPDATE_BATCHES: &str = "WITH changed AS (
    UPDATE batches b SET quantity = u.quantity, allocated = u.allocated, eta = u.eta, revision = u.revision, is_open = u.is_open
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::date[], $6::bigint[], $7::boolean[])
        u(sku, reference, quantity, allocated, eta, revision, is_open)
    WHERE b.sku = u.sku AND b.reference = u.reference RETURNING 1)
SELECT count(*) FROM changed";

const INSERT_LINES: &str = "WITH new AS (
    INSERT INTO lines (sku, accepted, allocated, backordered, cancelled, batch, order_id, line, requested)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::bigint[])
    RETURNING 1)
SELECT count(*) FROM new";

const UPDATE_LINES: &str = "WITH changed AS (
    UPDATE lines l SET allocated = u.allocated, backordered = u.backordered, cancelled = u.cancelled, batch = u.batch
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
        u(sku, accepted, allocated, backordered, cancelled, batch)
    WHERE l.sku = u.sku AND l.accepted = u.accepted RETURNING 1)
SELECT count(*) FROM changed";
