//! Rows of keys from before the HSM sealed them: somebody looks at them, and has it seal them as they are.
//!
//! The host never does this by itself: whoever can write to the database could have it seal anything. For the same
//! reason it is done once, before a host that seals has ever used the database, which the audit trail says; and each row
//! has to be what the trail says of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::{
    HostError, StartError,
    clock::Clock,
    config::Config,
    keys::HostKeys,
    state::DeviceKeyState,
    store::{
        Actor, AuditEntry, DeviceKey, KeySource, RecordedKey, Sealed, SealedRow as _, Store,
        StoreError, StoredKey, Tx,
    },
};

/// So many faults are named.
const NAMED: usize = 20;

/// Rows that the HSM has never sealed, in a database that no host is using meanwhile.
pub struct Adoption {
    store: Store,
    keys: HostKeys,
    clock: Box<dyn Clock>,
    registered: Vec<Sealed<StoredKey>>,
    device_keys: Vec<Sealed<DeviceKey>>,
}

impl Adoption {
    /// Opens the database and the HSM, and finds what has to be looked at.
    ///
    /// # Errors
    /// The audit trail is broken, or says that the HSM has sealed rows of this database before; it does not have a
    /// registered or an assigned key as its row says; the HSM does not hold such a key; either does not open.
    pub async fn find(config: Config, clock: Box<dyn Clock>) -> Result<Self, StartError> {
        let store = Store::open(&config.store)
            .await
            .map_err(|error| StartError::one(format!("store: {}: {error}", config.store)))?;
        let mut tx = store.read(clock.now()).await.map_err(StartError::one)?;
        match tx.verify_audit().await {
            Ok(Ok(_)) => {}
            Ok(Err(broken)) => return Err(StartError::one(format!("store: {broken}"))),
            Err(error) => return Err(StartError::one(format!("store: {error}"))),
        }
        let (registered, device_keys) = unsealed(&mut tx).await?;
        drop(tx);
        let rows: Vec<StoredKey> = registered
            .iter()
            .map(|key| key.unproven().clone())
            .collect();
        let keys = tokio::task::spawn_blocking(move || {
            let keys = HostKeys::open(&config)?;
            let faults = keys.faults_of(&rows);
            if faults.is_empty() {
                Ok(keys)
            } else {
                Err(StartError(faults))
            }
        });
        let keys = keys.await.map_err(StartError::one)??;
        Ok(Self {
            store,
            keys,
            clock,
            registered,
            device_keys,
        })
    }

    /// Whether there is nothing to be looked at.
    pub const fn is_empty(&self) -> bool {
        self.registered.is_empty() && self.device_keys.is_empty()
    }

    /// Each registered key, a line each, with how many keys of devices are this one, by their states.
    pub fn describe(&self) -> Vec<String> {
        let keys = self.registered.iter().map(Sealed::unproven);
        let keys = keys.map(|key| {
            let counts = self.counts_of(key).into_iter();
            let counts: Vec<_> = counts
                .map(|(state, devices)| format!("{devices} {state}"))
                .collect();
            let counts = if counts.is_empty() {
                "none".to_owned()
            } else {
                counts.join(", ")
            };
            format!(
                "key {}: {} in the HSM, {}, header {}, check value {}; keys of devices: {counts}",
                key.name, key.hsm_label, key.kind, key.header, key.kcv
            )
        });
        let devices = format!(
            "{} keys of devices, each one of these, and each as the audit trail has it",
            self.device_keys.len()
        );
        keys.chain([devices]).collect()
    }

    /// The same, for programs.
    pub fn to_json(&self) -> Value {
        let keys = self.registered.iter().map(Sealed::unproven);
        let keys = keys.map(|key| {
            json!({
                "name": key.name.as_str(),
                "hsm_label": key.hsm_label,
                "kind": key.kind.name(),
                "header": key.header.to_string(),
                "kcv": key.kcv.to_string(),
                "device_keys": self.counts_of(key),
            })
        });
        json!({
            "keys": keys.collect::<Vec<_>>(),
            "device_keys": self.device_keys.len(),
        })
    }

