//! The unit of work: one atomic change. It hands out products, gathers the events they raise, and writes both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use allocation_domain::commands::{ApplyDue, Improve, LineOf, RepairBooks, SetProduct};
use allocation_domain::{
    BatchRef, Command, Event, LineId, LineKey, OrderId, PartKey, Product, Rejection, Seniority, Sku,
};
use time::OffsetDateTime;

use crate::access::is_by_credential;
use crate::failpoints::Failpoint;
use crate::movements::{Balances, is_to_be_noted};
use crate::ports::clock::Entropy;
use crate::ports::database::{
    Change, DueBy, HeldFor, NotedBalances, ProductChanges, RecordedEvent, RequestKey, Selection, StoreError,
    StoreResult, Transaction, Units,
};
use crate::usual::Usual;
use crate::verify::ProductBooks;
use crate::wire::{self, Cause};

/// What commands need to have loaded.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Products, lines and batches that are named.
    pub selection: Selection,
    /// Orders of which all lines are wanted, or those of one SKU.
    pub orders: Vec<(OrderId, Option<Sku>)>,
}

impl Wanted {
    /// What these commands need.
    pub fn of<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Self {
        let mut wanted = Self::default();
        for command in commands {
            wanted.add(command);
        }
        wanted
    }

    fn add(&mut self, command: &Command) {
        let selection = &mut self.selection;
        let mut batch = |sku: &Sku, reference: &BatchRef| {
            selection.skus.insert(sku.clone());
            selection.batches.push((sku.clone(), reference.clone()));
        };
        match command {
            Command::CreateBatch(c) => batch(&c.sku, &c.reference),
            Command::DeclareBatch(c) => batch(&c.sku, &c.reference),
            Command::ChangeBatchQuantity(c) => batch(&c.sku, &c.reference),
            Command::ChangeBatchEta(c) => batch(&c.sku, &c.reference),
            Command::Allocate(c) => {
                for line in c.lines() {
                    selection.skus.insert(line.sku.clone());
                    selection.lines.push((line.sku.clone(), line.key.clone()));
                }
            }
            Command::ReceiveBatch(c) => {
                batch(&c.sku, &c.reference);
                if let Some(rest) = c.reference.rest() {
                    batch(&c.sku, &rest);
                }
            }
            Command::CancelBatch(c) => batch(&c.sku, &c.reference),
            Command::AdjustBatch(c) => batch(&c.sku, &c.reference),
            Command::QuarantineBatch(c) => batch(&c.sku, &c.reference),
            Command::ReleaseBatch(c) => batch(&c.sku, &c.reference),
            Command::Transfer(c) => {
                batch(&c.sku, &c.from);
                batch(&c.sku, &c.reference);
            }
            Command::ChangeLine(c) => {
                selection.skus.insert(c.sku.clone());
                selection.lines.push((c.sku.clone(), c.line.clone()));
            }
            Command::Deallocate(c) => self.orders.push((c.order_id.clone(), c.sku.clone())),
            Command::ConfirmHold(c) => self.orders.push((c.order_id.clone(), None)),
            Command::ExtendHold(c) => self.orders.push((c.order_id.clone(), None)),
            Command::Pick(c) => self.add_lines(&c.order_id, &c.lines),
            Command::Unpick(c) => self.add_lines(&c.order_id, &c.lines),
            Command::Ship(c) => {
                self.add_lines(&c.order_id, c.items.iter().map(|item| &item.of));
                let selection = &mut self.selection;
                let named = c.items.iter().filter_map(|item| Some((item.of.sku.clone(), item.from.clone()?)));
                selection.batches.extend(named);
            }
            Command::Return(c) => {
                self.add_lines(&c.order_id, c.items.iter().map(|item| &item.of));
                let selection = &mut self.selection;
                let named = c.items.iter().filter_map(|item| Some((item.of.sku.clone(), item.into.clone()?)));
                selection.batches.extend(named);
            }
            Command::SetProduct(SetProduct { sku, .. })
            | Command::Improve(Improve { sku })
            | Command::ApplyDue(ApplyDue { sku })
            | Command::RepairBooks(RepairBooks { sku }) => {
                selection.skus.insert(sku.clone());
            }
        }
    }
}

impl Wanted {
    /// These lines of an order; none named: all.
    fn add_lines<'a>(&mut self, order_id: &OrderId, named: impl IntoIterator<Item = &'a LineOf>) {
        let mut all = true;
        for of in named {
            all = false;
            self.selection.skus.insert(of.sku.clone());
            self.orders.push((order_id.clone(), Some(of.sku.clone())));
        }
        if all {
            self.orders.push((order_id.clone(), None));
        }
    }
}

