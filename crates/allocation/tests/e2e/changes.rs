//! What callers change about their lines: rules 23 and 24, and the states of a line.

use serde_json::{Value, json};

use crate::support::{Answer, On, Service, at_once, fate, from_then_on, instant, lamps, on_both_stores};

on_both_stores!(
    a_smaller_line_gives_up_what_waits_first_and_then_the_latest_arrival,
    a_larger_line_gets_more_as_a_new_request_would,
    a_larger_line_that_must_stay_whole_moves_whole,
    a_line_may_be_wanted_earlier_or_go_first,
    a_held_line_keeps_its_end_when_it_changes,
    a_change_that_is_refused_or_none_changes_nothing,
    a_cancelled_order_answers_with_what_became_of_it,
    a_line_obeys_the_table_of_its_states,
);

const LINE: &str = "/v1/orders/o1/lines/LAMP";

async fn a_smaller_line_gives_up_what_waits_first_and_then_the_latest_arrival(on: On) {
    let batches = [("a", 3, ""), ("b", 3, "2031-01-01"), ("c", 3, "2031-02-01")];
    let (store, service) = lamps(on, &batches).await;
    service.queue_up("o1", 12).await;
    let change = async |qty: u64| {
        let before = service.version("LAMP").await;
        let line = service.patch(LINE, json!({"qty": qty})).await.expect(200).json();
        assert_eq!(line["requested"], qty);
        (fate(&line), service.history("LAMP", before).await)
    };
    let (line, told) = change(10).await;
    assert_eq!(line, "backordered: a 3, b 3, c 3, waiting 1");
    assert_eq!(told, ["line_changed o1 12 10"]);
    let (line, told) = change(8).await;
    assert_eq!(line, "allocated: a 3, b 3, c 2");
    assert_eq!(told, ["line_changed o1 10 8", "line_deallocated o1 1 c released"]);
    assert_eq!(change(5).await.0, "allocated: a 3, b 2");
    let (line, told) = change(1).await;
    assert_eq!(line, "allocated: a 1");
    assert_eq!(told, ["line_changed o1 5 1", "line_deallocated o1 2 b released", "line_deallocated o1 2 a released"]);
    service.patch(LINE, json!({"qty": 0})).await.expect(422);
    // What is given up goes to those who wait.
    service.queue_up("w", 9).await;
    service.ask("o2", 3, json!({"when_short": "backorder"})).await.expect(201);
    service.patch("/v1/orders/w/lines/LAMP", json!({"qty": 7})).await.expect(200);
    assert_eq!(service.fate("w").await, "allocated: a 2, b 3, c 2");
    assert_eq!(service.fate("o2").await, "backordered: c 1, waiting 2");
    store.assert_balanced().await;
}

async fn a_larger_line_gets_more_as_a_new_request_would(on: On) {
    let (store, service) = lamps(on, &[("a", 4, ""), ("b", 4, "2031-01-01")]).await;
    service.ask("o1", 3, json!({})).await.expect(201);
    service.ask("o2", 2, json!({})).await.expect(201);
    let change = async |change: Value, status: u16| service.patch(LINE, change).await.expect(status).json();
    assert_eq!(fate(&change(json!({"qty": 4}), 200).await), "allocated: a 4");
    let refused = change(json!({"qty": 8}), 409).await;
    assert_eq!(refused["short"], json!([{"sku": "LAMP", "asked": 4, "available": 0, "promisable": 2}]));
    assert_eq!(fate(&change(json!({"qty": 8, "when_short": "partial"}), 200).await), "allocated: a 4, b 2, dropped 2");
    let refused = change(json!({"qty": 9, "when_short": "partial"}), 409).await;
    assert_eq!(refused["type"], "urn:allocation:problem:out-of-stock", "nothing at all is to be had");
    let waits = change(json!({"qty": 9, "when_short": "backorder"}), 200).await;
    assert_eq!(fate(&waits), "backordered: a 4, b 2, waiting 3");
    // What is added counts as new: it waits behind others, and is displaced before them.
    service.queue_up("w", 1).await;
    change(json!({"qty": 10, "when_short": "backorder"}), 200).await;
    assert_eq!(service.queue("LAMP").await, ["o1 3", "w 1", "o1 1"]);
    service.batch("LAMP", "b", json!({"qty": 6})).await;
    assert_eq!(service.queue("LAMP").await, ["o1 1", "w 1", "o1 1"]);
    service.batch("LAMP", "b", json!({"qty": 3})).await;
    assert_eq!(service.fate("o2").await, "allocated: b 2", "older than what o1 was given later");
    store.assert_balanced().await;
}

