//! Events as JSON: the one place that knows how they look outside.
//!
//! Each is a `CloudEvents` 1.0 envelope around the facts. What is built here is stored, and served and sent untouched.

use std::sync::Arc;

use allocation_domain::commands::{Rest, ReturnTo};
use allocation_domain::{
    AdjustmentKind, BatchQuantity, BatchRef, DeallocationReason, Event, LineId, LineKey, OrderId, Promise, Quantity,
    Reason, Settings, Sku, Split, Strategy, Terms,
};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

/// Where a change came from: stands in the metadata of every event it raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Ties together what one request caused.
    pub correlation: Arc<str>,
    /// Who asked.
    pub actor: Arc<str>,
    /// The W3C trace it belongs to.
    pub traceparent: Option<Arc<str>>,
}

/// The `source` of all our events.
pub const SOURCE: &str = "/allocation";

/// The event's name on the wire, and of the channel it is published on.
pub fn topic(event: &Event) -> &'static str {
    match event {
        Event::ProductChanged { .. } => "product_changed",
        Event::BatchCreated { .. } => "batch_created",
        Event::BatchQuantityChanged { .. } => "batch_quantity_changed",
        Event::BatchEtaChanged { .. } => "batch_eta_changed",
        Event::ExpiryChanged { .. } => "batch_expiry_changed",
        Event::BatchExpired { .. } => "batch_expired",
        Event::BatchReceived { .. } => "batch_received",
        Event::BatchCancelled { .. } => "batch_cancelled",
        Event::BatchAdjusted { .. } => "batch_adjusted",
        Event::Quarantined { .. } => "batch_quarantined",
        Event::Released { .. } => "batch_released",
        Event::LineAccepted { .. } => "line_accepted",
        Event::Held { .. } => "line_held",
        Event::HoldExtended { .. } => "hold_extended",
        Event::HoldExpired { .. } => "hold_expired",
        Event::HoldLost { .. } => "hold_lost",
        Event::Allocated { .. } => "line_allocated",
        Event::Deallocated { .. } => "line_deallocated",
        Event::Backordered { .. } => "line_backordered",
        Event::Locked { .. } => "line_locked",
        Event::Unlocked { .. } => "line_unlocked",
        Event::Shipped { .. } => "line_shipped",
        Event::Returned { .. } => "line_returned",
        Event::LineChanged { .. } => "line_changed",
        Event::LineCancelled { .. } => "line_cancelled",
        Event::PromiseChanged { .. } => "promise_changed",
        Event::OutOfStock { .. } => "out_of_stock",
        Event::BooksRepaired { .. } => "books_repaired",
    }
}

#[derive(Serialize)]
struct EnvelopeOut<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'static str,
    r#type: Type,
    subject: &'a str,
    time: String,
    sequence: u64,
    correlation: &'a str,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    data: DataOut<'a>,
}

/// `allocation.line_allocated.v1`: the schema's version is part of the type.
struct Type(&'static str);

impl Serialize for Type {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("allocation.{}.v1", self.0))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum DataOut<'a> {
    Product {
        queue_cap: Option<u64>,
        auto_improve: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        strategy: Option<&'static str>,
        min_days: u16,
        requires_expiry: bool,
    },
    BatchCreated {
        r#ref: &'a str,
        qty: u64,
        eta: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_on: Option<String>,
    },
    BatchExpiryChanged {
        r#ref: &'a str,
        from: Option<String>,
        to: Option<String>,
        expired: bool,
    },
    BatchQuantityChanged {
        r#ref: &'a str,
        from: u64,
        to: u64,
    },
    BatchEtaChanged {
        r#ref: &'a str,
        from: Option<String>,
        to: Option<String>,
    },
    BatchReceived {
        r#ref: &'a str,
        from: u64,
        qty: u64,
        rest: &'static str,
    },
    BatchAdjusted {
        r#ref: &'a str,
        kind: &'static str,
        from: u64,
        to: u64,
        reason: &'a str,
    },
    /// Of a batch that was cancelled or has expired, and of units set aside or given free.
    BatchUnits {
        r#ref: &'a str,
        qty: u64,
    },
    Line {
        order_id: &'a str,
        line: &'a str,
        #[serde(flatten)]
        of_line: OfLine<'a>,
    },
    /// What nearly every event is: without the detour that `flatten` takes.
    Placed {
        order_id: &'a str,
        line: &'a str,
        qty: u64,
        r#ref: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        accepted: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        split: Option<bool>,
        #[serde(skip_serializing_if = "is_false")]
        held: bool,
    },
    OutOfStock {
        asked: u64,
        available: u64,
    },
    BooksRepaired {
        differences: u64,
    },
}

