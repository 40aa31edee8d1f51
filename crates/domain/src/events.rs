//! Events: things that happened. Every change raises one, and they alone tell the rest of the company.

use time::{Date, OffsetDateTime};

use crate::batch::Eta;
use crate::commands::{Adjustment, Rest, ReturnTo};
use crate::ids::{BatchQuantity, BatchRef, Location, Quantity, Reason};
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
        /// The last day on which it is of use; none: it always is.
        expires_on: Option<Date>,
        /// Where it lies, or will lie.
        location: Location,
    },
    /// A batch is of use until another day.
    ExpiryChanged {
        /// The shipment.
        reference: BatchRef,
        /// The last day before.
        from: Option<Date>,
        /// The last day now.
        to: Option<Date>,
        /// Whether that day is over.
        expired: bool,
    },
    /// A batch's last day of use is over.
    BatchExpired {
        /// The shipment.
        reference: BatchRef,
        /// Units in it.
        qty: BatchQuantity,
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
    /// What a batch in the warehouse holds was corrected.
    BatchAdjusted {
        /// The shipment.
        reference: BatchRef,
        /// What was found.
        kind: AdjustmentKind,
        /// Units before.
        from: BatchQuantity,
        /// Units now.
        to: BatchQuantity,
        /// Why, in somebody's words.
        reason: Reason,
    },
    /// Units were set aside.
    Quarantined {
        /// The shipment.
        reference: BatchRef,
        /// How many.
        qty: BatchQuantity,
    },
    /// Units that were set aside are free again.
    Released {
        /// The shipment.
        reference: BatchRef,
        /// How many.
        qty: BatchQuantity,
    },
    /// Free units left a batch for another location, where they are expected as a batch of their own.
    Transferred {
        /// The shipment that they left.
        reference: BatchRef,
        /// How many.
        qty: Quantity,
        /// The batch that they are now.
        to: BatchRef,
    },
    /// Little is left to promise at a location (rule 19).
    LowStock {
        /// Where.
        location: Location,
        /// Units on hand there that can be promised.
        available: u64,
        /// What it has fallen to or below.
        threshold: u64,
    },
    /// There is enough again (rule 19).
    Restocked {
        /// Where.
        location: Location,
        /// Units on hand there that can be promised.
        available: u64,
        /// What it has risen to or above.
        threshold: u64,
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
        /// Whether they were held before.
        held: bool,
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
        /// Whether they were held.
        held: bool,
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
    /// Units of a line were released to picking.
    Locked {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many.
        qty: Quantity,
        /// In this shipment.
        reference: BatchRef,
    },
    /// Units of a line were taken back from picking.
    Unlocked {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many.
        qty: Quantity,
        /// In this shipment.
        reference: BatchRef,
    },
    /// Units of a line have left.
    Shipped {
        /// Order and line.
        line: LineKey,
        /// Their seniority.
        accepted: u64,
        /// How many.
        qty: Quantity,
        /// From this shipment.
        reference: BatchRef,
    },
    /// Shipped units have come back.
    Returned {
        /// Order and line.
        line: LineKey,
        /// How many.
        qty: Quantity,
        /// Into this shipment; scrapped ones go into none, and this is where they came from.
        reference: BatchRef,
        /// What became of them.
        to: ReturnTo,
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

/// What was found of a batch (rule 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustmentKind {
    /// Units are of no use any more.
    Damaged,
    /// Units have turned up.
    Found,
    /// All were counted.
    Recount,
}

impl AdjustmentKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Damaged, Self::Found, Self::Recount];

    /// Its name in API and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Found => "found",
            Self::Recount => "recount",
        }
    }
}

