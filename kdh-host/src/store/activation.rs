//! Activation codes: stored as hashes, used once.

use sqlx::Row;
use time::OffsetDateTime;

use super::{StoreError, Tx, time_text};
use crate::names::DeviceSerial;

/// The activation code of a device.
#[derive(Clone, Debug)]
pub(crate) struct ActivationCode {
    pub(crate) code_sha256: Vec<u8>,
    pub(crate) expired: bool,
    pub(crate) wrong_tries: i64,
    /// The keys of the enrolment that claimed it.
    pub(crate) claimed_by: Option<Vec<u8>>,
    pub(crate) used: bool,
}

impl Tx {
    /// Gives a device a code, in place of the one it had.
    pub(crate) async fn put_activation_code(
        &mut self,
        device: &DeviceSerial,
        code_sha256: &[u8; 32],
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM activation_codes WHERE device = $1")
            .bind(device.as_str())
            .execute(&mut *self.tx)
            .await?;
        sqlx::query(
            "INSERT INTO activation_codes (device, code_sha256, expires_at) VALUES ($1, $2, $3)",
        )
        .bind(device.as_str())
        .bind(&code_sha256[..])
        .bind(time_text(expires_at)?)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    pub(crate) async fn activation_code(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Option<ActivationCode>, StoreError> {
        let row = sqlx::query("SELECT * FROM activation_codes WHERE device = $1")
            .bind(device.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let expires_at: String = row.try_get("expires_at")?;
        let used_at: Option<String> = row.try_get("used_at")?;
        Ok(Some(ActivationCode {
            code_sha256: row.try_get("code_sha256")?,
            expired: expires_at < self.now,
            wrong_tries: row.try_get("wrong_tries")?,
            claimed_by: row.try_get("claimed_by")?,
            used: used_at.is_some(),
        }))
    }

    /// Counts a wrong code.
    pub(crate) async fn count_wrong_code(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE activation_codes SET wrong_tries = wrong_tries + 1 WHERE device = $1")
            .bind(device.as_str())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Claims the code for an enrolment with these keys, or releases it; a used one stays as it is.
    pub(crate) async fn claim_activation_code(
        &mut self,
        device: &DeviceSerial,
        claimed_by: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE activation_codes SET claimed_by = $2 WHERE device = $1 AND used_at IS NULL",
        )
        .bind(device.as_str())
        .bind(claimed_by)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The code has done its work.
    pub(crate) async fn spend_activation_code(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE activation_codes SET used_at = $2 WHERE device = $1")
            .bind(device.as_str())
            .bind(&self.now)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Devices whose enrolment was claimed and never finished.
    pub(crate) async fn unfinished_enrolments(&mut self) -> Result<Vec<DeviceSerial>, StoreError> {
        sqlx::query_scalar::<_, String>(
            "SELECT device FROM activation_codes WHERE claimed_by IS NOT NULL AND used_at IS NULL",
        )
        .fetch_all(&mut *self.tx)
        .await?
        .iter()
        .map(|serial| {
            DeviceSerial::parse(serial).map_err(|_| StoreError::Damaged("activation code"))
        })
        .collect()
    }
}
