//! Where stock lies: which location serves whom, what is kept there, when little is left, and what day it is there.

use std::collections::BTreeMap;

use crate::common::{Bench, ask, at, batch_ref, day, units};
use allocation_domain::commands::Rest;
use allocation_domain::{Event, Level, LowStock, Rejection, Settings, Strategy};
use allocation_model::Outcome;
use time::Duration;

/// So many units are never promised at these locations.
fn keep(levels: &[(&str, u64)]) -> Settings {
    let level = |safety_stock| Level { safety_stock, low_stock: None };
    let levels = levels.iter().map(|(name, units)| (at(name), level(*units))).collect();
    Settings { levels, ..Settings::default() }
}

/// At the usual location so few units are little, so many are enough again, and so many are never promised.
fn watch(threshold: u64, restocked: u64, safety_stock: u64) -> Settings {
    let low_stock = Some(LowStock { threshold, restocked });
    Settings { levels: BTreeMap::from([(at("default"), Level { safety_stock, low_stock })]), ..Settings::default() }
}

fn strategy(strategy: Strategy) -> Settings {
    Settings { strategy: Some(strategy), ..Settings::default() }
}

fn given_up_after(days: u16) -> Settings {
    Settings { overdue_days: Some(days), ..Settings::default() }
}

// ---- Which location (rules 4 and 6) ----

#[test]
fn parts_stay_at_one_location_unless_the_line_may_go_over_locations() {
    let stock = [("north", "b", 5, None), ("south", "c", 5, None)];
    assert_eq!(Bench::with_at(&stock).ask("o1", ask(8).or_wait()).unwrap(), "5 in b, 3 wait");
    assert_eq!(Bench::with_at(&stock).ask("o1", ask(8).over_locations()).unwrap(), "5 in b, 3 in c");
}

#[test]
fn a_line_in_parts_goes_where_all_of_it_is_ready_first() {
    let mut bench = Bench::with_at(&[("north", "a", 7, None), ("south", "b", 4, None), ("south", "c", 4, Some(2))]);
    assert_eq!(bench.ask("o1", ask(8)).unwrap(), "4 in b, 4 in c");
    bench.create_at("north", "d", 3, Some(3)).unwrap();
    assert_eq!(bench.ask("o2", ask(8)).unwrap(), "7 in a, 1 in d");
}

#[test]
fn what_no_location_has_whole_goes_where_most_of_it_is() {
    let mut bench = Bench::with_at(&[("north", "a", 4, None), ("south", "b", 3, Some(1)), ("south", "c", 3, Some(2))]);
    assert_eq!(bench.ask("o1", ask(9).or_wait()).unwrap(), "3 in b, 3 in c, 3 wait");
}

#[test]
fn a_preferred_location_breaks_a_tie_of_dates_and_no_more() {
    let stock = [("north", "a", 5, None), ("south", "b", 5, None), ("south", "c", 9, Some(1))];
    let asked = |units| ask(units).from(&["south", "north"]);
    assert_eq!(Bench::with_at(&stock).ask("o1", asked(5)).unwrap(), "5 in b");
    assert_eq!(Bench::with_at(&stock).ask("o1", asked(5).whole()).unwrap(), "5 in b");
    assert_eq!(Bench::with_at(&stock[..1]).ask("o1", asked(5)).unwrap(), "5 in a");
    assert_eq!(Bench::with_at(&[stock[0], stock[2]]).ask("o1", asked(5)).unwrap(), "5 in a");
    assert_eq!(Bench::with_at(&[stock[0], stock[2]]).ask("o1", asked(5).whole()).unwrap(), "5 in a");
}

#[test]
fn by_location_priority_the_preferred_location_serves_even_on_a_later_day() {
    for whole in [true, false] {
        let mut bench = Bench::with_at(&[("north", "a", 5, None), ("south", "b", 5, Some(3))]);
        bench.set(strategy(Strategy::LocationPriority));
        let asked = ask(5).from(&["south", "north"]);
        let asked = if whole { asked.whole() } else { asked };
        assert_eq!(bench.ask("o1", asked.clone()).unwrap(), "5 in b");
        assert_eq!(bench.ask("o2", asked).unwrap(), "5 in a");
    }
}

