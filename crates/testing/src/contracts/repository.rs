//! The repository: products in, the same products out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use allocation_domain::commands::{LineChange, ReturnTo, SetProduct, Unpick, WhenShort};
use allocation_domain::product::SupplyChange;
use allocation_domain::{
    Batch, BatchQuantity, Command, Level, LineState, Location, Locations, LowStock, Product, Quantity, Settings,
    Shipped, Split, Strategy, Terms,
};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{
    Change, DueBy, ProductChanges, ProductRepository, Selection, StoreError, Transaction, Units,
};

use futures_util::future::join;

use super::{Fixture, Store};
use crate::shorthand::{
    accepted, allocate, ask, ask_on, bring_back, change_line, change_quantity, confirm, create_batch, day, deallocate,
    hold, key, location, order, pick, qty, reference, set_product, ship, sku,
};
use allocation_service_layer::TimeZones;
use allocation_service_layer::ports::reader::Among;
use jiff::tz::TimeZone;

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
        allocated,
        ..Batch::new(reference(name), BatchQuantity::new(units).unwrap(), eta, revision)
    };
    assert_eq!(
        product.batches(),
        [batch("here", 5, 0, None, 3), batch("sooner", 20, 7, Some(day(3)), 2), batch("later", 10, 0, Some(day(5)), 1)]
    );
    let line = product.line(&key("o1")).expect("the line");
    assert_eq!((line.accepted, line.state()), (4, LineState::Allocated));
    assert!(line.is_in(&reference("sooner")));
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
    assert_eq!(product.line(&key("o2")).expect("the line").state(), LineState::Cancelled);
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

fn names(units: &[Units]) -> Vec<&str> {
    units.iter().map(|units| units.line.key.order_id.as_str()).collect()
}

/// For a cut: held ones first, then lower priority, then accepted last.
pub async fn losers_come_in_the_order_in_which_they_lose_their_place<S: Store>(fixture: Fixture<S>) {
    let with = |priority| Terms { priority, ..Terms::default() };
    fixture.handle([create_batch("b", "TABLE", 10, None), create_batch("c", "TABLE", 10, Some(day(1)))]).await;
    fixture
        .handle([
            ask_on("high", WhenShort::Reject, &with(2), &[("TABLE", 1)]),
            ask_on("low", WhenShort::Reject, &with(-1), &[("TABLE", 1)]),
            hold("held", 60, &[("TABLE", 1)]),
        ])
        .await;
    fixture.handle((0..8).map(|n| allocate(&format!("o{n}"), &[("TABLE", 1)]))).await;
    fixture.handle([deallocate("o5", None), ask("split", WhenShort::Reject, &[("TABLE", 10)])]).await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&selection("TABLE", &[], &[])).await.expect("products");
    let (of, b) = (sku("TABLE"), reference("b"));
    let all = tx.losers(&of, &b, None, usize::MAX).await.expect("losers");
    assert_eq!(names(&all), ["held", "low", "split", "o6", "o4", "o3", "o2", "o1", "o0", "high"]);
    let first = tx.losers(&of, &b, None, 4).await.expect("losers");
    assert_eq!(names(&first), ["held", "low", "split", "o6"]);
    let usual: Vec<Units> = tx.losers(&of, &b, Some(&first[3].key()), 10).await.expect("losers");
    let usual: Vec<&str> = names(&usual).into_iter().filter(|name| name.starts_with('o')).collect();
    assert_eq!(usual, ["o4", "o3", "o2", "o1", "o0"]);
    let split = &all[2].line;
    let parts: Vec<_> = split.placements().map(|(batch, part)| (batch.as_str(), part.qty.units())).collect();
    assert_eq!(parts, [("b", 1), ("c", 9)]);
}

