//! Handlers: each does what one command, or one event inside a unit of work, calls for. None commits.
//!
//! A handler finds everything its command names already loaded ([`crate::unit_of_work::Wanted::of`]). It asks every product for a plan before
//! it changes any, so that a rejection leaves all of them as they were.

use allocation_domain::commands::{
    AdjustBatch, Allocate, CancelBatch, ChangeBatchEta, ChangeBatchQuantity, ChangeLine, ConfirmHold, CreateBatch,
    Deallocate, DeclareBatch, ExtendHold, Improve, Precondition, QuarantineBatch, ReceiveBatch, ReleaseBatch,
    RepairBooks, SetProduct, Transfer, WhenShort,
};
use allocation_domain::product::{Decision, Declared, Displaced, Plan, SupplyChange};
use allocation_domain::states::Answer;
use allocation_domain::{BatchRef, Eta, LineKey, LineState, OrderId, OrderLine, PartKey, Product, Rejection, Sku};

mod floor;

pub use self::floor::{as_it_is, pick, ship, take_return, unpick};
use time::Date;

use crate::message_bus::Resume;
use crate::ports::database::{StoreError, StoreResult, Transaction};
use crate::unit_of_work::UnitOfWork;
use crate::verify::{self, Findings};
use crate::views::{BatchView, LineView, ProductView};

/// What a command came to: the reply, or the domain's no. A failure is neither; it is a
/// [`StoreError`].
pub type Verdict = Result<Reply, Rejection>;

/// What a command that was done answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of a command about a product as a whole.
    Product(ProductReply),
    /// Of a command about a batch.
    Batch(BatchReply),
    /// Of a command about an order or a line of it.
    Order(OrderReply),
    /// Of `RepairBooks`: each difference that there was.
    Repaired(Vec<String>),
    /// Nothing more to say.
    Done,
}

/// A product as it is after the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductReply {
    /// Whether it was new, changed or the same.
    pub declared: Declared,
    /// The product.
    pub product: ProductView,
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
    /// What of a receipt is still expected, as a batch of its own.
    pub rest: Option<BatchView>,
    /// Lines that lost their place: the first [`LISTED`].
    pub displaced: Vec<Displaced>,
    /// How many lost their place.
    pub displaced_total: u64,
    /// There was more to displace than one unit of work should hold: the command is to be handled again, and goes on after these units.
    pub unfinished: Option<PartKey>,
}

/// The lines a command was about, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderReply {
    /// Whether any of them is new.
    pub created: bool,
    /// The lines, by SKU.
    pub lines: Vec<LineView>,
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

/// Brings a reply up to date with what happened in its unit of work since it was made.
pub fn refresh<T: Transaction>(verdict: &mut Verdict, uow: &UnitOfWork<T>) {
    match verdict {
        Ok(Reply::Batch(reply)) => {
            let Some(product) = uow.product(&reply.sku) else { return };
            for batch in std::iter::once(&mut reply.batch).chain(&mut reply.rest) {
                if let Some(now) = product.batch(&batch.reference) {
                    *batch = now.into();
                }
            }
        }
        Ok(Reply::Product(reply)) => {
            if let Some(product) = uow.product(&reply.product.sku) {
                reply.product = product.into();
            }
        }
        Ok(Reply::Order(reply)) => {
            for line in &mut reply.lines {
                if let Some(now) = uow.product(&line.sku).and_then(|product| LineView::of(product, &line.key)) {
                    *line = now;
                }
            }
        }
        _ => {}
    }
}

/// How many displaced lines a reply lists.
pub const LISTED: usize = 1_000;

/// How many parts of lines one unit of work displaces at most; a larger cut goes on in the next, so that others are served in between.
pub const CUT_STEP: usize = 4_096;

/// How many waiting parts of lines are looked at in one go.
const QUEUE_PAGE: usize = 1_024;

