//! Signatures.

use pki::{PublicKey, Signer};

use crate::{HsmError, KeyName, Token};

/// A private key that signs.
#[derive(Clone)]
pub struct SigningKey {
    token: Token,
    name: KeyName,
    public_key: PublicKey,
}

impl SigningKey {
    /// Its name in the token.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }
}

impl Signer for SigningKey {
    type Error = HsmError;

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, HsmError> {
        let _ = &self.token;
        unimplemented!()
    }
}
