//! Small builders, so that tests say only what matters to them.

use allocation_domain::commands::{
    AdjustBatch, Adjustment, Allocate, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, ChangeLine, ConfirmHold,
    CreateBatch, Deallocate, DeclareBatch, LineChange, LineOf, Pick, Precondition, QuarantineBatch, ReceiveBatch, Rest,
    Return, ReturnItem, ReturnTo, SetProduct, Ship, ShipItem, WhenShort,
};
use allocation_domain::{
    BatchQuantity, BatchRef, Command, Eta, HoldSeconds, Level, LineId, LineKey, Location, Locations, OrderId,
    OrderLine, Quantity, Reason, Settings, Sku, Terms,
};
use allocation_service_layer::Message;
use allocation_service_layer::wire::Cause;
use time::Date;

/// A SKU.
pub fn sku(text: &str) -> Sku {
    Sku::new(text).expect("a good SKU")
}

/// A location.
pub fn location(text: &str) -> Location {
    Location::new(text).expect("a good location")
}

/// Locations in order of preference.
pub fn accepted(names: &[&str]) -> Locations {
    Locations::new(names.iter().map(|name| location(name)).collect()).expect("some locations, each once")
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
    Command::CreateBatch(CreateBatch {
        sku: sku(of),
        reference: reference(name),
        qty: stock(units),
        eta,
        expires_on: None,
        location: Location::default(),
    })
}

/// Declares a batch's quantity and says nothing of its date.
pub fn declare_batch(name: &str, of: &str, units: u64, eta: Option<Eta>) -> Command {
    let precondition = Precondition::None;
    Command::DeclareBatch(DeclareBatch {
        sku: sku(of),
        reference: reference(name),
        qty: stock(units),
        eta,
        expires_on: None,
        location: None,
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

/// Asks for lines that must stay whole, as the Python original does: SKU and units.
pub fn allocate(order_id: &str, lines: &[(&str, u64)]) -> Command {
    let lines = lines.iter().map(|(of, units)| (sku(of), LineId::default(), qty(*units), Terms::whole()));
    Command::Allocate(Allocate::new(order(order_id), lines).expect("sums within bounds"))
}

/// Asks for lines on the usual terms, which let them be split: SKU and units.
pub fn ask(order_id: &str, when_short: WhenShort, lines: &[(&str, u64)]) -> Command {
    ask_on(order_id, when_short, &Terms::default(), lines)
}

/// Asks for lines on these terms.
pub fn ask_on(order_id: &str, when_short: WhenShort, terms: &Terms, lines: &[(&str, u64)]) -> Command {
    let lines = lines.iter().map(|(of, units)| (sku(of), LineId::default(), qty(*units), terms.clone()));
    let mut asked = Allocate::new(order(order_id), lines).expect("sums within bounds");
    asked.when_short = when_short;
    Command::Allocate(asked)
}

/// Asks for lines for so many seconds.
pub fn hold(order_id: &str, seconds: u64, lines: &[(&str, u64)]) -> Command {
    let mut asked = ask(order_id, WhenShort::Reject, lines);
    if let Command::Allocate(asked) = &mut asked {
        asked.hold = Some(HoldSeconds::new(seconds).expect("a good time"));
    }
    asked
}

/// Makes a hold last.
pub fn confirm(order_id: &str) -> Command {
    Command::ConfirmHold(ConfirmHold { order_id: order(order_id) })
}

/// Changes a line `1`.
pub fn change_line(order_id: &str, of: &str, change: LineChange) -> Command {
    Command::ChangeLine(ChangeLine { sku: sku(of), line: key(order_id), change })
}

/// Says that so many units of a batch have come.
pub fn receive(name: &str, of: &str, units: u64, rest: Rest) -> Command {
    Command::ReceiveBatch(ReceiveBatch { sku: sku(of), reference: reference(name), qty: qty(units), rest })
}

/// Says that a batch will never come.
pub fn cancel_batch(name: &str, of: &str) -> Command {
    Command::CancelBatch(CancelBatch { sku: sku(of), reference: reference(name) })
}

/// Says how a product is to behave.
pub fn set_product(of: &str, queue_cap: Option<u64>, auto_improve: bool) -> Command {
    Command::SetProduct(SetProduct {
        sku: sku(of),
        settings: Settings { queue_cap, auto_improve, ..Settings::default() },
    })
}

/// Has so many units kept back at the usual location.
pub fn keep_back(of: &str, safety_stock: u64) -> Command {
    let levels = [(Location::default(), Level { safety_stock, low_stock: None })].into();
    Command::SetProduct(SetProduct { sku: sku(of), settings: Settings { levels, ..Settings::default() } })
}

/// Cancels an order, or its lines of one SKU.
pub fn deallocate(order_id: &str, of: Option<&str>) -> Command {
    Command::Deallocate(Deallocate { order_id: order(order_id), sku: of.map(sku), line: None })
}

fn line_of(of: &str) -> LineOf {
    LineOf { sku: sku(of), line: LineId::default() }
}

/// Releases an order to picking.
pub fn pick(order_id: &str) -> Command {
    Command::Pick(Pick { order_id: order(order_id), lines: Vec::new() })
}

/// Says that so many units of an order's line `1` have left: from a batch, or from where they are.
pub fn ship(order_id: &str, of: &str, units: u64, from: Option<&str>) -> Command {
    let item = ShipItem { of: line_of(of), qty: Some(qty(units)), from: from.map(reference) };
    Command::Ship(Ship { order_id: order(order_id), items: vec![item] })
}

/// Says that so many units of an order's line `1` have come back to where they were.
pub fn bring_back(order_id: &str, of: &str, units: u64, to: ReturnTo) -> Command {
    let item = ReturnItem { of: line_of(of), qty: qty(units), to, into: None };
    Command::Return(Return { order_id: order(order_id), items: vec![item] })
}

/// Sets units of a batch aside.
pub fn quarantine(name: &str, of: &str, units: u64) -> Command {
    let (sku, reference) = (sku(of), reference(name));
    Command::QuarantineBatch(QuarantineBatch { sku, reference, qty: Some(qty(units)) })
}

/// Corrects what a batch holds.
pub fn adjust(name: &str, of: &str, adjustment: Adjustment) -> Command {
    let reason = Reason::new("seen").expect("a good reason");
    Command::AdjustBatch(AdjustBatch { sku: sku(of), reference: reference(name), adjustment, reason })
}

/// A command from a test.
pub fn message(command: Command) -> Message {
    Message::new(command, cause())
}

/// A test as the cause of what happens.
pub fn cause() -> Cause {
    Cause { correlation: "test".into(), actor: "test".into(), traceparent: None }
}