/// One atomic change: every product seen in it, and everything that happened to them.
///
/// Dropping it before [`UnitOfWork::commit`] leaves the store as it was.
pub struct UnitOfWork<T> {
    tx: Store<T>,
    entropy: Arc<dyn Entropy>,
    usual: Arc<Usual>,
    seen: BTreeMap<Sku, Tracked>,
    /// Orders that were asked for and have lines, at hand or not.
    orders: BTreeSet<OrderId>,
    /// Products handed out for change since events were last gathered.
    touched: Vec<Sku>,
    /// Products that were changed and may have to say that little is left.
    unwatched: BTreeSet<Sku>,
    /// What is going on, as the cause of events.
    cause: Cause,
    /// Events that were taken from products and not yet asked for by [`UnitOfWork::gather`].
    gathered: Vec<(Sku, Event)>,
    /// Events not yet in the log.
    unrecorded: Vec<RecordedEvent>,
    /// What products came to by them, where that is to be noted.
    unnoted: Vec<NotedBalances>,
    /// Request keys that are known, and for what.
    keys: BTreeMap<Arc<str>, [u8; 32]>,
    /// Of these, those that are not yet in the store.
    new_keys: Vec<RequestKey>,
    /// The most holds that a key may have in force; none: it does not matter whose they are.
    most_holds: Option<u64>,
    /// How many those have of which it was asked, with what was added since.
    holding: BTreeMap<Arc<str>, u64>,
    /// Whose holds are new or last longer, and which have ended, as far as that is not yet in the store.
    unnoted_holds: BTreeMap<(Sku, LineKey), HoldNote>,
    changed: bool,
}

/// The store, as a unit of work has it.
enum Store<T> {
    /// Nobody has begun a transaction yet: the time is known, and nothing else.
    Unasked(OffsetDateTime),
    Begun(T),
}

impl<T: Transaction> Store<T> {
    fn now(&self) -> OffsetDateTime {
        match self {
            Self::Unasked(now) => *now,
            Self::Begun(tx) => tx.now(),
        }
    }

    /// The transaction; none is a conflict: what is decided without the store does not serve.
    fn ask(&mut self) -> StoreResult<&mut T> {
        match self {
            Self::Unasked(_) => Err(unasked()),
            Self::Begun(tx) => Ok(tx),
        }
    }

    fn into_transaction(self) -> StoreResult<T> {
        match self {
            Self::Unasked(_) => Err(unasked()),
            Self::Begun(tx) => Ok(tx),
        }
    }
}

fn unasked() -> StoreError {
    StoreError::Conflict("the store has to be asked".into())
}

/// What a unit of work came to.
#[derive(Debug)]
pub struct Committed {
    /// Whether there was anything to write.
    pub anything: bool,
    /// When it was.
    pub at: OffsetDateTime,
    /// The products that were written, as they are in the store now.
    pub products: Vec<Product>,
}

struct Tracked {
    product: Product,
    /// Its version when it was brought to hand.
    first_version: u64,
    /// Its version in the store.
    saved_version: u64,
    /// Events since it was last saved. They name every row that has changed, so nothing else keeps track of changes …
    unsaved: Vec<Event>,
    /// … but of lines of which only what follows from their batches is another.
    looked_over: BTreeSet<LineKey>,
}

impl<T: Transaction> UnitOfWork<T> {
    /// A unit of work in this transaction. `usual`: what holds for products that say nothing else.
    pub fn new(tx: T, entropy: Arc<dyn Entropy>, usual: Arc<Usual>) -> Self {
        Self::over(Store::Begun(tx), entropy, usual)
    }

    /// One that is decided without the store, on products that are known from earlier units of work, as of this time. Whoever asks the store for more is
    /// told that there is a conflict, until [`UnitOfWork::begin`] has been called.
    pub fn unasked(now: OffsetDateTime, entropy: Arc<dyn Entropy>, usual: Arc<Usual>) -> Self {
        Self::over(Store::Unasked(now), entropy, usual)
    }

