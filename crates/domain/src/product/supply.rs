//! Supply: batches appear, grow, shrink, move in time, arrive, and fall away (rules 15 to 17).

use std::collections::BTreeMap;

use super::Product;
use crate::batch::{Batch, Eta, arrival};
use crate::commands::Rest;
use crate::error::Rejection;
use crate::events::{DeallocationReason, Event};
use crate::ids::{BatchQuantity, BatchRef, Quantity};
use crate::order_line::{AcceptedLine, LineKey, PartKey, Promise, Seniority, Split};
use crate::placing::choose;
use crate::states::{self, Answer, BatchCommand};

/// What became of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Something new.
    New,
    /// What is known is now as declared.
    Changed,
    /// It was so already.
    Same,
}

/// Units that lost their place in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// Order and line.
    pub line: LineKey,
    /// How many.
    pub qty: Quantity,
    /// Where they are now.
    pub to: Vec<(BatchRef, u64)>,
    /// How many wait now.
    pub backordered: u64,
    /// They were held, and the hold could not be kept.
    pub lapsed: bool,
}

/// A change after which a batch holds another number of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupplyChange {
    /// It was miscounted.
    Quantity(BatchQuantity),
    /// It came.
    Receipt(Quantity, Rest),
    /// It will never come.
    Cancellation,
}

impl SupplyChange {
    /// How many units there will be.
    pub fn quantity(self) -> BatchQuantity {
        match self {
            Self::Quantity(to) => to,
            Self::Receipt(qty, _) => qty.into(),
            Self::Cancellation => BatchQuantity::ZERO,
        }
    }

    fn command(self) -> BatchCommand {
        match self {
            Self::Quantity(_) => BatchCommand::ChangeQuantity,
            Self::Receipt(..) => BatchCommand::Receive,
            Self::Cancellation => BatchCommand::Cancel,
        }
    }
}

/// What a change of supply came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supplied {
    /// Whether it was news.
    pub declared: Declared,
    /// Who lost a place, by seniority.
    pub displaced: Vec<Displaced>,
    /// Whether all of it was done, or the caller has to go on with further losers.
    pub finished: bool,
}

/// Units in batches.
type Places = Vec<(BatchRef, u64)>;

struct Loss {
    seniority: Seniority,
    part: PartKey,
    reference: BatchRef,
    units: u64,
}

impl Product {
    /// A new batch. The same again is no news.
    ///
    /// # Errors
    /// `BatchExists` when it is known with another quantity or date, or was cancelled.
    pub fn create_batch(&mut self, reference: BatchRef, qty: BatchQuantity, eta: Eta) -> Result<Declared, Rejection> {
        if let Some(known) = self.batch(&reference) {
            return if (known.quantity, known.eta, known.cancelled) == (qty, eta, false) {
                Ok(Declared::Same)
            } else {
                Err(Rejection::BatchExists { sku: self.sku.clone(), reference })
            };
        }
        self.batches.push(Batch::new(reference.clone(), qty, eta, self.version + 1));
        self.sort_batches();
        self.out_of_stock_raised &= qty == BatchQuantity::ZERO;
        self.raise(Event::BatchCreated { reference, qty, eta });
        Ok(Declared::New)
    }

    fn batch_allows(&self, command: BatchCommand, reference: &BatchRef) -> Result<Answer, Rejection> {
        let Some(batch) = self.batch(reference) else {
            return Err(Rejection::UnknownBatch { sku: self.sku.clone(), reference: reference.clone() });
        };
        match states::batch(command, batch.state()) {
            Answer::No => Err(Rejection::NotAllowed {
                subject: format!("batch {reference} of {}", self.sku),
                command: command.name(),
                state: batch.state().name(),
            }),
            answer => Ok(answer),
        }
    }

    /// Whether a batch may be changed so.
    ///
    /// # Errors
    /// `UnknownBatch`; `NotAllowed` in its state; `BatchExists` when the rest of a receipt would need a name that is taken.
    pub fn supply_may_change(&self, reference: &BatchRef, change: SupplyChange) -> Result<Answer, Rejection> {
        let answer = self.batch_allows(change.command(), reference)?;
        let same = matches!((change, self.batch(reference)),
            (SupplyChange::Quantity(to), Some(batch)) if batch.quantity == to);
        if let (SupplyChange::Receipt(qty, Rest::Keep), Some(batch)) = (change, self.batch(reference))
            && batch.quantity.units() > qty.units()
        {
            let taken = reference.rest().is_none_or(|rest| self.batch(&rest).is_some());
            if taken {
                let reference = reference.rest().unwrap_or_else(|| reference.clone());
                return Err(Rejection::BatchExists { sku: self.sku.clone(), reference });
            }
        }
        Ok(if same { Answer::Same } else { answer })
    }

