//! Fakes of the ports: a store in memory, a broker and a mail server that remember what they were given, and can fail when told to.

mod api_keys;
mod reader;
mod receivers;
mod token_keys;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allocation_domain::product::StoredProduct;
use allocation_domain::{
    AcceptedLine, Batch, BatchRef, LineKey, OrderId, Part, PartKey, Product, Seniority, Sku, Split,
};
use allocation_service_layer::TimeZones;
use allocation_service_layer::ports::api_keys::ApiKey;
use allocation_service_layer::ports::archive::{Archive, Checkpoint, Removal, Replacement};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{
    Change, Database, DueBy, HeldFor, KeyOf, NotedBalances, ProductChanges, ProductRepository, RecordedEvent,
    RequestKey, Selection, StoreError, StoreResult, Transaction, Units,
};
use allocation_service_layer::ports::dead_letters::{DeadLetter, DeadLetters, KeptLetter};
use allocation_service_layer::ports::event_log::{EventLog, FeedEvent, FeedPage, Progress};
use allocation_service_layer::ports::housekeeping::Housekeeping;
use allocation_service_layer::ports::reader::{StoredLine, Whereabouts};
use allocation_service_layer::ports::webhooks::{Webhook, WebhookId, Webhooks};
use allocation_service_layer::verify::ProductBooks;
use async_trait::async_trait;
use time::{Date, OffsetDateTime};
use tokio::sync::OwnedMutexGuard;

pub use self::receivers::{FakeNotifications, FakePublisher, FakeReceivers};
pub use self::token_keys::FakeIssuer;

/// A store in memory: one transaction at a time, on a copy that a commit puts in the original's place.
#[derive(Clone)]
pub struct FakeDatabase {
    state: Arc<tokio::sync::Mutex<State>>,
    failures: Arc<Mutex<Vec<StoreError>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default, Clone)]
struct State {
    products: BTreeMap<Sku, Row>,
    /// How many events were removed, the oldest.
    removed: u64,
    events: Vec<RecordedEvent>,
    checkpoints: BTreeMap<Sku, Checkpoint>,
    balances: Vec<NotedBalances>,
    sinks: BTreeMap<String, u64>,
    leases: BTreeMap<String, (String, OffsetDateTime)>,
    notified: BTreeMap<String, OffsetDateTime>,
    dead_letters: Vec<KeptLetter>,
    letters_ever: u64,
    keys: BTreeMap<Arc<str>, (RequestKey, OffsetDateTime)>,
    /// Whose a hold is, and until when.
    holders: BTreeMap<(Sku, LineKey), (Arc<str>, OffsetDateTime)>,
    webhooks: BTreeMap<WebhookId, Webhook>,
    api_keys: Vec<ApiKey>,
}

impl State {
    /// Products of which something is due.
    fn due(&self, now: OffsetDateTime, time_zones: &TimeZones) -> impl Iterator<Item = Sku> {
        let today = time_zones.calendar(now).latest();
        let due = move |row: &&Row| row.is_due(now, today);
        self.products.values().filter(due).map(|row| row.head.sku.clone())
    }

    /// These, and those whose queue the day may serve.
    fn due_or_served(&self, now: OffsetDateTime, time_zones: &TimeZones) -> impl Iterator<Item = Sku> {
        let today = time_zones.calendar(now).latest();
        let due = move |row: &&Row| row.is_due(now, today) || row.may_be_served(today);
        self.products.values().filter(due).map(|row| row.head.sku.clone())
    }
}

#[derive(Clone)]
struct Row {
    /// Without batches.
    head: StoredProduct,
    batches: BTreeMap<BatchRef, Batch>,
    lines: BTreeMap<LineKey, AcceptedLine>,
}

impl Row {
    fn product(&self, now: OffsetDateTime, batches: impl Fn(&Batch) -> bool) -> Product {
        let batches = self.batches.values().filter(|batch| batches(batch)).cloned().collect();
        Product::restore(StoredProduct { batches, ..self.head.clone() }, now)
    }