async fn a_larger_line_that_must_stay_whole_moves_whole(on: On) {
    let (store, service) = lamps(on, &[("a", 4, ""), ("b", 9, "2031-01-01")]).await;
    service.ask("o1", 3, json!({"split": false})).await.expect(201);
    let change = async |qty: u64| service.patch(LINE, json!({"qty": qty})).await;
    assert_eq!(fate(&change(4).await.expect(200).json()), "allocated: a 4");
    assert_eq!(fate(&change(7).await.expect(200).json()), "allocated: b 7");
    change(10).await.expect(409);
    assert_eq!(service.fate("o1").await, "allocated: b 7");
    store.assert_balanced().await;
}

async fn a_line_may_be_wanted_earlier_or_go_first(on: On) {
    let (store, service) = lamps(on, &[("b", 5, "2031-02-01")]).await;
    service.ask("o1", 3, json!({})).await.expect(201);
    service.ask("o2", 2, json!({})).await.expect(201);
    let change = async |change: Value, status: u16| service.patch(LINE, change).await.expect(status).json();
    let refused = change(json!({"by": "2031-01-15"}), 409).await;
    assert_eq!(refused["type"], "urn:allocation:problem:out-of-stock", "nothing comes by then");
    assert_eq!(service.lines("o1").await[0]["by"], Value::Null);
    service.batch("LAMP", "a", json!({"qty": 3, "eta": "2031-01-10"})).await;
    let earlier = change(json!({"by": "2031-01-15"}), 200).await;
    assert_eq!((fate(&earlier).as_str(), &earlier["by"]), ("allocated: a 3", &json!("2031-01-15")));
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    assert_eq!(service.fate("o2").await, "backordered: b 1, waiting 1");
    service.patch("/v1/orders/o2/lines/LAMP", json!({"priority": 1})).await.expect(200);
    service.batch("LAMP", "a", json!({"qty": 2, "eta": "2031-01-10"})).await;
    assert_eq!(service.fate("o1").await, "backordered: a 2, waiting 1");
    change(json!({"by": null, "priority": 2}), 200).await;
    service.batch("LAMP", "b", json!({"qty": 2})).await;
    assert_eq!(service.fate("o1").await, "allocated: a 2, b 1");
    store.assert_balanced().await;
}

async fn a_held_line_keeps_its_end_when_it_changes(on: On) {
    let (store, service) = lamps(on, &[("a", 4, ""), ("b", 4, "2031-01-01")]).await;
    let order = service.ask("o1", 3, json!({"hold_seconds": 600})).await.expect(201).json();
    for (qty, place) in [(6, "held: a 3, b 3"), (2, "held: a 2")] {
        let line = service.patch(LINE, json!({"qty": qty})).await.expect(200).json();
        assert_eq!(fate(&line), place);
        assert_eq!(line["held_until"], order["lines"][0]["held_until"]);
    }
    store.assert_balanced().await;
}

async fn a_change_that_is_refused_or_none_changes_nothing(on: On) {
    let (store, service) = lamps(on, &[("a", 4, "")]).await;
    service.ask("o1", 3, json!({"priority": 2, "by": "2031-01-01"})).await.expect(201);
    let (before, version) = (service.lines("o1").await, service.version("LAMP").await);
    for none in [json!({}), json!({"qty": 3}), json!({"priority": 2}), json!({"by": "2031-01-01", "qty": 3})] {
        service.patch(LINE, none).await.expect(200);
    }
    assert_eq!((service.lines("o1").await, service.version("LAMP").await), (before.clone(), version));
    service.patch(LINE, json!({"qty": 9, "priority": 7})).await.expect(409);
    assert_eq!(service.lines("o1").await, before);
    service.patch("/v1/orders/none/lines/LAMP", json!({"qty": 1})).await.expect(404);
    service.patch("/v1/orders/o1/lines/NONE", json!({"qty": 1})).await.expect(404);
    store.assert_balanced().await;
}

