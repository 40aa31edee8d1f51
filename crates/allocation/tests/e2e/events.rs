//! Events with a real Redis and a mail server, in both directions.

use std::time::Duration;

use allocation_testing::servers::{RedisServer, SmtpCatcher};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::support::{On, Service, Store, on_both_stores};

on_both_stores!(
    a_change_of_quantity_from_outside_moves_lines_and_is_told,
    every_event_has_a_channel_of_its_own,
    a_hold_publishes_no_allocation_and_once_confirmed_one_for_each_placement,
    a_broker_that_is_down_delays_events_and_loses_none,
    messages_that_cannot_be_used_are_kept_with_the_reason,
    out_of_stock_is_mailed_once_the_mail_server_is_there,
    consumer_and_relay_may_run_alone,
);

/// Channels and what is said on them.
type Messages = BoxStream<'static, (String, Value)>;

/// Every message on any channel from now on.
async fn listen(redis: &RedisServer) -> Messages {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut subscription = client.get_async_pubsub().await.unwrap();
    subscription.psubscribe("*").await.unwrap();
    let messages = subscription.into_on_message();
    let read = |message: redis::Msg| {
        let channel = message.get_channel_name().to_owned();
        let body: String = message.get_payload().unwrap();
        (channel, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    };
    messages.map(read).boxed()
}

/// The next messages, so many of them.
async fn next(messages: &mut Messages, count: usize) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    while found.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(20), messages.next()).await;
        found.push(next.unwrap_or_else(|_| panic!("only {found:#?}")).expect("an open subscription"));
    }
    found
}

/// Publishes once somebody listens.
async fn publish(redis: &RedisServer, body: &str) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let subscribers = async || {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let (_, count): (String, u64) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg("change_batch_quantity").query_async(&mut connection).await.ok()?;
        (count > 0).then_some(())
    };
    allocation_testing::eventually("the consumer to subscribe", subscribers).await;
    let _: () = connection.publish("change_batch_quantity", body).await.unwrap();
}

