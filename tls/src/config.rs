//! The two configurations: TLS 1.3, one key exchange library, preset CAs.

use std::sync::Arc;

use hsm::SigningKey;
use pki::{Certificate, PublicKeyKind, Signer as _};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::CertificateDer;

use crate::{
    peer::{ClientVerifier, ServerVerifier},
    signer::TokenKey,
};

/// HTTP/2, which gRPC speaks.
const ALPN: &[u8] = b"h2";
/// A client makes one connection at a time, or a few.
const CLIENT_SIGNATURES: usize = 16;

/// A certificate with its chain, and the key in a token.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// The leaf first; the root is left out.
    pub chain: Vec<Certificate>,
    /// The leaf's key: P-256.
    pub key: SigningKey,
}

/// Whether a client has to show a certificate, and whose.
#[derive(Clone, Debug)]
pub enum ClientAuthentication {
    /// A client may come without; if it shows one, it must be by this CA.
    Optional(Certificate),
    /// A client must show one by this CA.
    Required(Certificate),
}

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The identity has no certificate.
    #[error("there is no certificate for TLS")]
    NoCertificate,
    /// The certificate is for another key than the token's.
    #[error("the TLS certificate does not belong to the key in the token")]
    WrongKey,
    /// Not P-256.
    #[error("the TLS key is not a P-256 key")]
    KeyKind,
    /// A CA certificate is not acceptable to the TLS library.
    #[error("a CA certificate is not usable for TLS: {0}")]
    Issuer(String),
    /// The TLS library refuses.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// A server's side. At most `signatures` of its handshakes ask the token to sign at the same time;
/// the others wait.
///
/// # Errors
/// The identity or the clients' CA is not usable.
pub fn server_config(
    identity: &TlsIdentity,
    clients: &ClientAuthentication,
    signatures: usize,
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let (issuer, optional) = match clients {
        ClientAuthentication::Optional(issuer) => (issuer, true),
        ClientAuthentication::Required(issuer) => (issuer, false),
    };
    let roots = roots(std::slice::from_ref(issuer))?;
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    if optional {
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier
        .build()
        .map_err(|error| TlsError::Issuer(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier(verifier)))
        .with_cert_resolver(Arc::new(certified(identity, signatures)?));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the client's certificate.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client's side. Servers are trusted if one of these CAs issued their certificate.
///
/// # Errors
/// The identity or a CA is not usable.
pub fn client_config(
    identity: Option<&TlsIdentity>,
    server_issuers: &[Certificate],
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let roots = roots(server_issuers)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| TlsError::Issuer(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        // The library calls every verifier but its own dangerous; this one only adds to it.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier(verifier)));
    let mut config = match identity {
        Some(identity) => {
            config.with_client_cert_resolver(Arc::new(certified(identity, CLIENT_SIGNATURES)?))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Named here, so that nothing depends on a default of the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(issuers: &[Certificate]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for issuer in issuers {
        roots
            .add(der(issuer))
            .map_err(|error| TlsError::Issuer(error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

fn certified(identity: &TlsIdentity, signatures: usize) -> Result<SingleCertAndKey, TlsError> {
    let leaf = identity.chain.first().ok_or(TlsError::NoCertificate)?;
    if leaf.public_key() != identity.key.public_key() {
        return Err(TlsError::WrongKey);
    }
    if leaf.public_key().kind() != PublicKeyKind::P256 {
        return Err(TlsError::KeyKind);
    }
    let chain = identity.chain.iter().map(der).collect();
    let key = Arc::new(TokenKey::new(identity.key.clone(), signatures));
    Ok(CertifiedKey::new(chain, key).into())
}

fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from(certificate.der().to_vec())
}
