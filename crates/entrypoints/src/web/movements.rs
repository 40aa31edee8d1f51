//! The ledger of a product's movements, as JSON in pages and as CSV in one piece.

use std::borrow::Cow;

use allocation_domain::{BatchRef, Sku};
use allocation_service_layer::access::Scope;
use allocation_service_layer::movements::{self, Reading};
use allocation_service_layer::ports::database::StoreError;
use allocation_service_layer::ports::reader::LineFilter;
use allocation_service_layer::views::{self, LineView};
use allocation_service_layer::wire::instant_text;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::WebState;
use super::access::Routes;
use super::extract::QueryFields;
use super::json::Json;
use super::problem::Problem;
use crate::asked::fields::{Faults, Limit, LineCursor, Names, Parse, Scalar};
use crate::asked::schemas;

pub(super) fn routes() -> Routes {
    Routes::new()
        .needing(Scope::StockRead, routes!(list_movements))
        .needing(Scope::StockRead, routes!(list_batch_movements))
        .needing(Scope::OrdersRead, routes!(list_recipients))
}

/// What an event changed of a batch.
#[derive(Serialize, ToSchema)]
struct Movement {
    /// Its number among the product's events.
    sequence: u64,
    /// When it happened.
    #[schema(format = DateTime)]
    at: String,
    /// The event, as the feed names it.
    event: &'static str,
    /// The batch.
    batch: String,
    /// The order whose units they are; null: nobody's.
    order_id: Option<String>,
    /// Which of its lines.
    line: Option<String>,
    /// Units that it was about, also where no number changes: those that came back and were scrapped.
    qty: u64,
    /// Units that came to the batch; fewer than 0: that left it.
    units: i64,
    /// Units more that are set aside.
    quarantined: i64,
    /// Units more that are placed for holds.
    held: i64,
    /// Units more that are allocated.
    allocated: i64,
    /// What an adjustment found: `damaged`, `found` or `recount`.
    kind: Option<&'static str>,
    /// Why: of an adjustment in somebody's words, of units that a line lost `released` or `displaced`.
    reason: Option<String>,
    /// What became of units that came back: `quarantine`, `restock` or `scrap`; of units that went to another location, the batch they are there.
    to: Option<String>,
    /// What the request that caused it is called.
    correlation: String,
    /// Who asked.
    actor: String,
    /// The batch's numbers after it.
    balance: Balance,
}

/// A batch's numbers.
#[derive(Serialize, ToSchema)]
struct Balance {
    /// Units there are: on hand when it has arrived, else incoming.
    units: u64,
    /// Of these, units that are set aside.
    quarantined: u64,
    /// Units placed for holds.
    held: u64,
    /// Units allocated from it.
    allocated: u64,
    /// Units nobody has been promised.
    free: u64,
}

impl From<movements::Movement> for Movement {
    fn from(movement: movements::Movement) -> Self {
        let (line, changes, balance) = (movement.line(), movement.changes, movement.balance);
        Self {
            sequence: movement.sequence(),
            at: instant_text(movement.at()),
            event: movement.topic(),
            batch: movement.batch.to_string(),
            order_id: line.map(|line| line.order_id.to_string()),
            line: line.map(|line| line.line.to_string()),
            qty: movement.qty,
            units: changes.units,
            quarantined: changes.quarantined,
            held: changes.held,
            allocated: changes.allocated,
            kind: movement.kind(),
            reason: movement.reason().map(str::to_owned),
            to: movement.to().map(str::to_owned),
            balance: Balance {
                units: balance.units,
                quarantined: balance.quarantined,
                held: balance.held,
                allocated: balance.allocated,
                free: balance.free(),
            },
            correlation: movement.of.correlation,
            actor: movement.of.actor,
        }
    }
}

/// A page of movements.
#[derive(Serialize, ToSchema)]
struct MovementPage {
    /// Movements, oldest first.
    movements: Vec<Movement>,
    /// What to give as `after` for the next page; null on the last. A page before it may be short, or empty.
    next: Option<u64>,
    /// Movements up to this `sequence` were archived and are not here; null: none that was asked for. The balances take them into account.
    archived: Option<u64>,
}

/// A line that got units of a batch.
#[derive(Serialize, ToSchema)]
struct Recipient {
    /// The order.
    order_id: String,
    /// Which of its lines.
    line: String,
    /// Units of the batch that it holds.
    held: u64,
    /// Units of the batch that are allocated to it.
    allocated: u64,
    /// Units of the batch that have left.
    shipped: u64,
    /// Of these, units that have come back.
    returned: u64,
}

impl Recipient {
    fn of(line: &LineView, batch: &BatchRef) -> Self {
        let placed = line.placements.iter().filter(|placement| placement.batch == *batch);
        let placed = placed.map(|placement| placement.qty).sum();
        let (held, allocated) = if line.held > 0 { (placed, 0) } else { (0, placed) };
        let shipped = line.shipments.iter().find(|shipped| shipped.batch == *batch);
        Self {
            order_id: line.key.order_id.to_string(),
            line: line.key.line.to_string(),
            held,
            allocated,
            shipped: shipped.map_or(0, |shipped| shipped.qty),
            returned: shipped.map_or(0, |shipped| shipped.returned),
        }
    }
}