    /// Units by which a batch of `to` units would fall short of what is placed in it.
    pub fn lacking(&self, reference: &BatchRef, to: BatchQuantity) -> u64 {
        self.batch(reference).map_or(0, |batch| batch.placed().saturating_sub(to.units()))
    }

    /// Changes how many units a batch holds. When that is less than what is placed in it, some lose their place (rule 16): they
    /// go at once wherever free stock can take them, else they wait.
    ///
    /// `losers` names parts of lines at hand that lie in the batch, in the order in which they lose their place: as many as make up
    /// [`Product::lacking`]. Given fewer, the batch shrinks only as far as they allow, and the caller goes on from there; a cut that displaces
    /// very many lines is done so, in steps.
    ///
    /// # Errors
    /// As [`Product::supply_may_change`].
    pub fn change_supply(
        &mut self,
        reference: &BatchRef,
        change: SupplyChange,
        losers: &[PartKey],
    ) -> Result<Supplied, Rejection> {
        if self.supply_may_change(reference, change)? == Answer::Same {
            return Ok(Supplied { declared: Declared::Same, displaced: Vec::new(), finished: true });
        }
        let to = change.quantity();
        let (left, losses) = self.losses(reference, to, losers);
        let reached = BatchQuantity::new(left).map_or(to, |left| to.max(left));
        let finished = reached == to;
        let first = self.events.len();
        let before = self.promises(losses.iter().map(|loss| &loss.part.line));

        let revision = self.version + 1;
        let batch = self.batch_mut(reference);
        let (from, eta) = (batch.quantity, batch.eta);
        batch.quantity = reached;
        batch.revision = revision;
        self.out_of_stock_raised &= reached <= from;
        let reference = reference.clone();
        match change {
            SupplyChange::Receipt(qty, rest) if finished => {
                self.batch_mut(&reference).eta = None;
                self.sort_batches();
                self.out_of_stock_raised = false;
                self.raise(Event::BatchReceived { reference: reference.clone(), from, qty: qty.into(), rest });
                let missing = BatchQuantity::new(from.units().saturating_sub(qty.units())).unwrap_or_default();
                if rest == Rest::Keep
                    && missing > BatchQuantity::ZERO
                    && let Some(rest) = reference.rest()
                {
                    self.create_batch(rest, missing, eta)?;
                }
            }
            SupplyChange::Cancellation if finished => {
                self.batch_mut(&reference).cancelled = true;
                self.raise(Event::BatchCancelled { reference, qty: from });
            }
            _ => self.raise(Event::BatchQuantityChanged { reference, from, to: reached }),
        }
        let displaced = self.displace(&losses);
        self.tell_promises(before);
        self.put_in_order(first);
        Ok(Supplied { declared: Declared::Changed, displaced, finished })
    }

    /// Who of these loses how much when the batch shrinks, by seniority; and what is left placed in it.
    fn losses(&self, reference: &BatchRef, to: BatchQuantity, losers: &[PartKey]) -> (u64, Vec<Loss>) {
        let mut left = self.batch(reference).map_or(0, Batch::placed);
        let mut losses = Vec::new();
        for part in losers {
            let Some(lacking) = left.checked_sub(to.units()).filter(|lacking| *lacking > 0) else { break };
            let Some(line) = self.lines.get(&part.line) else { continue };
            let found =
                line.placements().find(|(batch, placed)| *batch == reference && placed.accepted == part.accepted);
            let Some((_, placed)) = found else { continue };
            let units = match line.terms.split {
                Split::Never => placed.qty.units(),
                Split::Parts(_) => placed.qty.units().min(lacking),
            };
            left -= units;
            losses.push(Loss {
                seniority: line.seniority(part.accepted),
                part: part.clone(),
                reference: reference.clone(),
                units,
            });
        }
        losses.sort_by_key(|loss| loss.seniority);
        (left, losses)
    }

