//! Allocates so many lines through the message bus, on a store that keeps products in memory and throws the rest away: what an allocation costs
//! in our own code. `lint/instructions` counts its instructions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use allocation_domain::commands::WhenShort;
use allocation_domain::product::StoredProduct;
use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, PartKey, Product, Seniority, Sku};
use allocation_service_layer::MessageBus;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::database::{
    Database, DueBy, HeldFor, NotedBalances, ProductChanges, ProductRepository, RecordedEvent, RequestKey, Selection,
    StoreError, StoreResult, Transaction, Units,
};
use allocation_service_layer::verify::ProductBooks;
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::shorthand::{ask, create_batch, message};
use time::OffsetDateTime;

/// Commands in one unit of work.
const BATCH: usize = 64;
/// Products.
const SKUS: usize = 8;

#[derive(Clone, Default)]
struct Products(Arc<Mutex<BTreeMap<Sku, Product>>>);

struct InMemory(Products);

impl Database for Products {
    type Tx = InMemory;

    async fn begin(&self) -> StoreResult<InMemory> {
        Ok(InMemory(self.clone()))
    }
}

impl Transaction for InMemory {
    fn now(&self) -> OffsetDateTime {
        ManualClock::START
    }

    async fn note(&mut self, _balances: &[NotedBalances]) -> StoreResult<()> {
        Ok(())
    }

    async fn record(&mut self, _events: &[RecordedEvent]) -> StoreResult<()> {
        Ok(())
    }

    async fn request_keys(&mut self, _: &[Arc<str>]) -> StoreResult<Vec<RequestKey>> {
        Ok(Vec::new())
    }

    async fn remember_keys(&mut self, _: &[RequestKey]) -> StoreResult<()> {
        Ok(())
    }

    async fn holds_of(&mut self, _: &[Arc<str>]) -> StoreResult<Vec<(Arc<str>, u64)>> {
        Ok(Vec::new())
    }

    async fn note_holds(&mut self, _: &[HeldFor], _: &[(Sku, LineKey)]) -> StoreResult<()> {
        Ok(())
    }

    async fn commit(self) -> StoreResult<()> {
        Ok(())
    }

    async fn end(self) -> StoreResult<()> {
        Ok(())
    }
}

impl ProductRepository for InMemory {
    async fn load(&mut self, wanted: &Selection) -> StoreResult<Vec<Product>> {
        let products = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(wanted.skus.iter().filter_map(|sku| products.get(sku).cloned()).collect())
    }

    async fn lock(&mut self, _: &[(&Sku, u64)]) -> StoreResult<()> {
        Ok(())
    }

    async fn batches(&mut self, _: &[(Sku, BatchRef)]) -> StoreResult<Vec<(Sku, Batch)>> {
        Ok(Vec::new())
    }

    async fn lines_of_orders(&mut self, _orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        Ok(Vec::new())
    }

    async fn losers(&mut self, _: &Sku, _: &BatchRef, _: Option<&PartKey>, _: usize) -> StoreResult<Vec<Units>> {
        Ok(Vec::new())
    }

    async fn waiting(&mut self, _: &Sku, _: u64, _: Option<Seniority>, _: usize) -> StoreResult<Vec<Units>> {
        Ok(Vec::new())
    }

    async fn due_lines(&mut self, _: &[DueBy]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        Ok(Vec::new())
    }

    async fn books(&mut self, _: &Sku) -> StoreResult<ProductBooks> {
        Err(StoreError::Failed("keeps no books".into()))
    }

    async fn replace(&mut self, _: &Product) -> StoreResult<()> {
        Ok(())
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        let mut products = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let p = change.product;
            // Without its lines, as a store would load it.
            let stored = StoredProduct {
                sku: p.sku().clone(),
                version: p.version(),
                changed_at: p.changed_at(),
                settings: p.settings().clone(),
                backordered: p.backordered(),
                queued: p.queued(),
                out_of_stock_raised: p.out_of_stock_raised(),
                low: p.low().clone(),
                batches: p.batches().to_vec(),
            };
            let stored = Product::restore(stored, p.now());
            products.insert(p.sku().clone(), stored);
        }
        Ok(())
    }
}

fn main() {
    let lines: usize = std::env::args().nth(1).and_then(|lines| lines.parse().ok()).unwrap_or(1_024);
    let clock = Arc::new(ManualClock::new());
    let bus = MessageBus::new(Products::default(), clock, Arc::new(CountingEntropy::default()), Metrics::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let skus: Vec<String> = (0..SKUS).map(|n| format!("SMALL-TABLE-{n}")).collect();
        let batches: Vec<_> = skus.iter().map(|sku| message(create_batch("warehouse", sku, 1_000_000, None))).collect();
        bus.handle_batch(&batches).await;
        let orders: Vec<_> = (0..lines)
            .map(|n| message(ask(&format!("order-{n:08}"), WhenShort::Reject, &[(skus[n % SKUS].as_str(), 3)])))
            .collect();
        for some in orders.chunks(BATCH) {
            for verdict in bus.handle_batch(some).await {
                verdict.expect("the store works").expect("there is enough");
            }
        }
    });
}