/// Locked ones are the last to go, whoever has them; of units accepted together some may be locked and others not.
pub async fn losers_that_are_being_picked_come_last<S: Store>(fixture: Fixture<S>) {
    let with = |priority| Terms { priority, ..Terms::default() };
    let one = [("TABLE", 1)];
    fixture
        .handle([
            create_batch("b", "TABLE", 12, None),
            ask("o1", WhenShort::Reject, &one),
            ask_on("low", WhenShort::Reject, &with(-1), &one),
            ask("o2", WhenShort::Reject, &one),
            allocate("whole", &one),
            ask_on("high", WhenShort::Reject, &with(2), &one),
            ask("o3", WhenShort::Reject, &one),
            ask("partly", WhenShort::Backorder, &[("TABLE", 8)]),
        ])
        .await;
    fixture.handle(["o2", "low", "whole", "high", "partly"].map(pick)).await;
    fixture.handle([change_quantity("b", "TABLE", 16), hold("held", 60, &one)]).await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&selection("TABLE", &[], &[])).await.expect("products");
    let (of, b) = (sku("TABLE"), reference("b"));
    let all = tx.losers(&of, &b, None, usize::MAX).await.expect("losers");
    let unlocked = ["held", "partly", "o3", "o1"];
    let locked = ["low", "partly", "whole", "o2", "high"];
    assert_eq!(names(&all), [&unlocked[..], &locked].concat());
    assert_eq!(all.iter().map(|units| units.locked).collect::<Vec<_>>(), [[false; 4].as_slice(), &[true; 5]].concat());
    let some = tx.losers(&of, &b, None, 5).await.expect("losers");
    assert_eq!(names(&some), names(&all[..5]));
    // Where a large cut goes on, those that are locked are still to come.
    let rest = tx.losers(&of, &b, Some(&all[3].key()), usize::MAX).await.expect("losers");
    assert!(rest.ends_with(&all[4..]), "{:?}", names(&rest));
    let partly = &all[1].line;
    let parts: Vec<_> = partly.placements().map(|(_, part)| (part.qty.units(), part.locked)).collect();
    assert_eq!(parts, [(2, false), (6, true)]);
}

/// For the queue.
pub async fn those_who_wait_come_by_seniority_and_only_if_they_could_take_something<S: Store>(fixture: Fixture<S>) {
    let on = |priority, split| Terms { priority, split, ..Terms::default() };
    let parts = |least| Split::Parts(qty(least));
    let wait = |name: &str, terms, units| ask_on(name, WhenShort::Backorder, &terms, &[("TABLE", units)]);
    fixture.handle([set_product("TABLE", None, false), set_product("TABLE", Some(1_000), false)]).await;
    fixture
        .handle([
            wait("whole of 5", on(0, Split::Never), 5),
            wait("whole of 3", on(0, Split::Never), 3),
            wait("any", on(0, parts(1)), 50),
            wait("parts of 4", on(0, parts(4)), 50),
            wait("first", on(7, parts(1)), 2),
            wait("last", on(-7, parts(9)), 2),
        ])
        .await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&selection("TABLE", &[], &[])).await.expect("products");
    let of = sku("TABLE");
    let all = tx.waiting(&of, 4, None, 10).await.expect("units");
    assert_eq!(names(&all), ["first", "whole of 3", "any", "parts of 4", "last"]);
    assert_eq!(names(&tx.waiting(&of, 3, None, 3).await.expect("units")), ["first", "whole of 3", "any"]);
    let after = all[1].line.seniority(all[1].accepted);
    let later = tx.waiting(&of, u64::MAX, Some(after), 10).await.expect("units");
    assert_eq!(names(&later), ["any", "parts of 4", "last"]);
}

