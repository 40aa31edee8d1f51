//! Holds: kept for a while, whole or not at all.

use std::collections::BTreeSet;

use crate::common::{Bench, ask, units};
use allocation_domain::product::StoredProduct;
use allocation_domain::{Product, Settings, Sku};
use time::Duration;
use time::macros::datetime;

/// A line whose hold has grown, so that its units were accepted in two parts: `5` and `3`, all in `b`.
fn grown_hold(elsewhere: u64) -> Bench {
    let mut bench = Bench::with(&[("b", 8, Some(1)), ("c", elsewhere, Some(2))]);
    bench.ask("o1", ask(5).by(3).held(60)).unwrap();
    bench.change("o1", units(8)).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.line("o1").parts.len()), ("8 in b", 2));
    bench.told();
    bench
}

#[test]
fn a_hold_is_told_as_held_and_only_confirmed_as_allocated() {
    let mut bench = Bench::with(&[("a", 4, None), ("b", 6, Some(1))]);
    bench.ask("o1", ask(10).held(60)).unwrap();
    assert_eq!(bench.told(), ["LineAccepted", "Held", "Held"]);
    bench.confirm("o1").unwrap();
    assert_eq!(bench.told(), ["Allocated", "Allocated"]);
    assert_eq!((bench.product().held(), bench.state("o1")), (0, "allocated"));
}

#[test]
fn a_hold_that_ends_feeds_the_queue() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.ask("o1", ask(10).held(60)).unwrap();
    bench.ask("o2", ask(7).or_wait()).unwrap();
    bench.told();
    bench.wait(Duration::minutes(1));
    assert_eq!(bench.told(), ["HoldExpired", "Allocated"]);
    assert_eq!(bench.at("o2"), "7 in b");
}

#[test]
fn holds_of_the_lowest_seniority_lose_their_place_first() {
    let mut bench = Bench::with(&[("b", 20, None)]);
    bench.ask("urgent", ask(10).priority(1).held(60)).unwrap();
    bench.ask("usual", ask(10).held(60)).unwrap();
    bench.recount("b", 15).unwrap();
    assert_eq!((bench.state("urgent"), bench.state("usual")), ("held", "lapsed"));
    assert_eq!(bench.free("b"), 5, "a part of a hold is of no use, so all of it is given back");
}

#[test]
fn a_hold_that_lost_its_place_goes_elsewhere_whole() {
    let mut bench = grown_hold(8);
    bench.recount("b", 0).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.state("o1")), ("8 in c", "held"));
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Deallocated", "Deallocated", "Held", "Held", "PromiseChanged"]);
}

#[test]
fn a_hold_that_lost_its_place_goes_nowhere_unless_all_of_it_can() {
    let mut bench = grown_hold(7);
    bench.recount("b", 0).unwrap();
    assert_eq!(bench.at("o1"), "8 lapsed");
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Deallocated", "Deallocated", "HoldLost"]);
    assert_eq!(bench.free("c"), 7);
}

#[test]
fn a_hold_whose_batch_comes_too_late_goes_elsewhere_whole_or_ends() {
    let mut bench = grown_hold(8);
    bench.reschedule("b", Some(9)).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.state("o1")), ("8 in c", "held"));
    let mut bench = grown_hold(7);
    bench.reschedule("b", Some(9)).unwrap();
    assert_eq!(bench.at("o1"), "8 lapsed");
    assert_eq!(bench.told(), ["BatchEtaChanged", "Deallocated", "Deallocated", "HoldLost"]);
}

#[test]
fn what_a_lost_hold_had_in_other_batches_is_free_again() {
    let mut bench = Bench::with(&[("a", 4, None), ("b", 6, Some(1))]);
    bench.ask("o1", ask(10).held(60)).unwrap();
    bench.ask("o2", ask(3).or_wait()).unwrap();
    bench.recount("b", 5).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("10 lapsed", "3 in a"));
}

#[test]
fn a_hold_is_no_part_of_what_confirmed_lines_have() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.ask("o1", ask(4).held(60)).unwrap();
    bench.ask("o2", ask(3)).unwrap();
    let batch = bench.batch("b");
    assert_eq!((batch.held, batch.allocated, batch.free()), (4, 3, 3));
}

#[test]
fn less_than_was_asked_can_be_held_too() {
    let mut bench = Bench::with(&[("b", 6, None)]);
    assert_eq!(bench.ask("o1", ask(10).or_less().held(60)).unwrap(), "6 in b, 4 dropped");
    bench.wait(Duration::hours(1));
    assert_eq!(bench.at("o1"), "4 dropped, 6 lapsed");
}

#[test]
fn time_never_goes_back_behind_the_last_event() {
    let last = datetime!(2011-01-02 08:00 UTC);
    let stored = StoredProduct {
        sku: Sku::new("A").unwrap(),
        version: 1,
        changed_at: last,
        settings: Settings::default(),
        backordered: 0,
        queued: 0,
        out_of_stock_raised: false,
        low: BTreeSet::new(),
        batches: Vec::new(),
    };
    assert_eq!(Product::restore(stored.clone(), last - Duration::hours(1)).now(), last);
    assert_eq!(Product::restore(stored, last + Duration::hours(1)).now(), last + Duration::hours(1));
}
