//! Imports of files, real orders among them.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::{Value, json};

use allocation_testing::real_orders::real_orders;

use crate::support::{On, Store, at_once, on_both_stores};

on_both_stores!(
    a_bad_row_is_reported_skips_its_order_and_the_rest_goes_on,
    batches_are_declared_and_declared_again,
    standard_input_will_do,
    orders_are_split_and_when_short_refused_cut_or_queued_as_told,
    it_may_run_beside_a_service,
);

async fn a_bad_row_is_reported_skips_its_order_and_the_rest_goes_on(on: On) {
    let store = Store::new(on).await;
    store.import(&["batches"], "ref,sku,qty,eta\nb,LAMP,100,\nb,SHADE,1,\n").await;
    let file = "region,order_id,sku,qty\n\
        N,o1,LAMP,1\n\
        N,o2,LAMP,2\n\
        N,o2,LAMP,none\n\
        N,o2,SHADE,1\n\
        N,o3,LAMP,0\n\
        N,o4,LAMP\n\
        N,o5,LAMP,3\n\
        N,o5,SHADE,2\n\
        N,o6,UNKNOWN,2\n\
        N,,LAMP,2\n\
        N,o1,LAMP,7\n\
        N,o7,\"LAMP\",4\n";
    let (status, said, reported) = store.import(&["orders"], file).await;
    assert_eq!(status, Some(1), "{reported}");
    let lines: Vec<&str> = reported.lines().map(|line| line.split(':').next().unwrap()).collect();
    let of_rows: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("line")).collect();
    assert_eq!(of_rows, ["line 4", "line 6", "line 7", "line 11"], "{reported}");
    assert!(reported.contains("are not read: region\n"), "{reported}");
    let refused: Vec<&str> = reported.lines().filter(|line| line.starts_with("order ")).collect();
    let named = ["order o5: out of stock", "order o6: unknown SKU UNKNOWN", "order o1: "];
    assert!(
        refused.iter().zip(named).all(|(line, begin)| line.to_lowercase().starts_with(&begin.to_lowercase())),
        "{reported}"
    );
    assert_eq!(refused.len(), 3, "{reported}");
    assert!(
        said.starts_with(
            "5 orders: 2 promised, 0 known already, 3 refused (1 out of stock, 1 unknown SKU, 1 for other reasons), 4 bad rows"
        ),
        "{said}"
    );
    let service = store.serve().await;
    service.get("/v1/orders/o2").await.expect(404);
    service.get("/v1/orders/o5").await.expect(404);
    service.get("/v1/orders/o7").await.expect(200);
}

async fn batches_are_declared_and_declared_again(on: On) {
    let store = Store::new(on).await;
    let file = "ref,sku,qty,eta\nb,LAMP,100,\nc,LAMP,5,2031-01-01\n";
    let (status, said, _) = store.import(&["batches"], file).await;
    assert_eq!(status, Some(0));
    assert!(said.starts_with("2 batches: 2 new, 0 changed, 0 the same, 0 refused"), "{said}");
    let (_, said, _) =
        store.import(&["batches"], "ref,sku,qty,eta\nb,LAMP,90,\nc,LAMP,5,2031-01-01\nb,LAMP,90,2031-01-01\n").await;
    assert!(said.starts_with("3 batches: 0 new, 1 changed, 1 the same, 1 refused"), "{said}");
    let (status, said, reported) = store.import(&["batches"], "ref,sku,qty\nb,LAMP,x\n,LAMP,1\nd,,1\nd,LAMP,1\n").await;
    assert_eq!((status, reported.lines().count()), (Some(1), 3), "{reported}");
    assert!(said.starts_with("1 batches: 1 new"), "{said}");
}

