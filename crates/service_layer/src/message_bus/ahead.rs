//! Deciding ahead: while one unit of work is written, the next is decided on what that one will have made of its products.
//!
//! That saves a lane the time it takes to decide, which the store would spend waiting. Why nothing rests on it: `docs/adr/0026-the-next-unit-of-work-is-decided-ahead.md`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use allocation_domain::{Product, Sku};
use futures_util::FutureExt;
use time::OffsetDateTime;

use super::{Behind, Message, MessageBus, handle_in};
use crate::failpoints::Failpoint;
use crate::handlers::Verdict;
use crate::kept::{Basis, KeptProducts, skus_of};
use crate::ports::database::{Database, StoreError, StoreResult, Transaction};
use crate::unit_of_work::UnitOfWork;

/// A unit of work that was decided on kept products, and of which the store knows nothing yet.
pub struct Decided<T> {
    uow: UnitOfWork<T>,
    verdicts: Vec<Option<Verdict>>,
    basis: Basis,
    now: OffsetDateTime,
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
    pub fn decide_ahead(&self, decided: Option<Decided<D::Tx>>, messages: &[Message]) -> Option<Decided<D::Tx>> {
        let mut decided = match decided {
            Some(decided) => decided,
            None => self.begin_ahead()?,
        };
        let at_hand = |sku: &_| decided.uow.product(sku).is_some();
        let products = self.kept.take(messages, at_hand, decided.now)?;
        // A panic is a defect, which is found again with what is loaded. Only the store is ever waited for.
        let added = AssertUnwindSafe(decided.add(products, messages)).catch_unwind().now_or_never();
        if let Some(Ok(true)) = added {
            return Some(decided);
        }
        self.kept.were_of_no_use();
        None
    }

    fn begin_ahead(&self) -> Option<Decided<D::Tx>> {
        let (basis, now) = self.kept.begin(self.clock.monotonic())?;
        let uow = UnitOfWork::unasked(now, self.entropy.clone(), self.usual.clone());
        let uow = uow.with_most_holds(self.most_holds);
        Some(Decided { uow, verdicts: Vec::new(), basis, now, built_on: None })
    }

    /// Has what comes next decided on what this will have made of its products, before it is written. Only one at a time may be built on: it has to be handled
    /// before another is.
    pub fn build_on(&self, decided: &mut Decided<D::Tx>) {
        self.kept.put(decided.uow.products().cloned(), decided.basis);
        let skus = decided.uow.products().map(|product| product.sku().clone()).collect();
        decided.built_on = Some(BuiltOn { kept: self.kept.clone(), skus, written: false });
    }

    /// Writes what was decided; `None`: it does not hold any more, and nothing was written.
    pub(super) async fn write_decided(&self, decided: Decided<D::Tx>) -> StoreResult<Option<Vec<Option<Verdict>>>> {
        let Decided { mut uow, verdicts, basis, mut built_on, .. } = decided;
        if self.kept.basis() != basis {
            return Ok(None);
        }
        let written = async {
            uow.begin(self.database.begin().await?).await?;
            self.commit(uow).await
        };
        match written.await {
            Ok(mut committed) => {
                if let Some(built_on) = &mut built_on {
                    built_on.written = true;
                    // What is kept of them may be newer.
                    committed.products.clear();
                }
                self.kept.were_right();
                self.metrics.from_memory.inc();
                self.note(committed, basis);
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
