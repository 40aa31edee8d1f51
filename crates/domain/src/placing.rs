//! Which batches a line's units come from: rules 2 to 5 and 7.

use std::cmp::Reverse;

use time::Date;

use crate::batch::Batch;
use crate::order_line::{Split, Terms};
use crate::strategies::{Offer, Strategy};

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
    pub(crate) today: Date,
}

impl Choice<'_> {
    /// Where `wanted` units would come from: all of them, or as many as there are. `free` says what is left in each batch.
    ///
    /// - [`Split::Never`] (rule 3): whole from one batch, or nothing.
    /// - [`Split::Parts`] (rule 4): the earliest day on which batches together cover it; for that day one batch, else the fewest.
    /// - `not_before` (rule 5): of what arrives in time, the latest first, so that today's stock is left to today's orders.
    ///
    /// Of what serves a line equally well by its day, the product's strategy says what goes first.
    pub(crate) fn choose(&self, free: impl Fn(usize) -> u64, wanted: u64) -> Vec<Take> {
        if self.terms.not_before.is_none() && self.strategy == Strategy::Earliest {
            // Saves making and sorting a list when the very first batch with anything free takes all, which is nearly always.
            let first = (0..self.batches.len()).find(|at| free(*at) > 0 && self.is_eligible(*at));
            match first {
                None => return Vec::new(),
                Some(first) if free(first) >= wanted => return vec![(first, wanted)],
                Some(_) => {}
            }
        }
        let offers = self.offers(free);
        match self.terms.split {
            Split::Never => self.whole(&offers, wanted).map(|offer| (offer.at, wanted)).into_iter().collect(),
            Split::Parts(least) => self.in_parts(&offers, wanted, least.units()),
        }
    }

    /// The most that one batch can give to a line that must stay whole: what `partial` promises it (rule 8).
    pub(crate) fn most_of_one(&self, free: impl Fn(usize) -> u64) -> Option<Take> {
        let offers = self.offers(free);
        // Of equal ones the first.
        offers.iter().rev().max_by_key(|offer| offer.free).map(|offer| (offer.at, offer.free))
    }

    fn is_eligible(&self, at: usize) -> bool {
        may_have(&self.batches[at], self.terms, self.min_days, self.today)
    }

    /// Eligible batches with something free, by the day they would make the line ready.
    fn offers(&self, free: impl Fn(usize) -> u64) -> Vec<Offer> {
        let offer = |(at, batch): (usize, &Batch)| {
            let arrival = batch.arrival(self.today);
            let ready = self.terms.not_before.map_or(arrival, |not_before| arrival.max(not_before));
            Offer { at, free: free(at), arrival, ready, expires_on: batch.expires_on, arrived: batch.arrived }
        };
        let mut offers: Vec<Offer> = self.batches.iter().enumerate().map(offer).collect();
        offers.retain(|offer| offer.free > 0 && self.is_eligible(offer.at));
        offers.sort_by_key(|offer| Strategy::Earliest.order(offer));
        offers
    }

    /// The batch for a line that must stay whole: of those that can take it by the earliest day, the first by strategy.
    fn whole<'o>(&self, offers: &'o [Offer], wanted: u64) -> Option<&'o Offer> {
        let by = offers.iter().find(|offer| offer.free >= wanted)?.ready;
        let in_time = offers.iter().filter(|offer| offer.free >= wanted && offer.ready <= by);
        in_time.min_by_key(|offer| self.strategy.order(offer))
    }

    fn in_parts(&self, offers: &[Offer], wanted: u64, least: u64) -> Vec<Take> {
        let covering = if self.strategy.prefers_few() {
            let fewest = (1..=offers.len()).find(|n| most(offers, *n, least, true) >= wanted);
            fewest.and_then(|n| ends_of_days(offers).find(|end| most(&offers[..*end], n, least, true) >= wanted))
        } else {
            covered(offers, wanted, least)
        };
        let Some(end) = covering else {
            // Without a day that covers it everything there is but what is too small, as nothing is the remainder then.
            return offers.iter().filter(|offer| offer.free >= least).map(|offer| (offer.at, offer.free)).collect();
        };
        let mut in_time = offers[..end].to_vec();
        in_time.sort_by_key(|offer| self.strategy.order(offer));
        let mut chosen = fewest(&in_time, wanted, least);
        // A part that is too small may only be the remainder.
        chosen.sort_by_key(|offer| offer.free < least);
        let mut left = wanted;
        let take = |offer: Offer| {
            let units = offer.free.min(left);
            left -= units;
            (offer.at, units)
        };
        chosen.into_iter().map(take).collect()
    }
}

/// Whether a line on these terms may have units of a batch, seen from `today` (rules 5 and 7).
pub(crate) fn may_have(batch: &Batch, terms: &Terms, min_days: u16, today: Date) -> bool {
    let arrival = batch.arrival(today);
    let ready = terms.not_before.map_or(arrival, |not_before| arrival.max(not_before));
    terms.allow(arrival) && batch.keeps(ready, min_days)
}

/// How many of the offers are ready by each day on which any is.
fn ends_of_days(offers: &[Offer]) -> impl Iterator<Item = usize> {
    let ends = |end: &usize| offers.get(*end).is_none_or(|next| next.ready != offers[end - 1].ready);
    (1..=offers.len()).filter(ends)
}

/// How many of the offers are ready by the earliest day that covers it.
fn covered(offers: &[Offer], wanted: u64, least: u64) -> Option<usize> {
    let (mut large, mut small, mut from) = (0, 0, 0);
    ends_of_days(offers).find(|end| {
        for offer in &offers[from..*end] {
            if offer.free < least {
                small = offer.free.max(small);
            } else {
                large += offer.free;
            }
        }
        from = *end;
        large + small >= wanted
    })
}

/// The smallest number of offers that cover it; of such, the first in their order.
fn fewest(offers: &[Offer], wanted: u64, least: u64) -> Vec<Offer> {
    let mut slots = (1..=offers.len()).find(|n| most(offers, *n, least, true) >= wanted).unwrap_or(offers.len());
    let (mut left, mut small_may) = (wanted, true);
    let mut chosen = Vec::with_capacity(slots);
    for (at, offer) in offers.iter().enumerate() {
        let small = offer.free < least;
        if slots == 0 || (small && !small_may) {
            continue;
        }
        if offer.free + most(&offers[at + 1..], slots - 1, least, small_may && !small) >= left {
            chosen.push(*offer);
            left = left.saturating_sub(offer.free);
            slots -= 1;
            small_may &= !small;
        }
    }
    chosen
}

/// The most that `n` of them have together. What is too small to be a part but the remainder may be one of them, or none.
fn most(offers: &[Offer], n: usize, least: u64, small_may: bool) -> u64 {
    let mut large: Vec<u64> = offers.iter().map(|offer| offer.free).filter(|free| *free >= least).collect();
    large.sort_unstable_by_key(|free| Reverse(*free));
    let small = offers.iter().map(|offer| offer.free).filter(|free| *free < least).max();
    let small = small.filter(|_| small_may && large.len() < n).unwrap_or(0);
    large.iter().take(n).sum::<u64>() + small
}
