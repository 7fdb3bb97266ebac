//! Computing check values, on keys that can do nothing else.

use cryptoki::{mechanism::Mechanism, object::ObjectHandle, session::Session};
use tr34::KeyKind;

use crate::{
    HsmError, Kcv, KcvMethod,
    error::CallResult,
    template::{AES_CHECK_KEY, Lives, TDEA_CHECK_KEY, Template},
    worker::Ephemeral,
};

const OPERATION: &str = "kcv";

/// The attributes of a key that may only make check values.
pub(crate) const fn template(kind: KeyKind) -> &'static Template {
    match KcvMethod::for_key(kind) {
        KcvMethod::TdeaEcb => &TDEA_CHECK_KEY,
        KcvMethod::AesCmac => &AES_CHECK_KEY,
    }
}

/// The check value of a key that may not make it itself: on a copy, destroyed afterwards. The copy
/// takes over nothing but the value: what the original may do is switched off in it.
pub(crate) fn of_copy(
    session: &Session,
    key: ObjectHandle,
    kind: KeyKind,
    len: usize,
) -> Result<Kcv, HsmError> {
    let copy = session
        .copy_object(key, &template(kind).attributes(Lives::InSession))
        .during(OPERATION)?;
    of(&Ephemeral::new(session, copy), session, kind, len)
}

/// The check value of a key made from [`template`].
pub(crate) fn of(
    key: &Ephemeral<'_>,
    session: &Session,
    kind: KeyKind,
    len: usize,
) -> Result<Kcv, HsmError> {
    let method = KcvMethod::for_key(kind);
    let value = match method {
        KcvMethod::TdeaEcb => session.encrypt(&Mechanism::Des3Ecb, key.handle(), &[0; 8]),
        KcvMethod::AesCmac => session.sign(&Mechanism::AesCMac, key.handle(), &[0; 16]),
    }
    .during(OPERATION)?;
    value
        .get(..len)
        .and_then(|start| Kcv::new(method, start).ok())
        .ok_or_else(|| HsmError::BadAnswer {
            operation: OPERATION,
            what: format!("{} bytes", value.len()),
        })
}
