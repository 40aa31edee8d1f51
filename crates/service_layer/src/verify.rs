//! Checks the books: folds the event log and says where the tables differ.

use std::collections::{BTreeMap, BTreeSet};

use allocation_domain::ledger::Ledger;
use allocation_domain::{AcceptedLine, Batch, Product, Sku};

use crate::ports::database::StoreResult;
use crate::ports::reader::Reader;
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
    /// All its events by sequence, each as stored.
    pub events: Vec<(u64, String)>,
    /// What is wrong in ways that only this store knows of.
    pub faults: Vec<String>,
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
    /// Units allocated, over all products.
    pub allocated: u64,
    /// Units backordered, over all products.
    pub backordered: u64,
    /// Each difference, in words.
    pub differences: Vec<String>,
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
    let sku = &books.sku;
    let mut differ = |what: String| findings.differences.push(format!("{sku}: {what}"));

    for fault in &books.faults {
        differ(fault.clone());
    }
    let mut ledger = Ledger::default();
    for (sequence, body) in &books.events {
        let folded = match wire::parse_event(body) {
            Ok(event) if event.sku == *sku && event.sequence == *sequence => {
                ledger.fold(*sequence, &event.event).map_err(|error| error.to_string())
            }
            Ok(event) => Err(format!("event {sequence} says it is event {} of {}", event.sequence, event.sku)),
            Err(error) => Err(format!("event {sequence} can't be read: {error}")),
        };
        if let Err(why) = folded {
            differ(why);
        }
    }
    let Some(product) = &books.product else {
        differ("has rows but is no product".to_owned());
        return;
    };
    findings.batches += product.batches().len() as u64;
    findings.allocated += product.batches().iter().map(|batch| batch.allocated).sum::<u64>();
    findings.backordered += product.backordered();

    if product.version() != ledger.version {
        differ(format!("is at version {} but its last event is {}", product.version(), ledger.version));
    }
    if product.backordered() != ledger.backordered() {
        differ(format!("has {} backordered, by its events {}", product.backordered(), ledger.backordered()));
    }
    if product.out_of_stock_raised() != ledger.out_of_stock_raised {
        differ(format!("says out-of-stock-raised is {}, unlike its events", product.out_of_stock_raised()));
    }
    let mut placed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in &books.lines {
        let key = &line.key;
        seen.insert(key);
        if let Some(batch) = line.batch() {
            *placed.entry(batch.as_str()).or_default() += line.allocated();
        }
        match ledger.lines.get(key) {
            Some(told) if told == line => {}
            Some(told) => differ(format!("line {:?} is {line:?}, by its events {told:?}", key.order_id)),
            None => differ(format!("line {:?} is in no event", key.order_id)),
        }
    }
    for key in ledger.lines.keys().filter(|key| !seen.contains(key)) {
        differ(format!("line {:?} is told of by events and is not there", key.order_id));
    }
    for batch in product.batches() {
        differences_of_batch(batch, &ledger, placed.get(batch.reference.as_str()).copied().unwrap_or(0), &mut differ);
    }
    for reference in ledger.batches.keys().filter(|reference| product.batch(reference).is_none()) {
        differ(format!("batch {reference} is told of by events and is not there"));
    }
}

fn differences_of_batch(batch: &Batch, ledger: &Ledger, placed: u64, differ: &mut impl FnMut(String)) {
    let reference = &batch.reference;
    let Some(told) = ledger.batches.get(reference) else {
        differ(format!("batch {reference} is in no event"));
        return;
    };
    let is = (batch.quantity.units(), batch.allocated, batch.eta, batch.revision);
    if is != (told.quantity, told.allocated, told.eta, told.revision) {
        differ(format!("batch {reference} is {batch:?}, by its events {told:?}"));
    }
    if placed != batch.allocated {
        differ(format!("batch {reference} has {} allocated, its lines {placed}", batch.allocated));
    }
    if batch.allocated > batch.quantity.units() {
        differ(format!("batch {reference} is oversold: {} of {}", batch.allocated, batch.quantity));
    }
}
