//! What is promised, from where and for when: rules 3, 4, 5, 8, 9 and 26, quotes and availability.

use serde_json::{Value, json};

use crate::support::{On, Store, fate, lamps, later_date, on_both_stores, today};

on_both_stores!(
    without_splitting_a_line_goes_whole_to_the_first_batch_that_can_take_it,
    the_originals_allocate_never_splits,
    a_line_is_split_to_be_ready_on_the_earliest_day,
    for_one_day_one_batch_is_preferred_and_then_the_fewest,
    no_part_but_the_remainder_is_smaller_than_asked,
    a_line_is_promised_by_its_day_or_not_at_all,
    what_is_wanted_later_leaves_todays_stock_to_todays_orders,
    terms_of_an_order_hold_for_lines_that_say_nothing_else,
    reject_promises_all_or_nothing,
    partial_promises_what_there_is_and_drops_the_rest_for_good,
    backorder_promises_what_there_is_and_queues_the_rest,
    an_order_over_many_products_is_accepted_for_all_or_none,
    lines_of_one_product_are_told_apart_by_their_key,
    the_same_request_again_has_no_effect_whatever_has_happened_since,
    a_refused_request_leaves_no_line_behind,
    out_of_stock_is_raised_once_until_stock_comes_back,
    a_quote_is_what_the_order_then_gets_and_promises_nothing,
    availability_tells_how_many_by_which_day,
    availability_tells_from_when_and_where_a_quantity_is_to_be_had,
    overdue_batches_count_from_tomorrow,
);

/// What a request is refused for lack of.
fn short(problem: &Value) -> String {
    assert_eq!(problem["type"], "urn:allocation:problem:out-of-stock", "{problem}");
    let said = |s: &Value| {
        format!("{} {} of {}, {} available", s["sku"].as_str().unwrap(), s["promisable"], s["asked"], s["available"])
    };
    problem["short"].as_array().unwrap().iter().map(said).collect::<Vec<_>>().join("; ")
}

async fn without_splitting_a_line_goes_whole_to_the_first_batch_that_can_take_it(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 10, "2031-01-01"), ("c", 10, "2031-02-01")]).await;
    let whole = || json!({"split": false});
    service.ask("o1", 3, whole()).await.expect(201);
    service.ask("o2", 4, whole()).await.expect(201);
    service.ask("o3", 7, whole()).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: a 3");
    assert_eq!(service.fate("o2").await, "allocated: b 4");
    assert_eq!(service.fate("o3").await, "allocated: c 7");
    let refused = service.ask("o4", 7, whole()).await.expect(409).json();
    assert_eq!(short(&refused), "LAMP 0 of 7, 0 available", "nine are free, in two batches");
    service.ask("o4", 7, json!({})).await.expect(201);
    assert_eq!(service.fate("o4").await, "allocated: b 6, c 1");
    store.assert_balanced().await;
}

async fn the_originals_allocate_never_splits(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 3, "")]).await;
    let allocate = async || {
        service.post("/allocate", json!({"orderid": "o1", "sku": "LAMP", "qty": 5})).await.expect(202);
        service.get("/allocations/o1").await
    };
    allocate().await.expect(404);
    service.batch("LAMP", "c", json!({"qty": 5})).await;
    assert_eq!(allocate().await.expect(200).json(), json!([{"sku": "LAMP", "batchref": "c"}]));
    // What was promised in parts is shown in parts.
    service.ask("o2", 6, json!({})).await.expect(201);
    let parts = json!([{"sku": "LAMP", "batchref": "a"}, {"sku": "LAMP", "batchref": "b"}]);
    assert_eq!(service.get("/allocations/o2").await.expect(200).json(), parts);
    store.assert_balanced().await;
}

async fn a_line_is_split_to_be_ready_on_the_earliest_day(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 4, "2031-01-01"), ("c", 100, "2031-02-01")]).await;
    let order = service.ask("o1", 7, json!({})).await.expect(201).json();
    assert_eq!(fate(&order["lines"][0]), "allocated: a 3, b 4", "and not whole from c, which comes later");
    assert_eq!(order["lines"][0]["promised_date"], "2031-01-01");
    store.assert_balanced().await;
}

