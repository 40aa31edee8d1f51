//! PostgreSQL: the store that any number of equal copies share.

mod address;
mod api_keys;
mod archive;
mod connection;
mod dead_letters;
mod event_log;
mod movements;
mod reader;
mod transaction;
mod value;
mod webhooks;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use allocation_domain::product::StoredProduct;
use allocation_domain::{AcceptedLine, Batch, Sku};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{Database, StoreError, StoreResult, Transaction};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use time::Date;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::migrations::{self, Applied, Migration};
use crate::rows::{self, BatchRow, LineRow, ProductRow, ReadLine};
use crate::tls::Trust;
use address::Connector;
use connection::Connection;
pub use connection::Statements;
pub use transaction::PostgresTransaction;
use value::Value;
use writes::{Param, Statement};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "initial",
        sql: include_str!("../../migrations/postgres/0001_initial.sql"),
        serves: 1,
    },
    Migration { version: 2, name: "plans", sql: include_str!("../../migrations/postgres/0002_plans.sql"), serves: 1 },
];

/// The lock that a migration holds, so that several copies may start at once. Any number nobody else uses.
const MIGRATION_LOCK: i64 = 0x0a11_0ca7;

/// For so long a migration waits for whoever uses a table: those who come after it wait for it meanwhile.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '100ms'";

/// How long it lets them pass before it tries again.
const PASSING: Duration = Duration::from_millis(500);

/// What became of the next migration.
enum Next {
    None,
    Applied(&'static Migration),
    /// Others have a table that it needs.
    Locked(&'static Migration),
}

/// How a database is used.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The most connections.
    pub connections: usize,
    /// How many SKUs one locking statement may name.
    pub lock_skus: usize,
    /// How statements are sent.
    pub statements: Statements,
    /// How long to wait for a connection.
    pub patience: Duration,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// What tells the time; none: the database itself, which all copies share.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 16,
            lock_skus: 1_000,
            statements: Statements::default(),
            patience: Duration::from_secs(5),
            trust: Trust::default(),
            clock: None,
        }
    }
}

/// A database on a server.
#[derive(Clone)]
pub struct PostgresDatabase {
    pool: Pool,
    options: Arc<PostgresOptions>,
}

impl PostgresDatabase {
    /// A pool of connections to this URL. Connects to nothing yet. With `sslmode=require` TLS is spoken; with `prefer`, which holds when nothing is said, if the server
    /// offers it. Its certificate is checked in both. Of several hosts the one that may be written to is used, unless the URL says `target_session_attrs`.
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn new(url: &str, options: PostgresOptions) -> StoreResult<Self> {
        let config = address::read(url, options.patience)?;
        let manager = {
            let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            Manager::from_connect(config, Connector { tls: options.trust.postgres() }, recycling)
        };
        let mut pool = Pool::builder(manager).max_size(options.connections);
        if options.statements == Statements::Prepared {
            pool = pool.post_create(Hook::async_fn(|client, _| {
                Box::pin(async move { client.batch_execute(&connection::session()).await.map_err(HookError::Backend) })
            }));
        }
        let pool = pool
            .wait_timeout(Some(options.patience))
            .create_timeout(Some(options.patience))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self { pool, options: Arc::new(options) })
    }

    /// Brings the schema up to date. Safe when several copies do it at once: they wait for each other. Safe beside copies at work: it takes the locks it
    /// needs at once, or tries again later.
    pub async fn migrate(&self) -> StoreResult<()> {
        loop {
            match self.apply_next().await? {
                Next::None => return Ok(()),
                Next::Applied(Migration { version, name, .. }) => tracing::info!(version, name, "applied migration"),
                Next::Locked(Migration { version, name, .. }) => {
                    tracing::warn!(version, name, "a migration lets others pass, and tries again");
                    tokio::time::sleep(PASSING).await;
                }
            }
        }
    }

    /// Applies the next migration, if there is one: each in a transaction of its own, so that none holds locks for another.
    async fn apply_next(&self) -> StoreResult<Next> {
        let mut tx = self.begin().await?;
        let lock = Statement::new("SELECT pg_advisory_xact_lock($1)", vec![Box::new(MIGRATION_LOCK)]);
        tx.query(lock).await?;
        tx.script(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version bigint PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, serves bigint NOT NULL)",
        )
        .await?;
        let rows = tx.query(Statement::new(APPLIED, Vec::new())).await?;
        let Some(next) = migrations::pending(MIGRATIONS, &applied(&rows)?)?.first() else {
            tx.commit().await?;
            return Ok(Next::None);
        };
        tx.script(LOCK_TIMEOUT).await?;
        if !tx.script_unless_locked(next.sql).await? {
            return Ok(Next::Locked(next));
        }
        let insert = "INSERT INTO schema_migrations (version, name, checksum, serves) VALUES ($1, $2, $3, $4)";
        let row: Vec<Param> =
            vec![Box::new(next.version), Box::new(next.name), Box::new(next.checksum()), Box::new(next.serves)];
        tx.query(Statement::new(insert, row)).await?;
        tx.commit().await?;
        Ok(Next::Applied(next))
    }

    async fn client(&self) -> StoreResult<Connection> {
        Ok(Connection::new(self.pool.get().await.map_err(pool_error)?, self.options.statements))
    }

    /// Runs one query and makes something of each row.
    async fn all<T>(
        &self,
        sql: &str,
        params: &[&dyn Value],
        make: impl Fn(&Row) -> StoreResult<T>,
    ) -> StoreResult<Vec<T>> {
        all(&self.client().await?, sql, params, make).await
    }
}

