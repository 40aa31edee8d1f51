//! Promising: which batch serves which line.

use crate::common::{Ask, Bench, ask, batch_ref, key, qty};
use allocation_domain::commands::{Allocate, WhenShort};
use allocation_domain::product::Decision;
use allocation_domain::{Conflict, Event, LineId, OrderId, OrderLine, Quantity, Rejection, Sku, Terms};
use allocation_model::Outcome;

#[test]
fn warehouse_stock_goes_before_shipments() {
    let mut bench = Bench::with(&[("shipment", 100, Some(1)), ("in-stock", 100, None)]);
    assert_eq!(bench.allocate("o1", 10).unwrap(), "10 in in-stock");
    assert_eq!((bench.free("in-stock"), bench.free("shipment")), (90, 100));
}

#[test]
fn earlier_shipments_go_before_later_ones() {
    let mut bench = Bench::with(&[("latest", 100, Some(30)), ("earliest", 100, Some(0)), ("medium", 100, Some(1))]);
    assert_eq!(bench.allocate("o1", 10).unwrap(), "10 in earliest");
}

#[test]
fn of_batches_that_come_on_the_same_day_the_first_by_reference_is_taken() {
    let mut bench = Bench::with(&[("b", 10, Some(1)), ("a", 10, Some(1)), ("d", 10, None), ("c", 10, None)]);
    assert_eq!(bench.allocate("o1", 10).unwrap(), "10 in c");
    assert_eq!(bench.allocate("o2", 10).unwrap(), "10 in d");
    assert_eq!(bench.allocate("o3", 10).unwrap(), "10 in a");
    assert_eq!(bench.allocate("o4", 10).unwrap(), "10 in b");
}

#[test]
fn a_line_that_may_not_be_split_goes_whole_to_the_first_batch_that_can_take_it() {
    let mut bench = Bench::with(&[("small", 5, None), ("large", 10, Some(3))]);
    assert_eq!(bench.ask("o1", ask(6).whole()).unwrap(), "6 in large");
    assert_eq!(bench.ask("o2", ask(5).whole()).unwrap(), "5 in small");
}

#[test]
fn a_line_is_split_over_the_batches_that_make_it_ready_on_the_earliest_day() {
    let mut bench = Bench::with(&[("a", 5, None), ("b", 4, Some(2)), ("c", 50, Some(9))]);
    assert_eq!(bench.ask("o1", ask(8)).unwrap(), "5 in a, 3 in b");
    assert_eq!(bench.ask("o2", ask(8)).unwrap(), "8 in c");
}

#[test]
fn for_the_earliest_day_one_batch_is_preferred_and_else_the_fewest() {
    let mut bench = Bench::with(&[("a", 2, None), ("b", 3, None), ("c", 6, None), ("d", 7, None)]);
    assert_eq!(bench.ask("o1", ask(7)).unwrap(), "7 in d");
    assert_eq!(bench.ask("o2", ask(8)).unwrap(), "2 in a, 6 in c");
}

#[test]
fn no_part_but_the_remainder_is_smaller_than_asked() {
    let mut bench = Bench::with(&[("a", 2, None), ("b", 5, None), ("c", 9, Some(4))]);
    assert_eq!(bench.ask("o1", ask(6).parts_of(3)).unwrap(), "1 in a, 5 in b");
    assert_eq!(bench.ask("o2", ask(9).parts_of(3)).unwrap(), "9 in c");
}

#[test]
fn the_remainder_may_come_from_a_batch_that_is_too_small_for_any_other_part() {
    let mut bench = Bench::with(&[("a", 4, None), ("b", 10, None), ("c", 10, None)]);
    assert_eq!(bench.ask("o1", ask(14).parts_of(5)).unwrap(), "4 in a, 10 in b");
    assert_eq!(bench.ask("o2", ask(20).parts_of(5).or_wait()).unwrap(), "10 in c, 10 wait");
}

#[test]
fn a_line_that_is_wanted_later_leaves_todays_stock_to_todays_orders() {
    let mut bench = Bench::with(&[("here", 10, None), ("soon", 10, Some(3)), ("late", 10, Some(9))]);
    assert_eq!(bench.ask("o1", ask(10).not_before(5)).unwrap(), "10 in soon");
    assert_eq!(bench.ask("o2", ask(10).not_before(5)).unwrap(), "10 in here");
}

#[test]
fn a_line_is_promised_by_its_day_or_not_at_all() {
    let mut bench = Bench::with(&[("late", 10, Some(9))]);
    assert!(matches!(bench.ask("o1", ask(1).by(8)), Err(Rejection::Short(_))));
    assert_eq!(bench.ask("o1", ask(1).by(9)).unwrap(), "1 in late");
}

#[test]
fn when_there_is_not_enough_the_policy_decides() {
    let policies: [fn(Ask) -> Ask; 2] = [Ask::or_less, Ask::or_wait];
    let told = ["6 in b, 4 dropped", "6 in b, 4 wait"];
    for (policy, told) in policies.into_iter().zip(told) {
        let mut bench = Bench::with(&[("b", 6, None)]);
        assert!(matches!(bench.ask("o1", ask(10)), Err(Rejection::Short(_))));
        assert_eq!(bench.ask("o1", policy(ask(10))).unwrap(), told);
    }
}

