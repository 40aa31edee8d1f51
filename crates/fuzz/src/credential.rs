//! What callers show, and what an issuer says of its keys.

use std::sync::{Arc, LazyLock};

use allocation_service_layer::access::{Access, KeyRing, Scope, TokenAlgorithm, TokenKeys, TokenRules, Tokens};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::clock::ManualClock;
use allocation_testing::fakes::{FakeDatabase, FakeIssuer};
use allocation_testing::tokens::{SigningKey, key_set};
use serde_json::json;

const ISSUER: &str = "https://id.example.com/";
const AUDIENCE: &str = "allocation";
/// Stands for a token that is good: no fuzzer could sign one.
const GOOD: &[u8] = b"good";

struct World {
    access: Access,
    good: String,
}

/// There are no API keys, and one that signs tokens.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let clock = Arc::new(ManualClock::new());
    let (issuer, key) = (Arc::new(FakeIssuer::default()), SigningKey::p256("one"));
    issuer.has(Some(key_set(&[&key])));
    let algorithms = [TokenAlgorithm::Es256, TokenAlgorithm::Rs256].into();
    let rules = TokenRules { issuer: ISSUER.into(), audience: AUDIENCE.into(), algorithms };
    let tokens = Tokens::new(rules, issuer, clock.clone(), Metrics::new());
    let keys = KeyRing::new(Arc::new(FakeDatabase::new(clock.clone())), clock.clone());
    let good = key.token(&json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "scope": "admin",
        "exp": clock.now().unix_timestamp() + 3_600,
    }));
    World { access: Access::Credentials { keys: Arc::new(keys), tokens: Some(Arc::new(tokens)) }, good }
});

/// A credential. Nobody is let in with one that was made up, nor with a good one and something else.
pub(crate) fn read(bytes: &[u8]) {
    let World { access, good } = &*WORLD;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let shown = text.replace("good", good);
    let admitted = crate::runtime().block_on(access.admit(Some(&shown), Scope::Admin)).expect("the store works");
    assert_eq!(admitted.is_ok(), bytes == GOOD, "{shown}: {:?}", admitted.err());
}

/// A key set.
pub(crate) fn read_keys(bytes: &[u8]) {
    if let Ok(keys) = TokenKeys::read(bytes) {
        assert!(keys.len() < bytes.len(), "no key is made up");
    }
}
