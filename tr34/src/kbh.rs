//! The key block header: what a key may be used for, in the values of TR-31 and ANSI X9.143.
//!
//! A header is checked field by field. Which combinations of usage, algorithm and mode make sense
//! for a given key is the host's policy and not decided here.

use std::{fmt, ops::Range, str::FromStr};

use crate::{KeyKind, MalformedToken, OptionalBlock, Rule, encode, oid, read::Element};

/// Characters of a header without optional blocks.
const HEADER_LEN: usize = 16;
/// More than any needs that says of a symmetric key what X9.143 has blocks for.
const MAX_LEN: usize = 1024;

/// Where the number of optional blocks stands.
const COUNT: Range<usize> = 12..14;
/// It has two digits.
const MAX_COUNT: usize = 99;

/// A value of a field, and what it means.
type Word = (&'static str, &'static str);

/// ANSI X9.143 table 2, without the numeric values that are left to proprietary use.
const KEY_USAGES: &[Word] = &[
    ("B0", "base derivation key"),
    ("B1", "initial DUKPT key"),
    ("B2", "base key variant key"),
    ("B3", "key derivation key"),
    ("C0", "card verification key"),
    ("D0", "data encryption key"),
    ("D1", "asymmetric key for data encryption"),
    ("D2", "data encryption key for decimalization tables"),
    ("D3", "data encryption key for sensitive data"),
    ("E0", "EMV issuer master key: application cryptograms"),
    (
        "E1",
        "EMV issuer master key: secure messaging for confidentiality",
    ),
    (
        "E2",
        "EMV issuer master key: secure messaging for integrity",
    ),
    ("E3", "EMV issuer master key: data authentication code"),
    ("E4", "EMV issuer master key: dynamic numbers"),
    ("E5", "EMV issuer master key: card personalization"),
    ("E6", "EMV issuer master key: other"),
    ("E7", "EMV key pair of the chip"),
    ("I0", "initialization vector"),
    ("K0", "key encryption or wrapping"),
    ("K1", "TR-31 key block protection key"),
    ("K2", "TR-34 asymmetric key"),
    ("K3", "asymmetric key for key agreement or wrapping"),
    ("K4", "ISO 20038 key block protection key"),
    ("M0", "ISO 16609 MAC algorithm 1"),
    ("M1", "ISO 9797-1 MAC algorithm 1"),
    ("M2", "ISO 9797-1 MAC algorithm 2"),
    ("M3", "ISO 9797-1 MAC algorithm 3"),
    ("M4", "ISO 9797-1 MAC algorithm 4"),
    ("M5", "ISO 9797-1:1999 MAC algorithm 5"),
    ("M6", "ISO 9797-1:2011 MAC algorithm 5, CMAC"),
    ("M7", "HMAC"),
    ("M8", "ISO 9797-1:2011 MAC algorithm 6"),
    ("P0", "PIN encryption"),
    ("P1", "PIN generation"),
    ("S0", "key pair for digital signatures"),
    ("S1", "key pair of a certification authority"),
    ("S2", "key pair for other uses"),
    ("V0", "PIN verification, other algorithm"),
    ("V1", "PIN verification, IBM 3624"),
    ("V2", "PIN verification, Visa PVV"),
    ("V3", "PIN verification, ANSI X9.132 algorithm 1"),
    ("V4", "PIN verification, ANSI X9.132 algorithm 2"),
    ("V5", "PIN verification, ANSI X9.132 algorithm 3"),
];

/// TR-31 key block versions.
const VERSION_IDS: &str = "ABCD";

/// ANSI X9.143 table 4, with TR-31's `T`.
const MODES_OF_USE: &[Word] = &[
    ("B", "encrypt and decrypt, wrap and unwrap"),
    ("C", "generate and verify"),
    ("D", "decrypt or unwrap only"),
    ("E", "encrypt or wrap only"),
    ("G", "generate only"),
    ("N", "no restriction"),
    ("S", "sign only"),
    ("T", "sign and decrypt"),
    ("V", "verify only"),
    ("X", "derive other keys"),
    ("Y", "make key variants"),
];

