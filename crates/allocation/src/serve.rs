//! Runs the service: web, relay, webhooks and consumer, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use allocation_adapters::nats::NatsPublisher;
use allocation_adapters::otlp::OtlpTracer;
use allocation_adapters::rabbitmq::RabbitPublisher;
use allocation_adapters::redis::{RedisPublisher, RedisStream};
use allocation_adapters::smtp::{SmtpNotifications, mailbox};
use allocation_adapters::webhook::HttpWebhooks;
use allocation_entrypoints::consumer::Source;
use allocation_entrypoints::consumer::nats::NatsSource;
use allocation_entrypoints::consumer::rabbitmq::RabbitSource;
use allocation_entrypoints::consumer::redis_pubsub::RedisPubSub;
use allocation_entrypoints::consumer::redis_streams::RedisStreams;
use allocation_entrypoints::web::{self, Certificate, ConnectionLimits, Server, Surroundings, WebParts};
use allocation_service_layer::access::Access;
use allocation_service_layer::census::Census;
use allocation_service_layer::feed::Feed;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::database::StoreResult;
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::tracer::Traces;
use allocation_service_layer::ports::webhooks::WebhookSender;
use allocation_service_layer::relay::{Relay, Sink};
use allocation_service_layer::sinks;
use allocation_service_layer::sweeper::Sweeper;
use allocation_service_layer::webhooks::{Delivery, Hooks};
use tokio::net::TcpListener;

use crate::Failure;
use crate::bootstrap::{Ambient, Store};
use crate::config::{BadVariable, Config, Door, Parts, reveal};
use crate::life::{Life, allow_connections};

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
    let mut store = Store::open_migrated(config).await?;
    let tracer = tracer(config, &store.ambient)?;
    if let Some(tracer) = tracer.clone() {
        store.ambient.traces = Traces::new(tracer);
    }
    let sinks = configured_sinks(config, &store.ambient.metrics)?;
    introduce(config, store.log().as_ref(), &sinks).await?;
    let mut life = Life::begin()?;
    let lane = store.start_lane(config.limits)?;
    let webhooks = HttpWebhooks::new(config.webhook_reach, config.webhook_patience, &config.trust);
    let webhooks: Arc<dyn WebhookSender> = Arc::new(webhooks?);
    let feed = Arc::new(Feed::new(store.log(), store.ambient.metrics.clone(), life.stop.clone()));

    if parts.relay && (store.needs_numbering() || !sinks.is_empty()) {
        let ambient = &store.ambient;
        let holder = ambient.entropy.uuid(ambient.clock.now()).to_string();
        let relay = Relay::new(store.log(), ambient.clock.clone(), ambient.metrics.clone(), sinks, holder)
            .with_traces(ambient.traces.clone());
        let committed = lane.committed.clone();
        life.until_end(async move |end| relay.run(committed, end).await);
    }
    if parts.relay {
        let delivery = delivery(&store, feed.clone(), webhooks.clone());
        life.until_stop(async move |stop| delivery.run(stop).await);
    }
    if parts.web || parts.relay {
        let (feed, committed) = (feed.clone(), lane.committed.clone());
        life.until_stop(async move |_| feed.watch(committed).await);
        let sweeper = Sweeper {
            reader: store.reader(),
            commands: Arc::new(lane.handle.clone()),
            clock: store.ambient.clock.clone(),
            entropy: store.ambient.entropy.clone(),
            usual: config.usual.clone(),
            housekeeping: store.housekeeping(),
            keep_keys: config.keep_keys,
        };
        life.until_stop(async move |stop| sweeper.run(stop).await);
        let census = Census { reader: store.reader(), metrics: store.ambient.metrics.clone() };
        life.until_stop(async move |stop| census.run(stop).await);
    }
    if let Some(age) = config.keep_events.filter(|_| parts.web || parts.relay) {
        let archivist = store.archivist();
        life.until_stop(async move |stop| archivist.run(age, stop).await);
    }
    if parts.consumer {
        let consumer = store.consumer(Arc::new(lane.handle.clone()));
        for source in sources(config)? {
            let consumer = consumer.clone();
            life.until_stop(async move |stop| consumer.run(source.as_ref(), &stop).await);
        }
    }
    let mut stopping = config.stopping;
    if let Some(door) = door {
        let access = access(door, config, &store, &mut life).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| BadVariable::new("LISTEN", format!("{}: {error}", config.listen)))?;
        let certificate = certificate(config)?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        let Ambient { clock, metrics, traces, .. } = store.ambient.clone();
        let state = WebParts {
            commands: Arc::new(lane.handle.clone()),
            reader: store.reader(),
            foresight: lane.foresight.clone(),
            feed: feed.clone(),
            hooks: Arc::new(hooks(&store, webhooks.clone())),
            clock: clock.clone(),
            entropy: store.ambient.entropy.clone(),
            metrics: metrics.clone(),
            traces,
            access,
            limits: config.request_limits,
            leaving: life.leaving.clone(),
            surroundings: Surroundings { tls: certificate.is_some(), origins: config.origins.clone() },
        };
        let connections = allow_connections(config.connection_limits.connections);
        let limits = ConnectionLimits { connections, ..config.connection_limits };
        let mut server = Server::new(web::router(state.into()), limits, clock, metrics);
        if let Some(certificate) = certificate {
            server = server.with_tls(&certificate);
            life.until_stop(async move |stop| certificate.follow(stop).await);
        }
        life.until_stop(async move |stop| server.run(listener, stop).await);
    } else {
        // Nobody sends requests here.
        stopping.notice = Duration::ZERO;
    }
    let lived = life.live(lane.handle, lane.ended, stopping).await;
    if let Some(tracer) = tracer {
        tracer.end().await;
    }
    lived
}

