//! Events: things that happened. Every change raises one, and they alone tell the rest of the company.

use crate::batch::Eta;
use crate::ids::{BatchQuantity, BatchRef, Quantity};
use crate::order_line::LineKey;

/// Something that happened to one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A batch became known.
    BatchCreated {
        /// The shipment.
        reference: BatchRef,
        /// Its units.
        qty: BatchQuantity,
        /// When it is expected.
        eta: Eta,
    },
    /// A batch holds more or fewer units than was thought.
    BatchQuantityChanged {
        /// The shipment.
        reference: BatchRef,
        /// Units before.
        from: BatchQuantity,
        /// Units now.
        to: BatchQuantity,
    },
    /// A batch comes on another day, or has arrived.
    BatchEtaChanged {
        /// The shipment.
        reference: BatchRef,
        /// The date before.
        from: Eta,
        /// The date now; none: arrived.
        to: Eta,
    },
    /// A line has been promised its units.
    Allocated {
        /// Order and line.
        line: LineKey,
        /// How many.
        qty: Quantity,
        /// From this shipment.
        reference: BatchRef,
    },
    /// A line no longer has its units.
    Deallocated {
        /// Order and line.
        line: LineKey,
        /// How many.
        qty: Quantity,
        /// From this shipment.
        reference: BatchRef,
        /// Whether the caller wished it.
        reason: DeallocationReason,
    },
    /// A line waits for stock.
    Backordered {
        /// Order and line.
        line: LineKey,
        /// How many units.
        qty: Quantity,
    },
    /// A line is no longer wanted.
    LineCancelled {
        /// Order and line.
        line: LineKey,
        /// How many units.
        qty: Quantity,
    },
    /// A request was refused for lack of stock. Raised at the first refusal, and again only after stock has come back.
    OutOfStock {
        /// Units the request asked for.
        asked: u64,
        /// Units on hand that nobody has been promised.
        available: u64,
    },
}

/// Why a line lost its units (rule 27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeallocationReason {
    /// The caller's wish.
    Released,
    /// The batch no longer has them.
    Displaced,
}

impl DeallocationReason {
    /// The reason's name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Displaced => "displaced",
        }
    }
}

impl Event {
    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BatchCreated { .. } => "BatchCreated",
            Self::BatchQuantityChanged { .. } => "BatchQuantityChanged",
            Self::BatchEtaChanged { .. } => "BatchEtaChanged",
            Self::Allocated { .. } => "Allocated",
            Self::Deallocated { .. } => "Deallocated",
            Self::Backordered { .. } => "Backordered",
            Self::LineCancelled { .. } => "LineCancelled",
            Self::OutOfStock { .. } => "OutOfStock",
        }
    }

    /// The batch whose numbers it changed.
    pub fn batch(&self) -> Option<&BatchRef> {
        match self {
            Self::BatchCreated { reference, .. }
            | Self::BatchQuantityChanged { reference, .. }
            | Self::BatchEtaChanged { reference, .. }
            | Self::Allocated { reference, .. }
            | Self::Deallocated { reference, .. } => Some(reference),
            Self::Backordered { .. } | Self::LineCancelled { .. } | Self::OutOfStock { .. } => None,
        }
    }

    /// The line whose state it changed.
    pub fn line(&self) -> Option<&LineKey> {
        match self {
            Self::Allocated { line, .. }
            | Self::Deallocated { line, .. }
            | Self::Backordered { line, .. }
            | Self::LineCancelled { line, .. } => Some(line),
            Self::BatchCreated { .. }
            | Self::BatchQuantityChanged { .. }
            | Self::BatchEtaChanged { .. }
            | Self::OutOfStock { .. } => None,
        }
    }
}