async fn for_one_day_one_batch_is_preferred_and_then_the_fewest(on: On) {
    let batches = [("a", 2, ""), ("b", 2, ""), ("c", 5, ""), ("d", 9, "2031-01-01"), ("e", 99, "2031-02-01")];
    let (store, service) = lamps(on, &batches).await;
    service.ask("o1", 7, json!({})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: a 2, c 5", "two of the three on hand");
    service.ask("o2", 9, json!({})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: d 9", "with b it would be ready on the same day, in two parts");
    store.assert_balanced().await;
}

async fn no_part_but_the_remainder_is_smaller_than_asked(on: On) {
    let (store, service) = lamps(on, &[("a", 2, ""), ("b", 2, ""), ("c", 9, "2031-01-01")]).await;
    service.ask("o1", 4, json!({"min_split": 3})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: c 4", "a and b are too small to be parts");
    service.ask("o2", 6, json!({"min_split": 3})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: a 1, c 5", "one is the remainder of six");
    let refused = service.ask("o3", 3, json!({"min_split": 3, "by": "2030-12-31"})).await.expect(409).json();
    assert_eq!(short(&refused), "LAMP 0 of 3, 3 available");
    service.ask("o3", 3, json!({"by": "2030-12-31"})).await.expect(201);
    assert_eq!(service.fate("o3").await, "allocated: a 1, b 2");
    store.assert_balanced().await;
}

async fn a_line_is_promised_by_its_day_or_not_at_all(on: On) {
    let (_store, service) = lamps(on, &[("a", 3, ""), ("b", 10, "2031-02-01")]).await;
    let refused = service.ask("o1", 5, json!({"by": "2031-01-31"})).await.expect(409).json();
    assert_eq!(short(&refused), "LAMP 3 of 5, 3 available");
    service.ask("o1", 5, json!({"by": "2031-02-01"})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: b 5");
    service.ask("o2", 3, json!({"by": today(1)})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: a 3");
}

async fn what_is_wanted_later_leaves_todays_stock_to_todays_orders(on: On) {
    let (store, service) = lamps(on, &[("a", 10, ""), ("b", 10, "2031-01-01"), ("c", 10, "2031-02-01")]).await;
    let order = service.ask("o1", 6, json!({"not_before": "2031-01-15"})).await.expect(201).json();
    assert_eq!(fate(&order["lines"][0]), "allocated: b 6", "the latest that arrives in time");
    assert_eq!(order["lines"][0]["promised_date"], "2031-01-15", "and no earlier");
    service.ask("o2", 6, json!({"not_before": "2031-01-15"})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: a 6", "one batch rather than two");
    service.ask("o3", 8, json!({"not_before": "2031-01-15"})).await.expect(201);
    assert_eq!(service.fate("o3").await, "allocated: a 4, b 4");
    service.ask("o4", 5, json!({"not_before": "2031-01-15", "by": "2031-01-31"})).await.expect(409);
    let late = service.ask("o4", 5, json!({"not_before": "2031-01-15"})).await.expect(201).json();
    assert_eq!(
        (fate(&late["lines"][0]).as_str(), &late["lines"][0]["promised_date"]),
        ("allocated: c 5", &json!("2031-02-01"))
    );
    store.assert_balanced().await;
}

async fn terms_of_an_order_hold_for_lines_that_say_nothing_else(on: On) {
    let (_store, service) = lamps(on, &[("a", 50, "")]).await;
    let order = json!({
        "priority": 7, "by": "2031-05-01", "not_before": "2031-04-01", "min_split": 4,
        "lines": [
            {"sku": "LAMP", "line": "like the order", "qty": 5},
            {"sku": "LAMP", "line": "unlike it", "qty": 5, "priority": -1, "by": null, "not_before": null, "split": false}
        ]
    });
    let order = service.put("/v1/orders/o1", order).await.expect(201).json();
    let terms = |line: &Value| {
        ["line", "priority", "by", "not_before", "split", "min_split"].map(|term| line[term].to_string()).join(" ")
    };
    let told: Vec<_> = order["lines"].as_array().unwrap().iter().map(terms).collect();
    assert_eq!(told, [r#""like the order" 7 "2031-05-01" "2031-04-01" true 4"#, r#""unlike it" -1 null null false 1"#]);
    assert_eq!(json!(service.lines("o1").await), order["lines"]);
}

async fn reject_promises_all_or_nothing(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 3, "2031-01-01")]).await;
    for reject in [json!({}), json!({"when_short": "reject"})] {
        let refused = service.ask("o1", 7, reject).await.expect(409).json();
        assert_eq!(short(&refused), "LAMP 6 of 7, 3 available");
    }
    assert_eq!(service.product("LAMP").await["promisable"], 6);
    service.get("/v1/orders/o1").await.expect(404);
    store.assert_balanced().await;
}

async fn partial_promises_what_there_is_and_drops_the_rest_for_good(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 3, "2031-01-01")]).await;
    let partial = || json!({"when_short": "partial"});
    service.ask("o1", 10, partial()).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: a 3, b 3, dropped 4");
    let refused = service.ask("o2", 1, partial()).await.expect(409).json();
    assert_eq!(short(&refused), "LAMP 0 of 1, 0 available", "nothing at all is refused");
    service.batch("LAMP", "c", json!({"qty": 10})).await;
    assert_eq!(service.fate("o1").await, "allocated: a 3, b 3, dropped 4", "it never grows by itself");
    service.ask("o1", 10, partial()).await.expect(200);
    service.ask("o1", 6, partial()).await.expect(409);
    let order = service.ask("o3", 12, json!({"when_short": "partial", "split": false})).await.expect(201).json();
    assert_eq!(fate(&order["lines"][0]), "allocated: c 10, dropped 2");
    assert_eq!((&order["lines"][0]["requested"], &order["lines"][0]["dropped"]), (&json!(12), &json!(2)));
    store.assert_balanced().await;
}

async fn backorder_promises_what_there_is_and_queues_the_rest(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 3, "2031-01-01")]).await;
    service.queue_up("o1", 10).await;
    assert_eq!(service.fate("o1").await, "backordered: a 3, b 3, waiting 4");
    assert_eq!(service.lines("o1").await[0]["promised_date"], Value::Null, "not while anything waits");
    service.queue_up("o2", 2).await;
    assert_eq!(service.fate("o2").await, "backordered: waiting 2");
    let whole = json!({"when_short": "backorder", "split": false});
    service.ask("o3", 2, whole).await.expect(201);
    assert_eq!(service.queue("LAMP").await, ["o1 4", "o2 2", "o3 2"]);
    assert_eq!(service.product("LAMP").await["backordered"], 8);
    store.assert_balanced().await;
}

