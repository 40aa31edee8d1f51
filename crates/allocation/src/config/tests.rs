//! What variables come to, and which values will not do.

use super::*;

fn config(variables: &[(&str, &str)]) -> Result<Config, BadVariable> {
    Config::from_lookup(|name| {
        Ok(variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    })
}

fn postgres(variables: &[(&str, &str)]) -> String {
    match config(variables).unwrap().database {
        Database::Postgres(url) => reveal(&url).to_owned(),
        Database::Sqlite(file) => panic!("SQLite in {}", file.display()),
    }
}

#[test]
fn with_nothing_set_it_is_sqlite_without_broker_or_mail() {
    let config = config(&[]).unwrap();
    assert!(matches!(config.database, Database::Sqlite(file) if *file == *"allocation.db"));
    assert!(config.redis.is_none() && config.smtp.is_none());
    assert_eq!(config.listen.to_string(), "127.0.0.1:5005");
    assert_eq!(config.api, ("127.0.0.1".to_owned(), 5005));
}

#[test]
fn short_forms_mean_other_ports_and_passwords_on_localhost() {
    assert_eq!(postgres(&[("DB_HOST", "localhost")]), "postgres://allocation:abc123@localhost:54321/allocation");
    let elsewhere = [("DB_HOST", "db"), ("DB_PASSWORD", "p@ss")];
    assert_eq!(postgres(&elsewhere), "postgres://allocation:p%40ss@db:5432/allocation");
    assert_eq!(config(&[("DB_HOST", "db")]).unwrap_err().variable, "DB_PASSWORD");
    let config = config(&[("REDIS_HOST", "localhost"), ("EMAIL_HOST", "mail"), ("API_HOST", "api")]).unwrap();
    assert_eq!(reveal(&config.redis.unwrap()), "redis://localhost:63791");
    assert_eq!(reveal(&config.smtp.unwrap()), "smtp://mail:1025");
    assert_eq!(config.api, ("api".to_owned(), 80));
}

#[test]
fn a_database_may_be_on_several_hosts() {
    for several in ["postgres://u:p@a,b/d", "postgresql://u:p@a:1,b:2,[::1]:3/d?sslmode=require", "postgres://a,b"] {
        assert_eq!(postgres(&[("DATABASE_URL", several)]), several);
        assert!(!config(&[("DATABASE_URL", several)]).unwrap().describe().contains(":p@"));
    }
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let file = std::env::temp_dir().join(format!("allocation-secret-{}", std::process::id()));
    std::fs::write(&file, "postgres://u:p@h:1/d\n").unwrap();
    assert_eq!(postgres(&[("DATABASE_URL_FILE", file.to_str().unwrap())]), "postgres://u:p@h:1/d");
    std::fs::remove_file(&file).unwrap();
    let gone = config(&[("REDIS_URL_FILE", "/nowhere/at/all")]).unwrap_err();
    assert_eq!(gone.variable, "REDIS_URL_FILE");
}

#[test]
fn a_bad_value_is_told_with_the_variable_that_has_it() {
    for (name, value) in [
        ("DATABASE_URL", "mysql://x/y"),
        ("DATABASE_URL", "sqlite:"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "postgres://u@a,,b/d"),
        ("DATABASE_URL", "postgres://u@a:1,b:port/d"),
        ("DB_CONNECTIONS", "1"),
        ("DB_PREPARED", "never"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_HOST", "a b"),
        ("NATS_URL", "localhost:4222"),
        ("AMQP_URL", "http://rabbit"),
        ("AMQP_UNROUTED", "perhaps"),
        ("REDIS_STREAM", "without a Redis"),
        ("SMTP_URL", "http://mail"),
        ("INBOX_DAYS", "0"),
        ("EVENT_DAYS", "0"),
        ("EVENT_DAYS", "some"),
        ("SINKS_BEGIN", "yesterday"),
        ("SINKS_BEGIN", "kafka=now"),
        ("LISTEN", "5005"),
        ("TLS_CA_FILE", "/nowhere/at/all"),
        ("TLS_CA_FILE", "/dev/null"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://shop.example,shop.example"),
        ("ACCESS", "off"),
        ("OIDC_AUDIENCE", "without an issuer"),
        ("OIDC_ALGORITHMS", "ES256"),
        ("WEB", "maybe"),
        ("WEBHOOK_PRIVATE", "maybe"),
        ("WEBHOOK_SECONDS", "0"),
        ("CONNECTIONS", "0"),
        ("HEAD_BYTES", "8191"),
        ("URL_BYTES", "65535"),
        ("HTTP2", "h2c"),
        ("REQUESTS_PER_KEY", "-1"),
        ("HOLDS_PER_KEY", "some"),
        ("STOP_SECONDS", "0"),
        ("STOP_NOTICE_SECONDS", "25"),
        ("BATCH", "many"),
        ("QUEUE_SECONDS", "-1"),
        ("STRATEGY", "lifo"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.1"),
        ("TIME_ZONE", "Europe/Atlantis"),
        ("TIME_ZONES", "berlin"),
        ("TIME_ZONES", "berlin=Europe/Atlantis"),
        ("TIME_ZONES", "berlin=Europe/Berlin,berlin=Europe/Rome"),
    ] {
        assert_eq!(config(&[(name, value)]).unwrap_err().variable, name, "{value}");
    }
}

#[test]
fn a_certificate_has_its_key_and_a_port_of_its_own() {
    let pair = [("TLS_CERT_FILE", "chain.pem"), ("TLS_KEY_FILE", "key.pem")];
    assert_eq!(config(&pair[..1]).unwrap_err().variable, "TLS_KEY_FILE");
    assert_eq!(config(&pair[1..]).unwrap_err().variable, "TLS_CERT_FILE");
    assert_eq!(config(&pair).unwrap().api, ("127.0.0.1".to_owned(), 5005));
    assert_eq!(config(&[pair[0], pair[1], ("API_HOST", "api")]).unwrap().api, ("api".to_owned(), 443));
}

#[test]
fn health_is_asked_where_the_service_listens_unless_it_is_said_where() {
    let asked = |variables: &[(&str, &str)]| config(variables).map(|config| config.api);
    for (listen, host) in [("127.0.0.1:5077", "127.0.0.1"), ("0.0.0.0:5077", "localhost"), ("[::1]:5077", "::1")] {
        assert_eq!(asked(&[("LISTEN", listen), ("ACCESS", "keys")]).unwrap(), (host.to_owned(), 5077));
    }
    for (given, host, port) in [("localhost", "localhost", 5005), ("api:81", "api", 81), ("[::1]:81", "::1", 81)] {
        assert_eq!(asked(&[("API_HOST", given)]).unwrap(), (host.to_owned(), port));
    }
    assert_eq!(asked(&[("API_HOST", "api:http")]).unwrap_err().variable, "API_HOST");
}

#[test]
fn an_address_that_others_reach_is_served_only_if_it_was_said_to_whom() {
    let door = |listen: &str, access: &str| config(&[("LISTEN", listen), ("ACCESS", access)]).unwrap().door();
    for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(door(here, ""), Ok(Door::Open), "{here}");
        assert_eq!(door(here, "keys"), Ok(Door::Credentials), "{here}");
    }
    for elsewhere in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:0.0.0.0]:80", "[fe80::1]:80"] {
        let refused = door(elsewhere, "").unwrap_err();
        assert_eq!(refused.variable, "ACCESS");
        assert!(refused.why.contains("`keys`") && refused.why.contains("`open`"), "{refused}");
        assert_eq!(door(elsewhere, "keys"), Ok(Door::Credentials));
        assert_eq!(door(elsewhere, "open"), Ok(Door::Open));
    }
}

#[test]
fn tokens_are_asked_for_once_an_issuer_is_named_with_all_that_makes_them_safe() {
    const ISSUER: (&str, &str) = ("OIDC_ISSUER", "https://id.example.com/");
    const AUDIENCE: (&str, &str) = ("OIDC_AUDIENCE", "allocation");
    for listen in ["127.0.0.1:1", "0.0.0.0:80"] {
        for access in ["", "keys"] {
            let config = config(&[ISSUER, AUDIENCE, ("LISTEN", listen), ("ACCESS", access)]).unwrap();
            assert_eq!(config.door(), Ok(Door::Credentials), "{listen} {access}");
            assert_eq!(config.most_holds(), Some(10_000));
            let oidc = config.oidc.unwrap();
            assert_eq!(oidc.issuer.as_str(), ISSUER.1);
            assert_eq!(oidc.algorithms, [TokenAlgorithm::Rs256, TokenAlgorithm::Es256].into());
        }
    }
    let refused = |more: (&'static str, &'static str)| config(&[more, ISSUER, AUDIENCE]).unwrap_err().variable;
    assert_eq!(refused(("ACCESS", "open")), "OIDC_ISSUER", "a door that is open asks for no token");
    assert_eq!(refused(("OIDC_ISSUER", "http://id.example.com/")), "OIDC_ISSUER");
    for algorithms in ["HS256", "none", "RS256,HS256", "RS256,", "rs256"] {
        assert_eq!(refused(("OIDC_ALGORITHMS", algorithms)), "OIDC_ALGORITHMS", "{algorithms}");
    }
    assert_eq!(config(&[ISSUER]).unwrap_err().variable, "OIDC_AUDIENCE");
}

#[test]
fn what_is_limited_unless_something_else_is_set_is_what_the_types_say() {
    let config = config(&[]).unwrap();
    let (connections, requests) = (ConnectionLimits::default(), RequestLimits::default());
    assert_eq!(format!("{:?}", config.connection_limits), format!("{connections:?}"));
    assert_eq!(format!("{:?}", config.request_limits), format!("{requests:?}"));
}

#[test]
fn a_sink_begins_as_it_is_said_of_it_or_of_all() {
    let begin = |text: &str, sink: &str| config(&[("SINKS_BEGIN", text)]).unwrap().begin.of(sink);
    assert_eq!((begin("", "nats"), begin("", "mail")), (Begin::WithFirst, Begin::WithNext));
    assert_eq!((begin("now", "nats"), begin("now", "mail")), (Begin::WithNext, Begin::WithNext));
    let some = "now, nats=beginning,mail = beginning";
    assert_eq!(["nats", "mail", "redis"].map(|sink| begin(some, sink).name()), ["beginning", "beginning", "now"]);
}

#[test]
fn what_is_printed_holds_no_secret() {
    let text = config(&[
        ("DATABASE_URL", "postgres://u:hunter2@h/d?password=hunter2"),
        ("DB_PASSWORD", "hunter2"),
        ("REDIS_URL", "redis://:hunter2@h:1/#hunter2"),
        ("NATS_URL", "nats://hunter2@h:1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2"),
    ])
    .unwrap()
    .describe();
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("DATABASE_URL=postgres://u:***@h/d"), "{text}");
}