fn unknown_sku(sku: &Sku) -> Rejection {
    Rejection::UnknownSku(vec![sku.clone()])
}

// ---- Products and supply -----------------------------------------------------------------------------------------------

/// Makes a product known, or changes its settings.
pub async fn set_product<T: Transaction>(cmd: &SetProduct, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    let min_days = cmd.settings.min_days;
    let known = uow.product(&cmd.sku).filter(|product| product.settings().min_days != min_days);
    let perishable: Vec<BatchRef> = known.map_or_else(Vec::new, |product| {
        let perishable = product.batches().iter().filter(|batch| batch.expires_on.is_some());
        perishable.map(|batch| batch.reference.clone()).collect()
    });
    for reference in &perishable {
        // Whoever has a place in it may need another by then.
        uow.losers(&cmd.sku, reference, None, usize::MAX).await?;
    }
    let product = uow.product_or_new(&cmd.sku);
    let declared = product.set(cmd.settings.clone());
    if !perishable.is_empty() {
        product.look_over();
    }
    Ok(Ok(Reply::Product(ProductReply { declared, product: (&*product).into() })))
}

/// Makes a new batch known.
pub fn create_batch<T: Transaction>(cmd: &CreateBatch, uow: &mut UnitOfWork<T>) -> Verdict {
    let product = uow.product_or_new(&cmd.sku);
    let CreateBatch { reference, qty, eta, expires_on, location, .. } = cmd.clone();
    let declared = product.create_batch(reference, qty, eta, expires_on, location)?;
    Ok(batch_reply(uow, &cmd.sku, &cmd.reference, Cut { declared, ..Cut::NONE }))
}

/// Creates a batch, or changes a known one to what is declared.
pub async fn declare_batch<T: Transaction>(
    cmd: &DeclareBatch,
    resume: Option<&Resume>,
    uow: &mut UnitOfWork<T>,
) -> StoreResult<Verdict> {
    let DeclareBatch { sku, reference, qty, eta, expires_on, location, precondition } = cmd;
    let known = uow.product(sku).and_then(|product| product.batch(reference));
    let holds = match (precondition, resume) {
        (Precondition::None, _) => true,
        // It held when the cut was begun; what we have declared since then stands, unless somebody else came in between.
        (_, Some(resume)) => known.is_some_and(|batch| batch.revision == resume.revision),
        (Precondition::Exists, None) => known.is_some(),
        (Precondition::Revision(revisions), None) => known.is_some_and(|batch| revisions.contains(&batch.revision)),
    };
    if !holds {
        return Ok(Err(Rejection::PreconditionFailed { sku: sku.clone(), reference: reference.clone() }));
    }
    if known.is_none() {
        let (sku, reference, qty) = (sku.clone(), reference.clone(), *qty);
        let (eta, expires_on, location) = (eta.flatten(), expires_on.flatten(), location.clone().unwrap_or_default());
        return Ok(create_batch(&CreateBatch { sku, reference, qty, eta, expires_on, location }, uow));
    }
    if let Some(product) = uow.product(sku) {
        let location = location.as_ref().map_or(Ok(()), |location| product.must_be_at(reference, location));
        let eta = eta.map_or(Ok(Answer::Same), |eta| product.eta_may_become(reference, eta));
        let qty = || product.supply_may_change(reference, &SupplyChange::Quantity(*qty));
        let expiry = || expires_on.map_or(Ok(Answer::Same), |last| product.expiry_may_become(reference, last));
        if let Err(rejection) = location.and(eta).and_then(|_| qty()).and_then(|_| expiry()) {
            return Ok(Err(rejection));
        }
    }
    let mut cut =
        match change_supply(uow, sku, reference, &SupplyChange::Quantity(*qty), resume.map(|resume| &resume.after))
            .await?
        {
            Ok(cut) => cut,
            Err(rejection) => return Ok(Err(rejection)),
        };
    let dated = match eta {
        Some(eta) => change_eta(uow, sku, reference, *eta).await?,
        None => Ok(Cut::NONE),
    };
    let kept = match expires_on {
        Some(last) => change_expiry(uow, sku, reference, *last).await?,
        None => Ok(Cut::NONE),
    };
    for changed in [dated, kept] {
        match changed {
            Ok(Cut { declared: Declared::Same, .. }) => {}
            Ok(changed) => {
                cut.declared = changed.declared;
                cut.displaced.extend(changed.displaced);
            }
            Err(rejection) => return Ok(Err(rejection)),
        }
    }
    Ok(Ok(batch_reply(uow, sku, reference, cut)))
}

