//! What would be promised, and from when. Nothing is promised here.

use std::collections::BTreeMap;

use allocation_domain::{Eta, Location, Locations, OrderId, Quantity, Sku};
use allocation_service_layer::access::Scope;
use allocation_service_layer::views::{self, AvailabilityAt, AvailabilityView, LineView};
use allocation_service_layer::wire::date_text;
use axum::extract::State;
use serde::Serialize;
use time::Date;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::WebState;
use super::access::Routes;
use super::extract::{Body, QueryFields};
use super::json::Json;
use super::orders::Placement;
use super::problem::{BodyProblems, Problem};
use crate::asked::fields::{Faults, Names, QueryQuantity};
use crate::asked::orders::{OrderRequest, allocate};
use crate::asked::schemas;

pub(super) fn routes() -> Routes {
    Routes::new().needing(Scope::StockRead, routes!(post_quote)).needing(Scope::StockRead, routes!(get_availability))
}

/// What an order would be promised.
#[derive(Serialize, ToSchema)]
struct Quote {
    /// Its lines, by SKU, as they would be.
    lines: Vec<QuotedLine>,
}

/// What a line would be promised.
#[derive(Serialize, ToSchema)]
struct QuotedLine {
    /// The product.
    sku: String,
    /// Which of the order's lines for it.
    line: String,
    /// Units asked for.
    requested: u64,
    /// Units that would have a placement.
    placed: u64,
    /// Units that would wait.
    backordered: u64,
    /// Units that would be dropped.
    dropped: u64,
    /// When all of it would be ready to ship; null while anything would wait.
    #[schema(format = Date)]
    promised_date: Option<String>,
    /// Where its units would be.
    placements: Vec<Placement>,
}

/// From when units can be promised, and how many by which day.
#[derive(Serialize, ToSchema)]
struct Availability {
    /// The product.
    sku: String,
    /// Units asked about.
    qty: u64,
    /// The day on which all of them are ready to ship; null: not to be had.
    #[schema(format = Date)]
    ready: Option<String>,
    /// Where they would come from: as many as are to be had.
    placements: Vec<Placement>,
    /// Units that can be promised today.
    available: u64,
    /// Units that can be promised by each day on which there are more than before.
    atp: Vec<AvailableBy>,
    /// The same, location by location.
    locations: BTreeMap<String, AvailableAt>,
}

/// How many units can be promised from a location, and by which day.
#[derive(Serialize, ToSchema)]
struct AvailableAt {
    /// Units that can be promised today.
    available: u64,
    /// Units that can be promised by each day on which there are more than before.
    atp: Vec<AvailableBy>,
}

/// Units that can be promised by a day.
#[derive(Serialize, ToSchema)]
struct AvailableBy {
    /// The day.
    #[schema(format = Date)]
    date: String,
    /// Units.
    qty: u64,
}

impl From<LineView> for QuotedLine {
    fn from(view: LineView) -> Self {
        Self {
            sku: view.sku.to_string(),
            line: view.key.line.to_string(),
            requested: view.requested,
            placed: view.held + view.allocated,
            backordered: view.backordered,
            dropped: view.dropped,
            promised_date: view.promised_date.map(date_text),
            placements: view.placements.into_iter().map(Placement::from).collect(),
        }
    }
}

impl From<AvailabilityView> for Availability {
    fn from(view: AvailabilityView) -> Self {
        Self {
            sku: view.sku.to_string(),
            qty: view.qty,
            ready: view.ready.map(date_text),
            placements: view.placements.into_iter().map(Placement::from).collect(),
            available: view.available,
            atp: available_by(view.atp),
            locations: view
                .locations
                .into_iter()
                .map(|AvailabilityAt { location, available, atp }| {
                    (location.to_string(), AvailableAt { available, atp: available_by(atp) })
                })
                .collect(),
        }
    }
}

fn available_by(atp: Vec<(Date, u64)>) -> Vec<AvailableBy> {
    atp.into_iter().map(|(date, qty)| AvailableBy { date: date_text(date), qty }).collect()
}

/// Says what an order would be promised, and promises nothing.
///
/// Answers and refuses as `PUT /v1/orders/{order_id}` would for an order that is not known.
#[utoipa::path(
    post, path = "/v1/quotes", tag = "orders", request_body = OrderRequest,
    responses(
        (status = 200, description = "What it would be promised", body = Quote),
        (status = 409, description = "Not enough stock, or too much waits", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn post_quote(State(state): State<WebState>, Body(body): Body<OrderRequest>) -> Result<Json<Quote>, Problem> {
    let mut faults = Faults::default();
    let nobody = OrderId::new("quote").map_err(|error| Problem::internal(error.to_string()))?;
    let asked = allocate(&mut faults, nobody, body);
    let asked = faults.or(asked)?;
    let lines = views::quote(state.reader.as_ref(), state.foresight.as_ref(), &asked).await??;
    Ok(Json(Quote { lines: lines.into_iter().map(QuotedLine::from).collect() }))
}

/// From when units of a product can be promised, from which batches, and how many by which day.
#[utoipa::path(
    get, path = "/v1/availability/{sku}", tag = "orders",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("qty" = Option<schemas::Units>, Query, description = "Units, 1 to 1,000,000,000; 1 unless said"),
        ("by" = Option<schemas::Day>, Query, description = "The latest day, inclusive; any unless said"),
        ("location" = Option<schemas::Location>, Query, description = "Only there; anywhere unless said")
    ),
    responses(
        (status = 200, description = "When and from where", body = Availability),
        (status = 404, description = "It was never made known, nor a batch of it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn get_availability(
    State(state): State<WebState>,
    path: Names,
    mut query: QueryFields,
) -> Result<Json<Availability>, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let QueryQuantity(qty) = query.take(&mut faults, "qty").unwrap_or(QueryQuantity(Quantity::ONE));
    let by = query.take::<Eta>(&mut faults, "by").flatten();
    let location = query.take::<Location>(&mut faults, "location");
    query.finish(&mut faults);
    let sku = faults.or(sku)?;
    let only = location.and_then(|location| Locations::new(vec![location]).ok());
    match views::availability(state.reader.as_ref(), state.foresight.as_ref(), &sku, qty, by, only).await? {
        Some(view) => Ok(Json(view.into())),
        None => Err(Problem::unknown(format!("unknown SKU {sku}"))),
    }
}
