//! The configuration: what the variables of the environment come to.

#[cfg(test)]
mod tests;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use allocation_adapters::oidc::IssuerUrl;
use allocation_adapters::otlp::{BadCollector, Collector};
use allocation_adapters::postgres::Statements;
use allocation_adapters::rabbitmq::Unrouted;
use allocation_adapters::redis::StreamSettings;
use allocation_adapters::tls::Trust;
use allocation_adapters::webhook::Reach;
use allocation_domain::{Location, Strategy};
use allocation_entrypoints::web::{CertificateFiles, ConnectionLimits, Origin, RequestLimits};
use allocation_service_layer::access::{TokenAlgorithm, UnknownAlgorithm};
use allocation_service_layer::group_commit::Limits;
use allocation_service_layer::ports::database::KeyOf;
use allocation_service_layer::sinks::Begin;
use allocation_service_layer::{TimeZones, Usual};
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use variables::{VARIABLES, Variable};

/// A variable has a value that won't do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {why}")]
pub(crate) struct BadVariable {
    variable: String,
    why: String,
}

impl BadVariable {
    #[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
    pub(crate) fn new(variable: &str, why: impl ToString) -> Self {
        Self { variable: variable.to_owned(), why: why.to_string() }
    }
}

/// Which store.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by URL.
    Postgres(SecretString),
}

/// What of the service runs in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) web: bool,
    pub(crate) relay: bool,
    pub(crate) consumer: bool,
}

/// How the process comes to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopping {
    /// For how long requests are still taken.
    pub(crate) notice: Duration,
    /// How long all of it may take.
    pub(crate) most: Duration,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// An object each.
    Json,
}

/// Who may use the web API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Whoever has a credential: an API key, or a token if there is an issuer.
    Credentials,
    /// Everybody.
    Open,
}

/// Whose tokens are taken, and which.
#[derive(Debug, Clone)]
pub(crate) struct Oidc {
    pub(crate) issuer: IssuerUrl,
    pub(crate) audience: String,
    pub(crate) algorithms: BTreeSet<TokenAlgorithm>,
}

/// The sinks that can be configured, as metrics call them.
const SINKS: [&str; 5] = ["redis", "redis-stream", "nats", "rabbitmq", "mail"];

/// Where in the log sinks begin that are new.
#[derive(Debug, Default)]
pub(crate) struct Begins {
    named: BTreeMap<String, Begin>,
    others: Begin,
}

impl Begins {
    /// Where the sink of this name does.
    pub(crate) fn of(&self, sink: &str) -> Begin {
        self.named.get(sink).copied().unwrap_or(self.others)
    }
}

/// What the program works with.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) database: Database,
    pub(crate) pool: usize,
    pub(crate) lock_skus: usize,
    pub(crate) statements: Statements,
    pub(crate) migrate: bool,
    pub(crate) redis: Option<SecretString>,
    pub(crate) redis_stream: Option<StreamSettings>,
    pub(crate) nats: Option<SecretString>,
    pub(crate) nats_stream: String,
    pub(crate) amqp: Option<SecretString>,
    pub(crate) amqp_exchange: String,
    pub(crate) amqp_unrouted: Unrouted,
    pub(crate) redis_commands: String,
    /// The stream, and its subject.
    pub(crate) nats_commands: (String, String),
    pub(crate) amqp_commands: String,
    pub(crate) smtp: Option<SecretString>,
    pub(crate) notify_from: String,
    pub(crate) notify_to: String,
    pub(crate) webhook_reach: Reach,
    pub(crate) webhook_patience: Duration,
    /// Whose certificates are believed, by whatever this process connects to.
    pub(crate) trust: Trust,
    pub(crate) listen: SocketAddr,
    /// What the web API shows; none: it does not speak TLS.
    pub(crate) certificate: Option<CertificateFiles>,
    /// Whose pages may ask the web API.
    pub(crate) origins: Vec<Origin>,
    /// What was said of it, if anything was.
    access: Option<Door>,
    pub(crate) oidc: Option<Oidc>,
    pub(crate) api: (String, u16),
    pub(crate) parts: Parts,
    pub(crate) connection_limits: ConnectionLimits,
    pub(crate) request_limits: RequestLimits,
    /// Requests a second; none: any number.
    pub(crate) requests_per_key: Option<NonZeroU32>,
    /// 0: any number.
    holds_per_key: u64,
    pub(crate) stopping: Stopping,
    pub(crate) limits: Limits,
    pub(crate) keep_keys: [(KeyOf, Duration); 2],
    /// For how long events are kept at least; none: for ever.
    pub(crate) keep_events: Option<Duration>,
    pub(crate) begin: Begins,
    pub(crate) usual: Usual,
    /// What is logged.
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    /// Who is sent traces; none: nobody.
    pub(crate) collector: Option<Collector>,
    given: BTreeMap<&'static str, String>,
}

