//! Order lines: what is asked for, on what terms, and what has become of it.

use std::cmp::Reverse;
use std::sync::Arc;

use time::{Date, OffsetDateTime};

use crate::batch::Eta;
use crate::ids::{BatchRef, LineId, Location, OrderId, Quantity, Sku};

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
    /// What its placements must obey.
    pub terms: Terms,
}

impl OrderLine {
    /// A line `1` of an order, on the usual terms.
    pub fn new(order_id: OrderId, sku: Sku, qty: Quantity) -> Self {
        Self { key: LineKey { order_id, line: LineId::default() }, sku, qty, terms: Terms::default() }
    }
}

/// Whether a line's units may come from several batches (rules 3 and 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Split {
    /// All of it from one batch: the original's rule.
    Never,
    /// In parts at one location, of which none but the remainder is smaller than this.
    Parts(Quantity),
    /// The same, at any number of locations.
    OverLocations(Quantity),
}

impl Split {
    /// Whether it may come from several.
    pub fn is_allowed(self) -> bool {
        self != Self::Never
    }

    /// The smallest part but the remainder; of no meaning where there are none.
    pub fn least(self) -> Quantity {
        match self {
            Self::Never => Quantity::ONE,
            Self::Parts(least) | Self::OverLocations(least) => least,
        }
    }
}

/// What a line's placements must obey, and when it is its turn.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Terms {
    /// Who goes first: higher before lower (seniority).
    pub priority: i32,
    /// The latest day it may be promised for, inclusive (rule 5).
    pub by: Option<Date>,
    /// The day it is wanted, and no earlier (rule 5).
    pub not_before: Option<Date>,
    /// Whether it may come from several batches.
    pub split: Split,
    /// For how many days its units must be of use from the day they are ready (rule 7); none: as the product says.
    pub min_days: Option<u16>,
    /// The locations it accepts, in order of preference (rule 6); none: any.
    pub locations: Option<Locations>,
}

/// Value object: locations in order of preference, each once, and at least one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Locations(Arc<[Location]>);

/// Why locations are no order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {max} locations, each once", max = Locations::MAX)]
pub struct InvalidLocations;

impl Locations {
    /// The most that a line may name.
    pub const MAX: usize = 64;

    /// Checks that there are some, and each once.
    ///
    /// # Errors
    /// When there are none, too many, or one twice.
    pub fn new(locations: Vec<Location>) -> Result<Self, InvalidLocations> {
        let twice = || locations.iter().enumerate().any(|(at, location)| locations[..at].contains(location));
        // A list that is far too long is not looked at any further.
        if locations.is_empty() || locations.len() > Self::MAX || twice() {
            return Err(InvalidLocations);
        }
        Ok(Self(locations.into()))
    }

    /// The most preferred first.
    pub fn iter(&self) -> impl Iterator<Item = &Location> {
        self.0.iter()
    }

    /// Its place in the order of preference; none: it is not among them.
    pub fn rank(&self, location: &Location) -> Option<usize> {
        self.0.iter().position(|accepted| accepted == location)
    }
}

impl Default for Terms {
    /// Any day, anywhere, in as many parts as it takes, and its turn is when it came.
    fn default() -> Self {
        let split = Split::Parts(Quantity::ONE);
        Self { priority: 0, by: None, not_before: None, split, min_days: None, locations: None }
    }
}

impl Terms {
    /// As the Python original promises: whole from one batch.
    pub fn whole() -> Self {
        Self { split: Split::Never, ..Self::default() }
    }

    /// Whether they say nothing but perhaps that the line must stay whole.
    pub fn are_usual(&self) -> bool {
        *self == Self::default() || *self == Self::whole()
    }

    /// How much a location is preferred: the less, the more. `None`: it is not accepted (rule 6).
    pub fn rank(&self, location: &Location) -> Option<usize> {
        self.locations.as_ref().map_or(Some(0), |accepted| accepted.rank(location))
    }

