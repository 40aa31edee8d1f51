//! What is said of a batch.

use allocation_domain::commands::{
    AdjustBatch, Adjustment, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, CreateBatch, DeclareBatch, Precondition,
    QuarantineBatch, ReceiveBatch, ReleaseBatch, Rest, Transfer,
};
use allocation_domain::{AdjustmentKind, BatchQuantity, BatchRef, Command, Eta, Location, Quantity, Reason, Sku};
use serde::Deserialize;
use time::Date;
use utoipa::ToSchema;

use super::fields::{Faults, Field, Names, Unknown};
use super::{Nothing, schemas};

/// What came of a batch.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Receipt {
    /// Units counted, 1 to 1,000,000,000. There may be more than were expected.
    #[serde(default)]
    #[schema(value_type = schemas::Units, required)]
    qty: Field<Quantity>,
    /// What of those that did not come: `keep` expects them still, as a batch of its own; `cancel` does not.
    #[serde(default)]
    #[schema(value_type = schemas::RestName, default = "keep")]
    rest: Field<Rest>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What a batch is declared to be.
#[derive(Deserialize, ToSchema)]
pub(crate) struct BatchDeclaration {
    /// Total units, 0 to 1,000,000,000,000.
    #[serde(default)]
    #[schema(value_type = schemas::BatchUnits, required)]
    qty: Field<BatchQuantity>,
    /// When it is expected. `null`: it has arrived. Left out: as before, and a new batch is on hand.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Day>)]
    eta: Field<Eta>,
    /// The last day on which its units are of use. `null`: they always are. Left out: as before.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Day>)]
    expires_on: Field<Eta>,
    /// Where it lies, or will lie once it has arrived. Left out: as before, and a new batch is at `default`. A batch never goes elsewhere by being
    /// declared there: `POST /v1/transfers` sends units.
    #[serde(default)]
    #[schema(value_type = schemas::Location, default = "default")]
    location: Field<Location>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What was found of a batch.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AdjustmentRequest {
    /// `damaged`: so many units are of no use any more; `found`: so many have turned up; `recount`: so many are there in all.
    #[serde(default)]
    #[schema(value_type = schemas::AdjustmentName, required)]
    kind: Field<AdjustmentKind>,
    /// Units: 1 to 1,000,000,000, and for a recount 0 to 1,000,000,000,000.
    #[serde(default)]
    #[schema(value_type = schemas::BatchUnits, required)]
    qty: Field<BatchQuantity>,
    /// Why, in a few words.
    #[serde(default)]
    #[schema(value_type = schemas::Reason, required)]
    reason: Field<Reason>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// How much of a batch.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct SomeUnits {
    /// Units, 1 to 1,000,000,000; left out: all.
    #[serde(default)]
    #[schema(value_type = schemas::Units)]
    qty: Field<Quantity>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What goes where.
#[derive(Deserialize, ToSchema)]
pub(crate) struct TransferRequest {
    /// The product.
    #[serde(default)]
    #[schema(value_type = schemas::Sku, required)]
    sku: Field<Sku>,
    /// The batch that units leave.
    #[serde(default)]
    #[schema(value_type = schemas::BatchRef, required)]
    from: Field<BatchRef>,
    /// Units, 1 to 1,000,000,000; no more than are free.
    #[serde(default)]
    #[schema(value_type = schemas::Units, required)]
    qty: Field<Quantity>,
    /// The location that they go to.
    #[serde(default)]
    #[schema(value_type = schemas::Location, required)]
    to: Field<Location>,
    /// The reference of the batch that they are there.
    #[serde(default)]
    #[schema(value_type = schemas::BatchRef, required)]
    r#ref: Field<BatchRef>,
    /// When they are expected there.
    #[serde(default)]
    #[schema(value_type = schemas::Day, required)]
    eta: Field<Date>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// The total of a batch.
#[derive(Deserialize, ToSchema)]
pub(crate) struct BatchTotal {
    /// Total units, 0 to 1,000,000,000,000.
    #[serde(default)]
    #[schema(value_type = schemas::BatchUnits, required)]
    qty: Field<BatchQuantity>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// The date of a batch.
#[derive(Deserialize, ToSchema)]
pub(crate) struct BatchDate {
    /// When it is expected; null: it has arrived.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Day>, required)]
    eta: Field<Eta>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

pub(crate) fn create(faults: &mut Faults, about: &Names, body: BatchDeclaration) -> Option<Command> {
    let DeclareBatch { sku, reference, qty, eta, expires_on, location, .. } = declaration(faults, about, body)?;
    let (eta, expires_on) = (eta.flatten(), expires_on.flatten());
    let location = location.unwrap_or_default();
    Some(Command::CreateBatch(CreateBatch { sku, reference, qty, eta, expires_on, location }))
}

pub(crate) fn declare(faults: &mut Faults, about: &Names, body: BatchDeclaration) -> Option<Command> {
    declaration(faults, about, body).map(Command::DeclareBatch)
}

pub(crate) fn declaration(faults: &mut Faults, about: &Names, body: BatchDeclaration) -> Option<DeclareBatch> {
    let batch = about.batch(faults);
    let qty = faults.required("qty", body.qty);
    let eta = faults.optional("eta", body.eta);
    let expires_on = faults.optional("expires_on", body.expires_on);
    let location = faults.optional("location", body.location);
    faults.unknown("", &body.unknown);
    let ((sku, reference), qty) = batch.zip(qty)?;
    Some(DeclareBatch { sku, reference, qty, eta, expires_on, location, precondition: Precondition::None })
}

pub(crate) fn change_quantity(faults: &mut Faults, about: &Names, body: BatchTotal) -> Option<Command> {
    let batch = about.batch(faults);
    let qty = faults.required("qty", body.qty);
    faults.unknown("", &body.unknown);
    let ((sku, reference), qty) = batch.zip(qty)?;
    Some(Command::ChangeBatchQuantity(ChangeBatchQuantity { sku, reference, qty }))
}

pub(crate) fn change_eta(faults: &mut Faults, about: &Names, body: BatchDate) -> Option<Command> {
    let batch = about.batch(faults);
    let eta = faults.required("eta", body.eta);
    faults.unknown("", &body.unknown);
    let ((sku, reference), eta) = batch.zip(eta)?;
    Some(Command::ChangeBatchEta(ChangeBatchEta { sku, reference, eta }))
}

pub(crate) fn receive(faults: &mut Faults, about: &Names, body: Receipt) -> Option<Command> {
    let batch = about.batch(faults);
    let qty = faults.required("qty", body.qty);
    let rest = faults.optional("rest", body.rest).unwrap_or(Rest::Keep);
    faults.unknown("", &body.unknown);
    let ((sku, reference), qty) = batch.zip(qty)?;
    Some(Command::ReceiveBatch(ReceiveBatch { sku, reference, qty, rest }))
}

pub(crate) fn cancel(faults: &mut Faults, about: &Names, Nothing { unknown }: Nothing) -> Option<Command> {
    faults.unknown("", &unknown);
    let (sku, reference) = about.batch(faults)?;
    Some(Command::CancelBatch(CancelBatch { sku, reference }))
}

pub(crate) fn adjust(faults: &mut Faults, about: &Names, body: AdjustmentRequest) -> Option<Command> {
    let batch = about.batch(faults);
    let kind = faults.required("kind", body.kind);
    let qty = faults.required("qty", body.qty);
    let reason = faults.required("reason", body.reason);
    faults.unknown("", &body.unknown);
    let adjustment = kind.zip(qty).and_then(|(kind, qty)| adjustment(faults, kind, qty));
    let ((sku, reference), (adjustment, reason)) = batch.zip(adjustment.zip(reason))?;
    Some(Command::AdjustBatch(AdjustBatch { sku, reference, adjustment, reason }))
}

fn adjustment(faults: &mut Faults, kind: AdjustmentKind, qty: BatchQuantity) -> Option<Adjustment> {
    let some = || Quantity::new(qty.units());
    let adjustment = match kind {
        AdjustmentKind::Damaged => some().map(Adjustment::Damaged),
        AdjustmentKind::Found => some().map(Adjustment::Found),
        AdjustmentKind::Recount => Ok(Adjustment::Recount(qty)),
    };
    adjustment.map_err(|error| faults.add("qty", error.to_string())).ok()
}

pub(crate) fn quarantine(faults: &mut Faults, about: &Names, body: SomeUnits) -> Option<Command> {
    let (sku, reference, qty) = some_units(faults, about, body)?;
    Some(Command::QuarantineBatch(QuarantineBatch { sku, reference, qty }))
}

pub(crate) fn release(faults: &mut Faults, about: &Names, body: SomeUnits) -> Option<Command> {
    let (sku, reference, qty) = some_units(faults, about, body)?;
    Some(Command::ReleaseBatch(ReleaseBatch { sku, reference, qty }))
}

fn some_units(faults: &mut Faults, about: &Names, body: SomeUnits) -> Option<(Sku, BatchRef, Option<Quantity>)> {
    let batch = about.batch(faults);
    let qty = faults.optional("qty", body.qty);
    faults.unknown("", &body.unknown);
    let (sku, reference) = batch?;
    Some((sku, reference, qty))
}

pub(crate) fn transfer(faults: &mut Faults, _: &Names, body: TransferRequest) -> Option<Command> {
    let sku = faults.required("sku", body.sku);
    let from = faults.required("from", body.from);
    let qty = faults.required("qty", body.qty);
    let to = faults.required("to", body.to);
    let reference = faults.required("ref", body.r#ref);
    let eta = faults.required("eta", body.eta);
    faults.unknown("", &body.unknown);
    Some(Command::Transfer(Transfer { sku: sku?, from: from?, qty: qty?, to: to?, reference: reference?, eta: eta? }))
}
