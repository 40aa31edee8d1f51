//! What the environment asks for.

use crate::Outcome;

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Everything, however long it takes.
    pub(crate) full: bool,
    /// How often each group is gone through.
    pub(crate) rounds: usize,
    /// How long one run takes.
    pub(crate) seconds: u64,
    /// An earlier state of the program to compare it with.
    pub(crate) before: Option<String>,
    only: Option<String>,
}

impl Options {
    pub(crate) fn from_environment() -> Outcome<Self> {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name, default| match text(name) {
            None => Ok(default),
            Some(value) => match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name} must be a whole number above 0")),
            },
        };
        let full = text("FULL").is_some_and(|value| value != "0");
        let seconds = number("SECONDS_EACH", if full { 8 } else { 2 })?;
        let rounds = usize::try_from(number("ROUNDS", 3)?)?;
        Ok(Self { full, rounds, seconds, before: text("BEFORE"), only: text("ONLY") })
    }

    /// How often what takes long is gone through.
    pub(crate) fn few_rounds(&self) -> usize {
        if self.full { self.rounds } else { self.rounds.min(2) }
    }

    /// Whether a group is to be run.
    pub(crate) fn wants(&self, group: &str) -> bool {
        self.only.as_ref().is_none_or(|only| group.contains(only.as_str()))
    }

    /// Whether some groups are left out.
    pub(crate) fn partial(&self) -> bool {
        self.only.is_some()
    }
}
