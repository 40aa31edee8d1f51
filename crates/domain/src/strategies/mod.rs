//! Strategies: which of the batches that could serve a line on the same day go first (rules 2 and 4), and which of the locations (rule 6).
//! One file each.
//!
//! **How to add one**: a variant of [`Strategy`] with its name, a file with a function from an `Offer` to what it is ordered by, and its arm in
//! `Strategy::order`. One that may choose a later day than the first that covers the line says in `Strategy::location_order` what it chooses a
//! location by.

mod earliest;
mod fefo;
mod fewest_splits;
mod fifo;
mod location_priority;

use std::cmp::Reverse;

use time::Date;

use crate::ids::Location;

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
    /// The location that the line prefers, even on a later day.
    LocationPriority,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Earliest, Self::Fefo, Self::Fifo, Self::FewestSplits, Self::LocationPriority];

    /// The strategy's name in API and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Fefo => "fefo",
            Self::Fifo => "fifo",
            Self::FewestSplits => "fewest_splits",
            Self::LocationPriority => "location_priority",
        }
    }

    /// What the offers of one location are ordered by: the least goes first.
    pub(crate) fn order(self, offer: &Offer<'_>) -> Order {
        match self {
            Self::Earliest | Self::FewestSplits | Self::LocationPriority => earliest::order(offer),
            Self::Fefo => fefo::order(offer),
            Self::Fifo => fifo::order(offer),
        }
    }

    /// What locations that can serve a line are chosen by: the least is chosen.
    pub(crate) fn location_order(self, serves: &Serves) -> LocationOrder {
        match self {
            Self::Earliest | Self::Fefo | Self::Fifo => earliest::location_order(serves),
            Self::FewestSplits => fewest_splits::location_order(serves),
            Self::LocationPriority => location_priority::location_order(serves),
        }
    }
}

/// A batch that a line may take from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'a> {
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
    /// Where it is.
    pub(crate) location: &'a Location,
    /// How much the line prefers that: the less, the more.
    pub(crate) rank: usize,
}

/// What offers are ordered by: what the strategy looks at, then whatever is ready first, of that what came last (rule 5), then preference.
pub(crate) type Order = (Date, u64, Date, Reverse<Date>, usize);

/// How a location, or several together, can serve a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serves {
    /// The day on which the line could have all its units.
    pub(crate) ready: Date,
    /// How much the line prefers it: the less, the more.
    pub(crate) rank: usize,
    /// In how many parts.
    pub(crate) parts: usize,
}

/// What locations are ordered by; what is equal is decided by the batch that would go first.
pub(crate) type LocationOrder = (u64, u64, u64);

fn day(date: Date) -> u64 {
    u64::try_from(date.to_julian_day() - Date::MIN.to_julian_day()).unwrap_or(0)
}

fn count(number: usize) -> u64 {
    number as u64
}
