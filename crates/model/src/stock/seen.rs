//! The stock as others see it, and what must always be true of it.

use std::collections::BTreeMap;

use allocation_domain::{BatchRef, Calendar, LineKey, Split};

use super::{Batch, BatchView, Group, Line, LineView, Place, ProductView, Stock};
use crate::shelves::{Offer, Shelves};

impl Stock {
    pub(super) fn line_view(line: &Line) -> LineView {
        let mut placements = BTreeMap::new();
        let mut shipped = BTreeMap::new();
        for unit in &line.units {
            if let Some(reference) = unit.place.batch() {
                *placements.entry(reference.clone()).or_default() += 1;
            }
            if let Some(reference) = unit.place.shipped_from() {
                *shipped.entry(reference.clone()).or_default() += 1;
            }
        }
        LineView {
            state: line.state(),
            requested: line.units.len() as u64,
            placements,
            locked: line.locked(),
            shipped,
            returned: line.returned(),
            backordered: line.waiting(),
            queued: line.counted,
            dropped: line.count(|place| *place == Place::Dropped),
            cancelled: line.count(|place| *place == Place::Cancelled),
            lapsed: line.count(|place| *place == Place::Lapsed),
            until: line.until,
            terms: line.terms.clone(),
        }
    }

    pub(crate) fn view(&self, days: &Calendar) -> ProductView {
        let lines: BTreeMap<LineKey, LineView> =
            self.lines.iter().map(|(key, line)| (key.clone(), Self::line_view(line))).collect();
        let in_batch = |reference: &BatchRef, held: bool| {
            let lines = lines.values().filter(|line| line.until.is_some() == held);
            lines.filter_map(|line| line.placements.get(reference)).sum()
        };
        let batches = self.batches.iter().map(|(reference, batch)| {
            let view = BatchView {
                location: batch.location.clone(),
                quantity: self.quantity(reference),
                declared: batch.declared,
                quarantined: batch.quarantined,
                held: in_batch(reference, true),
                allocated: in_batch(reference, false),
                eta: batch.eta,
                expires_on: batch.expires_on,
                cancelled: batch.cancelled,
                expired: batch.expired && self.quantity(reference) > 0,
            };
            (reference.clone(), view)
        });
        ProductView {
            settings: self.settings.clone(),
            batches: batches.collect(),
            available: self.available(days),
            backordered: lines.values().map(|line| line.backordered).sum(),
            queued: self.counted(),
            lines,
            low: self.watched.iter().filter(|(_, watched)| watched.low).map(|(at, _)| at.clone()).collect(),
        }
    }

    /// What must be true after every command.
    pub(crate) fn invariants(&self, days: &Calendar) -> Result<(), String> {
        let shelves = self.shelves(days);
        let counted: Vec<_> = shelves
            .offers
            .iter()
            .map(|offer| (shelves.arrival(offer), self.usable(&offer.reference), self.in_batch(&offer.reference)))
            .collect();
        for (offer, (day, ..)) in shelves.offers.iter().zip(&counted) {
            let (reference, batch) = (&offer.reference, &self.batches[&offer.reference]);
            self.nothing_is_in_two_places(reference, batch)?;
            self.nothing_is_in_what_has_expired(reference, batch, days)?;
            // On every date: no more is promised from what will have come than will have come.
            let come = counted.iter().filter(|(arrival, ..)| arrival <= day);
            let (have, promised) =
                come.fold((0, 0), |(have, promised), (_, usable, placed)| (have + usable, promised + placed));
            if promised > have {
                return Err(format!("{promised} units are promised by {day}, and {have} will have come"));
            }
        }
        for (key, line) in &self.lines {
            let name = format!("line {} of order {}", key.line, key.order_id);
            self.is_where_it_may_be(line).map_err(|what| format!("{name} {what}"))?;
            self.is_of_use(line, &shelves).map_err(|what| format!("{name} {what}"))?;
        }
        self.nobody_waits_in_vain(&shelves)
    }

    pub(super) fn nothing_is_in_two_places(&self, reference: &BatchRef, batch: &Batch) -> Result<(), String> {
        let (placed, quantity, aside) = (self.in_batch(reference), self.quantity(reference), batch.quarantined);
        if placed + aside > quantity {
            return Err(format!(
                "{placed} units are promised from {reference}, which has {quantity}, {aside} set aside"
            ));
        }
        if batch.eta.is_some() && (quantity != batch.declared || aside > 0) {
            return Err(format!("{reference} has not arrived, and something has become of its units"));
        }
        if batch.cancelled && quantity > 0 {
            return Err(format!("{reference} will never come, and has {quantity} units"));
        }
        Ok(())
    }

