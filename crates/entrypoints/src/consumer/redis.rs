//! Consumes from Redis pub/sub.

use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisError;
use tokio_util::sync::CancellationToken;

use super::{CHANGE_BATCH_QUANTITY, Consumer};

/// Pauses between attempts to connect grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A subscription that comes back after every break.
pub struct RedisSource {
    client: redis::Client,
}

impl RedisSource {
    /// Consumes from this URL (`redis://host:port/`).
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn new(url: &str) -> Result<Self, String> {
        redis::Client::open(url).map(|client| Self { client }).map_err(|error| error.to_string())
    }

    /// Consumes until told to stop. The message at hand is handled to its end.
    pub async fn run(&self, consumer: &Consumer, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            match self.subscribed(consumer, stop, &mut pause).await {
                Ok(()) if stop.is_cancelled() => return,
                Ok(()) => tracing::warn!("Redis closed the subscription; connecting again"),
                Err(error) => tracing::warn!(%error, "can't subscribe to Redis; trying again"),
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn subscribed(
        &self,
        consumer: &Consumer,
        stop: &CancellationToken,
        pause: &mut Duration,
    ) -> Result<(), RedisError> {
        let mut subscription = self.client.get_async_pubsub().await?;
        subscription.subscribe(CHANGE_BATCH_QUANTITY).await?;
        tracing::info!(channel = CHANGE_BATCH_QUANTITY, "subscribed to Redis");
        *pause = FIRST_PAUSE;
        let mut messages = subscription.into_on_message();
        while let Some(Some(message)) = stop.run_until_cancelled(messages.next()).await {
            consumer.consume(message.get_channel_name(), message.get_payload_bytes(), stop).await;
        }
        Ok(())
    }
}
