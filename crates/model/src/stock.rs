//! The stock of one SKU: every batch, every line, every unit.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use allocation_domain::commands::{LineChange, Rest, WhenShort};
use allocation_domain::{BatchRef, LineKey, OrderLine, Settings, Split, Terms};
use time::{Date, OffsetDateTime};

use crate::choosing::{Offer, Take, arrival, choose, eligible, most_of_one, ready};
use crate::model::{Outcome, Refused};

/// Where a unit of a line is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In a batch.
    In(BatchRef),
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
}

/// A batch, as it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declaration {
    units: u64,
    eta: Option<Date>,
    cancelled: bool,
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
    /// Units declared.
    pub quantity: u64,
    /// Units placed for holds.
    pub held: u64,
    /// Units placed and confirmed.
    pub allocated: u64,
    /// When it is expected; none: arrived.
    pub eta: Option<Date>,
    /// It will never come.
    pub cancelled: bool,
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
    /// Units on hand that nobody has been promised.
    pub available: u64,
    /// Units that wait.
    pub backordered: u64,
    /// Of these, those that the queue's cap counts.
    pub queued: u64,
}

impl Line {
    fn count(&self, is: impl Fn(&Place) -> bool) -> u64 {
        self.units.iter().filter(|unit| is(&unit.place)).count() as u64
    }

    fn placed(&self) -> u64 {
        self.count(|place| matches!(place, Place::In(_)))
    }

    fn waiting(&self) -> u64 {
        self.count(|place| *place == Place::Queue)
    }

    fn ordered(&self) -> u64 {
        self.placed() + self.waiting()
    }

    fn is_whole(&self) -> bool {
        self.terms.split == Split::Never
    }

