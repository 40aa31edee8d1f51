//! What random histories are about: each kind of thing really happens in a fair part of them, or nothing would be said of it by comparing.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::{BatchRef, Command, Location, Locations, Sku, Split, Strategy as Order};
use allocation_model::{Model, ProductView, Refused, Step, steps};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

const HISTORIES: usize = 1_000;

/// In how many of a thousand histories each of these happens, at least.
const HAPPENS: [(&str, usize); 23] = [
    ("a line over locations is at several", 60),
    ("a line in parts is in several batches, and there are others elsewhere", 50),
    ("a line in parts waits for more where it is", 150),
    ("a line waits for a location that it accepts, and there is stock at another", 150),
    ("the preferred location is not the first by name", 100),
    ("by location priority a line is on a later day than it could be", 25),
    ("a line has moved to another location", 60),
    ("a hold has moved to another location", 5),
    ("what is on hand and free is not promised", 150),
    ("somebody waits who could have what is kept", 100),
    ("kept stock expires", 15),
    ("little is left", 300),
    ("enough is there again", 100),
    ("a batch is given up, and has free units", 150),
    ("a batch is given up, and somebody stays in it", 100),
    ("a batch counts again", 30),
    ("units are sent", 150),
    ("units that were sent are promised", 60),
    ("units that were sent have come", 60),
    ("nothing is sent, since it is there already", 100),
    ("a batch is declared where it is not", 100),
    ("it is another day somewhere, and stock is there", 200),
    ("a batch has expired there, and would not have here", 5),
];

