//! Kn in a TR-31 block of version D.
//!
//! The keys of the block are derived from the KBPK inside, the payload is put together round Kn inside. Its last
//! block is padding and known here, so that CMAC's subkey can be added to it; the MAC is the last block of a CBC
//! encryption then, of which the middle part is a wrapping of what nobody sees.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, misc::KeyDerivationStringData},
    object::ObjectHandle,
};
use tr31::{BlockKey, Derivation, KeyBlock, KeyBlockError, OptionalBlock, Protected, Version};
use tr34::{Kbh, KeyKind};

use super::{ExportError, OPERATION};
use crate::{
    HsmError,
    answer::wrap as wrap_key,
    cipher::Named,
    error::CallResult,
    key_block::{Authentication, BLOCK_LEN, START, derive},
    seal::put_together,
    session::Session,
    template::{BLOCK_WRAPPING_KEY, KEY_BLOCK, KEY_BLOCK_WITHOUT_END},
};

/// What the module would have to list.
pub(super) const MECHANISMS: [Named; 4] = [
    (
        MechanismType::SP800_108_COUNTER_KDF,
        "CKM_SP800_108_COUNTER_KDF",
    ),
    (MechanismType::AES_CBC, "CKM_AES_CBC"),
    (
        MechanismType::CONCATENATE_DATA_AND_BASE,
        "CKM_CONCATENATE_DATA_AND_BASE",
    ),
    (
        MechanismType::CONCATENATE_BASE_AND_DATA,
        "CKM_CONCATENATE_BASE_AND_DATA",
    ),
];

/// A block with a key of `kind` under a KBPK of another. Kn may be derived from.
pub(super) fn make(
    session: &Session,
    (kbpk, kbpk_kind): (ObjectHandle, KeyKind),
    (kn, kind): (ObjectHandle, KeyKind),
    header: &Kbh,
    optional: &[OptionalBlock],
) -> Result<KeyBlock, HsmError> {
    let len = KeyBlock::padded_len(Version::D, kind);
    let (header, optional, written) = written_header(kind, header, optional)?;
    let derivation = |key| {
        Derivation::new(Version::D, kbpk_kind, key).map_err(|error| HsmError::BadAnswer {
            operation: OPERATION,
            what: error.to_string(),
        })
    };
    let (of, template) = (derivation(BlockKey::Encryption)?, &BLOCK_WRAPPING_KEY);
    let encryption = derive(session, kbpk, of, template, OPERATION)?;
    let authentication = Authentication::derive(session, kbpk, derivation, OPERATION)?;

    let length = KeyBlock::key_length_field(kind);
    let mut padding = vec![0; len - KeyBlock::KEY_OFFSET - kind.key_len()];
    session
        .generate_random_slice(&mut padding)
        .during(OPERATION)?;
    let (inner, last) = padding.split_at(padding.len() - BLOCK_LEN);
    let join =
        |mechanism, base, template| put_together(session, &mechanism, base, template, OPERATION);
    let before = Mechanism::ConcatenateDataAndBase(KeyDerivationStringData::new(&length));
    let started = join(before, kn, &KEY_BLOCK_WITHOUT_END)?;
    let behind = |data| Mechanism::ConcatenateBaseAndData(KeyDerivationStringData::new(data));
    let first = join(behind(inner), started.handle(), &KEY_BLOCK_WITHOUT_END)?;
    let whole = join(behind(last), first.handle(), &KEY_BLOCK)?;

    let chain = authentication.encrypt(START, written.as_bytes())?;
    let chain = authentication.wrap(chain, &first, len - BLOCK_LEN)?;
    let mac = authentication.encrypt(chain, &authentication.masked(last)?)?;

    let (iv, key) = (Mechanism::AesCbc(mac), encryption.handle());
    let payload = wrap_key(session, &iv, key, whole.handle(), len, OPERATION)?;
    let protected = Protected {
        payload: &payload,
        mac: &mac,
    };
    Ok(KeyBlock::new(&header, &optional, protected).map_err(ExportError::from)?)
}

/// The header in version D, its optional blocks filled up to whole blocks of AES, and both as they are written.
pub(super) fn written_header(
    kind: KeyKind,
    header: &Kbh,
    optional: &[OptionalBlock],
) -> Result<(Kbh, Vec<OptionalBlock>, String), ExportError> {
    let text = header.without_optional_blocks().to_string();
    let header = Kbh::parse_plain(format!("{}{}", Version::D, &text[1..]).as_bytes());
    let header = header.map_err(KeyBlockError::from)?;
    let mut optional = optional.to_vec();
    optional.extend(OptionalBlock::padding(&optional, Version::D.block_len()));
    let len = KeyBlock::padded_len(Version::D, kind);
    let written = KeyBlock::write_header(&header, &optional, len)?;
    Ok((header, optional, written))
}
