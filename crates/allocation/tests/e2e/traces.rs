//! Traces: from a request to its commit, to brokers and to webhooks, as a collector is told of them.

use std::time::Duration;

use allocation_testing::certificates::Authority;
use allocation_testing::eventually;
use allocation_testing::servers::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use redis::{AsyncCommands, Client};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::collector::{Collector, Seen};
use crate::support::{Answer, On, Service, Store, lamps, on_both_stores};
use crate::webhooks::{Receiver, register};

on_both_stores!(
    one_trace_leads_from_a_request_to_its_commit_its_brokers_and_its_webhook,
    commands_that_share_a_commit_are_each_in_the_trace_of_their_caller,
    a_message_goes_on_with_the_trace_of_who_sent_it,
);

/// A trace that a caller is in, and their own part of it.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What the caller says of it.
fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

/// Asks for a lamp as part of a trace.
async fn order(service: &Service, order_id: &str, traceparent: &str) -> Answer {
    let request = service.client.put(service.program.url(&format!("/v1/orders/{order_id}")));
    let body = json!({"lines": [{"sku": "LAMP", "qty": 1}]});
    Service::answer(request.header("traceparent", traceparent).json(&body)).await
}

impl Store {
    /// Tells this collector, at once.
    pub(crate) fn told_to(self, collector: &str) -> Self {
        self.with("OTEL_EXPORTER_OTLP_ENDPOINT", collector).with("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    /// Has events go to this Redis.
    fn with_redis(self, redis: &RedisServer) -> Self {
        self.with("REDIS_URL", &redis.url()).with("REDIS_STREAM", "events")
    }
}

async fn connect(redis: &RedisServer) -> MultiplexedConnection {
    Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// The event of this kind that the broker was given.
async fn published(redis: &RedisServer, kind: &str) -> Value {
    let mut connection = connect(redis).await;
    eventually("the event", async || {
        let entries: StreamRangeReply = connection.xrange_all("events").await.ok()?;
        let events = entries.ids.iter().map(|entry| entry.get::<String>("body").unwrap());
        let mut events = events.map(|body| serde_json::from_str::<Value>(&body).unwrap());
        events.find(|event| event["type"] == format!("allocation.{kind}.v1"))
    })
    .await
}

/// Fails the test unless one is part of the other, and happened when it may have.
fn assert_follows(span: &Seen, from: &Seen) {
    assert_eq!((&span.trace, &span.parent), (&from.trace, &from.id), "{span:#?} {from:#?}");
    assert!(from.began <= span.began && span.began <= span.ended, "{span:#?} {from:#?}");
}

async fn one_trace_leads_from_a_request_to_its_commit_its_brokers_and_its_webhook(on: On) {
    let (redis, collector) = (RedisServer::start().await, Collector::start().await);
    let store = Store::new(on).await.with("WEBHOOK_PRIVATE", "on").with_redis(&redis).told_to(&collector.url);
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    let receiver = Receiver::start().await;
    register(&service, json!({"url": receiver.url, "types": ["line_allocated"]})).await;
    let answer = order(&service, "order-7", &traceparent(TRACE, "01")).await.expect(201);

    let request = collector.one("PUT /v1/orders/{order_id}", TRACE).await;
    assert_eq!(request.parent, CALLER);
    let noted = |span: &Seen, name: &str| span.attributes.get(name).cloned().unwrap_or_default();
    assert_eq!(noted(&request, "http.request.method"), "PUT");
    assert_eq!(noted(&request, "http.route"), "/v1/orders/{order_id}");
    assert_eq!(noted(&request, "http.response.status_code"), "201");
    assert_eq!(noted(&request, "allocation.request_id"), answer.headers["x-request-id"].to_str().unwrap());
    assert_eq!(request.resource["service.name"], "allocation");

    let commit = collector.one("unit of work", TRACE).await;
    assert_follows(&commit, &request);
    assert!(commit.ended <= request.ended, "{commit:#?} {request:#?}");
    assert_eq!(noted(&commit, "allocation.command"), "allocate");
    assert_eq!(noted(&commit, "allocation.batch_size"), "1");
    assert_eq!(noted(&commit, "allocation.outcome"), "done");

    for sink in ["redis", "redis-stream"] {
        let publication = collector.one(&format!("publish {sink}"), TRACE).await;
        assert_follows(&publication, &commit);
        assert_eq!(noted(&publication, "allocation.event"), "line_allocated");
    }
    assert_eq!(published(&redis, "line_allocated").await["traceparent"], commit.traceparent());

    let post = collector.one("POST webhook", TRACE).await;
    assert_follows(&post, &commit);
    assert_eq!(noted(&post, "http.response.status_code"), "200");
    receiver.got(1).await;
    let (headers, body) = receiver.requests().remove(0);
    assert_eq!(headers["traceparent"].to_str().unwrap(), post.traceparent());
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(event["traceparent"], commit.traceparent());

    // Names are few; and who looks how the service is, is not told of.
    service.get("/healthz").await.expect(200);
    service.get("/nowhere").await.expect(404);
    eventually("the last", async || collector.spans().iter().any(|span| span.name == "GET").then_some(())).await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| !span.name.contains('7') && !span.name.contains("healthz")), "{spans:#?}");
    assert_eq!(spans.iter().filter(|span| span.trace == TRACE).count(), 5, "{spans:#?}");
    assert!(spans.iter().all(|span| !span.failed), "{spans:#?}");
}

async fn commands_that_share_a_commit_are_each_in_the_trace_of_their_caller(on: On) {
    const ORDERS: usize = 40;
    let (collector, store) = (Collector::start().await, Store::new(on).await);
    let store = store.told_to(&collector.url);
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": ORDERS})).await;
    let trace = |n: usize| format!("{:032x}", n + 1);
    let orders = (0..ORDERS).map(|n| {
        let (service, traceparent) = (&service, traceparent(&trace(n), "01"));
        async move { order(service, &format!("o{n}"), &traceparent).await.expect(201) }
    });
    futures_util::future::join_all(orders).await;
    for n in 0..ORDERS {
        let request = collector.one("PUT /v1/orders/{order_id}", &trace(n)).await;
        assert_follows(&collector.one("unit of work", &trace(n)).await, &request);
    }
    for placed in service.feed(1 + ORDERS).await.iter().skip(1) {
        let event = &placed["event"];
        let order_id = event["data"]["order_id"].as_str().unwrap();
        let commit = collector.one("unit of work", &trace(order_id[1..].parse().unwrap())).await;
        assert_eq!(event["traceparent"], commit.traceparent());
    }
    order(&service, "late", &traceparent(TRACE, "01")).await.expect(409);
    let commit = collector.one("unit of work", TRACE).await;
    assert_eq!((&*commit.attributes["allocation.outcome"], commit.failed), ("rejected", false));
}

async fn a_message_goes_on_with_the_trace_of_who_sent_it(on: On) {
    let (redis, collector) = (RedisServer::start().await, Collector::start().await);
    let store = Store::new(on).await.with_redis(&redis).told_to(&collector.url);
    let _service = store.serve().await;
    let message = json!({
        "specversion": "1.0", "id": "1", "source": "/shop", "type": "allocation.command.create_batch.v1",
        "traceparent": traceparent(TRACE, "01"), "data": {"sku": "LAMP", "ref": "b", "qty": 10},
    });
    let mut connection = connect(&redis).await;
    let _: String = connection.xadd("allocation.commands", "*", &[("body", message.to_string())]).await.unwrap();
    let process = collector.one("process redis-stream", TRACE).await;
    assert_eq!(process.parent, CALLER);
    let commit = collector.one("unit of work", TRACE).await;
    assert_follows(&commit, &process);
    assert_follows(&collector.one("publish redis-stream", TRACE).await, &commit);
    assert_eq!(published(&redis, "batch_created").await["traceparent"], commit.traceparent());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_in_no_trace_begins_one_and_one_that_is_not_to_be_kept_is_not() {
    let collector = Collector::start().await;
    let store = Store::new(On::Sqlite).await.told_to(&collector.url);
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    let unkept = traceparent(TRACE, "00");
    order(&service, "o1", &unkept).await.expect(201);
    order(&service, "o2", "no trace at all").await.expect(201);
    let events = service.feed(3).await;
    let of = |nth: usize| events[nth]["event"]["traceparent"].as_str().unwrap_or_default().to_owned();
    assert_eq!(of(1), unkept, "who is told goes on with it");
    let trace = of(2)[3..35].to_owned();
    let request = collector.one("PUT /v1/orders/{order_id}", &trace).await;
    assert_eq!(request.parent, "");
    assert!(collector.spans().iter().all(|span| span.trace != TRACE), "{:#?}", collector.spans());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_traces_are_kept_as_the_sampler_says() {
    let collector = Collector::start().await;
    let sampled = Store::new(On::Sqlite).await.told_to(&collector.url);
    let store = sampled.with("OTEL_TRACES_SAMPLER", "parentbased_traceidratio").with("OTEL_TRACES_SAMPLER_ARG", "0.0");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    order(&service, "o1", &traceparent(TRACE, "01")).await.expect(201);
    collector.one("unit of work", TRACE).await;
    assert!(collector.spans().iter().all(|span| span.trace == TRACE), "{:#?}", collector.spans());
    let events = service.feed(2).await;
    assert_eq!(events[0]["event"]["traceparent"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_traces_only_pass_through() {
    let store = Store::new(On::Sqlite).await.with("WEBHOOK_PRIVATE", "on").with("OTEL_SERVICE_NAME", "mine");
    let service = store.serve().await;
    let receiver = Receiver::start().await;
    register(&service, json!({"url": receiver.url, "types": ["line_allocated"]})).await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    let caller = traceparent(TRACE, "01");
    order(&service, "o1", &caller).await.expect(201);
    assert_eq!(service.feed(2).await[1]["event"]["traceparent"], caller);
    receiver.got(1).await;
    assert_eq!(receiver.requests()[0].0["traceparent"].to_str().unwrap(), caller);
    assert!(!has_exporter(&service), "nobody is there to be told");
}

/// Whether it has the thread that sends spans.
fn has_exporter(service: &Service) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", service.program.pid())).unwrap();
    let names = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default());
    names.into_iter().any(|name| name.starts_with("OpenTelemetry"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_harms_nobody_and_is_told_of_once() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let away = format!("http://{closed}");
    let (store, service) = tell(&away).await;
    for n in 0..100 {
        order(&service, &format!("o{n}"), &traceparent(TRACE, "01")).await.expect(201);
    }
    eventually("a complaint", async || service.program.log().contains("spans can't be sent").then_some(())).await;
    assert!(has_exporter(&service));
    service.program.signal("TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(20), service.program.ended()).await.expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(ended.log.matches("spans can't be sent").count(), 1, "{}", ended.log);
    assert!(ended.log.contains(&away), "{}", ended.log);
    store.assert_balanced().await;
}

/// A service with lamps that tells this collector.
async fn tell(collector: &str) -> (Store, Service) {
    let store = Store::new(On::Sqlite).await.told_to(collector);
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 1_000})).await;
    (store, service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_does_not_answer_keeps_nobody_waiting() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_store, service) = tell(&format!("http://{}", silent.local_addr().unwrap())).await;
    for n in 0..100 {
        order(&service, &format!("o{n}"), &traceparent(TRACE, "01")).await.expect(201);
    }
    service.program.signal("TERM").await;
    // It has three seconds for its last spans.
    let ended = tokio::time::timeout(Duration::from_secs(20), service.program.ended()).await.expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.log.contains("the last spans were not taken in time"), "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_sent_before_the_service_ends() {
    let collector = Collector::start().await;
    let store = Store::new(On::Sqlite).await.told_to(&collector.url).with("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    order(&service, "o1", &traceparent(TRACE, "01")).await.expect(201);
    assert!(collector.requests().is_empty());
    assert_eq!(service.program.stop().await, Some(0));
    let names: Vec<_> =
        collector.spans().into_iter().filter(|span| span.trace == TRACE).map(|span| span.name).collect();
    assert_eq!(names, ["unit of work", "PUT /v1/orders/{order_id}"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_believed_by_its_certificate_and_told_who_asks() {
    let (folder, ours, theirs) = (tempfile::tempdir().unwrap(), Authority::new("ours"), Authority::new("theirs"));
    let collector = Collector::start_with_tls(&ours.certify(&["127.0.0.1"])).await;
    let file = ours.write(folder.path()).display().to_string();
    let told =
        |store: Store| store.told_to(&collector.url).with("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20secret,tenant=7");
    let store = told(Store::new(On::Sqlite).await).with("TLS_CA_FILE", &file).with("OTEL_SERVICE_NAME", "mine");
    let service = store.serve().await;
    service.get("/v1/products").await.expect(200);
    let spans = eventually("a span", async || Some(collector.spans()).filter(|spans| !spans.is_empty())).await;
    assert_eq!(spans[0].resource["service.name"], "mine");
    let headers = collector.requests().remove(0).0;
    assert_eq!((&headers["api-key"], &headers["tenant"]), (&"a secret".parse().unwrap(), &"7".parse().unwrap()));
    assert_eq!(headers["content-type"], "application/x-protobuf");

    let before = collector.requests().len();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let store = told(Store::new(On::Sqlite).await).with("TLS_CA_FILE", &theirs.write(&other).display().to_string());
    let service = store.serve().await;
    service.get("/v1/products").await.expect(200);
    let refused = async || service.program.log().contains("UnknownIssuer").then_some(());
    eventually("the refusal", refused).await;
    assert_eq!(collector.requests().len(), before);
}

#[tokio::test]
async fn a_request_that_fails_here_is_a_span_that_failed() {
    let collector = Collector::start().await;
    let (store, _) = lamps(On::Sqlite, &[("b", 10, "")]).await;
    let store = store.told_to(&collector.url);
    let service = store.serve().await;
    if !store.tamper("DROP TABLE lines").await {
        return;
    }
    order(&service, "o1", &traceparent(TRACE, "01")).await.expect(500);
    assert!(collector.one("PUT /v1/orders/{order_id}", TRACE).await.failed);
    assert!(collector.one("unit of work", TRACE).await.failed);
}
