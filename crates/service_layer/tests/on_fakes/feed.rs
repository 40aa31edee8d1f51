//! Who waits for events, and what that costs the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use allocation_service_layer::feed::{Feed, Filter, Found, MOST_SCANNED};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::event_log::{EventLog, FeedEvent, FeedPage, Progress};
use async_trait::async_trait;
use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A log of so many events, that counts how often it is asked.
#[derive(Default)]
struct CountedLog {
    last: AtomicUsize,
    /// How many were archived.
    archived: AtomicUsize,
    reads: AtomicUsize,
    looks: AtomicUsize,
}

#[async_trait]
impl EventLog for CountedLog {
    async fn number(&self, _limit: usize) -> StoreResult<usize> {
        Ok(0)
    }

    /// Every thousandth is of another kind.
    async fn read(&self, after: u64, limit: usize) -> StoreResult<FeedPage> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let last = self.last.load(Ordering::SeqCst) as u64;
        let kept_after = self.archived.load(Ordering::SeqCst) as u64;
        let event = |position| {
            let kind = if position % 1_000 == 0 { "low_stock" } else { "line_allocated" };
            let body = format!(r#"{{"id":"{position}","type":"allocation.{kind}.v1","subject":"A"}}"#);
            FeedEvent { position, body }
        };
        Ok(FeedPage { kept_after, events: (after.max(kept_after) + 1..=last).take(limit).map(event).collect() })
    }

    async fn last_position(&self) -> StoreResult<u64> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(self.last.load(Ordering::SeqCst) as u64)
    }

    async fn progress(&self, _sink: &str) -> StoreResult<u64> {
        Ok(0)
    }

    async fn advance(&self, _sink: &str, _position: u64) -> StoreResult<bool> {
        Ok(true)
    }

    async fn sinks(&self) -> StoreResult<Vec<Progress>> {
        Ok(Vec::new())
    }

    async fn introduce(&self, _sink: &str, _position: u64) -> StoreResult<bool> {
        Ok(false)
    }

    async fn forget(&self, _sink: &str) -> StoreResult<bool> {
        Ok(false)
    }

    async fn lease(&self, _task: &str, _holder: &str, _ttl: Duration) -> StoreResult<bool> {
        Ok(true)
    }

    async fn release(&self, _task: &str, _holder: &str) -> StoreResult<()> {
        Ok(())
    }

    async fn last_notified(&self, _subject: &str) -> StoreResult<Option<OffsetDateTime>> {
        Ok(None)
    }

    async fn set_notified(&self, _subject: &str, _at: OffsetDateTime) -> StoreResult<()> {
        Ok(())
    }
}

/// A feed of so many events, its log, and what stops it.
fn feed(events: usize) -> (Arc<Feed>, Arc<CountedLog>, CancellationToken) {
    let log = Arc::new(CountedLog { last: events.into(), ..CountedLog::default() });
    let stop = CancellationToken::new();
    (Arc::new(Feed::new(log.clone(), Metrics::new(), stop.clone())), log, stop)
}

fn rare() -> Filter {
    Filter { topics: ["low_stock"].into(), ..Filter::default() }
}

