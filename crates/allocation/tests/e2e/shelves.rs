//! What is found of batches in the warehouse: rules 18 and 22, rule 15 where stock has left or was corrected, and rule 26 where it comes back.

use serde_json::{Value, json};

use crate::support::{Answer, On, Service, displaced, lamps, on_both_stores};

on_both_stores!(
    a_declaration_moves_stock_by_the_difference_and_adjustments_survive,
    what_was_shipped_stays_shipped_when_its_batch_is_declared_anew,
    quarantine_takes_free_units_first_and_then_places,
    a_line_that_must_stay_whole_loses_its_place_to_quarantine_whole,
    release_feeds_the_queue_and_old_placements_do_not_come_back,
    no_more_is_set_aside_or_released_than_there_is,
    what_is_damaged_is_free_first_then_placed_and_set_aside_last,
    what_is_found_feeds_the_queue,
    a_recount_counts_what_is_set_aside_too,
    an_adjustment_says_what_and_why,
    an_adjustment_declares_nothing,
    out_of_stock_is_told_again_after_stock_has_come_back,
);

/// What becomes of batch `b`.
const B: &str = "/v1/products/LAMP/batches/b";

async fn quarantine(service: &Service, some: Value) -> Answer {
    service.post(&format!("{B}/quarantine"), some).await
}

async fn release(service: &Service, some: Value) -> Answer {
    service.post(&format!("{B}/release"), some).await
}

async fn adjust(service: &Service, kind: &str, qty: u64) -> Answer {
    let adjustment = json!({"kind": kind, "qty": qty, "reason": "seen"});
    service.post_new(&format!("{B}/adjustments"), adjustment).await
}

async fn declare(service: &Service, qty: u64) -> Answer {
    service.put(B, json!({"qty": qty})).await
}

/// A batch in an answer: what was declared; its units, and how many of them are set aside, allocated and free.
fn numbers(answer: Answer) -> [u64; 5] {
    let batch = answer.expect(200).json();
    ["qty", "units", "unavailable", "allocated", "free"].map(|name| batch[name].as_u64().unwrap())
}

/// Who lost a place, in short.
fn losers(answer: Answer) -> Vec<String> {
    displaced(&answer.expect(200).json())
}

fn refused(answer: Answer, name: &str) {
    assert_eq!(answer.expect(409).json()["type"], format!("urn:allocation:problem:{name}"));
}

async fn a_declaration_moves_stock_by_the_difference_and_adjustments_survive(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    assert_eq!(numbers(adjust(&service, "damaged", 2).await), [10, 8, 0, 4, 4]);
    let version = service.version("LAMP").await;
    assert_eq!(numbers(declare(&service, 10).await), [10, 8, 0, 4, 4], "the same again does nothing");
    assert_eq!(service.version("LAMP").await, version);
    assert_eq!(numbers(declare(&service, 15).await), [15, 13, 0, 4, 9]);
    assert_eq!(numbers(declare(&service, 9).await), [9, 7, 0, 4, 3]);
    assert_eq!(numbers(adjust(&service, "found", 3).await), [9, 10, 0, 4, 6]);
    assert_eq!(numbers(quarantine(&service, json!({"qty": 2})).await), [9, 10, 2, 4, 4]);
    assert_eq!(losers(declare(&service, 3).await), ["o1 2: waiting 2"]);
    assert_eq!(numbers(declare(&service, 0).await), [0, 1, 1, 0, 0], "set aside, it goes last");
    assert_eq!(
        service.history("LAMP", version).await[..4],
        [
            "batch_quantity_changed b 10 15",
            "batch_quantity_changed b 15 9",
            "batch_adjusted b found 7 10 seen",
            "batch_quarantined 2 b"
        ]
    );
    store.assert_balanced().await;
}

async fn what_was_shipped_stays_shipped_when_its_batch_is_declared_anew(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    service.post_new("/v1/orders/o1/shipments", json!({})).await.expect(200);
    assert_eq!(numbers(declare(&service, 10).await), [10, 6, 0, 0, 6]);
    assert_eq!(numbers(declare(&service, 12).await), [12, 8, 0, 0, 8]);
    let version = service.version("LAMP").await;
    refused(declare(&service, 3).await, "too-many");
    refused(service.put(B, json!({"qty": 3, "eta": null})).await, "too-many");
    assert_eq!(service.version("LAMP").await, version);
    assert_eq!(numbers(declare(&service, 4).await), [4, 0, 0, 0, 0]);
    assert_eq!(service.fate("o1").await, "shipped: shipped 4");
    assert_eq!(numbers(declare(&service, 5).await), [5, 1, 0, 0, 1]);
    store.assert_balanced().await;
}

