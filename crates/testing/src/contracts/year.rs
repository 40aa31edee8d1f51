//! A year in the life of a warehouse, from real orders: what comes in and goes out, breaks, comes back and is counted, day by day.
//!
//! The clock is set by hand. Two locations: `east` with New York's days and `west` with Los Angeles's. Office supplies expire and go out first
//! expired first; of the best sellers some stock is kept back, and it is told when little is left. What happens is read from the feed, as
//! any other service would.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use allocation_domain::commands::{
    AdjustBatch, Adjustment, Allocate, ApplyDue, DeclareBatch, LineOf, Precondition, ReceiveBatch, ReleaseBatch, Rest,
    Return, ReturnItem, ReturnTo, SetProduct, Ship, ShipItem, Transfer, WhenShort,
};
use allocation_domain::{
    AdjustmentKind, BatchQuantity, BatchRef, Command, Event, Level, LineId, LineKey, Location, Locations, LowStock,
    OrderId, Quantity, Reason, Settings, Sku, Split, Strategy, Terms,
};
use allocation_service_layer::handlers::{Reply, Verdict};
use allocation_service_layer::ports::database::{ProductRepository, Selection, Transaction};
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::reader::Among;
use allocation_service_layer::verify::{Findings, check, verify};
use allocation_service_layer::wire::{WireEvent, parse_date, parse_event};
use allocation_service_layer::{Message, MessageBus, TimeZones, Usual};
use jiff::tz::TimeZone;
use time::{Date, Duration, Month, Time};

use super::movements::assert_ledger_agrees;
use super::{Fixture, Store};
use crate::shorthand::{accepted, location, message, pick, reference, sku};

/// How many products are best sellers.
const BEST_SELLERS: usize = 40;

/// Of so many units that come in one is damaged: 3 %.
const DAMAGED: u64 = 33;

/// Of so many units that are shipped one comes back: 5 %.
const RETURNED: u64 = 20;

/// A row of the file of orders.
struct Asked {
    order_id: OrderId,
    sku: Sku,
    qty: Quantity,
    on: Date,
    region: String,
}

/// What happened in a month, in units unless it says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MonthOfYear {
    /// Orders that came.
    pub orders: u64,
    /// What they asked for.
    pub ordered: u64,
    /// What was placed, at once or after it had waited.
    pub allocated: u64,
    /// What had to wait.
    pub backordered: u64,
    /// What left.
    pub shipped: u64,
    /// What came, from suppliers or from the other location.
    pub received: u64,
    /// What was sent to the other location.
    pub transferred: u64,
    /// What broke.
    pub damaged: u64,
    /// What came back.
    pub returned: u64,
    /// What was there more than thought.
    pub found: u64,
    /// What was there less than thought.
    pub missing: u64,
    /// What was of no use any more.
    pub expired: u64,
    /// Times that little was left.
    pub low: u64,
    /// Times that there was enough again.
    pub restocked: u64,
    /// On hand when the month was over.
    pub on_hand: u64,
    /// On its way then.
    pub incoming: u64,
    /// Waiting then.
    pub waiting: u64,
}

/// A year, month by month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Year {
    /// Which one.
    pub year: i32,
    /// January first.
    pub months: Vec<MonthOfYear>,
}

impl fmt::Display for Year {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        type Column = (&'static str, fn(&MonthOfYear) -> u64);
        let columns: [Column; 17] = [
            ("orders", |m| m.orders),
            ("ordered", |m| m.ordered),
            ("allocated", |m| m.allocated),
            ("waited", |m| m.backordered),
            ("shipped", |m| m.shipped),
            ("received", |m| m.received),
            ("transferred", |m| m.transferred),
            ("damaged", |m| m.damaged),
            ("returned", |m| m.returned),
            ("found", |m| m.found),
            ("missing", |m| m.missing),
            ("expired", |m| m.expired),
            ("low", |m| m.low),
            ("restocked", |m| m.restocked),
            ("on hand", |m| m.on_hand),
            ("incoming", |m| m.incoming),
            ("waiting", |m| m.waiting),
        ];
        write!(f, "{:<9}", self.year)?;
        for (name, _) in columns {
            write!(f, " {name:>width$}", width = name.len().max(7))?;
        }
        let mut month = Month::January;
        for row in &self.months {
            write!(f, "\n{:<9}", month.to_string())?;
            for (name, of) in columns {
                write!(f, " {:>width$}", of(row), width = name.len().max(7))?;
            }
            month = month.next();
        }
        Ok(())
    }
}

