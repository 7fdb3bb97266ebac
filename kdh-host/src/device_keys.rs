//! How the keys of devices are made, assigned, confirmed and replaced.
//!
//! The HSM seals each row ([`Sealed`]) before the database is asked for a turn to write, so that no writer waits
//! for the HSM. A [`Change`] is what it has sealed; if the rows are not what they were by then, nothing is
//! written.

use hsm::Kcv;
use kdh_proto::Reason;
use tr34::{Kbh, KeyKind};

use crate::{
    Host, HostError,
    error::refused,
    names::{DeviceSerial, Slot},
    state::DeviceKeyState,
    store::{DeviceKey, KeySource, Purpose, Sealed, StoredKey, Tx, time_text},
};

/// What a slot is to get.
#[derive(Clone, Debug)]
pub(crate) enum NewKey {
    /// A registered key.
    Shared(StoredKey),
    /// One that the HSM makes.
    Unique(UniqueKey),
}

/// What kind of key the HSM shall make for a device.
#[derive(Clone, Debug)]
pub(crate) struct UniqueKey {
    pub(crate) header: Kbh,
    pub(crate) kind: KeyKind,
    /// Bytes of its check value.
    pub(crate) kcv_len: usize,
}

/// A slot of a device, as it is before a change.
#[derive(Debug)]
pub(crate) struct SlotNow {
    pub(crate) device: DeviceSerial,
    pub(crate) slot: Slot,
    /// SHA-256 of the device's encryption key, if it has one.
    pub(crate) recipient: Option<Vec<u8>>,
    live: Vec<Sealed<DeviceKey>>,
    last_version: u32,
}

impl SlotNow {
    pub(crate) async fn read(
        tx: &mut Tx,
        device: &DeviceSerial,
        slot: &Slot,
    ) -> Result<Self, HostError> {
        Ok(Self {
            device: device.clone(),
            slot: slot.clone(),
            recipient: recipient(tx, device).await?,
            live: tx.live_device_keys(device, Some(slot)).await?,
            last_version: tx.last_version(device, slot).await?,
        })
    }

    fn pending(&self) -> impl Iterator<Item = &Sealed<DeviceKey>> {
        let pending = |key: &&Sealed<DeviceKey>| key.unproven().state == DeviceKeyState::Pending;
        self.live.iter().filter(pending)
    }
}

/// SHA-256 of the encryption key that a device has now, if it has one.
pub(crate) async fn recipient(
    tx: &mut Tx,
    device: &DeviceSerial,
) -> Result<Option<Vec<u8>>, HostError> {
    let stored = tx.current_certificate(device, Purpose::Encryption).await?;
    let certificate = stored.map(|stored| stored.certificate()).transpose()?;
    Ok(certificate.map(|certificate| certificate.public_key().fingerprint().to_vec()))
}

/// Rows that the HSM has sealed, to be written.
#[derive(Debug, Default)]
pub(crate) struct Change {
    replaced: Vec<(Sealed<DeviceKey>, Sealed<DeviceKey>)>,
    added: Vec<Sealed<DeviceKey>>,
}

impl Change {
    /// What is added, as the HSM has sealed it.
    pub(crate) fn added(&self) -> impl Iterator<Item = &DeviceKey> {
        self.added.iter().map(Sealed::unproven)
    }

