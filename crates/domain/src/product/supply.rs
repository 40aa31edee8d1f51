//! Supply: batches appear, grow, shrink, move in time, arrive, are counted and set aside, and fall away (rules 15 to 18 and 22).

use std::collections::BTreeMap;

use time::Date;

use super::Product;
use crate::batch::{Batch, Eta, arrival};
use crate::commands::{Adjustment, Rest, Transfer};
use crate::error::Rejection;
use crate::events::{DeallocationReason, Event};
use crate::ids::{BatchQuantity, BatchRef, Location, Quantity, Reason};
use crate::order_line::{AcceptedLine, LineKey, Part, PartKey, Promise, Seniority, Split};
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

/// A change after which a batch has another number of units to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupplyChange {
    /// Another total is declared (rule 15).
    Quantity(BatchQuantity),
    /// It came.
    Receipt(Quantity, Rest),
    /// It will never come.
    Cancellation,
    /// What it holds was corrected (rule 22).
    Adjustment(Adjustment, Reason),
    /// So many units are set aside, or all (rule 18).
    Quarantine(Option<Quantity>),
}

impl SupplyChange {
    fn command(&self) -> BatchCommand {
        match self {
            Self::Quantity(_) => BatchCommand::ChangeQuantity,
            Self::Receipt(..) => BatchCommand::Receive,
            Self::Cancellation => BatchCommand::Cancel,
            Self::Adjustment(..) => BatchCommand::Adjust,
            Self::Quarantine(_) => BatchCommand::Quarantine,
        }
    }

    /// Whether it is told against what is there now, so that it has to be done in one unit of work.
    pub fn is_relative(&self) -> bool {
        match self {
            Self::Quantity(_) | Self::Cancellation | Self::Receipt(_, Rest::Cancel) => false,
            Self::Receipt(_, Rest::Keep) | Self::Adjustment(..) | Self::Quarantine(_) => true,
        }
    }
}

/// What a batch is to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Target {
    quantity: BatchQuantity,
    quarantined: u64,
}

impl Target {
    fn of(batch: &Batch) -> Self {
        Self { quantity: batch.quantity, quarantined: batch.quarantined }
    }

