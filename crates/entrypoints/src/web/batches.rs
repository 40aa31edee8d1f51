//! Batches: what they are declared to be, that they come or never will, and what is found of them in the warehouse.

use allocation_domain::Command;
use allocation_domain::commands::{DeclareBatch, Precondition};
use allocation_service_layer::Message;
use allocation_service_layer::access::Scope;
use allocation_service_layer::handlers::BatchReply;
use allocation_service_layer::views::BatchView;
use allocation_service_layer::wire::date_text;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::Routes;
use super::extract::Body;
use super::json::Json;
use super::keyed::{Keyed, MaybeKeyed};
use super::problem::{BodyProblems, Problem};
use super::products::status_of;
use super::{Caused, WebState};
use crate::asked::batches::{AdjustmentRequest, BatchDeclaration, Receipt, SomeUnits};
use crate::asked::fields::{Faults, Names};
use crate::asked::{self, Nothing, Read, schemas};

pub(super) fn routes() -> Routes {
    Routes::new()
        .needing(Scope::StockWrite, routes!(put_batch, delete_batch))
        .needing(Scope::StockWrite, routes!(post_receipt))
        .needing(Scope::StockWrite, routes!(post_adjustment))
        .needing(Scope::StockWrite, routes!(quarantine))
        .needing(Scope::StockWrite, routes!(release))
}

/// A batch.
#[derive(Serialize, ToSchema)]
pub(super) struct Batch {
    /// The shipment's reference.
    r#ref: String,
    /// Where it lies, or will lie once it has arrived.
    location: String,
    /// Units it was last declared to have.
    qty: u64,
    /// Units there are now: on hand when it has arrived, else incoming.
    units: u64,
    /// Of these, units that are set aside or expired, and not placed.
    unavailable: u64,
    /// `expected`, `on_hand`, `expired` or `cancelled`.
    state: &'static str,
    /// When it is expected; null: arrived.
    #[schema(format = Date)]
    eta: Option<String>,
    /// The last day on which its units are of use; null: they always are.
    #[schema(format = Date)]
    expires_on: Option<String>,
    /// Units placed for holds.
    held: u64,
    /// Units allocated from it.
    allocated: u64,
    /// Units nobody has been promised.
    free: u64,
}

impl From<&BatchView> for Batch {
    fn from(view: &BatchView) -> Self {
        Self {
            r#ref: view.reference.to_string(),
            location: view.location.to_string(),
            qty: view.qty,
            units: view.units,
            unavailable: view.unavailable,
            state: view.state.name(),
            eta: view.eta.map(date_text),
            expires_on: view.expires_on.map(date_text),
            held: view.held,
            allocated: view.allocated,
            free: view.free,
        }
    }
}

/// A batch after a command about it, and the lines that moved or lost their place.
#[derive(Serialize, ToSchema)]
pub(super) struct DeclaredBatch {
    /// The product.
    sku: String,
    #[serde(flatten)]
    batch: Batch,
    /// What of a receipt is still expected, as a batch of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<Batch>,
    /// Lines that lost their place in this batch, the first thousand.
    displaced: Vec<DisplacedLine>,
    /// How many lost their place.
    displaced_total: u64,
}

/// A line that lost its place.
#[derive(Serialize, ToSchema)]
struct DisplacedLine {
    /// The order.
    order_id: String,
    /// Which of its lines.
    line: String,
    /// Units that lost their place.
    qty: u64,
    /// Where they are now.
    to: Vec<Moved>,
    /// How many of them wait.
    backordered: u64,
    /// They were held, and the hold could not be kept.
    lapsed: bool,
}

/// Units that went to another batch.
#[derive(Serialize, ToSchema)]
struct Moved {
    /// The batch.
    batch: String,
    /// Units.
    qty: u64,
}

