//! Supply: batches come, change, move in time and fall away (rules 7 and 15 to 17).

use allocation_domain::commands::{Rest, Transfer};
use allocation_domain::{BatchQuantity, BatchRef, Calendar, Location};
use time::Date;

use super::{Batch, BatchIs, Group, KnownBatch, Place, Stock};
use crate::model::Refused;
use crate::shelves::arrival;

impl Stock {
    /// What is known of a batch.
    pub(crate) fn batch(&self, reference: &BatchRef) -> Option<KnownBatch> {
        self.batches.get(reference).map(|batch| {
            let is = match batch {
                Batch { cancelled: true, .. } => BatchIs::Cancelled,
                Batch { expired: true, .. } => BatchIs::Expired,
                Batch { eta: Some(_), .. } => BatchIs::Expected,
                Batch { eta: None, .. } => BatchIs::OnHand,
            };
            KnownBatch {
                is,
                location: batch.location.clone(),
                declared: batch.declared,
                eta: batch.eta,
                expires_on: batch.expires_on,
            }
        })
    }

    /// Whether each of its batches must say when it expires, and this one does not.
    pub(crate) fn lacks_expiry(&self, expires_on: Option<Date>) -> bool {
        self.settings.requires_expiry && expires_on.is_none()
    }

    pub(crate) fn create(
        &mut self,
        reference: BatchRef,
        units: u64,
        eta: Option<Date>,
        expires_on: Option<Date>,
        location: Location,
        days: &Calendar,
    ) {
        let came = eta.is_none().then(|| self.next_arrival());
        let mut batch = Batch {
            location,
            declared: units,
            found: 0,
            lost: 0,
            sent: 0,
            quarantined: 0,
            eta,
            came,
            expires_on,
            cancelled: false,
            expired: false,
        };
        batch.expired = batch.is_over(days);
        self.batches.insert(reference, batch);
        self.stirred = true;
    }

    pub(super) fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    pub(super) fn batch_mut(&mut self, reference: &BatchRef) -> &mut Batch {
        self.batches.get_mut(reference).expect("a known batch")
    }

    /// Whether such a total may be declared of a batch: there can't be fewer units than none.
    pub(crate) fn may_redeclare(&self, reference: &BatchRef, units: u64) -> Result<(), Refused> {
        let before = self.batches[reference].declared;
        let there = (self.quantity(reference) + units).checked_sub(before).ok_or(Refused::TooMany)?;
        if there > BatchQuantity::MAX { Err(Refused::TooMany) } else { Ok(()) }
    }

    /// Another total is declared of a batch; what became of its units since stands (rule 15).
    pub(crate) fn redeclare(&mut self, reference: &BatchRef, units: u64, days: &Calendar) -> Result<(), Refused> {
        self.may_redeclare(reference, units)?;
        self.batch_mut(reference).declared = units;
        self.stirred = true;
        let losers = self.take_out(reference);
        self.place_again(&losers, days);
        Ok(())
    }

    pub(crate) fn receive(&mut self, reference: &BatchRef, units: u64, rest: Rest, days: &Calendar) {
        let came = Some(self.next_arrival());
        let batch = self.batch_mut(reference);
        let (before, eta, expires_on) = (batch.declared, batch.eta, batch.expires_on);
        let location = batch.location.clone();
        (batch.declared, batch.eta, batch.came) = (units, None, came);
        self.stirred = true;
        let losers = self.take_out(reference);
        if rest == Rest::Keep && before > units {
            let rest = rest_of(reference).expect("the name was seen to be free");
            self.create(rest, before - units, eta, expires_on, location, days);
        }
        self.place_again(&losers, days);
    }

    /// Free units leave for another location, where they are expected as a batch of their own.
    pub(crate) fn transfer(&mut self, transfer: &Transfer, days: &Calendar) {
        let Transfer { from, qty, to, reference, eta, .. } = transfer;
        let batch = self.batch_mut(from);
        batch.sent += qty.units();
        let expires_on = batch.expires_on;
        self.create(reference.clone(), qty.units(), Some(*eta), expires_on, to.clone(), days);
    }

    pub(crate) fn cancel_batch(&mut self, reference: &BatchRef, days: &Calendar) {
        let batch = self.batch_mut(reference);
        (batch.declared, batch.cancelled) = (0, true);
        let losers = self.take_out(reference);
        self.place_again(&losers, days);
    }

    /// Units in such a place in the order in which they lose it: of holds first, then by lowest seniority (rule 16).
    pub(super) fn weakest_first(&self, place: &Place) -> Vec<Group> {
        let mut groups = self.groups(|_, _| true, |at| at == place);
        groups.reverse();
        groups.sort_by_key(|group| self.lines[&group.line].until.is_none());
        groups
    }

