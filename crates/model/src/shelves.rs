//! What there is to promise, location by location: what is free by a day, and what is left of that once the safety stock is set apart.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::{BatchRef, Calendar, Location};
use time::Date;

/// Units from a batch.
pub(crate) type Take = (BatchRef, u64);

/// A batch, and what is free of it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) reference: BatchRef,
    pub(crate) location: Location,
    pub(crate) eta: Option<Date>,
    /// Its place in the order of arrivals; none: it has not arrived.
    pub(crate) came: Option<u64>,
    /// The last day on which it is of use; none: it always is.
    pub(crate) expires_on: Option<Date>,
    /// It should have come so long ago that nobody counts on it any more (rule 25).
    pub(crate) overdue: bool,
    pub(crate) free: u64,
}

/// All batches of a product, with what is never promised of them.
#[derive(Clone, Debug)]
pub(crate) struct Shelves {
    pub(crate) offers: Vec<Offer>,
    /// Free units to be left at each location; none where nothing is said.
    pub(crate) safety: BTreeMap<Location, u64>,
    pub(crate) days: Calendar,
}

/// The day on which units are ready to ship, where it is this day.
pub(crate) fn arrival(eta: Option<Date>, today: Date) -> Date {
    let tomorrow = today.next_day().expect("time ends later");
    match eta {
        None => today,
        Some(eta) if eta < tomorrow => tomorrow,
        Some(eta) => eta,
    }
}

impl Shelves {
    pub(crate) fn arrival(&self, offer: &Offer) -> Date {
        arrival(offer.eta, self.days.today(&offer.location))
    }

    /// Whether what is free of a batch counts for a day: it has come by then, and is still of use then.
    fn counts(&self, offer: &Offer, day: Date) -> bool {
        !offer.overdue && self.arrival(offer) <= day && offer.expires_on.is_none_or(|last| day <= last)
    }

    /// What may be promised at a location by a day: max(0, `F(l, d)` − `S(l)`).
    pub(crate) fn spare(&self, location: &Location, day: Date) -> u64 {
        let counting = self.offers.iter().filter(|offer| offer.location == *location && self.counts(offer, day));
        let free: u64 = counting.map(|offer| offer.free).sum();
        free.saturating_sub(self.safety.get(location).copied().unwrap_or(0))
    }

    /// What may be promised at a location today.
    pub(crate) fn available_at(&self, location: &Location) -> u64 {
        self.spare(location, self.days.today(location))
    }

    fn locations(&self) -> BTreeSet<&Location> {
        self.offers.iter().map(|offer| &offer.location).collect()
    }

    /// What may be promised today, everywhere.
    pub(crate) fn available(&self) -> u64 {
        self.locations().into_iter().map(|location| self.available_at(location)).sum()
    }

    /// What may be promised by a day, everywhere: `ATP(d)`.
    pub(crate) fn available_by(&self, day: Date) -> u64 {
        self.locations().into_iter().map(|location| self.spare(location, day)).sum()
    }

    /// What one batch may give.
    pub(crate) fn promisable(&self, offer: &Offer) -> u64 {
        offer.free.min(self.spare(&offer.location, self.arrival(offer)))
    }

    /// What these give together of what is wanted, one after the other: each as much as is left, so that on no day on which one of them
    /// arrives the safety stock is touched.
    pub(crate) fn give(&self, offers: &[&Offer], wanted: u64) -> Vec<Take> {
        let mut given: Vec<(&Offer, u64)> = Vec::new();
        let mut left = wanted;
        for offer in offers {
            given.push((*offer, 0));
            let here = given.iter().filter(|(other, _)| other.location == offer.location);
            let days: BTreeSet<Date> = here.map(|(other, _)| self.arrival(other)).collect();
            let room = |day: &Date| {
                let here = given.iter().filter(|(other, _)| other.location == offer.location);
                let counting = here.filter(|(other, _)| self.counts(other, *day));
                let taken: u64 = counting.map(|(_, units)| units).sum();
                self.spare(&offer.location, *day).saturating_sub(taken)
            };
            let rooms = days.iter().filter(|day| self.counts(offer, **day)).map(room);
            let units = rooms.min().unwrap_or(0).min(offer.free).min(left);
            given.last_mut().expect("it was put there").1 = units;
            left -= units;
        }
        given.into_iter().map(|(offer, units)| (offer.reference.clone(), units)).collect()
    }

    /// Units are taken.
    pub(crate) fn take(&mut self, (reference, units): &Take) {
        let offer = self.offers.iter_mut().find(|offer| offer.reference == *reference);
        offer.expect("it was taken from").free -= units;
    }
}
