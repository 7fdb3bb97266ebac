//! Devices that belong together. A device is in one group at most.

use std::collections::HashSet;

use kdh_proto::{Reason, v1::SetDeviceGroupRequest};
use serde_json::json;

use super::Target;
use crate::{
    Host, HostError,
    administration::{Operator, require_device},
    error::refused,
    names::{DeviceSerial, GroupName, ProfileName, Why},
    rollout,
    store::{AuditEntry, Group},
};

/// As many as one transaction may keep others waiting for.
const MAX_DEVICES: usize = 1000;

/// Devices that were put into a group, or taken out of theirs.
#[derive(Debug)]
pub(crate) struct Grouped {
    pub(crate) moved: u32,
    /// They were there already.
    pub(crate) stayed: u32,
    /// Devices of the group now.
    pub(crate) devices: u64,
    /// What the group carries.
    pub(crate) profile: Option<ProfileName>,
}

/// Puts devices into a group, or takes them out of theirs: all of them, or none.
pub(crate) async fn set(
    host: &Host,
    operator: &Operator,
    request: &SetDeviceGroupRequest,
) -> Result<Grouped, HostError> {
    let group = match &*request.group {
        "" => None,
        name => Some(GroupName::parse(name)?),
    };
    let why = Why::parse(&request.why)?;
    let serials = &request.serial_numbers;
    if !(1..=MAX_DEVICES).contains(&serials.len()) {
        let cause = format!(
            "1 to {MAX_DEVICES} devices are put into a group at once, not {}",
            serials.len()
        );
        return Err(refused(Reason::RequestInvalid, cause));
    }
    let serials: Result<Vec<_>, _> = serials
        .iter()
        .map(|text| DeviceSerial::parse(text))
        .collect();
    let mut tx = host.store().write(host.now()).await?;
    let (mut moved, mut stayed) = (0, 0);
    let mut seen = HashSet::new();
    for serial in serials? {
        let device = require_device(&mut tx, &serial).await?;
        // A row alone may say so until it is put back.
        let is_recorded = tx.trail_of(&serial).is_in(group.as_ref());
        let is_new = seen.insert(serial.clone());
        if !is_new || device.group == group && is_recorded {
            stayed += 1;
            continue;
        }
        moved += 1;
        tx.set_group(&serial, group.as_ref());
        rollout::came(host, &mut tx, &serial);
        tx.record(AuditEntry {
            actor: &operator.actor(),
            action: "device.grouped",
            device: Some(&serial),
            outcome: "ok",
            detail: json!({
                "from": device.group.as_ref().map(GroupName::as_str),
                "to": group.as_ref().map(GroupName::as_str),
                "why": why.as_str(),
            }),
        })
        .await?;
    }
    let (mut devices, mut profile) = (0, None);
    if let Some(group) = group {
        let target = Target::Group(group);
        devices = tx.devices_at(&target).await?;
        profile = tx.profile_at(&target).await?.map(|version| version.name);
    }
    tx.commit().await?;
    rollout::look(host);
    Ok(Grouped {
        moved,
        stayed,
        devices,
        profile,
    })
}

/// All groups, by name.
pub(crate) async fn list(host: &Host) -> Result<Vec<Group>, HostError> {
    Ok(host.store().read(host.now()).await?.groups().await?)
}
