//! What callers change about their lines (rules 23 and 24).

use std::cmp::Reverse;

use super::Product;
use crate::commands::{LineChange, WhenShort};
use crate::error::Rejection;
use crate::events::{DeallocationReason, Event};
use crate::ids::{BatchRef, Quantity};
use crate::order_line::{AcceptedLine, LineKey, PartKey, Terms};
use crate::states::{Answer, LineCommand};

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The line is cancelled now.
    Now,
    /// It had ended already.
    Already,
}

impl Product {
    /// Whether a line may be given up.
    ///
    /// # Errors
    /// `UnknownLine`; `NotAllowed` when all of it has left, or some of it is being picked (rule 24).
    pub fn may_deallocate(&self, key: &LineKey) -> Result<Answer, Rejection> {
        let line = self.line(key).ok_or_else(|| self.unknown_line(key))?;
        if line.locked() > 0 {
            let (subject, command) = (self.named_line(key), LineCommand::Cancel.name());
            return Err(Rejection::NotAllowed { subject, command, state: "locked" });
        }
        self.allowed(LineCommand::Cancel, line)
    }

    /// The caller no longer wants the line. Its units are free again, but for those that have left; it stays known as cancelled.
    ///
    /// # Errors
    /// As [`Product::may_deallocate`].
    pub fn deallocate(&mut self, key: &LineKey) -> Result<Cancelled, Rejection> {
        if self.may_deallocate(key)? == Answer::Same {
            return Ok(Cancelled::Already);
        }
        let units = self.known_line(key).open();
        for (reference, accepted, units) in self.places_of(key) {
            self.deallocate_part(key, accepted, &reference, units, DeallocationReason::Released);
        }
        self.change_line(key, |line| {
            line.close();
            line.cancelled += units;
        });
        self.raise(Event::LineCancelled { line: key.clone(), qty: Quantity::part(units) });
        Ok(Cancelled::Now)
    }

    /// The product as it is once the line is what the caller now asks for; `None`: it is so already. Changes nothing itself.
    ///
    /// Smaller: the part that waits goes first, then the latest arrival (rule 23). Larger: what is added counts as new. With an earlier `by`,
    /// placements that come too late are given up for others. A held line keeps its expiry.
    ///
    /// # Errors
    /// `UnknownLine`; `NotAllowed` in its state; `TooFew` when more has left or is being picked; `Short` and `QueueFull` as for a new line.
    pub fn with_line_changed(&self, key: &LineKey, change: &LineChange) -> Result<Option<Self>, Rejection> {
        let line = self.line(key).ok_or_else(|| self.unknown_line(key))?;
        self.allowed(LineCommand::Change, line)?;
        let terms = Terms {
            priority: change.priority.unwrap_or(line.terms.priority),
            by: change.by.unwrap_or(line.terms.by),
            ..line.terms.clone()
        };
        let same_quantity = change.qty.is_none_or(|qty| (qty, 0) == (line.requested, line.dropped));
        if same_quantity && terms == line.terms {
            return Ok(None);
        }
        let least = line.shipped() + line.locked();
        if change.qty.is_some_and(|qty| qty.units() < least) {
            return Err(Rejection::TooFew { subject: self.named_line(key), least });
        }
        let mut changed = self.clone();
        changed.change(key, terms, change)?;
        Ok(Some(changed))
    }

    fn change(&mut self, key: &LineKey, terms: Terms, change: &LineChange) -> Result<(), Rejection> {
        let first = self.events.len();
        let line = self.known_line(key);
        let ordered = line.ordered();
        let to = change.qty.map_or(ordered, Quantity::units);
        let whole = !terms.split.is_allowed();
        // What is added counts as new; but what may not be split has one seniority.
        let accepted = line.parts.first().filter(|_| whole).map_or(self.version + 1, |part| part.accepted);
        self.change_line(key, |line| {
            line.terms = terms.clone();
            line.give_up_waiting(ordered.saturating_sub(to));
        });
        self.release_surplus(key, to);
        // What it has goes before what is added, by seniority; a whole line that grows leaves where it is all at once.
        if !whole || to <= ordered {
            self.leave_what_is_late(key, change.when_short)?;
        }
        let more = match to.checked_sub(ordered) {
            Some(units) if units > 0 => self.growth(key, units, change.when_short)?,
            _ => Growth::default(),
        };
        let (requested, dropped) = self.change_line(key, |line| {
            if let Some(qty) = change.qty {
                (line.requested, line.dropped) = (qty, more.dropped);
            }
            (line.requested, line.dropped)
        });
        if more.moves {
            let shipped = self.known_line(key).shipped();
            self.release_surplus(key, shipped);
        }
        for (reference, units) in more.placements {
            self.place(key, accepted, &reference, units);
        }
        self.enqueue(key, accepted, more.backordered, false);
        let (line, from) = (key.clone(), Quantity::part(ordered));
        self.raise(Event::LineChanged { line, from, to: requested, dropped, terms });
        self.put_in_order(first);
        Ok(())
    }

