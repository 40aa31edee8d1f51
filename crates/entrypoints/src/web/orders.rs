//! Orders and their lines: what is promised, read, changed and cancelled.

use allocation_domain::{OrderId, Shipped};
use allocation_service_layer::Message;
use allocation_service_layer::access::Scope;
use allocation_service_layer::views::{self, LineView, PlacementView};
use allocation_service_layer::wire::{date_text, instant_text, put};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::Routes;
use super::extract::{Body, QueryFields};
use super::json::{self, Json, members};
use super::problem::{BodyProblems, Problem};
use super::{Caused, WebState};
use crate::asked::fields::{Faults, Names};
use crate::asked::orders::{Extension, LinePatch, OrderRequest, SplitName};
use crate::asked::{self, Nothing, schemas};

pub(super) fn routes() -> Routes {
    Routes::new()
        .needing(Scope::OrdersRead, routes!(get_order))
        .needing(Scope::OrdersWrite, routes!(put_order, delete_order))
        .needing(Scope::OrdersWrite, routes!(confirm_order))
        .needing(Scope::OrdersWrite, routes!(extend_order))
        .needing(Scope::OrdersWrite, routes!(patch_line, delete_line))
}

/// An order's lines.
#[derive(ToSchema)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct Order {
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
    /// Units placed for good.
    allocated: u64,
    /// Of these, units released to picking.
    locked: u64,
    /// Units that wait for stock.
    backordered: u64,
    /// Units that have left.
    shipped: u64,
    /// Of these, units that have come back.
    returned: u64,
    /// Units that were not to be had.
    dropped: u64,
    /// Units no longer wanted.
    cancelled: u64,
    /// Units of a hold that ended.
    lapsed: u64,
    /// `held`, `backordered`, `allocated`, `shipped`, `lapsed` or `cancelled`: the first that is true of any of its units.
    state: &'static str,
    /// When its hold ends; null: it is not held.
    #[schema(format = DateTime)]
    held_until: Option<String>,
    /// When all of it is ready to ship; null while anything waits.
    #[schema(format = Date)]
    promised_date: Option<String>,
    /// Where its units are.
    placements: Vec<Placement>,
    /// Where those came from that have left.
    shipments: Vec<ShipmentOfLine>,
    /// Who goes first: higher before lower.
    priority: i32,
    /// The latest day it may be promised for; null: any.
    #[schema(format = Date)]
    by: Option<String>,
    /// The day it is wanted, and no earlier; null: at once.
    #[schema(format = Date)]
    not_before: Option<String>,
    /// Whether it may have its units from several batches, and over what.
    split: SplitName,
    /// No part but the remainder is smaller than this.
    min_split: u64,
    /// For how many days its units must be of use from the day they are ready; null: as the product says.
    min_days: Option<u16>,
    /// The locations it accepts, in order of preference; null: any.
    locations: Option<Vec<String>>,
    /// Seniority among lines of one priority: the lower, the earlier it was accepted.
    accepted: u64,
}

/// A line's units in one batch.
#[derive(Serialize, ToSchema)]
pub(super) struct Placement {
    /// The batch.
    batch: String,
    /// Where that is, or will be.
    location: String,
    /// Units.
    qty: u64,
    /// Of these, units released to picking.
    locked: u64,
    /// When the batch is expected; null: arrived.
    #[schema(format = Date)]
    eta: Option<String>,
}

/// A line's units that have left, from one batch.
#[derive(Serialize, ToSchema)]
struct ShipmentOfLine {
    /// The batch.
    batch: String,
    /// Units.
    qty: u64,
    /// Of these, units that have come back.
    returned: u64,
}

impl IntoResponse for Order {
    fn into_response(self) -> Response {
        json::written(|json| self.write(json))
    }
}

