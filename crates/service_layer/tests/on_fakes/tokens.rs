//! Tokens on a fake issuer, with a clock that is set.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use allocation_service_layer::access::{
    ASKED_AGAIN, Access, Caller, Denied, KEPT, KeyRing, LEEWAY, REFRESHED, Scope, TokenAlgorithm, TokenFault,
    TokenRules, Tokens,
};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::clock::ManualClock;
use allocation_testing::fakes::{FakeDatabase, FakeIssuer};
use allocation_testing::tokens::{SigningKey, key_set, unsigned, with_digest, with_secret};
use futures_util::future::join_all;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(1);
const ISSUER: &str = "https://id.example.com/";
const AUDIENCE: &str = "allocation";

/// An issuer, and who checks its tokens.
struct World {
    clock: Arc<ManualClock>,
    issuer: Arc<FakeIssuer>,
    key: SigningKey,
    metrics: Metrics,
    tokens: Arc<Tokens>,
    access: Access,
}

impl World {
    fn new() -> Self {
        Self::with(&[TokenAlgorithm::Rs256, TokenAlgorithm::Es256], None)
    }

    fn with(algorithms: &[TokenAlgorithm], pace: Option<u32>) -> Self {
        let clock = Arc::new(ManualClock::new());
        let issuer = Arc::new(FakeIssuer::default());
        let key = SigningKey::p256("one");
        issuer.has(Some(key_set(&[&key])));
        let metrics = Metrics::new();
        let algorithms = algorithms.iter().copied().collect();
        let rules = TokenRules { issuer: ISSUER.into(), audience: AUDIENCE.into(), algorithms };
        let tokens = Tokens::new(rules, issuer.clone(), clock.clone(), metrics.clone());
        let tokens = Arc::new(match pace.and_then(NonZeroU32::new) {
            Some(pace) => tokens.with_pace(pace),
            None => tokens,
        });
        let keys = Arc::new(KeyRing::new(Arc::new(FakeDatabase::new(clock.clone())), clock.clone()));
        let access = Access::Credentials { keys, tokens: Some(tokens.clone()) };
        Self { clock, issuer, key, metrics, tokens, access }
    }

    /// Seconds since 1970, so much later.
    fn later(&self, by: Duration) -> i64 {
        (self.clock.now() + by).unix_timestamp()
    }

