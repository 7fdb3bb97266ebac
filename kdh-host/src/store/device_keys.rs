//! What each device holds, or shall hold, in each slot: a row for each version of a key.

use hsm::Kcv;
use sqlx::{Row as _, query::Query};
use tr34::{Kbh, KeyKind};

use super::{
    Arguments, Db, Row, StoreError, Tx,
    keys::{method_word, read_kcv, read_seal},
    sealed::{Columns, Seal, Sealed, SealedRow},
};
use crate::{
    names::{DeviceSerial, KeyAlias, Slot},
    state::DeviceKeyState,
    storage::Cursor,
};

/// A version of what a device holds in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceKey {
    pub(crate) device: DeviceSerial,
    pub(crate) slot: Slot,
    pub(crate) version: u32,
    pub(crate) state: DeviceKeyState,
    pub(crate) source: KeySource,
    pub(crate) header: Kbh,
    pub(crate) kind: KeyKind,
    pub(crate) kcv: Kcv,
    /// SHA-256 of the encryption key that it is meant for; none if the device has had none.
    pub(crate) recipient: Option<Vec<u8>>,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

/// Where a device's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// The HSM has made it, for this device.
    Unique {
        /// Under the storage key; none once it is destroyed.
        wrapped: Option<Vec<u8>>,
    },
    /// A registered key, which other devices may hold too.
    Shared {
        /// Its name.
        name: KeyAlias,
    },
}

impl KeySource {
    /// The word in the database, in answers and in the audit trail.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Unique { .. } => "UNIQUE",
            Self::Shared { .. } => "SHARED",
        }
    }

    /// Of a registered key, its name.
    pub(crate) const fn key_name(&self) -> Option<&KeyAlias> {
        match self {
            Self::Unique { .. } => None,
            Self::Shared { name } => Some(name),
        }
    }

    /// Of a key of the device's own that is not destroyed: the key under the storage key.
    pub(crate) fn wrapped(&self) -> Option<&[u8]> {
        match self {
            Self::Unique { wrapped } => wrapped.as_deref(),
            Self::Shared { .. } => None,
        }
    }
}

impl DeviceKey {
    /// The row with its key under another storage key, if it has one.
    pub(crate) fn with_wrapped(&self, new: Option<&[u8]>) -> Self {
        let mut row = self.clone();
        if let KeySource::Unique { wrapped } = &mut row.source {
            *wrapped = new.map(<[u8]>::to_vec);
        }
        row
    }

    /// The row as it is from now on, in this state. What the host has of a key goes with the last states.
    pub(crate) fn moved_to(&self, state: DeviceKeyState, now: &str) -> Self {
        let mut row = self.clone();
        row.state = state;
        now.clone_into(&mut row.changed_at);
        if let (
            DeviceKeyState::Destroyed | DeviceKeyState::Withdrawn,
            KeySource::Unique { wrapped },
        ) = (state, &mut row.source)
        {
            *wrapped = None;
        }
        row
    }
}

impl SealedRow for DeviceKey {
    const TABLE: &'static str = "device_keys";

    fn columns(&self, columns: &mut Columns) {
        columns.text(self.device.as_str());
        columns.text(self.slot.as_str());
        columns.number(self.version);
        columns.text(self.state.as_str());
        columns.text(self.source.as_str());
        columns.optional(self.source.key_name().map(|name| name.as_str().as_bytes()));
        columns.optional(self.source.wrapped());
        columns.text(&self.header.to_string());
        columns.text(self.kind.name());
        columns.text(method_word(self.kcv.method()));
        columns.text(&self.kcv.to_string());
        columns.optional(self.recipient.as_deref());
        columns.text(&self.created_at);
        columns.text(&self.changed_at);
    }

