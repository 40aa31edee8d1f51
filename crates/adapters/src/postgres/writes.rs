//! Bulk writes: what has changed, as a statement for each kind of row, and all of them as one.

use std::borrow::Cow;

use allocation_domain::{AcceptedLine, Batch, BatchRef, LineKey, Part, Product, Shipped, Sku, Strategy, Terms};
use allocation_service_layer::ports::database::{Change, ProductChanges};
use allocation_service_layer::wire::levels_json;

use super::value::Value;
use crate::rows::{self, number};

pub(super) type Param = Box<dyn Value + Send>;

pub(super) struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) params: Vec<Param>,
}

impl Statement {
    pub(super) fn new(sql: impl Into<Cow<'static, str>>, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params }
    }
}

/// A bulk write, as a part of a statement: its parameters are numbered from `$1`.
pub(super) struct Write {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Param>,
    /// How many rows it must touch, where that is not certain.
    pub(super) expected: Option<usize>,
}

/// All writes of a unit of work as one statement: saves the server and the wire most of the cost of each. They are about different tables,
/// so it does not matter that their order is not defined.
///
/// A product that is no longer at the version that was read, which its lock should have made impossible, must not be committed; but COMMIT is
/// under way behind the statement. So a wrong count of rows divides by zero: the server then turns COMMIT into a rollback, and 22012 is
/// told apart from other errors as a conflict.
pub(super) fn combined(writes: Vec<Write>) -> Statement {
    let mut parts = Vec::with_capacity(writes.len());
    let mut checks = vec!["true".to_owned()];
    let mut params: Vec<Param> = Vec::new();
    for (at, write) in writes.into_iter().enumerate() {
        parts.push(format!("w{at} AS ({} RETURNING 1)", renumbered(write.sql, params.len())));
        params.extend(write.params);
        if let Some(expected) = write.expected {
            params.push(Box::new(number(expected as u64)));
            checks.push(format!("(SELECT count(*) FROM w{at}) = ${}::bigint", params.len()));
        }
    }
    Statement::new(format!("WITH {} SELECT 1 / ({})::int", parts.join(", "), checks.join(" AND ")), params)
}

/// The same text with its parameters numbered on from `offset`.
fn renumbered(sql: &str, offset: usize) -> String {
    let shifted = |piece: &str| {
        let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let number: usize = piece[..digits].parse().expect("`$` stands before a number only");
        format!("${}{}", number + offset, &piece[digits..])
    };
    let (first, rest) = sql.split_once('$').unwrap_or((sql, ""));
    let rest = rest.split('$').filter(|piece| !piece.is_empty());
    std::iter::once(first.to_owned()).chain(rest.map(shifted)).collect()
}

pub(super) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Param {
    column(texts.into_iter().map(str::to_owned))
}

pub(super) fn numbers(numbers: impl IntoIterator<Item = u64>) -> Param {
    column(numbers.into_iter().map(number))
}

pub(super) fn column<T: Send + 'static>(values: impl IntoIterator<Item = T>) -> Param
where
    Vec<T>: Value,
{
    Box::new(values.into_iter().collect::<Vec<T>>())
}

