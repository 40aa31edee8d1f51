//! What the domain answers and holds, in the model's words, so that the two can be compared.

use std::collections::BTreeMap;

use allocation_domain::{AcceptedLine, Batch, Rejection};

use crate::model::Refused;
use crate::stock::{BatchView, LineView};

impl From<&Rejection> for Refused {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::UnknownSku(_) => Self::UnknownSku,
            Rejection::UnknownBatch { .. } => Self::UnknownBatch,
            Rejection::UnknownOrder(_) => Self::UnknownOrder,
            Rejection::UnknownLine { .. } => Self::UnknownLine,
            Rejection::BatchExists { .. } => Self::BatchExists,
            Rejection::AtLocation { .. } => Self::AtLocation,
            Rejection::PreconditionFailed { .. } => Self::PreconditionFailed,
            Rejection::NotAllowed { .. } => Self::NotAllowed,
            Rejection::LineConflict(_) => Self::Conflict,
            Rejection::Short(_) => Self::Short,
            Rejection::QueueFull { .. } => Self::QueueFull,
            Rejection::NotOnHand(_) => Self::NotOnHand,
            Rejection::TooMany { .. } => Self::TooMany,
            Rejection::TooFew { .. } => Self::TooFew,
            Rejection::ExpiryMissing { .. } => Self::ExpiryMissing,
            Rejection::LogInconsistent { .. } | Rejection::KeyReused(_) | Rejection::TooManyHolds { .. } => {
                Self::Invalid
            }
        }
    }
}

impl From<&Batch> for BatchView {
    fn from(batch: &Batch) -> Self {
        Self {
            location: batch.location.clone(),
            quantity: batch.quantity.units(),
            declared: batch.declared.units(),
            quarantined: batch.quarantined,
            held: batch.held,
            allocated: batch.allocated,
            eta: batch.eta,
            expires_on: batch.expires_on,
            cancelled: batch.cancelled,
            // Whether an empty batch has expired is looked at when something comes into it.
            expired: batch.expired && batch.is_open(),
        }
    }
}

impl From<&AcceptedLine> for LineView {
    fn from(line: &AcceptedLine) -> Self {
        let mut placements = BTreeMap::new();
        for (reference, part) in line.placements() {
            *placements.entry(reference.clone()).or_default() += part.qty.units();
        }
        Self {
            state: line.state().name(),
            requested: line.requested.units(),
            placements,
            locked: line.locked(),
            shipped: line.shipped.iter().map(|shipped| (shipped.batch.clone(), shipped.qty)).collect(),
            returned: line.returned(),
            backordered: line.backordered(),
            queued: line.queued,
            dropped: line.dropped,
            cancelled: line.cancelled,
            lapsed: line.lapsed,
            until: line.hold,
            terms: line.terms.clone(),
        }
    }
}
