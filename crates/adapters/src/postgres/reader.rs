//! The read side: each call one snapshot, as far as it matters.

use std::collections::BTreeMap;

use allocation_domain::product::StoredProduct;
use allocation_domain::{
    AcceptedLine, Batch, BatchRef, LineKey, LineState, OrderId, Part, Product, Seniority, Shipped, Sku,
};
use allocation_service_layer::TimeZones;
use allocation_service_layer::ports::database::{NotedBalances, StoreError, StoreResult, Transaction};
use allocation_service_layer::ports::reader::{
    Among, Connections, Due, LineFilter, Reader, Span, StockTotals, StoredLine, Whereabouts,
};
use allocation_service_layer::verify::ProductBooks;
use async_trait::async_trait;
use futures_util::future::try_join;
use time::{Date, OffsetDateTime};
use tokio_postgres::Row;

use super::connection::Connection;
use super::value::Value;
use super::writes::Statement;
use super::{
    APPLIED, BATCH, LINE, LINE_COLUMNS, MIGRATIONS, PARTS, PRODUCT, PRODUCT_COLUMNS, PostgresDatabase,
    PostgresTransaction, SHIPMENTS, WAITING, all, applied, archive, batch, get, line, movements, product, wanted_rows,
    with_rows,
};
use crate::migrations;
use crate::rows::{self, ReadLine, count, number};

/// The time together with the products that a query finds: it comes even when nothing is due.
fn due_sql(query: &str) -> String {
    format!(
        "SELECT n.now, d.sku FROM (
             SELECT now, (extract(epoch FROM now) * 1000000)::bigint AS micros, coalesce($2, (now AT TIME ZONE 'UTC')::date) AS today
             FROM (SELECT coalesce($1, clock_timestamp()) AS now) c OFFSET 0) n
         LEFT JOIN LATERAL ({query}) d ON true ORDER BY 2"
    )
}

/// Those of these of which something is due.
fn due_among(skus: &str) -> String {
    format!(
        "SELECT k.sku FROM ({skus}) k(sku)
         WHERE EXISTS (SELECT 1 FROM lines l WHERE l.sku = k.sku AND l.held_until IS NOT NULL AND l.held_until <= n.micros)
            OR EXISTS (SELECT 1 FROM lines l WHERE l.sku = k.sku AND l.spoils_on IS NOT NULL AND l.spoils_on <= n.today)
            OR EXISTS (SELECT 1 FROM batches b WHERE b.sku = k.sku AND b.is_open AND NOT b.expired
                       AND b.expires_on IS NOT NULL AND b.expires_on < n.today)
            OR EXISTS (SELECT 1 FROM products p WHERE p.sku = k.sku AND p.levels IS NOT NULL AND p.backordered > 0
                       AND EXISTS (SELECT 1 FROM batches b WHERE b.sku = k.sku AND b.is_open AND b.eta <= n.today))"
    )
}

/// Those of all after `$3`, at most `$4`, of which something is due.
const DUE_AFTER: &str = "SELECT sku FROM (
        SELECT l.sku FROM lines l WHERE l.held_until IS NOT NULL AND l.held_until <= n.micros
        UNION SELECT l.sku FROM lines l WHERE l.spoils_on IS NOT NULL AND l.spoils_on <= n.today
        UNION SELECT b.sku FROM batches b WHERE b.expires_on IS NOT NULL AND b.expires_on < n.today AND b.is_open AND NOT b.expired
        OFFSET 0) a
    WHERE sku > $3 ORDER BY sku LIMIT $4";

/// What several statements on a connection see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// What there is when it begins.
    ByEachStatement,
    /// The same, all of them: they are within a transaction.
    AtOneMoment,
}

impl Seen {
    async fn query(self, client: &Connection, sql: &str, params: &[&dyn Value]) -> StoreResult<Vec<Row>> {
        match self {
            Self::ByEachStatement => client.query(sql, params).await,
            Self::AtOneMoment => client.query_within(sql, params).await,
        }
    }
}

impl PostgresDatabase {
    pub(super) async fn clock(&self) -> StoreResult<OffsetDateTime> {
        if let Some(clock) = &self.options.clock {
            return Ok(rows::storable(clock.now()));
        }
        let found = self.all("SELECT clock_timestamp()", &[], |row| get(row, 0)).await?;
        found.into_iter().next().ok_or_else(|| StoreError::Failed("the clock gave no time".into()))
    }