/// Corrects a batch's quantity.
pub async fn change_batch_quantity<T: Transaction>(
    cmd: &ChangeBatchQuantity,
    resume: Option<&PartKey>,
    uow: &mut UnitOfWork<T>,
) -> StoreResult<Verdict> {
    supply_reply(uow, &cmd.sku, &cmd.reference, &SupplyChange::Quantity(cmd.qty), resume).await
}

/// Says that an expected batch has come.
pub async fn receive_batch<T: Transaction>(
    cmd: &ReceiveBatch,
    resume: Option<&PartKey>,
    uow: &mut UnitOfWork<T>,
) -> StoreResult<Verdict> {
    supply_reply(uow, &cmd.sku, &cmd.reference, &SupplyChange::Receipt(cmd.qty, cmd.rest), resume).await
}

/// Says that an expected batch will never come.
pub async fn cancel_batch<T: Transaction>(
    cmd: &CancelBatch,
    resume: Option<&PartKey>,
    uow: &mut UnitOfWork<T>,
) -> StoreResult<Verdict> {
    supply_reply(uow, &cmd.sku, &cmd.reference, &SupplyChange::Cancellation, resume).await
}

/// Corrects what a batch in the warehouse holds.
pub async fn adjust_batch<T: Transaction>(cmd: &AdjustBatch, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    let change = SupplyChange::Adjustment(cmd.adjustment, cmd.reason.clone());
    supply_reply(uow, &cmd.sku, &cmd.reference, &change, None).await
}

/// Sets units of a batch aside.
pub async fn quarantine_batch<T: Transaction>(cmd: &QuarantineBatch, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    supply_reply(uow, &cmd.sku, &cmd.reference, &SupplyChange::Quarantine(cmd.qty), None).await
}

/// Gives units free again that were set aside.
pub fn release_batch<T: Transaction>(cmd: &ReleaseBatch, uow: &mut UnitOfWork<T>) -> Verdict {
    let product = uow.product_mut(&cmd.sku).ok_or_else(|| unknown_sku(&cmd.sku))?;
    let declared = product.release_batch(&cmd.reference, cmd.qty)?;
    Ok(batch_reply(uow, &cmd.sku, &cmd.reference, Cut { declared, ..Cut::NONE }))
}

/// Sends free units of a batch to another location. The reply is about the batch that they are there.
pub fn transfer<T: Transaction>(cmd: &Transfer, uow: &mut UnitOfWork<T>) -> Verdict {
    let product = uow.product_mut(&cmd.sku).ok_or_else(|| unknown_sku(&cmd.sku))?;
    product.transfer(cmd)?;
    Ok(batch_reply(uow, &cmd.sku, &cmd.reference, Cut { declared: Declared::New, ..Cut::NONE }))
}

/// Corrects a batch's date.
pub async fn change_batch_eta<T: Transaction>(cmd: &ChangeBatchEta, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    let cut = change_eta(uow, &cmd.sku, &cmd.reference, cmd.eta).await?;
    Ok(cut.map(|cut| batch_reply(uow, &cmd.sku, &cmd.reference, cut)))
}

/// What a change of supply came to.
struct Cut {
    declared: Declared,
    rest: Option<BatchRef>,
    displaced: Vec<Displaced>,
    unfinished: Option<PartKey>,
}

