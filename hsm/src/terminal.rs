//! The terminal's side.

use pki::PublicKey;

use crate::{HsmError, Kcv, KeyName, SecretKey};

/// That the terminal's configuration accepts key blocks, Kn included, in process memory.
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Debug)]
pub struct DecryptionKey {
    name: KeyName,
    public_key: PublicKey,
    may_sign: bool,
}

impl DecryptionKey {
    /// Its name in the token.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its public half.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether it may still sign: it has not been retired to decryption.
    pub const fn may_sign(&self) -> bool {
        self.may_sign
    }
}

/// A Kn on its way into the terminal's token.
pub struct StagedKey;

impl StagedKey {
    /// Its check value.
    ///
    /// # Errors
    /// The token does not compute it.
    pub fn kcv(&self) -> Result<Kcv, HsmError> {
        unimplemented!()
    }

    /// Makes it a token key.
    ///
    /// # Errors
    /// The name is taken, or the token refuses.
    pub fn commit(self, _name: &KeyName) -> Result<SecretKey, HsmError> {
        unimplemented!()
    }
}
