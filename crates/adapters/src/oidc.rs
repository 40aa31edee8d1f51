//! The keys of an issuer of tokens, found as OIDC Discovery has it.

use std::net::IpAddr;
use std::time::Duration;

use allocation_service_layer::access::TokenKeys;
use allocation_service_layer::ports::token_keys::{KeysUnavailable, TokenKeySource};
use async_trait::async_trait;
use reqwest::{Client, redirect};
use serde::Deserialize;
use url::{Host, Url};

use crate::tls::{self, Trust, describe};

/// How long the issuer may take for each of its two documents.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of one.
const MOST: usize = 1024 * 1024;
/// Where it describes itself.
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// Who makes tokens: a URL, which is also how they name it, to the letter.
#[derive(Debug, Clone)]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// An issuer by its URL.
    ///
    /// # Errors
    /// When it is none. Its keys come over TLS; without it only from this machine.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let url = safe(text)?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err("must hold no user, no query and no fragment");
        }
        Ok(Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_without_tls(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| url.scheme() == "http")
    }

    fn configuration(&self) -> String {
        format!("{}{CONFIGURATION}", self.0.trim_end_matches('/'))
    }
}

/// A URL from where keys may be had.
fn safe(text: &str) -> Result<Url, &'static str> {
    let must = "must be a URL such as https://id.example.com/; http is for a loopback address only";
    let url = Url::parse(text).map_err(|_| must)?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && here) { Ok(url) } else { Err(must) }
}

/// Asks an issuer for its keys.
pub struct OidcKeys {
    client: Client,
    issuer: IssuerUrl,
}

/// What is wanted of an issuer's description of itself.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl OidcKeys {
    /// Asks this one, and believes who it is as everybody here does.
    ///
    /// # Errors
    /// When the client can't be made.
    pub fn new(issuer: IssuerUrl, trust: &Trust) -> Result<Self, reqwest::Error> {
        // Where its keys are, the issuer says itself; nobody else may send us elsewhere.
        let client = tls::http_client(trust)?.redirect(redirect::Policy::none()).timeout(PATIENCE);
        // Without TLS nobody may stand in between.
        let client = if issuer.is_without_tls() { client.no_proxy() } else { client }.build()?;
        Ok(Self { client, issuer })
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, KeysUnavailable> {
        let failed = |error: reqwest::Error| KeysUnavailable(describe(&error));
        let request = self.client.get(url).header(reqwest::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(KeysUnavailable(format!("{url} answers {status}")));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&piece);
            if body.len() > MOST {
                return Err(KeysUnavailable(format!("{url} answers more than {MOST} bytes")));
            }
        }
        Ok(body)
    }
}

