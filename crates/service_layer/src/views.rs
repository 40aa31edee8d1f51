//! The read side: answers to questions, apart from everything that changes something.
//!
//! The numbers are those of `docs/glossary.md`, by the same names. Readers see what is due as done, and do not store it (rule 13).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use allocation_domain::commands::{Allocate, WhenShort};
use allocation_domain::product::Plan;
use allocation_domain::{
    AcceptedLine, Batch, BatchRef, BatchState, Calendar, Eta, Level, LineKey, Location, Locations, OrderId, OrderLine,
    Part, Product, Quantity, Rejection, Seniority, Settings, Shipped, Sku, Strategy, Terms, arrival,
};
use time::{Date, OffsetDateTime};

use crate::handlers;
use crate::ports::database::StoreResult;
use crate::ports::reader::{Among, Due, Foresight, LineFilter, Reader, StoredLine, Whereabouts};

/// A product's numbers and its open batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductView {
    /// The product.
    pub sku: Sku,
    /// The sequence number of its last event.
    pub version: u64,
    /// How it is to behave.
    pub settings: Settings,
    /// Which of its batches go first.
    pub strategy: Strategy,
    /// Its numbers, over all locations.
    pub numbers: Numbers,
    /// Units ordered without a placement.
    pub backordered: u64,
    /// Of these, units that the queue's cap counts.
    pub queued: u64,
    /// The same, location by location: those of its open batches and those of which its settings say something.
    pub locations: Vec<LocationView>,
    /// Open batches, in order of preference.
    pub batches: Vec<BatchView>,
}

/// Units of a product, everywhere or at one location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Units of arrived batches.
    pub on_hand: u64,
    /// Units of batches that have not arrived.
    pub incoming: u64,
    /// Units on hand that are set aside or expired.
    pub unavailable: u64,
    /// Units placed for holds.
    pub held: u64,
    /// Units allocated to order lines.
    pub allocated: u64,
    /// Units on hand that can be promised today.
    pub available: u64,
    /// Units that can be promised at all, arrived or not.
    pub promisable: u64,
}

impl AddAssign for Numbers {
    fn add_assign(&mut self, other: Self) {
        self.on_hand += other.on_hand;
        self.incoming += other.incoming;
        self.unavailable += other.unavailable;
        self.held += other.held;
        self.allocated += other.allocated;
        self.available += other.available;
        self.promisable += other.promisable;
    }
}

/// A product's numbers at one location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationView {
    /// Where.
    pub location: Location,
    /// Its numbers there.
    pub numbers: Numbers,
    /// What is to be kept there, and what is little.
    pub level: Level,
    /// Whether little is left.
    pub low: bool,
}

/// A batch's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// The shipment.
    pub reference: BatchRef,
    /// Where it lies, or will lie.
    pub location: Location,
    /// Its state.
    pub state: BatchState,
    /// Units it was last declared to have.
    pub qty: u64,
    /// Units there are now: on hand when it has arrived, else incoming.
    pub units: u64,
    /// Units that are set aside or expired.
    pub unavailable: u64,
    /// When it is expected; none: arrived.
    pub eta: Eta,
    /// The last day on which its units are of use; none: they always are.
    pub expires_on: Option<Date>,
    /// Units placed for holds.
    pub held: u64,
    /// Units allocated from it.
    pub allocated: u64,
    /// Units nobody has been promised.
    pub free: u64,
    /// The event that last changed the declaration.
    pub revision: u64,
}

/// A line: what was asked for, on what terms, and where its units are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineView {
    /// The product.
    pub sku: Sku,
    /// Order and line.
    pub key: LineKey,
    /// What the caller asked for.
    pub requested: u64,
    /// Units placed for a hold.
    pub held: u64,
    /// Units placed and confirmed.
    pub allocated: u64,
    /// Of these, units released to picking.
    pub locked: u64,
    /// Units without a placement.
    pub backordered: u64,
    /// Units that have left.
    pub shipped: u64,
    /// Of these, units that have come back.
    pub returned: u64,
    /// Units that were not to be had.
    pub dropped: u64,
    /// Units no longer wanted.
    pub cancelled: u64,
    /// Units of a hold that ended.
    pub lapsed: u64,
    /// The derived state's name.
    pub state: &'static str,
    /// When the hold ends.
    pub held_until: Option<OffsetDateTime>,
    /// What its placements must obey.
    pub terms: Terms,
    /// When all of it is ready to ship; none while anything waits.
    pub promised_date: Option<Date>,
    /// Where its units are.
    pub placements: Vec<PlacementView>,
    /// Where those came from that have left.
    pub shipments: Vec<Shipped>,
    /// The event that accepted it: of lines of one priority, the lower goes first.
    pub accepted: u64,
}