/// Replays the orders of a year on a store, given the two files as texts, and gives what happened.
///
/// After each day the books of every product that was touched must balance; at the end those of all, each ledger must lead to what its
/// batches have, and units on hand must be what came, came back and was found, without what left, broke and was missing.
pub async fn a_year_in_the_life_of_a_warehouse<S: Store>(fixture: Fixture<S>, batches: &str, orders: &str) -> Year {
    let asked: Vec<Asked> = orders.lines().skip(1).map(Asked::read).collect();
    let year = asked.iter().map(|asked| asked.on.year()).max().expect("orders");
    let mut warehouse = Warehouse::new(&fixture, year);
    let of_year = |asked: &&Asked| asked.on.year() == year;
    let first = Date::from_calendar_date(year, Month::January, 1).expect("a day");

    warehouse.open_doors(first - Duration::DAY, batches, asked.iter().filter(of_year)).await;
    let mut today = first;
    while today.year() == year {
        warehouse.day(today, asked.iter().filter(|asked| asked.on == today)).await;
        today += Duration::DAY;
    }
    warehouse.close_books().await;
    Year { year, months: warehouse.months }
}

impl Asked {
    fn read(row: &str) -> Self {
        let [order_id, sku, qty, on, region] = row.split(',').collect::<Vec<_>>()[..] else { panic!("{row}") };
        Self {
            order_id: OrderId::new(order_id).expect(row),
            sku: Sku::new(sku).expect(row),
            qty: Quantity::new(qty.parse().expect(row)).expect(row),
            on: parse_date(on).expect(row),
            region: region.to_owned(),
        }
    }

    /// Whoever lives in the east is served from there, and from the other side of the country if need be.
    fn locations(&self) -> Locations {
        let from_east = ["East", "South"].contains(&&*self.region);
        accepted(if from_east { &["east", "west"] } else { &["west", "east"] })
    }
}

struct Warehouse<'a, S> {
    fixture: &'a Fixture<S>,
    bus: MessageBus<S>,
    usual: Usual,
    today: Date,
    year: i32,
    months: Vec<MonthOfYear>,
    /// What there was when the year began.
    opening: u64,
    /// Up to where the feed was read.
    position: u64,
    best_sellers: BTreeSet<Sku>,
    /// Batches on their way, by the day they are expected.
    expected: BTreeMap<Date, Vec<(Sku, BatchRef, u64)>>,
    /// Batches that have arrived.
    arrived: BTreeSet<(Sku, BatchRef)>,
    /// Orders with units in a batch that is on its way.
    placed: BTreeMap<(Sku, BatchRef), BTreeSet<OrderId>>,
    /// Orders of which something can be picked.
    ready: BTreeSet<OrderId>,
    /// What is to be done on a day.
    planned: BTreeMap<Date, Vec<Command>>,
    /// Units that have come in, units that have left, and units that came back and were of no use.
    came: u64,
    left: u64,
    scrapped: u64,
}

impl<'a, S: Store> Warehouse<'a, S> {
    fn new(fixture: &'a Fixture<S>, year: i32) -> Self {
        let zone = |name| TimeZone::get(name).expect("a time zone");
        let zones = [("east", "America/New_York"), ("west", "America/Los_Angeles")];
        let zones = zones.map(|(name, of)| (location(name), zone(of)));
        let usual = Usual { time_zones: TimeZones::new(TimeZone::UTC, zones.into()), ..Usual::default() };
        Self {
            fixture,
            bus: fixture.bus().with_usual(usual.clone()),
            usual,
            today: Date::MIN,
            year,
            months: vec![MonthOfYear::default(); 12],
            opening: 0,
            position: 0,
            best_sellers: BTreeSet::new(),
            expected: BTreeMap::new(),
            arrived: BTreeSet::new(),
            placed: BTreeMap::new(),
            ready: BTreeSet::new(),
            planned: BTreeMap::new(),
            came: 0,
            left: 0,
            scrapped: 0,
        }
    }

