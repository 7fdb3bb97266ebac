//! The kinds of key that a key token loads.

use std::fmt;

/// A symmetric key's algorithm and length.
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
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Tdea2,
        Self::Tdea3,
        Self::Aes128,
        Self::Aes192,
        Self::Aes256,
    ];

    /// The kind that operators call so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

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
