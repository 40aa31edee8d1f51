//! What stands on the outside of an event.

use std::borrow::Cow;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::NotAnEvent;
use crate::ports::event_log::FeedEvent;

/// What a broker needs to know of an event; the rest of it is passed over, and nothing is copied.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    /// Its id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Its name and version, as in `allocation.line_allocated.v1`.
    #[serde(borrow)]
    pub r#type: Cow<'a, str>,
    /// The product.
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    /// When it happened.
    #[serde(borrow)]
    time: Cow<'a, str>,
    /// The trace it belongs to.
    #[serde(default, borrow)]
    pub traceparent: Option<Cow<'a, str>>,
}

impl Envelope<'_> {
    /// The name of its channel, as in `line_allocated`.
    pub fn topic(&self) -> &str {
        let name = self.r#type.strip_prefix("allocation.").unwrap_or(&self.r#type);
        name.rsplit_once(".v").map_or(name, |(name, _)| name)
    }

    /// When it happened; nothing, if that is no instant.
    pub fn time(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(&self.time, &Rfc3339).ok()
    }
}

/// Reads what stands on the outside of an event.
///
/// # Errors
/// When the text is no event of this service.
pub fn envelope(json: &str) -> Result<Envelope<'_>, NotAnEvent> {
    serde_json::from_str(json).map_err(super::read::bad)
}

/// Each of these, with what stands on its outside.
///
/// # Errors
/// When one of them is no event of this service.
pub fn envelopes(events: &[FeedEvent]) -> Result<Vec<(Envelope<'_>, &FeedEvent)>, NotAnEvent> {
    events.iter().map(|event| Ok((envelope(&event.body)?, event))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_read_without_its_letter() {
        let json = r#"{"specversion":"1.0","id":"7","type":"allocation.line_allocated.v1","subject":"A\"B",
            "time":"2011-01-02T03:04:05Z","sequence":1,"data":{"qty":[]}}"#;
        let envelope = envelope(json).unwrap();
        assert_eq!((&*envelope.id, envelope.topic(), &*envelope.subject), ("7", "line_allocated", "A\"B"));
        assert_eq!(envelope.time(), Some(time::macros::datetime!(2011-01-02 03:04:05 UTC)));
        assert!(super::envelope("{}").is_err());
    }
}
