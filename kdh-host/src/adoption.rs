//! Rows of keys from before the HSM sealed them: somebody looks at them, and has it seal them as they are.
//!
//! The host never does this by itself: whoever can write to the database could have it seal anything.

use serde_json::json;

use crate::{
    HostError, StartError,
    clock::Clock,
    config::Config,
    keys::HostKeys,
    store::{Actor, AuditEntry, DeviceKey, Sealed, SealedRow as _, Store, StoreError, StoredKey},
};

/// Rows that the HSM has never sealed, in a database that no host is using meanwhile.
pub struct Adoption {
    store: Store,
    keys: HostKeys,
    clock: Box<dyn Clock>,
    registered: Vec<Sealed<StoredKey>>,
    /// How many there are.
    device_keys: i64,
}

impl Adoption {
    /// Opens the database and the HSM, and finds what has to be looked at.
    ///
    /// # Errors
    /// Some rows are sealed and others are not, which no version of the host leaves behind; the audit trail is broken, or does not have a registered key as its row says; the HSM does not hold such
    /// a key; either does not open.
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
        let mut registered = tx.keys().await.map_err(StartError::one)?;
        let all = registered.len();
        registered.retain(|key| key.authenticated().is_none());
        let device_keys = tx.unsealed_device_keys().await.map_err(StartError::one)?;
        let sealed = tx.sealed_device_keys().await.map_err(StartError::one)?;
        drop(tx);
        let none = registered.is_empty() && device_keys == 0;
        if !none && (registered.len() < all || sealed) {
            return Err(StartError::one(
                "store: the HSM has sealed rows of keys in this database before, and others are without a \
                 seal: somebody else has put them there, or taken their seals away. Restore the database from a \
                 backup",
            ));
        }
        let rows: Vec<StoredKey> = registered
            .iter()
            .map(|key| key.unproven().clone())
            .collect();
        let keys = tokio::task::spawn_blocking(move || {
            let keys = HostKeys::open(&config)?;
            let faults = rows.iter().filter_map(|row| {
                let fault = keys.verify_held(row).err()?;
                Some(format!("key {}: {fault}", row.name))
            });
            let faults: Vec<String> = faults.collect();
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
        self.registered.is_empty() && self.device_keys == 0
    }

    /// Each registered key, a line each, and how many keys of devices there are.
    pub fn describe(&self) -> Vec<String> {
        let keys = self.registered.iter().map(Sealed::unproven);
        let keys = keys.map(|key| {
            format!(
                "key {}: {} in the HSM, {}, header {}, check value {}",
                key.name, key.hsm_label, key.kind, key.header, key.kcv
            )
        });
        let devices = format!("{} keys of devices, each one of these", self.device_keys);
        keys.chain([devices]).collect()
    }

    /// Has the HSM seal them, on the record: all, or none. Says how many keys of devices there were.
    ///
    /// # Errors
    /// The HSM or the database does not answer; a device's key is none of the registered ones.
    pub async fn seal(self) -> Result<usize, HostError> {
        let mut tx = self.store.read(self.clock.now()).await?;
        let devices = tx.device_keys_without_seal().await?;
        drop(tx);
        for key in &devices {
            self.require_registered(key.unproven())?;
        }
        let rows = self.registered.iter().map(|key| key.unproven().clone());
        let registered = self.keys.seal(rows.collect()).await?;
        let rows = devices.iter().map(|key| key.unproven().clone());
        let sealed = self.keys.seal(rows.collect()).await?;
        let mut tx = self.store.write(self.clock.now()).await?;
        for (old, new) in self.registered.iter().zip(&registered) {
            tx.reseal_key(old, new).await?;
        }
        for (old, new) in devices.iter().zip(&sealed) {
            if !tx.replace_device_key(old, new).await? {
                return Err(StoreError::Damaged("device key").into());
            }
        }
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "keys.adopted",
            device: None,
            outcome: "ok",
            detail: json!({"keys": self.describe()}),
        })
        .await?;
        tx.commit().await?;
        self.store.close().await;
        Ok(devices.len())
    }

    /// Before rows were sealed, devices had registered keys alone.
    fn require_registered(&self, row: &DeviceKey) -> Result<(), HostError> {
        let name = row.source.key_name();
        let mut keys = self.registered.iter().map(Sealed::unproven);
        let known = keys
            .any(|key| Some(&key.name) == name && key.header == row.header && key.kcv == row.kcv);
        if known {
            return Ok(());
        }
        Err(StoreError::NotSealed(row.title()).into())
    }
}
