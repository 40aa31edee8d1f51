//! The ledger of movements: what each event changed of a batch, and what the batch came to by it.
//!
//! It is read from the event log, oldest first. So that a page of it costs the same however long the history is, a product's balances are
//! noted every [`NOTED_EVERY`] events, and folded on from there.

use std::collections::BTreeMap;

use allocation_domain::commands::ReturnTo;
use allocation_domain::ledger::Inconsistent;
use allocation_domain::{Batch, BatchRef, Event, LineKey, Quantity, Sku};
use time::OffsetDateTime;

use crate::ports::database::{NotedBalances, StoreError, StoreResult};
use crate::ports::reader::Reader;
use crate::wire::{self, WireEvent};

/// After how many events of a product its balances are noted.
pub const NOTED_EVERY: u64 = 1_024;

/// How many events are read for a page at most; one that is not full by then is given as it is.
pub const MOST_EVENTS: u64 = 16 * NOTED_EVERY;

/// A batch's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Units there are: on hand when it has arrived, else incoming.
    pub units: u64,
    /// Of these, units that are set aside.
    pub quarantined: u64,
    /// Units placed for holds.
    pub held: u64,
    /// Units allocated from it.
    pub allocated: u64,
}

impl Balance {
    /// Units that can be placed, unless the batch has expired. None, while units have gone and those who had them have not yet lost their place.
    pub fn free(self) -> u64 {
        self.units.saturating_sub(self.quarantined + self.held + self.allocated)
    }

    /// With another number of units. What was set aside goes last.
    fn holding(self, units: u64) -> Self {
        Self { units, quarantined: self.quarantined.min(units), ..self }
    }

    /// What an event of the batch makes of it; `None` when there is less than it takes away.
    fn after(self, event: &Event) -> Option<Self> {
        let Self { units, quarantined, held, allocated } = self;
        let less = |from: u64, qty: Quantity| from.checked_sub(qty.units());
        Some(match event {
            Event::BatchCreated { qty, .. } | Event::BatchReceived { qty, .. } => self.holding(qty.units()),
            Event::BatchQuantityChanged { from, to, .. } => {
                self.holding((units + to.units()).checked_sub(from.units())?)
            }
            Event::BatchCancelled { .. } => self.holding(0),
            Event::BatchAdjusted { to, .. } => self.holding(to.units()),
            Event::Quarantined { qty, .. } => Self { quarantined: quarantined + qty.units(), ..self },
            Event::Released { qty, .. } => Self { quarantined: quarantined.checked_sub(qty.units())?, ..self },
            Event::Held { qty, .. } => Self { held: held + qty.units(), ..self },
            Event::Allocated { qty, held: true, .. } => {
                Self { held: less(held, *qty)?, allocated: allocated + qty.units(), ..self }
            }
            Event::Allocated { qty, held: false, .. } => Self { allocated: allocated + qty.units(), ..self },
            Event::HoldExpired { qty, .. } | Event::Deallocated { qty, held: true, .. } => {
                Self { held: less(held, *qty)?, ..self }
            }
            Event::Deallocated { qty, held: false, .. } => Self { allocated: less(allocated, *qty)?, ..self },
            Event::Shipped { qty, .. } => {
                Self { allocated: less(allocated, *qty)?, ..self }.holding(less(units, *qty)?)
            }
            Event::Returned { qty, to, .. } => match to {
                ReturnTo::Quarantine => {
                    Self { units: units + qty.units(), quarantined: quarantined + qty.units(), ..self }
                }
                ReturnTo::Restock => Self { units: units + qty.units(), ..self },
                ReturnTo::Scrap => self,
            },
            Event::Transferred { qty, .. } => self.holding(less(units, *qty)?),
            Event::ProductChanged { .. }
            | Event::LowStock { .. }
            | Event::Restocked { .. }
            | Event::BatchEtaChanged { .. }
            | Event::ExpiryChanged { .. }
            | Event::BatchExpired { .. }
            | Event::LineAccepted { .. }
            | Event::HoldExtended { .. }
            | Event::HoldLost { .. }
            | Event::Backordered { .. }
            | Event::Locked { .. }
            | Event::Unlocked { .. }
            | Event::LineChanged { .. }
            | Event::LineCancelled { .. }
            | Event::PromiseChanged { .. }
            | Event::OutOfStock { .. }
            | Event::BooksRepaired { .. } => self,
        })
    }