/// For what is due.
pub async fn holds_are_found_once_they_have_ended<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "TABLE", 10, None),
            create_batch("b", "CHAIR", 10, None),
            hold("short", 10, &[("TABLE", 1)]),
            hold("long", 20, &[("TABLE", 1), ("CHAIR", 1)]),
            hold("kept", 10, &[("TABLE", 1)]),
            confirm("kept"),
        ])
        .await;
    let started = fixture.clock.now();
    let at = |seconds| started + time::Duration::seconds(seconds);
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&selection("TABLE", &[], &[])).await.expect("products");
    let due = async |tx: &mut S::Tx, seconds| -> Vec<(String, String)> {
        let due_by = |of: &str| DueBy { sku: sku(of), now: at(seconds), today: at(seconds).date() };
        let asked = [due_by("TABLE"), due_by("CHAIR")];
        let due = tx.due_lines(&asked).await.expect("lines");
        let mut due: Vec<_> =
            due.into_iter().map(|(of, line)| (of.to_string(), line.key.order_id.to_string())).collect();
        due.sort();
        due
    };
    let named = |names: &[(&str, &str)]| -> Vec<(String, String)> {
        names.iter().map(|(of, name)| ((*of).to_owned(), (*name).to_owned())).collect()
    };
    assert_eq!(due(&mut tx, 9).await, []);
    assert_eq!(due(&mut tx, 10).await, named(&[("TABLE", "short")]));
    assert_eq!(due(&mut tx, 20).await, named(&[("CHAIR", "long"), ("TABLE", "long"), ("TABLE", "short")]));
    drop(tx);
    let utc = TimeZones::default();
    let all = Among::After(None, 10);
    assert_eq!(fixture.store.due(all, &utc).await.expect("SKUs").skus, []);
    fixture.clock.advance(time::Duration::seconds(10).unsigned_abs());
    assert_eq!(fixture.store.due(all, &utc).await.expect("SKUs").skus, [sku("TABLE")]);
    assert_eq!(fixture.store.due(Among::These(&[sku("CHAIR")]), &utc).await.expect("SKUs").skus, []);
    for (name, of_order) in [("long", &[sku("TABLE")][..]), ("nobody's", &[])] {
        assert_eq!(fixture.store.order(&order(name), &utc).await.expect("SKUs").1.skus, of_order);
    }
    fixture.clock.advance(time::Duration::seconds(10).unsigned_abs());
    let first = fixture.store.due(Among::After(None, 1), &utc).await.expect("SKUs").skus;
    assert_eq!(first, [sku("CHAIR")]);
    let rest = fixture.store.due(Among::After(first.first(), 10), &utc).await.expect("SKUs").skus;
    assert_eq!(rest, [sku("TABLE")]);
    let both = fixture.store.due(Among::These(&[sku("CHAIR"), sku("TABLE")]), &utc).await.expect("SKUs");
    assert_eq!(both.now, at(20));
    assert_eq!(both.skus, [sku("CHAIR"), sku("TABLE")]);
}

