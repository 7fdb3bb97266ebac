//! Splice: the three parts of a CBC encryption, the middle one by `C_WrapKey`.
//!
//! CBC carries nothing from one block to the next but the last ciphertext block. If Kn starts and
//! ends on a block boundary, the encryption of `prefix || Kn || suffix` can be cut there, each part
//! taking the last block of the one before as its IV, and only the module sees what is in the
//! middle.

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::ObjectHandle,
    session::Session,
};
use tr34::{ContentCipher, KeyBlockFrame};

use super::{BLOCK, concatenate, padded_len, require_len};
use crate::{HsmError, error::CallResult};

pub(super) const MECHANISMS: [(MechanismType, &str); 1] = [(MechanismType::AES_CBC, "CKM_AES_CBC")];

/// Refuses a frame in which Kn does not start and end on a block boundary.
pub(super) fn require_aligned(
    frame: &KeyBlockFrame,
    cipher: ContentCipher,
) -> Result<(), HsmError> {
    let block = cipher.block_len();
    let (offset, len) = (frame.prefix().len(), frame.key_len());
    let operation = if !len.is_multiple_of(block) {
        format!("sealing a key of {len} bytes")
    } else if !offset.is_multiple_of(block) {
        format!("sealing a key at offset {offset} of its block")
    } else {
        return Ok(());
    };
    Err(HsmError::Unsupported {
        operation,
        // What would do for any frame and key length.
        missing: concatenate::MECHANISMS.map(|(_, name)| name).into(),
    })
}

pub(super) fn encrypt(
    session: &Session,
    ke: ObjectHandle,
    iv: [u8; BLOCK],
    frame: &KeyBlockFrame,
    kn: ObjectHandle,
) -> Result<Vec<u8>, HsmError> {
    let operation = "seal: encrypt the prefix";
    let mut ciphertext = session
        .encrypt(&Mechanism::AesCbc(iv), ke, frame.prefix())
        .during(operation)?;
    require_len(&ciphertext, frame.prefix().len(), operation)?;

    let operation = "seal: wrap Kn";
    let chain = last_block(&ciphertext, operation)?;
    let wrapped = session
        .wrap_key(&Mechanism::AesCbc(chain), ke, kn)
        .during(operation)?;
    require_len(&wrapped, frame.key_len(), operation)?;
    ciphertext.extend(wrapped);

    let operation = "seal: encrypt the suffix";
    let chain = last_block(&ciphertext, operation)?;
    let end = session
        .encrypt(&Mechanism::AesCbcPad(chain), ke, frame.suffix())
        .during(operation)?;
    require_len(&end, padded_len(frame.suffix().len()), operation)?;
    ciphertext.extend(end);
    Ok(ciphertext)
}

fn last_block(ciphertext: &[u8], operation: &'static str) -> Result<[u8; BLOCK], HsmError> {
    ciphertext
        .last_chunk()
        .copied()
        .ok_or_else(|| HsmError::BadAnswer {
            operation,
            what: "less than a block".to_owned(),
        })
}