    /// The day on which the line could have units that arrive on this day: a promise is for no day before `not_before`.
    pub fn ready(&self, arrival: Date) -> Date {
        self.not_before.map_or(arrival, |not_before| arrival.max(not_before))
    }

    /// Whether units that arrive on this day can be promised in time.
    pub fn allow(&self, arrival: Date) -> bool {
        self.by.is_none_or(|by| self.ready(arrival) <= by)
    }
}

/// Whose turn comes first: higher priority, then earlier acceptance. The lesser goes first.
pub type Seniority = (Reverse<i32>, u64);

/// Some of a line's units: in one batch, or waiting. Its acceptance is its seniority's second half; moving to another batch keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The sequence number of the event that accepted these units.
    pub accepted: u64,
    /// Where they are; none: they wait in the queue.
    pub batch: Option<BatchRef>,
    /// How many.
    pub qty: Quantity,
    /// Whether they are released to picking (rule 20).
    pub locked: bool,
}

/// Units of a line that have left, from one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shipped {
    /// Where they came from.
    pub batch: BatchRef,
    /// How many have left.
    pub qty: u64,
    /// How many of these have come back (rule 21).
    pub returned: u64,
}

/// Names units of a line that were accepted together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PartKey {
    /// Order and line.
    pub line: LineKey,
    /// The sequence number of the event that accepted them.
    pub accepted: u64,
}

impl Part {
    /// Parts are kept in this order: by acceptance, the placed ones before those that wait, and of one batch those that are locked last.
    fn order(&self) -> (u64, bool, Option<&BatchRef>, bool) {
        (self.accepted, self.batch.is_none(), self.batch.as_ref(), self.locked)
    }
}

/// What a line is as a whole: the first of these that is true of any of its units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LineState {
    /// Placed for a while.
    Held,
    /// Some of it waits.
    Backordered,
    /// All that has not left has a place.
    Allocated,
    /// All of it has left that was not given up.
    Shipped,
    /// The hold ran out, or lost its place.
    Lapsed,
    /// No longer wanted; kept so that the same request cannot promise twice.
    Cancelled,
}

impl LineState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Held, Self::Backordered, Self::Allocated, Self::Shipped, Self::Lapsed, Self::Cancelled];

    /// The state's name in API and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Backordered => "backordered",
            Self::Allocated => "allocated",
            Self::Shipped => "shipped",
            Self::Lapsed => "lapsed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// When all of a line is ready to ship, as events tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Not known: some of it waits.
    None,
    /// At once.
    OnHand,
    /// On a day.
    On(Date),
}

/// An order line that a product has accepted.
///
/// Each of its units is in exactly one place: `requested` is the sum of all parts and of what has left, was dropped, cancelled and has lapsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptedLine {
    /// Order and line.
    pub key: LineKey,
    /// What the caller asked for.
    pub requested: Quantity,
    /// The sequence number of the event that accepted the line first.
    pub accepted: u64,
    /// What its placements must obey.
    pub terms: Terms,
    /// Its units that are ordered and have not left, by acceptance.
    pub parts: Vec<Part>,
    /// Its units that have left, by the batch that they came from, the first first.
    pub shipped: Vec<Shipped>,
    /// When the hold ends; none: its placements are confirmed.
    pub hold: Option<OffsetDateTime>,
    /// Units that were not to be had when it was asked for (rule 8).
    pub dropped: u64,
    /// Units no longer wanted.
    pub cancelled: u64,
    /// Units of a hold that ran out.
    pub lapsed: u64,
    /// Of the units that wait, those that have waited since they were asked for: what the queue's cap counts (rule 11).
    pub queued: u64,
}

impl AcceptedLine {
    /// A line as it is accepted, its units yet to be put somewhere.
    pub fn new(key: LineKey, requested: Quantity, accepted: u64, terms: Terms) -> Self {
        Self {
            key,
            requested,
            accepted,
            terms,
            parts: Vec::with_capacity(1),
            shipped: Vec::new(),
            hold: None,
            dropped: 0,
            cancelled: 0,
            lapsed: 0,
            queued: 0,
        }
    }