    fn month(&mut self) -> &mut MonthOfYear {
        &mut self.months[usize::from(u8::from(self.today.month())) - 1]
    }

    /// Noon in New York, and morning in Los Angeles.
    fn begin(&mut self, today: Date) {
        self.today = today;
        self.fixture.clock.set(today.with_time(Time::from_hms(17, 0, 0).expect("a time")).assume_utc());
    }

    async fn handle(&self, commands: Vec<Command>) -> Vec<Verdict> {
        let messages: Vec<Message> = commands.into_iter().map(message).collect();
        let verdicts = self.bus.handle_batch(&messages).await;
        verdicts.into_iter().map(|verdict| verdict.expect("the store works")).collect()
    }

    /// Has commands handled, none of which may be refused.
    async fn done(&self, commands: Vec<Command>) {
        for verdict in self.handle(commands).await {
            verdict.expect("nothing speaks against it");
        }
    }

    /// Settings, stock on hand and what is to come this year.
    async fn open_doors(&mut self, eve: Date, batches: &str, of_year: impl Iterator<Item = &Asked>) {
        self.begin(eve);
        let mut sold: BTreeMap<&Sku, u64> = BTreeMap::new();
        for asked in of_year {
            *sold.entry(&asked.sku).or_default() += asked.qty.units();
        }
        let mut by_units: Vec<_> = sold.into_iter().map(|(sku, units)| (units, sku)).collect();
        by_units.sort_by(|a, b| b.cmp(a));
        self.best_sellers = by_units.into_iter().take(BEST_SELLERS).map(|(_, sku)| sku.clone()).collect();

        let rows: Vec<Vec<&str>> = batches.lines().skip(1).map(|row| row.split(',').collect()).collect();
        let skus: BTreeSet<Sku> = rows.iter().map(|row| sku(row[1])).collect();
        let settings =
            skus.iter().map(|sku| Command::SetProduct(SetProduct { sku: sku.clone(), settings: self.settings(sku) }));
        self.done(settings.collect()).await;
        let declared = rows.iter().enumerate().filter_map(|(at, row)| self.batch(at, row, eve));
        self.done(declared.collect()).await;
        self.read_feed().await;
        self.opening = self.on_hand_and_incoming().await.0;
        self.came = self.opening;
        // What was on hand when the year began did not come in it.
        self.months = vec![MonthOfYear::default(); 12];
    }

    fn settings(&self, of: &Sku) -> Settings {
        let level = Level { safety_stock: 2, low_stock: Some(LowStock { threshold: 1, restocked: 4 }) };
        let levels = self.best_sellers.contains(of).then(|| ["east", "west"].map(|name| (location(name), level)));
        let office = of.as_str().starts_with("OFF");
        Settings {
            strategy: office.then_some(Strategy::Fefo),
            min_days: if office { 3 } else { 0 },
            requires_expiry: office,
            levels: levels.into_iter().flatten().collect(),
            ..Settings::default()
        }
    }

    /// A batch of the file, in turn in the east and in the west; what came in earlier years was sold long ago.
    fn batch(&self, at: usize, row: &[&str], eve: Date) -> Option<Command> {
        let eta = parse_date(row[3]);
        if eta.is_some_and(|eta| eta.year() != self.year) {
            return None;
        }
        let keeps = Duration::days(150 + 60 * i64::try_from(at % 4).expect("a small number"));
        let of = sku(row[1]);
        Some(Command::DeclareBatch(DeclareBatch {
            expires_on: Some(of.as_str().starts_with("OFF").then(|| eta.unwrap_or(eve) + keeps)),
            sku: of,
            reference: reference(row[0]),
            qty: BatchQuantity::new(row[2].parse().expect("units")).expect("units"),
            eta: Some(eta),
            location: Some(location(if at.is_multiple_of(2) { "east" } else { "west" })),
            precondition: Precondition::None,
        }))
    }

