//! Imports of files, real orders among them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use allocation_testing::program::command;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::{On, PROGRAM, Store, on_both_stores};

on_both_stores!(
    a_bad_row_is_reported_skips_its_order_and_the_rest_goes_on,
    batches_are_declared_and_declared_again,
    standard_input_will_do,
    it_may_run_beside_a_service,
);

/// Runs an import with this text as standard input.
async fn import(store: &Store, what: &str, text: &str) -> (Option<i32>, String, String) {
    let mut import = command(Path::new(PROGRAM), &store.environment(), &["import", what, "-"]);
    import.env("LOG", "warn").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = import.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn a_bad_row_is_reported_skips_its_order_and_the_rest_goes_on(on: On) {
    let store = Store::new(on).await;
    import(&store, "batches", "ref,sku,qty,eta\nb,LAMP,100,\nb,SHADE,1,\n").await;
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
    let (status, said, reported) = import(&store, "orders", file).await;
    assert_eq!(status, Some(1), "{reported}");
    let lines: Vec<&str> = reported.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 4", "line 6", "line 7", "line 11"], "{reported}");
    assert!(
        said.starts_with(
            "5 orders: 2 promised, 0 known already, 3 refused (1 out of stock, 1 unknown SKU, 1 conflicts), 4 bad rows"
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
    let (status, said, _) = import(&store, "batches", file).await;
    assert_eq!(status, Some(0));
    assert!(said.starts_with("2 batches: 2 new, 0 changed, 0 the same, 0 refused"), "{said}");
    let (_, said, _) =
        import(&store, "batches", "ref,sku,qty,eta\nb,LAMP,90,\nc,LAMP,5,2031-01-01\nb,LAMP,90,2031-01-01\n").await;
    assert!(said.starts_with("3 batches: 0 new, 1 changed, 1 the same, 1 refused"), "{said}");
    let (status, said, reported) = import(&store, "batches", "ref,sku,qty\nb,LAMP,x\n,LAMP,1\nd,,1\nd,LAMP,1\n").await;
    assert_eq!((status, reported.lines().count()), (Some(1), 3), "{reported}");
    assert!(said.starts_with("1 batches: 1 new"), "{said}");
}

async fn standard_input_will_do(on: On) {
    let store = Store::new(on).await;
    let (status, said, _) = import(&store, "batches", "\u{feff}ref,sku,qty,eta\r\nb,LAMP,1,\r\n").await;
    assert_eq!(status, Some(0), "{said}");
    let (status, _, reported) = import(&store, "orders", "order,sku,qty\no1,LAMP,1\n").await;
    assert_eq!(status, Some(2));
    assert!(reported.contains("no column `order_id`"), "{reported}");
    let missing = store.run(&["import", "orders", "/nowhere/at/all.csv"]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/at/all.csv"));
}

async fn it_may_run_beside_a_service(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", serde_json::json!({"qty": 10_000})).await;
    let rows: String = (0..2_000).map(|n| format!("import-{n},LAMP,1\n")).collect();
    let text = format!("order_id,sku,qty\n{rows}");
    let importing = import(&store, "orders", &text);
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

/// Where the real orders are, beside the project; a checkout without them skips what needs them.
fn real_orders() -> Option<(PathBuf, PathBuf)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let files = (folder.join("superstore-batches.csv"), folder.join("superstore-orders.csv"));
    if files.0.is_file() && files.1.is_file() {
        return Some(files);
    }
    println!("skipped: {} has no superstore-*.csv", folder.display());
    None
}

/// Every line of a store, as text.
async fn all_lines(store: &Store) -> Vec<String> {
    let service = store.serve().await;
    let (mut lines, mut after) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("/v1/products?limit=1000&after={after}")).await.expect(200).json();
        for product in page["products"].as_array().unwrap() {
            let sku = product["sku"].as_str().unwrap();
            let of_product = service.get(&format!("/v1/products/{sku}/lines?limit=1000")).await.expect(200).json();
            assert_eq!(of_product["next"], Value::Null);
            for line in of_product["lines"].as_array().unwrap() {
                lines.push(line.to_string());
            }
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return lines,
        }
    }
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
        assert!(promised.starts_with("5009 orders: 3579 promised, 0 known already, 1430 refused"), "{promised}");
        let balance = async || {
            let said = store.assert_balanced().await;
            assert!(said.contains("6162 lines") && said.contains("20475 units allocated, 0 backordered"), "{said}");
        };
        balance().await;
        let again = said(&["import", "orders", orders]).await;
        assert!(again.starts_with("5009 orders: 0 promised, 3579 known already, 1430 refused"), "{again}");
        balance().await;
        outcomes.push(all_lines(&store).await);
    }
    assert_eq!(outcomes[0].len(), 6_162);
    assert!(outcomes[0] == outcomes[1]);
}