/// ANSI X9.143 table 6.
const EXPORTABILITIES: &[Word] = &[
    ("E", "exportable under a key encryption key, in a key block"),
    ("N", "not exportable"),
    (
        "S",
        "sensitive: exportable under a key encryption key, in other forms too",
    ),
];

/// What a value means; nothing for one that the standard does not define.
fn words(table: &[Word], value: &str) -> &'static str {
    table
        .iter()
        .find(|(known, _)| *known == value)
        .map_or("", |(_, words)| words)
}

fn knows(table: &[Word], value: &str) -> bool {
    table.iter().any(|(known, _)| *known == value)
}

/// A checked header of 16 ASCII characters, and the optional blocks behind them.
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
/// | 2 | number of optional blocks |
/// | 2 | reserved: `00` |
///
/// Optional blocks fill a header up to whole blocks of its version's cipher, the last by padding (X9.143 6.3.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kbh {
    text: String,
    algorithm: KeyAlgorithm,
    optional: Vec<OptionalBlock>,
}

impl Kbh {
    /// From its characters, all of them.
    ///
    /// # Errors
    /// As for [`Self::parse_plain`]; there are more or fewer optional blocks than it says, one is malformed, or they
    /// are not whole blocks of the cipher.
    pub fn parse(bytes: &[u8]) -> Result<Self, KbhError> {
        let text = ascii(bytes)?;
        let found = text.len();
        let (Some(fields), Some(behind)) = (text.get(..HEADER_LEN), text.get(HEADER_LEN..)) else {
            return Err(KbhError::Length {
                expected: HEADER_LEN,
                found,
            });
        };
        if found > MAX_LEN {
            return Err(KbhError::TooLong { found });
        }
        let count = &fields[COUNT];
        let plain = [&fields[..COUNT.start], "00", &fields[COUNT.end..]].concat();
        let plain = Self::parse_plain(plain.as_bytes())?;
        let digits = count.bytes().all(|digit| digit.is_ascii_digit());
        let count = count.parse().ok().filter(|_| digits);
        let count = count.ok_or(KbhError::UnknownValue(KbhField::OptionalBlocks))?;
        let (optional, len) = OptionalBlock::parse_all(behind, count, HEADER_LEN)?;
        let expected = HEADER_LEN + len;
        if expected != found {
            return Err(KbhError::Length { expected, found });
        }
        if !len.is_multiple_of(plain.block_len()) {
            let version = plain.version_id();
            return Err(KbhError::NotWholeBlocks { found, version });
        }
        Ok(Self {
            text: text.to_owned(),
            optional,
            ..plain
        })
    }

    /// From 16 characters, which is a header without optional blocks.
    ///
    /// # Errors
    /// The length is not 16, or a field has a value that the standard does not define.
    pub fn parse_plain(bytes: &[u8]) -> Result<Self, KbhError> {
        let text = ascii(bytes)?;
        if text.len() != HEADER_LEN {
            return Err(KbhError::Length {
                expected: HEADER_LEN,
                found: text.len(),
            });
        }

        let digits = text[1..5].bytes().all(|c| c.is_ascii_digit());
        let key_version = text[9..11].bytes().all(|c| c.is_ascii_alphanumeric());

        expect(KbhField::VersionId, VERSION_IDS.contains(&text[..1]))?;
        expect(KbhField::BlockLength, digits)?;
        expect(KbhField::KeyUsage, knows(KEY_USAGES, &text[5..7]))?;
        let algorithm = KeyAlgorithm::of_character(&text[7..8])
            .ok_or(KbhError::UnknownValue(KbhField::Algorithm))?;
        expect(KbhField::ModeOfUse, knows(MODES_OF_USE, &text[8..9]))?;
        expect(KbhField::KeyVersion, key_version)?;
        expect(
            KbhField::Exportability,
            knows(EXPORTABILITIES, &text[11..12]),
        )?;
        expect(KbhField::OptionalBlocks, &text[COUNT] == "00")?;
        expect(KbhField::Reserved, &text[14..] == "00")?;

        Ok(Self {
            text: text.to_owned(),
            algorithm,
            optional: Vec::new(),
        })
    }

