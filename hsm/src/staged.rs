//! A Kn on its way into the terminal's token.

use std::fmt;

use cryptoki::object::{Attribute, ObjectHandle};
use tr34::{EnvelopedKeyBlock, KeyKind};

use crate::{
    ClearKey, HsmError, Kcv, KeyName, KeyRole, SecretKey, Token, check_value,
    error::CallResult,
    inspect::{key_type, require_free, require_role},
    open::{self, ExpectedKeyBlock, Opening},
    secret::SecretTemplate,
    template::{LOADED_KEY, Lives},
    worker::{Ephemeral, Worker},
};

/// A key that is in the HSM but not yet in the token: sensitive and never extractable, and gone
/// when this is dropped.
#[must_use = "the key goes when this is dropped"]
pub struct StagedKey {
    /// In a session of its own, with which it goes.
    worker: Worker,
    key: ObjectHandle,
    kind: KeyKind,
    /// Keeps the login.
    token: Token,
}

impl StagedKey {
    pub(crate) fn load(token: Token, key: &ClearKey, kind: KeyKind) -> Result<Self, HsmError> {
        if key.len() != kind.key_len() {
            return Err(HsmError::KeyLength {
                expected: kind.key_len(),
                found: key.len(),
            });
        }
        let worker = token.writer()?;
        let mut template = LOADED_KEY.attributes_with_class(Lives::InSession);
        template.push(Attribute::KeyType(key_type(kind)));
        let template = SecretTemplate::new(template, key.expose_clear());
        let key = worker
            .session
            .create_object(template.as_slice())
            .during("load a key")?;
        Ok(Self {
            worker,
            key,
            kind,
            token,
        })
    }

    /// Out of its key block, inside.
    pub(crate) fn open(
        token: Token,
        opening: &Opening,
        name: &KeyName,
        enveloped: &EnvelopedKeyBlock,
        expected: &[ExpectedKeyBlock],
    ) -> Result<Self, HsmError> {
        let mut worker = token.writer()?;
        let (key, kind) = open::open(&mut worker, opening, name, enveloped, expected)?;
        Ok(Self {
            worker,
            key,
            kind,
            token,
        })
    }

    /// Algorithm and length.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its check value, so many bytes of it: 3 to 5.
    ///
    /// # Errors
    /// The token does not compute it; the length is another one.
    pub fn kcv(&self, len: usize) -> Result<Kcv, HsmError> {
        check_value::of_copy(&self.worker.session, self.key, self.kind, len)
    }

    /// Makes it a token key.
    ///
    /// # Errors
    /// The name is taken, the token refuses, or what it made is weaker than its role. Nothing is kept
    /// then.
    pub fn commit(self, name: &KeyName) -> Result<SecretKey, HsmError> {
        let session = &self.worker.session;
        require_free(session, name)?;
        let template = [
            Attribute::Token(true),
            Attribute::Label(name.label().into()),
            Attribute::Id(name.id().to_vec()),
        ];
        let key = session
            .copy_object(self.key, &template)
            .with_key("commit a key", name.label())?;
        let key = Ephemeral::new(session, key);
        let place = &self.worker.place;
        require_role(session, key.handle(), KeyRole::LoadedKey, name, place)?;
        key.keep();
        Ok(SecretKey::new(
            name.clone(),
            KeyRole::LoadedKey,
            self.kind,
            false,
        ))
    }
}

impl fmt::Debug for StagedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagedKey({} in {:?})", self.kind, self.token)
    }
}
