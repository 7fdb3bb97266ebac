//! XOR by `CKM_XOR_BASE_AND_DATA`, where the module has it.

use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        misc::{ExtractParams, KeyDerivationStringData},
    },
    object::{Attribute, KeyType, ObjectHandle},
};
use tr34::KeyKind;
use zeroize::Zeroizing;

use super::{Home, rules::PIECE_LEN};
use crate::{
    ClearKey, HsmError, answer,
    error::CallResult,
    inspect::{key_type, value_len},
    keys::generate_aes,
    secret::SecretTemplate,
    session::Session,
    template::{DERIVED_PARTIAL_SUM, Lives, SUMMING_KEY, WRAPPED_PARTIAL_SUM},
    worker::Ephemeral,
};

const OPERATION: &str = "combine components";

const BLOCK: usize = 16;

pub(super) const MECHANISMS: [(MechanismType, &str); 1] =
    [(MechanismType::XOR_BASE_AND_DATA, "CKM_XOR_BASE_AND_DATA")];

/// The partial sum with `component` in it: one generic secret. `partial` is empty at first.
pub(super) fn add<'s>(
    session: &'s Session,
    partial: &[ObjectHandle],
    component: &ClearKey,
    home: &Home,
) -> Result<Vec<Ephemeral<'s>>, HsmError> {
    let bytes = component.expose_clear();
    let mut template = home.attributes(&DERIVED_PARTIAL_SUM, 0);
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
    Ok(vec![Ephemeral::new(session, sum)])
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

/// Each piece of the sum, encrypted alone under a key that is thrown away: equal ones show as equal, and
/// nothing else shows. Takes a module that extracts keys from keys.
pub(super) fn veiled_pieces(
    session: &Session,
    partial: &[ObjectHandle],
    kind: KeyKind,
) -> Result<Vec<Vec<u8>>, HsmError> {
    let operation = "compare the parts of a sum";
    let sum = partial.first().ok_or(HsmError::BadComponent {
        reason: "is missing",
    })?;
    let veil = generate_aes(session, &SUMMING_KEY, 32).during(operation)?;
    let mut template = WRAPPED_PARTIAL_SUM.attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
    template.push(Attribute::ValueLen(PIECE_LEN.try_into().during(operation)?));
    let veiled = (0..kind.key_len()).step_by(PIECE_LEN).map(|start| {
        // PKCS#11 counts in bits.
        let offset = Mechanism::ExtractKeyFromKey(ExtractParams::new(start * 8));
        let piece = session.derive_key(&offset, *sum, &template);
        let piece = Ephemeral::new(session, piece.during(operation)?);
        let (padded, veil) = (Mechanism::AesCbcPad([0; BLOCK]), veil.handle());
        answer::wrap(session, &padded, veil, piece.handle(), BLOCK, operation)
    });
    veiled.collect()
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
