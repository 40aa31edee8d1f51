//! The event log for those who read along: filters, and who waits for what comes next.
//!
//! However many wait, one watcher looks for news. It keeps the newest page in memory, so that a thousand who are up to date cost the store what one
//! does. Polling is the truth, since other copies commit too, and positions may be given in another process; being told of a commit only makes it quick.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use allocation_domain::Sku;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::ports::database::StoreResult;
use crate::ports::event_log::{EventLog, FeedEvent, FeedPage};

/// How many events are read in one go.
const PAGE: usize = 1_000;
/// How many events one call looks at; what it has not come to is for the next.
pub const MOST_SCANNED: usize = 10_000;
/// How often to look for events that nobody told of.
const POLL: Duration = Duration::from_millis(200);
/// How long after a commit to look first: by then its events may have their positions, and others have come with them.
const GATHER: Duration = Duration::from_millis(10);

/// Which events somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of these products; none named: of all.
    pub skus: BTreeSet<Sku>,
    /// Events of these names, as in [`TOPICS`](crate::wire::TOPICS); none named: all.
    pub topics: BTreeSet<&'static str>,
}

/// What of a stored event decides where it goes.
#[derive(Debug, Deserialize)]
pub struct Address<'a> {
    /// Its id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Its `CloudEvents` type.
    #[serde(borrow)]
    pub r#type: Cow<'a, str>,
    /// Its product.
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    /// The trace it belongs to.
    #[serde(default, borrow)]
    pub traceparent: Option<Cow<'a, str>>,
}

impl<'a> Address<'a> {
    /// Reads it; none when the text is no event.
    pub fn of(event: &'a FeedEvent) -> Option<Self> {
        serde_json::from_str(&event.body).ok()
    }
}

impl Filter {
    fn is_open(&self) -> bool {
        self.skus.is_empty() && self.topics.is_empty()
    }

    /// Whether it lets an event through.
    fn admits(&self, event: &FeedEvent) -> bool {
        // What can't be read is for everybody to see.
        self.is_open() || Address::of(event).is_none_or(|address| self.wants(&address))
    }

    fn wants(&self, address: &Address<'_>) -> bool {
        let name = || address.r#type.strip_prefix("allocation.")?.strip_suffix(".v1");
        (self.skus.is_empty() || self.skus.iter().any(|sku| sku.as_str() == address.subject))
            && (self.topics.is_empty() || name().is_some_and(|name| self.topics.contains(name)))
    }
}

/// What a reader was looking for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The position before the oldest event that is kept.
    pub kept_after: u64,
    /// Events that were wanted, in order.
    pub events: Vec<FeedEvent>,
    /// The last position that was looked at: where to go on.
    pub next: u64,
}

impl Found {
    /// Whether so much was looked at since `after` that the next call is to go on.
    pub fn is_enough(&self, after: u64) -> bool {
        self.next - after >= MOST_SCANNED as u64
    }
}

/// The newest events, for readers that are up to date.
#[derive(Default)]
struct Tail {
    /// The position before the first of `events`.
    after: u64,
    /// The last position there is.
    last: u64,
    events: Vec<FeedEvent>,
}

impl Tail {
    /// The page after a position, if it is here.
    fn page(&self, after: u64, limit: usize) -> Option<FeedPage> {
        if !(self.after..=self.last).contains(&after) || self.last == 0 {
            return None;
        }
        let begin = self.events.partition_point(|event| event.position <= after);
        let events = self.events[begin..].iter().take(limit).cloned().collect();
        Some(FeedPage { kept_after: 0, events })
    }
}

/// The feed, as all its readers share it.
pub struct Feed {
    log: Arc<dyn EventLog>,
    metrics: Metrics,
    tail: watch::Sender<Arc<Tail>>,
    wanted: Notify,
    stop: CancellationToken,
}

impl Feed {
    /// The feed of a log. Whoever waits is let go when `stop` is cancelled.
    pub fn new(log: Arc<dyn EventLog>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self { log, metrics, tail: watch::Sender::default(), wanted: Notify::new(), stop }
    }

