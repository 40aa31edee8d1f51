//! The state tables: what each command may do to a line and to a batch, and what is refused by name.

use crate::batch::BatchState;
use crate::order_line::LineState;

/// What a table says of a command in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has its effect.
    Yes,
    /// It was so already.
    Same,
    /// As if the line had never been.
    AsNew,
    /// Refused.
    No,
}

/// A command as far as a line is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineCommand {
    /// The same request again.
    AskAgain,
    /// Make the hold last.
    Confirm,
    /// Let the hold last longer.
    Extend,
    /// Release to picking, or take back from there.
    Pick,
    /// Units leave.
    Ship,
    /// Change quantity, priority or `by`.
    Change,
    /// No longer wanted.
    Cancel,
    /// Units that have left come back.
    Return,
}

impl LineCommand {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::AskAgain, Self::Confirm, Self::Extend, Self::Pick, Self::Ship, Self::Change, Self::Cancel, Self::Return];

    /// The command's name in a refusal.
    pub fn name(self) -> &'static str {
        match self {
            Self::AskAgain => "ask for",
            Self::Confirm => "confirm",
            Self::Extend => "extend",
            Self::Pick => "pick",
            Self::Ship => "ship",
            Self::Change => "change",
            Self::Cancel => "cancel",
            Self::Return => "return",
        }
    }
}

/// A command as far as a known batch is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchCommand {
    /// Another quantity.
    ChangeQuantity,
    /// Another date, or arrived.
    ChangeEta,
    /// Another last day of use.
    ChangeExpiry,
    /// It has come and was counted.
    Receive,
    /// It will never come.
    Cancel,
    /// Units are set aside, or given free again.
    Quarantine,
    /// What is in it is corrected.
    Adjust,
    /// Units come back into it.
    Return,
    /// Units leave.
    Ship,
    /// Units go to another location.
    Transfer,
}

impl BatchCommand {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ChangeQuantity,
        Self::ChangeEta,
        Self::ChangeExpiry,
        Self::Receive,
        Self::Cancel,
        Self::Quarantine,
        Self::Adjust,
        Self::Return,
        Self::Ship,
        Self::Transfer,
    ];

    /// The command's name in a refusal.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChangeQuantity => "change the quantity of",
            Self::ChangeEta => "give an ETA to",
            Self::ChangeExpiry => "change the expiry of",
            Self::Receive => "receive",
            Self::Cancel => "cancel",
            Self::Quarantine => "set units aside in",
            Self::Adjust => "adjust",
            Self::Return => "return units to",
            Self::Ship => "ship from",
            Self::Transfer => "transfer from",
        }
    }
}

/// The table of a line. What is backordered or allocated may have left in part: only then can units come back.
#[rustfmt::skip]
#[expect(clippy::match_same_arms, reason = "a table")]
pub fn line(command: LineCommand, state: LineState) -> Answer {
    use Answer::{AsNew, No, Same, Yes};
    use LineCommand::{AskAgain, Cancel, Change, Confirm, Extend, Pick, Return, Ship};
    use LineState::{Allocated, Backordered, Cancelled, Held, Lapsed, Shipped};
    match (command, state) {
        //         held              allocated              backordered              shipped               lapsed               cancelled
        (AskAgain, Held) => Same, (AskAgain, Allocated | Backordered) => Same, (AskAgain, Shipped) => Same, (AskAgain, Lapsed) => AsNew, (AskAgain, Cancelled) => No,
        (Confirm,  Held) => Yes,  (Confirm,  Allocated | Backordered) => Same, (Confirm,  Shipped) => Same, (Confirm,  Lapsed) => No,    (Confirm,  Cancelled) => No,
        (Extend,   Held) => Yes,  (Extend,   Allocated | Backordered) => No,   (Extend,   Shipped) => No,   (Extend,   Lapsed) => No,    (Extend,   Cancelled) => No,
        (Pick,     Held) => No,   (Pick,     Allocated | Backordered) => Yes,  (Pick,     Shipped) => No,   (Pick,     Lapsed) => No,    (Pick,     Cancelled) => No,
        (Ship,     Held) => No,   (Ship,     Allocated | Backordered) => Yes,  (Ship,     Shipped) => No,   (Ship,     Lapsed) => No,    (Ship,     Cancelled) => No,
        (Change,   Held) => Yes,  (Change,   Allocated | Backordered) => Yes,  (Change,   Shipped) => No,   (Change,   Lapsed) => No,    (Change,   Cancelled) => No,
        (Cancel,   Held) => Yes,  (Cancel,   Allocated | Backordered) => Yes,  (Cancel,   Shipped) => No,   (Cancel,   Lapsed) => Same,  (Cancel,   Cancelled) => Same,
        (Return,   Held) => No,   (Return,   Allocated | Backordered) => Yes,  (Return,   Shipped) => Yes,  (Return,   Lapsed) => No,    (Return,   Cancelled) => No,
    }
}

/// The table of a batch, for commands that would change something.
#[rustfmt::skip]
#[expect(clippy::match_same_arms, reason = "a table")]
pub fn batch(command: BatchCommand, state: BatchState) -> Answer {
    use Answer::{No, Same, Yes};
    use BatchCommand::{Adjust, Cancel, ChangeEta, ChangeExpiry, ChangeQuantity, Quarantine, Receive, Return, Ship, Transfer};
    use BatchState::{Cancelled, Expected, Expired, OnHand};
    match (command, state) {
        //               expected              on hand              expired               cancelled
        (ChangeQuantity, Expected) => Yes, (ChangeQuantity, OnHand) => Yes, (ChangeQuantity, Expired) => Yes, (ChangeQuantity, Cancelled) => No,
        (ChangeEta,      Expected) => Yes, (ChangeEta,      OnHand) => No,  (ChangeEta,      Expired) => No,  (ChangeEta,      Cancelled) => No,
        (ChangeExpiry,   Expected) => Yes, (ChangeExpiry,   OnHand) => Yes, (ChangeExpiry,   Expired) => Yes, (ChangeExpiry,   Cancelled) => No,
        (Receive,        Expected) => Yes, (Receive,        OnHand) => No,  (Receive,        Expired) => No,  (Receive,        Cancelled) => No,
        (Cancel,         Expected) => Yes, (Cancel,         OnHand) => No,  (Cancel,         Expired) => No,  (Cancel,         Cancelled) => Same,
        (Quarantine,     Expected) => No,  (Quarantine,     OnHand) => Yes, (Quarantine,     Expired) => No,  (Quarantine,     Cancelled) => No,
        (Adjust,         Expected) => No,  (Adjust,         OnHand) => Yes, (Adjust,         Expired) => Yes, (Adjust,         Cancelled) => No,
        (Return,         Expected) => No,  (Return,         OnHand) => Yes, (Return,         Expired) => Yes, (Return,         Cancelled) => No,
        (Ship,           Expected) => No,  (Ship,           OnHand) => Yes, (Ship,           Expired) => No,  (Ship,           Cancelled) => No,
        (Transfer,       Expected) => No,  (Transfer,       OnHand) => Yes, (Transfer,       Expired) => No,  (Transfer,       Cancelled) => No,
    }
}
