//! Promises for a while: rules 13 and 14.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{On, Service, Store, at_once, fate, from_then_on, instant, now, on_both_stores};

on_both_stores!(
    a_hold_lasts_until_its_second_and_has_ended_for_every_reader_from_then_on,
    lines_listed_by_state_are_those_that_are_in_it_by_now,
    a_queue_read_in_pages_leaves_nobody_out_when_a_hold_has_just_ended,
    nobody_sees_a_hold_that_has_ended_while_its_end_is_being_stored,
    whoever_writes_from_then_on_finds_the_units_free,
    an_ended_hold_is_told_and_its_units_go_to_those_who_wait_though_nobody_asks,
    a_confirmed_hold_lasts_and_confirming_again_does_nothing,
    holds_of_an_order_are_confirmed_all_or_none,
    a_hold_is_extended_from_now_on_and_never_made_shorter,
    holds_never_wait,
    a_hold_that_has_ended_may_be_asked_for_anew,
    a_hold_that_is_cancelled_is_free_at_once_and_does_not_end_again,
    a_held_line_is_in_no_allocation_before_it_is_confirmed,
);

/// A service with ten lamps on hand.
async fn ten_lamps(on: On) -> (Store, Service) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    (store, service)
}

/// Has so many lamps held, and tells until when.
async fn hold(service: &Service, order_id: &str, qty: u64, seconds: u64) -> String {
    let order = service.ask(order_id, qty, json!({"hold_seconds": seconds})).await.expect(201).json();
    until(&order["lines"][0])
}

fn until(line: &Value) -> String {
    instant(line["held_until"].as_str().unwrap_or_else(|| panic!("it is not held: {line}")))
}

/// Waits until holds of orders have ended.
async fn ended(service: &Service, orders: &[&str]) {
    for order_id in orders {
        for line in service.lines(order_id).await {
            if line["held_until"] != Value::Null {
                from_then_on(&until(&line), async || ()).await;
            }
        }
    }
}

async fn a_hold_lasts_until_its_second_and_has_ended_for_every_reader_from_then_on(on: On) {
    let (store, service) = ten_lamps(on).await;
    let until = hold(&service, "h", 8, 2).await;
    service.queue_up("w", 9).await;
    let order = async |order_id: &str| service.fate(order_id).await;
    let product = async || {
        let product = service.product("LAMP").await;
        let batch = product["batches"][0].clone();
        assert_eq!((&product["held"], &product["available"]), (&batch["held"], &batch["free"]));
        ["held", "allocated", "available", "backordered", "queued"].map(|name| product[name].as_u64().unwrap())
    };
    let listed = async |state: &str| {
        let page = service.get(&format!("/v1/products/LAMP/lines?state={state}")).await.expect(200).json();
        page["lines"].as_array().unwrap().iter().map(fate).collect::<Vec<_>>()
    };
    let backlog = async || service.get("/v1/backlog").await.expect(200).json()["products"].clone();
    let quote = async || {
        let lamp = json!({"lines": [{"sku": "LAMP", "qty": 1}]});
        service.post("/v1/quotes", lamp).await.status.as_u16()
    };
    let available = async || service.get("/v1/availability/LAMP").await.expect(200).json()["available"].clone();
    // Whether `h` still holds, as each way to ask tells it: all of them at once, so that none owes its answer to another.
    let readers = async || {
        let asked = now();
        let told = tokio::join!(
            async { order("h").await == "held: b 8" },
            async { order("w").await == "backordered: b 2, waiting 7" },
            async { product().await == [8, 2, 0, 7, 7] },
            async { listed("held").await == ["held: b 8"] },
            async { listed("backordered").await == ["backordered: b 2, waiting 7"] },
            async { service.queue("LAMP").await == ["w 7"] },
            async { backlog().await != json!([]) },
            async { quote().await == 409 },
            async { available().await == 0 },
        );
        (asked, <[bool; 9]>::from(told), now())
    };
    let mut before = 0;
    let after = allocation_testing::eventually("the end of the hold", async || {
        let (asked, held, answered) = readers().await;
        if answered < until {
            assert_eq!(held, [true; 9], "it lasts until its second");
            before += 1;
        }
        (asked >= until).then_some(held)
    })
    .await;
    assert!(before > 0);
    assert_eq!(after, [false; 9], "from then on nobody sees it");
    assert_eq!(order("h").await, "lapsed: lapsed 8");
    assert_eq!(order("w").await, "allocated: b 9");
    assert_eq!(product().await, [0, 9, 1, 0, 0]);
    store.assert_balanced().await;
}

