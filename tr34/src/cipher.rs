//! The algorithms that a token may name.

use std::fmt;

use der::asn1::ObjectIdentifier;

use crate::{KeyKind, MalformedToken, Rule, TokenKind, oid};

/// How the key block is encrypted under Ke. A token that names another cipher is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCipher {
    /// aes128-CBC with PKCS#7 padding.
    Aes128Cbc,
    /// aes256-CBC with PKCS#7 padding.
    Aes256Cbc,
    /// des-ede3-cbc with PKCS#7 padding, for terminals that know TDEA only. Ke is three-key TDEA.
    DesEde3Cbc,
}

impl ContentCipher {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Aes128Cbc, Self::Aes256Cbc, Self::DesEde3Cbc];

    /// The AES cipher whose Ke is at least as strong as a Kn of this kind.
    pub const fn for_key(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Tdea2 | KeyKind::Aes128 => Self::Aes128Cbc,
            KeyKind::Tdea3 | KeyKind::Aes192 | KeyKind::Aes256 => Self::Aes256Cbc,
        }
    }

    /// Whether a Kn of this kind may travel under it: Ke must be as long, and never be TDEA where Kn is
    /// AES, which is the stronger one (NIST SP 800-57 part 1, table 2).
    pub const fn carries(self, kind: KeyKind) -> bool {
        match (self, kind) {
            (Self::Aes256Cbc, _)
            | (Self::Aes128Cbc, KeyKind::Tdea2 | KeyKind::Aes128)
            | (Self::DesEde3Cbc, KeyKind::Tdea2 | KeyKind::Tdea3) => true,
            (Self::Aes128Cbc, KeyKind::Tdea3 | KeyKind::Aes192 | KeyKind::Aes256)
            | (Self::DesEde3Cbc, KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256) => false,
        }
    }

    /// What kind of key Ke is.
    pub const fn key_kind(self) -> KeyKind {
        match self {
            Self::Aes128Cbc => KeyKind::Aes128,
            Self::DesEde3Cbc => KeyKind::Tdea3,
            Self::Aes256Cbc => KeyKind::Aes256,
        }
    }

    /// Bytes of Ke.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc => 16,
            Self::DesEde3Cbc => 24,
            Self::Aes256Cbc => 32,
        }
    }

    /// Bytes of a block, and of the IV.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Aes128Cbc | Self::Aes256Cbc => 16,
            Self::DesEde3Cbc => 8,
        }
    }

    /// Bytes of what `len` bytes are encrypted to: PKCS#7 pads with one byte at least.
    pub const fn padded_len(self, len: usize) -> usize {
        (len / self.block_len() + 1) * self.block_len()
    }

    /// With this IV.
    ///
    /// # Errors
    /// It is not as long as a block.
    pub fn with_iv(self, iv: &[u8]) -> Result<ContentEncryption, MalformedToken> {
        ContentEncryption::new(self, iv).map_err(TokenKind::EnvelopedData.breaks())
    }

    /// The name that operators read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Cbc => "AES-128-CBC",
            Self::Aes256Cbc => "AES-256-CBC",
            Self::DesEde3Cbc => "DES-EDE3-CBC",
        }
    }

    pub(crate) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Aes128Cbc => oid::AES_128_CBC,
            Self::Aes256Cbc => oid::AES_256_CBC,
            Self::DesEde3Cbc => oid::DES_EDE3_CBC,
        }
    }

    pub(crate) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.oid() == oid)
    }
}

impl fmt::Display for ContentCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A cipher with an IV of its length: contentEncryptionAlgorithm in RFC 5652 6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncryption {
    /// [`ContentCipher::Aes128Cbc`].
    Aes128Cbc([u8; 16]),
    /// [`ContentCipher::Aes256Cbc`].
    Aes256Cbc([u8; 16]),
    /// [`ContentCipher::DesEde3Cbc`].
    DesEde3Cbc([u8; 8]),
}

impl ContentEncryption {
    pub(crate) fn new(cipher: ContentCipher, iv: &[u8]) -> Result<Self, Rule> {
        let made = match cipher {
            ContentCipher::Aes128Cbc => iv.try_into().map(Self::Aes128Cbc),
            ContentCipher::Aes256Cbc => iv.try_into().map(Self::Aes256Cbc),
            ContentCipher::DesEde3Cbc => iv.try_into().map(Self::DesEde3Cbc),
        };
        made.map_err(|_| Rule::Length {
            field: "IV",
            found: iv.len(),
        })
    }

    /// The cipher.
    pub const fn cipher(&self) -> ContentCipher {
        match self {
            Self::Aes128Cbc(_) => ContentCipher::Aes128Cbc,
            Self::Aes256Cbc(_) => ContentCipher::Aes256Cbc,
            Self::DesEde3Cbc(_) => ContentCipher::DesEde3Cbc,
        }
    }

    /// The IV, a block of the cipher.
    pub const fn iv(&self) -> &[u8] {
        match self {
            Self::Aes128Cbc(iv) | Self::Aes256Cbc(iv) => iv,
            Self::DesEde3Cbc(iv) => iv,
        }
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
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha1];

    /// As configurations and reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The hash of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Bytes of the digest.
    pub const fn output_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}
