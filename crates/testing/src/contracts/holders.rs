//! Whose holds are whose: a key has no more in force than it may, however many ask with it, and wherever.

use std::time::Duration;

use allocation_domain::commands::{ExtendHold, WhenShort};
use allocation_domain::{Command, HoldSeconds, Rejection};
use allocation_service_layer::handlers::Verdict;
use allocation_service_layer::metrics::{Limit, LimitLabels};
use allocation_service_layer::ports::clock::Clock as _;
use allocation_service_layer::ports::database::{HeldFor, ProductRepository, Selection, Transaction};
use allocation_service_layer::{Message, MessageBus};
use futures_util::future::join_all;

use super::{Fixture, Store};
use crate::shorthand::{ask, cause, change_quantity, confirm, create_batch, deallocate, hold, key, order, sku};

/// In these tests, nobody may have more.
const MOST: u64 = 3;
const HOUR: u64 = 3_600;

fn by(actor: &str, command: Command) -> Message {
    let mut cause = cause();
    cause.actor = actor.into();
    Message::new(command, cause)
}

fn bus<S: Store>(fixture: &Fixture<S>) -> MessageBus<S> {
    fixture.bus().with_most_holds(Some(MOST))
}

/// Has a command of somebody's handled.
async fn one<S: Store>(fixture: &Fixture<S>, actor: &str, command: Command) -> Verdict {
    bus(fixture).handle(by(actor, command)).await.expect("the store works")
}

/// Has somebody ask for a unit to be held for an hour; gives how many they have in force if those are too many.
async fn hold_one<S: Store>(fixture: &Fixture<S>, actor: &str, order_id: &str) -> Result<(), u64> {
    match one(fixture, actor, hold(order_id, HOUR, &[("TABLE", 1)])).await {
        Ok(_) => Ok(()),
        Err(Rejection::TooManyHolds { in_force, asked: 1, most: MOST }) => Err(in_force),
        Err(other) => panic!("{other:?}"),
    }
}

/// A store with units of two products.
async fn begin<S: Store>(fixture: &Fixture<S>) {
    let batches = [("b", "TABLE"), ("b", "CHAIR"), ("c", "CHAIR")];
    fixture.handle(batches.map(|(name, of)| create_batch(name, of, 100, None))).await;
}

/// What is confirmed, cancelled or over is not held any more; who asks again has it already; and one's holds are not another's.
pub async fn a_key_has_so_many_holds_in_force<S: Store>(fixture: Fixture<S>) {
    begin(&fixture).await;
    for n in 0..MOST {
        assert_eq!(hold_one(&fixture, "key:a", &format!("a{n}")).await, Ok(()));
    }
    assert_eq!(hold_one(&fixture, "key:a", "more").await, Err(3));
    assert_eq!(hold_one(&fixture, "key:a", "a0").await, Ok(()), "it is held already");
    assert_eq!(hold_one(&fixture, "key:b", "b0").await, Ok(()));
    for n in 0..MOST {
        assert_eq!(hold_one(&fixture, "token:a", &format!("t{n}")).await, Ok(()), "whose key has that name is another");
    }
    assert_eq!(hold_one(&fixture, "token:a", "more").await, Err(3));
    for n in 0..2 * MOST {
        assert_eq!(hold_one(&fixture, "http", &format!("h{n}")).await, Ok(()), "nobody says who they are");
    }
    one(&fixture, "key:a", ask("promised", WhenShort::Reject, &[("TABLE", 1)])).await.expect("that is no hold");

    // What has ended makes room, whoever has ended it.
    one(&fixture, "key:b", confirm("a0")).await.expect("it is held");
    assert_eq!(hold_one(&fixture, "key:a", "a3").await, Ok(()));
    assert_eq!(hold_one(&fixture, "key:a", "more").await, Err(3));
    one(&fixture, "key:a", deallocate("a1", None)).await.expect("it is held");
    assert_eq!(hold_one(&fixture, "key:a", "a4").await, Ok(()));
    assert_eq!(hold_one(&fixture, "key:a", "more").await, Err(3));

    // Time ends them, unless they are to last longer.
    fixture.clock.advance(Duration::from_secs(HOUR - 1));
    let extension = ExtendHold { order_id: order("a4"), hold: HoldSeconds::new(HOUR).expect("a good time") };
    one(&fixture, "key:b", Command::ExtendHold(extension)).await.expect("it is held");
    fixture.clock.advance(Duration::from_secs(1));
    for order_id in ["a5", "a6"] {
        assert_eq!(hold_one(&fixture, "key:a", order_id).await, Ok(()));
    }
    assert_eq!(hold_one(&fixture, "key:a", "more").await, Err(3));
    fixture.assert_balanced().await;
}

