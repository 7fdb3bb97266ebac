//! Keys in the token: made, found, listed, destroyed.

use cryptoki::{
    error::{Error as CryptokiError, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use pki::PublicKey;
use tr34::KeyKind;

use crate::{
    HsmError, KeyName, KeyPairKind, KeyRole,
    error::CallResult,
    inspect::{
        Flags, P256_PARAMS, Traits, find_keys, key_kind, public_key, require_free, require_kind,
        require_role, weaknesses,
    },
    limit::{self, Limit},
    session::Session,
    template::{Flag, Lives, PUBLIC_HALF, Template},
    worker::{Ephemeral, Worker},
};

/// 65537.
pub(crate) const RSA_EXPONENT: [u8; 3] = [0x01, 0x00, 0x01];

/// A secret key in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    name: KeyName,
    role: KeyRole,
    kind: KeyKind,
    may_derive: bool,
}

impl SecretKey {
    pub(crate) const fn new(name: KeyName, role: KeyRole, kind: KeyKind, may_derive: bool) -> Self {
        Self {
            name,
            role,
            kind,
            may_derive,
        }
    }

    /// Its name in the token.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// What it is for.
    pub const fn role(&self) -> KeyRole {
        self.role
    }

    /// Algorithm and length.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether the module may put a key block together round it.
    pub(crate) const fn may_derive(&self) -> bool {
        self.may_derive
    }
}

/// The class of a key object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// The public half of a pair.
    Public,
    /// The private half of a pair.
    Private,
    /// A symmetric key.
    Secret,
}

impl KeyClass {
    const ALL: [Self; 3] = [Self::Public, Self::Private, Self::Secret];

    const fn object_class(self) -> ObjectClass {
        match self {
            Self::Public => ObjectClass::PUBLIC_KEY,
            Self::Private => ObjectClass::PRIVATE_KEY,
            Self::Secret => ObjectClass::SECRET_KEY,
        }
    }
}

/// A key as it stands in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySummary {
    /// `CKA_LABEL`.
    pub label: String,
    /// `CKA_ID`.
    pub id: Vec<u8>,
    /// Class.
    pub class: KeyClass,
    /// Algorithm and length, as in `RSA-2048`.
    pub kind: String,
    /// The attributes that are true: usages, and `CKA_SENSITIVE`, `CKA_EXTRACTABLE` and the like.
    pub attributes: Vec<&'static str>,
}

/// How strong a private or secret key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStrength {
    /// The key.
    pub key: KeySummary,
    /// The role that it could have, by its class and usages.
    pub role: KeyRole,
    /// Each attribute that makes it weaker than that role demands, in words.
    pub weaknesses: Vec<String>,
    /// The mechanisms that it is limited to (`CKA_ALLOWED_MECHANISMS`); `None` if it is not.
    pub allowed_mechanisms: Option<Vec<String>>,
}

pub(crate) fn generate_key_pair(
    worker: &Worker,
    role: KeyRole,
    name: &KeyName,
    kind: KeyPairKind,
) -> Result<PublicKey, HsmError> {
    let operation = "generate a key pair";
    if !role.allows(kind) {
        return Err(HsmError::WrongRole { operation, role });
    }
    let session = &worker.session;
    require_free(session, name)?;

    let named = |mut attributes: Vec<Attribute>| {
        attributes.push(Attribute::Label(name.label().into()));
        attributes.push(Attribute::Id(name.id().to_vec()));
        attributes
    };
    let mut public = named(PUBLIC_HALF.attributes(Lives::InToken));
    let template = role.template();
    let private = named(template.attributes(Lives::InToken));
    let mechanism = match kind {
        KeyPairKind::Rsa { bits } => {
            let bits = bits.try_into().during(operation)?;
            public.push(Attribute::ModulusBits(bits));
            public.push(Attribute::PublicExponent(RSA_EXPONENT.into()));
            Mechanism::RsaPkcsKeyPairGen
        }
        KeyPairKind::P256 => {
            public.push(Attribute::EcParams(P256_PARAMS.into()));
            Mechanism::EccKeyPairGen
        }
    };
    let limit = limit::of_pair(template, kind, worker.place.rsa());
    let (public, private) = limit::make(session, &limit, |limit| {
        let private = [&private[..], limit.as_slice()].concat();
        session
            .generate_key_pair(&mechanism, &public, &private)
            .with_key(operation, name.label())
    })?;

    // Until it is known to be what was asked for, the pair goes with any error.
    let halves = [public, private].map(|half| Ephemeral::new(session, half));
    require_role(session, private, role, name, &worker.place)?;
    limit::require(session, private, &limit, (name.label(), template))?;
    let public_key = public_key(session, private, name)?;
    for half in halves {
        half.keep();
    }
    Ok(public_key)
}

