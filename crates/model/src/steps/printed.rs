//! How a step is printed: as one line.

use std::fmt;

use allocation_domain::commands::{Adjustment, LineOf, Precondition, ReturnItem, ShipItem};
use allocation_domain::{Command, Level, Location, LowStock, Quantity, Settings, Split, Terms};
use time::Date;

use super::{START, Step};

struct Day(Date);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "day {}", (self.0 - START.date()).whole_days())
    }
}

struct Due(Option<Date>);

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("on hand"),
            Some(eta) => Day(eta).fmt(f),
        }
    }
}

/// Until when a batch is of use.
struct Until(Option<Date>);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("of use for ever"),
            Some(last) => write!(f, "of use until {}", Day(last)),
        }
    }
}

struct Asked<'a>(&'a Terms);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split {
            Split::Never => f.write_str(" whole")?,
            Split::Parts(Quantity::ONE) => {}
            Split::Parts(least) => write!(f, " in parts of {least}")?,
            Split::OverLocations(Quantity::ONE) => f.write_str(" over locations")?,
            Split::OverLocations(least) => write!(f, " over locations in parts of {least}")?,
        }
        if let Some(locations) = &self.0.locations {
            let names: Vec<&str> = locations.iter().map(Location::as_str).collect();
            write!(f, " at {}", names.join(" or "))?;
        }
        if self.0.priority != 0 {
            write!(f, " priority {}", self.0.priority)?;
        }
        if let Some(by) = self.0.by {
            write!(f, " by {}", Day(by))?;
        }
        if let Some(not_before) = self.0.not_before {
            write!(f, " not before {}", Day(not_before))?;
        }
        if let Some(min_days) = self.0.min_days {
            write!(f, " of use for {min_days} days")?;
        }
        Ok(())
    }
}

/// How a product is to behave.
struct Behaviour<'a>(&'a Settings);

impl fmt::Display for Behaviour<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { queue_cap, auto_improve, strategy, min_days, requires_expiry, overdue_days, levels } = self.0;
        let cap = queue_cap.map_or_else(|| "no".to_owned(), |cap| cap.to_string());
        write!(f, "{cap} cap, {}", if *auto_improve { "auto_improve" } else { "no auto_improve" })?;
        strategy.map_or(Ok(()), |strategy| write!(f, ", {strategy:?}"))?;
        if *min_days > 0 {
            write!(f, ", of use for {min_days} days")?;
        }
        if *requires_expiry {
            f.write_str(", requires expiry")?;
        }
        if let Some(days) = overdue_days {
            write!(f, ", given up {days} days after it is due")?;
        }
        for (location, Level { safety_stock, low_stock }) in levels {
            write!(f, ", keep {safety_stock} at {location}")?;
            if let Some(LowStock { threshold, restocked }) = low_stock {
                write!(f, " (low at {threshold}, enough at {restocked})")?;
            }
        }
        Ok(())
    }
}

struct Of(Option<Quantity>);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("all"),
            Some(qty) => qty.fmt(f),
        }
    }
}

struct Named<'a>(&'a LineOf);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.0.sku, self.0.line)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(time) => write!(f, "wait {time}"),
            Self::Do(command) => print(command, f),
        }
    }
}

