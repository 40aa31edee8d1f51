//! The warehouse floor: picking, shipping, returns, and what of it can still be changed: rules 20, 21, 23 and 24.

use serde_json::{Value, json};

use crate::support::{Answer, On, Service, displaced, fate, lamps, new_key, on_both_stores};

on_both_stores!(
    picking_locks_what_is_on_hand_and_again_is_fine,
    units_that_come_later_to_a_batch_are_not_being_picked,
    only_the_lines_that_are_named_are_picked,
    what_is_held_or_not_on_hand_cannot_be_picked,
    locked_placements_lose_their_place_last,
    of_units_accepted_together_those_that_are_locked_lose_their_place_last,
    what_is_being_picked_does_not_leave_for_want_of_time,
    a_shipment_takes_the_lines_own_batches,
    what_is_being_picked_leaves_first,
    a_shipment_names_another_batch_and_takes_its_free_units,
    what_a_shipment_gives_up_elsewhere_is_for_those_who_wait,
    a_shipment_swaps_with_a_line_that_is_not_locked,
    a_shipment_swaps_with_holds_first_and_then_with_the_lowest_seniority,
    a_shipment_is_refused_when_only_locked_ones_could_swap,
    nobody_swaps_into_a_batch_that_comes_too_late_for_him,
    a_line_that_must_stay_whole_swaps_whole_or_not_at_all,
    two_lines_of_a_shipment_may_swap_one_after_the_other,
    stock_that_has_not_arrived_cannot_leave,
    several_lines_leave_all_of_them_or_none,
    without_a_list_everything_leaves_and_what_waits_goes_on_waiting,
    a_shipment_of_what_is_unknown_held_or_too_much_is_refused,
    a_line_is_made_no_smaller_than_what_is_shipped_or_locked,
    a_line_grows_beside_what_is_being_picked,
    a_line_that_must_stay_whole_gives_up_again_what_was_added_to_it,
    an_order_that_is_being_picked_cannot_be_cancelled,
    an_order_that_left_in_part_is_cancelled_but_for_what_has_left,
    no_more_comes_back_than_has_left,
    returned_units_are_set_aside_restocked_or_scrapped,
    what_comes_back_goes_where_it_came_from_or_into_the_batch_that_is_named,
    nothing_comes_back_into_a_batch_that_has_not_arrived,
    a_shipped_line_does_not_reopen,
    a_line_that_left_in_part_takes_returns_and_stays_what_it_is,
    every_event_of_the_floor_is_told_once,
    what_was_damaged_is_found_and_mended_from_the_events,
);

async fn pick(service: &Service, order_id: &str) -> Answer {
    service.post(&format!("/v1/orders/{order_id}/pick"), json!({})).await
}

async fn unpick(service: &Service, order_id: &str) -> Answer {
    service.post(&format!("/v1/orders/{order_id}/unpick"), json!({})).await
}

/// So many lamps of an order leave from a batch.
async fn ship(service: &Service, order_id: &str, qty: u64, batch: Option<&str>) -> Answer {
    let mut line = json!({"sku": "LAMP", "qty": qty});
    if let Some(batch) = batch {
        line["batch"] = json!(batch);
    }
    ship_lines(service, order_id, json!([line])).await
}

async fn ship_lines(service: &Service, order_id: &str, lines: Value) -> Answer {
    service.post_new(&format!("/v1/orders/{order_id}/shipments"), json!({ "lines": lines })).await
}

/// Whatever is allocated to an order leaves.
async fn ship_all(service: &Service, order_id: &str) -> Answer {
    service.post_new(&format!("/v1/orders/{order_id}/shipments"), json!({})).await
}

/// So many lamps of an order come back, and `with` says what becomes of them.
async fn bring_back(service: &Service, order_id: &str, qty: u64, with: Value) -> Answer {
    let mut line = with;
    (line["sku"], line["qty"]) = (json!("LAMP"), json!(qty));
    service.post_new(&format!("/v1/orders/{order_id}/returns"), json!({ "lines": [line] })).await
}

/// Fails the test unless it was refused so.
fn refused(answer: Answer, name: &str) {
    let problem = answer.expect(409).json();
    assert_eq!(problem["type"], format!("urn:allocation:problem:{name}"), "{problem}");
}

/// What of an order's lines became of them, by SKU.
fn fates(order: &Value) -> Vec<String> {
    order["lines"].as_array().unwrap().iter().map(fate).collect()
}

/// Where a line's units came from that have left, in short: batch, units, and how many of them came back.
async fn shipments(service: &Service, order_id: &str) -> Vec<String> {
    let line = &service.lines(order_id).await[0];
    let shown = |from: &Value| format!("{} {} {}", from["batch"].as_str().unwrap(), from["qty"], from["returned"]);
    line["shipments"].as_array().unwrap().iter().map(shown).collect()
}

/// An open batch of lamps: its units, and how many of them are set aside, allocated and free.
async fn batch(service: &Service, reference: &str) -> Option<[u64; 4]> {
    let product = service.product("LAMP").await;
    let batch = product["batches"].as_array().unwrap().iter().find(|batch| batch["ref"] == reference)?;
    Some(["units", "unavailable", "allocated", "free"].map(|name| batch[name].as_u64().unwrap()))
}

// ---- Picking ----

