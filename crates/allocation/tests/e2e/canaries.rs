//! Secrets that were put in every place that may hold one, and are looked for in all that the program says: its log at its most talkative, errors, answers, metrics, traces, and its
//! line in the list of processes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_testing::certificates::Authority;
use allocation_testing::eventually;
use allocation_testing::program::command;
use allocation_testing::servers::{NatsServer, RabbitServer, RedisServer, postgres_url};
use allocation_testing::tokens::SigningKey;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::collector::Collector;
use crate::issuer::Issuer;
use crate::support::{On, PROGRAM, Service, Store, client};
use crate::webhooks::Receiver;

/// What a setting may hold that nobody is to see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Nothing.
    Nothing,
    /// All of it, or the password in it.
    Secret,
    /// The name of a file that does.
    SecretFile,
}
use Holds::{Nothing, Secret, SecretFile};

/// Each setting. A new one fails the test until it is here; and one that holds a secret has a canary in `settings`.
const SETTINGS: &[(&str, Holds)] = &[
    ("DATABASE_URL", Secret),
    ("DB_HOST", Nothing),
    ("DB_PASSWORD", Secret),
    ("DB_CONNECTIONS", Nothing),
    ("DB_LOCK_SKUS", Nothing),
    ("DB_PREPARED", Nothing),
    ("MIGRATE", Nothing),
    ("REDIS_URL", Secret),
    ("REDIS_HOST", Nothing),
    ("REDIS_STREAM", Nothing),
    ("REDIS_STREAM_CAP", Nothing),
    ("REDIS_COMMANDS", Nothing),
    ("NATS_URL", Secret),
    ("NATS_STREAM", Nothing),
    ("NATS_COMMANDS", Nothing),
    ("NATS_COMMANDS_SUBJECT", Nothing),
    ("AMQP_URL", Secret),
    ("AMQP_EXCHANGE", Nothing),
    ("AMQP_UNROUTED", Nothing),
    ("AMQP_COMMANDS", Nothing),
    ("SMTP_URL", Secret),
    ("EMAIL_HOST", Nothing),
    ("NOTIFY_FROM", Nothing),
    ("NOTIFY_TO", Nothing),
    ("WEBHOOK_PRIVATE", Nothing),
    ("WEBHOOK_SECONDS", Nothing),
    ("TLS_CA_FILE", Nothing),
    ("LISTEN", Nothing),
    ("TLS_CERT_FILE", Nothing),
    ("TLS_KEY_FILE", SecretFile),
    ("CORS_ORIGINS", Nothing),
    ("ACCESS", Nothing),
    ("OIDC_ISSUER", Nothing),
    ("OIDC_AUDIENCE", Nothing),
    ("OIDC_ALGORITHMS", Nothing),
    ("CONNECTIONS", Nothing),
    ("HEAD_SECONDS", Nothing),
    ("HEAD_BYTES", Nothing),
    ("URL_BYTES", Nothing),
    ("IDLE_SECONDS", Nothing),
    ("HTTP2", Nothing),
    ("STREAMS", Nothing),
    ("BODY_SECONDS", Nothing),
    ("BODY_BYTES", Nothing),
    ("BODIES_BYTES", Nothing),
    ("IN_FLIGHT", Nothing),
    ("ANSWER_SECONDS", Nothing),
    ("READERS", Nothing),
    ("REQUESTS_PER_KEY", Nothing),
    ("HOLDS_PER_KEY", Nothing),
    ("STOP_SECONDS", Nothing),
    ("STOP_NOTICE_SECONDS", Nothing),
    ("API_HOST", Nothing),
    ("WEB", Nothing),
    ("RELAY", Nothing),
    ("CONSUMER", Nothing),
    ("BATCH", Nothing),
    ("QUEUE_LENGTH", Nothing),
    ("STRATEGY", Nothing),
    ("TIME_ZONE", Nothing),
    ("TIME_ZONES", Nothing),
    ("KEY_HOURS", Nothing),
    ("INBOX_DAYS", Nothing),
    ("EVENT_DAYS", Nothing),
    ("SINKS_BEGIN", Nothing),
    ("QUEUE_SECONDS", Nothing),
    ("LOG", Nothing),
    ("LOG_FORMAT", Nothing),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", Nothing),
    ("OTEL_EXPORTER_OTLP_HEADERS", Secret),
    ("OTEL_SERVICE_NAME", Nothing),
    ("OTEL_TRACES_SAMPLER", Nothing),
    ("OTEL_TRACES_SAMPLER_ARG", Nothing),
];

