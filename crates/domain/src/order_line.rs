//! Order lines: what is asked for, and what has become of it.

use crate::ids::{BatchRef, LineId, OrderId, Quantity, Sku};

/// Names a line within its product: the order, and the line when an order names the product more than once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LineKey {
    /// The order it belongs to.
    pub order_id: OrderId,
    /// Which of the order's lines for this product.
    pub line: LineId,
}

/// Value object: an order asks for a quantity of one SKU.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OrderLine {
    /// Order and line.
    pub key: LineKey,
    /// What is asked for.
    pub sku: Sku,
    /// How much of it.
    pub qty: Quantity,
}

impl OrderLine {
    /// A line `1` of an order.
    pub fn new(order_id: OrderId, sku: Sku, qty: Quantity) -> Self {
        Self { key: LineKey { order_id, line: LineId::default() }, sku, qty }
    }
}

/// Where all units of a line are. A line goes whole to one batch (rule 3), so it has one state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LineState {
    /// Promised from this batch.
    Allocated(BatchRef),
    /// Waits in the product's queue.
    Backordered,
    /// No longer wanted; kept so that the same request cannot promise twice.
    Cancelled,
}

impl LineState {
    /// The state's name in API and events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Allocated(_) => "allocated",
            Self::Backordered => "backordered",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An order line that a product has accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptedLine {
    /// Order and line.
    pub key: LineKey,
    /// What the caller asked for.
    pub requested: Quantity,
    /// Seniority: the sequence number of the event that accepted the line. The lower, the longer it has been waiting; moving
    /// to another batch keeps it.
    pub accepted: u64,
    /// Where its units are.
    pub state: LineState,
}

impl AcceptedLine {
    /// The batch its units are placed in.
    pub fn batch(&self) -> Option<&BatchRef> {
        match &self.state {
            LineState::Allocated(reference) => Some(reference),
            LineState::Backordered | LineState::Cancelled => None,
        }
    }

    fn units_when(&self, matches: bool) -> u64 {
        if matches { self.requested.units() } else { 0 }
    }

    /// Units placed in a batch.
    pub fn allocated(&self) -> u64 {
        self.units_when(matches!(self.state, LineState::Allocated(_)))
    }

    /// Units that wait for stock.
    pub fn backordered(&self) -> u64 {
        self.units_when(self.state == LineState::Backordered)
    }

    /// Units no longer wanted.
    pub fn cancelled(&self) -> u64 {
        self.units_when(self.state == LineState::Cancelled)
    }
}