    /// Takes units out of their batch, then places each wherever free stock can take them, else puts them in the queue. A hold that can't be
    /// kept whole ends.
    fn displace(&mut self, losses: &[Loss]) -> Vec<Displaced> {
        for Loss { part, reference, units, .. } in losses {
            self.deallocate_part(&part.line, part.accepted, reference, *units, DeallocationReason::Displaced);
        }
        // Where each goes. Those of a hold go together, when it is the turn of the first.
        let mut to: Vec<Places> = vec![Places::new(); losses.len()];
        let mut displaced = Vec::with_capacity(losses.len());
        for (at, Loss { part: PartKey { line: key, accepted }, units, .. }) in losses.iter().enumerate() {
            let (line, mut backordered) = (self.known_line(key), 0);
            if line.hold.is_some() && to[at].is_empty() {
                match self.room_for_hold(line, losses, at) {
                    None => self.give_up_hold(key),
                    Some(room) => {
                        for (at, places) in room {
                            for (reference, units) in &places {
                                self.place(key, losses[at].part.accepted, reference, *units);
                            }
                            to[at] = places;
                        }
                    }
                }
            } else if line.hold.is_none() && line.lapsed == 0 {
                to[at] = self.named(self.would_take(line, *units));
                for (reference, units) in &to[at] {
                    self.place(key, *accepted, reference, *units);
                }
                backordered = units - to[at].iter().map(|(_, units)| units).sum::<u64>();
                self.enqueue(key, *accepted, backordered, true);
            }
            let (line, qty, lapsed) = (key.clone(), Quantity::part(*units), self.known_line(key).lapsed > 0);
            displaced.push(Displaced { line, qty, to: std::mem::take(&mut to[at]), backordered, lapsed });
        }
        displaced
    }

    /// Where all that a hold lost could be instead, from this loss of it on: a part of a hold is of no use.
    fn room_for_hold(&self, line: &AcceptedLine, losses: &[Loss], first: usize) -> Option<Vec<(usize, Places)>> {
        let mut left: Vec<u64> = self.batches.iter().map(Batch::free).collect();
        let its = (first..losses.len()).filter(|at| losses[*at].part.line == line.key);
        let room = its.map(|at| {
            let takes = choose(&self.batches, |at| left[at], losses[at].units, &line.terms, self.today());
            for (batch, units) in &takes {
                left[*batch] -= units;
            }
            let found: u64 = takes.iter().map(|(_, units)| units).sum();
            (found == losses[at].units).then(|| (at, self.named(takes)))
        });
        room.collect()
    }

    /// The same for these units of lines, which are named by seniority.
    pub(super) fn displace_parts(&mut self, parts: Vec<(PartKey, BatchRef, u64)>) -> Vec<Displaced> {
        let loss = |(part, reference, units): (PartKey, BatchRef, u64)| {
            let seniority = self.known_line(&part.line).seniority(part.accepted);
            Loss { seniority, part, reference, units }
        };
        let losses: Vec<Loss> = parts.into_iter().map(loss).collect();
        self.displace(&losses)
    }

    /// Ends a hold of which some units were taken already: a part of it is of no use.
    fn give_up_hold(&mut self, key: &LineKey) {
        let line = self.known_line(key);
        let units = line.requested.units() - line.dropped;
        let rest: Vec<_> = line.placements().map(|(at, part)| (at.clone(), part.accepted, part.qty.units())).collect();
        for (reference, accepted, units) in rest {
            self.deallocate_part(key, accepted, &reference, units, DeallocationReason::Displaced);
        }
        self.lose_hold(key, units);
    }

