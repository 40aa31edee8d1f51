//! SQLite: the embedded store. One file, one writer, a commit that is on disk when it returns.

mod api_keys;
mod archive;
mod backup;
mod dead_letters;
mod ends;
mod event_log;
mod movements;
mod reader;
mod transaction;
mod webhooks;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allocation_domain::product::StoredProduct;
use allocation_domain::{AcceptedLine, Batch, LineKey, Seniority, Sku};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{Database, StoreError, StoreResult, Units};
use allocation_service_layer::wire::parse_date;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior, ffi};
use time::Date;
use tokio::sync::Semaphore;

use crate::migrations::{self, Applied, Migration};
use crate::rows::{self, BatchRow, LineRow, ProductRow, damaged};
pub use backup::{Existing, SqliteCopy};
use ends::{End, Ends};
pub use transaction::SqliteTransaction;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "initial",
    sql: include_str!("../../migrations/sqlite/0001_initial.sql"),
    serves: 1,
}];

/// How long to wait for another process, such as an import, to finish writing.
const BUSY: Duration = Duration::from_secs(15);

/// How many reads may be under way at once.
const READERS: usize = 4;

/// The one connection that writes, and where the chains end that it has written.
struct Writer {
    connection: Connection,
    ends: Ends,
}

/// An embedded database in one file.
#[derive(Clone)]
pub struct SqliteDatabase {
    path: Arc<PathBuf>,
    clock: Arc<dyn Clock>,
    writer: Arc<tokio::sync::Mutex<Writer>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    reading: Arc<Semaphore>,
}

impl SqliteDatabase {
    /// Opens the file, and makes it if need be. Does not migrate.
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> StoreResult<Self> {
        let path = path.as_ref().to_owned();
        let writer = Connection::open(&path)
            .map_err(|error| StoreError::Unavailable(format!("can't open {}: {error}", path.display())))?;
        writer.busy_timeout(BUSY).map_err(store_error)?;
        writer
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000;")
            .map_err(store_error)?;
        writer.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            path: Arc::new(path),
            clock,
            writer: Arc::new(tokio::sync::Mutex::new(Writer { connection: writer, ends: Ends::default() })),
            readers: Arc::default(),
            reading: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Brings the schema up to date. Safe when several programs do it at once: the file is locked meanwhile.
    pub async fn migrate(&self) -> StoreResult<()> {
        self.write(|connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
            tx.execute_batch(
                "CREATE TABLE IF NOT EXISTS schema_migrations (
                     version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
                     serves INTEGER NOT NULL) STRICT",
            )
            .map_err(store_error)?;
            for migration in migrations::pending(MIGRATIONS, &applied(&tx)?)? {
                tx.execute_batch(migration.sql).map_err(store_error)?;
                tx.execute(
                    "INSERT INTO schema_migrations (version, name, checksum, serves) VALUES (?1, ?2, ?3, ?4)",
                    (migration.version, migration.name, migration.checksum(), migration.serves),
                )
                .map_err(store_error)?;
                tracing::info!(version = migration.version, name = migration.name, "applied migration");
            }
            tx.commit().map_err(store_error)
        })
        .await
    }

    /// Does something on the one connection that writes, after whoever is using it now.
    async fn write<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> StoreResult<R> + Send + 'static,
    ) -> StoreResult<R> {
        let mut writer = self.writer.clone().lock_owned().await;
        blocking(move || {
            writer.ends.forget();
            job(&mut writer.connection)
        })
        .await
    }

    /// As `write`, but returns before the disk has it: for what may be done twice, such as a sink's progress. It must not touch products or what they have.
    async fn note<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> StoreResult<R> + Send + 'static,
    ) -> StoreResult<R> {
        let mut writer = self.writer.clone().lock_owned().await;
        blocking(move || {
            let connection = &mut writer.connection;
            // Saves a sync for each page a sink has seen.
            connection.execute_batch("PRAGMA synchronous = NORMAL").map_err(store_error)?;
            let done = job(connection);
            connection.execute_batch("PRAGMA synchronous = FULL").map_err(store_error)?;
            done
        })
        .await
    }

    /// Reads in one snapshot, beside the writer.
    async fn read<R: Send + 'static>(
        &self,
        job: impl FnOnce(&rusqlite::Transaction<'_>) -> StoreResult<R> + Send + 'static,
    ) -> StoreResult<R> {
        let permit = self.reading.clone().acquire_owned().await;
        let (path, readers) = (self.path.clone(), self.readers.clone());
        let idle = move || readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let readers = self.readers.clone();
        blocking(move || {
            let _permit = permit;
            let mut connection = match idle() {
                Some(connection) => connection,
                None => open_reader(&path)?,
            };
            let result = job(&connection.transaction().map_err(store_error)?);
            readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        })
        .await
    }
}

