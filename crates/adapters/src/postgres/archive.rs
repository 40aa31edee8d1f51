//! Archiving on PostgreSQL. Nobody else writes what it writes, or locks what it locks: commands only add events.

use std::collections::BTreeMap;

use allocation_domain::{BatchRef, LineKey, Sku};
use allocation_service_layer::ports::archive::{Archive, Checkpoint, Removal};
use allocation_service_layer::ports::database::{
    Database, NotedBalances, Selection, StoreError, StoreResult, Transaction,
};
use async_trait::async_trait;
use tokio_postgres::Row;

use super::writes::{Param, Statement, numbers, texts};
use super::{PostgresDatabase, get};
use crate::rows::{self, count, number};

/// The lock that a removal holds, as a lease may run out under its holder. Any number nobody else uses.
const ARCHIVE_LOCK: i64 = 0x0a11_0ca8;

/// A checkpoint with all its batches and lines, for [`whole`]: in one statement, so that it is of one moment.
pub(super) const WHOLE: &str =
    "SELECT sequence, NULL AS order_id, NULL AS name, head, balances FROM checkpoints WHERE sku = $1
    UNION ALL SELECT 0, NULL, reference, body, NULL FROM checkpoint_batches WHERE sku = $1
    UNION ALL SELECT 0, order_id, line, body, NULL FROM checkpoint_lines WHERE sku = $1";

/// Reads what [`WHOLE`] gave: the checkpoint, and whether there are batches or lines of one that is not there.
pub(super) fn whole(rows: &[Row], sku: &Sku) -> StoreResult<(Option<Checkpoint>, bool)> {
    let (mut heads, mut batches, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let body: String = get(row, 3)?;
        match (get::<Option<&str>>(row, 1)?, get::<Option<&str>>(row, 2)?) {
            (Some(order_id), Some(line)) => lines.push((rows::line_key(order_id, line)?, body)),
            (_, Some(reference)) => batches.push((rows::reference(reference)?, body)),
            (_, None) => heads.push((body, noted(row, 0, 4, sku)?)),
        }
    }
    let Some((head, balances)) = heads.pop() else {
        return Ok((None, !(batches.is_empty() && lines.is_empty())));
    };
    batches.sort();
    lines.sort();
    Ok((Some(Checkpoint { balances, head, batches, lines }), false))
}

fn noted(row: &Row, sequence: usize, body: usize, sku: &Sku) -> StoreResult<NotedBalances> {
    Ok(NotedBalances { sku: sku.clone(), sequence: count(get(row, sequence)?)?, body: get(row, body)? })
}

impl PostgresDatabase {
    /// What a product's batches came to by its last event that was archived.
    pub(super) async fn find_archived(&self, sku: &Sku) -> StoreResult<Option<NotedBalances>> {
        let sql = "SELECT sequence, balances FROM checkpoints WHERE sku = $1";
        Ok(self.all(sql, &[&sku.as_str()], |row| noted(row, 0, 1, sku)).await?.pop())
    }
}

#[async_trait]
impl Archive for PostgresDatabase {
    async fn checkpoints(&self, wanted: &Selection) -> StoreResult<Vec<Checkpoint>> {
        let skus: Vec<&str> = wanted.skus.iter().map(Sku::as_str).collect();
        let sql = "SELECT c.sku, c.sequence, c.head, c.balances FROM unnest($1::text[]) k(sku)
                   CROSS JOIN LATERAL (SELECT * FROM checkpoints c WHERE c.sku = k.sku OFFSET 0) c";
        let head = |row: &Row| {
            let sku = rows::sku(get(row, 0)?)?;
            let (balances, head) = (noted(row, 1, 3, &sku)?, get(row, 2)?);
            Ok((sku, Checkpoint { balances, head, batches: Vec::new(), lines: Vec::new() }))
        };
        let mut found: BTreeMap<Sku, Checkpoint> = self.all(sql, &[&skus], head).await?.into_iter().collect();
        let (skus, references): (Vec<&str>, Vec<&str>) =
            wanted.batches.iter().map(|(sku, reference)| (sku.as_str(), reference.as_str())).unzip();
        let sql = "SELECT c.sku, c.reference, c.body FROM unnest($1::text[], $2::text[]) k(sku, reference)
                   CROSS JOIN LATERAL (SELECT * FROM checkpoint_batches c
                                       WHERE c.sku = k.sku AND c.reference = k.reference OFFSET 0) c";
        let batch = |row: &Row| Ok((rows::sku(get(row, 0)?)?, (rows::reference(get(row, 1)?)?, get(row, 2)?)));
        let batches: Vec<(Sku, (BatchRef, String))> = self.all(sql, &[&skus, &references], batch).await?;
        for (sku, batch) in batches {
            if let Some(checkpoint) = found.get_mut(&sku) {
                checkpoint.batches.push(batch);
            }
        }
        let skus: Vec<&str> = wanted.lines.iter().map(|(sku, _)| sku.as_str()).collect();
        let (orders, lines): (Vec<&str>, Vec<&str>) =
            wanted.lines.iter().map(|(_, key)| (key.order_id.as_str(), key.line.as_str())).unzip();
        let sql = "SELECT c.sku, c.order_id, c.line, c.body
                   FROM unnest($1::text[], $2::text[], $3::text[]) k(sku, order_id, line)
                   CROSS JOIN LATERAL (SELECT * FROM checkpoint_lines c
                                       WHERE c.sku = k.sku AND c.order_id = k.order_id AND c.line = k.line OFFSET 0) c";
        let line =
            |row: &Row| Ok((rows::sku(get(row, 0)?)?, (rows::line_key(get(row, 1)?, get(row, 2)?)?, get(row, 3)?)));
        let lines: Vec<(Sku, (LineKey, String))> = self.all(sql, &[&skus, &orders, &lines], line).await?;
        for (sku, line) in lines {
            if let Some(checkpoint) = found.get_mut(&sku) {
                checkpoint.lines.push(line);
            }
        }
        Ok(found.into_values().collect())
    }

