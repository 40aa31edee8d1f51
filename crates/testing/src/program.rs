//! The program as a process, for tests that go all the way.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// A running `allocation serve`, killed when dropped.
pub struct Program {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it has logged.
    pub log: String,
}

impl Drop for Program {
    /// A tool that runs the program, such as strace, would leave it behind when killed: its children go first.
    fn drop(&mut self) {
        let Some(pid) = self.child.id() else { return };
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let _ = std::process::Command::new("kill").args(["-KILL", child]).status();
        }
    }
}

/// A command of the program with an environment of its own: only what is given, and nothing of the machine's. Unless told otherwise, it does not wait for
/// anybody to notice that it is about to stop.
pub fn command(program: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args(arguments).env("STOP_NOTICE_SECONDS", "0").envs(environment.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Where it listens, if this line of its log says so, as text or as JSON.
fn listening(line: &str) -> Option<SocketAddr> {
    let address = match line.split_once("listening address=") {
        Some((_, address)) => address.trim(),
        None if line.contains(r#""message":"listening""#) => line.split_once(r#""address":""#)?.1.split('"').next()?,
        None => return None,
    };
    Some(address.parse().expect("an address"))
}

impl Program {
    /// Starts `allocation serve` on a free port, and waits until it listens.
    pub async fn serve(program: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = command(program, environment, &["serve"]);
        Self::spawn(command.env("LISTEN", "127.0.0.1:0")).await
    }

    /// Starts a command that will serve, and waits until it listens.
    pub async fn spawn(command: &mut Command) -> Self {
        Self::begin(command).await.unwrap_or_else(|ended| panic!("it ended:\n{}", ended.log))
    }

    /// As [`Program::spawn`], of one that may end before it listens.
    pub async fn begin(command: &mut Command) -> Result<Self, Ended> {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program");
        let mut lines = BufReader::new(child.stderr.take().expect("its standard error")).lines();
        let mut head = String::new();
        let address = loop {
            let Some(line) = lines.next_line().await.expect("its log") else {
                return Err(Ended { status: child.wait().await.expect("it ends"), log: head });
            };
            head.push_str(&line);
            head.push('\n');
            if let Some(address) = listening(&line) {
                break address;
            }
        };
        let log = Arc::new(Mutex::new(head));
        let shared = log.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = shared.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Ok(Self { child, address, log, reading })
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> Ended {
        let status = self.child.wait().await.expect("it ends");
        (&mut self.reading).await.expect("its log");
        Ended { status, log: self.log() }
    }

    /// Kills it without warning (SIGKILL).
    pub async fn kill(mut self) -> Ended {
        self.child.start_kill().expect("it runs");
        self.ended().await
    }

    /// Sends it a signal: TERM, INT …
    pub async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "kill");
    }

    /// Asks it to stop (SIGTERM) and gives its exit status.
    pub async fn stop(mut self) -> Option<i32> {
        self.signal("TERM").await;
        self.child.wait().await.expect("it ends").code()
    }
}
