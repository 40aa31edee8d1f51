//! Webhooks over HTTP. Whoever registers a URL has us connect there, so it is a way into networks that only we can reach; unless it is meant
//! to be one, connections are made to public addresses only.

mod address;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use allocation_service_layer::ports::event_publisher::DeliveryError;
use allocation_service_layer::ports::webhooks::{Answer, SignedPost, WebhookSender};
use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, redirect};
use url::{Host, Url};

use crate::tls::{self, Trust, describe};
use address::is_public;

/// The longest URL.
const LONGEST_URL: usize = 2_048;
/// How much of an answer is read, so that the connection can be used again; nobody looks at it.
const MOST_READ: usize = 64 * 1024;

/// Where requests may go.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    http: bool,
    may_connect: fn(IpAddr) -> bool,
}

impl Reach {
    /// To public addresses, with TLS.
    pub const PUBLIC: Self = Self { http: false, may_connect: is_public };
    /// Anywhere, and without TLS too.
    pub const PRIVATE: Self = Self { http: true, may_connect: |_| true };

    fn admit(self, text: &str) -> Result<Url, String> {
        let scheme = if self.http { "http or https" } else { "https" };
        if text.len() > LONGEST_URL {
            return Err(format!("must have {LONGEST_URL} bytes at most"));
        }
        let mut url = Url::parse(text).map_err(|error| format!("must be a URL: {error}"))?;
        if url.scheme() != "https" && !(self.http && url.scheme() == "http") {
            return Err(format!("must be a URL of {scheme}"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must hold no user and no password".into());
        }
        // The parser has made an address of whatever is read as one, such as 0x7f.1 or １２７.０.０.１.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err("must name a host".into()),
        };
        if literal.is_some_and(|address| !(self.may_connect)(address)) {
            return Err("must name a host with a public address".into());
        }
        url.set_fragment(None);
        Ok(url)
    }
}

/// Finds the addresses of a name.
#[async_trait]
trait Lookup: Send + Sync + 'static {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the machine does.
struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect())
    }
}

/// Gives the addresses of a name only if every one may be connected to. The connection is made to just these, without asking again.
struct Guard {
    lookup: Arc<dyn Lookup>,
    reach: Reach,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, reach) = (self.lookup.clone(), self.reach);
        Box::pin(async move {
            let found = lookup.addresses(name.as_str()).await?;
            // A name with one address inside is not meant for the public, whatever its others are.
            if found.iter().any(|address| !(reach.may_connect)(*address)) {
                return Err("the host has an address that is not public".into());
            }
            let found = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(found) as Addrs)
        })
    }
}

/// Sends requests to webhooks.
#[derive(Clone)]
pub struct HttpWebhooks {
    client: Client,
    reach: Reach,
}

impl HttpWebhooks {
    /// Sends to where `reach` allows; an answer that takes longer than `patience` is none.
    ///
    /// # Errors
    /// When the client can't be made.
    pub fn new(reach: Reach, patience: Duration, trust: &Trust) -> Result<Self, reqwest::Error> {
        Self::with_lookup(reach, patience, trust, Arc::new(SystemLookup))
    }

    fn with_lookup(
        reach: Reach,
        patience: Duration,
        trust: &Trust,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, reqwest::Error> {
        let client = tls::http_client(trust)?
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Guard { lookup, reach }))
            .timeout(patience)
            .build()?;
        Ok(Self { client, reach })
    }
}

#[async_trait]
impl WebhookSender for HttpWebhooks {
    fn admit(&self, url: &str) -> Result<String, String> {
        self.reach.admit(url).map(String::from)
    }

    async fn send(&self, post: &SignedPost) -> Result<Answer, DeliveryError> {
        // Names are looked at when they are resolved, addresses never are.
        let url = self.reach.admit(&post.url).map_err(DeliveryError)?;
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/cloudevents+json")
            .header("webhook-id", &post.id)
            .header("webhook-timestamp", post.timestamp)
            .header("webhook-signature", &post.signature)
            .body(post.body.clone());
        if let Some(traceparent) = &post.traceparent {
            request = request.header("traceparent", &**traceparent);
        }
        let response = request.send().await.map_err(|error| DeliveryError(describe(&error.without_url())))?;
        let answer = Answer { status: response.status().as_u16(), retry_after: retry_after(&response) };
        read_some(response).await;
        Ok(answer)
    }
}

/// `Retry-After` in seconds; a date is left to our own pauses.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Reads a short answer to its end. The connection of a longer one is closed.
async fn read_some(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(piece)) = response.chunk().await {
        read += piece.len();
        if read > MOST_READ {
            break;
        }
    }
}
