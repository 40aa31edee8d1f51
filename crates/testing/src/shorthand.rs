//! Small builders, so that tests say only what matters to them.

use allocation_domain::commands::{
    Allocate, ChangeBatchEta, ChangeBatchQuantity, CreateBatch, Deallocate, DeclareBatch, Precondition,
};
use allocation_domain::{BatchQuantity, BatchRef, Command, Eta, LineId, LineKey, OrderId, OrderLine, Quantity, Sku};
use allocation_service_layer::Message;
use allocation_service_layer::wire::Cause;
use time::Date;

/// A SKU.
pub fn sku(text: &str) -> Sku {
    Sku::new(text).expect("a good SKU")
}

/// An order's id.
pub fn order(text: &str) -> OrderId {
    OrderId::new(text).expect("a good order id")
}

/// A shipment's reference.
pub fn reference(text: &str) -> BatchRef {
    BatchRef::new(text).expect("a good reference")
}

/// What a line asks for.
pub fn qty(units: u64) -> Quantity {
    Quantity::new(units).expect("a good quantity")
}

/// What a batch holds.
pub fn stock(units: u64) -> BatchQuantity {
    BatchQuantity::new(units).expect("a good quantity")
}

/// The day that is so many days after 2 January 2011.
pub fn day(days: i64) -> Date {
    crate::clock::ManualClock::START.date() + time::Duration::days(days)
}

/// Line `1` of an order.
pub fn key(order_id: &str) -> LineKey {
    LineKey { order_id: order(order_id), line: LineId::default() }
}

/// Line `1` of an order.
pub fn line(order_id: &str, of: &str, units: u64) -> OrderLine {
    OrderLine::new(order(order_id), sku(of), qty(units))
}

/// Creates a batch.
pub fn create_batch(name: &str, of: &str, units: u64, eta: Eta) -> Command {
    Command::CreateBatch(CreateBatch { sku: sku(of), reference: reference(name), qty: stock(units), eta })
}

/// Declares a batch's quantity and says nothing of its date.
pub fn declare_batch(name: &str, of: &str, units: u64, eta: Option<Eta>) -> Command {
    let precondition = Precondition::None;
    Command::DeclareBatch(DeclareBatch {
        sku: sku(of),
        reference: reference(name),
        qty: stock(units),
        eta,
        precondition,
    })
}

/// Corrects a batch's quantity.
pub fn change_quantity(name: &str, of: &str, units: u64) -> Command {
    Command::ChangeBatchQuantity(ChangeBatchQuantity { sku: sku(of), reference: reference(name), qty: stock(units) })
}

/// Corrects a batch's date.
pub fn change_eta(name: &str, of: &str, eta: Eta) -> Command {
    Command::ChangeBatchEta(ChangeBatchEta { sku: sku(of), reference: reference(name), eta })
}

/// Asks for lines: SKU and units.
pub fn allocate(order_id: &str, lines: &[(&str, u64)]) -> Command {
    let lines = lines.iter().map(|(of, units)| (sku(of), LineId::default(), qty(*units)));
    Command::Allocate(Allocate::new(order(order_id), lines).expect("sums within bounds"))
}

/// Cancels an order, or its lines of one SKU.
pub fn deallocate(order_id: &str, of: Option<&str>) -> Command {
    Command::Deallocate(Deallocate { order_id: order(order_id), sku: of.map(sku) })
}

/// A command from a test.
pub fn message(command: Command) -> Message {
    Message::new(command, cause())
}

/// A test as the cause of what happens.
pub fn cause() -> Cause {
    Cause { correlation: "test".into(), actor: "test".into(), traceparent: None }
}