    fn numbers(self) -> [u64; 4] {
        [self.units, self.quarantined, self.held, self.allocated]
    }
}

impl From<&Batch> for Balance {
    fn from(batch: &Batch) -> Self {
        let Batch { quantity, quarantined, held, allocated, .. } = batch;
        Self { units: quantity.units(), quarantined: *quarantined, held: *held, allocated: *allocated }
    }
}

/// How a movement changed each of a batch's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Units that came or went.
    pub units: i64,
    /// Units set aside.
    pub quarantined: i64,
    /// Units placed for holds.
    pub held: i64,
    /// Units allocated.
    pub allocated: i64,
}

impl Changes {
    fn between(before: Balance, after: Balance) -> Self {
        let change = |of: fn(Balance) -> u64| of(after).cast_signed() - of(before).cast_signed();
        Self {
            units: change(|balance| balance.units),
            quarantined: change(|balance| balance.quarantined),
            held: change(|balance| balance.held),
            allocated: change(|balance| balance.allocated),
        }
    }
}

/// What an event changed of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// The event, with who caused it and when.
    pub of: WireEvent,
    /// The batch.
    pub batch: BatchRef,
    /// Units that it was about, also where no number changes: those that came back and were scrapped.
    pub qty: u64,
    /// How it changed the batch's numbers.
    pub changes: Changes,
    /// What they were after it.
    pub balance: Balance,
}

impl Movement {
    /// Its number among the product's events.
    pub fn sequence(&self) -> u64 {
        self.of.sequence
    }

    /// When it happened.
    pub fn at(&self) -> OffsetDateTime {
        self.of.time
    }

    /// The event's name on the wire.
    pub fn topic(&self) -> &'static str {
        wire::topic(&self.of.event)
    }

    /// Whose units they are.
    pub fn line(&self) -> Option<&LineKey> {
        self.of.event.line()
    }

    /// What an adjustment found.
    pub fn kind(&self) -> Option<&'static str> {
        match &self.of.event {
            Event::BatchAdjusted { kind, .. } => Some(kind.name()),
            _ => None,
        }
    }

    /// Why: of an adjustment in somebody's words, else why a line lost its units.
    pub fn reason(&self) -> Option<&str> {
        match &self.of.event {
            Event::BatchAdjusted { reason, .. } => Some(reason.as_str()),
            Event::Deallocated { reason, .. } => Some(reason.name()),
            _ => None,
        }
    }

    /// What became of units that came back; of units that went to another location, the batch that they are there.
    pub fn to(&self) -> Option<&str> {
        match &self.of.event {
            Event::Returned { to, .. } => Some(to.name()),
            Event::Transferred { to, .. } => Some(to.as_str()),
            _ => None,
        }
    }
}

/// The batch whose units an event is about. A date that changes moves none, unless it says that the batch has arrived.
fn moved(event: &Event) -> Option<&BatchRef> {
    match event {
        Event::BatchEtaChanged { to: Some(_), .. } | Event::ExpiryChanged { .. } => None,
        event => event.batch(),
    }
}

/// Units that an event of a batch is about.
fn qty(event: &Event, before: Balance) -> u64 {
    match event {
        Event::BatchCreated { qty, .. }
        | Event::BatchReceived { qty, .. }
        | Event::BatchCancelled { qty, .. }
        | Event::BatchExpired { qty, .. }
        | Event::Quarantined { qty, .. }
        | Event::Released { qty, .. } => qty.units(),
        Event::BatchQuantityChanged { from, to, .. } | Event::BatchAdjusted { from, to, .. } => {
            from.units().abs_diff(to.units())
        }
        Event::Held { qty, .. }
        | Event::HoldExpired { qty, .. }
        | Event::Allocated { qty, .. }
        | Event::Deallocated { qty, .. }
        | Event::Transferred { qty, .. }
        | Event::Shipped { qty, .. }
        | Event::Returned { qty, .. } => qty.units(),
        // It has arrived, with all that is in it.
        _ => before.units,
    }
}

/// The numbers of a product's batches; of those that have any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balances(BTreeMap<BatchRef, Balance>);

impl Balances {
    /// Those of these batches, which are all that have anything in them.
    pub fn of<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Self {
        let balances = batches.into_iter().map(|batch| (batch.reference.clone(), Balance::from(batch)));
        Self(balances.filter(|(_, balance)| *balance != Balance::default()).collect())
    }

