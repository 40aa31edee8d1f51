//! Whatever happens: the domain does what the reference model does, no unit is sold twice, nobody waits in vain, what is refused
//! changes nothing, and events tell it all.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{Done, Keeper};
use allocation_domain::{Event, Location, Sku};
use allocation_model::{BatchView, LineView, Model, Refused, Step, Told, steps};
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
    /// How often the domain told of each location that little is left there, and that there is enough again.
    told: BTreeMap<Sku, BTreeMap<Location, Told>>,
}

impl Both {
    fn new() -> Self {
        let (mut keeper, mut model) = (Keeper::new(steps::START), Model::new(steps::START));
        for (name, hours) in steps::ELSEWHERE {
            let location = Location::new(name).expect("a name");
            keeper.hours.insert(location.clone(), hours);
            model = model.with(location, hours);
        }
        Self { keeper, model, told: BTreeMap::new() }
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
        self.listen();
        self.compare(step)
    }

    /// Takes the events, and counts those of levels.
    fn listen(&mut self) {
        for (sku, event) in std::mem::take(&mut self.keeper.log) {
            let told = self.told.entry(sku).or_default();
            match event {
                Event::LowStock { location, .. } => told.entry(location).or_default().low += 1,
                Event::Restocked { location, .. } => told.entry(location).or_default().restocked += 1,
                _ => {}
            }
        }
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
                (product.settings(), product.available(), product.backordered(), product.queued(), product.low()),
                (&expected.settings, expected.available, expected.backordered, expected.queued, &expected.low),
                "settings, available, backordered, queued and low of {} after {:?}",
                sku,
                step
            );
            let told = self.told.get(sku).cloned().unwrap_or_default();
            prop_assert_eq!(told, self.model.told(sku), "what is told of levels of {} after {:?}", sku, step);
            let at: BTreeSet<&Location> = expected.batches.values().map(|batch| &batch.location).collect();
            prop_assert!(product.locations().into_iter().eq(at.iter().copied()));
            for location in at {
                prop_assert_eq!(
                    product.available_at(location),
                    self.model.available_at(sku, location),
                    "available of {} at {} after {:?}",
                    sku,
                    location,
                    step
                );
            }
            let days: Vec<_> = (-1..10).map(|days| product.calendar().usual() + Duration::days(days)).collect();
            let available: Vec<_> = days.iter().map(|day| product.available_to_promise(*day)).collect();
            let expected = self.model.available_to_promise(sku, &days);
            prop_assert_eq!(available, expected, "available of {} by each of {:?} after {:?}", sku, days, step);
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
