//! Certificates of terminals: claimed before they are signed, one current of each purpose.

use pki::{Certificate, SerialNumber};
use sqlx::Row as _;

use super::{Row, StoreError, Tx};
use crate::names::DeviceSerial;

/// What a terminal's certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Receives Ke.
    Encryption,
    /// TLS and receipts.
    Authentication,
}

impl Purpose {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Encryption => "ENCRYPTION",
            Self::Authentication => "AUTHENTICATION",
        }
    }
}

/// A serial number and a public key that shall be certified.
#[derive(Clone, Debug)]
pub(crate) struct KeyClaim {
    pub(crate) purpose: Purpose,
    pub(crate) serial: SerialNumber,
    pub(crate) key_sha256: [u8; 32],
}

/// A certificate in the registry.
#[derive(Clone, Debug)]
pub(crate) struct StoredCertificate {
    pub(crate) device: DeviceSerial,
    pub(crate) der: Vec<u8>,
    pub(crate) current: bool,
}

impl StoredCertificate {
    /// Parses it.
    ///
    /// # Errors
    /// It is none, or another device's.
    pub(crate) fn certificate(&self) -> Result<Certificate, StoreError> {
        let certificate =
            Certificate::from_der(&self.der).map_err(|_| StoreError::Damaged("certificate"))?;
        self.require_device_of(&certificate)?;
        Ok(certificate)
    }

    /// SHA-256 of the key in it. Of an encryption certificate: the recipient for whom keys of the device are meant.
    ///
    /// # Errors
    /// It is none, or another device's.
    pub(crate) fn key_sha256(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.certificate()?.public_key().fingerprint())
    }

    /// The CA's signature says whose a certificate is; the row may have been moved to another device.
    ///
    /// # Errors
    /// It was.
    pub(crate) fn require_device_of(&self, certificate: &Certificate) -> Result<(), StoreError> {
        if certificate.common_name().as_deref() == Some(self.device.as_str()) {
            Ok(())
        } else {
            Err(StoreError::Damaged("certificate"))
        }
    }
}

impl Tx {
    /// Claims a key and a serial number for a device; `false` if either is taken.
    pub(crate) async fn claim_certificate(
        &mut self,
        device: &DeviceSerial,
        claim: &KeyClaim,
    ) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO certificates (serial, device, purpose, key_sha256, state, created_at)
             VALUES ($1, $2, $3, $4, 'CLAIMED', $5) ON CONFLICT DO NOTHING",
        )
        .bind(claim.serial.to_string())
        .bind(device.as_str())
        .bind(claim.purpose.as_str())
        .bind(&claim.key_sha256[..])
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Gives up the claims of a device.
    pub(super) async fn release_certificates(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM certificates WHERE device = $1 AND state = 'CLAIMED'")
            .bind(device.as_str())
            .execute(self.connection().await?)
            .await?;
        Ok(())
    }

    /// Stores a certificate that was claimed, as the current one; the one before is superseded.
    pub(crate) async fn put_certificate(
        &mut self,
        device: &DeviceSerial,
        purpose: Purpose,
        certificate: &Certificate,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE certificates SET state = 'SUPERSEDED'
             WHERE device = $1 AND purpose = $2 AND state = 'CURRENT'",
        )
        .bind(device.as_str())
        .bind(purpose.as_str())
        .execute(self.connection().await?)
        .await?;
        let updated = sqlx::query(
            "UPDATE certificates SET state = 'CURRENT', der = $2
             WHERE serial = $1 AND state = 'CLAIMED'",
        )
        .bind(certificate.serial().to_string())
        .bind(certificate.der())
        .execute(self.connection().await?)
        .await?;
        if updated.rows_affected() != 1 {
            return Err(StoreError::Damaged("certificate claim"));
        }
        Ok(())
    }

    /// The current certificate of a device.
    pub(crate) async fn current_certificate(
        &mut self,
        device: &DeviceSerial,
        purpose: Purpose,
    ) -> Result<Option<StoredCertificate>, StoreError> {
        sqlx::query(
            "SELECT * FROM certificates WHERE device = $1 AND purpose = $2 AND state = 'CURRENT'",
        )
        .bind(device.as_str())
        .bind(purpose.as_str())
        .fetch_optional(self.connection().await?)
        .await?
        .as_ref()
        .map(read)
        .transpose()
    }

    /// Another device that has, or had, a public key.
    pub(crate) async fn other_device_with_public_key(
        &mut self,
        device: &DeviceSerial,
        claim: &KeyClaim,
    ) -> Result<Option<String>, StoreError> {
        let other = sqlx::query_scalar(
            "SELECT device FROM certificates WHERE key_sha256 = $1 AND device <> $2",
        );
        let other = other
            .bind(&claim.key_sha256[..])
            .bind(device.as_str())
            .fetch_optional(self.connection().await?)
            .await?;
        Ok(other)
    }

    /// The current certificates of devices, for a purpose.
    pub(crate) async fn current_certificates(
        &mut self,
        devices: &[DeviceSerial],
        purpose: Purpose,
    ) -> Result<Vec<StoredCertificate>, StoreError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT * FROM certificates WHERE device IN {} AND purpose = '{}' AND state = 'CURRENT'",
            self.tuples(1, devices.len()),
            purpose.as_str()
        );
        self.about(sql, devices).await?.iter().map(read).collect()
    }

    /// A certificate that this host issued for a purpose, byte for byte.
    pub(crate) async fn issued_certificate(
        &mut self,
        certificate: &Certificate,
        purpose: Purpose,
    ) -> Result<Option<StoredCertificate>, StoreError> {
        sqlx::query("SELECT * FROM certificates WHERE serial = $1 AND purpose = $2 AND der = $3")
            .bind(certificate.serial().to_string())
            .bind(purpose.as_str())
            .bind(certificate.der())
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }
}

fn read(row: &Row) -> Result<StoredCertificate, StoreError> {
    let damaged = || StoreError::Damaged("certificate");
    let device: String = row.try_get("device")?;
    let state: String = row.try_get("state")?;
    Ok(StoredCertificate {
        device: DeviceSerial::parse(&device).map_err(|_| damaged())?,
        der: row.try_get("der")?,
        current: state == "CURRENT",
    })
}
