//! Random histories: commands about a small world, and steps of time. They shrink to short ones, and each step prints as one line.

use std::fmt;

use allocation_domain::commands::{
    Allocate, ApplyDue, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, ChangeLine, ConfirmHold, CreateBatch,
    Deallocate, DeclareBatch, ExtendHold, Improve, LineChange, Precondition, ReceiveBatch, Rest, SetProduct, WhenShort,
};
use allocation_domain::{
    BatchQuantity, BatchRef, Command, HoldSeconds, LineId, LineKey, OrderId, Quantity, Settings, Sku, Split, Terms,
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

/// Histories of so many steps, in a world of so many products (from 1 to 3) with few batches and orders.
pub fn steps(products: usize, count: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    vec(step(products), count)
}

/// One step. What is likely to come to nothing is rare.
fn step(products: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => command(products).prop_map(|command| Step::Do(Box::new(command))),
        1 => prop_oneof![
            4 => (1..90_i64).prop_map(Duration::seconds),
            1 => (1..40_i64).prop_map(Duration::hours),
        ].prop_map(Step::Wait),
    ]
}

/// One command about such a world.
pub fn command(products: usize) -> impl Strategy<Value = Command> {
    let sku = move || sku(products);
    prop_oneof![
        10 => allocate(products),
        4 => (sku(), reference(), stock(), eta())
            .prop_map(|(sku, reference, qty, eta)| Command::CreateBatch(CreateBatch { sku, reference, qty, eta })),
        3 => (sku(), reference(), stock(), option::of(eta()), any::<bool>()).prop_map(
            |(sku, reference, qty, eta, known)| {
                let precondition = if known { Precondition::Exists } else { Precondition::None };
                Command::DeclareBatch(DeclareBatch { sku, reference, qty, eta, precondition })
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
        1 => (sku(), settings()).prop_map(|(sku, settings)| Command::SetProduct(SetProduct { sku, settings })),
        1 => sku().prop_map(|sku| Command::Improve(Improve { sku })),
        1 => sku().prop_map(|sku| Command::ApplyDue(ApplyDue { sku })),
    ]
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

fn terms() -> impl Strategy<Value = Terms> {
    let split = prop_oneof![
        3 => Just(Split::Parts(Quantity::ONE)),
        2 => (2..=4_u64).prop_map(|least| Split::Parts(qty(least))),
        3 => Just(Split::Never),
    ];
    let dates = (option::weighted(0.3, 0..8_i64), option::weighted(0.2, 0..6_i64));
    (priority(), dates, split).prop_map(|(priority, (by, not_before), split)| Terms {
        priority,
        by: by.map(day),
        not_before: not_before.map(day),
        split,
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
    (cap, any::<bool>()).prop_map(|(queue_cap, auto_improve)| Settings { queue_cap, auto_improve })
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
    (0..products).prop_map(|product| Sku::new(["A", "B", "C"][product]).expect("a SKU"))
}

fn reference() -> impl Strategy<Value = BatchRef> {
    prop_oneof![8 => (1..=4).prop_map(|n| format!("b{n}")), 1 => (1..=2).prop_map(|n| format!("b{n}~2"))]
        .prop_map(|reference| BatchRef::new(reference).expect("a reference"))
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
        Ok(())
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
            let Settings { queue_cap, auto_improve } = c.settings;
            let cap = queue_cap.map_or_else(|| "no".to_owned(), |cap| cap.to_string());
            write!(f, "set {}: {cap} cap, {}", c.sku, if auto_improve { "auto_improve" } else { "no auto_improve" })
        }
        Command::CreateBatch(c) => write!(f, "create {} {}: {} units, {}", c.sku, c.reference, c.qty, Due(c.eta)),
        Command::DeclareBatch(c) => {
            write!(f, "declare {} {}: {} units", c.sku, c.reference, c.qty)?;
            if let Some(eta) = c.eta {
                write!(f, ", {}", Due(eta))?;
            }
            if c.precondition == Precondition::None { Ok(()) } else { f.write_str(", if known") }
        }
        Command::ChangeBatchQuantity(c) => write!(f, "change {} {} to {} units", c.sku, c.reference, c.qty),
        Command::ChangeBatchEta(c) => write!(f, "move {} {} to {}", c.sku, c.reference, Due(c.eta)),
        Command::ReceiveBatch(c) => {
            write!(f, "receive {} {}: {} units, {:?} the rest", c.sku, c.reference, c.qty, c.rest)
        }
        Command::CancelBatch(c) => write!(f, "cancel {} {}", c.sku, c.reference),
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
        Command::Improve(c) => write!(f, "improve {}", c.sku),
        Command::ApplyDue(c) => write!(f, "apply what is due of {}", c.sku),
        Command::RepairBooks(c) => write!(f, "repair the books of {}", c.sku),
    }
}
