//! The warehouse floor: picking, shipping, returns.
//!
//! What is shipped or comes back is tried on copies of the products: all of it is done, or nothing.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::commands::{
    AdjustBatch, LineOf, Pick, QuarantineBatch, ReleaseBatch, Return, Ship, ShipItem, Transfer, Unpick,
};
use allocation_domain::{
    AcceptedLine, BatchRef, Command, LineKey, LineState, OrderId, Product, Quantity, Rejection, Sku,
};

use super::{Cut, Reply, Verdict, batch_reply, order_reply};
use crate::ports::database::{StoreResult, Transaction};
use crate::unit_of_work::UnitOfWork;

type Lines = Vec<(Sku, LineKey)>;

/// Releases what an order has on hand to picking.
pub fn pick<T: Transaction>(cmd: &Pick, uow: &mut UnitOfWork<T>) -> Verdict {
    let lines = lines_to_pick(uow, &cmd.order_id, &cmd.lines, true)?;
    if !lines.iter().any(|(sku, key)| at_hand(uow, sku).is_on_hand(key)) {
        return Err(Rejection::NotOnHand(format!("order {}", cmd.order_id)));
    }
    for (sku, key) in &lines {
        uow.product_mut(sku).expect("its lines are at hand").pick(key)?;
    }
    Ok(order_reply(uow, &lines))
}

/// Takes an order's units back from picking.
pub fn unpick<T: Transaction>(cmd: &Unpick, uow: &mut UnitOfWork<T>) -> Verdict {
    let lines = lines_to_pick(uow, &cmd.order_id, &cmd.lines, false)?;
    for (sku, key) in &lines {
        uow.product_mut(sku).expect("its lines are at hand").unpick(key)?;
    }
    Ok(order_reply(uow, &lines))
}

/// The lines that are named, all of which must allow it; or all lines of the order that do. A hold must be confirmed before anything of the order is
/// picked.
fn lines_to_pick<T: Transaction>(
    uow: &UnitOfWork<T>,
    order_id: &OrderId,
    named: &[LineOf],
    no_holds: bool,
) -> Result<Lines, Rejection> {
    let lines = lines_of_order(uow, order_id)?;
    if !named.is_empty() {
        let lines: Lines = named.iter().map(|of| named_line(order_id, of)).collect();
        for (sku, key) in &lines {
            product_of(uow, sku, key)?;
        }
        for (sku, key) in &lines {
            at_hand(uow, sku).may_pick(key)?;
        }
        return Ok(lines);
    }
    let mut refused = None;
    let mut open = Lines::new();
    for (sku, key) in lines {
        let product = at_hand(uow, &sku);
        let held = product.line(&key).is_some_and(|line| line.state() == LineState::Held);
        match product.may_pick(&key) {
            Ok(_) => open.push((sku, key)),
            Err(rejection) if held && no_holds => return Err(rejection),
            Err(rejection) => refused = refused.or(Some(rejection)),
        }
    }
    refused.filter(|_| open.is_empty()).map_or(Ok(open), Err)
}

