//! What the API promises.

use serde_json::{Value, json};

use crate::support::{On, Service, Store, on_both_stores};

on_both_stores!(
    clients_of_the_original_find_their_three_routes,
    a_batch_added_again_is_ok_and_another_under_its_reference_is_not,
    the_original_accepts_what_is_out_of_stock_and_promises_nothing,
    a_batch_is_declared_changed_and_declared_again,
    a_declaration_may_be_made_conditional,
    a_cut_lists_the_lines_that_moved_or_lost_their_place,
    an_order_is_promised_whole_or_not_at_all,
    an_order_again_is_answered_with_its_present_state,
    another_quantity_or_a_cancelled_line_is_a_conflict,
    an_order_naming_a_product_twice_asks_for_the_sum,
    orders_and_lines_are_cancelled,
    a_product_is_read_with_its_numbers,
    products_are_listed_in_pages,
    a_products_lines_are_listed_in_pages,
    the_feed_has_everything_that_happened,
    an_event_says_who_caused_it,
    keys_with_any_character_work_in_paths,
);

async fn clients_of_the_original_find_their_three_routes(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    for (reference, qty, eta) in
        [("later", 100, json!("2011-01-02")), ("early", 100, json!("2011-01-01")), ("other", 100, Value::Null)]
    {
        let sku = if reference == "other" { "OTHER" } else { "LAMP" };
        let added = service.post("/add_batch", json!({"ref": reference, "sku": sku, "qty": qty, "eta": eta})).await;
        assert_eq!(added.expect(201).text, "OK");
    }
    let allocated = service.post("/allocate", json!({"orderid": "o1", "sku": "LAMP", "qty": 3})).await;
    assert_eq!(allocated.expect(202).text, "OK");
    let found = service.get("/allocations/o1").await.expect(200).json();
    assert_eq!(found, json!([{"sku": "LAMP", "batchref": "early"}]));

    let invalid = service.post("/allocate", json!({"orderid": "o2", "sku": "NONE", "qty": 3})).await;
    assert_eq!(invalid.expect(400).json(), json!({"message": "Invalid sku NONE"}));
    service.get("/allocations/o2").await.expect(404);
}

async fn a_batch_added_again_is_ok_and_another_under_its_reference_is_not(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    let batch = json!({"ref": "b", "sku": "LAMP", "qty": 10, "eta": null});
    service.post("/add_batch", batch.clone()).await.expect(201);
    assert_eq!(service.post("/add_batch", batch).await.expect(201).text, "OK");
    for other in [
        json!({"ref": "b", "sku": "LAMP", "qty": 11}),
        json!({"ref": "b", "sku": "LAMP", "qty": 10, "eta": "2011-01-01"}),
    ] {
        let refused = service.post("/add_batch", other).await.expect(400).json();
        assert!(
            refused["message"].as_str().unwrap().contains("another quantity, ETA, expiry or location"),
            "{refused}"
        );
    }
    service.post("/add_batch", json!({"ref": "b", "sku": "SHADE", "qty": 11})).await.expect(201);
}

async fn the_original_accepts_what_is_out_of_stock_and_promises_nothing(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.post("/add_batch", json!({"ref": "b", "sku": "LAMP", "qty": 10, "eta": null})).await.expect(201);
    service.post("/allocate", json!({"orderid": "o1", "sku": "LAMP", "qty": 11})).await.expect(202);
    service.get("/allocations/o1").await.expect(404);
    service.get("/v1/orders/o1").await.expect(404);
    // Asked anew once there is stock, it is promised.
    service.batch("LAMP", "b", json!({"qty": 11})).await;
    service.post("/allocate", json!({"orderid": "o1", "sku": "LAMP", "qty": 11})).await.expect(202);
    service.get("/allocations/o1").await.expect(200);
    let conflict = service.post("/allocate", json!({"orderid": "o1", "sku": "LAMP", "qty": 2})).await;
    assert!(conflict.expect(400).json()["message"].as_str().unwrap().contains("already has 11"));
}

