//! From JSON back to events.

use allocation_domain::commands::{Rest, ReturnTo};
use allocation_domain::{
    AdjustmentKind, BatchQuantity, BatchRef, DeallocationReason, Event, LineId, LineKey, Location, Locations, OrderId,
    Promise, Quantity, Reason, Settings, Sku, Split, Strategy, Terms,
};
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::levels::{self, LevelsJson};
use super::{OVER_LOCATIONS, parse_date};

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
    split: Option<SplitIn>,
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
    overdue_days: Option<u16>,
    location: Option<String>,
    locations: Option<LocationsIn>,
    threshold: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SplitIn {
    Flag(bool),
    Over(String),
}

/// Of a product, what is to be kept at each; of a line, those that it accepts.
#[derive(Deserialize)]
#[serde(untagged)]
enum LocationsIn {
    Levels(LevelsJson),
    Accepted(Vec<String>),
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
        let least = || quantity("min_split", self.min_split);
        let split = match self.split.as_ref().ok_or_else(|| missing("split"))? {
            SplitIn::Flag(false) => Split::Never,
            SplitIn::Flag(true) => Split::Parts(least()?),
            SplitIn::Over(over) if over == OVER_LOCATIONS => Split::OverLocations(least()?),
            SplitIn::Over(_) => return Err(missing("split")),
        };
        let locations = match &self.locations {
            None => None,
            Some(LocationsIn::Accepted(accepted)) => {
                let accepted: Result<Vec<Location>, _> = accepted.iter().map(|name| Location::new(&**name)).collect();
                Some(Locations::new(accepted.map_err(bad)?).map_err(bad)?)
            }
            Some(LocationsIn::Levels(_)) => return Err(missing("locations")),
        };
        Ok(Terms {
            priority: given("priority", self.priority)?,
            by: eta(self.by.as_deref())?,
            not_before: eta(self.not_before.as_deref())?,
            split,
            min_days: self.min_days,
            locations,
        })
    }

    fn stock(&self) -> Result<(Location, u64, u64), NotAnEvent> {
        let (available, threshold) = (given("available", self.available)?, given("threshold", self.threshold)?);
        Ok((self.location()?, available, threshold))
    }

    /// Where it is; events of before batches had locations do not say.
    fn location(&self) -> Result<Location, NotAnEvent> {
        self.location.as_deref().map_or_else(|| Ok(Location::default()), |name| Location::new(name).map_err(bad))
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

pub(super) fn bad(error: impl std::fmt::Display) -> NotAnEvent {
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
                overdue_days: data.overdue_days,
                levels: match &data.locations {
                    None => std::collections::BTreeMap::new(),
                    Some(LocationsIn::Levels(of_each)) => levels::read(of_each).map_err(bad)?,
                    Some(LocationsIn::Accepted(_)) => return Err(missing("locations")),
                },
            },
        },
        "allocation.batch_created.v1" => Event::BatchCreated {
            reference: data.reference()?,
            qty: data.batch_qty()?,
            eta: eta(data.eta.as_deref())?,
            expires_on: eta(data.expires_on.as_deref())?,
            location: data.location()?,
        },
        "allocation.batch_transferred.v1" => {
            let to = data.to.as_ref().and_then(serde_json::Value::as_str).ok_or_else(|| missing("to"))?;
            Event::Transferred { reference: data.reference()?, qty: data.qty()?, to: BatchRef::new(to).map_err(bad)? }
        }
        "allocation.low_stock.v1" => {
            let (location, available, threshold) = data.stock()?;
            Event::LowStock { location, available, threshold }
        }
        "allocation.restocked.v1" => {
            let (location, available, threshold) = data.stock()?;
            Event::Restocked { location, available, threshold }
        }
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
            split: !matches!(data.split, Some(SplitIn::Flag(false))),
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
