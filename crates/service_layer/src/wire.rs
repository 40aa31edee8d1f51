//! Events as JSON: the one place that knows how they look outside.
//!
//! Each is a `CloudEvents` 1.0 envelope around the facts. What is built here is stored, and served and sent untouched.

use std::sync::Arc;

use allocation_domain::{BatchQuantity, BatchRef, DeallocationReason, Event, LineId, LineKey, OrderId, Quantity, Sku};
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
        Event::BatchCreated { .. } => "batch_created",
        Event::BatchQuantityChanged { .. } => "batch_quantity_changed",
        Event::BatchEtaChanged { .. } => "batch_eta_changed",
        Event::Allocated { .. } => "line_allocated",
        Event::Deallocated { .. } => "line_deallocated",
        Event::Backordered { .. } => "line_backordered",
        Event::LineCancelled { .. } => "line_cancelled",
        Event::OutOfStock { .. } => "out_of_stock",
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
    BatchCreated { r#ref: &'a str, qty: u64, eta: Option<String> },
    BatchQuantityChanged { r#ref: &'a str, from: u64, to: u64 },
    BatchEtaChanged { r#ref: &'a str, from: Option<String>, to: Option<String> },
    Placed { order_id: &'a str, line: &'a str, qty: u64, r#ref: &'a str },
    Displaced { order_id: &'a str, line: &'a str, qty: u64, r#ref: &'a str, reason: &'static str },
    Line { order_id: &'a str, line: &'a str, qty: u64 },
    OutOfStock { asked: u64, available: u64 },
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

/// The whole event as JSON.
pub fn event_json(id: Uuid, sku: &Sku, sequence: u64, at: OffsetDateTime, cause: &Cause, event: &Event) -> String {
    let data = match event {
        Event::BatchCreated { reference, qty, eta } => {
            DataOut::BatchCreated { r#ref: reference.as_str(), qty: qty.units(), eta: eta.map(date_text) }
        }
        Event::BatchQuantityChanged { reference, from, to } => {
            DataOut::BatchQuantityChanged { r#ref: reference.as_str(), from: from.units(), to: to.units() }
        }
        Event::BatchEtaChanged { reference, from, to } => {
            DataOut::BatchEtaChanged { r#ref: reference.as_str(), from: from.map(date_text), to: to.map(date_text) }
        }
        Event::Allocated { line, qty, reference } => DataOut::Placed {
            order_id: line.order_id.as_str(),
            line: line.line.as_str(),
            qty: qty.units(),
            r#ref: reference.as_str(),
        },
        Event::Deallocated { line, qty, reference, reason } => DataOut::Displaced {
            order_id: line.order_id.as_str(),
            line: line.line.as_str(),
            qty: qty.units(),
            r#ref: reference.as_str(),
            reason: reason.name(),
        },
        Event::Backordered { line, qty } | Event::LineCancelled { line, qty } => {
            DataOut::Line { order_id: line.order_id.as_str(), line: line.line.as_str(), qty: qty.units() }
        }
        Event::OutOfStock { asked, available } => DataOut::OutOfStock { asked: *asked, available: *available },
    };
    let envelope = EnvelopeOut {
        specversion: "1.0",
        id,
        source: SOURCE,
        r#type: Type(topic(event)),
        subject: sku.as_str(),
        time: at.format(&Rfc3339).unwrap_or_default(),
        sequence,
        correlation: &cause.correlation,
        actor: &cause.actor,
        traceparent: cause.traceparent.as_deref(),
        data,
    };
    serde_json::to_string(&envelope).expect("texts and numbers always have a JSON form")
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
        Quantity::new(self.qty.ok_or_else(|| missing("qty"))?).map_err(bad)
    }
}

fn missing(field: &str) -> NotAnEvent {
    NotAnEvent(format!("no {field}"))
}

fn bad(error: impl std::fmt::Display) -> NotAnEvent {
    NotAnEvent(error.to_string())
}

fn units(value: Option<&serde_json::Value>) -> Result<BatchQuantity, NotAnEvent> {
    let units = value.and_then(serde_json::Value::as_u64).ok_or_else(|| missing("from or to"))?;
    BatchQuantity::new(units).map_err(bad)
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
    let data = &envelope.data;
    let end = |value: &Option<serde_json::Value>| eta(value.as_ref().and_then(serde_json::Value::as_str));
    let event = match envelope.r#type.as_str() {
        "allocation.batch_created.v1" => Event::BatchCreated {
            reference: data.reference()?,
            qty: BatchQuantity::new(data.qty.ok_or_else(|| missing("qty"))?).map_err(bad)?,
            eta: eta(data.eta.as_deref())?,
        },
        "allocation.batch_quantity_changed.v1" => Event::BatchQuantityChanged {
            reference: data.reference()?,
            from: units(data.from.as_ref())?,
            to: units(data.to.as_ref())?,
        },
        "allocation.batch_eta_changed.v1" => {
            Event::BatchEtaChanged { reference: data.reference()?, from: end(&data.from)?, to: end(&data.to)? }
        }
        "allocation.line_allocated.v1" => {
            Event::Allocated { line: data.key()?, qty: data.qty()?, reference: data.reference()? }
        }
        "allocation.line_deallocated.v1" => Event::Deallocated {
            line: data.key()?,
            qty: data.qty()?,
            reference: data.reference()?,
            reason: match data.reason.as_deref() {
                Some("released") => DeallocationReason::Released,
                Some("displaced") => DeallocationReason::Displaced,
                _ => return Err(missing("reason")),
            },
        },
        "allocation.line_backordered.v1" => Event::Backordered { line: data.key()?, qty: data.qty()? },
        "allocation.line_cancelled.v1" => Event::LineCancelled { line: data.key()?, qty: data.qty()? },
        "allocation.out_of_stock.v1" => Event::OutOfStock {
            asked: data.asked.ok_or_else(|| missing("asked"))?,
            available: data.available.ok_or_else(|| missing("available"))?,
        },
        other => return Err(NotAnEvent(format!("unknown type {other:?}"))),
    };
    Ok(WireEvent {
        id: envelope.id,
        sku: Sku::new(envelope.subject).map_err(bad)?,
        sequence: envelope.sequence,
        time: OffsetDateTime::parse(&envelope.time, &Rfc3339).map_err(bad)?,
        event,
    })
}
