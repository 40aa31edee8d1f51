//! Fakes of the ports: a store in memory, a broker and a mail server that remember what they were given, and can fail when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, LineState, OrderId, Product, Sku};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{
    Database, ProductChanges, ProductRepository, RecordedEvent, Selection, StoreError, StoreResult, Transaction,
};
use allocation_service_layer::ports::event_log::{DeadLetter, DeadLetters, EventLog, FeedEvent, FeedPage};
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::ports::notifications::Notifications;
use allocation_service_layer::ports::reader::{LineFilter, Reader, StoredLine};
use allocation_service_layer::verify::ProductBooks;
use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;

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
    events: Vec<RecordedEvent>,
    sinks: BTreeMap<String, u64>,
    leases: BTreeMap<String, (String, OffsetDateTime)>,
    notified: BTreeMap<String, OffsetDateTime>,
    dead_letters: Vec<DeadLetter>,
}

#[derive(Clone)]
struct Row {
    version: u64,
    backordered: u64,
    raised: bool,
    batches: BTreeMap<BatchRef, Batch>,
    lines: BTreeMap<LineKey, AcceptedLine>,
}

impl Row {
    fn product(&self, sku: &Sku, batches: impl Fn(&Batch) -> bool) -> Product {
        let batches = self.batches.values().filter(|batch| batches(batch)).cloned().collect();
        Product::restore(sku.clone(), self.version, self.backordered, self.raised, batches)
    }