/// Where it is not the same day everywhere, by the latest day that it is anywhere.
pub async fn what_is_due_anywhere_is_found_page_by_page<S: Store>(fixture: Fixture<S>) {
    let perishable = |name: &str, of: &str, last| {
        let mut batch = create_batch(name, of, 10, None);
        if let Command::CreateBatch(batch) = &mut batch {
            batch.expires_on = Some(last);
        }
        batch
    };
    // Noon of 2 January: in the farthest east it is the 3rd.
    let keeps = Terms { min_days: Some(3), ..Terms::default() };
    fixture
        .handle([
            perishable("b", "C", day(0)),
            perishable("b", "A", day(0)),
            perishable("b", "D", day(3)),
            ask_on("o1", WhenShort::Reject, &keeps, &[("D", 1)]),
            perishable("b", "E", day(1)),
            create_batch("b", "B", 10, None),
        ])
        .await;
    let zone = |name: &str| TimeZone::get(name).expect("a time zone");
    let elsewhere = |name: &str| TimeZones::new(TimeZone::UTC, [(location("there"), zone(name))].into());
    let (east, west) = (elsewhere("Pacific/Kiritimati"), elsewhere("Etc/GMT+12"));
    let due = async |among: Among<'_>, time_zones: &TimeZones| -> Vec<String> {
        let due = fixture.store.due(among, time_zones).await.expect("SKUs");
        assert_eq!(due.now, fixture.clock.now());
        due.skus.iter().map(ToString::to_string).collect()
    };
    let all = Among::After(None, 10);
    let these = ["E", "D", "B", "A"].map(sku);
    for time_zones in [&TimeZones::default(), &west] {
        assert!(due(all, time_zones).await.is_empty());
        assert!(due(Among::These(&these), time_zones).await.is_empty());
    }
    for time_zones in [&east, &TimeZones::new(zone("Pacific/Kiritimati"), BTreeMap::new())] {
        assert_eq!(due(all, time_zones).await, ["A", "C", "D"]);
        assert_eq!(due(Among::These(&these), time_zones).await, ["A", "D"]);
        let (_, of_order) = fixture.store.order(&order("o1"), time_zones).await.expect("an order");
        assert_eq!(of_order.skus, [sku("D")]);
    }
    assert_eq!(due(Among::After(None, 2), &east).await, ["A", "C"]);
    assert_eq!(due(Among::After(Some(&sku("C")), 2), &east).await, ["D"]);
    assert!(due(Among::After(Some(&sku("D")), 2), &east).await.is_empty());
    fixture.clock.advance(time::Duration::DAY.unsigned_abs());
    assert_eq!(due(all, &west).await, ["A", "C", "D"]);
    assert_eq!(due(all, &east).await, ["A", "C", "D", "E"]);
}

/// Everything that may be said of a line, and all it may come to.
pub async fn a_line_is_kept_with_its_terms_and_wherever_its_units_are<S: Store>(fixture: Fixture<S>) {
    let terms = Terms {
        priority: -3,
        by: Some(day(30)),
        not_before: Some(day(2)),
        split: Split::OverLocations(qty(2)),
        min_days: Some(3),
        locations: Some(accepted(&["north", "default"])),
    };
    fixture
        .handle([
            create_batch("b", "TABLE", 5, None),
            create_batch("c", "TABLE", 4, Some(day(4))),
            create_batch("b", "CHAIR", 5, None),
            ask_on("o1", WhenShort::Backorder, &terms, &[("TABLE", 12)]),
            ask("o2", WhenShort::Partial, &[("CHAIR", 9)]),
            change_line(
                "o1",
                "TABLE",
                LineChange { qty: Some(qty(14)), when_short: WhenShort::Backorder, ..LineChange::default() },
            ),
        ])
        .await;
    let product = load(&fixture.store, selection("TABLE", &["o1"], &[])).await.pop().expect("the product");
    let line = product.line(&key("o1")).expect("the line");
    assert_eq!(line.terms, terms);
    let parts: Vec<_> = line
        .parts
        .iter()
        .map(|part| (part.accepted, part.batch.as_ref().map(ToString::to_string), part.qty.units()))
        .collect();
    let first = line.accepted;
    let added = parts.last().expect("a part").0;
    assert!(added > first);
    let (b, c) = (Some("b".to_owned()), Some("c".to_owned()));
    assert_eq!(parts, [(first, b, 5), (first, c, 4), (first, None, 3), (added, None, 2)]);
    assert_eq!((line.queued, product.queued(), product.backordered()), (5, 5, 5));
    let chairs = load(&fixture.store, selection("CHAIR", &["o2"], &[])).await.pop().expect("the product");
    let line = chairs.line(&key("o2")).expect("the line");
    assert_eq!((line.allocated(), line.dropped), (5, 4));
    fixture.assert_balanced().await;
}

