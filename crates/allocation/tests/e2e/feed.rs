//! The feed over HTTP: pages that are waited for, streams, filters.

use std::time::Duration;

use allocation_testing::eventually;
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};

use crate::support::{On, Service, lamps, on_both_stores};

on_both_stores!(
    a_page_that_is_waited_for_comes_with_the_first_event,
    a_page_is_waited_for_no_longer_than_asked,
    what_is_not_wanted_is_left_out_and_passed_over,
    a_stream_goes_on_where_its_reader_was,
    a_stream_says_how_far_it_is_when_it_passes_over_much,
    many_wait_and_all_are_told,
    whoever_waits_is_let_go_when_the_service_stops,
    what_another_copy_commits_is_told,
);

/// An open stream, read piece by piece.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(service: &Service, query: &str, last: Option<&str>) -> Self {
        let mut request = service.client.get(service.program.url(&format!("/v1/events/stream{query}")));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The fields of the next block; none at the end.
    async fn block(&mut self) -> Option<Vec<(String, String)>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let fields = block.lines().map(|line| line.split_once(": ").unwrap_or((line, "")));
                let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                self.text = self.text.split_off(self.text.len() - rest.len());
                return Some(fields);
            }
            let piece = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            // A stream that was cut counts as ended.
            let piece = piece.unwrap_or_else(|_| panic!("nothing came after {:?}", self.text)).unwrap_or_default()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next event: position, type, and what it says.
    async fn event(&mut self) -> (u64, String, Value) {
        loop {
            let block = self.block().await.expect("an event");
            let field = |name: &str| block.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            if let (Some(id), Some(of_type), Some(data)) = (field("id"), field("event"), field("data")) {
                return (id.parse().unwrap(), of_type.to_owned(), serde_json::from_str(data).unwrap());
            }
        }
    }
}

async fn page(service: &Service, query: &str) -> Value {
    service.get(&format!("/v1/events{query}")).await.expect(200).json()
}

fn types(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|event| event["event"]["type"].as_str().unwrap()).collect()
}

async fn a_page_that_is_waited_for_comes_with_the_first_event(on: On) {
    let (_store, service) = lamps(on, &[("b", 10, "")]).await;
    service.feed(1).await;
    let waiting = page(&service, "?after=1&wait=60");
    let ordering = async { service.order("o1", &[("LAMP", 1)]).await.expect(201) };
    let (found, _) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waiting, ordering) })
        .await
        .expect("long before the minute is over");
    assert_eq!((types(&found), &found["next"]), (vec!["allocation.line_allocated.v1"], &json!(2)));
    let there = page(&service, "?after=0&wait=60").await;
    assert_eq!(types(&there).len(), 2, "what is there is not waited for");
}

async fn a_page_is_waited_for_no_longer_than_asked(on: On) {
    let (_store, service) = lamps(on, &[("b", 10, "")]).await;
    service.feed(1).await;
    let found = page(&service, "?after=1&wait=1").await;
    assert_eq!(found, json!({"events": [], "next": 1}));
    for bad in ["?wait=61", "?wait=-1", "?wait=x", "?type=line_lost", "?type=allocation.line_allocated.v2", "?sku=%20"]
    {
        service.get(&format!("/v1/events{bad}")).await.expect(422);
    }
    for bad in ["?wait=1", "?limit=1", "?after=x", "?type=none"] {
        service.get(&format!("/v1/events/stream{bad}")).await.expect(422);
    }
}