/// Text that is nowhere by chance, another for each place.
fn canary(place: &str) -> String {
    let letters: String = place.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("canary{}9q7z", letters.to_ascii_lowercase())
}

/// What a secret looks like when it was printed: as it is, in base64 within something else, in hexadecimal, or as a list of bytes.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let joined =
        |separator: &str, print: fn(&u8) -> String| bytes.iter().map(print).collect::<Vec<_>>().join(separator);
    let mut forms =
        vec![secret.to_owned(), joined("", |byte| format!("{byte:02x}")), joined(", ", ToString::to_string)];
    for before in 0..3 {
        let text = [&vec![b'x'; before], bytes].concat();
        for text in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text)] {
            // Without what depends on its neighbours.
            let text = text.trim_end_matches('=');
            forms.push(text[(before * 8).div_ceil(6)..text.len() - 1].to_owned());
        }
    }
    forms
}

/// Whether something tells a secret.
fn tells(said: &[u8], secret: &str) -> bool {
    Finder::new(secret).finds(&String::from_utf8_lossy(said))
}

/// Looks for one secret.
struct Finder {
    secret: String,
    forms: Vec<String>,
}

impl Finder {
    fn new(secret: &str) -> Self {
        Self { secret: secret.to_ascii_lowercase(), forms: forms(secret) }
    }

    fn finds(&self, said: &str) -> bool {
        said.to_ascii_lowercase().contains(&self.secret) || self.forms.iter().any(|form| said.contains(form))
    }
}

/// All that was said, and all that must not be in it.
#[derive(Default)]
struct Heard {
    secrets: BTreeSet<String>,
    said: Vec<(String, Vec<u8>)>,
}

impl Heard {
    fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        Self { secrets: secrets.into_iter().collect(), said: Vec::new() }
    }

    fn keep(&mut self, secret: &str) {
        self.secrets.insert(secret.to_owned());
    }

    fn hear(&mut self, whence: &str, said: impl AsRef<[u8]>) {
        self.said.push((whence.to_owned(), said.as_ref().to_vec()));
    }

    /// The program's line in the list of processes, which anybody on the machine may read.
    fn hear_of_process(&mut self, pid: u32) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!line.is_empty());
        self.hear("list of processes", line);
    }

    /// Fails the test if anything told a secret.
    fn assert_silent(&self) {
        let mut told = Vec::new();
        let finders: Vec<Finder> = self.secrets.iter().map(|secret| Finder::new(secret)).collect();
        for (whence, said) in &self.said {
            let text = String::from_utf8_lossy(said);
            for finder in finders.iter().filter(|finder| finder.finds(&text)) {
                // No form of it goes over the end of a line.
                let lines = text.lines().filter(|line| finder.finds(line)).take(3);
                told.extend(lines.map(|line| {
                    format!("{} is told by {whence}: {}", finder.secret, &line[..line.floor_char_boundary(500)])
                }));
            }
        }
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}

/// A server that greets, answers what it is told, and remembers it.
struct Scripted {
    address: SocketAddr,
    told: Arc<Mutex<Vec<u8>>>,
}

impl Scripted {
    async fn start(greeting: &'static str, answer: fn(&[u8]) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scripted = Self { address: listener.local_addr().unwrap(), told: Arc::default() };
        let told = scripted.told.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::talk(stream, greeting, answer, told.clone()));
            }
        });
        scripted
    }

    async fn talk(mut stream: TcpStream, greeting: &str, answer: fn(&[u8]) -> Vec<u8>, told: Arc<Mutex<Vec<u8>>>) {
        let mut buffer = vec![0; 65_536];
        let _ = stream.write_all(greeting.as_bytes()).await;
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            told.lock().unwrap().extend_from_slice(&buffer[..length]);
            let _ = stream.write_all(&answer(&buffer[..length])).await;
        }
    }

    /// Waits until it was told a secret: so it was used.
    async fn was_told(&self, secret: &str) {
        let what = format!("{secret} to be used");
        eventually(&what, async || tells(&self.told.lock().unwrap(), secret).then_some(())).await;
    }

    /// A mail server that knows who asks.
    async fn mail() -> Self {
        Self::start("220 here\r\n", |told| smtp(told, "235 fine\r\n")).await
    }

    /// A mail server that does not.
    async fn refusing_mail() -> Self {
        Self::start("220 here\r\n", |told| smtp(told, "535 5.7.8 who are you\r\n")).await
    }

    /// A NATS that knows nobody.
    async fn refusing_nats() -> Self {
        const INFO: &str = "INFO {\"server_id\":\"x\",\"server_name\":\"x\",\"version\":\"2.10.0\",\"go\":\"x\",\"host\":\"127.0.0.1\",\"port\":1,\"headers\":true,\
            \"auth_required\":true,\"max_payload\":1048576,\"proto\":1}\r\n";
        Self::start(INFO, |told| {
            if told.starts_with(b"CONNECT") { b"-ERR 'Authorization Violation'\r\n".to_vec() } else { Vec::new() }
        })
        .await
    }

    /// A PostgreSQL that knows nobody.
    async fn refusing_postgres() -> Self {
        const REFUSAL: &[u8] = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"allocation\"\0\0";
        Self::start("", |told| match told.first() {
            // It wants the password in clear.
            Some(0) => b"R\0\0\0\x08\0\0\0\x03".to_vec(),
            _ => [b"E\0\0\0", &[u8::try_from(REFUSAL.len() + 4).unwrap()][..], REFUSAL].concat(),
        })
        .await
    }
}

