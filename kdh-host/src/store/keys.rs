//! Keys that lie in the HSM, and which device shall hold which of them in which slot.

use hsm::{Kcv, KcvMethod, Mac, StorageNumber};
use serde_json::{Value, json};
use sqlx::Row as _;
use tr34::{Kbh, KeyKind};

use super::{
    DeviceKey, Row, StoreError, Tx,
    device_keys::{self, Unreadable},
    few_rows::FewRows,
    flag,
    sealed::{Columns, Seal, Sealed, SealedRow, bound},
};
use crate::names::{KeyAlias, beginning};

/// A key that is known to the host. The key itself is in the HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredKey {
    pub(crate) name: KeyAlias,
    pub(crate) hsm_label: String,
    pub(crate) header: Kbh,
    pub(crate) kind: KeyKind,
    pub(crate) kcv: Kcv,
    pub(crate) created_at: String,
}

/// What a device shall hold in a slot.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) key: Sealed<DeviceKey>,
    /// Whether the device has confirmed it since it was bound, by the rows of its deliveries alone.
    pub(crate) confirmed: bool,
    /// Whether it was made for the encryption key that the device has now. A device that has enrolled
    /// again may be another one under the same serial number: it gets nothing until an operator
    /// assigns anew.
    pub(crate) meant_for_present_key: bool,
}

impl SealedRow for StoredKey {
    const TABLE: &'static str = "keys";

    fn columns(&self, columns: &mut Columns) {
        columns.text(self.name.as_str());
        columns.text(&self.hsm_label);
        columns.text(&self.header.to_string());
        columns.text(self.kind.name());
        columns.text(method_word(self.kcv.method()));
        columns.text(&self.kcv.to_string());
        columns.text(&self.created_at);
    }

    fn title(&self) -> String {
        Self::title_of(&self.name)
    }
}

impl StoredKey {
    /// Which row is the one of this name, for people.
    pub(crate) fn title_of(name: &KeyAlias) -> String {
        format!("key {name}")
    }

    /// What the audit trail says of its registration.
    pub(crate) fn registration(&self) -> Value {
        json!({
            "key": self.name.as_str(),
            "hsm-label": self.hsm_label,
            "header": self.header.to_string(),
            "kind": self.kind.name(),
            "kcv-method": method_word(self.kcv.method()),
            "kcv": self.kcv.to_string(),
        })
    }
}

impl Tx {
    /// Makes a key known; `false` if its name or its label in the HSM is taken.
    pub(crate) async fn insert_key(&mut self, key: &Sealed<StoredKey>) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "INSERT INTO keys (name, hsm_label, header, kind, kcv_method, kcv, created_at, storage_key, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        );
        let inserted = bound(statement, key)
            .execute(self.connection().await?)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Puts another seal on a key that is otherwise as it was.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: it is not as it was.
    pub(crate) async fn reseal_key(
        &mut self,
        old: &Sealed<StoredKey>,
        new: &Sealed<StoredKey>,
    ) -> Result<(), StoreError> {
        let seal = new.seal();
        let statement = sqlx::query(
            "UPDATE keys SET storage_key = $2, mac = $3
             WHERE name = $1 AND mac IS NOT DISTINCT FROM $4",
        )
        .bind(new.unproven().name.to_string())
        .bind(seal.map_or(0, Seal::number))
        .bind(seal.map(Seal::mac_bytes))
        .bind(old.seal().map(Seal::mac_bytes));
        self.exactly_one(statement, "key").await
    }

    pub(crate) async fn key(
        &mut self,
        name: &KeyAlias,
    ) -> Result<Option<Sealed<StoredKey>>, StoreError> {
        sqlx::query("SELECT * FROM keys WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read_key)
            .transpose()
    }

    pub(crate) async fn keys(&mut self) -> Result<Vec<Sealed<StoredKey>>, StoreError> {
        sqlx::query("SELECT * FROM keys ORDER BY name")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_key)
            .collect()
    }
}

pub(crate) fn method_word(method: KcvMethod) -> &'static str {
    match method {
        KcvMethod::TdeaEcb => "TDEA_ECB",
        KcvMethod::AesCmac => "AES_CMAC",
    }
}

/// What a device shall hold in a slot, if the row has one; whatever else is in it.
pub(super) fn read_assignment(
    row: &Row,
) -> Result<Option<Result<Assignment, Unreadable>>, StoreError> {
    if let Ok(None) = row.try_get::<Option<&str>, _>("slot") {
        return Ok(None);
    }
    let key = match device_keys::read(row) {
        Ok(key) => key,
        Err(unreadable) => return Ok(Some(Err(unreadable))),
    };
    Ok(Some(Ok(Assignment {
        key,
        confirmed: flag(row, "confirmed")?,
        meant_for_present_key: flag(row, "meant_for_present_key")?,
    })))
}

impl FewRows for StoredKey {
    fn read(row: &Row) -> Result<Sealed<Self>, StoreError> {
        read_key(row)
    }

    async fn reseal(tx: &mut Tx, old: &Sealed<Self>, new: &Sealed<Self>) -> Result<(), StoreError> {
        tx.reseal_key(old, new).await
    }
}

fn read_key(row: &Row) -> Result<Sealed<StoredKey>, StoreError> {
    let name = || row.try_get::<String, _>("name").unwrap_or_default();
    parse_key(row).map_err(|_| StoreError::NotSealed(format!("key {}", beginning(&name()))))
}

fn parse_key(row: &Row) -> Result<Sealed<StoredKey>, StoreError> {
    let damaged = || StoreError::Damaged("key");
    let name: String = row.try_get("name")?;
    let (header, kind): (String, String) = (row.try_get("header")?, row.try_get("kind")?);
    let key = StoredKey {
        name: KeyAlias::parse(&name).map_err(|_| damaged())?,
        hsm_label: row.try_get("hsm_label")?,
        header: Kbh::parse_plain(header.as_bytes()).map_err(|_| damaged())?,
        kind: KeyKind::from_name(&kind).ok_or_else(damaged)?,
        kcv: read_kcv(row)?.ok_or_else(damaged)?,
        created_at: row.try_get("created_at")?,
    };
    Ok(Sealed::new(key, read_seal(row)?))
}

/// The seal in a row's two columns; `None` if the row is from before there were seals.
pub(super) fn read_seal(row: &Row) -> Result<Option<Seal>, StoreError> {
    let damaged = || StoreError::Damaged("seal");
    let (number, mac): (i64, Option<Vec<u8>>) = (row.try_get("storage_key")?, row.try_get("mac")?);
    let Some(mac) = mac else { return Ok(None) };
    let number = u32::try_from(number).ok();
    let number = number.and_then(|number| StorageNumber::new(number).ok());
    Ok(Some(Seal {
        number: number.ok_or_else(damaged)?,
        mac: Mac::new(&mac).map_err(|_| damaged())?,
    }))
}

/// The check value in a row's two columns; `None` if they hold none.
pub(super) fn read_kcv(row: &Row) -> Result<Option<Kcv>, StoreError> {
    let (method, kcv): (String, String) = (row.try_get("kcv_method")?, row.try_get("kcv")?);
    let known = [KcvMethod::TdeaEcb, KcvMethod::AesCmac];
    let method = known
        .into_iter()
        .find(|known| method_word(*known) == method);
    Ok(method.and_then(|method| Kcv::parse(method, &kcv).ok()))
}
