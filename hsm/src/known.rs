//! What a token has to be and to hold when it comes back, or comes late: a device may have been
//! exchanged, or filled anew, while it was away.

use std::{collections::HashMap, sync::OnceLock};

use pki::PublicKey;
use tr34::OaepHash;

use crate::{
    HsmError, Kcv, KeyName, KeyRole, SealRequest, SecretKey, check_value,
    inspect::public_key,
    keys,
    seal::{OwnedRequest, Plan},
    self_test::{self, Sealing},
    worker::Worker,
};

/// What is demanded of a token.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// The hash with which it must pass the self-test.
    self_test: Option<OaepHash>,
    keys: HashMap<KeyName, Key>,
    /// Counts what was added.
    additions: u64,
}

#[derive(Clone)]
enum Key {
    Pair(KeyRole, PublicKey),
    Secret(Box<Sealable>),
}

/// A secret key, and what it must be possible to seal it into.
#[derive(Clone)]
struct Sealable {
    key: SecretKey,
    kcv: Kcv,
    request: OwnedRequest,
}

impl Known {
    pub(crate) fn self_test(&mut self, oaep: OaepHash) {
        self.self_test = Some(oaep);
        self.additions += 1;
    }

    pub(crate) fn pair(&mut self, role: KeyRole, name: KeyName, public_key: PublicKey) {
        self.add(name, Key::Pair(role, public_key));
    }

    pub(crate) fn secret(&mut self, key: SecretKey, kcv: Kcv, request: &SealRequest<'_>) {
        let name = key.name().clone();
        let request = OwnedRequest::from(request);
        self.add(name, Key::Secret(Box::new(Sealable { key, kcv, request })));
    }

    fn add(&mut self, name: KeyName, key: Key) {
        self.keys.insert(name, key);
        self.additions += 1;
    }

    pub(crate) fn forget(&mut self, name: &KeyName) {
        self.keys.remove(name);
    }

    /// Whether something was added since `earlier` was copied from it.
    pub(crate) fn has_more_than(&self, earlier: &Self) -> bool {
        self.additions != earlier.additions
    }

    /// Whether the token of this worker is and holds all of it. What became of the self-test is in
    /// `sealing`, or is found out and kept there if it passes.
    ///
    /// # Errors
    /// It does not; or a call failed.
    pub(crate) fn require(
        &self,
        worker: &mut Worker,
        token: &str,
        sealing: &OnceLock<Sealing>,
    ) -> Result<(), HsmError> {
        if let Some(oaep) = self.self_test {
            if let Some(outcome) = sealing.get() {
                self_test::passed(outcome, oaep)?;
            } else {
                let outcome = self_test::sealing(worker)?;
                self_test::passed(&outcome, oaep)?;
                sealing.get_or_init(|| outcome);
            }
        }
        for (name, key) in &self.keys {
            let same = match key {
                Key::Pair(role, known) => {
                    let found = worker.key(*role, name)?;
                    public_key(&worker.session, found, name)? == *known
                }
                Key::Secret(known) => known.is_held(worker)?,
            };
            if !same {
                return Err(HsmError::KeyDiffers {
                    label: name.label().to_owned(),
                    token: token.to_owned(),
                });
            }
            if let (Key::Secret(known), Some(sealing)) = (key, sealing.get()) {
                known.require_plan(sealing)?;
            }
        }
        Ok(())
    }
}

impl Sealable {
    fn is_held(&self, worker: &mut Worker) -> Result<bool, HsmError> {
        let (role, name) = (self.key.role(), self.key.name());
        if keys::secret_key(worker, role, name)? != self.key {
            return Ok(false);
        }
        let found = worker.key(role, name)?;
        let len = self.kcv.value().len();
        let kcv = check_value::of_copy(&worker.session, found, self.key.kind(), len)?;
        Ok(kcv == self.kcv)
    }

    fn require_plan(&self, sealing: &Sealing) -> Result<(), HsmError> {
        let request = self.request.borrow();
        let report = self_test::passed(sealing, request.oaep)?;
        Plan::passed(report, &self.key, &request).map(drop)
    }
}