pub(crate) fn retire_signing(worker: &mut Worker, name: &KeyName) -> Result<bool, HsmError> {
    let key = worker.key(KeyRole::KrdEncryption, name)?;
    match worker
        .session
        .update_attributes(key, &[Attribute::Sign(false)])
    {
        Ok(()) => Ok(!may(&worker.session, key, Flag::Sign, name)?),
        Err(CryptokiError::Pkcs11(
            RvError::ActionProhibited
            | RvError::AttributeReadOnly
            | RvError::AttributeValueInvalid
            | RvError::FunctionNotSupported,
            _,
        )) => Ok(false),
        Err(error) => Err(error).with_key("retire a key from signing", name.label()),
    }
}

/// An AES key of `len` bytes, for as long as it is in scope.
pub(crate) fn generate_aes<'s>(
    session: &'s Session,
    template: &Template,
    len: usize,
) -> cryptoki::error::Result<Ephemeral<'s>> {
    let mut attributes = template.attributes(Lives::InSession);
    attributes.push(Attribute::ValueLen(len.try_into()?));
    let key = session.generate_key(&Mechanism::AesKeyGen, &attributes)?;
    Ok(Ephemeral::new(session, key))
}

/// Whether a key has a usage.
pub(crate) fn may(
    session: &Session,
    key: ObjectHandle,
    usage: Flag,
    name: &KeyName,
) -> Result<bool, HsmError> {
    let flags =
        Flags::read(session, key, &[usage]).with_key("read a key's attributes", name.label())?;
    Ok(flags.value(usage) == Some(true))
}

pub(crate) fn secret_key(
    worker: &mut Worker,
    role: KeyRole,
    name: &KeyName,
) -> Result<SecretKey, HsmError> {
    secret_key_of(worker, role, name, key_kind)
}

/// Of this kind, unless the token says otherwise.
pub(crate) fn announced_key(
    worker: &mut Worker,
    role: KeyRole,
    name: &KeyName,
    kind: KeyKind,
) -> Result<SecretKey, HsmError> {
    secret_key_of(worker, role, name, |session, key, label| {
        require_kind(session, key, label, kind)?;
        Ok(kind)
    })
}

fn secret_key_of(
    worker: &mut Worker,
    role: KeyRole,
    name: &KeyName,
    kind: impl Fn(&Session, ObjectHandle, &str) -> Result<KeyKind, HsmError>,
) -> Result<SecretKey, HsmError> {
    if role.is_pair() {
        return Err(HsmError::WrongRole {
            operation: "find a secret key",
            role,
        });
    }
    let handle = worker.key(role, name)?;
    let kind = kind(&worker.session, handle, name.label())?;
    let may_derive = may(&worker.session, handle, Flag::Derive, name)?;
    Ok(SecretKey::new(name.clone(), role, kind, may_derive))
}

pub(crate) fn destroy(session: &Session, name: &KeyName) -> Result<(), HsmError> {
    let mut keys = Vec::new();
    for class in KeyClass::ALL {
        keys.extend(find_keys(session, class.object_class(), name)?);
    }
    if keys.is_empty() {
        return Err(HsmError::KeyNotFound {
            label: name.label().to_owned(),
        });
    }
    for key in keys {
        session
            .destroy_object(key)
            .with_key("destroy a key", name.label())?;
    }
    Ok(())
}

pub(crate) fn list(session: &Session) -> Result<Vec<KeySummary>, HsmError> {
    let mut keys = Vec::new();
    for (handle, class) in all(session)? {
        keys.push(summarize(session, handle, class)?);
    }
    keys.sort_by(|a, b| (&a.label, &a.id).cmp(&(&b.label, &b.id)));
    Ok(keys)
}

