//! A keeper that does for products what the service layer does, in memory, and a bench with the words that tests use.

mod bench;
mod keeper;

pub(crate) use bench::{Ask, Bench, ask, at, batch_ref, day, key, qty, stock, units};
pub(crate) use keeper::{Done, Keeper};
