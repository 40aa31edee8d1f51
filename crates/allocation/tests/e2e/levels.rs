//! What is kept back, what is little, and what is overdue: rules 19 and 25.

use serde_json::{Value, json};

use crate::support::{On, Service, day_in, faulty, lamps, on_both_stores, today};

on_both_stores!(
    safety_stock_is_never_promised,
    raising_safety_stock_takes_no_place_and_lowering_it_serves_the_queue,
    what_comes_refills_safety_stock_first,
    what_one_line_takes_together_leaves_safety_stock_untouched,
    each_location_keeps_its_own,
    little_is_told_once_and_enough_once,
    little_is_what_is_left_of_safety_stock,
    little_is_told_when_it_is_set_and_forgotten_when_it_is_no_longer,
    a_hold_that_ends_may_be_enough,
    all_settings_are_said_each_time,
    what_makes_no_sense_of_levels_is_told_by_field,
    an_overdue_batch_counts_for_no_new_promise_and_keeps_what_is_in_it,
    a_batch_is_overdue_the_day_after_its_last_day,
    what_was_damaged_of_levels_and_locations_is_found_and_mended,
);

/// What is kept at a location of which nothing was said.
fn kept(safety_stock: u64) -> Value {
    json!({"locations": {"default": {"safety_stock": safety_stock}}})
}

/// Units available and promisable.
async fn numbers(service: &Service) -> [u64; 2] {
    let product = service.product("LAMP").await;
    ["available", "promisable"].map(|name| product[name].as_u64().unwrap())
}

/// What was said of little and of enough after an event.
async fn told(service: &Service, after: u64) -> Vec<String> {
    let events = service.history("LAMP", after).await;
    events.into_iter().filter(|event| event.starts_with("low_stock") || event.starts_with("restocked")).collect()
}

