//! Webhooks on fakes, with a clock that is set.

use std::sync::Arc;
use std::time::Duration;

use allocation_service_layer::feed::{Feed, Filter};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::tracer::Traces;
use allocation_service_layer::ports::webhooks::{Paused, Webhook, WebhookId, Webhooks};
use allocation_service_layer::sinks::Begin;
use allocation_service_layer::webhooks::{Changes, Delivery, FilterChanges, Hooks, Refused, Step};
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::{FakeDatabase, FakeReceivers};
use allocation_testing::shorthand::{allocate, create_batch, sku};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The least that the clock can be moved by.
const TICK: Duration = Duration::from_millis(1);
const SHOP: &str = "https://shop.example/hooks";

/// A store, its webhooks, and who receives them.
struct World {
    fixture: Fixture<FakeDatabase>,
    receivers: Arc<FakeReceivers>,
    hooks: Hooks,
    delivery: Delivery,
    stop: CancellationToken,
}

impl World {
    /// With this many events, each of a batch of another product.
    async fn with_events(count: usize) -> Self {
        let clock = Arc::new(ManualClock::new());
        let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock: clock.clone(), keep: None };
        let (store, receivers) = (Arc::new(fixture.store.clone()), Arc::new(FakeReceivers::default()));
        let (entropy, stop, metrics) = (Arc::new(CountingEntropy::default()), CancellationToken::new(), Metrics::new());
        let world = Self {
            hooks: Hooks {
                store: store.clone(),
                log: store.clone(),
                sender: receivers.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
            },
            delivery: Delivery {
                feed: Arc::new(Feed::new(store.clone(), metrics.clone(), stop.clone())),
                log: store.clone(),
                hooks: store,
                sender: receivers.clone(),
                clock,
                entropy,
                metrics,
                traces: Traces::default(),
                holder: "a".into(),
            },
            fixture,
            receivers,
            stop,
        };
        world.batches(0, count).await;
        world
    }

    async fn batches(&self, from: usize, to: usize) {
        let batches = (from..to).map(|n| create_batch("b", &format!("S{n}"), 10, None));
        for verdict in self.fixture.handle(batches).await {
            verdict.expect("part of the set-up");
        }
    }

    /// Registers a webhook that wants everything from the beginning.
    async fn register(&self, url: &str) -> WebhookId {
        self.hooks.register(url, Filter::default(), Begin::WithFirst).await.unwrap().unwrap().hook.id
    }

    async fn hook(&self, id: WebhookId) -> Webhook {
        self.fixture.store.hook(id).await.unwrap().expect("it is there")
    }

    async fn step(&self, id: WebhookId) -> Step {
        self.delivery.step(id).await.unwrap()
    }

    /// Steps until there is nothing to do at once.
    async fn run_out(&self, id: WebhookId) -> Step {
        loop {
            match self.step(id).await {
                Step::Delivered(_) => {}
                other => return other,
            }
        }
    }

    /// Products in the order in which a URL was told of them.
    fn told(&self, url: &str) -> Vec<String> {
        let subject = |body: &str| serde_json::from_str::<Value>(body).unwrap()["subject"].as_str().unwrap().to_owned();
        self.receivers.sent(url).iter().map(|post| subject(&post.body)).collect()
    }
}

#[tokio::test]
async fn a_webhook_is_told_of_every_event_once_and_in_order() {
    let world = World::with_events(120).await;
    let id = world.register(SHOP).await;
    assert_eq!(world.run_out(id).await, Step::UpToDate(120));
    let expected: Vec<_> = (0..120).map(|n| format!("S{n}")).collect();
    assert_eq!(world.told(SHOP), expected);
    let stored = EventLog::read(&world.fixture.store, 0, 1_000).await.unwrap().events;
    for (sent, event) in world.receivers.sent(SHOP).iter().zip(&stored) {
        assert_eq!(sent.body, event.body, "what is stored is sent untouched");
        let id = serde_json::from_str::<Value>(&event.body).unwrap()["id"].clone();
        assert_eq!(sent.id, id);
    }
    world.batches(120, 121).await;
    assert_eq!(world.run_out(id).await, Step::UpToDate(121));
    assert_eq!(world.told(SHOP).len(), 121);
}