fn smtp(told: &[u8], admitted: &str) -> Vec<u8> {
    let answer = match told {
        [b'E', b'H', b'L', b'O', ..] => "250-here\r\n250 AUTH PLAIN LOGIN\r\n",
        [b'A', b'U', b'T', b'H', ..] => admitted,
        [b'D', b'A', b'T', b'A', ..] => "354 go on\r\n",
        _ => "250 fine\r\n",
    };
    answer.as_bytes().to_vec()
}

/// How the log may look.
const FORMATS: [&str; 2] = ["text", "json"];

/// A service that is told of secrets, who may ask it, and all that is heard of it.
struct World {
    heard: Heard,
    issuer: Issuer,
    signer: SigningKey,
    collector: Collector,
    receiver: Receiver,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let secrets = SETTINGS.iter().filter(|(_, holds)| *holds == Secret).map(|(name, _)| canary(name));
        let signer = SigningKey::rsa("one", 0);
        Self {
            heard: Heard::new(secrets),
            issuer: Issuer::start(&[&signer]).await,
            signer,
            collector: Collector::start().await,
            receiver: Receiver::start().await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// One that says all it can, this way.
    fn talkative(&self, store: Store, format: &str) -> Store {
        let headers = format!("api-key={}", canary("OTEL_EXPORTER_OTLP_HEADERS"));
        let store = store.with("LOG", "trace").with("LOG_FORMAT", format).with("WEBHOOK_PRIVATE", "on");
        let store = store.with("OTEL_EXPORTER_OTLP_HEADERS", &headers).with("ACCESS", "keys").trusting(&self.issuer);
        store.told_to(&self.collector.url)
    }

    /// Serves, asks for everything in every way, waits until the log has what is expected, and hears all.
    async fn serve(&mut self, store: &Store, expected: &[&str]) -> Service {
        let key = self.key(store).await;
        let service = store.serve().await;
        let base = service.program.url("");
        self.ask(&service.client, &base, &key).await;
        self.ask_in_raw(service.program.address()).await;
        for expected in expected {
            let said = async || service.program.log().contains(expected).then_some(());
            eventually(&format!("the log to say {expected:?}"), said).await;
        }
        service
    }

    /// Makes an API key, whose text is shown once, where it belongs.
    async fn key(&mut self, store: &Store) -> String {
        let made = store
            .run(&[
                "keys",
                "create",
                "--name",
                "canary",
                "--scope",
                "admin,stock:read,stock:write,orders:read,orders:write,events:read",
            ])
            .await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        self.heard.keep(&key);
        self.heard.keep(key.strip_prefix("allocation_").unwrap());
        self.heard.hear("keys create", made.stderr);
        for arguments in
            [&["keys", "list"][..], &["config"], &["events", "sinks"], &["verify"], &["dead-letters", "list"]]
        {
            let output = store.run(arguments).await;
            self.heard.hear(&arguments.join(" "), [output.stdout, output.stderr].concat());
        }
        key
    }

    /// Hears all of a program that is to end.
    async fn end(&mut self, service: Service) {
        self.heard.hear_of_process(service.program.pid());
        service.program.signal("TERM").await;
        let ended = service.program.ended().await;
        assert!(ended.log.contains("TRACE"), "it says all it can");
        self.heard.hear("log", ended.log);
        for (_, body) in self.collector.requests() {
            self.heard.hear("traces", body);
        }
    }

    /// Has every header that may hold a secret hold one, with all kinds of credentials, good and bad.
    async fn ask(&mut self, client: &Client, base: &str, key: &str) {
        let token = self.signer.token(&self.issuer.claims("reader", "stock:read"));
        let expired = self.signer.token(&json!({"iss": self.issuer.url, "aud": "allocation", "sub": "x", "exp": 1}));
        let garbled = format!("{}.{}", token.rsplit_once('.').unwrap().0, canary("signature"));
        let [stranger, header, cookie, query, user, wrong] =
            ["stranger", "header", "cookie", "query", "user", "wrong"].map(canary);
        let no_key = format!("allocation_{:064x}{:08x}", 7, 8);
        let basic = BASE64_STANDARD.encode(format!("u:{user}"));
        let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
        for secret in
            [&signature(&token), &signature(&expired), &stranger, &header, &cookie, &query, &user, &wrong, &no_key]
        {
            self.heard.keep(secret);
        }
        self.heard.keep(&canary("signature"));

        for (authorization, status) in [
            (format!("Bearer {key}"), 200),
            (format!("Bearer {token}"), 200),
            (format!("Bearer {expired}"), 401),
            (format!("Bearer {garbled}"), 401),
            (format!("Bearer {no_key}"), 401),
            (format!("Bearer {stranger}"), 401),
            (format!("Bearer eyJ{stranger}.eyJ{stranger}.{stranger}"), 401),
            (format!("Basic {basic}"), 401),
            (stranger.clone(), 401),
            (format!("Bearer {stranger} {stranger}"), 401),
        ] {
            for path in ["/v1/products", "/v1/products?access_token=TOKEN&api_key=TOKEN", "/v1/products/x?token=TOKEN"]
            {
                let path = path.replace("TOKEN", &query);
                let request = client.get(format!("{base}{path}")).header("Authorization", &authorization);
                let request = request.header("Cookie", format!("session={cookie}")).header("X-Api-Key", &header);
                let request = request.header("Proxy-Authorization", &header).header("X-Auth-Token", &header);
                let answer = self.answer(request).await;
                assert!(answer == status || (status == 200 && [404, 422].contains(&answer)), "{path}: {answer}");
            }
        }
        let with = |method: Method, path: &str, body: Value| {
            client.request(method, format!("{base}{path}")).bearer_auth(key).header("Cookie", &cookie).json(&body)
        };
        let hook = json!({"url": format!("{}/{wrong}?token={wrong}", self.receiver.url), "from": "beginning"});
        let elsewhere = json!({"url": format!("http://127.0.0.1:1/{wrong}?token={wrong}"), "from": "beginning"});
        let mut hooks = Vec::new();
        for hook in [hook, elsewhere, json!({"url": self.receiver.url, "from": "beginning"})] {
            // It is shown here, and nowhere else.
            let hook = Service::answer(with(Method::POST, "/v1/webhooks", hook)).await.expect(201).json();
            self.heard.keep(hook["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap());
            hooks.push(format!("/v1/webhooks/{}", hook["id"].as_str().unwrap()));
        }
        let rotated =
            Service::answer(with(Method::PATCH, &hooks[2], json!({"rotate_secret": true}))).await.expect(200).json();
        self.heard.keep(rotated["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap());
        for (method, path, body) in [
            (Method::PUT, "/v1/products/LAMP/batches/b", json!({"qty": 1})),
            (Method::PUT, "/v1/orders/o1", json!({"lines": [{"sku": "LAMP", "qty": 1}]})),
            (Method::PUT, "/v1/orders/o2", json!({"lines": [{"sku": "LAMP", "qty": 2}]})),
            (Method::PUT, "/v1/orders/o3", json!({"lines": [], "password": wrong})),
            (Method::POST, "/v1/webhooks", json!({"url": format!("https://u:{wrong}@example.com/")})),
            (Method::POST, "/v1/webhooks", json!({"url": "https://example.com/", "secret": wrong})),
            (Method::GET, &hooks[2], json!({})),
        ] {
            self.answer(with(method, path, body)).await;
        }
        self.receiver.got(1).await;
        for hook in &hooks[..2] {
            let failed = async || {
                let hook = Service::answer(with(Method::GET, hook, json!({}))).await.expect(200).json();
                hook.get("last_failure").cloned()
            };
            // Where it goes is told to those who may know; why it failed does not say it again.
            self.heard.hear("last failure", eventually("a failure", failed).await.to_string());
        }
        self.answer(with(Method::GET, "/metrics", json!({}))).await;
        self.answer(client.get(format!("{base}/nowhere?token={query}"))).await;
    }

    /// Sends a request and hears the answer.
    async fn answer(&mut self, request: reqwest::RequestBuilder) -> u16 {
        let answer = Service::answer(request).await;
        self.heard.hear("answer", format!("{:?}\n{}", answer.headers, answer.text));
        answer.status.as_u16()
    }

    /// Sends heads that are none, and too many bytes of one; and asks over HTTP/2.
    async fn ask_in_raw(&mut self, address: SocketAddr) {
        let secret = canary("header");
        for head in [
            format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\nno header\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\0\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: {secret}\r\ncookie: {secret}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", secret.repeat(2_000)),
            format!("GET /?token={secret}\x01 HTTP/1.1\r\nhost: x\r\n\r\n"),
            format!("{secret} {secret}\r\n\r\n"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(head.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            self.heard.hear("answer to what is no request", answer);
        }
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = axum::http::Request::get(format!("http://x/v1/products?token={secret}"));
        let request =
            request.header("authorization", format!("Bearer {secret}")).header("cookie", format!("a={secret}"));
        let mut client = client.ready().await.unwrap();
        let answer = client.send_request(request.body(()).unwrap(), true).unwrap().0.await.unwrap();
        assert_eq!(answer.status().as_u16(), 401);
    }

    /// Writes a file.
    fn file(&self, name: &str, text: &str) -> String {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// Hears a command that must fail, in each form of the log.
    async fn hear_failure(&mut self, settings: &[(&str, &str)], arguments: &[&str]) -> String {
        let mut all = String::new();
        for format in FORMATS {
            let settings = [&[("LOG", "trace"), ("LOG_FORMAT", format), ("LISTEN", "127.0.0.1:0")], settings].concat();
            let running = command(Path::new(PROGRAM), &settings, arguments).output();
            let output = tokio::time::timeout(Duration::from_mins(1), running).await;
            let output = output.unwrap_or_else(|_| panic!("it was taken: {settings:?}")).unwrap();
            assert_eq!(output.status.code(), Some(2), "{settings:?}: {}", String::from_utf8_lossy(&output.stderr));
            let said = [output.stdout, output.stderr].concat();
            all.push_str(&String::from_utf8_lossy(&said));
            self.heard.hear(&format!("{arguments:?} with {:?}", settings.last()), said);
        }
        all
    }
}

/// An address where nobody is.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// The brokers and the mail server at these places, each with its secret.
fn at(store: Store, redis: &str, nats: &str, rabbit: &str, mail: &str) -> Store {
    let with = |store: Store, name: &str, (scheme, user): (&str, &str), place: &str, path: &str| {
        if place.is_empty() {
            return store;
        }
        store.with(name, &format!("{scheme}://{user}:{}@{place}{path}", canary(name)))
    };
    let store = with(store, "REDIS_URL", ("redis", ""), redis, "/").with("REDIS_STREAM", "events");
    let store = with(store, "NATS_URL", ("nats", "u"), nats, "");
    let store = with(store, "AMQP_URL", ("amqp", "guest"), rabbit, "/%2f");
    with(store, "SMTP_URL", ("smtp", "u"), mail, "")
}

/// Host and port of a URL.
fn place(url: &str) -> String {
    let url = reqwest::Url::parse(url).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

/// Has a Redis ask for a password.
async fn lock(redis: &RedisServer, password: &str) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: () = redis::cmd("CONFIG").arg(&["SET", "requirepass", password]).query_async(&mut connection).await.unwrap();
}

#[test]
fn a_secret_is_found_however_it_is_printed() {
    let secret = canary("x");
    for said in [
        format!("password={secret}"),
        format!("PASSWORD={}", secret.to_uppercase()),
        BASE64_STANDARD.encode(format!("\0user\0{secret}")),
        BASE64_STANDARD.encode(format!("u:{secret}!")),
        BASE64_URL_SAFE_NO_PAD.encode(format!("ab{secret}")),
        format!("{:?}", format!("ab{secret}").as_bytes()),
    ] {
        assert!(tells(said.as_bytes(), &secret), "{said}");
    }
    assert!(!tells(canary("y").as_bytes(), &secret));
}

#[tokio::test]
async fn each_setting_is_known_to_hold_a_secret_or_none() {
    let output = Store::new(On::Sqlite).await.run(&["config"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let mut settings = Vec::new();
    for entry in text.split("\n\n") {
        let Some(name) = entry.trim().lines().last().and_then(|line| line.trim_start_matches("# ").split_once('='))
        else {
            continue;
        };
        settings.push((name.0, entry.contains("# A secret:")));
    }
    let expected: Vec<_> = SETTINGS.iter().map(|(name, holds)| (*name, *holds == Secret)).collect();
    assert_eq!(settings, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_of_secrets_that_are_refused() {
    let (mut world, redis, rabbit) = (World::new().await, RedisServer::start().await, RabbitServer::start().await);
    lock(&redis, "another").await;
    for format in FORMATS {
        let (nats, mail) = (Scripted::refusing_nats().await, Scripted::refusing_mail().await);
        let store = world.talkative(Store::new(On::Sqlite).await, format);
        let (redis, rabbit) = (place(&redis.url()), place(&rabbit.url()));
        let store = at(store, &redis, &nats.address.to_string(), &rabbit, &mail.address.to_string());
        let failures = ["Redis: ", "NATS: ", "RabbitMQ: ", "SMTP: ", "can't consume"];
        let service = world.serve(&store, &failures).await;
        nats.was_told(&canary("NATS_URL")).await;
        mail.was_told(&canary("SMTP_URL")).await;
        world.end(service).await;
    }
    world.heard.assert_silent();
}

/// The library does not take them from a URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_is_told_user_and_password_or_the_token_in_its_url() {
    for (user, told) in [
        ("us%20er:p%40ss", &[r#""user":"us er""#, r#""pass":"p@ss""#][..]),
        ("tok%3Aen", &[r#""auth_token":"tok:en""#]),
    ] {
        let nats = Scripted::refusing_nats().await;
        let url = format!("nats://{user}@{}", nats.address);
        let store = Store::new(On::Sqlite).await.with("NATS_URL", &url);
        let service = store.serve().await;
        service.batch("LAMP", "b", json!({"qty": 1})).await;
        // Once by who consumes, once by who publishes.
        eventually("two to ask", async || {
            let said = String::from_utf8(nats.told.lock().unwrap().clone()).unwrap();
            (said.matches("CONNECT").count() >= 2 && told.iter().all(|told| said.matches(told).count() >= 2))
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_of_secrets_that_are_taken() {
    let (mut world, redis, nats) = (World::new().await, RedisServer::start().await, NatsServer::start().await);
    lock(&redis, &canary("REDIS_URL")).await;
    for format in FORMATS {
        let mail = Scripted::mail().await;
        let url = postgres_url().await;
        let url = url.replacen("allocation@", &format!("allocation:{}@", canary("DATABASE_URL")), 1);
        assert!(url.contains(&canary("DATABASE_URL")), "{url}");
        let store = world.talkative(Store::at(url, tempfile::tempdir().unwrap()), format);
        let store = at(store, &place(&redis.url()), &place(&nats.url()), "", &mail.address.to_string());
        let service = world.serve(&store, &[]).await;
        mail.was_told(&canary("SMTP_URL")).await;
        let sinks = async || {
            let said = store.run(&["events", "sinks"]).await;
            let said = String::from_utf8(said.stdout).unwrap();
            ["redis ", "redis-stream ", "nats "].iter().all(|sink| said.contains(sink)).then_some(())
        };
        eventually("all sinks to be known", sinks).await;
        let collector = &world.collector;
        let delivered = async || {
            let names: BTreeSet<_> =
                collector.spans().into_iter().filter(|span| !span.failed).map(|span| span.name).collect();
            ["publish redis", "publish redis-stream", "publish nats", "POST webhook"]
                .iter()
                .all(|name| names.contains(*name))
                .then_some(())
        };
        eventually("events to be delivered", delivered).await;
        world.end(service).await;
    }
    let headers = &world.collector.requests()[0].0;
    assert!(headers["api-key"].to_str().unwrap() == canary("OTEL_EXPORTER_OTLP_HEADERS"), "it was used");
    world.heard.assert_silent();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_while_everybody_is_away_or_over_tls() {
    let mut world = World::new().await;
    let authority = Authority::new("authority");
    let pair = authority.certify(&["localhost"]);
    let files = pair.write(world.folder.path());
    let key = pair.key.lines().nth(1).unwrap().to_owned();
    world.heard.keep(&key);
    let believed =
        Certificate::from_pem(std::fs::read(authority.write(world.folder.path())).unwrap().as_slice()).unwrap();
    let away = nobody().await.to_string();
    let _ = client();
    let tls = Client::builder().tls_certs_only([believed]).build().unwrap();
    for format in FORMATS {
        let store = world
            .talkative(Store::new(On::Sqlite).await, format)
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{away}"));
        let store = store.with("TLS_CERT_FILE", &text(&files.chain)).with("TLS_KEY_FILE", &text(&files.key));
        let store = at(store, &away, &away, &away, &away);
        let api_key = world.key(&store).await;
        let service = store.serve().await;
        let base = format!("https://localhost:{}", service.program.address().port());
        world.ask(&tls, &base, &api_key).await;
        for failure in ["Redis: ", "NATS: ", "RabbitMQ: ", "SMTP: ", "spans can't be sent"] {
            let said = async || service.program.log().contains(failure).then_some(());
            eventually(&format!("the log to say {failure:?}"), said).await;
        }
        world.end(service).await;
    }
    world.heard.assert_silent();
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_of_a_setting_that_will_not_do() {
    let mut world = World::new().await;
    let secret = canary("setting");
    world.heard.keep(&secret);
    let (away, nothing) = (nobody().await, world.file("empty", ""));
    for bad in [
        "S",
        "://u:S@h",
        "x://u:S@h:1/",
        "x://S@h",
        "x://u:S@h:port/",
        "x://u:S@[::1",
        "x://u:S@",
        "x://u:S@h:1:2/",
        "x://h?password=S",
        "u:S@h:1",
    ] {
        for (name, scheme) in [
            ("DATABASE_URL", "postgres"),
            ("REDIS_URL", "redis"),
            ("NATS_URL", "nats"),
            ("AMQP_URL", "amqp"),
            ("SMTP_URL", "smtp"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http"),
            ("OIDC_ISSUER", "https"),
        ] {
            // Of its own scheme some would be taken.
            let schemes: &[&str] = if bad.starts_with("x://u:S@h:1/") || bad.contains("h?") || bad == "x://S@h" {
                &["ftp"]
            } else {
                &["ftp", scheme]
            };
            for scheme in schemes {
                let value = bad.replace("x://", &format!("{scheme}://")).replace('S', &secret);
                world.hear_failure(&[("DATABASE_URL", "sqlite:/nowhere/x"), (name, &value)], &["serve"]).await;
            }
        }
    }
    let pair = Authority::new("a").certify(&["localhost"]);
    let key = world.file("key", &format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"));
    let chain = world.file("chain", &pair.chain);
    let file = world.file("secret", &format!("ftp://u:{secret}@h/"));
    let no_pem = world.file("no-pem", &secret);
    let sqlite = format!("sqlite:{}", world.folder.path().join("a.db").display());
    for settings in [
        [("DATABASE_URL", &*format!("postgres://u:{secret}@{away}/d?sslmode={secret}")), ("X", "")],
        [("DATABASE_URL", &format!("postgres://u:{secret}@{away}/d?pasword={secret}")), ("X", "")],
        [("DATABASE_URL", &format!("postgres://u:{secret}@{away}/d?sslrootcert={secret}")), ("X", "")],
        [("DATABASE_URL", &format!("postgres://u:{secret}@a,{away}:port/d")), ("X", "")],
        [("DATABASE_URL", &format!("postgres://u:{secret}@{away}/d?sslmode=require")), ("X", "")],
        [("DATABASE_URL", &sqlite), ("REDIS_URL", &format!("redis://:{secret}@h/{secret}"))],
        [("DATABASE_URL", &sqlite), ("REDIS_URL", &format!("redis://:{secret}@h/#{secret}"))],
        [("DATABASE_URL", &sqlite), ("REDIS_URL", &format!("rediss://:{secret}@h/#insecure"))],
        [("DATABASE_URL", &sqlite), ("SMTP_URL", &format!("smtp://u:{secret}@h?tls={secret}"))],
        [("DATABASE_URL", &sqlite), ("SMTP_URL", &format!("smtps://u:{secret}@h?{secret}"))],
        [("DATABASE_URL", &sqlite), ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://u:{secret}@h:1"))],
        [("DATABASE_URL", &sqlite), ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://h:1/?key={secret}"))],
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1"), ("OTEL_EXPORTER_OTLP_HEADERS", &secret)],
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1"), ("OTEL_EXPORTER_OTLP_HEADERS", &format!("a b={secret}"))],
        [("OIDC_AUDIENCE", "a"), ("OIDC_ISSUER", &format!("https://u:{secret}@h/"))],
        [("OIDC_AUDIENCE", "a"), ("OIDC_ISSUER", &format!("https://h/?key={secret}"))],
        [("TLS_CERT_FILE", &chain), ("TLS_KEY_FILE", &key)],
        [("TLS_CERT_FILE", &key), ("TLS_KEY_FILE", &key)],
        [("TLS_CERT_FILE", &chain), ("TLS_KEY_FILE", &no_pem)],
        [("TLS_CERT_FILE", &no_pem), ("TLS_KEY_FILE", &nothing)],
        [("DATABASE_URL", &sqlite), ("TLS_CA_FILE", &key)],
        [("DATABASE_URL", &sqlite), ("TLS_CA_FILE", &no_pem)],
        [("DATABASE_URL", &sqlite), ("CORS_ORIGINS", &format!("https://u:{secret}@h"))],
        [("DATABASE_URL_FILE", &file), ("X", "")],
        [("DATABASE_URL", &sqlite), ("REDIS_URL_FILE", &file)],
        [("DATABASE_URL", &sqlite), ("OTEL_EXPORTER_OTLP_HEADERS_FILE", "/nowhere")],
        [("DB_PASSWORD", &secret), ("DB_HOST", "a b")],
        [("DB_PASSWORD", &secret), ("DB_HOST", "localhost")],
    ] {
        let all = [&[("DATABASE_URL", &*sqlite)][..], &settings[..]].concat();
        let settings = if settings.iter().any(|(name, _)| name.starts_with("DATABASE") || name.starts_with("DB")) {
            &settings[..]
        } else {
            &all
        };
        world.hear_failure(settings, &["serve"]).await;
    }
    world.heard.assert_silent();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_when_the_database_is_away_or_refuses() {
    let mut world = World::new().await;
    let refusing = Scripted::refusing_postgres().await;
    for (place, why) in [(nobody().await, "refused"), (refusing.address, "password authentication failed")] {
        let url = format!("postgres://allocation:{}@{place}/allocation", canary("DATABASE_URL"));
        for arguments in [&["serve"][..], &["migrate"], &["keys", "list"], &["verify"]] {
            let said = world.hear_failure(&[("DATABASE_URL", &url)], arguments).await;
            assert!(said.contains(why), "{why}: {said}");
        }
    }
    refusing.was_told(&canary("DATABASE_URL")).await;
    world.heard.assert_silent();
}

#[tokio::test]
async fn the_list_of_settings_shows_no_secret() {
    let mut heard = Heard::default();
    let mut settings = Vec::new();
    for (name, _) in SETTINGS.iter().filter(|(_, holds)| *holds == Secret) {
        // As a URL, and as a text that may look like one.
        settings.push(vec![((*name), canary(name))]);
        settings.push(vec![((*name), format!("x://u:{0}@h/?k={0}#{0}", canary(name)))]);
        heard.keep(&canary(name));
    }
    for (name, scheme) in [
        ("REDIS_URL", "redis"),
        ("NATS_URL", "nats"),
        ("AMQP_URL", "amqp"),
        ("SMTP_URL", "smtp"),
        ("DATABASE_URL", "postgres"),
    ] {
        let secret = canary(name);
        settings.push(vec![(name, format!("{scheme}://u:{secret}@h:1/"))]);
        settings.push(vec![(name, format!("{scheme}://{secret}@h:1/"))]);
        settings.push(vec![(name, format!("{scheme}://h:1/?password={secret}#{secret}"))]);
        settings.push(vec![(name, format!("{scheme}://u:{secret}@a:1,b:2/"))]);
    }
    settings.push(vec![("DB_HOST", "db".into()), ("DB_PASSWORD", canary("DB_PASSWORD"))]);
    for settings in settings {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
        let output = command(Path::new(PROGRAM), &settings, &["config"]).output().await.unwrap();
        heard.hear(&format!("config with {settings:?}"), [output.stdout, output.stderr].concat());
    }
    heard.assert_silent();
}

#[tokio::test]
async fn no_command_takes_a_secret_as_an_argument() {
    for arguments in
        [&["--help"][..], &["keys", "create", "--help"], &["serve", "--help"], &["events", "replay", "--help"]]
    {
        let output = command(Path::new(PROGRAM), &[], arguments).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap().to_lowercase();
        for word in ["--password", "--secret", "--token", "--url"] {
            assert!(!text.contains(word), "{arguments:?}: {text}");
        }
    }
}
