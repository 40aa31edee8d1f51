//! `pgbench`: one transaction for each allocation, on the same server, in tables of its own.
//!
//! Two ways of doing it: one statement that does everything, as lean as it can be, and the handful of statements that an ORM sends.

use std::path::PathBuf;
use std::process::Stdio;

use allocation_testing::servers::tool;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::Outcome;
use crate::harness::Bench;
use crate::load::{PRODUCTS, Skus};

/// How an allocation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One statement.
    Cte,
    /// BEGIN, SELECT … FOR UPDATE, UPDATE, two INSERTs, COMMIT.
    Orm,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Cte => "CTE",
            Self::Orm => "five statements",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Cte => {
                r"\set sku random(1, :skus)
\set id random(1, 1000000000000000)
WITH batch AS (UPDATE bench_control.batches SET allocated = allocated + 1 WHERE sku = :sku AND allocated < quantity RETURNING sku), line AS (INSERT INTO bench_control.lines (order_id, sku, qty) SELECT 'order-' || :client_id || '-' || :id, sku, 1 FROM batch RETURNING sku) INSERT INTO bench_control.events (sku, body) SELECT sku, repeat('x', 340) || :id FROM line;
"
            }
            Self::Orm => {
                r"\set sku random(1, :skus)
\set id random(1, 1000000000000000)
BEGIN;
SELECT quantity, allocated FROM bench_control.batches WHERE sku = :sku FOR UPDATE;
UPDATE bench_control.batches SET allocated = allocated + 1 WHERE sku = :sku;
INSERT INTO bench_control.lines (order_id, sku, qty) VALUES ('order-' || :client_id || '-' || :id, :sku, 1);
INSERT INTO bench_control.events (sku, body) VALUES (:sku, repeat('x', 340) || :id);
COMMIT;
"
            }
        }
    }
}

/// Its tables, new for each run. Numbers for products: leaner than our own names.
const TABLES: &str = "
    DROP SCHEMA IF EXISTS bench_control CASCADE;
    CREATE SCHEMA bench_control;
    CREATE TABLE bench_control.batches (
        sku integer PRIMARY KEY, quantity bigint NOT NULL, allocated bigint NOT NULL) WITH (fillfactor = 70);
    CREATE TABLE bench_control.lines (
        order_id text NOT NULL, sku integer NOT NULL, qty integer NOT NULL, PRIMARY KEY (order_id, sku));
    CREATE TABLE bench_control.events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sku integer NOT NULL, body text NOT NULL)";

/// What the names of its figures begin with.
pub(crate) fn figures(way: Way, skus: Skus) -> String {
    format!("pgbench, {}, {}", way.name(), skus.name())
}

/// The name of its figure.
pub(crate) fn figure(way: Way, skus: Skus, clients: u64) -> String {
    format!("{}, {clients} clients", figures(way, skus))
}

/// `pgbench`, and a database for it.
pub(crate) struct Pgbench {
    program: PathBuf,
    url: String,
    admin: Client,
    /// The most clients that the server takes.
    pub(crate) most: u64,
}

impl Pgbench {
    /// Makes a database for it.
    pub(crate) async fn new(bench: &Bench) -> Outcome<Self> {
        let program = tool("pgbench", "postgresql-contrib").or_else(beside_postgres).ok_or("there is no pgbench")?;
        let url = bench.postgres.database().await;
        let (admin, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        let most: String = admin.query_one("SHOW max_connections", &[]).await?.get(0);
        // Some are kept back for superusers, and one is ours.
        let most = most.parse::<u64>()?.saturating_sub(20).min(800);
        Ok(Self { program, url, admin, most })
    }

    /// Measures a way of doing it.
    pub(crate) async fn measure(&self, bench: &mut Bench, way: Way, skus: Skus, clients: u64) -> Outcome<()> {
        let rate = self.rate(bench, way, skus, clients).await?;
        bench.figures.add(&figure(way, skus, clients), "allocations/s", rate);
        Ok(())
    }

    /// Transactions a second.
    pub(crate) async fn rate(&self, bench: &Bench, way: Way, skus: Skus, clients: u64) -> Outcome<f64> {
        let count = if skus == Skus::One { 1 } else { PRODUCTS };
        self.admin.batch_execute(TABLES).await?;
        let fill = format!(
            "INSERT INTO bench_control.batches SELECT n, 1000000000000, 0 FROM generate_series(1, {count}) n;
             ANALYZE bench_control.batches"
        );
        self.admin.batch_execute(&fill).await?;
        let script = bench.folder().join("pgbench.sql");
        std::fs::write(&script, way.script())?;
        let output = Command::new(&self.program)
            .args(["--no-vacuum", "--protocol=prepared", &format!("--define=skus={count}")])
            .args([format!("--client={clients}"), format!("--jobs={}", clients.min(2))])
            .args([format!("--time={}", bench.options.seconds), format!("--file={}", script.display())])
            .arg(&self.url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.ok_or_else(|| format!("pgbench: {said}{}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// Debian keeps it beside the server's programs.
fn beside_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|version| version.path().join("bin/pgbench")).filter(|program| program.is_file()).max()
}
