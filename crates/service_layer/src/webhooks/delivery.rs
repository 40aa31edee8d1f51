//! Delivers events to webhooks: each gets every event that it wants at least once, one at a time and in the order of the feed.
//!
//! One at a time keeps the order within a product without any book of what is in flight; whoever needs more than one round trip at a time allows
//! registers several webhooks, each for some of the products. Each has its own progress and a task of its own, so a slow one holds up no other.
//! One process delivers at a time, by a lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{alter, signed};
use crate::failpoints::Failpoint;
use crate::feed::{Address, Feed};
use crate::metrics::{Metrics, SinkLabels};
use crate::ports::clock::{Clock, Entropy};
use crate::ports::database::StoreResult;
use crate::ports::event_log::{EventLog, FeedEvent};
use crate::ports::tracer::{Kind, Traces};
use crate::ports::webhooks::{Failure, Paused, Trouble, Webhook, WebhookId, WebhookSender, Webhooks};

/// The lease's name.
const TASK: &str = "webhooks";
/// How long a lease lasts; renewed every third of it.
const LEASE: Duration = Duration::from_secs(6);
/// How often to look for webhooks that are new, or were changed.
const LOOK: Duration = Duration::from_secs(1);
/// How many events are read for one webhook in one go.
const PAGE: usize = 50;
/// The pause after a first failure; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// How long a receiver may fail before its webhook is paused.
const PATIENCE: time::Duration = time::Duration::DAY;
/// The pause when the store fails.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What has come of the next events of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many were delivered; there may be more.
    Delivered(usize),
    /// It has seen everything up to this position.
    UpToDate(u64),
    /// The next attempt is due then.
    Later(Duration),
    /// It is paused, or there is no such webhook.
    Ended,
}

/// Delivers events to webhooks.
#[derive(Clone)]
pub struct Delivery {
    /// What they are told of.
    pub feed: Arc<Feed>,
    /// Keeps how far each is, and who delivers.
    pub log: Arc<dyn EventLog>,
    /// Where they are kept.
    pub hooks: Arc<dyn Webhooks>,
    /// Sends to them.
    pub sender: Arc<dyn WebhookSender>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Keeps retries apart.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is told of what it does.
    pub traces: Traces,
    /// Tells this process from others that want the lease.
    pub holder: String,
}