    /// The time, unless the server can tell it together with what is due: that of a test's clock, or the server's where it does not know what day that is.
    async fn now_apart(&self, time_zones: &TimeZones) -> StoreResult<Option<OffsetDateTime>> {
        let known = self.options.clock.is_some() || !time_zones.are_utc();
        if known { Ok(Some(self.clock().await?)) } else { Ok(None) }
    }

    /// What a query gives of what is due by then, or by now. It finds the instant in `n.micros` and the day in `n.today`; `params` are from `$3` on.
    async fn read_due(
        client: &Connection,
        query: &str,
        params: &[&dyn Value],
        now: Option<OffsetDateTime>,
        time_zones: &TimeZones,
    ) -> StoreResult<Due> {
        // By Universal Time the server knows it as well.
        let today = now.map(|now| time_zones.calendar(now).latest());
        let read = |row: &Row| {
            let sku = get::<Option<&str>>(row, 1)?.map(rows::sku).transpose()?;
            Ok((get::<OffsetDateTime>(row, 0)?, sku))
        };
        let by: [&dyn Value; 2] = [&now, &today];
        let found = all(client, &due_sql(query), &[&by, params].concat(), read).await?;
        let now =
            found.first().map(|(now, _)| *now).ok_or_else(|| StoreError::Failed("the clock gave no time".into()))?;
        Ok(Due { now, skus: found.into_iter().filter_map(|(_, sku)| sku).collect() })
    }

    /// Products with their open batches: rows of one product come one behind the other.
    async fn read_products(&self, sql: &str, params: &[&dyn Value]) -> StoreResult<Vec<Product>> {
        let now = self.options.clock.as_ref().map(|clock| rows::storable(clock.now()));
        let client = self.client().await?;
        let rows = client.query(sql, params).await?;
        rows.chunk_by(|a, b| a.get::<_, &str>(0) == b.get::<_, &str>(0))
            .map(|of_one| {
                let head = &of_one[0];
                let mut stored = product(head)?;
                for row in of_one {
                    if get::<Option<&str>>(row, PRODUCT_COLUMNS + 1)?.is_some() {
                        stored.batches.push(batch(row, PRODUCT_COLUMNS + 1)?);
                    }
                }
                let now = now.map_or_else(|| get(head, PRODUCT_COLUMNS), Ok)?;
                Ok(Product::restore(stored, now))
            })
            .collect()
    }

    /// Lines, with their units and what is said of their batches, and what else `also` finds in each row.
    async fn read_lines<T>(
        &self,
        sql: &str,
        params: &[&dyn Value],
        also: impl Fn(&Row) -> StoreResult<T>,
    ) -> StoreResult<Vec<(StoredLine, T)>> {
        let client = self.client().await?;
        match Self::read_lines_with(&client, sql, params, &also, Seen::ByEachStatement).await? {
            Some(lines) => Ok(lines),
            None => self.read_lines_at_once(client, sql, params, also).await,
        }
    }

    /// The same in a transaction that sees one moment.
    async fn read_lines_at_once<T>(
        &self,
        client: Connection,
        sql: &str,
        params: &[&dyn Value],
        also: impl Fn(&Row) -> StoreResult<T>,
    ) -> StoreResult<Vec<(StoredLine, T)>> {
        let mut tx = PostgresTransaction::snapshot(client, self.options.clone());
        let lines = Self::read_lines_with(tx.begun().await?, sql, params, also, Seen::AtOneMoment).await?;
        tx.end().await?;
        Ok(lines.unwrap_or_default())
    }

