//! How often a key may be used: no more than so many times at once, and at an even pace after that.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::ports::clock::Clock;

/// Our clock as the library takes it.
#[derive(Clone)]
struct Watch(Arc<dyn Clock>);

impl governor::clock::Clock for Watch {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// How often one key was used of late. It needs no lock.
pub(super) struct Pace(RateLimiter<NotKeyed, InMemoryState, Watch, NoOpMiddleware<Duration>>);

impl Pace {
    /// So many uses in a second at most.
    pub(super) fn new(a_second: NonZeroU32, clock: Arc<dyn Clock>) -> Self {
        Self(RateLimiter::direct_with_clock(Quota::per_second(a_second), Watch(clock)))
    }

    /// Counts one use, or says how long to wait for it.
    pub(super) fn step(&self) -> Result<(), Duration> {
        self.0.check().map_err(|early| early.wait_time_from(self.0.clock().now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use time::OffsetDateTime;

    use super::*;

    #[derive(Default)]
    struct SetClock(Mutex<Duration>);

    impl Clock for SetClock {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn a_seconds_uses_may_come_at_once_and_others_at_an_even_pace() {
        let clock = Arc::new(SetClock::default());
        let pace = Pace::new(NonZeroU32::new(4).unwrap(), clock.clone());
        let at = Duration::from_millis;
        let mut step = |now| {
            *clock.0.lock().unwrap() = at(now);
            pace.step()
        };
        assert_eq!([0, 0, 0, 0].map(&mut step), [Ok(()); 4]);
        assert_eq!(step(0), Err(at(250)));
        assert_eq!(step(249), Err(at(1)));
        assert_eq!(step(250), Ok(()));
        assert_eq!(step(250), Err(at(250)));
        // No more than what is allowed in a second is saved up.
        assert_eq!([9_000, 9_000, 9_000, 9_000].map(&mut step), [Ok(()); 4]);
        assert_eq!(step(9_000), Err(at(250)));
    }

    #[test]
    fn many_threads_take_no_more_than_there_is() {
        let pace = Pace::new(NonZeroU32::new(1_000).unwrap(), Arc::new(SetClock::default()));
        let take = || (0..1_000).filter(|_| pace.step().is_ok()).count();
        let taken = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 1_000);
    }
}
