//! An issuer's side of tokens: its private keys, what it signs with them, and what others try instead.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use ring::{digest, hmac};
use serde_json::{Value, json};

/// Private keys that everybody knows, made with `openssl genpkey` and `openssl pkcs8`: ring makes none for RSA.
const RSA: [&[u8]; 2] = [include_bytes!("tokens/rsa-1.pk8"), include_bytes!("tokens/rsa-2.pk8")];
/// What stands before such a public key of 2,048 bits in a file of that kind (SPKI).
const SPKI: &[u8] = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00";

/// A private key with its name.
#[derive(Clone)]
pub struct SigningKey {
    /// Its `kid`.
    pub id: String,
    pair: Pair,
}

#[derive(Clone)]
enum Pair {
    Rsa(Arc<RsaKeyPair>),
    P256(Arc<EcdsaKeyPair>),
    P384(Arc<EcdsaKeyPair>),
    Ed25519(Arc<Ed25519KeyPair>),
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl SigningKey {
    /// An RSA key; there are two.
    pub fn rsa(id: &str, which: usize) -> Self {
        let pair = RsaKeyPair::from_pkcs8(RSA[which]).expect("a key");
        Self { id: id.to_owned(), pair: Pair::Rsa(Arc::new(pair)) }
    }

    /// A new key on P-256.
    pub fn p256(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Pair::P256(curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)) }
    }

    /// A new key on P-384.
    pub fn p384(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Pair::P384(curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)) }
    }

    /// A new Ed25519 key.
    pub fn ed25519(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("chance");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        Self { id: id.to_owned(), pair: Pair::Ed25519(Arc::new(pair)) }
    }

    /// Its public half, as a key set has it.
    pub fn jwk(&self) -> Value {
        let id = &self.id;
        let point = |curve: &str, pair: &EcdsaKeyPair| {
            let point = &pair.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": id, "x": base64url(x), "y": base64url(y)})
        };
        match &self.pair {
            Pair::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({"kty": "RSA", "use": "sig", "kid": id, "n": base64url(&n), "e": base64url(&e)})
            }
            Pair::P256(pair) => point("P-256", pair),
            Pair::P384(pair) => point("P-384", pair),
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64url(pair.public_key().as_ref())})
            }
        }
    }

    /// The public half of an RSA key as people pass it round: DER (PKCS #1), and PEM.
    pub fn public_files(&self) -> [Vec<u8>; 2] {
        let Pair::Rsa(pair) = &self.pair else { panic!("not of RSA") };
        let der = pair.public().as_ref().to_vec();
        let text = STANDARD.encode([SPKI, &der].concat());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        [der, pem.into_bytes()]
    }

    /// A token with this said of it, signed as it says.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let random = SystemRandom::new();
        let algorithm = header["alg"].as_str().expect("an algorithm");
        signed(header, claims, |message| match &self.pair {
            Pair::Rsa(pair) => {
                let mut made = vec![0; pair.public().modulus_len()];
                pair.sign(rsa_encoding(algorithm), &random, message, &mut made).expect("a signature");
                made
            }
            Pair::P256(pair) | Pair::P384(pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    /// A token, signed with this key in the way that is usual for it.
    pub fn token(&self, claims: &Value) -> String {
        let algorithm = match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
        };
        self.token_with(&json!({"alg": algorithm, "typ": "JWT", "kid": self.id}), claims)
    }
}

fn curve(algorithm: &'static signature::EcdsaSigningAlgorithm) -> Arc<EcdsaKeyPair> {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("chance");
    Arc::new(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key"))
}

fn rsa_encoding(algorithm: &str) -> &'static dyn RsaEncoding {
    match algorithm {
        "RS256" => &signature::RSA_PKCS1_SHA256,
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        other => panic!("{other} is not of RSA"),
    }
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| base64url(part.to_string().as_bytes()));
    let message = format!("{header}.{claims}");
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature))
}

/// A token without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    signed(header, claims, |_| Vec::new())
}

/// A token that is signed with a secret (HS256).
pub fn with_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    signed(header, claims, |message| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec())
}

/// A token with bytes in the place of its signature that have nothing to do with any key.
pub fn with_digest(header: &Value, claims: &Value) -> String {
    signed(header, claims, |message| digest::digest(&digest::SHA512, message).as_ref().to_vec())
}

/// The key set of an issuer that has these.
pub fn key_set(keys: &[&SigningKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}