#[async_trait]
impl TokenKeySource for OidcKeys {
    async fn token_keys(&self) -> Result<TokenKeys, KeysUnavailable> {
        let url = self.issuer.configuration();
        let unusable = |url: &str, why: &dyn std::fmt::Display| KeysUnavailable(format!("{url} is of no use: {why}"));
        let configuration: Configuration =
            serde_json::from_slice(&self.get(&url).await?).map_err(|error| unusable(&url, &error))?;
        if configuration.issuer != self.issuer.as_str() {
            return Err(unusable(&url, &format!("it is of another issuer, {:?}", configuration.issuer)));
        }
        let keys = safe(&configuration.jwks_uri).map_err(|why| unusable(&url, &format!("its `jwks_uri` {why}")))?;
        if keys.scheme() == "http" && !self.issuer.is_without_tls() {
            return Err(unusable(&url, &"its `jwks_uri` is without TLS"));
        }
        let set = self.get(keys.as_str()).await?;
        TokenKeys::read(&set).map_err(|error| unusable(keys.as_str(), &error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://id.example.com",
            "https://id.example.com/realms/a/",
            "http://localhost:1",
            "http://127.0.0.1:80/a",
            "http://[::1]/",
        ] {
            assert_eq!(IssuerUrl::new(good).unwrap().as_str(), good, "it is not written in another way");
        }
        for bad in [
            "",
            "id.example.com",
            "http://id.example.com",
            "http://10.0.0.1",
            "ftp://localhost",
            "https://a@b/",
            "https://a/?b",
            "https://a/#b",
        ] {
            assert!(IssuerUrl::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_issuer_describes_itself_below_its_url() {
        for (issuer, configuration) in [
            ("https://a", "https://a/.well-known/openid-configuration"),
            ("https://a/", "https://a/.well-known/openid-configuration"),
            ("https://a/b", "https://a/b/.well-known/openid-configuration"),
        ] {
            assert_eq!(IssuerUrl::new(issuer).unwrap().configuration(), configuration);
        }
    }

    /// Answers each request as `answer` says for its path, and counts the connections.
    async fn serve(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (here, connections) = (url.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = connections.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let mut stream = BufReader::new(stream);
                let (mut first, mut line) = (String::new(), String::new());
                stream.read_line(&mut first).await.unwrap();
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    line.clear();
                }
                let answer = answer(&here, first.split(' ').nth(1).unwrap());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (url, connections)
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    async fn ask(url: &str) -> Result<usize, String> {
        let source = OidcKeys::new(IssuerUrl::new(url).unwrap(), &Trust::default()).unwrap();
        source.token_keys().await.map(|keys| keys.len()).map_err(|error| error.0)
    }

    const KEYS: &str =
        r#"{"keys": [{"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB"}, {"kty": "oct", "kid": "2", "k": "AQAB"}]}"#;

    #[tokio::test]
    async fn keys_are_where_the_issuer_says() {
        let (url, _) = serve(|here, path| match path {
            "/realm/.well-known/openid-configuration" => {
                ok(&format!(r#"{{"issuer": "{here}/realm/", "jwks_uri": "{here}/keys?v=1", "more": []}}"#))
            }
            "/keys?v=1" => ok(KEYS),
            other => panic!("{other}"),
        })
        .await;
        assert_eq!(ask(&format!("{url}/realm/")).await, Ok(1));
        let refused = ask(&format!("{url}/realm")).await.unwrap_err();
        assert!(refused.contains("another issuer"), "{refused}");
    }

    #[tokio::test]
    async fn what_does_not_describe_the_issuer_is_of_no_use() {
        for (configuration, keys, why) in [
            ("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(), ok(KEYS), "404"),
            (ok("<html>"), ok(KEYS), "of no use"),
            (ok("{}"), ok(KEYS), "issuer"),
            (ok(r#"{"issuer": "HERE"}"#), ok(KEYS), "jwks_uri"),
            (ok(r#"{"issuer": "HERE", "jwks_uri": "http://192.0.2.1/"}"#), ok(KEYS), "loopback"),
            (ok(r#"{"issuer": "HERE", "jwks_uri": "file:///etc/passwd"}"#), ok(KEYS), "loopback"),
            (ok(r#"{"issuer": "HERE", "jwks_uri": "HERE/keys"}"#), ok("{}"), "keys"),
            (ok(r#"{"issuer": "HERE", "jwks_uri": "HERE/keys"}"#), ok(&" ".repeat(MOST + 1)), "bytes"),
            (ok(r#"{"issuer": "HERE", "jwks_uri": "HERE/keys"}"#), "HTTP/1.1 200 OK\r\n".to_owned(), "error"),
        ] {
            let told = configuration.clone();
            let (url, _) = serve(move |here, path| match path {
                "/.well-known/openid-configuration" => {
                    let (_, body) = configuration.split_once("\r\n\r\n").unwrap();
                    if configuration.contains("200 OK") {
                        ok(&body.replace("HERE", here))
                    } else {
                        configuration.clone()
                    }
                }
                _ => keys.clone(),
            })
            .await;
            let refused = ask(&url).await.unwrap_err();
            assert!(refused.contains(why), "{told}: {refused}");
        }
    }

    #[tokio::test]
    async fn nobody_is_followed_elsewhere() {
        let (elsewhere, connections) = serve(|_, _| ok(KEYS)).await;
        let moved =
            format!("HTTP/1.1 302 Found\r\nLocation: {elsewhere}/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let (url, _) = serve(move |_, _| moved.clone()).await;
        let refused = ask(&url).await.unwrap_err();
        assert!(refused.contains("302"), "{refused}");
        assert_eq!(connections.load(Ordering::SeqCst), 0);
    }
}