    fn title(&self) -> String {
        format!(
            "version {} of the key of {} in slot {}",
            self.version, self.device, self.slot
        )
    }
}

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
            .map(read)
            .transpose()
    }

    /// What a device holds and shall hold, in one slot or in all.
    pub(crate) async fn live_device_keys(
        &mut self,
        device: &DeviceSerial,
        slot: Option<&Slot>,
    ) -> Result<Vec<Sealed<DeviceKey>>, StoreError> {
        sqlx::query(
            "SELECT * FROM device_keys WHERE device = $1 AND ($2 = '' OR slot = $2)
             AND state IN ('PENDING', 'ACTIVE') ORDER BY slot, version",
        )
        .bind(device.as_str())
        .bind(slot.map_or("", Slot::as_str))
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Some of those that are under an older pair of storage keys than this one, behind a row.
    pub(crate) async fn device_keys_under_older(
        &mut self,
        number: u32,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<Sealed<DeviceKey>>, StoreError> {
        sqlx::query(
            "SELECT * FROM device_keys WHERE storage_key < $1 AND (device, slot, version) > ($2, $3, $4)
             ORDER BY device, slot, version LIMIT $5",
        )
        .bind(i64::from(number))
        .bind(&after.device)
        .bind(&after.slot)
        .bind(i64::from(after.version))
        .bind(i64::from(limit))
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// How many sealed rows of all tables are under each pair of storage keys.
    pub(crate) async fn rows_by_storage_key(&mut self) -> Result<Vec<(u32, u64)>, StoreError> {
        let counted: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT storage_key, CAST(SUM(rows_of_one) AS BIGINT) FROM (
                 SELECT storage_key, COUNT(*) AS rows_of_one FROM device_keys GROUP BY storage_key
                 UNION ALL SELECT storage_key, COUNT(*) FROM keys GROUP BY storage_key
                 UNION ALL SELECT storage_key, COUNT(*) FROM approvals GROUP BY storage_key
             ) AS counted GROUP BY storage_key ORDER BY storage_key",
        )
        .fetch_all(self.connection().await?)
        .await?;
        let counted = counted.into_iter().map(|(number, rows)| {
            let unsigned = (u32::try_from(number).ok(), u64::try_from(rows).ok());
            unsigned
                .0
                .zip(unsigned.1)
                .ok_or(StoreError::Damaged("storage key"))
        });
        counted.collect()
    }

    /// How many rows the HSM has never sealed.
    pub(crate) async fn unsealed_device_keys(&mut self) -> Result<i64, StoreError> {
        let unsealed = "SELECT COUNT(*) FROM device_keys WHERE storage_key = 0";
        let unsealed = sqlx::query_scalar(unsealed).fetch_one(self.connection().await?);
        Ok(unsealed.await?)
    }

    /// Whether it has sealed any.
    pub(crate) async fn sealed_device_keys(&mut self) -> Result<bool, StoreError> {
        let sealed = "SELECT COUNT(*) FROM (SELECT 1 FROM device_keys WHERE storage_key > 0 LIMIT 1) AS any_row";
        let sealed: i64 = sqlx::query_scalar(sealed)
            .fetch_one(self.connection().await?)
            .await?;
        Ok(sealed > 0)
    }

    /// The rows that it has never sealed.
    pub(crate) async fn device_keys_without_seal(
        &mut self,
    ) -> Result<Vec<Sealed<DeviceKey>>, StoreError> {
        sqlx::query("SELECT * FROM device_keys WHERE storage_key = 0")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// The last version that a device's slot has had; 0 for none.
    pub(crate) async fn last_version(
        &mut self,
        device: &DeviceSerial,
        slot: &Slot,
    ) -> Result<u32, StoreError> {
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(version) FROM device_keys WHERE device = $1 AND slot = $2",
        )
        .bind(device.as_str())
        .bind(slot.as_str())
        .fetch_one(self.connection().await?)
        .await?;
        u32::try_from(last.unwrap_or_default()).map_err(|_| StoreError::Damaged("device key"))
    }

    /// Adds a version; `false` if it is there already, if its slot has another one in its state, or if it is the
    /// same key as another device's.
    pub(crate) async fn insert_device_key(
        &mut self,
        key: &Sealed<DeviceKey>,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "INSERT INTO device_keys (device, slot, version, state, source, key_name, wrapped, header, kind,
                 kcv_method, kcv, recipient, created_at, changed_at, storage_key, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             ON CONFLICT DO NOTHING",
        );
        let inserted = bound(statement, key)
            .execute(self.connection().await?)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// The device whose key is the same, if there is one: AES key wrap gives the same for the same key.
    pub(crate) async fn device_with_key(
        &mut self,
        wrapped: &[u8],
    ) -> Result<Option<String>, StoreError> {
        let device = sqlx::query_scalar("SELECT device FROM device_keys WHERE wrapped = $1");
        let device = device
            .bind(wrapped)
            .fetch_optional(self.connection().await?)
            .await?;
        Ok(device)
    }

    /// Puts a row in the place of what it was; `false` if it is something else by now.
    pub(crate) async fn replace_device_key(
        &mut self,
        old: &Sealed<DeviceKey>,
        new: &Sealed<DeviceKey>,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "UPDATE device_keys SET state = $4, source = $5, key_name = $6, wrapped = $7, header = $8,
                 kind = $9, kcv_method = $10, kcv = $11, recipient = $12, created_at = $13, changed_at = $14,
                 storage_key = $15, mac = $16
             WHERE device = $1 AND slot = $2 AND version = $3 AND mac IS NOT DISTINCT FROM $17",
        );
        let replaced = bound(statement, new)
            .bind(old.seal().map(Seal::mac_bytes))
            .execute(self.connection().await?)
            .await?;
        Ok(replaced.rows_affected() == 1)
    }
}

