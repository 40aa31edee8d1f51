//! The aggregate: everything that must be right together about the stock of one SKU.

use std::collections::BTreeMap;

use crate::batch::{Batch, Eta};
use crate::error::{Conflict, Rejection, Shortage};
use crate::events::{DeallocationReason, Event};
use crate::ids::{BatchQuantity, BatchRef, LineId, OrderId, Quantity, Sku};
use crate::order_line::{AcceptedLine, LineKey, LineState, OrderLine};

/// Aggregate root: one SKU, its open batches, its queue, and those of its order lines that the work at hand names.
///
/// Its version is the sequence number of its last event. Nothing in it grows with history: batches are counters, the queue is a sum, and
/// lines are brought in by [`Product::remember`] as they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    sku: Sku,
    version: u64,
    /// In order of preference.
    batches: Vec<Batch>,
    lines: BTreeMap<LineKey, AcceptedLine>,
    /// Units that wait in the queue, of lines at hand or not.
    backordered: u64,
    /// Whether `OutOfStock` was raised since stock last came back.
    out_of_stock_raised: bool,
    events: Vec<Event>,
}

/// What a product says to lines of a request, before anything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It can promise them.
    Accept(Plan),
    /// Some are known as something else.
    Conflict(Vec<Conflict>),
    /// It has not enough.
    Short(Shortage),
}

/// Where new lines would be placed. Lines that are known already are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    placements: Vec<(OrderLine, BatchRef)>,
}

impl Plan {
    /// Whether every line is known already, so that there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty()
    }
}

/// What became of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// A new batch.
    New,
    /// A known batch is now as declared.
    Changed,
    /// It was so already.
    Same,
}

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The line is cancelled now.
    Now,
    /// It was so already.
    Already,
}

/// A line that lost its place in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// Order and line.
    pub line: LineKey,
    /// Its units.
    pub qty: Quantity,
    /// The batch that took it instead; none: it waits.
    pub to: Option<BatchRef>,
}

impl Product {
    /// A product that nothing has happened to yet.
    pub fn new(sku: Sku) -> Self {
        Self::restore(sku, 0, 0, false, Vec::new())
    }

    /// A product as it was stored, without lines; [`Product::remember`] brings those.
    pub fn restore(
        sku: Sku,
        version: u64,
        backordered: u64,
        out_of_stock_raised: bool,
        mut batches: Vec<Batch>,
    ) -> Self {
        batches.sort_by(|a, b| a.preference().cmp(&b.preference()));
        Self { sku, version, batches, lines: BTreeMap::new(), backordered, out_of_stock_raised, events: Vec::new() }
    }

    /// Takes stored lines into memory. A line that is at hand already stays as it is.
    pub fn remember(&mut self, lines: impl IntoIterator<Item = AcceptedLine>) {
        for line in lines {
            self.lines.entry(line.key.clone()).or_insert(line);
        }
    }

    /// Takes batches into memory that have nothing left and are named by the work at hand all the same.
    pub fn remember_batches(&mut self, batches: impl IntoIterator<Item = Batch>) {
        self.batches.extend(batches);
        self.batches.sort_by(|a, b| a.preference().cmp(&b.preference()));
    }

    /// What it is a product of.
    pub fn sku(&self) -> &Sku {
        &self.sku
    }

