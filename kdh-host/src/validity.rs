//! How long a key may be delivered: as its device's key profile says now, from when the row of the key was made.

use kdh_proto::Reason;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Host, HostError,
    delivery::ProvenAssignment,
    error::refused,
    names::{DeviceSerial, Slot},
    store::{DeviceKey, ProfileVersion, StoreError, Tx},
};

/// No profile lets keys be valid for less. A younger key costs no look at the profile.
const LEAST: Duration = Duration::DAY;

/// # Errors
/// [`Reason::KeyExpired`]: the key is older than its device's profile lets it be. [`StoreError::NotRecorded`]: what the
/// database says of that profile is not what the audit trail says.
pub(crate) async fn require(
    host: &Host,
    tx: &mut Tx,
    serial: &DeviceSerial,
    key: &DeviceKey,
) -> Result<(), HostError> {
    if age(host.now(), key)? < LEAST {
        return Ok(());
    }
    let device = tx.device(serial).await?;
    let device = device.ok_or_else(|| StoreError::NotRecorded(format!("device {serial}")))?;
    let profile = tx.recorded_profile_of(&device).await?;
    let profile = profile.map(|(_, version)| version);
    let Some(days) = expired_after(host.now(), profile.as_ref(), key)? else {
        return Ok(());
    };
    let cause = format!(
        "the key of {serial} in slot {} is from {} and was valid for {days} days: give the device a new one",
        key.slot, key.created_at
    );
    Err(refused(Reason::KeyExpired, cause))
}

/// Somebody was told that a key has expired, by a row that the HSM had not verified: it does so now.
///
/// # Errors
/// It is not as the HSM has sealed it.
pub(crate) async fn require_sealed(
    host: &Host,
    serial: &DeviceSerial,
    slot: &str,
) -> Result<(), HostError> {
    let slot = Slot::parse(slot)?;
    let mut tx = host.store().read(host.now()).await?;
    let live = tx.live_device_keys(serial, Some(&slot)).await?;
    drop(tx);
    host.keys().prove(live).await.map(drop)
}

/// Leaves out what has expired. What the device holds already it may go on using: whether it does is for the switch to
/// say.
pub(crate) async fn retain(
    host: &Host,
    serial: &DeviceSerial,
    assignments: &mut Vec<ProvenAssignment>,
) -> Result<(), HostError> {
    let mut expired = Vec::new();
    for assignment in assignments.iter() {
        if assignment.confirmed || age(host.now(), &assignment.key)? < LEAST {
            continue;
        }
        let mut tx = host.store().read(host.now()).await?;
        match require(host, &mut tx, serial, &assignment.key).await {
            Err(error) if error.reason() == Reason::KeyExpired => {
                expired.push(assignment.key.slot.clone());
            }
            outcome => outcome?,
        }
    }
    assignments.retain(|assignment| !expired.contains(&assignment.key.slot));
    Ok(())
}

/// After how many days a key has expired by its device's profile, if it has. Where no profile says how long keys are
/// valid, none does.
pub(crate) fn expired_after(
    now: OffsetDateTime,
    profile: Option<&ProfileVersion>,
    key: &DeviceKey,
) -> Result<Option<u32>, HostError> {
    let age = age(now, key)?;
    let profile = profile.and_then(|version| version.profile.as_ref());
    let days = profile.and_then(|profile| Some(profile.slot(&key.slot)?.validity_days));
    Ok(days.filter(|days| age > Duration::days((*days).into())))
}

fn age(now: OffsetDateTime, key: &DeviceKey) -> Result<Duration, HostError> {
    let created = OffsetDateTime::parse(&key.created_at, &Rfc3339);
    let created =
        created.map_err(|_| HostError::Internal(format!("{} is no time", key.created_at)))?;
    Ok(now - created)
}
