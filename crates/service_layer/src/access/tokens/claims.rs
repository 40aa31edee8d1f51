//! What a token says.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::super::Scope;
use super::TokenFault;

/// The longest subject, in bytes, as OIDC has it.
const LONGEST_SUBJECT: usize = 255;

/// What a token says that matters here; its issuer and for whom it is are looked at by the library.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// One, and not a list of them.
    #[serde(rename = "iss")]
    _issuer: String,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    scope: Option<Names>,
    scp: Option<Names>,
}

/// Names, in one text with spaces between them (RFC 9068) or in a list, as some issuers write them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    Text(String),
    List(Vec<String>),
}

impl Names {
    fn scopes(&self) -> impl Iterator<Item = Scope> {
        let texts = match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::List(list) => list,
        };
        // Others than ours are for others.
        texts.iter().flat_map(|text| text.split(' ')).filter_map(|name| name.parse().ok())
    }
}

/// Whose a token is, from when until when it is good, and what it allows.
pub(super) struct Said {
    pub(super) subject: Arc<str>,
    pub(super) not_before: OffsetDateTime,
    pub(super) expires: OffsetDateTime,
    pub(super) scopes: BTreeSet<Scope>,
}

impl TryFrom<Claims> for Said {
    type Error = TokenFault;

    fn try_from(claims: Claims) -> Result<Self, TokenFault> {
        let Claims { sub, exp, nbf, scope, scp, .. } = claims;
        if !(1..=LONGEST_SUBJECT).contains(&sub.len()) || sub.chars().any(char::is_control) {
            return Err(TokenFault::Claims);
        }
        let scopes = [scope, scp].iter().flatten().flat_map(Names::scopes).collect();
        let not_before = nbf.map_or(Ok(OffsetDateTime::UNIX_EPOCH), instant)?;
        Ok(Self { subject: sub.into(), not_before, expires: instant(exp)?, scopes })
    }
}

/// Seconds since 1970, as tokens have them.
fn instant(seconds: f64) -> Result<OffsetDateTime, TokenFault> {
    let since = Duration::checked_seconds_f64(seconds);
    since.and_then(|since| OffsetDateTime::UNIX_EPOCH.checked_add(since)).ok_or(TokenFault::Claims)
}
