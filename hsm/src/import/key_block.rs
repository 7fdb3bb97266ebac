//! Kn in a TR-31 block of version D.
//!
//! The keys of the block are derived from the KBPK inside. The MAC is a CMAC over the header and the clear
//! payload, which nobody may see: CBC encryption of the header goes on, inside, as CBC wrapping of the
//! payload, and CMAC's subkey gets into the last block with the IV under which that block is unwrapped. Kn is
//! cut out of the payload, and that the payload says Kn's length is known by building its first block round
//! Kn and wrapping it again.

use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        misc::{ExtractParams, KeyDerivationStringData},
    },
    object::{Attribute, KeyType, ObjectHandle},
};
use subtle::ConstantTimeEq;
use tr31::{BlockKey, Derivation, KeyBlock};
use tr34::KeyKind;

use super::{
    ImportError, ImportForm, KeyImport,
    key_wrap::{OPERATION, refused_as},
    policy::require_over,
};
use crate::{
    HsmError, KeyName, KeyRole, SecretKey,
    answer::wrap,
    cipher::Named,
    error::CallResult,
    inspect::{key_type, stated_kind, value_len},
    key_block::{Authentication, BLOCK_LEN, Block, START, derive, to_block, too_short},
    master_key,
    open::rebuilding_type,
    session::Session,
    template::{
        BLOCK_ENCRYPTION_KEY, Flag, KEY_BLOCK, KEY_BLOCK_WITHOUT_END, Lives, OPENED_KEY_BLOCK,
        REBUILDING_KEY, Template,
    },
    worker::{Ephemeral, Worker},
};

/// What the module would have to list.
pub(super) const MECHANISMS: [Named; 4] = [
    (
        MechanismType::SP800_108_COUNTER_KDF,
        "CKM_SP800_108_COUNTER_KDF",
    ),
    (MechanismType::AES_CBC, "CKM_AES_CBC"),
    (
        MechanismType::EXTRACT_KEY_FROM_KEY,
        "CKM_EXTRACT_KEY_FROM_KEY",
    ),
    (
        MechanismType::CONCATENATE_DATA_AND_BASE,
        "CKM_CONCATENATE_DATA_AND_BASE",
    ),
];

pub(super) fn import(
    worker: &mut Worker,
    kbpk: &KeyName,
    block: &KeyBlock,
    import: &KeyImport,
    name: &KeyName,
    derives: bool,
) -> Result<SecretKey, HsmError> {
    let handle = worker.key(KeyRole::KeyBlockProtection, kbpk)?;
    let session = &worker.session;
    let label = kbpk.label();
    let kind = stated_kind(session, handle, label)?.ok_or_else(|| HsmError::BadAnswer {
        operation: OPERATION,
        what: format!("no length of {label}"),
    })?;
    require_over(kind, import.kind, label, ImportForm::Tr31.name())?;
    let payload = open(session, (handle, kind, label), block, import.kind)?;
    let make = |template: &Template, lives, more: &[Attribute]| {
        let mut attributes = template.attributes_with_class(lives);
        attributes.extend_from_slice(more);
        extract(
            session,
            &payload,
            key_type(import.kind),
            import.kind,
            attributes,
        )
    };
    master_key::enter(worker, name, import.kind, &import.kcv, derives, make)
}

/// The payload of an authentic block that holds a key of this kind.
pub(super) fn open<'s>(
    session: &'s Session,
    (kbpk, kbpk_kind, label): (ObjectHandle, KeyKind, &str),
    block: &KeyBlock,
    kind: KeyKind,
) -> Result<Ephemeral<'s>, HsmError> {
    let derivation = |key| {
        let derivation = Derivation::new(block.version(), kbpk_kind, key);
        derivation.map_err(|_| unsupported_version(block))
    };
    let (of, template) = (derivation(BlockKey::Encryption)?, &BLOCK_ENCRYPTION_KEY);
    let encryption = derive(session, kbpk, of, template, OPERATION)?;
    let authentication = Authentication::derive(session, kbpk, derivation, OPERATION)?;
    let opened = Opened {
        session,
        block,
        encryption,
        authentication,
    };
    let other_mac = || ImportError::Mac {
        kbpk: label.to_owned(),
    };
    // A payload that the module does not take says no more than a wrong MAC does.
    let mac = refused_as(opened.mac(), other_mac)?;
    if !bool::from(mac.ct_eq(block.mac())) {
        return Err(other_mac().into());
    }
    let payload = opened.unwrap(&OPENED_KEY_BLOCK, block.mac(), block.payload())?;
    if !opened.holds(&payload, kind)? {
        return Err(ImportError::KeyLength { kind }.into());
    }
    Ok(payload)
}

