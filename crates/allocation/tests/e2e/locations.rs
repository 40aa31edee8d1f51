//! Batches are somewhere, and lines say where they may be served from: rules 2, 4, 6, 10 and 12, and the day it is at each location.

use serde_json::{Value, json};

use crate::support::{On, Service, Store, day_in, fate, faulty, lamps, on_both_stores, refused, today};

on_both_stores!(
    a_batch_is_where_it_was_declared_and_goes_nowhere_by_being_declared_elsewhere,
    what_is_still_to_come_of_a_receipt_comes_to_the_same_location,
    numbers_are_told_by_location,
    an_order_takes_only_from_locations_that_it_accepts,
    each_line_may_accept_other_locations,
    of_equal_dates_the_preferred_location_goes_first,
    an_earlier_date_beats_the_preference,
    location_priority_takes_the_preferred_location_even_on_a_later_day,
    the_service_may_be_told_to_go_by_location_first,
    a_line_that_stays_whole_goes_to_the_preferred_location_that_has_all_of_it,
    parts_of_a_line_stay_at_one_location,
    what_waits_of_a_line_is_served_where_its_other_parts_are,
    what_a_line_grows_by_is_where_its_other_parts_are,
    a_line_that_has_lost_all_its_places_may_go_anywhere_again,
    a_line_over_locations_takes_parts_wherever_it_may,
    a_line_over_locations_goes_no_further_than_it_must_by_location_priority,
    partial_gives_from_the_location_that_has_most,
    a_quote_says_what_an_order_would_get,
    improving_leaves_the_parts_of_a_line_together,
    what_makes_no_sense_of_locations_is_told_by_field,
    an_import_says_where_batches_are,
    each_location_has_its_own_day,
);

/// Where an order's only line is, by its placements.
async fn places(service: &Service, order_id: &str) -> Vec<String> {
    let line = &service.lines(order_id).await[0];
    let place = |at: &Value| format!("{} {}", at["location"].as_str().unwrap(), at["qty"]);
    line["placements"].as_array().unwrap().iter().map(place).collect()
}

/// Three lamps and two more at north, four at south.
async fn north_and_south(on: On) -> (Store, Service) {
    let (store, service) = lamps(on, &[]).await;
    for (location, reference, qty) in [("north", "n1", 3), ("north", "n2", 2), ("south", "s", 4)] {
        service.lamps_at(location, reference, qty, "").await;
    }
    (store, service)
}

async fn a_batch_is_where_it_was_declared_and_goes_nowhere_by_being_declared_elsewhere(on: On) {
    let (store, service) = lamps(on, &[("d", 5, "")]).await;
    let north = service.lamps_at("north", "n", 5, "2031-01-01").await;
    assert_eq!(north["location"], "north");
    let product = service.product("LAMP").await;
    let batches = product["batches"].as_array().unwrap().iter();
    let where_they_are: Vec<_> = batches.map(|batch| (batch["ref"].clone(), batch["location"].clone())).collect();
    assert_eq!(where_they_are, [(json!("d"), json!("default")), (json!("n"), json!("north"))]);
    assert_eq!(service.history("LAMP", 0).await, ["batch_created 5 d", "batch_created 5 n north"]);
    // Said again, or left out, it stays where it is.
    service.lamps_at("north", "n", 6, "2031-01-01").await;
    assert_eq!(service.batch("LAMP", "n", json!({"qty": 7})).await["location"], "north");
    service.lamps_at("default", "d", 5, "").await;
    let before = service.version("LAMP").await;
    let declare =
        async |reference: &str, body: Value| service.put(&format!("/v1/products/LAMP/batches/{reference}"), body).await;
    refused(declare("n", json!({"qty": 7, "location": "south"})).await, "at-location");
    refused(declare("n", json!({"qty": 9, "eta": null, "location": "default"})).await, "at-location");
    refused(declare("d", json!({"qty": 5, "location": "north"})).await, "at-location");
    refused(declare("d", json!({"qty": 5, "location": "Default"})).await, "at-location");
    assert_eq!(service.version("LAMP").await, before, "no half of it was done");
    service.delete("/v1/products/LAMP/batches/n").await.expect(200);
    refused(declare("n", json!({"qty": 7, "location": "south"})).await, "at-location");
    // As with the original's batches, which are all at one place.
    let again = service.post("/add_batch", json!({"ref": "n", "sku": "LAMP", "qty": 7, "eta": "2031-01-01"})).await;
    again.expect(400);
    store.assert_balanced().await;
}