/// A line's units in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementView {
    /// The batch.
    pub batch: BatchRef,
    /// How many units.
    pub qty: u64,
    /// Of these, units released to picking.
    pub locked: u64,
    /// When the batch is expected; none: arrived.
    pub eta: Eta,
    /// Where it is, or will be.
    pub location: Location,
}

/// Units that wait in a product's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// The line they belong to.
    pub line: LineView,
    /// The event that accepted them.
    pub accepted: u64,
    /// How many they are.
    pub qty: u64,
}

/// From when units can be promised, and how many by which day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailabilityView {
    /// The product.
    pub sku: Sku,
    /// Units asked about.
    pub qty: u64,
    /// The day on which all of them are ready; none: not to be had.
    pub ready: Option<Date>,
    /// Where they would come from: all that is to be had of them.
    pub placements: Vec<PlacementView>,
    /// Units that can be promised today.
    pub available: u64,
    /// `ATP(d)`: units that can be promised by each day on which there are more than before.
    pub atp: Vec<(Date, u64)>,
    /// The same, location by location.
    pub locations: Vec<AvailabilityAt>,
}

/// How many units can be promised from a location, and by which day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailabilityAt {
    /// Where.
    pub location: Location,
    /// Units that can be promised today.
    pub available: u64,
    /// Units that can be promised by each day.
    pub atp: Vec<(Date, u64)>,
}

impl From<&Batch> for BatchView {
    fn from(batch: &Batch) -> Self {
        Self {
            reference: batch.reference.clone(),
            location: batch.location.clone(),
            state: batch.state(),
            qty: batch.declared.units(),
            units: batch.quantity.units(),
            unavailable: batch.unavailable(),
            eta: batch.eta,
            expires_on: batch.expires_on,
            held: batch.held,
            allocated: batch.allocated,
            free: batch.free(),
            revision: batch.revision,
        }
    }
}

impl From<&Product> for ProductView {
    fn from(product: &Product) -> Self {
        let of_batches = product.batches().iter().filter(|batch| batch.is_open()).map(|batch| &batch.location);
        let locations: BTreeSet<&Location> = of_batches.chain(product.settings().levels.keys()).collect();
        let locations: Vec<_> = locations.into_iter().map(|location| LocationView::of(product, location)).collect();
        let mut numbers = Numbers::default();
        for at in &locations {
            numbers += at.numbers;
        }
        Self {
            sku: product.sku().clone(),
            version: product.version(),
            settings: product.settings().clone(),
            strategy: product.strategy(),
            numbers,
            locations,
            backordered: product.backordered(),
            queued: product.queued(),
            batches: product.batches().iter().filter(|batch| batch.is_open()).map(BatchView::from).collect(),
        }
    }
}

impl LocationView {
    fn of(product: &Product, location: &Location) -> Self {
        let (available, promisable) = (product.available_at(location), product.promisable_at(location));
        let mut numbers = Numbers { available, promisable, ..Numbers::default() };
        for batch in product.batches().iter().filter(|batch| batch.location == *location) {
            if batch.has_arrived() {
                numbers.on_hand += batch.quantity.units();
                numbers.unavailable += batch.unavailable();
            } else {
                numbers.incoming += batch.quantity.units();
            }
            numbers.held += batch.held;
            numbers.allocated += batch.allocated;
        }
        Self {
            location: location.clone(),
            numbers,
            level: product.settings().levels.get(location).copied().unwrap_or_default(),
            low: product.low().contains(location),
        }
    }
}