    /// Corrects the date of a batch that has not arrived, or says that it has. Its lines follow it (rule 17); all of them must be at hand,
    /// unless it arrives. When it comes later, its lines are offered earlier free stock by seniority, and those past their `by` lose the place.
    ///
    /// # Errors
    /// As [`Product::eta_may_become`].
    pub fn change_batch_eta(&mut self, reference: &BatchRef, to: Eta) -> Result<(Declared, Vec<Displaced>), Rejection> {
        if self.eta_may_become(reference, to)? == Answer::Same {
            return Ok((Declared::Same, Vec::new()));
        }
        let today = self.today();
        let inside: Vec<LineKey> = match to {
            None => Vec::new(),
            Some(_) => self.lines.values().filter(|line| line.is_in(reference)).map(|line| line.key.clone()).collect(),
        };
        let first = self.events.len();
        let before = self.promises(&inside);
        let revision = self.version + 1;
        let batch = self.batch_mut(reference);
        let from = batch.eta;
        batch.eta = to;
        batch.revision = revision;
        self.sort_batches();
        self.raise(Event::BatchEtaChanged { reference: reference.clone(), from, to });
        let mut displaced = Vec::new();
        if arrival(to, today) > arrival(from, today) {
            let mut places: Vec<_> = inside
                .iter()
                .flat_map(|key| {
                    let line = self.known_line(key);
                    let here = line.placements().filter(|(batch, _)| *batch == reference);
                    here.map(|(_, part)| (line.seniority(part.accepted), key.clone(), part.qty.units()))
                        .collect::<Vec<_>>()
                })
                .collect();
            places.sort();
            for (seniority, key, units) in places {
                let line = self.known_line(&key);
                if !line.is_in(reference) {
                    // A hold that went with its first part.
                    continue;
                }
                if line.terms.allow(arrival(to, today)) {
                    self.move_earlier(&key, seniority.1, reference, units);
                    continue;
                }
                let late = line.placements().filter(|(batch, _)| *batch == reference);
                // A hold is kept whole or not at all.
                let late = late.filter(|(_, part)| line.hold.is_some() || part.accepted == seniority.1);
                let late = late.map(|(_, part)| Loss {
                    seniority: line.seniority(part.accepted),
                    part: PartKey { line: key.clone(), accepted: part.accepted },
                    reference: reference.clone(),
                    units: part.qty.units(),
                });
                displaced.extend(self.displace(&late.collect::<Vec<_>>()));
            }
        }
        self.put_in_order(first);
        self.tell_promises(before);
        Ok((Declared::Changed, displaced))
    }

    /// Whether a batch may be given this date.
    ///
    /// # Errors
    /// `UnknownBatch`; `NotAllowed`: what has arrived is not expected any more (rule 15).
    pub fn eta_may_become(&self, reference: &BatchRef, to: Eta) -> Result<Answer, Rejection> {
        if self.batch(reference).is_some_and(|batch| batch.eta == to && !batch.cancelled) {
            return Ok(Answer::Same);
        }
        self.batch_allows(BatchCommand::ChangeEta, reference)
    }

    /// What is promised to these lines, each once, by seniority.
    pub(super) fn promises<'a>(&self, keys: impl IntoIterator<Item = &'a LineKey>) -> Vec<(LineKey, Promise)> {
        let found: BTreeMap<Seniority, (LineKey, Promise)> = keys
            .into_iter()
            .map(|key| self.known_line(key))
            .map(|line| (line.seniority(line.accepted), (line.key.clone(), self.promise(line))))
            .collect();
        found.into_values().collect()
    }

    /// Tells of these lines whose promise is not what it was. A line that has ended said so already.
    pub(super) fn tell_promises(&mut self, before: Vec<(LineKey, Promise)>) {
        for (line, from) in before {
            let known = self.known_line(&line);
            let to = self.promise(known);
            if from != to && known.ordered() > 0 {
                self.raise(Event::PromiseChanged { line, from, to });
            }
        }
    }

    /// Rule 28: the change, then deallocations, then allocations and backorders, each by seniority.
    pub(super) fn put_in_order(&mut self, first: usize) {
        let lines = &self.lines;
        self.events[first..].sort_by_cached_key(|event| {
            let seniority = |line: &LineKey, accepted: u64| lines.get(line).map(|line| line.seniority(accepted));
            match event {
                Event::Deallocated { line, accepted, .. } => (1, seniority(line, *accepted)),
                Event::Held { line, accepted, .. }
                | Event::Allocated { line, accepted, .. }
                | Event::Backordered { line, accepted, .. } => (2, seniority(line, *accepted)),
                Event::HoldLost { line, .. } => (2, lines.get(line).map(|line| line.seniority(line.accepted))),
                Event::PromiseChanged { .. } => (3, None),
                _ => (0, None),
            }
        });
    }
}
