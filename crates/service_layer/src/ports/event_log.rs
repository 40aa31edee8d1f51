//! The event log as its readers see it: positions, progress of each sink, who may relay.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::database::StoreResult;

/// An event with its place in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// Its place: rises without a gap, is given after the commit, and never changes.
    pub position: u64,
    /// The event as it was stored.
    pub body: String,
}

/// A piece of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedPage {
    /// The position before the oldest event that is kept; 0 when nothing was ever removed.
    pub kept_after: u64,
    /// Events in order of position.
    pub events: Vec<FeedEvent>,
}

/// How far a sink has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The sink.
    pub name: String,
    /// The last position that it has seen or passed over.
    pub position: u64,
}

/// Reads the event log and keeps the books of who has read how far.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Gives positions to events committed since the last call, at most about `limit`, and says how many. Those of one SKU get theirs in
    /// order. A store whose events are numbered as they are committed has nothing to do.
    async fn number(&self, limit: usize) -> StoreResult<usize>;

    /// Events after a position, in order.
    async fn read(&self, after: u64, limit: usize) -> StoreResult<FeedPage>;

    /// The position of the last event, 0 when there is none.
    async fn last_position(&self) -> StoreResult<u64>;

    /// How far a sink has got; 0 for a new one.
    async fn progress(&self, sink: &str) -> StoreResult<u64>;

    /// A sink has got as far as `position`. `false`: there is no such sink, any more.
    async fn advance(&self, sink: &str, position: u64) -> StoreResult<bool>;

    /// Every sink that there is a book of.
    async fn sinks(&self) -> StoreResult<Vec<Progress>>;

    /// Makes a new sink known, which begins after this position; a known one stays where it is. `true`: it is new.
    async fn introduce(&self, sink: &str, position: u64) -> StoreResult<bool>;

    /// Closes the book of a sink. `false` when there was none.
    async fn forget(&self, sink: &str) -> StoreResult<bool>;

    /// Takes or keeps the right to do `task` until `now + ttl`. `false` while another holder has it.
    async fn lease(&self, task: &str, holder: &str, ttl: Duration) -> StoreResult<bool>;

    /// Gives the right back.
    async fn release(&self, task: &str, holder: &str) -> StoreResult<()>;

    /// When the last mail about this subject went out.
    async fn last_notified(&self, subject: &str) -> StoreResult<Option<OffsetDateTime>>;

    /// A mail about this subject went out.
    async fn set_notified(&self, subject: &str, at: OffsetDateTime) -> StoreResult<()>;
}
