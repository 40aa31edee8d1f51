//! Imports CSV files: strictly in the file's order, many rows to a unit of work.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use allocation_domain::commands::{Allocate, DeclareBatch, Precondition, WhenShort};
use allocation_domain::product::Declared;
use allocation_domain::{BatchQuantity, BatchRef, Command, LineId, Location, OrderId, Quantity, Rejection, Sku, Terms};
use allocation_service_layer::handlers::{Reply, Verdict};
use allocation_service_layer::ports::database::Database;
use allocation_service_layer::wire::{Cause, parse_date};
use allocation_service_layer::{Message, MessageBus};
use csv::StringRecord;
use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;
use crate::bootstrap::Ambient;

/// How many commands go into one unit of work. More than a lane takes: nobody waits for the answer to a row.
const TOGETHER: usize = 2_048;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ref,sku,qty,eta`, and perhaps `expires_on` and `location`
    Batches,
    /// `order_id,sku,qty`; what to do with an order that there is not enough for.
    Orders(WhenShort),
}

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
            ", {refused} refused ({} out of stock, {} unknown SKU, {} conflicts), {} bad rows; {:.1} s",
            self.out_of_stock,
            self.unknown_sku,
            self.conflicts,
            self.bad_rows,
            self.took.as_secs_f64()
        )
    }
}

/// Imports a file; `-` is standard input. Refusals are counted, bad rows are reported on standard error with their line number.
pub(crate) async fn run<D: Database>(
    bus: &MessageBus<D>,
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
        bus,
        cause,
        waiting: Vec::with_capacity(TOGETHER),
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
    let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(bar.wrap_read(input));
    let columns = Columns::find(kind, rows.headers().map_err(|error| format!("{}: {error}", file.display()))?)?;
    let mut order: Option<OpenOrder> = None;
    let mut record = StringRecord::new();
    loop {
        let at = rows.position().line();
        match rows.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) if error.is_io_error() => return Err(format!("{}: {error}", file.display()).into()),
            Err(error) => {
                // Whose row it was can't be told: the order at hand counts as broken.
                import.bad(&bar, error.position().map_or(at, csv::Position::line), &error);
                if let Some(order) = &mut order {
                    order.broken = true;
                }
                continue;
            }
        }
        let at = record.position().map_or(at, csv::Position::line);
        match kind {
            Kind::Batches => match columns.batch(&record) {
                Ok(batch) => import.push(Command::DeclareBatch(batch)).await?,
                Err(why) => import.bad(&bar, at, &why),
            },
            Kind::Orders(_) => {
                let id = columns.text(&record, 0);
                if order.as_ref().is_some_and(|order| order.id != id) {
                    import.close(&bar, order.take()).await?;
                }
                let order = order.get_or_insert_with(|| OpenOrder::new(id, at));
                match columns.line(&record) {
                    Ok(line) => order.lines.push(line),
                    Err(why) => {
                        order.broken = true;
                        import.bad(&bar, at, &why);
                    }
                }
            }
        }
    }
    import.close(&bar, order).await?;
    import.flush().await?;
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

/// Adjacent rows of one order.
struct OpenOrder {
    id: String,
    first_row: u64,
    lines: Vec<(Sku, LineId, Quantity, Terms)>,
    /// A bad row skips its order.
    broken: bool,
}

impl OpenOrder {
    fn new(id: &str, first_row: u64) -> Self {
        Self { id: id.to_owned(), first_row, lines: Vec::new(), broken: false }
    }
}

/// Where the columns of a file are.
struct Columns(Vec<Option<usize>>);

impl Columns {
    fn find(kind: Kind, headers: &StringRecord) -> Result<Self, Failure> {
        let (needed, optional): (&[&str], &[&str]) = match kind {
            Kind::Batches => (&["ref", "sku", "qty"], &["eta", "expires_on", "location"]),
            Kind::Orders(_) => (&["order_id", "sku", "qty"], &[]),
        };
        let place = |name: &&str| headers.iter().position(|header| header.trim_start_matches('\u{feff}') == *name);
        if let Some(missing) = needed.iter().find(|name| place(name).is_none()) {
            return Err(format!("the file has no column `{missing}`; it needs {}", needed.join(", ")).into());
        }
        Ok(Self(needed.iter().chain(optional).map(place).collect()))
    }

    fn text<'r>(&self, record: &'r StringRecord, column: usize) -> &'r str {
        self.0[column].and_then(|place| record.get(place)).unwrap_or_default()
    }

    fn number(&self, record: &StringRecord, column: usize) -> Result<u64, String> {
        let text = self.text(record, column);
        text.parse().map_err(|_| format!("qty {text:?} is no whole number"))
    }

    fn sku(&self, record: &StringRecord) -> Result<Sku, String> {
        Sku::new(self.text(record, 1)).map_err(|error| format!("sku {error}"))
    }

    fn batch(&self, record: &StringRecord) -> Result<DeclareBatch, String> {
        let date = |name: &str, column: usize| match self.text(record, column) {
            "" => Ok(None),
            text => parse_date(text).map(Some).ok_or_else(|| format!("{name} {text:?} is no date like 2011-01-02")),
        };
        let (eta, expires_on) = (date("eta", 3)?, date("expires_on", 4)?);
        Ok(DeclareBatch {
            sku: self.sku(record)?,
            reference: BatchRef::new(self.text(record, 0)).map_err(|error| format!("ref {error}"))?,
            qty: BatchQuantity::new(self.number(record, 2)?).map_err(|error| format!("qty {error}"))?,
            // A file with the column says of every batch whether it has arrived, or expires.
            eta: self.0[3].map(|_| eta),
            expires_on: self.0[4].map(|_| expires_on),
            location: match self.text(record, 5) {
                "" => None,
                name => Some(Location::new(name).map_err(|error| format!("location {error}"))?),
            },
            precondition: Precondition::None,
        })
    }

    fn line(&self, record: &StringRecord) -> Result<(Sku, LineId, Quantity, Terms), String> {
        OrderId::new(self.text(record, 0)).map_err(|error| format!("order_id {error}"))?;
        let qty = Quantity::new(self.number(record, 2)?).map_err(|error| format!("qty {error}"))?;
        Ok((self.sku(record)?, LineId::default(), qty, Terms::default()))
    }
}

struct Import<'a, D> {
    bus: &'a MessageBus<D>,
    cause: Cause,
    waiting: Vec<Message>,
    summary: Summary,
}

impl<D: Database> Import<'_, D> {
    fn bad(&mut self, bar: &ProgressBar, at: u64, why: &dyn fmt::Display) {
        self.summary.bad_rows += 1;
        bar.suspend(|| eprintln!("line {at}: {why}"));
    }

    /// The order is complete.
    async fn close(&mut self, bar: &ProgressBar, order: Option<OpenOrder>) -> Result<(), Failure> {
        let Some(OpenOrder { id, first_row, lines, broken: false }) = order else { return Ok(()) };
        let when_short = match self.summary.kind {
            Kind::Orders(when_short) => when_short,
            Kind::Batches => WhenShort::default(),
        };
        let command = OrderId::new(id).map_err(|error| error.to_string()).and_then(|id| {
            let mut command = Allocate::new(id, lines).map_err(|error| error.to_string())?;
            command.when_short = when_short;
            Ok(command)
        });
        match command {
            Ok(command) => self.push(Command::Allocate(command)).await?,
            Err(why) => self.bad(bar, first_row, &why),
        }
        Ok(())
    }

    async fn push(&mut self, command: Command) -> Result<(), Failure> {
        self.waiting.push(Message::new(command, self.cause.clone()));
        if self.waiting.len() >= TOGETHER { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        for verdict in self.bus.handle_batch(&self.waiting).await {
            self.count(&verdict?);
        }
        self.waiting.clear();
        Ok(())
    }

    fn count(&mut self, verdict: &Verdict) {
        let summary = &mut self.summary;
        let counter = match verdict {
            Ok(Reply::Batch(reply)) => match reply.declared {
                Declared::New => &mut summary.new,
                Declared::Changed => &mut summary.changed,
                Declared::Same => &mut summary.same,
            },
            Ok(Reply::Order(reply)) if reply.created => &mut summary.new,
            Ok(_) => &mut summary.same,
            Err(Rejection::Short(_)) => &mut summary.out_of_stock,
            Err(Rejection::UnknownSku(_)) => &mut summary.unknown_sku,
            Err(_) => &mut summary.conflicts,
        };
        *counter += 1;
    }
}
