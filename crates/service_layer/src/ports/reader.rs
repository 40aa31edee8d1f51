//! The read side of a store. Each call is one consistent read.

use allocation_domain::{AcceptedLine, BatchRef, Eta, LineKey, OrderId, Product, Sku};
use async_trait::async_trait;

use super::database::StoreResult;
use crate::verify::ProductBooks;

/// A line with what is said of the batch it is placed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLine {
    /// The product.
    pub sku: Sku,
    /// The line.
    pub line: AcceptedLine,
    /// When its batch is expected; meaningless without a placement.
    pub eta: Eta,
}

/// Which lines to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineFilter {
    /// Only lines in this state, by name.
    pub state: Option<LineStateName>,
    /// Only lines placed in this batch.
    pub batch: Option<BatchRef>,
}

impl LineFilter {
    /// Whether the line is to be listed.
    pub fn admits(&self, line: &AcceptedLine) -> bool {
        let state = match self.state {
            None => true,
            Some(LineStateName::Allocated) => line.allocated() > 0,
            Some(LineStateName::Backordered) => line.backordered() > 0,
            Some(LineStateName::Cancelled) => line.cancelled() > 0,
        };
        state && self.batch.as_ref().is_none_or(|batch| line.batch() == Some(batch))
    }
}

/// The name of a line's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineStateName {
    /// Has its units.
    Allocated,
    /// Waits for units.
    Backordered,
    /// No longer wanted.
    Cancelled,
}

/// Answers questions.
#[async_trait]
pub trait Reader: Send + Sync + 'static {
    /// A product with its open batches, without lines.
    async fn product(&self, sku: &Sku) -> StoreResult<Option<Product>>;

    /// Products after `after` in byte order.
    async fn products(&self, after: Option<&Sku>, limit: usize) -> StoreResult<Vec<Product>>;

    /// Lines of a product, newest first, from the one after `after` on.
    async fn product_lines(
        &self,
        sku: &Sku,
        filter: &LineFilter,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<StoredLine>>;

    /// All lines of an order, by SKU and line.
    async fn order(&self, order_id: &OrderId) -> StoreResult<Vec<StoredLine>>;

    /// The SKUs that a shipment carries.
    async fn skus_of(&self, reference: &BatchRef) -> StoreResult<Vec<Sku>>;

    /// Whether the store can be reached and its schema is the one this program needs.
    async fn ready(&self) -> StoreResult<()>;

    /// Shows every product's tables and events to `visit`, by SKU, all from one snapshot.
    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()>;
}