/// How a product is to behave, where its batches are, and where little is left.
pub async fn settings_locations_and_what_is_little_are_kept<S: Store>(fixture: Fixture<S>) {
    let at = |name: &str, place: &str, units, eta| {
        let mut batch = create_batch(name, "TABLE", units, eta);
        if let Command::CreateBatch(batch) = &mut batch {
            batch.location = location(place);
        }
        batch
    };
    let set = |settings: &Settings| Command::SetProduct(SetProduct { sku: sku("TABLE"), settings: settings.clone() });
    let names = ["default", "Zürich 北", "it's \"here\"; --", "north, south", "[1]"];
    let levels = [
        (0, Some((9, 10))),
        (1, None),
        (i64::MAX.unsigned_abs(), Some((0, i64::MAX.unsigned_abs()))),
        (7, Some((2, 3))),
        (0, None),
    ];
    let levels = levels.map(|(safety_stock, low_stock)| Level {
        safety_stock,
        low_stock: low_stock.map(|(threshold, restocked)| LowStock { threshold, restocked }),
    });
    let settings = Settings {
        queue_cap: Some(7),
        auto_improve: true,
        strategy: Some(Strategy::LocationPriority),
        min_days: 3,
        requires_expiry: false,
        overdue_days: Some(0),
        levels: names.map(location).into_iter().zip(levels).collect(),
    };
    fixture.handle(names.map(|name| at(name, name, 10, None))).await;
    fixture.handle([at("later", names[1], 5, Some(day(5))), set(&settings)]).await;
    fixture.assert_balanced().await;
    let little: BTreeSet<Location> = [names[2]].map(location).into();
    let is_kept = |product: &Product| {
        assert_eq!((product.settings(), product.low()), (&settings, &little));
        for batch in product.batches() {
            let place = if batch.reference.as_str() == "later" { names[1] } else { batch.reference.as_str() };
            assert_eq!(batch.location.as_str(), place);
        }
        assert_eq!(product.batches().len(), names.len() + 1);
    };
    is_kept(&load(&fixture.store, selection("TABLE", &[], &[])).await.pop().expect("the product"));
    is_kept(&fixture.product("TABLE").await);
    is_kept(&fixture.store.products(None, false, 10).await.expect("products")[0]);
    // Changed in part, and to nothing at all.
    let mut less = settings.clone();
    (less.overdue_days, less.strategy, less.queue_cap) = (Some(3_650), None, None);
    less.levels.remove(&location(names[2]));
    less.levels.insert(location(names[0]), Level { safety_stock: 2, low_stock: None });
    for changed in [less, Settings::default()] {
        fixture.handle([set(&changed)]).await;
        let product = load(&fixture.store, selection("TABLE", &[], &[])).await.pop().expect("the product");
        assert_eq!((product.settings(), product.low()), (&changed, &BTreeSet::new()));
        fixture.assert_balanced().await;
    }
}

/// A line's locations, and over how many of them it may go, in every way that there is.
pub async fn what_a_line_accepts_of_locations_is_kept<S: Store>(fixture: Fixture<S>) {
    let many: Vec<String> = (0..Locations::MAX).map(|n| format!("Zürich {n}, \"北\"")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut all = Vec::new();
    for accepts in
        [None, Some(accepted(&["default"])), Some(accepted(&["north", "default", "a"])), Some(accepted(&many))]
    {
        for split in [
            Split::Never,
            Split::Parts(qty(1)),
            Split::Parts(qty(7)),
            Split::OverLocations(qty(1)),
            Split::OverLocations(qty(9)),
        ] {
            all.push(Terms { split, locations: accepts.clone(), ..Terms::default() });
        }
    }
    fixture.handle([create_batch("b", "TABLE", 40, None)]).await;
    let named: Vec<String> = (0..all.len()).map(|n| format!("o{n}")).collect();
    fixture
        .handle(named.iter().zip(&all).map(|(name, terms)| ask_on(name, WhenShort::Backorder, terms, &[("TABLE", 3)])))
        .await;
    let ids: Vec<&str> = named.iter().map(String::as_str).collect();
    let product = load(&fixture.store, selection("TABLE", &ids, &[])).await.pop().expect("the product");
    for (name, terms) in named.iter().zip(&all) {
        assert_eq!(product.line(&key(name)).expect("the line").terms, *terms);
        let read = fixture.lines_of(name).await;
        assert_eq!(read[0].line.terms, *terms);
    }
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&selection("TABLE", &[], &[])).await.expect("products");
    let waiting = tx.waiting(&sku("TABLE"), u64::MAX, None, 100).await.expect("units");
    assert!(!waiting.is_empty());
    for units in waiting {
        let at = named.iter().position(|name| units.line.key == key(name)).expect("one of them");
        assert_eq!(units.line.terms, all[at]);
    }
    drop(tx);
    fixture.assert_balanced().await;
}

