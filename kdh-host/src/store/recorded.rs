//! Keys and key profiles as the audit trail has them. Rows say it too, which somebody may have changed behind the host's
//! back.

use std::collections::HashMap;

use hsm::StorageNumber;
use kdh_proto::v1::AuditRecord;
use serde_json::Value;

use super::{
    Device, StoreError, Tx,
    audit::{KEY_ASSIGNED, read},
    key_profiles::{ProfileAssignment, ProfileVersion},
};
use crate::{
    key_profile::Target,
    names::{DeviceSerial, GroupName, ProfileName, Slot},
};

/// What the trail says of a key that was assigned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecordedKey {
    pub(crate) name: Option<String>,
    /// Not in records of early hosts.
    pub(crate) kcv: Option<String>,
    /// SHA-256 of the encryption key that it was meant for, hex.
    pub(crate) recipient: Option<String>,
}

impl Tx {
    /// Whether the trail says, in a record where the host has left it, that a device was ever given this version: by an
    /// operator, or by a rollout, whose records are of many devices each and are looked through.
    pub(crate) async fn was_assigned(
        &mut self,
        device: &DeviceSerial,
        slot: &Slot,
        version: u32,
    ) -> Result<bool, StoreError> {
        let end = self.certain_end();
        let by_operators = sqlx::query(
            "SELECT * FROM audit
             WHERE action IN ('device.added', 'device.admitted', 'device.enrolled', 'device.grouped', 'key.assigned')
                 AND action = 'key.assigned' AND device = $1 ORDER BY sequence",
        )
        .bind(device.to_string())
        .fetch_all(self.connection().await?)
        .await?;
        let place = Some((slot.to_string(), u64::from(version)));
        for record in &by_operators {
            let record = read(record)?;
            if slot_and_version(&detail(&record)?) == place
                && self.is_in_place(record.sequence, end).await?
            {
                return Ok(true);
            }
        }
        let begins = format!("{device} {version} ");
        let by_rollouts = sqlx::query(
            "SELECT * FROM audit WHERE action = 'rollout.keys-made' AND detail LIKE $1 ORDER BY sequence",
        )
        .bind(format!("%\"{begins}%"))
        .fetch_all(self.connection().await?)
        .await?;
        for record in &by_rollouts {
            let record = read(record)?;
            let detail = detail(&record)?;
            let of_slot = detail["keys"].as_array().into_iter().flatten();
            let of_slot = of_slot.filter(|keys| keys["slot"] == slot.as_str());
            let mut made = of_slot.flat_map(|keys| keys["made"].as_array().into_iter().flatten());
            let is_made = made.any(|key| key.as_str().is_some_and(|key| key.starts_with(&begins)));
            if is_made && self.is_in_place(record.sequence, end).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The profile that says what a device holds, and what of the device carries it: its group, or else its model.
    ///
    /// # Errors
    /// [`StoreError::NotRecorded`]: the profile, what carries it, or where the device belongs, is not as operators
    /// have made it.
    pub(crate) async fn recorded_profile_of(
        &mut self,
        device: &Device,
    ) -> Result<Option<(Target, ProfileVersion)>, StoreError> {
        let trail = self.trail_of(&device.serial);
        if !trail.belongs_to(&device.model, device.group.as_ref()) {
            let cause = format!("the model or the group of {}", device.serial);
            return Err(StoreError::NotRecorded(cause));
        }
        self.recorded_profile_at(&device.model, device.group.as_ref())
            .await
    }

    /// The same, for devices of a model and a group.
    pub(crate) async fn recorded_profile_at(
        &mut self,
        model: &str,
        group: Option<&GroupName>,
    ) -> Result<Option<(Target, ProfileVersion)>, StoreError> {
        let group = group.cloned().map(Target::Group);
        let model = Target::of_parts("MODEL", model);
        for target in [group, model].into_iter().flatten() {
            let Some(carried) = self.recorded_assignment(&target).await? else {
                continue;
            };
            let version = self.recorded_profile(&carried.profile).await?;
            let version = version.ok_or_else(|| not_recorded(&carried.profile))?;
            return Ok(Some((target, version)));
        }
        Ok(None)
    }

    async fn recorded_assignment(
        &mut self,
        target: &Target,
    ) -> Result<Option<ProfileAssignment>, StoreError> {
        let row = if_readable(self.profile_assignment(target).await)?;
        if self.is_carried(target, row.as_ref()) {
            return Ok(row);
        }
        let cause = format!("the key profile of {target}");
        Err(StoreError::NotRecorded(cause))
    }

    /// Whether a model or a group carries this profile, or none: for certain by the trail, and by its row.
    pub(crate) async fn carries(
        &mut self,
        target: &Target,
        profile: Option<&ProfileName>,
    ) -> Result<bool, StoreError> {
        let row = if_readable(self.profile_assignment(target).await)?;
        let carried = row.as_ref().map(|row| &row.profile);
        Ok(carried == profile && self.is_carried_for_certain(target, row.as_ref()))
    }

    /// The newest version of a profile, which may say that it was removed; none if there never was one.
    ///
    /// # Errors
    /// [`StoreError::NotRecorded`]: it is not as operators have made it, or its row is gone.
    pub(crate) async fn recorded_profile(
        &mut self,
        name: &ProfileName,
    ) -> Result<Option<ProfileVersion>, StoreError> {
        let version = if_readable(self.newest_profile(name).await)?;
        if self.is_newest_profile(name, version.as_ref()) {
            return Ok(version);
        }
        Err(not_recorded(name))
    }

    /// The action of a record that only a host writes that has its rows sealed, if there is one.
    pub(crate) async fn sealing_record(&mut self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT action FROM audit WHERE action = 'keys.adopted' OR action LIKE 'storage.%'
                 OR action LIKE 'approval.%' OR action LIKE 'rollout.%' OR action = 'key.discarded'
                 OR action = 'key.assigned' AND detail LIKE '%\"source\":%'
                 OR action = 'host.started' AND detail LIKE '%\"storage-key\":%' LIMIT 1",
        )
        .fetch_optional(self.connection().await?)
        .await?)
    }