async fn quarantine_takes_free_units_first_and_then_places(on: On) {
    let (store, service) = lamps(on, &[("b", 30, "")]).await;
    service.ask("o1", 10, json!({})).await.expect(201);
    service.ask("o2", 10, json!({"priority": 5})).await.expect(201);
    service.ask("h", 5, json!({"priority": 9, "hold_seconds": 600})).await.expect(201);
    let aside = async |qty: u64| losers(quarantine(&service, json!({"qty": qty})).await);
    assert!(aside(5).await.is_empty(), "free units go first");
    assert_eq!(aside(2).await, ["h 2: lapsed"]);
    assert!(aside(3).await.is_empty(), "what the hold had is free");
    assert_eq!(aside(4).await, ["o1 4: waiting 4"]);
    service.post("/v1/orders/o1/pick", json!({})).await.expect(200);
    assert_eq!(aside(1).await, ["o2 1: waiting 1"], "who is being picked goes last");
    let before = service.version("LAMP").await;
    // Left out, all of it.
    for last in [vec!["o2 9: waiting 9", "o1 6: waiting 6"], vec![]] {
        let batch = quarantine(&service, json!({})).await;
        assert_eq!(displaced(&batch.json()), last);
        assert_eq!(numbers(batch), [30, 30, 30, 0, 0]);
    }
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "batch_quarantined 15 b",
            "line_deallocated o2 9 b displaced",
            "line_deallocated o1 6 b displaced",
            "line_backordered o2 9 displaced",
            "line_backordered o1 6 displaced",
        ]
    );
    let product = service.product("LAMP").await;
    let units = ["on_hand", "unavailable", "available", "promisable"].map(|name| product[name].as_u64().unwrap());
    assert_eq!(units, [30, 30, 0, 0]);
    assert_eq!(service.products().await, [product]);
    store.assert_balanced().await;
}

