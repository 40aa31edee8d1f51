//! Who waits, who is served when, and what is read of it: rules 1, 10, 11 and 12.

use serde_json::{Value, json};

use crate::support::{On, Service, Store, on_both_stores};

on_both_stores!(
    whatever_frees_stock_goes_to_those_who_wait,
    those_who_wait_are_served_by_priority_and_then_by_acceptance,
    who_may_take_nothing_is_passed_over_by_newcomers_too,
    who_waits_for_a_day_is_served_when_a_batch_comes_in_time,
    who_waits_for_large_parts_leaves_small_ones_to_others,
    the_queue_is_capped_for_new_requests_and_not_for_lines_that_lost_their_place,
    promises_move_to_earlier_stock_only_when_asked,
    promises_move_by_themselves_where_the_product_says_so,
    a_product_is_made_known_before_it_has_any_batch_and_orders_wait_for_it,
    settings_are_what_was_said_last,
    only_placements_on_hand_reduce_what_is_available,
    a_queue_is_read_in_pages_in_the_order_in_which_it_is_served,
    the_backlog_is_read_in_pages_over_all_products,
);

async fn service(on: On) -> (Store, Service) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    (store, service)
}

async fn whatever_frees_stock_goes_to_those_who_wait(on: On) {
    let (store, service) = service(on).await;
    service.batch("LAMP", "b", json!({"qty": 10, "eta": "2031-01-01"})).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    service.queue_up("w", 50).await;
    let waiting = async |still: u64| {
        assert_eq!(service.product("LAMP").await["promisable"], 0, "nothing is left beside somebody who waits");
        assert_eq!(service.queue("LAMP").await, [format!("w {still}")]);
    };
    service.batch("LAMP", "c", json!({"qty": 3})).await;
    waiting(47).await;
    service.batch("LAMP", "c", json!({"qty": 5})).await;
    waiting(45).await;
    service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": 5})).await.expect(200);
    waiting(44).await;
    service.delete("/v1/orders/o1/lines/LAMP").await.expect(200);
    waiting(39).await;
    service.delete("/v1/orders/o2").await.expect(200);
    waiting(35).await;
    service.post("/v1/products/LAMP/batches/b/receipts", json!({"qty": 12})).await.expect(200);
    waiting(33).await;
    service.post("/add_batch", json!({"ref": "d", "sku": "LAMP", "qty": 3})).await.expect(201);
    waiting(30).await;
    assert_eq!(service.fate("w").await, "backordered: b 12, c 5, d 3, waiting 30");
    store.assert_balanced().await;
}

async fn those_who_wait_are_served_by_priority_and_then_by_acceptance(on: On) {
    let (store, service) = service(on).await;
    service.batch("LAMP", "b", json!({"qty": 0})).await;
    service.queue_up("w1", 4).await;
    for order_id in ["w2", "w3"] {
        service.ask(order_id, 4, json!({"when_short": "backorder", "priority": 5})).await.expect(201);
    }
    service.ask("w4", 4, json!({"when_short": "backorder", "priority": -1})).await.expect(201);
    assert_eq!(service.queue("LAMP").await, ["w2 4", "w3 4", "w1 4", "w4 4"]);
    service.batch("LAMP", "b", json!({"qty": 6})).await;
    assert_eq!(service.queue("LAMP").await, ["w3 2", "w1 4", "w4 4"], "and they take what there is, also in part");
    assert_eq!(service.fate("w3").await, "backordered: b 2, waiting 2");
    service.patch("/v1/orders/w4/lines/LAMP", json!({"priority": 6})).await.expect(200);
    assert_eq!(service.queue("LAMP").await, ["w4 4", "w3 2", "w1 4"]);
    service.batch("LAMP", "b", json!({"qty": 11})).await;
    assert_eq!(service.queue("LAMP").await, ["w3 1", "w1 4"]);
    store.assert_balanced().await;
}

async fn who_may_take_nothing_is_passed_over_by_newcomers_too(on: On) {
    let (store, service) = service(on).await;
    service.batch("LAMP", "b", json!({"qty": 5})).await;
    service.ask("whole", 9, json!({"when_short": "backorder", "split": false})).await.expect(201);
    assert_eq!(service.fate("whole").await, "backordered: waiting 9");
    service.ask("newcomer", 3, json!({})).await.expect(201);
    service.batch("LAMP", "b", json!({"qty": 11})).await;
    assert_eq!(service.product("LAMP").await["available"], 8, "still too few for a line that must stay whole");
    service.batch("LAMP", "b", json!({"qty": 12})).await;
    assert_eq!(service.fate("whole").await, "allocated: b 9");
    store.assert_balanced().await;
}

