//! Carries events from the log to the outside, after the commit: every sink sees every event at least once, those of one SKU in order.
//!
//! Each sink has progress of its own, so that one that is down delays itself only. One process relays at a time, by a lease; when
//! it dies, another takes over. Polling is the truth; being told of a commit only makes it quick.

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::Event;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failpoints::Failpoint;
use crate::metrics::{Metrics, SinkLabels};
use crate::ports::clock::Clock;
use crate::ports::database::StoreResult;
use crate::ports::event_log::{EventLog, FeedEvent, FeedPage};
use crate::ports::event_publisher::{DeliveryError, EventPublisher};
use crate::ports::notifications::Notifications;
use crate::ports::tracer::{Kind, Traces};
use crate::wire;

/// How many events are read, numbered or published in one go.
const PAGE: usize = 1_000;
/// How often to look for events that nobody told of.
const POLL: Duration = Duration::from_millis(200);
/// How long to gather commits before their events are numbered: numbering commits too, and would make every other commit wait for its sync.
const GATHER: Duration = Duration::from_millis(10);
/// How long a lease lasts; renewed every third of it.
const LEASE: Duration = Duration::from_secs(6);
/// Pauses after failures grow up to this: what was away is used again within two seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A mail about the same SKU goes out at most this often.
const MAIL_EVERY: time::Duration = time::Duration::HOUR;

/// The lease's name.
const TASK: &str = "relay";

/// Where events go.
#[derive(Clone)]
pub enum Sink {
    /// All of them, to a broker.
    Publisher(Arc<dyn EventPublisher>),
    /// `OutOfStock`, to people, at most once an hour for each SKU.
    Mail(Arc<dyn Notifications>),
}

impl Sink {
    /// The broker, if it is one.
    pub fn into_publisher(self) -> Option<Arc<dyn EventPublisher>> {
        match self {
            Self::Publisher(publisher) => Some(publisher),
            Self::Mail(_) => None,
        }
    }

    /// Its name, under which its progress is kept.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Publisher(publisher) => publisher.name(),
            Self::Mail(_) => "mail",
        }
    }
}

/// Carries events to the sinks.
#[derive(Clone)]
pub struct Relay {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    sinks: Vec<Sink>,
    /// Tells this process from others that want the lease.
    holder: String,
    traces: Traces,
}

impl Relay {
    /// A relay from this log to these sinks. `holder` must be different in every process.
    pub fn new(
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        sinks: Vec<Sink>,
        holder: String,
    ) -> Self {
        for sink in &sinks {
            // A count that is there before there is anything to count: whoever watches it sees the first, and that there is none.
            let _ = metrics.delivered.get_or_create(&SinkLabels { sink: sink.name() });
        }
        Self { log, clock, metrics, sinks, holder, traces: Traces::default() }
    }