/// What is locked, what left from where, what of it came back, and what of a batch is set aside.
pub async fn what_is_being_picked_has_left_and_came_back_is_kept<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "TABLE", 5, None),
            create_batch("c", "TABLE", 5, None),
            create_batch("d", "TABLE", 5, Some(day(5))),
            ask("o1", WhenShort::Backorder, &[("TABLE", 16)]),
            ship("o1", "TABLE", 1, Some("c")),
            ship("o1", "TABLE", 2, None),
            bring_back("o1", "TABLE", 2, ReturnTo::Quarantine),
            pick("o1"),
        ])
        .await;
    let product = load(&fixture.store, selection("TABLE", &["o1"], &[])).await.pop().expect("the product");
    let line = product.line(&key("o1")).expect("the line");
    assert_eq!(line.state(), LineState::Backordered);
    let shipped = |name: &str, qty, returned| Shipped { batch: reference(name), qty, returned };
    assert_eq!(line.shipped, [shipped("c", 1, 1), shipped("b", 2, 1)]);
    let parts: Vec<_> = line
        .parts
        .iter()
        .map(|part| (part.batch.as_ref().map(ToString::to_string), part.qty.units(), part.locked))
        .collect();
    let at = |name: &str| Some(name.to_owned());
    assert_eq!(parts, [(at("b"), 3, true), (at("c"), 4, true), (at("d"), 5, false), (None, 1, false)]);
    let batches: Vec<_> = product
        .batches()
        .iter()
        .map(|batch| (batch.reference.as_str(), batch.quantity.units(), batch.declared.units(), batch.quarantined))
        .collect();
    assert_eq!(batches, [("b", 4, 5, 1), ("c", 5, 5, 1), ("d", 5, 5, 0)]);
    let read = fixture.lines_of("o1").await;
    assert_eq!(read[0].line, *line);
    fixture.handle([ship("o1", "TABLE", 7, None)]).await;
    let product = load(&fixture.store, selection("TABLE", &["o1"], &[])).await.pop().expect("the product");
    let line = product.line(&key("o1")).expect("the line");
    assert_eq!(line.shipped, [shipped("c", 5, 1), shipped("b", 5, 1)]);
    assert_eq!((line.allocated(), line.locked(), line.backordered()), (5, 0, 1));
    fixture.assert_balanced().await;
}

/// For what comes back into one, of which nothing else is loaded.
pub async fn a_closed_batch_is_brought_by_name<S: Store>(fixture: Fixture<S>) {
    fixture
        .handle([
            create_batch("b", "TABLE", 2, None),
            create_batch("c", "TABLE", 2, None),
            create_batch("b", "CHAIR", 2, None),
            ask("o1", WhenShort::Reject, &[("TABLE", 2)]),
            ship("o1", "TABLE", 2, None),
        ])
        .await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    let product = tx.load(&selection("TABLE", &[], &[])).await.expect("products").pop().expect("the product");
    assert!(product.batch(&reference("b")).is_none());
    let named = ["b", "c", "x"].map(|name| (sku("TABLE"), reference(name)));
    let mut brought = tx.batches(&named).await.expect("batches");
    brought.sort_by(|(_, a), (_, b)| a.reference.cmp(&b.reference));
    let brought: Vec<_> =
        brought.iter().map(|(of, batch)| (of.as_str(), batch.reference.as_str(), batch.quantity.units())).collect();
    assert_eq!(brought, [("TABLE", "b", 0), ("TABLE", "c", 2)]);
    assert!(tx.batches(&[]).await.expect("batches").is_empty());
    drop(tx);
    let verdicts = fixture.handle([bring_back("o1", "TABLE", 2, ReturnTo::Restock)]).await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    assert_eq!(fixture.product("TABLE").await.available(), 4);
    fixture.assert_balanced().await;
}