async fn what_is_still_to_come_of_a_receipt_comes_to_the_same_location(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("north", "n", 10, "2031-01-01").await;
    let received = service.post("/v1/products/LAMP/batches/n/receipts", json!({"qty": 4})).await.expect(200).json();
    assert_eq!((&received["location"], &received["rest"]["location"]), (&json!("north"), &json!("north")));
    assert_eq!(service.product("LAMP").await["locations"]["north"]["incoming"], 6);
    store.assert_balanced().await;
}

async fn numbers_are_told_by_location(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("north", "n", 5, "").await;
    service.lamps_at("south", "s", 7, "").await;
    service.lamps_at("south", "t", 4, "2031-01-01").await;
    service.ask("o1", 3, json!({"locations": ["south"]})).await.expect(201);
    service.ask("h", 2, json!({"locations": ["north"], "hold_seconds": 6000})).await.expect(201);
    service.post("/v1/products/LAMP/batches/s/quarantine", json!({"qty": 1})).await.expect(200);
    let names = ["on_hand", "incoming", "unavailable", "held", "allocated", "available", "promisable"];
    let numbers = |of: &Value| names.map(|name| of[name].as_u64().unwrap());
    let product = service.product("LAMP").await;
    assert_eq!(numbers(&product), [12, 4, 1, 2, 3, 6, 10]);
    assert_eq!(product["locations"].as_object().unwrap().keys().collect::<Vec<_>>(), ["north", "south"]);
    assert_eq!(numbers(&product["locations"]["north"]), [5, 0, 0, 2, 0, 3, 3]);
    assert_eq!(numbers(&product["locations"]["south"]), [7, 4, 1, 0, 3, 3, 7]);
    assert_eq!(service.products().await, [product]);

    let availability = async |query: &str| service.get(&format!("/v1/availability/LAMP?qty=5{query}")).await;
    let (now, then) = (today(0), "2031-01-01");
    let by = |days: &[(&str, u64)]| -> Value {
        days.iter().map(|(date, qty)| json!({"date": date, "qty": qty})).collect::<Vec<_>>().into()
    };
    let all = availability("").await.expect(200).json();
    assert_eq!((&all["available"], &all["ready"]), (&json!(6), &json!(then)), "from one location");
    assert_eq!(all["atp"], by(&[(&now, 6), (then, 10)]));
    assert_eq!(
        all["locations"],
        json!({
            "north": {"available": 3, "atp": by(&[(&now, 3)])},
            "south": {"available": 3, "atp": by(&[(&now, 3), (then, 7)])},
        })
    );
    let north = availability("&location=north").await.expect(200).json();
    assert_eq!((&north["available"], &north["ready"]), (&json!(3), &Value::Null));
    assert_eq!((&north["placements"][0]["batch"], &north["placements"][0]["qty"]), (&json!("n"), &json!(3)));
    assert_eq!(north["locations"], json!({"north": {"available": 3, "atp": by(&[(&now, 3)])}}));
    let south = availability("&location=south").await.expect(200).json();
    assert_eq!((&south["available"], &south["ready"]), (&json!(3), &json!(then)));
    assert_eq!(south["placements"][1]["location"], "south");
    let nowhere = availability("&location=moon").await.expect(200).json();
    assert_eq!((&nowhere["available"], &nowhere["placements"]), (&json!(0), &json!([])));
    assert_eq!((&nowhere["atp"], &nowhere["locations"]), (&json!([]), &json!({})));
    assert_eq!(faulty(availability("&location=%20north").await), ["location"]);
    assert_eq!(faulty(availability("&location=north&location=south").await), ["location"]);
    store.assert_balanced().await;
}

