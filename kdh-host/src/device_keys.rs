//! How the keys of devices are made, assigned, confirmed and replaced.
//!
//! The HSM seals each row ([`Sealed`]) before the database is asked for a turn to write, so that no writer waits
//! for the HSM. A [`Change`] is what it has sealed; if the rows are not what they were by then, nothing is
//! written.

use std::{collections::HashMap, slice};

use hsm::{InitialKey, Kcv};
use kdh_proto::Reason;
use tr34::{Kbh, KeyKind};

use crate::{
    Host, HostError, alarms,
    bdks::{self, DerivedKey},
    error::refused,
    names::{DeviceSerial, GroupName, Slot},
    refused_rows,
    state::DeviceKeyState,
    store::{
        DeviceKey, DeviceTrail, KeyPlace, KeyRow, KeySource, Proven, Purpose, Sealed,
        SealedRow as _, StoreError, StoredKey, Tx, place_of, time_text,
    },
};

/// What a slot is to get.
#[derive(Clone, Debug)]
pub(crate) enum NewKey {
    /// A registered key.
    Shared(StoredKey),
    /// One that the HSM makes.
    Unique(UniqueKey),
    /// One that the HSM derives from a BDK.
    Derived(DerivedKey),
}

impl NewKey {
    /// As the rows of such keys say it.
    pub(crate) const fn source(&self) -> &'static str {
        match self {
            Self::Shared(_) => "SHARED",
            Self::Unique(_) => "UNIQUE",
            Self::Derived(_) => "DERIVED",
        }
    }
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
#[derive(Clone, Debug)]
pub(crate) struct SlotNow {
    pub(crate) device: DeviceSerial,
    pub(crate) slot: Slot,
    /// SHA-256 of the device's encryption key, if it has one.
    pub(crate) recipient: Option<Vec<u8>>,
    /// What the device holds and shall hold in it, and its newest version, whatever that is.
    rows: Vec<KeyRow>,
}

impl SlotNow {
    pub(crate) async fn read(
        tx: &mut Tx,
        device: &DeviceSerial,
        slot: &Slot,
    ) -> Result<Self, HostError> {
        let mut rows = tx.live_key_rows(device, Some(slot)).await?;
        let over = tx.newest_keys_that_are_over(slice::from_ref(device));
        let over = over.await?.into_iter();
        rows.extend(over.filter(|row| place_of(row).slot == slot.as_str()));
        Ok(Self {
            device: device.clone(),
            slot: slot.clone(),
            recipient: recipient(tx, device).await?,
            rows,
        })
    }

    /// What the next version rests upon: the versions that it takes the place of before they were ever confirmed, and
    /// the one that it follows on. The number of that one is anybody's word until the HSM has verified its row.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: the host cannot have written one of its rows.
    fn before_next(&self) -> Result<BeforeNext, StoreError> {
        let rows = self.rows.iter().cloned();
        let mut rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        let newest = rows.iter().max_by_key(|row| row.unproven().version);
        let newest = newest.cloned();
        rows.retain(|row| row.unproven().state == DeviceKeyState::Pending);
        Ok(BeforeNext {
            pending: rows,
            newest,
        })
    }
}

struct BeforeNext {
    pending: Vec<Sealed<DeviceKey>>,
    newest: Option<Sealed<DeviceKey>>,
}

/// What there is of many devices, whose slots are to get keys.
#[derive(Debug)]
pub(crate) struct DevicesNow {
    recipients: HashMap<DeviceSerial, Vec<u8>>,
    trails: HashMap<DeviceSerial, DeviceTrail>,
    /// By device and slot.
    live: HashMap<(String, String), Vec<KeyRow>>,
    over: HashMap<(String, String), KeyRow>,
}