    /// Its state: the first that is true of any of its units.
    pub fn state(&self) -> LineState {
        if self.hold.is_some() {
            LineState::Held
        } else if self.backordered() > 0 {
            LineState::Backordered
        } else if !self.parts.is_empty() {
            LineState::Allocated
        } else if !self.shipped.is_empty() {
            LineState::Shipped
        } else if self.lapsed > 0 {
            LineState::Lapsed
        } else {
            LineState::Cancelled
        }
    }

    /// Parts with a place.
    pub fn placements(&self) -> impl Iterator<Item = (&BatchRef, &Part)> {
        self.parts.iter().filter_map(|part| Some((part.batch.as_ref()?, part)))
    }

    /// Parts without one.
    pub fn waiting(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.batch.is_none())
    }

    /// Units with a place.
    pub fn placed(&self) -> u64 {
        self.placements().map(|(_, part)| part.qty.units()).sum()
    }

    /// Units placed for a hold.
    pub fn held(&self) -> u64 {
        if self.hold.is_some() { self.placed() } else { 0 }
    }

    /// Units placed and confirmed.
    pub fn allocated(&self) -> u64 {
        if self.hold.is_some() { 0 } else { self.placed() }
    }

    /// Units that wait for stock.
    pub fn backordered(&self) -> u64 {
        self.waiting().map(|part| part.qty.units()).sum()
    }

    /// Units ordered: requested, and neither dropped nor given up.
    pub fn ordered(&self) -> u64 {
        self.open() + self.shipped()
    }

    /// Units ordered that have not left.
    pub fn open(&self) -> u64 {
        self.parts.iter().map(|part| part.qty.units()).sum()
    }

    /// Units released to picking.
    pub fn locked(&self) -> u64 {
        self.parts.iter().filter(|part| part.locked).map(|part| part.qty.units()).sum()
    }

    /// Units that have left.
    pub fn shipped(&self) -> u64 {
        self.shipped.iter().map(|shipped| shipped.qty).sum()
    }

    /// Units that have come back.
    pub fn returned(&self) -> u64 {
        self.shipped.iter().map(|shipped| shipped.returned).sum()
    }

    /// Whether any of it lies in this batch.
    pub fn is_in(&self, reference: &BatchRef) -> bool {
        self.placements().any(|(batch, _)| batch == reference)
    }

    /// Whether any of it was shipped from this batch.
    pub fn has_left(&self, reference: &BatchRef) -> bool {
        self.shipped.iter().any(|shipped| shipped.batch == *reference)
    }

    /// The seniority of units accepted then.
    pub fn seniority(&self, accepted: u64) -> Seniority {
        (Reverse(self.terms.priority), accepted)
    }

    /// When all of it is ready to ship, given each batch's ETA.
    pub fn promise(&self, eta: impl Fn(&BatchRef) -> Eta) -> Promise {
        if self.parts.is_empty() || self.backordered() > 0 {
            return Promise::None;
        }
        let latest = self.placements().map(|(batch, _)| eta(batch)).max().flatten();
        latest.max(self.terms.not_before).map_or(Promise::OnHand, Promise::On)
    }

    /// The same as a date, given the day on which each batch's units are ready.
    pub fn promised_date(&self, arrival: impl Fn(&BatchRef) -> Date) -> Option<Date> {
        if self.parts.is_empty() || self.backordered() > 0 {
            return None;
        }
        let latest = self.placements().map(|(batch, _)| arrival(batch)).max();
        latest.max(self.terms.not_before)
    }

    /// Puts units somewhere. What shares acceptance and place is one part; what is locked is a part of its own.
    pub(crate) fn put(&mut self, accepted: u64, batch: Option<BatchRef>, units: u64) {
        self.put_part(accepted, batch, units, false);
    }

    fn put_part(&mut self, accepted: u64, batch: Option<BatchRef>, units: u64, locked: bool) {
        if units == 0 {
            return;
        }
        let same = |part: &&mut Part| part.accepted == accepted && part.batch == batch && part.locked == locked;
        if let Some(part) = self.parts.iter_mut().find(same) {
            part.qty = Quantity::part(part.qty.units() + units);
        } else {
            self.parts.push(Part { accepted, batch, qty: Quantity::part(units), locked });
            self.parts.sort_by(|a, b| a.order().cmp(&b.order()));
        }
    }

    /// Takes units away from where they are, those that are not locked first. `false`: they are not there.
    #[must_use]
    pub(crate) fn take(&mut self, accepted: u64, batch: Option<&BatchRef>, units: u64) -> bool {
        let free = self.take_of(accepted, batch, units, false);
        let taken = free + self.take_of(accepted, batch, units - free, true);
        self.queued = self.queued.min(self.backordered());
        taken == units
    }

    /// Takes up to so many locked units, or others, and says how many it were.
    fn take_of(&mut self, accepted: u64, batch: Option<&BatchRef>, units: u64, locked: bool) -> u64 {
        let same = |part: &Part| part.accepted == accepted && part.batch.as_ref() == batch && part.locked == locked;
        let Some(at) = self.parts.iter().position(same) else { return 0 };
        let had = self.parts[at].qty.units();
        match Quantity::new(had.saturating_sub(units)) {
            Ok(left) => self.parts[at].qty = left,
            Err(_) => drop(self.parts.remove(at)),
        }
        had.min(units)
    }

    /// Releases units in a batch to picking, or takes them back. `false`: they are not there.
    #[must_use]
    pub(crate) fn lock(&mut self, accepted: u64, batch: &BatchRef, units: u64, locked: bool) -> bool {
        let taken = self.take_of(accepted, Some(batch), units, !locked);
        self.put_part(accepted, Some(batch.clone()), taken, locked);
        taken == units
    }

    /// Units leave their batch, those that are locked first. `false`: they are not there.
    #[must_use]
    pub(crate) fn ship(&mut self, accepted: u64, batch: &BatchRef, units: u64) -> bool {
        let picked = self.take_of(accepted, Some(batch), units, true);
        let taken = picked + self.take_of(accepted, Some(batch), units - picked, false);
        match self.shipped.iter_mut().find(|shipped| shipped.batch == *batch) {
            Some(shipped) => shipped.qty += taken,
            None => self.shipped.push(Shipped { batch: batch.clone(), qty: taken, returned: 0 }),
        }
        taken == units
    }

    /// From which shipments so many units come back: from this batch's first, then by the first that left. Fewer than asked: no more have left.
    pub(crate) fn coming_back(&self, into: Option<&BatchRef>, units: u64) -> Vec<(BatchRef, u64)> {
        let mut shipments: Vec<&Shipped> = self.shipped.iter().collect();
        shipments.sort_by_key(|shipped| into != Some(&shipped.batch));
        let mut left = units;
        let mut from = Vec::new();
        for shipped in shipments {
            let some = (shipped.qty - shipped.returned).min(left);
            if some > 0 {
                from.push((shipped.batch.clone(), some));
                left -= some;
            }
        }
        from
    }

    /// Units come back that have left. `false`: no so many have.
    #[must_use]
    pub(crate) fn take_back(&mut self, into: &BatchRef, units: u64) -> bool {
        let from = self.coming_back(Some(into), units);
        for (batch, units) in &from {
            let shipped = self.shipped.iter_mut().find(|shipped| shipped.batch == *batch);
            shipped.expect("it is one of them").returned += units;
        }
        from.iter().map(|(_, units)| units).sum::<u64>() == units
    }

    /// Gives up to so many waiting units, those accepted last first.
    pub(crate) fn give_up_waiting(&mut self, mut units: u64) {
        while let Some(last) = self.parts.iter().rfind(|part| part.batch.is_none()).filter(|_| units > 0) {
            let (accepted, going) = (last.accepted, last.qty.units().min(units));
            units -= going;
            if !self.take(accepted, None, going) {
                return;
            }
        }
    }

    /// Ends the line: whatever is ordered is so no longer.
    pub(crate) fn close(&mut self) {
        self.parts.clear();
        self.hold = None;
        self.queued = 0;
    }
}
