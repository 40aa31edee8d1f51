//! The write side: a transaction that owns its connection, with few round trips however much is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, PartKey, Product, Seniority, Sku};
use allocation_service_layer::ports::archive::Checkpoint;
use allocation_service_layer::ports::database::{
    Change, DueBy, HeldFor, KeyOf, NotedBalances, ProductChanges, ProductRepository, RecordedEvent, RequestKey,
    Selection, StoreError, StoreResult, Transaction, Units,
};
use allocation_service_layer::verify::ProductBooks;
use futures_util::future::{join_all, join3};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::connection::{BEGIN, BEGIN_SNAPSHOT, Connection};
use super::movements::INSERT_BALANCES;
use super::reader::{books, questions};
use super::value::Value;
use super::writes::{
    self, DELETE_HOLDERS, INSERT_EVENTS, INSERT_REQUEST_KEYS, INSERT_UNIT_OF_WORK, Param, Statement, UPSERT_HOLDERS,
    Write, batch_names, column, combined, line_names, numbers, texts,
};
use super::{
    BATCH, LINE, LINE_COLUMNS, Names, PARTS, PRODUCT, PostgresOptions, SHIPMENTS, WAITING, batch, get, line, product,
    store_error, wanted_rows, with_rows,
};
use crate::rows::{self, ReadLine, count, number};

/// Keeps locks of who has holds apart from other advisory locks. Any number nobody else uses.
const HOLDERS_LOCK: i64 = 0x0a11_4e1d;

/// A transaction that owns its connection. Dropped unfinished, the connection is closed, which rolls back.
pub struct PostgresTransaction {
    /// `None` once finished.
    client: Option<Connection>,
    options: Arc<PostgresOptions>,
    /// How it begins.
    begin: &'static str,
    begun: bool,
    /// The time, once products were loaded.
    now: Option<OffsetDateTime>,
    /// Locks that are taken before these are written.
    locks: Vec<Statement>,
    /// Writes that are sent as one statement, together with the next query or with COMMIT.
    pending: Vec<Write>,
}

impl PostgresTransaction {
    pub(super) fn new(client: Connection, options: Arc<PostgresOptions>) -> Self {
        Self::beginning(client, options, BEGIN)
    }

    /// One that changes nothing, and sees everything as of one moment.
    pub(super) fn snapshot(client: Connection, options: Arc<PostgresOptions>) -> Self {
        Self::beginning(client, options, BEGIN_SNAPSHOT)
    }

    fn beginning(client: Connection, options: Arc<PostgresOptions>, begin: &'static str) -> Self {
        Self { client: Some(client), options, begin, begun: false, now: None, locks: Vec::new(), pending: Vec::new() }
    }

    fn connection(&self) -> StoreResult<&Connection> {
        self.client.as_ref().ok_or_else(|| StoreError::Failed("the transaction has ended".into()))
    }

    /// The connection, within the transaction.
    pub(super) async fn begun(&mut self) -> StoreResult<&Connection> {
        self.pipeline(Vec::new(), false).await?;
        self.connection()
    }

    /// Sends BEGIN if that was not done yet, pending locks and writes, these statements, and COMMIT if asked to, one behind the other without
    /// waiting for answers in between. They are carried out in this order; after the first that fails, the server refuses the others and
    /// turns COMMIT into a rollback. Answers with the rows of the statements.
    pub(super) async fn pipeline(&mut self, statements: Vec<Statement>, commit: bool) -> StoreResult<Vec<Vec<Row>>> {
        let begin = !std::mem::replace(&mut self.begun, true);
        let mut sent = std::mem::take(&mut self.locks);
        let writes = std::mem::take(&mut self.pending);
        sent.extend((!writes.is_empty()).then(|| combined(writes)));
        let unasked = sent.len();
        sent.extend(statements);
        let client = self.connection()?;
        let mut ready = Vec::with_capacity(sent.len());
        for statement in &sent {
            ready.push((client.ready(&statement.sql).await?, &statement.params));
        }
        // The requests are sent in the order in which the futures are first polled, and the joins poll in order.
        let begin = async { if begin { client.begin(self.begin).await } else { Ok(()) } };
        let queries = ready.iter().map(|(statement, params)| async move {
            let params: Vec<&dyn Value> = params.iter().map(|param| &**param as &dyn Value).collect();
            client.send(statement, &params).await
        });
        let commit = async { if commit { client.script("COMMIT").await } else { Ok(()) } };
        // All answers are waited for: the first that is an error says what is wrong, those behind it that something is.
        let (opened, answers, committed) = join3(begin, join_all(queries), commit).await;
        opened.map_err(store_error)?;
        let mut rows = answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(store_error)?;
        committed.map_err(store_error)?;
        Ok(rows.split_off(unasked))
    }

