//! Time and chance, as ports, so that tests can set them.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The instant it is, in UTC.
    fn now(&self) -> OffsetDateTime;

    /// Time since some fixed moment of this process; never goes back. For measuring how long something takes.
    fn monotonic(&self) -> Duration;
}

/// Rolls the dice.
pub trait Entropy: Send + Sync + 'static {
    /// Random bits.
    fn bits(&self) -> u128;

    /// A new version-7 UUID: its first 48 bits are `now` in milliseconds, so that ids sort by time.
    fn uuid(&self, now: OffsetDateTime) -> Uuid {
        let millis = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let bits = self.bits().to_le_bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&bits[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A random part of `most`, to keep retries of several copies apart.
    fn jitter(&self, most: Duration) -> Duration {
        let share = u32::try_from(self.bits() & 0xffff).unwrap_or(0);
        most * share / 0xffff
    }
}