#[test]
fn by_location_priority_a_line_over_locations_goes_to_no_more_of_them_than_it_takes() {
    let mut bench = Bench::with_at(&[("west", "a", 4, None), ("south", "b", 4, Some(1)), ("north", "c", 4, Some(2))]);
    bench.set(strategy(Strategy::LocationPriority));
    let asked = |units| ask(units).from(&["north", "south", "west"]).over_locations();
    assert_eq!(bench.ask("o1", asked(6)).unwrap(), "2 in b, 4 in c");
    assert_eq!(bench.ask("o2", asked(6)).unwrap(), "4 in a, 2 in b");
}

#[test]
fn by_fewest_splits_a_location_that_takes_fewer_parts_serves_even_on_a_later_day() {
    let mut bench = Bench::with_at(&[("north", "a", 3, None), ("north", "b", 3, None), ("south", "c", 6, Some(2))]);
    assert_eq!(bench.ask("o1", ask(4)).unwrap(), "3 in a, 1 in b");
    bench.cancel("o1").unwrap();
    bench.set(strategy(Strategy::FewestSplits));
    assert_eq!(bench.ask("o2", ask(4)).unwrap(), "4 in c");
}

#[test]
fn a_line_that_accepts_no_location_with_stock_is_passed_over_by_newcomers() {
    let mut bench = Bench::with_at(&[("north", "a", 5, None)]);
    assert!(matches!(bench.ask("o1", ask(2).from(&["south"])), Err(Rejection::Short(_))));
    assert_eq!(bench.ask("o2", ask(2).from(&["south"]).or_wait()).unwrap(), "2 wait");
    assert_eq!(bench.ask("o3", ask(2).from(&["south", "north"])).unwrap(), "2 in a");
    bench.create_at("south", "b", 1, None).unwrap();
    assert_eq!(bench.at("o2"), "1 in b, 1 wait");
}

// ---- Bound to a location ----

#[test]
fn a_line_in_parts_is_given_more_only_where_the_rest_of_it_is() {
    let mut bench = Bench::with_at(&[("north", "a", 5, None)]);
    bench.ask("o1", ask(8).or_wait()).unwrap();
    bench.create_at("south", "b", 9, None).unwrap();
    assert_eq!(bench.at("o1"), "5 in a, 3 wait");
    assert!(matches!(bench.ask("o2", ask(20)), Err(Rejection::Short(_))));
    bench.create_at("north", "c", 9, Some(4)).unwrap();
    assert_eq!(bench.at("o1"), "5 in a, 3 in c");
    assert_eq!(bench.change("o1", units(9)).unwrap(), "5 in a, 4 in c");
    assert!(matches!(bench.change("o1", units(15)), Err(Rejection::Short(_))));
}

#[test]
fn what_has_left_binds_nothing_and_who_lost_all_places_may_go_elsewhere() {
    let mut bench = Bench::with_at(&[("north", "a", 5, None)]);
    bench.ask("o1", ask(8).or_wait()).unwrap();
    bench.create_at("south", "b", 9, None).unwrap();
    bench.ship("o1", 5).unwrap();
    assert_eq!(bench.at("o1"), "3 in b, 5 shipped");

    let mut bench = Bench::with_at(&[("north", "a", 5, None), ("south", "b", 9, None)]);
    bench.ask("o1", ask(5)).unwrap();
    bench.recount("a", 3).unwrap();
    assert_eq!(bench.at("o1"), "3 in a, 2 wait");
    bench.recount("a", 0).unwrap();
    assert_eq!(bench.at("o1"), "5 in b");
}

#[test]
fn all_that_a_hold_lost_looks_for_one_place_together() {
    let stock = [("north", "a", 6, None), ("south", "b", 4, None), ("west", "c", 4, None)];
    let mut bench = Bench::with_at(&stock);
    bench.ask("o1", ask(6).held(60)).unwrap();
    bench.recount("a", 0).unwrap();
    assert_eq!(bench.at("o1"), "6 lapsed");
    let mut bench = Bench::with_at(&stock);
    bench.ask("o1", ask(6).over_locations().held(60)).unwrap();
    bench.recount("a", 0).unwrap();
    assert_eq!(bench.at("o1"), "4 in b, 2 in c");
}

