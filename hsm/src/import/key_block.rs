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
        kbkdf::{Endianness, KbkdfCounterFormat, KbkdfParams, PrfDataParam, PrfDataParamType},
        misc::{ExtractParams, KeyDerivationStringData},
    },
    object::{Attribute, KeyType, ObjectHandle},
};
use subtle::ConstantTimeEq;
use tr31::{BlockKey, Derivation, KeyBlock, cmac_subkey};
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
    master_key,
    open::rebuilding_type,
    session::Session,
    template::{
        BLOCK_AUTHENTICATION_KEY, BLOCK_ENCRYPTION_KEY, Flag, KEY_BLOCK, KEY_BLOCK_WITHOUT_END,
        Lives, OPENED_KEY_BLOCK, REBUILDING_KEY, Template,
    },
    worker::{Ephemeral, Worker},
};

/// Bytes of a block of AES.
const BLOCK_LEN: usize = 16;
type Block = [u8; BLOCK_LEN];

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
    let keys = |key, template| derive(session, kbpk, kbpk_kind, block, key, template);
    let encryption = keys(BlockKey::Encryption, &BLOCK_ENCRYPTION_KEY)?;
    let authentication = keys(BlockKey::Authentication, &BLOCK_AUTHENTICATION_KEY)?;
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
    authentication: Ephemeral<'s>,
}

impl<'s> Opened<'s, '_> {
    /// The CMAC of the header and the clear payload (NIST SP 800-38B 6.2, of whole blocks).
    fn mac(&self) -> Result<Vec<u8>, HsmError> {
        let (first, last) = self
            .block
            .payload()
            .split_last_chunk::<BLOCK_LEN>()
            .ok_or_else(too_short)?;
        let chain = self.encrypt(self.block.authenticated_header())?;
        let (chain, before_last) = if first.is_empty() {
            (chain, self.block.mac())
        } else {
            let clear = self.unwrap(&KEY_BLOCK, self.block.mac(), first)?;
            let chain = self.authenticate(&clear, chain, first.len())?;
            (chain, &first[first.len() - BLOCK_LEN..])
        };
        let subkey = cmac_subkey(&self.encrypt(&[0; BLOCK_LEN])?);
        let mask: Vec<u8> = before_last.iter().zip(subkey).map(|(a, b)| a ^ b).collect();
        let masked = self.unwrap(&KEY_BLOCK, &mask, last)?;
        Ok(self.authenticate(&masked, chain, BLOCK_LEN)?.to_vec())
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
        let iv = Mechanism::AesCbc(block(self.block.mac())?);
        let key = self.encryption.handle();
        let wrapped = wrap(self.session, &iv, key, first.handle(), BLOCK_LEN, OPERATION)?;
        let expected = self
            .block
            .payload()
            .get(..BLOCK_LEN)
            .ok_or_else(too_short)?;
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
        let iv = Mechanism::AesCbc(block(iv)?);
        let clear = self
            .session
            .unwrap_key(&iv, self.encryption.handle(), part, &attributes)
            .during(OPERATION)?;
        Ok(Ephemeral::new(self.session, clear))
    }

    /// The last block of the CBC encryption of what is not secret.
    fn encrypt(&self, message: &[u8]) -> Result<Block, HsmError> {
        let iv = Mechanism::AesCbc([0; BLOCK_LEN]);
        let key = self.authentication.handle();
        last_block(&self.session.encrypt(&iv, key, message).during(OPERATION)?)
    }

    /// The same of a part of the payload, going on from `chain`.
    fn authenticate(
        &self,
        part: &Ephemeral<'_>,
        chain: Block,
        len: usize,
    ) -> Result<Block, HsmError> {
        let iv = Mechanism::AesCbc(chain);
        let key = self.authentication.handle();
        last_block(&wrap(
            self.session,
            &iv,
            key,
            part.handle(),
            len,
            OPERATION,
        )?)
    }
}

/// A key of a block, from the KBPK: NIST SP 800-108 in counter mode, with CMAC.
fn derive<'s>(
    session: &'s Session,
    kbpk: ObjectHandle,
    kind: KeyKind,
    block: &KeyBlock,
    key: BlockKey,
    template: &Template,
) -> Result<Ephemeral<'s>, HsmError> {
    let derivation =
        Derivation::new(block.version(), kind, key).map_err(|_| unsupported_version(block))?;
    let counter = KbkdfCounterFormat::new(
        Endianness::Big,
        std::num::NonZeroUsize::MIN.saturating_add(7),
    );
    let (label, context) = (derivation.label(), derivation.context());
    let data = [
        PrfDataParam::new(PrfDataParamType::IterationVariable(Some(&counter))),
        PrfDataParam::new(PrfDataParamType::ByteArray(&label)),
        PrfDataParam::new(PrfDataParamType::ByteArray(&[0x00])),
        PrfDataParam::new(PrfDataParamType::ByteArray(&context)),
    ];
    let mechanism = Mechanism::KbkdfCounter(KbkdfParams::new(MechanismType::AES_CMAC, &data, None));
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(KeyType::AES));
    attributes.push(Attribute::ValueLen(
        kind.key_len().try_into().during(OPERATION)?,
    ));
    let derived = session
        .derive_key(&mechanism, kbpk, &attributes)
        .during(OPERATION)?;
    Ok(Ephemeral::new(session, derived))
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

fn last_block(bytes: &[u8]) -> Result<Block, HsmError> {
    bytes.last_chunk().copied().ok_or_else(too_short)
}

fn block(bytes: &[u8]) -> Result<Block, HsmError> {
    bytes.try_into().map_err(|_| too_short())
}

fn too_short() -> HsmError {
    HsmError::BadAnswer {
        operation: OPERATION,
        what: "less than a block".to_owned(),
    }
}
