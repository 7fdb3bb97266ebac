//! Extract: the whole key block becomes a secret of the token, and Kn is derived from it.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, misc::ExtractParams},
    object::{Attribute, KeyType, ObjectHandle},
};
use tr34::KeyBlockFrame;

use super::{Encrypted, OPERATION};
use crate::{
    HsmError,
    cipher::{self, Named},
    error::CallResult,
    session::Session,
    template::{Lives, OPENED_KEY_BLOCK},
    worker::Ephemeral,
};

pub(super) const EXTRACT: Named = (
    MechanismType::EXTRACT_KEY_FROM_KEY,
    "CKM_EXTRACT_KEY_FROM_KEY",
);

pub(super) fn bring<'s>(
    session: &'s Session,
    ke: ObjectHandle,
    block: &Encrypted<'_>,
    frame: &KeyBlockFrame,
    template: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let mut whole = OPENED_KEY_BLOCK.attributes_with_class(Lives::InSession);
    whole.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
    let whole = session
        .unwrap_key(
            &cipher::padded(&block.encryption),
            ke,
            block.ciphertext,
            &whole,
        )
        .during(OPERATION)?;
    let whole = Ephemeral::new(session, whole);

    // PKCS#11 counts in bits.
    let offset = ExtractParams::new(frame.prefix().len() * 8);
    let kn = session
        .derive_key(
            &Mechanism::ExtractKeyFromKey(offset),
            whole.handle(),
            template,
        )
        .during(OPERATION)?;
    Ok(Ephemeral::new(session, kn))
}
