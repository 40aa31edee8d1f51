//! What was done to worlds, in figures.

use std::collections::BTreeMap;
use std::fmt;

/// What was done to a world, or to several.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How often something was killed, by where the program was or what server it was.
    kills: BTreeMap<&'static str, usize>,
    /// Commands over HTTP, and as messages.
    pub(crate) by_http: usize,
    pub(crate) by_message: usize,
    /// Of these, commands that were sent twice on purpose.
    pub(crate) twice_by_http: usize,
    pub(crate) twice_by_message: usize,
    /// Requests that were sent again because there was no answer.
    pub(crate) unanswered: usize,
    /// Messages that were given to the broker, those that it did not take for sure included, and those that the program was given.
    pub(crate) sent: usize,
    pub(crate) delivered: usize,
    /// Messages that could not be used.
    pub(crate) unusable: usize,
    /// Events that a durable consumer of a broker had, how many of them again, and those that a webhook had.
    pub(crate) heard: usize,
    pub(crate) heard_again: usize,
    pub(crate) hooked: usize,
    /// Mails that were sent, and how many of them again.
    pub(crate) mails: usize,
    pub(crate) mails_again: usize,
}

impl Tally {
    /// One was killed there, or of this kind.
    pub(crate) fn kill(&mut self, what: &'static str) {
        *self.kills.entry(what).or_default() += 1;
    }

    /// How often.
    pub(crate) fn killed_at(&self, what: &str) -> usize {
        self.kills.get(what).copied().unwrap_or_default()
    }

    /// How often altogether.
    pub(crate) fn kills(&self) -> usize {
        self.kills.values().sum()
    }

    /// Commands, each counted once.
    pub(crate) fn commands(&self) -> usize {
        self.by_http + self.by_message
    }

    /// Commands that were sent twice.
    pub(crate) fn twice(&self) -> usize {
        self.twice_by_http + self.twice_by_message
    }

    /// Messages that a broker delivered again since they had not been acknowledged.
    pub(crate) fn redelivered(&self) -> usize {
        self.delivered.saturating_sub(self.sent)
    }

    /// Both together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for (what, times) in other.kills {
            *self.kills.entry(what).or_default() += times;
        }
        Self {
            kills: self.kills,
            by_http: self.by_http + other.by_http,
            by_message: self.by_message + other.by_message,
            twice_by_http: self.twice_by_http + other.twice_by_http,
            twice_by_message: self.twice_by_message + other.twice_by_message,
            unanswered: self.unanswered + other.unanswered,
            sent: self.sent + other.sent,
            delivered: self.delivered + other.delivered,
            unusable: self.unusable + other.unusable,
            heard: self.heard + other.heard,
            heard_again: self.heard_again + other.heard_again,
            hooked: self.hooked + other.hooked,
            mails: self.mails + other.mails,
            mails_again: self.mails_again + other.mails_again,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "killed at, or what                times")?;
        for (what, times) in &self.kills {
            writeln!(f, "  {what:30} {times:>7}")?;
        }
        for (what, count) in [
            ("commands", self.commands()),
            ("  by HTTP", self.by_http),
            ("  as messages", self.by_message),
            ("sent twice", self.twice()),
            ("requests without an answer", self.unanswered),
            ("messages delivered again", self.redelivered()),
            ("messages that were no use", self.unusable),
            ("events heard by consumers", self.heard),
            ("  of these again", self.heard_again),
            ("events sent to webhooks", self.hooked),
            ("mails", self.mails),
            ("  of these again", self.mails_again),
        ] {
            writeln!(f, "{what:32} {count:>7}")?;
        }
        write!(f, "every command acted once; no consumer missed an event; the books balance")
    }
}