    /// How many keys of devices are this one, by their states.
    fn counts_of(&self, key: &StoredKey) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for row in self.device_keys.iter().map(Sealed::unproven) {
            if row.source.key_name() == Some(&key.name) {
                *counts.entry(row.state.as_str()).or_default() += 1;
            }
        }
        counts
    }

    /// Has the HSM seal them, on the record: all, or none. Says how many keys of devices there were.
    ///
    /// # Errors
    /// The HSM or the database does not answer.
    pub async fn seal(self) -> Result<usize, HostError> {
        let rows = self.registered.iter().map(|key| key.unproven().clone());
        let registered = self.keys.seal(rows.collect()).await?;
        let rows = self.device_keys.iter().map(|key| key.unproven().clone());
        let sealed = self.keys.seal(rows.collect()).await?;
        let mut tx = self.store.write(self.clock.now()).await?;
        for (old, new) in self.registered.iter().zip(&registered) {
            tx.reseal_key(old, new).await?;
        }
        for (old, new) in self.device_keys.iter().zip(&sealed) {
            if !tx.replace_device_key(old, new).await? {
                return Err(StoreError::Damaged("device key").into());
            }
        }
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "keys.adopted",
            device: None,
            outcome: "ok",
            detail: self.to_json(),
        })
        .await?;
        tx.commit().await?;
        self.store.close().await;
        Ok(self.device_keys.len())
    }
}

/// The rows that the HSM has never sealed.
async fn unsealed(
    tx: &mut Tx,
) -> Result<(Vec<Sealed<StoredKey>>, Vec<Sealed<DeviceKey>>), StartError> {
    let failed = |error: StoreError| StartError::one(format!("store: {error}"));
    let mut registered = tx.keys().await.map_err(failed)?;
    registered.retain(|key| key.authenticated().is_none());
    let device_keys = tx.device_keys_without_seal().await.map_err(failed)?;
    if registered.is_empty() && device_keys.is_empty() {
        return Ok((registered, device_keys));
    }
    if let Some(action) = tx.sealing_record().await.map_err(failed)? {
        return Err(StartError::one(format!(
            "store: the HSM has sealed rows of keys in this database before (the audit trail has a record {action}), and \
             {} registered keys and {} keys of devices are without a seal: somebody else has put them there, or taken \
             their seals away. Restore the database from a backup",
            registered.len(),
            device_keys.len()
        )));
    }
    let recorded = tx.recorded_keys().await.map_err(failed)?;
    let faults = device_keys.iter().filter_map(|row| {
        let row = row.unproven();
        let fault = fault_of(row, &registered, &recorded)?;
        Some(format!("store: {}: {fault}", row.title()))
    });
    let mut faults: Vec<String> = faults.collect();
    if faults.is_empty() {
        return Ok((registered, device_keys));
    }
    let more = faults.len().saturating_sub(NAMED);
    faults.truncate(NAMED);
    if more > 0 {
        faults.push(format!("store: {more} more of them"));
    }
    Err(StartError(faults))
}

/// What is wrong with a row of a device's key, if anything is.
fn fault_of(
    row: &DeviceKey,
    registered: &[Sealed<StoredKey>],
    recorded: &HashMap<(String, String, u64), RecordedKey>,
) -> Option<&'static str> {
    // Before rows were sealed, devices had registered keys alone.
    let KeySource::Shared { name } = &row.source else {
        return Some(
            "it is no registered key, and there were no others before the HSM sealed rows",
        );
    };
    let mut keys = registered.iter().map(Sealed::unproven);
    let is_registered = keys.any(|key| {
        (&key.name, &key.header, key.kind, &key.kcv) == (name, &row.header, row.kind, &row.kcv)
    });
    if !is_registered || row.state == DeviceKeyState::Discarded {
        return Some("it is not the registered key of its name");
    }
    let place = (
        row.device.to_string(),
        row.slot.to_string(),
        u64::from(row.version),
    );
    let Some(recorded) = recorded.get(&place) else {
        return Some("the audit trail does not say that an operator assigned it");
    };
    if recorded.name.as_deref() != Some(name.as_str()) {
        return Some("the audit trail says that an operator assigned another key");
    }
    let kcv = row.kcv.to_string();
    if recorded
        .kcv
        .as_ref()
        .is_some_and(|recorded| *recorded != kcv)
    {
        return Some("the audit trail says that the key has another check value");
    }
    if recorded.recipient != row.recipient.as_ref().map(hex::encode) {
        return Some("the audit trail says that it is meant for another encryption key");
    }
    None
}
