//! From columns to the domain's types and back, alike for every store. What a store holds was checked when it was written, so a value
//! that does not fit is a damaged store.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use allocation_domain::product::StoredProduct;
use allocation_domain::{
    AcceptedLine, Batch, BatchQuantity, BatchRef, Eta, LineId, LineKey, Location, Locations, OrderId, Part, Quantity,
    Seniority, Settings, Shipped, Sku, Split, Strategy, Terms,
};
use allocation_service_layer::ports::database::{StoreError, StoreResult};
use allocation_service_layer::ports::dead_letters::DeadLetter;
use allocation_service_layer::wire::parse_levels;
use sha2::{Digest, Sha256};
use time::{Date, OffsetDateTime};

pub(crate) fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the store holds what it must not: {what}"))
}

pub(crate) fn sku(text: &str) -> StoreResult<Sku> {
    Sku::new(text).map_err(damaged)
}

pub(crate) fn reference(text: &str) -> StoreResult<BatchRef> {
    BatchRef::new(text).map_err(damaged)
}

pub(crate) fn count(number: i64) -> StoreResult<u64> {
    u64::try_from(number).map_err(damaged)
}

/// Counters never reach 2⁶³: a billion units a line, a trillion a batch.
pub(crate) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An instant as it is stored: whole microseconds of Unix time.
pub(crate) fn micros(instant: OffsetDateTime) -> i64 {
    i64::try_from(instant.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

pub(crate) fn instant(micros: i64) -> StoreResult<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(damaged)
}

/// A clock's time, no finer than it can be stored.
pub(crate) fn storable(now: OffsetDateTime) -> OffsetDateTime {
    instant(micros(now)).unwrap_or(now)
}

pub(crate) fn line_key(order_id: &str, line: &str) -> StoreResult<LineKey> {
    Ok(LineKey { order_id: OrderId::new(order_id).map_err(damaged)?, line: LineId::new(line).map_err(damaged)? })
}

/// Where to go on in a queue: priority and acceptance, below every seniority when it begins.
pub(crate) fn begin_after(after: Option<Seniority>) -> (i32, i64) {
    after.map_or((i32::MAX, -1), |(Reverse(priority), accepted)| (priority, number(accepted)))
}

/// A product's columns.
pub(crate) struct ProductRow<'a> {
    pub(crate) sku: &'a str,
    pub(crate) version: i64,
    pub(crate) changed_at: i64,
    pub(crate) backordered: i64,
    pub(crate) queued: i64,
    pub(crate) out_of_stock_raised: bool,
    pub(crate) queue_cap: Option<i64>,
    pub(crate) auto_improve: bool,
    pub(crate) strategy: Option<&'a str>,
    pub(crate) min_days: i32,
    pub(crate) requires_expiry: bool,
    pub(crate) overdue_days: Option<i32>,
    pub(crate) levels: Option<&'a str>,
    pub(crate) low: Option<&'a str>,
}

impl ProductRow<'_> {
    /// Without its batches.
    pub(crate) fn stored(self) -> StoreResult<StoredProduct> {
        Ok(StoredProduct {
            sku: sku(self.sku)?,
            version: count(self.version)?,
            changed_at: instant(self.changed_at)?,
            settings: Settings {
                queue_cap: self.queue_cap.map(count).transpose()?,
                auto_improve: self.auto_improve,
                strategy: self.strategy.map(strategy).transpose()?,
                min_days: days(self.min_days)?,
                requires_expiry: self.requires_expiry,
                overdue_days: self.overdue_days.map(days).transpose()?,
                levels: self.levels.map(parse_levels).transpose().map_err(damaged)?.unwrap_or_default(),
            },
            backordered: count(self.backordered)?,
            queued: count(self.queued)?,
            out_of_stock_raised: self.out_of_stock_raised,
            low: self.low.map_or(Ok(BTreeSet::new()), |names| names.split('\n').map(location).collect())?,
            batches: Vec::new(),
        })
    }
}

