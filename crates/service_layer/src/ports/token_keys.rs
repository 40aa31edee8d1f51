//! The public keys with which an issuer's tokens are checked.

use async_trait::async_trait;

use crate::access::TokenKeys;

/// The issuer can't be asked, or what it says is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeysUnavailable(pub String);

/// Asks the issuer of tokens for its keys.
#[async_trait]
pub trait TokenKeySource: Send + Sync + 'static {
    /// The keys that it has now. An answer that takes too long is none.
    ///
    /// # Errors
    /// When they can't be had.
    async fn token_keys(&self) -> Result<TokenKeys, KeysUnavailable>;
}