async fn what_is_not_wanted_is_left_out_and_passed_over(on: On) {
    let (_store, service) = lamps(on, &[("b", 10, "")]).await;
    service.batch("SHADE", "b", json!({"qty": 10})).await;
    service.batch("BULB", "b", json!({"qty": 10})).await;
    service.order("o1", &[("LAMP", 1), ("SHADE", 1), ("BULB", 1)]).await.expect(201);
    service.feed(6).await;
    let found = page(&service, "?type=line_allocated&sku=LAMP&sku=BULB").await;
    let skus: Vec<_> = found["events"].as_array().unwrap().iter().map(|event| &event["event"]["subject"]).collect();
    assert_eq!(skus.len(), 2);
    assert!(skus.contains(&&json!("LAMP")) && skus.contains(&&json!("BULB")), "{skus:?}");
    assert_eq!(found["next"], 6);
    let several = page(&service, "?type=allocation.batch_created.v1&type=out_of_stock").await;
    assert_eq!((types(&several).len(), &several["next"]), (3, &json!(6)));
    let none = page(&service, "?type=out_of_stock").await;
    assert_eq!(none, json!({"events": [], "next": 6}), "a rare type is looked for once only");
    let first = page(&service, "?sku=BULB&limit=1").await;
    assert_eq!((types(&first), &first["next"]), (vec!["allocation.batch_created.v1"], &json!(3)));

    let mut stream = Stream::open(&service, "?sku=SHADE&type=line_allocated", None).await;
    let (_, of_type, event) = stream.event().await;
    assert_eq!((of_type.as_str(), &event["subject"]), ("allocation.line_allocated.v1", &json!("SHADE")));
}

async fn a_stream_goes_on_where_its_reader_was(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    let mut stream = Stream::open(&service, "", None).await;
    let (first, of_type, _) = stream.event().await;
    assert_eq!((first, of_type.as_str()), (1, "allocation.batch_created.v1"));
    service.order("o1", &[("LAMP", 1)]).await.expect(201);
    let (second, of_type, event) = stream.event().await;
    assert_eq!((second, of_type.as_str()), (2, "allocation.line_allocated.v1"));
    assert_eq!(event, page(&service, "?after=1").await["events"][0]["event"], "what is stored, untouched");

    assert_eq!(service.program.stop().await, Some(0));
    while stream.block().await.is_some() {}
    let service = store.serve().await;
    service.order("o2", &[("LAMP", 1)]).await.expect(201);
    let mut back = Stream::open(&service, "?after=0", Some("2")).await;
    let (third, _, event) = back.event().await;
    assert_eq!((third, &event["data"]["order_id"]), (3, &json!("o2")), "the header goes before `after`");
    let mut after = Stream::open(&service, "?after=1", None).await;
    assert_eq!(after.event().await.0, 2);
    let request = service.client.get(service.program.url("/v1/events/stream")).header("Last-Event-ID", "x");
    Service::answer(request).await.expect(422);
}

async fn a_stream_says_how_far_it_is_when_it_passes_over_much(on: On) {
    let (_store, service) = lamps(on, &[("b", 2_000, "")]).await;
    let mut stream = Stream::open(&service, "?type=out_of_stock", None).await;
    let lines: Vec<_> = (0..1_000).map(|n| json!({"sku": "LAMP", "qty": 1, "line": n.to_string()})).collect();
    service.put("/v1/orders/large", json!({ "lines": lines })).await.expect(201);
    let block = loop {
        let block = stream.block().await.expect("a position");
        if block.iter().any(|(name, _)| name == "id") {
            break block;
        }
    };
    let [(_, position)] = &block[..] else { panic!("a position and nothing else: {block:?}") };
    assert!((1_000..=1_001).contains(&position.parse::<u64>().unwrap()), "{position}");
    service.order("o1", &[("LAMP", 2_000)]).await.expect(409);
    assert_eq!(stream.event().await.1, "allocation.out_of_stock.v1");
}

async fn many_wait_and_all_are_told(on: On) {
    let (_store, service) = lamps(on, &[("b", 10, "")]).await;
    service.feed(1).await;
    let waiting = join_all((0..200).map(|_| page(&service, "?after=1&wait=60&type=line_allocated")));
    let ordering = async { service.order("o1", &[("LAMP", 1)]).await.expect(201) };
    let (found, _) = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(waiting, ordering) })
        .await
        .expect("long before the minute is over");
    assert!(found.iter().all(|page| page["next"] == 2 && types(page).len() == 1));
}

async fn whoever_waits_is_let_go_when_the_service_stops(on: On) {
    let (_store, service) = lamps(on, &[("b", 10, "")]).await;
    service.feed(1).await;
    let mut stream = Stream::open(&service, "", None).await;
    stream.event().await;
    let (client, url) = (service.client.clone(), service.program.url("/v1/events?after=1&wait=60"));
    let waiting = tokio::spawn(async move { client.get(url).send().await });
    let readers = async || service.metric("allocation_feed_readers").await;
    eventually("both to wait", async || (readers().await == 2).then_some(())).await;
    let stopping = tokio::time::timeout(Duration::from_secs(15), service.program.stop()).await;
    assert_eq!(stopping.expect("well before work in flight is given up"), Some(0));
    while stream.block().await.is_some() {}
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"events": [], "next": 1}));
}

