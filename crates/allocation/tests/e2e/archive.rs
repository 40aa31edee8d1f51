//! Old events leave the log: by hand and by themselves, never before they were seen, and the books balance as before.

use std::path::Path;
use std::process::Stdio;

use allocation_testing::eventually;
use allocation_testing::program::command;
use allocation_testing::servers::RedisServer;
use serde_json::{Value, json};

use crate::books::{DAMAGE, books, read, run};
use crate::support::{On, PROGRAM, Store, fate, lamps, new_key, now, on_both_stores, refused};

on_both_stores!(
    what_was_archived_is_in_the_file_and_the_books_balance,
    an_old_request_is_answered_as_before,
    tables_are_mended_although_events_are_gone,
    a_reader_that_comes_too_late_is_told_where_to_begin,
    a_ledger_begins_with_what_is_there,
    a_kill_in_the_middle_loses_nothing,
    what_a_sink_has_not_seen_stays,
    what_is_old_leaves_by_itself,
    a_sink_that_is_new_begins_where_it_is_told_to,
    bad_arguments_are_refused,
);

/// Archives everything but the newest event, once all events have their places.
async fn archive(store: &Store, more: &[&str]) -> String {
    let arguments = [&["events", "archive", "--before", "0"], more].concat();
    let (status, said) = run(store, &arguments).await;
    assert_eq!(status, 0, "{said}");
    said
}

/// The lines of a file of archived events.
fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn what_was_archived_is_in_the_file_and_the_books_balance(on: On) {
    let (store, service) = books(on).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archived.jsonl");
    let to = ["--to", path.to_str().unwrap()];
    let (events, whole) =
        (service.history("LAMP", 0).await.len() + service.history("SHADE", 0).await.len(), read(&service).await);
    let feed = service.feed(events).await;
    assert_eq!(archive(&store, &to).await, format!("archived {} events\n", events - 1));
    assert_eq!(lines(&path), feed[..events - 1], "as the feed gave them");
    let said = store.assert_balanced().await;
    assert!(said.contains(&format!("1 events and {} archived ones", events - 1)), "{said}");
    assert_eq!(read(&service).await, whole);

    service.post("/v1/orders/h/confirm", json!({})).await.expect(200);
    service.delete("/v1/orders/o2").await.expect(200);
    store.assert_balanced().await;
    let page = service.get(&format!("/v1/events?after={events}&wait=20")).await.expect(200).json();
    assert_eq!(page["events"][0]["position"], events as u64 + 1, "positions go on");
    assert_eq!(archive(&store, &to).await, format!("archived {} events\n", lines(&path).len() - events + 1));
    assert!(lines(&path).iter().map(|line| line["position"].as_u64().unwrap()).eq(1..=lines(&path).len() as u64));
    store.assert_balanced().await;
}

async fn an_old_request_is_answered_as_before(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    let (key, half) = (new_key(), json!({"lines": [{"sku": "LAMP", "qty": 2}]}));
    service.ask("shipped", 4, json!({})).await.expect(201);
    service.post_once("/v1/orders/shipped/shipments", &key, half.clone()).await.expect(200);
    service.ask("gone", 1, json!({})).await.expect(201);
    service.delete("/v1/orders/gone").await.expect(200);
    service.ask("plain", 3, json!({})).await.expect(201);
    let version = service.version("LAMP").await;
    service.events_of("LAMP", 0).await;
    archive(&store, &[]).await;

    service.ask("plain", 3, json!({})).await.expect(200);
    let again = service.ask("shipped", 4, json!({})).await.expect(200).json();
    assert_eq!(fate(&again["lines"][0]), "allocated: b 2, shipped 2");
    service.post_once("/v1/orders/shipped/shipments", &key, half).await.expect(200);
    refused(service.ask("plain", 4, json!({})).await, "line-conflict");
    service.ask("gone", 1, json!({})).await.expect(409);
    let back = |qty: u64| json!({"lines": [{"sku": "LAMP", "qty": qty, "to": "restock"}]});
    assert_eq!(service.version("LAMP").await, version, "nothing has changed");
    refused(service.post_new("/v1/orders/shipped/returns", back(3)).await, "too-many");
    service.post_new("/v1/orders/shipped/returns", back(2)).await.expect(200);
    assert_eq!(service.product("LAMP").await["available"], 5);
    store.assert_balanced().await;
}

async fn tables_are_mended_although_events_are_gone(on: On) {
    let (store, service) = books(on).await;
    service.events_of("LAMP", 0).await;
    service.events_of("SHADE", 0).await;
    archive(&store, &[]).await;
    store.assert_mended(DAMAGE, async || read(&service).await).await;
    archive(&store, &[]).await;
    store.assert_mended(&DAMAGE[..1], async || read(&service).await).await;
    // What events are folded on from is looked at too.
    let checkpoint = "UPDATE checkpoints SET balances = '{}' WHERE sku = 'LAMP'";
    if store.tamper(checkpoint).await {
        let (status, said) = run(&store, &["repair", "--apply"]).await;
        assert_eq!(status, 1, "{said}");
        assert!(
            said.contains("LAMP: its checkpoint has other balances") && said.contains("LAMP: not mended"),
            "{said}"
        );
    }
}

