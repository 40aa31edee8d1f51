//! TLS: rustls, with the cryptography of ring, for everything in the process that makes connections.

/// Says so to rustls. Whoever makes an HTTP client does it first; again is fine.
pub fn choose_ring() {
    // It fails when the choice was made before, and nothing here chooses otherwise.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