/// Whatever happens to them meanwhile: a line has its units in its row, or in rows of their own.
pub async fn the_lines_of_an_order_are_read_as_of_one_moment<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None), allocate("o1", &[("TABLE", 10)])]).await;
    let at_work = AtomicBool::new(true);
    let picking = async {
        for _ in 0..50 {
            let unpick = Command::Unpick(Unpick { order_id: order("o1"), lines: Vec::new() });
            for verdict in fixture.handle([pick("o1"), unpick]).await {
                verdict.expect("it is allowed");
            }
        }
        at_work.store(false, Ordering::Relaxed);
    };
    let reading = async {
        while at_work.load(Ordering::Relaxed) {
            let line = fixture.lines_of("o1").await.remove(0).line;
            assert_eq!(line.parts.iter().map(|part| part.qty.units()).sum::<u64>(), 10, "{line:?}");
        }
    };
    join(picking, reading).await;
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
    let listed = fixture.store.products(None, false, 100).await.expect("products");
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
        let lines = fixture.lines_of(name).await;
        assert!(lines[0].line.is_in(&reference(name)));
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
    let product = fixture.product("TABLE").await;
    assert_eq!(product.available(), BatchQuantity::MAX - Quantity::MAX);
    fixture.assert_balanced().await;
}

async fn save<S: Store>(store: &S, product: &Product, saved_version: u64) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let batches = product.batches().iter().map(|batch| (Change::Update, batch)).collect();
    tx.save(&[ProductChanges { product, saved_version, settings: false, batches, lines: Vec::new() }]).await?;
    tx.commit().await
}

/// Whoever saves on top of another's change is told.
pub async fn a_stale_version_is_a_conflict<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let mut product = load(&fixture.store, selection("TABLE", &[], &[])).await.pop().expect("the product");
    product.change_batch_eta(&reference("b"), None).expect("no change");
    let change = SupplyChange::Quantity(BatchQuantity::new(11).unwrap());
    product.change_supply(&reference("b"), &change, &[]).expect("a change");
    fixture.handle([change_quantity("b", "TABLE", 12)]).await;
    let saved = save(&fixture.store, &product, 1).await;
    assert!(matches!(saved, Err(StoreError::Conflict(_))), "{saved:?}");
}

/// Two copies that meet a SKU for the first time.
pub async fn a_product_made_twice_is_a_conflict<S: Store>(fixture: Fixture<S>) {
    fixture.handle([create_batch("b", "TABLE", 10, None)]).await;
    let mut product = Product::new(sku("TABLE"), fixture.clock.now());
    product
        .create_batch(reference("c"), BatchQuantity::new(1).unwrap(), None, None, location("default"))
        .expect("a new batch");
    let mut tx = fixture.store.begin().await.expect("a transaction");
    let batches = product.batches().iter().map(|batch| (Change::Insert, batch)).collect();
    let mut saved = tx
        .save(&[ProductChanges { product: &product, saved_version: 0, settings: true, batches, lines: Vec::new() }])
        .await;
    if saved.is_ok() {
        saved = tx.commit().await;
    }
    assert!(matches!(saved, Err(StoreError::Conflict(_))), "{saved:?}");
}
