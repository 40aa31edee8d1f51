//! TLS: rustls, with the cryptography of ring, for everything in the process that makes connections.

use std::error::Error;
use std::fmt::Write;

use reqwest::{Certificate, Client, ClientBuilder};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Says so to rustls. Whoever makes an HTTP client does it first; again is fine.
pub fn choose_ring() {
    // It fails when the choice was made before, and nothing here chooses otherwise.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a client of HTTP begins with.
pub(crate) fn http_client() -> Result<ClientBuilder, reqwest::Error> {
    choose_ring();
    // The machine may have no certificates, as slim containers do.
    let roots = TLS_SERVER_ROOT_CERTS.iter().map(|root| Certificate::from_der(root));
    let client = Client::builder().tls_certs_merge(roots.collect::<Result<Vec<_>, _>>()?);
    Ok(client.user_agent(concat!("allocation/", env!("CARGO_PKG_VERSION"))))
}

/// The error with its causes.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a `String` can't fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
