//! What is asked of the service, as JSON: the same for a request and for a message.
//!
//! A request names what it is about in its path, a message in fields beside the others; what else is said is a body in both. A function of this module
//! makes a command of the two, and names every fault.

pub(crate) mod batches;
pub(crate) mod fields;
pub(crate) mod floor;
pub(crate) mod orders;
pub(crate) mod products;
pub(crate) mod schemas;

use allocation_domain::Command;
use serde::Deserialize;
use utoipa::ToSchema;

use self::fields::{Faults, Invalid, Names, Unknown};

/// The most lines one order request may name.
pub(crate) const MAX_LINES: usize = 1_000;

/// Makes a command of what is asked about and of what is said.
pub(crate) type Read<B> = fn(&mut Faults, &Names, B) -> Option<Command>;

/// The body of what says it all by its names.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Nothing {
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// The command, or everything that is wrong.
pub(crate) fn command<B>(read: Read<B>, about: &Names, body: B) -> Result<Command, Invalid> {
    let mut faults = Faults::default();
    let command = read(&mut faults, about, body);
    faults.or(command)
}
