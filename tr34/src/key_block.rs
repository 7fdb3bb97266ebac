//! The clear key block, which is what Ke encrypts.
//!
//! On the host a block is a frame round a key that never leaves the HSM. On the terminal an opened
//! block is read where it lies: nothing here copies the key.

use std::fmt;

use crate::{IssuerAndSerial, Kbh, MalformedToken, Rule, TokenKind, encode, expect, oid, wire};

const VERSION: u8 = 1;

/// Where the key starts in its block.
///
/// The lengths are those of the contents: of the issuer's `Name`, of the serial number's `INTEGER`,
/// of the key, and of the header. An issuing CA that chooses the serial number's length chooses the
/// offset, and so can put the key on a cipher block boundary.
pub fn key_offset(
    issuer_content_len: usize,
    serial_content_len: usize,
    key_len: usize,
    header_len: usize,
) -> usize {
    let element_len = |content_len| encode::header_len(content_len) + content_len;
    let version = encode::version(VERSION).len();
    let kdh = element_len(element_len(issuer_content_len) + element_len(serial_content_len));
    let header_oid = element_len(oid::KEY_BLOCK_HEADER.as_bytes().len());
    let header = element_len(header_oid + element_len(element_len(header_len)));
    let content_len = version + kdh + element_len(key_len) + header;
    encode::header_len(content_len) + version + kdh + encode::header_len(key_len)
}

/// All of a key block except its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBlockFrame {
    prefix: Vec<u8>,
    key_len: usize,
    suffix: Vec<u8>,
}

impl KeyBlockFrame {
    /// The frame round a key of `key_len` bytes, from the KDH that `kdh` names.
    pub fn new(kdh: &IssuerAndSerial, header: &Kbh, key_len: usize) -> Self {
        let before_key = [
            &encode::version(VERSION)[..],
            &kdh.to_der(),
            &encode::header(encode::OCTET_STRING, key_len),
        ]
        .concat();
        let suffix = header.to_attribute();
        let content_len = before_key.len() + key_len + suffix.len();
        Self {
            prefix: [encode::header(encode::SEQUENCE, content_len), before_key].concat(),
            key_len,
            suffix,
        }
    }

    /// What stands before the key.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What stands behind the key.
    pub fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// Bytes of the key.
    pub const fn key_len(&self) -> usize {
        self.key_len
    }

    /// Bytes of the block, the key's among them.
    pub const fn total_len(&self) -> usize {
        self.prefix.len() + self.key_len + self.suffix.len()
    }
}

/// A key block that was opened. The key stays in the bytes that were parsed, so wiping them wipes
/// it.
pub struct KeyBlock<'a> {
    kdh: IssuerAndSerial,
    key: &'a [u8],
    header: Kbh,
}

impl<'a> KeyBlock<'a> {
    /// From DER.
    ///
    /// Whether the key's length fits the header is for [`Kbh::key_kind`] to say.
    ///
    /// # Errors
    /// The bytes are not one key block of version 1 with an acceptable header.
    pub fn parse(der: &'a [u8]) -> Result<Self, MalformedToken> {
        let read = || -> Result<Self, Rule> {
            let block: wire::KeyBlock<'a> = wire::decode(der)?;
            expect::version("key block", block.version, VERSION)?;
            Ok(Self {
                kdh: IssuerAndSerial::of_element(block.kdh)?,
                key: block.key.as_bytes(),
                header: Kbh::of_attribute(&block.header)?,
            })
        };
        read().map_err(TokenKind::KeyBlock.breaks())
    }

    /// Who made the block.
    pub const fn kdh(&self) -> &IssuerAndSerial {
        &self.kdh
    }

    /// The clear key; the only reader.
    pub const fn expose_clear(&self) -> &'a [u8] {
        self.key
    }

    /// What the key is for.
    pub const fn header(&self) -> &Kbh {
        &self.header
    }
}

impl fmt::Debug for KeyBlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBlock({}, {} bytes)", self.header, self.key.len())
    }
}
