//! TLS of all connections that the process makes: rustls, with the cryptography of ring; and whose certificates are believed.
//!
//! There is one way to say that, for every store, broker and receiver, and none to leave a certificate or its name unchecked (`docs/adr/0022-tls-is-checked-or-it-is-not-spoken.md`).

use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::path::Path;
use std::sync::Arc;

use allocation_service_layer::ports::event_publisher::DeliveryError;
use async_nats::ConnectOptions;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lapin::tcp::OwnedTLSConfig;
use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters, TlsParametersBuilder};
use percent_encoding::percent_decode_str;
use reqwest::{Client, ClientBuilder};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Says so to rustls. Whoever makes a connection does it first; again is fine.
pub fn choose_ring() {
    // It fails when the choice was made before, and nothing here chooses otherwise.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Why authorities can't be believed.
#[derive(Debug)]
pub enum BadAuthorities {
    /// The file can't be read.
    Unreadable(io::Error),
    /// It is no file of certificates.
    Malformed(pem::Error),
    /// It has none.
    Empty,
    /// It has one that is none of an authority.
    Unfit(rustls::Error),
}

impl fmt::Display for BadAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "can't be read: {error}"),
            Self::Malformed(error) => write!(f, "is no file of certificates in PEM: {error}"),
            Self::Empty => f.write_str("has no certificate"),
            Self::Unfit(error) => write!(f, "has a certificate that can't be believed: {error}"),
        }
    }
}

impl Error for BadAuthorities {}

/// Whose certificates are believed: Mozilla's roots, and authorities of one's own.
#[derive(Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    /// Those of one's own.
    own: Arc<[CertificateDer<'static>]>,
}

impl Default for Trust {
    /// Mozilla's roots alone: a slim container has none, so they are in the program.
    fn default() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(TLS_SERVER_ROOT_CERTS.iter().cloned());
        Self { roots: Arc::new(roots), own: Arc::new([]) }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("roots", &self.roots.len()).field("own", &self.own.len()).finish()
    }
}

impl Trust {
    /// Believes the authorities in this file (PEM) as well.
    pub fn with_file(file: &Path) -> Result<Self, BadAuthorities> {
        let text = std::fs::read(file).map_err(BadAuthorities::Unreadable)?;
        let own: Vec<_> =
            CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(BadAuthorities::Malformed)?;
        if own.is_empty() {
            return Err(BadAuthorities::Empty);
        }
        let mut roots = RootCertStore::clone(&Self::default().roots);
        for certificate in &own {
            roots.add(certificate.clone()).map_err(BadAuthorities::Unfit)?;
        }
        Ok(Self { roots: Arc::new(roots), own: own.into() })
    }

    /// For whatever speaks by rustls.
    pub fn client(&self) -> ClientConfig {
        choose_ring();
        ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth()
    }

    fn all(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        TLS_SERVER_ROOT_CERTS.iter().chain(self.own.iter())
    }

    pub(crate) fn postgres(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(self.client())
    }

    /// A client of the Redis at this URL: with TLS for `rediss://`, and without for `redis://`. Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn redis(&self, url: &str) -> Result<redis::Client, DeliveryError> {
        choose_ring();
        let failed = |error| DeliveryError(format!("Redis: {error}"));
        if url.contains('#') {
            return Err(DeliveryError("Redis: a URL has nothing behind a #; certificates are always checked".into()));
        }
        if !url.starts_with("rediss:") {
            return redis::Client::open(url).map_err(failed);
        }
        let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(pem(self.all()).into_bytes()) };
        redis::Client::build_with_tls(url, certificates).map_err(failed)
    }

    /// Where the NATS at this URL is, and how it is connected to: with TLS for `tls://`, to every server of its cluster; else if it asks for it. A user without a
    /// password is a token. The library takes neither from a URL, and prints both.
    pub fn nats(&self, url: &str) -> (String, ConnectOptions) {
        let options = ConnectOptions::new().tls_client_config(self.client()).require_tls(url.starts_with("tls:"));
        let Ok(mut place) = Url::parse(url) else { return (url.to_owned(), options) };
        let text = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let options = match (text(place.username()), place.password().map(text)) {
            (user, Some(password)) => options.user_and_password(user, password),
            (token, None) if !token.is_empty() => options.token(token),
            _ => options,
        };
        // It has a host, so this does not fail.
        let _ = place.set_username("").and_then(|()| place.set_password(None));
        (place.into(), options)
    }

    /// How RabbitMQ is connected to, when the URL begins with `amqps://`.
    pub fn rabbitmq(&self) -> OwnedTLSConfig {
        choose_ring();
        // It knows Mozilla's by itself.
        OwnedTLSConfig { identity: None, cert_chain: Some(pem(self.own.iter())).filter(|text| !text.is_empty()) }
    }

    pub(crate) fn smtp(&self, host: &str) -> Result<TlsParameters, lettre::transport::smtp::Error> {
        choose_ring();
        let mut parameters = TlsParametersBuilder::new(host.to_owned()).certificate_store(CertificateStore::None);
        for certificate in self.all() {
            parameters = parameters.add_root_certificate(Certificate::from_der(certificate.to_vec())?);
        }
        parameters.build()
    }
}

/// Certificates as a file has them.
fn pem<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'static>>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = BASE64_STANDARD.encode(certificate);
        while !rest.is_empty() {
            let after = rest.split_off(rest.len().min(64));
            text.push_str(&rest);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// What a client of HTTP begins with.
pub(crate) fn http_client(trust: &Trust) -> Result<ClientBuilder, reqwest::Error> {
    choose_ring();
    // The machine may have no certificates, as slim containers do.
    let roots = trust.all().map(|root| reqwest::Certificate::from_der(root));
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
