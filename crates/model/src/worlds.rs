//! Many histories in one store: each in a world of its own, whose products and orders have names that no other world has.

use allocation_domain::commands::{
    AdjustBatch, Allocate, ApplyDue, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, ChangeLine, ConfirmHold,
    CreateBatch, Deallocate, DeclareBatch, ExtendHold, Improve, Pick, QuarantineBatch, ReceiveBatch, ReleaseBatch,
    RepairBooks, Return, SetProduct, Ship, Transfer, Unpick,
};
use allocation_domain::{Command, LineKey, OrderId, Sku};

/// The number of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World(pub u64);

impl World {
    fn sku(self, sku: &Sku) -> Sku {
        Sku::new(format!("{sku}-{}", self.0)).expect("a short name with a number")
    }

    fn order(self, order_id: &OrderId) -> OrderId {
        OrderId::new(format!("{order_id}-{}", self.0)).expect("a short name with a number")
    }

    /// The same command about this world.
    pub fn command(self, command: &Command) -> Command {
        let mut command = command.clone();
        match &mut command {
            Command::Allocate(allocate) => *allocate = self.allocate(allocate),
            Command::SetProduct(SetProduct { sku, .. })
            | Command::CreateBatch(CreateBatch { sku, .. })
            | Command::DeclareBatch(DeclareBatch { sku, .. })
            | Command::ChangeBatchQuantity(ChangeBatchQuantity { sku, .. })
            | Command::ChangeBatchEta(ChangeBatchEta { sku, .. })
            | Command::ReceiveBatch(ReceiveBatch { sku, .. })
            | Command::CancelBatch(CancelBatch { sku, .. })
            | Command::AdjustBatch(AdjustBatch { sku, .. })
            | Command::QuarantineBatch(QuarantineBatch { sku, .. })
            | Command::ReleaseBatch(ReleaseBatch { sku, .. })
            | Command::Transfer(Transfer { sku, .. })
            | Command::Improve(Improve { sku })
            | Command::ApplyDue(ApplyDue { sku })
            | Command::RepairBooks(RepairBooks { sku }) => *sku = self.sku(sku),
            Command::ConfirmHold(ConfirmHold { order_id }) | Command::ExtendHold(ExtendHold { order_id, .. }) => {
                *order_id = self.order(order_id);
            }
            Command::ChangeLine(ChangeLine { sku, line: LineKey { order_id, .. }, .. }) => {
                (*sku, *order_id) = (self.sku(sku), self.order(order_id));
            }
            Command::Deallocate(Deallocate { order_id, sku, .. }) => {
                (*order_id, *sku) = (self.order(order_id), sku.as_ref().map(|sku| self.sku(sku)));
            }
            Command::Pick(Pick { order_id, lines }) | Command::Unpick(Unpick { order_id, lines }) => {
                *order_id = self.order(order_id);
                for of in lines {
                    of.sku = self.sku(&of.sku);
                }
            }
            Command::Ship(Ship { order_id, items }) => {
                *order_id = self.order(order_id);
                for item in items {
                    item.of.sku = self.sku(&item.of.sku);
                }
            }
            Command::Return(Return { order_id, items }) => {
                *order_id = self.order(order_id);
                for item in items {
                    item.of.sku = self.sku(&item.of.sku);
                }
            }
        }
        command
    }

    fn allocate(self, allocate: &Allocate) -> Allocate {
        let lines = allocate.lines().iter();
        let lines = lines.map(|line| (self.sku(&line.sku), line.key.line.clone(), line.qty, line.terms.clone()));
        let mut renamed =
            Allocate::new(self.order(allocate.order_id()), lines).expect("the same lines are as good by other names");
        (renamed.when_short, renamed.hold) = (allocate.when_short, allocate.hold);
        renamed
    }
}
