//! What the service does, in terms of ports.
//!
//! **What it is.** Commands come in as [`Message`]s; the [`message_bus`] gives each to its handler in [`handlers`], inside a
//! [`unit_of_work`] that makes one atomic change; the events raised there are handled in the same unit of work until none is left, and
//! stored with the change. [`group_commit`] puts many commands into one unit of work; that is where the speed comes from.
//! [`relay`] carries stored events to the outside, after the commit; the [`feed`] has them for readers, and [`webhooks`] sends them; the [`sweeper`] does what is due of products nobody asks for. [`views`] answers questions and changes nothing;
//! [`access`] says who may ask;
//! [`archive`] takes old events out of the log and leaves a [`checkpoint`];
//! [`movements`] tells a product's history, unit by unit; [`usual`] is what holds for every product unless it says otherwise; [`failpoints`] are the
//! steps at which a test has the process die.
//!
//! **What it may know.** The domain, and the [`ports`] that it defines itself. Not SQL, HTTP or any broker: those are adapters and
//! entrypoints, one layer out.
//!
//! **How to add…**
//! - *a handler*: a function in [`handlers`] and its arm in [`message_bus`]'s `match`, which does not compile without one; what it needs to
//!   have loaded is said in [`unit_of_work::Wanted::of`].
//! - *a store*: implement [`ports::database`], [`ports::reader`], [`ports::event_log`], [`ports::archive::Archive`], [`ports::webhooks::Webhooks`] and [`ports::api_keys::ApiKeys`], then run the contract suite on it.
//! - *a broker*: implement [`ports::event_publisher::EventPublisher`] and hand it to the relay as a sink.
//! - *an event on the wire*: its JSON in [`wire`].

pub mod access;
pub mod archive;
pub mod census;
pub mod checkpoint;
pub mod failpoints;
pub mod feed;
pub mod group_commit;
pub mod handlers;
mod kept;
pub mod message_bus;
pub mod metrics;
pub mod movements;
pub mod ports;
pub mod relay;
pub mod sinks;
pub mod strand;
pub mod sweeper;
pub mod unit_of_work;
pub mod usual;
pub mod verify;
pub mod views;
pub mod webhooks;
pub mod wire;

pub use message_bus::{Message, MessageBus};
pub use usual::{TimeZones, Usual};