impl Cut {
    const NONE: Self = Self { declared: Declared::Same, rest: None, displaced: Vec::new(), unfinished: None };
}

async fn supply_reply<T: Transaction>(
    uow: &mut UnitOfWork<T>,
    sku: &Sku,
    reference: &BatchRef,
    change: &SupplyChange,
    resume: Option<&PartKey>,
) -> StoreResult<Verdict> {
    let cut = change_supply(uow, sku, reference, change, resume).await?;
    Ok(cut.map(|cut| batch_reply(uow, sku, reference, cut)))
}

async fn change_supply<T: Transaction>(
    uow: &mut UnitOfWork<T>,
    sku: &Sku,
    reference: &BatchRef,
    change: &SupplyChange,
    resume: Option<&PartKey>,
) -> StoreResult<Result<Cut, Rejection>> {
    let Some(product) = uow.product(sku) else {
        return Ok(Err(unknown_sku(sku)));
    };
    match product.supply_may_change(reference, change) {
        Ok(Answer::Same) => return Ok(Ok(Cut::NONE)),
        Ok(_) => {}
        Err(rejection) => return Ok(Err(rejection)),
    }
    // Every part has a unit at least, so no more parts than units can lose their place.
    let lacking = usize::try_from(product.lacking(reference, change)).unwrap_or(usize::MAX);
    let mut losers = Vec::new();
    if lacking > 0 {
        let limit = if change.is_relative() { lacking } else { lacking.min(CUT_STEP) };
        losers = uow.losers(sku, reference, resume, limit).await?;
        if losers.is_empty() && resume.is_some() {
            // Newer lines have taken places that others gave back meanwhile.
            losers = uow.losers(sku, reference, None, limit).await?;
        }
        if losers.is_empty() {
            return Err(StoreError::Failed(format!("batch {reference} of {sku} has units placed but no lines")));
        }
    }
    let last = losers.last().cloned();
    let product = uow.product_mut(sku).expect("seen above");
    Ok(product.change_supply(reference, change, &losers).map(|supplied| {
        let rest = reference.rest().filter(|rest| product.batch(rest).is_some());
        let rest = rest.filter(|_| matches!(change, SupplyChange::Receipt(..)) && supplied.finished);
        let unfinished = last.filter(|_| !supplied.finished);
        Cut { declared: supplied.declared, rest, displaced: supplied.displaced, unfinished }
    }))
}

async fn change_eta<T: Transaction>(
    uow: &mut UnitOfWork<T>,
    sku: &Sku,
    reference: &BatchRef,
    to: Eta,
) -> StoreResult<Result<Cut, Rejection>> {
    let Some(product) = uow.product(sku) else { return Ok(Err(unknown_sku(sku))) };
    match product.eta_may_become(reference, to) {
        Ok(Answer::Same) => return Ok(Ok(Cut::NONE)),
        Ok(_) => {}
        Err(rejection) => return Ok(Err(rejection)),
    }
    if to.is_some() {
        // Whoever has a place in it is promised another day.
        uow.losers(sku, reference, None, usize::MAX).await?;
    }
    let changed = uow.product_mut(sku).expect("seen above").change_batch_eta(reference, to);
    Ok(changed.map(|(declared, displaced)| Cut { declared, displaced, ..Cut::NONE }))
}

async fn change_expiry<T: Transaction>(
    uow: &mut UnitOfWork<T>,
    sku: &Sku,
    reference: &BatchRef,
    to: Option<Date>,
) -> StoreResult<Result<Cut, Rejection>> {
    let Some(product) = uow.product(sku) else { return Ok(Err(unknown_sku(sku))) };
    match product.expiry_may_become(reference, to) {
        Ok(Answer::Same) => return Ok(Ok(Cut::NONE)),
        Ok(_) => {}
        Err(rejection) => return Ok(Err(rejection)),
    }
    // It may no longer keep long enough for whoever has a place in it.
    uow.losers(sku, reference, None, usize::MAX).await?;
    let changed = uow.product_mut(sku).expect("seen above").change_expiry(reference, to);
    Ok(changed.map(|(declared, displaced)| Cut { declared, displaced, ..Cut::NONE }))
}

