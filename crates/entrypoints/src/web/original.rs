//! The three routes of the Python original, as its clients speak them: plain `OK`, and `{"message": …}` for what went wrong.

use allocation_domain::commands::{Allocate, CreateBatch};
use allocation_domain::{BatchQuantity, BatchRef, Command, Eta, Location, OrderId, Quantity, Rejection, Sku};
use allocation_service_layer::access::Scope;
use allocation_service_layer::views;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::Routes;
use super::extract::Body;
use super::json::Json;
use super::problem::Problem;
use super::{Caused, WebState};
use crate::asked::fields::{Faults, Field, Invalid, Names};
use crate::asked::schemas;

pub(super) fn routes() -> Routes {
    Routes::new()
        .needing(Scope::StockWrite, routes!(add_batch))
        .needing(Scope::OrdersWrite, routes!(allocate))
        .needing(Scope::OrdersRead, routes!(allocations))
}

/// A batch.
#[derive(Deserialize, ToSchema)]
struct AddBatch {
    /// The shipment's reference.
    #[serde(default)]
    #[schema(value_type = schemas::BatchRef, required)]
    r#ref: Field<BatchRef>,
    /// The product.
    #[serde(default)]
    #[schema(value_type = schemas::Sku, required)]
    sku: Field<Sku>,
    /// Units.
    #[serde(default)]
    #[schema(value_type = schemas::BatchUnits, required)]
    qty: Field<BatchQuantity>,
    /// When it is expected; null or left out: it lies in the warehouse.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Day>)]
    eta: Field<Eta>,
}

/// An order line.
#[derive(Deserialize, ToSchema)]
struct AllocateLine {
    /// The order.
    #[serde(default)]
    #[schema(value_type = schemas::OrderId, required)]
    orderid: Field<OrderId>,
    /// The product.
    #[serde(default)]
    #[schema(value_type = schemas::Sku, required)]
    sku: Field<Sku>,
    /// Units.
    #[serde(default)]
    #[schema(value_type = schemas::Units, required)]
    qty: Field<Quantity>,
}

/// Which batch serves which product.
#[derive(Serialize, ToSchema)]
struct Allocation {
    /// The product.
    sku: String,
    /// The shipment.
    batchref: String,
}

/// What went wrong, as the original says it.
#[derive(Serialize, ToSchema)]
pub(super) struct Complaint {
    /// What went wrong.
    message: String,
    #[serde(skip)]
    status: StatusCode,
    #[serde(skip)]
    retry: bool,
}

impl Complaint {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: StatusCode::BAD_REQUEST, retry: false }
    }
}

impl From<Problem> for Complaint {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { retry: status == StatusCode::SERVICE_UNAVAILABLE, message: problem.detail, status }
    }
}

impl From<Invalid> for Complaint {
    fn from(invalid: Invalid) -> Self {
        Problem::from(invalid).into()
    }
}

impl IntoResponse for Complaint {
    fn into_response(self) -> Response {
        let (status, retry) = (self.status, self.retry);
        let mut response = (status, Json(self)).into_response();
        if retry {
            response.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("1"));
        }
        response
    }
}

/// A body whose faults are told the original's way.
struct OldBody<T>(T);

impl<T: serde::de::DeserializeOwned> FromRequest<WebState> for OldBody<T> {
    type Rejection = Complaint;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Complaint> {
        let Body(body) = Body::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// Makes a batch known.
#[utoipa::path(
    post, path = "/add_batch", tag = "original", request_body = AddBatch,
    responses(
        (status = 201, description = "Known now, or was already", body = String, content_type = "text/plain"),
        (status = 400, description = "Not JSON, or the reference is known with other content", body = Complaint),
        (status = 408, description = "The body took too long to come", body = Complaint),
        (status = 413, description = "Body over 1 MiB, or what is set", body = Complaint),
        (status = 415, description = "Not application/json", body = Complaint),
        (status = 422, description = "Invalid values", body = Complaint),
        (status = 503, description = "Try again", body = Complaint)
    )
)]
async fn add_batch(
    State(state): State<WebState>,
    Caused(cause): Caused,
    OldBody(body): OldBody<AddBatch>,
) -> Result<(StatusCode, &'static str), Complaint> {
    let mut faults = Faults::default();
    let reference = faults.required("ref", body.r#ref);
    let sku = faults.required("sku", body.sku);
    let qty = faults.required("qty", body.qty);
    let eta = faults.optional("eta", body.eta).flatten();
    let ((reference, sku), qty) = faults.or(reference.zip(sku).zip(qty))?;
    let command =
        Command::CreateBatch(CreateBatch { sku, reference, qty, eta, expires_on: None, location: Location::default() });
    match state.handle(command, cause).await? {
        Ok(_) => Ok((StatusCode::CREATED, "OK")),
        Err(rejection) => Err(Complaint::bad_request(rejection.to_string())),
    }
}

/// Promises one line. Out of stock is accepted as well: nothing is promised then.
#[utoipa::path(
    post, path = "/allocate", tag = "original", request_body = AllocateLine,
    responses(
        (status = 202, description = "Promised, known, or out of stock", body = String, content_type = "text/plain"),
        (status = 400, description = "Not JSON, unknown SKU, or the line is known as something else", body = Complaint),
        (status = 408, description = "The body took too long to come", body = Complaint),
        (status = 413, description = "Body over 1 MiB, or what is set", body = Complaint),
        (status = 415, description = "Not application/json", body = Complaint),
        (status = 422, description = "Invalid values", body = Complaint),
        (status = 503, description = "Try again", body = Complaint)
    )
)]
async fn allocate(
    State(state): State<WebState>,
    Caused(cause): Caused,
    OldBody(body): OldBody<AllocateLine>,
) -> Result<(StatusCode, &'static str), Complaint> {
    let mut faults = Faults::default();
    let order_id = faults.required("orderid", body.orderid);
    let sku = faults.required("sku", body.sku);
    let qty = faults.required("qty", body.qty);
    let ((order_id, sku), qty) = faults.or(order_id.zip(sku).zip(qty))?;
    let command = Command::Allocate(Allocate::whole(order_id, sku.clone(), qty));
    match state.handle(command, cause).await? {
        Ok(_) | Err(Rejection::Short(_)) => Ok((StatusCode::ACCEPTED, "OK")),
        Err(Rejection::UnknownSku(_)) => Err(Complaint::bad_request(format!("Invalid sku {sku}"))),
        Err(rejection) => Err(Complaint::bad_request(rejection.to_string())),
    }
}

/// Which batches serve an order: allocated placements only.
#[utoipa::path(
    get, path = "/allocations/{orderid}", tag = "original",
    params(("orderid" = schemas::OrderId, Path, description = "The order")),
    responses(
        (status = 200, description = "Its placements", body = [Allocation]),
        (status = 404, description = "It has none", body = Complaint),
        (status = 422, description = "Invalid values", body = Complaint),
        (status = 503, description = "Try again", body = Complaint)
    )
)]
async fn allocations(State(state): State<WebState>, path: Names) -> Result<Json<Vec<Allocation>>, Complaint> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "orderid");
    let order_id = faults.or(order_id)?;
    let placements =
        views::allocations(state.reader.as_ref(), state.foresight.as_ref(), &order_id).await.map_err(Problem::from)?;
    if placements.is_empty() {
        return Err(Problem::unknown("not found").into());
    }
    let allocation = |(sku, batch): (Sku, BatchRef)| Allocation { sku: sku.to_string(), batchref: batch.to_string() };
    Ok(Json(placements.into_iter().map(allocation).collect()))
}