impl Database for SqliteDatabase {
    type Tx = SqliteTransaction;

    async fn begin(&self) -> StoreResult<SqliteTransaction> {
        SqliteTransaction::begin(self.writer.clone().lock_owned().await, self.clock.as_ref())
    }
}

fn open_reader(path: &Path) -> StoreResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(store_error)?;
    connection.busy_timeout(BUSY).map_err(store_error)?;
    connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4000;").map_err(store_error)?;
    Ok(connection)
}

async fn blocking<R: Send + 'static>(job: impl FnOnce() -> StoreResult<R> + Send + 'static) -> StoreResult<R> {
    let done = tokio::task::spawn_blocking(job).await;
    done.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))
}

fn applied(connection: &Connection) -> StoreResult<Vec<Applied>> {
    let applied = "SELECT version, checksum, serves FROM schema_migrations ORDER BY version";
    let mut statement = connection.prepare(applied).map_err(store_error)?;
    let row = |row: &Row<'_>| Ok(Applied { version: row.get(0)?, checksum: row.get(1)?, serves: row.get(2)? });
    let rows = statement.query_map((), row).map_err(store_error)?;
    rows.collect::<Result<_, _>>().map_err(store_error)
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
fn store_error(error: rusqlite::Error) -> StoreError {
    let taken = [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_ROWID];
    match error.sqlite_error_code() {
        // Somebody else was there first. Whatever else a constraint says no to is our defect.
        Some(ErrorCode::ConstraintViolation)
            if error.sqlite_error().is_some_and(|error| taken.contains(&error.extended_code)) =>
        {
            StoreError::Conflict(error.to_string())
        }
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly,
        ) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Failed(error.to_string()),
    }
}

fn number_at(row: &Row<'_>, column: usize) -> StoreResult<i64> {
    row.get(column).map_err(store_error)
}

fn text_at<'a>(row: &'a Row<'_>, column: usize) -> StoreResult<&'a str> {
    row.get_ref(column).map_err(store_error)?.as_str().map_err(damaged)
}

fn text_or_null_at<'a>(row: &'a Row<'_>, column: usize) -> StoreResult<Option<&'a str>> {
    row.get_ref(column).map_err(store_error)?.as_str_or_null().map_err(damaged)
}

/// The key of a line that another row points to, from two columns; none at the end of a chain.
fn chained(row: &Row<'_>, first: usize) -> StoreResult<Option<LineKey>> {
    match (text_or_null_at(row, first)?, text_or_null_at(row, first + 1)?) {
        (Some(order_id), Some(line)) => rows::line_key(order_id, line).map(Some),
        _ => Ok(None),
    }
}

/// Visits a product's lines in the order of acceptance, last first, until `visit` says `false`: from the last on, or from the one after
/// `after`. Their units are fetched where they have rows of their own.
fn walk(
    connection: &Connection,
    sku: &Sku,
    after: Option<&LineKey>,
    mut visit: impl FnMut(AcceptedLine) -> StoreResult<bool>,
) -> StoreResult<()> {
    let sql = format!(
        "SELECT {LINE}, l.previous_order_id, l.previous_line
         FROM lines l WHERE l.order_id = ?1 AND l.sku = ?2 AND l.line = ?3"
    );
    let mut by_key = connection.prepare_cached(&sql).map_err(store_error)?;
    let mut read = |key: &LineKey| {
        let mut found = by_key.query((key.order_id.as_str(), sku.as_str(), key.line.as_str())).map_err(store_error)?;
        let row = found.next().map_err(store_error)?;
        row.map(|row| Ok((line(connection, row)?, chained(row, LINE_COLUMNS)?))).transpose()
    };
    let mut next = if let Some(key) = after {
        read(key)?.and_then(|(_, previous)| previous)
    } else {
        let newest = "SELECT newest_order_id, newest_line FROM products WHERE sku = ?1";
        all(connection, newest, [sku.as_str()], |row| chained(row, 0))?.into_iter().next().flatten()
    };
    while let Some(key) = next {
        let Some((line, previous)) = read(&key)? else { return Err(damaged("a chain of lines that breaks off")) };
        if !visit(line)? {
            break;
        }
        next = previous;
    }
    Ok(())
}

