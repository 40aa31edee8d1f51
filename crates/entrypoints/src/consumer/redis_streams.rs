//! Consumes from a Redis stream, in a consumer group. All copies of the program are one consumer there, as one consumes at a time: what one that died
//! had not acknowledged is the next one's to begin with.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use redis::aio::MultiplexedConnection;
use time::OffsetDateTime;

use super::{Delivery, Source, SourceError, Subscription};

/// The most messages in a page.
const PAGE: usize = 512;
/// How long to wait for a message before saying that there is none.
const WAIT: Duration = Duration::from_secs(1);
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The group, and the one consumer in it.
const GROUP: &str = "allocation";
/// After how long what another consumer of the group has not acknowledged is taken from it.
const GIVEN_UP: Duration = Duration::from_mins(1);

/// A stream of commands.
pub struct RedisStreams {
    client: redis::Client,
    stream: String,
}

impl RedisStreams {
    /// Consumes this stream of this Redis.
    pub fn new(client: redis::Client, stream: &str) -> Self {
        Self { client, stream: stream.to_owned() }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
fn failed(error: redis::RedisError) -> SourceError {
    SourceError(format!("Redis: {error}"))
}

#[async_trait]
impl Source for RedisStreams {
    fn name(&self) -> &'static str {
        "redis-stream"
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SourceError> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(WAIT + PATIENCE));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&self.stream).arg(GROUP).arg("0").arg("MKSTREAM");
        if let Err(error) = create.query_async::<()>(&mut connection).await
            && error.code() != Some("BUSYGROUP")
        {
            return Err(failed(error));
        }
        let mut page = Page { connection, stream: self.stream.clone(), begun_before: true, alone: false };
        page.claim().await?;
        page.alone = page.groups().await?.len() == 1;
        Ok(Box::new(page))
    }
}

struct Page {
    connection: MultiplexedConnection,
    stream: String,
    /// Whether there may still be messages that were delivered before and not acknowledged.
    begun_before: bool,
    /// Whether nobody else reads the stream: then what has been acknowledged is of no use to anybody.
    alone: bool,
}

/// Entries by id, each with its fields and values; without, if it has been deleted.
type Entries = Vec<(String, Option<Vec<(Vec<u8>, Vec<u8>)>>)>;

impl Page {
    /// Takes over what consumers of other names in the group have long not acknowledged.
    async fn claim(&mut self) -> Result<(), SourceError> {
        let mut cursor = "0-0".to_owned();
        loop {
            let mut claim = redis::cmd("XAUTOCLAIM");
            claim.arg(&self.stream).arg(GROUP).arg(GROUP).arg(GIVEN_UP.as_secs() * 1_000);
            claim.arg(&cursor).arg("COUNT").arg(PAGE).arg("JUSTID");
            let mut claimed: Vec<Value> = claim.query_async(&mut self.connection).await.map_err(failed)?;
            if claimed.is_empty() {
                return Ok(());
            }
            cursor = redis::from_redis_value(claimed.swap_remove(0)).map_err(|error| failed(error.into()))?;
            if cursor == "0-0" {
                return Ok(());
            }
        }
    }

    async fn groups(&mut self) -> Result<Vec<BTreeMap<String, Value>>, SourceError> {
        redis::cmd("XINFO").arg("GROUPS").arg(&self.stream).query_async(&mut self.connection).await.map_err(failed)
    }

    async fn entries(&mut self) -> Result<Entries, SourceError> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(GROUP).arg("COUNT").arg(PAGE);
        if !self.begun_before {
            read.arg("BLOCK").arg(WAIT.as_secs() * 1_000);
        }
        read.arg("STREAMS").arg(&self.stream).arg(if self.begun_before { "0" } else { ">" });
        let streams: Option<Vec<(String, Entries)>> = read.query_async(&mut self.connection).await.map_err(failed)?;
        Ok(streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries).collect())
    }

    async fn forget(&mut self, ids: &[&str]) -> Result<(), SourceError> {
        let mut done = redis::pipe();
        done.cmd("XACK").arg(&self.stream).arg(GROUP).arg(ids).ignore();
        if self.alone {
            done.cmd("XDEL").arg(&self.stream).arg(ids).ignore();
        }
        done.query_async(&mut self.connection).await.map_err(failed)
    }
}

fn sent_at(id: &str) -> Option<OffsetDateTime> {
    let millis: i128 = id.split_once('-')?.0.parse().ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).ok()
}

#[async_trait]
impl Subscription for Page {
    async fn next(&mut self) -> Result<Vec<Delivery>, SourceError> {
        let entries = self.entries().await?;
        if self.begun_before {
            self.begun_before = !entries.is_empty();
            let gone: Vec<&str> = entries.iter().filter(|(_, fields)| fields.is_none()).map(|(id, _)| &**id).collect();
            if !gone.is_empty() {
                tracing::warn!(stream = self.stream, ids = ?gone, "messages were deleted before they had their effect");
                self.forget(&gone).await?;
            }
        }
        let deliveries = entries.into_iter().filter_map(|(id, fields)| {
            let mut delivery = Delivery {
                sent_at: sent_at(&id),
                tag: id,
                channel: self.stream.clone(),
                headers: Vec::new(),
                body: Vec::new(),
            };
            for (name, value) in fields? {
                if name == b"body" {
                    delivery.body = value;
                } else {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    delivery.headers.push((text(&name), text(&value)));
                }
            }
            Some(delivery)
        });
        Ok(deliveries.collect())
    }

    async fn acknowledge(&mut self, deliveries: &[Delivery]) -> Result<(), SourceError> {
        self.forget(&deliveries.iter().map(|delivery| &*delivery.tag).collect::<Vec<_>>()).await
    }

    async fn waiting(&mut self) -> Result<Option<u64>, SourceError> {
        let groups = self.groups().await?;
        self.alone = groups.len() == 1;
        // An answer may have been lost with the connection that asked: what it held is looked for again.
        self.begun_before = true;
        let number = |group: &BTreeMap<String, Value>, name: &str| match group.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        let ours = groups.iter().find(|group| match group.get("name") {
            Some(Value::BulkString(name)) => name == GROUP.as_bytes(),
            _ => false,
        });
        Ok(ours.and_then(|group| Some(number(group, "lag")? + number(group, "pending")?)))
    }
}