impl DevicesNow {
    pub(crate) async fn read(tx: &mut Tx, devices: &[DeviceSerial]) -> Result<Self, HostError> {
        let mut recipients = HashMap::new();
        for stored in tx
            .current_certificates(devices, Purpose::Encryption)
            .await?
        {
            let key = stored.key_sha256()?.to_vec();
            recipients.insert(stored.device, key);
        }
        let slot_of = |key: &KeyRow| {
            let place = place_of(key);
            (place.device, place.slot)
        };
        let mut live: HashMap<_, Vec<_>> = HashMap::new();
        for key in tx.live_keys_of(devices).await? {
            live.entry(slot_of(&key)).or_default().push(key);
        }
        let over = tx.newest_keys_that_are_over(devices).await?.into_iter();
        Ok(Self {
            recipients,
            trails: devices
                .iter()
                .map(|device| (device.clone(), tx.trail_of(device)))
                .collect(),
            live,
            over: over.map(|key| (slot_of(&key), key)).collect(),
        })
    }

    /// Whether a device is of this model and in this group, by the audit trail, was not revoked, and has the encryption key
    /// that it has enrolled with last, if it has.
    pub(crate) fn is_as_recorded(
        &self,
        device: &DeviceSerial,
        model: &str,
        group: Option<&GroupName>,
    ) -> bool {
        let trail = self.trails.get(device);
        trail.is_some_and(|trail| {
            trail.belongs_to(model, group)
                && !trail.is_revoked()
                && match self.recipients.get(device) {
                    Some(key) => trail.has_key(Purpose::Encryption, key),
                    None => !trail.has_enrolled(),
                }
        })
    }

    /// Whether a slot of one of them has a key, confirmed or not.
    pub(crate) fn has_key(&self, device: &DeviceSerial, slot: &Slot) -> bool {
        let key = (device.to_string(), slot.to_string());
        self.live.contains_key(&key)
    }

    /// A slot of one of them.
    pub(crate) fn slot(&self, device: &DeviceSerial, slot: &Slot) -> SlotNow {
        let key = (device.to_string(), slot.to_string());
        let live = self.live.get(&key).into_iter().flatten();
        SlotNow {
            device: device.clone(),
            slot: slot.clone(),
            recipient: self.recipients.get(device).cloned(),
            rows: live.chain(self.over.get(&key)).cloned().collect(),
        }
    }
}

/// SHA-256 of the encryption key that a device has now; none if it has never had one.
///
/// # Errors
/// [`StoreError::NotRecorded`]: it has had one, and its certificate is gone, or is not of the one that it has enrolled
/// with last.
pub(crate) async fn recipient(
    tx: &mut Tx,
    device: &DeviceSerial,
) -> Result<Option<Vec<u8>>, HostError> {
    let current = tx.current_certificate(device, Purpose::Encryption).await?;
    let key = current.map(|current| current.key_sha256()).transpose()?;
    let trail = tx.trail_of(device);
    let is_recorded = match &key {
        Some(key) => trail.has_key(Purpose::Encryption, key),
        None => !trail.has_enrolled(),
    };
    if is_recorded {
        return Ok(key.map(Vec::from));
    }
    let cause = format!("the encryption certificate of {device}");
    Err(StoreError::NotRecorded(cause).into())
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

    /// With another change, of other slots.
    pub(crate) fn join(&mut self, other: Self) {
        self.replaced.extend(other.replaced);
        self.added.extend(other.added);
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
        if !tx.insert_device_keys(&self.added).await? {
            for new in self.added() {
                require_no_equal(host, tx, new).await?;
            }
            return Ok(false);
        }
        alarms::watch_check_values(host, tx, self.added()).await?;
        Ok(true)
    }
}

/// Raises the alarm if the HSM has made a key that stands in another row: no two are equal by chance, and no initial
/// key is given out twice.
pub(crate) async fn require_no_equal(
    host: &Host,
    tx: &mut Tx,
    made: &DeviceKey,
) -> Result<(), HostError> {
    let Some(other) = tx.equal_key(made).await? else {
        return Ok(());
    };
    let alarm = if let Some((bdk, id)) = made.source.initial_key() {
        let alarm = format!(
            "{} is derived from an id that {} has: initial key {id} of bdk.{bdk}. Its derivation ids were given out \
             twice",
            made.title(),
            other.device
        );
        host.alarms().raise(&alarm);
        alarm
    } else {
        let alarm = format!(
            "the HSM has made the same key for {} and for {}: its random numbers repeat themselves, or somebody else has \
             put one of the rows there. Have it make no keys before that is explained: {}, and {other}",
            made.device,
            other.device,
            made.place()
        );
        host.alarms().raise_of_hsm(&alarm);
        alarm
    };
    Err(HostError::Internal(alarm))
}

