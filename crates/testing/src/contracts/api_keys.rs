//! API keys: kept whole, found by digest, replaced in one step.

use std::time::Duration;

use allocation_service_layer::access::{KeyDigest, KeyText, Scope};
use allocation_service_layer::ports::api_keys::ApiKey;
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::StoreError;
use time::OffsetDateTime;

use super::{Fixture, Store};
use crate::clock::CountingEntropy;

/// With nothing said of it that need not be.
fn plain<S: Store>(fixture: &Fixture<S>, entropy: &CountingEntropy, name: &str, generation: u64) -> ApiKey {
    ApiKey {
        digest: KeyText::new(entropy).digest(),
        name: name.parse().expect("a good name"),
        generation,
        scopes: Scope::StockRead.into(),
        created_at: fixture.clock.now(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

async fn kept<S: Store>(fixture: &Fixture<S>, digest: &KeyDigest) -> ApiKey {
    fixture.store.api_key(digest).await.expect("an answer").expect("it is there")
}

/// In the order of names, byte by byte, and each with everything.
pub async fn an_api_key_is_kept_with_all_that_is_known_of_it<S: Store>(fixture: Fixture<S>) {
    let (store, entropy) = (&fixture.store, CountingEntropy::default());
    assert_eq!(store.api_keys().await.expect("an answer"), []);
    let (shop, shed) = (plain(&fixture, &entropy, "shop", 1), plain(&fixture, &entropy, "Shed", 1));
    let now = fixture.clock.now();
    let second = ApiKey {
        scopes: Scope::ALL.map(Scope::name).join(",").parse().expect("scopes"),
        expires_at: Some(now + Duration::from_hours(1)),
        revoked_at: Some(now + Duration::from_secs(1)),
        last_used_at: Some(now),
        ..plain(&fixture, &entropy, "shop", 2)
    };
    for key in [&second, &shop, &shed] {
        store.add_api_key(key, None).await.expect("a new one");
    }
    assert_eq!(store.api_keys().await.expect("an answer"), [shed, shop.clone(), second.clone()]);
    assert_eq!(kept(&fixture, &second.digest).await, second);
    let unknown = KeyText::new(&entropy).digest();
    assert_eq!(store.api_key(&unknown).await.expect("an answer"), None);
    // So that of two who make one of a name at once, one is told.
    for taken in [plain(&fixture, &entropy, "shop", 2), ApiKey { generation: 3, ..shop.clone() }] {
        let refused = store.add_api_key(&taken, Some(now)).await.expect_err("it is there");
        assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
    }
    assert_eq!(kept(&fixture, &shop.digest).await, shop, "what was refused has ended nothing");
}

/// Those of the same name end by then, those that end before stay as they are, and nobody else's is touched.
pub async fn an_api_key_that_replaces_others_ends_them_in_the_same_step<S: Store>(fixture: Fixture<S>) {
    let (store, entropy) = (&fixture.store, CountingEntropy::default());
    let in_hours = |hours| Some(fixture.clock.now() + Duration::from_hours(hours));
    let ends: [(&str, u64, Option<OffsetDateTime>, Option<OffsetDateTime>); 4] = [
        ("shop", 1, in_hours(1), in_hours(1)),
        ("shop", 2, in_hours(9), in_hours(2)),
        ("shop", 3, None, in_hours(2)),
        ("shed", 1, None, None),
    ];
    let mut digests = Vec::new();
    for (name, generation, expires_at, _) in ends {
        let key = ApiKey { expires_at, ..plain(&fixture, &entropy, name, generation) };
        store.add_api_key(&key, None).await.expect("a new one");
        digests.push(key.digest);
    }
    let replacement = ApiKey { expires_at: in_hours(99), ..plain(&fixture, &entropy, "shop", 4) };
    store.add_api_key(&replacement, in_hours(2)).await.expect("a new one");
    for (digest, (name, generation, _, end)) in digests.iter().zip(ends) {
        assert_eq!(kept(&fixture, digest).await.expires_at, end, "{name} {generation}");
    }
    assert_eq!(kept(&fixture, &replacement.digest).await, replacement);
}

/// The first time counts.
pub async fn an_api_key_is_revoked_once<S: Store>(fixture: Fixture<S>) {
    let (store, entropy) = (&fixture.store, CountingEntropy::default());
    let (key, other) = (plain(&fixture, &entropy, "a", 1), plain(&fixture, &entropy, "b", 1));
    store.add_api_key(&key, None).await.expect("a new one");
    store.add_api_key(&other, None).await.expect("a new one");
    let now = fixture.clock.now();
    assert!(store.revoke_api_key(&key.digest, now).await.expect("an answer"));
    assert!(!store.revoke_api_key(&key.digest, now + Duration::from_secs(1)).await.expect("an answer"));
    assert!(!store.revoke_api_key(&KeyText::new(&entropy).digest(), now).await.expect("an answer"));
    assert_eq!(store.api_keys().await.expect("an answer"), [ApiKey { revoked_at: Some(now), ..key }, other]);
}

/// Whichever copy tells it last.
pub async fn the_last_use_of_an_api_key_never_goes_back<S: Store>(fixture: Fixture<S>) {
    let (store, entropy) = (&fixture.store, CountingEntropy::default());
    let key = plain(&fixture, &entropy, "a", 1);
    store.add_api_key(&key, None).await.expect("a new one");
    let now = fixture.clock.now();
    for (at, last) in [(10, 10), (5, 10), (20, 20)] {
        let at = now + Duration::from_secs(at);
        store.note_api_key_use(&key.digest, at).await.expect("a note");
        let last = Some(now + Duration::from_secs(last));
        assert_eq!(kept(&fixture, &key.digest).await, ApiKey { last_used_at: last, ..key.clone() });
    }
    store.note_api_key_use(&KeyText::new(&entropy).digest(), now).await.expect("nothing to note it of");
}