#[test]
fn promises_move_to_an_earlier_location_all_together_or_not_at_all() {
    let mut bench = Bench::with_at(&[("north", "a", 5, Some(4))]);
    bench.ask("o1", ask(5)).unwrap();
    bench.create_at("south", "b", 4, None).unwrap();
    bench.create_at("north", "c", 2, Some(2)).unwrap();
    assert_eq!(bench.improve(), Outcome::Changed);
    assert_eq!(bench.at("o1"), "3 in a, 2 in c");
    bench.recount("b", 5).unwrap();
    assert_eq!(bench.improve(), Outcome::Same);

    let mut bench = Bench::with_at(&[("north", "a", 5, Some(4))]);
    bench.ask("o1", ask(5)).unwrap();
    bench.create_at("south", "b", 5, None).unwrap();
    bench.improve();
    assert_eq!(bench.at("o1"), "5 in b");
}

#[test]
fn a_later_date_lets_a_line_go_to_another_location_if_all_of_it_goes() {
    let mut bench = Bench::with_at(&[("north", "a", 5, Some(1)), ("south", "b", 5, Some(2))]);
    bench.ask("o1", ask(3)).unwrap();
    bench.ask("o2", ask(2)).unwrap();
    bench.reschedule("a", Some(6)).unwrap();
    assert_eq!([bench.at("o1"), bench.at("o2")], ["3 in b", "2 in b"]);
}

#[test]
fn what_has_just_moved_binds_the_rest_to_its_location() {
    let mut bench = Bench::with_at(&[("south", "p", 1, Some(5)), ("south", "q", 2, Some(3))]);
    bench.ask("o1", ask(3)).unwrap();
    bench.create_at("north", "r", 2, None).unwrap();
    bench.recount("q", 3).unwrap();
    bench.improve();
    assert_eq!(bench.at("o1"), "3 in q");
}

#[test]
fn a_line_that_changed_places_to_another_location_moves_to_earlier_stock_only_there() {
    let mut bench = Bench::with_at(&[("south", "b", 3, None), ("north", "c", 1, Some(2))]);
    bench.ask("o1", ask(3)).unwrap();
    bench.ask("o2", ask(1)).unwrap();
    bench.ship_from("b", "o2", 1).unwrap();
    assert_eq!(bench.at("o1"), "2 in b, 1 in c");
    bench.create_at("south", "d", 1, None).unwrap();
    bench.improve();
    assert_eq!(bench.at("o1"), "2 in b, 1 in c");
    bench.create_at("north", "e", 1, None).unwrap();
    bench.improve();
    assert_eq!(bench.at("o1"), "2 in b, 1 in e");
}

// ---- Where a batch is ----

#[test]
fn a_batch_stays_where_it_is_whatever_is_declared() {
    let mut bench = Bench::with_at(&[("north", "a", 5, None), ("north", "gone", 5, Some(1))]);
    bench.cancel_batch("gone").unwrap();
    let elsewhere =
        |rejection| matches!(rejection, Err(Rejection::AtLocation { location, .. }) if location == at("north"));
    assert!(elsewhere(bench.declare_at(Some("south"), "a", 9)));
    assert!(elsewhere(bench.declare_at(Some("south"), "gone", 9)));
    assert!(matches!(bench.create_at("south", "a", 5, None), Err(Rejection::BatchExists { .. })));
    assert_eq!(bench.declare_at(Some("north"), "a", 9), Ok(Outcome::Changed));
    assert_eq!(bench.declare("a", 9), Ok(Outcome::Same));
    assert_eq!(bench.declare("new", 1), Ok(Outcome::New));
    assert_eq!(bench.batch("new").location, at("default"));
}