    fn over(tx: Store<T>, entropy: Arc<dyn Entropy>, usual: Arc<Usual>) -> Self {
        Self {
            tx,
            entropy,
            usual,
            seen: BTreeMap::new(),
            orders: BTreeSet::new(),
            touched: Vec::new(),
            unwatched: BTreeSet::new(),
            cause: Cause { correlation: "".into(), actor: "".into(), traceparent: None },
            gathered: Vec::new(),
            unrecorded: Vec::new(),
            unnoted: Vec::new(),
            keys: BTreeMap::new(),
            new_keys: Vec::new(),
            most_holds: None,
            holding: BTreeMap::new(),
            unnoted_holds: BTreeMap::new(),
            changed: false,
        }
    }

    /// The same, in which a key may have so many holds in force.
    #[must_use]
    pub fn with_most_holds(self, most_holds: Option<u64>) -> Self {
        Self { most_holds, ..self }
    }

    /// Loads and locks all that is wanted, at once. Handlers find it with [`UnitOfWork::product`].
    pub async fn load(&mut self, wanted: Wanted) -> StoreResult<()> {
        let Wanted { mut selection, orders } = wanted;
        if !orders.is_empty() {
            let ids: BTreeSet<OrderId> = orders.iter().map(|(id, _)| id.clone()).collect();
            for (sku, key) in self.tx.ask()?.lines_of_orders(&ids.into_iter().collect::<Vec<_>>()).await? {
                let asked = |(id, only): &(OrderId, Option<Sku>)| {
                    *id == key.order_id && only.as_ref().is_none_or(|only| *only == sku)
                };
                self.orders.insert(key.order_id.clone());
                if orders.iter().any(asked) {
                    selection.skus.insert(sku.clone());
                    selection.lines.push((sku, key));
                }
            }
        }
        for product in self.tx.ask()?.load(&selection).await? {
            self.track(product);
        }
        Ok(())
    }

    fn track(&mut self, mut product: Product) {
        self.usual.tell(&mut product);
        let version = product.version();
        let (unsaved, looked_over) = (Vec::new(), BTreeSet::new());
        let tracked = Tracked { product, first_version: version, saved_version: version, unsaved, looked_over };
        self.seen.insert(tracked.product.sku().clone(), tracked);
    }

    /// Brings products to hand that are known from an earlier unit of work, instead of loading them. `false` if something may be due of one of
    /// them, which the store would have to be asked for.
    pub fn recall(&mut self, products: Vec<Product>) -> bool {
        let mut may_serve = true;
        for product in products {
            let sku = product.sku().clone();
            self.track(product);
            // Only now it knows what day it is where it is.
            let product = &self.seen[&sku].product;
            may_serve &= !product.may_be_due() && !product.day_may_serve_queue();
        }
        may_serve
    }

    /// Goes on in this transaction with what was decided without one. The products at hand are locked; one that is no longer as it was known is a
    /// conflict.
    pub async fn begin(&mut self, mut tx: T) -> StoreResult<()> {
        let known: Vec<_> = self.seen.iter().map(|(sku, tracked)| (sku, tracked.saved_version)).collect();
        tx.lock(&known).await?;
        self.tx = Store::Begun(tx);
        Ok(())
    }

    /// What time it is in it.
    pub fn now(&self) -> OffsetDateTime {
        self.tx.now()
    }

    /// The products as they will be in the store once this is written.
    pub fn products(&self) -> impl Iterator<Item = &Product> {
        self.seen.values().map(|tracked| &tracked.product)
    }

    /// Whether a product at hand was changed, so that its version is checked at the write.
    pub fn has_changed(&self, sku: &Sku) -> bool {
        self.seen.get(sku).is_some_and(|tracked| tracked.product.version() > tracked.first_version)
    }

    /// Does what is due of loaded products (rule 13): holds whose time has come end, batches expire, and lines lose what does not keep long enough for
    /// them. `true` if there may have been anything.
    pub async fn do_what_is_due(&mut self) -> StoreResult<bool> {
        let mut asked = Vec::new();
        for (sku, Tracked { product, .. }) in self.seen.iter().filter(|(_, tracked)| tracked.product.may_be_due()) {
            asked.push(DueBy { sku: sku.clone(), now: product.now(), today: product.calendar().latest() });
        }
        if asked.is_empty() {
            return Ok(false);
        }
        for (sku, line) in self.tx.ask()?.due_lines(&asked).await? {
            if let Some(product) = self.product_mut(&sku) {
                product.remember([line]);
            }
        }
        for DueBy { sku, .. } in asked {
            let product = self.product_mut(&sku).expect("it was loaded");
            product.expire_holds();
            product.expire_batches();
            product.lose_what_spoils();
        }
        Ok(true)
    }

