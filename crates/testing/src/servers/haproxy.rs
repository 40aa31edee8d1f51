//! A throwaway `HAProxy`, which gives each request to whichever copy says that it is ready.

use std::net::SocketAddr;
use std::process::Command;

use super::keeper::{Keeper, Ways, kept};
use super::{folder, free_port, tool};

/// A proxy of its own, before copies of a service.
pub struct HaProxy {
    keeper: Keeper,
    port: u16,
}

impl HaProxy {
    /// The header in which it says which copy has answered: `copy-` and its number among the addresses.
    pub const ANSWERED_BY: &str = "x-answered-by";

    /// Starts one before these addresses and waits until it takes connections. `None`: this machine has no such program.
    ///
    /// A copy that says no three times within 1.5 seconds is given nothing more. No request is given to a second copy once one has seen it, so that every
    /// failure is seen by the client.
    pub async fn start(copies: &[SocketAddr]) -> Option<Self> {
        let program = tool("haproxy", "haproxy")?;
        let (folder, port) = (folder("haproxy"), free_port());
        let servers = copies.iter().enumerate().map(|(n, address)| format!("    server copy-{n} {address}\n"));
        let config = format!(
            "defaults\n    mode http\n    timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n    timeout check 10s\n\
             frontend in\n    bind 127.0.0.1:{port}\n    default_backend copies\n\
             backend copies\n    option httpchk GET /readyz\n    option redispatch 1\n    retry-on conn-failure\n\
             \x20   default-server check inter 500ms fall 3 rise 1\n    http-response set-header {} %[srv_name]\n{}",
            Self::ANSWERED_BY,
            servers.collect::<String>()
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).expect("its folder");
        let mut haproxy = Command::new(program);
        haproxy.arg("-db").arg("-f").arg(file);
        let mut proxy = Self { keeper: Keeper::new(&haproxy, folder, &Ways::of_program()), port };
        proxy.bring_back().await;
        Some(proxy)
    }

    /// The URL of a path through it.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

kept!(HaProxy);
