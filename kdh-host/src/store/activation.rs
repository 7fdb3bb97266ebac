//! Activation codes: stored as hashes, used once.

use pki::SerialNumber;
use sqlx::Row as _;
use time::OffsetDateTime;

use super::{StoreError, Tx, time_text};
use crate::names::DeviceSerial;

/// The activation code of a device.
#[derive(Clone, Debug)]
pub(crate) struct ActivationCode {
    pub(crate) code_sha256: Vec<u8>,
    pub(crate) expired: bool,
    pub(crate) wrong_tries: i64,
    /// The enrolment that claimed it.
    pub(crate) claim: Option<EnrolmentClaim>,
    pub(crate) used: bool,
}

/// An enrolment that is under way, or was the last one.
#[derive(Clone, Debug)]
pub(crate) struct EnrolmentClaim {
    /// Serial number of the encryption certificate to be.
    pub(crate) id: String,
    /// SHA-256 over both public keys.
    pub(crate) keys: Vec<u8>,
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
            .execute(self.connection().await?)
            .await?;
        sqlx::query(
            "INSERT INTO activation_codes (device, code_sha256, expires_at) VALUES ($1, $2, $3)",
        )
        .bind(device.as_str())
        .bind(&code_sha256[..])
        .bind(time_text(expires_at)?)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    pub(crate) async fn activation_code(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Option<ActivationCode>, StoreError> {
        let row = sqlx::query("SELECT * FROM activation_codes WHERE device = $1")
            .bind(device.as_str())
            .fetch_optional(self.connection().await?)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let expires_at: String = row.try_get("expires_at")?;
        let used_at: Option<String> = row.try_get("used_at")?;
        let id: Option<String> = row.try_get("claim")?;
        let keys: Option<Vec<u8>> = row.try_get("claimed_by")?;
        let claim = id.zip(keys).map(|(id, keys)| EnrolmentClaim { id, keys });
        Ok(Some(ActivationCode {
            code_sha256: row.try_get("code_sha256")?,
            expired: expires_at < self.now,
            wrong_tries: row.try_get("wrong_tries")?,
            claim,
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
            .execute(self.connection().await?)
            .await?;
        Ok(())
    }

    /// Claims the code for an enrolment with these keys. `claim` is the serial number of the encryption
    /// certificate to be.
    ///
    /// # Errors
    /// It is claimed or used already.
    pub(crate) async fn claim_activation_code(
        &mut self,
        device: &DeviceSerial,
        claim: &SerialNumber,
        keys: &[u8; 32],
    ) -> Result<(), StoreError> {
        self.exactly_one(
            sqlx::query(
                "UPDATE activation_codes SET claim = $2, claimed_by = $3
                 WHERE device = $1 AND claim IS NULL AND used_at IS NULL",
            )
            .bind(device.as_str())
            .bind(claim.to_string())
            .bind(&keys[..]),
            "activation code",
        )
        .await
    }

    /// The code has done its work.
    ///
    /// # Errors
    /// The claim was given back in the meantime.
    pub(crate) async fn spend_activation_code(
        &mut self,
        device: &DeviceSerial,
        claim: &SerialNumber,
    ) -> Result<(), StoreError> {
        self.exactly_one(
            sqlx::query(
                "UPDATE activation_codes SET used_at = $3
                 WHERE device = $1 AND claim = $2 AND used_at IS NULL",
            )
            .bind(device.as_str())
            .bind(claim.to_string())
            .bind(self.now.clone()),
            "enrolment claim",
        )
        .await
    }

    /// Gives up an enrolment: its code can be used, and its keys certified, again; `false` if it stands
    /// otherwise by now.
    pub(crate) async fn release_enrolment(
        &mut self,
        device: &DeviceSerial,
        claim: &str,
    ) -> Result<bool, StoreError> {
        let released = sqlx::query(
            "UPDATE activation_codes SET claim = NULL, claimed_by = NULL
             WHERE device = $1 AND claim = $2 AND used_at IS NULL",
        )
        .bind(device.as_str())
        .bind(claim)
        .execute(self.connection().await?)
        .await?;
        if released.rows_affected() == 0 {
            return Ok(false);
        }
        self.release_certificates(device).await?;
        Ok(true)
    }

    /// Enrolments that were claimed and are not finished, with their claims.
    pub(crate) async fn unfinished_enrolments(
        &mut self,
    ) -> Result<Vec<(DeviceSerial, String)>, StoreError> {
        let damaged = || StoreError::Damaged("activation code");
        sqlx::query(
            "SELECT device, claim FROM activation_codes
             WHERE claim IS NOT NULL AND used_at IS NULL",
        )
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(|row| {
            let device: String = row.try_get("device")?;
            let device = DeviceSerial::parse(&device).map_err(|_| damaged())?;
            Ok((device, row.try_get("claim")?))
        })
        .collect()
    }
}
