//! The algorithms that a token may name.

use der::asn1::ObjectIdentifier;

use crate::{KeyKind, oid};

/// How the key block is encrypted under Ke.
///
/// The values are those of TR-34 with AES; a token that names another cipher, `des-ede3-cbc`
/// included, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCipher {
    /// aes128-CBC with PKCS#7 padding.
    Aes128Cbc,
    /// aes256-CBC with PKCS#7 padding.
    Aes256Cbc,
}

impl ContentCipher {
    /// The cipher whose Ke is at least as strong as a Kn of this kind.
    pub const fn for_key(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Tdea2 | KeyKind::Aes128 => Self::Aes128Cbc,
            KeyKind::Tdea3 | KeyKind::Aes192 | KeyKind::Aes256 => Self::Aes256Cbc,
        }
    }

    /// Bytes of Ke.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc => 16,
            Self::Aes256Cbc => 32,
        }
    }

    /// Bytes of a block, and of the IV.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Aes128Cbc | Self::Aes256Cbc => 16,
        }
    }

    pub(crate) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Aes128Cbc => oid::AES_128_CBC,
            Self::Aes256Cbc => oid::AES_256_CBC,
        }
    }

    pub(crate) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        [Self::Aes128Cbc, Self::Aes256Cbc]
            .into_iter()
            .find(|cipher| cipher.oid() == oid)
    }
}

/// The hash in RSA-OAEP, both for the label, which is empty, and inside MGF1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OaepHash {
    /// SHA-1: what some modules are limited to.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl OaepHash {
    /// Bytes of the digest.
    pub const fn output_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}
