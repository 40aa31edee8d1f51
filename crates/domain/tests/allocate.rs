//! Promising: which batch serves which line.

mod common;

use allocation_domain::commands::Allocate;
use allocation_domain::product::{Cancelled, Decision};
use allocation_domain::{Conflict, Event, LineId, OrderId, Quantity, Rejection, Shortage, Sku};
use common::{Bench, SKU, key, line, reference};

#[test]
fn warehouse_stock_goes_before_shipments() {
    let mut bench = Bench::with(&[("shipment", 100, Some(1)), ("in-stock", 100, None)]);
    assert_eq!(bench.allocate("o1", 10).unwrap(), "in-stock");
    assert_eq!((bench.free("in-stock"), bench.free("shipment")), (90, 100));
}

#[test]
fn earlier_shipments_go_before_later_ones() {
    let mut bench = Bench::with(&[("latest", 100, Some(30)), ("earliest", 100, Some(0)), ("medium", 100, Some(1))]);
    assert_eq!(bench.allocate("o1", 10).unwrap(), "earliest");
}

#[test]
fn of_batches_that_come_on_the_same_day_the_first_by_reference_is_taken() {
    let mut bench = Bench::with(&[("b", 10, Some(1)), ("a", 10, Some(1)), ("d", 10, None), ("c", 10, None)]);
    assert_eq!(bench.allocate("o1", 10).unwrap(), "c");
    assert_eq!(bench.allocate("o2", 10).unwrap(), "d");
    assert_eq!(bench.allocate("o3", 10).unwrap(), "a");
    assert_eq!(bench.allocate("o4", 10).unwrap(), "b");
}

#[test]
fn a_line_goes_whole_to_the_first_batch_that_can_take_it() {
    let mut bench = Bench::with(&[("small", 5, None), ("large", 10, Some(3))]);
    assert_eq!(bench.allocate("o1", 6).unwrap(), "large");
    assert_eq!(bench.allocate("o2", 5).unwrap(), "small");
}

#[test]
fn a_batch_can_be_promised_to_the_last_unit_and_no_further() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    let short = bench.allocate("o2", 1).unwrap_err();
    assert_eq!(short, Shortage { sku: Sku::new(SKU).unwrap(), asked: 1, available: 0, largest: 0 });
}

#[test]
fn what_is_short_says_what_there_is() {
    let mut bench = Bench::with(&[("here", 4, None), ("coming", 6, Some(1))]);
    let short = bench.allocate("o1", 10).unwrap_err();
    assert_eq!((short.asked, short.available, short.largest), (10, 4, 6));
}

#[test]
fn a_promise_is_told_once_and_moves_the_version() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    let version = bench.product.version();
    bench.allocate("o1", 3).unwrap();
    assert_eq!(bench.product.version(), version + 1);
    let told = bench.product.take_events();
    assert_eq!(told, [Event::Allocated { line: key("o1"), qty: Quantity::new(3).unwrap(), reference: reference("b") }]);
}

#[test]
fn the_same_line_again_keeps_its_place_even_when_its_batch_is_full() {
    let mut bench = Bench::with(&[("b", 3, None), ("c", 3, Some(1))]);
    bench.allocate("o1", 3).unwrap();
    bench.told();
    assert_eq!(bench.allocate("o1", 3).unwrap(), "b");
    assert_eq!(bench.told(), [""; 0]);
    assert_eq!((bench.free("b"), bench.free("c")), (0, 3));
}

#[test]
fn another_quantity_is_a_conflict_and_never_a_second_promise() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 3).unwrap();
    let conflicts = bench.conflicts("o1", 4);
    assert!(matches!(&conflicts[..], [Conflict::OtherQuantity { accepted, .. }] if accepted.units() == 3));
}

#[test]
fn a_cancelled_line_stays_cancelled() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 3).unwrap();
    bench.deallocate("o1").unwrap();
    assert!(matches!(&bench.conflicts("o1", 3)[..], [Conflict::Cancelled { .. }]));
}

#[test]
fn cancelling_gives_the_units_back() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.told();
    assert_eq!(bench.deallocate("o1"), Ok(Cancelled::Now));
    assert_eq!(bench.told(), ["Deallocated", "LineCancelled"]);
    assert_eq!(bench.free("b"), 10);
    assert_eq!(bench.deallocate("o1"), Ok(Cancelled::Already));
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn what_was_never_ordered_cannot_be_cancelled() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    assert!(matches!(bench.deallocate("o1"), Err(Rejection::UnknownLine { .. })));
}

#[test]
fn out_of_stock_is_told_once_until_stock_comes_back() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.told();
    for order_id in ["o2", "o3", "o4"] {
        bench.allocate(order_id, 1).unwrap_err();
    }
    assert_eq!(bench.told(), ["OutOfStock"]);
    bench.deallocate("o1").unwrap();
    bench.allocate("o5", 10).unwrap();
    bench.told();
    bench.allocate("o6", 1).unwrap_err();
    assert_eq!(bench.told(), ["OutOfStock"]);
}

#[test]
fn a_plan_changes_nothing_and_counts_its_own_lines() {
    let bench = Bench::with(&[("b", 10, None), ("c", 4, Some(1))]);
    let before = bench.product.clone();
    let Decision::Accept(_) = bench.product.plan(&[line("o1", 6), line("o2", 4), line("o3", 4)]) else {
        panic!("it all fits")
    };
    let Decision::Short(short) = bench.product.plan(&[line("o1", 6), line("o2", 5), line("o3", 1)]) else {
        panic!("o2 fits nowhere once o1 has its place")
    };
    assert_eq!(short.asked, 12);
    assert_eq!(bench.product, before);
}

#[test]
fn lines_of_one_request_for_the_same_product_are_added_up() {
    let (order_id, sku) = (OrderId::new("o").unwrap(), Sku::new("A").unwrap());
    let (other, second) = (Sku::new("B").unwrap(), LineId::new("2").unwrap());
    let qty = |units| Quantity::new(units).unwrap();
    let lines = [
        (other.clone(), LineId::default(), qty(1)),
        (sku.clone(), LineId::default(), qty(2)),
        (sku.clone(), second.clone(), qty(7)),
        (sku.clone(), LineId::default(), qty(3)),
    ];
    let command = Allocate::new(order_id.clone(), lines).unwrap();
    let shown: Vec<_> = command.lines().iter().map(|l| (l.sku.as_str(), l.key.line.as_str(), l.qty.units())).collect();
    assert_eq!(shown, [("A", "1", 5), ("A", "2", 7), ("B", "1", 1)]);

    let too_much = [(sku.clone(), LineId::default(), qty(600_000_000)), (sku, LineId::default(), qty(600_000_000))];
    Allocate::new(order_id, too_much).unwrap_err();
}
