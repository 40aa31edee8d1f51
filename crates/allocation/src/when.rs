//! Points in time, as they are told on the command line.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::Failure;

/// A number of days from now, back or ahead, or an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum When {
    /// So many days.
    Days(u32),
    /// An instant.
    Instant(OffsetDateTime),
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(days) = text.parse() {
            return Ok(Self::Days(days));
        }
        instant(text, "a number of days").map(Self::Instant)
    }
}

/// An instant; `or` is what else the text might have been.
pub(crate) fn instant(text: &str, or: &str) -> Result<OffsetDateTime, String> {
    let instant = OffsetDateTime::parse(text, &Rfc3339);
    instant.map_err(|_| format!("must be {or}, or an instant such as 2011-01-02T03:04:05Z"))
}

impl When {
    /// The instant, if days are so many ago.
    pub(crate) fn back_from(self, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
        match self {
            Self::Days(days) => Ok(now.checked_sub(Duration::days(days.into())).ok_or("that is before all time")?),
            Self::Instant(instant) => Ok(instant),
        }
    }

    /// The instant, if days are so many ahead.
    pub(crate) fn ahead_of(self, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
        match self {
            Self::Days(days) => Ok(now.checked_add(Duration::days(days.into())).ok_or("that is after all time")?),
            Self::Instant(instant) => Ok(instant),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_instant_is_told_in_days_or_as_it_is() {
        let now = datetime!(2031-03-04 05:06:07 UTC);
        let when = |text: &str| text.parse::<When>().unwrap();
        assert_eq!(when("2").back_from(now).unwrap(), datetime!(2031-03-02 05:06:07 UTC));
        assert_eq!(when("2").ahead_of(now).unwrap(), datetime!(2031-03-06 05:06:07 UTC));
        let instant = when("2031-01-01T00:00:00+01:00");
        assert_eq!(instant.back_from(now).unwrap(), datetime!(2030-12-31 23:00:00 UTC));
        assert_eq!(instant.ahead_of(now).unwrap(), datetime!(2030-12-31 23:00:00 UTC));
        assert!(when("4000000000").back_from(now).is_err() && when("4000000000").ahead_of(now).is_err());
        for bad in ["", "-1", "soon", "2031-01-01"] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }
}
