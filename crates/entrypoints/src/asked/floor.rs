//! What is said of an order's units on the warehouse floor.

use allocation_domain::commands::{LineOf, Pick, Return, ReturnItem, ReturnTo, Ship, ShipItem, Unpick};
use allocation_domain::{BatchRef, Command, LineId, OrderId, Quantity, Sku};
use serde::Deserialize;
use utoipa::ToSchema;

use super::fields::{Faults, Field, Names, Unknown};
use super::{MAX_LINES, schemas};

/// A line of the order.
#[derive(Deserialize, ToSchema)]
struct NamedLine {
    /// The product.
    #[serde(default)]
    #[schema(value_type = schemas::Sku, required)]
    sku: Field<Sku>,
    /// Which of the order's lines for it.
    #[serde(default)]
    #[schema(value_type = schemas::LineId, default = "1")]
    line: Field<LineId>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What is to be picked.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct PickRequest {
    /// Only these lines; left out or empty: the whole order.
    #[serde(default)]
    #[schema(max_items = 1000)]
    lines: Vec<NamedLine>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// Units of a line that have left.
#[derive(Deserialize, ToSchema)]
struct ShippedLine {
    /// The product.
    #[serde(default)]
    #[schema(value_type = schemas::Sku, required)]
    sku: Field<Sku>,
    /// Which of the order's lines for it.
    #[serde(default)]
    #[schema(value_type = schemas::LineId, default = "1")]
    line: Field<LineId>,
    /// Units, 1 to 1,000,000,000; left out: all that are allocated.
    #[serde(default)]
    #[schema(value_type = schemas::Units)]
    qty: Field<Quantity>,
    /// The batch that they were picked from; left out: where the line has them.
    #[serde(default)]
    #[schema(value_type = schemas::BatchRef)]
    batch: Field<BatchRef>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What has left.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Shipment {
    /// In this order; left out or empty: everything that is allocated.
    #[serde(default)]
    #[schema(max_items = 1000)]
    lines: Vec<ShippedLine>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// Units of a line that have come back.
#[derive(Deserialize, ToSchema)]
struct ReturnedLine {
    /// The product.
    #[serde(default)]
    #[schema(value_type = schemas::Sku, required)]
    sku: Field<Sku>,
    /// Which of the order's lines for it.
    #[serde(default)]
    #[schema(value_type = schemas::LineId, default = "1")]
    line: Field<LineId>,
    /// Units, 1 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = schemas::Units, required)]
    qty: Field<Quantity>,
    /// What becomes of them: `quarantine` sets them aside, `restock` makes them free, `scrap` writes them off.
    #[serde(default)]
    #[schema(value_type = schemas::ReturnToName, default = "quarantine")]
    to: Field<ReturnTo>,
    /// Into which batch; left out: where they came from.
    #[serde(default)]
    #[schema(value_type = schemas::BatchRef)]
    batch: Field<BatchRef>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What has come back.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReturnRequest {
    /// 1 to 1,000 lines.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 1000)]
    lines: Vec<ReturnedLine>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// The line that item `at` of a list names.
fn named(faults: &mut Faults, at: usize, sku: Field<Sku>, line: Field<LineId>, unknown: &Unknown) -> Option<LineOf> {
    let prefix = format!("lines[{at}].");
    faults.unknown(&prefix, unknown);
    let sku = faults.required(format!("{prefix}sku"), sku);
    let line = faults.optional(format!("{prefix}line"), line).unwrap_or_default();
    sku.map(|sku| LineOf { sku, line })
}

/// Each item of a list, read; there may be so many at most.
fn each<I, T>(
    faults: &mut Faults,
    least: usize,
    items: Vec<I>,
    mut read: impl FnMut(&mut Faults, usize, I) -> Option<T>,
) -> Vec<T> {
    if items.len() < least || items.len() > MAX_LINES {
        faults.add("lines", format!("must be a list of {least} to {MAX_LINES} lines"));
        return Vec::new();
    }
    items.into_iter().enumerate().filter_map(|(at, item)| read(faults, at, item)).collect()
}

fn lines_to_pick(faults: &mut Faults, body: PickRequest) -> Vec<LineOf> {
    faults.unknown("", &body.unknown);
    each(faults, 0, body.lines, |faults, at, line| named(faults, at, line.sku, line.line, &line.unknown))
}

pub(crate) fn pick(faults: &mut Faults, about: &Names, body: PickRequest) -> Option<Command> {
    let order_id = about.get::<OrderId>(faults, "order_id");
    let lines = lines_to_pick(faults, body);
    Some(Command::Pick(Pick { order_id: order_id?, lines }))
}

pub(crate) fn unpick(faults: &mut Faults, about: &Names, body: PickRequest) -> Option<Command> {
    let order_id = about.get::<OrderId>(faults, "order_id");
    let lines = lines_to_pick(faults, body);
    Some(Command::Unpick(Unpick { order_id: order_id?, lines }))
}

pub(crate) fn ship(faults: &mut Faults, about: &Names, body: Shipment) -> Option<Command> {
    let order_id = about.get::<OrderId>(faults, "order_id");
    faults.unknown("", &body.unknown);
    let items = each(faults, 0, body.lines, |faults, at, line| {
        let qty = faults.optional(format!("lines[{at}].qty"), line.qty);
        let from = faults.optional(format!("lines[{at}].batch"), line.batch);
        Some(ShipItem { of: named(faults, at, line.sku, line.line, &line.unknown)?, qty, from })
    });
    Some(Command::Ship(Ship { order_id: order_id?, items }))
}

pub(crate) fn take_back(faults: &mut Faults, about: &Names, body: ReturnRequest) -> Option<Command> {
    let order_id = about.get::<OrderId>(faults, "order_id");
    faults.unknown("", &body.unknown);
    let items = each(faults, 1, body.lines, |faults, at, line| {
        let qty = faults.required(format!("lines[{at}].qty"), line.qty);
        let to = faults.optional(format!("lines[{at}].to"), line.to).unwrap_or_default();
        let into = faults.optional(format!("lines[{at}].batch"), line.batch);
        let of = named(faults, at, line.sku, line.line, &line.unknown);
        let (of, qty) = of.zip(qty)?;
        Some(ReturnItem { of, qty, to, into })
    });
    Some(Command::Return(Return { order_id: order_id?, items }))
}