/// How strong each private and secret key is.
pub(crate) fn strengths(worker: &Worker) -> Result<Vec<KeyStrength>, HsmError> {
    let session = &worker.session;
    let mut keys = Vec::new();
    for (handle, class) in all(session)? {
        let flags = Flags::read(session, handle, &Flag::ALL).during("list the keys")?;
        let key = summarize(session, handle, class)?;
        let Some(role) = likely_role(&key, |flag| flags.value(flag) == Some(true)) else {
            continue;
        };
        let limit = Limit::read(session, handle, &key.label, role.template())?;
        let allowed_mechanisms = limit.names();
        let weaknesses = weaknesses(&Traits { flags, limit }, role, &worker.place);
        keys.push(KeyStrength {
            key,
            role,
            weaknesses: weaknesses.iter().map(ToString::to_string).collect(),
            allowed_mechanisms,
        });
    }
    keys.sort_by(|a, b| (&a.key.label, &a.key.id).cmp(&(&b.key.label, &b.key.id)));
    Ok(keys)
}

/// Every key in the token.
fn all(session: &Session) -> Result<Vec<(ObjectHandle, KeyClass)>, HsmError> {
    let mut keys = Vec::new();
    for class in KeyClass::ALL {
        let template = [
            Attribute::Token(true),
            Attribute::Class(class.object_class()),
        ];
        let handles = session.find_objects(&template).during("list the keys")?;
        keys.extend(handles.into_iter().map(|handle| (handle, class)));
    }
    Ok(keys)
}

/// Roles are told apart by what only they have, and by the labels of secret keys that are no Kn; all that sign have
/// the same template.
fn likely_role(key: &KeySummary, set: impl Fn(Flag) -> bool) -> Option<KeyRole> {
    let labelled = KeyRole::of_label(&key.label).filter(|role| *role != KeyRole::TransportKey);
    match key.class {
        KeyClass::Public => None,
        // A terminal's can be changed once it has signed its request.
        KeyClass::Private if set(Flag::Unwrap) && set(Flag::Modifiable) => {
            Some(KeyRole::KrdEncryption)
        }
        KeyClass::Private if set(Flag::Unwrap) => Some(KeyRole::ImportPair),
        KeyClass::Private => Some(KeyRole::KdhSigning),
        KeyClass::Secret if labelled.is_some() => labelled,
        // A host's ZMK looks like a terminal's Kn, but for its limit.
        KeyClass::Secret if set(Flag::Unwrap) => Some(KeyRole::LoadedKey),
        KeyClass::Secret if set(Flag::Derive) && !set(Flag::Extractable) => {
            Some(KeyRole::KeyBlockProtection)
        }
        KeyClass::Secret => Some(KeyRole::TransportKey),
    }
}

fn summarize(
    session: &Session,
    key: ObjectHandle,
    class: KeyClass,
) -> Result<KeySummary, HsmError> {
    let (mut label, mut id, mut key_type, mut modulus_len) = Default::default();
    let types = [
        AttributeType::Label,
        AttributeType::Id,
        AttributeType::KeyType,
        AttributeType::Modulus,
    ];
    for attribute in session
        .get_attributes(key, &types)
        .during("list the keys")?
    {
        match attribute {
            Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
            Attribute::Id(bytes) => id = bytes,
            Attribute::KeyType(kind) => key_type = Some(kind),
            Attribute::Modulus(modulus) => modulus_len = modulus.len(),
            _ => {}
        }
    }
    let kind = match (class, key_type) {
        (KeyClass::Secret, Some(other)) => key_kind(session, key, &label)
            .map_or_else(|_| other.to_string(), |kind| kind.to_string()),
        (_, Some(KeyType::RSA)) => format!("RSA-{}", modulus_len * 8),
        (_, Some(KeyType::EC)) => "EC".to_owned(),
        (_, other) => other.map_or_else(|| "unknown".to_owned(), |kind| kind.to_string()),
    };
    let flags = Flags::read(session, key, &Flag::ALL).during("list the keys")?;
    let set = |flag: &Flag| flags.value(*flag) == Some(true);
    Ok(KeySummary {
        attributes: Flag::ALL.into_iter().filter(set).map(Flag::name).collect(),
        label,
        id,
        class,
        kind,
    })
}
