//! The ledger of movements: what happened to a product's units, and who got those of a batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::support::{Answer, On, Service, lamps, on_both_stores};

on_both_stores!(
    each_movement_tells_what_changed_why_and_what_the_batch_has_then,
    a_movement_says_who_caused_it_and_when,
    a_ledger_is_read_in_pages_oldest_first,
    a_batchs_ledger_has_its_own_movements_only_also_when_nothing_is_left_in_it,
    as_csv_all_of_a_ledger_comes_at_once,
    no_cell_of_csv_is_a_formula,
    those_who_got_units_of_a_batch_are_named_shipped_ones_too,
    what_is_unknown_or_makes_no_sense_is_said,
    what_a_ledger_is_found_by_belongs_to_the_books,
);

/// A ledger's movements, read in pages of this size.
async fn ledger(service: &Service, path: &str, page: usize) -> Vec<Value> {
    let (mut movements, mut after) = (Vec::new(), json!(0));
    while !after.is_null() {
        let page = service.get(&format!("{path}?limit={page}&after={after}")).await.expect(200).json();
        movements.extend(page["movements"].as_array().unwrap().iter().cloned());
        after = page["next"].clone();
    }
    movements
}

/// A movement in short: event, batch, order and units, what changed, and what the batch has then.
fn shown(movement: &Value) -> String {
    let numbers = |of: &Value| {
        let told = ["units", "quarantined", "held", "allocated"].map(|name| (name, of[name].as_i64().unwrap()));
        let told = told.iter().filter(|(_, number)| *number != 0).map(|(name, number)| format!("{name} {number}"));
        told.collect::<Vec<_>>().join(", ")
    };
    let text = |name: &str| movement[name].as_str().unwrap_or("-").to_owned();
    let named = [text("event"), text("batch"), text("order_id"), movement["qty"].to_string()].join(" ");
    format!("{named}: {} => {}", numbers(movement), numbers(&movement["balance"]))
}

/// The numbers of a batch as the product has them, in the words of its ledger.
async fn balance(service: &Service, reference: &str) -> Value {
    let product = service.product("LAMP").await;
    let batch = product["batches"].as_array().unwrap().iter().find(|batch| batch["ref"] == reference).unwrap().clone();
    let [units, quarantined, held, allocated, free] =
        ["units", "unavailable", "held", "allocated", "free"].map(|name| batch[name].clone());
    json!({"units": units, "quarantined": quarantined, "held": held, "allocated": allocated, "free": free})
}

/// Has something done that is done as often as it is asked for, unless the key says that it is the same.
async fn once(service: &Service, path: &str, body: Value) {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    let key = KEYS.fetch_add(1, Ordering::Relaxed).to_string();
    let request = service.client.post(service.program.url(path)).header("Idempotency-Key", key);
    Service::answer(request.json(&body)).await.expect(200);
}

async fn ship(service: &Service, order_id: &str, units: &[(&str, u64)]) {
    let lines = units.iter().map(|(line, qty)| json!({"sku": "LAMP", "line": line, "qty": qty})).collect::<Vec<_>>();
    once(service, &format!("/v1/orders/{order_id}/shipments"), json!({ "lines": lines })).await;
}

async fn take_back(service: &Service, order_id: &str, qty: u64, to: &str) {
    let lines = json!({"lines": [{"sku": "LAMP", "qty": qty, "to": to}]});
    once(service, &format!("/v1/orders/{order_id}/returns"), lines).await;
}

async fn adjust(service: &Service, reference: &str, kind: &str, qty: u64, reason: &str) {
    let found = json!({"kind": kind, "qty": qty, "reason": reason});
    once(service, &format!("/v1/products/LAMP/batches/{reference}/adjustments"), found).await;
}

