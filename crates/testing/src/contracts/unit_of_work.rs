//! The unit of work: all or nothing, and one at a time for each product.

use std::sync::Arc;

use allocation_domain::commands::{DeclareBatch, Precondition, WhenShort};
use allocation_domain::product::{Decision, SupplyChange};
use allocation_domain::{Command, Event, Rejection};
use allocation_service_layer::handlers::{CUT_STEP, LISTED, Reply};
use allocation_service_layer::message_bus::Ahead;
use allocation_service_layer::ports::database::StoreError;
use allocation_service_layer::strand::Strand;
use allocation_service_layer::unit_of_work::{UnitOfWork, Wanted};
use futures_util::future::join_all;

use super::{Fixture, Store};
use crate::clock::CountingEntropy;
use crate::shorthand::{
    allocate, change_quantity, create_batch, day, declare_batch, location, message, reference, sku, stock,
};

async fn open<S: Store>(fixture: &Fixture<S>) -> UnitOfWork<S::Tx> {
    UnitOfWork::new(
        fixture.store.begin().await.expect("a transaction"),
        Arc::new(CountingEntropy::default()),
        Arc::default(),
    )
}

/// Rollback on drop: neither tables nor log keep anything.
pub async fn a_unit_of_work_that_is_dropped_leaves_nothing<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let command = change_quantity("b", "TABLE", 3);
    {
        let mut uow = open(&fixture).await;
        uow.load(Wanted::of([&command])).await.expect("a load");
        let product = uow.product_mut(&sku("TABLE")).expect("the product");
        let change = SupplyChange::Quantity(stock(0));
        product.change_supply(&reference("b"), &change, &[]).expect("a change");
        assert_eq!(uow.gather().len(), 1);
        // Pending changes are written, not committed.
        uow.losers(&sku("TABLE"), &reference("b"), None, 1).await.expect("a query");
    }
    let product = fixture.product("TABLE").await;
    assert_eq!((product.version(), product.available()), (1, 10));
    assert_eq!(fixture.events().await.len(), 1);
    fixture.handle([command]).await;
    fixture.assert_balanced().await;
}

/// Tables and log together.
pub async fn a_unit_of_work_that_is_committed_leaves_everything<S: Store>(fixture: Fixture<S>) {
    let mut uow = open(&fixture).await;
    uow.load(Wanted::of([&create_batch("b", "TABLE", 10, None)])).await.expect("a load");
    let product = uow.product_or_new(&sku("TABLE"));
    product.create_batch(reference("b"), stock(10), None, None, location("default")).expect("a batch");
    uow.gather();
    assert!(uow.commit().await.expect("a commit").anything);
    let product = fixture.product("TABLE").await;
    assert_eq!((product.version(), product.available()), (1, 10));
    assert!(matches!(&fixture.events().await[..], [(_, 1, Event::BatchCreated { .. })]));
}

/// A command that needs lines from the store sees what commands before it in the same unit of work have done.
pub async fn what_is_pending_is_written_before_the_store_is_asked<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None), allocate("o1", &[("TABLE", 4)])]).await;
    let messages = [allocate("o2", &[("TABLE", 6)]), change_quantity("b", "TABLE", 5)].map(message);
    let verdicts = fixture.bus().handle_batch(&messages).await;
    let Ok(Ok(Reply::Batch(reply))) = &verdicts[1] else { panic!("{verdicts:?}") };
    assert_eq!(reply.displaced.len(), 1);
    assert_eq!(reply.displaced[0].line.order_id.as_str(), "o2");
    fixture.assert_balanced().await;
}

/// The classic oversell: to lock, wait, and go on with what was read before the wait.
pub async fn a_lock_is_waited_for_and_then_fresh_counters_are_read<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let first = allocate("o1", &[("TABLE", 10)]);
    let mut uow = open(&fixture).await;
    uow.load(Wanted::of([&first])).await.expect("a load");

    let bus = fixture.bus();
    let second = tokio::spawn(async move { bus.handle(message(allocate("o2", &[("TABLE", 1)]))).await });
    let product = uow.product_mut(&sku("TABLE")).expect("the product");
    let Command::Allocate(order) = &first else { unreachable!() };
    let Decision::Accept(plan) = product.plan(order.lines(), WhenShort::Reject, None) else { panic!("no plan") };
    product.apply(plan);
    uow.gather();
    uow.commit().await.expect("a commit");

    let verdict = second.await.expect("no panic").expect("the store works");
    assert!(matches!(verdict, Err(Rejection::Short(_))), "{verdict:?}");
    fixture.assert_balanced().await;
}

/// Several processes, one product, too little for all.
pub async fn two_racing_for_the_last_units_never_promise_one_twice<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 25, None), create_batch("c", "TABLE", 25, Some(day(2)))]).await;
    let buses: Vec<_> = (0..2).map(|_| Arc::new(fixture.bus())).collect();
    let tasks = (0..80).map(|n| {
        let bus = buses[n % 2].clone();
        tokio::spawn(async move { bus.handle(message(allocate(&format!("o{n}"), &[("TABLE", 1)]))).await })
    });
    let verdicts: Vec<_> = join_all(tasks).await.into_iter().map(|v| v.expect("no panic").expect("works")).collect();
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 50);
    let raised = fixture.events().await.iter().filter(|(_, _, e)| matches!(e, Event::OutOfStock { .. })).count();
    assert_eq!(raised, 1);
    fixture.assert_balanced().await;
}

