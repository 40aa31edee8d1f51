//! The internal message bus: routes commands and events to their handlers, each inside a unit of work.

mod ahead;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use allocation_domain::{Command, Event, PartKey, Product, Rejection, Sku};
use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::watch;

pub use self::ahead::{Ahead, Decided};
use crate::failpoints::Failpoint;
use crate::handlers::{self, BatchReply, Reply, Verdict};
use crate::kept::KeptProducts;
use crate::metrics::{CommandLabels, Limit, Metrics, Outcome};
use crate::ports::clock::{Clock, Entropy};
use crate::ports::database::{Database, RequestKey, Selection, StoreError, StoreResult, Transaction};
use crate::ports::reader::Foresight;
use crate::strand::Strand;
use crate::unit_of_work::{Committed, UnitOfWork, Wanted};
use crate::usual::Usual;
use crate::wire::Cause;

/// A command, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What is to be done.
    pub command: Command,
    /// Who wants it.
    pub cause: Cause,
    /// The caller's name for it, if its effect has no natural key: what was done under this name is not done again.
    pub key: Option<RequestKey>,
    /// Where a large cut goes on that was begun in an earlier unit of work.
    pub resume: Option<Resume>,
    /// What it must not overtake.
    pub strand: Option<Strand>,
}

/// How far a large cut has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The last units that lost their place.
    pub after: PartKey,
    /// What the batch's declaration was then.
    pub revision: u64,
}

impl Message {
    /// A command that was not begun yet.
    pub fn new(command: Command, cause: Cause) -> Self {
        Self { command, cause, key: None, resume: None, strand: None }
    }

    /// The same under a name of the caller's.
    #[must_use]
    pub fn with_key(self, key: RequestKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same as one of several that have their effect in order.
    #[must_use]
    pub fn on_strand(self, strand: Strand) -> Self {
        Self { strand: Some(strand), ..self }
    }

    /// Whether one before it has failed or is not done, so that it has to wait.
    pub fn must_wait(&self) -> bool {
        self.strand.as_ref().is_some_and(Strand::is_broken)
    }

    /// What is left of the command after a unit of work that gave this verdict; `None` when it is done.
    pub fn rest(&self, verdict: &Verdict) -> Option<Self> {
        match verdict {
            Ok(Reply::Batch(BatchReply { unfinished: Some(last), batch, .. })) => {
                let resume = Some(Resume { after: last.clone(), revision: batch.revision });
                // Those behind it wait for it, not it for itself.
                Some(Self { resume, strand: None, ..self.clone() })
            }
            _ => None,
        }
    }

    /// Has those behind it wait that must not overtake it, if it is not done.
    fn keep_back_until_done(&self, verdict: &Verdict) {
        if let Some(strand) = &self.strand
            && !is_done(verdict)
        {
            strand.tear();
        }
    }
}

/// How often a unit of work is tried again after a conflict.
const ATTEMPTS: u32 = 12;

/// What is behind a command that needs further units of work, and therefore not begun in the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// All that comes after it.
    All,
    /// What is on its strand.
    OnItsStrand,
}

/// The longest pause before trying again.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Routes messages to handlers; opens, commits and repeats their units of work.
pub struct MessageBus<D> {
    database: D,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Metrics,
    usual: Arc<Usual>,
    /// The most holds that an API key may have in force.
    most_holds: Option<u64>,
    committed: watch::Sender<()>,
    kept: Arc<KeptProducts>,
}

impl<D: Database> MessageBus<D> {
    /// A bus over this store.
    pub fn new(database: D, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, metrics: Metrics) -> Self {
        let (usual, committed, kept) = (Arc::default(), watch::Sender::new(()), Arc::default());
        Self { database, clock, entropy, metrics, usual, most_holds: None, committed, kept }
    }

    /// The same with something else that holds for products that say nothing of it.
    #[must_use]
    pub fn with_usual(self, usual: Usual) -> Self {
        Self { usual: Arc::new(usual), ..self }
    }

    /// The same with no more than so many holds in force for each API key; none: any number.
    #[must_use]
    pub fn with_most_holds(self, most_holds: Option<u64>) -> Self {
        Self { most_holds, ..self }
    }

