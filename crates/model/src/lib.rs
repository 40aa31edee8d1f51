//! A reference model of the rules of stock and promises: small, slow, and written apart from the domain, so that tests can compare
//! the two step by step.
//!
//! **What it is.** A [`Model`] holds every unit of every line that ever was, each in one place, and does the obvious thing: it counts
//! units to know what is free, tries every set of batches to find the best, and looks at everybody who waits after every command. It
//! knows many products and orders over many of them. [`steps`] gives random histories to try it with.
//!
//! **What it may know.** Of the domain only what callers say: commands, and the ids, quantities and terms in them. None of its logic,
//! none of its state, none of its events; an error in the one must not be an error in the other. No I/O. `told.rs` alone reads what the
//! domain came to, to put it into the model's words for comparing.
//!
//! **What it leaves open.** Sequence numbers: seniority is a count of acceptances, and a declaration's precondition that names
//! revisions is taken as "the batch is known". When the rules name no order, it is this: parts of one line that were accepted together
//! are looked at by reference; of two lines of one request the first is senior. An order's lines and a command's items are looked at one
//! after the other, and the first that can't be done says why.
//!
//! **How to add…**
//! - *a command*: an arm of [`Model::apply`], and of `named` beside it, which says what products it is about.
//! - *a rule*: a method of `Stock`, in the words of the rule; numbers are those of `docs/rules.md`.
//! - *a kind of step*: a strategy in [`steps`]; when it needs others before it to have an effect, one that makes all of them.

mod choosing;
mod model;
mod shelves;
pub mod steps;
mod stock;
mod told;
pub mod worlds;

pub use model::{Model, Outcome, Refused};
pub use steps::Step;
pub use stock::{BatchView, LineView, ProductView, Told};