/// A batch's columns.
pub(crate) struct BatchRow<'a> {
    pub(crate) reference: &'a str,
    pub(crate) location: &'a str,
    pub(crate) quantity: i64,
    pub(crate) declared: i64,
    pub(crate) quarantined: i64,
    pub(crate) held: i64,
    pub(crate) allocated: i64,
    pub(crate) eta: Eta,
    pub(crate) arrived: Option<i64>,
    pub(crate) expires_on: Option<Date>,
    pub(crate) expired: bool,
    pub(crate) cancelled: bool,
    pub(crate) revision: i64,
}

impl BatchRow<'_> {
    pub(crate) fn batch(self) -> StoreResult<Batch> {
        Ok(Batch {
            reference: reference(self.reference)?,
            location: location(self.location)?,
            quantity: BatchQuantity::new(count(self.quantity)?).map_err(damaged)?,
            declared: BatchQuantity::new(count(self.declared)?).map_err(damaged)?,
            quarantined: count(self.quarantined)?,
            held: count(self.held)?,
            allocated: count(self.allocated)?,
            eta: self.eta,
            arrived: self.arrived.map(count).transpose()?,
            expires_on: self.expires_on,
            expired: self.expired,
            cancelled: self.cancelled,
            revision: count(self.revision)?,
        })
    }
}

/// A line's columns.
pub(crate) struct LineRow<'a> {
    pub(crate) order_id: &'a str,
    pub(crate) line: &'a str,
    pub(crate) accepted: i64,
    pub(crate) requested: i64,
    pub(crate) placed: i64,
    pub(crate) backordered: i64,
    pub(crate) queued: i64,
    pub(crate) batch: Option<&'a str>,
    pub(crate) dropped: Option<i64>,
    pub(crate) cancelled: Option<i64>,
    pub(crate) lapsed: Option<i64>,
    pub(crate) held_until: Option<i64>,
    pub(crate) priority: i32,
    pub(crate) by: Option<Date>,
    pub(crate) not_before: Option<Date>,
    pub(crate) min_split: Option<i64>,
    pub(crate) in_parts: bool,
    pub(crate) shipped: Option<i64>,
    pub(crate) min_days: Option<i32>,
    pub(crate) over_locations: Option<bool>,
    pub(crate) locations: Option<&'a str>,
}

/// A line as read from its row. Its units may still have to be fetched.
pub(crate) struct ReadLine {
    pub(crate) line: AcceptedLine,
    pub(crate) in_parts: bool,
    /// Whether some of its units have left.
    pub(crate) has_shipped: bool,
}

impl LineRow<'_> {
    pub(crate) fn line(self) -> StoreResult<ReadLine> {
        let accepted = count(self.accepted)?;
        let split = match (self.min_split, self.over_locations) {
            (Some(0), _) => Split::Never,
            (least, Some(true)) => Split::OverLocations(quantity(least.unwrap_or(1))?),
            (least, _) => Split::Parts(quantity(least.unwrap_or(1))?),
        };
        let terms = Terms {
            priority: self.priority,
            by: self.by,
            not_before: self.not_before,
            split,
            min_days: self.min_days.map(days).transpose()?,
            locations: self.locations.map(accepted_locations).transpose()?,
        };
        let requested = quantity(self.requested)?;
        let mut line = AcceptedLine::new(line_key(self.order_id, self.line)?, requested, accepted, terms);
        let units = |number: Option<i64>| count(number.unwrap_or(0));
        (line.dropped, line.cancelled, line.lapsed) =
            (units(self.dropped)?, units(self.cancelled)?, units(self.lapsed)?);
        line.queued = count(self.queued)?;
        line.hold = self.held_until.map(instant).transpose()?;
        if !self.in_parts {
            if let Some(batch) = self.batch {
                let (batch, qty) = (Some(reference(batch)?), quantity(self.placed)?);
                line.parts.push(Part { accepted, batch, qty, locked: false });
            }
            if self.backordered > 0 {
                line.parts.push(Part { accepted, batch: None, qty: quantity(self.backordered)?, locked: false });
            }
        }
        Ok(ReadLine { line, in_parts: self.in_parts, has_shipped: self.shipped.is_some() })
    }
}

