//! Keeps products: brings to hand what a command names, does it, serves the queue, and stores what the events say has changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::commands::{
    Allocate, ConfirmHold, DeclareBatch, ExtendHold, LineOf, Precondition, Ship, ShipItem, WhenShort,
};
use allocation_domain::ledger::Ledger;
use allocation_domain::product::{Cancelled, Decision, Declared, Displaced, Plan, StoredProduct, SupplyChange};
use allocation_domain::states::Answer;
use allocation_domain::{
    AcceptedLine, Batch, BatchRef, Calendar, Command, Eta, Event, LineId, LineKey, LineState, Location, OrderId, Part,
    PartKey, Product, Rejection, Sku, Strategy,
};
use allocation_model::Outcome;
use time::{Duration, OffsetDateTime};

/// How many parts that wait, or that lose their place, are brought to hand at once: few, so that going on is tried too.
const PAGE: usize = 3;

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    /// Who lost a place, by seniority.
    pub(crate) displaced: Vec<Displaced>,
}

impl Done {
    fn of(outcome: Outcome) -> Self {
        Self { outcome, displaced: Vec::new() }
    }

    fn changed(changed: bool) -> Self {
        Self::of(if changed { Outcome::Changed } else { Outcome::Same })
    }
}

impl From<Declared> for Done {
    fn from(declared: Declared) -> Self {
        Self::of(match declared {
            Declared::New => Outcome::New,
            Declared::Changed => Outcome::Changed,
            Declared::Same => Outcome::Same,
        })
    }
}

pub(crate) type Verdict = Result<Done, Rejection>;

/// All that is stored of a product.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) product: StoredProduct,
    /// Every batch that ever was.
    pub(crate) batches: BTreeMap<BatchRef, Batch>,
    /// Every line that ever was.
    pub(crate) lines: BTreeMap<LineKey, AcceptedLine>,
    /// What the events tell.
    pub(crate) ledger: Ledger,
}

/// Keeps every product, and what happened to it.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) now: OffsetDateTime,
    /// Where clocks show so many hours more or less.
    pub(crate) hours: BTreeMap<Location, i64>,
    pub(crate) stored: BTreeMap<Sku, Stored>,
    /// Events that nobody has read yet.
    pub(crate) log: Vec<(Sku, Event)>,
    /// What went otherwise than it always must.
    pub(crate) complaints: Vec<String>,
}

/// A unit of work.
struct Work<'a> {
    keeper: &'a Keeper,
    seen: BTreeMap<Sku, Product>,
    events: Vec<(Sku, Event)>,
    complaints: Vec<String>,
}

impl Keeper {
    pub(crate) fn new(now: OffsetDateTime) -> Self {
        Self { now, hours: BTreeMap::new(), stored: BTreeMap::new(), log: Vec::new(), complaints: Vec::new() }
    }

    /// What day it is at each location.
    pub(crate) fn calendar(&self) -> Calendar {
        self.calendar_at(self.now)
    }

    fn calendar_at(&self, now: OffsetDateTime) -> Calendar {
        let hours = self.hours.iter();
        hours.fold(Calendar::new(now.date()), |calendar, (location, hours)| {
            calendar.with(location.clone(), (now + Duration::hours(*hours)).date())
        })
    }

    fn restore(&self, stored: &StoredProduct) -> Product {
        let mut product = Product::restore(stored.clone(), self.now);
        product.set_usual(Strategy::default(), self.calendar());
        product
    }

    /// A product as it is stored, with all of its batches and lines at hand.
    pub(crate) fn product(&self, sku: &Sku) -> Option<Product> {
        let stored = self.stored.get(sku)?;
        let mut product = self.restore(&stored.product);
        product.remember_batches(stored.batches.values().filter(|batch| !batch.is_open()).cloned());
        product.remember(stored.lines.values().cloned());
        Some(product)
    }

    /// Does what is due, the command, and whatever follows from it; stores it all.
    pub(crate) fn run(&mut self, command: &Command) -> Verdict {
        let mut work = Work { keeper: self, seen: BTreeMap::new(), events: Vec::new(), complaints: Vec::new() };
        work.load(command);
        work.do_what_is_due();
        let before = work.seen.clone();
        let verdict = work.dispatch(command);
        let happened = work.gather();
        work.check(&before, &verdict, &happened);
        work.settle(happened);
        work.watch_levels();
        let Work { seen, events, complaints, .. } = work;
        self.complaints.extend(complaints);
        self.store(seen, events);
        verdict
    }

