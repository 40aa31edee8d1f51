//! Free units go from one location to another: transfers, their ledger and their keys.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::support::{Answer, On, Service, Store, at_once, faulty, lamps, on_both_stores, refused, today};

on_both_stores!(
    units_leave_one_batch_and_are_expected_at_the_other_location,
    a_transfer_comes_like_any_batch,
    what_was_sent_is_declared_no_less,
    the_ledgers_of_both_batches_say_so,
    no_more_than_is_free_goes_whether_it_is_safety_stock_or_not,
    only_what_is_on_hand_can_be_sent,
    what_is_refused_is_refused_by_name_and_changes_nothing,
    what_makes_no_sense_is_told_by_field,
    a_transfer_without_a_key_is_refused,
    the_same_transfer_again_acts_once_and_is_answered_with_the_present_state,
    a_key_stands_for_one_transfer,
    a_refused_transfer_does_not_use_its_key_up,
    of_many_at_the_same_time_one_acts,
    whoever_waits_for_the_other_location_is_served,
    what_is_little_is_told_of_the_location_that_units_leave,
);

const TRANSFERS: &str = "/v1/transfers";

/// So many lamps of batch `n` go to south, and are batch `t` there.
fn to_south(qty: u64) -> Value {
    json!({"sku": "LAMP", "from": "n", "qty": qty, "to": "south", "ref": "t", "eta": "2031-01-01"})
}

async fn send(service: &Service, with: Value) -> Answer {
    let mut body = to_south(4);
    for (name, value) in with.as_object().unwrap() {
        body[name] = value.clone();
    }
    service.post_new(TRANSFERS, body).await
}

/// Ten lamps at north, three of which are for an order.
async fn ten_at_north(on: On) -> (Store, Service) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("north", "n", 10, "").await;
    service.ask("o1", 3, json!({})).await.expect(201);
    (store, service)
}

/// A batch: what was declared; its units, and how many of them are allocated and free.
async fn batch(service: &Service, reference: &str) -> [u64; 4] {
    let product = service.product("LAMP").await;
    let batch = product["batches"].as_array().unwrap().iter().find(|batch| batch["ref"] == reference).unwrap().clone();
    ["qty", "units", "allocated", "free"].map(|name| batch[name].as_u64().unwrap())
}

async fn units_leave_one_batch_and_are_expected_at_the_other_location(on: On) {
    let (store, service) = ten_at_north(on).await;
    service.batch("LAMP", "n", json!({"qty": 10, "expires_on": "2032-01-01"})).await;
    let before = service.version("LAMP").await;
    let sent = send(&service, json!({})).await.expect(201);
    assert!(sent.headers.contains_key("etag"));
    assert_eq!(
        sent.json(),
        json!({
            "sku": "LAMP", "ref": "t", "location": "south", "qty": 4, "units": 4, "unavailable": 0, "state": "expected",
            "eta": "2031-01-01", "expires_on": "2032-01-01", "held": 0, "allocated": 0, "free": 4, "displaced": [],
            "displaced_total": 0
        })
    );
    assert_eq!(batch(&service, "n").await, [10, 6, 3, 3]);
    assert_eq!(service.fate("o1").await, "allocated: n 3");
    let product = service.product("LAMP").await;
    assert_eq!((&product["on_hand"], &product["incoming"]), (&json!(6), &json!(4)));
    assert_eq!(product["locations"]["south"]["incoming"], 4);
    assert_eq!(service.history("LAMP", before).await, ["batch_transferred 4 n t", "batch_created 4 t south"]);
    let events = service.events_of("LAMP", before).await;
    assert_eq!(events[0]["data"], json!({"ref": "n", "qty": 4, "to": "t"}));
    store.assert_balanced().await;
}

