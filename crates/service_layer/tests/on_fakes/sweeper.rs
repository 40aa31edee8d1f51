//! The sweeper on fakes.

use std::sync::Arc;
use std::time::Duration;

use allocation_domain::Terms;
use allocation_domain::commands::WhenShort;
use allocation_service_layer::Usual;
use allocation_service_layer::group_commit::{Lane, Limits};
use allocation_service_layer::ports::database::KeyOf;
use allocation_service_layer::sweeper::Sweeper;
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::FakeDatabase;
use allocation_testing::shorthand::{ask_on, create_batch, day, keep_back};

const KEPT: Duration = Duration::from_hours(1);

/// A fixture, and a sweeper of its store.
fn fixture() -> (Fixture<FakeDatabase>, Sweeper) {
    let clock = Arc::new(ManualClock::new());
    let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock: clock.clone(), keep: None };
    let (lane, handle) = Lane::new(Arc::new(fixture.bus()), Limits::default());
    tokio::spawn(lane.run());
    let store = Arc::new(fixture.store.clone());
    let sweeper = Sweeper {
        reader: store.clone(),
        commands: Arc::new(handle),
        clock,
        entropy: Arc::new(CountingEntropy::default()),
        usual: Usual::default(),
        housekeeping: store,
        keep_keys: [(KeyOf::Request, KEPT), (KeyOf::Message, KEPT)],
    };
    (fixture, sweeper)
}

#[tokio::test]
async fn who_can_have_something_since_a_day_has_begun_is_served() {
    let (fixture, sweeper) = fixture();
    let commands = [
        keep_back("A", 4),
        create_batch("late", "A", 4, Some(day(0))),
        create_batch("next", "A", 1, Some(day(2))),
        create_batch("here", "A", 3, None),
        ask_on("o1", WhenShort::Backorder, &Terms::whole(), &[("A", 4)]),
        create_batch("here", "B", 3, None),
        ask_on("o2", WhenShort::Backorder, &Terms::whole(), &[("B", 4)]),
    ];
    for verdict in fixture.handle(commands).await {
        verdict.expect("part of the set-up");
    }
    sweeper.serve_by_the_day().await.expect("a sweep");
    let waiting = async || (fixture.product("A").await.backordered(), fixture.product("B").await.backordered());
    assert_eq!(waiting().await, (4, 4));
    fixture.clock.advance(time::Duration::DAY.unsigned_abs());
    sweeper.serve_by_the_day().await.expect("a sweep");
    assert_eq!(waiting().await, (0, 4));
    fixture.assert_balanced().await;
}
