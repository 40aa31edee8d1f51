//! The aggregate: everything that must be right together about the stock of one SKU.

mod changes;
mod expiry;
mod floor;
mod holds;
mod levels;
mod promising;
mod queue;
mod supply;

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

pub use self::changes::Cancelled;
pub use self::levels::{Level, LowStock};
pub use self::promising::{Decision, Plan, PlannedLine};
pub use self::supply::{Declared, Displaced, Supplied, SupplyChange};
use crate::batch::{Batch, Eta};
use crate::calendar::Calendar;
use crate::error::Rejection;
use crate::events::Event;
use crate::ids::{BatchRef, LineId, Location, OrderId, Sku};
use crate::order_line::{AcceptedLine, LineKey, Promise, Terms};
use crate::placing::Choice;
use crate::strategies::Strategy;

/// Aggregate root: one SKU, its open batches, its queue, and those of its order lines that the work at hand names.
///
/// Its version is the sequence number of its last event. Nothing in it grows with history: batches are counters, the queue is a sum, and
/// lines are brought in by [`Product::remember`] as they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    sku: Sku,
    version: u64,
    /// When its last event happened.
    changed_at: OffsetDateTime,
    /// What time it is, never before its last event.
    now: OffsetDateTime,
    settings: Settings,
    /// In order of preference.
    batches: Vec<Batch>,
    lines: BTreeMap<LineKey, AcceptedLine>,
    /// Units that wait in the queue, of lines at hand or not.
    backordered: u64,
    /// Of these, units that the queue's cap counts.
    queued: u64,
    /// Whether `OutOfStock` was raised since stock last came back.
    out_of_stock_raised: bool,
    /// Locations of which `LowStock` was raised last.
    low: BTreeSet<Location>,
    /// What it does that says nothing of its strategy.
    usual_strategy: Strategy,
    /// What day it is.
    calendar: Calendar,
    events: Vec<Event>,
    /// Lines of which no event tells, and that have to be written all the same: what follows from their batches is another.
    looked_over: BTreeSet<LineKey>,
}

/// How a product is to behave.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Settings {
    /// How many units of new requests may wait in its queue; none: any number (rule 11).
    pub queue_cap: Option<u64>,
    /// Whether promises move to earlier stock whenever there is some (rule 12).
    pub auto_improve: bool,
    /// Which batches go first; none: as the service does unless told otherwise.
    pub strategy: Option<Strategy>,
    /// For how many days its units must be of use from the day they are ready, unless a line says otherwise (rule 7).
    pub min_days: u16,
    /// Whether each of its batches must say when it expires.
    pub requires_expiry: bool,
    /// For how many days after its ETA a batch that has not come counts for new promises; none: for ever (rule 25).
    pub overdue_days: Option<u16>,
    /// What is to be kept, and what is little, by location (rule 19).
    pub levels: BTreeMap<Location, Level>,
}

impl Settings {
    /// When little is left at a location; none: nobody watches it.
    pub fn threshold(&self, location: &Location) -> Option<LowStock> {
        self.levels.get(location).and_then(|level| level.low_stock)
    }
}

/// A product as a store keeps it, without its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProduct {
    /// What it is a product of.
    pub sku: Sku,
    /// The sequence number of its last event.
    pub version: u64,
    /// When that happened.
    pub changed_at: OffsetDateTime,
    /// How it is to behave.
    pub settings: Settings,
    /// Units that wait.
    pub backordered: u64,
    /// Of these, units that the queue's cap counts.
    pub queued: u64,
    /// Whether `OutOfStock` was raised since stock last came back.
    pub out_of_stock_raised: bool,
    /// Locations of which `LowStock` was raised last.
    pub low: BTreeSet<Location>,
    /// Its open batches, and others that are wanted.
    pub batches: Vec<Batch>,
}

impl Product {
    /// A product that nothing has happened to yet.
    pub fn new(sku: Sku, now: OffsetDateTime) -> Self {
        let stored = StoredProduct {
            sku,
            version: 0,
            changed_at: OffsetDateTime::UNIX_EPOCH,
            settings: Settings::default(),
            backordered: 0,
            queued: 0,
            out_of_stock_raised: false,
            low: BTreeSet::new(),
            batches: Vec::new(),
        };
        Self::restore(stored, now)
    }

    /// A product as it was stored, without lines; [`Product::remember`] brings those.
    ///
    /// Its time is `now`, but never before its last event (rule 13): clocks of several machines differ.
    pub fn restore(stored: StoredProduct, now: OffsetDateTime) -> Self {
        let StoredProduct { sku, version, changed_at, settings, .. } = stored;
        let StoredProduct { backordered, queued, out_of_stock_raised, low, batches, .. } = stored;
        let mut product = Self {
            sku,
            version,
            changed_at,
            now: now.max(changed_at),
            calendar: Calendar::new(now.max(changed_at).date()),
            settings,
            batches,
            lines: BTreeMap::new(),
            backordered,
            queued,
            out_of_stock_raised,
            low,
            usual_strategy: Strategy::default(),
            events: Vec::new(),
            looked_over: BTreeSet::new(),
        };
        product.sort_batches();
        product
    }

    /// Takes stored lines into memory. A line that is at hand already stays as it is.
    pub fn remember(&mut self, lines: impl IntoIterator<Item = AcceptedLine>) {
        for line in lines {
            self.lines.entry(line.key.clone()).or_insert(line);
        }
    }

    /// Makes of it what a store would load at this time: without lines, and without batches that have nothing left. Its events were taken.
    pub fn begin_anew(&mut self, now: OffsetDateTime) {
        self.lines.clear();
        self.batches.retain(Batch::is_open);
        self.now = now.max(self.changed_at);
        self.calendar = Calendar::new(self.now.date());
    }

