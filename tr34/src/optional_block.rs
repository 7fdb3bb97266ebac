//! Optional blocks of a key block header (ANSI X9.143, TR-31).

use crate::KbhError;

/// Characters of a block's identifier and of its length.
const HEADER_LEN: usize = 4;
/// Of an extended length: identifier, `00`, `02`, and four digits.
const EXTENDED_HEADER_LEN: usize = 10;
/// The longest block whose length has two hexadecimal digits.
const MAX_SHORT_LEN: usize = 0xFF;

/// An optional block: more about the key, in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OptionalBlock {
    id: String,
    data: String,
}

impl OptionalBlock {
    /// The identifier of the block that fills a header up to whole blocks of the cipher.
    pub const PADDING: &str = "PB";

    /// From identifier and data.
    ///
    /// # Errors
    /// The identifier is not two upper-case letters or digits, or the data is not printable ASCII.
    pub fn new(id: &str, data: &str) -> Result<Self, KbhError> {
        let refused = |cause| KbhError::OptionalBlock { at: 0, cause };
        if !is_id(id) {
            return Err(refused(NOT_AN_ID));
        }
        if !is_printable(data) {
            return Err(refused(NOT_PRINTABLE));
        }
        Ok(Self {
            id: id.to_owned(),
            data: data.to_owned(),
        })
    }

    /// `IK`: the initial key id of a key of AES DUKPT.
    pub fn initial_key_id(id: &[u8; 8]) -> Self {
        Self::of_bytes(INITIAL_KEY_ID, id)
    }

    /// `KS`: the key serial number of an initial key of TDEA DUKPT, with its counter zero.
    pub fn key_serial_number(serial: &[u8; 10]) -> Self {
        Self::of_bytes(KEY_SERIAL_NUMBER, serial)
    }

    pub(crate) fn names_initial_key(&self) -> bool {
        matches!(self.id(), INITIAL_KEY_ID | KEY_SERIAL_NUMBER)
    }

    /// What the block says, in words, of those that are made here.
    pub fn words(&self) -> &'static str {
        match self.id() {
            INITIAL_KEY_ID => "initial key id of AES DUKPT",
            KEY_SERIAL_NUMBER => "key serial number of TDEA DUKPT",
            Self::PADDING => "padding",
            _ => "",
        }
    }

    fn of_bytes(id: &str, bytes: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            data: hex::encode_upper(bytes),
        }
    }

    /// `PB`: what fills a header with these blocks up to whole blocks of a cipher, of so many bytes each; none if that
    /// is not needed.
    pub fn padding(blocks: &[Self], block_len: usize) -> Option<Self> {
        // The fields in front of them are whole blocks.
        let len: usize = blocks.iter().map(|block| block.encode().len()).sum();
        if len.is_multiple_of(block_len) {
            return None;
        }
        // Not every reader takes one without data.
        let with_header = len + HEADER_LEN + 1;
        let data_len = with_header.next_multiple_of(block_len) - with_header + 1;
        Some(Self {
            id: Self::PADDING.to_owned(),
            data: "0".repeat(data_len),
        })
    }

    /// Identifier, two characters.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its data.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// `count` blocks from the start of `text`, which stands at `at` in its header. Returns how many
    /// characters they have too.
    ///
    /// # Errors
    /// [`KbhError::OptionalBlock`]: they are not as many well-formed blocks, each of its own identifier, with
    /// the padding, if there is any, behind the others.
    pub fn parse_all(text: &str, count: usize, at: usize) -> Result<(Vec<Self>, usize), KbhError> {
        let mut blocks: Vec<Self> = Vec::with_capacity(count);
        let mut parsed = 0;
        for _ in 0..count {
            let refused = |cause| KbhError::OptionalBlock {
                at: at + parsed,
                cause,
            };
            if blocks.last().is_some_and(|last| last.id == Self::PADDING) {
                return Err(refused("stands behind the padding, which is the last"));
            }
            let (block, len) = Self::parse(&text[parsed..]).map_err(refused)?;
            if blocks.iter().any(|known| known.id == block.id) {
                return Err(refused("is there twice"));
            }
            blocks.push(block);
            parsed += len;
        }
        Ok((blocks, parsed))
    }

    fn parse(text: &str) -> Result<(Self, usize), &'static str> {
        const CUT: &str = "is longer than what is left of the key block";
        let id = text.get(..2).ok_or(CUT)?;
        if !is_id(id) {
            return Err(NOT_AN_ID);
        }
        let number = |digits: Option<&str>| {
            let digits = digits.ok_or(CUT)?;
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
            if !digits.bytes().all(is_digit) {
                return Err("has a length that is not upper-case hexadecimal");
            }
            usize::from_str_radix(digits, 16).map_err(|_| CUT)
        };
        let (len, header_len) = match number(text.get(2..HEADER_LEN))? {
            0 => {
                if number(text.get(HEADER_LEN..6))? != 2 {
                    return Err("has an extended length of other than 4 digits");
                }
                let len = number(text.get(6..EXTENDED_HEADER_LEN))?;
                if len <= MAX_SHORT_LEN {
                    return Err("has an extended length that two digits could say");
                }
                (len, EXTENDED_HEADER_LEN)
            }
            len => (len, HEADER_LEN),
        };
        if len < header_len {
            return Err("is shorter than its own identifier and length");
        }
        let data = text.get(header_len..len).ok_or(CUT)?;
        if !is_printable(data) {
            return Err(NOT_PRINTABLE);
        }
        let block = Self {
            id: id.to_owned(),
            data: data.to_owned(),
        };
        Ok((block, len))
    }

    /// As it is written: identifier, length and data.
    pub fn encode(&self) -> String {
        let len = HEADER_LEN + self.data.len();
        let (id, data) = (&self.id, &self.data);
        if len <= MAX_SHORT_LEN {
            format!("{id}{len:02X}{data}")
        } else {
            format!("{id}0002{:04X}{data}", EXTENDED_HEADER_LEN + data.len())
        }
    }
}

const INITIAL_KEY_ID: &str = "IK";
const KEY_SERIAL_NUMBER: &str = "KS";

const NOT_PRINTABLE: &str = "has data that is no printable ASCII";
const NOT_AN_ID: &str = "has an identifier that is not two upper-case letters or digits";

fn is_id(id: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    id.len() == 2 && id.bytes().all(known)
}

fn is_printable(data: &str) -> bool {
    data.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_fills_any_header_and_nothing_that_is_full() {
        for block_len in [8, 16] {
            for len in 0..40 {
                let label = OptionalBlock {
                    id: "LB".to_owned(),
                    data: "x".repeat(len),
                };
                let written = label.encode().len();
                let padding = OptionalBlock::padding(&[label], block_len);
                let filled = padding.as_ref().map_or(0, |padding| padding.encode().len());
                assert!((written + filled).is_multiple_of(block_len));
                assert_eq!(padding.is_none(), written.is_multiple_of(block_len));
                assert!(filled <= 4 + block_len);
                assert!(padding.is_none_or(|padding| !padding.data().is_empty()));
            }
            assert_eq!(OptionalBlock::padding(&[], block_len), None);
        }
    }

    #[test]
    fn serial_numbers_are_upper_case_digits() {
        let id = OptionalBlock::initial_key_id(b"\x12\x34\x56\x78\x90\xab\xcd\xef");
        assert_eq!(id.encode(), "IK141234567890ABCDEF");
        let serial = OptionalBlock::key_serial_number(b"\xff\xff\x98\x76\x54\x32\x10\xe0\0\0");
        assert_eq!(serial.encode(), "KS18FFFF9876543210E00000");
    }
}
