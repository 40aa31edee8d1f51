//! Checks the books: folds the event log and says where the tables differ.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::ledger::Ledger;
use allocation_domain::product::StoredProduct;
use allocation_domain::{AcceptedLine, Batch, BatchRef, Event, Product, Shipped, Sku};
use time::OffsetDateTime;

use crate::checkpoint::Base;
use crate::movements::{Balances, NOTED_EVERY, is_to_be_noted};
use crate::ports::archive::Checkpoint;
use crate::ports::database::{NotedBalances, StoreResult};
use crate::ports::reader::{Reader, Span};
use crate::wire;

/// Everything a store holds of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductBooks {
    /// The product with *all* its batches; `None`: rows of a product that is not there.
    pub product: Option<Product>,
    /// The product's name.
    pub sku: Sku,
    /// All its lines.
    pub lines: Vec<AcceptedLine>,
    /// What its archived events came to, with all batches and lines; `None`: none was archived.
    pub checkpoint: Option<Checkpoint>,
    /// All its other events by sequence, each as stored.
    pub events: Vec<(u64, String)>,
    /// Where the store says that the events of its batches are, if it keeps that; what it says of the last one counts once a batch is not open.
    pub spans: BTreeMap<BatchRef, Span>,
    /// All its noted balances by sequence.
    pub balances: Vec<NotedBalances>,
    /// What is wrong in ways that only this store knows of.
    pub faults: Vec<String>,
    /// What time it is for the store.
    pub now: OffsetDateTime,
}

/// What a check of the books found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Products checked.
    pub products: u64,
    /// Batches checked.
    pub batches: u64,
    /// Lines checked.
    pub lines: u64,
    /// Events folded.
    pub events: u64,
    /// Events that were archived, and that checkpoints stand for.
    pub archived: u64,
    /// Units allocated, over all products.
    pub allocated: u64,
    /// Units held, over all products.
    pub held: u64,
    /// Units backordered, over all products.
    pub backordered: u64,
    /// Each difference, in words.
    pub differences: Vec<String>,
    /// Products of which something differs.
    pub differing: BTreeSet<Sku>,
}

