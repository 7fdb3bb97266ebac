//! What each device holds, or shall hold, in each slot: a row for each version of a key.

use std::{collections::HashSet, fmt};

use hsm::{InitialKeyId, Kcv, KcvMethod};
use sqlx::{AssertSqlSafe, Row as _, query::Query};
use tr34::{Kbh, KeyKind};

use super::{
    Arguments, Db, KeySet, Row, StoreError, Tx,
    bdks::read_initial_key,
    keys::{method_word, read_kcv, read_seal},
    sealed::{Columns, Seal, Sealed, SealedRow, bound},
};
use crate::{
    names::{BdkName, DeviceSerial, KeyAlias, Slot, beginning},
    state::DeviceKeyState,
};

/// Rows in one statement.
const ROWS_AT_ONCE: usize = 64;

/// Puts a row in the place of the one that stands there.
const PUT: &str = "UPDATE device_keys SET state = $4, source = $5, key_name = $6, wrapped = $7, header = $8,
         kind = $9, kcv_method = $10, kcv = $11, recipient = $12, created_at = $13, changed_at = $14,
         bdk = $15, key_set_id = $16, derivation_id = $17, storage_key = $18, mac = $19
     WHERE device = $1 AND slot = $2 AND version = $3";

/// Where a row stands in the table, whether the host could have put it there or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct KeyPlace {
    pub(crate) device: String,
    pub(crate) slot: String,
    pub(crate) version: i64,
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, slot) = (beginning(&self.device), beginning(&self.slot));
        write!(
            f,
            "version {} of the key of {device} in slot {slot}",
            self.version
        )
    }
}

/// A row that says nothing that the host could have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) place: KeyPlace,
    /// As it stands, to be compared.
    columns: Vec<String>,
}

impl From<Unreadable> for StoreError {
    fn from(row: Unreadable) -> Self {
        Self::NotSealed(row.place.to_string())
    }
}

/// A row as it was read. Nobody has verified its seal yet.
pub(crate) type KeyRow = Result<Sealed<DeviceKey>, Unreadable>;

/// Where a row stands.
pub(crate) fn place_of(row: &KeyRow) -> KeyPlace {
    match row {
        Ok(row) => row.unproven().place(),
        Err(row) => row.place.clone(),
    }
}

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
    /// The HSM derives it from a BDK, for this device, whenever it is needed.
    Derived {
        /// The BDK.
        bdk: BdkName,
        /// Whose it is. No other key of the BDK has this id.
        id: InitialKeyId,
    },
    /// A registered key, which other devices may hold too.
    Shared {
        /// Its name.
        name: KeyAlias,
    },
    /// Nowhere: the row was discarded.
    Nothing,
}

impl KeySource {
    /// The word in the database, in answers and in the audit trail.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Unique { .. } => "UNIQUE",
            Self::Derived { .. } => "DERIVED",
            Self::Shared { .. } => "SHARED",
            Self::Nothing => "NONE",
        }
    }

    /// Of a registered key, its name.
    pub(crate) const fn key_name(&self) -> Option<&KeyAlias> {
        match self {
            Self::Unique { .. } | Self::Derived { .. } | Self::Nothing => None,
            Self::Shared { name } => Some(name),
        }
    }

    /// Of a derived key, the BDK and whose it is.
    pub(crate) const fn initial_key(&self) -> Option<(&BdkName, InitialKeyId)> {
        match self {
            Self::Derived { bdk, id } => Some((bdk, *id)),
            Self::Unique { .. } | Self::Shared { .. } | Self::Nothing => None,
        }
    }

    /// Of a key of the device's own that is not destroyed: the key under the storage key.
    pub(crate) fn wrapped(&self) -> Option<&[u8]> {
        match self {
            Self::Unique { wrapped } => wrapped.as_deref(),
            Self::Derived { .. } | Self::Shared { .. } | Self::Nothing => None,
        }
    }
}

impl DeviceKey {
    /// The row of a version of which nothing is known any more: it says that the version was there.
    ///
    /// # Errors
    /// None, in truth.
    pub(crate) fn discarded(
        device: DeviceSerial,
        slot: Slot,
        version: u32,
        now: &str,
    ) -> Result<Self, StoreError> {
        let damaged = || StoreError::Damaged("device key");
        Ok(Self {
            device,
            slot,
            version,
            state: DeviceKeyState::Discarded,
            source: KeySource::Nothing,
            // The columns want something. It is nobody's.
            header: Kbh::parse(b"D0000D0AN00N0000").map_err(|_| damaged())?,
            kind: KeyKind::Aes128,
            kcv: Kcv::new(KcvMethod::AesCmac, &[0; 3]).map_err(|_| damaged())?,
            recipient: None,
            created_at: now.to_owned(),
            changed_at: now.to_owned(),
        })
    }

