//! What day it is, location by location.

use std::collections::BTreeMap;

use time::Date;

use crate::ids::Location;

/// Value object: the day it is at one moment, at every location. Dates are civil dates in the location's time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    usual: Date,
    elsewhere: BTreeMap<Location, Date>,
}

impl Calendar {
    /// A calendar on which it is this day everywhere.
    pub fn new(today: Date) -> Self {
        Self { usual: today, elsewhere: BTreeMap::new() }
    }

    /// The same, but for a location where it is another day.
    #[must_use]
    pub fn with(mut self, location: Location, today: Date) -> Self {
        if today != self.usual {
            self.elsewhere.insert(location, today);
        }
        self
    }

    /// The day it is at a location.
    pub fn today(&self, location: &Location) -> Date {
        // Nearly always all locations have the same day, and no names are compared.
        if self.elsewhere.is_empty() { self.usual } else { self.elsewhere.get(location).copied().unwrap_or(self.usual) }
    }

    /// The day it is wherever nothing else is said.
    pub fn usual(&self) -> Date {
        self.usual
    }

    /// The latest day that it is anywhere.
    pub fn latest(&self) -> Date {
        self.elsewhere.values().copied().fold(self.usual, Date::max)
    }

    /// Whether it is the same day everywhere.
    pub fn is_one_day(&self) -> bool {
        self.elsewhere.is_empty()
    }
}
