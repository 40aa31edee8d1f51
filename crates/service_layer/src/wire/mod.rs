//! Events as JSON: the one place that knows how they look outside.
//!
//! Each is a `CloudEvents` 1.0 envelope around the facts. What is built here is stored, and served and sent untouched.

mod data;
mod envelope;
mod levels;
mod read;
mod write;

use std::sync::Arc;

use allocation_domain::Event;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

pub use self::data::{EVENTS, EventForm};
pub use self::envelope::{Envelope, envelope, envelopes};
pub(crate) use self::levels::{LevelsJson, read as read_levels, written as written_levels};
pub use self::levels::{levels_json, parse_levels};
pub use self::read::{NotAnEvent, WireEvent, parse_event};
pub use self::write::{event_json, names_batch, put};

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

/// `split` of a line that may have its units from several locations.
pub const OVER_LOCATIONS: &str = "locations";

/// Names each kind of event once.
macro_rules! topics {
    ($($kind:ident => $topic:literal,)*) => {
        /// The names of all events.
        pub const TOPICS: &[&str] = &[$($topic),*];

        /// The event's name on the wire, and of the channel it is published on.
        pub fn topic(event: &Event) -> &'static str {
            match event {
                $(Event::$kind { .. } => $topic,)*
            }
        }

        /// The event's CloudEvents `type`: the schema's version is part of it.
        pub(crate) fn type_of(event: &Event) -> &'static str {
            match event {
                $(Event::$kind { .. } => concat!("allocation.", $topic, ".v1"),)*
            }
        }
    };
}

topics! {
    ProductChanged => "product_changed",
    BatchCreated => "batch_created",
    BatchQuantityChanged => "batch_quantity_changed",
    BatchEtaChanged => "batch_eta_changed",
    ExpiryChanged => "batch_expiry_changed",
    BatchExpired => "batch_expired",
    BatchReceived => "batch_received",
    BatchCancelled => "batch_cancelled",
    BatchAdjusted => "batch_adjusted",
    Quarantined => "batch_quarantined",
    Released => "batch_released",
    Transferred => "batch_transferred",
    LowStock => "low_stock",
    Restocked => "restocked",
    LineAccepted => "line_accepted",
    Held => "line_held",
    HoldExtended => "hold_extended",
    HoldExpired => "hold_expired",
    HoldLost => "hold_lost",
    Allocated => "line_allocated",
    Deallocated => "line_deallocated",
    Backordered => "line_backordered",
    Locked => "line_locked",
    Unlocked => "line_unlocked",
    Shipped => "line_shipped",
    Returned => "line_returned",
    LineChanged => "line_changed",
    LineCancelled => "line_cancelled",
    PromiseChanged => "promise_changed",
    OutOfStock => "out_of_stock",
    BooksRepaired => "books_repaired",
}

/// The `type` of events of this name.
pub fn event_type(topic: &str) -> String {
    format!("allocation.{topic}.v1")
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
