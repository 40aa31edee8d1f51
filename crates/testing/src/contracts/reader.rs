//! The read side.

use allocation_domain::commands::WhenShort;
use allocation_domain::{LineState, Terms};
use allocation_service_layer::ports::reader::{Among, LineFilter, StockTotals};
use allocation_service_layer::verify::verify;
use allocation_service_layer::{TimeZones, views};

use super::{Fixture, Store};
use crate::shorthand::{
    allocate, ask, ask_on, cancel_batch, change_eta, change_quantity, create_batch, day, deallocate, hold, keep_back,
    key, order, quarantine, reference, sku,
};

/// In pages.
pub async fn products_are_listed_in_byte_order<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    assert!(store.products(None, false, 10).await.expect("products").is_empty());
    fixture
        .handle([
            create_batch("b", "C", 1, None),
            create_batch("b", "A", 2, None),
            create_batch("c", "A", 3, Some(day(1))),
            create_batch("b", "B", 0, None),
        ])
        .await;
    let page = store.products(None, false, 2).await.expect("products");
    let shown: Vec<_> = page.iter().map(|p| (p.sku().as_str(), p.batches().len(), p.available())).collect();
    assert_eq!(shown, [("A", 2, 2), ("B", 0, 0)]);
    let next = store.products(Some(&sku("B")), false, 2).await.expect("products");
    assert_eq!(next.iter().map(|p| p.sku().as_str()).collect::<Vec<_>>(), ["C"]);
    assert!(store.products_named(&[sku("D")]).await.expect("a read").is_empty());
}

/// What the metrics say of the stock.
pub async fn sums_are_over_all_products<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    assert_eq!(store.totals().await.expect("sums"), StockTotals::default());
    fixture
        .handle([
            create_batch("b", "A", 10, None),
            create_batch("c", "A", 5, Some(day(1))),
            create_batch("b", "B", 7, None),
            create_batch("d", "B", 100, Some(day(1))),
            cancel_batch("d", "B"),
            allocate("x", &[("A", 4), ("B", 7)]),
            hold("y", 60, &[("A", 3)]),
            ask("z", WhenShort::Backorder, &[("B", 9)]),
            quarantine("b", "A", 1),
        ])
        .await;
    let wanted =
        StockTotals { stock: 22, quarantined: 1, held: 3, allocated: 11, backordered: 9, overpromised_batches: 0 };
    assert_eq!(store.totals().await.expect("sums"), wanted);
}

/// Of 4 + 1 units on their way and 3 on hand, 4 are kept back: 4 are to be had together, once the late 4 are awaited for the day on which the 1 comes.
pub async fn who_waits_is_served_by_the_day<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            keep_back("A", 4),
            create_batch("late", "A", 4, Some(day(0))),
            create_batch("next", "A", 1, Some(day(2))),
            create_batch("here", "A", 3, None),
            ask_on("o1", WhenShort::Backorder, &Terms::whole(), &[("A", 4)]),
        ])
        .await;
    let (store, bus) = (&fixture.store, fixture.bus());
    let due = async |among: Among<'_>| store.due(among, &TimeZones::default()).await.expect("SKUs").skus;
    let waiting = async || {
        let product = views::product(store, &bus, &sku("A")).await.expect("a view").expect("the product");
        let order = views::order(store, &bus, &order("o1")).await.expect("a view");
        (product.backordered, order[0].backordered)
    };
    assert_eq!(waiting().await, (4, 4));
    fixture.clock.advance(time::Duration::DAY.unsigned_abs());
    // All products are not looked through for that each time.
    assert_eq!(due(Among::These(&[sku("A")])).await, [sku("A")]);
    assert!(due(Among::After(None, 10)).await.is_empty());
    assert_eq!(waiting().await, (0, 0));
    assert_eq!(fixture.product("A").await.backordered(), 4, "what is read is not stored");
}

