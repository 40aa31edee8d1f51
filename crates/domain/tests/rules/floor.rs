//! The warehouse floor: units are picked, leave, come back, are set aside and counted.

use crate::common::{Bench, ask, qty, stock, units};
use allocation_domain::commands::{Adjustment, LineChange, ReturnTo, WhenShort};
use allocation_domain::{Event, Rejection, Shipped};
use allocation_model::Outcome;
use time::Duration;

// ---- Picking ----

#[test]
fn only_what_lies_in_the_warehouse_is_picked_and_again_is_no_news() {
    let mut bench = Bench::with(&[("here", 4, None), ("soon", 4, Some(1))]);
    bench.ask("o1", ask(6)).unwrap();
    bench.told();
    assert_eq!(bench.pick("o1"), Ok(Outcome::Changed));
    assert_eq!(bench.at("o1"), "4 in here (4 locked), 2 in soon");
    assert_eq!(bench.pick("o1"), Ok(Outcome::Same));
    assert_eq!(bench.unpick("o1"), Ok(Outcome::Changed));
    assert_eq!(bench.unpick("o1"), Ok(Outcome::Same));
    assert_eq!(bench.told(), ["Locked", "Unlocked"]);
}

#[test]
fn nothing_is_picked_that_is_held_has_not_arrived_or_has_ended() {
    let mut bench = Bench::with(&[("here", 4, None), ("soon", 9, Some(1))]);
    bench.ask("held", ask(4).held(60)).unwrap();
    bench.ask("later", ask(4)).unwrap();
    bench.ask("over", ask(4)).unwrap();
    bench.cancel("over").unwrap();
    bench.told();
    assert!(matches!(bench.pick("held"), Err(Rejection::NotAllowed { state: "held", .. })));
    assert!(matches!(bench.pick("later"), Err(Rejection::NotOnHand(_))));
    assert!(matches!(bench.pick("over"), Err(Rejection::NotAllowed { state: "cancelled", .. })));
    assert!(matches!(bench.pick("none"), Err(Rejection::UnknownOrder(_))));
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn who_is_being_picked_loses_the_place_last() {
    let mut bench = Bench::with(&[("b", 20, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.allocate("o2", 10).unwrap();
    bench.pick("o2").unwrap();
    bench.recount("b", 8).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("10 wait", "8 in b (8 locked), 2 wait"));
    bench.recount("b", 9).unwrap();
    assert_eq!(bench.at("o1"), "1 in b, 9 wait", "the first in the queue, and nobody picks it yet");
}

#[test]
fn a_whole_line_of_which_some_is_being_picked_is_lost_as_one() {
    let mut bench = Bench::with(&[("b", 12, None)]);
    bench.ask("o1", ask(3).whole()).unwrap();
    bench.ask("o2", ask(4)).unwrap();
    bench.pick("o1").unwrap();
    bench.change("o1", units(6)).unwrap();
    assert_eq!(bench.at("o1"), "6 in b (3 locked)");
    bench.recount("b", 3).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("6 wait", "3 in b, 1 wait"));
}

// ---- Shipping ----

#[test]
fn what_leaves_is_gone_from_its_batch_and_stays_with_its_line() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 6).unwrap();
    bench.told();
    assert_eq!(bench.ship("o1", 4).unwrap(), "2 in b, 4 shipped");
    assert_eq!((bench.stock("b"), bench.free("b"), bench.state("o1")), ((6, 0), 4, "allocated"));
    assert_eq!(bench.ship_all("o1").unwrap(), "6 shipped");
    assert_eq!((bench.stock("b"), bench.free("b"), bench.state("o1")), ((4, 0), 4, "shipped"));
    assert_eq!(bench.told(), ["Shipped", "Shipped"]);
    assert_eq!(bench.batch("b").declared, stock(10));
    assert_eq!(bench.ask("o1", ask(6)).unwrap(), "6 shipped", "asked for again");
}

