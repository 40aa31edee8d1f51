//! Backups of a SQLite database: taken while the service goes on, and put back.

use std::path::Path;
use std::process::ExitCode;

use allocation_adapters::sqlite::{Existing, SqliteCopy};

use crate::Failure;
use crate::books;
use crate::bootstrap::Store;
use crate::config::{Config, Database};

/// Copies the database to a file, and says whether the copy's books balance.
pub(crate) async fn backup(config: &Config, file: &Path, existing: Existing) -> Result<ExitCode, Failure> {
    let database = sqlite(config, "backed up with pg_dump, or with pg_basebackup and its archived WAL")?;
    let copy = SqliteCopy::make(database, file, existing).await?;
    let store = Store::open_at(config, &Database::Sqlite(copy.path().to_owned()))?;
    put(store, copy, &format!("backed up {} to {}", database.display(), file.display())).await
}

/// Puts a backup where the database is to be, brings its schema up to date as at any start, and says whether its books balance.
pub(crate) async fn restore(config: &Config, file: &Path, existing: Existing) -> Result<ExitCode, Failure> {
    let database = sqlite(config, "restored with pg_restore, or from a base backup and its archived WAL")?;
    let copy = SqliteCopy::make(file, database, existing).await?;
    let store = Store::open_at(config, &Database::Sqlite(copy.path().to_owned()))?;
    if config.migrate {
        store.migrate().await?;
    }
    put(store, copy, &format!("restored {} from {}", database.display(), file.display())).await
}

/// Checks a copy, and puts it in its place. One whose books differ is better than none.
async fn put(store: Store, copy: SqliteCopy, done: &str) -> Result<ExitCode, Failure> {
    let findings = books::check(&store).await?;
    drop(store);
    copy.put().await?;
    println!("{done}");
    Ok(books::told(&findings))
}

/// The database's file, if it is one.
fn sqlite<'a>(config: &'a Config, otherwise: &str) -> Result<&'a Path, Failure> {
    match &config.database {
        Database::Sqlite(file) => Ok(file),
        Database::Postgres(_) => {
            let why = format!(
                "PostgreSQL is {otherwise}; then `allocation verify` checks the books. docs/operations.md has the commands"
            );
            Err(why.into())
        }
    }
}
