//! What one caller, or all of them together, may take up: each limit, and that it is counted.

use allocation_testing::eventually;
use futures_util::future::{join, join_all};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::raw::{DATA, Frame, HEADERS, RST_STREAM, Raw, frame, get, head, put};
use crate::support::{Answer, On, Service, Store, on_both_stores};

on_both_stores!(a_key_has_no_more_holds_in_force_than_it_may);

/// A service on SQLite with these settings.
async fn service(settings: &[(&str, &str)]) -> (Store, Service) {
    let mut store = Store::new(On::Sqlite).await;
    for (name, value) in settings {
        store = store.with(name, value);
    }
    let service = store.serve().await;
    (store, service)
}

impl Service {
    /// How often a limit was come to.
    async fn hits(&self, limit: &str) -> u64 {
        self.metric(&format!("allocation_limit_hits_total{{limit=\"{limit}\"}}")).await
    }

    async fn raw(&self) -> Raw {
        Raw::to(self.program.address()).await
    }

    async fn http2(&self) -> Raw {
        Raw::http2(self.program.address()).await
    }
}

/// Fails the test unless it was refused in this way.
fn refused(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!(answer.json()["type"], format!("urn:allocation:problem:{name}"));
    assert_eq!(answer.headers.contains_key("retry-after"), [429, 503].contains(&status), "{answer:?}");
}

const PATH: &str = "/v1/products/LAMP/batches/b";

