//! Products kept between units of work: nobody can tell that they were, but by the time it saves.

use allocation_domain::commands::WhenShort;
use allocation_domain::{Command, HoldSeconds, Rejection, Split, Terms};
use allocation_service_layer::MessageBus;
use allocation_service_layer::handlers::{Reply, Verdict};
use allocation_service_layer::ports::clock::Clock as _;
use allocation_service_layer::ports::database::{KeyOf, RequestKey};

use super::{Fixture, Store};
use crate::shorthand::{ask_on, change_quantity, create_batch, day, message, qty};

async fn one<S: Store>(bus: &MessageBus<S>, command: Command) -> Verdict {
    bus.handle(message(command)).await.expect("the store works")
}

/// Asks for units that may come from both batches.
fn ask(order_id: &str, when_short: WhenShort, units: u64) -> Command {
    let terms = Terms { split: Split::Parts(qty(1)), ..Terms::default() };
    ask_on(order_id, when_short, &terms, &[("TABLE", units)])
}

fn allocate(order_id: &str, units: u64) -> Command {
    ask(order_id, WhenShort::Reject, units)
}

fn hold(order_id: &str, seconds: u64, units: u64) -> Command {
    let Command::Allocate(mut order) = allocate(order_id, units) else { unreachable!() };
    order.hold = Some(HoldSeconds::new(seconds).expect("a good time"));
    Command::Allocate(order)
}

fn is_new(verdict: &Verdict) -> bool {
    let Ok(Reply::Order(reply)) = verdict else { panic!("{verdict:?}") };
    reply.created
}

/// A bus that remembers a product with so many units in each of two batches, and has nothing to do with `fixture.bus()`.
async fn that_knows<S: Store>(fixture: &Fixture<S>, units: u64) -> MessageBus<S> {
    let bus = fixture.bus();
    let (here, there) = (create_batch("b", "TABLE", units, None), create_batch("c", "TABLE", units, Some(day(2))));
    for batch in [here, there] {
        one(&bus, batch).await.expect("a batch");
    }
    bus
}

/// How many units of work loaded nothing.
fn from_memory<S: Store>(bus: &MessageBus<S>) -> u64 {
    bus.metrics().from_memory.get()
}

/// Until batches are used up, and the last units are split over two.
pub async fn orders_for_known_products_load_nothing_and_are_promised_as_ever<S: Store>(fixture: Fixture<S>) {
    let bus = that_knows(&fixture, 5).await;
    for n in 0..3 {
        assert!(is_new(&one(&bus, allocate(&format!("o{n}"), 3)).await));
    }
    assert_eq!(from_memory(&bus), 3);
    fixture.assert_balanced().await;
    // One unit is left; what waits is queued without loading it too.
    one(&bus, ask("o3", WhenShort::Backorder, 4)).await.expect("a place in the queue");
    assert_eq!(from_memory(&bus), 4);
    let product = fixture.product("TABLE").await;
    assert_eq!((product.available(), product.backordered()), (0, 3));
    fixture.assert_balanced().await;
}

/// The version is checked at the write.
pub async fn what_another_copy_has_changed_is_noticed<S: Store>(fixture: Fixture<S>) {
    let bus = that_knows(&fixture, 5).await;
    one(&fixture.bus(), allocate("elsewhere", 4)).await.expect("a promise");
    assert!(is_new(&one(&bus, allocate("o1", 6)).await));
    assert_eq!(from_memory(&bus), 0);
    fixture.assert_balanced().await;
    assert_eq!(fixture.product("TABLE").await.batches().iter().map(|batch| batch.allocated).sum::<u64>(), 10);
}

/// A refusal leaves nothing behind that could be checked at the write.
pub async fn nobody_is_refused_for_what_was_so_before<S: Store>(fixture: Fixture<S>) {
    let bus = that_knows(&fixture, 5).await;
    one(&fixture.bus(), change_quantity("b", "TABLE", 50)).await.expect("a larger batch");
    assert!(is_new(&one(&bus, allocate("o1", 40)).await));
    let refused = one(&bus, allocate("o2", 40)).await;
    assert!(matches!(refused, Err(Rejection::Short(_))), "{refused:?}");
    fixture.assert_balanced().await;
}

/// Its line is not among what is kept.
pub async fn an_order_that_is_known_is_answered_as_it_is_for_known_products_too<S: Store>(fixture: Fixture<S>) {
    let bus = that_knows(&fixture, 5).await;
    let order = |units| allocate("o1", units);
    assert!(is_new(&one(&bus, order(2)).await));
    assert!(!is_new(&one(&bus, order(2)).await));
    let other = one(&bus, order(3)).await;
    assert!(matches!(other, Err(Rejection::LineConflict(_))), "{other:?}");
    let mut together = bus.handle_batch(&[allocate("o2", 1), order(2)].map(message)).await;
    let again = together.pop().expect("a verdict").expect("the store works");
    let new = together.pop().expect("a verdict").expect("the store works");
    assert!(is_new(&new) && !is_new(&again));
    // Not even when nothing is left for it.
    one(&bus, allocate("o3", 7)).await.expect("all that is left");
    assert!(!is_new(&one(&bus, order(2)).await));
    fixture.assert_balanced().await;
}

/// The name under which it came is not among what is kept either.
pub async fn a_message_about_a_known_product_acts_once<S: Store>(fixture: Fixture<S>) {
    let bus = that_knows(&fixture, 5).await;
    let named = |order: &str| {
        let key = RequestKey { key: "source\n1".into(), of: KeyOf::Message, content: [1; 32] };
        message(allocate(order, 2)).with_key(key)
    };
    for _ in 0..2 {
        bus.handle(named("o1")).await.expect("the store works").expect("a promise");
    }
    // Another order under the same name was never asked for.
    bus.handle(named("o2")).await.expect("the store works").expect("as it is");
    assert_eq!(fixture.product("TABLE").await.available(), 3);
    // And is remembered from then on.
    let hour = std::time::Duration::from_hours(1);
    let forgotten = async || fixture.store.forget_keys(KeyOf::Message, hour).await.expect("the store works");
    assert_eq!(forgotten().await, 0);
    fixture.clock.advance(2 * hour);
    assert_eq!(forgotten().await, 1);
    fixture.assert_balanced().await;
}

/// What is due of a known product has to be loaded.
pub async fn a_hold_on_a_known_product_ends_at_its_second<S: Store>(fixture: Fixture<S>) {
    let bus = that_knows(&fixture, 5).await;
    one(&bus, hold("o1", 60, 10)).await.expect("a hold");
    fixture.clock.advance(std::time::Duration::from_secs(59));
    let refused = one(&bus, allocate("o2", 1)).await;
    assert!(matches!(refused, Err(Rejection::Short(_))), "{refused:?}");
    fixture.clock.advance(std::time::Duration::from_secs(1));
    assert!(is_new(&one(&bus, allocate("o2", 10)).await));
    fixture.assert_balanced().await;
}

/// Our own watch tells the time only for a while, and days by the store's clock.
pub async fn a_known_product_has_the_time_of_the_store<S: Store>(fixture: Fixture<S>) {
    let bus = that_knows(&fixture, 5).await;
    for (n, seconds) in [1, 9, 11, 3 * 86_400].into_iter().enumerate() {
        fixture.clock.advance(std::time::Duration::from_secs(seconds));
        one(&bus, allocate(&format!("o{n}"), 1)).await.expect("a promise");
        assert_eq!(fixture.product("TABLE").await.changed_at(), fixture.clock.now());
    }
    assert_eq!(from_memory(&bus), 2);
    fixture.assert_balanced().await;
}
