//! What processes have used, as Linux counts it.

use std::fs::read_to_string;
use std::path::Path;

/// Linux tells CPU time in hundredths of a second, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process, or several, have used since they started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    /// Caused to be sent to the disk.
    pub(crate) bytes_written: f64,
}

impl Usage {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            bytes_written: self.bytes_written - earlier.bytes_written,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            bytes_written: self.bytes_written + other.bytes_written,
        }
    }
}

/// The fields of a process's `stat` after its name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<i64>> {
    let text = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    // The first is the state, a letter.
    Some(fields.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect())
}

/// The process that started this one.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    u32::try_from(*stat(pid)?.first()?).ok()
}

fn field(pid: u32, file: &str, name: &str) -> Option<f64> {
    let text = read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok())
}

/// What a process has used, with those of its children that have ended.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let fields = stat(pid)?;
    // Counted after the state: utime, stime, cutime and cstime.
    let ticks: i64 = fields.get(10..14)?.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a count of ticks")]
    let cpu_seconds = ticks as f64 / TICKS_PER_SECOND;
    Some(Usage { cpu_seconds, bytes_written: field(pid, "io", "write_bytes")? })
}

/// What a process and its children have used.
pub(crate) fn usage_with_children(pid: u32) -> Option<Usage> {
    children(pid).into_iter().filter_map(usage).fold(usage(pid), |sum, child| Some(sum?.plus(child)))
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(entries) = Path::new("/proc").read_dir() else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&child| parent(child) == Some(pid)).collect()
}

/// The most memory a process ever held, in MiB.
pub(crate) fn peak_memory(pid: u32) -> Option<f64> {
    Some(field(pid, "status", "VmHWM")? / 1024.0)
}