    /// Carries out these statements behind all that is pending, and commits, in one round trip. Answers with their rows.
    pub(super) async fn run(mut self, statements: Vec<Statement>) -> StoreResult<Vec<Vec<Row>>> {
        let committed = self.pipeline(statements, true).await;
        // COMMIT came behind what the server said no to, and has ended the transaction: the connection is good.
        if matches!(committed, Ok(_) | Err(StoreError::Conflict(_))) {
            self.client = None;
        }
        committed
    }

    pub(super) async fn query(&mut self, statement: Statement) -> StoreResult<Vec<Row>> {
        Ok(self.pipeline(vec![statement], false).await?.pop().unwrap_or_default())
    }

    /// Carries out statements without parameters.
    pub(super) async fn script(&mut self, sql: &str) -> StoreResult<()> {
        self.begun().await?.script(sql).await.map_err(store_error)
    }

    /// The same; `false`: others have what it has to lock, for longer than `lock_timeout`, and the transaction is over.
    pub(super) async fn script_unless_locked(&mut self, sql: &str) -> StoreResult<bool> {
        match self.begun().await?.script(sql).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
            done => done.map(|()| true).map_err(store_error),
        }
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && self.begun
        {
            client.close();
        }
    }
}

impl Transaction for PostgresTransaction {
    fn now(&self) -> OffsetDateTime {
        self.now.unwrap_or(OffsetDateTime::UNIX_EPOCH)
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
        writes::write(&mut self.pending, INSERT_BALANCES, None, balances, |balances| {
            vec![
                texts(balances.iter().map(|noted| noted.sku.as_str())),
                numbers(balances.iter().map(|noted| noted.sequence)),
                texts(balances.iter().map(|noted| noted.body.as_str())),
            ]
        });
        Ok(())
    }

    async fn request_keys(&mut self, keys: &[Arc<str>]) -> StoreResult<Vec<RequestKey>> {
        let sql = "SELECT r.key, r.content, r.of_message FROM unnest($1::text[]) k(key)
                   CROSS JOIN LATERAL (SELECT * FROM request_keys r WHERE r.key = k.key OFFSET 0) r";
        let rows = self.query(Statement::new(sql, vec![texts(keys.iter().map(|key| &**key))])).await?;
        let known = |row: &Row| {
            let content = <[u8; 32]>::try_from(get::<&[u8]>(row, 1)?).map_err(rows::damaged)?;
            let of = if get(row, 2)? { KeyOf::Message } else { KeyOf::Request };
            Ok(RequestKey { key: get::<&str>(row, 0)?.into(), of, content })
        };
        rows.iter().map(known).collect()
    }

    async fn remember_keys(&mut self, keys: &[RequestKey]) -> StoreResult<()> {
        // About products that were not loaded, the server says when that is.
        let now = self.now.or_else(|| self.options.clock.as_ref().map(|clock| clock.now()));
        let params = vec![
            texts(keys.iter().map(|key| &*key.key)),
            column(keys.iter().map(|key| key.content.to_vec())),
            column(keys.iter().map(|key| key.of == KeyOf::Message)),
            Box::new(now.map(rows::micros)),
        ];
        self.pending.push(Write { sql: INSERT_REQUEST_KEYS, params, expected: None });
        Ok(())
    }

