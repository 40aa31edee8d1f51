//! The whole world: every product, what time it is, and what commands do.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::commands::{
    Allocate, ChangeLine, Deallocate, DeclareBatch, Precondition, ReceiveBatch, Rest, SetProduct, WhenShort,
};
use allocation_domain::{BatchRef, Command, Eta, HoldSeconds, LineKey, OrderId, Sku};
use time::{Date, Duration, OffsetDateTime};

use crate::stock::{ProductView, Stock, rest_of};

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
    /// The batch is not what it was thought to be.
    PreconditionFailed,
    /// Not in the state it is in.
    NotAllowed,
    /// Known as something else (rule 9).
    Conflict,
    /// Not enough stock.
    Short,
    /// Too much waits already (rule 11).
    QueueFull,
    /// Never allowed: holds do not queue (rule 13).
    Invalid,
}

/// Every product, every batch, every line, every unit there ever was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    now: OffsetDateTime,
    /// Acceptances so far.
    turns: u64,
    stocks: BTreeMap<Sku, Stock>,
}

impl Model {
    /// A world without anything in it.
    pub fn new(now: OffsetDateTime) -> Self {
        Self { now, turns: 0, stocks: BTreeMap::new() }
    }

    /// What time it is.
    pub fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// What day it is.
    pub fn today(&self) -> Date {
        self.now.date()
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
        self.stocks.get(sku).map(Stock::view)
    }

    /// Units on hand that nobody has been promised.
    pub fn available(&self, sku: &Sku) -> u64 {
        self.stocks.get(sku).map_or(0, Stock::available)
    }

    /// Units that can be promised by a day: `ATP(d)`.
    pub fn available_to_promise(&self, sku: &Sku, by: Date) -> u64 {
        self.stocks.get(sku).map_or(0, |stock| stock.promisable_by(by, self.today()))
    }

