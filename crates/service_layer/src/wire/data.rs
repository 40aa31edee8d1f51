//! What stands in the `data` of each event: the shapes, and which event has which.

use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::levels::LevelsJson;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What holds for the product from now on.
#[derive(Serialize, ToSchema)]
pub(super) struct ProductChanged {
    /// The most units of new requests that may wait; null: any number.
    pub(super) queue_cap: Option<u64>,
    /// Whether promises move to earlier stock by themselves.
    pub(super) auto_improve: bool,
    /// Which batches go first; left out: as the service does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) strategy: Option<&'static str>,
    /// For how many days its units must be of use.
    pub(super) min_days: u16,
    /// Whether each batch must say when it expires.
    pub(super) requires_expiry: bool,
    /// After how many days a batch that has not come counts no more; left out: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) overdue_days: Option<u16>,
    /// What is to be kept at each location, and what is little; left out: nothing.
    #[serde(skip_serializing_if = "LevelsJson::is_empty")]
    #[schema(required = false)]
    pub(super) locations: LevelsJson,
}

/// A batch is known.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchCreated<'a> {
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Units.
    pub(super) qty: u64,
    /// When it is expected; null: it is on hand.
    #[schema(format = Date)]
    pub(super) eta: Option<String>,
    /// The last day on which its units are of use; left out: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Date, nullable = false)]
    pub(super) expires_on: Option<String>,
    /// Where it lies, or will lie.
    pub(super) location: &'a str,
}

/// Its last day is another.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchExpiryChanged<'a> {
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Before; null: it never expired.
    #[schema(format = Date)]
    pub(super) from: Option<String>,
    /// Now; null: it never expires.
    #[schema(format = Date)]
    pub(super) to: Option<String>,
    /// Whether it has expired by that.
    pub(super) expired: bool,
}

/// It holds another number of units.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchQuantityChanged<'a> {
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Units before.
    pub(super) from: u64,
    /// Units now.
    pub(super) to: u64,
}

/// It is expected on another day.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchEtaChanged<'a> {
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Before; null: it was on hand.
    #[schema(format = Date)]
    pub(super) from: Option<String>,
    /// Now; null: it has arrived.
    #[schema(format = Date)]
    pub(super) to: Option<String>,
}

/// It has come.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchReceived<'a> {
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Units expected.
    pub(super) from: u64,
    /// Units that came.
    pub(super) qty: u64,
    /// `keep`: those that did not come are a batch of their own; `cancel`: they never will.
    pub(super) rest: &'static str,
}

/// What it holds was corrected.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchAdjusted<'a> {
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// `damaged`, `found` or `recount`.
    pub(super) kind: &'static str,
    /// Units before.
    pub(super) from: u64,
    /// Units now.
    pub(super) to: u64,
    /// Why, in somebody's words.
    pub(super) reason: &'a str,
}

/// Units of a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchUnits<'a> {
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Units.
    pub(super) qty: u64,
}

/// Units left for another location.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchTransferred<'a> {
    /// The shipment that they left.
    pub(super) r#ref: &'a str,
    /// Units.
    pub(super) qty: u64,
    /// The batch that they are now.
    pub(super) to: &'a str,
}

/// Little is left at a location, or there is enough again.
#[derive(Serialize, ToSchema)]
pub(super) struct Stock<'a> {
    /// Where.
    pub(super) location: &'a str,
    /// Units on hand there that can be promised.
    pub(super) available: u64,
    /// What they have reached.
    pub(super) threshold: u64,
}

/// What a line's placements must obey.
#[derive(Serialize, ToSchema)]
pub(super) struct TermsOut<'a> {
    /// Who goes first: higher before lower.
    pub(super) priority: i32,
    /// The latest day it may be promised for; null: any.
    #[schema(format = Date)]
    pub(super) by: Option<String>,
    /// The day it is wanted, and no earlier; null: at once.
    #[schema(format = Date)]
    pub(super) not_before: Option<String>,
    /// Whether it may have its units from several batches, and over what.
    pub(super) split: SplitOut,
    /// No part but the remainder is smaller than this.
    pub(super) min_split: u64,
    /// For how many days its units must be of use; left out: as the product says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) min_days: Option<u16>,
    /// The locations it accepts, in order of preference; left out: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) locations: Option<Vec<&'a str>>,
}

/// `true` or `false`, or `"locations"`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SplitOut {
    /// In parts at one location, or not.
    Flag(bool),
    /// In parts at several locations.
    Over(&'static str),
}

/// A line was accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct LineAccepted<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units asked for.
    pub(super) requested: u64,
    /// Of these, units that were not to be had, and are not wanted later.
    pub(super) dropped: u64,
    #[serde(flatten)]
    pub(super) terms: TermsOut<'a>,
}

/// A line asks for something else.
#[derive(Serialize, ToSchema)]
pub(super) struct LineChanged<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units ordered before.
    pub(super) from: u64,
    /// Units asked for now.
    pub(super) to: u64,
    /// Of these, units that were not to be had.
    pub(super) dropped: u64,
    #[serde(flatten)]
    pub(super) terms: TermsOut<'a>,
}

/// A line has units for a while.
#[derive(Serialize, ToSchema)]
pub(super) struct LineHeld<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units.
    pub(super) qty: u64,
    /// From this shipment.
    pub(super) r#ref: &'a str,
    /// Their seniority.
    pub(super) accepted: u64,
    /// Until then, unless it is confirmed.
    #[schema(format = DateTime)]
    pub(super) until: String,
}

