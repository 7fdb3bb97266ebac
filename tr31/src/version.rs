//! The versions of key block that are read here.

use std::fmt;

use tr34::KeyKind;

/// A version whose keys are derived from the KBPK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// `B`: under a TDEA KBPK.
    B,
    /// `D`: under an AES KBPK.
    D,
}

impl Version {
    pub(crate) fn of(id: char) -> Option<Self> {
        match id {
            'B' => Some(Self::B),
            'D' => Some(Self::D),
            _ => None,
        }
    }

    /// Bytes of the cipher's block, which are those of the MAC too.
    pub const fn block_len(self) -> usize {
        match self {
            Self::B => 8,
            Self::D => 16,
        }
    }

    /// Whether a KBPK of this kind protects such blocks.
    pub const fn is_under(self, kbpk: KeyKind) -> bool {
        match kbpk {
            KeyKind::Tdea2 | KeyKind::Tdea3 => matches!(self, Self::B),
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => matches!(self, Self::D),
        }
    }

    /// The version's character.
    pub const fn id(self) -> char {
        match self {
            Self::B => 'B',
            Self::D => 'D',
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id())
    }
}
