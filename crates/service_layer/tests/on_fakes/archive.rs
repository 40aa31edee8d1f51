//! Archiving on fakes: what is kept elsewhere first, what is told of it, and what those who read along learn.

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::Command;
use allocation_service_layer::archive::{Archived, STEP};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::archive::Shelf;
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{StoreError, StoreResult};
use allocation_service_layer::ports::event_log::{EventLog, FeedEvent};
use allocation_service_layer::relay::{Relay, Sink};
use allocation_service_layer::sinks::{Begin, introduce};
use allocation_testing::clock::ManualClock;
use allocation_testing::contracts::Fixture;
use allocation_testing::eventually;
use allocation_testing::fakes::{FakeDatabase, FakePublisher};
use allocation_testing::shorthand::create_batch;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// A store with this many events, each of a batch of another product.
async fn with_events(count: usize) -> Fixture<FakeDatabase> {
    let clock = Arc::new(ManualClock::new());
    let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock, keep: None };
    fixture.handle((0..count).map(batch)).await;
    fixture
}

fn batch(n: usize) -> Command {
    create_batch("b", &format!("S{n}"), 1, None)
}

/// A shelf that remembers, and breaks when it has been given so much.
struct FakeShelf {
    kept: Vec<FeedEvent>,
    breaks_at: usize,
}

#[async_trait]
impl Shelf for FakeShelf {
    async fn put(&mut self, events: &[FeedEvent]) -> StoreResult<()> {
        if self.kept.len() >= self.breaks_at {
            return Err(StoreError::Unavailable("the disk is full".into()));
        }
        self.kept.extend_from_slice(events);
        Ok(())
    }
}

#[tokio::test]
async fn what_leaves_the_log_is_on_the_shelf() {
    let fixture = with_events(2 * STEP + 10).await;
    let all = EventLog::read(&fixture.store, 0, 10_000).await.unwrap().events;
    fixture.clock.advance(Duration::from_secs(1));
    let (archivist, now, stop) = (fixture.archivist(), fixture.clock.now(), CancellationToken::new());
    let mut shelf = FakeShelf { kept: Vec::new(), breaks_at: STEP };
    archivist.archive(now, Some(&mut shelf), &stop).await.unwrap_err();
    let kept_after = EventLog::read(&fixture.store, 0, 1).await.unwrap().kept_after;
    assert_eq!((shelf.kept.len(), kept_after), (STEP, STEP as u64), "what the shelf refuses stays");

    shelf.breaks_at = usize::MAX;
    let archived = archivist.archive(now, Some(&mut shelf), &stop).await.unwrap();
    assert_eq!(archived, Archived { events: STEP as u64 + 9, held_back: None });
    assert_eq!(shelf.kept, all[..all.len() - 1]);
    assert_eq!(archivist.metrics.archived.get(), 2 * STEP as u64 + 9);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn it_stops_when_told_to() {
    let fixture = with_events(2 * STEP).await;
    fixture.clock.advance(Duration::from_secs(1));
    let stop = CancellationToken::new();
    stop.cancel();
    let archived = fixture.archivist().archive(fixture.clock.now(), None, &stop).await.unwrap();
    assert_eq!(archived.events, STEP as u64, "the step that was begun");
    assert!(fixture.store.lease("archive", "another", Duration::from_secs(1)).await.unwrap(), "nobody has the lease");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_old_is_archived_now_and_again_and_what_holds_it_back_is_told() {
    let fixture = with_events(3).await;
    fixture.store.introduce("slow", 1).await.unwrap();
    let (archivist, stop) = (Arc::new(fixture.archivist()), CancellationToken::new());
    let metrics = archivist.metrics.clone();
    let day = Duration::from_hours(24);
    let running = tokio::spawn({
        let (archivist, stop) = (archivist.clone(), stop.clone());
        async move { archivist.run(day, stop).await }
    });
    let minutes = Duration::from_mins(2);
    let kept_after = async || EventLog::read(&fixture.store, 0, 1).await.unwrap().kept_after;
    tokio::time::advance(minutes).await;
    assert_eq!(kept_after().await, 0, "nothing is old");
    fixture.clock.advance(day + Duration::from_mins(5));
    tokio::time::advance(minutes).await;
    eventually("the first to leave", async || (kept_after().await == 1).then_some(())).await;
    let late = Duration::from_mins(5).as_secs_f64();
    eventually("the delay", async || ((metrics.archive_held_back.get() - late).abs() < 1.0).then_some(())).await;
    fixture.store.advance("slow", 3).await.unwrap();
    tokio::time::advance(minutes).await;
    eventually("the second to leave", async || (kept_after().await == 2).then_some(())).await;
    eventually("no delay", async || (metrics.archive_held_back.get() == 0.0).then_some(())).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_sink_that_is_new_begins_with_the_first_event_there_is_or_with_the_next() {
    let fixture = with_events(5).await;
    fixture.store.introduce("other", 2).await.unwrap();
    fixture.archive().await;
    let log: Arc<dyn EventLog> = Arc::new(fixture.store.clone());
    for (begin, first) in [(Begin::WithFirst, 3), (Begin::WithNext, 7)] {
        let publisher = Arc::new(FakePublisher::default());
        introduce(log.as_ref(), [("fake", begin)]).await.unwrap();
        let sink = Sink::Publisher(publisher.clone());
        let clock: Arc<dyn Clock> = fixture.clock.clone();
        let relay = Relay::new(log.clone(), clock, Metrics::new(), vec![sink.clone()], "a".into());
        fixture.handle([batch(first + 10)]).await;
        while relay.step(&sink).await.unwrap() > 0 {}
        let told: Vec<u64> = publisher.published().iter().map(|event| event.position).collect();
        let last = log.last_position().await.unwrap();
        assert!(told.iter().copied().eq(first as u64..=last), "{begin:?}: {told:?}");
        // It is known by now, whatever is said of new ones.
        introduce(log.as_ref(), [("fake", Begin::WithFirst)]).await.unwrap();
        assert_eq!(log.progress("fake").await.unwrap(), last);
        assert!(log.forget("fake").await.unwrap());
    }
}

#[tokio::test]
async fn a_sink_that_is_not_there_yet_keeps_the_log_as_it_is() {
    let fixture = with_events(5).await;
    introduce(&fixture.store, [("new", Begin::WithFirst)]).await.unwrap();
    let archived = fixture.archive().await;
    assert_eq!((archived.events, archived.held_back.map(|held| held.sink)), (0, Some("new".into())));
}
