//! Checkpoints: what a product's archived events came to, and how a store keeps that.
//!
//! Each batch and each line has a text of its own, so that archiving a thousand events costs the same whatever the product's history is: only
//! those that the events name are read and written. What is usual is left out, since a line that is over is kept for ever.

use std::collections::BTreeMap;

use allocation_domain::ledger::Ledger;
use allocation_domain::{
    AcceptedLine, Batch, BatchQuantity, BatchRef, LineKey, Location, Locations, Part, Quantity, Settings, Shipped, Sku,
    Split, Strategy, Terms,
};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use crate::movements::Balances;
use crate::ports::archive::Checkpoint;
use crate::wire::{LevelsJson, WireEvent, date_text, instant_text, parse_date, read_levels, written_levels};

/// Where folding goes on from: what some of a product's events, the first of them on, have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The books, as far as they are at hand.
    pub ledger: Ledger,
    /// What the batches came to.
    pub balances: Balances,
    /// When the last of these events happened.
    pub changed_at: OffsetDateTime,
}

impl Default for Base {
    /// Before the first event.
    fn default() -> Self {
        Self { ledger: Ledger::default(), balances: Balances::default(), changed_at: OffsetDateTime::UNIX_EPOCH }
    }
}

impl Base {
    /// Reads a checkpoint, with those of its batches and lines that it has at hand.
    ///
    /// # Errors
    /// What is wrong, when it was not written by [`Base::checkpoint`].
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, String> {
        let head: Head = parse(&checkpoint.head)?;
        let mut ledger = Ledger {
            version: checkpoint.sequence(),
            settings: head.settings.read()?,
            out_of_stock_raised: head.out_of_stock_raised,
            low: head.low.into_iter().map(location).collect::<Result<_, _>>()?,
            ..Ledger::default()
        };
        for (reference, body) in &checkpoint.batches {
            ledger.batches.insert(reference.clone(), parse::<BatchForm>(body)?.read(reference)?);
        }
        for (key, body) in &checkpoint.lines {
            let form: LineForm = parse(body)?;
            if form.confirmed > 0 {
                ledger.confirmed.insert(key.clone(), form.confirmed);
            }
            ledger.lines.insert(key.clone(), form.read(key)?);
        }
        let balances = Balances::from_json(&checkpoint.balances.body)?;
        Ok(Self { ledger, balances, changed_at: instant(&head.changed_at)? })
    }

    /// Adds the next event of the product.
    ///
    /// # Errors
    /// Why it can't follow those before it.
    pub fn fold(&mut self, event: WireEvent) -> Result<(), String> {
        self.ledger.fold(event.sequence, &event.event).map_err(|error| error.to_string())?;
        self.changed_at = event.time;
        self.balances.fold(event).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The same as a store keeps it, with all batches and lines that are at hand.
    pub fn checkpoint(&self, sku: &Sku) -> Checkpoint {
        let Self { ledger, balances, changed_at } = self;
        let head = Head {
            changed_at: instant_text(*changed_at),
            out_of_stock_raised: ledger.out_of_stock_raised,
            low: ledger.low.iter().map(ToString::to_string).collect(),
            settings: SettingsForm::of(&ledger.settings),
        };
        let batch = |batch: &Batch| (batch.reference.clone(), json(&BatchForm::of(batch)));
        let confirmed = |key: &LineKey| ledger.confirmed.get(key).copied().unwrap_or_default();
        let line = |line: &AcceptedLine| (line.key.clone(), json(&LineForm::of(line, confirmed(&line.key))));
        Checkpoint {
            balances: balances.noted(sku, ledger.version),
            head: json(&head),
            batches: ledger.batches.values().map(batch).collect(),
            lines: ledger.lines.values().map(line).collect(),
        }
    }
}

fn json(form: &impl Serialize) -> String {
    serde_json::to_string(form).expect("texts and numbers always have a JSON form")
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())
}

fn date(text: Option<String>) -> Result<Option<Date>, String> {
    text.map(|text| parse_date(&text).ok_or_else(|| format!("{text:?} is no date"))).transpose()
}

fn location(name: String) -> Result<Location, String> {
    Location::new(name).map_err(|error| error.to_string())
}

fn reference(name: String) -> Result<BatchRef, String> {
    BatchRef::new(name).map_err(|error| error.to_string())
}

