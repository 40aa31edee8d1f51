//! What callers change about their lines (rules 23 and 24).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use allocation_domain::commands::{LineChange, WhenShort};
use allocation_domain::{BatchRef, Calendar, LineKey, Split, Terms};
use time::Date;

use super::{Place, Stock, Unit};
use crate::model::{Outcome, Refused};

impl Stock {
    /// No longer wanted. `true` if it was.
    pub(crate) fn cancel_line(&mut self, key: &LineKey) -> bool {
        let line = self.line_mut(key);
        if !line.is_open() {
            return false;
        }
        let frees = line.placed() > 0;
        line.until = None;
        line.put_all(|place| matches!(place, Place::In(_) | Place::Queue), &Place::Cancelled);
        self.stirred |= frees;
        true
    }

    /// The line asks for something else (rule 23). `self` is a copy, of no use after a refusal.
    pub(crate) fn change(
        &mut self,
        key: &LineKey,
        change: &LineChange,
        turn: u64,
        days: &Calendar,
    ) -> Result<Outcome, Refused> {
        let line = self.lines.get_mut(key).ok_or(Refused::UnknownLine)?;
        if !line.is_open() {
            return Err(Refused::NotAllowed);
        }
        let dropped = line.count(|place| *place == Place::Dropped);
        let requested = line.units.len() as u64;
        let terms = Terms {
            priority: change.priority.unwrap_or(line.terms.priority),
            by: change.by.unwrap_or(line.terms.by),
            ..line.terms.clone()
        };
        let same = change.qty.is_none_or(|qty| qty.units() == requested && dropped == 0);
        if same && terms == line.terms {
            return Ok(Outcome::Same);
        }
        if change.qty.is_some_and(|qty| qty.units() < line.shipped() + line.locked()) {
            return Err(Refused::TooFew);
        }
        let whole = terms.split == Split::Never;
        line.terms = terms;
        let ordered = line.ordered();
        if change.qty.is_some() {
            line.units.retain(|unit| unit.place != Place::Dropped);
        }
        let to = change.qty.map_or(ordered, allocation_domain::Quantity::units);
        for _ in to..ordered {
            self.remove_one(key);
        }
        if !whole || to <= ordered {
            self.leave_what_is_late(key, change.when_short, days)?;
        }
        if to > ordered {
            self.grow(key, to - ordered, change.when_short, turn, days)?;
        }
        self.stirred = true;
        Ok(Outcome::Changed)
    }

    /// Removes the unit that is missed least: one that waits, else of the latest arrival; of these the one that was added last. None
    /// that is locked or shipped.
    pub(super) fn remove_one(&mut self, key: &LineKey) {
        let etas: BTreeMap<BatchRef, Option<Date>> =
            self.batches.iter().map(|(reference, batch)| (reference.clone(), batch.eta)).collect();
        let line = self.line_mut(key);
        let rank = |unit: &Unit| match &unit.place {
            Place::Queue => Some((true, None, unit.turn, None)),
            Place::In(reference) => Some((false, etas[reference], unit.turn, Some(Reverse(reference.clone())))),
            _ => None,
        };
        let at = (0..line.units.len()).max_by_key(|at| rank(&line.units[*at])).expect("a line has units");
        assert!(rank(&line.units[at]).is_some(), "a line has a unit that may be removed");
        line.units.remove(at);
        line.counted = line.counted.min(line.waiting());
    }

    pub(super) fn leave_what_is_late(
        &mut self,
        key: &LineKey,
        when_short: WhenShort,
        days: &Calendar,
    ) -> Result<(), Refused> {
        let line = &self.lines[key];
        if line.is_pinned() {
            return Ok(());
        }
        let (waiting, until) = (line.waiting(), line.until);
        let (choice, shelves) = (self.choice(line), self.shelves(days));
        let late = shelves.offers.iter().filter(|offer| !choice.may_keep(&shelves, offer));
        let late: Vec<&BatchRef> = late.map(|offer| &offer.reference).collect();
        let is_late = |place: &Place| matches!(place, Place::In(reference) if late.contains(&reference));
        self.line_mut(key).put_all(is_late, &Place::Moving);
        let losers = self.groups(|other, _| other == key, |place| *place == Place::Moving);
        self.place_again(&losers, days);
        let line = &self.lines[key];
        if line.until != until || (line.waiting() > waiting && when_short != WhenShort::Backorder) {
            return Err(Refused::Short);
        }
        Ok(())
    }

    pub(super) fn grow(
        &mut self,
        key: &LineKey,
        more: u64,
        when_short: WhenShort,
        turn: u64,
        days: &Calendar,
    ) -> Result<(), Refused> {
        let line = &self.lines[key];
        let (choice, shelves) = (self.choice(line), self.shelves(days));
        let held = line.until.is_some();
        if line.is_whole() {
            let open = line.placed() + line.waiting();
            let unit = line.units.iter().find(|unit| unit.place.batch().is_some() || unit.place == Place::Queue);
            let Unit { turn, place } = unit.expect("an open line has units").clone();
            let Some(reference) = place.batch() else {
                if when_short != WhenShort::Backorder {
                    return Err(Refused::Short);
                }
                self.room_in_queue(more)?;
                let line = self.line_mut(key);
                line.add(turn, more, &Place::Queue);
                line.counted += more;
                return Ok(());
            };
            let here = self.offer(reference, days);
            let stays = shelves.promisable(&here) >= more && choice.allows(&shelves, &here);
            let to = if stays {
                Place::In(reference.clone())
            } else if line.is_pinned() {
                return Err(Refused::Short);
            } else {
                let takes = choice.choose(&shelves, open + more);
                Place::In(takes.into_iter().next().ok_or(Refused::Short)?.0)
            };
            let line = self.line_mut(key);
            line.put_all(|place| matches!(place, Place::In(_)), &to);
            line.add(turn, more, &to);
            return Ok(());
        }
        let takes = choice.choose(&shelves, more);
        let missing = more - takes.iter().map(|(_, units)| units).sum::<u64>();
        let place = match when_short {
            WhenShort::Partial if !takes.is_empty() => Place::Dropped,
            WhenShort::Backorder if !held => Place::Queue,
            _ if missing == 0 => Place::Queue,
            _ => return Err(Refused::Short),
        };
        if place == Place::Queue {
            self.room_in_queue(missing)?;
        }
        let line = self.line_mut(key);
        for (reference, units) in takes {
            line.add(turn, units, &Place::In(reference));
        }
        line.add(turn, missing, &place);
        if place == Place::Queue {
            line.counted += missing;
        }
        Ok(())
    }
}
