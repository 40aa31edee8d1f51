//! The write side: a transaction that owns its connection, with few round trips however much is in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_domain::{
    AcceptedLine, Batch, BatchRef, LineKey, OrderId, Part, PartKey, Product, Seniority, Shipped, Sku, Strategy, Terms,
};
use allocation_service_layer::ports::database::{
    Change, NotedBalances, ProductChanges, ProductRepository, RecordedEvent, RequestKey, Selection, StoreError,
    StoreResult, Transaction, Units,
};
use allocation_service_layer::verify::ProductBooks;
use deadpool_postgres::Object;
use futures_util::future::{TryFutureExt, try_join_all, try_join3};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::movements::INSERT_BALANCES;
use super::reader::{books, questions};
use super::{
    BATCH, LINE, LINE_COLUMNS, PARTS, PRODUCT, PostgresOptions, SHIPMENTS, WAITING, batch, get, line, product,
    store_error, wanted_rows, with_rows,
};
use crate::rows::{self, ReadLine, count, number};

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

    async fn note(&mut self, balances: &[NotedBalances]) -> StoreResult<()> {
        self.write(INSERT_BALANCES, None, balances, |balances| {
            vec![
                texts(balances.iter().map(|noted| noted.sku.as_str())),
                numbers(balances.iter().map(|noted| noted.sequence)),
                texts(balances.iter().map(|noted| noted.body.as_str())),
            ]
        });
        Ok(())
    }

    async fn request_keys(&mut self, keys: &[Arc<str>]) -> StoreResult<Vec<RequestKey>> {
        let sql = "SELECT r.key, r.content FROM unnest($1::text[]) k(key)
                   CROSS JOIN LATERAL (SELECT * FROM request_keys r WHERE r.key = k.key) r";
        let rows = self.query(Statement::new(sql, vec![texts(keys.iter().map(|key| &**key))])).await?;
        let known = |row: &Row| {
            let content = <[u8; 32]>::try_from(get::<&[u8]>(row, 1)?).map_err(rows::damaged)?;
            Ok(RequestKey { key: get::<&str>(row, 0)?.into(), content })
        };
        rows.iter().map(known).collect()
    }

    async fn remember_keys(&mut self, keys: &[RequestKey]) -> StoreResult<()> {
        let params = vec![
            texts(keys.iter().map(|key| &*key.key)),
            column(keys.iter().map(|key| key.content.to_vec())),
            Box::new(rows::micros(self.now)),
        ];
        self.pending.push(Write { sql: INSERT_REQUEST_KEYS, params, expected: None });
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
            let sql = format!(
                "SELECT {PRODUCT} FROM products p WHERE p.sku = ANY($1::text[]) ORDER BY p.sku FOR NO KEY UPDATE"
            );
            statements.push(Statement::new(sql, vec![texts(some.iter().copied())]));
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
                    "SELECT {LINE} FROM unnest($1::text[], $2::text[], $3::text[]) k(sku, order_id, line)
                     CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = k.order_id AND l.sku = k.sku
                                         AND l.line = k.line) l"
                ),
                line_names(&wanted.lines),
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
                batch_names(&wanted.batches),
            ));
        }
        let mut answers = self.pipeline(statements, false).await?;
        let closed = answers.split_off(batches_at);
        let lines = answers.split_off(locks + 1);
        let open = answers.split_off(locks).pop().unwrap_or_default();
        let heads = answers;

        self.now = match (&self.options.clock, open.first()) {
            (Some(clock), _) => rows::storable(clock.now()),
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
            let mut stored = product(row)?;
            stored.batches = batches.remove(stored.sku.as_str()).unwrap_or_default();
            products.insert(stored.sku.clone(), Product::restore(stored, self.now));
        }
        let lines = lines.iter().flatten().map(line).collect::<StoreResult<_>>()?;
        for (sku, line) in self.complete(lines).await? {
            if let Some(product) = products.get_mut(&sku) {
                product.remember([line]);
            }
        }
        Ok(products.into_values().collect())
    }

    async fn batches(&mut self, named: &[(Sku, BatchRef)]) -> StoreResult<Vec<(Sku, Batch)>> {
        let sql = format!(
            "SELECT k.sku, {BATCH} FROM unnest($1::text[], $2::text[]) k(sku, reference)
             CROSS JOIN LATERAL (SELECT * FROM batches b WHERE b.sku = k.sku AND b.reference = k.reference) b"
        );
        let rows = self.query(Statement::new(sql, batch_names(named))).await?;
        rows.iter().map(|row| Ok((rows::sku(get(row, 0)?)?, batch(row, 1)?))).collect()
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let sql = "SELECT l.sku, l.order_id, l.line FROM unnest($1::text[]) k(order_id)
                   CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = k.order_id) l";
        let rows = self.query(Statement::new(sql, vec![texts(orders.iter().map(OrderId::as_str))])).await?;
        rows.iter().map(|row| Ok((rows::sku(get(row, 0)?)?, rows::line_key(get(row, 1)?, get(row, 2)?)?))).collect()
    }

    async fn losers(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&PartKey>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        let params: Vec<Param> = vec![
            Box::new(sku.as_str().to_owned()),
            Box::new(reference.as_str().to_owned()),
            Box::new(after.map_or(i64::MAX, |after| number(after.accepted))),
            Box::new(number(limit as u64)),
        ];
        self.units(LOSERS, params).await
    }

    async fn waiting(
        &mut self,
        sku: &Sku,
        largest_free: u64,
        after: Option<Seniority>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        let (priority, accepted) = rows::begin_after(after);
        let params: Vec<Param> = vec![
            Box::new(sku.as_str().to_owned()),
            Box::new(priority),
            Box::new(accepted),
            Box::new(number(limit as u64)),
            Box::new(number(largest_free)),
        ];
        self.units(WAITING, params).await
    }

    async fn due_lines(&mut self, products: &[(Sku, OffsetDateTime)]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        let sql = format!(
            "SELECT {LINE} FROM unnest($1::text[], $2::bigint[], $3::date[]) k(sku, now, today)
             CROSS JOIN LATERAL (
                 SELECT * FROM lines l WHERE l.sku = k.sku AND l.held_until <= k.now
                 UNION ALL
                 SELECT * FROM lines l WHERE l.sku = k.sku AND l.spoils_on <= k.today
                     AND (l.held_until IS NULL OR l.held_until > k.now)) l"
        );
        let params = vec![
            texts(products.iter().map(|(sku, _)| sku.as_str())),
            column(products.iter().map(|(_, now)| rows::micros(*now))),
            column(products.iter().map(|(_, now)| now.date())),
        ];
        let lines = self.query(Statement::new(sql, params)).await?.iter().map(line).collect::<StoreResult<_>>()?;
        self.complete(lines).await
    }

    async fn books(&mut self, sku: &Sku) -> StoreResult<ProductBooks> {
        let named = || -> Vec<Param> { vec![Box::new(sku.as_str().to_owned())] };
        let statements = questions().into_iter().map(|sql| Statement::new(sql, named())).collect();
        let answers = self.pipeline(statements, false).await?;
        let [heads, batches, lines, parts, shipments, balances, events] = &answers[..] else {
            return Err(StoreError::Failed("as many answers as questions".into()));
        };
        let rows = [batches, lines, parts, shipments, balances, events];
        books(sku.clone(), self.now, heads.first(), rows)
    }

    async fn replace(&mut self, product: &Product) -> StoreResult<()> {
        let tables = ["products", "batches", "lines", "parts", "shipments", "balances"];
        let delete = |table| {
            let sku: Param = Box::new(product.sku().as_str().to_owned());
            Statement::new(format!("DELETE FROM {table} WHERE sku = $1"), vec![sku])
        };
        self.pipeline(tables.into_iter().map(delete).collect(), false).await?;
        let everything = ProductChanges {
            product,
            saved_version: 0,
            settings: true,
            batches: product.batches().iter().map(|batch| (Change::Insert, batch)).collect(),
            lines: product.lines().map(|line| (Change::Insert, line)).collect(),
        };
        self.save(&[everything]).await?;
        self.pipeline(Vec::new(), false).await?;
        Ok(())
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        let is_new = |change: &&ProductChanges<'_>| change.saved_version == 0;
        let (new, known): (Vec<_>, Vec<_>) = changes.iter().partition(is_new);
        let (set, known): (Vec<_>, Vec<_>) = known.into_iter().partition(|change| change.settings);
        self.write(INSERT_PRODUCTS, None, &new, all_of_products);
        self.write(UPDATE_ALL_OF_PRODUCTS, Some(set.len()), &set, all_of_products);
        self.write(UPDATE_PRODUCTS, Some(known.len()), &known, products);

        let batches = changes.iter().flat_map(|c| c.batches.iter().map(move |(kind, batch)| (*kind, c, *batch)));
        let (new, known): (Vec<_>, Vec<_>) = batches.partition(|(kind, ..)| *kind == Change::Insert);
        let (placed, known): (Vec<_>, Vec<_>) = known.into_iter().partition(|(kind, ..)| *kind == Change::Placements);
        self.write(INSERT_BATCHES, None, &new, self::batches);
        self.write(UPDATE_BATCHES, Some(known.len()), &known, self::batches);
        self.write(UPDATE_PLACEMENTS, Some(placed.len()), &placed, placements);

        let lines = changes.iter().flat_map(|c| c.lines.iter().map(|(kind, line)| (*kind, c.product, *line)));
        let (new, known): (Vec<_>, Vec<_>) = lines.partition(|(kind, ..)| *kind == Change::Insert);
        let (plain, other): (Vec<_>, Vec<_>) = new.into_iter().partition(|(_, product, line)| is_plain(product, line));
        self.write(INSERT_PLAIN_LINES, None, &plain, plain_lines);
        self.write(INSERT_LINES, None, &other, other_lines);
        self.write(UPDATE_LINES, Some(known.len()), &known, other_lines);
        self.write(DELETE_PARTS, None, &known, line_keys);
        let parts: Vec<_> = other
            .iter()
            .chain(&known)
            .filter(|(_, _, line)| rows::Units::of(line).in_parts)
            .flat_map(|(_, product, line)| line.parts.iter().map(move |part| (product.sku(), *line, part)))
            .collect();
        self.write(INSERT_PARTS, None, &parts, self::parts);
        let shipments: Vec<_> = other
            .iter()
            .chain(&known)
            .flat_map(|(_, product, line)| {
                line.shipped.iter().enumerate().map(move |(nth, some)| (product.sku(), *line, nth, some))
            })
            .collect();
        self.write(UPSERT_SHIPMENTS, None, &shipments, self::shipments);
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

    /// Fetches the units of those lines that have rows for them.
    async fn complete(&mut self, lines: Vec<(Sku, ReadLine)>) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        let (in_parts, with_shipments) = wanted_rows(&lines);
        let wanted = [(PARTS, in_parts), (SHIPMENTS, with_shipments)];
        let mut found = [Vec::new(), Vec::new()];
        for ((sql, names), found) in wanted.into_iter().zip(&mut found) {
            if let Some(names) = names {
                *found = self.query(Statement::new(sql, names.map(column).into())).await?;
            }
        }
        let [parts, shipments] = found;
        with_rows(lines, &parts, &shipments)
    }

    /// Units of lines that a query names: whether they are being picked, their priority, acceptance, order and line.
    async fn units(&mut self, named: &str, params: Vec<Param>) -> StoreResult<Vec<Units>> {
        let sql = format!(
            "SELECT {LINE}, n.accepted, n.locked FROM ({named}) n(locked, priority, accepted, order_id, line)
             CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = n.order_id AND l.sku = $1 AND l.line = n.line) l"
        );
        let rows = self.query(Statement::new(sql, params)).await?;
        let named = |row: &Row| Ok((count(get(row, LINE_COLUMNS)?)?, get(row, LINE_COLUMNS + 1)?));
        let named: Vec<(u64, bool)> = rows.iter().map(named).collect::<StoreResult<_>>()?;
        let lines = rows.iter().map(line).collect::<StoreResult<_>>()?;
        let lines = self.complete(lines).await?;
        let units = |((_, line), (accepted, locked))| Units { line, accepted, locked };
        Ok(lines.into_iter().zip(named).map(units).collect())
    }
}