    /// The first that is true of any of its units.
    pub(crate) fn state(&self) -> &'static str {
        if self.until.is_some() {
            "held"
        } else if self.waiting() > 0 {
            "backordered"
        } else if self.placed() > 0 {
            "allocated"
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
    batches: BTreeMap<BatchRef, Declaration>,
    lines: BTreeMap<LineKey, Line>,
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
    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    pub(crate) fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.stirred = true;
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

    /// Units of lines in a batch.
    fn in_batch(&self, reference: &BatchRef) -> u64 {
        let here = |place: &Place| matches!(place, Place::In(batch) if batch == reference);
        self.lines.values().map(|line| line.count(here)).sum()
    }

    fn free(&self, reference: &BatchRef) -> u64 {
        self.batches.get(reference).map_or(0, |batch| batch.units.saturating_sub(self.in_batch(reference)))
    }

    fn offers(&self) -> Vec<Offer> {
        let offer = |(reference, batch): (&BatchRef, &Declaration)| Offer {
            reference: reference.clone(),
            eta: batch.eta,
            free: batch.units.saturating_sub(self.in_batch(reference)),
        };
        self.batches.iter().filter(|(_, batch)| batch.units > 0).map(offer).collect()
    }

    pub(crate) fn available(&self) -> u64 {
        let on_hand = self.batches.iter().filter(|(_, batch)| batch.eta.is_none());
        on_hand.map(|(reference, _)| self.free(reference)).sum()
    }

    pub(crate) fn promisable_by(&self, by: Date, today: Date) -> u64 {
        let in_time = self.batches.iter().filter(|(_, batch)| arrival(batch.eta, today) <= by);
        in_time.map(|(reference, _)| self.free(reference)).sum()
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
    pub(crate) fn intend(&self, lines: &[OrderLine], when_short: WhenShort, today: Date) -> Vec<Intent> {
        let mut offers = self.offers();
        let mut intents = Vec::new();
        for line in lines.iter().filter(|line| self.is_new(&line.key)) {
            let wanted = line.qty.units();
            let mut takes = choose(offers.clone(), wanted, &line.terms, today);
            if takes.is_empty() && when_short == WhenShort::Partial && line.terms.split == Split::Never {
                takes = most_of_one(offers.clone(), &line.terms, today);
            }
            for (reference, units) in &takes {
                let offer = offers.iter_mut().find(|offer| offer.reference == *reference);
                offer.expect("it was taken from").free -= units;
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
        let mut line = Line { terms, until, counted: 0, units: Vec::new() };
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

    // ---- Holds ----

    /// Ends holds whose time has come.
    pub(crate) fn expire(&mut self, now: OffsetDateTime) {
        for line in self.lines.values_mut().filter(|line| line.until.is_some_and(|until| until <= now)) {
            line.until = None;
            line.put_all(|place| matches!(place, Place::In(_)), &Place::Lapsed);
            self.stirred = true;
        }
    }

    /// Makes a hold last. `true` if it was one.
    pub(crate) fn confirm(&mut self, key: &LineKey) -> bool {
        self.line_mut(key).until.take().is_some()
    }

    /// Lets a hold last longer. `true` if that is longer.
    pub(crate) fn extend(&mut self, key: &LineKey, to: OffsetDateTime) -> bool {
        let line = self.line_mut(key);
        let longer = line.until.is_some_and(|until| until < to);
        if longer {
            line.until = Some(to);
        }
        longer
    }

    // ---- The queue ----

    /// After every command: who waits is served, and promises are made earlier when that is wanted (rules 10 and 12).
    pub(crate) fn settle(&mut self, today: Date) {
        if !std::mem::take(&mut self.stirred) {
            return;
        }
        loop {
            self.serve(today);
            if !self.settings.auto_improve || !self.improve(today) {
                break;
            }
        }
        self.stirred = false;
    }

    fn serve(&mut self, today: Date) {
        if self.offers().iter().all(|offer| offer.free == 0) {
            return;
        }
        for group in self.groups(|_, _| true, |place| *place == Place::Queue) {
            let terms = self.lines[&group.line].terms;
            for (reference, units) in choose(self.offers(), group.units, &terms, today) {
                self.line_mut(&group.line).put(group.turn, units, &Place::Queue, &Place::In(reference));
            }
        }
    }

    /// Offers every placement, by seniority, batches on which it would be ready earlier. `true` if any took some.
    pub(crate) fn improve(&mut self, today: Date) -> bool {
        let mut places = Vec::new();
        for reference in self.batches.keys() {
            let here = Place::In(reference.clone());
            let groups = self.groups(|_, _| true, |place| *place == here);
            places.extend(groups.into_iter().map(|group| (group, reference.clone())));
        }
        places.sort_by_key(|(group, reference)| (group.seniority(), group.line.clone(), reference.clone()));
        let mut moved = false;
        for (group, reference) in places {
            moved |= self.move_earlier(&group, &reference, today);
        }
        moved
    }

    /// Moves what it can of a placement to batches on which it is ready earlier.
    fn move_earlier(&mut self, group: &Group, from: &BatchRef, today: Date) -> bool {
        let terms = self.lines[&group.line].terms;
        let now = ready(self.batches[from].eta, &terms, today);
        let mut offers = self.offers();
        offers.retain(|offer| offer.free > 0 && ready(offer.eta, &terms, today) < now);
        if offers.is_empty() {
            return false;
        }
        let takes = choose(offers, group.units, &terms, today);
        for (to, units) in &takes {
            self.line_mut(&group.line).put(group.turn, *units, &Place::In(from.clone()), &Place::In(to.clone()));
        }
        self.stirred |= !takes.is_empty();
        !takes.is_empty()
    }

    // ---- Supply ----

    pub(crate) fn batch(&self, reference: &BatchRef) -> Option<(u64, Option<Date>, bool)> {
        self.batches.get(reference).map(|batch| (batch.units, batch.eta, batch.cancelled))
    }

    pub(crate) fn create(&mut self, reference: BatchRef, units: u64, eta: Option<Date>) {
        self.batches.insert(reference, Declaration { units, eta, cancelled: false });
        self.stirred = true;
    }

    fn declaration(&mut self, reference: &BatchRef) -> &mut Declaration {
        self.batches.get_mut(reference).expect("a known batch")
    }

    /// A batch holds so many units from now on.
    pub(crate) fn recount(&mut self, reference: &BatchRef, units: u64, today: Date) {
        let losers = self.take_out(reference, units);
        self.declaration(reference).units = units;
        self.stirred = true;
        self.place_again(&losers, today);
    }

    pub(crate) fn receive(&mut self, reference: &BatchRef, units: u64, rest: Rest, today: Date) {
        let losers = self.take_out(reference, units);
        let batch = self.declaration(reference);
        let (before, eta) = (batch.units, batch.eta);
        (batch.units, batch.eta) = (units, None);
        self.stirred = true;
        if rest == Rest::Keep && before > units {
            let rest = rest_of(reference).expect("the name was seen to be free");
            self.create(rest, before - units, eta);
        }
        self.place_again(&losers, today);
    }

    pub(crate) fn cancel_batch(&mut self, reference: &BatchRef, today: Date) {
        let losers = self.take_out(reference, 0);
        let batch = self.declaration(reference);
        (batch.units, batch.cancelled) = (0, true);
        self.place_again(&losers, today);
    }

    /// Takes units out of a batch until no more than these are in it (rule 16): of holds first, then by lowest seniority.
    fn take_out(&mut self, reference: &BatchRef, until: u64) -> Vec<Group> {
        let here = Place::In(reference.clone());
        let mut candidates = self.groups(|_, _| true, |place| *place == here);
        candidates.reverse();
        candidates.sort_by_key(|group| self.lines[&group.line].until.is_none());
        let mut losers = Vec::new();
        for group in candidates {
            let lacking = self.in_batch(reference).saturating_sub(until);
            if lacking == 0 {
                break;
            }
            let line = self.line_mut(&group.line);
            let units = if line.is_whole() { group.units } else { group.units.min(lacking) };
            line.put(group.turn, units, &here, &Place::Moving);
            self.stirred = true;
            losers.push(Group { units, ..group });
        }
        losers.sort_by_key(Group::seniority);
        losers
    }

    /// Places units that were taken out wherever stock is free; else they wait, and a hold that can't be kept whole ends.
    fn place_again(&mut self, losers: &[Group], today: Date) {
        for loser in losers {
            let line = &self.lines[&loser.line];
            let terms = line.terms;
            if line.count(|place| *place == Place::Moving) == 0 {
                // A hold's units are all looked at with the first of them.
                continue;
            }
            if line.until.is_none() {
                let mut missing = loser.units;
                for (reference, units) in choose(self.offers(), loser.units, &terms, today) {
                    self.line_mut(&loser.line).put(loser.turn, units, &Place::Moving, &Place::In(reference));
                    missing -= units;
                }
                self.line_mut(&loser.line).put(loser.turn, missing, &Place::Moving, &Place::Queue);
                continue;
            }
            let before = self.lines.clone();
            for group in self.groups(|key, _| *key == loser.line, |place| *place == Place::Moving) {
                for (reference, units) in choose(self.offers(), group.units, &terms, today) {
                    self.line_mut(&loser.line).put(group.turn, units, &Place::Moving, &Place::In(reference));
                }
            }
            if self.lines[&loser.line].count(|place| *place == Place::Moving) > 0 {
                self.lines = before;
                let line = self.line_mut(&loser.line);
                line.until = None;
                line.put_all(|place| matches!(place, Place::In(_) | Place::Moving), &Place::Lapsed);
                self.stirred = true;
            }
        }
    }

    /// A batch comes on another day, or has arrived (rule 17).
    pub(crate) fn reschedule(&mut self, reference: &BatchRef, to: Option<Date>, today: Date) {
        let before = arrival(self.batches[reference].eta, today);
        self.declaration(reference).eta = to;
        self.stirred = true;
        if arrival(to, today) <= before {
            return;
        }
        let here = Place::In(reference.clone());
        for group in self.groups(|_, _| true, |place| *place == here) {
            let line = &self.lines[&group.line];
            if line.count(|place| *place == here) == 0 {
                continue;
            }
            if eligible(to, &line.terms, today) {
                self.move_earlier(&group, reference, today);
                continue;
            }
            // A hold is kept whole or not at all.
            let all = line.until.is_some();
            let late = self.groups(|key, _| *key == group.line, |place| *place == here);
            let late: Vec<Group> = late.into_iter().filter(|part| all || part.turn == group.turn).collect();
            for part in &late {
                self.line_mut(&part.line).put(part.turn, part.units, &here, &Place::Moving);
            }
            self.place_again(&late, today);
        }
    }

    // ---- Changes ----

    /// No longer wanted. `true` if it was.
    pub(crate) fn cancel_line(&mut self, key: &LineKey) -> bool {
        let line = self.line_mut(key);
        if !line.is_open() {
            return false;
        }
        let frees = line.placed() > 0;
        line.until = None;
        line.put_all(|place| matches!(place, Place::In(_) | Place::Queue), &Place::Cancelled);
        self.stirred |= frees;
        true
    }

    /// The line asks for something else (rule 23). `self` is a copy, of no use after a refusal.
    pub(crate) fn change(
        &mut self,
        key: &LineKey,
        change: &LineChange,
        turn: u64,
        today: Date,
    ) -> Result<Outcome, Refused> {
        let line = self.lines.get_mut(key).ok_or(Refused::UnknownLine)?;
        if !line.is_open() {
            return Err(Refused::NotAllowed);
        }
        let dropped = line.count(|place| *place == Place::Dropped);
        let requested = line.units.len() as u64;
        let terms = Terms {
            priority: change.priority.unwrap_or(line.terms.priority),
            by: change.by.unwrap_or(line.terms.by),
            ..line.terms
        };
        let same = change.qty.is_none_or(|qty| qty.units() == requested && dropped == 0);
        if same && terms == line.terms {
            return Ok(Outcome::Same);
        }
        line.terms = terms;
        let ordered = line.ordered();
        if change.qty.is_some() {
            line.units.retain(|unit| unit.place != Place::Dropped);
        }
        let to = change.qty.map_or(ordered, allocation_domain::Quantity::units);
        for _ in to..ordered {
            self.remove_one(key);
        }
        let whole = terms.split == Split::Never;
        if !whole || to <= ordered {
            self.leave_what_is_late(key, change.when_short, today)?;
        }
        if to > ordered {
            self.grow(key, to - ordered, change.when_short, turn, today)?;
        }
        self.stirred = true;
        Ok(Outcome::Changed)
    }

    /// Removes the unit that is missed least: one that waits, else of the latest arrival; of these the one that was added last.
    fn remove_one(&mut self, key: &LineKey) {
        let etas: BTreeMap<BatchRef, Option<Date>> =
            self.batches.iter().map(|(reference, batch)| (reference.clone(), batch.eta)).collect();
        let line = self.line_mut(key);
        let rank = |unit: &Unit| match &unit.place {
            Place::Queue => Some((true, None, unit.turn, None)),
            Place::In(reference) => Some((false, etas[reference], unit.turn, Some(Reverse(reference.clone())))),
            _ => None,
        };
        let at = (0..line.units.len()).max_by_key(|at| rank(&line.units[*at])).expect("a line has units");
        line.units.remove(at);
        line.counted = line.counted.min(line.waiting());
    }

    fn leave_what_is_late(&mut self, key: &LineKey, when_short: WhenShort, today: Date) -> Result<(), Refused> {
        let line = &self.lines[key];
        let (terms, waiting, until) = (line.terms, line.waiting(), line.until);
        let late: Vec<BatchRef> = self
            .batches
            .iter()
            .filter(|(_, batch)| !eligible(batch.eta, &terms, today))
            .map(|(reference, _)| reference.clone())
            .collect();
        let is_late = |place: &Place| matches!(place, Place::In(reference) if late.contains(reference));
        self.line_mut(key).put_all(is_late, &Place::Moving);
        let losers = self.groups(|other, _| other == key, |place| *place == Place::Moving);
        self.place_again(&losers, today);
        let line = &self.lines[key];
        if line.until != until || (line.waiting() > waiting && when_short != WhenShort::Backorder) {
            return Err(Refused::Short);
        }
        Ok(())
    }

    fn grow(&mut self, key: &LineKey, more: u64, when_short: WhenShort, turn: u64, today: Date) -> Result<(), Refused> {
        let line = &self.lines[key];
        let (terms, held) = (line.terms, line.until.is_some());
        if line.is_whole() {
            let unit = line.units.iter().find(|unit| matches!(unit.place, Place::In(_) | Place::Queue));
            let Unit { turn, place } = unit.expect("an open line has units").clone();
            let Place::In(reference) = &place else {
                if when_short != WhenShort::Backorder {
                    return Err(Refused::Short);
                }
                self.room_in_queue(more)?;
                let line = self.line_mut(key);
                line.add(turn, more, &Place::Queue);
                line.counted += more;
                return Ok(());
            };
            let stays = self.free(reference) >= more && eligible(self.batches[reference].eta, &terms, today);
            let to = if stays {
                place
            } else {
                let takes = choose(self.offers(), line.ordered() + more, &terms, today);
                Place::In(takes.into_iter().next().ok_or(Refused::Short)?.0)
            };
            let line = self.line_mut(key);
            line.put_all(|place| matches!(place, Place::In(_)), &to);
            line.add(turn, more, &to);
            return Ok(());
        }
        let takes = choose(self.offers(), more, &terms, today);
        let missing = more - takes.iter().map(|(_, units)| units).sum::<u64>();
        let place = match when_short {
            WhenShort::Partial if !takes.is_empty() => Place::Dropped,
            WhenShort::Backorder if !held => Place::Queue,
            _ if missing == 0 => Place::Queue,
            _ => return Err(Refused::Short),
        };
        if place == Place::Queue {
            self.room_in_queue(missing)?;
        }
        let line = self.line_mut(key);
        for (reference, units) in takes {
            line.add(turn, units, &Place::In(reference));
        }
        line.add(turn, missing, &place);
        if place == Place::Queue {
            line.counted += missing;
        }
        Ok(())
    }

    // ---- Views ----

    fn line_view(line: &Line) -> LineView {
        let mut placements = BTreeMap::new();
        for unit in &line.units {
            if let Place::In(reference) = &unit.place {
                *placements.entry(reference.clone()).or_default() += 1;
            }
        }
        LineView {
            state: line.state(),
            requested: line.units.len() as u64,
            placements,
            backordered: line.waiting(),
            queued: line.counted,
            dropped: line.count(|place| *place == Place::Dropped),
            cancelled: line.count(|place| *place == Place::Cancelled),
            lapsed: line.count(|place| *place == Place::Lapsed),
            until: line.until,
            terms: line.terms,
        }
    }

    pub(crate) fn view(&self) -> ProductView {
        let lines: BTreeMap<LineKey, LineView> =
            self.lines.iter().map(|(key, line)| (key.clone(), Self::line_view(line))).collect();
        let in_batch = |reference: &BatchRef, held: bool| {
            let lines = lines.values().filter(|line| line.until.is_some() == held);
            lines.filter_map(|line| line.placements.get(reference)).sum()
        };
        let batches = self.batches.iter().map(|(reference, batch)| {
            let view = BatchView {
                quantity: batch.units,
                held: in_batch(reference, true),
                allocated: in_batch(reference, false),
                eta: batch.eta,
                cancelled: batch.cancelled,
            };
            (reference.clone(), view)
        });
        ProductView {
            settings: self.settings,
            batches: batches.collect(),
            available: self.available(),
            backordered: lines.values().map(|line| line.backordered).sum(),
            queued: self.counted(),
            lines,
        }
    }

    /// What must be true after every command.
    pub(crate) fn invariants(&self, today: Date) -> Result<(), String> {
        for (reference, batch) in &self.batches {
            let placed = self.in_batch(reference);
            if placed > batch.units {
                return Err(format!("{placed} units are promised from {reference}, which has {}", batch.units));
            }
            // On every date: no more is promised from what will have come than will have come.
            let day = arrival(batch.eta, today);
            let come = self.batches.iter().filter(|(_, batch)| arrival(batch.eta, today) <= day);
            let (have, promised) = come.fold((0, 0), |(have, promised), (reference, batch)| {
                (have + batch.units, promised + self.in_batch(reference))
            });
            if promised > have {
                return Err(format!("{promised} units are promised by {day}, and {have} will have come"));
            }
        }
        for (key, line) in &self.lines {
            let name = format!("line {} of order {}", key.line, key.order_id);
            if line.count(|place| *place == Place::Moving) > 0 {
                return Err(format!("{name} has units that are nowhere"));
            }
            if line.until.is_some() && (line.placed() == 0 || line.waiting() > 0) {
                return Err(format!("{name} is held, and not all of it has a place"));
            }
            let view = Self::line_view(line);
            if view.placements.keys().any(|reference| !self.batches.contains_key(reference)) {
                return Err(format!("{name} is in a batch that is none"));
            }
            if line.is_whole() && view.placements.len() + usize::from(line.waiting() > 0) > 1 {
                return Err(format!("{name} may not be split, and is"));
            }
        }
        self.nobody_waits_in_vain(today)
    }

    /// Rule 10, looked at batch by batch: is there one from which somebody who waits could have a part?
    fn nobody_waits_in_vain(&self, today: Date) -> Result<(), String> {
        for group in self.groups(|_, _| true, |place| *place == Place::Queue) {
            let terms = self.lines[&group.line].terms;
            let enough = match terms.split {
                Split::Never => group.units,
                // A part, or the remainder.
                Split::Parts(least) => least.units().min(group.units),
            };
            for (reference, batch) in &self.batches {
                if self.free(reference) >= enough && eligible(batch.eta, &terms, today) {
                    let Group { line, units, .. } = &group;
                    let (order, free) = (&line.order_id, self.free(reference));
                    return Err(format!("{units} units of {order} wait, and {reference} has {free} free"));
                }
            }
        }
        Ok(())
    }
}

/// What the rest of a shipment is called: `PO`, `PO~2`, `PO~3` …
pub(crate) fn rest_of(reference: &BatchRef) -> Option<BatchRef> {
    let text = reference.as_str();
    let numbered = text.rfind('~').filter(|at| *at > 0).and_then(|at| {
        let number: u32 = text[at + 1..].parse().ok()?;
        Some(format!("{}~{}", &text[..at], number.checked_add(1)?))
    });
    BatchRef::new(numbered.unwrap_or_else(|| format!("{text}~2"))).ok()
}
