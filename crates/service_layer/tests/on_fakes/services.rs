//! The service layer against fakes: what the system does, without any store, broker or web.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use allocation_domain::commands::{LineChange, WhenShort};
use allocation_domain::product::Declared;
use allocation_domain::{
    AcceptedLine, Batch, BatchRef, Command, Event, LineKey, OrderId, PartKey, Product, Rejection, Seniority, Sku, Terms,
};
use allocation_service_layer::group_commit::{Commands, HandlerError, Lane, LaneHandle, Limits};
use allocation_service_layer::handlers::{BatchReply, OrderReply, Reply, Verdict};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::database::{
    Database, DueBy, HeldFor, NotedBalances, ProductChanges, ProductRepository, RecordedEvent, RequestKey, Selection,
    StoreError, StoreResult, Transaction, Units,
};
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::reader::{LineFilter, Reader};
use allocation_service_layer::verify::ProductBooks;
use allocation_service_layer::views;
use allocation_service_layer::wire::parse_event;
use allocation_service_layer::{MessageBus, TimeZones, Usual};
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::{FakeDatabase, FakeTransaction};
use allocation_testing::shorthand::{
    allocate, ask_on, change_eta, change_line, change_quantity, create_batch, day, deallocate, declare_batch,
    keep_back, message, order, qty, sku,
};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

fn fixture() -> Fixture<FakeDatabase> {
    let clock = Arc::new(ManualClock::new());
    Fixture { store: FakeDatabase::new(clock.clone()), clock, keep: None }
}

/// A fixture on which these commands were handled.
async fn after(commands: impl IntoIterator<Item = Command>) -> Fixture<FakeDatabase> {
    let fixture = fixture();
    for verdict in fixture.handle(commands).await {
        verdict.expect("part of the set-up");
    }
    fixture
}

/// Handles one command.
async fn one(fixture: &Fixture<FakeDatabase>, command: Command) -> Verdict {
    fixture.handle([command]).await.remove(0)
}