/// Whether a line is as nearly all are, so that few columns say all of it.
fn is_plain(product: &Product, line: &AcceptedLine) -> bool {
    let usual = line.terms == Terms { split: line.terms.split, ..Terms::default() };
    let ended = line.dropped + line.cancelled + line.lapsed + line.shipped();
    usual
        && product.spoils_on(line).is_none()
        && ended == 0
        && line.hold.is_none()
        && line.queued == 0
        && !rows::Units::of(line).in_parts
}

fn products(changes: &[&ProductChanges<'_>]) -> Vec<Param> {
    let products = || changes.iter().map(|change| change.product);
    vec![
        texts(products().map(|product| product.sku().as_str())),
        numbers(changes.iter().map(|change| change.saved_version)),
        numbers(products().map(Product::version)),
        column(products().map(|product| rows::micros(product.changed_at()))),
        numbers(products().map(Product::backordered)),
        numbers(products().map(Product::queued)),
        column(products().map(Product::out_of_stock_raised)),
    ]
}

fn all_of_products(changes: &[&ProductChanges<'_>]) -> Vec<Param> {
    let settings = || changes.iter().map(|change| change.product.settings());
    let mut params = products(changes);
    params.extend([
        column(settings().map(|settings| settings.queue_cap.map(number))),
        column(settings().map(|settings| settings.auto_improve)),
        column(settings().map(|settings| settings.strategy.map(Strategy::name))),
        column(settings().map(|settings| i32::from(settings.min_days))),
        column(settings().map(|settings| settings.requires_expiry)),
    ]);
    params
}

type BatchChange<'a> = (Change, &'a ProductChanges<'a>, &'a Batch);

fn placements(rows: &[BatchChange<'_>]) -> Vec<Param> {
    let batches = || rows.iter().map(|(_, _, batch)| *batch);
    vec![
        texts(rows.iter().map(|(_, change, _)| change.product.sku().as_str())),
        texts(batches().map(|batch| batch.reference.as_str())),
        numbers(batches().map(|batch| batch.held)),
        numbers(batches().map(|batch| batch.allocated)),
    ]
}

fn batches(rows: &[BatchChange<'_>]) -> Vec<Param> {
    let batches = || rows.iter().map(|(_, _, batch)| *batch);
    let mut params = placements(rows);
    params.extend([
        numbers(batches().map(|batch| batch.quantity.units())),
        numbers(batches().map(|batch| batch.declared.units())),
        numbers(batches().map(|batch| batch.quarantined)),
        column(batches().map(|batch| batch.eta)),
        column(batches().map(|batch| batch.arrived.map(number))),
        column(batches().map(|batch| batch.expires_on)),
        column(batches().map(|batch| batch.expired)),
        column(batches().map(|batch| batch.cancelled)),
        numbers(batches().map(|batch| batch.revision)),
        column(batches().map(Batch::is_open)),
        numbers(rows.iter().map(|(_, change, _)| change.saved_version)),
        numbers(rows.iter().map(|(_, change, _)| change.product.version())),
    ]);
    params
}

type LineChange<'a> = (Change, &'a Product, &'a AcceptedLine);

fn line_keys(rows: &[LineChange<'_>]) -> Vec<Param> {
    vec![
        texts(rows.iter().map(|(_, product, _)| product.sku().as_str())),
        texts(rows.iter().map(|(_, _, line)| line.key.order_id.as_str())),
        texts(rows.iter().map(|(_, _, line)| line.key.line.as_str())),
    ]
}

fn batch_names(batches: &[(Sku, BatchRef)]) -> Vec<Param> {
    vec![
        texts(batches.iter().map(|(sku, _)| sku.as_str())),
        texts(batches.iter().map(|(_, reference)| reference.as_str())),
    ]
}

fn line_names(lines: &[(Sku, LineKey)]) -> Vec<Param> {
    vec![
        texts(lines.iter().map(|(sku, _)| sku.as_str())),
        texts(lines.iter().map(|(_, key)| key.order_id.as_str())),
        texts(lines.iter().map(|(_, key)| key.line.as_str())),
    ]
}

fn plain_lines(rows: &[LineChange<'_>]) -> Vec<Param> {
    let lines = || rows.iter().map(|(_, _, line)| *line);
    let units = || lines().map(rows::Units::of);
    let mut params = line_keys(rows);
    params.extend([
        numbers(lines().map(|line| line.accepted)),
        numbers(lines().map(|line| line.requested.units())),
        numbers(units().map(|units| units.placed)),
        numbers(units().map(|units| units.backordered)),
        column(units().map(|units| units.batch.map(str::to_owned))),
        column(lines().map(|line| rows::min_split(line.terms.split))),
    ]);
    params
}

fn other_lines(rows: &[LineChange<'_>]) -> Vec<Param> {
    let lines = || rows.iter().map(|(_, _, line)| *line);
    let mut params = plain_lines(rows);
    params.extend([
        numbers(lines().map(|line| line.queued)),
        column(lines().map(|line| rows::rare(line.dropped))),
        column(lines().map(|line| rows::rare(line.cancelled))),
        column(lines().map(|line| rows::rare(line.lapsed))),
        column(lines().map(|line| line.hold.map(rows::micros))),
        column(lines().map(|line| line.terms.priority)),
        column(lines().map(|line| line.terms.by)),
        column(lines().map(|line| line.terms.not_before)),
        column(lines().map(|line| rows::Units::of(line).in_parts)),
        column(lines().map(|line| rows::rare(line.shipped()))),
        column(lines().map(|line| line.terms.min_days.map(i32::from))),
        column(rows.iter().map(|(_, product, line)| product.spoils_on(line))),
    ]);
    params
}

fn parts(rows: &[(&Sku, &AcceptedLine, &Part)]) -> Vec<Param> {
    vec![
        texts(rows.iter().map(|(sku, ..)| sku.as_str())),
        texts(rows.iter().map(|(_, line, _)| line.key.order_id.as_str())),
        texts(rows.iter().map(|(_, line, _)| line.key.line.as_str())),
        column(rows.iter().map(|(_, line, _)| line.terms.priority)),
        numbers(rows.iter().map(|(.., part)| part.accepted)),
        column(rows.iter().map(|(.., part)| part.batch.as_ref().map(ToString::to_string))),
        numbers(rows.iter().map(|(.., part)| part.qty.units())),
        column(rows.iter().map(|(.., part)| part.locked)),
    ]
}

fn shipments(rows: &[(&Sku, &AcceptedLine, usize, &Shipped)]) -> Vec<Param> {
    vec![
        texts(rows.iter().map(|(sku, ..)| sku.as_str())),
        texts(rows.iter().map(|(_, line, ..)| line.key.order_id.as_str())),
        texts(rows.iter().map(|(_, line, ..)| line.key.line.as_str())),
        column(rows.iter().map(|(.., nth, _)| i32::try_from(*nth).unwrap_or(i32::MAX))),
        texts(rows.iter().map(|(.., shipped)| shipped.batch.as_str())),
        numbers(rows.iter().map(|(.., shipped)| shipped.qty)),
        numbers(rows.iter().map(|(.., shipped)| shipped.returned)),
    ]
}

const INSERT_PRODUCTS: &str = "INSERT INTO products
        (sku, version, changed_at, backordered, queued, out_of_stock_raised, queue_cap, auto_improve, strategy, min_days,
         requires_expiry)
    SELECT sku, version, changed_at, backordered, queued, raised, cap, improve, strategy, min_days, requires
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
                $8::bigint[], $9::boolean[], $10::text[], $11::integer[], $12::boolean[])
        u(sku, saved, version, changed_at, backordered, queued, raised, cap, improve, strategy, min_days, requires)";

const UPDATE_ALL_OF_PRODUCTS: &str = "UPDATE products p
    SET version = u.version, changed_at = u.changed_at, backordered = u.backordered, queued = u.queued,
        out_of_stock_raised = u.raised, queue_cap = u.cap, auto_improve = u.improve, strategy = u.strategy,
        min_days = u.min_days, requires_expiry = u.requires
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
                $8::bigint[], $9::boolean[], $10::text[], $11::integer[], $12::boolean[])
        u(sku, saved, version, changed_at, backordered, queued, raised, cap, improve, strategy, min_days, requires)
    WHERE p.sku = u.sku AND p.version = u.saved";

// What rarely changes is not named here, and in the next but one: it saves its share of a thousand products' unit of work.
const UPDATE_PRODUCTS: &str = "UPDATE products p
    SET version = u.version, changed_at = u.changed_at, backordered = u.backordered, queued = u.queued,
        out_of_stock_raised = u.raised
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[])
        u(sku, saved, version, changed_at, backordered, queued, raised)
    WHERE p.sku = u.sku AND p.version = u.saved";

const INSERT_BATCHES: &str = "INSERT INTO batches
        (sku, reference, held, allocated, quantity, declared, quarantined, eta, arrived, expires_on, expired, cancelled,
         revision, is_open, created_after, changed_by)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::date[], $9::bigint[], $10::date[], $11::boolean[], $12::boolean[], $13::bigint[],
                         $14::boolean[], $15::bigint[], $16::bigint[])";

const UPDATE_BATCHES: &str = "UPDATE batches b
    SET held = u.held, allocated = u.allocated, quantity = u.quantity, declared = u.declared,
        quarantined = u.quarantined, eta = u.eta, arrived = u.arrived, expires_on = u.expires_on, expired = u.expired,
        cancelled = u.cancelled, revision = u.revision, is_open = u.is_open, changed_by = u.version
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                $8::date[], $9::bigint[], $10::date[], $11::boolean[], $12::boolean[], $13::bigint[], $14::boolean[],
                $15::bigint[], $16::bigint[])
        u(sku, reference, held, allocated, quantity, declared, quarantined, eta, arrived, expires_on, expired, cancelled,
          revision, is_open, saved, version)
    WHERE b.sku = u.sku AND b.reference = u.reference";

const UPDATE_PLACEMENTS: &str = "UPDATE batches b SET held = u.held, allocated = u.allocated
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) u(sku, reference, held, allocated)
    WHERE b.sku = u.sku AND b.reference = u.reference";

