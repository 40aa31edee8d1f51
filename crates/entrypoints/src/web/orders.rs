//! Orders and their lines.

use std::collections::BTreeMap;

use allocation_domain::commands::{Allocate, ChangeLine, ConfirmHold, Deallocate, ExtendHold, LineChange, WhenShort};
use allocation_domain::{
    Command, Eta, HoldSeconds, LineId, LineKey, Location, Locations, OrderId, Quantity, Shipped, Sku, Split, Terms,
};
use allocation_service_layer::Message;
use allocation_service_layer::views::{self, AvailabilityAt, AvailabilityView, LineView, PlacementView};
use allocation_service_layer::wire::{date_text, instant_text};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::Date;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fields::{
    Body, Days, Faults, Field, ListField, PathFields, QueryFields, QueryQuantity, SplitAsked, Unknown,
};
use super::problem::{BodyProblems, Problem};
use super::{Caused, MAX_LINES, WebState};

pub(super) fn routes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(put_order, get_order, delete_order))
        .routes(routes!(confirm_order))
        .routes(routes!(extend_order))
        .routes(routes!(patch_line, delete_line))
        .routes(routes!(post_quote))
        .routes(routes!(get_availability))
}

/// What an order asks for. What is said of the order holds for each line that does not say otherwise.
#[derive(Deserialize, ToSchema)]
struct OrderRequest {
    /// 1 to 1,000 lines. Lines for the same SKU and `line` are added up.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 1000)]
    lines: Option<Vec<LineRequest>>,
    /// What to do when there is not enough: `reject` promises nothing, `partial` what there is and drops the rest, `backorder` what there is
    /// and queues the rest.
    #[serde(default)]
    #[schema(value_type = String, default = "reject", example = "reject")]
    when_short: Field<WhenShort>,
    /// Promise for so many seconds only, unless confirmed: 1 to 2,592,000. Holds never wait.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 1, maximum = 2_592_000_u64)]
    hold_seconds: Field<HoldSeconds>,
    #[serde(flatten)]
    terms: TermsRequest,
}

/// What placements must obey.
#[derive(Deserialize, ToSchema)]
struct TermsRequest {
    /// Who goes first: higher before lower.
    #[serde(default)]
    #[schema(value_type = i32, default = 0)]
    priority: Field<i32>,
    /// The latest day it may be promised for, inclusive; null: any.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Date)]
    by: Field<Eta>,
    /// The day it is wanted, and no earlier; null: at once.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Date)]
    not_before: Field<Eta>,
    /// Whether a line may have its units from several batches: at one location, or with `locations` at several.
    #[serde(default)]
    #[schema(value_type = SplitName, default = true)]
    split: Field<SplitAsked>,
    /// No part but the remainder is smaller than this.
    #[serde(default)]
    #[schema(value_type = u64, default = 1, minimum = 1, maximum = 1_000_000_000_u64)]
    min_split: Field<Quantity>,
    /// For how many days its units must be of use from the day they are ready, 0 to 3,650; left out: as the product says.
    #[serde(default)]
    #[schema(value_type = u16, maximum = 3_650)]
    min_days: Field<Days>,
    /// The locations it accepts, in order of preference, 1 to 64; null: any.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 64)]
    locations: ListField<Location>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// `true`: in parts at one location; `false`: whole; `locations`: in parts at several.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(untagged)]
enum SplitName {
    /// In parts at one location, or not.
    Flag(bool),
    /// In parts at several locations.
    Over(OverLocations),
}

/// At several locations.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OverLocations {
    /// The word for it.
    Locations,
}

impl From<Split> for SplitName {
    fn from(split: Split) -> Self {
        match split {
            Split::Never => Self::Flag(false),
            Split::Parts(_) => Self::Flag(true),
            Split::OverLocations(_) => Self::Over(OverLocations::Locations),
        }
    }
}

/// Locations in order of preference, each with its fault.
fn locations(faults: &mut Faults, name: &str, given: Vec<Field<Location>>) -> Option<Locations> {
    let mut good = Vec::with_capacity(given.len());
    let mut all_good = true;
    for (at, location) in given.into_iter().enumerate() {
        match faults.required(format!("{name}[{at}]"), location) {
            Some(location) => good.push(location),
            None => all_good = false,
        }
    }
    match Locations::new(good) {
        Ok(locations) => Some(locations),
        Err(error) => {
            if all_good {
                faults.add(name, error.to_string());
            }
            None
        }
    }
}

