//! Batches appear, shrink, move in time, arrive and fall away: rules 15, 16, 17, 27 and 28, and the states of a batch.

use serde_json::{Value, json};

use crate::support::{Answer, On, Service, displaced, fate, lamps, on_both_stores, today};

on_both_stores!(
    a_declaration_is_a_total_and_the_same_again_does_nothing,
    a_date_left_out_changes_nothing_and_none_means_arrived,
    holds_lose_their_place_first_then_the_lowest_seniority_and_only_units_that_are_lacking,
    a_line_that_must_stay_whole_loses_its_whole_placement,
    losers_take_free_stock_and_never_anothers_place,
    a_hold_that_loses_its_place_is_kept_whole_or_not_at_all,
    promises_follow_their_batch_when_its_date_moves,
    a_batch_that_comes_earlier_takes_its_promises_with_it,
    a_promise_that_is_spread_over_batches_tells_of_its_latest_day,
    released_units_look_for_no_other_batch_and_displaced_ones_do,
    a_cut_is_told_in_order_and_by_seniority,
    a_receipt_in_full_makes_a_batch_on_hand,
    a_receipt_in_part_keeps_the_rest_expected_as_a_batch_of_its_own,
    a_receipt_in_part_may_cancel_the_rest,
    more_may_come_than_was_expected,
    the_rest_of_a_receipt_needs_a_free_name,
    a_cancelled_batch_gives_up_its_lines_and_never_comes_back,
    a_batch_obeys_the_table_of_its_states,
);

/// Says that so many units of an expected batch have come.
async fn receipt(service: &Service, reference: &str, body: Value) -> Answer {
    service.post(&format!("/v1/products/LAMP/batches/{reference}/receipts"), body).await
}

async fn a_declaration_is_a_total_and_the_same_again_does_nothing(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    let numbers = async |qty: u64| {
        let batch = service.batch("LAMP", "b", json!({"qty": qty})).await;
        ["qty", "allocated", "free"].map(|name| batch[name].as_u64().unwrap())
    };
    assert_eq!(numbers(12).await, [12, 4, 8]);
    let version = service.version("LAMP").await;
    assert_eq!(numbers(12).await, [12, 4, 8]);
    assert_eq!(service.version("LAMP").await, version, "nothing has happened");
    assert_eq!(numbers(4).await, [4, 4, 0]);
    assert_eq!(numbers(0).await, [0, 0, 0]);
    assert_eq!(service.fate("o1").await, "backordered: waiting 4");
    assert_eq!(numbers(5).await, [5, 4, 1]);
    service.put("/v1/products/LAMP/batches/b", json!({"qty": -1})).await.expect(422);
    store.assert_balanced().await;
}

async fn a_date_left_out_changes_nothing_and_none_means_arrived(on: On) {
    let (_store, service) = lamps(on, &[("b", 10, "2031-01-01")]).await;
    let path = "/v1/products/LAMP/batches/b";
    let put = async |body: Value, status: u16| {
        let batch = service.put(path, body).await.expect(status).json();
        (batch["qty"].clone(), batch["eta"].clone(), batch["state"].clone())
    };
    assert_eq!(put(json!({"qty": 11}), 200).await, (json!(11), json!("2031-01-01"), json!("expected")));
    assert_eq!(put(json!({"qty": 12, "eta": null}), 200).await, (json!(12), Value::Null, json!("on_hand")));
    put(json!({"qty": 20, "eta": "2031-01-01"}), 409).await;
    assert_eq!(
        put(json!({"qty": 12}), 200).await,
        (json!(12), Value::Null, json!("on_hand")),
        "no half of it was done"
    );
    // Left out of a new batch, it is on hand.
    let new = service.put("/v1/products/LAMP/batches/c", json!({"qty": 1})).await.expect(201).json();
    assert_eq!((&new["eta"], &new["state"]), (&Value::Null, &json!("on_hand")));
}

