//! Holds: promises for a while (rules 13 and 14).

use super::Product;
use crate::error::Rejection;
use crate::events::Event;
use crate::ids::{HoldSeconds, Quantity};
use crate::order_line::LineKey;
use crate::states::{Answer, LineCommand};

impl Product {
    /// Whether a line's hold may be made to last.
    ///
    /// # Errors
    /// `UnknownLine`; `NotAllowed` once it has ended.
    pub fn may_confirm(&self, key: &LineKey) -> Result<Answer, Rejection> {
        self.allowed(LineCommand::Confirm, self.line(key).ok_or_else(|| self.unknown_line(key))?)
    }

    /// Makes a hold last. Again is fine.
    ///
    /// # Errors
    /// As [`Product::may_confirm`].
    pub fn confirm(&mut self, key: &LineKey) -> Result<(), Rejection> {
        if self.may_confirm(key)? == Answer::Same {
            return Ok(());
        }
        let line = self.change_line(key, |line| {
            line.hold = None;
            line.clone()
        });
        for (reference, part) in line.placements() {
            let batch = self.batch_mut(reference);
            batch.held -= part.qty.units();
            batch.allocated += part.qty.units();
            let (line, reference, split) = (key.clone(), reference.clone(), line.terms.split.is_allowed());
            self.raise(Event::Allocated { line, accepted: part.accepted, qty: part.qty, reference, split, held: true });
        }
        Ok(())
    }

    /// Whether a line's hold may last longer.
    ///
    /// # Errors
    /// `UnknownLine`; `NotAllowed` unless it is held.
    pub fn may_extend(&self, key: &LineKey) -> Result<Answer, Rejection> {
        self.allowed(LineCommand::Extend, self.line(key).ok_or_else(|| self.unknown_line(key))?)
    }

    /// Lets a hold last for so long from now; never shorter than it did.
    ///
    /// # Errors
    /// As [`Product::may_extend`].
    pub fn extend(&mut self, key: &LineKey, hold: HoldSeconds) -> Result<(), Rejection> {
        self.may_extend(key)?;
        let until = hold.from(self.now);
        let longer = self.known_line(key).hold.is_some_and(|before| before < until);
        if longer {
            self.change_line(key, |line| line.hold = Some(until));
            self.raise(Event::HoldExtended { line: key.clone(), until });
        }
        Ok(())
    }

    /// Ends the holds among lines at hand whose time has come, by seniority.
    pub fn expire_holds(&mut self) {
        let mut due: Vec<_> = self
            .lines
            .values()
            .filter(|line| line.hold.is_some_and(|until| until <= self.now))
            .map(|line| (line.seniority(line.accepted), line.key.clone()))
            .collect();
        due.sort();
        for (_, key) in due {
            let parts: Vec<_> =
                self.known_line(&key).placements().map(|(at, part)| (at.clone(), part.accepted, part.qty)).collect();
            let mut units = 0;
            for (reference, accepted, qty) in parts {
                units += qty.units();
                self.release(&key, accepted, &reference, qty.units());
                self.raise(Event::HoldExpired { line: key.clone(), accepted, qty, reference });
            }
            self.change_line(&key, |line| {
                line.close();
                line.lapsed += units;
            });
            self.out_of_stock_raised = false;
        }
    }

    /// A hold can't be kept: it ends, and its units are gone already.
    pub(super) fn lose_hold(&mut self, key: &LineKey, units: u64) {
        self.change_line(key, |line| {
            line.close();
            line.lapsed += units;
        });
        self.raise(Event::HoldLost { line: key.clone(), qty: Quantity::part(units) });
    }
}
