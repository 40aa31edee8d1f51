//! The queue: who waits is served as soon as stock is free (rule 10), and promises move to earlier stock when asked to (rule 12).

use super::Product;
use crate::batch::Batch;
use crate::events::DeallocationReason;
use crate::ids::BatchRef;
use crate::order_line::{AcceptedLine, LineKey, PartKey};
use crate::placing::Take;

impl Product {
    /// Whether free stock might serve somebody who waits.
    pub fn could_serve_queue(&self) -> bool {
        self.backordered > 0 && self.largest_free() > 0
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

    /// Where so many more units of a line that is known could come from now.
    pub(super) fn would_take(&self, line: &AcceptedLine, units: u64) -> Vec<Take> {
        self.choice(&line.terms).choose(|at| self.batches[at].free(), units)
    }

    pub(super) fn named(&self, takes: Vec<Take>) -> Vec<(BatchRef, u64)> {
        takes.into_iter().map(|(at, units)| (self.batches[at].reference.clone(), units)).collect()
    }

    /// Batches that somebody's units might leave for an earlier one, by the preference of the batches.
    pub fn could_improve(&self) -> Vec<BatchRef> {
        let earliest = self.batches.iter().find(|batch| batch.free() > 0).map(|batch| batch.arrival(self.today()));
        let Some(earliest) = earliest else { return Vec::new() };
        let later = |batch: &&Batch| batch.placed() > 0 && batch.arrival(self.today()) > earliest;
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
        let today = self.today();
        // What is ready on the day it is wanted is not ready any earlier.
        let ready = |batch: &Batch| batch.arrival(today).max(line.terms.not_before.unwrap_or(today));
        let Some(now) = self.batch(reference).map(ready) else { return false };
        let earlier = |at: usize| {
            let batch = &self.batches[at];
            if ready(batch) < now { batch.free() } else { 0 }
        };
        let takes = self.named(self.choice(&line.terms).choose(earlier, units));
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