    /// The same with this connection; `None`: some have rows of their own elsewhere, of which another statement would see another moment. Few have,
    /// and for the others it saves the round trips of a transaction.
    async fn read_lines_with<T>(
        client: &Connection,
        sql: &str,
        params: &[&dyn Value],
        also: impl Fn(&Row) -> StoreResult<T>,
        seen: Seen,
    ) -> StoreResult<Option<Vec<(StoredLine, T)>>> {
        let rows = seen.query(client, sql, params).await?;
        let lines: Vec<(Sku, ReadLine)> = rows.iter().map(line).collect::<StoreResult<_>>()?;
        let (in_parts, with_shipments) = wanted_rows(&lines);
        if seen == Seen::ByEachStatement && (in_parts.is_some() || with_shipments.is_some()) {
            return Ok(None);
        }
        let wanted = [(PARTS, in_parts), (SHIPMENTS, with_shipments)];
        let mut found = [Vec::new(), Vec::new()];
        for ((sql, names), found) in wanted.into_iter().zip(&mut found) {
            if let Some([skus, orders, names]) = names {
                *found = seen.query(client, sql, &[&skus, &orders, &names]).await?;
            }
        }
        let [parts, shipments] = found;
        // A line without parts has its batch, and so what is said of it, in its row.
        let has_parts: Vec<bool> = lines.iter().map(|(_, read)| read.in_parts).collect();
        let lines = with_rows(lines, &parts, &shipments)?;
        let several = lines.iter().zip(has_parts).filter_map(|(line, has_parts)| has_parts.then_some(line));
        let named = Self::batches_of(client, several, seen).await?;
        let lines = lines
            .into_iter()
            .zip(&rows)
            .map(|((sku, line), row)| {
                let of_row: Option<&str> = get(row, LINE_COLUMNS + 1)?;
                let mut batches = Vec::with_capacity(1);
                for (reference, _) in line.placements() {
                    let key = (sku.clone(), reference.clone());
                    match (named.get(&key).cloned(), of_row) {
                        (Some(batch), _) => batches.push(batch),
                        (None, Some(location)) => batches.push(Whereabouts {
                            reference: reference.clone(),
                            eta: get::<Option<Date>>(row, LINE_COLUMNS)?,
                            location: rows::location(location)?,
                        }),
                        (None, None) => {}
                    }
                }
                Ok((StoredLine { sku, line, batches }, also(row)?))
            })
            .collect::<StoreResult<_>>()?;
        Ok(Some(lines))
    }

    /// What is said of the batches of these lines.
    async fn batches_of<'a>(
        client: &Connection,
        lines: impl Iterator<Item = &'a (Sku, AcceptedLine)>,
        seen: Seen,
    ) -> StoreResult<BTreeMap<(Sku, BatchRef), Whereabouts>> {
        let (skus, references): (Vec<String>, Vec<String>) = lines
            .flat_map(|(sku, line)| line.placements().map(move |(batch, _)| (sku.to_string(), batch.to_string())))
            .unzip();
        if skus.is_empty() {
            return Ok(BTreeMap::new());
        }
        let sql = "SELECT b.sku, b.reference, b.eta, b.location FROM unnest($1::text[], $2::text[]) k(sku, reference)
                   CROSS JOIN LATERAL (SELECT * FROM batches b WHERE b.sku = k.sku AND b.reference = k.reference OFFSET 0) b";
        let rows = seen.query(client, sql, &[&skus, &references]).await?;
        let batch = |row: &Row| {
            let (sku, reference) = (rows::sku(get(row, 0)?)?, rows::reference(get(row, 1)?)?);
            let (eta, location) = (get(row, 2)?, rows::location(get(row, 3)?)?);
            Ok(((sku, reference.clone()), Whereabouts { reference, eta, location }))
        };
        rows.iter().map(batch).collect()
    }
}

const WITH_BATCH: &str =
    "b.eta, b.location FROM lines l LEFT JOIN batches b ON b.sku = l.sku AND b.reference = l.batch";

/// What a line's state is, as the columns tell it; in step with `AcceptedLine::state`.
fn state(state: Option<LineState>) -> &'static str {
    match state {
        None => "TRUE",
        Some(LineState::Held) => "l.held_until IS NOT NULL",
        Some(LineState::Backordered) => "l.backordered > 0",
        Some(LineState::Allocated) => "l.placed > 0 AND l.held_until IS NULL AND l.backordered = 0",
        Some(LineState::Shipped) => "l.placed = 0 AND l.backordered = 0 AND l.shipped > 0",
        Some(LineState::Lapsed) => "l.placed = 0 AND l.backordered = 0 AND l.shipped IS NULL AND l.lapsed > 0",
        Some(LineState::Cancelled) => "l.placed = 0 AND l.backordered = 0 AND l.shipped IS NULL AND l.lapsed IS NULL",
    }
}