fn print(command: &Command, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match command {
        Command::SetProduct(c) => write!(f, "set {}: {}", c.sku, Behaviour(&c.settings)),
        Command::CreateBatch(c) => {
            write!(f, "create {} {} at {}: {} units, {}", c.sku, c.reference, c.location, c.qty, Due(c.eta))?;
            if c.expires_on.is_none() { Ok(()) } else { write!(f, ", {}", Until(c.expires_on)) }
        }
        Command::DeclareBatch(c) => {
            write!(f, "declare {} {}", c.sku, c.reference)?;
            c.location.as_ref().map_or(Ok(()), |location| write!(f, " at {location}"))?;
            write!(f, ": {} units", c.qty)?;
            if let Some(eta) = c.eta {
                write!(f, ", {}", Due(eta))?;
            }
            if let Some(expires_on) = c.expires_on {
                write!(f, ", {}", Until(expires_on))?;
            }
            if c.precondition == Precondition::None { Ok(()) } else { f.write_str(", if known") }
        }
        Command::ChangeBatchQuantity(c) => write!(f, "change {} {} to {} units", c.sku, c.reference, c.qty),
        Command::ChangeBatchEta(c) => write!(f, "move {} {} to {}", c.sku, c.reference, Due(c.eta)),
        Command::ReceiveBatch(c) => {
            write!(f, "receive {} {}: {} units, {:?} the rest", c.sku, c.reference, c.qty, c.rest)
        }
        Command::CancelBatch(c) => write!(f, "cancel {} {}", c.sku, c.reference),
        Command::AdjustBatch(c) => match c.adjustment {
            Adjustment::Damaged(qty) => write!(f, "adjust {} {}: {qty} damaged", c.sku, c.reference),
            Adjustment::Found(qty) => write!(f, "adjust {} {}: {qty} found", c.sku, c.reference),
            Adjustment::Recount(qty) => write!(f, "adjust {} {}: {qty} counted", c.sku, c.reference),
        },
        Command::QuarantineBatch(c) => write!(f, "quarantine {} {}: {}", c.sku, c.reference, Of(c.qty)),
        Command::ReleaseBatch(c) => write!(f, "release {} {}: {}", c.sku, c.reference, Of(c.qty)),
        Command::Transfer(c) => {
            let (sku, from, due) = (&c.sku, &c.from, Day(c.eta));
            write!(f, "transfer {sku} {from}: {} units to {} as {}, {due}", c.qty, c.to, c.reference)
        }
        Command::Allocate(c) => {
            write!(f, "allocate {}:", c.order_id())?;
            for line in c.lines() {
                write!(f, " [{} {} #{}{}]", line.qty, line.sku, line.key.line, Asked(&line.terms))?;
            }
            write!(f, " {:?}", c.when_short)?;
            c.hold.map_or(Ok(()), |hold| write!(f, ", hold for {}", hold.from(START) - START))
        }
        Command::ConfirmHold(c) => write!(f, "confirm {}", c.order_id),
        Command::ExtendHold(c) => write!(f, "extend {} for {}", c.order_id, c.hold.from(START) - START),
        Command::ChangeLine(c) => {
            write!(f, "change {} {} #{}:", c.line.order_id, c.sku, c.line.line)?;
            if let Some(qty) = c.change.qty {
                write!(f, " {qty} units")?;
            }
            if let Some(priority) = c.change.priority {
                write!(f, " priority {priority}")?;
            }
            if let Some(by) = c.change.by {
                match by {
                    None => f.write_str(" by any day")?,
                    Some(by) => write!(f, " by {}", Day(by))?,
                }
            }
            write!(f, " {:?}", c.change.when_short)
        }
        Command::Deallocate(c) => {
            write!(f, "cancel {}", c.order_id)?;
            c.sku.as_ref().map_or(Ok(()), |sku| write!(f, " {sku}"))?;
            c.line.as_ref().map_or(Ok(()), |line| write!(f, " #{line}"))
        }
        Command::Pick(c) => {
            write!(f, "pick {}", c.order_id)?;
            c.lines.iter().try_for_each(|of| write!(f, " [{}]", Named(of)))
        }
        Command::Unpick(c) => {
            write!(f, "unpick {}", c.order_id)?;
            c.lines.iter().try_for_each(|of| write!(f, " [{}]", Named(of)))
        }
        Command::Ship(c) => {
            write!(f, "ship {}", c.order_id)?;
            for ShipItem { of, qty, from } in &c.items {
                write!(f, " [{} of {}", Of(*qty), Named(of))?;
                from.as_ref().map_or(Ok(()), |from| write!(f, " from {from}"))?;
                f.write_str("]")?;
            }
            Ok(())
        }
        Command::Return(c) => {
            write!(f, "return {}", c.order_id)?;
            for ReturnItem { of, qty, to, into } in &c.items {
                write!(f, " [{qty} of {}: {to:?}", Named(of))?;
                into.as_ref().map_or(Ok(()), |into| write!(f, " into {into}"))?;
                f.write_str("]")?;
            }
            Ok(())
        }
        Command::Improve(c) => write!(f, "improve {}", c.sku),
        Command::ApplyDue(c) => write!(f, "apply what is due of {}", c.sku),
        Command::RepairBooks(c) => write!(f, "repair the books of {}", c.sku),
    }
}
