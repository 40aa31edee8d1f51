//! Random histories: commands about a small world, and steps of time. They shrink to short ones, and each step prints as one line.

use std::fmt;
use std::ops::Range;

use allocation_domain::commands::{
    AdjustBatch, Adjustment, Allocate, ApplyDue, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, ChangeLine,
    ConfirmHold, CreateBatch, Deallocate, DeclareBatch, ExtendHold, Improve, LineChange, LineOf, Pick, Precondition,
    QuarantineBatch, ReceiveBatch, ReleaseBatch, Rest, Return, ReturnItem, ReturnTo, SetProduct, Ship, ShipItem,
    Unpick, WhenShort,
};
use allocation_domain::{
    BatchQuantity, BatchRef, Command, HoldSeconds, LineId, LineKey, OrderId, Quantity, Reason, Settings, Sku, Split,
    Strategy as Order, Terms,
};
use proptest::collection::{SizeRange, vec};
use proptest::option;
use proptest::prelude::*;
use time::macros::datetime;
use time::{Date, Duration, OffsetDateTime};

/// When every history begins.
pub const START: OffsetDateTime = datetime!(2011-01-02 08:00 UTC);

/// The day that is so many days after the beginning.
pub fn day(days: i64) -> Date {
    START.date() + Duration::days(days)
}

/// Something happens.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Somebody wants something done.
    Do(Box<Command>),
    /// Time passes.
    Wait(Duration),
}

/// Histories of so many steps, some of which are followed by others about the same order or batch; in a world of so many products (from 1
/// to 3) with few batches and orders. Many begin with products that are set up.
pub fn steps(products: usize, count: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    let together = |commands: Vec<Command>| commands.into_iter().map(|command| Step::Do(Box::new(command))).collect();
    let set_up: Vec<_> =
        (0..products).map(|product| option::weighted(0.6, set_product(product..product + 1))).collect();
    let set_up = set_up.prop_map(move |commands| together(commands.into_iter().flatten().collect()));
    let happening = prop_oneof![
        20 => step(products).prop_map(|step| vec![step]),
        6 => delivery(products).prop_map(together),
        3 => stocktaking(products).prop_map(together),
        2 => ageing(products),
    ];
    (set_up, vec(happening, count))
        .prop_map(|(set_up, happenings): (Vec<Step>, _)| [set_up, happenings.concat()].concat())
}

/// One step. What is likely to come to nothing is rare.
fn step(products: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => command(products).prop_map(|command| Step::Do(Box::new(command))),
        1 => prop_oneof![
            8 => (1..90_i64).prop_map(Duration::seconds),
            3 => (1..40_i64).prop_map(Duration::hours),
            1 => days(),
        ].prop_map(Step::Wait),
    ]
}

