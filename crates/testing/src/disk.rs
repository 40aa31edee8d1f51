//! A disk that can be made to fail under a program.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// What a disk does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no more room.
    Full,
    /// It takes nothing any more.
    NoWrites,
    /// It takes what is written, and does not say that it has it.
    NoSyncs,
}

/// Lies below the database of a program that is started with [`FaultyDisk::environment`].
pub struct FaultyDisk {
    library: PathBuf,
    switch: PathBuf,
    file: File,
    _folder: TempDir,
}

impl FaultyDisk {
    /// One that works so far. `None`: this machine has no C compiler.
    pub fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (source, library) = (folder.path().join("faults.c"), folder.path().join("faults.so"));
        std::fs::write(&source, include_str!("disk/faults.c")).expect("its folder");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let compiled = cc.output().ok()?;
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let switch = folder.path().join("fault");
        std::fs::write(&switch, "-").expect("its folder");
        let file = OpenOptions::new().write(true).open(&switch).expect("just written");
        Some(Self { library, switch, file, _folder: folder })
    }

    /// What a program is started with.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.library.display().to_string()), ("FAULTS", self.switch.display().to_string())]
    }

    /// From now on it does this wrong; or nothing.
    pub fn set(&self, fault: Option<Fault>) {
        let sign = match fault {
            None => b'-',
            Some(Fault::Full) => b'f',
            Some(Fault::NoWrites) => b'w',
            Some(Fault::NoSyncs) => b's',
        };
        self.file.write_all_at(&[sign], 0).expect("its switch");
    }
}
