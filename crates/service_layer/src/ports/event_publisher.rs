//! The external message bus, as a place to publish to.

use async_trait::async_trait;

use super::event_log::FeedEvent;

/// A broker or mail server did not take what we gave it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeliveryError(pub String);

/// Publishes events to an external bus. One adapter a broker.
#[async_trait]
pub trait EventPublisher: Send + Sync + 'static {
    /// Its name among the sinks; its progress is kept under it.
    fn name(&self) -> &'static str;

    /// Publishes these in order. After an error all of them are published again, so consumers see each at least once.
    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError>;
}
