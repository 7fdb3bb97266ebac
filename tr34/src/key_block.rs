//! The clear key block, which is what Ke encrypts.
//!
//! On the host a block is a frame round a key that never leaves the HSM. On the terminal an opened
//! block is read where it lies: nothing here copies the key.

use std::fmt;

use der::Tag;

use crate::{
    IssuerAndSerial, Kbh, MalformedToken, Profile, TokenKind, attribute::Attribute, encode, oid,
    profile::KeyBlockForm, read::Fields,
};

impl KeyBlockForm {
    const fn version(self) -> u8 {
        match self {
            Self::Attribute => 1,
            Self::OctetString => 0,
        }
    }

    fn header(self, header: &Kbh) -> Vec<u8> {
        match self {
            Self::Attribute => header.to_attribute(),
            Self::OctetString => encode::octet_string(header.as_bytes()),
        }
    }
}

/// Where the key starts in its block.
///
/// The lengths are those of the contents: of the issuer's `Name`, of the serial number's `INTEGER`,
/// of the key, and of the header. An issuing CA that chooses the serial number's length chooses the
/// offset, and so can put the key on a cipher block boundary.
pub fn key_offset(
    profile: Profile,
    issuer_content_len: usize,
    serial_content_len: usize,
    key_len: usize,
    header_len: usize,
) -> usize {
    let element_len = |content_len| encode::header_len(content_len) + content_len;
    let form = profile.layout().key_block;
    let version = encode::version(form.version()).len();
    let kdh = element_len(element_len(issuer_content_len) + element_len(serial_content_len));
    let header = match form {
        KeyBlockForm::OctetString => element_len(header_len),
        KeyBlockForm::Attribute => {
            let header_oid = element_len(oid::KEY_BLOCK_HEADER.as_bytes().len());
            element_len(header_oid + element_len(element_len(header_len)))
        }
    };
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
    pub fn new(profile: Profile, kdh: &IssuerAndSerial, header: &Kbh, key_len: usize) -> Self {
        let form = profile.layout().key_block;
        let before_key = [
            &encode::version(form.version())[..],
            &kdh.to_der(),
            &encode::header(encode::OCTET_STRING, key_len),
        ]
        .concat();
        let suffix = form.header(header);
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
    /// The bytes are not one key block of this profile with an acceptable header.
    pub fn parse(profile: Profile, der: &'a [u8]) -> Result<Self, MalformedToken> {
        let form = profile.layout().key_block;
        Fields::of_token(TokenKind::KeyBlock, der, |fields| {
            let mut block = fields.sequence("key block")?;
            block.version(form.version())?;
            let kdh = IssuerAndSerial::read(block.next("idKDH", Tag::Sequence)?)?;
            let key = block.octets("clearKey")?.content();
            let field = "key block header";
            let header = match form {
                KeyBlockForm::OctetString => block.octets(field)?,
                KeyBlockForm::Attribute => {
                    Attribute::next(&mut block, field, oid::KEY_BLOCK_HEADER)?.octets(field)?
                }
            };
            block.end()?;
            Ok(Self {
                kdh,
                key,
                header: Kbh::read(header)?,
            })
        })
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
