//! Access: who asks, and whether they may.
//!
//! A credential is a key of ours ([`KeyText`]), or a token of an issuer whom we trust ([`Tokens`]); they are told apart by their form. A key that was looked
//! up is remembered for [`REMEMBERED`], so that not every request asks the store: one that is revoked opens nothing after that. When a key expires is
//! known beforehand, and kept to the instant.

mod issuing;
mod key;
mod pace;
mod scope;
mod tokens;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

pub use self::issuing::{Issued, Issuer, Refused};
pub use self::key::{BadKey, BadKeyName, KEY_PREFIX, KeyDigest, KeyName, KeyText};
use self::pace::Pace;
pub use self::scope::{Scope, Scopes, UnknownScope};
pub use self::tokens::{
    ASKED_AGAIN, KEPT, LEEWAY, REFRESHED, Token, TokenAlgorithm, TokenFault, TokenKeys, TokenRules, Tokens,
    UnknownAlgorithm,
};
use self::tokens::{TOKEN_ACTOR, looks_like_a_token};
use crate::ports::api_keys::{ApiKey, ApiKeys};
use crate::ports::clock::Clock;
use crate::ports::database::StoreResult;

/// For how long a copy remembers a key that it has looked up.
pub const REMEMBERED: Duration = Duration::from_secs(5);
/// How often it is noted which keys were used.
const NOTE_EVERY: Duration = Duration::from_mins(1);
/// How many keys are remembered at most; those that were used last.
const MOST_REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Who asks when nobody has to say, as events have it.
pub const ANYBODY: &str = "http";

/// What the name of a key stands behind when events say who asked.
const KEY_ACTOR: &str = "key:";

/// Whether whoever has caused something is known by a credential, an API key or a token.
pub fn is_by_credential(actor: &str) -> bool {
    actor.starts_with(KEY_ACTOR) || actor.starts_with(TOKEN_ACTOR)
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credential was given.
    #[error("give a credential, as in `Authorization: Bearer CREDENTIAL`")]
    Missing,
    /// What was given is none.
    #[error("what was given is no credential of a kind that is taken here; was it copied whole?")]
    Malformed,
    /// Nobody knows it.
    #[error("this API key is not known")]
    Unknown,
    /// Its time is over.
    #[error("this API key has expired")]
    Expired,
    /// It was revoked.
    #[error("this API key was revoked")]
    Revoked,
    /// It is a token that is not good.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// It is a token, and whether it is good can't be said.
    #[error(
        "whether this token is good can't be said, as the keys of its issuer can't be had at the moment; asking again is safe"
    )]
    IssuerAway,
    /// It is good, and has been used too often of late.
    #[error("too many requests with this credential; it is to wait {} s", .0.as_secs_f32())]
    TooOften(Duration),
    /// It does not allow this.
    #[error("this needs a credential with the scope {0}")]
    Scope(Scope),
}

/// What somebody has shown.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing, as nothing is asked for.
    Nothing,
    /// An API key.
    Key(KeyDigest),
    /// A token.
    Token(Arc<Token>),
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who they are, as events have it in `actor`.
    pub actor: Arc<str>,
    /// What they have shown.
    pub credential: Credential,
}

impl Caller {
    /// Somebody who had to show nothing.
    pub fn anybody() -> Self {
        Self { actor: ANYBODY.into(), credential: Credential::Nothing }
    }
}

/// Lets callers in, or not.
#[derive(Clone)]
pub enum Access {
    /// Everybody may do everything.
    Open,
    /// Credentials are asked for.
    Credentials {
        /// API keys.
        keys: Arc<KeyRing>,
        /// Tokens, if there is an issuer of such.
        tokens: Option<Arc<Tokens>>,
    },
}

impl Access {
    /// Whether a caller may do what needs this scope. `bearer` is the credential as it was given, if any.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn admit(&self, bearer: Option<&str>, scope: Scope) -> StoreResult<Result<Caller, Denied>> {
        let Self::Credentials { keys, tokens } = self else {
            return Ok(Ok(Caller::anybody()));
        };
        let Some(bearer) = bearer else { return Ok(Err(Denied::Missing)) };
        if let Some(tokens) = tokens.as_ref().filter(|_| looks_like_a_token(bearer)) {
            let checked = tokens.check(bearer, scope).await;
            return Ok(checked.map(|token| Caller { actor: token.actor.clone(), credential: Credential::Token(token) }));
        }
        let Ok(text) = KeyText::parse(bearer) else { return Ok(Err(Denied::Malformed)) };
        let digest = text.digest();
        let found = keys.check(&digest, scope, Asking::Now).await?;
        Ok(found.map(|known| Caller { actor: known.actor.clone(), credential: Credential::Key(digest) }))
    }

    /// Whether somebody who was let in still would be: for what goes on after the answer has begun.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn still_admits(&self, caller: &Caller, scope: Scope) -> StoreResult<bool> {
        match (self, &caller.credential) {
            (Self::Open, _) => Ok(true),
            (Self::Credentials { .. }, Credential::Nothing) => Ok(false),
            (Self::Credentials { keys, .. }, Credential::Key(digest)) => {
                Ok(keys.check(digest, scope, Asking::Before).await?.is_ok())
            }
            (Self::Credentials { tokens, .. }, Credential::Token(token)) => {
                Ok(tokens.as_ref().is_some_and(|tokens| tokens.still(token, scope)))
            }
        }
    }
}

