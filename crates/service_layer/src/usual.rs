//! What holds for every product unless it says otherwise.

use std::collections::BTreeMap;

use allocation_domain::{Calendar, Location, Product, Strategy};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use time::{Date, OffsetDateTime};

/// The service's settings that products follow.
#[derive(Debug, Clone, Default)]
pub struct Usual {
    /// The strategy of products that say nothing of theirs.
    pub strategy: Strategy,
    /// What time it is where.
    pub time_zones: TimeZones,
}

impl Usual {
    /// Tells a product, at its own time.
    pub fn tell(&self, product: &mut Product) {
        product.set_usual(self.strategy, self.time_zones.calendar(product.now()));
    }
}

/// The time zone of each location.
#[derive(Debug, Clone)]
pub struct TimeZones {
    usual: TimeZone,
    elsewhere: BTreeMap<Location, TimeZone>,
}

impl Default for TimeZones {
    /// Universal Time everywhere.
    fn default() -> Self {
        Self { usual: TimeZone::UTC, elsewhere: BTreeMap::new() }
    }
}

impl TimeZones {
    /// `usual` is that of locations of which nothing is said.
    pub fn new(usual: TimeZone, elsewhere: BTreeMap<Location, TimeZone>) -> Self {
        Self { usual, elsewhere }
    }

    /// Whether it is Universal Time everywhere.
    pub fn are_utc(&self) -> bool {
        self.elsewhere.is_empty() && self.usual == TimeZone::UTC
    }

    /// What day it is where, at a moment.
    pub fn calendar(&self, now: OffsetDateTime) -> Calendar {
        if self.are_utc() {
            return Calendar::new(now.date());
        }
        let day = |zone| day_in(zone, now).unwrap_or(now.date());
        let usual = Calendar::new(day(&self.usual));
        self.elsewhere.iter().fold(usual, |calendar, (location, zone)| calendar.with(location.clone(), day(zone)))
    }
}

/// `None`: outside of the years that have civil dates.
fn day_in(zone: &TimeZone, now: OffsetDateTime) -> Option<Date> {
    let date = zone.to_datetime(Timestamp::from_second(now.unix_timestamp()).ok()?).date();
    let month = time::Month::try_from(u8::try_from(date.month()).ok()?).ok()?;
    Date::from_calendar_date(date.year().into(), month, u8::try_from(date.day()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    #[test]
    fn each_location_has_the_day_of_its_time_zone() {
        let (auckland, lima) = (Location::new("auckland").unwrap(), Location::new("lima").unwrap());
        let zones = BTreeMap::from([
            (auckland.clone(), TimeZone::get("Pacific/Auckland").unwrap()),
            (lima.clone(), TimeZone::get("America/Lima").unwrap()),
        ]);
        let zones = TimeZones::new(TimeZone::UTC, zones);

        let calendar = zones.calendar(datetime!(2026-11-24 12:00 UTC));
        assert_eq!(calendar.today(&auckland), date!(2026 - 11 - 25));
        assert_eq!(calendar.today(&lima), date!(2026 - 11 - 24));
        assert_eq!(calendar.latest(), date!(2026 - 11 - 25));

        let calendar = zones.calendar(datetime!(2026-11-24 02:00 UTC));
        assert_eq!(calendar.today(&auckland), date!(2026 - 11 - 24));
        assert_eq!(calendar.today(&lima), date!(2026 - 11 - 23));
        assert_eq!(calendar.today(&Location::default()), date!(2026 - 11 - 24));
    }
}
