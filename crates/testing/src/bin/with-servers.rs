//! Starts the servers that tests share, runs a command with their addresses in its environment, and stops them.
//!
//! Without it every test process starts its own, which costs seconds each; with it a runner with a process a test is quick.

use std::process::{Command, ExitCode};

use allocation_testing::servers::SharedServers;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-servers COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let servers = SharedServers::begin();
    let status = Command::new(program).args(arguments).envs(servers.environment()).status();
    drop(servers);
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("with-servers: {error}");
            ExitCode::from(2)
        }
    }
}
