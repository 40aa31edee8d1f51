//! Which batches a line's units come from, by trying every set of them (rules 2 to 5 and 7).

use std::cmp::Reverse;

use allocation_domain::{BatchRef, Split, Strategy, Terms};
use time::{Date, Duration};

/// Units from a batch.
pub(crate) type Take = (BatchRef, u64);

/// A batch with something free.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) reference: BatchRef,
    pub(crate) eta: Option<Date>,
    /// Its place in the order of arrivals; none: it has not arrived.
    pub(crate) came: Option<u64>,
    /// The last day on which it is of use; none: it always is.
    pub(crate) expires_on: Option<Date>,
    pub(crate) free: u64,
}

/// The day on which units are ready to ship.
pub(crate) fn arrival(eta: Option<Date>, today: Date) -> Date {
    let tomorrow = today.next_day().expect("time ends later");
    match eta {
        None => today,
        Some(eta) if eta < tomorrow => tomorrow,
        Some(eta) => eta,
    }
}

/// What a line's units are chosen by: what it asks for, what its product says, and what day it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) terms: Terms,
    pub(crate) strategy: Strategy,
    /// For how many days units must be of use from the day they are ready.
    pub(crate) min_days: u16,
    pub(crate) today: Date,
}

impl Choice {
    /// The day on which the line has units of a batch.
    pub(crate) fn ready(&self, eta: Option<Date>) -> Date {
        let arrival = arrival(eta, self.today);
        match self.terms.not_before {
            Some(day) if day > arrival => day,
            _ => arrival,
        }
    }

    /// Whether units of a batch are of use for long enough (rule 7).
    pub(crate) fn keeps(&self, eta: Option<Date>, expires_on: Option<Date>) -> bool {
        let needed = self.ready(eta).checked_add(Duration::days(self.min_days.into()));
        expires_on.is_none_or(|last| needed.is_some_and(|needed| last >= needed))
    }

    /// Whether the line may have units of a batch at all.
    pub(crate) fn allows(&self, eta: Option<Date>, expires_on: Option<Date>) -> bool {
        self.terms.by.is_none_or(|by| self.ready(eta) <= by) && self.keeps(eta, expires_on)
    }

    /// What the line may take from, as `earliest` has it: ready earliest; of these the latest to arrive, which differ only when it is
    /// wanted later; of these the earliest ETA, then the first reference.
    fn earliest(&self, offers: Vec<Offer>) -> Vec<Offer> {
        let mut offers = offers;
        offers.retain(|offer| offer.free > 0 && self.allows(offer.eta, offer.expires_on));
        offers.sort_by_key(|offer| {
            let arrival = arrival(offer.eta, self.today);
            (self.ready(offer.eta), Reverse(arrival), offer.eta, offer.reference.clone())
        });
        offers
    }

    /// What the line may take from, the best first.
    fn in_order(&self, offers: Vec<Offer>) -> Vec<Offer> {
        let mut offers = self.earliest(offers);
        match self.strategy {
            Strategy::Earliest | Strategy::FewestSplits => {}
            Strategy::Fefo => offers.sort_by_key(|offer| (offer.expires_on.is_none(), offer.expires_on)),
            Strategy::Fifo => offers.sort_by_key(|offer| (offer.came.is_none(), offer.came)),
        }
        offers
    }

    /// Where `wanted` units come from: all of them if there is any way, else what may be had.
    pub(crate) fn choose(&self, offers: Vec<Offer>, wanted: u64) -> Vec<Take> {
        let offers = self.in_order(offers);
        let (least, most_parts) = match self.terms.split {
            Split::Never => (wanted, 1),
            Split::Parts(least) => (least.units(), offers.len()),
        };
        let mut days: Vec<Date> = offers.iter().map(|offer| self.ready(offer.eta)).collect();
        days.sort();
        days.dedup();
        // The first set of so many batches that are ready by a day.
        let set = |day: Date, parts: usize| {
            let until: Vec<&Offer> = offers.iter().filter(|offer| self.ready(offer.eta) <= day).collect();
            first_set(&until, parts, &mut Vec::new(), wanted, least)
        };
        let found = if self.strategy == Strategy::FewestSplits {
            // The fewest batches of any days; of so many the earliest day.
            (1..=most_parts).find_map(|parts| days.iter().find_map(|day| set(*day, parts)))
        } else {
            // The earliest day; on it the fewest batches.
            days.iter().find_map(|day| (1..=most_parts).find_map(|parts| set(*day, parts)))
        };
        // Not all of it: nothing is the remainder then.
        let large = offers.into_iter().filter(|offer| self.terms.split != Split::Never && offer.free >= least);
        found.unwrap_or_else(|| large.map(|offer| (offer.reference, offer.free)).collect())
    }

    /// The most that one batch can give; of equal ones the first, whatever the strategy.
    pub(crate) fn most_of_one(&self, offers: Vec<Offer>) -> Vec<Take> {
        let mut best: Option<Take> = None;
        for offer in self.earliest(offers) {
            if best.as_ref().is_none_or(|(_, units)| offer.free > *units) {
                best = Some((offer.reference, offer.free));
            }
        }
        best.into_iter().collect()
    }
}

/// The first set of so many of these that can give all that is wanted, after what is chosen already.
fn first_set<'a>(
    from: &[&'a Offer],
    size: usize,
    chosen: &mut Vec<&'a Offer>,
    wanted: u64,
    least: u64,
) -> Option<Vec<Take>> {
    if size == 0 {
        return shares(chosen, wanted, least);
    }
    for (at, offer) in from.iter().enumerate() {
        chosen.push(*offer);
        let found = first_set(&from[at + 1..], size - 1, chosen, wanted, least);
        chosen.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// How these share what is wanted: each gives all it has, and the last the remainder. What has less than the least can only be last.
fn shares(set: &[&Offer], wanted: u64, least: u64) -> Option<Vec<Take>> {
    let mut giving: Vec<&Offer> = set.to_vec();
    giving.sort_by_key(|offer| offer.free < least);
    let mut left = wanted;
    let mut takes = Vec::new();
    for offer in giving {
        let units = left.min(offer.free);
        takes.push((offer.reference.clone(), units));
        left -= units;
    }
    let all_but_one = takes.len().saturating_sub(1);
    let good = left == 0
        && takes.iter().all(|(_, units)| *units > 0)
        && takes[..all_but_one].iter().all(|(_, units)| *units >= least);
    good.then_some(takes)
}
