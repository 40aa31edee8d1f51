//! The outside world behind the ports.
//!
//! **What it is.** Two stores ([`sqlite`], [`postgres`]), brokers ([`redis`], [`nats`], [`rabbitmq`]), mail ([`smtp`]), webhooks ([`webhook`]), the keys of an issuer of tokens ([`oidc`]), a collector of traces ([`otlp`]), and the system's clock and dice
//! ([`system`]): each implements traits of `allocation_service_layer::ports`, and nothing else.
//!
//! **What it may know.** The domain, the ports, and the one outside thing that each module is about. Not the entrypoints.
//!
//! **How to add…**
//! - *a store*: a module with its migrations beside the others, implementing `Database`, `Reader`, `EventLog`, `DeadLetters` and the other ports of a store; then a line in
//!   `tests/` for each contract suite of `allocation_testing::contracts`.
//! - *a migration*: a file in `migrations/` and its line in the store's `MIGRATIONS`, which says which programs it goes on serving (`docs/adr/0025-a-schema-serves-more-than-one-release.md`).
//! - *a broker*: one file that implements `EventPublisher`.

mod api_key_row;
mod migrations;
pub mod nats;
pub mod oidc;
pub mod otlp;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
mod rows;
pub mod smtp;
pub mod sqlite;
pub mod system;
pub mod tls;
pub mod webhook;
mod webhook_row;

/// How many rows a store forgets in one transaction, so that nobody waits for long and no memory is taken up.
const FORGOTTEN_AT_ONCE: u32 = 5_000;