    async fn take_out(&self, removal: &Removal) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        let lock = Statement::new("SELECT pg_advisory_xact_lock($1)", vec![Box::new(ARCHIVE_LOCK)]);
        let until = || -> Param { Box::new(number(removal.until)) };
        let may = Statement::new(MAY_REMOVE, vec![Box::new(number(removal.after)), until()]);
        let may = tx.pipeline(vec![lock, may], false).await?.pop().unwrap_or_default();
        if !may.first().map_or(Ok(false), |row| get(row, 0))? {
            tx.end().await?;
            return Err(StoreError::Conflict("somebody else archives, or a sink has come".to_owned()));
        }
        let checkpoints = || removal.products.iter().map(|product| &product.checkpoint);
        let skus = || texts(checkpoints().map(|checkpoint| checkpoint.sku().as_str()));
        let sequences = || numbers(checkpoints().map(Checkpoint::sequence));
        let former = numbers(removal.products.iter().map(|product| product.former));
        let heads = texts(checkpoints().map(|checkpoint| checkpoint.head.as_str()));
        let balances = texts(checkpoints().map(|checkpoint| checkpoint.balances.body.as_str()));
        let batches = || checkpoints().flat_map(|of| of.batches.iter().map(move |batch| (of.sku(), batch)));
        let batches = vec![
            texts(batches().map(|(sku, _)| sku.as_str())),
            texts(batches().map(|(_, (reference, _))| reference.as_str())),
            texts(batches().map(|(_, (_, body))| body.as_str())),
        ];
        let lines = || checkpoints().flat_map(|of| of.lines.iter().map(move |line| (of.sku(), line)));
        let lines = vec![
            texts(lines().map(|(sku, _)| sku.as_str())),
            texts(lines().map(|(_, (key, _))| key.order_id.as_str())),
            texts(lines().map(|(_, (key, _))| key.line.as_str())),
            texts(lines().map(|(_, (_, body))| body.as_str())),
        ];
        let statements = [
            (PUT_CHECKPOINTS, vec![skus(), sequences(), heads, balances]),
            (DELETE_BALANCES, vec![skus(), sequences()]),
            (DELETE_EVENTS, vec![skus(), former, sequences()]),
            (PUT_BATCHES, batches),
            (PUT_LINES, lines),
            ("DELETE FROM feed WHERE last_position <= $1", vec![until()]),
            (SHORTEN_RUN, vec![until()]),
        ];
        tx.run(statements.into_iter().map(|(sql, params)| Statement::new(sql, params)).collect()).await.map(drop)
    }
}

/// Whether the feed still begins after `$1`, and every sink has seen it up to `$2`.
const MAY_REMOVE: &str = "SELECT NOT EXISTS (SELECT 1 FROM sinks WHERE position < $2) AND coalesce(
    (SELECT last_position - (last_sequence - first_sequence) - 1 = $1 FROM feed ORDER BY last_position LIMIT 1), false)";

const PUT_CHECKPOINTS: &str = "INSERT INTO checkpoints (sku, sequence, head, balances)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[])
    ON CONFLICT (sku) DO UPDATE SET sequence = excluded.sequence, head = excluded.head, balances = excluded.balances";

const PUT_BATCHES: &str = "INSERT INTO checkpoint_batches (sku, reference, body)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
    ON CONFLICT (sku, reference) DO UPDATE SET body = excluded.body";

const PUT_LINES: &str = "INSERT INTO checkpoint_lines (sku, order_id, line, body)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    ON CONFLICT (sku, order_id, line) DO UPDATE SET body = excluded.body";

const DELETE_BALANCES: &str = "DELETE FROM balances b USING unnest($1::text[], $2::bigint[]) k(sku, sequence)
    WHERE b.sku = k.sku AND b.sequence <= k.sequence";

const DELETE_EVENTS: &str =
    "DELETE FROM events e USING unnest($1::text[], $2::bigint[], $3::bigint[]) k(sku, former, sequence)
    WHERE e.sku = k.sku AND e.sequence > k.former AND e.sequence <= k.sequence";

/// What is left of a run of which the beginning is gone.
const SHORTEN_RUN: &str = "UPDATE feed SET first_sequence = last_sequence - (last_position - $1) + 1
    WHERE last_position = (SELECT last_position FROM feed ORDER BY last_position LIMIT 1)
      AND last_position - (last_sequence - first_sequence) <= $1";