/// A page of recipients.
#[derive(Serialize, ToSchema)]
struct RecipientPage {
    /// Lines, newest first.
    recipients: Vec<Recipient>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

/// How a ledger is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

impl Parse for Format {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Text("json") => Ok(Self::Json),
            Scalar::Text("csv") => Ok(Self::Csv),
            _ => Err("must be json or csv".into()),
        }
    }
}

impl Format {
    /// The first that the caller names of those that there are.
    fn accepted(headers: &HeaderMap) -> Self {
        let named = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges =
            named.flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or_default());
        ranges
            .find_map(|range| match range.trim().to_ascii_lowercase().as_str() {
                "text/csv" => Some(Self::Csv),
                "application/json" | "application/*" | "*/*" => Some(Self::Json),
                _ => None,
            })
            .unwrap_or(Self::Json)
    }
}

/// What happened to a product's units: its ledger, oldest first.
///
/// A movement is an event that is about units of a batch; each comes with the batch's numbers after it. What is due and not stored yet is
/// not among them, nor is what was archived (`archived` says so). As CSV (`format=csv`, or `Accept: text/csv`) all of it comes at once, a row for each movement; a text that a spreadsheet would
/// take for a formula has a `'` put before it.
#[utoipa::path(
    get, path = "/v1/products/{sku}/movements", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("after" = Option<schemas::Count>, Query, description = "`next` of the page before, or any `sequence`; from the beginning unless said"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said. Not with CSV"),
        ("format" = Option<schemas::FormatName>, Query, description = "`json` or `csv`; what `Accept` asks for unless said")
    ),
    responses(
        (status = 200, description = "A page, or all of it", content((MovementPage = "application/json"), (String = "text/csv"))),
        (status = 404, description = "It was never made known, nor a batch of it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_movements(
    State(state): State<WebState>,
    path: Names,
    headers: HeaderMap,
    query: QueryFields,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    let sku = path.get::<Sku>(&mut faults, "sku");
    let asked = Asked::of(query, &headers, &mut faults);
    let sku = faults.or(sku)?;
    ledger(state, &sku, None, asked).await
}

/// What happened to a batch's units: its ledger, oldest first.
///
/// As that of its product, with the movements of this batch only. A page for which 16,384 events of the product were read ends there,
/// full or not, and `next` tells where it goes on.
#[utoipa::path(
    get, path = "/v1/products/{sku}/batches/{ref}/movements", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference"),
        ("after" = Option<schemas::Count>, Query, description = "`next` of the page before, or any `sequence`; from the beginning unless said"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said. Not with CSV"),
        ("format" = Option<schemas::FormatName>, Query, description = "`json` or `csv`; what `Accept` asks for unless said")
    ),
    responses(
        (status = 200, description = "A page, or all of it", content((MovementPage = "application/json"), (String = "text/csv"))),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_batch_movements(
    State(state): State<WebState>,
    path: Names,
    headers: HeaderMap,
    query: QueryFields,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    let batch = path.batch(&mut faults);
    let asked = Asked::of(query, &headers, &mut faults);
    let (sku, reference) = faults.or(batch)?;
    ledger(state, &sku, Some(&reference), asked).await
}

/// Who got units of a batch: for a recall.
///
/// Lines that have units in it now, held or allocated, and those that units of it were shipped to, also when these came back; accepted last
/// first.
#[utoipa::path(
    get, path = "/v1/products/{sku}/batches/{ref}/recipients", tag = "products",
    params(
        ("sku" = schemas::Sku, Path, description = "The product"),
        ("ref" = schemas::BatchRef, Path, description = "The shipment's reference"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<schemas::PageSize>, Query, description = "How many, 1 to 1,000; 100 unless said")
    ),
    responses(
        (status = 200, description = "A page", body = RecipientPage),
        (status = 404, description = "Unknown batch", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Invalid values", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = Problem, content_type = "application/problem+json")
    )
)]
async fn list_recipients(
    State(state): State<WebState>,
    path: Names,
    mut query: QueryFields,
) -> Result<Json<RecipientPage>, Problem> {
    let mut faults = Faults::default();
    let batch = path.batch(&mut faults);
    let after = query.take::<LineCursor>(&mut faults, "after").map(|LineCursor(key)| key);
    let Limit(limit) = query.take(&mut faults, "limit").unwrap_or_default();
    query.finish(&mut faults);
    let (sku, reference) = faults.or(batch)?;
    if state.reader.span(&sku, Some(&reference)).await?.is_none() {
        return Err(unknown(&sku, Some(&reference)));
    }
    let filter = LineFilter { units_of: Some(reference.clone()), ..LineFilter::default() };
    let lines =
        views::product_lines(state.reader.as_ref(), state.foresight.as_ref(), &sku, &filter, after.as_ref(), limit)
            .await?
            .unwrap_or_default();
    let next = lines.last().filter(|_| lines.len() == limit).map(|last| LineCursor(last.key.clone()).to_string());
    Ok(Json(RecipientPage { recipients: lines.iter().map(|line| Recipient::of(line, &reference)).collect(), next }))
}

fn unknown(sku: &Sku, batch: Option<&BatchRef>) -> Problem {
    Problem::unknown(match batch {
        Some(reference) => format!("unknown batch {reference} of SKU {sku}"),
        None => format!("unknown SKU {sku}"),
    })
}

/// What of a ledger is wanted, and how.
struct Asked {
    after: u64,
    limit: usize,
    format: Format,
}

impl Asked {
    fn of(mut query: QueryFields, headers: &HeaderMap, faults: &mut Faults) -> Self {
        let after = query.take(faults, "after").unwrap_or(0);
        let limit = query.take::<Limit>(faults, "limit");
        let format = query.take(faults, "format").unwrap_or_else(|| Format::accepted(headers));
        query.finish(faults);
        if format == Format::Csv && limit.is_some() {
            faults.add("limit", "is for pages, and CSV has none");
        }
        let Limit(limit) = limit.unwrap_or_default();
        Self { after, limit, format }
    }
}

async fn ledger(state: WebState, sku: &Sku, batch: Option<&BatchRef>, asked: Asked) -> Result<Response, Problem> {
    let Some(mut reading) = Reading::begin(state.reader.as_ref(), sku, batch, asked.after).await? else {
        return Err(unknown(sku, batch));
    };
    let vary = (header::VARY, "accept");
    if asked.format == Format::Json {
        let movements = reading.next(state.reader.as_ref(), asked.limit).await?;
        let movements = movements.into_iter().map(Movement::from).collect();
        let page = MovementPage { movements, next: reading.goes_on_after(), archived: reading.archived() };
        return Ok(([vary], Json(page)).into_response());
    }
    // What can't be read at once is told like every failure; what fails later breaks the answer off.
    let first = rows(&reading.next(state.reader.as_ref(), CSV_PAGE).await?, true);
    let others = stream::try_unfold((state, reading), async |(state, mut reading)| {
        if reading.goes_on_after().is_none() {
            return Ok(None);
        }
        let page = reading.next(state.reader.as_ref(), CSV_PAGE).await.inspect_err(|why| {
            tracing::warn!(%why, "a ledger broke off");
        })?;
        Ok::<_, StoreError>(Some((rows(&page, false), (state, reading))))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"movements.csv\""),
        vary,
    ];
    Ok((headers, Body::from_stream(stream::once(async { Ok(first) }).chain(others))).into_response())
}

/// How many movements are read at a time for CSV.
const CSV_PAGE: usize = 1_000;

const COLUMNS: [&str; 21] = [
    "sequence",
    "at",
    "event",
    "batch",
    "order_id",
    "line",
    "qty",
    "units",
    "quarantined",
    "held",
    "allocated",
    "kind",
    "reason",
    "to",
    "correlation",
    "actor",
    "balance_units",
    "balance_quarantined",
    "balance_held",
    "balance_allocated",
    "balance_free",
];

/// Rows of CSV (RFC 4180), with or without the names of the columns before them.
fn rows(movements: &[movements::Movement], named: bool) -> Vec<u8> {
    let mut rows = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let mut write = |row: &[Cow<'_, str>]| {
        rows.write_record(row.iter().map(|cell| cell.as_bytes())).expect("memory takes it");
    };
    if named {
        write(&COLUMNS.map(Cow::from));
    }
    for movement in movements {
        let (line, changes, balance) = (movement.line(), movement.changes, movement.balance);
        let number = |number: u64| Cow::from(number.to_string());
        let change = |number: i64| Cow::from(number.to_string());
        write(&[
            number(movement.sequence()),
            instant_text(movement.at()).into(),
            movement.topic().into(),
            text(movement.batch.as_str()),
            text(line.map_or("", |line| line.order_id.as_str())),
            text(line.map_or("", |line| line.line.as_str())),
            number(movement.qty),
            change(changes.units),
            change(changes.quarantined),
            change(changes.held),
            change(changes.allocated),
            movement.kind().unwrap_or_default().into(),
            text(movement.reason().unwrap_or_default()),
            movement.to().unwrap_or_default().into(),
            text(&movement.of.correlation),
            text(&movement.of.actor),
            number(balance.units),
            number(balance.quarantined),
            number(balance.held),
            number(balance.allocated),
            number(balance.free()),
        ]);
    }
    rows.into_inner().expect("memory takes it")
}

/// A text from outside, such that no spreadsheet takes it for a formula.
fn text(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}").into() } else { text.into() }
}
