//! Keeps a server that a test takes away and brings back, with its data.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use super::command;
use crate::Attempts;

/// Does what it is told, a verb a line; at the end of its input, which the end of this process is too, it ends the server and removes the folder.
const SCRIPT: &str = r#"folder=$1; shift; server=
end() {
    if [ -n "$server" ]; then
        # Asked again and again, since a server that has just begun to start does not hear yet; nor does one that stands still.
        (while kill "-$KEEPER_END" "$server" && kill -CONT "$server"; do sleep 0.1; done) 2>/dev/null &
        wait "$server"; server=
    fi
}
while read -r verb; do
    case $verb in
        start) "$@" >>"$folder/log" 2>&1 </dev/null & server=$! ;;
        end) end ;;
        kill) [ -z "$server" ] || { eval "$KEEPER_KILL"; wait "$server"; server=; } ;;
        wipe) eval "$KEEPER_WIPE" ;;
        pause) kill -STOP "$server" ;;
        resume) kill -CONT "$server" ;;
    esac
    echo
done
end; eval "$KEEPER_LAST"; rm -rf "$folder""#;

/// Gives a server what all that are kept can do.
macro_rules! kept {
    ($server:ident) => {
        impl $server {
            /// Has it end in good order; what it has on disk it keeps.
            pub fn take_away(&mut self) {
                self.keeper.end();
            }

            /// Starts it again on the same port, with what it has kept.
            pub async fn bring_back(&mut self) {
                self.keeper.start(self.port).await;
            }

            /// Ends it without warning (SIGKILL).
            pub fn kill(&mut self) {
                self.keeper.kill();
            }

            /// Has it come back with nothing.
            pub async fn forget(&mut self) {
                self.keeper.end();
                self.keeper.wipe();
                self.bring_back().await;
            }

            /// Has it stand still (SIGSTOP): it answers nothing, and its connections stay open.
            pub fn pause(&mut self) {
                self.keeper.pause();
            }

            /// Has it go on.
            pub fn resume(&mut self) {
                self.keeper.resume();
            }

            /// What it has said.
            pub fn log(&self) -> String {
                self.keeper.log()
            }
        }
    };
}
pub(super) use kept;

/// A server, running or not, and its folder.
pub(super) struct Keeper {
    process: Child,
    verbs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

/// What is peculiar to how a server is run.
pub(super) struct Ways {
    /// The signal that it ends at in good order.
    pub(super) end: &'static str,
    /// Ends it at once.
    pub(super) kill: String,
    /// Removes its data.
    pub(super) wipe: String,
    /// What there is to do when all is over.
    pub(super) last: String,
}

impl Ways {
    /// Those of a program whose data is in `data` in its folder.
    pub(super) fn of_program() -> Self {
        Self {
            end: "TERM",
            kill: r#"kill -KILL "$server""#.into(),
            wipe: r#"rm -rf "$folder/data""#.into(),
            last: String::new(),
        }
    }

    /// Those of a container of this name, whose data is in a volume of this name.
    fn of_container(name: &str) -> Self {
        let wipe = format!("docker volume rm -f {name}");
        Self { end: "TERM", kill: format!("docker kill {name}"), last: wipe.clone(), wipe }
    }
}

impl Keeper {
    /// Keeps a server that this command starts. It is not running yet.
    pub(super) fn new(server: &Command, folder: TempDir, ways: &Ways) -> Self {
        let mut keeper = command("sh");
        keeper.args(["-c", SCRIPT, "sh"]).arg(folder.path()).arg(server.get_program()).args(server.get_args());
        keeper.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        keeper
            .env("KEEPER_END", ways.end)
            .env("KEEPER_KILL", &ways.kill)
            .env("KEEPER_WIPE", &ways.wipe)
            .env("KEEPER_LAST", &ways.last);
        std::os::unix::process::CommandExt::process_group(&mut keeper, 0);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = keeper.spawn().expect("sh");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { verbs: process.stdin.take(), process, answers, folder: folder.keep() }
    }

    /// Keeps a container of this image, with `port` reaching its `inner` port and its data in the container's folder `data`. It ends in good order at
    /// the signal `end`.
    pub(super) fn container(
        image: &str,
        end: &'static str,
        (port, inner): (u16, u16),
        data: &str,
        options: &[String],
        arguments: &[String],
        folder: TempDir,
    ) -> Self {
        let name = format!("allocation-{}-{port}", std::process::id());
        let mut docker = Command::new("docker");
        docker.args(["run", "--rm", "--name", &name, "-v", &format!("{name}:{data}")]);
        docker.args(["-p", &format!("127.0.0.1:{port}:{inner}")]).args(options).arg(image).args(arguments);
        Self::new(&docker, folder, &Ways { end, ..Ways::of_container(&name) })
    }

    fn tell(&mut self, verb: &str) {
        let verbs = self.verbs.as_mut().expect("it is told nothing once it is dropped");
        verbs.write_all(format!("{verb}\n").as_bytes()).expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        assert_eq!(answer, "\n", "the keeper has ended");
    }

    /// Starts the server, without waiting for it.
    pub(super) fn begin(&mut self) {
        self.tell("start");
    }

    /// Starts the server, and waits until it takes connections.
    pub(super) async fn start(&mut self, port: u16) {
        self.begin();
        let mut attempts = Attempts::at("a server to take connections");
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            attempts.again_or(|| format!("; it has said:\n{}", self.log())).await;
        }
    }

    /// Has it end in good order.
    pub(super) fn end(&mut self) {
        self.tell("end");
    }

    /// Ends it without warning (SIGKILL).
    pub(super) fn kill(&mut self) {
        self.tell("kill");
    }

    /// Removes its data; it must not be running.
    pub(super) fn wipe(&mut self) {
        self.tell("wipe");
    }

    /// Has it stand still (SIGSTOP): it answers nothing, and its connections stay open.
    pub(super) fn pause(&mut self) {
        self.tell("pause");
    }

    /// Has it go on.
    pub(super) fn resume(&mut self) {
        self.tell("resume");
    }

    /// What it has said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.verbs.take());
        let _ = self.process.wait();
    }
}