fn of_order(verdict: Verdict) -> OrderReply {
    match verdict {
        Ok(Reply::Order(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn of_batch(verdict: Verdict) -> BatchReply {
    match verdict {
        Ok(Reply::Batch(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

async fn names(fixture: &Fixture<FakeDatabase>) -> Vec<&'static str> {
    fixture.events().await.iter().map(|(_, _, event)| event.name()).collect()
}

// ---- Promising ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_order_over_several_products_is_promised_with_dates() {
    let fixture = after([create_batch("b", "TABLE", 10, None), create_batch("b", "CHAIR", 10, Some(day(3)))]).await;
    let reply = of_order(one(&fixture, allocate("o1", &[("TABLE", 2), ("CHAIR", 8)])).await);
    assert!(reply.created);
    let lines: Vec<_> = reply.lines.iter().map(|l| (l.sku.as_str(), l.state, l.promised_date)).collect();
    assert_eq!(lines, [("CHAIR", "allocated", Some(day(3))), ("TABLE", "allocated", Some(day(0)))]);
}

#[tokio::test]
async fn one_short_line_leaves_the_whole_order_unpromised() {
    let fixture = after([create_batch("b", "TABLE", 10, None), create_batch("b", "CHAIR", 1, None)]).await;
    let verdict = one(&fixture, allocate("o1", &[("TABLE", 2), ("CHAIR", 8)])).await;
    let Err(Rejection::Short(short)) = verdict else { panic!("{verdict:?}") };
    assert_eq!(short.iter().map(|s| s.sku.as_str()).collect::<Vec<_>>(), ["CHAIR"]);
    assert!(fixture.lines_of("o1").await.is_empty(), "a rejected request leaves no line behind");
    assert_eq!(names(&fixture).await, ["BatchCreated", "BatchCreated", "OutOfStock"]);
}

#[tokio::test]
async fn an_unknown_product_is_told_before_a_conflict_and_a_conflict_before_a_shortage() {
    let fixture = after([
        create_batch("b", "TABLE", 10, None),
        create_batch("b", "CHAIR", 1, None),
        allocate("o1", &[("TABLE", 2)]),
    ])
    .await;
    let unknown = one(&fixture, allocate("o1", &[("NONE", 1), ("TABLE", 3), ("CHAIR", 8)])).await;
    assert_eq!(unknown, Err(Rejection::UnknownSku(vec![sku("NONE")])));
    let conflict = one(&fixture, allocate("o1", &[("TABLE", 3), ("CHAIR", 8)])).await;
    assert!(matches!(conflict, Err(Rejection::LineConflict(_))), "{conflict:?}");
    let short = one(&fixture, allocate("o1", &[("TABLE", 2), ("CHAIR", 8)])).await;
    assert!(matches!(short, Err(Rejection::Short(_))), "{short:?}");
}

#[tokio::test]
async fn the_same_order_again_is_answered_with_its_present_state() {
    let fixture = after([
        create_batch("b", "TABLE", 10, None),
        create_batch("c", "TABLE", 10, Some(day(4))),
        allocate("o1", &[("TABLE", 10)]),
        change_quantity("b", "TABLE", 9),
    ])
    .await;
    let before = fixture.events().await;
    let reply = of_order(one(&fixture, allocate("o1", &[("TABLE", 10)])).await);
    assert!(!reply.created);
    assert_eq!(reply.lines[0].placements[0].batch.as_str(), "c", "it has moved since");
    assert_eq!(fixture.events().await, before);
}

#[tokio::test]
async fn lines_may_be_added_to_an_order() {
    let fixture = after([create_batch("b", "TABLE", 10, None), create_batch("b", "CHAIR", 10, None)]).await;
    assert!(of_order(one(&fixture, allocate("o1", &[("TABLE", 1)])).await).created);
    let reply = of_order(one(&fixture, allocate("o1", &[("TABLE", 1), ("CHAIR", 1)])).await);
    assert!(reply.created);
    assert_eq!(views::order(&fixture.store, &fixture.bus(), &order("o1")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn out_of_stock_is_raised_once_for_each_product_that_ran_out() {
    let fixture = after([create_batch("b", "TABLE", 1, None), create_batch("b", "CHAIR", 1, None)]).await;
    for n in 0..5 {
        one(&fixture, allocate(&format!("o{n}"), &[("TABLE", 2), ("CHAIR", 2)])).await.unwrap_err();
    }
    let raised: Vec<_> = fixture
        .events()
        .await
        .into_iter()
        .filter(|(_, _, event)| matches!(event, Event::OutOfStock { asked: 2, available: 1 }))
        .map(|(sku, ..)| sku)
        .collect();
    assert_eq!(raised, ["CHAIR", "TABLE"]);
}

// ---- Taking back --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_change_that_there_is_not_enough_for_is_out_of_stock_and_changes_nothing_else() {
    let fixture = after([create_batch("b", "TABLE", 10, None), allocate("o1", &[("TABLE", 4)])]).await;
    let before = fixture.lines_of("o1").await;
    let more = LineChange { qty: Some(qty(20)), ..LineChange::default() };
    for _ in 0..2 {
        let refused = one(&fixture, change_line("o1", "TABLE", more)).await;
        assert!(matches!(refused, Err(Rejection::Short(_))), "{refused:?}");
    }
    assert_eq!(names(&fixture).await, ["BatchCreated", "Allocated", "OutOfStock"]);
    assert_eq!(fixture.lines_of("o1").await, before);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn a_whole_order_is_cancelled_over_all_its_products() {
    let fixture = after([
        create_batch("b", "TABLE", 10, None),
        create_batch("b", "CHAIR", 10, None),
        allocate("o1", &[("TABLE", 1), ("CHAIR", 1)]),
        deallocate("o1", None),
        deallocate("o1", None),
    ])
    .await;
    let states: Vec<_> = views::order(&fixture.store, &fixture.bus(), &order("o1"))
        .await
        .unwrap()
        .iter()
        .map(|line| line.state)
        .collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn an_order_is_cancelled_with_lines_that_came_just_before_it_in_the_same_batch() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let messages = [allocate("o1", &[("TABLE", 1)]), deallocate("o1", None)].map(message);
    let verdicts = fixture.bus().handle_batch(&messages).await;
    assert!(matches!(verdicts[1], Ok(Ok(Reply::Order(_)))), "{verdicts:?}");
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn what_was_never_ordered_is_told_by_name() {
    let fixture = after([create_batch("b", "TABLE", 10, None), allocate("o1", &[("TABLE", 1)])]).await;
    assert_eq!(one(&fixture, deallocate("o2", None)).await, Err(Rejection::UnknownOrder(order("o2"))));
    let line = one(&fixture, deallocate("o1", Some("CHAIR"))).await;
    assert_eq!(line, Err(Rejection::UnknownLine { order_id: order("o1"), sku: sku("CHAIR") }));
}

// ---- Supply -------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_declaration_creates_changes_or_does_nothing() {
    let fixture = fixture();
    let declared = async |units, eta| of_batch(one(&fixture, declare_batch("b", "TABLE", units, eta)).await).declared;
    assert_eq!(declared(10, Some(Some(day(3)))).await, Declared::New);
    assert_eq!(declared(10, None).await, Declared::Same, "nothing is said of the date");
    assert_eq!(declared(12, None).await, Declared::Changed);
    assert_eq!(declared(12, Some(Some(day(4)))).await, Declared::Changed);
    assert_eq!(declared(12, Some(None)).await, Declared::Changed, "it has arrived");
    assert_eq!(declared(12, Some(None)).await, Declared::Same);
    assert_eq!(names(&fixture).await.len(), 4);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn a_declaration_that_is_refused_changes_nothing_of_it() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let refused = one(&fixture, declare_batch("b", "TABLE", 3, Some(Some(day(3))))).await;
    assert!(matches!(refused, Err(Rejection::NotAllowed { .. })), "{refused:?}");
    assert_eq!(names(&fixture).await, ["BatchCreated"]);
}

#[tokio::test]
async fn a_new_batch_serves_whoever_waits_in_the_same_unit_of_work() {
    let fixture = after([
        create_batch("b", "TABLE", 30, None),
        allocate("o1", &[("TABLE", 10)]),
        allocate("o2", &[("TABLE", 20)]),
        change_quantity("b", "TABLE", 0),
        create_batch("c", "TABLE", 25, Some(day(1))),
    ])
    .await;
    let told = fixture.events().await;
    let last: Vec<_> = told.iter().rev().take(2).rev().map(|(_, _, event)| event.name()).collect();
    assert_eq!(last, ["BatchCreated", "Allocated"]);
    let lines =
        views::product_lines(&fixture.store, &fixture.bus(), &sku("TABLE"), &LineFilter::default(), None, 10).await;
    let states: Vec<_> = lines.unwrap().unwrap().iter().map(|line| line.state).collect();
    assert_eq!(states, ["backordered", "allocated"], "newest first");
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn a_batch_is_answered_as_it_is_once_the_queue_is_served() {
    let fixture = after([
        create_batch("b", "TABLE", 30, None),
        allocate("o1", &[("TABLE", 10)]),
        change_quantity("b", "TABLE", 0),
    ])
    .await;
    let reply = of_batch(one(&fixture, declare_batch("b", "TABLE", 12, None)).await);
    assert_eq!((reply.batch.allocated, reply.batch.free), (10, 2));
}

#[tokio::test]
async fn a_queue_longer_than_a_page_is_served_to_its_end() {
    let fixture = after([create_batch("b", "TABLE", 10_000, None)]).await;
    let messages: Vec<_> = (0..2_500).map(|n| message(allocate(&format!("o{n}"), &[("TABLE", 1)]))).collect();
    fixture.bus().handle_batch(&messages).await;
    for verdict in fixture.handle([change_quantity("b", "TABLE", 0), change_quantity("b", "TABLE", 2_400)]).await {
        verdict.unwrap();
    }
    let product = fixture.product("TABLE").await;
    assert_eq!(product.backordered(), 100);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn commands_about_what_is_unknown_are_refused() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    assert!(matches!(one(&fixture, change_quantity("b", "NONE", 1)).await, Err(Rejection::UnknownSku(_))));
    assert!(matches!(one(&fixture, change_quantity("x", "TABLE", 1)).await, Err(Rejection::UnknownBatch { .. })));
    assert!(matches!(one(&fixture, change_eta("b", "NONE", None)).await, Err(Rejection::UnknownSku(_))));
    assert!(matches!(one(&fixture, change_eta("x", "TABLE", None)).await, Err(Rejection::UnknownBatch { .. })));
}

// ---- Numbers ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_products_numbers_add_up() {
    let fixture = after([
        create_batch("here", "TABLE", 10, None),
        create_batch("coming", "TABLE", 20, Some(day(2))),
        allocate("o1", &[("TABLE", 4)]),
        allocate("o2", &[("TABLE", 15)]),
    ])
    .await;
    let view = views::product(&fixture.store, &fixture.bus(), &sku("TABLE")).await.unwrap().unwrap();
    assert_eq!((view.numbers.on_hand, view.numbers.incoming, view.numbers.allocated), (10, 20, 19));
    assert_eq!((view.numbers.available, view.numbers.promisable, view.backordered), (6, 11, 0));
    assert_eq!(view.batches.iter().map(|batch| batch.free).collect::<Vec<_>>(), [6, 5]);
}

#[tokio::test]
async fn an_overdue_shipment_is_promised_for_tomorrow() {
    let fixture = after([create_batch("b", "TABLE", 10, Some(day(2))), allocate("o1", &[("TABLE", 1)])]).await;
    fixture.clock.advance(Duration::from_hours(5 * 24));
    let line = views::order(&fixture.store, &fixture.bus(), &order("o1")).await.unwrap().remove(0);
    assert_eq!(line.promised_date, Some(day(6)));
    assert_eq!(line.placements[0].eta, Some(day(2)));
}

// ---- Units of work ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn commands_in_one_unit_of_work_are_answered_one_by_one() {
    let fixture = after([create_batch("b", "TABLE", 3, None)]).await;
    let messages: Vec<_> = (0..5).map(|n| message(allocate(&format!("o{n}"), &[("TABLE", 1)]))).collect();
    let verdicts = fixture.bus().handle_batch(&messages).await;
    let promised: Vec<bool> = verdicts.iter().map(|verdict| matches!(verdict, Ok(Ok(_)))).collect();
    assert_eq!(promised, [true, true, true, false, false]);
    fixture.assert_balanced().await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_tried_again_and_counted() {
    let fixture = after([create_batch("b", "TABLE", 3, None)]).await;
    fixture.store.fail_commits((0..3).map(|_| StoreError::Conflict("told to".into())));
    let bus = fixture.bus();
    bus.handle(message(allocate("o1", &[("TABLE", 1)]))).await.unwrap().unwrap();
    assert_eq!(bus.metrics().retries.get(), 3);
    assert!(bus.metrics().encode().contains("allocation_retries_total 3"));
    fixture.assert_balanced().await;
}

#[tokio::test(start_paused = true)]
async fn conflicts_without_end_are_given_up() {
    let fixture = after([create_batch("b", "TABLE", 3, None)]).await;
    fixture.store.fail_commits((0..100).map(|_| StoreError::Conflict("told to".into())));
    let given_up = fixture.bus().handle(message(allocate("o1", &[("TABLE", 1)]))).await;
    assert!(matches!(given_up, Err(StoreError::Conflict(_))), "{given_up:?}");
}

#[tokio::test]
async fn a_unit_of_work_that_fails_is_run_again_one_command_at_a_time() {
    let fixture = after([create_batch("b", "TABLE", 3, None)]).await;
    // All three together fail; then the second of them alone.
    let fails = || StoreError::Failed("told to".into());
    fixture.store.fail_commits([fails()]);
    let messages: Vec<_> = (0..3).map(|n| message(allocate(&format!("o{n}"), &[("TABLE", 1)]))).collect();
    let verdicts = fixture.bus().handle_batch(&messages).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Ok(Ok(_)))), "{verdicts:?}");

    fixture.store.fail_commits([fails(), fails()]);
    let messages: Vec<_> = (0..3).map(|n| message(deallocate(&format!("o{n}"), None))).collect();
    let verdicts = fixture.bus().handle_batch(&messages).await;
    let worked: Vec<bool> = verdicts.iter().map(Result::is_ok).collect();
    assert_eq!(worked, [false, true, true]);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn events_carry_where_they_came_from() {
    let fixture = after([create_batch("b", "TABLE", 3, None)]).await;
    let page = EventLog::read(&fixture.store, 0, 1).await.unwrap();
    let body = &page.events[0].body;
    for part in [
        r#""specversion":"1.0""#,
        r#""type":"allocation.batch_created.v1""#,
        r#""subject":"TABLE""#,
        r#""time":"2011-01-02T12:00:00Z""#,
        r#""sequence":1"#,
        r#""correlation":"test""#,
        r#""actor":"test""#,
        r#""data":{"ref":"b","qty":3,"eta":null,"location":"default"}"#,
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert_eq!(parse_event(body).unwrap().id.get_version_num(), 7);
}

// ---- Group commit -------------------------------------------------------------------------------------------------

/// A store whose transactions begin only when the test lets them, and count.
#[derive(Clone)]
struct Gated {
    store: FakeDatabase,
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    panics: Arc<AtomicBool>,
    fails: Arc<AtomicUsize>,
}

/// What `Gated::fails` says.
const NOTHING: usize = 0;
const AT_BEGIN: usize = 1;
const BEFORE_COMMIT: usize = 2;
/// It is done, and nobody hears of it.
const AFTER_COMMIT: usize = 3;

impl Gated {
    fn new(store: FakeDatabase) -> Self {
        let (begun, panics, fails) = Default::default();
        Self { store, gate: Arc::new(Semaphore::new(0)), begun, panics, fails }
    }
}

struct GatedTransaction {
    tx: FakeTransaction,
    panics: bool,
    fails: usize,
}

fn told_to_fail() -> StoreError {
    StoreError::Unavailable("told to fail".into())
}

impl Database for Gated {
    type Tx = GatedTransaction;

    async fn begin(&self) -> StoreResult<GatedTransaction> {
        self.gate.acquire().await.expect("an open gate").forget();
        self.begun.fetch_add(1, Ordering::SeqCst);
        let (panics, fails) = (self.panics.swap(false, Ordering::SeqCst), self.fails.swap(NOTHING, Ordering::SeqCst));
        if fails == AT_BEGIN {
            return Err(told_to_fail());
        }
        Ok(GatedTransaction { tx: self.store.begin().await?, panics, fails })
    }
}

impl Transaction for GatedTransaction {
    fn now(&self) -> OffsetDateTime {
        self.tx.now()
    }

    async fn note(&mut self, balances: &[NotedBalances]) -> StoreResult<()> {
        self.tx.note(balances).await
    }

    async fn record(&mut self, events: &[RecordedEvent]) -> StoreResult<()> {
        self.tx.record(events).await
    }

    async fn request_keys(&mut self, keys: &[Arc<str>]) -> StoreResult<Vec<RequestKey>> {
        self.tx.request_keys(keys).await
    }

    async fn remember_keys(&mut self, keys: &[RequestKey]) -> StoreResult<()> {
        self.tx.remember_keys(keys).await
    }

    async fn holds_of(&mut self, holders: &[Arc<str>]) -> StoreResult<Vec<(Arc<str>, u64)>> {
        self.tx.holds_of(holders).await
    }

    async fn note_holds(&mut self, holds: &[HeldFor], ended: &[(Sku, LineKey)]) -> StoreResult<()> {
        self.tx.note_holds(holds, ended).await
    }

    async fn commit(self) -> StoreResult<()> {
        if self.fails == BEFORE_COMMIT {
            return Err(told_to_fail());
        }
        self.tx.commit().await?;
        if self.fails == AFTER_COMMIT { Err(told_to_fail()) } else { Ok(()) }
    }

    async fn end(self) -> StoreResult<()> {
        self.tx.end().await
    }
}

impl ProductRepository for GatedTransaction {
    async fn load(&mut self, wanted: &Selection) -> StoreResult<Vec<Product>> {
        assert!(!self.panics, "told to panic");
        self.tx.load(wanted).await
    }

    async fn lock(&mut self, known: &[(&Sku, u64)]) -> StoreResult<()> {
        self.tx.lock(known).await
    }

    async fn batches(&mut self, named: &[(Sku, BatchRef)]) -> StoreResult<Vec<(Sku, Batch)>> {
        self.tx.batches(named).await
    }

    async fn lines_of_orders(&mut self, orders: &[OrderId]) -> StoreResult<Vec<(Sku, LineKey)>> {
        self.tx.lines_of_orders(orders).await
    }

    async fn losers(
        &mut self,
        sku: &Sku,
        reference: &BatchRef,
        after: Option<&PartKey>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        self.tx.losers(sku, reference, after, limit).await
    }

    async fn waiting(
        &mut self,
        sku: &Sku,
        largest_free: u64,
        after: Option<Seniority>,
        limit: usize,
    ) -> StoreResult<Vec<Units>> {
        self.tx.waiting(sku, largest_free, after, limit).await
    }

    async fn due_lines(&mut self, products: &[DueBy]) -> StoreResult<Vec<(Sku, AcceptedLine)>> {
        self.tx.due_lines(products).await
    }

    async fn books(&mut self, sku: &Sku) -> StoreResult<ProductBooks> {
        self.tx.books(sku).await
    }

    async fn replace(&mut self, product: &Product) -> StoreResult<()> {
        self.tx.replace(product).await
    }

    async fn save(&mut self, changes: &[ProductChanges<'_>]) -> StoreResult<()> {
        self.tx.save(changes).await
    }
}

/// A lane over a gated store, with a table in ten units.
async fn lane(limits: Limits) -> (Gated, LaneHandle, Fixture<FakeDatabase>) {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let gated = Gated::new(fixture.store.clone());
    let handle = lane_over(gated.clone(), &fixture, limits);
    (gated, handle, fixture)
}

fn lane_over(gated: Gated, fixture: &Fixture<FakeDatabase>, limits: Limits) -> LaneHandle {
    let clock = fixture.clock.clone();
    let bus = MessageBus::new(gated, clock, Arc::new(CountingEntropy::default()), Metrics::new());
    let (lane, handle) = Lane::new(Arc::new(bus), limits);
    tokio::spawn(lane.run());
    handle
}

fn ask(handle: &LaneHandle, order_id: &str) -> tokio::task::JoinHandle<Result<Verdict, HandlerError>> {
    let (handle, message) = (handle.clone(), message(allocate(order_id, &[("TABLE", 1)])));
    tokio::spawn(async move { handle.handle(message).await })
}

/// Lets every task of the test's one thread go as far as it can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_waits_goes_together_into_the_next_unit_of_work() {
    let (gated, handle, fixture) = lane(Limits::default()).await;
    let first = ask(&handle, "o0");
    // The lane has taken the first and waits at the gate; the others gather behind it.
    settle().await;
    let others: Vec<_> = (1..6).map(|n| ask(&handle, &format!("o{n}"))).collect();
    settle().await;
    gated.gate.add_permits(2);
    first.await.unwrap().unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap().unwrap();
    }
    assert_eq!(gated.begun.load(Ordering::SeqCst), 2);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_cancels_nothing() {
    let (gated, handle, fixture) = lane(Limits::default()).await;
    let gone = ask(&handle, "o1");
    tokio::task::yield_now().await;
    gone.abort();
    let stays = ask(&handle, "o2");
    gated.gate.add_permits(2);
    stays.await.unwrap().unwrap().unwrap();
    assert_eq!(fixture.lines_of("o1").await.len(), 1, "it was accepted, so it was done");
}

#[tokio::test]
async fn whoever_comes_when_the_queue_is_full_is_told_to_come_back() {
    let (gated, handle, _fixture) = lane(Limits { waiting: 2, batch: 1, ..Limits::default() }).await;
    let first = ask(&handle, "o0");
    settle().await;
    let waiting = [ask(&handle, "o1"), ask(&handle, "o2")];
    settle().await;
    let refused = handle.handle(message(allocate("o3", &[("TABLE", 1)]))).await;
    assert!(matches!(refused, Err(HandlerError::Overloaded)), "{refused:?}");
    gated.gate.add_permits(3);
    first.await.unwrap().unwrap().unwrap();
    for accepted in waiting {
        accepted.await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn whoever_has_waited_too_long_is_turned_away_before_any_work() {
    let (gated, handle, fixture) = lane(Limits { batch: 1, ..Limits::default() }).await;
    let first = ask(&handle, "o0");
    settle().await;
    let late = ask(&handle, "o1");
    settle().await;
    fixture.clock.advance(Duration::from_secs(6));
    gated.gate.add_permits(2);
    first.await.unwrap().unwrap().unwrap();
    assert!(matches!(late.await.unwrap(), Err(HandlerError::Overloaded)));
    assert!(fixture.lines_of("o1").await.is_empty());
}

#[tokio::test]
async fn a_handler_that_panics_takes_neither_its_neighbours_nor_the_lane_with_it() {
    let (gated, handle, fixture) = lane(Limits::default()).await;
    gated.panics.store(true, Ordering::SeqCst);
    gated.gate.add_permits(100);
    let failed = handle.handle(message(allocate("o0", &[("TABLE", 1)]))).await;
    assert!(matches!(failed, Err(HandlerError::Store(StoreError::Failed(_)))), "{failed:?}");
    handle.handle(message(allocate("o1", &[("TABLE", 1)]))).await.unwrap().unwrap();
    fixture.assert_balanced().await;
}

/// A lane that knows its product from an earlier order, and has one order at the gate and another decided on what that will leave.
async fn one_decided_ahead_of_another()
-> (Gated, Fixture<FakeDatabase>, [tokio::task::JoinHandle<Result<Verdict, HandlerError>>; 2]) {
    let (gated, handle, fixture) = lane(Limits::default()).await;
    gated.gate.add_permits(1);
    ask(&handle, "o0").await.unwrap().unwrap().unwrap();
    let first = ask(&handle, "o1");
    settle().await;
    let second = ask(&handle, "o2");
    settle().await;
    (gated, fixture, [first, second])
}

#[tokio::test]
async fn what_was_decided_ahead_needs_one_transaction_and_loads_nothing() {
    let (gated, fixture, [first, second]) = one_decided_ahead_of_another().await;
    // Whoever loads panics.
    gated.panics.store(true, Ordering::SeqCst);
    gated.gate.add_permits(2);
    first.await.unwrap().unwrap().unwrap();
    second.await.unwrap().unwrap().unwrap();
    assert_eq!(gated.begun.load(Ordering::SeqCst), 3);
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn what_was_decided_on_something_that_was_never_written_is_decided_anew() {
    for fails in [AT_BEGIN, BEFORE_COMMIT] {
        let (gated, fixture, [first, second]) = one_decided_ahead_of_another().await;
        gated.fails.store(fails, Ordering::SeqCst);
        gated.gate.add_permits(1);
        let failed = first.await.unwrap();
        assert!(matches!(failed, Err(HandlerError::Store(StoreError::Unavailable(_)))), "{failed:?}");
        // Another copy brings the product to the very version that the first would have left.
        fixture.handle([allocate("elsewhere", &[("TABLE", 5)])]).await.remove(0).unwrap();
        gated.gate.add_permits(1);
        second.await.unwrap().unwrap().unwrap();
        assert!(fixture.lines_of("o1").await.is_empty());
        assert_eq!(fixture.lines_of("o2").await.len(), 1);
        fixture.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_commit_of_which_nobody_knows_is_nothing_to_build_on() {
    let (gated, fixture, [first, second]) = one_decided_ahead_of_another().await;
    gated.fails.store(AFTER_COMMIT, Ordering::SeqCst);
    gated.gate.add_permits(2);
    assert!(first.await.unwrap().is_err());
    second.await.unwrap().unwrap().unwrap();
    assert_eq!(gated.begun.load(Ordering::SeqCst), 3, "the second was loaded, at once");
    assert_eq!((fixture.lines_of("o1").await.len(), fixture.lines_of("o2").await.len()), (1, 1));
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn what_was_decided_ahead_and_has_waited_too_long_is_turned_away() {
    let (gated, fixture, [first, second]) = one_decided_ahead_of_another().await;
    fixture.clock.advance(Duration::from_secs(6));
    gated.gate.add_permits(2);
    first.await.unwrap().unwrap().unwrap();
    assert!(matches!(second.await.unwrap(), Err(HandlerError::Overloaded)));
    assert!(fixture.lines_of("o2").await.is_empty());
    fixture.assert_balanced().await;
}

#[tokio::test]
async fn what_was_decided_ahead_does_not_overtake_one_that_has_failed() {
    let (gated, handle, fixture) = lane(Limits { batch: 1, ..Limits::default() }).await;
    gated.gate.add_permits(1);
    ask(&handle, "o0").await.unwrap().unwrap().unwrap();
    let page = ["o1", "o2"].map(|order| message(allocate(order, &[("TABLE", 1)]))).to_vec();
    let page = tokio::spawn(async move { handle.handle_all(page).await });
    settle().await;
    gated.fails.store(BEFORE_COMMIT, Ordering::SeqCst);
    gated.gate.add_permits(2);
    let verdicts = page.await.unwrap();
    assert!(matches!(verdicts[..], [Err(HandlerError::Store(_)), Err(HandlerError::Overtaking)]), "{verdicts:?}");
    assert!(fixture.lines_of("o2").await.is_empty());
    fixture.assert_balanced().await;
}

/// As in the contract of `who_waits_is_served_by_the_day`, six seconds around a midnight that is none by Universal Time.
#[tokio::test]
async fn a_kept_product_knows_what_day_it_is_where_it_is() {
    let newcomer = async |loaded: bool| {
        let fixture = fixture();
        fixture.clock.advance(Duration::from_secs(4 * 3_600 - 3));
        let east = TimeZone::fixed(jiff::tz::offset(8));
        let usual = Usual { time_zones: TimeZones::new(east, BTreeMap::new()), ..Usual::default() };
        let bus = || fixture.bus().with_usual(usual.clone());
        let mut knows = bus();
        for command in [
            keep_back("A", 4),
            create_batch("late", "A", 4, Some(day(1))),
            create_batch("next", "A", 1, Some(day(2))),
            create_batch("here", "A", 3, None),
            ask_on("o1", WhenShort::Backorder, &Terms::whole(), &[("A", 4)]),
        ] {
            knows.handle(message(command)).await.unwrap().unwrap();
        }
        fixture.clock.advance(Duration::from_secs(6));
        if loaded {
            knows = bus();
        }
        let verdict = knows.handle(message(allocate("newcomer", &[("A", 1)]))).await.unwrap();
        fixture.assert_balanced().await;
        (verdict, everything(&fixture).await)
    };
    assert_eq!(newcomer(false).await, newcomer(true).await);
}

#[tokio::test]
async fn whoever_comes_when_the_lane_has_gone_is_told_that_the_service_is_stopping() {
    let fixture = after([create_batch("b", "TABLE", 10, None)]).await;
    let (lane, handle) = Lane::new(Arc::new(fixture.bus()), Limits::default());
    drop(lane);
    let stopping = handle.handle(message(allocate("o1", &[("TABLE", 1)]))).await;
    assert!(matches!(stopping, Err(HandlerError::Stopping)), "{stopping:?}");
    let all = handle.handle_all(vec![message(allocate("o2", &[("TABLE", 1)]))]).await;
    assert!(matches!(all[..], [Err(HandlerError::Stopping)]), "{all:?}");
}

// ---- Properties ---------------------------------------------------------------------------------------------------

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let name = || prop::sample::select(vec!["A", "B", "C"]);
    let batch = || prop::sample::select(vec!["b1", "b2", "b3"]);
    let order_id = || (0..12_u8).prop_map(|n| format!("o{n}"));
    let units = || 0..20_u64;
    let days = || prop::option::of(0..4_i64);
    let lines = prop::collection::vec((name(), 1..8_u64), 1..4);
    let command = prop_oneof![
        2 => (batch(), name(), units(), days()).prop_map(|(b, s, u, d)| create_batch(b, s, u, d.map(day))),
        2 => (batch(), name(), units(), prop::option::of(days()))
            .prop_map(|(b, s, u, d)| declare_batch(b, s, u, d.map(|d| d.map(day)))),
        2 => (batch(), name(), units()).prop_map(|(b, s, u)| change_quantity(b, s, u)),
        1 => (batch(), name(), days()).prop_map(|(b, s, d)| change_eta(b, s, d.map(day))),
        6 => (order_id(), lines).prop_map(|(id, lines)| allocate(&id, &lines)),
        2 => (order_id(), prop::option::of(name())).prop_map(|(id, s)| deallocate(&id, s)),
    ];
    prop::collection::vec(command, 1..40)
}

/// Everything that a store says of three products and their orders, as text.
async fn everything(fixture: &Fixture<FakeDatabase>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    fixture
        .store
        .audit(&mut |books| {
            let product = books.product.map(|product| (product.version(), format!("{:?}", product.batches())));
            all.insert(books.sku.to_string(), format!("{product:?} {:?}", books.lines));
        })
        .await
        .unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_rejected_command_leaves_every_product_as_it_was(commands in commands()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let fixture = fixture();
            for command in commands {
                let (before, told) = (everything(&fixture).await, fixture.events().await.len());
                let verdict = one(&fixture, command).await;
                let new: Vec<_> = fixture.events().await.split_off(told);
                if verdict.is_err() && new.is_empty() {
                    prop_assert_eq!(everything(&fixture).await, before);
                } else if verdict.is_err() {
                    let only = new.iter().all(|(_, _, event)| matches!(event, Event::OutOfStock { .. }));
                    prop_assert!(only, "{:?}", new);
                }
            }
            fixture.assert_balanced().await;
            Ok(())
        })?;
    }

    #[test]
    fn together_in_one_unit_of_work_or_each_in_its_own_makes_no_difference(commands in commands()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (apart, together) = (fixture(), fixture());
            let one_by_one = apart.handle(commands.clone()).await;
            let messages: Vec<_> = commands.into_iter().map(message).collect();
            let at_once: Vec<_> =
                together.bus().handle_batch(&messages).await.into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(one_by_one, at_once);
            prop_assert_eq!(everything(&apart).await, everything(&together).await);
            together.assert_balanced().await;
            Ok(())
        })?;
    }

    #[test]
    fn through_a_lane_that_decides_ahead_makes_no_difference(
        commands in commands(),
        batch in 1..5_usize,
        opens in prop::collection::vec(any::<bool>(), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (apart, through) = (fixture(), fixture());
            let one_by_one = apart.handle(commands.clone()).await;
            let gated = Gated::new(through.store.clone());
            let handle = lane_over(gated.clone(), &through, Limits { batch, ..Limits::default() });
            let mut asked = Vec::new();
            for (command, opens) in commands.into_iter().zip(opens) {
                let handle = handle.clone();
                asked.push(tokio::spawn(async move { handle.handle(message(command)).await }));
                if opens {
                    gated.gate.add_permits(1);
                }
                settle().await;
            }
            gated.gate.add_permits(1_000);
            for (asked, alone) in asked.into_iter().zip(one_by_one) {
                prop_assert_eq!(asked.await.unwrap().unwrap(), alone);
            }
            prop_assert_eq!(everything(&apart).await, everything(&through).await);
            through.assert_balanced().await;
            Ok(())
        })?;
    }

    #[test]
    fn a_store_that_fails_now_and_then_loses_nothing_that_a_lane_has_promised(
        commands in commands(),
        batch in 1..5_usize,
        happens in prop::collection::vec((any::<bool>(), NOTHING..=2 * AFTER_COMMIT, any::<bool>()), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let fixture = fixture();
            let gated = Gated::new(fixture.store.clone());
            let handle = lane_over(gated.clone(), &fixture, Limits { batch, ..Limits::default() });
            let mut asked = Vec::new();
            for (nth, (command, (opens, fails, elsewhere))) in commands.into_iter().zip(happens).enumerate() {
                let order = if let Command::Allocate(order) = &command { Some(order.order_id().to_string()) } else { None };
                let handle = handle.clone();
                asked.push((order, tokio::spawn(async move { handle.handle(message(command)).await })));
                settle().await;
                gated.fails.store(fails, Ordering::SeqCst);
                if elsewhere {
                    let _ = fixture.handle([allocate(&format!("elsewhere-{nth}"), &[("A", 1)])]).await;
                }
                if opens {
                    gated.gate.add_permits(1);
                }
                settle().await;
            }
            gated.gate.add_permits(1_000);
            for (order, asked) in asked {
                if let (Some(order), Ok(Ok(_))) = (order, asked.await.unwrap()) {
                    prop_assert!(!fixture.lines_of(&order).await.is_empty(), "{order} was promised");
                }
            }
            fixture.assert_balanced().await;
            Ok(())
        })?;
    }
}