async fn an_order_over_many_products_is_accepted_for_all_or_none(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    for (sku, qty) in [("LAMP", 10), ("SHADE", 5), ("BULB", 0)] {
        service.batch(sku, "b", json!({"qty": qty})).await;
    }
    let order = async |order_id: &str, policy: &str, lines: &[(&str, u64)]| {
        let lines: Vec<_> = lines.iter().map(|(sku, qty)| json!({"sku": sku, "qty": qty})).collect();
        service.put(&format!("/v1/orders/{order_id}"), json!({"lines": lines, "when_short": policy})).await
    };
    let fates = |order: &Value| -> Vec<String> { order["lines"].as_array().unwrap().iter().map(fate).collect() };
    let three = [("LAMP", 2), ("SHADE", 6), ("BULB", 3)];
    let untouched = async || {
        let free = [service.product("LAMP").await, service.product("SHADE").await];
        assert_eq!(free.map(|product| product["available"].clone()), [json!(10), json!(5)]);
        service.get("/v1/orders/o1").await.expect(404);
    };

    let refused = order("o1", "reject", &three).await.expect(409).json();
    assert_eq!(short(&refused), "BULB 0 of 3, 0 available; SHADE 5 of 6, 5 available");
    untouched().await;
    for policy in ["reject", "partial", "backorder"] {
        let unknown = order("o1", policy, &[("LAMP", 2), ("NONE", 1)]).await.expect(422).json();
        assert_eq!(unknown["type"], "urn:allocation:problem:unknown-sku");
        untouched().await;
    }
    service.put("/v1/products/BULB", json!({"queue_cap": 2})).await.expect(200);
    let full = order("o1", "backorder", &three).await.expect(409).json();
    assert_eq!(full["type"], "urn:allocation:problem:queue-full");
    untouched().await;

    let partial = order("o1", "partial", &three).await.expect(201).json();
    assert_eq!(fates(&partial)[1..], ["allocated: b 2", "allocated: b 5, dropped 1"]);
    assert_eq!(partial["lines"][0]["dropped"], 3);
    assert_eq!(
        short(&order("o2", "partial", &three[1..]).await.expect(409).json()),
        "BULB 0 of 3, 0 available; SHADE 0 of 6, 0 available"
    );
    let queued = order("o2", "backorder", &[("LAMP", 9), ("SHADE", 1), ("BULB", 2)]).await.expect(201).json();
    assert_eq!(fates(&queued), ["backordered: waiting 2", "backordered: b 8, waiting 1", "backordered: waiting 1"]);
    store.assert_balanced().await;
}