async fn a_cancelled_order_answers_with_what_became_of_it(on: On) {
    let (store, service) = lamps(on, &[("a", 4, "")]).await;
    service.batch("SHADE", "s", json!({"qty": 5})).await;
    let order = json!({"lines": [{"sku": "LAMP", "qty": 6}, {"sku": "SHADE", "qty": 2}], "when_short": "backorder"});
    service.put("/v1/orders/o1", order).await.expect(201);
    let shade = json!({"lines": [{"sku": "SHADE", "qty": 3, "line": "gift"}], "hold_seconds": 600});
    service.put("/v1/orders/o1", shade).await.expect(201);
    let fates = |order: &Value| -> Vec<String> { order["lines"].as_array().unwrap().iter().map(fate).collect() };
    let before = service.version("LAMP").await;
    let cancelled = service.delete("/v1/orders/o1").await.expect(200).json();
    assert_eq!(fates(&cancelled), ["cancelled: cancelled 6", "cancelled: cancelled 2", "cancelled: cancelled 3"]);
    assert_eq!(service.history("LAMP", before).await, ["line_deallocated o1 4 a released", "line_cancelled o1 6"]);
    assert_eq!(service.delete("/v1/orders/o1").await.expect(200).json(), cancelled, "again is fine");
    assert_eq!(service.get("/v1/orders/o1").await.expect(200).json(), cancelled);
    for sku in ["LAMP", "SHADE"] {
        let product = service.product(sku).await;
        let left = ["held", "allocated", "backordered"].map(|name| product[name].as_u64().unwrap());
        assert_eq!(left, [0, 0, 0]);
    }
    store.assert_balanced().await;
}

/// Makes a line of five units of a product of its own, in this state; a hold that is to end is waited for.
async fn line_in(service: &Service, state: &str, sku: &str) {
    let order = format!("/v1/orders/of-{sku}");
    let stock = if state == "backordered" { 2 } else { 20 };
    service.batch(sku, "b", json!({"qty": stock})).await;
    let mut body = json!({"lines": [{"sku": sku, "qty": 5}]});
    match state {
        "held" => body["hold_seconds"] = json!(600),
        "lapsed" => body["hold_seconds"] = json!(1),
        "backordered" => body["when_short"] = json!("backorder"),
        _ => {}
    }
    let promised = service.put(&order, body).await.expect(201).json();
    if state == "shipped" {
        service.post_new(&format!("{order}/shipments"), json!({})).await.expect(200);
    }
    if state == "cancelled" {
        service.delete(&order).await.expect(200);
    }
    if state == "lapsed" {
        let until = instant(promised["lines"][0]["held_until"].as_str().unwrap());
        from_then_on(&until, async || ()).await;
    }
}

const STATES: [&str; 6] = ["held", "allocated", "backordered", "shipped", "lapsed", "cancelled"];

/// What becomes of a line in each of these states: status, and the line after it.
const TABLE: &[(&str, [&str; 6])] = &[
    (
        "PUT same",
        [
            "200 held: b 5",
            "200 allocated: b 5",
            "200 backordered: b 2, waiting 3",
            "200 shipped: shipped 5",
            "201 allocated: b 5",
            "409 cancelled: cancelled 5",
        ],
    ),
    (
        "confirm",
        [
            "200 allocated: b 5",
            "200 allocated: b 5",
            "200 backordered: b 2, waiting 3",
            "200 shipped: shipped 5",
            "409 lapsed: lapsed 5",
            "409 cancelled: cancelled 5",
        ],
    ),
    (
        "extend",
        [
            "200 held: b 5",
            "409 allocated: b 5",
            "409 backordered: b 2, waiting 3",
            "409 shipped: shipped 5",
            "409 lapsed: lapsed 5",
            "409 cancelled: cancelled 5",
        ],
    ),
    (
        "change",
        [
            "200 held: b 6",
            "200 allocated: b 6",
            "200 backordered: b 2, waiting 4",
            "409 shipped: shipped 5",
            "409 lapsed: lapsed 5",
            "409 cancelled: cancelled 5",
        ],
    ),
    (
        "cancel",
        [
            "200 cancelled: cancelled 5",
            "200 cancelled: cancelled 5",
            "200 cancelled: cancelled 5",
            "409 shipped: shipped 5",
            "200 lapsed: lapsed 5",
            "200 cancelled: cancelled 5",
        ],
    ),
    (
        "pick",
        [
            "409 held: b 5",
            "200 allocated: b 5 (5 locked)",
            "200 backordered: b 2 (2 locked), waiting 3",
            "409 shipped: shipped 5",
            "409 lapsed: lapsed 5",
            "409 cancelled: cancelled 5",
        ],
    ),
    (
        "ship",
        [
            "409 held: b 5",
            "200 shipped: shipped 5",
            "200 backordered: waiting 3, shipped 2",
            "409 shipped: shipped 5",
            "409 lapsed: lapsed 5",
            "409 cancelled: cancelled 5",
        ],
    ),
    (
        "return",
        [
            "409 held: b 5",
            "409 allocated: b 5",
            "409 backordered: b 2, waiting 3",
            "200 shipped: shipped 5, returned 2",
            "409 lapsed: lapsed 5",
            "409 cancelled: cancelled 5",
        ],
    ),
];

