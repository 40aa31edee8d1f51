//! A broker to consume from, as the consumer sees it.

use async_trait::async_trait;
use time::OffsetDateTime;

/// A broker did not do what was asked of it, or is away.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The broker's name for this delivery.
    pub tag: String,
    /// What it came through: a channel, a stream, a queue.
    pub channel: String,
    /// When it was sent, as far as the broker knows.
    pub sent_at: Option<OffsetDateTime>,
    /// What stands beside it.
    pub headers: Vec<(String, String)>,
    /// What it says.
    pub body: Vec<u8>,
}

/// A broker to consume from. One adapter a broker.
///
/// One copy of the program consumes from it at a time, so that messages have their effect in the order in which they were sent.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Its name, in metrics and beside dead letters.
    fn name(&self) -> &'static str;

    /// Begins to consume: what was delivered before and not acknowledged comes again, first.
    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SourceError>;
}

/// Messages of a broker, in order.
#[async_trait]
pub trait Subscription: Send {
    /// The next messages, in order; none when there are none for a while.
    async fn next(&mut self) -> Result<Vec<Delivery>, SourceError>;

    /// These have had their effect, or are kept elsewhere: all that was delivered last.
    async fn acknowledge(&mut self, deliveries: &[Delivery]) -> Result<(), SourceError>;

    /// How many messages wait at the broker, if it can tell.
    async fn waiting(&mut self) -> Result<Option<u64>, SourceError> {
        Ok(None)
    }
}
