//! Webhooks: a receiver that is really there, and one that is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_service_layer::webhooks::Secret;
use allocation_testing::eventually;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{On, Service, Store, on_both_stores};

on_both_stores!(
    a_webhook_gets_every_event_signed_and_in_order,
    what_the_receiver_does_not_take_is_sent_again,
    a_kill_loses_no_event_of_a_webhook,
    a_webhook_that_is_paused_goes_on_where_it_was_and_one_that_is_deleted_gets_nothing,
    a_secret_is_shown_when_it_is_made_and_never_again,
    what_is_no_webhook_is_refused,
    nothing_is_sent_inside_unless_it_is_allowed,
    of_two_copies_one_delivers,
    what_is_on_its_way_to_a_receiver_is_waited_for_when_the_service_stops,
);

/// Requests in the order they came.
type Requests = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// A receiver that remembers what it got, and answers as it is told.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    requests: Requests,
    answers: Arc<Mutex<VecDeque<u16>>>,
    /// Whether it keeps its senders waiting.
    held: Arc<watch::Sender<bool>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Self { url, requests: Arc::default(), answers: Arc::default(), held: Arc::default() };
        let router = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    /// Has it keep its senders waiting, or no longer.
    fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn requests(&self) -> Vec<(HeaderMap, String)> {
        self.requests.lock().unwrap().clone()
    }

    /// What it got, as JSON.
    fn events(&self) -> Vec<Value> {
        self.requests().iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect()
    }

    pub(crate) async fn got(&self, count: usize) -> Vec<Value> {
        eventually("events", async || (self.requests.lock().unwrap().len() >= count).then_some(())).await;
        self.events()
    }
}

/// Answers 200 unless told otherwise.
async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    receiver.requests.lock().unwrap().push((headers, body));
    receiver.held.subscribe().wait_for(|held| !held).await.unwrap();
    let answer = receiver.answers.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(answer).unwrap()
}

/// A service that may send to this machine.
async fn service(on: On) -> (Store, Service) {
    let store = Store::new(on).await.with("WEBHOOK_PRIVATE", "on");
    let service = store.serve().await;
    (store, service)
}

pub(crate) async fn register(service: &Service, body: Value) -> Value {
    service.post("/v1/webhooks", body).await.expect(201).json()
}

fn path(hook: &Value) -> String {
    format!("/v1/webhooks/{}", hook["id"].as_str().unwrap())
}

async fn a_webhook_gets_every_event_signed_and_in_order(on: On) {
    let (_store, service) = service(on).await;
    let receiver = Receiver::start().await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    let hook = register(&service, json!({"url": receiver.url, "from": "beginning"})).await;
    let few = Receiver::start().await;
    register(&service, json!({"url": few.url, "from": "beginning", "types": ["line_allocated"], "skus": ["SHADE"]}))
        .await;
    service.batch("SHADE", "b", json!({"qty": 100})).await;
    for n in 0..10 {
        service.order(&format!("o{n}"), &[("LAMP", 1), ("SHADE", 1)]).await.expect(201);
    }
    let got = receiver.got(22).await;
    let stored: Vec<Value> = service.feed(22).await.iter().map(|placed| placed["event"].clone()).collect();
    assert_eq!(got, stored, "every event once, in order, untouched");
    let secret = Secret::parse(hook["secret"].as_str().unwrap()).unwrap();
    for (headers, body) in receiver.requests() {
        let header = |name: &str| headers[name].to_str().unwrap();
        let event: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(header("content-type"), "application/cloudevents+json");
        assert_eq!(header("webhook-id"), event["id"]);
        let signature = secret.sign(header("webhook-id"), header("webhook-timestamp").parse().unwrap(), &body);
        assert_eq!(header("webhook-signature"), signature);
    }
    let got = few.got(10).await;
    assert!(got.iter().all(|e| e["type"] == "allocation.line_allocated.v1" && e["subject"] == "SHADE"), "{got:?}");
    eventually("no lag", async || (service.get(&path(&hook)).await.json()["lag"] == 0).then_some(())).await;

    let test = service.post(&format!("{}/test", path(&hook)), json!({})).await.expect(200).json();
    assert_eq!(test, json!({"delivered": true, "status": 200}));
    assert_eq!(receiver.got(23).await[22]["type"], "allocation.webhook_test.v1");
}

async fn what_the_receiver_does_not_take_is_sent_again(on: On) {
    let (_store, service) = service(on).await;
    let receiver = Receiver::start().await;
    receiver.answers.lock().unwrap().push_back(500);
    let hook = register(&service, json!({"url": receiver.url, "from": "beginning"})).await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    service.order("o1", &[("LAMP", 1)]).await.expect(201);
    receiver.got(1).await;
    let failed = eventually("a failure", async || {
        let hook = service.get(&path(&hook)).await.expect(200).json();
        hook["last_failure"].is_object().then_some(hook)
    })
    .await;
    assert_eq!((&failed["last_failure"]["detail"], &failed["state"]), (&json!("answered 500"), &json!("active")));
    assert!(failed["next_attempt"].is_string(), "{failed}");
    let got = receiver.got(3).await;
    assert_eq!(got[0], got[1]);
    assert_eq!(got[2]["type"], "allocation.line_allocated.v1");
    let ids: Vec<_> = receiver.requests().iter().map(|(headers, _)| headers["webhook-id"].clone()).collect();
    assert_eq!(ids[0], ids[1], "so that the receiver can tell");
}

