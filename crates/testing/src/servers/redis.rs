//! A throwaway Redis. Its channels know no databases, so a test that publishes has a server of its own.

use std::process::Command;

use super::keeper::{Keeper, Ways, kept};
use super::programs::{Found, Wanted};
use super::{folder, free_port};

const REDIS: Wanted = Wanted {
    program: "redis-server",
    folders: &["/usr/sbin"],
    package: "redis-server",
    image: "docker.io/library/redis:7",
};

/// A server of its own, that can be taken away and brought back.
pub struct RedisServer {
    keeper: Keeper,
    port: u16,
}

impl RedisServer {
    /// Starts one that keeps nothing, and waits until it takes connections.
    pub async fn start() -> Self {
        let mut server = Self::stopped();
        server.bring_back().await;
        server
    }

    /// Starts one that writes each command to its disk, and syncs it, before it answers.
    pub async fn durable() -> Self {
        let mut server = Self::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        server.bring_back().await;
        server
    }

    /// One that keeps nothing and is not running yet, but has its port.
    pub fn stopped() -> Self {
        Self::with(&["--appendonly", "no"])
    }

    fn with(settings: &[&str]) -> Self {
        let (folder, port) = (folder("redis"), free_port());
        // Full means that it says so, and never that it forgets what it holds.
        let mut settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        settings.extend(["--save", "", "--maxmemory-policy", "noeviction"].map(str::to_owned));
        let keeper = match REDIS.find() {
            Found::Program(program) => {
                let data = folder.path().join("data");
                let mut redis = Command::new("sh");
                redis.args(["-c", r#"mkdir -p "$1"; cd "$1"; shift; exec "$@""#, "sh"]).arg(data).arg(program);
                redis.args(["--bind", "127.0.0.1", "--port", &port.to_string()]).args(settings);
                Keeper::new(&redis, folder, &Ways::of_program())
            }
            Found::Image(image) => Keeper::container(image, "TERM", (port, 6379), "/data", &[], &settings, folder),
        };
        Self { keeper, port }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

kept!(RedisServer);
