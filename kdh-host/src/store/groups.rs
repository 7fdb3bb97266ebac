//! Groups of devices, and how many devices there are in them and of each model.

use sqlx::Row;

use super::{StoreError, Tx};
use crate::{
    key_profile::Target,
    names::{DeviceSerial, GroupName, Model, ProfileName},
};

/// A group that has devices, or carries a profile.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: GroupName,
    /// Without those that are revoked.
    pub(crate) devices: u64,
    pub(crate) profile: Option<ProfileName>,
}

impl Tx {
    /// Puts a device into a group, or takes it out of the one that it is in.
    pub(crate) fn set_group(&mut self, device: &DeviceSerial, group: Option<&GroupName>) {
        self.later("UPDATE devices SET group_name = $2 WHERE serial_number = $1")
            .bind(device.to_string())
            .bind(group.map(ToString::to_string));
    }

    /// How many devices have the profile that a model or a group carries, or would have it. Of a model, not those
    /// whose group carries one. No row is read: the database counts in its indexes.
    pub(crate) async fn devices_at(&mut self, target: &Target) -> Result<u64, StoreError> {
        let count = match target {
            Target::Model(_) => {
                "SELECT COUNT(*) FROM devices WHERE model = $1 AND state <> 'REVOKED'
                     AND (group_name IS NULL OR group_name NOT IN
                         (SELECT name FROM key_profile_targets WHERE kind = 'GROUP'))"
            }
            Target::Group(_) => {
                "SELECT COUNT(*) FROM devices WHERE group_name = $1 AND state <> 'REVOKED'"
            }
        };
        let devices: i64 = sqlx::query_scalar(count)
            .bind(target.name())
            .fetch_one(self.connection().await?)
            .await?;
        counted(devices)
    }

    /// The models of a group's devices, and how many there are of each.
    pub(crate) async fn models_of_group(
        &mut self,
        group: &GroupName,
    ) -> Result<Vec<(Model, u64)>, StoreError> {
        sqlx::query(
            "SELECT model, COUNT(*) AS devices FROM devices
             WHERE group_name = $1 AND state <> 'REVOKED' GROUP BY model ORDER BY model",
        )
        .bind(group.as_str())
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(|row| {
            let model: String = row.try_get("model")?;
            let model = Model::parse(&model).map_err(|_| StoreError::Damaged("device"))?;
            Ok((model, counted(row.try_get("devices")?)?))
        })
        .collect()
    }

    /// All groups, in the order of their names.
    pub(crate) async fn groups(&mut self) -> Result<Vec<Group>, StoreError> {
        sqlx::query(
            "SELECT g.name, t.profile,
                 (SELECT COUNT(*) FROM devices d WHERE d.group_name = g.name AND d.state <> 'REVOKED') AS devices
             FROM (SELECT group_name AS name FROM devices WHERE group_name IS NOT NULL
                 UNION SELECT name FROM key_profile_targets WHERE kind = 'GROUP') g
             LEFT JOIN key_profile_targets t ON t.kind = 'GROUP' AND t.name = g.name
             ORDER BY g.name",
        )
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(|row| {
            let damaged = |_| StoreError::Damaged("group");
            let name: String = row.try_get("name")?;
            let profile: Option<String> = row.try_get("profile")?;
            let profile = profile.map(|name| ProfileName::parse(&name));
            Ok(Group {
                name: GroupName::parse(&name).map_err(damaged)?,
                devices: counted(row.try_get("devices")?)?,
                profile: profile.transpose().map_err(damaged)?,
            })
        })
        .collect()
    }
}

fn counted(devices: i64) -> Result<u64, StoreError> {
    u64::try_from(devices).map_err(|_| StoreError::Damaged("count"))
}
