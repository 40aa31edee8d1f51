//! `RabbitMQ`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};

use super::Broker;
use crate::Attempts;
use crate::servers::RabbitServer;

const PAGE: usize = 1_000;
/// How long nothing may come until there is nothing.
const QUIET: Duration = Duration::from_millis(200);

/// A `RabbitMQ` of whose exchange of events a queue of our own has everything.
pub struct Rabbit {
    /// One of our own; without it, the one that all tests share.
    server: Option<RabbitServer>,
    url: String,
    names: Names,
    /// What kind of queue ours is.
    kind: &'static str,
    live: Option<Live>,
}

/// What is ours on the server.
struct Names {
    exchange: String,
    commands: String,
    queue: String,
}

struct Live {
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
    /// The last event of the last page, which is acknowledged when the next one is asked for: an acknowledgement can't be taken back.
    page: Option<u64>,
}

impl Rabbit {
    /// Starts one in which ours is a classic queue: the kind that one gets who asks for none.
    pub async fn start() -> Self {
        Self::own("classic").await
    }

    /// Starts one in which ours is a quorum queue: the kind that `RabbitMQ` advises for what must not be lost.
    pub async fn quorum() -> Self {
        Self::own("quorum").await
    }

    /// A part, with a classic queue, of the one that all tests of this run share; one of its own where there is none. It must not be harmed.
    pub async fn shared() -> Self {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let Some(url) = RabbitServer::shared() else { return Self::start().await };
        let us = format!("{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
        let ours = |what: &str| format!("test.{us}.{what}");
        let names = Names { exchange: ours("events"), commands: ours("commands"), queue: ours("queue") };
        Self::with(None, url, names, "classic").await
    }

    async fn own(kind: &'static str) -> Self {
        let server = RabbitServer::start().await;
        let (exchange, commands) = ("allocation.events".into(), "allocation.commands".into());
        let (url, names) = (server.url(), Names { exchange, commands, queue: "test".into() });
        Self::with(Some(server), url, names, kind).await
    }

    async fn with(server: Option<RabbitServer>, url: String, names: Names, kind: &'static str) -> Self {
        let mut broker = Self { server, url, names, kind, live: None };
        broker.subscribe().await;
        broker
    }

    fn server(&mut self) -> &mut RabbitServer {
        self.server.as_mut().expect("what others use is not harmed")
    }

    async fn subscribe(&mut self) {
        self.live = None;
        let mut attempts = Attempts::at("RabbitMQ to know our queue");
        while self.live().await.is_err() {
            attempts.again().await;
        }
    }

    async fn connect(&self) -> lapin::Result<Live> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(self.names.exchange.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        let mut of_kind = FieldTable::default();
        of_kind.insert("x-queue-type".into(), AMQPValue::LongString(self.kind.into()));
        for (queue, settings) in [(&self.names.queue, of_kind), (&self.names.commands, FieldTable::default())] {
            channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), settings).await?;
        }
        bind(&channel, &self.names).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.basic_qos(u16::try_from(PAGE).expect("a page is small"), BasicQosOptions::default()).await?;
        let consume = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(self.names.queue.as_str().into(), "test".into(), consume, FieldTable::default())
            .await?;
        Ok(Live { _connection: connection, channel, consumer, page: None })
    }

    async fn live(&mut self) -> lapin::Result<&mut Live> {
        if self.live.as_ref().is_none_or(|live| !live.channel.status().connected()) {
            let connected = tokio::time::timeout(Duration::from_secs(5), self.connect()).await;
            self.live =
                Some(connected.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))?);
        }
        Ok(self.live.as_mut().expect("it was just made"))
    }

    async fn page(&mut self) -> lapin::Result<Vec<String>> {
        let live = self.live().await?;
        if let Some(last) = live.page.take() {
            live.channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
        }
        let mut page = Vec::new();
        while page.len() < PAGE
            && let Ok(Some(delivery)) = tokio::time::timeout(QUIET, live.consumer.next()).await
        {
            let delivery = delivery?;
            live.page = Some(delivery.delivery_tag);
            page.push(String::from_utf8(delivery.data).expect("an event is text"));
        }
        Ok(page)
    }

    async fn publish(&mut self, messages: &[String]) -> lapin::Result<bool> {
        let commands = self.names.commands.clone();
        let live = self.live().await?;
        let mut sent = Vec::new();
        for message in messages {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_content_type("application/cloudevents+json".into());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let publish = live.channel.basic_publish(
                "".into(),
                commands.as_str().into(),
                options,
                message.as_bytes(),
                properties,
            );
            sent.push(publish.await?);
        }
        let mut all = true;
        for confirmation in sent {
            let confirmation = confirmation.await?;
            all &= confirmation.is_ack() && confirmation.take_message().is_none();
        }
        Ok(all)
    }
}

async fn bind(channel: &Channel, Names { exchange, queue, .. }: &Names) -> lapin::Result<()> {
    let (queue, exchange, everything) = (queue.as_str().into(), exchange.as_str().into(), "#".into());
    channel.queue_bind(queue, exchange, everything, QueueBindOptions::default(), FieldTable::default()).await
}

#[async_trait]
impl Broker for Rabbit {
    fn environment(&self) -> Vec<(String, String)> {
        let Names { exchange, commands, .. } = &self.names;
        vec![
            ("AMQP_URL".into(), self.url.clone()),
            ("AMQP_EXCHANGE".into(), exchange.clone()),
            ("AMQP_COMMANDS".into(), commands.clone()),
        ]
    }

    async fn send(&mut self, messages: &[String]) -> bool {
        let taken = self.publish(messages).await;
        if taken.is_err() {
            self.live = None;
        }
        taken.unwrap_or(false)
    }

    async fn next(&mut self) -> Vec<String> {
        let page = self.page().await;
        if page.is_err() {
            self.live = None;
        }
        page.unwrap_or_default()
    }

    async fn redeliver(&mut self) {
        self.subscribe().await;
    }

    fn take_away(&mut self) {
        self.server().take_away();
    }

    async fn bring_back(&mut self) {
        self.server().bring_back().await;
    }

    fn kill(&mut self) {
        self.server().kill();
    }

    async fn forget(&mut self) {
        self.server().forget().await;
        self.subscribe().await;
    }

    fn pause(&mut self) {
        self.server().pause();
    }

    fn resume(&mut self) {
        self.server().resume();
    }

    async fn fill(&mut self) {
        self.server().limit_memory(0.000_01);
    }

    async fn drain(&mut self) {
        self.server().limit_memory(0.4);
    }

    async fn refuse(&mut self) {
        let (queue, exchange) = (self.names.queue.clone(), self.names.exchange.clone());
        let live = self.live().await.expect("RabbitMQ is there");
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        let unbound = live.channel.queue_unbind(queue, exchange, "#".into(), FieldTable::default());
        unbound.await.expect("it was bound");
    }

    async fn accept(&mut self) {
        let live = self.live().await.expect("RabbitMQ is there");
        let channel = live.channel.clone();
        bind(&channel, &self.names).await.expect("there is an exchange");
    }
}
