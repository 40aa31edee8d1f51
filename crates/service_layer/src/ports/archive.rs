//! Taking old events out of the log, and what is kept in their place.

use allocation_domain::{BatchRef, LineKey, Sku};
use async_trait::async_trait;

use super::database::{NotedBalances, Selection, StoreResult};
use super::event_log::FeedEvent;

/// What a product's archived events came to, as a store keeps it: where its other events are folded on from.
///
/// [`crate::checkpoint`] writes and reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event that was archived, and what the product's batches came to by it.
    pub balances: NotedBalances,
    /// What it says of the product itself.
    pub head: String,
    /// What it says of batches.
    pub batches: Vec<(BatchRef, String)>,
    /// What it says of lines.
    pub lines: Vec<(LineKey, String)>,
}

impl Checkpoint {
    /// The product.
    pub fn sku(&self) -> &Sku {
        &self.balances.sku
    }

    /// The last event that was archived.
    pub fn sequence(&self) -> u64 {
        self.balances.sequence
    }
}

/// The oldest events of the feed, and what takes their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The position before the first of them.
    pub after: u64,
    /// The position of the last of them.
    pub until: u64,
    /// What becomes of each of their products.
    pub products: Vec<Replacement>,
}

/// A new checkpoint of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The last event that had been archived before; 0: none.
    pub former: u64,
    /// The new one, with the batches and lines that the events name.
    pub checkpoint: Checkpoint,
}

/// Takes events out of the log.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// The checkpoints of these products, with those of their batches and lines that are named. What does not exist is left out.
    async fn checkpoints(&self, wanted: &Selection) -> StoreResult<Vec<Checkpoint>>;

    /// Removes events and puts their checkpoints in place of the former ones, all or nothing. Batches and lines that are not named stay as they were.
    ///
    /// A [`StoreError::Conflict`](super::database::StoreError::Conflict) when the first of them is not the oldest of the feed any more, or a sink has not seen them all.
    async fn take_out(&self, removal: &Removal) -> StoreResult<()>;
}

/// Keeps events that are about to leave the log.
#[async_trait]
pub trait Shelf: Send {
    /// When this returns `Ok`, they are on disk. Some of them may have been put there before.
    async fn put(&mut self, events: &[FeedEvent]) -> StoreResult<()>;
}