/// Has the HSM prepare the next version of what each of these slots holds. Versions that were never confirmed are
/// withdrawn. The next number is that behind one that the HSM has sealed, whatever else the database says: whoever could
/// make versions up would use a slot's numbers up, here and in the terminal, which takes none that is older.
///
/// # Errors
/// A row is not as the HSM has sealed it; there is no next version; the HSM cannot make such a key.
pub(crate) async fn prepare_next(
    host: &Host,
    slots: Vec<SlotNow>,
    new: &NewKey,
) -> Result<Change, HostError> {
    let now = time_text(host.now())?;
    let (mut rows, mut followed) = (Vec::new(), Vec::new());
    let mut next = Vec::with_capacity(slots.len());
    for slot in slots {
        let before = slot.before_next()?;
        followed.extend(
            before
                .newest
                .clone()
                .filter(|newest| !before.pending.contains(newest)),
        );
        rows.extend(before.pending);
        next.push(Next::new(slot, before.newest.as_ref(), &now));
    }
    let pending = rows.len();
    rows.append(&mut followed);
    let mut proven = host.keys().prove(rows).await?;
    proven.truncate(pending);
    let next: Vec<Next> = next.into_iter().collect::<Result<_, _>>()?;
    let replaced = replace_proven(host, proven, |row| {
        row.moved_to(DeviceKeyState::Withdrawn, &now)
    })
    .await?;
    let added = match new {
        NewKey::Shared(key) => {
            let rows = next.iter().map(|next| next.shared(key));
            host.keys().seal(rows.collect()).await?
        }
        NewKey::Unique(unique) => host.keys().make_unique(next, unique).await?,
        NewKey::Derived(derived) => {
            let first = bdks::claim(host, &derived.key_set, next.len()).await?;
            host.keys().derive(next, derived, first).await?
        }
    };
    Ok(Change { replaced, added })
}

/// Has the HSM verify rows and seal what they are from now on.
async fn replace(
    host: &Host,
    rows: Vec<Sealed<DeviceKey>>,
    change: impl Fn(&DeviceKey) -> DeviceKey,
) -> Result<Vec<(Sealed<DeviceKey>, Sealed<DeviceKey>)>, HostError> {
    let rows = host.keys().prove(rows).await?;
    replace_proven(host, rows, change).await
}

