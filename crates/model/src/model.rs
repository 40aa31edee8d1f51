//! The whole world: every product, what time it is, and what commands do.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::commands::{
    AdjustBatch, Allocate, ChangeLine, CreateBatch, Deallocate, DeclareBatch, LineOf, Pick, Precondition,
    QuarantineBatch, ReceiveBatch, ReleaseBatch, Rest, Return, ReturnItem, SetProduct, Ship, ShipItem, Transfer,
    Unpick, WhenShort,
};
use allocation_domain::{BatchRef, Calendar, Command, Eta, HoldSeconds, LineKey, Location, OrderId, Quantity, Sku};
use time::{Date, Duration, OffsetDateTime};

use crate::stock::{BatchIs, KnownBatch, ProductView, Stock, Told, rest_of};

/// What a command that was done came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something is known that was not.
    New,
    /// Something is not as it was.
    Changed,
    /// It was so already.
    Same,
}

/// Why a command was refused. Nothing has changed but what was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such product.
    UnknownSku,
    /// No such batch.
    UnknownBatch,
    /// No such order.
    UnknownOrder,
    /// No such line.
    UnknownLine,
    /// A batch of that name is something else.
    BatchExists,
    /// The batch is somewhere else, or there already.
    AtLocation,
    /// The batch is not what it was thought to be.
    PreconditionFailed,
    /// The product's batches say when they expire, and this one does not.
    ExpiryMissing,
    /// Not in the state it is in.
    NotAllowed,
    /// Known as something else (rule 9).
    Conflict,
    /// Not enough stock.
    Short,
    /// Too much waits already (rule 11).
    QueueFull,
    /// What is to leave has not arrived (rule 20).
    NotOnHand,
    /// There are not so many.
    TooMany,
    /// Fewer than are locked or shipped (rule 23).
    TooFew,
    /// Never allowed: holds do not queue (rule 13).
    Invalid,
}

/// Every product, every batch, every line, every unit there ever was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    now: OffsetDateTime,
    /// Where clocks show so many hours more or less.
    hours: BTreeMap<Location, i64>,
    /// Acceptances so far.
    turns: u64,
    stocks: BTreeMap<Sku, Stock>,
}

impl Model {
    /// A world without anything in it, where it is the same day everywhere.
    pub fn new(now: OffsetDateTime) -> Self {
        Self { now, hours: BTreeMap::new(), turns: 0, stocks: BTreeMap::new() }
    }

    /// The same, but for a location where clocks show so many hours more, or less.
    #[must_use]
    pub fn with(mut self, location: Location, hours: i64) -> Self {
        self.hours.insert(location, hours);
        self
    }

    /// What time it is.
    pub fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// What day it is, wherever nothing else is said and at the locations where it is.
    pub fn calendar(&self) -> Calendar {
        let there = |hours: &i64| (self.now + Duration::hours(*hours)).date();
        let hours = self.hours.iter();
        hours.fold(Calendar::new(self.now.date()), |days, (location, hours)| days.with(location.clone(), there(hours)))
    }

    /// Lets time pass. What is due then is done when the product is next looked at.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// The world as a read sees it: what is due is done, and not kept (rule 13).
    #[must_use]
    pub fn read(&self) -> Self {
        let mut read = self.clone();
        for sku in self.stocks.keys() {
            read.do_what_is_due(sku);
        }
        read
    }

    /// Products that are known.
    pub fn skus(&self) -> impl Iterator<Item = &Sku> {
        self.stocks.keys()
    }

    /// All that is known of a product.
    pub fn product(&self, sku: &Sku) -> Option<ProductView> {
        self.stocks.get(sku).map(|stock| stock.view(&self.calendar()))
    }

    /// Units on hand at a location that can be promised.
    pub fn available_at(&self, sku: &Sku, location: &Location) -> u64 {
        self.stocks.get(sku).map_or(0, |stock| stock.available_at(location, &self.calendar()))
    }

    /// Units that can be promised by each of these days: `ATP(d)`.
    pub fn available_to_promise(&self, sku: &Sku, by: &[Date]) -> Vec<u64> {
        self.stocks.get(sku).map_or_else(|| vec![0; by.len()], |stock| stock.available_by(by, &self.calendar()))
    }