fn quantity(units: u64) -> Result<Quantity, String> {
    Quantity::new(units).map_err(|error| error.to_string())
}

fn batch_quantity(units: u64) -> Result<BatchQuantity, String> {
    BatchQuantity::new(units).map_err(|error| error.to_string())
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a checkpoint says of the product itself.
#[derive(Serialize, Deserialize)]
struct Head {
    changed_at: String,
    #[serde(default, skip_serializing_if = "is_usual")]
    out_of_stock_raised: bool,
    #[serde(default, skip_serializing_if = "is_usual")]
    low: Vec<String>,
    #[serde(flatten)]
    settings: SettingsForm,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct SettingsForm {
    #[serde(skip_serializing_if = "is_usual")]
    queue_cap: Option<u64>,
    #[serde(skip_serializing_if = "is_usual")]
    auto_improve: bool,
    #[serde(skip_serializing_if = "is_usual")]
    strategy: Option<String>,
    #[serde(skip_serializing_if = "is_usual")]
    min_days: u16,
    #[serde(skip_serializing_if = "is_usual")]
    requires_expiry: bool,
    #[serde(skip_serializing_if = "is_usual")]
    overdue_days: Option<u16>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    locations: LevelsJson,
}

impl SettingsForm {
    fn of(settings: &Settings) -> Self {
        let Settings { queue_cap, auto_improve, strategy, min_days, requires_expiry, overdue_days, levels } = settings;
        Self {
            queue_cap: *queue_cap,
            auto_improve: *auto_improve,
            strategy: strategy.map(|strategy| strategy.name().to_owned()),
            min_days: *min_days,
            requires_expiry: *requires_expiry,
            overdue_days: *overdue_days,
            locations: written_levels(levels),
        }
    }

    fn read(self) -> Result<Settings, String> {
        let strategy = |name: String| {
            let known = Strategy::ALL.into_iter().find(|strategy| strategy.name() == name);
            known.ok_or_else(|| format!("{name:?} is no strategy"))
        };
        Ok(Settings {
            queue_cap: self.queue_cap,
            auto_improve: self.auto_improve,
            strategy: self.strategy.map(strategy).transpose()?,
            min_days: self.min_days,
            requires_expiry: self.requires_expiry,
            overdue_days: self.overdue_days,
            levels: read_levels(&self.locations)?,
        })
    }
}

/// What a checkpoint says of a batch.
#[derive(Serialize, Deserialize)]
struct BatchForm {
    location: String,
    quantity: u64,
    declared: u64,
    revision: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    quarantined: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    held: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    allocated: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    eta: Option<String>,
    #[serde(default, skip_serializing_if = "is_usual")]
    arrived: Option<u64>,
    #[serde(default, skip_serializing_if = "is_usual")]
    expires_on: Option<String>,
    #[serde(default, skip_serializing_if = "is_usual")]
    expired: bool,
    #[serde(default, skip_serializing_if = "is_usual")]
    cancelled: bool,
}

impl BatchForm {
    fn of(batch: &Batch) -> Self {
        Self {
            location: batch.location.to_string(),
            quantity: batch.quantity.units(),
            declared: batch.declared.units(),
            revision: batch.revision,
            quarantined: batch.quarantined,
            held: batch.held,
            allocated: batch.allocated,
            eta: batch.eta.map(date_text),
            arrived: batch.arrived,
            expires_on: batch.expires_on.map(date_text),
            expired: batch.expired,
            cancelled: batch.cancelled,
        }
    }

    fn read(self, reference: &BatchRef) -> Result<Batch, String> {
        Ok(Batch {
            reference: reference.clone(),
            location: location(self.location)?,
            quantity: batch_quantity(self.quantity)?,
            declared: batch_quantity(self.declared)?,
            quarantined: self.quarantined,
            held: self.held,
            allocated: self.allocated,
            eta: date(self.eta)?,
            arrived: self.arrived,
            expires_on: date(self.expires_on)?,
            expired: self.expired,
            cancelled: self.cancelled,
            revision: self.revision,
        })
    }
}

/// What a checkpoint says of a line.
#[derive(Serialize, Deserialize)]
struct LineForm {
    requested: u64,
    accepted: u64,
    /// Acceptance, batch, units, whether they are being picked.
    #[serde(default, skip_serializing_if = "is_usual")]
    parts: Vec<(u64, Option<String>, u64, bool)>,
    /// Batch, units, of these the ones that came back.
    #[serde(default, skip_serializing_if = "is_usual")]
    shipped: Vec<(String, u64, u64)>,
    #[serde(default, skip_serializing_if = "is_usual")]
    hold: Option<String>,
    #[serde(default, skip_serializing_if = "is_usual")]
    confirmed: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    dropped: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    cancelled: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    lapsed: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    queued: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    priority: i32,
    #[serde(default, skip_serializing_if = "is_usual")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "is_usual")]
    not_before: Option<String>,
    /// 1 unless said; 0: it must stay whole.
    #[serde(default, skip_serializing_if = "is_usual")]
    min_split: Option<u64>,
    #[serde(default, skip_serializing_if = "is_usual")]
    over_locations: bool,
    #[serde(default, skip_serializing_if = "is_usual")]
    min_days: Option<u16>,
    #[serde(default, skip_serializing_if = "is_usual")]
    locations: Option<Vec<String>>,
}

impl LineForm {
    fn of(line: &AcceptedLine, confirmed: u64) -> Self {
        let Terms { priority, by, not_before, split, min_days, locations } = &line.terms;
        let part =
            |part: &Part| (part.accepted, part.batch.as_ref().map(ToString::to_string), part.qty.units(), part.locked);
        let shipped = |shipped: &Shipped| (shipped.batch.to_string(), shipped.qty, shipped.returned);
        Self {
            requested: line.requested.units(),
            accepted: line.accepted,
            parts: line.parts.iter().map(part).collect(),
            shipped: line.shipped.iter().map(shipped).collect(),
            hold: line.hold.map(instant_text),
            confirmed,
            dropped: line.dropped,
            cancelled: line.cancelled,
            lapsed: line.lapsed,
            queued: line.queued,
            priority: *priority,
            by: by.map(date_text),
            not_before: not_before.map(date_text),
            min_split: match split {
                Split::Never => Some(0),
                Split::Parts(Quantity::ONE) | Split::OverLocations(Quantity::ONE) => None,
                Split::Parts(least) | Split::OverLocations(least) => Some(least.units()),
            },
            over_locations: matches!(split, Split::OverLocations(_)),
            min_days: *min_days,
            locations: locations.as_ref().map(|accepted| accepted.iter().map(ToString::to_string).collect()),
        }
    }

    fn read(self, key: &LineKey) -> Result<AcceptedLine, String> {
        let split = match (self.min_split, self.over_locations) {
            (Some(0), _) => Split::Never,
            (least, true) => Split::OverLocations(quantity(least.unwrap_or(1))?),
            (least, false) => Split::Parts(quantity(least.unwrap_or(1))?),
        };
        let accepted = |names: Vec<String>| {
            let locations = names.into_iter().map(location).collect::<Result<_, _>>()?;
            Locations::new(locations).map_err(|error| error.to_string())
        };
        let terms = Terms {
            priority: self.priority,
            by: date(self.by)?,
            not_before: date(self.not_before)?,
            split,
            min_days: self.min_days,
            locations: self.locations.map(accepted).transpose()?,
        };
        let mut line = AcceptedLine::new(key.clone(), quantity(self.requested)?, self.accepted, terms);
        for (accepted, batch, qty, locked) in self.parts {
            let (batch, qty) = (batch.map(reference).transpose()?, quantity(qty)?);
            line.parts.push(Part { accepted, batch, qty, locked });
        }
        for (batch, qty, returned) in self.shipped {
            line.shipped.push(Shipped { batch: reference(batch)?, qty, returned });
        }
        line.hold = self.hold.as_deref().map(instant).transpose()?;
        (line.dropped, line.cancelled, line.lapsed, line.queued) =
            (self.dropped, self.cancelled, self.lapsed, self.queued);
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use allocation_domain::{Level, LineId, LowStock, OrderId};
    use time::macros::{date, datetime};

    use super::*;

    fn key(order_id: &str) -> LineKey {
        LineKey { order_id: OrderId::new(order_id).unwrap(), line: LineId::default() }
    }

    fn units(units: u64) -> Quantity {
        Quantity::new(units).unwrap()
    }

    fn at(name: &str) -> Location {
        Location::new(name).unwrap()
    }

    /// With everything in it that there can be.
    fn full() -> Base {
        let batch = BatchRef::new("b \"1\"").unwrap();
        let of_batch = Batch {
            location: at("lima"),
            declared: BatchQuantity::new(90).unwrap(),
            quarantined: 3,
            held: 2,
            allocated: 5,
            expires_on: Some(date!(2031 - 05 - 01)),
            expired: true,
            cancelled: true,
            ..Batch::new(batch.clone(), BatchQuantity::new(100).unwrap(), Some(date!(2031 - 01 - 02)), 7)
        };
        let terms = Terms {
            priority: -3,
            by: Some(date!(2031 - 02 - 03)),
            not_before: Some(date!(2031 - 02 - 01)),
            split: Split::OverLocations(units(4)),
            min_days: Some(9),
            locations: Some(Locations::new(vec![at("oslo"), at("lima")]).unwrap()),
        };
        let mut line = AcceptedLine::new(key("o"), units(40), 8, terms);
        line.parts.push(Part { accepted: 8, batch: Some(batch.clone()), qty: units(2), locked: true });
        line.parts.push(Part { accepted: 11, batch: None, qty: units(1), locked: false });
        line.shipped.push(Shipped { batch: batch.clone(), qty: 30, returned: 4 });
        line.hold = Some(datetime!(2031-01-01 10:11:12.123456 UTC));
        (line.dropped, line.cancelled, line.lapsed, line.queued) = (1, 2, 3, 1);
        let level = Level { safety_stock: 4, low_stock: Some(LowStock { threshold: 5, restocked: 6 }) };
        let ledger = Ledger {
            version: 12,
            settings: Settings {
                queue_cap: Some(5),
                auto_improve: true,
                strategy: Some(Strategy::Fefo),
                min_days: 3,
                requires_expiry: true,
                overdue_days: Some(8),
                levels: [(at("lima"), level)].into(),
            },
            batches: [(batch, of_batch.clone())].into(),
            lines: [(key("o"), line)].into(),
            out_of_stock_raised: true,
            low: [at("lima")].into(),
            confirmed: [(key("o"), 1)].into(),
        };
        let balances = Balances::of([&of_batch]);
        Base { ledger, balances, changed_at: datetime!(2031-01-01 09:00:00.000001 UTC) }
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let sku = Sku::new("LAMP").unwrap();
        for base in [full(), Base::default()] {
            let checkpoint = base.checkpoint(&sku);
            assert_eq!((checkpoint.sku(), checkpoint.sequence()), (&sku, base.ledger.version));
            assert_eq!(Base::of(&checkpoint), Ok(base));
        }
    }

    #[test]
    fn of_a_plain_line_little_is_kept() {
        let mut base = Base::default();
        let batch = BatchRef::new("b").unwrap();
        for (order_id, split) in [("plain", Terms::default()), ("whole", Terms::whole())] {
            let mut line = AcceptedLine::new(key(order_id), units(3), 17, split);
            line.shipped.push(Shipped { batch: batch.clone(), qty: 3, returned: 0 });
            base.ledger.lines.insert(line.key.clone(), line);
        }
        let lines = base.checkpoint(&Sku::new("LAMP").unwrap()).lines;
        let plain = r#"{"requested":3,"accepted":17,"shipped":[["b",3,0]]}"#;
        let whole = r#"{"requested":3,"accepted":17,"shipped":[["b",3,0]],"min_split":0}"#;
        assert_eq!(lines.iter().map(|(_, body)| body.as_str()).collect::<Vec<_>>(), [plain, whole]);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let good = full().checkpoint(&Sku::new("LAMP").unwrap());
        let bad: [fn(&mut Checkpoint); 5] = [
            |checkpoint| checkpoint.head = "{}".into(),
            |checkpoint| checkpoint.balances.body.clear(),
            |checkpoint| checkpoint.batches[0].1 = "{}".into(),
            |checkpoint| checkpoint.lines[0].1 = r#"{"requested":0,"accepted":1}"#.into(),
            |checkpoint| checkpoint.lines[0].1 = r#"{"requested":1,"accepted":1,"by":"soon"}"#.into(),
        ];
        for spoil in bad {
            let mut checkpoint = good.clone();
            spoil(&mut checkpoint);
            assert!(Base::of(&checkpoint).is_err(), "{checkpoint:?}");
        }
    }
}