    /// Whether rows were ever sealed by this pair of storage keys, and it was not destroyed since. The first is from a
    /// ceremony; rows under one that no host has begun are somebody else's.
    pub(crate) async fn was_storage_key(&mut self, number: u32) -> Result<bool, StoreError> {
        let records = sqlx::query(
            "SELECT * FROM audit WHERE action IN ('host.started', 'storage.began', 'storage.destroyed')
             ORDER BY sequence DESC",
        )
        .fetch_all(self.connection().await?)
        .await?;
        for record in &records {
            let record = read(record)?;
            if detail(&record)?["storage-key"] == number {
                return Ok(record.action != "storage.destroyed");
            }
        }
        Ok(number == StorageNumber::FIRST.get())
    }

    /// Every key that the trail says was assigned, by device, slot and version. One that was assigned before its device
    /// had an encryption key is meant for the first that it enrolled with.
    pub(crate) async fn recorded_keys(
        &mut self,
    ) -> Result<HashMap<(String, String, u64), RecordedKey>, StoreError> {
        let records = sqlx::query(
            "SELECT * FROM audit WHERE action IN ('key.assigned', 'device.enrolled') ORDER BY sequence",
        )
        .fetch_all(self.connection().await?)
        .await?;
        let (mut keys, mut first_enrolments) = (HashMap::new(), HashMap::new());
        for record in &records {
            let record = read(record)?;
            let detail = detail(&record)?;
            let recipient = text(&detail, "encryption-key");
            if record.action != KEY_ASSIGNED {
                first_enrolments.entry(record.device).or_insert(recipient);
            } else if let Some((slot, version)) = slot_and_version(&detail) {
                let key = RecordedKey {
                    name: text(&detail, "key"),
                    kcv: text(&detail, "kcv"),
                    recipient,
                };
                keys.insert((record.device, slot, version), key);
            }
        }
        for ((device, ..), key) in &mut keys {
            if key.recipient.is_none() {
                key.recipient = first_enrolments.get(device).cloned().flatten();
            }
        }
        Ok(keys)
    }
}

fn not_recorded(name: &ProfileName) -> StoreError {
    StoreError::NotRecorded(format!("key profile {name}"))
}

/// A row that no host can have written counts as none.
fn if_readable<T>(row: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match row {
        Err(StoreError::Damaged(_)) => Ok(None),
        row => row,
    }
}

fn detail(record: &AuditRecord) -> Result<Value, StoreError> {
    serde_json::from_str(&record.detail).map_err(|_| StoreError::Damaged("audit record"))
}

fn text(detail: &Value, field: &str) -> Option<String> {
    detail[field].as_str().map(ToOwned::to_owned)
}

fn slot_and_version(detail: &Value) -> Option<(String, u64)> {
    Some((text(detail, "slot")?, detail["version"].as_u64()?))
}
