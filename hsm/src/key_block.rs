//! What a TR-31 block of version D takes inside the module, whether it is opened or made: the keys of the block,
//! and CMAC in pieces.
//!
//! CBC encryption of what is public goes on, inside, as CBC wrapping of what is not. The last block that comes out
//! of it, with CMAC's subkey added to what went in, is the MAC (NIST SP 800-38B 6.2, of whole blocks).

use std::num::NonZeroUsize;

use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        kbkdf::{Endianness, KbkdfCounterFormat, KbkdfParams, PrfDataParam, PrfDataParamType},
    },
    object::{Attribute, KeyType, ObjectHandle},
};
use tr31::{BlockKey, Derivation, cmac_subkey};

use crate::{
    HsmError,
    answer::wrap,
    error::CallResult,
    session::Session,
    template::{BLOCK_AUTHENTICATION_KEY, Lives, Template},
    worker::Ephemeral,
};

/// Bytes of a block of AES.
pub(crate) const BLOCK_LEN: usize = 16;
pub(crate) type Block = [u8; BLOCK_LEN];

/// Before the first block.
pub(crate) const START: Block = [0; BLOCK_LEN];

/// A key of a block, from the KBPK: NIST SP 800-108 in counter mode, with CMAC.
pub(crate) fn derive<'s>(
    session: &'s Session,
    kbpk: ObjectHandle,
    derivation: Derivation,
    template: &Template,
    operation: &'static str,
) -> Result<Ephemeral<'s>, HsmError> {
    let counter = KbkdfCounterFormat::new(Endianness::Big, NonZeroUsize::MIN.saturating_add(7));
    let (label, context) = (derivation.label(), derivation.context());
    let data = [
        PrfDataParam::new(PrfDataParamType::IterationVariable(Some(&counter))),
        PrfDataParam::new(PrfDataParamType::ByteArray(&label)),
        PrfDataParam::new(PrfDataParamType::ByteArray(&[0x00])),
        PrfDataParam::new(PrfDataParamType::ByteArray(&context)),
    ];
    let mechanism = Mechanism::KbkdfCounter(KbkdfParams::new(MechanismType::AES_CMAC, &data, None));
    let len = derivation.kbpk().key_len();
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(KeyType::AES));
    attributes.push(Attribute::ValueLen(len.try_into().during(operation)?));
    let derived = session
        .derive_key(&mechanism, kbpk, &attributes)
        .during(operation)?;
    Ok(Ephemeral::new(session, derived))
}

/// The KBAK of a block.
pub(crate) struct Authentication<'s> {
    session: &'s Session,
    key: Ephemeral<'s>,
    operation: &'static str,
}

impl<'s> Authentication<'s> {
    /// From the KBPK. `derivation` says for which key of a block.
    pub(crate) fn derive(
        session: &'s Session,
        kbpk: ObjectHandle,
        derivation: impl Fn(BlockKey) -> Result<Derivation, HsmError>,
        operation: &'static str,
    ) -> Result<Self, HsmError> {
        let derivation = derivation(BlockKey::Authentication)?;
        let template = &BLOCK_AUTHENTICATION_KEY;
        Ok(Self {
            session,
            key: derive(session, kbpk, derivation, template, operation)?,
            operation,
        })
    }

    /// The last block of the CBC encryption of what is not secret, going on from `chain`.
    pub(crate) fn encrypt(&self, chain: Block, message: &[u8]) -> Result<Block, HsmError> {
        let iv = Mechanism::AesCbc(chain);
        let encrypted = self.session.encrypt(&iv, self.key.handle(), message);
        last_block(&encrypted.during(self.operation)?, self.operation)
    }

    /// The same of `len` bytes that only the module knows.
    pub(crate) fn wrap(
        &self,
        chain: Block,
        part: &Ephemeral<'_>,
        len: usize,
    ) -> Result<Block, HsmError> {
        let (iv, key) = (Mechanism::AesCbc(chain), self.key.handle());
        let wrapped = wrap(self.session, &iv, key, part.handle(), len, self.operation)?;
        last_block(&wrapped, self.operation)
    }

    /// A block with CMAC's subkey added.
    pub(crate) fn masked(&self, block: &[u8]) -> Result<Block, HsmError> {
        let subkey = cmac_subkey(&self.encrypt(START, &START)?);
        let masked: Vec<u8> = block.iter().zip(subkey).map(|(a, b)| a ^ b).collect();
        to_block(&masked, self.operation)
    }
}

pub(crate) fn to_block(bytes: &[u8], operation: &'static str) -> Result<Block, HsmError> {
    bytes.try_into().map_err(|_| too_short(operation))
}

fn last_block(bytes: &[u8], operation: &'static str) -> Result<Block, HsmError> {
    let last = bytes.last_chunk().copied();
    last.ok_or_else(|| too_short(operation))
}

pub(crate) fn too_short(operation: &'static str) -> HsmError {
    HsmError::BadAnswer {
        operation,
        what: "less than a block".to_owned(),
    }
}