    /// Takes the line's places from it until it has no more than so many units: the latest arrival first; of one day what was added last.
    fn release_surplus(&mut self, key: &LineKey, to: u64) {
        let mut surplus = self.known_line(key).ordered().saturating_sub(to);
        let mut places = self.unlocked_places_of(key);
        places.sort_by_key(|(reference, accepted, _)| Reverse((self.eta(reference), *accepted)));
        for (reference, accepted, units) in places {
            let going = units.min(surplus);
            if going > 0 {
                self.deallocate_part(key, accepted, &reference, going, DeallocationReason::Released);
            }
            surplus -= going;
        }
    }

    /// Where so many more units of a line would come from.
    fn growth(&self, key: &LineKey, units: u64, when_short: WhenShort) -> Result<Growth, Rejection> {
        let line = self.known_line(key);
        if !line.terms.split.is_allowed() {
            return self.growth_as_a_whole(line, units, when_short);
        }
        let placements = self.named(self.would_take(line, units));
        let placed: u64 = placements.iter().map(|(_, units)| units).sum();
        let missing = units - placed;
        match when_short {
            _ if missing == 0 => Ok(Growth { placements, ..Growth::default() }),
            WhenShort::Partial if placed > 0 => Ok(Growth { placements, dropped: missing, ..Growth::default() }),
            WhenShort::Backorder if line.hold.is_none() => {
                self.room_in_queue(missing)?;
                Ok(Growth { placements, backordered: missing, ..Growth::default() })
            }
            _ => Err(Rejection::Short(vec![self.shortage(units, placed)])),
        }
    }

    /// The same for a line that may not be split: in the batch where it is, or all of it in another; or it waits with the rest.
    fn growth_as_a_whole(&self, line: &AcceptedLine, units: u64, when_short: WhenShort) -> Result<Growth, Rejection> {
        let Some((here, _)) = line.placements().next() else {
            if when_short != WhenShort::Backorder {
                return Err(Rejection::Short(vec![self.shortage(units, 0)]));
            }
            self.room_in_queue(units)?;
            return Ok(Growth { backordered: units, ..Growth::default() });
        };
        if self.batch(here).is_some_and(|batch| self.may_be_promised(batch, &line.terms, units)) {
            return Ok(Growth { placements: vec![(here.clone(), units)], ..Growth::default() });
        }
        // What is being picked stays where it is.
        let everything = if line.locked() > 0 { Vec::new() } else { self.would_take(line, line.open() + units) };
        let placements = self.named(everything);
        if placements.is_empty() {
            return Err(Rejection::Short(vec![self.shortage(units, 0)]));
        }
        Ok(Growth { placements, moves: true, ..Growth::default() })
    }

    /// Gives up placements that come after the line's `by`, for others in time.
    fn leave_what_is_late(&mut self, key: &LineKey, when_short: WhenShort) -> Result<(), Rejection> {
        let line = self.known_line(key);
        let terms = line.terms.clone();
        let late: Vec<_> = self
            .loose_places_of(key)
            .into_iter()
            .filter(|(reference, ..)| {
                self.batch(reference).is_some_and(|batch| !terms.allow(batch.arrival(&self.calendar)))
            })
            .map(|(reference, accepted, units)| (PartKey { line: key.clone(), accepted }, reference, units))
            .collect();
        let asked = late.iter().map(|(.., units)| units).sum();
        let displaced = self.displace_parts(late);
        let missing: u64 = displaced.iter().map(|d| if d.lapsed { d.qty.units() } else { d.backordered }).sum();
        if missing > 0 && (when_short != WhenShort::Backorder || displaced.iter().any(|d| d.lapsed)) {
            return Err(Rejection::Short(vec![self.shortage(asked, asked - missing)]));
        }
        Ok(())
    }

    fn places_of(&self, key: &LineKey) -> Vec<(BatchRef, u64, u64)> {
        let line = self.known_line(key);
        line.placements().map(|(at, part)| (at.clone(), part.accepted, part.qty.units())).collect()
    }
}

/// What more units of a line would come to.
#[derive(Default)]
struct Growth {
    placements: Vec<(BatchRef, u64)>,
    backordered: u64,
    dropped: u64,
    /// The line leaves where it is, and goes whole to another batch.
    moves: bool,
}
