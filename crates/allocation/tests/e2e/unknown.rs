//! A COMMIT that was sent and has no answer: it may have happened. Whoever asks again finds out, and nothing happens twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use allocation_testing::servers::postgres_url;
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Answer, Service, Store};

/// What becomes of the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Next {
    /// It is answered.
    Pass,
    /// It is carried out, and its answer is lost with the connection.
    LoseAnswer,
    /// It is lost itself, with the connection.
    LoseCommit,
}

/// Stands between the program and PostgreSQL, and knows a COMMIT when it sees one.
struct Between {
    address: SocketAddr,
    next: Arc<AtomicU8>,
    /// How many connections it has cut.
    cut: Arc<Mutex<usize>>,
}

impl Between {
    /// Before the server at this address.
    async fn stand(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (next, cut) = (Arc::new(AtomicU8::new(Next::Pass as u8)), Arc::new(Mutex::new(0)));
        let (shared, counted) = (next.clone(), cut.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                // Else each message waits for the one before it to be acknowledged.
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let (next, cut) = (shared.clone(), counted.clone());
                tokio::spawn(async move {
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    // Whichever way ends first, both connections end.
                    let was_cut = tokio::select! {
                        was_cut = ask(from_client, to_server, &next) => was_cut,
                        was_cut = answer(from_server, to_client, &next) => was_cut,
                    };
                    if was_cut.is_none() {
                        *cut.lock().unwrap() += 1;
                    }
                });
            }
        });
        Self { address, next, cut }
    }

    /// Has this become of the next COMMIT.
    fn arm(&self, next: Next) {
        self.next.store(next as u8, Ordering::SeqCst);
    }

    fn cut(&self) -> usize {
        *self.cut.lock().unwrap()
    }
}

/// Whether it was this that was to become of a COMMIT; from now on they pass.
fn has_come(next: &AtomicU8, what: Next) -> bool {
    next.compare_exchange(what as u8, Next::Pass as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// The next message: its kind, and all of it. The first of a client has no kind.
async fn message(from: &mut OwnedReadHalf, has_kind: bool) -> Option<(u8, Vec<u8>)> {
    let mut head = vec![0; if has_kind { 5 } else { 4 }];
    from.read_exact(&mut head).await.ok()?;
    let (kind, at) = if has_kind { (head[0], 1) } else { (0, 0) };
    let length = u32::from_be_bytes(head[at..].try_into().unwrap()) as usize;
    let mut message = head;
    message.resize(at + length, 0);
    from.read_exact(&mut message[at + 4..]).await.ok()?;
    Some((kind, message))
}

/// Passes on what the program says. `None`: it cut the connection.
async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, next: &AtomicU8) -> Option<()> {
    let mut has_kind = false;
    while let Some((kind, message)) = message(&mut from, has_kind).await {
        has_kind = true;
        if kind == b'Q' && &message[5..] == b"COMMIT\0" && has_come(next, Next::LoseCommit) {
            return None;
        }
        if to.write_all(&message).await.is_err() {
            break;
        }
    }
    Some(())
}

/// Passes on what the server says. `None`: it cut the connection.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, next: &AtomicU8) -> Option<()> {
    while let Some((kind, message)) = message(&mut from, true).await {
        if kind == b'C' && &message[5..] == b"COMMIT\0" && has_come(next, Next::LoseAnswer) {
            return None;
        }
        if to.write_all(&message).await.is_err() {
            break;
        }
    }
    Some(())
}

/// A service whose every COMMIT goes through what stands between. Nothing but commands commits.
async fn service() -> (Store, Service, Between) {
    let url = postgres_url().await;
    let (server, database) = url.split_once('@').unwrap().1.split_once('/').unwrap();
    let between = Between::stand(server.to_owned()).await;
    let url = format!("postgres://allocation@{}/{database}?sslmode=disable", between.address);
    let store = Store::at(url, tempfile::tempdir().unwrap()).with("RELAY", "off").with("CONSUMER", "off");
    let service = store.serve().await;
    (store, service, between)
}

/// Fails the test unless an answer says that the store did not answer, and that it is to be asked again.
fn is_unknown(answer: Answer) {
    let answer = answer.expect(503);
    assert_eq!(answer.headers["retry-after"], "1");
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:allocation:problem:store-unavailable", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("asking again is safe"), "{problem}");
}

