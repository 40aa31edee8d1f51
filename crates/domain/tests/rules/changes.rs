//! What callers change about a line: more of it, less of it, sooner, or before others.

use crate::common::{Bench, ask, day, units};
use allocation_domain::commands::{LineChange, WhenShort};
use allocation_domain::{Event, Rejection};

fn or_wait(change: LineChange) -> LineChange {
    LineChange { when_short: WhenShort::Backorder, ..change }
}

fn or_less(change: LineChange) -> LineChange {
    LineChange { when_short: WhenShort::Partial, ..change }
}

fn by(days: i64) -> LineChange {
    LineChange { by: Some(Some(day(days))), ..LineChange::default() }
}

#[test]
fn what_is_added_to_a_line_counts_as_new() {
    let mut bench = Bench::with(&[("b", 13, None)]);
    bench.allocate("o1", 5).unwrap();
    bench.allocate("o2", 5).unwrap();
    assert_eq!(bench.change("o1", units(8)).unwrap(), "8 in b");
    bench.recount("b", 9).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("5 in b, 3 wait", "4 in b, 1 wait"));
}

#[test]
fn growth_obeys_the_policy_of_the_change() {
    let started = || {
        let mut bench = Bench::with(&[("b", 6, None)]);
        bench.allocate("o1", 4).unwrap();
        bench
    };
    assert!(matches!(started().change("o1", units(9)), Err(Rejection::Short(_))));
    assert_eq!(started().change("o1", or_less(units(9))).unwrap(), "6 in b, 3 dropped");
    assert_eq!(started().change("o1", or_wait(units(9))).unwrap(), "6 in b, 3 wait");
}

#[test]
fn a_line_that_cannot_grow_at_all_is_refused_even_when_less_would_do() {
    let mut bench = Bench::with(&[("b", 4, None)]);
    bench.allocate("o1", 4).unwrap();
    assert!(matches!(bench.change("o1", or_less(units(9))), Err(Rejection::Short(_))));
}

#[test]
fn a_new_quantity_forgets_what_was_dropped() {
    let mut bench = Bench::with(&[("b", 6, None)]);
    assert_eq!(bench.ask("o1", ask(10).or_less()).unwrap(), "6 in b, 4 dropped");
    assert_eq!(bench.change("o1", units(6)).unwrap(), "6 in b");
    assert_eq!(bench.line("o1").requested.units(), 6);
}

#[test]
fn the_quantity_asked_for_before_asks_again_for_what_was_dropped() {
    let mut bench = Bench::with(&[("b", 6, None)]);
    bench.ask("o1", ask(10).or_less()).unwrap();
    bench.create("c", 4, Some(1)).unwrap();
    assert_eq!(bench.at("o1"), "6 in b, 4 dropped", "it never grows by itself");
    assert_eq!(bench.change("o1", units(10)).unwrap(), "6 in b, 4 in c");
}

#[test]
fn a_change_to_what_is_so_already_is_no_news() {
    let mut bench = Bench::with(&[("b", 6, None)]);
    bench.ask("o1", ask(4).priority(1).by(3)).unwrap();
    bench.told();
    bench.change("o1", LineChange { priority: Some(1), ..by(3) }).unwrap();
    bench.change("o1", units(4)).unwrap();
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn a_line_that_may_not_be_split_grows_where_it_is_else_moves_whole() {
    let mut bench = Bench::with(&[("b", 6, None), ("c", 20, Some(1))]);
    bench.ask("o1", ask(4).whole()).unwrap();
    assert_eq!(bench.change("o1", units(6)).unwrap(), "6 in b");
    assert_eq!(bench.change("o1", units(7)).unwrap(), "7 in c");
    assert!(matches!(bench.change("o1", or_wait(units(21))), Err(Rejection::Short(_))));
}

#[test]
fn a_line_that_moves_whole_for_later_leaves_todays_stock_to_todays_orders() {
    let mut bench = Bench::with(&[("soon", 4, Some(3)), ("here", 10, None), ("mid", 10, Some(2))]);
    bench.ask("o1", ask(4).whole().not_before(4)).unwrap();
    assert_eq!(bench.change("o1", units(9)).unwrap(), "9 in mid");
}

#[test]
fn a_line_that_may_not_be_split_stays_one_placement_however_it_grew() {
    let mut bench = Bench::with(&[("b", 12, None)]);
    bench.ask("o1", ask(5)).unwrap();
    bench.ask("o2", ask(5).whole()).unwrap();
    bench.change("o2", units(7)).unwrap();
    bench.recount("b", 11).unwrap();
    assert_eq!(bench.at("o2"), "7 wait", "the whole placement is lost");
    bench.create("c", 6, None).unwrap();
    assert_eq!(bench.at("o2"), "7 wait");
    bench.create("d", 7, None).unwrap();
    assert_eq!(bench.at("o2"), "7 in d");
}

#[test]
fn a_whole_line_that_was_asked_anew_keeps_the_seniority_it_has_by_then_when_it_moves() {
    let mut bench = Bench::with(&[("b", 4, None)]);
    bench.ask("o1", ask(4).whole().held(1)).unwrap();
    bench.wait(time::Duration::seconds(1));
    bench.create("c", 20, Some(1)).unwrap();
    bench.ask("o2", ask(10).by(5).whole()).unwrap();
    bench.ask("o1", ask(4).whole()).unwrap();
    assert_eq!(bench.change("o1", units(5)).unwrap(), "5 in c");
    bench.recount("c", 14).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("5 wait", "10 in c"));
}

