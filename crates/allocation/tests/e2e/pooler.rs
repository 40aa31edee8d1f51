//! Behind a pooler that gives each transaction to whichever session is free, and none to itself.

use allocation_testing::servers::{PgBouncer, postgres_url};
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::support::{Service, Store, at_once};

/// Sessions on the server, for all copies.
const SESSIONS: usize = 3;
const PRODUCTS: usize = 5;
const ORDERS: usize = 400;
/// Units of each product.
const UNITS: usize = 10_000;

/// What becomes of an order after it was taken, which came as the nth.
async fn go_on(service: &Service, nth: usize, sku: &str) {
    let (order, product) = (format!("/v1/orders/o{nth}"), format!("/v1/products/{sku}"));
    match nth % 8 {
        0 => drop(service.post(&format!("{order}/confirm"), json!({})).await.expect(200)),
        1 => drop(service.delete(&order).await.expect(200)),
        2 => {
            service.post(&format!("{order}/pick"), json!({})).await.expect(200);
            service.post_new(&format!("{order}/shipments"), json!({})).await.expect(200);
        }
        3 => {
            let damaged = json!({"kind": "damaged", "qty": 1, "reason": "fell"});
            service.post_new(&format!("{product}/batches/b/adjustments"), damaged).await.expect(200);
        }
        4 => {
            service.batch(sku, &format!("c{nth}"), json!({"qty": 1, "eta": "2099-01-01"})).await;
            service.put(&format!("{product}/batches/c{nth}"), json!({"qty": 0, "eta": "2099-01-01"})).await.expect(200);
        }
        5 => {
            let lines = json!({"lines": [{"sku": sku, "qty": 1}]});
            service.post("/v1/quotes", lines).await.expect(200);
            service.get(&format!("{product}/lines?limit=10")).await.expect(200);
        }
        6 => drop(service.put(&product, json!({"overdue_days": nth})).await.expect(200)),
        _ => {
            assert_eq!(service.fate(&format!("o{nth}")).await, "allocated: b 1");
            service.get("/v1/events?limit=10").await.expect(200);
            service.get(&format!("{product}/movements")).await.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_behind_a_pooler_of_transactions_do_all_they_do_without_one() {
    let direct = postgres_url().await;
    let Some(pooler) = PgBouncer::start(&direct, SESSIONS).await else {
        println!("skipped: needs pgbouncer");
        return;
    };
    let (client, connection) = tokio_postgres::connect(&direct, NoTls).await.unwrap();
    tokio::spawn(connection);
    let store = Store::at(pooler.url(), tempfile::tempdir().unwrap()).with("DB_PREPARED", "off");
    let copies = [store.serve().await, store.serve().await];
    let skus: Vec<String> = (0..PRODUCTS).map(|n| format!("SKU-{n}")).collect();
    for sku in &skus {
        copies[0].batch(sku, "b", json!({"qty": UNITS})).await;
    }
    at_once(0..ORDERS, async |nth| {
        let (service, sku) = (&copies[nth % copies.len()], &skus[nth % PRODUCTS]);
        let mut body = json!({"lines": [{"sku": sku, "qty": 1}]});
        if nth % 8 == 0 {
            body["hold_seconds"] = json!(600);
        }
        service.put(&format!("/v1/orders/o{nth}"), body).await.expect(201);
        go_on(service, nth, sku).await;
    })
    .await;

    for (product, sku) in skus.iter().enumerate() {
        let of_it = (0..ORDERS).filter(|nth| nth % PRODUCTS == product);
        let (mut allocated, mut on_hand) = (0, UNITS);
        for nth in of_it {
            match nth % 8 {
                1 => {}
                2 => on_hand -= 1,
                3 => (allocated, on_hand) = (allocated + 1, on_hand - 1),
                _ => allocated += 1,
            }
        }
        let found = copies[0].product(sku).await;
        let numbers = |product: &Value| (product["allocated"].clone(), product["on_hand"].clone());
        assert_eq!(numbers(&found), (json!(allocated), json!(on_hand)), "{found}");
    }
    store.assert_balanced().await;

    // Nothing was left in a session, and there were as few as that.
    let sessions = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let sessions: i64 = client.query_one(sessions, &[]).await.unwrap().get(0);
    assert!((1..=i64::try_from(SESSIONS).unwrap()).contains(&sessions), "{sessions} sessions");
    let (other, connection) = tokio_postgres::connect(&pooler.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    for what in ["SHOW enable_seqscan", "SHOW plan_cache_mode", "SELECT count(*) FROM pg_prepared_statements"] {
        for _ in 0..10 {
            let said = other.simple_query(what).await.unwrap();
            let row = said.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            assert!(matches!(row, Some("on" | "auto" | "0")), "{what}: {row:?}");
        }
    }
}