async fn who_waits_for_a_day_is_served_when_a_batch_comes_in_time(on: On) {
    let (store, service) = service(on).await;
    service.batch("LAMP", "b", json!({"qty": 8, "eta": "2031-03-01"})).await;
    service.ask("w", 5, json!({"when_short": "backorder", "by": "2031-01-31"})).await.expect(201);
    service.ask("o1", 2, json!({})).await.expect(201);
    service.batch("LAMP", "b", json!({"qty": 8, "eta": "2031-02-01"})).await;
    assert_eq!(service.queue("LAMP").await, ["w 5"]);
    service.batch("LAMP", "b", json!({"qty": 8, "eta": "2031-01-31"})).await;
    assert_eq!(service.fate("w").await, "allocated: b 5");
    service.ask("x", 5, json!({"when_short": "backorder", "by": "2030-01-01"})).await.expect(201);
    service.patch("/v1/orders/x/lines/LAMP", json!({"by": null})).await.expect(200);
    assert_eq!(service.fate("x").await, "backordered: b 1, waiting 4", "it may be served on any day now");
    store.assert_balanced().await;
}

async fn who_waits_for_large_parts_leaves_small_ones_to_others(on: On) {
    let (store, service) = service(on).await;
    service.batch("LAMP", "a", json!({"qty": 2})).await;
    service.ask("w", 9, json!({"when_short": "backorder", "min_split": 3})).await.expect(201);
    assert_eq!(service.fate("w").await, "backordered: waiting 9");
    service.batch("LAMP", "a", json!({"qty": 4})).await;
    assert_eq!(service.fate("w").await, "backordered: a 4, waiting 5");
    service.batch("LAMP", "b", json!({"qty": 2})).await;
    service.ask("o1", 1, json!({})).await.expect(201);
    service.batch("LAMP", "c", json!({"qty": 4})).await;
    assert_eq!(service.fate("w").await, "allocated: a 4, b 1, c 4", "the remainder may be small");
    store.assert_balanced().await;
}

async fn the_queue_is_capped_for_new_requests_and_not_for_lines_that_lost_their_place(on: On) {
    let (store, service) = service(on).await;
    service.put("/v1/products/LAMP", json!({"queue_cap": 5})).await.expect(201);
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.queue_up("o1", 10).await;
    service.queue_up("w1", 4).await;
    let refused = service.ask("w2", 2, json!({"when_short": "backorder"})).await.expect(409).json();
    assert_eq!(refused["type"], "urn:allocation:problem:queue-full");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("takes 5 units: 4 wait, 2 more are too many"), "{detail}");
    service.get("/v1/orders/w2").await.expect(404);
    service.queue_up("w2", 1).await;

    service.batch("LAMP", "b", json!({"qty": 3})).await;
    let product = service.product("LAMP").await;
    assert_eq!((&product["backordered"], &product["queued"]), (&json!(12), &json!(5)), "o1 lost seven units");
    service.ask("w3", 1, json!({"when_short": "backorder"})).await.expect(409);
    assert_eq!(service.queue("LAMP").await, ["o1 7", "w1 4", "w2 1"]);

    service.batch("LAMP", "c", json!({"qty": 20})).await;
    let product = service.product("LAMP").await;
    assert_eq!((&product["backordered"], &product["queued"], &product["available"]), (&json!(0), &json!(0), &json!(8)));
    // What is added to a line counts as new.
    let path = "/v1/orders/w1/lines/LAMP";
    let full = service.patch(path, json!({"qty": 18, "when_short": "backorder"})).await.expect(409).json();
    assert_eq!(full["type"], "urn:allocation:problem:queue-full");
    service.patch(path, json!({"qty": 17, "when_short": "backorder"})).await.expect(200);
    assert_eq!(service.product("LAMP").await["queued"], 5);
    // Room is made by those who no longer wait.
    service.delete("/v1/orders/w1").await.expect(200);
    service.ask("w4", 26, json!({"when_short": "backorder"})).await.expect(409);
    service.ask("w4", 30, json!({"when_short": "partial"})).await.expect(201);
    service.queue_up("w5", 5).await;
    store.assert_balanced().await;
}