    /// Is told whenever a unit of work has been committed.
    pub fn committed(&self) -> watch::Receiver<()> {
        self.committed.subscribe()
    }

    /// What it counts with.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What it measures time with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Handles one message to the end.
    pub async fn handle(&self, message: Message) -> StoreResult<Verdict> {
        self.handle_batch(&[message]).await.pop().expect("one message has one verdict")
    }

    /// Handles messages in order, together in one unit of work, and gives each its own verdict: one's rejection does not touch its
    /// neighbours. A command that needs several units of work goes on until it is done, and those behind it come after that.
    pub async fn handle_batch(&self, messages: &[Message]) -> Vec<StoreResult<Verdict>> {
        self.handle_batch_ahead(messages, Ahead::NotTried).await
    }

    /// The same for commands that were decided ahead, if that could be done.
    pub async fn handle_batch_ahead(&self, messages: &[Message], mut ahead: Ahead<D::Tx>) -> Vec<StoreResult<Verdict>> {
        let mut verdicts = Vec::with_capacity(messages.len());
        while verdicts.len() < messages.len() {
            let ahead = std::mem::take(&mut ahead);
            let begun = self.handle_some(&messages[verdicts.len()..], Behind::All, ahead).await;
            verdicts.extend(begun.into_iter().map_while(Result::transpose));
            let last = verdicts.len() - 1;
            while let Ok(done) = &verdicts[last]
                && let Some(rest) = messages[last].rest(done)
            {
                let next = self.handle_some(&[rest], Behind::All, Ahead::NotTried).await.pop();
                let next = next.and_then(StoreResult::transpose).expect("nothing is before it");
                verdicts[last] = next.map(|next| handlers::joined(done.clone(), next));
            }
        }
        verdicts
    }

    /// The same for commands that came from several callers: what needs further units of work is left unfinished, and those wait that must not
    /// overtake it.
    pub async fn handle_once(&self, messages: &[Message], ahead: Ahead<D::Tx>) -> Vec<StoreResult<Verdict>> {
        let begun = self.handle_some(messages, Behind::OnItsStrand, ahead).await;
        begun.into_iter().map(|verdict| verdict?.ok_or_else(must_wait)).collect()
    }

    /// Handles messages in one unit of work; no verdict: it was not begun, as it is behind one that is not done.
    async fn handle_some(
        &self,
        messages: &[Message],
        behind: Behind,
        ahead: Ahead<D::Tx>,
    ) -> Vec<StoreResult<Option<Verdict>>> {
        if messages.is_empty() {
            return Vec::new();
        }
        let started = self.clock.monotonic();
        let verdicts: Vec<StoreResult<Option<Verdict>>> = match self.attempt(messages, behind, ahead).await {
            Ok(verdicts) => {
                for (message, verdict) in messages.iter().zip(&verdicts) {
                    if let Some(verdict) = verdict {
                        message.keep_back_until_done(verdict);
                    }
                }
                verdicts.into_iter().map(Ok).collect()
            }
            // A bad one must not take the others with it.
            Err(StoreError::Failed(_)) if messages.len() > 1 => {
                let mut verdicts = Vec::with_capacity(messages.len());
                let mut held_up = false;
                for message in messages {
                    let verdict = if held_up { Ok(None) } else { self.by_itself(message).await.map(Some) };
                    if let Ok(Some(verdict)) = &verdict {
                        message.keep_back_until_done(verdict);
                        held_up = behind == Behind::All && !is_done(verdict);
                    }
                    verdicts.push(verdict);
                }
                verdicts
            }
            Err(error) => messages.iter().map(|message| Err(failed(message, error.clone()))).collect(),
        };
        #[expect(clippy::cast_precision_loss, reason = "a count of commands")]
        self.metrics.batch_size.observe(messages.len() as f64);
        self.metrics.unit_of_work_seconds.observe(self.clock.monotonic().saturating_sub(started).as_secs_f64());
        for (message, verdict) in messages.iter().zip(&verdicts) {
            let outcome = match verdict {
                Ok(None) => continue,
                Ok(Some(Ok(_))) => Outcome::done,
                Ok(Some(Err(rejection))) => {
                    if let Rejection::TooManyHolds { .. } = rejection {
                        self.metrics.bit(Limit::holds_per_key);
                    }
                    Outcome::rejected
                }
                Err(_) => Outcome::failed,
            };
            let command = name(&message.command);
            self.metrics.commands.get_or_create(&CommandLabels { command, outcome }).inc();
        }
        verdicts
    }