async fn a_kill_loses_no_event_of_a_webhook(on: On) {
    const ORDERS: usize = 120;
    let (store, service) = service(on).await;
    let receiver = Receiver::start().await;
    register(&service, json!({"url": receiver.url, "types": ["line_allocated"]})).await;
    service.batch("LAMP", "b", json!({"qty": 1_000})).await;
    let mut service = service;
    for n in 0..ORDERS {
        service.order(&format!("o{n}"), &[("LAMP", 1)]).await.expect(201);
        if n % 50 == 49 {
            service.program.kill().await;
            service = store.serve().await;
        }
    }
    let last = format!("o{}", ORDERS - 1);
    let all = async || receiver.events().iter().any(|event| event["data"]["order_id"] == *last).then_some(());
    eventually("the last event", all).await;
    let mut orders: Vec<_> = receiver.events().iter().map(|event| event["data"]["order_id"].to_string()).collect();
    // What was on its way in a kill comes twice, one after the other.
    orders.dedup();
    let expected: Vec<_> = (0..ORDERS).map(|n| json!(format!("o{n}")).to_string()).collect();
    assert_eq!(orders, expected);
}

async fn a_webhook_that_is_paused_goes_on_where_it_was_and_one_that_is_deleted_gets_nothing(on: On) {
    let (_store, service) = service(on).await;
    let (receiver, witness) = (Receiver::start().await, Receiver::start().await);
    let hook = register(&service, json!({"url": receiver.url, "from": "beginning"})).await;
    register(&service, json!({"url": witness.url, "from": "beginning"})).await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    receiver.got(1).await;
    eventually("no lag", async || (service.get(&path(&hook)).await.json()["lag"] == 0).then_some(())).await;

    let paused = service.patch(&path(&hook), json!({"state": "paused"})).await.expect(200).json();
    assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &json!("asked")));
    service.order("o1", &[("LAMP", 1)]).await.expect(201);
    witness.got(2).await;
    assert_eq!(receiver.requests().len(), 1);
    let active = service.patch(&path(&hook), json!({"state": "active"})).await.expect(200).json();
    assert_eq!((&active["state"], active.get("reason")), (&json!("active"), None));
    assert_eq!(receiver.got(2).await[1]["data"]["order_id"], "o1");

    eventually("no lag", async || (service.get(&path(&hook)).await.json()["lag"] == 0).then_some(())).await;
    service.delete(&path(&hook)).await.expect(204);
    service.delete(&path(&hook)).await.expect(404);
    service.get(&path(&hook)).await.expect(404);
    service.order("o2", &[("LAMP", 1)]).await.expect(201);
    witness.got(3).await;
    assert_eq!(receiver.requests().len(), 2);
}