    /// A day: what is due, what comes, what was planned, what is asked for, what leaves.
    async fn day(&mut self, today: Date, asked: impl Iterator<Item = &Asked>) {
        self.begin(today);
        self.do_what_is_due().await;
        self.receive().await;
        if today.day() == 1 {
            self.level_out().await;
        }
        for verdict in self.handle(self.planned.get(&today).cloned().unwrap_or_default()).await {
            // What was to be released or to come back may have expired since.
            drop(verdict);
        }
        let picking = std::mem::take(&mut self.ready);
        self.take_orders(asked).await;
        self.pick_and_ship(picking).await;
        let tomorrow = today + Duration::DAY;
        if tomorrow.day() == 1 && u8::from(today.month()).is_multiple_of(3) {
            self.count_everything().await;
        }
        let touched = self.read_feed().await;
        self.assert_balanced(touched).await;
        if tomorrow.day() == 1 {
            let (on_hand, incoming, waiting) = self.on_hand_and_incoming().await;
            let month = self.month();
            (month.on_hand, month.incoming, month.waiting) = (on_hand, incoming, waiting);
        }
    }

    async fn do_what_is_due(&self) {
        let due =
            self.fixture.store.due(Among::After(None, 100_000), &self.usual.time_zones).await.expect("the store works");
        self.done(due.skus.into_iter().map(|sku| Command::ApplyDue(ApplyDue { sku })).collect()).await;
    }

    /// Each shipment on its day; of the units that come one in thirty-three is damaged.
    async fn receive(&mut self) {
        let mut commands = Vec::new();
        for (sku, reference, units) in self.expected.remove(&self.today).unwrap_or_default() {
            let qty = Quantity::new(units).expect("units");
            let receipt = ReceiveBatch { sku: sku.clone(), reference: reference.clone(), qty, rest: Rest::Cancel };
            commands.push(Command::ReceiveBatch(receipt));
            let before = self.came / DAMAGED;
            self.came += units;
            if let Ok(damaged) = Quantity::new((self.came / DAMAGED - before).min(units)) {
                commands.push(adjust(sku, reference, Adjustment::Damaged(damaged), "broken on the way"));
            }
        }
        self.done(commands).await;
    }

    /// Where a best seller has run out and lies on the other side of the country, half of that is sent.
    async fn level_out(&mut self) {
        let skus: Vec<Sku> = self.best_sellers.iter().cloned().collect();
        let products = self.fixture.store.products_named(&skus).await.expect("the store works");
        let mut transfers = Vec::new();
        for product in &products {
            for (from, to) in [("east", "west"), ("west", "east")] {
                let there = |name: &str, at: &Location| at.as_str() == name;
                let empty = product.batches().iter().all(|batch| !there(to, &batch.location) || batch.free() == 0);
                let full = product
                    .batches()
                    .iter()
                    .find(|batch| there(from, &batch.location) && batch.has_arrived() && batch.free() >= 2);
                if let Some(batch) = full.filter(|_| empty) {
                    transfers.push(Command::Transfer(Transfer {
                        sku: product.sku().clone(),
                        from: batch.reference.clone(),
                        qty: Quantity::new(batch.free() / 2).expect("a unit at least"),
                        to: location(to),
                        reference: reference(&format!("{}-{}-{to}", batch.reference, self.today)),
                        eta: self.today + Duration::days(4),
                    }));
                }
            }
        }
        self.done(transfers).await;
    }

    async fn take_orders(&mut self, asked: impl Iterator<Item = &Asked>) {
        let mut orders: BTreeMap<OrderId, Vec<(Sku, LineId, Quantity, Terms)>> = BTreeMap::new();
        let mut units = 0;
        for asked in asked {
            units += asked.qty.units();
            let locations = Some(asked.locations());
            let terms = Terms { split: Split::OverLocations(Quantity::ONE), locations, ..Terms::default() };
            let line = (asked.sku.clone(), LineId::default(), asked.qty, terms);
            orders.entry(asked.order_id.clone()).or_default().push(line);
        }
        self.month().orders += orders.len() as u64;
        self.month().ordered += units;
        let allocate = orders.into_iter().map(|(order_id, lines)| {
            let mut order = Allocate::new(order_id, lines).expect("lines of one order");
            order.when_short = WhenShort::Backorder;
            Command::Allocate(order)
        });
        self.done(allocate.collect()).await;
    }