    /// Handles one message of several that have failed together.
    async fn by_itself(&self, message: &Message) -> StoreResult<Verdict> {
        if message.must_wait() {
            return Err(must_wait());
        }
        let verdict = self.attempt(std::slice::from_ref(message), Behind::All, Ahead::NotTried).await;
        verdict.map(|mut one| one.remove(0).expect("nothing is before it")).map_err(|error| failed(message, error))
    }

    /// Runs a unit of work, again after each conflict.
    async fn attempt(
        &self,
        messages: &[Message],
        behind: Behind,
        mut ahead: Ahead<D::Tx>,
    ) -> StoreResult<Vec<Option<Verdict>>> {
        let mut tried = 0;
        loop {
            let ahead = std::mem::take(&mut ahead);
            // A panic is a defect; it must not end the lane and with it the service.
            let run = AssertUnwindSafe(self.unit_of_work(messages, behind, ahead)).catch_unwind().await;
            match run.unwrap_or_else(|_| Err(StoreError::Failed("a handler panicked".into()))) {
                Err(StoreError::Conflict(_)) if tried < ATTEMPTS => {
                    tried += 1;
                    self.metrics.retries.inc();
                    let most = Duration::from_millis(2).saturating_mul(1 << tried).min(LONGEST_PAUSE);
                    tokio::time::sleep(self.entropy.jitter(most)).await;
                }
                Err(error) => {
                    tracing::error!(%error, commands = messages.len(), "unit of work failed");
                    return Err(error);
                }
                Ok(verdicts) => return Ok(verdicts),
            }
        }
    }

    async fn unit_of_work(
        &self,
        messages: &[Message],
        behind: Behind,
        ahead: Ahead<D::Tx>,
    ) -> StoreResult<Vec<Option<Verdict>>> {
        let decided = match ahead {
            Ahead::NotTried => self.decide_ahead(None, messages),
            Ahead::InVain => None,
            Ahead::Decided(decided) => Some(decided),
        };
        if let Some(decided) = decided
            && let Some(verdicts) = self.write_decided(*decided).await?
        {
            return Ok(verdicts);
        }
        let basis = self.kept.basis();
        let mut uow = self.begin(Wanted::of(messages.iter().map(|message| &message.command))).await?;
        let watch = self.clock.monotonic();
        uow.bring_keys(messages.iter().filter_map(|message| message.key.as_ref())).await?;
        uow.bring_holds(messages.iter().filter(|message| holds(&message.command)).map(|message| &message.cause.actor))
            .await?;
        Failpoint::UnitLoaded.pass();
        let verdicts = handle_in(&mut uow, messages, behind).await?;
        let committed = self.commit(uow).await?;
        // About no product at all, a store need not have been asked for the time.
        if !committed.products.is_empty() {
            self.kept.read(committed.at, watch);
        }
        self.kept.put(&committed.products, basis);
        self.note(committed.anything);
        Ok(verdicts)
    }

    async fn commit(&self, uow: UnitOfWork<D::Tx>) -> StoreResult<Committed> {
        let started = self.clock.monotonic();
        let committed = uow.commit().await?;
        self.metrics.commit_seconds.observe(self.clock.monotonic().saturating_sub(started).as_secs_f64());
        Ok(committed)
    }

    /// A unit of work has ended well, and had something to write or not.
    fn note(&self, anything: bool) {
        if anything {
            self.metrics.commits.inc();
            self.committed.send_replace(());
        }
    }

    async fn open(&self) -> StoreResult<UnitOfWork<D::Tx>> {
        let uow = UnitOfWork::new(self.database.begin().await?, self.entropy.clone(), self.usual.clone());
        Ok(uow.with_most_holds(self.most_holds))
    }

