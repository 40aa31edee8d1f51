//! What commands name: products, orders, batches, locations, numbers of units, days.

use std::collections::BTreeMap;
use std::ops::Range;

use allocation_domain::commands::{
    AdjustBatch, Adjustment, LineChange, LineOf, ReturnItem, ReturnTo, ShipItem, WhenShort,
};
use allocation_domain::{
    BatchQuantity, BatchRef, Command, HoldSeconds, Level, LineId, Location, Locations, LowStock, OrderId, Quantity,
    Reason, Settings, Sku, Split, Strategy as Order, Terms,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use time::{Date, Duration};

use super::{Flavour, Kind, day};

pub(super) fn adjust(sku: Sku, reference: BatchRef, adjustment: Adjustment) -> Command {
    let reason = Reason::new("counted").expect("a reason");
    Command::AdjustBatch(AdjustBatch { sku, reference, adjustment, reason })
}

pub(super) fn line_of(world: Flavour) -> impl Strategy<Value = LineOf> {
    (sku(world), line()).prop_map(|(sku, line)| LineOf { sku, line })
}

pub(super) fn ship_item(world: Flavour) -> impl Strategy<Value = ShipItem> {
    (line_of(world), some(), option::weighted(0.6, busy())).prop_map(|(of, qty, from)| ShipItem { of, qty, from })
}

pub(super) fn return_item(world: Flavour) -> impl Strategy<Value = ReturnItem> {
    let to = prop_oneof![2 => Just(ReturnTo::Quarantine), 2 => Just(ReturnTo::Restock), 1 => Just(ReturnTo::Scrap)];
    (line_of(world), few(), to, option::weighted(0.3, busy())).prop_map(|(of, qty, to, into)| ReturnItem {
        of,
        qty,
        to,
        into,
    })
}

pub(super) fn adjustment() -> impl Strategy<Value = Adjustment> {
    prop_oneof![
        few().prop_map(Adjustment::Damaged),
        few().prop_map(Adjustment::Found),
        stock().prop_map(Adjustment::Recount),
    ]
}

/// Some units; none: all of them.
pub(super) fn some() -> impl Strategy<Value = Option<Quantity>> {
    option::weighted(0.6, few())
}

/// As many units as there may well be.
pub(super) fn few() -> impl Strategy<Value = Quantity> {
    prop_oneof![2 => 1..=2_u64, 2 => 1..=5_u64, 1 => 1..=12_u64].prop_map(qty)
}

pub(super) fn terms(world: Flavour) -> impl Strategy<Value = Terms> {
    let dates = (option::weighted(0.3, 0..8_i64), option::weighted(0.2, 0..6_i64));
    let min_days = option::weighted(0.2, 0..6_u16);
    (priority(), dates, split(world), min_days, locations(world)).prop_map(
        |(priority, (by, not_before), split, min_days, locations)| Terms {
            priority,
            by: by.map(day),
            not_before: not_before.map(day),
            split,
            min_days,
            locations,
        },
    )
}

fn split(world: Flavour) -> impl Strategy<Value = Split> {
    let many = match world.stock {
        Kind::Free | Kind::Kept => 5,
        Kind::KeptWhole => 0,
    };
    let least = match world.stock {
        Kind::Free => 4_u64,
        Kind::Kept | Kind::KeptWhole => 1,
    };
    let least = prop_oneof![3 => Just(1), 2 => 1..=least].prop_map(qty);
    (0..3 + many, least, any::<bool>()).prop_map(|(kind, least, over)| match (kind, over) {
        (0..3, _) => Split::Never,
        (_, true) => Split::OverLocations(least),
        (_, false) => Split::Parts(least),
    })
}

/// Some of a world's locations, in any order; rather often none, which is all of them.
fn locations(world: Flavour) -> impl Strategy<Value = Option<Locations>> {
    let some = (Just(world.locations()).prop_shuffle(), 1..=world.locations).prop_map(|(mut locations, count)| {
        locations.truncate(count);
        Locations::new(locations).expect("each once")
    });
    option::weighted(0.45, some)
}

pub(super) fn location(world: Flavour) -> impl Strategy<Value = Location> {
    // There is more at the first, so that something can be had there.
    let at = prop_oneof![1 => Just(0), 2 => 0..world.locations];
    at.prop_map(move |at| world.locations()[at].clone())
}

pub(super) fn change() -> impl Strategy<Value = LineChange> {
    let by = option::of(0..8_i64).prop_map(|by| by.map(day));
    let quantity = option::weighted(0.7, asked().prop_map(qty));
    (quantity, option::weighted(0.2, priority()), option::weighted(0.4, by), when_short())
        .prop_map(|(qty, priority, by, when_short)| LineChange { qty, priority, by, when_short })
}

pub(super) fn settings(world: Flavour) -> impl Strategy<Value = Settings> {
    let cap = option::weighted(0.3, 0..20_u64);
    let strategy = prop_oneof![
        1 => Just(None),
        1 => Just(Some(Order::Earliest)),
        2 => Just(Some(Order::Fefo)),
        2 => Just(Some(Order::Fifo)),
        2 => Just(Some(Order::FewestSplits)),
        2 => Just(Some(Order::LocationPriority)),
    ];
    let expires = world.stock != Kind::Kept;
    let requires_expiry = prop::bool::weighted(0.05).prop_map(move |requires| requires && expires);
    let expiry = (prop_oneof![3 => Just(0), 2 => 1..5_u16], requires_expiry);
    let overdue_days = option::weighted(0.4, 0..4_u16);
    (cap, any::<bool>(), strategy, expiry, overdue_days, levels(world)).prop_map(
        |(queue_cap, auto_improve, strategy, (min_days, requires_expiry), overdue_days, levels)| Settings {
            queue_cap,
            auto_improve,
            strategy,
            min_days,
            requires_expiry,
            overdue_days,
            levels,
        },
    )
}

/// What is kept at each location, if anything is kept in such a world, and what is little there.
fn levels(world: Flavour) -> impl Strategy<Value = BTreeMap<Location, Level>> {
    let low_stock =
        (0..6_u64, 1..6_u64).prop_map(|(threshold, more)| LowStock { threshold, restocked: threshold + more });
    let safety_stock = prop_oneof![1 => Just(0), 3 => 1..8_u64];
    let level = (safety_stock, option::weighted(0.6, low_stock)).prop_map(move |(safety_stock, low_stock)| {
        let safety_stock = if world.stock == Kind::Free { 0 } else { safety_stock };
        Level { safety_stock, low_stock }
    });
    vec(option::weighted(0.6, level), world.locations).prop_map(move |levels| {
        let levels = world.locations().into_iter().zip(levels);
        levels.filter_map(|(location, level)| Some((location, level?))).collect()
    })
}

pub(super) fn when_short() -> impl Strategy<Value = WhenShort> {
    prop_oneof![
        2 => Just(WhenShort::Reject),
        2 => Just(WhenShort::Partial),
        3 => Just(WhenShort::Backorder),
    ]
}

pub(super) fn priority() -> impl Strategy<Value = i32> {
    prop_oneof![2 => Just(0), 1 => -1..=2_i32]
}

pub(super) fn hold() -> impl Strategy<Value = HoldSeconds> {
    (1..=300_u64).prop_map(|seconds| HoldSeconds::new(seconds).expect("a length of time"))
}

pub(super) fn sku(world: Flavour) -> impl Strategy<Value = Sku> {
    one_of(0..world.products)
}

pub(super) fn one_of(products: Range<usize>) -> impl Strategy<Value = Sku> {
    products.prop_map(|product| Sku::new(["A", "B", "C"][product]).expect("a SKU"))
}

pub(super) fn reference() -> impl Strategy<Value = BatchRef> {
    prop_oneof![
        16 => (1..=4).prop_map(|n| format!("b{n}")),
        2 => (1..=2).prop_map(|n| format!("b{n}~2")),
        1 => Just("t1".to_owned()),
    ]
    .prop_map(|reference| BatchRef::new(reference).expect("a reference"))
}

/// One that is known and has units of several lines rather sooner than the others.
pub(super) fn busy() -> impl Strategy<Value = BatchRef> {
    prop_oneof![3 => (1..=2).prop_map(|n| BatchRef::new(format!("b{n}")).expect("a reference")), 1 => reference()]
}

pub(super) fn order() -> impl Strategy<Value = OrderId> {
    (1..=6).prop_map(|n| OrderId::new(format!("o{n}")).expect("an order's id"))
}

pub(super) fn line() -> impl Strategy<Value = LineId> {
    prop_oneof![5 => Just("1"), 1 => Just("2")].prop_map(|line| LineId::new(line).expect("a line's id"))
}

pub(super) fn stock() -> impl Strategy<Value = BatchQuantity> {
    // With little in it a batch is too small a part for some, and a line needs several.
    let units = prop_oneof![2 => 0..=20_u64, 1 => 0..=5_u64];
    units.prop_map(|units| BatchQuantity::new(units).expect("a quantity"))
}

pub(super) fn asked() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 1..=20_u64, 1 => 1..=8_u64]
}

pub(super) fn eta() -> impl Strategy<Value = Option<Date>> {
    option::weighted(0.7, (0..8_i64).prop_map(day))
}

/// Rather often none, so that there is stock for most; else about when other things are due, or later.
pub(super) fn expiry(world: Flavour) -> impl Strategy<Value = Option<Date>> {
    (any::<bool>(), last_day(world)).prop_map(|(expires, last)| last.filter(|_| expires))
}

/// None only in worlds where nothing expires.
pub(super) fn last_day(world: Flavour) -> impl Strategy<Value = Option<Date>> {
    let last = prop_oneof![1 => -1..4_i64, 4 => 2..15_i64];
    last.prop_map(move |last| Some(day(last)).filter(|_| world.stock != Kind::Kept))
}

/// Time in which a batch may well expire.
pub(super) fn days() -> impl Strategy<Value = Duration> {
    (20..100_i64).prop_map(Duration::hours)
}

pub(super) fn qty(units: u64) -> Quantity {
    Quantity::new(units).expect("a quantity")
}