/// All that these changes write. An update says how many rows it must find.
pub(super) fn of(changes: &[ProductChanges<'_>]) -> Vec<Write> {
    let mut writes = Vec::new();
    let is_new = |change: &&ProductChanges<'_>| change.saved_version == 0;
    let (new, known): (Vec<_>, Vec<_>) = changes.iter().partition(is_new);
    let (set, known): (Vec<_>, Vec<_>) = known.into_iter().partition(|change| change.settings);
    write(&mut writes, INSERT_PRODUCTS, None, &new, all_of_products);
    write(&mut writes, UPDATE_ALL_OF_PRODUCTS, Some(set.len()), &set, all_of_products);
    write(&mut writes, UPDATE_PRODUCTS, Some(known.len()), &known, products_of);

    let batches = changes.iter().flat_map(|c| c.batches.iter().map(move |(kind, batch)| (*kind, c, *batch)));
    let (new, known): (Vec<_>, Vec<_>) = batches.partition(|(kind, ..)| *kind == Change::Insert);
    let (placed, known): (Vec<_>, Vec<_>) = known.into_iter().partition(|(kind, ..)| *kind == Change::Placements);
    write(&mut writes, INSERT_BATCHES, None, &new, batches_of);
    write(&mut writes, UPDATE_BATCHES, Some(known.len()), &known, batches_of);
    write(&mut writes, UPDATE_PLACEMENTS, Some(placed.len()), &placed, placements);

    let lines = changes.iter().flat_map(|c| c.lines.iter().map(|(kind, line)| (*kind, c.product, *line)));
    let (new, known): (Vec<_>, Vec<_>) = lines.partition(|(kind, ..)| *kind == Change::Insert);
    let (plain, other): (Vec<_>, Vec<_>) = new.into_iter().partition(|(_, product, line)| is_plain(product, line));
    write(&mut writes, INSERT_PLAIN_LINES, None, &plain, plain_lines);
    write(&mut writes, INSERT_LINES, None, &other, other_lines);
    write(&mut writes, UPDATE_LINES, Some(known.len()), &known, other_lines);
    write(&mut writes, DELETE_PARTS, None, &known, line_keys);
    let parts: Vec<_> = other
        .iter()
        .chain(&known)
        .filter(|(_, _, line)| rows::Units::of(line).in_parts)
        .flat_map(|(_, product, line)| line.parts.iter().map(move |part| (product.sku(), *line, part)))
        .collect();
    write(&mut writes, INSERT_PARTS, None, &parts, parts_of);
    let shipments: Vec<_> = other
        .iter()
        .chain(&known)
        .flat_map(|(_, product, line)| {
            line.shipped.iter().enumerate().map(move |(nth, some)| (product.sku(), *line, nth, some))
        })
        .collect();
    write(&mut writes, UPSERT_SHIPMENTS, None, &shipments, shipments_of);
    writes
}

/// Adds a bulk write of these rows, if there are any.
pub(super) fn write<R>(
    writes: &mut Vec<Write>,
    sql: &'static str,
    expected: Option<usize>,
    rows: &[R],
    columns: fn(&[R]) -> Vec<Param>,
) {
    if !rows.is_empty() {
        writes.push(Write { sql, params: columns(rows), expected });
    }
}

/// Whether a line is as nearly all are, so that few columns say all of it.
fn is_plain(product: &Product, line: &AcceptedLine) -> bool {
    let usual = line.terms == Terms { split: line.terms.split, ..Terms::default() }
        && rows::over_locations(line.terms.split).is_none();
    let ended = line.dropped + line.cancelled + line.lapsed + line.shipped();
    usual
        && product.spoils_on(line).is_none()
        && ended == 0
        && line.hold.is_none()
        && line.queued == 0
        && !rows::Units::of(line).in_parts
}

fn products_of(changes: &[&ProductChanges<'_>]) -> Vec<Param> {
    let products = || changes.iter().map(|change| change.product);
    vec![
        texts(products().map(|product| product.sku().as_str())),
        numbers(changes.iter().map(|change| change.saved_version)),
        numbers(products().map(Product::version)),
        column(products().map(|product| rows::micros(product.changed_at()))),
        numbers(products().map(Product::backordered)),
        numbers(products().map(Product::queued)),
        column(products().map(Product::out_of_stock_raised)),
        column(products().map(|product| rows::names(product.low().iter()))),
    ]
}

fn all_of_products(changes: &[&ProductChanges<'_>]) -> Vec<Param> {
    let settings = || changes.iter().map(|change| change.product.settings());
    let mut params = products_of(changes);
    params.extend([
        column(settings().map(|settings| settings.queue_cap.map(number))),
        column(settings().map(|settings| settings.auto_improve)),
        column(settings().map(|settings| settings.strategy.map(Strategy::name))),
        column(settings().map(|settings| i32::from(settings.min_days))),
        column(settings().map(|settings| settings.requires_expiry)),
        column(settings().map(|settings| settings.overdue_days.map(i32::from))),
        column(settings().map(|settings| levels_json(&settings.levels))),
    ]);
    params
}

type BatchChange<'a> = (Change, &'a ProductChanges<'a>, &'a Batch);

fn placements(rows: &[BatchChange<'_>]) -> Vec<Param> {
    let batches = || rows.iter().map(|(_, _, batch)| *batch);
    vec![
        texts(rows.iter().map(|(_, change, _)| change.product.sku().as_str())),
        texts(batches().map(|batch| batch.reference.as_str())),
        numbers(batches().map(|batch| batch.held)),
        numbers(batches().map(|batch| batch.allocated)),
    ]
}

fn batches_of(rows: &[BatchChange<'_>]) -> Vec<Param> {
    let batches = || rows.iter().map(|(_, _, batch)| *batch);
    let mut params = placements(rows);
    params.extend([
        numbers(batches().map(|batch| batch.quantity.units())),
        numbers(batches().map(|batch| batch.declared.units())),
        numbers(batches().map(|batch| batch.quarantined)),
        column(batches().map(|batch| batch.eta)),
        column(batches().map(|batch| batch.arrived.map(number))),
        column(batches().map(|batch| batch.expires_on)),
        column(batches().map(|batch| batch.expired)),
        column(batches().map(|batch| batch.cancelled)),
        numbers(batches().map(|batch| batch.revision)),
        column(batches().map(Batch::is_open)),
        numbers(rows.iter().map(|(_, change, _)| change.saved_version)),
        numbers(rows.iter().map(|(_, change, _)| change.product.version())),
        texts(batches().map(|batch| batch.location.as_str())),
    ]);
    params
}

type LineChange<'a> = (Change, &'a Product, &'a AcceptedLine);

fn line_keys(rows: &[LineChange<'_>]) -> Vec<Param> {
    vec![
        texts(rows.iter().map(|(_, product, _)| product.sku().as_str())),
        texts(rows.iter().map(|(_, _, line)| line.key.order_id.as_str())),
        texts(rows.iter().map(|(_, _, line)| line.key.line.as_str())),
    ]
}

pub(super) fn batch_names(batches: &[(Sku, BatchRef)]) -> Vec<Param> {
    vec![
        texts(batches.iter().map(|(sku, _)| sku.as_str())),
        texts(batches.iter().map(|(_, reference)| reference.as_str())),
    ]
}

pub(super) fn line_names(lines: &[(Sku, LineKey)]) -> Vec<Param> {
    vec![
        texts(lines.iter().map(|(sku, _)| sku.as_str())),
        texts(lines.iter().map(|(_, key)| key.order_id.as_str())),
        texts(lines.iter().map(|(_, key)| key.line.as_str())),
    ]
}

fn plain_lines(rows: &[LineChange<'_>]) -> Vec<Param> {
    let lines = || rows.iter().map(|(_, _, line)| *line);
    let units = || lines().map(rows::Units::of);
    let mut params = line_keys(rows);
    params.extend([
        numbers(lines().map(|line| line.accepted)),
        numbers(lines().map(|line| line.requested.units())),
        numbers(units().map(|units| units.placed)),
        numbers(units().map(|units| units.backordered)),
        column(units().map(|units| units.batch.map(str::to_owned))),
        column(lines().map(|line| rows::min_split(line.terms.split))),
    ]);
    params
}

fn other_lines(rows: &[LineChange<'_>]) -> Vec<Param> {
    let lines = || rows.iter().map(|(_, _, line)| *line);
    let mut params = plain_lines(rows);
    params.extend([
        numbers(lines().map(|line| line.queued)),
        column(lines().map(|line| rows::rare(line.dropped))),
        column(lines().map(|line| rows::rare(line.cancelled))),
        column(lines().map(|line| rows::rare(line.lapsed))),
        column(lines().map(|line| line.hold.map(rows::micros))),
        column(lines().map(|line| line.terms.priority)),
        column(lines().map(|line| line.terms.by)),
        column(lines().map(|line| line.terms.not_before)),
        column(lines().map(|line| rows::Units::of(line).in_parts)),
        column(lines().map(|line| rows::rare(line.shipped()))),
        column(lines().map(|line| line.terms.min_days.map(i32::from))),
        column(rows.iter().map(|(_, product, line)| product.spoils_on(line))),
        column(lines().map(|line| rows::over_locations(line.terms.split))),
        column(lines().map(|line| line.terms.locations.as_ref().and_then(|accepted| rows::names(accepted.iter())))),
    ]);
    params
}

fn parts_of(rows: &[(&Sku, &AcceptedLine, &Part)]) -> Vec<Param> {
    vec![
        texts(rows.iter().map(|(sku, ..)| sku.as_str())),
        texts(rows.iter().map(|(_, line, _)| line.key.order_id.as_str())),
        texts(rows.iter().map(|(_, line, _)| line.key.line.as_str())),
        column(rows.iter().map(|(_, line, _)| line.terms.priority)),
        numbers(rows.iter().map(|(.., part)| part.accepted)),
        column(rows.iter().map(|(.., part)| part.batch.as_ref().map(ToString::to_string))),
        numbers(rows.iter().map(|(.., part)| part.qty.units())),
        column(rows.iter().map(|(.., part)| part.locked)),
    ]
}

fn shipments_of(rows: &[(&Sku, &AcceptedLine, usize, &Shipped)]) -> Vec<Param> {
    vec![
        texts(rows.iter().map(|(sku, ..)| sku.as_str())),
        texts(rows.iter().map(|(_, line, ..)| line.key.order_id.as_str())),
        texts(rows.iter().map(|(_, line, ..)| line.key.line.as_str())),
        column(rows.iter().map(|(.., nth, _)| i32::try_from(*nth).unwrap_or(i32::MAX))),
        texts(rows.iter().map(|(.., shipped)| shipped.batch.as_str())),
        numbers(rows.iter().map(|(.., shipped)| shipped.qty)),
        numbers(rows.iter().map(|(.., shipped)| shipped.returned)),
    ]
}

const INSERT_PRODUCTS: &str = "INSERT INTO products
        (sku, version, changed_at, backordered, queued, out_of_stock_raised, low, queue_cap, auto_improve, strategy,
         min_days, requires_expiry, overdue_days, levels)
    SELECT sku, version, changed_at, backordered, queued, raised, low, cap, improve, strategy, min_days, requires, overdue,
           levels
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
                $8::text[], $9::bigint[], $10::boolean[], $11::text[], $12::integer[], $13::boolean[], $14::integer[],
                $15::text[])
        u(sku, saved, version, changed_at, backordered, queued, raised, low, cap, improve, strategy, min_days, requires,
          overdue, levels)";

const UPDATE_ALL_OF_PRODUCTS: &str = "UPDATE products p
    SET version = u.version, changed_at = u.changed_at, backordered = u.backordered, queued = u.queued,
        out_of_stock_raised = u.raised, low = u.low, queue_cap = u.cap, auto_improve = u.improve, strategy = u.strategy,
        min_days = u.min_days, requires_expiry = u.requires, overdue_days = u.overdue, levels = u.levels
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
                $8::text[], $9::bigint[], $10::boolean[], $11::text[], $12::integer[], $13::boolean[], $14::integer[],
                $15::text[])
        u(sku, saved, version, changed_at, backordered, queued, raised, low, cap, improve, strategy, min_days, requires,
          overdue, levels)
    WHERE p.sku = u.sku AND p.version = u.saved";

// What rarely changes is not named here, nor in `UPDATE_PLACEMENTS`: it saves its share of a thousand products' unit of work.
const UPDATE_PRODUCTS: &str = "UPDATE products p
    SET version = u.version, changed_at = u.changed_at, backordered = u.backordered, queued = u.queued,
        out_of_stock_raised = u.raised, low = u.low
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
                $8::text[])
        u(sku, saved, version, changed_at, backordered, queued, raised, low)
    WHERE p.sku = u.sku AND p.version = u.saved";

const INSERT_BATCHES: &str = "INSERT INTO batches
        (sku, reference, held, allocated, quantity, declared, quarantined, eta, arrived, expires_on, expired, cancelled,
         revision, is_open, created_after, changed_by, location)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::date[], $9::bigint[], $10::date[], $11::boolean[], $12::boolean[], $13::bigint[],
                         $14::boolean[], $15::bigint[], $16::bigint[], $17::text[])";

const UPDATE_BATCHES: &str = "UPDATE batches b
    SET held = u.held, allocated = u.allocated, quantity = u.quantity, declared = u.declared,
        quarantined = u.quarantined, eta = u.eta, arrived = u.arrived, expires_on = u.expires_on, expired = u.expired,
        cancelled = u.cancelled, revision = u.revision, is_open = u.is_open, changed_by = u.version
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                $8::date[], $9::bigint[], $10::date[], $11::boolean[], $12::boolean[], $13::bigint[], $14::boolean[],
                $15::bigint[], $16::bigint[], $17::text[])
        u(sku, reference, held, allocated, quantity, declared, quarantined, eta, arrived, expires_on, expired, cancelled,
          revision, is_open, saved, version, location)
    WHERE b.sku = u.sku AND b.reference = u.reference";

const UPDATE_PLACEMENTS: &str = "UPDATE batches b SET held = u.held, allocated = u.allocated
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) u(sku, reference, held, allocated)
    WHERE b.sku = u.sku AND b.reference = u.reference";

// Most lines are plain; not naming the other columns saves a tenth of their cost.
const INSERT_PLAIN_LINES: &str = "INSERT INTO lines
        (sku, order_id, line, accepted, requested, placed, backordered, batch, min_split)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::bigint[])";

