//! Finds the programs of servers, and installs them if need be.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::is_root;

/// Where to find a program.
pub(super) struct Wanted {
    /// Its file name.
    pub(super) program: &'static str,
    /// Folders beside those of `PATH`, the last found first; `*` may stand for one folder's name.
    pub(super) folders: &'static [&'static str],
    /// Debian's package.
    pub(super) package: &'static str,
    /// The image, where there is only Docker.
    pub(super) image: &'static str,
}

/// How to run a server.
pub(super) enum Found {
    /// A program of this machine.
    Program(PathBuf),
    /// An image.
    Image(&'static str),
}

/// Whether tests may install what they need: `NO_INSTALL=1` forbids it.
pub fn may_install() -> bool {
    std::env::var_os("NO_INSTALL").is_none_or(|value| value == "0" || value.is_empty())
}

impl Wanted {
    /// Finds it, installing it if that is allowed and possible.
    pub(super) fn find(&self) -> Found {
        if let Some(program) = self.look() {
            return Found::Program(program);
        }
        if may_install() && which("apt-get").is_some() && (is_root() || succeeds("sudo", &["-n", "true"])) {
            self.install();
            if let Some(program) = self.look() {
                return Found::Program(program);
            }
        }
        if succeeds("docker", &["info"]) {
            return Found::Image(self.image);
        }
        panic!(
            "the tests need `{}`: install Debian's package `{}` or the like of your system, or start a Docker engine",
            self.program, self.package
        );
    }

    fn look(&self) -> Option<PathBuf> {
        let elsewhere = || {
            let mut found: Vec<PathBuf> = self.folders.iter().flat_map(|folder| expand(folder)).collect();
            found.sort_by_key(|folder| folder.as_os_str().len());
            found.sort();
            found.into_iter().rev().map(|folder| folder.join(self.program)).find(|program| program.is_file())
        };
        which(self.program).or_else(elsewhere)
    }

    fn install(&self) {
        // Several test processes may find out at the same time.
        let lock = File::create(std::env::temp_dir().join("allocation-tests-install.lock")).expect("a lock file");
        lock.lock().expect("the lock");
        if self.look().is_some() {
            return;
        }
        eprintln!("installing Debian's package `{}` for the tests (NO_INSTALL=1 forbids it)", self.package);
        for arguments in [&["update", "-q"][..], &["install", "-qy", "--no-install-recommends", self.package]] {
            let mut apt = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
            if !is_root() {
                apt.args(["-n", "--preserve-env=RUNLEVEL,DEBIAN_FRONTEND", "apt-get"]);
            }
            // RUNLEVEL=1: packages then do not start their servers.
            apt.args(arguments).env("RUNLEVEL", "1").env("DEBIAN_FRONTEND", "noninteractive");
            let _ = apt.stdin(Stdio::null()).stdout(Stdio::null()).status();
        }
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|program| program.is_file())
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The folders that a pattern with one `*` stands for.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((parent, rest)) = pattern.split_once("/*/") else { return vec![PathBuf::from(pattern)] };
    let Ok(entries) = Path::new(parent).read_dir() else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().join(rest)).collect()
}

/// A program of this machine that other tests use as a tool, such as strace; installed if need be.
pub fn tool(program: &'static str, package: &'static str) -> Option<PathBuf> {
    let wanted = Wanted { program, folders: &["/usr/sbin"], package, image: "" };
    if wanted.look().is_none() && is_root() {
        wanted.install();
    }
    wanted.look()
}