impl Order {
    fn write(&self, json: &mut Vec<u8>) {
        json.extend_from_slice(br#"{"order_id":"#);
        put(json, self.order_id.as_str());
        json.extend_from_slice(br#","lines":["#);
        for (nth, line) in self.lines.iter().enumerate() {
            if nth > 0 {
                json.push(b',');
            }
            line.write(json);
        }
        json.extend_from_slice(b"]}");
    }
}

impl Line {
    fn write(&self, json: &mut Vec<u8>) {
        members!(
            json,
            self,
            order_id,
            sku,
            line,
            requested,
            held,
            allocated,
            locked,
            backordered,
            shipped,
            returned,
            dropped,
            cancelled,
            lapsed,
            state,
            held_until,
            promised_date,
            placements,
            shipments,
            priority,
            by,
            not_before,
            split,
            min_split,
            min_days,
            locations,
            accepted,
        );
    }
}

impl From<PlacementView> for Placement {
    fn from(view: PlacementView) -> Self {
        let (batch, location) = (view.batch.to_string(), view.location.to_string());
        Self { batch, location, qty: view.qty, locked: view.locked, eta: view.eta.map(date_text) }
    }
}

impl From<LineView> for Line {
    fn from(view: LineView) -> Self {
        Self {
            order_id: view.key.order_id.to_string(),
            sku: view.sku.to_string(),
            line: view.key.line.to_string(),
            requested: view.requested,
            held: view.held,
            allocated: view.allocated,
            locked: view.locked,
            backordered: view.backordered,
            shipped: view.shipped,
            returned: view.returned,
            dropped: view.dropped,
            cancelled: view.cancelled,
            lapsed: view.lapsed,
            state: view.state,
            held_until: view.held_until.map(instant_text),
            promised_date: view.promised_date.map(date_text),
            placements: view.placements.into_iter().map(Placement::from).collect(),
            shipments: view
                .shipments
                .into_iter()
                .map(|Shipped { batch, qty, returned }| ShipmentOfLine { batch: batch.to_string(), qty, returned })
                .collect(),
            priority: view.terms.priority,
            by: view.terms.by.map(date_text),
            not_before: view.terms.not_before.map(date_text),
            split: view.terms.split.into(),
            min_split: view.terms.split.least().units(),
            min_days: view.terms.min_days,
            locations: view.terms.locations.map(|accepted| accepted.iter().map(ToString::to_string).collect()),
            accepted: view.accepted,
        }
    }
}

/// The order that is asked about, with these lines.
pub(super) fn order(about: &Names, lines: Vec<LineView>) -> Order {
    Order { order_id: about.text("order_id").to_owned(), lines: lines.into_iter().map(Line::from).collect() }
}

/// Promises the lines named.
///
/// Other lines of the order are left alone. The same request again is answered with the present state and has no effect. Checked in
/// this order: invalid values (422), unknown SKU (422), another quantity or a cancelled line (409), not enough stock or room in the queue (409), too many holds with
/// this key (409).
#[utoipa::path(
    put, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = schemas::OrderId, Path, description = "The order")),
    request_body = OrderRequest,
    responses(
        (status = 200, description = "All lines were known", body = Order),
        (status = 201, description = "At least one line is new", body = Order),
        (status = 409, description = "Another quantity, a cancelled line, not enough stock, too much waits, or too many holds", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn put_order(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    Body(body): Body<OrderRequest>,
) -> Result<(StatusCode, Order), Problem> {
    let command = asked::command(asked::orders::promise, &path, body)?;
    let reply = state.order(Message::new(command, cause)).await?;
    let status = if reply.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, order(&path, reply.lines)))
}

/// An order's lines as they are now.
#[utoipa::path(
    get, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = schemas::OrderId, Path, description = "The order")),
    responses(
        (status = 200, description = "Its lines", body = Order),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn get_order(State(state): State<WebState>, path: Names) -> Result<Order, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let order_id = faults.or(order_id)?;
    let lines = views::order(state.reader.as_ref(), state.foresight.as_ref(), &order_id).await?;
    if lines.is_empty() {
        return Err(Problem::unknown(format!("unknown order {order_id}")));
    }
    Ok(order(&path, lines))
}