    /// A unit of work with all that is wanted at hand, and in it done what is due (rule 13).
    async fn begin(&self, wanted: Wanted) -> StoreResult<UnitOfWork<D::Tx>> {
        let mut uow = self.open().await?;
        uow.load(wanted).await?;
        let due = uow.do_what_is_due().await?;
        let served = uow.served_by_the_day();
        if due || !served.is_empty() {
            let correlation = self.entropy.uuid(self.clock.now()).to_string().into();
            uow.caused_by(&Cause { correlation, actor: "clock".into(), traceparent: None });
            for sku in served {
                handlers::serve_queue(&sku, &mut uow).await?;
            }
            settle(&mut uow).await?;
        }
        Ok(uow)
    }
}

/// Handles messages in order, each with all that follows from it, but for those that are behind one that is not done.
async fn handle_in<T: Transaction>(
    uow: &mut UnitOfWork<T>,
    messages: &[Message],
    behind: Behind,
) -> StoreResult<Vec<Option<Verdict>>> {
    let mut verdicts = Vec::with_capacity(messages.len());
    let mut unfinished: Vec<&Message> = Vec::new();
    for message in messages {
        let waits =
            |first: &&Message| behind == Behind::All || (first.strand.is_some() && first.strand == message.strand);
        if unfinished.iter().any(waits) {
            verdicts.push(None);
            continue;
        }
        uow.caused_by(&message.cause);
        let mut verdict = once(message, uow).await?;
        if settle(uow).await? {
            handlers::refresh(&mut verdict, uow);
        }
        if !is_done(&verdict) {
            unfinished.push(message);
        }
        verdicts.push(Some(verdict));
    }
    Ok(verdicts)
}

/// Whether a command needs no further unit of work.
fn is_done(verdict: &Verdict) -> bool {
    !matches!(verdict, Ok(Reply::Batch(BatchReply { unfinished: Some(_), .. })))
}

/// Why a command behind another was not begun.
fn must_wait() -> StoreError {
    StoreError::Unavailable("a command before it has failed or is not done".into())
}

/// The store has failed a message: those after it have to wait.
fn failed(message: &Message, error: StoreError) -> StoreError {
    if let Some(strand) = &message.strand {
        strand.tear();
    }
    error
}

#[async_trait]
impl<D: Database> Foresight for MessageBus<D> {
    async fn foresee(&self, skus: &[Sku]) -> StoreResult<Vec<Product>> {
        let selection = Selection { skus: skus.iter().cloned().collect(), ..Selection::default() };
        let uow = self.begin(Wanted { selection, orders: Vec::new() }).await?;
        uow.abandon().await
    }

    fn usual(&self) -> &Usual {
        &self.usual
    }
}

/// Has the events raised handled, and those that this raises, until none is left. `true`: stock was free for those who wait, so that things
/// may not be as the command left them.
async fn settle<T: Transaction>(uow: &mut UnitOfWork<T>) -> StoreResult<bool> {
    let mut stock_was_free = false;
    let mut events = uow.gather();
    while !events.is_empty() {
        for sku in stock_freed(&events) {
            stock_was_free = true;
            handlers::serve_queue(&sku, uow).await?;
            if uow.product(&sku).is_some_and(|product| product.settings().auto_improve) {
                handlers::improve_promises(&sku, uow).await?;
            }
        }
        events = uow.gather();
    }
    uow.watch_levels();
    Ok(stock_was_free)
}

/// Does a command's job, unless it was done under the caller's name for it: then it is answered with the present state. A refused command is
/// not remembered, since nothing has changed.
async fn once<T: Transaction>(message: &Message, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    let Some(key) = &message.key else { return dispatch(message, uow).await };
    match uow.content_of(&key.key) {
        Some(content) if content == key.content => return Ok(handlers::as_it_is(&message.command, uow)),
        Some(_) => return Ok(Err(Rejection::KeyReused(key.key.to_string()))),
        None => {}
    }
    let verdict = dispatch(message, uow).await?;
    // Of a command that needs several units of work, the last remembers it: whoever dies between them begins again.
    if verdict.is_ok() && is_done(&verdict) {
        uow.remember_key(key.clone());
    }
    Ok(verdict)
}

