//! Where the outside world comes in: the web API, the event consumer, and files.
//!
//! **What it is.** Each entrypoint parses what it is given into a command of the domain, hands it to the bus (the
//! [`Commands`](allocation_service_layer::group_commit::Commands) port), and puts the verdict into the words of its medium. Whatever
//! passed an entrypoint is valid: everything further in trusts its types.
//!
//! **What it may know.** The domain and the service layer. Not the adapters: it never learns which store or broker is behind the ports.
//!
//! **How to add…**
//! - *a route*: a handler with its `#[utoipa::path]` in a module of [`web`], registered in that module's `routes()` with the scope it needs. The OpenAPI document comes from
//!   the same lines; `make openapi` rewrites `docs/openapi.json`.
//! - *a message from outside*: a form in [`consumer`] that turns its body into a command.
//! - *a file*: a [`files::Kind`] and how its rows become commands.
//! - *a broker to consume from*: a file beside `consumer/redis_streams.rs`.

mod asked;
pub mod asyncapi;
pub mod consumer;
pub mod files;
pub mod web;

use std::sync::Arc;

/// The trace that a caller is in: `00-<32 hex>-<16 hex>-<2 hex>`.
fn traceparent(text: &str) -> Option<Arc<str>> {
    let lengths = text.split('-').map(str::len);
    let hex = text.bytes().all(|byte| byte == b'-' || matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hex && lengths.eq([2, 32, 16, 2])).then(|| text.into())
}
