//! Messages are what their schemas say, and those of the last release are understood.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use allocation_domain::commands::{Rest, ReturnTo};
use allocation_domain::{
    AdjustmentKind, DeallocationReason, Event, Level, LowStock, Promise, Reason, Settings, Split, Strategy, Terms,
};
use allocation_entrypoints::{asyncapi, consumer};
use allocation_service_layer::wire::{self, Cause, EVENTS, TOPICS, event_json, event_type};
use allocation_testing::clock::ManualClock;
use allocation_testing::shorthand::{accepted, day, key, location, qty, reference, sku, stock};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::{On, Store, on_both_stores};

on_both_stores!(what_the_program_tells_is_what_the_schemas_say);

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Schemas by the type of message.
fn schemas() -> BTreeMap<String, Validator> {
    let compiled = |(kind, schema): (String, String)| {
        let schema: Value = serde_json::from_str(&schema).unwrap();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema);
        (kind, validator.unwrap_or_else(|error| panic!("{error}: {schema}")))
    };
    asyncapi::schemas().into_iter().map(compiled).collect()
}

fn assert_valid(schemas: &BTreeMap<String, Validator>, message: &str) {
    let message: Value = serde_json::from_str(message).unwrap();
    let kind = message["type"].as_str().unwrap();
    let faults: Vec<String> = schemas[kind].iter_errors(&message).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?} in {message}");
}

/// An event of each kind, with all that may be said of it, and some with as little as may be.
fn events() -> Vec<Event> {
    let (line, until) = (key("o"), ManualClock::START);
    let low = Level { safety_stock: 1, low_stock: Some(LowStock { threshold: 2, restocked: 5 }) };
    let settings = Settings {
        queue_cap: Some(7),
        auto_improve: true,
        strategy: Some(Strategy::Fefo),
        min_days: 3,
        requires_expiry: true,
        overdue_days: Some(4),
        levels: [(location("east"), low), (location("west"), Level { safety_stock: 9, low_stock: None })].into(),
    };
    let terms = Terms {
        priority: -2,
        by: Some(day(3)),
        not_before: Some(day(2)),
        split: Split::OverLocations(qty(2)),
        min_days: Some(5),
        locations: Some(accepted(&["east", "west"])),
    };
    let (b, q, to) = (reference("b"), qty(3), stock(4));
    vec![
        Event::ProductChanged { settings: Settings::default() },
        Event::ProductChanged { settings },
        Event::BatchCreated {
            reference: b.clone(),
            qty: to,
            eta: Some(day(1)),
            expires_on: Some(day(9)),
            location: location("east"),
        },
        Event::BatchCreated { reference: b.clone(), qty: to, eta: None, expires_on: None, location: location("east") },
        Event::BatchQuantityChanged { reference: b.clone(), from: stock(0), to },
        Event::BatchEtaChanged { reference: b.clone(), from: Some(day(1)), to: None },
        Event::ExpiryChanged { reference: b.clone(), from: None, to: Some(day(1)), expired: true },
        Event::BatchExpired { reference: b.clone(), qty: to },
        Event::BatchReceived { reference: b.clone(), from: stock(9), qty: to, rest: Rest::Keep },
        Event::BatchReceived { reference: b.clone(), from: stock(9), qty: to, rest: Rest::Cancel },
        Event::BatchCancelled { reference: b.clone(), qty: to },
        Event::BatchAdjusted {
            reference: b.clone(),
            kind: AdjustmentKind::Damaged,
            from: stock(9),
            to,
            reason: Reason::new("wet").unwrap(),
        },
        Event::Quarantined { reference: b.clone(), qty: to },
        Event::Released { reference: b.clone(), qty: to },
        Event::Transferred { reference: b.clone(), qty: q, to: reference("c") },
        Event::LowStock { location: location("east"), available: 1, threshold: 2 },
        Event::Restocked { location: location("east"), available: 6, threshold: 5 },
        Event::LineAccepted { line: line.clone(), requested: q, dropped: 1, terms: terms.clone() },
        Event::LineAccepted { line: line.clone(), requested: q, dropped: 0, terms: Terms::whole() },
        Event::Held { line: line.clone(), accepted: 1, qty: q, reference: b.clone(), until },
        Event::HoldExtended { line: line.clone(), until },
        Event::HoldExpired { line: line.clone(), accepted: 1, qty: q, reference: b.clone() },
        Event::HoldLost { line: line.clone(), qty: q },
        Event::Allocated { line: line.clone(), accepted: 1, qty: q, reference: b.clone(), split: true, held: false },
        Event::Allocated { line: line.clone(), accepted: 9, qty: q, reference: b.clone(), split: false, held: true },
        Event::Deallocated {
            line: line.clone(),
            accepted: 1,
            qty: q,
            reference: b.clone(),
            reason: DeallocationReason::Displaced,
            held: true,
        },
        Event::Backordered { line: line.clone(), accepted: 1, qty: q, displaced: true },
        Event::Locked { line: line.clone(), accepted: 1, qty: q, reference: b.clone() },
        Event::Unlocked { line: line.clone(), accepted: 1, qty: q, reference: b.clone() },
        Event::Shipped { line: line.clone(), accepted: 1, qty: q, reference: b.clone() },
        Event::Returned { line: line.clone(), qty: q, reference: b, to: ReturnTo::Scrap },
        Event::LineChanged { line: line.clone(), from: q, to: qty(1), dropped: 0, terms },
        Event::LineCancelled { line: line.clone(), qty: q },
        Event::PromiseChanged { line: line.clone(), from: Promise::On(day(1)), to: Promise::None },
        Event::PromiseChanged { line, from: Promise::OnHand, to: Promise::On(day(1)) },
        Event::OutOfStock { asked: 3, available: 2 },
        Event::BooksRepaired { differences: 1 },
    ]
}

