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
#[expect(clippy::too_many_lines, reason = "a line for each fault")]
async fn every_bad_field_is_told_what_it_must_be() {
    let (_store, service) = service().await;
    let order = |with: Value| {
        let mut body = with;
        body["lines"] = json!([{"sku": "LAMP", "qty": 1}]);
        body
    };
    let line = |with: Value| {
        let mut line = with;
        line["sku"] = json!("LAMP");
        line["qty"] = json!(1);
        json!({ "lines": [line] })
    };
    let seconds = "hold_seconds: must be a whole number from 1 to 2592000";
    let priority = "priority: must be a whole number from -2147483648 to 2147483647";
    let units = "must be a whole number from 1 to 1000000000";
    let date = "must be a date like 2011-01-02, or null";
    let split = "split: must be true, false or \"locations\"";
    let policy = "when_short: must be reject, partial or backorder";
    let of_orders = [
        (order(json!({"when_short": "later"})), policy.to_owned()),
        (order(json!({"when_short": null})), policy.to_owned()),
        (order(json!({"hold_seconds": 0})), seconds.to_owned()),
        (order(json!({"hold_seconds": 2_592_001})), seconds.to_owned()),
        (order(json!({"hold_seconds": "60"})), seconds.to_owned()),
        (
            order(json!({"hold_seconds": 60, "when_short": "backorder"})),
            "hold_seconds: can't be combined with when_short backorder: holds never wait".to_owned(),
        ),
        (order(json!({"priority": 1.5})), priority.to_owned()),
        (order(json!({"priority": 2_147_483_648_u64})), priority.to_owned()),
        (order(json!({"priority": null})), priority.to_owned()),
        (order(json!({"by": "soon"})), format!("by: {date}")),
        (order(json!({"by": "2031-02-29"})), format!("by: {date}")),
        (order(json!({"not_before": 20_310_101})), format!("not_before: {date}")),
        (
            order(json!({"by": "2031-01-01", "not_before": "2031-01-02"})),
            "by: must not be earlier than not_before".to_owned(),
        ),
        (order(json!({"split": "batches"})), split.to_owned()),
        (order(json!({"split": null})), split.to_owned()),
        (order(json!({"split": ["locations"]})), split.to_owned()),
        (order(json!({"min_split": 0})), format!("min_split: {units}")),
        (order(json!({"min_split": 2, "split": false})), "min_split: has no meaning without split".to_owned()),
        (line(json!({"line": ""})), "lines[0].line: must not be empty".to_owned()),
        (line(json!({"line": "x".repeat(65)})), "lines[0].line: must be at most 64 bytes, not 65".to_owned()),
        (line(json!({"line": 2})), "lines[0].line: must be a text".to_owned()),
        (line(json!({"priority": "high"})), format!("lines[0].{priority}")),
        (line(json!({"by": true})), format!("lines[0].by: {date}")),
        (line(json!({"split": 1})), format!("lines[0].{split}")),
        (line(json!({"min_split": -1})), format!("lines[0].min_split: {units}")),
        (line(json!({"hold_seconds": 60})), "lines[0].hold_seconds: is not a known field".to_owned()),
        (
            json!({"not_before": "2031-02-01", "lines": [{"sku": "LAMP", "qty": 1, "by": "2031-01-31"}]}),
            "lines[0].by: must not be earlier than not_before".to_owned(),
        ),
        (
            json!({"lines": [{"sku": "LAMP", "qty": 1}, {"sku": "LAMP", "qty": 1, "priority": 1}]}),
            "lines: the lines for LAMP with the same `line` differ in more than quantity".to_owned(),
        ),
    ];
    let mut requests = Vec::new();
    for (body, detail) in of_orders {
        requests.push((Method::PUT, "/v1/orders/o1", body.clone(), detail.clone()));
        requests.push((Method::POST, "/v1/quotes", body, detail));
    }
    let mut then = |method: Method, path: &'static str, body: Value, detail: &str| {
        requests.push((method, path, body, detail.to_owned()));
    };
    let (change, extend) = ("/v1/orders/o1/lines/LAMP", "/v1/orders/o1/extend");
    then(Method::PATCH, change, json!({"qty": 0}), &format!("qty: {units}"));
    then(Method::PATCH, change, json!({"priority": "high"}), priority);
    then(Method::PATCH, change, json!({"by": "soon"}), &format!("by: {date}"));
    then(Method::PATCH, change, json!({"when_short": "later"}), policy);
    then(Method::PATCH, change, json!({"split": false}), "split: is not a known field");
    then(Method::PATCH, "/v1/orders/o1/lines/LAMP?line=", json!({"qty": 0}), &format!("qty: {units}"));
    then(Method::PATCH, "/v1/orders/o1/lines/LAMP?line=%20", json!({}), "line: must not begin or end with white space");
    then(Method::POST, extend, json!({}), "hold_seconds: is missing");
    then(Method::POST, extend, json!({"hold_seconds": 0}), seconds);
    then(Method::POST, extend, json!({"hold_seconds": 1, "until": "x"}), "until: is not a known field");
    let product = "/v1/products/LAMP";
    for bad in [json!(-1), json!(1.5), json!("x"), json!("5"), json!(9_223_372_036_854_775_808_u64)] {
        then(Method::PUT, product, json!({"queue_cap": bad}), "queue_cap: must be a whole number from 0, or null");
    }
    then(Method::PUT, product, json!({"auto_improve": "yes"}), "auto_improve: must be true or false");
    then(Method::PUT, product, json!({"auto_improve": null}), "auto_improve: must be true or false");
    then(Method::PUT, product, json!({"cap": 1}), "cap: is not a known field");
    let receipts = "/v1/products/LAMP/batches/b/receipts";
    then(Method::POST, receipts, json!({}), "qty: is missing");
    then(Method::POST, receipts, json!({"qty": 0}), &format!("qty: {units}"));
    then(Method::POST, receipts, json!({"qty": 1, "rest": "drop"}), "rest: must be keep or cancel");
    then(Method::POST, receipts, json!({"qty": 1, "eta": null}), "eta: is not a known field");

    for (method, path, body, detail) in requests {
        let answer = service.send(method.clone(), path, Some(body.clone())).await;
        assert_eq!(answer.status.as_u16(), 422, "{method} {path} {body}: {}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:allocation:problem:invalid");
        assert_eq!(problem["detail"], detail, "{method} {path} {body}");
        let error = &problem["errors"][0];
        let told = format!("{}: {}", error["field"].as_str().unwrap(), error["detail"].as_str().unwrap());
        assert_eq!(told, detail, "{method} {path} {body}");
    }
    assert_eq!(service.version("LAMP").await, 1, "nothing has changed");
    service.get("/v1/orders/o1").await.expect(404);
}

