//! The repository: products in, the same products out.

use allocation_domain::{Batch, BatchQuantity, LineState, Product, Quantity};
use allocation_service_layer::ports::database::{
    Change, ProductChanges, ProductRepository, Selection, StoreError, Transaction,
};

use super::{Fixture, Store};
use crate::shorthand::{allocate, change_quantity, create_batch, day, deallocate, key, order, reference, sku};

/// All that is wanted of a product: its named lines and batches.
fn selection(of: &str, lines: &[&str], batches: &[&str]) -> Selection {
    Selection {
        skus: [sku(of)].into(),
        lines: lines.iter().map(|id| (sku(of), key(id))).collect(),
        batches: batches.iter().map(|name| (sku(of), reference(name))).collect(),
    }
}

async fn load<S: Store>(store: &S, wanted: Selection) -> Vec<Product> {
    let mut tx = store.begin().await.expect("a transaction");
    let products = tx.load(&wanted).await.expect("products");
    tx.commit().await.expect("a commit");
    products
}

/// Batches come back in order of preference, with their counters.
pub async fn a_product_is_loaded_as_it_was_saved<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("later", "TABLE", 10, Some(day(5))),
            create_batch("sooner", "TABLE", 20, Some(day(3))),
            create_batch("here", "TABLE", 5, None),
            allocate("o1", &[("TABLE", 7)]),
        ])
        .await;
    let product = load(&fixture.store, selection("TABLE", &["o1"], &[])).await.pop().expect("the product");
    assert_eq!((product.version(), product.backordered(), product.out_of_stock_raised()), (4, 0, false));
    let batch = |name, units, allocated, eta, revision| Batch {
        reference: reference(name),
        quantity: BatchQuantity::new(units).unwrap(),
        allocated,
        eta,
        revision,
    };
    assert_eq!(
        product.batches(),
        [batch("here", 5, 0, None, 3), batch("sooner", 20, 7, Some(day(3)), 2), batch("later", 10, 0, Some(day(5)), 1)]
    );
    let line = product.line(&key("o1")).expect("the line");
    assert_eq!((line.accepted, &line.state), (4, &LineState::Allocated(reference("sooner"))));
}

/// A product may have a million lines; the work at hand names a few.
pub async fn lines_are_loaded_by_name_only<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "TABLE", 10, None),
            allocate("o1", &[("TABLE", 1)]),
            allocate("o2", &[("TABLE", 2)]),
            deallocate("o2", None),
        ])
        .await;
    let product = load(&fixture.store, selection("TABLE", &["o2", "o3"], &[])).await.pop().expect("the product");
    assert!(product.line(&key("o1")).is_none());
    assert_eq!(product.line(&key("o2")).expect("the line").state, LineState::Cancelled);
    assert!(product.line(&key("o3")).is_none());
}

/// What has nothing left is history.
pub async fn an_empty_batch_is_loaded_by_name_only<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None), change_quantity("b", "TABLE", 0)]).await;
    let unnamed = load(&fixture.store, selection("TABLE", &[], &[])).await.pop().expect("the product");
    assert!(unnamed.batches().is_empty());
    let named = load(&fixture.store, selection("TABLE", &[], &["b", "b"])).await.pop().expect("the product");
    assert_eq!(named.batches().len(), 1);
    assert_eq!(named.batches()[0].quantity, BatchQuantity::ZERO);
}

/// Not found is no error.
pub async fn what_does_not_exist_is_left_out<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let mut wanted = selection("TABLE", &["o1"], &["x"]);
    wanted.skus.insert(sku("CHAIR"));
    let products = load(&fixture.store, wanted).await;
    assert_eq!(products.iter().map(|product| product.sku().as_str()).collect::<Vec<_>>(), ["TABLE"]);
    assert!(load(&fixture.store, Selection::default()).await.is_empty());
}

/// For a cut.
pub async fn newest_lines_come_newest_first_and_no_more_than_asked<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None), create_batch("c", "TABLE", 10, Some(day(1)))]).await;
    fixture.handle((0..12).map(|n| allocate(&format!("o{n:02}"), &[("TABLE", 1)]))).await;
    fixture.handle([deallocate("o09", None)]).await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&selection("TABLE", &[], &[])).await.expect("products");
    let newest = tx.newest_lines(&sku("TABLE"), &reference("b"), None, 3).await.expect("lines");
    let ids: Vec<&str> = newest.iter().map(|line| line.key.order_id.as_str()).collect();
    assert_eq!(ids, ["o08", "o07", "o06"]);
    let later = tx.newest_lines(&sku("TABLE"), &reference("b"), Some(&key("o06")), 2).await.expect("lines");
    let ids: Vec<&str> = later.iter().map(|line| line.key.order_id.as_str()).collect();
    assert_eq!(ids, ["o05", "o04"]);
}

