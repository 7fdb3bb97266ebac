//! Signatures with the host's key by the module, with nothing before it: what no host can be faster
//! than.

use std::time::Duration;

use anyhow::Result;
use cryptoki::{mechanism::Mechanism, object::ObjectClass};
use serde::{Deserialize, Serialize};

use super::{
    Measure,
    raw::{RawToken, find},
};
use crate::race::{Pace, race};

/// `CKM_SHA256_RSA_PKCS` over a message of this length, on so many threads with a session each.
#[derive(Serialize, Deserialize)]
pub(crate) struct RawSign {
    pub(crate) token: RawToken,
    /// The key's label.
    pub(crate) key: String,
    pub(crate) message_len: usize,
    pub(crate) threads: usize,
    pub(crate) length: Duration,
}

impl Measure for RawSign {
    type Found = Pace;

    fn measure(self) -> Result<Pace> {
        let (_module, sessions) = self.token.open(self.threads)?;
        let message = vec![0x31; self.message_len];
        let signers = sessions.into_iter().map(|session| {
            let key = find(&session, ObjectClass::PRIVATE_KEY, &self.key)?;
            let message = &message;
            Ok(move || {
                session.sign(&Mechanism::Sha256RsaPkcs, key, message)?;
                Ok(())
            })
        });
        race(signers.collect::<Result<Vec<_>>>()?, self.length)
    }
}