async fn a_line_obeys_the_table_of_its_states(on: On) {
    let (store, service) = lamps(on, &[]).await;
    let cells: Vec<(&str, &str, String, &str)> = TABLE
        .iter()
        .enumerate()
        .flat_map(|(row, (command, cells))| {
            STATES.iter().zip(cells).map(move |(state, wanted)| (*command, *state, format!("{state}-{row}"), *wanted))
        })
        .collect();
    at_once(&cells, async |(_, state, sku, _)| line_in(&service, state, sku).await).await;
    // An ended hold is told once somebody writes; from here on only the commands themselves do.
    allocation_testing::eventually("ended holds in the feed", async || {
        let page = service.get("/v1/events?limit=1000").await.expect(200).json();
        let ends = page["events"].as_array().unwrap().iter();
        (ends.filter(|event| event["event"]["type"] == "allocation.hold_expired.v1").count() == TABLE.len())
            .then_some(())
    })
    .await;
    at_once(&cells, async |(command, state, sku, wanted)| {
        let before = service.version(sku).await;
        let answer = command_line(&service, command, sku).await;
        let told = format!("{} {}", answer.status.as_u16(), service.fate(&format!("of-{sku}")).await);
        assert_eq!(told, *wanted, "{command} of a line that is {state}");
        if answer.status == 409 {
            let kind = if *command == "PUT same" { "line-conflict" } else { "not-allowed" };
            assert_eq!(answer.json()["type"], format!("urn:allocation:problem:{kind}"));
            assert!(answer.json()["detail"].as_str().unwrap().ends_with(state), "{}", answer.text);
        }
        let told = service.history(sku, before).await;
        let names: Vec<_> = told.iter().map(|event| event.split(' ').next().unwrap()).collect();
        let expected: &[&str] = match (*command, *state) {
            ("PUT same", "lapsed") => &["line_accepted", "line_allocated"],
            ("confirm", "held") => &["line_allocated"],
            ("extend", "held") => &["hold_extended"],
            ("change", "held") => &["line_changed", "line_held"],
            ("change", "allocated") => &["line_changed", "line_allocated"],
            ("change", "backordered") => &["line_changed", "line_backordered"],
            ("cancel", "held" | "allocated" | "backordered") => &["line_deallocated", "line_cancelled"],
            ("pick", "allocated" | "backordered") => &["line_locked"],
            ("ship", "allocated" | "backordered") => &["line_shipped"],
            ("return", "shipped") => &["line_returned"],
            _ => &[],
        };
        assert_eq!(names, expected, "{command} of a line that is {state}");
    })
    .await;
    store.assert_balanced().await;
}

async fn command_line(service: &Service, command: &str, sku: &str) -> Answer {
    let order = format!("/v1/orders/of-{sku}");
    match command {
        "PUT same" => service.put(&order, json!({"lines": [{"sku": sku, "qty": 5}]})).await,
        "confirm" => service.post(&format!("{order}/confirm"), json!({})).await,
        "extend" => service.post(&format!("{order}/extend"), json!({"hold_seconds": 900})).await,
        "change" => {
            let change = json!({"qty": 6, "when_short": "backorder"});
            service.patch(&format!("{order}/lines/{sku}"), change).await
        }
        "pick" => service.post(&format!("{order}/pick"), json!({})).await,
        "ship" => service.post_new(&format!("{order}/shipments"), json!({})).await,
        "return" => {
            let back = json!({"lines": [{"sku": sku, "qty": 2}]});
            service.post_new(&format!("{order}/returns"), back).await
        }
        _ => service.delete(&order).await,
    }
}