/// Says that an expected batch has come.
///
/// It is on hand from then on, with the units that were counted. Lines that these do not cover lose their place, those accepted last first.
#[utoipa::path(
    post, path = "/v1/products/{sku}/batches/{ref}/receipts", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference")
    ),
    request_body = Receipt,
    responses(
        (status = 200, description = "Received", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not expected, or the rest's reference is taken", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn post_receipt(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    Body(body): Body<Receipt>,
) -> Result<Response, Problem> {
    let command = asked::command(asked::batches::receive, &path, body)?;
    Ok(declared(&state.batch(Message::new(command, cause)).await?))
}

/// Says that an expected batch will never come.
///
/// Whoever had a place in it gets other free stock at once, or waits. Again is fine.
#[utoipa::path(
    delete, path = "/v1/products/{sku}/batches/{ref}", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference")
    ),
    responses(
        (status = 200, description = "Cancelled", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has arrived", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn delete_batch(State(state): State<WebState>, path: Names, Caused(cause): Caused) -> Result<Response, Problem> {
    let command = asked::command(asked::batches::cancel, &path, Nothing::default())?;
    Ok(declared(&state.batch(Message::new(command, cause)).await?))
}

/// Declares a batch.
///
/// Creates it, or changes a known one to what is said. The same again changes nothing. When it shrinks below what is allocated from
/// it, the newest lines lose their place first; they move at once wherever free stock can take them, else they wait.
#[utoipa::path(
    put, path = "/v1/products/{sku}/batches/{ref}", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference"),
        ("If-Match" = Option<schemas::Tags>, Header, description = "Go on only if the declaration still has this `ETag`")
    ),
    request_body = BatchDeclaration,
    responses(
        (status = 200, description = "Changed, or the same", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 201, description = "New", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 409, description = "An ETA for a batch that has arrived, fewer units than have left it, another location, or the batch was cancelled", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The declaration has changed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn put_batch(
    State(state): State<WebState>,
    path: Names,
    headers: HeaderMap,
    Caused(cause): Caused,
    Body(body): Body<BatchDeclaration>,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    let declaration = asked::batches::declaration(&mut faults, &path, body);
    let command = DeclareBatch { precondition: precondition(&headers), ..faults.or(declaration)? };
    let command = Command::DeclareBatch(command);
    Ok(declared(&state.batch(Message::new(command, cause)).await?))
}

pub(super) fn declared(reply: &BatchReply) -> Response {
    let status = status_of(reply.declared);
    let body = DeclaredBatch {
        sku: reply.sku.to_string(),
        batch: Batch::from(&reply.batch),
        rest: reply.rest.as_ref().map(Batch::from),
        displaced: reply
            .displaced
            .iter()
            .map(|displaced| DisplacedLine {
                order_id: displaced.line.order_id.to_string(),
                line: displaced.line.line.to_string(),
                qty: displaced.qty.units(),
                to: displaced.to.iter().map(|(batch, qty)| Moved { batch: batch.to_string(), qty: *qty }).collect(),
                backordered: displaced.backordered,
                lapsed: displaced.lapsed,
            })
            .collect(),
        displaced_total: reply.displaced_total,
    };
    (status, [(header::ETAG, format!("\"{}\"", reply.batch.revision))], Json(body)).into_response()
}

/// Reads `If-Match`. Tags that are not ours match nothing.
fn precondition(headers: &HeaderMap) -> Precondition {
    let mut given = headers.get_all(header::IF_MATCH).iter().peekable();
    if given.peek().is_none() {
        return Precondition::None;
    }
    let tags: Vec<&str> =
        given.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim).collect();
    if tags.contains(&"*") {
        return Precondition::Exists;
    }
    let ours = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    Precondition::Revision(tags.iter().filter_map(ours).collect())
}

/// Corrects what a batch in the warehouse holds.
///
/// What it was declared to have stays as it is. When fewer units are left than are placed, lines lose their place as they do when a batch shrinks. The
/// same request with the same key acts once.
#[utoipa::path(
    post, path = "/v1/products/{sku}/batches/{ref}/adjustments", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference"),
        ("Idempotency-Key" = schemas::IdempotencyKey, Header, description = "A name for this request, such as a UUID")
    ),
    request_body = AdjustmentRequest,
    responses(
        (status = 200, description = "Adjusted", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not arrived, there are no so many units, or the key is in use", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values, unknown SKU, or the key was used for something else", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn post_adjustment(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    Keyed { key, body, handling }: Keyed<AdjustmentRequest>,
) -> Result<Response, Problem> {
    let command = asked::command(asked::batches::adjust, &path, body)?;
    let message = Message::new(command, cause).with_key(key);
    let reply = state.batch(message).await;
    drop(handling);
    Ok(declared(&reply?))
}

/// Has a command about units of a batch handled, under a key if it has one.
async fn some_units(
    state: &WebState,
    read: Read<SomeUnits>,
    path: &Names,
    Caused(cause): Caused,
    MaybeKeyed { key, body }: MaybeKeyed<SomeUnits>,
) -> Result<Response, Problem> {
    let message = Message::new(asked::command(read, path, body)?, cause);
    let Some((key, handling)) = key else { return Ok(declared(&state.batch(message).await?)) };
    let reply = state.batch(message.with_key(key)).await;
    drop(handling);
    Ok(declared(&reply?))
}

/// Sets units of a batch aside: they are not placed until they are released.
///
/// Free ones first; then lines lose their place as they do when a batch shrinks. These are so many more than before: the same request acts again, unless it
/// has the same key.
#[utoipa::path(
    post, path = "/v1/products/{sku}/batches/{ref}/quarantine", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference"),
        ("Idempotency-Key" = Option<schemas::IdempotencyKey>, Header, description = "A name for this request, such as a UUID: it then acts once")
    ),
    request_body = Option<SomeUnits>,
    responses(
        (status = 200, description = "Set aside", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not arrived, or there are no so many units", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn quarantine(
    State(state): State<WebState>,
    path: Names,
    caused: Caused,
    wanted: MaybeKeyed<SomeUnits>,
) -> Result<Response, Problem> {
    some_units(&state, asked::batches::quarantine, &path, caused, wanted).await
}

/// Gives units free again that were set aside. Whoever waits is served; old placements do not come back.
///
/// These are so many more than before: the same request acts again, unless it has the same key.
#[utoipa::path(
    post, path = "/v1/products/{sku}/batches/{ref}/release", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference"),
        ("Idempotency-Key" = Option<schemas::IdempotencyKey>, Header, description = "A name for this request, such as a UUID: it then acts once")
    ),
    request_body = Option<SomeUnits>,
    responses(
        (status = 200, description = "Free again", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not arrived, or no so many units were set aside", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values or unknown SKU", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn release(
    State(state): State<WebState>,
    path: Names,
    caused: Caused,
    wanted: MaybeKeyed<SomeUnits>,
) -> Result<Response, Problem> {
    some_units(&state, asked::batches::release, &path, caused, wanted).await
}