impl Config {
    /// Reads the environment of this process.
    pub(crate) fn from_environment() -> Result<Self, BadVariable> {
        Self::from_lookup(|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(BadVariable::new(name, error)),
        })
    }

    /// Reads variables from wherever `lookup` finds them.
    pub(crate) fn from_lookup(
        lookup: impl Fn(&str) -> Result<Option<String>, BadVariable>,
    ) -> Result<Self, BadVariable> {
        let mut given = BTreeMap::new();
        for variable in VARIABLES {
            // An empty value is how many tools say "not set".
            let mut value = lookup(variable.name)?.filter(|value| !value.is_empty());
            if variable.secret && value.is_none() {
                let file_variable = format!("{}_FILE", variable.name);
                if let Some(file) = lookup(&file_variable)?.filter(|file| !file.is_empty()) {
                    let text = std::fs::read_to_string(&file)
                        .map_err(|error| BadVariable::new(&file_variable, format!("{file}: {error}")))?;
                    value = Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty());
                }
            }
            if let Some(value) = value {
                given.insert(variable.name, value);
            }
        }
        let values = Values(given);
        Ok(Self {
            database: values.database()?,
            pool: values.number("DB_CONNECTIONS", 2, 1_000)?,
            lock_skus: values.number("DB_LOCK_SKUS", 1, 100_000)?,
            statements: if values.switch("DB_PREPARED")? { Statements::Prepared } else { Statements::Unnamed },
            migrate: values.switch("MIGRATE")?,
            redis: values.service("REDIS_URL", "REDIS_HOST", &["redis", "rediss"], (63791, 6379))?,
            redis_stream: values.redis_stream()?,
            nats: values.url("NATS_URL", &["nats", "tls"])?,
            nats_stream: values.text("NATS_STREAM").to_owned(),
            amqp: values.url("AMQP_URL", &["amqp", "amqps"])?,
            amqp_exchange: values.text("AMQP_EXCHANGE").to_owned(),
            amqp_unrouted: match values.text("AMQP_UNROUTED") {
                "wait" => Unrouted::Wait,
                "skip" => Unrouted::Skip,
                _ => return Err(BadVariable::new("AMQP_UNROUTED", "must be wait or skip")),
            },
            redis_commands: values.text("REDIS_COMMANDS").to_owned(),
            nats_commands: (values.text("NATS_COMMANDS").to_owned(), values.text("NATS_COMMANDS_SUBJECT").to_owned()),
            amqp_commands: values.text("AMQP_COMMANDS").to_owned(),
            smtp: values.service("SMTP_URL", "EMAIL_HOST", &["smtp", "smtps"], (11025, 1025))?,
            notify_from: values.text("NOTIFY_FROM").to_owned(),
            notify_to: values.text("NOTIFY_TO").to_owned(),
            webhook_reach: if values.switch("WEBHOOK_PRIVATE")? { Reach::PRIVATE } else { Reach::PUBLIC },
            webhook_patience: values.seconds("WEBHOOK_SECONDS", 1, 300)?,
            trust: values.trust()?,
            certificate: values.certificate()?,
            origins: values.origins()?,
            listen: values.listen()?,
            access: match values.given("ACCESS") {
                None => None,
                Some("keys") => Some(Door::Credentials),
                Some("open") => Some(Door::Open),
                Some(_) => return Err(BadVariable::new("ACCESS", "must be keys or open")),
            },
            oidc: values.oidc()?,
            api: values.api()?,
            parts: Parts {
                web: values.switch("WEB")?,
                relay: values.switch("RELAY")?,
                consumer: values.switch("CONSUMER")?,
            },
            connection_limits: values.connection_limits()?,
            request_limits: values.request_limits()?,
            requests_per_key: NonZeroU32::new(values.number("REQUESTS_PER_KEY", 0, 1_000_000)?),
            holds_per_key: values.number("HOLDS_PER_KEY", 0, 1_000_000)?,
            stopping: values.stopping()?,
            limits: Limits {
                batch: values.number("BATCH", 1, 10_000)?,
                waiting: values.number("QUEUE_LENGTH", 1, 1_000_000)?,
                age: values.seconds("QUEUE_SECONDS", 1, 3_600)?,
            },
            usual: Usual { strategy: values.strategy()?, time_zones: values.time_zones()? },
            keep_keys: [
                (KeyOf::Request, Duration::from_hours(values.number("KEY_HOURS", 1, 8_760)?)),
                (KeyOf::Message, Duration::from_hours(values.number::<u64>("INBOX_DAYS", 1, 3_650)? * 24)),
            ],
            keep_events: match values.given("EVENT_DAYS") {
                Some(_) => Some(Duration::from_hours(values.number::<u64>("EVENT_DAYS", 1, 36_500)? * 24)),
                None => None,
            },
            begin: values.begins()?,
            log: values.text("LOG").to_owned(),
            log_format: match values.text("LOG_FORMAT") {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(BadVariable::new("LOG_FORMAT", "must be text or json")),
            },
            collector: values.collector()?,
            given: values.0,
        })
    }

    /// Who may use the web API. An address that others reach is served only if that was said.
    pub(crate) fn door(&self) -> Result<Door, BadVariable> {
        let listen = self.listen;
        match self.access {
            Some(door) => Ok(door),
            // Whoever names an issuer wants its tokens to be asked for.
            None if self.oidc.is_some() => Ok(Door::Credentials),
            None if listen.ip().to_canonical().is_loopback() => Ok(Door::Open),
            None => {
                let why = format!(
                    "must be set, as others reach LISTEN={listen}: to `keys`, so that requests need an API key (made by `allocation keys create`), or \
                     to `open`, so that everybody may do everything; or OIDC_ISSUER, so that they need a token"
                );
                Err(BadVariable::new("ACCESS", why))
            }
        }
    }

    /// The most holds that a caller may have in force. Where no credential is asked for, it does not matter whose they are.
    pub(crate) fn most_holds(&self) -> Option<u64> {
        let asked_for = self.access == Some(Door::Credentials) || self.oidc.is_some();
        Some(self.holds_per_key).filter(|most| *most > 0 && asked_for)
    }

    /// Every variable with its meaning, default and current value, in the form of an environment file.
    pub(crate) fn describe(&self) -> String {
        let mut lines = Vec::new();
        for variable in VARIABLES {
            let Variable { name, meaning, default, secret } = variable;
            lines.push(format!("# {meaning}"));
            if *secret {
                lines.push(format!("# A secret: may be given as a file named by {name}_FILE."));
            }
            if !default.is_empty() {
                lines.push(format!("# Default: {default}"));
            }
            lines.push(match self.given.get(name) {
                Some(value) if *secret => format!("{name}={}", mask(name, value)),
                Some(value) => format!("{name}={value}"),
                None => format!("# {name}="),
            });
            lines.push(String::new());
        }
        lines.join("\n")
    }
}

