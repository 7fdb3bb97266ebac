//! What a key is for.

use std::fmt;

/// What a key is for. It decides every attribute of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// The root CA: signs certificates and CRLs.
    RootCa,
    /// A sub-CA: signs certificates and CRLs.
    IssuingCa,
    /// The KDH: signs key tokens.
    KdhSigning,
    /// The host's TLS key.
    TlsServer,
    /// An operator's TLS key.
    Operator,
    /// The terminal's RSA key: unwraps Ke; before that, signs its one certificate request.
    KrdEncryption,
    /// The terminal's P-256 key: TLS and receipts.
    KrdAuthentication,
    /// A master Kn on the host: may only be wrapped.
    TransportKey,
    /// A Kn on the terminal.
    LoadedKey,
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RootCa => "root CA",
            Self::IssuingCa => "issuing CA",
            Self::KdhSigning => "KDH signing",
            Self::TlsServer => "TLS server",
            Self::Operator => "operator",
            Self::KrdEncryption => "KRD encryption",
            Self::KrdAuthentication => "KRD authentication",
            Self::TransportKey => "transport key",
            Self::LoadedKey => "loaded key",
        })
    }
}

/// The key pairs that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPairKind {
    /// RSA with the public exponent 65537.
    Rsa {
        /// Bits of the modulus: 2048 to 4096.
        bits: usize,
    },
    /// NIST P-256.
    P256,
}
