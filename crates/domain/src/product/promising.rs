//! Promising: what would be done for a request, and doing it.

use time::OffsetDateTime;

use super::Product;
use crate::batch::Batch;
use crate::commands::WhenShort;
use crate::error::{Conflict, Rejection, Shortage};
use crate::events::{DeallocationReason, Event};
use crate::ids::{BatchRef, HoldSeconds, Quantity};
use crate::order_line::{AcceptedLine, LineKey, LineState, OrderLine, Split, Terms};
use crate::placing::Take;
use crate::states::{self, Answer, LineCommand};

/// What a product says to lines of a request, before anything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It can do this for them.
    Accept(Plan),
    /// Some are known as something else.
    Conflict(Vec<Conflict>),
    /// It has not enough.
    Short(Shortage),
    /// Too much waits already.
    QueueFull(Rejection),
}

/// What would be done for new lines. Lines that are known already are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// The new lines.
    pub lines: Vec<PlannedLine>,
    /// How long they would be held; none: for good.
    pub hold: Option<HoldSeconds>,
    /// What is short, if not all of it has a place.
    pub shortage: Option<Shortage>,
}

/// What would be done for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLine {
    /// What is asked for.
    pub line: OrderLine,
    /// From which batches it would have how many units.
    pub placements: Vec<(BatchRef, u64)>,
    /// Units that would wait.
    pub backordered: u64,
    /// Units that would be dropped.
    pub dropped: u64,
}

impl Plan {
    /// Whether every line is known already, so that there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many lines would be held.
    pub fn holds(&self) -> usize {
        if self.hold.is_none() {
            return 0;
        }
        self.lines.iter().filter(|line| !line.placements.is_empty()).count()
    }

    /// Whether there are new lines, and not a unit of them would be had or waited for.
    pub fn gives_nothing(&self) -> bool {
        self.lines.iter().all(|line| line.placements.is_empty() && line.backordered == 0)
    }
}

impl Product {
    /// What would happen if these lines of one order were asked for. Changes nothing.
    ///
    /// Rules 2 to 5, 8, 9 and 11. A line that is known already keeps its present state.
    pub fn plan(&self, lines: &[OrderLine], when_short: WhenShort, hold: Option<HoldSeconds>) -> Decision {
        let mut conflicts = Vec::new();
        let mut planned = Vec::with_capacity(lines.len());
        let (mut asked, mut promisable, mut waits) = (0, 0, 0);
        // A request with several lines of this SKU takes from the same batches.
        let mut left: Option<Vec<u64>> = (lines.len() > 1).then(|| self.batches.iter().map(Batch::free).collect());
        for line in lines {
            if let Some(known) = self.lines.get(&line.key)
                && states::line(LineCommand::AskAgain, known.state()) != Answer::AsNew
            {
                conflicts.extend(self.conflict(known, line));
                continue;
            }
            let units = line.qty.units();
            let free = |at: usize| left.as_ref().map_or_else(|| self.batches[at].free(), |left| left[at]);
            let takes = self.takes(line, units, when_short, free);
            let placed: u64 = takes.iter().map(|(_, units)| units).sum();
            if let Some(left) = &mut left {
                for (at, units) in &takes {
                    left[*at] -= units;
                }
            }
            asked += units;
            promisable += placed;
            let missing = units - placed;
            let (backordered, dropped) = if when_short == WhenShort::Backorder { (missing, 0) } else { (0, missing) };
            waits += backordered;
            let placements = takes.into_iter().map(|(at, units)| (self.batches[at].reference.clone(), units)).collect();
            planned.push(PlannedLine { line: line.clone(), placements, backordered, dropped });
        }
        if !conflicts.is_empty() {
            return Decision::Conflict(conflicts);
        }
        let shortage = (promisable < asked).then(|| self.shortage(asked, promisable));
        match shortage {
            Some(shortage) if when_short == WhenShort::Reject => return Decision::Short(shortage),
            _ => {}
        }
        match self.room_in_queue(waits) {
            Err(full) => Decision::QueueFull(full),
            Ok(()) => Decision::Accept(Plan { lines: planned, hold, shortage }),
        }
    }

    fn takes(
        &self,
        line: &OrderLine,
        units: u64,
        when_short: WhenShort,
        free: impl Fn(usize) -> u64 + Copy,
    ) -> Vec<Take> {
        let takes = self.choice(&line.terms).choose(free, units);
        if takes.is_empty() && when_short == WhenShort::Partial && line.terms.split == Split::Never {
            return self.choice(&line.terms).most_of_one(free).into_iter().collect();
        }
        takes
    }

    pub(super) fn shortage(&self, asked: u64, promisable: u64) -> Shortage {
        Shortage { sku: self.sku.clone(), asked, available: self.available(), promisable }
    }

    /// Whether so many more units of requests may wait (rule 11).
    pub(super) fn room_in_queue(&self, more: u64) -> Result<(), Rejection> {
        match self.settings.queue_cap {
            Some(cap) if more > 0 && self.queued + more > cap => {
                Err(Rejection::QueueFull { sku: self.sku.clone(), cap, queued: self.queued, asked: more })
            }
            _ => Ok(()),
        }
    }

    /// Rule 9.
    fn conflict(&self, known: &AcceptedLine, asked: &OrderLine) -> Option<Conflict> {
        let (sku, line) = (self.sku.clone(), known.key.clone());
        if states::line(LineCommand::AskAgain, known.state()) == Answer::No && known.cancelled > 0 {
            return Some(Conflict::Cancelled { sku, line });
        }
        (known.requested != asked.qty).then_some(Conflict::OtherQuantity {
            sku,
            line,
            accepted: known.requested,
            asked: asked.qty,
        })
    }