#[derive(Default)]
struct Seen(BTreeSet<&'static str>);

impl Seen {
    fn note(&mut self, what: &'static str, happens: bool) {
        assert!(HAPPENS.iter().any(|(known, _)| *known == what), "{what} is not in the table");
        if happens {
            self.0.insert(what);
        }
    }

    fn look_at_answer(&mut self, command: &Command, refused: bool, why: Option<Refused>) {
        let elsewhere = why == Some(Refused::AtLocation);
        self.note("units are sent", matches!(command, Command::Transfer(_)) && !refused);
        self.note("nothing is sent, since it is there already", matches!(command, Command::Transfer(_)) && elsewhere);
        self.note("a batch is declared where it is not", matches!(command, Command::DeclareBatch(_)) && elsewhere);
    }

    fn look_at(&mut self, model: &Model, sku: &Sku, before: Option<&ProductView>, now: &ProductView) {
        self.look_at_lines(before, now);
        self.look_at_days(model, before, now);
        let free = |reference: &BatchRef| {
            let batch = &now.batches[reference];
            if batch.expired { 0 } else { batch.quantity - batch.quarantined - batch.held - batch.allocated }
        };
        let on_hand = now.batches.iter().filter(|(_, batch)| batch.eta.is_none());
        let free_on_hand: u64 = on_hand.map(|(reference, _)| free(reference)).sum();
        self.note("what is on hand and free is not promised", now.available < free_on_hand);
        let wants = now.lines.values().filter(|line| line.backordered > 0 && line.placements.is_empty());
        let could = |location: &Location| wants.clone().any(|line| accepts(line.terms.locations.as_ref(), location));
        let kept = now.batches.iter().any(|(reference, batch)| {
            batch.eta.is_none() && free(reference) > model.available_at(sku, &batch.location) && could(&batch.location)
        });
        self.note("somebody waits who could have what is kept", kept);
    }

    fn look_at_lines(&mut self, before: Option<&ProductView>, now: &ProductView) {
        let at = |view: &ProductView, placements: &BTreeMap<BatchRef, u64>| -> BTreeSet<Location> {
            placements.keys().map(|reference| view.batches[reference].location.clone()).collect()
        };
        let stocked: BTreeSet<&Location> = now.batches.values().map(|batch| &batch.location).collect();
        for (key, line) in &now.lines {
            let places = at(now, &line.placements);
            let in_parts = matches!(line.terms.split, Split::Parts(_));
            let over = matches!(line.terms.split, Split::OverLocations(_));
            self.note("a line over locations is at several", over && places.len() > 1);
            let several = in_parts && line.placements.len() > 1 && places.len() == 1 && stocked.len() > 1;
            self.note("a line in parts is in several batches, and there are others elsewhere", several);
            self.note(
                "a line in parts waits for more where it is",
                in_parts && line.backordered > 0 && places.len() == 1,
            );
            let first = line.terms.locations.as_ref().and_then(|locations| locations.iter().next().cloned());
            let preferred = first.is_some_and(|first| places.contains(&first) && stocked.iter().any(|at| **at < first));
            self.note("the preferred location is not the first by name", preferred);
            let not_here = |location: &&&Location| !accepts(line.terms.locations.as_ref(), location);
            let waits = line.backordered > 0 && places.is_empty() && stocked.iter().any(|at| not_here(&at));
            self.note("a line waits for a location that it accepts, and there is stock at another", waits);
            let by_priority = now.settings.strategy == Some(Order::LocationPriority) && line.terms.locations.is_some();
            let arrived = now.batches.values().any(|batch| {
                batch.eta.is_none() && batch.quantity > 0 && accepts(line.terms.locations.as_ref(), &batch.location)
            });
            let later = line.placements.keys().any(|reference| now.batches[reference].eta.is_some());
            self.note(
                "by location priority a line is on a later day than it could be",
                by_priority && arrived && later,
            );
            let known = before.and_then(|before| Some((before, before.lines.get(key)?)));
            let moved = known.is_some_and(|(before, known)| {
                let places_before = at(before, &known.placements);
                !places_before.is_empty() && !places.is_empty() && places_before.is_disjoint(&places)
            });
            self.note("a line has moved to another location", moved);
            let held = known.is_some_and(|(_, known)| known.until.is_some()) && line.until.is_some();
            self.note("a hold has moved to another location", moved && held);
        }
    }

    fn look_at_days(&mut self, model: &Model, before: Option<&ProductView>, now: &ProductView) {
        let days = model.calendar();
        let is_given_up = |view: &ProductView, reference: &BatchRef| {
            let batch = view.batches.get(reference)?;
            let most = view.settings.overdue_days?;
            Some((days.today(&batch.location) - batch.eta?).whole_days() > most.into())
        };
        for (reference, batch) in &now.batches {
            let placed = batch.held + batch.allocated;
            let given_up = is_given_up(now, reference) == Some(true);
            self.note("a batch is given up, and has free units", given_up && batch.quantity > placed);
            self.note("a batch is given up, and somebody stays in it", given_up && placed > 0);
            let was = before.is_some_and(|before| is_given_up(before, reference) == Some(true));
            self.note("a batch counts again", was && !given_up && batch.eta.is_some() && batch.quantity > 0);
            let sent = reference.as_str() == "t1";
            self.note("units that were sent are promised", sent && placed > 0);
            self.note("units that were sent have come", sent && batch.eta.is_none());
            let keeps = now.settings.levels.values().any(|level| level.safety_stock > 0);
            self.note("kept stock expires", keeps && batch.expired);
            let (here, there) = (days.usual(), days.today(&batch.location));
            self.note("it is another day somewhere, and stock is there", there != here && batch.quantity > 0);
            let only_there = batch.expired && batch.expires_on.is_some_and(|last| last >= here);
            self.note("a batch has expired there, and would not have here", only_there);
        }
    }
}

fn accepts(locations: Option<&Locations>, location: &Location) -> bool {
    locations.is_none_or(|accepted| accepted.iter().any(|accepted| accepted == location))
}

#[test]
fn each_kind_of_thing_happens_in_a_fair_part_of_histories() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let histories = steps::steps(2, 1..50);
    let mut often: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..HISTORIES {
        let history = histories.new_tree(&mut runner).expect("a history").current();
        for what in happens_in(&history).0 {
            *often.entry(what).or_default() += 1;
        }
    }
    let often = |what: &str| often.get(what).copied().unwrap_or(0);
    let rare: Vec<_> = HAPPENS.iter().filter(|(what, least)| often(what) * 1_000 < least * HISTORIES).collect();
    let all: Vec<String> = HAPPENS.iter().map(|(what, _)| format!("{:5} {what}", often(what))).collect();
    assert!(rare.is_empty(), "too rare: {rare:#?}\nof {HISTORIES}:\n{}", all.join("\n"));
}

fn happens_in(history: &[Step]) -> Seen {
    let mut seen = Seen::default();
    let mut model = Model::new(steps::START);
    for (name, hours) in steps::ELSEWHERE {
        model = model.with(Location::new(name).expect("a name"), hours);
    }
    let mut before = BTreeMap::new();
    for step in history {
        match step {
            Step::Wait(time) => model.advance(*time),
            Step::Do(command) => {
                let answer = model.apply(command);
                seen.look_at_answer(command, answer.is_err(), answer.err());
            }
        }
        for sku in model.skus().cloned().collect::<Vec<_>>() {
            let now = model.product(&sku).expect("a known product");
            seen.look_at(&model, &sku, before.get(&sku), &now);
            let told = model.told(&sku);
            seen.note("little is left", told.values().any(|told| told.low > 0));
            seen.note("enough is there again", told.values().any(|told| told.restocked > 0));
            before.insert(sku, now);
        }
    }
    seen
}