    /// A batch's numbers.
    pub fn get(&self, reference: &BatchRef) -> Balance {
        self.0.get(reference).copied().unwrap_or_default()
    }

    /// Adds the next event of the product; gives what it moved.
    ///
    /// # Errors
    /// When the log can't be true: it takes more from a batch than there is.
    pub fn fold(&mut self, event: WireEvent) -> Result<Option<Movement>, Inconsistent> {
        let Some(batch) = moved(&event.event) else { return Ok(None) };
        let before = self.get(batch);
        let balance = before.after(&event.event).ok_or_else(|| Inconsistent {
            sequence: event.sequence,
            event: event.event.name(),
            why: "takes more from the batch than there is",
        })?;
        let batch = batch.clone();
        if balance == Balance::default() {
            self.0.remove(&batch);
        } else {
            self.0.insert(batch.clone(), balance);
        }
        let qty = qty(&event.event, before);
        Ok(Some(Movement { batch, qty, changes: Changes::between(before, balance), balance, of: event }))
    }

    /// As they are noted: JSON, for each batch its units, and of these the quarantined, the held and the allocated ones.
    pub fn to_json(&self) -> String {
        let numbers: BTreeMap<&str, [u64; 4]> =
            self.0.iter().map(|(reference, balance)| (reference.as_str(), balance.numbers())).collect();
        serde_json::to_string(&numbers).expect("texts and numbers always have a JSON form")
    }

    /// Reads them back.
    ///
    /// # Errors
    /// What is wrong, when they were not noted like this.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let numbers: BTreeMap<String, [u64; 4]> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let balances = numbers.into_iter().map(|(reference, [units, quarantined, held, allocated])| {
            let reference = BatchRef::new(reference).map_err(|error| error.to_string())?;
            Ok((reference, Balance { units, quarantined, held, allocated }))
        });
        balances.collect::<Result<_, String>>().map(Self)
    }

    /// These balances, to be noted as those after an event.
    pub fn noted(&self, sku: &Sku, sequence: u64) -> NotedBalances {
        NotedBalances { sku: sku.clone(), sequence, body: self.to_json() }
    }
}

/// Whether balances are to be noted somewhere after the event `before`, up to the event `now`.
pub fn is_to_be_noted(before: u64, now: u64) -> bool {
    before / NOTED_EVERY != now / NOTED_EVERY
}

/// The movements of a product, or of one of its batches, on their way from the store.
pub struct Reading {
    sku: Sku,
    /// Only those of this batch.
    batch: Option<BatchRef>,
    balances: Balances,
    /// The event up to which they are folded.
    at: u64,
    /// The event after which movements are wanted.
    after: u64,
    /// The last event that there is to read.
    until: u64,
    /// The last event that was archived, and so is not there to read; 0: none was.
    archived: u64,
    /// Whether it has given a movement.
    has_begun: bool,
}

impl Reading {
    /// Begins after an event; `None` when product or batch are unknown.
    pub async fn begin(
        reader: &dyn Reader,
        sku: &Sku,
        batch: Option<&BatchRef>,
        after: u64,
    ) -> StoreResult<Option<Self>> {
        let Some(span) = reader.span(sku, batch).await? else { return Ok(None) };
        let mut reading = Self {
            sku: sku.clone(),
            batch: batch.cloned(),
            balances: Balances::default(),
            at: 0,
            after: after.max(span.after).min(span.until),
            until: span.until,
            archived: 0,
            has_begun: false,
        };
        match reader.noted_balances(sku, reading.after).await? {
            Some(noted) => reading.turn_to(&noted)?,
            None => drop(reading.pass_over_archived(reader).await?),
        }
        Ok(Some(reading))
    }

    /// Goes on from these balances.
    fn turn_to(&mut self, noted: &NotedBalances) -> StoreResult<()> {
        self.at = noted.sequence;
        self.balances = Balances::from_json(&noted.body).map_err(|why| damaged(&self.sku, why))?;
        self.balances.0.retain(|reference, _| self.batch.as_ref().is_none_or(|batch| batch == reference));
        Ok(())
    }

