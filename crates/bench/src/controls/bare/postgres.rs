//! The bare loop on PostgreSQL: all statements of a transaction in one round trip.

use std::iter::repeat_n;

use allocation_domain::LineId;
use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::Lot;

/// The adapter's settings of a connection.
const SESSION: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
     SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan";

/// As the adapter begins.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

const STATEMENTS: [&str; 6] = [
    "UPDATE products SET version = $2, changed_at = $4 WHERE sku = $1 AND version = $3",
    "UPDATE batches SET allocated = $3 WHERE sku = $1 AND reference = $2",
    "INSERT INTO lines (sku, accepted, order_id, batch, line, requested, placed, backordered)
     SELECT sku, accepted, order_id, batch, line, 1, 1, 0
     FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[]) u(sku, accepted, order_id, batch, line)",
    "INSERT INTO events (sku, sequence, body) SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])",
    "INSERT INTO units_of_work (skus, first_sequences, last_sequences) VALUES ($1, $2, $3)",
    "INSERT INTO balances (sku, sequence, body) VALUES ($1, $2, $3)",
];

/// A connection with its statements prepared.
pub(crate) struct Prepared {
    pub(super) client: Client,
    statements: Vec<Statement>,
}

pub(super) async fn prepare(client: Client) -> Result<Prepared, Error> {
    client.batch_execute(SESSION).await?;
    let mut statements = Vec::with_capacity(STATEMENTS.len());
    for sql in STATEMENTS {
        statements.push(client.prepare(sql).await?);
    }
    Ok(Prepared { client, statements })
}

/// One transaction.
pub(super) async fn write(prepared: &Prepared, lot: &Lot, balances: Option<String>) -> Result<(), Error> {
    let Prepared { client, statements } = prepared;
    let count = lot.orders.len();
    let (sku, batch) = (lot.sku.as_str(), lot.batch.as_str());
    let sequences: Vec<i64> = lot.sequences().map(number).collect();
    let line = LineId::default();
    let skus: Vec<&str> = repeat_n(sku, count).collect();
    let batches: Vec<&str> = repeat_n(batch, count).collect();
    let lines: Vec<&str> = repeat_n(line.as_str(), count).collect();
    let (version, last, allocated) = (number(lot.version), number(lot.last()), number(lot.allocated()));
    let (one, first_of_it, last_of_it) = (vec![sku], vec![version + 1], vec![last]);
    let mut parameters: Vec<Vec<&(dyn ToSql + Sync)>> = vec![
        vec![&sku, &last, &version, &lot.at],
        vec![&sku, &batch, &allocated],
        vec![&skus, &sequences, &lot.orders, &batches, &lines],
        vec![&skus, &sequences, &lot.events],
        vec![&one, &first_of_it, &last_of_it],
    ];
    if let Some(balances) = &balances {
        parameters.push(vec![&sku, &last, balances]);
    }
    // Requests are sent in the order in which their futures are first polled, which is this order.
    let writes =
        statements.iter().zip(&parameters).map(|(statement, parameters)| client.execute(statement, parameters));
    let (begin, writes, commit) = (client.batch_execute(BEGIN), try_join_all(writes), client.batch_execute("COMMIT"));
    futures_util::future::try_join3(begin, writes, commit).await?;
    Ok(())
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