/// What is given, by name.
struct Values(BTreeMap<&'static str, String>);

impl Values {
    fn given(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn text(&self, name: &str) -> &str {
        self.given(name).unwrap_or_else(|| {
            VARIABLES.iter().find(|variable| variable.name == name).map_or("", |variable| variable.default)
        })
    }

    fn parsed<T: FromStr>(&self, name: &str, must: &str) -> Result<T, BadVariable> {
        self.text(name).parse().map_err(|_| BadVariable::new(name, must))
    }

    fn listen(&self) -> Result<SocketAddr, BadVariable> {
        self.parsed("LISTEN", "must be an address and port such as 127.0.0.1:5005")
    }

    /// Where `health` asks: where it was told to, else where `serve` listens.
    fn api(&self) -> Result<(String, u16), BadVariable> {
        let Some(given) = self.given("API_HOST") else {
            let listen = self.listen()?;
            let any = listen.ip().is_unspecified();
            return Ok((if any { "localhost".to_owned() } else { listen.ip().to_string() }, listen.port()));
        };
        match given.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
            Some((host, port)) => {
                let bad = |_| BadVariable::new("API_HOST", "must be a host, or host:port");
                Ok((host.trim_matches(['[', ']']).to_owned(), port.parse().map_err(bad)?))
            }
            None if is_local(given) => Ok((given.to_owned(), 5005)),
            None => Ok((given.to_owned(), if self.certificate()?.is_some() { 443 } else { 80 })),
        }
    }

    fn number<N: FromStr + PartialOrd + Display>(&self, name: &str, min: N, max: N) -> Result<N, BadVariable> {
        let must = format!("must be a whole number from {min} to {max}");
        let number = self.parsed(name, &must)?;
        if (min..=max).contains(&number) { Ok(number) } else { Err(BadVariable::new(name, must)) }
    }

    fn seconds(&self, name: &str, min: u64, max: u64) -> Result<Duration, BadVariable> {
        self.number(name, min, max).map(Duration::from_secs)
    }

    fn connection_limits(&self) -> Result<ConnectionLimits, BadVariable> {
        let streams = self.number("STREAMS", 1, 10_000)?;
        Ok(ConnectionLimits {
            connections: self.number("CONNECTIONS", 1, 1_000_000)?,
            head: self.seconds("HEAD_SECONDS", 1, 300)?,
            head_bytes: self.number("HEAD_BYTES", 8_192, 1_048_576)?,
            idle: self.seconds("IDLE_SECONDS", 1, 3_600)?,
            streams: self.switch("HTTP2")?.then_some(streams),
        })
    }

    fn request_limits(&self) -> Result<RequestLimits, BadVariable> {
        Ok(RequestLimits {
            // hyper knows no longer ones.
            url_bytes: self.number("URL_BYTES", 256, 65_534)?,
            head_bytes: self.number("HEAD_BYTES", 8_192, 1_048_576)?,
            body: self.seconds("BODY_SECONDS", 1, 3_600)?,
            body_bytes: self.number("BODY_BYTES", 1_024, 1_073_741_824)?,
            bodies_bytes: self.number("BODIES_BYTES", 1_024, 1_099_511_627_776)?,
            // One for each connection; over HTTP/2 there could be many more.
            bodies: self.number("CONNECTIONS", 1, 1_000_000)?,
            in_flight: self.number("IN_FLIGHT", 1, 1_000_000)?,
            answer: self.seconds("ANSWER_SECONDS", 1, 3_600)?,
            readers: self.number("READERS", 1, 1_000_000)?,
            heartbeat: RequestLimits::default().heartbeat.min(self.seconds("IDLE_SECONDS", 1, 3_600)? / 3),
        })
    }

    fn trust(&self) -> Result<Trust, BadVariable> {
        let Some(file) = self.given("TLS_CA_FILE") else { return Ok(Trust::default()) };
        Trust::with_file(file.as_ref()).map_err(|why| BadVariable::new("TLS_CA_FILE", format!("{file} {why}")))
    }

    fn certificate(&self) -> Result<Option<CertificateFiles>, BadVariable> {
        match (self.given("TLS_CERT_FILE"), self.given("TLS_KEY_FILE")) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => Ok(Some(CertificateFiles { chain: chain.into(), key: key.into() })),
            (Some(_), None) => Err(BadVariable::new("TLS_KEY_FILE", "must be set, as TLS_CERT_FILE is")),
            (None, Some(_)) => Err(BadVariable::new("TLS_CERT_FILE", "must be set, as TLS_KEY_FILE is")),
        }
    }

    fn collector(&self) -> Result<Option<Collector>, BadVariable> {
        const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
        const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
        const MUST: &str = "must be a number from 0.0 to 1.0";
        const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
        // The SDK reads these from the environment, and would do something else without a word.
        let sampler = self.text(SAMPLER);
        if !matches!(
            sampler.strip_prefix("parentbased_").unwrap_or(sampler),
            "always_on" | "always_off" | "traceidratio"
        ) {
            let must = "must be always_on, always_off or traceidratio, or one of these with parentbased_ before it";
            return Err(BadVariable::new(SAMPLER, must));
        }
        let part: f64 = self.parsed(ARGUMENT, MUST)?;
        if !(0.0..=1.0).contains(&part) {
            return Err(BadVariable::new(ARGUMENT, MUST));
        }
        let Some(endpoint) = self.given(ENDPOINT) else { return Ok(None) };
        let collector = Collector::new(endpoint, self.text(HEADERS), self.text("OTEL_SERVICE_NAME"));
        collector
            .map(Some)
            .map_err(|why| BadVariable::new(if matches!(why, BadCollector::Headers) { HEADERS } else { ENDPOINT }, why))
    }

    fn origins(&self) -> Result<Vec<Origin>, BadVariable> {
        let origins = self.text("CORS_ORIGINS").split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let read = |origin: &str| {
            // What stands before a host may be secret.
            let host = origin.rsplit_once('@').map_or(origin, |(_, host)| host);
            origin.parse().map_err(|error| BadVariable::new("CORS_ORIGINS", format!("{host:?} {error}")))
        };
        origins.map(read).collect()
    }

    fn stopping(&self) -> Result<Stopping, BadVariable> {
        let (notice, most) = (self.seconds("STOP_NOTICE_SECONDS", 0, 3_600)?, self.seconds("STOP_SECONDS", 1, 3_600)?);
        if notice < most {
            return Ok(Stopping { notice, most });
        }
        Err(BadVariable::new("STOP_NOTICE_SECONDS", format!("must be less than STOP_SECONDS={}", most.as_secs())))
    }

    fn switch(&self, name: &str) -> Result<bool, BadVariable> {
        match self.text(name) {
            "on" | "true" | "yes" | "1" => Ok(true),
            "off" | "false" | "no" | "0" => Ok(false),
            _ => Err(BadVariable::new(name, "must be on or off")),
        }
    }

    fn strategy(&self) -> Result<Strategy, BadVariable> {
        let name = self.text("STRATEGY");
        let known = Strategy::ALL.into_iter().find(|strategy| strategy.name() == name);
        let must = || format!("must be one of {}", Strategy::ALL.map(Strategy::name).join(", "));
        known.ok_or_else(|| BadVariable::new("STRATEGY", must()))
    }

    fn time_zones(&self) -> Result<TimeZones, BadVariable> {
        let zone = |variable: &str, name: &str| {
            TimeZone::get(name).map_err(|_| BadVariable::new(variable, format!("{name:?} is no time zone")))
        };
        let must = "must be like location=Area/City, with commas between several";
        let mut elsewhere = BTreeMap::new();
        for pair in self.text("TIME_ZONES").split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (location, name) = pair.split_once('=').ok_or_else(|| BadVariable::new("TIME_ZONES", must))?;
            let named = |error| BadVariable::new("TIME_ZONES", format!("location {location:?} {error}"));
            let location = Location::new(location.trim()).map_err(named)?;
            if elsewhere.insert(location, zone("TIME_ZONES", name.trim())?).is_some() {
                return Err(BadVariable::new("TIME_ZONES", "names a location twice"));
            }
        }
        Ok(TimeZones::new(zone("TIME_ZONE", self.text("TIME_ZONE"))?, elsewhere))
    }

    fn begins(&self) -> Result<Begins, BadVariable> {
        let bad = |why| BadVariable::new("SINKS_BEGIN", why);
        let mut begins = Begins::default();
        for part in self.text("SINKS_BEGIN").split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (sink, name) =
                part.split_once('=').map_or((None, part), |(sink, name)| (Some(sink.trim()), name.trim()));
            let known = Begin::ALL.into_iter().find(|begin| begin.name() == name);
            let begin =
                known.ok_or_else(|| bad("must be beginning or now, or like nats=now, with commas between several"))?;
            match sink {
                None => begins.others = begin,
                Some(sink) if SINKS.contains(&sink) => drop(begins.named.insert(sink.to_owned(), begin)),
                Some(_) => {
                    return Err(bad(
                        "names a sink that there is not; there are redis, redis-stream, nats, rabbitmq, mail",
                    ));
                }
            }
        }
        Ok(begins)
    }

    fn database(&self) -> Result<Database, BadVariable> {
        if self.given("DATABASE_URL").is_none()
            && let Some(host) = self.given("DB_HOST")
        {
            let local = is_local(host);
            let password = match self.given("DB_PASSWORD") {
                Some(password) => password,
                None if local => "abc123",
                None => return Err(BadVariable::new("DB_PASSWORD", "must be set, as DB_HOST is not localhost")),
            };
            let mut url = host_url("postgres", "DB_HOST", host, if local { 54321 } else { 5432 })?;
            url.set_path("/allocation");
            // `set_username` and `set_password` fail for URLs without a host only.
            let named = url.set_username("allocation").and_then(|()| url.set_password(Some(password)));
            named.map_err(|()| BadVariable::new("DB_HOST", "is no host"))?;
            return Ok(Database::Postgres(String::from(url).into()));
        }
        let must =
            "must be sqlite:FILE or postgres://user:password@host:port/database, with commas between several host:port";
        let url = self.text("DATABASE_URL");
        if let Some(file) = url.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            if file.is_empty() || file.starts_with(':') || file.contains('?') {
                return Err(BadVariable::new("DATABASE_URL", format!("{must}; the file must be a plain path")));
            }
            return Ok(Database::Sqlite(file.into()));
        }
        if is_postgres(url) {
            return Ok(Database::Postgres(url.to_owned().into()));
        }
        Err(BadVariable::new("DATABASE_URL", must))
    }

    fn oidc(&self) -> Result<Option<Oidc>, BadVariable> {
        let Some(issuer) = self.given("OIDC_ISSUER") else {
            // Who has set these thinks that tokens are asked for.
            let alone = ["OIDC_AUDIENCE", "OIDC_ALGORITHMS"].into_iter().find(|name| self.given(name).is_some());
            return alone.map_or(Ok(None), |name| Err(BadVariable::new(name, "needs OIDC_ISSUER")));
        };
        if self.given("ACCESS") == Some("open") {
            let why = "asks for tokens, and ACCESS=open for nothing: leave one of them out";
            return Err(BadVariable::new("OIDC_ISSUER", why));
        }
        let issuer = IssuerUrl::new(issuer).map_err(|why| BadVariable::new("OIDC_ISSUER", why))?;
        let why = "must be set, as OIDC_ISSUER is: its tokens for other services are not for this one";
        let audience = self.given("OIDC_AUDIENCE").ok_or_else(|| BadVariable::new("OIDC_AUDIENCE", why))?.to_owned();
        let algorithms = self.text("OIDC_ALGORITHMS").split(',').map(|name| name.trim().parse()).collect();
        let algorithms =
            Result::map_err(algorithms, |error: UnknownAlgorithm| BadVariable::new("OIDC_ALGORITHMS", error))?;
        Ok(Some(Oidc { issuer, audience, algorithms }))
    }

    fn redis_stream(&self) -> Result<Option<StreamSettings>, BadVariable> {
        let Some(key) = self.given("REDIS_STREAM") else { return Ok(None) };
        if self.given("REDIS_URL").is_none() && self.given("REDIS_HOST").is_none() {
            return Err(BadVariable::new("REDIS_STREAM", "needs REDIS_URL"));
        }
        // What the relay has in hand at a time must fit.
        let cap = self.number("REDIS_STREAM_CAP", 1_000, 1_000_000_000)?;
        Ok(Some(StreamSettings { key: key.to_owned(), cap }))
    }

    /// A service that may be there, by URL.
    fn url(&self, name: &str, schemes: &[&str]) -> Result<Option<SecretString>, BadVariable> {
        let Some(text) = self.given(name) else { return Ok(None) };
        match Url::parse(text) {
            Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => Ok(Some(text.to_owned().into())),
            _ => Err(BadVariable::new(name, format!("must be a URL such as {}://host:port", schemes[0]))),
        }
    }

    /// The same by URL, or by the short form of a host with its local and usual port.
    fn service(
        &self,
        url_name: &str,
        host_name: &str,
        schemes: &[&str],
        (local, usual): (u16, u16),
    ) -> Result<Option<SecretString>, BadVariable> {
        if let Some(url) = self.url(url_name, schemes)? {
            return Ok(Some(url));
        }
        let Some(host) = self.given(host_name) else { return Ok(None) };
        let url = host_url(schemes[0], host_name, host, if is_local(host) { local } else { usual })?;
        Ok(Some(String::from(url).into()))
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost"
}

