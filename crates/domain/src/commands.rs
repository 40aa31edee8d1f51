//! Commands: jobs the system is to do. Their handlers live in the service layer.

use time::Date;

use crate::batch::Eta;
use crate::error::InvalidQuantity;
use crate::ids::{BatchQuantity, BatchRef, HoldSeconds, LineId, Location, OrderId, Quantity, Reason, Sku};
use crate::order_line::{LineKey, OrderLine, Terms};
use crate::product::Settings;

/// A job the system is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a product known, or change its settings.
    SetProduct(SetProduct),
    /// Make a new batch known.
    CreateBatch(CreateBatch),
    /// Say what a batch is, known or not.
    DeclareBatch(DeclareBatch),
    /// Correct a batch's quantity.
    ChangeBatchQuantity(ChangeBatchQuantity),
    /// Correct a batch's date, or say that it has arrived.
    ChangeBatchEta(ChangeBatchEta),
    /// Say that a batch has arrived, all of it or some.
    ReceiveBatch(ReceiveBatch),
    /// Say that a batch will never come.
    CancelBatch(CancelBatch),
    /// Correct what a counted batch holds.
    AdjustBatch(AdjustBatch),
    /// Set units of a batch aside.
    QuarantineBatch(QuarantineBatch),
    /// Give units that were set aside free again.
    ReleaseBatch(ReleaseBatch),
    /// Send free units of a batch to another location.
    Transfer(Transfer),
    /// Promise an order's lines.
    Allocate(Allocate),
    /// Make the promises of an order's holds last.
    ConfirmHold(ConfirmHold),
    /// Let an order's holds last longer.
    ExtendHold(ExtendHold),
    /// Change what a line asks for.
    ChangeLine(ChangeLine),
    /// Take back the promise of a line or of a whole order.
    Deallocate(Deallocate),
    /// Release an order's units to picking.
    Pick(Pick),
    /// Take them back from picking.
    Unpick(Unpick),
    /// Say that units of an order have left.
    Ship(Ship),
    /// Say that shipped units have come back.
    Return(Return),
    /// Move promises to earlier stock.
    Improve(Improve),
    /// Do what is due of a product: holds that have ended.
    ApplyDue(ApplyDue),
    /// Mend a product's tables from its events.
    RepairBooks(RepairBooks),
}

/// Make a product known, or change its settings. All of them are said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetProduct {
    /// The product.
    pub sku: Sku,
    /// What it is to do.
    pub settings: Settings,
}

/// Make a new batch known. The same batch again is fine; another one under its name is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateBatch {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// How many units.
    pub qty: BatchQuantity,
    /// When it is expected; none when it lies in the warehouse.
    pub eta: Eta,
    /// The last day on which its units are of use; none: they always are.
    pub expires_on: Option<Date>,
    /// Where it lies, or will lie.
    pub location: Location,
}

/// Say what a batch is (rule 15): it is created when unknown, and else changed to what is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclareBatch {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// The declared total.
    pub qty: BatchQuantity,
    /// `None`: nothing is said of the date (a new batch is on hand). `Some(None)`: it has arrived.
    pub eta: Option<Eta>,
    /// `None`: nothing is said of it. `Some(None)`: it never expires.
    pub expires_on: Option<Option<Date>>,
    /// `None`: nothing is said of it (a new batch is at the usual location). A batch goes nowhere else by being declared there.
    pub location: Option<Location>,
    /// Go on only if the declaration stands as the caller last saw it.
    pub precondition: Precondition,
}

/// What must hold of a batch for a declaration to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Anything.
    #[default]
    None,
    /// The batch is known.
    Exists,
    /// The batch's declaration is one of these revisions.
    Revision(Vec<u64>),
}

/// Correct a batch's quantity. Lines that lose their place are placed again at once, or wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeBatchQuantity {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// The declared total.
    pub qty: BatchQuantity,
}

/// Correct the date of a batch that has not arrived, or say that it has. Promises follow their batch (rule 17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeBatchEta {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// The new date; none: arrived.
    pub eta: Eta,
}

/// Say how many units of an expected batch have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveBatch {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// Units counted; there may be more of them than expected.
    pub qty: Quantity,
    /// What of those that did not come.
    pub rest: Rest,
}

