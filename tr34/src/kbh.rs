//! The key block header: what a key may be used for, in the values of TR-31 and ANSI X9.143.
//!
//! A header is checked field by field. Which combinations of usage, algorithm and mode make sense
//! for a given key is the host's policy and not decided here.

use std::{fmt, str::FromStr};

use der::asn1::OctetStringRef;

use crate::{KeyKind, Rule, encode, oid, wire};

/// Characters of a header without optional blocks.
const HEADER_LEN: usize = 16;

/// ANSI X9.143 table 2, without the numeric values that are left to proprietary use.
const KEY_USAGES: &[&str] = &[
    "B0", "B1", "B2", "B3", // base derivation keys, initial DUKPT keys, other derivation keys
    "C0", // card verification
    "D0", "D1", "D2", "D3", // data encryption
    "E0", "E1", "E2", "E3", "E4", "E5", "E6", "E7", // EMV issuer master keys, chip key pairs
    "I0", // initialization vector
    "K0", "K1", "K2", "K3", "K4", // key encryption, wrapping and agreement
    "M0", "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", // message authentication
    "P0", "P1", // PIN encryption, PIN generation
    "S0", "S1", "S2", // asymmetric signatures
    "V0", "V1", "V2", "V3", "V4", "V5", // PIN verification
];

/// TR-31 key block versions.
const VERSION_IDS: &str = "ABCD";

/// ANSI X9.143 table 4, with TR-31's `T`.
const MODES_OF_USE: &str = "BCDEGNSTVXY";

/// ANSI X9.143 table 6.
const EXPORTABILITIES: &str = "ENS";

/// A checked header of 16 ASCII characters.
///
/// | characters | field |
/// |---|---|
/// | 1 | version id, `A` to `D` |
/// | 4 | length in decimal digits, any value: TR-34 ignores it |
/// | 2 | key usage |
/// | 1 | algorithm |
/// | 1 | mode of use |
/// | 2 | key version number: two letters or digits |
/// | 1 | exportability |
/// | 2 | number of optional blocks: `00` |
/// | 2 | reserved: `00` |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kbh {
    text: String,
    algorithm: KeyAlgorithm,
}

impl Kbh {
    /// From its characters.
    ///
    /// # Errors
    /// The length is not 16, or a field has a value that the standard does not define.
    pub fn parse(bytes: &[u8]) -> Result<Self, KbhError> {
        let text = str::from_utf8(bytes)
            .ok()
            .filter(|text| text.is_ascii())
            .ok_or(KbhError::NotAscii)?;
        if text.len() != HEADER_LEN {
            return Err(KbhError::Length { found: text.len() });
        }

        let digits = text[1..5].bytes().all(|c| c.is_ascii_digit());
        let key_version = text[9..11].bytes().all(|c| c.is_ascii_alphanumeric());

        expect(KbhField::VersionId, VERSION_IDS.contains(&text[..1]))?;
        expect(KbhField::BlockLength, digits)?;
        expect(KbhField::KeyUsage, KEY_USAGES.contains(&&text[5..7]))?;
        let algorithm = KeyAlgorithm::of_character(&text[7..8])
            .ok_or(KbhError::UnknownValue(KbhField::Algorithm))?;
        expect(KbhField::ModeOfUse, MODES_OF_USE.contains(&text[8..9]))?;
        expect(KbhField::KeyVersion, key_version)?;
        expect(
            KbhField::Exportability,
            EXPORTABILITIES.contains(&text[11..12]),
        )?;
        expect(KbhField::OptionalBlocks, &text[12..14] == "00")?;
        expect(KbhField::Reserved, &text[14..] == "00")?;

        Ok(Self {
            text: text.to_owned(),
            algorithm,
        })
    }

    /// The 16 characters.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Key usage, two characters.
    pub fn usage(&self) -> &str {
        &self.text[5..7]
    }

    /// Algorithm.
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Mode of use, one character.
    pub fn mode(&self) -> &str {
        &self.text[8..9]
    }

    /// Exportability, one character.
    pub fn exportability(&self) -> &str {
        &self.text[11..12]
    }

