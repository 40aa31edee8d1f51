//! Redis pub/sub as an external message bus.

use std::time::Duration;

use allocation_domain::Event;
use allocation_service_layer::ports::event_log::FeedEvent;
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::wire;
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use serde::Serialize;
use tokio::sync::Mutex;

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes each event on the channel of its kind.
pub struct RedisPublisher {
    client: redis::Client,
    connection: Mutex<Option<MultiplexedConnection>>,
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
    /// Publishes to this URL (`redis://host:port/`). Connects when there is something to publish.
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn new(url: &str) -> Result<Self, DeliveryError> {
        Ok(Self { client: redis::Client::open(url).map_err(failed)?, connection: Mutex::default() })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, DeliveryError> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
fn failed(error: redis::RedisError) -> DeliveryError {
    DeliveryError(format!("Redis: {error}"))
}

/// The channel an event goes to, and what is said there.
///
/// # Errors
/// When the stored text is no event this program knows.
pub fn publication(stored: &FeedEvent) -> Result<(&'static str, String), DeliveryError> {
    let wire = wire::parse_event(&stored.body).map_err(|error| DeliveryError(error.to_string()))?;
    let body = match &wire.event {
        Event::Allocated { line, qty, reference, .. } => {
            let message = LineAllocated {
                orderid: line.order_id.as_str(),
                sku: wire.sku.as_str(),
                qty: qty.units(),
                batchref: reference.as_str(),
            };
            serde_json::to_string(&message).map_err(|error| DeliveryError(error.to_string()))?
        }
        _ => stored.body.clone(),
    };
    Ok((wire::topic(&wire.event), body))
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
            commands.publish(channel, body).ignore();
        }
        let mut connection = self.connection.lock().await;
        if connection.is_none() {
            *connection = Some(self.connect().await?);
        }
        let Some(live) = connection.as_mut() else { return Err(DeliveryError("Redis: not connected".into())) };
        let published = commands.query_async::<()>(live).await.map_err(failed);
        if published.is_err() {
            *connection = None;
        }
        published
    }
}