impl Delivery {
    /// Delivers until told to stop, whenever there are webhooks and this process has the lease.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.may_lead().await {
                Ok(true) => self.lead(&stop).await,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "can't look for webhooks; trying again"),
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
        let _ = self.log.release(TASK, &self.holder).await;
    }

    /// Whether there is something to do that nobody else does.
    async fn may_lead(&self) -> StoreResult<bool> {
        Ok(!self.hooks.hooks().await?.is_empty() && self.log.lease(TASK, &self.holder, LEASE).await?)
    }

    /// Works as long as the lease can be kept: a task for each active webhook.
    async fn lead(&self, stop: &CancellationToken) {
        let stop = stop.child_token();
        let mut tasks = JoinSet::new();
        let mut running = HashMap::new();
        let mut renewed = self.clock.monotonic();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                match ended {
                    Ok(id) => drop(running.remove(&id)),
                    Err(error) => {
                        tracing::error!(%error, "a webhook's deliveries ended");
                        running.clear();
                        stop.cancel();
                    }
                }
            }
            match self.hooks.hooks().await {
                Ok(hooks) => self.look_after(&hooks, &mut running, &mut tasks, &stop),
                Err(error) => tracing::warn!(%error, "can't look for webhooks; trying again"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                break;
            }
            let now = self.clock.monotonic();
            if now.saturating_sub(renewed) >= LEASE / 3 {
                renewed = now;
                if !matches!(self.log.lease(TASK, &self.holder, LEASE).await, Ok(true)) {
                    tracing::warn!("lost the lease of the webhooks");
                    break;
                }
            }
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        self.metrics.webhooks_paused.set(0);
    }

    /// Starts what is new, and tells the others of changes.
    fn look_after(
        &self,
        hooks: &[Webhook],
        running: &mut HashMap<WebhookId, watch::Sender<u64>>,
        tasks: &mut JoinSet<WebhookId>,
        stop: &CancellationToken,
    ) {
        let given_up = hooks.iter().filter(|hook| matches!(hook.paused, Some(Paused::Gone | Paused::Failing)));
        self.metrics.webhooks_paused.set(i64::try_from(given_up.count()).unwrap_or(i64::MAX));
        for hook in hooks {
            let is = |revision: &mut u64| std::mem::replace(revision, hook.revision) != hook.revision;
            if let Some(revision) = running.get(&hook.id) {
                revision.send_if_modified(is);
            } else if hook.paused.is_none() {
                let (revision, changes) = watch::channel(hook.revision);
                running.insert(hook.id, revision);
                let (delivery, id, stop) = (self.clone(), hook.id, stop.clone());
                tasks.spawn(async move {
                    delivery.serve(id, changes, &stop).await;
                    id
                });
            }
        }
        for (id, revision) in running {
            if hooks.iter().all(|hook| hook.id != *id) {
                revision.send_replace(u64::MAX);
            }
        }
    }

    /// Delivers to one webhook until it is paused or removed, or told to stop: what is on its way by then is waited for.
    async fn serve(&self, id: WebhookId, mut changes: watch::Receiver<u64>, stop: &CancellationToken) {
        let mut news = self.feed.news();
        while !stop.is_cancelled() {
            changes.mark_unchanged();
            let done = self.step_until(id, stop).await;
            // Whatever it waits for, a change goes before.
            let waited = async {
                match done {
                    Ok(Step::Delivered(_)) => {}
                    Ok(Step::UpToDate(position)) => news.after(position).await,
                    Ok(Step::Later(pause)) => tokio::time::sleep(pause).await,
                    Ok(Step::Ended) => return false,
                    Err(error) => {
                        tracing::warn!(%error, webhook = %id, "can't read what is to be delivered; trying again");
                        tokio::time::sleep(STORE_PAUSE).await;
                    }
                }
                true
            };
            tokio::select! {
                goes_on = waited => if !goes_on { return },
                Ok(()) = changes.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Delivers the next events to a webhook.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn step(&self, id: WebhookId) -> StoreResult<Step> {
        self.step_until(id, &CancellationToken::new()).await
    }

    /// The same, and no further event once told to stop.
    async fn step_until(&self, id: WebhookId, stop: &CancellationToken) -> StoreResult<Step> {
        let Some(hook) = self.active(id).await? else { return Ok(Step::Ended) };
        let now = self.clock.now();
        if let Some(trouble) = hook.trouble.filter(|trouble| trouble.next > now) {
            return Ok(Step::Later((trouble.next - now).unsigned_abs()));
        }
        let sink = id.sink();
        let seen = self.log.progress(&sink).await?;
        let found = self.feed.find_news(seen, PAGE, &hook.filter).await?;
        if found.kept_after > seen {
            tracing::error!(webhook = %id, seen, kept_after = found.kept_after, "events were removed before it was told");
        }
        let (count, more) = (found.events.len(), found.is_enough(seen));
        for (delivered, event) in found.events.iter().enumerate() {
            // Who has changed or removed it meanwhile is obeyed.
            if delivered > 0 && self.active(id).await?.is_none_or(|now| now.revision != hook.revision) {
                return Ok(Step::Delivered(delivered));
            }
            if stop.is_cancelled() {
                return Ok(Step::Delivered(delivered));
            }
            Failpoint::WebhookSending.pass();
            if !self.deliver(&hook, event).await? {
                return Ok(Step::Delivered(delivered));
            }
            Failpoint::WebhookTaken.pass();
            self.log.advance(&sink, event.position).await?;
            Failpoint::WebhookAdvanced.pass();
        }
        if found.events.last().map_or(seen, |event| event.position) < found.next {
            self.log.advance(&sink, found.next).await?;
        }
        Ok(if count > 0 || more { Step::Delivered(count) } else { Step::UpToDate(found.next) })
    }

    async fn active(&self, id: WebhookId) -> StoreResult<Option<Webhook>> {
        Ok(self.hooks.hook(id).await?.filter(|hook| hook.paused.is_none()))
    }

    /// Delivers one event, notes what came of it, and says whether it was taken.
    async fn deliver(&self, hook: &Webhook, event: &FeedEvent) -> StoreResult<bool> {
        let labels = SinkLabels { sink: "webhook" };
        let address = Address::of(event);
        let id = address.as_ref().map_or_else(|| event.position.to_string(), |address| address.id.clone().into_owned());
        let mut post = signed(hook, id, event.body.clone(), self.clock.now());
        let trace = address.as_ref().and_then(|address| address.traceparent.as_deref());
        let mut span = self.traces.follow(Kind::Client, format_args!("POST webhook"), trace);
        post.traceparent = span.as_ref().map(|span| span.traceparent()).or_else(|| trace.map(Arc::from));
        let sent = self.sender.send(&post).await;
        if let Some(span) = &mut span {
            span.text("allocation.webhook", &hook.id.to_string());
            span.text("messaging.message.id", &post.id);
            span.text("http.request.method", "POST");
            match &sent {
                Ok(answer) => {
                    span.number("http.response.status_code", answer.status.into());
                    if answer.status >= 400 {
                        span.fail("");
                    }
                }
                Err(error) => span.fail(&error.0),
            }
        }
        drop(span);
        let (why, gone, retry_after) = match sent {
            Ok(answer) if (200..300).contains(&answer.status) => {
                self.metrics.delivered.get_or_create(&labels).inc();
                if hook.trouble.is_some() {
                    alter(self.hooks.as_ref(), hook.id, |hook| hook.trouble = None).await?;
                }
                return Ok(true);
            }
            Ok(answer) => (format!("answered {}", answer.status), answer.status == 410, answer.retry_after),
            Err(error) => (error.to_string(), false, None),
        };
        self.metrics.delivery_failures.get_or_create(&labels).inc();
        tracing::warn!(webhook = %hook.id, why, "an event is delayed; trying again");
        self.note_failure(hook, &why, gone, retry_after).await?;
        Ok(false)
    }

    /// Notes a failure: when it is tried again, or that it is not.
    async fn note_failure(
        &self,
        tried: &Webhook,
        why: &str,
        gone: bool,
        retry_after: Option<Duration>,
    ) -> StoreResult<()> {
        let now = self.clock.now();
        let before = tried.trouble;
        let attempts = before.map_or(0, |trouble| trouble.attempts).saturating_add(1);
        let since = before.map_or(now, |trouble| trouble.since);
        let next = now + self.pause(attempts).max(retry_after.unwrap_or_default()).min(LONGEST_PAUSE);
        let paused = if gone { Some(Paused::Gone) } else { (now - since >= PATIENCE).then_some(Paused::Failing) };
        let changed = alter(self.hooks.as_ref(), tried.id, |hook| {
            hook.last_failure = Some(Failure { at: now, why: why.to_owned() });
            // It may have been mended meanwhile.
            if hook.url == tried.url && hook.trouble == before {
                hook.trouble = Some(Trouble { since, attempts, next });
                hook.paused = hook.paused.or(paused);
            }
        });
        if let Some(hook) = changed.await?
            && let Some(Paused::Gone | Paused::Failing) = hook.paused
        {
            tracing::error!(webhook = %hook.id, why, "a webhook is paused; it goes on where it was when it is made active");
        }
        Ok(())
    }

    /// How long to wait after so many failures.
    fn pause(&self, attempts: u32) -> Duration {
        let base = FIRST_PAUSE.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST_PAUSE);
        (base + self.entropy.jitter(base / 4)).min(LONGEST_PAUSE)
    }
}
