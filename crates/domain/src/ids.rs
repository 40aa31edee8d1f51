//! Value objects that name things and count them. None can hold a bad value.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use crate::error::{InvalidKey, InvalidQuantity};

/// The text of a key: UTF-8 of 1 to `max` bytes without control characters or outer space, and not `.` or `..`, which would
/// vanish from the path of a URL. Keys are compared byte for byte.
fn valid_key(text: &str, max: usize) -> Result<(), InvalidKey> {
    if text.is_empty() {
        Err(InvalidKey::Empty)
    } else if text.len() > max {
        Err(InvalidKey::TooLong { max, bytes: text.len() })
    } else if text.chars().any(char::is_control) {
        Err(InvalidKey::ControlCharacter)
    } else if text.trim().len() != text.len() {
        Err(InvalidKey::OuterSpace)
    } else if matches!(text, "." | "..") {
        Err(InvalidKey::DotSegment)
    } else {
        Ok(())
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most bytes such a key may have.
            pub const MAX_BYTES: usize = $max;

            /// Checks `text` against the rules for keys.
            pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, InvalidKey> {
                valid_key(text.as_ref(), $max).map(|()| Self(text.into()))
            }

            /// The text of the key.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidKey;
            fn try_from(text: &str) -> Result<Self, InvalidKey> {
                Self::new(text)
            }
        }
    };
}

key!(
    /// Stock keeping unit: names a product. At most 255 bytes.
    Sku,
    255
);
key!(
    /// Names an order. At most 255 bytes.
    OrderId,
    255
);
key!(
    /// The reference of a shipment or a stock on hand. One shipment may carry many SKUs, so a batch is known by SKU *and*
    /// reference. At most 255 bytes.
    BatchRef,
    255
);
key!(
    /// Tells lines of one order and one SKU apart; `1` unless the caller gives another. At most 64 bytes.
    LineId,
    64
);

key!(
    /// Where stock lies: a warehouse, a shop. At most 64 bytes; `default` unless the caller says where.
    Location,
    64
);

key!(
    /// Why something was corrected, in somebody's words. At most 255 bytes.
    Reason,
    255
);

impl BatchRef {
    /// What the rest of this shipment is called once some of it has come: `PO-1`, `PO-1~2`, `PO-1~3` …; none when that is too long for a key.
    pub fn rest(&self) -> Option<Self> {
        let (base, number) = match self.0.rsplit_once('~') {
            Some((base, number)) if !base.is_empty() => (base, number.parse::<u32>().ok()),
            _ => (&*self.0, None),
        };
        match number {
            Some(number) => Self::new(format!("{base}~{}", number.checked_add(1)?)).ok(),
            None => Self::new(format!("{}~2", self.0)).ok(),
        }
    }
}

impl LineId {
    /// Below every other, for ranges; no line has it.
    pub(crate) fn first() -> Self {
        Self("".into())
    }
}

impl Default for LineId {
    fn default() -> Self {
        Self("1".into())
    }
}

impl Default for Location {
    fn default() -> Self {
        static DEFAULT: std::sync::OnceLock<Location> = std::sync::OnceLock::new();
        // Shared, since nearly every batch of a company with one warehouse names it.
        DEFAULT.get_or_init(|| Self("default".into())).clone()
    }
}

/// How many base units an order line asks for: 1 to 1,000,000,000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Quantity(u32);

impl Quantity {
    /// The most that one line may ask for.
    pub const MAX: u64 = 1_000_000_000;

    /// Checks the bounds.
    pub fn new(units: u64) -> Result<Self, InvalidQuantity> {
        match u32::try_from(units) {
            Ok(small) if (1..=Self::MAX).contains(&units) => Ok(Self(small)),
            _ => Err(InvalidQuantity { min: 1, max: Self::MAX }),
        }
    }

    /// One unit.
    pub const ONE: Self = Self(1);

    /// The number of units.
    pub fn units(self) -> u64 {
        self.0.into()
    }

    /// Units that are a part of a quantity, and so within its bounds.
    pub(crate) fn part(units: u64) -> Self {
        Self::new(units).expect("a part of a line has a unit, and no more than the line")
    }

    /// The sum of two quantities, which must be a quantity again.
    pub fn plus(self, other: Self) -> Result<Self, InvalidQuantity> {
        Self::new(self.units() + other.units())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many base units a batch is declared to hold: 0 to 1,000,000,000,000, so that the totals of nine million full batches still
/// fit 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BatchQuantity(u64);

impl BatchQuantity {
    /// The most that one batch may hold.
    pub const MAX: u64 = 1_000_000_000_000;
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// Checks the bounds.
    pub fn new(units: u64) -> Result<Self, InvalidQuantity> {
        if units <= Self::MAX { Ok(Self(units)) } else { Err(InvalidQuantity { min: 0, max: Self::MAX }) }
    }

    /// The number of units.
    pub fn units(self) -> u64 {
        self.0
    }
}

impl From<Quantity> for BatchQuantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.units())
    }
}

impl fmt::Display for BatchQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a hold lasts from now: 1 to 2,592,000 seconds, which is 30 days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HoldSeconds(u32);

impl HoldSeconds {
    /// The longest.
    pub const MAX: u64 = 30 * 24 * 60 * 60;

    /// Checks the bounds.
    pub fn new(seconds: u64) -> Result<Self, InvalidQuantity> {
        match u32::try_from(seconds) {
            Ok(small) if (1..=Self::MAX).contains(&seconds) => Ok(Self(small)),
            _ => Err(InvalidQuantity { min: 1, max: Self::MAX }),
        }
    }

    /// The instant it ends when it begins now.
    pub fn from(self, now: OffsetDateTime) -> OffsetDateTime {
        now + Duration::seconds(self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_empty_not_padded_not_a_dot_segment_and_not_too_long() {
        assert_eq!(Sku::new(""), Err(InvalidKey::Empty));
        assert_eq!(Sku::new(" A"), Err(InvalidKey::OuterSpace));
        assert_eq!(Sku::new("A\u{2003}"), Err(InvalidKey::OuterSpace));
        assert_eq!(Sku::new("A\nB"), Err(InvalidKey::ControlCharacter));
        assert_eq!(Sku::new(".."), Err(InvalidKey::DotSegment));
        assert_eq!(Sku::new("é".repeat(128)), Err(InvalidKey::TooLong { max: 255, bytes: 256 }));
        assert_eq!(LineId::new("x".repeat(65)), Err(InvalidKey::TooLong { max: 64, bytes: 65 }));
        for good in ["A", "a b", "...", "SMALL-TABLE/1", &"x".repeat(255)] {
            assert_eq!(Sku::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_order_asks_for_one_to_a_billion_and_a_batch_holds_none_to_a_trillion() {
        assert!(Quantity::new(0).is_err());
        assert!(Quantity::new(1_000_000_001).is_err());
        assert!(Quantity::new(u64::MAX).is_err());
        assert_eq!(Quantity::new(1_000_000_000).unwrap().units(), 1_000_000_000);
        assert_eq!(BatchQuantity::new(0).unwrap(), BatchQuantity::ZERO);
        assert!(BatchQuantity::new(BatchQuantity::MAX + 1).is_err());
    }

    #[test]
    fn quantities_that_add_up_to_more_than_a_line_may_ask_are_refused() {
        let half = Quantity::new(600_000_000).unwrap();
        assert!(half.plus(half).is_err());
    }
}
