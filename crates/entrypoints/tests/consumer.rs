//! The consumer against fakes: each message has its effect once, in order, or is kept with the reason.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use allocation_entrypoints::consumer::{
    CHANGE_BATCH_QUANTITY, Consumer, Delivery, Retried, Source, SourceError, Subscription,
};
use allocation_service_layer::Message;
use allocation_service_layer::group_commit::{Commands, HandlerError, Lane, Limits};
use allocation_service_layer::handlers::Verdict;
use allocation_service_layer::metrics::{Metrics, SourceLabels};
use allocation_service_layer::ports::database::{KeyOf, StoreError};
use allocation_service_layer::ports::dead_letters::{DeadLetters, KeptLetter};
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::housekeeping::Housekeeping;
use allocation_service_layer::ports::tracer::Traces;
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::FakeDatabase;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

struct Bench {
    fixture: Fixture<FakeDatabase>,
    consumer: Consumer,
    stop: CancellationToken,
}

/// A consumer over a lane over a store in memory.
fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new());
    let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock: clock.clone(), keep: None };
    let (lane, commands) = Lane::new(Arc::new(fixture.bus()), Limits::default());
    tokio::spawn(lane.run());
    let store = Arc::new(fixture.store.clone());
    let consumer = Consumer {
        commands: Arc::new(commands),
        reader: store.clone(),
        log: store.clone(),
        dead_letters: store,
        clock,
        entropy: Arc::new(CountingEntropy::default()),
        metrics: Metrics::new(),
        traces: Traces::default(),
        holder: "one".into(),
    };
    Bench { fixture, consumer, stop: CancellationToken::new() }
}

/// A command as a message.
fn said(id: &str, name: &str, data: &str) -> Delivery {
    let envelope = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/shop","type":"allocation.command.{name}.v1","data":{data}}}"#
    );
    on("allocation.commands", &envelope)
}

fn on(channel: &str, body: &str) -> Delivery {
    Delivery {
        tag: "1-0".into(),
        channel: channel.into(),
        sent_at: None,
        headers: vec![("id".into(), "x".into())],
        body: body.into(),
    }
}