    fn store(&mut self, seen: BTreeMap<Sku, Product>, events: Vec<(Sku, Event)>) {
        for (sku, product) in seen {
            let of_this: Vec<&Event> = events.iter().filter(|(of, _)| *of == sku).map(|(_, event)| event).collect();
            if product.version() == 0 {
                continue;
            }
            let stored = self.stored.entry(sku).or_insert_with(|| Stored {
                product: as_stored(&product),
                batches: BTreeMap::new(),
                lines: BTreeMap::new(),
                ledger: Ledger::default(),
            });
            let complaints = stored.take(&product, &of_this);
            self.complaints.extend(complaints);
        }
        self.log.extend(events);
    }
}

fn as_stored(product: &Product) -> StoredProduct {
    StoredProduct {
        sku: product.sku().clone(),
        version: product.version(),
        changed_at: product.changed_at(),
        settings: product.settings().clone(),
        backordered: product.backordered(),
        queued: product.queued(),
        out_of_stock_raised: product.out_of_stock_raised(),
        low: product.low().clone(),
        batches: product.batches().iter().filter(|batch| batch.is_open()).cloned().collect(),
    }
}

impl Stored {
    /// Writes what events say has changed; says what is wrong with them.
    fn take(&mut self, product: &Product, events: &[&Event]) -> Vec<String> {
        let mut complaints = Vec::new();
        let batches: BTreeSet<&BatchRef> = events.iter().filter_map(|event| event.batch()).collect();
        let lines: BTreeSet<&LineKey> = events.iter().filter_map(|event| event.line()).collect();
        for batch in product.batches() {
            if batches.contains(&batch.reference) {
                self.batches.insert(batch.reference.clone(), batch.clone());
            } else if self.batches.get(&batch.reference) != Some(batch) {
                complaints.push(format!("no event says that {batch:?} has changed"));
            }
        }
        for line in product.lines() {
            if lines.contains(&line.key) {
                self.lines.insert(line.key.clone(), line.clone());
            } else if self.lines.get(&line.key) != Some(line) {
                complaints.push(format!("no event says that {line:?} has changed"));
            }
        }
        self.product = as_stored(product);
        self.product.batches = self.batches.values().filter(|batch| batch.is_open()).cloned().collect();

        let first = product.version() + 1 - events.len() as u64;
        for (sequence, event) in (first..).zip(events) {
            complaints.extend(self.ledger.fold(sequence, event).err().map(|why| format!("{why}: {event:?}")));
        }
        let told = &self.ledger;
        let differs = [
            ("version", told.version != product.version()),
            ("settings", told.settings != *product.settings()),
            ("backordered", told.backordered() != product.backordered()),
            ("queued", told.queued() != product.queued()),
            ("out_of_stock_raised", told.out_of_stock_raised != product.out_of_stock_raised()),
            ("low", told.low != *product.low()),
            ("batches", told.batches != self.batches),
            ("lines", told.lines != self.lines),
        ];
        for (what, _) in differs.iter().filter(|(_, differs)| *differs) {
            complaints.push(format!("{what} are not as told by the events:\n{told:#?}\nbut\n{product:#?}"));
        }
        if !product.batches().is_sorted_by(|a, b| a.preference() < b.preference()) {
            complaints.push("batches are out of order".to_owned());
        }
        complaints
    }
}

