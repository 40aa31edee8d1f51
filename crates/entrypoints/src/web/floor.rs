//! The warehouse floor: picking, shipping, returns.

use allocation_domain::commands::{LineOf, Pick, Return, ReturnItem, ReturnTo, Ship, ShipItem, Unpick};
use allocation_domain::{BatchRef, Command, LineId, OrderId, Quantity, Sku};
use allocation_service_layer::Message;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fields::{Faults, Field, OptionalBody, PathFields, Unknown};
use super::keyed::Keyed;
use super::orders::{Order, order};
use super::problem::{BodyProblems, Problem};
use super::{Caused, MAX_LINES, WebState};

pub(super) fn routes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(pick_order))
        .routes(routes!(unpick_order))
        .routes(routes!(post_shipment))
        .routes(routes!(post_return))
}

/// A line of the order.
#[derive(Deserialize, ToSchema)]
struct NamedLine {
    /// The product.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    sku: Field<Sku>,
    /// Which of the order's lines for it.
    #[serde(default)]
    #[schema(value_type = String, default = "1", min_length = 1, max_length = 64)]
    line: Field<LineId>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What is to be picked.
#[derive(Default, Deserialize, ToSchema)]
struct PickRequest {
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
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    sku: Field<Sku>,
    /// Which of the order's lines for it.
    #[serde(default)]
    #[schema(value_type = String, default = "1", min_length = 1, max_length = 64)]
    line: Field<LineId>,
    /// Units, 1 to 1,000,000,000; left out: all that are allocated.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 1, maximum = 1_000_000_000_u64)]
    qty: Field<Quantity>,
    /// The batch that they were picked from; left out: where the line has them.
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    batch: Field<BatchRef>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What has left.
#[derive(Deserialize, ToSchema)]
struct Shipment {
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
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    sku: Field<Sku>,
    /// Which of the order's lines for it.
    #[serde(default)]
    #[schema(value_type = String, default = "1", min_length = 1, max_length = 64)]
    line: Field<LineId>,
    /// Units, 1 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = u64, required, minimum = 1, maximum = 1_000_000_000_u64)]
    qty: Field<Quantity>,
    /// What becomes of them: `quarantine` sets them aside, `restock` makes them free, `scrap` writes them off.
    #[serde(default)]
    #[schema(value_type = String, default = "quarantine")]
    to: Field<ReturnTo>,
    /// Into which batch; left out: where they came from.
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    batch: Field<BatchRef>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What has come back.
#[derive(Deserialize, ToSchema)]
struct ReturnRequest {
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

/// Releases what an order has on hand to picking.
///
/// It is locked: it keeps its place as long as any other can be found to lose one, and can't be cancelled until it is taken back. Again is fine.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/pick", tag = "floor",
    params(("order_id" = String, Path, description = "The order")),
    request_body = PickRequest,
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
    path: PathFields,
    Caused(cause): Caused,
    OptionalBody(body): OptionalBody<PickRequest>,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let lines = lines_to_pick(&mut faults, body);
    let order_id = faults.or(order_id)?;
    let command = Command::Pick(Pick { order_id: order_id.clone(), lines });
    Ok(Json(order(&order_id, state.order(Message::new(command, cause)).await?.lines)))
}

/// Takes an order's units back from picking. Again is fine.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/unpick", tag = "floor",
    params(("order_id" = String, Path, description = "The order")),
    request_body = PickRequest,
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
    path: PathFields,
    Caused(cause): Caused,
    OptionalBody(body): OptionalBody<PickRequest>,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let lines = lines_to_pick(&mut faults, body);
    let order_id = faults.or(order_id)?;
    let command = Command::Unpick(Unpick { order_id: order_id.clone(), lines });
    Ok(Json(order(&order_id, state.order(Message::new(command, cause)).await?.lines)))
}

/// Says that units of an order have left: all that is named, or nothing.
///
/// From a batch that is named they are taken even when the line has its place elsewhere: from free units, or in exchange with a line that is not
/// being picked. The same request with the same key acts once, and is answered with the present state.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/shipments", tag = "floor",
    params(
        ("order_id" = String, Path, description = "The order"),
        ("Idempotency-Key" = String, Header, description = "A name for this request, such as a UUID")
    ),
    request_body = Shipment,
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
    path: PathFields,
    Caused(cause): Caused,
    Keyed { key, body, handling }: Keyed<Shipment>,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    faults.unknown("", &body.unknown);
    let items = each(&mut faults, 0, body.lines, |faults, at, line| {
        let qty = faults.optional(format!("lines[{at}].qty"), line.qty);
        let from = faults.optional(format!("lines[{at}].batch"), line.batch);
        Some(ShipItem { of: named(faults, at, line.sku, line.line, &line.unknown)?, qty, from })
    });
    let order_id = faults.or(order_id)?;
    let command = Command::Ship(Ship { order_id: order_id.clone(), items });
    let reply = state.order(Message::new(command, cause).with_key(key)).await;
    drop(handling);
    Ok(Json(order(&order_id, reply?.lines)))
}

/// Says that shipped units have come back: all that is named, or nothing.
///
/// A line that was shipped stays shipped. The same request with the same key acts once, and is answered with the present state.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/returns", tag = "floor",
    params(
        ("order_id" = String, Path, description = "The order"),
        ("Idempotency-Key" = String, Header, description = "A name for this request, such as a UUID")
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
    path: PathFields,
    Caused(cause): Caused,
    Keyed { key, body, handling }: Keyed<ReturnRequest>,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    faults.unknown("", &body.unknown);
    let items = each(&mut faults, 1, body.lines, |faults, at, line| {
        let qty = faults.required(format!("lines[{at}].qty"), line.qty);
        let to = faults.optional(format!("lines[{at}].to"), line.to).unwrap_or_default();
        let into = faults.optional(format!("lines[{at}].batch"), line.batch);
        let of = named(faults, at, line.sku, line.line, &line.unknown);
        let (of, qty) = of.zip(qty)?;
        Some(ReturnItem { of, qty, to, into })
    });
    let order_id = faults.or(order_id)?;
    let command = Command::Return(Return { order_id: order_id.clone(), items });
    let reply = state.order(Message::new(command, cause).with_key(key)).await;
    drop(handling);
    Ok(Json(order(&order_id, reply?.lines)))
}
