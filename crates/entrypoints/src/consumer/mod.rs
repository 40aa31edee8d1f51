//! The event consumer: messages of other services in, commands to the bus.
//!
//! A page of messages goes to the bus together, in order; each is acknowledged once its effect is on disk, with its own name beside it, so that it acts
//! once however often it comes. What cannot be used, or fails again and again, is kept as a dead letter with the reason. Nothing else is ever dropped.

pub(crate) mod forms;
pub mod nats;
pub mod rabbitmq;
pub mod redis_pubsub;
pub mod redis_streams;
mod source;

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::commands::ChangeBatchQuantity;
use allocation_domain::{BatchQuantity, BatchRef, Command, Rejection, Sku};
use allocation_service_layer::Message;
use allocation_service_layer::failpoints::Failpoint;
use allocation_service_layer::group_commit::{Commands, HandlerError};
use allocation_service_layer::handlers::Verdict;
use allocation_service_layer::metrics::{Metrics, SourceLabels};
use allocation_service_layer::ports::clock::{Clock, Entropy};
use allocation_service_layer::ports::database::StoreError;
use allocation_service_layer::ports::dead_letters::{DeadLetter, DeadLetters, KeptLetter};
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::reader::Reader;
use allocation_service_layer::ports::tracer::{Kind, Span, Traces};
use allocation_service_layer::wire::Cause;
use serde::Deserialize;
pub use source::{Delivery, Source, SourceError, Subscription};
use tokio_util::sync::CancellationToken;

/// The channel on which others say that a batch holds more or fewer units than was thought, as the Python original knows it.
pub const CHANGE_BATCH_QUANTITY: &str = "change_batch_quantity";

/// How long to wait before a message is tried again, while the store is away or after it has failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a message may fail before it is a dead letter. That the store is away or busy does not count.
const ATTEMPTS: u32 = 5;
/// How long the right to consume from a source lasts; renewed every third of it.
const LEASE: Duration = Duration::from_secs(6);
/// How often to count what waits.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Turns messages into commands, whatever broker they come from.
#[derive(Clone)]
pub struct Consumer {
    /// The bus.
    pub commands: Arc<dyn Commands>,
    /// Finds the products of a shipment.
    pub reader: Arc<dyn Reader>,
    /// Says who may consume.
    pub log: Arc<dyn EventLog>,
    /// Where unusable messages go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Tells when a message came.
    pub clock: Arc<dyn Clock>,
    /// Names messages.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is told of what it does.
    pub traces: Traces,
    /// Tells this process from others that want to consume.
    pub holder: String,
}

/// `{"batchref", "qty"}`; with `"sku"` where several SKUs share the reference.
#[derive(Deserialize)]
struct QuantityMessage {
    batchref: String,
    qty: u64,
    #[serde(default)]
    sku: Option<String>,
}

/// Why a message has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// It will never have one.
    Unusable(String),
    /// It failed, and may fail again.
    Failed(String),
    /// It may have one later.
    Passing(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Passing(error.to_string())
    }
}

/// What became of a dead letter that was tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// It had its effect, now or before, and is kept no longer.
    Done,
    /// It is kept, with this reason.
    Kept(String),
}

/// The command that a message says, without having it handled.
///
/// # Errors
/// When it says none: why.
pub fn command(body: &[u8]) -> Result<Command, String> {
    forms::message(body, &"".into()).map(|message| message.command)
}

/// What the domain said, in words of whoever sends messages.
fn reason(rejection: &Rejection) -> String {
    match rejection {
        Rejection::KeyReused(_) => "its id was used for another message".to_owned(),
        other => other.to_string(),
    }
}

/// Says of a message what became of it, if it is in a trace.
fn end_span(span: Option<Box<dyn Span>>, source: &str, delivery: &Delivery, trouble: Option<&Trouble>) {
    let Some(mut span) = span else { return };
    span.text("messaging.system", source);
    span.text("messaging.destination.name", &delivery.channel);
    if let Some(Trouble::Unusable(why) | Trouble::Failed(why) | Trouble::Passing(why)) = trouble {
        span.fail(why);
    }
}

/// What a verdict means for the message. There is one for each.
fn effect(verdict: Option<Result<Verdict, HandlerError>>) -> Result<(), Trouble> {
    match verdict.expect("each message has a verdict") {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(rejection)) => Err(Trouble::Unusable(reason(&rejection))),
        Err(HandlerError::Store(StoreError::Failed(why))) => Err(Trouble::Failed(why)),
        Err(passing) => Err(Trouble::Passing(passing.to_string())),
    }
}

