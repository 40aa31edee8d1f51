//! Redis as an external message bus: channels, heard by who listens at the moment, and a stream, which keeps what it is given.

mod stream;

use std::borrow::Cow;
use std::time::Duration;

use allocation_service_layer::ports::event_log::FeedEvent;
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::wire;
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub use self::stream::{RedisStream, StreamSettings};

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that is made when it is needed, and anew after a failure.
struct Link {
    client: redis::Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    fn new(client: redis::Client) -> Self {
        Self { client, connection: Mutex::default() }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, DeliveryError> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)
    }

    /// Has these commands carried out.
    async fn ask<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, DeliveryError> {
        let mut connection = self.connection.lock().await;
        let mut live = match connection.take() {
            Some(live) => live,
            None => self.connect().await?,
        };
        let answer = commands.query_async(&mut live).await.map_err(failed)?;
        // One that failed, or was not waited for, is not used again.
        *connection = Some(live);
        Ok(answer)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
fn failed(error: redis::RedisError) -> DeliveryError {
    DeliveryError(format!("Redis: {error}"))
}

/// Publishes each event on the channel of its kind.
pub struct RedisPublisher(Link);

/// `line_allocated` as it is stored.
#[derive(Deserialize)]
struct Stored {
    subject: String,
    data: Placement,
}

#[derive(Deserialize)]
struct Placement {
    order_id: String,
    qty: u64,
    r#ref: String,
}

/// `line_allocated` as consumers of the Python original know it.
#[derive(Serialize)]
struct LineAllocated<'a> {
    orderid: &'a str,
    sku: &'a str,
    qty: u64,
    batchref: &'a str,
}

impl RedisPublisher {
    /// Publishes to this Redis ([`Trust::redis`](crate::tls::Trust::redis)). Connects when there is something to publish.
    pub fn new(client: redis::Client) -> Self {
        Self(Link::new(client))
    }
}

/// The channel an event goes to, and what is said there.
///
/// # Errors
/// When the stored text is no event.
pub fn publication(stored: &FeedEvent) -> Result<(String, Cow<'_, str>), DeliveryError> {
    let bad = |error: &dyn std::fmt::Display| DeliveryError(error.to_string());
    let envelope = wire::envelope(&stored.body).map_err(|error| bad(&error))?;
    let topic = envelope.topic().to_owned();
    if topic != "line_allocated" {
        return Ok((topic, Cow::Borrowed(&stored.body)));
    }
    let Stored { subject, data } = serde_json::from_str(&stored.body).map_err(|error| bad(&error))?;
    let message = LineAllocated { orderid: &data.order_id, sku: &subject, qty: data.qty, batchref: &data.r#ref };
    let message = serde_json::to_string(&message).map_err(|error| bad(&error))?;
    Ok((topic, Cow::Owned(message)))
}

#[async_trait]
impl EventPublisher for RedisPublisher {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError> {
        let mut commands = redis::pipe();
        for event in events {
            let (channel, body) = publication(event)?;
            commands.publish(channel, &*body).ignore();
        }
        self.0.ask(&commands).await
    }
}