/// What is said of a line, beside its name.
#[derive(Serialize)]
#[serde(untagged)]
enum OfLine<'a> {
    Accepted {
        requested: u64,
        dropped: u64,
        #[serde(flatten)]
        terms: TermsOut,
    },
    Changed {
        from: u64,
        to: u64,
        dropped: u64,
        #[serde(flatten)]
        terms: TermsOut,
    },
    Held {
        qty: u64,
        r#ref: &'a str,
        accepted: u64,
        until: String,
    },
    Until {
        until: String,
    },
    Deallocated {
        qty: u64,
        r#ref: &'a str,
        accepted: u64,
        reason: &'static str,
        #[serde(skip_serializing_if = "is_false")]
        held: bool,
    },
    Returned {
        qty: u64,
        r#ref: &'a str,
        to: &'static str,
    },
    Backordered {
        qty: u64,
        accepted: u64,
        displaced: bool,
    },
    Promise {
        from: String,
        to: String,
    },
    Qty {
        qty: u64,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Serialize)]
struct TermsOut {
    priority: i32,
    by: Option<String>,
    not_before: Option<String>,
    split: bool,
    min_split: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_days: Option<u16>,
}

impl From<&Terms> for TermsOut {
    fn from(terms: &Terms) -> Self {
        Self {
            priority: terms.priority,
            by: terms.by.map(date_text),
            not_before: terms.not_before.map(date_text),
            split: terms.split.is_allowed(),
            min_split: terms.split.least().units(),
            min_days: terms.min_days,
        }
    }
}

fn promise_text(promise: Promise) -> String {
    match promise {
        Promise::None => "none".to_owned(),
        Promise::OnHand => "on_hand".to_owned(),
        Promise::On(date) => date_text(date),
    }
}

/// An instant as `2011-01-02T03:04:05Z`.
pub fn instant_text(instant: OffsetDateTime) -> String {
    instant.format(&Rfc3339).unwrap_or_default()
}

