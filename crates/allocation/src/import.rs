//! Imports CSV files: strictly in the file's order, many rows to a unit of work.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use allocation_domain::product::Declared;
use allocation_domain::{Command, Rejection};
use allocation_entrypoints::files::{BadFile, FileCommands, Kind};
use allocation_service_layer::handlers::{Reply, Verdict};
use allocation_service_layer::message_bus::Ahead;
use allocation_service_layer::ports::database::{Database, StoreResult};
use allocation_service_layer::wire::Cause;
use allocation_service_layer::{Message, MessageBus, message_bus};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::bootstrap::Ambient;

/// How many commands go into one unit of work. More than a lane takes: nobody waits for the answer to a row.
const TOGETHER: usize = 2_048;

/// What came of an import.
#[derive(Debug)]
pub(crate) struct Summary {
    kind: Kind,
    new: u64,
    changed: u64,
    same: u64,
    out_of_stock: u64,
    unknown_sku: u64,
    conflicts: u64,
    /// Rows that could not be read.
    pub(crate) bad_rows: u64,
    took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.out_of_stock + self.unknown_sku + self.conflicts;
        let all = self.new + self.changed + self.same + refused;
        match self.kind {
            Kind::Batches => {
                write!(f, "{all} batches: {} new, {} changed, {} the same", self.new, self.changed, self.same)?;
            }
            Kind::Orders(_) => write!(f, "{all} orders: {} promised, {} known already", self.new, self.same)?,
        }
        write!(
            f,
            ", {refused} refused ({} out of stock, {} unknown SKU, {} for other reasons), {} bad rows; {:.1} s",
            self.out_of_stock,
            self.unknown_sku,
            self.conflicts,
            self.bad_rows,
            self.took.as_secs_f64()
        )
    }
}

impl Summary {
    fn count(&mut self, verdict: &Verdict) {
        let counter = match verdict {
            Ok(Reply::Batch(reply)) => match reply.declared {
                Declared::New => &mut self.new,
                Declared::Changed => &mut self.changed,
                Declared::Same => &mut self.same,
            },
            Ok(Reply::Order(reply)) if reply.created => &mut self.new,
            Ok(_) => &mut self.same,
            Err(Rejection::Short(_)) => &mut self.out_of_stock,
            Err(Rejection::UnknownSku(_)) => &mut self.unknown_sku,
            Err(_) => &mut self.conflicts,
        };
        *counter += 1;
    }
}

/// Imports a file; `-` is standard input. What is refused is counted, and named on standard error; so are bad rows, with their line number, and columns that
/// are not read.
pub(crate) async fn run<D: Database>(
    bus: MessageBus<D>,
    ambient: &Ambient,
    kind: Kind,
    file: &Path,
) -> Result<Summary, Failure> {
    let started = ambient.clock.monotonic();
    let named = |error: io::Error| format!("{}: {error}", file.display());
    let (input, bytes): (Box<dyn Read + Send>, Option<u64>) = if file == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let opened = File::open(file).map_err(named)?;
        let bytes = opened.metadata().map_err(named)?.len();
        (Box::new(opened), Some(bytes))
    };
    let bar = progress(bytes);
    let cause = Cause {
        correlation: ambient.entropy.uuid(ambient.clock.now()).to_string().into(),
        actor: "import".into(),
        traceparent: None,
    };
    let mut import = Import {
        bus: Arc::new(bus),
        bar: bar.clone(),
        cause,
        waiting: Vec::with_capacity(TOGETHER),
        under_way: None,
        summary: Summary {
            kind,
            new: 0,
            changed: 0,
            same: 0,
            out_of_stock: 0,
            unknown_sku: 0,
            conflicts: 0,
            bad_rows: 0,
            took: Duration::ZERO,
        },
    };
    let commands =
        FileCommands::read(kind, bar.wrap_read(input)).map_err(|error| format!("{}: {error}", file.display()))?;
    if !commands.ignored_columns().is_empty() {
        bar.suspend(|| {
            eprintln!("columns that mean nothing here are not read: {}", commands.ignored_columns().join(", "));
        });
    }
    for command in commands {
        match command {
            Ok(command) => import.push(command).await?,
            Err(bad @ BadFile::Row { .. }) => {
                import.summary.bad_rows += 1;
                bar.suspend(|| eprintln!("{bad}"));
            }
            Err(error) => {
                import.end_what_is_under_way().await?;
                return Err(format!("{}: {error}", file.display()).into());
            }
        }
    }
    import.flush().await?;
    import.end_what_is_under_way().await?;
    bar.finish_and_clear();
    import.summary.took = ambient.clock.monotonic().saturating_sub(started);
    Ok(import.summary)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    match bytes {
        Some(bytes) => {
            let bar = ProgressBar::new(bytes);
            let style = ProgressStyle::with_template("{bar:40} {percent}%  {binary_bytes_per_sec}  {eta} left");
            style.map_or(bar.clone(), |style| bar.with_style(style))
        }
        None => ProgressBar::new_spinner(),
    }
}

struct Import<D> {
    bus: Arc<MessageBus<D>>,
    bar: ProgressBar,
    cause: Cause,
    waiting: Vec<Message>,
    under_way: Option<UnderWay>,
    summary: Summary,
}

/// Commands that are being handled while more of the file is read.
struct UnderWay {
    handled: JoinHandle<(Vec<Message>, Vec<StoreResult<Verdict>>)>,
    /// Whether what follows can be decided meanwhile.
    built_on: bool,
}

impl<D: Database> Import<D> {
    async fn push(&mut self, command: Command) -> Result<(), Failure> {
        self.waiting.push(Message::new(command, self.cause.clone()));
        if self.waiting.len() >= TOGETHER { self.flush().await } else { Ok(()) }
    }

    /// Has what waits handled, after what is under way. It is decided before that has ended, if it can be: this saves most of the time that deciding takes.
    async fn flush(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.under_way.as_ref().is_some_and(|before| !before.built_on) {
            self.end_what_is_under_way().await?;
        }
        let messages = std::mem::replace(&mut self.waiting, Vec::with_capacity(TOGETHER));
        let mut ahead = match self.bus.decide_ahead(None, &messages) {
            Some(decided) => Ahead::Decided(decided),
            None => Ahead::InVain,
        };
        self.end_what_is_under_way().await?;
        let built_on = if let Ahead::Decided(decided) = &mut ahead {
            self.bus.build_on(decided);
            true
        } else {
            false
        };
        let bus = self.bus.clone();
        let handled = tokio::spawn(async move {
            let verdicts = bus.handle_batch_ahead(&messages, ahead).await;
            (messages, verdicts)
        });
        self.under_way = Some(UnderWay { handled, built_on });
        Ok(())
    }

    async fn end_what_is_under_way(&mut self) -> Result<(), Failure> {
        let Some(UnderWay { handled, .. }) = self.under_way.take() else { return Ok(()) };
        let (messages, verdicts) = handled.await?;
        for (message, verdict) in messages.iter().zip(verdicts) {
            let verdict = verdict?;
            if let Err(rejection) = &verdict {
                let named = match &message.command {
                    Command::Allocate(order) => format!("order {}", order.order_id()),
                    Command::DeclareBatch(batch) => format!("batch {} of SKU {}", batch.reference, batch.sku),
                    other => message_bus::name(other).to_owned(),
                };
                self.bar.suspend(|| eprintln!("{named}: {rejection}"));
            }
            self.summary.count(&verdict);
        }
        Ok(())
    }
}
