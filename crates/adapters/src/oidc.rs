//! The keys of an issuer of tokens, found as OpenID Connect Discovery has it.

use std::net::IpAddr;
use std::time::Duration;

use allocation_service_layer::access::TokenKeys;
use allocation_service_layer::ports::token_keys::{KeysUnavailable, TokenKeySource};
use async_trait::async_trait;
use reqwest::{Client, redirect};
use serde::Deserialize;
use url::{Host, Url};

use crate::tls::{self, describe};

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
    /// Asks this one.
    ///
    /// # Errors
    /// When the client can't be made.
    pub fn new(issuer: IssuerUrl) -> Result<Self, reqwest::Error> {
        // Where its keys are, the issuer says itself; nobody else may send us elsewhere.
        let client = tls::http_client()?.redirect(redirect::Policy::none()).timeout(PATIENCE).build()?;
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
        let set = self.get(keys.as_str()).await?;
        TokenKeys::read(&set).map_err(|error| unusable(keys.as_str(), &error))
    }
}

#[cfg(test)]
mod tests {
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
}