async fn a_line_that_must_stay_whole_loses_its_place_to_quarantine_whole(on: On) {
    let (store, service) = lamps(on, &[("b", 9, "")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    service.ask("whole", 5, json!({"split": false})).await.expect(201);
    service.post("/v1/orders/whole/pick", json!({})).await.expect(200);
    assert_eq!(losers(quarantine(&service, json!({"qty": 4})).await), ["o1 4: waiting 4"]);
    let batch = quarantine(&service, json!({"qty": 1})).await.expect(200).json();
    assert_eq!(displaced(&batch), ["whole 5: waiting 5"]);
    assert_eq!(service.fate("o1").await, "allocated: b 4", "the next in the queue has what it leaves");
    store.assert_balanced().await;
}

async fn release_feeds_the_queue_and_old_placements_do_not_come_back(on: On) {
    let (store, service) = lamps(on, &[("b", 10, ""), ("c", 8, "2031-01-01")]).await;
    service.ask("o1", 6, json!({})).await.expect(201);
    assert_eq!(losers(quarantine(&service, json!({})).await), ["o1 6: c 6"]);
    service.queue_up("w", 6).await;
    assert_eq!(service.fate("w").await, "backordered: c 2, waiting 4");
    let before = service.version("LAMP").await;
    assert_eq!(numbers(release(&service, json!({"qty": 3})).await), [10, 10, 7, 3, 0]);
    // Left out, all of it.
    for _ in 0..2 {
        assert_eq!(numbers(release(&service, json!({})).await), [10, 10, 0, 4, 6]);
    }
    assert_eq!(service.fate("w").await, "allocated: b 4, c 2");
    assert_eq!(service.fate("o1").await, "allocated: c 6");
    let told = service.history("LAMP", before).await;
    assert_eq!(told, ["batch_released 3 b", "line_allocated w 3 b", "batch_released 7 b", "line_allocated w 1 b"]);
    store.assert_balanced().await;
}

async fn no_more_is_set_aside_or_released_than_there_is(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.ask("o1", 2, json!({})).await.expect(201);
    quarantine(&service, json!({"qty": 4})).await.expect(200);
    let before = service.version("LAMP").await;
    refused(quarantine(&service, json!({"qty": 7})).await, "too-many");
    refused(release(&service, json!({"qty": 5})).await, "too-many");
    for command in ["quarantine", "release"] {
        let post = async |path: &str, body: Value| service.post(&format!("{path}/{command}"), body).await;
        post(B, json!({"qty": 0})).await.expect(422);
        post(B, json!({"units": 1})).await.expect(422);
        post("/v1/products/LAMP/batches/none", json!({})).await.expect(404);
        post("/v1/products/NONE/batches/b", json!({})).await.expect(422);
    }
    assert_eq!(service.version("LAMP").await, before);
    release(&service, json!({"qty": 4})).await.expect(200);
    refused(release(&service, json!({"qty": 1})).await, "too-many");
    store.assert_balanced().await;
}

async fn what_is_damaged_is_free_first_then_placed_and_set_aside_last(on: On) {
    let (store, service) = lamps(on, &[("b", 16, ""), ("c", 1, "2031-01-01")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    service.ask("o2", 4, json!({})).await.expect(201);
    quarantine(&service, json!({"qty": 3})).await.expect(200);
    let before = service.version("LAMP").await;
    assert_eq!(numbers(adjust(&service, "damaged", 4).await), [16, 12, 3, 9, 0]);
    assert_eq!(losers(adjust(&service, "damaged", 3).await), ["o2 3: c 1 waiting 2"]);
    assert_eq!(losers(adjust(&service, "damaged", 6).await), ["o1 5: waiting 5", "o2 1: waiting 1"]);
    assert_eq!(numbers(adjust(&service, "damaged", 1).await), [16, 2, 2, 0, 0]);
    refused(adjust(&service, "damaged", 3).await, "too-many");
    assert_eq!(numbers(adjust(&service, "damaged", 2).await), [16, 0, 0, 0, 0]);
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "batch_adjusted b damaged 16 12 seen",
            "batch_adjusted b damaged 12 9 seen",
            "line_deallocated o2 3 b displaced",
            "line_allocated o2 1 c",
            "line_backordered o2 2 displaced",
            "promise_changed o2 on_hand none",
            "batch_adjusted b damaged 9 3 seen",
            "line_deallocated o1 5 b displaced",
            "line_deallocated o2 1 b displaced",
            "line_backordered o1 5 displaced",
            "line_backordered o2 1 displaced",
            "promise_changed o1 on_hand none",
            "batch_adjusted b damaged 3 2 seen",
            "batch_adjusted b damaged 2 0 seen",
        ]
    );
    store.assert_balanced().await;
}

async fn what_is_found_feeds_the_queue(on: On) {
    let (store, service) = lamps(on, &[("b", 0, "")]).await;
    service.queue_up("o1", 3).await;
    let before = service.version("LAMP").await;
    assert_eq!(numbers(adjust(&service, "found", 2).await), [0, 2, 0, 2, 0]);
    assert_eq!(numbers(adjust(&service, "found", 2).await), [0, 4, 0, 3, 1]);
    assert_eq!(
        service.history("LAMP", before).await,
        [
            "batch_adjusted b found 0 2 seen",
            "line_allocated o1 2 b",
            "batch_adjusted b found 2 4 seen",
            "line_allocated o1 1 b",
        ]
    );
    service.batch("LAMP", "b", json!({"qty": 999_999_999_996_u64})).await;
    refused(adjust(&service, "found", 1).await, "too-many");
    store.assert_balanced().await;
}

async fn a_recount_counts_what_is_set_aside_too(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    service.ask("o1", 5, json!({})).await.expect(201);
    quarantine(&service, json!({"qty": 3})).await.expect(200);
    let before = service.version("LAMP").await;
    assert_eq!(numbers(adjust(&service, "recount", 10).await), [10, 10, 3, 5, 2]);
    assert_eq!(service.version("LAMP").await, before, "it is as counted");
    assert_eq!(numbers(adjust(&service, "recount", 8).await), [10, 8, 3, 5, 0]);
    assert_eq!(losers(adjust(&service, "recount", 7).await), ["o1 1: waiting 1"]);
    assert_eq!(losers(adjust(&service, "recount", 2).await), ["o1 4: waiting 4"]);
    assert_eq!(numbers(adjust(&service, "recount", 2).await), [10, 2, 2, 0, 0]);
    assert_eq!(numbers(adjust(&service, "recount", 0).await), [10, 0, 0, 0, 0]);
    assert_eq!(numbers(adjust(&service, "recount", 6).await), [10, 6, 0, 5, 1]);
    let told = service.history("LAMP", before).await;
    let counts: Vec<_> = told.iter().filter(|event| event.starts_with("batch_adjusted")).collect();
    let expected = ["10 8", "8 7", "7 2", "2 0", "0 6"].map(|count| format!("batch_adjusted b recount {count} seen"));
    assert_eq!(counts, expected.iter().collect::<Vec<_>>());
    store.assert_balanced().await;
}

async fn an_adjustment_says_what_and_why(on: On) {
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    let before = service.version("LAMP").await;
    let path = format!("{B}/adjustments");
    for (invalid, field) in [
        (json!({"qty": 1, "reason": "seen"}), "kind"),
        (json!({"kind": "lost", "qty": 1, "reason": "seen"}), "kind"),
        (json!({"kind": "found", "reason": "seen"}), "qty"),
        (json!({"kind": "found", "qty": 0, "reason": "seen"}), "qty"),
        (json!({"kind": "damaged", "qty": 1_000_000_001, "reason": "seen"}), "qty"),
        (json!({"kind": "recount", "qty": -1, "reason": "seen"}), "qty"),
        (json!({"kind": "damaged", "qty": 1}), "reason"),
        (json!({"kind": "damaged", "qty": 1, "reason": ""}), "reason"),
        (json!({"kind": "damaged", "qty": 1, "reason": "seen", "by": "me"}), "by"),
    ] {
        let problem = service.post_new(&path, invalid).await.expect(422).json();
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let good = json!({"kind": "damaged", "qty": 1, "reason": "seen"});
    service.post_new("/v1/products/LAMP/batches/none/adjustments", good.clone()).await.expect(404);
    service.post_new("/v1/products/NONE/batches/b/adjustments", good).await.expect(422);
    assert_eq!(service.version("LAMP").await, before);
    store.assert_balanced().await;
}

async fn an_adjustment_declares_nothing(on: On) {
    let (store, service) = lamps(on, &[]).await;
    let tag = |answer: Answer| answer.headers["etag"].to_str().unwrap().to_owned();
    let declared = tag(service.put(B, json!({"qty": 10})).await.expect(201));
    assert_eq!(tag(adjust(&service, "damaged", 2).await.expect(200)), declared);
    assert_eq!(tag(quarantine(&service, json!({"qty": 2})).await.expect(200)), declared);
    assert_eq!(tag(release(&service, json!({})).await.expect(200)), declared);
    let request = service.client.put(service.program.url(B)).header("If-Match", &declared).json(&json!({"qty": 11}));
    assert_eq!(numbers(Service::answer(request).await), [11, 9, 0, 0, 9]);
    store.assert_balanced().await;
}

async fn out_of_stock_is_told_again_after_stock_has_come_back(on: On) {
    let (store, service) = lamps(on, &[("b", 4, "")]).await;
    service.ask("o1", 4, json!({})).await.expect(201);
    // How often it has been told once one that is too large is refused.
    let told = async || {
        service.ask("o2", 9, json!({})).await.expect(409);
        let told = service.history("LAMP", 0).await;
        told.iter().filter(|event| event.starts_with("out_of_stock")).count()
    };
    assert_eq!([told().await, told().await], [1, 1]);
    service.post_new("/v1/orders/o1/shipments", json!({})).await.expect(200);
    let bring_back = async |to: &str| {
        let line = json!({"sku": "LAMP", "qty": 1, "to": to});
        service.post_new("/v1/orders/o1/returns", json!({"lines": [line]})).await.expect(200);
    };
    bring_back("quarantine").await;
    bring_back("scrap").await;
    assert_eq!(told().await, 1, "what is set aside or written off is no stock");
    bring_back("restock").await;
    assert_eq!([told().await, told().await], [2, 2]);
    release(&service, json!({})).await.expect(200);
    assert_eq!([told().await, told().await], [3, 3]);
    quarantine(&service, json!({"qty": 1})).await.expect(200);
    adjust(&service, "damaged", 1).await.expect(200);
    assert_eq!(told().await, 3);
    adjust(&service, "found", 1).await.expect(200);
    assert_eq!([told().await, told().await], [4, 4]);
    adjust(&service, "recount", 3).await.expect(200);
    assert_eq!([told().await, told().await], [5, 5]);
    store.assert_balanced().await;
}
