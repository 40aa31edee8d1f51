//! Commands: jobs the system is to do. Their handlers live in the service layer.

use crate::batch::Eta;
use crate::ids::{BatchQuantity, BatchRef, OrderId, Sku};
use crate::order_line::{LineKey, OrderLine};

/// A job the system is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a new batch known.
    CreateBatch(CreateBatch),
    /// Say what a batch is, known or not.
    DeclareBatch(DeclareBatch),
    /// Correct a batch's quantity.
    ChangeBatchQuantity(ChangeBatchQuantity),
    /// Correct a batch's date, or say that it has arrived.
    ChangeBatchEta(ChangeBatchEta),
    /// Promise an order's lines.
    Allocate(Allocate),
    /// Take back the promise of a line or of a whole order.
    Deallocate(Deallocate),
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

/// Correct the date of a batch that has not arrived, or say that it has. Promises follow their batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeBatchEta {
    /// The product.
    pub sku: Sku,
    /// The shipment.
    pub reference: BatchRef,
    /// The new date; none: arrived.
    pub eta: Eta,
}

/// Promise the lines of one order, over one or many SKUs: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocate {
    order_id: OrderId,
    lines: Vec<OrderLine>,
}

impl Allocate {
    /// Lines of `order_id`. Lines with the same SKU and line are added up first.
    ///
    /// # Errors
    /// When such a sum is more than a line may ask for: the line's SKU with the bounds.
    pub fn new(
        order_id: OrderId,
        lines: impl IntoIterator<Item = (Sku, crate::LineId, crate::Quantity)>,
    ) -> Result<Self, (Sku, crate::InvalidQuantity)> {
        let mut sorted: Vec<OrderLine> = lines
            .into_iter()
            .map(|(sku, line, qty)| OrderLine { key: LineKey { order_id: order_id.clone(), line }, sku, qty })
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
                Some(known) => known.qty = known.qty.plus(line.qty).map_err(|error| (line.sku, error))?,
                None => lines.push(line),
            }
        }
        Ok(Self { order_id, lines })
    }

    /// A single line.
    pub fn one(order_id: OrderId, sku: Sku, qty: crate::Quantity) -> Self {
        Self { lines: vec![OrderLine::new(order_id.clone(), sku, qty)], order_id }
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

/// Take back what was promised: the line is cancelled and its units are free again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deallocate {
    /// The order.
    pub order_id: OrderId,
    /// All its lines of this SKU; none: the whole order.
    pub sku: Option<Sku>,
}
