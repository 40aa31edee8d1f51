//! What the figures were measured on: enough to judge them by, nothing that names the machine.

use std::fs::read_to_string;
use std::path::Path;

/// The processor, and how much of it there is.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let value = |file: &str, name: &str| {
            let text = read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let kibibytes = value("/proc/meminfo", "MemTotal");
        let kibibytes: u64 = kibibytes.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        Self {
            cpu: value("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kibibytes.div_ceil(1024 * 1024),
        }
    }
}

/// Whether what is written to a folder goes to memory only.
pub(crate) fn is_in_memory(folder: &Path) -> bool {
    let mounts = read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let innermost = mounts.filter(|(point, _)| folder.starts_with(point)).max_by_key(|(point, _)| point.len());
    innermost.is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}
