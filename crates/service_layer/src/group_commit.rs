//! Group commit: many commands, one unit of work, one commit, an answer of its own for each.
//!
//! No timer makes anybody wait: while one batch commits, the next forms of whatever has come meanwhile. The lane owns the
//! transaction, so a caller that goes away cancels nothing half way.

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::Command;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::failpoints::Failpoint;
use crate::handlers::{self, Verdict};
use crate::message_bus::{self, Message, MessageBus};
use crate::metrics::Metrics;
use crate::ports::clock::Clock;
use crate::ports::database::{Database, StoreError, StoreResult};
use crate::ports::tracer::{Kind, Span, Traces};
use crate::strand::Strand;

/// How much a lane takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most commands in one unit of work.
    pub batch: usize,
    /// The most commands that may wait.
    pub waiting: usize,
    /// The longest a command may wait before it is turned away.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch: 256, waiting: 8_192, age: Duration::from_secs(5) }
    }
}

/// Why a command has no verdict.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandlerError {
    /// Too much is waiting. Nothing was done; come back in a moment.
    #[error("too many commands are waiting")]
    Overloaded,
    /// One before it has failed or is not done. Nothing was done; it has to come again.
    #[error("a command before it has failed or is not done")]
    Overtaking,
    /// The service is stopping. Nothing was done.
    #[error("the service is stopping")]
    Stopping,
    /// The store could not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The bus as entrypoints see it.
#[async_trait]
pub trait Commands: Send + Sync + 'static {
    /// Has a command handled, and answers once its effect is on disk.
    async fn handle(&self, message: Message) -> Result<Verdict, HandlerError>;

    /// Has commands handled in this order, together where that is possible, and answers once the effect of each is on disk. They wait for
    /// room instead of being turned away. None is begun after one that the store has failed, or that is
    /// not done with one unit of work.
    async fn handle_all(&self, messages: Vec<Message>) -> Vec<Result<Verdict, HandlerError>> {
        let mut verdicts = Vec::with_capacity(messages.len());
        let strand = Strand::default();
        for message in messages {
            let verdict = if strand.is_broken() { Err(HandlerError::Overtaking) } else { self.handle(message).await };
            if verdict.is_err() {
                strand.tear();
            }
            verdicts.push(verdict);
        }
        verdicts
    }
}

struct Job {
    message: Message,
    /// Since when it waits, unless its caller has all the time in the world.
    since: Option<Duration>,
    answer: oneshot::Sender<Result<Verdict, HandlerError>>,
}

/// Takes what waits, and has it handled together. Runs until every [`LaneHandle`] is gone and the queue is empty.
pub struct Lane<D> {
    bus: Arc<MessageBus<D>>,
    limits: Limits,
    inbox: mpsc::Receiver<Job>,
    traces: Traces,
}