    /// The same of another, which stays as it is: its lines are not copied first.
    #[must_use]
    pub fn begun_anew(&self) -> Self {
        Self {
            sku: self.sku.clone(),
            version: self.version,
            changed_at: self.changed_at,
            now: self.now,
            settings: self.settings.clone(),
            batches: self.batches.iter().filter(|batch| batch.is_open()).cloned().collect(),
            lines: BTreeMap::new(),
            backordered: self.backordered,
            queued: self.queued,
            out_of_stock_raised: self.out_of_stock_raised,
            low: self.low.clone(),
            usual_strategy: self.usual_strategy,
            calendar: self.calendar.clone(),
            events: Vec::new(),
            looked_over: BTreeSet::new(),
        }
    }

    /// Takes batches into memory that have nothing left and are named by the work at hand all the same.
    pub fn remember_batches(&mut self, batches: impl IntoIterator<Item = Batch>) {
        self.batches.extend(batches);
        self.sort_batches();
    }

    /// What it is a product of.
    pub fn sku(&self) -> &Sku {
        &self.sku
    }

    /// The sequence number of its last event.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When its last event happened.
    pub fn changed_at(&self) -> OffsetDateTime {
        self.changed_at
    }

    /// What time it is for this product.
    pub fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// What day it is: by Universal Time, unless [`Product::set_usual`] said otherwise.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// How it is to behave.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells it what holds for every product: the strategy of those that say nothing of theirs, and what day it is.
    pub fn set_usual(&mut self, strategy: Strategy, calendar: Calendar) {
        (self.usual_strategy, self.calendar) = (strategy, calendar);
    }

    /// Which of its batches go first.
    pub fn strategy(&self) -> Strategy {
        self.settings.strategy.unwrap_or(self.usual_strategy)
    }

    /// Batches at hand, in order of preference.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// A batch at hand.
    pub fn batch(&self, reference: &BatchRef) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.reference == *reference)
    }

    /// A line at hand.
    pub fn line(&self, key: &LineKey) -> Option<&AcceptedLine> {
        self.lines.get(key)
    }

    /// All lines at hand.
    pub fn lines(&self) -> impl Iterator<Item = &AcceptedLine> {
        self.lines.values()
    }

    /// Lines at hand of one order.
    pub fn lines_of<'a>(&'a self, order_id: &'a OrderId) -> impl Iterator<Item = &'a AcceptedLine> {
        let first = LineKey { order_id: order_id.clone(), line: LineId::first() };
        self.lines.range(first..).map(|(_, line)| line).take_while(move |line| line.key.order_id == *order_id)
    }

    /// Units that wait in the queue.
    pub fn backordered(&self) -> u64 {
        self.backordered
    }

    /// Of the units that wait, those that the queue's cap counts.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Units placed for holds.
    pub fn held(&self) -> u64 {
        self.batches.iter().map(|batch| batch.held).sum()
    }

    /// Whether `OutOfStock` was raised since stock last came back.
    pub fn out_of_stock_raised(&self) -> bool {
        self.out_of_stock_raised
    }

    /// When all of a line at hand is ready to ship.
    pub fn promise(&self, line: &AcceptedLine) -> Promise {
        line.promise(|reference| self.eta(reference))
    }

    /// When a batch is expected; one that is not at hand has nothing in it.
    pub fn eta(&self, reference: &BatchRef) -> Eta {
        self.batch(reference).and_then(|batch| batch.eta)
    }

    /// Events raised since they were last taken; the last one's sequence number is [`Product::version`].
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Changes how it behaves, and makes it known by that.
    pub fn set(&mut self, settings: Settings) -> Declared {
        let known = self.version > 0;
        if known && self.settings == settings {
            return Declared::Same;
        }
        self.settings = settings.clone();
        self.low.retain(|location| settings.threshold(location).is_some());
        self.raise(Event::ProductChanged { settings });
        if known { Declared::Changed } else { Declared::New }
    }

    /// Notes that the tables of this product were mended from its events.
    pub fn note_repair(&mut self, differences: u64) {
        self.raise(Event::BooksRepaired { differences });
    }

    fn raise(&mut self, event: Event) {
        self.version += 1;
        self.changed_at = self.now;
        self.events.push(event);
    }

    fn sort_batches(&mut self) {
        self.batches.sort_by(|a, b| a.preference().cmp(&b.preference()));
    }

    fn batch_mut(&mut self, reference: &BatchRef) -> &mut Batch {
        let found = self.batches.iter_mut().find(|batch| batch.reference == *reference);
        found.expect("a batch with placements is open, and open batches are at hand")
    }

    /// What a line on these terms may choose from.
    fn choice<'a>(&'a self, terms: &'a Terms) -> Choice<'a> {
        Choice {
            batches: &self.batches,
            terms,
            min_days: self.min_days(terms),
            strategy: self.strategy(),
            settings: &self.settings,
            calendar: &self.calendar,
            at: None,
            before: None,
        }
    }

    fn known_line(&self, key: &LineKey) -> &AcceptedLine {
        self.lines.get(key).expect("whoever names a line has brought it to hand")
    }

    /// Changes a line, and keeps the sums of all lines in step.
    fn change_line<R>(&mut self, key: &LineKey, change: impl FnOnce(&mut AcceptedLine) -> R) -> R {
        let line = self.lines.get_mut(key).expect("whoever names a line has brought it to hand");
        let (backordered, queued) = (line.backordered(), line.queued);
        let result = change(line);
        self.backordered = self.backordered - backordered + line.backordered();
        self.queued = self.queued - queued + line.queued;
        result
    }

    fn unknown_line(&self, key: &LineKey) -> Rejection {
        Rejection::UnknownLine { order_id: key.order_id.clone(), sku: self.sku.clone() }
    }
}
