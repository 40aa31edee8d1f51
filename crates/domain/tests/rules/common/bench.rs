//! A product on the workbench, with the words that tests use.

use std::collections::BTreeMap;

use allocation_domain::commands::{
    AdjustBatch, Adjustment, Allocate, ApplyDue, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, ChangeLine,
    ConfirmHold, CreateBatch, Deallocate, DeclareBatch, ExtendHold, Improve, LineChange, LineOf, Pick, Precondition,
    QuarantineBatch, ReceiveBatch, ReleaseBatch, Rest, Return, ReturnItem, ReturnTo, SetProduct, Ship, ShipItem,
    Transfer, Unpick, WhenShort,
};
use allocation_domain::product::Displaced;
use allocation_domain::{
    AcceptedLine, Batch, BatchQuantity, BatchRef, Command, Event, HoldSeconds, LineId, LineKey, Location, Locations,
    OrderId, Product, Quantity, Reason, Rejection, Settings, Sku, Split, Terms,
};
use allocation_model::Outcome;
use time::macros::{date, datetime};
use time::{Date, Duration};

use super::keeper::Keeper;

/// The day that is so many days after today, as long as no time has passed.
pub(crate) fn day(days: i64) -> Date {
    date!(2011 - 01 - 02) + Duration::days(days)
}

pub(crate) fn batch_ref(name: &str) -> BatchRef {
    BatchRef::new(name).unwrap()
}

/// A location; the usual one is `default`.
pub(crate) fn at(name: &str) -> Location {
    Location::new(name).unwrap()
}

pub(crate) fn key(order_id: &str) -> LineKey {
    LineKey { order_id: OrderId::new(order_id).unwrap(), line: LineId::default() }
}

pub(crate) fn qty(units: u64) -> Quantity {
    Quantity::new(units).unwrap()
}

pub(crate) fn stock(units: u64) -> BatchQuantity {
    BatchQuantity::new(units).unwrap()
}

fn sku() -> Sku {
    Sku::new("SMALL-TABLE").unwrap()
}

fn line_of() -> LineOf {
    LineOf { sku: sku(), line: LineId::default() }
}

/// A request for a line.
#[derive(Clone)]
pub(crate) struct Ask {
    qty: Quantity,
    terms: Terms,
    when_short: WhenShort,
    hold: Option<HoldSeconds>,
}

/// Asks for units on the usual terms, all of them or nothing.
pub(crate) fn ask(units: u64) -> Ask {
    Ask { qty: qty(units), terms: Terms::default(), when_short: WhenShort::Reject, hold: None }
}

impl Ask {
    pub(crate) fn whole(mut self) -> Self {
        self.terms.split = Split::Never;
        self
    }

    pub(crate) fn parts_of(mut self, least: u64) -> Self {
        self.terms.split = Split::Parts(qty(least));
        self
    }

    /// In parts at any number of locations.
    pub(crate) fn over_locations(mut self) -> Self {
        self.terms.split = Split::OverLocations(Quantity::ONE);
        self
    }

    /// Only from these locations, and rather from the first.
    pub(crate) fn from(mut self, locations: &[&str]) -> Self {
        self.terms.locations = Some(Locations::new(locations.iter().map(|name| at(name)).collect()).unwrap());
        self
    }

    pub(crate) fn priority(mut self, priority: i32) -> Self {
        self.terms.priority = priority;
        self
    }

    pub(crate) fn by(mut self, days: i64) -> Self {
        self.terms.by = Some(day(days));
        self
    }

    pub(crate) fn not_before(mut self, days: i64) -> Self {
        self.terms.not_before = Some(day(days));
        self
    }

    /// What there is; the rest waits.
    pub(crate) fn or_wait(mut self) -> Self {
        self.when_short = WhenShort::Backorder;
        self
    }

    /// What there is; the rest is dropped.
    pub(crate) fn or_less(mut self) -> Self {
        self.when_short = WhenShort::Partial;
        self
    }

    pub(crate) fn held(mut self, seconds: u64) -> Self {
        self.hold = Some(HoldSeconds::new(seconds).unwrap());
        self
    }
}

