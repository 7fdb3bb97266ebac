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
///
/// # Errors
/// As [`unwrap_as`].
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
///
/// # Errors
/// [`StorageError::DoesNotOpen`]: it does not, while what the pair has just wrapped does. Otherwise the failed call: it
/// may well be the HSM that could not.
pub(super) fn unwrap_as<'s>(
    session: &'s Session,
    pair: Pair,
    kind: KeyKind,
    wrapped: &[u8],
    template: (&Template, &[Attribute]),
) -> Result<Ephemeral<'s>, HsmError> {
    let open = || unwrap_by(session, pair, kind, wrapped, template);
    match open() {
        Err(failed) if may_be_the_key(&failed) => match takes_back(session, pair) {
            Ok(()) => open().map_err(|failed| not_open(failed, pair)),
            Err(_) => Err(failed),
        },
        outcome => outcome,
    }
}

/// Whether the pair does for a throw-away key what it is to do for any.
fn takes_back(session: &Session, pair: Pair) -> Result<(), HsmError> {
    let kind = StorageNumber::KIND;
    let throw_away = generate(session, kind)?;
    let wrapped = wrap(session, pair.key, throw_away.handle(), kind)?;
    let template = (&TRANSPORT_KEY, &[Flag::Derive.set(false)][..]);
    unwrap_by(session, pair, kind, &wrapped, template).map(drop)
}

/// What a failed call says, of an HSM that can.
pub(super) fn not_open(failed: HsmError, pair: Pair) -> HsmError {
    if may_be_the_key(&failed) {
        StorageError::DoesNotOpen(pair.number).into()
    } else {
        failed
    }
}

/// Whether a call that failed so may have been given what does not open. Some modules say of that that their device
/// failed.
fn may_be_the_key(failed: &HsmError) -> bool {
    match failed {
        HsmError::Unavailable { .. } => failed.is_device_error(),
        other => !other.is_stale_key(),
    }
}

pub(super) fn unwrap_by<'s>(
    session: &'s Session,
    pair: Pair,
    kind: KeyKind,
    wrapped: &[u8],
    (template, more): (&Template, &[Attribute]),
) -> Result<Ephemeral<'s>, HsmError> {
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(key_type(kind)));
    attributes.extend_from_slice(more);
    let key = session
        .unwrap_key(&Mechanism::AesKeyWrap, pair.key, wrapped, &attributes)
        .during("open a stored key")?;
    Ok(Ephemeral::new(session, key))
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
