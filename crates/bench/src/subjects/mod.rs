//! The program, measured: one file for each question.

pub(crate) mod before;
pub(crate) mod brokers;
pub(crate) mod cancelled;
pub(crate) mod copies;
pub(crate) mod cost;
pub(crate) mod cut;
pub(crate) mod growth;
pub(crate) mod import;
pub(crate) mod latency;
pub(crate) mod lone;
pub(crate) mod overload;
pub(crate) mod reads;
pub(crate) mod sold_out;
pub(crate) mod start;
pub(crate) mod syncs;
pub(crate) mod throughput;
