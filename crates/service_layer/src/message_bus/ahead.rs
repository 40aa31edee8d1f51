//! Deciding ahead: while one unit of work is written, the next is decided on what that one will have made of its products.
//!
//! That saves a lane the time it takes to decide, which the store would spend waiting. Why nothing rests on it: `docs/adr/0026-the-next-unit-of-work-is-decided-ahead.md`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use allocation_domain::{Product, Sku};
use futures_util::FutureExt;

use super::{Behind, Message, MessageBus, handle_in};
use crate::failpoints::Failpoint;
use crate::handlers::Verdict;
use crate::kept::{Basis, KeptProducts, skus_of};
use crate::ports::database::{Database, StoreError, StoreResult, Transaction};
use crate::unit_of_work::UnitOfWork;

/// For how long what was decided may wait to be written: it is to have happened a moment earlier, not on another day.
const FRESH: Duration = Duration::from_secs(2);

/// A unit of work that was decided on kept products, and of which the store knows nothing yet.
pub struct Decided<T> {
    uow: UnitOfWork<T>,
    verdicts: Vec<Option<Verdict>>,
    basis: Basis,
    /// When it was begun, by our own watch.
    begun: Duration,
    /// If others are decided on what it will have made of its products.
    built_on: Option<BuiltOn>,
}

/// Products that are kept as they will be once a unit of work is written. Should that never be, nothing that was decided on them holds.
struct BuiltOn {
    kept: Arc<KeptProducts>,
    skus: Vec<Sku>,
    written: bool,
}

impl Drop for BuiltOn {
    fn drop(&mut self) {
        if !self.written {
            self.kept.begin_anew(&self.skus);
        }
    }
}

/// How far a unit of work has come before the store is asked.
#[derive(Default)]
pub enum Ahead<T> {
    /// Nobody has tried to decide it.
    #[default]
    NotTried,
    /// That can't be done without the store.
    InVain,
    /// It is decided.
    Decided(Box<Decided<T>>),
}

impl<D: Database> MessageBus<D> {
    /// Decides commands on kept products, together with what is `decided` already; `None`: all of them have to be decided on what is loaded.
    pub fn decide_ahead(
        &self,
        decided: Option<Box<Decided<D::Tx>>>,
        messages: &[Message],
    ) -> Option<Box<Decided<D::Tx>>> {
        let mut decided = match decided {
            Some(decided) => decided,
            None => Box::new(self.begin_ahead()?),
        };
        let at_hand = |sku: &_| decided.uow.product(sku).is_some();
        let products = self.kept.take(messages, at_hand, decided.uow.now())?;
        // A panic is a defect, which is found again with what is loaded. Only the store is ever waited for.
        let added = AssertUnwindSafe(decided.add(products, messages)).catch_unwind().now_or_never();
        if let Some(Ok(true)) = added {
            return Some(decided);
        }
        self.kept.were_of_no_use();
        None
    }

    fn begin_ahead(&self) -> Option<Decided<D::Tx>> {
        let begun = self.clock.monotonic();
        let (basis, now) = self.kept.begin(begun)?;
        let uow = UnitOfWork::unasked(now, self.entropy.clone(), self.usual.clone());
        let uow = uow.with_most_holds(self.most_holds);
        Some(Decided { uow, verdicts: Vec::new(), basis, begun, built_on: None })
    }

    /// Whether what was decided can still be written. If not, it is better decided anew than added to.
    pub fn holds(&self, decided: &Decided<D::Tx>) -> bool {
        decided.basis == self.kept.basis() && self.clock.monotonic().saturating_sub(decided.begun) < FRESH
    }

    /// Has what comes next decided on what this will have made of its products, before it is written. Only one at a time may be built on: it has to be handled
    /// before another is.
    pub fn build_on(&self, decided: &mut Decided<D::Tx>) {
        self.kept.put(decided.uow.products(), decided.basis);
        let skus = decided.uow.products().map(|product| product.sku().clone()).collect();
        decided.built_on = Some(BuiltOn { kept: self.kept.clone(), skus, written: false });
    }

    /// Writes what was decided; `None`: it does not hold any more, and nothing was written.
    pub(super) async fn write_decided(&self, decided: Decided<D::Tx>) -> StoreResult<Option<Vec<Option<Verdict>>>> {
        if !self.holds(&decided) {
            return Ok(None);
        }
        let Decided { mut uow, verdicts, basis, mut built_on, .. } = decided;
        let written = async {
            uow.begin(self.database.begin().await?).await?;
            self.commit(uow).await
        };
        match written.await {
            Ok(committed) => {
                self.kept.were_right();
                self.metrics.from_memory.inc();
                match &mut built_on {
                    // What is kept of its products may be newer.
                    Some(built_on) => built_on.written = true,
                    None => self.kept.put(&committed.products, basis),
                }
                self.note(committed.anything);
                Ok(Some(verdicts))
            }
            Err(StoreError::Conflict(_)) => {
                self.kept.were_of_no_use();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl<T: Transaction> Decided<T> {
    /// How many commands it has.
    pub fn commands(&self) -> usize {
        self.verdicts.len()
    }

    /// Decides these as well, if that can be done without the store. A refusal writes nothing that could be checked, so it can't.
    async fn add(&mut self, products: Vec<Product>, messages: &[Message]) -> bool {
        if !self.uow.recall(products) {
            return false;
        }
        Failpoint::UnitLoaded.pass();
        let Ok(verdicts) = handle_in(&mut self.uow, messages, Behind::All).await else { return false };
        let all_done = verdicts.iter().all(|verdict| matches!(verdict, Some(Ok(_))));
        self.verdicts.extend(verdicts);
        all_done && skus_of(messages).all(|sku| self.uow.has_changed(sku))
    }
}
