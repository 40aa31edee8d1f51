//! Archiving: events leave the log, and nothing that they came to is lost.

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::commands::{RepairBooks, ReturnTo, WhenShort};
use allocation_domain::{Command, Rejection};
use allocation_service_layer::archive::{ArchiveError, Archived, Archivist, HeldBack, STEP};
use allocation_service_layer::handlers::Reply;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::movements::Reading;
use allocation_service_layer::ports::archive::{Archive, Checkpoint, Removal};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{ProductRepository, Selection, StoreError, StoreResult, Transaction};
use allocation_service_layer::ports::event_log::{EventLog, Progress};
use allocation_service_layer::verify::{ProductBooks, product_told_by_events, verify};
use async_trait::async_trait;
use futures_util::future::join;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio_util::sync::CancellationToken;

use super::{Fixture, Store};
use crate::shorthand::{
    allocate, ask, bring_back, cancel_batch, change_quantity, confirm, create_batch, day, deallocate, hold, message,
    reference, ship, sku,
};

impl<S: Store> Fixture<S> {
    /// What archives the store's events.
    pub fn archivist(&self) -> Archivist {
        Archivist {
            log: Arc::new(self.store.clone()),
            archive: Arc::new(self.store.clone()),
            clock: self.clock.clone(),
            metrics: Metrics::new(),
            holder: "test".into(),
        }
    }

    /// Archives all there is but the newest event.
    pub async fn archive(&self) -> Archived {
        self.archive_before(datetime!(9000-01-01 00:00 UTC)).await
    }

    /// Archives what happened before an instant.
    pub async fn archive_before(&self, before: OffsetDateTime) -> Archived {
        while self.store.number(1_000).await.expect("the store works") > 0 {}
        let archived = self.archivist().archive(before, None, &CancellationToken::new()).await;
        archived.expect("the store works")
    }
}

/// Lines in every state there is, in a product that was sold out and is not any more.
async fn eventful<S: Store>(fixture: &Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "A", 20, None),
            create_batch("c", "A", 10, Some(day(3))),
            create_batch("gone", "A", 5, Some(day(4))),
            create_batch("b", "OTHER", 10, None),
            allocate("shipped", &[("A", 4), ("OTHER", 2)]),
            ship("shipped", "A", 4, None),
            bring_back("shipped", "A", 1, ReturnTo::Restock),
            allocate("cancelled", &[("A", 2)]),
            deallocate("cancelled", None),
            hold("lost", 3_600, &[("A", 3)]),
            hold("confirmed", 3_600, &[("A", 22)]),
            confirm("confirmed"),
            allocate("refused", &[("A", 1_000)]),
            ask("waiting", WhenShort::Backorder, &[("A", 30)]),
            cancel_batch("gone", "A"),
            allocate("plain", &[("OTHER", 1)]),
            hold("held", 3_600, &[("OTHER", 2)]),
            change_quantity("b", "A", 18),
        ])
        .await;
}

/// What is stored of a product.
async fn books<S: Store>(fixture: &Fixture<S>, of: &str) -> ProductBooks {
    let mut tx = fixture.store.begin().await.expect("a transaction");
    let wanted = Selection { skus: [sku(of)].into(), ..Selection::default() };
    tx.load(&wanted).await.expect("the product");
    let books = tx.books(&sku(of)).await.expect("its books");
    tx.end().await.expect("an end");
    books
}

/// Wherever the history is cut, in the middle of a unit of work too, what is before it and what is after it come to the same as the whole.
pub async fn the_books_balance_after_every_step_of_archiving<S: Store>(fixture: Fixture<S>) {
    eventful(&fixture).await;
    let events = fixture.events().await.len() as u64;
    let told = async |of| product_told_by_events(&books(&fixture, of).await).expect("a log that can be true");
    let before = (told("A").await, told("OTHER").await);
    fixture.store.introduce("slow", 0).await.expect("an introduction");
    for until in 1..events {
        // A sink that has seen so much lets so much be archived.
        fixture.store.advance("slow", until).await.expect("an advance");
        assert_eq!(fixture.archive().await.events, 1, "event {until}");
        fixture.assert_balanced().await;
        assert_eq!((told("A").await, told("OTHER").await), before, "event {until}");
        let page = EventLog::read(&fixture.store, until, 1_000).await.expect("a page");
        assert_eq!((page.kept_after, page.events.len() as u64), (until, events - until));
    }
    let findings = verify(&fixture.store).await.expect("the store works");
    assert_eq!((findings.events, findings.archived), (1, events - 1));
    let more = bring_back("shipped", "A", 1, ReturnTo::Quarantine);
    fixture.handle([confirm("held"), more, create_batch("d", "A", 50, None)]).await;
    fixture.assert_balanced().await;
}