async fn holds_lose_their_place_first_then_the_lowest_seniority_and_only_units_that_are_lacking(on: On) {
    let (store, service) = lamps(on, &[("b", 30, "")]).await;
    service.ask("o1", 10, json!({})).await.expect(201);
    service.ask("o2", 10, json!({"priority": 5})).await.expect(201);
    service.ask("h", 5, json!({"priority": 9, "hold_seconds": 600})).await.expect(201);
    let cut = async |qty: u64| displaced(&service.batch("LAMP", "b", json!({"qty": qty})).await);
    assert!(cut(25).await.is_empty(), "free units go first");
    assert_eq!(cut(23).await, ["h 2: lapsed"]);
    assert_eq!(service.fate("h").await, "lapsed: lapsed 5");
    assert!(cut(20).await.is_empty(), "what the hold had is free");
    assert_eq!(cut(16).await, ["o1 4: waiting 4"]);
    assert_eq!(service.fate("o1").await, "backordered: b 6, waiting 4");
    assert_eq!(cut(5).await, ["o2 5: waiting 5", "o1 6: waiting 6"]);
    assert_eq!(service.fate("o2").await, "backordered: b 5, waiting 5");
    assert!(cut(9).await.is_empty());
    assert_eq!(service.fate("o2").await, "backordered: b 9, waiting 1", "the first to get it back");
    // Of one priority, what was accepted last goes first.
    service.batch("LAMP", "c", json!({"qty": 20, "eta": "2031-01-01"})).await;
    service.ask("o3", 4, json!({"by": "2031-01-01"})).await.expect(201);
    let cut = async |qty: u64| displaced(&service.batch("LAMP", "c", json!({"qty": qty})).await);
    assert_eq!(cut(13).await, ["o3 2: waiting 2"]);
    assert_eq!(cut(9).await, ["o1 2: waiting 2", "o3 2: waiting 2"]);
    store.assert_balanced().await;
}

async fn a_line_that_must_stay_whole_loses_its_whole_placement(on: On) {
    let (store, service) = lamps(on, &[("b", 20, "")]).await;
    service.ask("o1", 10, json!({})).await.expect(201);
    service.ask("whole", 10, json!({"split": false})).await.expect(201);
    let cut = service.batch("LAMP", "b", json!({"qty": 19})).await;
    assert_eq!(displaced(&cut), ["whole 10: waiting 10"]);
    assert_eq!((&cut["allocated"], &cut["free"]), (&json!(10), &json!(9)), "for others to take");
    let room = service.batch("LAMP", "c", json!({"qty": 10, "eta": "2031-01-01"})).await;
    assert_eq!((&room["allocated"], &room["free"]), (&json!(10), &json!(0)));
    assert_eq!(service.fate("whole").await, "allocated: c 10");
    store.assert_balanced().await;
}

async fn losers_take_free_stock_and_never_anothers_place(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.ask("o1", 10, json!({"priority": 5})).await.expect(201);
    service.batch("LAMP", "c", json!({"qty": 10, "eta": "2031-01-01"})).await;
    service.ask("o2", 7, json!({"priority": -5})).await.expect(201);
    let cut = service.batch("LAMP", "b", json!({"qty": 4})).await;
    assert_eq!(displaced(&cut), ["o1 6: c 3 waiting 3"]);
    assert_eq!(service.fate("o1").await, "backordered: b 4, c 3, waiting 3");
    assert_eq!(service.fate("o2").await, "allocated: c 7");
    store.assert_balanced().await;
}

async fn a_hold_that_loses_its_place_is_kept_whole_or_not_at_all(on: On) {
    let (store, service) = lamps(on, &[("b", 6, ""), ("c", 3, "2031-01-01")]).await;
    service.ask("h", 6, json!({"hold_seconds": 600})).await.expect(201);
    let until = service.lines("h").await[0]["held_until"].clone();
    let cut = service.batch("LAMP", "b", json!({"qty": 3})).await;
    assert_eq!(displaced(&cut), ["h 3: c 3"]);
    let line = &service.lines("h").await[0];
    assert_eq!((fate(line).as_str(), &line["held_until"]), ("held: b 3, c 3", &until));
    let before = service.version("LAMP").await;
    assert_eq!(displaced(&service.batch("LAMP", "b", json!({"qty": 2})).await), ["h 1: lapsed"]);
    assert_eq!(service.fate("h").await, "lapsed: lapsed 6");
    assert_eq!(service.product("LAMP").await["promisable"], 5);
    let told = service.history("LAMP", before).await;
    assert_eq!(told[0], "batch_quantity_changed b 3 2");
    assert_eq!(told.last().unwrap(), "hold_lost h 6");
    store.assert_balanced().await;
}