    /// If events have been archived that were to be folded, goes on from what they came to, and says so.
    async fn pass_over_archived(&mut self, reader: &dyn Reader) -> StoreResult<bool> {
        let archived = reader.archived(&self.sku).await?.filter(|archived| archived.sequence > self.at);
        let Some(archived) = archived else { return Ok(false) };
        if self.has_begun {
            let why = format!("events of SKU {} were archived while they were read", self.sku);
            return Err(StoreError::Unavailable(why));
        }
        self.turn_to(&archived)?;
        self.archived = archived.sequence.min(self.until);
        Ok(true)
    }

    /// The last movement that was asked for and may have been archived; `None` when what was asked for is all there.
    pub fn archived(&self) -> Option<u64> {
        (self.archived > self.after).then_some(self.archived)
    }

    /// The next movements, at most `limit`: fewer at the end, or when [`MOST_EVENTS`] have no more.
    pub async fn next(&mut self, reader: &dyn Reader, limit: usize) -> StoreResult<Vec<Movement>> {
        let most = self.at.max(self.after).saturating_add(MOST_EVENTS).min(self.until);
        let mut found = Vec::new();
        while found.len() < limit && self.at < most {
            // Of a product nearly every event is a movement; of a batch, who knows.
            let wanted = match &self.batch {
                None => (limit - found.len()) as u64 + self.after.saturating_sub(self.at),
                Some(_) => NOTED_EVERY,
            };
            let until = self.at.saturating_add(wanted.min(MOST_EVENTS)).min(most);
            let bodies = reader.events_of(&self.sku, self.batch.as_ref(), self.at, until).await?;
            // Only now is it known that none of them was missing.
            if self.pass_over_archived(reader).await? {
                continue;
            }
            for body in bodies {
                let event = wire::parse_event(&body).map_err(|error| damaged(&self.sku, error))?;
                if self.batch.as_ref().is_some_and(|batch| event.event.batch() != Some(batch)) {
                    continue;
                }
                self.at = event.sequence;
                let movement = self.balances.fold(event).map_err(|error| damaged(&self.sku, error))?;
                found.extend(movement.filter(|movement| movement.sequence() > self.after));
                self.has_begun |= !found.is_empty();
                if found.len() == limit {
                    return Ok(found);
                }
            }
            self.at = until;
        }
        Ok(found)
    }

    /// The event after which it goes on; `None` at the end.
    pub fn goes_on_after(&self) -> Option<u64> {
        (self.at.max(self.after) < self.until).then_some(self.at.max(self.after))
    }
}

fn damaged(sku: &Sku, why: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the log of SKU {sku} can't be folded: {why}"))
}

#[cfg(test)]
mod tests {
    use allocation_domain::commands::Rest;
    use allocation_domain::{
        AdjustmentKind, BatchQuantity, DeallocationReason, LineId, Location, OrderId, Promise, Reason, Settings,
    };
    use time::macros::date;
    use uuid::Uuid;

    use super::*;

    fn reference(text: &str) -> BatchRef {
        BatchRef::new(text).unwrap()
    }

    fn stock(units: u64) -> BatchQuantity {
        BatchQuantity::new(units).unwrap()
    }

    fn units(units: u64) -> Quantity {
        Quantity::new(units).unwrap()
    }

    fn line() -> LineKey {
        LineKey { order_id: OrderId::new("o").unwrap(), line: LineId::default() }
    }

    fn happened(sequence: u64, event: Event) -> WireEvent {
        WireEvent {
            id: Uuid::nil(),
            sku: Sku::new("LAMP").unwrap(),
            sequence,
            time: OffsetDateTime::UNIX_EPOCH,
            correlation: "request".into(),
            actor: "test".into(),
            event,
        }
    }

    /// Folds these events of batch `b`, and shows each movement: its name, units, changes, and balance.
    fn shown(events: impl IntoIterator<Item = Event>) -> Vec<(&'static str, u64, [i64; 4], [u64; 4])> {
        let mut balances = Balances::default();
        let movements = (1..).zip(events).filter_map(|(sequence, event)| {
            let movement = balances.fold(happened(sequence, event)).unwrap()?;
            assert_eq!((movement.sequence(), &movement.batch), (sequence, &reference("b")));
            assert_eq!(balances.get(&movement.batch), movement.balance);
            let Changes { units, quarantined, held, allocated } = movement.changes;
            Some((movement.topic(), movement.qty, [units, quarantined, held, allocated], movement.balance.numbers()))
        });
        movements.collect()
    }

