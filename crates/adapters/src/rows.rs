//! From columns to the domain's types, alike for every store. What a store holds was checked when it was written, so a value
//! that does not fit is a damaged store.

use allocation_domain::{
    AcceptedLine, Batch, BatchQuantity, BatchRef, Eta, LineId, LineKey, LineState, OrderId, Quantity, Sku,
};
use allocation_service_layer::ports::database::{StoreError, StoreResult};

pub(crate) fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the store holds what it must not: {what}"))
}

pub(crate) fn sku(text: &str) -> StoreResult<Sku> {
    Sku::new(text).map_err(damaged)
}

pub(crate) fn count(number: i64) -> StoreResult<u64> {
    u64::try_from(number).map_err(damaged)
}

/// Counters never reach 2⁶³: a billion units a line, a trillion a batch.
pub(crate) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn line_key(order_id: &str, line: &str) -> StoreResult<LineKey> {
    Ok(LineKey { order_id: OrderId::new(order_id).map_err(damaged)?, line: LineId::new(line).map_err(damaged)? })
}

pub(crate) fn batch(reference: &str, quantity: i64, allocated: i64, eta: Eta, revision: i64) -> StoreResult<Batch> {
    Ok(Batch {
        reference: BatchRef::new(reference).map_err(damaged)?,
        quantity: BatchQuantity::new(count(quantity)?).map_err(damaged)?,
        allocated: count(allocated)?,
        eta,
        revision: count(revision)?,
    })
}

/// A line's columns.
pub(crate) struct LineRow<'a> {
    pub(crate) order_id: &'a str,
    pub(crate) line: &'a str,
    pub(crate) requested: i64,
    pub(crate) backordered: i64,
    pub(crate) batch: Option<&'a str>,
    pub(crate) accepted: i64,
}

impl LineRow<'_> {
    pub(crate) fn line(self) -> StoreResult<AcceptedLine> {
        let state = match self.batch {
            Some(reference) => LineState::Allocated(BatchRef::new(reference).map_err(damaged)?),
            None if self.backordered > 0 => LineState::Backordered,
            None => LineState::Cancelled,
        };
        Ok(AcceptedLine {
            key: line_key(self.order_id, self.line)?,
            requested: Quantity::new(count(self.requested)?).map_err(damaged)?,
            accepted: count(self.accepted)?,
            state,
        })
    }
}
