//! The write side: a transaction that owns its connection, with few round trips however much is in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, Product, Sku};
use allocation_service_layer::ports::database::{
    Change, ProductChanges, ProductRepository, RecordedEvent, Selection, StoreError, StoreResult, Transaction,
};
use deadpool_postgres::Object;
use futures_util::future::{TryFutureExt, try_join_all, try_join3};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{BATCH, LINE, PostgresOptions, batch, get, line, store_error};
use crate::rows::{self, count, number};

/// Starts a transaction, such that what is read after the products are locked is fresh.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// A transaction that owns its connection. Dropped unfinished, the connection is closed, which rolls back.
pub struct PostgresTransaction {
    /// `None` once finished.
    client: Option<Object>,
    options: Arc<PostgresOptions>,
    begun: bool,
    now: OffsetDateTime,
    /// Writes that are sent as one statement, together with the next query or with COMMIT.
    pending: Vec<Write>,
}

type Param = Box<dyn ToSql + Sync + Send>;

struct Statement {
    sql: Cow<'static, str>,
    params: Vec<Param>,
}

impl Statement {
    fn new(sql: impl Into<Cow<'static, str>>, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params }
    }
}

/// A bulk write, as a part of a statement: its parameters are numbered from `$1`.
struct Write {
    sql: &'static str,
    params: Vec<Param>,
    /// How many rows it must touch, where that is not certain.
    expected: Option<usize>,
}

/// All writes of a unit of work as one statement: saves the server and the wire most of the cost of each. They are about different tables,
/// so it does not matter that their order is not defined.
///
/// A product that is no longer at the version that was read, which its lock should have made impossible, must not be committed; but COMMIT is
/// under way behind the statement. So a wrong count of rows divides by zero: the server then turns COMMIT into a rollback, and 22012 is
/// told apart from other errors as a conflict.
fn combined(writes: Vec<Write>) -> Statement {
    let mut parts = Vec::with_capacity(writes.len());
    let mut checks = vec!["true".to_owned()];
    let mut params: Vec<Param> = Vec::new();
    for (at, write) in writes.into_iter().enumerate() {
        parts.push(format!("w{at} AS ({} RETURNING 1)", renumbered(write.sql, params.len())));
        params.extend(write.params);
        if let Some(expected) = write.expected {
            params.push(Box::new(number(expected as u64)));
            checks.push(format!("(SELECT count(*) FROM w{at}) = ${}::bigint", params.len()));
        }
    }
    Statement::new(format!("WITH {} SELECT 1 / ({})::int", parts.join(", "), checks.join(" AND ")), params)
}

/// The same text with its parameters numbered on from `offset`.
fn renumbered(sql: &str, offset: usize) -> String {
    let shifted = |piece: &str| {
        let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let number: usize = piece[..digits].parse().expect("`$` stands before a number only");
        format!("${}{}", number + offset, &piece[digits..])
    };
    let (first, rest) = sql.split_once('$').unwrap_or((sql, ""));
    let rest = rest.split('$').filter(|piece| !piece.is_empty());
    std::iter::once(first.to_owned()).chain(rest.map(shifted)).collect()
}

impl PostgresTransaction {
    pub(super) fn new(client: Object, options: Arc<PostgresOptions>) -> Self {
        let now = OffsetDateTime::UNIX_EPOCH;
        Self { client: Some(client), options, begun: false, now, pending: Vec::new() }
    }