impl From<Adjustment> for AdjustmentKind {
    fn from(adjustment: Adjustment) -> Self {
        match adjustment {
            Adjustment::Damaged(_) => Self::Damaged,
            Adjustment::Found(_) => Self::Found,
            Adjustment::Recount(_) => Self::Recount,
        }
    }
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
            Self::ExpiryChanged { .. } => "ExpiryChanged",
            Self::BatchExpired { .. } => "BatchExpired",
            Self::BatchReceived { .. } => "BatchReceived",
            Self::BatchCancelled { .. } => "BatchCancelled",
            Self::BatchAdjusted { .. } => "BatchAdjusted",
            Self::Quarantined { .. } => "Quarantined",
            Self::Released { .. } => "Released",
            Self::Transferred { .. } => "Transferred",
            Self::LowStock { .. } => "LowStock",
            Self::Restocked { .. } => "Restocked",
            Self::LineAccepted { .. } => "LineAccepted",
            Self::Held { .. } => "Held",
            Self::HoldExtended { .. } => "HoldExtended",
            Self::HoldExpired { .. } => "HoldExpired",
            Self::HoldLost { .. } => "HoldLost",
            Self::Allocated { .. } => "Allocated",
            Self::Deallocated { .. } => "Deallocated",
            Self::Backordered { .. } => "Backordered",
            Self::Locked { .. } => "Locked",
            Self::Unlocked { .. } => "Unlocked",
            Self::Shipped { .. } => "Shipped",
            Self::Returned { .. } => "Returned",
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
            | Self::ExpiryChanged { reference, .. }
            | Self::BatchExpired { reference, .. }
            | Self::BatchReceived { reference, .. }
            | Self::BatchCancelled { reference, .. }
            | Self::BatchAdjusted { reference, .. }
            | Self::Quarantined { reference, .. }
            | Self::Released { reference, .. }
            | Self::Transferred { reference, .. }
            | Self::Held { reference, .. }
            | Self::HoldExpired { reference, .. }
            | Self::Allocated { reference, .. }
            | Self::Deallocated { reference, .. }
            | Self::Shipped { reference, .. }
            | Self::Returned { reference, .. } => Some(reference),
            Self::ProductChanged { .. }
            | Self::LowStock { .. }
            | Self::Restocked { .. }
            | Self::LineAccepted { .. }
            | Self::HoldExtended { .. }
            | Self::HoldLost { .. }
            | Self::Backordered { .. }
            | Self::Locked { .. }
            | Self::Unlocked { .. }
            | Self::LineChanged { .. }
            | Self::LineCancelled { .. }
            | Self::PromiseChanged { .. }
            | Self::OutOfStock { .. }
            | Self::BooksRepaired { .. } => None,
        }
    }

    /// Whether it changes nothing of a batch but what is placed in it.
    pub fn only_places(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::HoldExpired { .. } | Self::Allocated { .. } | Self::Deallocated { .. })
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
            | Self::Locked { line, .. }
            | Self::Unlocked { line, .. }
            | Self::Shipped { line, .. }
            | Self::Returned { line, .. }
            | Self::LineChanged { line, .. }
            | Self::LineCancelled { line, .. }
            | Self::PromiseChanged { line, .. } => Some(line),
            Self::ProductChanged { .. }
            | Self::BatchCreated { .. }
            | Self::BatchQuantityChanged { .. }
            | Self::BatchEtaChanged { .. }
            | Self::ExpiryChanged { .. }
            | Self::BatchExpired { .. }
            | Self::BatchReceived { .. }
            | Self::BatchCancelled { .. }
            | Self::BatchAdjusted { .. }
            | Self::Quarantined { .. }
            | Self::Released { .. }
            | Self::Transferred { .. }
            | Self::LowStock { .. }
            | Self::Restocked { .. }
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
            | Self::ExpiryChanged { .. }
            | Self::BatchReceived { .. }
            | Self::BatchAdjusted { .. }
            | Self::Quarantined { .. } // whoever lost a place may leave room for somebody smaller
            | Self::Released { .. }
            | Self::Unlocked { .. } // it may move to earlier stock
            | Self::Shipped { .. }
            | Self::Returned { .. }
            | Self::HoldExpired { .. }
            | Self::Deallocated { .. }
            | Self::LineChanged { .. } => true,
            Self::BatchCancelled { .. }
            | Self::Transferred { .. } // the batch that it makes may
            | Self::LowStock { .. }
            | Self::Restocked { .. }
            | Self::BatchExpired { .. }
            | Self::LineAccepted { .. }
            | Self::Held { .. }
            | Self::HoldExtended { .. }
            | Self::HoldLost { .. }
            | Self::Allocated { .. }
            | Self::Backordered { .. }
            | Self::Locked { .. }
            | Self::LineCancelled { .. }
            | Self::PromiseChanged { .. }
            | Self::OutOfStock { .. }
            | Self::BooksRepaired { .. } => false,
        }
    }
}