#[test]
fn the_rest_of_a_shipment_is_expected_where_the_shipment_is() {
    let mut bench = Bench::with_at(&[("north", "a", 5, Some(1))]);
    bench.receive("a", 2, Rest::Keep).unwrap();
    assert_eq!(bench.batch("a~2").location, at("north"));
}

// ---- Transfers ----

#[test]
fn free_units_are_sent_to_another_location_and_expected_there_as_a_batch() {
    let mut bench = Bench::new();
    bench.create_until("north", "a", 10, 20);
    bench.ask("o1", ask(4)).unwrap();
    bench.told();
    assert_eq!(bench.transfer("a", 3, "south", "t", 2), Ok(Outcome::New));
    let told = bench.events();
    assert!(
        matches!(&told[0], Event::Transferred { reference, to, .. } if (reference, to) == (&batch_ref("a"), &batch_ref("t")))
    );
    assert!(matches!(&told[1], Event::BatchCreated { eta: Some(eta), expires_on: Some(last), location, .. }
        if (*eta, *last, location) == (day(2), day(20), &at("south"))));
    assert_eq!((bench.stock("a"), bench.batch("a").declared.units(), bench.free("a")), ((7, 0), 10, 3));
    assert_eq!((bench.stock("t"), bench.batch("t").declared.units()), ((3, 0), 3));
    assert_eq!(bench.declare("a", 9), Ok(Outcome::Changed));
    assert_eq!(bench.stock("a"), (6, 0));
}

#[test]
fn units_that_are_sent_are_promised_for_when_they_come() {
    let mut bench = Bench::with_at(&[("north", "a", 10, None)]);
    bench.ask("o1", ask(2).from(&["south"]).or_wait()).unwrap();
    bench.transfer("a", 3, "south", "t", 2).unwrap();
    assert_eq!(bench.at("o1"), "2 in t");
    assert_eq!((bench.product().available(), bench.product().available_to_promise(day(2))), (7, 8));
}

#[test]
fn nothing_is_sent_that_is_not_free_or_has_not_arrived_or_is_there_already() {
    let mut bench = Bench::with_at(&[("north", "a", 5, None), ("north", "b", 5, Some(1)), ("north", "c", 5, Some(1))]);
    bench.cancel_batch("c").unwrap();
    bench.create_until("north", "old", 5, -1);
    bench.ask("o1", ask(3)).unwrap();
    assert!(matches!(bench.transfer("x", 9, "north", "a", 2), Err(Rejection::UnknownBatch { .. })));
    for (name, state) in [("b", "expected"), ("c", "cancelled"), ("old", "expired")] {
        let refused = bench.transfer(name, 9, "north", "a", 2);
        assert!(matches!(&refused, Err(Rejection::NotAllowed { state: is, .. }) if *is == state), "{refused:?}");
    }
    assert!(matches!(bench.transfer("a", 9, "north", "a", 2), Err(Rejection::AtLocation { .. })));
    assert!(matches!(bench.transfer("a", 3, "south", "a", 2), Err(Rejection::TooMany { most: 2, .. })));
    assert!(matches!(bench.transfer("a", 2, "south", "c", 2), Err(Rejection::BatchExists { .. })));
    assert_eq!(bench.transfer("a", 2, "south", "t", 2), Ok(Outcome::New));
}

#[test]
fn safety_stock_may_be_sent_elsewhere() {
    let mut bench = Bench::with_at(&[("north", "a", 5, None)]);
    bench.set(keep(&[("north", 5)]));
    assert_eq!(bench.transfer("a", 5, "south", "t", 2), Ok(Outcome::New));
}

// ---- Safety stock (rule 19) ----

#[test]
fn safety_stock_is_never_promised_and_kept_at_each_location() {
    let mut bench = Bench::with_at(&[("north", "a", 5, None), ("south", "b", 5, None)]);
    bench.set(keep(&[("north", 2), ("south", 9)]));
    assert_eq!((bench.available_at("north"), bench.available_at("south"), bench.product().available()), (3, 0, 3));
    assert_eq!(bench.ask("o1", ask(4).or_wait()).unwrap(), "3 in a, 1 wait");
    assert!(matches!(bench.ask("o2", ask(1)), Err(Rejection::Short(_))));
}

