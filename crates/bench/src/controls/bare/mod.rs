//! B: a bare loop that writes the rows of allocations and does nothing else, 256 lines a transaction on one connection. What the store and
//! the schema cost.
//!
//! It reads nothing and decides nothing. That it writes what an allocation does is checked like everything else: afterwards the books must
//! balance. The same loop fills stores for the measurements of growth, in larger transactions that do not wait for the disk.

mod postgres;
mod sqlite;

use allocation_adapters::system::{SystemClock, SystemEntropy};
use allocation_domain::{Batch, BatchQuantity, BatchRef, Event, LineId, LineKey, OrderId, Quantity, Sku};
use allocation_service_layer::movements::{Balances, is_to_be_noted};
use allocation_service_layer::ports::clock::{Clock, Entropy};
use allocation_service_layer::wire::{Cause, event_json};

use crate::Outcome;
use crate::harness::Bench;
use crate::http::once;
use crate::load::{batch, sku};
use crate::report::real;
use crate::store::{On, STOCK, Store};

/// As many as the program puts into one unit of work.
const TOGETHER: u64 = 256;

/// Lines of one product that are written in one transaction, each an order of its own.
struct Lot {
    sku: String,
    batch: String,
    /// The product's version before.
    version: u64,
    /// When it happens, in microseconds of Unix time.
    at: i64,
    /// The order whose line of the product came before.
    previous: Option<String>,
    orders: Vec<String>,
    events: Vec<String>,
}

impl Lot {
    /// Lines that follow those of another lot of the product; `order` names each order by its number within the lot.
    fn new(product: u64, after: Option<&Self>, lines: u64, order: impl Fn(u64) -> String) -> Outcome<Self> {
        // The first event made the batch.
        let version = after.map_or(1, Self::last);
        let previous = after.and_then(|lot| lot.orders.last().cloned());
        let template = Template::new(product)?;
        let orders: Vec<String> = (0..lines).map(order).collect();
        let events = (version + 1..).zip(&orders).map(|(sequence, order)| template.event(sequence, order)).collect();
        let at = i64::try_from(SystemClock::new().now().unix_timestamp_nanos() / 1_000)?;
        Ok(Self { sku: sku(product), batch: batch(product), version, at, previous, orders, events })
    }

    /// The sequence numbers of its events.
    fn sequences(&self) -> std::ops::RangeInclusive<u64> {
        self.version + 1..=self.last()
    }

    /// The product's version afterwards.
    fn last(&self) -> u64 {
        self.version + self.orders.len() as u64
    }

    /// The product's balances as the program notes them, if it would do so after these lines.
    fn balances(&self) -> Outcome<Option<String>> {
        if !is_to_be_noted(self.version, self.last()) {
            return Ok(None);
        }
        let (reference, units) = (BatchRef::new(self.batch.as_str())?, BatchQuantity::new(STOCK)?);
        let batch = Batch { allocated: self.allocated(), ..Batch::new(reference, units, None, 1) };
        Ok(Some(Balances::of([&batch]).to_json()))
    }

    /// What of its batch is allocated afterwards: the first event made the batch, each other took a unit of it.
    fn allocated(&self) -> u64 {
        self.last() - 1
    }
}

/// The JSON of an allocation's event as the program writes it, with places for what differs from one to the next.
struct Template {
    parts: [String; 3],
}

impl Template {
    fn new(product: u64) -> Outcome<Self> {
        const SEQUENCE: u64 = 7_777_777_777;
        const ORDER: &str = "the-order";
        let (clock, entropy) = (SystemClock::new(), SystemEntropy);
        let id = entropy.uuid(clock.now());
        let line = LineKey { order_id: OrderId::new(ORDER)?, line: LineId::default() };
        let (qty, reference) = (Quantity::new(1)?, BatchRef::new(batch(product))?);
        let event = Event::Allocated { line, accepted: SEQUENCE, qty, reference, split: true, held: false };
        let cause = Cause { correlation: id.to_string().into(), actor: "http".into(), traceparent: None };
        let json = event_json(id, &Sku::new(sku(product))?, SEQUENCE, clock.now(), &cause, &event);
        let parts = json.split_once(&SEQUENCE.to_string()).and_then(|(before, rest)| {
            let (between, after) = rest.split_once(ORDER)?;
            Some([before, between, after].map(str::to_owned))
        });
        Ok(Self { parts: parts.ok_or("an event without its sequence or order")? })
    }

    fn event(&self, sequence: u64, order: &str) -> String {
        let [before, between, after] = &self.parts;
        format!("{before}{sequence}{between}{order}{after}")
    }
}

/// Writes lots into a store.
pub(crate) enum Writer {
    Sqlite(rusqlite::Connection),
    Postgres(postgres::Prepared),
}

impl Writer {
    /// One that has everything on disk when it returns.
    async fn new(store: &Store) -> Outcome<Self> {
        Ok(match store.on {
            On::Sqlite => Self::Sqlite(sqlite::open(&store.file())?),
            On::Postgres => Self::Postgres(postgres::prepare(store.connect().await?).await?),
        })
    }

