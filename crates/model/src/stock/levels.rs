//! What can be promised, what is kept of it, and when to say that little is left (rules 1, 19 and 25).

use std::collections::BTreeMap;

use allocation_domain::{BatchRef, Calendar, Location};
use time::Date;

use super::Stock;
use crate::shelves::{Offer, Shelves};

/// How often something was told of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Told {
    /// That little is left.
    pub low: u64,
    /// That there is enough again.
    pub restocked: u64,
}

/// What is known of a location where something is told when little is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Watched {
    pub(super) low: bool,
    pub(super) told: Told,
}

impl Stock {
    /// A batch, and what is free of it.
    pub(super) fn offer(&self, reference: &BatchRef, days: &Calendar) -> Offer {
        let batch = &self.batches[reference];
        Offer {
            reference: reference.clone(),
            location: batch.location.clone(),
            eta: batch.eta,
            came: batch.came,
            expires_on: batch.expires_on,
            overdue: batch.is_overdue(self.settings.overdue_days, days),
            free: self.free(reference),
        }
    }

    /// All there is.
    pub(super) fn shelves(&self, days: &Calendar) -> Shelves {
        let levels = self.settings.levels.iter();
        Shelves {
            offers: self.batches.keys().map(|reference| self.offer(reference, days)).collect(),
            safety: levels.map(|(location, level)| (location.clone(), level.safety_stock)).collect(),
            days: days.clone(),
        }
    }

    pub(crate) fn available(&self, days: &Calendar) -> u64 {
        self.shelves(days).available()
    }

    pub(crate) fn available_at(&self, location: &Location, days: &Calendar) -> u64 {
        self.shelves(days).available_at(location)
    }

    pub(crate) fn available_by(&self, by: &[Date], days: &Calendar) -> Vec<u64> {
        let shelves = self.shelves(days);
        by.iter().map(|day| shelves.available_by(*day)).collect()
    }

    /// Tells where little is left, and where there is enough again: each once, until it is the other.
    pub(crate) fn watch(&mut self, days: &Calendar) {
        let shelves = self.shelves(days);
        for (location, watched) in &mut self.watched {
            // What is watched no longer is forgotten.
            let level = self.settings.levels.get(location);
            watched.low &= level.is_some_and(|level| level.low_stock.is_some());
        }
        for (location, level) in &self.settings.levels {
            let Some(low_stock) = level.low_stock else { continue };
            let available = shelves.available_at(location);
            let watched = self.watched.entry(location.clone()).or_default();
            if !watched.low && available <= low_stock.threshold {
                watched.low = true;
                watched.told.low += 1;
            } else if watched.low && available >= low_stock.restocked {
                watched.low = false;
                watched.told.restocked += 1;
            }
        }
    }

    /// What was told of each location of which anything was.
    pub(crate) fn told(&self) -> BTreeMap<Location, Told> {
        let told = self.watched.iter().filter(|(_, watched)| watched.told != Told::default());
        told.map(|(location, watched)| (location.clone(), watched.told)).collect()
    }
}