#[test]
fn incoming_stock_refills_the_safety_stock_first() {
    let mut bench = Bench::with(&[("a", 2, None)]);
    bench.set(keep(&[("default", 4)]));
    bench.ask("o1", ask(5).or_wait()).unwrap();
    bench.create("b", 5, Some(3)).unwrap();
    assert_eq!(bench.at("o1"), "3 in b, 2 wait");
    assert_eq!(bench.product().available_to_promise(day(3)), 0);
}

#[test]
fn raising_the_safety_stock_takes_no_place_and_lowering_it_serves_who_waits() {
    let mut bench = Bench::with(&[("a", 5, None)]);
    bench.ask("o1", ask(3)).unwrap();
    bench.set(keep(&[("default", 4)]));
    assert_eq!(bench.at("o1"), "3 in a");
    bench.ask("o2", ask(2).or_wait()).unwrap();
    assert_eq!(bench.at("o2"), "2 wait");
    bench.set(keep(&[("default", 1)]));
    assert_eq!(bench.at("o2"), "1 in a, 1 wait");
    bench.set(Settings::default());
    assert_eq!(bench.at("o2"), "2 in a");
}

#[test]
fn the_parts_of_a_line_leave_the_safety_stock_together() {
    let mut bench = Bench::with(&[("a", 3, None), ("b", 3, Some(1))]);
    bench.set(keep(&[("default", 2)]));
    assert_eq!(bench.ask("o1", ask(6).or_wait()).unwrap(), "1 in a, 3 in b, 2 wait");
}

#[test]
fn a_line_in_a_thousand_parts_is_found_though_safety_stock_is_kept_back_from_them() {
    let names: Vec<String> = (1..=1_000).map(|nth| format!("b{nth:04}")).collect();
    let stock: Vec<(&str, u64, Option<i64>)> =
        names.iter().zip(1..).map(|(name, day)| (name.as_str(), 2, Some(day))).collect();
    let mut bench = Bench::with(&stock);
    bench.set(keep(&[("default", 3)]));
    let line = bench.ask("o1", ask(1_500)).unwrap();
    // Of the second only one can be promised, which would make it a part more.
    assert!(line.starts_with("2 in b0003, 2 in b0004, ") && line.ends_with(", 2 in b0752"), "{line}");
    assert_eq!(line.split(", ").count(), 750);
}

#[test]
fn lines_of_one_request_leave_the_safety_stock_together() {
    let mut bench = Bench::with(&[("a", 6, None)]);
    bench.set(keep(&[("default", 2)]));
    bench.ask("o1", ask(3).whole()).unwrap();
    assert!(matches!(bench.ask("o2", ask(2).whole()), Err(Rejection::Short(_))));
    assert_eq!(bench.ask("o3", ask(2).whole().or_less()).unwrap(), "1 in a, 1 dropped");
}

#[test]
fn a_line_that_may_not_be_split_grows_in_its_batch_only_beyond_the_safety_stock() {
    let mut bench = Bench::with(&[("a", 6, None), ("b", 12, Some(3))]);
    bench.ask("o1", ask(3).whole()).unwrap();
    bench.set(keep(&[("default", 2)]));
    assert_eq!(bench.change("o1", units(4)).unwrap(), "4 in a");
    assert_eq!(bench.change("o1", units(5)).unwrap(), "5 in b");
}

#[test]
fn units_that_were_picked_instead_of_others_may_be_of_the_safety_stock() {
    let mut bench = Bench::with(&[("a", 3, None), ("b", 3, None)]);
    bench.ask("o1", ask(3)).unwrap();
    bench.set(keep(&[("default", 3)]));
    assert_eq!(bench.ship_from("b", "o1", 3).unwrap(), "3 shipped");
}

#[test]
fn on_a_new_day_late_batches_are_awaited_together_and_may_serve_who_waits() {
    let mut bench = Bench::with(&[("a", 10, Some(1)), ("b", 5, Some(2))]);
    bench.set(keep(&[("default", 5)]));
    assert_eq!(bench.ask("o1", ask(7).whole().or_wait()).unwrap(), "7 wait");
    bench.wait(Duration::days(2));
    assert_eq!(bench.at("o1"), "7 in a");
}

