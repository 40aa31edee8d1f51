//! The warehouse floor: picking, shipping, returns.

use allocation_service_layer::Message;
use allocation_service_layer::access::Scope;
use axum::extract::State;
use utoipa_axum::routes;

use super::access::Routes;
use super::extract::OptionalBody;
use super::keyed::Keyed;
use super::orders::{Order, order};
use super::problem::{BodyProblems, Problem};
use super::{Caused, WebState};
use crate::asked::fields::Names;
use crate::asked::floor::{PickRequest, ReturnRequest, Shipment};
use crate::asked::{self, schemas};

pub(super) fn routes() -> Routes {
    Routes::new()
        .needing(Scope::OrdersWrite, routes!(pick_order))
        .needing(Scope::OrdersWrite, routes!(unpick_order))
        .needing(Scope::OrdersWrite, routes!(post_shipment))
        .needing(Scope::OrdersWrite, routes!(post_return))
}

/// Releases what an order has on hand to picking.
///
/// It is locked: it keeps its place as long as any other can be found to lose one, and can't be cancelled until it is taken back. Again is fine.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/pick", tag = "floor",
    params(("order_id" = schemas::OrderId, Path, description = "The order")),
    request_body = Option<PickRequest>,
    responses(
        (status = 200, description = "Locked", body = Order),
        (status = 404, description = "No such order or line", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Held, over, or nothing of it is on hand", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn pick_order(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    OptionalBody(body): OptionalBody<PickRequest>,
) -> Result<Order, Problem> {
    let command = asked::command(asked::floor::pick, &path, body)?;
    Ok(order(&path, state.order(Message::new(command, cause)).await?.lines))
}

/// Takes an order's units back from picking. Again is fine.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/unpick", tag = "floor",
    params(("order_id" = schemas::OrderId, Path, description = "The order")),
    request_body = Option<PickRequest>,
    responses(
        (status = 200, description = "No longer locked", body = Order),
        (status = 404, description = "No such order or line", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Over", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn unpick_order(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    OptionalBody(body): OptionalBody<PickRequest>,
) -> Result<Order, Problem> {
    let command = asked::command(asked::floor::unpick, &path, body)?;
    Ok(order(&path, state.order(Message::new(command, cause)).await?.lines))
}

/// Says that units of an order have left: all that is named, or nothing.
///
/// From a batch that is named they are taken even when the line has its place elsewhere: from free units, or in exchange with a line that is not
/// being picked. The same request with the same key acts once, and is answered with the present state.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/shipments", tag = "floor",
    params(
        ("order_id" = schemas::OrderId, Path, description = "The order"),
        ("Idempotency-Key" = schemas::IdempotencyKey, Header, description = "A name for this request, such as a UUID")
    ),
    request_body = Option<Shipment>,
    responses(
        (status = 200, description = "Shipped", body = Order),
        (status = 404, description = "No such order, line or batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Held, over, not on hand, more than is allocated, or the key is in use", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values, or the key was used for something else", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn post_shipment(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    Keyed { key, body, handling }: Keyed<Shipment>,
) -> Result<Order, Problem> {
    let command = asked::command(asked::floor::ship, &path, body)?;
    let reply = state.order(Message::new(command, cause).with_key(key)).await;
    drop(handling);
    Ok(order(&path, reply?.lines))
}

/// Says that shipped units have come back: all that is named, or nothing.
///
/// A line that was shipped stays shipped. The same request with the same key acts once, and is answered with the present state.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/returns", tag = "floor",
    params(
        ("order_id" = schemas::OrderId, Path, description = "The order"),
        ("Idempotency-Key" = schemas::IdempotencyKey, Header, description = "A name for this request, such as a UUID")
    ),
    request_body = ReturnRequest,
    responses(
        (status = 200, description = "Returned", body = Order),
        (status = 404, description = "No such order, line or batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "More than has left, a batch that has not arrived, or the key is in use", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values, or the key was used for something else", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn post_return(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    Keyed { key, body, handling }: Keyed<ReturnRequest>,
) -> Result<Order, Problem> {
    let command = asked::command(asked::floor::take_back, &path, body)?;
    let reply = state.order(Message::new(command, cause).with_key(key)).await;
    drop(handling);
    Ok(order(&path, reply?.lines))
}
