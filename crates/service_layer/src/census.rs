//! The census: what is in stock and promised over all products, counted now and then for the metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, StockLabels, UnitState};
use crate::ports::database::StoreResult;
use crate::ports::reader::{Reader, StockTotals};

/// How often it counts: all batches are looked at, which on a large store takes a while.
const INTERVAL: Duration = Duration::from_mins(1);

/// Counts stock.
pub struct Census {
    /// Knows the sums.
    pub reader: Arc<dyn Reader>,
    /// Where they are shown.
    pub metrics: Metrics,
}

impl Census {
    /// Counts once a minute until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.count().await {
                tracing::warn!(%error, "can't count the stock; trying again later");
            }
        }
    }

    /// Counts once.
    ///
    /// # Errors
    /// When the store can't do its part.
    pub async fn count(&self) -> StoreResult<()> {
        let StockTotals { stock, quarantined, held, allocated, backordered, overpromised_batches } =
            self.reader.totals().await?;
        for (state, units) in [
            (UnitState::stock, stock),
            (UnitState::quarantined, quarantined),
            (UnitState::held, held),
            (UnitState::allocated, allocated),
            (UnitState::backordered, backordered),
        ] {
            self.metrics.units.get_or_create(&StockLabels { state }).set(units);
        }
        self.metrics.overpromised_batches.set(overpromised_batches);
        if overpromised_batches > 0 {
            tracing::error!(batches = overpromised_batches, "more is promised than there is; see `allocation verify`");
        }
        Ok(())
    }
}
