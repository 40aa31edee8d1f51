//! Who may use the API: every route, with every credential that must not do.

use std::path::Path;
use std::time::Duration;

use allocation_adapters::system::SystemEntropy;
use allocation_service_layer::access::{KeyText, Scope};
use allocation_testing::eventually;
use allocation_testing::program::{Program, command};
use allocation_testing::tokens::{SigningKey, unsigned, with_secret};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::issuer::{Issuer, in_an_hour};
use crate::support::{On, PROGRAM, Service, Store, client, on_both_stores};

on_both_stores!(
    a_key_is_shown_once_listed_replaced_and_revoked,
    what_a_key_has_done_is_told_by_its_name,
    a_stream_ends_when_its_readers_key_is_revoked,
);

/// What each route needs. A route that is not here, or needs something else, fails the test.
const NEEDS: &[(&str, &str)] = &[
    ("GET /allocations/{orderid}", "orders:read"),
    ("GET /healthz", ""),
    ("GET /metrics", "events:read"),
    ("GET /readyz", ""),
    ("GET /v1/availability/{sku}", "stock:read"),
    ("GET /v1/backlog", "stock:read"),
    ("GET /v1/events", "events:read"),
    ("GET /v1/events/stream", "events:read"),
    ("GET /v1/orders/{order_id}", "orders:read"),
    ("GET /v1/products", "stock:read"),
    ("GET /v1/products/{sku}", "stock:read"),
    ("GET /v1/products/{sku}/batches/{ref}/movements", "stock:read"),
    ("GET /v1/products/{sku}/batches/{ref}/recipients", "orders:read"),
    ("GET /v1/products/{sku}/lines", "orders:read"),
    ("GET /v1/products/{sku}/movements", "stock:read"),
    ("GET /v1/products/{sku}/queue", "orders:read"),
    ("GET /v1/webhooks", "admin"),
    ("GET /v1/webhooks/{id}", "admin"),
    ("DELETE /v1/orders/{order_id}", "orders:write"),
    ("DELETE /v1/orders/{order_id}/lines/{sku}", "orders:write"),
    ("DELETE /v1/products/{sku}/batches/{ref}", "stock:write"),
    ("DELETE /v1/webhooks/{id}", "admin"),
    ("PATCH /v1/orders/{order_id}/lines/{sku}", "orders:write"),
    ("PATCH /v1/webhooks/{id}", "admin"),
    ("POST /add_batch", "stock:write"),
    ("POST /allocate", "orders:write"),
    ("POST /v1/orders/{order_id}/confirm", "orders:write"),
    ("POST /v1/orders/{order_id}/extend", "orders:write"),
    ("POST /v1/orders/{order_id}/pick", "orders:write"),
    ("POST /v1/orders/{order_id}/returns", "orders:write"),
    ("POST /v1/orders/{order_id}/shipments", "orders:write"),
    ("POST /v1/orders/{order_id}/unpick", "orders:write"),
    ("POST /v1/products/{sku}/batches/{ref}/adjustments", "stock:write"),
    ("POST /v1/products/{sku}/batches/{ref}/quarantine", "stock:write"),
    ("POST /v1/products/{sku}/batches/{ref}/receipts", "stock:write"),
    ("POST /v1/products/{sku}/batches/{ref}/release", "stock:write"),
    ("POST /v1/products/{sku}/improve", "stock:write"),
    ("POST /v1/quotes", "stock:read"),
    ("POST /v1/transfers", "stock:write"),
    ("POST /v1/webhooks", "admin"),
    ("POST /v1/webhooks/{id}/test", "admin"),
    ("PUT /v1/orders/{order_id}", "orders:write"),
    ("PUT /v1/products/{sku}", "stock:write"),
    ("PUT /v1/products/{sku}/batches/{ref}", "stock:write"),
];

impl Store {
    /// Makes a key, or another in its place.
    async fn key(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["keys"], arguments].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let key = String::from_utf8(output.stdout).unwrap();
        key.strip_suffix('\n').expect("a line").to_owned()
    }

    pub(crate) async fn key_for(&self, name: &str, scopes: &str) -> String {
        self.key(&["create", "--name", name, "--scope", scopes]).await
    }

    /// Revokes keys. `false`: there were none.
    async fn revoke(&self, named: &str) -> bool {
        self.run(&["keys", "revoke", named]).await.status.success()
    }

    /// All keys, a line for each.
    async fn keys(&self) -> Vec<String> {
        let output = self.run(&["keys", "list"]).await;
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Service {
    /// Sends a request with this in `Authorization`, or without it.
    async fn request(&self, method: &str, path: &str, authorization: Option<&str>) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, self.program.url(path));
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        request.send().await.unwrap()
    }

    /// The status of a question that needs `stock:read`.
    async fn status(&self, key: &str) -> StatusCode {
        self.request("GET", "/v1/products", Some(&format!("Bearer {key}"))).await.status()
    }

    /// Sends a body with a key.
    async fn put_with(&self, key: &str, path: &str, body: &Value) {
        let request = self.client.put(self.program.url(path)).bearer_auth(key).json(body);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
    }
}