const INSERT_LINES: &str = "INSERT INTO lines
        (sku, order_id, line, accepted, requested, placed, backordered, batch, min_split, queued, dropped, cancelled,
         lapsed, held_until, priority, by_date, not_before, in_parts, shipped, min_days, spoils_on, over_locations,
         locations)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                         $14::bigint[], $15::integer[], $16::date[], $17::date[], $18::boolean[], $19::bigint[],
                         $20::integer[], $21::date[], $22::boolean[], $23::text[])";

const UPDATE_LINES: &str = "UPDATE lines l
    SET requested = u.requested, placed = u.placed, backordered = u.backordered, batch = u.batch,
        min_split = u.min_split, queued = u.queued, dropped = u.dropped, cancelled = u.cancelled, lapsed = u.lapsed,
        held_until = u.held_until, priority = u.priority, by_date = u.by_date, not_before = u.not_before,
        in_parts = u.in_parts, shipped = u.shipped, min_days = u.min_days, spoils_on = u.spoils_on,
        over_locations = u.over_locations, locations = u.locations
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[],
                $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::integer[],
                $16::date[], $17::date[], $18::boolean[], $19::bigint[], $20::integer[], $21::date[], $22::boolean[],
                $23::text[])
        u(sku, order_id, line, accepted, requested, placed, backordered, batch, min_split, queued, dropped, cancelled,
          lapsed, held_until, priority, by_date, not_before, in_parts, shipped, min_days, spoils_on, over_locations,
          locations)
    WHERE l.sku = u.sku AND l.accepted = u.accepted";