/// One command about such a world.
pub fn command(products: usize) -> impl Strategy<Value = Command> {
    let sku = move || sku(products);
    prop_oneof![
        10 => allocate(products),
        4 => (sku(), reference(), stock(), eta(), expiry()).prop_map(|(sku, reference, qty, eta, expires_on)| {
            Command::CreateBatch(CreateBatch { sku, reference, qty, eta, expires_on })
        }),
        4 => (sku(), reference(), stock(), option::of(eta()), option::of(expiry()), any::<bool>()).prop_map(
            |(sku, reference, qty, eta, expires_on, known)| {
                let precondition = if known { Precondition::Exists } else { Precondition::None };
                Command::DeclareBatch(DeclareBatch { sku, reference, qty, eta, expires_on, precondition })
            }
        ),
        3 => (sku(), reference(), stock()).prop_map(|(sku, reference, qty)| {
            Command::ChangeBatchQuantity(ChangeBatchQuantity { sku, reference, qty })
        }),
        3 => (sku(), reference(), eta())
            .prop_map(|(sku, reference, eta)| Command::ChangeBatchEta(ChangeBatchEta { sku, reference, eta })),
        2 => (sku(), reference(), asked(), any::<bool>()).prop_map(|(sku, reference, units, keep)| {
            let rest = if keep { Rest::Keep } else { Rest::Cancel };
            Command::ReceiveBatch(ReceiveBatch { sku, reference, qty: qty(units), rest })
        }),
        1 => (sku(), reference()).prop_map(|(sku, reference)| Command::CancelBatch(CancelBatch { sku, reference })),
        3 => (order(), option::of((sku(), option::of(line())))).prop_map(|(order_id, only)| {
            let (sku, line) = only.map_or((None, None), |(sku, line)| (Some(sku), line));
            Command::Deallocate(Deallocate { order_id, sku, line })
        }),
        2 => order().prop_map(|order_id| Command::ConfirmHold(ConfirmHold { order_id })),
        1 => (order(), hold()).prop_map(|(order_id, hold)| Command::ExtendHold(ExtendHold { order_id, hold })),
        5 => (sku(), order(), line(), change()).prop_map(|(sku, order_id, line, change)| {
            Command::ChangeLine(ChangeLine { sku, line: LineKey { order_id, line }, change })
        }),
        15 => floor(products),
        1 => set_product(0..products),
        1 => sku().prop_map(|sku| Command::Improve(Improve { sku })),
        1 => sku().prop_map(|sku| Command::ApplyDue(ApplyDue { sku })),
    ]
}

fn set_product(products: Range<usize>) -> impl Strategy<Value = Command> {
    (one_of(products), settings()).prop_map(|(sku, settings)| Command::SetProduct(SetProduct { sku, settings }))
}

fn allocate(products: usize) -> impl Strategy<Value = Command> {
    let asked = || (sku(products), line(), asked(), terms());
    let lines = prop_oneof![3 => vec(asked(), 1..=1), 1 => vec(asked(), 2..=3)];
    (order(), lines, when_short(), option::weighted(0.35, hold())).prop_map(|(order_id, lines, when_short, hold)| {
        // A line is asked for on one set of terms.
        let mut distinct: Vec<(Sku, LineId, Quantity, Terms)> = Vec::new();
        for (sku, line, units, terms) in lines {
            if !distinct.iter().any(|(s, l, ..)| (s, l) == (&sku, &line)) {
                distinct.push((sku, line, qty(units), terms));
            }
        }
        let mut command = Allocate::new(order_id, distinct).expect("lines are distinct");
        command.when_short = when_short;
        // Holds never queue.
        command.hold = hold.filter(|_| when_short != WhenShort::Backorder);
        Command::Allocate(command)
    })
}

/// What is done by hand.
fn floor(products: usize) -> impl Strategy<Value = Command> {
    let sku = move || sku(products);
    let lines = move || prop_oneof![2 => Just(Vec::new()), 1 => vec(line_of(products), 1..=2)];
    prop_oneof![
        2 => (sku(), reference(), adjustment())
            .prop_map(|(sku, reference, adjustment)| adjust(sku, reference, adjustment)),
        2 => (sku(), reference(), some()).prop_map(|(sku, reference, qty)| {
            Command::QuarantineBatch(QuarantineBatch { sku, reference, qty })
        }),
        2 => (sku(), reference(), some())
            .prop_map(|(sku, reference, qty)| Command::ReleaseBatch(ReleaseBatch { sku, reference, qty })),
        4 => (order(), lines()).prop_map(|(order_id, lines)| Command::Pick(Pick { order_id, lines })),
        2 => (order(), lines()).prop_map(|(order_id, lines)| Command::Unpick(Unpick { order_id, lines })),
        7 => (order(), prop_oneof![1 => Just(Vec::new()), 3 => vec(ship_item(products), 1..=2)])
            .prop_map(|(order_id, items)| Command::Ship(Ship { order_id, items })),
        4 => (order(), prop_oneof![4 => vec(return_item(products), 1..=1), 1 => vec(return_item(products), 2..=3)])
            .prop_map(|(order_id, items)| Command::Return(Return { order_id, items })),
    ]
}

