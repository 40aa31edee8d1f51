//! Clients that hang up, at whatever moment: nothing is left behind.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use allocation_testing::eventually;
use futures_util::StreamExt;
use reqwest::Client;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::contention::Dice;
use crate::raw::{DATA, END_STREAM, RST_STREAM, Raw, frame, get, put};
use crate::support::{On, Service, Store, on_both_stores};

on_both_stores!(clients_that_hang_up_leave_nothing_behind);

/// How many there are: ten thousand with `SOAK` set.
fn clients() -> u64 {
    if std::env::var_os("SOAK").is_some() { 10_000 } else { 1_000 }
}

/// A request as HTTP/1.1 has it.
fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let about = if body.is_empty() {
        String::new()
    } else {
        format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
    };
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{about}\r\n{body}").into_bytes()
}

/// What somebody wants: method, path, body.
fn wish(dice: &mut Dice, client: u64) -> (&'static str, String, String) {
    let line = json!([{"sku": "LAMP", "qty": 1}, {"sku": "SHADE", "qty": 1}]);
    match dice.below(10) {
        0..=3 => ("PUT", format!("/v1/orders/o{client}"), json!({"lines": line}).to_string()),
        4 => ("PUT", format!("/v1/orders/h{client}"), json!({"lines": line, "hold_seconds": 1}).to_string()),
        5 => ("PUT", "/v1/products/LAMP/batches/b".into(), json!({"qty": 1_000_000 + client}).to_string()),
        6 => ("POST", "/v1/quotes".into(), json!({"lines": line}).to_string()),
        7 => ("GET", "/v1/products?limit=1000".into(), String::new()),
        8 => ("GET", "/v1/events?wait=60&sku=NOTHING".into(), String::new()),
        _ => ("GET", "/v1/events/stream".into(), String::new()),
    }
}

/// One that asks for something, or begins to, and hangs up. Gives the order that it was promised, if it has heard of it.
async fn hang_up(service: &Service, client: u64) -> Option<String> {
    let mut dice = Dice::of(usize::try_from(client).unwrap());
    let (method, path, body) = wish(&mut dice, client);
    let address = service.program.address();
    let http2 = dice.chance(30);
    let (mut raw, bytes) = if http2 {
        let bytes = match body.as_str() {
            "" => get(1, &path),
            // Declared and not sent as it is: a PUT of something else is as good.
            body => [put(1, &path), frame(DATA, END_STREAM, 1, body.as_bytes())].concat(),
        };
        (Raw::http2(address).await, bytes)
    } else {
        (Raw::to(address).await, request(method, &path, &body))
    };
    // Anything from nothing to all of it, and that half of the time.
    let sent = if dice.chance(50) { bytes.len() } else { usize::try_from(dice.below(bytes.len() as u64)).unwrap() };
    raw.send(&bytes[..sent]).await;
    let mut heard = Vec::new();
    match dice.below(4) {
        0 => {}
        1 => tokio::task::yield_now().await,
        // As long as it takes, or longer.
        2 => {
            let patience = Duration::from_micros(dice.below(20_000));
            let _ = tokio::time::timeout(patience, raw.0.read_buf(&mut heard)).await;
        }
        _ => {
            let patience = Duration::from_millis(200);
            let _ = tokio::time::timeout(patience, raw.0.read_buf(&mut heard)).await;
        }
    }
    if http2 && dice.chance(50) {
        raw.send(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
    }
    if dice.chance(50) {
        // Without a word: the other side hears of it by a reset.
        raw.0.set_zero_linger().unwrap();
    }
    let promised = !http2 && path.starts_with("/v1/orders/o") && heard.starts_with(b"HTTP/1.1 201 ");
    promised.then(|| format!("o{client}"))
}

async fn clients_that_hang_up_leave_nothing_behind(on: On) {
    let store = Store::new(on).await;
    let mut service = store.serve().await;
    // Of two connections that a client keeps, none would ever be idle for long enough to be closed.
    service.client = Client::builder().pool_max_idle_per_host(1).build().unwrap();
    for sku in ["LAMP", "SHADE"] {
        service.batch(sku, "b", json!({"qty": 1_000_000})).await;
    }
    let promised = Mutex::new(BTreeSet::new());
    let all = futures_util::stream::iter(0..clients());
    all.for_each_concurrent(64, async |client| {
        if let Some(order_id) = hang_up(&service, client).await {
            promised.lock().unwrap().insert(order_id);
        }
    })
    .await;

    // Of all that was begun nothing goes on, and only the connection that asks is left.
    for (gauge, left) in [
        ("allocation_connections", 1),
        ("allocation_requests_in_flight", 0),
        ("allocation_slow_bodies", 0),
        ("allocation_bodies_bytes", 0),
        ("allocation_feed_readers", 0),
        ("allocation_commands_waiting", 0),
    ] {
        eventually(gauge, async || (service.metric(gauge).await == left).then_some(())).await;
    }
    if on == On::Postgres {
        let (client, connection) =
            tokio_postgres::connect(store.environment()[0].1, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";
        eventually("no connection inside a transaction", async || {
            let left: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            (left == 0).then_some(())
        })
        .await;
    }
    service.order("last", &[("LAMP", 1)]).await.expect(201);

    // An order is promised whole or not at all, and those of which that was said are.
    let of = async |sku: &str| -> BTreeSet<String> {
        let lines = service.lines_of_product(sku).await;
        lines.iter().map(|line| line["order_id"].as_str().unwrap().to_owned()).filter(|id| id != "last").collect()
    };
    let (lamps, shades) = (of("LAMP").await, of("SHADE").await);
    assert_eq!(lamps, shades);
    let promised = promised.into_inner().unwrap();
    assert!(promised.is_subset(&lamps), "{:?}", promised.difference(&lamps));
    assert!(!promised.is_empty() && promised.len() < lamps.len() && (lamps.len() as u64) < clients());
    println!("{} orders are promised, {} of them were heard of", lamps.len(), promised.len());
    eventually("the end of every hold", async || {
        let said = store.assert_balanced().await;
        said.contains(" 0 held").then_some(())
    })
    .await;
}