    /// Takes units out of a batch until no more are in it than there are (rule 16): locked ones last, and none that are set aside
    /// while there is another.
    pub(super) fn take_out(&mut self, reference: &BatchRef) -> Vec<Group> {
        let quantity = self.quantity(reference);
        let batch = self.batch_mut(reference);
        batch.quarantined = batch.quarantined.min(quantity);
        for place in [Place::In(reference.clone()), Place::Locked(reference.clone())] {
            for group in self.weakest_first(&place) {
                let lacking = self.in_batch(reference).saturating_sub(self.usable(reference));
                if lacking == 0 {
                    break;
                }
                let line = self.line_mut(&group.line);
                if line.is_whole() {
                    line.put_all(|place| place.batch() == Some(reference), &Place::Moving);
                } else {
                    line.put(group.turn, group.units.min(lacking), &place, &Place::Moving);
                }
                self.stirred = true;
            }
        }
        self.groups(|_, _| true, |place| *place == Place::Moving)
    }

    /// Places units that were taken out wherever stock is free; else they wait, and a hold that can't be kept whole ends.
    pub(super) fn place_again(&mut self, losers: &[Group], days: &Calendar) {
        for loser in losers {
            let line = &self.lines[&loser.line];
            let choice = self.choice(line);
            if line.count(|place| *place == Place::Moving) == 0 {
                // A hold's units are all looked at with the first of them.
                continue;
            }
            if line.until.is_none() {
                let mut missing = loser.units;
                for (reference, units) in choice.choose(&self.shelves(days), loser.units) {
                    self.line_mut(&loser.line).put(loser.turn, units, &Place::Moving, &Place::In(reference));
                    missing -= units;
                }
                self.line_mut(&loser.line).put(loser.turn, missing, &Place::Moving, &Place::Queue);
                continue;
            }
            // A hold's units look for one place together, which those that were accepted first are the first to fill.
            let lost = line.count(|place| *place == Place::Moving);
            let places = choice.choose(&self.shelves(days), lost);
            let line = self.line_mut(&loser.line);
            if places.iter().map(|(_, units)| units).sum::<u64>() == lost {
                for (reference, units) in places {
                    line.put_first(units, &Place::Moving, &Place::In(reference));
                }
            } else {
                line.until = None;
                line.put_all(|place| matches!(place, Place::In(_) | Place::Moving), &Place::Lapsed);
                self.stirred = true;
            }
        }
    }

    /// A batch comes on another day, or has arrived (rule 17).
    pub(crate) fn reschedule(&mut self, reference: &BatchRef, to: Option<Date>, days: &Calendar) {
        let batch = &self.batches[reference];
        let today = days.today(&batch.location);
        let before = arrival(batch.eta, today);
        let came = to.is_none().then(|| self.next_arrival());
        let batch = self.batch_mut(reference);
        (batch.eta, batch.came) = (to, came);
        self.stirred = true;
        if arrival(to, today) <= before {
            return;
        }
        let here = Place::In(reference.clone());
        let groups = self.groups(|_, _| true, |place| *place == here);
        let (shelves, here_now) = (self.shelves(days), self.offer(reference, days));
        self.lose_places(reference, |choice| !choice.may_keep(&shelves, &here_now));
        for group in groups {
            let line = &self.lines[&group.line];
            if line.count(|place| *place == Place::Moving) > 0 {
                // All of a hold's units are looked at with the first of them.
                self.place_again(&[group], days);
            } else if line.count(|place| *place == here) > 0 {
                self.move_earlier(&group, reference, days);
            }
        }
    }

    /// A batch is of use until another day.
    pub(crate) fn expire_on(&mut self, reference: &BatchRef, last: Option<Date>, days: &Calendar) {
        let batch = self.batch_mut(reference);
        batch.expires_on = last;
        batch.expired = batch.is_over(days);
        self.stirred = true;
        self.check(|of| of == reference, days);
    }
}

/// What the rest of a shipment is called: `PO`, `PO~2`, `PO~3` …
pub(crate) fn rest_of(reference: &BatchRef) -> Option<BatchRef> {
    let text = reference.as_str();
    let numbered = text.rfind('~').filter(|at| *at > 0).and_then(|at| {
        let number: u32 = text[at + 1..].parse().ok()?;
        Some(format!("{}~{}", &text[..at], number.checked_add(1)?))
    });
    BatchRef::new(numbered.unwrap_or_else(|| format!("{text}~2"))).ok()
}
