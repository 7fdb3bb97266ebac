//! XOR by `CKM_XOR_BASE_AND_DATA`, where the module has it.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, misc::KeyDerivationStringData},
    object::{Attribute, KeyType, ObjectHandle},
    session::Session,
};
use tr34::KeyKind;
use zeroize::Zeroizing;

use crate::{
    ClearKey, HsmError,
    error::CallResult,
    inspect::{key_type, value_len},
    secret::SecretTemplate,
    template::{DERIVED_PARTIAL_SUM, Lives},
    worker::Ephemeral,
};

const OPERATION: &str = "combine components";

pub(super) const MECHANISMS: [(MechanismType, &str); 1] =
    [(MechanismType::XOR_BASE_AND_DATA, "CKM_XOR_BASE_AND_DATA")];

/// The partial sum with `component` in it: one generic secret. `partial` is empty at first.
pub(super) fn add(
    session: &Session,
    partial: &[ObjectHandle],
    component: &ClearKey,
) -> Result<Vec<ObjectHandle>, HsmError> {
    let bytes = component.expose_clear();
    let mut template = DERIVED_PARTIAL_SUM.attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
    let sum = match partial {
        [] => {
            let template = SecretTemplate::new(template, bytes);
            session
                .create_object(template.as_slice())
                .during("import a component")?
        }
        [sum, ..] => {
            template.push(Attribute::ValueLen(
                bytes.len().try_into().during(OPERATION)?,
            ));
            derive(session, *sum, bytes, &template)?
        }
    };
    Ok(vec![sum])
}

/// The sum as a key of its own: XOR nothing.
pub(super) fn make<'s>(
    session: &'s Session,
    partial: &[ObjectHandle],
    kind: KeyKind,
    mut template: Vec<Attribute>,
) -> Result<Ephemeral<'s>, HsmError> {
    let nothing = Zeroizing::new(vec![0; kind.key_len()]);
    template.extend(value_len(key_type(kind), kind.key_len()).during(OPERATION)?);
    let sum = partial.first().ok_or(HsmError::BadComponent {
        reason: "is missing",
    })?;
    let key = derive(session, *sum, &nothing, &template)?;
    Ok(Ephemeral::new(session, key))
}

fn derive(
    session: &Session,
    base: ObjectHandle,
    data: &[u8],
    template: &[Attribute],
) -> Result<ObjectHandle, HsmError> {
    let mechanism = Mechanism::XorBaseAndData(KeyDerivationStringData::new(data));
    session
        .derive_key(&mechanism, base, template)
        .during(OPERATION)
}
