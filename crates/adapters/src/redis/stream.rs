//! A Redis stream: keeps events until every group of consumers has acknowledged them.

use allocation_service_layer::metrics::{Metrics, SinkLabels};
use allocation_service_layer::ports::event_log::FeedEvent;
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::wire;
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::Link;

/// After how many entries to look for some that nobody needs any more.
const TRIM_EVERY: usize = 10_000;

/// Its name among the sinks.
const NAME: &str = "redis-stream";

/// Removes what every group has acknowledged, and says how many entries are left. In one step, so that no group can come in between.
///
/// What a group needs begins at the first entry that it has taken and not acknowledged, else behind the last that it has taken.
const TRIM: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local function parts(id)
    local milliseconds, number = string.match(id, '(%d+)-(%d+)')
    return tonumber(milliseconds), tonumber(number)
end
local first, first_number
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local of = {}
    for at = 1, #group, 2 do of[group[at]] = group[at + 1] end
    local pending = redis.call('XPENDING', KEYS[1], of['name'])
    local milliseconds, number
    if pending[1] > 0 then
        milliseconds, number = parts(pending[2])
    else
        milliseconds, number = parts(of['last-delivered-id'])
        number = number + 1
    end
    if not first or milliseconds < first or (milliseconds == first and number < first_number) then
        first, first_number = milliseconds, number
    end
end
if first then
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', first, first_number))
end
return redis.call('XLEN', KEYS[1])
";

/// Which stream, and how much of it.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Its key.
    pub key: String,
    /// How many entries it may hold.
    pub cap: usize,
}

/// Adds each event to a stream.
pub struct RedisStream {
    link: Link,
    settings: StreamSettings,
    metrics: Metrics,
    size: Mutex<Size>,
}

/// How long the stream is.
#[derive(Default)]
struct Size {
    /// Entries at last sight; unknown after a failure.
    entries: Option<usize>,
    /// How many were added since it was trimmed.
    added: usize,
}

impl RedisStream {
    /// Adds to a stream of this Redis ([`Trust::redis`](crate::tls::Trust::redis)). Connects when there is something to publish.
    pub fn new(client: redis::Client, settings: StreamSettings, metrics: Metrics) -> Self {
        Self { link: Link::new(client), settings, metrics, size: Mutex::default() }
    }

    /// Sees to it that there is room for so many more.
    async fn make_room(&self, size: &mut Size, more: usize) -> Result<(), DeliveryError> {
        let has_room = |entries: usize| entries + more <= self.settings.cap;
        if size.added >= TRIM_EVERY || !size.entries.is_some_and(has_room) {
            let mut trim = redis::pipe();
            trim.cmd("EVAL").arg(TRIM).arg(1).arg(&self.settings.key);
            let (entries,) = self.link.ask(&trim).await?;
            *size = Size { entries: Some(entries), added: 0 };
        }
        let entries = size.entries.unwrap_or_default();
        let is_full = !has_room(entries);
        self.metrics.full.get_or_create(&SinkLabels { sink: NAME }).set(i64::from(is_full));
        if is_full {
            let StreamSettings { key, cap } = &self.settings;
            return Err(DeliveryError(format!(
                "the stream {key} is full: of {cap} entries that it may hold, {entries} are not acknowledged by all its groups"
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl EventPublisher for RedisStream {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError> {
        let mut size = self.size.lock().await;
        self.make_room(&mut size, events.len()).await?;
        // All of them or none: were one of them refused and the next one taken, their order would be lost.
        let mut commands = redis::pipe();
        commands.atomic();
        for event in events {
            let envelope = wire::envelope(&event.body).map_err(|error| DeliveryError(error.to_string()))?;
            let add = commands.cmd("XADD").arg(&self.settings.key).arg("*");
            add.arg("id").arg(&*envelope.id).arg("body").arg(&event.body).ignore();
        }
        commands.cmd("XLEN").arg(&self.settings.key);
        size.entries = None;
        let (entries,) = self.link.ask(&commands).await?;
        size.entries = Some(entries);
        size.added += events.len();
        Ok(())
    }
}
