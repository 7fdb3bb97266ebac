//! Which rows there are.

use sqlx::{AssertSqlSafe, query::Query};

use super::{
    DeviceKey, KeyPlace, KeyRow, KeySource,
    reading::{place, read, read_sound},
};
use crate::{
    names::{DeviceSerial, KeyAlias, Slot},
    store::{Arguments, Db, KeySet, StoreError, Tx, sealed::Sealed},
};

impl Tx {
    /// A version of a device's key.
    pub(crate) async fn device_key(
        &mut self,
        device: &DeviceSerial,
        slot: &Slot,
        version: u32,
    ) -> Result<Option<Sealed<DeviceKey>>, StoreError> {
        sqlx::query("SELECT * FROM device_keys WHERE device = $1 AND slot = $2 AND version = $3")
            .bind(device.as_str())
            .bind(slot.as_str())
            .bind(i64::from(version))
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read_sound)
            .transpose()
    }

    /// The row that stands somewhere, whatever is in it.
    pub(crate) async fn key_row(&mut self, place: &KeyPlace) -> Result<Option<KeyRow>, StoreError> {
        let mut rows = self.key_rows_at(std::slice::from_ref(place)).await?;
        Ok(rows.pop())
    }

    /// The rows that stand at some places, whatever is in them, in any order.
    pub(crate) async fn key_rows_at(
        &mut self,
        places: &[KeyPlace],
    ) -> Result<Vec<KeyRow>, StoreError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT k.* FROM (VALUES {}) AS n
             JOIN device_keys k ON k.device = n.column1 AND k.slot = n.column2 AND k.version = n.column3",
            self.tuples(places.len(), 3)
        );
        let statement = places
            .iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), |statement, place| {
                statement
                    .bind(place.device.clone())
                    .bind(place.slot.clone())
                    .bind(place.version)
            });
        let rows = statement.fetch_all(self.connection().await?).await?;
        Ok(rows.iter().map(read).collect())
    }

    /// Some rows behind one, of all states: a device's, or any.
    pub(crate) async fn key_rows(
        &mut self,
        device: Option<&DeviceSerial>,
        after: &KeyPlace,
        limit: u32,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM device_keys WHERE ($1 = '' OR device = $1) AND (device, slot, version) > ($2, $3, $4)
             ORDER BY device, slot, version LIMIT $5",
        )
        .bind(device.map_or("", DeviceSerial::as_str))
        .bind(&after.device)
        .bind(&after.slot)
        .bind(after.version)
        .bind(i64::from(limit))
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().map(read).collect())
    }

    /// What a device holds and shall hold, in one slot or in all.
    pub(crate) async fn live_key_rows(
        &mut self,
        device: &DeviceSerial,
        slot: Option<&Slot>,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM device_keys WHERE device = $1 AND ($2 = '' OR slot = $2)
             AND state IN ('PENDING', 'ACTIVE') ORDER BY slot, version",
        )
        .bind(device.as_str())
        .bind(slot.map_or("", Slot::as_str))
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().map(read).collect())
    }

    /// The same.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: the host cannot have written one of them.
    pub(crate) async fn live_device_keys(
        &mut self,
        device: &DeviceSerial,
        slot: Option<&Slot>,
    ) -> Result<Vec<Sealed<DeviceKey>>, StoreError> {
        let rows = self.live_key_rows(device, slot).await?;
        rows.into_iter()
            .map(|row| row.map_err(StoreError::from))
            .collect()
    }

    /// Some of those that are under an older pair of storage keys than this one, behind a row.
    pub(crate) async fn device_keys_under_older(
        &mut self,
        number: u32,
        after: &KeyPlace,
        limit: u32,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM device_keys WHERE storage_key < $1 AND (device, slot, version) > ($2, $3, $4)
             ORDER BY device, slot, version LIMIT $5",
        )
        .bind(i64::from(number))
        .bind(&after.device)
        .bind(&after.slot)
        .bind(after.version)
        .bind(i64::from(limit))
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().map(read).collect())
    }

    /// How many rows the HSM has never sealed.
    pub(crate) async fn unsealed_device_keys(&mut self) -> Result<i64, StoreError> {
        let unsealed = "SELECT COUNT(*) FROM device_keys WHERE storage_key = 0";
        let unsealed = sqlx::query_scalar(unsealed).fetch_one(self.connection().await?);
        Ok(unsealed.await?)
    }

    /// The rows that it has never sealed.
    pub(crate) async fn device_keys_without_seal(
        &mut self,
    ) -> Result<Vec<Sealed<DeviceKey>>, StoreError> {
        sqlx::query("SELECT * FROM device_keys WHERE storage_key = 0")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_sound)
            .collect()
    }

    /// What devices hold and shall hold, in all slots.
    pub(crate) async fn live_keys_of(
        &mut self,
        devices: &[DeviceSerial],
    ) -> Result<Vec<KeyRow>, StoreError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT * FROM device_keys WHERE device IN {} AND state IN ('PENDING', 'ACTIVE')",
            self.tuples(1, devices.len())
        );
        Ok(self.about(sql, devices).await?.iter().map(read).collect())
    }

    /// The newest version of each slot of these devices where it is one that they neither hold nor shall hold: the next
    /// version comes behind it. Where no version can be, nothing counts.
    pub(crate) async fn newest_keys_that_are_over(
        &mut self,
        devices: &[DeviceSerial],
    ) -> Result<Vec<KeyRow>, StoreError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT * FROM device_keys k WHERE k.device IN {} AND k.state NOT IN ('PENDING', 'ACTIVE')
                 AND k.version BETWEEN 0 AND 4294967295
                 AND NOT EXISTS (SELECT 1 FROM device_keys n WHERE n.device = k.device AND n.slot = k.slot
                     AND n.version > k.version AND n.version <= 4294967295)",
            self.tuples(1, devices.len())
        );
        Ok(self.about(sql, devices).await?.iter().map(read).collect())
    }

    /// Where else the same key stands, if it does: AES key wrap gives the same for the same key, and an initial key is
    /// known by its id.
    pub(crate) async fn equal_key(
        &mut self,
        key: &DeviceKey,
    ) -> Result<Option<KeyPlace>, StoreError> {
        let here = |statement: Query<'static, Db, Arguments>| {
            statement
                .bind(key.device.to_string())
                .bind(key.slot.to_string())
                .bind(i64::from(key.version))
        };
        let statement = match &key.source {
            KeySource::Unique {
                wrapped: Some(wrapped),
            } => here(sqlx::query(
                "SELECT * FROM device_keys WHERE NOT (device = $1 AND slot = $2 AND version = $3)
                     AND wrapped = $4",
            ))
            .bind(wrapped.clone()),
            KeySource::Derived { bdk, id } => {
                let (key_set, derivation_id) = KeySet::of(bdk, *id);
                here(sqlx::query(
                    "SELECT * FROM device_keys WHERE NOT (device = $1 AND slot = $2 AND version = $3)
                         AND bdk = $4 AND key_set_id = $5 AND derivation_id = $6",
                ))
                .bind(key_set.bdk.to_string())
                .bind(key_set.digits())
                .bind(i64::from(derivation_id))
            }
            KeySource::Unique { wrapped: None } | KeySource::Shared { .. } | KeySource::Nothing => {
                return Ok(None);
            }
        };
        let row = statement.fetch_optional(self.connection().await?).await?;
        Ok(row.as_ref().map(place))
    }

    /// Whether another device than this one has a registered key, or has had it: by the rows, or by the trail.
    pub(crate) async fn is_held_elsewhere(
        &mut self,
        name: &KeyAlias,
        device: &DeviceSerial,
    ) -> Result<bool, StoreError> {
        if self.was_given_elsewhere(name, device) {
            return Ok(true);
        }
        let other = sqlx::query_scalar::<_, String>(
            "SELECT device FROM device_keys WHERE key_name = $1 AND device <> $2 LIMIT 1",
        )
        .bind(name.as_str())
        .bind(device.as_str())
        .fetch_optional(self.connection().await?);
        Ok(other.await?.is_some())
    }
}
