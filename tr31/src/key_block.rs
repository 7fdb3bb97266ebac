//! A key block as it is written: header, encrypted payload, MAC.

use std::fmt;

use tr34::{Kbh, KbhError, KbhField, KeyKind};

use crate::{KeyBlockError, OptionalBlock, Version};

/// Characters of the longest block: its length has four digits.
pub const MAX_LEN: usize = 9999;

/// Characters of a header without optional blocks.
const HEADER_LEN: usize = 16;

/// Where the number of optional blocks stands.
const COUNT: std::ops::Range<usize> = 12..14;

/// A key block of version B or D. Nothing of it is decrypted or verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBlock {
    version: Version,
    header: Kbh,
    optional: Vec<OptionalBlock>,
    /// Header and optional blocks as they are authenticated.
    authenticated: String,
    payload: Vec<u8>,
    mac: Vec<u8>,
}

/// What stands behind a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protected<'a> {
    /// The encrypted payload.
    pub payload: &'a [u8],
    /// The MAC.
    pub mac: &'a [u8],
}

impl KeyBlock {
    /// Bytes of the payload in front of the key: how many bits it has.
    pub const KEY_OFFSET: usize = 2;

    /// From its parts. The header's length field is set; `optional` has to fill it up to whole blocks of the
    /// cipher.
    ///
    /// # Errors
    /// The header is of another version than B and D, or has 16 characters and more that are not whole blocks;
    /// the payload is not whole blocks, the MAC not one.
    pub fn new(
        header: &Kbh,
        optional: &[OptionalBlock],
        Protected { payload, mac }: Protected<'_>,
    ) -> Result<Self, KeyBlockError> {
        let version = version_of(header)?;
        if mac.len() != version.block_len() {
            return Err(KeyBlockError::MacLength {
                found: mac.len(),
                version,
            });
        }
        let authenticated = Self::write_header(header, optional, payload.len())?;
        let (payload, mac) = (hex::encode_upper(payload), hex::encode_upper(mac));
        // What is written is read as what it was made of.
        Self::parse(format!("{authenticated}{payload}{mac}").as_bytes())
    }

    /// Header and optional blocks as the MAC authenticates them, for who makes a block round a payload of so many
    /// bytes. The header's length field is set.
    ///
    /// # Errors
    /// As for [`Self::new`], as far as it is seen here.
    pub fn write_header(
        header: &Kbh,
        optional: &[OptionalBlock],
        payload_len: usize,
    ) -> Result<String, KeyBlockError> {
        let version = version_of(header)?;
        let written: String = optional.iter().map(OptionalBlock::encode).collect();
        let header_len = HEADER_LEN + written.len();
        let len = header_len + 2 * (payload_len + version.block_len());
        if len > MAX_LEN {
            return Err(KeyBlockError::TooLong { found: len });
        }
        let count = optional.len();
        if count > 99 {
            return Err(KeyBlockError::OptionalBlockCount);
        }
        if !header_len.is_multiple_of(version.block_len()) {
            return Err(KeyBlockError::HeaderLength {
                found: header_len,
                version,
            });
        }
        let fields = header.to_string();
        let rest = &fields[5..COUNT.start];
        Ok(format!("{version}{len:04}{rest}{count:02}00{written}"))
    }

    /// From its characters.
    ///
    /// # Errors
    /// The bytes are not one key block of version B or D, from its first character to its last.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyBlockError> {
        let found = bytes.len();
        if found > MAX_LEN {
            return Err(KeyBlockError::TooLong { found });
        }
        let text = printable(bytes)?;
        let (Some(fields), Some(id)) = (text.get(..HEADER_LEN), text.chars().next()) else {
            return Err(KeyBlockError::TooShort { found });
        };
        let version = Version::of(id).ok_or(KeyBlockError::Version { found: id })?;
        // A header is one of TR-34 but for its number of optional blocks.
        let plain = [&fields[..COUNT.start], "00", &fields[COUNT.end..]].concat();
        let header = Kbh::parse_plain(plain.as_bytes())?;
        let stated = fields[1..5]
            .parse()
            .map_err(|_| KbhError::UnknownValue(KbhField::BlockLength))?;
        if stated != found {
            return Err(KeyBlockError::Length { stated, found });
        }