/// Questions for all that is stored of one product: its head, batches, lines, parts, shipments, noted balances, events, and then its checkpoint: events
/// may be archived in between, and are known twice rather than not at all.
pub(super) fn questions() -> [String; 8] {
    [
        format!("SELECT {PRODUCT} FROM products p WHERE p.sku = $1"),
        format!("SELECT b.created_after, b.changed_by, {BATCH} FROM batches b WHERE b.sku = $1"),
        format!("SELECT {LINE} FROM lines l WHERE l.sku = $1"),
        "SELECT p.order_id, p.line, p.accepted, p.batch, p.qty, p.locked FROM parts p WHERE p.sku = $1
         ORDER BY p.order_id, p.line, p.accepted, p.batch NULLS LAST, p.locked"
            .to_owned(),
        "SELECT s.order_id, s.line, s.batch, s.qty, s.returned FROM shipments s WHERE s.sku = $1
         ORDER BY s.order_id, s.line, s.nth"
            .to_owned(),
        "SELECT sequence, body FROM balances WHERE sku = $1 ORDER BY sequence".to_owned(),
        "SELECT sequence, body FROM events WHERE sku = $1 ORDER BY sequence".to_owned(),
        archive::WHOLE.to_owned(),
    ]
}

/// Puts the answers to [`questions`] together.
pub(super) fn books(sku: Sku, now: OffsetDateTime, answers: &[Vec<Row>]) -> StoreResult<ProductBooks> {
    let [heads, batches, lines, parts, shipments, balances, events, checkpoint] = answers else {
        return Err(StoreError::Failed("as many answers as questions".into()));
    };
    let spans: Vec<Span> = batches.iter().map(|row| movements::span_at(row, 0)).collect::<StoreResult<_>>()?;
    let batches: Vec<Batch> = batches.iter().map(|row| batch(row, 2)).collect::<StoreResult<_>>()?;
    let spans = batches.iter().map(|batch| batch.reference.clone()).zip(spans).collect();
    let product = heads.first().map(|row| Ok(Product::restore(StoredProduct { batches, ..product(row)? }, now)));
    let mut of_line: BTreeMap<LineKey, Vec<Part>> = BTreeMap::new();
    for row in parts {
        let key = rows::line_key(get(row, 0)?, get(row, 1)?)?;
        of_line.entry(key).or_default().push(rows::part(get(row, 2)?, get(row, 3)?, get(row, 4)?, get(row, 5)?)?);
    }
    let mut left: BTreeMap<LineKey, Vec<Shipped>> = BTreeMap::new();
    for row in shipments {
        let key = rows::line_key(get(row, 0)?, get(row, 1)?)?;
        left.entry(key).or_default().push(rows::shipped(get(row, 2)?, get(row, 3)?, get(row, 4)?)?);
    }
    let lines = lines
        .iter()
        .map(|row| {
            let (_, ReadLine { line: mut read, .. }) = line(row)?;
            read.parts.extend(of_line.remove(&read.key).unwrap_or_default());
            read.shipped = left.remove(&read.key).unwrap_or_default();
            Ok(read)
        })
        .collect::<StoreResult<_>>()?;
    let (checkpoint, orphaned) = archive::whole(checkpoint, &sku)?;
    let mut faults: Vec<String> = of_line
        .keys()
        .chain(left.keys())
        .map(|key| format!("order {} has parts or shipments but no line", key.order_id))
        .collect();
    if orphaned {
        faults.push("has batches or lines of a checkpoint that is not there".to_owned());
    }
    Ok(ProductBooks {
        product: product.transpose()?,
        lines,
        spans,
        checkpoint,
        balances: balances.iter().map(|row| movements::balances(row, &sku)).collect::<StoreResult<_>>()?,
        sku,
        events: events
            .iter()
            .map(|row| Ok((count(get(row, 0)?)?, get::<String>(row, 1)?)))
            .collect::<StoreResult<_>>()?,
        faults,
        now,
    })
}

#[async_trait]
impl Reader for PostgresDatabase {
    async fn products_named(&self, skus: &[Sku]) -> StoreResult<Vec<Product>> {
        let sql = format!(
            "SELECT {PRODUCT}, clock_timestamp(), {BATCH} FROM unnest($1::text[]) k(sku)
             CROSS JOIN LATERAL (SELECT * FROM products p WHERE p.sku = k.sku OFFSET 0) p
             LEFT JOIN LATERAL (SELECT * FROM batches b WHERE b.sku = p.sku AND b.is_open OFFSET 0) b ON true ORDER BY p.sku"
        );
        let skus: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        self.read_products(&sql, &[&skus]).await
    }

