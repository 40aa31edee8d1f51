//! The warehouse floor: units are released to picking, leave, and come back (rules 20 and 21).

use std::cmp::Reverse;

use super::Product;
use crate::batch::{Batch, BatchState};
use crate::commands::ReturnTo;
use crate::error::Rejection;
use crate::events::{DeallocationReason, Event};
use crate::ids::{BatchQuantity, BatchRef, Quantity};
use crate::order_line::{AcceptedLine, LineKey, Part, Seniority, Split};
use crate::states::{Answer, BatchCommand, LineCommand};

/// Units that a line has given up in a batch, for as many in another.
struct GivenUp {
    accepted: u64,
    reference: BatchRef,
    units: u64,
    /// Of these, units that nobody has taken in exchange.
    left: u64,
}

impl Product {
    // ---- Picking ----

    /// Whether a line's units may be released to picking, or taken back.
    ///
    /// # Errors
    /// `UnknownLine`; `NotAllowed` in its state.
    pub fn may_pick(&self, key: &LineKey) -> Result<Answer, Rejection> {
        self.allowed(LineCommand::Pick, self.line(key).ok_or_else(|| self.unknown_line(key))?)
    }

    /// Whether all that is allocated to a line has arrived.
    pub fn has_all_on_hand(&self, key: &LineKey) -> bool {
        self.line(key).is_some_and(|line| line.placements().all(|(at, _)| self.has_arrived(at)))
    }

    /// Whether a line has units on hand that are allocated to it.
    pub fn is_on_hand(&self, key: &LineKey) -> bool {
        self.line(key).is_some_and(|line| line.hold.is_none() && line.placements().any(|(at, _)| self.has_arrived(at)))
    }

    /// Releases what a line has on hand to picking. `false`: it was so already.
    ///
    /// # Errors
    /// As [`Product::may_pick`].
    pub fn pick(&mut self, key: &LineKey) -> Result<bool, Rejection> {
        self.set_locked(key, true)
    }

    /// Takes a line's units back from picking. `false`: they were not there.
    ///
    /// # Errors
    /// As [`Product::may_pick`].
    pub fn unpick(&mut self, key: &LineKey) -> Result<bool, Rejection> {
        self.set_locked(key, false)
    }

    fn set_locked(&mut self, key: &LineKey, locked: bool) -> Result<bool, Rejection> {
        self.may_pick(key)?;
        let line = self.known_line(key);
        let others = line.placements().filter(|(at, part)| part.locked != locked && self.has_arrived(at));
        let others: Vec<_> = others.map(|(at, part)| (at.clone(), part.accepted, part.qty)).collect();
        let any = !others.is_empty();
        for (reference, accepted, qty) in others {
            self.change_line(key, |line| {
                assert!(line.lock(accepted, &reference, qty.units(), locked), "a line has its parts");
            });
            let line = key.clone();
            self.raise(if locked {
                Event::Locked { line, accepted, qty, reference }
            } else {
                Event::Unlocked { line, accepted, qty, reference }
            });
        }
        Ok(any)
    }

    fn has_arrived(&self, reference: &BatchRef) -> bool {
        self.batch(reference).is_some_and(Batch::has_arrived)
    }

    // ---- Shipping ----

    /// Whether units of a line may leave.
    ///
    /// # Errors
    /// `UnknownLine`; `NotAllowed` in its state.
    pub fn may_ship(&self, key: &LineKey) -> Result<Answer, Rejection> {
        self.allowed(LineCommand::Ship, self.line(key).ok_or_else(|| self.unknown_line(key))?)
    }

    /// Whether so many units of a line can leave from a batch only if others move out of it: then all who have a place in it must be at hand.
    pub fn must_exchange(&self, reference: &BatchRef, units: u64) -> bool {
        self.batch(reference).is_some_and(|batch| batch.free() < units)
    }

    /// Units of a line leave: so many, or all that are allocated to it. They come from where it has them, those being picked first; or
    /// `from` a batch, where it takes what it lacks from free units, else in exchange with others who are not being picked.
    ///
    /// When it is refused, the product is of no use any more: whoever wants to know that first tries it on a copy.
    ///
    /// # Errors
    /// `UnknownLine`, `UnknownBatch`; `NotAllowed` in the state of line or batch; `NotOnHand`; `TooMany`.
    pub fn ship(&mut self, key: &LineKey, qty: Option<Quantity>, from: Option<&BatchRef>) -> Result<(), Rejection> {
        self.may_ship(key)?;
        let allocated = self.known_line(key).allocated();
        let units = qty.map_or(allocated, Quantity::units);
        if units > allocated || units == 0 {
            let subject = self.named_line(key);
            return Err(Rejection::TooMany { subject, command: "ship", asked: units.max(1), most: allocated });
        }
        let first = self.events.len();
        let promised = match from {
            None => Vec::new(),
            Some(from) => self.bring_into(key, units, from)?,
        };
        let mut places: Vec<(bool, u64, BatchRef, u64)> = self
            .known_line(key)
            .placements()
            .filter(|(at, _)| from.is_none_or(|from| from == *at) && self.has_arrived(at))
            .map(|(at, part)| (!part.locked, part.accepted, at.clone(), part.qty.units()))
            .collect();
        places.sort();
        let mut left = units;
        for (_, accepted, reference, there) in places {
            let leaving = there.min(left);
            if leaving > 0 {
                self.leave(key, accepted, reference, leaving);
            }
            left -= leaving;
        }
        if left > 0 {
            return Err(Rejection::NotOnHand(self.named_line(key)));
        }
        self.tell_promises(promised);
        self.put_in_order(first);
        Ok(())
    }

