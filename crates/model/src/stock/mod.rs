//! The stock of one SKU: every batch, every line, every unit.

mod changes;
mod due;
mod floor;
mod levels;
mod queue;
mod seen;
mod supply;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::commands::WhenShort;
use allocation_domain::{BatchRef, Calendar, LineKey, Location, OrderLine, Settings, Split, Strategy, Terms};
use time::{Date, OffsetDateTime};

pub use self::levels::Told;
use self::levels::Watched;
pub(crate) use self::supply::rest_of;
use crate::choosing::Choice;
use crate::model::Refused;
use crate::shelves::Take;

/// Where a unit of a line is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In a batch.
    In(BatchRef),
    /// In a batch, and released to picking.
    Locked(BatchRef),
    /// With the customer, out of a batch.
    Shipped(BatchRef),
    /// Shipped, and come back.
    Returned {
        /// The batch it was shipped from.
        from: BatchRef,
        /// The batch it was put into; none: of no use any more.
        into: Option<BatchRef>,
    },
    /// Waiting.
    Queue,
    /// Not to be had when it was asked for.
    Dropped,
    /// No longer wanted.
    Cancelled,
    /// Its hold has ended.
    Lapsed,
    /// Out of its batch, and not yet anywhere else; never after a command.
    Moving,
}

impl Place {
    /// The batch it is in, locked or not.
    fn batch(&self) -> Option<&BatchRef> {
        match self {
            Self::In(batch) | Self::Locked(batch) => Some(batch),
            _ => None,
        }
    }

    /// The batch it was shipped from, come back or not.
    fn shipped_from(&self) -> Option<&BatchRef> {
        match self {
            Self::Shipped(from) | Self::Returned { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The batch it was put into when it came back.
    fn returned_into(&self) -> Option<&BatchRef> {
        match self {
            Self::Returned { into, .. } => into.as_ref(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// When it was accepted, counted in acceptances.
    turn: u64,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    terms: Terms,
    /// When its hold ends.
    until: Option<OffsetDateTime>,
    /// Of the units that wait, how many the queue's cap counts.
    counted: u64,
    units: Vec<Unit>,
    /// The batches of which it was shipped some, that of the first shipment first.
    sources: Vec<BatchRef>,
}

/// What was said of a batch. How many units are there now follows from that, and from where the units of lines have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    /// Where it lies, or will lie. It stays there.
    location: Location,
    /// The total that was declared.
    declared: u64,
    /// Units that turned up besides.
    found: u64,
    /// Units that are of no use any more, or could not be found.
    lost: u64,
    /// Units that were sent to another location, where they are a batch of their own.
    sent: u64,
    /// Units that are set aside.
    quarantined: u64,
    eta: Option<Date>,
    /// When it arrived, counted in arrivals; none: it has not.
    came: Option<u64>,
    /// The last day on which its units are of use; none: they always are.
    expires_on: Option<Date>,
    cancelled: bool,
    /// That day was seen to be over.
    expired: bool,
}

impl Batch {
    /// Whether its last day is over where it is. What never comes does not expire.
    fn is_over(&self, days: &Calendar) -> bool {
        !self.cancelled && self.expires_on.is_some_and(|last| last < days.today(&self.location))
    }

    /// Whether it should have come more than so many days ago, and has not (rule 25).
    fn is_overdue(&self, overdue_days: Option<u16>, days: &Calendar) -> bool {
        let (Some(eta), Some(most)) = (self.eta, overdue_days) else { return false };
        (days.today(&self.location) - eta).whole_days() > most.into()
    }
}

/// What a batch is: the columns of the rules' table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchIs {
    Expected,
    OnHand,
    Expired,
    Cancelled,
}

/// What is known of a batch but for its units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownBatch {
    pub(crate) is: BatchIs,
    pub(crate) location: Location,
    pub(crate) declared: u64,
    pub(crate) eta: Option<Date>,
    pub(crate) expires_on: Option<Date>,
}

/// Units of a line that were accepted together and are in the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    line: LineKey,
    priority: i32,
    turn: u64,
    units: u64,
}

impl Group {
    /// The least goes first.
    fn seniority(&self) -> (Reverse<i32>, u64) {
        (Reverse(self.priority), self.turn)
    }
}

/// A line as the model has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineView {
    /// The state's name.
    pub state: &'static str,
    /// What the caller asked for.
    pub requested: u64,
    /// Units in each batch.
    pub placements: BTreeMap<BatchRef, u64>,
    /// Of these, those that are released to picking.
    pub locked: u64,
    /// Units that were shipped from each batch.
    pub shipped: BTreeMap<BatchRef, u64>,
    /// Of these, those that came back.
    pub returned: u64,
    /// Units that wait.
    pub backordered: u64,
    /// Of these, those that the queue's cap counts.
    pub queued: u64,
    /// Units that were not to be had.
    pub dropped: u64,
    /// Units no longer wanted.
    pub cancelled: u64,
    /// Units of a hold that has ended.
    pub lapsed: u64,
    /// When its hold ends.
    pub until: Option<OffsetDateTime>,
    /// What its placements must obey.
    pub terms: Terms,
}

/// A batch as the model has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchView {
    /// Where it lies, or will lie.
    pub location: Location,
    /// Units that are there now.
    pub quantity: u64,
    /// Units declared.
    pub declared: u64,
    /// Units that are set aside.
    pub quarantined: u64,
    /// Units placed for holds.
    pub held: u64,
    /// Units placed and confirmed.
    pub allocated: u64,
    /// When it is expected; none: arrived.
    pub eta: Option<Date>,
    /// The last day on which its units are of use; none: they always are.
    pub expires_on: Option<Date>,
    /// It will never come.
    pub cancelled: bool,
    /// That last day is over.
    pub expired: bool,
}

