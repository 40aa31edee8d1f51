//! The ledger of movements: each event with what the batch came to by it, however long the history is.

use std::collections::BTreeMap;

use allocation_domain::commands::{
    AdjustBatch, Adjustment, LineOf, QuarantineBatch, ReleaseBatch, Return, ReturnItem, ReturnTo, Ship,
};
use allocation_domain::{BatchRef, Command, LineId, Product, Reason};
use allocation_service_layer::movements::{Balance, Balances, Changes, MOST_EVENTS, Movement, NOTED_EVERY, Reading};
use allocation_service_layer::ports::database::{ProductRepository, Selection, Transaction};
use allocation_service_layer::ports::reader::Reader;
use allocation_service_layer::verify::product_told_by_events;

use super::{Fixture, Store};
use crate::shorthand::{
    allocate, cancel_batch, change_eta, change_quantity, confirm, create_batch, day, deallocate, hold, message, order,
    qty, reference, sku,
};

/// Every movement of a product, or of one of its batches, read in pages of this size.
async fn movements(reader: &dyn Reader, of: &str, batch: Option<&BatchRef>, page: usize) -> Vec<Movement> {
    let (mut movements, mut after) = (Vec::new(), Some(0));
    while let Some(from) = after {
        // A reading of its own for each, as requests have.
        let begun = Reading::begin(reader, &sku(of), batch, from).await.expect("the store works");
        let mut reading = begun.expect("it is known");
        let found = reading.next(reader, page).await.expect("the store works");
        assert!(found.len() <= page && found.iter().all(|movement| movement.sequence() > from));
        after = reading.goes_on_after();
        assert!(after.is_none_or(|after| after > from), "it goes on");
        movements.extend(found);
    }
    movements
}

/// Fails the test unless each movement follows from the one of the same batch before it, the first from what was archived, and the last of each
/// is what the batch has.
fn assert_follow(archived: &Balances, movements: &[Movement], product: &Product) {
    let mut balances: BTreeMap<&BatchRef, Balance> = BTreeMap::new();
    let mut last = 0;
    for movement in movements {
        assert!(movement.sequence() > last, "oldest first");
        last = movement.sequence();
        let balance = balances.entry(&movement.batch).or_insert_with(|| archived.get(&movement.batch));
        let add = |number: u64, change: i64| number.checked_add_signed(change).expect("no fewer than none");
        *balance = Balance {
            units: add(balance.units, movement.changes.units),
            quarantined: add(balance.quarantined, movement.changes.quarantined),
            held: add(balance.held, movement.changes.held),
            allocated: add(balance.allocated, movement.changes.allocated),
        };
        assert_eq!(*balance, movement.balance, "{movement:?}");
    }
    for batch in product.batches().iter().filter(|batch| batch.is_open()) {
        let last = balances.remove(&batch.reference).unwrap_or_else(|| archived.get(&batch.reference));
        assert_eq!(last, Balance::from(batch), "batch {}", batch.reference);
    }
    for (reference, balance) in balances {
        assert_eq!(balance, Balance::default(), "nothing is left of batch {reference}");
    }
}

impl<S: Store> Fixture<S> {
    /// Fails the test when the ledger of any product does not lead to what its batches have.
    pub(super) async fn assert_ledgers_agree(&self) {
        for product in self.store.products(None, false, 1_000).await.expect("the store works") {
            assert_ledger_agrees(&self.store, &product).await;
        }
    }
}

/// The same for one product.
pub(super) async fn assert_ledger_agrees(reader: &dyn Reader, product: &Product) {
    let archived = reader.archived(product.sku()).await.expect("the store works");
    let archived = archived.map(|noted| Balances::from_json(&noted.body).expect("balances")).unwrap_or_default();
    let ledger = movements(reader, product.sku().as_str(), None, 1_000).await;
    assert_follow(&archived, &ledger, product);
}

/// A movement in short: name, batch, order, units, changes, and what the batch had then.
fn shown(movement: &Movement) -> String {
    let Changes { units, quarantined, held, allocated } = movement.changes;
    let balance = movement.balance;
    let order_id = movement.line().map_or("-", |line| line.order_id.as_str());
    format!(
        "{} {} {order_id} {}: {units:+} {quarantined:+} {held:+} {allocated:+} = {} {} {} {}",
        movement.topic(),
        movement.batch,
        movement.qty,
        balance.units,
        balance.quarantined,
        balance.held,
        balance.allocated
    )
}

