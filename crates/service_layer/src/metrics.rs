//! What the service counts about itself. No identifier ever becomes a label.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters, gauges and histograms, shared by all parts of the program.
///
/// One shared whole: every request clones it, and a dozen reference counts that all threads want would show in a profile.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Instruments>);

impl Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.0
    }
}

/// What is counted.
pub struct Instruments {
    registry: Registry,
    /// Commands answered, by command and outcome.
    pub commands: Family<CommandLabels, Counter>,
    /// Units of work that changed something and are on disk.
    pub commits: Counter,
    /// Units of work that loaded nothing, since their products were known from earlier ones.
    pub from_memory: Counter,
    /// Units of work run again after a conflict.
    pub retries: Counter,
    /// Commands in one unit of work.
    pub batch_size: Histogram,
    /// Seconds from the start of a unit of work to its end.
    pub unit_of_work_seconds: Histogram,
    /// Seconds that a commit takes, with all writes that go with it.
    pub commit_seconds: Histogram,
    /// Seconds that a command has waited when its unit of work begins.
    pub wait_seconds: Histogram,
    /// Connections to the store that work.
    pub store_connections_used: Gauge,
    /// Connections to the store that somebody waits for.
    pub store_connections_wanted: Gauge,
    /// Units in stock, promised, and waited for, over all products, as of the last census.
    pub units: Family<StockLabels, Gauge<u64, AtomicU64>>,
    /// Batches in which more is promised than there is.
    pub overpromised_batches: Gauge<u64, AtomicU64>,
    /// Commands refused because too many were waiting, or for too long.
    pub overloaded: Counter,
    /// Commands that wait for their unit of work.
    pub waiting: Gauge,
    /// Events delivered, by sink.
    pub delivered: Family<SinkLabels, Counter>,
    /// Deliveries that failed and are tried again, by sink.
    pub delivery_failures: Family<SinkLabels, Counter>,
    /// Events that a sink has not seen yet.
    pub lag: Family<SinkLabels, Gauge<u64, AtomicU64>>,
    /// Age in seconds of the oldest event that a sink has not seen yet.
    pub lag_seconds: Family<SinkLabels, Gauge<f64, AtomicU64>>,
    /// How old the oldest event of a page was when a sink had the page, in seconds: from the change to the broker.
    pub delivery_seconds: Family<SinkLabels, Histogram>,
    /// Whether a sink has no room for more events.
    pub full: Family<SinkLabels, Gauge>,
    /// Events that a broker took and had no queue for, by sink.
    pub unrouted: Family<SinkLabels, Counter>,
    /// Readers that wait for events.
    pub feed_readers: Gauge,
    /// Webhooks that were paused because their receivers failed.
    pub webhooks_paused: Gauge,
    /// Events that were taken out of the log.
    pub archived: Counter,
    /// For how many seconds the oldest event should have been archived that a sink has yet to see.
    pub archive_held_back: Gauge<f64, AtomicU64>,
    /// Messages that could not be used, by source.
    pub dead_letters: Family<SourceLabels, Counter>,
    /// Of all that ever could not be used, those that are still kept.
    pub dead_letters_kept: Gauge<u64, AtomicU64>,
    /// Messages that had their effect, by source.
    pub consumed: Family<SourceLabels, Counter>,
    /// Messages that failed and were tried again, by source.
    pub message_retries: Family<SourceLabels, Counter>,
    /// Breaks in consuming from a source.
    pub source_failures: Family<SourceLabels, Counter>,
    /// Messages that wait at a source.
    pub source_lag: Family<SourceLabels, Gauge<u64, AtomicU64>>,
    /// How old the oldest message at hand of a source was, in seconds; 0 when none waits.
    pub source_lag_seconds: Family<SourceLabels, Gauge<f64, AtomicU64>>,
    /// HTTP answers, by route template and status.
    pub requests: Family<RequestLabels, Counter>,
    /// Seconds from the head of a request to its answer, by route template.
    pub request_seconds: Family<RouteLabels, Histogram>,
    /// Connections that are open.
    pub connections: Gauge,
    /// Requests that are being handled, without those that wait for their callers or for events.
    pub in_flight: Gauge,
    /// Bodies that are waited for.
    pub slow_bodies: Gauge,
    /// Bytes of bodies that are being read, beyond the first 8 KiB of each.
    pub body_bytes: Gauge,
    /// How often a limit was come to.
    pub limits: Family<LimitLabels, Counter>,
    /// How often the keys of the issuer of tokens could not be read.
    pub issuer_failures: Counter,
}