impl LineView {
    /// A line, given what is known of its batches and what day it is where.
    pub fn new<'a>(
        sku: &Sku,
        line: &AcceptedLine,
        batch: impl Fn(&BatchRef) -> Option<(Eta, &'a Location)>,
        calendar: &Calendar,
    ) -> Self {
        let ready = |reference: &BatchRef| match batch(reference) {
            Some((eta, location)) => arrival(eta, calendar.today(location)),
            // One of which nothing is known any more has nothing in it.
            None => calendar.usual(),
        };
        let mut placements: Vec<PlacementView> = Vec::with_capacity(1);
        for (reference, part) in line.placements() {
            // Units accepted at different times may lie in one batch; to the outside they are one placement.
            let qty = part.qty.units();
            let locked = if part.locked { qty } else { 0 };
            if let Some(placement) = placements.iter_mut().find(|placement| placement.batch == *reference) {
                placement.qty += qty;
                placement.locked += locked;
                continue;
            }
            let (eta, location) = batch(reference).unzip();
            let (eta, location) = (eta.flatten(), location.cloned().unwrap_or_default());
            placements.push(PlacementView { batch: reference.clone(), qty, locked, eta, location });
        }
        Self {
            sku: sku.clone(),
            key: line.key.clone(),
            requested: line.requested.units(),
            held: line.held(),
            allocated: line.allocated(),
            locked: line.locked(),
            shipped: line.shipped(),
            returned: line.returned(),
            shipments: line.shipped.clone(),
            backordered: line.backordered(),
            dropped: line.dropped,
            cancelled: line.cancelled,
            lapsed: line.lapsed,
            state: line.state().name(),
            held_until: line.hold,
            terms: line.terms.clone(),
            promised_date: line.promised_date(ready),
            placements,
            accepted: line.accepted,
        }
    }

    /// A line of a product in memory.
    pub fn of(product: &Product, key: &LineKey) -> Option<Self> {
        let line = product.line(key)?;
        let batch = |reference: &BatchRef| product.batch(reference).map(|batch| (batch.eta, &batch.location));
        Some(Self::new(product.sku(), line, batch, product.calendar()))
    }
}

/// What is due, done.
struct Present {
    /// What day it is.
    calendar: Calendar,
    /// Products of which something was due, as they are by now, with those of their lines at hand that this has changed.
    products: BTreeMap<Sku, Product>,
}

impl Present {
    /// Of these products; of all others nothing is due.
    async fn of(reader: &dyn Reader, foresight: &dyn Foresight, skus: BTreeSet<Sku>) -> StoreResult<Self> {
        let skus: Vec<Sku> = skus.into_iter().collect();
        Self::after(foresight, &reader.due(Among::These(&skus), &foresight.usual().time_zones).await?).await
    }

    /// Of products of which this was due; of all others nothing is.
    async fn after(foresight: &dyn Foresight, due: &Due) -> StoreResult<Self> {
        let foreseen = if due.skus.is_empty() { Vec::new() } else { foresight.foresee(&due.skus).await? };
        let products = foreseen.into_iter().map(|product| (product.sku().clone(), product)).collect();
        Ok(Self { calendar: foresight.usual().time_zones.calendar(due.now), products })
    }

    fn line(&self, stored: &StoredLine) -> LineView {
        let present = self.products.get(&stored.sku).and_then(|product| LineView::of(product, &stored.line.key));
        present.unwrap_or_else(|| {
            let batch = |reference: &BatchRef| {
                let known = stored.batches.iter().find(|known| known.reference == *reference);
                known.map(|Whereabouts { eta, location, .. }| (*eta, location))
            };
            LineView::new(&stored.sku, &stored.line, batch, &self.calendar)
        })
    }

    fn admits(&self, filter: &LineFilter, stored: &StoredLine) -> bool {
        let changed = self.products.get(&stored.sku).and_then(|product| product.line(&stored.line.key));
        filter.admits(changed.unwrap_or(&stored.line))
    }
}

fn may_be_due(product: &Product) -> bool {
    product.may_be_due() || product.day_may_serve_queue()
}

/// Products with what is due of them done.
async fn present(reader: &dyn Reader, foresight: &dyn Foresight, products: Vec<Product>) -> StoreResult<Vec<Product>> {
    let told = |mut products: Vec<Product>| {
        for product in &mut products {
            foresight.usual().tell(product);
        }
        products
    };
    let products = told(products);
    let may_be: BTreeSet<Sku> =
        products.iter().filter(|product| may_be_due(product)).map(|product| product.sku().clone()).collect();
    if may_be.is_empty() {
        return Ok(products);
    }
    let mut now = Present::of(reader, foresight, may_be.clone()).await?.products;
    // What was due of the others may have been done since they were read.
    let others: Vec<Sku> = may_be.into_iter().filter(|sku| !now.contains_key(sku)).collect();
    if !others.is_empty() {
        let read_again = told(reader.products_named(&others).await?);
        now.extend(read_again.into_iter().map(|product| (product.sku().clone(), product)));
    }
    Ok(products.into_iter().map(|product| now.remove(product.sku()).unwrap_or(product)).collect())
}

/// A product, if it is known.
pub async fn product(reader: &dyn Reader, foresight: &dyn Foresight, sku: &Sku) -> StoreResult<Option<ProductView>> {
    let stored = reader.products_named(std::slice::from_ref(sku)).await?;
    Ok(present(reader, foresight, stored).await?.first().map(ProductView::from))
}