async fn lines_listed_by_state_are_those_that_are_in_it_by_now(on: On) {
    let (_store, service) = ten_lamps(on).await;
    let first = hold(&service, "h1", 4, 1).await;
    let second = hold(&service, "h2", 4, 1).await;
    hold(&service, "h3", 1, 600).await;
    service.queue_up("w", 9).await;
    let page = async |query: &str| service.get(&format!("/v1/products/LAMP/lines?{query}")).await.expect(200).json();
    let orders = |page: &Value| {
        let lines = page["lines"].as_array().unwrap().iter();
        lines.map(|line| line["order_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    from_then_on(&first.max(second), async || ()).await;
    let (held, lapsed, allocated, in_batch) =
        tokio::join!(page("state=held"), page("state=lapsed"), page("state=allocated"), page("batch=b"));
    assert_eq!((orders(&held), orders(&lapsed)), ("h3".into(), "h2 h1".into()));
    assert_eq!((orders(&allocated), orders(&in_batch)), ("w".into(), "w h3".into()));
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = page(&format!("state=lapsed&limit=1{after}")).await;
        found.push(orders(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found.join(" ").trim(), "h2 h1", "in pages too");
}

async fn a_queue_read_in_pages_leaves_nobody_out_when_a_hold_has_just_ended(on: On) {
    let (_store, service) = ten_lamps(on).await;
    service.ask("o1", 9, json!({})).await.expect(201);
    let until = hold(&service, "h", 1, 2).await;
    for order_id in ["w1", "w2", "w3", "w4", "w5"] {
        service.queue_up(order_id, 1).await;
    }
    let found = from_then_on(&until, async || {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/products/LAMP/queue?limit=2{after}");
            let page = service.get(&path).await.expect(200).json();
            let waiting = page["waiting"].as_array().unwrap().iter();
            found.extend(waiting.map(|units| units["line"]["order_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return found };
            after = format!("&after={next}");
        }
    })
    .await;
    assert_eq!(found, ["w2", "w3", "w4", "w5"], "w1 has what was held");
}

async fn nobody_sees_a_hold_that_has_ended_while_its_end_is_being_stored(on: On) {
    const PRODUCTS: usize = 40;
    let store = Store::new(on).await;
    let service = store.serve().await;
    let ends: Vec<Mutex<String>> = (0..PRODUCTS).map(|_| Mutex::default()).collect();
    at_once(0..PRODUCTS, async |n| {
        let sku = format!("S{n}");
        service.batch(&sku, "b", json!({"qty": 10})).await;
        let held = json!({"lines": [{"sku": sku, "qty": 8}], "hold_seconds": 2});
        let held = service.put(&format!("/v1/orders/h{n}"), held).await.expect(201).json();
        *ends[n].lock().unwrap() = until(&held["lines"][0]);
        let waits = json!({"lines": [{"sku": sku, "qty": 9}], "when_short": "backorder"});
        service.put(&format!("/v1/orders/w{n}"), waits).await.expect(201);
    })
    .await;
    // Readers go on until all ends are stored, which the program does by itself within a second.
    let stored = AtomicBool::new(false);
    let readers = at_once(0..16, async |reader| {
        for n in (0..PRODUCTS).cycle().skip(reader * 7) {
            if stored.load(Ordering::Relaxed) {
                return;
            }
            let (asked, end) = (now(), ends[n].lock().unwrap().clone());
            let (product, order) = match reader % 4 {
                0 => (Some(service.product(&format!("S{n}")).await), None),
                1 => (None, Some((service.fate(&format!("h{n}")).await, "lapsed: lapsed 8"))),
                2 => (None, Some((service.fate(&format!("w{n}")).await, "allocated: b 9"))),
                _ => {
                    let products = service.products().await;
                    (products.into_iter().find(|product| product["sku"] == format!("S{n}")), None)
                }
            };
            if asked >= end {
                if let Some(product) = product {
                    assert_eq!((&product["held"], &product["backordered"]), (&json!(0), &json!(0)), "{product}");
                }
                if let Some((is, shall_be)) = order {
                    assert_eq!(is, shall_be);
                }
            }
        }
    });
    let watch = async {
        allocation_testing::eventually("all ends in the feed", async || {
            let page = service.get("/v1/events?limit=1000").await.expect(200).text;
            (page.matches("allocation.hold_expired.v1").count() == PRODUCTS).then_some(())
        })
        .await;
        stored.store(true, Ordering::Relaxed);
    };
    tokio::join!(readers, watch);
    store.assert_balanced().await;
}

async fn whoever_writes_from_then_on_finds_the_units_free(on: On) {
    let (store, service) = ten_lamps(on).await;
    let until = hold(&service, "h", 8, 2).await;
    // Either all of it or nothing, so that asking does not take anything before.
    let status = allocation_testing::eventually("the units", async || {
        let asked = now();
        let status = service.ask("o1", 9, json!({})).await.status.as_u16();
        assert!(now() >= until || status == 409, "it lasts until its second");
        (asked >= until || status == 201).then_some(status)
    })
    .await;
    assert_eq!(status, 201);
    let told = service.history("LAMP", 0).await;
    let end: Vec<_> = told.iter().skip_while(|event| !event.starts_with("hold_expired")).collect();
    assert_eq!(end, ["hold_expired h 8 b", "line_allocated o1 9 b"]);
    store.assert_balanced().await;
}

async fn an_ended_hold_is_told_and_its_units_go_to_those_who_wait_though_nobody_asks(on: On) {
    let (store, service) = ten_lamps(on).await;
    hold(&service, "h", 8, 2).await;
    service.queue_up("w", 9).await;
    // Who reads the feed reads what was stored.
    let told = allocation_testing::eventually("the allocation in the feed", async || {
        let page = service.get("/v1/events?limit=1000").await.expect(200).json();
        let events: Vec<_> = page["events"].as_array().unwrap().iter().map(|event| event["event"].clone()).collect();
        let expired = events.iter().position(|event| event["type"] == "allocation.hold_expired.v1")?;
        let next = events.get(expired + 1)?.clone();
        Some((events[expired].clone(), next))
    })
    .await;
    assert_eq!((&told.0["data"]["order_id"], &told.0["data"]["qty"]), (&json!("h"), &json!(8)));
    assert_eq!(told.1["type"], "allocation.line_allocated.v1");
    assert_eq!((&told.1["data"]["order_id"], &told.1["data"]["qty"]), (&json!("w"), &json!(7)));
    let said = store.assert_balanced().await;
    assert!(said.contains("9 units allocated, 0 held, 0 backordered"), "{said}");
}

async fn a_confirmed_hold_lasts_and_confirming_again_does_nothing(on: On) {
    let (store, service) = ten_lamps(on).await;
    service.batch("LAMP", "c", json!({"qty": 10, "eta": "2031-01-01"})).await;
    let until = hold(&service, "h", 13, 2).await;
    let confirmed = service.post("/v1/orders/h/confirm", json!({})).await.expect(200).json();
    assert_eq!(fate(&confirmed["lines"][0]), "allocated: b 10, c 3");
    assert_eq!(confirmed["lines"][0]["held_until"], Value::Null);
    let version = service.version("LAMP").await;
    let again = service.post("/v1/orders/h/confirm", json!({})).await.expect(200).json();
    assert_eq!(again, confirmed);
    from_then_on(&until, async || ()).await;
    assert_eq!(service.fate("h").await, "allocated: b 10, c 3");
    service.post("/v1/orders/h/confirm", json!({})).await.expect(200);
    assert_eq!(service.version("LAMP").await, version);
    service.post("/v1/orders/none/confirm", json!({})).await.expect(404);
    store.assert_balanced().await;
}

async fn holds_of_an_order_are_confirmed_all_or_none(on: On) {
    let (store, service) = ten_lamps(on).await;
    service.batch("SHADE", "s", json!({"qty": 5})).await;
    hold(&service, "o1", 2, 2).await;
    let shades = json!({"lines": [{"sku": "SHADE", "qty": 3}], "hold_seconds": 600});
    service.put("/v1/orders/o1", shades).await.expect(201);
    let fates = async || service.lines("o1").await.iter().map(fate).collect::<Vec<_>>();
    assert_eq!(fates().await, ["held: b 2", "held: s 3"]);
    let lamps_end = until(&service.lines("o1").await[0]);
    from_then_on(&lamps_end, async || ()).await;
    let refused = service.post("/v1/orders/o1/confirm", json!({})).await.expect(409).json();
    assert_eq!(refused["type"], "urn:allocation:problem:not-allowed");
    assert_eq!(fates().await, ["lapsed: lapsed 2", "held: s 3"], "the other is not confirmed either");
    service.delete("/v1/orders/o1/lines/LAMP").await.expect(200);
    service.ask("o1", 2, json!({"hold_seconds": 600})).await.expect(201);
    service.post("/v1/orders/o1/confirm", json!({})).await.expect(200);
    assert_eq!(fates().await, ["allocated: b 2", "allocated: s 3"]);
    store.assert_balanced().await;
}

async fn a_hold_is_extended_from_now_on_and_never_made_shorter(on: On) {
    let (store, service) = ten_lamps(on).await;
    let first = hold(&service, "h", 4, 2).await;
    let extend = async |order_id: &str, seconds: u64| {
        let path = format!("/v1/orders/{order_id}/extend");
        service.post(&path, json!({"hold_seconds": seconds})).await
    };
    let before = service.version("LAMP").await;
    let second = until(&extend("h", 600).await.expect(200).json()["lines"][0]);
    assert!(second > first);
    assert_eq!(until(&extend("h", 60).await.expect(200).json()["lines"][0]), second, "never shorter");
    assert_eq!(service.history("LAMP", before).await, ["hold_extended h"]);
    from_then_on(&first, async || ()).await;
    assert_eq!(service.fate("h").await, "held: b 4");

    service.ask("o1", 1, json!({})).await.expect(201);
    assert_eq!(extend("o1", 60).await.expect(409).json()["type"], "urn:allocation:problem:not-allowed");
    extend("none", 60).await.expect(404);
    hold(&service, "late", 1, 1).await;
    ended(&service, &["late"]).await;
    extend("late", 60).await.expect(409);
    assert_eq!(service.fate("late").await, "lapsed: lapsed 1");
    store.assert_balanced().await;
}

async fn holds_never_wait(on: On) {
    let (store, service) = ten_lamps(on).await;
    let refused = service.ask("h", 11, json!({"hold_seconds": 60, "when_short": "backorder"})).await.expect(422).json();
    assert_eq!(refused["errors"][0]["field"], "hold_seconds");
    service.ask("h", 11, json!({"hold_seconds": 60})).await.expect(409);
    service.ask("h", 11, json!({"hold_seconds": 60, "when_short": "partial"})).await.expect(201);
    assert_eq!(service.fate("h").await, "held: b 10, dropped 1");
    let more = service.patch("/v1/orders/h/lines/LAMP", json!({"qty": 12, "when_short": "backorder"})).await;
    assert_eq!(more.expect(409).json()["type"], "urn:allocation:problem:out-of-stock");
    store.assert_balanced().await;
}

async fn a_hold_that_has_ended_may_be_asked_for_anew(on: On) {
    let (store, service) = ten_lamps(on).await;
    let orders = ["h1", "h2", "h3"];
    at_once(orders, async |order_id| drop(hold(&service, order_id, 3, 1).await)).await;
    ended(&service, &orders).await;
    service.ask("h1", 3, json!({"hold_seconds": 600})).await.expect(201);
    assert_eq!(service.fate("h1").await, "held: b 3");
    service.ask("h2", 5, json!({})).await.expect(201);
    assert_eq!(service.fate("h2").await, "allocated: b 5", "as new: another quantity, and for good");
    service.ask("h3", 9, json!({})).await.expect(409);
    assert_eq!(service.fate("h3").await, "lapsed: lapsed 3", "what is refused changes nothing");
    service.ask("h3", 9, json!({"when_short": "backorder"})).await.expect(201);
    assert_eq!(service.fate("h3").await, "backordered: b 2, waiting 7");
    service.ask("h3", 9, json!({})).await.expect(200);
    store.assert_balanced().await;
}

async fn a_hold_that_is_cancelled_is_free_at_once_and_does_not_end_again(on: On) {
    let (store, service) = ten_lamps(on).await;
    let until = hold(&service, "h", 8, 2).await;
    let cancelled = service.delete("/v1/orders/h").await.expect(200).json();
    assert_eq!(fate(&cancelled["lines"][0]), "cancelled: cancelled 8");
    assert_eq!(service.product("LAMP").await["available"], 10);
    let version = service.version("LAMP").await;
    from_then_on(&until, async || ()).await;
    assert_eq!(service.version("LAMP").await, version);
    service.post("/v1/orders/h/confirm", json!({})).await.expect(409);
    store.assert_balanced().await;
}

async fn a_held_line_is_in_no_allocation_before_it_is_confirmed(on: On) {
    let (_store, service) = ten_lamps(on).await;
    hold(&service, "h", 8, 600).await;
    service.get("/allocations/h").await.expect(404);
    service.post("/v1/orders/h/confirm", json!({})).await.expect(200);
    assert_eq!(service.get("/allocations/h").await.expect(200).json(), json!([{"sku": "LAMP", "batchref": "b"}]));
    assert_eq!(
        service.history("LAMP", 1).await,
        ["line_held h 8 b", "line_allocated h 8 b"],
        "held first, then allocated"
    );
}
