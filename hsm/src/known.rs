//! What a token was seen to hold, and has to hold still when it comes back: a device may have been
//! exchanged, or filled anew, while it was away.

use std::collections::HashMap;

use pki::PublicKey;

use crate::{
    HsmError, Kcv, KeyName, KeyRole, SecretKey, check_value, inspect::public_key, worker::Worker,
};

/// Keys by name.
#[derive(Default)]
pub(crate) struct Known(HashMap<KeyName, Key>);

#[derive(Clone)]
enum Key {
    Pair(KeyRole, PublicKey),
    Secret(SecretKey, Kcv),
}

impl Known {
    pub(crate) fn pair(&mut self, role: KeyRole, name: KeyName, public_key: PublicKey) {
        self.0.insert(name, Key::Pair(role, public_key));
    }

    pub(crate) fn secret(&mut self, key: SecretKey, kcv: Kcv) {
        self.0.insert(key.name().clone(), Key::Secret(key, kcv));
    }

    pub(crate) fn forget(&mut self, name: &KeyName) {
        self.0.remove(name);
    }

    /// As it is now, to be compared without holding anybody up.
    pub(crate) fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    /// Whether the token of this worker holds all of it.
    ///
    /// # Errors
    /// It does not; or a call failed.
    pub(crate) fn require(&self, worker: &mut Worker, token: &str) -> Result<(), HsmError> {
        for (name, key) in &self.0 {
            let same = match key {
                Key::Pair(role, known) => {
                    let found = worker.key(*role, name)?;
                    public_key(&worker.session, found, name)? == *known
                }
                Key::Secret(key, known) => {
                    let found = worker.key(key.role(), name)?;
                    let len = known.value().len();
                    check_value::of_copy(&worker.session, found, key.kind(), len)? == *known
                }
            };
            if !same {
                return Err(HsmError::KeyDiffers {
                    label: name.label().to_owned(),
                    token: token.to_owned(),
                });
            }
        }
        Ok(())
    }
}
