//! MACs by a key of the host's HSM, of what is written into its database while it does not run.

use anyhow::{Context as _, Result, ensure};
use cryptoki::{mechanism::Mechanism, object::ObjectClass};
use serde::{Deserialize, Serialize};

use super::{
    Measure,
    raw::{RawToken, find},
};

/// `CKM_AES_CMAC` of each message, hex.
#[derive(Serialize, Deserialize)]
pub(crate) struct Macs {
    pub(crate) token: RawToken,
    /// Label of the key.
    pub(crate) key: String,
    pub(crate) messages: Vec<String>,
}

impl Measure for Macs {
    type Found = Vec<String>;

    fn measure(self) -> Result<Vec<String>> {
        let (_module, sessions) = self.token.open(1)?;
        let session = sessions.first().context("no session")?;
        let key = find(session, ObjectClass::SECRET_KEY, &self.key)?;
        let macs = self.messages.iter().map(|message| {
            let mac = session.sign(&Mechanism::AesCMac, key, &hex::decode(message)?)?;
            ensure!(mac.len() == 16, "a MAC of {} bytes", mac.len());
            Ok(hex::encode(mac))
        });
        macs.collect()
    }
}
