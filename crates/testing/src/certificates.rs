//! Certificates made when a test runs, so that none ever runs out in a file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub chain: String,
    /// The key.
    pub key: String,
}

/// Where a pair was written.
#[derive(Debug, Clone)]
pub struct PairFiles {
    /// The certificate.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// One of this name; another of the same name has another key.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate, by which others are believed, in a file in this folder.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let file = folder.join("authority.pem");
        std::fs::write(&file, &self.pem).expect("the folder");
        file
    }

    /// Certifies a server of these names.
    pub fn certify(&self, names: &[&str]) -> Pair {
        self.signed(names, 4096)
    }

    /// The same, but that was long ago.
    pub fn certified_once(&self, names: &[&str]) -> Pair {
        self.signed(names, 2011)
    }

    fn signed(&self, names: &[&str], until: i32) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes it into this folder, the key for its owner's eyes only.
    pub fn write(&self, folder: &Path) -> PairFiles {
        let files = PairFiles { chain: folder.join("chain.pem"), key: folder.join("key.pem") };
        std::fs::write(&files.chain, &self.chain).expect("the folder");
        std::fs::write(&files.key, &self.key).expect("the folder");
        std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o600)).expect("its owner may");
        files
    }

    /// What a server speaks TLS with that shows it.
    pub fn server(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        Arc::new(config.with_single_cert(chain, key).expect("a pair"))
    }
}