#[test]
fn what_is_being_picked_leaves_before_what_is_not() {
    let mut bench = Bench::with(&[("a", 3, Some(1)), ("z", 3, None)]);
    bench.ask("o1", ask(6)).unwrap();
    bench.pick("o1").unwrap();
    bench.reschedule("a", None).unwrap();
    assert_eq!(bench.ship("o1", 2).unwrap(), "3 in a, 1 in z (1 locked), 2 shipped");
    assert_eq!(bench.ship("o1", 2).unwrap(), "2 in a, 4 shipped");
}

#[test]
fn nothing_leaves_that_has_not_arrived_is_held_or_is_not_there() {
    let mut bench = Bench::with(&[("here", 4, None), ("soon", 3, Some(1)), ("late", 9, Some(2))]);
    bench.ask("o1", ask(6)).unwrap();
    bench.ask("o2", ask(6)).unwrap();
    bench.ask("held", ask(1).held(60)).unwrap();
    bench.told();
    assert_eq!(bench.at("o1"), "4 in here, 2 in soon");
    for refused in [bench.ship_all("o1"), bench.ship("o1", 5), bench.ship_from("soon", "o1", 1), bench.ship("o2", 1)] {
        assert!(matches!(refused, Err(Rejection::NotOnHand(_))), "{refused:?}");
    }
    assert!(matches!(bench.ship("o1", 7), Err(Rejection::TooMany { asked: 7, most: 6, .. })));
    assert!(matches!(bench.ship_all("held"), Err(Rejection::NotAllowed { state: "held", .. })));
    assert!(matches!(bench.ship_from("none", "o1", 1), Err(Rejection::UnknownBatch { .. })));
    assert!(matches!(bench.ship_all("none"), Err(Rejection::UnknownOrder(_))));
    assert_eq!(bench.told(), [""; 0]);
    bench.ship("o1", 4).unwrap();
    assert_eq!(bench.at("o1"), "2 in soon, 4 shipped");
}

#[test]
fn what_waits_goes_on_waiting_when_the_rest_has_left() {
    let mut bench = Bench::with(&[("b", 4, None)]);
    bench.ask("o1", ask(6).or_wait()).unwrap();
    assert_eq!(bench.ship_all("o1").unwrap(), "2 wait, 4 shipped");
    assert_eq!(bench.state("o1"), "backordered");
    assert!(matches!(bench.ship_all("o1"), Err(Rejection::NotAllowed { .. })));
    bench.recount("b", 6).unwrap();
    assert_eq!(bench.ship_all("o1").unwrap(), "6 shipped");
}

#[test]
fn picked_from_another_batch_it_takes_free_units_and_gives_up_the_latest_of_its_own() {
    let mut bench = Bench::with(&[("a", 2, None), ("soon", 2, Some(2)), ("late", 2, Some(9))]);
    bench.allocate("o1", 6).unwrap();
    bench.create("found", 4, None).unwrap();
    bench.told();
    assert_eq!(bench.ship_from("found", "o1", 3).unwrap(), "2 in a, 1 in soon, 3 shipped");
    assert_eq!(["soon", "late", "found"].map(|name| bench.free(name)), [1, 2, 1]);
    let told = ["Deallocated", "Deallocated", "Allocated", "Allocated", "Shipped", "PromiseChanged"];
    assert_eq!(bench.told(), told);
}

#[test]
fn picked_from_another_batch_without_free_units_it_changes_places_with_the_least_senior() {
    let mut bench = Bench::with(&[("b", 10, None), ("c", 9, Some(3))]);
    bench.allocate("o1", 5).unwrap();
    bench.allocate("o2", 5).unwrap();
    bench.allocate("o3", 4).unwrap();
    bench.told();
    assert_eq!(bench.ship_from("b", "o3", 3).unwrap(), "1 in c, 3 shipped");
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("5 in b", "2 in b, 3 in c"));
    let told = ["Deallocated", "Deallocated", "Allocated", "Allocated", "Shipped", "PromiseChanged"];
    assert_eq!(bench.told(), told);
    bench.pick("o2").unwrap();
    assert_eq!(bench.ship_from("b", "o3", 1).unwrap(), "4 shipped");
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("4 in b, 1 in c", "2 in b (2 locked), 3 in c"));
}