    fn leave(&mut self, key: &LineKey, accepted: u64, reference: BatchRef, units: u64) {
        self.change_line(key, |line| {
            assert!(line.ship(accepted, &reference, units), "what leaves was there");
        });
        let batch = self.batch_mut(&reference);
        batch.allocated -= units;
        batch.quantity = BatchQuantity::new(batch.quantity.units() - units).expect("less than before");
        let (line, qty) = (key.clone(), Quantity::part(units));
        self.raise(Event::Shipped { line, accepted, qty, reference });
    }

    /// Sees to it that a line has so many units in a batch, for others that it has elsewhere. Gives what was promised before to whom it may
    /// matter.
    fn bring_into(
        &mut self,
        key: &LineKey,
        units: u64,
        from: &BatchRef,
    ) -> Result<Vec<(LineKey, crate::Promise)>, Rejection> {
        if self.batch(from).is_some_and(|batch| batch.state() == BatchState::Expected) {
            return Err(Rejection::NotOnHand(self.named_batch(from)));
        }
        self.batch_allows(BatchCommand::Ship, from)?;
        let line = self.known_line(key);
        let own: u64 = line.placements().filter(|(at, _)| *at == from).map(|(_, part)| part.qty.units()).sum();
        let need = units.saturating_sub(own);
        if need == 0 {
            return Ok(Vec::new());
        }
        let others = self.may_exchange(key, from);
        let promised = self.promises(others.iter().map(|(.., other, _)| other).chain([key]));
        let missing = need.saturating_sub(self.batch(from).map_or(0, Batch::free));
        let mut given_up = self.give_up_elsewhere(key, need, from);
        let missing = self.exchange(others, missing, from, &mut given_up);
        if missing > 0 {
            let subject = self.named_line(key);
            let command = "ship from another batch";
            return Err(Rejection::TooMany { subject, command, asked: units, most: units - missing });
        }
        for GivenUp { accepted, units, .. } in given_up {
            self.place(key, accepted, from, units);
        }
        Ok(promised)
    }

    /// Whose units in a batch another line may have in exchange for its own elsewhere, by who loses a place first (rule 16).
    fn may_exchange(&self, key: &LineKey, from: &BatchRef) -> Vec<(bool, Reverse<Seniority>, LineKey, u64)> {
        // What may not be split stays where some of it is being picked.
        let stays = |line: &AcceptedLine| !line.terms.split.is_allowed() && line.locked() > 0;
        let others = self.lines.values().filter(|line| line.key != *key && !stays(line));
        let mut places: Vec<_> = others
            .flat_map(|line| line.placements().map(move |(at, part)| (line, at, part)))
            .filter(|(_, at, part)| *at == from && !part.locked)
            .map(|(line, _, part)| {
                let seniority = Reverse(line.seniority(part.accepted));
                (line.hold.is_none(), seniority, line.key.clone(), part.qty.units())
            })
            .collect();
        places.sort();
        places
    }

    /// A line leaves so many of its places elsewhere: the latest arrival first, then what was accepted last, and what is being picked last.
    fn give_up_elsewhere(&mut self, key: &LineKey, need: u64, but: &BatchRef) -> Vec<GivenUp> {
        let line = self.known_line(key);
        let mut places: Vec<(BatchRef, Part)> =
            line.placements().filter(|(at, _)| *at != but).map(|(at, part)| (at.clone(), part.clone())).collect();
        places.sort_by_key(|(at, part)| (Reverse((self.eta(at), part.accepted, at.clone())), part.locked));
        let mut left = need;
        let mut given_up = Vec::new();
        for (reference, part) in places {
            let (accepted, units) = (part.accepted, part.qty.units().min(left));
            if units > 0 {
                self.deallocate_part(key, accepted, &reference, units, DeallocationReason::Released);
                given_up.push(GivenUp { accepted, reference, units, left: units });
            }
            left -= units;
        }
        given_up
    }