#[test]
fn a_batch_can_be_promised_to_the_last_unit_and_no_further() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    let Err(Rejection::Short(short)) = bench.allocate("o2", 1) else { panic!("nothing is left") };
    assert_eq!((short[0].asked, short[0].available, short[0].promisable), (1, 0, 0));
}

#[test]
fn what_is_short_says_what_there_is() {
    let mut bench = Bench::with(&[("here", 4, None), ("coming", 5, Some(1))]);
    let Err(Rejection::Short(short)) = bench.allocate("o1", 10) else { panic!("one is missing") };
    assert_eq!((short[0].asked, short[0].available, short[0].promisable), (10, 4, 9));
}

#[test]
fn a_plain_promise_is_told_once_and_moves_the_version() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    let version = bench.product().version();
    bench.allocate("o1", 3).unwrap();
    let accepted = version + 1;
    assert_eq!(bench.product().version(), accepted);
    let (line, reference) = (key("o1"), batch_ref("b"));
    assert_eq!(bench.events(), [Event::Allocated { line, accepted, qty: qty(3), reference, split: true, held: false }]);
}

#[test]
fn the_same_line_again_keeps_its_place_even_when_its_batch_is_full() {
    let mut bench = Bench::with(&[("b", 3, None), ("c", 3, Some(1))]);
    bench.allocate("o1", 3).unwrap();
    bench.told();
    assert_eq!(bench.allocate("o1", 3).unwrap(), "3 in b");
    assert_eq!(bench.told(), [""; 0]);
    assert_eq!((bench.free("b"), bench.free("c")), (0, 3));
}

#[test]
fn another_quantity_is_a_conflict_and_never_a_second_promise() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 3).unwrap();
    let Err(Rejection::LineConflict(found)) = bench.allocate("o1", 4) else { panic!("it is another quantity") };
    assert!(matches!(&found[..], [Conflict::OtherQuantity { accepted, .. }] if accepted.units() == 3));
}

#[test]
fn a_cancelled_line_stays_cancelled() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 3).unwrap();
    bench.cancel("o1").unwrap();
    let Err(Rejection::LineConflict(found)) = bench.allocate("o1", 3) else { panic!("it is cancelled") };
    assert!(matches!(&found[..], [Conflict::Cancelled { .. }]));
}

#[test]
fn cancelling_gives_the_units_back() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.told();
    assert_eq!(bench.cancel("o1"), Ok(Outcome::Changed));
    assert_eq!(bench.told(), ["Deallocated", "LineCancelled"]);
    assert_eq!(bench.free("b"), 10);
    bench.cancel("o1").unwrap();
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn what_was_never_ordered_cannot_be_cancelled() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.cancel("o1").unwrap_err();
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
    bench.cancel("o1").unwrap();
    bench.allocate("o5", 10).unwrap();
    bench.told();
    bench.allocate("o6", 1).unwrap_err();
    assert_eq!(bench.told(), ["OutOfStock"]);
}

#[test]
fn a_plan_changes_nothing_and_counts_its_own_lines() {
    let bench = Bench::with(&[("b", 10, None), ("c", 4, Some(1))]);
    let product = bench.product();
    let line = |order_id: &str, units| OrderLine {
        terms: Terms::whole(),
        ..OrderLine::new(OrderId::new(order_id).unwrap(), product.sku().clone(), qty(units))
    };
    let plan = |lines: &[OrderLine]| product.plan(lines, WhenShort::Reject, None);
    let Decision::Accept(_) = plan(&[line("o1", 6), line("o2", 4), line("o3", 4)]) else { panic!("it all fits") };
    let Decision::Short(short) = plan(&[line("o1", 6), line("o2", 5), line("o3", 1)]) else {
        panic!("o2 fits nowhere once o1 has its place")
    };
    assert_eq!(short.asked, 12);
    assert_eq!(bench.product(), product);
}

#[test]
fn lines_of_one_request_for_the_same_product_are_added_up() {
    let (order_id, sku) = (OrderId::new("o").unwrap(), Sku::new("A").unwrap());
    let (other, second) = (Sku::new("B").unwrap(), LineId::new("2").unwrap());
    let qty = |units| Quantity::new(units).unwrap();
    let usual = Terms::default;
    let lines = [
        (other.clone(), LineId::default(), qty(1), usual()),
        (sku.clone(), LineId::default(), qty(2), usual()),
        (sku.clone(), second.clone(), qty(7), usual()),
        (sku.clone(), LineId::default(), qty(3), usual()),
    ];
    let command = Allocate::new(order_id.clone(), lines).unwrap();
    let shown: Vec<_> = command.lines().iter().map(|l| (l.sku.as_str(), l.key.line.as_str(), l.qty.units())).collect();
    assert_eq!(shown, [("A", "1", 5), ("A", "2", 7), ("B", "1", 1)]);

    let half = (sku.clone(), LineId::default(), qty(600_000_000), usual());
    Allocate::new(order_id.clone(), [half.clone(), half.clone()]).unwrap_err();
    let other_terms = (sku, LineId::default(), qty(1), Terms::whole());
    Allocate::new(order_id, [half, other_terms]).unwrap_err();
}