async fn an_order_takes_only_from_locations_that_it_accepts(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("north", "n", 5, "").await;
    service.lamps_at("south", "s", 9, "").await;
    let north = |when_short: &str| json!({"locations": ["north"], "when_short": when_short});
    let short = service.ask("o1", 6, north("reject")).await.expect(409).json();
    assert_eq!(short["short"], json!([{"sku": "LAMP", "asked": 6, "available": 14, "promisable": 5}]));
    service.ask("o1", 6, north("partial")).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: n 5, dropped 1");
    assert_eq!(service.lines("o1").await[0]["locations"], json!(["north"]));
    service.delete("/v1/orders/o1").await.expect(200);
    service.ask("o2", 6, north("backorder")).await.expect(201);
    assert_eq!(service.fate("o2").await, "backordered: n 5, waiting 1", "beside what is free elsewhere");
    let moon = json!({"locations": ["moon", "north"], "when_short": "backorder"});
    service.ask("o3", 2, moon.clone()).await.expect(201);
    assert_eq!(service.fate("o3").await, "backordered: waiting 2");
    service.ask("o4", 2, json!({"locations": ["moon"]})).await.expect(409);
    service.ask("o4", 2, json!({"locations": ["moon"], "when_short": "partial"})).await.expect(409);
    service.assert_nobody_waits_in_vain().await;
    service.lamps_at("moon", "m", 3, "2031-01-01").await;
    assert_eq!(service.fate("o3").await, "allocated: m 2");
    service.lamps_at("north", "n", 6, "").await;
    assert_eq!(service.fate("o2").await, "allocated: n 6");
    // The same request again is the same whatever else it says.
    service.ask("o3", 2, moon).await.expect(200);
    store.assert_balanced().await;
}

async fn each_line_may_accept_other_locations(on: On) {
    let (store, service) = north_and_south(on).await;
    let lines = json!([
        {"sku": "LAMP", "qty": 1},
        {"sku": "LAMP", "qty": 1, "line": "2", "locations": ["south", "north"]},
        {"sku": "LAMP", "qty": 7, "line": "3", "locations": null, "split": "locations"},
    ]);
    let order = json!({"locations": ["north"], "lines": lines});
    let order = service.put("/v1/orders/o1", order).await.expect(201).json();
    let fates: Vec<_> = order["lines"].as_array().unwrap().iter().map(fate).collect();
    assert_eq!(fates, ["allocated: n1 1", "allocated: s 1", "allocated: n1 2, n2 2, s 3"]);
    let accepted: Vec<_> = order["lines"].as_array().unwrap().iter().map(|line| line["locations"].clone()).collect();
    assert_eq!(accepted, [json!(["north"]), json!(["south", "north"]), Value::Null]);
    // What a line says of its split leaves what is said of it for all.
    let lines = json!([
        {"sku": "LAMP", "qty": 1},
        {"sku": "LAMP", "qty": 1, "line": "2", "min_split": 2},
        {"sku": "LAMP", "qty": 1, "line": "3", "split": true},
        {"sku": "LAMP", "qty": 1, "line": "4", "split": false},
    ]);
    let order = json!({"split": "locations", "min_split": 3, "when_short": "backorder", "lines": lines});
    let order = service.put("/v1/orders/o3", order).await.expect(201).json();
    let splits =
        order["lines"].as_array().unwrap().iter().map(|line| (line["split"].clone(), line["min_split"].clone()));
    assert_eq!(
        splits.collect::<Vec<_>>(),
        [
            (json!("locations"), json!(3)),
            (json!("locations"), json!(2)),
            (json!(true), json!(3)),
            (json!(false), json!(1))
        ]
    );
    // Lines that are one must agree.
    let lines = json!([{"sku": "LAMP", "qty": 1}, {"sku": "LAMP", "qty": 1, "locations": ["south"]}]);
    let differ = service.put("/v1/orders/o2", json!({"locations": ["north"], "lines": lines})).await;
    assert_eq!(faulty(differ), ["lines"]);
    store.assert_balanced().await;
}

async fn of_equal_dates_the_preferred_location_goes_first(on: On) {
    for eta in ["", "2031-01-01"] {
        let (store, service) = lamps(on, &[]).await;
        for (reference, location) in [("a", "west"), ("b", "south"), ("c", "north")] {
            service.lamps_at(location, reference, 9, eta).await;
        }
        let mut n = 0;
        for split in [json!(true), json!(false), json!("locations")] {
            for (accepted, batch) in [
                (Value::Null, "a"),
                (json!(["north", "south"]), "c"),
                (json!(["south", "north"]), "b"),
                (json!(["moon", "west", "north"]), "a"),
            ] {
                n += 1;
                let order_id = format!("o{n}");
                service.ask(&order_id, 2, json!({"locations": accepted, "split": split})).await.expect(201);
                assert_eq!(service.fate(&order_id).await, format!("allocated: {batch} 2"), "{accepted} {split}");
                service.delete(&format!("/v1/orders/{order_id}")).await.expect(200);
            }
        }
        store.assert_balanced().await;
    }
}