/// What happens to an order from beginning to end, some of it left out: there is stock, units of it are promised, picked, shipped, and come
/// back. Random commands rarely fit together so well.
fn delivery(products: usize) -> impl Strategy<Value = Vec<Command>> {
    let about = (line_of(products), order(), busy());
    let stock = option::weighted(0.6, (1..=20_u64).prop_map(BatchQuantity::new));
    let when_short = prop_oneof![1 => Just(WhenShort::Partial), 2 => Just(WhenShort::Backorder)];
    let promise = (asked(), terms(), when_short);
    let item = || (some(), option::weighted(0.5, busy()));
    let leaves = prop_oneof![3 => vec(item(), 0..=1), 1 => vec(item(), 2..=2)];
    let comes_back = prop_oneof![3 => vec(return_item(products), 1..=1), 1 => vec(return_item(products), 2..=2)];
    let after =
        (any::<bool>(), prop::bool::weighted(0.1), option::weighted(0.7, leaves), option::weighted(0.5, comes_back));
    (about, stock, promise, after).prop_map(
        |((of, order_id, reference), stock, (units, terms, when_short), (pick, unpick, ship, back))| {
            let create = stock.map(|units| {
                let (sku, qty) = (of.sku.clone(), units.expect("a quantity"));
                Command::CreateBatch(CreateBatch { sku, reference, qty, eta: None, expires_on: None })
            });
            let line = (of.sku.clone(), of.line.clone(), qty(units), terms);
            let mut allocate = Allocate::new(order_id.clone(), [line]).expect("it is a single line");
            allocate.when_short = when_short;
            let pick = pick.then(|| Command::Pick(Pick { order_id: order_id.clone(), lines: vec![of.clone()] }));
            let unpick = unpick.then(|| Command::Unpick(Unpick { order_id: order_id.clone(), lines: Vec::new() }));
            let ship = ship.map(|items| {
                let items = items.into_iter().map(|(qty, from)| ShipItem { of: of.clone(), qty, from });
                Command::Ship(Ship { order_id: order_id.clone(), items: items.collect() })
            });
            let back = back.map(|items| {
                let items = items.into_iter().map(|item| ReturnItem { of: of.clone(), ..item });
                Command::Return(Return { order_id: order_id.clone(), items: items.collect() })
            });
            let commands = [create, Some(Command::Allocate(allocate)), pick, unpick, ship, back];
            commands.into_iter().flatten().collect()
        },
    )
}

/// What happens to a batch when somebody looks at it, some of it left out.
fn stocktaking(products: usize) -> impl Strategy<Value = Vec<Command>> {
    let stock = option::weighted(0.5, stock());
    let counts = (option::weighted(0.3, adjustment()), option::weighted(0.6, some()), option::weighted(0.4, some()));
    (sku(products), busy(), stock, counts).prop_map(|(sku, reference, stock, (adjustment, aside, free))| {
        let batch = || (sku.clone(), reference.clone());
        let create = stock.map(|qty| {
            let (sku, reference) = batch();
            Command::CreateBatch(CreateBatch { sku, reference, qty, eta: None, expires_on: None })
        });
        let quarantine = aside.map(|qty| {
            let (sku, reference) = batch();
            Command::QuarantineBatch(QuarantineBatch { sku, reference, qty })
        });
        let adjust = adjustment.map(|adjustment| adjust(sku.clone(), reference.clone(), adjustment));
        let release = free.map(|qty| {
            let (sku, reference) = batch();
            Command::ReleaseBatch(ReleaseBatch { sku, reference, qty })
        });
        [create, quarantine, adjust, release].into_iter().flatten().collect()
    })
}

