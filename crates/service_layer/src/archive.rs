//! Archiving: old events that every sink has seen leave the log, and a checkpoint of what they came to takes their place.
//!
//! It goes in steps of a bounded number of events, each a transaction of its own, with a pause after each, so that others hardly notice. What
//! an old event was about is kept: its product's rows stay as they are, and the checkpoint has each batch and each line, from which the books
//! are checked and mended as before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use allocation_domain::Sku;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Base;
use crate::metrics::Metrics;
use crate::ports::archive::{Archive, Removal, Replacement, Shelf};
use crate::ports::clock::Clock;
use crate::ports::database::{Selection, StoreError, StoreResult};
use crate::ports::event_log::{EventLog, FeedEvent};
use crate::wire::{self, WireEvent};

/// How many events leave the log in one transaction.
pub const STEP: usize = 500;
/// How often to look for events that have become old.
const INTERVAL: Duration = Duration::from_mins(1);
/// How long the right to archive lasts; kept by renewing it in time.
const LEASE: Duration = Duration::from_mins(1);
/// After each step, how many times as long as it took others have the store to themselves.
const PAUSE: u32 = 3;

/// The lease's name.
const TASK: &str = "archive";

/// Takes old events out of the log.
pub struct Archivist {
    /// What it takes them out of.
    pub log: Arc<dyn EventLog>,
    /// How that is done.
    pub archive: Arc<dyn Archive>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts them.
    pub metrics: Metrics,
    /// Tells this process from others that want the lease.
    pub holder: String,
}

/// What came of archiving.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Archived {
    /// How many events left the log.
    pub events: u64,
    /// What kept the next one in it, although it is old enough.
    pub held_back: Option<HeldBack>,
}

/// An event that is old enough, and that a sink has yet to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// The sink.
    pub sink: String,
    /// Its position.
    pub position: u64,
    /// When it happened.
    pub at: OffsetDateTime,
}

