//! Handlers: each does what one command, or one event inside a unit of work, calls for. None commits.
//!
//! A handler finds everything its command names already loaded ([`crate::unit_of_work::Wanted::of`]). It asks every product for a plan before
//! it changes any, so that a rejection leaves all of them as they were.

use allocation_domain::commands::{
    Allocate, ChangeBatchEta, ChangeBatchQuantity, CreateBatch, Deallocate, DeclareBatch, Precondition,
};
use allocation_domain::product::{Decision, Declared, Displaced};
use allocation_domain::{BatchQuantity, BatchRef, LineKey, Rejection, Sku};

use crate::ports::database::{StoreError, StoreResult, Transaction};
use crate::unit_of_work::UnitOfWork;
use crate::views::{BatchView, LineView};

/// What a command came to: the reply, or the domain's no. A failure is neither; it is a
/// [`StoreError`].
pub type Verdict = Result<Reply, Rejection>;

/// What a command that was done answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of a command about a batch.
    Batch(BatchReply),
    /// Of `Allocate`.
    Order(OrderReply),
    /// Of `Deallocate`.
    Cancelled,
}

/// A batch as it is after the command, and who lost a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReply {
    /// The product.
    pub sku: Sku,
    /// The batch.
    pub batch: BatchView,
    /// Whether it was new, changed or the same.
    pub declared: Declared,
    /// Lines that lost their place: the first [`LISTED`].
    pub displaced: Vec<Displaced>,
    /// How many lost their place.
    pub displaced_total: u64,
    /// There was more to displace than one unit of work should hold: the command is to be handled again, and goes on after this line.
    pub unfinished: Option<LineKey>,
}

/// The verdict on the whole of a command that took several units of work, from those on its first part and on its next.
pub fn joined(first: Verdict, next: Verdict) -> Verdict {
    match (first, next) {
        (Ok(Reply::Batch(first)), Ok(Reply::Batch(mut next))) => {
            let mut displaced = first.displaced;
            displaced.extend(next.displaced);
            displaced.truncate(LISTED);
            next.displaced = displaced;
            next.displaced_total += first.displaced_total;
            next.declared = first.declared;
            Ok(Reply::Batch(next))
        }
        (_, next) => next,
    }
}

/// The lines an order named, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderReply {
    /// Whether any of them is new.
    pub created: bool,
    /// The lines, by SKU.
    pub lines: Vec<LineView>,
}

/// How many displaced lines a reply lists.
pub const LISTED: usize = 1_000;

/// How many lines one unit of work displaces at most; a larger cut goes on in the next, so that others are served in between.
pub const CUT_STEP: usize = 4_096;

/// How many waiting lines are looked at in one go.
const QUEUE_PAGE: usize = 1_024;

/// Makes a new batch known.
pub fn create_batch<T: Transaction>(cmd: &CreateBatch, uow: &mut UnitOfWork<T>) -> Verdict {
    let product = uow.product_or_new(&cmd.sku);
    let declared = product.create_batch(cmd.reference.clone(), cmd.qty, cmd.eta)?;
    Ok(batch_reply(uow, &cmd.sku, &cmd.reference, Cut { declared, ..Cut::NONE }))
}

