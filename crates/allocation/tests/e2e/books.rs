//! Tables that were damaged: found by `verify`, shown and mended by `repair`.

use serde_json::{Value, json};

use crate::support::{On, Service, Store, fate, on_both_stores};

on_both_stores!(
    verify_names_what_differs,
    repair_shows_what_differs_and_changes_nothing_unless_told_to,
    repair_mends_whatever_was_damaged_and_notes_it,
    a_service_goes_on_with_what_was_mended,
    books_that_balance_need_no_repair,
    a_log_that_contradicts_itself_is_told_and_left_alone,
);

/// Books with a line of every kind.
pub(crate) async fn books(on: On) -> (Store, Service) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.batch("LAMP", "c", json!({"qty": 5, "eta": "2031-01-01"})).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("o2", 8, json!({"priority": 3})).await.expect(201);
    service.ask("h", 3, json!({"hold_seconds": 6000})).await.expect(201);
    service.queue_up("w", 2).await;
    service.ask("gone", 1, json!({"when_short": "backorder"})).await.expect(201);
    service.delete("/v1/orders/gone").await.expect(200);
    service.batch("SHADE", "b", json!({"qty": 10})).await;
    service.order("o1", &[("SHADE", 4)]).await.expect(201);
    (store, service)
}

/// All that is read of the books.
pub(crate) async fn read(service: &Service) -> Vec<Value> {
    let mut read = service.products().await;
    for product in &mut read {
        product["lines"] = json!(service.lines_of_product(product["sku"].as_str().unwrap()).await);
        product["queue"] = json!(service.queue(product["sku"].as_str().unwrap()).await);
        // A repair is an event, and no other difference.
        product["version"] = Value::Null;
    }
    read
}

/// Runs a command: exit status, and what it said.
pub(crate) async fn run(store: &Store, arguments: &[&str]) -> (i32, String) {
    let output = store.run(arguments).await;
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), said + &String::from_utf8_lossy(&output.stderr))
}

pub(crate) const DAMAGE: &[(&str, &str)] = &[
    ("UPDATE batches SET allocated = allocated - 1 WHERE sku = 'LAMP' AND reference = 'b'", "batch b"),
    ("UPDATE batches SET quantity = quantity + 5 WHERE sku = 'LAMP' AND reference = 'b'", "batch b"),
    ("UPDATE batches SET eta = '2031-01-02' WHERE sku = 'LAMP' AND reference = 'c'", "batch c"),
    ("DELETE FROM batches WHERE sku = 'LAMP' AND reference = 'c'", "batch c"),
    ("UPDATE products SET backordered = backordered + 1 WHERE sku = 'LAMP'", "units backordered"),
    ("UPDATE products SET queued = 0 WHERE sku = 'LAMP'", "queue's cap"),
    ("UPDATE products SET version = version - 1 WHERE sku = 'LAMP'", "version"),
    ("UPDATE products SET queue_cap = 1 WHERE sku = 'LAMP'", "queue_cap"),
    (
        "UPDATE lines SET placed = placed + 1, requested = requested + 1 WHERE sku = 'LAMP' AND order_id = 'o1'",
        "order o1",
    ),
    ("UPDATE lines SET priority = 9 WHERE sku = 'LAMP' AND order_id = 'w'", "order w"),
    ("UPDATE lines SET held_until = held_until + 1000000 WHERE order_id = 'h'", "order h"),
    ("UPDATE parts SET qty = qty + 1 WHERE order_id = 'o2' AND batch = 'b'", "order o2"),
    ("DELETE FROM parts WHERE order_id = 'o2'", "order o2"),
    ("DELETE FROM lines WHERE sku = 'LAMP' AND order_id = 'o1'", "order o1"),
    ("DELETE FROM products WHERE sku = 'LAMP'", "no product"),
];