impl Findings {
    /// Whether the books balance.
    pub fn balanced(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Checks every product in one snapshot.
pub async fn verify(reader: &dyn Reader) -> StoreResult<Findings> {
    let mut findings = Findings::default();
    reader.audit(&mut |books| check(&books, &mut findings)).await?;
    Ok(findings)
}

/// Checks one product's books.
pub fn check(books: &ProductBooks, findings: &mut Findings) {
    findings.products += 1;
    findings.lines += books.lines.len() as u64;
    findings.events += books.events.len() as u64;
    let archived = books.checkpoint.as_ref().map_or(0, Checkpoint::sequence);
    findings.archived += archived;
    let sku = &books.sku;
    let mut differ = |what: String| {
        findings.differences.push(format!("{sku}: {what}"));
        findings.differing.insert(sku.clone());
    };

    for fault in &books.faults {
        differ(fault.clone());
    }
    let mut noted = books.balances.iter().peekable();
    let (mut wrong, mut outside) = (Vec::new(), BTreeSet::new());
    let is_open =
        |reference| books.product.as_ref().and_then(|product| product.batch(reference)).is_some_and(Batch::is_open);
    let (Base { ledger, .. }, contradictions) = fold(books, |ledger, event| {
        if let Some((reference, span)) = event.batch().and_then(|reference| books.spans.get_key_value(reference))
            && (ledger.version <= span.after || ledger.version > span.until && !is_open(reference))
        {
            outside.insert(reference.clone());
        }
        while let Some(noted) = noted.next_if(|noted| noted.sequence <= ledger.version) {
            let told = Balances::of(ledger.batches.values());
            if noted.sequence != ledger.version || Balances::from_json(&noted.body) != Ok(told) {
                wrong.push(noted.sequence);
            }
        }
    });
    wrong.extend(noted.map(|noted| noted.sequence));
    for sequence in wrong {
        differ(format!("has other balances noted after event {sequence} than its events tell"));
    }
    for reference in outside {
        differ(format!("batch {reference} is said to have its events elsewhere than it has"));
    }
    let last = books.balances.last().map_or(archived, |noted| noted.sequence);
    if is_to_be_noted(last, ledger.version) {
        differ(format!("has no balances noted since event {last}"));
    }
    contradictions.into_iter().for_each(&mut differ);
    let Some(product) = &books.product else {
        differ("has rows but is no product".to_owned());
        return;
    };
    findings.batches += product.batches().len() as u64;
    findings.allocated += product.batches().iter().map(|batch| batch.allocated).sum::<u64>();
    findings.held += product.held();
    findings.backordered += product.backordered();

    if product.version() != ledger.version {
        differ(format!("is at version {} but its last event is {}", product.version(), ledger.version));
    }
    let mut number = |what: &str, is: u64, told: u64| {
        if is != told {
            differ(format!("has {is} {what}, by its events {told}"));
        }
    };
    number("units backordered", product.backordered(), ledger.backordered());
    number("units counted by the queue's cap", product.queued(), ledger.queued());
    if product.out_of_stock_raised() != ledger.out_of_stock_raised {
        differ(format!("says out-of-stock-raised is {}, unlike its events", product.out_of_stock_raised()));
    }
    if *product.low() != ledger.low {
        differ(format!("says that little is left at {:?}, by its events at {:?}", product.low(), ledger.low));
    }
    if *product.settings() != ledger.settings {
        differ(format!("has {:?}, by its events {:?}", product.settings(), ledger.settings));
    }
    let mut placed: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in &books.lines {
        let key = &line.key;
        seen.insert(key);
        for (batch, part) in line.placements() {
            let (held, allocated) = placed.entry(batch.as_str()).or_default();
            *(if line.hold.is_some() { held } else { allocated }) += part.qty.units();
        }
        let units = line.ordered() + line.dropped + line.cancelled + line.lapsed;
        let name = format!("line {} of order {}", key.line, key.order_id);
        if units != line.requested.units() {
            differ(format!("{name} asks for {} units and has {units}", line.requested));
        }
        match ledger.lines.get(key) {
            Some(told) if told == line => {}
            Some(told) => differ(format!("{name} is {}, by its events {}", in_words(line), in_words(told))),
            None => differ(format!("{name} is in no event")),
        }
    }
    for key in ledger.lines.keys().filter(|key| !seen.contains(key)) {
        differ(format!("line {} of order {} is told of by events and is not there", key.line, key.order_id));
    }
    for batch in product.batches() {
        differences_of_batch(batch, &ledger, placed.get(batch.reference.as_str()).copied(), &mut differ);
    }
    for reference in ledger.batches.keys().filter(|reference| product.batch(reference).is_none()) {
        differ(format!("batch {reference} is told of by events and is not there"));
    }
}

/// A line's state and where its units are, for people.
fn in_words(line: &AcceptedLine) -> String {
    let mut words = vec![line.state().name().to_owned()];
    for part in &line.parts {
        let place = part.batch.as_ref().map_or_else(|| "waiting".to_owned(), |batch| format!("in {batch}"));
        let picked = if part.locked { ", being picked" } else { "" };
        words.push(format!("{} {place} since {}{picked}", part.qty, part.accepted));
    }
    for Shipped { batch, qty, returned } in &line.shipped {
        words.push(format!("{qty} shipped from {batch}, of which {returned} came back"));
    }
    for (units, what) in [
        (line.dropped, "dropped"),
        (line.cancelled, "cancelled"),
        (line.lapsed, "lapsed"),
        (line.queued, "counted by the cap"),
    ] {
        if units > 0 {
            words.push(format!("{units} {what}"));
        }
    }
    if let Some(until) = line.hold {
        words.push(format!("until {until}"));
    }
    format!("{} of {} on {:?}", words.join(", "), line.requested, line.terms)
}

fn differences_of_batch(batch: &Batch, ledger: &Ledger, placed: Option<(u64, u64)>, differ: &mut impl FnMut(String)) {
    let reference = &batch.reference;
    let Some(told) = ledger.batches.get(reference) else {
        differ(format!("batch {reference} is in no event"));
        return;
    };
    if batch != told {
        differ(format!("batch {reference} is {batch:?}, by its events {told:?}"));
    }
    let placed = placed.unwrap_or_default();
    if placed != (batch.held, batch.allocated) {
        let (held, allocated) = placed;
        differ(format!(
            "batch {reference} has {} held and {} allocated, its lines {held} and {allocated}",
            batch.held, batch.allocated
        ));
    }
    if batch.placed() > batch.usable() {
        differ(format!("batch {reference} is oversold: {} of {}", batch.placed(), batch.usable()));
    }
}

/// What a product's events come to, and each contradiction among them. Shows each that can be true, and what all have come to by it.
fn fold(books: &ProductBooks, mut after_each: impl FnMut(&Ledger, &Event)) -> (Base, Vec<String>) {
    let mut contradictions = Vec::new();
    let base = books.checkpoint.as_ref().map_or_else(|| Ok(Base::default()), Base::of);
    let mut base = base.unwrap_or_else(|why| {
        contradictions.push(format!("its checkpoint can't be read: {why}"));
        Base::default()
    });
    if base.balances != Balances::of(base.ledger.batches.values()) {
        contradictions.push("its checkpoint has other balances than its batches have in it".to_owned());
    }
    for (sequence, body) in &books.events {
        let folded = match wire::parse_event(body) {
            Ok(event) if event.sku == books.sku && event.sequence == *sequence => {
                base.changed_at = event.time;
                let folded = base.ledger.fold(*sequence, &event.event);
                folded.map(|()| after_each(&base.ledger, &event.event)).map_err(|error| error.to_string())
            }
            Ok(event) => Err(format!("event {sequence} says it is event {} of {}", event.sequence, event.sku)),
            Err(error) => Err(format!("event {sequence} can't be read: {error}")),
        };
        contradictions.extend(folded.err());
    }
    (base, contradictions)
}

/// The product that its events tell of, with all its batches and lines, and its balances wherever they are to be noted.
///
/// # Errors
/// The first contradiction among the events.
pub fn product_told_by_events(books: &ProductBooks) -> Result<(Product, Vec<NotedBalances>), String> {
    let mut balances = Vec::new();
    let (base, contradictions) = fold(books, |ledger, _| {
        if ledger.version.is_multiple_of(NOTED_EVERY) {
            balances.push(Balances::of(ledger.batches.values()).noted(&books.sku, ledger.version));
        }
    });
    if let Some(first) = contradictions.into_iter().next() {
        return Err(first);
    }
    let Base { ledger, changed_at, .. } = base;
    if ledger.version == 0 {
        return Err("it has no events".to_owned());
    }
    let stored = StoredProduct {
        sku: books.sku.clone(),
        version: ledger.version,
        changed_at,
        backordered: ledger.backordered(),
        queued: ledger.queued(),
        settings: ledger.settings,
        out_of_stock_raised: ledger.out_of_stock_raised,
        low: ledger.low,
        batches: ledger.batches.into_values().collect(),
    };
    let mut product = Product::restore(stored, books.now);
    product.remember(ledger.lines.into_values());
    Ok((product, balances))
}
