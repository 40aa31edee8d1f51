//! Request keys: what was done under a key is not done again, for as long as the key is remembered.

use std::sync::Arc;

use allocation_domain::Rejection;
use allocation_domain::commands::Adjustment;
use allocation_service_layer::handlers::Reply;
use allocation_service_layer::ports::database::{
    KeyOf, ProductRepository, RequestKey, Selection, StoreError, Transaction,
};
use futures_util::future::join_all;

use super::{Fixture, Store};
use crate::shorthand::{adjust, create_batch, message, qty, sku};

fn request(key: &str, content: u8) -> RequestKey {
    RequestKey { key: key.into(), of: KeyOf::Request, content: [content; 32] }
}

fn incoming(key: &str, content: u8) -> RequestKey {
    RequestKey { of: KeyOf::Message, ..request(key, content) }
}

/// A transaction with a product at hand, as one always has that remembers a key.
async fn begin<S: Store>(fixture: &Fixture<S>) -> S::Tx {
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&Selection { skus: [sku("TABLE")].into(), ..Selection::default() }).await.expect("a load");
    tx
}

async fn remember<S: Store>(fixture: &Fixture<S>, keys: &[RequestKey]) -> Result<(), StoreError> {
    let mut tx = begin(fixture).await;
    tx.remember_keys(keys).await?;
    tx.commit().await
}

/// What is known of these keys, in the order of the keys.
async fn known<S: Store>(fixture: &Fixture<S>, keys: &[&str]) -> Vec<RequestKey> {
    let keys: Vec<Arc<str>> = keys.iter().map(|key| (*key).into()).collect();
    let mut tx = begin(fixture).await;
    let mut known = tx.request_keys(&keys).await.expect("keys");
    tx.end().await.expect("an end");
    known.sort_by(|a, b| a.key.cmp(&b.key));
    known
}

/// Each for what it was remembered for; others are not.
pub async fn a_request_key_is_known_once_it_is_committed<S: Store>(fixture: Fixture<S>) {
    let keys = [request("k1", 1), request("k2", 2)];
    assert_eq!(known(&fixture, &["k1", "k2"]).await, []);
    remember(&fixture, &keys).await.expect("new keys");
    assert_eq!(known(&fixture, &["k1", "k2", "k3"]).await, keys);
    assert_eq!(known(&fixture, &["k2"]).await, keys[1..]);
    assert_eq!(known(&fixture, &[]).await, []);
}

/// Dropped, nothing was remembered.
pub async fn a_request_key_is_forgotten_by_a_rollback<S: Store>(fixture: Fixture<S>) {
    let mut tx = begin(&fixture).await;
    tx.remember_keys(&[request("k1", 1)]).await.expect("a new key");
    assert_eq!(tx.request_keys(&["k1".into()]).await.expect("keys"), [request("k1", 1)]);
    drop(tx);
    assert_eq!(known(&fixture, &["k1"]).await, []);
    remember(&fixture, &[request("k1", 2)]).await.expect("a new key");
    assert_eq!(known(&fixture, &["k1"]).await, [request("k1", 2)]);
}

/// Whoever comes second is told, one after the other and at once; of its keys none is remembered.
pub async fn a_request_key_remembered_twice_is_a_conflict<S: Store>(fixture: Fixture<S>) {
    remember(&fixture, &[request("k1", 1)]).await.expect("a new key");
    let again = remember(&fixture, &[request("k2", 1), request("k1", 1)]).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    assert_eq!(known(&fixture, &["k1", "k2"]).await, [request("k1", 1)]);

    let racing = join_all((0..4).map(async |n| remember(&fixture, &[request("k3", n)]).await)).await;
    let (won, lost): (Vec<_>, Vec<_>) = racing.iter().partition(|done| done.is_ok());
    assert_eq!(won.len(), 1, "{racing:?}");
    assert!(lost.iter().all(|lost| matches!(lost, Err(StoreError::Conflict(_)))), "{racing:?}");
}

/// Neither case nor space nor accents are folded.
pub async fn request_keys_are_compared_byte_for_byte<S: Store>(fixture: Fixture<S>) {
    let names = ["A", "a", "a ", "'; DROP TABLE request_keys; --", "e\u{301}", "é", &"x".repeat(255)];
    let mut keys: Vec<RequestKey> = (1..).zip(names).map(|(n, name)| request(name, n)).collect();
    remember(&fixture, &keys).await.expect("new keys");
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(known(&fixture, &names).await, keys);
}

/// And may then stand for something else.
pub async fn a_request_key_is_forgotten_when_it_is_old<S: Store>(fixture: Fixture<S>) {
    let hour = std::time::Duration::from_hours(1);
    let forget = async |of, age| fixture.store.forget_keys(of, age).await.expect("the store works");
    let keys = [request("old", 1), request("older", 1), incoming("source\n1", 1)];
    remember(&fixture, &keys).await.expect("new keys");
    fixture.clock.advance(hour);
    remember(&fixture, &[request("new", 1)]).await.expect("a new key");
    assert_eq!(forget(KeyOf::Request, hour).await, 0);
    fixture.clock.advance(hour / 2);
    assert_eq!(forget(KeyOf::Request, hour).await, 2);
    assert_eq!(forget(KeyOf::Request, hour).await, 0);
    let left = known(&fixture, &["new", "old", "older", "source\n1"]).await;
    assert_eq!(left, [request("new", 1), incoming("source\n1", 1)]);
    assert_eq!(forget(KeyOf::Message, hour).await, 1);
    remember(&fixture, &[request("old", 2)]).await.expect("a key that is new again");
}

/// Neither in a unit of work of its own nor in the same, nor by another copy of the program.
pub async fn a_request_under_a_known_key_is_not_done_again<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let damaged = |units| message(adjust("b", "TABLE", Adjustment::Damaged(qty(units))));
    let keyed = |units, key, content| damaged(units).with_key(request(key, content));
    let messages = [keyed(11, "k1", 1), keyed(2, "k1", 2), keyed(2, "k1", 2), keyed(3, "k1", 3)];
    let mut verdicts = fixture.bus().handle_batch(&messages).await;
    verdicts.extend(fixture.bus().handle_batch(&messages[2..]).await);
    let told: Vec<_> = verdicts
        .into_iter()
        .map(|verdict| match verdict.expect("the store works") {
            Ok(Reply::Batch(reply)) => format!("{} units", reply.batch.units),
            Ok(other) => panic!("{other:?}"),
            Err(Rejection::TooMany { .. }) => "too many".to_owned(),
            Err(Rejection::KeyReused(key)) => format!("{key} is used"),
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["too many", "8 units", "8 units", "k1 is used", "8 units", "k1 is used"]);

    let buses: Vec<_> = (0..4).map(|_| fixture.bus()).collect();
    let racing = join_all(buses.iter().map(|bus| bus.handle(keyed(1, "k2", 1)))).await;
    assert!(racing.iter().all(|verdict| matches!(verdict, Ok(Ok(_)))), "{racing:?}");
    assert_eq!(fixture.product("TABLE").await.available(), 7);
    fixture.assert_balanced().await;
}