        let count = &fields[COUNT];
        let count = count.bytes().all(|digit| digit.is_ascii_digit()).then(|| {
            let [tens, ones] = [count.as_bytes()[0], count.as_bytes()[1]];
            usize::from(tens - b'0') * 10 + usize::from(ones - b'0')
        });
        let count = count.ok_or(KeyBlockError::OptionalBlockCount)?;
        let (optional, len) = OptionalBlock::parse_all(&text[HEADER_LEN..], count, HEADER_LEN)?;
        let header_len = HEADER_LEN + len;
        let block_len = version.block_len();
        if !header_len.is_multiple_of(block_len) {
            return Err(KeyBlockError::HeaderLength {
                found: header_len,
                version,
            });
        }

        let (authenticated, rest) = text.split_at(header_len);
        // At least one block of payload, and the MAC.
        let Some(mac_at) = rest
            .len()
            .checked_sub(2 * block_len)
            .filter(|at| *at >= 2 * block_len)
        else {
            return Err(KeyBlockError::TooShort { found });
        };
        let (payload, mac) = rest.split_at(mac_at);
        let payload = from_hex("payload", payload, header_len)?;
        let mac = from_hex("MAC", mac, header_len + mac_at)?;
        if !payload.len().is_multiple_of(block_len) {
            return Err(KeyBlockError::PayloadLength {
                found: payload.len(),
                version,
            });
        }
        Ok(Self {
            version,
            header,
            optional,
            authenticated: authenticated.to_owned(),
            payload,
            mac,
        })
    }

    /// Version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The header's fields, as a header without optional blocks.
    pub const fn header(&self) -> &Kbh {
        &self.header
    }

    /// The optional blocks, in their order.
    pub fn optional_blocks(&self) -> &[OptionalBlock] {
        &self.optional
    }

    /// What the MAC authenticates in front of the clear payload: header and optional blocks as they are
    /// written, whole blocks of the cipher.
    pub fn authenticated_header(&self) -> &[u8] {
        self.authenticated.as_bytes()
    }

    /// The encrypted payload, whole blocks. In clear it is the key's length in bits (two bytes), the key
    /// (from [`Self::KEY_OFFSET`] on), and random bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The MAC, which is the IV of the payload's encryption too.
    pub fn mac(&self) -> &[u8] {
        &self.mac
    }

    /// Whether the payload has room for a key of this kind.
    pub fn has_room_for(&self, kind: KeyKind) -> bool {
        Self::KEY_OFFSET + kind.key_len() <= self.payload.len()
    }

    /// Bytes of the payload of a block that is made here: the same for every key of an algorithm, so that it does not
    /// show the key's length, and with a last block that is all padding.
    pub fn padded_len(version: Version, kind: KeyKind) -> usize {
        let longest = match kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => KeyKind::Tdea3,
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => KeyKind::Aes256,
        };
        let block_len = version.block_len();
        (Self::KEY_OFFSET + longest.key_len()).next_multiple_of(block_len) + block_len
    }

    /// What the payload has in front of a key of this kind.
    pub const fn key_length_field(kind: KeyKind) -> [u8; 2] {
        match kind {
            KeyKind::Tdea2 | KeyKind::Aes128 => [0x00, 0x80],
            KeyKind::Tdea3 | KeyKind::Aes192 => [0x00, 0xC0],
            KeyKind::Aes256 => [0x01, 0x00],
        }
    }
}

/// As it is written.
impl fmt::Display for KeyBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authenticated)?;
        f.write_str(&hex::encode_upper(&self.payload))?;
        f.write_str(&hex::encode_upper(&self.mac))
    }
}

fn version_of(header: &Kbh) -> Result<Version, KeyBlockError> {
    let id = header.version().chars().next().unwrap_or_default();
    Version::of(id).ok_or(KeyBlockError::Version { found: id })
}

fn printable(bytes: &[u8]) -> Result<&str, KeyBlockError> {
    let other = bytes.iter().position(|byte| !matches!(byte, b' '..=b'~'));
    match (other, str::from_utf8(bytes)) {
        (None, Ok(text)) => Ok(text),
        (at, _) => Err(KeyBlockError::NotPrintable {
            at: at.unwrap_or_default(),
        }),
    }
}

/// Upper-case digits at `at` in their key block.
fn from_hex(field: &'static str, digits: &str, at: usize) -> Result<Vec<u8>, KeyBlockError> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    if let Some(position) = digits.bytes().position(|byte| !is_digit(byte)) {
        return Err(KeyBlockError::NotHex {
            field,
            at: at + position,
        });
    }
    // An odd number of digits is no number of bytes.
    hex::decode(digits).map_err(|_| KeyBlockError::NotHex {
        field,
        at: at + digits.len(),
    })
}
