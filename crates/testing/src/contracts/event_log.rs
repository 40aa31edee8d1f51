//! The event log: nothing missed, nothing out of order.

use std::collections::BTreeMap;
use std::time::Duration;

use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::event_log::EventLog;

use super::{Fixture, Store};
use crate::shorthand::{allocate, change_quantity, create_batch, message};

/// Positions without a gap; each SKU's sequence without a gap and in order.
pub async fn the_feed_has_every_event_once_and_each_products_in_order<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "A", 100, None), create_batch("b", "B", 100, None)]).await;
    let messages: Vec<_> = (0..40).map(|n| message(allocate(&format!("o{n}"), &[("A", 1), ("B", 1)]))).collect();
    fixture.bus().handle_batch(&messages).await;
    fixture.handle([change_quantity("b", "A", 7), change_quantity("b", "A", 90)]).await;
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for (sku, sequence, _) in fixture.events().await {
        let expected = next.entry(sku).or_insert(1);
        assert_eq!(sequence, *expected);
        *expected += 1;
    }
    // A: 1 created, 40 allocated, the cut with 33 lines displaced, backordered and told so, and all back again.
    assert_eq!(next["A"] - 1, 1 + 40 + 1 + 33 * 3 + 1 + 33);
    assert_eq!(next["B"] - 1, 41);
    let positions = EventLog::read(&fixture.store, 0, 1_000).await.expect("a page").events;
    assert!(positions.iter().map(|event| event.position).eq(1..=positions.len() as u64));
    let last = fixture.store.last_position().await.expect("a position");
    assert_eq!(last, positions.len() as u64);
}

/// From any position, in the middle of a unit of work too.
pub async fn the_feed_is_read_in_pages<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "A", 100, None)]).await;
    let messages: Vec<_> = (0..20).map(|n| message(allocate(&format!("o{n}"), &[("A", 1)]))).collect();
    fixture.bus().handle_batch(&messages).await;
    let all = fixture.events().await.len();
    let mut bodies = Vec::new();
    let mut after = 0;
    loop {
        let page = EventLog::read(&fixture.store, after, 4).await.expect("a page");
        assert_eq!(page.kept_after, 0);
        let Some(last) = page.events.last() else { break };
        assert!(page.events.len() <= 4);
        assert!(page.events.iter().map(|event| event.position).eq(after + 1..=last.position));
        after = last.position;
        bodies.extend(page.events);
    }
    assert_eq!(bodies.len(), all);
    assert!(EventLog::read(&fixture.store, 10_000, 4).await.expect("a page").events.is_empty());
}

/// Progress never goes back, and who was forgotten does not come back by it.
pub async fn a_sink_goes_on_where_it_was<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    assert_eq!(store.progress("new").await.expect("progress"), 0);
    for sink in ["one", "two", "gone"] {
        assert!(store.introduce(sink, 0).await.expect("an introduction"));
    }
    assert!(store.forget("gone").await.expect("an answer"));
    for (sink, position, known) in [("one", 5, true), ("one", 3, true), ("two", 1, true), ("gone", 4, false)] {
        assert_eq!(store.advance(sink, position).await.expect("an advance"), known);
    }
    assert_eq!(store.sinks().await.expect("sinks").len(), 2);
    assert_eq!(store.progress("one").await.expect("progress"), 5);
    assert_eq!(store.progress("two").await.expect("progress"), 1);
}

/// A holder that dies is replaced.
pub async fn a_lease_has_one_holder_until_it_expires<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    let minute = Duration::from_mins(1);
    assert!(store.lease("relay", "a", minute).await.expect("an answer"));
    assert!(store.lease("relay", "a", minute).await.expect("an answer"), "its holder may keep it");
    assert!(!store.lease("relay", "b", minute).await.expect("an answer"));
    assert!(store.lease("other", "b", minute).await.expect("an answer"), "another task is another lease");
    assert!(store.lease("relay", "a", Duration::ZERO).await.expect("an answer"));
    fixture.clock.advance(Duration::from_secs(1));
    assert!(store.lease("relay", "b", minute).await.expect("an answer"), "it had expired");
    assert!(!store.lease("relay", "a", minute).await.expect("an answer"));
}

/// A holder that stops makes room at once.
pub async fn a_lease_that_is_released_is_free<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    let minute = Duration::from_mins(1);
    assert!(store.lease("relay", "a", minute).await.expect("an answer"));
    store.release("relay", "b").await.expect("an answer");
    assert!(!store.lease("relay", "b", minute).await.expect("an answer"), "only its holder can release it");
    store.release("relay", "a").await.expect("an answer");
    assert!(store.lease("relay", "b", minute).await.expect("an answer"));
}

/// So that mails about one thing keep their distance, across restarts too.
pub async fn the_last_notification_is_remembered<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    assert_eq!(store.last_notified("x").await.expect("an answer"), None);
    let now = fixture.clock.now();
    store.set_notified("x", now).await.expect("an answer");
    let later = now + Duration::from_millis(1_500);
    store.set_notified("x", later).await.expect("an answer");
    assert_eq!(store.last_notified("x").await.expect("an answer"), Some(later));
    assert_eq!(store.last_notified("y").await.expect("an answer"), None);
}
