//! Expiry: batches are of use until a day, and lines want them to keep for a while (rule 7).

use std::collections::BTreeMap;

use time::{Date, Duration};

use super::Product;
use super::supply::{Declared, Displaced, Loss};
use crate::batch::Batch;
use crate::error::Rejection;
use crate::events::Event;
use crate::ids::BatchRef;
use crate::order_line::{AcceptedLine, LineKey, PartKey, Terms};
use crate::placing::may_have;
use crate::states::{Answer, BatchCommand};

impl Product {
    /// For how many days a line's units must be of use.
    pub(super) fn min_days(&self, terms: &Terms) -> u16 {
        terms.min_days.unwrap_or(self.settings.min_days)
    }

    /// Whether a line on these terms may have units of a batch.
    pub(super) fn may_have(&self, batch: &Batch, terms: &Terms) -> bool {
        may_have(batch, terms, self.min_days(terms), &self.calendar)
    }

    /// Whether so many units of a batch can be promised to a line on these terms.
    pub(super) fn may_be_promised(&self, batch: &Batch, terms: &Terms, units: u64) -> bool {
        self.promisable(batch) >= units && self.may_have(batch, terms)
    }

    pub(super) fn must_say_expiry(&self, reference: &BatchRef, expires_on: Option<Date>) -> Result<(), Rejection> {
        if self.settings.requires_expiry && expires_on.is_none() {
            return Err(Rejection::ExpiryMissing { sku: self.sku.clone(), reference: reference.clone() });
        }
        Ok(())
    }

    /// Whether anything of it may be due: a hold that ends, a batch that expires.
    pub fn may_be_due(&self) -> bool {
        self.held() > 0 || self.batches.iter().any(|batch| batch.expires_on.is_some() && !batch.expired)
    }

    /// The first day on which a line at hand may lose a place for want of shelf life; none: never, as things are.
    pub fn spoils_on(&self, line: &AcceptedLine) -> Option<Date> {
        let min_days = Duration::days(self.min_days(&line.terms).into());
        let last_good = |reference: &BatchRef| {
            let batch = self.batch(reference)?;
            let last = batch.expires_on?.checked_sub(min_days)?;
            // What has not come arrives tomorrow at the earliest.
            if batch.has_arrived() { last.next_day() } else { Some(last) }
        };
        line.placements().filter_map(|(reference, _)| last_good(reference)).min()
    }

    /// Lines that have to be written although no event tells of them.
    pub fn take_looked_over(&mut self) -> std::collections::BTreeSet<LineKey> {
        std::mem::take(&mut self.looked_over)
    }

    /// Whether a batch may be given this last day of use.
    ///
    /// # Errors
    /// `UnknownBatch`; `NotAllowed` once it is cancelled; `ExpiryMissing`.
    pub fn expiry_may_become(&self, reference: &BatchRef, to: Option<Date>) -> Result<Answer, Rejection> {
        if self.batch(reference).is_some_and(|batch| batch.expires_on == to && !batch.cancelled) {
            return Ok(Answer::Same);
        }
        let answer = self.batch_allows(BatchCommand::ChangeExpiry, reference)?;
        self.must_say_expiry(reference, to)?;
        Ok(answer)
    }

    /// Gives a batch another last day of use. Its lines must be at hand: those that it no longer keeps long enough for lose their place.
    ///
    /// # Errors
    /// As [`Product::expiry_may_become`].
    pub fn change_expiry(
        &mut self,
        reference: &BatchRef,
        to: Option<Date>,
    ) -> Result<(Declared, Vec<Displaced>), Rejection> {
        if self.expiry_may_become(reference, to)? == Answer::Same {
            return Ok((Declared::Same, Vec::new()));
        }
        let revision = self.version + 1;
        let calendar = self.calendar.clone();
        let batch = self.batch_mut(reference);
        let today = calendar.today(&batch.location);
        let from = batch.expires_on;
        let expired = to.is_some_and(|last| last < today);
        (batch.expires_on, batch.expired, batch.revision) = (to, expired, revision);
        self.out_of_stock_raised &= expired;
        self.raise(Event::ExpiryChanged { reference: reference.clone(), from, to, expired });
        let inside = self.lines.values().filter(|line| line.is_in(reference)).map(|line| line.key.clone());
        self.looked_over.extend(inside.collect::<Vec<_>>());
        Ok((Declared::Changed, self.lose_what_spoils()))
    }

    /// Looks over the places of lines at hand after its settings have changed.
    pub fn look_over(&mut self) -> Vec<Displaced> {
        let perishable = |line: &&AcceptedLine| self.spoils_on(line).is_some();
        let placed: Vec<_> = self.lines.values().filter(perishable).map(|line| line.key.clone()).collect();
        self.looked_over.extend(placed);
        self.lose_what_spoils()
    }

    /// Batches whose last day is over are of no use any more.
    pub fn expire_batches(&mut self) {
        let references: Vec<_> = self.batches.iter().map(|batch| batch.reference.clone()).collect();
        for reference in references {
            self.expire_batch(&reference);
        }
    }

    /// The same of one that is at hand.
    pub(super) fn expire_batch(&mut self, reference: &BatchRef) {
        let over = |batch: &Batch| {
            batch.expires_on.is_some_and(|last| last < self.calendar.today(&batch.location)) && !batch.expired
        };
        if self.batch(reference).is_some_and(|batch| over(batch) && !batch.cancelled) {
            let batch = self.batch_mut(reference);
            batch.expired = true;
            let qty = batch.quantity;
            self.raise(Event::BatchExpired { reference: reference.clone(), qty });
        }
    }

    /// Lines at hand lose the places that do not keep for as long as they need: they go wherever other stock can take them, else they wait.
    pub fn lose_what_spoils(&mut self) -> Vec<Displaced> {
        let mut losses: BTreeMap<(PartKey, BatchRef), Loss> = BTreeMap::new();
        for line in self.lines.values() {
            for (reference, part) in line.placements() {
                let Some(batch) = self.batch(reference) else { continue };
                // Whether it comes too late is another question.
                let terms = Terms { by: None, locations: None, ..line.terms.clone() };
                if !batch.expired && self.may_have(batch, &terms) {
                    continue;
                }
                let key = PartKey { line: line.key.clone(), accepted: part.accepted };
                let units = part.qty.units();
                let loss = losses.entry((key.clone(), reference.clone())).or_insert_with(|| Loss {
                    seniority: line.seniority(part.accepted),
                    part: key,
                    reference: reference.clone(),
                    units: 0,
                });
                loss.units += units;
            }
        }
        if losses.is_empty() {
            return Vec::new();
        }
        let mut losses: Vec<Loss> = losses.into_values().collect();
        losses.sort_by_key(|loss| loss.seniority);
        let first = self.events.len();
        let before = self.promises(losses.iter().map(|loss| &loss.part.line));
        let displaced = self.displace(&losses);
        self.tell_promises(before);
        self.put_in_order(first);
        displaced
    }
}