/// All columns of a row, in the order of the table.
fn bound<'q>(
    statement: Query<'q, Db, Arguments>,
    key: &Sealed<DeviceKey>,
) -> Query<'q, Db, Arguments> {
    let (row, seal) = (key.unproven(), key.seal());
    statement
        .bind(row.device.to_string())
        .bind(row.slot.to_string())
        .bind(i64::from(row.version))
        .bind(row.state.as_str())
        .bind(row.source.as_str())
        .bind(row.source.key_name().map(ToString::to_string))
        .bind(row.source.wrapped().map(<[u8]>::to_vec))
        .bind(row.header.to_string())
        .bind(row.kind.name())
        .bind(method_word(row.kcv.method()))
        .bind(row.kcv.to_string())
        .bind(row.recipient.clone())
        .bind(row.created_at.clone())
        .bind(row.changed_at.clone())
        .bind(seal.map_or(0, Seal::number))
        .bind(seal.map(Seal::mac_bytes))
}

/// A row of the table, whatever else is in it.
pub(super) fn read(row: &Row) -> Result<Sealed<DeviceKey>, StoreError> {
    let damaged = || StoreError::Damaged("device key");
    let text = |column: &str| row.try_get::<String, _>(column);
    let version: i64 = row.try_get("version")?;
    let name: Option<String> = row.try_get("key_name")?;
    let wrapped: Option<Vec<u8>> = row.try_get("wrapped")?;
    let source = match (text("source")?.as_str(), name, wrapped) {
        ("UNIQUE", None, wrapped) => KeySource::Unique { wrapped },
        ("SHARED", Some(name), None) => KeySource::Shared {
            name: KeyAlias::parse(&name).map_err(|_| damaged())?,
        },
        _ => return Err(damaged()),
    };
    let key = DeviceKey {
        device: DeviceSerial::parse(&text("device")?).map_err(|_| damaged())?,
        slot: Slot::parse(&text("slot")?).map_err(|_| damaged())?,
        version: u32::try_from(version).map_err(|_| damaged())?,
        state: DeviceKeyState::parse(&text("state")?).ok_or_else(damaged)?,
        source,
        header: Kbh::parse(text("header")?.as_bytes()).map_err(|_| damaged())?,
        kind: KeyKind::from_name(&text("kind")?).ok_or_else(damaged)?,
        kcv: read_kcv(row)?.ok_or_else(damaged)?,
        recipient: row.try_get("recipient")?,
        created_at: text("created_at")?,
        changed_at: text("changed_at")?,
    };
    Ok(Sealed::new(key, read_seal(row)?))
}
