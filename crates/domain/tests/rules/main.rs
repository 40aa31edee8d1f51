//! The rules of stock and promises, on products in memory: each as a sentence, and all of them against the reference model.

mod allocate;
mod batches;
mod changes;
mod common;
mod floor;
mod holds;
mod locations;
mod properties;
mod queue;
mod states;