    /// What is replaced, as it will be.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = &DeviceKey> {
        self.replaced.iter().map(|(_, new)| new.unproven())
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`Reason::WrongState`]: a row is not what it was when this was prepared. [`HostError::Internal`]: a key is
    /// another device's.
    pub(crate) async fn apply(&self, host: &Host, tx: &mut Tx) -> Result<(), HostError> {
        if self.try_apply(host, tx).await? {
            return Ok(());
        }
        let device = self.added().chain(self.replaced()).next();
        let device = device.map_or("", |row| row.device.as_str());
        let cause =
            format!("a key of {device} was changed at the same time: look at it, and try again");
        Err(refused(Reason::WrongState, cause))
    }

    /// Writes it; `false` if a row is not what it was when this was prepared. Nothing of the transaction may
    /// stay then.
    pub(crate) async fn try_apply(&self, host: &Host, tx: &mut Tx) -> Result<bool, HostError> {
        let replaced = self.replaced.iter().map(|(_, new)| new);
        let mut new = self.added.iter().chain(replaced);
        if !new.all(|row| host.keys().is_under_present(row)) {
            return Ok(false);
        }
        for (old, new) in &self.replaced {
            if !tx.replace_device_key(old, new).await? {
                return Ok(false);
            }
        }
        for new in &self.added {
            if !tx.insert_device_key(new).await? {
                require_no_equal(tx, new.unproven()).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Raises the alarm if the HSM has made a key that another device has: no two are equal by chance.
async fn require_no_equal(tx: &mut Tx, made: &DeviceKey) -> Result<(), HostError> {
    let Some(wrapped) = made.source.wrapped() else {
        return Ok(());
    };
    let Some(other) = tx.device_with_key(wrapped).await? else {
        return Ok(());
    };
    let alarm = format!(
        "the HSM has made the same key for {} and for {other}: its random numbers repeat themselves. Have it make \
         no keys before that is explained",
        made.device
    );
    tracing::error!("{alarm}");
    Err(HostError::Internal(alarm))
}

/// Has the HSM prepare the next version of what each of these slots holds. Versions that were never confirmed are
/// withdrawn.
///
/// # Errors
/// A row is not as the HSM has sealed it; the HSM cannot make such a key.
pub(crate) async fn prepare_next(
    host: &Host,
    slots: Vec<SlotNow>,
    new: &NewKey,
) -> Result<Change, HostError> {
    let now = time_text(host.now())?;
    let pending = slots.iter().flat_map(SlotNow::pending).cloned();
    let replaced = replace(host, pending.collect(), |row| {
        row.moved_to(DeviceKeyState::Withdrawn, &now)
    })
    .await?;
    let next = slots.into_iter().map(|slot| Next::new(slot, &now));
    let next: Vec<Next> = next.collect::<Result<_, _>>()?;
    let added = match new {
        NewKey::Shared(key) => {
            let rows = next.iter().map(|next| next.shared(key));
            host.keys().seal(rows.collect::<Result<_, _>>()?).await?
        }
        NewKey::Unique(unique) => host.keys().make_unique(next, unique).await?,
    };
    Ok(Change { replaced, added })
}

/// Has the HSM verify rows and seal what they are from now on.
async fn replace(
    host: &Host,
    rows: Vec<Sealed<DeviceKey>>,
    change: impl Fn(&DeviceKey) -> DeviceKey,
) -> Result<Vec<(Sealed<DeviceKey>, Sealed<DeviceKey>)>, HostError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows = host.keys().prove(rows).await?;
    let new = rows.iter().map(|row| change(row)).collect();
    let new = host.keys().seal(new).await?;
    let old = rows.iter().map(|row| row.sealed().clone());
    Ok(old.zip(new).collect())
}

/// The next version of a slot, but for the key.
#[derive(Clone, Debug)]
pub(crate) struct Next {
    device: DeviceSerial,
    slot: Slot,
    version: u32,
    recipient: Option<Vec<u8>>,
    now: String,
}

impl Next {
    fn new(slot: SlotNow, now: &str) -> Result<Self, HostError> {
        let version = slot.last_version.checked_add(1);
        Ok(Self {
            version: version.ok_or_else(|| HostError::Internal("too many versions".to_owned()))?,
            device: slot.device,
            slot: slot.slot,
            recipient: slot.recipient,
            now: now.to_owned(),
        })
    }

    /// With a registered key.
    fn shared(&self, key: &StoredKey) -> Result<DeviceKey, HostError> {
        let source = KeySource::Shared {
            name: key.name.clone(),
        };
        let kind = KeyKind::from_name(&key.kind);
        let kind = kind.ok_or_else(|| HostError::Internal(format!("{} is no kind", key.kind)))?;
        Ok(self.row(source, &key.header, kind, key.kcv.clone()))
    }

    /// With one that the HSM has made.
    pub(crate) fn unique(&self, key: &UniqueKey, kcv: Kcv, wrapped: Vec<u8>) -> DeviceKey {
        let source = KeySource::Unique {
            wrapped: Some(wrapped),
        };
        self.row(source, &key.header, key.kind, kcv)
    }

    fn row(&self, source: KeySource, header: &Kbh, kind: KeyKind, kcv: Kcv) -> DeviceKey {
        DeviceKey {
            device: self.device.clone(),
            slot: self.slot.clone(),
            version: self.version,
            state: DeviceKeyState::Pending,
            source,
            header: header.clone(),
            kind,
            kcv,
            recipient: self.recipient.clone(),
            created_at: self.now.clone(),
            changed_at: self.now.clone(),
        }
    }
}

/// A device has its first encryption key: what was assigned before is meant for that one.
pub(crate) async fn prepare_pinning(
    host: &Host,
    device: &DeviceSerial,
    key_sha256: &[u8; 32],
) -> Result<Change, HostError> {
    let now = time_text(host.now())?;
    let mut live = {
        let mut tx = host.store().read(host.now()).await?;
        tx.live_device_keys(device, None).await?
    };
    live.retain(|key| key.unproven().recipient.is_none());
    let replaced = replace(host, live, |row| DeviceKey {
        recipient: Some(key_sha256.to_vec()),
        changed_at: now.clone(),
        ..row.clone()
    })
    .await?;
    Ok(Change {
        replaced,
        added: Vec::new(),
    })
}

/// Nothing was assigned between [`prepare_pinning`] and now.
///
/// # Errors
/// [`Reason::WrongState`]: something was.
pub(crate) async fn require_pinned(tx: &mut Tx, device: &DeviceSerial) -> Result<(), HostError> {
    let live = tx.live_device_keys(device, None).await?;
    if live.iter().all(|key| key.unproven().recipient.is_some()) {
        return Ok(());
    }
    let cause = format!("a key was assigned to {device} while it enrolled: enrol it again");
    Err(refused(Reason::WrongState, cause))
}

/// A device has confirmed a version: that one is good from now on, and the one before is destroyed. There is
/// nothing to change if it was confirmed before, or was withdrawn meanwhile.
pub(crate) async fn prepare_confirmation(
    host: &Host,
    confirmed: &DeviceKey,
    live: Vec<Sealed<DeviceKey>>,
) -> Result<Change, HostError> {
    if confirmed.state != DeviceKeyState::Pending {
        return Ok(Change::default());
    }
    let now = time_text(host.now())?;
    let replaced = replace(host, live, |row| {
        let state = if row.version == confirmed.version {
            DeviceKeyState::Active
        } else {
            DeviceKeyState::Destroyed
        };
        row.moved_to(state, &now)
    })
    .await?;
    Ok(Change {
        // The old one first: a slot has one that is active at any time.
        replaced,
        added: Vec::new(),
    })
}