    /// The kind of a key of `key_len` bytes under this header.
    ///
    /// # Errors
    /// The header's algorithm is not one whose keys TR-34 loads here, or has no keys of this length.
    pub fn key_kind(&self, key_len: usize) -> Result<KeyKind, KbhError> {
        let kinds: &[KeyKind] = match self.algorithm {
            KeyAlgorithm::Tdea => &[KeyKind::Tdea2, KeyKind::Tdea3],
            KeyAlgorithm::Aes => &[KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256],
            other => return Err(KbhError::NotLoadable { algorithm: other }),
        };
        kinds
            .iter()
            .copied()
            .find(|kind| kind.key_len() == key_len)
            .ok_or(KbhError::KeyLength {
                algorithm: self.algorithm,
                key_len,
            })
    }

    /// The DER of the attribute that carries the header.
    pub(crate) fn to_attribute(&self) -> Vec<u8> {
        encode::attribute(
            oid::KEY_BLOCK_HEADER,
            &encode::octet_string(self.as_bytes()),
        )
    }

    pub(crate) fn of_attribute(attribute: &wire::Attribute<'_>) -> Result<Self, Rule> {
        let value: &OctetStringRef =
            attribute.value_of(oid::KEY_BLOCK_HEADER, "key block header")?;
        Ok(Self::parse(value.as_bytes())?)
    }
}

impl fmt::Display for Kbh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Kbh {
    type Err = KbhError;

    fn from_str(text: &str) -> Result<Self, KbhError> {
        Self::parse(text.as_bytes())
    }
}

fn expect(field: KbhField, known: bool) -> Result<(), KbhError> {
    known.then_some(()).ok_or(KbhError::UnknownValue(field))
}

/// Why a header, or a key under it, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KbhError {
    /// Headers are ASCII.
    #[error("key block header is not ASCII")]
    NotAscii,
    /// Headers have 16 characters.
    #[error("key block header has {found} characters, not {HEADER_LEN}")]
    Length {
        /// Characters.
        found: usize,
    },
    /// The standard does not define the value of this field.
    #[error("key block header has an unknown value of {0}")]
    UnknownValue(KbhField),
    /// Not an algorithm whose keys are loaded here.
    #[error("no keys of algorithm {algorithm} are loaded by key token")]
    NotLoadable {
        /// The header's algorithm.
        algorithm: KeyAlgorithm,
    },
    /// The algorithm has no keys of this length.
    #[error("a key of {key_len} bytes is not a key of algorithm {algorithm}")]
    KeyLength {
        /// The header's algorithm.
        algorithm: KeyAlgorithm,
        /// Bytes of the key.
        key_len: usize,
    },
}

/// A field of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KbhField {
    /// Key block version id.
    VersionId,
    /// Key block length.
    BlockLength,
    /// Key usage.
    KeyUsage,
    /// Algorithm.
    Algorithm,
    /// Mode of use.
    ModeOfUse,
    /// Key version number.
    KeyVersion,
    /// Exportability.
    Exportability,
    /// Number of optional blocks.
    OptionalBlocks,
    /// Reserved.
    Reserved,
}

impl fmt::Display for KbhField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VersionId => "version id",
            Self::BlockLength => "block length",
            Self::KeyUsage => "key usage",
            Self::Algorithm => "algorithm",
            Self::ModeOfUse => "mode of use",
            Self::KeyVersion => "key version number",
            Self::Exportability => "exportability",
            Self::OptionalBlocks => "number of optional blocks",
            Self::Reserved => "the reserved field",
        })
    }
}

/// ANSI X9.143 table 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// `A`: AES.
    Aes,
    /// `D`: single DEA.
    Dea,
    /// `E`: elliptic curves.
    EllipticCurve,
    /// `H`: HMAC.
    Hmac,
    /// `R`: RSA.
    Rsa,
    /// `S`: DSA.
    Dsa,
    /// `T`: TDEA.
    Tdea,
}

impl KeyAlgorithm {
    fn of_character(character: &str) -> Option<Self> {
        Some(match character {
            "A" => Self::Aes,
            "D" => Self::Dea,
            "E" => Self::EllipticCurve,
            "H" => Self::Hmac,
            "R" => Self::Rsa,
            "S" => Self::Dsa,
            "T" => Self::Tdea,
            _ => return None,
        })
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes => "AES",
            Self::Dea => "DEA",
            Self::EllipticCurve => "EC",
            Self::Hmac => "HMAC",
            Self::Rsa => "RSA",
            Self::Dsa => "DSA",
            Self::Tdea => "TDEA",
        })
    }
}
