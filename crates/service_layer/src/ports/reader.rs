//! The read side of a store. Each call is one consistent read.

use allocation_domain::{
    AcceptedLine, Batch, BatchRef, Eta, LineKey, LineState, Location, OrderId, Product, Seniority, Sku,
};
use async_trait::async_trait;
use time::OffsetDateTime;

use super::database::{NotedBalances, StoreResult};
use crate::usual::{TimeZones, Usual};
use crate::verify::ProductBooks;

/// A line with what is said of the batches it is placed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLine {
    /// The product.
    pub sku: Sku,
    /// The line.
    pub line: AcceptedLine,
    /// What is said of its batches.
    pub batches: Vec<Whereabouts>,
}

/// What is said of a batch to whoever has units in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The batch.
    pub reference: BatchRef,
    /// When it is expected.
    pub eta: Eta,
    /// Where it is, or will be.
    pub location: Location,
}

impl From<&Batch> for Whereabouts {
    fn from(batch: &Batch) -> Self {
        Self { reference: batch.reference.clone(), eta: batch.eta, location: batch.location.clone() }
    }
}

/// Which lines to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineFilter {
    /// Only lines in this state.
    pub state: Option<LineState>,
    /// Only lines placed in this batch.
    pub batch: Option<BatchRef>,
    /// Only lines that have or had units of this batch: placed in it now, or shipped from it.
    pub units_of: Option<BatchRef>,
}

impl LineFilter {
    /// Whether the line is to be listed.
    pub fn admits(&self, line: &AcceptedLine) -> bool {
        self.state.is_none_or(|state| line.state() == state)
            && self.batch.as_ref().is_none_or(|batch| line.is_in(batch))
            && self.units_of.as_ref().is_none_or(|batch| line.is_in(batch) || line.has_left(batch))
    }
}

/// What is due, and by when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// What time it is for the store.
    pub now: OffsetDateTime,
    /// Products with holds that have ended and are still stored as held, or with batches that have expired or no longer keep long enough; and,
    /// where it is not the same day everywhere, some of which it only might be so. Where it is asked of these, also those with safety stock, somebody who
    /// waits, and a batch that is late: the day may serve them ([`Product::day_may_serve_queue`]). By SKU.
    pub skus: Vec<Sku>,
}

/// Of which products it is asked what is due.
#[derive(Debug, Clone, Copy)]
pub enum Among<'a> {
    /// Of these.
    These(&'a [Sku]),
    /// Of all after this one, at most so many.
    After(Option<&'a Sku>, usize),
}

/// Where the events of a product, or of one of its batches, are among the product's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// All come after this one.
    pub after: u64,
    /// None comes after this one.
    pub until: u64,
}

/// Stock and promises over all products, in units but where it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StockTotals {
    /// In open batches, on hand or expected.
    pub stock: u64,
    /// Of these, set aside.
    pub quarantined: u64,
    /// Of these, promised for a time.
    pub held: u64,
    /// Of these, promised.
    pub allocated: u64,
    /// What is waited for.
    pub backordered: u64,
    /// Batches in which more is promised than there is. There must be none.
    pub overpromised_batches: u64,
}

/// Connections to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connections {
    /// That work at the moment.
    pub used: usize,
    /// That somebody waits for.
    pub wanted: usize,
}

/// Answers questions.
#[async_trait]
pub trait Reader: Send + Sync + 'static {
    /// These products with their open batches, without lines, by SKU. Unknown ones are left out.
    async fn products_named(&self, skus: &[Sku]) -> StoreResult<Vec<Product>>;

    /// Products after `after` in byte order; `waiting`: only those in whose queue somebody waits.
    async fn products(&self, after: Option<&Sku>, waiting: bool, limit: usize) -> StoreResult<Vec<Product>>;

    /// Lines of a product, accepted last first, from the one after `after` on.
    async fn product_lines(
        &self,
        sku: &Sku,
        filter: &LineFilter,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<StoredLine>>;

    /// Units that wait, by seniority, each with its line and acceptance, from the one after `after` on.
    async fn queue(&self, sku: &Sku, after: Option<Seniority>, limit: usize) -> StoreResult<Vec<(StoredLine, u64)>>;

    /// All lines of an order, by SKU and line, and what of their products was due no later than they were read: nothing, and they are as they say.
    async fn order(&self, order_id: &OrderId, time_zones: &TimeZones) -> StoreResult<(Vec<StoredLine>, Due)>;

    /// What is due by now.
    async fn due(&self, among: Among<'_>, time_zones: &TimeZones) -> StoreResult<Due>;

    /// Where the events of a product are, or those of one of its batches; `None` when it is unknown.
    async fn span(&self, sku: &Sku, batch: Option<&BatchRef>) -> StoreResult<Option<Span>>;

    /// The balances of a product that were noted last, of those up to this event.
    async fn noted_balances(&self, sku: &Sku, sequence: u64) -> StoreResult<Option<NotedBalances>>;

    /// The events of a product after one and up to another, each as stored, by sequence. Given a batch, at least those that are about it.
    async fn events_of(&self, sku: &Sku, batch: Option<&BatchRef>, after: u64, until: u64) -> StoreResult<Vec<String>>;

    /// What a product's batches came to by its last event that was archived; `None` when none was.
    async fn archived(&self, sku: &Sku) -> StoreResult<Option<NotedBalances>>;

    /// The SKUs that a shipment carries.
    async fn skus_of(&self, reference: &BatchRef) -> StoreResult<Vec<Sku>>;

    /// Sums over all products.
    async fn totals(&self) -> StoreResult<StockTotals>;

    /// What of the store's connections is in use.
    fn connections(&self) -> Connections;

    /// Whether the store can be reached and its schema is the one this program needs.
    async fn ready(&self) -> StoreResult<()>;

    /// Shows every product's tables and events to `visit`, by SKU, all from one snapshot.
    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()>;
}

/// What products will be once what is due of them is done (rule 13): for readers, who do not store it.
#[async_trait]
pub trait Foresight: Send + Sync + 'static {
    /// These products as they are by now, with those of their lines at hand that this has changed.
    async fn foresee(&self, skus: &[Sku]) -> StoreResult<Vec<Product>>;

    /// What holds for products that say nothing else.
    fn usual(&self) -> &Usual;
}