    /// What must be true after every command: no unit is promised twice, nobody waits for what he could have, each unit is somewhere.
    ///
    /// # Errors
    /// What is not true, in words.
    pub fn invariants(&self) -> Result<(), String> {
        for (sku, stock) in &self.stocks {
            stock.invariants(self.today()).map_err(|what| format!("{sku}: {what}"))?;
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
        let outcome = match command {
            Command::SetProduct(c) => Ok(self.set(c)),
            Command::CreateBatch(c) => self.create(&c.sku, &c.reference, c.qty.units(), c.eta),
            Command::DeclareBatch(c) => self.declare(c),
            Command::ChangeBatchQuantity(c) => self.recount(&c.sku, &c.reference, c.qty.units()),
            Command::ChangeBatchEta(c) => self.reschedule(&c.sku, &c.reference, c.eta),
            Command::ReceiveBatch(c) => self.receive(c),
            Command::CancelBatch(c) => self.cancel_batch(&c.sku, &c.reference),
            Command::Allocate(c) => self.allocate(c),
            Command::ConfirmHold(c) => self.confirm(&c.order_id),
            Command::ExtendHold(c) => self.extend(&c.order_id, c.hold),
            Command::ChangeLine(c) => self.change(c),
            Command::Deallocate(c) => self.deallocate(c),
            Command::Improve(c) => match self.stocks.get_mut(&c.sku) {
                None => Err(Refused::UnknownSku),
                Some(stock) => Ok(if stock.improve(self.now.date()) { Outcome::Changed } else { Outcome::Same }),
            },
            Command::ApplyDue(_) | Command::RepairBooks(_) => Ok(Outcome::Same),
        };
        let today = self.today();
        for sku in &named {
            if let Some(stock) = self.stocks.get_mut(sku) {
                stock.settle(today);
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
        match command {
            Command::SetProduct(c) => BTreeSet::from([c.sku.clone()]),
            Command::CreateBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::DeclareBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::ChangeBatchQuantity(c) => BTreeSet::from([c.sku.clone()]),
            Command::ChangeBatchEta(c) => BTreeSet::from([c.sku.clone()]),
            Command::ReceiveBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::CancelBatch(c) => BTreeSet::from([c.sku.clone()]),
            Command::Allocate(c) => c.by_sku().map(|(sku, _)| sku.clone()).collect(),
            Command::ConfirmHold(c) => of_order(&c.order_id, None),
            Command::ExtendHold(c) => of_order(&c.order_id, None),
            Command::ChangeLine(c) => BTreeSet::from([c.sku.clone()]),
            Command::Deallocate(c) => of_order(&c.order_id, c.sku.as_ref()),
            Command::Improve(c) => BTreeSet::from([c.sku.clone()]),
            Command::ApplyDue(c) => BTreeSet::from([c.sku.clone()]),
            Command::RepairBooks(c) => BTreeSet::from([c.sku.clone()]),
        }
    }

    fn do_what_is_due(&mut self, sku: &Sku) {
        let (now, today) = (self.now, self.today());
        if let Some(stock) = self.stocks.get_mut(sku) {
            stock.expire(now);
            stock.settle(today);
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

    fn known_batch(&self, sku: &Sku, reference: &BatchRef) -> Result<(u64, Eta, bool), Refused> {
        let stock = self.stocks.get(sku).ok_or(Refused::UnknownSku)?;
        stock.batch(reference).ok_or(Refused::UnknownBatch)
    }

    // ---- Supply ----

    fn set(&mut self, command: &SetProduct) -> Outcome {
        let known = self.stocks.contains_key(&command.sku);
        let stock = self.stocks.entry(command.sku.clone()).or_default();
        if known && stock.settings() == command.settings {
            return Outcome::Same;
        }
        stock.set(command.settings);
        if known { Outcome::Changed } else { Outcome::New }
    }

    fn create(&mut self, sku: &Sku, reference: &BatchRef, units: u64, eta: Eta) -> Result<Outcome, Refused> {
        if let Ok(known) = self.known_batch(sku, reference) {
            return if known == (units, eta, false) { Ok(Outcome::Same) } else { Err(Refused::BatchExists) };
        }
        self.stocks.entry(sku.clone()).or_default().create(reference.clone(), units, eta);
        Ok(Outcome::New)
    }

    fn declare(&mut self, command: &DeclareBatch) -> Result<Outcome, Refused> {
        let DeclareBatch { sku, reference, qty, eta, precondition } = command;
        let Ok((_, known_eta, cancelled)) = self.known_batch(sku, reference) else {
            if *precondition != Precondition::None {
                return Err(Refused::PreconditionFailed);
            }
            return self.create(sku, reference, qty.units(), eta.flatten());
        };
        let new_eta = eta.unwrap_or(known_eta);
        if cancelled || (known_eta.is_none() && new_eta.is_some()) {
            return Err(Refused::NotAllowed);
        }
        // How many first, then when.
        let counted = self.recount(sku, reference, qty.units())?;
        let dated = self.reschedule(sku, reference, new_eta)?;
        Ok(if dated == Outcome::Same { counted } else { dated })
    }

    fn recount(&mut self, sku: &Sku, reference: &BatchRef, units: u64) -> Result<Outcome, Refused> {
        let (before, _, cancelled) = self.known_batch(sku, reference)?;
        if cancelled {
            return Err(Refused::NotAllowed);
        }
        if before == units {
            return Ok(Outcome::Same);
        }
        let today = self.today();
        self.stock(sku).recount(reference, units, today);
        Ok(Outcome::Changed)
    }

    fn reschedule(&mut self, sku: &Sku, reference: &BatchRef, to: Eta) -> Result<Outcome, Refused> {
        let (_, before, cancelled) = self.known_batch(sku, reference)?;
        if !cancelled && before == to {
            return Ok(Outcome::Same);
        }
        if cancelled || before.is_none() {
            return Err(Refused::NotAllowed);
        }
        let today = self.today();
        self.stock(sku).reschedule(reference, to, today);
        Ok(Outcome::Changed)
    }

    fn receive(&mut self, command: &ReceiveBatch) -> Result<Outcome, Refused> {
        let ReceiveBatch { sku, reference, qty, rest } = command;
        let (before, eta, cancelled) = self.known_batch(sku, reference)?;
        if cancelled || eta.is_none() {
            return Err(Refused::NotAllowed);
        }
        if *rest == Rest::Keep && before > qty.units() {
            let free = rest_of(reference).is_some_and(|rest| self.known_batch(sku, &rest).is_err());
            if !free {
                return Err(Refused::BatchExists);
            }
        }
        let today = self.today();
        self.stock(sku).receive(reference, qty.units(), *rest, today);
        Ok(Outcome::Changed)
    }

    fn cancel_batch(&mut self, sku: &Sku, reference: &BatchRef) -> Result<Outcome, Refused> {
        match self.known_batch(sku, reference)? {
            (_, _, true) => Ok(Outcome::Same),
            (_, None, false) => Err(Refused::NotAllowed),
            (_, Some(_), false) => {
                let today = self.today();
                self.stock(sku).cancel_batch(reference, today);
                Ok(Outcome::Changed)
            }
        }
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
        let today = self.today();
        let mut intents = Vec::new();
        for (sku, lines) in command.by_sku() {
            intents.push((sku, self.stocks[sku].intend(lines, command.when_short, today)));
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
        let outcome = changed.change(&command.line, &command.change, turn, self.today())?;
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
        let mut outcome = Outcome::Same;
        for (sku, key) in lines {
            if self.stock(&sku).cancel_line(&key) {
                outcome = Outcome::Changed;
            }
        }
        Ok(outcome)
    }
}