/// Why archiving ended early.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ArchiveError {
    /// Only one process archives at a time.
    #[error("another process is archiving")]
    Busy,
    /// The store could not do its part, or the log can't be folded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Archivist {
    /// Archives what is older than `age`, now and again, until told to stop.
    pub async fn run(&self, age: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let before = self.clock.now() - age;
            match self.archive(before, None, &stop).await {
                Ok(Archived { held_back, .. }) => {
                    let late = held_back.map_or(0.0, |held| (before - held.at).as_seconds_f64());
                    self.metrics.archive_held_back.set(late);
                }
                // The other one does it.
                Err(ArchiveError::Busy) => {}
                Err(ArchiveError::Store(error)) => {
                    tracing::warn!(%error, "can't archive old events; trying again later");
                }
            }
        }
    }

    /// Archives all events that happened before an instant, up to the first that a sink has not seen, or until told to stop. They are put on
    /// the shelf first, if there is one.
    ///
    /// # Errors
    /// When another process archives, the store or the shelf fails, or the events can't be true.
    pub async fn archive(
        &self,
        before: OffsetDateTime,
        onto: Option<&mut dyn Shelf>,
        stop: &CancellationToken,
    ) -> Result<Archived, ArchiveError> {
        let archived = self.go_on(before, onto, stop).await;
        if !matches!(archived, Err(ArchiveError::Busy)) {
            self.log.release(TASK, &self.holder).await?;
        }
        archived
    }

    /// The same, with the lease at the end.
    async fn go_on(
        &self,
        before: OffsetDateTime,
        mut onto: Option<&mut dyn Shelf>,
        stop: &CancellationToken,
    ) -> Result<Archived, ArchiveError> {
        let (mut leased, mut events) = (None, 0);
        loop {
            let begun = self.clock.monotonic();
            if leased.is_none_or(|since| begun.saturating_sub(since) >= LEASE / 3) {
                if !self.log.lease(TASK, &self.holder, LEASE).await? {
                    return Err(ArchiveError::Busy);
                }
                leased = Some(begun);
            }
            let onto = onto.as_mut().map(|onto| &mut **onto as &mut dyn Shelf);
            let done = self.step(before, onto).await?;
            events += done.events;
            if done.events == 0 || stop.is_cancelled() {
                return Ok(Archived { events, ..done });
            }
            let took = self.clock.monotonic().saturating_sub(begun);
            let _ = stop.run_until_cancelled(tokio::time::sleep(took * PAUSE)).await;
        }
    }

    /// Archives the next events, at most [`STEP`].
    ///
    /// # Errors
    /// As [`Archivist::archive`].
    pub async fn step(&self, before: OffsetDateTime, onto: Option<&mut dyn Shelf>) -> StoreResult<Archived> {
        // First who has seen what: a sink that is introduced later begins with what there is by then.
        let sinks = self.log.sinks().await?;
        // The newest event stays, for positions go on from it.
        let newest = self.log.last_position().await?;
        let page = self.log.read(0, STEP).await?;
        let behind = sinks.iter().min_by_key(|sink| sink.position);
        let until = behind.map_or(u64::MAX, |sink| sink.position);
        let mut events = page.events;
        let mut held_back = None;
        for (at, event) in events.iter().enumerate() {
            let happened = wire::envelope(&event.body).ok().and_then(|envelope| envelope.time());
            let happened = happened.ok_or_else(|| unreadable(event, "it has no time"))?;
            let is_old = happened < before && event.position < newest;
            if is_old && event.position <= until {
                continue;
            }
            if let Some(sink) = behind.filter(|_| is_old) {
                held_back = Some(HeldBack { sink: sink.name.clone(), position: event.position, at: happened });
            }
            events.truncate(at);
            break;
        }
        let Some(last) = events.last() else { return Ok(Archived { events: 0, held_back }) };
        let removal = match self.removal(page.kept_after, last.position, &events).await {
            // What another has taken out meanwhile is in the checkpoints already, and does not follow them.
            Err(StoreError::Failed(_)) if self.log.read(0, 1).await?.kept_after > page.kept_after => {
                return Err(StoreError::Conflict("another process has archived".to_owned()));
            }
            removal => removal?,
        };
        if let Some(onto) = onto {
            onto.put(&events).await?;
        }
        self.archive.take_out(&removal).await?;
        self.metrics.archived.inc_by(events.len() as u64);
        Ok(Archived { events: events.len() as u64, held_back })
    }

    /// Folds events, the oldest of the log, onto the checkpoints that there are.
    async fn removal(&self, after: u64, until: u64, events: &[FeedEvent]) -> StoreResult<Removal> {
        let mut wanted = Selection::default();
        let mut of_products: BTreeMap<Sku, Vec<WireEvent>> = BTreeMap::new();
        for stored in events {
            let event = wire::parse_event(&stored.body).map_err(|error| unreadable(stored, error))?;
            let sku = &event.sku;
            wanted.lines.extend(event.event.line().map(|line| (sku.clone(), line.clone())));
            wanted.batches.extend(event.event.batch().map(|batch| (sku.clone(), batch.clone())));
            of_products.entry(sku.clone()).or_default().push(event);
        }
        wanted.skus.extend(of_products.keys().cloned());
        // Each once: thousands of events may name one batch.
        wanted.lines.sort_unstable();
        wanted.lines.dedup();
        wanted.batches.sort_unstable();
        wanted.batches.dedup();
        let mut bases = BTreeMap::new();
        for checkpoint in self.archive.checkpoints(&wanted).await? {
            let base = Base::of(&checkpoint).map_err(|why| untrue(checkpoint.sku(), why))?;
            bases.insert(checkpoint.sku().clone(), base);
        }
        let mut products = Vec::with_capacity(of_products.len());
        for (sku, events) in of_products {
            let mut base = bases.remove(&sku).unwrap_or_default();
            let former = base.ledger.version;
            for event in events {
                base.fold(event).map_err(|why| untrue(&sku, why))?;
            }
            products.push(Replacement { former, checkpoint: base.checkpoint(&sku) });
        }
        Ok(Removal { after, until, products })
    }
}

fn unreadable(event: &FeedEvent, why: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the event at position {} can't be read: {why}", event.position))
}

fn untrue(sku: &Sku, why: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the log of SKU {sku} can't be archived, as it can't be true: {why}"))
}