#[tokio::test]
async fn every_bad_field_of_a_request_is_told_at_once() {
    let (_store, service) = service().await;
    let body = json!({
        "when_short": "never", "hold_seconds": -1, "priority": "x", "by": 1, "not_before": 1, "split": 1, "min_split": 0,
        "note": 1, "lines": [{"sku": "", "qty": 0, "line": "", "priority": "x", "colour": "red"}]
    });
    let problem = service.put("/v1/orders/o1", body).await.expect(422).json();
    let mut told = fields(&problem);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "by",
            "hold_seconds",
            "lines[0].colour",
            "lines[0].line",
            "lines[0].priority",
            "lines[0].qty",
            "lines[0].sku",
            "min_split",
            "not_before",
            "note",
            "priority",
            "split",
            "when_short",
        ]
    );
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
        (Method::POST, "/v1/quotes"),
        (Method::PUT, "/v1/products/LAMP"),
        (Method::POST, "/v1/products/LAMP/batches/b/receipts"),
        (Method::PATCH, "/v1/orders/o1/lines/LAMP"),
        (Method::POST, "/v1/orders/o1/extend"),
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
        (Method::GET, "/v1/quotes", 405),
        (Method::PUT, "/v1/orders/o1/confirm", 405),
        (Method::GET, "/v1/orders/o1/extend", 405),
        (Method::GET, "/v1/products/LAMP/batches/b/receipts", 405),
        (Method::POST, "/v1/products/LAMP/batches/b", 405),
        (Method::GET, "/v1/products?limit=0", 422),
        (Method::GET, "/v1/products?limit=1001", 422),
        (Method::GET, "/v1/products?limit=x", 422),
        (Method::GET, "/v1/products?limit=1&limit=2", 422),
        (Method::GET, "/v1/products?page=2", 422),
        (Method::GET, "/v1/events?after=-1", 422),
        (Method::GET, "/v1/events?after=99999999999999999999", 422),
        (Method::GET, "/v1/events?after=9223372036854775808", 422),
        (Method::GET, "/v1/products/LAMP/lines?state=lost", 422),
        (Method::GET, "/v1/products/LAMP/queue?limit=1001", 422),
        (Method::GET, "/v1/products/LAMP/queue?state=held", 422),
        (Method::DELETE, "/v1/orders/o1/lines/LAMP?line=1&line=2", 422),
        (Method::DELETE, "/v1/orders/o1/lines/LAMP?lines=1", 422),
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
    for path in [
        "/v1/orders/{order_id}",
        "/v1/orders/{order_id}/confirm",
        "/v1/orders/{order_id}/extend",
        "/v1/orders/{order_id}/lines/{sku}",
        "/v1/quotes",
        "/v1/availability/{sku}",
        "/v1/backlog",
        "/v1/products/{sku}",
        "/v1/products/{sku}/queue",
        "/v1/products/{sku}/improve",
        "/v1/products/{sku}/batches/{ref}",
        "/v1/products/{sku}/batches/{ref}/receipts",
        "/allocate",
        "/readyz",
    ] {
        assert!(paths.iter().any(|known| *known == path), "{path} in {paths:?}");
    }
    let page = service.client.get(service.program.url("/docs/")).send().await.unwrap();
    // Browsers unpack it; it would be an eighth of the program otherwise.
    assert_eq!(page.headers()["content-encoding"], "gzip");
    let page = std::io::read_to_string(flate2::read::GzDecoder::new(&*page.bytes().await.unwrap())).unwrap();
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