    async fn write(&mut self, lot: &Lot) -> Outcome<()> {
        match self {
            Self::Sqlite(connection) => Ok(sqlite::write(connection, lot, lot.balances()?)?),
            Self::Postgres(prepared) => Ok(postgres::write(prepared, lot, lot.balances()?).await?),
        }
    }
}

/// The name of its figure.
pub(crate) fn figure(on: On) -> String {
    format!("B: bare loop, {}", on.name())
}

/// Measures it.
pub(crate) async fn measure(bench: &mut Bench, on: On) -> Outcome<()> {
    let rate = rate(bench, on).await?;
    bench.figures.add(&figure(on), "lines/s", rate);
    Ok(())
}

/// Lines a second.
pub(crate) async fn rate(bench: &mut Bench, on: On) -> Outcome<f64> {
    let mut store = bench.store(on).await?;
    let mut writer = Writer::new(&store).await?;
    let (prefix, until) = (bench.prefix(), bench.run_time());
    let mut written: Option<Lot> = None;
    let clock = SystemClock::new();
    while clock.monotonic() < until {
        let before = written.as_ref().map_or(0, Lot::allocated);
        let lot = Lot::new(1, written.as_ref(), TOGETHER, |nth| format!("{prefix}-0-{}", before + nth))?;
        writer.write(&lot).await?;
        written = Some(lot);
    }
    let took = clock.monotonic().as_secs_f64();
    drop(writer);
    store.promised = written.as_ref().map_or(0, Lot::allocated);
    bench.check(&store).await?;
    check_that_lines_are_found(bench, &store).await?;
    let rate = real(store.promised) / took;
    store.remove().await?;
    Ok(rate)
}

/// The program must find a product's lines as if it had written them: the books would balance without what only leads to them.
async fn check_that_lines_are_found(bench: &mut Bench, store: &Store) -> Outcome<()> {
    const NEWEST: usize = 100;
    let program = store.serve(bench).await;
    let path = format!("/v1/products/{}/lines?limit={NEWEST}", sku(1));
    let answer = once(program.address(), "GET", &path, "").await?;
    let found = answer.body.matches(r#""order_id""#).count();
    if found != NEWEST {
        bench.fail(format!(
            "{:?}: the program finds {found} of the bare loop's last {NEWEST} lines: {}",
            store.on, answer.body
        ));
    }
    bench.stop(program).await;
    Ok(())
}

/// Fills a new store: so many lines of the first product, and so many of each other. Orders are called `fill-1`, `fill-2` and so on.
pub(crate) async fn fill(store: &mut Store, of_first: u64, of_each_other: u64) -> Outcome<()> {
    /// Larger transactions than the program's are quicker.
    const TOGETHER: u64 = 4_096;
    let mut writer = Writer::new(store).await?;
    match &writer {
        Writer::Sqlite(connection) => connection.execute_batch("PRAGMA synchronous = OFF")?,
        Writer::Postgres(prepared) => prepared.client.batch_execute("SET synchronous_commit = off").await?,
    }
    let mut orders = 0;
    for product in 1..=crate::load::PRODUCTS {
        let lines = if product == 1 { of_first } else { of_each_other };
        let mut written: Option<Lot> = None;
        loop {
            let some = (lines - written.as_ref().map_or(0, Lot::allocated)).min(TOGETHER);
            if some == 0 {
                break;
            }
            let lot = Lot::new(product, written.as_ref(), some, |nth| format!("fill-{}", orders + nth + 1))?;
            writer.write(&lot).await?;
            written = Some(lot);
            orders += some;
        }
    }
    store.promised += orders;
    match &writer {
        Writer::Sqlite(connection) => Ok(sqlite::settle(connection)?),
        Writer::Postgres(prepared) => {
            // Each alone: together they would be one transaction, which neither may be part of.
            prepared.client.batch_execute("VACUUM ANALYZE").await?;
            Ok(prepared.client.batch_execute("CHECKPOINT").await?)
        }
    }
}

#[cfg(test)]
mod tests {
    use allocation_service_layer::wire::parse_event;

    use super::*;

    #[test]
    fn a_lots_events_are_those_of_its_lines() {
        let first = Lot::new(7, None, 40, |nth| format!("n-{nth}")).unwrap();
        assert_eq!((first.version, first.last(), first.allocated()), (1, 41, 40));
        let lot = Lot::new(7, Some(&first), 2, |nth| format!("o-{nth}")).unwrap();
        assert_eq!((lot.version, lot.last(), lot.allocated()), (41, 43, 42));
        assert_eq!(lot.previous.as_deref(), Some("n-39"));
        for ((sequence, order), json) in lot.sequences().zip(&lot.orders).zip(&lot.events) {
            let told = parse_event(json).unwrap();
            assert_eq!((told.sku.as_str(), told.sequence), ("SKU-0007", sequence));
            let Event::Allocated { line, reference, .. } = told.event else { panic!("{json}") };
            assert_eq!((line.order_id.as_str(), reference.as_str()), (order.as_str(), "B-0007"));
        }
    }
}