async fn what_another_copy_commits_is_told(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.feed(1).await;
    let other = store.serve().await;
    let mut stream = Stream::open(&other, "?after=1", None).await;
    let waiting = page(&other, "?after=1&wait=60");
    let ordering = async { service.order("o1", &[("LAMP", 1)]).await.expect(201) };
    let (found, _) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waiting, ordering) })
        .await
        .expect("long before the minute is over");
    assert_eq!(found["next"], 2);
    assert_eq!(stream.event().await.0, 2);
}

/// One connection holds its transaction open while those with later ids commit, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_out_of_order_is_missed_by_no_reader_and_no_stream() {
    const EVENTS: usize = 60;
    let (store, service) = lamps(On::Postgres, &[]).await;
    let connect = async || {
        let (client, connection) =
            tokio_postgres::connect(store.environment()[0].1, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let (mut early, mut late) = (connect().await, connect().await);
    let write = async |tx: &tokio_postgres::Transaction<'_>, sku: &str| {
        let body = format!(
            r#"{{"specversion":"1.0","id":"{sku}","source":"/allocation","type":"allocation.batch_created.v1","subject":"{sku}","sequence":1}}"#
        );
        tx.execute("INSERT INTO events (sku, sequence, body) VALUES ($1, 1, $2)", &[&sku, &body]).await.unwrap();
        let unit = "INSERT INTO units_of_work (skus, first_sequences, last_sequences) VALUES (ARRAY[$1], '{1}', '{1}')";
        tx.execute(unit, &[&sku]).await.unwrap();
    };
    let mut stream = Stream::open(&service, "", None).await;
    let streamed = async {
        let mut ids = Vec::new();
        while ids.len() < EVENTS {
            ids.push(stream.event().await);
        }
        ids
    };
    let paged = async {
        let (mut events, mut after) = (Vec::new(), 0);
        while events.len() < EVENTS {
            let found = page(&service, &format!("?after={after}&wait=20&limit=3")).await;
            after = found["next"].as_u64().unwrap();
            events.extend(found["events"].as_array().unwrap().clone());
        }
        events
    };
    let writing = async {
        for n in 0..EVENTS / 3 {
            let slow = early.transaction().await.unwrap();
            write(&slow, &format!("early-{n}")).await;
            for which in ["late", "later"] {
                let quick = late.transaction().await.unwrap();
                write(&quick, &format!("{which}-{n}")).await;
                quick.commit().await.unwrap();
            }
            // The later ones have their places, and readers have seen them, before the early one is there at all.
            service.feed(n * 3 + 2).await;
            slow.commit().await.unwrap();
            service.feed(n * 3 + 3).await;
        }
    };
    let (streamed, paged, ()) = tokio::join!(streamed, paged, writing);
    let positions = || 1..=EVENTS as u64;
    assert!(streamed.iter().map(|(position, ..)| *position).eq(positions()));
    assert!(paged.iter().map(|event| event["position"].as_u64().unwrap()).eq(positions()));
    for n in 0..EVENTS / 3 {
        for which in ["early", "late", "later"] {
            let sku = json!(format!("{which}-{n}"));
            assert_eq!(streamed.iter().filter(|(_, _, event)| event["subject"] == sku).count(), 1, "{sku}");
            assert_eq!(paged.iter().filter(|event| event["event"]["subject"] == sku).count(), 1, "{sku}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_from_before_what_is_kept_is_refused() {
    let (store, service) = lamps(On::Postgres, &[("a", 1, ""), ("b", 1, ""), ("c", 1, "")]).await;
    service.feed(3).await;
    assert!(store.tamper("DELETE FROM feed WHERE last_position <= 2").await);
    let gone = service.get("/v1/events/stream?after=1").await.expect(410).json();
    assert_eq!(gone["type"], "urn:allocation:problem:feed-gone");
    service.get("/v1/events?after=1&wait=60").await.expect(410);
    assert_eq!(Stream::open(&service, "?after=2", None).await.event().await.0, 3);
}
