//! The contract suite on both stores, their schemas, and what only one of them can show.

mod pooled;
mod postgres;
mod sqlite;
mod year;