/// The test that the book ends on.
async fn a_change_of_quantity_from_outside_moves_lines_and_is_told(on: On) {
    let redis = RedisServer::start().await;
    let store = Store::new(on).await.with("REDIS_URL", &redis.url());
    let service = store.serve().await;
    service.post("/add_batch", json!({"ref": "old", "sku": "LAMP", "qty": 10, "eta": "2011-01-01"})).await.expect(201);
    service.post("/add_batch", json!({"ref": "new", "sku": "LAMP", "qty": 10, "eta": "2011-01-02"})).await.expect(201);
    service.post("/allocate", json!({"orderid": "o1", "sku": "LAMP", "qty": 10})).await.expect(202);
    assert_eq!(service.get("/allocations/o1").await.expect(200).json()[0]["batchref"], "old");

    let mut messages = listen(&redis).await;
    publish(&redis, r#"{"batchref": "old", "qty": 5}"#).await;
    let allocated = loop {
        let (channel, body) = next(&mut messages, 1).await.remove(0);
        if channel == "line_allocated" && body["batchref"] == "new" {
            break body;
        }
    };
    assert_eq!(allocated, json!({"orderid": "o1", "sku": "LAMP", "qty": 10, "batchref": "new"}));
    assert_eq!(service.get("/allocations/o1").await.expect(200).json()[0]["batchref"], "new");
    store.assert_balanced().await;
}

async fn every_event_has_a_channel_of_its_own(on: On) {
    let redis = RedisServer::start().await;
    let store = Store::new(on).await.with("REDIS_URL", &redis.url());
    let mut messages = listen(&redis).await;
    let service = store.serve().await;
    let b = "/v1/products/LAMP/batches/b";
    let mut expected = Vec::new();
    let mut then = |channels: &[&str]| expected.extend(channels.iter().map(|&channel| channel.to_owned()));

    service.put("/v1/products/LAMP", json!({})).await.expect(201);
    then(&["product_changed"]);
    service.put(b, json!({"qty": 10, "eta": "2031-01-01"})).await.expect(201);
    then(&["batch_created"]);
    service.order("o1", &[("LAMP", 10)]).await.expect(201);
    then(&["line_allocated"]);
    service.order("o2", &[("LAMP", 10)]).await.expect(409);
    then(&["out_of_stock"]);
    service.put(b, json!({"qty": 10, "eta": "2031-01-02"})).await.expect(200);
    then(&["batch_eta_changed", "promise_changed"]);
    service.put(b, json!({"qty": 9})).await.expect(200);
    then(&["batch_quantity_changed", "line_deallocated", "line_backordered", "promise_changed"]);
    service.delete("/v1/orders/o1").await.expect(200);
    then(&["line_deallocated", "line_cancelled"]);
    service.ask("h1", 5, json!({"hold_seconds": 600, "priority": 1})).await.expect(201);
    then(&["line_accepted", "line_held"]);
    service.post("/v1/orders/h1/extend", json!({"hold_seconds": 900})).await.expect(200);
    then(&["hold_extended"]);
    service.put(b, json!({"qty": 4})).await.expect(200);
    then(&["batch_quantity_changed", "line_deallocated", "line_deallocated", "hold_lost"]);
    service.order("o3", &[("LAMP", 1)]).await.expect(201);
    service.patch("/v1/orders/o3/lines/LAMP", json!({"qty": 2})).await.expect(200);
    then(&["line_allocated", "line_changed", "line_allocated"]);
    service.post(&format!("{b}/receipts"), json!({"qty": 3})).await.expect(200);
    then(&["batch_received", "batch_created"]);
    service.delete("/v1/products/LAMP/batches/b~2").await.expect(200);
    then(&["batch_cancelled"]);
    service.ask("h2", 1, json!({"hold_seconds": 1, "priority": 1})).await.expect(201);
    then(&["line_accepted", "line_held", "hold_expired"]);

    let heard = next(&mut messages, expected.len()).await;
    let channels: Vec<&str> = heard.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(channels, expected);
    let stored = service.feed(expected.len()).await;
    for (at, (channel, body)) in heard.iter().enumerate() {
        let (event, data) = (&stored[at]["event"], &stored[at]["event"]["data"]);
        if channel == "line_allocated" {
            let original = json!({"orderid": data["order_id"], "sku": "LAMP", "qty": data["qty"], "batchref": "b"});
            assert_eq!(*body, original, "as the original says it");
        } else {
            assert_eq!(body, event, "what is stored is sent untouched");
        }
    }
}

async fn a_hold_publishes_no_allocation_and_once_confirmed_one_for_each_placement(on: On) {
    let redis = RedisServer::start().await;
    let store = Store::new(on).await.with("REDIS_URL", &redis.url());
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 4})).await;
    service.batch("LAMP", "c", json!({"qty": 4})).await;
    let mut messages = listen(&redis).await;
    service.ask("h", 6, json!({"hold_seconds": 600})).await.expect(201);
    service.ask("gone", 2, json!({"hold_seconds": 600})).await.expect(201);
    service.delete("/v1/orders/gone").await.expect(200);
    service.post("/v1/orders/h/confirm", json!({})).await.expect(200);
    service.order("last", &[("LAMP", 1)]).await.expect(201);
    let mut allocated = Vec::new();
    while allocated.last().is_none_or(|body: &Value| body["orderid"] != "last") {
        let (channel, body) = next(&mut messages, 1).await.remove(0);
        if channel == "line_allocated" {
            allocated.push(body);
        }
    }
    assert_eq!(
        allocated,
        [
            json!({"orderid": "h", "sku": "LAMP", "qty": 4, "batchref": "b"}),
            json!({"orderid": "h", "sku": "LAMP", "qty": 2, "batchref": "c"}),
            json!({"orderid": "last", "sku": "LAMP", "qty": 1, "batchref": "c"}),
        ]
    );
}

async fn a_broker_that_is_down_delays_events_and_loses_none(on: On) {
    let mut redis = RedisServer::stopped();
    let store = Store::new(on).await.with("REDIS_URL", &redis.url());
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 1)]).await.expect(201);
    service.get("/readyz").await.expect(200);
    redis.bring_back().await;
    let mut messages = listen(&redis).await;
    // What was published between the broker's return and our subscription is not heard: pub/sub is like that.
    service.order("o2", &[("LAMP", 1)]).await.expect(201);
    let heard = async |service: &Service, order_id: &str, messages: &mut Messages| loop {
        let (channel, body) = next(messages, 1).await.remove(0);
        if channel == "line_allocated" && body["orderid"] == *order_id {
            break service.metric("allocation_events_delivered_total{sink=\"redis\"}").await;
        }
    };
    heard(&service, "o2", &mut messages).await;

    redis.take_away();
    service.order("o3", &[("LAMP", 1)]).await.expect(201);
    allocation_testing::eventually("a failed delivery", async || {
        (service.metric("allocation_delivery_failures_total{sink=\"redis\"}").await > 0).then_some(())
    })
    .await;
    redis.bring_back().await;
    let mut messages = listen(&redis).await;
    heard(&service, "o3", &mut messages).await;
    allocation_testing::eventually("no lag", async || {
        (service.metric("allocation_sink_lag_events{sink=\"redis\"}").await == 0).then_some(())
    })
    .await;
    // The consumer is back as well.
    publish(&redis, r#"{"batchref": "b", "qty": 50}"#).await;
    heard_quantity(&mut messages, 50).await;
}

