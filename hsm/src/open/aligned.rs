//! Aligned: the ciphertext blocks of Kn are unwrapped straight into the token, with the block in
//! front of them as the IV.

use cryptoki::object::{Attribute, ObjectHandle};
use tr34::KeyBlockFrame;

use super::{Encrypted, OPERATION};
use crate::{HsmError, cipher, error::CallResult, session::Session, worker::Ephemeral};

pub(super) fn bring<'s>(
    session: &'s Session,
    ke: ObjectHandle,
    block: &Encrypted<'_>,
    frame: &KeyBlockFrame,
    template: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let (before, from_key_on) = block
        .ciphertext
        .split_at_checked(frame.prefix().len())
        .ok_or(HsmError::OpeningFailed)?;
    let chain = cipher::chained(block.encryption.cipher(), before, OPERATION)?;
    let wrapped = from_key_on
        .get(..frame.key_len())
        .ok_or(HsmError::OpeningFailed)?;
    let kn = session
        .unwrap_key(&cipher::blocks(&chain), ke, wrapped, template)
        .during(OPERATION)?;
    Ok(Ephemeral::new(session, kn))
}
