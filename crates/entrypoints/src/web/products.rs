//! Products and their batches.

use allocation_domain::commands::{DeclareBatch, Precondition};
use allocation_domain::product::Declared;
use allocation_domain::{BatchQuantity, BatchRef, Command, Eta, Sku};
use allocation_service_layer::handlers::{BatchReply, Reply};
use allocation_service_layer::ports::reader::LineFilter;
use allocation_service_layer::views::{self, BatchView, ProductView};
use allocation_service_layer::wire::date_text;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fields::{Body, Faults, Field, Limit, LineCursor, PathFields, QueryFields, Unknown};
use super::orders::Line;
use super::problem::Problem;
use super::{Caused, WebState};

pub(super) fn routes() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(list_products))
        .routes(routes!(get_product))
        .routes(routes!(list_lines))
        .routes(routes!(put_batch))
}

/// What a batch is declared to be.
#[derive(Deserialize, ToSchema)]
struct BatchDeclaration {
    /// Total units, 0 to 1,000,000,000,000.
    #[serde(default)]
    #[schema(value_type = u64, required, maximum = 1_000_000_000_000_u64)]
    qty: Field<BatchQuantity>,
    /// When it is expected. `null`: it has arrived. Left out: as before, and a new batch is on hand.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Date, example = "2011-01-02")]
    eta: Field<Eta>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// A batch.
#[derive(Serialize, ToSchema)]
struct Batch {
    /// The shipment's reference.
    r#ref: String,
    /// Units declared.
    qty: u64,
    /// When it is expected; null: arrived.
    #[schema(format = Date)]
    eta: Option<String>,
    /// Units allocated from it.
    allocated: u64,
    /// Units nobody has been promised.
    free: u64,
}

impl From<&BatchView> for Batch {
    fn from(view: &BatchView) -> Self {
        Self {
            r#ref: view.reference.to_string(),
            qty: view.qty,
            eta: view.eta.map(date_text),
            allocated: view.allocated,
            free: view.free,
        }
    }
}

/// A batch after a declaration, and the lines that moved or lost their place.
#[derive(Serialize, ToSchema)]
struct DeclaredBatch {
    /// The product.
    sku: String,
    #[serde(flatten)]
    batch: Batch,
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
    /// Units.
    qty: u64,
    /// The batch that took it instead; null: it waits.
    to: Option<String>,
}

/// A product's numbers and open batches.
#[derive(Serialize, ToSchema)]
struct Product {
    /// The product.
    sku: String,
    /// The sequence number of its last event.
    version: u64,
    /// Units of arrived batches.
    on_hand: u64,
    /// Units of batches that have not arrived.
    incoming: u64,
    /// Units on hand that are quarantined or expired.
    unavailable: u64,
    /// Units placed for holds.
    held: u64,
    /// Units allocated to order lines.
    allocated: u64,
    /// Units allocated and released to picking.
    locked: u64,
    /// Units on hand that can be promised today.
    available: u64,
    /// Units that can be promised at all, arrived or not.
    promisable: u64,
    /// Units ordered without a placement.
    backordered: u64,
    /// Open batches, in order of preference.
    batches: Vec<Batch>,
}

impl From<ProductView> for Product {
    fn from(view: ProductView) -> Self {
        Self {
            sku: view.sku.to_string(),
            version: view.version,
            on_hand: view.on_hand,
            incoming: view.incoming,
            unavailable: 0,
            held: 0,
            allocated: view.allocated,
            locked: 0,
            available: view.available,
            promisable: view.promisable,
            backordered: view.backordered,
            batches: view.batches.iter().map(Batch::from).collect(),
        }
    }
}

/// A page of products.
#[derive(Serialize, ToSchema)]
struct ProductPage {
    /// Products in byte order of SKU.
    products: Vec<Product>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

/// A page of lines.
#[derive(Serialize, ToSchema)]
struct LinePage {
    /// Lines, newest first.
    lines: Vec<Line>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

/// Declares a batch.
///
/// Creates it, or changes a known one to what is said. The same again changes nothing. When it shrinks below what is allocated from
/// it, the newest lines lose their place first; they move at once wherever free stock can take them, else they wait.
#[utoipa::path(
    put, path = "/v1/products/{sku}/batches/{ref}", tag = "products",
    params(
        ("sku" = String, Path, description = "The product"),
        ("ref" = String, Path, description = "The shipment's reference"),
        ("If-Match" = Option<String>, Header, description = "Go on only if the declaration still has this `ETag`")
    ),
    request_body = BatchDeclaration,
    responses(
        (status = 200, description = "Changed, or the same", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 201, description = "New", body = DeclaredBatch, headers(("ETag" = String))),
        (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "An ETA for a batch that has arrived", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The declaration has changed", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Body over 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn put_batch(
    State(state): State<WebState>,
    path: PathFields,
    headers: HeaderMap,
    Caused(cause): Caused,
    Body(body): Body<BatchDeclaration>,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let reference = path.get::<BatchRef>(&mut faults, "ref");
    let qty = faults.required("qty", body.qty);
    let eta = faults.optional("eta", body.eta);
    faults.unknown("", &body.unknown);
    let (sku, reference, qty) = faults.or(sku.zip(reference).zip(qty).map(|((s, r), q)| (s, r, q)))?;

    let precondition = precondition(&headers);
    let command = Command::DeclareBatch(DeclareBatch { sku: sku.clone(), reference, qty, eta, precondition });
    match state.handle(command, cause).await?? {
        Reply::Batch(reply) => Ok(declared(&sku, &reply)),
        Reply::Order(_) | Reply::Cancelled => Err(Problem::internal("the bus gave another command's reply")),
    }
}

fn declared(sku: &Sku, reply: &BatchReply) -> Response {
    let status = match reply.declared {
        Declared::New => StatusCode::CREATED,
        Declared::Changed | Declared::Same => StatusCode::OK,
    };
    let body = DeclaredBatch {
        sku: sku.to_string(),
        batch: Batch::from(&reply.batch),
        displaced: reply
            .displaced
            .iter()
            .map(|displaced| DisplacedLine {
                order_id: displaced.line.order_id.to_string(),
                line: displaced.line.line.to_string(),
                qty: displaced.qty.units(),
                to: displaced.to.as_ref().map(ToString::to_string),
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

/// A product's numbers and its open batches.
#[utoipa::path(
    get, path = "/v1/products/{sku}", tag = "products",
    params(("sku" = String, Path, description = "The product")),
    responses(
        (status = 200, description = "The product", body = Product),
        (status = 404, description = "No batch of it was ever declared", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn get_product(State(state): State<WebState>, path: PathFields) -> Result<Json<Product>, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let sku = faults.or(sku)?;
    match views::product(state.reader.as_ref(), &sku).await? {
        Some(view) => Ok(Json(view.into())),
        None => Err(Problem::unknown(format!("unknown SKU {sku}"))),
    }
}

/// Products, in byte order of SKU.
#[utoipa::path(
    get, path = "/v1/products", tag = "products",
    params(
        ("after" = Option<String>, Query, description = "The last SKU of the page before"),
        ("limit" = Option<u64>, Query, description = "How many, 1 to 1,000; 100 unless said")
    ),
    responses(
        (status = 200, description = "A page", body = ProductPage),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_products(State(state): State<WebState>, mut query: QueryFields) -> Result<Json<ProductPage>, Problem> {
    let mut faults = Faults::default();
    let after = query.take::<Sku>(&mut faults, "after");
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    query.finish(&mut faults);
    faults.or(Some(()))?;
    let products = views::products(state.reader.as_ref(), after.as_ref(), limit).await?;
    let next = products.last().filter(|_| products.len() == limit).map(|last| last.sku.to_string());
    Ok(Json(ProductPage { products: products.into_iter().map(Product::from).collect(), next }))
}

/// A product's lines, newest first, which is the order in which a cut would hit them: who is promised, who waits.
#[utoipa::path(
    get, path = "/v1/products/{sku}/lines", tag = "products",
    params(
        ("sku" = String, Path, description = "The product"),
        ("state" = Option<String>, Query, description = "Only lines that are `allocated`, `backordered` or `cancelled`"),
        ("batch" = Option<String>, Query, description = "Only lines placed in this batch"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u64>, Query, description = "How many, 1 to 1,000; 100 unless said")
    ),
    responses(
        (status = 200, description = "A page", body = LinePage),
        (status = 404, description = "No batch of it was ever declared", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_lines(
    State(state): State<WebState>,
    path: PathFields,
    mut query: QueryFields,
) -> Result<Json<LinePage>, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let filter =
        LineFilter { state: query.take(&mut faults, "state"), batch: query.take::<BatchRef>(&mut faults, "batch") };
    let after = query.take::<LineCursor>(&mut faults, "after").map(|LineCursor(key)| key);
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    query.finish(&mut faults);
    let sku = faults.or(sku)?;
    match views::product_lines(state.reader.as_ref(), &sku, &filter, after.as_ref(), limit, state.today()).await? {
        None => Err(Problem::unknown(format!("unknown SKU {sku}"))),
        Some(lines) => {
            let next =
                lines.last().filter(|_| lines.len() == limit).map(|last| LineCursor(last.key.clone()).to_string());
            Ok(Json(LinePage { lines: lines.into_iter().map(Line::from).collect(), next }))
        }
    }
}
