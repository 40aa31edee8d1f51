//! Consumes from NATS `JetStream`, by a durable pull consumer.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::stream::{self, RetentionPolicy, Stream};
use async_nats::jetstream::{self, AckKind, Message};
use async_trait::async_trait;
use futures_util::StreamExt;

use super::{Delivery, Source, SourceError, Subscription};

/// The most messages in a page, and on their way.
const PAGE: u16 = 512;
/// How long to wait for a message before saying that there is none.
const WAIT: Duration = Duration::from_secs(1);
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The durable consumer.
const CONSUMER: &str = "allocation";
/// For how long the broker leaves a message with a consumer that says nothing. A consumer that died does not wait for that: see [`taken_over`].
const GIVEN_UP: Duration = Duration::from_mins(30);

/// A stream of commands.
pub struct NatsSource {
    url: String,
    options: ConnectOptions,
    stream: String,
    subject: String,
}

impl NatsSource {
    /// Consumes this stream at this URL (`nats://host:port`), connecting as `options` say; it is made with this subject if it is not there.
    pub fn new(url: &str, options: ConnectOptions, stream: &str, subject: &str) -> Self {
        let options = options.connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
        Self { url: url.to_owned(), options, stream: stream.to_owned(), subject: subject.to_owned() }
    }
}

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError(format!("NATS: {error}"))
}

#[async_trait]
impl Source for NatsSource {
    fn name(&self) -> &'static str {
        "nats"
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SourceError> {
        let client = self.options.clone().connect(&self.url).await.map_err(failed)?;
        let jetstream = jetstream::new(client);
        let wanted = stream::Config {
            name: self.stream.clone(),
            subjects: vec![self.subject.clone()],
            retention: RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        };
        let mut stream = jetstream.get_or_create_stream(wanted).await.map_err(failed)?;
        let consumer = taken_over(&mut stream).await?;
        Ok(Box::new(Pulling { consumer, unacknowledged: Vec::new(), last: None }))
    }
}

fn consumer(deliver_policy: DeliverPolicy) -> Config {
    Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: GIVEN_UP,
        max_ack_pending: PAGE.into(),
        deliver_policy,
        ..Config::default()
    }
}

/// The durable consumer, with nothing on its way to another copy of the program: what that had not acknowledged would come again after newer messages. So a
/// consumer that has left something begins again where its acknowledgements end.
async fn taken_over(stream: &mut Stream) -> Result<PullConsumer, SourceError> {
    let retention = stream.info().await.map_err(failed)?.config.retention;
    let mut known = match stream.get_or_create_consumer(CONSUMER, consumer(DeliverPolicy::All)).await {
        Ok(known) => known,
        Err(error) => return Err(failed(error)),
    };
    let (pending, floor) = {
        let info = known.info().await.map_err(failed)?;
        (info.num_ack_pending, info.ack_floor.stream_sequence)
    };
    if pending == 0 {
        return Ok(known);
    }
    stream.delete_consumer(CONSUMER).await.map_err(failed)?;
    // A work queue keeps just what was not acknowledged, and has a consumer take it from the beginning.
    let from = match retention {
        RetentionPolicy::WorkQueue => DeliverPolicy::All,
        _ => DeliverPolicy::ByStartSequence { start_sequence: floor + 1 },
    };
    stream.create_consumer(consumer(from)).await.map_err(failed)
}

struct Pulling {
    consumer: PullConsumer,
    /// What was delivered last.
    unacknowledged: Vec<Message>,
    /// The number of the last delivery: a gap after it is a message that was lost on its way, which those behind it must not overtake.
    last: Option<u64>,
}

#[async_trait]
impl Subscription for Pulling {
    async fn next(&mut self) -> Result<Vec<Delivery>, SourceError> {
        let mut page = Vec::new();
        let first = async {
            let mut first = self.consumer.batch().max_messages(1).expires(WAIT).messages().await.map_err(failed)?;
            first.next().await.transpose().map_err(failed)
        };
        let Some(first) = tokio::time::timeout(WAIT + PATIENCE, first).await.map_err(failed)?? else {
            return Ok(Vec::new());
        };
        page.push(first);
        // And whatever is there beside it.
        let rest = async {
            let mut rest =
                self.consumer.fetch().max_messages(usize::from(PAGE) - 1).messages().await.map_err(failed)?;
            while let Some(message) = rest.next().await {
                page.push(message.map_err(failed)?);
            }
            Ok::<_, SourceError>(())
        };
        tokio::time::timeout(PATIENCE, rest).await.map_err(failed)??;
        let last = &mut self.last;
        let delivered = page.iter().map(|message| {
            let info = message.info().map_err(failed)?;
            let number = info.consumer_sequence;
            if last.replace(number).is_some_and(|last| number != last + 1) {
                return Err(SourceError("NATS: a message was lost on its way".into()));
            }
            let headers = message.headers.iter().flat_map(|headers| headers.iter());
            let headers = headers.flat_map(|(name, values)| {
                values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
            });
            Ok(Delivery {
                tag: info.stream_sequence.to_string(),
                channel: message.subject.to_string(),
                sent_at: Some(info.published),
                headers: headers.collect(),
                body: message.payload.to_vec(),
            })
        });
        let deliveries = delivered.collect::<Result<_, SourceError>>()?;
        self.unacknowledged = page;
        Ok(deliveries)
    }

    async fn acknowledge(&mut self, _: &[Delivery]) -> Result<(), SourceError> {
        let mut page = std::mem::take(&mut self.unacknowledged);
        let last = page.pop();
        for message in &page {
            message.ack_with(AckKind::Ack).await.map_err(failed)?;
        }
        // The broker answers the last one, and takes them in order.
        match last {
            Some(last) => last.double_ack().await.map_err(failed),
            None => Ok(()),
        }
    }

    async fn waiting(&mut self) -> Result<Option<u64>, SourceError> {
        let at_hand = self.unacknowledged.len();
        let info = self.consumer.info().await.map_err(failed)?;
        if info.num_ack_pending > at_hand {
            return Err(SourceError("NATS: a message was lost on its way, or an acknowledgement".into()));
        }
        Ok(Some(info.num_pending + info.num_ack_pending as u64))
    }
}
