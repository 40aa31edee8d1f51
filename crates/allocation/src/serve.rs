//! Runs the service: web, relay, webhooks and consumer, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use allocation_adapters::nats::NatsPublisher;
use allocation_adapters::rabbitmq::RabbitPublisher;
use allocation_adapters::redis::{RedisPublisher, RedisStream};
use allocation_adapters::smtp::{SmtpNotifications, mailbox};
use allocation_adapters::webhook::HttpWebhooks;
use allocation_entrypoints::consumer::Source;
use allocation_entrypoints::consumer::nats::NatsSource;
use allocation_entrypoints::consumer::rabbitmq::RabbitSource;
use allocation_entrypoints::consumer::redis_pubsub::RedisPubSub;
use allocation_entrypoints::consumer::redis_streams::RedisStreams;
use allocation_entrypoints::web::{self, WebParts};
use allocation_service_layer::access::Access;
use allocation_service_layer::feed::Feed;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::webhooks::WebhookSender;
use allocation_service_layer::relay::{Relay, Sink};
use allocation_service_layer::sinks;
use allocation_service_layer::sweeper::Sweeper;
use allocation_service_layer::webhooks::{Delivery, Hooks};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::bootstrap::{Ambient, RunningLane, Store};
use crate::config::{BadVariable, Config, Door, Parts, reveal};

/// How long work in flight may take once the program is told to stop.
const GRACE: Duration = Duration::from_secs(20);

impl Parts {
    /// The relay alone.
    pub(crate) const ONLY_RELAY: Self = Self { web: false, relay: true, consumer: false };

    /// The consumer alone, which needs a broker.
    pub(crate) fn only_consumer(config: &Config) -> Result<Self, BadVariable> {
        if config.redis.is_none() && config.nats.is_none() && config.amqp.is_none() {
            let why = "must be set, or NATS_URL or AMQP_URL, to have something to consume from";
            return Err(BadVariable::new("REDIS_URL", why));
        }
        Ok(Self { web: false, relay: false, consumer: true })
    }
}

/// Runs until SIGINT or SIGTERM; a second one ends at once.
pub(crate) async fn run(config: &Config, parts: Parts) -> Result<(), Failure> {
    let door = parts.web.then(|| config.door()).transpose()?;
    let stop = CancellationToken::new();
    let store = Store::open_migrated(config).await?;
    let sinks = configured_sinks(config, &store.ambient.metrics)?;
    introduce(config, store.log().as_ref(), &sinks).await?;
    let lane = store.start_lane(config.limits)?;
    let webhooks = HttpWebhooks::new(config.webhook_reach, config.webhook_patience);
    let webhooks: Arc<dyn WebhookSender> = Arc::new(webhooks?);
    let feed = Arc::new(Feed::new(store.log(), store.ambient.metrics.clone(), stop.clone()));
    let mut tasks: JoinSet<Result<(), Failure>> = JoinSet::new();

    if parts.relay && (store.needs_numbering() || !sinks.is_empty()) {
        let ambient = &store.ambient;
        let holder = ambient.entropy.uuid(ambient.clock.now()).to_string();
        let relay = Relay::new(store.log(), ambient.clock.clone(), ambient.metrics.clone(), sinks, holder);
        let (committed, stop) = (lane.committed.clone(), stop.clone());
        tasks.spawn(async move {
            relay.run(committed, stop).await;
            Ok(())
        });
    }
    if parts.relay {
        let delivery = delivery(&store, feed.clone(), webhooks.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            delivery.run(stop).await;
            Ok(())
        });
    }
    if parts.web || parts.relay {
        let (feed, committed) = (feed.clone(), lane.committed.clone());
        tasks.spawn(async move {
            feed.watch(committed).await;
            Ok(())
        });
        let sweeper = Sweeper {
            reader: store.reader(),
            commands: Arc::new(lane.handle.clone()),
            clock: store.ambient.clock.clone(),
            entropy: store.ambient.entropy.clone(),
            time_zones: config.usual.time_zones.clone(),
            housekeeping: store.housekeeping(),
            keep_keys: config.keep_keys,
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            sweeper.run(stop).await;
            Ok(())
        });
    }
    if let Some(age) = config.keep_events.filter(|_| parts.web || parts.relay) {
        let (archivist, stop) = (store.archivist(), stop.clone());
        tasks.spawn(async move {
            archivist.run(age, stop).await;
            Ok(())
        });
    }
    if parts.consumer {
        let consumer = store.consumer(Arc::new(lane.handle.clone()));
        for source in sources(config)? {
            let (consumer, stop) = (consumer.clone(), stop.clone());
            tasks.spawn(async move {
                consumer.run(source.as_ref(), &stop).await;
                Ok(())
            });
        }
    }
    if let Some(door) = door {
        let access = access(door, &store, &mut tasks, &stop).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| BadVariable::new("LISTEN", format!("{}: {error}", config.listen)))?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        let state = web_parts(&store, &lane, feed.clone(), webhooks.clone(), access);
        // An answer is one small packet; waiting to fill it would only make it late.
        let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
        let stop = stop.clone();
        tasks.spawn(async move {
            let served =
                axum::serve(listener, web::router(state.into())).with_graceful_shutdown(stop.cancelled_owned());
            served.await.map_err(Failure::from)
        });
    }
    drop(lane.handle);
    let ended = wait(tasks, &stop).await;
    // Every handle is gone by now: the lane finishes what it has accepted and ends.
    if tokio::time::timeout(GRACE, lane.ended).await.is_err() {
        tracing::warn!("the lane did not end in time");
    }
    tracing::info!("stopped");
    ended
}

