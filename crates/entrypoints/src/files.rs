//! CSV files: rows in, commands out, in the file's order.

use std::collections::VecDeque;
use std::io::{self, Read};

use allocation_domain::commands::{Allocate, DeclareBatch, Precondition, WhenShort};
use allocation_domain::{BatchQuantity, BatchRef, Command, LineId, Location, OrderId, Quantity, Sku, Terms};
use allocation_service_layer::wire::parse_date;
use csv::StringRecord;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ref,sku,qty,eta`, and perhaps `expires_on` and `location`
    Batches,
    /// `order_id,sku,qty`; what to do with an order that there is not enough for. Rows of one order follow each other.
    Orders(WhenShort),
}

/// Why a file, or a row of it, can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// The file can't be read on.
    #[error(transparent)]
    Unreadable(io::Error),
    /// It does not say what it should: a column's name, and those that are needed.
    #[error("the file has no column `{missing}`; it needs {}", needed.join(", "))]
    NoColumn {
        /// The first that is missing.
        missing: &'static str,
        /// All that are needed.
        needed: &'static [&'static str],
    },
    /// It says something twice.
    #[error("the file has two columns `{0}`")]
    ColumnTwice(&'static str),
    /// A row that says nothing. Those after it may do.
    #[error("line {line}: {why}")]
    Row {
        /// Where it is, from 1 on, the heading counted too.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// What a row says, or what is wrong with it.
type Said<T> = Result<T, String>;

/// The commands that a file says, one after the other.
pub struct FileCommands<R> {
    kind: Kind,
    rows: csv::Reader<R>,
    columns: Columns,
    /// Where a row is put, so that no row needs room of its own.
    record: StringRecord,
    /// The order whose rows are being read.
    order: Option<OpenOrder>,
    /// What was read and not given yet.
    ready: VecDeque<Result<Command, BadFile>>,
    ended: bool,
}

/// Adjacent rows of one order.
struct OpenOrder {
    id: String,
    first_row: u64,
    lines: Vec<(Sku, LineId, Quantity, Terms)>,
    /// A bad row skips its order.
    broken: bool,
}

impl<R: Read> FileCommands<R> {
    /// Reads the heading.
    ///
    /// # Errors
    /// When there is none, or not with the columns that are needed.
    pub fn read(kind: Kind, file: R) -> Result<Self, BadFile> {
        let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(file);
        let columns = match rows.headers() {
            Ok(heading) => Columns::find(kind, heading)?,
            Err(error) => return Err(bad(1, error)),
        };
        Ok(Self { kind, rows, columns, record: StringRecord::new(), order: None, ready: VecDeque::new(), ended: false })
    }

    /// Columns whose names mean nothing here. What they say is not read.
    pub fn ignored_columns(&self) -> &[String] {
        &self.columns.ignored
    }

    /// Reads one row.
    fn step(&mut self) {
        let mut record = std::mem::take(&mut self.record);
        let at = self.rows.position().line();
        match self.rows.read_record(&mut record) {
            Ok(false) => {
                self.ended = true;
                self.close();
            }
            Ok(true) => self.take(&record, record.position().map_or(at, csv::Position::line)),
            Err(error) => {
                self.ended = error.is_io_error();
                let at = error.position().map_or(at, csv::Position::line);
                self.ready.push_back(Err(bad(at, error)));
                // Whose row it was can't be told: the order at hand counts as broken.
                if let Some(order) = &mut self.order {
                    order.broken = true;
                }
            }
        }
        self.record = record;
    }

    fn take(&mut self, record: &StringRecord, line: u64) {
        match self.kind {
            Kind::Batches => {
                let batch = self.columns.batch(record).map(Command::DeclareBatch);
                self.ready.push_back(batch.map_err(|why| BadFile::Row { line, why }));
            }
            Kind::Orders(_) => {
                let id = self.columns.text(record, 0);
                if self.order.as_ref().is_some_and(|order| order.id != id) {
                    self.close();
                }
                let new = || OpenOrder { id: id.to_owned(), first_row: line, lines: Vec::new(), broken: false };
                let order = self.order.get_or_insert_with(new);
                match self.columns.line(record) {
                    Ok(read) => order.lines.push(read),
                    Err(why) => {
                        order.broken = true;
                        self.ready.push_back(Err(BadFile::Row { line, why }));
                    }
                }
            }
        }
    }

    /// The order at hand is complete.
    fn close(&mut self) {
        let (Some(order), Kind::Orders(when_short)) = (self.order.take(), self.kind) else { return };
        if !order.broken {
            let row = order.first_row;
            let command = order.command(when_short).map(Command::Allocate);
            self.ready.push_back(command.map_err(|why| BadFile::Row { line: row, why }));
        }
    }
}

impl<R: Read> Iterator for FileCommands<R> {
    type Item = Result<Command, BadFile>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.ended {
            self.step();
        }
        self.ready.pop_front()
    }
}

fn bad(line: u64, error: csv::Error) -> BadFile {
    let why = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => BadFile::Unreadable(error),
        _ => BadFile::Row { line, why },
    }
}

impl OpenOrder {
    fn command(self, when_short: WhenShort) -> Said<Allocate> {
        let id = OrderId::new(self.id).map_err(|error| error.to_string())?;
        let mut command = Allocate::new(id, self.lines).map_err(|error| error.to_string())?;
        command.when_short = when_short;
        Ok(command)
    }
}

/// Where the columns of a file are.
struct Columns {
    /// Of each that is known, in its place below.
    places: Vec<Option<usize>>,
    ignored: Vec<String>,
}

impl Columns {
    fn find(kind: Kind, heading: &StringRecord) -> Result<Self, BadFile> {
        let (needed, optional): (&[&str], &[&str]) = match kind {
            Kind::Batches => (&["ref", "sku", "qty"], &["eta", "expires_on", "location"]),
            Kind::Orders(_) => (&["order_id", "sku", "qty"], &[]),
        };
        let heading: Vec<String> =
            heading.iter().map(|column| column.trim_start_matches('\u{feff}').to_ascii_lowercase()).collect();
        let place = |name: &&str| heading.iter().position(|column| column == name);
        if let Some(missing) = needed.iter().find(|name| place(name).is_none()) {
            return Err(BadFile::NoColumn { missing, needed });
        }
        let known = || needed.iter().chain(optional);
        if let Some(twice) = known().find(|name| heading.iter().filter(|column| column == *name).count() > 1) {
            return Err(BadFile::ColumnTwice(twice));
        }
        let ignored = heading.iter().filter(|column| !known().any(|name| column == name)).cloned().collect();
        Ok(Self { places: known().map(place).collect(), ignored })
    }

    fn text<'r>(&self, record: &'r StringRecord, column: usize) -> &'r str {
        self.places[column].and_then(|place| record.get(place)).unwrap_or_default()
    }

    fn number(&self, record: &StringRecord, column: usize) -> Said<u64> {
        let text = self.text(record, column);
        text.parse().map_err(|_| format!("qty {text:?} is no whole number"))
    }

    fn sku(&self, record: &StringRecord) -> Said<Sku> {
        Sku::new(self.text(record, 1)).map_err(|error| format!("sku {error}"))
    }

    fn batch(&self, record: &StringRecord) -> Said<DeclareBatch> {
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
            eta: self.places[3].map(|_| eta),
            expires_on: self.places[4].map(|_| expires_on),
            location: match self.text(record, 5) {
                "" => None,
                name => Some(Location::new(name).map_err(|error| format!("location {error}"))?),
            },
            precondition: Precondition::None,
        })
    }

    fn line(&self, record: &StringRecord) -> Said<(Sku, LineId, Quantity, Terms)> {
        OrderId::new(self.text(record, 0)).map_err(|error| format!("order_id {error}"))?;
        let qty = Quantity::new(self.number(record, 2)?).map_err(|error| format!("qty {error}"))?;
        Ok((self.sku(record)?, LineId::default(), qty, Terms::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Vec<Result<Command, String>> {
        let commands = FileCommands::read(kind, text.as_bytes()).unwrap();
        commands.map(|command| command.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn adjacent_rows_of_an_order_are_one_command_and_a_bad_row_skips_its_order() {
        let rows = "order_id,sku,qty\na,LAMP,1\na,SHADE,2\nb,LAMP,x\nb,SHADE,1\nc,LAMP,1\n";
        let read = read(Kind::Orders(WhenShort::Backorder), rows);
        let orders = read.iter().map(|read| match read {
            Ok(Command::Allocate(order)) => (order.order_id().as_str(), order.lines().len()),
            Ok(_) => panic!("no order"),
            Err(why) => (why.as_str(), 0),
        });
        assert_eq!(orders.collect::<Vec<_>>(), [("a", 2), ("line 4: qty \"x\" is no whole number", 0), ("c", 1)]);
    }

    #[test]
    fn a_file_without_a_column_is_refused_as_a_whole() {
        let refused = FileCommands::read(Kind::Batches, "ref,qty\nb,1\n".as_bytes()).err().unwrap();
        assert_eq!(refused.to_string(), "the file has no column `sku`; it needs ref, sku, qty");
    }

    #[test]
    fn a_column_that_means_nothing_is_named_and_one_that_is_there_twice_is_refused() {
        let read = |heading: &'static str| FileCommands::read(Kind::Batches, heading.as_bytes());
        assert_eq!(read("Ref,SKU,qty,ETA,expires,Colour\n").unwrap().ignored_columns(), ["expires", "colour"]);
        assert_eq!(read("ref,sku,qty,eta,Eta\n").err().unwrap().to_string(), "the file has two columns `eta`");
    }

    #[test]
    fn columns_stand_in_any_order_and_batches_say_only_what_they_have_a_column_for() {
        let read = read(Kind::Batches, "\u{feff}qty,ref,sku,eta\n5,b,LAMP,\n");
        let [Ok(Command::DeclareBatch(batch))] = &read[..] else { panic!("{read:?}") };
        assert_eq!((batch.qty.units(), batch.eta, batch.expires_on), (5, Some(None), None));
    }
}
