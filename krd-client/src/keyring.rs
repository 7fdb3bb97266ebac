//! The loaded keys in the token. A slot's record is what counts: a key object that no record names
//! is nothing but a remainder of a load that was cut off.

use std::collections::BTreeSet;

use hsm::{HsmError, Kcv, KeyClass, KeyName, KeyRole, KeySummary, StagedKey, Token};

use crate::{
    Delivery, KrdError, SlotName,
    memory::Memory,
    names::LOADED_KEY_PREFIX,
    record::{DestroyedKey, HeldKey, HexBytes, KcvRecord, PendingReport, SlotRecord},
};

/// The slots of a terminal.
#[derive(Clone, Copy)]
pub struct Keyring<'t> {
    token: &'t Token,
    memory: Memory<'t>,
}

impl<'t> Keyring<'t> {
    /// The slots in this token.
    pub const fn new(token: &'t Token) -> Self {
        Self {
            token,
            memory: Memory::new(token),
        }
    }

    /// What the records say, sorted by slot.
    ///
    /// # Errors
    /// A record does not read; the token does not answer.
    pub fn slots(&self) -> Result<Vec<SlotRecord>, KrdError> {
        self.memory.slots()
    }

    /// What the record of a slot says; nothing held if there is none.
    ///
    /// # Errors
    /// The record does not read; the token does not answer.
    pub fn slot(&self, slot: &SlotName) -> Result<SlotRecord, KrdError> {
        self.memory.slot(slot)
    }

    /// Makes a staged key the key of its slot and destroys the old one.
    ///
    /// Writing the slot's record is the moment at which the new key counts. What is cut off before
    /// leaves the old key, and after, the new one; the other one is swept.
    ///
    /// # Errors
    /// The token refuses; the slot holds what it held before.
    pub fn commit(
        &self,
        staged: StagedKey,
        delivery: &Delivery,
        kcv: &Kcv,
        report: PendingReport,
    ) -> Result<(), KrdError> {
        let old = self.slot(&delivery.slot)?;
        let held = HeldKey {
            key_version: delivery.key_version,
            kdh: Some(HexBytes(delivery.kdh.to_der())),
            delivery_id: delivery.id.clone(),
            header: delivery.header.to_string(),
            kcv: KcvRecord::from(kcv),
            confirmed: false,
        };
        let name = held.key_name(&delivery.slot)?;
        staged.commit(&name)?;
        let new = SlotRecord {
            slot: delivery.slot.clone(),
            held: Some(held),
            report: Some(report),
        };
        if let Err(error) = self.memory.keep_slot(&new) {
            self.destroy_remainder(&name);
            return Err(error);
        }
        if let Some(old) = old.held {
            self.destroy_remainder(&old.key_name(&delivery.slot)?);
        }
        Ok(())
    }

    /// Keeps a receipt of a key that was not loaded until the host has it; the slot's key stays.
    ///
    /// # Errors
    /// The token refuses.
    pub fn keep_report(&self, slot: &SlotName, report: PendingReport) -> Result<(), KrdError> {
        let record = SlotRecord {
            report: Some(report),
            ..self.slot(slot)?
        };
        self.memory.keep_slot(&record)
    }

    /// Forgets a slot's receipt, because the host has dealt with it. If it was for the slot's key and
    /// `accepted`, the key is confirmed.
    ///
    /// # Errors
    /// The token refuses.
    pub fn settle_report(&self, slot: &SlotName, accepted: bool) -> Result<(), KrdError> {
        let mut record = self.slot(slot)?;
        let Some(report) = record.report.take() else {
            return Ok(());
        };
        if let Some(held) = &mut record.held
            && held.delivery_id == report.delivery_id
        {
            held.confirmed = accepted;
        }
        self.memory.keep_slot(&record)
    }

    /// The check value of a slot's key, as long as the one with which it was loaded, computed by the token now; `None` if the key is gone.
    ///
    /// # Errors
    /// The token refuses.
    pub fn kcv(&self, slot: &SlotName, held: &HeldKey) -> Result<Option<Kcv>, KrdError> {
        let name = held.key_name(slot)?;
        match self.token.secret_key(KeyRole::LoadedKey, &name) {
            Ok(key) => {
                let len = held.kcv.value.0.len();
                Ok(Some(self.token.kcv_of_len(&key, len)?))
            }
            Err(HsmError::KeyNotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a slot's key is in the token, with the check value that it had when it was loaded.
    ///
    /// # Errors
    /// The token refuses.
    pub fn is_intact(&self, slot: &SlotName, held: &HeldKey) -> Result<bool, KrdError> {
        let kcv = self.kcv(slot, held)?;
        Ok(kcv.is_some_and(|kcv| KcvRecord::from(&kcv) == held.kcv))
    }

    /// Destroys the loaded keys that no record names, and returns how many there were.
    ///
    /// # Errors
    /// A record does not read, and then nothing is destroyed; the token refuses.
    pub fn sweep(&self) -> Result<usize, KrdError> {
        let mut named = BTreeSet::new();
        for SlotRecord { slot, held, .. } in self.slots()? {
            if let Some(held) = held {
                let name = held.key_name(&slot)?;
                named.insert((name.label().to_owned(), name.id().to_vec()));
            }
        }
        let mut swept = 0;
        for key in self.loaded_keys()? {
            if !named.contains(&(key.label().to_owned(), key.id().to_vec())) {
                self.token.destroy_key(&key)?;
                tracing::warn!(
                    key = key.label(),
                    "destroyed a key of a load that was cut off"
                );
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// What the records say that is held.
    ///
    /// # Errors
    /// A record does not read; the token does not answer.
    pub fn held(&self) -> Result<Vec<DestroyedKey>, KrdError> {
        let held = |record: SlotRecord| {
            record.held.map(|held| DestroyedKey {
                slot: record.slot,
                key_version: held.key_version,
            })
        };
        Ok(self.slots()?.into_iter().filter_map(held).collect())
    }

    /// Destroys every loaded key, named by a record or not, and then clears the slots, with the
    /// receipts that have not been sent. What is cut off is gone on with by doing it again.
    ///
    /// # Errors
    /// The token refuses; some keys and records may be gone then.
    pub fn destroy_all(&self) -> Result<(), KrdError> {
        for key in self.loaded_keys()? {
            self.token.destroy_key(&key)?;
        }
        self.memory.forget_slots()
    }

    fn loaded_keys(&self) -> Result<Vec<KeyName>, KrdError> {
        let mut keys = self.token.list_keys()?;
        keys.retain(|key| {
            key.class == KeyClass::Secret && key.label.starts_with(LOADED_KEY_PREFIX)
        });
        let name = |key: &KeySummary| Ok(KeyName::with_id(&key.label, &key.id)?);
        keys.iter().map(name).collect()
    }

    /// Destroys a key that no record names any more. Failing is no fault of the act that left it: the
    /// next sweep tries again.
    fn destroy_remainder(&self, name: &KeyName) {
        match self.token.destroy_key(name) {
            Ok(()) | Err(HsmError::KeyNotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(key = name.label(), %error, "cannot destroy an old key yet");
            }
        }
    }
}