/// What becomes of units that were expected and did not come with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They are still expected, as a batch of their own.
    Keep,
    /// They will never come.
    Cancel,
}

/// Say that an expected batch will never come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelBatch {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
}

/// Correct what a batch that has arrived holds, without declaring another total (rule 22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustBatch {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// What was found.
    pub adjustment: Adjustment,
    /// Why, in somebody's words.
    pub reason: Reason,
}

/// What was found of a batch in the warehouse (rule 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// So many units are of no use any more.
    Damaged(Quantity),
    /// So many units have turned up.
    Found(Quantity),
    /// So many units are there, whatever their state.
    Recount(BatchQuantity),
}

/// Set units of a batch aside: they are not placed until they are released (rule 18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineBatch {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// How many units; none: all of them.
    pub qty: Option<Quantity>,
}

/// Give units that were set aside free again (rule 18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseBatch {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// How many units; none: all that were set aside.
    pub qty: Option<Quantity>,
}

/// Take free units out of a batch in the warehouse and send them to another location, where they are expected as a batch of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The product.
    pub sku: Sku,
    /// The batch that they leave.
    pub from: BatchRef,
    /// How many units.
    pub qty: Quantity,
    /// Where they go.
    pub to: Location,
    /// The batch that they are there.
    pub reference: BatchRef,
    /// When they are expected there.
    pub eta: Date,
}

/// What to do with an order that can't be promised whole (rule 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenShort {
    /// Promise nothing.
    #[default]
    Reject,
    /// Promise what there is; the rest is dropped.
    Partial,
    /// Promise what there is; the rest waits.
    Backorder,
}

/// Promise the lines of one order, over one or many SKUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocate {
    order_id: OrderId,
    lines: Vec<OrderLine>,
    /// What to do when there is not enough.
    pub when_short: WhenShort,
    /// For this long only, unless confirmed; none: for good.
    pub hold: Option<HoldSeconds>,
}

/// Why lines can't be one request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLines {
    /// Lines with the same key add up to more than a line may ask for.
    #[error("the lines for {0} add up to too much: {1}")]
    TooMuch(Sku, InvalidQuantity),
    /// Lines with the same key want different things.
    #[error("the lines for {0} with the same `line` differ in more than quantity")]
    Differ(Sku),
}

impl Allocate {
    /// Lines of `order_id`. Lines with the same SKU and line are added up first.
    ///
    /// # Errors
    /// When lines with the same key add up to too much, or differ in their terms.
    pub fn new(
        order_id: OrderId,
        lines: impl IntoIterator<Item = (Sku, LineId, Quantity, Terms)>,
    ) -> Result<Self, InvalidLines> {
        let mut sorted: Vec<OrderLine> = lines
            .into_iter()
            .map(|(sku, line, qty, terms)| OrderLine {
                key: LineKey { order_id: order_id.clone(), line },
                sku,
                qty,
                terms,
            })
            .collect();
        // By SKU, so that a handler meets each product once; stable, so that lines keep the order they were given in.
        sorted.sort_by(|a, b| a.sku.cmp(&b.sku));
        let mut lines: Vec<OrderLine> = Vec::with_capacity(sorted.len());
        let mut first_of_sku = 0;
        for line in sorted {
            if lines.last().is_some_and(|last| last.sku != line.sku) {
                first_of_sku = lines.len();
            }
            match lines[first_of_sku..].iter_mut().find(|known| known.key.line == line.key.line) {
                Some(known) if known.terms != line.terms => return Err(InvalidLines::Differ(line.sku)),
                Some(known) => {
                    known.qty = known.qty.plus(line.qty).map_err(|error| InvalidLines::TooMuch(line.sku, error))?;
                }
                None => lines.push(line),
            }
        }
        Ok(Self { order_id, lines, when_short: WhenShort::default(), hold: None })
    }

    /// A single line that must stay whole, as the Python original asks.
    pub fn whole(order_id: OrderId, sku: Sku, qty: Quantity) -> Self {
        let line = OrderLine { terms: Terms::whole(), ..OrderLine::new(order_id.clone(), sku, qty) };
        Self { order_id, lines: vec![line], when_short: WhenShort::default(), hold: None }
    }

