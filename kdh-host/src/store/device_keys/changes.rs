//! Rows that are added, replaced and put under other storage keys.

use std::collections::HashSet;

use sqlx::AssertSqlSafe;

use super::{DeviceKey, KeyPlace};
use crate::store::{
    KeySet, StoreError, Tx,
    sealed::{Seal, Sealed, bound},
};

/// Rows in one statement.
const ROWS_AT_ONCE: usize = 64;

/// Puts a row in the place of the one that stands there.
const PUT: &str = "UPDATE device_keys SET state = $4, source = $5, key_name = $6, wrapped = $7, header = $8,
         kind = $9, kcv_method = $10, kcv = $11, recipient = $12, created_at = $13, changed_at = $14,
         bdk = $15, key_set_id = $16, derivation_id = $17, storage_key = $18, mac = $19
     WHERE device = $1 AND slot = $2 AND version = $3";

impl Tx {
    /// Adds versions; `false` if one is there already, if its slot has another one in its state, or if it is the same
    /// key as another one: an initial key also where the database itself would take it. The others are not to stay then.
    pub(crate) async fn insert_device_keys(
        &mut self,
        keys: &[Sealed<DeviceKey>],
    ) -> Result<bool, StoreError> {
        for some in keys.chunks(ROWS_AT_ONCE) {
            if self.has_any_initial_key_of(some).await? {
                return Ok(false);
            }
            let sql = format!(
                "INSERT INTO device_keys (device, slot, version, state, source, key_name, wrapped, header, kind,
                     kcv_method, kcv, recipient, created_at, changed_at, bdk, key_set_id, derivation_id,
                     storage_key, mac)
                 VALUES {} ON CONFLICT DO NOTHING",
                self.tuples(some.len(), 19)
            );
            let statement = some
                .iter()
                .fold(sqlx::query(AssertSqlSafe(sql)), |statement, key| {
                    bound(statement, key)
                });
            let inserted = statement.execute(self.connection().await?).await?;
            if inserted.rows_affected() != some.len() as u64 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a row has the initial key of one of these.
    async fn has_any_initial_key_of(
        &mut self,
        keys: &[Sealed<DeviceKey>],
    ) -> Result<bool, StoreError> {
        let ids = keys
            .iter()
            .filter_map(|key| key.unproven().source.initial_key());
        let ids: Vec<_> = ids.map(|(bdk, id)| KeySet::of(bdk, id)).collect();
        if ids.is_empty() {
            return Ok(false);
        }
        let sql = format!(
            "SELECT 1 FROM (VALUES {}) AS n
             JOIN device_keys k ON k.bdk = n.column1 AND k.key_set_id = n.column2 AND k.derivation_id = n.column3
             LIMIT 1",
            self.tuples(ids.len(), 3)
        );
        let statement = ids.iter().fold(
            sqlx::query(AssertSqlSafe(sql)),
            |statement, (key_set, number)| {
                statement
                    .bind(key_set.bdk.to_string())
                    .bind(key_set.digits())
                    .bind(i64::from(*number))
            },
        );
        let found = statement.fetch_optional(self.connection().await?).await?;
        Ok(found.is_some())
    }

    /// [`Self::insert_device_keys`], of one.
    #[cfg(test)]
    pub(crate) async fn insert_device_key(
        &mut self,
        key: &Sealed<DeviceKey>,
    ) -> Result<bool, StoreError> {
        self.insert_device_keys(std::slice::from_ref(key)).await
    }

    /// Puts a row that says that it was discarded in the place of one, or takes that one out.
    pub(crate) async fn discard_key_row(
        &mut self,
        place: &KeyPlace,
        discarded: Option<&Sealed<DeviceKey>>,
    ) -> Result<(), StoreError> {
        let statement = match discarded {
            Some(row) => bound(sqlx::query(PUT), row),
            None => sqlx::query(
                "DELETE FROM device_keys WHERE device = $1 AND slot = $2 AND version = $3",
            )
            .bind(place.device.clone())
            .bind(place.slot.clone())
            .bind(place.version),
        };
        self.exactly_one(statement, "device key").await
    }

    /// Brings rows under another pair of storage keys: nothing else in them has changed. `false` if one of them is
    /// something else by now, or would be the same key as another row's. The others are not to stay then.
    pub(crate) async fn rewrap_device_keys(
        &mut self,
        old: &[Sealed<DeviceKey>],
        new: &[Sealed<DeviceKey>],
    ) -> Result<bool, StoreError> {
        let wrapped = || new.iter().filter_map(|row| row.unproven().source.wrapped());
        if wrapped().collect::<HashSet<_>>().len() < wrapped().count() {
            return Ok(false);
        }
        for (old, new) in old.chunks(ROWS_AT_ONCE).zip(new.chunks(ROWS_AT_ONCE)) {
            let sql = format!(
                "UPDATE device_keys SET wrapped = n.column5, storage_key = n.column6, mac = n.column7
                 FROM (VALUES {}) AS n
                 WHERE device_keys.device = n.column1 AND device_keys.slot = n.column2
                     AND device_keys.version = n.column3 AND device_keys.mac = n.column4
                     AND NOT EXISTS (SELECT 1 FROM device_keys o WHERE o.wrapped = n.column5
                         AND (o.device, o.slot, o.version) <> (n.column1, n.column2, n.column3))",
                self.tuples(old.len(), 7)
            );
            let mut statement = sqlx::query(AssertSqlSafe(sql));
            for (old, new) in old.iter().zip(new) {
                let KeyPlace {
                    device,
                    slot,
                    version,
                } = new.unproven().place();
                statement = statement
                    .bind(device)
                    .bind(slot)
                    .bind(version)
                    .bind(old.seal().map(Seal::mac_bytes))
                    .bind(new.unproven().source.wrapped().map(<[u8]>::to_vec))
                    .bind(new.seal().map_or(0, Seal::number))
                    .bind(new.seal().map(Seal::mac_bytes));
            }
            let moved = statement.execute(self.connection().await?).await?;
            if moved.rows_affected() != new.len() as u64 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a row in the place of what it was; `false` if it is something else by now, or if it would be the same key
    /// as another row's.
    pub(crate) async fn replace_device_key(
        &mut self,
        old: &Sealed<DeviceKey>,
        new: &Sealed<DeviceKey>,
    ) -> Result<bool, StoreError> {
        let statement = format!(
            "{PUT} AND mac IS NOT DISTINCT FROM $20
                 AND NOT EXISTS (SELECT 1 FROM device_keys o WHERE o.wrapped = $7
                     AND (o.device, o.slot, o.version) <> ($1, $2, $3))"
        );
        let replaced = bound(sqlx::query(AssertSqlSafe(statement)), new)
            .bind(old.seal().map(Seal::mac_bytes))
            .execute(self.connection().await?)
            .await?;
        Ok(replaced.rows_affected() == 1)
    }
}
