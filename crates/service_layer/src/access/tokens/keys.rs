//! The public keys of an issuer.

use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use super::signature::TokenAlgorithm;

/// A public key of an issuer.
pub(super) struct TokenKey {
    /// Its `kid`, and all that was said of it.
    id: String,
    told: Jwk,
    /// What may be signed with it.
    may: Vec<TokenAlgorithm>,
    pub(super) key: DecodingKey,
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        self.told == other.told
    }
}

impl TokenKey {
    /// One that signatures can be checked with, if this is such. What the set has besides, as keys to encrypt with or secrets, is for others.
    fn read(told: Value) -> Option<Self> {
        use TokenAlgorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let told: Jwk = serde_json::from_value(told).ok()?;
        let common = &told.common;
        let signs = common.public_key_use.as_ref().is_none_or(|of_use| *of_use == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|may| may.contains(&KeyOperations::Verify));
        let mut may = match &told.algorithm {
            AlgorithmParameters::RSA(_) => vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Es256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![Es384],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![EdDsa],
            _ => return None,
        };
        if let Some(only) = common.key_algorithm {
            may.retain(|algorithm| only == algorithm.jwt().into());
        }
        let key = DecodingKey::from_jwk(&told).ok()?;
        let id = common.key_id.clone()?;
        (signs && verifies && !may.is_empty()).then_some(Self { id, told, may, key })
    }
}

/// The public keys of an issuer that it signs tokens with.
#[derive(Clone, Default)]
pub struct TokenKeys(Vec<Arc<TokenKey>>);

impl TokenKeys {
    /// Reads a set as RFC 7517 has it. Keys that are of no use here are passed over.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(json: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json)?;
        Ok(Self(set.keys.into_iter().filter_map(TokenKey::read).map(Arc::new).collect()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one of this name that may sign so.
    pub(super) fn find(&self, id: &str, algorithm: TokenAlgorithm) -> Option<Arc<TokenKey>> {
        self.0.iter().find(|key| key.id == id && key.may.contains(&algorithm)).cloned()
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, key: &TokenKey) -> bool {
        self.0.iter().any(|known| **known == *key)
    }
}