fn batch(id: &str, units: u64) -> Delivery {
    said(id, "create_batch", &format!(r#"{{"sku":"LAMP","ref":"b","qty":{units}}}"#))
}

fn damaged(id: &str, units: u64) -> Delivery {
    said(id, "adjust_batch", &format!(r#"{{"sku":"LAMP","ref":"b","kind":"damaged","qty":{units},"reason":"wet"}}"#))
}

impl Bench {
    async fn work(&self, page: &[Delivery]) -> bool {
        self.consumer.work("broker", page, &self.stop).await
    }

    async fn available(&self) -> u64 {
        self.fixture.product("LAMP").await.available()
    }

    async fn letters(&self) -> Vec<KeptLetter> {
        self.fixture.store.letters(None, 100).await.unwrap()
    }

    fn consumed(&self) -> u64 {
        self.consumer.metrics.consumed.get_or_create(&SourceLabels { source: "broker" }).get()
    }
}

#[tokio::test]
async fn messages_have_their_effect_in_order() {
    let bench = bench();
    let page = [batch("1", 10), damaged("2", 3), said("3", "cancel_batch", r#"{"sku":"LAMP","ref":"b"}"#)];
    assert!(bench.work(&page).await);
    assert_eq!(bench.available().await, 7);
    let letters = bench.letters().await;
    assert_eq!(letters.len(), 1, "what is on hand can't be cancelled");
    assert_eq!(letters[0].letter.body, page[2].body);
    assert_eq!(letters[0].letter.headers, page[2].headers);
    assert_eq!(
        (letters[0].letter.source.as_str(), letters[0].letter.channel.as_str()),
        ("broker", "allocation.commands")
    );
    assert_eq!(bench.consumed(), 2);
}

#[tokio::test]
async fn a_message_that_comes_again_acts_once() {
    let bench = bench();
    assert!(bench.work(&[batch("1", 10), damaged("2", 3), damaged("2", 3)]).await);
    assert!(bench.work(&[damaged("2", 3), damaged("3", 3)]).await);
    assert_eq!(bench.available().await, 4);
    assert_eq!(bench.letters().await, []);
}

#[tokio::test]
async fn another_message_under_a_known_id_is_a_dead_letter() {
    let bench = bench();
    assert!(bench.work(&[batch("1", 10), damaged("2", 3), damaged("2", 4)]).await);
    assert_eq!(bench.available().await, 7);
    assert_eq!(bench.letters().await[0].letter.reason, "its id was used for another message");
}

#[tokio::test]
async fn a_message_is_known_until_its_time_in_the_inbox_is_over() {
    let bench = bench();
    let day = std::time::Duration::from_hours(24);
    assert!(bench.work(&[batch("1", 10), damaged("2", 3)]).await);
    bench.fixture.clock.advance(30 * day);
    bench.fixture.store.forget_keys(KeyOf::Message, 30 * day).await.unwrap();
    assert!(bench.work(&[damaged("2", 3)]).await);
    assert_eq!(bench.available().await, 7);
    bench.fixture.clock.advance(day);
    bench.fixture.store.forget_keys(KeyOf::Message, 30 * day).await.unwrap();
    // A command with a key of its own acts once for ever.
    assert!(bench.work(&[batch("1", 10), damaged("2", 3)]).await);
    assert_eq!(bench.available().await, 4);
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_and_holds_up_nobody() {
    let bench = bench();
    let page =
        [batch("1", 10), on("allocation.commands", "nonsense"), damaged("2", 3), on("allocation.commands", "{}")];
    assert!(bench.work(&page).await);
    assert_eq!(bench.available().await, 7);
    let reasons: Vec<_> = bench.letters().await.into_iter().map(|kept| kept.letter.reason).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|reason| reason.starts_with("it is no CloudEvents object")), "{reasons:?}");
}

/// Counts what it hands on.
struct Counting(Arc<dyn Commands>, AtomicUsize);

#[async_trait]
impl Commands for Counting {
    async fn handle(&self, message: Message) -> Result<Verdict, HandlerError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.handle(message).await
    }
}

#[tokio::test]
async fn what_cannot_be_used_has_nothing_behind_it_done_again() {
    let mut bench = bench();
    let counting = Arc::new(Counting(bench.consumer.commands.clone(), AtomicUsize::new(0)));
    bench.consumer.commands = counting.clone();
    let mut page = vec![batch("0", 1_000)];
    for n in 1..=100 {
        page.push(damaged(&format!("d{n}"), 1));
        page.push(said(&format!("x{n}"), "cancel_batch", r#"{"sku":"LAMP","ref":"b"}"#));
        page.push(on("allocation.commands", &format!("nonsense {n}")));
    }
    assert!(bench.work(&page).await);
    assert_eq!(bench.available().await, 900);
    assert_eq!(bench.fixture.store.count_letters().await.unwrap(), 200);
    assert_eq!(bench.consumed(), 101);
    assert_eq!(counting.1.load(Ordering::SeqCst), 201, "each that can be read is handled once");
}

#[tokio::test(start_paused = true)]
async fn what_fails_five_times_is_kept_with_the_reason() {
    let bench = bench();
    let failed = || StoreError::Failed("no good".into());
    bench.fixture.store.fail_commits((0..5).map(|_| failed()));
    assert!(bench.work(&[batch("1", 10)]).await);
    assert_eq!(bench.letters().await[0].letter.reason, "no good");
    bench.fixture.store.fail_commits((0..4).map(|_| failed()));
    assert!(bench.work(&[batch("1", 10)]).await);
    assert_eq!(bench.available().await, 10);
    assert_eq!(bench.letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_messages_wait_and_keep_their_order() {
    let bench = bench();
    bench.fixture.store.fail_commits((0..50).map(|_| StoreError::Unavailable("away".into())));
    assert!(bench.work(&[batch("1", 10), damaged("2", 3)]).await);
    assert_eq!(bench.available().await, 7);
    assert_eq!(bench.letters().await, []);
}

#[tokio::test(start_paused = true)]
async fn no_message_overtakes_one_that_has_failed() {
    let bench = bench();
    let declared = |id: &str, units| said(id, "declare_batch", &format!(r#"{{"sku":"LAMP","ref":"b","qty":{units}}}"#));
    // Together they fail, then the first one by itself: the second one would be taken.
    let (bad, away) = (StoreError::Failed("no good".into()), StoreError::Unavailable("away".into()));
    bench.fixture.store.fail_commits([bad, away]);
    assert!(bench.work(&[declared("1", 10), declared("2", 20)]).await);
    assert_eq!(bench.available().await, 20);
    assert_eq!(bench.letters().await, []);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_to_stop_leaves_what_has_no_effect_yet() {
    let bench = bench();
    bench.fixture.store.fail_commits((0..1_000).map(|_| StoreError::Unavailable("away".into())));
    let page = [batch("1", 10)];
    let (done, ()) = tokio::join!(bench.work(&page), async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        bench.stop.cancel();
    });
    assert!(!done);
    assert_eq!(bench.letters().await, []);
}

#[tokio::test]
async fn a_dead_letter_that_has_its_effect_later_is_kept_no_longer() {
    let bench = bench();
    assert!(bench.work(&[damaged("2", 3)]).await);
    let kept = bench.letters().await.remove(0);
    let again = bench.consumer.retry(&kept).await.unwrap();
    assert_eq!(again, Retried::Kept("unknown SKU LAMP".into()));
    let kept = bench.letters().await.remove(0);
    assert_eq!(kept.times, 2);
    assert!(bench.work(&[batch("1", 10)]).await);
    assert_eq!(bench.consumer.retry(&kept).await.unwrap(), Retried::Done);
    assert_eq!(bench.available().await, 7);
    assert_eq!(bench.letters().await, []);
    assert!(bench.work(&[damaged("2", 3)]).await);
    assert_eq!(bench.available().await, 7, "its id was remembered with its effect");
}

#[tokio::test]
async fn the_originals_message_needs_no_envelope() {
    let bench = bench();
    assert!(bench.work(&[batch("1", 10)]).await);
    assert!(bench.work(&[on(CHANGE_BATCH_QUANTITY, r#"{"batchref":"b","qty":4}"#)]).await);
    assert_eq!(bench.available().await, 4);
}

/// A broker that has these pages, and delivers again what was not acknowledged.
#[derive(Clone, Default)]
struct FakeBroker {
    pages: Arc<Mutex<VecDeque<Vec<Delivery>>>>,
    subscribed: Arc<AtomicUsize>,
}

impl FakeBroker {
    fn left(&self) -> usize {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[async_trait]
impl Source for FakeBroker {
    fn name(&self) -> &'static str {
        "broker"
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SourceError> {
        match self.subscribed.fetch_add(1, Ordering::SeqCst) {
            0 => Err(SourceError("not there yet".into())),
            _ => Ok(Box::new(self.clone())),
        }
    }
}

#[async_trait]
impl Subscription for FakeBroker {
    async fn next(&mut self) -> Result<Vec<Delivery>, SourceError> {
        if self.left() == 0 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.front().cloned().map_or_else(|| Ok(Vec::new()), Ok)
    }

    async fn acknowledge(&mut self, deliveries: &[Delivery]) -> Result<(), SourceError> {
        // The first time it is not heard.
        if self.subscribed.load(Ordering::SeqCst) == 2 {
            return Err(SourceError("gone".into()));
        }
        let done = self.pages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        assert_eq!(done.as_deref(), Some(deliveries));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_breaks_is_gone_back_to() {
    let bench = bench();
    let broker = FakeBroker::default();
    broker.pages.lock().unwrap().extend([vec![batch("1", 10), damaged("2", 3)], vec![damaged("3", 3)]]);
    let (source, stop) = (broker.clone(), bench.stop.clone());
    tokio::join!(bench.consumer.run(&source, &stop), async {
        while broker.left() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        bench.stop.cancel();
    });
    assert_eq!(bench.available().await, 4);
    assert_eq!(broker.subscribed.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn one_copy_consumes_at_a_time() {
    let bench = bench();
    let broker = FakeBroker::default();
    let hour = std::time::Duration::from_hours(1);
    assert!(bench.fixture.store.lease("consume:broker", "another", hour).await.unwrap());
    let (source, stop) = (broker.clone(), bench.stop.clone());
    tokio::join!(bench.consumer.run(&source, &stop), async {
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
        assert_eq!(broker.subscribed.load(Ordering::SeqCst), 0);
        bench.fixture.store.release("consume:broker", "another").await.unwrap();
        while broker.subscribed.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        bench.stop.cancel();
    });
    assert!(bench.fixture.store.lease("consume:broker", "another", hour).await.unwrap(), "it gives the right back");
}