#[test]
fn a_line_that_waits_whole_grows_only_when_it_may_wait() {
    let mut bench = Bench::with(&[("b", 4, None)]);
    bench.ask("o1", ask(5).whole().or_wait()).unwrap();
    assert!(matches!(bench.change("o1", units(6)), Err(Rejection::Short(_))));
    assert!(matches!(bench.change("o1", or_less(units(6))), Err(Rejection::Short(_))));
    assert_eq!(bench.change("o1", or_wait(units(6))).unwrap(), "6 wait");
    assert_eq!(bench.line("o1").queued, 6);
}

#[test]
fn a_smaller_line_that_waits_may_fit_at_once() {
    let mut bench = Bench::with(&[("b", 4, None)]);
    bench.ask("o1", ask(5).whole().or_wait()).unwrap();
    assert_eq!(bench.change("o1", units(4)).unwrap(), "4 in b");
}

#[test]
fn a_line_that_is_wanted_sooner_leaves_what_comes_too_late() {
    let mut bench = Bench::with(&[("late", 10, Some(9)), ("soon", 6, Some(3))]);
    bench.ask("o1", ask(6).not_before(9)).unwrap();
    bench.ask("o2", ask(4)).unwrap();
    assert_eq!(bench.at("o2"), "4 in soon");
    bench.told();
    bench.ask("o3", ask(4).whole()).unwrap();
    assert_eq!(bench.at("o3"), "4 in late");
    assert!(matches!(bench.change("o3", by(5)), Err(Rejection::Short(_))));
    bench.cancel("o2").unwrap();
    bench.told();
    assert_eq!(bench.change("o3", by(5)).unwrap(), "4 in soon");
    assert_eq!(bench.told(), ["LineChanged", "Deallocated", "Allocated"]);
}

#[test]
fn what_cannot_be_had_sooner_waits_when_it_may_and_does_not_count_as_new() {
    let mut bench = Bench::with(&[("late", 10, Some(9)), ("soon", 3, Some(3))]);
    bench.ask("o1", ask(10).whole()).unwrap();
    bench.ask("o2", ask(3)).unwrap();
    bench.cancel("o2").unwrap();
    assert_eq!(bench.change("o1", or_wait(by(5))).unwrap(), "10 wait");
    assert_eq!(bench.line("o1").queued, 0);
}

#[test]
fn a_line_keeps_what_it_has_before_it_gets_more() {
    let mut bench = Bench::with(&[("late", 6, Some(9))]);
    bench.allocate("o1", 6).unwrap();
    bench.create("soon", 8, Some(2)).unwrap();
    let sooner_and_more = LineChange { qty: units(9).qty, ..by(4) };
    assert_eq!(bench.change("o1", or_less(sooner_and_more)).unwrap(), "8 in soon, 1 dropped");
}

#[test]
fn nothing_is_promised_for_a_day_before_it_is_wanted() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    assert!(matches!(bench.ask("o1", ask(1).not_before(4).by(3)), Err(Rejection::Short(_))));
    bench.ask("o1", ask(1).not_before(4).by(4)).unwrap();
    assert!(matches!(bench.change("o1", by(3)), Err(Rejection::Short(_))));
}

#[test]
fn a_line_that_may_come_later_is_served_at_once() {
    let mut bench = Bench::with(&[("late", 10, Some(9))]);
    bench.ask("o1", ask(10).by(3).or_wait()).unwrap();
    let any_day = LineChange { by: Some(None), ..LineChange::default() };
    assert_eq!(bench.change("o1", any_day).unwrap(), "10 in late");
}

#[test]
fn a_line_that_became_more_urgent_is_served_first() {
    let mut bench = Bench::with(&[("b", 0, None)]);
    bench.ask("o1", ask(5).or_wait()).unwrap();
    bench.ask("o2", ask(5).or_wait()).unwrap();
    bench.change("o2", LineChange { priority: Some(1), ..LineChange::default() }).unwrap();
    bench.recount("b", 7).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("2 in b, 3 wait", "5 in b"));
}

#[test]
fn of_what_arrives_on_one_day_what_was_added_last_is_given_up_first() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 4).unwrap();
    bench.change("o1", units(7)).unwrap();
    bench.events();
    bench.change("o1", units(5)).unwrap();
    let accepted = bench.line("o1").parts[1].accepted;
    let gave_up = |event: &Event| matches!(event, Event::Deallocated { accepted: added, .. } if *added == accepted);
    assert!(bench.events().iter().any(gave_up));
}

#[test]
fn a_held_line_keeps_its_expiry_and_grows_only_into_places() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.ask("o1", ask(6).held(60)).unwrap();
    let until = bench.line("o1").hold;
    bench.change("o1", units(4)).unwrap();
    bench.told();
    bench.change("o1", units(10)).unwrap();
    assert_eq!(bench.told(), ["LineChanged", "Held"]);
    assert_eq!(bench.line("o1").hold, until);
    assert!(matches!(bench.change("o1", or_wait(units(11))), Err(Rejection::Short(_))));
}

#[test]
fn what_has_ended_cannot_change() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 1).unwrap();
    bench.cancel("o1").unwrap();
    assert!(matches!(bench.change("o1", units(2)), Err(Rejection::NotAllowed { state: "cancelled", .. })));
    assert!(matches!(bench.change("o2", units(2)), Err(Rejection::UnknownLine { .. })));
}
