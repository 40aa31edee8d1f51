//! A product on the workbench, with the words that tests use.

// Each test binary uses its own part of it.
#![allow(dead_code, reason = "shared by several test binaries")]

use allocation_domain::product::{Cancelled, Decision, Declared, Displaced};
use allocation_domain::{
    BatchQuantity, BatchRef, Conflict, Event, LineId, LineKey, LineState, OrderId, OrderLine, Product, Quantity,
    Rejection, Shortage, Sku,
};
use time::{Date, Duration, macros::date};

pub(crate) const SKU: &str = "SMALL-TABLE";

/// The day that is so many days after 2 January 2011.
pub(crate) fn day(days: i64) -> Date {
    date!(2011 - 01 - 02) + Duration::days(days)
}

pub(crate) fn reference(name: &str) -> BatchRef {
    BatchRef::new(name).unwrap()
}

pub(crate) fn key(order_id: &str) -> LineKey {
    LineKey { order_id: OrderId::new(order_id).unwrap(), line: LineId::default() }
}

pub(crate) fn line(order_id: &str, units: u64) -> OrderLine {
    let order_id = OrderId::new(order_id).unwrap();
    OrderLine::new(order_id, Sku::new(SKU).unwrap(), Quantity::new(units).unwrap())
}

pub(crate) fn stock(units: u64) -> BatchQuantity {
    BatchQuantity::new(units).unwrap()
}

/// A product of which all lines are at hand.
pub(crate) struct Bench {
    pub(crate) product: Product,
    known: Vec<LineKey>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { product: Product::new(Sku::new(SKU).unwrap()), known: Vec::new() }
    }

    /// With these batches: name, units, days until it is expected (none: arrived).
    pub(crate) fn with(batches: &[(&str, u64, Option<i64>)]) -> Self {
        let mut bench = Self::new();
        for (name, units, days) in batches {
            bench.create(name, *units, *days).unwrap();
        }
        bench.product.take_events();
        bench
    }

    pub(crate) fn create(&mut self, name: &str, units: u64, days: Option<i64>) -> Result<Declared, Rejection> {
        let created = self.product.create_batch(reference(name), stock(units), days.map(day));
        self.serve();
        created
    }

    /// Asks for a line; gives the batch that takes it, or what is short.
    pub(crate) fn allocate(&mut self, order_id: &str, units: u64) -> Result<String, Shortage> {
        match self.product.plan(&[line(order_id, units)]) {
            Decision::Accept(plan) => {
                self.product.apply(plan);
                if !self.known.contains(&key(order_id)) {
                    self.known.push(key(order_id));
                }
                Ok(self.where_is(order_id))
            }
            Decision::Short(shortage) => {
                self.product.refuse(&shortage);
                Err(shortage)
            }
            Decision::Conflict(conflicts) => panic!("{conflicts:?}"),
        }
    }

    pub(crate) fn conflicts(&self, order_id: &str, units: u64) -> Vec<Conflict> {
        match self.product.plan(&[line(order_id, units)]) {
            Decision::Conflict(conflicts) => conflicts,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn deallocate(&mut self, order_id: &str) -> Result<Cancelled, Rejection> {
        let done = self.product.deallocate(&key(order_id));
        self.serve();
        done
    }

    pub(crate) fn change_quantity(&mut self, name: &str, units: u64) -> Result<(Declared, Vec<Displaced>), Rejection> {
        let placed = |key: &&LineKey| self.product.line(key).is_some_and(|l| l.batch() == Some(&reference(name)));
        let mut newest: Vec<LineKey> = self.known.iter().filter(placed).cloned().collect();
        newest.sort_by_key(|key| std::cmp::Reverse(self.product.line(key).unwrap().accepted));
        let done = self.product.change_batch_quantity(&reference(name), stock(units), &newest);
        self.serve();
        done
    }

    pub(crate) fn change_eta(&mut self, name: &str, days: Option<i64>) -> Result<Declared, Rejection> {
        self.product.change_batch_eta(&reference(name), days.map(day))
    }

    /// Those who wait, oldest first.
    pub(crate) fn queue(&self) -> Vec<LineKey> {
        let waits = |key: &&LineKey| self.product.line(key).is_some_and(|line| line.state == LineState::Backordered);
        let mut waiting: Vec<LineKey> = self.known.iter().filter(waits).cloned().collect();
        waiting.sort_by_key(|key| self.product.line(key).unwrap().accepted);
        waiting
    }

    fn serve(&mut self) {
        let waiting = self.queue();
        self.product.serve(&waiting);
    }

    /// The batch a line is placed in, or the name of its state.
    pub(crate) fn where_is(&self, order_id: &str) -> String {
        let line = self.product.line(&key(order_id)).expect("a known line");
        line.batch().map_or_else(|| line.state.name().to_owned(), ToString::to_string)
    }

    pub(crate) fn free(&self, name: &str) -> u64 {
        self.product.batch(&reference(name)).expect("a known batch").free()
    }

    /// Names of the events since the last call.
    pub(crate) fn told(&mut self) -> Vec<&'static str> {
        self.product.take_events().iter().map(Event::name).collect()
    }

    /// Every line that was ever accepted.
    pub(crate) fn known(&self) -> &[LineKey] {
        &self.known
    }
}
