//! Finding objects, and reading back what they are.

use std::{fmt, num::NonZeroUsize, thread, time::Duration};

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use pki::PublicKey;
use tr34::KeyKind;

use crate::{
    HsmError, KeyName, KeyRole,
    answer::filled,
    error::CallResult,
    keys::generate_aes,
    limit::Limit,
    session::Session,
    template::{Flag, MEASURING_KEY, Setting},
    worker::Workplace,
};

/// DER of the object identifier of P-256: what `CKA_EC_PARAMS` holds.
pub(crate) const P256_PARAMS: [u8; 10] =
    [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// RFC 3394: a wrapped key is this much longer, and made of pieces of this length.
const KEY_WRAP_OVERHEAD: usize = 8;

/// What a token key is found by. Copies in sessions carry the same name and are left out.
fn key_template(class: ObjectClass, name: &KeyName) -> [Attribute; 4] {
    [
        Attribute::Token(true),
        Attribute::Class(class),
        Attribute::Label(name.label().into()),
        Attribute::Id(name.id().to_vec()),
    ]
}

/// All token keys of this class and name: none, one, or by somebody's mistake more.
pub(crate) fn find_keys(
    session: &Session,
    class: ObjectClass,
    name: &KeyName,
) -> Result<Vec<ObjectHandle>, HsmError> {
    session
        .find_objects(&key_template(class, name))
        .with_key("find a key", name.label())
}

/// How often it is looked again whether two keys of one name are two, and the pause between.
const LOOKS: usize = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// The one token key of this class and name.
///
/// While another session makes a copy of it, `SoftHSM` shows the copy as one more key of the token, until it has
/// taken from it what the copy is not to have. So two are looked at again.
pub(crate) fn find_key(
    session: &Session,
    class: ObjectClass,
    name: &KeyName,
) -> Result<ObjectHandle, HsmError> {
    const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
    let label = name.label();
    for _ in 0..LOOKS {
        let found = session.find_first_objects(&key_template(class, name), TWO);
        match found.with_key("find a key", label)?.as_slice() {
            [] => {
                return Err(HsmError::KeyNotFound {
                    label: label.to_owned(),
                });
            }
            [one] => return Ok(*one),
            _ => thread::sleep(PAUSE),
        }
    }
    Err(HsmError::KeyNotUnique {
        label: label.to_owned(),
    })
}

/// Refuses a name that any key has.
pub(crate) fn require_free(session: &Session, name: &KeyName) -> Result<(), HsmError> {
    for class in [
        ObjectClass::PRIVATE_KEY,
        ObjectClass::PUBLIC_KEY,
        ObjectClass::SECRET_KEY,
    ] {
        if !find_keys(session, class, name)?.is_empty() {
            return Err(HsmError::KeyExists {
                label: name.label().to_owned(),
            });
        }
    }
    Ok(())
}

/// The yes-or-no attributes that the module gives for a key.
pub(crate) struct Flags(Vec<Attribute>);

impl Flags {
    pub(crate) fn read(
        session: &Session,
        key: ObjectHandle,
        flags: &[Flag],
    ) -> cryptoki::error::Result<Self> {
        let types: Vec<AttributeType> = flags.iter().map(|flag| flag.attribute_type()).collect();
        session.get_attributes(key, &types).map(Self)
    }

    /// `None` if the module does not give it.
    pub(crate) fn value(&self, flag: Flag) -> Option<bool> {
        [true, false]
            .into_iter()
            .find(|value| self.contains(&flag.set(*value)))
    }

    pub(crate) fn contains(&self, attribute: &Attribute) -> bool {
        self.0.contains(attribute)
    }
}

/// Refuses a key that can do more, or is guarded less, than its role says.
pub(crate) fn require_role(
    session: &Session,
    key: ObjectHandle,
    role: KeyRole,
    name: &KeyName,
    place: &Workplace,
) -> Result<(), HsmError> {
    let label = name.label();
    let traits = Traits {
        flags: Flags::read(session, key, &Flag::ALL).with_key("read a key's attributes", label)?,
        limit: Limit::read(session, key, label, role.template())?,
    };
    match weaknesses(&traits, role, place).into_iter().next() {
        None => Ok(()),
        Some(weakness) => Err(HsmError::WeakKey {
            label: label.to_owned(),
            attribute: weakness.attribute,
            how: weakness.how,
        }),
    }
}

/// What makes a key strong or weak.
pub(crate) struct Traits {
    pub(crate) flags: Flags,
    pub(crate) limit: Limit,
}

/// An attribute that is not what a key's role says.
pub(crate) struct Weakness {
    attribute: &'static str,
    how: String,
}

impl Weakness {
    fn new(flag: Flag, expected: bool, reason: &str) -> Self {
        let is = if expected { "is not" } else { "is" };
        Self {
            attribute: flag.name(),
            how: format!("{is} set ({reason})"),
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.attribute, self.how)
    }
}

pub(crate) fn weaknesses(traits: &Traits, role: KeyRole, place: &Workplace) -> Vec<Weakness> {
    let Traits { flags, limit } = traits;
    let mut weaknesses = Vec::new();
    for rule in role.template().rules {
        let Setting::Is(expected) = rule.setting else {
            continue;
        };
        // PKCS#11's defaults, at their weakest, for what the module does not give.
        let when_absent = matches!(rule.flag, Flag::Extractable | Flag::Modifiable);
        if flags.value(rule.flag).unwrap_or(when_absent) != expected {
            weaknesses.push(Weakness::new(rule.flag, expected, rule.reason));
        }
    }
    if role.is_made_inside() && !place.accept_imported_keys {
        for flag in [Flag::AlwaysSensitive, Flag::NeverExtractable] {
            if flags.value(flag) == Some(false) {
                let reason = "it is made in the token and was nowhere else";
                weaknesses.push(Weakness::new(flag, true, reason));
            }
        }
    }
    if let Some(mechanism) = limit.excess(role.template(), place.rsa()) {
        weaknesses.push(Weakness {
            attribute: "CKA_ALLOWED_MECHANISMS",
            how: format!("allows {mechanism}, which its role has no use for"),
        });
    }
    weaknesses
}

/// The attributes of `types`, each of which must be there.
fn require_attributes<const N: usize>(
    session: &Session,
    object: ObjectHandle,
    types: [AttributeType; N],
    label: &str,
) -> Result<[Attribute; N], HsmError> {
    const OPERATION: &str = "read a key's attributes";
    let attributes = session
        .get_attributes(object, &types)
        .with_key(OPERATION, label)?;
    attributes.try_into().map_err(|_| HsmError::BadAnswer {
        operation: OPERATION,
        what: format!("no {}", types.map(|name| name.to_string()).join(", ")),
    })
}

/// The public half of a private key.
///
/// RSA's numbers are the private object's own; a P-256 point is only with the public object.
pub(crate) fn public_key(
    session: &Session,
    private: ObjectHandle,
    name: &KeyName,
) -> Result<PublicKey, HsmError> {
    let bad_answer = |what: &str| HsmError::BadAnswer {
        operation: "read a public key",
        what: what.to_owned(),
    };

    let label = name.label();
    let [key_type] = require_attributes(session, private, [AttributeType::KeyType], label)?;
    let key = if key_type == Attribute::KeyType(KeyType::RSA) {
        let numbers = [AttributeType::Modulus, AttributeType::PublicExponent];
        match require_attributes(session, private, numbers, label)? {
            [
                Attribute::Modulus(modulus),
                Attribute::PublicExponent(exponent),
            ] => PublicKey::from_rsa(&modulus, &exponent),
            _ => return Err(bad_answer("other attributes than asked for")),
        }
    } else if key_type == Attribute::KeyType(KeyType::EC) {
        let public = find_key(session, ObjectClass::PUBLIC_KEY, name)?;
        let parts = [AttributeType::EcParams, AttributeType::EcPoint];
        match require_attributes(session, public, parts, label)? {
            [Attribute::EcParams(curve), Attribute::EcPoint(point)] if curve == P256_PARAMS => {
                PublicKey::from_p256_point(uncompressed_point(&point))
            }
            _ => return Err(bad_answer("a curve that is not P-256")),
        }
    } else {
        return Err(bad_answer("a key that is neither RSA nor EC"));
    };
    key.map_err(|error| bad_answer(&error.to_string()))
}

/// `CKA_EC_POINT` is an OCTET STRING with the point in it; some modules give the bare point.
fn uncompressed_point(attribute: &[u8]) -> &[u8] {
    match attribute {
        [0x04, 65, point @ ..] if point.len() == 65 => point,
        bare => bare,
    }
}

/// Algorithm and length of a secret key.
pub(crate) fn key_kind(
    session: &Session,
    key: ObjectHandle,
    label: &str,
) -> Result<KeyKind, HsmError> {
    match stated_kind(session, key, label)? {
        Some(kind) => Ok(kind),
        None => aes_kind(measure(session, key, label)?, label),
    }
}

/// The same, without measuring: `None` of an AES key of which the module states no length, as SoftHSM 2.6.1
/// does not of one that was unwrapped.
pub(crate) fn stated_kind(
    session: &Session,
    key: ObjectHandle,
    label: &str,
) -> Result<Option<KeyKind>, HsmError> {
    let attributes = session
        .get_attributes(key, &[AttributeType::KeyType, AttributeType::ValueLen])
        .with_key("read a key's attributes", label)?;
    let is = |key_type| attributes.contains(&Attribute::KeyType(key_type));
    if is(KeyType::DES2) {
        return Ok(Some(KeyKind::Tdea2));
    }
    if is(KeyType::DES3) {
        return Ok(Some(KeyKind::Tdea3));
    }
    if !is(KeyType::AES) {
        return Err(unknown(format!("{label} is neither TDEA nor AES")));
    }
    let stated = len_among(&attributes);
    stated.map(|len| aes_kind(len, label)).transpose()
}

/// Refuses a key of which the module states that it is of another kind.
pub(crate) fn require_kind(
    session: &Session,
    key: ObjectHandle,
    label: &str,
    expected: KeyKind,
) -> Result<(), HsmError> {
    match stated_kind(session, key, label)? {
        Some(found) if found != expected => Err(HsmError::KeyKind {
            label: label.to_owned(),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}

fn aes_kind(len: usize, label: &str) -> Result<KeyKind, HsmError> {
    [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256]
        .into_iter()
        .find(|kind| kind.key_len() == len)
        .ok_or_else(|| unknown(format!("{label} is an AES key of {len} bytes")))
}

const fn unknown(what: String) -> HsmError {
    HsmError::BadAnswer {
        operation: "read a key's attributes",
        what,
    }
}

/// The length of a secret key, where the module states it.
pub(crate) fn stated_len(
    session: &Session,
    key: ObjectHandle,
) -> cryptoki::error::Result<Option<usize>> {
    let attributes = session.get_attributes(key, &[AttributeType::ValueLen])?;
    Ok(len_among(&attributes))
}

fn len_among(attributes: &[Attribute]) -> Option<usize> {
    attributes.iter().find_map(|attribute| match attribute {
        Attribute::ValueLen(len) => usize::try_from(**len).ok().filter(|len| *len > 0),
        _ => None,
    })
}

/// The length of a key, by that of its wrapping under a key that is thrown away.
pub(crate) fn measure(
    session: &Session,
    key: ObjectHandle,
    label: &str,
) -> Result<usize, HsmError> {
    let operation = "measure a key";
    let measuring = generate_aes(session, &MEASURING_KEY, 32).with_key(operation, label)?;
    let wrapped = session
        .wrap_key(&Mechanism::AesKeyWrap, measuring.handle(), key)
        .with_key(operation, label)?;
    // Whole pieces; a module may have asked for more room than it filled.
    let len = filled(&wrapped).next_multiple_of(KEY_WRAP_OVERHEAD);
    Ok(len.saturating_sub(KEY_WRAP_OVERHEAD))
}

/// The length of a secret key to be derived, where its type leaves it open.
pub(crate) fn value_len(
    key_type: KeyType,
    len: usize,
) -> cryptoki::error::Result<Option<Attribute>> {
    if [KeyType::DES2, KeyType::DES3].contains(&key_type) {
        return Ok(None);
    }
    Ok(Some(Attribute::ValueLen(len.try_into()?)))
}

/// The PKCS#11 type of a secret key.
pub(crate) const fn key_type(kind: KeyKind) -> KeyType {
    match kind {
        KeyKind::Tdea2 => KeyType::DES2,
        KeyKind::Tdea3 => KeyType::DES3,
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => KeyType::AES,
    }
}
