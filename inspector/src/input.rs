//! Tokens as they come in files: DER, PEM, hexadecimal digits, base64.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::pem;
use tr34::MAX_TOKEN_LEN;

/// No file is looked at that is longer: a token in hexadecimal digits, with room for line ends and the
/// text in front of PEM.
pub const MAX_INPUT_LEN: usize = 3 * MAX_TOKEN_LEN;

/// How a token was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its bytes.
    Der,
    /// RFC 7468, of whatever label; the length of its lines does not count.
    Pem,
    /// Hexadecimal digits; white space and colons between them do not count.
    Hex,
    /// Base64; white space does not count.
    Base64,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Der => "DER",
            Self::Pem => "PEM",
            Self::Hex => "hexadecimal digits",
            Self::Base64 => "base64",
        })
    }
}

/// A token as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its DER, or what is said to be that.
    pub der: Vec<u8>,
    /// How it was written.
    pub form: Form,
    /// The text in front of PEM, which RFC 7468 section 2 allows.
    pub preamble: String,
}

/// Bytes in none of the forms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Nothing at all.
    #[error("there is nothing in it")]
    Empty,
    /// Too long.
    #[error("it is longer than {MAX_INPUT_LEN} bytes, so it is no token")]
    TooLong,
    /// PEM that does not decode.
    #[error("it looks like PEM, and is none: {0}")]
    Pem(String),
    /// More than one PEM block.
    #[error("it has more than one PEM block: give one token at a time")]
    SeveralBlocks,
    /// Text that is neither.
    #[error("it is neither DER (whose first byte is 30), PEM, hexadecimal digits nor base64: {0}")]
    Unknown(String),
}

/// The tag that each token starts with.
const SEQUENCE: u8 = 0x30;

/// What some editors put in front of text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Characters in a line of PEM.
const PEM_LINE_LEN: usize = 64;

const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";

impl Input {
    /// From a file's bytes.
    ///
    /// # Errors
    /// They are in none of the forms.
    pub fn read(bytes: &[u8]) -> Result<Self, InputError> {
        if bytes.len() > MAX_INPUT_LEN {
            return Err(InputError::TooLong);
        }
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        // No DER is text throughout: the tags of its numbers and identifiers are not.
        let text = match str::from_utf8(bytes) {
            Ok(text) if text.bytes().all(is_text) => text,
            _ if bytes.first() == Some(&SEQUENCE) => {
                return Ok(Self::of(bytes.to_vec(), Form::Der));
            }
            _ => return Err(InputError::Unknown(starts_with(bytes))),
        };
        if text.trim().is_empty() {
            return Err(InputError::Empty);
        }
        if text.contains(PEM_BEGIN) {
            return Self::of_pem(text);
        }
        let digits = text.trim_start();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let digits: String = digits.split([' ', '\t', '\r', '\n', ':']).collect();
        if let Ok(der) = hex::decode(&digits) {
            return Ok(Self::of(der, Form::Hex));
        }
        let characters: String = text.split_ascii_whitespace().collect();
        match STANDARD.decode(&characters) {
            Ok(der) => Ok(Self::of(der, Form::Base64)),
            Err(_) => Err(InputError::Unknown(starts_with(bytes))),
        }
    }

    fn of_pem(text: &str) -> Result<Self, InputError> {
        let (preamble, block) = text.split_at(text.find(PEM_BEGIN).unwrap_or_default());
        if block.matches(PEM_BEGIN).count() > 1 {
            return Err(InputError::SeveralBlocks);
        }
        // Lines are as long and end as PEM has them, and nothing stands behind the last one.
        let lines: Vec<_> = block.trim_end().lines().map(str::trim).collect();
        let [begin, body @ .., end] = &lines[..] else {
            return Err(InputError::Pem("it is a single line".to_owned()));
        };
        if !end.starts_with(PEM_END) {
            let cause = format!("it is cut off: its last line does not begin with {PEM_END:?}");
            return Err(InputError::Pem(cause));
        }
        let body = body.concat();
        let mut block = format!("{begin}\n");
        for line in body.as_bytes().chunks(PEM_LINE_LEN) {
            block.extend(line.iter().map(|&byte| char::from(byte)));
            block.push('\n');
        }
        block.push_str(end);
        block.push('\n');
        let (_, der) = pem::decode_vec(block.as_bytes())
            .map_err(|error| InputError::Pem(error.to_string()))?;
        Ok(Self {
            der,
            form: Form::Pem,
            preamble: preamble.to_owned(),
        })
    }

    const fn of(der: Vec<u8>, form: Form) -> Self {
        Self {
            der,
            form,
            preamble: String::new(),
        }
    }
}

const fn is_text(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// No more than the first byte is shown: the file may hold a key.
fn starts_with(bytes: &[u8]) -> String {
    let first = &bytes[..bytes.len().min(1)];
    format!("it starts with {}", hex::encode_upper(first))
}