/// Over many steps, of many products, each of which has been archived before.
pub async fn archiving_goes_on_where_it_ended<S: Store>(fixture: Fixture<S>) {
    let skus: Vec<String> = (0..20).map(|n| format!("S{n}")).collect();
    fixture.handle(skus.iter().map(|of| create_batch("b", of, 10_000, None))).await;
    for round in 0..3 {
        let messages: Vec<_> = (0..STEP)
            .map(|n| {
                message(allocate(&format!("o{round}-{n}"), &[(skus[n % 20].as_str(), 1), (skus[n % 7].as_str(), 2)]))
            })
            .collect();
        for handled in fixture.bus().handle_batch(&messages).await {
            handled.expect("the store works").expect("there is enough");
        }
        let there = fixture.events().await.len() as u64;
        assert_eq!(fixture.archive().await, Archived { events: there - 1, held_back: None });
        assert_eq!(fixture.archive().await, Archived::default(), "the newest stays");
        fixture.assert_balanced().await;
    }
}

/// And the first that is not, with all that come after it.
pub async fn only_what_is_old_leaves_the_log<S: Store>(fixture: Fixture<S>) {
    let began = fixture.clock.now();
    for n in 0..10 {
        fixture.handle([create_batch("b", &format!("S{n}"), 1, None)]).await;
        fixture.clock.advance(Duration::from_mins(1));
    }
    let minute = |n: i64| began + time::Duration::minutes(n);
    for (before, archived) in [(0, 0), (1, 1), (1, 0), (4, 3), (2, 0), (7, 3)] {
        let done = fixture.archive_before(minute(before)).await;
        assert_eq!(done, Archived { events: archived, held_back: None }, "minute {before}");
    }
    let page = EventLog::read(&fixture.store, 7, 10).await.expect("a page");
    assert_eq!((page.kept_after, page.events.len()), (7, 3));
    fixture.assert_balanced().await;
}

/// Whichever it is, and it is told which.
pub async fn what_a_sink_has_not_seen_stays_in_the_log<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "A", 100, None), create_batch("b", "B", 100, None)]).await;
    let at = fixture.clock.now();
    fixture.handle((0..10).map(|n| allocate(&format!("o{n}"), &[("A", 1), ("B", 1)]))).await;
    assert_eq!(fixture.events().await.len(), 22);
    fixture.store.introduce("quick", 22).await.expect("an advance");
    fixture.store.introduce("slow", 5).await.expect("an advance");
    let held_back = HeldBack { sink: "slow".into(), position: 6, at };
    assert_eq!(fixture.archive().await, Archived { events: 5, held_back: Some(held_back) });
    let page = EventLog::read(&fixture.store, 5, 100).await.expect("a page");
    assert_eq!((page.kept_after, page.events.len()), (5, 17));
    fixture.store.introduce("new", 5).await.expect("an introduction");
    fixture.store.advance("slow", 22).await.expect("an advance");
    assert_eq!(fixture.archive().await.events, 0);
    assert!(fixture.store.forget("new").await.expect("an answer"));
    assert_eq!(fixture.archive().await, Archived { events: 16, held_back: None });
    fixture.assert_balanced().await;
}

/// Until it is forgotten; one that is known stays where it is.
pub async fn a_sink_that_is_new_is_known_from_then_on<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    let known = async || store.sinks().await.expect("sinks");
    let at = |name: &str, position| Progress { name: name.to_owned(), position };
    assert_eq!(known().await, []);
    assert!(store.introduce("one", 7).await.expect("an introduction"));
    assert!(store.introduce("a", 0).await.expect("an introduction"));
    assert!(!store.introduce("one", 3).await.expect("an introduction"));
    assert!(!store.introduce("a", 3).await.expect("an introduction"));
    assert_eq!(known().await, [at("a", 0), at("one", 7)]);
    assert!(store.forget("one").await.expect("an answer"));
    assert!(!store.forget("one").await.expect("an answer"));
    assert_eq!(known().await, [at("a", 0)]);
}

