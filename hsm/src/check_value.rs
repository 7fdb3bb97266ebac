//! Computing check values, on keys that can do nothing else.

use cryptoki::{
    error::{Error as CryptokiError, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectHandle},
};
use tr34::KeyKind;

use crate::{
    HsmError, Kcv, KcvMethod,
    error::CallResult,
    inspect::Flags,
    session::Session,
    template::{AES_CHECK_KEY, Flag, Lives, TDEA_CHECK_KEY, Template},
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

/// The check value of a key that may not make it itself: on a copy, destroyed afterwards, with no
/// other usage.
pub(crate) fn of_copy(
    session: &Session,
    key: ObjectHandle,
    kind: KeyKind,
    len: usize,
) -> Result<Kcv, HsmError> {
    let mut attributes = copy_attributes(session, key, template(kind))?;
    let mut copy = session.copy_object(key, &attributes);
    if let Err(CryptokiError::Pkcs11(RvError::AttributeReadOnly, _)) = copy {
        // Kryoptic's copies are as extractable as their original.
        attributes.retain(|attribute| attribute.attribute_type() != AttributeType::Extractable);
        copy = session.copy_object(key, &attributes);
    }
    let copy = Ephemeral::new(session, copy.during(OPERATION)?);
    of(&copy, session, kind, len)
}

/// What a copy by the template has to have otherwise than its original. Modules refuse to be told to
/// make a sensitive key sensitive.
fn copy_attributes(
    session: &Session,
    original: ObjectHandle,
    template: &Template,
) -> Result<Vec<Attribute>, HsmError> {
    let flags = Flags::read(session, original, &Flag::ALL).during(OPERATION)?;
    let mut attributes = template.attributes(Lives::InSession);
    attributes.retain(|attribute| !flags.contains(attribute));
    Ok(attributes)
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
