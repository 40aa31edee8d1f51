//! Folds events into balances: what the tables must say if the log is true.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::Batch;
use crate::commands::ReturnTo;
use crate::events::{DeallocationReason, Event};
use crate::ids::{BatchQuantity, BatchRef, Location, Quantity};
use crate::order_line::{AcceptedLine, LineKey, Terms};
use crate::product::Settings;

/// The books of one product, as its events tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The sequence number of the last event folded.
    pub version: u64,
    /// How the product is to behave.
    pub settings: Settings,
    /// Every batch that ever was.
    pub batches: BTreeMap<BatchRef, Batch>,
    /// Every line that ever was.
    pub lines: BTreeMap<LineKey, AcceptedLine>,
    /// Whether `OutOfStock` was raised since stock last came back.
    pub out_of_stock_raised: bool,
    /// Locations of which `LowStock` was raised last.
    pub low: BTreeSet<Location>,
    /// Holds of which some placements, but not all, are confirmed: the units that are.
    pub confirmed: BTreeMap<LineKey, u64>,
}

/// Why an event can't follow those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {sequence} ({event}) {why}")]
pub struct Inconsistent {
    /// The event.
    pub sequence: u64,
    /// Its name.
    pub event: &'static str,
    /// What is wrong.
    pub why: &'static str,
}

type Folded = Result<(), &'static str>;

fn ensure(is_so: bool, why: &'static str) -> Folded {
    if is_so { Ok(()) } else { Err(why) }
}

impl Ledger {
    /// Units that wait in the queue.
    pub fn backordered(&self) -> u64 {
        self.lines.values().map(AcceptedLine::backordered).sum()
    }

    /// Of these, units that the queue's cap counts.
    pub fn queued(&self) -> u64 {
        self.lines.values().map(|line| line.queued).sum()
    }

    /// Adds the next event of the product.
    ///
    /// # Errors
    /// When the log can't be true: a gap in the sequence, an unknown batch or line, more taken from a batch than it has.
    pub fn fold(&mut self, sequence: u64, event: &Event) -> Result<(), Inconsistent> {
        let inconsistent = |why| Inconsistent { sequence, event: event.name(), why };
        if sequence != self.version + 1 {
            return Err(inconsistent("does not follow the one before it"));
        }
        self.version = sequence;
        self.fold_batch(sequence, event).and_then(|()| self.fold_line(sequence, event)).map_err(inconsistent)
    }