    /// Loaded products whose queue may be served by what day it is.
    pub fn served_by_the_day(&self) -> Vec<Sku> {
        let served = self.seen.iter().filter(|(_, tracked)| tracked.product.day_may_serve_queue());
        served.map(|(sku, _)| sku.clone()).collect()
    }

    /// A product, if it is known.
    pub fn product(&self, sku: &Sku) -> Option<&Product> {
        self.seen.get(sku).map(|tracked| &tracked.product)
    }

    /// A product to change, if it is known.
    pub fn product_mut(&mut self, sku: &Sku) -> Option<&mut Product> {
        let tracked = self.seen.get_mut(sku)?;
        self.touched.push(sku.clone());
        Some(&mut tracked.product)
    }

    /// A product to change, made known if need be.
    pub fn product_or_new(&mut self, sku: &Sku) -> &mut Product {
        self.touched.push(sku.clone());
        if !self.seen.contains_key(sku) {
            self.track(Product::new(sku.clone(), self.tx.now()));
        }
        &mut self.seen.get_mut(sku).expect("it was put there").product
    }

    /// Whether an order that was asked for had lines when that was done.
    pub fn knows_order(&self, order_id: &OrderId) -> bool {
        self.orders.contains(order_id)
    }

    /// The lines of an order that are at hand, in the order of their SKUs: all of them, or those of one SKU, or one of these.
    pub fn lines_of(&self, order_id: &OrderId, only: Option<&Sku>, line: Option<&LineId>) -> Vec<(Sku, LineKey)> {
        self.seen
            .iter()
            .filter(|(sku, _)| only.is_none_or(|only| only == *sku))
            .flat_map(|(sku, tracked)| tracked.product.lines_of(order_id).map(|l| (sku.clone(), l.key.clone())))
            .filter(|(_, key)| line.is_none_or(|line| *line == key.line))
            .collect()
    }

    /// Finds out which of these request keys are known.
    pub async fn bring_keys(&mut self, keys: impl Iterator<Item = &RequestKey>) -> StoreResult<()> {
        let asked: BTreeSet<Arc<str>> = keys.map(|key| key.key.clone()).collect();
        if !asked.is_empty() {
            let known = self.tx.ask()?.request_keys(&asked.into_iter().collect::<Vec<_>>()).await?;
            self.keys.extend(known.into_iter().map(|key| (key.key, key.content)));
        }
        Ok(())
    }

    /// What a request key stands for, if it is known.
    pub fn content_of(&self, key: &str) -> Option<[u8; 32]> {
        self.keys.get(key).copied()
    }

    /// Remembers a request key, together with everything else.
    pub fn remember_key(&mut self, key: RequestKey) {
        self.keys.insert(key.key.clone(), key.content);
        self.new_keys.push(key);
    }

