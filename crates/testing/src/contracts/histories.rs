//! Random histories: a store, with the service layer and the domain above it, does what the reference model does.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::Sku;
use allocation_domain::product::Declared;
use allocation_model::worlds::World;
use allocation_model::{Model, Outcome, ProductView, Refused, Step, steps};
use allocation_service_layer::handlers::{Reply, Verdict};
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::{ProductRepository, Selection, Transaction};
use allocation_service_layer::ports::reader::Foresight as _;
use allocation_service_layer::verify::{Findings, ProductBooks, check};
use allocation_service_layer::views;
use allocation_service_layer::{MessageBus, TimeZones, Usual};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use super::movements::assert_ledger_agrees;
use super::{Fixture, Store};
use crate::shorthand::{location, message};

/// How many stores there are for them, and histories in each; `SOAK=100` tries them in a hundred times as many stores.
const STORES: u32 = 5;
const HISTORIES: u32 = 100;

/// Each history is in a world of its own, so that one store serves many of them.
pub async fn a_random_history_goes_as_the_model_says<S: Store>(fixture: impl AsyncFn() -> Fixture<S>) {
    let soak = std::env::var("SOAK").map_or(1, |soak| soak.parse().expect("SOAK is a number"));
    for _ in 0..STORES * soak {
        try_histories(fixture().await).await;
    }
}

async fn try_histories<S: Store>(fixture: Fixture<S>) {
    let mut runner = TestRunner::new(ProptestConfig { cases: HISTORIES, ..ProptestConfig::default() });
    let worlds = std::sync::atomic::AtomicU64::new(0);
    let elsewhere = steps::ELSEWHERE.map(|(name, hours)| {
        (location(name), TimeZone::fixed(jiff::tz::offset(i8::try_from(hours).expect("hours of a day"))))
    });
    let usual = Usual { time_zones: TimeZones::new(TimeZone::UTC, elsewhere.into()), ..Usual::default() };
    let (bus, runtime) = (fixture.bus().with_usual(usual), tokio::runtime::Handle::current());
    let tried = tokio::task::spawn_blocking(move || {
        // Of one in four, somewhere on the way, everything that there is leaves the log, with what is left of those before it.
        runner.run(&(steps::steps(2, 1..36), 0..72_usize), |(history, archived)| {
            let world = World(worlds.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            runtime.block_on(try_history(&fixture, &bus, world, &history, archived))
        })
    });
    let tried = tried.await.expect("histories do not panic");
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, (history, archived))) => {
            panic!("{why}\nin the history {history:#?}\narchived before step {archived}")
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

async fn try_history<S: Store>(
    fixture: &Fixture<S>,
    bus: &MessageBus<S>,
    world: World,
    history: &[Step],
    archived: usize,
) -> Result<(), TestCaseError> {
    // Time only goes forward, and steps name days from where histories begin: each history begins a day that is as good.
    fixture.clock.set(steps::START);
    let mut model = Model::new(fixture.clock.now());
    for (name, hours) in steps::ELSEWHERE {
        model = model.with(location(name), hours);
    }
    for (nth, step) in history.iter().enumerate() {
        if nth == archived {
            fixture.archive().await;
        }
        match step {
            Step::Wait(time) => {
                fixture.clock.advance(time.unsigned_abs());
                model.advance(*time);
            }
            Step::Do(command) => {
                let command = world.command(command);
                let expected = model.apply(&command);
                let verdict = bus.handle(message(command)).await.map_err(|why| TestCaseError::fail(why.to_string()))?;
                prop_assert_eq!(answer(&verdict), expected.map(news), "the answer to {:?}", step);
            }
        }
    }
    for sku in model.skus().cloned().collect::<Vec<_>>() {
        let books = books(fixture, &sku).await;
        let mut findings = Findings::default();
        check(&books, &mut findings);
        prop_assert_eq!(&findings.differences, &Vec::<String>::new());
        if let Some(product) = &books.product {
            assert_ledger_agrees(&fixture.store, product).await;
        }
        let expected = model.product(&sku);
        let stored = stored(&books, bus.usual());
        prop_assert!(stored == expected, "{sku} is\n{stored:#?}\nand should be\n{expected:#?}");
    }
    compare_reads(fixture, bus, &model.read()).await
}

/// What readers see is the world with what is due done.
async fn compare_reads<S: Store>(
    fixture: &Fixture<S>,
    bus: &MessageBus<S>,
    model: &Model,
) -> Result<(), TestCaseError> {
    for sku in model.skus() {
        let view = views::product(&fixture.store, bus, sku).await.expect("the store works");
        let (Some(view), Some(expected)) = (view, model.product(sku)) else { panic!("{sku} is known") };
        prop_assert_eq!(
            (view.numbers.available, view.backordered, view.queued, view.settings),
            (expected.available, expected.backordered, expected.queued, expected.settings)
        );
        let low: BTreeSet<_> = view.locations.into_iter().filter(|at| at.low).map(|at| at.location).collect();
        prop_assert_eq!(low, expected.low);
        for (key, line) in &expected.lines {
            let order = views::order(&fixture.store, bus, &key.order_id).await.expect("the store works");
            let found = order.iter().find(|found| found.sku == *sku && found.key == *key);
            let placements = |view: &views::LineView| -> BTreeMap<_, _> {
                view.placements.iter().map(|placement| (placement.batch.clone(), placement.qty)).collect()
            };
            let found = found.map(|found| (found.state, placements(found), found.backordered, found.held_until));
            prop_assert_eq!(found, Some((line.state, line.placements.clone(), line.backordered, line.until)));
        }
    }
    Ok(())
}

async fn books<S: Store>(fixture: &Fixture<S>, sku: &Sku) -> ProductBooks {
    let mut tx = fixture.store.begin().await.expect("a transaction");
    let wanted = Selection { skus: [sku.clone()].into(), ..Selection::default() };
    tx.load(&wanted).await.expect("a load");
    let books = tx.books(sku).await.expect("the books");
    tx.end().await.expect("an end");
    books
}

fn stored(books: &ProductBooks, usual: &Usual) -> Option<ProductView> {
    let mut product = books.product.clone()?;
    usual.tell(&mut product);
    Some(ProductView {
        settings: product.settings().clone(),
        batches: product.batches().iter().map(|batch| (batch.reference.clone(), batch.into())).collect(),
        lines: books.lines.iter().map(|line| (line.key.clone(), line.into())).collect(),
        available: product.available(),
        backordered: product.backordered(),
        queued: product.queued(),
        low: product.low().clone(),
    })
}

/// Whether something is new, as far as the answer says it.
fn answer(verdict: &Verdict) -> Result<bool, Refused> {
    match verdict {
        Ok(Reply::Product(reply)) => Ok(reply.declared == Declared::New),
        Ok(Reply::Batch(reply)) => Ok(reply.declared == Declared::New),
        Ok(Reply::Order(reply)) => Ok(reply.created),
        Ok(Reply::Repaired(_) | Reply::Done) => Ok(false),
        Err(rejection) => Err(rejection.into()),
    }
}

fn news(outcome: Outcome) -> bool {
    outcome == Outcome::New
}
