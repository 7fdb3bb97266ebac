//! Answers of the length that they have to have.

use cryptoki::{mechanism::Mechanism, object::ObjectHandle};

use crate::{HsmError, error::CallResult, session::Session};

/// A key as `C_WrapKey` gives it, which has to be `expected` bytes.
///
/// The binding returns the room that the module asked for, and some modules (NSS) ask for more than they
/// fill then.
pub(crate) fn wrap(
    session: &Session,
    mechanism: &Mechanism<'_>,
    wrapping_key: ObjectHandle,
    key: ObjectHandle,
    expected: usize,
    operation: &'static str,
) -> Result<Vec<u8>, HsmError> {
    let mut wrapped = session
        .wrap_key(mechanism, wrapping_key, key)
        .during(operation)?;
    if filled(&wrapped) <= expected {
        wrapped.truncate(expected);
    }
    require_len(&wrapped, expected, operation)?;
    Ok(wrapped)
}

/// Bytes up to the last that is not zero.
pub(crate) fn filled(answer: &[u8]) -> usize {
    let last = answer.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}

/// Refuses an answer of another length.
pub(crate) fn require_len(
    answer: &[u8],
    expected: usize,
    operation: &'static str,
) -> Result<(), HsmError> {
    if answer.len() == expected {
        return Ok(());
    }
    Err(HsmError::BadAnswer {
        operation,
        what: format!("{} bytes, not {expected}", answer.len()),
    })
}