/// Who is told of spans, as configured.
fn tracer(config: &Config, ambient: &Ambient) -> Result<Option<Arc<OtlpTracer>>, BadVariable> {
    let Some(collector) = config.collector.clone() else { return Ok(None) };
    let tracer = OtlpTracer::new(collector, &config.trust, ambient.clock.clone());
    tracer.map(|tracer| Some(Arc::new(tracer))).map_err(|why| BadVariable::new("OTEL_EXPORTER_OTLP_ENDPOINT", why))
}

/// What the web API shows to those who speak TLS, as configured.
fn certificate(config: &Config) -> Result<Option<Certificate>, BadVariable> {
    let Some(files) = &config.certificate else { return Ok(None) };
    let loaded = Certificate::load(files.clone(), config.connection_limits.streams.is_some());
    loaded.map(Some).map_err(|why| BadVariable::new("TLS_CERT_FILE", why))
}

/// What lets callers in, as configured.
async fn access(door: Door, config: &Config, store: &Store, life: &mut Life) -> Result<Access, Failure> {
    if door == Door::Open {
        return Ok(Access::Open);
    }
    let pace = config.requests_per_key;
    let tokens = config.oidc.as_ref().map(|oidc| store.tokens(oidc, &config.trust, pace).map(Arc::new)).transpose()?;
    if let Some(tokens) = tokens.clone() {
        life.until_stop(async move |stop| tokens.run(stop).await);
    } else {
        let now = store.ambient.clock.now();
        if !store.api_keys().api_keys().await?.iter().any(|key| key.in_force(now)) {
            tracing::warn!("no API key is in force, so nobody is let in: make one with `allocation keys create`");
        }
    }
    let keys = Arc::new(store.key_ring(pace));
    let uses = keys.clone();
    life.until_end(async move |end| uses.run(end).await);
    Ok(Access::Credentials { keys, tokens })
}

/// Where commands come from, as configured.
fn sources(config: &Config) -> Result<Vec<Box<dyn Source>>, BadVariable> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    if let Some(url) = &config.redis {
        let client = config.trust.redis(reveal(url)).map_err(|why| BadVariable::new("REDIS_URL", why))?;
        sources.push(Box::new(RedisPubSub::new(client.clone())));
        sources.push(Box::new(RedisStreams::new(client, &config.redis_commands)));
    }
    if let Some(url) = &config.nats {
        let (stream, subject) = &config.nats_commands;
        let (place, options) = config.trust.nats(reveal(url));
        sources.push(Box::new(NatsSource::new(&place, options, stream, subject)));
    }
    if let Some(url) = &config.amqp {
        sources.push(Box::new(RabbitSource::new(reveal(url), config.trust.rabbitmq(), &config.amqp_commands)));
    }
    Ok(sources)
}

/// Where events go, as configured.
pub(crate) fn configured_sinks(config: &Config, metrics: &Metrics) -> Result<Vec<Sink>, BadVariable> {
    let mut sinks = Vec::new();
    if let Some(url) = &config.redis {
        let client = config.trust.redis(reveal(url)).map_err(|why| BadVariable::new("REDIS_URL", why))?;
        sinks.push(Sink::Publisher(Arc::new(RedisPublisher::new(client.clone()))));
        if let Some(settings) = &config.redis_stream {
            let stream = RedisStream::new(client, settings.clone(), metrics.clone());
            sinks.push(Sink::Publisher(Arc::new(stream)));
        }
    }
    if let Some(url) = &config.nats {
        let nats = NatsPublisher::new(reveal(url), &config.trust, &config.nats_stream);
        sinks.push(Sink::Publisher(Arc::new(nats)));
    }
    if let Some(url) = &config.amqp {
        let (exchange, unrouted) = (&config.amqp_exchange, config.amqp_unrouted);
        let rabbit = RabbitPublisher::new(reveal(url), &config.trust, exchange, unrouted, metrics.clone());
        sinks.push(Sink::Publisher(Arc::new(rabbit)));
    }
    if let Some(url) = &config.smtp {
        let from = mailbox(&config.notify_from).map_err(|why| BadVariable::new("NOTIFY_FROM", why))?;
        let to = mailbox(&config.notify_to).map_err(|why| BadVariable::new("NOTIFY_TO", why))?;
        let mail = SmtpNotifications::new(reveal(url), &config.trust, from, to);
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
    let Ambient { clock, entropy, metrics, traces } = store.ambient.clone();
    let holder = entropy.uuid(clock.now()).to_string();
    Delivery { feed, log: store.log(), hooks: store.webhooks(), sender, clock, entropy, metrics, traces, holder }
}

/// What registers webhooks and looks after them.
fn hooks(store: &Store, sender: Arc<dyn WebhookSender>) -> Hooks {
    let Ambient { clock, entropy, .. } = store.ambient.clone();
    Hooks { store: store.webhooks(), log: store.log(), sender, clock, entropy }
}