    #[test]
    fn each_event_moves_what_it_says() {
        let b = || reference("b");
        let (line, accepted, until) = (line(), 9, OffsetDateTime::UNIX_EPOCH);
        let (released, displaced) = (DeallocationReason::Released, DeallocationReason::Displaced);
        let adjusted = |kind, from, to| Event::BatchAdjusted {
            reference: b(),
            kind,
            from: stock(from),
            to: stock(to),
            reason: Reason::new("counted").unwrap(),
        };
        let held = |qty| Event::Held { line: line.clone(), accepted, qty: units(qty), reference: b(), until };
        let allocated = |qty, held| {
            let (line, split) = (line.clone(), true);
            Event::Allocated { line, accepted, qty: units(qty), reference: b(), split, held }
        };
        let deallocated = |qty, reason, held| {
            let line = line.clone();
            Event::Deallocated { line, accepted, qty: units(qty), reference: b(), reason, held }
        };
        let returned = |qty, to| Event::Returned { line: line.clone(), qty: units(qty), reference: b(), to };
        let shown = shown([
            Event::BatchCreated {
                reference: b(),
                qty: stock(10),
                eta: Some(date!(2031 - 01 - 01)),
                expires_on: None,
                location: Location::default(),
            },
            Event::BatchQuantityChanged { reference: b(), from: stock(10), to: stock(20) },
            Event::BatchReceived { reference: b(), from: stock(20), qty: stock(15), rest: Rest::Keep },
            held(5),
            allocated(3, true),
            Event::HoldExpired { line: line.clone(), accepted, qty: units(1), reference: b() },
            deallocated(1, released, true),
            allocated(4, false),
            deallocated(2, displaced, false),
            Event::Quarantined { reference: b(), qty: stock(8) },
            Event::Released { reference: b(), qty: stock(1) },
            Event::Shipped { line: line.clone(), accepted, qty: units(3), reference: b() },
            returned(1, ReturnTo::Scrap),
            returned(1, ReturnTo::Restock),
            returned(1, ReturnTo::Quarantine),
            adjusted(AdjustmentKind::Found, 14, 16),
            adjusted(AdjustmentKind::Damaged, 16, 6),
            Event::BatchQuantityChanged { reference: b(), from: stock(15), to: stock(11) },
            deallocated(2, displaced, false),
            Event::BatchCancelled { reference: b(), qty: stock(2) },
        ]);
        assert_eq!(
            shown,
            [
                ("batch_created", 10, [10, 0, 0, 0], [10, 0, 0, 0]),
                ("batch_quantity_changed", 10, [10, 0, 0, 0], [20, 0, 0, 0]),
                ("batch_received", 15, [-5, 0, 0, 0], [15, 0, 0, 0]),
                ("line_held", 5, [0, 0, 5, 0], [15, 0, 5, 0]),
                ("line_allocated", 3, [0, 0, -3, 3], [15, 0, 2, 3]),
                ("hold_expired", 1, [0, 0, -1, 0], [15, 0, 1, 3]),
                ("line_deallocated", 1, [0, 0, -1, 0], [15, 0, 0, 3]),
                ("line_allocated", 4, [0, 0, 0, 4], [15, 0, 0, 7]),
                ("line_deallocated", 2, [0, 0, 0, -2], [15, 0, 0, 5]),
                ("batch_quarantined", 8, [0, 8, 0, 0], [15, 8, 0, 5]),
                ("batch_released", 1, [0, -1, 0, 0], [15, 7, 0, 5]),
                ("line_shipped", 3, [-3, 0, 0, -3], [12, 7, 0, 2]),
                ("line_returned", 1, [0, 0, 0, 0], [12, 7, 0, 2]),
                ("line_returned", 1, [1, 0, 0, 0], [13, 7, 0, 2]),
                ("line_returned", 1, [1, 1, 0, 0], [14, 8, 0, 2]),
                ("batch_adjusted", 2, [2, 0, 0, 0], [16, 8, 0, 2]),
                // What is set aside goes last.
                ("batch_adjusted", 10, [-10, -2, 0, 0], [6, 6, 0, 2]),
                ("batch_quantity_changed", 4, [-4, -4, 0, 0], [2, 2, 0, 2]),
                ("line_deallocated", 2, [0, 0, 0, -2], [2, 2, 0, 0]),
                ("batch_cancelled", 2, [-2, -2, 0, 0], [0, 0, 0, 0]),
            ]
        );
    }

