//! Consumes from Redis pub/sub, as the Python original does. Nobody acknowledges anything there: what is said while nobody listens is lost.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use redis::aio::PubSubStream;

use super::{CHANGE_BATCH_QUANTITY, Delivery, Source, SourceError, Subscription};

/// How long to wait for a message before saying that there is none.
const WAIT: Duration = Duration::from_secs(1);

/// The channels of the original.
pub struct RedisPubSub {
    client: redis::Client,
}

impl RedisPubSub {
    /// Consumes from this Redis.
    pub fn new(client: redis::Client) -> Self {
        Self { client }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
fn failed(error: redis::RedisError) -> SourceError {
    SourceError(format!("Redis: {error}"))
}

#[async_trait]
impl Source for RedisPubSub {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SourceError> {
        let mut subscription = self.client.get_async_pubsub().await.map_err(failed)?;
        subscription.subscribe(CHANGE_BATCH_QUANTITY).await.map_err(failed)?;
        tracing::info!(channel = CHANGE_BATCH_QUANTITY, "subscribed to Redis");
        Ok(Box::new(Listening(subscription.into_on_message())))
    }
}

struct Listening(PubSubStream);

#[async_trait]
impl Subscription for Listening {
    async fn next(&mut self) -> Result<Vec<Delivery>, SourceError> {
        let Ok(message) = tokio::time::timeout(WAIT, self.0.next()).await else { return Ok(Vec::new()) };
        let message = message.ok_or_else(|| SourceError("Redis closed the subscription".into()))?;
        let delivery = Delivery {
            tag: String::new(),
            channel: message.get_channel_name().to_owned(),
            sent_at: None,
            headers: Vec::new(),
            body: message.get_payload_bytes().to_vec(),
        };
        Ok(vec![delivery])
    }

    async fn acknowledge(&mut self, _: &[Delivery]) -> Result<(), SourceError> {
        Ok(())
    }
}
