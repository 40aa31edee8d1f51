//! The write side of a store: transactions, and the repository of products that each hands out.

use std::collections::BTreeSet;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, Product, Sku};
use time::OffsetDateTime;

/// Why a store could not do its part.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Somebody else was faster, or two waited for each other. Nothing was done; trying again is right.
    #[error("conflict with another transaction: {0}")]
    Conflict(String),
    /// The store can't be reached or is too busy. Whether a COMMIT that was under way happened is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store says no to what we asked: a defect, ours or of the data.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// What a repository call answers with.
pub type StoreResult<T> = Result<T, StoreError>;

/// A store that can make atomic changes.
pub trait Database: Send + Sync + 'static {
    /// Its transactions.
    type Tx: Transaction;

    /// Starts a transaction.
    fn begin(&self) -> impl Future<Output = StoreResult<Self::Tx>> + Send;
}

/// One atomic change. Dropping it unfinished rolls it back.
pub trait Transaction: ProductRepository + 'static {
    /// The store's clock, read once, after the products were locked.
    fn now(&self) -> OffsetDateTime;

    /// Appends to the event log.
    fn record(&mut self, events: &[RecordedEvent]) -> impl Future<Output = StoreResult<()>> + Send;

    /// Makes it all last. When this returns `Ok`, it is on disk.
    fn commit(self) -> impl Future<Output = StoreResult<()>> + Send;

    /// Ends a transaction in which nothing was written: gives locks back without waiting for the disk.
    fn end(self) -> impl Future<Output = StoreResult<()>> + Send;
}

/// The store of the aggregate [`Product`].
pub trait ProductRepository: Send {
    /// Loads these products and locks them until the transaction ends: with their open batches, and the lines and
    /// batches that are named. What does not exist is left out.
    fn load(&mut self, wanted: &Selection) -> impl Future<Output = StoreResult<Vec<Product>>> + Send;

    /// The keys of all lines that these orders have. Locks nothing.
    fn lines_of_orders(&mut self, orders: &[OrderId]) -> impl Future<Output = StoreResult<Vec<(Sku, LineKey)>>> + Send;

    /// Lines placed in a batch, newest first, at most `limit`; only those that come after the line `after` in this order, if one is given.
    fn newest_lines(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&LineKey>,
        limit: usize,
    ) -> impl Future<Output = StoreResult<Vec<AcceptedLine>>> + Send;

    /// Waiting lines of at most `max_units` that were accepted later than `after`, oldest first, at most `limit`.
    fn waiting_lines(
        &mut self,
        sku: &Sku,
        max_units: u64,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = StoreResult<Vec<AcceptedLine>>> + Send;

    /// Writes what has changed. The product's stored version must still be `saved_version`, else [`StoreError::Conflict`]: now, or from
    /// the next query or the commit, since a store may send its writes together with those.
    fn save(&mut self, changes: &[ProductChanges<'_>]) -> impl Future<Output = StoreResult<()>> + Send;
}

/// What to load.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Products, in byte order, which is the order they are locked in.
    pub skus: BTreeSet<Sku>,
    /// Lines of those products.
    pub lines: Vec<(Sku, LineKey)>,
    /// Batches of those products to load even when nothing is left in them.
    pub batches: Vec<(Sku, BatchRef)>,
}

/// Whether a row is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new row.
    Insert,
    /// A row that is there.
    Update,
}

/// What has changed in one product since it was loaded or last saved.
#[derive(Debug)]
pub struct ProductChanges<'a> {
    /// The product as it is now.
    pub product: &'a Product,
    /// Its version in the store; 0: it is not there yet.
    pub saved_version: u64,
    /// Batches to write.
    pub batches: Vec<(Change, &'a Batch)>,
    /// Lines to write.
    pub lines: Vec<(Change, &'a AcceptedLine)>,
}

/// An event, ready for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The product it happened to.
    pub sku: Sku,
    /// Its number among the product's events, from 1, without a gap.
    pub sequence: u64,
    /// The whole event as JSON, as it is served and sent.
    pub body: String,
}