/// Who is promised, who waits, who has gone; those whom a cut would hit first come first.
pub async fn a_products_lines_are_listed_newest_first<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "A", 10, None),
            allocate("z", &[("A", 2)]),
            allocate("y", &[("A", 3)]),
            allocate("x", &[("A", 4)]),
            create_batch("c", "A", 3, Some(day(1))),
            deallocate("y", None),
            change_quantity("b", "A", 3),
        ])
        .await;
    let list = async |filter: LineFilter, after: Option<&str>, limit| -> Vec<(String, u64)> {
        let after = after.map(key);
        let lines = fixture.store.product_lines(&sku("A"), &filter, after.as_ref(), limit).await.expect("lines");
        lines.into_iter().map(|stored| (stored.line.key.order_id.to_string(), stored.line.accepted)).collect()
    };
    let named = |names: &[(&str, u64)]| -> Vec<(String, u64)> {
        names.iter().map(|(name, accepted)| ((*name).to_owned(), *accepted)).collect()
    };
    let state = |state| LineFilter { state: Some(state), ..LineFilter::default() };
    assert_eq!(list(LineFilter::default(), None, 10).await, named(&[("x", 4), ("y", 3), ("z", 2)]));
    assert_eq!(list(LineFilter::default(), Some("x"), 1).await, named(&[("y", 3)]));
    assert_eq!(list(LineFilter::default(), Some("z"), 1).await, []);
    assert_eq!(list(LineFilter::default(), Some("unknown"), 1).await, []);
    assert_eq!(list(state(LineState::Allocated), None, 10).await, named(&[("z", 2)]));
    assert_eq!(list(state(LineState::Backordered), None, 10).await, named(&[("x", 4)]));
    assert_eq!(list(state(LineState::Cancelled), None, 10).await, named(&[("y", 3)]));
    let of_batch = LineFilter { batch: Some(reference("b")), ..LineFilter::default() };
    assert_eq!(list(of_batch, None, 10).await, named(&[("z", 2)]));
}

/// One consistent read, over all products.
pub async fn an_order_is_read_with_its_batches_dates<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "B", 10, None),
            create_batch("b", "A", 10, Some(day(3))),
            allocate("o1", &[("B", 1), ("A", 2)]),
            change_eta("b", "A", Some(day(9))),
        ])
        .await;
    let lines = fixture.lines_of("o1").await;
    let shown: Vec<_> = lines.iter().map(|l| (l.sku.as_str(), l.line.allocated(), l.batches[0].eta)).collect();
    assert_eq!(shown, [("A", 2, Some(day(9))), ("B", 1, None)]);
    assert!(fixture.lines_of("o2").await.is_empty());
}

/// One reference, many SKUs.
pub async fn a_shipment_knows_its_products<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([create_batch("b", "B", 1, None), create_batch("b", "A", 0, None), create_batch("c", "A", 1, None)])
        .await;
    assert_eq!(fixture.store.skus_of(&reference("b")).await.expect("SKUs"), [sku("A"), sku("B")]);
    assert!(fixture.store.skus_of(&reference("x")).await.expect("SKUs").is_empty());
}

/// Tables and log say the same, whatever has happened.
pub async fn the_books_balance_after_everything<S: Store>(fixture: Fixture<S>) {
    fixture.store.ready().await.expect("a ready store");
    fixture
        .handle([
            create_batch("b", "A", 10, None),
            create_batch("b", "B", 0, Some(day(1))),
            allocate("o1", &[("A", 6)]),
            allocate("o2", &[("A", 6)]),
            allocate("o3", &[("A", 4)]),
            change_quantity("b", "A", 5),
            change_quantity("b", "A", 0),
            create_batch("c", "A", 6, Some(day(2))),
            change_eta("c", "A", None),
            deallocate("o1", Some("A")),
            deallocate("o1", None),
        ])
        .await;
    let findings = verify(&fixture.store).await.expect("a check");
    assert_eq!(findings.differences, [""; 0]);
    assert_eq!((findings.products, findings.batches, findings.lines), (2, 3, 2));
    assert_eq!((findings.allocated, findings.backordered), (4, 0));
}