    /// Finds out how many holds those have who ask for some, as far as that is limited.
    pub async fn bring_holds<'a>(&mut self, asking: impl Iterator<Item = &'a Arc<str>>) -> StoreResult<()> {
        let limited: BTreeSet<Arc<str>> = match self.most_holds {
            Some(_) => asking.filter(|actor| is_by_credential(actor)).cloned().collect(),
            None => return Ok(()),
        };
        if !limited.is_empty() {
            let held = self.tx.ask()?.holds_of(&limited.iter().cloned().collect::<Vec<_>>()).await?;
            self.holding = limited.into_iter().map(|holder| (holder, 0)).collect();
            self.holding.extend(held);
        }
        Ok(())
    }

    /// Counts holds that are about to be made, unless they are too many.
    pub fn add_holds(&mut self, asked: usize) -> Result<(), Rejection> {
        let asked = asked as u64;
        let held = self.holding.get_mut(&self.cause.actor).filter(|_| asked > 0);
        if let (Some(most), Some(held)) = (self.most_holds, held) {
            if *held + asked > most {
                return Err(Rejection::TooManyHolds { in_force: *held, asked, most });
            }
            *held += asked;
        }
        Ok(())
    }

    /// What happens from here on is caused by this.
    pub fn caused_by(&mut self, cause: &Cause) {
        self.cause = cause.clone();
    }

    /// The events raised since the last call, numbered and stamped with their cause.
    pub fn gather(&mut self) -> Vec<(Sku, Event)> {
        self.take_events();
        std::mem::take(&mut self.gathered)
    }

    fn take_events(&mut self) {
        for sku in std::mem::take(&mut self.touched) {
            let Some(tracked) = self.seen.get_mut(&sku) else { continue };
            tracked.looked_over.extend(tracked.product.take_looked_over());
            let events = tracked.product.take_events();
            if !events.is_empty() && !tracked.product.settings().levels.is_empty() {
                self.unwatched.insert(sku.clone());
            }
            let now = tracked.product.now();
            let version = tracked.product.version();
            let first = version + 1 - events.len() as u64;
            if is_to_be_noted(first - 1, version) {
                self.unnoted.push(Balances::of(tracked.product.batches()).noted(&sku, version));
            }
            for (sequence, event) in (first..).zip(events) {
                if self.most_holds.is_some()
                    && let Some(noted) = hold_noted(tracked, &event, &self.cause.actor)
                {
                    self.unnoted_holds.insert((sku.clone(), event.line().expect("it is about one").clone()), noted);
                }
                let body = wire::event_json(self.entropy.uuid(now), &sku, sequence, now, &self.cause, &event);
                self.unrecorded.push(RecordedEvent { sku: sku.clone(), sequence, body });
                tracked.unsaved.push(event.clone());
                self.gathered.push((sku.clone(), event));
            }
        }
    }

    /// Has products that were changed since this was last done say where little is left, and where there is enough again.
    pub fn watch_levels(&mut self) {
        for sku in std::mem::take(&mut self.unwatched) {
            if let Some(product) = self.product_mut(&sku) {
                product.watch_levels();
            }
        }
        self.gather();
        self.unwatched.clear();
    }

    /// Brings units placed in a batch to hand, in the order in which they lose their place, or those after `after`, at most `limit`, and
    /// names them.
    pub async fn losers(
        &mut self,
        sku: &Sku,
        batch: &BatchRef,
        after: Option<&PartKey>,
        limit: usize,
    ) -> StoreResult<Vec<PartKey>> {
        self.write().await?;
        let units = self.tx.ask()?.losers(sku, batch, after, limit).await?;
        Ok(self.remember(sku, units))
    }

    /// Brings batches to hand that may have nothing left in them.
    pub async fn bring_batches(&mut self, sku: &Sku, mut references: Vec<BatchRef>) -> StoreResult<()> {
        let Some(product) = self.product(sku) else { return Ok(()) };
        references.retain(|reference| product.batch(reference).is_none());
        if references.is_empty() {
            return Ok(());
        }
        let named: Vec<_> = references.into_iter().map(|reference| (sku.clone(), reference)).collect();
        let batches = self.tx.ask()?.batches(&named).await?;
        if let Some(tracked) = self.seen.get_mut(sku) {
            tracked.product.remember_batches(batches.into_iter().map(|(_, batch)| batch));
        }
        Ok(())
    }

    /// Brings waiting units to hand, by seniority, those after `after`, and names them.
    pub async fn waiting(
        &mut self,
        sku: &Sku,
        largest_free: u64,
        after: Option<Seniority>,
        limit: usize,
    ) -> StoreResult<Vec<PartKey>> {
        self.write().await?;
        let units = self.tx.ask()?.waiting(sku, largest_free, after, limit).await?;
        Ok(self.remember(sku, units))
    }

    fn remember(&mut self, sku: &Sku, units: Vec<Units>) -> Vec<PartKey> {
        let named = units.iter().map(Units::key).collect();
        if let Some(tracked) = self.seen.get_mut(sku) {
            tracked.product.remember(units.into_iter().map(|units| units.line));
        }
        named
    }

    /// All that is stored of a product.
    pub async fn books(&mut self, sku: &Sku) -> StoreResult<ProductBooks> {
        self.write().await?;
        self.tx.ask()?.books(sku).await
    }

    /// Puts a product that has everything at hand in the place of what is stored, with what its balances were, as if it had been loaded so.
    pub async fn replace(&mut self, product: Product, balances: &[NotedBalances]) -> StoreResult<()> {
        self.tx.ask()?.replace(&product).await?;
        self.tx.ask()?.note(balances).await?;
        self.changed = true;
        self.track(product);
        Ok(())
    }

    /// Ends without a trace, and gives the products as they would have been.
    pub async fn abandon(self) -> StoreResult<Vec<Product>> {
        self.tx.into_transaction()?.end().await?;
        Ok(self.seen.into_values().map(|tracked| tracked.product).collect())
    }

    /// Writes what is pending, so that the store can be asked about it, and so that it can be committed.
    async fn write(&mut self) -> StoreResult<()> {
        // A product may have been changed since events were last asked for; what is written is all of it.
        self.take_events();
        let changes: Vec<ProductChanges<'_>> = self.seen.values().filter_map(Tracked::changes).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.tx.ask()?.record(&self.unrecorded).await?;
        self.tx.ask()?.save(&changes).await?;
        if !self.unnoted.is_empty() {
            self.tx.ask()?.note(&self.unnoted).await?;
        }
        if !self.unnoted_holds.is_empty() {
            let (mut holds, mut ended) = (Vec::new(), Vec::new());
            for (line, noted) in std::mem::take(&mut self.unnoted_holds) {
                match noted {
                    HoldNote::Held(hold) => holds.push(hold),
                    HoldNote::Ended => ended.push(line),
                }
            }
            self.tx.ask()?.note_holds(&holds, &ended).await?;
        }
        self.changed = true;
        self.unrecorded.clear();
        self.unnoted.clear();
        for tracked in self.seen.values_mut() {
            tracked.saved_version = tracked.product.version();
            tracked.unsaved.clear();
            tracked.looked_over.clear();
        }
        Ok(())
    }

    /// Writes everything and makes it last.
    pub async fn commit(mut self) -> StoreResult<Committed> {
        Failpoint::UnitDecided.pass();
        self.write().await?;
        if !self.new_keys.is_empty() {
            self.tx.ask()?.remember_keys(&self.new_keys).await?;
            self.changed = true;
        }
        let at = self.tx.now();
        if self.changed {
            Failpoint::UnitWritten.pass();
            self.tx.into_transaction()?.commit().await?;
            Failpoint::UnitCommitted.pass();
        } else {
            self.tx.into_transaction()?.end().await?;
        }
        let written = self.seen.into_values().filter(|tracked| tracked.saved_version > tracked.first_version);
        let products = written.map(|tracked| tracked.product).collect();
        Ok(Committed { anything: self.changed, at, products })
    }
}