/// Commands of each kind that has an effect of its own, each with a body.
fn commands() -> Vec<(Method, &'static str, Value)> {
    let line = json!({"lines": [{"sku": "LAMP", "qty": 3}]});
    vec![
        (Method::PUT, "/v1/products/LAMP", json!({"min_days": 0, "overdue_days": 4})),
        (Method::PUT, "/v1/products/LAMP/batches/b", json!({"qty": 100})),
        (Method::PUT, "/v1/orders/o1", line.clone()),
        (Method::PUT, "/v1/orders/o2", json!({"lines": line["lines"], "hold_seconds": 600})),
        (Method::POST, "/v1/orders/o2/confirm", json!({})),
        (Method::PATCH, "/v1/orders/o2/lines/LAMP", json!({"qty": 5})),
        (Method::POST, "/v1/orders/o1/pick", json!({})),
        (Method::POST, "/v1/orders/o1/shipments", json!({})),
        (Method::POST, "/v1/orders/o1/returns", json!({"lines": [{"sku": "LAMP", "qty": 1}]})),
        (
            Method::POST,
            "/v1/products/LAMP/batches/b/adjustments",
            json!({"kind": "damaged", "qty": 7, "reason": "fell"}),
        ),
        (Method::POST, "/v1/products/LAMP/batches/b/quarantine", json!({"qty": 2})),
        (Method::DELETE, "/v1/orders/o2", json!({})),
    ]
}

/// A request; those that are to act once have a key.
fn request(service: &Service, method: &Method, path: &str, body: &Value) -> RequestBuilder {
    let request = service.client.request(method.clone(), service.program.url(path)).json(body);
    if *method == Method::POST { request.header("Idempotency-Key", path) } else { request }
}

/// Has each of them done, after its first COMMIT met with this; gives what there is then.
async fn all_done(lost: Next) -> (Value, Vec<Value>) {
    let (store, service, between) = service().await;
    for (nth, (method, path, body)) in commands().iter().enumerate() {
        between.arm(lost);
        let ask = || Service::answer(request(&service, method, path, body));
        if lost != Next::Pass {
            is_unknown(ask().await);
            assert_eq!(between.cut(), nth + 1, "{method} {path}");
        }
        // What is lost, is done now; what is done, is told; and so it is once more.
        for _ in 0..2 {
            let answer = ask().await;
            assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        }
    }
    store.assert_balanced().await;
    let (mut product, mut lines) = (service.product("LAMP").await, service.lines("o1").await);
    lines.extend(service.lines("o2").await);
    for (field, other) in
        [("changed_at", &mut product)].into_iter().chain(lines.iter_mut().map(|line| ("accepted_at", line)))
    {
        other.as_object_mut().unwrap().remove(field);
    }
    (product, lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_told_as_unknown_and_asking_again_finds_out() {
    let undisturbed = all_done(Next::Pass).await;
    for lost in [Next::LoseAnswer, Next::LoseCommit] {
        assert_eq!(all_done(lost).await, undisturbed, "{lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_shared_a_commit_without_an_answer_are_done_once_each() {
    const ORDERS: usize = 24;
    for lost in [Next::LoseAnswer, Next::LoseCommit] {
        let (store, service, between) = service().await;
        service.batch("LAMP", "b", json!({"qty": 1_000})).await;
        let orders: Vec<String> = (0..ORDERS).map(|n| format!("o{n}")).collect();
        let ask = || join_all(orders.iter().map(|order| service.order(order, &[("LAMP", 2)])));
        between.arm(lost);
        let answers = ask().await;
        let unknown = answers.iter().filter(|answer| answer.status == 503).count();
        assert!(unknown > 0 && between.cut() == 1, "{lost:?}: {answers:?}");
        for answer in answers {
            assert!([201, 503].contains(&answer.status.as_u16()), "{answer:?}");
        }
        for answer in ask().await {
            assert!(answer.status.is_success(), "{answer:?}");
        }
        assert_eq!(service.product("LAMP").await["allocated"], json!(2 * ORDERS));
        store.assert_balanced().await;
    }
}