    /// What is on hand of orders that came before today leaves.
    async fn pick_and_ship(&self, orders: BTreeSet<OrderId>) {
        let picked = self.handle(orders.iter().map(|order_id| pick(order_id.as_str())).collect()).await;
        let shipments = orders.into_iter().zip(picked).filter_map(|(order_id, picked)| {
            // What was to be picked may have expired, and wait again.
            let Ok(Reply::Order(reply)) = picked else { return None };
            let of = |sku: &Sku, key: &LineKey| LineOf { sku: sku.clone(), line: key.line.clone() };
            let items = reply.lines.iter().filter_map(|line| {
                Some(ShipItem { of: of(&line.sku, &line.key), qty: Some(Quantity::new(line.locked).ok()?), from: None })
            });
            Some(Command::Ship(Ship { order_id, items: items.collect() }))
        });
        self.done(shipments.collect()).await;
    }

    /// At the end of a quarter everything is counted: in one batch of fifty a unit is missing, in one of seventy there is one more.
    async fn count_everything(&self) {
        let mut commands = Vec::new();
        let mut nth = 0_u64;
        for product in self.products().await {
            for batch in product.batches().iter().filter(|batch| batch.has_arrived() && batch.is_open()) {
                nth += 1;
                let there = batch.quantity.units();
                let counted = match (nth.is_multiple_of(50), nth.is_multiple_of(70)) {
                    (true, _) => there - 1,
                    (_, true) => there + 1,
                    _ => there,
                };
                let counted = Adjustment::Recount(BatchQuantity::new(counted).expect("units"));
                commands.push(adjust(product.sku().clone(), batch.reference.clone(), counted, "counted"));
            }
        }
        self.done(commands).await;
    }

    /// Learns from the feed what has happened, and which products it happened to.
    async fn read_feed(&mut self) -> BTreeSet<Sku> {
        let store = &self.fixture.store;
        // The order of events of several products is a store's own.
        let mut events = BTreeMap::new();
        while store.number(1_000).await.expect("the store works") > 0 {}
        loop {
            let page = EventLog::read(store, self.position, 1_000).await.expect("the store works");
            let Some(last) = page.events.last() else { break };
            self.position = last.position;
            for event in &page.events {
                let WireEvent { sku, sequence, event, .. } = parse_event(&event.body).expect("an event of ours");
                events.insert((sku, sequence), event);
            }
        }
        for ((sku, _), event) in &events {
            self.happened(sku, event);
        }
        events.into_keys().map(|(sku, _)| sku).collect()
    }

    fn happened(&mut self, sku: &Sku, event: &Event) {
        let named = |reference: &BatchRef| (sku.clone(), reference.clone());
        match event {
            Event::BatchCreated { reference, qty, eta: Some(eta), .. } => {
                self.expected.entry(*eta).or_default().push((sku.clone(), reference.clone(), qty.units()));
            }
            Event::BatchCreated { reference, .. } => drop(self.arrived.insert(named(reference))),
            Event::BatchReceived { reference, qty, .. } => {
                self.month().received += qty.units();
                self.ready.extend(self.placed.remove(&named(reference)).unwrap_or_default());
                self.arrived.insert(named(reference));
            }
            Event::Allocated { line, reference, qty, .. } => {
                self.month().allocated += qty.units();
                if self.arrived.contains(&named(reference)) {
                    self.ready.insert(line.order_id.clone());
                } else {
                    self.placed.entry(named(reference)).or_default().insert(line.order_id.clone());
                }
            }
            Event::Backordered { qty, .. } => self.month().backordered += qty.units(),
            Event::Shipped { line, qty, .. } => {
                self.month().shipped += qty.units();
                self.plan_return(sku, line, qty.units());
            }
            Event::Returned { reference, qty, to, .. } => {
                self.month().returned += qty.units();
                self.scrapped += if *to == ReturnTo::Scrap { qty.units() } else { 0 };
                if *to == ReturnTo::Quarantine {
                    let (sku, reference) = named(reference);
                    let release = Command::ReleaseBatch(ReleaseBatch { sku, reference, qty: Some(*qty) });
                    self.planned.entry(self.today + Duration::days(3)).or_default().push(release);
                }
            }
            Event::BatchAdjusted { kind, from, to, .. } => {
                let (from, to) = (from.units(), to.units());
                let month = self.month();
                match kind {
                    AdjustmentKind::Damaged => month.damaged += from - to,
                    _ if to > from => month.found += to - from,
                    _ => month.missing += from - to,
                }
            }
            Event::BatchExpired { qty, .. } => self.month().expired += qty.units(),
            Event::Transferred { qty, .. } => self.month().transferred += qty.units(),
            Event::LowStock { .. } => self.month().low += 1,
            Event::Restocked { .. } => self.month().restocked += 1,
            _ => {}
        }
    }

