//! Key block header.
use std::{fmt, str::FromStr};

/// A checked key block header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kbh(String);

impl Kbh {
    /// From ASCII.
    pub fn parse(bytes: &[u8]) -> Result<Self, KbhError> {
        unimplemented!()
    }
    /// The characters.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
    /// Key usage, two characters.
    pub fn usage(&self) -> &str {
        unimplemented!()
    }
    /// Algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        unimplemented!()
    }
    /// Mode of use.
    pub fn mode(&self) -> char {
        unimplemented!()
    }
    /// Exportability.
    pub fn exportability(&self) -> char {
        unimplemented!()
    }
    /// The kind of a key with this many bytes.
    pub fn key_kind(&self, key_len: usize) -> Result<KeyKind, KbhError> {
        unimplemented!()
    }
}

impl fmt::Display for Kbh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Kbh {
    type Err = KbhError;
    fn from_str(text: &str) -> Result<Self, KbhError> {
        Self::parse(text.as_bytes())
    }
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KbhError {
    /// Length.
    #[error("key length {key_len} does not fit the header's algorithm")]
    KeyLength {
        /// Bytes.
        key_len: usize,
    },
}

/// What a header calls algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// `A`
    Aes,
    /// `D`
    Dea,
    /// `E`
    EllipticCurve,
    /// `H`
    Hmac,
    /// `R`
    Rsa,
    /// `S`
    Dsa,
    /// `T`
    Tdea,
}

/// A symmetric key's algorithm and length: the kinds that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Two-key TDEA, 16 bytes.
    Tdea2,
    /// Three-key TDEA, 24 bytes.
    Tdea3,
    /// AES-128.
    Aes128,
    /// AES-192.
    Aes192,
    /// AES-256.
    Aes256,
}

impl KeyKind {
    /// Bytes of the key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Tdea2 | Self::Aes128 => 16,
            Self::Tdea3 | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// The name that operators read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tdea2 => "TDEA-2KEY",
            Self::Tdea3 => "TDEA-3KEY",
            Self::Aes128 => "AES-128",
            Self::Aes192 => "AES-192",
            Self::Aes256 => "AES-256",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
