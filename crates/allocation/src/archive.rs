//! Takes old events out of the log by hand, and keeps them in a file if told to.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use allocation_service_layer::archive::{Archived, HeldBack};
use allocation_service_layer::ports::archive::Shelf;
use allocation_service_layer::ports::database::{StoreError, StoreResult};
use allocation_service_layer::ports::event_log::FeedEvent;
use allocation_service_layer::wire::instant_text;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::bootstrap::Store;
use crate::config::Config;
use crate::serve::{configured_sinks, introduce};
use crate::when::When;

/// Archives what is old, and says how much that was and what stood in the way of more.
pub(crate) async fn run(config: &Config, before: When, to: Option<&Path>) -> Result<String, Failure> {
    let store = Store::open_migrated(config).await?;
    // What is configured and has yet to run for the first time sees what there is now.
    let sinks = configured_sinks(config, &store.ambient.metrics)?;
    introduce(config, store.log().as_ref(), &sinks).await?;
    let mut file = to.map(ArchiveFile::open).transpose()?;
    let shelf = file.as_mut().map(|file| file as &mut dyn Shelf);
    let before = before.back_from(store.ambient.clock.now())?;
    let Archived { events, held_back } = store.archivist().archive(before, shelf, &CancellationToken::new()).await?;
    let mut said = format!("archived {events} events");
    if let Some(HeldBack { sink, position, at }) = held_back {
        let at = instant_text(at);
        said = format!("{said}; the next, at position {position} of {at}, is yet to be seen by {sink}");
    }
    Ok(said)
}

/// A line of the file: an event with its place in the feed, as the API gives it.
#[derive(Serialize)]
struct Written<'a> {
    position: u64,
    event: &'a RawValue,
}

/// What of a line tells how far the file goes.
#[derive(Deserialize)]
struct Placed {
    position: u64,
}

/// Archived events, each once: what was written by a run that was cut off is not written again.
struct ArchiveFile {
    path: PathBuf,
    file: File,
    /// The position of the last event in it.
    last: u64,
}

/// A line is shorter than this.
const LONGEST_LINE: u64 = 16 << 20;

impl ArchiveFile {
    /// Opens a file of archived events, or makes a new one.
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error| format!("{}: {error}", path.display());
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let last = go_to_end(&mut file).map_err(failed)?;
        // That there is such a file must last as well.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let Some(last) = last else {
            return Err(format!("{} is no file of archived events", path.display()).into());
        };
        Ok(Self { path: path.to_owned(), file, last })
    }

    fn append(&mut self, events: &[FeedEvent]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events.iter().filter(|event| event.position > self.last) {
            let line = Written { position: event.position, event: serde_json::from_str(&event.body)? };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines)?;
        self.file.sync_data()?;
        self.last = self.last.max(events.last().map_or(0, |event| event.position));
        Ok(())
    }
}

/// Goes to the end of the last whole line, cuts off what comes after it, and says which position that line has; 0 when there is none. `None`:
/// these are no archived events.
fn go_to_end(file: &mut File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(LONGEST_LINE);
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (whole, torn) = tail.split_at(end);
    // What a line of ours begins with; a torn one may be shorter.
    let ours = br#"{"position":"#;
    let common = torn.len().min(ours.len());
    if torn[..common] != ours[..common] || (begin > 0 && end == 0) {
        return Ok(None);
    }
    let last = match whole.split_last() {
        None => 0,
        Some((_, rest)) => {
            let line = rest.rsplit(|byte| *byte == b'\n').next().unwrap_or(rest);
            match serde_json::from_slice::<Placed>(line) {
                Ok(placed) => placed.position,
                Err(_) => return Ok(None),
            }
        }
    };
    let end = begin + end as u64;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    Ok(Some(last))
}

#[async_trait]
impl Shelf for ArchiveFile {
    async fn put(&mut self, events: &[FeedEvent]) -> StoreResult<()> {
        self.append(events).map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: u64) -> FeedEvent {
        FeedEvent { position, body: format!(r#"{{"id":"e{position}"}}"#) }
    }

    fn put(path: &Path, positions: impl IntoIterator<Item = u64>) {
        let events: Vec<FeedEvent> = positions.into_iter().map(event).collect();
        ArchiveFile::open(path).unwrap().append(&events).unwrap();
    }

    fn lines(positions: impl IntoIterator<Item = u64>) -> String {
        positions.into_iter().map(|n| format!("{{\"position\":{n},\"event\":{{\"id\":\"e{n}\"}}}}\n")).collect()
    }

    #[test]
    fn a_file_goes_on_where_it_ended_and_has_each_event_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        put(&path, 1..=3);
        put(&path, 2..=5);
        put(&path, []);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), lines(1..=5));
    }

    #[test]
    fn a_line_that_was_cut_off_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let whole = lines(1..=3);
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            put(&path, 1..=4);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), lines(1..=4), "cut after {length} bytes");
        }
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other");
        for text in ["dear diary", "a,b\n1,2\n", "{\"a\":1}\n", "{\"position\":\"x\"}\n", "\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(ArchiveFile::open(&path).is_err(), "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(ArchiveFile::open(&folder.path().join("no/such/folder")).is_err());
    }
}