    /// How often it was told of a product's locations that little is left there, and that there is enough again.
    pub fn told(&self, sku: &Sku) -> BTreeMap<Location, Told> {
        self.stocks.get(sku).map(Stock::told).unwrap_or_default()
    }

    /// What must be true after every command: no unit is promised twice, nobody waits for what he could have, each unit is somewhere.
    ///
    /// # Errors
    /// What is not true, in words.
    pub fn invariants(&self) -> Result<(), String> {
        for (sku, stock) in &self.stocks {
            stock.invariants(&self.calendar()).map_err(|what| format!("{sku}: {what}"))?;
        }
        Ok(())
    }

    /// Does a command.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn apply(&mut self, command: &Command) -> Result<Outcome, Refused> {
        let named = self.named(command);
        for sku in &named {
            self.do_what_is_due(sku);
        }
        let days = self.calendar();
        let outcome = match command {
            Command::SetProduct(c) => Ok(self.set(c)),
            Command::CreateBatch(c) => self.create(c),
            Command::DeclareBatch(c) => self.declare(c),
            Command::ChangeBatchQuantity(c) => self.redeclare(&c.sku, &c.reference, c.qty.units()),
            Command::ChangeBatchEta(c) => self.reschedule(&c.sku, &c.reference, c.eta),
            Command::ReceiveBatch(c) => self.receive(c),
            Command::CancelBatch(c) => self.cancel_batch(&c.sku, &c.reference),
            Command::AdjustBatch(c) => self.adjust(c),
            Command::QuarantineBatch(c) => self.quarantine(c),
            Command::ReleaseBatch(c) => self.release(c),
            Command::Transfer(c) => self.transfer(c),
            Command::Allocate(c) => self.allocate(c),
            Command::ConfirmHold(c) => self.confirm(&c.order_id),
            Command::ExtendHold(c) => self.extend(&c.order_id, c.hold),
            Command::ChangeLine(c) => self.change(c),
            Command::Deallocate(c) => self.deallocate(c),
            Command::Pick(c) => self.pick(c),
            Command::Unpick(c) => self.unpick(c),
            Command::Ship(c) => self.ship(c),
            Command::Return(c) => self.take_back(c),
            Command::Improve(c) => match self.stocks.get_mut(&c.sku) {
                None => Err(Refused::UnknownSku),
                Some(stock) => Ok(if stock.improve(&days) { Outcome::Changed } else { Outcome::Same }),
            },
            Command::ApplyDue(_) | Command::RepairBooks(_) => Ok(Outcome::Same),
        };
        for sku in &named {
            if let Some(stock) = self.stocks.get_mut(sku) {
                stock.settle(&days);
                stock.watch(&days);
            }
        }
        outcome
    }

    /// The products that a command is about.
    fn named(&self, command: &Command) -> BTreeSet<Sku> {
        let of_order = |order_id: &OrderId, only: Option<&Sku>| {
            let lines = self.lines_of(order_id).into_iter().map(|(sku, _)| sku);
            lines.filter(|sku| only.is_none_or(|only| only == sku)).collect()
        };
        let skus = |lines: &mut dyn Iterator<Item = &LineOf>| lines.map(|of| of.sku.clone()).collect();
        match command {
            Command::SetProduct(c) => BTreeSet::from([c.sku.clone()]),
            Command::CreateBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::DeclareBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::ChangeBatchQuantity(c) => BTreeSet::from([c.sku.clone()]),
            Command::ChangeBatchEta(c) => BTreeSet::from([c.sku.clone()]),
            Command::ReceiveBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::CancelBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::AdjustBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::QuarantineBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::ReleaseBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::Transfer(c) => BTreeSet::from([c.sku.clone()]),
            Command::Allocate(c) => c.by_sku().map(|(sku, _)| sku.clone()).collect(),
            Command::ConfirmHold(c) => of_order(&c.order_id, None),
            Command::ExtendHold(c) => of_order(&c.order_id, None),
            Command::ChangeLine(c) => BTreeSet::from([c.sku.clone()]),
            Command::Deallocate(c) => of_order(&c.order_id, c.sku.as_ref()),
            Command::Pick(Pick { order_id, lines }) | Command::Unpick(Unpick { order_id, lines }) => {
                if lines.is_empty() { of_order(order_id, None) } else { skus(&mut lines.iter()) }
            }
            Command::Ship(Ship { order_id, items }) => {
                if items.is_empty() {
                    of_order(order_id, None)
                } else {
                    skus(&mut items.iter().map(|item| &item.of))
                }
            }
            Command::Return(c) => skus(&mut c.items.iter().map(|item| &item.of)),
            Command::Improve(c) => BTreeSet::from([c.sku.clone()]),
            Command::ApplyDue(c) => BTreeSet::from([c.sku.clone()]),
            Command::RepairBooks(c) => BTreeSet::from([c.sku.clone()]),
        }
    }

    fn do_what_is_due(&mut self, sku: &Sku) {
        let days = self.calendar();
        if let Some(stock) = self.stocks.get_mut(sku) {
            stock.do_what_is_due(self.now, &days);
            stock.watch(&days);
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    fn lines_of(&self, order_id: &OrderId) -> Vec<(Sku, LineKey)> {
        let of = |(sku, stock): (&Sku, &Stock)| {
            let keys: Vec<LineKey> = stock.keys().filter(|key| key.order_id == *order_id).cloned().collect();
            let sku = sku.clone();
            keys.into_iter().map(move |key| (sku.clone(), key))
        };
        self.stocks.iter().flat_map(of).collect()
    }

    fn stock(&mut self, sku: &Sku) -> &mut Stock {
        self.stocks.get_mut(sku).expect("a known product")
    }

    fn state(&self, (sku, key): &(Sku, LineKey)) -> &'static str {
        self.stocks[sku].line(key).expect("a known line").state()
    }

    fn known_batch(&self, sku: &Sku, reference: &BatchRef) -> Result<KnownBatch, Refused> {
        let stock = self.stocks.get(sku).ok_or(Refused::UnknownSku)?;
        stock.batch(reference).ok_or(Refused::UnknownBatch)
    }

    // ---- Supply ----

    fn set(&mut self, command: &SetProduct) -> Outcome {
        let (known, days) = (self.stocks.contains_key(&command.sku), self.calendar());
        let stock = self.stocks.entry(command.sku.clone()).or_default();
        if known && *stock.settings() == command.settings {
            return Outcome::Same;
        }
        stock.set(command.settings.clone(), &days);
        if known { Outcome::Changed } else { Outcome::New }
    }

    fn create(&mut self, command: &CreateBatch) -> Result<Outcome, Refused> {
        let CreateBatch { sku, reference, qty, eta, expires_on, location } = command;
        if let Ok(known) = self.known_batch(sku, reference) {
            let same = (known.declared, known.eta, known.expires_on, &known.location)
                == (qty.units(), *eta, *expires_on, location);
            return if same && known.is != BatchIs::Cancelled { Ok(Outcome::Same) } else { Err(Refused::BatchExists) };
        }
        if self.stocks.get(sku).is_some_and(|stock| stock.lacks_expiry(*expires_on)) {
            return Err(Refused::ExpiryMissing);
        }
        let days = self.calendar();
        let stock = self.stocks.entry(sku.clone()).or_default();
        stock.create(reference.clone(), qty.units(), *eta, *expires_on, location.clone(), &days);
        Ok(Outcome::New)
    }

    fn declare(&mut self, command: &DeclareBatch) -> Result<Outcome, Refused> {
        let DeclareBatch { sku, reference, qty, eta, expires_on, location, precondition } = command;
        let Ok(known) = self.known_batch(sku, reference) else {
            if *precondition != Precondition::None {
                return Err(Refused::PreconditionFailed);
            }
            let (eta, expires_on) = (eta.flatten(), expires_on.flatten());
            return self.create(&CreateBatch {
                sku: sku.clone(),
                reference: reference.clone(),
                qty: *qty,
                eta,
                expires_on,
                location: location.clone().unwrap_or_default(),
            });
        };
        if location.as_ref().is_some_and(|location| *location != known.location) {
            return Err(Refused::AtLocation);
        }
        let (new_eta, new_expiry) = (eta.unwrap_or(known.eta), expires_on.unwrap_or(known.expires_on));
        if known.is == BatchIs::Cancelled || (known.is != BatchIs::Expected && new_eta != known.eta) {
            return Err(Refused::NotAllowed);
        }
        let stock = self.stock(sku);
        stock.may_redeclare(reference, qty.units())?;
        if new_expiry != known.expires_on && stock.lacks_expiry(new_expiry) {
            return Err(Refused::ExpiryMissing);
        }
        // How many first, then when, then until when.
        let mut outcomes =
            vec![self.redeclare(sku, reference, qty.units())?, self.reschedule(sku, reference, new_eta)?];
        if new_expiry != known.expires_on {
            let days = self.calendar();
            self.stock(sku).expire_on(reference, new_expiry, &days);
            outcomes.push(Outcome::Changed);
        }
        Ok(if outcomes.contains(&Outcome::Changed) { Outcome::Changed } else { Outcome::Same })
    }

    fn redeclare(&mut self, sku: &Sku, reference: &BatchRef, units: u64) -> Result<Outcome, Refused> {
        let known = self.known_batch(sku, reference)?;
        if known.is == BatchIs::Cancelled {
            return Err(Refused::NotAllowed);
        }
        if known.declared == units {
            return Ok(Outcome::Same);
        }
        let days = self.calendar();
        self.stock(sku).redeclare(reference, units, &days)?;
        Ok(Outcome::Changed)
    }

    fn reschedule(&mut self, sku: &Sku, reference: &BatchRef, to: Eta) -> Result<Outcome, Refused> {
        let known = self.known_batch(sku, reference)?;
        if known.is != BatchIs::Cancelled && known.eta == to {
            return Ok(Outcome::Same);
        }
        if known.is != BatchIs::Expected {
            return Err(Refused::NotAllowed);
        }
        let days = self.calendar();
        self.stock(sku).reschedule(reference, to, &days);
        Ok(Outcome::Changed)
    }

    fn receive(&mut self, command: &ReceiveBatch) -> Result<Outcome, Refused> {
        let ReceiveBatch { sku, reference, qty, rest } = command;
        let known = self.known_batch(sku, reference)?;
        if known.is != BatchIs::Expected {
            return Err(Refused::NotAllowed);
        }
        if *rest == Rest::Keep && known.declared > qty.units() {
            let free = rest_of(reference).is_some_and(|rest| self.known_batch(sku, &rest).is_err());
            if !free {
                return Err(Refused::BatchExists);
            }
        }
        let days = self.calendar();
        self.stock(sku).receive(reference, qty.units(), *rest, &days);
        Ok(Outcome::Changed)
    }

    fn cancel_batch(&mut self, sku: &Sku, reference: &BatchRef) -> Result<Outcome, Refused> {
        match self.known_batch(sku, reference)?.is {
            BatchIs::Cancelled => Ok(Outcome::Same),
            BatchIs::OnHand | BatchIs::Expired => Err(Refused::NotAllowed),
            BatchIs::Expected => {
                let days = self.calendar();
                self.stock(sku).cancel_batch(reference, &days);
                Ok(Outcome::Changed)
            }
        }
    }

    /// A batch whose units can be counted by hand: it has arrived, and may have expired since.
    fn arrived(&mut self, sku: &Sku, reference: &BatchRef) -> Result<&mut Stock, Refused> {
        match self.known_batch(sku, reference)? {
            KnownBatch { is: BatchIs::OnHand | BatchIs::Expired, eta: None, .. } => Ok(self.stock(sku)),
            _ => Err(Refused::NotAllowed),
        }
    }

    /// A batch whose units can be set aside: it has arrived, and they are of use.
    fn on_hand(&mut self, sku: &Sku, reference: &BatchRef) -> Result<&mut Stock, Refused> {
        match self.known_batch(sku, reference)?.is {
            BatchIs::OnHand => Ok(self.stock(sku)),
            _ => Err(Refused::NotAllowed),
        }
    }

    fn adjust(&mut self, command: &AdjustBatch) -> Result<Outcome, Refused> {
        let days = self.calendar();
        let stock = self.arrived(&command.sku, &command.reference)?;
        stock.adjust(&command.reference, command.adjustment, &days)
    }

    fn quarantine(&mut self, command: &QuarantineBatch) -> Result<Outcome, Refused> {
        let days = self.calendar();
        let stock = self.on_hand(&command.sku, &command.reference)?;
        stock.quarantine(&command.reference, command.qty.map(Quantity::units), &days)
    }

    fn release(&mut self, command: &ReleaseBatch) -> Result<Outcome, Refused> {
        let stock = self.on_hand(&command.sku, &command.reference)?;
        stock.release(&command.reference, command.qty.map(Quantity::units))
    }

    fn transfer(&mut self, command: &Transfer) -> Result<Outcome, Refused> {
        let Transfer { sku, from, qty, to, reference, .. } = command;
        let known = self.known_batch(sku, from)?;
        let days = self.calendar();
        let stock = self.on_hand(sku, from)?;
        if known.location == *to {
            return Err(Refused::AtLocation);
        }
        if qty.units() > stock.free(from) {
            return Err(Refused::TooMany);
        }
        if stock.batch(reference).is_some() {
            return Err(Refused::BatchExists);
        }
        stock.transfer(command, &days);
        Ok(Outcome::New)
    }

    // ---- Promises ----

    fn allocate(&mut self, command: &Allocate) -> Result<Outcome, Refused> {
        if command.hold.is_some() && command.when_short == WhenShort::Backorder {
            return Err(Refused::Invalid);
        }
        if command.by_sku().any(|(sku, _)| !self.stocks.contains_key(sku)) {
            return Err(Refused::UnknownSku);
        }
        if command.lines().iter().any(|line| self.stocks[&line.sku].conflicts(line)) {
            return Err(Refused::Conflict);
        }
        let days = self.calendar();
        let mut intents = Vec::new();
        for (sku, lines) in command.by_sku() {
            intents.push((sku, self.stocks[sku].intend(lines, command.when_short, &days)));
        }
        let all = || intents.iter().flat_map(|(_, intents)| intents);
        if all().next().is_none() {
            return Ok(Outcome::Same);
        }
        match command.when_short {
            WhenShort::Reject if all().any(|intent| intent.missing > 0) => return Err(Refused::Short),
            WhenShort::Partial if all().all(|intent| intent.takes.is_empty()) => return Err(Refused::Short),
            WhenShort::Backorder => {
                for (sku, intents) in &intents {
                    self.stocks[*sku].may_wait(intents)?;
                }
            }
            _ => {}
        }
        let until = command.hold.map(|hold| self.until(hold));
        for (sku, intents) in intents {
            for intent in intents {
                let turn = self.next_turn();
                self.stock(sku).accept(intent, turn, command.when_short, until);
            }
        }
        Ok(Outcome::New)
    }

    fn until(&self, hold: HoldSeconds) -> OffsetDateTime {
        hold.from(self.now)
    }

    /// The lines of an order, without those that are cancelled unless all of them are.
    fn open_lines(&self, order_id: &OrderId) -> Result<Vec<(Sku, LineKey)>, Refused> {
        let all = self.lines_of(order_id);
        if all.is_empty() {
            return Err(Refused::UnknownOrder);
        }
        let open: Vec<_> = all.iter().filter(|line| self.state(line) != "cancelled").cloned().collect();
        Ok(if open.is_empty() { all } else { open })
    }

    fn confirm(&mut self, order_id: &OrderId) -> Result<Outcome, Refused> {
        let lines = self.open_lines(order_id)?;
        if lines.iter().any(|line| matches!(self.state(line), "lapsed" | "cancelled")) {
            return Err(Refused::NotAllowed);
        }
        let mut outcome = Outcome::Same;
        for (sku, key) in lines {
            if self.stock(&sku).confirm(&key) {
                outcome = Outcome::Changed;
            }
        }
        Ok(outcome)
    }

    fn extend(&mut self, order_id: &OrderId, hold: HoldSeconds) -> Result<Outcome, Refused> {
        let lines = self.open_lines(order_id)?;
        let states: Vec<_> = lines.iter().map(|line| self.state(line)).collect();
        if states.contains(&"lapsed") || !states.contains(&"held") {
            return Err(Refused::NotAllowed);
        }
        let until = self.until(hold);
        let mut outcome = Outcome::Same;
        for (sku, key) in lines {
            if self.stock(&sku).extend(&key, until) {
                outcome = Outcome::Changed;
            }
        }
        Ok(outcome)
    }

    fn change(&mut self, command: &ChangeLine) -> Result<Outcome, Refused> {
        let turn = self.next_turn();
        let mut changed = self.stocks.get(&command.sku).ok_or(Refused::UnknownLine)?.clone();
        let outcome = changed.change(&command.line, &command.change, turn, &self.calendar())?;
        self.stocks.insert(command.sku.clone(), changed);
        Ok(outcome)
    }

    fn deallocate(&mut self, command: &Deallocate) -> Result<Outcome, Refused> {
        let Deallocate { order_id, sku, line } = command;
        let mut lines = self.lines_of(order_id);
        lines.retain(|(of, key)| {
            sku.as_ref().is_none_or(|sku| sku == of) && line.as_ref().is_none_or(|line| *line == key.line)
        });
        if lines.is_empty() {
            return Err(if sku.is_some() { Refused::UnknownLine } else { Refused::UnknownOrder });
        }
        // What is with the pickers is not cancelled, nor what has left (rule 24).
        let is_locked = lines.iter().any(|(sku, key)| self.stocks[sku].locked(key) > 0);
        let states: Vec<_> = lines.iter().map(|line| self.state(line)).collect();
        let is_open = states.iter().any(|state| matches!(*state, "held" | "backordered" | "allocated"));
        if is_locked || (!is_open && states.contains(&"shipped")) {
            return Err(Refused::NotAllowed);
        }
        let mut outcome = Outcome::Same;
        for (sku, key) in lines {
            if self.stock(&sku).cancel_line(&key) {
                outcome = Outcome::Changed;
            }
        }
        Ok(outcome)
    }

    // ---- The floor ----

    /// All lines of an order that is known.
    fn known_lines(&self, order_id: &OrderId) -> Result<Vec<(Sku, LineKey)>, Refused> {
        let lines = self.lines_of(order_id);
        if lines.is_empty() { Err(Refused::UnknownOrder) } else { Ok(lines) }
    }

    /// One line of an order that is known.
    fn known_line(&self, order_id: &OrderId, of: &LineOf) -> Result<(Sku, LineKey), Refused> {
        let line = (of.sku.clone(), LineKey { order_id: order_id.clone(), line: of.line.clone() });
        if self.known_lines(order_id)?.contains(&line) { Ok(line) } else { Err(Refused::UnknownLine) }
    }

    /// The lines of an order that are named; else all of them.
    fn named_lines(&self, order_id: &OrderId, named: &[LineOf]) -> Result<Vec<(Sku, LineKey)>, Refused> {
        let all = self.known_lines(order_id)?;
        if named.is_empty() {
            return Ok(all);
        }
        named.iter().map(|of| self.known_line(order_id, of)).collect()
    }

    /// Of these lines those that are allocated, if only in part. Of those that were named that must be all; and there must be one.
    fn allocated_lines(&self, lines: &[(Sku, LineKey)], named: bool) -> Result<Vec<(Sku, LineKey)>, Refused> {
        let mut allocated = lines.to_vec();
        allocated.retain(|line| matches!(self.state(line), "allocated" | "backordered"));
        if allocated.is_empty() || (named && allocated.len() < lines.len()) {
            return Err(Refused::NotAllowed);
        }
        Ok(allocated)
    }

    fn pick(&mut self, command: &Pick) -> Result<Outcome, Refused> {
        let lines = self.named_lines(&command.order_id, &command.lines)?;
        if lines.iter().any(|line| self.state(line) == "held") {
            return Err(Refused::NotAllowed);
        }
        let lines = self.allocated_lines(&lines, !command.lines.is_empty())?;
        let mut outcome = Outcome::Same;
        for (sku, key) in &lines {
            if self.stock(sku).pick(key) {
                outcome = Outcome::Changed;
            }
        }
        if lines.iter().all(|(sku, key)| self.stocks[sku].locked(key) == 0) {
            return Err(Refused::NotOnHand);
        }
        Ok(outcome)
    }

    fn unpick(&mut self, command: &Unpick) -> Result<Outcome, Refused> {
        let lines = self.named_lines(&command.order_id, &command.lines)?;
        let lines = self.allocated_lines(&lines, !command.lines.is_empty())?;
        let mut outcome = Outcome::Same;
        for (sku, key) in &lines {
            if self.stock(sku).unpick(key) {
                outcome = Outcome::Changed;
            }
        }
        Ok(outcome)
    }

    fn ship(&mut self, command: &Ship) -> Result<Outcome, Refused> {
        let lines = self.known_lines(&command.order_id)?;
        let mut shipped = self.clone();
        if command.items.is_empty() {
            shipped.ship_all(&lines)?;
        }
        for item in &command.items {
            shipped.ship_item(&command.order_id, item)?;
        }
        *self = shipped;
        Ok(Outcome::Changed)
    }

    /// Ships all that is allocated of these lines. `self` is a copy, of no use after a refusal.
    fn ship_all(&mut self, lines: &[(Sku, LineKey)]) -> Result<(), Refused> {
        let days = self.calendar();
        let mut nothing = true;
        for line in lines {
            if self.state(line) == "held" {
                return Err(Refused::NotAllowed);
            }
            let (sku, key) = line;
            let units = self.stocks[sku].allocated(key);
            if units > 0 {
                self.stock(sku).ship(key, units, None, &days)?;
                nothing = false;
            }
        }
        if nothing { Err(Refused::NotAllowed) } else { Ok(()) }
    }

    /// Ships what an item says. `self` is a copy, of no use after a refusal.
    fn ship_item(&mut self, order_id: &OrderId, item: &ShipItem) -> Result<(), Refused> {
        let line = self.known_line(order_id, &item.of)?;
        if !matches!(self.state(&line), "allocated" | "backordered") {
            return Err(Refused::NotAllowed);
        }
        let (sku, key) = line;
        let allocated = self.stocks[&sku].allocated(&key);
        let units = item.qty.map_or(allocated, Quantity::units);
        if units == 0 || units > allocated {
            return Err(Refused::TooMany);
        }
        if let Some(from) = &item.from {
            match self.known_batch(&sku, from)?.is {
                BatchIs::Cancelled | BatchIs::Expired => return Err(Refused::NotAllowed),
                BatchIs::Expected => return Err(Refused::NotOnHand),
                BatchIs::OnHand => {}
            }
        }
        let days = self.calendar();
        self.stock(&sku).ship(&key, units, item.from.as_ref(), &days)
    }

    fn take_back(&mut self, command: &Return) -> Result<Outcome, Refused> {
        if command.items.is_empty() {
            return Err(Refused::Invalid);
        }
        let mut returned = self.clone();
        for item in &command.items {
            returned.take_back_item(&command.order_id, item)?;
        }
        *self = returned;
        Ok(Outcome::Changed)
    }

    /// Takes back what an item says. `self` is a copy, of no use after a refusal.
    fn take_back_item(&mut self, order_id: &OrderId, item: &ReturnItem) -> Result<(), Refused> {
        let (sku, key) = self.known_line(order_id, &item.of)?;
        let stock = &self.stocks[&sku];
        // A line that is held, lapsed or cancelled has nothing shipped.
        if stock.shipped(&key) == 0 {
            return Err(Refused::NotAllowed);
        }
        if item.qty.units() > stock.with_customer(&key) {
            return Err(Refused::TooMany);
        }
        if let Some(into) = &item.into {
            self.arrived(&sku, into)?;
        }
        self.stock(&sku).take_back(&key, item.qty.units(), item.to, item.into.as_ref())
    }
}