/// Units, and of these the quarantined, the held and the allocated ones; and who caused it.
pub async fn each_movement_tells_what_its_batch_came_to<S: Store>(fixture: Fixture<S>) {
    let (of, b) = (|| sku("A"), || reference("b"));
    let reason = Reason::new("counted").expect("a good reason");
    let back = |units, to| {
        let of = LineOf { sku: of(), line: LineId::default() };
        let items = vec![ReturnItem { of, qty: qty(units), to, into: None }];
        Command::Return(Return { order_id: order("o"), items })
    };
    let verdicts = fixture
        .handle([
            create_batch("b", "A", 20, None),
            create_batch("c", "A", 10, Some(day(3))),
            hold("h", 60, &[("A", 5)]),
            confirm("h"),
            allocate("o", &[("A", 4)]),
            Command::QuarantineBatch(QuarantineBatch { sku: of(), reference: b(), qty: Some(qty(3)) }),
            Command::ReleaseBatch(ReleaseBatch { sku: of(), reference: b(), qty: Some(qty(1)) }),
            Command::Ship(Ship { order_id: order("o"), items: Vec::new() }),
            back(1, ReturnTo::Quarantine),
            back(2, ReturnTo::Restock),
            back(1, ReturnTo::Scrap),
            Command::AdjustBatch(AdjustBatch {
                sku: of(),
                reference: b(),
                adjustment: Adjustment::Damaged(qty(12)),
                reason,
            }),
            deallocate("h", None),
            change_eta("c", "A", Some(day(5))),
            cancel_batch("c", "A"),
        ])
        .await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    let ledger = movements(&fixture.store, "A", None, 1_000).await;
    let expected = [
        "batch_created b - 20: +20 +0 +0 +0 = 20 0 0 0",
        "batch_created c - 10: +10 +0 +0 +0 = 10 0 0 0",
        "line_held b h 5: +0 +0 +5 +0 = 20 0 5 0",
        "line_allocated b h 5: +0 +0 -5 +5 = 20 0 0 5",
        "line_allocated b o 4: +0 +0 +0 +4 = 20 0 0 9",
        "batch_quarantined b - 3: +0 +3 +0 +0 = 20 3 0 9",
        "batch_released b - 1: +0 -1 +0 +0 = 20 2 0 9",
        "line_shipped b o 4: -4 +0 +0 -4 = 16 2 0 5",
        "line_returned b o 1: +1 +1 +0 +0 = 17 3 0 5",
        "line_returned b o 2: +2 +0 +0 +0 = 19 3 0 5",
        "line_returned b o 1: +0 +0 +0 +0 = 19 3 0 5",
        "batch_adjusted b - 12: -12 +0 +0 +0 = 7 3 0 5",
    ];
    let told: Vec<String> = ledger.iter().map(shown).collect();
    assert_eq!(told[..expected.len()], expected);
    assert_eq!(told.last().map(String::as_str), Some("batch_cancelled c - 10: -10 +0 +0 +0 = 0 0 0 0"));
    assert_follow(&Balances::default(), &ledger, &fixture.product("A").await);
    for movement in &ledger {
        assert_eq!((movement.of.correlation.as_str(), movement.of.actor.as_str()), ("test", "test"));
    }
    for page in [1, 2, 5] {
        assert_eq!(movements(&fixture.store, "A", None, page).await, ledger);
        for batch in [b(), reference("c")] {
            let of_batch: Vec<_> = ledger.iter().filter(|movement| movement.batch == batch).cloned().collect();
            assert_eq!(movements(&fixture.store, "A", Some(&batch), page).await, of_batch);
        }
    }
}

/// Has so many orders of one unit handled, hundreds at a time.
async fn many_orders<S: Store>(fixture: &Fixture<S>, named: &str, orders: u64) {
    let messages: Vec<_> = (0..orders).map(|n| message(allocate(&format!("{named}{n}"), &[("A", 1)]))).collect();
    for some in messages.chunks(300) {
        for handled in fixture.bus().handle_batch(some).await {
            handled.expect("the store works").expect("there is enough");
        }
    }
}

/// A history of more events than balances are noted after twice; batch `early` comes and goes at its beginning, `late` at its end.
async fn long_history<S: Store>(fixture: &Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "A", 10_000, None),
            create_batch("early", "A", 5, Some(day(1))),
            change_quantity("early", "A", 0),
            create_batch("b", "OTHER", 10, None),
        ])
        .await;
    many_orders(fixture, "o", 2 * NOTED_EVERY).await;
    fixture.handle([create_batch("late", "A", 5, Some(day(1))), allocate("x", &[("OTHER", 1)])]).await;
    many_orders(fixture, "p", 300).await;
    fixture.handle([change_quantity("late", "A", 7), deallocate("o7", None)]).await;
}