async fn lines_of_one_product_are_told_apart_by_their_key(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    let order = json!({"lines": [
        {"sku": "LAMP", "qty": 2}, {"sku": "LAMP", "qty": 3, "line": "gift"}, {"sku": "LAMP", "qty": 1, "line": "gift"}
    ]});
    service.put("/v1/orders/o1", order).await.expect(201);
    let lines = async || -> Vec<String> {
        service
            .lines("o1")
            .await
            .iter()
            .map(|line| format!("{} {}", line["line"].as_str().unwrap(), fate(line)))
            .collect()
    };
    assert_eq!(lines().await, ["1 allocated: b 2", "gift allocated: b 4"], "one key is one line");
    let conflict = json!({"lines": [{"sku": "LAMP", "qty": 2}, {"sku": "LAMP", "qty": 5, "line": "gift"}]});
    assert_eq!(
        service.put("/v1/orders/o1", conflict).await.expect(409).json()["conflicts"],
        json!([{"sku": "LAMP", "line": "gift", "reason": "other_quantity", "accepted": 4}])
    );
    service.patch("/v1/orders/o1/lines/LAMP?line=gift", json!({"qty": 5})).await.expect(200);
    service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": 1})).await.expect(200);
    assert_eq!(lines().await, ["1 allocated: b 1", "gift allocated: b 5"]);
    let cancelled = service.delete("/v1/orders/o1/lines/LAMP?line=gift").await.expect(200).json();
    assert_eq!(cancelled["lines"].as_array().unwrap().len(), 1);
    assert_eq!(lines().await, ["1 allocated: b 1", "gift cancelled: cancelled 5"]);
    service.delete("/v1/orders/o1/lines/LAMP?line=other").await.expect(404);
    service.patch("/v1/orders/o1/lines/LAMP?line=other", json!({"qty": 5})).await.expect(404);
    let both = service.delete("/v1/orders/o1/lines/LAMP").await.expect(200).json();
    assert_eq!(both["lines"].as_array().unwrap().len(), 2, "all of its lines unless said");
    assert_eq!(lines().await, ["1 cancelled: cancelled 1", "gift cancelled: cancelled 5"]);
    store.assert_balanced().await;
}

async fn the_same_request_again_has_no_effect_whatever_has_happened_since(on: On) {
    let (_store, service) = lamps(on, &[("b", 10, "2031-01-01"), ("c", 5, "2031-02-01")]).await;
    service.ask("o1", 10, json!({})).await.expect(201);
    service.batch("LAMP", "b", json!({"qty": 6})).await;
    let version = service.version("LAMP").await;
    // Quantities are compared, and nothing else is.
    for again in [json!({}), json!({"priority": 9, "by": "2030-01-01", "split": false, "when_short": "partial"})] {
        let again = service.ask("o1", 10, again).await.expect(200).json();
        assert_eq!(fate(&again["lines"][0]), "allocated: b 6, c 4", "the present state");
        assert_eq!(again["lines"][0]["priority"], 0);
    }
    let conflict = service.ask("o1", 6, json!({})).await.expect(409).json();
    assert_eq!(conflict["type"], "urn:allocation:problem:line-conflict");
    assert_eq!(service.version("LAMP").await, version);
    // A line that was changed is compared by what is asked for since.
    service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": 7})).await.expect(200);
    service.ask("o1", 7, json!({})).await.expect(200);
    service.ask("o1", 10, json!({})).await.expect(409);
    service.delete("/v1/orders/o1").await.expect(200);
    let cancelled = service.ask("o1", 7, json!({})).await.expect(409).json();
    assert_eq!(cancelled["conflicts"][0]["reason"], "cancelled");
}

async fn a_refused_request_leaves_no_line_behind(on: On) {
    let (_store, service) = lamps(on, &[("b", 3, "")]).await;
    service.ask("o1", 4, json!({})).await.expect(409);
    service.ask("o1", 4, json!({"hold_seconds": 60})).await.expect(409);
    service.get("/v1/orders/o1").await.expect(404);
    service.delete("/v1/orders/o1").await.expect(404);
    assert!(service.lines_of_product("LAMP").await.is_empty());
    // So another quantity is as good as new.
    service.ask("o1", 3, json!({})).await.expect(201);
}