async fn a_reader_that_comes_too_late_is_told_where_to_begin(on: On) {
    let (store, service) = lamps(on, &[("a", 1, ""), ("b", 1, ""), ("c", 1, "")]).await;
    service.feed(3).await;
    archive(&store, &[]).await;
    for path in ["/v1/events", "/v1/events?after=0", "/v1/events?after=1&wait=60", "/v1/events/stream?after=1"] {
        let gone = service.get(path).await.expect(410).json();
        assert_eq!(gone["type"], "urn:allocation:problem:feed-gone", "{path}");
        let detail = "events up to position 2 were archived; the first there is has position 3: give after=2";
        assert_eq!(gone["detail"], detail, "{path}");
    }
    let page = service.get("/v1/events?after=2").await.expect(200).json();
    assert_eq!((&page["events"][0]["position"], &page["next"]), (&json!(3), &json!(3)));
    // A webhook that wants all there is gets that.
    let hook = json!({"url": "https://example.com/hook", "from": "beginning"});
    let hook = service.post("/v1/webhooks", hook).await.expect(201).json();
    assert_eq!((&hook["position"], &hook["lag"]), (&json!(2), &json!(1)), "{hook}");
}

async fn a_ledger_begins_with_what_is_there(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    for n in 0..5 {
        service.ask(&format!("o{n}"), 1, json!({})).await.expect(201);
    }
    service.events_of("LAMP", 0).await;
    let ledger = async |path: &str| service.get(&format!("/v1/products/LAMP/{path}")).await.expect(200).json();
    let whole = ledger("movements").await;
    assert_eq!(whole["archived"], Value::Null);
    archive(&store, &[]).await;
    service.ask("more", 2, json!({})).await.expect(201);
    for path in ["movements", "batches/b/movements"] {
        let rest = ledger(path).await;
        assert_eq!(rest["archived"], 5, "{rest}");
        assert_eq!(rest["movements"][0], whole["movements"][5], "with the balance it had");
        assert_eq!(rest["movements"][1]["balance"]["free"], 3, "{rest}");
        assert_eq!(ledger(&format!("{path}?after=5")).await["archived"], Value::Null);
    }
    let csv = service.get("/v1/products/LAMP/movements?format=csv").await.expect(200).text;
    assert_eq!(csv.lines().skip(1).map(|row| &row[..2]).collect::<Vec<_>>(), ["6,", "7,"]);
}

