//! Strategies: which of the batches that could serve a line on the same day go first (rules 2 and 4). One file each.
//!
//! **How to add one**: a variant of [`Strategy`] with its name, a file with a function from an `Offer` to what it is ordered by, and its arm in
//! `Strategy::order`. One that may choose a later day than the first that covers the line says so in `Strategy::prefers_few`.

mod earliest;
mod fefo;
mod fifo;

use std::cmp::Reverse;

use time::Date;

/// Which batches go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Strategy {
    /// Whatever is ready first.
    #[default]
    Earliest,
    /// First expired, first out.
    Fefo,
    /// First in, first out.
    Fifo,
    /// As few batches as can be, even on a later day.
    FewestSplits,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Earliest, Self::Fefo, Self::Fifo, Self::FewestSplits];

    /// The strategy's name in API and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Fefo => "fefo",
            Self::Fifo => "fifo",
            Self::FewestSplits => "fewest_splits",
        }
    }

    /// What offers are ordered by: the least goes first.
    pub(crate) fn order(self, offer: &Offer) -> Order {
        match self {
            Self::Earliest | Self::FewestSplits => earliest::order(offer),
            Self::Fefo => fefo::order(offer),
            Self::Fifo => fifo::order(offer),
        }
    }

    /// Whether fewer batches on a later day are better than more on an earlier one.
    pub(crate) fn prefers_few(self) -> bool {
        self == Self::FewestSplits
    }
}

/// A batch that a line may take from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Its place in the order of preference.
    pub(crate) at: usize,
    /// Units it can give.
    pub(crate) free: u64,
    /// The day its units are ready to ship.
    pub(crate) arrival: Date,
    /// The day on which the line could have its units.
    pub(crate) ready: Date,
    /// The last day on which they are of use.
    pub(crate) expires_on: Option<Date>,
    /// The event with which it arrived.
    pub(crate) arrived: Option<u64>,
}

/// What offers are ordered by: what the strategy looks at, then whatever is ready first, of that what came last (rule 5), then preference.
pub(crate) type Order = (Date, u64, Date, Reverse<Date>, usize);