/// Nine lamps on hand at south, nine expected at north.
async fn later_at_north(on: On) -> (Store, Service) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("south", "s", 9, "").await;
    service.lamps_at("north", "n", 9, "2031-01-01").await;
    (store, service)
}

async fn an_earlier_date_beats_the_preference(on: On) {
    let (store, service) = later_at_north(on).await;
    for (order_id, split) in [("o1", json!(true)), ("o2", json!(false)), ("o3", json!("locations"))] {
        let asked = json!({"locations": ["north", "south"], "split": split});
        service.ask(order_id, 2, asked).await.expect(201);
        assert_eq!(service.fate(order_id).await, "allocated: s 2", "{split}");
    }
    // Wanted when both are there, it is of equal date.
    let later = json!({"locations": ["north", "south"], "not_before": "2031-01-01"});
    service.ask("o4", 2, later).await.expect(201);
    assert_eq!(service.fate("o4").await, "allocated: n 2");
    store.assert_balanced().await;
}

async fn location_priority_takes_the_preferred_location_even_on_a_later_day(on: On) {
    let (store, service) = later_at_north(on).await;
    let product = service.set(json!({"strategy": "location_priority"})).await;
    assert_eq!(product["strategy"], "location_priority");
    for (order_id, split) in [("o1", json!(true)), ("o2", json!(false)), ("o3", json!("locations"))] {
        let asked = json!({"locations": ["north", "south"], "split": split});
        service.ask(order_id, 2, asked).await.expect(201);
        assert_eq!(service.fate(order_id).await, "allocated: n 2", "{split}");
    }
    let in_time = json!({"locations": ["north", "south"], "by": "2030-12-31"});
    service.ask("o4", 2, in_time).await.expect(201);
    assert_eq!(service.fate("o4").await, "allocated: s 2", "what it prefers comes too late");
    service.ask("o5", 2, json!({})).await.expect(201);
    assert_eq!(service.fate("o5").await, "allocated: s 2", "it prefers none");
    // Who prefers a location that has not all of it goes to the next that has.
    service.ask("o6", 4, json!({"locations": ["north", "south"]})).await.expect(201);
    assert_eq!(service.fate("o6").await, "allocated: s 4");
    store.assert_balanced().await;
}

