//! What the program tells of what it does: a name for each request, a line in the log, and figures.

use allocation_testing::eventually;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::{On, Service, Store, lamps, on_both_stores};

on_both_stores!(the_stock_is_counted,);

/// What is answered to a request that was named so by its caller, or not at all.
async fn named(service: &Service, path: &str, id: Option<&str>) -> (u16, HeaderMap) {
    let mut request = service.client.get(service.program.url(path));
    if let Some(id) = id {
        request = request.header("X-Request-Id", id);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

/// Lines of the log that are about requests.
fn requests(log: &str) -> Vec<Value> {
    let lines =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    lines.filter(|line| line["target"] == "request").collect()
}

#[tokio::test]
async fn every_answer_names_its_request_as_its_caller_did() {
    let (_store, service) = lamps(On::Sqlite, &[("b", 10, "")]).await;
    for (path, status) in [("/v1/products/LAMP", 200), ("/v1/products/x", 404), ("/nowhere", 404), ("/healthz", 200)] {
        let (answered, headers) = named(&service, path, Some("mine-1")).await;
        assert_eq!((answered, headers["x-request-id"].to_str().unwrap()), (status, "mine-1"), "{path}");
        let (_, first) = named(&service, path, None).await;
        let (_, second) = named(&service, path, None).await;
        assert_eq!(first["x-request-id"].len(), 36, "{path}");
        assert_ne!(first["x-request-id"], second["x-request-id"], "{path}");
    }
    // One that is no name is not taken over.
    let long = "x".repeat(129);
    let (_, headers) = named(&service, "/healthz", Some(&long)).await;
    assert_eq!(headers["x-request-id"].len(), 36);
}

#[tokio::test]
async fn a_change_carries_the_name_that_its_answer_gave() {
    let (_store, service) = lamps(On::Sqlite, &[("b", 10, "")]).await;
    let url = service.program.url("/v1/orders/o1");
    let answer = service.client.put(url).json(&json!({"lines": [{"sku": "LAMP", "qty": 1}]})).send().await.unwrap();
    let name = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let event = service.feed(2).await.pop().unwrap();
    assert_eq!(event["event"]["correlation"], *name, "{event}");
}

#[tokio::test]
async fn each_request_is_a_line_of_json_if_wanted() {
    let store = Store::new(On::Sqlite).await.with("LOG", "info").with("LOG_FORMAT", "json");
    let service = store.serve().await;
    let url = service.program.url("/v1/products/LAMP?x=not-this");
    let request = service.client.get(url).bearer_auth("not-this-either").header("X-Request-Id", "mine-2");
    assert_eq!(request.send().await.unwrap().status(), 404);
    let line = eventually("the line", async || {
        requests(&service.program.log()).into_iter().find(|line| line["request_id"] == "mine-2")
    })
    .await;
    let expected = json!({
        "level": "INFO", "target": "request", "method": "GET", "path": "/v1/products/LAMP",
        "route": "/v1/products/{sku}", "status": 404, "request_id": "mine-2",
        "timestamp": line["timestamp"], "seconds": line["seconds"],
    });
    assert_eq!(line, expected);
    assert!(line["seconds"].as_f64().unwrap() > 0.0 && line["timestamp"].is_string(), "{line}");
    assert!(!service.program.log().contains("not-this"), "{}", service.program.log());
}

#[tokio::test]
async fn by_default_requests_that_do_not_fail_are_no_lines() {
    let (_store, service) = lamps(On::Sqlite, &[("b", 10, "")]).await;
    service.get("/v1/products/LAMP").await.expect(200);
    service.get("/v1/products/x").await.expect(404);
    assert!(!service.program.log().contains("request_id"), "{}", service.program.log());
}

#[tokio::test]
async fn by_default_a_request_that_fails_here_is_a_line() {
    let (store, service) = lamps(On::Sqlite, &[("b", 10, "")]).await;
    if !store.tamper("DROP TABLE lines").await {
        return;
    }
    let (status, _) = named(&service, "/v1/orders/o1", Some("mine-3")).await;
    assert_eq!(status, 500);
    eventually("the line", async || {
        let log = service.program.log();
        log.lines().any(|line| line.contains("WARN request") && line.contains("mine-3")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn methods_that_callers_make_up_are_one_label() {
    let (_store, service) = lamps(On::Sqlite, &[("b", 10, "")]).await;
    for method in ["BREW", "STEEP"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = service.program.url("/v1/products/LAMP");
        assert_eq!(service.client.request(method, url).send().await.unwrap().status(), 405);
    }
    let metrics = service.get("/metrics").await.expect(200).text;
    assert!(!metrics.contains("BREW") && !metrics.contains("STEEP"), "{metrics}");
    let counted = r#"allocation_http_requests_total{method="other",route="/v1/products/{sku}",status="405"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
    let timed = r#"allocation_http_request_seconds_count{method="other",route="/v1/products/{sku}"} 2"#;
    assert!(metrics.contains(timed), "{metrics}");
}

async fn the_stock_is_counted(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.order("o1", &[("LAMP", 10)]).await.expect(201);
    service.queue_up("o2", 9).await;
    drop(service);
    // A program counts as soon as it is there.
    let service = store.serve().await;
    eventually("the census", async || {
        let metrics = service.get("/metrics").await.expect(200).text;
        let counted =
            |state: &str, units: u64| metrics.contains(&format!("allocation_units{{state=\"{state}\"}} {units}\n"));
        let all = counted("stock", 10) && counted("allocated", 10) && counted("backordered", 9) && counted("held", 0);
        (all && metrics.contains("allocation_overpromised_batches 0\n")).then_some(())
    })
    .await;
}
