//! A throwaway NATS with `JetStream`.

use std::process::Command;

use super::keeper::{Keeper, Ways, kept};
use super::programs::{Found, Wanted};
use super::{NO_TLS, folder, free_port, write_pair};
use crate::certificates::Pair;

const NATS: Wanted = Wanted {
    program: "nats-server",
    folders: &["/usr/sbin"],
    package: "nats-server",
    image: "docker.io/library/nats:2",
};

/// How much its streams may hold unless a test says otherwise.
const STORE: u64 = 1 << 30;

/// A server of its own, that can be taken away and brought back.
pub struct NatsServer {
    keeper: Keeper,
    port: u16,
    scheme: &'static str,
}

impl NatsServer {
    /// Starts one, and waits until it takes connections.
    pub async fn start() -> Self {
        Self::with_store(STORE).await
    }

    /// Starts one whose streams may hold so many bytes on disk.
    pub async fn with_store(bytes: u64) -> Self {
        Self::with(bytes, None).await
    }

    /// Starts one that speaks TLS only, showing this pair.
    pub async fn start_with_tls(pair: &Pair) -> Self {
        Self::with(STORE, Some(pair)).await
    }

    async fn with(bytes: u64, pair: Option<&Pair>) -> Self {
        let (folder, port) = (folder("nats"), free_port());
        let config = |port: u16, host: &str, data: &str| {
            format!(
                "host: {host}\nport: {port}\nserver_name: allocation-tests\n\
                 jetstream {{ store_dir: \"{data}\", max_file_store: {bytes}, max_memory_store: 16777216 }}\n"
            )
        };
        let file = folder.path().join("nats.conf");
        let keeper = match NATS.find() {
            Found::Program(program) => {
                let data = folder.path().join("data");
                let mut text = config(port, "127.0.0.1", &data.to_string_lossy());
                if let Some(pair) = pair {
                    let files = write_pair(pair, folder.path());
                    let (chain, key) = (files.chain.display(), files.key.display());
                    text = format!("{text}tls {{ cert_file: \"{chain}\", key_file: \"{key}\" }}\n");
                }
                std::fs::write(&file, text).expect("its folder");
                let mut nats = Command::new(program);
                nats.arg("--config").arg(file);
                Keeper::new(&nats, folder, &Ways::of_program())
            }
            Found::Image(image) => {
                assert!(pair.is_none(), "{NO_TLS}");
                std::fs::write(&file, config(4222, "0.0.0.0", "/data")).expect("its folder");
                let mounted = ["-v".to_owned(), format!("{}:/nats.conf:ro", file.display())];
                let arguments = ["--config", "/nats.conf"].map(str::to_owned);
                Keeper::container(image, "TERM", (port, 4222), "/data", &mounted, &arguments, folder)
            }
        };
        let mut server = Self { keeper, port, scheme: if pair.is_some() { "tls" } else { "nats" } };
        server.bring_back().await;
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }
}

kept!(NatsServer);