/// With its present state, and no unit is promised twice (rules 9 and 21).
pub async fn an_old_request_is_answered_when_its_events_are_archived<S: Store>(fixture: Fixture<S>) {
    eventful(&fixture).await;
    fixture.archive().await;
    let version = async || (fixture.product("A").await.version(), fixture.product("OTHER").await.version());
    let before = version().await;
    let again = [
        allocate("shipped", &[("A", 4), ("OTHER", 2)]),
        allocate("plain", &[("OTHER", 1)]),
        ask("waiting", WhenShort::Backorder, &[("A", 30)]),
        allocate("cancelled", &[("A", 2)]),
        allocate("shipped", &[("A", 5), ("OTHER", 2)]),
        create_batch("b", "A", 20, None),
    ];
    let answers = fixture.handle(again).await;
    let old = |answer: &Result<Reply, Rejection>| matches!(answer, Ok(Reply::Order(reply)) if !reply.created);
    assert!(answers[..3].iter().all(old), "{answers:?}");
    assert!(answers[3..].iter().all(Result::is_err), "{answers:?}");
    assert_eq!(version().await, before);
    let back = |units| bring_back("shipped", "A", units, ReturnTo::Scrap);
    let answers = fixture.handle([ship("shipped", "A", 1, None), back(4), back(3)]).await;
    assert!(answers[0].is_err() && answers[1].is_err() && answers[2].is_ok(), "{answers:?}");
    fixture.assert_balanced().await;
}

/// As if nothing had been archived.
pub async fn tables_are_mended_from_what_was_archived<S: Store>(fixture: Fixture<S>) {
    eventful(&fixture).await;
    fixture.archive().await;
    fixture.handle([allocate("after", &[("OTHER", 1)])]).await;
    for of in ["A", "OTHER"] {
        let told = books(&fixture, of).await;
        let (_, balances) = product_told_by_events(&told).expect("a log that can be true");
        // Its lines are lost.
        let mut tx = fixture.store.begin().await.expect("a transaction");
        tx.load(&Selection { skus: [sku(of)].into(), ..Selection::default() }).await.expect("the product");
        tx.replace(told.product.as_ref().expect("a product")).await.expect("a replacement");
        tx.commit().await.expect("a commit");
        assert!(!verify(&fixture.store).await.expect("the store works").balanced());
        let mended = fixture.handle([Command::RepairBooks(RepairBooks { sku: sku(of) })]).await;
        assert!(matches!(&mended[0], Ok(Reply::Repaired(differences)) if !differences.is_empty()), "{mended:?}");
        assert_eq!(balances, []);
        fixture.assert_balanced().await;
    }
    fixture.archive().await;
    fixture.handle([confirm("held"), allocate("more", &[("OTHER", 1)])]).await;
    fixture.assert_balanced().await;
}

/// And says so.
pub async fn a_ledger_begins_where_archiving_ended<S: Store>(fixture: Fixture<S>) {
    eventful(&fixture).await;
    let read = async |batch: Option<&str>, after| {
        let batch = batch.map(reference);
        let begun = Reading::begin(&fixture.store, &sku("A"), batch.as_ref(), after).await.expect("the store works");
        let mut reading = begun.expect("it is known");
        let movements = reading.next(&fixture.store, 1_000).await.expect("the store works");
        (reading.archived(), movements)
    };
    let (archived, whole) = read(None, 0).await;
    assert_eq!(archived, None);
    fixture.events().await;
    fixture.store.introduce("slow", 12).await.expect("an advance");
    assert_eq!(fixture.archive().await.events, 12);
    let (archived, rest) = read(None, 0).await;
    let archived = archived.expect("some of it was archived");
    let kept: Vec<_> = whole.iter().filter(|movement| movement.sequence() > archived).cloned().collect();
    assert!(!kept.is_empty() && kept.len() < whole.len());
    assert_eq!(rest, kept);
    assert_eq!(read(None, archived).await, (None, kept.clone()));
    for batch in ["b", "c", "gone"] {
        let of_batch: Vec<_> = kept.iter().filter(|movement| movement.batch.as_str() == batch).cloned().collect();
        assert_eq!(read(Some(batch), 0).await, (Some(archived), of_batch), "batch {batch}");
    }
    fixture.handle([create_batch("later", "A", 9, None)]).await;
    assert_eq!(read(Some("later"), 0).await.1[0].topic(), "batch_created");
}

/// None is given twice.
pub async fn positions_go_on_after_everything_was_archived<S: Store>(fixture: Fixture<S>) {
    for n in 1..=5 {
        fixture.handle([create_batch("b", &format!("S{n}"), 1, None)]).await;
        let archived = fixture.archive().await.events;
        assert_eq!(archived, u64::from(n > 1));
        let page = EventLog::read(&fixture.store, n - 1, 10).await.expect("a page");
        assert_eq!((page.kept_after, page.events.len(), page.events[0].position), (n - 1, 1, n));
        assert_eq!(fixture.store.last_position().await.expect("a position"), n);
    }
    fixture.assert_balanced().await;
}

