//! Access on fakes, with a clock that is set.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use allocation_service_layer::access::{
    Access, Caller, Denied, Issued, Issuer, KeyRing, KeyText, REMEMBERED, Refused, Scope,
};
use allocation_service_layer::ports::api_keys::ApiKeys;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::fakes::FakeDatabase;
use time::OffsetDateTime;

const HOUR: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(1);

/// A store, who makes keys, and two copies that look them up.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<FakeDatabase>,
    entropy: Arc<CountingEntropy>,
    issuer: Issuer,
    ring: Arc<KeyRing>,
    access: Access,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Arc::new(FakeDatabase::new(clock.clone()));
        let entropy = Arc::new(CountingEntropy::default());
        let ring = Arc::new(KeyRing::new(store.clone(), clock.clone()));
        let issuer = Issuer { store: store.clone(), clock: clock.clone(), entropy: entropy.clone() };
        Self { access: Access::Credentials { keys: ring.clone(), tokens: None }, clock, store, entropy, issuer, ring }
    }

    fn later(&self, by: Duration) -> OffsetDateTime {
        self.clock.now() + by
    }

    async fn create(&self, name: &str, scopes: &str, expires_at: Option<OffsetDateTime>) -> Result<Issued, Refused> {
        let (name, scopes) = (name.parse().unwrap(), scopes.parse().unwrap());
        self.issuer.create(name, scopes, expires_at).await.unwrap()
    }

    /// One that reads stock.
    async fn reader(&self, name: &str) -> KeyText {
        self.create(name, "stock:read", None).await.unwrap().text
    }

    async fn rotate(&self, name: &str, overlap: Duration) -> Result<Issued, Refused> {
        self.issuer.rotate(name.parse().unwrap(), overlap.try_into().unwrap(), None).await.unwrap()
    }

    /// Whether this lets its bearer read stock.
    async fn admit(&self, bearer: &str) -> Result<Caller, Denied> {
        self.access.admit(Some(bearer), Scope::StockRead).await.unwrap()
    }

    async fn denied(&self, key: &KeyText) -> Option<Denied> {
        self.admit(key.reveal()).await.err()
    }

    async fn last_use(&self, key: &KeyText) -> Option<OffsetDateTime> {
        self.ring.note_uses().await.unwrap();
        self.store.api_key(&key.digest()).await.unwrap().unwrap().last_used_at
    }
}

#[tokio::test]
async fn who_has_a_key_is_let_in_by_its_name_to_what_it_allows() {
    let world = World::new();
    let key = world.create("shop", "stock:read,orders:write", None).await.unwrap().text;
    for scope in Scope::ALL {
        let admitted = world.access.admit(Some(key.reveal()), scope).await.unwrap();
        if [Scope::StockRead, Scope::OrdersWrite].contains(&scope) {
            assert_eq!(&*admitted.unwrap().actor, "key:shop");
        } else {
            assert_eq!(admitted.unwrap_err(), Denied::Scope(scope));
        }
    }
}

#[tokio::test]
async fn who_has_none_is_not_let_in() {
    let world = World::new();
    let key = world.reader("shop").await;
    assert_eq!(world.access.admit(None, Scope::StockRead).await.unwrap().unwrap_err(), Denied::Missing);
    let text = key.reveal();
    let typed_wrong = text.replacen(|digit: char| digit.is_ascii_digit(), "f", 1);
    for bad in ["", "abc", &text[..text.len() - 1], &typed_wrong, &format!("{text}0")] {
        assert_eq!(world.admit(bad).await.unwrap_err(), Denied::Malformed, "{bad}");
    }
    assert_eq!(world.denied(&KeyText::new(world.entropy.as_ref())).await, Some(Denied::Unknown));
    assert_eq!(world.denied(&key).await, None);
}

