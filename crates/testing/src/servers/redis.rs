//! A throwaway Redis. Its channels know no databases, so a test that publishes has a server of its own.

use std::process::Command;

use super::keeper::{Keeper, Ways, kept};
use super::programs::{Found, Wanted};
use super::{NO_TLS, folder, free_port, write_pair};
use crate::certificates::Pair;

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
    scheme: &'static str,
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
        let mut server = Self::with(&["--appendonly", "yes", "--appendfsync", "always"], None);
        server.bring_back().await;
        server
    }

    /// One that keeps nothing and is not running yet, but has its port.
    pub fn stopped() -> Self {
        Self::with(&["--appendonly", "no"], None)
    }

    /// Starts one that keeps nothing and speaks TLS only, showing this pair.
    pub async fn start_with_tls(pair: &Pair) -> Self {
        let mut server = Self::with(&["--appendonly", "no"], Some(pair));
        server.bring_back().await;
        server
    }

    fn with(settings: &[&str], pair: Option<&Pair>) -> Self {
        let (folder, port) = (folder("redis"), free_port());
        // Full means that it says so, and never that it forgets what it holds.
        let mut settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        settings.extend(["--save", "", "--maxmemory-policy", "noeviction"].map(str::to_owned));
        let keeper = match REDIS.find() {
            Found::Program(program) => {
                let data = folder.path().join("data");
                let mut redis = Command::new("sh");
                redis.args(["-c", r#"mkdir -p "$1"; cd "$1"; shift; exec "$@""#, "sh"]).arg(data).arg(program);
                redis.args(["--bind", "127.0.0.1"]).args(settings);
                match pair {
                    None => redis.args(["--port", &port.to_string()]),
                    Some(pair) => {
                        let files = write_pair(pair, folder.path());
                        redis.args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
                        redis.arg("--tls-cert-file").arg(files.chain).arg("--tls-key-file").arg(files.key)
                    }
                };
                Keeper::new(&redis, folder, &Ways::of_program())
            }
            Found::Image(image) => {
                assert!(pair.is_none(), "{NO_TLS}");
                Keeper::container(image, "TERM", (port, 6379), "/data", &[], &settings, folder)
            }
        };
        Self { keeper, port, scheme: if pair.is_some() { "rediss" } else { "redis" } }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/", self.scheme, self.port)
    }
}

kept!(RedisServer);
