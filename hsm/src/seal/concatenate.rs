//! Concatenate: the key block is put together inside the module, as a secret of its own, and wrapped
//! under Ke.
//!
//! Takes any frame and any length of key, and a Kn from which keys may be derived.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, misc::KeyDerivationStringData},
    object::{Attribute, KeyType, ObjectHandle},
};
use tr34::{ContentEncryption, KeyBlockFrame};

use crate::{
    HsmError,
    answer::wrap,
    cipher,
    error::CallResult,
    session::Session,
    template::{KEY_BLOCK, KEY_BLOCK_WITHOUT_END, Lives, Template},
    worker::Ephemeral,
};

pub(super) const MECHANISMS: [(MechanismType, &str); 2] = [
    (
        MechanismType::CONCATENATE_DATA_AND_BASE,
        "CKM_CONCATENATE_DATA_AND_BASE",
    ),
    (
        MechanismType::CONCATENATE_BASE_AND_DATA,
        "CKM_CONCATENATE_BASE_AND_DATA",
    ),
];

pub(super) fn encrypt(
    session: &Session,
    ke: ObjectHandle,
    encryption: &ContentEncryption,
    frame: &KeyBlockFrame,
    kn: ObjectHandle,
) -> Result<Vec<u8>, HsmError> {
    let block = assemble(session, frame, kn)?;
    wrap(
        session,
        &cipher::padded(encryption),
        ke,
        block.handle(),
        encryption.cipher().padded_len(frame.total_len()),
        "seal: wrap the key block",
    )
}

/// The key block.
pub(super) fn assemble<'s>(
    session: &'s Session,
    frame: &KeyBlockFrame,
    kn: ObjectHandle,
) -> Result<Ephemeral<'s>, HsmError> {
    let prefix = Mechanism::ConcatenateDataAndBase(KeyDerivationStringData::new(frame.prefix()));
    let operation = "seal: put the key block together";
    let without_end = put_together(session, &prefix, kn, &KEY_BLOCK_WITHOUT_END, operation)?;
    let suffix = Mechanism::ConcatenateBaseAndData(KeyDerivationStringData::new(frame.suffix()));
    put_together(
        session,
        &suffix,
        without_end.handle(),
        &KEY_BLOCK,
        operation,
    )
}

/// What a secret and bytes beside it are together.
pub(crate) fn put_together<'s>(
    session: &'s Session,
    mechanism: &Mechanism<'_>,
    base: ObjectHandle,
    template: &Template,
    operation: &'static str,
) -> Result<Ephemeral<'s>, HsmError> {
    let mut template = template.attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
    let derived = session
        .derive_key(mechanism, base, &template)
        .during(operation)?;
    Ok(Ephemeral::new(session, derived))
}
