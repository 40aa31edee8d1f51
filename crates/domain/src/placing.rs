//! Which batches a line's units come from: rules 2 to 5, strategy `earliest`.

use std::cmp::Reverse;

use time::Date;

use crate::batch::Batch;
use crate::order_line::{Split, Terms};

/// Units from the batch at this place in the list.
pub(crate) type Take = (usize, u64);

/// A batch that a line may take from.
#[derive(Clone, Copy)]
struct Offer {
    at: usize,
    free: u64,
    arrival: Date,
    /// The day on which the line could have its units.
    ready: Date,
}

/// Where `wanted` units would come from on these terms: all of them, or as many as there are.
///
/// `batches` are in order of preference; `free` says what is left in each.
///
/// - [`Split::Never`] (rule 3): whole from the first batch that can take it, or nothing.
/// - [`Split::Parts`] (rule 4): the earliest day on which batches together cover it; for that day one batch, else the fewest.
/// - `not_before` (rule 5): of what arrives in time, the latest first, so that today's stock is left to today's orders.
pub(crate) fn choose(
    batches: &[Batch],
    free: impl Fn(usize) -> u64,
    wanted: u64,
    terms: &Terms,
    today: Date,
) -> Vec<Take> {
    if terms.not_before.is_none() {
        // Saves making and sorting a list when the very first batch with anything free takes all, which is nearly always.
        let first = (0..batches.len()).find(|at| free(*at) > 0 && terms.allow(batches[*at].arrival(today)));
        match first {
            None => return Vec::new(),
            Some(first) if free(first) >= wanted => return vec![(first, wanted)],
            Some(_) => {}
        }
    }
    let offers = offers(batches, free, terms, today);
    match terms.split {
        Split::Never => offers.iter().find(|offer| offer.free >= wanted).map(|o| (o.at, wanted)).into_iter().collect(),
        Split::Parts(least) => in_parts(&offers, wanted, least.units()),
    }
}

/// The most that one batch can give to a line that must stay whole: what `partial` promises it (rule 8).
pub(crate) fn most_of_one(batches: &[Batch], free: impl Fn(usize) -> u64, terms: &Terms, today: Date) -> Option<Take> {
    let offers = offers(batches, free, terms, today);
    // Of equal ones the first.
    offers.iter().rev().max_by_key(|offer| offer.free).map(|offer| (offer.at, offer.free))
}

/// Eligible batches with something free, by the day they would make the line ready.
fn offers(batches: &[Batch], free: impl Fn(usize) -> u64, terms: &Terms, today: Date) -> Vec<Offer> {
    let mut offers: Vec<Offer> = batches
        .iter()
        .enumerate()
        .map(|(at, batch)| {
            let arrival = batch.arrival(today);
            let ready = terms.not_before.map_or(arrival, |not_before| arrival.max(not_before));
            Offer { at, free: free(at), arrival, ready }
        })
        .filter(|offer| offer.free > 0 && terms.allow(offer.arrival))
        .collect();
    offers.sort_by_key(|offer| (offer.ready, Reverse(offer.arrival), offer.at));
    offers
}

fn in_parts(offers: &[Offer], wanted: u64, least: u64) -> Vec<Take> {
    // Up to the earliest day that covers it; without one, everything there is but what is too small, as nothing is the remainder then.
    let (mut large, mut small) = (0, 0);
    let until = (1..=offers.len()).find(|end| {
        let offer = offers[end - 1];
        if offer.free < least {
            small = offer.free.max(small);
        } else {
            large += offer.free;
        }
        let day_ends = offers.get(*end).is_none_or(|next| next.ready != offer.ready);
        day_ends && large + small >= wanted
    });
    let Some(end) = until else {
        return offers.iter().filter(|offer| offer.free >= least).map(|offer| (offer.at, offer.free)).collect();
    };
    let mut chosen = fewest(&offers[..end], wanted, least);
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
