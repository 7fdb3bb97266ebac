//! A component on its way between a custodian and the HSM.

use std::fmt;

use hsm::{ClearKey, Kcv};
use tr34::KeyKind;
use zeroize::Zeroizing;

use super::{
    Typed,
    digest::{GROUP, GROUPS_PER_LINE},
};

/// Longer than any component, in groups as its printer liked them.
pub(super) const MAX_TYPED: usize = 256;

/// Which component, of which key, and whose.
#[derive(Clone, Copy, Debug)]
pub struct Component<'a> {
    /// Who holds it.
    pub custodian: &'a str,
    /// The label of the key.
    pub key: &'a str,
    /// Algorithm and length of the key.
    pub kind: KeyKind,
    /// Counted from 1.
    pub number: usize,
    /// How many components the key has.
    pub of: usize,
}

/// The HSM's answer to a component that was typed.
#[derive(Clone, Debug)]
pub struct Entered {
    /// Its check value.
    pub kcv: Kcv,
    /// Of a TDEA component. It is shown, and nothing is refused for it: some systems make components
    /// with parity, others do not.
    pub parity: Option<Parity>,
}

/// Why a custodian types a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typing {
    /// It comes in.
    Enter,
    /// It was given out, and they show that they wrote it down.
    Back,
}

/// What a custodian says to a check value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KcvAnswer {
    /// It is the one on the sheet.
    Yes,
    /// Something was mistyped.
    TypeAgain,
    /// The ceremony shall not go on.
    Stop,
}

/// How many bytes have the odd parity of a DES key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parity {
    /// These have it.
    pub odd: usize,
    /// Of these.
    pub bytes: usize,
}

impl Component<'_> {
    /// The hexadecimal digits of it.
    pub const fn digits(&self) -> usize {
        2 * self.kind.key_len()
    }

    /// The component, if what was typed has the form of one. Says otherwise what it is instead.
    ///
    /// # Errors
    /// It is not hexadecimal, or of another length.
    pub fn read(&self, typed: &Typed) -> Result<ClearKey, String> {
        match ClearKey::from_hex(typed.expose_typed().trim()) {
            Ok(clear) if clear.len() == self.kind.key_len() => Ok(clear),
            Ok(clear) => Err(format!(
                "{} bytes long, not {}",
                clear.len(),
                self.kind.key_len()
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The parity of a TDEA component.
    pub fn parity(&self, value: &ClearKey) -> Option<Parity> {
        match self.kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => {
                let bytes = value.expose_clear();
                let odd = bytes.iter().filter(|byte| byte.count_ones() % 2 == 1);
                Some(Parity {
                    odd: odd.count(),
                    bytes: bytes.len(),
                })
            }
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => None,
        }
    }
}

/// A component that is given out, as its custodian writes it down: in groups, in lines of equal length.
pub(super) fn spelled(value: &ClearKey) -> Zeroizing<String> {
    let bytes = value.expose_clear();
    // With room for all of it: to grow would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(4 * bytes.len()));
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (index, digit) in digits.enumerate() {
        if index > 0 && index % GROUP == 0 {
            let line_ends = index % (GROUP * GROUPS_PER_LINE) == 0;
            text.push(if line_ends { '\n' } else { ' ' });
        }
        let digit = char::from_digit(digit.into(), 16).unwrap_or_default();
        text.push(digit.to_ascii_uppercase());
    }
    text
}

impl fmt::Display for Component<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            of,
            key,
            kind,
            ..
        } = self;
        write!(f, "component {number} of {of} of key {key}, {kind}")
    }
}

impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { odd, bytes } = self;
        if odd == bytes {
            write!(f, "odd parity in all {bytes} bytes")
        } else {
            write!(
                f,
                "odd parity in {odd} of {bytes} bytes; nothing is refused for that"
            )
        }
    }
}