const DELETE_PARTS: &str = "DELETE FROM parts p USING unnest($1::text[], $2::text[], $3::text[]) k(sku, order_id, line)
    WHERE p.sku = k.sku AND p.order_id = k.order_id AND p.line = k.line";

const INSERT_PARTS: &str = "INSERT INTO parts (sku, order_id, line, priority, accepted, batch, qty, locked)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::bigint[],
                         $8::boolean[])";

const UPSERT_SHIPMENTS: &str = "INSERT INTO shipments (sku, order_id, line, nth, batch, qty, returned)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::bigint[], $7::bigint[])
    ON CONFLICT (sku, order_id, line, nth) DO UPDATE SET qty = EXCLUDED.qty, returned = EXCLUDED.returned";

pub(super) const INSERT_EVENTS: &str = "INSERT INTO events (sku, sequence, body)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])";

pub(super) const INSERT_REQUEST_KEYS: &str = "INSERT INTO request_keys (key, content, of_message, at)
    SELECT key, content, of_message, coalesce($4::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    FROM unnest($1::text[], $2::bytea[], $3::boolean[]) u(key, content, of_message)";

// Whose a hold is that is in force already, it stays.
pub(super) const UPSERT_HOLDERS: &str = "INSERT INTO holders AS h (sku, order_id, line, holder, until)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    ON CONFLICT (sku, order_id, line) DO UPDATE
    SET until = EXCLUDED.until, holder = CASE WHEN h.until > $6::bigint THEN h.holder ELSE EXCLUDED.holder END";

pub(super) const DELETE_HOLDERS: &str = "DELETE FROM holders h
    USING unnest($1::text[], $2::text[], $3::text[]) k(sku, order_id, line)
    WHERE h.sku = k.sku AND h.order_id = k.order_id AND h.line = k.line";

pub(super) const INSERT_UNIT_OF_WORK: &str = "INSERT INTO units_of_work (skus, first_sequences, last_sequences)
    VALUES ($1::text[], $2::bigint[], $3::bigint[])";

#[cfg(test)]
mod tests {
    use super::renumbered;

    #[test]
    fn parameters_are_numbered_on() {
        assert_eq!(renumbered("SELECT $1, $12::text, $2", 5), "SELECT $6, $17::text, $7");
        assert_eq!(renumbered("SELECT 1", 5), "SELECT 1");
    }
}
