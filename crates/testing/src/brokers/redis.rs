//! Redis streams.

use async_trait::async_trait;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, Cmd, cmd};

use super::Broker;
use crate::Attempts;
use crate::servers::RedisServer;

const EVENTS: &str = "allocation.events";
const COMMANDS: &str = "allocation.commands";
const GROUP: &str = "test";

/// A Redis whose stream of events a group of our own reads.
pub struct RedisStreams {
    server: RedisServer,
    connection: Option<MultiplexedConnection>,
    /// The first entry of the last page.
    page: Option<String>,
    /// Whether there may be entries that were read and not acknowledged: an answer may have been lost with its connection.
    read_before: bool,
}

impl RedisStreams {
    /// Starts one.
    pub async fn start() -> Self {
        let mut broker = Self { server: RedisServer::durable().await, connection: None, page: None, read_before: true };
        broker.subscribe().await;
        broker
    }

    async fn subscribe(&mut self) {
        self.tell(&["XGROUP", "CREATE", EVENTS, GROUP, "0", "MKSTREAM"]).await;
    }

    async fn live(&mut self) -> RedisResult<MultiplexedConnection> {
        if self.connection.is_none() {
            let client = redis::Client::open(self.server.url())?;
            self.connection = Some(client.get_multiplexed_async_connection().await?);
            self.read_before = true;
        }
        Ok(self.connection.clone().expect("it was just made"))
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let mut live = self.live().await?;
        let answer = command.query_async(&mut live).await;
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    async fn tell(&mut self, words: &[&str]) {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        let mut attempts = Attempts::at("Redis to do as it is told");
        while self.ask::<redis::Value>(&command).await.is_err() {
            attempts.again().await;
        }
    }

    async fn page(&mut self) -> RedisResult<Vec<(String, String)>> {
        let mut live = self.live().await?;
        let options = StreamReadOptions::default().group(GROUP, "one").count(1_000);
        let from = if self.read_before { "0" } else { ">" };
        let read: Option<StreamReadReply> = live.xread_options(&[EVENTS], &[from], &options).await?;
        let entries = read.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        let page: Vec<_> =
            entries.map(|entry| (entry.id.clone(), entry.get("body").expect("an entry has a body"))).collect();
        self.read_before &= !page.is_empty();
        if let Some((first, _)) = page.first() {
            let ids: Vec<_> = page.iter().map(|(id, _)| id).collect();
            self.page = Some(first.clone());
            // Without an answer they may be acknowledged or not: they are taken now, and may come again.
            if live.xack::<_, _, _, usize>(EVENTS, GROUP, &ids).await.is_err() {
                self.connection = None;
            }
        }
        Ok(page)
    }
}

/// The id before another.
fn before(id: &str) -> String {
    let (milliseconds, number) = id.split_once('-').expect("an id has two parts");
    let (milliseconds, number): (u64, u64) =
        (milliseconds.parse().expect("a number"), number.parse().expect("a number"));
    number
        .checked_sub(1)
        .map_or_else(|| format!("{}-{}", milliseconds - 1, u64::MAX), |n| format!("{milliseconds}-{n}"))
}

#[async_trait]
impl Broker for RedisStreams {
    fn environment(&self) -> Vec<(String, String)> {
        vec![("REDIS_URL".into(), self.server.url()), ("REDIS_STREAM".into(), EVENTS.into())]
    }

    async fn send(&mut self, messages: &[String]) -> bool {
        let Ok(mut live) = self.live().await else { return false };
        let mut add = redis::pipe();
        for message in messages {
            add.cmd("XADD").arg(COMMANDS).arg("*").arg("body").arg(message).ignore();
        }
        let taken = add.query_async::<()>(&mut live).await.is_ok();
        if !taken {
            self.connection = None;
        }
        taken
    }

    async fn next(&mut self) -> Vec<String> {
        let page = self.page().await;
        if page.is_err() {
            self.connection = None;
        }
        page.unwrap_or_default().into_iter().map(|(_, body)| body).collect()
    }

    async fn redeliver(&mut self) {
        if let Some(first) = self.page.take() {
            self.tell(&["XGROUP", "SETID", EVENTS, GROUP, &before(&first)]).await;
        }
    }

    fn take_away(&mut self) {
        self.server.take_away();
    }

    async fn bring_back(&mut self) {
        self.server.bring_back().await;
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    async fn forget(&mut self) {
        self.server.forget().await;
        self.subscribe().await;
    }

    fn pause(&mut self) {
        self.server.pause();
    }

    fn resume(&mut self) {
        self.server.resume();
    }

    async fn fill(&mut self) {
        self.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
    }

    async fn drain(&mut self) {
        self.tell(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }

    async fn refuse(&mut self) {
        self.tell(&["ACL", "SETUSER", "default", "-xadd"]).await;
    }

    async fn accept(&mut self) {
        self.tell(&["ACL", "SETUSER", "default", "+xadd"]).await;
    }
}