async fn picking_locks_what_is_on_hand_and_again_is_fine(on: On) {
    let (store, service) = lamps(on, &[("b", 4, ""), ("c", 4, "2031-01-01")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    for _ in 0..2 {
        let order = pick(&service, "o1").await.expect(200).json();
        assert_eq!(fates(&order), ["allocated: b 4 (4 locked), c 2"]);
        assert_eq!((&order["lines"][0]["allocated"], &order["lines"][0]["locked"]), (&json!(6), &json!(4)));
    }
    for _ in 0..2 {
        let order = unpick(&service, "o1").await.expect(200).json();
        assert_eq!(fates(&order), ["allocated: b 4, c 2"]);
    }
    assert_eq!(service.history("LAMP", before).await, ["line_locked o1 4 b", "line_unlocked o1 4 b"]);
    store.assert_balanced().await;
}

async fn units_that_come_later_to_a_batch_are_not_being_picked(on: On) {
    let (store, service) = lamps(on, &[("b", 4, "")]).await;
    service.queue_up("o1", 6).await;
    pick(&service, "o1").await.expect(200);
    service.batch("LAMP", "b", json!({"qty": 9})).await;
    assert_eq!(service.fate("o1").await, "allocated: b 6 (4 locked)");
    service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": 8})).await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: b 8 (4 locked)");
    pick(&service, "o1").await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: b 8 (8 locked)");
    store.assert_balanced().await;
}

async fn only_the_lines_that_are_named_are_picked(on: On) {
    let (store, service) = lamps(on, &[("b", 9, "")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    let lines =
        json!([{"sku": "LAMP", "qty": 2}, {"sku": "LAMP", "qty": 3, "line": "gift"}, {"sku": "SHADE", "qty": 4}]);
    service.put("/v1/orders/o1", json!({ "lines": lines })).await.expect(201);
    let command = async |command: &str, lines: Value| {
        service.post(&format!("/v1/orders/o1/{command}"), json!({ "lines": lines })).await
    };
    let named = json!([{"sku": "LAMP", "line": "gift"}, {"sku": "SHADE"}]);
    let picked = command("pick", named).await.expect(200).json();
    assert_eq!(fates(&picked), ["allocated: b 3 (3 locked)", "allocated: s 4 (4 locked)"]);
    command("unpick", json!([{"sku": "SHADE"}])).await.expect(200);
    let order = service.get("/v1/orders/o1").await.expect(200).json();
    assert_eq!(fates(&order), ["allocated: b 2", "allocated: b 3 (3 locked)", "allocated: s 4"]);
    for path in ["pick", "unpick"] {
        command(path, json!([{"sku": "LAMP"}, {"sku": "NONE"}])).await.expect(404);
        service.post(&format!("/v1/orders/none/{path}"), json!({})).await.expect(404);
        command(path, json!([{"sku": "LAMP", "qty": 1}])).await.expect(422);
    }
    // A line that is over is left out, unless it is named.
    service.delete("/v1/orders/o1/lines/SHADE").await.expect(200);
    assert_eq!(fates(&pick(&service, "o1").await.expect(200).json()).len(), 2);
    refused(command("pick", json!([{"sku": "LAMP"}, {"sku": "SHADE"}])).await, "not-allowed");
    refused(command("unpick", json!([{"sku": "SHADE"}])).await, "not-allowed");
    store.assert_balanced().await;
}

async fn what_is_held_or_not_on_hand_cannot_be_picked(on: On) {
    let (store, service) = lamps(on, &[("b", 4, ""), ("c", 4, "2031-01-01")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    service.ask("o1", 4, json!({"hold_seconds": 600})).await.expect(201);
    service.order("o1", &[("SHADE", 2)]).await.expect(201);
    refused(pick(&service, "o1").await, "not-allowed");
    assert_eq!(fates(&service.get("/v1/orders/o1").await.json()), ["held: b 4", "allocated: s 2"]);
    refused(service.post("/v1/orders/o1/pick", json!({"lines": [{"sku": "LAMP"}]})).await, "not-allowed");
    service.ask("o2", 4, json!({})).await.expect(201);
    refused(pick(&service, "o2").await, "not-on-hand");
    service.queue_up("o3", 1).await;
    refused(pick(&service, "o3").await, "not-on-hand");
    assert_eq!(service.fate("o2").await, "allocated: c 4");
    service.post("/v1/orders/o1/confirm", json!({})).await.expect(200);
    pick(&service, "o1").await.expect(200);
    store.assert_balanced().await;
}

async fn locked_placements_lose_their_place_last(on: On) {
    let (store, service) = lamps(on, &[("b", 20, "")]).await;
    service.ask("o1", 5, json!({"priority": -1})).await.expect(201);
    service.ask("o2", 5, json!({"priority": 9})).await.expect(201);
    service.ask("h", 5, json!({"priority": 9, "hold_seconds": 600})).await.expect(201);
    pick(&service, "o1").await.expect(200);
    let cut = async |qty: u64| displaced(&service.batch("LAMP", "b", json!({"qty": qty})).await);
    assert_eq!(cut(9).await, ["o2 1: waiting 1", "h 5: lapsed"]);
    assert_eq!(cut(5).await, ["o2 4: waiting 4"]);
    assert_eq!(service.fate("o1").await, "allocated: b 5 (5 locked)");
    assert_eq!(cut(3).await, ["o1 2: waiting 2"]);
    assert_eq!(service.fate("o1").await, "backordered: b 3 (3 locked), waiting 2");
    store.assert_balanced().await;
}

async fn of_units_accepted_together_those_that_are_locked_lose_their_place_last(on: On) {
    let (store, service) = lamps(on, &[("b", 4, "")]).await;
    service.queue_up("o1", 6).await;
    pick(&service, "o1").await.expect(200);
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.ask("o2", 4, json!({"priority": 5})).await.expect(201);
    let cut = async |qty: u64| displaced(&service.batch("LAMP", "b", json!({"qty": qty})).await);
    assert_eq!(cut(9).await, ["o1 1: waiting 1"]);
    assert_eq!(cut(7).await, ["o2 1: waiting 1", "o1 1: waiting 1"]);
    assert_eq!(service.fate("o1").await, "backordered: b 4 (4 locked), waiting 2");
    assert_eq!(cut(2).await, ["o2 3: waiting 3", "o1 2: waiting 2"]);
    assert_eq!(service.fate("o1").await, "backordered: b 2 (2 locked), waiting 4");
    store.assert_balanced().await;
}

async fn what_is_being_picked_does_not_leave_for_want_of_time(on: On) {
    let (store, service) = lamps(on, &[("b", 4, "")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    let yesterday = json!({"by": "2011-01-02"});
    refused(service.patch("/v1/orders/o1/lines/LAMP", yesterday.clone()).await, "out-of-stock");
    pick(&service, "o1").await.expect(200);
    service.patch("/v1/orders/o1/lines/LAMP", yesterday).await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: b 4 (4 locked)");
    store.assert_balanced().await;
}

// ---- Shipping ----

async fn a_shipment_takes_the_lines_own_batches(on: On) {
    let (store, service) = lamps(on, &[("b", 5, ""), ("c", 5, "")]).await;
    service.ask("o1", 7, json!({})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: b 5, c 2");
    let before = service.version("LAMP").await;
    let order = ship(&service, "o1", 3, None).await.expect(200).json();
    assert_eq!(fates(&order), ["allocated: b 2, c 2, shipped 3"]);
    assert_eq!(batch(&service, "b").await, Some([2, 0, 2, 0]));
    // Left out, all that is allocated.
    let order = ship_lines(&service, "o1", json!([{"sku": "LAMP"}])).await.expect(200).json();
    assert_eq!(fates(&order), ["shipped: shipped 7"]);
    assert_eq!(shipments(&service, "o1").await, ["b 5 0", "c 2 0"]);
    assert_eq!((batch(&service, "b").await, batch(&service, "c").await), (None, Some([3, 0, 0, 3])));
    let told = service.history("LAMP", before).await;
    assert_eq!(told, ["line_shipped o1 3 b", "line_shipped o1 2 b", "line_shipped o1 2 c"]);
    store.assert_balanced().await;
}

async fn what_is_being_picked_leaves_first(on: On) {
    let (store, service) = lamps(on, &[("b", 3, "2031-01-01"), ("z", 3, "")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    pick(&service, "o1").await.expect(200);
    service.batch("LAMP", "b", json!({"qty": 3, "eta": null})).await;
    assert_eq!(service.fate("o1").await, "allocated: b 3, z 3 (3 locked)");
    ship(&service, "o1", 2, None).await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: b 3, z 1 (1 locked), shipped 2");
    ship(&service, "o1", 2, None).await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: b 2, shipped 4");
    store.assert_balanced().await;
}

async fn a_shipment_names_another_batch_and_takes_its_free_units(on: On) {
    let (store, service) = lamps(on, &[("b", 5, ""), ("c", 5, "")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    let order = ship(&service, "o1", 3, Some("c")).await.expect(200).json();
    assert_eq!(fates(&order), ["allocated: b 2, shipped 3"]);
    assert_eq!(shipments(&service, "o1").await, ["c 3 0"]);
    assert_eq!((batch(&service, "b").await, batch(&service, "c").await), (Some([5, 0, 2, 3]), Some([2, 0, 0, 2])));
    let told = service.history("LAMP", before).await;
    assert_eq!(told, ["line_deallocated o1 3 b released", "line_allocated o1 3 c", "line_shipped o1 3 c"]);
    store.assert_balanced().await;
}

async fn what_a_shipment_gives_up_elsewhere_is_for_those_who_wait(on: On) {
    let (store, service) = lamps(on, &[("b", 7, ""), ("c", 4, "")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    service.ask("w", 5, json!({"split": false, "when_short": "backorder"})).await.expect(201);
    ship(&service, "o1", 3, Some("c")).await.expect(200);
    assert_eq!(service.fate("w").await, "backordered: waiting 5");
    ship(&service, "o1", 1, Some("c")).await.expect(200);
    assert_eq!(service.fate("w").await, "allocated: b 5");
    store.assert_balanced().await;
}

async fn a_shipment_swaps_with_a_line_that_is_not_locked(on: On) {
    let (store, service) = lamps(on, &[("b", 5, ""), ("c", 5, "2031-01-01")]).await;
    service.ask("o2", 5, json!({})).await.expect(201);
    service.ask("o1", 5, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    let order = ship(&service, "o1", 2, Some("b")).await.expect(200).json();
    assert_eq!(fates(&order), ["allocated: c 3, shipped 2"]);
    assert_eq!(service.fate("o2").await, "allocated: b 3, c 2");
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "line_deallocated o2 2 b displaced",
            "line_deallocated o1 2 c released",
            "line_allocated o2 2 c",
            "line_allocated o1 2 b",
            "line_shipped o1 2 b",
            "promise_changed o2 on_hand 2031-01-01",
        ]
    );
    let order = ship(&service, "o1", 3, Some("b")).await.expect(200).json();
    assert_eq!(fates(&order), ["shipped: shipped 5"]);
    assert_eq!(service.fate("o2").await, "allocated: c 5");
    store.assert_balanced().await;
}

async fn a_shipment_swaps_with_holds_first_and_then_with_the_lowest_seniority(on: On) {
    let (store, service) = lamps(on, &[("b", 9, ""), ("c", 9, "2031-01-01")]).await;
    service.ask("o2", 3, json!({"priority": -1})).await.expect(201);
    service.ask("o3", 3, json!({})).await.expect(201);
    service.ask("h", 3, json!({"priority": 9, "hold_seconds": 600})).await.expect(201);
    service.ask("o1", 7, json!({})).await.expect(201);
    ship(&service, "o1", 2, Some("b")).await.expect(200);
    assert_eq!(service.fate("h").await, "held: b 1, c 2");
    ship(&service, "o1", 5, Some("b")).await.expect(200);
    assert_eq!(service.fate("h").await, "held: c 3");
    assert_eq!(service.fate("o2").await, "allocated: c 3");
    assert_eq!(service.fate("o3").await, "allocated: b 2, c 1");
    store.assert_balanced().await;
}

async fn a_shipment_is_refused_when_only_locked_ones_could_swap(on: On) {
    let (store, service) = lamps(on, &[("b", 5, ""), ("c", 5, "")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    pick(&service, "o2").await.expect(200);
    let before = service.version("LAMP").await;
    refused(ship(&service, "o1", 2, Some("c")).await, "too-many");
    assert_eq!((service.version("LAMP").await, service.fate("o1").await), (before, "allocated: b 5".into()));
    ship(&service, "o1", 1, Some("c")).await.expect(200);
    unpick(&service, "o2").await.expect(200);
    ship(&service, "o1", 2, Some("c")).await.expect(200);
    assert_eq!(service.fate("o2").await, "allocated: b 2, c 2");
    store.assert_balanced().await;
}

async fn nobody_swaps_into_a_batch_that_comes_too_late_for_him(on: On) {
    let (store, service) = lamps(on, &[("b", 5, ""), ("c", 5, "2031-01-01")]).await;
    service.ask("o2", 3, json!({"by": "2030-12-31"})).await.expect(201);
    service.ask("o3", 2, json!({"by": "2031-01-01"})).await.expect(201);
    service.ask("o1", 5, json!({})).await.expect(201);
    refused(ship(&service, "o1", 3, Some("b")).await, "too-many");
    ship(&service, "o1", 2, Some("b")).await.expect(200);
    assert_eq!(service.fate("o2").await, "allocated: b 3");
    assert_eq!(service.fate("o3").await, "allocated: c 2");
    store.assert_balanced().await;
}

async fn a_line_that_must_stay_whole_swaps_whole_or_not_at_all(on: On) {
    let (store, service) = lamps(on, &[("b", 6, ""), ("c", 4, "")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    service.ask("whole", 4, json!({"split": false})).await.expect(201);
    refused(ship(&service, "o1", 2, Some("c")).await, "too-many");
    assert_eq!(service.fate("whole").await, "allocated: c 4");
    // With two more that are free, the two that are given up make room for it.
    service.batch("LAMP", "b", json!({"qty": 8})).await;
    ship(&service, "o1", 2, Some("c")).await.expect(200);
    assert_eq!(service.fate("whole").await, "allocated: b 4");
    assert_eq!(service.fate("o1").await, "allocated: b 4, shipped 2");
    assert_eq!((batch(&service, "b").await, batch(&service, "c").await), (Some([8, 0, 8, 0]), Some([2, 0, 0, 2])));
    store.assert_balanced().await;
}

async fn two_lines_of_a_shipment_may_swap_one_after_the_other(on: On) {
    let (store, service) = lamps(on, &[("b", 4, ""), ("c", 10, ""), ("d", 3, "")]).await;
    service.ask("whole", 4, json!({"split": false})).await.expect(201);
    service.ask("o2", 6, json!({})).await.expect(201);
    let line = |line: &str, qty: u64| json!({"lines": [{"sku": "LAMP", "line": line, "qty": qty}]});
    service.put("/v1/orders/o1", line("1", 1)).await.expect(201);
    service.ask("last", 3, json!({})).await.expect(201);
    service.put("/v1/orders/o1", line("2", 3)).await.expect(201);
    service.delete("/v1/orders/last").await.expect(200);
    let places = ["c 6", "c 1", "d 3"].map(|place| format!("allocated: {place}"));
    let order = service.get("/v1/orders/o1").await.expect(200).json();
    assert_eq!([vec![service.fate("o2").await], fates(&order)].concat(), places);
    // The first makes a whole line move into what the second would have found free.
    let lines = json!([
        {"sku": "LAMP", "line": "1", "qty": 1, "batch": "b"},
        {"sku": "LAMP", "line": "2", "qty": 3, "batch": "c"}
    ]);
    let order = ship_lines(&service, "o1", lines).await.expect(200).json();
    assert_eq!(fates(&order), ["shipped: shipped 1", "shipped: shipped 3"]);
    assert_eq!(service.fate("whole").await, "allocated: c 4");
    assert_eq!(service.fate("o2").await, "allocated: c 3, d 3");
    store.assert_balanced().await;
}

async fn stock_that_has_not_arrived_cannot_leave(on: On) {
    let (store, service) = lamps(on, &[("b", 3, ""), ("c", 5, "2031-01-01")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    refused(ship_all(&service, "o1").await, "not-on-hand");
    refused(ship_lines(&service, "o1", json!([{"sku": "LAMP"}])).await, "not-on-hand");
    refused(ship(&service, "o1", 4, None).await, "not-on-hand");
    refused(ship(&service, "o1", 1, Some("c")).await, "not-on-hand");
    assert_eq!(service.version("LAMP").await, before);
    ship(&service, "o1", 3, None).await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: c 3, shipped 3");
    service.post("/v1/products/LAMP/batches/c/receipts", json!({"qty": 5})).await.expect(200);
    ship_all(&service, "o1").await.expect(200);
    assert_eq!(shipments(&service, "o1").await, ["b 3 0", "c 3 0"]);
    store.assert_balanced().await;
}

async fn several_lines_leave_all_of_them_or_none(on: On) {
    let (store, service) = lamps(on, &[("b", 9, ""), ("c", 3, "")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    let lines =
        json!([{"sku": "LAMP", "qty": 4}, {"sku": "LAMP", "qty": 3, "line": "gift"}, {"sku": "SHADE", "qty": 3}]);
    service.put("/v1/orders/o1", json!({ "lines": lines })).await.expect(201);
    let before = service.get("/v1/orders/o1").await.expect(200).json();
    let versions = async || (service.version("LAMP").await, service.version("SHADE").await);
    let unchanged = versions().await;
    let too_many = json!([{"sku": "LAMP", "qty": 2}, {"sku": "SHADE", "qty": 4}]);
    refused(ship_lines(&service, "o1", too_many).await, "too-many");
    let twice = json!([{"sku": "LAMP", "qty": 2}, {"sku": "LAMP", "qty": 3}]);
    refused(ship_lines(&service, "o1", twice).await, "too-many");
    let unknown = json!([{"sku": "LAMP", "qty": 2}, {"sku": "SHADE", "line": "gift"}]);
    ship_lines(&service, "o1", unknown).await.expect(404);
    assert_eq!(versions().await, unchanged);
    assert_eq!(service.get("/v1/orders/o1").await.expect(200).json(), before);
    let good = json!([
        {"sku": "SHADE", "qty": 2},
        {"sku": "LAMP", "qty": 1, "batch": "c"},
        {"sku": "LAMP", "line": "gift"},
        {"sku": "LAMP", "qty": 2}
    ]);
    let order = ship_lines(&service, "o1", good).await.expect(200).json();
    assert_eq!(fates(&order), ["allocated: b 1, shipped 3", "shipped: shipped 3", "allocated: s 1, shipped 2"]);
    store.assert_balanced().await;
}

async fn without_a_list_everything_leaves_and_what_waits_goes_on_waiting(on: On) {
    let (store, service) = lamps(on, &[("b", 4, "")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    service.queue_up("o1", 6).await;
    let shades = json!({"lines": [{"sku": "SHADE", "qty": 2}, {"sku": "SHADE", "qty": 3, "line": "gift"}]});
    service.put("/v1/orders/o1", shades).await.expect(201);
    service.delete("/v1/orders/o1/lines/SHADE?line=gift").await.expect(200);
    // No body at all.
    let path = service.program.url("/v1/orders/o1/shipments");
    let order =
        Service::answer(service.client.post(&path).header("Idempotency-Key", new_key())).await.expect(200).json();
    assert_eq!(fates(&order), ["backordered: waiting 2, shipped 4", "shipped: shipped 2"]);
    refused(ship_all(&service, "o1").await, "not-allowed");
    service.batch("LAMP", "b", json!({"qty": 9})).await;
    assert_eq!(service.fate_of("o1", "LAMP").await, "allocated: b 2, shipped 4");
    ship_lines(&service, "o1", json!([])).await.expect(200);
    assert_eq!(service.fate_of("o1", "LAMP").await, "shipped: shipped 6");
    store.assert_balanced().await;
}

async fn a_shipment_of_what_is_unknown_held_or_too_much_is_refused(on: On) {
    let (store, service) = lamps(on, &[("b", 9, ""), ("x", 1, "2031-01-01")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    service.delete("/v1/products/LAMP/batches/x").await.expect(200);
    service.ask("o1", 4, json!({})).await.expect(201);
    ship_all(&service, "none").await.expect(404);
    ship(&service, "none", 1, None).await.expect(404);
    ship(&service, "o1", 1, Some("none")).await.expect(404);
    refused(ship(&service, "o1", 1, Some("x")).await, "not-allowed");
    refused(ship(&service, "o1", 5, None).await, "too-many");
    refused(ship(&service, "o1", 5, Some("b")).await, "too-many");
    ship(&service, "o1", 0, None).await.expect(422);
    // Of an order of which something is held, nothing leaves unless it is named.
    let held = json!({"lines": [{"sku": "SHADE", "qty": 3}], "hold_seconds": 600});
    service.put("/v1/orders/o1", held).await.expect(201);
    refused(ship_all(&service, "o1").await, "not-allowed");
    refused(ship_lines(&service, "o1", json!([{"sku": "LAMP"}, {"sku": "SHADE"}])).await, "not-allowed");
    ship(&service, "o1", 4, None).await.expect(200);
    service.queue_up("w", 9).await;
    ship_all(&service, "w").await.expect(200);
    refused(ship(&service, "w", 1, None).await, "too-many");
    store.assert_balanced().await;
}

// ---- Change and cancel ----

async fn a_line_is_made_no_smaller_than_what_is_shipped_or_locked(on: On) {
    let (store, service) = lamps(on, &[("b", 5, ""), ("c", 3, "2031-01-01")]).await;
    service.queue_up("o1", 9).await;
    ship(&service, "o1", 2, None).await.expect(200);
    pick(&service, "o1").await.expect(200);
    assert_eq!(service.fate("o1").await, "backordered: b 3 (3 locked), c 3, waiting 1, shipped 2");
    let change = async |qty: u64| service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": qty})).await;
    let before = service.version("LAMP").await;
    refused(change(4).await, "too-few");
    assert_eq!(service.version("LAMP").await, before);
    let fate_at = async |qty: u64| fate(&change(qty).await.expect(200).json());
    assert_eq!(fate_at(7).await, "allocated: b 3 (3 locked), c 2, shipped 2", "what waits first, then the latest");
    assert_eq!(fate_at(5).await, "allocated: b 3 (3 locked), shipped 2");
    refused(change(4).await, "too-few");
    unpick(&service, "o1").await.expect(200);
    assert_eq!(fate_at(4).await, "allocated: b 2, shipped 2");
    refused(change(1).await, "too-few");
    assert_eq!(fate_at(2).await, "shipped: shipped 2");
    refused(change(3).await, "not-allowed");
    store.assert_balanced().await;
}

async fn a_line_grows_beside_what_is_being_picked(on: On) {
    let (store, service) = lamps(on, &[("b", 6, ""), ("c", 20, "2031-01-01")]).await;
    service.ask("o1", 3, json!({"split": false})).await.expect(201);
    pick(&service, "o1").await.expect(200);
    let change = async |qty: u64| service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": qty})).await;
    assert_eq!(fate(&change(5).await.expect(200).json()), "allocated: b 5 (3 locked)");
    refused(change(8).await, "out-of-stock");
    unpick(&service, "o1").await.expect(200);
    assert_eq!(fate(&change(8).await.expect(200).json()), "allocated: c 8");
    store.assert_balanced().await;
}

async fn a_line_that_must_stay_whole_gives_up_again_what_was_added_to_it(on: On) {
    let (store, service) = lamps(on, &[("b", 8, "")]).await;
    service.ask("o1", 1, json!({"split": false})).await.expect(201);
    pick(&service, "o1").await.expect(200);
    for (qty, place) in [(8, "allocated: b 8 (1 locked)"), (1, "allocated: b 1 (1 locked)")] {
        let line = service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": qty})).await.expect(200).json();
        assert_eq!(fate(&line), place);
    }
    assert_eq!(batch(&service, "b").await, Some([8, 0, 1, 7]));
    store.assert_balanced().await;
}

async fn an_order_that_is_being_picked_cannot_be_cancelled(on: On) {
    let (store, service) = lamps(on, &[("b", 5, "")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    service.order("o1", &[("LAMP", 3), ("SHADE", 2)]).await.expect(201);
    service.post("/v1/orders/o1/pick", json!({"lines": [{"sku": "SHADE"}]})).await.expect(200);
    for path in ["/v1/orders/o1", "/v1/orders/o1/lines/SHADE"] {
        let problem = service.delete(path).await.expect(409).json();
        assert_eq!(problem["type"], "urn:allocation:problem:not-allowed");
        assert!(problem["detail"].as_str().unwrap().ends_with("it is locked"), "{problem}");
    }
    let order = service.get("/v1/orders/o1").await.expect(200).json();
    assert_eq!(fates(&order), ["allocated: b 3", "allocated: s 2 (2 locked)"]);
    unpick(&service, "o1").await.expect(200);
    let order = service.delete("/v1/orders/o1").await.expect(200).json();
    assert_eq!(fates(&order), ["cancelled: cancelled 3", "cancelled: cancelled 2"]);
    store.assert_balanced().await;
}

async fn an_order_that_left_in_part_is_cancelled_but_for_what_has_left(on: On) {
    let (store, service) = lamps(on, &[("b", 4, "")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    service.queue_up("o1", 6).await;
    service.order("o1", &[("SHADE", 2)]).await.expect(201);
    ship_lines(&service, "o1", json!([{"sku": "LAMP", "qty": 1}, {"sku": "SHADE"}])).await.expect(200);
    let before = service.version("LAMP").await;
    let order = service.delete("/v1/orders/o1").await.expect(200).json();
    assert_eq!(fates(&order), ["shipped: cancelled 5, shipped 1", "shipped: shipped 2"]);
    assert_eq!(service.get("/v1/orders/o1").await.expect(200).json(), order);
    assert_eq!(service.history("LAMP", before).await, ["line_deallocated o1 3 b released", "line_cancelled o1 5"]);
    for path in ["/v1/orders/o1", "/v1/orders/o1/lines/LAMP", "/v1/orders/o1/lines/SHADE"] {
        refused(service.delete(path).await, "not-allowed");
    }
    // All that could be cancelled has been, and something has left.
    service.order("o2", &[("LAMP", 2), ("SHADE", 2)]).await.expect(201);
    service.delete("/v1/orders/o2/lines/LAMP").await.expect(200);
    ship_all(&service, "o2").await.expect(200);
    refused(service.delete("/v1/orders/o2").await, "not-allowed");
    service.delete("/v1/orders/o2/lines/LAMP").await.expect(200);
    store.assert_balanced().await;
}

// ---- Returns ----

async fn no_more_comes_back_than_has_left(on: On) {
    let (store, service) = lamps(on, &[("b", 9, "")]).await;
    service.batch("SHADE", "s", json!({"qty": 9})).await;
    service.order("o1", &[("LAMP", 6), ("SHADE", 2)]).await.expect(201);
    refused(bring_back(&service, "o1", 1, json!({})).await, "not-allowed");
    ship_lines(&service, "o1", json!([{"sku": "LAMP", "qty": 4}, {"sku": "SHADE"}])).await.expect(200);
    refused(bring_back(&service, "o1", 5, json!({})).await, "too-many");
    bring_back(&service, "o1", 3, json!({})).await.expect(200);
    refused(bring_back(&service, "o1", 2, json!({})).await, "too-many");
    bring_back(&service, "o1", 0, json!({})).await.expect(422);
    bring_back(&service, "none", 1, json!({})).await.expect(404);
    // All of them or none.
    let before = (service.version("LAMP").await, service.version("SHADE").await);
    let lines = async |lines: Value| service.post_new("/v1/orders/o1/returns", json!({ "lines": lines })).await;
    refused(lines(json!([{"sku": "LAMP", "qty": 1}, {"sku": "SHADE", "qty": 3}])).await, "too-many");
    refused(lines(json!([{"sku": "LAMP", "qty": 1}, {"sku": "LAMP", "qty": 1}])).await, "too-many");
    lines(json!([{"sku": "LAMP", "qty": 1}, {"sku": "NONE", "qty": 1}])).await.expect(404);
    lines(json!([])).await.expect(422);
    lines(json!([{"sku": "LAMP"}])).await.expect(422);
    lines(json!([{"sku": "LAMP", "qty": 1, "to": "shelf"}])).await.expect(422);
    assert_eq!((service.version("LAMP").await, service.version("SHADE").await), before);
    let order = lines(json!([{"sku": "LAMP", "qty": 1}, {"sku": "SHADE", "qty": 2}])).await.expect(200).json();
    assert_eq!(fates(&order), ["allocated: b 2, shipped 4, returned 4", "shipped: shipped 2, returned 2"]);
    refused(bring_back(&service, "o1", 1, json!({})).await, "too-many");
    store.assert_balanced().await;
}

async fn returned_units_are_set_aside_restocked_or_scrapped(on: On) {
    let (store, service) = lamps(on, &[("b", 6, "")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    ship_all(&service, "o1").await.expect(200);
    service.queue_up("w", 2).await;
    assert_eq!(batch(&service, "b").await, None);
    let before = service.version("LAMP").await;
    bring_back(&service, "o1", 1, json!({"to": "scrap"})).await.expect(200);
    assert_eq!(batch(&service, "b").await, None);
    bring_back(&service, "o1", 2, json!({})).await.expect(200);
    assert_eq!(batch(&service, "b").await, Some([2, 2, 0, 0]));
    assert_eq!(service.fate("w").await, "backordered: waiting 2", "what is set aside is for nobody");
    bring_back(&service, "o1", 3, json!({"to": "restock"})).await.expect(200);
    assert_eq!(batch(&service, "b").await, Some([5, 2, 2, 1]));
    assert_eq!(service.fate("w").await, "allocated: b 2");
    assert_eq!(service.fate("o1").await, "shipped: shipped 6, returned 6");
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "line_returned o1 1 b scrap",
            "line_returned o1 2 b quarantine",
            "line_returned o1 3 b restock",
            "line_allocated w 2 b",
        ]
    );
    store.assert_balanced().await;
}

async fn what_comes_back_goes_where_it_came_from_or_into_the_batch_that_is_named(on: On) {
    let (store, service) = lamps(on, &[("b", 3, ""), ("c", 3, ""), ("d", 1, "")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    ship(&service, "o1", 2, Some("c")).await.expect(200);
    ship_all(&service, "o1").await.expect(200);
    assert_eq!(shipments(&service, "o1").await, ["c 2 0", "b 3 0"]);
    bring_back(&service, "o1", 1, json!({"batch": "b"})).await.expect(200);
    assert_eq!(shipments(&service, "o1").await, ["c 2 0", "b 3 1"], "its own first");
    bring_back(&service, "o1", 1, json!({"batch": "d", "to": "restock"})).await.expect(200);
    assert_eq!(shipments(&service, "o1").await, ["c 2 1", "b 3 1"], "then the first that left");
    assert_eq!(batch(&service, "d").await, Some([2, 0, 0, 2]));
    bring_back(&service, "o1", 2, json!({})).await.expect(200);
    assert_eq!(shipments(&service, "o1").await, ["c 2 2", "b 3 2"]);
    assert_eq!((batch(&service, "b").await, batch(&service, "c").await), (Some([2, 2, 0, 0]), Some([2, 1, 0, 1])));
    store.assert_balanced().await;
}

async fn nothing_comes_back_into_a_batch_that_has_not_arrived(on: On) {
    let (store, service) = lamps(on, &[("b", 3, ""), ("c", 3, "2031-01-01"), ("x", 3, "2031-01-01")]).await;
    service.delete("/v1/products/LAMP/batches/x").await.expect(200);
    service.ask("o1", 3, json!({})).await.expect(201);
    ship_all(&service, "o1").await.expect(200);
    let before = service.version("LAMP").await;
    for to in ["quarantine", "restock", "scrap"] {
        refused(bring_back(&service, "o1", 1, json!({"batch": "c", "to": to})).await, "not-allowed");
        refused(bring_back(&service, "o1", 1, json!({"batch": "x", "to": to})).await, "not-allowed");
        bring_back(&service, "o1", 1, json!({"batch": "none", "to": to})).await.expect(404);
    }
    assert_eq!(service.version("LAMP").await, before);
    store.assert_balanced().await;
}

async fn a_shipped_line_does_not_reopen(on: On) {
    let (store, service) = lamps(on, &[("b", 3, "")]).await;
    service.ask("o1", 3, json!({})).await.expect(201);
    ship_all(&service, "o1").await.expect(200);
    bring_back(&service, "o1", 3, json!({"to": "restock"})).await.expect(200);
    let before = (service.lines("o1").await, service.version("LAMP").await);
    service.ask("o1", 3, json!({})).await.expect(200);
    service.ask("o1", 4, json!({})).await.expect(409);
    service.post("/v1/orders/o1/confirm", json!({})).await.expect(200);
    refused(service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": 4})).await, "not-allowed");
    refused(ship(&service, "o1", 1, None).await, "not-allowed");
    refused(pick(&service, "o1").await, "not-allowed");
    refused(service.delete("/v1/orders/o1").await, "not-allowed");
    assert_eq!((service.lines("o1").await, service.version("LAMP").await), before);
    assert_eq!(service.fate("o1").await, "shipped: shipped 3, returned 3");
    let listed = service.get("/v1/products/LAMP/lines?state=shipped").await.expect(200).json();
    assert_eq!(listed["lines"], json!(service.lines("o1").await));
    store.assert_balanced().await;
}

async fn a_line_that_left_in_part_takes_returns_and_stays_what_it_is(on: On) {
    let (store, service) = lamps(on, &[("b", 6, "")]).await;
    service.ask("o1", 3, json!({})).await.expect(201);
    service.queue_up("o2", 6).await;
    for (order_id, before, after) in [
        ("o1", "allocated: b 2, shipped 1", "allocated: b 2, shipped 1, returned 1"),
        ("o2", "backordered: b 2, waiting 3, shipped 1", "backordered: b 2, waiting 3, shipped 1, returned 1"),
    ] {
        ship(&service, order_id, 1, None).await.expect(200);
        assert_eq!(service.fate(order_id).await, before);
        bring_back(&service, order_id, 1, json!({})).await.expect(200);
        assert_eq!(service.fate(order_id).await, after);
    }
    store.assert_balanced().await;
}

// ---- Events ----

async fn every_event_of_the_floor_is_told_once(on: On) {
    let (store, service) = lamps(on, &[("b", 9, "")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    let path = "/v1/products/LAMP/batches/b";
    pick(&service, "o1").await.expect(200);
    unpick(&service, "o1").await.expect(200);
    ship(&service, "o1", 3, None).await.expect(200);
    bring_back(&service, "o1", 1, json!({})).await.expect(200);
    service.post(&format!("{path}/quarantine"), json!({"qty": 2})).await.expect(200);
    service.post(&format!("{path}/release"), json!({"qty": 3})).await.expect(200);
    let found = json!({"kind": "found", "qty": 2, "reason": "behind the shelf"});
    service.post_new(&format!("{path}/adjustments"), found).await.expect(200);
    let events = service.events_of("LAMP", 2).await;
    let told: Vec<_> = events.iter().map(|event| (event["type"].as_str().unwrap(), event["data"].clone())).collect();
    let of_line = |qty: u64| json!({"order_id": "o1", "line": "1", "qty": qty, "ref": "b", "accepted": 2});
    assert_eq!(
        told,
        [
            ("allocation.line_locked.v1", of_line(5)),
            ("allocation.line_unlocked.v1", of_line(5)),
            ("allocation.line_shipped.v1", of_line(3)),
            (
                "allocation.line_returned.v1",
                json!({"order_id": "o1", "line": "1", "qty": 1, "ref": "b", "to": "quarantine"})
            ),
            ("allocation.batch_quarantined.v1", json!({"ref": "b", "qty": 2})),
            ("allocation.batch_released.v1", json!({"ref": "b", "qty": 3})),
            (
                "allocation.batch_adjusted.v1",
                json!({"ref": "b", "kind": "found", "from": 7, "to": 9, "reason": "behind the shelf"})
            ),
        ]
    );
    let sequences: Vec<_> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (3..=service.version("LAMP").await).collect::<Vec<_>>());
    store.assert_balanced().await;
}

async fn what_was_damaged_is_found_and_mended_from_the_events(on: On) {
    let (store, service) = lamps(on, &[("b", 9, ""), ("c", 2, "")]).await;
    service.ask("o1", 8, json!({})).await.expect(201);
    ship(&service, "o1", 3, None).await.expect(200);
    ship(&service, "o1", 1, Some("c")).await.expect(200);
    bring_back(&service, "o1", 2, json!({})).await.expect(200);
    pick(&service, "o1").await.expect(200);
    let read = async || (service.lines("o1").await, service.product("LAMP").await["batches"].clone());
    let damages = [
        ("UPDATE batches SET quarantined = 0 WHERE reference = 'b'", "batch b"),
        ("UPDATE batches SET declared = declared + 1 WHERE reference = 'c'", "batch c"),
        ("UPDATE parts SET locked = false", "order o1"),
        ("UPDATE shipments SET returned = returned - 1 WHERE batch = 'b'", "order o1"),
        ("UPDATE shipments SET batch = 'c' WHERE batch = 'b'", "order o1"),
        ("DELETE FROM shipments", "order o1"),
    ];
    store.assert_mended(&damages, read).await;
}
