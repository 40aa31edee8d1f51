//! A copy of a database, made while others write to it, and how it takes its place.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use allocation_service_layer::ports::database::{StoreError, StoreResult};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::{TempDir, TempPath};

use super::{BUSY, blocking};

/// What becomes of a file that is where a copy is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the copy is refused.
    Kept,
    /// The copy takes its place, unless somebody has it open.
    Replaced,
}

/// A whole copy of a database that has yet to take its place. Until then it lies in a folder beside that, which goes when this is dropped.
#[derive(Debug)]
pub struct SqliteCopy {
    path: PathBuf,
    target: PathBuf,
    existing: Existing,
    _folder: TempDir,
}

impl SqliteCopy {
    /// Copies the database `source` as it is at one moment, to be put at `target`. Nobody who writes to it has to wait.
    ///
    /// # Errors
    /// When it is damaged or no database of this program; and, before anything is copied, when `target` can't be had.
    pub async fn make(source: &Path, target: &Path, existing: Existing) -> StoreResult<Self> {
        let (source, target) = (source.to_owned(), target.to_owned());
        blocking(move || {
            check_target(&source, &target, existing)?;
            let folder = tempfile::Builder::new().prefix(".allocation-copy-").tempdir_in(folder_of(&target));
            let folder = folder.map_err(about(folder_of(&target)))?;
            let path = folder.path().join("copy.db");
            copy(&source, &path)?;
            Ok(Self { path, target, existing, _folder: folder })
        })
        .await
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it where it is to go, all of it and on disk. Nobody may have it open any more.
    pub async fn put(self) -> StoreResult<()> {
        blocking(move || {
            let Self { path, target, existing, .. } = &self;
            stand_alone(path).map_err(about(path))?;
            File::open(path).and_then(|file| file.sync_all()).map_err(about(path))?;
            let part = TempPath::try_from_path(path).map_err(about(path))?;
            let put = match existing {
                Existing::Kept => {
                    check_free(target)?;
                    part.persist_noclobber(target)
                }
                Existing::Replaced => {
                    check_unused(target)?;
                    clear(target)?;
                    part.persist(target)
                }
            };
            put.map_err(|error| about(target)(error.error))?;
            // That the file has this name must last as well.
            let folder = folder_of(target);
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(about(folder))
        })
        .await
    }
}

fn copy(source: &Path, path: &Path) -> StoreResult<()> {
    let from = open(source).map_err(about(source))?;
    from.busy_timeout(BUSY).map_err(about(source))?;
    let ours = "SELECT EXISTS (SELECT * FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations')";
    if !from.query_row(ours, (), |row| row.get(0)).map_err(about(source))? {
        return Err(StoreError::Failed(format!("{} is no database of allocation", source.display())));
    }
    // What is in it concerns nobody else: webhooks' secrets are in clear.
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(about(path))?;
    let mut into = Connection::open(path).map_err(about(path))?;
    // Nobody needs half of it: no journal, and one sync at the end.
    into.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(about(path))?;
    {
        let backup = Backup::new(&from, &mut into).map_err(about(source))?;
        // All pages in one step are one snapshot, beside which others write. Between several steps, each commit of another process would begin it anew.
        match backup.step(-1).map_err(about(source))? {
            StepResult::Done => {}
            other => return Err(StoreError::Unavailable(format!("{}: {other:?}", source.display()))),
        }
    }
    // What is damaged shall be told now, and not when the copy is needed.
    let found =
        into.query_row("PRAGMA integrity_check(1)", (), |row| row.get::<_, String>(0)).map_err(about(source))?;
    if found != "ok" {
        return Err(StoreError::Failed(format!("{} is damaged: {found}", source.display())));
    }
    Ok(())
}

/// Opens a database that is there. To write, although nobody does: who may only read would leave behind what SQLite keeps beside it.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Leaves nothing of a database outside of its one file.
fn stand_alone(path: &Path) -> rusqlite::Result<()> {
    let connection = open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.query_row("PRAGMA journal_mode = DELETE", (), |_| Ok(()))
}

/// Fails when a copy of `source` may not be put at `target`.
fn check_target(source: &Path, target: &Path, existing: Existing) -> StoreResult<()> {
    let inode = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if let (Ok(one), Ok(other)) = (inode(source), inode(target))
        && one == other
    {
        return Err(StoreError::Failed(format!("{} is the database itself", target.display())));
    }
    match existing {
        Existing::Kept => check_free(target),
        Existing::Replaced => check_unused(target),
    }
}

/// Fails when there is a database, or what is left of one: SQLite would put that into whatever comes to its name.
fn check_free(target: &Path) -> StoreResult<()> {
    let there = std::iter::once(target.to_owned()).chain(beside(target)).find(|path| path.symlink_metadata().is_ok());
    there.map_or(Ok(()), |path| Err(StoreError::Failed(format!("{} is there already", path.display()))))
}

/// Fails when somebody has the database open.
fn check_unused(target: &Path) -> StoreResult<()> {
    if !target.exists() {
        return Ok(());
    }
    match stand_alone(target) {
        Err(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) =>
        {
            Err(StoreError::Failed(format!("{} is in use; stop the service first", target.display())))
        }
        // A damaged one, or none at all, may go.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what is left beside a database that nobody has open.
fn clear(target: &Path) -> StoreResult<()> {
    for path in beside(target) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(about(&path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// What SQLite may keep beside a database.
fn beside(database: &Path) -> impl Iterator<Item = PathBuf> {
    ["-wal", "-shm", "-journal"].into_iter().map(move |suffix| {
        let mut name = OsString::from(database);
        name.push(suffix);
        name.into()
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn about<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Failed(format!("{}: {error}", path.display()))
}
