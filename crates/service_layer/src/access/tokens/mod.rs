//! Tokens: what an issuer says of a caller, signed by it (JWT, RFC 7519).
//!
//! A token is checked without asking anybody, with the issuer's public keys. They are read every [`REFRESHED`], and out of turn when a token names one
//! that is not known, but no more often than every [`ASKED_AGAIN`], whatever callers make up. While the issuer is away those that are known stay in
//! force, for [`KEPT`]; then no token is good or bad, and its bearer is told to come back.

mod claims;
mod keys;
mod signature;

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use lru::LruCache;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::claims::{Claims, Said};
use self::keys::TokenKey;
pub use self::keys::TokenKeys;
pub use self::signature::{TokenAlgorithm, UnknownAlgorithm};
use super::pace::Pace;
use super::{Asking, Denied, Scope};
use crate::metrics::Metrics;
use crate::ports::clock::Clock;
use crate::ports::token_keys::TokenKeySource;

/// How often the issuer's keys are read.
pub const REFRESHED: Duration = Duration::from_mins(5);
/// How often they are read at most, when there is a reason to before their time.
pub const ASKED_AGAIN: Duration = Duration::from_secs(5);
/// For how long keys are in force that were read, if they can't be read again.
pub const KEPT: Duration = Duration::from_hours(1);
/// How far the issuer's clock may be from ours.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// How many tokens are remembered at most that were checked, and of how many callers the pace; those that were used last.
const MOST_REMEMBERED: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// What the subject of a token stands behind when events say who asked.
pub(super) const TOKEN_ACTOR: &str = "token:";

/// Whether a text has the form of a token: three parts with dots between them, in the alphabet of base64url. The last may be empty, for one without a
/// signature, which is none that is good.
pub(super) fn looks_like_a_token(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().all(good) && text.split('.').count() == 3
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Its head is none, or none of a token that is signed in a way that there is.
    #[error("this token can't be read, or is not signed in any way that is known here")]
    Garbled,
    /// It is signed in a way that is not taken.
    #[error("this token is signed with an algorithm that is not taken here")]
    Algorithm,
    /// Its issuer has no such key.
    #[error("this token is signed with a key that its issuer does not have, or does not say with which")]
    Key,
    /// Somebody else has signed it, or it was changed.
    #[error("the signature of this token is not its issuer's")]
    Signature,
    /// It is another issuer's.
    #[error("this token is from another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("this token is for another audience")]
    Audience,
    /// It does not say whose it is and when it ends.
    #[error("this token does not say whose it is and when it ends, in a form that is known here")]
    Claims,
    /// Its time is over.
    #[error("this token has expired")]
    Expired,
    /// Its time has not come.
    #[error("this token is not valid yet")]
    NotYet,
}

/// Which tokens are good.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// Who has made them, as they say it.
    pub issuer: String,
    /// Whom they are for: this service.
    pub audience: String,
    /// How they may be signed.
    pub algorithms: BTreeSet<TokenAlgorithm>,
}

/// A token that was checked.
pub struct Token {
    pub(super) actor: Arc<str>,
    said: Said,
    /// What it is signed with.
    key: Arc<TokenKey>,
    /// That of the caller.
    pace: Option<Arc<Pace>>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.actor)
    }
}

/// Checks tokens, and remembers those that were good as long as they are.
pub struct Tokens {
    rules: TokenRules,
    source: Arc<dyn TokenKeySource>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    keys: Mutex<Keys>,
    /// Whether the issuer is being asked.
    asking: watch::Sender<bool>,
    book: Mutex<Book>,
    /// How often a caller may ask; none: as often as they like.
    pace: Option<NonZeroU32>,
}

/// What is known of the issuer's keys; instants are the clock's monotonic ones.
#[derive(Default)]
struct Keys {
    /// Those that were read last, and when.
    read: Option<(TokenKeys, Duration)>,
    /// When the issuer was asked last.
    asked: Option<Duration>,
    /// Whether that was in vain.
    failed: bool,
}

