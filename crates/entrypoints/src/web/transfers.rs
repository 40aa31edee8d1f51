//! Transfers: free units go from one location to another.

use allocation_service_layer::Message;
use allocation_service_layer::access::Scope;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::routes;

use super::access::Routes;
use super::batches::{DeclaredBatch, declared};
use super::keyed::Keyed;
use super::problem::{BodyProblems, Problem};
use super::{Caused, WebState};
use crate::asked::batches::TransferRequest;
use crate::asked::fields::Names;
use crate::asked::{self, schemas};

pub(super) fn routes() -> Routes {
    Routes::new().needing(Scope::StockWrite, routes!(post_transfer))
}

/// Sends free units of a batch to another location.
///
/// They leave the batch at once and are expected at the other place as a batch of their own, which this answers with. The same request with the same
/// key acts once.
#[utoipa::path(
    post, path = "/v1/transfers", tag = "floor",
    params(("Idempotency-Key" = schemas::IdempotencyKey, Header, description = "A name for this request, such as a UUID")),
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
    let command = asked::command(asked::batches::transfer, &Names::default(), body)?;
    let message = Message::new(command, cause).with_key(key);
    let reply = state.batch(message).await;
    drop(handling);
    Ok(declared(&reply?))
}