/// Labels of [`Instruments::commands`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabels {
    /// The command's name.
    pub command: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the derive makes label values of the names as they stand")]
pub enum Outcome {
    /// Done.
    done,
    /// The domain said no.
    rejected,
    /// Something broke.
    failed,
}

/// Labels of [`Instruments::units`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StockLabels {
    /// Which.
    pub state: UnitState,
}

/// What is counted of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the derive makes label values of the names as they stand")]
pub enum UnitState {
    /// In open batches, on hand or expected; the next three are part of it.
    stock,
    /// Set aside.
    quarantined,
    /// Promised for a time.
    held,
    /// Promised.
    allocated,
    /// Waited for.
    backordered,
}

/// Labels of what concerns a sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabels {
    /// The sink's name.
    pub sink: &'static str,
}

/// Labels of what concerns a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    /// The source's name.
    pub source: &'static str,
}

/// Labels of [`Instruments::requests`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// What was asked for.
    #[prometheus(flatten)]
    pub route: RouteLabels,
    /// The answer's status.
    pub status: u16,
}

/// Labels of [`Instruments::request_seconds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// GET, PUT …, or `other`.
    pub method: &'static str,
    /// The route's template, never the path.
    pub route: String,
}

/// Labels of [`Instruments::limits`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// Which.
    pub limit: Limit,
}

/// A limit on what callers may take up, by the setting that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the derive makes label values of the names as they stand")]
pub enum Limit {
    /// Connections.
    connections,
    /// How long the head of a request may take.
    head_seconds,
    /// The size of a head.
    head_bytes,
    /// The size of a URL.
    url_bytes,
    /// For how long nothing may happen on a connection.
    idle_seconds,
    /// Requests at a time on one connection.
    streams,
    /// How long a body may take.
    body_seconds,
    /// The size of a body.
    body_bytes,
    /// The size of all bodies that are being read.
    bodies_bytes,
    /// Requests that are being handled.
    in_flight,
    /// How long an answer may take.
    answer_seconds,
    /// Readers that wait for events.
    readers,
    /// Requests a second with one key, or of one bearer of tokens.
    requests_per_key,
    /// Holds of one key, or of one bearer of tokens.
    holds_per_key,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::connections,
        Self::head_seconds,
        Self::head_bytes,
        Self::url_bytes,
        Self::idle_seconds,
        Self::streams,
        Self::body_seconds,
        Self::body_bytes,
        Self::bodies_bytes,
        Self::in_flight,
        Self::answer_seconds,
        Self::readers,
        Self::requests_per_key,
        Self::holds_per_key,
    ];
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Default for Instruments {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("allocation");
        let mut metrics = Self {
            registry: Registry::default(),
            commands: Family::default(),
            commits: Counter::default(),
            from_memory: Counter::default(),
            retries: Counter::default(),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            unit_of_work_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            commit_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            wait_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 17)),
            store_connections_used: Gauge::default(),
            store_connections_wanted: Gauge::default(),
            units: Family::default(),
            overpromised_batches: Gauge::default(),
            overloaded: Counter::default(),
            waiting: Gauge::default(),
            delivered: Family::default(),
            delivery_failures: Family::default(),
            lag: Family::default(),
            lag_seconds: Family::default(),
            delivery_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 1.5, 24))),
            full: Family::default(),
            unrouted: Family::default(),
            feed_readers: Gauge::default(),
            webhooks_paused: Gauge::default(),
            archived: Counter::default(),
            archive_held_back: Gauge::default(),
            dead_letters: Family::default(),
            dead_letters_kept: Gauge::default(),
            consumed: Family::default(),
            message_retries: Family::default(),
            source_failures: Family::default(),
            source_lag: Family::default(),
            source_lag_seconds: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15))),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
            slow_bodies: Gauge::default(),
            body_bytes: Gauge::default(),
            limits: Family::default(),
            issuer_failures: Counter::default(),
        };
        metrics.register_work(&mut registry);
        metrics.register_stock(&mut registry);
        metrics.register_messages(&mut registry);
        metrics.register_web(&mut registry);
        metrics.registry = registry;
        metrics
    }
}

