//! Supply: batches come, change and move, and promises with them; who waits, who is held.

use crate::common::{Bench, ask, batch_ref, day, key, stock, units};
use allocation_domain::commands::Rest;
use allocation_domain::product::SupplyChange;
use allocation_domain::{BatchQuantity, BatchState, Event, LineState, PartKey, Promise, Rejection, Settings, arrival};
use allocation_model::Outcome;
use time::Duration;

/// A batch of thirty, of which three orders have ten each and may not be split.
fn three_of_ten() -> Bench {
    let mut bench = Bench::with(&[("b", 30, None)]);
    for order_id in ["o1", "o2", "o3"] {
        bench.ask(order_id, ask(10).whole()).unwrap();
    }
    bench.told();
    bench
}

fn states_of(bench: &Bench) -> [&'static str; 3] {
    ["o1", "o2", "o3"].map(|order_id| bench.state(order_id))
}

#[test]
fn the_same_batch_again_is_no_news_and_another_under_its_name_is_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.create("b", 10, Some(1)), Ok(Outcome::New));
    assert_eq!(bench.create("b", 10, Some(1)), Ok(Outcome::Same));
    assert!(matches!(bench.create("b", 11, Some(1)), Err(Rejection::BatchExists { .. })));
    assert!(matches!(bench.create("b", 10, None), Err(Rejection::BatchExists { .. })));
    assert_eq!(bench.told(), ["BatchCreated"]);
}

#[test]
fn a_batch_that_grows_takes_whoever_waits_oldest_first() {
    let mut bench = three_of_ten();
    bench.recount("b", 0).unwrap();
    bench.told();
    bench.recount("b", 20).unwrap();
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Allocated", "Allocated"]);
    assert_eq!(states_of(&bench), ["allocated", "allocated", "backordered"]);
}

#[test]
fn those_who_came_last_lose_their_place_first_and_are_told_by_seniority() {
    let mut bench = three_of_ten();
    let (_, displaced) = bench.recount("b", 15).unwrap();
    let lost: Vec<_> = displaced.iter().map(|d| d.line.order_id.as_str()).collect();
    assert_eq!(lost, ["o2", "o3"]);
    assert_eq!(states_of(&bench), ["allocated", "backordered", "backordered"]);
}

#[test]
fn only_the_units_that_are_lacking_are_lost_unless_the_line_must_stay_whole() {
    let mut bench = Bench::with(&[("b", 20, None)]);
    bench.ask("o1", ask(10)).unwrap();
    bench.ask("o2", ask(10)).unwrap();
    bench.recount("b", 17).unwrap();
    assert_eq!((bench.at("o1").as_str(), bench.at("o2").as_str()), ("10 in b", "7 in b, 3 wait"));
    let mut bench = three_of_ten();
    bench.recount("b", 27).unwrap();
    assert_eq!(bench.at("o3"), "10 wait");
}

#[test]
fn holds_lose_their_place_before_anybody_and_end_when_they_find_no_other() {
    let mut bench = Bench::with(&[("b", 20, None)]);
    bench.ask("held", ask(10).priority(9).held(60)).unwrap();
    bench.ask("kept", ask(10)).unwrap();
    bench.told();
    bench.recount("b", 19).unwrap();
    assert_eq!((bench.at("held").as_str(), bench.at("kept").as_str()), ("10 lapsed", "10 in b"));
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Deallocated", "Deallocated", "HoldLost"]);
}

#[test]
fn a_line_that_lost_its_place_goes_at_once_wherever_free_stock_can_take_it() {
    let mut bench = Bench::with(&[("b", 10, None), ("c", 10, Some(2))]);
    bench.ask("o1", ask(10).whole()).unwrap();
    bench.told();
    let (_, displaced) = bench.recount("b", 5).unwrap();
    assert_eq!(displaced[0].to, [(batch_ref("c"), 10)]);
    let told = bench.events();
    assert_eq!(
        told.iter().map(Event::name).collect::<Vec<_>>(),
        ["BatchQuantityChanged", "Deallocated", "Allocated", "PromiseChanged"]
    );
    assert!(
        matches!(told[3], Event::PromiseChanged { from: Promise::OnHand, to: Promise::On(to), .. } if to == day(2))
    );
}

#[test]
fn a_line_that_finds_nothing_waits_and_keeps_its_seniority() {
    let mut bench = Bench::with(&[("b", 20, None)]);
    bench.ask("o1", ask(10).whole()).unwrap();
    bench.ask("o2", ask(10).whole()).unwrap();
    let accepted = bench.line("o2").accepted;
    bench.told();
    bench.recount("b", 12).unwrap();
    assert_eq!(bench.told(), ["BatchQuantityChanged", "Deallocated", "Backordered", "PromiseChanged"]);
    assert_eq!(bench.product().backordered(), 10);
    bench.create("c", 10, Some(1)).unwrap();
    assert_eq!(bench.at("o2"), "10 in c");
    assert_eq!(bench.line("o2").parts[0].accepted, accepted);
    assert_eq!(bench.product().backordered(), 0);
}