async fn the_service_may_be_told_to_go_by_location_first(on: On) {
    let store = Store::new(on).await.with("STRATEGY", "location_priority");
    let service = store.serve().await;
    service.lamps_at("south", "s", 9, "").await;
    service.lamps_at("north", "n", 9, "2031-01-01").await;
    service.ask("o1", 2, json!({"locations": ["north", "south"]})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: n 2");
    service.set(json!({"strategy": "earliest"})).await;
    service.ask("o2", 2, json!({"locations": ["north", "south"]})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: s 2", "the product knows better");
    store.assert_balanced().await;
}

async fn a_line_that_stays_whole_goes_to_the_preferred_location_that_has_all_of_it(on: On) {
    let (store, service) = north_and_south(on).await;
    let whole = |accepted: Value| json!({"locations": accepted, "split": false});
    service.ask("o1", 4, whole(json!(["north", "south"]))).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: s 4", "north has not so many in one batch");
    service.ask("o2", 4, whole(json!(["north", "south"]))).await.expect(409);
    let most = json!({"locations": ["south", "north"], "split": false, "when_short": "partial"});
    service.ask("o3", 4, most).await.expect(201);
    assert_eq!(service.fate("o3").await, "allocated: n1 3, dropped 1");
    store.assert_balanced().await;
}

async fn parts_of_a_line_stay_at_one_location(on: On) {
    let (store, service) = north_and_south(on).await;
    let short = service.ask("o1", 6, json!({})).await.expect(409).json();
    assert_eq!(short["short"][0]["promisable"], 5, "as many as one location has");
    service.ask("o1", 5, json!({"locations": ["south", "north"]})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: n1 3, n2 2");
    assert_eq!(service.lines("o1").await[0]["split"], true);
    store.assert_balanced().await;
}

async fn what_waits_of_a_line_is_served_where_its_other_parts_are(on: On) {
    let (store, service) = north_and_south(on).await;
    service.queue_up("o1", 7).await;
    assert_eq!(service.fate("o1").await, "backordered: n1 3, n2 2, waiting 2");
    service.lamps_at("south", "s", 40, "").await;
    assert_eq!(service.fate("o1").await, "backordered: n1 3, n2 2, waiting 2", "south may have what it wants");
    service.assert_nobody_waits_in_vain().await;
    service.ask("o2", 1, json!({"locations": ["south"]})).await.expect(201);
    service.lamps_at("north", "n3", 1, "2031-01-01").await;
    assert_eq!(service.fate("o1").await, "backordered: n1 3, n2 2, n3 1, waiting 1");
    service.lamps_at("north", "n2", 5, "").await;
    assert_eq!(service.fate("o1").await, "allocated: n1 3, n2 3, n3 1");
    store.assert_balanced().await;
}

async fn what_a_line_grows_by_is_where_its_other_parts_are(on: On) {
    let (store, service) = north_and_south(on).await;
    let grow = async |order_id: &str, qty: u64, when_short: &str| {
        let change = json!({"qty": qty, "when_short": when_short});
        service.patch(&format!("/v1/orders/{order_id}/lines/LAMP"), change).await
    };
    service.ask("o1", 4, json!({"locations": ["south", "north"]})).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: s 4");
    refused(grow("o1", 5, "reject").await, "out-of-stock");
    grow("o1", 6, "backorder").await.expect(200);
    assert_eq!(service.fate("o1").await, "backordered: s 4, waiting 2", "beside what north has");
    service.assert_nobody_waits_in_vain().await;
    service.lamps_at("south", "s", 5, "").await;
    assert_eq!(service.fate("o1").await, "backordered: s 5, waiting 1");
    grow("o1", 5, "reject").await.expect(200);
    assert_eq!(service.fate("o1").await, "allocated: s 5");
    // Over locations it goes on wherever it may.
    service.ask("o2", 3, json!({"locations": ["north", "south"], "split": "locations"})).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: n1 3");
    service.lamps_at("south", "s", 7, "").await;
    grow("o2", 7, "reject").await.expect(200);
    assert_eq!(places(&service, "o2").await.len(), 3);
    assert_eq!(service.fate("o2").await, "allocated: n1 3, n2 2, s 2");
    // What it accepts is said once and for all.
    let change = service.patch("/v1/orders/o2/lines/LAMP", json!({"locations": ["south"]})).await;
    assert_eq!(faulty(change), ["locations"]);
    store.assert_balanced().await;
}

async fn a_line_that_has_lost_all_its_places_may_go_anywhere_again(on: On) {
    let (store, service) = north_and_south(on).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    service.lamps_at("south", "s", 9, "").await;
    service.lamps_at("north", "n1", 0, "").await;
    assert_eq!(service.fate("o1").await, "backordered: n2 2, waiting 3", "some are still at north");
    service.lamps_at("north", "n2", 0, "").await;
    assert_eq!(service.fate("o1").await, "allocated: s 5");
    store.assert_balanced().await;
}

async fn a_line_over_locations_takes_parts_wherever_it_may(on: On) {
    let (store, service) = north_and_south(on).await;
    let over = |accepted: Value| json!({"locations": accepted, "split": "locations"});
    service.ask("o1", 6, over(json!(["south", "north"]))).await.expect(201);
    let line = service.lines("o1").await.remove(0);
    assert_eq!((fate(&line).as_str(), &line["split"]), ("allocated: n1 2, s 4", &json!("locations")));
    service.delete("/v1/orders/o1").await.expect(200);
    service.ask("o2", 6, over(json!(["north", "south"]))).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: n1 3, s 3");
    service.delete("/v1/orders/o2").await.expect(200);
    let short = service.ask("o3", 10, over(Value::Null)).await.expect(409).json();
    assert_eq!(short["short"][0]["promisable"], 9);
    let mut wait = over(Value::Null);
    wait["when_short"] = json!("backorder");
    service.ask("o4", 11, wait.clone()).await.expect(201);
    assert_eq!(service.fate("o4").await, "backordered: n1 3, n2 2, s 4, waiting 2");
    service.lamps_at("west", "w", 2, "2031-01-01").await;
    assert_eq!(service.fate("o4").await, "allocated: n1 3, n2 2, s 4, w 2");
    // No part but the remainder is smaller than it may be.
    service.delete("/v1/orders/o4").await.expect(200);
    (wait["min_split"], wait["locations"]) = (json!(3), json!(["north", "south"]));
    service.ask("o5", 9, wait).await.expect(201);
    assert_eq!(service.fate("o5").await, "allocated: n1 3, n2 2, s 4");
    store.assert_balanced().await;
}

async fn a_line_over_locations_goes_no_further_than_it_must_by_location_priority(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.set(json!({"strategy": "location_priority"})).await;
    service.lamps_at("north", "n", 3, "2031-03-01").await;
    service.lamps_at("south", "s", 3, "2031-02-01").await;
    service.lamps_at("west", "w", 30, "").await;
    let over = json!({"locations": ["north", "south", "west"], "split": "locations"});
    service.ask("o1", 5, over.clone()).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: n 3, s 2");
    service.ask("o2", 5, over).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: w 5", "all together do it today");
    store.assert_balanced().await;
}

async fn partial_gives_from_the_location_that_has_most(on: On) {
    let (store, service) = north_and_south(on).await;
    let partial = |accepted: Value| json!({"locations": accepted, "when_short": "partial"});
    service.ask("o1", 9, partial(json!(["south", "north"]))).await.expect(201);
    assert_eq!(service.fate("o1").await, "allocated: n1 3, n2 2, dropped 4");
    service.lamps_at("west", "a", 4, "").await;
    service.ask("o2", 9, partial(json!(["south", "north", "west"]))).await.expect(201);
    assert_eq!(service.fate("o2").await, "allocated: s 4, dropped 5", "of two that have as much the preferred one");
    store.assert_balanced().await;
}

async fn a_quote_says_what_an_order_would_get(on: On) {
    let (store, service) = north_and_south(on).await;
    service.lamps_at("west", "w", 3, "2031-01-01").await;
    service.set(json!({"locations": {"south": {"safety_stock": 1}}})).await;
    let mut asked = Vec::new();
    for qty in [1, 3, 4, 5, 6, 9, 20] {
        for split in [json!(true), json!(false), json!("locations")] {
            for accepted in [Value::Null, json!(["south"]), json!(["west", "south"]), json!(["south", "north"])] {
                for when_short in ["reject", "partial", "backorder"] {
                    asked.push((qty, json!({"split": split, "locations": accepted, "when_short": when_short})));
                }
            }
        }
    }
    for (n, (qty, with)) in asked.into_iter().enumerate() {
        let mut body = with.clone();
        body["lines"] = json!([{"sku": "LAMP", "qty": qty}]);
        let quote = service.post("/v1/quotes", body).await;
        let order = service.ask(&format!("o{n}"), qty, with.clone()).await;
        if order.status == 409 {
            assert_eq!((quote.status, quote.json()), (order.status, order.json()), "{qty} {with}");
            continue;
        }
        let (quoted, line) =
            (quote.expect(200).json()["lines"][0].clone(), order.expect(201).json()["lines"][0].clone());
        for name in ["requested", "backordered", "dropped", "promised_date", "placements"] {
            assert_eq!(quoted[name], line[name], "{name} of {qty} {with}");
        }
        service.delete(&format!("/v1/orders/o{n}")).await.expect(200);
    }
    store.assert_balanced().await;
}

async fn improving_leaves_the_parts_of_a_line_together(on: On) {
    let (store, service) = lamps(on, &[]).await;
    service.lamps_at("north", "n", 1, "2031-01-01").await;
    service.lamps_at("north", "m", 5, "2031-02-01").await;
    service.ask("parts", 6, json!({})).await.expect(201);
    service.lamps_at("north", "m", 9, "2031-02-01").await;
    service.ask("over", 2, json!({"split": "locations"})).await.expect(201);
    service.ask("one", 2, json!({})).await.expect(201);
    assert_eq!(service.fate("parts").await, "allocated: m 5, n 1");
    service.lamps_at("south", "s", 9, "").await;
    for (order_id, place) in [("over", "m 2"), ("one", "m 2")] {
        assert_eq!(service.fate(order_id).await, format!("allocated: {place}"), "nothing moves unless asked");
    }
    let improve = async || service.post("/v1/products/LAMP/improve", json!({})).await.expect(200);
    improve().await;
    assert_eq!(service.fate("parts").await, "allocated: m 5, n 1", "all of it, or what can at north");
    assert_eq!(service.fate("over").await, "allocated: s 2");
    assert_eq!(service.fate("one").await, "allocated: s 2", "all of it is in one place");
    service.lamps_at("north", "k", 2, "").await;
    improve().await;
    assert_eq!(service.fate("parts").await, "allocated: k 2, m 3, n 1");
    // What is not accepted is not taken for being earlier.
    service.ask("north", 3, json!({"locations": ["north"]})).await.expect(201);
    improve().await;
    assert_eq!(places(&service, "north").await, ["north 3"]);
    store.assert_balanced().await;
}

async fn what_makes_no_sense_of_locations_is_told_by_field(on: On) {
    let (store, service) = lamps(on, &[("b", 9, "")]).await;
    let far_too_many: Vec<String> = (0..100_000).map(|n| format!("{n:x}")).collect();
    let many: Vec<String> = (0..65).map(|n| format!("l{n}")).collect();
    let long = "x".repeat(65);
    for (bad, fields) in [
        (json!({"locations": []}), vec!["locations"]),
        (json!({"locations": ["north", "south", "north"]}), vec!["locations"]),
        (json!({"locations": many}), vec!["locations"]),
        (json!({"locations": "north"}), vec!["locations"]),
        (json!({"locations": {"north": 1}}), vec!["locations"]),
        (json!({"locations": 5}), vec!["locations"]),
        (json!({"locations": -5}), vec!["locations"]),
        (json!({"locations": 0.5}), vec!["locations"]),
        (json!({"locations": true}), vec!["locations"]),
        (json!({"locations": ["north", null, 5, ["x"]]}), vec!["locations[1]", "locations[2]", "locations[3]"]),
        (
            json!({"locations": ["", " x", "x\u{7}", long]}),
            vec!["locations[0]", "locations[1]", "locations[2]", "locations[3]"],
        ),
        (json!({"split": "batches"}), vec!["split"]),
        (json!({"split": "Locations"}), vec!["split"]),
        (json!({"split": null}), vec!["split"]),
        (json!({"split": ["locations"]}), vec!["split"]),
        (json!({"split": "locations", "min_split": 0}), vec!["min_split"]),
        (json!({"location": "north"}), vec!["location"]),
    ] {
        assert_eq!(faulty(service.ask("o1", 1, bad.clone()).await), fields, "{bad}");
        let mut line = bad.clone();
        (line["sku"], line["qty"]) = (json!("LAMP"), json!(1));
        let of_line: Vec<String> = fields.iter().map(|field| format!("lines[0].{field}")).collect();
        let order = json!({ "lines": [line] });
        assert_eq!(faulty(service.put("/v1/orders/o1", order.clone()).await), of_line, "{bad}");
        assert_eq!(faulty(service.post("/v1/quotes", order).await), of_line, "{bad}");
    }
    assert_eq!(faulty(service.ask("o1", 1, json!({ "locations": far_too_many })).await), ["locations"]);
    for bad in [json!(null), json!(5), json!(""), json!(["north"]), json!(" north"), json!("x".repeat(65))] {
        let declared = service.put("/v1/products/LAMP/batches/c", json!({"qty": 1, "location": bad})).await;
        assert_eq!(faulty(declared), ["location"], "{bad}");
    }
    assert_eq!(service.version("LAMP").await, 1);
    // As many as there may be, and names of any script.
    let mut most = many;
    most.truncate(63);
    most.push("Zürich 北".to_owned());
    service.lamps_at("Zürich 北", "z", 1, "").await;
    service.ask("o1", 1, json!({"locations": most})).await.expect(201);
    assert_eq!(places(&service, "o1").await, ["Zürich 北 1"]);
    service.ask("o2", 1, json!({"locations": null})).await.expect(201);
    store.assert_balanced().await;
}

async fn an_import_says_where_batches_are(on: On) {
    let (store, service) = lamps(on, &[]).await;
    let long = "x".repeat(65);
    let text = format!("ref,location,sku,qty\nn,north,LAMP,5\nd,,LAMP,5\nx,{long},LAMP,5\n");
    let (status, said, complaint) = store.import(&["batches"], &text).await;
    assert_eq!(status, Some(1), "{complaint}");
    assert!(complaint.starts_with("line 4: location must be at most 64 bytes"), "{complaint}");
    assert!(said.starts_with("2 batches: 2 new"), "{said}");
    let locations = async || {
        let product = service.product("LAMP").await;
        ["d", "n"].map(|reference| {
            let batches = product["batches"].as_array().unwrap();
            batches.iter().find(|batch| batch["ref"] == reference).unwrap()["location"].clone()
        })
    };
    assert_eq!(locations().await, ["default", "north"]);
    let (_, said, _) = store.import(&["batches"], "ref,sku,qty,location\nn,LAMP,6,south\nd,LAMP,6,\n").await;
    assert!(said.starts_with("2 batches: 0 new, 1 changed, 0 the same, 1 refused"), "{said}");
    let (_, said, _) = store.import(&["batches"], "ref,sku,qty\nn,LAMP,7\n").await;
    assert!(said.starts_with("1 batches: 0 new, 1 changed"), "{said}");
    assert_eq!(locations().await, ["default", "north"]);
    store.assert_balanced().await;
}

/// Where a day begins first, and where last: it is never the same day at both.
const EAST: &str = "Pacific/Kiritimati";
const WEST: &str = "Etc/GMT+12";

async fn each_location_has_its_own_day(on: On) {
    let store = Store::new(on).await.with("TIME_ZONES", &format!("east={EAST}, west = {WEST}"));
    let service = store.serve().await;
    let (east, west) = (day_in(EAST, 0), day_in(WEST, 0));
    for location in ["east", "west"] {
        service.lamps_at(location, &format!("{location} here"), 9, "").await;
        service.lamps_at(location, &format!("{location} late"), 9, "2011-01-01").await;
        let last = json!({"qty": 9, "location": location, "expires_on": west});
        service.batch("LAMP", &format!("{location} old"), last).await;
    }
    // The last day of use is over at one of them.
    let product = service.product("LAMP").await;
    let batches = product["batches"].as_array().unwrap();
    let state = |reference: &str| batches.iter().find(|batch| batch["ref"] == reference).unwrap()["state"].clone();
    assert_eq!((state("east old"), state("west old")), (json!("expired"), json!("on_hand")));
    let available = |location: &str| product["locations"][location]["available"].as_u64().unwrap();
    assert_eq!((available("east"), available("west"), &product["available"]), (9, 18, &json!(27)));
    // What is on hand is ready today, what is overdue tomorrow: by the day of its location.
    let ready = async |location: &str, qty: u64| {
        let path = format!("/v1/availability/LAMP?location={location}&qty={qty}");
        service.get(&path).await.expect(200).json()["ready"].as_str().unwrap().to_owned()
    };
    assert_eq!((ready("east", 9).await, ready("west", 9).await), (east, west.clone()));
    assert_eq!((ready("east", 10).await, ready("west", 19).await), (day_in(EAST, -1), day_in(WEST, -1)));
    let by_then = |accepted: &str| json!({"by": west, "locations": [accepted]});
    service.ask("o1", 1, by_then("east")).await.expect(409);
    service.ask("o1", 1, by_then("west")).await.expect(201);
    assert_eq!(service.lines("o1").await[0]["promised_date"], json!(west));
    // An earlier day beats the preference.
    service.ask("o2", 1, json!({"locations": ["east", "west"]})).await.expect(201);
    assert_eq!(places(&service, "o2").await, ["west 1"]);
    // What was due yesterday is overdue, and the day is not over at the other.
    service.set(json!({"overdue_days": 0})).await;
    for location in ["east", "west"] {
        service.lamps_at(location, &format!("{location} late"), 9, &west).await;
    }
    let product = service.product("LAMP").await;
    let numbers = |location: &str| ["available", "promisable"].map(|name| product["locations"][location][name].clone());
    assert_eq!((numbers("east"), numbers("west")), ([json!(9), json!(9)], [json!(16), json!(25)]));
    store.assert_balanced().await;
}

#[tokio::test]
async fn time_zones_that_are_none_are_told_at_start() {
    for (name, value) in [
        ("TIME_ZONES", "north=Mars/Base"),
        ("TIME_ZONES", "north"),
        ("TIME_ZONES", "north="),
        ("TIME_ZONES", "=UTC"),
        ("TIME_ZONES", "north=UTC,south=UTC,north=Europe/Berlin"),
        ("TIME_ZONES", "north=UTC south=UTC"),
        ("TIME_ZONE", "Mars/Base"),
        ("STRATEGY", "nearest"),
    ] {
        let store = Store::new(On::Sqlite).await.with(name, value);
        let output = store.run(&["serve"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(&format!("{name}: ")), "{name}={value}: {said}");
    }
}