#[test]
fn those_who_change_places_keep_their_seniority() {
    let mut bench = Bench::with(&[("b", 4, None), ("c", 9, Some(3))]);
    bench.allocate("o1", 4).unwrap();
    bench.allocate("o2", 3).unwrap();
    bench.allocate("o3", 4).unwrap();
    bench.ship_from("b", "o3", 4).unwrap();
    assert_eq!(bench.at("o1"), "4 in c");
    bench.recount("c", 5).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("4 in c", "1 in c, 2 wait"));
}

#[test]
fn nobody_changes_places_who_is_being_picked_or_would_be_late() {
    let mut bench = Bench::with(&[("b", 8, None), ("c", 4, Some(5))]);
    bench.allocate("picked", 4).unwrap();
    bench.ask("urgent", ask(4).by(4)).unwrap();
    bench.allocate("o1", 4).unwrap();
    bench.pick("picked").unwrap();
    bench.told();
    assert!(matches!(bench.ship_from("b", "o1", 1), Err(Rejection::TooMany { asked: 1, most: 0, .. })));
    assert_eq!(bench.told(), [""; 0]);
    bench.unpick("picked").unwrap();
    assert_eq!(bench.ship_from("b", "o1", 1).unwrap(), "3 in c, 1 shipped");
    assert_eq!((bench.at("picked").as_str(), bench.at("urgent").as_str()), ("3 in b, 1 in c", "4 in b"));
}

#[test]
fn who_may_not_be_split_changes_places_whole_or_not_at_all() {
    let mut bench = Bench::with(&[("b", 4, None), ("c", 6, None)]);
    bench.ask("whole", ask(4).whole()).unwrap();
    bench.allocate("o1", 6).unwrap();
    assert!(matches!(bench.ship_from("b", "o1", 3), Err(Rejection::TooMany { most: 0, .. })));
    bench.recount("c", 7).unwrap();
    assert_eq!(bench.ship_from("b", "o1", 3).unwrap(), "3 in c, 3 shipped");
    assert_eq!((bench.at("whole").as_str(), bench.free("b")), ("4 in c", 1));
}

#[test]
fn a_hold_changes_places_first_and_goes_on_as_long() {
    let mut bench = Bench::with(&[("b", 8, None), ("c", 6, Some(1))]);
    bench.ask("held", ask(4).priority(9).held(60)).unwrap();
    bench.allocate("kept", 4).unwrap();
    bench.allocate("o1", 3).unwrap();
    let until = bench.line("held").hold;
    bench.ship_from("b", "o1", 3).unwrap();
    assert_eq!((bench.at("held").as_str(), bench.at("kept").as_str()), ("1 in b, 3 in c", "4 in b"));
    assert_eq!(bench.line("held").hold, until);
    bench.wait(Duration::seconds(60));
    assert_eq!(bench.at("held"), "4 lapsed");
}

#[test]
fn a_line_is_made_no_smaller_than_what_has_left_or_is_being_picked() {
    let mut bench = Bench::with(&[("b", 5, None), ("c", 5, Some(1))]);
    bench.ask("o1", ask(8).or_wait()).unwrap();
    bench.ship("o1", 2).unwrap();
    bench.pick("o1").unwrap();
    assert!(matches!(bench.change("o1", units(4)), Err(Rejection::TooFew { least: 5, .. })));
    assert_eq!(bench.change("o1", units(6)).unwrap(), "3 in b (3 locked), 1 in c, 2 shipped");
    assert_eq!(bench.change("o1", units(5)).unwrap(), "3 in b (3 locked), 2 shipped");
    bench.ship_all("o1").unwrap();
    assert!(matches!(bench.change("o1", units(6)), Err(Rejection::NotAllowed { state: "shipped", .. })));
}

