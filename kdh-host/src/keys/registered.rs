//! Keys that are known by their check values: registered keys, BDKs, and those that are agreed with others.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
};

use hsm::{FoundKey, HsmError, KeyName, KeyRole, KnSource, SecretKey, StoredKn};
use tr34::Profile;

use super::HostKeys;
use crate::{
    bdks::{self, Bdks},
    error::HostError,
    names::KeyAlias,
    state::DeviceKeyState,
    store::{DeviceKey, KeySource, Sealed, SealedRow as _, StoreError, StoredBdk, StoredKey},
};

/// A registered key as it was when the HSM was asked about it. A row of the database that says something
/// else has been changed by somebody else.
#[derive(Debug)]
pub(super) struct Held {
    stored: StoredKey,
    key: SecretKey,
}

impl HostKeys {
    /// Finds a master key and computes its check value.
    pub(crate) fn master_key(&self, label: &str) -> Result<FoundKey, HsmError> {
        self.kdh_tokens
            .secret_key(KeyRole::TransportKey, &KeyName::new(label)?)
    }

    /// Whether the HSM holds a registered key, still the same one, and can seal it.
    pub(crate) fn verify_held(&self, stored: &StoredKey) -> Result<(), HostError> {
        let found = self.master_key(&stored.hsm_label)?;
        let key = found.key();
        if key.kind() != stored.kind {
            return Err(HostError::Internal(format!(
                "it is {} in the HSM, and {} in the database",
                key.kind(),
                stored.kind
            )));
        }
        if *found.kcv() != stored.kcv {
            return Err(HostError::Hsm(HsmError::KcvMismatch {
                expected: stored.kcv.clone(),
                found: found.kcv().clone(),
            }));
        }
        self.verify_sealable(key, &stored.header)?;
        self.hold(stored.clone(), &found);
        Ok(())
    }

    /// What is wrong with registered keys, in words: that the HSM does not hold them, still the same ones, or cannot
    /// seal them.
    pub(crate) fn faults_of<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k StoredKey>,
    ) -> Vec<String> {
        let faults = keys.into_iter().filter_map(|key| {
            let fault = self.verify_held(key).err()?;
            Some(format!("key {}: {fault}", key.name))
        });
        faults.collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<KeyAlias, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a key that was verified while it was registered.
    pub(crate) fn hold(&self, stored: StoredKey, found: &FoundKey) {
        let key = found.key().clone();
        let present = (&self.kdhs.present, Profile::default());
        self.with_request(present, key.kind(), &stored.header, |request| {
            self.kdh_tokens.require_from_now_on(found, request);
        });
        self.held()
            .insert(stored.name.clone(), Held { stored, key });
    }

    /// Takes note that a key was not registered after all.
    pub(crate) fn release(&self, name: &KeyAlias, key: &SecretKey) {
        self.kdh_tokens.require_no_more(key);
        self.held().remove(name);
    }

    /// The names of the registered keys that are known, whatever the database says.
    pub(crate) fn held_names(&self) -> Vec<KeyAlias> {
        self.held().keys().cloned().collect()
    }

    /// The registered key of this name, if it is what a device's row says.
    fn require_held(&self, name: &KeyAlias, row: &DeviceKey) -> Result<SecretKey, HostError> {
        let held = self.held();
        let held = held.get(name).filter(|held| {
            let stored = &held.stored;
            stored.header == row.header && stored.kcv == row.kcv && held.key.kind() == row.kind
        });
        let held = held.ok_or_else(|| StoreError::NotSealed(row.title()))?;
        Ok(held.key.clone())
    }

    /// Where the HSM finds the key of a row.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: it is a key that no device holds or shall hold any more, or not what is known of it.
    pub(crate) fn source(&self, key: &Sealed<DeviceKey>) -> Result<KnSource, HostError> {
        let row = key.unproven();
        let unsealed = || StoreError::NotSealed(row.title());
        match row.state {
            DeviceKeyState::Pending | DeviceKeyState::Active => {}
            DeviceKeyState::Destroyed | DeviceKeyState::Withdrawn | DeviceKeyState::Discarded => {
                return Err(unsealed().into());
            }
        }
        match &row.source {
            KeySource::Shared { name } => Ok(KnSource::InToken(self.require_held(name, row)?)),
            KeySource::Unique { wrapped } => Ok(KnSource::Stored(StoredKn {
                number: key.seal().ok_or_else(unsealed)?.number,
                kind: row.kind,
                wrapped: wrapped.clone().ok_or_else(unsealed)?,
            })),
            KeySource::Derived { bdk, id } => {
                // None was ever derived that this BDK does not derive.
                let key = self.bdks.initial_key(bdk, row.kind, *id);
                Ok(KnSource::Derived(key.map_err(|_| unsealed())?))
            }
            KeySource::Nothing => Err(unsealed().into()),
        }
    }

    /// The BDKs that are known.
    pub(crate) fn bdks(&self) -> &Bdks {
        &self.bdks
    }

    /// Takes note of a BDK that the HSM still holds.
    pub(crate) fn hold_bdk(&self, bdk: &StoredBdk) -> Result<(), HostError> {
        let found = self.find_bdk(bdk)?;
        self.bdks.hold(bdk, found);
        Ok(())
    }

    /// Finds a BDK in the HSM, the same one as at its registration. From now on a token that was lost is not back
    /// before it holds it, and no other key by its name is derived from.
    pub(crate) fn find_bdk(&self, bdk: &StoredBdk) -> Result<SecretKey, HostError> {
        let name = bdks::label(&bdk.name)?;
        let tokens = &self.kdh_tokens;
        Ok(tokens.agreed_key(KeyRole::Bdk, &name, bdk.kind, &bdk.kcv)?)
    }

    /// Takes note that a BDK was not registered after all, unless it was meanwhile.
    pub(crate) fn forget_bdk(&self, bdk: &StoredBdk, found: &SecretKey) {
        if !self.bdks.holds(&bdk.name) {
            self.kdh_tokens.require_no_more(found);
        }
    }
}