async fn a_batch_is_declared_changed_and_declared_again(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    let path = "/v1/products/LAMP/batches/b";
    let new = service.put(path, json!({"qty": 10, "eta": "2031-05-01"})).await.expect(201);
    assert_eq!(
        new.json(),
        json!({
            "sku": "LAMP", "ref": "b", "location": "default", "qty": 10, "units": 10, "unavailable": 0, "state": "expected",
            "eta": "2031-05-01",
            "expires_on": null, "held": 0, "allocated": 0, "free": 10, "displaced": [], "displaced_total": 0
        })
    );
    let same = service.put(path, json!({"qty": 10})).await.expect(200);
    assert_eq!(same.json()["eta"], "2031-05-01", "left out, the date stands");
    assert_eq!(same.headers["etag"], new.headers["etag"]);
    let changed = service.put(path, json!({"qty": 12, "eta": "2031-06-01"})).await.expect(200);
    assert_eq!((&changed.json()["qty"], &changed.json()["eta"]), (&json!(12), &json!("2031-06-01")));
    assert_ne!(changed.headers["etag"], new.headers["etag"]);
    let arrived = service.put(path, json!({"qty": 12, "eta": null})).await.expect(200);
    assert_eq!((&arrived.json()["eta"], &arrived.json()["state"]), (&Value::Null, &json!("on_hand")));
    let refused = service.put(path, json!({"qty": 12, "eta": "2031-06-01"})).await.expect(409);
    assert_eq!(refused.json()["type"], "urn:allocation:problem:not-allowed");
}

async fn a_declaration_may_be_made_conditional(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    let path = "/v1/products/LAMP/batches/b";
    let put = async |qty: u64, tag: &str| {
        let request = service.client.put(service.program.url(path)).header("If-Match", tag);
        Service::answer(request.json(&json!({ "qty": qty }))).await
    };
    put(10, "*").await.expect(412);
    service.get("/v1/products/LAMP").await.expect(404);
    let first = service.put(path, json!({"qty": 10})).await.expect(201).headers["etag"].to_str().unwrap().to_owned();
    put(11, &first).await.expect(200);
    let refused = put(12, &first).await.expect(412);
    assert_eq!(refused.json()["type"], "urn:allocation:problem:precondition-failed");
    put(13, &format!("\"999\", W/{first}, nonsense")).await.expect(412);
    put(14, "*").await.expect(200);
}

async fn a_cut_lists_the_lines_that_moved_or_lost_their_place(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 30})).await;
    service.batch("LAMP", "c", json!({"qty": 10, "eta": "2031-01-01"})).await;
    for order_id in ["o1", "o2", "o3"] {
        service.order(order_id, &[("LAMP", 10)]).await.expect(201);
    }
    let cut = service.batch("LAMP", "b", json!({"qty": 10})).await;
    assert_eq!(
        cut["displaced"],
        json!([
            {"order_id": "o2", "line": "1", "qty": 10, "to": [{"batch": "c", "qty": 10}], "backordered": 0, "lapsed": false},
            {"order_id": "o3", "line": "1", "qty": 10, "to": [], "backordered": 10, "lapsed": false}
        ])
    );
    assert_eq!(cut["displaced_total"], 2);
    let lost = service.get("/v1/orders/o3").await.expect(200).json();
    let line = &lost["lines"][0];
    assert_eq!(
        (&line["state"], &line["backordered"], &line["promised_date"]),
        (&json!("backordered"), &json!(10), &Value::Null)
    );
    assert_eq!(service.get("/allocations/o3").await.expect(404).json()["message"], "not found");
    store.assert_balanced().await;
}

async fn an_order_is_promised_whole_or_not_at_all(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.batch("SHADE", "b", json!({"qty": 5, "eta": "2031-01-01"})).await;
    let short = service.order("o1", &[("LAMP", 10), ("SHADE", 6)]).await.expect(409).json();
    assert_eq!(short["type"], "urn:allocation:problem:out-of-stock");
    assert_eq!(short["short"], json!([{"sku": "SHADE", "asked": 6, "available": 0, "promisable": 5}]));
    service.get("/v1/orders/o1").await.expect(404);

    let promised = service.order("o1", &[("LAMP", 10), ("SHADE", 5)]).await.expect(201).json();
    assert_eq!(promised["order_id"], "o1");
    let line = &promised["lines"][1];
    assert_eq!(
        line,
        &json!({
            "order_id": "o1", "sku": "SHADE", "line": "1", "requested": 5, "held": 0, "allocated": 5, "locked": 0,
            "backordered": 0, "shipped": 0, "returned": 0, "dropped": 0, "cancelled": 0, "lapsed": 0,
            "state": "allocated", "held_until": null, "promised_date": "2031-01-01",
            "placements": [{"batch": "b", "location": "default", "qty": 5, "locked": 0, "eta": "2031-01-01"}], "shipments": [], "priority": 0, "by": null, "not_before": null, "split": true, "min_split": 1, "min_days": null, "locations": null,
            "accepted": line["accepted"]
        })
    );
    assert_eq!(service.get("/v1/orders/o1").await.expect(200).json(), promised);
}

