//! The text of an API key, its digest, and its name.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::ports::clock::Entropy;

/// What keys begin with, so that people and scanners of secrets know one when they see it.
pub const KEY_PREFIX: &str = "allocation_";
/// Hexadecimal digits of chance: 256 bits.
const RANDOM: usize = 64;
/// Hexadecimal digits of the checksum.
const CHECKSUM: usize = 8;

/// An API key as its holder has it. Does not print itself.
///
/// [`KEY_PREFIX`], 64 hexadecimal digits of chance, and 8 of the CRC-32 (IEEE) of all before them: a typing error is told without asking the store.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

/// A text is no API key: it looks like none, or its checksum is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key; was it copied whole?")]
pub struct BadKey;

impl KeyText {
    /// A new one.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let body = format!("{KEY_PREFIX}{:032x}{:032x}", entropy.bits(), entropy.bits());
        Self(format!("{body}{}", checksum(&body)))
    }

    /// Reads what [`Self::reveal`] gives.
    ///
    /// # Errors
    /// When the text is no key.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let digits = text.strip_prefix(KEY_PREFIX).ok_or(BadKey)?;
        let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hex || digits.len() != RANDOM + CHECKSUM {
            return Err(BadKey);
        }
        let (body, given) = text.split_at(text.len() - CHECKSUM);
        if given == checksum(body) { Ok(Self(text.to_owned())) } else { Err(BadKey) }
    }

    /// Its text, for whoever is to have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(&self.0).into())
    }
}

fn checksum(body: &str) -> String {
    format!("{:0CHECKSUM$x}", crc32fast::hash(body.as_bytes()))
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(***)")
    }
}

/// The SHA-256 of a key's text. A key is 256 bits of chance, so nobody finds it by trying, and no slower digest is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// How people name the key: the first 16 hexadecimal digits, as `sha256sum` gives them for a key that was found somewhere.
    pub fn id(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({}…)", self.id())
    }
}

/// Whose a key is: 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

/// A text is no name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's name must have 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")]
pub struct BadKeyName;

impl KeyName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = BadKeyName;

    fn from_str(text: &str) -> Result<Self, BadKeyName> {
        let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if good && (1..=64).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(BadKeyName) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its checksum and its digest were reckoned with other programs: zlib and sha256sum.
    const KEY: &str = "allocation_000000000000000000000000000000000000000000000000000000000000000061208b69";

    struct Zeros;

    impl Entropy for Zeros {
        fn bits(&self) -> u128 {
            0
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_made_and_does_not_print_itself() {
        let key = KeyText::new(&Zeros);
        assert_eq!(key.reveal(), KEY);
        assert_eq!(KeyText::parse(KEY), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "KeyText(***)");
        assert!(KEY.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        assert_eq!(key.digest().id(), "0492c8b3c1dd27bf");
    }

    #[test]
    fn any_other_character_anywhere_makes_it_no_key() {
        for at in 0..KEY.len() {
            for other in ['0', '1', 'f', 'F', 'x', ' '] {
                let mut text = KEY.to_owned();
                text.replace_range(at..=at, &other.to_string());
                assert!(text == KEY || KeyText::parse(&text) == Err(BadKey), "{text}");
            }
            assert_eq!(KeyText::parse(&KEY[..at]), Err(BadKey));
        }
        for bad in [format!("{KEY}0"), format!(" {KEY}"), KEY.to_uppercase(), KEY.replace('0', "ä")] {
            assert_eq!(KeyText::parse(&bad), Err(BadKey), "{bad}");
        }
    }

    #[test]
    fn a_name_is_short_and_plain() {
        for good in ["a", "shop-1", "Shop_2.eu", &"x".repeat(64)] {
            assert_eq!(good.parse::<KeyName>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a:b", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(bad.parse::<KeyName>(), Err(BadKeyName), "{bad:?}");
        }
    }
}
