//! Stores to measure on: each new, with stock of every product, and gone afterwards.

use std::fmt::Write;
use std::path::Path;

use allocation_testing::program::{Program, command};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::Outcome;
use crate::harness::Bench;
use crate::load::{PRODUCTS, batch, sku};

/// Which kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

impl On {
    pub(crate) const BOTH: [Self; 2] = [Self::Sqlite, Self::Postgres];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A store.
pub(crate) struct Store {
    pub(crate) on: On,
    /// As the program takes it.
    pub(crate) url: String,
    /// How many lines must be in it at least.
    pub(crate) promised: u64,
    folder: TempDir,
}

const STOCK_FILE: &str = "stock.csv";

/// Units of each batch: more than will ever be asked for.
pub(crate) const STOCK: u64 = 1_000_000_000;

/// A file of batches, more in each than will ever be asked for.
pub(crate) fn write_stock(folder: &Path) -> Outcome<()> {
    let mut text = "ref,sku,qty\n".to_owned();
    for product in 1..=PRODUCTS {
        writeln!(text, "{},{},{STOCK}", batch(product), sku(product))?;
    }
    Ok(std::fs::write(folder.join(STOCK_FILE), text)?)
}

impl Store {
    pub(crate) async fn new(bench: &Bench, on: On) -> Outcome<Self> {
        let folder = tempfile::tempdir_in(bench.folder())?;
        let url = match on {
            On::Sqlite => format!("sqlite:{}", folder.path().join("allocation.db").display()),
            On::Postgres => bench.postgres.database().await,
        };
        let store = Self { on, url, promised: 0, folder };
        store.run(bench, &["import", "batches", &bench.folder().join(STOCK_FILE).to_string_lossy()]).await?;
        Ok(store)
    }

    /// The file of a SQLite store.
    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("allocation.db")
    }

    /// A command of the program on this store.
    pub(crate) fn command(&self, bench: &Bench, arguments: &[&str]) -> Command {
        command(&bench.program, &[("DATABASE_URL", &self.url)], arguments)
    }

    /// Runs a command of the program that must succeed, and gives what it said.
    pub(crate) async fn run(&self, bench: &Bench, arguments: &[&str]) -> Outcome<String> {
        let output = self.command(bench, arguments).output().await?;
        if !output.status.success() {
            return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Serves it.
    pub(crate) async fn serve(&self, bench: &Bench) -> Program {
        self.serve_with(bench, &[]).await
    }

    /// Serves it with other settings than the defaults.
    pub(crate) async fn serve_with(&self, bench: &Bench, settings: &[(&str, &str)]) -> Program {
        let environment: Vec<_> = [("DATABASE_URL", self.url.as_str())].iter().chain(settings).copied().collect();
        Program::serve(&bench.program, &environment).await
    }

    /// A connection to a PostgreSQL store.
    pub(crate) async fn connect(&self) -> Outcome<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Ends it, so that it takes no room and no work while others are measured.
    pub(crate) async fn remove(self) -> Outcome<()> {
        if self.on == On::Postgres {
            let (server, name) = self.url.rsplit_once('/').ok_or("a URL without a database")?;
            let (admin, connection) = tokio_postgres::connect(&format!("{server}/postgres"), NoTls).await?;
            tokio::spawn(connection);
            admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        }
        Ok(self.folder.close()?)
    }
}
