//! The event consumer: messages of other services in, commands to the bus.
//!
//! What cannot be used is logged with the reason, counted, and kept as a dead letter.

pub mod redis;

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::commands::ChangeBatchQuantity;
use allocation_domain::{BatchQuantity, BatchRef, Command, Sku};
use allocation_service_layer::Message;
use allocation_service_layer::group_commit::{Commands, HandlerError};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::{Clock, Entropy};
use allocation_service_layer::ports::database::StoreError;
use allocation_service_layer::ports::event_log::{DeadLetter, DeadLetters};
use allocation_service_layer::ports::reader::Reader;
use allocation_service_layer::wire::Cause;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

/// The channel on which others say that a batch holds more or fewer units than was thought.
pub const CHANGE_BATCH_QUANTITY: &str = "change_batch_quantity";

/// How long to wait before a message is tried again while the store is away.
const PAUSE: Duration = Duration::from_millis(500);

/// Turns messages into commands, whatever broker they come from.
#[derive(Clone)]
pub struct Consumer {
    /// The bus.
    pub commands: Arc<dyn Commands>,
    /// Finds the products of a shipment.
    pub reader: Arc<dyn Reader>,
    /// Where unusable messages go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Tells when a message came.
    pub clock: Arc<dyn Clock>,
    /// Names messages.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Metrics,
}

/// `{"batchref", "qty"}`; with `"sku"` where several SKUs share the reference.
#[derive(Deserialize)]
struct QuantityMessage {
    batchref: String,
    qty: u64,
    #[serde(default)]
    sku: Option<String>,
}

enum Trouble {
    /// Will never work.
    Unusable(String),
    /// May work later.
    Passing(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Passing(error.to_string())
    }
}

impl Consumer {
    /// Handles one message to the end: it has its effect, or it is a dead letter. While the store is away, it waits, unless told to stop.
    pub async fn consume(&self, channel: &str, body: &[u8], stop: &CancellationToken) {
        loop {
            let trouble = match self.handle(channel, body).await {
                Ok(()) => {
                    self.metrics.consumed.inc();
                    return;
                }
                Err(Trouble::Unusable(reason)) => match self.bury(channel, body, &reason).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                },
                Err(Trouble::Passing(why)) => why,
            };
            tracing::warn!(channel, %trouble, "a message has to wait");
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    async fn handle(&self, channel: &str, body: &[u8]) -> Result<(), Trouble> {
        if channel != CHANGE_BATCH_QUANTITY {
            return Err(Trouble::Unusable(format!("nothing is known of channel {channel}")));
        }
        let unusable = |error: &dyn std::fmt::Display| Trouble::Unusable(error.to_string());
        let message: QuantityMessage = serde_json::from_slice(body).map_err(|error| unusable(&error))?;
        let reference = BatchRef::new(message.batchref).map_err(|error| unusable(&format!("batchref {error}")))?;
        let qty = BatchQuantity::new(message.qty).map_err(|error| unusable(&format!("qty {error}")))?;
        let sku = match message.sku {
            Some(sku) => Sku::new(sku).map_err(|error| unusable(&format!("sku {error}")))?,
            None => self.only_sku_of(&reference).await?,
        };
        let cause = Cause {
            correlation: self.entropy.uuid(self.clock.now()).to_string().into(),
            actor: format!("consumer:{channel}").into(),
            traceparent: None,
        };
        let command = Command::ChangeBatchQuantity(ChangeBatchQuantity { sku, reference, qty });
        match self.commands.handle(Message::new(command, cause)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(rejection)) => Err(unusable(&rejection)),
            Err(HandlerError::Store(StoreError::Failed(why))) => Err(Trouble::Unusable(why)),
            Err(passing) => Err(Trouble::Passing(passing.to_string())),
        }
    }

    async fn only_sku_of(&self, reference: &BatchRef) -> Result<Sku, Trouble> {
        let mut skus = self.reader.skus_of(reference).await?;
        match (skus.pop(), skus.len()) {
            (Some(sku), 0) => Ok(sku),
            (None, _) => Err(Trouble::Unusable(format!("unknown batch {reference}"))),
            (Some(_), others) => Err(Trouble::Unusable(format!(
                "batch {reference} has {} SKUs, and the message does not say which is meant",
                others + 1
            ))),
        }
    }

    async fn bury(&self, channel: &str, body: &[u8], reason: &str) -> Result<(), StoreError> {
        let body = String::from_utf8_lossy(body).replace('\0', "\u{fffd}");
        tracing::warn!(channel, reason, body, "message can't be used");
        let letter =
            DeadLetter { received_at: self.clock.now(), channel: channel.to_owned(), body, reason: reason.to_owned() };
        self.dead_letters.bury(&letter).await?;
        self.metrics.dead_letters.inc();
        Ok(())
    }
}