    fn batch(&mut self, reference: &BatchRef) -> Result<&mut Batch, &'static str> {
        self.batches.get_mut(reference).ok_or("is about an unknown batch")
    }

    fn line(&mut self, key: &LineKey) -> Result<&mut AcceptedLine, &'static str> {
        self.lines.get_mut(key).ok_or("is about an unknown line")
    }

    /// What an event says of product and batches.
    fn fold_batch(&mut self, sequence: u64, event: &Event) -> Folded {
        match event {
            Event::ProductChanged { settings } => {
                self.settings = settings.clone();
                self.low.retain(|location| settings.threshold(location).is_some());
            }
            Event::BatchCreated { reference, qty, eta, expires_on, location } => {
                let batch = Batch::new(reference.clone(), *qty, *eta, sequence);
                let batch = Batch { expires_on: *expires_on, location: location.clone(), ..batch };
                if self.batches.insert(reference.clone(), batch).is_some() {
                    return Err("creates a batch that exists");
                }
                self.out_of_stock_raised &= qty.units() == 0;
            }
            Event::BatchQuantityChanged { reference, from, to } => {
                let batch = self.batch(reference)?;
                if batch.declared != *from {
                    return Err("starts from another quantity");
                }
                let units = (batch.quantity.units() + to.units()).checked_sub(from.units());
                batch.hold_units(units.and_then(|units| BatchQuantity::new(units).ok()).ok_or("takes too much away")?);
                (batch.declared, batch.revision) = (*to, sequence);
                let expired = batch.expired;
                self.out_of_stock_raised &= expired || to <= from;
            }
            Event::BatchEtaChanged { reference, from, to } => {
                let batch = self.batch(reference)?;
                if batch.eta != *from {
                    return Err("starts from another ETA");
                }
                (batch.eta, batch.revision) = (*to, sequence);
                batch.arrived = to.is_none().then_some(sequence);
            }
            Event::BatchReceived { reference, qty, .. } => {
                let batch = self.batch(reference)?;
                if batch.has_arrived() {
                    return Err("receives a batch that has arrived");
                }
                batch.hold_units(*qty);
                (batch.declared, batch.eta, batch.revision) = (*qty, None, sequence);
                batch.arrived = Some(sequence);
                self.out_of_stock_raised = false;
            }
            Event::BatchCancelled { reference, .. } => {
                let batch = self.batch(reference)?;
                batch.hold_units(BatchQuantity::ZERO);
                (batch.declared, batch.cancelled, batch.revision) = (BatchQuantity::ZERO, true, sequence);
            }
            Event::HoldExpired { .. } => self.out_of_stock_raised = false,
            Event::Deallocated { reason, .. } => self.out_of_stock_raised &= *reason != DeallocationReason::Released,
            Event::OutOfStock { .. } => self.out_of_stock_raised = true,
            _ => return self.fold_units(sequence, event),
        }
        Ok(())
    }

    /// What an event says of a batch's units: that they are counted, set aside, of use no longer, that they leave and come back.
    fn fold_units(&mut self, sequence: u64, event: &Event) -> Folded {
        match event {
            Event::BatchAdjusted { reference, from, to, .. } => {
                let batch = self.batch(reference)?;
                if batch.quantity != *from {
                    return Err("starts from another quantity");
                }
                let before = batch.usable();
                batch.hold_units(*to);
                let after = batch.usable();
                self.out_of_stock_raised &= after <= before;
            }
            Event::Quarantined { reference, qty } => {
                let batch = self.batch(reference)?;
                if qty.units() > batch.quantity.units() - batch.quarantined {
                    return Err("sets more aside than there is");
                }
                batch.quarantined += qty.units();
            }
            Event::Released { reference, qty } => {
                let batch = self.batch(reference)?;
                batch.quarantined = batch.quarantined.checked_sub(qty.units()).ok_or("releases too much")?;
                self.out_of_stock_raised = false;
            }
            Event::Transferred { reference, qty, .. } => {
                let batch = self.batch(reference)?;
                ensure(qty.units() <= batch.free(), "transfers more than is free")?;
                batch.quantity = BatchQuantity::new(batch.quantity.units() - qty.units()).unwrap_or_default();
            }
            Event::LowStock { location, .. } => {
                ensure(self.settings.threshold(location).is_some(), "is about a location that nobody watches")?;
                ensure(self.low.insert(location.clone()), "says again that little is left")?;
            }
            Event::Restocked { location, .. } => {
                ensure(self.low.remove(location), "says that there is enough again of what was not little")?;
            }
            Event::Shipped { reference, qty, .. } => {
                let batch = self.batch(reference)?;
                batch.allocated = batch.allocated.checked_sub(qty.units()).ok_or("ships more than is allocated")?;
                let left = batch.quantity.units().checked_sub(qty.units()).ok_or("ships more than there is")?;
                batch.hold_units(BatchQuantity::new(left).unwrap_or_default());
            }
            Event::Returned { reference, qty, to, .. } => {
                let batch = self.batch(reference)?;
                if *to != ReturnTo::Scrap {
                    let more = BatchQuantity::new(batch.quantity.units() + qty.units());
                    batch.quantity = more.map_err(|_| "brings back too much")?;
                }
                if *to == ReturnTo::Quarantine {
                    batch.quarantined += qty.units();
                }
                let expired = batch.expired;
                self.out_of_stock_raised &= expired || *to != ReturnTo::Restock;
            }
            Event::ExpiryChanged { reference, from, to, expired } => {
                let batch = self.batch(reference)?;
                ensure(batch.expires_on == *from, "starts from another day")?;
                (batch.expires_on, batch.expired, batch.revision) = (*to, *expired, sequence);
                self.out_of_stock_raised &= *expired;
            }
            Event::BatchExpired { reference, .. } => self.batch(reference)?.expired = true,
            Event::ProductChanged { .. }
            | Event::BatchCreated { .. }
            | Event::BatchQuantityChanged { .. }
            | Event::BatchEtaChanged { .. }
            | Event::BatchReceived { .. }
            | Event::BatchCancelled { .. }
            | Event::HoldExpired { .. }
            | Event::Deallocated { .. }
            | Event::OutOfStock { .. }
            | Event::LineAccepted { .. }
            | Event::Held { .. }
            | Event::HoldExtended { .. }
            | Event::HoldLost { .. }
            | Event::Allocated { .. }
            | Event::Backordered { .. }
            | Event::Locked { .. }
            | Event::Unlocked { .. }
            | Event::LineChanged { .. }
            | Event::LineCancelled { .. }
            | Event::PromiseChanged { .. }
            | Event::BooksRepaired { .. } => {}
        }
        Ok(())
    }

    /// What an event says of lines.
    fn fold_line(&mut self, sequence: u64, event: &Event) -> Folded {
        match event {
            Event::LineAccepted { line: key, requested, dropped, terms } => {
                let known = self.lines.get(key);
                ensure(known.is_none_or(|known| known.lapsed > 0), "accepts a line that is known")?;
                let accepted = known.map_or(sequence, |lapsed| lapsed.accepted);
                let mut line = AcceptedLine::new(key.clone(), *requested, accepted, terms.clone());
                line.dropped = *dropped;
                self.lines.insert(key.clone(), line);
            }
            Event::Held { line: key, accepted, qty, reference, until } => {
                self.accept_plain(key, *qty, *accepted, sequence, Terms::default());
                self.line(key)?.hold = Some(*until);
                self.place(key, *accepted, *qty, reference)?;
                self.batch(reference)?.held += qty.units();
            }
            Event::HoldExtended { line: key, until } => {
                let hold = &mut self.line(key)?.hold;
                if hold.is_none() {
                    return Err("extends a hold that is none");
                }
                *hold = Some(*until);
            }
            Event::HoldExpired { line: key, accepted, qty, reference } => {
                self.take_back(key, *accepted, *qty, reference)?;
                let line = self.line(key)?;
                line.lapsed += qty.units();
                if line.parts.is_empty() {
                    line.close();
                }
            }
            Event::HoldLost { line: key, .. } => {
                let line = self.line(key)?;
                line.close();
                line.lapsed += line.requested.units() - line.dropped;
            }
            Event::Allocated { line: key, accepted, qty, reference, split, held } => {
                if *held {
                    return self.confirm(key, *accepted, *qty, reference);
                }
                let terms = if *split { Terms::default() } else { Terms::whole() };
                self.accept_plain(key, *qty, *accepted, sequence, terms);
                self.place(key, *accepted, *qty, reference)?;
                self.batch(reference)?.allocated += qty.units();
            }
            Event::Deallocated { line: key, accepted, qty, reference, .. } => {
                self.take_back(key, *accepted, *qty, reference)?;
            }
            Event::Backordered { line: key, accepted, qty, displaced } => {
                self.accept_plain(key, *qty, *accepted, sequence, Terms::default());
                let line = self.line(key)?;
                line.put(*accepted, None, qty.units());
                line.queued += if *displaced { 0 } else { qty.units() };
            }
            Event::Locked { line: key, accepted, qty, reference } => {
                let locked = self.line(key)?.lock(*accepted, reference, qty.units(), true);
                ensure(locked, "releases to picking what the line does not have")?;
            }
            Event::Unlocked { line: key, accepted, qty, reference } => {
                let unlocked = self.line(key)?.lock(*accepted, reference, qty.units(), false);
                ensure(unlocked, "takes back from picking what was not there")?;
            }
            Event::Shipped { line: key, accepted, qty, reference } => {
                ensure(self.line(key)?.ship(*accepted, reference, qty.units()), "ships what the line does not have")?;
            }
            Event::Returned { line: key, qty, reference, .. } => {
                ensure(self.line(key)?.take_back(reference, qty.units()), "brings back more than has left")?;
            }
            Event::LineChanged { line: key, from, to, dropped, terms } => {
                let line = self.line(key)?;
                ensure(line.ordered() == from.units(), "starts from another quantity")?;
                (line.requested, line.dropped, line.terms) = (*to, *dropped, terms.clone());
                line.give_up_waiting(from.units().saturating_sub(to.units() - dropped));
            }
            Event::LineCancelled { line: key, qty } => {
                let line = self.line(key)?;
                line.close();
                line.cancelled += qty.units();
            }
            Event::ProductChanged { .. }
            | Event::BatchCreated { .. }
            | Event::BatchQuantityChanged { .. }
            | Event::BatchEtaChanged { .. }
            | Event::BatchReceived { .. }
            | Event::BatchCancelled { .. }
            | Event::ExpiryChanged { .. }
            | Event::BatchExpired { .. }
            | Event::BatchAdjusted { .. }
            | Event::Quarantined { .. }
            | Event::Released { .. }
            | Event::Transferred { .. }
            | Event::LowStock { .. }
            | Event::Restocked { .. }
            | Event::PromiseChanged { .. }
            | Event::OutOfStock { .. }
            | Event::BooksRepaired { .. } => {}
        }
        Ok(())
    }

    /// A line that nothing was said of before is accepted by its first event.
    fn accept_plain(&mut self, key: &LineKey, qty: Quantity, accepted: u64, sequence: u64, terms: Terms) {
        if accepted == sequence && !self.lines.contains_key(key) {
            self.lines.insert(key.clone(), AcceptedLine::new(key.clone(), qty, accepted, terms));
        }
    }

    /// Units of a line get a place: those that are in none at the moment, or else those that wait.
    fn place(&mut self, key: &LineKey, accepted: u64, qty: Quantity, reference: &BatchRef) -> Folded {
        let batch = self.batch(reference)?;
        if batch.placed() + qty.units() > batch.usable() {
            return Err("takes more than the batch has");
        }
        let line = self.line(key)?;
        let ended = line.dropped + line.cancelled + line.lapsed;
        let in_no_place =
            line.requested.units().checked_sub(ended + line.ordered()).ok_or("is about too many units")?;
        if in_no_place < qty.units() && !line.take(accepted, None, qty.units()) {
            return Err("places units that the line does not have");
        }
        line.put(accepted, Some(reference.clone()), qty.units());
        Ok(())
    }

    fn take_back(&mut self, key: &LineKey, accepted: u64, qty: Quantity, reference: &BatchRef) -> Folded {
        let line = self.line(key)?;
        let held = line.hold.is_some();
        if !line.take(accepted, Some(reference), qty.units()) {
            return Err("takes a place that the line does not have");
        }
        let batch = self.batch(reference)?;
        let placed = if held { &mut batch.held } else { &mut batch.allocated };
        *placed = placed.checked_sub(qty.units()).ok_or("gives back too much")?;
        Ok(())
    }

    /// A placement of a hold lasts from now on; once all do, the line is held no longer.
    fn confirm(&mut self, key: &LineKey, accepted: u64, qty: Quantity, reference: &BatchRef) -> Folded {
        let batch = self.batch(reference)?;
        batch.held = batch.held.checked_sub(qty.units()).ok_or("confirms more than is held")?;
        batch.allocated += qty.units();
        let line = self.line(key)?;
        let has =
            |part: &crate::Part| part.accepted == accepted && part.batch.as_ref() == Some(reference) && part.qty == qty;
        if !line.parts.iter().any(has) {
            return Err("confirms a place that the line does not have");
        }
        let placed = line.placed();
        let confirmed = self.confirmed.entry(key.clone()).or_default();
        *confirmed += qty.units();
        if *confirmed == placed {
            self.confirmed.remove(key);
            self.line(key)?.hold = None;
        }
        Ok(())
    }
}