    async fn holds_of(&mut self, holders: &[Arc<str>]) -> StoreResult<Vec<(Arc<str>, u64)>> {
        let named = || texts(holders.iter().map(|holder| &**holder));
        // Who asks next sees what this transaction adds: its statement begins when it has the lock. Products are locked before, always, so that nobody waits for
        // whoever waits here.
        let lock =
            "SELECT pg_advisory_xact_lock(hashtextextended(k.holder, $2::bigint)) FROM unnest($1::text[]) k(holder)";
        let counted = "SELECT k.holder, n.count FROM unnest($1::text[]) k(holder)
                     CROSS JOIN LATERAL (SELECT count(*) FROM holders h WHERE h.holder = k.holder AND h.until > $2::bigint OFFSET 0) n";
        let now = rows::micros(self.now());
        let statements = vec![
            Statement::new(lock, vec![named(), Box::new(HOLDERS_LOCK)]),
            Statement::new(counted, vec![named(), Box::new(now)]),
        ];
        let rows = self.pipeline(statements, false).await?.pop().unwrap_or_default();
        rows.iter().map(|row| Ok((get::<&str>(row, 0)?.into(), count(get(row, 1)?)?))).collect()
    }

    async fn note_holds(&mut self, holds: &[HeldFor], ended: &[(Sku, LineKey)]) -> StoreResult<()> {
        if !holds.is_empty() {
            let params = vec![
                texts(holds.iter().map(|hold| hold.sku.as_str())),
                texts(holds.iter().map(|hold| hold.line.order_id.as_str())),
                texts(holds.iter().map(|hold| hold.line.line.as_str())),
                texts(holds.iter().map(|hold| &*hold.holder)),
                column(holds.iter().map(|hold| rows::micros(hold.until))),
                Box::new(rows::micros(self.now())),
            ];
            self.pending.push(Write { sql: UPSERT_HOLDERS, params, expected: None });
        }
        writes::write(&mut self.pending, DELETE_HOLDERS, None, ended, line_names);
        Ok(())
    }

    async fn commit(self) -> StoreResult<()> {
        if self.begun || !self.pending.is_empty() {
            self.run(Vec::new()).await?;
        }
        Ok(())
    }

