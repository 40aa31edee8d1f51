//! Many clients, one product, several copies of the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{On, Service, Store, on_both_stores};

/// `clients` at a time ask for lines of one unit, `orders` in all, spread over the services. Gives how many were promised.
async fn rush(services: &[Arc<Service>], clients: usize, orders: usize) -> usize {
    let (next, promised) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let service = services[client % services.len()].clone();
        let (next, promised) = (next.clone(), promised.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= orders {
                    return;
                }
                let answer = service.order(&format!("o{n}"), &[("HOT", 1)]).await;
                match answer.status.as_u16() {
                    201 => drop(promised.fetch_add(1, Ordering::Relaxed)),
                    409 => {}
                    _ => panic!("{answer:?}"),
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    promised.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_over_one_database_promise_exactly_what_there_is() {
    let store = Store::new(On::Postgres).await;
    let services = [Arc::new(store.serve().await), Arc::new(store.serve().await)];
    services[0].batch("HOT", "b", json!({"qty": 5_000})).await;
    assert_eq!(rush(&services, 32, 10_000).await, 5_000);
    let product = services[1].get("/v1/products/HOT").await.expect(200).json();
    assert_eq!((&product["allocated"], &product["available"]), (&json!(5_000), &json!(0)));
    assert_eq!(product["version"], 5_002, "created, promised, and out of stock once");
    let said = store.assert_balanced().await;
    assert!(said.contains("5000 units allocated"), "{said}");
}

on_both_stores!(
    the_last_units_are_promised_once,
    a_large_cut_is_answered_with_the_first_thousand_and_lets_others_in_between,
);

async fn the_last_units_are_promised_once(on: On) {
    let store = Store::new(on).await;
    let service = Arc::new(store.serve().await);
    service.batch("HOT", "b", json!({"qty": 300})).await;
    assert_eq!(rush(std::slice::from_ref(&service), 16, 500).await, 300);
    service.order("late", &[("HOT", 1)]).await.expect(409);
    store.assert_balanced().await;
}

async fn a_large_cut_is_answered_with_the_first_thousand_and_lets_others_in_between(on: On) {
    const LINES: usize = 10_000;
    let store = Store::new(on).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let rows: String = (0..LINES).map(|n| format!("o{n},HOT,1\n")).collect();
    std::fs::write(&file, format!("order_id,sku,qty\n{rows}")).unwrap();
    let service = store.serve().await;
    service.batch("HOT", "b", json!({"qty": 1_000_000})).await;
    service.batch("OTHER", "b", json!({"qty": 1_000_000})).await;
    assert!(store.run(&["import", "orders", file.to_str().unwrap()]).await.status.success());

    let cut = service.batch("HOT", "b", json!({"qty": 0}));
    let others = async {
        let mut answered = 0;
        loop {
            service.order(&format!("x{answered}"), &[("OTHER", 1)]).await.expect(201);
            answered += 1;
            let hot = service.get("/v1/products/HOT").await.expect(200).json();
            if hot["allocated"] == 0 {
                return answered;
            }
        }
    };
    let (cut, answered) = tokio::join!(cut, others);
    assert_eq!((&cut["qty"], &cut["displaced_total"]), (&json!(0), &json!(LINES)));
    assert_eq!(cut["displaced"].as_array().unwrap().len(), 1_000);
    assert!(answered > 1, "others are served while the cut goes on");
    let hot = service.get("/v1/products/HOT").await.expect(200).json();
    assert_eq!((&hot["allocated"], &hot["backordered"]), (&json!(0), &json!(LINES)));
    store.assert_balanced().await;
}
