//! Why bytes are not the key block that they claim to be.

use tr34::KbhError;

use crate::{MAX_LEN, Version};

/// Bytes that are no key block that is read here, or parts that cannot make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyBlockError {
    /// A length has four digits.
    #[error("the key block has {found} characters, more than {MAX_LEN}")]
    TooLong {
        /// Characters.
        found: usize,
    },
    /// Less than a header, one block of payload and a MAC.
    #[error("the key block has {found} characters, which is too short for one")]
    TooShort {
        /// Characters.
        found: usize,
    },
    /// Key blocks are printable ASCII, and end where they end.
    #[error("the key block has a byte at {at} that is no printable ASCII character")]
    NotPrintable {
        /// Where.
        at: usize,
    },
    /// Versions A and C encrypt under variants of the KBPK; others do not exist.
    #[error("a key block of version {found} is not taken: have it made as version D")]
    Version {
        /// The version's character.
        found: char,
    },
    /// Truncated, or something stands behind it.
    #[error("the key block says that it has {stated} characters, and has {found}")]
    Length {
        /// In the header.
        stated: usize,
        /// What there are.
        found: usize,
    },
    /// A field of the header, or an optional block.
    #[error(transparent)]
    Header(#[from] KbhError),
    /// The number of optional blocks has two digits.
    #[error("key block header has an unknown value of number of optional blocks")]
    OptionalBlockCount,
    /// The header is authenticated in whole blocks of the cipher.
    #[error("the header has {found} characters, which are not whole blocks of version {version}")]
    HeaderLength {
        /// Characters, optional blocks included.
        found: usize,
        /// Of the key block.
        version: Version,
    },
    /// Payload and MAC are upper-case hexadecimal.
    #[error("the {field} has a character at {at} that is not one of 0-9 and A-F")]
    NotHex {
        /// `payload` or `MAC`.
        field: &'static str,
        /// Where, in the key block.
        at: usize,
    },
    /// The payload is encrypted in whole blocks of the cipher.
    #[error("the payload has {found} bytes, which are not whole blocks of version {version}")]
    PayloadLength {
        /// Bytes.
        found: usize,
        /// Of the key block.
        version: Version,
    },
    /// The MAC is a block of the cipher.
    #[error("the MAC has {found} bytes, which is not a block of version {version}")]
    MacLength {
        /// Bytes.
        found: usize,
        /// Of the key block.
        version: Version,
    },
}
