//! Migrations: SQL files that stand in the program, each applied once. A store keeps their checksums, so that a file changed afterwards is
//! noticed, and which programs each goes on serving, so that copies of the former release need not end before the next one begins.
//! Why not a library: `docs/adr/0005-our-own-migration-runner.md`.

use allocation_service_layer::ports::database::{StoreError, StoreResult};
use sha2::{Digest, Sha256};

/// One step of a schema.
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    /// The oldest program that goes on working once this is applied, by the last migration it knows. A step that only adds serves whom the step
    /// before it served; one that takes something away serves those who no longer use it.
    pub(crate) serves: i64,
}

impl Migration {
    pub(crate) fn checksum(&self) -> String {
        base16ct::lower::encode_string(&Sha256::digest(self.sql.as_bytes()))
    }
}

/// What a store keeps of a step that was applied to it.
pub(crate) struct Applied {
    pub(crate) version: i64,
    pub(crate) checksum: String,
    pub(crate) serves: i64,
}

/// Those that are still to be applied, given what was, by version. Steps of later releases are none of our business as long as they serve us.
pub(crate) fn pending<'a>(all: &'a [Migration], applied: &[Applied]) -> StoreResult<&'a [Migration]> {
    let ours = all.last().map_or(0, |migration| migration.version);
    let mut known = 0;
    for Applied { version, checksum, serves } in applied {
        match all.iter().find(|migration| migration.version == *version) {
            None if *serves > ours => {
                return Err(StoreError::Failed(format!(
                    "the schema has migration {version}, newer than this program, which it does not serve"
                )));
            }
            None => {}
            Some(migration) if migration.checksum() != *checksum => {
                return Err(StoreError::Failed(format!("migration {version} was applied in another form")));
            }
            Some(_) => known += 1,
        }
    }
    Ok(&all[known..])
}

/// What to say to a program whose schema is not there yet.
pub(crate) fn missing(pending: &[Migration]) -> StoreResult<()> {
    match pending {
        [] => Ok(()),
        [next, ..] => Err(StoreError::Failed(format!("migration {} ({}) is not applied", next.version, next.name))),
    }
}