fn batch_reply<T: Transaction>(uow: &UnitOfWork<T>, sku: &Sku, reference: &BatchRef, cut: Cut) -> Reply {
    let product = uow.product(sku).expect("the command was about it");
    let displaced_total = cut.displaced.len() as u64;
    let mut displaced = cut.displaced;
    displaced.truncate(LISTED);
    Reply::Batch(BatchReply {
        sku: sku.clone(),
        batch: BatchView::from(product.batch(reference).expect("the command was about it")),
        declared: cut.declared,
        rest: cut.rest.and_then(|rest| product.batch(&rest)).map(BatchView::from),
        displaced,
        displaced_total,
        unfinished: cut.unfinished,
    })
}

// ---- Promises ----------------------------------------------------------------------------------------------------------

/// Promises an order's lines, or as much of them as its policy allows.
pub fn allocate<T: Transaction>(cmd: &Allocate, uow: &mut UnitOfWork<T>) -> Verdict {
    let unknown: Vec<Sku> =
        cmd.by_sku().map(|(sku, _)| sku).filter(|sku| uow.product(sku).is_none()).cloned().collect();
    if !unknown.is_empty() {
        return Err(Rejection::UnknownSku(unknown));
    }
    let plans = match plan(cmd, |sku| uow.product(sku)) {
        Ok(plans) => plans,
        Err(rejection) => return Err(refused(rejection, uow)),
    };
    uow.add_holds(plans.iter().map(|(_, plan)| plan.holds()).sum())?;
    let mut created = false;
    for (sku, plan) in plans {
        if !plan.is_empty() {
            created |= uow.product_mut(sku).expect("known, see above").apply(plan);
        }
    }
    let view = |line: &OrderLine| LineView::of(uow.product(&line.sku)?, &line.key);
    Ok(Reply::Order(OrderReply { created, lines: cmd.lines().iter().filter_map(view).collect() }))
}

/// Lets products that are short note it (rule 26).
fn refused<T: Transaction>(rejection: Rejection, uow: &mut UnitOfWork<T>) -> Rejection {
    if let Rejection::Short(shortages) = &rejection {
        for shortage in shortages {
            uow.product_mut(&shortage.sku).expect("a product that is short is at hand").refuse(shortage);
        }
    }
    rejection
}

/// What every product would do for an order; all of them agree.
///
/// # Errors
/// What speaks against it, over all products.
pub fn plan<'a, 'p>(
    cmd: &'a Allocate,
    product: impl Fn(&Sku) -> Option<&'p Product>,
) -> Result<Vec<(&'a Sku, Plan)>, Rejection> {
    let (mut plans, mut conflicts, mut shortages, mut full) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (sku, lines) in cmd.by_sku() {
        let product = product(sku).ok_or_else(|| unknown_sku(sku))?;
        match product.plan(lines, cmd.when_short, cmd.hold) {
            Decision::Accept(plan) => plans.push((sku, plan)),
            Decision::Conflict(found) => conflicts.extend(found),
            Decision::Short(shortage) => shortages.push(shortage),
            Decision::QueueFull(rejection) => full = full.or(Some(rejection)),
        }
    }
    if !conflicts.is_empty() {
        return Err(Rejection::LineConflict(conflicts));
    }
    let new = plans.iter().any(|(_, plan)| !plan.is_empty());
    if cmd.when_short == WhenShort::Partial && new && plans.iter().all(|(_, plan)| plan.gives_nothing()) {
        shortages = plans.iter_mut().filter_map(|(_, plan)| plan.shortage.take()).collect();
    }
    if !shortages.is_empty() {
        return Err(Rejection::Short(shortages));
    }
    full.map_or(Ok(plans), Err)
}

