//! Time and chance that tests decide.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use allocation_service_layer::ports::clock::{Clock, Entropy};
use time::OffsetDateTime;
use time::macros::datetime;

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    millis: AtomicI64,
}

impl ManualClock {
    /// Where it starts: noon on 2 January 2011.
    pub const START: OffsetDateTime = datetime!(2011-01-02 12:00 UTC);

    /// A clock at [`ManualClock::START`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it.
    pub fn set(&self, now: OffsetDateTime) {
        let millis = (now - Self::START).whole_milliseconds();
        self.millis.store(i64::try_from(millis).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        Self::START + time::Duration::milliseconds(self.millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// Random bits that are the same in every run, and differ from one another.
#[derive(Debug, Default)]
pub struct CountingEntropy(AtomicU64);

impl Entropy for CountingEntropy {
    fn bits(&self) -> u128 {
        // Spread over all bits: the golden ratio's multiples.
        let count = u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1);
        count.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}
