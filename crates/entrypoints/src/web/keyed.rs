//! `Idempotency-Key`: a request whose effect has no natural key acts once, however often it is sent (draft-ietf-httpapi-idempotency-key-header).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use allocation_service_layer::ports::database::{KeyOf, RequestKey};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::WebState;
use super::extract::{Body, OptionalBody, body_bytes};
use super::problem::Problem;

/// The header.
const NAME: &str = "idempotency-key";

/// Keys of requests that are being handled by this copy of the program.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashSet<Arc<str>>>>);

/// Its key is being handled for as long as it is kept.
pub(super) struct Handling {
    key: Arc<str>,
    running: Running,
}

impl Running {
    fn begin(&self, key: &Arc<str>) -> Option<Handling> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.clone()).then(|| Handling { key: key.clone(), running: self.clone() })
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// A body of JSON under the caller's key for the request. No body at all counts as an empty object.
pub(super) struct Keyed<T> {
    pub(super) key: RequestKey,
    pub(super) body: T,
    /// To be kept until the answer is there.
    pub(super) handling: Handling,
}

/// The same of a request that may do without a key.
pub(super) struct MaybeKeyed<T> {
    pub(super) key: Option<(RequestKey, Handling)>,
    pub(super) body: T,
}

impl<T: DeserializeOwned + Default> FromRequest<WebState> for MaybeKeyed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Problem> {
        if request.headers().contains_key(NAME) {
            let Keyed { key, body, handling } = Keyed::from_request(request, state).await?;
            return Ok(Self { key: Some((key, handling)), body });
        }
        let OptionalBody(body) = OptionalBody::from_request(request, state).await?;
        Ok(Self { key: None, body })
    }
}

impl<T: DeserializeOwned> FromRequest<WebState> for Keyed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Problem> {
        let key = key(request.headers())?;
        let mut digest = Sha256::new();
        digest.update(request.method().as_str());
        digest.update(request.uri().path());
        let bytes = body_bytes(request, state).await?;
        // Nothing that a path can have in it ends it.
        digest.update([0]);
        digest.update(&bytes);
        let Body(body) = Body::read(if bytes.is_empty() { b"{}" } else { &bytes })?;
        let handling = state.running.begin(&key).ok_or_else(|| {
            let detail = format!("a request with the key {key:?} is being handled");
            Problem::new(StatusCode::CONFLICT, "key-in-use", "The request is being handled", detail)
        })?;
        Ok(Self { key: RequestKey { key, of: KeyOf::Request, content: digest.finalize().into() }, body, handling })
    }
}

/// The key: a text in quotes, as the draft has it, or bare.
fn key(headers: &HeaderMap) -> Result<Arc<str>, Problem> {
    let problem =
        |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "key-missing", "Idempotency-Key is missing", detail);
    let Some(given) = headers.get(NAME) else {
        return Err(problem("give each such request a key of its own in the header Idempotency-Key, as a UUID"));
    };
    let text = given.to_str().map_err(|_| problem("Idempotency-Key must be of visible ASCII characters"))?.trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if (1..=255).contains(&bare.len()) {
        Ok(bare.into())
    } else {
        Err(problem("Idempotency-Key must have 1 to 255 characters"))
    }
}