async fn a_transfer_comes_like_any_batch(on: On) {
    let (store, service) = ten_at_north(on).await;
    send(&service, json!({})).await.expect(201);
    service.ask("o2", 2, json!({"locations": ["south"]})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: t 2");
    let received = service.post("/v1/products/LAMP/batches/t/receipts", json!({"qty": 3})).await.expect(200).json();
    assert_eq!((&received["state"], &received["rest"]["location"]), (&json!("on_hand"), &json!("south")));
    service.post_new("/v1/orders/o2/shipments", json!({})).await.expect(200);
    // And it may go on, or back.
    let back = json!({"from": "t", "qty": 1, "to": "north", "ref": "back"});
    send(&service, back).await.expect(201);
    assert_eq!(service.product("LAMP").await["locations"]["north"]["incoming"], 1);
    // What is on its way may be lost.
    service.delete("/v1/products/LAMP/batches/back").await.expect(200);
    store.assert_balanced().await;
}

async fn what_was_sent_is_declared_no_less(on: On) {
    let (store, service) = ten_at_north(on).await;
    send(&service, json!({})).await.expect(201);
    let version = service.version("LAMP").await;
    service.batch("LAMP", "n", json!({"qty": 10})).await;
    assert_eq!(service.version("LAMP").await, version, "the same again does nothing");
    service.batch("LAMP", "n", json!({"qty": 12})).await;
    assert_eq!(batch(&service, "n").await, [12, 8, 3, 5]);
    let path = "/v1/products/LAMP/batches/n";
    refused(service.put(path, json!({"qty": 3})).await, "too-many");
    service.put(path, json!({"qty": 4})).await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: t 3", "what is left of it is at the other location");
    store.assert_balanced().await;
}

async fn the_ledgers_of_both_batches_say_so(on: On) {
    let (store, service) = ten_at_north(on).await;
    send(&service, json!({})).await.expect(201);
    let ledger = async |path: &str| {
        let page = service.get(&format!("/v1/products/LAMP/{path}")).await.expect(200).json();
        let shown = |movement: &Value| {
            let text = |name: &str| movement[name].as_str().unwrap_or("-").to_owned();
            let named = [text("event"), text("batch"), text("to")].join(" ");
            format!("{named}: {} {} => {}", movement["qty"], movement["units"], movement["balance"]["units"])
        };
        page["movements"].as_array().unwrap().iter().map(shown).collect::<Vec<_>>()
    };
    let (left, came) = ("batch_transferred n t: 4 -4 => 6", "batch_created t -: 4 4 => 4");
    assert_eq!(ledger("movements").await[2..], [left, came]);
    assert_eq!(ledger("batches/n/movements").await.last().unwrap(), left);
    assert_eq!(ledger("batches/t/movements").await, [came]);
    let csv = service.get("/v1/products/LAMP/batches/n/movements?format=csv").await.expect(200).text;
    assert!(csv.lines().last().unwrap().contains("batch_transferred"), "{csv}");
    // When all has left.
    send(&service, json!({"qty": 3, "ref": "u"})).await.expect(201);
    service.post_new("/v1/orders/o1/shipments", json!({})).await.expect(200);
    assert_eq!(
        ledger("batches/n/movements").await[3..],
        ["batch_transferred n u: 3 -3 => 3", "line_shipped n -: 3 -3 => 0"]
    );
    let recipients = service.get("/v1/products/LAMP/batches/n/recipients").await.expect(200).json();
    assert_eq!(recipients["recipients"].as_array().unwrap().len(), 1, "no location is a recipient");
    store.assert_balanced().await;
}

async fn no_more_than_is_free_goes_whether_it_is_safety_stock_or_not(on: On) {
    let (store, service) = ten_at_north(on).await;
    service.set(json!({"locations": {"north": {"safety_stock": 6}}})).await;
    service.post("/v1/products/LAMP/batches/n/quarantine", json!({"qty": 1})).await.expect(200);
    service.ask("h", 1, json!({"hold_seconds": 6000})).await.expect(409);
    let too_many = send(&service, json!({"qty": 7})).await;
    assert!(too_many.text.contains('6'), "{too_many:?}");
    refused(too_many, "too-many");
    refused(send(&service, json!({"qty": 1_000_000_000})).await, "too-many");
    send(&service, json!({"qty": 6})).await.expect(201);
    assert_eq!(batch(&service, "n").await, [10, 4, 3, 0]);
    refused(send(&service, json!({"qty": 1, "ref": "u"})).await, "too-many");
    assert_eq!(service.fate("o1").await, "allocated: n 3");
    store.assert_balanced().await;
}

async fn only_what_is_on_hand_can_be_sent(on: On) {
    let (store, service) = lamps(on, &[("expected", 9, "2031-01-01"), ("cancelled", 9, "2031-01-01")]).await;
    service.delete("/v1/products/LAMP/batches/cancelled").await.expect(200);
    service.batch("LAMP", "expired", json!({"qty": 9, "expires_on": "2011-01-01"})).await;
    for state in ["expected", "cancelled", "expired"] {
        let answer = send(&service, json!({"from": state})).await.expect(409).json();
        assert_eq!(answer["type"], "urn:allocation:problem:not-allowed");
        assert!(answer["detail"].as_str().unwrap().ends_with(&format!("it is {state}")), "{answer}");
    }
    store.assert_balanced().await;
}

async fn what_is_refused_is_refused_by_name_and_changes_nothing(on: On) {
    let (store, service) = ten_at_north(on).await;
    service.lamps_at("south", "s", 1, "").await;
    let before = service.version("LAMP").await;
    for (with, name) in [
        (json!({"sku": "NONE"}), "unknown-sku"),
        (json!({"from": "none"}), "not-found"),
        (json!({"to": "north"}), "at-location"),
        (json!({"qty": 8}), "too-many"),
        (json!({"ref": "s"}), "batch-exists"),
        (json!({"ref": "n"}), "batch-exists"),
        // The first that is wrong is told.
        (json!({"to": "north", "qty": 8, "ref": "s"}), "at-location"),
        (json!({"qty": 8, "ref": "s"}), "too-many"),
    ] {
        refused(send(&service, with).await, name);
    }
    assert_eq!(service.version("LAMP").await, before);
    service.batch("SHADE", "t", json!({"qty": 1})).await;
    send(&service, json!({})).await.expect(201);
    store.assert_balanced().await;
}

async fn what_makes_no_sense_is_told_by_field(on: On) {
    let (store, service) = ten_at_north(on).await;
    let long = "x".repeat(256);
    for (with, field) in [
        (json!({"sku": ""}), "sku"),
        (json!({"from": 5}), "from"),
        (json!({"qty": 0}), "qty"),
        (json!({"qty": 1_000_000_001}), "qty"),
        (json!({"qty": "4"}), "qty"),
        (json!({"to": "x".repeat(65)}), "to"),
        (json!({"to": null}), "to"),
        (json!({"ref": long}), "ref"),
        (json!({"eta": null}), "eta"),
        (json!({"eta": "soon"}), "eta"),
        (json!({"note": "x"}), "note"),
    ] {
        assert_eq!(faulty(send(&service, with.clone()).await), [field], "{with}");
    }
    let soon = send(&service, json!({"eta": "soon"})).await.expect(422).json();
    assert_eq!(soon["detail"], "eta: must be a date like 2011-01-02");
    let all = ["sku", "from", "qty", "to", "ref", "eta"];
    assert_eq!(faulty(service.post_new(TRANSFERS, json!({})).await), all);
    assert_eq!(service.version("LAMP").await, 2);
    service.get(TRANSFERS).await.expect(405);
    // It may have been due.
    send(&service, json!({"eta": "2011-01-01"})).await.expect(201);
    assert_eq!(service.get("/v1/availability/LAMP?location=south").await.expect(200).json()["ready"], today(1));
    store.assert_balanced().await;
}

async fn a_transfer_without_a_key_is_refused(on: On) {
    let (store, service) = ten_at_north(on).await;
    for answer in [service.post(TRANSFERS, to_south(4)).await, service.post_once(TRANSFERS, "", to_south(4)).await] {
        assert_eq!(answer.expect(400).json()["type"], "urn:allocation:problem:key-missing");
    }
    assert_eq!(service.version("LAMP").await, 2);
    store.assert_balanced().await;
}

async fn the_same_transfer_again_acts_once_and_is_answered_with_the_present_state(on: On) {
    let (store, service) = ten_at_north(on).await;
    let first = service.post_once(TRANSFERS, "k", to_south(4)).await.expect(201);
    let again = service.post_once(TRANSFERS, "k", to_south(4)).await.expect(200);
    assert_eq!((again.json(), &again.headers["etag"]), (first.json(), &first.headers["etag"]));
    service.ask("o2", 2, json!({"locations": ["south"]})).await.expect(201);
    service.post("/v1/products/LAMP/batches/t/receipts", json!({"qty": 4})).await.expect(200);
    let version = service.version("LAMP").await;
    let present = service.post_once(TRANSFERS, "k", to_south(4)).await.expect(200).json();
    assert_eq!(
        (&present["state"], &present["allocated"], &present["eta"]),
        (&json!("on_hand"), &json!(2), &Value::Null)
    );
    // Even when it has all left again.
    service.post_new("/v1/orders/o2/shipments", json!({})).await.expect(200);
    send(&service, json!({"from": "t", "qty": 2, "to": "west", "ref": "u"})).await.expect(201);
    let present = service.post_once(TRANSFERS, "k", to_south(4)).await.expect(200).json();
    assert_eq!((&present["ref"], &present["units"], &present["qty"]), (&json!("t"), &json!(0), &json!(4)));
    assert_eq!(service.version("LAMP").await, version + 3, "shipped, sent, and expected there");
    // With a key of its own it is another, whose reference is taken.
    refused(send(&service, json!({"qty": 1})).await, "batch-exists");
    store.assert_balanced().await;
}

async fn a_key_stands_for_one_transfer(on: On) {
    let (store, service) = ten_at_north(on).await;
    service.post_once(TRANSFERS, "k", to_south(4)).await.expect(201);
    let version = service.version("LAMP").await;
    refused(service.post_once(TRANSFERS, "k", to_south(3)).await, "key-reused");
    let adjustment = json!({"kind": "found", "qty": 3, "reason": "seen"});
    refused(service.post_once("/v1/products/LAMP/batches/n/adjustments", "k", adjustment).await, "key-reused");
    assert_eq!(service.version("LAMP").await, version);
    store.assert_balanced().await;
}

async fn a_refused_transfer_does_not_use_its_key_up(on: On) {
    let (store, service) = ten_at_north(on).await;
    refused(service.post_once(TRANSFERS, "k", to_south(8)).await, "too-many");
    service.post_once(TRANSFERS, "k", to_south(0)).await.expect(422);
    service.delete("/v1/orders/o1").await.expect(200);
    service.post_once(TRANSFERS, "k", to_south(8)).await.expect(201);
    store.assert_balanced().await;
}

async fn of_many_at_the_same_time_one_acts(on: On) {
    let (store, service) = ten_at_north(on).await;
    let done = Mutex::new(Vec::new());
    at_once(0..24, async |n: usize| {
        let mut body = to_south(1);
        body["ref"] = json!(format!("t{}", n % 3));
        let answer = service.post_once(TRANSFERS, &format!("k{}", n % 3), body).await;
        if answer.status == 409 {
            refused(answer, "key-in-use");
        } else {
            done.lock().unwrap().push(answer.status.as_u16());
        }
    })
    .await;
    let done = done.into_inner().unwrap();
    assert!(done.iter().all(|status| [200, 201].contains(status)), "{done:?}");
    assert_eq!(done.iter().filter(|status| **status == 201).count(), 3, "{done:?}");
    assert_eq!(batch(&service, "n").await, [10, 7, 3, 4]);
    store.assert_balanced().await;
}

async fn whoever_waits_for_the_other_location_is_served(on: On) {
    let (store, service) = ten_at_north(on).await;
    let wait = |accepted: &str| json!({"locations": [accepted], "when_short": "backorder"});
    service.ask("w1", 3, wait("south")).await.expect(201);
    service.ask("w2", 3, wait("moon")).await.expect(201);
    assert_eq!(service.fate("w1").await, "backordered: waiting 3");
    let before = service.version("LAMP").await;
    let sent = send(&service, json!({})).await.expect(201).json();
    assert_eq!((&sent["allocated"], &sent["free"]), (&json!(3), &json!(1)));
    assert_eq!(service.fate("w1").await, "allocated: t 3");
    assert_eq!(service.lines("w1").await[0]["promised_date"], "2031-01-01");
    assert_eq!(service.fate("w2").await, "backordered: waiting 3");
    assert_eq!(service.history("LAMP", before).await[2..], ["line_allocated w1 3 t"]);
    service.assert_nobody_waits_in_vain().await;
    store.assert_balanced().await;
}

async fn what_is_little_is_told_of_the_location_that_units_leave(on: On) {
    let (store, service) = ten_at_north(on).await;
    service.set(json!({"locations": {"north": {"low_stock": 3}, "south": {"low_stock": 0}}})).await;
    let before = service.version("LAMP").await;
    send(&service, json!({})).await.expect(201);
    assert_eq!(
        service.history("LAMP", before).await,
        ["batch_transferred 4 n t", "batch_created 4 t south", "low_stock north 3"]
    );
    service.post("/v1/products/LAMP/batches/t/receipts", json!({"qty": 4})).await.expect(200);
    assert_eq!(service.history("LAMP", before).await.last().unwrap(), "restocked south 4");
    store.assert_balanced().await;
}
