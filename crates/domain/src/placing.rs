//! Which batches a line's units come from: rules 2 to 7, 19 and 25.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use time::Date;

use crate::batch::Batch;
use crate::calendar::Calendar;
use crate::ids::Location;
use crate::order_line::{Split, Terms};
use crate::product::Settings;
use crate::reserve::{Budget, counts, is_overdue, safety_stock};
use crate::strategies::{Offer, Order, Serves, Strategy};

/// Units from the batch at this place in the list.
pub(crate) type Take = (usize, u64);

/// What a line may choose from, and how.
pub(crate) struct Choice<'a> {
    /// In order of preference.
    pub(crate) batches: &'a [Batch],
    pub(crate) terms: &'a Terms,
    /// For how many days its units must be of use.
    pub(crate) min_days: u16,
    pub(crate) strategy: Strategy,
    pub(crate) settings: &'a Settings,
    pub(crate) calendar: &'a Calendar,
    /// Only at this location, where other units of the line are.
    pub(crate) at: Option<&'a Location>,
    /// Only what is ready before this day.
    pub(crate) before: Option<Date>,
}

/// How a line could be served from some offers.
struct Found {
    takes: Vec<Take>,
    units: u64,
    serves: Serves,
    /// What would go first by the product's strategy.
    first: Order,
}