/// A product as the model has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductView {
    /// How it is to behave.
    pub settings: Settings,
    /// Every batch that ever was.
    pub batches: BTreeMap<BatchRef, BatchView>,
    /// Every line that ever was.
    pub lines: BTreeMap<LineKey, LineView>,
    /// Units on hand that can be promised.
    pub available: u64,
    /// Units that wait.
    pub backordered: u64,
    /// Of these, those that the queue's cap counts.
    pub queued: u64,
    /// Locations where little is left, as was told last.
    pub low: BTreeSet<Location>,
}

impl Line {
    fn count(&self, is: impl Fn(&Place) -> bool) -> u64 {
        self.units.iter().filter(|unit| is(&unit.place)).count() as u64
    }

    fn placed(&self) -> u64 {
        self.count(|place| place.batch().is_some())
    }

    fn locked(&self) -> u64 {
        self.count(|place| matches!(place, Place::Locked(_)))
    }

    fn shipped(&self) -> u64 {
        self.count(|place| place.shipped_from().is_some())
    }

    fn returned(&self) -> u64 {
        self.count(|place| matches!(place, Place::Returned { .. }))
    }

    fn waiting(&self) -> u64 {
        self.count(|place| *place == Place::Queue)
    }

    fn ordered(&self) -> u64 {
        self.placed() + self.waiting() + self.shipped()
    }

    fn is_whole(&self) -> bool {
        self.terms.split == Split::Never
    }

    /// It must stay together, and some of it is locked: it stays where it is.
    fn is_pinned(&self) -> bool {
        self.is_whole() && self.locked() > 0
    }