    pub(super) fn nothing_is_in_what_has_expired(
        &self,
        reference: &BatchRef,
        batch: &Batch,
        days: &Calendar,
    ) -> Result<(), String> {
        let placed = self.in_batch(reference);
        if batch.expired && placed > 0 {
            return Err(format!("{placed} units are promised from {reference}, which has expired"));
        }
        if batch.expired && (self.free(reference) > 0 || batch.cancelled) {
            return Err(format!("{reference} has expired, and has free units or will never come"));
        }
        // Its day may have ended since it was looked at, but not begun again.
        let is_seen = self.looked_at.as_ref() == Some(days);
        if (batch.expired || is_seen) && batch.expired != batch.is_over(days) {
            return Err(format!("{reference} has expired is {}, and it is {days:?}", batch.expired));
        }
        if batch.came.is_some() != batch.eta.is_none() {
            return Err(format!("{reference} has arrived, and nobody knows when, or the other way round"));
        }
        Ok(())
    }

    /// Rule 7, once what is due was done that day.
    pub(super) fn is_of_use(&self, line: &Line, shelves: &Shelves) -> Result<(), String> {
        if self.looked_at.as_ref() != Some(&shelves.days) {
            return Ok(());
        }
        let choice = self.choice(line);
        let has = |offer: &Offer| line.count(|place| place.batch() == Some(&offer.reference)) > 0;
        match shelves.offers.iter().find(|offer| !choice.keeps(shelves, offer) && has(offer)) {
            Some(offer) => Err(format!("is in {}, which is not of use for long enough", offer.reference)),
            None => Ok(()),
        }
    }

    pub(super) fn is_where_it_may_be(&self, line: &Line) -> Result<(), String> {
        if line.count(|place| *place == Place::Moving) > 0 {
            return Err("has units that are nowhere".to_owned());
        }
        if line.until.is_some() && (line.placed() == 0 || line.waiting() > 0) {
            return Err("is held, and not all of it has a place".to_owned());
        }
        if line.until.is_some() && line.locked() + line.shipped() > 0 {
            return Err("is held, and some of it is locked or shipped".to_owned());
        }
        let view = Self::line_view(line);
        let places = view.placements.values().chain(view.shipped.values()).sum::<u64>();
        if view.requested != places + view.backordered + view.dropped + view.cancelled + view.lapsed {
            return Err("has units that are counted twice, or not at all".to_owned());
        }
        let shipped = view.shipped.values().sum::<u64>();
        if shipped > view.requested || view.returned > shipped {
            return Err(format!("asks for {}, was shipped {shipped}, and gave back {}", view.requested, view.returned));
        }
        if view.placements.keys().any(|reference| !self.batches.contains_key(reference)) {
            return Err("is in a batch that is none".to_owned());
        }
        let choice = self.choice_for(&line.terms);
        if view.placements.keys().any(|reference| choice.rank(&self.batches[reference].location).is_none()) {
            return Err("is at a location that it does not accept".to_owned());
        }
        let has_arrived = |reference: &BatchRef| self.batches.get(reference).is_some_and(|batch| batch.eta.is_none());
        let locked_in = |reference: &BatchRef| line.count(|place| *place == Place::Locked(reference.clone())) > 0;
        let left = view.placements.keys().filter(|reference| locked_in(reference)).chain(view.shipped.keys());
        if let Some(reference) = left.into_iter().find(|reference| !has_arrived(reference)) {
            return Err(format!("is locked in or shipped from {reference}, which has not arrived"));
        }
        let mut sources = line.sources.clone();
        sources.sort();
        if !view.shipped.keys().eq(&sources) {
            return Err("was shipped from other batches than it remembers".to_owned());
        }
        if line.is_whole() && view.placements.len() + usize::from(line.waiting() > 0) > 1 {
            return Err("may not be split, and is".to_owned());
        }
        Ok(())
    }

    /// Rule 10, looked at batch by batch: is there one from which somebody who waits could have a part? What can be promised may be more
    /// on another day, when several batches that are late are awaited for the same day.
    pub(super) fn nobody_waits_in_vain(&self, shelves: &Shelves) -> Result<(), String> {
        if self.looked_at.as_ref() != Some(&shelves.days) {
            return Ok(());
        }
        for Group { line, units, .. } in self.groups(|_, _| true, |place| *place == Place::Queue) {
            let choice = self.choice(&self.lines[&line]);
            let enough = match choice.terms.split {
                Split::Never => units,
                // A part, or the remainder.
                Split::Parts(least) | Split::OverLocations(least) => least.units().min(units),
            };
            for offer in &shelves.offers {
                let promisable = shelves.promisable(offer);
                if promisable >= enough && choice.allows(shelves, offer) {
                    let (order, reference) = (&line.order_id, &offer.reference);
                    return Err(format!("{units} units of {order} wait, and {reference} has {promisable} to give"));
                }
            }
        }
        Ok(())
    }
}
