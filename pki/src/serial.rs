//! Serial numbers of certificates.

use std::fmt;

/// Shortest and longest content of a serial number that is issued: 62 random bits or more, since two
/// are fixed, and the limit of RFC 5280 4.1.2.2.
pub(crate) const ISSUED_LEN: std::ops::RangeInclusive<usize> = 8..=20;

/// A positive serial number: the content bytes of its `INTEGER`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber(Vec<u8>);

/// Bytes that do not make a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Fewer than 8 or more than 20 bytes.
    #[error("a serial number is made of 8 to 20 random bytes")]
    Length,
    /// All bytes are the same: that is no randomness.
    #[error("the random bytes for a serial number are all the same")]
    NotRandom,
    /// Not the shortest form of a positive number of at most 20 bytes.
    #[error("a serial number is a positive number of at most 20 bytes")]
    NotPositive,
}

impl SerialNumber {
    /// A serial number whose content is exactly as long as `random`: the two top bits are set to 01,
    /// so that the number is positive and cannot shrink.
    ///
    /// # Errors
    /// The length is not 8 to 20, or the bytes are all the same.
    pub fn from_random(random: &[u8]) -> Result<Self, SerialError> {
        if !ISSUED_LEN.contains(&random.len()) {
            return Err(SerialError::Length);
        }
        if random.iter().all(|byte| Some(byte) == random.first()) {
            return Err(SerialError::NotRandom);
        }
        let mut content = random.to_vec();
        if let Some(first) = content.first_mut() {
            *first = *first & 0x3F | 0x40;
        }
        Ok(Self(content))
    }

    /// From the content bytes of an `INTEGER`.
    ///
    /// # Errors
    /// The number is not positive, not in its shortest form, or longer than 20 bytes.
    pub fn from_content(content: &[u8]) -> Result<Self, SerialError> {
        let shortest = match content {
            [0x00, second, ..] => *second >= 0x80,
            [first, ..] => (0x01..0x80).contains(first),
            [] => false,
        };
        if !shortest || content.len() > *ISSUED_LEN.end() {
            return Err(SerialError::NotPositive);
        }
        Ok(Self(content.to_vec()))
    }

    /// From lower- or upper-case hex, as [`fmt::Display`] prints it.
    ///
    /// # Errors
    /// The text is not hex, or not a serial number.
    pub fn from_hex(text: &str) -> Result<Self, SerialError> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let content: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
                _ => None,
            })
            .collect();
        Self::from_content(&content.ok_or(SerialError::NotPositive)?)
    }

    /// The content bytes of the `INTEGER`.
    pub fn content(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn to_x509(&self) -> der::Result<x509_cert::serial_number::SerialNumber> {
        // The library takes the number without the zero that keeps it positive.
        let number = self.0.strip_prefix(&[0x00]).unwrap_or(&self.0);
        x509_cert::serial_number::SerialNumber::new(number)
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}