async fn promises_follow_their_batch_when_its_date_moves(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-01-01")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    service.ask("o3", 2, json!({"by": "2031-01-15"})).await.expect(201);
    service.batch("LAMP", "c", json!({"qty": 4, "eta": "2031-02-01"})).await;
    let before = service.version("LAMP").await;
    let moved = service.batch("LAMP", "b", json!({"qty": 10, "eta": "2031-03-01"})).await;
    assert_eq!(displaced(&moved), ["o3 2: waiting 2"], "past its day");
    let promised = async |order_id: &str| {
        let line = &service.lines(order_id).await[0];
        format!("{}, {}", fate(line), line["promised_date"].as_str().unwrap_or("no day"))
    };
    assert_eq!(promised("o1").await, "allocated: c 4, 2031-02-01", "the first to be offered what comes earlier");
    assert_eq!(promised("o2").await, "allocated: b 4, 2031-03-01");
    assert_eq!(promised("o3").await, "backordered: waiting 2, no day");
    let told = service.history("LAMP", before).await;
    assert_eq!(told[0], "batch_eta_changed b 2031-01-01 2031-03-01");
    assert!(told[1].starts_with("line_deallocated o1 4 b"), "{told:?}");
    assert_eq!(
        told[2..],
        [
            "line_deallocated o3 2 b displaced",
            "line_allocated o1 4 c",
            "line_backordered o3 2 displaced",
            "promise_changed o1 2031-01-01 2031-02-01",
            "promise_changed o2 2031-01-01 2031-03-01",
            "promise_changed o3 2031-01-01 none",
        ]
    );
    store.assert_balanced().await;
}

async fn a_batch_that_comes_earlier_takes_its_promises_with_it(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-03-01"), ("c", 4, "2031-02-01")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("o2", 6, json!({})).await.expect(201);
    service.ask("w", 2, json!({"by": "2031-01-15", "when_short": "backorder"})).await.expect(201);
    let before = service.version("LAMP").await;
    service.batch("LAMP", "b", json!({"qty": 10, "eta": "2031-01-10"})).await;
    assert_eq!(service.fate("o1").await, "allocated: c 4", "no promise changes its batch unasked");
    assert_eq!(service.lines("o2").await[0]["promised_date"], "2031-01-10");
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "batch_eta_changed b 2031-03-01 2031-01-10",
            "promise_changed o2 2031-03-01 2031-01-10",
            "line_allocated w 2 b"
        ]
    );
    let before = service.version("LAMP").await;
    service.batch("LAMP", "b", json!({"qty": 10, "eta": null})).await;
    assert_eq!(
        service.history("LAMP", before).await,
        ["batch_eta_changed b 2031-01-10"],
        "arrival alone changes no promise"
    );
    assert!(service.lines("o2").await[0]["promised_date"].as_str().unwrap() <= today(0).as_str());
    store.assert_balanced().await;
}

