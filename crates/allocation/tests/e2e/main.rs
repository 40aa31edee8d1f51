//! The whole way: the program as a process, real stores, a real Redis, and HTTP.

mod api;
mod books;
mod changes;
mod commands;
mod contention;
mod crash;
mod errors;
mod events;
mod holds;
mod import;
mod promising;
mod queue;
mod real_orders;
mod supply;
mod support;
