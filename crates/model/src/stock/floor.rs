//! What is done with units by hand: they are set aside, counted, picked, shipped, and come back (rules 18 and 20 to 22).

use std::cmp::Reverse;

use allocation_domain::commands::{Adjustment, ReturnTo};
use allocation_domain::{BatchQuantity, BatchRef, Calendar, LineKey};

use super::{Group, Place, Stock, Unit};
use crate::model::{Outcome, Refused};

/// A unit's place that a line gives up, for one in the batch that it is shipped from.
struct GivenUp {
    reference: BatchRef,
    /// Somebody else has it.
    taken: bool,
}

impl Stock {
    // ---- Batches ----

    /// Something else was found of a batch than was thought to be there (rule 22).
    pub(crate) fn adjust(
        &mut self,
        reference: &BatchRef,
        adjustment: Adjustment,
        days: &Calendar,
    ) -> Result<Outcome, Refused> {
        let quantity = self.quantity(reference);
        let now = match adjustment {
            Adjustment::Damaged(qty) => quantity.checked_sub(qty.units()).ok_or(Refused::TooMany)?,
            Adjustment::Found(qty) => quantity + qty.units(),
            Adjustment::Recount(counted) => counted.units(),
        };
        if now == quantity {
            return Ok(Outcome::Same);
        }
        if now > BatchQuantity::MAX {
            return Err(Refused::TooMany);
        }
        let batch = self.batch_mut(reference);
        batch.found += now.saturating_sub(quantity);
        batch.lost += quantity.saturating_sub(now);
        self.stirred = true;
        let losers = self.take_out(reference);
        self.place_again(&losers, days);
        Ok(Outcome::Changed)
    }

    /// Units are set aside, or else all of them (rule 18).
    pub(crate) fn quarantine(
        &mut self,
        reference: &BatchRef,
        units: Option<u64>,
        days: &Calendar,
    ) -> Result<Outcome, Refused> {
        let rest = self.usable(reference);
        let units = units.unwrap_or(rest);
        if units > rest {
            return Err(Refused::TooMany);
        }
        if units == 0 {
            return Ok(Outcome::Same);
        }
        self.batch_mut(reference).quarantined += units;
        self.stirred = true;
        let losers = self.take_out(reference);
        self.place_again(&losers, days);
        Ok(Outcome::Changed)
    }

    /// Units that were set aside are free again, or else all of them (rule 18).
    pub(crate) fn release(&mut self, reference: &BatchRef, units: Option<u64>) -> Result<Outcome, Refused> {
        let batch = self.batch_mut(reference);
        let units = units.unwrap_or(batch.quarantined);
        batch.quarantined = batch.quarantined.checked_sub(units).ok_or(Refused::TooMany)?;
        if units == 0 {
            return Ok(Outcome::Same);
        }
        self.stirred = true;
        Ok(Outcome::Changed)
    }

    fn has_arrived(&self, reference: &BatchRef) -> bool {
        self.batches[reference].eta.is_none()
    }

    // ---- Picking ----

    pub(crate) fn locked(&self, key: &LineKey) -> u64 {
        self.lines[key].locked()
    }

    /// Locks the units of a line that are on hand. `true` if there was one that was not locked.
    pub(crate) fn pick(&mut self, key: &LineKey) -> bool {
        let before = self.locked(key);
        for reference in self.batches.keys().cloned().collect::<Vec<_>>() {
            if self.has_arrived(&reference) {
                let here = Place::In(reference.clone());
                self.line_mut(key).put_all(|place| *place == here, &Place::Locked(reference));
            }
        }
        self.locked(key) > before
    }

    /// Takes all units of a line back from picking. `true` if there was one.
    pub(crate) fn unpick(&mut self, key: &LineKey) -> bool {
        let before = self.locked(key);
        for reference in self.batches.keys().cloned().collect::<Vec<_>>() {
            let here = Place::Locked(reference.clone());
            self.line_mut(key).put_all(|place| *place == here, &Place::In(reference));
        }
        self.stirred |= before > 0;
        before > 0
    }

    // ---- Shipping ----

    pub(crate) fn allocated(&self, key: &LineKey) -> u64 {
        self.lines[key].placed()
    }

    /// Units of a line have left (rule 20), from where it has them or from a batch that is on hand. `self` is a copy, of no use after a
    /// refusal.
    pub(crate) fn ship(
        &mut self,
        key: &LineKey,
        units: u64,
        from: Option<&BatchRef>,
        days: &Calendar,
    ) -> Result<(), Refused> {
        self.stirred = true;
        match from {
            None => self.ship_what_it_has(key, units),
            Some(from) => self.ship_from(key, units, from, days),
        }
    }

    fn ship_what_it_has(&mut self, key: &LineKey, units: u64) -> Result<(), Refused> {
        for _ in 0..units {
            let reference = self.ship_one(key, Self::has_arrived);
            reference.ok_or(Refused::NotOnHand)?;
        }
        Ok(())
    }

    /// Ships a unit that a line has in such a batch, a locked one if there is one, then the one that was accepted first.
    fn ship_one(&mut self, key: &LineKey, from: impl Fn(&Self, &BatchRef) -> bool) -> Option<BatchRef> {
        let units = self.lines[key].units.iter().enumerate();
        let there = units.filter(|(_, unit)| unit.place.batch().is_some_and(|reference| from(self, reference)));
        let is_locked = |unit: &Unit| matches!(unit.place, Place::Locked(_));
        let next = there.min_by_key(|(_, unit)| (Reverse(is_locked(unit)), unit.turn, unit.place.batch()));
        let (at, reference) = next.and_then(|(at, unit)| Some((at, unit.place.batch()?.clone())))?;
        self.leave(key, at, &reference);
        Some(reference)
    }