    fn stored(&self, line: &AcceptedLine) -> StoredLine {
        let batches = line.placements().filter_map(|(reference, _)| self.batches.get(reference)).map(Whereabouts::from);
        StoredLine { sku: self.head.sku.clone(), line: line.clone(), batches: batches.collect() }
    }

    fn books(&self, now: OffsetDateTime, state: &State) -> ProductBooks {
        let of_sku = state.events.iter().filter(|event| event.sku == self.head.sku);
        let mut events: Vec<_> = of_sku.map(|event| (event.sequence, event.body.clone())).collect();
        events.sort();
        ProductBooks {
            product: Some(self.product(now, |_| true)),
            sku: self.head.sku.clone(),
            lines: self.lines.values().cloned().collect(),
            events,
            spans: BTreeMap::new(),
            balances: state.balances.iter().filter(|noted| noted.sku == self.head.sku).cloned().collect(),
            checkpoint: state.checkpoints.get(&self.head.sku).cloned(),
            faults: Vec::new(),
            now,
        }
    }

    /// Lines of which something is due.
    fn due(&self, now: OffsetDateTime, today: Date) -> impl Iterator<Item = &AcceptedLine> {
        let product = self.product(now, Batch::is_open);
        self.lines.values().filter(move |line| {
            line.hold.is_some_and(|until| until <= now) || product.spoils_on(line).is_some_and(|day| day <= today)
        })
    }

    /// Whether anything is.
    fn is_due(&self, now: OffsetDateTime, today: Date) -> bool {
        self.due(now, today).next().is_some() || self.expires(today)
    }

    /// Whether a batch has expired and does not say so yet.
    fn expires(&self, today: Date) -> bool {
        let over = |batch: &Batch| batch.expires_on.is_some_and(|last| last < today) && !batch.expired;
        self.batches.values().any(|batch| batch.is_open() && over(batch))
    }

    /// Whether the day may serve somebody who waits.
    fn may_be_served(&self, today: Date) -> bool {
        let late = |batch: &Batch| batch.is_open() && batch.eta.is_some_and(|eta| eta <= today);
        !self.head.settings.levels.is_empty() && self.head.backordered > 0 && self.batches.values().any(late)
    }

    /// Parts of lines that `fit`, each with its line.
    fn parts(&self, fit: impl Fn(&AcceptedLine, &Part) -> bool) -> Vec<Units> {
        let of_line = |line: &AcceptedLine| -> Vec<Units> {
            let parts = line.parts.iter().filter(|part| fit(line, part));
            parts.map(|part| Units { line: line.clone(), accepted: part.accepted, locked: part.locked }).collect()
        };
        self.lines.values().flat_map(of_line).collect()
    }

    /// Who waits, by seniority.
    fn waiting(&self, largest_free: u64, after: Option<Seniority>, limit: usize) -> Vec<Units> {
        let needs = |line: &AcceptedLine, part: &Part| match line.terms.split {
            Split::Never => part.qty.units(),
            Split::Parts(least) | Split::OverLocations(least) => part.qty.min(least).units(),
        };
        let mut waiting = self.parts(|line, part| {
            part.batch.is_none()
                && needs(line, part) <= largest_free
                && after.is_none_or(|after| line.seniority(part.accepted) > after)
        });
        waiting.sort_by_key(|units| units.line.seniority(units.accepted));
        waiting.truncate(limit);
        waiting
    }
}

impl FakeDatabase {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::default(), failures: Arc::default(), clock }
    }

    /// The next commits fail with these, in turn.
    pub fn fail_commits(&self, errors: impl IntoIterator<Item = StoreError>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.extend(errors);
    }
}

/// A transaction on a copy of the store.
pub struct FakeTransaction {
    original: OwnedMutexGuard<State>,
    copy: State,
    failures: Arc<Mutex<Vec<StoreError>>>,
    now: OffsetDateTime,
}

impl Database for FakeDatabase {
    type Tx = FakeTransaction;

