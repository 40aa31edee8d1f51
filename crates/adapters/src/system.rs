//! The machine's clock and dice.

use std::time::{Duration, Instant};

use allocation_service_layer::ports::clock::{Clock, Entropy};
use time::OffsetDateTime;

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemClock {
    /// Starts the monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the `Clock` port")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the `Clock` port")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The machine's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the `Entropy` port")]
    fn bits(&self) -> u128 {
        rand::random()
    }
}