/// For the queue.
pub async fn waiting_lines_come_oldest_first_and_only_those_that_fit<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 100, None)]).await;
    fixture.handle((1..=5).map(|n| allocate(&format!("o{n}"), &[("TABLE", n)]))).await;
    fixture.handle([change_quantity("b", "TABLE", 0)]).await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&selection("TABLE", &[], &[])).await.expect("products");
    let all = tx.waiting_lines(&sku("TABLE"), 4, 0, 3).await.expect("lines");
    let ids: Vec<&str> = all.iter().map(|line| line.key.order_id.as_str()).collect();
    assert_eq!(ids, ["o1", "o2", "o3"]);
    let later = tx.waiting_lines(&sku("TABLE"), 4, all[1].accepted, 10).await.expect("lines");
    let ids: Vec<&str> = later.iter().map(|line| line.key.order_id.as_str()).collect();
    assert_eq!(ids, ["o3", "o4"]);
}

/// For cancelling an order.
pub async fn the_lines_of_an_order_are_found_over_all_products<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "TABLE", 10, None),
            create_batch("b", "CHAIR", 10, None),
            allocate("o1", &[("TABLE", 1), ("CHAIR", 1)]),
            allocate("o2", &[("TABLE", 1)]),
        ])
        .await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    let mut keys = tx.lines_of_orders(&[order("o1"), order("unknown")]).await.expect("keys");
    keys.sort();
    assert_eq!(keys, [(sku("CHAIR"), key("o1")), (sku("TABLE"), key("o1"))]);
}

/// Neither case nor accents nor trailing dots are folded, and order is that of bytes.
pub async fn keys_are_compared_byte_for_byte<S: Store>(fixture: Fixture<S>) {
    let names = ["É", "a", "B", "e\u{301}", "é", "A", "b", "a.", "a b", "_"];
    fixture.handle(names.iter().map(|name| create_batch("b", name, 1, None))).await;
    let listed = fixture.store.products(None, 100).await.expect("products");
    let listed: Vec<&str> = listed.iter().map(|product| product.sku().as_str()).collect();
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
}

/// Quotes, percent signs, backslashes, other scripts: all the same to a key.
pub async fn keys_may_hold_any_text<S: Store>(fixture: Fixture<S>) {
    let names = ["'; DROP TABLE lines; --", "{\"a\":1}", "100%_\\x", "表/é", "𝕊𝕂𝕌", &"x".repeat(255)];
    for name in names {
        let verdicts = fixture.handle([create_batch(name, name, 2, None), allocate(name, &[(name, 1)])]).await;
        assert!(verdicts.iter().all(Result::is_ok), "{name}: {verdicts:?}");
        let lines = fixture.store.order(&order(name)).await.expect("an order");
        assert_eq!(lines[0].line.batch(), Some(&reference(name)));
    }
    fixture.assert_balanced().await;
}

/// A trillion units in a batch, a billion in a line.
pub async fn the_largest_numbers_are_kept<S: Store>(fixture: Fixture<S>) {
    let verdicts = fixture
        .handle([
            create_batch("b", "TABLE", BatchQuantity::MAX, None),
            create_batch("c", "TABLE", BatchQuantity::MAX, Some(time::macros::date!(9999 - 12 - 31))),
            allocate("o1", &[("TABLE", Quantity::MAX)]),
        ])
        .await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    let product = fixture.store.product(&sku("TABLE")).await.expect("a read").expect("the product");
    assert_eq!(product.available(), BatchQuantity::MAX - Quantity::MAX);
    fixture.assert_balanced().await;
}

async fn save<S: Store>(store: &S, product: &Product, saved_version: u64) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let batches = product.batches().iter().map(|batch| (Change::Update, batch)).collect();
    tx.save(&[ProductChanges { product, saved_version, batches, lines: Vec::new() }]).await?;
    tx.commit().await
}

/// Whoever saves on top of another's change is told.
pub async fn a_stale_version_is_a_conflict<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let mut product = load(&fixture.store, selection("TABLE", &[], &[])).await.pop().expect("the product");
    product.change_batch_eta(&reference("b"), None).expect("no change");
    product.change_batch_quantity(&reference("b"), BatchQuantity::new(11).unwrap(), &[]).expect("a change");
    fixture.handle([change_quantity("b", "TABLE", 12)]).await;
    let saved = save(&fixture.store, &product, 1).await;
    assert!(matches!(saved, Err(StoreError::Conflict(_))), "{saved:?}");
}

/// Two copies that meet a SKU for the first time.
pub async fn a_product_made_twice_is_a_conflict<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let mut product = Product::new(sku("TABLE"));
    product.create_batch(reference("c"), BatchQuantity::new(1).unwrap(), None).expect("a new batch");
    let mut tx = fixture.store.begin().await.expect("a transaction");
    let batches = product.batches().iter().map(|batch| (Change::Insert, batch)).collect();
    let mut saved =
        tx.save(&[ProductChanges { product: &product, saved_version: 0, batches, lines: Vec::new() }]).await;
    if saved.is_ok() {
        saved = tx.commit().await;
    }
    assert!(matches!(saved, Err(StoreError::Conflict(_))), "{saved:?}");
}