#[tokio::test]
async fn when_nothing_is_asked_for_everybody_is_let_in() {
    for bearer in [None, Some("abc")] {
        for scope in Scope::ALL {
            let caller = Access::Open.admit(bearer, scope).await.unwrap().unwrap();
            assert_eq!(&*caller.actor, "http");
            assert!(Access::Open.still_admits(&caller, scope).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_key_ends_at_its_instant_though_it_is_remembered() {
    let world = World::new();
    let key = world.create("shop", "stock:read", Some(world.later(HOUR))).await.unwrap().text;
    world.clock.advance(HOUR.saturating_sub(SOON));
    assert_eq!(world.denied(&key).await, None);
    world.clock.advance(SOON);
    assert_eq!(world.denied(&key).await, Some(Denied::Expired));
}

#[tokio::test]
async fn a_key_that_is_revoked_opens_nothing_after_five_seconds() {
    let world = World::new();
    let key = world.reader("shop").await;
    let caller = world.admit(key.reveal()).await.unwrap();
    assert_eq!(world.issuer.revoke("shop").await.unwrap().len(), 1);
    world.clock.advance(REMEMBERED.saturating_sub(SOON));
    assert_eq!(world.denied(&key).await, None, "it is remembered");
    assert!(world.access.still_admits(&caller, Scope::StockRead).await.unwrap());
    world.clock.advance(SOON);
    assert_eq!(world.denied(&key).await, Some(Denied::Revoked));
    assert!(!world.access.still_admits(&caller, Scope::StockRead).await.unwrap());
    assert_eq!(REMEMBERED, Duration::from_secs(5), "as is documented");
}

#[tokio::test]
async fn a_key_that_is_made_opens_at_once_though_it_was_tried_before() {
    let (world, other) = (World::new(), World::new());
    // Both roll the same dice, so this is the key that is made next.
    let key = other.reader("shop").await;
    assert_eq!(world.denied(&key).await, Some(Denied::Unknown));
    assert_eq!(world.reader("shop").await, key);
    assert_eq!(world.denied(&key).await, None);
}

#[tokio::test]
async fn the_last_use_is_noted_later_and_of_a_key_that_was_in_force_only() {
    let world = World::new();
    let key = world.reader("shop").await;
    assert_eq!(world.last_use(&key).await, None);
    let first = world.clock.now();
    assert_eq!(world.denied(&key).await, None);
    world.clock.advance(SOON);
    assert_eq!(world.denied(&key).await, None);
    let kept = world.store.api_key(&key.digest()).await.unwrap().unwrap();
    assert_eq!(kept.last_used_at, None, "a request writes nothing");
    assert_eq!(world.last_use(&key).await, Some(first + SOON));
    world.issuer.revoke("shop").await.unwrap();
    world.clock.advance(REMEMBERED);
    assert_eq!(world.denied(&key).await, Some(Denied::Revoked));
    assert_eq!(world.last_use(&key).await, Some(first + SOON));
}

#[tokio::test]
async fn a_name_has_one_key_unless_it_is_replaced() {
    let world = World::new();
    let first = world.reader("shop").await;
    let refused = world.create("shop", "admin", None).await.unwrap_err();
    assert_eq!(refused, Refused::Exists("shop".parse().unwrap()));
    world.issuer.revoke("shop").await.unwrap();
    let second = world.reader("shop").await;
    assert_ne!(first, second);
    let keys = world.issuer.list().await.unwrap();
    assert_eq!(keys.iter().map(|key| key.generation).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(world.create("late", "admin", Some(world.clock.now())).await.unwrap_err(), Refused::Past);
}

#[tokio::test]
async fn a_key_and_its_replacement_open_the_same_until_the_overlap_is_over() {
    let world = World::new();
    let old = world.create("shop", "stock:read,admin", Some(world.later(HOUR * 10))).await.unwrap().text;
    world.clock.advance(HOUR);
    let Issued { text: new, key } = world.rotate("shop", HOUR * 2).await.unwrap();
    assert_eq!(key.scopes.to_string(), "stock:read,admin");
    assert_eq!(key.expires_at, Some(world.later(HOUR * 10)), "as long as the one before it");
    world.clock.advance((HOUR * 2).saturating_sub(SOON));
    assert_eq!((world.denied(&old).await, world.denied(&new).await), (None, None));
    world.clock.advance(SOON);
    assert_eq!((world.denied(&old).await, world.denied(&new).await), (Some(Denied::Expired), None));
    let newest = world.rotate("shop", Duration::ZERO).await.unwrap();
    assert_eq!(world.denied(&new).await, None, "it is remembered with the end it had");
    world.clock.advance(REMEMBERED);
    assert_eq!((world.denied(&new).await, world.denied(&newest.text).await), (Some(Denied::Expired), None));
}

#[tokio::test]
async fn what_is_not_in_force_is_not_replaced() {
    let world = World::new();
    let name = || "shop".parse().unwrap();
    assert_eq!(world.rotate("shop", HOUR).await.unwrap_err(), Refused::NotInForce(name()));
    world.reader("shop").await;
    world.issuer.revoke("shop").await.unwrap();
    assert_eq!(world.rotate("shop", HOUR).await.unwrap_err(), Refused::NotInForce(name()));
}

#[tokio::test]
async fn a_key_is_revoked_by_its_id_or_all_of_a_name_by_that() {
    let world = World::new();
    let first = world.reader("shop").await;
    let second = world.rotate("shop", HOUR).await.unwrap().text;
    let other = world.reader("shed").await;
    let by_id = world.issuer.revoke(&first.digest().id()).await.unwrap();
    assert_eq!(by_id.iter().map(|key| key.digest).collect::<Vec<_>>(), [first.digest()]);
    let by_name = world.issuer.revoke("shop").await.unwrap();
    assert_eq!(by_name.iter().map(|key| key.digest).collect::<Vec<_>>(), [second.digest()]);
    assert!(world.issuer.revoke("shop").await.unwrap().is_empty());
    assert_eq!(world.denied(&first).await, Some(Denied::Revoked));
    assert_eq!(world.denied(&other).await, None);
}

#[tokio::test]
async fn a_key_is_used_at_a_pace_that_is_its_own_and_not_forgotten() {
    let world = World::new();
    let (one, other) = (world.reader("one").await, world.reader("other").await);
    let ring = KeyRing::new(world.store.clone(), world.clock.clone()).with_pace(NonZeroU32::new(2).unwrap());
    let access = Access::Credentials { keys: Arc::new(ring), tokens: None };
    let admit = async |key: &KeyText, scope| access.admit(Some(key.reveal()), scope).await.unwrap();
    let caller = admit(&one, Scope::StockRead).await.unwrap();
    world.clock.advance(REMEMBERED.saturating_sub(SOON));
    for _ in 0..2 {
        admit(&one, Scope::StockRead).await.unwrap();
    }
    let half = Duration::from_millis(500);
    assert_eq!(admit(&one, Scope::StockRead).await.unwrap_err(), Denied::TooOften(half));
    // How often it is used is asked before what it allows; and what goes on is no new request.
    assert_eq!(admit(&one, Scope::Admin).await.unwrap_err(), Denied::TooOften(half));
    assert!(access.still_admits(&caller, Scope::StockRead).await.unwrap());
    admit(&other, Scope::StockRead).await.unwrap();
    // It is looked up anew, and still the same key.
    world.clock.advance(SOON);
    assert_eq!(admit(&one, Scope::StockRead).await.unwrap_err(), Denied::TooOften(half.saturating_sub(SOON)));
    world.clock.advance(half.saturating_sub(SOON));
    assert_eq!(admit(&one, Scope::Admin).await.unwrap_err(), Denied::Scope(Scope::Admin));
    assert_eq!(admit(&one, Scope::StockRead).await.unwrap_err(), Denied::TooOften(half));
}