/// The same, of rows that it has verified.
async fn replace_proven(
    host: &Host,
    rows: Vec<Proven<DeviceKey>>,
    change: impl Fn(&DeviceKey) -> DeviceKey,
) -> Result<Vec<(Sealed<DeviceKey>, Sealed<DeviceKey>)>, HostError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let new = rows.iter().map(|row| change(row)).collect();
    let new = host.keys().reseal(&rows, new).await?;
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
    /// Behind the newest version of a slot, if it has had one.
    fn new(
        slot: SlotNow,
        newest: Option<&Sealed<DeviceKey>>,
        now: &str,
    ) -> Result<Self, StoreError> {
        let newest = newest.map(Sealed::unproven);
        let version = newest.map_or(0, |row| row.version).checked_add(1);
        let last = || StoreError::NoNextVersion(newest.map(DeviceKey::title).unwrap_or_default());
        Ok(Self {
            version: version.ok_or_else(last)?,
            device: slot.device,
            slot: slot.slot,
            recipient: slot.recipient,
            now: now.to_owned(),
        })
    }

    /// With a registered key.
    fn shared(&self, key: &StoredKey) -> DeviceKey {
        let source = KeySource::Shared {
            name: key.name.clone(),
        };
        self.row(source, &key.header, key.kind, key.kcv.clone())
    }

    /// With one that the HSM has made.
    pub(crate) fn unique(&self, key: &UniqueKey, kcv: Kcv, wrapped: Vec<u8>) -> DeviceKey {
        let source = KeySource::Unique {
            wrapped: Some(wrapped),
        };
        self.row(source, &key.header, key.kind, kcv)
    }

    /// With one that the HSM has derived.
    pub(crate) fn derived(
        &self,
        derived: &DerivedKey,
        key: &InitialKey,
        kcv: Kcv,
    ) -> Result<DeviceKey, HostError> {
        let source = KeySource::Derived {
            bdk: derived.key_set.bdk.clone(),
            id: key.id(),
        };
        let header = derived.header_of(key);
        let header = header.map_err(|error| HostError::Internal(error.to_string()))?;
        Ok(self.row(source, &header, derived.kind, kcv))
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

/// What becomes of the keys of a device that enrols.
#[derive(Debug, Default)]
pub(crate) struct Pinning {
    change: Change,
    /// Rows that are meant for no encryption key, and stay so.
    left: Vec<KeyPlace>,
}

/// A device has its first encryption key: what was assigned before is meant for that one. The trail says which is the
/// first: a row from before, that somebody puts back later, is meant for nobody.
pub(crate) async fn prepare_pinning(
    host: &Host,
    device: &DeviceSerial,
    key_sha256: &[u8; 32],
) -> Result<Pinning, HostError> {
    let now = time_text(host.now())?;
    let mut tx = host.store().read(host.now()).await?;
    let live = tx.live_key_rows(device, None).await?;
    let has_enrolled = tx.trail_of(device).has_enrolled();
    drop(tx);
    let (live, mut left) = refused_rows::sift(host, live).await?;
    let unpinned = live.into_iter().filter(|key| key.recipient.is_none());
    let unpinned: Vec<_> = unpinned.map(|key| key.sealed().clone()).collect();
    if has_enrolled {
        left.extend(unpinned.iter().map(|key| key.unproven().place()));
        return Ok(Pinning {
            change: Change::default(),
            left,
        });
    }
    let replaced = replace(host, unpinned, |row| DeviceKey {
        recipient: Some(key_sha256.to_vec()),
        changed_at: now.clone(),
        ..row.clone()
    })
    .await?;
    Ok(Pinning {
        change: Change {
            replaced,
            added: Vec::new(),
        },
        left,
    })
}

impl Pinning {
    /// Writes it.
    ///
    /// # Errors
    /// [`Reason::WrongState`]: something was assigned since it was prepared.
    pub(crate) async fn apply(
        &self,
        host: &Host,
        tx: &mut Tx,
        device: &DeviceSerial,
    ) -> Result<(), HostError> {
        self.change.apply(host, tx).await?;
        let live = tx.live_key_rows(device, None).await?;
        let pinned = live.iter().all(|row| {
            let is_pinned = |key: &Sealed<DeviceKey>| key.unproven().recipient.is_some();
            row.as_ref().is_ok_and(is_pinned) || self.left.contains(&place_of(row))
        });
        if pinned {
            return Ok(());
        }
        let cause = format!("a key was assigned to {device} while it enrolled: enrol it again");
        Err(refused(Reason::WrongState, cause))
    }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_version_follows_on_the_newest_until_there_is_none() {
        let now = |newest: u32| {
            let (device, slot) = (
                DeviceSerial::parse("SN-1").unwrap(),
                Slot::parse("tmk").unwrap(),
            );
            let row = DeviceKey::discarded(device.clone(), slot.clone(), newest, "").unwrap();
            let slot = SlotNow {
                device,
                slot,
                recipient: None,
                rows: vec![Ok(Sealed::new(row, None))],
            };
            let before = slot.before_next().unwrap();
            assert!(before.pending.is_empty());
            Next::new(slot, before.newest.as_ref(), "")
        };
        assert_eq!(now(u32::MAX - 1).unwrap().version, u32::MAX);
        assert_eq!(
            now(u32::MAX).unwrap_err().to_string(),
            "version 4294967295 of the key of SN-1 in slot tmk is the last that there can be: have the profile put its \
             key into another slot"
        );
    }
}
