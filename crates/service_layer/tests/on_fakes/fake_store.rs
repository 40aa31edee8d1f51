//! The fake store keeps the same contracts as the real ones: what passes on it, passes on them.

use std::sync::Arc;

use allocation_testing::clock::ManualClock;
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::FakeDatabase;
use allocation_testing::{random_histories, store_contract};

async fn fixture() -> Fixture<FakeDatabase> {
    let clock = Arc::new(ManualClock::new());
    Fixture { store: FakeDatabase::new(clock.clone()), clock, keep: None }
}

store_contract!(fixture);
random_histories!(fixture);