async fn an_order_again_is_answered_with_its_present_state(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 10)]).await.expect(201);
    service.order("o1", &[("LAMP", 10)]).await.expect(200);
    service.batch("LAMP", "b", json!({"qty": 9})).await;
    let again = service.order("o1", &[("LAMP", 10)]).await.expect(200).json();
    assert_eq!(again["lines"][0]["state"], "backordered");
    service.batch("SHADE", "b", json!({"qty": 10})).await;
    let more = service.order("o1", &[("LAMP", 10), ("SHADE", 1)]).await.expect(201).json();
    assert_eq!(more["lines"].as_array().unwrap().len(), 2);
}

async fn another_quantity_or_a_cancelled_line_is_a_conflict(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.batch("SHADE", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 2), ("SHADE", 2)]).await.expect(201);
    service.delete("/v1/orders/o1/lines/SHADE").await.expect(200);
    let conflict = service.order("o1", &[("LAMP", 3), ("SHADE", 2)]).await.expect(409).json();
    assert_eq!(conflict["type"], "urn:allocation:problem:line-conflict");
    assert_eq!(
        conflict["conflicts"],
        json!([
            {"sku": "LAMP", "line": "1", "reason": "other_quantity", "accepted": 2},
            {"sku": "SHADE", "line": "1", "reason": "cancelled"}
        ])
    );
    // Before a shortage, and after an unknown product.
    service.order("o1", &[("LAMP", 3), ("SHADE", 200)]).await.expect(409);
    service.order("o1", &[("LAMP", 3), ("NONE", 1)]).await.expect(422);
}

async fn an_order_naming_a_product_twice_asks_for_the_sum(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    let promised = service.order("o1", &[("LAMP", 2), ("LAMP", 3)]).await.expect(201).json();
    assert_eq!(promised["lines"].as_array().unwrap().len(), 1);
    assert_eq!(promised["lines"][0]["requested"], 5);
    service.order("o1", &[("LAMP", 5)]).await.expect(200);
}

async fn orders_and_lines_are_cancelled(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.batch("SHADE", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 2), ("SHADE", 2)]).await.expect(201);
    service.delete("/v1/orders/o1/lines/LAMP").await.expect(200);
    service.delete("/v1/orders/o1/lines/LAMP").await.expect(200);
    let states = async || {
        let order = service.get("/v1/orders/o1").await.expect(200).json();
        let lines = order["lines"].as_array().unwrap();
        lines.iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["cancelled", "allocated"]);
    service.delete("/v1/orders/o1").await.expect(200);
    service.delete("/v1/orders/o1").await.expect(200);
    assert_eq!(states().await, ["cancelled", "cancelled"]);
    service.delete("/v1/orders/none").await.expect(404);
    service.delete("/v1/orders/o1/lines/NONE").await.expect(404);
    service.delete("/v1/orders/none/lines/LAMP").await.expect(404);
    assert_eq!(service.get("/v1/products/LAMP").await.expect(200).json()["available"], 10);
    store.assert_balanced().await;
}

async fn a_product_is_read_with_its_numbers(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.batch("LAMP", "c", json!({"qty": 20, "eta": "2031-01-01"})).await;
    service.batch("LAMP", "gone", json!({"qty": 0})).await;
    service.order("o1", &[("LAMP", 4)]).await.expect(201);
    assert_eq!(
        service.get("/v1/products/LAMP").await.expect(200).json(),
        json!({
            "sku": "LAMP", "version": 4, "on_hand": 10, "incoming": 20, "unavailable": 0, "held": 0, "allocated": 4,
            "available": 6, "promisable": 26, "backordered": 0, "queued": 0, "queue_cap": null,
            "auto_improve": false, "strategy": "earliest", "min_days": 0, "requires_expiry": false, "overdue_days": null,
            "locations": {
                "default": {
                    "on_hand": 10, "incoming": 20, "unavailable": 0, "held": 0, "allocated": 4, "available": 6, "promisable": 26,
                    "safety_stock": 0, "low_stock": null, "restocked": null, "low": false
                }
            },
            "batches": [
                {
                    "ref": "b", "location": "default", "qty": 10, "units": 10, "unavailable": 0, "state": "on_hand", "eta": null,
                    "expires_on": null, "held": 0, "allocated": 4, "free": 6
                },
                {
                    "ref": "c", "location": "default", "qty": 20, "units": 20, "unavailable": 0, "state": "expected", "eta": "2031-01-01",
                    "expires_on": null, "held": 0, "allocated": 0, "free": 20
                }
            ]
        })
    );
    service.get("/v1/products/NONE").await.expect(404);
}