/// Puts commands into a lane's queue.
#[derive(Clone)]
pub struct LaneHandle {
    queue: mpsc::Sender<Job>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl<D: Database> Lane<D> {
    /// A lane, and the handle to its queue.
    pub fn new(bus: Arc<MessageBus<D>>, limits: Limits) -> (Self, LaneHandle) {
        let (queue, inbox) = mpsc::channel(limits.waiting);
        let handle = LaneHandle { queue, clock: bus.clock().clone(), metrics: bus.metrics().clone() };
        (Self { bus, limits, inbox, traces: Traces::default() }, handle)
    }

    /// The same with traces of what it does.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Works until nobody can send any more.
    pub async fn run(mut self) {
        let mut jobs = Vec::with_capacity(self.limits.batch);
        while self.inbox.recv_many(&mut jobs, self.limits.batch).await > 0 {
            let metrics = self.bus.metrics();
            metrics.waiting.dec_by(jobs.len().try_into().unwrap_or(i64::MAX));
            let now = self.bus.clock().monotonic();
            // The one that has waited longest: to look at each would cost more than it tells.
            if let Some(since) = jobs.iter().find_map(|job: &Job| job.since) {
                metrics.wait_seconds.observe(now.saturating_sub(since).as_secs_f64());
            }
            let (mut messages, answers): (Vec<Message>, Vec<_>) = jobs
                .drain(..)
                .filter_map(|job: Job| {
                    if job.since.is_some_and(|since| now.saturating_sub(since) > self.limits.age) {
                        metrics.overloaded.inc();
                        let _ = job.answer.send(Err(HandlerError::Overloaded));
                        return None;
                    }
                    if job.message.must_wait() {
                        let _ = job.answer.send(Err(HandlerError::Overtaking));
                        return None;
                    }
                    Some((job.message, job.answer))
                })
                .unzip();
            let spans = self.begin_spans(&mut messages);
            let verdicts = self.bus.handle_once(&messages).await;
            end_spans(spans, &verdicts);
            Failpoint::VerdictsReached.pass();
            for (answer, verdict) in answers.into_iter().zip(verdicts) {
                // Nobody may be waiting any more; what was done stays done.
                let _ = answer.send(verdict.map_err(HandlerError::from));
            }
        }
    }
}

/// A command's place in its unit of work, and its span.
type Traced = (usize, Box<dyn Span>);

impl<D: Database> Lane<D> {
    /// Begins a span for each command that is in a trace: of the unit of work that they share. Its events follow from that.
    fn begin_spans(&self, messages: &mut [Message]) -> Vec<Traced> {
        let mut spans = Vec::new();
        if !self.traces.are_kept() {
            return spans;
        }
        let together = messages.len() as u64;
        for (nth, message) in messages.iter_mut().enumerate() {
            let parent = message.cause.traceparent.as_deref();
            let Some(mut span) = self.traces.follow(Kind::Internal, format_args!("unit of work"), parent) else {
                continue;
            };
            span.text("allocation.command", message_bus::name(&message.command));
            span.number("allocation.batch_size", together);
            message.cause.traceparent = Some(span.traceparent());
            spans.push((nth, span));
        }
        spans
    }
}

/// Says of each command that is in a trace what became of it.
fn end_spans(spans: Vec<Traced>, verdicts: &[StoreResult<Verdict>]) {
    for (nth, mut span) in spans {
        let outcome = match &verdicts[nth] {
            Ok(Ok(_)) => "done",
            Ok(Err(_)) => "rejected",
            Err(error) => {
                span.fail(&error.to_string());
                "failed"
            }
        };
        span.text("allocation.outcome", outcome);
    }
}

impl LaneHandle {
    async fn once(&self, message: Message) -> Result<Verdict, HandlerError> {
        let (answer, verdict) = oneshot::channel();
        let job = Job { message, since: Some(self.clock.monotonic()), answer };
        self.metrics.waiting.inc();
        if let Err(refused) = self.queue.try_send(job) {
            self.metrics.waiting.dec();
            return Err(match refused {
                mpsc::error::TrySendError::Full(_) => {
                    self.metrics.overloaded.inc();
                    HandlerError::Overloaded
                }
                mpsc::error::TrySendError::Closed(_) => HandlerError::Stopping,
            });
        }
        verdict.await.unwrap_or(Err(HandlerError::Stopping))
    }

    /// Puts a command into the queue as soon as there is room.
    async fn enqueue(&self, message: Message) -> oneshot::Receiver<Result<Verdict, HandlerError>> {
        let (answer, verdict) = oneshot::channel();
        self.metrics.waiting.inc();
        if self.queue.send(Job { message, since: None, answer }).await.is_err() {
            self.metrics.waiting.dec();
        }
        verdict
    }

    /// As `once`, and goes on with a command that needs more units of work than one, letting others in between.
    async fn to_the_end(&self, message: Message) -> Result<Verdict, HandlerError> {
        let begun = self.once(message.clone()).await;
        self.rest_of(message, begun).await
    }

    async fn rest_of(&self, message: Message, begun: Result<Verdict, HandlerError>) -> Result<Verdict, HandlerError> {
        let mut verdict = begun?;
        while let Some(rest) = message.rest(&verdict) {
            Failpoint::CutStepped.pass();
            verdict = match self.once(rest).await {
                Ok(next) => handlers::joined(verdict, next),
                Err(HandlerError::Overloaded) => {
                    // Half done is no state to stop in for want of a place in the queue.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
        }
        Ok(verdict)
    }
}

#[async_trait]
impl Commands for LaneHandle {
    async fn handle(&self, message: Message) -> Result<Verdict, HandlerError> {
        if !may_take_several(&message.command) {
            return self.once(message).await;
        }
        // In a task of its own, so that a caller who hangs up does not stop a large cut half way.
        let lane = self.clone();
        let work = tokio::spawn(async move { lane.to_the_end(message).await });
        work.await.unwrap_or(Err(HandlerError::Stopping))
    }

    async fn handle_all(&self, messages: Vec<Message>) -> Vec<Result<Verdict, HandlerError>> {
        let mut waiting = Vec::with_capacity(messages.len());
        let strand = Strand::default();
        for message in messages {
            let message = message.on_strand(strand.clone());
            let large = may_take_several(&message.command).then(|| message.clone());
            waiting.push((self.enqueue(message).await, large));
        }
        let mut verdicts = Vec::with_capacity(waiting.len());
        for (verdict, large) in waiting {
            let verdict = verdict.await.unwrap_or(Err(HandlerError::Stopping));
            verdicts.push(match large {
                Some(message) => self.rest_of(message, verdict).await,
                None => verdict,
            });
        }
        verdicts
    }
}

/// Whether a command may need more units of work than one.
fn may_take_several(command: &Command) -> bool {
    matches!(
        command,
        Command::DeclareBatch(_) | Command::ChangeBatchQuantity(_) | Command::ReceiveBatch(_) | Command::CancelBatch(_)
    )
}
