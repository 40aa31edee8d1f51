//! Which batches a line's units come from, by trying every location and every set of batches (rules 2 to 7).

use std::cmp::Reverse;

use allocation_domain::{Location, Split, Strategy, Terms};
use time::{Date, Duration};

use crate::shelves::{Offer, Shelves, Take};

/// What a line's units are chosen by: what it asks for, and what its product says.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) terms: Terms,
    pub(crate) strategy: Strategy,
    /// For how many days units must be of use from the day they are ready.
    pub(crate) min_days: u16,
    /// Where the rest of it is, when it must stay at one location.
    pub(crate) bound: Option<Location>,
}

/// A way to have all that is wanted.
struct Cover {
    /// The day on which all of it is ready.
    day: Date,
    takes: Vec<Take>,
}

impl Choice {
    /// How much the line prefers a location: the less, the more. None: it does not accept it (rule 6).
    pub(crate) fn rank(&self, location: &Location) -> Option<usize> {
        match &self.terms.locations {
            None => Some(0),
            Some(accepted) => accepted.iter().position(|accepted| accepted == location),
        }
    }

    /// The day on which the line has units of a batch.
    pub(crate) fn ready(&self, shelves: &Shelves, offer: &Offer) -> Date {
        let arrival = shelves.arrival(offer);
        match self.terms.not_before {
            Some(day) if day > arrival => day,
            _ => arrival,
        }
    }

    /// Whether units of a batch are of use for long enough (rule 7).
    pub(crate) fn keeps(&self, shelves: &Shelves, offer: &Offer) -> bool {
        let needed = self.ready(shelves, offer).checked_add(Duration::days(self.min_days.into()));
        offer.expires_on.is_none_or(|last| needed.is_some_and(|needed| last >= needed))
    }

    /// Whether the line may keep units that it has of a batch: they are in time, and of use for long enough.
    pub(crate) fn may_keep(&self, shelves: &Shelves, offer: &Offer) -> bool {
        self.terms.by.is_none_or(|by| self.ready(shelves, offer) <= by) && self.keeps(shelves, offer)
    }

    /// Whether the line may be given units of a batch, wherever the rest of it is.
    pub(crate) fn accepts(&self, shelves: &Shelves, offer: &Offer) -> bool {
        !offer.overdue && self.rank(&offer.location).is_some() && self.may_keep(shelves, offer)
    }

    /// Whether the line may be given units of a batch, if there are any.
    pub(crate) fn allows(&self, shelves: &Shelves, offer: &Offer) -> bool {
        self.bound.as_ref().is_none_or(|bound| *bound == offer.location) && self.accepts(shelves, offer)
    }