#[tokio::test]
async fn a_webhook_is_told_of_what_it_wants_and_passes_over_the_rest() {
    let world = World::with_events(5).await;
    let filter = Filter { skus: [sku("S1"), sku("S3")].into(), topics: ["line_allocated"].into() };
    let id = world.hooks.register(SHOP, filter, Begin::WithFirst).await.unwrap().unwrap().hook.id;
    world.fixture.handle((0..5).map(|n| allocate(&format!("o{n}"), &[(&format!("S{n}"), 1)]))).await;
    assert_eq!(world.run_out(id).await, Step::UpToDate(10));
    assert_eq!(world.told(SHOP), ["S1", "S3"]);
    let status = world.hooks.get(id).await.unwrap().unwrap();
    assert_eq!((status.position, status.lag), (10, 0));
}

#[tokio::test]
async fn a_webhook_from_now_on_is_told_of_nothing_that_has_been() {
    let world = World::with_events(5).await;
    let id = world.hooks.register(SHOP, Filter::default(), Begin::WithNext).await.unwrap().unwrap().hook.id;
    world.batches(5, 6).await;
    world.run_out(id).await;
    assert_eq!(world.told(SHOP), ["S5"]);
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_after_longer_and_longer_pauses() {
    let world = World::with_events(2).await;
    let id = world.register(SHOP).await;
    world.receivers.answer(SHOP, 500, None);
    let mut pauses = Vec::new();
    for attempt in 1..=14 {
        assert_eq!(world.step(id).await, Step::Delivered(0));
        let Step::Later(pause) = world.step(id).await else { panic!("it is not to be tried at once") };
        assert_eq!(world.receivers.sent(SHOP).len(), attempt, "a pause is kept");
        pauses.push(pause);
        world.fixture.clock.advance(pause + TICK);
    }
    assert!(pauses[0] >= Duration::from_secs(5) && pauses[0] < Duration::from_secs(7), "{pauses:?}");
    assert!(pauses.is_sorted() && pauses[13] == Duration::from_hours(1), "{pauses:?}");
    let failing = world.hook(id).await;
    assert_eq!(failing.last_failure.unwrap().why, "answered 500");
    world.receivers.answer(SHOP, 204, None);
    assert_eq!(world.run_out(id).await, Step::UpToDate(2));
    let mended = world.hook(id).await;
    assert_eq!((mended.trouble, mended.paused), (None, None));
    assert!(mended.last_failure.is_some(), "it stays known");
    assert_eq!(world.told(SHOP)[14..], ["S0", "S1"]);
}

#[tokio::test]
async fn only_2xx_takes_an_event() {
    for status in [0, 199, 300, 301, 302, 307, 400, 401, 404, 429, 500, 503] {
        let world = World::with_events(1).await;
        let id = world.register(SHOP).await;
        world.receivers.answer(SHOP, status, None);
        assert_eq!(world.step(id).await, Step::Delivered(0), "{status}");
        assert_eq!(world.hooks.get(id).await.unwrap().unwrap().lag, 1, "{status}");
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_longer_is_left_alone_for_longer_but_not_for_ever() {
    for (asked, least, most) in [(1, 5, 7), (600, 600, 600), (1_000_000, 3_600, 3_600)] {
        let world = World::with_events(1).await;
        let id = world.register(SHOP).await;
        world.receivers.answer(SHOP, 503, Some(Duration::from_secs(asked)));
        world.step(id).await;
        let Step::Later(pause) = world.step(id).await else { panic!("there is a pause") };
        assert!((least..=most).contains(&pause.as_secs()), "{asked}: {pause:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_told_nothing_more() {
    let world = World::with_events(2).await;
    let id = world.register(SHOP).await;
    world.receivers.answer(SHOP, 410, None);
    world.step(id).await;
    assert_eq!(world.hook(id).await.paused, Some(Paused::Gone));
    world.fixture.clock.advance(Duration::from_hours(48));
    assert_eq!(world.step(id).await, Step::Ended);
    assert_eq!(world.receivers.sent(SHOP).len(), 1);
}

#[tokio::test]
async fn after_a_day_without_a_success_it_is_paused_and_goes_on_where_it_was_when_made_active() {
    let world = World::with_events(3).await;
    let id = world.register(SHOP).await;
    assert_eq!(world.step(id).await, Step::Delivered(3));
    world.batches(3, 5).await;
    world.receivers.answer(SHOP, 0, None);
    let begun = world.fixture.clock.now();
    while world.hook(id).await.paused.is_none() {
        if let Step::Later(pause) = world.step(id).await {
            world.fixture.clock.advance(pause + TICK);
        }
    }
    let failed_for = world.fixture.clock.now() - begun;
    assert!((24..=26).contains(&failed_for.whole_hours()), "{failed_for}");
    assert_eq!(world.hook(id).await.paused, Some(Paused::Failing));
    let attempts = world.receivers.sent(SHOP).len();
    world.fixture.clock.advance(Duration::from_hours(100));
    assert_eq!(world.step(id).await, Step::Ended);
    world.batches(5, 6).await;

    world.receivers.answer(SHOP, 200, None);
    let active = Changes { active: Some(true), ..Changes::default() };
    world.hooks.change(id, active).await.unwrap().unwrap().unwrap();
    assert_eq!(world.run_out(id).await, Step::UpToDate(6));
    assert_eq!(world.told(SHOP)[attempts..], ["S3", "S4", "S5"]);
}

#[tokio::test]
async fn a_success_within_the_day_begins_the_day_anew() {
    let world = World::with_events(2).await;
    let id = world.register(SHOP).await;
    for _ in 0..3 {
        world.receivers.answer(SHOP, 500, None);
        world.step(id).await;
        world.fixture.clock.advance(Duration::from_hours(20));
        world.step(id).await;
        world.receivers.answer(SHOP, 200, None);
        world.fixture.clock.advance(Duration::from_hours(2));
        world.run_out(id).await;
        let count = world.fixture.store.last_position().await.unwrap();
        world.batches(usize::try_from(count).unwrap(), usize::try_from(count).unwrap() + 1).await;
    }
    assert_eq!(world.hook(id).await.paused, None);
}

#[tokio::test]
async fn a_new_secret_and_the_old_one_sign_for_a_day() {
    let world = World::with_events(1).await;
    let id = world.register(SHOP).await;
    let old = world.hook(id).await.secret;
    let rotate = Changes { rotate_secret: true, ..Changes::default() };
    world.hooks.change(id, rotate).await.unwrap().unwrap().unwrap();
    let new = world.hook(id).await.secret;
    assert_ne!(old.reveal(), new.reveal());
    world.run_out(id).await;
    let sent = world.receivers.sent(SHOP).remove(0);
    let signatures: Vec<_> = sent.signature.split(' ').map(str::to_owned).collect();
    assert_eq!(signatures, [&new, &old].map(|secret| secret.sign(&sent.id, sent.timestamp, &sent.body)));
    assert_eq!(sent.timestamp, ManualClock::START.unix_timestamp());

    world.fixture.clock.advance(Duration::from_hours(24));
    world.batches(1, 2).await;
    world.run_out(id).await;
    let sent = world.receivers.sent(SHOP).remove(1);
    assert_eq!(sent.signature, new.sign(&sent.id, sent.timestamp, &sent.body));
}

#[tokio::test]
async fn a_webhook_that_is_removed_or_paused_is_told_nothing() {
    let world = World::with_events(1).await;
    let (removed, paused) = (world.register(SHOP).await, world.register("https://other.example/").await);
    assert!(world.hooks.remove(removed).await.unwrap());
    let pause = Changes { active: Some(false), ..Changes::default() };
    world.hooks.change(paused, pause).await.unwrap().unwrap().unwrap();
    assert_eq!((world.step(removed).await, world.step(paused).await), (Step::Ended, Step::Ended));
    assert!(world.receivers.sent(SHOP).is_empty() && world.receivers.sent("https://other.example/").is_empty());
    assert_eq!(world.hook(paused).await.paused, Some(Paused::Asked));
    assert!(world.hooks.change(removed, Changes::default()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_change_of_what_is_wanted_holds_from_where_the_webhook_is() {
    let world = World::with_events(2).await;
    let id = world.register(SHOP).await;
    world.run_out(id).await;
    world.batches(2, 5).await;
    let filter = FilterChanges { skus: Some([sku("S4")].into()), topics: None };
    world.hooks.change(id, Changes { filter, ..Changes::default() }).await.unwrap().unwrap().unwrap();
    world.run_out(id).await;
    assert_eq!(world.told(SHOP), ["S0", "S1", "S4"]);
}

#[tokio::test]
async fn a_url_that_nothing_may_be_sent_to_is_refused() {
    let world = World::with_events(0).await;
    let refused =
        world.hooks.register("http://shop.example/", Filter::default(), Begin::WithFirst).await.unwrap().unwrap_err();
    assert_eq!(refused, Refused::BadUrl("must be a URL of https".into()));
    let id = world.register(SHOP).await;
    let elsewhere = Changes { url: Some("ftp://shop.example/".into()), ..Changes::default() };
    world.hooks.change(id, elsewhere).await.unwrap().unwrap().unwrap_err();
    assert_eq!(world.hook(id).await.url, SHOP);
}

#[tokio::test]
async fn there_is_an_end_to_how_many_there_may_be() {
    let world = World::with_events(0).await;
    for _ in 0..allocation_service_layer::webhooks::MOST_WEBHOOKS {
        world.register(SHOP).await;
    }
    let refused = world.hooks.register(SHOP, Filter::default(), Begin::WithFirst).await.unwrap().unwrap_err();
    assert_eq!(refused, Refused::TooMany);
}

#[tokio::test]
async fn a_test_sends_a_signed_event_that_is_of_no_product() {
    let world = World::with_events(0).await;
    let id = world.register(SHOP).await;
    assert_eq!(world.hooks.test(id).await.unwrap().unwrap().unwrap().status, 200);
    let sent = world.receivers.sent(SHOP).remove(0);
    let event: Value = serde_json::from_str(&sent.body).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&"allocation.webhook_test.v1".into(), &sent.id.clone().into()));
    assert_eq!(sent.signature, world.hook(id).await.secret.sign(&sent.id, sent.timestamp, &sent.body));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_holds_up_no_other_and_what_is_paused_is_counted() {
    let world = World::with_events(3).await;
    let (bad, good) = (world.register("https://bad.example/").await, world.register(SHOP).await);
    world.receivers.answer("https://bad.example/", 500, None);
    let (delivery, stop) = (world.delivery.clone(), world.stop.clone());
    let running = tokio::spawn(async move { delivery.run(stop).await });
    let committed = world.fixture.bus().committed();
    let feed = world.delivery.feed.clone();
    let watching = tokio::spawn(async move { feed.watch(committed).await });
    let told = async || (world.told(SHOP).len() == 3).then_some(());
    allocation_testing::eventually("three events", told).await;
    world.batches(3, 4).await;
    let told = async || (world.told(SHOP).len() == 4).then_some(());
    allocation_testing::eventually("a fourth event", told).await;
    assert_eq!(world.hooks.get(bad).await.unwrap().unwrap().lag, 4);
    assert_eq!(world.hooks.get(good).await.unwrap().unwrap().lag, 0);

    // What is registered while it runs is served, and what is gone is counted.
    world.receivers.answer("https://bad.example/", 410, None);
    let active = Changes { active: Some(true), ..Changes::default() };
    world.hooks.change(bad, active).await.unwrap().unwrap().unwrap();
    let paused = async || (world.delivery.metrics.webhooks_paused.get() == 1).then_some(());
    allocation_testing::eventually("a paused webhook", paused).await;
    world.receivers.answer("https://bad.example/", 200, None);
    world.hooks.change(bad, Changes { active: Some(true), ..Changes::default() }).await.unwrap().unwrap().unwrap();
    let told = async || world.told("https://bad.example/").ends_with(&["S3".to_owned()]).then_some(());
    allocation_testing::eventually("the other's events", told).await;
    let counted = async || (world.delivery.metrics.webhooks_paused.get() == 0).then_some(());
    allocation_testing::eventually("no paused webhook", counted).await;
    world.stop.cancel();
    running.await.unwrap();
    watching.await.unwrap();
    assert!(world.fixture.store.lease("webhooks", "b", Duration::from_secs(1)).await.unwrap(), "it is given back");
}
