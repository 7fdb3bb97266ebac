//! Kn made, wrapped, taken back and bound to its record, in one session.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
};
use tr34::KeyKind;

use super::{Authenticated, Mac, NewKey, StorageError, StorageNumber, wrapped_len};
use crate::{
    HsmError, Kcv, KeyRole, answer, check_value,
    error::CallResult,
    inspect::key_type,
    keys::generate_aes,
    session::Session,
    template::{Flag, Lives, NEW_AES_KEY, NEW_TDEA_KEY, TRANSPORT_KEY, Template},
    worker::{Ephemeral, Worker},
};

/// The two of a pair, in one session.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(super) number: StorageNumber,
    pub(super) key: ObjectHandle,
    pub(super) mac: ObjectHandle,
}

impl Pair {
    /// The pair of this number in a worker's session.
    pub(super) fn of(worker: &mut Worker, number: StorageNumber) -> Result<Self, HsmError> {
        Ok(Self {
            number,
            key: worker.key(KeyRole::Storage, &number.key_name()?)?,
            mac: worker.key(KeyRole::StorageMac, &number.mac_name()?)?,
        })
    }
}

/// Kn, for as long as it is in scope. It can be wrapped and make its check value.
pub(super) fn generate(session: &Session, kind: KeyKind) -> Result<Ephemeral<'_>, HsmError> {
    const OPERATION: &str = "make a key";
    let (mechanism, template) = match kind {
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => {
            return generate_aes(session, &NEW_AES_KEY, kind.key_len()).during(OPERATION);
        }
        KeyKind::Tdea2 => (Mechanism::Des2KeyGen, &NEW_TDEA_KEY),
        KeyKind::Tdea3 => (Mechanism::Des3KeyGen, &NEW_TDEA_KEY),
    };
    let attributes = template.attributes(Lives::InSession);
    let key = session.generate_key(&mechanism, &attributes);
    Ok(Ephemeral::new(session, key.during(OPERATION)?))
}

/// A new Kn: its check value, and itself as it is stored. It is gone from the session when this is done.
pub(super) fn make(
    session: &Session,
    key: ObjectHandle,
    new: NewKey,
) -> Result<(Kcv, Vec<u8>), HsmError> {
    let kn = generate(session, new.kind)?;
    let kcv = check_value::of(&kn, session, new.kind, new.kcv_len)?;
    let wrapped = wrap(session, key, kn.handle(), new.kind)?;
    Ok((kcv, wrapped))
}

pub(super) fn wrap(
    session: &Session,
    key: ObjectHandle,
    kn: ObjectHandle,
    kind: KeyKind,
) -> Result<Vec<u8>, HsmError> {
    let (mechanism, len) = (Mechanism::AesKeyWrap, wrapped_len(kind));
    answer::wrap(session, &mechanism, key, kn, len, "store a key")
}

/// A stored key as a master key, of which `derives` says whether it may be derived from.
pub(super) fn unwrap<'s>(
    session: &'s Session,
    pair: Pair,
    kind: KeyKind,
    wrapped: &[u8],
    derives: bool,
) -> Result<Ephemeral<'s>, HsmError> {
    let derive = [Flag::Derive.set(derives)];
    unwrap_as(session, pair, kind, wrapped, (&TRANSPORT_KEY, &derive))
}

/// The same by another template, with more attributes.
pub(super) fn unwrap_as<'s>(
    session: &'s Session,
    pair: Pair,
    kind: KeyKind,
    wrapped: &[u8],
    (template, more): (&Template, &[Attribute]),
) -> Result<Ephemeral<'s>, HsmError> {
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(key_type(kind)));
    attributes.extend_from_slice(more);
    let unwrapped = session
        .unwrap_key(&Mechanism::AesKeyWrap, pair.key, wrapped, &attributes)
        .during("open a stored key");
    match unwrapped {
        Ok(key) => Ok(Ephemeral::new(session, key)),
        // Some modules say of what does not open that their device failed.
        Err(lost @ HsmError::Unavailable { .. }) if !lost.is_device_error() => Err(lost),
        Err(gone) if gone.is_stale_key() => Err(gone),
        Err(_) => Err(StorageError::DoesNotOpen(pair.number).into()),
    }
}

pub(crate) fn sign(session: &Session, key: ObjectHandle, bytes: &[u8]) -> Result<Mac, HsmError> {
    const OPERATION: &str = "make a MAC";
    let mac = session
        .sign(&Mechanism::AesCMac, key, bytes)
        .during(OPERATION)?;
    Mac::new(&mac).map_err(|error| HsmError::BadAnswer {
        operation: OPERATION,
        what: error.to_string(),
    })
}

/// Refuses bytes that do not have their MAC. It is made again and compared: not every module verifies them.
pub(super) fn verify(
    session: &Session,
    key: ObjectHandle,
    record: &Authenticated,
) -> Result<(), HsmError> {
    if sign(session, key, &record.bytes)? == record.mac {
        return Ok(());
    }
    Err(StorageError::WrongMac(record.number).into())
}