impl Work<'_> {
    // ---- What is brought to hand ----

    /// All that the command names, and no more.
    fn load(&mut self, command: &Command) {
        match command {
            Command::SetProduct(c) => self.load_product(&c.sku),
            Command::CreateBatch(c) => self.load_batch(&c.sku, &c.reference),
            Command::DeclareBatch(c) => self.load_batch(&c.sku, &c.reference),
            Command::ChangeBatchQuantity(c) => self.load_batch(&c.sku, &c.reference),
            Command::ChangeBatchEta(c) => self.load_batch(&c.sku, &c.reference),
            Command::ReceiveBatch(c) => {
                self.load_batch(&c.sku, &c.reference);
                if let Some(rest) = c.reference.rest() {
                    self.load_batch(&c.sku, &rest);
                }
            }
            Command::CancelBatch(c) => self.load_batch(&c.sku, &c.reference),
            Command::AdjustBatch(c) => self.load_batch(&c.sku, &c.reference),
            Command::QuarantineBatch(c) => self.load_batch(&c.sku, &c.reference),
            Command::ReleaseBatch(c) => self.load_batch(&c.sku, &c.reference),
            Command::Transfer(c) => {
                self.load_batch(&c.sku, &c.from);
                self.load_batch(&c.sku, &c.reference);
            }
            Command::Pick(c) => self.load_named(&c.order_id, &c.lines),
            Command::Unpick(c) => self.load_named(&c.order_id, &c.lines),
            Command::Ship(c) => {
                let lines: Vec<LineOf> = c.items.iter().map(|item| item.of.clone()).collect();
                self.load_named(&c.order_id, &lines);
                for item in &c.items {
                    if let Some(from) = &item.from {
                        self.load_batch(&item.of.sku, from);
                    }
                }
            }
            Command::Return(c) => {
                let lines: Vec<LineOf> = c.items.iter().map(|item| item.of.clone()).collect();
                self.load_named(&c.order_id, &lines);
                for item in &c.items {
                    let came_from = self.lines_of(&c.order_id, Some(&item.of.sku), Some(&item.of.line));
                    let came_from = came_from.into_iter().flat_map(|(sku, key)| {
                        let line = self.seen[&sku].line(&key).expect("a line at hand");
                        line.shipped.iter().map(|shipped| shipped.batch.clone()).collect::<Vec<_>>()
                    });
                    for reference in came_from.chain(item.into.clone()).collect::<Vec<_>>() {
                        self.load_batch(&item.of.sku, &reference);
                    }
                }
            }
            Command::Allocate(c) => {
                for line in c.lines() {
                    self.load_line(&line.sku, &line.key);
                }
            }
            Command::ConfirmHold(c) => self.load_order(&c.order_id, None),
            Command::ExtendHold(c) => self.load_order(&c.order_id, None),
            Command::ChangeLine(c) => self.load_line(&c.sku, &c.line),
            Command::Deallocate(c) => self.load_order(&c.order_id, c.sku.as_ref()),
            Command::Improve(c) => self.load_product(&c.sku),
            Command::ApplyDue(c) => self.load_product(&c.sku),
            Command::RepairBooks(c) => self.load_product(&c.sku),
        }
    }

    fn load_product(&mut self, sku: &Sku) {
        if let Some(stored) = self.keeper.stored.get(sku) {
            let restore = || self.keeper.restore(&stored.product);
            self.seen.entry(sku.clone()).or_insert_with(restore);
        }
    }

    fn load_batch(&mut self, sku: &Sku, reference: &BatchRef) {
        self.load_product(sku);
        if let Some(batch) = self.keeper.stored.get(sku).and_then(|stored| stored.batches.get(reference))
            && !batch.is_open()
            && self.seen[sku].batch(reference).is_none()
        {
            self.product_mut(sku).remember_batches([batch.clone()]);
        }
    }

    fn load_line(&mut self, sku: &Sku, key: &LineKey) {
        self.load_product(sku);
        if let Some(line) = self.keeper.stored.get(sku).and_then(|stored| stored.lines.get(key)) {
            self.product_mut(sku).remember([line.clone()]);
        }
    }

    fn load_order(&mut self, order_id: &OrderId, only: Option<&Sku>) {
        let keeper = self.keeper;
        for (sku, stored) in keeper.stored.iter().filter(|(sku, _)| only.is_none_or(|only| only == *sku)) {
            for key in stored.lines.keys().filter(|key| key.order_id == *order_id) {
                self.load_line(sku, key);
            }
        }
    }

    /// These lines of an order, or all of them.
    fn load_named(&mut self, order_id: &OrderId, named: &[LineOf]) {
        if named.is_empty() {
            self.load_order(order_id, None);
        }
        for of in named {
            self.load_product(&of.sku);
            self.load_order(order_id, Some(&of.sku));
        }
    }

    /// A product that is known.
    fn product_mut(&mut self, sku: &Sku) -> &mut Product {
        self.seen.get_mut(sku).expect("a known product")
    }

    fn product_or_new(&mut self, sku: &Sku) -> &mut Product {
        let keeper = self.keeper;
        self.seen.entry(sku.clone()).or_insert_with(|| {
            let mut product = Product::new(sku.clone(), keeper.now);
            product.set_usual(Strategy::default(), keeper.calendar());
            product
        })
    }

    /// All lines of a product, as they are by now.
    fn lines(&self, sku: &Sku) -> Vec<AcceptedLine> {
        let product = &self.seen[sku];
        let stored = self.keeper.stored.get(sku).into_iter().flat_map(|stored| stored.lines.values());
        let elsewhere = stored.filter(|line| product.line(&line.key).is_none());
        elsewhere.chain(product.lines()).cloned().collect()
    }

    /// Parts of lines, each once for every acceptance, the lines of the first `limit` of them brought to hand.
    fn bring(&mut self, sku: &Sku, found: Vec<(AcceptedLine, u64)>, limit: usize) -> Vec<PartKey> {
        let product = self.product_mut(sku);
        let named = found.into_iter().take(limit).map(|(line, accepted)| {
            let key = PartKey { line: line.key.clone(), accepted };
            product.remember([line]);
            key
        });
        named.collect()
    }

    /// Who loses a place in a batch: holds first, then the lowest seniority, and what is being picked last (rule 16).
    fn losers(&mut self, sku: &Sku, reference: &BatchRef, limit: usize) -> Vec<PartKey> {
        let lines = self.lines(sku);
        let parts = |line: &AcceptedLine| -> Vec<(bool, AcceptedLine, u64)> {
            let here = line.placements().filter(|(batch, _)| *batch == reference);
            here.map(|(_, Part { accepted, locked, .. })| (*locked, line.clone(), *accepted)).collect()
        };
        let mut found: Vec<(bool, AcceptedLine, u64)> = lines.iter().flat_map(parts).collect();
        found
            .sort_by_key(|(locked, line, accepted)| (line.hold.is_none(), *locked, Reverse(line.seniority(*accepted))));
        self.bring(sku, found.into_iter().map(|(_, line, accepted)| (line, accepted)).collect(), limit)
    }

    /// Who waits, by seniority, and is not further up than `after`.
    fn waiting(&mut self, sku: &Sku, after: Option<&(PartKey, i32)>) -> Vec<PartKey> {
        let lines = self.lines(sku);
        let parts = |line: &AcceptedLine| -> Vec<(AcceptedLine, u64)> {
            line.waiting().map(|part| (line.clone(), part.accepted)).collect()
        };
        let mut found: Vec<(AcceptedLine, u64)> = lines.iter().flat_map(parts).collect();
        found.sort_by_key(|(line, accepted)| line.seniority(*accepted));
        if let Some((last, priority)) = after {
            found.retain(|(line, accepted)| line.seniority(*accepted) > (Reverse(*priority), last.accepted));
        }
        self.bring(sku, found, PAGE)
    }

    // ---- What follows from what ----

    fn gather(&mut self) -> Vec<(Sku, Event)> {
        let mut gathered = Vec::new();
        for (sku, product) in &mut self.seen {
            gathered.extend(product.take_events().into_iter().map(|event| (sku.clone(), event)));
        }
        self.events.extend(gathered.iter().cloned());
        gathered
    }

    /// Ends the holds whose time has come (rule 13).
    fn do_what_is_due(&mut self) {
        for sku in self.seen.keys().cloned().collect::<Vec<_>>() {
            if self.seen[&sku].may_be_due() {
                let product = &self.seen[&sku];
                let (now, latest) = (product.now(), product.calendar().latest());
                let due = |line: &AcceptedLine| {
                    line.hold.is_some_and(|until| until <= now)
                        || product.spoils_on(line).is_some_and(|day| day <= latest)
                };
                let due: Vec<AcceptedLine> = self.lines(&sku).into_iter().filter(due).collect();
                let product = self.product_mut(&sku);
                product.remember(due);
                product.expire_holds();
                product.expire_batches();
                product.lose_what_spoils();
            }
        }
        for sku in self.seen.keys().cloned().collect::<Vec<_>>() {
            if self.seen[&sku].day_may_serve_queue() {
                self.serve_queue(&sku);
            }
        }
        let happened = self.gather();
        self.settle(happened);
        self.watch_levels();
    }

    /// Says where little is left, and where there is enough again, now that everybody has what he may have (rule 19).
    fn watch_levels(&mut self) {
        for product in self.seen.values_mut() {
            product.watch_levels();
        }
        self.gather();
    }

    /// Whoever waits is served as soon as stock may have become free, and promises move when they are to.
    fn settle(&mut self, mut happened: Vec<(Sku, Event)>) {
        while !happened.is_empty() {
            let freed: BTreeSet<Sku> =
                happened.iter().filter(|(_, event)| event.may_serve_queue()).map(|(sku, _)| sku.clone()).collect();
            for sku in freed {
                self.serve_queue(&sku);
                if self.seen[&sku].settings().auto_improve {
                    self.improve(&sku);
                }
            }
            happened = self.gather();
        }
    }

    fn serve_queue(&mut self, sku: &Sku) {
        let mut after = None;
        while self.seen[sku].could_serve_queue() {
            let waiting = self.waiting(sku, after.as_ref());
            let Some(last) = waiting.last() else { break };
            let product = self.product_mut(sku);
            after = product.line(&last.line).map(|line| (last.clone(), line.terms.priority));
            product.serve(&waiting);
        }
    }

    fn improve(&mut self, sku: &Sku) -> bool {
        let from = self.seen[sku].could_improve();
        for reference in &from {
            self.losers(sku, reference, usize::MAX);
        }
        self.product_mut(sku).improve(&from)
    }

    // ---- Commands ----

    fn dispatch(&mut self, command: &Command) -> Verdict {
        match command {
            Command::SetProduct(c) => {
                let known = self.seen.get(&c.sku).map(|product| product.batches().to_vec());
                for batch in known.unwrap_or_default() {
                    self.losers(&c.sku, &batch.reference, usize::MAX);
                }
                let product = self.product_or_new(&c.sku);
                let declared = product.set(c.settings.clone());
                product.look_over();
                Ok(declared.into())
            }
            Command::CreateBatch(c) => self
                .product_or_new(&c.sku)
                .create_batch(c.reference.clone(), c.qty, c.eta, c.expires_on, c.location.clone())
                .map(Done::from),
            Command::DeclareBatch(c) => self.declare(c),
            Command::ChangeBatchQuantity(c) => self.change_supply(&c.sku, &c.reference, &SupplyChange::Quantity(c.qty)),
            Command::ChangeBatchEta(c) => self.change_eta(&c.sku, &c.reference, c.eta),
            Command::ReceiveBatch(c) => self.change_supply(&c.sku, &c.reference, &SupplyChange::Receipt(c.qty, c.rest)),
            Command::CancelBatch(c) => self.change_supply(&c.sku, &c.reference, &SupplyChange::Cancellation),
            Command::AdjustBatch(c) => {
                let change = SupplyChange::Adjustment(c.adjustment, c.reason.clone());
                self.change_supply(&c.sku, &c.reference, &change)
            }
            Command::QuarantineBatch(c) => self.change_supply(&c.sku, &c.reference, &SupplyChange::Quarantine(c.qty)),
            Command::ReleaseBatch(c) => {
                self.known(&c.sku)?;
                self.product_mut(&c.sku).release_batch(&c.reference, c.qty).map(Done::from)
            }
            Command::Transfer(c) => {
                self.known(&c.sku)?;
                self.product_mut(&c.sku).transfer(c)?;
                Ok(Done::of(Outcome::New))
            }
            Command::Pick(c) => {
                let lines = self.lines_to_pick(&c.order_id, &c.lines, true)?;
                if !lines.iter().any(|(sku, key)| self.seen[sku].is_on_hand(key)) {
                    return Err(Rejection::NotOnHand("the order".into()));
                }
                let mut any = false;
                for (sku, key) in &lines {
                    any |= self.product_mut(sku).pick(key)?;
                }
                Ok(Done::changed(any))
            }
            Command::Unpick(c) => {
                let mut any = false;
                for (sku, key) in self.lines_to_pick(&c.order_id, &c.lines, false)? {
                    any |= self.product_mut(&sku).unpick(&key)?;
                }
                Ok(Done::changed(any))
            }
            Command::Ship(c) => self.ship(c),
            Command::Return(c) => {
                self.known_order(&c.order_id)?;
                let items = c.items.iter().map(|item| (named(&c.order_id, &item.of), item));
                self.on_copies(items, |product, key, item| {
                    product.take_return(key, item.qty, item.to, item.into.as_ref())
                })
            }
            Command::Allocate(c) => self.allocate(c),
            Command::ConfirmHold(c) => self.confirm(c),
            Command::ExtendHold(c) => self.extend(c),
            Command::ChangeLine(c) => {
                let unknown = Rejection::UnknownLine { order_id: c.line.order_id.clone(), sku: c.sku.clone() };
                let product = self.seen.get(&c.sku).ok_or(unknown)?;
                let changed = product.with_line_changed(&c.line, &c.change)?;
                let outcome = Done::changed(changed.is_some());
                self.seen.extend(changed.map(|product| (c.sku.clone(), product)));
                Ok(outcome)
            }
            Command::Deallocate(c) => {
                let lines = self.lines_of(&c.order_id, c.sku.as_ref(), c.line.as_ref());
                if lines.is_empty() {
                    let order_id = c.order_id.clone();
                    return Err(match &c.sku {
                        Some(sku) => Rejection::UnknownLine { order_id, sku: sku.clone() },
                        None => Rejection::UnknownOrder(order_id),
                    });
                }
                let is_shipped = |(sku, key): &(Sku, LineKey)| self.state(sku, key) == LineState::Shipped;
                let (shipped, open): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_shipped);
                let mut now = false;
                for (sku, key) in &open {
                    self.seen[sku].may_deallocate(key)?;
                }
                for (sku, key) in open {
                    now |= self.product_mut(&sku).deallocate(&key)? == Cancelled::Now;
                }
                match shipped.first() {
                    Some((sku, key)) if !now => Err(self.seen[sku].may_deallocate(key).expect_err("it has left")),
                    _ => Ok(Done::changed(now)),
                }
            }
            Command::Improve(c) => {
                self.known(&c.sku)?;
                Ok(Done::changed(self.improve(&c.sku)))
            }
            Command::ApplyDue(_) | Command::RepairBooks(_) => Ok(Done::of(Outcome::Same)),
        }
    }

    fn known(&self, sku: &Sku) -> Result<&Product, Rejection> {
        self.seen.get(sku).ok_or_else(|| Rejection::UnknownSku(vec![sku.clone()]))
    }

    fn state(&self, sku: &Sku, key: &LineKey) -> LineState {
        self.seen[sku].line(key).expect("a line at hand").state()
    }

    fn lines_of(&self, order_id: &OrderId, only: Option<&Sku>, line: Option<&LineId>) -> Vec<(Sku, LineKey)> {
        let products = self.seen.iter().filter(|(sku, _)| only.is_none_or(|only| only == *sku));
        let lines = products.flat_map(|(sku, product)| {
            product.lines_of(order_id).map(|line| (sku.clone(), line.key.clone())).collect::<Vec<_>>()
        });
        lines.filter(|(_, key)| line.is_none_or(|line| *line == key.line)).collect()
    }

    /// Lines of an order that are still its lines.
    fn open_lines(&self, order_id: &OrderId) -> Result<Vec<(Sku, LineKey)>, Rejection> {
        let all = self.lines_of(order_id, None, None);
        let (cancelled, open): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(sku, key)| self.state(sku, key) == LineState::Cancelled);
        match (open.is_empty(), cancelled.is_empty()) {
            (true, true) => Err(Rejection::UnknownOrder(order_id.clone())),
            (true, false) => Ok(cancelled),
            _ => Ok(open),
        }
    }

    fn confirm(&mut self, c: &ConfirmHold) -> Verdict {
        let lines = self.open_lines(&c.order_id)?;
        let mut held = false;
        for (sku, key) in &lines {
            held |= self.seen[sku].may_confirm(key)? == Answer::Yes;
        }
        for (sku, key) in &lines {
            self.product_mut(sku).confirm(key)?;
        }
        Ok(Done::changed(held))
    }

    fn extend(&mut self, c: &ExtendHold) -> Verdict {
        let lines = self.open_lines(&c.order_id)?;
        let may = |(sku, key): &(Sku, LineKey)| self.seen[sku].may_extend(key);
        let refused: Vec<Rejection> = lines.iter().filter_map(|line| may(line).err()).collect();
        let lapsed = lines.iter().any(|(sku, key)| self.state(sku, key) == LineState::Lapsed);
        if lapsed || refused.len() == lines.len() {
            return Err(refused.into_iter().next().expect("one at least"));
        }
        let mut longer = false;
        for (sku, key) in lines {
            let before = self.seen[&sku].version();
            if self.state(&sku, &key) == LineState::Held {
                self.product_mut(&sku).extend(&key, c.hold)?;
            }
            longer |= self.seen[&sku].version() > before;
        }
        Ok(Done::changed(longer))
    }

    /// Whether anybody has heard of the order.
    fn known_order(&self, order_id: &OrderId) -> Result<(), Rejection> {
        let stored = self.keeper.stored.values();
        let known = stored.flat_map(|stored| stored.lines.keys()).any(|key| key.order_id == *order_id);
        if known { Ok(()) } else { Err(Rejection::UnknownOrder(order_id.clone())) }
    }

    fn known_line(&self, sku: &Sku, key: &LineKey) -> Result<&Product, Rejection> {
        let unknown = || Rejection::UnknownLine { order_id: key.order_id.clone(), sku: sku.clone() };
        self.seen.get(sku).filter(|product| product.line(key).is_some()).ok_or_else(unknown)
    }

    fn lines_to_pick(
        &self,
        order_id: &OrderId,
        lines: &[LineOf],
        no_holds: bool,
    ) -> Result<Vec<(Sku, LineKey)>, Rejection> {
        self.known_order(order_id)?;
        let named: Vec<_> = lines.iter().map(|of| named(order_id, of)).collect();
        for (sku, key) in &named {
            self.known_line(sku, key)?;
        }
        for (sku, key) in &named {
            self.seen[sku].may_pick(key)?;
        }
        if !named.is_empty() {
            return Ok(named);
        }
        let all = self.lines_of(order_id, None, None);
        let held = |(sku, key): &&(Sku, LineKey)| self.state(sku, key) == LineState::Held;
        if let Some((sku, key)) = all.iter().find(held).filter(|_| no_holds) {
            self.seen[sku].may_pick(key)?;
        }
        let may = |(sku, key): &(Sku, LineKey)| self.seen[sku].may_pick(key).is_ok();
        let (open, others): (Vec<_>, Vec<_>) = all.into_iter().partition(may);
        match others.first() {
            Some((sku, key)) if open.is_empty() => Err(self.seen[sku].may_pick(key).expect_err("it may not")),
            _ => Ok(open),
        }
    }

    fn ship(&mut self, command: &Ship) -> Verdict {
        let Ship { order_id, items } = command;
        self.known_order(order_id)?;
        let mut items = items.clone();
        if items.is_empty() {
            for (sku, key) in self.lines_of(order_id, None, None) {
                let product = &self.seen[&sku];
                if self.state(&sku, &key) == LineState::Held {
                    product.may_ship(&key)?;
                }
                if product.line(&key).expect("a line at hand").allocated() > 0 {
                    if !product.has_all_on_hand(&key) {
                        return Err(Rejection::NotOnHand("the order".into()));
                    }
                    items.push(ShipItem { of: LineOf { sku, line: key.line }, qty: None, from: None });
                }
            }
        }
        if items.is_empty() {
            return Err(Rejection::NotAllowed { subject: "the order".into(), command: "ship", state: "over" });
        }
        for item in &items {
            // Whoever may have to move must be at hand; the keeper brings all of them.
            if let Some(from) = &item.from
                && self.seen.contains_key(&item.of.sku)
            {
                self.losers(&item.of.sku, from, usize::MAX);
            }
        }
        let items = items.iter().map(|item| (named(order_id, &item.of), item));
        self.on_copies(items, |product, key, item| product.ship(key, item.qty, item.from.as_ref()))
    }

    /// All of it is done, or nothing.
    fn on_copies<'i, I>(
        &mut self,
        items: impl Iterator<Item = ((Sku, LineKey), &'i I)>,
        change: impl Fn(&mut Product, &LineKey, &I) -> Result<(), Rejection>,
    ) -> Verdict
    where
        I: 'i,
    {
        let mut copies: BTreeMap<Sku, Product> = BTreeMap::new();
        for ((sku, key), item) in items {
            self.known_line(&sku, &key)?;
            let original = &self.seen[&sku];
            change(copies.entry(sku).or_insert_with(|| original.clone()), &key, item)?;
        }
        self.seen.extend(copies);
        Ok(Done::changed(true))
    }

    fn declare(&mut self, command: &DeclareBatch) -> Verdict {
        let DeclareBatch { sku, reference, qty, eta, expires_on, location, precondition } = command;
        let known = self.seen.get(sku).and_then(|product| product.batch(reference));
        if known.is_none() && *precondition != Precondition::None {
            return Err(Rejection::PreconditionFailed { sku: sku.clone(), reference: reference.clone() });
        }
        if known.is_none() {
            let (eta, expires_on) = (eta.flatten(), expires_on.flatten());
            let (product, location) = (self.product_or_new(sku), location.clone().unwrap_or_default());
            return product.create_batch(reference.clone(), *qty, eta, expires_on, location).map(Done::from);
        }
        if let Some(location) = location {
            self.seen[sku].must_be_at(reference, location)?;
        }
        if let Some(eta) = eta {
            self.seen[sku].eta_may_become(reference, *eta)?;
        }
        self.seen[sku].supply_may_change(reference, &SupplyChange::Quantity(*qty))?;
        if let Some(last) = expires_on {
            self.seen[sku].expiry_may_become(reference, *last)?;
        }
        let mut done = self.change_supply(sku, reference, &SupplyChange::Quantity(*qty))?;
        if let Some(eta) = eta {
            let dated = self.change_eta(sku, reference, *eta)?;
            if dated.outcome == Outcome::Changed {
                done.outcome = Outcome::Changed;
                done.displaced.extend(dated.displaced);
            }
        }
        if let Some(last) = expires_on {
            self.losers(sku, reference, usize::MAX);
            let (kept, displaced) = self.product_mut(sku).change_expiry(reference, *last)?;
            if kept == Declared::Changed {
                done.outcome = Outcome::Changed;
                done.displaced.extend(displaced);
            }
        }
        Ok(done)
    }

    fn change_supply(&mut self, sku: &Sku, reference: &BatchRef, change: &SupplyChange) -> Verdict {
        let product = self.known(sku)?;
        product.supply_may_change(reference, change)?;
        let lacking = product.lacking(reference, change);
        let losers = self.losers(sku, reference, usize::try_from(lacking).expect("a small world"));
        let supplied = self.product_mut(sku).change_supply(reference, change, &losers)?;
        if !supplied.finished {
            self.complaints.push(format!("{reference} was to shrink by {losers:?}, and did not"));
        }
        Ok(Done { displaced: supplied.displaced, ..Done::from(supplied.declared) })
    }

    fn change_eta(&mut self, sku: &Sku, reference: &BatchRef, to: Eta) -> Verdict {
        self.known(sku)?.eta_may_become(reference, to)?;
        self.losers(sku, reference, usize::MAX);
        let (declared, displaced) = self.product_mut(sku).change_batch_eta(reference, to)?;
        Ok(Done { displaced, ..Done::from(declared) })
    }

    /// An order is promised by all its products or by none.
    fn allocate(&mut self, command: &Allocate) -> Verdict {
        let unknown: Vec<Sku> =
            command.by_sku().map(|(sku, _)| sku).filter(|sku| !self.seen.contains_key(*sku)).cloned().collect();
        if !unknown.is_empty() {
            return Err(Rejection::UnknownSku(unknown));
        }
        let (mut plans, mut conflicts, mut shortages, mut full) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (sku, lines) in command.by_sku() {
            match self.seen[sku].plan(lines, command.when_short, command.hold) {
                Decision::Accept(plan) => plans.push((sku, plan)),
                Decision::Conflict(found) => conflicts.extend(found),
                Decision::Short(shortage) => shortages.push(shortage),
                Decision::QueueFull(rejection) => full = full.or(Some(rejection)),
            }
        }
        if !conflicts.is_empty() {
            return Err(Rejection::LineConflict(conflicts));
        }
        let new = plans.iter().any(|(_, plan)| !plan.is_empty());
        if command.when_short == WhenShort::Partial && new && plans.iter().all(|(_, plan)| plan.gives_nothing()) {
            shortages = plans.iter_mut().filter_map(|(_, plan): &mut (&Sku, Plan)| plan.shortage.take()).collect();
        }
        if !shortages.is_empty() {
            for shortage in &shortages {
                self.product_mut(&shortage.sku).refuse(shortage);
            }
            return Err(Rejection::Short(shortages));
        }
        full.map_or(Ok(()), Err)?;
        let mut created = false;
        for (sku, plan) in plans {
            created |= self.product_mut(sku).apply(plan);
        }
        Ok(Done::of(if created { Outcome::New } else { Outcome::Same }))
    }

    // ---- What always must be ----

    fn check(&mut self, before: &BTreeMap<Sku, Product>, verdict: &Verdict, happened: &[(Sku, Event)]) {
        for (sku, product) in &self.seen {
            let events: Vec<&Event> = happened.iter().filter(|(of, _)| of == sku).map(|(_, event)| event).collect();
            if verdict.is_err() {
                let told = events.iter().all(|event| matches!(event, Event::OutOfStock { .. }));
                let before = before.get(sku);
                let same = before.is_none_or(|before| {
                    before.batches() == product.batches()
                        // Others may have been brought to hand.
                        && before.lines().all(|line| product.line(&line.key) == Some(line))
                        && (before.settings(), before.backordered(), before.queued(), before.low())
                            == (product.settings(), product.backordered(), product.queued(), product.low())
                });
                if !told || events.len() > 1 || !same {
                    self.complaints.push(format!("{verdict:?}, and yet {events:?}"));
                }
            }
            if matches!(verdict, Ok(Done { outcome: Outcome::Same, .. })) && !events.is_empty() {
                self.complaints.push(format!("nothing has changed, and yet {events:?}"));
            }
            self.complaints.extend(out_of_order(product, &events));
        }
    }
}

