//! What has to hold at every step of a delivery, asked as one question.

use pki::Certificate;
use sqlx::Row as _;
use tr34::IssuerAndSerial;

use super::{
    Assignment, KeyPlace, Purpose, Row, StoreError, StoredCertificate, Tx, batch::Answer, flag,
    kdh_id, keys::read_assignment,
};
use crate::{
    names::{DeviceSerial, Slot},
    state::DeviceState,
};

/// A device as the registry has it now.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) state: DeviceState,
    /// To which KDH it is bound, by its own word.
    pub(crate) bound_kdh: Option<IssuerAndSerial>,
    /// Its current certificates, DER.
    pub(crate) encryption: Option<Vec<u8>>,
    pub(crate) authentication: Option<Vec<u8>>,
    /// The newest of each slot that was asked for.
    pub(crate) assignments: Vec<Assignment>,
    /// The same, where the host cannot have written it.
    pub(crate) unreadable: Vec<KeyPlace>,
}

/// What was done in one step with the question how the device stands. Whoever finds that it should not
/// have been done drops the transaction.
#[derive(Debug)]
pub(crate) struct Tried<T> {
    pub(crate) standing: Option<Standing>,
    pub(crate) outcome: T,
}

/// Who presented a certificate.
#[derive(Debug)]
pub(crate) struct Caller {
    /// What was presented.
    pub(crate) certificate: StoredCertificate,
    pub(crate) state: DeviceState,
    /// The device's model.
    pub(crate) model: String,
    /// The device's encryption certificate, if it has one.
    pub(crate) encryption: Option<StoredCertificate>,
}

impl Tx {
    /// A device, with what it shall hold in one slot or in all.
    pub(crate) async fn standing(
        &mut self,
        device: &DeviceSerial,
        slot: Option<&Slot>,
    ) -> Result<Option<Standing>, StoreError> {
        self.put_off_standing(device, slot);
        let [standing] = self.answers().await?;
        Standing::read(&standing)
    }

    /// The question of [`Self::standing`], to be asked together with others.
    pub(super) fn put_off_standing(&mut self, device: &DeviceSerial, slot: Option<&Slot>) {
        self.later(
            "SELECT s.state AS device_state, s.bound_kdh, e.der AS encryption, u.der AS authentication,
                 a.*,
                 s.keys_fate IS NULL AND EXISTS (SELECT 1 FROM deliveries d WHERE d.device = a.device AND d.slot = a.slot
                     AND d.version = a.version AND d.state = 'CONFIRMED') AS confirmed,
                 a.recipient IS NOT DISTINCT FROM e.key_sha256 AS meant_for_present_key
             FROM devices s
             LEFT JOIN certificates e ON e.device = s.serial_number
                 AND e.purpose = 'ENCRYPTION' AND e.state = 'CURRENT'
             LEFT JOIN certificates u ON u.device = s.serial_number
                 AND u.purpose = 'AUTHENTICATION' AND u.state = 'CURRENT'
             LEFT JOIN device_keys a ON a.device = s.serial_number AND ($2 = '' OR a.slot = $2)
                 AND a.version = (SELECT MAX(version) FROM device_keys b WHERE b.device = a.device
                     AND b.slot = a.slot AND b.state IN ('PENDING', 'ACTIVE'))
             WHERE s.serial_number = $1
             ORDER BY a.slot",
        )
        .bind(device.as_str())
        .bind(slot.map_or("", Slot::as_str));
    }

    /// The device to which this host issued a certificate for authentication, byte for byte.
    pub(crate) async fn caller(
        &mut self,
        certificate: &Certificate,
    ) -> Result<Option<Caller>, StoreError> {
        self.later(
            "SELECT c.device, c.der, c.state = 'CURRENT' AS current, s.state AS device_state,
                 s.model, e.der AS encryption
             FROM certificates c JOIN devices s ON s.serial_number = c.device
             LEFT JOIN certificates e ON e.device = c.device
                 AND e.purpose = 'ENCRYPTION' AND e.state = 'CURRENT'
             WHERE c.serial = $1 AND c.purpose = $2 AND c.der = $3",
        )
        .bind(certificate.serial().to_string())
        .bind(Purpose::Authentication.as_str())
        .bind(certificate.der());
        let [answer] = self.answers().await?;
        let Some(row) = answer.rows.first() else {
            return Ok(None);
        };
        let device: &str = row.try_get("device")?;
        let device = DeviceSerial::parse(device).map_err(|_| StoreError::Damaged("certificate"))?;
        let encryption: Option<Vec<u8>> = row.try_get("encryption")?;
        Ok(Some(Caller {
            certificate: StoredCertificate {
                device: device.clone(),
                der: row.try_get("der")?,
                current: flag(row, "current")?,
            },
            state: state(row)?,
            model: row.try_get("model")?,
            encryption: encryption.map(|der| StoredCertificate {
                device,
                der,
                current: true,
            }),
        }))
    }
}

impl Standing {
    /// SHA-256 of the encryption key that this device, whose standing it is, has now, if it has one.
    pub(crate) fn recipient(&self, device: &DeviceSerial) -> Result<Option<[u8; 32]>, StoreError> {
        let current = self.encryption.as_ref().map(|der| StoredCertificate {
            device: device.clone(),
            der: der.clone(),
            current: true,
        });
        current
            .as_ref()
            .map(StoredCertificate::key_sha256)
            .transpose()
    }

    pub(super) fn read(answer: &Answer) -> Result<Option<Self>, StoreError> {
        let Some(first) = answer.rows.first() else {
            return Ok(None);
        };
        let mut standing = Self {
            state: state(first)?,
            bound_kdh: kdh_id(first, "bound_kdh")?,
            encryption: first.try_get("encryption")?,
            authentication: first.try_get("authentication")?,
            assignments: Vec::new(),
            unreadable: Vec::new(),
        };
        for row in &answer.rows {
            let Some(assignment) = read_assignment(row)? else {
                continue;
            };
            match assignment {
                Ok(assignment) => standing.assignments.push(assignment),
                Err(row) => standing.unreadable.push(row.place),
            }
        }
        Ok(Some(standing))
    }
}

fn state(row: &Row) -> Result<DeviceState, StoreError> {
    DeviceState::parse(row.try_get("device_state")?).ok_or(StoreError::Damaged("device"))
}
