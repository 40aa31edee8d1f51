//! The web API over TLS: by both versions of HTTP, with a certificate that is replaced while it serves, within the limits of every connection; and what browsers are told.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use allocation_adapters::tls::Trust;
use allocation_adapters::webhook::{HttpWebhooks, Reach};
use allocation_service_layer::ports::webhooks::{SignedPost, WebhookSender};
use allocation_testing::certificates::{Authority, Pair};
use allocation_testing::eventually;
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Client, Method};
use rustls::pki_types::ServerName;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::raw::Raw;
use crate::support::{On, Service, Store, client};

/// A service that speaks TLS, and who has certified it.
struct World {
    authority: Authority,
    file: PathBuf,
    folder: TempDir,
    service: Service,
    _store: Store,
}

impl World {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("authority"));
        let files = authority.certify(&["localhost"]).write(folder.path());
        let file = authority.write(folder.path());
        let mut store = Store::new(On::Sqlite).await;
        let (chain, key) = (files.chain.display().to_string(), files.key.display().to_string());
        for (name, value) in [("TLS_CERT_FILE", &*chain), ("TLS_KEY_FILE", &*key)].iter().chain(settings) {
            store = store.with(name, value);
        }
        let service = store.serve().await;
        Self { authority, file, folder, service, _store: store }
    }

    /// A connection on which TLS is spoken, and one of these protocols.
    async fn connect(&self, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = Trust::with_file(&self.file).unwrap().client();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.service.program.address()).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// Asks over HTTP/1.1: all of the answer.
    async fn ask(&self, path: &str) -> String {
        let mut stream = self.connect(&["http/1.1"]).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A counter.
    async fn metric(&self, name: &str) -> u64 {
        let text = self.ask("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// The certificate that is shown now.
    async fn shown(&self) -> Vec<u8> {
        let stream = self.connect(&["h2"]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_with_both_versions_of_http_and_nothing_without() {
    let world = World::new(&[]).await;
    let protocol = |stream: &TlsStream<TcpStream>| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let both = world.connect(&["h2", "http/1.1"]).await.unwrap();
    assert_eq!(protocol(&both).as_deref(), Some(&b"h2"[..]));
    let (client, connection) = h2::client::handshake(both).await.unwrap();
    tokio::spawn(connection);
    let request = axum::http::Request::get("https://localhost/healthz").body(()).unwrap();
    let answer = client.ready().await.unwrap().send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, axum::http::Version::HTTP_2));

    assert_eq!(protocol(&world.connect(&["http/1.1"]).await.unwrap()).as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(protocol(&world.connect(&[]).await.unwrap()), None);
    let answer = world.ask("/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("OK"), "{answer}");
    assert!(answer.contains("\r\nstrict-transport-security: max-age="), "{answer}");

    let mut plain = Raw::to(world.service.program.address()).await;
    let told = plain.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.told().await;
    assert!(!told.contains("HTTP"), "{told}");

    let without = World::new(&[("HTTP2", "off")]).await;
    assert_eq!(protocol(&without.connect(&["h2", "http/1.1"]).await.unwrap()).as_deref(), Some(&b"http/1.1"[..]));
    assert!(without.connect(&["h2"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_while_it_serves() {
    let world = World::new(&[("HEAD_SECONDS", "300")]).await;
    let (first, mut open) = (world.shown().await, world.connect(&["http/1.1"]).await.unwrap());
    // A key that is none of the certificate's, and then no key at all.
    let strange = world.authority.certify(&["localhost"]);
    let next = world.authority.certify(&["localhost"]);
    for (broken, why) in [
        (Pair { chain: next.chain.clone(), key: strange.key.clone() }, "can't be used"),
        (Pair { chain: next.chain.clone(), key: "no key".into() }, "key.pem"),
    ] {
        broken.write(world.folder.path());
        eventually("it to be told", async || {
            let log = world.service.program.log();
            log.lines().any(|line| line.contains("the certificate stays as it was") && line.contains(why)).then_some(())
        })
        .await;
        assert_eq!(world.shown().await, first);
    }
    next.write(world.folder.path());
    eventually("the new one to be shown", async || (world.shown().await != first).then_some(())).await;
    assert!(world.ask("/healthz").await.ends_with("OK"));
    let told = world.service.program.log().matches("the certificate stays as it was").count();
    assert_eq!(told, 2, "once for each");
    // A connection that was there has noticed nothing.
    open.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("OK"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_does_not_fit_begins_nothing() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("authority"));
    let (one, other) = (authority.certify(&["localhost"]), authority.certify(&["localhost"]));
    let files = Pair { chain: one.chain, key: other.key }.write(folder.path());
    let with = async |chain: &Path, key: &Path| {
        let (chain, key) = (chain.display().to_string(), key.display().to_string());
        let store = Store::new(On::Sqlite).await.with("TLS_CERT_FILE", &chain).with("TLS_KEY_FILE", &key);
        let output = store.with("LISTEN", "127.0.0.1:0").run(&["serve"]).await;
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = with(&files.chain, &files.key).await;
    assert!(said.contains("TLS_CERT_FILE: certificate and key can't be used"), "{said}");
    let said = with(&files.chain, &folder.path().join("none")).await;
    assert!(said.contains("none can't be read"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_to_speak_tls_is_let_go() {
    let world = World::new(&[("HEAD_SECONDS", "1")]).await;
    let to = world.service.program.address();
    let silent = async { Raw::to(to).await.until_closed().await };
    // A greeting of 512 bytes, of which each byte takes its time.
    let slow = async { Raw::to(to).await.trickle([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc], 3).await };
    // Shakes hands, and then says nothing.
    let dumb = async {
        let mut stream = world.connect(&["http/1.1"]).await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        said
    };
    let (silent, slow, dumb) = tokio::join!(silent, slow, dumb);
    assert!(silent.is_empty() && slow.is_empty() && dumb.is_empty(), "{silent:?} {slow:?} {dumb:?}");
    assert_eq!(world.metric("allocation_limit_hits_total{limit=\"head_seconds\"}").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_to_speak_tls_keeps_nothing_from_its_end() {
    let world = World::new(&[("HEAD_SECONDS", "300")]).await;
    let mut silent = Raw::to(world.service.program.address()).await;
    let taken = async || (world.metric("allocation_connections").await > 1).then_some(());
    eventually("it to be taken", taken).await;
    world.service.program.signal("TERM").await;
    assert!(silent.until_closed().await.is_empty());
    let ended = world.service.program.ended().await;
    assert!(ended.status.success() && !ended.log.contains("did not end in time"), "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_are_told_to_take_an_answer_for_nothing_else() {
    let store = Store::new(On::Sqlite).await;
    let service = store.serve().await;
    let header = |headers: &HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    for (path, status) in [("/v1/products/LAMP", 200), ("/v1/products/NONE", 404), ("/nothing", 404), ("/healthz", 200)]
    {
        let headers = service.get(path).await.expect(status).headers;
        assert_eq!(header(&headers, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&headers, "referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header(&headers, "cache-control"), "no-store", "{path}");
        assert_eq!(header(&headers, "content-security-policy"), "default-src 'none'; frame-ancestors 'none'", "{path}");
        assert!(!headers.contains_key("strict-transport-security"), "nothing is promised that is not so");
        assert!(!headers.contains_key("access-control-allow-origin"), "{path}");
    }
    // The pages have what they need: scripts of their own, and no other.
    let page = service.client.get(service.program.url("/docs/")).send().await.unwrap();
    let policy = header(page.headers(), "content-security-policy");
    assert!(policy.starts_with("default-src 'self'; style-src 'self' 'unsafe-inline'"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*page.bytes().await.unwrap()).read_to_string(&mut text).unwrap();
    assert!(text.contains("<script src=") && !text.contains("<script>"), "{text}");
    assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_others_read_nothing_unless_they_are_named() {
    const SHOP: &str = "https://shop.example";
    let store = Store::new(On::Sqlite).await.with("CORS_ORIGINS", "https://shop.example, http://localhost:3000");
    let (service, closed) = (store.with("ACCESS", "keys").serve().await, Store::new(On::Sqlite).await);
    let closed = closed.serve().await;
    let ask = async |service: &Service, method: Method, origin: &str| {
        let request = service.client.request(method, service.program.url("/v1/orders/o")).header("origin", origin);
        let request = request.header("access-control-request-method", "PUT");
        Service::answer(request.header("access-control-request-headers", "authorization,content-type")).await
    };
    let allowed = |headers: &HeaderMap| headers.get("access-control-allow-origin").cloned();
    let may = ask(&service, Method::OPTIONS, SHOP).await.expect(200).headers;
    assert_eq!(allowed(&may).unwrap(), SHOP);
    assert!(may["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
    assert!(may["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert!(!may.contains_key("access-control-allow-credentials"));
    // Who has no key is refused, and may read why.
    assert_eq!(allowed(&ask(&service, Method::GET, SHOP).await.expect(401).headers).unwrap(), SHOP);
    for origin in ["https://other.example", "http://shop.example", "https://shop.example:444", "null"] {
        assert_eq!(allowed(&ask(&service, Method::OPTIONS, origin).await.headers), None, "{origin}");
        assert_eq!(allowed(&ask(&service, Method::GET, origin).await.headers), None, "{origin}");
    }
    for method in [Method::OPTIONS, Method::GET] {
        assert_eq!(allowed(&ask(&closed, method, SHOP).await.headers), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_sent_to_whom_an_authority_of_ours_has_certified() {
    let world = World::new(&[]).await;
    let post = SignedPost {
        url: format!("https://localhost:{}/hook", world.service.program.address().port()),
        id: "1".into(),
        timestamp: 1,
        signature: "v1,".into(),
        traceparent: None,
        body: "{}".into(),
    };
    let send = async |trust: Trust| {
        let webhooks = HttpWebhooks::new(Reach::PRIVATE, Duration::from_mins(1), &trust).unwrap();
        webhooks.send(&post).await.map(|answer| answer.status)
    };
    assert_eq!(send(Trust::with_file(&world.file).unwrap()).await.unwrap(), 404);
    let refused = send(Trust::default()).await.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_that_knows_the_authority_is_served() {
    let world = World::new(&[]).await;
    drop(client());
    let authority = Certificate::from_pem(&std::fs::read(&world.file).unwrap()).unwrap();
    let knows = Client::builder().tls_certs_only([authority]).build().unwrap();
    let url = format!("https://localhost:{}/v1/products/LAMP/batches/b", world.service.program.address().port());
    let answer = knows.put(&url).json(&json!({"qty": 1})).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert!(Client::new().get(&url).send().await.is_err());
}