/// Has time pass, which stands still in these tests otherwise: the runtime moves it on when all tasks wait.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn a_thousand_who_wait_cost_the_store_what_one_does() {
    const WAITERS: usize = 1_000;
    let (feed, log, stop) = feed(10);
    let (_committed, told) = watch::channel(());
    let watching = tokio::spawn({
        let feed = feed.clone();
        async move { feed.watch(told).await }
    });
    let waiters = (0..WAITERS).map(|_| {
        let feed = feed.clone();
        tokio::spawn(async move { feed.wait_for(10, 100, &Filter::default(), MINUTE).await.unwrap() })
    });
    let waiters: Vec<_> = waiters.collect();
    // Each has looked for itself once.
    pass(Duration::from_secs(10)).await;
    let (reads, looks) = (log.reads.load(Ordering::SeqCst), log.looks.load(Ordering::SeqCst));
    assert!((WAITERS..WAITERS + 5).contains(&reads), "{reads}");
    assert!(looks < 70, "{looks} looks in ten seconds");
    log.last.store(11, Ordering::SeqCst);
    for found in join_all(waiters).await {
        assert_eq!(found.unwrap().next, 11);
    }
    let more = log.reads.load(Ordering::SeqCst) - reads;
    assert!(more < 5, "{more} reads to tell all of them");

    // Once nobody waits, nobody looks.
    pass(Duration::from_secs(1)).await;
    let looks = log.looks.load(Ordering::SeqCst);
    pass(MINUTE).await;
    assert_eq!(log.looks.load(Ordering::SeqCst), looks);
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_is_overtaken_by_archiving_is_told_so_from_memory_too() {
    let (feed, log, stop) = feed(900);
    let (_committed, told) = watch::channel(());
    assert_eq!(feed.find(0, 100, &Filter::default()).await.unwrap().next, 100);
    log.archived.store(500, Ordering::SeqCst);
    let watching = tokio::spawn({
        let feed = feed.clone();
        async move { feed.watch(told).await }
    });
    let mut news = feed.news();
    news.after(100).await;
    assert_eq!(feed.find_news(100, 100, &Filter::default()).await.unwrap().kept_after, 500);
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_call_looks_at_so_many_events_and_says_how_far_it_came() {
    let (feed, log, _) = feed(25_500);
    let none = Filter { topics: ["out_of_stock"].into(), ..Filter::default() };
    let mut after = 0;
    for next in [10_000, 20_000, 25_500] {
        let found = feed.find(after, 100, &none).await.unwrap();
        assert_eq!(found, Found { kept_after: 0, events: Vec::new(), next });
        after = next;
    }
    assert_eq!(log.reads.load(Ordering::SeqCst), 10 + 10 + 6);
    let some = feed.find(0, 3, &rare()).await.unwrap();
    assert_eq!(some.events.iter().map(|event| event.position).collect::<Vec<_>>(), [1_000, 2_000, 3_000]);
    assert_eq!(some.next, 3_000, "no further than the last that was taken");
}

/// It is to ask again at once, and not to wait for what may be there already.
#[tokio::test(start_paused = true)]
async fn who_has_looked_at_enough_is_answered_without_waiting() {
    let (feed, _, _) = feed(MOST_SCANNED * 2);
    let none = Filter { topics: ["out_of_stock"].into(), ..Filter::default() };
    let begun = tokio::time::timeout(Duration::from_secs(1), feed.wait_for(0, 100, &none, MINUTE));
    assert_eq!(begun.await.expect("at once").unwrap().next, MOST_SCANNED as u64);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_is_rare_moves_on_past_the_rest() {
    let (feed, log, stop) = feed(100);
    let (committed, told) = watch::channel(());
    let watching = tokio::spawn({
        let feed = feed.clone();
        async move { feed.watch(told).await }
    });
    let waiting = tokio::spawn({
        let feed = feed.clone();
        async move { feed.wait_for(100, 100, &rare(), MINUTE).await.unwrap() }
    });
    for last in [200, 500, 999, 1_003] {
        pass(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished(), "nothing that is wanted up to here");
        log.last.store(last, Ordering::SeqCst);
        committed.send_replace(());
    }
    let found = waiting.await.unwrap();
    assert_eq!((found.events[0].position, found.next), (1_000, 1_003));
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_let_go_when_the_service_stops() {
    let (feed, _, stop) = feed(10);
    let waiting = tokio::spawn(async move { feed.wait_for(10, 100, &Filter::default(), MINUTE).await.unwrap() });
    pass(Duration::from_secs(1)).await;
    stop.cancel();
    let let_go = tokio::time::timeout(Duration::from_secs(1), waiting).await.expect("at once").unwrap();
    assert_eq!((let_go.events.len(), let_go.next), (0, 10));
}
