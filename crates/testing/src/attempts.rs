//! Patience with what comes by itself.

use std::time::Duration;

use crate::PATIENCE;

/// Attempts at something that may take a while: [`eventually`] for futures that must be able to move between threads.
pub(crate) struct Attempts {
    what: &'static str,
    left: u128,
}

/// The pause between two of them.
const PAUSE: Duration = Duration::from_millis(50);

impl Attempts {
    /// As many as there is patience for.
    pub(crate) fn at(what: &'static str) -> Self {
        Self { what, left: PATIENCE.as_millis() / PAUSE.as_millis() }
    }

    /// Waits for the next one, and fails the test when there have been too many.
    pub(crate) async fn again(&mut self) {
        self.left = self.left.checked_sub(1).unwrap_or_else(|| panic!("waited in vain for: {}", self.what));
        tokio::time::sleep(PAUSE).await;
    }
}