impl Choice<'_> {
    /// Where `wanted` units would come from: all of them, or as many as there are. `free` says what is left in each batch.
    ///
    /// - [`Split::Never`] (rule 3): whole from one batch, or nothing.
    /// - [`Split::Parts`] (rule 4): from one location, on the earliest day on which its batches together cover it; for that day from one batch, else
    ///   from the fewest.
    /// - [`Split::OverLocations`]: the same from all locations together.
    /// - `not_before` (rule 5): of what arrives in time, the latest first, so that today's stock is left to today's orders.
    ///
    /// Of what serves a line equally well by its day, the line's preference of locations goes first, then the product's strategy.
    pub(crate) fn choose(&self, free: impl Fn(usize) -> u64, wanted: u64) -> Vec<Take> {
        if self.is_plain() {
            // Saves making and sorting a list when the very first batch with anything free takes all, which is nearly always.
            let first = (0..self.batches.len()).find(|at| free(*at) > 0 && self.is_eligible(*at));
            match first {
                None => return Vec::new(),
                Some(first) if free(first) >= wanted => return vec![(first, wanted)],
                Some(_) => {}
            }
        }
        let (offers, budget) = self.offers(free);
        match self.terms.split {
            Split::Never => self.whole(&offers, wanted).map(|offer| (offer.at, wanted)).into_iter().collect(),
            Split::Parts(least) => self.at_one_location(offers, &budget, wanted, least.units()),
            Split::OverLocations(least) => self.over_locations(&offers, &budget, wanted, least.units()),
        }
    }

    /// The most that one batch can give to a line that must stay whole: what `partial` promises it (rule 8).
    pub(crate) fn most_of_one(&self, free: impl Fn(usize) -> u64) -> Option<Take> {
        let (offers, _) = self.offers(free);
        // Of equal ones the first.
        offers.iter().rev().max_by_key(|offer| offer.free).map(|offer| (offer.at, offer.free))
    }

    /// Whether batches in order of preference are in the order in which they serve the line, with all that is free in them.
    fn is_plain(&self) -> bool {
        self.terms.not_before.is_none()
            && self.terms.locations.is_none()
            && self.settings.levels.is_empty()
            && self.calendar.is_one_day()
            && matches!(self.strategy, Strategy::Earliest | Strategy::LocationPriority)
    }

    fn is_eligible(&self, at: usize) -> bool {
        let batch = &self.batches[at];
        may_have(batch, self.terms, self.min_days, self.calendar)
            && !is_overdue(batch, self.settings, self.calendar)
            && self.at.is_none_or(|location| batch.location == *location)
            && self.before.is_none_or(|day| ready(batch, self.terms, self.calendar) < day)
    }

    /// Eligible batches with something promisable, by the day they would make the line ready, and what may be taken of them together.
    fn offers(&self, free: impl Fn(usize) -> u64) -> (Vec<Offer<'_>>, Budget<'_>) {
        let mut budget = Budget::unlimited();
        let mut offers = Vec::with_capacity(self.batches.len());
        for (at, batch) in self.batches.iter().enumerate() {
            let mut units = free(at);
            let Some(rank) = self.terms.rank(&batch.location).filter(|_| units > 0 && self.is_eligible(at)) else {
                continue;
            };
            let (location, arrival) = (&batch.location, batch.arrival(self.calendar));
            let kept_back = safety_stock(self.settings, location);
            if kept_back > 0 {
                let promisable = self.free_by(location, arrival, &free).saturating_sub(kept_back);
                budget.limit(location, arrival, promisable);
                units = units.min(promisable);
            }
            if units > 0 {
                let ready = self.terms.ready(arrival);
                let Batch { expires_on, arrived, .. } = *batch;
                offers.push(Offer { at, free: units, arrival, ready, expires_on, arrived, location, rank });
            }
        }
        offers.sort_by_key(|offer| Strategy::Earliest.order(offer));
        budget.leave_out_what_is_never_reached(&offers);
        (offers, budget)
    }

    /// `F(l, d)`: units at a location that are free, ready and of use on a day.
    fn free_by(&self, location: &Location, day: Date, free: impl Fn(usize) -> u64) -> u64 {
        let there = self.batches.iter().enumerate().filter(|(_, batch)| batch.location == *location);
        there.filter(|(_, batch)| counts(batch, day, self.settings, self.calendar)).map(|(at, _)| free(at)).sum()
    }

    /// The batch for a line that must stay whole: of those that can take it by the earliest day, the first by preference of locations and strategy.
    fn whole<'o>(&self, offers: &'o [Offer<'_>], wanted: u64) -> Option<&'o Offer<'o>> {
        let large = offers.iter().filter(|offer| offer.free >= wanted);
        large.min_by_key(|offer| {
            let serves = Serves { ready: offer.ready, rank: offer.rank, parts: 1 };
            (self.strategy.location_order(&serves), self.strategy.order(offer))
        })
    }

    /// From the location that serves the line best; when none can do so alone, from the one that has most.
    fn at_one_location(&self, offers: Vec<Offer<'_>>, budget: &Budget<'_>, wanted: u64, least: u64) -> Vec<Take> {
        let mut by_location: BTreeMap<&Location, Vec<Offer<'_>>> = BTreeMap::new();
        for offer in offers {
            by_location.entry(offer.location).or_default().push(offer);
        }
        let found = by_location.values().filter_map(|offers| self.in_parts(offers, budget, wanted, least));
        let best = found.min_by_key(|found| {
            let covers = found.units == wanted;
            let order =
                if covers { self.strategy.location_order(&found.serves) } else { (found.serves.rank as u64, 0, 0) };
            (Reverse(found.units), order, found.first)
        });
        best.map_or_else(Vec::new, |found| found.takes)
    }

    /// From all locations together; under `location_priority` from no more of those preferred most than it takes.
    fn over_locations(&self, offers: &[Offer<'_>], budget: &Budget<'_>, wanted: u64, least: u64) -> Vec<Take> {
        if self.strategy == Strategy::LocationPriority {
            let mut ranks: Vec<usize> = offers.iter().map(|offer| offer.rank).collect();
            ranks.sort_unstable();
            ranks.dedup();
            for rank in ranks {
                let preferred: Vec<_> = offers.iter().filter(|offer| offer.rank <= rank).copied().collect();
                if let Some(found) =
                    self.in_parts(&preferred, budget, wanted, least).filter(|found| found.units == wanted)
                {
                    return found.takes;
                }
            }
        }
        self.in_parts(offers, budget, wanted, least).map_or_else(Vec::new, |found| found.takes)
    }

    /// From these offers, which are by the day that they are ready.
    fn in_parts(&self, offers: &[Offer<'_>], budget: &Budget<'_>, wanted: u64, least: u64) -> Option<Found> {
        let parts = if self.strategy == Strategy::FewestSplits {
            parts_needed(offers, wanted, least, budget)
        } else {
            Some(offers.len())
        };
        let covering = parts.and_then(|parts| covered(offers, parts, wanted, least, budget));
        let mut in_time = offers[..covering.unwrap_or(offers.len())].to_vec();
        in_time.sort_by_key(|offer| (offer.rank, self.strategy.order(offer)));
        let mut chosen = if covering.is_some() {
            fewest(&in_time, wanted, least, budget)
        } else {
            // Without a day that covers it everything there is but what is too small, as nothing is the remainder then.
            all_large(&in_time, least, budget)
        };
        let first = chosen.iter().map(|(offer, _)| self.strategy.order(offer)).min()?;
        let latest = chosen.iter().map(|(offer, _)| offer.ready).max()?;
        let rank = chosen.iter().map(|(offer, _)| offer.rank).max()?;
        let serves = Serves { ready: latest, rank, parts: chosen.len() };
        // A part that is too small may only be the remainder.
        chosen.sort_by_key(|(_, room)| *room < least);
        let mut left = wanted;
        let take = |(offer, room): (Offer<'_>, u64)| {
            let units = room.min(left);
            left -= units;
            (offer.at, units)
        };
        let takes: Vec<Take> = chosen.into_iter().map(take).collect();
        Some(Found { takes, units: wanted - left, serves, first })
    }
}

/// The day on which a line on these terms could have its units from a batch.
pub(crate) fn ready(batch: &Batch, terms: &Terms, calendar: &Calendar) -> Date {
    terms.ready(batch.arrival(calendar))
}

/// Whether a line on these terms may have units of a batch (rules 5 to 7).
pub(crate) fn may_have(batch: &Batch, terms: &Terms, min_days: u16, calendar: &Calendar) -> bool {
    let ready = ready(batch, terms, calendar);
    terms.by.is_none_or(|by| ready <= by) && batch.keeps(ready, min_days) && terms.rank(&batch.location).is_some()
}

/// How many of the offers are ready by each day on which any is.
fn ends_of_days(offers: &[Offer<'_>]) -> impl Iterator<Item = usize> {
    let ends = |end: &usize| offers.get(*end).is_none_or(|next| next.ready != offers[end - 1].ready);
    (1..=offers.len()).filter(ends)
}

/// How many of the offers are ready by the earliest day on which so many of them cover it.
fn covered(offers: &[Offer<'_>], parts: usize, wanted: u64, least: u64, budget: &Budget<'_>) -> Option<usize> {
    let (mut free, mut from) = (0, 0);
    ends_of_days(offers).find(|end| {
        free += offers[from..*end].iter().map(|offer| offer.free).sum::<u64>();
        from = *end;
        // Saves looking closer at days on which there is too little in any case.
        free >= wanted && most(&offers[..*end], parts, least, true, budget) >= wanted
    })
}

/// How many of the offers it takes at least to cover it.
fn parts_needed(offers: &[Offer<'_>], wanted: u64, least: u64, budget: &Budget<'_>) -> Option<usize> {
    let mut sum = 0;
    for (nth, room) in largest_first(offers, budget).enumerate() {
        sum += room;
        if sum >= wanted {
            return Some(nth + 1);
        }
        if room < least {
            break;
        }
    }
    None
}

/// The smallest number of offers that cover it, with what each has room for; of such, the first in their order.
fn fewest<'a>(offers: &[Offer<'a>], wanted: u64, least: u64, budget: &Budget<'_>) -> Vec<(Offer<'a>, u64)> {
    let mut slots = parts_needed(offers, wanted, least, budget).unwrap_or(offers.len());
    let (mut left, mut small_may, mut budget) = (wanted, true, budget.clone());
    let mut chosen = Vec::with_capacity(slots);
    for (at, offer) in offers.iter().enumerate() {
        let room = budget.room(offer);
        let small = room < least;
        if slots == 0 || room == 0 || (small && !small_may) {
            continue;
        }
        let mut after = budget.clone();
        after.take(offer, room);
        if room + most(&offers[at + 1..], slots - 1, least, small_may && !small, &after) >= left {
            chosen.push((*offer, room));
            budget = after;
            left = left.saturating_sub(room);
            slots -= 1;
            small_may &= !small;
        }
    }
    chosen
}

/// Every offer that has room for a part that is large enough.
fn all_large<'a>(offers: &[Offer<'a>], least: u64, budget: &Budget<'_>) -> Vec<(Offer<'a>, u64)> {
    let mut budget = budget.clone();
    let mut chosen = Vec::with_capacity(offers.len());
    for offer in offers {
        let room = budget.room(offer);
        if room >= least {
            budget.take(offer, room);
            chosen.push((*offer, room));
        }
    }
    chosen
}

/// The most that `n` of them have together. What is too small to be a part but the remainder may be one of them, or none.
fn most(offers: &[Offer<'_>], n: usize, least: u64, small_may: bool, budget: &Budget<'_>) -> u64 {
    let mut sum = 0;
    for room in largest_first(offers, budget).take(n) {
        if room < least {
            return if small_may { sum + room } else { sum };
        }
        sum += room;
    }
    sum
}

/// What each has room for when whoever has most is taken first.
fn largest_first<'o>(offers: &'o [Offer<'o>], budget: &Budget<'o>) -> impl Iterator<Item = u64> + use<'o> {
    let mut budget = budget.clone();
    let mut waiting: BinaryHeap<(u64, usize)> =
        offers.iter().enumerate().map(|(at, offer)| (budget.room(offer), at)).collect();
    std::iter::from_fn(move || {
        loop {
            let (room, at) = waiting.pop().filter(|(room, _)| *room > 0)?;
            // Others may have taken some of it since; room only gets less.
            let now = budget.room(&offers[at]);
            if now == room {
                budget.take(&offers[at], room);
                return Some(room);
            }
            waiting.push((now, at));
        }
    })
}
