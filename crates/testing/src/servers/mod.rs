//! Throwaway servers: on free ports, in a folder of their own, gone when the test process is gone.
//!
//! Their programs are taken from the machine, else installed from Debian's packages (saying so; `NO_INSTALL=1` forbids it), else run
//! through Docker. A server that was running before is never used.

mod haproxy;
mod keeper;
mod nats;
mod patroni;
mod pgbouncer;
mod postgres;
mod programs;
mod rabbitmq;
mod redis;
mod shared;
mod smtp;

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

pub use haproxy::HaProxy;
pub use nats::NatsServer;
pub use patroni::Patroni;
pub use pgbouncer::PgBouncer;
pub use postgres::{PostgresServer, postgres_url};
pub use programs::{may_install, tool};
pub use rabbitmq::RabbitServer;
pub use redis::RedisServer;
pub use shared::SharedServers;
pub use smtp::{Mail, SmtpCatcher};
use tempfile::TempDir;

use crate::certificates::{Pair, PairFiles};

/// Not root: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// How many ports are taken from.
const PORTS: u16 = 20_000;

/// A port that nobody listens on. It is below those that connections are given, if there are such: one of these could take it while the server is away.
pub fn free_port() -> u16 {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = given.split_whitespace().next().and_then(|first| first.parse::<u16>().ok()).unwrap_or_default();
    // From anywhere among them on, as others look for one at the same time.
    let skipped = usize::try_from(RandomState::new().hash_one(()) % u64::from(PORTS)).unwrap_or_default();
    let below = first.saturating_sub(PORTS).max(1_024)..first;
    let mut tried = below.cycle().skip(skipped).take(PORTS.into());
    let address = tried.find_map(|port| free(port).ok()).map_or_else(|| free(0), Ok);
    address.expect("a free port").port()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// A folder for a server's files, which the server's user may write.
fn folder(name: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix(&format!("allocation-{name}-")).tempdir().expect("a temporary folder");
    if is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may give away its folder");
    }
    folder
}

/// Writes a pair where a server finds it, which its user owns.
fn write_pair(pair: &Pair, folder: &Path) -> PairFiles {
    let files = pair.write(folder);
    if is_root() {
        for file in [&files.chain, &files.key] {
            chown(file, Some(NOBODY), Some(NOBODY)).expect("root may give away a file");
        }
    }
    files
}

/// What there is to say where there is a server in an image only.
const NO_TLS: &str = "tests of TLS need the server as a program of this machine";

/// A command that does not run as root.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_remove("PGDATA").current_dir("/");
    command
}
