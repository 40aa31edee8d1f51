//! Asks a running service whether it is ready, for health checks of containers that have no other program in them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Failure;
use crate::config::Config;

/// Whether the API at `API_HOST` says that it is ready. Why not goes to standard error.
pub(crate) async fn ready(config: &Config) -> Result<bool, Failure> {
    let (host, port) = &config.api;
    let asked = tokio::time::timeout(Duration::from_secs(5), ask(config)).await;
    let why = match asked {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") => return Ok(true),
        Ok(Ok(answer)) => answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within 5 seconds".to_owned(),
    };
    eprintln!("allocation: {host}:{port} is not ready: {why}");
    Ok(false)
}

async fn ask(config: &Config) -> io::Result<String> {
    let (host, port) = &config.api;
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    if config.certificate.is_none() {
        return converse(stream, host).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let tls = if stream.peer_addr()?.ip().to_canonical().is_loopback() { here()? } else { config.trust.client() };
    converse(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?, host).await
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> io::Result<String> {
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    match stream.take(64 * 1024).read_to_string(&mut answer).await {
        // It has closed without saying so in the words of TLS, after an answer.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
        read => read.map(|_| answer),
    }
}

/// How a process on this machine is spoken with. Its certificate has the name that others know it by, and may just have been replaced by one that it does not show
/// yet; nothing that is said is a secret, and none of it leaves the machine. So whose certificate it is does not matter, here and nowhere else.
fn here() -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth())
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use allocation_testing::certificates::Authority;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[tokio::test]
    async fn a_service_of_this_machine_is_asked_over_tls_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let pair = Authority::new("authority").certify(&["api.example"]);
        let files = pair.write(folder.path());
        let (chain, key) = (files.chain.display().to_string(), files.key.display().to_string());
        let mut config = Config::from_lookup(|name| {
            let known = [("TLS_CERT_FILE", &chain), ("TLS_KEY_FILE", &key)];
            Ok(known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).clone()))
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.api.1 = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            for status in ["200 OK", "503 Service Unavailable"] {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = TlsAcceptor::from(pair.server()).accept(stream).await.unwrap();
                let mut asked = [0; 14];
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(&asked, b"GET /readyz HT");
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\nx").as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        assert!(ready(&config).await.unwrap());
        assert!(!ready(&config).await.unwrap());
        serving.await.unwrap();
    }
}
