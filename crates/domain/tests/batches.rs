//! Supply: batches come, change and move, and promises with them.

mod common;

use allocation_domain::product::Declared;
use allocation_domain::{BatchQuantity, Event, LineState, Rejection, arrival};
use common::{Bench, day, key, reference, stock};

#[test]
fn the_same_batch_again_is_no_news_and_another_under_its_name_is_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.create("b", 10, Some(1)), Ok(Declared::New));
    assert_eq!(bench.create("b", 10, Some(1)), Ok(Declared::Same));
    assert!(matches!(bench.create("b", 11, Some(1)), Err(Rejection::BatchExists { .. })));
    assert!(matches!(bench.create("b", 10, None), Err(Rejection::BatchExists { .. })));
    assert_eq!(bench.told(), ["BatchCreated"]);
}

#[test]
fn a_batch_that_grows_takes_whoever_waits_oldest_first() {
    let mut bench = Bench::with(&[("b", 30, None)]);
    for order_id in ["o1", "o2", "o3"] {
        bench.allocate(order_id, 10).unwrap();
    }
    bench.change_quantity("b", 0).unwrap();
    bench.told();
    bench.change_quantity("b", 20).unwrap();
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Allocated", "Allocated"]);
    assert_eq!(["o1", "o2", "o3"].map(|id| bench.where_is(id)), ["b", "b", "backordered"]);
}

#[test]
fn the_newest_lines_lose_their_place_first() {
    let mut bench = Bench::with(&[("b", 30, None)]);
    for order_id in ["o1", "o2", "o3"] {
        bench.allocate(order_id, 10).unwrap();
    }
    let (_, displaced) = bench.change_quantity("b", 15).unwrap();
    let lost: Vec<_> = displaced.iter().map(|d| d.line.order_id.as_str()).collect();
    assert_eq!(lost, ["o2", "o3"], "by seniority");
    assert_eq!(bench.where_is("o1"), "b");
}

#[test]
fn no_more_lines_lose_their_place_than_must() {
    let mut bench = Bench::with(&[("b", 30, None)]);
    for order_id in ["o1", "o2", "o3"] {
        bench.allocate(order_id, 10).unwrap();
    }
    bench.change_quantity("b", 20).unwrap();
    assert_eq!(["o1", "o2", "o3"].map(|id| bench.where_is(id)), ["b", "b", "backordered"]);
}

#[test]
fn a_line_that_lost_its_place_goes_at_once_wherever_free_stock_can_take_it() {
    let mut bench = Bench::with(&[("b", 10, None), ("c", 10, Some(2))]);
    bench.allocate("o1", 10).unwrap();
    bench.told();
    let (_, displaced) = bench.change_quantity("b", 5).unwrap();
    assert_eq!(displaced[0].to, Some(reference("c")));
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Deallocated", "Allocated"]);
    assert_eq!(bench.where_is("o1"), "c");
}