async fn safety_stock_is_never_promised(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    let product = service.set(kept(4)).await;
    assert_eq!((&product["available"], &product["promisable"]), (&json!(6), &json!(6)));
    assert_eq!(product["locations"]["default"]["safety_stock"], 4);
    let ready = service.get("/v1/availability/LAMP?qty=7").await.expect(200).json();
    assert_eq!((&ready["available"], &ready["ready"]), (&json!(6), &Value::Null));
    assert_eq!((&ready["atp"], &ready["placements"][0]["qty"]), (&json!([{"date": today(0), "qty": 6}]), &json!(6)));
    let short = service.ask("o1", 7, json!({})).await.expect(409).json();
    assert_eq!(short["short"], json!([{"sku": "LAMP", "asked": 7, "available": 6, "promisable": 6}]));
    for with in [json!({"split": false}), json!({"split": "locations"}), json!({"hold_seconds": 60})] {
        service.ask("o1", 7, with).await.expect(409);
    }
    service.ask("o1", 7, json!({"when_short": "partial"})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: b 6, dropped 1");
    service.delete("/v1/orders/o1").await.expect(200);
    service.queue_up("o2", 8).await;
    assert_eq!(service.fate("o2").await, "backordered: b 6, waiting 2");
    assert_eq!(numbers(&service).await, [0, 0]);
    service.assert_nobody_waits_in_vain().await;
    service.patch("/v1/orders/o2/lines/LAMP", json!({"qty": 6})).await.expect(200);
    service.patch("/v1/orders/o2/lines/LAMP", json!({"qty": 7})).await.expect(409);
    service.post("/allocate", json!({"orderid": "o3", "sku": "LAMP", "qty": 1})).await.expect(202);
    service.get("/v1/orders/o3").await.expect(404);
    store.assert_balanced().await;
}

async fn raising_safety_stock_takes_no_place_and_lowering_it_serves_the_queue(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.ask("o1", 8, json!({})).await.expect(201);
    service.set(kept(5)).await;
    assert_eq!(service.fate("o1").await, "allocated: b 8");
    assert_eq!(numbers(&service).await, [0, 0]);
    service.queue_up("w", 3).await;
    assert_eq!(service.fate("w").await, "backordered: waiting 3");
    service.set(kept(1)).await;
    assert_eq!(service.fate("w").await, "backordered: b 1, waiting 2");
    service.set(json!({})).await;
    assert_eq!(service.fate("w").await, "backordered: b 2, waiting 1");
    service.delete("/v1/orders/o1").await.expect(200);
    service.set(kept(9)).await;
    assert_eq!(service.fate("w").await, "allocated: b 3");
    store.assert_balanced().await;
}

async fn what_comes_refills_safety_stock_first(on: On) {
    let (store, service) = lamps(on, &[("b", 2, ""), ("c", 10, "2031-01-01")]).await;
    service.set(kept(5)).await;
    assert_eq!(numbers(&service).await, [0, 7]);
    let ready = service.get("/v1/availability/LAMP?qty=8").await.expect(200).json();
    let by_then = json!([{"date": "2031-01-01", "qty": 7}]);
    assert_eq!((&ready["atp"], &ready["locations"]["default"]["atp"]), (&by_then, &by_then));
    service.queue_up("w", 9).await;
    assert_eq!(service.fate("w").await, "backordered: c 7, waiting 2");
    service.post("/v1/products/LAMP/batches/c/receipts", json!({"qty": 10})).await.expect(200);
    assert_eq!(service.fate("w").await, "backordered: c 7, waiting 2", "what is free is kept");
    service.batch("LAMP", "d", json!({"qty": 1})).await;
    assert_eq!(service.fate("w").await, "backordered: b 1, c 7, waiting 1");
    // Whatever else frees stock serves the queue with what is more than is to be kept.
    service
        .post_new("/v1/products/LAMP/batches/b/adjustments", json!({"kind": "found", "qty": 3, "reason": "seen"}))
        .await;
    assert_eq!(service.fate("w").await, "allocated: b 2, c 7");
    assert_eq!(numbers(&service).await, [2, 2]);
    service.assert_nobody_waits_in_vain().await;
    store.assert_balanced().await;
}

async fn what_one_line_takes_together_leaves_safety_stock_untouched(on: On) {
    let (store, service) = lamps(on, &[("b", 4, ""), ("c", 4, ""), ("d", 4, "2031-01-01")]).await;
    service.set(kept(5)).await;
    assert_eq!(numbers(&service).await, [3, 7]);
    service.ask("o1", 8, json!({})).await.expect(409);
    service.ask("o1", 7, json!({})).await.expect(201);
    let line = service.lines("o1").await.remove(0);
    let today_s: u64 = line["placements"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|at| at["eta"].is_null())
        .map(|at| at["qty"].as_u64().unwrap())
        .sum();
    assert_eq!((today_s, &line["allocated"]), (3, &json!(7)), "{line}");
    service.ask("o2", 1, json!({})).await.expect(409);
    // Several lines of one request are one after the other.
    service.delete("/v1/orders/o1").await.expect(200);
    let lines = json!([{"sku": "LAMP", "qty": 2}, {"sku": "LAMP", "qty": 2, "line": "2", "by": today(0)}]);
    let short = service.put("/v1/orders/o3", json!({ "lines": lines })).await.expect(409).json();
    assert_eq!(short["short"][0]["promisable"], 3, "{short}");
    store.assert_balanced().await;
}

async fn each_location_keeps_its_own(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.set(json!({"locations": {"north": {"safety_stock": 3}, "moon": {"safety_stock": 100}}})).await;
    service.lamps_at("north", "n", 5, "").await;
    service.lamps_at("south", "s", 5, "").await;
    let product = service.product("LAMP").await;
    let available = ["north", "south", "moon"].map(|location| product["locations"][location]["available"].clone());
    assert_eq!((available, &product["available"]), ([json!(2), json!(5), json!(0)], &json!(7)));
    let over = json!({"split": "locations"});
    let short = service.ask("o1", 8, over.clone()).await.expect(409).json();
    assert_eq!(short["short"][0]["promisable"], 7);
    service.ask("o1", 7, over).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: n 2, s 5");
    // Little of one is not little of another.
    service.ask("o2", 1, json!({"locations": ["north"]})).await.expect(409);
    store.assert_balanced().await;
}

async fn little_is_told_once_and_enough_once(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("north", "n", 10, "").await;
    service.lamps_at("south", "s", 100, "").await;
    let product = service.set(json!({"locations": {"north": {"low_stock": 3, "restocked": 6}}})).await;
    let level = ["low_stock", "restocked", "low"].map(|name| product["locations"]["north"][name].clone());
    assert_eq!(level, [json!(3), json!(6), json!(false)]);
    let before = service.version("LAMP").await;
    let low = async || service.product("LAMP").await["locations"]["north"]["low"].as_bool().unwrap();
    let take = async |order_id: &str, qty: u64| {
        service.ask(order_id, qty, json!({"locations": ["north"]})).await.expect(201);
    };
    take("o1", 6).await;
    assert_eq!((told(&service, before).await.len(), low().await), (0, false), "four are left");
    take("o2", 1).await;
    assert_eq!((told(&service, before).await, low().await), (vec!["low_stock north 3".to_owned()], true));
    take("o3", 1).await;
    service.delete("/v1/orders/o3").await.expect(200);
    service.lamps_at("north", "n", 12, "").await;
    assert_eq!((told(&service, before).await.len(), low().await), (1, true), "five are not enough");
    service.delete("/v1/orders/o2").await.expect(200);
    assert_eq!(
        (told(&service, before).await[1..].to_vec(), low().await),
        (vec!["restocked north 6".to_owned()], false)
    );
    take("o4", 6).await;
    assert_eq!(told(&service, before).await[2..], ["low_stock north 0"]);
    let events = service.events_of("LAMP", before).await;
    let of = |name: &str| events.iter().find(|event| event["type"] == name).unwrap()["data"].clone();
    assert_eq!(of("allocation.low_stock.v1"), json!({"location": "north", "available": 3, "threshold": 3}));
    assert_eq!(of("allocation.restocked.v1"), json!({"location": "north", "available": 6, "threshold": 6}));
    assert_eq!(service.products().await[0]["locations"]["north"]["low"], true);
    // A copy that starts knows what was told.
    drop(service);
    let service = store.serve().await;
    service.ask("o5", 1, json!({"locations": ["south"]})).await.expect(201);
    assert_eq!(told(&service, before).await.len(), 3);
    store.assert_balanced().await;
}

async fn little_is_what_is_left_of_safety_stock(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    let level = |safety_stock: u64| json!({"locations": {"default": {"safety_stock": safety_stock, "low_stock": 2}}});
    service.set(level(7)).await;
    assert_eq!(told(&service, 0).await.len(), 0);
    service.set(level(8)).await;
    assert_eq!(told(&service, 0).await, ["low_stock 2"]);
    // One more than little is enough, unless said.
    service.set(level(7)).await;
    assert_eq!(told(&service, 0).await, ["low_stock 2", "restocked 3"]);
    // What is to come is not on hand.
    service.batch("LAMP", "c", json!({"qty": 50, "eta": "2031-01-01"})).await;
    service.post("/v1/products/LAMP/batches/b/quarantine", json!({})).await.expect(200);
    assert_eq!(told(&service, 0).await[2..], ["low_stock 0"]);
    store.assert_balanced().await;
}

async fn little_is_told_when_it_is_set_and_forgotten_when_it_is_no_longer(on: On) {
    let (store, service) = lamps(on, &[("b", 2, "")]).await;
    let little = json!({"locations": {"default": {"low_stock": 5}, "moon": {"low_stock": 0}}});
    service.set(little.clone()).await;
    assert_eq!(told(&service, 0).await, ["low_stock 2", "low_stock moon 0"]);
    let version = service.version("LAMP").await;
    service.set(little.clone()).await;
    assert_eq!(service.version("LAMP").await, version, "the same again does nothing");
    let product = service.set(json!({"locations": {"default": {"safety_stock": 1}}})).await;
    let level = ["low_stock", "restocked", "low"].map(|name| product["locations"]["default"][name].clone());
    assert_eq!(level, [Value::Null, Value::Null, json!(false)]);
    assert_eq!(told(&service, 0).await.len(), 2);
    service.set(little).await;
    assert_eq!(told(&service, 0).await[2..], ["low_stock 2", "low_stock moon 0"]);
    // Set lower, it may be enough at once.
    service.set(json!({"locations": {"default": {"low_stock": 0, "restocked": 2}}})).await;
    assert_eq!(told(&service, 0).await[4..], ["restocked 2"]);
    store.assert_balanced().await;
}

async fn a_hold_that_ends_may_be_enough(on: On) {
    let (store, service) = lamps(on, &[("b", 5, "")]).await;
    service.set(json!({"locations": {"default": {"low_stock": 1, "restocked": 5}}})).await;
    service.ask("h", 4, json!({"hold_seconds": 1})).await.expect(201);
    assert_eq!(told(&service, 0).await, ["low_stock 1"]);
    allocation_testing::eventually("the end of the hold", async || {
        let restocked = told(&service, 0).await.contains(&"restocked 5".to_owned());
        restocked.then_some(())
    })
    .await;
    let events = service.history("LAMP", 0).await;
    assert_eq!(events[events.len() - 2..], ["hold_expired h 4 b", "restocked 5"]);
    store.assert_balanced().await;
}

async fn all_settings_are_said_each_time(on: On) {
    let (store, service) = lamps(on, &[]).await;
    let all = json!({
        "queue_cap": 7, "auto_improve": true, "strategy": "location_priority", "min_days": 3, "requires_expiry": true,
        "overdue_days": 5,
        "locations": {"north": {"safety_stock": 3, "low_stock": 2, "restocked": 9}, "Zürich 北": {"low_stock": 4}},
    });
    let said = service.set(all.clone()).await;
    for (name, value) in all.as_object().unwrap().iter().filter(|(name, _)| *name != "locations") {
        assert_eq!(said[name], *value, "{name}");
    }
    let level = |product: &Value, location: &str| {
        ["safety_stock", "low_stock", "restocked"].map(|name| product["locations"][location][name].clone())
    };
    assert_eq!(level(&said, "north"), [json!(3), json!(2), json!(9)]);
    assert_eq!(level(&said, "Zürich 北"), [json!(0), json!(4), json!(5)]);
    let version = service.version("LAMP").await;
    assert_eq!(service.set(all).await["version"], version);
    assert_eq!(service.product("LAMP").await["locations"], said["locations"]);
    let less = service.set(json!({"locations": {"north": {}}})).await;
    assert_eq!(level(&less, "north"), [json!(0), Value::Null, Value::Null]);
    assert_eq!((&less["overdue_days"], &less["min_days"]), (&Value::Null, &json!(0)));
    let none = service.set(json!({"overdue_days": 0})).await;
    assert_eq!((&none["overdue_days"], &none["locations"]), (&json!(0), &json!({})));
    let none = service.set(json!({"locations": null, "overdue_days": null})).await;
    assert_eq!((&none["overdue_days"], &none["locations"]), (&Value::Null, &json!({})));
    store.assert_balanced().await;
}

async fn what_makes_no_sense_of_levels_is_told_by_field(on: On) {
    let (store, service) = lamps(on, &[("b", 5, "")]).await;
    let north = |level: Value| json!({"locations": {"north": level}});
    let too_many: Value = (0..1_001).map(|n| (format!("l{n}"), json!({}))).collect::<serde_json::Map<_, _>>().into();
    for (bad, field) in [
        (json!({"locations": 5}), "locations"),
        (json!({"locations": "north"}), "locations"),
        (json!({"locations": [{"north": {}}]}), "locations"),
        (json!({ "locations": too_many }), "locations"),
        (json!({"locations": {"": {}}}), "locations."),
        (json!({"locations": {" x": {}}}), "locations. x"),
        (north(json!(5)), "locations.north"),
        (north(json!(null)), "locations.north"),
        (north(json!({"safety_stock": -1})), "locations.north.safety_stock"),
        (north(json!({"safety_stock": 1.5})), "locations.north.safety_stock"),
        (north(json!({"safety_stock": "5"})), "locations.north.safety_stock"),
        (north(json!({"safety_stock": null})), "locations.north.safety_stock"),
        (north(json!({"safety_stock": 9_223_372_036_854_775_808_u64})), "locations.north.safety_stock"),
        (north(json!({"low_stock": -1})), "locations.north.low_stock"),
        (north(json!({"low_stock": "5"})), "locations.north.low_stock"),
        (north(json!({"low_stock": true})), "locations.north.low_stock"),
        (north(json!({"restocked": 5})), "locations.north.restocked"),
        (north(json!({"low_stock": null, "restocked": 5})), "locations.north.restocked"),
        (north(json!({"low_stock": 5, "restocked": 5})), "locations.north.restocked"),
        (north(json!({"low_stock": 5, "restocked": "6"})), "locations.north.restocked"),
        (north(json!({"low_stock": 9_223_372_036_854_775_807_u64})), "locations.north.restocked"),
        (north(json!({"reorder": 5})), "locations.north.reorder"),
        (json!({"overdue_days": -1}), "overdue_days"),
        (json!({"overdue_days": 3_651}), "overdue_days"),
        (json!({"overdue_days": "5"}), "overdue_days"),
        (json!({"overdue_days": 1.5}), "overdue_days"),
        (json!({"overdue_days": false}), "overdue_days"),
        (json!({"safety_stock": 5}), "safety_stock"),
    ] {
        assert_eq!(faulty(service.put("/v1/products/LAMP", bad.clone()).await), [field], "{bad}");
    }
    let twice = json!({"locations": {"a": {"safety_stock": -1}, "b": {"low_stock": -1, "x": 1}}, "overdue_days": -1});
    let named = faulty(service.put("/v1/products/LAMP", twice).await);
    assert_eq!(named, ["overdue_days", "locations.a.safety_stock", "locations.b.low_stock", "locations.b.x"]);
    assert_eq!(service.version("LAMP").await, 1);
    // The largest there are.
    let most = 9_223_372_036_854_775_807_u64;
    let largest = json!({"safety_stock": most, "low_stock": most - 1, "restocked": most});
    let product = service.set(json!({"locations": {"default": largest}, "overdue_days": 3_650})).await;
    assert_eq!((&product["available"], &product["locations"]["default"]["safety_stock"]), (&json!(0), &json!(most)));
    assert_eq!(told(&service, 0).await, ["low_stock 0"]);
    store.assert_balanced().await;
}

async fn an_overdue_batch_counts_for_no_new_promise_and_keeps_what_is_in_it(on: On) {
    let (store, service) = lamps(on, &[("c", 10, "2011-01-01")]).await;
    assert_eq!(numbers(&service).await, [0, 10]);
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("h", 1, json!({"hold_seconds": 6000})).await.expect(201);
    let promised = async || service.lines("o1").await[0]["promised_date"].clone();
    assert_eq!(promised().await, json!(today(1)));
    service.set(json!({"overdue_days": 3_650})).await;
    assert_eq!(numbers(&service).await, [0, 0]);
    assert_eq!(service.fate("o1").await, "allocated: c 4");
    assert_eq!(service.fate("h").await, "held: c 1");
    assert_eq!(promised().await, json!(today(1)));
    service.post("/v1/orders/h/confirm", json!({})).await.expect(200);
    let short = service.ask("o2", 1, json!({})).await.expect(409).json();
    assert_eq!(short["short"][0]["promisable"], 0);
    service.ask("o2", 1, json!({"split": false, "when_short": "partial"})).await.expect(409);
    service.patch("/v1/orders/o1/lines/LAMP", json!({"qty": 5})).await.expect(409);
    service.queue_up("w", 2).await;
    service.delete("/v1/orders/h").await.expect(200);
    assert_eq!(service.fate("w").await, "backordered: waiting 2");
    service.assert_nobody_waits_in_vain().await;
    let ready = service.get("/v1/availability/LAMP").await.expect(200).json();
    assert_eq!((&ready["ready"], &ready["placements"]), (&Value::Null, &json!([])));
    assert_eq!((&ready["atp"], &ready["locations"]["default"]["atp"]), (&json!([]), &json!([])));
    // With another date it counts again.
    service.batch("LAMP", "c", json!({"qty": 10, "eta": today(1)})).await;
    assert_eq!(service.fate("w").await, "allocated: c 2");
    assert_eq!(numbers(&service).await, [0, 4]);
    // And so it does with the setting.
    service.batch("LAMP", "d", json!({"qty": 3, "eta": "2011-01-01"})).await;
    assert_eq!(numbers(&service).await, [0, 4]);
    service.queue_up("v", 6).await;
    assert_eq!(service.fate("v").await, "backordered: c 4, waiting 2");
    service.set(json!({})).await;
    assert_eq!(service.fate("v").await, "allocated: c 4, d 2");
    // Once it comes, it is on hand.
    service.set(json!({"overdue_days": 0})).await;
    service.post("/v1/products/LAMP/batches/d/receipts", json!({"qty": 3})).await.expect(200);
    assert_eq!(numbers(&service).await, [1, 1]);
    store.assert_balanced().await;
}

async fn a_batch_is_overdue_the_day_after_its_last_day(on: On) {
    let (store, service) = lamps(on, &[("c", 10, &day_in("UTC", 3))]).await;
    for (days, promisable) in [(json!(3), 10), (json!(2), 0), (json!(4), 10), (json!(0), 0), (Value::Null, 10)] {
        service.set(json!({"overdue_days": days})).await;
        assert_eq!(numbers(&service).await, [0, promisable], "{days}");
    }
    store.assert_balanced().await;
}

async fn what_was_damaged_of_levels_and_locations_is_found_and_mended(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("north", "n", 5, "").await;
    service.lamps_at("south", "s", 5, "").await;
    service.set(json!({"overdue_days": 4, "locations": {"north": {"safety_stock": 1, "low_stock": 3}}})).await;
    service.ask("o1", 2, json!({"locations": ["north", "south"], "split": "locations"})).await.expect(201);
    let read = async || {
        let mut product = service.product("LAMP").await;
        product["version"] = Value::Null;
        (product, service.lines("o1").await)
    };
    let damages = [
        ("UPDATE batches SET location = 'south' WHERE reference = 'n'", "batch n"),
        ("UPDATE products SET overdue_days = 5", "overdue_days"),
        ("UPDATE products SET overdue_days = NULL", "overdue_days"),
        ("UPDATE products SET levels = NULL", "levels"),
        ("UPDATE products SET low = NULL", "little is left"),
        ("UPDATE lines SET locations = NULL", "order o1"),
        ("UPDATE lines SET over_locations = NULL", "order o1"),
    ];
    let whole = read().await;
    assert_eq!(whole.0["locations"]["north"]["low"], true);
    store.assert_mended(&damages, read).await;
}
