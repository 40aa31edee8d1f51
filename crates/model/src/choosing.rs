//! Which batches a line's units come from, by trying every set of them (rules 2 to 5).

use std::cmp::Reverse;

use allocation_domain::{BatchRef, Split, Terms};
use time::Date;

/// Units from a batch.
pub(crate) type Take = (BatchRef, u64);

/// A batch with something free.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) reference: BatchRef,
    pub(crate) eta: Option<Date>,
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

/// The day on which a line has units of a batch.
pub(crate) fn ready(eta: Option<Date>, terms: &Terms, today: Date) -> Date {
    let arrival = arrival(eta, today);
    match terms.not_before {
        Some(day) if day > arrival => day,
        _ => arrival,
    }
}

/// Whether a line may have units of a batch at all.
pub(crate) fn eligible(eta: Option<Date>, terms: &Terms, today: Date) -> bool {
    terms.by.is_none_or(|by| ready(eta, terms, today) <= by)
}

/// What a line may take from, the best first: ready earliest; of these the latest to arrive, which differ only when it is wanted later;
/// of these the earliest ETA, then the first reference.
pub(crate) fn in_order(offers: Vec<Offer>, terms: &Terms, today: Date) -> Vec<Offer> {
    let mut offers = offers;
    offers.retain(|offer| offer.free > 0 && eligible(offer.eta, terms, today));
    offers.sort_by_key(|offer| {
        let arrival = arrival(offer.eta, today);
        (ready(offer.eta, terms, today), Reverse(arrival), offer.eta, offer.reference.clone())
    });
    offers
}

/// Where `wanted` units come from: all of them if there is any way, else what may be had.
pub(crate) fn choose(offers: Vec<Offer>, wanted: u64, terms: &Terms, today: Date) -> Vec<Take> {
    let offers = in_order(offers, terms, today);
    let least = match terms.split {
        Split::Never => {
            let whole = offers.into_iter().find(|offer| offer.free >= wanted);
            return whole.map(|offer| (offer.reference, wanted)).into_iter().collect();
        }
        Split::Parts(least) => least.units(),
    };
    // The earliest day; on it the fewest batches; of such sets the one whose batches come first.
    let mut days: Vec<Date> = offers.iter().map(|offer| ready(offer.eta, terms, today)).collect();
    days.dedup();
    for day in days {
        let until: Vec<&Offer> = offers.iter().take_while(|offer| ready(offer.eta, terms, today) <= day).collect();
        if until.iter().map(|offer| offer.free).sum::<u64>() < wanted {
            continue;
        }
        for size in 1..=until.len() {
            if let Some(takes) = first_set(&until, size, &mut Vec::new(), wanted, least) {
                return takes;
            }
        }
    }
    // Not all of it: nothing is the remainder then.
    offers.into_iter().filter(|offer| offer.free >= least).map(|offer| (offer.reference, offer.free)).collect()
}

/// The most that one batch can give; of equal ones the first.
pub(crate) fn most_of_one(offers: Vec<Offer>, terms: &Terms, today: Date) -> Vec<Take> {
    let mut best: Option<Take> = None;
    for offer in in_order(offers, terms, today) {
        if best.as_ref().is_none_or(|(_, units)| offer.free > *units) {
            best = Some((offer.reference, offer.free));
        }
    }
    best.into_iter().collect()
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