    /// What the line may take from, as `earliest` has it: ready earliest; of these the latest to arrive, which differ only when it is
    /// wanted later; of these the earliest ETA, then the first reference.
    fn earliest<'a>(&self, shelves: &'a Shelves) -> Vec<&'a Offer> {
        let mut offers: Vec<&Offer> = shelves.offers.iter().collect();
        offers.retain(|offer| self.allows(shelves, offer) && shelves.promisable(offer) > 0);
        offers.sort_by_key(|offer| {
            let arrival = shelves.arrival(offer);
            (self.ready(shelves, offer), Reverse(arrival), offer.eta, offer.reference.clone())
        });
        offers
    }

    /// What the line may take from, the best first.
    fn in_order<'a>(&self, shelves: &'a Shelves) -> Vec<&'a Offer> {
        let mut offers = self.earliest(shelves);
        match self.strategy {
            Strategy::Earliest | Strategy::FewestSplits | Strategy::LocationPriority => {}
            Strategy::Fefo => offers.sort_by_key(|offer| (offer.expires_on.is_none(), offer.expires_on)),
            Strategy::Fifo => offers.sort_by_key(|offer| (offer.came.is_none(), offer.came)),
        }
        offers
    }

    /// Where `wanted` units come from: all of them if there is any way, else what may be had.
    pub(crate) fn choose(&self, shelves: &Shelves, wanted: u64) -> Vec<Take> {
        self.choose_of(shelves, |_| true, wanted)
    }

    /// The same from such batches only.
    pub(crate) fn choose_of(&self, shelves: &Shelves, of: impl Fn(&Offer) -> bool, wanted: u64) -> Vec<Take> {
        let mut offers = self.in_order(shelves);
        offers.retain(|offer| of(offer));
        match self.terms.split {
            Split::Never => self.one_batch(shelves, &offers, wanted),
            Split::Parts(least) => self.one_location(shelves, &offers, wanted, least.units()),
            Split::OverLocations(least) => self.many_locations(shelves, offers, wanted, least.units()),
        }
    }

    // ---- All of it from one batch (rule 3) ----

    fn one_batch(&self, shelves: &Shelves, offers: &[&Offer], wanted: u64) -> Vec<Take> {
        let enough = offers.iter().filter(|offer| shelves.promisable(offer) >= wanted);
        let best = enough.min_by_key(|offer| {
            let (day, rank) = (self.ready(shelves, offer), self.rank(&offer.location));
            if self.strategy == Strategy::LocationPriority { (rank, day, None) } else { (None, day, rank) }
        });
        best.map(|offer| (offer.reference.clone(), wanted)).into_iter().collect()
    }

    /// The most that one batch can give; of equal ones the first, whatever the strategy.
    pub(crate) fn most_of_one(&self, shelves: &Shelves) -> Vec<Take> {
        let mut best: Option<Take> = None;
        for offer in self.earliest(shelves) {
            let most = shelves.promisable(offer);
            if best.as_ref().is_none_or(|(_, units)| most > *units) {
                best = Some((offer.reference.clone(), most));
            }
        }
        best.into_iter().collect()
    }

    // ---- In parts (rule 4) ----

    /// In parts at one location: each is tried by itself.
    fn one_location(&self, shelves: &Shelves, offers: &[&Offer], wanted: u64, least: u64) -> Vec<Take> {
        let mut locations: Vec<&Location> = offers.iter().map(|offer| &offer.location).collect();
        locations.sort();
        locations.dedup();
        let at = |location: &Location| -> Vec<&Offer> {
            offers.iter().copied().filter(|offer| offer.location == *location).collect()
        };
        // Where in the order of all of them the first is that gives something.
        let first = |takes: &[Take]| {
            let place = |(reference, _): &Take| offers.iter().position(|offer| offer.reference == *reference);
            takes.iter().filter_map(place).min()
        };
        let covers = locations
            .iter()
            .filter_map(|location| Some((*location, self.cover(shelves, &at(location), wanted, least)?)));
        let best = covers.min_by_key(|(location, Cover { day, takes })| {
            let day = day.to_julian_day();
            let [rank, parts] = [self.rank(location).map_or(0, number), number(takes.len())];
            let order = match self.strategy {
                Strategy::Earliest | Strategy::Fefo | Strategy::Fifo => [day, rank, parts],
                Strategy::FewestSplits => [parts, day, rank],
                Strategy::LocationPriority => [rank, day, parts],
            };
            (order, first(takes))
        });
        if let Some((_, cover)) = best {
            return cover.takes;
        }
        // None has all of it.
        let most = locations.iter().map(|location| (self.rank(location), most(shelves, &at(location), wanted, least)));
        let most = most.min_by_key(|(rank, takes)| {
            let units: u64 = takes.iter().map(|(_, units)| units).sum();
            (Reverse(units), *rank, first(takes))
        });
        most.map(|(_, takes)| takes).unwrap_or_default()
    }

    /// In parts at any number of locations.
    fn many_locations(&self, shelves: &Shelves, offers: Vec<&Offer>, wanted: u64, least: u64) -> Vec<Take> {
        let mut offers = offers;
        offers.sort_by_key(|offer| self.rank(&offer.location));
        let mut found = None;
        if self.strategy == Strategy::LocationPriority {
            // No more of the line's locations than it takes, the preferred ones first.
            let ranks = offers.iter().map(|offer| self.rank(&offer.location)).collect::<Vec<_>>();
            found = ranks.iter().find_map(|last| {
                let near: Vec<&Offer> =
                    offers.iter().copied().filter(|offer| self.rank(&offer.location) <= *last).collect();
                self.cover(shelves, &near, wanted, least)
            });
        }
        let found = found.or_else(|| self.cover(shelves, &offers, wanted, least));
        found.map_or_else(|| most(shelves, &offers, wanted, least), |cover| cover.takes)
    }

    /// The best way to have all that is wanted of these; none: there is no way.
    fn cover(&self, shelves: &Shelves, offers: &[&Offer], wanted: u64, least: u64) -> Option<Cover> {
        let mut days: Vec<Date> = offers.iter().map(|offer| self.ready(shelves, offer)).collect();
        days.sort();
        days.dedup();
        // The first set of so many batches that are ready by a day.
        let set = |day: Date, parts: usize| {
            let until: Vec<&Offer> = offers.iter().copied().filter(|offer| self.ready(shelves, offer) <= day).collect();
            let takes = first_set(shelves, &until, parts, &mut Vec::new(), wanted, least)?;
            Some(Cover { day, takes })
        };
        let mut parts = 1..=offers.len();
        if self.strategy == Strategy::FewestSplits {
            // The fewest batches of any days; of so many the earliest day.
            parts.find_map(|parts| days.iter().find_map(|day| set(*day, parts)))
        } else {
            // The earliest day; on it the fewest batches.
            days.iter().find_map(|day| parts.clone().find_map(|parts| set(*day, parts)))
        }
    }
}

/// All that these have in large enough parts: there is no way to have all that is wanted, so nothing is the remainder.
fn most(shelves: &Shelves, offers: &[&Offer], wanted: u64, least: u64) -> Vec<Take> {
    let large: Vec<&Offer> = offers.iter().copied().filter(|offer| shelves.promisable(offer) >= least).collect();
    let mut takes = shelves.give(&large, wanted);
    takes.retain(|(_, units)| *units > 0);
    takes
}

fn number(count: usize) -> i32 {
    i32::try_from(count).expect("a small world")
}

/// The first set of so many of these that can give all that is wanted, after what is chosen already.
fn first_set<'a>(
    shelves: &Shelves,
    from: &[&'a Offer],
    size: usize,
    chosen: &mut Vec<&'a Offer>,
    wanted: u64,
    least: u64,
) -> Option<Vec<Take>> {
    if size == 0 {
        return shares(shelves, chosen, wanted, least);
    }
    for (at, offer) in from.iter().enumerate() {
        chosen.push(*offer);
        let found = first_set(shelves, &from[at + 1..], size - 1, chosen, wanted, least);
        chosen.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// How these share what is wanted: each gives all it may, and the last the remainder. What has less than the least can only be last.
fn shares(shelves: &Shelves, set: &[&Offer], wanted: u64, least: u64) -> Option<Vec<Take>> {
    let mut giving: Vec<&Offer> = set.to_vec();
    giving.sort_by_key(|offer| shelves.promisable(offer) < least);
    let takes = shelves.give(&giving, wanted);
    let all_but_one = takes.len().saturating_sub(1);
    let good = takes.iter().map(|(_, units)| units).sum::<u64>() == wanted
        && takes.iter().all(|(_, units)| *units > 0)
        && takes[..all_but_one].iter().all(|(_, units)| *units >= least);
    good.then_some(takes)
}