async fn promises_move_to_earlier_stock_only_when_asked(on: On) {
    let (store, service) = service(on).await;
    service.batch("LAMP", "a", json!({"qty": 10, "eta": "2031-02-01"})).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("o2", 4, json!({"priority": 3})).await.expect(201);
    service.batch("LAMP", "b", json!({"qty": 5, "eta": "2031-01-01"})).await;
    assert_eq!(service.fate("o1").await, "allocated: a 4");
    assert_eq!(service.fate("o2").await, "allocated: a 4");

    let before = service.version("LAMP").await;
    service.post("/v1/products/LAMP/improve", json!({})).await.expect(200);
    assert_eq!(service.fate("o2").await, "allocated: b 4", "the higher priority first");
    assert_eq!(service.fate("o1").await, "allocated: a 3, b 1");
    let told = service.history("LAMP", before).await;
    let promises: Vec<_> = told.iter().filter(|event| event.starts_with("promise")).collect();
    assert_eq!(promises, ["promise_changed o2 2031-02-01 2031-01-01"], "o1 is ready no earlier as a whole");

    service.batch("LAMP", "c", json!({"qty": 5, "eta": "2031-01-01"})).await;
    service.post("/v1/products/LAMP/improve", json!({})).await.expect(200);
    assert_eq!(service.fate("o2").await, "allocated: b 4", "what comes on the same day is no earlier");
    assert_eq!(service.fate("o1").await, "allocated: b 1, c 3");
    let version = service.version("LAMP").await;
    service.post("/v1/products/LAMP/improve", json!({})).await.expect(200);
    assert_eq!(service.version("LAMP").await, version, "again moves nothing");
    service.post("/v1/products/NONE/improve", json!({})).await.expect(422);
    store.assert_balanced().await;
}

async fn promises_move_by_themselves_where_the_product_says_so(on: On) {
    let (store, service) = service(on).await;
    service.batch("LAMP", "a", json!({"qty": 10, "eta": "2031-02-01"})).await;
    service.batch("LAMP", "b", json!({"qty": 4, "eta": "2031-01-01"})).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: a 4");
    service.put("/v1/products/LAMP", json!({"auto_improve": true})).await.expect(200);
    service.batch("LAMP", "c", json!({"qty": 3})).await;
    assert_eq!(service.fate("o1").await, "allocated: b 1, c 3");
    assert_eq!(service.fate("o2").await, "allocated: a 1, b 3", "into the places that o1 left");
    service.delete("/v1/orders/o1").await.expect(200);
    assert_eq!(service.fate("o2").await, "allocated: b 1, c 3");
    store.assert_balanced().await;
}

async fn a_product_is_made_known_before_it_has_any_batch_and_orders_wait_for_it(on: On) {
    let (store, service) = service(on).await;
    let unknown = service.ask("o1", 2, json!({"when_short": "backorder"})).await.expect(422).json();
    assert_eq!(unknown["type"], "urn:allocation:problem:unknown-sku");
    service.put("/v1/products/LAMP", json!({})).await.expect(201);
    let product = service.product("LAMP").await;
    assert_eq!((&product["on_hand"], &product["batches"]), (&json!(0), &json!([])));
    service.ask("o1", 2, json!({})).await.expect(409);
    service.queue_up("o1", 2).await;
    service.batch("LAMP", "b", json!({"qty": 3, "eta": "2031-01-01"})).await;
    assert_eq!(service.fate("o1").await, "allocated: b 2");
    assert_eq!(service.lines("o1").await[0]["promised_date"], "2031-01-01");
    store.assert_balanced().await;
}

async fn settings_are_what_was_said_last(on: On) {
    let (_store, service) = service(on).await;
    let put = async |settings: Value, status: u16| {
        let product = service.put("/v1/products/LAMP", settings).await.expect(status).json();
        (product["queue_cap"].clone(), product["auto_improve"].clone(), product["version"].clone())
    };
    assert_eq!(put(json!({"queue_cap": 7}), 201).await, (json!(7), json!(false), json!(1)));
    assert_eq!(put(json!({"queue_cap": 7, "auto_improve": false}), 200).await, (json!(7), json!(false), json!(1)));
    assert_eq!(put(json!({"queue_cap": 0, "auto_improve": true}), 200).await, (json!(0), json!(true), json!(2)));
    service.ask("o1", 1, json!({"when_short": "backorder"})).await.expect(409);
    assert_eq!(put(json!({}), 200).await, (Value::Null, json!(false), json!(3)), "what is left out has its default");
    assert_eq!(put(json!({"queue_cap": null}), 200).await, (Value::Null, json!(false), json!(3)));
    service.queue_up("o1", 1).await;
}