    /// What a good token says, and what is said besides or instead; `null`: not said.
    fn claims(&self, other: Value) -> Value {
        let exp = self.later(HOUR);
        let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": exp, "scope": "stock:read"});
        let Value::Object(other) = other else { panic!("{other} names no claims") };
        claims.as_object_mut().unwrap().extend(other);
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    fn token(&self, other: Value) -> String {
        self.key.token(&self.claims(other))
    }

    /// Whether this lets its bearer read stock.
    async fn admit(&self, bearer: &str) -> Result<Caller, Denied> {
        self.access.admit(Some(bearer), Scope::StockRead).await.unwrap()
    }

    async fn denied(&self, bearer: &str) -> Option<Denied> {
        self.admit(bearer).await.err()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as `denied` gives it")]
fn fault(fault: TokenFault) -> Option<Denied> {
    Some(Denied::Token(fault))
}

#[tokio::test]
async fn who_has_a_token_is_let_in_by_its_subject_to_what_it_allows() {
    let world = World::new();
    let ours = "stock:read orders:write";
    for claims in [
        json!({"scope": ours}),
        json!({"scope": format!("openid  {ours} stock:reader profile")}),
        json!({"scope": null, "scp": ["stock:read", "openid", "orders:write"]}),
        json!({"scope": null, "scp": ours}),
        json!({"scope": "stock:read", "scp": ["orders:write"]}),
        json!({"scope": ours, "aud": ["another", AUDIENCE], "nbf": 1, "azp": "somebody"}),
    ] {
        let token = world.token(claims);
        for scope in Scope::ALL {
            let admitted = world.access.admit(Some(&token), scope).await.unwrap();
            if [Scope::StockRead, Scope::OrdersWrite].contains(&scope) {
                assert_eq!(&*admitted.unwrap().actor, "token:shop");
            } else {
                assert_eq!(admitted.unwrap_err(), Denied::Scope(scope));
            }
        }
    }
    for none in [json!({"scope": null}), json!({"scope": ""}), json!({"scope": "STOCK:READ stock:read,admin *"})] {
        assert_eq!(world.denied(&world.token(none)).await, Some(Denied::Scope(Scope::StockRead)));
    }
    assert_eq!(world.issuer.asked(), 1, "its keys are known from then on");
}

#[tokio::test]
async fn a_token_that_is_not_what_the_rules_say_is_refused() {
    let world = World::new();
    let subject = "x".repeat(255);
    assert_eq!(world.denied(&world.token(json!({"sub": subject}))).await, None);
    for (claims, expected) in [
        (json!({"iss": "https://id.example.com"}), TokenFault::Issuer),
        (json!({"iss": [ISSUER]}), TokenFault::Claims),
        (json!({"iss": null}), TokenFault::Claims),
        (json!({"aud": "another"}), TokenFault::Audience),
        (json!({"aud": ["another", "allocation2"]}), TokenFault::Audience),
        (json!({"aud": []}), TokenFault::Audience),
        (json!({"aud": null}), TokenFault::Audience),
        (json!({"exp": null}), TokenFault::Claims),
        (json!({"exp": "2050-01-01"}), TokenFault::Claims),
        (json!({"exp": 1e300}), TokenFault::Claims),
        (json!({"nbf": "never"}), TokenFault::Claims),
        (json!({"exp": 1_000_000}), TokenFault::Expired),
        (json!({"nbf": world.later(HOUR)}), TokenFault::NotYet),
        (json!({"sub": null}), TokenFault::Claims),
        (json!({"sub": ""}), TokenFault::Claims),
        (json!({"sub": "a\nb"}), TokenFault::Claims),
        (json!({"sub": format!("{subject}x")}), TokenFault::Claims),
        (json!({"scope": 7}), TokenFault::Claims),
        (json!({"scp": {"stock:read": true}}), TokenFault::Claims),
    ] {
        assert_eq!(world.denied(&world.token(claims.clone())).await, fault(expected), "{claims}");
    }
}

#[tokio::test]
async fn what_the_issuer_has_not_signed_is_refused() {
    let world = World::new();
    let rsa = SigningKey::rsa("two", 0);
    world.issuer.has(Some(key_set(&[&world.key, &rsa])));
    let claims = world.claims(json!({}));
    assert_eq!(world.denied(&rsa.token(&claims)).await, None);

    let header = |algorithm: &str, id: &str| json!({"alg": algorithm, "typ": "JWT", "kid": id});
    for none in ["none", "None", "NONE", "nOnE", ""] {
        assert_eq!(world.denied(&unsigned(&header(none, "one"), &claims)).await, fault(TokenFault::Garbled), "{none}");
    }
    for id in ["one", "two"] {
        for secret in rsa.public_files().into_iter().chain([rsa.jwk().to_string().into_bytes(), Vec::new()]) {
            let token = with_secret(&secret, &header("HS256", id), &claims);
            assert_eq!(world.denied(&token).await, fault(TokenFault::Algorithm));
        }
    }
    // Of the same name and kind, and not the issuer's.
    for other in [SigningKey::p256("one"), SigningKey::rsa("two", 1)] {
        assert_eq!(world.denied(&other.token(&claims)).await, fault(TokenFault::Signature));
    }
    // A key signs as its kind does, whatever a token says.
    for (algorithm, id) in [("RS256", "one"), ("ES256", "two")] {
        assert_eq!(world.denied(&with_digest(&header(algorithm, id), &claims)).await, fault(TokenFault::Key));
    }
    for algorithm in ["RS384", "PS256", "ES384", "EdDSA"] {
        let token = with_digest(&header(algorithm, "one"), &claims);
        assert_eq!(world.denied(&token).await, fault(TokenFault::Algorithm), "{algorithm}");
    }
    for algorithm in ["ES256", "RS256"] {
        let id = if algorithm == "ES256" { "one" } else { "two" };
        for token in [with_digest(&header(algorithm, id), &claims), unsigned(&header(algorithm, id), &claims)] {
            assert_eq!(world.denied(&token).await, fault(TokenFault::Signature), "{algorithm}");
        }
    }
    // What the token itself brings as a key is nothing to us.
    let own = SigningKey::p256("own");
    let brought = json!({"alg": "ES256", "jwk": own.jwk(), "jku": "https://example.com/keys"});
    assert_eq!(world.denied(&own.token_with(&brought, &claims)).await, fault(TokenFault::Key));
    let critical = json!({"alg": "ES256", "kid": "one", "crit": ["more"], "more": 1});
    assert_eq!(world.denied(&world.key.token_with(&critical, &claims)).await, fault(TokenFault::Garbled));
}

#[tokio::test]
async fn any_other_character_anywhere_in_a_token_makes_it_no_good() {
    let world = World::new();
    let token = world.token(json!({}));
    assert_eq!(world.denied(&token).await, None);
    for at in 0..token.len() {
        for other in ['A', '_', '.', ' '] {
            let mut text = token.clone();
            text.replace_range(at..=at, &other.to_string());
            // The last character of a part has bits that nothing is in; those must be zero.
            assert!(text == token || world.denied(&text).await.is_some(), "{text}");
        }
        assert!(world.denied(&token[..at]).await.is_some());
    }
}

#[tokio::test]
async fn each_algorithm_is_taken_if_it_is_listed() {
    use TokenAlgorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    let keys = [
        (SigningKey::rsa("rsa", 0), &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512][..]),
        (SigningKey::p256("p256"), &[Es256]),
        (SigningKey::p384("p384"), &[Es384]),
        (SigningKey::ed25519("ed"), &[EdDsa]),
    ];
    for listed in TokenAlgorithm::ALL {
        let world = World::with(&[listed], None);
        world.issuer.has(Some(key_set(&keys.each_ref().map(|(key, _)| key))));
        for (key, algorithms) in &keys {
            for algorithm in *algorithms {
                let header = json!({"alg": algorithm.name(), "kid": key.id});
                let token = key.token_with(&header, &world.claims(json!({})));
                let expected = if *algorithm == listed { None } else { fault(TokenFault::Algorithm) };
                assert_eq!(world.denied(&token).await, expected, "{algorithm} where {listed} is listed");
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_good_from_its_begin_to_its_end_as_far_as_clocks_agree() {
    let world = World::new();
    let begin = world.later(HOUR);
    let token = world.token(json!({"nbf": begin, "exp": world.later(HOUR * 2)}));
    world.clock.advance(HOUR.saturating_sub(LEEWAY + SOON));
    assert_eq!(world.denied(&token).await, fault(TokenFault::NotYet));
    world.clock.advance(SOON);
    let caller = world.admit(&token).await.unwrap();
    world.clock.advance((HOUR + LEEWAY * 2).saturating_sub(SOON));
    world.tokens.refresh().await;
    assert_eq!(world.denied(&token).await, None);
    assert!(world.access.still_admits(&caller, Scope::StockRead).await.unwrap());
    assert!(!world.access.still_admits(&caller, Scope::Admin).await.unwrap());
    world.clock.advance(SOON);
    assert_eq!(world.denied(&token).await, fault(TokenFault::Expired), "though it is remembered");
    assert!(!world.access.still_admits(&caller, Scope::StockRead).await.unwrap());
    assert_eq!(LEEWAY, Duration::from_secs(30), "as is documented");
}

#[tokio::test]
async fn new_keys_are_found_when_they_are_used_and_those_withdrawn_open_nothing_more() {
    let world = World::new();
    let old = world.token(json!({}));
    let caller = world.admit(&old).await.unwrap();
    let two = SigningKey::rsa("two", 0);
    let new = two.token(&world.claims(json!({})));
    // It was asked a moment ago, and had no such key.
    assert_eq!(world.denied(&new).await, fault(TokenFault::Key));
    world.issuer.has(Some(key_set(&[&world.key, &two])));
    world.clock.advance(ASKED_AGAIN.saturating_sub(SOON));
    assert_eq!(world.denied(&new).await, fault(TokenFault::Key));
    assert_eq!(world.issuer.asked(), 1, "whatever callers make up");
    world.clock.advance(SOON);
    assert_eq!((world.denied(&new).await, world.denied(&old).await), (None, None));
    assert_eq!(world.issuer.asked(), 2);

    world.issuer.has(Some(key_set(&[&two])));
    world.clock.advance(REFRESHED.saturating_sub(SOON));
    world.tokens.refresh().await;
    assert_eq!(world.denied(&old).await, None, "it is not time to read them again");
    world.clock.advance(SOON);
    world.tokens.refresh().await;
    assert_eq!((world.denied(&new).await, world.denied(&old).await), (None, fault(TokenFault::Key)));
    assert!(!world.access.still_admits(&caller, Scope::StockRead).await.unwrap());
    // Another key in its place, with its name.
    let impostor = SigningKey::rsa("two", 1);
    world.issuer.has(Some(key_set(&[&impostor])));
    world.clock.advance(REFRESHED);
    world.tokens.refresh().await;
    assert_eq!(world.denied(&new).await, fault(TokenFault::Signature), "though it is remembered");
}

#[tokio::test]
async fn while_the_issuer_is_away_what_is_known_stays_in_force_for_an_hour() {
    let world = World::new();
    let token = world.token(json!({"exp": world.later(HOUR * 9)}));
    let caller = world.admit(&token).await.unwrap();
    world.issuer.has(None);
    world.clock.advance(KEPT.saturating_sub(SOON));
    world.tokens.refresh().await;
    assert_eq!(world.issuer.asked(), 2);
    assert_eq!(world.metrics.issuer_failures.get(), 1);
    assert_eq!(world.denied(&token).await, None);
    assert!(world.access.still_admits(&caller, Scope::StockRead).await.unwrap());
    // Whether there is another key by now nobody knows.
    let other = SigningKey::p256("two").token(&world.claims(json!({})));
    assert_eq!(world.denied(&other).await, Some(Denied::IssuerAway));
    world.clock.advance(SOON);
    assert_eq!(world.denied(&token).await, Some(Denied::IssuerAway), "and never is anybody let in unseen");
    assert!(!world.access.still_admits(&caller, Scope::StockRead).await.unwrap());
    // What is bad in any case is refused in any case.
    let header = json!({"alg": "none", "kid": "one"});
    assert_eq!(world.denied(&unsigned(&header, &world.claims(json!({})))).await, fault(TokenFault::Garbled));
    world.issuer.has(Some(key_set(&[&world.key])));
    world.clock.advance(ASKED_AGAIN);
    assert_eq!(world.denied(&token).await, None, "it is back");
    assert_eq!(KEPT, HOUR, "as is documented");
}

#[tokio::test]
async fn before_the_issuer_was_heard_nobody_is_let_in() {
    let world = World::new();
    let token = world.token(json!({}));
    for bad in [None, Some(json!({"no": "keys"})), Some(json!([]))] {
        world.issuer.has(bad);
        assert_eq!(world.denied(&token).await, Some(Denied::IssuerAway));
        world.clock.advance(ASKED_AGAIN);
    }
    world.issuer.has(Some(json!({"keys": []})));
    assert_eq!(world.denied(&token).await, fault(TokenFault::Key), "it says itself that it has none");
    world.issuer.has(Some(key_set(&[&world.key])));
    world.clock.advance(ASKED_AGAIN);
    assert_eq!(world.denied(&token).await, None);
}

#[tokio::test]
async fn many_who_come_at_once_ask_the_issuer_once_and_who_leaves_calls_nothing_off() {
    let world = World::new();
    let token = world.token(json!({}));
    world.issuer.hang(true);
    // Somebody asks, and hangs up.
    assert!(tokio::time::timeout(SOON, world.admit(&token)).await.is_err());
    assert_eq!(world.issuer.asked(), 1);
    let callers = join_all((0..50).map(|_| world.admit(&token)));
    let answer = async {
        tokio::task::yield_now().await;
        world.issuer.hang(false);
    };
    let answered = tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(callers, answer) });
    let (admitted, ()) = answered.await.expect("nobody waits for a question that was called off");
    assert!(admitted.iter().all(Result::is_ok));
    assert_eq!(world.issuer.asked(), 1);
}

#[tokio::test]
async fn keys_that_are_for_something_else_are_passed_over() {
    let world = World::new();
    let with = |other: Value| {
        let mut key = world.key.jwk();
        for (name, value) in other.as_object().unwrap() {
            key[name] = value.clone();
        }
        json!({"keys": [{"kty": "new", "kid": "one"}, 7, {"kty": "oct", "kid": "one", "k": "c2VjcmV0"}, key]})
    };
    let token = world.token(json!({}));
    for good in [json!({}), json!({"use": "sig"}), json!({"key_ops": ["verify"]}), json!({"alg": "ES256"})] {
        world.issuer.has(Some(with(good.clone())));
        world.clock.advance(REFRESHED);
        world.tokens.refresh().await;
        assert_eq!(world.denied(&token).await, None, "{good}");
    }
    for bad in [
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"alg": "ES384"}),
        json!({"alg": "ECDH-ES"}),
        json!({"crv": "P-384"}),
        json!({"kid": null}),
        json!({"x": "!"}),
    ] {
        world.issuer.has(Some(with(bad.clone())));
        world.clock.advance(REFRESHED);
        world.tokens.refresh().await;
        assert_eq!(world.denied(&token).await, fault(TokenFault::Key), "{bad}");
    }
}

#[tokio::test]
async fn who_bears_tokens_asks_at_a_pace_however_many_there_are() {
    let world = World::with(&[TokenAlgorithm::Es256], Some(2));
    let token = |n: u64, sub: &str| world.token(json!({"jti": n, "sub": sub}));
    let caller = world.admit(&token(1, "shop")).await.unwrap();
    world.admit(&token(2, "shop")).await.unwrap();
    let half = Duration::from_millis(500);
    for n in [1, 3] {
        assert_eq!(world.denied(&token(n, "shop")).await, Some(Denied::TooOften(half)));
    }
    assert!(world.access.still_admits(&caller, Scope::StockRead).await.unwrap(), "what goes on is no new request");
    assert_eq!(world.denied(&token(4, "other")).await, None);
    world.clock.advance(half);
    assert_eq!(world.denied(&token(3, "shop")).await, None);
}

#[tokio::test]
async fn a_token_is_told_from_a_key_by_its_form_and_opens_nothing_where_there_is_no_issuer() {
    let world = World::new();
    let token = world.token(json!({}));
    for neither in ["", "abc", "a.b", "a.b.c.d", "a.b.c/d", "allocation_00", "..ä"] {
        assert_eq!(world.denied(neither).await, Some(Denied::Malformed), "{neither}");
    }
    for no_token in ["..", "a.b.c", "allocation_.a.b"] {
        assert_eq!(world.denied(no_token).await, fault(TokenFault::Garbled), "{no_token}");
    }
    let caller = world.admit(&token).await.unwrap();
    let Access::Credentials { keys, .. } = &world.access else { panic!("it asks for credentials") };
    let without = Access::Credentials { keys: keys.clone(), tokens: None };
    assert_eq!(without.admit(Some(&token), Scope::StockRead).await.unwrap().unwrap_err(), Denied::Malformed);
    assert!(!without.still_admits(&caller, Scope::StockRead).await.unwrap());
}
