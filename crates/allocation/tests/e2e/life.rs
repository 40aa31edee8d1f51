//! The life of the process: how it stops, and what it does while what it needs is away.

use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::brokers::{Broker, RedisStreams};
use allocation_testing::eventually;
use allocation_testing::program::Program;
use allocation_testing::servers::{PostgresServer, RedisServer};
use futures_util::future::{join, join_all};
use reqwest::StatusCode;
use serde_json::json;
use tokio::net::TcpStream;

use crate::raw::Raw;
use crate::support::{On, Service, Store, lamps, on_both_stores};

on_both_stores!(what_is_under_way_is_answered_before_it_ends, readiness_turns_red_while_requests_are_still_taken,);

/// The end of a stop that is quick: well before anything is cut off.
const QUICK: Duration = Duration::from_secs(15);

async fn ended_with(program: Program) -> Option<i32> {
    tokio::time::timeout(QUICK, program.ended()).await.expect("it ends").status.code()
}

async fn what_is_under_way_is_answered_before_it_ends(on: On) {
    const CLIENTS: usize = 16;
    let (store, service) = lamps(on, &[("b", 1_000_000, "")]).await;
    let url = |client: usize, n: usize| service.program.url(&format!("/v1/orders/o{client}-{n}"));
    // Clients that go on until nobody takes their connection any more. Each has answers to all it has sent on a connection that was taken.
    let clients = (0..CLIENTS).map(async |client| {
        let mut promised = 0;
        loop {
            let body = json!({"lines": [{"sku": "LAMP", "qty": 1}]});
            match service.client.put(url(client, promised)).json(&body).send().await {
                Ok(answer) => assert_eq!(answer.status().as_u16(), 201),
                // It takes no more connections, or has closed one on which nothing was under way: see below.
                Err(error) if error.is_connect() || error.is_request() => return promised,
                Err(error) => panic!("{error:?}"),
            }
            promised += 1;
        }
    });
    let stop = async {
        eventually("some promises", async || (service.metric("allocation_commits_total").await > 20).then_some(()))
            .await;
        // An order that is known to be on its way.
        let mut raw = Raw::to(service.program.address()).await;
        let body = r#"{"lines": [{"sku": "LAMP", "qty": 1}]}"#;
        let head = format!(
            "PUT /v1/orders/last HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        raw.send(head).await.send(&body[..20]).await;
        eventually("it to be taken", async || (service.metric("allocation_slow_bodies").await == 1).then_some(()))
            .await;
        service.program.signal("TERM").await;
        eventually("no more to be taken", async || {
            TcpStream::connect(service.program.address()).await.is_err().then_some(())
        })
        .await;
        let told = raw.send(&body[20..]).await.told().await;
        assert!(told.starts_with("HTTP/1.1 201 ") && told.contains("connection: close"), "{told}");
    };
    let (promised, ()) = join(join_all(clients), stop).await;
    assert_eq!(ended_with(service.program).await, Some(0));

    let service = store.serve().await;
    for (client, promised) in promised.into_iter().enumerate() {
        if let Some(last) = promised.checked_sub(1) {
            assert_eq!(service.fate(&format!("o{client}-{last}")).await, "allocated: b 1");
        }
        // What was not answered was not begun.
        service.get(&format!("/v1/orders/o{client}-{promised}")).await.expect(404);
    }
    assert_eq!(service.fate("last").await, "allocated: b 1");
    store.assert_balanced().await;
}

async fn readiness_turns_red_while_requests_are_still_taken(on: On) {
    let store = Store::new(on).await.with("STOP_NOTICE_SECONDS", "3");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    service.get("/readyz").await.expect(200);
    service.program.signal("TERM").await;
    let red = eventually("readiness to turn red", async || {
        let answer = service.get("/readyz").await;
        (answer.status != StatusCode::OK).then_some(answer)
    })
    .await;
    assert_eq!(red.expect(503).json()["type"], "urn:allocation:problem:not-ready");
    // New connections too.
    Service::answer(crate::support::client().get(service.program.url("/healthz"))).await.expect(200);
    service.order("o1", &[("LAMP", 1)]).await.expect(201);
    assert_eq!(ended_with(service.program).await, Some(0));
}

/// A service with a request under way that will not end by itself for a long time.
async fn held_up(settings: &[(&str, &str)]) -> (Store, Service, Raw) {
    let mut store = Store::new(On::Sqlite).await.with("BODY_SECONDS", "300");
    for (name, value) in settings {
        store = store.with(name, value);
    }
    let service = store.serve().await;
    let mut raw = Raw::to(service.program.address()).await;
    raw.send("PUT /v1/orders/o1 HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n")
        .await;
    eventually("it to be taken", async || (service.metric("allocation_slow_bodies").await == 1).then_some(())).await;
    (store, service, raw)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_in_time_is_cut_off() {
    let (_store, service, _raw) = held_up(&[("STOP_SECONDS", "1")]).await;
    service.program.signal("TERM").await;
    let ended = tokio::time::timeout(QUICK, service.program.ended()).await.expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.log.contains("did not end in time"), "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    for (first, second, status) in [("TERM", "TERM", 143), ("TERM", "INT", 130), ("INT", "INT", 130)] {
        let (_store, service, _raw) = held_up(&[("STOP_SECONDS", "300"), ("STOP_NOTICE_SECONDS", "200")]).await;
        service.program.signal(first).await;
        eventually("it to be stopping", async || service.program.log().contains(" stopping").then_some(())).await;
        service.program.signal(second).await;
        assert_eq!(ended_with(service.program).await, Some(status), "{first}, {second}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_does_not_hold_it_up() {
    let store = Store::new(On::Sqlite).await.with("HEAD_SECONDS", "300").with("STOP_NOTICE_SECONDS", "20");
    let service = store.serve().await;
    let address = service.program.address();
    let mut silent = [Raw::to(address).await, Raw::http2(address).await, Raw::to(address).await];
    silent[2].send("GET /healthz HTT").await;
    eventually("all to be there", async || (service.metric("allocation_connections").await == 4).then_some(())).await;
    // Somebody at a terminal does not wait for a balancer either.
    service.program.signal("INT").await;
    let ended = tokio::time::timeout(QUICK, service.program.ended()).await.expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    assert!(!ended.log.contains("did not end in time"), "{}", ended.log);
}

/// How long it takes until an order is promised.
async fn time_until_promised(service: &Service, order_id: &str) -> Duration {
    let clock = SystemClock::new();
    let mut last = None;
    while clock.monotonic() < QUICK {
        let answer = service.order(order_id, &[("LAMP", 1)]).await;
        if answer.status.is_success() {
            return clock.monotonic();
        }
        last = Some(answer);
    }
    panic!("{last:?}\n{}", service.program.log());
}

const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_and_is_used_again_as_soon_as_it_is_back() {
    let (mut server, mut broker) = (PostgresServer::start_durable(), RedisStreams::start().await);
    let mut store = Store::at(server.database().await, tempfile::tempdir().unwrap());
    for (name, value) in broker.environment() {
        store = store.with(&name, &value);
    }
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    for round in 0..2 {
        server.kill();
        let order = format!("o{round}");
        let away = async {
            // A first answer may be that what was under way has failed.
            eventually("it to be noticed", async || {
                (service.get("/readyz").await.status != StatusCode::OK).then_some(())
            })
            .await;
            for _ in 0..20 {
                let refused = service.order(&order, &[("LAMP", 1)]).await.expect(503);
                assert_eq!(refused.headers["retry-after"], "1");
                assert_eq!(refused.json()["type"], "urn:allocation:problem:store-unavailable");
                service.get("/v1/products/LAMP").await.expect(503);
                service.get("/readyz").await.expect(503);
                assert_eq!(service.get("/healthz").await.expect(200).text, "OK");
            }
        };
        away.await;
        let message = json!({
            "specversion": "1.0", "id": order, "source": "/shop", "type": "allocation.command.allocate.v1",
            "data": {"order_id": format!("m{round}"), "lines": [{"sku": "LAMP", "qty": 1}]}
        });
        assert!(broker.send(&[message.to_string()]).await);
        server.bring_back().await;
        let clock = SystemClock::new();
        let took = time_until_promised(&service, &order).await;
        assert!(took < SOON, "it took {took:?}");
        service.get("/readyz").await.expect(200);
        // What came as a message meanwhile has its effect as well.
        eventually("the message's effect", async || {
            (service.get(&format!("/v1/orders/m{round}")).await.status == StatusCode::OK).then_some(())
        })
        .await;
        let took = clock.monotonic();
        assert!(took < SOON, "it took {took:?}");
    }
    // Events that were stored meanwhile have their places.
    service.feed(5).await;
    store.assert_balanced().await;
    assert_eq!(service.program.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_is_told_too() {
    let store = Store::new(On::Postgres).await.with("ANSWER_SECONDS", "1").with("RELAY", "off");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    let held = store.hold("products, schema_migrations").await;
    let no_answer = |answer: crate::support::Answer| {
        let answer = answer.expect(503);
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.json()["type"], "urn:allocation:problem:no-answer");
    };
    let (order, product) = join(service.order("o1", &[("LAMP", 1)]), service.get("/v1/products/LAMP")).await;
    no_answer(order);
    no_answer(product);
    assert_eq!(service.metric("allocation_limit_hits_total{limit=\"answer_seconds\"}").await, 2);
    service.get("/readyz").await.expect(503);
    assert_eq!(service.get("/healthz").await.expect(200).text, "OK");
    held.let_go().await;
    // Asking again is safe: it may have been promised.
    let took = time_until_promised(&service, "o1").await;
    assert!(took < SOON, "it took {took:?}");
    service.get("/readyz").await.expect(200);
    assert_eq!(service.product("LAMP").await["allocated"], 1);
    store.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_keeps_nobody_from_being_promised_anything() {
    let mut redis = RedisServer::start().await;
    let store = Store::new(On::Sqlite).await.with("REDIS_URL", &redis.url()).with("REDIS_STREAM", "events");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 100})).await;
    let delivered = "allocation_events_delivered_total{sink=\"redis-stream\"}";
    eventually("its event", async || (service.metric(delivered).await == 1).then_some(())).await;
    redis.take_away();
    for n in 0..20 {
        service.order(&format!("o{n}"), &[("LAMP", 1)]).await.expect(201);
    }
    let failures = "allocation_delivery_failures_total{sink=\"redis-stream\"}";
    eventually("deliveries to fail", async || (service.metric(failures).await > 0).then_some(())).await;
    service.get("/readyz").await.expect(200);
    redis.bring_back().await;
    eventually("the others", async || (service.metric(delivered).await == 21).then_some(())).await;
    assert_eq!(service.program.stop().await, Some(0));
}
