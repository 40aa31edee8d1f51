//! A throwaway cluster of two `PostgreSQL` servers under Patroni, which itself decides who is the primary.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use tokio_postgres::NoTls;

use super::keeper::{Keeper, Ways};
use super::postgres::{INITDB, KILL, empty_database};
use super::programs::{Found, tool};
use super::{folder, free_port};

/// Two servers, each with its Patroni, and a third vote. One is in step with the other: what a COMMIT was answered for, both have.
pub struct Patroni {
    nodes: [Node; 2],
    _witness: Keeper,
}

struct Node {
    keeper: Keeper,
    port: u16,
    /// Where its Patroni answers.
    rest: u16,
}

impl Patroni {
    /// Starts it, and waits until there is a primary and a standby in step. `None`: this machine has no such program.
    pub async fn start() -> Option<Self> {
        let patroni = tool("patroni", "patroni")?;
        let witness = tool("patroni_raft_controller", "patroni")?;
        // What its votes are sent with.
        tool("syncobj_admin", "python3-pysyncobj")?;
        let Found::Program(initdb) = INITDB.find() else { return None };
        let programs = initdb.canonicalize().expect("initdb").parent().expect("its folder").to_owned();
        let votes = [free_port(), free_port(), free_port()];
        let keep = |program: &Path, folder: tempfile::TempDir, config: &str, ways: &Ways| {
            let file = folder.path().join("patroni.yml");
            std::fs::write(&file, config).expect("its folder");
            let mut server = Command::new(program);
            server.arg(file);
            let mut keeper = Keeper::new(&server, folder, ways);
            keeper.begin();
            keeper
        };
        let node = |nth: usize| {
            let (folder, port, rest) = (folder("patroni"), free_port(), free_port());
            let config = node(nth, folder.path(), (port, rest), &programs, &raft(folder.path(), nth, votes));
            // Its server is no child of it.
            let kill = format!(
                "kill -KILL \"$server\"\n(server=$(head -n 1 \"$folder/data/postmaster.pid\") || exit; {KILL}\n)"
            );
            Node { keeper: keep(&patroni, folder, &config, &Ways { kill, ..Ways::of_program() }), port, rest }
        };
        let nodes = [node(0), node(1)];
        let folder = folder("patroni");
        let config = raft(folder.path(), 2, votes);
        let cluster = Self { nodes, _witness: keep(&witness, folder, &config, &Ways::of_program()) };
        is_in_step(&cluster.nodes).await;
        Some(cluster)
    }

    /// Makes an empty database, and gives the URL that names both servers.
    pub async fn database(&self) -> String {
        let url = empty_database(self.primary().await).await;
        format!("{}/{}", self.place(), url.rsplit_once('/').expect("a database").1)
    }

    /// Ends the primary and its Patroni without warning (SIGKILL), and gives which it was.
    pub async fn kill_primary(&mut self) -> usize {
        let port = self.primary().await;
        let nth = self.nodes.iter().position(|node| node.port == port).expect("one of them");
        self.nodes[nth].keeper.kill();
        nth
    }

    /// Waits until the other is the primary. One that is brought back before would still be it, since its time is not over.
    pub async fn has_promoted_other(&self, than: usize) {
        crate::eventually("another primary", async || (self.primary().await != self.nodes[than].port).then_some(()))
            .await;
    }

    /// Starts again what was killed, and waits until it is in step with the other.
    pub async fn bring_back(&mut self, nth: usize) {
        self.nodes[nth].keeper.begin();
        is_in_step(&self.nodes[nth..=nth]).await;
    }

    /// The port of the one that may be written to.
    async fn primary(&self) -> u16 {
        let url = format!("{}/postgres?target_session_attrs=read-write", self.place());
        crate::eventually("a primary", async || {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.ok()?;
            tokio::spawn(connection);
            let port: i32 = client.query_one("SELECT inet_server_port()", &[]).await.ok()?.get(0);
            u16::try_from(port).ok()
        })
        .await
    }

    /// Where both servers are.
    fn place(&self) -> String {
        let [one, other] = &self.nodes;
        format!("postgres://allocation@127.0.0.1:{},127.0.0.1:{}", one.port, other.port)
    }
}

impl Node {
    /// Whether its Patroni says that it is the standby that has everything.
    fn is_in_step(&self) -> io::Result<bool> {
        let mut asked = TcpStream::connect((Ipv4Addr::LOCALHOST, self.rest))?;
        asked.write_all(b"GET /synchronous HTTP/1.0\r\n\r\n")?;
        let mut told = String::new();
        asked.read_to_string(&mut told)?;
        Ok(told.split(' ').nth(1) == Some("200"))
    }
}

/// Waits until one of these is in step. It is not enough that a server is: until the others have agreed that it is, nobody would promote it.
async fn is_in_step(nodes: &[Node]) {
    let agreed = || nodes.iter().any(|node| node.is_in_step().unwrap_or(false));
    crate::eventually("a standby in step", async || agreed().then_some(())).await;
}

/// How the three vote.
fn raft(folder: &Path, nth: usize, votes: [u16; 3]) -> String {
    let partners: Vec<String> =
        votes.iter().filter(|&&vote| vote != votes[nth]).map(|vote| format!("\"127.0.0.1:{vote}\"")).collect();
    let (data, own, partners) = (folder.join("raft"), votes[nth], partners.join(", "));
    format!("raft: {{data_dir: {}, self_addr: \"127.0.0.1:{own}\", partner_addrs: [{partners}]}}\n", data.display())
}

/// One of the two. Patroni gives a primary that says nothing no less than 20 seconds.
fn node(nth: usize, folder: &Path, (port, rest): (u16, u16), programs: &Path, raft: &str) -> String {
    let (folder, programs) = (folder.display(), programs.display());
    format!(
        "scope: allocation
name: node{nth}
restapi: {{listen: \"127.0.0.1:{rest}\", connect_address: \"127.0.0.1:{rest}\"}}
{raft}bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    synchronous_mode: true
    postgresql: {{use_pg_rewind: true}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}, {{auth: trust}}, no-sync]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {folder}/data
  bin_dir: {programs}
  pgpass: {folder}/pgpass
  authentication: {{superuser: {{username: allocation}}, replication: {{username: replicator}}}}
  pg_hba: [\"host all all 127.0.0.1/32 trust\", \"host replication all 127.0.0.1/32 trust\"]
  parameters: {{unix_socket_directories: {folder}, max_connections: 200, fsync: \"off\"}}
"
    )
}
