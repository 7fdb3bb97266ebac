//! Keys made and wrapped by the module, with nothing before it: what no host can be faster than when it makes keys for
//! terminals.

use std::time::Duration;

use anyhow::Result;
use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
};
use serde::{Deserialize, Serialize};

use super::{
    Measure,
    raw::{RawToken, find},
};
use crate::race::{Pace, race};

/// `CKM_AES_KEY_GEN` of an AES-128 key in the session, `CKM_AES_KEY_WRAP` of it, and its end, on so many threads with a
/// session each.
#[derive(Serialize, Deserialize)]
pub(crate) struct RawKeys {
    pub(crate) token: RawToken,
    /// Label of the key that wraps.
    pub(crate) storage_key: String,
    pub(crate) threads: usize,
    pub(crate) length: Duration,
}

impl Measure for RawKeys {
    type Found = Pace;

    fn measure(self) -> Result<Pace> {
        let (_module, sessions) = self.token.open(self.threads)?;
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(16.into()),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(true),
        ];
        let makers = sessions.into_iter().map(|session| {
            let storage_key = find(&session, ObjectClass::SECRET_KEY, &self.storage_key)?;
            let template = &template;
            Ok(move || {
                let key = session.generate_key(&Mechanism::AesKeyGen, template)?;
                session.wrap_key(&Mechanism::AesKeyWrap, storage_key, key)?;
                session.destroy_object(key)?;
                Ok(())
            })
        });
        race(makers.collect::<Result<Vec<_>>>()?, self.length)
    }
}