struct Book {
    /// Tokens by their digest. What is no good is not remembered: anybody can make such up.
    tokens: LruCache<[u8; 32], Arc<Token>>,
    /// By whose they are. Somebody may have any number of tokens.
    paces: LruCache<Arc<str>, Arc<Pace>>,
}

impl Tokens {
    /// Checks tokens by these rules, with the keys from there.
    pub fn new(rules: TokenRules, source: Arc<dyn TokenKeySource>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        signature::choose();
        let book = Book { tokens: LruCache::new(MOST_REMEMBERED), paces: LruCache::new(MOST_REMEMBERED) };
        Self {
            rules,
            source,
            clock,
            metrics,
            keys: Mutex::default(),
            asking: watch::Sender::new(false),
            book: Mutex::new(book),
            pace: None,
        }
    }

    /// The same with no more than so many requests a second for each caller.
    #[must_use]
    pub fn with_pace(self, a_second: NonZeroU32) -> Self {
        Self { pace: Some(a_second), ..self }
    }

    /// A token that is good, may be used now and allows this.
    pub(super) async fn check(self: &Arc<Self>, text: &str, scope: Scope) -> Result<Arc<Token>, Denied> {
        let digest = Sha256::digest(text).into();
        let remembered = self.with_book(|book| book.tokens.get(&digest).cloned());
        if let Some(token) = remembered.filter(|token| self.with_keys(|keys, now| keys.have(&token.key, now))) {
            self.allows(&token, scope, Asking::Now)?;
            return Ok(token);
        }
        let token = self.verify(text).await?;
        let pace = self.pace.map(|a_second| {
            let new = || Arc::new(Pace::new(a_second, self.clock.clone()));
            self.with_book(|book| book.paces.get_or_insert(token.actor.clone(), new).clone())
        });
        let token = Arc::new(Token { pace, ..token });
        // One that is not good now is not remembered, as it would be in the way of those that are.
        let allowed = self.allows(&token, scope, Asking::Now);
        if !matches!(allowed, Err(Denied::Token(_))) {
            self.with_book(|book| book.tokens.put(digest, token.clone()));
        }
        allowed.map(|()| token)
    }

    /// Whether a token that was good still is.
    pub(super) fn still(&self, token: &Token, scope: Scope) -> bool {
        self.with_keys(|keys, now| keys.have(&token.key, now)) && self.allows(token, scope, Asking::Before).is_ok()
    }

    fn allows(&self, token: &Token, scope: Scope, asking: Asking) -> Result<(), Denied> {
        let now = self.clock.now();
        if now >= later(token.said.expires) {
            return Err(TokenFault::Expired.into());
        }
        if later(now) < token.said.not_before {
            return Err(TokenFault::NotYet.into());
        }
        if let Some(pace) = token.pace.as_ref().filter(|_| asking == Asking::Now) {
            pace.step().map_err(Denied::TooOften)?;
        }
        if token.said.scopes.contains(&scope) { Ok(()) } else { Err(Denied::Scope(scope)) }
    }

