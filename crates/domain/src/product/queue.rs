//! The queue: who waits is served as soon as stock is free (rule 10), and promises move to earlier stock when asked to (rule 12).

use super::Product;
use crate::batch::Batch;
use crate::events::DeallocationReason;
use crate::ids::{BatchRef, Location};
use crate::order_line::{AcceptedLine, LineKey, PartKey, Split};
use crate::placing::{Choice, Take, ready};

impl Product {
    /// Whether free stock might serve somebody who waits.
    pub fn could_serve_queue(&self) -> bool {
        self.backordered > 0 && self.largest_free() > 0
    }

    /// Whether stock may have become free by the day alone: batches that are late are awaited for the same day now, so that more can be promised of
    /// them together, once the safety stock is kept back, than of each.
    pub fn day_may_serve_queue(&self) -> bool {
        let late = |batch: &Batch| batch.eta.is_some_and(|eta| eta <= self.calendar.today(&batch.location));
        !self.settings.levels.is_empty() && self.batches.iter().any(late) && self.could_serve_queue()
    }

    /// Offers free stock to these waiting units, each named by line and acceptance, in the order given, which is by seniority. All take what
    /// they may, also in part; who may take nothing is passed over.
    pub fn serve(&mut self, waiting: &[PartKey]) {
        for PartKey { line: key, accepted } in waiting {
            let Some(line) = self.lines.get(key) else { continue };
            let units: u64 =
                line.waiting().filter(|part| part.accepted == *accepted).map(|part| part.qty.units()).sum();
            if units == 0 {
                continue;
            }
            for (reference, units) in self.named(self.would_take(line, units)) {
                self.change_line(key, |line| {
                    assert!(line.take(*accepted, None, units), "what is served has waited");
                });
                self.place(key, *accepted, &reference, units);
            }
        }
    }

    /// Where so many more units of a line that is known could come from now: from where its other parts are, unless it may be anywhere.
    pub(super) fn would_take(&self, line: &AcceptedLine, units: u64) -> Vec<Take> {
        let at = self.stays_at(line);
        Choice { at, ..self.choice(&line.terms) }.choose(|at| self.batches[at].free(), units)
    }

    /// The location where all parts of a line have to be, given where some are (rule 4).
    fn stays_at(&self, line: &AcceptedLine) -> Option<&Location> {
        let Split::Parts(_) = line.terms.split else { return None };
        line.placements().find_map(|(at, _)| self.batch(at)).map(|batch| &batch.location)
    }

    pub(super) fn named(&self, takes: Vec<Take>) -> Vec<(BatchRef, u64)> {
        takes.into_iter().map(|(at, units)| (self.batches[at].reference.clone(), units)).collect()
    }

    /// Batches that somebody's units might leave for an earlier one, by the preference of the batches.
    pub fn could_improve(&self) -> Vec<BatchRef> {
        let free = self.batches.iter().filter(|batch| self.promisable(batch) > 0);
        let Some(earliest) = free.map(|batch| batch.arrival(&self.calendar)).min() else { return Vec::new() };
        let later =
            |batch: &&Batch| !batch.has_arrived() && batch.placed() > 0 && batch.arrival(&self.calendar) > earliest;
        self.batches.iter().filter(later).map(|batch| batch.reference.clone()).collect()
    }

    /// Moves placements at hand in these batches, by seniority, to strictly earlier batches that have units free. `true` if anything moved.
    pub fn improve(&mut self, from: &[BatchRef]) -> bool {
        let mut places: Vec<_> = self
            .lines
            .values()
            .flat_map(|line| line.placements().map(move |(reference, part)| (line, reference, part)))
            .filter(|(_, reference, _)| from.contains(reference))
            .map(|(line, at, part)| (line.seniority(part.accepted), line.key.clone(), at.clone(), part.qty.units()))
            .collect();
        places.sort();
        let first = self.events.len();
        let before = self.promises(places.iter().map(|(_, key, ..)| key));
        let mut moved = false;
        for ((_, accepted), key, reference, units) in places {
            moved |= self.move_earlier(&key, accepted, &reference, units);
        }
        self.tell_promises(before);
        self.put_in_order(first);
        moved
    }

    /// Moves what it can of so many units in a batch to batches that make them ready on an earlier day.
    pub(super) fn move_earlier(&mut self, key: &LineKey, accepted: u64, reference: &BatchRef, units: u64) -> bool {
        let line = self.known_line(key);
        // Nothing is earlier than what is on hand, whatever day it is elsewhere.
        let Some(here) = self.batch(reference).filter(|batch| !batch.has_arrived()) else { return false };
        // What is ready on the day it is wanted is not ready any earlier.
        let before = Some(ready(here, &line.terms, &self.calendar));
        let choose = |at| {
            let choice = Choice { at, before, ..self.choice(&line.terms) };
            choice.choose(|at| self.batches[at].free(), units)
        };
        // What goes elsewhere leaves nothing of the line behind.
        let together = matches!(line.terms.split, Split::Parts(_));
        let mut takes = choose((together && line.placed() > units).then_some(&here.location));
        if together && takes.iter().map(|(_, units)| units).sum::<u64>() < units {
            takes = choose(Some(&here.location));
        }
        let takes = self.named(takes);
        if takes.is_empty() {
            return false;
        }
        let going: u64 = takes.iter().map(|(_, units)| units).sum();
        self.deallocate_part(key, accepted, reference, going, DeallocationReason::Released);
        for (to, units) in takes {
            self.place(key, accepted, &to, units);
        }
        true
    }
}
