//! An issuer of tokens that gives the keys it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use allocation_service_layer::access::TokenKeys;
use allocation_service_layer::ports::token_keys::{KeysUnavailable, TokenKeySource};
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;

/// An issuer of tokens that gives the keys it is told to, is away, or says nothing.
#[derive(Default)]
pub struct FakeIssuer {
    /// None: it is away.
    keys: Mutex<Option<Value>>,
    asked: AtomicUsize,
    hung: watch::Sender<bool>,
}

impl FakeIssuer {
    /// What it has from now on; none: it is away.
    pub fn has(&self, keys: Option<Value>) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// From now on it does not answer, or does again, those who wait too.
    pub fn hang(&self, hung: bool) {
        self.hung.send_replace(hung);
    }
}

#[async_trait]
impl TokenKeySource for FakeIssuer {
    async fn token_keys(&self) -> Result<TokenKeys, KeysUnavailable> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _ = self.hung.subscribe().wait_for(|hung| !hung).await;
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = keys.ok_or_else(|| KeysUnavailable("told to be away".into()))?;
        TokenKeys::read(keys.to_string().as_bytes()).map_err(|error| KeysUnavailable(error.to_string()))
    }
}
