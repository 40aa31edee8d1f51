//! Commands that must have their effect in order, or wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What commands have in common that were sent one after another: once the store has failed one of them, or one needs further units of work, none that comes
/// after it is begun, or it would have its effect before the one that is tried again or goes on.
#[derive(Debug, Clone, Default)]
pub struct Strand(Arc<AtomicBool>);

impl Strand {
    /// Whether one of them has failed or is not done.
    pub fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// One of them has failed or is not done.
    pub fn tear(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl PartialEq for Strand {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Strand {}
