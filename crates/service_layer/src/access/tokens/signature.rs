//! Signatures of tokens: which there may be, and how they are checked, with the cryptography of ring that TLS has too.

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::signature::{Error as BadSignature, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

/// How an issuer may sign: with a private key that nobody else has. What is made with a secret that both sides know, or not at all, has no name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenAlgorithm {
    /// RSA (PKCS #1), SHA-256.
    Rs256,
    /// RSA (PKCS #1), SHA-384.
    Rs384,
    /// RSA (PKCS #1), SHA-512.
    Rs512,
    /// RSA (PSS), SHA-256.
    Ps256,
    /// RSA (PSS), SHA-384.
    Ps384,
    /// RSA (PSS), SHA-512.
    Ps512,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// ECDSA on P-384, SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// A text names no algorithm that tokens may be signed with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no algorithm that tokens may be signed with; there are {known}", known = TokenAlgorithm::ALL.map(TokenAlgorithm::name).join(", "))]
pub struct UnknownAlgorithm(String);

impl TokenAlgorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name, as RFC 7518 and RFC 8037 have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// As the library calls it.
    pub(super) const fn jwt(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }

    /// The one that the library means, if it is one of these.
    pub(super) fn of(algorithm: Algorithm) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.jwt() == algorithm)
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TokenAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let known = Self::ALL.into_iter().find(|algorithm| algorithm.name() == text);
        known.ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

/// Has the library check signatures here. Again is fine.
pub(super) fn choose() {
    // It fails when the choice was made before, and nothing here chooses otherwise.
    let _ = PROVIDER.install_default();
}

/// Checks what those algorithms sign, and signs nothing.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: |algorithm, key| Ok(Box::new(Check::new(*algorithm, key)?)),
    // For keys that are made or told of, which none is here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Checks signatures of one key.
struct Check {
    algorithm: TokenAlgorithm,
    key: DecodingKey,
}

impl Check {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        // A key is of its kind, whatever a token says.
        let fits = algorithm.family() == key.family();
        let algorithm = TokenAlgorithm::of(algorithm).filter(|_| fits);
        let algorithm = algorithm.ok_or_else(|| new_error(ErrorKind::UnsupportedAlgorithm))?;
        Ok(Self { algorithm, key: key.clone() })
    }

    fn rsa(&self, parameters: &RsaParameters, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() else { return Err(BadSignature::new()) };
        // ring refuses a modulus of less than 2,048 bits, and one that begins with nothing, as some issuers write it.
        let n = n.strip_prefix(&[0]).unwrap_or(n);
        RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).map_err(|_| BadSignature::new())
    }

    fn curve(
        &self,
        algorithm: &'static dyn signature::VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let point = self.key.try_get_as_bytes().map_err(|_| BadSignature::new())?;
        UnparsedPublicKey::new(algorithm, point).verify(message, signature).map_err(|_| BadSignature::new())
    }
}

impl Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), BadSignature> {
        match self.algorithm {
            TokenAlgorithm::Rs256 => self.rsa(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature),
            TokenAlgorithm::Rs384 => self.rsa(&signature::RSA_PKCS1_2048_8192_SHA384, message, signature),
            TokenAlgorithm::Rs512 => self.rsa(&signature::RSA_PKCS1_2048_8192_SHA512, message, signature),
            TokenAlgorithm::Ps256 => self.rsa(&signature::RSA_PSS_2048_8192_SHA256, message, signature),
            TokenAlgorithm::Ps384 => self.rsa(&signature::RSA_PSS_2048_8192_SHA384, message, signature),
            TokenAlgorithm::Ps512 => self.rsa(&signature::RSA_PSS_2048_8192_SHA512, message, signature),
            TokenAlgorithm::Es256 => self.curve(&signature::ECDSA_P256_SHA256_FIXED, message, signature),
            TokenAlgorithm::Es384 => self.curve(&signature::ECDSA_P384_SHA384_FIXED, message, signature),
            TokenAlgorithm::EdDsa => self.curve(&signature::ED25519, message, signature),
        }
    }
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm.jwt()
    }
}
