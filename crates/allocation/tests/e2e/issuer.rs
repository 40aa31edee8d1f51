//! An issuer of tokens of the tests' own, on a free port.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::tokens::{SigningKey, key_set};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::Store;

/// Whom tokens are for in these tests.
pub(crate) const AUDIENCE: &str = "allocation";

/// An issuer that describes itself and gives its keys, unless it is told to be away.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    keys: Arc<Mutex<Option<Value>>>,
}

impl Issuer {
    /// One that has these keys.
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realms/test", listener.local_addr().unwrap());
        let issuer = Self { url, keys: Arc::new(Mutex::new(Some(key_set(keys)))) };
        let router = Router::new()
            .route("/realms/test/.well-known/openid-configuration", get(configuration))
            .route("/certs", get(certs))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        issuer
    }

    /// Has these keys from now on; none: is away.
    pub(crate) fn has(&self, keys: Option<&[&SigningKey]>) {
        *self.keys.lock().unwrap() = keys.map(key_set);
    }

    fn answer(&self, answer: impl FnOnce(&Value) -> Value) -> Result<Json<Value>, StatusCode> {
        self.keys.lock().unwrap().as_ref().map(|keys| Json(answer(keys))).ok_or(StatusCode::BAD_GATEWAY)
    }

    /// What a good token for these scopes says, for an hour.
    pub(crate) fn claims(&self, subject: &str, scopes: &str) -> Value {
        json!({"iss": self.url, "aud": AUDIENCE, "sub": subject, "scope": scopes, "exp": in_an_hour(), "iat": 1})
    }
}

/// Seconds since 1970.
pub(crate) fn in_an_hour() -> i64 {
    (SystemClock::new().now() + Duration::from_hours(1)).unix_timestamp()
}

async fn configuration(State(issuer): State<Issuer>) -> Result<Json<Value>, StatusCode> {
    let keys = issuer.url.replace("/realms/test", "/certs");
    issuer.answer(|_| json!({"issuer": issuer.url, "jwks_uri": keys, "token_endpoint": "https://example.com/"}))
}

async fn certs(State(issuer): State<Issuer>) -> Result<Json<Value>, StatusCode> {
    issuer.answer(Value::clone)
}

impl Store {
    /// Served to whoever has a token of this issuer.
    pub(crate) fn trusting(self, issuer: &Issuer) -> Self {
        self.with("OIDC_ISSUER", &issuer.url).with("OIDC_AUDIENCE", AUDIENCE)
    }
}
