//! Who waits, and who has something to come that is there sooner (rules 10 and 12).

use allocation_domain::{BatchRef, Calendar, Split};

use super::{Group, Place, Stock};
use crate::choosing::Choice;

impl Stock {
    /// After every command: who waits is served, and promises are made earlier when that is wanted.
    pub(crate) fn settle(&mut self, days: &Calendar) {
        if !std::mem::take(&mut self.stirred) {
            return;
        }
        loop {
            self.serve(days);
            if !self.settings.auto_improve || !self.improve(days) {
                break;
            }
        }
        self.stirred = false;
    }

    pub(super) fn serve(&mut self, days: &Calendar) {
        if self.shelves(days).offers.iter().all(|offer| offer.free == 0) {
            return;
        }
        for group in self.groups(|_, _| true, |place| *place == Place::Queue) {
            let choice = self.choice(&self.lines[&group.line]);
            for (reference, units) in choice.choose(&self.shelves(days), group.units) {
                self.line_mut(&group.line).put(group.turn, units, &Place::Queue, &Place::In(reference));
            }
        }
    }

    /// Offers every placement, by seniority, batches on which it would be ready earlier. `true` if any took some.
    pub(crate) fn improve(&mut self, days: &Calendar) -> bool {
        let mut places = Vec::new();
        for reference in self.batches.keys() {
            let here = Place::In(reference.clone());
            let groups = self.groups(|_, _| true, |place| *place == here);
            places.extend(groups.into_iter().map(|group| (group, reference.clone())));
        }
        places.sort_by_key(|(group, reference)| (group.seniority(), group.line.clone(), reference.clone()));
        let mut moved = false;
        for (group, reference) in places {
            moved |= self.move_earlier(&group, &reference, days);
        }
        moved
    }

    /// Moves what it can of a placement to batches on which it is ready earlier. What must stay at one location goes to another only if
    /// all of it does.
    pub(super) fn move_earlier(&mut self, group: &Group, from: &BatchRef, days: &Calendar) -> bool {
        let line = &self.lines[&group.line];
        // Nothing is earlier than what is on hand, whatever day it is elsewhere.
        if line.is_pinned() || self.batches[from].eta.is_none() {
            return false;
        }
        let shelves = self.shelves(days);
        let anywhere = self.choice_for(&line.terms);
        let here = self.offer(from, days);
        let now = anywhere.ready(&shelves, &here);
        if shelves.offers.iter().all(|offer| offer.free == 0 || anywhere.ready(&shelves, offer) >= now) {
            return false;
        }
        let earlier =
            |choice: &Choice| choice.choose_of(&shelves, |offer| choice.ready(&shelves, offer) < now, group.units);
        let mut takes = earlier(&anywhere);
        if let Split::Parts(_) = line.terms.split {
            let has_others = line.placed() > group.units;
            let all = takes.iter().map(|(_, units)| units).sum::<u64>() == group.units;
            if has_others || !all {
                takes = earlier(&Choice { bound: Some(here.location.clone()), ..anywhere });
            }
        }
        for (to, units) in &takes {
            self.line_mut(&group.line).put(group.turn, *units, &Place::In(from.clone()), &Place::In(to.clone()));
        }
        self.stirred |= !takes.is_empty();
        !takes.is_empty()
    }
}
