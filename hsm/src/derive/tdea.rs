//! A TDEA initial key (ANSI X9.24-1-2009 A.6): each half is the encryption of the key serial number's first 8
//! bytes, the left one under the BDK, the right one under the BDK XOR a constant.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, misc::KeyDerivationStringData},
    object::{Attribute, KeyType, ObjectHandle},
};
use mechanisms::{DES3_ECB_ENCRYPT_DATA, ecb_encrypt_data};

use super::{InitialKeyId, OPERATION};
use crate::{
    HsmError,
    cipher::Named,
    error::CallResult,
    session::Session,
    template::{BDK_VARIANT, INITIAL_KEY_PART, Lives},
    worker::Ephemeral,
};

pub(super) const MECHANISMS: [Named; 3] = [
    (DES3_ECB_ENCRYPT_DATA, "CKM_DES3_ECB_ENCRYPT_DATA"),
    (MechanismType::XOR_BASE_AND_DATA, "CKM_XOR_BASE_AND_DATA"),
    (
        MechanismType::CONCATENATE_BASE_AND_KEY,
        "CKM_CONCATENATE_BASE_AND_KEY",
    ),
];

/// Of the eighth byte of a key serial number: the counter's first bits.
pub(super) const COUNTER_BITS: u8 = 0x1F;

const HALF_LEN: usize = 8;

const VARIANT: [u8; 16] = [
    0xC0, 0xC0, 0xC0, 0xC0, 0, 0, 0, 0, 0xC0, 0xC0, 0xC0, 0xC0, 0, 0, 0, 0,
];

pub(super) fn derive<'s>(
    session: &'s Session,
    bdk: ObjectHandle,
    id: InitialKeyId,
    attributes: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let mut variant = BDK_VARIANT.attributes_with_class(Lives::InSession);
    variant.push(Attribute::KeyType(KeyType::DES2));
    let mask = Mechanism::XorBaseAndData(KeyDerivationStringData::new(&VARIANT));
    let variant = session.derive_key(&mask, bdk, &variant).during(OPERATION)?;
    let variant = Ephemeral::new(session, variant);

    let left = encrypt(session, bdk, id)?;
    let right = encrypt(session, variant.handle(), id)?;
    let behind = Mechanism::ConcatenateBaseAndKey(right.handle());
    let key = session.derive_key(&behind, left.handle(), attributes);
    Ok(Ephemeral::new(session, key.during(OPERATION)?))
}

/// A half.
fn encrypt(
    session: &Session,
    under: ObjectHandle,
    id: InitialKeyId,
) -> Result<Ephemeral<'_>, HsmError> {
    let data = KeyDerivationStringData::new(id.as_bytes());
    let mechanism = ecb_encrypt_data(DES3_ECB_ENCRYPT_DATA, &data);
    let mut half = INITIAL_KEY_PART.attributes_with_class(Lives::InSession);
    half.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
    half.push(Attribute::ValueLen(HALF_LEN.try_into().during(OPERATION)?));
    let half = session.derive_key(&mechanism, under, &half);
    Ok(Ephemeral::new(session, half.during(OPERATION)?))
}
