//! An AES initial key (ANSI X9.24-3 6.3.3): the encryption of its derivation data under the BDK, cut to its length.

use cryptoki::{
    mechanism::misc::{ExtractParams, KeyDerivationStringData},
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, KeyType, ObjectHandle},
};
use mechanisms::{AES_ECB_ENCRYPT_DATA, ecb_encrypt_data};
use tr34::KeyKind;

use super::{InitialKeyId, OPERATION};
use crate::{
    HsmError,
    cipher::Named,
    error::CallResult,
    session::Session,
    template::{INITIAL_KEY_PART, Lives},
    worker::Ephemeral,
};

pub(super) const MECHANISM: Named = (AES_ECB_ENCRYPT_DATA, "CKM_AES_ECB_ENCRYPT_DATA");

/// Where the module does not cut what it encrypts.
pub(super) const CUTTING: Named = (
    MechanismType::EXTRACT_KEY_FROM_KEY,
    "CKM_EXTRACT_KEY_FROM_KEY",
);

const BLOCK_LEN: usize = 16;

/// Version 1 of the derivation data.
const VERSION: u8 = 1;

/// What is derived is an initial key.
const INITIAL_KEY: [u8; 2] = [0x80, 0x01];

pub(super) fn derive<'s>(
    session: &'s Session,
    bdk: ObjectHandle,
    kind: KeyKind,
    id: InitialKeyId,
    attributes: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let data = derivation_data(kind, id);
    match encrypt(session, bdk, &data, attributes) {
        // Kryoptic, of a key that is shorter than what is encrypted.
        Err(error) if data.len() > kind.key_len() && error.is_refused_attribute() => {
            let mut whole = INITIAL_KEY_PART.attributes_with_class(Lives::InSession);
            whole.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
            whole.push(Attribute::ValueLen(
                data.len().try_into().during(OPERATION)?,
            ));
            let whole = encrypt(session, bdk, &data, &whole)?;
            let start = Mechanism::ExtractKeyFromKey(ExtractParams::new(0));
            let key = session.derive_key(&start, whole.handle(), attributes);
            Ok(Ephemeral::new(session, key.during(OPERATION)?))
        }
        derived => derived,
    }
}

/// Derives a key from a BDK, and destroys it: whether the BDK may.
pub(crate) fn try_to_derive(session: &Session, bdk: ObjectHandle) -> Result<(), HsmError> {
    let mut attributes = INITIAL_KEY_PART.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(KeyType::AES));
    attributes.push(Attribute::ValueLen(BLOCK_LEN.try_into().during(OPERATION)?));
    // Which is derivation data of nothing.
    encrypt(session, bdk, &[0; BLOCK_LEN], &attributes).map(drop)
}

fn encrypt<'s>(
    session: &'s Session,
    bdk: ObjectHandle,
    data: &[u8],
    attributes: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let data = KeyDerivationStringData::new(data);
    let mechanism = ecb_encrypt_data(AES_ECB_ENCRYPT_DATA, &data);
    let key = session.derive_key(&mechanism, bdk, attributes);
    Ok(Ephemeral::new(session, key.during(OPERATION)?))
}

/// A block for every 16 bytes of the key, or part of them.
fn derivation_data(kind: KeyKind, id: InitialKeyId) -> Vec<u8> {
    let (algorithm, bits) = match kind {
        KeyKind::Tdea2 => ([0, 0], [0x00, 0x80]),
        KeyKind::Tdea3 => ([0, 1], [0x00, 0xC0]),
        KeyKind::Aes128 => ([0, 2], [0x00, 0x80]),
        KeyKind::Aes192 => ([0, 3], [0x00, 0xC0]),
        KeyKind::Aes256 => ([0, 4], [0x01, 0x00]),
    };
    let count = kind.key_len().div_ceil(BLOCK_LEN);
    let blocks = (1..).take(count).map(|counter: u8| {
        let what = [[VERSION, counter], INITIAL_KEY, algorithm, bits].concat();
        [&what[..], id.as_bytes()].concat()
    });
    blocks.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ANSI X9.24-3-2017, supplement: what is encrypted for its examples.
    #[test]
    fn derivation_data_are_the_standards() {
        let id = InitialKeyId::new([0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56]);
        for (kind, expected) in [
            (KeyKind::Aes128, "01018001000200801234567890123456"),
            (
                KeyKind::Aes192,
                "01018001000300c0123456789012345601028001000300c01234567890123456",
            ),
            (
                KeyKind::Aes256,
                "0101800100040100123456789012345601028001000401001234567890123456",
            ),
        ] {
            assert_eq!(hex::encode(derivation_data(kind, id)), expected);
        }
    }
}