    /// Looks for news as long as somebody waits for some, until told to stop.
    pub async fn watch(&self, mut committed: watch::Receiver<()>) {
        let mut pause = GATHER;
        while !self.stop.is_cancelled() {
            if self.tail.receiver_count() == 0 {
                // What was newest then is not what will be newest once somebody comes.
                self.tail.send_replace(Arc::default());
                let _ = self.stop.run_until_cancelled(self.wanted.notified()).await;
                continue;
            }
            committed.mark_unchanged();
            match self.look().await {
                Ok(true) => pause = GATHER,
                Ok(false) => pause = (pause * 2).min(POLL),
                Err(error) => {
                    tracing::warn!(%error, "can't look for new events; trying again");
                    pause = POLL;
                }
            }
            let told = async {
                // Without a bus in this process nobody tells, and polling does it.
                if committed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let told = self.stop.run_until_cancelled(tokio::time::timeout(pause, told)).await;
            if told.is_some_and(|told| told.is_ok()) {
                pause = GATHER;
                let _ = self.stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
            }
        }
    }

    /// Reads what is new, and says whether there was anything.
    async fn look(&self) -> StoreResult<bool> {
        let before = self.tail.borrow().last;
        let last = self.log.last_position().await?;
        if last <= before {
            return Ok(false);
        }
        // The first look, and one that has missed much, begin with the end.
        let after = before.max(last.saturating_sub(PAGE as u64));
        let FeedPage { kept_after, events } = self.log.read(after, PAGE).await?;
        // What has left the log meanwhile is not here either.
        let after = after.max(kept_after);
        let last = events.last().map_or(last, |event| event.position);
        self.tail.send_replace(Arc::new(Tail { after, last, events }));
        Ok(true)
    }

    /// Tells of news, from now on.
    pub fn news(&self) -> News {
        let tail = self.tail.subscribe();
        self.wanted.notify_one();
        self.metrics.feed_readers.inc();
        News { tail, known: 0, metrics: self.metrics.clone() }
    }

    /// Wanted events after a position, among the next [`MOST_SCANNED`].
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn find(&self, after: u64, limit: usize, filter: &Filter) -> StoreResult<Found> {
        self.scan(after, limit, filter, &Tail::default()).await
    }

    /// The same for a reader that was told of news: from memory where that has them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn find_news(&self, after: u64, limit: usize, filter: &Filter) -> StoreResult<Found> {
        let tail = self.tail.borrow().clone();
        self.scan(after, limit, filter, &tail).await
    }

    async fn scan(&self, after: u64, limit: usize, filter: &Filter, tail: &Tail) -> StoreResult<Found> {
        let mut found = Found { kept_after: 0, events: Vec::new(), next: after };
        let size = if filter.is_open() { limit.min(PAGE) } else { PAGE };
        while found.next - after < MOST_SCANNED as u64 {
            let FeedPage { kept_after, events } = match tail.page(found.next, size) {
                Some(page) => page,
                None => self.log.read(found.next, size).await?,
            };
            found.kept_after = found.kept_after.max(kept_after);
            let is_last = events.len() < size;
            for event in events {
                found.next = event.position;
                if filter.admits(&event) {
                    found.events.push(event);
                    if found.events.len() == limit {
                        return Ok(found);
                    }
                }
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// The same, and when there is nothing waits for it: until `wait` has passed, the service stops, or enough was looked at.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn wait_for(&self, after: u64, limit: usize, filter: &Filter, wait: Duration) -> StoreResult<Found> {
        if wait.is_zero() {
            return self.find(after, limit, filter).await;
        }
        let mut news = self.news();
        let mut found = self.find(after, limit, filter).await?;
        let waiting = async {
            while found.events.is_empty() && !found.is_enough(after) && found.kept_after <= after {
                news.after(found.next).await;
                found = Found { kept_after: found.kept_after, ..self.find_news(found.next, limit, filter).await? };
            }
            Ok(())
        };
        let waited = self.stop.run_until_cancelled(tokio::time::timeout(wait, waiting)).await;
        match waited {
            Some(Ok(Err(error))) => Err(error),
            _ => Ok(found),
        }
    }

    /// Whether the service is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// What comes of `work`, unless the service stops first.
    pub async fn unless_stopping<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(work).await
    }
}

/// Hears of new events.
pub struct News {
    tail: watch::Receiver<Arc<Tail>>,
    /// The last position there was when the reader last looked.
    known: u64,
    metrics: Metrics,
}

impl Drop for News {
    fn drop(&mut self) {
        self.metrics.feed_readers.dec();
    }
}

impl News {
    /// Completes once there is something after this position that was not there the last time.
    pub async fn after(&mut self, position: u64) {
        let (seen, known) = (position.max(self.known), &mut self.known);
        let mut last = 0;
        let told = self.tail.wait_for(|tail| {
            last = tail.last;
            tail.last > seen
        });
        // Its sender lives as long as the feed, and who waits holds that.
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
        *known = last;
    }
}