async fn a_promise_that_is_spread_over_batches_tells_of_its_latest_day(on: On) {
    let (store, service) = lamps(on, &[("b", 10, ""), ("c", 10, "2031-01-01")]).await;
    service.ask("o1", 10, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    service.batch("LAMP", "b", json!({"qty": 5})).await;
    assert_eq!(service.lines("o1").await[0]["promised_date"], "2031-01-01");
    assert_eq!(service.history("LAMP", before).await.last().unwrap(), "promise_changed o1 on_hand 2031-01-01");
    service.batch("LAMP", "c", json!({"qty": 10, "eta": "2031-02-01"})).await;
    assert_eq!(service.lines("o1").await[0]["promised_date"], "2031-02-01");
    store.assert_balanced().await;
}

async fn released_units_look_for_no_other_batch_and_displaced_ones_do(on: On) {
    let (store, service) = lamps(on, &[("b", 10, ""), ("c", 10, "2031-01-01")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    service.ask("o2", 5, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    service.delete("/v1/orders/o2").await.expect(200);
    service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": 4})).await.expect(200);
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    let told = service.history("LAMP", before).await;
    let deallocated: Vec<_> = told.iter().filter(|event| event.starts_with("line_deallocated")).collect();
    assert_eq!(
        deallocated,
        ["line_deallocated o2 5 b released", "line_deallocated o1 1 b released", "line_deallocated o1 3 b displaced"]
    );
    let allocated: Vec<_> = told.iter().filter(|event| event.starts_with("line_allocated")).collect();
    assert_eq!(allocated, ["line_allocated o1 3 c"]);
    store.assert_balanced().await;
}

async fn a_cut_is_told_in_order_and_by_seniority(on: On) {
    let (store, service) = lamps(on, &[("b", 12, "")]).await;
    service.ask("o1", 4, json!({"priority": -1})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    service.ask("o3", 4, json!({})).await.expect(201);
    service.batch("LAMP", "c", json!({"qty": 6, "eta": "2031-01-01"})).await;
    let before = service.version("LAMP").await;
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "batch_quantity_changed b 12 1",
            "line_deallocated o2 3 b displaced",
            "line_deallocated o3 4 b displaced",
            "line_deallocated o1 4 b displaced",
            "line_allocated o2 3 c",
            "line_allocated o3 3 c",
            "line_backordered o3 1 displaced",
            "line_backordered o1 4 displaced",
            "promise_changed o2 on_hand 2031-01-01",
            "promise_changed o3 on_hand none",
            "promise_changed o1 on_hand none",
        ]
    );
    let before = service.version("LAMP").await;
    service.delete("/v1/orders/o2").await.expect(200);
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "line_deallocated o2 1 b released",
            "line_deallocated o2 3 c released",
            "line_cancelled o2 4",
            "line_allocated o3 1 b",
            "line_allocated o1 3 c",
        ],
        "then those who wait"
    );
    store.assert_balanced().await;
}

async fn a_receipt_in_full_makes_a_batch_on_hand(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-01-01")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    let received = receipt(&service, "b", json!({"qty": 10})).await.expect(200);
    assert!(received.headers.contains_key("etag"));
    let received = received.json();
    assert_eq!(
        received,
        json!({
            "sku": "LAMP", "ref": "b", "location": "default", "qty": 10, "units": 10, "unavailable": 0, "state": "on_hand",
            "eta": null, "expires_on": null, "held": 0, "allocated": 6, "free": 4, "displaced": [], "displaced_total": 0
        })
    );
    assert_eq!(
        service.history("LAMP", before).await,
        ["batch_received 10 b 10 keep"],
        "arrival alone changes no promise"
    );
    assert_eq!(service.product("LAMP").await["available"], 4);
    store.assert_balanced().await;
}

async fn a_receipt_in_part_keeps_the_rest_expected_as_a_batch_of_its_own(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-01-01")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    let received = receipt(&service, "b", json!({"qty": 7, "rest": "keep"})).await.expect(200).json();
    assert_eq!((&received["qty"], &received["state"]), (&json!(7), &json!("on_hand")));
    let rest = &received["rest"];
    assert_eq!(
        (&rest["ref"], &rest["qty"], &rest["state"], &rest["eta"]),
        (&json!("b~2"), &json!(3), &json!("expected"), &json!("2031-01-01"))
    );
    assert_eq!(displaced(&received), ["o2 3: b~2 3"]);
    assert_eq!(service.fate("o1").await, "allocated: b 6");
    assert_eq!(service.fate("o2").await, "allocated: b 1, b~2 3");
    assert_eq!(service.lines("o2").await[0]["promised_date"], "2031-01-01");
    // The rest may come in parts as well.
    let second = receipt(&service, "b~2", json!({"qty": 1})).await.expect(200).json();
    assert_eq!((&second["rest"]["ref"], &second["rest"]["qty"]), (&json!("b~3"), &json!(2)));
    assert_eq!(service.fate("o2").await, "allocated: b 1, b~2 1, b~3 2");
    receipt(&service, "b~3", json!({"qty": 2})).await.expect(200);
    let product = service.product("LAMP").await;
    assert_eq!((&product["on_hand"], &product["incoming"]), (&json!(10), &json!(0)));
    store.assert_balanced().await;
}

async fn a_receipt_in_part_may_cancel_the_rest(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-01-01")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    service.ask("h", 4, json!({"hold_seconds": 600})).await.expect(201);
    let received = receipt(&service, "b", json!({"qty": 5, "rest": "cancel"})).await.expect(200).json();
    assert_eq!(received.get("rest"), None);
    assert_eq!(displaced(&received), ["o1 1: waiting 1", "h 4: lapsed"]);
    let product = service.product("LAMP").await;
    assert_eq!((&product["on_hand"], &product["incoming"]), (&json!(5), &json!(0)));
    store.assert_balanced().await;
}

async fn more_may_come_than_was_expected(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-01-01")]).await;
    service.queue_up("o1", 14).await;
    let received = receipt(&service, "b", json!({"qty": 15})).await.expect(200).json();
    assert_eq!((&received["qty"], &received["allocated"], &received["free"]), (&json!(15), &json!(14), &json!(1)));
    assert_eq!(received.get("rest"), None);
    assert_eq!(service.fate("o1").await, "allocated: b 14");
    store.assert_balanced().await;
}

async fn the_rest_of_a_receipt_needs_a_free_name(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-01-01"), ("b~2", 5, "")]).await;
    let refused = receipt(&service, "b", json!({"qty": 7})).await.expect(409).json();
    assert_eq!(refused["type"], "urn:allocation:problem:batch-exists");
    assert_eq!(service.product("LAMP").await["incoming"], 10, "nothing has come");
    receipt(&service, "b", json!({"qty": 7, "rest": "cancel"})).await.expect(200);
    store.assert_balanced().await;
}

async fn a_cancelled_batch_gives_up_its_lines_and_never_comes_back(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "2031-01-01"), ("c", 4, "2031-02-01")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    let before = service.version("LAMP").await;
    let cancelled = service.delete("/v1/products/LAMP/batches/b").await.expect(200).json();
    assert_eq!((&cancelled["state"], &cancelled["qty"]), (&json!("cancelled"), &json!(0)));
    assert_eq!(displaced(&cancelled), ["o1 6: c 4 waiting 2", "o2 4: waiting 4"]);
    assert_eq!(
        service.history("LAMP", before).await[..3],
        ["batch_cancelled 10 b", "line_deallocated o1 6 b displaced", "line_deallocated o2 4 b displaced"]
    );
    assert_eq!(service.product("LAMP").await["batches"].as_array().unwrap().len(), 1);
    service.ask("o3", 1, json!({})).await.expect(409);
    service.post("/add_batch", json!({"ref": "b", "sku": "LAMP", "qty": 10, "eta": "2031-01-01"})).await.expect(400);
    service.delete("/v1/products/LAMP/batches/none").await.expect(404);
    service.delete("/v1/products/NONE/batches/b").await.expect(422);
    store.assert_balanced().await;
}

