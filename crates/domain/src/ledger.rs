//! Folds events into balances: what the tables must say if the log is true.

use std::collections::BTreeMap;

use crate::batch::Eta;
use crate::events::Event;
use crate::ids::{BatchRef, Quantity};
use crate::order_line::{AcceptedLine, LineKey, LineState};

/// The books of one product, as its events tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The sequence number of the last event folded.
    pub version: u64,
    /// Every batch that ever was.
    pub batches: BTreeMap<BatchRef, BatchBalance>,
    /// Every line that ever was.
    pub lines: BTreeMap<LineKey, AcceptedLine>,
    /// Whether `OutOfStock` was raised since stock last came back.
    pub out_of_stock_raised: bool,
}

/// A batch, as events tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchBalance {
    /// Units declared.
    pub quantity: u64,
    /// Units placed.
    pub allocated: u64,
    /// When it is expected.
    pub eta: Eta,
    /// The event that last changed the declaration.
    pub revision: u64,
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

impl Ledger {
    /// Units that wait in the queue.
    pub fn backordered(&self) -> u64 {
        self.lines.values().map(AcceptedLine::backordered).sum()
    }

    /// Adds the next event of the product.
    ///
    /// # Errors
    /// When the log can't be true: a gap in the sequence, an unknown batch or line, more taken from a batch than it has.
    pub fn fold(&mut self, sequence: u64, event: &Event) -> Result<(), Inconsistent> {
        let wrong = |why| Inconsistent { sequence, event: event.name(), why };
        if sequence != self.version + 1 {
            return Err(wrong("does not follow the one before it"));
        }
        self.version = sequence;
        match event {
            Event::BatchCreated { reference, qty, eta } => {
                let balance = BatchBalance { quantity: qty.units(), allocated: 0, eta: *eta, revision: sequence };
                if self.batches.insert(reference.clone(), balance).is_some() {
                    return Err(wrong("creates a batch that exists"));
                }
                self.out_of_stock_raised &= qty.units() == 0;
            }
            Event::BatchQuantityChanged { reference, from, to } => {
                let batch = self.batches.get_mut(reference).ok_or(wrong("changes an unknown batch"))?;
                if batch.quantity != from.units() {
                    return Err(wrong("starts from another quantity"));
                }
                (batch.quantity, batch.revision) = (to.units(), sequence);
                self.out_of_stock_raised &= to < from;
            }
            Event::BatchEtaChanged { reference, from, to } => {
                let batch = self.batches.get_mut(reference).ok_or(wrong("changes an unknown batch"))?;
                if batch.eta != *from {
                    return Err(wrong("starts from another ETA"));
                }
                (batch.eta, batch.revision) = (*to, sequence);
            }
            Event::Allocated { line, qty, reference } => {
                let batch = self.batches.get_mut(reference).ok_or(wrong("takes from an unknown batch"))?;
                if batch.allocated + qty.units() > batch.quantity {
                    return Err(wrong("takes more than the batch has"));
                }
                batch.allocated += qty.units();
                self.turn(line, *qty, sequence, LineState::Allocated(reference.clone())).map_err(wrong)?;
            }
            Event::Deallocated { line, qty, reference, reason } => {
                if self.lines.get(line).and_then(AcceptedLine::batch) != Some(reference) {
                    return Err(wrong("takes a place that the line does not have"));
                }
                let batch = self.batches.get_mut(reference).ok_or(wrong("gives to an unknown batch"))?;
                batch.allocated = batch.allocated.checked_sub(qty.units()).ok_or(wrong("gives back too much"))?;
                // In between two places, as `Backordered`: the next event of the same unit of work says where it ends.
                self.turn(line, *qty, sequence, LineState::Backordered).map_err(wrong)?;
                self.out_of_stock_raised &= *reason != crate::DeallocationReason::Released;
            }
            Event::Backordered { line, qty } => {
                self.turn(line, *qty, sequence, LineState::Backordered).map_err(wrong)?;
            }
            Event::LineCancelled { line, qty } => {
                self.turn(line, *qty, sequence, LineState::Cancelled).map_err(wrong)?;
            }
            Event::OutOfStock { .. } => self.out_of_stock_raised = true,
        }
        Ok(())
    }

    /// The line, new or known, is in this state from here on.
    fn turn(&mut self, key: &LineKey, qty: Quantity, sequence: u64, state: LineState) -> Result<(), &'static str> {
        let line = self.lines.entry(key.clone()).or_insert_with(|| AcceptedLine {
            key: key.clone(),
            requested: qty,
            accepted: sequence,
            state: LineState::Backordered,
        });
        if line.requested != qty {
            return Err("is about another quantity than the line's");
        }
        if line.state == LineState::Cancelled {
            return Err("is about a cancelled line");
        }
        if matches!((&line.state, &state), (LineState::Allocated(_), LineState::Allocated(_) | LineState::Cancelled)) {
            return Err("is about a line that still has its place");
        }
        line.state = state;
        Ok(())
    }
}