/// The name of a location. The usual one is shared, since nearly every batch is there.
pub(crate) fn location(name: &str) -> StoreResult<Location> {
    let usual = Location::default();
    if name == usual.as_str() { Ok(usual) } else { Location::new(name).map_err(damaged) }
}

fn accepted_locations(names: &str) -> StoreResult<Locations> {
    Locations::new(names.split('\n').map(location).collect::<StoreResult<_>>()?).map_err(damaged)
}

/// Names of locations, a line for each, as no name has a line break in it; none of them: nothing.
pub(crate) fn names<'a>(mut locations: impl Iterator<Item = &'a Location>) -> Option<String> {
    let first = locations.next()?.to_string();
    Some(locations.fold(first, |names, location| names + "\n" + location.as_str()))
}

fn days(number: i32) -> StoreResult<u16> {
    u16::try_from(number).map_err(damaged)
}

fn strategy(name: &str) -> StoreResult<Strategy> {
    Strategy::ALL.into_iter().find(|strategy| strategy.name() == name).ok_or_else(|| damaged(name))
}

pub(crate) fn quantity(units: i64) -> StoreResult<Quantity> {
    Quantity::new(count(units)?).map_err(damaged)
}

/// A part's columns.
pub(crate) fn part(accepted: i64, batch: Option<&str>, qty: i64, locked: bool) -> StoreResult<Part> {
    Ok(Part { accepted: count(accepted)?, batch: batch.map(reference).transpose()?, qty: quantity(qty)?, locked })
}

/// A shipment's columns.
pub(crate) fn shipped(batch: &str, qty: i64, returned: i64) -> StoreResult<Shipped> {
    Ok(Shipped { batch: reference(batch)?, qty: count(qty)?, returned: count(returned)? })
}

/// What a line's row says of where its units are.
pub(crate) struct Units<'a> {
    pub(crate) placed: u64,
    pub(crate) backordered: u64,
    pub(crate) batch: Option<&'a str>,
    /// Whether the row can't say it all, so that they have rows of their own.
    pub(crate) in_parts: bool,
}

impl<'a> Units<'a> {
    pub(crate) fn of(line: &'a AcceptedLine) -> Self {
        let mut placements = line.placements();
        let first = placements.next();
        let in_parts =
            placements.next().is_some() || line.parts.iter().any(|part| part.accepted != line.accepted || part.locked);
        Self {
            placed: line.placed(),
            backordered: line.backordered(),
            batch: first.filter(|_| !in_parts).map(|(batch, _)| batch.as_str()),
            in_parts,
        }
    }
}

/// A count that few rows have: nothing at all in the others.
pub(crate) fn rare(count: u64) -> Option<i64> {
    (count > 0).then(|| number(count))
}

/// `min_split` as it is stored.
pub(crate) fn min_split(split: Split) -> Option<i64> {
    match split {
        Split::Never => Some(0),
        Split::Parts(least) | Split::OverLocations(least) => (least != Quantity::ONE).then(|| number(least.units())),
    }
}

/// `over_locations` as it is stored.
pub(crate) fn over_locations(split: Split) -> Option<bool> {
    matches!(split, Split::OverLocations(_)).then_some(true)
}

/// What tells one dead letter from another.
pub(crate) fn digest(letter: &DeadLetter) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in [letter.source.as_bytes(), letter.channel.as_bytes()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.update(&letter.body);
    digest.finalize().to_vec()
}

/// Names and values beside a message, as JSON.
pub(crate) fn headers_text(headers: &[(String, String)]) -> String {
    serde_json::to_string(headers).expect("texts always have a JSON form")
}

/// Reads them back.
pub(crate) fn parse_headers(text: &str) -> StoreResult<Vec<(String, String)>> {
    serde_json::from_str(text).map_err(damaged)
}