/// What happens to a batch that is not of use for ever, some of it left out: units of it are promised, perhaps picked, days pass, it is
/// found to keep for a longer or a shorter time, and something is done with what is left.
fn ageing(products: usize) -> impl Strategy<Value = Vec<Step>> {
    let batch = (busy(), option::weighted(0.8, (stock(), eta())), last_day());
    let when_short = prop_oneof![1 => Just(WhenShort::Partial), 2 => Just(WhenShort::Backorder)];
    let promise = (asked(), terms(), when_short, option::weighted(0.3, hold()));
    let passes = option::weighted(0.6, prop_oneof![2 => (1..300_i64).prop_map(Duration::seconds), 3 => days()]);
    let after = (any::<bool>(), passes, option::weighted(0.5, expiry()), option::weighted(0.3, stock()));
    (line_of(products), order(), batch, promise, after).prop_map(
        |(
            of,
            order_id,
            (reference, created, last),
            (units, terms, when_short, hold),
            (pick, passes, expiry, count),
        )| {
            let batch = || (of.sku.clone(), reference.clone());
            let declared = created.map_or(BatchQuantity::ZERO, |(qty, _)| qty);
            let create = created.map(|(qty, eta)| {
                let (sku, reference) = batch();
                let (eta, expires_on, precondition) = (Some(eta), Some(Some(last)), Precondition::None);
                Command::DeclareBatch(DeclareBatch { sku, reference, qty, eta, expires_on, precondition })
            });
            let line = (of.sku.clone(), of.line.clone(), qty(units), terms);
            let mut allocate = Allocate::new(order_id.clone(), [line]).expect("it is a single line");
            (allocate.when_short, allocate.hold) = (when_short, hold.filter(|_| when_short != WhenShort::Backorder));
            let pick = pick.then(|| Command::Pick(Pick { order_id, lines: vec![of.clone()] }));
            let declare = expiry.map(|expires_on| {
                let (sku, reference) = batch();
                let (qty, eta, expires_on) = (declared, None, Some(expires_on));
                let precondition = Precondition::Exists;
                Command::DeclareBatch(DeclareBatch { sku, reference, qty, eta, expires_on, precondition })
            });
            let count = count.map(|counted| adjust(of.sku.clone(), reference.clone(), Adjustment::Recount(counted)));
            let command = |command| Step::Do(Box::new(command));
            let before = [create, Some(Command::Allocate(allocate)), pick].into_iter().flatten().map(command);
            let after = [declare, count].into_iter().flatten().map(command);
            before.chain(passes.map(Step::Wait)).chain(after).collect()
        },
    )
}

fn adjust(sku: Sku, reference: BatchRef, adjustment: Adjustment) -> Command {
    let reason = Reason::new("counted").expect("a reason");
    Command::AdjustBatch(AdjustBatch { sku, reference, adjustment, reason })
}

fn line_of(products: usize) -> impl Strategy<Value = LineOf> {
    (sku(products), line()).prop_map(|(sku, line)| LineOf { sku, line })
}

fn ship_item(products: usize) -> impl Strategy<Value = ShipItem> {
    (line_of(products), some(), option::weighted(0.6, busy())).prop_map(|(of, qty, from)| ShipItem { of, qty, from })
}

fn return_item(products: usize) -> impl Strategy<Value = ReturnItem> {
    let to = prop_oneof![2 => Just(ReturnTo::Quarantine), 2 => Just(ReturnTo::Restock), 1 => Just(ReturnTo::Scrap)];
    (line_of(products), few(), to, option::weighted(0.3, busy())).prop_map(|(of, qty, to, into)| ReturnItem {
        of,
        qty,
        to,
        into,
    })
}

fn adjustment() -> impl Strategy<Value = Adjustment> {
    prop_oneof![
        few().prop_map(Adjustment::Damaged),
        few().prop_map(Adjustment::Found),
        stock().prop_map(Adjustment::Recount),
    ]
}

/// Some units; none: all of them.
fn some() -> impl Strategy<Value = Option<Quantity>> {
    option::weighted(0.6, few())
}