/// Which handler does a command's job.
async fn dispatch<T: Transaction>(message: &Message, uow: &mut UnitOfWork<T>) -> StoreResult<Verdict> {
    let resumed = message.resume.as_ref();
    let resume = resumed.map(|resume| &resume.after);
    match &message.command {
        Command::SetProduct(cmd) => handlers::set_product(cmd, uow).await,
        Command::CreateBatch(cmd) => Ok(handlers::create_batch(cmd, uow)),
        Command::DeclareBatch(cmd) => handlers::declare_batch(cmd, resumed, uow).await,
        Command::ChangeBatchQuantity(cmd) => handlers::change_batch_quantity(cmd, resume, uow).await,
        Command::ChangeBatchEta(cmd) => handlers::change_batch_eta(cmd, uow).await,
        Command::ReceiveBatch(cmd) => handlers::receive_batch(cmd, resume, uow).await,
        Command::CancelBatch(cmd) => handlers::cancel_batch(cmd, resume, uow).await,
        Command::AdjustBatch(cmd) => handlers::adjust_batch(cmd, uow).await,
        Command::QuarantineBatch(cmd) => handlers::quarantine_batch(cmd, uow).await,
        Command::ReleaseBatch(cmd) => Ok(handlers::release_batch(cmd, uow)),
        Command::Transfer(cmd) => Ok(handlers::transfer(cmd, uow)),
        Command::Allocate(cmd) => Ok(handlers::allocate(cmd, uow)),
        Command::ConfirmHold(cmd) => Ok(handlers::confirm_hold(cmd, uow)),
        Command::ExtendHold(cmd) => Ok(handlers::extend_hold(cmd, uow)),
        Command::ChangeLine(cmd) => Ok(handlers::change_line(cmd, uow)),
        Command::Deallocate(cmd) => Ok(handlers::deallocate(cmd, uow)),
        Command::Pick(cmd) => Ok(handlers::pick(cmd, uow)),
        Command::Unpick(cmd) => Ok(handlers::unpick(cmd, uow)),
        Command::Ship(cmd) => handlers::ship(cmd, uow).await,
        Command::Return(cmd) => handlers::take_return(cmd, uow).await,
        Command::Improve(cmd) => handlers::improve(cmd, uow).await,
        Command::ApplyDue(_) => Ok(handlers::apply_due()),
        Command::RepairBooks(cmd) => handlers::repair_books(cmd, uow).await,
    }
}

/// For which products events call [`handlers::serve_queue`], each once.
fn stock_freed(events: &[(Sku, Event)]) -> BTreeSet<Sku> {
    events.iter().filter(|(_, event)| event.may_serve_queue()).map(|(sku, _)| sku.clone()).collect()
}

/// Whether a command asks for a hold.
fn holds(command: &Command) -> bool {
    matches!(command, Command::Allocate(order) if order.hold.is_some())
}

/// The command's name on the wire and in metrics.
pub fn name(command: &Command) -> &'static str {
    match command {
        Command::SetProduct(_) => "set_product",
        Command::CreateBatch(_) => "create_batch",
        Command::DeclareBatch(_) => "declare_batch",
        Command::ChangeBatchQuantity(_) => "change_batch_quantity",
        Command::ChangeBatchEta(_) => "change_batch_eta",
        Command::ReceiveBatch(_) => "receive_batch",
        Command::CancelBatch(_) => "cancel_batch",
        Command::AdjustBatch(_) => "adjust_batch",
        Command::QuarantineBatch(_) => "quarantine_batch",
        Command::ReleaseBatch(_) => "release_batch",
        Command::Transfer(_) => "transfer",
        Command::Allocate(_) => "allocate",
        Command::ConfirmHold(_) => "confirm_hold",
        Command::ExtendHold(_) => "extend_hold",
        Command::ChangeLine(_) => "change_line",
        Command::Deallocate(_) => "deallocate",
        Command::Pick(_) => "pick",
        Command::Unpick(_) => "unpick",
        Command::Ship(_) => "ship",
        Command::Return(_) => "return",
        Command::Improve(_) => "improve",
        Command::ApplyDue(_) => "apply_due",
        Command::RepairBooks(_) => "repair_books",
    }
}