async fn a_batch_obeys_the_table_of_its_states(on: On) {
    let (store, service) = lamps(on, &[]).await;
    // What becomes of a batch that is expected, on hand, cancelled: status, state, and what has happened.
    let table = [
        ("PUT same", ["200 expected", "200 on_hand", "409 cancelled"]),
        (
            "PUT qty",
            [
                "200 expected: batch_quantity_changed b 10 12",
                "200 on_hand: batch_quantity_changed b 10 12",
                "409 cancelled",
            ],
        ),
        ("PUT eta", ["200 expected: batch_eta_changed b 2031-01-01 2031-02-01", "409 on_hand", "409 cancelled"]),
        ("PUT arrived", ["200 on_hand: batch_eta_changed b 2031-01-01", "200 on_hand", "409 cancelled"]),
        ("receipt", ["200 on_hand: batch_received 10 b 10 keep", "409 on_hand", "409 cancelled"]),
        ("DELETE", ["200 cancelled: batch_cancelled 10 b", "409 on_hand", "200 cancelled"]),
        ("quarantine", ["409 expected", "200 on_hand: batch_quarantined 4 b", "409 cancelled"]),
        ("release", ["409 expected", "200 on_hand: batch_released 2 b", "409 cancelled"]),
        ("adjustment", ["409 expected", "200 on_hand: batch_adjusted b damaged 10 9 fell", "409 cancelled"]),
        ("return", ["409 expected", "200 on_hand: line_returned o1 3 b quarantine", "409 cancelled"]),
        (
            "ship",
            [
                "409 expected",
                "200 on_hand: line_deallocated o1 3 z released, line_allocated o1 3 b, line_shipped o1 3 b",
                "409 cancelled",
            ],
        ),
    ];
    for (row, (command, cells)) in table.into_iter().enumerate() {
        for (state, wanted) in ["expected", "on_hand", "cancelled"].into_iter().zip(cells) {
            let sku = format!("{state}-{row}");
            let path = format!("/v1/products/{sku}/batches/b");
            let eta = (state != "on_hand").then_some("2031-01-01");
            let of_o1 = json!({"lines": [{"sku": sku, "qty": 3, "batch": "b"}]});
            if ["return", "ship"].contains(&command) {
                service.batch(&sku, "z", json!({"qty": 5})).await;
                service.order("o1", &[(&sku, 3)]).await.expect(201);
            }
            if command == "return" {
                let from_z = json!({"lines": [{"sku": sku}]});
                service.post_new("/v1/orders/o1/shipments", from_z).await.expect(200);
            }
            service.put(&path, json!({"qty": 10, "eta": eta})).await.expect(201);
            if state == "cancelled" {
                service.delete(&path).await.expect(200);
            }
            if (command, state) == ("release", "on_hand") {
                service.post(&format!("{path}/quarantine"), json!({"qty": 2})).await.expect(200);
            }
            let before = service.version(&sku).await;
            let answer = match command {
                "PUT same" => service.put(&path, json!({"qty": 10, "eta": eta})).await,
                "PUT qty" => service.put(&path, json!({"qty": 12})).await,
                "PUT eta" => service.put(&path, json!({"qty": 10, "eta": "2031-02-01"})).await,
                "PUT arrived" => service.put(&path, json!({"qty": 10, "eta": null})).await,
                "receipt" => service.post(&format!("{path}/receipts"), json!({"qty": 10})).await,
                "quarantine" => service.post(&format!("{path}/quarantine"), json!({"qty": 4})).await,
                "release" => service.post(&format!("{path}/release"), json!({})).await,
                "adjustment" => {
                    let fell = json!({"kind": "damaged", "qty": 1, "reason": "fell"});
                    service.post_new(&format!("{path}/adjustments"), fell).await
                }
                "return" => service.post_new("/v1/orders/o1/returns", of_o1).await,
                "ship" => service.post_new("/v1/orders/o1/shipments", of_o1).await,
                _ => service.delete(&path).await,
            };
            let answered = answer.json();
            if answer.status == 409 && (command, state) == ("ship", "expected") {
                assert_eq!(answered["type"], "urn:allocation:problem:not-on-hand");
            } else if answer.status == 409 {
                assert_eq!(answered["type"], "urn:allocation:problem:not-allowed");
                assert!(answered["detail"].as_str().unwrap().ends_with(&format!("it is {state}")), "{answered}");
            }
            // A batch that is not listed has nothing in it any more.
            let product = service.product(&sku).await;
            let listed = product["batches"].as_array().unwrap().iter().find(|batch| batch["ref"] == "b");
            let after = listed.map_or("cancelled", |batch| batch["state"].as_str().unwrap());
            let mut told = format!("{} {after}", answer.status.as_u16());
            let events = service.history(&sku, before).await;
            if !events.is_empty() {
                told = format!("{told}: {}", events.join(", "));
            }
            assert_eq!(told, wanted, "{command} of a batch that is {state}");
        }
    }
    store.assert_balanced().await;
}
