//! The sweeper: a background job that does what is due of products nobody asks for at the moment.
//!
//! Nothing depends on it being in time: whoever reads or writes a product does first what is due of it (rule 13). It sees to it that
//! expired holds are told to the rest of the company, and that those who wait are served, even when nobody comes by. It also has the store
//! forget what nobody needs any more.

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::commands::ApplyDue;
use allocation_domain::{Command, Sku};
use tokio_util::sync::CancellationToken;

use crate::group_commit::{Commands, HandlerError};
use crate::message_bus::Message;
use crate::ports::clock::{Clock, Entropy};
use crate::ports::database::KeyOf;
use crate::ports::housekeeping::Housekeeping;
use crate::ports::reader::{Among, Reader};
use crate::usual::Usual;
use crate::wire::Cause;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it has the store forget what is old.
const TIDY_EVERY: Duration = Duration::from_mins(10);

/// How often it looks for whom the day may serve: those who wait are all looked at.
const SERVE_EVERY: Duration = Duration::from_mins(10);

/// How many products it takes on at once.
const PAGE: usize = 256;

/// Looks for what is due, and has it done.
pub struct Sweeper {
    /// Finds products of which something is due.
    pub reader: Arc<dyn Reader>,
    /// Has it done.
    pub commands: Arc<dyn Commands>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Names what it does.
    pub entropy: Arc<dyn Entropy>,
    /// Tells the day, and what holds for products.
    pub usual: Usual,
    /// Has the store forget.
    pub housekeeping: Arc<dyn Housekeeping>,
    /// For how long the names of requests and of messages are remembered at least.
    pub keep_keys: [(KeyOf, Duration); 2],
}

impl Sweeper {
    /// Sweeps once a second until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut tidied, mut served) = (None, None);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "can't do what is due; trying again");
            }
            let now = self.clock.monotonic();
            if served.is_none_or(|last| now.saturating_sub(last) >= SERVE_EVERY) {
                served = Some(now);
                if let Err(error) = self.serve_by_the_day().await {
                    tracing::warn!(%error, "can't serve those who wait; trying again later");
                }
            }
            if tidied.is_none_or(|last| now.saturating_sub(last) >= TIDY_EVERY) {
                tidied = Some(now);
                for (of, age) in self.keep_keys {
                    if let Err(error) = self.housekeeping.forget_keys(of, age).await {
                        tracing::warn!(%error, "can't forget old request keys; trying again later");
                    }
                }
                if let Err(error) = self.housekeeping.forget_holds(TIDY_EVERY).await {
                    tracing::warn!(%error, "can't forget old holds; trying again later");
                }
            }
        }
    }

    /// Does all that is due by now.
    ///
    /// # Errors
    /// When the store can't do its part, or too much waits.
    pub async fn sweep(&self) -> Result<(), HandlerError> {
        let mut after = None;
        loop {
            let due = self.reader.due(Among::After(after.as_ref(), PAGE), &self.usual.time_zones).await?.skus;
            let Some(last) = due.last() else { return Ok(()) };
            after = Some(last.clone());
            self.apply(due).await?;
        }
    }

    /// Has those served who wait and can have something now for no other reason than that a day has begun.
    ///
    /// # Errors
    /// When the store can't do its part, or too much waits.
    pub async fn serve_by_the_day(&self) -> Result<(), HandlerError> {
        let mut after = None;
        loop {
            let mut waiting = self.reader.products(after.as_ref(), true, PAGE).await?;
            let Some(last) = waiting.last() else { return Ok(()) };
            after = Some(last.sku().clone());
            for product in &mut waiting {
                self.usual.tell(product);
            }
            let served = waiting.iter().filter(|product| product.day_may_serve_queue());
            self.apply(served.map(|product| product.sku().clone()).collect()).await?;
        }
    }

    /// Has done what is due of these, all at once, so that they share a unit of work.
    async fn apply(&self, skus: Vec<Sku>) -> Result<(), HandlerError> {
        let correlation: Arc<str> = self.entropy.uuid(self.clock.now()).to_string().into();
        let sweeps = skus.into_iter().map(|sku| {
            let cause = Cause { correlation: correlation.clone(), actor: "sweeper".into(), traceparent: None };
            self.commands.handle(Message::new(Command::ApplyDue(ApplyDue { sku }), cause))
        });
        for swept in futures_util::future::join_all(sweeps).await {
            drop(swept?);
        }
        Ok(())
    }
}