async fn verify_names_what_differs(on: On) {
    let (store, service) = books(on).await;
    let said = store.assert_balanced().await;
    assert!(said.contains("2 products, 3 batches, 6 lines"), "{said}");
    assert!(said.contains("16 units allocated, 3 held, 2 backordered; the books balance"), "{said}");
    drop(service);
    for (damage, named) in DAMAGE {
        if !store.tamper(damage).await {
            return;
        }
        let (status, said) = run(&store, &["verify"]).await;
        assert_eq!(status, 1, "{damage}: {said}");
        assert!(said.contains(named), "{damage}: {said}");
        assert!(said.lines().all(|line| line.starts_with("LAMP: ") || line.starts_with("2 products")), "{said}");
        let (status, said) = run(&store, &["repair", "--apply"]).await;
        assert_eq!(status, 0, "{damage}: {said}");
    }
}

async fn repair_shows_what_differs_and_changes_nothing_unless_told_to(on: On) {
    let (store, service) = books(on).await;
    let before = service.version("LAMP").await;
    if !store.tamper(DAMAGE[0].0).await {
        return;
    }
    let damaged = read(&service).await;
    for _ in 0..2 {
        let (status, said) = run(&store, &["repair"]).await;
        assert_eq!(status, 1, "{said}");
        assert!(said.contains("LAMP: batch b is") && said.contains("nothing was changed"), "{said}");
    }
    assert_eq!(read(&service).await, damaged);
    assert_eq!(service.version("LAMP").await, before);
    let (status, said) = run(&store, &["repair", "--apply"]).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("LAMP: mended, 2 differences") && !said.contains("SHADE: "), "{said}");
    assert_eq!(service.history("LAMP", before).await, ["books_repaired"]);
    let note = service.events_of("LAMP", before).await[0].clone();
    assert_eq!((&note["data"], &note["actor"]), (&json!({"differences": 2}), &json!("repair")));
    store.assert_balanced().await;
}

async fn repair_mends_whatever_was_damaged_and_notes_it(on: On) {
    let (store, service) = books(on).await;
    let whole = read(&service).await;
    for (damage, _) in DAMAGE {
        if !store.tamper(damage).await {
            return;
        }
        let (status, said) = run(&store, &["repair", "--apply"]).await;
        assert_eq!(status, 0, "{damage}: {said}");
        store.assert_balanced().await;
        assert_eq!(read(&service).await, whole, "{damage}");
    }
    let told = service.history("LAMP", 0).await;
    let notes = told.iter().filter(|event| *event == "books_repaired").count();
    assert_eq!(notes, DAMAGE.len());
}

async fn a_service_goes_on_with_what_was_mended(on: On) {
    let (store, service) = books(on).await;
    for (damage, _) in DAMAGE {
        if !store.tamper(damage).await {
            return;
        }
    }
    assert_eq!(run(&store, &["repair", "--apply"]).await.0, 0);
    service.post("/v1/orders/h/confirm", json!({})).await.expect(200);
    service.delete("/v1/orders/o2").await.expect(200);
    assert_eq!(service.fate("w").await, "allocated: b 2");
    service.batch("LAMP", "b", json!({"qty": 6})).await;
    let order = service.order("o3", &[("LAMP", 2)]).await.expect(201).json();
    assert!(fate(&order["lines"][0]).starts_with("allocated"), "{order}");
    store.assert_balanced().await;
}

async fn books_that_balance_need_no_repair(on: On) {
    let (store, service) = books(on).await;
    let before = (service.version("LAMP").await, service.version("SHADE").await);
    for repair in [&["repair"][..], &["repair", "--apply"]] {
        let (status, said) = run(&store, repair).await;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("the books balance"), "{said}");
    }
    assert_eq!((service.version("LAMP").await, service.version("SHADE").await), before);
}

async fn a_log_that_contradicts_itself_is_told_and_left_alone(on: On) {
    let (store, service) = books(on).await;
    let before = read(&service).await;
    let swap = "UPDATE events SET body = replace(body, '\"qty\":4', '\"qty\":400') WHERE sku = 'LAMP' AND sequence = 3";
    if !store.tamper(swap).await {
        return;
    }
    let (status, said) = run(&store, &["repair", "--apply"]).await;
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("LAMP: not mended: the log of SKU LAMP can't be folded"), "{said}");
    assert_eq!(read(&service).await, before);
}