#[test]
fn a_whole_line_gives_up_again_what_was_added_to_it() {
    let mut bench = Bench::with(&[("b", 8, None)]);
    bench.ask("o1", ask(1).whole()).unwrap();
    bench.pick("o1").unwrap();
    assert_eq!(bench.change("o1", units(8)).unwrap(), "8 in b (1 locked)");
    assert_eq!(bench.change("o1", units(1)).unwrap(), "1 in b (1 locked)");
    assert_eq!((bench.line("o1").ordered(), bench.free("b")), (1, 7));
}

#[test]
fn a_line_that_left_in_part_grows_by_what_is_added() {
    let mut bench = Bench::with(&[("b", 9, None)]);
    bench.allocate("o1", 4).unwrap();
    bench.ship("o1", 3).unwrap();
    assert_eq!(bench.change("o1", units(6)).unwrap(), "3 in b, 3 shipped");
    let or_wait = |qty| LineChange { when_short: WhenShort::Backorder, ..units(qty) };
    assert_eq!(bench.change("o1", or_wait(11)).unwrap(), "6 in b, 2 wait, 3 shipped");
}

#[test]
fn what_is_cancelled_is_what_has_not_left_and_nothing_that_is_being_picked() {
    let mut bench = Bench::with(&[("b", 9, None)]);
    bench.allocate("o1", 6).unwrap();
    bench.ship("o1", 2).unwrap();
    bench.pick("o1").unwrap();
    assert!(matches!(bench.cancel("o1"), Err(Rejection::NotAllowed { state: "locked", .. })));
    bench.unpick("o1").unwrap();
    bench.told();
    bench.cancel("o1").unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.state("o1")), ("4 cancelled, 2 shipped", "shipped"));
    assert_eq!(bench.told(), ["Deallocated", "LineCancelled"]);
    assert!(matches!(bench.cancel("o1"), Err(Rejection::NotAllowed { state: "shipped", .. })));
}

// ---- Returns ----

#[test]
fn what_comes_back_is_set_aside_restocked_or_scrapped_and_its_line_stays_shipped() {
    let mut bench = Bench::with(&[("b", 9, None)]);
    bench.allocate("o1", 9).unwrap();
    bench.ship_all("o1").unwrap();
    bench.ask("w", ask(2).or_wait()).unwrap();
    bench.told();
    assert_eq!(bench.bring_back("o1", 2, ReturnTo::Scrap, None).unwrap(), "9 shipped, 2 returned");
    assert_eq!(bench.stock("b"), (0, 0));
    bench.bring_back("o1", 3, ReturnTo::Quarantine, None).unwrap();
    assert_eq!((bench.stock("b"), bench.at("w").as_str()), ((3, 3), "2 wait"));
    bench.bring_back("o1", 3, ReturnTo::Restock, None).unwrap();
    assert_eq!((bench.stock("b"), bench.at("w").as_str()), ((6, 3), "2 in b"));
    assert_eq!(bench.told(), ["Returned", "Returned", "Returned", "Allocated"]);
    let refused = bench.bring_back("o1", 2, ReturnTo::Restock, None);
    assert!(matches!(refused, Err(Rejection::TooMany { asked: 2, most: 1, .. })), "{refused:?}");
    assert_eq!(bench.state("o1"), "shipped");
}