/// A hold lasts longer.
#[derive(Serialize, ToSchema)]
pub(super) struct HoldExtended<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Until then.
    #[schema(format = DateTime)]
    pub(super) until: String,
}

/// Units of a line in a batch: what nearly every event is about.
#[derive(Serialize, ToSchema)]
pub(super) struct Placed<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units.
    pub(super) qty: u64,
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Their seniority; left out: this event's sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) accepted: Option<u64>,
    /// `false`: the line must have all its units from one batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) split: Option<bool>,
    /// Whether they were held before; left out: no.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(super) held: bool,
}

/// A line no longer has units.
#[derive(Serialize, ToSchema)]
pub(super) struct LineDeallocated<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units.
    pub(super) qty: u64,
    /// The shipment.
    pub(super) r#ref: &'a str,
    /// Their seniority.
    pub(super) accepted: u64,
    /// `released`: somebody wished it; `displaced`: the batch no longer has them.
    pub(super) reason: &'static str,
    /// Whether they were held; left out: no.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(super) held: bool,
}

/// Shipped units have come back.
#[derive(Serialize, ToSchema)]
pub(super) struct LineReturned<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units.
    pub(super) qty: u64,
    /// Into this shipment; scrapped ones go into none, and this is where they came from.
    pub(super) r#ref: &'a str,
    /// `quarantine`, `restock` or `scrap`.
    pub(super) to: &'static str,
}

/// Units of a line wait for stock.
#[derive(Serialize, ToSchema)]
pub(super) struct LineBackordered<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units.
    pub(super) qty: u64,
    /// Their seniority.
    pub(super) accepted: u64,
    /// Whether they had a place before.
    pub(super) displaced: bool,
}

/// A line will be ready on another day than was promised.
#[derive(Serialize, ToSchema)]
pub(super) struct PromiseChanged<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Before: a date, `on_hand`, or `none`.
    pub(super) from: String,
    /// Now: a date, `on_hand`, or `none`.
    pub(super) to: String,
}

/// All units of a line.
#[derive(Serialize, ToSchema)]
pub(super) struct LineUnits<'a> {
    /// The order.
    pub(super) order_id: &'a str,
    /// Which of its lines.
    pub(super) line: &'a str,
    /// Units.
    pub(super) qty: u64,
}

/// A request was refused for lack of stock.
#[derive(Serialize, ToSchema)]
pub(super) struct OutOfStock {
    /// Units the request asked for.
    pub(super) asked: u64,
    /// Units on hand that nobody has been promised.
    pub(super) available: u64,
}

/// The tables were mended from the log.
#[derive(Serialize, ToSchema)]
pub(super) struct BooksRepaired {
    /// How many differences there were.
    pub(super) differences: u64,
}

/// An event as others know it.
pub struct EventForm {
    /// Its name on the wire: its type is `allocation.<topic>.v1`.
    pub topic: &'static str,
    /// When it happens.
    pub meaning: &'static str,
    /// What stands in its `data`.
    pub data: fn() -> RefOr<Schema>,
    /// The schemas that this refers to, by name.
    pub parts: fn(&mut Vec<(String, RefOr<Schema>)>),
}

macro_rules! event_forms {
    ($($topic:literal $data:ty: $meaning:literal),* $(,)?) => {
        /// Every event that is told.
        pub const EVENTS: &[EventForm] = &[$(EventForm {
            topic: $topic,
            meaning: $meaning,
            data: <$data>::schema,
            parts: <$data>::schemas,
        }),*];
    };
}

event_forms! {
    "product_changed" ProductChanged: "A product is known, or does something else",
    "batch_created" BatchCreated: "A batch is known",
    "batch_quantity_changed" BatchQuantityChanged: "A batch holds another number of units",
    "batch_eta_changed" BatchEtaChanged: "A batch is expected on another day, or has arrived",
    "batch_expiry_changed" BatchExpiryChanged: "A batch expires on another day",
    "batch_expired" BatchUnits: "A batch has expired, with so many units",
    "batch_received" BatchReceived: "An expected batch has come",
    "batch_cancelled" BatchUnits: "A batch of so many units will never come",
    "batch_adjusted" BatchAdjusted: "What a batch in the warehouse holds was corrected",
    "batch_quarantined" BatchUnits: "Units were set aside",
    "batch_released" BatchUnits: "Units that were set aside are free again",
    "batch_transferred" BatchTransferred: "Units left for another location",
    "low_stock" Stock: "Little is left to promise at a location",
    "restocked" Stock: "There is enough again at a location",
    "line_accepted" LineAccepted: "A line was accepted on terms that its first placement does not tell",
    "line_held" LineHeld: "A line has units for a while",
    "hold_extended" HoldExtended: "A hold lasts longer",
    "hold_expired" Placed: "A hold ran out: these units are free again",
    "hold_lost" LineUnits: "A hold ended because supply fell away",
    "line_allocated" Placed: "A line has been promised units",
    "line_deallocated" LineDeallocated: "A line no longer has units",
    "line_backordered" LineBackordered: "Units of a line wait for stock",
    "line_locked" Placed: "Units of a line were released to picking",
    "line_unlocked" Placed: "Units of a line were taken back from picking",
    "line_shipped" Placed: "Units of a line have left",
    "line_returned" LineReturned: "Shipped units have come back",
    "line_changed" LineChanged: "A line asks for something else",
    "line_cancelled" LineUnits: "A line is no longer wanted",
    "promise_changed" PromiseChanged: "A line will be ready on another day than was promised",
    "out_of_stock" OutOfStock: "A request was refused for lack of stock, for the first time since there was some",
    "books_repaired" BooksRepaired: "The tables differed from what the events tell, and were mended",
}
