//! Migrations: SQL files that stand in the program, each applied once. A store keeps their checksums, so that a file changed afterwards, or a
//! store that is ahead of the program, is noticed. Why not a library: `docs/adr/0005-our-own-migration-runner.md`.

use allocation_service_layer::ports::database::{StoreError, StoreResult};
use sha2::{Digest, Sha256};

/// One step of a schema.
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

impl Migration {
    pub(crate) fn checksum(&self) -> String {
        base16ct::lower::encode_string(&Sha256::digest(self.sql.as_bytes()))
    }
}

/// Those that are still to be applied, given what was: version and checksum, by version.
pub(crate) fn pending<'a>(all: &'a [Migration], applied: &[(i64, String)]) -> StoreResult<&'a [Migration]> {
    for (version, checksum) in applied {
        match all.iter().find(|migration| migration.version == *version) {
            None => {
                return Err(StoreError::Failed(format!("the schema has migration {version}, newer than this program")));
            }
            Some(migration) if migration.checksum() != *checksum => {
                return Err(StoreError::Failed(format!("migration {version} was applied in another form")));
            }
            Some(_) => {}
        }
    }
    Ok(&all[applied.len().min(all.len())..])
}

/// What to say to a program whose schema is not there yet.
pub(crate) fn missing(pending: &[Migration]) -> StoreResult<()> {
    match pending {
        [] => Ok(()),
        [next, ..] => Err(StoreError::Failed(format!("migration {} ({}) is not applied", next.version, next.name))),
    }
}