impl TermsRequest {
    /// What is said, on top of `usual`.
    fn read(self, faults: &mut Faults, prefix: &str, usual: Terms) -> Terms {
        if !self.unknown.is_empty() {
            faults.unknown(prefix, &self.unknown);
        }
        let mut terms = usual;
        let name = |field: &str| format!("{prefix}{field}");
        if !matches!(self.priority, Field::Missing) {
            terms.priority = faults.required(name("priority"), self.priority).unwrap_or_default();
        }
        if !matches!(self.by, Field::Missing) {
            terms.by = faults.required(name("by"), self.by).flatten();
        }
        if !matches!(self.not_before, Field::Missing) {
            terms.not_before = faults.required(name("not_before"), self.not_before).flatten();
        }
        if terms.by.zip(terms.not_before).is_some_and(|(by, not_before)| by < not_before) {
            faults.add(name("by"), "must not be earlier than not_before");
        }
        if let Some(Days(days)) = faults.optional(name("min_days"), self.min_days) {
            terms.min_days = Some(days);
        }
        match self.locations {
            ListField::Missing => {}
            ListField::Null => terms.locations = None,
            ListField::Given(given) => terms.locations = locations(faults, &name("locations"), given),
            ListField::Bad => faults.add(name("locations"), "must be a list of texts, or null"),
        }
        if matches!((&self.split, &self.min_split), (Field::Missing, Field::Missing)) {
            return terms;
        }
        let least = faults.optional(name("min_split"), self.min_split);
        let usual = terms.split;
        terms.split = match faults.optional(name("split"), self.split) {
            Some(SplitAsked::Never) if least.is_some() => {
                faults.add(name("min_split"), "has no meaning without split");
                Split::Never
            }
            Some(SplitAsked::Never) => Split::Never,
            Some(SplitAsked::OverLocations) => Split::OverLocations(least.unwrap_or(usual.least())),
            None if matches!(usual, Split::OverLocations(_)) => Split::OverLocations(least.unwrap_or(usual.least())),
            Some(SplitAsked::Parts) | None => Split::Parts(least.unwrap_or(usual.least())),
        };
        terms
    }
}

/// What a line asks for.
#[derive(Deserialize, ToSchema)]
struct LineRequest {
    /// The product.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 255)]
    sku: Field<Sku>,
    /// Tells lines for one SKU apart.
    #[serde(default)]
    #[schema(value_type = String, default = "1", min_length = 1, max_length = 64)]
    line: Field<LineId>,
    /// Units, 1 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = u64, required, minimum = 1, maximum = 1_000_000_000_u64)]
    qty: Field<Quantity>,
    #[serde(flatten)]
    terms: TermsRequest,
}