fn host_url(scheme: &str, name: &str, host: &str, port: u16) -> Result<Url, BadVariable> {
    let url = Url::parse(&format!("{scheme}://{host}:{port}"));
    match url {
        Ok(url) if url.port() == Some(port) && url.path().trim_matches('/').is_empty() && url.username().is_empty() => {
            Ok(url)
        }
        _ => Err(BadVariable::new(name, "must be the name of a host, without a port")),
    }
}

/// Whether it is the URL of a PostgreSQL, on one host or on several.
fn is_postgres(url: &str) -> bool {
    let Some((scheme @ ("postgres" | "postgresql"), rest)) = url.split_once("://") else { return false };
    let (authority, place) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    hosts.split(',').all(|host| {
        let alone = Url::parse(&format!("{scheme}://{user}@{host}{place}"));
        alone.is_ok_and(|alone| alone.has_host())
    })
}

/// Hides what is secret in a URL, or the whole of anything else.
fn mask(name: &str, value: &str) -> String {
    match Url::parse(value) {
        Ok(mut url) if url.has_host() && name.ends_with("_URL") => {
            // A user without a password may be a token.
            let masked = match (url.username(), url.password()) {
                (_, Some(_)) => url.set_password(Some("***")),
                ("", None) => Ok(()),
                (_, None) => url.set_username("***"),
            };
            if masked.is_err() {
                return "***".to_owned();
            }
            url.set_query(url.query().map(|_| "***"));
            url.set_fragment(url.fragment().map(|_| "***"));
            url.into()
        }
        Ok(url) if url.scheme() == "sqlite" => value.to_owned(),
        _ => "***".to_owned(),
    }
}

/// The URL itself, for the adapter that connects to it.
pub(crate) fn reveal(secret: &SecretString) -> &str {
    secret.expose_secret()
}