    /// The same with traces of what it does.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Relays until told to stop, whenever this process has the lease.
    pub async fn run(&self, committed: watch::Receiver<()>, stop: CancellationToken) {
        let mut pause = POLL;
        while !stop.is_cancelled() {
            match self.log.lease(TASK, &self.holder, LEASE).await {
                Ok(true) => {
                    pause = POLL;
                    self.lead(committed.clone(), &stop).await;
                }
                Ok(false) => pause = LEASE / 3,
                Err(error) => {
                    tracing::warn!(%error, "the relay can't reach the store; trying again");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        let _ = self.log.release(TASK, &self.holder).await;
    }

    /// Works as long as the lease can be kept. Told to stop, it ends the page at hand; another copy that has the lease by then is not got in the way of.
    async fn lead(&self, committed: watch::Receiver<()>, stop: &CancellationToken) {
        let (stop, lost) = (stop.child_token(), CancellationToken::new());
        let (numbered, news) = watch::channel(());
        let mut tasks = tokio::task::JoinSet::new();
        for sink in &self.sinks {
            let (relay, sink, news) = (self.clone(), sink.clone(), news.clone());
            let (stop, lost) = (stop.clone(), lost.clone());
            tasks.spawn(async move { relay.feed(&sink, news, &stop, &lost).await });
        }
        let (relay, token) = (self.clone(), stop.clone());
        tasks.spawn(async move { relay.number(committed, &numbered, &token).await });
        loop {
            tokio::select! {
                // Told to stop, parts end too: that comes first.
                biased;
                () = stop.cancelled() => break,
                // Nobody has told it to: it has panicked, and another try, here or in another copy, begins with all of them.
                _ = tasks.join_next() => {
                    tracing::error!("a part of the relay has ended by itself; it begins anew");
                    lost.cancel();
                    break;
                }
                () = tokio::time::sleep(LEASE / 3) => {}
            }
            if !matches!(self.log.lease(TASK, &self.holder, LEASE).await, Ok(true)) {
                tracing::warn!("lost the relay's lease");
                lost.cancel();
                break;
            }
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        // How far behind they are is for whoever feeds them now to tell.
        for sink in &self.sinks {
            let labels = SinkLabels { sink: sink.name() };
            self.metrics.lag.remove(&labels);
            self.metrics.lag_seconds.remove(&labels);
        }
    }

    /// Gives positions to what has been committed.
    async fn number(&self, mut committed: watch::Receiver<()>, numbered: &watch::Sender<()>, stop: &CancellationToken) {
        let mut pause = POLL;
        while !stop.is_cancelled() {
            committed.mark_unchanged();
            Failpoint::Numbering.pass();
            match self.log.number(PAGE).await {
                Ok(taken) => {
                    pause = POLL;
                    if taken > 0 {
                        Failpoint::Numbered.pass();
                    }
                    numbered.send_replace(());
                    if taken == PAGE {
                        continue;
                    }
                    let told = async {
                        // Without a bus in this process nobody tells, and polling does it.
                        if taken == 0 && committed.changed().await.is_err() {
                            std::future::pending::<()>().await;
                        }
                        tokio::time::sleep(GATHER).await;
                    };
                    let _ = stop.run_until_cancelled(tokio::time::timeout(POLL, told)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "can't number events; trying again");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    /// Feeds one sink.
    async fn feed(
        &self,
        sink: &Sink,
        mut news: watch::Receiver<()>,
        stop: &CancellationToken,
        lost: &CancellationToken,
    ) {
        let labels = SinkLabels { sink: sink.name() };
        let mut pause = POLL / 2;
        while !stop.is_cancelled() {
            news.mark_unchanged();
            let Some(delivery) = lost.run_until_cancelled(self.step(sink)).await else { break };
            match delivery {
                Ok(0) => {
                    let _ = stop.run_until_cancelled(tokio::time::timeout(POLL, news.changed())).await;
                }
                Ok(delivered) => {
                    pause = POLL / 2;
                    self.metrics.delivered.get_or_create(&labels).inc_by(delivered as u64);
                }
                Err(error) => {
                    self.metrics.delivery_failures.get_or_create(&labels).inc();
                    tracing::warn!(sink = sink.name(), %error, "events are delayed; trying again");
                    let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Delivers the next events to a sink and says how many; 0 when it has seen all.
    pub async fn step(&self, sink: &Sink) -> Result<usize, DeliveryError> {
        let failed = |error: crate::ports::database::StoreError| DeliveryError(error.to_string());
        let name = sink.name();
        let seen = self.log.progress(name).await.map_err(failed)?;
        let FeedPage { kept_after, events: page } = self.log.read(seen, PAGE).await.map_err(failed)?;
        if kept_after > seen {
            tracing::error!(sink = name, seen, kept_after, "events were removed before the sink was told");
        }
        let lag = self.log.last_position().await.map_err(failed)?.saturating_sub(seen);
        self.metrics.lag.get_or_create(&SinkLabels { sink: name }).set(lag);
        self.metrics.lag_seconds.get_or_create(&SinkLabels { sink: name }).set(self.age(page.first()));
        let Some(last) = page.last() else { return Ok(0) };
        Failpoint::RelayRead.pass();
        match sink {
            Sink::Publisher(publisher) => {
                let since = self.clock.now();
                let outcome = publisher.publish(&page).await;
                self.trace(name, &page, since, outcome.as_ref().err());
                outcome?;
            }
            Sink::Mail(notifications) => self.mail(notifications.as_ref(), &page).await?,
        }
        Failpoint::RelayPublished.pass();
        self.metrics.delivery_seconds.get_or_create(&SinkLabels { sink: name }).observe(self.age(page.first()));
        if !self.log.advance(name, last.position).await.map_err(failed)? {
            // Somebody has forgotten it who did not know that it is fed.
            self.log.introduce(name, last.position).await.map_err(failed)?;
        }
        Failpoint::RelayAdvanced.pass();
        self.metrics.lag.get_or_create(&SinkLabels { sink: name }).set(lag - page.len() as u64);
        Ok(page.len())
    }

    /// Makes a span for each event that is in a trace. A page that was not taken comes again and again: only its first such event has one then.
    fn trace(&self, sink: &str, page: &[FeedEvent], since: OffsetDateTime, failure: Option<&DeliveryError>) {
        if !self.traces.are_kept() {
            return;
        }
        let together = page.len() as u64;
        for envelope in page.iter().filter_map(|event| wire::envelope(&event.body).ok()) {
            let (name, parent) = (format_args!("publish {sink}"), envelope.traceparent.as_deref());
            let Some(mut span) = self.traces.follow_since(since, Kind::Producer, name, parent) else { continue };
            span.text("messaging.system", sink);
            span.text("messaging.message.id", &envelope.id);
            span.number("messaging.batch.message_count", together);
            span.text("allocation.event", envelope.topic());
            if let Some(failure) = failure {
                return span.fail(&failure.0);
            }
        }
    }

    /// How many seconds ago an event happened; none: no time at all.
    fn age(&self, event: Option<&FeedEvent>) -> f64 {
        let happened = event.and_then(|event| wire::envelope(&event.body).ok()?.time());
        happened.map_or(0.0, |happened| (self.clock.now() - happened).as_seconds_f64().max(0.0))
    }

    async fn mail(&self, notifications: &dyn Notifications, page: &[FeedEvent]) -> Result<(), DeliveryError> {
        let failed = |error: crate::ports::database::StoreError| DeliveryError(error.to_string());
        for stored in page.iter().filter(|event| event.body.contains("allocation.out_of_stock.")) {
            let Ok(wire) = wire::parse_event(&stored.body) else { continue };
            let Event::OutOfStock { asked, available } = wire.event else { continue };
            let subject = format!("Out of stock for SKU {}", wire.sku);
            let now = self.clock.now();
            if !self.may_mail(&subject, now).await.map_err(failed)? {
                continue;
            }
            let text = format!("{subject}: {asked} asked for, {available} available.\n");
            let since = self.clock.now();
            let sent = notifications.send(&subject, &text).await;
            self.trace("mail", std::slice::from_ref(stored), since, sent.as_ref().err());
            sent?;
            Failpoint::MailSent.pass();
            self.log.set_notified(&subject, now).await.map_err(failed)?;
            Failpoint::MailNoted.pass();
        }
        Ok(())
    }

    async fn may_mail(&self, subject: &str, now: OffsetDateTime) -> StoreResult<bool> {
        let last = self.log.last_notified(subject).await?;
        Ok(last.is_none_or(|last| now - last >= MAIL_EVERY))
    }
}
