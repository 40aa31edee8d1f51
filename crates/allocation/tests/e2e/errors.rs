//! Bad input gets a clear error and changes nothing; it never gets a 500.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{On, Service, Store};

async fn service() -> (Store, Service) {
    let store = Store::new(On::Sqlite).await;
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    (store, service)
}

/// Fields that the answer complains of.
fn fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let (_store, service) = service().await;
    let batch = "/v1/products/LAMP/batches/b";
    let order = "/v1/orders/o1";
    let long = "x".repeat(256);
    for (path, body, expected) in [
        (batch, json!({}), vec!["qty"]),
        (batch, json!({"qty": -1, "eta": "tomorrow"}), vec!["qty", "eta"]),
        (batch, json!({"qty": 1.5}), vec!["qty"]),
        (batch, json!({"qty": "5"}), vec!["qty"]),
        (batch, json!({"qty": [5]}), vec!["qty"]),
        (batch, json!({"qty": {"a": 5}}), vec!["qty"]),
        (batch, json!({"qty": null}), vec!["qty"]),
        (batch, json!({"qty": true}), vec!["qty"]),
        (batch, json!({"qty": 1_000_000_000_001_u64}), vec!["qty"]),
        (batch, json!({"qty": 1, "eta": "2011-02-30"}), vec!["eta"]),
        (batch, json!({"qty": 1, "eta": "2011-1-2"}), vec!["eta"]),
        (batch, json!({"qty": 1, "eta": 20_110_102}), vec!["eta"]),
        (batch, json!({"qty": 1, "colour": "red", "size": 1}), vec!["colour", "size"]),
        (order, json!({}), vec!["lines"]),
        (order, json!({"lines": []}), vec!["lines"]),
        (order, json!({"lines": null}), vec!["lines"]),
        (order, json!({"lines": [{"sku": "LAMP", "qty": 1}], "note": "x"}), vec!["note"]),
        (order, json!({"lines": [{"sku": "LAMP", "qty": 1, "colour": "red"}]}), vec!["lines[0].colour"]),
        (
            order,
            json!({"lines": [{"sku": "", "qty": 0}, {"qty": 1}]}),
            vec!["lines[0].sku", "lines[0].qty", "lines[1].sku"],
        ),
        (order, json!({"lines": [{"sku": " LAMP", "qty": 1}]}), vec!["lines[0].sku"]),
        (order, json!({"lines": [{"sku": "LA\nMP", "qty": 1}]}), vec!["lines[0].sku"]),
        (order, json!({"lines": [{"sku": long, "qty": 1}]}), vec!["lines[0].sku"]),
        (order, json!({"lines": [{"sku": "LAMP", "qty": 1_000_000_001}]}), vec!["lines[0].qty"]),
        (
            order,
            json!({"lines": [{"sku": "LAMP", "qty": 600_000_000}, {"sku": "LAMP", "qty": 600_000_000}]}),
            vec!["lines"],
        ),
        (order, json!({"lines": "LAMP"}), vec!["body"]),
        (order, json!([]), vec!["body"]),
    ] {
        let answer = service.put(path, body.clone()).await.expect(422);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{body}");
        let problem = answer.json();
        assert_eq!(fields(&problem), expected, "{body}: {problem}");
        assert_eq!(problem["status"], 422);
    }
    assert_eq!(service.get("/v1/products/LAMP").await.expect(200).json()["version"], 1, "nothing has changed");
}

#[tokio::test]
async fn too_many_lines_are_refused() {
    let (_store, service) = service().await;
    let lines: Vec<Value> = (0..1_001).map(|n| json!({"sku": format!("S{n}"), "qty": 1})).collect();
    let refused = service.put("/v1/orders/o1", json!({ "lines": lines })).await.expect(422).json();
    assert_eq!(fields(&refused), ["lines"]);
    let allowed: Vec<Value> = (0..1_000).map(|n| json!({"sku": format!("S{n}"), "qty": 1})).collect();
    let unknown = service.put("/v1/orders/o1", json!({ "lines": allowed })).await.expect(422).json();
    assert_eq!(unknown["type"], "urn:allocation:problem:unknown-sku");
}

#[tokio::test]
async fn what_is_no_json_is_malformed() {
    let (_store, service) = service().await;
    for (method, path) in [
        (Method::PUT, "/v1/orders/o1"),
        (Method::PUT, "/v1/products/LAMP/batches/b"),
        (Method::POST, "/allocate"),
        (Method::POST, "/add_batch"),
    ] {
        for body in ["", "{", "{\"qty\": }", "nonsense", "\u{0}", "{\"qty\":1}x"] {
            let request = service.client.request(method.clone(), service.program.url(path));
            let request = request.header("Content-Type", "application/json").body(body);
            Service::answer(request).await.expect(400);
        }
    }
}