/// Orders that name the same products in other orders are locked in one order.
pub async fn many_racing_on_many_products_never_deadlock_for_good<S: Store>(fixture: Fixture<S>) {
    let skus = ["A", "B", "C", "D", "E"];
    fixture.handle(skus.map(|of| create_batch("b", of, 1_000, None))).await;
    let buses: Vec<_> = (0..4).map(|_| Arc::new(fixture.bus())).collect();
    let tasks = (0..60).map(|n| {
        let bus = buses[n % 4].clone();
        let lines: Vec<_> = (0..3).map(|at| (skus[(n * 7 + at * 2) % skus.len()], 1)).collect();
        tokio::spawn(async move { bus.handle(message(allocate(&format!("o{n}"), &lines))).await })
    });
    for verdict in join_all(tasks).await {
        let verdict = verdict.expect("no panic").expect("the store works");
        assert!(verdict.is_ok(), "{verdict:?}");
    }
    fixture.assert_balanced().await;
}

/// Has more lines in a batch than lose their place in one unit of work, of two units each.
async fn crowd<S: Store>(fixture: &Fixture<S>) -> usize {
    fixture.handle([create_batch("b", "TABLE", 100_000, None)]).await;
    let lines = CUT_STEP + 200;
    let messages: Vec<_> = (0..lines).map(|n| message(allocate(&format!("o{n:05}"), &[("TABLE", 2)]))).collect();
    for some in messages.chunks(1_000) {
        fixture.bus().handle_batch(some).await;
    }
    lines
}

/// Nor what comes right behind it, nor what was sent right behind it and is on its strand.
pub async fn nothing_gets_in_front_of_the_rest_of_a_large_cut<S: Store>(fixture: Fixture<S>) {
    crowd(&fixture).await;
    let (cut, more) = (message(change_quantity("b", "TABLE", 0)), message(change_quantity("b", "TABLE", 50_000)));
    let declared = async || {
        let product = fixture.product("TABLE").await;
        product.batch(&reference("b")).expect("it is open").declared.units()
    };
    let verdicts = fixture.bus().handle_batch(&[cut.clone(), more.clone()]).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Ok(Ok(_)))), "{verdicts:?}");
    assert_eq!(declared().await, 50_000);

    let (bus, strand) = (fixture.bus(), Strand::default());
    let others = message(allocate("other", &[("TABLE", 1)]));
    let (cut, more) = (cut.on_strand(strand.clone()), more.on_strand(strand));
    let verdicts = bus.handle_once(&[cut.clone(), more.clone(), others], Ahead::NotTried).await;
    let [Ok(begun), Err(StoreError::Unavailable(_)), Ok(Ok(_) | Err(Rejection::Short(_)))] = &verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert!(more.must_wait());
    let rest = cut.rest(begun).expect("it is not done");
    assert!(!rest.must_wait());
    bus.handle(rest).await.expect("the store works").expect("it is cut");
    fixture.assert_balanced().await;
}

/// And is told so, if it was to change nothing but what it had seen.
pub async fn a_large_cut_of_what_was_seen_ends_where_somebody_else_declares_something<S: Store>(fixture: Fixture<S>) {
    crowd(&fixture).await;
    let seen = fixture.product("TABLE").await.batch(&reference("b")).expect("it is open").revision;
    let Command::DeclareBatch(cut) = declare_batch("b", "TABLE", 0, None) else { panic!("it is") };
    let cut = DeclareBatch { precondition: Precondition::Revision(vec![seen]), ..cut };
    let (bus, cut) = (fixture.bus(), message(Command::DeclareBatch(cut)));
    let begun = bus.handle_once(std::slice::from_ref(&cut), Ahead::NotTried).await.remove(0).expect("the store works");
    let rest = cut.rest(&begun).expect("it is not done");
    let other = bus.handle(message(change_quantity("b", "TABLE", 50_000))).await.expect("the store works");
    assert!(other.is_ok(), "{other:?}");
    let ended = bus.handle(rest).await.expect("the store works");
    assert!(matches!(ended, Err(Rejection::PreconditionFailed { .. })), "{ended:?}");
    assert_eq!(fixture.product("TABLE").await.batch(&reference("b")).expect("it is open").declared.units(), 50_000);
    fixture.assert_balanced().await;
}

/// More lines lose their place than one unit of work should hold.
pub async fn a_large_cut_goes_on_in_steps_until_it_is_done<S: Store>(fixture: Fixture<S>) {
    let lines = crowd(&fixture).await;
    fixture.handle([create_batch("c", "TABLE", 10, Some(day(1)))]).await;
    let verdict = fixture.bus().handle(message(change_quantity("b", "TABLE", 100))).await.expect("the store works");
    let Ok(Reply::Batch(reply)) = verdict else { panic!("{verdict:?}") };
    assert_eq!((reply.batch.qty, reply.batch.allocated, reply.batch.free), (100, 100, 0));
    assert_eq!(reply.displaced_total, lines as u64 - 50);
    assert_eq!(reply.displaced.len(), LISTED);
    assert_eq!(reply.unfinished, None);
    let product = fixture.product("TABLE").await;
    // Ten units of the other batch took five lines.
    assert_eq!(product.backordered(), (lines as u64 - 50 - 5) * 2);
    fixture.assert_balanced().await;
}
