//! Events as JSON: the one place that knows how they look outside.
//!
//! Each is a `CloudEvents` 1.0 envelope around the facts. What is built here is stored, and served and sent untouched.

mod envelope;
mod levels;
mod read;
mod write;

use std::sync::Arc;

use allocation_domain::Event;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

pub use self::envelope::{Envelope, envelope, envelopes};
pub use self::levels::{levels_json, parse_levels};
pub use self::read::{NotAnEvent, WireEvent, parse_event};
pub use self::write::{event_json, names_batch};

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
        Event::Transferred { .. } => "batch_transferred",
        Event::LowStock { .. } => "low_stock",
        Event::Restocked { .. } => "restocked",
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