    async fn end(mut self) -> StoreResult<()> {
        // Locks were written too: unlike a commit, a rollback of them does not wait for the disk.
        if self.begun
            && let Some(client) = &self.client
        {
            client.script("ROLLBACK").await.map_err(store_error)?;
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
                 LEFT JOIN LATERAL (SELECT * FROM batches b WHERE b.sku = k.sku AND b.is_open OFFSET 0) b ON true"
            ),
            vec![texts(skus.iter().copied())],
        ));
        if !wanted.lines.is_empty() {
            statements.push(Statement::new(
                format!(
                    "SELECT {LINE} FROM unnest($1::text[], $2::text[], $3::text[]) k(sku, order_id, line)
                     CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = k.order_id AND l.sku = k.sku
                                         AND l.line = k.line OFFSET 0) l"
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
                                         AND NOT b.is_open OFFSET 0) b"
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
            (Some(clock), _) => Some(rows::storable(clock.now())),
            (None, Some(row)) => Some(get(row, 0)?),
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
            products.insert(stored.sku.clone(), Product::restore(stored, self.now()));
        }
        let lines = lines.iter().flatten().map(line).collect::<StoreResult<_>>()?;
        for (sku, line) in self.complete(lines).await? {
            if let Some(product) = products.get_mut(&sku) {
                product.remember([line]);
            }
        }
        Ok(products.into_values().collect())
    }

    async fn lock(&mut self, known: &[(&Sku, u64)]) -> StoreResult<()> {
        for some in known.chunks(self.options.lock_skus.max(1)) {
            // Divides by zero, as a wrong count of written rows does, so that the server refuses the writes behind it before it has done any. A row that
            // had to be waited for is looked at again once it is locked.
            let sql = "SELECT 1 / (count(*) = cardinality($1::text[]))::int FROM (
                           SELECT FROM unnest($1::text[], $2::bigint[]) k(sku, version)
                           JOIN products p ON p.sku = k.sku AND p.version = k.version
                           ORDER BY p.sku FOR NO KEY UPDATE OF p) locked";
            let (skus, versions) = (some.iter().map(|(sku, _)| sku.as_str()), some.iter().map(|(_, version)| *version));
            self.locks.push(Statement::new(sql, vec![texts(skus), numbers(versions)]));
        }
        Ok(())
    }

    async fn batches(&mut self, named: &[(Sku, BatchRef)]) -> StoreResult<Vec<(Sku, Batch)>> {
        let sql = format!(
            "SELECT k.sku, {BATCH} FROM unnest($1::text[], $2::text[]) k(sku, reference)
             CROSS JOIN LATERAL (SELECT * FROM batches b WHERE b.sku = k.sku AND b.reference = k.reference OFFSET 0) b"
        );
        let rows = self.query(Statement::new(sql, batch_names(named))).await?;
        rows.iter().map(|row| Ok((rows::sku(get(row, 0)?)?, batch(row, 1)?))).collect()
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let sql = "SELECT l.sku, l.order_id, l.line FROM unnest($1::text[]) k(order_id)
                   CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = k.order_id OFFSET 0) l";
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

    async fn due_lines(&mut self, products: &[DueBy]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        let sql = format!(
            "SELECT {LINE} FROM unnest($1::text[], $2::bigint[], $3::date[]) k(sku, now, today)
             CROSS JOIN LATERAL (
                 SELECT * FROM lines l WHERE l.sku = k.sku AND l.held_until IS NOT NULL AND l.held_until <= k.now
                 UNION ALL
                 SELECT * FROM lines l WHERE l.sku = k.sku AND l.spoils_on IS NOT NULL AND l.spoils_on <= k.today
                     AND (l.held_until IS NULL OR l.held_until > k.now) OFFSET 0) l"
        );
        let params = vec![
            texts(products.iter().map(|due| due.sku.as_str())),
            column(products.iter().map(|due| rows::micros(due.now))),
            column(products.iter().map(|due| due.today)),
        ];
        let lines = self.query(Statement::new(sql, params)).await?.iter().map(line).collect::<StoreResult<_>>()?;
        self.complete(lines).await
    }

    async fn books(&mut self, sku: &Sku) -> StoreResult<ProductBooks> {
        let named = || -> Vec<Param> { vec![Box::new(sku.as_str().to_owned())] };
        let statements = questions().into_iter().map(|sql| Statement::new(sql, named())).collect();
        let answers = self.pipeline(statements, false).await?;
        let mut books = books(sku.clone(), self.now(), &answers)?;
        // Each statement sees what is there by then: what was archived in between is in the checkpoint.
        let archived = books.checkpoint.as_ref().map_or(0, Checkpoint::sequence);
        books.events.retain(|(sequence, _)| *sequence > archived);
        books.balances.retain(|noted| noted.sequence > archived);
        Ok(books)
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
        self.pending.extend(writes::of(changes));
        Ok(())
    }
}

impl PostgresTransaction {
    /// Fetches the units of those lines that have rows for them.
    async fn complete(&mut self, lines: Vec<(Sku, ReadLine)>) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        let (in_parts, with_shipments) = wanted_rows(&lines);
        let (has_parts, has_shipments) = (in_parts.is_some(), with_shipments.is_some());
        let wanted = [(PARTS, in_parts), (SHIPMENTS, with_shipments)];
        let statement = |(sql, names): (&'static str, Option<Names>)| {
            names.map(|names| Statement::new(sql, names.map(column).into()))
        };
        let statements: Vec<Statement> = wanted.into_iter().filter_map(statement).collect();
        if statements.is_empty() {
            return with_rows(lines, &[], &[]);
        }
        let mut answers = self.pipeline(statements, false).await?.into_iter();
        let parts = if has_parts { answers.next().unwrap_or_default() } else { Vec::new() };
        let shipments = if has_shipments { answers.next().unwrap_or_default() } else { Vec::new() };
        with_rows(lines, &parts, &shipments)
    }

    /// Units of lines that a query names: whether they are being picked, their priority, acceptance, order and line.
    async fn units(&mut self, named: &str, params: Vec<Param>) -> StoreResult<Vec<Units>> {
        let sql = format!(
            "SELECT {LINE}, n.accepted, n.locked FROM ({named}) n(locked, priority, accepted, order_id, line)
             CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = n.order_id AND l.sku = $1 AND l.line = n.line OFFSET 0) l"
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
