//! What time does by itself: holds end, batches expire (rules 7 and 13).

use allocation_domain::{BatchRef, Calendar, LineKey};
use time::OffsetDateTime;

use super::{Place, Stock};
use crate::choosing::Choice;

impl Stock {
    /// Does what is due: holds end, batches expire, what is not of use for long enough any more is given up, and who waits is served
    /// (rules 7 and 13).
    pub(crate) fn do_what_is_due(&mut self, now: OffsetDateTime, days: &Calendar) {
        self.end_holds(now);
        for batch in self.batches.values_mut() {
            batch.expired = batch.is_over(days);
        }
        self.check(|_| true, days);
        if self.looked_at.as_ref() != Some(days) {
            // Batches that are late are awaited for one day now, so that more can be promised of each than on the days they were due.
            self.serve(days);
        }
        self.settle(days);
        self.looked_at = Some(days.clone());
    }

    /// Takes lines out of such batches if what they have there is not of use to them for long enough, locked or not (rule 7). All lose
    /// their places before the first is placed again.
    pub(super) fn check(&mut self, of: impl Fn(&BatchRef) -> bool, days: &Calendar) {
        let shelves = self.shelves(days);
        for offer in shelves.offers.iter().filter(|offer| of(&offer.reference)) {
            self.lose_places(&offer.reference, |choice| !choice.keeps(&shelves, offer));
        }
        let losers = self.groups(|_, _| true, |place| *place == Place::Moving);
        self.place_again(&losers, days);
    }

    /// Takes all units of such lines out of a batch.
    pub(super) fn lose_places(&mut self, reference: &BatchRef, lose: impl Fn(&Choice) -> bool) {
        for key in self.lines.keys().cloned().collect::<Vec<_>>() {
            let line = &self.lines[&key];
            if line.count(|place| place.batch() == Some(reference)) > 0 && lose(&self.choice(line)) {
                self.line_mut(&key).put_all(|place| place.batch() == Some(reference), &Place::Moving);
                self.stirred = true;
            }
        }
    }

    // ---- Holds ----

    /// Ends holds whose time has come.
    fn end_holds(&mut self, now: OffsetDateTime) {
        for line in self.lines.values_mut().filter(|line| line.until.is_some_and(|until| until <= now)) {
            line.until = None;
            line.put_all(|place| matches!(place, Place::In(_)), &Place::Lapsed);
            self.stirred = true;
        }
    }

    /// Makes a hold last. `true` if it was one.
    pub(crate) fn confirm(&mut self, key: &LineKey) -> bool {
        self.line_mut(key).until.take().is_some()
    }

    /// Lets a hold last longer. `true` if that is longer.
    pub(crate) fn extend(&mut self, key: &LineKey, to: OffsetDateTime) -> bool {
        let line = self.line_mut(key);
        let longer = line.until.is_some_and(|until| until < to);
        if longer {
            line.until = Some(to);
        }
        longer
    }
}
