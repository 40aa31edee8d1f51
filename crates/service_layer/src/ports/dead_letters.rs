//! Where messages go that could not be used.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::database::StoreResult;

/// A message that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// When it came last.
    pub received_at: OffsetDateTime,
    /// The broker it came from.
    pub source: String,
    /// What it came through there.
    pub channel: String,
    /// What stood beside it: names and values, in order.
    pub headers: Vec<(String, String)>,
    /// What it said, byte for byte.
    pub body: Vec<u8>,
    /// Why it could not be used.
    pub reason: String,
}

/// A dead letter that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLetter {
    /// Its number.
    pub id: u64,
    /// How often it was given up.
    pub times: u64,
    /// The letter.
    pub letter: DeadLetter,
}

/// Keeps messages that could not be used until somebody decides what becomes of them.
#[async_trait]
pub trait DeadLetters: Send + Sync + 'static {
    /// Keeps one. The same again (source, channel and body) is the same letter, with the new reason.
    async fn bury(&self, letter: &DeadLetter) -> StoreResult<()>;

    /// Newest first, from the one before `before` on.
    async fn letters(&self, before: Option<u64>, limit: usize) -> StoreResult<Vec<KeptLetter>>;

    /// One of them.
    async fn letter(&self, id: u64) -> StoreResult<Option<KeptLetter>>;

    /// Keeps one no longer. `false`: it was not there.
    async fn drop_letter(&self, id: u64) -> StoreResult<bool>;

    /// How many there are.
    async fn count_letters(&self) -> StoreResult<u64>;
}
