//! The write side of a store: transactions, and the repository of products that each hands out.

use std::collections::BTreeSet;
use std::sync::Arc;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, PartKey, Product, Seniority, Sku};
use time::{Date, OffsetDateTime};

use crate::verify::ProductBooks;

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

    /// Notes balances, after the events up to them were appended.
    fn note(&mut self, balances: &[NotedBalances]) -> impl Future<Output = StoreResult<()>> + Send;

    /// Which of these request keys are known, and for what content each.
    fn request_keys(&mut self, keys: &[Arc<str>]) -> impl Future<Output = StoreResult<Vec<RequestKey>>> + Send;

    /// Remembers request keys. One that is known by now is a [`StoreError::Conflict`]: from here, the next query or the commit.
    fn remember_keys(&mut self, keys: &[RequestKey]) -> impl Future<Output = StoreResult<()>> + Send;

    /// How many holds in force each of these has; who is left out has none. Until this transaction ends, whoever else asks about them waits.
    fn holds_of(&mut self, holders: &[Arc<str>]) -> impl Future<Output = StoreResult<Vec<(Arc<str>, u64)>>> + Send;

    /// Notes whose holds these are, or until when, and forgets those that have ended. One that is in force stays whose it is.
    fn note_holds(
        &mut self,
        holds: &[HeldFor],
        ended: &[(Sku, LineKey)],
    ) -> impl Future<Output = StoreResult<()>> + Send;

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

    /// Locks these products, in byte order, for whoever knows them from an earlier transaction, and reads nothing. Each must still be at its version, else
    /// [`StoreError::Conflict`]: now, or from the next query or the commit, since a store may send this together with its writes.
    fn lock(&mut self, known: &[(&Sku, u64)]) -> impl Future<Output = StoreResult<()>> + Send;

    /// These batches of products that are locked, whether or not anything is left in them. What does not exist is left out.
    fn batches(&mut self, named: &[(Sku, BatchRef)]) -> impl Future<Output = StoreResult<Vec<(Sku, Batch)>>> + Send;

    /// The keys of all lines that these orders have. Locks nothing.
    fn lines_of_orders(&mut self, orders: &[OrderId]) -> impl Future<Output = StoreResult<Vec<(Sku, LineKey)>>> + Send;

    /// Units placed in a batch, in the order in which they lose their place (rule 16): held ones first, then by lowest seniority, those being picked
    /// last. At most `limit`; only those that come after `after` in this order, if that is given and was confirmed when it was named.
    fn losers(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&PartKey>,
        limit: usize,
    ) -> impl Future<Output = StoreResult<Vec<Units>>> + Send;

    /// Units that wait, by seniority, from the one after `after` on, at most `limit`: only such as could take something if one batch had
    /// `largest_free` units to give.
    fn waiting(
        &mut self,
        sku: &Sku,
        largest_free: u64,
        after: Option<Seniority>,
        limit: usize,
    ) -> impl Future<Output = StoreResult<Vec<Units>>> + Send;

    /// Lines of these products whose holds have ended by then, or that may lose a place for want of shelf life on that day
    /// ([`Product::spoils_on`]).
    fn due_lines(&mut self, products: &[DueBy]) -> impl Future<Output = StoreResult<Vec<(Sku, AcceptedLine)>>> + Send;

    /// All that is stored of one product, which is locked.
    fn books(&mut self, sku: &Sku) -> impl Future<Output = StoreResult<ProductBooks>> + Send;

    /// Replaces all that is stored of a product, noted balances too, but for its events, by this: it has all its batches and lines at hand.
    fn replace(&mut self, product: &Product) -> impl Future<Output = StoreResult<()>> + Send;

    /// Writes what has changed. The product's stored version must still be `saved_version`, and lines that are new must not be there, else
    /// [`StoreError::Conflict`]: now, or from the next query or the commit, since a store may send its writes together with those.
    fn save(&mut self, changes: &[ProductChanges<'_>]) -> impl Future<Output = StoreResult<()>> + Send;
}

/// Units of a line that were accepted together, with the whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// The line.
    pub line: AcceptedLine,
    /// Which of its units.
    pub accepted: u64,
    /// Whether they are being picked.
    pub locked: bool,
}

impl Units {
    /// Their name.
    pub fn key(&self) -> PartKey {
        PartKey { line: self.line.key.clone(), accepted: self.accepted }
    }
}

/// Until when something has to be due of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueBy {
    /// The product.
    pub sku: Sku,
    /// Its time.
    pub now: OffsetDateTime,
    /// The latest day that it is anywhere.
    pub today: Date,
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

/// Whether a row is there already, and what of it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new row.
    Insert,
    /// A row that is there.
    Update,
    /// A row that is there, of which only what is placed in it has changed: what nearly every unit of work does to a batch.
    Placements,
}

/// What has changed in one product since it was loaded or last saved.
#[derive(Debug)]
pub struct ProductChanges<'a> {
    /// The product as it is now.
    pub product: &'a Product,
    /// Its version in the store; 0: it is not there yet.
    pub saved_version: u64,
    /// Whether its settings are new.
    pub settings: bool,
    /// Batches to write.
    pub batches: Vec<(Change, &'a Batch)>,
    /// Lines to write.
    pub lines: Vec<(Change, &'a AcceptedLine)>,
}

/// A name for a request or a message, so that it acts once however often it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The name. That of a message has its source and id in it, with a line break between, which no caller's has.
    pub key: Arc<str>,
    /// Whose name it is.
    pub of: KeyOf,
    /// A digest of what was asked.
    pub content: [u8; 32],
}

/// Whose name a [`RequestKey`] is: how long it is remembered depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOf {
    /// A request: its caller's.
    Request,
    /// A message from a broker.
    Message,
}

/// A hold, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFor {
    /// The product.
    pub sku: Sku,
    /// The line.
    pub line: LineKey,
    /// Whose it is, as events have it in `actor`.
    pub holder: Arc<str>,
    /// When it ends.
    pub until: OffsetDateTime,
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

/// What a product's batches came to, ready to be noted beside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedBalances {
    /// The product.
    pub sku: Sku,
    /// The event after which they were so.
    pub sequence: u64,
    /// The numbers, as [`crate::movements::Balances::to_json`] writes them.
    pub body: String,
}