async fn each_movement_tells_what_changed_why_and_what_the_batch_has_then(on: On) {
    let (_store, service) = lamps(on, &[("b", 20, ""), ("c", 10, "2031-01-01")]).await;
    service.ask("h", 5, json!({"hold_seconds": 6000})).await.expect(201);
    service.post("/v1/orders/h/confirm", json!({})).await.expect(200);
    service.ask("o", 12, json!({})).await.expect(201);
    service.ask("w", 100, json!({"when_short": "partial"})).await.expect(201);
    service.delete("/v1/orders/w").await.expect(200);
    ship(&service, "o", &[("1", 9)]).await;
    take_back(&service, "o", 1, "quarantine").await;
    take_back(&service, "o", 2, "restock").await;
    take_back(&service, "o", 1, "scrap").await;
    once(&service, "/v1/products/LAMP/batches/b/quarantine", json!({"qty": 2})).await;
    adjust(&service, "b", "damaged", 5, "rain").await;
    service.post("/v1/products/LAMP/batches/c/receipts", json!({"qty": 8, "rest": "cancel"})).await.expect(200);
    let movements = ledger(&service, "/v1/products/LAMP/movements", 1000).await;
    let told: Vec<String> = movements.iter().map(shown).collect();
    assert_eq!(
        told,
        [
            "batch_created b - 20: units 20 => units 20",
            "batch_created c - 10: units 10 => units 10",
            "line_held b h 5: held 5 => units 20, held 5",
            "line_allocated b h 5: held -5, allocated 5 => units 20, allocated 5",
            "line_allocated b o 12: allocated 12 => units 20, allocated 17",
            "line_allocated b w 3: allocated 3 => units 20, allocated 20",
            "line_allocated c w 10: allocated 10 => units 10, allocated 10",
            "line_deallocated b w 3: allocated -3 => units 20, allocated 17",
            "line_deallocated c w 10: allocated -10 => units 10",
            "line_shipped b o 9: units -9, allocated -9 => units 11, allocated 8",
            "line_returned b o 1: units 1, quarantined 1 => units 12, quarantined 1, allocated 8",
            "line_returned b o 2: units 2 => units 14, quarantined 1, allocated 8",
            "line_returned b o 1:  => units 14, quarantined 1, allocated 8",
            "batch_quarantined b - 2: quarantined 2 => units 14, quarantined 3, allocated 8",
            "batch_adjusted b - 5: units -5 => units 9, quarantined 3, allocated 8",
            "line_deallocated b o 2: allocated -2 => units 9, quarantined 3, allocated 6",
            "line_allocated c o 2: allocated 2 => units 10, allocated 2",
            "batch_received c - 8: units -2 => units 8, allocated 2",
        ]
    );
    let why = |movement: &Value| [movement["kind"].clone(), movement["reason"].clone(), movement["to"].clone()];
    let of = |event: &'static str| movements.iter().filter(move |movement| movement["event"] == event);
    assert_eq!(of("batch_adjusted").map(why).collect::<Vec<_>>(), [[json!("damaged"), json!("rain"), Value::Null]]);
    let reasons: Vec<_> = of("line_deallocated").map(|movement| movement["reason"].clone()).collect();
    assert_eq!(reasons, ["released", "released", "displaced"]);
    let back: Vec<_> = of("line_returned").map(|movement| movement["to"].clone()).collect();
    assert_eq!(back, ["quarantine", "restock", "scrap"]);
    for reference in ["b", "c"] {
        let last = movements.iter().rfind(|movement| movement["batch"] == reference).unwrap();
        assert_eq!(last["balance"], balance(&service, reference).await, "{last}");
    }
}

async fn a_movement_says_who_caused_it_and_when(on: On) {
    let (_store, service) = lamps(on, &[("b", 20, "")]).await;
    let request = service.client.put(service.program.url("/v1/orders/o")).header("X-Request-Id", "my-request");
    Service::answer(request.json(&json!({"lines": [{"sku": "LAMP", "qty": 3, "line": "7"}]}))).await.expect(201);
    let movement = ledger(&service, "/v1/products/LAMP/movements", 10).await.pop().unwrap();
    let event = service.events_of("LAMP", 1).await.remove(0);
    for (field, of_event) in
        [("at", "time"), ("sequence", "sequence"), ("correlation", "correlation"), ("actor", "actor")]
    {
        assert_eq!(movement[field], event[of_event], "{field}");
    }
    assert_eq!(
        [&movement["correlation"], &movement["actor"], &movement["order_id"], &movement["line"]],
        ["my-request", "http", "o", "7"]
    );
}