// ---- Thresholds (rule 19) ----

#[test]
fn little_stock_is_told_once_until_there_is_enough_again() {
    let mut bench = Bench::with(&[("a", 10, None)]);
    bench.set(watch(3, 6, 2));
    bench.told();
    bench.ask("o1", ask(4)).unwrap();
    assert_eq!(bench.told(), ["Allocated"]);
    bench.ask("o2", ask(1)).unwrap();
    let low = Event::LowStock { location: at("default"), available: 3, threshold: 3 };
    assert_eq!(bench.events().last(), Some(&low));
    // Neither less nor somewhat more is told.
    bench.ask("o3", ask(1)).unwrap();
    bench.cancel("o3").unwrap();
    bench.recount("a", 12).unwrap();
    bench.ask("o4", ask(2)).unwrap();
    assert!(!bench.told().contains(&"LowStock"));
    bench.cancel("o4").unwrap();
    bench.told();
    bench.cancel("o2").unwrap();
    let enough = Event::Restocked { location: at("default"), available: 6, threshold: 6 };
    assert_eq!(bench.events().last(), Some(&enough));
    bench.ask("o5", ask(3)).unwrap();
    assert_eq!(bench.told(), ["Allocated", "LowStock"]);
}

#[test]
fn levels_are_looked_at_when_everybody_has_what_he_may_have() {
    let mut bench = Bench::new();
    bench.set(watch(3, 6, 0));
    assert_eq!(bench.told(), ["ProductChanged", "LowStock"]);
    bench.ask("o1", ask(8).or_wait()).unwrap();
    bench.told();
    bench.create("a", 10, None).unwrap();
    assert_eq!(bench.told(), ["BatchCreated", "Allocated"]);
    bench.create("b", 10, Some(1)).unwrap();
    assert_eq!(bench.told(), ["BatchCreated"]);
    bench.create("c", 4, None).unwrap();
    assert_eq!(bench.told(), ["BatchCreated", "Restocked"]);
}

#[test]
fn a_hold_that_ends_restocks() {
    let mut bench = Bench::with(&[("a", 10, None)]);
    bench.set(watch(3, 6, 0));
    bench.ask("o1", ask(8).held(60)).unwrap();
    bench.told();
    bench.wait(Duration::minutes(2));
    assert_eq!(bench.told(), ["HoldExpired", "Restocked"]);
}

#[test]
fn what_is_watched_no_longer_is_forgotten_without_a_word() {
    let mut bench = Bench::with(&[("a", 2, None)]);
    bench.set(watch(3, 6, 0));
    assert_eq!(bench.told(), ["ProductChanged", "LowStock"]);
    bench.set(keep(&[("default", 0)]));
    assert_eq!(bench.told(), ["ProductChanged"]);
    assert!(bench.product().low().is_empty());
    bench.set(watch(3, 6, 0));
    assert_eq!(bench.told(), ["ProductChanged", "LowStock"]);
}

// ---- Overdue batches (rule 25) ----

#[test]
fn an_overdue_batch_counts_from_tomorrow_and_after_its_days_not_for_new_promises() {
    let mut bench = Bench::with(&[("a", 5, Some(0))]);
    bench.set(given_up_after(1));
    bench.ask("o1", ask(2)).unwrap();
    assert_eq!(bench.product().available_to_promise(day(1)), 3);
    bench.wait(Duration::days(1));
    assert_eq!((bench.product().available_to_promise(day(1)), bench.product().available_to_promise(day(2))), (0, 3));
    bench.ask("o2", ask(1)).unwrap();
    bench.wait(Duration::days(1));
    assert_eq!(bench.product().available_to_promise(day(9)), 0);
    assert!(matches!(bench.ask("o3", ask(1)), Err(Rejection::Short(_))));
    assert_eq!([bench.at("o1"), bench.at("o2")], ["2 in a", "1 in a"]);
}