    /// Carries out a plan made of this product as it stands. `true` if any line is new.
    pub fn apply(&mut self, plan: Plan) -> bool {
        let until = plan.hold.map(|hold| hold.from(self.now));
        let anything = !plan.is_empty();
        for planned in plan.lines {
            self.accept(planned, until);
        }
        anything
    }

    fn accept(&mut self, planned: PlannedLine, until: Option<OffsetDateTime>) {
        let PlannedLine { line: OrderLine { key, qty, terms, .. }, placements, backordered, dropped } = planned;
        let accepted = self.version + 1;
        let known = self.lines.get(&key).map(|lapsed| lapsed.accepted);
        // One event for a plain line, which is nearly every line: it is told by its first placement.
        let plain = match (placements.len(), backordered > 0) {
            (1, false) if until.is_none() => terms.are_usual(),
            (1, false) | (0, true) => terms == Terms::default(),
            _ => false,
        };
        let split = terms.split;
        let mut line = AcceptedLine::new(key.clone(), qty, known.unwrap_or(accepted), terms);
        line.dropped = dropped;
        line.hold = until.filter(|_| !placements.is_empty());
        if !plain || dropped > 0 || known.is_some() {
            let terms = line.terms.clone();
            self.raise(Event::LineAccepted { line: key.clone(), requested: qty, dropped, terms });
        }
        // The batch that is preferred is told first.
        for (reference, units) in placements {
            line.put(accepted, Some(reference.clone()), units);
            self.give(key.clone(), line.hold, split, accepted, reference, units);
        }
        self.lines.insert(key.clone(), line);
        self.enqueue(&key, accepted, backordered, false);
    }

    /// Gives a line at hand units from a batch that has them: for a while when it is held, else for good.
    pub(super) fn place(&mut self, key: &LineKey, accepted: u64, reference: &BatchRef, units: u64) {
        let (hold, split) = self.change_line(key, |line| {
            line.put(accepted, Some(reference.clone()), units);
            (line.hold, line.terms.split)
        });
        self.give(key.clone(), hold, split, accepted, reference.clone(), units);
    }

    /// The batch's side of a placement, and the event.
    fn give(
        &mut self,
        line: LineKey,
        hold: Option<OffsetDateTime>,
        split: Split,
        accepted: u64,
        reference: BatchRef,
        units: u64,
    ) {
        let (qty, split) = (Quantity::part(units), split.is_allowed());
        let batch = self.batch_mut(&reference);
        if let Some(until) = hold {
            batch.held += units;
            self.raise(Event::Held { line, accepted, qty, reference, until });
        } else {
            batch.allocated += units;
            self.raise(Event::Allocated { line, accepted, qty, reference, split, held: false });
        }
    }

    /// Units of a line wait.
    pub(super) fn enqueue(&mut self, key: &LineKey, accepted: u64, units: u64, displaced: bool) {
        if units == 0 {
            return;
        }
        self.change_line(key, |line| {
            line.put(accepted, None, units);
            line.queued += if displaced { 0 } else { units };
        });
        self.raise(Event::Backordered { line: key.clone(), accepted, qty: Quantity::part(units), displaced });
    }

    /// Takes units of a line out of a batch. They are in no place until the caller puts them somewhere.
    /// `true`: they were held.
    pub(super) fn release(&mut self, key: &LineKey, accepted: u64, reference: &BatchRef, units: u64) -> bool {
        let held = self.change_line(key, |line| {
            assert!(line.take(accepted, Some(reference), units), "a line gives back what it has");
            line.hold.is_some()
        });
        let batch = self.batch_mut(reference);
        *(if held { &mut batch.held } else { &mut batch.allocated }) -= units;
        held
    }

    /// The same, and tells it.
    pub(super) fn deallocate_part(
        &mut self,
        key: &LineKey,
        accepted: u64,
        reference: &BatchRef,
        units: u64,
        reason: DeallocationReason,
    ) {
        let held = self.release(key, accepted, reference, units);
        if reason == DeallocationReason::Released {
            self.out_of_stock_raised = false;
        }
        let (line, reference, qty) = (key.clone(), reference.clone(), Quantity::part(units));
        self.raise(Event::Deallocated { line, accepted, qty, reference, reason, held });
    }

    /// Notes that a request was refused for lack of stock (rule 26): raised once until stock comes back, so that a sold-out
    /// product is cheap to refuse.
    pub fn refuse(&mut self, shortage: &Shortage) {
        if !self.out_of_stock_raised {
            self.out_of_stock_raised = true;
            self.raise(Event::OutOfStock { asked: shortage.asked, available: shortage.available });
        }
    }

    /// Whether a line may be treated so, by the table of its state.
    ///
    /// # Errors
    /// `NotAllowed`, naming the state.
    pub(super) fn allowed(&self, command: LineCommand, line: &AcceptedLine) -> Result<Answer, Rejection> {
        match states::line(command, line.state()) {
            Answer::No => Err(self.not_allowed(command, &line.key, line.state())),
            answer => Ok(answer),
        }
    }

    pub(super) fn not_allowed(&self, command: LineCommand, key: &LineKey, state: LineState) -> Rejection {
        let subject = self.named_line(key);
        Rejection::NotAllowed { subject, command: command.name(), state: state.name() }
    }
}