async fn only_placements_on_hand_reduce_what_is_available(on: On) {
    let (_store, service) = service(on).await;
    service.batch("LAMP", "a", json!({"qty": 10})).await;
    service.batch("LAMP", "b", json!({"qty": 20, "eta": "2031-01-01"})).await;
    let numbers = async || {
        let product = service.product("LAMP").await;
        ["available", "promisable", "held", "allocated", "backordered"].map(|name| product[name].as_u64().unwrap())
    };
    service.ask("later", 15, json!({"not_before": "2031-01-01"})).await.expect(201);
    assert_eq!(numbers().await, [10, 15, 0, 15, 0]);
    service.ask("now", 4, json!({})).await.expect(201);
    assert_eq!(numbers().await, [6, 11, 0, 19, 0]);
    service.ask("held", 3, json!({"hold_seconds": 600})).await.expect(201);
    assert_eq!(numbers().await, [3, 8, 3, 19, 0]);
    service.ask("whole", 9, json!({"split": false, "when_short": "backorder"})).await.expect(201);
    assert_eq!(numbers().await, [3, 8, 3, 19, 9]);
}

async fn a_queue_is_read_in_pages_in_the_order_in_which_it_is_served(on: On) {
    let (_store, service) = service(on).await;
    service.put("/v1/products/LAMP", json!({})).await.expect(201);
    service.queue_up("w1", 3).await;
    service.queue_up("w2", 2).await;
    service.ask("w3", 4, json!({"when_short": "backorder", "priority": 2})).await.expect(201);
    // What is added has a turn of its own.
    service.patch("/v1/orders/w1/lines/LAMP", json!({"qty": 5, "when_short": "backorder"})).await.expect(200);
    assert_eq!(service.queue("LAMP").await, ["w3 4", "w1 3", "w2 2", "w1 2"]);

    let (mut pages, mut path) = (Vec::new(), "/v1/products/LAMP/queue?limit=3".to_owned());
    loop {
        let page = service.get(&path).await.expect(200).json();
        pages.push(page["waiting"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/products/LAMP/queue?limit=3&after={next}");
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
    let last = &pages[1][0];
    assert_eq!(
        (&last["line"]["order_id"], &last["qty"], &last["line"]["backordered"]),
        (&json!("w1"), &json!(2), &json!(5))
    );
    assert!(last["accepted"].as_u64() > pages[0][2]["accepted"].as_u64());
    service.get("/v1/products/LAMP/queue?after=nonsense").await.expect(422);
    service.get("/v1/products/NONE/queue").await.expect(404);
    assert_eq!(
        service.get("/v1/products/LAMP/lines?state=backordered").await.expect(200).json()["lines"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

async fn the_backlog_is_read_in_pages_over_all_products(on: On) {
    let (_store, service) = service(on).await;
    for sku in ["A", "B", "C", "D"] {
        service.batch(sku, "b", json!({"qty": 5})).await;
        service.batch(sku, "later", json!({"qty": 1, "eta": "2031-02-01"})).await;
    }
    service.batch("C", "soon", json!({"qty": 2, "eta": "2031-01-01"})).await;
    let wait = async |sku: &str, qty: u64| {
        let order = json!({"lines": [{"sku": sku, "qty": qty}], "when_short": "backorder"});
        service.put(&format!("/v1/orders/of-{sku}"), order).await.expect(201);
    };
    wait("A", 8).await;
    wait("B", 6).await;
    wait("C", 8).await;
    wait("D", 7).await;
    service.batch("C", "b", json!({"qty": 1})).await;
    let page = async |query: &str| service.get(&format!("/v1/backlog{query}")).await.expect(200).json();
    let first = page("?limit=2").await;
    assert_eq!(
        first,
        json!({
            "products": [
                {"sku": "A", "backordered": 2, "queued": 2, "incoming": 1, "next_eta": "2031-02-01"},
                {"sku": "C", "backordered": 4, "queued": 0, "incoming": 3, "next_eta": "2031-01-01"}
            ],
            "next": "C"
        }),
        "nobody waits for B"
    );
    let rest = page("?limit=2&after=C").await;
    assert_eq!((&rest["products"][0]["sku"], &rest["next"]), (&json!("D"), &Value::Null));
    service.batch("D", "b", json!({"qty": 6})).await;
    assert_eq!(page("?after=C").await, json!({"products": [], "next": null}));
    service.get("/v1/backlog?limit=0").await.expect(422);
    service.get("/v1/backlog?sku=A").await.expect(422);
}