async fn products_are_listed_in_pages(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    for sku in ["C", "A", "B"] {
        service.batch(sku, "b", json!({"qty": 1})).await;
    }
    let page = service.get("/v1/products?limit=2").await.expect(200).json();
    let skus = |page: &Value| -> Vec<String> {
        page["products"].as_array().unwrap().iter().map(|p| p["sku"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((skus(&page), &page["next"]), (vec!["A".into(), "B".into()], &json!("B")));
    let last = service.get("/v1/products?limit=2&after=B").await.expect(200).json();
    assert_eq!((skus(&last), &last["next"]), (vec!["C".into()], &Value::Null));
}

async fn a_products_lines_are_listed_in_pages(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 4})).await;
    for order_id in ["o3", "o1", "o2"] {
        service.order(order_id, &[("LAMP", 1)]).await.expect(201);
    }
    service.delete("/v1/orders/o1").await.expect(200);
    let ids = async |query: &str| {
        let page = service.get(&format!("/v1/products/LAMP/lines{query}")).await.expect(200).json();
        let lines = page["lines"].as_array().unwrap();
        let ids: Vec<_> = lines.iter().map(|line| line["order_id"].as_str().unwrap().to_owned()).collect();
        (ids.join(" "), page["next"].clone())
    };
    assert_eq!(ids("").await, ("o2 o1 o3".into(), Value::Null));
    let (first, next) = ids("?limit=2").await;
    assert_eq!(first, "o2 o1");
    assert_eq!(ids(&format!("?limit=2&after={}", next.as_str().unwrap())).await.0, "o3");
    service.get("/v1/products/LAMP/lines?after=nonsense").await.expect(422);
    assert_eq!(ids("?state=cancelled").await.0, "o1");
    assert_eq!(ids("?state=allocated&batch=b").await.0, "o2 o3");
    assert_eq!(ids("?batch=x").await.0, "");
    service.get("/v1/products/NONE/lines").await.expect(404);
}

async fn the_feed_has_everything_that_happened(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 10)]).await.expect(201);
    service.order("o2", &[("LAMP", 1)]).await.expect(409);
    service.batch("LAMP", "b", json!({"qty": 5})).await;
    let events = service.feed(7).await;
    let types: Vec<_> = events.iter().map(|e| e["event"]["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "batch_created",
            "line_allocated",
            "out_of_stock",
            "batch_quantity_changed",
            "line_deallocated",
            "line_backordered",
            "promise_changed"
        ]
        .map(|name| format!("allocation.{name}.v1"))
    );
    let sequences: Vec<_> = events.iter().map(|e| e["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(events[4]["event"]["data"]["reason"], "displaced");
    let rest = service.get("/v1/events?after=4&limit=1").await.expect(200).json();
    assert_eq!((rest["events"].as_array().unwrap().len(), &rest["next"]), (1, &json!(5)));
    let end = service.get("/v1/events?after=7").await.expect(200).json();
    assert_eq!(end, json!({"events": [], "next": 7}));
}

async fn an_event_says_who_caused_it(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = service.client.put(service.program.url("/v1/products/LAMP/batches/b"));
    let request = request.header("X-Request-Id", "my-request").header("traceparent", trace);
    Service::answer(request.json(&json!({"qty": 1}))).await.expect(201);
    let event = service.feed(1).await[0]["event"].clone();
    assert_eq!((&event["correlation"], &event["traceparent"]), (&json!("my-request"), &json!(trace)));
    assert_eq!((&event["actor"], &event["specversion"]), (&json!("http"), &json!("1.0")));
}

async fn keys_with_any_character_work_in_paths(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    let (sku, reference, order_id) = ("a%2Fb%20c%3F%23", "%C3%A9%2B", "%E8%A1%A8%25");
    let batch = service.batch(sku, reference, json!({"qty": 5})).await;
    assert_eq!((&batch["sku"], &batch["ref"]), (&json!("a/b c?#"), &json!("é+")));
    let path = format!("/v1/orders/{order_id}");
    let promised = service.put(&path, json!({"lines": [{"sku": "a/b c?#", "qty": 2}]})).await.expect(201).json();
    assert_eq!(promised["order_id"], "表%");
    service.delete(&format!("{path}/lines/{sku}")).await.expect(200);
}