/// The same on a connection that is at hand.
async fn all<T>(
    client: &Connection,
    sql: &str,
    params: &[&dyn Value],
    make: impl Fn(&Row) -> StoreResult<T>,
) -> StoreResult<Vec<T>> {
    client.query(sql, params).await?.iter().map(make).collect()
}

impl Database for PostgresDatabase {
    type Tx = PostgresTransaction;

    async fn begin(&self) -> StoreResult<PostgresTransaction> {
        Ok(PostgresTransaction::new(self.client().await?, self.options.clone()))
    }
}

const APPLIED: &str = "SELECT version, checksum, serves FROM schema_migrations ORDER BY version";

fn applied(rows: &[Row]) -> StoreResult<Vec<Applied>> {
    rows.iter().map(|row| Ok(Applied { version: get(row, 0)?, checksum: get(row, 1)?, serves: get(row, 2)? })).collect()
}

/// The error with its causes: the library's own text leaves out what the server said.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
fn store_error(error: tokio_postgres::Error) -> StoreError {
    let text = describe(&error);
    let Some(state) = error.code() else {
        // No SQLSTATE: the connection broke, or the answer was not what the types say.
        let cause = std::error::Error::source(&error);
        return if error.is_closed() || cause.is_some_and(<dyn std::error::Error>::is::<std::io::Error>) {
            StoreError::Unavailable(text)
        } else {
            StoreError::Failed(text)
        };
    };
    let conflicts = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::UNIQUE_VIOLATION,
        // How an update says that it did not find all its rows; see `writes.rs`.
        SqlState::DIVISION_BY_ZERO,
    ];
    if conflicts.contains(state) {
        StoreError::Conflict(text)
    } else if matches!(&state.code()[..2], "08" | "53" | "57" | "58") || state == &SqlState::READ_ONLY_SQL_TRANSACTION {
        // Connection, resources, operator intervention, system; or a primary that has become a standby.
        StoreError::Unavailable(text)
    } else {
        StoreError::Failed(text)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
fn pool_error(error: PoolError) -> StoreError {
    let mut why = describe(&error);
    if why.contains("UnknownIssuer") {
        why.push_str(" (its authority can be named in TLS_CA_FILE; sslmode=disable speaks without TLS)");
    }
    StoreError::Unavailable(why)
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, column: usize) -> StoreResult<T> {
    row.try_get(column).map_err(store_error)
}

/// The columns that [`product`] reads.
const PRODUCT: &str =
    "p.sku, p.version, p.changed_at, p.backordered, p.queued, p.out_of_stock_raised, p.queue_cap, p.auto_improve,
    p.strategy, p.min_days, p.requires_expiry, p.overdue_days, p.levels, p.low";
/// How many they are.
const PRODUCT_COLUMNS: usize = 14;

/// Reads a product from the first columns, without its batches.
fn product(row: &Row) -> StoreResult<StoredProduct> {
    ProductRow {
        sku: get(row, 0)?,
        version: get(row, 1)?,
        changed_at: get(row, 2)?,
        backordered: get(row, 3)?,
        queued: get(row, 4)?,
        out_of_stock_raised: get(row, 5)?,
        queue_cap: get(row, 6)?,
        auto_improve: get(row, 7)?,
        strategy: get(row, 8)?,
        min_days: get(row, 9)?,
        requires_expiry: get(row, 10)?,
        overdue_days: get(row, 11)?,
        levels: get(row, 12)?,
        low: get(row, 13)?,
    }
    .stored()
}

/// The columns that [`batch`] reads.
const BATCH: &str = "b.reference, b.quantity, b.declared, b.quarantined, b.held, b.allocated, b.eta, b.arrived,
    b.expires_on, b.expired, b.cancelled, b.revision, b.location";

/// Reads a batch from the columns that start at `first`.
fn batch(row: &Row, first: usize) -> StoreResult<Batch> {
    BatchRow {
        reference: get(row, first)?,
        quantity: get(row, first + 1)?,
        declared: get(row, first + 2)?,
        quarantined: get(row, first + 3)?,
        held: get(row, first + 4)?,
        allocated: get(row, first + 5)?,
        eta: get::<Option<Date>>(row, first + 6)?,
        arrived: get(row, first + 7)?,
        expires_on: get(row, first + 8)?,
        expired: get(row, first + 9)?,
        cancelled: get(row, first + 10)?,
        revision: get(row, first + 11)?,
        location: get(row, first + 12)?,
    }
    .batch()
}

/// The columns that [`line`] reads.
const LINE: &str = "l.order_id, l.line, l.accepted, l.requested, l.placed, l.backordered, l.queued, l.batch, l.dropped,
    l.cancelled, l.lapsed, l.held_until, l.priority, l.by_date, l.not_before, l.min_split, l.in_parts, l.sku,
    l.shipped, l.min_days, l.over_locations, l.locations";
/// How many they are.
const LINE_COLUMNS: usize = 22;

/// Reads a line, and its SKU, from the first columns.
fn line(row: &Row) -> StoreResult<(Sku, ReadLine)> {
    let line = LineRow {
        order_id: get(row, 0)?,
        line: get(row, 1)?,
        accepted: get(row, 2)?,
        requested: get(row, 3)?,
        placed: get(row, 4)?,
        backordered: get(row, 5)?,
        queued: get(row, 6)?,
        batch: get(row, 7)?,
        dropped: get(row, 8)?,
        cancelled: get(row, 9)?,
        lapsed: get(row, 10)?,
        held_until: get(row, 11)?,
        priority: get(row, 12)?,
        by: get(row, 13)?,
        not_before: get(row, 14)?,
        min_split: get(row, 15)?,
        in_parts: get(row, 16)?,
        shipped: get(row, 18)?,
        min_days: get(row, 19)?,
        over_locations: get(row, 20)?,
        locations: get(row, 21)?,
    };
    Ok((rows::sku(get(row, 17)?)?, line.line()?))
}

/// The parts of lines that have rows for them; of the lines named by three arrays.
const PARTS: &str = "SELECT k.at, p.accepted, p.batch, p.qty, p.locked
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY k(sku, order_id, line, at)
    CROSS JOIN LATERAL (SELECT * FROM parts p WHERE p.sku = k.sku AND p.order_id = k.order_id AND p.line = k.line OFFSET 0) p
    ORDER BY k.at, p.accepted, p.batch NULLS LAST, p.locked";

/// The same of units that have left.
const SHIPMENTS: &str = "SELECT k.at, s.batch, s.qty, s.returned
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY k(sku, order_id, line, at)
    CROSS JOIN LATERAL (SELECT * FROM shipments s WHERE s.sku = k.sku AND s.order_id = k.order_id AND s.line = k.line OFFSET 0) s
    ORDER BY k.at, s.nth";

/// The names of lines, as [`PARTS`] and [`SHIPMENTS`] take them.
type Names = [Vec<String>; 3];

/// Of which lines units are in rows of their own, and which have shipments; none when no line is so.
fn wanted_rows(lines: &[(Sku, ReadLine)]) -> (Option<Names>, Option<Names>) {
    let named = |wanted: fn(&ReadLine) -> bool| {
        let wanted = || lines.iter().filter(|(_, read)| wanted(read));
        wanted().next()?;
        Some([
            wanted().map(|(sku, _)| sku.to_string()).collect(),
            wanted().map(|(_, read)| read.line.key.order_id.to_string()).collect(),
            wanted().map(|(_, read)| read.line.key.line.to_string()).collect(),
        ])
    };
    (named(|read| read.in_parts), named(|read| read.has_shipped))
}

/// Puts the rows that [`PARTS`] and [`SHIPMENTS`] gave into the lines they are of.
fn with_rows(lines: Vec<(Sku, ReadLine)>, parts: &[Row], shipments: &[Row]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
    let (mut parts, mut shipments) = (parts.iter().peekable(), shipments.iter().peekable());
    let (mut with_parts, mut with_shipments) = (0, 0);
    let is_of = |row: &Row, nth: i64| row.try_get::<_, i64>(0).is_ok_and(|of| of == nth);
    lines
        .into_iter()
        .map(|(sku, ReadLine { mut line, in_parts, has_shipped })| {
            if in_parts {
                with_parts += 1;
                while let Some(row) = parts.next_if(|row| is_of(row, with_parts)) {
                    line.parts.push(rows::part(get(row, 1)?, get(row, 2)?, get(row, 3)?, get(row, 4)?)?);
                }
            }
            if has_shipped {
                with_shipments += 1;
                while let Some(row) = shipments.next_if(|row| is_of(row, with_shipments)) {
                    line.shipped.push(rows::shipped(get(row, 1)?, get(row, 2)?, get(row, 3)?)?);
                }
            }
            Ok((sku, line))
        })
        .collect()
}

/// Units that wait, by seniority: a row for each, with what [`PostgresTransaction::units`] reads. `$1` the SKU, `$2` and `$3` the seniority to begin
/// after, `$4` the most rows, `$5` what one batch has free at most.
const WAITING: &str = "
    (SELECT false AS locked, l.priority, l.accepted, l.order_id, l.line FROM lines l
     WHERE l.sku = $1 AND l.backordered > 0 AND NOT l.in_parts AND l.priority <= $2
       AND (l.priority < $2 OR l.accepted > $3)
       AND CASE WHEN l.min_split = 0 THEN l.backordered ELSE least(coalesce(l.min_split, 1), l.backordered) END <= $5
     ORDER BY l.sku, l.priority DESC, l.accepted LIMIT $4)
    UNION ALL
    (SELECT false, p.priority, p.accepted, p.order_id, p.line FROM parts p
     JOIN lines l ON l.order_id = p.order_id AND l.sku = p.sku AND l.line = p.line
     WHERE p.sku = $1 AND p.batch IS NULL AND p.priority <= $2 AND (p.priority < $2 OR p.accepted > $3)
       AND CASE WHEN l.min_split = 0 THEN p.qty ELSE least(coalesce(l.min_split, 1), p.qty) END <= $5
     ORDER BY p.sku, p.priority DESC, p.accepted LIMIT $4)
    ORDER BY 2 DESC, 3 LIMIT $4";

impl fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDatabase").field("pool", &self.pool.status()).finish_non_exhaustive()
    }
}
