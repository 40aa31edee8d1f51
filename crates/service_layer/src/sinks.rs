//! Sinks that are new: where in the log they begin.

use crate::ports::database::StoreResult;
use crate::ports::event_log::EventLog;

/// Where a sink begins that is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begin {
    /// With the first event that is kept.
    #[default]
    WithFirst,
    /// With what comes next.
    WithNext,
}

impl Begin {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::WithFirst, Self::WithNext];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::WithFirst => "beginning",
            Self::WithNext => "now",
        }
    }

    /// The position after which that is.
    pub async fn position(self, log: &dyn EventLog) -> StoreResult<u64> {
        match self {
            Self::WithFirst => Ok(log.read(0, 1).await?.kept_after),
            Self::WithNext => log.last_position().await,
        }
    }
}

/// Makes sinks known that are new. From then on, what they have not seen stays in the log.
pub async fn introduce(log: &dyn EventLog, sinks: impl IntoIterator<Item = (&'static str, Begin)>) -> StoreResult<()> {
    for (name, from) in sinks {
        let position = from.position(log).await?;
        if log.introduce(name, position).await? {
            tracing::info!(sink = name, after = position, "a new sink begins");
        }
    }
    Ok(())
}