async fn a_ledger_is_read_in_pages_oldest_first(on: On) {
    let (_store, service) = lamps(on, &[("b", 20, "")]).await;
    // Waits, which is no movement, and gets its units later.
    service.queue_up("w", 25).await;
    for order_id in ["o1", "o2", "o3"] {
        service.queue_up(order_id, 1).await;
    }
    service.batch("LAMP", "b", json!({"qty": 30})).await;
    let path = "/v1/products/LAMP/movements";
    let whole = ledger(&service, path, 1000).await;
    let sequences: Vec<u64> = whole.iter().map(|movement| movement["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted() && sequences.len() == 7, "{sequences:?}");
    for size in 1..=8 {
        assert_eq!(ledger(&service, path, size).await, whole, "in pages of {size}");
    }
    let later = service.get(&format!("{path}?after={}", sequences[3])).await.expect(200).json();
    assert_eq!((later["movements"].as_array().unwrap().as_slice(), &later["next"]), (&whole[4..], &Value::Null));
    let beyond = service.get(&format!("{path}?after=1000000")).await.expect(200).json();
    assert_eq!(beyond, json!({"movements": [], "next": null, "archived": null}));
}

async fn a_batchs_ledger_has_its_own_movements_only_also_when_nothing_is_left_in_it(on: On) {
    let (_store, service) = lamps(on, &[("b", 20, ""), ("c%2F1%20%C3%A4", 3, "2031-01-01"), ("d", 4, "")]).await;
    service.ask("o", 22, json!({})).await.expect(201);
    ship(&service, "o", &[("1", 22)]).await;
    service.delete("/v1/products/LAMP/batches/c%2F1%20%C3%A4").await.expect(200);
    service.ask("p", 2, json!({})).await.expect(201);
    let whole = ledger(&service, "/v1/products/LAMP/movements", 1000).await;
    for (name, path) in [("b", "b"), ("c/1 ä", "c%2F1%20%C3%A4"), ("d", "d")] {
        let own: Vec<&Value> = whole.iter().filter(|movement| movement["batch"] == name).collect();
        assert!(own.len() >= 2);
        for size in [1, 2, 100] {
            let of_batch = ledger(&service, &format!("/v1/products/LAMP/batches/{path}/movements"), size).await;
            assert!(of_batch.iter().eq(own.iter().copied()), "{name} in pages of {size}: {of_batch:?}");
        }
    }
}

/// The rows of an answer of CSV, each by the names of its columns.
fn rows(answer: &Answer) -> Vec<Value> {
    let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
    let rows = reader.deserialize::<BTreeMap<String, String>>();
    rows.map(|row| json!(row.unwrap())).collect()
}

async fn as_csv_all_of_a_ledger_comes_at_once(on: On) {
    let (_store, service) = lamps(on, &[("b", 10_000, "")]).await;
    // More than a page can have.
    for order_id in ["o1", "o2"] {
        let lines: Vec<Value> = (0..600).map(|n| json!({"sku": "LAMP", "qty": 2, "line": n.to_string()})).collect();
        service.put(&format!("/v1/orders/{order_id}"), json!({ "lines": lines })).await.expect(201);
    }
    ship(&service, "o1", &[("1", 1)]).await;
    adjust(&service, "b", "found", 1, "behind, and \"under\" a shelf").await;
    let path = "/v1/products/LAMP/movements";
    let whole = ledger(&service, path, 1000).await;
    assert_eq!(whole.len(), 1203);
    let asked = service.client.get(service.program.url(path)).header("Accept", "text/csv, application/json");
    let accepted = Service::answer(asked).await.expect(200);
    let named = service.get(&format!("{path}?format=csv")).await.expect(200);
    assert_eq!(accepted.text, named.text);
    assert_eq!(named.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(named.headers["content-disposition"], "attachment; filename=\"movements.csv\"");
    assert_eq!(named.text.matches("\r\n").count(), 1204, "a row for the names, and one for each movement");
    let told = rows(&named);
    assert_eq!(told.len(), whole.len());
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string().replace("null", ""), str::to_owned);
    for (row, movement) in told.iter().zip(&whole) {
        for (name, value) in movement.as_object().unwrap().iter().filter(|(name, _)| *name != "balance") {
            assert_eq!(row[name], text(value), "{name} of {row}");
        }
        for (name, value) in movement["balance"].as_object().unwrap() {
            assert_eq!(row[format!("balance_{name}")], text(value), "{name} of {row}");
        }
    }
    let json = service.client.get(service.program.url(path)).header("Accept", "application/json, text/csv");
    Service::answer(json).await.expect(200).json();
    let later = service.get(&format!("{path}?format=csv&after=1202")).await.expect(200);
    assert_eq!(rows(&later).len(), 1);
    let of_batch = service.get("/v1/products/LAMP/batches/b/movements?format=csv").await.expect(200);
    assert_eq!(of_batch.text, named.text);
    let none = service.get(&format!("{path}?format=csv&after=9999")).await.expect(200);
    assert_eq!(none.text.lines().collect::<Vec<_>>(), [named.text.lines().next().unwrap()]);
}

async fn no_cell_of_csv_is_a_formula(on: On) {
    let (_store, service) = lamps(on, &[("=b", 10, "")]).await;
    service.ask("+1", 1, json!({})).await.expect(201);
    service.ask("-1", 1, json!({})).await.expect(201);
    service.delete("/v1/orders/-1").await.expect(200);
    adjust(&service, "=b", "damaged", 1, "@SUM(A1), and more").await;
    let told = rows(&service.get("/v1/products/LAMP/movements?format=csv").await.expect(200));
    let column = |name: &str| told.iter().map(|row| row[name].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(column("batch"), ["'=b"; 5]);
    assert_eq!(column("order_id"), ["", "'+1", "'-1", "'-1", ""]);
    assert_eq!(column("reason"), ["", "", "", "released", "'@SUM(A1), and more"]);
    assert_eq!(column("allocated"), ["0", "1", "1", "-1", "0"], "a number is one");
}

async fn those_who_got_units_of_a_batch_are_named_shipped_ones_too(on: On) {
    let (_store, service) = lamps(on, &[("b", 20, ""), ("c", 20, "2031-01-01")]).await;
    service.ask("gone", 6, json!({})).await.expect(201);
    ship(&service, "gone", &[("1", 6)]).await;
    take_back(&service, "gone", 2, "scrap").await;
    service.ask("part", 5, json!({})).await.expect(201);
    ship(&service, "part", &[("1", 2)]).await;
    service.ask("held", 3, json!({"hold_seconds": 6000})).await.expect(201);
    service.ask("never", 1, json!({})).await.expect(201);
    service.delete("/v1/orders/never").await.expect(200);
    service.ask("both", 24, json!({})).await.expect(201);
    service.ask("other", 2, json!({})).await.expect(201);
    let recipients = async |reference: &str, page: usize| {
        let (mut told, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/products/LAMP/batches/{reference}/recipients?limit={page}&after={after}");
            let page = service.get(&path).await.expect(200).json();
            for recipient in page["recipients"].as_array().unwrap() {
                let numbers = ["held", "allocated", "shipped", "returned"].map(|name| recipient[name].to_string());
                assert_eq!(recipient["line"], "1");
                told.push(format!("{} {}", recipient["order_id"].as_str().unwrap(), numbers.join(" ")));
            }
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => return told,
            }
        }
    };
    for page in [1, 3, 100] {
        assert_eq!(recipients("b", page).await, ["both 0 6 0 0", "held 3 0 0 0", "part 0 3 2 0", "gone 0 0 6 2"]);
        assert_eq!(recipients("c", page).await, ["other 0 2 0 0", "both 0 18 0 0"]);
    }
    service.get("/v1/products/LAMP/batches/x/recipients").await.expect(404);
    service.get("/v1/products/SHADE/batches/b/recipients").await.expect(404);
}

async fn what_is_unknown_or_makes_no_sense_is_said(on: On) {
    let (_store, service) = lamps(on, &[("b", 20, "")]).await;
    service.batch("SHADE", "d", json!({"qty": 1})).await;
    for path in ["SHADES/movements", "LAMP/batches/x/movements", "LAMP/batches/d/movements", "X/batches/b/movements"] {
        for format in ["json", "csv"] {
            let refused = service.get(&format!("/v1/products/{path}?format={format}")).await.expect(404);
            assert_eq!(refused.json()["type"], "urn:allocation:problem:not-found");
        }
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=-1", "after"),
        ("after=x", "after"),
        ("format=xml", "format"),
        ("format=csv&limit=10", "limit"),
        ("from=2011-01-01", "from"),
    ] {
        for path in ["movements", "batches/b/movements"] {
            let refused = service.get(&format!("/v1/products/LAMP/{path}?{query}")).await.expect(422).json();
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
    }
}

async fn what_a_ledger_is_found_by_belongs_to_the_books(on: On) {
    let (store, service) = lamps(on, &[("b", 10_000, "")]).await;
    for order_id in ["o1", "o2"] {
        let lines: Vec<Value> = (0..600).map(|n| json!({"sku": "LAMP", "qty": 2, "line": n.to_string()})).collect();
        service.put(&format!("/v1/orders/{order_id}"), json!({ "lines": lines })).await.expect(201);
    }
    let read = async || ledger(&service, "/v1/products/LAMP/movements", 100).await;
    let whole = read().await;
    store.assert_balanced().await;
    for (damage, told) in [
        (
            "UPDATE balances SET body = '{\"b\":[1,0,0,0]}' WHERE sku = 'LAMP'",
            "LAMP: has other balances noted after event",
        ),
        ("UPDATE balances SET sequence = sequence + 1", "LAMP: has other balances noted after event"),
        ("DELETE FROM balances", "LAMP: has no balances noted since event 0"),
        ("UPDATE batches SET created_after = 1", "LAMP: batch b is said to have its events elsewhere than it has"),
    ] {
        if !store.tamper(damage).await {
            return;
        }
        let output = store.run(&["verify"]).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && said.contains(told), "{damage}: {said}");
        assert!(store.run(&["repair", "--apply"]).await.status.success());
        store.assert_balanced().await;
        let mended: Vec<_> = read().await;
        assert_eq!(mended, whole);
        assert_eq!(ledger(&service, "/v1/products/LAMP/batches/b/movements", 100).await, whole);
    }
}