async fn out_of_stock_is_raised_once_until_stock_comes_back(on: On) {
    let (_store, service) = lamps(on, &[("b", 3, ""), ("c", 2, "2031-01-01")]).await;
    let refused = async |with: Value| {
        let before = service.version("LAMP").await;
        service.ask("late", 7, with).await.expect(409);
        service.history("LAMP", before).await
    };
    assert_eq!(refused(json!({})).await, ["out_of_stock 7 3"], "seven asked for, three available");
    assert!(refused(json!({})).await.is_empty(), "once is enough");
    service.batch("LAMP", "d", json!({"qty": 1})).await;
    assert_eq!(refused(json!({})).await, ["out_of_stock 7 4"], "a new batch came");
    service.batch("LAMP", "d", json!({"qty": 0})).await;
    assert!(refused(json!({})).await.is_empty(), "less is not more");
    service.batch("LAMP", "d", json!({"qty": 1})).await;
    assert_eq!(refused(json!({})).await, ["out_of_stock 7 4"], "a batch has become larger");
    service.ask("o1", 6, json!({})).await.expect(201);
    assert!(refused(json!({})).await.is_empty());
    service.delete("/v1/orders/o1").await.expect(200);
    assert_eq!(refused(json!({})).await, ["out_of_stock 7 4"], "units were given back");
    service.ask("o2", 7, json!({"when_short": "backorder"})).await.expect(201);
    assert!(refused(json!({"when_short": "partial"})).await.is_empty());
    service.delete("/v1/orders/o2").await.expect(200);
    assert_eq!(refused(json!({"split": false})).await, ["out_of_stock 7 4"]);
}

async fn a_quote_is_what_the_order_then_gets_and_promises_nothing(on: On) {
    let (store, service) = lamps(on, &[("a", 3, ""), ("b", 10, "2031-01-01"), ("c", 10, "2031-02-01")]).await;
    service.batch("SHADE", "s", json!({"qty": 2})).await;
    service.put("/v1/products/SHADE", json!({"queue_cap": 4})).await.expect(200);
    let lamp = |qty: u64| json!([{"sku": "LAMP", "qty": qty}]);
    let both = |lamps: u64, shades: u64| json!([{"sku": "SHADE", "qty": shades}, {"sku": "LAMP", "qty": lamps}]);
    let orders = [
        json!({"lines": lamp(2)}),
        json!({"lines": lamp(5), "split": false}),
        json!({"lines": lamp(4), "min_split": 3}),
        json!({"lines": lamp(1), "not_before": "2031-01-20"}),
        json!({"lines": lamp(9), "by": "2031-01-01"}),
        json!({"lines": lamp(6), "by": "2031-01-01", "when_short": "partial"}),
        json!({"lines": lamp(2), "hold_seconds": 600}),
        json!({"lines": both(1, 3)}),
        json!({"lines": both(1, 7), "when_short": "backorder"}),
        json!({"lines": both(1, 3), "when_short": "partial"}),
        json!({"lines": both(50, 1), "when_short": "backorder"}),
        json!({"lines": [{"sku": "LAMP", "qty": 1}, {"sku": "LAMP", "qty": 1, "line": "gift", "priority": 3}],
               "when_short": "backorder"}),
        json!({"lines": lamp(1), "when_short": "partial"}),
        json!({"lines": [{"sku": "NONE", "qty": 1}]}),
        json!({"lines": lamp(0)}),
    ];
    let fields = ["sku", "line", "requested", "backordered", "dropped", "promised_date", "placements"];
    let mut statuses = Vec::new();
    for (n, order) in orders.into_iter().enumerate() {
        let before = (service.product("LAMP").await, service.product("SHADE").await);
        let quote = service.post("/v1/quotes", order.clone()).await;
        assert_eq!((service.product("LAMP").await, service.product("SHADE").await), before, "a quote promises nothing");
        let promise = service.put(&format!("/v1/orders/o{n}"), order.clone()).await;
        statuses.push(promise.status.as_u16());
        if !promise.status.is_success() {
            assert_eq!((quote.status, quote.json()), (promise.status, promise.json()), "{order}");
            continue;
        }
        let (quote, promise) = (quote.expect(200).json(), promise.json());
        let (quoted, promised) = (quote["lines"].as_array().unwrap(), promise["lines"].as_array().unwrap());
        assert_eq!(quoted.len(), promised.len());
        for (quoted, promised) in quoted.iter().zip(promised) {
            for field in fields {
                assert_eq!(quoted[field], promised[field], "{field} of {quoted} and {promised}");
            }
            let placed = promised["held"].as_u64().unwrap() + promised["allocated"].as_u64().unwrap();
            assert_eq!(quoted["placed"], placed);
        }
    }
    assert_eq!(statuses, [201, 201, 201, 201, 409, 201, 201, 409, 409, 201, 201, 201, 409, 422, 422]);
    store.assert_balanced().await;
}