#[test]
fn it_comes_back_to_where_it_came_from_the_first_that_left_first() {
    let mut bench = Bench::with(&[("a", 2, None), ("b", 3, None), ("other", 0, None)]);
    bench.allocate("o1", 5).unwrap();
    bench.ship_from("b", "o1", 3).unwrap();
    bench.ship_all("o1").unwrap();
    let left = |bench: &Bench| -> Vec<(String, u64, u64)> {
        let shipped = bench.line("o1").shipped.iter();
        shipped.map(|Shipped { batch, qty, returned }| (batch.to_string(), *qty, *returned)).collect()
    };
    bench.bring_back("o1", 1, ReturnTo::Restock, Some("a")).unwrap();
    bench.bring_back("o1", 1, ReturnTo::Restock, Some("other")).unwrap();
    assert_eq!(left(&bench), [("b".into(), 3, 1), ("a".into(), 2, 1)]);
    bench.bring_back("o1", 3, ReturnTo::Restock, None).unwrap();
    assert_eq!(left(&bench), [("b".into(), 3, 3), ("a".into(), 2, 2)]);
    assert_eq!(["a", "b", "other"].map(|name| bench.free(name)), [2, 2, 1]);
}

#[test]
fn nothing_comes_back_that_has_not_left_or_into_what_has_not_arrived() {
    let mut bench = Bench::with(&[("b", 4, None), ("soon", 4, Some(1)), ("never", 4, Some(1))]);
    bench.cancel_batch("never").unwrap();
    bench.allocate("o1", 4).unwrap();
    assert!(matches!(bench.bring_back("o1", 1, ReturnTo::Scrap, None), Err(Rejection::NotAllowed { .. })));
    bench.ship("o1", 2).unwrap();
    bench.told();
    for (name, state) in [("soon", "expected"), ("never", "cancelled")] {
        let refused = bench.bring_back("o1", 1, ReturnTo::Scrap, Some(name));
        assert!(matches!(refused, Err(Rejection::NotAllowed { state: found, .. }) if found == state), "{refused:?}");
    }
    let refused = bench.bring_back("o1", 1, ReturnTo::Scrap, Some("none"));
    assert!(matches!(refused, Err(Rejection::UnknownBatch { .. })), "{refused:?}");
    assert_eq!(bench.told(), [""; 0]);
    assert_eq!(bench.bring_back("o1", 2, ReturnTo::Scrap, None).unwrap(), "2 in b, 2 shipped, 2 returned");
}

// ---- Set aside and counted ----

#[test]
fn free_units_are_set_aside_before_those_that_somebody_has() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 6).unwrap();
    bench.told();
    let (_, displaced) = bench.quarantine("b", 4).unwrap();
    assert!(displaced.is_empty());
    assert_eq!((bench.stock("b"), bench.free("b")), ((10, 4), 0));
    bench.quarantine("b", 1).unwrap();
    assert_eq!(bench.at("o1"), "5 in b, 1 wait");
    bench.quarantine("b", None).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.stock("b")), ("6 wait", (10, 10)));
    assert_eq!(bench.quarantine("b", None).unwrap().0, Outcome::Same);
    assert!(matches!(bench.quarantine("b", 1), Err(Rejection::TooMany { most: 0, .. })));
}

#[test]
fn what_is_released_goes_to_whoever_waits_and_not_to_whoever_had_it() {
    let mut bench = Bench::with(&[("b", 10, None), ("c", 6, Some(1))]);
    bench.allocate("o1", 6).unwrap();
    bench.quarantine("b", None).unwrap();
    bench.ask("w", ask(3).or_wait()).unwrap();
    bench.told();
    assert_eq!(bench.release("b", 2), Ok(Outcome::Changed));
    assert_eq!((bench.at("o1").as_str(), bench.at("w").as_str()), ("6 in c", "2 in b, 1 wait"));
    assert_eq!(bench.release("b", None), Ok(Outcome::Changed));
    assert_eq!((bench.at("w").as_str(), bench.free("b")), ("3 in b", 7));
    assert_eq!(bench.release("b", None), Ok(Outcome::Same));
    assert_eq!(bench.told(), ["Released", "Allocated", "Released", "Allocated"]);
    assert!(matches!(bench.release("b", 1), Err(Rejection::TooMany { most: 0, .. })));
}