/// Units of an order have left.
pub async fn ship<T: Transaction>(cmd: &Ship, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    let shipments = match shipments(cmd, uow) {
        Ok(shipments) => shipments,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let taken = taken_from_batches(&shipments, uow);
    let exchanges = |((sku, reference), units): (&(Sku, BatchRef), &u64)| {
        uow.product(sku).is_some_and(|product| product.must_exchange(reference, *units)).then(|| sku.clone())
    };
    // An exchange out of one batch may take what is free in another.
    let exchanging: BTreeSet<Sku> = taken.iter().filter_map(exchanges).collect();
    for (sku, reference) in taken.keys().filter(|(sku, _)| exchanging.contains(sku)) {
        uow.losers(sku, reference, None, usize::MAX).await?;
    }
    let lines: Lines = shipments.iter().map(|shipment| (shipment.sku.clone(), shipment.key.clone())).collect();
    Ok(on_copies(uow, &lines, |product, at| {
        let Shipment { key, qty, from, .. } = &shipments[at];
        product.ship(key, *qty, from.as_ref())
    }))
}

struct Shipment {
    sku: Sku,
    key: LineKey,
    qty: Option<Quantity>,
    from: Option<BatchRef>,
}

/// What is to leave: what is named, or everything that is allocated.
fn shipments<T: Transaction>(cmd: &Ship, uow: &UnitOfWork<T>) -> Result<Vec<Shipment>, Rejection> {
    let lines = lines_of_order(uow, &cmd.order_id)?;
    if !cmd.items.is_empty() {
        let shipment = |item: &ShipItem| {
            let (sku, key) = named_line(&cmd.order_id, &item.of);
            Shipment { sku, key, qty: item.qty, from: item.from.clone() }
        };
        return Ok(cmd.items.iter().map(shipment).collect());
    }
    let mut shipments = Vec::new();
    let mut state = LineState::Cancelled;
    for (sku, key) in lines {
        let product = at_hand(uow, &sku);
        let Some(line) = product.line(&key) else { continue };
        state = state.min(line.state());
        if line.state() == LineState::Held {
            product.may_ship(&key)?;
        }
        if line.allocated() > 0 {
            if !product.has_all_on_hand(&key) {
                return Err(Rejection::NotOnHand(format!("order {}", cmd.order_id)));
            }
            shipments.push(Shipment { sku, key, qty: None, from: None });
        }
    }
    if shipments.is_empty() {
        let subject = format!("order {}", cmd.order_id);
        return Err(Rejection::NotAllowed { subject, command: "ship", state: state.name() });
    }
    Ok(shipments)
}

/// How many units at most are to leave from each batch that is named.
fn taken_from_batches<T: Transaction>(shipments: &[Shipment], uow: &UnitOfWork<T>) -> BTreeMap<(Sku, BatchRef), u64> {
    let mut taken: BTreeMap<(Sku, BatchRef), u64> = BTreeMap::new();
    for Shipment { sku, key, qty, from } in shipments {
        let Some(from) = from else { continue };
        let line = uow.product(sku).and_then(|product| product.line(key));
        let units = qty.map_or_else(|| line.map_or(0, AcceptedLine::allocated), Quantity::units);
        *taken.entry((sku.clone(), from.clone())).or_default() += units;
    }
    taken
}

/// Units of an order have come back.
pub async fn take_return<T: Transaction>(cmd: &Return, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    if let Err(rejection) = lines_of_order(uow, &cmd.order_id) {
        return Ok(Err(rejection));
    }
    let lines: Lines = cmd.items.iter().map(|item| named_line(&cmd.order_id, &item.of)).collect();
    for (sku, key) in &lines {
        // They may have nothing left, and are not at hand then.
        let line = uow.product(sku).and_then(|product| product.line(key));
        let came_from = line.map(|line| line.shipped.iter().map(|shipped| shipped.batch.clone()).collect());
        uow.bring_batches(sku, came_from.unwrap_or_default()).await?;
    }
    Ok(on_copies(uow, &lines, |product, at| {
        let item = &cmd.items[at];
        product.take_return(&lines[at].1, item.qty, item.to, item.into.as_ref())
    }))
}

/// The answer to a command that was done before: the present state of what it is about.
pub fn as_it_is<T: Transaction>(command: &Command, uow: &UnitOfWork<T>) -> Verdict {
    let named = |order_id: &OrderId, of: Vec<&LineOf>| {
        let all = lines_of_order(uow, order_id)?;
        let lines: Lines = of.into_iter().map(|of| named_line(order_id, of)).collect();
        Ok(order_reply(uow, &each_once(if lines.is_empty() { all } else { lines })))
    };
    match command {
        Command::Ship(Ship { order_id, items }) => named(order_id, items.iter().map(|item| &item.of).collect()),
        Command::Return(Return { order_id, items }) => named(order_id, items.iter().map(|item| &item.of).collect()),
        Command::AdjustBatch(AdjustBatch { sku, reference, .. })
        | Command::QuarantineBatch(QuarantineBatch { sku, reference, .. })
        | Command::ReleaseBatch(ReleaseBatch { sku, reference, .. })
        | Command::Transfer(Transfer { sku, reference, .. }) => Ok(batch_reply(uow, sku, reference, Cut::NONE)),
        _ => Ok(Reply::Done),
    }
}

fn each_once(mut lines: Lines) -> Lines {
    lines.sort();
    lines.dedup();
    lines
}

/// Does something to each of these lines, on copies that take the products' places if all of it was allowed.
fn on_copies<T: Transaction>(
    uow: &mut UnitOfWork<T>,
    lines: &[(Sku, LineKey)],
    mut change: impl FnMut(&mut Product, usize) -> Result<(), Rejection>,
) -> Verdict {
    let mut copies: BTreeMap<&Sku, Product> = BTreeMap::new();
    for (at, (sku, key)) in lines.iter().enumerate() {
        if !copies.contains_key(sku) {
            copies.insert(sku, product_of(uow, sku, key)?.clone());
        }
        let copy = copies.get_mut(sku).expect("it was put there");
        change(copy, at)?;
    }
    for (sku, copy) in copies {
        *uow.product_mut(sku).expect("it was copied") = copy;
    }
    Ok(order_reply(uow, &each_once(lines.to_vec())))
}

fn lines_of_order<T: Transaction>(uow: &UnitOfWork<T>, order_id: &OrderId) -> Result<Lines, Rejection> {
    let lines = uow.lines_of(order_id, None, None);
    // Of an order that is known, it may be that none of the lines at hand is its.
    if uow.knows_order(order_id) || !lines.is_empty() {
        Ok(lines)
    } else {
        Err(Rejection::UnknownOrder(order_id.clone()))
    }
}

fn named_line(order_id: &OrderId, of: &LineOf) -> (Sku, LineKey) {
    (of.sku.clone(), LineKey { order_id: order_id.clone(), line: of.line.clone() })
}

/// The product of a line that the caller has named.
fn product_of<'a, T: Transaction>(uow: &'a UnitOfWork<T>, sku: &Sku, key: &LineKey) -> Result<&'a Product, Rejection> {
    let unknown = || Rejection::UnknownLine { order_id: key.order_id.clone(), sku: sku.clone() };
    uow.product(sku).filter(|product| product.line(key).is_some()).ok_or_else(unknown)
}

/// The product of a line that is at hand.
fn at_hand<'a, T: Transaction>(uow: &'a UnitOfWork<T>, sku: &Sku) -> &'a Product {
    uow.product(sku).expect("its lines are at hand")
}