/// Each of them as it is told.
fn told() -> Vec<String> {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let with_trace = Cause { correlation: "c".into(), actor: "http".into(), traceparent: Some(trace.into()) };
    let without = Cause { traceparent: None, ..with_trace.clone() };
    let told = |(n, event): (u64, Event)| {
        let id = uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(n));
        let cause = if n.is_multiple_of(2) { &with_trace } else { &without };
        event_json(id, &sku("LAMP"), n, ManualClock::START, cause, &event)
    };
    (1..).zip(events()).map(told).collect()
}

#[test]
fn every_event_has_a_schema_and_keeps_to_it() {
    let schemas = schemas();
    let told = told();
    for message in &told {
        assert_valid(&schemas, message);
    }
    let kind = |message: &String| serde_json::from_str::<Value>(message).unwrap()["type"].as_str().unwrap().to_owned();
    let kinds: BTreeSet<String> = told.iter().map(kind).collect();
    let known: BTreeSet<String> = TOPICS.iter().map(|topic| event_type(topic)).collect();
    assert_eq!(kinds, known, "an event of each kind");
    assert!(EVENTS.iter().map(|form| form.topic).collect::<BTreeSet<_>>() == TOPICS.iter().copied().collect());
}

#[test]
fn a_schema_takes_nothing_else() {
    let schemas = schemas();
    let message: Value = serde_json::from_str(&told().remove(2)).unwrap();
    let valid = |change: fn(&mut Value)| {
        let mut message = message.clone();
        change(&mut message);
        schemas["allocation.batch_created.v1"].is_valid(&message)
    };
    assert!(valid(|_| {}));
    assert!(valid(|message| message["extension"] = json!("of somebody")));
    assert!(valid(|message| message["data"]["later"] = json!("a field of a later release")));
    assert!(!valid(|message| message["data"]["qty"] = json!("4")));
    assert!(!valid(|message| message["data"]["qty"] = json!(-4)));
    assert!(!valid(|message| message["data"]["eta"] = json!("tomorrow")));
    assert!(!valid(|message| message["sequence"] = json!(0)));
    assert!(!valid(|message| message["type"] = json!("allocation.batch_created.v2")));
    assert!(!valid(|message| drop(message["data"].as_object_mut().unwrap().remove("location"))));
}

