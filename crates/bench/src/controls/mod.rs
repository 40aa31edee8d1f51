//! What the subjects are compared to.

pub(crate) mod bare;
pub(crate) mod pgbench;
pub(crate) mod web_stack;
