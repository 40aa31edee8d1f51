//! Where a product's lines and events end, as chains: what new ones are put on.

use std::collections::HashMap;

use allocation_domain::{LineKey, Sku};
use allocation_service_layer::ports::database::{StoreError, StoreResult};
use rusqlite::{Connection, Row};

use super::{chained, store_error};
use crate::rows::number;

/// The ends of a product's two chains.
#[derive(Debug, Default, Clone)]
pub(super) struct End {
    /// The product's version with which they were so.
    pub(super) version: u64,
    /// The line accepted last.
    pub(super) line: Option<LineKey>,
    /// Where the last event is.
    pub(super) event: Option<i64>,
}

impl End {
    /// From three columns of a product of this version.
    pub(super) fn at(row: &Row<'_>, first: usize, version: u64) -> StoreResult<Self> {
        Ok(Self { version, line: chained(row, first)?, event: row.get(first + 2).map_err(store_error)? })
    }
}

/// The most products of which they are kept.
const MOST: usize = 10_000;

/// The ends of products that were loaded or written last, kept from one transaction to the next: saves a query for each product of a unit of work, a twentieth of
/// the instructions of an import for a thousand products. They hold for as long as nobody else has written to the file, of which SQLite keeps count.
#[derive(Default)]
pub(super) struct Ends {
    kept: HashMap<Sku, End>,
    /// What that count was.
    counted: Option<i64>,
}

impl Ends {
    /// Forgets what may not hold any more, at the begin of a transaction.
    pub(super) fn begin(&mut self, connection: &Connection) -> StoreResult<()> {
        let mut count = connection.prepare_cached("PRAGMA data_version").map_err(store_error)?;
        let counted = Some(count.query_row((), |row| row.get(0)).map_err(store_error)?);
        if self.counted != counted || self.kept.len() > MOST {
            self.forget();
            self.counted = counted;
        }
        Ok(())
    }

    /// Forgets all of them: after something was undone, or done in another way.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Brings to hand those of products that are known, each of which must still be at its version.
    pub(super) fn bring(&mut self, connection: &Connection, known: &[(&Sku, u64)]) -> StoreResult<()> {
        let sql = "SELECT newest_order_id, newest_line, newest_event FROM products WHERE sku = ?1 AND version = ?2";
        let mut query = connection.prepare_cached(sql).map_err(store_error)?;
        for &(sku, version) in known {
            if self.kept.get(sku).is_some_and(|end| end.version == version) {
                continue;
            }
            let mut found = query.query((sku.as_str(), number(version))).map_err(store_error)?;
            let row = found.next().map_err(store_error)?;
            let row = row.ok_or_else(|| StoreError::Conflict(format!("{sku} is not at version {version}")))?;
            self.kept.insert(sku.clone(), End::at(row, 0, version)?);
        }
        Ok(())
    }

    /// Those of a product, which must be at hand if it is in the store.
    pub(super) fn of_mut(&mut self, sku: &Sku) -> &mut End {
        self.kept.entry(sku.clone()).or_default()
    }

    /// These are those of a product now.
    pub(super) fn put(&mut self, sku: Sku, end: End) {
        self.kept.insert(sku, end);
    }
}