/// For how long a hold is to last from now.
#[derive(Deserialize, ToSchema)]
struct Extension {
    /// Seconds from now, 1 to 2,592,000. A hold never gets shorter.
    #[serde(default)]
    #[schema(value_type = u64, required, minimum = 1, maximum = 2_592_000_u64)]
    hold_seconds: Field<HoldSeconds>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What a line is to ask for. What is left out stays.
#[derive(Deserialize, ToSchema)]
struct LinePatch {
    /// Units, 1 to 1,000,000,000. What is added counts as new.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 1, maximum = 1_000_000_000_u64)]
    qty: Field<Quantity>,
    /// Who goes first: higher before lower.
    #[serde(default)]
    #[schema(value_type = i32)]
    priority: Field<i32>,
    /// The latest day it may be promised for, inclusive; null: any.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Date)]
    by: Field<Eta>,
    /// What to do when there is not enough, as with a new line.
    #[serde(default)]
    #[schema(value_type = String, default = "reject")]
    when_short: Field<WhenShort>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// An order's lines.
#[derive(Serialize, ToSchema)]
pub(super) struct Order {
    /// The order.
    order_id: String,
    /// Its lines, by SKU.
    lines: Vec<Line>,
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
struct Placement {
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

pub(super) fn order(order_id: &OrderId, lines: Vec<LineView>) -> Order {
    Order { order_id: order_id.to_string(), lines: lines.into_iter().map(Line::from).collect() }
}

fn allocate(faults: &mut Faults, order_id: OrderId, body: OrderRequest) -> Option<Allocate> {
    let usual = body.terms.read(faults, "", Terms::default());
    let when_short = faults.optional("when_short", body.when_short).unwrap_or_default();
    let hold = faults.optional("hold_seconds", body.hold_seconds);
    if hold.is_some() && when_short == WhenShort::Backorder {
        faults.add("hold_seconds", "can't be combined with when_short backorder: holds never wait");
    }
    let lines = body.lines.unwrap_or_default();
    if lines.is_empty() || lines.len() > MAX_LINES {
        faults.add("lines", format!("must be a list of 1 to {MAX_LINES} lines"));
        return None;
    }
    let mut good = Vec::with_capacity(lines.len());
    for (at, line) in lines.into_iter().enumerate() {
        let plain = line.terms.is_empty();
        let usual = usual.clone();
        let terms = if plain { usual } else { line.terms.read(faults, &format!("lines[{at}]."), usual) };
        match (line.sku, line.qty, line.line) {
            (Field::Good(sku), Field::Good(qty), Field::Missing) => good.push((sku, LineId::default(), qty, terms)),
            (Field::Good(sku), Field::Good(qty), Field::Good(line)) => good.push((sku, line, qty, terms)),
            (sku, qty, line) => {
                faults.required(format!("lines[{at}].sku"), sku);
                faults.required(format!("lines[{at}].qty"), qty);
                faults.optional(format!("lines[{at}].line"), line);
            }
        }
    }
    let mut order = Allocate::new(order_id, good).map_err(|error| faults.add("lines", error.to_string())).ok()?;
    (order.when_short, order.hold) = (when_short, hold);
    Some(order)
}

impl TermsRequest {
    fn is_empty(&self) -> bool {
        self.unknown.is_empty()
            && matches!(self.locations, ListField::Missing)
            && matches!(
                (&self.priority, &self.by, &self.not_before, &self.split, &self.min_split, &self.min_days),
                (Field::Missing, Field::Missing, Field::Missing, Field::Missing, Field::Missing, Field::Missing)
            )
    }
}

/// Promises the lines named.
///
/// Other lines of the order are left alone. The same request again is answered with the present state and has no effect. Checked in
/// this order: invalid values (422), unknown SKU (422), another quantity or a cancelled line (409), not enough stock or room in the queue (409).
#[utoipa::path(
    put, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = String, Path, description = "The order")),
    request_body = OrderRequest,
    responses(
        (status = 200, description = "All lines were known", body = Order),
        (status = 201, description = "At least one line is new", body = Order),
        (status = 409, description = "Another quantity, a cancelled line, not enough stock, or too much waits", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        BodyProblems
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
        Some(order_id) => allocate(&mut faults, order_id, body),
        None => None,
    };
    let command = faults.or(command)?;
    let order_id = command.order_id().clone();
    let reply = state.order(Message::new(Command::Allocate(command), cause)).await?;
    let status = if reply.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(order(&order_id, reply.lines))))
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
    let lines = views::order(state.reader.as_ref(), state.foresight.as_ref(), &order_id).await?;
    if lines.is_empty() {
        return Err(Problem::unknown(format!("unknown order {order_id}")));
    }
    Ok(Json(order(&order_id, lines)))
}

