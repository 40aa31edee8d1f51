//! Products kept between units of work: saves loading them again, a round trip and most reading of the store.
//!
//! Nothing rests on a kept product being as the store has it: the version is checked at the write. Nor on its being as the store will have it: what was decided on
//! something that was not written after all has another basis than the present one. Whoever was wrong begins again with what is loaded. So only what is certain to be written may be decided on it: orders for new lines that are promised or queued at once. A refusal, a line
//! that may be known, whatever is due or asks the store for more is for what was loaded.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use allocation_domain::{Command, Product, Sku};
use lru::LruCache;
use time::OffsetDateTime;

use crate::message_bus::Message;

/// The most products that are kept.
const MOST: NonZeroUsize = NonZeroUsize::new(10_000).expect("more than none");

/// A product with more open batches than this is not kept: it would take more memory than it saves work.
const MOST_BATCHES: usize = 64;

/// For how long our own watch is believed before the store is asked for the time again.
const ON_OUR_WATCH: time::Duration = time::Duration::seconds(10);

/// The longest run of units of work in which kept products are not tried, after they were of no use again and again.
const LONGEST_REST: u32 = 64;

/// What is kept of earlier units of work.
pub(crate) struct KeptProducts(Mutex<Kept>);

struct Kept {
    products: LruCache<Sku, Product>,
    /// What the store's clock said last, and our own watch then.
    read: Option<(OffsetDateTime, Duration)>,
    /// In how many units of work not to try.
    resting: u32,
    /// How many that was last.
    rest: u32,
    basis: Basis,
}

/// What all that is decided on kept products rests on: that every unit of work before it is written as it was decided. A new one begins when one was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Basis(u64);

impl Default for KeptProducts {
    fn default() -> Self {
        let products = LruCache::new(MOST);
        Self(Mutex::new(Kept { products, read: None, resting: 0, rest: 0, basis: Basis(0) }))
    }
}

impl KeptProducts {
    /// Begins to decide a unit of work on what is kept: on which basis, and the present time; `None`: not now. `watch` is our own monotonic clock.
    pub(crate) fn begin(&self, watch: Duration) -> Option<(Basis, OffsetDateTime)> {
        let mut kept = self.lock();
        if kept.resting > 0 {
            kept.resting -= 1;
            return None;
        }
        let (read, then) = kept.read?;
        let passed = signed(watch) - signed(then);
        (passed <= ON_OUR_WATCH).then(|| (kept.basis, read + passed))
    }

    /// Takes out all products that these commands are about, but for those that are `at_hand`, as they are at this time; none unless all of them are
    /// there and may serve.
    pub(crate) fn take(
        &self,
        messages: &[Message],
        at_hand: impl Fn(&Sku) -> bool,
        now: OffsetDateTime,
    ) -> Option<Vec<Product>> {
        if !messages.iter().all(|message| may_be_decided(&message.command)) {
            return None;
        }
        let skus = || skus_of(messages).filter(|sku| !at_hand(sku));
        let mut kept = self.lock();
        if !skus().all(|sku| kept.products.contains(sku)) {
            return None;
        }
        let mut taken: Vec<Product> = skus().filter_map(|sku| kept.products.pop(sku)).collect();
        for product in &mut taken {
            product.begin_anew(now);
        }
        Some(taken)
    }

    /// Keeps these, which are as the store has them, or will have them once everything on this basis is written; without their lines, which nobody needs
    /// meanwhile.
    pub(crate) fn put<'a>(&self, products: impl IntoIterator<Item = &'a Product>, basis: Basis) {
        let mut kept = self.lock();
        if kept.basis != basis {
            return;
        }
        for product in products {
            let product = product.begun_anew();
            if product.batches().len() <= MOST_BATCHES {
                kept.products.put(product.sku().clone(), product);
            }
        }
    }

    /// What is decided now rests on this.
    pub(crate) fn basis(&self) -> Basis {
        self.lock().basis
    }

    /// The store's clock was read.
    pub(crate) fn read(&self, now: OffsetDateTime, watch: Duration) {
        self.lock().read = Some((now, watch));
    }

    /// They were as the store has them.
    pub(crate) fn were_right(&self) {
        let mut kept = self.lock();
        // Slowly: where two copies take turns, every other time is luck.
        kept.rest = kept.rest.saturating_sub(1);
    }

    /// They were of no use, and the work has to be done again; so leave them alone for a while if that happens again and again: where another
    /// copy wants the same products, or where most is refused.
    pub(crate) fn were_of_no_use(&self) {
        let mut kept = self.lock();
        kept.resting = kept.rest;
        kept.rest = (2 * kept.rest + 1).min(LONGEST_REST);
    }

    /// A unit of work was not written as it was decided: nothing that was decided after it may be written either. These are the products that others may have
    /// taken to be as it would have left them.
    pub(crate) fn begin_anew(&self, without: &[Sku]) {
        let mut kept = self.lock();
        kept.basis.0 += 1;
        for sku in without {
            kept.products.pop(sku);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What these orders are for.
pub(crate) fn skus_of(messages: &[Message]) -> impl Iterator<Item = &Sku> {
    let orders = messages.iter().filter_map(|message| match &message.command {
        Command::Allocate(order) => Some(order),
        _ => None,
    });
    orders.flat_map(|order| order.lines().iter().map(|line| &line.sku))
}

/// Whether a command may be decided without asking the store. A hold needs the store's own clock.
fn may_be_decided(command: &Command) -> bool {
    matches!(command, Command::Allocate(order) if order.hold.is_none())
}

fn signed(watch: Duration) -> time::Duration {
    time::Duration::try_from(watch).unwrap_or(time::Duration::MAX)
}
