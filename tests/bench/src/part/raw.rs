//! A token by its module, with nothing before it.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use serde::{Deserialize, Serialize};

/// Where it is.
#[derive(Serialize, Deserialize)]
pub(crate) struct RawToken {
    pub(crate) module: PathBuf,
    pub(crate) label: String,
    pub(crate) pin_file: PathBuf,
}

impl RawToken {
    /// So many sessions. The first one logs in for all.
    pub(crate) fn open(&self, sessions: usize) -> Result<(Pkcs11, Vec<Session>)> {
        let module = Pkcs11::new(&self.module)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        for slot in module.get_slots_with_initialized_token()? {
            if module.get_token_info(slot)?.label() != self.label {
                continue;
            }
            let open = || Ok(module.open_ro_session(slot)?);
            let sessions: Vec<Session> = (0..sessions).map(|_| open()).collect::<Result<_>>()?;
            let pin = fs::read_to_string(&self.pin_file)?;
            let pin = AuthPin::new(pin.trim_end().to_owned().into());
            let first = sessions.first().context("no session")?;
            first.login(UserType::User, Some(&pin))?;
            return Ok((module, sessions));
        }
        anyhow::bail!("no token is called {}", self.label)
    }
}

/// The key of this label.
pub(crate) fn find(session: &Session, class: ObjectClass, label: &str) -> Result<ObjectHandle> {
    let label = Attribute::Label(label.as_bytes().to_vec());
    let found = session.find_objects(&[Attribute::Class(class), label])?;
    found.first().copied().context("the token has no such key")
}