/// One product, and everything that happens to it.
pub(crate) struct Bench {
    pub(crate) keeper: Keeper,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { keeper: Keeper::new(datetime!(2011-01-02 08:00 UTC)) }
    }

    /// With these batches: location, name, units, days until it is expected (none: arrived).
    pub(crate) fn with_at(batches: &[(&str, &str, u64, Option<i64>)]) -> Self {
        let mut bench = Self::new();
        for (location, name, units, days) in batches {
            bench.create_at(location, name, *units, *days).unwrap();
        }
        bench.told();
        bench
    }

    /// With these batches: name, units, days until it is expected (none: arrived).
    pub(crate) fn with(batches: &[(&str, u64, Option<i64>)]) -> Self {
        let mut bench = Self::new();
        for (name, units, days) in batches {
            bench.create(name, *units, *days).unwrap();
        }
        bench.told();
        bench
    }

    /// Clocks show so many hours more there, or less.
    pub(crate) fn clocks(&mut self, location: &str, hours: i64) {
        self.keeper.hours.insert(at(location), hours);
    }

    fn run(&mut self, command: &Command) -> Result<(Outcome, Vec<Displaced>), Rejection> {
        let done = self.keeper.run(command);
        assert_eq!(self.keeper.complaints, [""; 0], "after {command:?}");
        done.map(|done| (done.outcome, done.displaced))
    }

    // ---- Supply ----

    pub(crate) fn set(&mut self, settings: Settings) -> Outcome {
        self.run(&Command::SetProduct(SetProduct { sku: sku(), settings })).unwrap().0
    }

    pub(crate) fn create(&mut self, name: &str, units: u64, days: Option<i64>) -> Result<Outcome, Rejection> {
        self.create_at("default", name, units, days)
    }

    pub(crate) fn create_at(
        &mut self,
        location: &str,
        name: &str,
        units: u64,
        days: Option<i64>,
    ) -> Result<Outcome, Rejection> {
        let (reference, qty, eta, location) = (batch_ref(name), stock(units), days.map(day), at(location));
        self.run(&Command::CreateBatch(CreateBatch { sku: sku(), reference, qty, eta, expires_on: None, location }))
            .map(|(outcome, _)| outcome)
    }

    /// It is of use until so many days from now.
    pub(crate) fn create_until(&mut self, location: &str, name: &str, units: u64, last: i64) -> Outcome {
        let (reference, qty, location) = (batch_ref(name), stock(units), at(location));
        let (eta, expires_on) = (None, Some(day(last)));
        let command = Command::CreateBatch(CreateBatch { sku: sku(), reference, qty, eta, expires_on, location });
        self.run(&command).unwrap().0
    }

    /// Says nothing of its date, nor of its location.
    pub(crate) fn declare(&mut self, name: &str, units: u64) -> Result<Outcome, Rejection> {
        self.declare_at(None, name, units)
    }

    /// Says nothing of its date.
    pub(crate) fn declare_at(&mut self, location: Option<&str>, name: &str, units: u64) -> Result<Outcome, Rejection> {
        let (reference, qty, location) = (batch_ref(name), stock(units), location.map(at));
        let (eta, expires_on, precondition) = (None, None, Precondition::None);
        let batch = DeclareBatch { sku: sku(), reference, qty, eta, expires_on, location, precondition };
        self.run(&Command::DeclareBatch(batch)).map(|(outcome, _)| outcome)
    }

    /// So many free units of a batch go to another location, where they are expected as another batch.
    pub(crate) fn transfer(
        &mut self,
        from: &str,
        units: u64,
        to: &str,
        name: &str,
        days: i64,
    ) -> Result<Outcome, Rejection> {
        let (from, reference) = (batch_ref(from), batch_ref(name));
        let transfer = Transfer { sku: sku(), from, qty: qty(units), to: at(to), reference, eta: day(days) };
        self.run(&Command::Transfer(transfer)).map(|(outcome, _)| outcome)
    }

    pub(crate) fn recount(&mut self, name: &str, units: u64) -> Result<(Outcome, Vec<Displaced>), Rejection> {
        let (reference, qty) = (batch_ref(name), stock(units));
        self.run(&Command::ChangeBatchQuantity(ChangeBatchQuantity { sku: sku(), reference, qty }))
    }

    pub(crate) fn reschedule(&mut self, name: &str, days: Option<i64>) -> Result<(Outcome, Vec<Displaced>), Rejection> {
        let (reference, eta) = (batch_ref(name), days.map(day));
        self.run(&Command::ChangeBatchEta(ChangeBatchEta { sku: sku(), reference, eta }))
    }

    pub(crate) fn receive(
        &mut self,
        name: &str,
        units: u64,
        rest: Rest,
    ) -> Result<(Outcome, Vec<Displaced>), Rejection> {
        let (reference, qty) = (batch_ref(name), qty(units));
        self.run(&Command::ReceiveBatch(ReceiveBatch { sku: sku(), reference, qty, rest }))
    }

    pub(crate) fn cancel_batch(&mut self, name: &str) -> Result<(Outcome, Vec<Displaced>), Rejection> {
        let reference = batch_ref(name);
        self.run(&Command::CancelBatch(CancelBatch { sku: sku(), reference }))
    }

    /// Sets so many units of a batch aside, or all.
    pub(crate) fn quarantine(
        &mut self,
        name: &str,
        units: impl Into<Option<u64>>,
    ) -> Result<(Outcome, Vec<Displaced>), Rejection> {
        let (reference, qty) = (batch_ref(name), units.into().map(qty));
        self.run(&Command::QuarantineBatch(QuarantineBatch { sku: sku(), reference, qty }))
    }

    /// Gives so many of them free again, or all.
    pub(crate) fn release(&mut self, name: &str, units: impl Into<Option<u64>>) -> Result<Outcome, Rejection> {
        let (reference, qty) = (batch_ref(name), units.into().map(qty));
        self.run(&Command::ReleaseBatch(ReleaseBatch { sku: sku(), reference, qty })).map(|(outcome, _)| outcome)
    }

    pub(crate) fn adjust(
        &mut self,
        name: &str,
        adjustment: Adjustment,
    ) -> Result<(Outcome, Vec<Displaced>), Rejection> {
        let (reference, reason) = (batch_ref(name), Reason::new("seen").unwrap());
        self.run(&Command::AdjustBatch(AdjustBatch { sku: sku(), reference, adjustment, reason }))
    }

    // ---- The floor ----

    pub(crate) fn pick(&mut self, order_id: &str) -> Result<Outcome, Rejection> {
        let (order_id, lines) = (OrderId::new(order_id).unwrap(), Vec::new());
        self.run(&Command::Pick(Pick { order_id, lines })).map(|(outcome, _)| outcome)
    }

    pub(crate) fn unpick(&mut self, order_id: &str) -> Result<Outcome, Rejection> {
        let (order_id, lines) = (OrderId::new(order_id).unwrap(), Vec::new());
        self.run(&Command::Unpick(Unpick { order_id, lines })).map(|(outcome, _)| outcome)
    }

    /// So many units of a line leave from where they are; tells where its units are.
    pub(crate) fn ship(&mut self, order_id: &str, units: u64) -> Result<String, Rejection> {
        self.ship_items(order_id, vec![ShipItem { of: line_of(), qty: Some(qty(units)), from: None }])
    }

    /// The same from a batch that is named.
    pub(crate) fn ship_from(&mut self, name: &str, order_id: &str, units: u64) -> Result<String, Rejection> {
        let from = Some(batch_ref(name));
        self.ship_items(order_id, vec![ShipItem { of: line_of(), qty: Some(qty(units)), from }])
    }

    /// Everything that is allocated.
    pub(crate) fn ship_all(&mut self, order_id: &str) -> Result<String, Rejection> {
        self.ship_items(order_id, Vec::new())
    }

    fn ship_items(&mut self, order_id: &str, items: Vec<ShipItem>) -> Result<String, Rejection> {
        self.run(&Command::Ship(Ship { order_id: OrderId::new(order_id).unwrap(), items }))?;
        Ok(self.at(order_id))
    }

    /// So many units of a line come back: into a batch, or to where they came from; tells where its units are.
    pub(crate) fn bring_back(
        &mut self,
        order_id: &str,
        units: u64,
        to: ReturnTo,
        into: Option<&str>,
    ) -> Result<String, Rejection> {
        let items = vec![ReturnItem { of: line_of(), qty: qty(units), to, into: into.map(batch_ref) }];
        self.run(&Command::Return(Return { order_id: OrderId::new(order_id).unwrap(), items }))?;
        Ok(self.at(order_id))
    }

    // ---- Promises ----

    /// Asks for units on the usual terms, all of them or nothing; tells where they are.
    pub(crate) fn allocate(&mut self, order_id: &str, units: u64) -> Result<String, Rejection> {
        self.ask(order_id, ask(units))
    }

    pub(crate) fn ask(&mut self, order_id: &str, asked: Ask) -> Result<String, Rejection> {
        let line = (sku(), LineId::default(), asked.qty, asked.terms);
        let mut command = Allocate::new(OrderId::new(order_id).unwrap(), [line]).unwrap();
        (command.when_short, command.hold) = (asked.when_short, asked.hold);
        self.run(&Command::Allocate(command))?;
        Ok(self.at(order_id))
    }

    pub(crate) fn confirm(&mut self, order_id: &str) -> Result<Outcome, Rejection> {
        let order_id = OrderId::new(order_id).unwrap();
        self.run(&Command::ConfirmHold(ConfirmHold { order_id })).map(|(outcome, _)| outcome)
    }

    pub(crate) fn extend(&mut self, order_id: &str, seconds: u64) -> Result<Outcome, Rejection> {
        let (order_id, hold) = (OrderId::new(order_id).unwrap(), HoldSeconds::new(seconds).unwrap());
        self.run(&Command::ExtendHold(ExtendHold { order_id, hold })).map(|(outcome, _)| outcome)
    }

    /// Changes a line; tells where its units are.
    pub(crate) fn change(&mut self, order_id: &str, change: LineChange) -> Result<String, Rejection> {
        self.run(&Command::ChangeLine(ChangeLine { sku: sku(), line: key(order_id), change }))?;
        Ok(self.at(order_id))
    }

    pub(crate) fn cancel(&mut self, order_id: &str) -> Result<Outcome, Rejection> {
        let order_id = OrderId::new(order_id).unwrap();
        let command = Command::Deallocate(Deallocate { order_id, sku: Some(sku()), line: None });
        self.run(&command).map(|(outcome, _)| outcome)
    }

    pub(crate) fn improve(&mut self) -> Outcome {
        self.run(&Command::Improve(Improve { sku: sku() })).unwrap().0
    }

    /// Time passes, and what is due is done.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.keeper.now += time;
        self.run(&Command::ApplyDue(ApplyDue { sku: sku() })).unwrap();
    }

    // ---- How it stands ----

    /// The product with everything at hand.
    pub(crate) fn product(&self) -> Product {
        self.keeper.product(&sku()).expect("a known product")
    }

    pub(crate) fn line(&self, order_id: &str) -> &AcceptedLine {
        &self.keeper.stored[&sku()].lines[&key(order_id)]
    }

    pub(crate) fn batch(&self, name: &str) -> &Batch {
        &self.keeper.stored[&sku()].batches[&batch_ref(name)]
    }

    /// Units that can be promised at a location.
    pub(crate) fn available_at(&self, location: &str) -> u64 {
        self.product().available_at(&at(location))
    }

    pub(crate) fn free(&self, name: &str) -> u64 {
        self.batch(name).free()
    }

    pub(crate) fn state(&self, order_id: &str) -> &'static str {
        self.line(order_id).state().name()
    }

    /// Units of a batch: how many there are, and how many of them are set aside.
    pub(crate) fn stock(&self, name: &str) -> (u64, u64) {
        (self.batch(name).quantity.units(), self.batch(name).quarantined)
    }

    /// Where a line's units are: `3 in b, 2 wait`, and how many of them are being picked: `3 in b (1 locked)`.
    pub(crate) fn at(&self, order_id: &str) -> String {
        let line = self.line(order_id);
        let mut here: BTreeMap<&BatchRef, (u64, u64)> = BTreeMap::new();
        for (batch, part) in line.placements() {
            let (units, locked) = here.entry(batch).or_default();
            *units += part.qty.units();
            *locked += if part.locked { part.qty.units() } else { 0 };
        }
        let place = |(batch, (units, locked)): (&BatchRef, (u64, u64))| match locked {
            0 => (format!("in {batch}"), units),
            locked => (format!("in {batch} ({locked} locked)"), units),
        };
        let mut places: Vec<(String, u64)> = here.into_iter().map(place).collect();
        let others = [
            ("wait", line.backordered()),
            ("dropped", line.dropped),
            ("cancelled", line.cancelled),
            ("lapsed", line.lapsed),
            ("shipped", line.shipped()),
            ("returned", line.returned()),
        ];
        places.extend(others.map(|(place, units)| (place.to_owned(), units)));
        let places = places.iter().filter(|(_, units)| *units > 0);
        places.map(|(place, units)| format!("{units} {place}")).collect::<Vec<_>>().join(", ")
    }

    /// Events since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.keeper.log).into_iter().map(|(_, event)| event).collect()
    }

    /// Their names.
    pub(crate) fn told(&mut self) -> Vec<&'static str> {
        self.events().iter().map(Event::name).collect()
    }

    /// Their names, and whose lines they are about.
    pub(crate) fn told_of_lines(&mut self) -> Vec<(&'static str, String)> {
        let events = self.events();
        events.iter().filter_map(|event| Some((event.name(), event.line()?.order_id.to_string()))).collect()
    }
}

/// A change of quantity.
pub(crate) fn units(units: u64) -> LineChange {
    LineChange { qty: Some(qty(units)), ..LineChange::default() }
}