    /// One unit in twenty comes back after two weeks: to be looked at, as good as new, or of no use.
    fn plan_return(&mut self, sku: &Sku, line: &LineKey, units: u64) {
        let before = self.left / RETURNED;
        self.left += units;
        let nth = self.left / RETURNED;
        let Ok(qty) = Quantity::new((nth - before).min(units)) else { return };
        let to = [ReturnTo::Quarantine, ReturnTo::Restock, ReturnTo::Scrap][usize::try_from(nth % 3).expect("small")];
        let of = LineOf { sku: sku.clone(), line: line.line.clone() };
        let back = Return { order_id: line.order_id.clone(), items: vec![ReturnItem { of, qty, to, into: None }] };
        self.planned.entry(self.today + Duration::days(14)).or_default().push(Command::Return(back));
    }

    /// Fails the test when the books of one of these do not balance.
    async fn assert_balanced(&self, skus: BTreeSet<Sku>) {
        let mut tx = self.fixture.store.begin().await.expect("the store works");
        tx.load(&Selection { skus: skus.clone(), ..Selection::default() }).await.expect("the store works");
        let mut findings = Findings::default();
        for sku in &skus {
            check(&tx.books(sku).await.expect("the store works"), &mut findings);
        }
        tx.end().await.expect("the store works");
        assert!(findings.balanced(), "{}: {:#?}", self.today, findings.differences);
    }

    async fn products(&self) -> Vec<allocation_domain::Product> {
        let (mut products, mut after) = (Vec::new(), None);
        loop {
            let page = self.fixture.store.products(after.as_ref(), false, 1_000).await.expect("the store works");
            let Some(last) = page.last() else { return products };
            after = Some(last.sku().clone());
            products.extend(page);
        }
    }

    /// And what waits.
    async fn on_hand_and_incoming(&self) -> (u64, u64, u64) {
        let (mut on_hand, mut incoming, mut waiting) = (0, 0, 0);
        for product in self.products().await {
            waiting += product.backordered();
            for batch in product.batches() {
                *(if batch.has_arrived() { &mut on_hand } else { &mut incoming }) += batch.quantity.units();
            }
        }
        (on_hand, incoming, waiting)
    }

    /// All books balance, and every unit is accounted for.
    async fn close_books(&self) {
        let findings = verify(&self.fixture.store).await.expect("the store works");
        assert!(findings.balanced(), "{:#?}", findings.differences);
        for product in self.products().await {
            assert_ledger_agrees(&self.fixture.store, &product).await;
        }
        let sum = |of: fn(&MonthOfYear) -> u64| self.months.iter().map(of).sum::<u64>();
        let came = self.opening + sum(|m| m.received) + sum(|m| m.returned) + sum(|m| m.found);
        let left = sum(|m| m.shipped) + sum(|m| m.transferred);
        let went = left + sum(|m| m.damaged) + sum(|m| m.missing) + self.scrapped;
        let (on_hand, _, waiting) = self.on_hand_and_incoming().await;
        assert_eq!(on_hand, came - went, "on hand is what came and did not go");
        let open = findings.allocated + waiting;
        assert_eq!(sum(|m| m.ordered), sum(|m| m.shipped) + open, "what was ordered has left, has a place, or waits");
    }
}

fn adjust(sku: Sku, reference: BatchRef, adjustment: Adjustment, why: &str) -> Command {
    let reason = Reason::new(why).expect("a good reason");
    Command::AdjustBatch(AdjustBatch { sku, reference, adjustment, reason })
}
