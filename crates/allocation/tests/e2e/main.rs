//! The whole way: the program as a process, real stores, a real Redis, and HTTP.

mod api;
mod books;
mod changes;
mod commands;
mod contention;
mod crash;
mod errors;
mod events;
mod expiry;
mod feed;
mod floor;
mod holds;
mod import;
mod keys;
mod levels;
mod locations;
mod movements;
mod promising;
mod queue;
mod real_orders;
mod shelves;
mod supply;
mod support;
mod transfers;
mod webhooks;