/// From the balances that were noted last.
pub async fn a_page_of_a_long_ledger_begins_where_balances_were_noted<S: Store>(fixture: Fixture<S>) {
    long_history(&fixture).await;
    let store = &fixture.store;
    let ledger = movements(store, "A", None, 1_000).await;
    assert_eq!(ledger.len() as u64, 3 + 2 * NOTED_EVERY + 1 + 300 + 2);
    assert_follow(&Balances::default(), &ledger, &fixture.product("A").await);
    assert_eq!(movements(store, "A", None, 337).await, ledger);

    let noted = async |until| store.noted_balances(&sku("A"), until).await.expect("the store works");
    assert_eq!(noted(NOTED_EVERY - 1).await, None);
    let first = noted(2 * NOTED_EVERY - 1).await.expect("noted");
    let second = noted(u64::MAX >> 1).await.expect("noted");
    assert!((NOTED_EVERY..2 * NOTED_EVERY).contains(&first.sequence), "{first:?}");
    assert!((2 * NOTED_EVERY..3 * NOTED_EVERY).contains(&second.sequence), "{second:?}");
    assert_eq!(noted(first.sequence).await.as_ref(), Some(&first));
    for noted in [first, second] {
        let movement = ledger.iter().rfind(|movement| movement.sequence() <= noted.sequence).expect("movements");
        let balances = Balances::from_json(&noted.body).expect("balances");
        assert_eq!((noted.sku, balances.get(&reference("b"))), (sku("A"), movement.balance));
        assert_eq!(balances.get(&reference("early")), Balance::default());
    }
    assert_eq!(store.noted_balances(&sku("OTHER"), 1_000).await.expect("the store works"), None);
    fixture.assert_balanced().await;
}

/// Without the rest of a long history.
pub async fn a_batchs_ledger_is_read_from_its_first_event_to_its_last<S: Store>(fixture: Fixture<S>) {
    long_history(&fixture).await;
    let store = &fixture.store;
    let ledger = movements(store, "A", None, 1_000).await;
    let version = fixture.product("A").await.version();
    for name in ["b", "early", "late"] {
        let batch = reference(name);
        let of_batch: Vec<_> = ledger.iter().filter(|movement| movement.batch == batch).cloned().collect();
        assert_eq!(movements(store, "A", Some(&batch), 50).await, of_batch);
        let span = store.span(&sku("A"), Some(&batch)).await.expect("the store works").expect("it is known");
        let (first, last) = (of_batch[0].sequence(), of_batch[of_batch.len() - 1].sequence());
        assert!(span.after < first && span.until >= last && span.until <= version, "{name}: {span:?}");
    }
    for (of, batch) in [("A", Some("x")), ("X", None), ("X", Some("b")), ("OTHER", Some("late"))] {
        let batch = batch.map(reference);
        let begun = Reading::begin(store, &sku(of), batch.as_ref(), 0).await.expect("the store works");
        assert!(begun.is_none(), "{of} {batch:?}");
    }
    assert_eq!(movements(store, "OTHER", Some(&reference("b")), 50).await.len(), 2);
}

/// After the last event there is nothing, and nothing is wrong with asking.
pub async fn a_ledger_asked_beyond_its_end_is_empty<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "A", 10, None)]).await;
    for after in [1, 2, MOST_EVENTS, i64::MAX.unsigned_abs()] {
        let begun = Reading::begin(&fixture.store, &sku("A"), None, after).await.expect("the store works");
        let mut reading = begun.expect("it is known");
        assert_eq!(reading.next(&fixture.store, 10).await.expect("the store works"), []);
        assert_eq!(reading.goes_on_after(), None);
    }
}

/// As a repair does it.
pub async fn a_product_put_in_place_anew_keeps_its_ledger<S: Store>(fixture: Fixture<S>) {
    long_history(&fixture).await;
    let ledger = movements(&fixture.store, "A", None, 1_000).await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&Selection { skus: [sku("A")].into(), ..Selection::default() }).await.expect("the product");
    let books = tx.books(&sku("A")).await.expect("its books");
    let (product, balances) = product_told_by_events(&books).expect("a log that can be true");
    let after: Vec<u64> = balances.iter().map(|noted| noted.sequence).collect();
    assert_eq!(after, [NOTED_EVERY, 2 * NOTED_EVERY]);
    tx.replace(&product).await.expect("a replacement");
    tx.note(&balances).await.expect("balances");
    tx.commit().await.expect("a commit");
    fixture.assert_balanced().await;
    many_orders(&fixture, "q", NOTED_EVERY).await;
    fixture.assert_balanced().await;
    let more = movements(&fixture.store, "A", None, 700).await;
    assert_eq!(more[..ledger.len()], ledger);
    assert_eq!(movements(&fixture.store, "A", Some(&reference("late")), 100).await.len(), 2);
}
