//! What the domain says no to. A rejection is an answer, not a failure: nothing has changed.

use crate::ids::{BatchRef, Location, OrderId, Quantity, Sku};
use crate::order_line::LineKey;

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Longer than allowed.
    #[error("must be at most {max} bytes, not {bytes}")]
    TooLong {
        /// Allowed bytes.
        max: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// A control character somewhere.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// Space before or after.
    #[error("must not begin or end with white space")]
    OuterSpace,
    /// `.` and `..` would vanish from a URL's path.
    #[error("must not be '.' or '..'")]
    DotSegment,
}

/// A number of units out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from {min} to {max}")]
pub struct InvalidQuantity {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// What a request lacks of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The product.
    pub sku: Sku,
    /// Units the request asks for.
    pub asked: u64,
    /// Units on hand that nobody has been promised.
    pub available: u64,
    /// Units that the request could have had by its terms, arrived or not.
    pub promisable: u64,
}

/// A line that is already known, as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Accepted for another quantity.
    OtherQuantity {
        /// The product.
        sku: Sku,
        /// Order and line.
        line: LineKey,
        /// What was accepted.
        accepted: Quantity,
        /// What is asked now.
        asked: Quantity,
    },
    /// Cancelled, and stays so.
    Cancelled {
        /// The product.
        sku: Sku,
        /// Order and line.
        line: LineKey,
    },
}

impl Conflict {
    /// The product.
    pub fn sku(&self) -> &Sku {
        match self {
            Self::OtherQuantity { sku, .. } | Self::Cancelled { sku, .. } => sku,
        }
    }

    /// Order and line.
    pub fn line(&self) -> &LineKey {
        match self {
            Self::OtherQuantity { line, .. } | Self::Cancelled { line, .. } => line,
        }
    }
}

/// The domain says no. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// These SKUs were never made known, nor a batch of them.
    #[error("unknown SKU {}", list(.0))]
    UnknownSku(Vec<Sku>),
    /// The product has no such batch.
    #[error("unknown batch {reference} of SKU {sku}")]
    UnknownBatch {
        /// The product.
        sku: Sku,
        /// The shipment.
        reference: BatchRef,
    },
    /// No line of this order was ever accepted.
    #[error("unknown order {0}")]
    UnknownOrder(OrderId),
    /// The order has no line for this SKU.
    #[error("order {order_id} has no line for SKU {sku}")]
    UnknownLine {
        /// The order.
        order_id: OrderId,
        /// The product.
        sku: Sku,
    },
    /// A batch of that name is known, with another quantity or date.
    #[error("batch {reference} of SKU {sku} is known with another quantity, ETA, expiry or location")]
    BatchExists {
        /// The product.
        sku: Sku,
        /// The shipment.
        reference: BatchRef,
    },
    /// The batch is at that location, or at another one.
    #[error("batch {reference} of SKU {sku} is at location {location}")]
    AtLocation {
        /// The product.
        sku: Sku,
        /// The shipment.
        reference: BatchRef,
        /// Where it is.
        location: Location,
    },
    /// The declaration is not what the caller last saw.
    #[error("batch {reference} of SKU {sku} has changed since")]
    PreconditionFailed {
        /// The product.
        sku: Sku,
        /// The shipment.
        reference: BatchRef,
    },
    /// A line or a batch is in a state in which this can't be done.
    #[error("can't {command} {subject}: it is {state}")]
    NotAllowed {
        /// What it is about, in words.
        subject: String,
        /// What was to be done.
        command: &'static str,
        /// The state's name.
        state: &'static str,
    },
    /// It has not arrived yet.
    #[error("what {0} has is not on hand")]
    NotOnHand(String),
    /// More units than there are.
    #[error("can't {command} {asked} units of {subject}: there are {most}")]
    TooMany {
        /// What it is about, in words.
        subject: String,
        /// What was to be done.
        command: &'static str,
        /// Units asked for.
        asked: u64,
        /// The most there could be.
        most: u64,
    },
    /// Fewer units than have left or are being picked.
    #[error("{subject} can't ask for less than {least} units, which are shipped or being picked")]
    TooFew {
        /// What it is about, in words.
        subject: String,
        /// The least.
        least: u64,
    },
    /// Every batch of the product must say when it expires.
    #[error("batch {reference} of SKU {sku} must say when it expires")]
    ExpiryMissing {
        /// The product.
        sku: Sku,
        /// The shipment.
        reference: BatchRef,
    },
    /// The caller's name for the request stands for something else.
    #[error("the request key {0:?} was used for something else")]
    KeyReused(String),
    /// The queue takes no more units of new requests (rule 11).
    #[error("the queue of SKU {sku} takes {cap} units: {queued} wait, {asked} more are too many")]
    QueueFull {
        /// The product.
        sku: Sku,
        /// Units that may wait.
        cap: u64,
        /// Units of requests that wait.
        queued: u64,
        /// Units this request would add.
        asked: u64,
    },
    /// The caller has as many holds in force as they may have.
    #[error("{in_force} holds of yours are in force, {asked} more are too many: you may have {most}")]
    TooManyHolds {
        /// Lines that are held for them.
        in_force: u64,
        /// Lines that were to be held.
        asked: u64,
        /// Lines that may be.
        most: u64,
    },
    /// The events of a product contradict each other, so that nothing can be mended from them.
    #[error("the log of SKU {sku} can't be folded: {why}")]
    LogInconsistent {
        /// The product.
        sku: Sku,
        /// The first contradiction.
        why: String,
    },
    /// Lines that are known as something else (rule 9).
    #[error("{}", .0.iter().map(conflict).collect::<Vec<_>>().join("; "))]
    LineConflict(Vec<Conflict>),
    /// Not enough stock (rule 8, `reject`).
    #[error("out of stock for SKU {}", list_shortages(.0))]
    Short(Vec<Shortage>),
}

fn list(skus: &[Sku]) -> String {
    skus.iter().map(Sku::as_str).collect::<Vec<_>>().join(", ")
}

fn list_shortages(shortages: &[Shortage]) -> String {
    shortages.iter().map(|s| s.sku.as_str()).collect::<Vec<_>>().join(", ")
}

fn conflict(conflict: &Conflict) -> String {
    match conflict {
        Conflict::OtherQuantity { sku, line, accepted, asked } => {
            format!("order {} already has {accepted} of {sku}, not {asked}", line.order_id)
        }
        Conflict::Cancelled { sku, line } => format!("the line of order {} for {sku} is cancelled", line.order_id),
    }
}
