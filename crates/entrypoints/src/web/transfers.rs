//! Transfers: free units go from one location to another.

use allocation_domain::commands::Transfer;
use allocation_domain::{BatchRef, Command, Location, Quantity, Sku};
use allocation_service_layer::Message;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use time::Date;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::batches::{DeclaredBatch, declared};
use super::fields::{Faults, Field, Unknown};
use super::keyed::Keyed;
use super::problem::{BodyProblems, Problem};
use super::{Caused, WebState};

pub(super) fn routes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(post_transfer))
}

/// What goes where.
#[derive(Deserialize, ToSchema)]
struct TransferRequest {
    /// The product.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    sku: Field<Sku>,
    /// The batch that units leave.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    from: Field<BatchRef>,
    /// Units, 1 to 1,000,000,000; no more than are free.
    #[serde(default)]
    #[schema(value_type = u64, required, minimum = 1, maximum = 1_000_000_000_u64)]
    qty: Field<Quantity>,
    /// The location that they go to.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 64)]
    to: Field<Location>,
    /// The reference of the batch that they are there.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    r#ref: Field<BatchRef>,
    /// When they are expected there.
    #[serde(default)]
    #[schema(value_type = String, required, format = Date, example = "2011-01-02")]
    eta: Field<Date>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// Sends free units of a batch to another location.
///
/// They leave the batch at once and are expected at the other place as a batch of their own, which this answers with. The same request with the same
/// key acts once.
#[utoipa::path(
    post, path = "/v1/transfers", tag = "floor",
    params(("Idempotency-Key" = String, Header, description = "A name for this request, such as a UUID")),
    request_body = TransferRequest,
    responses(
        (status = 200, description = "Known by its key: the batch as it is now", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 201, description = "On its way", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not on hand, or there already, or has no so many free units; the reference is taken, or the key is in use", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values, unknown SKU, or the key was used for something else", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn post_transfer(
    State(state): State<WebState>,
    Caused(cause): Caused,
    Keyed { key, body, handling }: Keyed<TransferRequest>,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    let sku = faults.required("sku", body.sku);
    let from = faults.required("from", body.from);
    let qty = faults.required("qty", body.qty);
    let to = faults.required("to", body.to);
    let reference = faults.required("ref", body.r#ref);
    let eta = faults.required("eta", body.eta);
    faults.unknown("", &body.unknown);
    let asked = (|| Some(Transfer { sku: sku?, from: from?, qty: qty?, to: to?, reference: reference?, eta: eta? }))();
    let message = Message::new(Command::Transfer(faults.or(asked)?), cause).with_key(key);
    let reply = state.batch(message).await;
    drop(handling);
    Ok(declared(&reply?))
}
