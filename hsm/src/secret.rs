//! Key bytes outside of the HSM: components, and what the terminal opens in process memory.

use std::fmt;

use cryptoki::object::Attribute;
use zeroize::{Zeroize, Zeroizing};

/// Key bytes outside of the HSM. No Clone, no Serialize, no comparison; wiped on drop.
#[must_use]
// Boxed: it cannot grow, so no reallocation leaves a copy behind.
pub struct ClearKey(Zeroizing<Box<[u8]>>);

/// Text that is not a key in hexadecimal. Does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an even number of hexadecimal digits")]
pub struct ClearKeyError;

impl ClearKey {
    /// A copy of `bytes`; the caller wipes the original.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// From hexadecimal digits, spaces between them allowed: components are printed in groups.
    ///
    /// # Errors
    /// Another character, or half a byte.
    pub fn from_hex(text: &str) -> Result<Self, ClearKeyError> {
        let digits = || text.bytes().filter(|byte| *byte != b' ');
        let count = digits().count();
        if count == 0 || count % 2 == 1 {
            return Err(ClearKeyError);
        }
        let mut key = Zeroizing::new(vec![0_u8; count / 2].into_boxed_slice());
        for (position, digit) in digits().enumerate() {
            let value = char::from(digit).to_digit(16).ok_or(ClearKeyError)?;
            let value = u8::try_from(value).map_err(|_| ClearKeyError)?;
            key[position / 2] = key[position / 2] << 4 | value;
        }
        Ok(Self(key))
    }

    /// The only reader; a reviewer searches for this name.
    pub fn expose_clear(&self) -> &[u8] {
        &self.0
    }

    /// Bytes of the key.
    #[expect(clippy::len_without_is_empty, reason = "a key has a length")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for ClearKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClearKey({} bytes)", self.0.len())
    }
}

/// A key block that was opened in process memory, Kn included. Wiped on drop.
#[must_use]
// Not boxed: to make a box of the buffer could move it and leave a copy behind.
pub struct ClearKeyBlock(Zeroizing<Vec<u8>>);

impl ClearKeyBlock {
    pub(crate) const fn new(block: Zeroizing<Vec<u8>>) -> Self {
        Self(block)
    }

    /// The only reader; a reviewer searches for this name.
    pub fn expose_clear(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClearKeyBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClearKeyBlock({} bytes)", self.0.len())
    }
}

/// A template with `CKA_VALUE` in it, wiped on drop. No Debug: attributes print their values.
pub(crate) struct SecretTemplate(Vec<Attribute>);

impl SecretTemplate {
    pub(crate) fn new(mut attributes: Vec<Attribute>, value: &[u8]) -> Self {
        attributes.push(Attribute::Value(value.to_vec()));
        Self(attributes)
    }

    pub(crate) fn as_slice(&self) -> &[Attribute] {
        &self.0
    }
}

impl Drop for SecretTemplate {
    fn drop(&mut self) {
        for attribute in &mut self.0 {
            if let Attribute::Value(value) = attribute {
                value.zeroize();
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn components_are_read_as_they_are_printed() {
        let key = ClearKey::from_hex("0011 2233 4455 6677 8899 AABB ccdd eeff").unwrap();
        assert_eq!(key.len(), 16);
        assert_eq!(key.expose_clear()[..3], [0x00, 0x11, 0x22]);
        assert_eq!(key.expose_clear()[13..], [0xdd, 0xee, 0xff]);
    }

    #[test]
    fn what_is_not_hexadecimal_is_refused() {
        for text in ["", " ", "0", "001", "0g", "0x00", "00\t11", "00-11", "äb"] {
            assert_eq!(
                ClearKey::from_hex(text).err(),
                Some(ClearKeyError),
                "{text}"
            );
        }
    }

    #[test]
    fn debug_shows_lengths_only() {
        let key = ClearKey::copy_from(&[0xab; 16]);
        let block = ClearKeyBlock::new(Zeroizing::new(vec![0xab; 60]));
        assert_eq!(format!("{key:?}"), "ClearKey(16 bytes)");
        assert_eq!(format!("{block:?}"), "ClearKeyBlock(60 bytes)");
    }
}
