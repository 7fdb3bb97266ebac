//! What a key is for.

use std::fmt;

use pki::MIN_RSA_BITS;

use crate::template::{KRD_ENCRYPTION_KEY, LOADED_KEY, SIGNING_KEY, TRANSPORT_KEY, Template};

/// PKCS#11 modules commonly stop here, and so do key tokens.
const MAX_RSA_BITS: usize = 4096;

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

impl KeyRole {
    /// The attributes of its private or secret key.
    pub(crate) const fn template(self) -> &'static Template {
        match self {
            Self::RootCa
            | Self::IssuingCa
            | Self::KdhSigning
            | Self::TlsServer
            | Self::Operator
            | Self::KrdAuthentication => &SIGNING_KEY,
            Self::KrdEncryption => &KRD_ENCRYPTION_KEY,
            Self::TransportKey => &TRANSPORT_KEY,
            Self::LoadedKey => &LOADED_KEY,
        }
    }

    /// Whether keys of the role are pairs.
    pub(crate) const fn is_pair(self) -> bool {
        !matches!(self, Self::TransportKey | Self::LoadedKey)
    }

    /// Whether the role's key can be such a pair.
    pub(crate) fn allows(self, kind: KeyPairKind) -> bool {
        let sound_rsa = matches!(
            kind,
            KeyPairKind::Rsa { bits } if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits)
        );
        match self {
            Self::RootCa | Self::IssuingCa => sound_rsa || kind == KeyPairKind::P256,
            Self::KdhSigning | Self::KrdEncryption => sound_rsa,
            Self::TlsServer | Self::Operator | Self::KrdAuthentication => kind == KeyPairKind::P256,
            Self::TransportKey | Self::LoadedKey => false,
        }
    }
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