/// Cancels what is not shipped of an order, and answers with what became of it. Again is fine.
#[utoipa::path(
    delete, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = schemas::OrderId, Path, description = "The order")),
    responses(
        (status = 200, description = "Cancelled", body = Order),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "All of it is shipped, or some is being picked", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn delete_order(State(state): State<WebState>, path: Names, Caused(cause): Caused) -> Result<Order, Problem> {
    let command = asked::command(asked::orders::cancel, &path, Nothing::default())?;
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(order(&path, reply.lines))
}

/// Makes the promises of an order's holds last: all of them or none. Again is fine.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/confirm", tag = "orders",
    params(("order_id" = schemas::OrderId, Path, description = "The order")),
    responses(
        (status = 200, description = "Confirmed", body = Order),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A hold has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn confirm_order(State(state): State<WebState>, path: Names, Caused(cause): Caused) -> Result<Order, Problem> {
    let command = asked::command(asked::orders::confirm, &path, Nothing::default())?;
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(order(&path, reply.lines))
}

/// Lets an order's holds last until now and so many seconds; never shorter than before.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/extend", tag = "orders",
    params(("order_id" = schemas::OrderId, Path, description = "The order")),
    request_body = Extension,
    responses(
        (status = 200, description = "Extended", body = Order),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nothing is held, or a hold has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn extend_order(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    Body(body): Body<Extension>,
) -> Result<Order, Problem> {
    let command = asked::command(asked::orders::extend, &path, body)?;
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(order(&path, reply.lines))
}

/// Changes what a line asks for: quantity, priority, `by`.
///
/// Made smaller, the part that waits goes first, then the latest arrival. Made larger, what is added counts as new. A hold keeps its end.
#[utoipa::path(
    patch, path = "/v1/orders/{order_id}/lines/{sku}", tag = "orders",
    params(
        ("order_id" = schemas::OrderId, Path, description = "The order"),
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("line" = Option<schemas::LineId>, Query, description = "Which of its lines; `1` unless said")
    ),
    request_body = LinePatch,
    responses(
        (status = 200, description = "The line as it is now", body = Line),
        (status = 404, description = "The order has no such line", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The line has ended, or there is not enough", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn patch_line(
    State(state): State<WebState>,
    path: Names,
    mut query: QueryFields,
    Caused(cause): Caused,
    Body(body): Body<LinePatch>,
) -> Result<Json<Line>, Problem> {
    let mut faults = Faults::default();
    let path = path.with("line", query.take_text(&mut faults, "line"));
    query.finish(&mut faults);
    let command = asked::orders::change_line(&mut faults, &path, body);
    let command = faults.or(command)?;
    let changed = state.order(Message::new(command, cause)).await?.lines.pop();
    changed.map(|line| Json(line.into())).ok_or_else(Problem::other_reply)
}

/// Cancels an order's lines for one SKU, or one of them, and answers with what became of them. Again is fine.
#[utoipa::path(
    delete, path = "/v1/orders/{order_id}/lines/{sku}", tag = "orders",
    params(
        ("order_id" = schemas::OrderId, Path, description = "The order"),
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("line" = Option<schemas::LineId>, Query, description = "Which of its lines; all unless said")
    ),
    responses(
        (status = 200, description = "Cancelled", body = Order),
        (status = 404, description = "The order has no such line", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "All of it is shipped, or some is being picked", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn delete_line(
    State(state): State<WebState>,
    path: Names,
    mut query: QueryFields,
    Caused(cause): Caused,
) -> Result<Order, Problem> {
    let mut faults = Faults::default();
    let path = path.with("line", query.take_text(&mut faults, "line"));
    query.finish(&mut faults);
    let command = asked::orders::cancel(&mut faults, &path, Nothing::default());
    let command = faults.or(command)?;
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(order(&path, reply.lines))
}

#[cfg(test)]
mod tests {
    use allocation_domain::{Quantity, Split};

    use super::*;

    fn line(full: bool) -> Line {
        let text = |text: &str| full.then(|| text.to_owned());
        let eta = text("2026-01-02");
        Line {
            order_id: "an \"order\"".to_owned(),
            sku: "A".to_owned(),
            line: "1".to_owned(),
            requested: 1,
            held: 2,
            allocated: 3,
            locked: 4,
            backordered: 5,
            shipped: 6,
            returned: 7,
            dropped: 8,
            cancelled: 9,
            lapsed: 10,
            state: "held",
            held_until: text("2026-01-01T00:00:00Z"),
            promised_date: text("2026-01-01"),
            placements: vec![Placement { batch: "b".to_owned(), location: "l".to_owned(), qty: 1, locked: 0, eta }],
            shipments: vec![ShipmentOfLine { batch: "b".to_owned(), qty: 1, returned: 1 }],
            priority: -1,
            by: text("2026-01-03"),
            not_before: text("2026-01-04"),
            split: if full { Split::OverLocations(Quantity::ONE).into() } else { Split::Never.into() },
            min_split: 11,
            min_days: full.then_some(12),
            locations: full.then(|| vec!["l".to_owned(), "m".to_owned()]),
            accepted: 13,
        }
    }

    #[test]
    fn an_order_is_written_as_it_would_be_by_its_shape() {
        for lines in [vec![], vec![line(true)], vec![line(false), line(true)]] {
            let order = Order { order_id: "an \"order\"".to_owned(), lines };
            let mut json = Vec::new();
            order.write(&mut json);
            assert_eq!(String::from_utf8(json).expect("text"), serde_json::to_string(&order).expect("JSON"));
        }
    }
}
