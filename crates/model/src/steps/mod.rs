//! Random histories: commands about a small world, and steps of time. They shrink to short ones, and each step prints as one line.
//!
//! Each history is in a world of some flavour: with so many locations, at some of which clocks show another time ([`ELSEWHERE`]), and
//! with safety stock or without. Two things are not in one world, since the rules leave it open what a line takes then:
//!
//! - Lines with a least part of several units, and safety stock: a batch may be small by itself, or for what the line takes elsewhere.
//! - Batches that expire, safety stock, and lines that may be split: what counts for one day need not for a later one, so that it
//!   depends on the order of the parts what may be taken together. There are such worlds, but their lines are whole.

mod printed;
mod stories;
mod values;

use std::ops::Range;

use allocation_domain::commands::{
    Allocate, ApplyDue, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, ChangeLine, ConfirmHold, CreateBatch,
    Deallocate, DeclareBatch, ExtendHold, Improve, Pick, Precondition, QuarantineBatch, ReceiveBatch, ReleaseBatch,
    Rest, Return, SetProduct, Ship, Transfer, Unpick, WhenShort,
};
use allocation_domain::{Command, LineId, LineKey, Location, Quantity, Sku, Terms};
use proptest::collection::{SizeRange, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;
use time::macros::datetime;
use time::{Date, Duration, OffsetDateTime};

use self::stories::{ageing, delivery, lateness, moving, spread, stocktaking};
use self::values::{
    adjust, adjustment, asked, change, days, eta, expiry, few, hold, line, line_of, location, one_of, order, qty,
    reference, return_item, settings, ship_item, sku, some, stock, terms, when_short,
};

/// When every history begins.
pub const START: OffsetDateTime = datetime!(2011-01-02 08:00 UTC);

/// Locations of which clocks show so many hours more or less than where nothing else is said: it is another day there for half of each day.
/// As it was in Auckland and in Honolulu when histories begin.
pub const ELSEWHERE: [(&str, i64); 2] = [("auckland", 13), ("honolulu", -10)];

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

/// What there is in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flavour {
    /// From 1 to 3.
    products: usize,
    /// From 1 to 3.
    locations: usize,
    stock: Kind,
}

/// What stock there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All of it may be promised; it may expire.
    Free,
    /// Some of it is never promised, and none expires.
    Kept,
    /// Some of it is never promised, it may expire, and no line may be split.
    KeptWhole,
}

impl Flavour {
    fn locations(self) -> Vec<Location> {
        let elsewhere = ELSEWHERE.map(|(name, _)| Location::new(name).expect("a name"));
        [Location::default()].into_iter().chain(elsewhere).take(self.locations).collect()
    }
}

/// Histories of so many steps, some of which are followed by others about the same order or batch; in a world of so many products (from 1
/// to 3) with few batches and orders, of any flavour. Many begin with products that are set up.
pub fn steps(products: usize, count: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    let count = count.into();
    let mut flavours = Vec::new();
    for (often, stock) in [(3, Kind::Free), (2, Kind::Kept), (1, Kind::KeptWhole)] {
        for (times, locations) in [(1, 1), (2, 2), (2, 3)] {
            let world = Flavour { products, locations, stock };
            flavours.push((often * times, steps_in(world, count.clone()).boxed()));
        }
    }
    Union::new_weighted(flavours)
}

fn steps_in(world: Flavour, count: SizeRange) -> impl Strategy<Value = Vec<Step>> {
    let together = |commands: Vec<Command>| commands.into_iter().map(|command| Step::Do(Box::new(command))).collect();
    let set_up: Vec<_> =
        (0..world.products).map(|product| option::weighted(0.7, set_product(world, product..product + 1))).collect();
    let set_up = set_up.prop_map(move |commands| together(commands.into_iter().flatten().collect()));
    let happening = prop_oneof![
        20 => step(world).prop_map(|step| vec![step]).boxed(),
        6 => delivery(world).prop_map(together).boxed(),
        3 => stocktaking(world).prop_map(together).boxed(),
        2 => ageing(world).boxed(),
        2 => lateness(world).boxed(),
        3 => moving(world).boxed(),
        3 => spread(world).prop_map(together).boxed(),
    ];
    // Boxed, like what is done: strategies are large, and those of all flavours are made at once.
    (set_up, vec(happening, count))
        .prop_map(|(set_up, happenings): (Vec<Step>, _)| [set_up, happenings.concat()].concat())
}

