//! Products and their queues.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use allocation_domain::product::Declared;
use allocation_domain::{BatchRef, Sku};
use allocation_service_layer::access::Scope;
use allocation_service_layer::handlers::{ProductReply, Reply};
use allocation_service_layer::ports::reader::LineFilter;
use allocation_service_layer::views::{self, LocationView, ProductView, QueueView};
use allocation_service_layer::wire::date_text;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::Routes;
use super::batches::Batch;
use super::extract::{Body, QueryFields};
use super::json::Json;
use super::orders::Line;
use super::problem::{BodyProblems, Problem};
use super::{Caused, WebState};
use crate::asked::fields::{Faults, Limit, LineCursor, Names, QueueCursor};
use crate::asked::products::ProductSettings;
use crate::asked::{self, Nothing, schemas};

pub(super) fn routes() -> Routes {
    Routes::new()
        .needing(Scope::StockRead, routes!(list_products))
        .needing(Scope::StockRead, routes!(get_product))
        .needing(Scope::StockWrite, routes!(put_product))
        .needing(Scope::OrdersRead, routes!(list_lines))
        .needing(Scope::OrdersRead, routes!(list_queue))
        .needing(Scope::StockWrite, routes!(improve))
        .needing(Scope::StockRead, routes!(list_backlog))
}

/// Units of a product, everywhere or at one location.
#[derive(Serialize, ToSchema)]
struct Numbers {
    /// Units of arrived batches.
    on_hand: u64,
    /// Units of batches that have not arrived.
    incoming: u64,
    /// Units on hand that are set aside or expired.
    unavailable: u64,
    /// Units placed for holds.
    held: u64,
    /// Units allocated to order lines.
    allocated: u64,
    /// Units on hand that can be promised today.
    available: u64,
    /// Units that can be promised at all, arrived or not.
    promisable: u64,
}

impl From<views::Numbers> for Numbers {
    fn from(view: views::Numbers) -> Self {
        let views::Numbers { on_hand, incoming, unavailable, held, allocated, available, promisable } = view;
        Self { on_hand, incoming, unavailable, held, allocated, available, promisable }
    }
}

/// A product's numbers at one location.
#[derive(Serialize, ToSchema)]
struct AtLocation {
    #[serde(flatten)]
    numbers: Numbers,
    /// Free units that are never promised.
    safety_stock: u64,
    /// What is little; null: nobody is told.
    low_stock: Option<u64>,
    /// What is enough again.
    restocked: Option<u64>,
    /// Whether little is left.
    low: bool,
}

impl From<&LocationView> for AtLocation {
    fn from(view: &LocationView) -> Self {
        Self {
            numbers: view.numbers.into(),
            safety_stock: view.level.safety_stock,
            low_stock: view.level.low_stock.map(|low| low.threshold),
            restocked: view.level.low_stock.map(|low| low.restocked),
            low: view.low,
        }
    }
}

/// A product's numbers and open batches.
#[derive(Serialize, ToSchema)]
struct Product {
    /// The product.
    sku: String,
    /// The sequence number of its last event.
    version: u64,
    #[serde(flatten)]
    numbers: Numbers,
    /// Units ordered without a placement.
    backordered: u64,
    /// Of these, units that the queue's cap counts: those that have waited since they were asked for.
    queued: u64,
    /// How many units of new requests may wait; null: any number.
    queue_cap: Option<u64>,
    /// Whether promises move to earlier stock whenever there is some.
    auto_improve: bool,
    /// Which batches go first.
    strategy: &'static str,
    /// For how many days its units must be of use from the day they are ready, unless a line says otherwise.
    min_days: u16,
    /// Whether each of its batches must say when it expires.
    requires_expiry: bool,
    /// For how many days after its ETA a batch that has not come counts for new promises; null: for ever.
    overdue_days: Option<u16>,
    /// The same numbers, location by location, and what is to be kept there.
    locations: BTreeMap<String, AtLocation>,
    /// Open batches, in order of preference.
    batches: Vec<Batch>,
}