/// Each line is one, and an order with too many of them is not held at all.
pub async fn each_line_that_is_held_is_a_hold<S: Store>(fixture: Fixture<S>) {
    begin(&fixture).await;
    let two = |order_id: &str| hold(order_id, HOUR, &[("TABLE", 1), ("CHAIR", 1)]);
    one(&fixture, "key:a", two("o1")).await.expect("two of three");
    let refused = one(&fixture, "key:a", two("o2")).await.expect_err("four of three");
    assert_eq!(refused, Rejection::TooManyHolds { in_force: 2, asked: 2, most: MOST });
    assert_eq!(fixture.product("TABLE").await.available(), 99);
    assert_eq!(fixture.product("CHAIR").await.available(), 199);
    // In one unit of work they count together.
    let asked = ["o3", "o4", "o5"].map(|order_id| by("key:a", hold(order_id, HOUR, &[("TABLE", 1)])));
    let bus = bus(&fixture);
    let verdicts = bus.handle_batch(&asked).await;
    let held = verdicts.into_iter().filter(|verdict| matches!(verdict, Ok(Ok(_)))).count();
    assert_eq!(held, 1);
    let hits = bus.metrics().limits.get_or_create(&LimitLabels { limit: Limit::holds_per_key }).get();
    assert_eq!(hits, 2);
    fixture.assert_balanced().await;
}

/// Whoever moves it, for want of stock or otherwise, does not have it by that; and who asks for what is over has it then.
pub async fn a_hold_stays_whose_it_is<S: Store>(fixture: Fixture<S>) {
    begin(&fixture).await;
    one(&fixture, "key:a", hold("o1", HOUR, &[("CHAIR", 60)])).await.expect("enough");
    one(&fixture, "key:b", change_quantity("b", "CHAIR", 0)).await.expect("it moves");
    let extension = |order_id: &str| {
        let hold = HoldSeconds::new(2 * HOUR).expect("a good time");
        Command::ExtendHold(ExtendHold { order_id: order(order_id), hold })
    };
    one(&fixture, "key:b", extension("o1")).await.expect("it is held");
    assert_eq!(held_by(&fixture, &["key:a", "key:b"]).await, [1, 0]);
    fixture.clock.advance(Duration::from_secs(HOUR));
    assert_eq!(held_by(&fixture, &["key:a", "key:b"]).await, [1, 0]);
    fixture.clock.advance(Duration::from_secs(HOUR));
    assert_eq!(held_by(&fixture, &["key:a", "key:b"]).await, [0, 0]);
    one(&fixture, "key:b", hold("o1", HOUR, &[("CHAIR", 60)])).await.expect("it has lapsed");
    assert_eq!(held_by(&fixture, &["key:a", "key:b"]).await, [0, 1]);
    // There is nowhere to move it to.
    one(&fixture, "http", change_quantity("c", "CHAIR", 10)).await.expect("it is lost");
    assert_eq!(held_by(&fixture, &["key:a", "key:b"]).await, [0, 0]);
}

/// How many holds each of these has.
async fn held_by<S: Store>(fixture: &Fixture<S>, holders: &[&str]) -> Vec<u64> {
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&Selection { skus: [sku("CHAIR")].into(), ..Selection::default() }).await.expect("a load");
    let named: Vec<_> = holders.iter().map(|holder| (*holder).into()).collect();
    let held = tx.holds_of(&named).await.expect("counts");
    tx.end().await.expect("an end");
    let of = |holder: &str| held.iter().find(|(named, _)| &**named == holder).map_or(0, |(_, count)| *count);
    holders.iter().map(|holder| of(holder)).collect()
}

/// Of many that ask at once, by several copies and for several products.
pub async fn many_that_ask_at_once_have_no_more_holds_than_one_may<S: Store>(fixture: Fixture<S>) {
    let products = ["S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7"];
    fixture.handle(products.map(|of| create_batch("b", of, 100, None))).await;
    let buses: Vec<_> = (0..4).map(|_| bus(&fixture)).collect();
    let asked = products.iter().zip(buses.iter().cycle()).map(async |(of, bus)| {
        let asked = by("key:a", hold(&format!("o-{of}"), HOUR, &[(of, 1)]));
        bus.handle(asked).await.expect("the store works").is_ok()
    });
    let held = join_all(asked).await.into_iter().filter(|held| *held).count();
    assert_eq!(held as u64, MOST);
    fixture.assert_balanced().await;
}

/// What nobody has told the end of is forgotten some time after it.
pub async fn whose_a_hold_was_is_forgotten<S: Store>(fixture: Fixture<S>) {
    begin(&fixture).await;
    let mut tx = fixture.store.begin().await.expect("a transaction");
    tx.load(&Selection { skus: [sku("CHAIR")].into(), ..Selection::default() }).await.expect("a load");
    let until = fixture.clock.now() + Duration::from_secs(HOUR);
    let held = HeldFor { sku: sku("CHAIR"), line: key("o1"), holder: "key:a".into(), until };
    tx.note_holds(&[held], &[]).await.expect("a note");
    tx.commit().await.expect("a commit");
    assert_eq!(held_by(&fixture, &["key:a"]).await, [1]);
    let forget = async || fixture.store.forget_holds(Duration::from_secs(HOUR)).await.expect("the store works");
    fixture.clock.advance(Duration::from_secs(2 * HOUR));
    assert_eq!(forget().await, 0);
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(forget().await, 1);
    assert_eq!(forget().await, 0);
}