impl Consumer {
    /// Consumes from a source until told to stop, whenever this process has the right to.
    pub async fn run(&self, source: &dyn Source, stop: &CancellationToken) {
        let task = format!("consume:{}", source.name());
        // Counts that are there before there is anything to count: whoever watches them sees the first, and that there is none.
        for counter in [&self.metrics.consumed, &self.metrics.dead_letters] {
            let _ = counter.get_or_create(&SourceLabels { source: source.name() });
        }
        while !stop.is_cancelled() {
            let pause = match self.log.lease(&task, &self.holder, LEASE).await {
                Ok(true) => {
                    self.lead(source, &task, stop).await;
                    PAUSE
                }
                Ok(false) => LEASE / 3,
                Err(error) => {
                    tracing::warn!(source = source.name(), %error, "the consumer can't reach the store; trying again");
                    PAUSE
                }
            };
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        let _ = self.log.release(&task, &self.holder).await;
    }

    /// Consumes as long as the lease can be kept.
    async fn lead(&self, source: &dyn Source, task: &str, stop: &CancellationToken) {
        let ours = stop.child_token();
        let renew = async {
            while stop.run_until_cancelled(tokio::time::sleep(LEASE / 3)).await.is_some() {
                if !matches!(self.log.lease(task, &self.holder, LEASE).await, Ok(true)) {
                    tracing::warn!(source = source.name(), "lost the right to consume");
                    break;
                }
            }
            ours.cancel();
        };
        let consume = async {
            while !ours.is_cancelled() {
                if let Err(error) = self.consume(source, &ours).await {
                    self.metrics.source_failures.get_or_create(&SourceLabels { source: source.name() }).inc();
                    tracing::warn!(source = source.name(), %error, "can't consume; trying again");
                    let _ = ours.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                }
            }
        };
        tokio::join!(renew, consume);
    }

    /// Consumes until told to stop or the broker fails. The page at hand is handled to its end.
    async fn consume(&self, source: &dyn Source, stop: &CancellationToken) -> Result<(), SourceError> {
        let labels = SourceLabels { source: source.name() };
        let Some(subscription) = stop.run_until_cancelled(source.subscribe()).await else { return Ok(()) };
        let mut subscription = subscription?;
        tracing::info!(source = source.name(), "consuming");
        let mut counted = None;
        while let Some(page) = stop.run_until_cancelled(subscription.next()).await {
            let page = page?;
            let now = self.clock.monotonic();
            if counted.is_none_or(|last| now.saturating_sub(last) >= COUNT_EVERY) {
                counted = Some(now);
                if let Some(waiting) = subscription.waiting().await? {
                    self.metrics.source_lag.get_or_create(&labels).set(waiting);
                }
                if let Ok(letters) = self.dead_letters.count_letters().await {
                    self.metrics.dead_letters_kept.set(letters);
                }
            }
            let oldest = page.iter().filter_map(|delivery| delivery.sent_at).min();
            let age = oldest.map_or(0.0, |sent| (self.clock.now() - sent).as_seconds_f64().max(0.0));
            self.metrics.source_lag_seconds.get_or_create(&labels).set(age);
            if page.is_empty() {
                continue;
            }
            tracing::debug!(source = source.name(), messages = page.len(), "received");
            Failpoint::PageReceived.pass();
            if !self.work(source.name(), &page, stop).await {
                return Ok(());
            }
            Failpoint::PageDone.pass();
            subscription.acknowledge(&page).await?;
            Failpoint::PageAcknowledged.pass();
        }
        Ok(())
    }

    /// Handles messages to the end, in order: each has its effect, or is a dead letter. While the store is away they wait. `false`: told to stop before
    /// that.
    pub async fn work(&self, source: &'static str, page: &[Delivery], stop: &CancellationToken) -> bool {
        let (mut done, mut failures) = (0, 0);
        while done < page.len() {
            let (settled, trouble) = self.attempt(source, &page[done..]).await;
            done += settled;
            if settled > 0 {
                failures = 0;
            }
            let Some(trouble) = trouble else { continue };
            let delivery = &page[done];
            let why = match trouble {
                Trouble::Failed(why) if failures + 1 < ATTEMPTS => {
                    failures += 1;
                    self.metrics.message_retries.get_or_create(&SourceLabels { source }).inc();
                    why
                }
                Trouble::Failed(reason) | Trouble::Unusable(reason) => match self.bury(source, delivery, &reason).await
                {
                    Ok(()) => {
                        (done, failures) = (done + 1, 0);
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Trouble::Passing(why) => why,
            };
            tracing::warn!(source, channel = delivery.channel, trouble = why, "a message has to wait");
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Tries messages in order, together, and says how many of the first are settled, each by its effect or as a dead letter, and what was wrong with the
    /// one after these.
    ///
    /// What comes after that one may have had its effect too; it is tried again and, having a name, does nothing then.
    async fn attempt(&self, source: &'static str, page: &[Delivery]) -> (usize, Option<Trouble>) {
        let (mut messages, mut unreadable) = (Vec::with_capacity(page.len()), Vec::new());
        let mut spans = Vec::with_capacity(page.len());
        let mut unread = None;
        for delivery in page {
            match self.read(&delivery.channel, &delivery.body).await {
                Ok(mut message) => {
                    let parent = message.cause.traceparent.as_deref();
                    let span = self.traces.begin(Kind::Consumer, format_args!("process {source}"), parent);
                    if let Some(span) = &span {
                        message.cause.traceparent = Some(span.traceparent());
                    }
                    messages.push(message);
                    spans.push(span);
                }
                Err(Trouble::Unusable(why)) => unreadable.push((messages.len() + unreadable.len(), why)),
                Err(trouble) => {
                    unread = Some(trouble);
                    break;
                }
            }
        }
        Failpoint::PageRead.pass();
        let read = messages.len() + unreadable.len();
        let mut verdicts = self.commands.handle_all(messages).await.into_iter();
        let (mut unreadable, mut spans) = (unreadable.into_iter().peekable(), spans.into_iter());
        for (nth, delivery) in page.iter().enumerate().take(read) {
            let settled = if let Some((_, why)) = unreadable.next_if(|(at, _)| *at == nth) {
                Err(Trouble::Unusable(why))
            } else {
                let settled = effect(verdicts.next());
                end_span(spans.next().flatten(), source, delivery, settled.as_ref().err());
                settled
            };
            let settled = match settled {
                Ok(()) => {
                    self.metrics.consumed.get_or_create(&SourceLabels { source }).inc();
                    Ok(())
                }
                // Those behind it are not tried again for its sake.
                Err(Trouble::Unusable(why)) => self.bury(source, delivery, &why).await.map_err(Trouble::from),
                failed => failed,
            };
            if let Err(trouble) = settled {
                return (nth, Some(trouble));
            }
        }
        (read, unread)
    }

    /// The command that a message means.
    async fn read(&self, channel: &str, body: &[u8]) -> Result<Message, Trouble> {
        let actor: Arc<str> = format!("consumer:{channel}").into();
        if channel != CHANGE_BATCH_QUANTITY {
            return forms::message(body, &actor).map_err(Trouble::Unusable);
        }
        let unusable = |error: &dyn std::fmt::Display| Trouble::Unusable(error.to_string());
        let message: QuantityMessage = serde_json::from_slice(body).map_err(|error| unusable(&error))?;
        let reference = BatchRef::new(message.batchref).map_err(|error| unusable(&format!("batchref {error}")))?;
        let qty = BatchQuantity::new(message.qty).map_err(|error| unusable(&format!("qty {error}")))?;
        let sku = match message.sku {
            Some(sku) => Sku::new(sku).map_err(|error| unusable(&format!("sku {error}")))?,
            None => self.only_sku_of(&reference).await?,
        };
        let correlation = self.entropy.uuid(self.clock.now()).to_string().into();
        let command = Command::ChangeBatchQuantity(ChangeBatchQuantity { sku, reference, qty });
        Ok(Message::new(command, Cause { correlation, actor, traceparent: None }))
    }

    async fn only_sku_of(&self, reference: &BatchRef) -> Result<Sku, Trouble> {
        let mut skus = self.reader.skus_of(reference).await?;
        match (skus.pop(), skus.len()) {
            (Some(sku), 0) => Ok(sku),
            (None, _) => Err(Trouble::Unusable(format!("unknown batch {reference}"))),
            (Some(_), others) => Err(Trouble::Unusable(format!(
                "batch {reference} has {} SKUs, and the message does not say which is meant",
                others + 1
            ))),
        }
    }

    async fn bury(&self, source: &'static str, delivery: &Delivery, reason: &str) -> Result<(), StoreError> {
        let Delivery { channel, headers, body, .. } = delivery;
        let said = String::from_utf8_lossy(body);
        tracing::warn!(source, channel, reason, body = &*said, "message can't be used");
        let letter = DeadLetter {
            received_at: self.clock.now(),
            source: source.to_owned(),
            channel: channel.clone(),
            headers: headers.clone(),
            body: body.clone(),
            reason: reason.to_owned(),
        };
        self.dead_letters.bury(&letter).await?;
        Failpoint::LetterBuried.pass();
        self.metrics.dead_letters.get_or_create(&SourceLabels { source }).inc();
        Ok(())
    }

    /// Tries a dead letter again, once.
    ///
    /// # Errors
    /// When the store is away: the letter is kept as it was.
    pub async fn retry(&self, kept: &KeptLetter) -> Result<Retried, StoreError> {
        let DeadLetter { channel, body, .. } = &kept.letter;
        Failpoint::LetterRetrying.pass();
        let verdict = match self.read(channel, body).await {
            Ok(message) => match self.commands.handle(message).await {
                Ok(verdict) => verdict.map(drop).map_err(|rejection| reason(&rejection)),
                Err(HandlerError::Store(StoreError::Failed(why))) => Err(why),
                Err(passing) => return Err(StoreError::Unavailable(passing.to_string())),
            },
            Err(Trouble::Unusable(why) | Trouble::Failed(why)) => Err(why),
            Err(Trouble::Passing(why)) => return Err(StoreError::Unavailable(why)),
        };
        match verdict {
            Ok(()) => {
                Failpoint::LetterUsed.pass();
                self.dead_letters.drop_letter(kept.id).await?;
                Failpoint::LetterDropped.pass();
                Ok(Retried::Done)
            }
            Err(reason) => {
                let received_at = self.clock.now();
                let letter = DeadLetter { received_at, reason: reason.clone(), ..kept.letter.clone() };
                self.dead_letters.bury(&letter).await?;
                Ok(Retried::Kept(reason))
            }
        }
    }
}
