//! What a slot of a device may get now: the profile as the audit trail has it, judged by the configuration of today.
//!
//! A profile was judged when it was put. What has changed since, behind the host's back or in its configuration, counts
//! when a key is assigned.

use kdh_proto::Reason;

use super::{
    Finding, KeyProfile, Target, grounds,
    policy::{judge, judge_slot},
    profile::{KcvForm, KeySource, ProfileSlot},
};
use crate::{
    Host, HostError,
    error::refused,
    names::{GroupName, Slot},
    store::{Device, ProfileVersion, StoredKey, Tx},
};

/// What a device's profile says of a slot.
///
/// # Errors
/// [`StoreError::NotRecorded`](crate::store::StoreError::NotRecorded): the profile, what carries it, or where the
/// device belongs, is not as the audit trail has it. [`Reason::NotFound`]: there is none, or it has no such slot.
/// [`Reason::RequestInvalid`]: the policy would refuse it now.
pub(crate) async fn slot_of(
    host: &Host,
    tx: &mut Tx,
    device: &Device,
    slot: &Slot,
) -> Result<(ProfileVersion, ProfileSlot), HostError> {
    let serial = &device.serial;
    let missing = |cause: String| refused(Reason::NotFound, cause);
    let version = profile_of(tx, device).await?;
    let (version, profile) = version.ok_or_else(|| {
        missing(format!(
            "neither the group nor the model of {serial} carries a key profile: name a key, or have one carry a profile"
        ))
    })?;
    let planned = profile.slot(slot).cloned();
    let planned = planned.ok_or_else(|| {
        let name = &version.name;
        missing(format!("key profile {name} of {serial} has no slot {slot}"))
    })?;
    require_allowed(host, &version, &profile)?;
    Ok((version, planned))
}

/// The profile of devices of a model and a group, if they have one. That a device is of these is for the caller to
/// see.
///
/// # Errors
/// As [`slot_of`].
pub(crate) async fn profile_at(
    host: &Host,
    tx: &mut Tx,
    model: &str,
    group: Option<&GroupName>,
) -> Result<Option<(ProfileVersion, KeyProfile)>, HostError> {
    let version = tx.recorded_profile_at(model, group).await?;
    let Some((version, profile)) = version.and_then(with_slots) else {
        return Ok(None);
    };
    require_allowed(host, &version, &profile)?;
    Ok(Some((version, profile)))
}

/// The policy would not refuse it now.
fn require_allowed(
    host: &Host,
    version: &ProfileVersion,
    profile: &KeyProfile,
) -> Result<(), HostError> {
    require_none_refuses(&judge(profile, &grounds(host)), || {
        format!(
            "the configuration refuses version {} of key profile {} by now, and no key is assigned from it: put \
             another version",
            version.version, version.name
        )
    })
}

async fn profile_of(
    tx: &mut Tx,
    device: &Device,
) -> Result<Option<(ProfileVersion, KeyProfile)>, HostError> {
    let version = tx.recorded_profile_of(device).await?;
    Ok(version.and_then(with_slots))
}

/// One that is not removed.
fn with_slots((_, version): (Target, ProfileVersion)) -> Option<(ProfileVersion, KeyProfile)> {
    let profile = version.profile.clone()?;
    Some((version, profile))
}

/// What there is to a registered key that an operator names for a slot.
#[derive(Debug)]
pub(crate) struct Named {
    /// Whether another device has it, or has had it.
    pub(crate) is_shared: bool,
    /// Rules that warn of it.
    pub(crate) warnings: Vec<&'static str>,
}

/// Judges a registered key that an operator names for a slot of a device: by the same policy as a profile's slot, and
/// by what the device's profile says of that slot, if it says anything. It counts as shared if another device has it.
///
/// # Errors
/// [`Reason::RequestInvalid`]: the policy refuses it, or the profile says that the slot holds something else; otherwise
/// as [`slot_of`].
pub(crate) async fn judge_named(
    host: &Host,
    tx: &mut Tx,
    device: &Device,
    slot: &Slot,
    key: &StoredKey,
) -> Result<Named, HostError> {
    if let Some((version, profile)) = profile_of(tx, device).await?
        && let Some(planned) = profile.slot(slot)
    {
        require_fits(&version, planned, key)?;
    }
    let is_shared = tx.is_held_elsewhere(&key.name, &device.serial).await?;
    let as_slot = ProfileSlot {
        slot: slot.clone(),
        header: key.header.clone(),
        kind: key.kind,
        source: if is_shared {
            KeySource::Shared(key.name.clone())
        } else {
            KeySource::Unique
        },
        kcv: KcvForm {
            method: key.kcv.method(),
            len: u32::try_from(key.kcv.value().len()).unwrap_or_default(),
        },
        // Nobody has said how long it is good.
        validity_days: u32::MAX,
        renewal_days: None,
    };
    let findings = judge_slot(&as_slot, &grounds(host));
    require_none_refuses(&findings, || format!("the key {}", key.name))?;
    for finding in &findings {
        tracing::warn!(device = %device.serial, key = %key.name, %finding, "a key was assigned all the same");
    }
    Ok(Named {
        is_shared,
        warnings: findings.iter().map(|finding| finding.rule).collect(),
    })
}

/// A registered key is what the device's profile says of the slot.
pub(crate) fn require_fits(
    version: &ProfileVersion,
    planned: &ProfileSlot,
    key: &StoredKey,
) -> Result<(), HostError> {
    if (&planned.header, planned.kind) == (&key.header, key.kind) {
        return Ok(());
    }
    let cause = format!(
        "key profile {} says that slot {} holds a key of the kind {} with the header {}, and the key {} is \
         of the kind {} with the header {}: name another one, or put another version of the profile",
        version.name, planned.slot, planned.kind, planned.header, key.name, key.kind, key.header
    );
    Err(refused(Reason::RequestInvalid, cause))
}

fn require_none_refuses(
    findings: &[Finding],
    what: impl FnOnce() -> String,
) -> Result<(), HostError> {
    let refusing = findings.iter().filter(|finding| finding.refuses);
    let refusing: Vec<_> = refusing.map(ToString::to_string).collect();
    if refusing.is_empty() {
        return Ok(());
    }
    let cause = format!("{}:\n{}", what(), refusing.join("\n"));
    Err(refused(Reason::RequestInvalid, cause))
}