/// A date as `2011-01-02`.
pub fn date_text(date: Date) -> String {
    // Alike in every release, unlike the `Display` of the library.
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// Reads `2011-01-02`.
pub fn parse_date(text: &str) -> Option<Date> {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    Date::parse(text, format).ok().filter(|date| (1..=9999).contains(&date.year()) && text.len() == 10)
}

fn data_of(sequence: u64, event: &Event) -> DataOut<'_> {
    // Units accepted by this very event need not say so.
    let earlier = |accepted: u64| (accepted != sequence).then_some(accepted);
    match event {
        Event::Allocated { line, accepted, qty, reference, split, held } => DataOut::Placed {
            order_id: line.order_id.as_str(),
            line: line.line.as_str(),
            qty: qty.units(),
            r#ref: reference.as_str(),
            accepted: earlier(*accepted),
            split: (!split).then_some(false),
            held: *held,
        },
        Event::HoldExpired { line, accepted, qty, reference }
        | Event::Locked { line, accepted, qty, reference }
        | Event::Unlocked { line, accepted, qty, reference }
        | Event::Shipped { line, accepted, qty, reference } => DataOut::Placed {
            order_id: line.order_id.as_str(),
            line: line.line.as_str(),
            qty: qty.units(),
            r#ref: reference.as_str(),
            accepted: Some(*accepted),
            split: None,
            held: false,
        },
        Event::LineAccepted { line, requested, dropped, terms } => {
            of_line(line, OfLine::Accepted { requested: requested.units(), dropped: *dropped, terms: terms.into() })
        }
        Event::LineChanged { line, from, to, dropped, terms } => of_line(
            line,
            OfLine::Changed { from: from.units(), to: to.units(), dropped: *dropped, terms: terms.into() },
        ),
        Event::Held { line, accepted, qty, reference, until } => of_line(
            line,
            OfLine::Held {
                qty: qty.units(),
                r#ref: reference.as_str(),
                accepted: *accepted,
                until: instant_text(*until),
            },
        ),
        Event::HoldExtended { line, until } => of_line(line, OfLine::Until { until: instant_text(*until) }),
        Event::Deallocated { line, accepted, qty, reference, reason, held } => of_line(
            line,
            OfLine::Deallocated {
                qty: qty.units(),
                r#ref: reference.as_str(),
                accepted: *accepted,
                reason: reason.name(),
                held: *held,
            },
        ),
        Event::Returned { line, qty, reference, to } => {
            of_line(line, OfLine::Returned { qty: qty.units(), r#ref: reference.as_str(), to: to.name() })
        }
        Event::Backordered { line, accepted, qty, displaced } => {
            of_line(line, OfLine::Backordered { qty: qty.units(), accepted: *accepted, displaced: *displaced })
        }
        Event::PromiseChanged { line, from, to } => {
            of_line(line, OfLine::Promise { from: promise_text(*from), to: promise_text(*to) })
        }
        Event::HoldLost { line, qty } | Event::LineCancelled { line, qty } => {
            of_line(line, OfLine::Qty { qty: qty.units() })
        }
        _ => data_of_product(event),
    }
}

/// What is said of a product and its batches.
fn data_of_product(event: &Event) -> DataOut<'_> {
    match event {
        Event::ProductChanged { settings } => {
            let Settings { queue_cap, auto_improve, strategy, min_days, requires_expiry } = *settings;
            let strategy = strategy.map(Strategy::name);
            DataOut::Product { queue_cap, auto_improve, strategy, min_days, requires_expiry }
        }
        Event::BatchCreated { reference, qty, eta, expires_on } => DataOut::BatchCreated {
            r#ref: reference.as_str(),
            qty: qty.units(),
            eta: eta.map(date_text),
            expires_on: expires_on.map(date_text),
        },
        Event::ExpiryChanged { reference, from, to, expired } => {
            let (from, to) = (from.map(date_text), to.map(date_text));
            DataOut::BatchExpiryChanged { r#ref: reference.as_str(), from, to, expired: *expired }
        }
        Event::BatchQuantityChanged { reference, from, to } => {
            DataOut::BatchQuantityChanged { r#ref: reference.as_str(), from: from.units(), to: to.units() }
        }
        Event::BatchEtaChanged { reference, from, to } => {
            let (from, to) = (from.map(date_text), to.map(date_text));
            DataOut::BatchEtaChanged { r#ref: reference.as_str(), from, to }
        }
        Event::BatchReceived { reference, from, qty, rest } => {
            let rest = match rest {
                Rest::Keep => "keep",
                Rest::Cancel => "cancel",
            };
            DataOut::BatchReceived { r#ref: reference.as_str(), from: from.units(), qty: qty.units(), rest }
        }
        Event::BatchCancelled { reference, qty }
        | Event::BatchExpired { reference, qty }
        | Event::Quarantined { reference, qty }
        | Event::Released { reference, qty } => DataOut::BatchUnits { r#ref: reference.as_str(), qty: qty.units() },
        Event::BatchAdjusted { reference, kind, from, to, reason } => DataOut::BatchAdjusted {
            r#ref: reference.as_str(),
            kind: kind.name(),
            from: from.units(),
            to: to.units(),
            reason: reason.as_str(),
        },
        Event::OutOfStock { asked, available } => DataOut::OutOfStock { asked: *asked, available: *available },
        Event::BooksRepaired { differences } => DataOut::BooksRepaired { differences: *differences },
        Event::LineAccepted { .. }
        | Event::Held { .. }
        | Event::HoldExtended { .. }
        | Event::HoldExpired { .. }
        | Event::HoldLost { .. }
        | Event::Allocated { .. }
        | Event::Deallocated { .. }
        | Event::Backordered { .. }
        | Event::Locked { .. }
        | Event::Unlocked { .. }
        | Event::Shipped { .. }
        | Event::Returned { .. }
        | Event::LineChanged { .. }
        | Event::LineCancelled { .. }
        | Event::PromiseChanged { .. } => unreachable!("what is said of lines is said above"),
    }
}

fn of_line<'a>(line: &'a LineKey, of_line: OfLine<'a>) -> DataOut<'a> {
    DataOut::Line { order_id: line.order_id.as_str(), line: line.line.as_str(), of_line }
}

/// The whole event as JSON.
pub fn event_json(id: Uuid, sku: &Sku, sequence: u64, at: OffsetDateTime, cause: &Cause, event: &Event) -> String {
    let data = data_of(sequence, event);
    let envelope = EnvelopeOut {
        specversion: "1.0",
        id,
        source: SOURCE,
        r#type: Type(topic(event)),
        subject: sku.as_str(),
        time: instant_text(at),
        sequence,
        correlation: &cause.correlation,
        actor: &cause.actor,
        traceparent: cause.traceparent.as_deref(),
        data,
    };
    serde_json::to_string(&envelope).expect("texts and numbers always have a JSON form")
}

/// What the JSON of every event about a batch has in it, and that of hardly any other.
pub fn names_batch(reference: &BatchRef) -> String {
    format!("\"ref\":{}", serde_json::Value::from(reference.as_str()))
}

/// An event as read back from its JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireEvent {
    /// Its id.
    pub id: Uuid,
    /// The product.
    pub sku: Sku,
    /// Its number among the product's events.
    pub sequence: u64,
    /// When it happened.
    pub time: OffsetDateTime,
    /// What the request that caused it is called.
    pub correlation: String,
    /// Who asked.
    pub actor: String,
    /// What happened.
    pub event: Event,
}

/// Why a text is no event of ours.
#[derive(Debug, thiserror::Error)]
#[error("not an event: {0}")]
pub struct NotAnEvent(String);

#[derive(Deserialize)]
struct EnvelopeIn {
    id: Uuid,
    r#type: String,
    subject: String,
    time: String,
    sequence: u64,
    correlation: String,
    actor: String,
    data: DataIn,
}

/// All that any event may say; which of it is needed depends on the type.
#[derive(Deserialize)]
struct DataIn {
    r#ref: Option<String>,
    order_id: Option<String>,
    line: Option<String>,
    qty: Option<u64>,
    eta: Option<String>,
    from: Option<serde_json::Value>,
    to: Option<serde_json::Value>,
    reason: Option<String>,
    asked: Option<u64>,
    available: Option<u64>,
    accepted: Option<u64>,
    split: Option<bool>,
    min_split: Option<u64>,
    priority: Option<i32>,
    by: Option<String>,
    not_before: Option<String>,
    requested: Option<u64>,
    dropped: Option<u64>,
    displaced: Option<bool>,
    until: Option<String>,
    rest: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    held: bool,
    queue_cap: Option<u64>,
    auto_improve: Option<bool>,
    strategy: Option<String>,
    min_days: Option<u16>,
    requires_expiry: Option<bool>,
    expires_on: Option<String>,
    expired: Option<bool>,
    differences: Option<u64>,
}

impl DataIn {
    fn reference(&self) -> Result<BatchRef, NotAnEvent> {
        BatchRef::new(self.r#ref.as_deref().ok_or_else(|| missing("ref"))?).map_err(bad)
    }

    fn key(&self) -> Result<LineKey, NotAnEvent> {
        Ok(LineKey {
            order_id: OrderId::new(self.order_id.as_deref().ok_or_else(|| missing("order_id"))?).map_err(bad)?,
            line: LineId::new(self.line.as_deref().ok_or_else(|| missing("line"))?).map_err(bad)?,
        })
    }

    fn qty(&self) -> Result<Quantity, NotAnEvent> {
        quantity("qty", self.qty)
    }

    fn batch_qty(&self) -> Result<BatchQuantity, NotAnEvent> {
        BatchQuantity::new(given("qty", self.qty)?).map_err(bad)
    }

    fn until(&self) -> Result<OffsetDateTime, NotAnEvent> {
        OffsetDateTime::parse(self.until.as_deref().ok_or_else(|| missing("until"))?, &Rfc3339).map_err(bad)
    }

    fn terms(&self) -> Result<Terms, NotAnEvent> {
        let split = if given("split", self.split)? {
            Split::Parts(quantity("min_split", self.min_split)?)
        } else {
            Split::Never
        };
        Ok(Terms {
            priority: given("priority", self.priority)?,
            by: eta(self.by.as_deref())?,
            not_before: eta(self.not_before.as_deref())?,
            split,
            min_days: self.min_days,
        })
    }
}

fn missing(field: &str) -> NotAnEvent {
    NotAnEvent(format!("no {field}"))
}

fn given<T>(field: &str, value: Option<T>) -> Result<T, NotAnEvent> {
    value.ok_or_else(|| missing(field))
}

fn quantity(field: &str, units: Option<u64>) -> Result<Quantity, NotAnEvent> {
    Quantity::new(given(field, units)?).map_err(bad)
}

fn promise(value: Option<&serde_json::Value>) -> Result<Promise, NotAnEvent> {
    Ok(match value.and_then(serde_json::Value::as_str).ok_or_else(|| missing("from or to"))? {
        "none" => Promise::None,
        "on_hand" => Promise::OnHand,
        date => Promise::On(parse_date(date).ok_or_else(|| bad(format!("{date:?} is no date")))?),
    })
}

fn bad(error: impl std::fmt::Display) -> NotAnEvent {
    NotAnEvent(error.to_string())
}

fn units(value: Option<&serde_json::Value>) -> Result<BatchQuantity, NotAnEvent> {
    let units = value.and_then(serde_json::Value::as_u64).ok_or_else(|| missing("from or to"))?;
    BatchQuantity::new(units).map_err(bad)
}

/// The one of these that has this name.
fn one_of<T: Copy>(
    field: &str,
    name: Option<&str>,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T, NotAnEvent> {
    let found = all.iter().copied().find(|one| Some(name_of(*one)) == name);
    found.ok_or_else(|| missing(field))
}

fn eta(text: Option<&str>) -> Result<Option<Date>, NotAnEvent> {
    text.map(|text| parse_date(text).ok_or_else(|| bad(format!("{text:?} is no date")))).transpose()
}

/// Reads an event back from its JSON.
///
/// # Errors
/// When the text is no event of this service, or of a version that this program does not know.
pub fn parse_event(json: &str) -> Result<WireEvent, NotAnEvent> {
    let envelope: EnvelopeIn = serde_json::from_str(json).map_err(bad)?;
    let kind = envelope.r#type.as_str();
    let event = match about_product(kind, &envelope.data)? {
        Some(event) => Some(event),
        None => about_line(kind, envelope.sequence, &envelope.data)?,
    };
    let event = event.ok_or_else(|| NotAnEvent(format!("unknown type {kind:?}")))?;
    Ok(WireEvent {
        id: envelope.id,
        sku: Sku::new(envelope.subject).map_err(bad)?,
        sequence: envelope.sequence,
        time: OffsetDateTime::parse(&envelope.time, &Rfc3339).map_err(bad)?,
        correlation: envelope.correlation,
        actor: envelope.actor,
        event,
    })
}

/// An event about a product or a batch of it.
fn about_product(kind: &str, data: &DataIn) -> Result<Option<Event>, NotAnEvent> {
    let end = |value: &Option<serde_json::Value>| eta(value.as_ref().and_then(serde_json::Value::as_str));
    Ok(Some(match kind {
        "allocation.product_changed.v1" => Event::ProductChanged {
            settings: Settings {
                queue_cap: data.queue_cap,
                auto_improve: given("auto_improve", data.auto_improve)?,
                strategy: match data.strategy.as_deref() {
                    None => None,
                    name => Some(one_of("strategy", name, &Strategy::ALL, Strategy::name)?),
                },
                min_days: given("min_days", data.min_days)?,
                requires_expiry: given("requires_expiry", data.requires_expiry)?,
            },
        },
        "allocation.batch_created.v1" => Event::BatchCreated {
            reference: data.reference()?,
            qty: data.batch_qty()?,
            eta: eta(data.eta.as_deref())?,
            expires_on: eta(data.expires_on.as_deref())?,
        },
        "allocation.batch_expiry_changed.v1" => Event::ExpiryChanged {
            reference: data.reference()?,
            from: end(&data.from)?,
            to: end(&data.to)?,
            expired: given("expired", data.expired)?,
        },
        "allocation.batch_expired.v1" => Event::BatchExpired { reference: data.reference()?, qty: data.batch_qty()? },
        "allocation.batch_quantity_changed.v1" => Event::BatchQuantityChanged {
            reference: data.reference()?,
            from: units(data.from.as_ref())?,
            to: units(data.to.as_ref())?,
        },
        "allocation.batch_eta_changed.v1" => {
            Event::BatchEtaChanged { reference: data.reference()?, from: end(&data.from)?, to: end(&data.to)? }
        }
        "allocation.batch_received.v1" => Event::BatchReceived {
            reference: data.reference()?,
            from: units(data.from.as_ref())?,
            qty: data.batch_qty()?,
            rest: match data.rest.as_deref() {
                Some("keep") => Rest::Keep,
                Some("cancel") => Rest::Cancel,
                _ => return Err(missing("rest")),
            },
        },
        "allocation.batch_cancelled.v1" => {
            Event::BatchCancelled { reference: data.reference()?, qty: data.batch_qty()? }
        }
        "allocation.batch_adjusted.v1" => Event::BatchAdjusted {
            reference: data.reference()?,
            kind: one_of("kind", data.kind.as_deref(), &AdjustmentKind::ALL, AdjustmentKind::name)?,
            from: units(data.from.as_ref())?,
            to: units(data.to.as_ref())?,
            reason: Reason::new(given("reason", data.reason.as_deref())?).map_err(bad)?,
        },
        "allocation.batch_quarantined.v1" => {
            Event::Quarantined { reference: data.reference()?, qty: data.batch_qty()? }
        }
        "allocation.batch_released.v1" => Event::Released { reference: data.reference()?, qty: data.batch_qty()? },
        "allocation.out_of_stock.v1" => {
            Event::OutOfStock { asked: given("asked", data.asked)?, available: given("available", data.available)? }
        }
        "allocation.books_repaired.v1" => Event::BooksRepaired { differences: given("differences", data.differences)? },
        _ => return Ok(None),
    }))
}

/// An event about a line.
fn about_line(kind: &str, sequence: u64, data: &DataIn) -> Result<Option<Event>, NotAnEvent> {
    // Units accepted by this very event need not say so.
    let accepted = data.accepted.unwrap_or(sequence);
    Ok(Some(match kind {
        "allocation.line_accepted.v1" => Event::LineAccepted {
            line: data.key()?,
            requested: quantity("requested", data.requested)?,
            dropped: given("dropped", data.dropped)?,
            terms: data.terms()?,
        },
        "allocation.line_held.v1" => Event::Held {
            line: data.key()?,
            accepted,
            qty: data.qty()?,
            reference: data.reference()?,
            until: data.until()?,
        },
        "allocation.hold_extended.v1" => Event::HoldExtended { line: data.key()?, until: data.until()? },
        "allocation.hold_expired.v1" => {
            Event::HoldExpired { line: data.key()?, accepted, qty: data.qty()?, reference: data.reference()? }
        }
        "allocation.hold_lost.v1" => Event::HoldLost { line: data.key()?, qty: data.qty()? },
        "allocation.line_allocated.v1" => Event::Allocated {
            line: data.key()?,
            accepted,
            qty: data.qty()?,
            reference: data.reference()?,
            split: data.split.unwrap_or(true),
            held: data.held,
        },
        "allocation.line_deallocated.v1" => Event::Deallocated {
            line: data.key()?,
            accepted,
            qty: data.qty()?,
            reference: data.reference()?,
            reason: match data.reason.as_deref() {
                Some("released") => DeallocationReason::Released,
                Some("displaced") => DeallocationReason::Displaced,
                _ => return Err(missing("reason")),
            },
            held: data.held,
        },
        "allocation.line_locked.v1" => {
            Event::Locked { line: data.key()?, accepted, qty: data.qty()?, reference: data.reference()? }
        }
        "allocation.line_unlocked.v1" => {
            Event::Unlocked { line: data.key()?, accepted, qty: data.qty()?, reference: data.reference()? }
        }
        "allocation.line_shipped.v1" => {
            Event::Shipped { line: data.key()?, accepted, qty: data.qty()?, reference: data.reference()? }
        }
        "allocation.line_returned.v1" => {
            let to = data.to.as_ref().and_then(serde_json::Value::as_str);
            let to = one_of("to", to, &ReturnTo::ALL, ReturnTo::name)?;
            Event::Returned { line: data.key()?, qty: data.qty()?, reference: data.reference()?, to }
        }
        "allocation.line_backordered.v1" => Event::Backordered {
            line: data.key()?,
            accepted,
            qty: data.qty()?,
            displaced: given("displaced", data.displaced)?,
        },
        "allocation.line_changed.v1" => Event::LineChanged {
            line: data.key()?,
            from: quantity("from", data.from.as_ref().and_then(serde_json::Value::as_u64))?,
            to: quantity("to", data.to.as_ref().and_then(serde_json::Value::as_u64))?,
            dropped: given("dropped", data.dropped)?,
            terms: data.terms()?,
        },
        "allocation.line_cancelled.v1" => Event::LineCancelled { line: data.key()?, qty: data.qty()? },
        "allocation.promise_changed.v1" => Event::PromiseChanged {
            line: data.key()?,
            from: promise(data.from.as_ref())?,
            to: promise(data.to.as_ref())?,
        },
        _ => return Ok(None),
    }))
}