impl From<ProductView> for Product {
    fn from(view: ProductView) -> Self {
        Self {
            sku: view.sku.to_string(),
            version: view.version,
            numbers: view.numbers.into(),
            backordered: view.backordered,
            queued: view.queued,
            queue_cap: view.settings.queue_cap,
            auto_improve: view.settings.auto_improve,
            strategy: view.strategy.name(),
            min_days: view.settings.min_days,
            requires_expiry: view.settings.requires_expiry,
            overdue_days: view.settings.overdue_days,
            locations: view.locations.iter().map(|at| (at.location.to_string(), at.into())).collect(),
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

/// Units that wait.
#[derive(Serialize, ToSchema)]
struct Waiting {
    /// Units.
    qty: u64,
    /// Their seniority among units of their priority: the lower, the earlier they were accepted.
    accepted: u64,
    /// The line they belong to.
    line: Line,
}

/// A page of a queue.
#[derive(Serialize, ToSchema)]
struct QueuePage {
    /// Who waits, in the order in which they are served.
    waiting: Vec<Waiting>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

/// What waits of a product.
#[derive(Serialize, ToSchema)]
struct Backlog {
    /// The product.
    sku: String,
    /// Units ordered without a placement.
    backordered: u64,
    /// Of these, units that have waited since they were asked for.
    queued: u64,
    /// Units that will come.
    incoming: u64,
    /// When the next batch is expected; null: none is.
    #[schema(format = Date)]
    next_eta: Option<String>,
}

/// A page of the backlog.
#[derive(Serialize, ToSchema)]
struct BacklogPage {
    /// Products of which something waits, in byte order of SKU.
    products: Vec<Backlog>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

/// Makes a product known, or changes its settings.
///
/// All settings are said: what is left out is set to its default. Orders may wait for a product that has no batch yet.
#[utoipa::path(
    put, path = "/v1/products/{sku}", tag = "products",
    params(("sku" = schemas::Sku, Path, description = "The product")),
    request_body = ProductSettings,
    responses(
        (status = 200, description = "Changed, or the same", body = Product),
        (status = 201, description = "New", body = Product),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
async fn put_product(
    State(state): State<WebState>,
    path: Names,
    Caused(cause): Caused,
    Body(body): Body<ProductSettings>,
) -> Result<(StatusCode, Json<Product>), Problem> {
    let command = asked::command(asked::products::set, &path, body)?;
    match state.handle(command, cause).await?? {
        Reply::Product(ProductReply { declared, product }) => Ok((status_of(declared), Json(product.into()))),
        _ => Err(Problem::other_reply()),
    }
}

/// Moves promises to earlier stock.
///
/// By seniority, each placement goes to strictly earlier batches that have units free.
#[utoipa::path(
    post, path = "/v1/products/{sku}/improve", tag = "products",
    params(("sku" = schemas::Sku, Path, description = "The product")),
    responses(
        (status = 200, description = "The product as it is now", body = Product),
        (status = 422, description = "Unknown SKU", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn improve(State(state): State<WebState>, path: Names, Caused(cause): Caused) -> Result<Json<Product>, Problem> {
    let command = asked::command(asked::products::improve, &path, Nothing::default())?;
    match state.handle(command, cause).await?? {
        Reply::Product(reply) => Ok(Json(reply.product.into())),
        _ => Err(Problem::other_reply()),
    }
}

pub(super) fn status_of(declared: Declared) -> StatusCode {
    match declared {
        Declared::New => StatusCode::CREATED,
        Declared::Changed | Declared::Same => StatusCode::OK,
    }
}

/// A product's numbers and its open batches.
#[utoipa::path(
    get, path = "/v1/products/{sku}", tag = "products",
    params(("sku" = schemas::Sku, Path, description = "The product")),
    responses(
        (status = 200, description = "The product", body = Product),
        (status = 404, description = "It was never made known, nor a batch of it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn get_product(State(state): State<WebState>, path: Names) -> Result<Json<Product>, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let sku = faults.or(sku)?;
    match views::product(state.reader.as_ref(), state.foresight.as_ref(), &sku).await? {
        Some(view) => Ok(Json(view.into())),
        None => Err(Problem::unknown(format!("unknown SKU {sku}"))),
    }
}

/// Products, in byte order of SKU.
#[utoipa::path(
    get, path = "/v1/products", tag = "products",
    params(
        ("after" = Option<schemas::Sku>, Query, description = "The last SKU of the page before"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said")
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
    let products =
        views::products(state.reader.as_ref(), state.foresight.as_ref(), after.as_ref(), false, limit).await?;
    let next = products.last().filter(|_| products.len() == limit).map(|last| last.sku.to_string());
    Ok(Json(ProductPage { products: products.into_iter().map(Product::from).collect(), next }))
}

/// A product's lines, accepted last first: who is promised, who waits.
#[utoipa::path(
    get, path = "/v1/products/{sku}/lines", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("state" = Option<schemas::StateName>, Query, description = "Only lines that are `held`, `backordered`, `allocated`, `lapsed` or `cancelled`"),
        ("batch" = Option<schemas::BatchRef>, Query, description = "Only lines placed in this batch"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said")
    ),
    responses(
        (status = 200, description = "A page", body = LinePage),
        (status = 404, description = "It was never made known, nor a batch of it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_lines(
    State(state): State<WebState>,
    path: Names,
    mut query: QueryFields,
) -> Result<Json<LinePage>, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let filter = LineFilter {
        state: query.take(&mut faults, "state"),
        batch: query.take::<BatchRef>(&mut faults, "batch"),
        units_of: None,
    };
    let after = query.take::<LineCursor>(&mut faults, "after").map(|LineCursor(key)| key);
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    query.finish(&mut faults);
    let sku = faults.or(sku)?;
    match views::product_lines(state.reader.as_ref(), state.foresight.as_ref(), &sku, &filter, after.as_ref(), limit)
        .await?
    {
        None => Err(Problem::unknown(format!("unknown SKU {sku}"))),
        Some(lines) => {
            let next =
                lines.last().filter(|_| lines.len() == limit).map(|last| LineCursor(last.key.clone()).to_string());
            Ok(Json(LinePage { lines: lines.into_iter().map(Line::from).collect(), next }))
        }
    }
}

/// A product's queue: who waits, in the order in which they are served.
#[utoipa::path(
    get, path = "/v1/products/{sku}/queue", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said")
    ),
    responses(
        (status = 200, description = "A page", body = QueuePage),
        (status = 404, description = "It was never made known, nor a batch of it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_queue(
    State(state): State<WebState>,
    path: Names,
    mut query: QueryFields,
) -> Result<Json<QueuePage>, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let after = query.take::<QueueCursor>(&mut faults, "after").map(|QueueCursor(seniority)| seniority);
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    query.finish(&mut faults);
    let sku = faults.or(sku)?;
    let Some(waiting) = views::queue(state.reader.as_ref(), state.foresight.as_ref(), &sku, after, limit).await? else {
        return Err(Problem::unknown(format!("unknown SKU {sku}")));
    };
    let cursor = |last: &QueueView| QueueCursor((Reverse(last.line.terms.priority), last.accepted)).to_string();
    let next = waiting.last().filter(|_| waiting.len() == limit).map(cursor);
    let waiting = waiting
        .into_iter()
        .map(|units| Waiting { qty: units.qty, accepted: units.accepted, line: units.line.into() })
        .collect();
    Ok(Json(QueuePage { waiting, next }))
}

/// The backlog over all products: what waits, and what will come.
#[utoipa::path(
    get, path = "/v1/backlog", tag = "products",
    params(
        ("after" = Option<schemas::Sku>, Query, description = "The last SKU of the page before"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said")
    ),
    responses(
        (status = 200, description = "A page", body = BacklogPage),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_backlog(State(state): State<WebState>, mut query: QueryFields) -> Result<Json<BacklogPage>, Problem> {
    let mut faults = Faults::default();
    let after = query.take::<Sku>(&mut faults, "after");
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    query.finish(&mut faults);
    faults.or(Some(()))?;
    let products =
        views::products(state.reader.as_ref(), state.foresight.as_ref(), after.as_ref(), true, limit).await?;
    let next = products.last().filter(|_| products.len() == limit).map(|last| last.sku.to_string());
    let products = products
        .into_iter()
        .filter(|product| product.backordered > 0)
        .map(|product| Backlog {
            next_eta: product.batches.iter().filter_map(|batch| batch.eta).min().map(date_text),
            sku: product.sku.to_string(),
            backordered: product.backordered,
            queued: product.queued,
            incoming: product.numbers.incoming,
        })
        .collect();
    Ok(Json(BacklogPage { products, next }))
}