/// As many units as there may well be.
fn few() -> impl Strategy<Value = Quantity> {
    prop_oneof![2 => 1..=2_u64, 2 => 1..=5_u64, 1 => 1..=12_u64].prop_map(qty)
}

fn terms() -> impl Strategy<Value = Terms> {
    let split = prop_oneof![
        3 => Just(Split::Parts(Quantity::ONE)),
        2 => (2..=4_u64).prop_map(|least| Split::Parts(qty(least))),
        3 => Just(Split::Never),
    ];
    let dates = (option::weighted(0.3, 0..8_i64), option::weighted(0.2, 0..6_i64));
    let min_days = option::weighted(0.2, 0..6_u16);
    (priority(), dates, split, min_days).prop_map(|(priority, (by, not_before), split, min_days)| Terms {
        priority,
        by: by.map(day),
        not_before: not_before.map(day),
        split,
        min_days,
    })
}

fn change() -> impl Strategy<Value = LineChange> {
    let by = option::of(0..8_i64).prop_map(|by| by.map(day));
    let quantity = option::weighted(0.7, asked().prop_map(qty));
    (quantity, option::weighted(0.2, priority()), option::weighted(0.4, by), when_short())
        .prop_map(|(qty, priority, by, when_short)| LineChange { qty, priority, by, when_short })
}

fn settings() -> impl Strategy<Value = Settings> {
    let cap = option::weighted(0.3, 0..20_u64);
    let strategy = prop_oneof![
        1 => Just(None),
        1 => Just(Some(Order::Earliest)),
        2 => Just(Some(Order::Fefo)),
        2 => Just(Some(Order::Fifo)),
        2 => Just(Some(Order::FewestSplits)),
    ];
    let expiry = (prop_oneof![3 => Just(0), 2 => 1..5_u16], prop::bool::weighted(0.05));
    (cap, any::<bool>(), strategy, expiry).prop_map(
        |(queue_cap, auto_improve, strategy, (min_days, requires_expiry))| Settings {
            queue_cap,
            auto_improve,
            strategy,
            min_days,
            requires_expiry,
        },
    )
}

fn when_short() -> impl Strategy<Value = WhenShort> {
    prop_oneof![
        2 => Just(WhenShort::Reject),
        2 => Just(WhenShort::Partial),
        3 => Just(WhenShort::Backorder),
    ]
}

fn priority() -> impl Strategy<Value = i32> {
    prop_oneof![2 => Just(0), 1 => -1..=2_i32]
}

fn hold() -> impl Strategy<Value = HoldSeconds> {
    (1..=300_u64).prop_map(|seconds| HoldSeconds::new(seconds).expect("a length of time"))
}

fn sku(products: usize) -> impl Strategy<Value = Sku> {
    one_of(0..products)
}

fn one_of(products: Range<usize>) -> impl Strategy<Value = Sku> {
    products.prop_map(|product| Sku::new(["A", "B", "C"][product]).expect("a SKU"))
}

fn reference() -> impl Strategy<Value = BatchRef> {
    prop_oneof![8 => (1..=4).prop_map(|n| format!("b{n}")), 1 => (1..=2).prop_map(|n| format!("b{n}~2"))]
        .prop_map(|reference| BatchRef::new(reference).expect("a reference"))
}

/// One that is known and has units of several lines rather sooner than the others.
fn busy() -> impl Strategy<Value = BatchRef> {
    prop_oneof![3 => (1..=2).prop_map(|n| BatchRef::new(format!("b{n}")).expect("a reference")), 1 => reference()]
}

fn order() -> impl Strategy<Value = OrderId> {
    (1..=6).prop_map(|n| OrderId::new(format!("o{n}")).expect("an order's id"))
}

fn line() -> impl Strategy<Value = LineId> {
    prop_oneof![5 => Just("1"), 1 => Just("2")].prop_map(|line| LineId::new(line).expect("a line's id"))
}

