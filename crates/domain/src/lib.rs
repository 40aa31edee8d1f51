//! The rules of stock and promises, and nothing else.
//!
//! **What it is.** The model that a warehouse clerk would recognise: a [`Product`] is everything we know of one SKU's
//! stock, made of [`Batch`]es; an [`OrderLine`] asks for units of it; the product promises them from a batch, keeps the
//! promise when supply changes, and says what happened as [`Event`]s. A [`Command`] is a job somebody wants done.
//!
//! What is decided how is numbered in `docs/rules.md`; "rule 10" anywhere in the code is the tenth of these.
//!
//! **What it may know.** Nothing outside itself: no I/O, no async, no serialisation, no clock. Two libraries are allowed, one for
//! civil dates and one that writes `Error` implementations.
//!
//! **How it is used.** A command is first *planned* on every product it names (`&self`, pure) and only then *applied*,
//! so that a refused command leaves every aggregate as it was. Each change raises an event, and only a change does: whoever
//! stores a product learns from its events which batches and lines to write, and [`ledger`] gets the same books by
//! folding them.
//!
//! **How to add…**
//! - *a strategy*: see [`strategies`]; `placing.rs` finds what serves a line by its day, and the strategy orders that.
//! - *a state, or what is allowed in it*: the tables in [`states`].
//! - *a command*: a variant in [`commands`], a method on [`Product`] that raises its events, then a handler one layer up
//!   (the compiler names the places).
//! - *an event*: a variant in [`events`], its step in [`ledger`], and its JSON one layer up.

mod batch;
mod calendar;
pub mod commands;
pub mod error;
pub mod events;
mod ids;
pub mod ledger;
mod order_line;
mod placing;
pub mod product;
mod reserve;
pub mod states;
pub mod strategies;

pub use batch::{Batch, BatchState, Eta, arrival};
pub use calendar::Calendar;
pub use commands::Command;
pub use error::{Conflict, InvalidKey, InvalidQuantity, Rejection, Shortage};
pub use events::{AdjustmentKind, DeallocationReason, Event};
pub use ids::{BatchQuantity, BatchRef, HoldSeconds, LineId, Location, OrderId, Quantity, Reason, Sku};
pub use order_line::{
    AcceptedLine, InvalidLocations, LineKey, LineState, Locations, OrderLine, Part, PartKey, Promise, Seniority,
    Shipped, Split, Terms,
};
pub use product::{Level, LowStock, Product, Settings};
pub use strategies::Strategy;