    /// A unit of a line goes from a batch to the customer.
    fn leave(&mut self, key: &LineKey, at: usize, from: &BatchRef) {
        let line = self.line_mut(key);
        line.units[at].place = Place::Shipped(from.clone());
        if !line.sources.contains(from) {
            line.sources.push(from.clone());
        }
    }

    fn ship_from(&mut self, key: &LineKey, units: u64, from: &BatchRef, days: &Calendar) -> Result<(), Refused> {
        let mut missing = units;
        while missing > 0 && self.ship_one(key, |_, at| at == from).is_some() {
            missing -= 1;
        }
        // What it has elsewhere goes back, for what is free here, and for what others then have there instead.
        let mut given_up = Vec::new();
        for _ in 0..missing {
            given_up.push(GivenUp { reference: self.give_up_one(key), taken: false });
        }
        missing = missing.saturating_sub(self.free(from));
        for group in self.weakest_first(&Place::In(from.clone())) {
            if missing > 0 && group.line != *key {
                let moved = self.make_room(&group, from, missing, &mut given_up, days);
                missing = missing.saturating_sub(moved);
            }
        }
        if missing > 0 {
            return Err(Refused::TooMany);
        }
        for at in 0..self.lines[key].units.len() {
            if self.lines[key].units[at].place == Place::Moving {
                self.leave(key, at, from);
            }
        }
        Ok(())
    }

    /// Takes the unit of a line out of its batch that is missed least: of the latest arrival, of these the one that was accepted last, of
    /// these that of the last reference, and a locked one last. Says in which batch it was.
    fn give_up_one(&mut self, key: &LineKey) -> BatchRef {
        let units = self.lines[key].units.iter().enumerate();
        let placed = units.filter_map(|(at, unit)| Some((at, unit.turn, unit.place.batch()?, &unit.place)));
        let least = placed.max_by_key(|(_, turn, reference, place)| {
            (self.batches[*reference].eta, *turn, *reference, matches!(place, Place::In(_)))
        });
        let (at, _, reference, _) = least.expect("no more is shipped than the line has");
        let reference = reference.clone();
        self.line_mut(key).units[at].place = Place::Moving;
        reference
    }

    /// Moves units of somebody else out of a batch, until it has room for what is missing, to places that were given up. A line that may
    /// not be split goes whole, to a batch with room for all of it. Says how many have moved.
    fn make_room(
        &mut self,
        group: &Group,
        from: &BatchRef,
        missing: u64,
        given_up: &mut [GivenUp],
        days: &Calendar,
    ) -> u64 {
        let here = Place::In(from.clone());
        let line = &self.lines[&group.line];
        let whole = line.is_whole();
        let (choice, shelves) = (self.choice(line), self.shelves(days));
        let accepts = |reference: &BatchRef| choice.accepts(&shelves, &self.offer(reference, days));
        if line.is_pinned() {
            return 0;
        }
        if whole {
            let may_go = |to: &&GivenUp| accepts(&to.reference) && self.free(&to.reference) >= group.units;
            let Some(to) = given_up.iter().find(may_go).map(|to| to.reference.clone()) else {
                return 0;
            };
            self.line_mut(&group.line).put(group.turn, group.units, &here, &Place::In(to.clone()));
            for _ in 0..group.units {
                if let Some(place) = given_up.iter_mut().find(|place| !place.taken && place.reference == to) {
                    place.taken = true;
                }
            }
            return group.units;
        }
        let good: Vec<bool> = given_up.iter().map(|to| !to.taken && accepts(&to.reference)).collect();
        let mut moved = 0;
        for (to, _) in given_up.iter_mut().zip(good).filter(|(_, good)| *good) {
            if moved < group.units.min(missing) {
                self.line_mut(&group.line).put(group.turn, 1, &here, &Place::In(to.reference.clone()));
                to.taken = true;
                moved += 1;
            }
        }
        moved
    }

    // ---- Returns ----

    pub(crate) fn shipped(&self, key: &LineKey) -> u64 {
        self.lines[key].shipped()
    }

    /// Units that the customer has now.
    pub(crate) fn with_customer(&self, key: &LineKey) -> u64 {
        let line = &self.lines[key];
        line.shipped() - line.returned()
    }

    /// Units of a line have come back (rule 21): first those that were shipped from the batch they are put into, then by first
    /// shipment. `self` is a copy, of no use after a refusal.
    pub(crate) fn take_back(
        &mut self,
        key: &LineKey,
        units: u64,
        to: ReturnTo,
        into: Option<&BatchRef>,
    ) -> Result<(), Refused> {
        self.stirred = true;
        for _ in 0..units {
            let line = self.line_mut(key);
            let mut sources = line.sources.clone();
            sources.sort_by_key(|from| Some(from) != into);
            let out = |from: &BatchRef| line.units.iter().position(|unit| unit.place == Place::Shipped(from.clone()));
            let next = sources.into_iter().find_map(|from| Some((out(&from)?, from)));
            let (at, from) = next.expect("no more comes back than was shipped");
            let into = into.unwrap_or(&from).clone();
            line.units[at].place = Place::Returned { from, into: (to != ReturnTo::Scrap).then(|| into.clone()) };
            if to == ReturnTo::Quarantine {
                self.batch_mut(&into).quarantined += 1;
            }
            if self.quantity(&into) > BatchQuantity::MAX {
                return Err(Refused::TooMany);
            }
        }
        Ok(())
    }
}
