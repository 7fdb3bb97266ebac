//! Optional blocks of a header.

use crate::KeyBlockError;

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
    pub fn new(id: &str, data: &str) -> Result<Self, KeyBlockError> {
        let refused = |cause| KeyBlockError::OptionalBlock { at: 0, cause };
        if !is_id(id) {
            return Err(refused(NOT_AN_ID));
        }
        if !data.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(refused("has data that is no printable ASCII"));
        }
        Ok(Self {
            id: id.to_owned(),
            data: data.to_owned(),
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

    /// `count` blocks from the start of `text`, which stands at `at` in its key block. Returns how many
    /// characters they have too.
    pub(crate) fn parse_all(
        text: &str,
        count: usize,
        at: usize,
    ) -> Result<(Vec<Self>, usize), KeyBlockError> {
        let mut blocks: Vec<Self> = Vec::with_capacity(count);
        let mut parsed = 0;
        for _ in 0..count {
            let refused = |cause| KeyBlockError::OptionalBlock {
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
        let block = Self {
            id: id.to_owned(),
            data: data.to_owned(),
        };
        Ok((block, len))
    }

    pub(crate) fn encode(&self) -> String {
        let len = HEADER_LEN + self.data.len();
        let (id, data) = (&self.id, &self.data);
        if len <= MAX_SHORT_LEN {
            format!("{id}{len:02X}{data}")
        } else {
            format!("{id}0002{:04X}{data}", EXTENDED_HEADER_LEN + data.len())
        }
    }
}

const NOT_AN_ID: &str = "has an identifier that is not two upper-case letters or digits";

fn is_id(id: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    id.len() == 2 && id.bytes().all(known)
}