    /// The same header with these optional blocks and no others, filled up by padding.
    ///
    /// # Errors
    /// Two have the same identifier, or one is padding; there are too many, or they are too long.
    pub fn with_optional_blocks(&self, blocks: &[OptionalBlock]) -> Result<Self, KbhError> {
        let padding = OptionalBlock::padding(blocks, self.block_len());
        let blocks = blocks.iter().chain(&padding);
        let count = blocks.clone().count();
        if count > MAX_COUNT {
            return Err(KbhError::UnknownValue(KbhField::OptionalBlocks));
        }
        let (before, reserved) = (&self.text[..COUNT.start], &self.text[COUNT.end..HEADER_LEN]);
        let behind: String = blocks.map(OptionalBlock::encode).collect();
        // What is written is read as what it was made of.
        Self::parse(format!("{before}{count:02}{reserved}{behind}").as_bytes())
    }

    /// The same header without optional blocks.
    #[must_use]
    pub fn without_optional_blocks(&self) -> Self {
        let (before, reserved) = (&self.text[..COUNT.start], &self.text[COUNT.end..HEADER_LEN]);
        Self {
            text: format!("{before}00{reserved}"),
            algorithm: self.algorithm,
            optional: Vec::new(),
        }
    }

    /// Its optional blocks in their order, the padding among them.
    pub fn optional_blocks(&self) -> &[OptionalBlock] {
        &self.optional
    }

    /// Whose initial key of DUKPT it is the header of, if it says so: its optional block `IK` or `KS`.
    pub fn initial_key(&self) -> Option<&OptionalBlock> {
        let mut blocks = self.optional.iter();
        blocks.find(|block| block.names_initial_key())
    }

    /// Bytes of a block of the cipher that protects key blocks of its version.
    fn block_len(&self) -> usize {
        if self.version() == "D" { 16 } else { 8 }
    }

    fn version_id(&self) -> char {
        self.text.chars().next().unwrap_or_default()
    }

    /// Its characters, 16 or more.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Key block version, `A` to `D`.
    pub fn version(&self) -> &str {
        &self.text[..1]
    }

    /// Key usage, two characters.
    pub fn usage(&self) -> &str {
        &self.text[5..7]
    }

    /// What the key usage means.
    pub fn usage_words(&self) -> &'static str {
        words(KEY_USAGES, self.usage())
    }

    /// Algorithm.
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Mode of use, one character.
    pub fn mode(&self) -> &str {
        &self.text[8..9]
    }

    /// What the mode of use means.
    pub fn mode_words(&self) -> &'static str {
        words(MODES_OF_USE, self.mode())
    }

    /// Exportability, one character.
    pub fn exportability(&self) -> &str {
        &self.text[11..12]
    }

    /// What the exportability means.
    pub fn exportability_words(&self) -> &'static str {
        words(EXPORTABILITIES, self.exportability())
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

    /// From the OCTET STRING in that attribute, or in a key block of Annex D.
    pub(crate) fn read(octets: Element<'_>) -> Result<Self, MalformedToken> {
        octets.check(Self::parse(octets.content()).map_err(Rule::Header))
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

fn ascii(bytes: &[u8]) -> Result<&str, KbhError> {
    let text = str::from_utf8(bytes).ok();
    text.filter(|text| text.is_ascii())
        .ok_or(KbhError::NotAscii)
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
    /// Headers have 16 characters, and what their optional blocks have.
    #[error("key block header has {found} characters, not {expected}")]
    Length {
        /// Characters, as the header says.
        expected: usize,
        /// Characters.
        found: usize,
    },
    /// No header that is made for a key token comes near.
    #[error("key block header has {found} characters, more than {MAX_LEN}")]
    TooLong {
        /// Characters.
        found: usize,
    },
    /// Optional blocks are whole blocks of the cipher (X9.143 6.3.6).
    #[error(
        "key block header has {found} characters, which are not whole blocks of version {version}"
    )]
    NotWholeBlocks {
        /// Characters.
        found: usize,
        /// The header's version id.
        version: char,
    },
    /// An optional block.
    #[error("the optional block at character {at} {cause}")]
    OptionalBlock {
        /// Where it starts.
        at: usize,
        /// What is wrong with it.
        cause: &'static str,
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
