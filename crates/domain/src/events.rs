//! Events: things that happened. Every change raises one, and they alone tell the rest of the company.

use time::OffsetDateTime;

use crate::batch::Eta;
use crate::commands::Rest;
use crate::ids::{BatchQuantity, BatchRef, Quantity};
use crate::order_line::{LineKey, Promise, Terms};
use crate::product::Settings;

/// Something that happened to one product.
///
/// Units of a line carry `accepted`, their seniority: the sequence number of the event that accepted them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A product became known, or is to behave otherwise.
    ProductChanged {
        /// All its settings.
        settings: Settings,
    },
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
    /// A batch has arrived and was counted. What is still expected is a batch of its own.
    BatchReceived {
        /// The shipment.
        reference: BatchRef,
        /// Units expected.
        from: BatchQuantity,
        /// Units that came.
        qty: BatchQuantity,
        /// What of those that did not.
        rest: Rest,
    },
    /// A batch will never come.
    BatchCancelled {
        /// The shipment.
        reference: BatchRef,
        /// Units that were expected.
        qty: BatchQuantity,
    },
    /// A line was accepted on terms that its first placement does not tell: other than usual, in parts, or not whole. A plain line is accepted by
    /// its one `Allocated`.
    LineAccepted {
        /// Order and line.
        line: LineKey,
        /// Units asked for.
        requested: Quantity,
        /// Of these, units that were not to be had, and are not wanted later.
        dropped: u64,
        /// What its placements must obey.
        terms: Terms,
    },
    /// A line has units for a while.
    Held {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many.
        qty: Quantity,
        /// From this shipment.
        reference: BatchRef,
        /// Until then, unless it is confirmed.
        until: OffsetDateTime,
    },
    /// A hold lasts longer.
    HoldExtended {
        /// Order and line.
        line: LineKey,
        /// Until then.
        until: OffsetDateTime,
    },
    /// A hold ran out: a placement is free again.
    HoldExpired {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many.
        qty: Quantity,
        /// From this shipment.
        reference: BatchRef,
    },
    /// A hold ended because supply fell away; its placements were taken before.
    HoldLost {
        /// Order and line.
        line: LineKey,
        /// How many units it had.
        qty: Quantity,
    },
    /// A line has been promised units.
    Allocated {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many.
        qty: Quantity,
        /// From this shipment.
        reference: BatchRef,
        /// Whether the line may have its units from several batches.
        split: bool,
    },
    /// A line no longer has units.
    Deallocated {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many.
        qty: Quantity,
        /// From this shipment.
        reference: BatchRef,
        /// Whether the caller wished it.
        reason: DeallocationReason,
    },
    /// Units of a line wait for stock.
    Backordered {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many units.
        qty: Quantity,
        /// Whether they had a place before.
        displaced: bool,
    },
    /// A line asks for something else.
    LineChanged {
        /// Order and line.
        line: LineKey,
        /// Units ordered before.
        from: Quantity,
        /// Units asked for now.
        to: Quantity,
        /// Of these, units that were not to be had.
        dropped: u64,
        /// What its placements must obey now.
        terms: Terms,
    },
    /// A line is no longer wanted.
    LineCancelled {
        /// Order and line.
        line: LineKey,
        /// How many units.
        qty: Quantity,
    },
    /// A line will be ready on another day than was promised.
    PromiseChanged {
        /// Order and line.
        line: LineKey,
        /// What was promised.
        from: Promise,
        /// What is promised now.
        to: Promise,
    },
    /// A request was refused for lack of stock. Raised at the first refusal, and again only after stock has come back.
    OutOfStock {
        /// Units the request asked for.
        asked: u64,
        /// Units on hand that nobody has been promised.
        available: u64,
    },
    /// The tables differed from what the events tell, and were mended.
    BooksRepaired {
        /// How many differences there were.
        differences: u64,
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
            Self::ProductChanged { .. } => "ProductChanged",
            Self::BatchCreated { .. } => "BatchCreated",
            Self::BatchQuantityChanged { .. } => "BatchQuantityChanged",
            Self::BatchEtaChanged { .. } => "BatchEtaChanged",
            Self::BatchReceived { .. } => "BatchReceived",
            Self::BatchCancelled { .. } => "BatchCancelled",
            Self::LineAccepted { .. } => "LineAccepted",
            Self::Held { .. } => "Held",
            Self::HoldExtended { .. } => "HoldExtended",
            Self::HoldExpired { .. } => "HoldExpired",
            Self::HoldLost { .. } => "HoldLost",
            Self::Allocated { .. } => "Allocated",
            Self::Deallocated { .. } => "Deallocated",
            Self::Backordered { .. } => "Backordered",
            Self::LineChanged { .. } => "LineChanged",
            Self::LineCancelled { .. } => "LineCancelled",
            Self::PromiseChanged { .. } => "PromiseChanged",
            Self::OutOfStock { .. } => "OutOfStock",
            Self::BooksRepaired { .. } => "BooksRepaired",
        }
    }

    /// The batch whose numbers it changed.
    pub fn batch(&self) -> Option<&BatchRef> {
        match self {
            Self::BatchCreated { reference, .. }
            | Self::BatchQuantityChanged { reference, .. }
            | Self::BatchEtaChanged { reference, .. }
            | Self::BatchReceived { reference, .. }
            | Self::BatchCancelled { reference, .. }
            | Self::Held { reference, .. }
            | Self::HoldExpired { reference, .. }
            | Self::Allocated { reference, .. }
            | Self::Deallocated { reference, .. } => Some(reference),
            Self::ProductChanged { .. }
            | Self::LineAccepted { .. }
            | Self::HoldExtended { .. }
            | Self::HoldLost { .. }
            | Self::Backordered { .. }
            | Self::LineChanged { .. }
            | Self::LineCancelled { .. }
            | Self::PromiseChanged { .. }
            | Self::OutOfStock { .. }
            | Self::BooksRepaired { .. } => None,
        }
    }

    /// The line it is about.
    pub fn line(&self) -> Option<&LineKey> {
        match self {
            Self::LineAccepted { line, .. }
            | Self::Held { line, .. }
            | Self::HoldExtended { line, .. }
            | Self::HoldExpired { line, .. }
            | Self::HoldLost { line, .. }
            | Self::Allocated { line, .. }
            | Self::Deallocated { line, .. }
            | Self::Backordered { line, .. }
            | Self::LineChanged { line, .. }
            | Self::LineCancelled { line, .. }
            | Self::PromiseChanged { line, .. } => Some(line),
            Self::ProductChanged { .. }
            | Self::BatchCreated { .. }
            | Self::BatchQuantityChanged { .. }
            | Self::BatchEtaChanged { .. }
            | Self::BatchReceived { .. }
            | Self::BatchCancelled { .. }
            | Self::OutOfStock { .. }
            | Self::BooksRepaired { .. } => None,
        }
    }

    /// Whether somebody who waits might be served after it (rule 10).
    pub fn may_serve_queue(&self) -> bool {
        match self {
            Self::ProductChanged { .. }
            | Self::BatchCreated { .. }
            | Self::BatchQuantityChanged { .. }
            | Self::BatchEtaChanged { .. } // a line may have to have its units by a day
            | Self::BatchReceived { .. }
            | Self::HoldExpired { .. }
            | Self::Deallocated { .. }
            | Self::LineChanged { .. } => true,
            Self::BatchCancelled { .. }
            | Self::LineAccepted { .. }
            | Self::Held { .. }
            | Self::HoldExtended { .. }
            | Self::HoldLost { .. }
            | Self::Allocated { .. }
            | Self::Backordered { .. }
            | Self::LineCancelled { .. }
            | Self::PromiseChanged { .. }
            | Self::OutOfStock { .. }
            | Self::BooksRepaired { .. } => false,
        }
    }
}
