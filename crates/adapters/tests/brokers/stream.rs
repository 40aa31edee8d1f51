//! A Redis stream is trimmed below what every group has acknowledged, and never above.

use allocation_adapters::redis::{RedisStream, StreamSettings};
use allocation_adapters::tls::Trust;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::event_publisher::EventPublisher;
use allocation_testing::servers::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};

use crate::events;

const KEY: &str = "events";
const CAP: usize = 1_000;

struct World {
    server: RedisServer,
    connection: MultiplexedConnection,
    publisher: RedisStream,
    metrics: Metrics,
}

impl World {
    async fn new() -> Self {
        let server = RedisServer::start().await;
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let (settings, metrics) = (StreamSettings { key: KEY.into(), cap: CAP }, Metrics::new());
        let publisher = RedisStream::new(Trust::default().redis(&server.url()).unwrap(), settings, metrics.clone());
        Self { server, connection, publisher, metrics }
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        cmd(words[0]).arg(&words[1..]).query_async(&mut self.connection).await.unwrap()
    }

    async fn group(&mut self, name: &str) {
        let _: Value = self.ask(&["XGROUP", "CREATE", KEY, name, "0", "MKSTREAM"]).await;
    }

    /// Has a group take so many entries, and gives their ids.
    async fn take(&mut self, group: &str, count: usize) -> Vec<String> {
        let count = count.to_string();
        let words = ["XREADGROUP", "GROUP", group, "one", "COUNT", &count, "STREAMS", KEY, ">"];
        let reply: redis::streams::StreamReadReply = self.ask(&words).await;
        reply.keys.into_iter().flat_map(|key| key.ids).map(|entry| entry.id).collect()
    }

    async fn acknowledge(&mut self, group: &str, ids: &[String]) {
        let mut words = vec!["XACK", KEY, group];
        words.extend(ids.iter().map(String::as_str));
        let _: usize = self.ask(&words).await;
    }

    async fn publish(&self, positions: std::ops::Range<u64>) -> Result<(), String> {
        self.publisher.publish(&events(positions, 7)).await.map_err(|error| error.to_string())
    }

    /// Ids of the events that the stream has.
    async fn kept(&mut self) -> Vec<u64> {
        let entries: redis::streams::StreamRangeReply = self.ask(&["XRANGE", KEY, "-", "+"]).await;
        entries.ids.iter().map(|entry| entry.get::<String>("id").unwrap().parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn without_a_group_nothing_is_removed_and_a_full_stream_says_so() {
    let mut world = World::new().await;
    world.publish(0..1_000).await.unwrap();
    let refused = world.publish(1_000..1_001).await.unwrap_err();
    assert!(refused.contains("is full"), "{refused}");
    assert!(world.metrics.encode().contains("allocation_sink_full{sink=\"redis-stream\"} 1"));
    assert!(world.kept().await.into_iter().eq(0..1_000));
}

#[tokio::test]
async fn what_every_group_has_acknowledged_makes_room_and_nothing_else_does() {
    let mut world = World::new().await;
    world.group("quick").await;
    world.group("slow").await;
    world.publish(0..1_000).await.unwrap();
    let all = world.take("quick", 1_000).await;
    world.acknowledge("quick", &all).await;
    world.publish(1_000..1_001).await.unwrap_err();

    // The slow one has taken 500, and not acknowledged the 300th.
    let some = world.take("slow", 500).await;
    world.acknowledge("slow", &some[..300]).await;
    world.acknowledge("slow", &some[301..]).await;
    world.publish(1_000..1_301).await.unwrap_err();
    world.publish(1_000..1_300).await.unwrap();
    assert!(world.kept().await.into_iter().eq(300..1_300), "all from the first that is wanted on");
    world.acknowledge("slow", &some[300..301]).await;
    world.publish(1_300..1_500).await.unwrap();
    assert!(world.kept().await.into_iter().eq(500..1_500));
    assert!(world.metrics.encode().contains("allocation_sink_full{sink=\"redis-stream\"} 0"));
}

#[tokio::test]
async fn a_page_that_does_not_fit_into_memory_is_taken_whole_later() {
    let mut world = World::new().await;
    world.group("test").await;
    world.publish(0..10).await.unwrap();
    let _: Value = world.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    world.publish(10..20).await.unwrap_err();
    let _: Value = world.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(world.kept().await.into_iter().eq(0..10), "none of them");
    world.publish(10..20).await.unwrap();
    assert!(world.kept().await.into_iter().eq(0..20));
    world.server.take_away();
    world.publish(20..30).await.unwrap_err();
}
