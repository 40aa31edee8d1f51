//! NATS `JetStream`.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config as PullConfig;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use futures_util::StreamExt;

use super::Broker;
use crate::Attempts;
use crate::servers::NatsServer;

const EVENTS: &str = "allocation-events";
const COMMANDS: &str = "allocation-commands";
const BALLAST: &str = "ballast";
const CONSUMER: &str = "test";
/// Enough for every test, and soon full.
const STORE: u64 = 64 << 20;

/// A NATS whose stream of events a consumer of our own reads.
pub struct Nats {
    server: NatsServer,
    context: Context,
    /// The place of the first event of the last page.
    page: Option<u64>,
    /// The place of the last event that was acknowledged.
    acknowledged: u64,
    /// Whether events may be on their way to a page that failed: they would come again after newer ones.
    unsure: bool,
}

fn stream(name: &str, subject: &str) -> Config {
    Config {
        name: name.into(),
        subjects: vec![subject.into()],
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_mins(2),
        ..Config::default()
    }
}

impl Nats {
    /// Starts one.
    pub async fn start() -> Self {
        let server = NatsServer::with_store(STORE).await;
        let options = async_nats::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(50));
        let client = options.connect(server.url()).await.expect("NATS is there");
        let mut context = jetstream::new(client);
        context.set_timeout(Duration::from_secs(5));
        let mut broker = Self { server, context, page: None, acknowledged: 0, unsure: false };
        broker.subscribe().await;
        broker
    }

    async fn subscribe(&mut self) {
        self.consume_from(None).await;
    }

    /// Has our consumer begin at this place, or at the first event.
    async fn consume_from(&mut self, place: Option<u64>) {
        let mut attempts = Attempts::at("NATS to know our consumer");
        while self.consume(place).await.is_err() {
            attempts.again().await;
        }
    }

    async fn consume(&self, place: Option<u64>) -> Result<(), async_nats::Error> {
        let deliver_policy =
            place.map_or(DeliverPolicy::All, |start_sequence| DeliverPolicy::ByStartSequence { start_sequence });
        let config = PullConfig {
            durable_name: Some(CONSUMER.into()),
            ack_policy: AckPolicy::All,
            // What was not acknowledged when the broker died comes again soon.
            ack_wait: Duration::from_secs(2),
            max_ack_pending: 20_000,
            deliver_policy,
            ..PullConfig::default()
        };
        let events = self.context.get_or_create_stream(stream(EVENTS, "allocation.events.>")).await?;
        // There may be none yet.
        let _ = events.delete_consumer(CONSUMER).await;
        events.create_consumer(config).await?;
        Ok(())
    }

    async fn page(&mut self) -> Result<Vec<String>, async_nats::Error> {
        if self.unsure {
            self.consume(Some(self.acknowledged + 1)).await?;
            self.unsure = false;
        }
        let consumer: PullConsumer = self.context.get_consumer_from_stream(CONSUMER, EVENTS).await?;
        let mut messages = consumer.fetch().max_messages(1_000).messages().await?;
        let (mut page, mut first, mut last) = (Vec::new(), None, None);
        while let Some(message) = messages.next().await {
            let message = message?;
            first = first.or(Some(message.info()?.stream_sequence));
            page.push(String::from_utf8(message.payload.to_vec())?);
            last = Some(message);
        }
        if let Some(last) = last {
            last.double_ack().await?;
            self.acknowledged = last.info()?.stream_sequence;
            self.page = first;
        }
        Ok(page)
    }

    /// Publishes commands without the header by which NATS would pass over those that come twice: that is for the program to do.
    async fn publish(&self, messages: &[String]) -> Result<(), async_nats::Error> {
        self.context.get_or_create_stream(stream(COMMANDS, "allocation.commands")).await?;
        let mut sent = Vec::new();
        for message in messages {
            sent.push(self.context.publish("allocation.commands", message.clone().into()).await?);
        }
        for acknowledgement in sent {
            acknowledgement.await?;
        }
        Ok(())
    }

    async fn set_message_size(&mut self, most: i32) {
        let mut events = self.context.get_stream(EVENTS).await.expect("a stream of events");
        let mut config = events.info().await.expect("a stream of events").config.clone();
        config.max_message_size = most;
        self.context.update_stream(config).await.expect("NATS changes it");
    }
}

#[async_trait]
impl Broker for Nats {
    fn environment(&self) -> Vec<(String, String)> {
        vec![("NATS_URL".into(), self.server.url())]
    }

    async fn send(&mut self, messages: &[String]) -> bool {
        self.publish(messages).await.is_ok()
    }

    async fn next(&mut self) -> Vec<String> {
        let page = self.page().await;
        self.unsure |= page.is_err();
        page.unwrap_or_default()
    }

    async fn redeliver(&mut self) {
        if let Some(first) = self.page.take() {
            self.consume_from(Some(first)).await;
        }
    }

    fn take_away(&mut self) {
        self.server.take_away();
    }

    async fn bring_back(&mut self) {
        self.server.bring_back().await;
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    async fn forget(&mut self) {
        self.server.forget().await;
        self.acknowledged = 0;
        self.subscribe().await;
    }

    fn pause(&mut self) {
        self.server.pause();
    }

    fn resume(&mut self) {
        self.server.resume();
    }

    async fn fill(&mut self) {
        let ballast = stream(BALLAST, BALLAST);
        self.context.get_or_create_stream(ballast).await.expect("a stream of ballast");
        for size in [512 << 10, 8 << 10, 256] {
            let heavy = || vec![b'x'; size].into();
            while let Ok(acknowledgement) = self.context.publish(BALLAST, heavy()).await {
                if acknowledgement.await.is_err() {
                    break;
                }
            }
        }
    }

    async fn drain(&mut self) {
        self.context.delete_stream(BALLAST).await.expect("there is ballast");
    }

    async fn refuse(&mut self) {
        self.set_message_size(1).await;
    }

    async fn accept(&mut self) {
        self.set_message_size(-1).await;
    }
}