fn named(order_id: &OrderId, of: &LineOf) -> (Sku, LineKey) {
    (of.sku.clone(), LineKey { order_id: order_id.clone(), line: of.line.clone() })
}

/// Rule 28: the change, then deallocations, then allocations and backorders, each by seniority.
fn out_of_order(product: &Product, events: &[&Event]) -> Option<String> {
    // A hold that is confirmed, and an order of several lines, are as many changes.
    let changes = events.iter().filter(|event| {
        matches!(
            event,
            Event::BatchQuantityChanged { .. }
                | Event::BatchEtaChanged { .. }
                | Event::BatchReceived { .. }
                | Event::BatchCancelled { .. }
                | Event::BatchAdjusted { .. }
                | Event::ExpiryChanged { .. }
                | Event::Quarantined { .. }
                | Event::LineChanged { .. }
        )
    });
    if changes.count() != 1 {
        return None;
    }
    let rank = |event: &&Event| {
        let seniority = |key: &LineKey, accepted: u64| product.line(key).map(|line| line.seniority(accepted));
        match event {
            Event::Deallocated { line, accepted, .. } => (1, seniority(line, *accepted)),
            Event::Allocated { line, accepted, .. }
            | Event::Held { line, accepted, .. }
            | Event::Backordered { line, accepted, .. } => (2, seniority(line, *accepted)),
            Event::HoldLost { .. } => (2, None),
            Event::Shipped { .. } => (3, None),
            Event::PromiseChanged { .. } => (4, None),
            _ => (0, None),
        }
    };
    let ranks: Vec<_> = events.iter().map(rank).filter(|(class, rank)| *class != 2 || rank.is_some()).collect();
    (!ranks.is_sorted()).then(|| format!("events are out of order: {events:?}"))
}