    async fn begin(&self) -> StoreResult<FakeTransaction> {
        let original = self.state.clone().lock_owned().await;
        let copy = original.clone();
        Ok(FakeTransaction { original, copy, failures: self.failures.clone(), now: self.clock.now() })
    }
}

impl Transaction for FakeTransaction {
    fn now(&self) -> OffsetDateTime {
        self.now
    }

    async fn record(&mut self, events: &[RecordedEvent]) -> StoreResult<()> {
        self.copy.events.extend_from_slice(events);
        Ok(())
    }

    async fn note(&mut self, balances: &[NotedBalances]) -> StoreResult<()> {
        self.copy.balances.extend_from_slice(balances);
        self.copy.balances.sort_by_key(|noted| noted.sequence);
        Ok(())
    }

    async fn request_keys(&mut self, keys: &[Arc<str>]) -> StoreResult<Vec<RequestKey>> {
        let known = |key: &Arc<str>| self.copy.keys.get(key).map(|(known, _)| known.clone());
        Ok(keys.iter().filter_map(known).collect())
    }

    async fn remember_keys(&mut self, keys: &[RequestKey]) -> StoreResult<()> {
        for key in keys {
            if self.copy.keys.insert(key.key.clone(), (key.clone(), self.now)).is_some() {
                return Err(StoreError::Conflict(format!("request key {} is known", key.key)));
            }
        }
        Ok(())
    }

    async fn holds_of(&mut self, holders: &[Arc<str>]) -> StoreResult<Vec<(Arc<str>, u64)>> {
        let in_force = |holder: &Arc<str>| {
            self.copy.holders.values().filter(|(of, until)| of == holder && *until > self.now).count() as u64
        };
        Ok(holders.iter().map(|holder| (holder.clone(), in_force(holder))).collect())
    }

    async fn note_holds(&mut self, holds: &[HeldFor], ended: &[(Sku, LineKey)]) -> StoreResult<()> {
        for HeldFor { sku, line, holder, until } in holds {
            let new = || (holder.clone(), *until);
            let kept = self.copy.holders.entry((sku.clone(), line.clone())).or_insert_with(new);
            let holder = if kept.1 > self.now { kept.0.clone() } else { holder.clone() };
            *kept = (holder, *until);
        }
        for key in ended {
            self.copy.holders.remove(key);
        }
        Ok(())
    }

    async fn commit(mut self) -> StoreResult<()> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if !failures.is_empty() {
            return Err(failures.remove(0));
        }
        *self.original = std::mem::take(&mut self.copy);
        Ok(())
    }

    async fn end(self) -> StoreResult<()> {
        Ok(())
    }
}

impl ProductRepository for FakeTransaction {
    async fn load(&mut self, wanted: &Selection) -> StoreResult<Vec<Product>> {
        let named: BTreeSet<(&Sku, &BatchRef)> = wanted.batches.iter().map(|(sku, name)| (sku, name)).collect();
        let load = |sku: &Sku| {
            let row = self.copy.products.get(sku)?;
            let mut product = row.product(self.now, |b| b.is_open() || named.contains(&(sku, &b.reference)));
            let lines = wanted.lines.iter().filter(|(of, _)| of == sku);
            product.remember(lines.filter_map(|(_, key)| row.lines.get(key).cloned()));
            Some(product)
        };
        Ok(wanted.skus.iter().filter_map(load).collect())
    }

    async fn lock(&mut self, known: &[(&Sku, u64)]) -> StoreResult<()> {
        let version = |sku: &Sku| self.copy.products.get(sku).map_or(0, |row| row.head.version);
        match known.iter().find(|(sku, known)| version(sku) != *known) {
            Some((sku, _)) => Err(StoreError::Conflict(format!("{sku} is at version {}", version(sku)))),
            None => Ok(()),
        }
    }

