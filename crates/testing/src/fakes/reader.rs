//! The read side of the store in memory.

use std::collections::BTreeSet;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, OrderId, Product, Seniority, Sku};
use allocation_service_layer::TimeZones;
use allocation_service_layer::ports::database::{NotedBalances, RecordedEvent, StoreResult};
use allocation_service_layer::ports::reader::{
    Among, Connections, Due, LineFilter, Reader, Span, StockTotals, StoredLine,
};
use allocation_service_layer::verify::ProductBooks;
use allocation_service_layer::wire::names_batch;
use async_trait::async_trait;

use super::FakeDatabase;

#[async_trait]
impl Reader for FakeDatabase {
    async fn products_named(&self, skus: &[Sku]) -> StoreResult<Vec<Product>> {
        let state = self.state.lock().await;
        let skus: BTreeSet<&Sku> = skus.iter().collect();
        let rows = skus.into_iter().filter_map(|sku| state.products.get(sku));
        Ok(rows.map(|row| row.product(self.clock.now(), Batch::is_open)).collect())
    }

    async fn products(&self, after: Option<&Sku>, waiting: bool, limit: usize) -> StoreResult<Vec<Product>> {
        let state = self.state.lock().await;
        let later = state.products.iter().filter(|(sku, _)| after.is_none_or(|after| *sku > after));
        let wanted = later.map(|(_, row)| row).filter(|row| !waiting || row.head.backordered > 0);
        Ok(wanted.take(limit).map(|row| row.product(self.clock.now(), Batch::is_open)).collect())
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
        let mut lines: Vec<_> = row.lines.values().filter(fits).map(|line| row.stored(line)).collect();
        lines.sort_by_key(|stored| std::cmp::Reverse(stored.line.accepted));
        lines.truncate(limit);
        Ok(lines)
    }

    async fn queue(&self, sku: &Sku, after: Option<Seniority>, limit: usize) -> StoreResult<Vec<(StoredLine, u64)>> {
        let state = self.state.lock().await;
        let Some(row) = state.products.get(sku) else { return Ok(Vec::new()) };
        let waiting = row.waiting(u64::MAX, after, limit);
        Ok(waiting.into_iter().map(|units| (row.stored(&units.line), units.accepted)).collect())
    }

    async fn order(&self, order_id: &OrderId, time_zones: &TimeZones) -> StoreResult<(Vec<StoredLine>, Due)> {
        let (now, state) = (self.clock.now(), self.state.lock().await);
        let of_order = |stored: &StoredLine| stored.line.key.order_id == *order_id;
        let lines = state.products.values().flat_map(|row| row.lines.values().map(move |line| row.stored(line)));
        let lines: Vec<StoredLine> = lines.filter(of_order).collect();
        let due = state.due_or_served(now, time_zones);
        let skus = due.filter(|sku| lines.iter().any(|stored| stored.sku == *sku)).collect();
        Ok((lines, Due { now, skus }))
    }

    async fn due(&self, among: Among<'_>, time_zones: &TimeZones) -> StoreResult<Due> {
        let (now, state) = (self.clock.now(), self.state.lock().await);
        let skus = match among {
            Among::These(skus) => state.due_or_served(now, time_zones).filter(|sku| skus.contains(sku)).collect(),
            Among::After(after, limit) => {
                state.due(now, time_zones).filter(|sku| after.is_none_or(|after| sku > after)).take(limit).collect()
            }
        };
        Ok(Due { now, skus })
    }

    async fn span(&self, sku: &Sku, batch: Option<&BatchRef>) -> StoreResult<Option<Span>> {
        let state = self.state.lock().await;
        let row = state.products.get(sku).filter(|row| batch.is_none_or(|batch| row.batches.contains_key(batch)));
        Ok(row.map(|row| Span { after: 0, until: row.head.version }))
    }

    async fn noted_balances(&self, sku: &Sku, sequence: u64) -> StoreResult<Option<NotedBalances>> {
        let state = self.state.lock().await;
        Ok(state.balances.iter().rfind(|noted| noted.sku == *sku && noted.sequence <= sequence).cloned())
    }

    async fn events_of(&self, sku: &Sku, batch: Option<&BatchRef>, after: u64, until: u64) -> StoreResult<Vec<String>> {
        let state = self.state.lock().await;
        let named = batch.map(names_batch);
        let wanted = |event: &&RecordedEvent| {
            event.sku == *sku
                && (after + 1..=until).contains(&event.sequence)
                && named.as_ref().is_none_or(|named| event.body.contains(named))
        };
        Ok(state.events.iter().filter(wanted).map(|event| event.body.clone()).collect())
    }

    async fn archived(&self, sku: &Sku) -> StoreResult<Option<NotedBalances>> {
        let state = self.state.lock().await;
        Ok(state.checkpoints.get(sku).map(|checkpoint| checkpoint.balances.clone()))
    }

    async fn skus_of(&self, reference: &BatchRef) -> StoreResult<Vec<Sku>> {
        let state = self.state.lock().await;
        let has = state.products.iter().filter(|(_, row)| row.batches.contains_key(reference));
        Ok(has.map(|(sku, _)| sku.clone()).collect())
    }

    async fn totals(&self) -> StoreResult<StockTotals> {
        let state = self.state.lock().await;
        let mut totals = StockTotals::default();
        for row in state.products.values() {
            let product = row.product(self.clock.now(), Batch::is_open);
            totals.backordered += product.backordered();
            for batch in product.batches() {
                totals.stock += batch.quantity.units();
                totals.quarantined += batch.quarantined;
                totals.held += batch.held;
                totals.allocated += batch.allocated;
                let promised = batch.held + batch.allocated + batch.quarantined;
                totals.overpromised_batches += u64::from(promised > batch.quantity.units());
            }
        }
        Ok(totals)
    }

    fn connections(&self) -> Connections {
        Connections::default()
    }

    async fn ready(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn audit(&self, visit: &mut (dyn FnMut(ProductBooks) + Send)) -> StoreResult<()> {
        let state = self.state.lock().await.clone();
        for row in state.products.values() {
            visit(row.books(self.clock.now(), &state));
        }
        Ok(())
    }
}
