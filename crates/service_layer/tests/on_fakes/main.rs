//! What the service does, on fakes and with clocks that are set: without any store, broker or web.

mod access;
mod archive;
mod fake_store;
mod feed;
mod relay;
mod services;
mod sweeper;
mod tokens;
mod webhooks;