/// Each route of the document as `METHOD /path`, with the scope that it needs; empty: none.
fn routes(document: &Value) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let route = format!("{} {path}", method.to_uppercase());
            let needs = match operation["security"].as_array().map(Vec::as_slice) {
                Some([]) => "",
                Some([key, token]) if key["api_key"] == token["token"] => key["api_key"][0].as_str().unwrap(),
                _ => panic!("{route} does not say what it needs"),
            };
            let told = ["401", "403"].map(|status| operation["responses"].get(status).is_some());
            assert_eq!(told, [!needs.is_empty(); 2], "{route} says how it refuses");
            routes.push((route, needs.to_owned()));
        }
    }
    routes.sort();
    routes
}

/// Fails the test unless it was refused in this way.
async fn refused(response: Response, status: u16, name: &str, case: &str) {
    assert_eq!(response.status().as_u16(), status, "{case}");
    let (headers, problem) = (response.headers().clone(), response.json::<Value>().await.unwrap());
    assert_eq!(headers["content-type"], "application/problem+json", "{case}");
    let challenge = headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with(r#"Bearer realm="allocation""#), "{case}: {challenge}");
    assert_eq!(problem["type"], format!("urn:allocation:problem:{name}"), "{case}: {problem}");
}

/// Tokens that must not do, though they say that all is allowed, each with what is wrong with it; `key` is the issuer's.
fn bad_tokens(issuer: &Issuer, key: &SigningKey) -> Vec<(String, String)> {
    let mut claims = issuer.claims("mallory", &Scope::ALL.map(Scope::name).join(" "));
    let good = key.token(&claims);
    let header = |algorithm: &str| json!({"alg": algorithm, "typ": "JWT", "kid": key.id});
    let [der, pem] = key.public_files();
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let (_, admin) = unsigned(&header("RS256"), &issuer.claims("admin", "admin"))
        .split_once('.')
        .map(|(head, rest)| (head.to_owned(), rest.to_owned()))
        .unwrap();
    let mut tokens = vec![
        ("no signature (none)", unsigned(&header("none"), &claims)),
        ("no signature (RS256)", unsigned(&header("RS256"), &claims)),
        ("the public key (DER) as a secret", with_secret(&der, &header("HS256"), &claims)),
        ("the public key (PEM) as a secret", with_secret(&pem, &header("HS256"), &claims)),
        ("another's key of the same name", SigningKey::rsa(&key.id, 1).token(&claims)),
        ("another's key", SigningKey::p256("other").token(&claims)),
        ("another algorithm of the same key", key.token_with(&header("PS256"), &claims)),
        ("other claims with a good signature", format!("{head}.{admin}{signature}")),
        ("a garbled head", format!("x{good}")),
        ("a garbled signature", format!("{}AAAA", &good[..good.len() - 4])),
        ("the end cut off", good[..good.len() - 8].to_owned()),
        ("three parts of nothing", "a.b.c".to_owned()),
    ];
    for (what, name, value) in [
        ("its time over", "exp", json!(1_300_000_000)),
        ("no end", "exp", Value::Null),
        ("its time to come", "nbf", json!(in_an_hour())),
        ("another audience", "aud", json!("another")),
        ("no audience", "aud", Value::Null),
        ("another issuer", "iss", json!("https://id.example.com")),
        ("no subject", "sub", Value::Null),
    ] {
        let before = claims.as_object_mut().unwrap().insert(name.to_owned(), value);
        tokens.push((what, key.token(&claims)));
        match before {
            Some(before) => claims[name] = before,
            None => drop(claims.as_object_mut().unwrap().remove(name)),
        }
    }
    assert_eq!(key.token(&claims), good, "nothing else is wrong with them");
    tokens.into_iter().map(|(what, token)| (format!("a token with {what}"), format!("Bearer {token}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_denies_whoever_may_not_use_it() {
    let key = SigningKey::rsa("one", 0);
    let issuer = Issuer::start(&[&key]).await;
    let store = Store::new(On::Sqlite).await.with("ACCESS", "keys").trusting(&issuer);
    let (mut only, mut others) = (Vec::new(), Vec::new());
    let (mut only_tokens, mut others_tokens) = (Vec::new(), Vec::new());
    for scope in Scope::ALL {
        let name = scope.name().replace(':', "-");
        only.push(store.key_for(&name, scope.name()).await);
        let all_others: Vec<_> = Scope::ALL.into_iter().filter(|other| *other != scope).map(Scope::name).collect();
        others.push(store.key_for(&format!("not-{name}"), &all_others.join(",")).await);
        only_tokens.push(key.token(&issuer.claims(&name, scope.name())));
        others_tokens.push(key.token(&issuer.claims(&name, &all_others.join(" "))));
    }
    let all = Scope::ALL.map(Scope::name).join(",");
    let expired = store.key_for("expired", &all).await;
    store.key(&["rotate", "expired", "--overlap", "0"]).await;
    let revoked = store.key_for("revoked", &all).await;
    assert!(store.revoke("revoked").await);
    let good = &only[0];
    let bad_checksum = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let unknown = KeyText::new(&SystemEntropy).reveal().to_owned();
    let bearer = |key: &str| format!("Bearer {key}");
    let mut invalid = [
        ("no scheme", good.clone()),
        ("another scheme", format!("Basic {good}")),
        ("an empty credential", bearer("")),
        ("a garbled one", bearer("abc")),
        ("one cut off", bearer(&good[..40])),
        ("a bad checksum", bearer(&bad_checksum)),
        ("one that is unknown", bearer(&unknown)),
        ("one that has expired", bearer(&expired)),
        ("one that was revoked", bearer(&revoked)),
    ]
    .map(|(what, authorization)| (what.to_owned(), authorization))
    .to_vec();
    invalid.extend(bad_tokens(&issuer, &key));

    let service = store.serve().await;
    let routes = routes(&service.get("/openapi.json").await.expect(200).json());
    let mut known: Vec<_> = NEEDS.iter().map(|(route, needs)| ((*route).to_owned(), (*needs).to_owned())).collect();
    known.sort();
    assert_eq!(routes, known);
    for (route, needs) in &routes {
        let (method, path) = route.split_once(' ').unwrap();
        let path = path.replace(['{', '}'], "");
        let ask = async |authorization: Option<&str>| service.request(method, &path, authorization).await;
        let Some(scope) = Scope::ALL.iter().position(|scope| scope.name() == needs) else {
            assert_eq!(ask(None).await.status().as_u16(), 200, "{route}");
            continue;
        };
        refused(ask(None).await, 401, "credential-missing", route).await;
        for (what, authorization) in &invalid {
            refused(ask(Some(authorization)).await, 401, "credential-invalid", &format!("{route} with {what}")).await;
        }
        for others in [&others, &others_tokens] {
            refused(ask(Some(&bearer(&others[scope]))).await, 403, "scope-missing", route).await;
        }
        for only in [&only, &only_tokens] {
            let admitted = ask(Some(&bearer(&only[scope]))).await.status().as_u16();
            assert!(![401, 403].contains(&admitted) && admitted < 500, "{route}: {admitted}");
        }
    }
}

#[tokio::test]
async fn a_body_is_not_read_before_its_sender_is_known() {
    let store = Store::new(On::Sqlite).await.with("ACCESS", "keys");
    let service = store.serve().await;
    for path in ["/v1/quotes", "/add_batch"] {
        let mut connection = TcpStream::connect(service.program.address()).await.unwrap();
        let json = "Content-Type: application/json\r\nContent-Length: 100000";
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{json}\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut begin = [0; 13];
        let answer = tokio::time::timeout(Duration::from_secs(20), connection.read_exact(&mut begin)).await;
        answer.expect("an answer, though the body never comes").unwrap();
        assert_eq!(std::str::from_utf8(&begin), Ok("HTTP/1.1 401 "));
    }
    assert!(service.program.log().contains("no API key is in force"));
    for open in ["/docs/", "/openapi.json"] {
        service.get(open).await.expect(200);
    }
}

async fn a_key_is_shown_once_listed_replaced_and_revoked(on: On) {
    let store = Store::new(on).await.with("ACCESS", "keys");
    let key = store.key_for("shop", "stock:read").await;
    let again = store.run(&["keys", "create", "--name", "shop", "--scope", "admin"]).await;
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("keys rotate shop"));
    for [name, scope, expires] in [["x", "stock", "1"], ["a b", "admin", "1"], ["x", "admin", "2011-01-01T00:00:00Z"]] {
        let refused = store.run(&["keys", "create", "--name", name, "--scope", scope, "--expires", expires]).await;
        assert_eq!(refused.status.code(), Some(2), "{name} {scope} {expires}");
    }

    let service = store.serve().await;
    assert_eq!(service.status(&key).await, 200);
    let replacement = store.key(&["rotate", "shop", "--overlap", "1", "--expires", "30"]).await;
    assert_eq!((service.status(&key).await, service.status(&replacement).await), (StatusCode::OK, StatusCode::OK));
    assert_eq!(service.program.stop().await, Some(0), "when keys were used last is noted at the end");

    let listed = store.keys().await;
    let [first, second] = &listed[..] else { panic!("{listed:?}") };
    for (line, text) in [(first, &key), (second, &replacement)] {
        let id = KeyText::parse(text).unwrap().digest().id();
        assert!(line.starts_with(&format!("{id}  shop  in force  stock:read  made 2")), "{line}");
        assert!(!line.contains("never"), "{line}");
        assert!(!line.contains(&text[11..20]), "{line}");
    }

    let service = store.serve().await;
    assert_eq!(service.status(&key).await, 200);
    assert!(store.revoke(&KeyText::parse(&key).unwrap().digest().id()).await);
    eventually("the key to be of no use", async || (service.status(&key).await == 401).then_some(())).await;
    assert_eq!(service.status(&replacement).await, 200);
    assert!(store.revoke("shop").await);
    assert!(!store.revoke("shop").await && !store.revoke("nobody").await);
    eventually("the other one, too", async || (service.status(&replacement).await == 401).then_some(())).await;
    assert!(store.keys().await.iter().all(|line| line.contains("  revoked  ")));
}

async fn what_a_key_has_done_is_told_by_its_name(on: On) {
    let store = Store::new(on).await.with("ACCESS", "keys");
    let key = store.key_for("Shop-1.eu", "stock:write,events:read").await;
    let service = store.serve().await;
    service.put_with(&key, "/v1/products/LAMP/batches/b", &json!({"qty": 10})).await;
    let event = eventually("the event", async || {
        let page: Value =
            service.request("GET", "/v1/events", Some(&format!("Bearer {key}"))).await.json().await.unwrap();
        page["events"].get(0).cloned()
    })
    .await;
    assert_eq!(event["event"]["actor"], "key:Shop-1.eu");
}

async fn a_stream_ends_when_its_readers_key_is_revoked(on: On) {
    let store = Store::new(on).await.with("ACCESS", "keys");
    let key = store.key_for("shop", "stock:write").await;
    let reader = store.key_for("reader", "events:read").await;
    let service = store.serve().await;
    let mut stream = service.request("GET", "/v1/events/stream", Some(&format!("Bearer {reader}"))).await;
    assert_eq!(stream.status(), 200);
    service.put_with(&key, "/v1/products/LAMP/batches/b", &json!({"qty": 10})).await;
    assert!(stream.chunk().await.unwrap().is_some(), "while it may, it reads");
    assert!(store.revoke("reader").await);
    let mut qty = 10;
    eventually("the end of the stream", async || {
        qty += 1;
        service.put_with(&key, "/v1/products/LAMP/batches/b", &json!({ "qty": qty })).await;
        let piece = tokio::time::timeout(Duration::from_secs(1), stream.chunk()).await;
        matches!(piece, Ok(Ok(None))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_that_others_reach_is_served_only_if_it_was_said_to_whom() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |variables: &[(&str, &str)]| {
        let mut serve = command(Path::new(PROGRAM), variables, &["serve"]);
        serve.current_dir(folder.path());
        serve
    };
    for address in ["0.0.0.0:0", "[::]:0"] {
        let output = serve(&[("LISTEN", address)]).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let help = ["ACCESS", address, "`keys`", "`open`", "allocation keys create"];
        assert!(help.iter().all(|part| said.contains(part)), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was begun");

    let here = |program: &Program| format!("http://127.0.0.1:{}/v1/products", program.address().port());
    for (access, status) in [("open", 200), ("keys", 401)] {
        let program = Program::spawn(&mut serve(&[("LISTEN", "0.0.0.0:0"), ("ACCESS", access)])).await;
        let answer = client().get(here(&program)).header("Authorization", "Bearer abc").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "ACCESS={access}");
    }
}