    /// Sends BEGIN if that was not done yet, the pending writes, these statements, and COMMIT if asked to, one behind the other without
    /// waiting for answers in between. They are carried out in this order; after the first that fails, the server refuses the others and
    /// turns COMMIT into a rollback. Answers with the rows of the statements.
    async fn pipeline(&mut self, statements: Vec<Statement>, commit: bool) -> StoreResult<Vec<Vec<Row>>> {
        let begin = !std::mem::replace(&mut self.begun, true);
        let writes = std::mem::take(&mut self.pending);
        let write = (!writes.is_empty()).then(|| combined(writes));
        let client = self.client.as_ref().ok_or_else(|| StoreError::Failed("the transaction has ended".into()))?;
        // Known statements cost nothing here; a new one costs a round trip, once for each connection.
        let mut prepared = Vec::with_capacity(statements.len() + 1);
        for statement in write.iter().chain(&statements) {
            let handle = client.prepare_cached(&statement.sql).await.map_err(store_error)?;
            prepared.push((handle, &statement.params));
        }
        // The requests are sent in the order in which the futures are first polled, and the joins poll in order.
        let begin = async { if begin { client.batch_execute(BEGIN).await } else { Ok(()) } };
        let queries = prepared.iter().map(|(statement, params)| async move {
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
            client.query(statement, &params).await
        });
        let commit = async { if commit { client.batch_execute("COMMIT").await } else { Ok(()) } };
        let ((), mut rows, ()) = try_join3(begin, try_join_all(queries), commit).map_err(store_error).await?;
        Ok(rows.split_off(usize::from(write.is_some())))
    }

    async fn query(&mut self, statement: Statement) -> StoreResult<Vec<Row>> {
        Ok(self.pipeline(vec![statement], false).await?.pop().unwrap_or_default())
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
    column(texts.into_iter().map(str::to_owned))
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Param {
    column(numbers.into_iter().map(number))
}

fn column<T: ToSql + Sync + Send + 'static>(values: impl IntoIterator<Item = T>) -> Param {
    Box::new(values.into_iter().collect::<Vec<T>>())
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
        let events_params = vec![
            texts(events.iter().map(|event| event.sku.as_str())),
            numbers(events.iter().map(|event| event.sequence)),
            texts(events.iter().map(|event| event.body.as_str())),
        ];
        self.pending.push(Write { sql: INSERT_EVENTS, params: events_params, expected: None });
        let runs_params = vec![
            texts(runs.keys().map(|sku| sku.as_str())),
            numbers(runs.values().map(|(first, _)| *first)),
            numbers(runs.values().map(|(_, last)| *last)),
        ];
        self.pending.push(Write { sql: INSERT_UNIT_OF_WORK, params: runs_params, expected: None });
        Ok(())
    }

    async fn commit(mut self) -> StoreResult<()> {
        if self.begun || !self.pending.is_empty() {
            self.pipeline(Vec::new(), true).await?;
        }
        self.client = None;
        Ok(())
    }

    async fn end(mut self) -> StoreResult<()> {
        // Locks were written too: unlike a commit, a rollback of them does not wait for the disk.
        if self.begun
            && let Some(client) = &self.client
        {
            client.batch_execute("ROLLBACK").await.map_err(store_error)?;
        }
        self.client = None;
        Ok(())
    }
}