// Most lines are plain; not naming the other columns saves a tenth of their cost.
const INSERT_PLAIN_LINES: &str = "INSERT INTO lines
        (sku, order_id, line, accepted, requested, placed, backordered, batch, min_split)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::bigint[])";

const INSERT_LINES: &str = "INSERT INTO lines
        (sku, order_id, line, accepted, requested, placed, backordered, batch, min_split, queued, dropped, cancelled,
         lapsed, held_until, priority, by_date, not_before, in_parts, shipped, min_days, spoils_on)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                         $14::bigint[], $15::integer[], $16::date[], $17::date[], $18::boolean[], $19::bigint[],
                         $20::integer[], $21::date[])";

const UPDATE_LINES: &str = "UPDATE lines l
    SET requested = u.requested, placed = u.placed, backordered = u.backordered, batch = u.batch,
        min_split = u.min_split, queued = u.queued, dropped = u.dropped, cancelled = u.cancelled, lapsed = u.lapsed,
        held_until = u.held_until, priority = u.priority, by_date = u.by_date, not_before = u.not_before,
        in_parts = u.in_parts, shipped = u.shipped, min_days = u.min_days, spoils_on = u.spoils_on
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[],
                $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::integer[],
                $16::date[], $17::date[], $18::boolean[], $19::bigint[], $20::integer[], $21::date[])
        u(sku, order_id, line, accepted, requested, placed, backordered, batch, min_split, queued, dropped, cancelled,
          lapsed, held_until, priority, by_date, not_before, in_parts, shipped, min_days, spoils_on)
    WHERE l.sku = u.sku AND l.accepted = u.accepted";

