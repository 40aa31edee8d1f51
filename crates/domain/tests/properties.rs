//! What holds whatever happens: no oversell, nothing forgotten, the queue served, and events that tell it all.

mod common;

use std::collections::BTreeMap;

use allocation_domain::ledger::Ledger;
use allocation_domain::product::Decision;
use allocation_domain::{BatchRef, LineState, Product};
use common::{Bench, line};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Create(u8, u64, Option<i64>),
    Allocate(u8, u64),
    Cancel(u8),
    Quantity(u8, u64),
    Eta(u8, Option<i64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let units = || prop_oneof![0..4_u64, 0..30_u64];
    let days = || prop::option::of(0..5_i64);
    let step = prop_oneof![
        2 => (0..5_u8, units(), days()).prop_map(|(batch, units, days)| Step::Create(batch, units, days)),
        6 => (0..40_u8, 1..10_u64).prop_map(|(order, units)| Step::Allocate(order, units)),
        2 => (0..40_u8).prop_map(Step::Cancel),
        3 => (0..5_u8, units()).prop_map(|(batch, units)| Step::Quantity(batch, units)),
        1 => (0..5_u8, days()).prop_map(|(batch, days)| Step::Eta(batch, days)),
    ];
    prop::collection::vec(step, 1..60)
}

/// Takes a step; `true` if the domain agreed.
fn take(bench: &mut Bench, step: &Step) -> bool {
    match step {
        Step::Create(batch, units, days) => bench.create(&format!("b{batch}"), *units, *days).is_ok(),
        Step::Allocate(order, units) => match bench.product.plan(&[line(&format!("o{order}"), *units)]) {
            Decision::Conflict(_) => false,
            _ => bench.allocate(&format!("o{order}"), *units).is_ok(),
        },
        Step::Cancel(order) => bench.deallocate(&format!("o{order}")).is_ok(),
        Step::Quantity(batch, units) => bench.change_quantity(&format!("b{batch}"), *units).is_ok(),
        Step::Eta(batch, days) => bench.change_eta(&format!("b{batch}"), *days).is_ok(),
    }
}

fn holds(bench: &Bench) -> Result<(), TestCaseError> {
    let product = &bench.product;
    let mut placed: BTreeMap<&BatchRef, u64> = BTreeMap::new();
    let mut waiting = 0;
    for key in bench.known() {
        let line = product.line(key).expect("no line is ever forgotten");
        prop_assert_eq!(line.requested.units(), line.allocated() + line.backordered() + line.cancelled());
        waiting += line.backordered();
        if let Some(batch) = line.batch() {
            *placed.entry(batch).or_default() += line.allocated();
        }
        if line.state == LineState::Backordered {
            let fits = product.batches().iter().any(|batch| batch.free() >= line.requested.units());
            prop_assert!(!fits, "{:?} waits for what is free", line);
        }
    }
    prop_assert_eq!(product.backordered(), waiting);
    for batch in product.batches() {
        prop_assert!(batch.allocated <= batch.quantity.units(), "{batch:?} is oversold");
        prop_assert_eq!(placed.get(&batch.reference).copied().unwrap_or(0), batch.allocated);
    }
    prop_assert!(product.batches().is_sorted_by(|a, b| a.preference() < b.preference()));
    Ok(())
}

/// Everything but the events that were not taken yet.
fn state(product: &Product) -> Product {
    let mut product = product.clone();
    product.take_events();
    product
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_unit_is_sold_twice_and_no_line_is_forgotten(steps in steps()) {
        let mut bench = Bench::new();
        for step in &steps {
            take(&mut bench, step);
            holds(&bench)?;
        }
    }

    #[test]
    fn a_refused_step_changes_nothing_but_to_say_that_stock_ran_out(steps in steps()) {
        let mut bench = Bench::new();
        for step in &steps {
            let before = state(&bench.product);
            let agreed = take(&mut bench, step);
            let told = bench.told();
            if !agreed && told.is_empty() {
                prop_assert_eq!(&bench.product, &before);
            } else if !agreed {
                prop_assert_eq!(told, ["OutOfStock"]);
                prop_assert!(!before.out_of_stock_raised());
                prop_assert_eq!(bench.product.batches(), before.batches());
            }
        }
    }

    #[test]
    fn replaying_the_events_gives_the_state(steps in steps()) {
        let mut bench = Bench::new();
        let mut ledger = Ledger::default();
        for step in &steps {
            take(&mut bench, step);
            for (sequence, event) in (ledger.version + 1..).zip(bench.product.take_events()) {
                prop_assert!(ledger.fold(sequence, &event).is_ok(), "{event:?}");
            }
            let product = &bench.product;
            prop_assert_eq!(ledger.version, product.version());
            prop_assert_eq!(ledger.backordered(), product.backordered());
            prop_assert_eq!(ledger.out_of_stock_raised, product.out_of_stock_raised());
            prop_assert_eq!(ledger.batches.len(), product.batches().len());
            for batch in product.batches() {
                let told = &ledger.batches[&batch.reference];
                prop_assert_eq!(
                    (told.quantity, told.allocated, told.eta, told.revision),
                    (batch.quantity.units(), batch.allocated, batch.eta, batch.revision)
                );
            }
            for key in bench.known() {
                prop_assert_eq!(ledger.lines.get(key), product.line(key));
            }
        }
    }
}
