//! Every variable of the environment, declared once.

/// A variable of the environment.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    /// What holds when it is not set; empty: nothing.
    pub(super) default: &'static str,
    /// May be given as `NAME_FILE`, and is never printed in full.
    pub(super) secret: bool,
}

const fn plain(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, default, secret: false }
}

const fn secret(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, default, secret: true }
}

/// All of them.
pub(super) const VARIABLES: &[Variable] = &[
    secret(
        "DATABASE_URL",
        "sqlite:allocation.db",
        "The store: sqlite:FILE or postgres://user:password@host:port/database; several host:port with commas between them are a primary and its standbys; behind it, ?sslmode=require for TLS and nothing else, disable for none, prefer, which holds unless said, for TLS where the server offers it. A certificate is checked in any case",
    ),
    plain(
        "DB_HOST",
        "",
        "Short for DATABASE_URL: PostgreSQL on this host, user and database `allocation`; localhost means port 54321, else 5432",
    ),
    secret("DB_PASSWORD", "", "The password that goes with DB_HOST; for localhost `abc123` unless set"),
    plain("DB_CONNECTIONS", "16", "The most connections to PostgreSQL; one of them is for commands"),
    plain("DB_LOCK_SKUS", "1000", "How many SKUs one locking statement may name on PostgreSQL"),
    plain(
        "DB_PREPARED",
        "on",
        "Whether statements are prepared once for each connection to PostgreSQL: on, or off behind a pooler of transactions such as PgBouncer",
    ),
    plain("MIGRATE", "on", "Whether the schema is brought up to date at start: on or off"),
    secret("REDIS_URL", "", "The broker: redis://host:port/, or rediss://host:port/ with TLS"),
    plain("REDIS_HOST", "", "Short for REDIS_URL: Redis on this host; localhost means port 63791, else 6379"),
    plain(
        "REDIS_STREAM",
        "",
        "The Redis stream that events are added to, such as allocation.events; without it there are channels only",
    ),
    plain(
        "REDIS_STREAM_CAP",
        "1000000",
        "The most entries of that stream; what every group has acknowledged is removed",
    ),
    plain("REDIS_COMMANDS", "allocation.commands", "The Redis stream that commands come through"),
    secret(
        "NATS_URL",
        "",
        "A broker: nats://user:password@host:port, or tls:// with TLS; a user without a password is a token",
    ),
    plain("NATS_STREAM", "allocation-events", "The JetStream stream that events go to"),
    plain("NATS_COMMANDS", "allocation-commands", "The JetStream stream that commands come through"),
    plain("NATS_COMMANDS_SUBJECT", "allocation.commands", "Its subject, if the stream has to be made"),
    secret("AMQP_URL", "", "A broker, RabbitMQ: amqp://user:password@host:port/vhost, or amqps:// with TLS"),
    plain("AMQP_EXCHANGE", "allocation.events", "The topic exchange that events go to"),
    plain(
        "AMQP_UNROUTED",
        "wait",
        "What becomes of an event that no queue is bound for: wait tries it again until one is, skip counts it and goes on",
    ),
    plain("AMQP_COMMANDS", "allocation.commands", "The RabbitMQ queue that commands come through"),
    secret(
        "SMTP_URL",
        "",
        "The mail server: smtps://user:password@host:port with TLS, smtp://user:password@host:port?tls=required with TLS by STARTTLS, or smtp:// without",
    ),
    plain("EMAIL_HOST", "", "Short for SMTP_URL: a mail server on this host; localhost means port 11025, else 1025"),
    plain("NOTIFY_FROM", "allocations@example.com", "Who mails are from"),
    plain("NOTIFY_TO", "stock@example.com", "Who is told that a product is out of stock"),
    plain(
        "WEBHOOK_PRIVATE",
        "off",
        "Whether webhooks may go to private addresses, and without TLS: on or off. Whoever may register one then reaches what this process reaches",
    ),
    plain("WEBHOOK_SECONDS", "15", "How long a webhook's receiver may take to answer"),
    plain(
        "TLS_CA_FILE",
        "",
        "A file of authorities (PEM) whose certificates are believed, beside Mozilla's: of database, brokers, mail server and receivers of webhooks",
    ),
    plain("LISTEN", "127.0.0.1:5005", "Where the web API listens"),
    plain(
        "TLS_CERT_FILE",
        "",
        "A file with the certificate that the web API shows and those above it (PEM): it then speaks TLS only. A new one is in force within seconds, without a restart",
    ),
    plain("TLS_KEY_FILE", "", "The file with its private key (PEM)"),
    plain(
        "CORS_ORIGINS",
        "",
        "Whose pages may ask the web API from within a browser, such as https://shop.example,http://localhost:3000; without it only its own",
    ),
    plain(
        "ACCESS",
        "",
        "Who may use the web API: keys (those with an API key, made by `allocation keys create`) or open (everybody); unset, everybody on a loopback address, and nothing is served on any other",
    ),
    plain(
        "OIDC_ISSUER",
        "",
        "Whose tokens open the web API beside API keys, to the letter as they name it in `iss`: https://id.example.com/; it must serve .well-known/openid-configuration. With it ACCESS need not be set",
    ),
    plain("OIDC_AUDIENCE", "", "What such tokens must name in `aud`: this service, as the issuer knows it"),
    plain(
        "OIDC_ALGORITHMS",
        "RS256,ES256",
        "How they may be signed, with commas between several: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
    ),
    plain("CONNECTIONS", "10000", "The most connections to the web API; one too many is answered 503 and closed"),
    plain(
        "HEAD_SECONDS",
        "10",
        "How long the head of a request may take, its line and headers; and how long a new connection may say nothing",
    ),
    plain("HEAD_BYTES", "16384", "The most bytes of a head"),
    plain("URL_BYTES", "8192", "The most bytes of a path with its query string"),
    plain("IDLE_SECONDS", "75", "For how long a connection is kept on which nothing happens"),
    plain("HTTP2", "on", "Whether HTTP/2 is spoken with whoever begins with it: on or off"),
    plain("STREAMS", "100", "The most requests under way on one connection of HTTP/2"),
    plain("BODY_SECONDS", "20", "How long the body of a request may take"),
    plain("BODY_BYTES", "1048576", "The most bytes of a body"),
    plain(
        "BODIES_BYTES",
        "67108864",
        "The most bytes of all bodies that are being read, not counting the first 8 KiB of each",
    ),
    plain(
        "IN_FLIGHT",
        "10000",
        "The most requests that are being handled; those that wait for their body or for events are not counted",
    ),
    plain("ANSWER_SECONDS", "30", "How long an answer may take; waiting for events is not counted"),
    plain("READERS", "1000", "The most readers that wait for events or have them streamed"),
    plain(
        "REQUESTS_PER_KEY",
        "2000",
        "How many requests a second each copy takes with one API key, or with tokens of one subject, on average over a second; 0: any number",
    ),
    plain(
        "HOLDS_PER_KEY",
        "10000",
        "How many lines may be held at a time that were asked for with one API key, or with tokens of one subject, over all copies; 0: any number",
    ),
    plain(
        "STOP_SECONDS",
        "25",
        "How long stopping may take, STOP_NOTICE_SECONDS included; what is not done by then is cut off",
    ),
    plain(
        "STOP_NOTICE_SECONDS",
        "5",
        "For how long requests are still taken after SIGTERM, while /readyz says no, so that whoever sends them here sends them elsewhere",
    ),
    plain(
        "API_HOST",
        "",
        "Where `health` asks: HOST:PORT, or a host, which means port 5005 for localhost, else 80, or 443 with TLS_CERT_FILE; unset, where LISTEN says",
    ),
    plain("WEB", "on", "Whether `serve` serves the web API: on or off"),
    plain("RELAY", "on", "Whether `serve` relays events to broker, mail and webhooks: on or off"),
    plain("CONSUMER", "on", "Whether `serve` consumes messages from the broker: on or off"),
    plain("BATCH", "256", "The most commands in one unit of work"),
    plain("QUEUE_LENGTH", "8192", "The most commands that may wait for their unit of work"),
    plain(
        "STRATEGY",
        "earliest",
        "Which batches go first unless a product says otherwise: earliest, fefo, fifo, fewest_splits, location_priority",
    ),
    plain("TIME_ZONE", "UTC", "The time zone of locations of which nothing else is said, such as Europe/Berlin"),
    plain("TIME_ZONES", "", "Time zones of other locations, such as auckland=Pacific/Auckland,lima=America/Lima"),
    plain("KEY_HOURS", "24", "For how long an Idempotency-Key is remembered at least"),
    plain("INBOX_DAYS", "30", "For how long the id of a message is remembered at least"),
    plain(
        "EVENT_DAYS",
        "",
        "After how many days events that every sink has seen are taken out of the log; without it they are kept for ever",
    ),
    plain(
        "SINKS_BEGIN",
        "mail=now",
        "Where in the log a sink begins that is new: beginning or now; by name, as metrics call it, or for all others: now,nats=beginning",
    ),
    plain("QUEUE_SECONDS", "5", "How long a command may wait before it is turned away"),
    plain(
        "LOG",
        "info,request=warn,tokio_postgres=warn",
        "What is logged: error, warn, info, debug, trace, or a filter such as allocation=debug; at request=info each request is a line, else only those that fail here",
    ),
    plain("LOG_FORMAT", "text", "How: text, or json with an object on each line"),
    plain(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "The OpenTelemetry collector that is sent traces, by OTLP over HTTP: http://host:4318 or https://; without it there are none. What else OpenTelemetry knows of: OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_…",
    ),
    secret(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "",
        "Headers for it, such as api-key=secret,tenant=ours, their values percent-encoded",
    ),
    plain("OTEL_SERVICE_NAME", "allocation", "What traces call this service"),
    plain(
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        "Which traces are kept: always_on, always_off, traceidratio (so many of them); with parentbased_ before it only where the caller has not decided",
    ),
    plain("OTEL_TRACES_SAMPLER_ARG", "1.0", "The part of all traces that traceidratio keeps, from 0.0 to 1.0"),
];