    /// Where the row stands.
    pub(crate) fn place(&self) -> KeyPlace {
        KeyPlace {
            device: self.device.to_string(),
            slot: self.slot.to_string(),
            version: i64::from(self.version),
        }
    }

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
        columns.optional_text(self.source.key_name().map(KeyAlias::as_str));
        columns.optional_bytes(self.source.wrapped());
        columns.text(&self.header.to_string());
        columns.text(self.kind.name());
        columns.text(method_word(self.kcv.method()));
        columns.text(&self.kcv.to_string());
        columns.optional_bytes(self.recipient.as_deref());
        columns.text(&self.created_at);
        columns.text(&self.changed_at);
        let derived = self.source.initial_key();
        let derived = derived.map(|(bdk, id)| KeySet::of(bdk, id));
        let key_set = derived.as_ref().map(|(key_set, _)| key_set);
        columns.optional_text(key_set.map(|key_set| key_set.bdk.as_str()));
        columns.optional_text(key_set.map(KeySet::digits).as_deref());
        columns.optional_number(derived.as_ref().map(|(_, number)| *number));
    }

    fn title(&self) -> String {
        self.place().to_string()
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

    /// Adds versions; `false` if one is there already, if its slot has another one in its state, or if it is the same
    /// key as another one. The others are not to stay then.
    pub(crate) async fn insert_device_keys(
        &mut self,
        keys: &[Sealed<DeviceKey>],
    ) -> Result<bool, StoreError> {
        for some in keys.chunks(ROWS_AT_ONCE) {
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

    /// The same, of one.
    #[cfg(test)]
    pub(crate) async fn insert_device_key(
        &mut self,
        key: &Sealed<DeviceKey>,
    ) -> Result<bool, StoreError> {
        self.insert_device_keys(std::slice::from_ref(key)).await
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

    /// Whether another device than this one has a registered key, or has had it.
    pub(crate) async fn is_held_elsewhere(
        &mut self,
        name: &KeyAlias,
        device: &DeviceSerial,
    ) -> Result<bool, StoreError> {
        let other = sqlx::query_scalar::<_, String>(
            "SELECT device FROM device_keys WHERE key_name = $1 AND device <> $2 LIMIT 1",
        )
        .bind(name.as_str())
        .bind(device.as_str())
        .fetch_optional(self.connection().await?);
        Ok(other.await?.is_some())
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

/// A row of the table, whatever else is in it.
pub(super) fn read(row: &Row) -> KeyRow {
    read_sound(row).map_err(|_| Unreadable {
        place: place(row),
        columns: (0..row.len()).map(|index| as_text(row, index)).collect(),
    })
}

/// The same, of a row that the host could have written.
fn read_sound(row: &Row) -> Result<Sealed<DeviceKey>, StoreError> {
    parse(row).map_err(|_| StoreError::NotSealed(place(row).to_string()))
}

fn parse(row: &Row) -> Result<Sealed<DeviceKey>, StoreError> {
    let damaged = || StoreError::Damaged("device key");
    let text = |column: &str| row.try_get::<String, _>(column);
    let version: i64 = row.try_get("version")?;
    let name: Option<String> = row.try_get("key_name")?;
    let wrapped: Option<Vec<u8>> = row.try_get("wrapped")?;
    let derived = read_initial_key(row)?;
    let source = match (text("source")?.as_str(), name, wrapped, derived) {
        ("UNIQUE", None, wrapped, None) => KeySource::Unique { wrapped },
        ("DERIVED", None, None, Some((bdk, id))) => KeySource::Derived { bdk, id },
        ("SHARED", Some(name), None, None) => KeySource::Shared {
            name: KeyAlias::parse(&name).map_err(|_| damaged())?,
        },
        ("NONE", None, None, None) => KeySource::Nothing,
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

fn place(row: &Row) -> KeyPlace {
    KeyPlace {
        device: as_text(row, "device"),
        slot: as_text(row, "slot"),
        // SQLite has texts behind all numbers.
        version: row.try_get("version").unwrap_or(i64::MAX),
    }
}

/// A column in words, whatever is in it.
fn as_text(row: &Row, column: impl sqlx::ColumnIndex<Row> + Copy) -> String {
    if let Ok(text) = row.try_get::<Option<String>, _>(column) {
        return text.unwrap_or_default();
    }
    if let Ok(number) = row.try_get::<i64, _>(column) {
        return number.to_string();
    }
    row.try_get::<Vec<u8>, _>(column)
        .map_or_else(|_| "?".to_owned(), hex::encode)
}