fn stock() -> impl Strategy<Value = BatchQuantity> {
    // With little in it a batch is too small a part for some, and a line needs several.
    let units = prop_oneof![2 => 0..=20_u64, 1 => 0..=5_u64];
    units.prop_map(|units| BatchQuantity::new(units).expect("a quantity"))
}

fn asked() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 1..=20_u64, 1 => 1..=8_u64]
}

fn eta() -> impl Strategy<Value = Option<Date>> {
    option::weighted(0.7, (0..8_i64).prop_map(day))
}

/// Rather often none, so that there is stock for most; else about when other things are due, or later.
fn expiry() -> impl Strategy<Value = Option<Date>> {
    option::weighted(0.5, last_day())
}

fn last_day() -> impl Strategy<Value = Date> {
    prop_oneof![1 => -1..4_i64, 4 => 2..15_i64].prop_map(day)
}

/// Time in which a batch may well expire.
fn days() -> impl Strategy<Value = Duration> {
    (20..100_i64).prop_map(Duration::hours)
}

fn qty(units: u64) -> Quantity {
    Quantity::new(units).expect("a quantity")
}

// ---- How a step is printed ----

struct Day(Date);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "day {}", (self.0 - START.date()).whole_days())
    }
}

struct Due(Option<Date>);

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("on hand"),
            Some(eta) => Day(eta).fmt(f),
        }
    }
}

/// Until when a batch is of use.
struct Until(Option<Date>);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("of use for ever"),
            Some(last) => write!(f, "of use until {}", Day(last)),
        }
    }
}

struct Asked<'a>(&'a Terms);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split {
            Split::Never => f.write_str(" whole")?,
            Split::Parts(Quantity::ONE) => {}
            Split::Parts(least) => write!(f, " in parts of {least}")?,
        }
        if self.0.priority != 0 {
            write!(f, " priority {}", self.0.priority)?;
        }
        if let Some(by) = self.0.by {
            write!(f, " by {}", Day(by))?;
        }
        if let Some(not_before) = self.0.not_before {
            write!(f, " not before {}", Day(not_before))?;
        }
        if let Some(min_days) = self.0.min_days {
            write!(f, " of use for {min_days} days")?;
        }
        Ok(())
    }
}

struct Of(Option<Quantity>);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("all"),
            Some(qty) => qty.fmt(f),
        }
    }
}

struct Named<'a>(&'a LineOf);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.0.sku, self.0.line)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(time) => write!(f, "wait {time}"),
            Self::Do(command) => print(command, f),
        }
    }
}

