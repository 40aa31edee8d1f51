//! Signatures of webhooks, as the Standard Webhooks specification has them.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ports::clock::Entropy;

/// What secrets begin with.
const PREFIX: &str = "whsec_";

/// What a webhook's requests are signed with. Does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a secret of a webhook")]
pub struct BadSecret;

impl Secret {
    /// A new one: 32 random bytes.
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self([entropy.bits().to_le_bytes(), entropy.bits().to_le_bytes()].concat())
    }

    /// Reads what [`Self::reveal`] gives.
    ///
    /// # Errors
    /// When the text is no secret.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(BadSecret)?;
        BASE64_STANDARD.decode(encoded).map(Self).map_err(|_| BadSecret)
    }

    /// Its text: for the receiver, and for the store.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    /// The signature of a request.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key may have any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's own libraries are tested with.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_does_not_print_itself_and_is_read_as_it_was_revealed() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let secret = Secret::parse(text).unwrap();
        assert_eq!(secret.reveal(), text);
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Err(BadSecret));
        assert_eq!(Secret::parse("whsec_?"), Err(BadSecret));
    }
}