/// The head of a request with a body of JSON.
fn put_head(length: usize) -> String {
    format!("PUT {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_say_what_they_want_is_let_go() {
    let (_store, service) = service(&[("HEAD_SECONDS", "1")]).await;
    let silent = async { service.raw().await.until_closed().await };
    let slow = async { service.raw().await.trickle("GET /healthz HTTP/1.1\r\nx: ", b'x').await };
    // The second request of a connection is to be as quick as the first.
    let slow_again = async {
        let mut raw = service.raw().await;
        raw.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(raw.answer().await.ends_with("OK"));
        raw.trickle("GET /healthz HTTP/1.1\r\nx: ", b'x').await
    };
    let silent_on_http2 = async { service.http2().await.until_closed().await };
    // A preface and no more than that.
    let slow_preface = async { service.raw().await.send("PRI * HTTP/2").await.until_closed().await };
    // Fields that never end.
    let slow_on_http2 = async {
        let mut raw = service.http2().await;
        raw.send(frame(HEADERS, 0, 1, &head("GET", "/healthz"))).await.until_closed().await
    };
    let of_http1 = join_all([
        Box::pin(silent) as std::pin::Pin<Box<dyn Future<Output = Vec<u8>>>>,
        Box::pin(slow),
        Box::pin(slow_again),
        Box::pin(slow_preface),
    ]);
    let (of_http1, _) = join(of_http1, join(silent_on_http2, slow_on_http2)).await;
    assert!(of_http1.iter().all(Vec::is_empty), "nothing was asked, and nothing is answered");
    assert_eq!(service.hits("head_seconds").await, 6);
    assert_eq!(service.hits("idle_seconds").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_nothing_happens_is_let_go() {
    let (_store, service) = service(&[("IDLE_SECONDS", "1")]).await;
    let mut listening = service.raw().await;
    listening.send("GET /v1/events/stream HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let of_http1 = async {
        let mut raw = service.raw().await;
        raw.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(raw.answer().await.ends_with("OK"));
        assert_eq!(raw.told().await, "");
    };
    let of_http2 = async {
        let mut raw = service.http2().await;
        raw.send(get(1, "/healthz")).await;
        assert_eq!(raw.next(&[DATA]).await.payload, b"OK");
        raw.until_closed().await;
    };
    // Whoever waits for events is not idle, however long nothing comes.
    let waiting = async {
        service.get("/v1/events?wait=4").await.expect(200);
    };
    join(join(of_http1, of_http2), waiting).await;
    // And those of the client, perhaps.
    assert!(service.hits("idle_seconds").await >= 2);
    assert_eq!(service.hits("head_seconds").await, 0);
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    let mut heard = Vec::new();
    eventually("the stream to tell of it", async || {
        let mut some = [0; 4096];
        let got = tokio::io::AsyncReadExt::read(&mut listening.0, &mut some).await.unwrap();
        assert!(got > 0, "the stream has ended");
        heard.extend_from_slice(&some[..got]);
        String::from_utf8_lossy(&heard).contains("batch_created").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_its_size() {
    let (_store, service) = service(&[("HEAD_BYTES", "10000"), ("URL_BYTES", "1000")]).await;
    let fits = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(9_000));
    assert!(service.raw().await.send(fits).await.answer().await.ends_with("OK"));
    let large = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(11_000));
    let told = service.raw().await.send(large).await.answer().await;
    assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    assert_eq!(service.hits("head_bytes").await, 1);

    let client = h2_client(&service).await;
    let with =
        |field: usize| axum::http::Request::get("http://x/healthz").header("x", "x".repeat(field)).body(()).unwrap();
    assert_eq!(ask(&client, with(9_000)).await, 200);
    assert_eq!(ask(&client, with(11_000)).await, 431);
    // Also what the library refuses by itself.
    assert_eq!(ask(&client, with(30_000)).await, 431);
    assert_eq!(service.hits("head_bytes").await, 2);

    let path = |length: usize| format!("/v1/events?after={}", "0".repeat(length - "/v1/events?after=".len()));
    service.get(&path(1_000)).await.expect(200);
    refused(&service.get(&path(1_001)).await, 414, "url-too-long");
    let request = axum::http::Request::get(format!("http://x{}", path(1_001))).body(()).unwrap();
    assert_eq!(ask(&client, request).await, 414);
    assert_eq!(service.hits("url_bytes").await, 2);
}

/// A client of HTTP/2 that behaves.
async fn h2_client(service: &Service) -> h2::client::SendRequest<axum::body::Bytes> {
    let stream = tokio::net::TcpStream::connect(service.program.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The status of an answer.
async fn ask(client: &h2::client::SendRequest<axum::body::Bytes>, request: axum::http::Request<()>) -> StatusCode {
    let mut client = client.clone().ready().await.unwrap();
    client.send_request(request, true).unwrap().0.await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_its_size_and_its_time() {
    let (_store, service) = service(&[("BODY_BYTES", "2000"), ("BODY_SECONDS", "1"), ("BATCH", "1")]).await;
    // What says that it is too large is refused before it is sent.
    let told = service.raw().await.send(put_head(2_001)).await.answer().await;
    assert!(told.starts_with("HTTP/1.1 413 ") && told.contains("urn:allocation:problem:too-large"), "{told}");
    let chunked = format!(
        "PUT {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let told = service.raw().await.send(format!("{chunked}7d1\r\n{}", " ".repeat(2_001))).await.answer().await;
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    assert_eq!(service.hits("body_bytes").await, 2);
    let body = format!("{{\"qty\":1{}}}", " ".repeat(2_000 - 9));
    let told = service.raw().await.send(put_head(2_000)).await.send(body).await.answer().await;
    assert!(told.starts_with("HTTP/1.1 201 "), "{told}");

    let silent = async { service.raw().await.send(put_head(100)).await.told().await };
    let slow =
        async { String::from_utf8_lossy(&service.raw().await.trickle(put_head(1_000), b' ').await).into_owned() };
    let on_http2 = async {
        let mut raw = service.http2().await;
        raw.send(put(1, PATH)).await.send(frame(DATA, 0, 1, b"{")).await;
        String::from_utf8_lossy(&raw.next(&[DATA]).await.payload).into_owned()
    };
    let ((silent, slow), on_http2) = join(join(silent, slow), on_http2).await;
    for told in [silent, slow] {
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    }
    assert!(on_http2.contains("urn:allocation:problem:too-slow"), "{on_http2}");
    assert_eq!(service.hits("body_seconds").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_being_sent_have_a_size_together() {
    let (_store, service) = service(&[("BODIES_BYTES", "20000")]).await;
    // Of each, 8 KiB are not counted.
    let mut first = service.raw().await;
    first.send(put_head(100_000)).await.send(" ".repeat(25_000)).await;
    let counted = "allocation_bodies_bytes";
    eventually("the first to be counted", async || (service.metric(counted).await == 25_000 - 8_192).then_some(()))
        .await;
    let told = service.raw().await.send(put_head(100_000)).await.send(" ".repeat(25_000)).await.answer().await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 1"), "{told}");
    assert_eq!(service.hits("bodies_bytes").await, 1);
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    drop(first);
    eventually("it to be forgotten", async || (service.metric(counted).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_told_so() {
    let (_store, service) = service(&[("CONNECTIONS", "3")]).await;
    // The client keeps one.
    assert_eq!(service.hits("connections").await, 0);
    let (first, second) = (service.raw().await, service.raw().await);
    eventually("both to be there", async || (service.metric("allocation_connections").await == 3).then_some(())).await;
    let told = service.raw().await.told().await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 1"), "{told}");
    let problem: Value = serde_json::from_str(told.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(problem["type"], "urn:allocation:problem:overloaded");
    assert_eq!(service.hits("connections").await, 1);
    drop(first);
    eventually("one to be gone", async || (service.metric("allocation_connections").await == 2).then_some(())).await;
    let mut third = service.raw().await;
    assert!(third.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.answer().await.ends_with("OK"));
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_only_so_many_requests_under_way() {
    let (_store, service) = service(&[("STREAMS", "2")]).await;
    // Whoever asks is told.
    let client = h2_client(&service).await;
    let request = axum::http::Request::get("http://x/healthz").body(()).unwrap();
    assert_eq!(ask(&client, request).await, 200);
    assert_eq!(client.current_max_send_streams(), 2);
    assert_eq!(service.hits("streams").await, 0);
    // Whoever does not care is refused what is too much, and has the others answered.
    let mut raw = service.http2().await;
    for stream in [1, 3, 5] {
        raw.send(get(stream, "/v1/events?wait=60")).await;
    }
    let refused_stream = 7_u32.to_be_bytes().to_vec();
    assert_eq!(raw.next(&[RST_STREAM, HEADERS]).await, Frame { kind: RST_STREAM, stream: 5, payload: refused_stream });
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    let mut answered = [raw.next(&[HEADERS]).await.stream, raw.next(&[HEADERS]).await.stream];
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    assert_eq!(service.hits("streams").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_unless_it_is_switched_off() {
    let (_store, service) = service(&[("HTTP2", "off")]).await;
    let told = service.http2().await.told().await;
    assert!(!told.starts_with('\0'), "it speaks HTTP/2: {told:?}");
    assert_eq!(service.get("/healthz").await.expect(200).text, "OK");
}

/// What keeps the program's transactions waiting, until it is dropped.
pub(crate) struct Held(tokio_postgres::Client);

impl Store {
    /// Has whoever reads or changes these tables wait.
    pub(crate) async fn hold(&self, tables: &str) -> Held {
        let (client, connection) =
            tokio_postgres::connect(self.environment()[0].1, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let lock = format!("BEGIN; LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE");
        client.batch_execute(&lock).await.unwrap();
        Held(client)
    }
}

impl Held {
    pub(crate) async fn let_go(self) {
        self.0.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_requests_are_handled_at_a_time() {
    let store = Store::new(On::Postgres).await.with("IN_FLIGHT", "2");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    let held = store.hold("products").await;
    // Who is slow to say what they want, or waits for what happens, is not at work.
    let mut slow = service.raw().await;
    slow.send(put_head(10)).await.send("{\"qty\":").await;
    let waiting = service.get("/v1/events?after=1&wait=60");
    let working = async {
        for who in ["allocation_slow_bodies", "allocation_feed_readers"] {
            eventually(who, async || (service.metric(who).await == 1).then_some(())).await;
        }
        let two = join(service.order("o1", &[("LAMP", 1)]), service.order("o2", &[("LAMP", 1)]));
        let one_more = async {
            eventually("both to be at work", async || {
                (service.metric("allocation_requests_in_flight").await == 2).then_some(())
            })
            .await;
            refused(&service.order("o3", &[("LAMP", 1)]).await, 503, "overloaded");
            assert_eq!(service.hits("in_flight").await, 1);
            // How we are is told all the same.
            for path in ["/healthz", "/readyz", "/metrics"] {
                service.get(path).await.expect(200);
            }
            // What was slow has to come again.
            let told = slow.send("50}").await.answer().await;
            assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
            held.let_go().await;
        };
        let ((first, second), ()) = join(two, one_more).await;
        assert_eq!([first.status.as_u16(), second.status.as_u16()], [201, 201]);
    };
    let (_, ()) = join(waiting, working).await;
    service.order("o3", &[("LAMP", 1)]).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_wait_for_events() {
    let (_store, service) = service(&[("READERS", "1")]).await;
    let mut listening = service.raw().await;
    listening.send("GET /v1/events/stream HTTP/1.1\r\nhost: x\r\n\r\n").await;
    eventually("it to listen", async || (service.metric("allocation_feed_readers").await == 1).then_some(())).await;
    refused(&service.get("/v1/events?wait=10").await, 503, "overloaded");
    refused(&service.get("/v1/events/stream").await, 503, "overloaded");
    assert_eq!(service.hits("readers").await, 2);
    service.get("/v1/events").await.expect(200);
    drop(listening);
    eventually("its place", async || {
        let answer = service.get("/v1/events?wait=1").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_be_used_only_so_often() {
    let store = Store::new(On::Sqlite).await.with("ACCESS", "keys").with("REQUESTS_PER_KEY", "1");
    let (one, other) = (store.key_for("one", "stock:read").await, store.key_for("other", "events:read").await);
    let service = store.serve().await;
    let ask = async |key: &str, path: &str| {
        Service::answer(service.client.get(service.program.url(path)).bearer_auth(key)).await
    };
    let refused_once = eventually("a refusal", async || {
        let answer = ask(&one, "/v1/products").await;
        (answer.status != StatusCode::OK).then_some(answer)
    })
    .await;
    refused(&refused_once, 429, "too-often");
    assert_eq!(refused_once.headers["retry-after"], "1");
    // Another's is another; and whether a key may do something is asked after how often it is used.
    let metrics = ask(&other, "/metrics").await.expect(200).text;
    let hits =
        metrics.lines().find_map(|line| line.strip_prefix("allocation_limit_hits_total{limit=\"requests_per_key\"} "));
    assert!(hits.unwrap().parse::<u64>().unwrap() >= 1, "{hits:?}");
    eventually("its turn", async || (ask(&one, "/v1/products").await.status == StatusCode::OK).then_some(())).await;
    eventually("a refusal", async || {
        (ask(&one, "/metrics").await.status == StatusCode::TOO_MANY_REQUESTS).then_some(())
    })
    .await;
}

async fn a_key_has_no_more_holds_in_force_than_it_may(on: On) {
    let store = Store::new(on).await.with("ACCESS", "keys").with("HOLDS_PER_KEY", "2");
    let (shop, other) = (
        store.key_for("shop", "orders:write,stock:write,events:read").await,
        store.key_for("other", "orders:write").await,
    );
    // Two copies count together on PostgreSQL; on SQLite there is one.
    let services =
        if on == On::Postgres { vec![store.serve().await, store.serve().await] } else { vec![store.serve().await] };
    let put = async |key: &str, copy: usize, path: &str, body: Value| {
        let service = &services[copy % services.len()];
        Service::answer(service.client.put(service.program.url(path)).bearer_auth(key).json(&body)).await
    };
    let hold = async |key: &str, copy: usize, order_id: &str| {
        let body = json!({"lines": [{"sku": "LAMP", "qty": 1}], "hold_seconds": 600});
        put(key, copy, &format!("/v1/orders/{order_id}"), body).await
    };
    put(&shop, 0, PATH, json!({"qty": 100})).await.expect(201);
    hold(&shop, 0, "o1").await.expect(201);
    hold(&shop, 1, "o2").await.expect(201);
    let refused = hold(&shop, 0, "o3").await.expect(409).json();
    assert_eq!(refused["type"], "urn:allocation:problem:too-many-holds");
    hold(&other, 0, "o3").await.expect(201);
    hold(&shop, 1, "o1").await.expect(200);
    let confirm = services[0].client.post(services[0].program.url("/v1/orders/o1/confirm")).bearer_auth(&shop);
    Service::answer(confirm).await.expect(200);
    hold(&shop, 1, "o4").await.expect(201);
    let metrics = services[0].client.get(services[0].program.url("/metrics")).bearer_auth(&shop);
    let metrics = Service::answer(metrics).await.expect(200).text;
    assert!(metrics.contains("allocation_limit_hits_total{limit=\"holds_per_key\"} 1"), "{metrics}");
    store.assert_balanced().await;
}
