//! Expiry, shelf life and strategies: rules 4 and 7.

use serde_json::{Value, json};

use crate::support::{On, Service, Store, displaced, lamps, on_both_stores, today};

on_both_stores!(
    what_has_expired_is_never_promised,
    a_later_last_day_makes_a_batch_of_use_again,
    a_batch_that_is_of_use_no_longer_loses_its_lines,
    units_must_keep_as_long_as_the_line_wants_else_as_the_product_says,
    a_product_that_wants_more_shelf_life_takes_places_that_have_not_so_much,
    a_product_may_require_of_every_batch_to_say_when_it_expires,
    what_expires_first_goes_first_where_the_product_says_so,
    what_came_first_goes_first_where_the_product_says_so,
    fewest_splits_waits_for_one_batch_rather_than_take_from_two,
    the_service_is_told_the_strategy_of_products_that_say_nothing,
    an_import_says_when_batches_expire,
);

/// A day that is over wherever the tests run.
const LONG_AGO: &str = "2011-01-01";

async fn batch(service: &Service, reference: &str, qty: u64, expires_on: impl Into<Value>) -> Value {
    service.batch("LAMP", reference, json!({"qty": qty, "expires_on": expires_on.into()})).await
}

async fn set(service: &Service, settings: Value) -> u16 {
    service.put("/v1/products/LAMP", settings).await.status.as_u16()
}