impl ProductRepository for PostgresTransaction {
    async fn load(&mut self, wanted: &Selection) -> StoreResult<Vec<Product>> {
        let skus: Vec<&str> = wanted.skus.iter().map(Sku::as_str).collect();
        let mut statements = Vec::new();
        // First the locks, in byte order of SKU; then, in statements of their own, what they protect: one statement that locks and joins would go
        // on with the old counters after it had to wait.
        for some in skus.chunks(self.options.lock_skus.max(1)) {
            statements.push(Statement::new(LOCK_PRODUCTS, vec![texts(some.iter().copied())]));
        }
        let locks = statements.len();
        // The clock is read here, after the locks, and in passing.
        statements.push(Statement::new(
            format!(
                "SELECT clock_timestamp(), k.sku, {BATCH} FROM unnest($1::text[]) k(sku)
                 LEFT JOIN LATERAL (SELECT * FROM batches b WHERE b.sku = k.sku AND b.is_open) b ON true"
            ),
            vec![texts(skus.iter().copied())],
        ));
        if !wanted.lines.is_empty() {
            statements.push(Statement::new(
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
        }
        let batches_at = statements.len();
        if !wanted.batches.is_empty() {
            statements.push(Statement::new(
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
        }
        let mut answers = self.pipeline(statements, false).await?;
        let closed = answers.split_off(batches_at);
        let lines = answers.split_off(locks + 1);
        let open = answers.split_off(locks).pop().unwrap_or_default();
        let heads = answers;

        self.now = match (&self.options.clock, open.first()) {
            (Some(clock), _) => clock.now(),
            (None, Some(row)) => get(row, 0)?,
            (None, None) => self.now,
        };
        let mut batches: BTreeMap<&str, Vec<Batch>> = BTreeMap::new();
        let mut named = std::collections::BTreeSet::new();
        for row in &open {
            if get::<Option<&str>>(row, 2)?.is_some() {
                batches.entry(get(row, 1)?).or_default().push(batch(row, 2)?);
            }
        }
        for row in closed.iter().flatten() {
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
        for row in lines.iter().flatten() {
            if let Some(product) = products.get_mut(get::<&str>(row, 6)?) {
                product.remember([line(row)?]);
            }
        }
        Ok(products.into_values().collect())
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let sql = "SELECT l.sku, l.order_id, l.line FROM unnest($1::text[]) k(order_id)
                   CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = k.order_id) l";
        let rows = self.query(Statement::new(sql, vec![texts(orders.iter().map(OrderId::as_str))])).await?;
        rows.iter().map(|row| Ok((rows::sku(get(row, 0)?)?, rows::line_key(get(row, 1)?, get(row, 2)?)?))).collect()
    }

    async fn newest_lines(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<AcceptedLine>> {
        let sql = format!(
            "SELECT {LINE} FROM lines l WHERE l.sku = $1 AND l.batch = $2 AND l.accepted < coalesce(
                 (SELECT accepted FROM lines WHERE order_id = $3 AND sku = $1 AND line = $4), {})
             ORDER BY l.sku DESC, l.accepted DESC LIMIT $5",
            i64::MAX
        );
        let params: Vec<Param> = vec![
            Box::new(sku.as_str().to_owned()),
            Box::new(reference.as_str().to_owned()),
            Box::new(after.map(|key| key.order_id.as_str().to_owned())),
            Box::new(after.map(|key| key.line.as_str().to_owned())),
            Box::new(number(limit as u64)),
        ];
        self.query(Statement::new(sql, params)).await?.iter().map(line).collect()
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
        self.query(Statement::new(sql, params)).await?.iter().map(line).collect()
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        let is_new = |change: &&ProductChanges<'_>| change.saved_version == 0;
        let (new, known): (Vec<_>, Vec<_>) = changes.iter().partition(is_new);
        self.write(INSERT_PRODUCTS, None, &new, products);
        self.write(UPDATE_PRODUCTS, Some(known.len()), &known, products);

        let batches =
            changes.iter().flat_map(|c| c.batches.iter().map(|(kind, batch)| (*kind, c.product.sku(), *batch)));
        let (new, known): (Vec<_>, Vec<_>) = batches.partition(|(kind, ..)| *kind == Change::Insert);
        self.write(INSERT_BATCHES, None, &new, self::batches);
        self.write(UPDATE_BATCHES, Some(known.len()), &known, self::batches);

        let lines = changes.iter().flat_map(|c| c.lines.iter().map(|(kind, line)| (*kind, c.product.sku(), *line)));
        let (new, known): (Vec<_>, Vec<_>) = lines.partition(|(kind, ..)| *kind == Change::Insert);
        self.write(INSERT_LINES, None, &new, new_lines);
        self.write(UPDATE_LINES, Some(known.len()), &known, known_lines);
        Ok(())
    }
}

impl PostgresTransaction {
    /// Adds a bulk write of these rows, if there are any. An update says how many rows it must find.
    fn write<R>(&mut self, sql: &'static str, expected: Option<usize>, rows: &[R], columns: fn(&[R]) -> Vec<Param>) {
        if !rows.is_empty() {
            self.pending.push(Write { sql, params: columns(rows), expected });
        }
    }
}

fn products(changes: &[&ProductChanges<'_>]) -> Vec<Param> {
    let products = || changes.iter().map(|change| change.product);
    vec![
        texts(products().map(|product| product.sku().as_str())),
        numbers(products().map(Product::version)),
        numbers(products().map(Product::backordered)),
        column(products().map(Product::out_of_stock_raised)),
        numbers(changes.iter().map(|change| change.saved_version)),
    ]
}

fn batches(rows: &[(Change, &Sku, &Batch)]) -> Vec<Param> {
    let batches = || rows.iter().map(|(_, _, batch)| *batch);
    vec![
        texts(rows.iter().map(|(_, sku, _)| sku.as_str())),
        texts(batches().map(|batch| batch.reference.as_str())),
        numbers(batches().map(|batch| batch.quantity.units())),
        numbers(batches().map(|batch| batch.allocated)),
        column(batches().map(|batch| batch.eta)),
        numbers(batches().map(|batch| batch.revision)),
        column(batches().map(Batch::is_open)),
    ]
}

fn known_lines(rows: &[(Change, &Sku, &AcceptedLine)]) -> Vec<Param> {
    let lines = || rows.iter().map(|(_, _, line)| *line);
    vec![
        texts(rows.iter().map(|(_, sku, _)| sku.as_str())),
        numbers(lines().map(|line| line.accepted)),
        numbers(lines().map(AcceptedLine::allocated)),
        numbers(lines().map(AcceptedLine::backordered)),
        numbers(lines().map(AcceptedLine::cancelled)),
        column(lines().map(|line| line.batch().map(|reference| reference.as_str().to_owned()))),
    ]
}

fn new_lines(rows: &[(Change, &Sku, &AcceptedLine)]) -> Vec<Param> {
    let lines = || rows.iter().map(|(_, _, line)| *line);
    let mut params = known_lines(rows);
    params.extend([
        texts(lines().map(|line| line.key.order_id.as_str())),
        texts(lines().map(|line| line.key.line.as_str())),
        numbers(lines().map(|line| line.requested.units())),
    ]);
    params
}

/// Locks products, in byte order of SKU.
const LOCK_PRODUCTS: &str = "SELECT sku, version, backordered, out_of_stock_raised FROM products
    WHERE sku = ANY($1::text[]) ORDER BY sku FOR NO KEY UPDATE";

const INSERT_PRODUCTS: &str = "INSERT INTO products (sku, version, backordered, out_of_stock_raised)
    SELECT sku, version, backordered, raised
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[], $5::bigint[])
        u(sku, version, backordered, raised, saved)";

const UPDATE_PRODUCTS: &str = "UPDATE products p
    SET version = u.version, backordered = u.backordered, out_of_stock_raised = u.raised
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[], $5::bigint[])
        u(sku, version, backordered, raised, saved)
    WHERE p.sku = u.sku AND p.version = u.saved";

const INSERT_BATCHES: &str = "INSERT INTO batches (sku, reference, quantity, allocated, eta, revision, is_open)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::date[], $6::bigint[], $7::boolean[])";

const UPDATE_BATCHES: &str = "UPDATE batches b
    SET quantity = u.quantity, allocated = u.allocated, eta = u.eta, revision = u.revision, is_open = u.is_open
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::date[], $6::bigint[], $7::boolean[])
        u(sku, reference, quantity, allocated, eta, revision, is_open)
    WHERE b.sku = u.sku AND b.reference = u.reference";

const INSERT_LINES: &str = "INSERT INTO lines
        (sku, accepted, allocated, backordered, cancelled, batch, order_id, line, requested)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[],
        $7::text[], $8::text[], $9::bigint[])";

const UPDATE_LINES: &str = "UPDATE lines l
    SET allocated = u.allocated, backordered = u.backordered, cancelled = u.cancelled, batch = u.batch
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
        u(sku, accepted, allocated, backordered, cancelled, batch)
    WHERE l.sku = u.sku AND l.accepted = u.accepted";

const INSERT_EVENTS: &str = "INSERT INTO events (sku, sequence, body)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])";

const INSERT_UNIT_OF_WORK: &str = "INSERT INTO units_of_work (skus, first_sequences, last_sequences)
    VALUES ($1::text[], $2::bigint[], $3::bigint[])";

#[cfg(test)]
mod tests {
    use super::renumbered;

    #[test]
    fn parameters_are_numbered_on() {
        assert_eq!(renumbered("SELECT $1, $12::text, $2", 5), "SELECT $6, $17::text, $7");
        assert_eq!(renumbered("SELECT 1", 5), "SELECT 1");
    }
}