    fn stored(&self, sku: &Sku, line: &AcceptedLine) -> StoredLine {
        let eta = line.batch().and_then(|reference| self.batches.get(reference)).and_then(|batch| batch.eta);
        StoredLine { sku: sku.clone(), line: line.clone(), eta }
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
            let mut product = row.product(sku, |b| b.is_open() || named.contains(&(sku, &b.reference)));
            let lines = wanted.lines.iter().filter(|(of, _)| of == sku);
            product.remember(lines.filter_map(|(_, key)| row.lines.get(key).cloned()));
            Some(product)
        };
        Ok(wanted.skus.iter().filter_map(load).collect())
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        let lines = self.copy.products.iter().flat_map(|(sku, row)| row.lines.keys().map(move |key| (sku, key)));
        Ok(lines.filter(|(_, k)| orders.contains(&k.order_id)).map(|(sku, key)| (sku.clone(), key.clone())).collect())
    }

    async fn newest_lines(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<AcceptedLine>> {
        let Some(row) = self.copy.products.get(sku) else { return Ok(Vec::new()) };
        let before = after.and_then(|key| row.lines.get(key)).map_or(u64::MAX, |line| line.accepted);
        let fits = |line: &&AcceptedLine| line.batch() == Some(reference) && line.accepted < before;
        let mut lines: Vec<_> = row.lines.values().filter(fits).cloned().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.accepted));
        lines.truncate(limit);
        Ok(lines)
    }

    async fn waiting_lines(
        &mut self,
        sku: &Sku,
        max_units: u64,
        after: u64,
        limit: usize,
    ) -> StoreResult<Vec<AcceptedLine>> {
        let Some(row) = self.copy.products.get(sku) else { return Ok(Vec::new()) };
        let waits = |line: &&AcceptedLine| {
            line.state == LineState::Backordered && line.backordered() <= max_units && line.accepted > after
        };
        let mut lines: Vec<_> = row.lines.values().filter(waits).cloned().collect();
        lines.sort_by_key(|line| line.accepted);
        lines.truncate(limit);
        Ok(lines)
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        for change in changes {
            let product = change.product;
            let stored = self.copy.products.get(product.sku()).map_or(0, |row| row.version);
            if stored != change.saved_version {
                return Err(StoreError::Conflict(format!("{} is at version {stored}", product.sku())));
            }
            let row = self.copy.products.entry(product.sku().clone()).or_insert_with(|| Row {
                version: 0,
                backordered: 0,
                raised: false,
                batches: BTreeMap::new(),
                lines: BTreeMap::new(),
            });
            row.version = product.version();
            row.backordered = product.backordered();
            row.raised = product.out_of_stock_raised();
            for (_, batch) in &change.batches {
                row.batches.insert(batch.reference.clone(), (*batch).clone());
            }
            for (_, line) in &change.lines {
                row.lines.insert(line.key.clone(), (*line).clone());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for FakeDatabase {
    async fn product(&self, sku: &Sku) -> StoreResult<Option<Product>> {
        Ok(self.state.lock().await.products.get(sku).map(|row| row.product(sku, Batch::is_open)))
    }

    async fn products(&self, after: Option<&Sku>, limit: usize) -> StoreResult<Vec<Product>> {
        let state = self.state.lock().await;
        let later = state.products.iter().filter(|(sku, _)| after.is_none_or(|after| *sku > after));
        Ok(later.take(limit).map(|(sku, row)| row.product(sku, Batch::is_open)).collect())
    }

    async fn product_lines(
        &self,
        sku: &Sku,
        filter: &LineFilter,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<StoredLine>> {
        let state = self.state.lock().await;
        let Some(row) = state.products.get(sku) else { return Ok(Vec::new()) };
        let before = match after {
            Some(key) => row.lines.get(key).map_or(0, |line| line.accepted),
            None => u64::MAX,
        };
        let fits = |line: &&AcceptedLine| filter.admits(line) && line.accepted < before;
        let mut lines: Vec<_> = row.lines.values().filter(fits).map(|line| row.stored(sku, line)).collect();
        lines.sort_by_key(|stored| std::cmp::Reverse(stored.line.accepted));
        lines.truncate(limit);
        Ok(lines)
    }

    async fn order(&self, order_id: &OrderId) -> StoreResult<Vec<StoredLine>> {
        let state = self.state.lock().await;
        let lines = state.products.iter().flat_map(|(sku, row)| row.lines.values().map(move |l| row.stored(sku, l)));
        Ok(lines.filter(|stored| stored.line.key.order_id == *order_id).collect())
    }

    async fn skus_of(&self, reference: &BatchRef) -> StoreResult<Vec<Sku>> {
        let state = self.state.lock().await;
        let has = state.products.iter().filter(|(_, row)| row.batches.contains_key(reference));
        Ok(has.map(|(sku, _)| sku.clone()).collect())
    }

    async fn ready(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()> {
        let state = self.state.lock().await.clone();
        for (sku, row) in &state.products {
            let of_sku = state.events.iter().filter(|event| event.sku == *sku);
            let mut events: Vec<_> = of_sku.map(|event| (event.sequence, event.body.clone())).collect();
            events.sort();
            visit(ProductBooks {
                product: Some(row.product(sku, |_| true)),
                sku: sku.clone(),
                lines: row.lines.values().cloned().collect(),
                events,
                faults: Vec::new(),
            });
        }
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
        let placed = (1..).zip(&state.events);
        let events = placed.filter(|(position, _)| *position > after).take(limit);
        Ok(FeedPage {
            kept_after: 0,
            events: events.map(|(position, event)| FeedEvent { position, body: event.body.clone() }).collect(),
        })
    }

    async fn last_position(&self) -> StoreResult<u64> {
        Ok(self.state.lock().await.events.len() as u64)
    }

    async fn progress(&self, sink: &str) -> StoreResult<u64> {
        Ok(self.state.lock().await.sinks.get(sink).copied().unwrap_or(0))
    }

    async fn advance(&self, sink: &str, position: u64) -> StoreResult<()> {
        let mut state = self.state.lock().await;
        let progress = state.sinks.entry(sink.to_owned()).or_default();
        *progress = position.max(*progress);
        Ok(())
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
        self.state.lock().await.dead_letters.push(letter.clone());
        Ok(())
    }

    async fn newest(&self, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        Ok(self.state.lock().await.dead_letters.iter().rev().take(limit).cloned().collect())
    }
}

/// A broker that remembers, and fails when told to.
#[derive(Default)]
pub struct FakePublisher {
    published: Mutex<Vec<FeedEvent>>,
    failures: Mutex<usize>,
}

impl FakePublisher {
    /// The next so many attempts fail.
    pub fn fail(&self, times: usize) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    /// What was published.
    pub fn published(&self) -> Vec<FeedEvent> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl EventPublisher for FakePublisher {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if *failures > 0 {
            *failures -= 1;
            return Err(DeliveryError("told to fail".into()));
        }
        self.published.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(events);
        Ok(())
    }
}

/// A mail server that remembers, and fails when told to.
#[derive(Default)]
pub struct FakeNotifications {
    sent: Mutex<Vec<String>>,
    failures: Mutex<usize>,
}

impl FakeNotifications {
    /// The next so many attempts fail.
    pub fn fail(&self, times: usize) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    /// Subjects of what was sent.
    pub fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Notifications for FakeNotifications {
    async fn send(&self, subject: &str, _text: &str) -> Result<(), DeliveryError> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if *failures > 0 {
            *failures -= 1;
            return Err(DeliveryError("told to fail".into()));
        }
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(subject.to_owned());
        Ok(())
    }
}