#[test]
fn a_new_date_makes_an_overdue_batch_count_again() {
    let mut bench = Bench::with(&[("a", 5, Some(0))]);
    bench.set(given_up_after(0));
    bench.wait(Duration::days(1));
    assert_eq!(bench.ask("o1", ask(2).or_wait()).unwrap(), "2 wait");
    bench.reschedule("a", Some(1)).unwrap();
    assert_eq!(bench.at("o1"), "2 in a");
}

#[test]
fn nothing_happens_on_the_day_on_which_a_batch_is_overdue() {
    let mut bench = Bench::with(&[("a", 5, Some(0))]);
    bench.set(given_up_after(0));
    bench.ask("o1", ask(2)).unwrap();
    bench.told();
    bench.wait(Duration::days(3));
    assert_eq!(bench.told(), [""; 0]);
    bench.reschedule("a", None).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.product().available()), ("2 in a", 3));
}

#[test]
fn nobody_changes_places_into_a_batch_that_is_given_up() {
    let mut bench = Bench::with(&[("a", 2, None), ("late", 2, Some(0))]);
    bench.set(given_up_after(0));
    bench.ask("o1", ask(2)).unwrap();
    bench.ask("o2", ask(2)).unwrap();
    bench.wait(Duration::days(1));
    assert!(matches!(bench.ship_from("a", "o2", 2), Err(Rejection::TooMany { .. })));
    assert_eq!(bench.at("o1"), "2 in a");
}

// ---- What day it is there ----

#[test]
fn a_batch_in_auckland_expires_when_its_day_is_over_there() {
    let mut bench = Bench::new();
    bench.clocks("auckland", 13);
    bench.create_until("auckland", "a", 5, 0);
    bench.create_until("default", "b", 5, 0);
    bench.ask("o1", ask(2).from(&["auckland"])).unwrap();
    assert_eq!(bench.product().available(), 8);
    // Eleven in the morning here, midnight there.
    bench.wait(Duration::hours(3));
    assert!(bench.batch("a").expired && !bench.batch("b").expired);
    assert_eq!((bench.at("o1").as_str(), bench.product().available()), ("2 wait", 5));
    bench.wait(Duration::hours(13));
    assert!(bench.batch("b").expired);
}

#[test]
fn a_batch_in_honolulu_is_overdue_when_it_is_so_there() {
    let mut bench = Bench::new();
    bench.clocks("honolulu", -10);
    bench.create_at("honolulu", "a", 5, Some(0)).unwrap();
    bench.set(given_up_after(0));
    bench.wait(Duration::hours(16));
    assert_eq!(bench.ask("o1", ask(1)).unwrap(), "1 in a");
    bench.wait(Duration::hours(10));
    assert!(matches!(bench.ask("o2", ask(1)), Err(Rejection::Short(_))));
}

#[test]
fn what_lies_where_it_is_tomorrow_is_ready_tomorrow() {
    let mut bench = Bench::new();
    bench.clocks("auckland", 13);
    bench.create_at("auckland", "a", 5, None).unwrap();
    bench.create("b", 5, None).unwrap();
    bench.wait(Duration::hours(4));
    assert!(matches!(bench.ask("o1", ask(1).by(0).from(&["auckland"])), Err(Rejection::Short(_))));
    assert_eq!(bench.ask("o2", ask(1).from(&["auckland", "default"])).unwrap(), "1 in b");
    assert_eq!((bench.product().available_to_promise(day(0)), bench.product().available_to_promise(day(1))), (4, 9));
    assert_eq!(bench.product().available(), 9);
}

#[test]
fn nothing_is_earlier_than_what_is_on_hand_though_it_be_tomorrow_there() {
    let mut bench = Bench::new();
    bench.clocks("auckland", 13);
    bench.create_at("auckland", "a", 5, None).unwrap();
    bench.ask("o1", ask(2)).unwrap();
    bench.create("b", 5, None).unwrap();
    bench.wait(Duration::hours(4));
    assert_eq!(bench.improve(), Outcome::Same);
    assert_eq!(bench.at("o1"), "2 in a");
}
