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
    /// Change quantity, priority or `by`.
    Change,
    /// No longer wanted.
    Cancel,
}

impl LineCommand {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::AskAgain, Self::Confirm, Self::Extend, Self::Change, Self::Cancel];

    /// The command's name in a refusal.
    pub fn name(self) -> &'static str {
        match self {
            Self::AskAgain => "ask for",
            Self::Confirm => "confirm",
            Self::Extend => "extend",
            Self::Change => "change",
            Self::Cancel => "cancel",
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
    /// It has come and was counted.
    Receive,
    /// It will never come.
    Cancel,
}

impl BatchCommand {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ChangeQuantity, Self::ChangeEta, Self::Receive, Self::Cancel];

    /// The command's name in a refusal.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChangeQuantity => "change the quantity of",
            Self::ChangeEta => "give an ETA to",
            Self::Receive => "receive",
            Self::Cancel => "cancel",
        }
    }
}

/// The table of a line.
#[rustfmt::skip]
#[expect(clippy::match_same_arms, reason = "a table")]
pub fn line(command: LineCommand, state: LineState) -> Answer {
    use Answer::{AsNew, No, Same, Yes};
    use LineCommand::{AskAgain, Cancel, Change, Confirm, Extend};
    use LineState::{Allocated, Backordered, Cancelled, Held, Lapsed};
    match (command, state) {
        //         held              allocated              backordered              lapsed               cancelled
        (AskAgain, Held) => Same, (AskAgain, Allocated | Backordered) => Same, (AskAgain, Lapsed) => AsNew, (AskAgain, Cancelled) => No,
        (Confirm,  Held) => Yes,  (Confirm,  Allocated | Backordered) => Same, (Confirm,  Lapsed) => No,    (Confirm,  Cancelled) => No,
        (Extend,   Held) => Yes,  (Extend,   Allocated | Backordered) => No,   (Extend,   Lapsed) => No,    (Extend,   Cancelled) => No,
        (Change,   Held) => Yes,  (Change,   Allocated | Backordered) => Yes,  (Change,   Lapsed) => No,    (Change,   Cancelled) => No,
        (Cancel,   Held) => Yes,  (Cancel,   Allocated | Backordered) => Yes,  (Cancel,   Lapsed) => Same,  (Cancel,   Cancelled) => Same,
    }
}

/// The table of a batch, for commands that would change something.
#[rustfmt::skip]
#[expect(clippy::match_same_arms, reason = "a table")]
pub fn batch(command: BatchCommand, state: BatchState) -> Answer {
    use Answer::{No, Same, Yes};
    use BatchCommand::{Cancel, ChangeEta, ChangeQuantity, Receive};
    use BatchState::{Cancelled, Expected, OnHand};
    match (command, state) {
        //               expected              on hand              cancelled
        (ChangeQuantity, Expected) => Yes, (ChangeQuantity, OnHand) => Yes, (ChangeQuantity, Cancelled) => No,
        (ChangeEta,      Expected) => Yes, (ChangeEta,      OnHand) => No,  (ChangeEta,      Cancelled) => No,
        (Receive,        Expected) => Yes, (Receive,        OnHand) => No,  (Receive,        Cancelled) => No,
        (Cancel,         Expected) => Yes, (Cancel,         OnHand) => No,  (Cancel,         Cancelled) => Same,
    }
}
