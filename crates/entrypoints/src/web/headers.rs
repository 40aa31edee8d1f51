//! What browsers are told with every answer, and whose pages may read one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_MATCH, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// For how long a browser asks for nothing without TLS here.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// An answer of the API is data, whatever a browser may take it for.
const DATA_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// The pages of the documentation have scripts, styles and pictures of their own, and ask the API.
const PAGES_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);
/// Where those pages are.
const PAGES: &str = "/docs";
/// For how long a browser may remember what another page may ask.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Where the API stands.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Whether it is spoken with over TLS, by the connection itself.
    pub tls: bool,
    /// Whose pages may read its answers, beside its own.
    pub origins: Vec<Origin>,
}

/// Where a page is from: scheme, host and port, as a browser says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoOrigin;

impl fmt::Display for NoOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be like https://host or http://host:port, in small letters and with nothing behind")
    }
}

impl std::error::Error for NoOrigin {}

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let uri: Uri = text.parse().map_err(|_| NoOrigin)?;
        let (scheme, authority) = (uri.scheme_str().ok_or(NoOrigin)?, uri.authority().ok_or(NoOrigin)?);
        // Browsers say it in this one form; in any other it would match nothing.
        let usual = matches!((scheme, authority.port_u16()), ("http", Some(80)) | ("https", Some(443)));
        let said = format!("{scheme}://{authority}").to_ascii_lowercase();
        if !matches!(scheme, "http" | "https") || authority.as_str().contains(['@', '*']) || usual || said != text {
            return Err(NoOrigin);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| NoOrigin)
    }
}

impl Surroundings {
    /// Lets the pages of the origins ask; none when there are none.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let origins = self.origins.iter().map(|origin| origin.0.clone());
        let name = HeaderName::from_static;
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([
                AUTHORIZATION,
                CONTENT_TYPE,
                IF_MATCH,
                name("idempotency-key"),
                name("last-event-id"),
                name("traceparent"),
                name("x-request-id"),
            ])
            .expose_headers([ETAG, RETRY_AFTER, name("x-request-id")])
            .max_age(REMEMBERED);
        Some(layer)
    }

    /// Adds to an answer what a browser is to know.
    pub(super) fn tell(&self, is_page: bool, headers: &mut HeaderMap) {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if is_page {
            headers.insert(CONTENT_SECURITY_POLICY, PAGES_POLICY);
        } else {
            headers.insert(CONTENT_SECURITY_POLICY, DATA_POLICY);
            // What is in stock now says nothing of later, and is not for whoever uses the browser next.
            headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        }
        if self.tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
        }
    }
}

/// Whether what is asked for is one of the pages of the documentation.
pub(super) fn is_page(path: &str) -> bool {
    path.strip_prefix(PAGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_as_browsers_say_it() {
        for good in ["https://shop.example", "http://localhost:3000", "https://[::1]:8443"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "*",
            "null",
            "shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://user@shop.example",
            "ftp://shop.example",
            "https://*.example",
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(NoOrigin), "{bad}");
        }
    }

    #[test]
    fn pages_are_what_lies_below_their_path() {
        assert!(is_page("/docs") && is_page("/docs/") && is_page("/docs/swagger-ui.css"));
        assert!(!is_page("/docsx") && !is_page("/v1/products") && !is_page("/"));
    }
}
