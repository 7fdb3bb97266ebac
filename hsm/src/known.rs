//! What a token has to be and to hold when it comes back, or comes late: a device may have been
//! exchanged, or filled anew, while it was away.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use cryptoki::object::ObjectHandle;
use pki::PublicKey;
use tr34::OaepHash;

use crate::{
    HsmError, Kcv, KeyName, KeyRole, SealRequest, SecretKey, StorageNumber, check_value,
    inspect::public_key,
    keys,
    seal::{OwnedRequest, Plan},
    self_test::{self, Sealing},
    signing::PrivateKey,
    storage::Proof,
    template::Flag,
    worker::Worker,
};

/// What a pair signs to show that it is one. Nothing that anybody would take for a message.
const PROOF: &[u8] = b"key distribution host: a pair is one";

/// What is demanded of a token.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// The hash with which it must pass the self-test.
    self_test: Option<OaepHash>,
    keys: HashMap<KeyName, Key>,
    /// Counts what was added.
    additions: u64,
}

/// A key that is known.
#[derive(Clone)]
pub(crate) enum Key {
    Pair(KeyRole, PublicKey),
    Secret(Box<Held>),
    /// One of a pair of storage keys.
    Storage(KeyRole, Arc<Proof>),
}

/// A secret key, and what it must be possible to seal it into, if it is one that is sealed.
#[derive(Clone)]
pub(crate) struct Held {
    key: SecretKey,
    kcv: Kcv,
    request: Option<OwnedRequest>,
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
        self.hold(key, kcv, Some(OwnedRequest::from(request)));
    }

    /// A key over others, or a BDK, of the kind that was announced.
    pub(crate) fn announced(&mut self, key: SecretKey, kcv: Kcv) {
        self.hold(key, kcv, None);
    }

    fn hold(&mut self, key: SecretKey, kcv: Kcv, request: Option<OwnedRequest>) {
        let name = key.name().clone();
        self.add(name, Key::Secret(Box::new(Held { key, kcv, request })));
    }

    pub(crate) fn storage(&mut self, proof: &Arc<Proof>) {
        for (role, name) in proof.names() {
            self.add(name, Key::Storage(role, Arc::clone(proof)));
        }
    }

    /// By what a pair of storage keys is known.
    pub(crate) fn pair_of_storage_keys(&self, number: StorageNumber) -> Option<Arc<Proof>> {
        self.keys.values().find_map(|key| match key {
            Key::Storage(_, proof) if proof.number() == number => Some(Arc::clone(proof)),
            _ => None,
        })
    }

    pub(crate) fn pairs_of_storage_keys(&self) -> Vec<StorageNumber> {
        let keys = self.keys.values();
        let numbers = keys.filter_map(Key::storage_number);
        numbers.collect()
    }

    pub(crate) fn forget_storage_keys(&mut self, number: StorageNumber) {
        self.keys
            .retain(|_, key| key.storage_number() != Some(number));
    }

    fn add(&mut self, name: KeyName, key: Key) {
        self.keys.insert(name, key);
        self.additions += 1;
    }

    pub(crate) fn key(&self, name: &KeyName) -> Option<Key> {
        self.keys.get(name).cloned()
    }

    pub(crate) fn forget(&mut self, name: &KeyName) {
        self.keys.remove(name);
    }

    /// Whether something was added since `earlier` was copied from it.
    pub(crate) fn has_more_than(&self, earlier: &Self) -> bool {
        self.additions != earlier.additions
    }

    /// Whether the token of this worker is and holds all of it. What became of the self-test is in
    /// `sealing`, or is found out, and kept there if all of it is as it has to be: what a token could not do for
    /// a moment is tried again with the next.
    ///
    /// # Errors
    /// It does not; or a call failed.
    pub(crate) fn require(
        &self,
        worker: &mut Worker,
        sealing: &OnceLock<Sealing>,
    ) -> Result<(), HsmError> {
        let mut fresh = None;
        if let Some(oaep) = self.self_test {
            if sealing.get().is_none() {
                fresh = Some(self_test::sealing(worker)?);
            }
            if let Some(outcome) = sealing.get().or(fresh.as_ref()) {
                self_test::passed(outcome, oaep)?;
            }
        }
        for (name, key) in &self.keys {
            match key {
                Key::Pair(role, public_key) => {
                    // The worker compares the public halves, which say nothing of what is beside them.
                    let found = worker.key(*role, name)?;
                    if keys::may(&worker.session, found, Flag::Sign, name)? {
                        let key = PrivateKey::new(*role, name.clone(), public_key.clone());
                        key.sign_by(worker, PROOF)?;
                    }
                }
                // The worker has them do what they did.
                Key::Storage(role, _) => drop(worker.key(*role, name)?),
                Key::Secret(known) => {
                    if known.find(worker)? != known.key {
                        return Err(differs(worker, name));
                    }
                    if let Some(outcome) = sealing.get().or(fresh.as_ref()) {
                        known.require_plan(outcome)?;
                    }
                }
            }
        }
        if let Some(fresh) = fresh {
            sealing.get_or_init(|| fresh);
        }
        Ok(())
    }
}

impl Key {
    fn storage_number(&self) -> Option<StorageNumber> {
        match self {
            Self::Storage(_, proof) => Some(proof.number()),
            Self::Pair(..) | Self::Secret(_) => None,
        }
    }

    /// Whether a key that was found by this name is this one.
    ///
    /// # Errors
    /// It is another one; or a call failed.
    pub(crate) fn require_same(
        &self,
        worker: &Worker,
        found: ObjectHandle,
        name: &KeyName,
    ) -> Result<(), HsmError> {
        let same = match self {
            Self::Pair(_, known) => public_key(&worker.session, found, name)? == *known,
            Self::Secret(known) => {
                let (kind, len) = (known.key.kind(), known.kcv.value().len());
                check_value::of_copy(&worker.session, found, kind, len)? == known.kcv
            }
            Self::Storage(role, proof) => proof.is_by(&worker.session, *role, found)?,
        };
        same.then_some(()).ok_or_else(|| differs(worker, name))
    }
}

/// The token holds another key by this name than it did, or than others do.
pub(crate) fn differs(worker: &Worker, name: &KeyName) -> HsmError {
    HsmError::KeyDiffers {
        label: name.label().to_owned(),
        token: worker.place.label.to_string(),
    }
}

impl Held {
    fn find(&self, worker: &mut Worker) -> Result<SecretKey, HsmError> {
        let (role, name) = (self.key.role(), self.key.name());
        match self.request {
            Some(_) => keys::secret_key(worker, role, name),
            None => keys::announced_key(worker, role, name, self.key.kind()),
        }
    }

    fn require_plan(&self, sealing: &Sealing) -> Result<(), HsmError> {
        let Some(request) = &self.request else {
            return Ok(());
        };
        let request = request.borrow();
        let report = self_test::passed(sealing, request.oaep)?;
        Plan::passed(report, &self.key, &request).map(drop)
    }
}
