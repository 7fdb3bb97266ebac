//! Signatures with the host's key by the module, with nothing before it: what no host can be faster
//! than.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass},
    session::{Session, UserType},
    types::AuthPin,
};
use serde::{Deserialize, Serialize};

use super::Measure;
use crate::race::{Pace, race};

/// `CKM_SHA256_RSA_PKCS` over a message of this length, on so many threads with a session each.
#[derive(Serialize, Deserialize)]
pub(crate) struct RawSign {
    pub(crate) module: PathBuf,
    pub(crate) token: String,
    pub(crate) pin_file: PathBuf,
    /// The key's label.
    pub(crate) key: String,
    pub(crate) message_len: usize,
    pub(crate) threads: usize,
    pub(crate) length: Duration,
}

impl Measure for RawSign {
    type Found = Pace;

    fn measure(self) -> Result<Pace> {
        let module = Pkcs11::new(&self.module)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let sessions = self.sessions(&module)?;
        let message = vec![0x31; self.message_len];
        let label = Attribute::Label(self.key.clone().into_bytes());
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), label];
        let signers = sessions.into_iter().map(|session| {
            let found = session.find_objects(&template)?;
            let key = *found.first().context("the token has no such key")?;
            let message = &message;
            Ok(move || {
                session.sign(&Mechanism::Sha256RsaPkcs, key, message)?;
                Ok(())
            })
        });
        race(signers.collect::<Result<Vec<_>>>()?, self.length)
    }
}

impl RawSign {
    /// The first one logs in for all.
    fn sessions(&self, module: &Pkcs11) -> Result<Vec<Session>> {
        for slot in module.get_slots_with_initialized_token()? {
            if module.get_token_info(slot)?.label() != self.token {
                continue;
            }
            let open = || Ok(module.open_ro_session(slot)?);
            let sessions: Vec<Session> =
                (0..self.threads).map(|_| open()).collect::<Result<_>>()?;
            let pin = fs::read_to_string(&self.pin_file)?;
            let pin = AuthPin::new(pin.trim_end().to_owned().into());
            let first = sessions.first().context("no thread")?;
            first.login(UserType::User, Some(&pin))?;
            return Ok(sessions);
        }
        anyhow::bail!("no token is called {}", self.token)
    }
}
