//! Kn under AES key wrap (RFC 3394).

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::ObjectHandle,
};
use tr34::KeyKind;

use super::OPERATION;
use crate::{HsmError, answer, cipher::Named, session::Session};

pub(super) const MECHANISM: Named = (MechanismType::AES_KEY_WRAP, "CKM_AES_KEY_WRAP");

/// Bytes by which a wrapped key is longer.
const OVERHEAD: usize = 8;

pub(super) fn wrap(
    session: &Session,
    under: ObjectHandle,
    kn: ObjectHandle,
    kind: KeyKind,
) -> Result<Vec<u8>, HsmError> {
    let len = kind.key_len() + OVERHEAD;
    answer::wrap(session, &Mechanism::AesKeyWrap, under, kn, len, OPERATION)
}