#[tokio::test]
async fn a_body_must_be_json_and_not_too_large() {
    let (_store, service) = service().await;
    let put = |content_type: Option<&'static str>, body: String| {
        let mut request = service.client.put(service.program.url("/v1/products/LAMP/batches/b"));
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        Service::answer(request.body(body))
    };
    let good = || json!({"qty": 10}).to_string();
    put(None, good()).await.expect(415);
    put(Some("text/plain"), good()).await.expect(415);
    put(Some("application/x-www-form-urlencoded"), good()).await.expect(415);
    put(Some("application/json; charset=utf-8"), good()).await.expect(200);
    put(Some("application/merge-patch+json"), good()).await.expect(200);
    let large = put(Some("application/json"), format!("{}{}", good(), " ".repeat(1024 * 1024))).await.expect(413);
    assert_eq!(large.json()["type"], "urn:allocation:problem:too-large");
}

#[tokio::test]
async fn wrong_paths_methods_and_parameters_are_told() {
    let (_store, service) = service().await;
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/v1", 404),
        (Method::GET, "/v1/orders", 404),
        (Method::POST, "/v1/orders/o1", 405),
        (Method::PATCH, "/v1/products/LAMP", 405),
        (Method::GET, "/allocate", 405),
        (Method::GET, "/v1/products?limit=0", 422),
        (Method::GET, "/v1/products?limit=1001", 422),
        (Method::GET, "/v1/products?limit=x", 422),
        (Method::GET, "/v1/products?limit=1&limit=2", 422),
        (Method::GET, "/v1/products?page=2", 422),
        (Method::GET, "/v1/events?after=-1", 422),
        (Method::GET, "/v1/events?after=99999999999999999999", 422),
        (Method::GET, "/v1/events?after=9223372036854775808", 422),
        (Method::GET, "/v1/products/LAMP/lines?state=lost", 422),
        (Method::GET, "/v1/orders/%20x", 422),
        (Method::GET, "/v1/orders/a%00b", 422),
        (Method::DELETE, "/v1/orders/o1/lines/%0A", 422),
    ] {
        let answer = service.send(method.clone(), path, None).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
        if status == 405 {
            assert!(answer.headers.contains_key("allow"), "{method} {path}");
        }
    }
    let not_text = service.get("/v1/orders/%ff").await;
    assert_eq!(not_text.status.as_u16(), 400, "{}", not_text.text);
}

#[tokio::test]
async fn a_reader_of_the_feed_that_comes_too_late_is_told() {
    let store = Store::new(On::Postgres).await;
    let service = store.serve().await;
    for n in 0..5 {
        service.batch(&format!("S{n}"), "b", json!({"qty": 1})).await;
    }
    service.feed(5).await;
    let (client, connection) = tokio_postgres::connect(store.environment()[0].1, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.execute("DELETE FROM feed WHERE last_position <= 3", &[]).await.unwrap();
    let gone = service.get("/v1/events?after=2").await.expect(410).json();
    assert_eq!(gone["type"], "urn:allocation:problem:feed-gone");
    let kept = service.get("/v1/events?after=3").await.expect(200).json();
    assert_eq!(kept["next"], 5);
}

#[tokio::test]
async fn the_originals_routes_complain_the_originals_way() {
    let (_store, service) = service().await;
    let bad = service.post("/allocate", json!({"orderid": "o1", "sku": "", "qty": 0})).await.expect(422).json();
    let message = bad["message"].as_str().unwrap();
    assert!(message.contains("sku: must not be empty") && message.contains("qty: must be"), "{message}");
    service.post("/add_batch", json!({"ref": "x", "sku": "LAMP", "qty": -5, "eta": null})).await.expect(422);
    // It never minded other fields.
    service.post("/allocate", json!({"orderid": "o1", "sku": "LAMP", "qty": 1, "note": "x"})).await.expect(202);
}

#[tokio::test]
async fn the_api_describes_itself() {
    let (_store, service) = service().await;
    let document = service.get("/openapi.json").await.expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    for path in ["/v1/orders/{order_id}", "/v1/products/{sku}/batches/{ref}", "/allocate", "/readyz"] {
        assert!(paths.iter().any(|known| *known == path), "{path} in {paths:?}");
    }
    let page = service.get("/docs/").await.expect(200).text;
    assert!(page.contains("swagger"), "{page}");
    assert!(!page.contains("https://"), "it needs nothing from outside: {page}");
}

#[tokio::test]
async fn the_document_in_docs_is_the_one_that_is_served() {
    let served = allocation_entrypoints::web::openapi();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, &served).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(kept == served, "docs/openapi.json is stale: run `make openapi`");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_there() {
    let (_store, service) = service().await;
    assert_eq!(service.get("/healthz").await.expect(200).text, "OK");
    assert_eq!(service.get("/readyz").await.expect(200).text, "OK");
    service.order("o1", &[("LAMP", 1)]).await.expect(201);
    let metrics = service.get("/metrics").await.expect(200).text;
    for line in [
        "allocation_commands_total{command=\"allocate\",outcome=\"done\"} 1",
        "allocation_http_requests_total{method=\"PUT\",route=\"/v1/orders/{order_id}\",status=\"201\"} 1",
        "allocation_retries_total 0",
        "allocation_commits_total 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
