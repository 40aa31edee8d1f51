//! `RabbitMQ`.

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

const EXCHANGE: &str = "allocation.events";
const COMMANDS: &str = "allocation.commands";
const QUEUE: &str = "test";
const PAGE: usize = 1_000;
/// How long nothing may come until there is nothing.
const QUIET: Duration = Duration::from_millis(200);

/// A `RabbitMQ` of whose exchange of events a queue of our own has everything.
pub struct Rabbit {
    server: RabbitServer,
    /// What kind of queue ours is.
    kind: &'static str,
    live: Option<Live>,
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
        Self::with("classic").await
    }

    /// Starts one in which ours is a quorum queue: the kind that `RabbitMQ` advises for what must not be lost.
    pub async fn quorum() -> Self {
        Self::with("quorum").await
    }

    async fn with(kind: &'static str) -> Self {
        let mut broker = Self { server: RabbitServer::start().await, kind, live: None };
        broker.subscribe().await;
        broker
    }

    async fn subscribe(&mut self) {
        self.live = None;
        let mut attempts = Attempts::at("RabbitMQ to know our queue");
        while self.live().await.is_err() {
            attempts.again().await;
        }
    }

    async fn connect(&self) -> lapin::Result<Live> {
        let connection = Connection::connect(&self.server.url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        let mut of_kind = FieldTable::default();
        of_kind.insert("x-queue-type".into(), AMQPValue::LongString(self.kind.into()));
        for (queue, settings) in [(QUEUE, of_kind), (COMMANDS, FieldTable::default())] {
            channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), settings).await?;
        }
        bind(&channel).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.basic_qos(u16::try_from(PAGE).expect("a page is small"), BasicQosOptions::default()).await?;
        let consume = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(QUEUE.into(), "test".into(), consume, FieldTable::default()).await?;
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
        let live = self.live().await?;
        let mut sent = Vec::new();
        for message in messages {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_content_type("application/cloudevents+json".into());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let publish =
                live.channel.basic_publish("".into(), COMMANDS.into(), options, message.as_bytes(), properties);
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

async fn bind(channel: &Channel) -> lapin::Result<()> {
    let everything = "#".into();
    channel
        .queue_bind(QUEUE.into(), EXCHANGE.into(), everything, QueueBindOptions::default(), FieldTable::default())
        .await
}

#[async_trait]
impl Broker for Rabbit {
    fn environment(&self) -> Vec<(String, String)> {
        vec![("AMQP_URL".into(), self.server.url())]
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
        self.subscribe().await;
    }

    fn pause(&mut self) {
        self.server.pause();
    }

    fn resume(&mut self) {
        self.server.resume();
    }

    async fn fill(&mut self) {
        self.server.limit_memory(0.000_01);
    }

    async fn drain(&mut self) {
        self.server.limit_memory(0.4);
    }

    async fn refuse(&mut self) {
        let live = self.live().await.expect("RabbitMQ is there");
        let unbound = live.channel.queue_unbind(QUEUE.into(), EXCHANGE.into(), "#".into(), FieldTable::default());
        unbound.await.expect("it was bound");
    }

    async fn accept(&mut self) {
        let live = self.live().await.expect("RabbitMQ is there");
        bind(&live.channel).await.expect("there is an exchange");
    }
}