/// What is to be noted of a line's hold, as far as whose it is.
enum HoldNote {
    Held(HeldFor),
    Ended,
}

/// What an event makes of a line's hold; `None`: nothing new.
fn hold_noted(tracked: &Tracked, event: &Event, actor: &Arc<str>) -> Option<HoldNote> {
    let product = &tracked.product;
    let until = |line: &LineKey| product.line(line).and_then(|line| line.hold);
    match event {
        // Units that have only moved are held for whom they were.
        Event::Held { accepted, .. } if *accepted <= tracked.first_version => None,
        Event::Held { line, .. } | Event::HoldExtended { line, .. } => {
            let until = until(line)?;
            let hold = || HeldFor { sku: product.sku().clone(), line: line.clone(), holder: actor.clone(), until };
            is_by_credential(actor).then(|| HoldNote::Held(hold()))
        }
        Event::HoldExpired { line, .. }
        | Event::HoldLost { line, .. }
        | Event::Allocated { line, held: true, .. }
        | Event::Deallocated { line, held: true, .. } => until(line).is_none().then_some(HoldNote::Ended),
        _ => None,
    }
}

impl Tracked {
    fn changes(&self) -> Option<ProductChanges<'_>> {
        if self.unsaved.is_empty() {
            return None;
        }
        let mut batches: BTreeMap<&BatchRef, Change> = BTreeMap::new();
        let mut lines: BTreeSet<&LineKey> = self.looked_over.iter().collect();
        let mut settings = false;
        for event in &self.unsaved {
            if let Some(reference) = event.batch() {
                let change = batches.entry(reference).or_insert(Change::Placements);
                *change = match event {
                    Event::BatchCreated { .. } => Change::Insert,
                    _ if *change == Change::Insert => Change::Insert,
                    _ if event.only_places() => *change,
                    _ => Change::Update,
                };
            }
            settings |= matches!(event, Event::ProductChanged { .. });
            lines.extend(event.line());
        }
        let product = &self.product;
        Some(ProductChanges {
            product,
            saved_version: self.saved_version,
            settings,
            batches: batches
                .into_iter()
                .filter_map(|(reference, change)| Some((change, product.batch(reference)?)))
                // Where it ends is noted of a batch that has nothing left.
                .map(|(change, batch)| match change {
                    Change::Placements if !batch.is_open() => (Change::Update, batch),
                    change => (change, batch),
                })
                .collect(),
            lines: lines
                .into_iter()
                .filter_map(|key| product.line(key))
                .map(|line| (if line.accepted > self.saved_version { Change::Insert } else { Change::Update }, line))
                .collect(),
        })
    }
}