    async fn batches(&mut self, named: &[(Sku, BatchRef)]) -> StoreResult<Vec<(Sku, Batch)>> {
        let find = |(sku, reference): &(Sku, BatchRef)| {
            Some((sku.clone(), self.copy.products.get(sku)?.batches.get(reference)?.clone()))
        };
        Ok(named.iter().filter_map(find).collect())
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let lines = self.copy.products.iter().flat_map(|(sku, row)| row.lines.keys().map(move |key| (sku, key)));
        Ok(lines.filter(|(_, k)| orders.contains(&k.order_id)).map(|(sku, key)| (sku.clone(), key.clone())).collect())
    }

    async fn losers(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&PartKey>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        let Some(row) = self.copy.products.get(sku) else { return Ok(Vec::new()) };
        let before = after.map_or(u64::MAX, |after| after.accepted);
        let mut losers = row.parts(|line, part| {
            let usual = line.hold.is_none() && line.terms.priority == 0;
            part.batch.as_ref() == Some(reference) && (!usual || part.locked || part.accepted < before)
        });
        losers.sort_by_key(|units| {
            (units.line.hold.is_none(), units.locked, std::cmp::Reverse(units.line.seniority(units.accepted)))
        });
        losers.truncate(limit);
        Ok(losers)
    }

    async fn waiting(
        &mut self,
        sku: &Sku,
        largest_free: u64,
        after: Option<Seniority>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        let row = self.copy.products.get(sku);
        Ok(row.map(|row| row.waiting(largest_free, after, limit)).unwrap_or_default())
    }

    async fn due_lines(&mut self, products: &[DueBy]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        let mut due = Vec::new();
        for DueBy { sku, now, today } in products {
            let Some(row) = self.copy.products.get(sku) else { continue };
            due.extend(row.due(*now, *today).map(|line| (sku.clone(), line.clone())));
        }
        Ok(due)
    }

    async fn books(&mut self, sku: &Sku) -> StoreResult<ProductBooks> {
        let row = self.copy.products.get(sku).ok_or_else(|| StoreError::Failed(format!("no {sku}")))?;
        Ok(row.books(self.now, &self.copy))
    }

