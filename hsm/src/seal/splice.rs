//! Splice: the three parts of a CBC encryption, the middle one by `C_WrapKey`.
//!
//! CBC carries nothing from one block to the next but the last ciphertext block. If Kn starts and
//! ends on a block boundary, the encryption of `prefix || Kn || suffix` can be cut there, each part
//! taking the last block of the one before as its IV, and only the module sees what is in the
//! middle.

use cryptoki::object::ObjectHandle;
use tr34::{ContentCipher, ContentEncryption, KeyBlockFrame};

use super::concatenate;
use crate::{
    HsmError,
    answer::{require_len, wrap},
    cipher,
    error::CallResult,
    session::Session,
};

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
    encryption: &ContentEncryption,
    frame: &KeyBlockFrame,
    kn: ObjectHandle,
) -> Result<Vec<u8>, HsmError> {
    let operation = "seal: encrypt the prefix";
    let mut ciphertext = session
        .encrypt(&cipher::blocks(encryption), ke, frame.prefix())
        .during(operation)?;
    require_len(&ciphertext, frame.prefix().len(), operation)?;

    let operation = "seal: wrap Kn";
    let chain = cipher::chained(encryption.cipher(), &ciphertext, operation)?;
    let mechanism = cipher::blocks(&chain);
    ciphertext.extend(wrap(
        session,
        &mechanism,
        ke,
        kn,
        frame.key_len(),
        operation,
    )?);

    let operation = "seal: encrypt the suffix";
    let chain = cipher::chained(encryption.cipher(), &ciphertext, operation)?;
    let end = session
        .encrypt(&cipher::padded(&chain), ke, frame.suffix())
        .during(operation)?;
    let expected = encryption.cipher().padded_len(frame.suffix().len());
    require_len(&end, expected, operation)?;
    ciphertext.extend(end);
    Ok(ciphertext)
}
