//! From events to JSON.

use allocation_domain::commands::Rest;
use allocation_domain::{BatchRef, Event, LineKey, Location, Promise, Settings, Sku, Split, Strategy, Terms};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::levels::{LevelsJson, written};
use super::{Cause, SOURCE, date_text, instant_text, topic};

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
        #[serde(skip_serializing_if = "Option::is_none")]
        overdue_days: Option<u16>,
        #[serde(skip_serializing_if = "LevelsJson::is_empty")]
        locations: LevelsJson,
    },
    BatchCreated {
        r#ref: &'a str,
        qty: u64,
        eta: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_on: Option<String>,
        location: &'a str,
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
    BatchTransferred {
        r#ref: &'a str,
        qty: u64,
        to: &'a str,
    },
    /// Little is left at a location, or there is enough again.
    Stock {
        location: &'a str,
        available: u64,
        threshold: u64,
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
        terms: TermsOut<'a>,
    },
    Changed {
        from: u64,
        to: u64,
        dropped: u64,
        #[serde(flatten)]
        terms: TermsOut<'a>,
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
struct TermsOut<'a> {
    priority: i32,
    by: Option<String>,
    not_before: Option<String>,
    split: SplitOut,
    min_split: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_days: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<Vec<&'a str>>,
}

/// `true` or `false`, or `"locations"`.
#[derive(Serialize)]
#[serde(untagged)]
enum SplitOut {
    Flag(bool),
    Over(&'static str),
}

impl From<Split> for SplitOut {
    fn from(split: Split) -> Self {
        match split {
            Split::Never => Self::Flag(false),
            Split::Parts(_) => Self::Flag(true),
            Split::OverLocations(_) => Self::Over(super::OVER_LOCATIONS),
        }
    }
}

impl<'a> From<&'a Terms> for TermsOut<'a> {
    fn from(terms: &'a Terms) -> Self {
        Self {
            priority: terms.priority,
            by: terms.by.map(date_text),
            not_before: terms.not_before.map(date_text),
            split: terms.split.into(),
            min_split: terms.split.least().units(),
            min_days: terms.min_days,
            locations: terms.locations.as_ref().map(|accepted| accepted.iter().map(Location::as_str).collect()),
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

#[expect(clippy::too_many_lines, reason = "an arm for each event")]
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
        Event::ProductChanged { settings } => {
            let Settings { queue_cap, auto_improve, strategy, min_days, requires_expiry, overdue_days, ref levels } =
                *settings;
            let (strategy, locations) = (strategy.map(Strategy::name), written(levels));
            DataOut::Product { queue_cap, auto_improve, strategy, min_days, requires_expiry, overdue_days, locations }
        }
        Event::BatchCreated { reference, qty, eta, expires_on, location } => DataOut::BatchCreated {
            r#ref: reference.as_str(),
            qty: qty.units(),
            eta: eta.map(date_text),
            expires_on: expires_on.map(date_text),
            location: location.as_str(),
        },
        Event::Transferred { reference, qty, to } => {
            DataOut::BatchTransferred { r#ref: reference.as_str(), qty: qty.units(), to: to.as_str() }
        }
        Event::LowStock { location, available, threshold } | Event::Restocked { location, available, threshold } => {
            DataOut::Stock { location: location.as_str(), available: *available, threshold: *threshold }
        }
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