/// One step. What is likely to come to nothing is rare.
fn step(world: Flavour) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => command(world).prop_map(|command| Step::Do(Box::new(command))),
        1 => prop_oneof![
            8 => (1..90_i64).prop_map(Duration::seconds),
            3 => (1..40_i64).prop_map(Duration::hours),
            1 => days(),
        ].prop_map(Step::Wait),
    ]
}

/// One command about such a world.
fn command(world: Flavour) -> impl Strategy<Value = Command> {
    prop_oneof![
        10 => allocate(world).boxed(),
        24 => supply(world).boxed(),
        12 => of_order(world).boxed(),
        15 => floor(world).boxed(),
        1 => set_product(world, 0..world.products).boxed(),
        1 => sku(world).prop_map(|sku| Command::Improve(Improve { sku })).boxed(),
        1 => sku(world).prop_map(|sku| Command::ApplyDue(ApplyDue { sku })).boxed(),
    ]
}

fn supply(world: Flavour) -> impl Strategy<Value = Command> {
    let sku = move || sku(world);
    let declared = (option::of(eta()), option::of(expiry(world)), option::weighted(0.3, location(world)));
    prop_oneof![
        6 => (sku(), reference(), stock(), eta(), expiry(world), location(world)).prop_map(
            |(sku, reference, qty, eta, expires_on, location)| {
                Command::CreateBatch(CreateBatch { sku, reference, qty, eta, expires_on, location })
            }
        ),
        5 => (sku(), reference(), stock(), declared, any::<bool>()).prop_map(
            |(sku, reference, qty, (eta, expires_on, location), known)| {
                let precondition = if known { Precondition::Exists } else { Precondition::None };
                Command::DeclareBatch(DeclareBatch { sku, reference, qty, eta, expires_on, location, precondition })
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
        3 => (sku(), reference(), few(), location(world), reference(), 0..8_i64).prop_map(
            |(sku, from, qty, to, reference, due)| {
                Command::Transfer(Transfer { sku, from, qty, to, reference, eta: day(due) })
            }
        ),
    ]
}

/// What is done to an order that is known, if it is.
fn of_order(world: Flavour) -> impl Strategy<Value = Command> {
    let sku = move || sku(world);
    prop_oneof![
        3 => (order(), option::of((sku(), option::of(line())))).prop_map(|(order_id, only)| {
            let (sku, line) = only.map_or((None, None), |(sku, line)| (Some(sku), line));
            Command::Deallocate(Deallocate { order_id, sku, line })
        }),
        2 => order().prop_map(|order_id| Command::ConfirmHold(ConfirmHold { order_id })),
        1 => (order(), hold()).prop_map(|(order_id, hold)| Command::ExtendHold(ExtendHold { order_id, hold })),
        5 => (sku(), order(), line(), change()).prop_map(|(sku, order_id, line, change)| {
            Command::ChangeLine(ChangeLine { sku, line: LineKey { order_id, line }, change })
        }),
    ]
}

fn set_product(world: Flavour, products: Range<usize>) -> impl Strategy<Value = Command> {
    (one_of(products), settings(world)).prop_map(|(sku, settings)| Command::SetProduct(SetProduct { sku, settings }))
}

fn allocate(world: Flavour) -> impl Strategy<Value = Command> {
    let asked = || (sku(world), line(), asked(), terms(world));
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
fn floor(world: Flavour) -> impl Strategy<Value = Command> {
    let sku = move || sku(world);
    let lines = move || prop_oneof![2 => Just(Vec::new()), 1 => vec(line_of(world), 1..=2)];
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
        7 => (order(), prop_oneof![1 => Just(Vec::new()), 3 => vec(ship_item(world), 1..=2)])
            .prop_map(|(order_id, items)| Command::Ship(Ship { order_id, items })),
        4 => (order(), prop_oneof![4 => vec(return_item(world), 1..=1), 1 => vec(return_item(world), 2..=3)])
            .prop_map(|(order_id, items)| Command::Return(Return { order_id, items })),
    ]
}