/// What it says is kept is what it begins with, whatever leaves the log meanwhile.
pub async fn a_page_of_the_log_is_of_one_moment<S: Store>(fixture: Fixture<S>) {
    let mut instants = Vec::new();
    for n in 0..30 {
        fixture.handle([create_batch("b", &format!("S{n}"), 1, None)]).await;
        fixture.clock.advance(Duration::from_secs(1));
        instants.push(fixture.clock.now());
    }
    fixture.events().await;
    let archivist = fixture.archivist();
    let archiving = async {
        for before in instants {
            archivist.step(before, None).await.expect("the store works");
        }
    };
    let reading = async {
        loop {
            let page = EventLog::read(&fixture.store, 0, 100).await.expect("a page");
            assert_eq!(page.events[0].position, page.kept_after + 1);
            if page.events.len() == 1 {
                break;
            }
        }
    };
    join(archiving, reading).await;
}

/// By the lease; and should that run out under its holder, by what the other has done.
pub async fn of_two_that_archive_at_once_one_is_refused<S: Store>(fixture: Fixture<S>) {
    fixture.handle((0..5).map(|n| create_batch("b", &format!("S{n}"), 1, None))).await;
    fixture.events().await;
    fixture.clock.advance(Duration::from_secs(1));
    let now = fixture.clock.now();
    fixture.store.lease("archive", "another", Duration::from_mins(1)).await.expect("an answer");
    let refused = fixture.archivist().archive(now, None, &CancellationToken::new()).await;
    assert!(matches!(refused, Err(ArchiveError::Busy)), "{refused:?}");
    fixture.store.release("archive", "another").await.expect("an answer");

    let archivist = fixture.archivist();
    let (one, other) = join(archivist.step(now, None), archivist.step(now, None)).await;
    let conflict = |step: &Result<Archived, StoreError>| matches!(step, Err(StoreError::Conflict(_)));
    // Both, or one after the other.
    let events: u64 = [&one, &other].iter().filter_map(|step| step.as_ref().ok()).map(|step| step.events).sum();
    assert_eq!(events, 4, "{one:?} {other:?}");
    assert!([&one, &other].iter().all(|step| step.is_ok() || conflict(step)), "{one:?} {other:?}");
    let stale = Removal { after: 0, until: 4, products: Vec::new() };
    let refused = fixture.store.take_out(&stale).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    fixture.assert_balanced().await;
}

/// An archive that another takes events out of before its checkpoints are read.
struct Overtaken {
    archive: Arc<dyn Archive>,
    by: Archivist,
}

#[async_trait]
impl Archive for Overtaken {
    async fn checkpoints(&self, wanted: &Selection) -> StoreResult<Vec<Checkpoint>> {
        self.by.step(self.by.clock.now(), None).await?;
        self.archive.checkpoints(wanted).await
    }

    async fn take_out(&self, removal: &Removal) -> StoreResult<()> {
        self.archive.take_out(removal).await
    }
}

/// It tries again, and does not take the log for untrue.
pub async fn who_is_overtaken_while_archiving_is_told_so<S: Store>(fixture: Fixture<S>) {
    fixture.handle((0..5).map(|n| create_batch("b", &format!("S{n}"), 1, None))).await;
    fixture.events().await;
    fixture.clock.advance(Duration::from_secs(1));
    let archivist = fixture.archivist();
    let archive = Arc::new(Overtaken { archive: archivist.archive.clone(), by: fixture.archivist() });
    let refused = Archivist { archive, ..archivist }.step(fixture.clock.now(), None).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    fixture.assert_balanced().await;
}

/// And are none the worse for it.
pub async fn orders_come_in_while_events_are_archived<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "A", 10_000, None)]).await;
    let bus = fixture.bus();
    let ordering = async {
        for n in 0..40 {
            let messages: Vec<_> = (0..50).map(|m| message(allocate(&format!("o{n}-{m}"), &[("A", 1)]))).collect();
            for handled in bus.handle_batch(&messages).await {
                handled.expect("the store works").expect("there is enough");
            }
        }
    };
    let archiving = async {
        let mut archived = 0;
        for _ in 0..40 {
            archived += fixture.archive().await.events;
            tokio::task::yield_now().await;
        }
        archived
    };
    let ((), archived) = join(ordering, archiving).await;
    let rest = fixture.archive().await.events;
    assert_eq!(archived + rest, 2_000);
    assert_eq!(fixture.product("A").await.available(), 8_000);
    fixture.assert_balanced().await;
}
