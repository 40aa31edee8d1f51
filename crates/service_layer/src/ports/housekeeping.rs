//! What a store has to be told to forget.

use std::time::Duration;

use async_trait::async_trait;

use super::database::{KeyOf, StoreResult};

/// Keeps a store from growing with what nobody needs any more.
#[async_trait]
pub trait Housekeeping: Send + Sync + 'static {
    /// Forgets names of requests or of messages that were remembered longer ago than this, and says how many they were.
    async fn forget_keys(&self, of: KeyOf, age: Duration) -> StoreResult<u64>;

    /// Forgets whose holds those were that were to end longer ago than this, as far as it was not told of their end, and says how many they were.
    async fn forget_holds(&self, age: Duration) -> StoreResult<u64>;
}
