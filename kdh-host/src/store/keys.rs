//! Keys that lie in the HSM, and which device shall hold which of them in which slot.

use hsm::{Kcv, KcvMethod};
use serde_json::{Value, json};
use sqlx::{Row, sqlite::SqliteRow};
use tr34::Kbh;

use super::{StoreError, Tx};
use crate::names::{DeviceSerial, KeyAlias, Slot};

/// A key that is known to the host. The key itself is in the HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredKey {
    pub(crate) name: KeyAlias,
    pub(crate) hsm_label: String,
    pub(crate) header: Kbh,
    pub(crate) kind: String,
    pub(crate) kcv: Kcv,
    pub(crate) created_at: String,
}

/// What a device shall hold in a slot.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) slot: Slot,
    pub(crate) version: u32,
    pub(crate) key: StoredKey,
    pub(crate) confirmed: bool,
    /// Whether it was made for the encryption key that the device has now. A device that has enrolled
    /// again may be another one under the same serial number: it gets nothing until an operator
    /// assigns anew.
    pub(crate) meant_for_present_key: bool,
    /// SHA-256 of that key; none if the device had none.
    pub(crate) recipient: Option<Vec<u8>>,
}

impl StoredKey {
    /// What the audit trail says of its registration.
    pub(crate) fn registration(&self) -> Value {
        json!({
            "key": self.name.as_str(),
            "hsm-label": self.hsm_label,
            "header": self.header.to_string(),
            "kind": self.kind,
            "kcv-method": method_word(self.kcv.method()),
            "kcv": self.kcv.to_string(),
        })
    }
}

impl Tx {
    /// Makes a key known; `false` if its name or its label in the HSM is taken.
    pub(crate) async fn insert_key(&mut self, key: &StoredKey) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO keys VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(key.name.as_str())
        .bind(&key.hsm_label)
        .bind(key.header.to_string())
        .bind(&key.kind)
        .bind(method_word(key.kcv.method()))
        .bind(key.kcv.to_string())
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    pub(crate) async fn key(&mut self, name: &KeyAlias) -> Result<Option<StoredKey>, StoreError> {
        sqlx::query("SELECT * FROM keys WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read_key)
            .transpose()
    }

    pub(crate) async fn keys(&mut self) -> Result<Vec<StoredKey>, StoreError> {
        sqlx::query("SELECT * FROM keys ORDER BY name")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_key)
            .collect()
    }

    /// Gives a device a key in a slot, as the next version, meant for its present encryption key.
    pub(crate) async fn assign_key(
        &mut self,
        device: &DeviceSerial,
        slot: &Slot,
        key: &KeyAlias,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO assignments
             SELECT $1, $2, COALESCE(MAX(version), 0) + 1, $3, $4,
                 (SELECT key_sha256 FROM certificates
                  WHERE device = $1 AND purpose = 'ENCRYPTION' AND state = 'CURRENT')
             FROM assignments WHERE device = $1 AND slot = $2",
        )
        .bind(device.as_str())
        .bind(slot.as_str())
        .bind(key.as_str())
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// Assignments that were made before the device had a key are meant for its first one.
    pub(crate) async fn pin_assignments(
        &mut self,
        device: &DeviceSerial,
        key_sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE assignments SET recipient = $2 WHERE device = $1 AND recipient IS NULL",
        )
        .bind(device.as_str())
        .bind(&key_sha256[..])
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }
}

pub(crate) fn method_word(method: KcvMethod) -> &'static str {
    match method {
        KcvMethod::TdeaEcb => "TDEA_ECB",
        KcvMethod::AesCmac => "AES_CMAC",
    }
}

pub(super) fn read_assignment(row: &SqliteRow) -> Result<Assignment, StoreError> {
    let damaged = || StoreError::Damaged("assignment");
    let slot: String = row.try_get("slot")?;
    let version: i64 = row.try_get("version")?;
    Ok(Assignment {
        slot: Slot::parse(&slot).map_err(|_| damaged())?,
        version: u32::try_from(version).map_err(|_| damaged())?,
        key: read_key(row)?,
        confirmed: row.try_get("confirmed")?,
        meant_for_present_key: row.try_get("meant_for_present_key")?,
        recipient: row.try_get("recipient")?,
    })
}

fn read_key(row: &SqliteRow) -> Result<StoredKey, StoreError> {
    let damaged = || StoreError::Damaged("key");
    let name: String = row.try_get("name")?;
    let header: String = row.try_get("header")?;
    Ok(StoredKey {
        name: KeyAlias::parse(&name).map_err(|_| damaged())?,
        hsm_label: row.try_get("hsm_label")?,
        header: Kbh::parse(header.as_bytes()).map_err(|_| damaged())?,
        kind: row.try_get("kind")?,
        kcv: read_kcv(row)?.ok_or_else(damaged)?,
        created_at: row.try_get("created_at")?,
    })
}

/// The check value in a row's two columns; `None` if they hold none.
pub(super) fn read_kcv(row: &SqliteRow) -> Result<Option<Kcv>, StoreError> {
    let (method, kcv): (String, String) = (row.try_get("kcv_method")?, row.try_get("kcv")?);
    let known = [KcvMethod::TdeaEcb, KcvMethod::AesCmac];
    let method = known
        .into_iter()
        .find(|known| method_word(*known) == method);
    Ok(method.and_then(|method| Kcv::parse(method, &kcv).ok()))
}