/// A page of products, in byte order of SKU; `waiting`: only those in whose queue somebody waits, which is the backlog.
pub async fn products(
    reader: &dyn Reader,
    foresight: &dyn Foresight,
    after: Option<&Sku>,
    waiting: bool,
    limit: usize,
) -> StoreResult<Vec<ProductView>> {
    let stored = reader.products(after, waiting, limit).await?;
    Ok(present(reader, foresight, stored).await?.iter().map(ProductView::from).collect())
}

/// A page of a product's lines, accepted last first; `None` when the product is unknown.
pub async fn product_lines(
    reader: &dyn Reader,
    foresight: &dyn Foresight,
    sku: &Sku,
    filter: &LineFilter,
    after: Option<&LineKey>,
    limit: usize,
) -> StoreResult<Option<Vec<LineView>>> {
    // What is due first: it may be done, and be due no longer, by the time that the lines are read.
    let present = Present::of(reader, foresight, BTreeSet::from([sku.clone()])).await?;
    // Once something is due, the store's own filter knows less than we do: a line may be in another state by now.
    let (mut views, mut after) = (Vec::new(), after.cloned());
    let known = if present.products.is_empty() { filter } else { &LineFilter::default() };
    loop {
        let lines = reader.product_lines(sku, known, after.as_ref(), limit).await?;
        let more = lines.len() == limit && !present.products.is_empty();
        after = lines.last().map(|last| last.line.key.clone());
        let admitted = lines.iter().filter(|line| present.admits(filter, line));
        views.extend(admitted.map(|line| present.line(line)).take(limit - views.len()));
        if views.len() == limit || !more {
            break;
        }
    }
    if views.is_empty() && reader.products_named(std::slice::from_ref(sku)).await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(views))
}

/// A page of a product's queue, by seniority; `None` when the product is unknown.
pub async fn queue(
    reader: &dyn Reader,
    foresight: &dyn Foresight,
    sku: &Sku,
    after: Option<Seniority>,
    limit: usize,
) -> StoreResult<Option<Vec<QueueView>>> {
    let present = Present::of(reader, foresight, BTreeSet::from([sku.clone()])).await?;
    let units = |line: &AcceptedLine, accepted: u64| -> u64 {
        line.waiting().filter(|part| part.accepted == accepted).map(|part: &Part| part.qty.units()).sum()
    };
    let (mut views, mut after) = (Vec::new(), after);
    loop {
        let waiting = reader.queue(sku, after, limit).await?;
        // Some may have been served by what is due, so that a page of the store is no page any more.
        let more = waiting.len() == limit && !present.products.is_empty();
        after = waiting.last().map(|(stored, accepted)| stored.line.seniority(*accepted));
        let still = waiting.iter().filter_map(|(stored, accepted)| {
            let now = present.products.get(sku).and_then(|product| product.line(&stored.line.key));
            let qty = units(now.unwrap_or(&stored.line), *accepted);
            (qty > 0).then(|| QueueView { line: present.line(stored), accepted: *accepted, qty })
        });
        let room = limit - views.len();
        views.extend(still.take(room));
        if views.len() == limit || !more {
            break;
        }
    }
    if views.is_empty() && reader.products_named(std::slice::from_ref(sku)).await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(views))
}

/// All lines of an order; none when it is unknown.
pub async fn order(reader: &dyn Reader, foresight: &dyn Foresight, order_id: &OrderId) -> StoreResult<Vec<LineView>> {
    let time_zones = &foresight.usual().time_zones;
    let (mut lines, due) = reader.order(order_id, time_zones).await?;
    let present = Present::after(foresight, &due).await?;
    if !due.skus.is_empty() {
        // What was due may have been done since they were read.
        (lines, _) = reader.order(order_id, time_zones).await?;
    }
    Ok(lines.iter().map(|line| present.line(line)).collect())
}

/// Which batches serve which SKUs of an order, as clients of the Python original ask: allocated placements only.
pub async fn allocations(
    reader: &dyn Reader,
    foresight: &dyn Foresight,
    order_id: &OrderId,
) -> StoreResult<Vec<(Sku, BatchRef)>> {
    let lines = order(reader, foresight, order_id).await?;
    let allocated = lines.into_iter().filter(|line| line.allocated > 0);
    Ok(allocated
        .flat_map(|line| line.placements.into_iter().map(move |placement| (line.sku.clone(), placement.batch)))
        .collect())
}

