//! The queue, and promises that move to earlier stock.

use crate::common::{Bench, ask};
use allocation_domain::{DeallocationReason, Event, Settings};
use allocation_model::Outcome;

fn improves() -> Settings {
    Settings { auto_improve: true, ..Settings::default() }
}

#[test]
fn who_waits_is_served_by_priority_and_then_by_age_also_in_part() {
    let mut bench = Bench::with(&[("b", 0, None)]);
    for (order_id, priority) in [("o1", 0), ("o2", 0), ("o3", 1)] {
        bench.ask(order_id, ask(5).priority(priority).or_wait()).unwrap();
    }
    bench.told();
    bench.recount("b", 12).unwrap();
    assert_eq!(["o3", "o1", "o2"].map(|id| bench.at(id)), ["5 in b", "5 in b", "2 in b, 3 wait"]);
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Allocated", "Allocated", "Allocated"]);
}

#[test]
fn who_waits_longer_than_a_page_of_others_is_served_all_the_same() {
    let mut bench = Bench::with(&[("b", 0, None)]);
    let orders: Vec<String> = (0..10).map(|n| format!("o{n}")).collect();
    for order_id in &orders {
        bench.ask(order_id, ask(2).or_wait()).unwrap();
    }
    bench.recount("b", 20).unwrap();
    assert!(orders.iter().all(|order_id| bench.at(order_id) == "2 in b"));
}

#[test]
fn who_may_take_nothing_is_passed_over() {
    let mut bench = Bench::with(&[("b", 0, None)]);
    bench.ask("whole", ask(5).whole().or_wait()).unwrap();
    bench.ask("in parts", ask(5).parts_of(4).or_wait()).unwrap();
    bench.ask("soon", ask(5).by(1).or_wait()).unwrap();
    bench.create("c", 3, Some(2)).unwrap();
    assert_eq!(["whole", "in parts", "soon"].map(|id| bench.at(id)), ["5 wait"; 3]);
    assert_eq!(bench.allocate("new", 3).unwrap(), "3 in c");
}

#[test]
fn a_batch_that_comes_sooner_serves_who_must_have_it_by_then() {
    let mut bench = Bench::with(&[("b", 5, Some(6))]);
    bench.ask("o1", ask(5).by(3).or_wait()).unwrap();
    bench.reschedule("b", Some(3)).unwrap();
    assert_eq!(bench.at("o1"), "5 in b");
}

#[test]
fn what_a_lost_place_left_waiting_has_a_place_before_what_has_waited_from_the_start() {
    let mut bench = Bench::with(&[("b", 4, None)]);
    bench.ask("o1", ask(6).or_wait()).unwrap();
    bench.recount("b", 1).unwrap();
    assert_eq!((bench.line("o1").backordered(), bench.line("o1").queued), (5, 2));
    bench.recount("b", 4).unwrap();
    assert_eq!((bench.line("o1").backordered(), bench.line("o1").queued), (2, 2));
    bench.recount("b", 5).unwrap();
    assert_eq!((bench.line("o1").backordered(), bench.line("o1").queued), (1, 1));
}

#[test]
fn a_cap_that_is_lowered_turns_nobody_away_who_waits() {
    let mut bench = Bench::with(&[("b", 0, None)]);
    bench.ask("o1", ask(5).or_wait()).unwrap();
    assert_eq!(bench.set(Settings { queue_cap: Some(0), ..Settings::default() }), Outcome::Changed);
    assert_eq!(bench.at("o1"), "5 wait");
    bench.ask("o2", ask(1).or_wait()).unwrap_err();
    bench.recount("b", 6).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.free("b")), ("5 in b", 1));
}

#[test]
fn no_promise_moves_by_itself_unless_the_product_is_to_improve() {
    let mut bench = Bench::with(&[("late", 10, Some(9))]);
    bench.allocate("o1", 6).unwrap();
    bench.create("here", 2, None).unwrap();
    assert_eq!(bench.at("o1"), "6 in late");
    bench.set(improves());
    assert_eq!(bench.at("o1"), "2 in here, 4 in late");
    bench.create("soon", 10, Some(3)).unwrap();
    assert_eq!(bench.at("o1"), "2 in here, 4 in soon");
}

#[test]
fn places_improve_by_seniority_and_those_who_wait_come_before_them() {
    let mut bench = Bench::with(&[("late", 10, Some(9))]);
    bench.allocate("o1", 6).unwrap();
    bench.ask("o2", ask(6).or_wait()).unwrap();
    bench.set(improves());
    bench.told();
    bench.create("here", 5, None).unwrap();
    assert_eq!(bench.at("o2"), "2 in here, 4 in late");
    assert_eq!(bench.at("o1"), "3 in here, 3 in late");
    assert_eq!(bench.told(), ["BatchCreated", "Allocated", "Deallocated", "Allocated"]);
}

#[test]
fn what_moves_to_earlier_stock_was_given_back_and_not_displaced() {
    let mut bench = Bench::with(&[("late", 10, Some(9))]);
    bench.allocate("o1", 6).unwrap();
    bench.create("here", 6, None).unwrap();
    bench.events();
    assert_eq!(bench.improve(), Outcome::Changed);
    let told = bench.events();
    assert!(matches!(told[0], Event::Deallocated { reason: DeallocationReason::Released, .. }));
    assert_eq!(told.iter().map(Event::name).collect::<Vec<_>>(), ["Deallocated", "Allocated", "PromiseChanged"]);
    assert_eq!(bench.improve(), Outcome::Same);
}

#[test]
fn a_line_that_is_wanted_later_does_not_move_to_what_is_ready_no_earlier() {
    let mut bench = Bench::with(&[("soon", 10, Some(3))]);
    bench.ask("o1", ask(6).not_before(5)).unwrap();
    bench.create("here", 10, None).unwrap();
    assert_eq!(bench.improve(), Outcome::Same);
}

#[test]
fn a_line_that_may_not_be_split_moves_whole() {
    let mut bench = Bench::with(&[("late", 10, Some(9))]);
    bench.ask("o1", ask(6).whole()).unwrap();
    bench.create("here", 5, None).unwrap();
    assert_eq!(bench.improve(), Outcome::Same);
    bench.create("soon", 6, Some(2)).unwrap();
    bench.improve();
    assert_eq!(bench.at("o1"), "6 in soon");
}

#[test]
fn no_unit_moves_twice_in_one_go() {
    let mut bench = Bench::with(&[("b", 3, Some(4)), ("a", 5, Some(9))]);
    assert_eq!(bench.allocate("o1", 8).unwrap(), "5 in a, 3 in b");
    bench.create("here", 4, None).unwrap();
    bench.recount("b", 8).unwrap();
    // Five go from `a` to `b`, and only the three that were there go on.
    bench.improve();
    assert_eq!(bench.at("o1"), "5 in b, 3 in here");
}