/// When a caller asked for what they are let in to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// With a new request, which counts.
    Now,
    /// With one that has been counted.
    Before,
}

/// Looks keys up, and remembers for a moment what it has found.
pub struct KeyRing {
    store: Arc<dyn ApiKeys>,
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    /// How often a key may be used; none: as often as its holder likes.
    pace: Option<NonZeroU32>,
}

struct Book {
    /// Keys that are known, with when they were looked up. What is not known is not remembered: anybody can make such up.
    known: LruCache<KeyDigest, (Arc<Known>, Duration)>,
    /// When keys were used last, as far as the store has yet to be told.
    uses: BTreeMap<KeyDigest, OffsetDateTime>,
}

/// A key that is known.
struct Known {
    key: ApiKey,
    actor: Arc<str>,
    /// Outlives what is known of it.
    pace: Option<Arc<Pace>>,
}

impl KeyRing {
    /// A ring of the keys that are in this store.
    pub fn new(store: Arc<dyn ApiKeys>, clock: Arc<dyn Clock>) -> Self {
        let book = Book { known: LruCache::new(MOST_REMEMBERED), uses: BTreeMap::new() };
        Self { store, clock, book: Mutex::new(book), pace: None }
    }

    /// The same with no more than so many requests a second for each key.
    #[must_use]
    pub fn with_pace(self, a_second: NonZeroU32) -> Self {
        Self { pace: Some(a_second), ..self }
    }

    /// A key that is in force, may be used now and allows this.
    async fn check(&self, digest: &KeyDigest, scope: Scope, asking: Asking) -> StoreResult<Result<Arc<Known>, Denied>> {
        let Some(known) = self.look_up(digest).await? else { return Ok(Err(Denied::Unknown)) };
        let now = self.clock.now();
        if known.key.revoked_at.is_some() {
            return Ok(Err(Denied::Revoked));
        }
        if !known.key.in_force(now) {
            return Ok(Err(Denied::Expired));
        }
        if let Some(pace) = known.pace.as_ref().filter(|_| asking == Asking::Now)
            && let Err(pause) = pace.step()
        {
            return Ok(Err(Denied::TooOften(pause)));
        }
        self.with_book(|book| book.uses.insert(*digest, now));
        if !known.key.scopes.allow(scope) {
            return Ok(Err(Denied::Scope(scope)));
        }
        Ok(Ok(known))
    }

    async fn look_up(&self, digest: &KeyDigest) -> StoreResult<Option<Arc<Known>>> {
        let now = self.clock.monotonic();
        let remembered = self.with_book(|book| book.known.get(digest).cloned());
        let mut pace = None;
        if let Some((known, at)) = remembered {
            if now.saturating_sub(at) < REMEMBERED {
                return Ok(Some(known));
            }
            pace.clone_from(&known.pace);
        }
        let Some(key) = self.store.api_key(digest).await? else { return Ok(None) };
        let actor = format!("{KEY_ACTOR}{}", key.name).into();
        let pace = pace.or_else(|| Some(Arc::new(Pace::new(self.pace?, self.clock.clone()))));
        let known = Arc::new(Known { key, actor, pace });
        // Counted from before it was asked for: what was revoked since may not be in the answer.
        self.with_book(|book| book.known.put(*digest, (known.clone(), now)));
        Ok(Some(known))
    }

    fn with_book<R>(&self, with: impl FnOnce(&mut Book) -> R) -> R {
        with(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes once a minute, and at the end, which keys were used.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(NOTE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let goes_on = stop.run_until_cancelled(ticks.tick()).await.is_some();
            if let Err(error) = self.note_uses().await {
                tracing::warn!(%error, "can't note which API keys were used; trying again");
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Notes which keys were used since the last time.
    ///
    /// # Errors
    /// When the store can't be told; it is the next time, then.
    pub async fn note_uses(&self) -> StoreResult<()> {
        while let Some((digest, at)) = self.with_book(|book| book.uses.pop_first()) {
            if let Err(error) = self.store.note_api_key_use(&digest, at).await {
                self.with_book(|book| {
                    book.uses.entry(digest).or_insert(at);
                });
                return Err(error);
            }
        }
        Ok(())
    }
}
