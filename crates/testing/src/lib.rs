//! What tests share: fakes, a clock to set, throwaway servers, the program as a process, and the contract suites that every store
//! must pass.
//!
//! **What it may know.** The domain and the service layer's ports; never an adapter, so that a contract can't lean on one.
//!
//! **How to add…**
//! - *a contract*: a function in [`contracts`] and its name in [`store_contract!`]; every store then runs it.
//! - *a server*: a file in [`servers`] that starts it on a free port, in a folder of its own, and stops it with the test process; one whose data
//!   outlives it has a `Keeper`.

#[cfg(feature = "servers")]
mod attempts;
#[cfg(feature = "servers")]
pub mod brokers;
#[cfg(feature = "servers")]
pub mod certificates;
pub mod clock;
pub mod contracts;
#[cfg(feature = "servers")]
pub mod disk;
pub mod fakes;
#[cfg(feature = "servers")]
pub mod program;
pub mod real_orders;
#[cfg(feature = "servers")]
pub mod servers;
pub mod shorthand;
pub mod tokens;

use std::time::Duration;

#[cfg(feature = "servers")]
pub(crate) use attempts::Attempts;

/// How long what must come is waited for: long enough for a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until `check` gives something, and fails the test when that takes too long.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            ticks.tick().await;
            if let Some(found) = check().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}