/// Waits for a signal or for a part to fail, then for all parts to end.
async fn wait(mut tasks: JoinSet<Result<(), Failure>>, stop: &CancellationToken) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut ended = Ok(());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(part) = tasks.join_next() => ended = part.map_err(Failure::from).flatten(),
    }
    tracing::info!("stopping");
    stop.cancel();
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = tokio::time::sleep(GRACE) => tracing::warn!("some work did not end in time"),
        _ = interrupt.recv() => std::process::exit(130),
        _ = terminate.recv() => std::process::exit(143),
    }
    ended
}

/// What lets callers in, as configured.
async fn access(
    door: Door,
    store: &Store,
    tasks: &mut JoinSet<Result<(), Failure>>,
    stop: &CancellationToken,
) -> StoreResult<Access> {
    if door == Door::Open {
        return Ok(Access::Open);
    }
    let now = store.ambient.clock.now();
    if !store.api_keys().api_keys().await?.iter().any(|key| key.in_force(now)) {
        tracing::warn!("no API key is in force, so nobody is let in: make one with `allocation keys create`");
    }
    let ring = Arc::new(store.key_ring());
    let (uses, stop) = (ring.clone(), stop.clone());
    tasks.spawn(async move {
        uses.run(stop).await;
        Ok(())
    });
    Ok(Access::Credentials(ring))
}

/// What the web API works with.
fn web_parts(
    store: &Store,
    lane: &RunningLane,
    feed: Arc<Feed>,
    webhooks: Arc<dyn WebhookSender>,
    access: Access,
) -> WebParts {
    let Ambient { clock, entropy, metrics } = store.ambient.clone();
    WebParts {
        commands: Arc::new(lane.handle.clone()),
        reader: store.reader(),
        foresight: lane.foresight.clone(),
        feed,
        hooks: Arc::new(hooks(store, webhooks)),
        clock,
        entropy,
        metrics,
        access,
    }
}

/// Where commands come from, as configured.
fn sources(config: &Config) -> Result<Vec<Box<dyn Source>>, BadVariable> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    if let Some(url) = &config.redis {
        let bad = |why| BadVariable::new("REDIS_URL", why);
        sources.push(Box::new(RedisPubSub::new(reveal(url)).map_err(bad)?));
        sources.push(Box::new(RedisStreams::new(reveal(url), &config.redis_commands).map_err(bad)?));
    }
    if let Some(url) = &config.nats {
        let (stream, subject) = &config.nats_commands;
        sources.push(Box::new(NatsSource::new(reveal(url), stream, subject)));
    }
    if let Some(url) = &config.amqp {
        sources.push(Box::new(RabbitSource::new(reveal(url), &config.amqp_commands)));
    }
    Ok(sources)
}

/// Where events go, as configured.
pub(crate) fn configured_sinks(config: &Config, metrics: &Metrics) -> Result<Vec<Sink>, BadVariable> {
    let mut sinks = Vec::new();
    if let Some(url) = &config.redis {
        let redis = RedisPublisher::new(reveal(url)).map_err(|error| BadVariable::new("REDIS_URL", error))?;
        sinks.push(Sink::Publisher(Arc::new(redis)));
        if let Some(settings) = &config.redis_stream {
            let stream = RedisStream::new(reveal(url), settings.clone(), metrics.clone());
            sinks.push(Sink::Publisher(Arc::new(stream.map_err(|error| BadVariable::new("REDIS_URL", error))?)));
        }
    }
    if let Some(url) = &config.nats {
        sinks.push(Sink::Publisher(Arc::new(NatsPublisher::new(reveal(url), &config.nats_stream))));
    }
    if let Some(url) = &config.amqp {
        let (exchange, unrouted) = (&config.amqp_exchange, config.amqp_unrouted);
        let rabbit = RabbitPublisher::new(reveal(url), exchange, unrouted, metrics.clone());
        sinks.push(Sink::Publisher(Arc::new(rabbit)));
    }
    if let Some(url) = &config.smtp {
        let from = mailbox(&config.notify_from).map_err(|why| BadVariable::new("NOTIFY_FROM", why))?;
        let to = mailbox(&config.notify_to).map_err(|why| BadVariable::new("NOTIFY_TO", why))?;
        let mail = SmtpNotifications::new(reveal(url), from, to);
        sinks.push(Sink::Mail(Arc::new(mail.map_err(|error| BadVariable::new("SMTP_URL", error))?)));
    }
    Ok(sinks)
}

/// Makes known those sinks that are new, before anything happens that they are to see.
pub(crate) async fn introduce(config: &Config, log: &dyn EventLog, sinks: &[Sink]) -> StoreResult<()> {
    let named = sinks.iter().map(|sink| (sink.name(), config.begin.of(sink.name())));
    sinks::introduce(log, named).await
}

/// What sends events to webhooks.
fn delivery(store: &Store, feed: Arc<Feed>, sender: Arc<dyn WebhookSender>) -> Delivery {
    let Ambient { clock, entropy, metrics } = store.ambient.clone();
    let holder = entropy.uuid(clock.now()).to_string();
    Delivery { feed, log: store.log(), hooks: store.webhooks(), sender, clock, entropy, metrics, holder }
}

/// What registers webhooks and looks after them.
fn hooks(store: &Store, sender: Arc<dyn WebhookSender>) -> Hooks {
    let Ambient { clock, entropy, .. } = store.ambient.clone();
    Hooks { store: store.webhooks(), log: store.log(), sender, clock, entropy }
}