async fn a_kill_in_the_middle_loses_nothing(on: On) {
    const ORDERS: usize = 3_000;
    let (store, service) = lamps(on, &[("b", ORDERS as u64, "")]).await;
    let orders: String = (0..ORDERS).map(|n| format!("o{n},LAMP,1\n")).collect();
    let (status, _, complaints) = store.import(&["orders"], &format!("order_id,sku,qty\n{orders}")).await;
    assert_eq!(status, Some(0), "{complaints}");
    let events = ORDERS as u64 + 1;
    eventually("all of it in the feed", async || {
        let page = service.get(&format!("/v1/events?after={}", events - 1)).await.expect(200).json();
        (page["next"] == events).then_some(())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archived.jsonl");
    let arguments = ["events", "archive", "--before", "0", "--to", path.to_str().unwrap()];
    for killed in 1..=2 {
        let mut archiving = command(Path::new(PROGRAM), &store.environment(), &arguments);
        let mut archiving = archiving.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let wanted = 400 * killed;
        eventually("some lines", async || {
            let written = std::fs::read_to_string(&path).unwrap_or_default().lines().count();
            (written >= wanted).then_some(())
        })
        .await;
        archiving.kill().await.unwrap();
        store.assert_balanced().await;
        // Whoever was killed has the lease for a while.
        if !store.tamper("DELETE FROM leases WHERE task = 'archive'").await {
            return;
        }
    }
    let (status, said) = run(&store, &arguments).await;
    assert_eq!(status, 0, "{said}");
    assert!(lines(&path).iter().map(|line| line["position"].as_u64().unwrap()).eq(1..events), "each once");
    let said = store.assert_balanced().await;
    assert!(said.contains(&format!("1 events and {} archived ones", events - 1)), "{said}");
    service.ask("o7", 1, json!({})).await.expect(200);
    assert_eq!(service.product("LAMP").await["available"], 0);
}

async fn what_a_sink_has_not_seen_stays(on: On) {
    let (store, service) = lamps(on, &[("a", 1, ""), ("b", 1, "")]).await;
    service.feed(2).await;
    // Nobody answers there.
    let hook = json!({"url": "https://hooks.invalid/", "from": "now"});
    let hook = service.post("/v1/webhooks", hook).await.expect(201).json();
    let id = hook["id"].as_str().unwrap();
    service.batch("LAMP", "c", json!({"qty": 1})).await;
    service.batch("LAMP", "d", json!({"qty": 1})).await;
    service.feed(4).await;
    let said = archive(&store, &[]).await;
    assert!(said.starts_with("archived 2 events; the next, at position 3 of "), "{said}");
    assert!(said.ends_with(&format!("is yet to be seen by webhook:{id}\n")), "{said}");
    let (status, said) = run(&store, &["events", "sinks"]).await;
    assert_eq!((status, said), (0, format!("webhook:{id} has seen 2 of 4\n")));
    let (status, said) = run(&store, &["events", "forget", "--sink", &format!("webhook:{id}")]).await;
    assert!(status == 2 && said.contains("is a webhook"), "{said}");
    service.delete(&format!("/v1/webhooks/{id}")).await.expect(204);

    // A sink that is configured and has seen nothing yet is one.
    let store = store.with("NATS_URL", "nats://127.0.0.1:1");
    let said = archive(&store, &[]).await;
    assert!(said.starts_with("archived 0 events; ") && said.contains("is yet to be seen by nats\n"), "{said}");
    let (status, said) = run(&store, &["events", "forget", "--sink", "nats"]).await;
    assert_eq!((status, said.as_str()), (0, "forgot nats\n"));
    let (status, said) = run(&store, &["events", "forget", "--sink", "nats"]).await;
    assert!(status == 2 && said.contains("no sink \"nats\" is known"), "{said}");
    let store = store.with("SINKS_BEGIN", "now");
    assert!(archive(&store, &[]).await.starts_with("archived 1 events\n"));
    store.assert_balanced().await;
}

async fn what_is_old_leaves_by_itself(on: On) {
    let (store, service) = lamps(on, &[("a", 1, ""), ("b", 1, ""), ("c", 1, "")]).await;
    service.feed(3).await;
    drop(service);
    let (year, before) = (now()[..4].to_owned(), "2001");
    let long_ago = format!(
        "UPDATE events SET body = replace(body, '\"time\":\"{year}', '\"time\":\"{before}') WHERE sequence < 3"
    );
    if !store.tamper(&long_ago).await {
        return;
    }
    let store = store.with("EVENT_DAYS", "30");
    let service = store.serve().await;
    eventually("old events to leave", async || {
        (service.metric("allocation_archived_events_total").await == 2).then_some(())
    })
    .await;
    service.get("/v1/events?after=1").await.expect(410);
    assert_eq!(service.get("/v1/events?after=2").await.expect(200).json()["next"], 3);
    store.assert_balanced().await;
}

async fn a_sink_that_is_new_begins_where_it_is_told_to(on: On) {
    let redis = RedisServer::start().await;
    let (store, service) = lamps(on, &[("a", 1, ""), ("b", 1, "")]).await;
    service.feed(2).await;
    drop(service);
    let store = store.with("REDIS_URL", &redis.url()).with("REDIS_STREAM", "allocation.events");
    let store = store.with("SINKS_BEGIN", "now,redis-stream=beginning");
    let service = store.serve().await;
    service.batch("LAMP", "c", json!({"qty": 1})).await;
    let seen = eventually("all to be seen", async || {
        let said = run(&store, &["events", "sinks"]).await.1;
        said.lines().all(|line| line.ends_with("has seen 3 of 3")).then_some(said)
    })
    .await;
    assert_eq!(seen.lines().count(), 2, "{seen}");
    let delivered =
        async |sink: &str| service.metric(&format!("allocation_events_delivered_total{{sink=\"{sink}\"}}")).await;
    assert_eq!((delivered("redis").await, delivered("redis-stream").await), (1, 3));
}

async fn bad_arguments_are_refused(on: On) {
    let (store, _service) = lamps(on, &[("a", 1, "")]).await;
    let folder = tempfile::tempdir().unwrap();
    let diary = folder.path().join("diary");
    std::fs::write(&diary, "dear diary").unwrap();
    for (arguments, complaint) in [
        (&["--before", "yesterday"][..], "must be a number of days, or an instant"),
        (&[], "--before"),
        (&["--before", "1", "--to", diary.to_str().unwrap()], "is no file of archived events"),
        (&["--before", "1", "--to", "/no/such/folder/file"], "/no/such/folder/file"),
    ] {
        let (status, said) = run(&store, &[&["events", "archive"], arguments].concat()).await;
        assert!(status == 2 && said.contains(complaint), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&diary).unwrap(), "dear diary");
}
