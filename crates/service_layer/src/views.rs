//! The read side: answers to questions, apart from everything that changes something.
//!
//! The numbers are those of `docs/glossary.md`, by the same names. What the service does not do yet (holds, shipping, quarantine)
//! counts 0.

use allocation_domain::{AcceptedLine, Batch, BatchRef, Eta, LineKey, OrderId, Product, Sku, arrival};
use time::Date;

use crate::ports::database::StoreResult;
use crate::ports::reader::{LineFilter, Reader, StoredLine};

/// A product's numbers and its open batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductView {
    /// The product.
    pub sku: Sku,
    /// The sequence number of its last event.
    pub version: u64,
    /// Units of arrived batches.
    pub on_hand: u64,
    /// Units of batches that have not arrived.
    pub incoming: u64,
    /// Units allocated to order lines.
    pub allocated: u64,
    /// Units on hand that can be promised today.
    pub available: u64,
    /// Units that can be promised at all, arrived or not.
    pub promisable: u64,
    /// Units ordered without a placement.
    pub backordered: u64,
    /// Open batches, in order of preference.
    pub batches: Vec<BatchView>,
}

/// A batch's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// The shipment.
    pub reference: BatchRef,
    /// Units declared.
    pub qty: u64,
    /// When it is expected; none: arrived.
    pub eta: Eta,
    /// Units allocated from it.
    pub allocated: u64,
    /// Units nobody has been promised.
    pub free: u64,
    /// The event that last changed the declaration.
    pub revision: u64,
}

/// A line: what was asked for, and where its units are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineView {
    /// The product.
    pub sku: Sku,
    /// Order and line.
    pub key: LineKey,
    /// What the caller asked for.
    pub requested: u64,
    /// Units with a placement.
    pub allocated: u64,
    /// Units without one.
    pub backordered: u64,
    /// Units no longer wanted.
    pub cancelled: u64,
    /// The derived state's name.
    pub state: &'static str,
    /// When all of it is ready to ship; none while anything waits.
    pub promised_date: Option<Date>,
    /// Where its units are.
    pub placements: Vec<PlacementView>,
    /// Its seniority within the product: the lower, the earlier it was accepted.
    pub accepted: u64,
}

/// A line's units in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementView {
    /// The batch.
    pub batch: BatchRef,
    /// How many units.
    pub qty: u64,
    /// When the batch is expected; none: arrived.
    pub eta: Eta,
}

impl From<&Batch> for BatchView {
    fn from(batch: &Batch) -> Self {
        Self {
            reference: batch.reference.clone(),
            qty: batch.quantity.units(),
            eta: batch.eta,
            allocated: batch.allocated,
            free: batch.free(),
            revision: batch.revision,
        }
    }
}

impl From<&Product> for ProductView {
    fn from(product: &Product) -> Self {
        let sum = |of: fn(&Batch) -> u64| product.batches().iter().map(of).sum();
        Self {
            sku: product.sku().clone(),
            version: product.version(),
            on_hand: sum(|b| if b.has_arrived() { b.quantity.units() } else { 0 }),
            incoming: sum(|b| if b.has_arrived() { 0 } else { b.quantity.units() }),
            allocated: sum(|b| b.allocated),
            available: product.available(),
            promisable: sum(Batch::free),
            backordered: product.backordered(),
            batches: product.batches().iter().filter(|batch| batch.is_open()).map(BatchView::from).collect(),
        }
    }
}

impl LineView {
    /// A line seen on `today`; `eta` is that of the batch it is placed in.
    pub fn new(sku: &Sku, line: &AcceptedLine, eta: Eta, today: Date) -> Self {
        Self {
            sku: sku.clone(),
            key: line.key.clone(),
            requested: line.requested.units(),
            allocated: line.allocated(),
            backordered: line.backordered(),
            cancelled: line.cancelled(),
            state: line.state.name(),
            promised_date: line.batch().map(|_| arrival(eta, today)),
            placements: line
                .batch()
                .map(|batch| PlacementView { batch: batch.clone(), qty: line.allocated(), eta })
                .into_iter()
                .collect(),
            accepted: line.accepted,
        }
    }

    /// A line of a product in memory.
    pub fn of(product: &Product, key: &LineKey, today: Date) -> Option<Self> {
        let line = product.line(key)?;
        let eta = line.batch().and_then(|reference| product.batch(reference)).and_then(|batch| batch.eta);
        Some(Self::new(product.sku(), line, eta, today))
    }

    fn stored(stored: &StoredLine, today: Date) -> Self {
        Self::new(&stored.sku, &stored.line, stored.eta, today)
    }
}

/// A product, if it is known.
pub async fn product(reader: &dyn Reader, sku: &Sku) -> StoreResult<Option<ProductView>> {
    Ok(reader.product(sku).await?.as_ref().map(ProductView::from))
}

/// A page of products, in byte order of SKU.
pub async fn products(reader: &dyn Reader, after: Option<&Sku>, limit: usize) -> StoreResult<Vec<ProductView>> {
    Ok(reader.products(after, limit).await?.iter().map(ProductView::from).collect())
}

/// A page of a product's lines, newest first; `None` when the product is unknown.
pub async fn product_lines(
    reader: &dyn Reader,
    sku: &Sku,
    filter: &LineFilter,
    after: Option<&LineKey>,
    limit: usize,
    today: Date,
) -> StoreResult<Option<Vec<LineView>>> {
    let lines = reader.product_lines(sku, filter, after, limit).await?;
    if lines.is_empty() && reader.product(sku).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(lines.iter().map(|line| LineView::stored(line, today)).collect()))
}

/// All lines of an order; none when it is unknown.
pub async fn order(reader: &dyn Reader, order_id: &OrderId, today: Date) -> StoreResult<Vec<LineView>> {
    Ok(reader.order(order_id).await?.iter().map(|line| LineView::stored(line, today)).collect())
}

/// Which batch serves which SKU of an order, as clients of the Python original ask: allocated placements only.
pub async fn allocations(reader: &dyn Reader, order_id: &OrderId) -> StoreResult<Vec<(Sku, BatchRef)>> {
    let lines = reader.order(order_id).await?;
    Ok(lines.into_iter().filter_map(|stored| Some((stored.sku, stored.line.batch()?.clone()))).collect())
}