const DELETE_PARTS: &str = "DELETE FROM parts p USING unnest($1::text[], $2::text[], $3::text[]) k(sku, order_id, line)
    WHERE p.sku = k.sku AND p.order_id = k.order_id AND p.line = k.line";

const INSERT_PARTS: &str = "INSERT INTO parts (sku, order_id, line, priority, accepted, batch, qty, locked)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::bigint[],
                         $8::boolean[])";

const UPSERT_SHIPMENTS: &str = "INSERT INTO shipments (sku, order_id, line, nth, batch, qty, returned)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::bigint[], $7::bigint[])
    ON CONFLICT (sku, order_id, line, nth) DO UPDATE SET qty = EXCLUDED.qty, returned = EXCLUDED.returned";

/// Units in a batch, in the order in which they lose their place (rule 16). `$1` the SKU, `$2` the batch, `$3` the acceptance to begin
/// before, `$4` the most rows. Each kind is read by an index that has it in this order, and only so far; what comes before the usual kind has
/// lost its place already when a cut is taken up again.
const LOSERS: &str = "SELECT locked, priority, accepted, order_id, line FROM (
    (SELECT 1 AS held, false AS locked, l.priority, l.accepted, l.order_id, l.line FROM lines l
     WHERE l.sku = $1 AND l.held_until IS NOT NULL AND l.batch = $2)
    UNION ALL
    (SELECT 0, false, l.priority, l.accepted, l.order_id, l.line FROM lines l
     WHERE l.sku = $1 AND l.priority < 0 AND l.priority <> 0 AND l.held_until IS NULL AND l.batch = $2
     ORDER BY l.sku, l.priority, l.accepted DESC LIMIT $4)
    UNION ALL
    (SELECT 0, false, l.priority, l.accepted, l.order_id, l.line FROM lines l
     WHERE l.sku = $1 AND l.accepted < $3 AND l.priority = 0 AND l.held_until IS NULL AND l.batch = $2
     ORDER BY l.sku DESC, l.accepted DESC LIMIT $4)
    UNION ALL
    (SELECT 0, false, l.priority, l.accepted, l.order_id, l.line FROM lines l
     WHERE l.sku = $1 AND l.priority > 0 AND l.priority <> 0 AND l.held_until IS NULL AND l.batch = $2
     ORDER BY l.sku, l.priority, l.accepted DESC LIMIT $4)
    UNION ALL
    (SELECT (l.held_until IS NOT NULL)::int, p.locked, p.priority, p.accepted, p.order_id, p.line FROM parts p
     JOIN lines l ON l.order_id = p.order_id AND l.sku = p.sku AND l.line = p.line
     WHERE p.sku = $1 AND p.batch = $2)
    ) places ORDER BY held DESC, locked, priority, accepted DESC LIMIT $4";

const INSERT_EVENTS: &str = "INSERT INTO events (sku, sequence, body)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])";

const INSERT_REQUEST_KEYS: &str = "INSERT INTO request_keys (key, content, at)
    SELECT key, content, $3::bigint FROM unnest($1::text[], $2::bytea[]) u(key, content)";

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