/// Creates a batch, or changes a known one to what is declared.
pub async fn declare_batch<T: Transaction>(
    cmd: &DeclareBatch,
    resume: Option<&LineKey>,
    uow: &mut UnitOfWork<T>,
) -> StoreResult<Verdict> {
    let DeclareBatch { sku, reference, qty, eta, precondition } = cmd;
    let known = uow.product(sku).and_then(|product| product.batch(reference));
    let holds = match precondition {
        // It held when the cut was begun.
        _ if resume.is_some() => true,
        Precondition::None => true,
        Precondition::Exists => known.is_some(),
        Precondition::Revision(revisions) => known.is_some_and(|batch| revisions.contains(&batch.revision)),
    };
    if !holds {
        return Ok(Err(Rejection::PreconditionFailed { sku: sku.clone(), reference: reference.clone() }));
    }
    if known.is_none() {
        let (sku, reference, qty, eta) = (sku.clone(), reference.clone(), *qty, eta.flatten());
        return Ok(create_batch(&CreateBatch { sku, reference, qty, eta }, uow));
    }
    if let (Some(eta), Some(product)) = (eta, uow.product(sku))
        && let Err(rejection) = product.eta_may_become(reference, *eta)
    {
        return Ok(Err(rejection));
    }
    let mut cut = match change_quantity(uow, sku, reference, *qty, resume).await? {
        Ok(cut) => cut,
        Err(rejection) => return Ok(Err(rejection)),
    };
    if let (Some(eta), Some(product)) = (eta, uow.product_mut(sku)) {
        match product.change_batch_eta(reference, *eta) {
            Ok(Declared::Same) => {}
            Ok(changed) => cut.declared = changed,
            Err(rejection) => return Ok(Err(rejection)),
        }
    }
    Ok(Ok(batch_reply(uow, sku, reference, cut)))
}

/// Corrects a batch's quantity.
pub async fn change_batch_quantity<T: Transaction>(
    cmd: &ChangeBatchQuantity,
    resume: Option<&LineKey>,
    uow: &mut UnitOfWork<T>,
) -> StoreResult<Verdict> {
    let cut = change_quantity(uow, &cmd.sku, &cmd.reference, cmd.qty, resume).await?;
    Ok(cut.map(|cut| batch_reply(uow, &cmd.sku, &cmd.reference, cut)))
}

/// Corrects a batch's date.
pub fn change_batch_eta<T: Transaction>(cmd: &ChangeBatchEta, uow: &mut UnitOfWork<T>) -> Verdict {
    let product = uow.product_mut(&cmd.sku).ok_or_else(|| Rejection::UnknownSku(vec![cmd.sku.clone()]))?;
    let declared = product.change_batch_eta(&cmd.reference, cmd.eta)?;
    Ok(batch_reply(uow, &cmd.sku, &cmd.reference, Cut { declared, ..Cut::NONE }))
}

/// What changing a quantity came to.
struct Cut {
    declared: Declared,
    displaced: Vec<Displaced>,
    unfinished: Option<LineKey>,
}

impl Cut {
    const NONE: Self = Self { declared: Declared::Same, displaced: Vec::new(), unfinished: None };
}

async fn change_quantity<T: Transaction>(
    uow: &mut UnitOfWork<T>,
    sku: &Sku,
    reference: &BatchRef,
    to: BatchQuantity,
    resume: Option<&LineKey>,
) -> StoreResult<Result<Cut, Rejection>> {
    let Some(product) = uow.product(sku) else {
        return Ok(Err(Rejection::UnknownSku(vec![sku.clone()])));
    };
    // Every line has a unit at least, so no more lines than units can lose their place.
    let lacking = usize::try_from(product.lacking(reference, to)).unwrap_or(usize::MAX);
    let mut newest = Vec::new();
    if lacking > 0 {
        let limit = lacking.min(CUT_STEP);
        newest = uow.newest_lines(sku, reference, resume, limit).await?;
        if newest.is_empty() && resume.is_some() {
            // Newer lines have taken places that others gave back meanwhile.
            newest = uow.newest_lines(sku, reference, None, limit).await?;
        }
        if newest.is_empty() {
            return Err(StoreError::Failed(format!("batch {reference} of {sku} has allocated units but no lines")));
        }
    }
    let product = uow.product_mut(sku).expect("seen above");
    Ok(product.change_batch_quantity(reference, to, &newest).map(|(declared, displaced)| {
        let reached = product.batch(reference).map(|batch| batch.quantity);
        // They are listed by seniority, so the first is the last that lost its place.
        let last = displaced.first().filter(|_| reached != Some(to)).map(|displaced| displaced.line.clone());
        Cut { declared, unfinished: last, displaced }
    }))
}

