//! A throwaway Redis. Its channels know no databases, so a test that publishes has a server of its own.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Child;

use super::programs::{Found, Wanted};
use super::{end, folder, free_port, supervise};

const REDIS: Wanted = Wanted {
    program: "redis-server",
    folders: &["/usr/sbin"],
    package: "redis-server",
    image: "docker.io/library/redis:7",
};

/// A server of its own, that can be taken away and brought back.
pub struct RedisServer {
    supervisor: Option<Child>,
    port: u16,
}

impl RedisServer {
    /// Starts one, and waits until it takes connections.
    pub async fn start() -> Self {
        let mut server = Self::stopped();
        server.bring_back().await;
        server
    }

    /// One that is not running yet, but has its port.
    pub fn stopped() -> Self {
        Self { supervisor: None, port: free_port() }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Stops it.
    pub fn take_away(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            end(&mut supervisor);
        }
    }

    /// Starts it again on the same port, empty.
    pub async fn bring_back(&mut self) {
        let (folder, port) = (folder("redis"), self.port.to_string());
        self.supervisor = Some(match REDIS.find() {
            Found::Program(program) => {
                let dir = folder.path().to_string_lossy().into_owned();
                let arguments =
                    ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &dir];
                supervise(&program, &arguments.map(str::to_owned), folder)
            }
            Found::Image(image) => {
                let publish = format!("127.0.0.1:{port}:6379");
                supervise("docker".as_ref(), &["run", "--rm", "-p", &publish, image].map(str::to_owned), folder)
            }
        });
        let port = self.port;
        crate::eventually("Redis to take connections", async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
            .await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.take_away();
    }
}