async fn heard_quantity(messages: &mut Messages, to: u64) {
    loop {
        let (channel, body) = next(messages, 1).await.remove(0);
        if channel == "batch_quantity_changed" && body["data"]["to"] == to {
            return;
        }
    }
}

async fn messages_that_cannot_be_used_are_kept_with_the_reason(on: On) {
    let redis = RedisServer::start().await;
    let store = Store::new(on).await.with("REDIS_URL", &redis.url());
    let service = store.serve().await;
    service.batch("LAMP", "shared", json!({"qty": 10})).await;
    service.batch("SHADE", "shared", json!({"qty": 10})).await;
    let mut messages = listen(&redis).await;
    for bad in [
        "nonsense",
        "{}",
        r#"{"batchref": "none", "qty": 1}"#,
        r#"{"batchref": "", "qty": 1}"#,
        r#"{"batchref": "shared", "qty": -1}"#,
        r#"{"batchref": "shared", "qty": 1}"#,
        r#"{"batchref": "shared", "qty": 1, "sku": "NONE"}"#,
    ] {
        publish(&redis, bad).await;
    }
    publish(&redis, r#"{"batchref": "shared", "qty": 7, "sku": "SHADE"}"#).await;
    heard_quantity(&mut messages, 7).await;
    assert_eq!(service.metric("allocation_dead_letters_total{source=\"redis\"}").await, 7);
    assert_eq!(service.metric("allocation_messages_consumed_total{source=\"redis\"}").await, 1);
    let log = service.program.log();
    for reason in [
        "unknown batch none",
        "has 2 SKUs, and the message does not say which is meant",
        "batchref must not be empty",
        "unknown SKU NONE",
    ] {
        assert!(log.contains(reason), "{reason} in {log}");
    }
    assert_eq!(service.get("/v1/products/LAMP").await.expect(200).json()["on_hand"], 10);
}

async fn out_of_stock_is_mailed_once_the_mail_server_is_there(on: On) {
    let mut catcher = SmtpCatcher::stopped();
    let store = Store::new(on).await.with("SMTP_URL", &catcher.url());
    let store = store.with("NOTIFY_TO", "stock@shop.example").with("NOTIFY_FROM", "robot@shop.example");
    let service = store.serve().await;
    service.batch("LAMP", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 11)]).await.expect(409);
    allocation_testing::eventually("a failed delivery", async || {
        (service.metric("allocation_delivery_failures_total{sink=\"mail\"}").await > 0).then_some(())
    })
    .await;
    catcher.bring_back().await;
    let mail = allocation_testing::eventually("a mail", async || catcher.mails().pop()).await;
    assert_eq!((mail.from.as_str(), mail.to.as_str()), ("robot@shop.example", "stock@shop.example"));
    assert!(mail.content.contains("Subject: Out of stock for SKU LAMP"), "{}", mail.content);
    // Comes back and runs out again within the hour.
    service.batch("LAMP", "b", json!({"qty": 12})).await;
    service.order("o2", &[("LAMP", 13)]).await.expect(409);
    allocation_testing::eventually("no lag", async || {
        (service.metric("allocation_sink_lag_events{sink=\"mail\"}").await == 0).then_some(())
    })
    .await;
    assert_eq!(catcher.mails().len(), 1);
}

async fn consumer_and_relay_may_run_alone(on: On) {
    let redis = RedisServer::start().await;
    let store = Store::new(on).await.with("REDIS_URL", &redis.url());
    let alone = |command: &str| {
        let program = std::path::Path::new(crate::support::PROGRAM);
        allocation_testing::program::command(program, &store.environment(), &[command]).spawn().unwrap()
    };
    let mut messages = listen(&redis).await;
    store.run(&["migrate"]).await;
    let web_store = Store::at(store.environment()[0].1.to_owned(), tempfile::tempdir().unwrap());
    let web = web_store.with("RELAY", "off").serve().await;
    web.batch("LAMP", "b", json!({"qty": 10})).await;
    let mut relay = alone("relay");
    let mut consumer = alone("consume");
    assert_eq!(next(&mut messages, 1).await[0].0, "batch_created");
    publish(&redis, r#"{"batchref": "b", "qty": 3}"#).await;
    heard_quantity(&mut messages, 3).await;
    assert_eq!(web.get("/v1/products/LAMP").await.expect(200).json()["on_hand"], 3);
    relay.kill().await.unwrap();
    consumer.kill().await.unwrap();
}
