//! What safety stock leaves of a location's free units, day by day (rules 19 and 25).

use time::Date;

use crate::batch::Batch;
use crate::calendar::Calendar;
use crate::ids::Location;
use crate::product::Settings;
use crate::strategies::Offer;

/// `S(l)`: free units that are never promised.
pub(crate) fn safety_stock(settings: &Settings, location: &Location) -> u64 {
    settings.levels.get(location).map_or(0, |level| level.safety_stock)
}

/// Whether a batch is due for so long that it counts for no new promise.
pub(crate) fn is_overdue(batch: &Batch, settings: &Settings, calendar: &Calendar) -> bool {
    settings.overdue_days.is_some_and(|days| batch.is_overdue(days, calendar))
}

/// Whether units of a batch are ready and of use on a day.
pub(crate) fn counts(batch: &Batch, by: Date, settings: &Settings, calendar: &Calendar) -> bool {
    batch.arrival(calendar) <= by && batch.keeps(by, 0) && !is_overdue(batch, settings, calendar)
}

/// What a line may still take from each batch: all that is free, but at locations with safety stock only what leaves that untouched on the day that
/// each batch it takes from arrives.
#[derive(Clone)]
pub(crate) struct Budget<'a> {
    /// `F(l, d) − S(l)` where it matters: at locations with safety stock, on each day that an offer there arrives.
    limits: Vec<Limit<'a>>,
}

#[derive(Clone)]
struct Limit<'a> {
    location: &'a Location,
    day: Date,
    left: u64,
    /// Whether the line takes from a batch that arrives on that day.
    binds: bool,
}

impl<'a> Budget<'a> {
    /// Without any safety stock.
    pub(crate) fn unlimited() -> Self {
        Self { limits: Vec::new() }
    }

    /// Of a location from which so many units can be promised by a day.
    pub(crate) fn limit(&mut self, location: &'a Location, day: Date, promisable: u64) {
        if !self.limits.iter().any(|limit| limit.day == day && limit.location == location) {
            self.limits.push(Limit { location, day, left: promisable, binds: false });
        }
    }

    /// Leaves out limits that nothing made of these offers can reach: there are as many as days on which something arrives, and hardly ever is there
    /// more than the first of a location left.
    pub(crate) fn leave_out_what_is_never_reached(&mut self, offers: &[Offer<'_>]) {
        self.limits.sort_by_key(|limit| (limit.location, limit.day));
        let mut kept: Vec<Limit<'a>> = Vec::with_capacity(1);
        for limit in self.limits.drain(..) {
            let counted = || offers.iter().filter(|offer| limit.counts(offer));
            // What another limit lets through at most, and all that this one counts beside it.
            let most_beside = |other: &Limit<'_>| {
                let beside = counted().filter(|offer| !other.counts(offer));
                other.left + beside.map(|offer| offer.free).sum::<u64>()
            };
            // It is asked of all that it counts only if that arrives on its very day.
            let always_asked = |other: &&Limit<'_>| {
                let counts = |offer: &&Offer<'_>| other.counts(offer);
                offers.iter().filter(counts).all(|offer| offer.arrival == other.day)
            };
            let first = kept.iter().find(|other| other.location == limit.location).filter(always_asked);
            let most = first.map_or_else(|| counted().map(|offer| offer.free).sum(), most_beside);
            if most > limit.left {
                kept.push(limit);
            }
        }
        self.limits = kept;
    }

    /// How many units can still be had from an offer.
    pub(crate) fn room(&self, offer: &Offer<'_>) -> u64 {
        let of_it =
            self.limits.iter().filter(|limit| limit.counts(offer) && (limit.binds || limit.day == offer.arrival));
        of_it.map(|limit| limit.left).fold(offer.free, u64::min)
    }

    /// Units are taken from an offer that had room for them.
    pub(crate) fn take(&mut self, offer: &Offer<'_>, units: u64) {
        for limit in self.limits.iter_mut().filter(|limit| limit.counts(offer)) {
            // Where nothing that arrives on that day was taken yet, there may be less than is taken now.
            limit.left = limit.left.saturating_sub(units);
            limit.binds |= limit.day == offer.arrival;
        }
    }
}

impl Limit<'_> {
    /// Whether units of an offer are among those that could be promised by that day.
    fn counts(&self, offer: &Offer<'_>) -> bool {
        let usable = offer.expires_on.is_none_or(|last| self.day <= last);
        self.location == offer.location && offer.arrival <= self.day && usable
    }
}
