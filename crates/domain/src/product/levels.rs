//! Levels: what can be promised once safety stock is kept back, and when little of it is left (rules 19 and 25).

use std::collections::BTreeSet;

use time::Date;

use super::Product;
use crate::batch::Batch;
use crate::events::Event;
use crate::ids::Location;
use crate::reserve;

/// What is to be kept of a product at a location, and what is little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Level {
    /// Safety stock: free units that are never promised.
    pub safety_stock: u64,
    /// When to say that little is left; none: never.
    pub low_stock: Option<LowStock>,
}

/// When little is left, and when there is enough again. Between the two nothing is said, so that nobody is told over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LowStock {
    /// Units available that are little.
    pub threshold: u64,
    /// Units available that are enough again: more than `threshold`.
    pub restocked: u64,
}

impl Product {
    /// Units on hand that can be promised.
    pub fn available(&self) -> u64 {
        self.locations().into_iter().map(|location| self.available_at(location)).sum()
    }

    /// The same at one location.
    pub fn available_at(&self, location: &Location) -> u64 {
        self.available_to_promise_at(location, self.calendar.today(location))
    }

    /// Units that can be promised by a day: `ATP(d)`.
    pub fn available_to_promise(&self, by: Date) -> u64 {
        self.locations().into_iter().map(|location| self.available_to_promise_at(location, by)).sum()
    }

    /// The same at one location.
    pub fn available_to_promise_at(&self, location: &Location, by: Date) -> u64 {
        let counted = |batch: &&Batch| batch.location == *location && self.counts(batch, by);
        let free: u64 = self.batches.iter().filter(counted).map(Batch::free).sum();
        free.saturating_sub(self.safety_stock(location))
    }

    /// Units of batches at a location that can be promised at all, arrived or not.
    pub fn promisable_at(&self, location: &Location) -> u64 {
        let counted = |batch: &&Batch| batch.location == *location && !self.is_overdue(batch);
        let free: u64 = self.batches.iter().filter(counted).map(Batch::free).sum();
        free.saturating_sub(self.safety_stock(location))
    }

    /// The most units that one batch could give to a line.
    pub fn largest_free(&self) -> u64 {
        self.batches.iter().map(|batch| self.promisable(batch)).max().unwrap_or(0)
    }

    /// Units of a batch that can be promised.
    pub(super) fn promisable(&self, batch: &Batch) -> u64 {
        let free = batch.free();
        if free == 0 || self.is_overdue(batch) {
            return 0;
        }
        match self.safety_stock(&batch.location) {
            0 => free,
            _ => free.min(self.available_to_promise_at(&batch.location, batch.arrival(&self.calendar))),
        }
    }

    /// Where its batches at hand are, each location once, by name.
    pub fn locations(&self) -> Vec<&Location> {
        let mut locations: Vec<&Location> = Vec::with_capacity(1);
        for batch in &self.batches {
            // Nearly always there is one, and it is the last.
            if locations.last().is_none_or(|last| *last != &batch.location) {
                locations.push(&batch.location);
            }
        }
        if locations.len() > 1 {
            locations.sort();
            locations.dedup();
        }
        locations
    }

    /// `S(l)`: free units that are never promised.
    pub(super) fn safety_stock(&self, location: &Location) -> u64 {
        reserve::safety_stock(&self.settings, location)
    }

    /// Whether a batch is due for so long that nobody counts on it any more.
    pub(super) fn is_overdue(&self, batch: &Batch) -> bool {
        reserve::is_overdue(batch, &self.settings, &self.calendar)
    }

    /// Whether units of a batch are ready and of use on a day.
    fn counts(&self, batch: &Batch, by: Date) -> bool {
        reserve::counts(batch, by, &self.settings, &self.calendar)
    }

    /// Locations of which `LowStock` was raised last.
    pub fn low(&self) -> &BTreeSet<Location> {
        &self.low
    }

    /// Says where little is left, and where there is enough again: once each (rule 19).
    pub fn watch_levels(&mut self) {
        let watched = self.settings.levels.iter().filter_map(|(location, level)| Some((location, level.low_stock?)));
        let watched: Vec<_> = watched.map(|(location, low_stock)| (location.clone(), low_stock)).collect();
        for (location, LowStock { threshold, restocked }) in watched {
            let available = self.available_at(&location);
            if self.low.contains(&location) {
                if available >= restocked {
                    self.low.remove(&location);
                    self.raise(Event::Restocked { location, available, threshold: restocked });
                }
            } else if available <= threshold {
                self.low.insert(location.clone());
                self.raise(Event::LowStock { location, available, threshold });
            }
        }
    }
}
