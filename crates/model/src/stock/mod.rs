//! The stock of one SKU: every batch, every line, every unit.

mod floor;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use allocation_domain::commands::{LineChange, Rest, WhenShort};
use allocation_domain::{BatchQuantity, BatchRef, LineKey, OrderLine, Settings, Split, Strategy, Terms};
use time::{Date, OffsetDateTime};

use crate::choosing::{Choice, Offer, Take, arrival};
use crate::model::{Outcome, Refused};

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
    /// The total that was declared.
    declared: u64,
    /// Units that turned up besides.
    found: u64,
    /// Units that are of no use any more, or could not be found.
    lost: u64,
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
    /// Whether its last day is over. What never comes does not expire.
    fn is_over(&self, today: Date) -> bool {
        !self.cancelled && self.expires_on.is_some_and(|last| last < today)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownBatch {
    pub(crate) is: BatchIs,
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
    /// The day on which what is due was done last.
    looked_at: Option<Date>,
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

    pub(crate) fn set(&mut self, settings: Settings, today: Date) {
        let keeps = settings.min_days == self.settings.min_days;
        self.settings = settings;
        self.stirred = true;
        if !keeps {
            self.check(|_| true, today);
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

    /// Units that are in a batch now: declared + found + returned − lost − shipped.
    fn quantity(&self, reference: &BatchRef) -> u64 {
        let batch = &self.batches[reference];
        let come = batch.declared + batch.found + self.count(|place| place.returned_into() == Some(reference));
        let gone = batch.lost + self.count(|place| place.shipped_from() == Some(reference));
        come.checked_sub(gone).expect("no more goes out of a batch than is in it")
    }

    /// Units that may be placed, free or not.
    fn usable(&self, reference: &BatchRef) -> u64 {
        let batch = &self.batches[reference];
        if batch.expired { 0 } else { self.quantity(reference).saturating_sub(batch.quarantined) }
    }

    fn free(&self, reference: &BatchRef) -> u64 {
        self.usable(reference).saturating_sub(self.in_batch(reference))
    }

    fn offers(&self) -> Vec<Offer> {
        let offer = |(reference, batch): (&BatchRef, &Batch)| Offer {
            reference: reference.clone(),
            eta: batch.eta,
            came: batch.came,
            expires_on: batch.expires_on,
            free: self.free(reference),
        };
        self.batches.iter().map(offer).collect()
    }

    pub(crate) fn available(&self) -> u64 {
        let on_hand = self.batches.iter().filter(|(_, batch)| batch.eta.is_none());
        on_hand.map(|(reference, _)| self.free(reference)).sum()
    }

    pub(crate) fn promisable_by(&self, by: Date, today: Date) -> u64 {
        // What has come by then, and is still of use then.
        let in_time = |batch: &Batch| arrival(batch.eta, today) <= by && batch.expires_on.is_none_or(|last| by <= last);
        let in_time = self.batches.iter().filter(|(_, batch)| in_time(batch));
        in_time.map(|(reference, _)| self.free(reference)).sum()
    }

    /// What units of a line with such terms are chosen by.
    fn choice(&self, terms: &Terms, today: Date) -> Choice {
        Choice {
            terms: *terms,
            strategy: self.settings.strategy.unwrap_or(Strategy::Earliest),
            min_days: terms.min_days.unwrap_or(self.settings.min_days),
            today,
        }
    }

    /// Whether a line may have units of a batch.
    fn allows(&self, terms: &Terms, reference: &BatchRef, today: Date) -> bool {
        let batch = &self.batches[reference];
        self.choice(terms, today).allows(batch.eta, batch.expires_on)
    }

    /// Whether units of a batch are of use to a line for long enough (rule 7).
    fn keeps(&self, terms: &Terms, reference: &BatchRef, today: Date) -> bool {
        let batch = &self.batches[reference];
        self.choice(terms, today).keeps(batch.eta, batch.expires_on)
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
            let choice = self.choice(&line.terms, today);
            let mut takes = choice.choose(offers.clone(), wanted);
            if takes.is_empty() && when_short == WhenShort::Partial && line.terms.split == Split::Never {
                takes = choice.most_of_one(offers.clone());
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

    // ---- What is due ----

    /// Does what is due: holds end, batches expire, what is not of use for long enough any more is given up, and who waits is served
    /// (rules 7 and 13).
    pub(crate) fn do_what_is_due(&mut self, now: OffsetDateTime) {
        let today = now.date();
        self.end_holds(now);
        for batch in self.batches.values_mut() {
            batch.expired = batch.is_over(today);
        }
        self.check(|_| true, today);
        self.settle(today);
        self.looked_at = Some(today);
    }

    /// Takes lines out of such batches if what they have there is not of use to them for long enough, locked or not (rule 7). All lose
    /// their places before the first is placed again.
    fn check(&mut self, of: impl Fn(&BatchRef) -> bool, today: Date) {
        for reference in self.batches.keys().filter(|reference| of(reference)).cloned().collect::<Vec<_>>() {
            self.lose_places(&reference, |stock, terms| !stock.keeps(terms, &reference, today));
        }
        let losers = self.groups(|_, _| true, |place| *place == Place::Moving);
        self.place_again(&losers, today);
    }

    /// Takes all units of such lines out of a batch.
    fn lose_places(&mut self, reference: &BatchRef, lose: impl Fn(&Self, &Terms) -> bool) {
        for key in self.lines.keys().cloned().collect::<Vec<_>>() {
            let line = &self.lines[&key];
            if line.count(|place| place.batch() == Some(reference)) > 0 && lose(self, &line.terms) {
                self.line_mut(&key).put_all(|place| place.batch() == Some(reference), &Place::Moving);
                self.stirred = true;
            }
        }
    }

    // ---- Holds ----

    /// Ends holds whose time has come.
    fn end_holds(&mut self, now: OffsetDateTime) {
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
            for (reference, units) in self.choice(&terms, today).choose(self.offers(), group.units) {
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
        let line = &self.lines[&group.line];
        if line.is_pinned() {
            return false;
        }
        let choice = self.choice(&line.terms, today);
        let now = choice.ready(self.batches[from].eta);
        let mut offers = self.offers();
        offers.retain(|offer| offer.free > 0 && choice.ready(offer.eta) < now);
        if offers.is_empty() {
            return false;
        }
        let takes = choice.choose(offers, group.units);
        for (to, units) in &takes {
            self.line_mut(&group.line).put(group.turn, *units, &Place::In(from.clone()), &Place::In(to.clone()));
        }
        self.stirred |= !takes.is_empty();
        !takes.is_empty()
    }

    // ---- Supply ----

    /// What is known of a batch.
    pub(crate) fn batch(&self, reference: &BatchRef) -> Option<KnownBatch> {
        self.batches.get(reference).map(|batch| {
            let is = match batch {
                Batch { cancelled: true, .. } => BatchIs::Cancelled,
                Batch { expired: true, .. } => BatchIs::Expired,
                Batch { eta: Some(_), .. } => BatchIs::Expected,
                Batch { eta: None, .. } => BatchIs::OnHand,
            };
            KnownBatch { is, declared: batch.declared, eta: batch.eta, expires_on: batch.expires_on }
        })
    }

    /// Whether each of its batches must say when it expires, and this one does not.
    pub(crate) fn lacks_expiry(&self, expires_on: Option<Date>) -> bool {
        self.settings.requires_expiry && expires_on.is_none()
    }

    pub(crate) fn create(
        &mut self,
        reference: BatchRef,
        units: u64,
        eta: Option<Date>,
        expires_on: Option<Date>,
        today: Date,
    ) {
        let came = eta.is_none().then(|| self.next_arrival());
        let mut batch = Batch {
            declared: units,
            found: 0,
            lost: 0,
            quarantined: 0,
            eta,
            came,
            expires_on,
            cancelled: false,
            expired: false,
        };
        batch.expired = batch.is_over(today);
        self.batches.insert(reference, batch);
        self.stirred = true;
    }

    fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    fn batch_mut(&mut self, reference: &BatchRef) -> &mut Batch {
        self.batches.get_mut(reference).expect("a known batch")
    }

    /// Whether such a total may be declared of a batch: there can't be fewer units than none.
    pub(crate) fn may_redeclare(&self, reference: &BatchRef, units: u64) -> Result<(), Refused> {
        let before = self.batches[reference].declared;
        let there = (self.quantity(reference) + units).checked_sub(before).ok_or(Refused::TooMany)?;
        if there > BatchQuantity::MAX { Err(Refused::TooMany) } else { Ok(()) }
    }

    /// Another total is declared of a batch; what became of its units since stands (rule 15).
    pub(crate) fn redeclare(&mut self, reference: &BatchRef, units: u64, today: Date) -> Result<(), Refused> {
        self.may_redeclare(reference, units)?;
        self.batch_mut(reference).declared = units;
        self.stirred = true;
        let losers = self.take_out(reference);
        self.place_again(&losers, today);
        Ok(())
    }

    pub(crate) fn receive(&mut self, reference: &BatchRef, units: u64, rest: Rest, today: Date) {
        let came = Some(self.next_arrival());
        let batch = self.batch_mut(reference);
        let (before, eta, expires_on) = (batch.declared, batch.eta, batch.expires_on);
        (batch.declared, batch.eta, batch.came) = (units, None, came);
        self.stirred = true;
        let losers = self.take_out(reference);
        if rest == Rest::Keep && before > units {
            let rest = rest_of(reference).expect("the name was seen to be free");
            self.create(rest, before - units, eta, expires_on, today);
        }
        self.place_again(&losers, today);
    }

    pub(crate) fn cancel_batch(&mut self, reference: &BatchRef, today: Date) {
        let batch = self.batch_mut(reference);
        (batch.declared, batch.cancelled) = (0, true);
        let losers = self.take_out(reference);
        self.place_again(&losers, today);
    }

    /// Units in such a place in the order in which they lose it: of holds first, then by lowest seniority (rule 16).
    fn weakest_first(&self, place: &Place) -> Vec<Group> {
        let mut groups = self.groups(|_, _| true, |at| at == place);
        groups.reverse();
        groups.sort_by_key(|group| self.lines[&group.line].until.is_none());
        groups
    }

    /// Takes units out of a batch until no more are in it than there are (rule 16): locked ones last, and none that are set aside
    /// while there is another.
    fn take_out(&mut self, reference: &BatchRef) -> Vec<Group> {
        let quantity = self.quantity(reference);
        let batch = self.batch_mut(reference);
        batch.quarantined = batch.quarantined.min(quantity);
        for place in [Place::In(reference.clone()), Place::Locked(reference.clone())] {
            for group in self.weakest_first(&place) {
                let lacking = self.in_batch(reference).saturating_sub(self.usable(reference));
                if lacking == 0 {
                    break;
                }
                let line = self.line_mut(&group.line);
                if line.is_whole() {
                    line.put_all(|place| place.batch() == Some(reference), &Place::Moving);
                } else {
                    line.put(group.turn, group.units.min(lacking), &place, &Place::Moving);
                }
                self.stirred = true;
            }
        }
        self.groups(|_, _| true, |place| *place == Place::Moving)
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
                for (reference, units) in self.choice(&terms, today).choose(self.offers(), loser.units) {
                    self.line_mut(&loser.line).put(loser.turn, units, &Place::Moving, &Place::In(reference));
                    missing -= units;
                }
                self.line_mut(&loser.line).put(loser.turn, missing, &Place::Moving, &Place::Queue);
                continue;
            }
            let before = self.lines.clone();
            for group in self.groups(|key, _| *key == loser.line, |place| *place == Place::Moving) {
                for (reference, units) in self.choice(&terms, today).choose(self.offers(), group.units) {
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
        let came = to.is_none().then(|| self.next_arrival());
        let batch = self.batch_mut(reference);
        (batch.eta, batch.came) = (to, came);
        self.stirred = true;
        if arrival(to, today) <= before {
            return;
        }
        let here = Place::In(reference.clone());
        let groups = self.groups(|_, _| true, |place| *place == here);
        self.lose_places(reference, |stock, terms| !stock.allows(terms, reference, today));
        for group in groups {
            let line = &self.lines[&group.line];
            if line.count(|place| *place == Place::Moving) > 0 {
                // All of a hold's units are looked at with the first of them.
                self.place_again(&[group], today);
            } else if line.count(|place| *place == here) > 0 {
                self.move_earlier(&group, reference, today);
            }
        }
    }

    /// A batch is of use until another day.
    pub(crate) fn expire_on(&mut self, reference: &BatchRef, last: Option<Date>, today: Date) {
        let batch = self.batch_mut(reference);
        batch.expires_on = last;
        batch.expired = batch.is_over(today);
        self.stirred = true;
        self.check(|of| of == reference, today);
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
        if change.qty.is_some_and(|qty| qty.units() < line.shipped() + line.locked()) {
            return Err(Refused::TooFew);
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

    /// Removes the unit that is missed least: one that waits, else of the latest arrival; of these the one that was added last. None
    /// that is locked or shipped.
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
        assert!(rank(&line.units[at]).is_some(), "a line has a unit that may be removed");
        line.units.remove(at);
        line.counted = line.counted.min(line.waiting());
    }

    fn leave_what_is_late(&mut self, key: &LineKey, when_short: WhenShort, today: Date) -> Result<(), Refused> {
        let line = &self.lines[key];
        if line.is_pinned() {
            return Ok(());
        }
        let (terms, waiting, until) = (line.terms, line.waiting(), line.until);
        let late: Vec<BatchRef> =
            self.batches.keys().filter(|reference| !self.allows(&terms, reference, today)).cloned().collect();
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
            let open = line.placed() + line.waiting();
            let unit = line.units.iter().find(|unit| unit.place.batch().is_some() || unit.place == Place::Queue);
            let Unit { turn, place } = unit.expect("an open line has units").clone();
            let Some(reference) = place.batch() else {
                if when_short != WhenShort::Backorder {
                    return Err(Refused::Short);
                }
                self.room_in_queue(more)?;
                let line = self.line_mut(key);
                line.add(turn, more, &Place::Queue);
                line.counted += more;
                return Ok(());
            };
            let stays = self.free(reference) >= more && self.allows(&terms, reference, today);
            let to = if stays {
                Place::In(reference.clone())
            } else if line.is_pinned() {
                return Err(Refused::Short);
            } else {
                let takes = self.choice(&terms, today).choose(self.offers(), open + more);
                Place::In(takes.into_iter().next().ok_or(Refused::Short)?.0)
            };
            let line = self.line_mut(key);
            line.put_all(|place| matches!(place, Place::In(_)), &to);
            line.add(turn, more, &to);
            return Ok(());
        }
        let takes = self.choice(&terms, today).choose(self.offers(), more);
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
        let mut shipped = BTreeMap::new();
        for unit in &line.units {
            if let Some(reference) = unit.place.batch() {
                *placements.entry(reference.clone()).or_default() += 1;
            }
            if let Some(reference) = unit.place.shipped_from() {
                *shipped.entry(reference.clone()).or_default() += 1;
            }
        }
        LineView {
            state: line.state(),
            requested: line.units.len() as u64,
            placements,
            locked: line.locked(),
            shipped,
            returned: line.returned(),
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
                quantity: self.quantity(reference),
                declared: batch.declared,
                quarantined: batch.quarantined,
                held: in_batch(reference, true),
                allocated: in_batch(reference, false),
                eta: batch.eta,
                expires_on: batch.expires_on,
                cancelled: batch.cancelled,
                expired: batch.expired && self.quantity(reference) > 0,
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
            self.nothing_is_in_two_places(reference, batch)?;
            self.nothing_is_in_what_has_expired(reference, batch, today)?;
            // On every date: no more is promised from what will have come than will have come.
            let day = arrival(batch.eta, today);
            let come = self.batches.iter().filter(|(_, batch)| arrival(batch.eta, today) <= day);
            let (have, promised) = come.fold((0, 0), |(have, promised), (reference, _)| {
                (have + self.usable(reference), promised + self.in_batch(reference))
            });
            if promised > have {
                return Err(format!("{promised} units are promised by {day}, and {have} will have come"));
            }
        }
        for (key, line) in &self.lines {
            let name = format!("line {} of order {}", key.line, key.order_id);
            self.is_where_it_may_be(line).map_err(|what| format!("{name} {what}"))?;
            self.is_of_use(line, today).map_err(|what| format!("{name} {what}"))?;
        }
        self.nobody_waits_in_vain(today)
    }

    fn nothing_is_in_two_places(&self, reference: &BatchRef, batch: &Batch) -> Result<(), String> {
        let (placed, quantity, aside) = (self.in_batch(reference), self.quantity(reference), batch.quarantined);
        if placed + aside > quantity {
            return Err(format!(
                "{placed} units are promised from {reference}, which has {quantity}, {aside} set aside"
            ));
        }
        if batch.eta.is_some() && (quantity != batch.declared || aside > 0) {
            return Err(format!("{reference} has not arrived, and something has become of its units"));
        }
        if batch.cancelled && quantity > 0 {
            return Err(format!("{reference} will never come, and has {quantity} units"));
        }
        Ok(())
    }

    fn nothing_is_in_what_has_expired(&self, reference: &BatchRef, batch: &Batch, today: Date) -> Result<(), String> {
        let placed = self.in_batch(reference);
        if batch.expired && placed > 0 {
            return Err(format!("{placed} units are promised from {reference}, which has expired"));
        }
        if batch.expired && (self.free(reference) > 0 || batch.cancelled) {
            return Err(format!("{reference} has expired, and has free units or will never come"));
        }
        // Its day may have ended since it was looked at, but not begun again.
        let is_seen = self.looked_at == Some(today);
        if (batch.expired || is_seen) && batch.expired != batch.is_over(today) {
            return Err(format!("{reference} has expired is {}, and it is {today}", batch.expired));
        }
        if batch.came.is_some() != batch.eta.is_none() {
            return Err(format!("{reference} has arrived, and nobody knows when, or the other way round"));
        }
        Ok(())
    }

    /// Rule 7, once what is due was done that day.
    fn is_of_use(&self, line: &Line, today: Date) -> Result<(), String> {
        let mut places = line.units.iter().filter_map(|unit| unit.place.batch());
        match places.find(|reference| !self.keeps(&line.terms, reference, today)) {
            Some(reference) if self.looked_at == Some(today) => {
                Err(format!("is in {reference}, which is not of use for long enough"))
            }
            _ => Ok(()),
        }
    }

    fn is_where_it_may_be(&self, line: &Line) -> Result<(), String> {
        if line.count(|place| *place == Place::Moving) > 0 {
            return Err("has units that are nowhere".to_owned());
        }
        if line.until.is_some() && (line.placed() == 0 || line.waiting() > 0) {
            return Err("is held, and not all of it has a place".to_owned());
        }
        if line.until.is_some() && line.locked() + line.shipped() > 0 {
            return Err("is held, and some of it is locked or shipped".to_owned());
        }
        let view = Self::line_view(line);
        let places = view.placements.values().chain(view.shipped.values()).sum::<u64>();
        if view.requested != places + view.backordered + view.dropped + view.cancelled + view.lapsed {
            return Err("has units that are counted twice, or not at all".to_owned());
        }
        let shipped = view.shipped.values().sum::<u64>();
        if shipped > view.requested || view.returned > shipped {
            return Err(format!("asks for {}, was shipped {shipped}, and gave back {}", view.requested, view.returned));
        }
        if view.placements.keys().any(|reference| !self.batches.contains_key(reference)) {
            return Err("is in a batch that is none".to_owned());
        }
        let has_arrived = |reference: &BatchRef| self.batches.get(reference).is_some_and(|batch| batch.eta.is_none());
        let locked_in = |reference: &BatchRef| line.count(|place| *place == Place::Locked(reference.clone())) > 0;
        let left = view.placements.keys().filter(|reference| locked_in(reference)).chain(view.shipped.keys());
        if let Some(reference) = left.into_iter().find(|reference| !has_arrived(reference)) {
            return Err(format!("is locked in or shipped from {reference}, which has not arrived"));
        }
        let mut sources = line.sources.clone();
        sources.sort();
        if !view.shipped.keys().eq(&sources) {
            return Err("was shipped from other batches than it remembers".to_owned());
        }
        if line.is_whole() && view.placements.len() + usize::from(line.waiting() > 0) > 1 {
            return Err("may not be split, and is".to_owned());
        }
        Ok(())
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
            for reference in self.batches.keys() {
                if self.free(reference) >= enough && self.allows(&terms, reference, today) {
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
