//! `Idempotency-Key`: shipments, returns and adjustments act once, however often they are sent.

use std::sync::Mutex;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::support::{Answer, On, Service, Store, at_once, lamps, on_both_stores};

on_both_stores!(
    a_request_without_a_good_key_is_refused,
    the_same_request_again_acts_once_and_is_answered_with_the_present_state,
    a_key_stands_for_one_request,
    a_refused_request_does_not_use_its_key_up,
    a_key_is_the_same_with_and_without_quotes,
    of_two_at_the_same_time_one_acts,
    a_key_is_still_known_after_a_kill,
);

const SHIPMENTS: &str = "/v1/orders/o1/shipments";
const RETURNS: &str = "/v1/orders/o1/returns";
const ADJUSTMENTS: &str = "/v1/products/LAMP/batches/b/adjustments";

/// So many lamps of an order.
fn lamps_of(qty: u64) -> Value {
    json!({"lines": [{"sku": "LAMP", "qty": qty}]})
}

fn found(qty: u64) -> Value {
    json!({"kind": "found", "qty": qty, "reason": "seen"})
}

/// What sends a request again and again may send: where to, and what.
fn requests() -> [(&'static str, Value); 3] {
    [(SHIPMENTS, lamps_of(2)), (RETURNS, lamps_of(1)), (ADJUSTMENTS, found(3))]
}

/// Twenty lamps, of which ten are for an order.
async fn ten_for_o1(on: On) -> (Store, Service) {
    let (store, service) = lamps(on, &[("b", 20, "")]).await;
    service.ask("o1", 10, json!({})).await.expect(201);
    (store, service)
}

fn kind(answer: &Answer) -> String {
    let problem = answer.json();
    problem["type"].as_str().unwrap().trim_start_matches("urn:allocation:problem:").to_owned()
}

async fn a_request_without_a_good_key_is_refused(on: On) {
    let (store, service) = ten_for_o1(on).await;
    let before = service.version("LAMP").await;
    let too_long = "k".repeat(256);
    for (path, body) in requests() {
        let post = |key: Option<HeaderValue>| {
            let request = service.client.post(service.program.url(path)).json(&body);
            Service::answer(key.into_iter().fold(request, |request, key| request.header("Idempotency-Key", key)))
        };
        let bad = ["", "\"\"", &too_long].map(|key| HeaderValue::from_str(key).unwrap());
        let not_ascii = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        for key in [None, Some(not_ascii)].into_iter().chain(bad.map(Some)) {
            assert_eq!(kind(&post(key).await.expect(400)), "key-missing");
        }
    }
    assert_eq!(service.version("LAMP").await, before);
    service.post_once(SHIPMENTS, &too_long[1..], lamps_of(2)).await.expect(200);
    store.assert_balanced().await;
}

async fn the_same_request_again_acts_once_and_is_answered_with_the_present_state(on: On) {
    let (store, service) = ten_for_o1(on).await;
    for (path, body) in requests() {
        service.post_once(path, path, body).await.expect(200);
    }
    service.post_new(SHIPMENTS, lamps_of(4)).await.expect(200);
    service.batch("LAMP", "b", json!({"qty": 30})).await;
    let version = service.version("LAMP").await;
    let (order, lamp) = (service.get("/v1/orders/o1").await.json(), service.product("LAMP").await);
    for (path, body) in requests() {
        let answer = service.post_once(path, path, body).await.expect(200).json();
        if path == ADJUSTMENTS {
            for name in ["qty", "units", "unavailable", "allocated", "free"] {
                assert_eq!(answer[name], lamp["batches"][0][name], "{name}");
            }
            assert_eq!(answer["displaced"], json!([]));
        } else {
            assert_eq!(answer, order);
        }
    }
    assert_eq!(service.version("LAMP").await, version);
    assert_eq!(service.fate("o1").await, "allocated: b 4, shipped 6, returned 1");
    store.assert_balanced().await;
}

async fn a_key_stands_for_one_request(on: On) {
    let (store, service) = ten_for_o1(on).await;
    for (path, body) in requests() {
        service.post_once(path, path, body).await.expect(200);
    }
    service.ask("o2", 3, json!({})).await.expect(201);
    let version = service.version("LAMP").await;
    let others = [
        (SHIPMENTS, SHIPMENTS, lamps_of(3)),
        (SHIPMENTS, RETURNS, lamps_of(2)),
        (SHIPMENTS, "/v1/orders/o2/shipments", lamps_of(2)),
        (RETURNS, RETURNS, json!({"lines": [{"sku": "LAMP", "qty": 1, "to": "scrap"}]})),
        (ADJUSTMENTS, ADJUSTMENTS, found(4)),
        (ADJUSTMENTS, "/v1/products/LAMP/batches/c/adjustments", found(3)),
    ];
    for (key, path, body) in others {
        assert_eq!(kind(&service.post_once(path, key, body).await.expect(422)), "key-reused");
    }
    assert_eq!(service.version("LAMP").await, version);
    store.assert_balanced().await;
}

async fn a_refused_request_does_not_use_its_key_up(on: On) {
    let (store, service) = lamps(on, &[("b", 20, "2031-01-01")]).await;
    service.ask("o1", 10, json!({})).await.expect(201);
    for (path, body) in requests() {
        service.post_once(path, path, body).await.expect(409);
    }
    service.post_once(SHIPMENTS, SHIPMENTS, lamps_of(0)).await.expect(422);
    service.post("/v1/products/LAMP/batches/b/receipts", json!({"qty": 20})).await.expect(200);
    for (path, body) in requests() {
        service.post_once(path, path, body).await.expect(200);
    }
    assert_eq!(service.fate("o1").await, "allocated: b 8, shipped 2, returned 1");
    // Nor for what another request says under it.
    service.post_once(SHIPMENTS, "later", lamps_of(9)).await.expect(409);
    service.post_once(SHIPMENTS, "later", lamps_of(8)).await.expect(200);
    store.assert_balanced().await;
}

async fn a_key_is_the_same_with_and_without_quotes(on: On) {
    let (store, service) = ten_for_o1(on).await;
    for key in ["8e03", "\"8e03\"", " \"8e03\" "] {
        service.post_once(SHIPMENTS, key, lamps_of(2)).await.expect(200);
    }
    assert_eq!(service.fate("o1").await, "allocated: b 8, shipped 2");
    service.post_once(SHIPMENTS, "8E03", lamps_of(2)).await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: b 6, shipped 4");
    store.assert_balanced().await;
}

/// Sends a shipment of one of forty lamps again and again, many times at once, and then the next.
async fn forty_in_parallel(services: &[&Service]) {
    services[0].batch("LAMP", "b", json!({"qty": 50})).await;
    services[0].ask("o1", 40, json!({})).await.expect(201);
    let keys: Vec<String> = (0..40).map(|n| format!("shipment {n}")).collect();
    for some in keys.chunks(4) {
        let sent = some.iter().flat_map(|key| services.iter().flat_map(move |service| [(service, key); 3]));
        let done = Mutex::new(Vec::new());
        at_once(sent, async |(service, key)| {
            let answer = service.post_once(SHIPMENTS, key, lamps_of(1)).await;
            if answer.status == 409 {
                assert_eq!(kind(&answer), "key-in-use");
            } else {
                done.lock().unwrap().push(key);
                answer.expect(200);
            }
        })
        .await;
        let done = done.into_inner().unwrap();
        assert!(some.iter().all(|key| done.contains(&key)), "{done:?}");
    }
    assert_eq!(services[0].fate("o1").await, "shipped: shipped 40");
    for key in &keys {
        services[0].post_once(SHIPMENTS, key, lamps_of(1)).await.expect(200);
    }
    assert_eq!(services[0].product("LAMP").await["on_hand"], 10);
}

async fn of_two_at_the_same_time_one_acts(on: On) {
    let (store, service) = lamps(on, &[]).await;
    forty_in_parallel(&[&service]).await;
    store.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_the_same_time_one_acts_whichever_copy_they_ask() {
    let store = Store::new(On::Postgres).await;
    let services = [store.serve().await, store.serve().await];
    forty_in_parallel(&[&services[0], &services[1]]).await;
    store.assert_balanced().await;
}

async fn a_key_is_still_known_after_a_kill(on: On) {
    let (store, service) = ten_for_o1(on).await;
    for (path, body) in requests() {
        service.post_once(path, path, body).await.expect(200);
    }
    let pid = service.program.pid().to_string();
    let killed = tokio::process::Command::new("kill").args(["-KILL", &pid]).status().await.unwrap();
    assert!(killed.success());
    let service = store.serve().await;
    let version = service.version("LAMP").await;
    for (path, body) in requests() {
        service.post_once(path, path, body).await.expect(200);
    }
    assert_eq!(kind(&service.post_once(SHIPMENTS, SHIPMENTS, lamps_of(7)).await.expect(422)), "key-reused");
    assert_eq!(service.version("LAMP").await, version);
    assert_eq!(service.fate("o1").await, "allocated: b 8, shipped 2, returned 1");
    store.assert_balanced().await;
}