    /// Moves others out of a batch until so many units are free in it, to where units were given up; gives what is still missing.
    fn exchange(
        &mut self,
        others: Vec<(bool, Reverse<Seniority>, LineKey, u64)>,
        mut missing: u64,
        from: &BatchRef,
        given_up: &mut [GivenUp],
    ) -> u64 {
        for (_, Reverse((_, accepted)), key, mut units) in others {
            for at in 0..given_up.len() {
                if missing == 0 {
                    return 0;
                }
                let line = self.known_line(&key);
                let reference = given_up[at].reference.clone();
                let Some(there) = self.batch(&reference) else { continue };
                if !self.may_have(there, &line.terms) || self.is_overdue(there) {
                    continue;
                }
                let going = match line.terms.split {
                    Split::Parts(_) | Split::OverLocations(_) => units.min(missing).min(given_up[at].left),
                    Split::Never if there.free() >= units => units,
                    Split::Never => 0,
                };
                if going == 0 {
                    continue;
                }
                self.deallocate_part(&key, accepted, from, going, DeallocationReason::Displaced);
                self.place(&key, accepted, &reference, going);
                units -= going;
                missing = missing.saturating_sub(going);
                let mut taken = going;
                for given in given_up.iter_mut().filter(|given| given.reference == reference) {
                    let some = given.left.min(taken);
                    given.left -= some;
                    taken -= some;
                }
            }
        }
        missing
    }

    // ---- Returns ----

    /// Shipped units come back: into a batch, or into those that they came from.
    ///
    /// When it is refused after the first of several, the product is of no use any more: whoever wants to know that first tries it on a copy.
    ///
    /// # Errors
    /// `UnknownLine`, `UnknownBatch`; `NotAllowed` in the state of line or batch, or when nothing has left; `TooMany`.
    pub fn take_return(
        &mut self,
        key: &LineKey,
        qty: Quantity,
        to: ReturnTo,
        into: Option<&BatchRef>,
    ) -> Result<(), Rejection> {
        let line = self.line(key).ok_or_else(|| self.unknown_line(key))?;
        self.allowed(LineCommand::Return, line)?;
        if line.shipped.is_empty() {
            return Err(self.not_allowed(LineCommand::Return, key, line.state()));
        }
        let (asked, most) = (qty.units(), line.shipped() - line.returned());
        if asked > most {
            return Err(Rejection::TooMany { subject: self.named_line(key), command: "return", asked, most });
        }
        let back = match into {
            Some(into) => vec![(into.clone(), asked)],
            None => line.coming_back(None, asked),
        };
        for (reference, units) in back {
            self.expire_batch(&reference);
            self.batch_allows(BatchCommand::Return, &reference)?;
            self.come_back(key, reference, units, to)?;
        }
        Ok(())
    }

    fn come_back(&mut self, key: &LineKey, reference: BatchRef, units: u64, to: ReturnTo) -> Result<(), Rejection> {
        let batch = self.batch_mut(&reference);
        let expired = batch.expired;
        if to != ReturnTo::Scrap {
            let Ok(quantity) = BatchQuantity::new(batch.quantity.units() + units) else {
                let most = BatchQuantity::MAX - batch.quantity.units();
                let subject = self.named_batch(&reference);
                return Err(Rejection::TooMany { subject, command: "add", asked: units, most });
            };
            batch.quantity = quantity;
        }
        match to {
            ReturnTo::Quarantine => batch.quarantined += units,
            ReturnTo::Restock => self.out_of_stock_raised &= expired,
            ReturnTo::Scrap => {}
        }
        self.change_line(key, |line| {
            assert!(line.take_back(&reference, units), "no more comes back than has left");
        });
        let (line, qty) = (key.clone(), Quantity::part(units));
        self.raise(Event::Returned { line, qty, reference, to });
        Ok(())
    }

    /// A line in words.
    pub(super) fn named_line(&self, key: &LineKey) -> String {
        format!("the line of order {} for {}", key.order_id, self.sku)
    }

    /// Units of a line that may go elsewhere: they are not being picked, nor do they have to stay with others that are.
    pub(super) fn loose_places_of(&self, key: &LineKey) -> Vec<(BatchRef, u64, u64)> {
        let line = self.known_line(key);
        let together = !line.terms.split.is_allowed() && line.locked() > 0;
        if together { Vec::new() } else { self.unlocked_places_of(key) }
    }

    /// Units of a line that are not being picked.
    pub(super) fn unlocked_places_of(&self, key: &LineKey) -> Vec<(BatchRef, u64, u64)> {
        let unlocked = self.known_line(key).placements().filter(|(_, part)| !part.locked);
        unlocked.map(|(at, part)| (at.clone(), part.accepted, part.qty.units())).collect()
    }
}
