//! The terminal's side, where the token cannot open a key block inside: Ke still goes straight into
//! the token, but the block, Kn included, comes out in process memory.

use pki::PublicKey;
use tr34::EnvelopedKeyBlock;
use zeroize::Zeroizing;

use super::{EncryptedKe, OPERATION, unwrap_whole_ke};
use crate::{
    ClearKeyBlock, HsmError, KeyName, KeyRole, Token, cipher,
    error::CallResult,
    inspect::public_key,
    keys::may,
    template::{Flag, OPENING_KEY},
    worker::Worker,
};

/// That the terminal's configuration accepts key blocks, Kn included, in process memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InProcessMemoryConsent(());

impl InProcessMemoryConsent {
    /// The word that a configuration has to say.
    pub const WORD: &'static str = "accepted";

    /// From the configuration's word; `None` unless it is [`Self::WORD`].
    pub fn from_configuration(word: &str) -> Option<Self> {
        (word == Self::WORD).then_some(Self(()))
    }
}

/// The terminal's RSA key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecryptionKey {
    name: KeyName,
    public_key: PublicKey,
    may_sign: bool,
}

impl DecryptionKey {
    pub(crate) fn find(token: &Token, name: &KeyName) -> Result<Self, HsmError> {
        let name = name.clone();
        token.run("find a decryption key", move |worker| {
            let key = worker.key(KeyRole::KrdEncryption, &name)?;
            Ok(Self {
                public_key: public_key(&worker.session, key, &name)?,
                may_sign: may(&worker.session, key, Flag::Sign, &name)?,
                name,
            })
        })
    }

    /// Its name in the token.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its public half.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether it could still sign when it was found. A key that has made its certificate request
    /// should not ([`Token::retire_signing`]).
    pub const fn may_sign(&self) -> bool {
        self.may_sign
    }
}

pub(crate) fn open_in_process_memory(
    worker: &mut Worker,
    name: &KeyName,
    enveloped: &EnvelopedKeyBlock,
    _consent: InProcessMemoryConsent,
) -> Result<ClearKeyBlock, HsmError> {
    let private = worker.key(KeyRole::KrdEncryption, name)?;
    let session = &worker.session;

    let ke = unwrap_whole_ke(session, private, &EncryptedKe::of(enveloped), &OPENING_KEY)
        .map_err(without_detail)?;
    session
        .decrypt(
            &cipher::padded(enveloped.encryption()),
            ke.handle(),
            enveloped.ciphertext(),
        )
        // At once: the binding's buffer becomes the one that is wiped.
        .map(|block| ClearKeyBlock::new(Zeroizing::new(block)))
        .during(OPERATION)
        .map_err(without_detail)
}

/// Which step failed, and how, would tell whoever made the block something about Ke and the padding
/// (RFC 8017 7.1.2, note).
pub(crate) fn without_detail(error: HsmError) -> HsmError {
    match error {
        // Some modules say of a ciphertext that does not open that their device failed.
        lost @ HsmError::Unavailable { .. } if !lost.is_device_error() => lost,
        _ => HsmError::OpeningFailed,
    }
}
