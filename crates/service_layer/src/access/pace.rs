//! How often a key may be used: a bucket of tokens that fills up at an even pace.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much a full bucket holds: what is allowed in this time.
const FULL: Duration = Duration::from_secs(1);

/// How fast a bucket fills.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Nanoseconds for one token.
    one: u64,
}

impl Pace {
    pub(super) fn new(a_second: NonZeroU32) -> Self {
        Self { one: nanoseconds(FULL) / u64::from(a_second.get()) }
    }
}

/// A bucket, full at first. It is one number that all threads can change without waiting for each other: when it will be full again, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a token, or says when there will be one.
    pub(super) fn take(&self, pace: Pace, now: Duration) -> Result<(), Duration> {
        let now = nanoseconds(now);
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let then = full_at.max(now) + pace.one;
            if let Some(early) = (then - now).checked_sub(nanoseconds(FULL)).filter(|early| *early > 0) {
                return Err(Duration::from_nanos(early));
            }
            match self.0.compare_exchange_weak(full_at, then, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(changed) => full_at = changed,
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(a_second: u32) -> Pace {
        Pace::new(NonZeroU32::new(a_second).unwrap())
    }

    #[test]
    fn a_full_bucket_is_for_a_second_and_fills_at_an_even_pace() {
        let (bucket, pace) = (Bucket::default(), pace(4));
        let at = Duration::from_millis;
        assert_eq!([0, 0, 0, 0].map(|now| bucket.take(pace, at(now))), [Ok(()); 4]);
        assert_eq!(bucket.take(pace, at(0)), Err(at(250)));
        assert_eq!(bucket.take(pace, at(249)), Err(at(1)));
        assert_eq!(bucket.take(pace, at(250)), Ok(()));
        assert_eq!(bucket.take(pace, at(250)), Err(at(250)));
        // It never holds more than is allowed in a second.
        assert_eq!([9_000, 9_000, 9_000, 9_000].map(|now| bucket.take(pace, at(now))), [Ok(()); 4]);
        assert_eq!(bucket.take(pace, at(9_000)), Err(at(250)));
    }

    #[test]
    fn many_threads_take_no_more_than_there_is() {
        let (bucket, pace) = (Bucket::default(), pace(1_000));
        let take = || (0..1_000).filter(|_| bucket.take(pace, Duration::ZERO).is_ok()).count();
        let taken = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 1_000);
    }
}
