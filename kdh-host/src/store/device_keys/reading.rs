//! A row as it stands in the table, whatever is in it.

use sqlx::Row as _;
use tr34::{Kbh, KeyKind};

use super::{DeviceKey, KeyPlace, KeySource};
use crate::{
    names::{DeviceSerial, KeyAlias, Slot},
    state::DeviceKeyState,
    store::{
        Row, StoreError,
        bdks::read_initial_key,
        keys::{read_kcv, read_seal},
        sealed::Sealed,
    },
};

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

/// A row of the table, whatever else is in it.
pub(in crate::store) fn read(row: &Row) -> KeyRow {
    read_sound(row).map_err(|_| Unreadable {
        place: place(row),
        columns: (0..row.len()).map(|index| as_text(row, index)).collect(),
    })
}

/// The same, of a row that the host could have written.
pub(super) fn read_sound(row: &Row) -> Result<Sealed<DeviceKey>, StoreError> {
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

pub(super) fn place(row: &Row) -> KeyPlace {
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