    /// The first that is true of any of its units.
    pub(crate) fn state(&self) -> &'static str {
        if self.until.is_some() {
            "held"
        } else if self.waiting() > 0 {
            "backordered"
        } else if self.placed() > 0 {
            "allocated"
        } else if self.shipped() > 0 {
            "shipped"
        } else if self.count(|place| *place == Place::Lapsed) > 0 {
            "lapsed"
        } else {
            "cancelled"
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state(), "held" | "backordered" | "allocated")
    }

    /// Puts so many units that were accepted together elsewhere.
    fn put(&mut self, turn: u64, units: u64, from: &Place, to: &Place) {
        let mut left = units;
        for unit in &mut self.units {
            if left > 0 && unit.turn == turn && unit.place == *from {
                unit.place = to.clone();
                left -= 1;
            }
        }
        assert_eq!(left, 0, "a line has the units that are moved");
        // Of units that wait, those that lost a place are the first to have one again (rule 11).
        self.counted = self.counted.min(self.waiting());
    }

    /// Puts so many units elsewhere, those that were accepted first first.
    fn put_first(&mut self, units: u64, from: &Place, to: &Place) {
        for _ in 0..units {
            let there = self.units.iter_mut().filter(|unit| unit.place == *from);
            there.min_by_key(|unit| unit.turn).expect("a line has the units that are moved").place = to.clone();
        }
    }

    /// Puts all units that are in such a place elsewhere.
    fn put_all(&mut self, from: impl Fn(&Place) -> bool, to: &Place) {
        for unit in &mut self.units {
            if from(&unit.place) {
                unit.place = to.clone();
            }
        }
        self.counted = self.counted.min(self.waiting());
    }

    fn add(&mut self, turn: u64, units: u64, place: &Place) {
        for _ in 0..units {
            self.units.push(Unit { turn, place: place.clone() });
        }
    }
}

/// What is known of one SKU.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Stock {
    settings: Settings,
    batches: BTreeMap<BatchRef, Batch>,
    lines: BTreeMap<LineKey, Line>,
    /// Batches that have arrived so far.
    arrivals: u64,
    /// Where something is told when little is left, or has been.
    watched: BTreeMap<Location, Watched>,
    /// The day it was, everywhere, when what is due was done last.
    looked_at: Option<Calendar>,
    /// Something happened after which the queue is looked at.
    stirred: bool,
}

/// What a request would do to a line that is new.
pub(crate) struct Intent {
    pub(crate) line: OrderLine,
    pub(crate) takes: Vec<Take>,
    pub(crate) missing: u64,
}

impl Stock {
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn set(&mut self, settings: Settings, days: &Calendar) {
        let keeps = settings.min_days == self.settings.min_days;
        self.settings = settings;
        self.stirred = true;
        if !keeps {
            self.check(|_| true, days);
        }
    }

