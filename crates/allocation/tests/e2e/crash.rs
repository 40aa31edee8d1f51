//! A process that is killed loses no promise that was answered, and its events still arrive.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use allocation_testing::program::{Program, command};
use allocation_testing::servers::{PostgresServer, RedisServer, tool};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::support::{On, PROGRAM, Store, client, on_both_stores};

on_both_stores!(a_kill_loses_no_promise_that_was_answered_and_no_event);

async fn a_kill_loses_no_promise_that_was_answered_and_no_event(on: On) {
    const KILLS: usize = 3;
    let redis = RedisServer::start().await;
    let store = Store::new(on).await.with("REDIS_URL", &redis.url());

    // A consumer that was there all the time.
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let client = redis::Client::open(redis.url()).unwrap();
    let mut subscription = client.get_async_pubsub().await.unwrap();
    subscription.subscribe("line_allocated").await.unwrap();
    let collected = heard.clone();
    let listening = tokio::spawn(async move {
        let mut messages = subscription.into_on_message();
        while let Some(message) = messages.next().await {
            let body: Value = serde_json::from_slice(message.get_payload_bytes()).unwrap();
            collected.lock().unwrap().insert(body["orderid"].as_str().unwrap().to_owned());
        }
    });

    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..KILLS {
        let service = Arc::new(store.serve().await);
        service.batch("HOT", "b", json!({"qty": 1_000_000})).await;
        let mut clients = JoinSet::new();
        for client in 0..8 {
            let (service, answered) = (service.clone(), answered.clone());
            clients.spawn(async move {
                for n in 0.. {
                    let order_id = format!("o{round}-{client}-{n}");
                    let body = json!({"lines": [{"sku": "HOT", "qty": 1}]});
                    let url = service.program.url(&format!("/v1/orders/{order_id}"));
                    // The kill cuts connections; an order without an answer may or may not have been promised.
                    let Ok(response) = service.client.put(url).json(&body).send().await else { return };
                    assert_eq!(response.status().as_u16(), 201);
                    answered.lock().unwrap().insert(order_id);
                }
            });
        }
        let (so_far, wanted) = (answered.clone(), (round + 1) * 300);
        allocation_testing::eventually("promises", async || (so_far.lock().unwrap().len() >= wanted).then_some(()))
            .await;
        let pid = service.program.pid().to_string();
        let killed = tokio::process::Command::new("kill").args(["-KILL", &pid]).status().await.unwrap();
        assert!(killed.success());
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
    }

    let service = store.serve().await;
    let lines = service.lines_of_product("HOT").await;
    let stored: BTreeSet<_> = lines.iter().map(|line| line["order_id"].as_str().unwrap().to_owned()).collect();
    let answered = answered.lock().unwrap().clone();
    let lost: Vec<_> = answered.difference(&stored).collect();
    assert!(lost.is_empty(), "answered and not stored: {lost:?}");
    store.assert_balanced().await;
    allocation_testing::eventually("every event at the consumer", async || {
        stored.is_subset(&heard.lock().unwrap()).then_some(())
    })
    .await;
    listening.abort();
}

/// A kill proves nothing about a power cut: the operating system still has what was written. So the syncs are counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_on_sqlite_is_followed_by_its_sync() {
    let Some(strace) = tool("strace", "strace") else {
        println!("skipped: needs strace");
        return;
    };
    let store = Store::new(On::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut traced = command(&strace, &store.environment(), &["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"]);
    traced.arg(&trace).args([PROGRAM, "serve"]).env("LISTEN", "127.0.0.1:0").stdout(Stdio::null());
    let program = Program::spawn(&mut traced).await;
    let client = client();
    let put = async |path: String, body: Value| {
        let answer = client.put(program.url(&path)).json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
    };
    put("/v1/products/LAMP/batches/b".into(), json!({"qty": 1_000})).await;
    let syncs = || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        text.lines().filter(|line| line.contains("sync(")).count()
    };
    for n in 0..50 {
        let before = syncs();
        put(format!("/v1/orders/o{n}"), json!({"lines": [{"sku": "LAMP", "qty": 1}]})).await;
        // strace writes a call down when it begins, so it is there before the answer that waits for it.
        assert!(syncs() > before, "order {n} was answered without a sync");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_on_postgresql_is_followed_by_its_sync() {
    let server = PostgresServer::start_durable();
    let url = server.database().await;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let store = Store::at(url, tempfile::tempdir().unwrap()).with("RELAY", "off");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 1_000})).await;
    let syncs = async || -> i64 {
        let query = "SELECT pg_stat_force_next_flush(), (SELECT wal_sync FROM pg_stat_wal)";
        client.query_one(query, &[]).await.unwrap().get(1)
    };
    // Statistics of another session arrive when it is idle for a moment; their sum is exact.
    let before = syncs().await;
    for n in 0..50 {
        service.order(&format!("o{n}"), &[("LAMP", 1)]).await.expect(201);
    }
    allocation_testing::eventually("50 syncs", async || (syncs().await >= before + 50).then_some(())).await;
}