async fn what_has_expired_is_never_promised(on: On) {
    let (store, service) = lamps(on, &[]).await;
    let old = batch(&service, "old", 10, LONG_AGO).await;
    assert_eq!((&old["state"], &old["unavailable"], &old["free"]), (&json!("expired"), &json!(10), &json!(0)));
    service.ask("o1", 1, json!({})).await.expect(409);
    // The last day is a day of use.
    batch(&service, "fresh", 5, today(0)).await;
    service.ask("o1", 1, json!({})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: fresh 1");
    let product = service.product("LAMP").await;
    assert_eq!([&product["on_hand"], &product["unavailable"], &product["available"]], [15, 10, 4]);
    assert_eq!(
        service.history("LAMP", 0).await[..2],
        ["batch_created 10 old", "batch_expired 10 old"],
        "it is told once"
    );
    store.assert_balanced().await;
}

async fn a_later_last_day_makes_a_batch_of_use_again(on: On) {
    let (store, service) = lamps(on, &[]).await;
    batch(&service, "old", 10, LONG_AGO).await;
    service.queue_up("o1", 4).await;
    let again = batch(&service, "old", 10, today(3)).await;
    assert_eq!((&again["state"], &again["free"]), (&json!("on_hand"), &json!(6)), "who waits is served");
    assert_eq!(service.fate("o1").await, "allocated: old 4");
    let for_ever = batch(&service, "old", 10, Value::Null).await;
    assert_eq!(for_ever["expires_on"], Value::Null);
    store.assert_balanced().await;
}

async fn a_batch_that_is_of_use_no_longer_loses_its_lines(on: On) {
    let (store, service) = lamps(on, &[]).await;
    batch(&service, "a", 5, today(9)).await;
    service.ask("o1", 2, json!({})).await.expect(201);
    service.ask("o2", 3, json!({})).await.expect(201);
    batch(&service, "b", 2, Value::Null).await;
    let over = batch(&service, "a", 5, LONG_AGO).await;
    assert_eq!(displaced(&over).len(), 2);
    assert_eq!(service.fate("o1").await, "allocated: b 2", "the senior takes what there is");
    assert_eq!(service.fate("o2").await, "backordered: waiting 3");
    let refused = service.post("/v1/products/LAMP/batches/a/quarantine", json!({})).await.expect(409);
    assert!(refused.json()["detail"].as_str().unwrap().contains("expired"));
    store.assert_balanced().await;
}

async fn units_must_keep_as_long_as_the_line_wants_else_as_the_product_says(on: On) {
    let (store, service) = lamps(on, &[]).await;
    set(&service, json!({"min_days": 5})).await;
    batch(&service, "a", 10, today(4)).await;
    service.ask("o1", 1, json!({})).await.expect(409);
    service.ask("o2", 1, json!({"min_days": 4})).await.expect(201);
    // From the day it is wanted on.
    service.ask("o3", 1, json!({"min_days": 2, "not_before": today(3)})).await.expect(409);
    service.ask("o4", 1, json!({"min_days": 1, "not_before": today(3)})).await.expect(201);
    let problem = service.ask("o5", 1, json!({"min_days": 3_651})).await.expect(422);
    assert!(problem.json()["detail"].as_str().unwrap().starts_with("min_days: must be a whole number from 0"));
    store.assert_balanced().await;
}

async fn a_product_that_wants_more_shelf_life_takes_places_that_have_not_so_much(on: On) {
    let (store, service) = lamps(on, &[]).await;
    batch(&service, "a", 5, today(4)).await;
    service.ask("o1", 2, json!({})).await.expect(201);
    service.ask("o2", 2, json!({"min_days": 1})).await.expect(201);
    assert_eq!(set(&service, json!({"min_days": 7})).await, 200);
    assert_eq!(service.fate("o1").await, "backordered: waiting 2");
    assert_eq!(service.fate("o2").await, "allocated: a 2", "a line's own wish stands");
    set(&service, json!({"min_days": 0})).await;
    assert_eq!(service.fate("o1").await, "allocated: a 2");
    store.assert_balanced().await;
}

async fn a_product_may_require_of_every_batch_to_say_when_it_expires(on: On) {
    let (store, service) = lamps(on, &[]).await;
    assert_eq!(set(&service, json!({"requires_expiry": true})).await, 201);
    let path = "/v1/products/LAMP/batches/a";
    let refused = service.put(path, json!({"qty": 1})).await.expect(422);
    assert_eq!(refused.json()["type"], "urn:allocation:problem:expiry-missing");
    service.put(path, json!({"qty": 1, "expires_on": today(1)})).await.expect(201);
    service.put(path, json!({"qty": 1, "expires_on": null})).await.expect(422);
    service.put(path, json!({"qty": 2})).await.expect(200);
    store.assert_balanced().await;
}

async fn what_expires_first_goes_first_where_the_product_says_so(on: On) {
    let (store, service) = lamps(on, &[]).await;
    set(&service, json!({"strategy": "fefo"})).await;
    batch(&service, "a", 5, Value::Null).await;
    batch(&service, "b", 5, today(9)).await;
    batch(&service, "c", 5, today(3)).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: c 4");
    service.ask("o2", 4, json!({"split": false})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: b 4");
    assert_eq!(service.product("LAMP").await["strategy"], "fefo");
    service.put("/v1/products/LAMP", json!({"strategy": "lifo"})).await.expect(422);
    store.assert_balanced().await;
}

async fn what_came_first_goes_first_where_the_product_says_so(on: On) {
    let (store, service) = lamps(on, &[("b", 5, ""), ("a", 5, "2031-01-01"), ("c", 5, "")]).await;
    set(&service, json!({"strategy": "fifo"})).await;
    service.post("/v1/products/LAMP/batches/a/receipts", json!({"qty": 5})).await.expect(200);
    for (order, place) in [("o1", "allocated: b 5"), ("o2", "allocated: c 5"), ("o3", "allocated: a 5")] {
        service.ask(order, 5, json!({})).await.expect(201);
        assert_eq!(service.fate(order).await, place);
    }
    store.assert_balanced().await;
}

async fn fewest_splits_waits_for_one_batch_rather_than_take_from_two(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 3, ""), ("c", 9, "2031-01-01")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: a 3, b 2");
    service.delete("/v1/orders/o1").await.expect(200);
    set(&service, json!({"strategy": "fewest_splits"})).await;
    service.ask("o2", 5, json!({})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: c 5");
    store.assert_balanced().await;
}

async fn the_service_is_told_the_strategy_of_products_that_say_nothing(on: On) {
    let store = Store::new(on).await.with("STRATEGY", "fefo");
    let service = store.serve().await;
    batch(&service, "a", 5, Value::Null).await;
    batch(&service, "b", 5, today(2)).await;
    assert_eq!(service.product("LAMP").await["strategy"], "fefo");
    let ready = service.get("/v1/availability/LAMP?qty=2").await.expect(200).json();
    assert_eq!(ready["placements"][0]["batch"], "b", "whoever asks is told what he would get");
    service.ask("o1", 2, json!({})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: b 2");
    store.assert_balanced().await;
}

async fn an_import_says_when_batches_expire(on: On) {
    let (store, service) = lamps(on, &[]).await;
    let text = format!("ref,sku,qty,expires_on\na,LAMP,5,{}\nb,LAMP,5,\nc,LAMP,5,soon\n", today(2));
    let (status, _, said) = store.import(&["batches"], &text).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(r#"expires_on "soon" is no date like 2011-01-02"#), "{said}");
    let batches = service.product("LAMP").await["batches"].clone();
    assert_eq!((&batches[0]["expires_on"], &batches[1]["expires_on"]), (&json!(today(2)), &Value::Null));
    store.assert_balanced().await;
}
