//! The unit of work: one atomic change. It hands out products, gathers the events they raise, and writes both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use allocation_domain::{AcceptedLine, BatchRef, Command, Event, LineKey, OrderId, Product, Sku};
use time::{Date, OffsetDateTime};

use crate::ports::clock::Entropy;
use crate::ports::database::{Change, ProductChanges, RecordedEvent, Selection, StoreResult, Transaction};
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
            Command::Deallocate(c) => self.orders.push((c.order_id.clone(), c.sku.clone())),
        }
    }
}

/// One atomic change: every product seen in it, and everything that happened to them.
///
/// Dropping it before [`UnitOfWork::commit`] leaves the store as it was.
pub struct UnitOfWork<T> {
    tx: T,
    entropy: Arc<dyn Entropy>,
    seen: BTreeMap<Sku, Tracked>,
    /// Products handed out for change since events were last gathered.
    touched: Vec<Sku>,
    /// Events not yet in the log.
    unrecorded: Vec<RecordedEvent>,
    changed: bool,
}

struct Tracked {
    product: Product,
    /// Its version in the store.
    saved_version: u64,
    /// Events since it was last saved. They name every row that has changed, so nothing else keeps track of changes.
    unsaved: Vec<Event>,
}

impl<T: Transaction> UnitOfWork<T> {
    /// A unit of work in this transaction.
    pub fn new(tx: T, entropy: Arc<dyn Entropy>) -> Self {
        Self { tx, entropy, seen: BTreeMap::new(), touched: Vec::new(), unrecorded: Vec::new(), changed: false }
    }

    /// Loads and locks all that is wanted, at once. Handlers find it with [`UnitOfWork::product`].
    pub async fn load(&mut self, wanted: Wanted) -> StoreResult<()> {
        let Wanted { mut selection, orders } = wanted;
        if !orders.is_empty() {
            let ids: BTreeSet<OrderId> = orders.iter().map(|(id, _)| id.clone()).collect();
            for (sku, key) in self.tx.lines_of_orders(&ids.into_iter().collect::<Vec<_>>()).await? {
                let asked = |(id, only): &(OrderId, Option<Sku>)| {
                    *id == key.order_id && only.as_ref().is_none_or(|only| *only == sku)
                };
                if orders.iter().any(asked) {
                    selection.skus.insert(sku.clone());
                    selection.lines.push((sku, key));
                }
            }
        }
        for product in self.tx.load(&selection).await? {
            let tracked = Tracked { saved_version: product.version(), product, unsaved: Vec::new() };
            self.seen.insert(tracked.product.sku().clone(), tracked);
        }
        Ok(())
    }

    /// The store's clock, the same throughout.
    pub fn now(&self) -> OffsetDateTime {
        self.tx.now()
    }

    /// The day it is.
    pub fn today(&self) -> Date {
        self.now().date()
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
        let new = || Tracked { product: Product::new(sku.clone()), saved_version: 0, unsaved: Vec::new() };
        &mut self.seen.entry(sku.clone()).or_insert_with(new).product
    }

    /// The lines of an order that are at hand, in the order of their SKUs.
    pub fn lines_of(&self, order_id: &OrderId, only: Option<&Sku>) -> Vec<(Sku, LineKey)> {
        self.seen
            .iter()
            .filter(|(sku, _)| only.is_none_or(|only| only == *sku))
            .flat_map(|(sku, tracked)| tracked.product.lines_of(order_id).map(|l| (sku.clone(), l.key.clone())))
            .collect()
    }

    /// Gathers the events raised since the last call, numbered and stamped as caused by `cause`.
    pub fn gather(&mut self, cause: &Cause) -> Vec<(Sku, Event)> {
        let now = self.tx.now();
        let mut gathered = Vec::new();
        for sku in std::mem::take(&mut self.touched) {
            let Some(tracked) = self.seen.get_mut(&sku) else { continue };
            let events = tracked.product.take_events();
            let first = tracked.product.version() + 1 - events.len() as u64;
            for (sequence, event) in (first..).zip(events) {
                let body = wire::event_json(self.entropy.uuid(now), &sku, sequence, now, cause, &event);
                self.unrecorded.push(RecordedEvent { sku: sku.clone(), sequence, body });
                tracked.unsaved.push(event.clone());
                gathered.push((sku.clone(), event));
            }
        }
        gathered
    }

    /// Brings the newest lines placed in a batch to hand, or those after `after`, at most `limit`, and names them, newest first.
    pub async fn newest_lines(
        &mut self,
        sku: &Sku,
        batch: &BatchRef,
        after: Option<&LineKey>,
        limit: usize,
    ) -> StoreResult<Vec<LineKey>> {
        self.write().await?;
        let lines = self.tx.newest_lines(sku, batch, after, limit).await?;
        Ok(self.remember(sku, lines).into_iter().map(|(key, _)| key).collect())
    }

    /// Brings waiting lines of at most `max_units`, accepted after `after`, to hand, and names them with their seniority, oldest first.
    pub async fn waiting_lines(
        &mut self,
        sku: &Sku,
        max_units: u64,
        after: u64,
        limit: usize,
    ) -> StoreResult<Vec<(LineKey, u64)>> {
        self.write().await?;
        let lines = self.tx.waiting_lines(sku, max_units, after, limit).await?;
        Ok(self.remember(sku, lines))
    }

    fn remember(&mut self, sku: &Sku, lines: Vec<AcceptedLine>) -> Vec<(LineKey, u64)> {
        let named = lines.iter().map(|line| (line.key.clone(), line.accepted)).collect();
        if let Some(tracked) = self.seen.get_mut(sku) {
            tracked.product.remember(lines);
        }
        named
    }

    /// Writes what is pending, so that the store can be asked about it, and so that it can be committed.
    async fn write(&mut self) -> StoreResult<()> {
        let changes: Vec<ProductChanges<'_>> = self.seen.values().filter_map(Tracked::changes).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.tx.save(&changes).await?;
        self.tx.record(&self.unrecorded).await?;
        self.changed = true;
        self.unrecorded.clear();
        for tracked in self.seen.values_mut() {
            tracked.saved_version = tracked.product.version();
            tracked.unsaved.clear();
        }
        Ok(())
    }

    /// Writes everything and makes it last. `true` if there was anything to write.
    pub async fn commit(mut self) -> StoreResult<bool> {
        self.write().await?;
        if self.changed {
            self.tx.commit().await?;
        } else {
            self.tx.end().await?;
        }
        Ok(self.changed)
    }
}

impl Tracked {
    fn changes(&self) -> Option<ProductChanges<'_>> {
        if self.unsaved.is_empty() {
            return None;
        }
        let mut batches: BTreeMap<&BatchRef, Change> = BTreeMap::new();
        let mut lines: BTreeSet<&LineKey> = BTreeSet::new();
        for event in &self.unsaved {
            if let Some(reference) = event.batch() {
                let change = batches.entry(reference).or_insert(Change::Update);
                if matches!(event, Event::BatchCreated { .. }) {
                    *change = Change::Insert;
                }
            }
            lines.extend(event.line());
        }
        let product = &self.product;
        Some(ProductChanges {
            product,
            saved_version: self.saved_version,
            batches: batches.into_iter().filter_map(|(r, change)| Some((change, product.batch(r)?))).collect(),
            lines: lines
                .into_iter()
                .filter_map(|key| product.line(key))
                .map(|line| (if line.accepted > self.saved_version { Change::Insert } else { Change::Update }, line))
                .collect(),
        })
    }
}
