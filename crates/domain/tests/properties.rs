//! Whatever happens: the domain does what the reference model does, no unit is sold twice, nobody waits in vain, what is refused
//! changes nothing, and events tell it all.

mod common;

use allocation_model::{BatchView, LineView, Model, Refused, Step, steps};
use common::{Done, Keeper};
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;
use time::Duration;

/// Histories tried by each test; `SOAK=100` tries a hundred times as many.
fn histories(cases: u32) -> ProptestConfig {
    let soak = std::env::var("SOAK").ok().map_or(1, |soak| soak.parse().expect("SOAK is a number"));
    // The default generator of randomness is made for secrets, and takes longer than all that is tried with it.
    let rng_algorithm = RngAlgorithm::XorShift;
    ProptestConfig { cases: cases * soak, failure_persistence: None, rng_algorithm, ..ProptestConfig::default() }
}

/// The world twice.
struct Both {
    keeper: Keeper,
    model: Model,
}

impl Both {
    fn new() -> Self {
        Self { keeper: Keeper::new(steps::START), model: Model::new(steps::START) }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait(time) => {
                self.keeper.now += *time;
                self.model.advance(*time);
            }
            Step::Do(command) => {
                let done = self.keeper.run(command).map(|Done { outcome, .. }| outcome);
                let expected = self.model.apply(command);
                prop_assert_eq!(
                    done.map_err(|rejection| Refused::from(&rejection)),
                    expected,
                    "the answer to {:?}",
                    step
                );
            }
        }
        prop_assert!(self.keeper.complaints.is_empty(), "{}", self.keeper.complaints.join("\n"));
        self.compare(step)
    }

    fn compare(&self, step: &Step) -> Result<(), TestCaseError> {
        prop_assert!(self.keeper.stored.keys().eq(self.model.skus()));
        prop_assert_eq!(self.model.invariants(), Ok(()), "after {:?}", step);
        for (sku, stored) in &self.keeper.stored {
            let product = self.keeper.product(sku).expect("it is stored");
            let expected = self.model.product(sku).expect("the same are known");
            prop_assert!(stored.batches.keys().eq(expected.batches.keys()), "batches of {} after {:?}", sku, step);
            for (reference, batch) in &stored.batches {
                let expected = &expected.batches[reference];
                prop_assert_eq!(&BatchView::from(batch), expected, "batch {} of {} after {:?}", reference, sku, step);
            }
            prop_assert!(stored.lines.keys().eq(expected.lines.keys()), "lines of {} after {:?}", sku, step);
            for (key, line) in &stored.lines {
                let expected = &expected.lines[key];
                prop_assert_eq!(&LineView::from(line), expected, "{:?} of {} after {:?}", key, sku, step);
            }
            prop_assert_eq!(
                (product.settings(), product.available(), product.backordered(), product.queued()),
                (expected.settings, expected.available, expected.backordered, expected.queued),
                "settings, available, backordered and queued of {} after {:?}",
                sku,
                step
            );
            for days in -1..10 {
                let by = product.today() + Duration::days(days);
                prop_assert_eq!(product.available_to_promise(by), self.model.available_to_promise(sku, by));
            }
            for line in stored.lines.values() {
                let parts = line.ordered() + line.dropped + line.cancelled + line.lapsed;
                prop_assert_eq!(line.requested.units(), parts, "each unit of {:?} is in one state", line);
            }
        }
        Ok(())
    }
}

fn try_history(history: &[Step]) -> Result<(), TestCaseError> {
    let mut both = Both::new();
    history.iter().try_for_each(|step| both.take(step))
}

proptest! {
    #![proptest_config(histories(5_000))]

    #[test]
    fn the_domain_does_what_the_model_does_with_one_product(history in steps::steps(1, 1..50)) {
        try_history(&history)?;
    }

    #[test]
    fn the_domain_does_what_the_model_does_with_orders_over_many_products(history in steps::steps(3, 1..50)) {
        try_history(&history)?;
    }
}
