//! Everything that reads bytes from outside, as targets of a fuzzer.
//!
//! **What it is.** Each [`Target`] is given any bytes at all, and must neither panic nor say what is not so. The tests of this crate read with each what is in
//! `corpus/<target>/`, and thousands of things like it; `make fuzz` has a fuzzer look for more, led by what the code does with it. What was found is kept
//! in the same folder under a name that begins with `found-`, so that no test forgets it.
//!
//! **What it may know.** Everything but the adapters and the program; it is only used by tests.
//!
//! **How to add…** *a target*: a function, its line in [`TARGETS`], and a folder with something that it can read.

mod credential;
mod message;
mod request;
mod texts;

use tokio::runtime::{Builder, Runtime};

/// Something that reads bytes from outside.
pub struct Target {
    /// Its name, which its folder has too.
    pub name: &'static str,
    /// Reads. It panics if something is wrong with the reader.
    pub read: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request", read: request::read },
    Target { name: "message", read: message::read },
    Target { name: "quantity_message", read: message::read_quantity },
    Target { name: "credential", read: credential::read },
    Target { name: "token_keys", read: credential::read_keys },
    Target { name: "batches_file", read: texts::read_batches_file },
    Target { name: "orders_file", read: texts::read_orders_file },
    Target { name: "event", read: texts::read_event },
    Target { name: "checkpoint", read: texts::read_checkpoint },
    Target { name: "levels", read: texts::read_levels },
    Target { name: "date", read: texts::read_date },
    Target { name: "webhook_secret", read: texts::read_webhook_secret },
];

/// Runs what a target does. Nobody waits for a clock: when there is nothing else to do, it is later.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}