/// Kn, cut out of the payload.
pub(super) fn extract<'s>(
    session: &'s Session,
    payload: &Ephemeral<'_>,
    key_type: KeyType,
    kind: KeyKind,
    mut attributes: Vec<Attribute>,
) -> Result<Ephemeral<'s>, HsmError> {
    attributes.push(Attribute::KeyType(key_type));
    attributes.extend(value_len(key_type, kind.key_len()).during(OPERATION)?);
    cut(session, payload, KeyBlock::KEY_OFFSET, &attributes)
}

/// A block with its keys, which go with it.
struct Opened<'s, 'b> {
    session: &'s Session,
    block: &'b KeyBlock,
    encryption: Ephemeral<'s>,
    authentication: Authentication<'s>,
}

impl<'s> Opened<'s, '_> {
    /// The CMAC of the header and the clear payload.
    fn mac(&self) -> Result<Block, HsmError> {
        let (first, last) = self
            .block
            .payload()
            .split_last_chunk::<BLOCK_LEN>()
            .ok_or_else(|| too_short(OPERATION))?;
        let chain = self
            .authentication
            .encrypt(START, self.block.authenticated_header())?;
        let (chain, before_last) = if first.is_empty() {
            (chain, self.block.mac())
        } else {
            let clear = self.unwrap(&KEY_BLOCK, self.block.mac(), first)?;
            let chain = self.authentication.wrap(chain, &clear, first.len())?;
            (chain, &first[first.len() - BLOCK_LEN..])
        };
        let mask = self.authentication.masked(before_last)?;
        let masked = self.unwrap(&KEY_BLOCK, &mask, last)?;
        self.authentication.wrap(chain, &masked, BLOCK_LEN)
    }

    /// Whether the payload's first block is what it is round a key of this kind: its length, and the key's
    /// first bytes.
    fn holds(&self, payload: &Ephemeral<'_>, kind: KeyKind) -> Result<bool, HsmError> {
        let mut attributes = REBUILDING_KEY.attributes_with_class(Lives::InSession);
        attributes.push(Flag::Derive.set(true));
        let as_type = rebuilding_type(kind);
        let key = extract(self.session, payload, as_type, kind, attributes)?;

        let length = KeyBlock::key_length_field(kind);
        let before = Mechanism::ConcatenateDataAndBase(KeyDerivationStringData::new(&length));
        let mut attributes = KEY_BLOCK_WITHOUT_END.attributes_with_class(Lives::InSession);
        attributes.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
        let rebuilt = self
            .session
            .derive_key(&before, key.handle(), &attributes)
            .during(OPERATION)?;
        let rebuilt = Ephemeral::new(self.session, rebuilt);

        let mut attributes = KEY_BLOCK.attributes_with_class(Lives::InSession);
        attributes.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
        attributes.push(Attribute::ValueLen(BLOCK_LEN.try_into().during(OPERATION)?));
        let first = cut(self.session, &rebuilt, 0, &attributes)?;
        let iv = Mechanism::AesCbc(to_block(self.block.mac(), OPERATION)?);
        let key = self.encryption.handle();
        let wrapped = wrap(self.session, &iv, key, first.handle(), BLOCK_LEN, OPERATION)?;
        let expected = self
            .block
            .payload()
            .get(..BLOCK_LEN)
            .ok_or_else(|| too_short(OPERATION))?;
        Ok(wrapped.ct_eq(expected).into())
    }

    /// A part of the payload, decrypted into the module.
    fn unwrap(
        &self,
        template: &Template,
        iv: &[u8],
        part: &[u8],
    ) -> Result<Ephemeral<'s>, HsmError> {
        let mut attributes = template.attributes_with_class(Lives::InSession);
        attributes.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
        attributes.push(Attribute::ValueLen(
            part.len().try_into().during(OPERATION)?,
        ));
        let iv = Mechanism::AesCbc(to_block(iv, OPERATION)?);
        let clear = self
            .session
            .unwrap_key(&iv, self.encryption.handle(), part, &attributes)
            .during(OPERATION)?;
        Ok(Ephemeral::new(self.session, clear))
    }
}

/// No version but D.
pub(super) fn unsupported_version(block: &KeyBlock) -> HsmError {
    ImportError::Version {
        version: block.version(),
    }
    .into()
}

/// The part of a secret that starts at a byte.
fn cut<'s>(
    session: &'s Session,
    whole: &Ephemeral<'_>,
    at: usize,
    attributes: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    // PKCS#11 counts in bits.
    let offset = Mechanism::ExtractKeyFromKey(ExtractParams::new(at * 8));
    let part = session
        .derive_key(&offset, whole.handle(), attributes)
        .during(OPERATION)?;
    Ok(Ephemeral::new(session, part))
}