/// Consumers live on: what they were told, they can tell us, and what they say, they may go on to say.
#[test]
fn the_last_releases_messages_are_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
    if std::env::var_os("UPDATE_MESSAGES").is_some() {
        let file = folder.join(format!("events-{}.jsonl", env!("CARGO_PKG_VERSION")));
        std::fs::write(file, told().iter().map(|message| format!("{message}\n")).collect::<String>()).unwrap();
    }
    let schemas = schemas();
    let (mut events, mut commands) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_events = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events-"));
        for message in std::fs::read_to_string(&path).unwrap().lines() {
            assert_valid(&schemas, message);
            if is_events {
                let read = wire::parse_event(message).unwrap_or_else(|error| panic!("{error}: {message}"));
                events.insert(wire::topic(&read.event));
            } else {
                consumer::command(message.as_bytes()).unwrap_or_else(|error| panic!("{error}: {message}"));
                commands += 1;
            }
        }
    }
    assert!(events.len() >= 31 && commands >= 21, "{} kinds of events, {commands} commands", events.len());
}

#[test]
fn the_schemas_and_the_asyncapi_document_in_docs_are_those_of_the_program() {
    let mut files = vec![(docs().join("asyncapi.json"), asyncapi::asyncapi())];
    let folder = docs().join("schemas");
    files.extend(asyncapi::schemas().into_iter().map(|(kind, schema)| (folder.join(format!("{kind}.json")), schema)));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in &files {
            std::fs::write(file, text).unwrap();
        }
    }
    for (file, text) in &files {
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(kept == *text, "{} is stale: run `make openapi`", file.display());
    }
    let kept = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(kept, files.len() - 1, "a schema of nothing is in docs/schemas");
}

async fn what_the_program_tells_is_what_the_schemas_say(on: On) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    let settings = json!({"auto_improve": true, "locations": {"default": {"safety_stock": 1, "low_stock": 3}}});
    service.put("/v1/products/LAMP", settings).await.expect(201);
    service.batch("LAMP", "b", json!({"qty": 12, "expires_on": "2090-01-01"})).await;
    service.batch("LAMP", "c", json!({"qty": 10, "eta": "2080-01-01"})).await;
    service.order("whole", &[("LAMP", 4)]).await.expect(201);
    let waits =
        json!({"when_short": "backorder", "priority": 3, "lines": [{"sku": "LAMP", "qty": 40, "min_split": 2}]});
    service.put("/v1/orders/waits", waits).await.expect(201);
    let held = json!({"hold_seconds": 60, "when_short": "partial", "lines": [{"sku": "LAMP", "qty": 1}]});
    service.put("/v1/orders/held", held).await;
    service.order("much", &[("LAMP", 1_000)]).await.expect(409);
    service.post("/v1/orders/whole/pick", json!({})).await.expect(200);
    service.post_once("/v1/orders/whole/shipments", "k1", json!({})).await.expect(200);
    let back = json!({"lines": [{"sku": "LAMP", "qty": 1}]});
    service.post_once("/v1/orders/whole/returns", "k2", back).await.expect(200);
    service.put("/v1/products/LAMP/batches/c", json!({"qty": 3, "eta": "2081-01-01"})).await.expect(200);
    service.post("/v1/products/LAMP/batches/c/receipts", json!({"qty": 2})).await.expect(200);
    service.patch("/v1/orders/waits/lines/LAMP", json!({"qty": 30})).await.expect(200);
    service.delete("/v1/orders/waits").await.expect(200);
    let schemas = schemas();
    let page = allocation_testing::eventually("all events", async || {
        let page = service.get("/v1/events?limit=1000").await.expect(200).json();
        let cancelled = |placed: &Value| placed["event"]["type"] == "allocation.line_cancelled.v1";
        page["events"].as_array()?.iter().any(cancelled).then_some(page)
    })
    .await;
    let events = page["events"].as_array().unwrap();
    for placed in events {
        assert_valid(&schemas, &placed["event"].to_string());
    }
    let kinds: BTreeSet<&str> = events.iter().filter_map(|placed| placed["event"]["type"].as_str()).collect();
    assert!(kinds.len() >= 15, "{kinds:?}");
}
