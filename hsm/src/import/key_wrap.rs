//! Kn under AES key wrap (RFC 3394, RFC 5649), whose key is held as a ZMK, or arrived beside it under an
//! import pair.

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, KeyType, ObjectHandle},
};
use tr34::{KeyKind, OaepHash};

use super::{ImportError, ImportForm, KeyImport, KeyWrap, policy::require_over};
use crate::{
    HsmError, KeyName, KeyRole, SecretKey,
    cipher::Named,
    error::CallResult,
    inspect::{key_type, measure, public_key, stated_kind, stated_len},
    master_key,
    seal::oaep,
    session::Session,
    template::{ARRIVED_KEY, Lives, MEASURED_KEY, Template},
    worker::{Ephemeral, Worker},
};

pub(super) const OPERATION: &str = "import a key";

impl KeyWrap {
    pub(super) const fn mechanism(&self) -> Mechanism<'static> {
        if self.padded {
            Mechanism::AesKeyWrapPad
        } else {
            Mechanism::AesKeyWrap
        }
    }

    /// What the module would have to list.
    pub(super) const fn named(padded: bool) -> Named {
        if padded {
            (MechanismType::AES_KEY_WRAP_PAD, "CKM_AES_KEY_WRAP_PAD")
        } else {
            (MechanismType::AES_KEY_WRAP, "CKM_AES_KEY_WRAP")
        }
    }

    pub(super) const fn rfc(&self) -> &'static str {
        if self.padded { "RFC 5649" } else { "RFC 3394" }
    }
}

/// A transport key as it arrived.
pub(super) struct Arrived<'a> {
    pub(super) pair: &'a KeyName,
    pub(super) oaep: OaepHash,
    pub(super) encrypted: &'a [u8],
}

/// Kn under a ZMK.
pub(super) fn import_under(
    worker: &mut Worker,
    zmk: &KeyName,
    key: &KeyWrap,
    import: &KeyImport,
    name: &KeyName,
    derives: bool,
) -> Result<SecretKey, HsmError> {
    let under = worker.key(KeyRole::Zmk, zmk)?;
    // SoftHSM states no length of a key that it unwrapped, and one that never comes out cannot be measured.
    if let Some(kind) = stated_kind(&worker.session, under, zmk.label())? {
        let form = ImportForm::Zmk.name();
        require_over(kind, import.kind, zmk.label(), form)?;
    }
    enter(worker, under, zmk.label(), key, import, name, derives)
}

/// Kn under a transport key, which arrived under an import pair. The transport key goes with this call.
pub(super) fn import_arrived(
    worker: &mut Worker,
    arrived: &Arrived<'_>,
    key: &KeyWrap,
    import: &KeyImport,
    name: &KeyName,
    derives: bool,
) -> Result<SecretKey, HsmError> {
    let pair = worker.key(KeyRole::ImportPair, arrived.pair)?;
    let session = &worker.session;
    let modulus_len = public_key(session, pair, arrived.pair)?
        .rsa_components()
        .map_or(0, |(modulus, _)| modulus.len());
    if arrived.encrypted.len() != modulus_len {
        return Err(ImportError::TransportKeyLength {
            pair: arrived.pair.label().to_owned(),
            expected: modulus_len,
            found: arrived.encrypted.len(),
        }
        .into());
    }
    let does_not_open = || ImportError::TransportKey {
        pair: arrived.pair.label().to_owned(),
        hash: arrived.oaep.name(),
    };
    let unwrapped =
        |template| unwrap_arrived(session, pair, arrived.oaep, arrived.encrypted, template);
    let under = refused_as(unwrapped(&ARRIVED_KEY), does_not_open)?;
    let stated = stated_len(session, under.handle()).during(OPERATION)?;
    let len = if let Some(len) = stated {
        len
    } else {
        // As for Ke of a key token.
        let measured = unwrapped(&MEASURED_KEY)?;
        let len = measure(session, measured.handle(), "the transport key");
        refused_as(len, does_not_open)?
    };
    // What is no key of AES is no transport key.
    let kind = [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256]
        .into_iter()
        .find(|kind| kind.key_len() == len)
        .ok_or_else(does_not_open)?;
    let (label, form) = ("the transport key", ImportForm::RsaOaep.name());
    require_over(kind, import.kind, label, form)?;
    enter(worker, under.handle(), label, key, import, name, derives)
}

/// The transport key as a session key by this template.
pub(super) fn unwrap_arrived<'s>(
    session: &'s Session,
    pair: ObjectHandle,
    hash: OaepHash,
    encrypted: &[u8],
    template: &Template,
) -> Result<Ephemeral<'s>, HsmError> {
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(KeyType::AES));
    let key = session
        .unwrap_key(&oaep(hash), pair, encrypted, &attributes)
        .during(OPERATION)?;
    Ok(Ephemeral::new(session, key))
}

/// Kn by this template, with more attributes.
pub(super) fn unwrap<'s>(
    session: &'s Session,
    under: ObjectHandle,
    key: &KeyWrap,
    kind: KeyKind,
    (template, lives): (&Template, Lives),
    more: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let mut attributes = template.attributes_with_class(lives);
    attributes.push(Attribute::KeyType(key_type(kind)));
    attributes.extend_from_slice(more);
    let key = session
        .unwrap_key(&key.mechanism(), under, &key.bytes, &attributes)
        .during(OPERATION)?;
    Ok(Ephemeral::new(session, key))
}

fn enter(
    worker: &Worker,
    under: ObjectHandle,
    label: &str,
    key: &KeyWrap,
    import: &KeyImport,
    name: &KeyName,
    derives: bool,
) -> Result<SecretKey, HsmError> {
    let kind = import.kind;
    let make = |template: &Template, lives: Lives, more: &[Attribute]| {
        unwrap(&worker.session, under, key, kind, (template, lives), more)
    };
    // Whether it opens at all, before anything is said of what it is.
    let opens = make(crate::check_value::template(kind), Lives::InSession, &[]);
    let does_not_open = || ImportError::WrappedKey {
        under: label.to_owned(),
        rfc: key.rfc(),
    };
    drop(refused_as(opens, does_not_open)?);
    master_key::enter(worker, name, kind, &import.kcv, derives, make)
}

/// The refusal of what a module did not like, unless it was not there.
pub(super) fn refused_as<T>(
    outcome: Result<T, HsmError>,
    refusal: impl FnOnce() -> ImportError,
) -> Result<T, HsmError> {
    outcome.map_err(|error| match error {
        // Some modules say of a ciphertext that does not open that their device failed.
        lost @ HsmError::Unavailable { .. } if !lost.is_device_error() => lost,
        _ => refusal().into(),
    })
}
