//! A batch: units of one SKU that arrive together.

use time::{Date, Duration};

use crate::calendar::Calendar;
use crate::ids::{BatchQuantity, BatchRef, Location};

/// When a batch is expected; `None` once it has arrived (on hand in the warehouse).
pub type Eta = Option<Date>;

/// Entity: units of one SKU that share arrival, location and expiry, known by SKU and reference while quantity and date change.
///
/// Its lines are not listed here: only their sums are, so that a batch costs the same however many orders it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The shipment's reference.
    pub reference: BatchRef,
    /// Where it lies, or will lie once it has arrived.
    pub location: Location,
    /// Units there are: on hand when arrived, else incoming.
    pub quantity: BatchQuantity,
    /// Units it was last declared to have (rule 15): adjustments, shipments and returns leave that as it is.
    pub declared: BatchQuantity,
    /// Units that are set aside, and not placed (rule 18).
    pub quarantined: u64,
    /// Units placed for holds.
    pub held: u64,
    /// Units placed for order lines and confirmed. With `held` and `quarantined`, never more than `quantity`.
    pub allocated: u64,
    /// When it is expected.
    pub eta: Eta,
    /// The sequence number of the event with which it arrived.
    pub arrived: Option<u64>,
    /// The last day on which its units are of use; none: they always are (rule 7).
    pub expires_on: Option<Date>,
    /// That day is over.
    pub expired: bool,
    /// It will never come.
    pub cancelled: bool,
    /// The sequence number of the event that last changed the declaration (quantity, ETA, receipt or cancellation).
    pub revision: u64,
}

/// The state of a batch, as in the table of [`crate::states::batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    /// On its way.
    Expected,
    /// In the warehouse.
    OnHand,
    /// Of no use any more, in the warehouse or on its way.
    Expired,
    /// Will never come.
    Cancelled,
}

impl BatchState {
    /// The state's name in API and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::OnHand => "on_hand",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Batch {
    /// A batch at the usual location, of which nothing is placed yet.
    pub fn new(reference: BatchRef, quantity: BatchQuantity, eta: Eta, revision: u64) -> Self {
        Self {
            reference,
            location: Location::default(),
            quantity,
            declared: quantity,
            quarantined: 0,
            held: 0,
            allocated: 0,
            eta,
            arrived: eta.is_none().then_some(revision),
            expires_on: None,
            expired: false,
            cancelled: false,
            revision,
        }
    }

    /// Units placed for somebody.
    pub fn placed(&self) -> u64 {
        self.held + self.allocated
    }

    /// Units that can be placed: neither set aside nor promised to anybody.
    pub fn free(&self) -> u64 {
        self.usable().saturating_sub(self.placed())
    }

    /// Units that are neither set aside nor expired.
    pub fn usable(&self) -> u64 {
        if self.expired { 0 } else { self.quantity.units().saturating_sub(self.quarantined) }
    }

    /// Units that may not be placed.
    pub fn unavailable(&self) -> u64 {
        self.quantity.units() - self.usable()
    }

    /// Another number of units. What was set aside goes last.
    pub(crate) fn hold_units(&mut self, quantity: BatchQuantity) {
        self.quantity = quantity;
        self.quarantined = self.quarantined.min(quantity.units());
    }

    /// Whether it lies in the warehouse.
    pub fn has_arrived(&self) -> bool {
        self.eta.is_none()
    }

    /// Its state.
    pub fn state(&self) -> BatchState {
        match (self.cancelled, self.expired, self.eta) {
            (true, ..) => BatchState::Cancelled,
            (false, true, _) => BatchState::Expired,
            (false, false, None) => BatchState::OnHand,
            (false, false, Some(_)) => BatchState::Expected,
        }
    }

    /// Whether there is anything in it. A batch that is not open is history.
    pub fn is_open(&self) -> bool {
        self.quantity > BatchQuantity::ZERO
    }

    /// The day its units are ready to ship: today for an arrived batch, else the later of its ETA and tomorrow.
    pub fn arrival(&self, calendar: &Calendar) -> Date {
        arrival(self.eta, calendar.today(&self.location))
    }

    /// Whether it is due for more than so many days, and has not come (rule 25).
    pub fn is_overdue(&self, days: u16, calendar: &Calendar) -> bool {
        let last = |eta: Date| eta.checked_add(Duration::days(days.into()));
        self.eta.and_then(last).is_some_and(|last| last < calendar.today(&self.location))
    }

    /// Whether its units keep for so many days from then on (rule 7).
    pub fn keeps(&self, from: Date, days: u16) -> bool {
        self.expires_on
            .is_none_or(|last| from.checked_add(Duration::days(days.into())).is_some_and(|until| until <= last))
    }

    /// Sort key of rule 2: arrived before expected, then earliest ETA, then reference.
    pub fn preference(&self) -> (Eta, &BatchRef) {
        (self.eta, &self.reference) // `None` sorts before any date
    }
}

/// The day on which units with this ETA are ready to ship, seen from `today`.
pub fn arrival(eta: Eta, today: Date) -> Date {
    match eta {
        None => today,
        Some(eta) => eta.max(today.next_day().unwrap_or(Date::MAX)),
    }
}