    /// A token whose signature, issuer and audience are right; its times are still to be looked at.
    async fn verify(self: &Arc<Self>, text: &str) -> Result<Token, Denied> {
        let header = decode_header(text).map_err(|_| TokenFault::Garbled)?;
        let algorithm = TokenAlgorithm::of(header.alg).filter(|algorithm| self.rules.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(TokenFault::Algorithm)?;
        let key = self.key(&header.kid.ok_or(TokenFault::Key)?, algorithm).await?;
        let mut validation = Validation::new(algorithm.jwt());
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // Times are looked at by our own clock, each time a token is used.
        validation.validate_exp = false;
        let checked = decode::<Claims>(text, &key.key, &validation).map_err(|error| fault(error.kind()))?;
        let said = Said::try_from(checked.claims)?;
        let actor = format!("{TOKEN_ACTOR}{}", said.subject).into();
        Ok(Token { actor, said, key, pace: None })
    }

    /// The issuer's key of this name, for which the issuer is asked if it is not known.
    async fn key(self: &Arc<Self>, id: &str, algorithm: TokenAlgorithm) -> Result<Arc<TokenKey>, Denied> {
        let find = |keys: &mut Keys, now| keys.in_force(now).and_then(|known| known.find(id, algorithm));
        if let Some(key) = self.with_keys(find) {
            return Ok(key);
        }
        self.ask().await;
        self.with_keys(|keys, now| match find(keys, now) {
            Some(key) => Ok(key),
            // Whether there is such a key, nobody can say at the moment.
            None if keys.failed || keys.in_force(now).is_none() => Err(Denied::IssuerAway),
            None => Err(TokenFault::Key.into()),
        })
    }

    /// Reads the issuer's keys when that is due, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(ASKED_AGAIN);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.refresh().await;
        }
    }

    /// Reads the issuer's keys if that is due.
    pub async fn refresh(self: &Arc<Self>) {
        let is_due = |keys: &mut Keys, now: Duration| match keys.read {
            Some((_, at)) => now.saturating_sub(at) >= REFRESHED,
            None => true,
        };
        if self.with_keys(is_due) {
            self.ask().await;
        }
    }

    /// Asks the issuer for its keys unless that was done a moment ago, or waits for those who do.
    async fn ask(self: &Arc<Self>) {
        let mut asking = self.asking.subscribe();
        let is_time = self.with_keys(|keys, now| {
            let is_time = keys.asked.is_none_or(|at| now.saturating_sub(at) >= ASKED_AGAIN);
            if is_time {
                keys.asked = Some(now);
                self.asking.send_replace(true);
            }
            is_time
        });
        if is_time {
            let tokens = self.clone();
            // A caller who hangs up does not call off what others wait for.
            tokio::spawn(async move {
                tokens.read().await;
                tokens.asking.send_replace(false);
            });
        }
        // The sender is ours, so it is there.
        let _ = asking.wait_for(|asking| !asking).await;
    }

    async fn read(&self) {
        // They are as old as the question: what was withdrawn since may be in the answer.
        let now = self.clock.monotonic();
        match self.source.token_keys().await {
            Ok(read) => {
                if read.is_empty() {
                    tracing::warn!(issuer = self.rules.issuer, "the issuer of tokens has no keys: no token is good");
                }
                self.with_keys(|keys, _| {
                    keys.read = Some((read, now));
                    keys.failed = false;
                });
            }
            Err(error) => {
                tracing::warn!(issuer = self.rules.issuer, %error, "can't read the keys of the issuer of tokens; trying again");
                self.metrics.issuer_failures.inc();
                self.with_keys(|keys, _| keys.failed = true);
            }
        }
    }

    fn with_keys<R>(&self, with: impl FnOnce(&mut Keys, Duration) -> R) -> R {
        with(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner), self.clock.monotonic())
    }

    fn with_book<R>(&self, with: impl FnOnce(&mut Book) -> R) -> R {
        with(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keys {
    /// Those that tokens may be checked with.
    fn in_force(&self, now: Duration) -> Option<&TokenKeys> {
        self.read.as_ref().filter(|(_, at)| now.saturating_sub(*at) < KEPT).map(|(keys, _)| keys)
    }

    fn have(&self, key: &TokenKey, now: Duration) -> bool {
        self.in_force(now).is_some_and(|keys| keys.has(key))
    }
}

/// By as much as clocks may differ.
fn later(instant: OffsetDateTime) -> OffsetDateTime {
    instant.saturating_add(LEEWAY.try_into().unwrap_or(time::Duration::MAX))
}

fn fault(error: &ErrorKind) -> TokenFault {
    match error {
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::InvalidIssuer => TokenFault::Issuer,
        ErrorKind::InvalidAudience => TokenFault::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenFault::Audience,
        // Claims are read after the signature was found good.
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            TokenFault::Claims
        }
        _ => TokenFault::Garbled,
    }
}