fn print(command: &Command, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match command {
        Command::SetProduct(c) => {
            let Settings { queue_cap, auto_improve, strategy, min_days, requires_expiry } = c.settings;
            let cap = queue_cap.map_or_else(|| "no".to_owned(), |cap| cap.to_string());
            write!(f, "set {}: {cap} cap, {}", c.sku, if auto_improve { "auto_improve" } else { "no auto_improve" })?;
            strategy.map_or(Ok(()), |strategy| write!(f, ", {strategy:?}"))?;
            if min_days > 0 {
                write!(f, ", of use for {min_days} days")?;
            }
            if requires_expiry { f.write_str(", requires expiry") } else { Ok(()) }
        }
        Command::CreateBatch(c) => {
            write!(f, "create {} {}: {} units, {}", c.sku, c.reference, c.qty, Due(c.eta))?;
            if c.expires_on.is_none() { Ok(()) } else { write!(f, ", {}", Until(c.expires_on)) }
        }
        Command::DeclareBatch(c) => {
            write!(f, "declare {} {}: {} units", c.sku, c.reference, c.qty)?;
            if let Some(eta) = c.eta {
                write!(f, ", {}", Due(eta))?;
            }
            if let Some(expires_on) = c.expires_on {
                write!(f, ", {}", Until(expires_on))?;
            }
            if c.precondition == Precondition::None { Ok(()) } else { f.write_str(", if known") }
        }
        Command::ChangeBatchQuantity(c) => write!(f, "change {} {} to {} units", c.sku, c.reference, c.qty),
        Command::ChangeBatchEta(c) => write!(f, "move {} {} to {}", c.sku, c.reference, Due(c.eta)),
        Command::ReceiveBatch(c) => {
            write!(f, "receive {} {}: {} units, {:?} the rest", c.sku, c.reference, c.qty, c.rest)
        }
        Command::CancelBatch(c) => write!(f, "cancel {} {}", c.sku, c.reference),
        Command::AdjustBatch(c) => match c.adjustment {
            Adjustment::Damaged(qty) => write!(f, "adjust {} {}: {qty} damaged", c.sku, c.reference),
            Adjustment::Found(qty) => write!(f, "adjust {} {}: {qty} found", c.sku, c.reference),
            Adjustment::Recount(qty) => write!(f, "adjust {} {}: {qty} counted", c.sku, c.reference),
        },
        Command::QuarantineBatch(c) => write!(f, "quarantine {} {}: {}", c.sku, c.reference, Of(c.qty)),
        Command::ReleaseBatch(c) => write!(f, "release {} {}: {}", c.sku, c.reference, Of(c.qty)),
        Command::Allocate(c) => {
            write!(f, "allocate {}:", c.order_id())?;
            for line in c.lines() {
                write!(f, " [{} {} #{}{}]", line.qty, line.sku, line.key.line, Asked(&line.terms))?;
            }
            write!(f, " {:?}", c.when_short)?;
            c.hold.map_or(Ok(()), |hold| write!(f, ", hold for {}", hold.from(START) - START))
        }
        Command::ConfirmHold(c) => write!(f, "confirm {}", c.order_id),
        Command::ExtendHold(c) => write!(f, "extend {} for {}", c.order_id, c.hold.from(START) - START),
        Command::ChangeLine(c) => {
            write!(f, "change {} {} #{}:", c.line.order_id, c.sku, c.line.line)?;
            if let Some(qty) = c.change.qty {
                write!(f, " {qty} units")?;
            }
            if let Some(priority) = c.change.priority {
                write!(f, " priority {priority}")?;
            }
            if let Some(by) = c.change.by {
                match by {
                    None => f.write_str(" by any day")?,
                    Some(by) => write!(f, " by {}", Day(by))?,
                }
            }
            write!(f, " {:?}", c.change.when_short)
        }
        Command::Deallocate(c) => {
            write!(f, "cancel {}", c.order_id)?;
            c.sku.as_ref().map_or(Ok(()), |sku| write!(f, " {sku}"))?;
            c.line.as_ref().map_or(Ok(()), |line| write!(f, " #{line}"))
        }
        Command::Pick(c) => {
            write!(f, "pick {}", c.order_id)?;
            c.lines.iter().try_for_each(|of| write!(f, " [{}]", Named(of)))
        }
        Command::Unpick(c) => {
            write!(f, "unpick {}", c.order_id)?;
            c.lines.iter().try_for_each(|of| write!(f, " [{}]", Named(of)))
        }
        Command::Ship(c) => {
            write!(f, "ship {}", c.order_id)?;
            for ShipItem { of, qty, from } in &c.items {
                write!(f, " [{} of {}", Of(*qty), Named(of))?;
                from.as_ref().map_or(Ok(()), |from| write!(f, " from {from}"))?;
                f.write_str("]")?;
            }
            Ok(())
        }
        Command::Return(c) => {
            write!(f, "return {}", c.order_id)?;
            for ReturnItem { of, qty, to, into } in &c.items {
                write!(f, " [{qty} of {}: {to:?}", Named(of))?;
                into.as_ref().map_or(Ok(()), |into| write!(f, " into {into}"))?;
                f.write_str("]")?;
            }
            Ok(())
        }
        Command::Improve(c) => write!(f, "improve {}", c.sku),
        Command::ApplyDue(c) => write!(f, "apply what is due of {}", c.sku),
        Command::RepairBooks(c) => write!(f, "repair the books of {}", c.sku),
    }
}