async fn a_secret_is_shown_when_it_is_made_and_never_again(on: On) {
    let (_store, service) = service(on).await;
    let receiver = Receiver::start().await;
    let hook = register(&service, json!({"url": receiver.url})).await;
    let secret = hook["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44, "{secret}");
    let listed = service.get("/v1/webhooks").await.expect(200);
    assert!(!listed.text.contains("whsec_") && listed.json()["webhooks"][0]["id"] == hook["id"], "{}", listed.text);
    assert!(!service.get(&path(&hook)).await.expect(200).text.contains("whsec_"));
    let same = service.patch(&path(&hook), json!({"types": ["out_of_stock"], "skus": ["LAMP"]})).await.expect(200);
    assert!(!same.text.contains("whsec_"));
    assert_eq!((&same.json()["types"], &same.json()["skus"]), (&json!(["out_of_stock"]), &json!(["LAMP"])));
    let rotated = service.patch(&path(&hook), json!({"rotate_secret": true, "types": null})).await.expect(200).json();
    let other = rotated["secret"].as_str().unwrap();
    assert!(other != secret && rotated["types"] == json!([]), "{rotated}");
    service.post(&format!("{}/test", path(&hook)), json!({})).await.expect(200);
    let (headers, body) = receiver.requests().remove(0);
    let header = |name: &str| headers[name].to_str().unwrap();
    let sign = |secret: &str| {
        let timestamp = header("webhook-timestamp").parse().unwrap();
        Secret::parse(secret).unwrap().sign(header("webhook-id"), timestamp, &body)
    };
    assert_eq!(header("webhook-signature"), format!("{} {}", sign(other), sign(secret)));
    assert!(!service.program.log().contains("whsec_"));
}

async fn what_is_no_webhook_is_refused(on: On) {
    let (_store, service) = service(on).await;
    for (bad, field) in [
        (json!({}), "url"),
        (json!({"url": 1}), "url"),
        (json!({"url": "ftp://example.com"}), "url"),
        (json!({"url": "https://a:b@example.com"}), "url"),
        (json!({"url": "https://example.com", "types": ["line_lost"]}), "types[0]"),
        (json!({"url": "https://example.com", "types": "line_allocated"}), "types"),
        (json!({"url": "https://example.com", "skus": [" "]}), "skus[0]"),
        (json!({"url": "https://example.com", "from": "yesterday"}), "from"),
        (json!({"url": "https://example.com", "secret": "x"}), "secret"),
    ] {
        let problem = service.post("/v1/webhooks", bad.clone()).await.expect(422).json();
        assert_eq!(problem["errors"][0]["field"], field, "{bad}: {problem}");
    }
    for bad in [json!({"state": "asleep"}), json!({"rotate_secret": 1}), json!({"url": null}), json!({"id": "x"})] {
        service.patch("/v1/webhooks/01890a5d-ac96-774b-bcce-b302099a8057", bad).await.expect(422);
    }
    service.patch("/v1/webhooks/01890a5d-ac96-774b-bcce-b302099a8057", json!({})).await.expect(404);
    service.post("/v1/webhooks/01890a5d-ac96-774b-bcce-b302099a8057/test", json!({})).await.expect(404);
    service.get("/v1/webhooks/x").await.expect(422);
    assert_eq!(service.get("/v1/webhooks").await.expect(200).json(), json!({"webhooks": []}));
}

async fn nothing_is_sent_inside_unless_it_is_allowed(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    let receiver = Receiver::start().await;
    let https = receiver.url.replace("http:", "https:");
    for url in [&receiver.url, &https, "https://[::1]/", "https://169.254.169.254/", "https://2130706433/"] {
        let problem = service.post("/v1/webhooks", json!({"url": url})).await.expect(422).json();
        assert_eq!(problem["errors"][0]["field"], "url");
    }
    // A name is looked at when it is connected to.
    let named = https.replace("127.0.0.1", "localhost");
    let hook = register(&service, json!({"url": named, "from": "beginning"})).await;
    let test = service.post(&format!("{}/test", path(&hook)), json!({})).await.expect(200).json();
    assert_eq!(test["delivered"], false);
    assert!(test["detail"].as_str().unwrap().contains("not public"), "{test}");
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    let failed = eventually("a failure", async || {
        let hook = service.get(&path(&hook)).await.expect(200).json();
        hook["last_failure"].is_object().then_some(hook)
    })
    .await;
    assert!(failed["last_failure"]["detail"].as_str().unwrap().contains("not public"), "{failed}");
    assert!(receiver.requests().is_empty());
}

async fn of_two_copies_one_delivers(on: On) {
    let (store, service) = service(on).await;
    let other = store.serve().await;
    let receiver = Receiver::start().await;
    register(&service, json!({"url": receiver.url, "types": ["line_allocated"]})).await;
    service.batch("LAMP", "b", json!({"qty": 1_000})).await;
    for n in 0..40 {
        let asked = if n % 2 == 0 { &service } else { &other };
        asked.order(&format!("o{n}"), &[("LAMP", 1)]).await.expect(201);
    }
    receiver.got(40).await;
    let orders: Vec<_> = receiver.events().iter().map(|event| event["data"]["order_id"].clone()).collect();
    assert_eq!(orders, (0..40).map(|n| json!(format!("o{n}"))).collect::<Vec<_>>());
    let stopped = tokio::time::timeout(Duration::from_secs(15), service.program.stop()).await;
    assert_eq!(stopped.expect("well before work in flight is given up"), Some(0));
    other.order("last", &[("LAMP", 1)]).await.expect(201);
    receiver.got(41).await;
}

/// Else it would come twice.
async fn what_is_on_its_way_to_a_receiver_is_waited_for_when_the_service_stops(on: On) {
    let (store, service) = service(on).await;
    let receiver = Receiver::start().await;
    service.batch("LAMP", "b", json!({"qty": 1_000})).await;
    register(&service, json!({"url": receiver.url, "types": ["line_allocated"]})).await;
    receiver.hold(true);
    for n in 0..3 {
        service.order(&format!("o{n}"), &[("LAMP", 1)]).await.expect(201);
    }
    receiver.got(1).await;
    service.program.signal("TERM").await;
    eventually("it to be stopping", async || service.program.log().contains(" stopping").then_some(())).await;
    receiver.hold(false);
    let stopped = tokio::time::timeout(Duration::from_secs(15), service.program.ended()).await;
    assert_eq!(stopped.expect("it ends once there is an answer").status.code(), Some(0));
    assert_eq!(receiver.requests().len(), 1, "no other was begun");
    let service = store.serve().await;
    let orders: Vec<_> = receiver.got(3).await.iter().map(|event| event["data"]["order_id"].clone()).collect();
    assert_eq!(orders, [json!("o0"), json!("o1"), json!("o2")]);
    drop(service);
}

/// As slim containers are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_certificates_serves_all_the_same() {
    let store = Store::new(On::Sqlite).await.with("SSL_CERT_FILE", "/nowhere").with("SSL_CERT_DIR", "/nowhere");
    let service = store.serve().await;
    register(&service, json!({"url": "https://example.com/hooks"})).await;
}