#[test]
fn what_is_damaged_or_found_stays_so_whatever_is_declared() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 8).unwrap();
    bench.told();
    bench.adjust("b", Adjustment::Damaged(qty(3))).unwrap();
    assert_eq!((bench.stock("b").0, bench.at("o1").as_str()), (7, "7 in b, 1 wait"));
    bench.adjust("b", Adjustment::Found(qty(1))).unwrap();
    assert_eq!(bench.at("o1"), "8 in b");
    assert_eq!(bench.recount("b", 10).unwrap().0, Outcome::Same);
    bench.recount("b", 12).unwrap();
    assert_eq!(bench.stock("b").0, 10);
    assert!(matches!(bench.recount("b", 1), Err(Rejection::TooMany { asked: 11, most: 10, .. })));
    assert!(matches!(bench.adjust("b", Adjustment::Damaged(qty(11))), Err(Rejection::TooMany { most: 10, .. })));
    bench.recount("b", 2).unwrap();
    assert_eq!((bench.stock("b").0, bench.at("o1").as_str()), (0, "8 wait"));
}

#[test]
fn a_count_is_of_everything_and_what_is_set_aside_is_missed_last() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 5).unwrap();
    bench.quarantine("b", 3).unwrap();
    bench.told();
    let mut count = |units| {
        let (outcome, _) = bench.adjust("b", Adjustment::Recount(stock(units))).unwrap();
        (outcome, bench.stock("b"), bench.at("o1"))
    };
    assert_eq!(count(10), (Outcome::Same, (10, 3), "5 in b".into()));
    assert_eq!(count(7), (Outcome::Changed, (7, 3), "4 in b, 1 wait".into()));
    assert_eq!(count(2), (Outcome::Changed, (2, 2), "5 wait".into()));
    assert_eq!(count(0), (Outcome::Changed, (0, 0), "5 wait".into()));
    assert_eq!(count(9), (Outcome::Changed, (9, 0), "5 in b".into()));
}

#[test]
fn what_has_not_arrived_is_neither_set_aside_nor_counted() {
    let mut bench = Bench::with(&[("soon", 10, Some(1)), ("never", 10, Some(1))]);
    bench.cancel_batch("never").unwrap();
    bench.told();
    for (name, state) in [("soon", "expected"), ("never", "cancelled")] {
        let refusals = [
            bench.quarantine(name, None).unwrap_err(),
            bench.release(name, None).unwrap_err(),
            bench.adjust(name, Adjustment::Found(qty(1))).unwrap_err(),
        ];
        for refused in refusals {
            assert!(matches!(refused, Rejection::NotAllowed { state: found, .. } if found == state), "{refused:?}");
        }
    }
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn out_of_stock_is_told_anew_once_stock_has_come_back() {
    let mut bench = Bench::with(&[("b", 3, None)]);
    bench.allocate("o1", 3).unwrap();
    bench.ship_all("o1").unwrap();
    bench.told();
    let told = |bench: &mut Bench| {
        bench.ask("o2", ask(9)).unwrap_err();
        bench.events().iter().any(|event| matches!(event, Event::OutOfStock { .. }))
    };
    assert_eq!([told(&mut bench), told(&mut bench)], [true, false]);
    bench.bring_back("o1", 1, ReturnTo::Quarantine, None).unwrap();
    assert!(!told(&mut bench));
    bench.release("b", None).unwrap();
    assert!(told(&mut bench));
    bench.bring_back("o1", 1, ReturnTo::Restock, Some("b")).unwrap();
    assert!(told(&mut bench));
    bench.adjust("b", Adjustment::Damaged(qty(1))).unwrap();
    assert!(!told(&mut bench));
    bench.adjust("b", Adjustment::Found(qty(1))).unwrap();
    assert_eq!([told(&mut bench), told(&mut bench)], [true, false]);
}
