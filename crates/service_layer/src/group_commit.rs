//! Group commit: many commands, one unit of work, one commit, an answer of its own for each.
//!
//! No timer makes anybody wait: while one batch commits, the next forms of whatever has come meanwhile. The lane owns the
//! transaction, so a caller that goes away cancels nothing half way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use allocation_domain::Command;
use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError, oneshot};

use crate::failpoints::Failpoint;
use crate::handlers::{self, Verdict};
use crate::message_bus::{self, Ahead, Message, MessageBus};
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

type Answer = oneshot::Sender<Result<Verdict, HandlerError>>;

struct Job {
    message: Message,
    caller: Caller,
}

/// Who waits for an answer.
struct Caller {
    /// Since when, unless it has all the time in the world.
    since: Option<Duration>,
    answer: Answer,
    span: Option<Box<dyn Span>>,
}

/// Commands for one unit of work.
struct Together<T> {
    messages: Vec<Message>,
    callers: Vec<Caller>,
    ahead: Ahead<T>,
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self { messages: Vec::new(), callers: Vec::new(), ahead: Ahead::NotTried }
    }
}

impl<T> Together<T> {
    fn add(&mut self, job: Job) {
        self.messages.push(job.message);
        self.callers.push(job.caller);
    }

    /// Turns away those of which `reason` says why, and with them what was decided of all.
    fn turn_away(&mut self, reason: impl Fn(&Message, &Caller) -> Option<HandlerError>) {
        self.ahead = Ahead::NotTried;
        let all = std::mem::take(&mut self.messages).into_iter().zip(std::mem::take(&mut self.callers));
        for (message, caller) in all {
            match reason(&message, &caller) {
                Some(reason) => {
                    if let Some(mut span) = caller.span {
                        span.text("allocation.outcome", "turned_away");
                    }
                    let _ = caller.answer.send(Err(reason));
                }
                None => self.add(Job { message, caller }),
            }
        }
    }
}

/// What waits for a lane.
struct Queue<D: Database> {
    bus: Arc<MessageBus<D>>,
    limits: Limits,
    waiting: Mutex<Waiting<D::Tx>>,
    /// Tells a lane that has nothing to do.
    arrived: Notify,
    /// A permit for each command that may still come.
    room: Arc<Semaphore>,
}

struct Waiting<T> {
    /// What is handled next.
    next: Together<T>,
    /// What has no place in it.
    behind: VecDeque<Job>,
    lane: At,
    /// Whether nothing more comes in.
    closed: bool,
}

/// What a lane is at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing, and somebody has to wake it.
    Rest,
    /// Work that others can build on: what comes next can be decided now.
    Known,
    /// Work of which nobody knows what it will leave.
    Unknown,
    /// It has gone.
    End,
}

/// The side of a queue that is open to commands, of whatever store.
trait AnyQueue: Send + Sync {
    fn put(&self, job: Job);
    fn close(&self);
}

impl<D: Database> Queue<D> {
    fn lock(&self) -> MutexGuard<'_, Waiting<D::Tx>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides some of those that wait, once there are enough of them: for each alone it would cost a twentieth of what SQLite can do.
    fn decide_some(&self, next: &mut Together<D::Tx>) {
        let some = (self.limits.batch / 32).max(1);
        let known = match &next.ahead {
            Ahead::NotTried => 0,
            Ahead::Decided(decided) => decided.commands(),
            Ahead::InVain => return,
        };
        if next.messages.len() - known >= some {
            self.decide(next, some);
        }
    }

    /// Decides up to so many of those that are not decided yet, unless one before could not be.
    fn decide(&self, next: &mut Together<D::Tx>, most: usize) {
        let decided = match std::mem::take(&mut next.ahead) {
            Ahead::InVain => return next.ahead = Ahead::InVain,
            Ahead::NotTried => None,
            Ahead::Decided(decided) => self.bus.holds(&decided).then_some(decided),
        };
        let known = decided.as_ref().map_or(0, |decided| decided.commands());
        let until = next.messages.len().min(known.saturating_add(most));
        next.ahead = match self.bus.decide_ahead(decided, &next.messages[known..until]) {
            Some(decided) => Ahead::Decided(decided),
            None => Ahead::InVain,
        };
    }
}