impl Instruments {
    /// What is counted of commands and units of work.
    fn register_work(&self, registry: &mut Registry) {
        registry.register("commands", "Commands answered", self.commands.clone());
        registry.register("commits", "Units of work that are on disk", self.commits.clone());
        registry.register(
            "units_of_work_from_memory",
            "Units of work that loaded nothing, since their products were known from earlier ones",
            self.from_memory.clone(),
        );
        registry.register("retries", "Units of work run again after a conflict", self.retries.clone());
        registry.register("unit_of_work_commands", "Commands in one unit of work", self.batch_size.clone());
        registry.register_with_unit(
            "unit_of_work",
            "Time from the start of a unit of work to its end",
            Unit::Seconds,
            self.unit_of_work_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "Time that a commit takes, with all writes that go with it",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register_with_unit(
            "command_wait",
            "Time that a command has waited when its unit of work begins",
            Unit::Seconds,
            self.wait_seconds.clone(),
        );
        registry.register("overloaded", "Commands refused because too many were waiting", self.overloaded.clone());
        registry.register("commands_waiting", "Commands that wait for their unit of work", self.waiting.clone());
    }

    /// What is counted of the store and what is in it.
    fn register_stock(&self, registry: &mut Registry) {
        registry.register(
            "store_connections_used",
            "Connections to the store that work",
            self.store_connections_used.clone(),
        );
        registry.register(
            "store_connections_wanted",
            "Connections to the store that somebody waits for",
            self.store_connections_wanted.clone(),
        );
        registry.register("units", "Units in stock, promised and waited for, over all products", self.units.clone());
        registry.register(
            "overpromised_batches",
            "Batches in which more is promised than there is",
            self.overpromised_batches.clone(),
        );
    }

    /// What is counted of events that go out, and of messages that come in.
    fn register_messages(&self, registry: &mut Registry) {
        registry.register("events_delivered", "Events delivered to a sink", self.delivered.clone());
        registry.register("delivery_failures", "Deliveries that are tried again", self.delivery_failures.clone());
        registry.register("sink_lag_events", "Events that a sink has not seen yet", self.lag.clone());
        registry.register_with_unit(
            "sink_lag",
            "Age of the oldest event that a sink has not seen yet",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        registry.register_with_unit(
            "delivery",
            "Age of the oldest event of a page when a sink had the page",
            Unit::Seconds,
            self.delivery_seconds.clone(),
        );
        registry.register("sink_full", "1 when a sink has no room for more events", self.full.clone());
        registry.register("unrouted_events", "Events that no queue of a broker wanted", self.unrouted.clone());
        registry.register("feed_readers", "Readers that wait for events", self.feed_readers.clone());
        registry.register("webhooks_paused", "Webhooks whose receivers failed too long", self.webhooks_paused.clone());
        registry.register("archived_events", "Events taken out of the log", self.archived.clone());
        registry.register_with_unit(
            "archive_held_back",
            "For how long an event should have been archived that a sink has yet to see",
            Unit::Seconds,
            self.archive_held_back.clone(),
        );
        registry.register("dead_letters", "Messages that could not be used", self.dead_letters.clone());
        registry.register("dead_letters_kept", "Dead letters that are kept", self.dead_letters_kept.clone());
        registry.register("messages_consumed", "Messages that had their effect", self.consumed.clone());
        registry.register("message_retries", "Messages that failed and were tried again", self.message_retries.clone());
        registry.register("source_failures", "Breaks in consuming from a source", self.source_failures.clone());
        registry.register("source_lag_messages", "Messages that wait at a source", self.source_lag.clone());
        registry.register_with_unit(
            "source_lag",
            "Age of the oldest message at hand of a source",
            Unit::Seconds,
            self.source_lag_seconds.clone(),
        );
    }

    /// What is counted of the web API and its limits.
    fn register_web(&self, registry: &mut Registry) {
        registry.register("http_requests", "HTTP answers", self.requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time from the head of a request to its answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("connections", "Connections that are open", self.connections.clone());
        registry.register("requests_in_flight", "Requests that are being handled", self.in_flight.clone());
        registry.register("slow_bodies", "Bodies that are waited for", self.slow_bodies.clone());
        registry.register_with_unit(
            "bodies",
            "Size of the bodies that are being read, without the first 8 KiB of each",
            Unit::Bytes,
            self.body_bytes.clone(),
        );
        registry.register(
            "issuer_failures",
            "How often the keys of the issuer of tokens could not be read",
            self.issuer_failures.clone(),
        );
        registry.register("limit_hits", "How often a limit was come to", self.limits.clone());
        for limit in Limit::ALL {
            // There from the beginning, so that the first time is seen as a rise.
            drop(self.limits.get_or_create(&LimitLabels { limit }));
        }
    }

    /// A limit was come to.
    pub fn bit(&self, limit: Limit) {
        self.limits.get_or_create(&LimitLabels { limit }).inc();
    }

    /// All of them in the `OpenMetrics` text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
