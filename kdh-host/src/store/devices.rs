//! Devices.

use sqlx::Row as _;
use tr34::IssuerAndSerial;

use super::{Row, StoreError, Tx, flag, kdh_id};
use crate::{
    names::{DeviceSerial, GroupName, Model},
    state::{DeviceState, KeysFate},
};

/// A device in the registry.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) serial: DeviceSerial,
    pub(crate) model: String,
    pub(crate) group: Option<GroupName>,
    pub(crate) state: DeviceState,
    pub(crate) state_before: Option<DeviceState>,
    /// To which KDH it is bound, by its own word.
    pub(crate) bound_kdh: Option<IssuerAndSerial>,
    /// Of the keys that it held, if a token left that ends its binding and it has not bound again.
    pub(crate) keys_fate: Option<KeysFate>,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

/// A KDH to which devices are bound, or may be.
#[derive(Debug)]
pub(crate) struct BoundKdh {
    pub(crate) id: IssuerAndSerial,
    pub(crate) devices: i64,
    /// Of these, those that got a rebind token: from this KDH, if it is one of this host's and they have not
    /// acknowledged it, or to this one of another host.
    pub(crate) rebound: i64,
}

impl Tx {
    /// Registers a device; `false` if the serial number is taken.
    pub(crate) async fn insert_device(
        &mut self,
        serial: &DeviceSerial,
        model: &Model,
    ) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO devices (serial_number, model, state, created_at, changed_at)
             VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING",
        )
        .bind(serial.as_str())
        .bind(model.as_str())
        .bind(DeviceState::Registered.as_str())
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    pub(crate) async fn device(
        &mut self,
        serial: &DeviceSerial,
    ) -> Result<Option<Device>, StoreError> {
        sqlx::query("SELECT * FROM devices WHERE serial_number = $1")
            .bind(serial.as_str())
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// Devices after a serial number, in the order of serial numbers; in one state or all, in one group or all.
    pub(crate) async fn devices(
        &mut self,
        state: Option<DeviceState>,
        group: Option<&GroupName>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Device>, StoreError> {
        sqlx::query(
            "SELECT * FROM devices WHERE serial_number > $1 AND ($2 = '' OR state = $2)
                 AND ($3 = '' OR group_name = $3)
             ORDER BY serial_number LIMIT $4",
        )
        .bind(after)
        .bind(state.map_or("", DeviceState::as_str))
        .bind(group.map_or("", GroupName::as_str))
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Puts a device into a state. Where it came from is kept while it is suspended.
    pub(crate) async fn set_device_state(
        &mut self,
        device: &Device,
        state: DeviceState,
    ) -> Result<(), StoreError> {
        let before = (state == DeviceState::Suspended).then_some(device.state);
        sqlx::query(
            "UPDATE devices SET state = $2, state_before = $3, changed_at = $4
             WHERE serial_number = $1",
        )
        .bind(device.serial.as_str())
        .bind(state.as_str())
        .bind(before.map(DeviceState::as_str))
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// Puts down to which KDH a device is bound, and what became of its keys if it has let this host go.
    pub(crate) async fn set_binding(
        &mut self,
        device: &DeviceSerial,
        bound_kdh: Option<&IssuerAndSerial>,
        keys_fate: Option<KeysFate>,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET bound_kdh = $2, keys_fate = $3 WHERE serial_number = $1")
            .bind(device.as_str())
            .bind(bound_kdh.map(IssuerAndSerial::to_der))
            .bind(keys_fate.map(KeysFate::as_str))
            .execute(self.connection().await?)
            .await?;
        Ok(())
    }

    /// Whether a device is bound to a KDH, or may be: whoever left it has not said so.
    pub(crate) async fn has_devices(&mut self, kdh: &IssuerAndSerial) -> Result<bool, StoreError> {
        let found = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM devices WHERE bound_kdh = $1 AND state <> 'REVOKED') AS found",
        )
        .bind(kdh.to_der())
        .fetch_one(self.connection().await?)
        .await?;
        flag(&found, "found")
    }

    /// The KDHs to which devices are bound, or may be.
    pub(crate) async fn bound_kdhs(&mut self) -> Result<Vec<BoundKdh>, StoreError> {
        sqlx::query(
            "SELECT bound_kdh, COUNT(*) AS devices,
                 COUNT(CASE WHEN COALESCE(state_before, state) = 'REBOUND' THEN 1 END) AS rebound
             FROM devices WHERE bound_kdh IS NOT NULL AND state <> 'REVOKED' GROUP BY bound_kdh",
        )
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(|row| {
            Ok(BoundKdh {
                id: kdh_id(row, "bound_kdh")?.ok_or(StoreError::Damaged("device"))?,
                devices: row.try_get("devices")?,
                rebound: row.try_get("rebound")?,
            })
        })
        .collect()
    }

    /// Devices that bound before it was put down to which KDH: it was this one, there was no other.
    /// Returns how many there are.
    pub(crate) async fn complete_bindings(
        &mut self,
        kdh: &IssuerAndSerial,
    ) -> Result<u64, StoreError> {
        let completed = sqlx::query(
            "UPDATE devices SET bound_kdh = $1 WHERE bound_kdh IS NULL AND keys_fate IS NULL
             AND COALESCE(state_before, state) IN ('BOUND', 'QUARANTINED')",
        )
        .bind(kdh.to_der())
        .execute(self.connection().await?)
        .await?;
        Ok(completed.rows_affected())
    }
}

fn read(row: &Row) -> Result<Device, StoreError> {
    let damaged = || StoreError::Damaged("device");
    let serial: String = row.try_get("serial_number")?;
    let state: String = row.try_get("state")?;
    let before: Option<String> = row.try_get("state_before")?;
    let fate: Option<String> = row.try_get("keys_fate")?;
    let fate = fate.map(|word| KeysFate::parse(&word).ok_or_else(damaged));
    let group: Option<String> = row.try_get("group_name")?;
    let group = group.map(|name| GroupName::parse(&name).map_err(|_| damaged()));
    let parse = |word: String| DeviceState::parse(&word).ok_or_else(damaged);
    Ok(Device {
        serial: DeviceSerial::parse(&serial).map_err(|_| damaged())?,
        model: row.try_get("model")?,
        group: group.transpose()?,
        state: parse(state)?,
        state_before: before.map(parse).transpose()?,
        bound_kdh: kdh_id(row, "bound_kdh")?,
        keys_fate: fate.transpose()?,
        created_at: row.try_get("created_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}