/// Lines of an order that are still its lines: those that were cancelled are not.
fn open_lines<T: Transaction>(uow: &UnitOfWork<T>, order_id: &OrderId) -> Result<Vec<(Sku, LineKey)>, Rejection> {
    let mut lines = uow.lines_of(order_id, None, None);
    if lines.is_empty() {
        return Err(Rejection::UnknownOrder(order_id.clone()));
    }
    let cancelled = |(sku, key): &(Sku, LineKey)| {
        let line = uow.product(sku).and_then(|product| product.line(key));
        line.is_some_and(|line| line.state() == LineState::Cancelled)
    };
    if !lines.iter().all(cancelled) {
        lines.retain(|line| !cancelled(line));
    }
    Ok(lines)
}

/// Makes the promises of an order's holds last, all or none.
pub fn confirm_hold<T: Transaction>(cmd: &ConfirmHold, uow: &mut UnitOfWork<T>) -> Verdict {
    let lines = open_lines(uow, &cmd.order_id)?;
    for (sku, key) in &lines {
        uow.product(sku).expect("its lines are at hand").may_confirm(key)?;
    }
    for (sku, key) in &lines {
        uow.product_mut(sku).expect("its lines are at hand").confirm(key)?;
    }
    Ok(order_reply(uow, &lines))
}

/// Lets an order's holds last longer. Lines of it that are promised for good stay as they are.
pub fn extend_hold<T: Transaction>(cmd: &ExtendHold, uow: &mut UnitOfWork<T>) -> Verdict {
    let lines = open_lines(uow, &cmd.order_id)?;
    let answers: Vec<Result<Answer, Rejection>> =
        lines.iter().map(|(sku, key)| uow.product(sku).expect("its lines are at hand").may_extend(key)).collect();
    let lapsed = |(sku, key): &(Sku, LineKey)| {
        let line = uow.product(sku).and_then(|product| product.line(key));
        line.is_some_and(|line| line.state() == LineState::Lapsed)
    };
    if (lines.iter().any(lapsed) || answers.iter().all(Result::is_err))
        && let Some(rejection) = answers.iter().find_map(|answer| answer.clone().err())
    {
        return Err(rejection);
    }
    for ((sku, key), answer) in lines.iter().zip(answers) {
        if answer.is_ok() {
            uow.product_mut(sku).expect("its lines are at hand").extend(key, cmd.hold)?;
        }
    }
    Ok(order_reply(uow, &lines))
}

/// Changes what a line asks for.
pub fn change_line<T: Transaction>(cmd: &ChangeLine, uow: &mut UnitOfWork<T>) -> Verdict {
    let product = uow
        .product(&cmd.sku)
        .ok_or_else(|| Rejection::UnknownLine { order_id: cmd.line.order_id.clone(), sku: cmd.sku.clone() })?;
    match product.with_line_changed(&cmd.line, &cmd.change) {
        Ok(None) => {}
        Ok(Some(changed)) => *uow.product_mut(&cmd.sku).expect("seen above") = changed,
        Err(rejection) => return Err(refused(rejection, uow)),
    }
    Ok(order_reply(uow, &[(cmd.sku.clone(), cmd.line.clone())]))
}