    pub(crate) fn line(&self, key: &LineKey) -> Option<&Line> {
        self.lines.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &LineKey> {
        self.lines.keys()
    }

    fn line_mut(&mut self, key: &LineKey) -> &mut Line {
        self.lines.get_mut(key).expect("a known line")
    }

    // ---- Counting ----

    fn count(&self, is: impl Fn(&Place) -> bool) -> u64 {
        self.lines.values().map(|line| line.count(&is)).sum()
    }

    /// Units of lines in a batch.
    fn in_batch(&self, reference: &BatchRef) -> u64 {
        self.count(|place| place.batch() == Some(reference))
    }

    /// Units that are in a batch now: declared + found + returned − lost − sent − shipped.
    fn quantity(&self, reference: &BatchRef) -> u64 {
        let batch = &self.batches[reference];
        let come = batch.declared + batch.found + self.count(|place| place.returned_into() == Some(reference));
        let gone = batch.lost + batch.sent + self.count(|place| place.shipped_from() == Some(reference));
        come.checked_sub(gone).expect("no more goes out of a batch than is in it")
    }

    /// Units that may be placed, free or not.
    fn usable(&self, reference: &BatchRef) -> u64 {
        let batch = &self.batches[reference];
        if batch.expired { 0 } else { self.quantity(reference).saturating_sub(batch.quarantined) }
    }

    pub(crate) fn free(&self, reference: &BatchRef) -> u64 {
        self.usable(reference).saturating_sub(self.in_batch(reference))
    }

    /// Where a line that must stay at one location is: at that of its first placement. What has left binds nothing.
    fn bound(&self, line: &Line) -> Option<Location> {
        let Split::Parts(_) = line.terms.split else { return None };
        let placed = line.units.iter().filter_map(|unit| Some((unit.turn, unit.place.batch()?)));
        placed.min().map(|(_, reference)| self.batches[reference].location.clone())
    }

    /// What units of a line that is not known are chosen by.
    fn choice_for(&self, terms: &Terms) -> Choice {
        Choice {
            terms: terms.clone(),
            strategy: self.settings.strategy.unwrap_or(Strategy::Earliest),
            min_days: terms.min_days.unwrap_or(self.settings.min_days),
            bound: None,
        }
    }

    /// What more units of a line are chosen by.
    fn choice(&self, line: &Line) -> Choice {
        Choice { bound: self.bound(line), ..self.choice_for(&line.terms) }
    }

    fn counted(&self) -> u64 {
        self.lines.values().map(|line| line.counted).sum()
    }

    fn room_in_queue(&self, more: u64) -> Result<(), Refused> {
        match self.settings.queue_cap {
            Some(cap) if more > 0 && self.counted() + more > cap => Err(Refused::QueueFull),
            _ => Ok(()),
        }
    }

    /// Units in such places, by line and acceptance, in the order of seniority.
    fn groups(&self, lines: impl Fn(&LineKey, &Line) -> bool, is: impl Fn(&Place) -> bool) -> Vec<Group> {
        let mut groups = Vec::new();
        for (key, line) in self.lines.iter().filter(|(key, line)| lines(key, line)) {
            let mut turns: BTreeMap<u64, u64> = BTreeMap::new();
            for unit in line.units.iter().filter(|unit| is(&unit.place)) {
                *turns.entry(unit.turn).or_default() += 1;
            }
            let priority = line.terms.priority;
            groups.extend(turns.into_iter().map(|(turn, units)| Group { line: key.clone(), priority, turn, units }));
        }
        groups.sort_by_key(Group::seniority);
        groups
    }

    // ---- Requests ----

    /// Rule 9.
    pub(crate) fn conflicts(&self, asked: &OrderLine) -> bool {
        self.lines.get(&asked.key).is_some_and(|line| match line.state() {
            "lapsed" => false,
            "cancelled" if line.count(|place| *place == Place::Cancelled) > 0 => true,
            _ => line.units.len() as u64 != asked.qty.units(),
        })
    }

    fn is_new(&self, key: &LineKey) -> bool {
        self.lines.get(key).is_none_or(|line| line.state() == "lapsed")
    }

    /// What would be done for those of these lines that are new.
    pub(crate) fn intend(&self, lines: &[OrderLine], when_short: WhenShort, days: &Calendar) -> Vec<Intent> {
        let mut shelves = self.shelves(days);
        let mut intents = Vec::new();
        for line in lines.iter().filter(|line| self.is_new(&line.key)) {
            let wanted = line.qty.units();
            let choice = self.choice_for(&line.terms);
            let mut takes = choice.choose(&shelves, wanted);
            if takes.is_empty() && when_short == WhenShort::Partial && line.terms.split == Split::Never {
                takes = choice.most_of_one(&shelves);
            }
            for take in &takes {
                shelves.take(take);
            }
            let missing = wanted - takes.iter().map(|(_, units)| units).sum::<u64>();
            intents.push(Intent { line: line.clone(), takes, missing });
        }
        intents
    }

    /// Whether all of it may wait that would have to (rule 11).
    pub(crate) fn may_wait(&self, intents: &[Intent]) -> Result<(), Refused> {
        self.room_in_queue(intents.iter().map(|intent| intent.missing).sum())
    }

    pub(crate) fn accept(&mut self, intent: Intent, turn: u64, when_short: WhenShort, until: Option<OffsetDateTime>) {
        let Intent { line: OrderLine { key, terms, .. }, takes, missing } = intent;
        let until = until.filter(|_| !takes.is_empty());
        let mut line = Line { terms, until, counted: 0, units: Vec::new(), sources: Vec::new() };
        for (reference, units) in takes {
            line.add(turn, units, &Place::In(reference));
        }
        if when_short == WhenShort::Backorder {
            line.add(turn, missing, &Place::Queue);
            line.counted = missing;
        } else {
            line.add(turn, missing, &Place::Dropped);
        }
        self.lines.insert(key, line);
    }
}
