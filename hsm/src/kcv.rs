//! Key check values.

use std::{fmt, ops::RangeInclusive};

use subtle::ConstantTimeEq;
use tr34::KeyKind;

/// How a check value is computed. Values of different methods are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KcvMethod {
    /// The encryption of 8 zero bytes with TDEA in ECB mode.
    TdeaEcb,
    /// The AES-CMAC of 16 zero bytes (ANSI X9.24-1-2017 A.4).
    AesCmac,
}

impl KcvMethod {
    /// The method for keys of a kind.
    pub const fn for_key(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => Self::TdeaEcb,
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => Self::AesCmac,
        }
    }
}

/// The first bytes of what a key makes of zeros: 3 to 5 of them.
#[derive(Clone, Debug)]
pub struct Kcv {
    method: KcvMethod,
    value: Vec<u8>,
}

/// Not a check value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key check value is 3 to 5 bytes")]
pub struct KcvError;

impl Kcv {
    /// Bytes of the check values that are computed here where nothing else is asked.
    pub const LEN: usize = 3;

    /// Bytes that one can have.
    pub(crate) const LENS: RangeInclusive<usize> = 3..=5;

    /// From its bytes.
    ///
    /// # Errors
    /// Not 3 to 5 bytes.
    pub fn new(method: KcvMethod, value: &[u8]) -> Result<Self, KcvError> {
        if !Self::LENS.contains(&value.len()) {
            return Err(KcvError);
        }
        Ok(Self {
            method,
            value: value.to_vec(),
        })
    }

    /// From hexadecimal digits.
    ///
    /// # Errors
    /// Not 6, 8 or 10 hexadecimal digits.
    pub fn parse(method: KcvMethod, digits: &str) -> Result<Self, KcvError> {
        Self::new(method, &hex::decode(digits).map_err(|_| KcvError)?)
    }

    /// How it is computed.
    pub const fn method(&self) -> KcvMethod {
        self.method
    }

    /// Its bytes.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// In constant time. Check values of different methods or lengths are never equal.
impl PartialEq for Kcv {
    fn eq(&self, other: &Self) -> bool {
        self.method == other.method && self.value.ct_eq(&other.value).into()
    }
}

impl Eq for Kcv {}

impl fmt::Display for Kcv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(&self.value))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn shown_in_upper_case() {
        let kcv = Kcv::parse(KcvMethod::AesCmac, "ab12ef").unwrap();
        assert_eq!(kcv.to_string(), "AB12EF");
        assert_eq!(
            kcv,
            Kcv::new(KcvMethod::AesCmac, &[0xab, 0x12, 0xef]).unwrap()
        );
    }

    #[test]
    fn never_equal_across_methods_or_lengths() {
        let kcv = |method, digits| Kcv::parse(method, digits).unwrap();
        let cmac = kcv(KcvMethod::AesCmac, "ab12ef");
        assert_ne!(cmac, kcv(KcvMethod::TdeaEcb, "ab12ef"));
        assert_ne!(cmac, kcv(KcvMethod::AesCmac, "ab12ef00"));
        assert_ne!(cmac, kcv(KcvMethod::AesCmac, "ab12ee"));
    }

    #[test]
    fn what_is_not_a_check_value_is_refused() {
        for digits in ["", "ab12", "ab12e", "ab12e0000000", "ab12eg", "ab 12 ef"] {
            assert_eq!(Kcv::parse(KcvMethod::AesCmac, digits), Err(KcvError));
        }
    }
}