#[test]
fn a_line_that_finds_nothing_waits_and_keeps_its_seniority() {
    let mut bench = Bench::with(&[("b", 20, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.allocate("o2", 10).unwrap();
    let accepted = bench.product.line(&key("o2")).unwrap().accepted;
    bench.told();
    bench.change_quantity("b", 12).unwrap();
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Deallocated", "Backordered"]);
    assert_eq!(bench.product.backordered(), 10);
    bench.create("c", 10, Some(1)).unwrap();
    assert_eq!(bench.where_is("o2"), "c");
    assert_eq!(bench.product.line(&key("o2")).unwrap().accepted, accepted);
    assert_eq!(bench.product.backordered(), 0);
}

#[test]
fn events_of_a_cut_come_as_change_then_losses_then_what_became_of_them() {
    let mut bench = Bench::with(&[("b", 30, None), ("c", 10, Some(1))]);
    for order_id in ["o1", "o2", "o3"] {
        bench.allocate(order_id, 10).unwrap();
    }
    bench.told();
    bench.change_quantity("b", 0).unwrap();
    let told = bench.product.take_events();
    let lines: Vec<_> = told.iter().filter_map(|e| Some((e.name(), e.line()?.order_id.as_str()))).collect();
    assert_eq!(told[0].name(), "BatchQuantityChanged");
    assert_eq!(
        lines,
        [
            ("Deallocated", "o1"),
            ("Deallocated", "o2"),
            ("Deallocated", "o3"),
            ("Allocated", "o1"),
            ("Backordered", "o2"),
            ("Backordered", "o3"),
        ]
    );
}

#[test]
fn a_waiting_line_that_nothing_can_take_whole_is_passed_over() {
    let mut bench = Bench::with(&[("b", 15, None)]);
    bench.allocate("big", 10).unwrap();
    bench.allocate("small", 5).unwrap();
    bench.change_quantity("b", 0).unwrap();
    bench.change_quantity("b", 7).unwrap();
    assert_eq!(["big", "small"].map(|id| bench.where_is(id)), ["backordered", "b"]);
}

#[test]
fn newcomers_may_take_what_no_waiting_line_can() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("big", 10).unwrap();
    bench.change_quantity("b", 7).unwrap();
    assert_eq!(bench.allocate("new", 7).unwrap(), "b");
}

#[test]
fn units_that_a_cancelled_line_gives_back_go_to_whoever_waits() {
    let mut bench = Bench::with(&[("b", 20, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.allocate("o2", 10).unwrap();
    bench.change_quantity("b", 10).unwrap();
    assert_eq!(bench.where_is("o2"), "backordered");
    bench.deallocate("o1").unwrap();
    assert_eq!(bench.where_is("o2"), "b");
}

#[test]
fn cancelling_a_line_that_waits_frees_nothing() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.change_quantity("b", 0).unwrap();
    bench.told();
    bench.deallocate("o1").unwrap();
    assert_eq!(bench.told(), ["LineCancelled"]);
    assert_eq!(bench.product.backordered(), 0);
}

#[test]
fn an_eta_that_changes_moves_no_line() {
    let mut bench = Bench::with(&[("b", 10, Some(1)), ("c", 10, Some(2))]);
    bench.allocate("o1", 10).unwrap();
    bench.told();
    assert_eq!(bench.change_eta("b", Some(9)), Ok(Declared::Changed));
    assert_eq!(bench.told(), ["BatchEtaChanged"]);
    assert_eq!(bench.where_is("o1"), "b");
    assert_eq!(bench.change_eta("b", Some(9)), Ok(Declared::Same));
    assert_eq!(bench.allocate("o2", 10).unwrap(), "c", "new lines see the new order");
}

#[test]
fn what_has_arrived_is_not_expected_any_more() {
    let mut bench = Bench::with(&[("b", 10, Some(1))]);
    assert_eq!(bench.change_eta("b", None), Ok(Declared::Changed));
    assert_eq!(bench.product.available(), 10);
    assert!(matches!(bench.change_eta("b", Some(3)), Err(Rejection::EtaOnArrivedBatch { .. })));
    assert_eq!(bench.change_eta("b", None), Ok(Declared::Same));
}

#[test]
fn an_unknown_batch_cannot_change() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    assert!(matches!(bench.change_eta("x", None), Err(Rejection::UnknownBatch { .. })));
    assert!(matches!(bench.change_quantity("x", 1), Err(Rejection::UnknownBatch { .. })));
}

#[test]
fn a_cut_with_too_few_lines_at_hand_goes_as_far_as_they_allow() {
    let mut bench = Bench::with(&[("b", 30, None)]);
    for order_id in ["o1", "o2", "o3"] {
        bench.allocate(order_id, 10).unwrap();
    }
    bench.told();
    let (_, displaced) =
        bench.product.change_batch_quantity(&reference("b"), BatchQuantity::ZERO, &[key("o3")]).unwrap();
    assert_eq!(displaced.len(), 1);
    assert_eq!(bench.product.batch(&reference("b")).unwrap().quantity, stock(20));
    assert_eq!(bench.free("b"), 0);
    let told = bench.product.take_events();
    assert!(matches!(told[0], Event::BatchQuantityChanged { to, .. } if to == stock(20)));
    assert_eq!(bench.product.line(&key("o1")).unwrap().state, LineState::Allocated(reference("b")));
}

#[test]
fn the_revision_tells_declarations_apart_and_not_promises() {
    let mut bench = Bench::with(&[("b", 10, Some(1))]);
    let revision = |bench: &Bench| bench.product.batch(&reference("b")).unwrap().revision;
    let first = revision(&bench);
    bench.allocate("o1", 1).unwrap();
    assert_eq!(revision(&bench), first);
    bench.change_quantity("b", 11).unwrap();
    let second = revision(&bench);
    assert!(second > first);
    bench.change_eta("b", None).unwrap();
    assert!(revision(&bench) > second);
}

#[test]
fn a_shipment_is_ready_on_its_day_but_never_before_tomorrow() {
    let today = day(10);
    assert_eq!(arrival(None, today), today);
    assert_eq!(arrival(Some(day(12)), today), day(12));
    assert_eq!(arrival(Some(day(3)), today), day(11), "overdue");
    assert_eq!(arrival(Some(today), today), day(11));
}