    /// The sequence number of its last event.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Batches at hand, in order of preference.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// A batch at hand.
    pub fn batch(&self, reference: &BatchRef) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.reference == *reference)
    }

    /// A line at hand.
    pub fn line(&self, key: &LineKey) -> Option<&AcceptedLine> {
        self.lines.get(key)
    }

    /// Lines at hand of one order.
    pub fn lines_of<'a>(&'a self, order_id: &'a OrderId) -> impl Iterator<Item = &'a AcceptedLine> {
        let first = LineKey { order_id: order_id.clone(), line: LineId::first() };
        self.lines.range(first..).map(|(_, line)| line).take_while(move |line| line.key.order_id == *order_id)
    }

    /// Units that wait in the queue.
    pub fn backordered(&self) -> u64 {
        self.backordered
    }

    /// Whether `OutOfStock` was raised since stock last came back.
    pub fn out_of_stock_raised(&self) -> bool {
        self.out_of_stock_raised
    }

    /// Units on hand that nobody has been promised.
    pub fn available(&self) -> u64 {
        self.batches.iter().filter(|batch| batch.has_arrived()).map(Batch::free).sum()
    }

    /// The most units that one batch could give to a line.
    pub fn largest_free(&self) -> u64 {
        self.batches.iter().map(Batch::free).max().unwrap_or(0)
    }

    /// Events raised since they were last taken; the last one's sequence number is [`Product::version`].
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn raise(&mut self, event: Event) {
        self.version += 1;
        self.events.push(event);
    }

    // ---- Promising -------------------------------------------------------------------------------------------------

    /// What would happen if these lines of one order were asked for. Changes nothing.
    ///
    /// Rules 2, 3, 8 and 9: each line goes whole to the first batch, in order of preference, that can take it; a line that is known
    /// already keeps its present state; all can be promised, or none is.
    pub fn plan(&self, lines: &[OrderLine]) -> Decision {
        let mut conflicts = Vec::new();
        let mut placements = Vec::new();
        let mut short = false;
        let mut asked = 0;
        let mut free: Vec<u64> = self.batches.iter().map(Batch::free).collect();
        for line in lines {
            if let Some(known) = self.lines.get(&line.key) {
                conflicts.extend(self.conflict(known, line));
                continue;
            }
            let units = line.qty.units();
            asked += units;
            match free.iter().position(|free| *free >= units) {
                Some(first) => {
                    free[first] -= units;
                    placements.push((line.clone(), self.batches[first].reference.clone()));
                }
                None => short = true,
            }
        }
        if !conflicts.is_empty() {
            Decision::Conflict(conflicts)
        } else if short {
            Decision::Short(Shortage {
                sku: self.sku.clone(),
                asked,
                available: self.available(),
                largest: self.largest_free(),
            })
        } else {
            Decision::Accept(Plan { placements })
        }
    }

    fn conflict(&self, known: &AcceptedLine, asked: &OrderLine) -> Option<Conflict> {
        let (sku, line) = (self.sku.clone(), known.key.clone());
        match known.state {
            LineState::Cancelled => Some(Conflict::Cancelled { sku, line }),
            LineState::Allocated(_) | LineState::Backordered if known.requested != asked.qty => {
                Some(Conflict::OtherQuantity { sku, line, accepted: known.requested, asked: asked.qty })
            }
            LineState::Allocated(_) | LineState::Backordered => None,
        }
    }

    /// Carries out a plan made of this product as it stands. `true` if any line is new.
    pub fn apply(&mut self, plan: Plan) -> bool {
        let anything = !plan.is_empty();
        for (line, reference) in plan.placements {
            let accepted = AcceptedLine {
                key: line.key.clone(),
                requested: line.qty,
                accepted: self.version + 1,
                state: LineState::Backordered,
            };
            self.lines.insert(line.key.clone(), accepted);
            self.place(&line.key, &reference);
        }
        anything
    }

    /// Notes that a request was refused for lack of stock (rule 26): raised once until stock comes back, so that a sold-out
    /// product is cheap to refuse.
    pub fn refuse(&mut self, shortage: &Shortage) {
        if !self.out_of_stock_raised {
            self.out_of_stock_raised = true;
            self.raise(Event::OutOfStock { asked: shortage.asked, available: shortage.available });
        }
    }

    /// Gives a line its units from a batch that has them.
    fn place(&mut self, key: &LineKey, reference: &BatchRef) {
        let line = self.lines.get_mut(key).expect("only lines at hand are placed");
        let qty = line.requested;
        line.state = LineState::Allocated(reference.clone());
        self.batch_mut(reference).allocated += qty.units();
        self.raise(Event::Allocated { line: key.clone(), qty, reference: reference.clone() });
    }

    fn batch_mut(&mut self, reference: &BatchRef) -> &mut Batch {
        let found = self.batches.iter_mut().find(|batch| batch.reference == *reference);
        found.expect("a batch with placements is open, and open batches are at hand")
    }

    /// The first batch, in order of preference, that can take a line whole.
    fn first_that_takes(&self, qty: Quantity) -> Option<BatchRef> {
        self.batches.iter().find(|batch| batch.free() >= qty.units()).map(|batch| batch.reference.clone())
    }

    // ---- Taking back -----------------------------------------------------------------------------------------------

    /// The caller no longer wants the line. Its units are free again; it stays known as cancelled.
    ///
    /// # Errors
    /// `UnknownLine` when no such line is at hand.
    pub fn deallocate(&mut self, key: &LineKey) -> Result<Cancelled, Rejection> {
        let Some(line) = self.lines.get_mut(key) else {
            return Err(Rejection::UnknownLine { order_id: key.order_id.clone(), sku: self.sku.clone() });
        };
        let qty = line.requested;
        match std::mem::replace(&mut line.state, LineState::Cancelled) {
            LineState::Cancelled => return Ok(Cancelled::Already),
            LineState::Backordered => self.backordered -= qty.units(),
            LineState::Allocated(reference) => {
                self.batch_mut(&reference).allocated -= qty.units();
                self.out_of_stock_raised = false;
                let reason = DeallocationReason::Released;
                self.raise(Event::Deallocated { line: key.clone(), qty, reference, reason });
            }
        }
        self.raise(Event::LineCancelled { line: key.clone(), qty });
        Ok(Cancelled::Now)
    }

    // ---- Supply ----------------------------------------------------------------------------------------------------

    /// A new batch. The same again is no news.
    ///
    /// # Errors
    /// `BatchExists` when it is known with another quantity or date.
    pub fn create_batch(&mut self, reference: BatchRef, qty: BatchQuantity, eta: Eta) -> Result<Declared, Rejection> {
        if let Some(known) = self.batch(&reference) {
            return if (known.quantity, known.eta) == (qty, eta) {
                Ok(Declared::Same)
            } else {
                Err(Rejection::BatchExists { sku: self.sku.clone(), reference })
            };
        }
        let revision = self.version + 1;
        self.batches.push(Batch { reference: reference.clone(), quantity: qty, allocated: 0, eta, revision });
        self.batches.sort_by(|a, b| a.preference().cmp(&b.preference()));
        self.out_of_stock_raised &= qty == BatchQuantity::ZERO;
        self.raise(Event::BatchCreated { reference, qty, eta });
        Ok(Declared::New)
    }

    /// Units by which a batch of `to` units would fall short of what is allocated from it.
    pub fn lacking(&self, reference: &BatchRef, to: BatchQuantity) -> u64 {
        self.batch(reference).map_or(0, |batch| batch.allocated.saturating_sub(to.units()))
    }

    /// Corrects a batch's quantity (rules 15, 16). When it shrinks below what is allocated from it, the newest lines lose their
    /// place: they go at once wherever free stock can take them, else they wait.
    ///
    /// `newest` names lines of the batch that are at hand, newest first: as many as make up [`Product::lacking`]. Given fewer,
    /// the batch shrinks only as far as they allow, and the caller goes on from there; a cut that displaces very many lines is done so, in
    /// steps.
    ///
    /// # Errors
    /// `UnknownBatch`.
    pub fn change_batch_quantity(
        &mut self,
        reference: &BatchRef,
        to: BatchQuantity,
        newest: &[LineKey],
    ) -> Result<(Declared, Vec<Displaced>), Rejection> {
        let Some(batch) = self.batch(reference) else {
            return Err(Rejection::UnknownBatch { sku: self.sku.clone(), reference: reference.clone() });
        };
        let (from, allocated) = (batch.quantity, batch.allocated);
        if from == to {
            return Ok((Declared::Same, Vec::new()));
        }
        let mut left = allocated;
        let mut losers: Vec<LineKey> = newest
            .iter()
            .filter(|key| self.lines.get(*key).is_some_and(|line| line.batch() == Some(reference)))
            .map_while(|key| {
                let loses = left > to.units();
                left -= if loses { self.lines[key].requested.units() } else { 0 };
                loses.then(|| key.clone())
            })
            .collect();
        losers.reverse(); // by seniority from here on
        let reached = BatchQuantity::new(left).map_or(to, |left| to.max(left));

        let revision = self.version + 1;
        let batch = self.batch_mut(reference);
        batch.quantity = reached;
        batch.revision = revision;
        self.out_of_stock_raised &= reached < from;
        self.raise(Event::BatchQuantityChanged { reference: reference.clone(), from, to: reached });
        Ok((Declared::Changed, self.displace(reference, &losers)))
    }

    /// Takes the lines out of the batch, then places each wherever free stock can take it, else puts it in the queue.
    fn displace(&mut self, reference: &BatchRef, losers: &[LineKey]) -> Vec<Displaced> {
        for key in losers {
            let line = self.lines.get_mut(key).expect("losers are at hand");
            let qty = line.requested;
            line.state = LineState::Backordered;
            self.batch_mut(reference).allocated -= qty.units();
            let reason = DeallocationReason::Displaced;
            self.raise(Event::Deallocated { line: key.clone(), qty, reference: reference.clone(), reason });
        }
        losers
            .iter()
            .map(|key| {
                let qty = self.lines[key].requested;
                let to = self.first_that_takes(qty);
                if let Some(to) = &to {
                    self.place(key, to);
                } else {
                    self.backordered += qty.units();
                    self.raise(Event::Backordered { line: key.clone(), qty });
                }
                Displaced { line: key.clone(), qty, to }
            })
            .collect()
    }

    /// Corrects the date of a batch that has not arrived, or says that it has. Its lines stay: promises follow their batch.
    ///
    /// # Errors
    /// `UnknownBatch`; `EtaOnArrivedBatch` (rule 15).
    pub fn change_batch_eta(&mut self, reference: &BatchRef, to: Eta) -> Result<Declared, Rejection> {
        self.eta_may_become(reference, to)?;
        let revision = self.version + 1;
        let batch = self.batch_mut(reference);
        let from = batch.eta;
        if from == to {
            return Ok(Declared::Same);
        }
        batch.eta = to;
        batch.revision = revision;
        self.batches.sort_by(|a, b| a.preference().cmp(&b.preference()));
        self.raise(Event::BatchEtaChanged { reference: reference.clone(), from, to });
        Ok(Declared::Changed)
    }

    /// Whether a batch may be given this date.
    ///
    /// # Errors
    /// `UnknownBatch`; `EtaOnArrivedBatch` (rule 15).
    pub fn eta_may_become(&self, reference: &BatchRef, to: Eta) -> Result<(), Rejection> {
        let (sku, reference) = (self.sku.clone(), reference.clone());
        match self.batch(&reference) {
            None => Err(Rejection::UnknownBatch { sku, reference }),
            Some(batch) if batch.has_arrived() && to.is_some() => Err(Rejection::EtaOnArrivedBatch { sku, reference }),
            Some(_) => Ok(()),
        }
    }

    // ---- Queue -----------------------------------------------------------------------------------------------------

    /// Whether free stock might serve somebody who waits.
    pub fn could_serve_queue(&self) -> bool {
        self.backordered > 0 && self.largest_free() > 0
    }

    /// Offers free stock to these waiting lines, in the order given, which is by seniority (rule 10): each that some batch
    /// can take whole gets its units, others are passed over.
    pub fn serve(&mut self, waiting: &[LineKey]) {
        for key in waiting {
            let Some(line) = self.lines.get(key).filter(|line| line.state == LineState::Backordered) else { continue };
            let qty = line.requested;
            if let Some(reference) = self.first_that_takes(qty) {
                self.backordered -= qty.units();
                self.place(key, &reference);
            }
        }
    }
}
