//! What is read without a store.

use std::collections::BTreeMap;

use allocation_domain::commands::WhenShort;
use allocation_domain::{BatchRef, LineId, LineKey, OrderId};
use allocation_entrypoints::files::{FileCommands, Kind};
use allocation_service_layer::checkpoint::Base;
use allocation_service_layer::ports::archive::Checkpoint;
use allocation_service_layer::ports::database::NotedBalances;
use allocation_service_layer::webhooks::Secret;
use allocation_service_layer::wire;
use allocation_testing::shorthand::sku;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// An event of the log, and the books that it is folded into.
pub(crate) fn read_event(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    // Either reads what the other does not look at, and refuses it when it is there twice.
    let _ = wire::envelope(text);
    if let Ok(event) = wire::parse_event(text) {
        let _ = Base::default().fold(event);
    }
}

/// A line each: what a checkpoint says of the product, of a batch, of a line, and of what its batches came to. What was read and is written again is the
/// same when it is read.
pub(crate) fn read_checkpoint(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let mut lines = text.split('\n').map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let (head, batch, line, body) = (next(), next(), next(), next());
    let order = OrderId::new("o").expect("a name");
    let checkpoint = Checkpoint {
        balances: NotedBalances { sku: sku("LAMP"), sequence: 1, body },
        head,
        batches: vec![(BatchRef::new("b").expect("a name"), batch)],
        lines: vec![(LineKey { order_id: order, line: LineId::default() }, line)],
    };
    if let Ok(base) = Base::of(&checkpoint) {
        let written = base.checkpoint(&sku("LAMP"));
        let again = Base::of(&written).expect("what was written can be read").checkpoint(&sku("LAMP"));
        assert_eq!(written, again);
    }
}

/// The reorder levels of a product.
pub(crate) fn read_levels(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(levels) = wire::parse_levels(text) {
        let written = wire::levels_json(&levels);
        let again = written.map_or_else(|| Ok(BTreeMap::new()), |written| wire::parse_levels(&written));
        assert_eq!(again, Ok(levels));
    }
}

/// A date, which has one form only.
pub(crate) fn read_date(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Some(date) = wire::parse_date(text) {
        assert_eq!(wire::date_text(date), text);
    }
}

/// The secret of a webhook.
pub(crate) fn read_webhook_secret(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(secret) = Secret::parse(text) {
        assert_eq!(secret.reveal(), text);
        secret.sign("id", 0, text);
    }
}

/// A file of batches.
pub(crate) fn read_batches_file(bytes: &[u8]) {
    read_file(Kind::Batches, bytes);
}

/// A file of orders.
pub(crate) fn read_orders_file(bytes: &[u8]) {
    read_file(Kind::Orders(WhenShort::Backorder), bytes);
}

/// Each row has its say, or its fault.
fn read_file(kind: Kind, bytes: &[u8]) {
    let Ok(commands) = FileCommands::read(kind, bytes) else { return };
    // Of the last row of an order may come a fault and the order's.
    let most = 2 * (1 + bytes.iter().filter(|byte| b"\r\n".contains(byte)).count());
    assert!(commands.take(most + 1).count() <= most, "there is no end to it");
}