async fn availability_tells_how_many_by_which_day(on: On) {
    let batches =
        [("a", 10, ""), ("b", 5, "2031-02-01"), ("c", 5, "2031-02-01"), ("d", 7, "2031-01-01"), ("e", 0, "2031-03-01")];
    let (_store, service) = lamps(on, &batches).await;
    let curve = async || {
        let told = service.get("/v1/availability/LAMP").await.expect(200).json();
        let atp = told["atp"].as_array().unwrap();
        let days: Vec<_> = atp.iter().map(|by| format!("{} {}", by["date"].as_str().unwrap(), by["qty"])).collect();
        (told["available"].as_u64().unwrap(), days)
    };
    let today = || format!("{} ", today(0));
    let ends = |of_today: u64| {
        vec![
            format!("{}{of_today}", today()),
            format!("2031-01-01 {}", of_today + 7),
            format!("2031-02-01 {}", of_today + 17),
        ]
    };
    assert_eq!(curve().await, (10, ends(10)));
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("h1", 3, json!({"hold_seconds": 600})).await.expect(201);
    assert_eq!(curve().await, (3, ends(3)), "what is placed, held or allocated, is not to be had");
    service.ask("o2", 8, json!({"by": "2031-01-01"})).await.expect(201);
    let left = (0, vec!["2031-01-01 2".to_owned(), "2031-02-01 12".to_owned()]);
    assert_eq!(curve().await, left, "days on which there are no more than before are left out");
    service.ask("o3", 99, json!({"when_short": "backorder", "split": false})).await.expect(201);
    assert_eq!(curve().await, left, "what waits is not subtracted");
    service.queue_up("o4", 20).await;
    assert_eq!(curve().await, (0, Vec::new()));
    service.get("/v1/availability/NONE").await.expect(404);
}

async fn availability_tells_from_when_and_where_a_quantity_is_to_be_had(on: On) {
    let (_store, service) = lamps(on, &[("a", 3, ""), ("b", 5, "2031-01-01"), ("c", 10, "2031-02-01")]).await;
    let told = async |query: &str| {
        let told = service.get(&format!("/v1/availability/LAMP{query}")).await.expect(200).json();
        let places = told["placements"].as_array().unwrap().iter();
        let places: Vec<_> = places.map(|at| format!("{} {}", at["batch"].as_str().unwrap(), at["qty"])).collect();
        (told["qty"].as_u64().unwrap(), told["ready"].clone(), places.join(", "))
    };
    assert_eq!(told("").await, (1, json!(today(0)), "a 1".into()), "one unless said");
    assert_eq!(told("?qty=8").await, (8, json!("2031-01-01"), "a 3, b 5".into()));
    assert_eq!(told("?qty=9").await, (9, json!("2031-02-01"), "c 9".into()));
    assert_eq!(told("?qty=9&by=2031-01-31").await, (9, Value::Null, "a 3, b 5".into()), "as many as are to be had");
    assert_eq!(told("?qty=19").await.1, Value::Null);
    for (query, field) in [("?qty=0", "qty"), ("?qty=x", "qty"), ("?by=soon", "by"), ("?from=1", "from")] {
        let refused = service.get(&format!("/v1/availability/LAMP{query}")).await.expect(422).json();
        assert_eq!(refused["errors"][0]["field"], field);
    }
}

async fn overdue_batches_count_from_tomorrow(on: On) {
    let (_store, service) = lamps(on, &[("a", 3, ""), ("late", 5, "2011-01-01"), ("b", 9, "2031-01-01")]).await;
    let told = service.get("/v1/availability/LAMP?qty=8").await.expect(200).json();
    let days: Vec<_> = told["atp"].as_array().unwrap().iter().map(|by| by["date"].as_str().unwrap()).collect();
    let tomorrow = later_date(days[0], 1).unwrap();
    assert_eq!(days[1..], [tomorrow.as_str(), "2031-01-01"]);
    assert_eq!(told["ready"], tomorrow);
    service.ask("o1", 4, json!({"by": today(0)})).await.expect(409);
    service.ask("o1", 4, json!({"by": today(2)})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: late 4", "before what is expected later, after what is there");
    assert_eq!(service.lines("o1").await[0]["placements"][0]["eta"], "2011-01-01");
}