    /// Units that may be placed, unless they are expired.
    fn room(self) -> u64 {
        self.quantity.units() - self.quarantined
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

#[derive(Clone)]
pub(super) struct Loss {
    pub(super) seniority: Seniority,
    pub(super) part: PartKey,
    pub(super) reference: BatchRef,
    pub(super) units: u64,
}

impl Product {
    /// A new batch. The same again is no news.
    ///
    /// # Errors
    /// `BatchExists` when it is known with another quantity, date or location, or was cancelled; `ExpiryMissing`.
    pub fn create_batch(
        &mut self,
        reference: BatchRef,
        qty: BatchQuantity,
        eta: Eta,
        expires_on: Option<Date>,
        location: Location,
    ) -> Result<Declared, Rejection> {
        if let Some(known) = self.batch(&reference) {
            let declared = (known.declared, known.eta, known.expires_on, known.cancelled);
            return if declared == (qty, eta, expires_on, false) && known.location == location {
                Ok(Declared::Same)
            } else {
                Err(Rejection::BatchExists { sku: self.sku.clone(), reference })
            };
        }
        self.must_say_expiry(&reference, expires_on)?;
        self.add_batch(&reference, qty, eta, expires_on, location);
        Ok(Declared::New)
    }

    fn add_batch(
        &mut self,
        reference: &BatchRef,
        qty: BatchQuantity,
        eta: Eta,
        expires_on: Option<Date>,
        location: Location,
    ) {
        let batch = Batch::new(reference.clone(), qty, eta, self.version + 1);
        self.batches.push(Batch { expires_on, location: location.clone(), ..batch });
        self.sort_batches();
        self.out_of_stock_raised &= qty == BatchQuantity::ZERO;
        self.raise(Event::BatchCreated { reference: reference.clone(), qty, eta, expires_on, location });
        self.expire_batch(reference);
    }

    /// Whether a batch is where it is said to be.
    ///
    /// # Errors
    /// `AtLocation` when it is somewhere else.
    pub fn must_be_at(&self, reference: &BatchRef, location: &Location) -> Result<(), Rejection> {
        match self.batch(reference) {
            Some(batch) if batch.location != *location => Err(self.at_location(batch)),
            _ => Ok(()),
        }
    }

    fn at_location(&self, batch: &Batch) -> Rejection {
        let (sku, reference, location) = (self.sku.clone(), batch.reference.clone(), batch.location.clone());
        Rejection::AtLocation { sku, reference, location }
    }

    /// Takes free units out of a batch in the warehouse and sends them to another location, where they are expected as a batch of their own.
    ///
    /// # Errors
    /// `UnknownBatch`; `NotAllowed` in its state; `AtLocation` when it is there already; `TooMany` when no so many are free; `BatchExists` when the
    /// new one's name is taken.
    pub fn transfer(&mut self, transfer: &Transfer) -> Result<(), Rejection> {
        let Transfer { from, qty, to, reference, eta, .. } = transfer;
        self.batch_allows(BatchCommand::Transfer, from)?;
        let (units, batch) = (qty.units(), self.batch_mut(from).clone());
        if batch.location == *to {
            return Err(self.at_location(&batch));
        }
        if units > batch.free() {
            let subject = self.named_batch(from);
            return Err(Rejection::TooMany { subject, command: "transfer", asked: units, most: batch.free() });
        }
        if self.batch(reference).is_some() {
            return Err(Rejection::BatchExists { sku: self.sku.clone(), reference: reference.clone() });
        }
        let left = BatchQuantity::new(batch.quantity.units() - units).expect("less than before");
        self.batch_mut(from).quantity = left;
        self.raise(Event::Transferred { reference: from.clone(), qty: *qty, to: reference.clone() });
        self.add_batch(reference, (*qty).into(), Some(*eta), batch.expires_on, to.clone());
        Ok(())
    }

    pub(super) fn batch_allows(&self, command: BatchCommand, reference: &BatchRef) -> Result<Answer, Rejection> {
        let Some(batch) = self.batch(reference) else {
            return Err(Rejection::UnknownBatch { sku: self.sku.clone(), reference: reference.clone() });
        };
        // What expired on its way is not in the warehouse.
        let absent = matches!(command, BatchCommand::Adjust | BatchCommand::Return) && !batch.has_arrived();
        match if absent { Answer::No } else { states::batch(command, batch.state()) } {
            Answer::No => Err(Rejection::NotAllowed {
                subject: self.named_batch(reference),
                command: command.name(),
                state: batch.state().name(),
            }),
            answer => Ok(answer),
        }
    }

    pub(super) fn named_batch(&self, reference: &BatchRef) -> String {
        format!("batch {reference} of {}", self.sku)
    }

    /// Whether a batch may be changed so.
    ///
    /// # Errors
    /// `UnknownBatch`; `NotAllowed` in its state; `TooMany` when it has no so many units, or would have too many; `BatchExists` when the rest
    /// of a receipt would need a name that is taken.
    pub fn supply_may_change(&self, reference: &BatchRef, change: &SupplyChange) -> Result<Answer, Rejection> {
        let answer = self.batch_allows(change.command(), reference)?;
        let Some(batch) = self.batch(reference) else { return Ok(answer) };
        if let SupplyChange::Receipt(qty, Rest::Keep) = change
            && batch.quantity.units() > qty.units()
        {
            let taken = reference.rest().is_none_or(|rest| self.batch(&rest).is_some());
            if taken {
                let reference = reference.rest().unwrap_or_else(|| reference.clone());
                return Err(Rejection::BatchExists { sku: self.sku.clone(), reference });
            }
        }
        let target = self.target(batch, change)?;
        let same = match change {
            SupplyChange::Quantity(to) => batch.declared == *to,
            SupplyChange::Adjustment(..) | SupplyChange::Quarantine(_) => target == Target::of(batch),
            SupplyChange::Receipt(..) | SupplyChange::Cancellation => false,
        };
        Ok(if same { Answer::Same } else { answer })
    }

    /// What the batch is to hold once it is changed so.
    fn target(&self, batch: &Batch, change: &SupplyChange) -> Result<Target, Rejection> {
        let (there, usable) = (batch.quantity.units(), batch.usable());
        let too_many = |command, asked, most| {
            let subject = self.named_batch(&batch.reference);
            Rejection::TooMany { subject, command, asked, most }
        };
        let sum = |more: u64| {
            let most = BatchQuantity::MAX - there;
            BatchQuantity::new(there + more).map_err(|_| too_many("add", more, most))
        };
        let less = |command, units: u64| {
            let left = there.checked_sub(units).ok_or_else(|| too_many(command, units, there))?;
            Ok(BatchQuantity::new(left).expect("less than before"))
        };
        let quantity = match change {
            SupplyChange::Quantity(to) => match to.units().checked_sub(batch.declared.units()) {
                Some(more) => sum(more)?,
                None => less("take away", batch.declared.units() - to.units())?,
            },
            SupplyChange::Receipt(qty, _) => (*qty).into(),
            SupplyChange::Cancellation => BatchQuantity::ZERO,
            SupplyChange::Adjustment(Adjustment::Damaged(qty), _) => less("write off", qty.units())?,
            SupplyChange::Adjustment(Adjustment::Found(qty), _) => sum(qty.units())?,
            SupplyChange::Adjustment(Adjustment::Recount(to), _) => *to,
            SupplyChange::Quarantine(qty) => {
                let aside = qty.map_or(usable, Quantity::units);
                if aside > usable {
                    return Err(too_many("set aside", aside, usable));
                }
                return Ok(Target { quantity: batch.quantity, quarantined: batch.quarantined + aside });
            }
        };
        Ok(Target { quantity, quarantined: batch.quarantined.min(quantity.units()) })
    }

    /// Units placed in a batch for which there is no room once it is changed so.
    pub fn lacking(&self, reference: &BatchRef, change: &SupplyChange) -> u64 {
        let lacking = |batch: &Batch| Some(batch.placed().saturating_sub(self.target(batch, change).ok()?.room()));
        self.batch(reference).and_then(lacking).unwrap_or(0)
    }

    /// Changes what a batch has to give. When that is less than what is placed in it, some lose their place (rule 16): they
    /// go at once wherever free stock can take them, else they wait. What was set aside goes last.
    ///
    /// `losers` names parts of lines at hand that lie in the batch, in the order in which they lose their place: as many as make up
    /// [`Product::lacking`]. Given fewer, the batch shrinks only as far as they allow, and the caller goes on from there; a cut that displaces
    /// very many lines is done so, in steps, unless it [is relative](SupplyChange::is_relative).
    ///
    /// # Errors
    /// As [`Product::supply_may_change`].
    pub fn change_supply(
        &mut self,
        reference: &BatchRef,
        change: &SupplyChange,
        losers: &[PartKey],
    ) -> Result<Supplied, Rejection> {
        if self.supply_may_change(reference, change)? == Answer::Same {
            return Ok(Supplied { declared: Declared::Same, displaced: Vec::new(), finished: true });
        }
        let before = self.batch_mut(reference).clone();
        let target = self.target(&before, change)?;
        let (left, losses) = self.losses(reference, target.room(), losers);
        let finished = left <= target.room();
        let first = self.events.len();
        let promised = self.promises(losses.iter().map(|loss| &loss.part.line));
        if finished {
            self.become_as_told(&before, target, change);
        } else {
            // As far as those who lost their place allow.
            let reached = BatchQuantity::new(left + before.quarantined).expect("no more than before");
            let less = before.quantity.units() - reached.units();
            let to = BatchQuantity::new(before.declared.units() - less.min(before.declared.units()));
            self.declare(reference, to.expect("no more than before"), reached);
        }
        let displaced = self.displace(&losses);
        self.tell_promises(promised);
        self.put_in_order(first);
        Ok(Supplied { declared: Declared::Changed, displaced, finished })
    }

    fn become_as_told(&mut self, before: &Batch, target: Target, change: &SupplyChange) {
        let reference = before.reference.clone();
        let revision = self.version + 1;
        // Whoever has a place and is about to lose it, is in it still.
        self.out_of_stock_raised &= before.expired || target.room() <= Target::of(before).room();
        match change {
            SupplyChange::Quantity(to) => self.declare(&reference, *to, target.quantity),
            SupplyChange::Receipt(qty, rest) => {
                let batch = self.batch_mut(&reference);
                batch.hold_units(target.quantity);
                (batch.declared, batch.eta, batch.revision) = (target.quantity, None, revision);
                batch.arrived = Some(revision);
                self.sort_batches();
                self.out_of_stock_raised = false;
                let (from, rest, reference) = (before.quantity, *rest, reference.clone());
                self.raise(Event::BatchReceived { reference: reference.clone(), from, qty: (*qty).into(), rest });
                let missing = BatchQuantity::new(from.units().saturating_sub(qty.units())).unwrap_or_default();
                if rest == Rest::Keep
                    && missing > BatchQuantity::ZERO
                    && let Some(rest) = reference.rest()
                {
                    self.add_batch(&rest, missing, before.eta, before.expires_on, before.location.clone());
                }
            }
            SupplyChange::Cancellation => {
                let batch = self.batch_mut(&reference);
                batch.hold_units(BatchQuantity::ZERO);
                (batch.declared, batch.cancelled, batch.revision) = (BatchQuantity::ZERO, true, revision);
                self.raise(Event::BatchCancelled { reference, qty: before.quantity });
            }
            SupplyChange::Adjustment(adjustment, reason) => {
                self.batch_mut(&reference).hold_units(target.quantity);
                let (kind, from, to) = ((*adjustment).into(), before.quantity, target.quantity);
                self.raise(Event::BatchAdjusted { reference, kind, from, to, reason: reason.clone() });
            }
            SupplyChange::Quarantine(_) => {
                self.batch_mut(&reference).quarantined = target.quarantined;
                let aside = target.quarantined - before.quarantined;
                let qty = BatchQuantity::new(aside).expect("a part of the batch");
                self.raise(Event::Quarantined { reference, qty });
            }
        }
    }

    /// Declares another total, which makes the batch hold so many units.
    fn declare(&mut self, reference: &BatchRef, to: BatchQuantity, quantity: BatchQuantity) {
        let revision = self.version + 1;
        let batch = self.batch_mut(reference);
        let from = batch.declared;
        batch.hold_units(quantity);
        (batch.declared, batch.revision) = (to, revision);
        self.raise(Event::BatchQuantityChanged { reference: reference.clone(), from, to });
    }

    /// Gives units free again that were set aside: so many, or all (rule 18).
    ///
    /// # Errors
    /// `UnknownBatch`; `NotAllowed` in its state; `TooMany` when no so many were set aside.
    pub fn release_batch(&mut self, reference: &BatchRef, qty: Option<Quantity>) -> Result<Declared, Rejection> {
        self.batch_allows(BatchCommand::Quarantine, reference)?;
        let aside = self.batch(reference).map_or(0, |batch| batch.quarantined);
        let units = qty.map_or(aside, Quantity::units);
        if units > aside {
            let subject = self.named_batch(reference);
            return Err(Rejection::TooMany { subject, command: "release", asked: units, most: aside });
        }
        if units == 0 {
            return Ok(Declared::Same);
        }
        self.batch_mut(reference).quarantined -= units;
        self.out_of_stock_raised = false;
        let qty = BatchQuantity::new(units).expect("a part of the batch");
        self.raise(Event::Released { reference: reference.clone(), qty });
        Ok(Declared::Changed)
    }

    /// Who of these loses how much when there is room for so many units only, by seniority; and what is left placed in it.
    fn losses(&self, reference: &BatchRef, room: u64, losers: &[PartKey]) -> (u64, Vec<Loss>) {
        let mut left = self.batch(reference).map_or(0, Batch::placed);
        let mut losses: Vec<Loss> = Vec::new();
        for part in losers {
            let Some(lacking) = left.checked_sub(room).filter(|lacking| *lacking > 0) else { break };
            let Some(line) = self.lines.get(&part.line) else { continue };
            let here = |(batch, placed): &(&BatchRef, &Part)| *batch == reference && placed.accepted == part.accepted;
            let mut here = line.placements().filter(here).map(|(_, placed)| placed.qty.units());
            // Named twice when some of it is being picked: those units come last, unless all of it has to go together.
            let before = losses.iter_mut().find(|loss| loss.part == *part);
            let units = match line.terms.split {
                Split::Never if before.is_some() => 0,
                Split::Never => here.sum(),
                Split::Parts(_) | Split::OverLocations(_) => {
                    here.nth(usize::from(before.is_some())).map_or(0, |units| units.min(lacking))
                }
            };
            left -= units;
            match before {
                Some(before) => before.units += units,
                None if units > 0 => losses.push(Loss {
                    seniority: line.seniority(part.accepted),
                    part: part.clone(),
                    reference: reference.clone(),
                    units,
                }),
                None => {}
            }
        }
        losses.sort_by_key(|loss| loss.seniority);
        (left, losses)
    }

    /// Takes units out of their batch, then places each wherever free stock can take them, else puts them in the queue. A hold that can't be
    /// kept whole ends.
    pub(super) fn displace(&mut self, losses: &[Loss]) -> Vec<Displaced> {
        // What was accepted together looks for a place together, whichever batches it has lost.
        let mut together: Vec<Loss> = Vec::with_capacity(losses.len());
        for loss in losses {
            let Loss { part, reference, units, .. } = loss;
            self.deallocate_part(&part.line, part.accepted, reference, *units, DeallocationReason::Displaced);
            // By seniority, which no two acceptances share.
            match together.last_mut().filter(|known| known.part == *part) {
                Some(known) => known.units += units,
                None => together.push(loss.clone()),
            }
        }
        let losses = together;
        // Where each goes. Those of a hold go together, when it is the turn of the first.
        let mut to: Vec<Places> = vec![Places::new(); losses.len()];
        let mut displaced = Vec::with_capacity(losses.len());
        for (at, Loss { part: PartKey { line: key, accepted }, units, .. }) in losses.iter().enumerate() {
            let (line, mut backordered) = (self.known_line(key), 0);
            if line.hold.is_some() && to[at].is_empty() {
                match self.room_for_hold(line, &losses, at) {
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
        let its: Vec<usize> = (first..losses.len()).filter(|at| losses[*at].part.line == line.key).collect();
        let lost: u64 = its.iter().map(|at| losses[*at].units).sum();
        let mut room = self.would_take(line, lost);
        if room.iter().map(|(_, units)| units).sum::<u64>() < lost {
            return None;
        }
        let mut share = |mut units: u64| {
            let mut takes = Vec::with_capacity(1);
            for (at, left) in &mut room {
                let some = units.min(*left);
                *left -= some;
                units -= some;
                takes.extend((some > 0).then_some((*at, some)));
            }
            self.named(takes)
        };
        Some(its.into_iter().map(|at| (at, share(losses[at].units))).collect())
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
        batch.arrived = to.is_none().then_some(revision);
        let location = batch.location.clone();
        let today = self.calendar.today(&location);
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
                if self.batch(reference).is_some_and(|batch| self.may_have(batch, &line.terms)) {
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
            if from != to && known.open() > 0 {
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
                Event::Shipped { .. } => (3, None),
                Event::PromiseChanged { .. } => (4, None),
                _ => (0, None),
            }
        });
    }
}