/// Cancels a line or a whole order; its units are free again.
pub fn deallocate<T: Transaction>(cmd: &Deallocate, uow: &mut UnitOfWork<T>) -> Verdict {
    let lines = uow.lines_of(&cmd.order_id, cmd.sku.as_ref(), cmd.line.as_ref());
    if lines.is_empty() {
        let order_id = cmd.order_id.clone();
        return Err(match &cmd.sku {
            Some(sku) => Rejection::UnknownLine { order_id, sku: sku.clone() },
            None => Rejection::UnknownOrder(order_id),
        });
    }
    // What has left is left out, unless there is nothing else (rule 24).
    let (mut open, mut shipped) = (Vec::with_capacity(lines.len()), None);
    for (sku, key) in &lines {
        let product = uow.product(sku).expect("its lines are at hand");
        match product.may_deallocate(key) {
            Ok(answer) => open.push((sku, key, answer)),
            Err(rejection) if product.line(key).is_some_and(|line| line.state() == LineState::Shipped) => {
                shipped = shipped.or(Some(rejection));
            }
            Err(rejection) => return Err(rejection),
        }
    }
    if let Some(rejection) = shipped.filter(|_| open.iter().all(|(.., answer)| *answer == Answer::Same)) {
        return Err(rejection);
    }
    for (sku, key, _) in open {
        uow.product_mut(sku).expect("its lines are at hand").deallocate(key)?;
    }
    Ok(order_reply(uow, &lines))
}

fn order_reply<T: Transaction>(uow: &UnitOfWork<T>, lines: &[(Sku, LineKey)]) -> Reply {
    let view = |(sku, key): &(Sku, LineKey)| LineView::of(uow.product(sku)?, key);
    Reply::Order(OrderReply { created: false, lines: lines.iter().filter_map(view).collect() })
}

// ---- Queue -------------------------------------------------------------------------------------------------------------

/// Stock may have become free: whoever waits gets it, by seniority (rule 10).
pub async fn serve_queue<T: Transaction>(sku: &Sku, uow: &mut UnitOfWork<T>) -> StoreResult<()> {
    let mut after = None;
    while let Some(product) = uow.product(sku).filter(|product| product.could_serve_queue()) {
        let waiting = uow.waiting(sku, product.largest_free(), after, QUEUE_PAGE).await?;
        let Some(last) = waiting.last() else { break };
        let product = uow.product_mut(sku).expect("seen above");
        after = product.line(&last.line).map(|line| line.seniority(last.accepted));
        product.serve(&waiting);
        if waiting.len() < QUEUE_PAGE {
            break;
        }
    }
    Ok(())
}

/// Moves promises to strictly earlier batches, by seniority (rule 12).
pub async fn improve<T: Transaction>(cmd: &Improve, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    if uow.product(&cmd.sku).is_none() {
        return Ok(Err(unknown_sku(&cmd.sku)));
    }
    improve_promises(&cmd.sku, uow).await?;
    let product = uow.product(&cmd.sku).expect("seen above").into();
    Ok(Ok(Reply::Product(ProductReply { declared: Declared::Changed, product })))
}

/// The same, where the product does it by itself.
pub async fn improve_promises<T: Transaction>(sku: &Sku, uow: &mut UnitOfWork<T>) -> StoreResult<()> {
    let from = uow.product(sku).map(Product::could_improve).unwrap_or_default();
    if from.is_empty() {
        return Ok(());
    }
    for reference in &from {
        uow.losers(sku, reference, None, usize::MAX).await?;
    }
    uow.product_mut(sku).expect("seen above").improve(&from);
    Ok(())
}

/// What is due was done when the product was loaded.
pub fn apply_due() -> Verdict {
    Ok(Reply::Done)
}

// ---- Books -------------------------------------------------------------------------------------------------------------

/// Mends a product's tables from its events, and notes that it did.
pub async fn repair_books<T: Transaction>(cmd: &RepairBooks, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    let books = uow.books(&cmd.sku).await?;
    let mut findings = Findings::default();
    verify::check(&books, &mut findings);
    if findings.balanced() {
        return Ok(Ok(Reply::Repaired(Vec::new())));
    }
    let (mended, balances) = match verify::product_told_by_events(&books) {
        Ok(mended) => mended,
        Err(why) => return Ok(Err(Rejection::LogInconsistent { sku: cmd.sku.clone(), why })),
    };
    uow.replace(mended, &balances).await?;
    let differences = findings.differences;
    uow.product_mut(&cmd.sku).expect("it was put there").note_repair(differences.len() as u64);
    Ok(Ok(Reply::Repaired(differences)))
}
