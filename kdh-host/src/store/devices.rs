//! Devices.

use sqlx::{Row, sqlite::SqliteRow};

use super::{StoreError, Tx};
use crate::{
    names::{DeviceSerial, Model},
    state::DeviceState,
};

/// A device in the registry.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) serial: DeviceSerial,
    pub(crate) model: String,
    pub(crate) state: DeviceState,
    pub(crate) state_before: Option<DeviceState>,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
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

    /// Devices after a serial number, in the order of serial numbers.
    pub(crate) async fn devices(
        &mut self,
        state: Option<DeviceState>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Device>, StoreError> {
        sqlx::query(
            "SELECT * FROM devices WHERE serial_number > $1 AND ($2 = '' OR state = $2)
             ORDER BY serial_number LIMIT $3",
        )
        .bind(after)
        .bind(state.map_or("", DeviceState::as_str))
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
}

fn read(row: &SqliteRow) -> Result<Device, StoreError> {
    let damaged = || StoreError::Damaged("device");
    let serial: String = row.try_get("serial_number")?;
    let state: String = row.try_get("state")?;
    let before: Option<String> = row.try_get("state_before")?;
    let parse = |word: String| DeviceState::parse(&word).ok_or_else(damaged);
    Ok(Device {
        serial: DeviceSerial::parse(&serial).map_err(|_| damaged())?,
        model: row.try_get("model")?,
        state: parse(state)?,
        state_before: before.map(parse).transpose()?,
        created_at: row.try_get("created_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}
