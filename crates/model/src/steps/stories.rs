//! What happens one after the other to the same order or batch: random commands rarely fit together so well.

use allocation_domain::commands::{
    Adjustment, Allocate, ChangeBatchEta, ChangeBatchQuantity, CreateBatch, DeclareBatch, Pick, Precondition,
    QuarantineBatch, ReceiveBatch, ReleaseBatch, Rest, Return, ReturnItem, SetProduct, Ship, ShipItem, Transfer,
    Unpick, WhenShort,
};
use allocation_domain::{BatchQuantity, BatchRef, Command, Settings};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use time::Duration;

use super::values::{
    adjust, adjustment, asked, busy, days, eta, expiry, few, hold, last_day, line_of, location, order, qty,
    return_item, settings, sku, some, stock, terms,
};
use super::{Flavour, Step, day};

/// What happens to an order from beginning to end, some of it left out: there is stock, units of it are promised, picked, shipped, and come
/// back. Random commands rarely fit together so well.
pub(super) fn delivery(world: Flavour) -> impl Strategy<Value = Vec<Command>> {
    let about = (line_of(world), order(), busy(), location(world));
    let stock = option::weighted(0.6, (1..=20_u64).prop_map(BatchQuantity::new));
    let when_short = prop_oneof![1 => Just(WhenShort::Partial), 2 => Just(WhenShort::Backorder)];
    let promise = (asked(), terms(world), when_short);
    let item = || (some(), option::weighted(0.5, busy()));
    let leaves = prop_oneof![3 => vec(item(), 0..=1), 1 => vec(item(), 2..=2)];
    let comes_back = prop_oneof![3 => vec(return_item(world), 1..=1), 1 => vec(return_item(world), 2..=2)];
    let after =
        (any::<bool>(), prop::bool::weighted(0.1), option::weighted(0.7, leaves), option::weighted(0.5, comes_back));
    (about, stock, promise, after).prop_map(
        |((of, order_id, reference, location), stock, (units, terms, when_short), (pick, unpick, ship, back))| {
            let create = stock.map(|units| {
                let (sku, qty) = (of.sku.clone(), units.expect("a quantity"));
                Command::CreateBatch(CreateBatch { sku, reference, qty, eta: None, expires_on: None, location })
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
pub(super) fn stocktaking(world: Flavour) -> impl Strategy<Value = Vec<Command>> {
    let stock = option::weighted(0.5, stock());
    let counts = (option::weighted(0.3, adjustment()), option::weighted(0.6, some()), option::weighted(0.4, some()));
    let batch = (sku(world), busy(), location(world));
    (batch, stock, counts).prop_map(|((sku, reference, location), stock, (adjustment, aside, free))| {
        let batch = || (sku.clone(), reference.clone());
        let create = stock.map(|qty| {
            let (sku, reference) = batch();
            Command::CreateBatch(CreateBatch { sku, reference, qty, eta: None, expires_on: None, location })
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
pub(super) fn ageing(world: Flavour) -> impl Strategy<Value = Vec<Step>> {
    let batch = (busy(), location(world), option::weighted(0.8, (stock(), eta())), last_day(world));
    let when_short = prop_oneof![1 => Just(WhenShort::Partial), 2 => Just(WhenShort::Backorder)];
    let promise = (asked(), terms(world), when_short, option::weighted(0.3, hold()));
    let passes = option::weighted(0.6, prop_oneof![2 => (1..300_i64).prop_map(Duration::seconds), 3 => days()]);
    let after = (any::<bool>(), passes, option::weighted(0.5, expiry(world)), option::weighted(0.3, stock()));
    (line_of(world), order(), batch, promise, after).prop_map(
        |(
            of,
            order_id,
            (reference, location, created, last),
            (units, terms, when_short, hold),
            (pick, passes, expiry, count),
        )| {
            let batch = || (of.sku.clone(), reference.clone());
            let declared = created.map_or(BatchQuantity::ZERO, |(qty, _)| qty);
            let create = created.map(|(qty, eta)| {
                let (sku, reference) = batch();
                let (eta, expires_on, precondition) = (Some(eta), Some(last), Precondition::None);
                let location = Some(location);
                Command::DeclareBatch(DeclareBatch { sku, reference, qty, eta, expires_on, location, precondition })
            });
            let line = (of.sku.clone(), of.line.clone(), qty(units), terms);
            let mut allocate = Allocate::new(order_id.clone(), [line]).expect("it is a single line");
            (allocate.when_short, allocate.hold) = (when_short, hold.filter(|_| when_short != WhenShort::Backorder));
            let pick = pick.then(|| Command::Pick(Pick { order_id, lines: vec![of.clone()] }));
            let declare = expiry.map(|expires_on| {
                let (sku, reference) = batch();
                let (qty, eta, expires_on) = (declared, None, Some(expires_on));
                let (location, precondition) = (None, Precondition::Exists);
                Command::DeclareBatch(DeclareBatch { sku, reference, qty, eta, expires_on, location, precondition })
            });
            let count = count.map(|counted| adjust(of.sku.clone(), reference.clone(), Adjustment::Recount(counted)));
            let command = |command| Step::Do(Box::new(command));
            let before = [create, Some(Command::Allocate(allocate)), pick].into_iter().flatten().map(command);
            let after = [declare, count].into_iter().flatten().map(command);
            before.chain(passes.map(Step::Wait)).chain(after).collect()
        },
    )
}

/// What happens when a batch is late, some of it left out: units of it are promised, days pass, more are asked for, and it is expected on
/// another day, or comes.
pub(super) fn lateness(world: Flavour) -> impl Strategy<Value = Vec<Step>> {
    let set = option::weighted(0.6, (settings(world), 0..3_u16));
    let batch = (busy(), location(world), stock(), 0..4_i64);
    let promise = || {
        let when_short = prop_oneof![1 => Just(WhenShort::Partial), 2 => Just(WhenShort::Backorder)];
        option::weighted(0.7, (order(), asked(), terms(world), when_short))
    };
    let after = option::weighted(0.5, prop_oneof![1 => Just(None), 2 => (0..12_i64).prop_map(Some)]);
    (line_of(world), set, batch, (promise(), promise()), (days(), after)).prop_map(
        |(of, set, (reference, location, units, due), (before, meanwhile), (passes, after))| {
            let set = set.map(|(settings, most)| {
                let settings = Settings { overdue_days: Some(most), ..settings };
                Command::SetProduct(SetProduct { sku: of.sku.clone(), settings })
            });
            let create = Command::CreateBatch(CreateBatch {
                sku: of.sku.clone(),
                reference: reference.clone(),
                qty: units,
                eta: Some(day(due)),
                expires_on: None,
                location,
            });
            let allocate = |(order_id, units, terms, when_short)| {
                let line = (of.sku.clone(), of.line.clone(), qty(units), terms);
                let mut allocate = Allocate::new(order_id, [line]).expect("it is a single line");
                allocate.when_short = when_short;
                Command::Allocate(allocate)
            };
            let (before, meanwhile) = (before.map(allocate), meanwhile.map(allocate));
            let after = after.map(|eta| {
                let (sku, reference, eta) = (of.sku.clone(), reference.clone(), eta.map(day));
                Command::ChangeBatchEta(ChangeBatchEta { sku, reference, eta })
            });
            let command = |command| Step::Do(Box::new(command));
            let first = [set, Some(create), before].into_iter().flatten().map(command);
            let then = [meanwhile, after].into_iter().flatten().map(command);
            first.chain([Step::Wait(passes)]).chain(then).collect()
        },
    )
}

/// What happens when units go to another location, some of it left out: they are promised there, days pass, and they come.
pub(super) fn moving(world: Flavour) -> impl Strategy<Value = Vec<Step>> {
    let batch = (busy(), location(world), option::weighted(0.7, (stock(), expiry(world))));
    // Elsewhere, if there is an elsewhere.
    let goes = (few(), 1..=2_usize, 0..6_i64);
    let promise = option::weighted(0.6, (order(), asked(), terms(world)));
    let comes = (option::weighted(0.5, days()), option::weighted(0.5, (few(), any::<bool>())));
    (line_of(world), batch, goes, promise, comes).prop_map(
        move |(of, (from, location, created), (units, further, due), promise, (passes, comes))| {
            let locations = world.locations();
            let at = locations.iter().position(|at| *at == location).expect("one of them");
            let to = locations[(at + further) % locations.len()].clone();
            let sent = BatchRef::new("t1").expect("a reference");
            let create = created.map(|(qty, expires_on)| {
                let (sku, reference) = (of.sku.clone(), from.clone());
                Command::CreateBatch(CreateBatch { sku, reference, qty, eta: None, expires_on, location })
            });
            let (sku, reference, eta) = (of.sku.clone(), sent.clone(), day(due));
            let transfer = Command::Transfer(Transfer { sku, from, qty: units, to, reference, eta });
            let allocate = promise.map(|(order_id, units, terms)| {
                let line = (of.sku.clone(), of.line.clone(), qty(units), terms);
                let mut allocate = Allocate::new(order_id, [line]).expect("it is a single line");
                allocate.when_short = WhenShort::Backorder;
                Command::Allocate(allocate)
            });
            let receive = comes.map(|(qty, keep)| {
                let (sku, reference) = (of.sku.clone(), sent.clone());
                let rest = if keep { Rest::Keep } else { Rest::Cancel };
                Command::ReceiveBatch(ReceiveBatch { sku, reference, qty, rest })
            });
            let command = |command| Step::Do(Box::new(command));
            let before = [create, Some(transfer), allocate].into_iter().flatten().map(command);
            before.chain(passes.map(Step::Wait)).chain(receive.map(command)).collect()
        },
    )
}

/// Units are at several locations, little at each, and somebody wants more than that; perhaps some of them fall away.
pub(super) fn spread(world: Flavour) -> impl Strategy<Value = Vec<Command>> {
    let batches = vec((1..=8_u64, location(world), eta()), 2..=3);
    let promise = (order(), 2..=12_u64, terms(world), option::weighted(0.4, hold()));
    let shrinks = option::weighted(0.5, (1..=3, 0..=2_u64));
    (line_of(world), batches, promise, shrinks).prop_map(|(of, batches, (order_id, units, terms, hold), shrinks)| {
        let create = batches.into_iter().enumerate().map(|(at, (units, location, eta))| {
            let reference = BatchRef::new(format!("b{}", at + 1)).expect("a reference");
            let (sku, qty) = (of.sku.clone(), BatchQuantity::new(units).expect("a quantity"));
            Command::CreateBatch(CreateBatch { sku, reference, qty, eta, expires_on: None, location })
        });
        // What is held is little enough to find another place.
        let units = if hold.is_some() { units.min(4) } else { units };
        let line = (of.sku.clone(), of.line.clone(), qty(units), terms);
        let mut allocate = Allocate::new(order_id, [line]).expect("it is a single line");
        allocate.when_short = if hold.is_some() { WhenShort::Partial } else { WhenShort::Backorder };
        allocate.hold = hold;
        let shrink = shrinks.map(|(at, units)| {
            let (sku, qty) = (of.sku.clone(), BatchQuantity::new(units).expect("a quantity"));
            let reference = BatchRef::new(format!("b{at}")).expect("a reference");
            Command::ChangeBatchQuantity(ChangeBatchQuantity { sku, reference, qty })
        });
        create.chain([Command::Allocate(allocate)]).chain(shrink).collect()
    })
}