/// Cancels what is not shipped of an order, and answers with what became of it. Again is fine.
#[utoipa::path(
    delete, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = String, Path, description = "The order")),
    responses(
        (status = 200, description = "Cancelled", body = Order),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "All of it is shipped, or some is being picked", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn delete_order(
    State(state): State<WebState>,
    path: PathFields,
    Caused(cause): Caused,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let order_id = faults.or(order_id)?;
    let command = Command::Deallocate(Deallocate { order_id: order_id.clone(), sku: None, line: None });
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(Json(order(&order_id, reply.lines)))
}

/// Makes the promises of an order's holds last: all of them or none. Again is fine.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/confirm", tag = "orders",
    params(("order_id" = String, Path, description = "The order")),
    responses(
        (status = 200, description = "Confirmed", body = Order),
        (status = 404, description = "No line of it was ever accepted", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A hold has ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn confirm_order(
    State(state): State<WebState>,
    path: PathFields,
    Caused(cause): Caused,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let order_id = faults.or(order_id)?;
    let command = Command::ConfirmHold(ConfirmHold { order_id: order_id.clone() });
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(Json(order(&order_id, reply.lines)))
}

/// Lets an order's holds last until now and so many seconds; never shorter than before.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/extend", tag = "orders",
    params(("order_id" = String, Path, description = "The order")),
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
    path: PathFields,
    Caused(cause): Caused,
    Body(body): Body<Extension>,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let hold = faults.required("hold_seconds", body.hold_seconds);
    faults.unknown("", &body.unknown);
    let (order_id, hold) = faults.or(order_id.zip(hold))?;
    let command = Command::ExtendHold(ExtendHold { order_id: order_id.clone(), hold });
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(Json(order(&order_id, reply.lines)))
}

/// Changes what a line asks for: quantity, priority, `by`.
///
/// Made smaller, the part that waits goes first, then the latest arrival. Made larger, what is added counts as new. A hold keeps its end.
#[utoipa::path(
    patch, path = "/v1/orders/{order_id}/lines/{sku}", tag = "orders",
    params(
        ("order_id" = String, Path, description = "The order"),
        ("sku" = String, Path, description = "The product"),
        ("line" = Option<String>, Query, description = "Which of its lines; `1` unless said")
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
    path: PathFields,
    mut query: QueryFields,
    Caused(cause): Caused,
    Body(body): Body<LinePatch>,
) -> Result<Json<Line>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let sku = path.get::<Sku>(&mut faults, "sku");
    let line = query.take::<LineId>(&mut faults, "line").unwrap_or_default();
    query.finish(&mut faults);
    let change = LineChange {
        qty: faults.optional("qty", body.qty),
        priority: faults.optional("priority", body.priority),
        by: faults.optional("by", body.by),
        when_short: faults.optional("when_short", body.when_short).unwrap_or_default(),
    };
    faults.unknown("", &body.unknown);
    let (order_id, sku) = faults.or(order_id.zip(sku))?;
    let command = Command::ChangeLine(ChangeLine { sku, line: LineKey { order_id, line }, change });
    let changed = state.order(Message::new(command, cause)).await?.lines.pop();
    changed.map(|line| Json(line.into())).ok_or_else(Problem::other_reply)
}

/// Cancels an order's lines for one SKU, or one of them, and answers with what became of them. Again is fine.
#[utoipa::path(
    delete, path = "/v1/orders/{order_id}/lines/{sku}", tag = "orders",
    params(
        ("order_id" = String, Path, description = "The order"),
        ("sku" = String, Path, description = "The product"),
        ("line" = Option<String>, Query, description = "Which of its lines; all unless said")
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
    path: PathFields,
    mut query: QueryFields,
    Caused(cause): Caused,
) -> Result<Json<Order>, Problem> {
    let mut faults = Faults::default();
    let order_id = path.get::<OrderId>(&mut faults, "order_id");
    let sku = path.get::<Sku>(&mut faults, "sku");
    let line = query.take::<LineId>(&mut faults, "line");
    query.finish(&mut faults);
    let (order_id, sku) = faults.or(order_id.zip(sku))?;
    let command = Command::Deallocate(Deallocate { order_id: order_id.clone(), sku: Some(sku), line });
    let reply = state.order(Message::new(command, cause)).await?;
    Ok(Json(order(&order_id, reply.lines)))
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
        ("sku" = String, Path, description = "The product"),
        ("qty" = Option<u64>, Query, description = "Units, 1 to 1,000,000,000; 1 unless said"),
        ("by" = Option<String>, Query, description = "The latest day, inclusive; any unless said"),
        ("location" = Option<String>, Query, description = "Only there; anywhere unless said")
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
    path: PathFields,
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