    async fn products(&self, after: Option<&Sku>, waiting: bool, limit: usize) -> StoreResult<Vec<Product>> {
        let waiting = if waiting { "AND backordered > 0" } else { "" };
        let sql = format!(
            "SELECT {PRODUCT}, clock_timestamp(), {BATCH}
             FROM (SELECT * FROM products WHERE sku > $1 {waiting} ORDER BY sku LIMIT $2) p
             LEFT JOIN batches b ON b.sku = p.sku AND b.is_open ORDER BY p.sku"
        );
        let after = after.map_or("", Sku::as_str);
        self.read_products(&sql, &[&after, &number(limit as u64)]).await
    }

    async fn product_lines(
        &self,
        sku: &Sku,
        filter: &LineFilter,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<StoredLine>> {
        let state = state(filter.state);
        let sql = format!(
            "SELECT {LINE}, {WITH_BATCH}
             WHERE l.sku = $1 AND {state}
               AND ($2::text IS NULL OR l.batch = $2 OR l.in_parts AND EXISTS
                    (SELECT 1 FROM parts p WHERE p.sku = $1 AND p.order_id = l.order_id AND p.line = l.line AND p.batch = $2))
               AND ($6::text IS NULL OR l.batch = $6 OR l.in_parts AND EXISTS
                    (SELECT 1 FROM parts p WHERE p.sku = $1 AND p.order_id = l.order_id AND p.line = l.line AND p.batch = $6)
                    OR l.shipped > 0 AND EXISTS
                    (SELECT 1 FROM shipments s WHERE s.sku = $1 AND s.order_id = l.order_id AND s.line = l.line AND s.batch = $6))
               AND ($3::text IS NULL
                    OR l.accepted < (SELECT accepted FROM lines WHERE order_id = $3 AND sku = $1 AND line = $4))
             ORDER BY l.sku DESC, l.accepted DESC LIMIT $5"
        );
        let (batch, units_of) = (filter.batch.as_ref(), filter.units_of.as_ref());
        let (batch, units_of) = (batch.map(BatchRef::as_str), units_of.map(BatchRef::as_str));
        let (order_id, line) = (after.map(|key| key.order_id.as_str()), after.map(|key| key.line.as_str()));
        let limit = number(limit as u64);
        let params: &[&dyn Value] = &[&sku.as_str(), &batch, &order_id, &line, &limit, &units_of];
        let lines = self.read_lines(&sql, params, |_| Ok(())).await?;
        Ok(lines.into_iter().map(|(line, ())| line).collect())
    }

    async fn queue(&self, sku: &Sku, after: Option<Seniority>, limit: usize) -> StoreResult<Vec<(StoredLine, u64)>> {
        let (priority, accepted) = rows::begin_after(after);
        let sql = format!(
            "SELECT {LINE}, b.eta, b.location, n.accepted FROM ({WAITING}) n(locked, priority, accepted, order_id, line)
             CROSS JOIN LATERAL (SELECT * FROM lines l WHERE l.order_id = n.order_id AND l.sku = $1 AND l.line = n.line OFFSET 0) l
             LEFT JOIN batches b ON b.sku = l.sku AND b.reference = l.batch
             ORDER BY n.priority DESC, n.accepted"
        );
        let params: &[&dyn Value] = &[&sku.as_str(), &priority, &accepted, &number(limit as u64), &i64::MAX];
        self.read_lines(&sql, params, |row| count(get(row, LINE_COLUMNS + 2)?)).await
    }

    async fn order(&self, order_id: &OrderId, time_zones: &TimeZones) -> StoreResult<(Vec<StoredLine>, Due)> {
        let sql = format!("SELECT {LINE}, {WITH_BATCH} WHERE l.order_id = $1 ORDER BY l.sku, l.line");
        let due = due_among("SELECT DISTINCT l.sku FROM lines l WHERE l.order_id = $3");
        let (now, client) = (self.now_apart(time_zones).await?, self.client().await?);
        // On one connection, one behind the other: saves a round trip. What has been prepared is sent at once, so this goes first.
        client.ready(&due_sql(&due)).await?;
        let order: &[&dyn Value] = &[&order_id.as_str()];
        let due = Self::read_due(&client, &due, order, now, time_zones);
        let plain = |_: &Row| Ok(());
        let lines = Self::read_lines_with(&client, &sql, order, plain, Seen::ByEachStatement);
        let (due, lines) = try_join(due, lines).await?;
        let lines = match lines {
            Some(lines) => lines,
            None => self.read_lines_at_once(client, &sql, order, plain).await?,
        };
        Ok((lines.into_iter().map(|(line, ())| line).collect(), due))
    }

    async fn due(&self, among: Among<'_>, time_zones: &TimeZones) -> StoreResult<Due> {
        let (now, client) = (self.now_apart(time_zones).await?, self.client().await?);
        match among {
            Among::These(skus) => {
                let skus: Vec<&str> = skus.iter().map(Sku::as_str).collect();
                Self::read_due(&client, &due_among("SELECT unnest($3::text[])"), &[&skus], now, time_zones).await
            }
            Among::After(after, limit) => {
                let (after, limit) = (after.map_or("", Sku::as_str), number(limit as u64));
                Self::read_due(&client, DUE_AFTER, &[&after, &limit], now, time_zones).await
            }
        }
    }

    async fn span(&self, sku: &Sku, batch: Option<&BatchRef>) -> StoreResult<Option<Span>> {
        self.find_span(sku, batch).await
    }

    async fn noted_balances(&self, sku: &Sku, sequence: u64) -> StoreResult<Option<NotedBalances>> {
        self.find_balances(sku, sequence).await
    }

    async fn events_of(&self, sku: &Sku, batch: Option<&BatchRef>, after: u64, until: u64) -> StoreResult<Vec<String>> {
        self.find_events(sku, batch, after, until).await
    }

    async fn archived(&self, sku: &Sku) -> StoreResult<Option<NotedBalances>> {
        self.find_archived(sku).await
    }

    async fn skus_of(&self, reference: &BatchRef) -> StoreResult<Vec<Sku>> {
        let sql = "SELECT sku FROM batches WHERE reference = $1 ORDER BY sku";
        self.all(sql, &[&reference.as_str()], |row| rows::sku(get(row, 0)?)).await
    }

    async fn totals(&self) -> StoreResult<StockTotals> {
        let sql = "SELECT b.*, (SELECT coalesce(sum(backordered), 0)::bigint FROM products WHERE backordered > 0)
                   FROM (SELECT coalesce(sum(quantity), 0)::bigint, coalesce(sum(quarantined), 0)::bigint,
                                coalesce(sum(held), 0)::bigint, coalesce(sum(allocated), 0)::bigint,
                                count(*) FILTER (WHERE held + allocated + quarantined > quantity)
                         FROM batches WHERE is_open) b";
        let totals = self.all(sql, &[], |row| {
            let number = |column| count(get(row, column)?);
            Ok(StockTotals {
                stock: number(0)?,
                quarantined: number(1)?,
                held: number(2)?,
                allocated: number(3)?,
                overpromised_batches: number(4)?,
                backordered: number(5)?,
            })
        });
        Ok(totals.await?.pop().unwrap_or_default())
    }

    fn connections(&self) -> Connections {
        let status = self.pool.status();
        Connections { used: status.size.saturating_sub(status.available), wanted: status.waiting }
    }

    async fn ready(&self) -> StoreResult<()> {
        let client = self.client().await?;
        let rows = client.query(APPLIED, &[]).await.map_err(|error| match error {
            StoreError::Failed(_) => StoreError::Failed("migrations are not applied".into()),
            other => other,
        })?;
        migrations::missing(migrations::pending(MIGRATIONS, &applied(&rows)?)?)
    }

    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()> {
        let now = self.clock().await?;
        let mut tx = PostgresTransaction::snapshot(self.client().await?, self.options.clone());
        // Products of which any row is left, one by one: their events are many, and of one product only are in memory.
        let names = "SELECT sku FROM products UNION SELECT sku FROM batches UNION SELECT DISTINCT sku FROM lines
                     UNION SELECT sku FROM parts UNION SELECT sku FROM shipments UNION SELECT DISTINCT sku FROM balances
                     UNION SELECT DISTINCT sku FROM events UNION SELECT sku FROM checkpoints ORDER BY 1";
        for name in tx.query(Statement::new(names, Vec::new())).await? {
            let name: &str = get(&name, 0)?;
            let question = |sql| Statement::new(sql, vec![Box::new(name.to_owned())]);
            let answers = tx.pipeline(questions().into_iter().map(question).collect(), false).await?;
            visit(books(rows::sku(name)?, now, &answers)?);
        }
        tx.end().await
    }
}