#[test]
fn events_of_a_cut_come_as_change_then_losses_then_what_became_of_them() {
    let mut bench = three_of_ten();
    bench.create("c", 10, Some(1)).unwrap();
    bench.told();
    bench.recount("b", 0).unwrap();
    let mut told = bench.told_of_lines();
    told.retain(|(name, _)| *name != "PromiseChanged");
    let expected = [
        ("Deallocated", "o1"),
        ("Deallocated", "o2"),
        ("Deallocated", "o3"),
        ("Allocated", "o1"),
        ("Backordered", "o2"),
        ("Backordered", "o3"),
    ];
    assert_eq!(told, expected.map(|(name, order_id)| (name, order_id.to_owned())));
}

#[test]
fn a_waiting_line_that_nothing_can_take_whole_is_passed_over_by_newcomers_too() {
    let mut bench = Bench::with(&[("b", 15, None)]);
    bench.ask("big", ask(10).whole()).unwrap();
    bench.ask("small", ask(5).whole()).unwrap();
    bench.recount("b", 0).unwrap();
    bench.recount("b", 9).unwrap();
    assert_eq!((bench.at("big").as_str(), bench.at("small").as_str()), ("10 wait", "5 in b"));
    assert_eq!(bench.ask("new", ask(4)).unwrap(), "4 in b");
}

#[test]
fn units_that_a_cancelled_line_gives_back_go_to_whoever_waits() {
    let mut bench = three_of_ten();
    bench.recount("b", 20).unwrap();
    assert_eq!(bench.state("o3"), "backordered");
    bench.cancel("o1").unwrap();
    assert_eq!(bench.at("o3"), "10 in b");
}

#[test]
fn cancelling_a_line_that_waits_frees_nothing() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.recount("b", 0).unwrap();
    bench.told();
    bench.cancel("o1").unwrap();
    assert_eq!(bench.told(), ["LineCancelled"]);
    assert_eq!(bench.product().backordered(), 0);
}

#[test]
fn promises_follow_their_batch_and_are_offered_earlier_stock_when_it_is_late() {
    let mut bench = Bench::with(&[("b", 10, Some(1)), ("c", 4, Some(5))]);
    bench.allocate("o1", 10).unwrap();
    bench.told();
    bench.reschedule("b", Some(9)).unwrap();
    assert_eq!(bench.at("o1"), "6 in b, 4 in c");
    assert_eq!(bench.told(), ["BatchEtaChanged", "Deallocated", "Allocated", "PromiseChanged"]);
    bench.reschedule("b", Some(9)).unwrap();
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn those_who_can_no_longer_have_it_in_time_lose_the_place() {
    let mut bench = Bench::with(&[("b", 10, Some(1))]);
    bench.ask("o1", ask(10).by(3)).unwrap();
    bench.reschedule("b", Some(4)).unwrap();
    assert_eq!(bench.at("o1"), "10 wait");
}

#[test]
fn what_has_arrived_is_not_expected_any_more_and_arrival_changes_no_promise() {
    let mut bench = Bench::with(&[("b", 10, Some(1))]);
    bench.allocate("o1", 4).unwrap();
    bench.told();
    bench.reschedule("b", None).unwrap();
    assert_eq!(bench.told(), ["BatchEtaChanged"]);
    assert_eq!(bench.product().available(), 6);
    assert!(matches!(bench.reschedule("b", Some(3)), Err(Rejection::NotAllowed { state: "on_hand", .. })));
    bench.reschedule("b", None).unwrap();
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn the_rest_of_a_receipt_is_a_batch_of_its_own_or_never_comes() {
    let mut bench = Bench::with(&[("b", 10, Some(1))]);
    bench.allocate("o1", 8).unwrap();
    bench.receive("b", 6, Rest::Keep).unwrap();
    assert_eq!(bench.at("o1"), "6 in b, 2 in b~2");
    assert_eq!(bench.batch("b~2").eta, Some(day(1)));
    bench.receive("b~2", 1, Rest::Cancel).unwrap();
    assert_eq!(bench.line("o1").backordered(), 1);
    assert!(matches!(bench.receive("b", 1, Rest::Keep), Err(Rejection::NotAllowed { .. })));
}

#[test]
fn a_cancelled_batch_gives_its_lines_to_other_stock_or_to_the_queue() {
    let mut bench = Bench::with(&[("b", 10, Some(1)), ("c", 4, Some(7))]);
    bench.allocate("o1", 10).unwrap();
    bench.cancel_batch("b").unwrap();
    assert_eq!(bench.at("o1"), "4 in c, 6 wait");
    assert_eq!(bench.batch("b").state(), BatchState::Cancelled);
    assert!(matches!(bench.declare("b", 10), Err(Rejection::NotAllowed { state: "cancelled", .. })));
}

#[test]
fn a_hold_ends_at_its_second_and_may_be_asked_anew() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.ask("o1", ask(10).held(60)).unwrap();
    bench.wait(Duration::seconds(59));
    assert_eq!(bench.state("o1"), "held");
    bench.wait(Duration::seconds(1));
    assert_eq!(bench.at("o1"), "10 lapsed");
    assert!(matches!(bench.confirm("o1"), Err(Rejection::NotAllowed { state: "lapsed", .. })));
    assert_eq!(bench.ask("o1", ask(4)).unwrap(), "4 in b");
}

#[test]
fn a_hold_is_extended_never_shortened_and_confirmed_once() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.ask("o1", ask(10).held(60)).unwrap();
    let until = bench.line("o1").hold;
    bench.extend("o1", 30).unwrap();
    assert_eq!(bench.line("o1").hold, until);
    bench.extend("o1", 90).unwrap();
    assert!(bench.line("o1").hold > until);
    bench.told();
    bench.confirm("o1").unwrap();
    bench.confirm("o1").unwrap();
    assert_eq!(bench.told(), ["Allocated"]);
    assert!(matches!(bench.extend("o1", 90), Err(Rejection::NotAllowed { state: "allocated", .. })));
}

