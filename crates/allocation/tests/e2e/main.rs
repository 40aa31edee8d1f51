//! The whole way: the program as a process, real stores, a real Redis, and HTTP.

mod api;
mod commands;
mod contention;
mod crash;
mod errors;
mod events;
mod import;
mod support;
