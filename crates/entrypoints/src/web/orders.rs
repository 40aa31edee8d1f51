//! Orders and their lines.

use allocation_domain::commands::{Allocate, Deallocate};
use allocation_domain::{Command, LineId, OrderId, Quantity, Sku};
use allocation_service_layer::handlers::Reply;
use allocation_service_layer::views::{self, LineView};
use allocation_service_layer::wire::date_text;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fields::{Body, Faults, Field, PathFields, Unknown};
use super::problem::Problem;
use super::{Caused, MAX_LINES, WebState};

pub(super) fn routes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(put_order, get_order, delete_order)).routes(routes!(delete_line))
}

/// What an order asks for.
#[derive(Deserialize, ToSchema)]
struct OrderRequest {
    /// 1 to 1,000 lines. Lines for the same SKU are added up.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 1000)]
    lines: Option<Vec<LineRequest>>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What a line asks for.
#[derive(Deserialize, ToSchema)]
struct LineRequest {
    /// The product.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    sku: Field<Sku>,
    /// Units, 1 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = u64, required, minimum = 1, maximum = 1_000_000_000_u64)]
    qty: Field<Quantity>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// An order's lines.
#[derive(Serialize, ToSchema)]
struct Order {
    /// The order.
    order_id: String,
    /// Its lines, by SKU.
    lines: Vec<Line>,
}

/// A line: what was asked for, and where its units are.
#[derive(Serialize, ToSchema)]
pub(super) struct Line {
    /// The order.
    order_id: String,
    /// The product.
    sku: String,
    /// Which of the order's lines for it.
    line: String,
    /// Units asked for.
    requested: u64,
    /// Units placed for a hold.
    held: u64,
    /// Units with a placement.
    allocated: u64,
    /// Units that wait for stock.
    backordered: u64,
    /// Units shipped.
    shipped: u64,
    /// Units no longer wanted.
    cancelled: u64,
    /// `allocated`, `backordered` or `cancelled`.
    state: &'static str,
    /// When all of it is ready to ship; null while anything waits.
    #[schema(format = Date)]
    promised_date: Option<String>,
    /// Where its units are.
    placements: Vec<Placement>,
    /// Seniority within the product: the lower, the earlier it was accepted.
    accepted: u64,
}

/// A line's units in one batch.
#[derive(Serialize, ToSchema)]
struct Placement {
    /// The batch.
    batch: String,
    /// Units.
    qty: u64,
    /// When the batch is expected; null: arrived.
    #[schema(format = Date)]
    eta: Option<String>,
}

impl From<LineView> for Line {
    fn from(view: LineView) -> Self {
        Self {
            order_id: view.key.order_id.to_string(),
            sku: view.sku.to_string(),
            line: view.key.line.to_string(),
            requested: view.requested,
            held: 0,
            allocated: view.allocated,
            backordered: view.backordered,
            shipped: 0,
            cancelled: view.cancelled,
            state: view.state,
            promised_date: view.promised_date.map(date_text),
            placements: view
                .placements
                .into_iter()
                .map(|placement| Placement {
                    batch: placement.batch.to_string(),
                    qty: placement.qty,
                    eta: placement.eta.map(date_text),
                })
                .collect(),
            accepted: view.accepted,
        }
    }
}

fn lines(faults: &mut Faults, order_id: OrderId, body: OrderRequest) -> Option<Allocate> {
    faults.unknown("", &body.unknown);
    let lines = body.lines.unwrap_or_default();
    if lines.is_empty() || lines.len() > MAX_LINES {
        faults.add("lines", format!("must be a list of 1 to {MAX_LINES} lines"));
        return None;
    }
    let mut good = Vec::with_capacity(lines.len());
    for (at, line) in lines.into_iter().enumerate() {
        if !line.unknown.is_empty() {
            faults.unknown(&format!("lines[{at}]."), &line.unknown);
        }
        match (line.sku, line.qty) {
            (Field::Good(sku), Field::Good(qty)) => good.push((sku, LineId::default(), qty)),
            (sku, qty) => {
                faults.required(format!("lines[{at}].sku"), sku);
                faults.required(format!("lines[{at}].qty"), qty);
            }
        }
    }
    Allocate::new(order_id, good)
        .map_err(|(sku, error)| faults.add("lines", format!("the lines for {sku} add up to too much: {error}")))
        .ok()
}

/// Promises the lines named, all or none.
///
/// Other lines of the order are left alone. The same request again is answered with the present state and has no effect. Checked in
/// this order: invalid values (422), unknown SKU (422), another quantity or a cancelled line (409), not enough stock (409).
#[utoipa::path(
    put, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = String, Path, description = "The order")),
    request_body = OrderRequest,
    responses(
        (status = 200, description = "All lines were known", body = Order),
        (status = 201, description = "At least one line is new", body = Order),
        (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another quantity, a cancelled line, or not enough stock", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Body over 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn put_order(
    State(state): State<WebState>,
    path: PathFields,
    Caused(cause): Caused,
    Body(body): Body<OrderRequest>,
) -> Result<(StatusCode, Json<Order>), Problem> {
    let mut faults = Faults::default();
    let command = match path.get::<OrderId>(&mut faults, "order_id") {
        Some(order_id) => lines(&mut faults, order_id, body),
        None => None,
    };
    let command = faults.or(command)?;
    let order_id = command.order_id().to_string();
    match state.handle(Command::Allocate(command), cause).await?? {
        Reply::Order(reply) => {
            let status = if reply.created { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(Order { order_id, lines: reply.lines.into_iter().map(Line::from).collect() })))
        }
        Reply::Batch(_) | Reply::Cancelled => Err(Problem::internal("the bus gave another command's reply")),
    }
}

/// An order's lines as they are now.
#[utoipa::path(
    get, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = String, Path, description = "The order")),
    responses(
        (status = 200, description = "Its lines", body = Order),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn get_order(State(state): State<WebState>, path: PathFields) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let order_id = faults.or(order_id)?;
    let lines = views::order(state.reader.as_ref(), &order_id, state.today()).await?;
    if lines.is_empty() {
        return Err(Problem::unknown(format!("unknown order {order_id}")));
    }
    Ok(Json(Order { order_id: order_id.to_string(), lines: lines.into_iter().map(Line::from).collect() }))
}

/// Cancels all lines of an order. Again is fine.
#[utoipa::path(
    delete, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = String, Path, description = "The order")),
    responses(
        (status = 204, description = "Cancelled"),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn delete_order(
    State(state): State<WebState>,
    path: PathFields,
    Caused(cause): Caused,
) -> Result<StatusCode, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let order_id = faults.or(order_id)?;
    state.handle(Command::Deallocate(Deallocate { order_id, sku: None }), cause).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels an order's lines for one SKU. Again is fine.
#[utoipa::path(
    delete, path = "/v1/orders/{order_id}/lines/{sku}", tag = "orders",
    params(
        ("order_id" = String, Path, description = "The order"),
        ("sku" = String, Path, description = "The product")
    ),
    responses(
        (status = 204, description = "Cancelled"),
        (status = 404, description = "The order has no such line", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn delete_line(
    State(state): State<WebState>,
    path: PathFields,
    Caused(cause): Caused,
) -> Result<StatusCode, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let sku = path.get::<Sku>(&mut faults, "sku");
    let (order_id, sku) = faults.or(order_id.zip(sku))?;
    state.handle(Command::Deallocate(Deallocate { order_id, sku: Some(sku) }), cause).await??;
    Ok(StatusCode::NO_CONTENT)
}