/// The columns that [`product`] reads.
macro_rules! product_columns {
    () => {
        "sku, version, changed_at, backordered, queued, out_of_stock_raised, queue_cap, auto_improve, strategy, min_days, \
         requires_expiry, overdue_days, levels, low"
    };
}
const PRODUCT: &str = product_columns!();
/// How many they are.
const PRODUCT_COLUMNS: usize = 14;

/// Reads a product from the first columns, without its batches.
fn product(row: &Row<'_>) -> StoreResult<StoredProduct> {
    ProductRow {
        sku: text_at(row, 0)?,
        version: number_at(row, 1)?,
        changed_at: number_at(row, 2)?,
        backordered: number_at(row, 3)?,
        queued: number_at(row, 4)?,
        out_of_stock_raised: row.get(5).map_err(store_error)?,
        queue_cap: row.get(6).map_err(store_error)?,
        auto_improve: row.get(7).map_err(store_error)?,
        strategy: text_or_null_at(row, 8)?,
        min_days: row.get(9).map_err(store_error)?,
        requires_expiry: row.get(10).map_err(store_error)?,
        overdue_days: row.get(11).map_err(store_error)?,
        levels: text_or_null_at(row, 12)?,
        low: text_or_null_at(row, 13)?,
    }
    .stored()
}

/// Reads a product, and the ends of its chains from the columns after it.
fn product_with_end(row: &Row<'_>) -> StoreResult<(StoredProduct, End)> {
    let stored = product(row)?;
    let end = End::at(row, PRODUCT_COLUMNS, stored.version)?;
    Ok((stored, end))
}

/// The columns that [`batch`] reads.
macro_rules! batch_columns {
    () => {
        "reference, quantity, declared, quarantined, held, allocated, eta, arrived, expires_on, expired, cancelled, revision, \
         location"
    };
}
const BATCH: &str = batch_columns!();
/// What is asked of every product that is loaded: put together once.
const PRODUCT_WITH_ENDS: &str =
    concat!("SELECT ", product_columns!(), ", newest_order_id, newest_line, newest_event FROM products WHERE sku = ?1");
const OPEN_BATCHES: &str = concat!("SELECT ", batch_columns!(), " FROM batches WHERE sku = ?1 AND is_open");
/// How many they are.
const BATCH_COLUMNS: usize = 13;

fn batch(row: &Row<'_>) -> StoreResult<Batch> {
    BatchRow {
        reference: text_at(row, 0)?,
        quantity: number_at(row, 1)?,
        declared: number_at(row, 2)?,
        quarantined: number_at(row, 3)?,
        held: number_at(row, 4)?,
        allocated: number_at(row, 5)?,
        eta: date_at(row, 6)?,
        arrived: row.get(7).map_err(store_error)?,
        expires_on: date_at(row, 8)?,
        expired: row.get(9).map_err(store_error)?,
        cancelled: row.get(10).map_err(store_error)?,
        revision: number_at(row, 11)?,
        location: text_at(row, 12)?,
    }
    .batch()
}

fn date_at(row: &Row<'_>, column: usize) -> StoreResult<Option<Date>> {
    text_or_null_at(row, column)?.map(|text| parse_date(text).ok_or_else(|| damaged(text))).transpose()
}

/// The columns that [`line`] reads.
const LINE: &str = "l.order_id, l.line, l.accepted, l.requested, l.placed, l.backordered, l.queued, l.batch, l.dropped,
    l.cancelled, l.lapsed, l.held_until, l.priority, l.by_date, l.not_before, l.min_split, l.in_parts, l.sku,
    l.shipped, l.min_days, l.over_locations, l.locations";
/// How many they are.
const LINE_COLUMNS: usize = 22;

