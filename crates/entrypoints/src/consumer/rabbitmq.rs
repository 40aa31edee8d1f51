//! Consumes from a RabbitMQ queue, acknowledging by hand.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer, runtime};
use time::OffsetDateTime;

use super::{Delivery, Source, SourceError, Subscription};

/// The most messages in a page, and on their way.
const PAGE: u16 = 512;
/// How long to wait for a message before saying that there is none.
const WAIT: Duration = Duration::from_secs(1);
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A queue of commands.
pub struct RabbitSource {
    url: String,
    tls: OwnedTLSConfig,
    queue: String,
}

impl RabbitSource {
    /// Consumes this queue at this URL (`amqp://user:password@host:port/vhost`, or `amqps://` with TLS); it is made if it is not there.
    pub fn new(url: &str, tls: OwnedTLSConfig, queue: &str) -> Self {
        Self { url: url.to_owned(), tls, queue: queue.to_owned() }
    }

    async fn connect(&self) -> Result<Box<dyn Subscription>, SourceError> {
        let runtime = runtime::default_runtime().map_err(failed)?;
        let properties = ConnectionProperties::default();
        let connection = Connection::connect_with_config(&self.url, properties, self.tls.clone(), runtime);
        let connection = connection.await.map_err(failed)?;
        let known = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let mut channel = connection.create_channel().await.map_err(failed)?;
        if channel.queue_declare(self.queue.as_str().into(), known, FieldTable::default()).await.is_err() {
            // Asking for a queue that is not there has cost us the channel.
            channel = connection.create_channel().await.map_err(failed)?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(self.queue.as_str().into(), durable, FieldTable::default()).await.map_err(failed)?;
        }
        channel.basic_qos(PAGE, BasicQosOptions::default()).await.map_err(failed)?;
        // Alone: what another copy of the program has not acknowledged comes back only when the broker has seen it go.
        let alone = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(self.queue.as_str().into(), "allocation".into(), alone, FieldTable::default());
        let consumer = consumer.await.map_err(failed)?;
        Ok(Box::new(Consuming { queue: self.queue.clone(), _connection: connection, channel, consumer }))
    }
}

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError(format!("RabbitMQ: {error}"))
}

#[async_trait]
impl Source for RabbitSource {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SourceError> {
        tokio::time::timeout(PATIENCE, self.connect()).await.map_err(failed)?
    }
}

struct Consuming {
    queue: String,
    /// Dropped, it is closed.
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

fn delivery(queue: &str, message: lapin::message::Delivery) -> Delivery {
    let properties = &message.properties;
    let mut headers = Vec::new();
    let known = [
        ("message_id", properties.message_id()),
        ("content_type", properties.content_type()),
        ("correlation_id", properties.correlation_id()),
        ("type", properties.kind()),
    ];
    for (name, value) in known {
        headers.extend(value.as_ref().map(|value| (name.to_owned(), value.to_string())));
    }
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        let text = value.as_long_string().map_or_else(|| format!("{value:?}"), ToString::to_string);
        headers.push((name.to_string(), text));
    }
    let sent = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    Delivery {
        tag: message.delivery_tag.to_string(),
        channel: queue.to_owned(),
        sent_at: sent.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()),
        headers,
        body: message.data,
    }
}

#[async_trait]
impl Subscription for Consuming {
    async fn next(&mut self) -> Result<Vec<Delivery>, SourceError> {
        let mut page = Vec::new();
        let Ok(mut message) = tokio::time::timeout(WAIT, self.consumer.next()).await else { return Ok(page) };
        loop {
            let closed = || SourceError("RabbitMQ closed the channel".into());
            page.push(delivery(&self.queue, message.ok_or_else(closed)?.map_err(failed)?));
            if page.len() >= usize::from(PAGE) {
                break;
            }
            // Whatever has come by now.
            let Some(more) = self.consumer.next().now_or_never() else { break };
            message = more;
        }
        Ok(page)
    }

    async fn acknowledge(&mut self, deliveries: &[Delivery]) -> Result<(), SourceError> {
        let Some(last) = deliveries.last().and_then(|last| last.tag.parse().ok()) else { return Ok(()) };
        self.channel.basic_ack(last, BasicAckOptions { multiple: true }).await.map_err(failed)?;
        Ok(())
    }

    async fn waiting(&mut self) -> Result<Option<u64>, SourceError> {
        let known = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(self.queue.as_str().into(), known, FieldTable::default());
        Ok(Some(queue.await.map_err(failed)?.message_count().into()))
    }
}
