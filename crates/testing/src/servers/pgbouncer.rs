//! A throwaway `PgBouncer`, which gives each transaction to whichever of a few sessions is free.

use std::process::Command;

use super::keeper::{Keeper, Ways, kept};
use super::{folder, free_port, tool};

/// A pooler of its own, before a database.
pub struct PgBouncer {
    keeper: Keeper,
    port: u16,
    database: String,
}

impl PgBouncer {
    /// Starts one before the server of the database at this URL, with so many sessions for each database at most, and waits until it takes connections. `None`: this machine has
    /// no such program.
    pub async fn start(url: &str, sessions: usize) -> Option<Self> {
        let program = tool("pgbouncer", "pgbouncer")?;
        let (folder, port) = (folder("pgbouncer"), free_port());
        let (place, database) = url.rsplit_once('/').expect("a database");
        let (_, server) = place.rsplit_once(':').expect("a port");
        // Whoever comes is let in as the one user that there is.
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=allocation\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {sessions}\nmax_client_conn = 1000\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, config).expect("its folder");
        let mut pgbouncer = Command::new(program);
        pgbouncer.arg(file);
        let keeper = Keeper::new(&pgbouncer, folder, &Ways::of_program());
        let mut pooler = Self { keeper, port, database: database.to_owned() };
        pooler.bring_back().await;
        Some(pooler)
    }

    /// The database's URL through it.
    pub fn url(&self) -> String {
        self.url_of(&self.database)
    }

    /// The URL through it of another database of the same server, given its own.
    pub fn before(&self, url: &str) -> String {
        self.url_of(url.rsplit_once('/').expect("a database").1)
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://allocation@127.0.0.1:{}/{database}", self.port)
    }
}

kept!(PgBouncer);