impl<D: Database> AnyQueue for Queue<D> {
    /// Whoever puts a command there decides it as well, if that can be done: saves waking another task for it.
    fn put(&self, job: Job) {
        let mut waiting = self.lock();
        if waiting.lane == At::End {
            return;
        }
        let Waiting { next, behind, lane, .. } = &mut *waiting;
        // What has waited for long may be turned away, and then all of it would have been decided for nothing.
        let oldest = next.callers.first().and_then(|caller| caller.since);
        let in_time =
            job.caller.since.zip(oldest).is_none_or(|(now, then)| now.saturating_sub(then) < self.limits.age / 2);
        if next.messages.len() < self.limits.batch {
            next.add(job);
        } else {
            behind.push_back(job);
        }
        if *lane != At::Unknown && in_time {
            self.decide_some(next);
        }
        if waiting.lane == At::Rest {
            waiting.lane = At::Known;
            self.arrived.notify_one();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }
}

/// Takes what waits, and has it handled together. Runs until every [`LaneHandle`] is gone and the queue is empty.
pub struct Lane<D: Database> {
    queue: Arc<Queue<D>>,
}

/// Puts commands into a lane's queue.
#[derive(Clone)]
pub struct LaneHandle {
    door: Arc<Door>,
    room: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    traces: Traces,
}

/// Closes the queue when the last handle is gone.
struct Door(Arc<dyn AnyQueue>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<D: Database> Lane<D> {
    /// A lane, and the handle to its queue.
    pub fn new(bus: Arc<MessageBus<D>>, limits: Limits) -> (Self, LaneHandle) {
        Self::with_traces(bus, limits, Traces::default())
    }

    /// The same with traces of what it does.
    pub fn with_traces(bus: Arc<MessageBus<D>>, limits: Limits, traces: Traces) -> (Self, LaneHandle) {
        let (clock, metrics) = (bus.clock().clone(), bus.metrics().clone());
        let room = Arc::new(Semaphore::new(limits.waiting));
        let waiting = Waiting { next: Together::default(), behind: VecDeque::new(), lane: At::Known, closed: false };
        let queue =
            Arc::new(Queue { bus, limits, waiting: Mutex::new(waiting), arrived: Notify::new(), room: room.clone() });
        let handle = LaneHandle { door: Arc::new(Door(queue.clone())), room, clock, metrics, traces };
        (Self { queue }, handle)
    }

    /// Works until nobody can send any more.
    pub async fn run(self) {
        while let Some(mut next) = self.take().await {
            self.turn_away(&mut next);
            if next.messages.is_empty() {
                continue;
            }
            self.queue.decide(&mut next, usize::MAX);
            if let Ahead::Decided(decided) = &mut next.ahead {
                self.queue.bus.build_on(decided);
                self.queue.lock().lane = At::Known;
            }
            let verdicts = self.queue.bus.handle_once(&next.messages, next.ahead).await;
            Failpoint::VerdictsReached.pass();
            let together = next.messages.len() as u64;
            for (caller, verdict) in next.callers.into_iter().zip(verdicts) {
                if let Some(span) = caller.span {
                    end_span(span, together, &verdict);
                }
                // Nobody may be waiting any more; what was done stays done.
                let _ = caller.answer.send(verdict.map_err(HandlerError::from));
            }
        }
    }

    /// What is handled next, once there is something; `None`: there will not be anything any more.
    async fn take(&self) -> Option<Together<D::Tx>> {
        let next = loop {
            {
                let mut waiting = self.queue.lock();
                if !waiting.next.messages.is_empty() {
                    waiting.lane = At::Unknown;
                    let next = std::mem::take(&mut waiting.next);
                    let follow = waiting.behind.len().min(self.queue.limits.batch);
                    let Waiting { next: following, behind, .. } = &mut *waiting;
                    behind.drain(..follow).for_each(|job| following.add(job));
                    break next;
                }
                if waiting.closed {
                    return None;
                }
                waiting.lane = At::Rest;
            }
            self.queue.arrived.notified().await;
        };
        let taken = next.messages.len();
        self.queue.room.add_permits(taken);
        self.queue.bus.metrics().waiting.dec_by(taken.try_into().unwrap_or(i64::MAX));
        Some(next)
    }

    /// Turns away what has waited for too long, and what must not overtake one before it.
    fn turn_away(&self, next: &mut Together<D::Tx>) {
        let (metrics, now) = (self.queue.bus.metrics(), self.queue.bus.clock().monotonic());
        for caller in &mut next.callers {
            if let (Some(span), Some(since)) = (&mut caller.span, caller.since) {
                let waited = now.saturating_sub(since).as_millis();
                span.number("allocation.waited_ms", waited.try_into().unwrap_or(u64::MAX));
            }
        }
        // The one that has waited longest: to look at each would cost more than it tells.
        if let Some(since) = next.callers.iter().find_map(|caller| caller.since) {
            let waited = now.saturating_sub(since);
            metrics.wait_seconds.observe(waited.as_secs_f64());
            let most = self.queue.limits.age;
            if waited > most {
                next.turn_away(|_, caller| {
                    let too_late = caller.since.is_some_and(|since| now.saturating_sub(since) > most);
                    too_late.then(|| {
                        metrics.overloaded.inc();
                        HandlerError::Overloaded
                    })
                });
            }
        }
        if next.messages.iter().any(Message::must_wait) {
            next.turn_away(|message, _| message.must_wait().then_some(HandlerError::Overtaking));
        }
    }
}

impl<D: Database> Drop for Lane<D> {
    fn drop(&mut self) {
        self.queue.room.close();
        let mut waiting = self.queue.lock();
        waiting.lane = At::End;
        waiting.next = Together::default();
        waiting.behind.clear();
    }
}

/// Says what became of a command that is in a trace.
fn end_span(mut span: Box<dyn Span>, together: u64, verdict: &StoreResult<Verdict>) {
    let outcome = match verdict {
        Ok(Ok(_)) => "done",
        Ok(Err(_)) => "rejected",
        Err(error) => {
            span.fail(&error.to_string());
            "failed"
        }
    };
    span.number("allocation.batch_size", together);
    span.text("allocation.outcome", outcome);
}

impl LaneHandle {
    async fn once(&self, message: Message) -> Result<Verdict, HandlerError> {
        let place = self.room.try_acquire().map_err(|refused| match refused {
            TryAcquireError::NoPermits => {
                self.metrics.overloaded.inc();
                HandlerError::Overloaded
            }
            TryAcquireError::Closed => HandlerError::Stopping,
        })?;
        let verdict = self.put(message, Some(self.clock.monotonic()), place);
        verdict.await.unwrap_or(Err(HandlerError::Stopping))
    }

    /// Puts a command into the queue as soon as there is room.
    async fn enqueue(&self, message: Message) -> oneshot::Receiver<Result<Verdict, HandlerError>> {
        match self.room.acquire().await {
            Ok(place) => self.put(message, None, place),
            // Nobody is there to answer.
            Err(_) => oneshot::channel().1,
        }
    }

    fn put(
        &self,
        mut message: Message,
        since: Option<Duration>,
        place: SemaphorePermit<'_>,
    ) -> oneshot::Receiver<Result<Verdict, HandlerError>> {
        let (answer, verdict) = oneshot::channel();
        let span = self.begin_span(&mut message);
        // The lane gives it back.
        place.forget();
        self.metrics.waiting.inc();
        self.door.0.put(Job { message, caller: Caller { since, answer, span } });
        verdict
    }

    /// Begins the span of a command that is in a trace: of its unit of work. Its events follow from that.
    fn begin_span(&self, message: &mut Message) -> Option<Box<dyn Span>> {
        if !self.traces.are_kept() {
            return None;
        }
        let parent = message.cause.traceparent.as_deref();
        let mut span = self.traces.follow(Kind::Internal, format_args!("unit of work"), parent)?;
        span.text("allocation.command", message_bus::name(&message.command));
        message.cause.traceparent = Some(span.traceparent());
        Some(span)
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