/// Reads a line from the first columns, and its units from rows of their own if it has such.
fn line(connection: &Connection, row: &Row<'_>) -> StoreResult<AcceptedLine> {
    let rare = |column: usize| row.get(column).map_err(store_error);
    let read = LineRow {
        order_id: text_at(row, 0)?,
        line: text_at(row, 1)?,
        accepted: number_at(row, 2)?,
        requested: number_at(row, 3)?,
        placed: number_at(row, 4)?,
        backordered: number_at(row, 5)?,
        queued: number_at(row, 6)?,
        batch: text_or_null_at(row, 7)?,
        dropped: rare(8)?,
        cancelled: rare(9)?,
        lapsed: rare(10)?,
        held_until: rare(11)?,
        priority: row.get(12).map_err(store_error)?,
        by: date_at(row, 13)?,
        not_before: date_at(row, 14)?,
        min_split: rare(15)?,
        in_parts: row.get(16).map_err(store_error)?,
        shipped: rare(18)?,
        min_days: row.get(19).map_err(store_error)?,
        over_locations: row.get(20).map_err(store_error)?,
        locations: text_or_null_at(row, 21)?,
    }
    .line()?;
    let mut line = read.line;
    let key = (text_at(row, 17)?, line.key.order_id.as_str(), line.key.line.as_str());
    if read.in_parts {
        let sql = "SELECT accepted, batch, qty, locked FROM parts WHERE sku = ?1 AND order_id = ?2 AND line = ?3
                   ORDER BY accepted, batch IS NULL, batch, locked";
        line.parts = all(connection, sql, key, |row| {
            let locked = row.get(3).map_err(store_error)?;
            rows::part(number_at(row, 0)?, text_or_null_at(row, 1)?, number_at(row, 2)?, locked)
        })?;
    }
    if read.has_shipped {
        let sql = "SELECT batch, qty, returned FROM shipments WHERE sku = ?1 AND order_id = ?2 AND line = ?3
                   ORDER BY nth";
        line.shipped =
            all(connection, sql, key, |row| rows::shipped(text_at(row, 0)?, number_at(row, 1)?, number_at(row, 2)?))?;
    }
    Ok(line)
}

/// Units that wait, by seniority: a row with the line's name and their acceptance for each. `?1` the SKU, `?2` and `?3` the seniority to begin
/// after, `?4` the most rows, `?5` what one batch has free at most.
const WAITING: &str = "SELECT order_id, line, accepted, 0 FROM (
    SELECT * FROM (
        SELECT l.priority, l.accepted, l.order_id, l.line FROM lines l INDEXED BY lines_waiting
        WHERE l.sku = ?1 AND l.backordered > 0 AND NOT l.in_parts AND l.priority <= ?2
          AND (l.priority < ?2 OR l.accepted > ?3)
          AND CASE WHEN l.min_split = 0 THEN l.backordered ELSE min(coalesce(l.min_split, 1), l.backordered) END <= ?5
        ORDER BY l.priority DESC, l.accepted LIMIT ?4)
    UNION ALL
    SELECT * FROM (
        SELECT p.priority, p.accepted, p.order_id, p.line FROM parts p INDEXED BY parts_waiting
        JOIN lines l ON l.order_id = p.order_id AND l.sku = p.sku AND l.line = p.line
        WHERE p.sku = ?1 AND p.batch IS NULL AND p.priority <= ?2 AND (p.priority < ?2 OR p.accepted > ?3)
          AND CASE WHEN l.min_split = 0 THEN p.qty ELSE min(coalesce(l.min_split, 1), p.qty) END <= ?5
        ORDER BY p.priority DESC, p.accepted LIMIT ?4)
    ) ORDER BY priority DESC, accepted LIMIT ?4";

/// Runs [`WAITING`].
fn waiting(
    connection: &Connection,
    sku: &Sku,
    largest_free: u64,
    after: Option<Seniority>,
    limit: usize,
) -> StoreResult<Vec<Units>> {
    let (priority, accepted) = rows::begin_after(after);
    let params = (sku.as_str(), priority, accepted, rows::number(limit as u64), rows::number(largest_free));
    named_units(connection, sku, WAITING, params)
}

/// Units that a query names by order, line, acceptance and whether they are being picked, each with its whole line.
fn named_units(
    connection: &Connection,
    sku: &Sku,
    sql: &str,
    params: impl rusqlite::Params,
) -> StoreResult<Vec<Units>> {
    let names = all(connection, sql, params, |row| {
        let locked: bool = row.get(3).map_err(store_error)?;
        Ok((text_at(row, 0)?.to_owned(), text_at(row, 1)?.to_owned(), rows::count(number_at(row, 2)?)?, locked))
    })?;
    let by_key = format!("SELECT {LINE} FROM lines l WHERE order_id = ?1 AND sku = ?2 AND line = ?3");
    let mut units = Vec::with_capacity(names.len());
    for (order_id, name, accepted, locked) in names {
        let key = (order_id.as_str(), sku.as_str(), name.as_str());
        let found = all(connection, &by_key, key, |row| line(connection, row))?;
        units.extend(found.into_iter().map(|line| Units { line, accepted, locked }));
    }
    Ok(units)
}

/// Runs a query and makes something of each row.
fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    mut make: impl FnMut(&Row<'_>) -> StoreResult<T>,
) -> StoreResult<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = statement.query(params).map_err(store_error)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        found.push(make(row)?);
    }
    Ok(found)
}
