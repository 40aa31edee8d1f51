//! NATS `JetStream` as an external message bus.

use std::time::Duration;

use allocation_service_layer::ports::event_log::FeedEvent;
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::wire::{self, Envelope};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::tls::Trust;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many messages may be on their way without being acknowledged.
const WINDOW: usize = 500;
/// For how long the server knows a message that it has had.
const DUPLICATES: Duration = Duration::from_mins(2);
/// What stands before a topic in its subject.
const SUBJECTS: &str = "allocation.events";

/// Publishes each event on the subject of its kind, into a stream.
pub struct NatsPublisher {
    url: String,
    trust: Trust,
    stream: String,
    context: Mutex<Option<Context>>,
}

fn failed(error: impl std::fmt::Display) -> DeliveryError {
    DeliveryError(format!("NATS: {error}"))
}

impl NatsPublisher {
    /// Publishes to this URL (`nats://host:port`, or `tls://` with TLS), and makes the stream if there is none. Connects when there is something to publish.
    pub fn new(url: &str, trust: &Trust, stream: &str) -> Self {
        Self { url: url.to_owned(), trust: trust.clone(), stream: stream.to_owned(), context: Mutex::default() }
    }

    async fn connect(&self) -> Result<Context, DeliveryError> {
        let (place, options) = self.trust.nats(&self.url);
        let options = options.name("allocation").connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
        let connected = tokio::time::timeout(PATIENCE, options.connect(place)).await;
        let client = connected.map_err(failed)?.map_err(failed)?;
        let context = ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).max_ack_inflight(2 * WINDOW);
        let context = context.build(client);
        let config = Config {
            name: self.stream.clone(),
            subjects: vec![format!("{SUBJECTS}.>")],
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATES,
            ..Config::default()
        };
        context.get_or_create_stream(config).await.map_err(failed)?;
        Ok(context)
    }

    /// Publishes these, and says how many of them, from the first on, the stream has; and why not all.
    ///
    /// Each but the first is taken behind the one before it only: were one refused and the next one taken, their order would be lost.
    async fn window(context: &Context, events: &[(Envelope<'_>, &FeedEvent)]) -> (usize, Option<DeliveryError>) {
        let mut sent = Vec::with_capacity(events.len());
        let mut before: Option<&str> = None;
        let mut failure = None;
        for (envelope, event) in events {
            let mut message = PublishMessage::build().payload(event.body.clone().into()).message_id(&*envelope.id);
            if let Some(before) = before.replace(&envelope.id) {
                message = message.expected_last_message_id(before);
            }
            match context.send_publish(format!("{SUBJECTS}.{}", envelope.topic()), message).await {
                Ok(acknowledgement) => sent.push(acknowledgement),
                Err(error) => {
                    failure = Some(failed(error));
                    break;
                }
            }
        }
        let mut taken = 0;
        for acknowledgement in sent {
            if let Err(error) = acknowledgement.await {
                return (taken, Some(failed(error)));
            }
            taken += 1;
        }
        (taken, failure)
    }
}

#[async_trait]
impl EventPublisher for NatsPublisher {
    fn name(&self) -> &'static str {
        "nats"
    }

    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError> {
        let events = wire::envelopes(events).map_err(failed)?;
        let mut held = self.context.lock().await;
        let context = match held.take() {
            Some(context) => context,
            None => self.connect().await?,
        };
        let mut rest = &events[..];
        while !rest.is_empty() {
            let (taken, failure) = Self::window(&context, &rest[..rest.len().min(WINDOW)]).await;
            match failure {
                // What another process has published meanwhile, or a message that the server had already had, breaks the chain.
                Some(error) if taken == 0 => return Err(error),
                _ => rest = &rest[taken..],
            }
        }
        *held = Some(context);
        Ok(())
    }
}