    /// The order.
    pub fn order_id(&self) -> &OrderId {
        &self.order_id
    }

    /// Its lines, by SKU, each key once.
    pub fn lines(&self) -> &[OrderLine] {
        &self.lines
    }

    /// Its lines, those of one SKU together.
    pub fn by_sku(&self) -> impl Iterator<Item = (&Sku, &[OrderLine])> {
        self.lines.chunk_by(|a, b| a.sku == b.sku).map(|lines| (&lines[0].sku, lines))
    }
}

/// Make the promises of an order's holds last: all of them or none (rule 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmHold {
    /// The order.
    pub order_id: OrderId,
}

/// Let an order's holds last until now + `hold`, never shorter than before (rule 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendHold {
    /// The order.
    pub order_id: OrderId,
    /// From now on.
    pub hold: HoldSeconds,
}

/// Change what a line asks for. What is not said stays (rule 23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeLine {
    /// The product.
    pub sku: Sku,
    /// Order and line.
    pub line: LineKey,
    /// What is said.
    pub change: LineChange,
}

/// What a line is to be. What is not said stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LineChange {
    /// Units it is to have.
    pub qty: Option<Quantity>,
    /// Who goes first.
    pub priority: Option<i32>,
    /// The latest day; `Some(None)`: any.
    pub by: Option<Option<Date>>,
    /// What to do when there is not enough for more.
    pub when_short: WhenShort,
}

/// Take back what was promised: the line is cancelled and its units are free again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deallocate {
    /// The order.
    pub order_id: OrderId,
    /// Only its lines of this SKU; none: the whole order.
    pub sku: Option<Sku>,
    /// Of these only this one; none: all of them.
    pub line: Option<LineId>,
}

/// One line of an order, by product and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineOf {
    /// The product.
    pub sku: Sku,
    /// Which of the order's lines for it.
    pub line: LineId,
}

/// Release what is allocated and on hand to picking: it is locked (rule 20).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The order.
    pub order_id: OrderId,
    /// Only these lines; empty: all of them.
    pub lines: Vec<LineOf>,
}

/// Take locked units back from picking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpick {
    /// The order.
    pub order_id: OrderId,
    /// Only these lines; empty: all of them.
    pub lines: Vec<LineOf>,
}

/// Say that units of an order have left: all of them or none (rule 20).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ship {
    /// The order.
    pub order_id: OrderId,
    /// What has left, in this order; empty: everything that is allocated.
    pub items: Vec<ShipItem>,
}

/// Units of a line that have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipItem {
    /// Whose units.
    pub of: LineOf,
    /// How many; none: all that are allocated.
    pub qty: Option<Quantity>,
    /// From which batch they were picked; none: from where the line has them.
    pub from: Option<BatchRef>,
}

/// Say that shipped units have come back: all of them or none (rule 21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// The order.
    pub order_id: OrderId,
    /// What has come back, in this order.
    pub items: Vec<ReturnItem>,
}

/// Units of a line that have come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnItem {
    /// Whose units.
    pub of: LineOf,
    /// How many.
    pub qty: Quantity,
    /// What becomes of them.
    pub to: ReturnTo,
    /// Into which batch; none: where they came from.
    pub into: Option<BatchRef>,
}

/// What becomes of returned units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReturnTo {
    /// Set aside until somebody has looked at them.
    #[default]
    Quarantine,
    /// Free to be promised.
    Restock,
    /// Of no use any more.
    Scrap,
}

impl ReturnTo {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quarantine, Self::Restock, Self::Scrap];

    /// Its name in API and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Restock => "restock",
            Self::Scrap => "scrap",
        }
    }
}

/// Move a product's promises, by seniority, to strictly earlier batches (rule 12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Improve {
    /// The product.
    pub sku: Sku,
}

/// Do what is due of a product. Every command does that first, so this one does nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyDue {
    /// The product.
    pub sku: Sku,
}

/// Mend a product's tables from its events, if they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairBooks {
    /// The product.
    pub sku: Sku,
}