#[test]
fn the_cap_of_the_queue_counts_new_requests_and_not_those_who_lost_their_place() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    bench.allocate("o1", 10).unwrap();
    bench.set(Settings { queue_cap: Some(5), ..Settings::default() });
    bench.recount("b", 0).unwrap();
    bench.ask("o2", ask(5).or_wait()).unwrap();
    assert!(matches!(bench.ask("o3", ask(1).or_wait()), Err(Rejection::QueueFull { queued: 5, .. })));
}

#[test]
fn a_smaller_line_gives_up_what_waits_and_then_the_latest_arrival() {
    let mut bench = Bench::with(&[("a", 4, None), ("b", 4, Some(5))]);
    bench.ask("o1", ask(10).or_wait()).unwrap();
    assert_eq!(bench.change("o1", units(7)).unwrap(), "4 in a, 3 in b");
    assert_eq!(bench.change("o1", units(2)).unwrap(), "2 in a");
}

#[test]
fn promises_move_to_earlier_stock_when_asked() {
    let mut bench = Bench::with(&[("late", 10, Some(9))]);
    bench.allocate("o1", 6).unwrap();
    bench.create("here", 4, None).unwrap();
    assert_eq!(bench.at("o1"), "6 in late");
    bench.improve();
    assert_eq!(bench.at("o1"), "4 in here, 2 in late");
}

#[test]
fn an_unknown_batch_cannot_change() {
    let mut bench = Bench::with(&[("b", 10, None)]);
    assert!(matches!(bench.reschedule("x", None), Err(Rejection::UnknownBatch { .. })));
    assert!(matches!(bench.recount("x", 1), Err(Rejection::UnknownBatch { .. })));
}

#[test]
fn a_cut_with_too_few_lines_at_hand_goes_as_far_as_they_allow() {
    let mut product = three_of_ten().product();
    let last = PartKey { line: key("o3"), accepted: product.line(&key("o3")).unwrap().accepted };
    let nothing = SupplyChange::Quantity(BatchQuantity::ZERO);
    let supplied = product.change_supply(&batch_ref("b"), &nothing, &[last]).unwrap();
    assert_eq!((supplied.displaced.len(), supplied.finished), (1, false));
    assert_eq!(product.batch(&batch_ref("b")).unwrap().quantity, stock(20));
    let told = product.take_events();
    assert!(matches!(told[0], Event::BatchQuantityChanged { to, .. } if to == stock(20)));
    assert_eq!(product.line(&key("o1")).unwrap().state(), LineState::Allocated);
}

#[test]
fn the_revision_tells_declarations_apart_and_not_promises() {
    let mut bench = Bench::with(&[("b", 10, Some(1))]);
    let first = bench.batch("b").revision;
    bench.allocate("o1", 1).unwrap();
    assert_eq!(bench.batch("b").revision, first);
    bench.recount("b", 11).unwrap();
    let second = bench.batch("b").revision;
    assert!(second > first);
    bench.reschedule("b", None).unwrap();
    assert!(bench.batch("b").revision > second);
}

#[test]
fn a_shipment_is_ready_on_its_day_but_never_before_tomorrow() {
    let today = day(10);
    assert_eq!(arrival(None, today), today);
    assert_eq!(arrival(Some(day(12)), today), day(12));
    assert_eq!(arrival(Some(day(3)), today), day(11), "overdue");
    assert_eq!(arrival(Some(today), today), day(11));
}
