//! Finding keys, and refusing those that are weaker than they must be.

use cryptoki::{
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};

use crate::{
    HsmError, KeyName, KeyRole, Token,
    role::Usage,
};

/// What kind of object a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyClass {
    /// The private half of a pair.
    Private,
    /// The public half of a pair.
    Public,
    /// A symmetric key.
    Secret,
}

/// A key as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySummary {
    /// What it is.
    pub class: KeyClass,
    /// CKA_LABEL; bytes that are not text are replaced.
    pub label: String,
    /// CKA_ID.
    pub id: Vec<u8>,
    /// Whether its value can be read.
    pub sensitive: bool,
    /// Whether it can leave the token under another key.
    pub extractable: bool,
}

impl Token {
    /// The keys in the token. Session objects are not shown.
    ///
    /// # Errors
    /// The token did not answer.
    pub fn list_keys(&self) -> Result<Vec<KeySummary>, HsmError> {
        self.run(|worker| {
            let mut keys = Vec::new();
            for (class, object_class) in [
                (KeyClass::Private, ObjectClass::PRIVATE_KEY),
                (KeyClass::Public, ObjectClass::PUBLIC_KEY),
                (KeyClass::Secret, ObjectClass::SECRET_KEY),
            ] {
                let template = [Attribute::Class(object_class), Attribute::Token(true)];
                for handle in find(&worker.session, &template)? {
                    keys.push(summary(&worker.session, class, handle)?);
                }
            }
            Ok(keys)
        })
    }

    /// Destroys a key: a secret key, or both halves of a pair.
    ///
    /// # Errors
    /// No key has this name, or the module refuses.
    pub fn destroy_key(&self, name: &KeyName) -> Result<(), HsmError> {
        let name = name.clone();
        self.run(move |worker| {
            worker.forget_handles();
            let mut found = false;
            for class in [
                ObjectClass::PRIVATE_KEY,
                ObjectClass::PUBLIC_KEY,
                ObjectClass::SECRET_KEY,
            ] {
                for handle in find(&worker.session, &by_name(class, &name))? {
                    found = true;
                    worker
                        .session
                        .destroy_object(handle)
                        .map_err(HsmError::in_call("destroy the key", Some(name.label())))?;
                }
            }
            found.then_some(()).ok_or_else(|| HsmError::KeyNotFound {
                what: "key",
                label: name.label().to_owned(),
            })
        })
    }
}

fn summary(
    session: &Session,
    class: KeyClass,
    handle: ObjectHandle,
) -> Result<KeySummary, HsmError> {
    let mut key = KeySummary {
        class,
        label: String::new(),
        id: Vec::new(),
        sensitive: false,
        extractable: class == KeyClass::Public,
    };
    let wanted: &[AttributeType] = match class {
        KeyClass::Public => &[AttributeType::Label, AttributeType::Id],
        KeyClass::Private | KeyClass::Secret => &[
            AttributeType::Label,
            AttributeType::Id,
            AttributeType::Sensitive,
            AttributeType::Extractable,
        ],
    };
    for attribute in attributes(session, handle, wanted, "key")? {
        match attribute {
            Attribute::Label(label) => key.label = String::from_utf8_lossy(&label).into_owned(),
            Attribute::Id(id) => key.id = id,
            Attribute::Sensitive(sensitive) => key.sensitive = sensitive,
            Attribute::Extractable(extractable) => key.extractable = extractable,
            _ => {}
        }
    }
    Ok(key)
}

pub(crate) fn class_name(class: ObjectClass) -> &'static str {
    match class {
        ObjectClass::PRIVATE_KEY => "private key",
        ObjectClass::PUBLIC_KEY => "public key",
        ObjectClass::SECRET_KEY => "secret key",
        _ => "object",
    }
}

fn by_name(class: ObjectClass, name: &KeyName) -> [Attribute; 4] {
    [
        Attribute::Class(class),
        Attribute::Token(true),
        Attribute::Label(name.label().into()),
        Attribute::Id(name.id().to_vec()),
    ]
}

pub(crate) fn find(
    session: &Session,
    template: &[Attribute],
) -> Result<Vec<ObjectHandle>, HsmError> {
    session
        .find_objects(template)
        .map_err(HsmError::in_call("look an object up", None))
}

