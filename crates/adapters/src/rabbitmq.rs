//! `RabbitMQ` as an external message bus.

use std::collections::HashSet;
use std::time::Duration;

use allocation_service_layer::metrics::{Metrics, SinkLabels};
use allocation_service_layer::ports::event_log::FeedEvent;
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::wire::{self, Envelope};
use async_trait::async_trait;
use futures_util::future::maybe_done;
use futures_util::poll;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, runtime};
use tokio::sync::Mutex;

use crate::tls::Trust;

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A message that is kept on disk.
const PERSISTENT: u8 = 2;
/// Its name among the sinks.
const NAME: &str = "rabbitmq";

/// What becomes of an event that no queue wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrouted {
    /// It is tried again until one does.
    Wait,
    /// It is counted and passed over.
    Skip,
}

/// Publishes each event under the routing key of its kind, to a topic exchange.
pub struct RabbitPublisher {
    url: String,
    trust: Trust,
    exchange: String,
    unrouted: Unrouted,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// Something was refused, and nothing has been taken whole since.
    careful: bool,
}

/// A connection and its channel.
struct Live {
    connection: Connection,
    channel: Channel,
}

/// What became of some events.
enum Outcome {
    Taken,
    Refused(DeliveryError),
    Broken(DeliveryError),
}

fn failed(error: impl std::fmt::Display) -> DeliveryError {
    DeliveryError(format!("RabbitMQ: {error}"))
}

impl RabbitPublisher {
    /// Publishes to this URL (`amqp://user:password@host:port/vhost`, or `amqps://` with TLS), and makes the exchange if there is none. Connects when there is
    /// something to publish.
    pub fn new(url: &str, trust: &Trust, exchange: &str, unrouted: Unrouted, metrics: Metrics) -> Self {
        let (url, trust, exchange) = (url.to_owned(), trust.clone(), exchange.to_owned());
        Self { url, trust, exchange, unrouted, metrics, state: Mutex::default() }
    }

    async fn connect(&self) -> Result<Live, DeliveryError> {
        let connect = async {
            let named = ConnectionProperties::default().with_connection_name("allocation".into());
            let (tls, runtime) = (self.trust.rabbitmq(), runtime::default_runtime()?);
            let connection = Connection::connect_with_config(&self.url, named, tls, runtime).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let exchange = self.exchange.as_str().into();
            channel.exchange_declare(exchange, ExchangeKind::Topic, durable, FieldTable::default()).await?;
            Ok::<_, lapin::Error>(Live { connection, channel })
        };
        tokio::time::timeout(PATIENCE, connect).await.map_err(failed)?.map_err(failed)
    }

    /// Publishes these, and waits until the broker has answered for each.
    async fn send(&self, live: &Live, events: &[(Envelope<'_>, &FeedEvent)]) -> Outcome {
        let publications = events.iter().map(|(envelope, event)| {
            let properties = BasicProperties::default()
                .with_message_id((&*envelope.id).into())
                .with_content_type("application/cloudevents+json".into())
                .with_delivery_mode(PERSISTENT);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let (exchange, topic) = (self.exchange.as_str().into(), envelope.topic().into());
            Box::pin(maybe_done(live.channel.basic_publish(
                exchange,
                topic,
                options,
                event.body.as_bytes(),
                properties,
            )))
        });
        let mut publications: Vec<_> = publications.collect();
        let answers = async {
            // A publication ends when the connection's thread has written it. Waited for one by one, each costs a write of its own and two switches
            // between threads; so all are begun, in order, before the first is waited for, and a page is a few writes. A page of 1,000 is handed over in 6 ms
            // instead of 25. Where nobody consumes meanwhile, a quorum queue takes 29,000 events/s so instead of 20,000; else the broker is what takes the time.
            for publication in &mut publications {
                let _ = poll!(publication.as_mut());
            }
            let mut answers = Vec::with_capacity(publications.len());
            for publication in &mut publications {
                publication.as_mut().await;
                let sent = publication.as_mut().take_output().expect("it has just ended");
                answers.push(sent?.await?);
            }
            Ok::<_, lapin::Error>(answers)
        };
        match tokio::time::timeout(PATIENCE, answers).await {
            Ok(Ok(answers)) => self.judge(&answers),
            Ok(Err(error)) => Outcome::Broken(failed(error)),
            // They are on their way still, and will be taken when the broker has room.
            Err(_) if live.connection.status().blocked() => Outcome::Refused(failed("has no room, and takes nothing")),
            Err(late) => Outcome::Broken(failed(late)),
        }
    }

    fn judge(&self, answers: &[Confirmation]) -> Outcome {
        let mut unrouted = 0;
        for answer in answers {
            match answer {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => unrouted += 1,
                Confirmation::Nack(_) => return Outcome::Refused(failed("a queue refused an event")),
                Confirmation::NotRequested => return Outcome::Broken(failed("confirms nothing")),
            }
        }
        match self.unrouted {
            _ if unrouted == 0 => Outcome::Taken,
            Unrouted::Wait => Outcome::Refused(failed(format!("no queue wants {unrouted} of the events"))),
            Unrouted::Skip => {
                self.metrics.unrouted.get_or_create(&SinkLabels { sink: NAME }).inc_by(unrouted);
                Outcome::Taken
            }
        }
    }
}

/// How many events, from the first on, concern a product each of their own.
fn apart(events: &[(Envelope<'_>, &FeedEvent)]) -> usize {
    let mut seen = HashSet::new();
    events.iter().take_while(|(envelope, _)| seen.insert(&*envelope.subject)).count()
}

#[async_trait]
impl EventPublisher for RabbitPublisher {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError> {
        let events = wire::envelopes(events).map_err(failed)?;
        let mut state = self.state.lock().await;
        let live = match state.live.take() {
            Some(live) if live.connection.status().connected() && live.channel.status().connected() => live,
            _ => self.connect().await?,
        };
        if live.connection.status().blocked() {
            state.live = Some(live);
            return Err(failed("has no room, and takes nothing"));
        }
        let mut rest = &events[..];
        while !rest.is_empty() {
            // The broker takes the next event though it has refused one. After a refusal, an event waits for the one before it of its product.
            let several = if state.careful { apart(rest) } else { rest.len() };
            match self.send(&live, &rest[..several]).await {
                Outcome::Taken => rest = &rest[several..],
                Outcome::Refused(error) => {
                    (state.live, state.careful) = (Some(live), true);
                    return Err(error);
                }
                Outcome::Broken(error) => return Err(error),
            }
        }
        (state.live, state.careful) = (Some(live), false);
        Ok(())
    }
}
