//! Tokens of an issuer; that each route denies those that are no good is in `access`.

use std::path::Path;

use allocation_testing::eventually;
use allocation_testing::program::{Program, command};
use allocation_testing::tokens::SigningKey;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, Issuer};
use crate::support::{Answer, On, PROGRAM, Service, Store, client, on_both_stores};

on_both_stores!(a_caller_is_known_by_the_subject_of_their_tokens);

impl Service {
    async fn get_with(&self, credential: &str, path: &str) -> Answer {
        Self::answer(self.client.get(self.program.url(path)).bearer_auth(credential)).await
    }

    async fn put_by(&self, credential: &str, path: &str, body: &Value) -> Answer {
        Self::answer(self.client.put(self.program.url(path)).bearer_auth(credential).json(body)).await
    }
}

/// What reads stock, signed so.
fn reader(issuer: &Issuer, key: &SigningKey) -> String {
    key.token(&issuer.claims("reader", "openid stock:read"))
}

async fn a_caller_is_known_by_the_subject_of_their_tokens(on: On) {
    let key = SigningKey::rsa("one", 0);
    let issuer = Issuer::start(&[&key]).await;
    let store = Store::new(on).await.trusting(&issuer).with("HOLDS_PER_KEY", "2");
    let service = store.serve().await;
    // Each is another token, of the same caller.
    let token = |subject: &str, n: u64| {
        let mut claims = issuer.claims(subject, "stock:write orders:write events:read");
        claims["jti"] = n.into();
        key.token(&claims)
    };
    let subject = "auth0|5f7c8ec7c33c6c004bbafe82";
    service.put_by(&token(subject, 0), "/v1/products/LAMP/batches/b", &json!({"qty": 10})).await.expect(201);
    let event = eventually("the event", async || {
        let page = service.get_with(&token(subject, 1), "/v1/events").await.expect(200).json();
        page["events"].get(0).cloned()
    })
    .await;
    assert_eq!(event["event"]["actor"], format!("token:{subject}"));

    let hold = async |subject: &str, n: u64| {
        let body = json!({"lines": [{"sku": "LAMP", "qty": 1}], "hold_seconds": 600});
        service.put_by(&token(subject, n), &format!("/v1/orders/{subject}-{n}"), &body).await
    };
    for n in [1, 2] {
        hold("shop", n).await.expect(201);
    }
    let refused = hold("shop", 3).await.expect(409).json();
    assert_eq!(refused["type"], "urn:allocation:problem:too-many-holds");
    hold("other", 1).await.expect(201);
    store.assert_balanced().await;
}

#[tokio::test]
async fn who_bears_tokens_may_ask_only_so_often() {
    let key = SigningKey::p256("one");
    let issuer = Issuer::start(&[&key]).await;
    let store = Store::new(On::Sqlite).await.trusting(&issuer).with("REQUESTS_PER_KEY", "1");
    let service = store.serve().await;
    let refused = eventually("a refusal", async || {
        let answer = service.get_with(&reader(&issuer, &key), "/v1/products").await;
        (answer.status != StatusCode::OK).then_some(answer)
    })
    .await
    .expect(429);
    assert_eq!(refused.json()["type"], "urn:allocation:problem:too-often");
    assert_eq!(refused.headers["retry-after"], "1");
    let other = key.token(&issuer.claims("other", "stock:read"));
    service.get_with(&other, "/v1/products").await.expect(200);
}

#[tokio::test]
async fn keys_of_the_issuer_that_change_are_followed_without_a_restart() {
    let (old, new) = (SigningKey::rsa("2026-1", 0), SigningKey::p256("2026-2"));
    let issuer = Issuer::start(&[&old]).await;
    let store = Store::new(On::Sqlite).await.trusting(&issuer);
    let service = store.serve().await;
    let (with_old, with_new) = (reader(&issuer, &old), reader(&issuer, &new));
    service.get_with(&with_old, "/v1/products").await.expect(200);
    let refused = service.get_with(&with_new, "/v1/products").await.expect(401);
    assert_eq!(refused.json()["type"], "urn:allocation:problem:credential-invalid");
    issuer.has(Some(&[&new]));
    eventually("the new key", async || {
        (service.get_with(&with_new, "/v1/products").await.status == StatusCode::OK).then_some(())
    })
    .await;
    service.get_with(&with_old, "/v1/products").await.expect(401);
}

#[tokio::test]
async fn while_the_issuer_is_away_tokens_wait_and_keys_open() {
    let key = SigningKey::rsa("one", 0);
    let issuer = Issuer::start(&[&key]).await;
    issuer.has(None);
    let store = Store::new(On::Sqlite).await.trusting(&issuer);
    let api_key = store.key_for("shop", "stock:read,events:read").await;
    let service = store.serve().await;
    let token = reader(&issuer, &key);
    let refused = service.get_with(&token, "/v1/products").await.expect(503);
    assert_eq!(refused.json()["type"], "urn:allocation:problem:issuer-unavailable");
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    assert!(refused.headers.contains_key("retry-after"));
    service.get("/v1/products").await.expect(401);
    service.get_with(&api_key, "/v1/products").await.expect(200);
    let metrics = service.get_with(&api_key, "/metrics").await.expect(200).text;
    assert!(!metrics.contains("allocation_issuer_failures_total 0"), "{metrics}");
    service.get("/readyz").await.expect(200);

    issuer.has(Some(&[&key]));
    eventually("the issuer", async || {
        (service.get_with(&token, "/v1/products").await.status == StatusCode::OK).then_some(())
    })
    .await;
    issuer.has(None);
    service.get_with(&token, "/v1/products").await.expect(200);
    service.get_with(&reader(&issuer, &key), "/v1/products").await.expect(200);
}

#[tokio::test]
async fn with_an_issuer_others_may_be_served_and_nobody_without_a_credential() {
    let issuer = Issuer::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [("OIDC_ISSUER", issuer.url.as_str()), ("OIDC_AUDIENCE", AUDIENCE)];
    let with = |more: &[(&str, &str)]| {
        let mut serve = command(Path::new(PROGRAM), &[&settings, more].concat(), &["serve"]);
        serve.current_dir(folder.path());
        serve
    };
    let open = with(&[("LISTEN", "127.0.0.1:0"), ("ACCESS", "open")]).output().await.unwrap();
    let said = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(open.status.code() == Some(2) && said.contains("OIDC_ISSUER"), "{said}");
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let program = Program::spawn(&mut with(&[("LISTEN", listen)])).await;
        let url = format!("http://127.0.0.1:{}/v1/products", program.address().port());
        assert_eq!(client().get(url).send().await.unwrap().status(), 401, "{listen}");
    }
}