fn batch_reply<T: Transaction>(uow: &UnitOfWork<T>, sku: &Sku, reference: &BatchRef, cut: Cut) -> Reply {
    let batch = uow.product(sku).and_then(|product| product.batch(reference)).expect("the command was about it");
    let displaced_total = cut.displaced.len() as u64;
    let mut displaced = cut.displaced;
    displaced.truncate(LISTED);
    Reply::Batch(BatchReply {
        sku: sku.clone(),
        batch: BatchView::from(batch),
        declared: cut.declared,
        displaced,
        displaced_total,
        unfinished: cut.unfinished,
    })
}

/// Promises an order's lines, all or none.
pub fn allocate<T: Transaction>(cmd: &Allocate, uow: &mut UnitOfWork<T>) -> Verdict {
    let unknown: Vec<Sku> =
        cmd.by_sku().map(|(sku, _)| sku).filter(|sku| uow.product(sku).is_none()).cloned().collect();
    if !unknown.is_empty() {
        return Err(Rejection::UnknownSku(unknown));
    }
    let (mut plans, mut conflicts, mut shortages) = (Vec::new(), Vec::new(), Vec::new());
    for (sku, lines) in cmd.by_sku() {
        match uow.product(sku).expect("known, see above").plan(lines) {
            Decision::Accept(plan) => plans.push((sku, plan)),
            Decision::Conflict(found) => conflicts.extend(found),
            Decision::Short(shortage) => shortages.push(shortage),
        }
    }
    if !conflicts.is_empty() {
        return Err(Rejection::LineConflict(conflicts));
    }
    if !shortages.is_empty() {
        for shortage in &shortages {
            uow.product_mut(&shortage.sku).expect("known, see above").refuse(shortage);
        }
        return Err(Rejection::Short(shortages));
    }
    let mut created = false;
    for (sku, plan) in plans {
        if !plan.is_empty() {
            created |= uow.product_mut(sku).expect("known, see above").apply(plan);
        }
    }
    let today = uow.today();
    let view = |line: &allocation_domain::OrderLine| LineView::of(uow.product(&line.sku)?, &line.key, today);
    Ok(Reply::Order(OrderReply { created, lines: cmd.lines().iter().filter_map(view).collect() }))
}

/// Cancels a line or a whole order; its units are free again.
pub fn deallocate<T: Transaction>(cmd: &Deallocate, uow: &mut UnitOfWork<T>) -> Verdict {
    let lines = uow.lines_of(&cmd.order_id, cmd.sku.as_ref());
    if lines.is_empty() {
        let order_id = cmd.order_id.clone();
        return Err(match &cmd.sku {
            Some(sku) => Rejection::UnknownLine { order_id, sku: sku.clone() },
            None => Rejection::UnknownOrder(order_id),
        });
    }
    for (sku, key) in lines {
        uow.product_mut(&sku).expect("its lines are at hand").deallocate(&key)?;
    }
    Ok(Reply::Cancelled)
}

/// Stock may have become free: whoever waits gets it, by seniority (rule 10).
pub async fn serve_queue<T: Transaction>(sku: &Sku, uow: &mut UnitOfWork<T>) -> StoreResult<()> {
    let mut after = 0;
    while let Some(product) = uow.product(sku).filter(|product| product.could_serve_queue()) {
        let waiting = uow.waiting_lines(sku, product.largest_free(), after, QUEUE_PAGE).await?;
        let Some((_, last)) = waiting.last() else { break };
        after = *last;
        let keys: Vec<_> = waiting.into_iter().map(|(key, _)| key).collect();
        uow.product_mut(sku).expect("seen above").serve(&keys);
        if keys.len() < QUEUE_PAGE {
            break;
        }
    }
    Ok(())
}
