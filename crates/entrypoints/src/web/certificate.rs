//! The certificate that the web API shows, and its key: two files, looked at now and then, so that a new pair is shown without a restart.
//!
//! A pair that can't be used is reported, and the one before it stays in force.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(1);

/// Where the pair is.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate and those between it and its authority, in PEM, its own first.
    pub chain: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Why a pair can't be used.
#[derive(Debug)]
pub enum BadCertificate {
    /// A file can't be read.
    Unreadable(PathBuf, io::Error),
    /// A file has not what it is to have.
    Malformed(PathBuf, pem::Error),
    /// The key is none of the certificate, or either is of no use.
    Unfit(rustls::Error),
}

impl fmt::Display for BadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(file, error) => write!(f, "{} can't be read: {error}", file.display()),
            Self::Malformed(file, error) => write!(f, "{} is not what it is to be, in PEM: {error}", file.display()),
            Self::Unfit(error) => write!(f, "certificate and key can't be used: {error}"),
        }
    }
}

impl std::error::Error for BadCertificate {}

/// What stood in the files at a time. The key is not kept.
#[derive(Clone, PartialEq, Eq)]
struct Seen([u8; 32]);

impl Seen {
    /// What was seen where nothing could be read.
    const NOTHING: Self = Self([0; 32]);
}

/// What was read.
struct Read {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Read {
    fn seen(&self) -> Seen {
        let parts = [&self.chain, &self.key].map(Sha256::digest);
        Seen(Sha256::digest(parts.concat()).into())
    }
}

/// The pair in force.
pub struct Certificate {
    files: CertificateFiles,
    /// Whether HTTP/2 is offered.
    http2: bool,
    current: watch::Sender<Arc<ServerConfig>>,
    /// Of which files it is.
    loaded: Seen,
}

impl Certificate {
    /// Loads the pair from its files.
    pub fn load(files: CertificateFiles, http2: bool) -> Result<Self, BadCertificate> {
        let read = read(&files)?;
        let current = watch::Sender::new(Arc::new(configure(&files, &read, http2)?));
        Ok(Self { files, http2, current, loaded: read.seen() })
    }

    /// What connections are taken with: each asks anew.
    pub(super) fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Looks at the files now and then, until told to stop.
    pub async fn follow(mut self, stop: CancellationToken) {
        let mut failed = Failed::default();
        while stop.run_until_cancelled(tokio::time::sleep(CHECK)).await.is_some() {
            let (files, http2, loaded) = (self.files.clone(), self.http2, self.loaded.clone());
            let looked = tokio::task::spawn_blocking(move || look(&files, http2, &loaded));
            let Ok(looked) = looked.await else { continue };
            match looked {
                Looked::Same => failed = Failed::default(),
                Looked::New(seen, config) => {
                    failed = Failed::default();
                    self.loaded = seen;
                    self.current.send_replace(config);
                    tracing::info!(file = %self.files.chain.display(), "a new certificate is in force");
                }
                Looked::Bad(seen, why) => {
                    if failed.is_to_be_told(seen) {
                        tracing::error!("the certificate stays as it was, as the new one can't be used: {why}");
                    }
                }
            }
        }
    }
}

/// A pair that could not be used. It is told of once, and not at first sight: the files may just be being written.
#[derive(Default)]
struct Failed {
    last: Option<Seen>,
    is_told: bool,
}

impl Failed {
    fn is_to_be_told(&mut self, seen: Seen) -> bool {
        let again = self.last.as_ref() == Some(&seen);
        if !again {
            *self = Self { last: Some(seen), is_told: false };
        }
        again && !mem::replace(&mut self.is_told, true)
    }
}

/// What is found in the files.
enum Looked {
    Same,
    New(Seen, Arc<ServerConfig>),
    Bad(Seen, BadCertificate),
}

fn look(files: &CertificateFiles, http2: bool, loaded: &Seen) -> Looked {
    let read = match read(files) {
        Ok(read) => read,
        Err(why) => return Looked::Bad(Seen::NOTHING, why),
    };
    let seen = read.seen();
    if seen == *loaded {
        return Looked::Same;
    }
    match configure(files, &read, http2) {
        Ok(config) => Looked::New(seen, Arc::new(config)),
        Err(why) => Looked::Bad(seen, why),
    }
}

fn read(files: &CertificateFiles) -> Result<Read, BadCertificate> {
    let read = |file: &Path| std::fs::read(file).map_err(|error| BadCertificate::Unreadable(file.to_owned(), error));
    Ok(Read { chain: read(&files.chain)?, key: read(&files.key)? })
}

fn configure(files: &CertificateFiles, read: &Read, http2: bool) -> Result<ServerConfig, BadCertificate> {
    let malformed = |file: &Path| {
        let file = file.to_owned();
        |error| BadCertificate::Malformed(file, error)
    };
    let chain = CertificateDer::pem_slice_iter(&read.chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(malformed(&files.chain))?;
    let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(malformed(&files.key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(BadCertificate::Unfit)?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(BadCertificate::Unfit)?;
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}