async fn standard_input_will_do(on: On) {
    let store = Store::new(on).await;
    let (status, said, _) = store.import(&["batches"], "\u{feff}ref,sku,qty,eta\r\nb,LAMP,1,\r\n").await;
    assert_eq!(status, Some(0), "{said}");
    let (status, _, reported) = store.import(&["orders"], "order,sku,qty\no1,LAMP,1\n").await;
    assert_eq!(status, Some(2));
    assert!(reported.contains("no column `order_id`"), "{reported}");
    let missing = store.run(&["import", "orders", "/nowhere/at/all.csv"]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/at/all.csv"));
}

async fn orders_are_split_and_when_short_refused_cut_or_queued_as_told(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 4})).await;
    service.batch("LAMP", "c", json!({"qty": 3})).await;
    let orders = async |policy: &[&str], order_id: &str, qty: u64| {
        let what = [&["orders"], policy].concat();
        let (status, said, _) = store.import(&what, &format!("order_id,sku,qty\n{order_id},LAMP,{qty}\n")).await;
        (status, said.split(" (").next().unwrap().to_owned())
    };
    let refused = (Some(0), "1 orders: 0 promised, 0 known already, 1 refused".to_owned());
    let promised = (Some(0), "1 orders: 1 promised, 0 known already, 0 refused".to_owned());
    assert_eq!(orders(&[], "o1", 8).await, refused);
    assert_eq!(orders(&["--when-short", "reject"], "o1", 8).await, refused);
    service.get("/v1/orders/o1").await.expect(404);
    assert_eq!(orders(&[], "o1", 5).await, promised);
    assert_eq!(service.fate("o1").await, "allocated: b 4, c 1");
    assert_eq!(orders(&["--when-short", "partial"], "o2", 3).await, promised);
    assert_eq!(service.fate("o2").await, "allocated: c 2, dropped 1");
    assert_eq!(orders(&["--when-short", "backorder"], "o3", 3).await, promised);
    assert_eq!(service.fate("o3").await, "backordered: waiting 3");
    assert_eq!(orders(&["--when-short", "later"], "o4", 3).await.0, Some(2));
    store.assert_balanced().await;
}

async fn it_may_run_beside_a_service(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", serde_json::json!({"qty": 10_000})).await;
    let rows: String = (0..2_000).map(|n| format!("import-{n},LAMP,1\n")).collect();
    let text = format!("order_id,sku,qty\n{rows}");
    let importing = store.import(&["orders"], &text);
    let serving = async {
        for n in 0..50 {
            service.order(&format!("web-{n}"), &[("LAMP", 1)]).await.expect(201);
        }
    };
    let ((status, said, _), ()) = tokio::join!(importing, serving);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(service.get("/v1/products/LAMP").await.expect(200).json()["allocated"], 2_050);
    store.assert_balanced().await;
}

/// Every line of a store, as text.
async fn all_lines(store: &Store) -> BTreeSet<String> {
    let service = store.serve().await;
    let lines = Mutex::new(BTreeSet::new());
    at_once(service.products().await, async |product| {
        let of_product = service.lines_of_product(product["sku"].as_str().unwrap()).await;
        lines.lock().unwrap().extend(of_product.iter().map(Value::to_string));
    })
    .await;
    lines.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_orders_have_the_same_outcome_line_for_line_on_both_stores() {
    let Some((batches, orders)) = real_orders() else { return };
    let (batches, orders) = (batches.to_str().unwrap(), orders.to_str().unwrap());
    let mut outcomes = Vec::new();
    for on in [On::Sqlite, On::Postgres] {
        let store = Store::new(on).await;
        let said = async |arguments: &[&str]| {
            let output = store.run(arguments).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().split(';').next().unwrap().to_owned()
        };
        let first = said(&["import", "batches", batches]).await;
        assert!(first.starts_with("7162 batches: 7162 new"), "{first}");
        let promised = said(&["import", "orders", orders]).await;
        assert!(promised.starts_with("5009 orders: 4777 promised, 0 known already, 232 refused"), "{promised}");
        let balance = async || {
            let said = store.assert_balanced().await;
            assert!(
                said.contains("9296 lines") && said.contains("35192 units allocated, 0 held, 0 backordered"),
                "{said}"
            );
        };
        balance().await;
        let again = said(&["import", "orders", orders]).await;
        assert!(again.starts_with("5009 orders: 0 promised, 4777 known already, 232 refused"), "{again}");
        balance().await;
        outcomes.push(all_lines(&store).await);
    }
    assert_eq!(outcomes[0].len(), 9_296);
    assert!(outcomes[0] == outcomes[1]);
}