    async fn replace(&mut self, product: &Product) -> StoreResult<()> {
        self.copy.products.remove(product.sku());
        self.copy.balances.retain(|noted| noted.sku != *product.sku());
        let everything = ProductChanges {
            product,
            saved_version: 0,
            settings: true,
            batches: product.batches().iter().map(|batch| (Change::Insert, batch)).collect(),
            lines: product.lines().map(|line| (Change::Insert, line)).collect(),
        };
        self.save(&[everything]).await
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        for change in changes {
            let product = change.product;
            let stored = self.copy.products.get(product.sku()).map_or(0, |row| row.head.version);
            if stored != change.saved_version {
                return Err(StoreError::Conflict(format!("{} is at version {stored}", product.sku())));
            }
            let head = StoredProduct {
                sku: product.sku().clone(),
                version: product.version(),
                changed_at: product.changed_at(),
                settings: product.settings().clone(),
                backordered: product.backordered(),
                queued: product.queued(),
                out_of_stock_raised: product.out_of_stock_raised(),
                low: product.low().clone(),
                batches: Vec::new(),
            };
            let new = || Row { head: head.clone(), batches: BTreeMap::new(), lines: BTreeMap::new() };
            let row = self.copy.products.entry(product.sku().clone()).or_insert_with(new);
            row.head = head;
            for (_, batch) in &change.batches {
                row.batches.insert(batch.reference.clone(), (*batch).clone());
            }
            for (change, line) in &change.lines {
                if row.lines.insert(line.key.clone(), (*line).clone()).is_some() && *change == Change::Insert {
                    return Err(StoreError::Conflict(format!("line {:?} is there", line.key)));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Housekeeping for FakeDatabase {
    async fn forget_keys(&self, of: KeyOf, age: Duration) -> StoreResult<u64> {
        let oldest = self.clock.now() - age;
        let mut state = self.state.lock().await;
        let before = state.keys.len();
        state.keys.retain(|_, (key, at)| key.of != of || *at >= oldest);
        Ok((before - state.keys.len()) as u64)
    }

    async fn forget_holds(&self, age: Duration) -> StoreResult<u64> {
        let (mut state, oldest) = (self.state.lock().await, self.clock.now() - age);
        let before = state.holders.len();
        state.holders.retain(|_, (_, until)| *until >= oldest);
        Ok((before - state.holders.len()) as u64)
    }
}

#[async_trait]
impl Archive for FakeDatabase {
    async fn checkpoints(&self, wanted: &Selection) -> StoreResult<Vec<Checkpoint>> {
        let state = self.state.lock().await;
        let named = |sku: &Sku| {
            let mut checkpoint = state.checkpoints.get(sku)?.clone();
            checkpoint.batches.retain(|(batch, _)| wanted.batches.contains(&(sku.clone(), batch.clone())));
            checkpoint.lines.retain(|(line, _)| wanted.lines.contains(&(sku.clone(), line.clone())));
            Some(checkpoint)
        };
        Ok(wanted.skus.iter().filter_map(named).collect())
    }

    async fn take_out(&self, removal: &Removal) -> StoreResult<()> {
        let mut state = self.state.lock().await;
        if state.removed != removal.after || state.sinks.values().any(|seen| *seen < removal.until) {
            return Err(StoreError::Conflict("somebody else archives, or a sink has come".into()));
        }
        for Replacement { checkpoint, .. } in &removal.products {
            let mut new = checkpoint.clone();
            if let Some(former) = state.checkpoints.remove(checkpoint.sku()) {
                let mut batches: BTreeMap<_, _> = former.batches.into_iter().collect();
                batches.extend(new.batches);
                let mut lines: BTreeMap<_, _> = former.lines.into_iter().collect();
                lines.extend(new.lines);
                (new.batches, new.lines) = (batches.into_iter().collect(), lines.into_iter().collect());
            }
            state.balances.retain(|noted| noted.sku != *new.sku() || noted.sequence > new.sequence());
            state.checkpoints.insert(new.sku().clone(), new);
        }
        let count = usize::try_from(removal.until - removal.after).expect("few");
        state.events.drain(..count);
        state.removed = removal.until;
        Ok(())
    }
}

#[async_trait]
impl EventLog for FakeDatabase {
    async fn number(&self, _limit: usize) -> StoreResult<usize> {
        Ok(0)
    }

    async fn read(&self, after: u64, limit: usize) -> StoreResult<FeedPage> {
        let state = self.state.lock().await;
        let placed = (state.removed + 1..).zip(&state.events);
        let events = placed.filter(|(position, _)| *position > after).take(limit);
        Ok(FeedPage {
            kept_after: state.removed,
            events: events.map(|(position, event)| FeedEvent { position, body: event.body.clone() }).collect(),
        })
    }

    async fn last_position(&self) -> StoreResult<u64> {
        let state = self.state.lock().await;
        Ok(state.removed + state.events.len() as u64)
    }

    async fn progress(&self, sink: &str) -> StoreResult<u64> {
        Ok(self.state.lock().await.sinks.get(sink).copied().unwrap_or(0))
    }

    async fn advance(&self, sink: &str, position: u64) -> StoreResult<bool> {
        let mut state = self.state.lock().await;
        let Some(progress) = state.sinks.get_mut(sink) else { return Ok(false) };
        *progress = position.max(*progress);
        Ok(true)
    }

    async fn sinks(&self) -> StoreResult<Vec<Progress>> {
        let state = self.state.lock().await;
        Ok(state.sinks.iter().map(|(name, position)| Progress { name: name.clone(), position: *position }).collect())
    }

    async fn introduce(&self, sink: &str, position: u64) -> StoreResult<bool> {
        let mut state = self.state.lock().await;
        let is_new = !state.sinks.contains_key(sink);
        state.sinks.entry(sink.to_owned()).or_insert(position);
        Ok(is_new)
    }

    async fn forget(&self, sink: &str) -> StoreResult<bool> {
        Ok(self.state.lock().await.sinks.remove(sink).is_some())
    }

    async fn lease(&self, task: &str, holder: &str, ttl: Duration) -> StoreResult<bool> {
        let (now, mut state) = (self.clock.now(), self.state.lock().await);
        let free = state.leases.get(task).is_none_or(|(has, expires)| has == holder || *expires < now);
        if free {
            state.leases.insert(task.to_owned(), (holder.to_owned(), now + ttl));
        }
        Ok(free)
    }

    async fn release(&self, task: &str, holder: &str) -> StoreResult<()> {
        self.state.lock().await.leases.retain(|of, (has, _)| of != task || has != holder);
        Ok(())
    }

    async fn last_notified(&self, subject: &str) -> StoreResult<Option<OffsetDateTime>> {
        Ok(self.state.lock().await.notified.get(subject).copied())
    }

    async fn set_notified(&self, subject: &str, at: OffsetDateTime) -> StoreResult<()> {
        self.state.lock().await.notified.insert(subject.to_owned(), at);
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for FakeDatabase {
    async fn bury(&self, letter: &DeadLetter) -> StoreResult<()> {
        let mut state = self.state.lock().await;
        let same = |kept: &&mut KeptLetter| {
            let kept = &kept.letter;
            (&kept.source, &kept.channel, &kept.body) == (&letter.source, &letter.channel, &letter.body)
        };
        if let Some(kept) = state.dead_letters.iter_mut().find(same) {
            *kept = KeptLetter { id: kept.id, times: kept.times + 1, letter: letter.clone() };
            return Ok(());
        }
        state.letters_ever += 1;
        let kept = KeptLetter { id: state.letters_ever, times: 1, letter: letter.clone() };
        state.dead_letters.push(kept);
        Ok(())
    }

    async fn letters(&self, before: Option<u64>, limit: usize) -> StoreResult<Vec<KeptLetter>> {
        let state = self.state.lock().await;
        let newest_first = state.dead_letters.iter().rev();
        Ok(newest_first.filter(|kept| before.is_none_or(|before| kept.id < before)).take(limit).cloned().collect())
    }

    async fn letter(&self, id: u64) -> StoreResult<Option<KeptLetter>> {
        Ok(self.state.lock().await.dead_letters.iter().find(|kept| kept.id == id).cloned())
    }

    async fn drop_letter(&self, id: u64) -> StoreResult<bool> {
        let mut state = self.state.lock().await;
        let before = state.dead_letters.len();
        state.dead_letters.retain(|kept| kept.id != id);
        Ok(state.dead_letters.len() < before)
    }

    async fn count_letters(&self) -> StoreResult<u64> {
        Ok(self.state.lock().await.dead_letters.len() as u64)
    }
}

#[async_trait]
impl Webhooks for FakeDatabase {
    async fn add(&self, hook: &Webhook, position: u64) -> StoreResult<()> {
        let mut state = self.state.lock().await;
        state.sinks.insert(hook.id.sink(), position);
        state.webhooks.insert(hook.id, hook.clone());
        Ok(())
    }

    async fn hooks(&self) -> StoreResult<Vec<Webhook>> {
        Ok(self.state.lock().await.webhooks.values().cloned().collect())
    }

    async fn hook(&self, id: WebhookId) -> StoreResult<Option<Webhook>> {
        Ok(self.state.lock().await.webhooks.get(&id).cloned())
    }

    async fn change(&self, hook: &Webhook) -> StoreResult<bool> {
        let mut state = self.state.lock().await;
        let Some(stored) = state.webhooks.get_mut(&hook.id).filter(|stored| stored.revision == hook.revision) else {
            return Ok(false);
        };
        *stored = Webhook { revision: hook.revision + 1, ..hook.clone() };
        Ok(true)
    }

    async fn remove(&self, id: WebhookId) -> StoreResult<bool> {
        let mut state = self.state.lock().await;
        state.sinks.remove(&id.sink());
        Ok(state.webhooks.remove(&id).is_some())
    }
}