    #[test]
    fn an_arrival_is_a_movement_of_all_units_and_another_date_is_none() {
        let eta = |from, to| Event::BatchEtaChanged { reference: reference("b"), from, to };
        let (first, second) = (Some(date!(2031 - 01 - 01)), Some(date!(2031 - 02 - 01)));
        let created = Event::BatchCreated {
            reference: reference("b"),
            qty: stock(7),
            eta: first,
            expires_on: None,
            location: Location::default(),
        };
        let shown = shown([created, eta(first, second), eta(second, None)]);
        assert_eq!(shown[1..], [("batch_eta_changed", 7, [0, 0, 0, 0], [7, 0, 0, 0])]);
    }

    #[test]
    fn what_is_about_no_units_of_a_batch_is_no_movement() {
        let (line, accepted, reference) = (line(), 1, reference("b"));
        let shown = shown([
            Event::ProductChanged { settings: Settings::default() },
            Event::Backordered { line: line.clone(), accepted, qty: units(1), displaced: false },
            Event::Locked { line: line.clone(), accepted, qty: units(1), reference },
            Event::PromiseChanged { line: line.clone(), from: Promise::None, to: Promise::OnHand },
            Event::LineCancelled { line, qty: units(1) },
            Event::OutOfStock { asked: 1, available: 0 },
        ]);
        assert_eq!(shown, []);
    }

    #[test]
    fn a_movement_says_why() {
        let full = Balance { units: 9, allocated: 9, ..Balance::default() };
        let of = |event| Balances([(reference("b"), full)].into()).fold(happened(1, event)).unwrap().unwrap();
        let said = |movement: &Movement| {
            let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
            [text(movement.kind()), text(movement.reason()), text(movement.to())]
        };
        let (kind, reason) = (AdjustmentKind::Damaged, Reason::new("rain").unwrap());
        let adjusted = Event::BatchAdjusted { reference: reference("b"), kind, from: stock(9), to: stock(8), reason };
        assert_eq!(said(&of(adjusted)), ["damaged", "rain", "-"]);
        let reason = DeallocationReason::Displaced;
        let (qty, accepted, held) = (units(1), 1, false);
        let lost = Event::Deallocated { line: line(), accepted, qty, reference: reference("b"), reason, held };
        assert_eq!(said(&of(lost)), ["-", "displaced", "-"]);
        let back = Event::Returned { line: line(), qty, reference: reference("b"), to: ReturnTo::Restock };
        assert_eq!(said(&of(back)), ["-", "-", "restock"]);
    }

    #[test]
    fn a_log_that_takes_more_than_there_is_can_not_be_true() {
        let shipped = Event::Shipped { line: line(), accepted: 1, qty: units(1), reference: reference("b") };
        let refused = Balances::default().fold(happened(7, shipped)).unwrap_err();
        assert_eq!(refused.to_string(), "event 7 (Shipped) takes more from the batch than there is");
    }

    #[test]
    fn balances_are_noted_and_read_back() {
        let balance = |units, held| Balance { units, held, ..Balance::default() };
        let balances = Balances([(reference("b"), balance(7, 2)), (reference("\"c\""), balance(1, 0))].into());
        assert_eq!(balances.to_json(), r#"{"\"c\"":[1,0,0,0],"b":[7,0,2,0]}"#);
        assert_eq!(Balances::from_json(&balances.to_json()), Ok(balances));
        for bad in ["", "[]", r#"{"b":[1,2,3]}"#, r#"{"":[1,2,3,4]}"#] {
            assert!(Balances::from_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn balances_cost_nothing_for_batches_that_are_history() {
        let mut balances = Balances::default();
        let b = || reference("b");
        balances
            .fold(happened(
                1,
                Event::BatchCreated {
                    reference: b(),
                    qty: stock(5),
                    eta: None,
                    expires_on: None,
                    location: Location::default(),
                },
            ))
            .unwrap();
        balances
            .fold(happened(2, Event::BatchQuantityChanged { reference: b(), from: stock(5), to: stock(0) }))
            .unwrap();
        assert_eq!(balances, Balances::default());
    }
}