/// What would be promised to an order now; nothing is promised.
///
/// # Errors
/// What the order would be refused for.
pub async fn quote(
    reader: &dyn Reader,
    foresight: &dyn Foresight,
    order: &Allocate,
) -> StoreResult<Result<Vec<LineView>, Rejection>> {
    let skus: Vec<Sku> = order.by_sku().map(|(sku, _)| sku.clone()).collect();
    let stored = reader.products_named(&skus).await?;
    let products = present(reader, foresight, stored).await?;
    let mut products: BTreeMap<Sku, Product> =
        products.into_iter().map(|product| (product.sku().clone(), product)).collect();
    let unknown: Vec<Sku> = skus.into_iter().filter(|sku| !products.contains_key(sku)).collect();
    if !unknown.is_empty() {
        return Ok(Err(Rejection::UnknownSku(unknown)));
    }
    let plans: Vec<(Sku, Plan)> = match handlers::plan(order, |sku| products.get(sku)) {
        Ok(plans) => plans.into_iter().map(|(sku, plan)| (sku.clone(), plan)).collect(),
        Err(rejection) => return Ok(Err(rejection)),
    };
    for (sku, plan) in plans {
        if let Some(product) = products.get_mut(&sku) {
            product.apply(plan);
        }
    }
    let view = |line: &OrderLine| LineView::of(products.get(&line.sku)?, &line.key);
    Ok(Ok(order.lines().iter().filter_map(view).collect()))
}

/// From when so many units can be promised, from which batches, and how many by which day; `None` when the product is unknown.
pub async fn availability(
    reader: &dyn Reader,
    foresight: &dyn Foresight,
    sku: &Sku,
    qty: Quantity,
    by: Option<Date>,
    locations: Option<Locations>,
) -> StoreResult<Option<AvailabilityView>> {
    let stored = reader.products_named(std::slice::from_ref(sku)).await?;
    let Some(product) = present(reader, foresight, stored).await?.pop() else { return Ok(None) };
    let order_id = OrderId::new("availability").expect("a word is a key");
    let terms = Terms { by, locations: locations.clone(), ..Terms::default() };
    let line = OrderLine { terms, ..OrderLine::new(order_id, sku.clone(), qty) };
    let placements: Vec<(BatchRef, u64)> = match product.plan(&[line], WhenShort::Partial, None) {
        allocation_domain::product::Decision::Accept(plan) => {
            plan.lines.into_iter().flat_map(|line| line.placements).collect()
        }
        _ => Vec::new(),
    };
    let found: u64 = placements.iter().map(|(_, units)| units).sum();
    let batch = |reference: &BatchRef| product.batch(reference).expect("a plan is made of batches at hand");
    let days = placements.iter().map(|(reference, _)| batch(reference).arrival(product.calendar()));
    let ready = days.max().filter(|_| found == qty.units());
    let counts = |location: &&Location| locations.as_ref().is_none_or(|wanted| wanted.rank(location).is_some());
    let locations: Vec<AvailabilityAt> =
        product.locations().into_iter().filter(counts).map(|location| availability_at(&product, location)).collect();
    let days: BTreeSet<Date> = locations.iter().flat_map(|at| at.atp.iter().map(|(day, _)| *day)).collect();
    let by = |day| locations.iter().map(|at| product.available_to_promise_at(&at.location, day)).sum();
    Ok(Some(AvailabilityView {
        sku: sku.clone(),
        qty: qty.units(),
        ready,
        placements: placements
            .iter()
            .map(|(reference, qty)| {
                let Batch { eta, location, .. } = batch(reference);
                PlacementView { batch: reference.clone(), qty: *qty, locked: 0, eta: *eta, location: location.clone() }
            })
            .collect(),
        available: locations.iter().map(|at| at.available).sum(),
        atp: where_it_changes(days.into_iter().map(|day| (day, by(day)))),
        locations,
    }))
}

fn availability_at(product: &Product, location: &Location) -> AvailabilityAt {
    let there = product.batches().iter().filter(|batch| batch.location == *location && batch.free() > 0);
    let days: BTreeSet<Date> = there.map(|batch| batch.arrival(product.calendar())).collect();
    AvailabilityAt {
        location: location.clone(),
        available: product.available_at(location),
        atp: where_it_changes(days.into_iter().map(|day| (day, product.available_to_promise_at(location, day)))),
    }
}

/// Days on which there are not as many units as before, when there were none: what comes may be kept back, or count for nothing.
fn where_it_changes(by_day: impl Iterator<Item = (Date, u64)>) -> Vec<(Date, u64)> {
    let mut before = 0;
    by_day.filter(|(_, units)| std::mem::replace(&mut before, *units) != *units).collect()
}