/// The only object of a class with this name. Labels are not unique in PKCS#11, so more than one is
/// an error and never a choice.
pub(crate) fn exactly_one(
    session: &Session,
    class: ObjectClass,
    name: &KeyName,
) -> Result<ObjectHandle, HsmError> {
    let label = || name.label().to_owned();
    match find(session, &by_name(class, name))?.as_slice() {
        [handle] => Ok(*handle),
        [] => Err(HsmError::KeyNotFound {
            what: class_name(class),
            label: label(),
        }),
        _ => Err(HsmError::KeyNotUnique { label: label() }),
    }
}

/// Makes sure that no key of any class has this label yet.
pub(crate) fn none_named(session: &Session, name: &KeyName) -> Result<(), HsmError> {
    for class in [
        ObjectClass::PRIVATE_KEY,
        ObjectClass::PUBLIC_KEY,
        ObjectClass::SECRET_KEY,
    ] {
        if !find(session, &by_name(class, name))?.is_empty() {
            return Err(HsmError::KeyExists {
                label: name.label().to_owned(),
            });
        }
    }
    Ok(())
}

/// Label and CKA_ID of a new object.
pub(crate) fn named(name: &KeyName) -> [Attribute; 2] {
    [
        Attribute::Label(name.label().into()),
        Attribute::Id(name.id().to_vec()),
    ]
}

pub(crate) fn attributes(
    session: &Session,
    handle: ObjectHandle,
    wanted: &[AttributeType],
    label: &str,
) -> Result<Vec<Attribute>, HsmError> {
    session
        .get_attributes(handle, wanted)
        .map_err(HsmError::in_call("read attributes", Some(label)))
}

/// Reads back what makes a private or secret key strong, and refuses one that is weaker than its
/// role. An attribute that the module does not give counts as weak.
pub(crate) fn verify_strength(
    session: &Session,
    handle: ObjectHandle,
    role: KeyRole,
    name: &KeyName,
) -> Result<(), HsmError> {
    let row = role.row();
    let is_private_key = attributes(session, handle, &[AttributeType::Class], name.label())?
        == [Attribute::Class(ObjectClass::PRIVATE_KEY)];
    let mut demands = vec![
        ("CKA_SENSITIVE", Attribute::Sensitive(true)),
        ("CKA_PRIVATE", Attribute::Private(true)),
    ];
    if row.extractable {
        // Extractable by purpose. Whether it ever was readable is what counts.
    } else {
        demands.push(("CKA_EXTRACTABLE", Attribute::Extractable(false)));
    }
    let usages: &[Usage] = if is_private_key {
        &[Usage::Decrypt, Usage::Unwrap, Usage::Sign, Usage::Derive]
    } else {
        &[
            Usage::Encrypt,
            Usage::Decrypt,
            Usage::Wrap,
            Usage::Unwrap,
            Usage::Sign,
            Usage::Verify,
            Usage::Derive,
        ]
    };
    for usage in usages {
        if !row.optional.contains(usage) {
            let allowed = row.usages.contains(usage);
            demands.push((usage.name(), usage.attribute(allowed)));
        }
    }
    // A pair is made in the token and must never have been anywhere else. Secret keys come in from
    // outside by design: as components, or in a key token.
    if is_private_key {
        demands.push(("CKA_ALWAYS_SENSITIVE", Attribute::AlwaysSensitive(true)));
        demands.push(("CKA_NEVER_EXTRACTABLE", Attribute::NeverExtractable(true)));
    }
    for (attribute, demanded) in demands {
        let found = attributes(session, handle, &[demanded.attribute_type()], name.label())?;
        if found != [demanded] {
            return Err(HsmError::WeakKey {
                label: name.label().to_owned(),
                attribute,
            });
        }
    }
    Ok(())
}

/// The algorithm of a key.
pub(crate) fn key_type(
    session: &Session,
    handle: ObjectHandle,
    name: &KeyName,
) -> Result<KeyType, HsmError> {
    match attributes(session, handle, &[AttributeType::KeyType], name.label())?.as_slice() {
        [Attribute::KeyType(key_type)] => Ok(*key_type),
        _ => Err(HsmError::Unexpected {
            operation: "read attributes",
        }),
    }
}
