//! Names of keys and records in a token.

use std::fmt;

use sha2::{Digest, Sha256};

/// PKCS#11 has room for 32 bytes in a token's label, and keys keep to the same length; the binding
/// would cut longer ones without a word.
pub(crate) const MAX_LABEL_LEN: usize = 32;

/// Records are found by label alone, so theirs can say more.
pub(crate) const MAX_RECORD_LABEL_LEN: usize = 64;

const ID_LEN: usize = 16;

/// `CKA_LABEL` and `CKA_ID` of a key: together with its class, what finds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    label: String,
    id: Vec<u8>,
}

/// A name outside of the naming scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Labels are 1 to 32 of `a-z 0-9 . _ : -` (records: 64).
    #[error("{0:?} is not a label: 1 to {1} of a-z 0-9 . _ : - are")]
    Label(String, usize),
    /// Token labels are 1 to 32 printable ASCII characters without blanks at either end.
    #[error("{0:?} is not a token's label: 1 to 32 printable ASCII characters are")]
    TokenLabel(String),
    /// Ids are 1 to 64 bytes.
    #[error("an id has 1 to 64 bytes, not {0}")]
    Id(usize),
}

impl KeyName {
    /// A key whose id follows from its label: the first 16 bytes of the label's SHA-256.
    ///
    /// # Errors
    /// The label is not 1 to 32 of `a-z 0-9 . _ : -`.
    pub fn new(label: &str) -> Result<Self, NameError> {
        let digest = Sha256::digest(label);
        Self::with_id(label, &digest[..ID_LEN])
    }

    /// A key among several of the same label.
    ///
    /// # Errors
    /// As for [`Self::new`], or the id does not have 1 to 64 bytes.
    pub fn with_id(label: &str, id: &[u8]) -> Result<Self, NameError> {
        validate_label(label, MAX_LABEL_LEN)?;
        if !(1..=64).contains(&id.len()) {
            return Err(NameError::Id(id.len()));
        }
        Ok(Self {
            label: label.to_owned(),
            id: id.to_vec(),
        })
    }

    /// `CKA_LABEL`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// `CKA_ID`.
    pub fn id(&self) -> &[u8] {
        &self.id
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

pub(crate) fn validate_label(label: &str, max_len: usize) -> Result<(), NameError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b':' | b'-');
    if (1..=max_len).contains(&label.len()) && label.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameError::Label(label.to_owned(), max_len))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_the_label() {
        let name = KeyName::new("kdh-signing").unwrap();
        assert_eq!(name.id().len(), 16);
        assert_eq!(name, KeyName::new("kdh-signing").unwrap());
        assert_ne!(name.id(), KeyName::new("kdh-signing2").unwrap().id());
    }

    #[test]
    fn labels_that_a_module_would_cut_or_confuse_are_refused() {
        for label in [
            "",
            "a".repeat(33).as_str(),
            "Kdh",
            "kdh signing",
            "kdh\0",
            "schlüssel",
            "a/b",
        ] {
            let refused = Err(NameError::Label(label.to_owned(), MAX_LABEL_LEN));
            assert_eq!(KeyName::new(label), refused);
        }
        assert!(KeyName::new(&"a".repeat(32)).is_ok());
    }

    #[test]
    fn ids_have_bounds() {
        assert_eq!(KeyName::with_id("kn", &[]), Err(NameError::Id(0)));
        assert_eq!(KeyName::with_id("kn", &[0; 65]), Err(NameError::Id(65)));
    }
}
