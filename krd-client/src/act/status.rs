use hsm::Kcv;
use pki::{Certificate, Crl, Signer as _, rfc3339};
use serde::Serialize;
use tr34::Kbh;

use crate::{
    BindingState, Kdh, KrdError, Terminal,
    record::{HeldKey, KcvRecord, SlotRecord},
    terminal::{damaged, if_found},
};

/// What a terminal holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Who it is, by its configuration.
    pub serial_number: String,
    /// Fingerprint of its RSA key, if it has one.
    pub encryption_key_fingerprint: Option<String>,
    /// Whether that key may still sign.
    pub encryption_key_may_sign: Option<bool>,
    /// Fingerprint of its P-256 key, if it has one.
    pub authentication_key_fingerprint: Option<String>,
    /// The RSA key's certificate, once enrolled.
    pub encryption_certificate: Option<CertificateStatus>,
    /// The P-256 key's certificate, once enrolled.
    pub authentication_certificate: Option<CertificateStatus>,
    /// Where it stands.
    pub binding: BindingName,
    /// The KDH that it is bound to.
    pub bound_kdh: Option<BoundKdhStatus>,
    /// How it writes and reads tokens, by its configuration.
    pub profile: &'static str,
    /// The last revocation list that it has seen.
    pub crl: Option<KnownCrlStatus>,
    /// Only one-pass key tokens that were signed later are taken.
    pub last_signing_time: Option<String>,
    /// The unbind and rebind tokens that it has obeyed, and the host has still to be told so: SHA-256, in
    /// hexadecimal digits.
    pub pending_acknowledgements: Vec<String>,
    /// Its slots, by name.
    pub slots: Vec<SlotStatus>,
}

/// Where a terminal stands: [`BindingState`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingName {
    /// Bound to nobody.
    Unbound,
    /// Bound.
    Bound,
    /// Cut off while it was unbound: the next command goes on with that.
    Unbinding,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CertificateStatus {
    /// Subject.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Last moment of its validity.
    pub not_after: String,
}

impl CertificateStatus {
    pub(crate) fn of(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.serial().to_string(),
            not_after: rfc3339(certificate.not_after()),
        }
    }
}

/// The KDH that a terminal is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BoundKdhStatus {
    /// Its certificate.
    #[serde(flatten)]
    pub certificate: CertificateStatus,
    /// Fingerprint of its key.
    pub fingerprint: String,
}

impl BoundKdhStatus {
    fn of(kdh: &Kdh) -> Self {
        let certificate = kdh.certificate();
        Self {
            certificate: CertificateStatus::of(certificate),
            fingerprint: hex::encode(certificate.public_key().fingerprint()),
        }
    }
}

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KnownCrlStatus {
    /// Its number; no list with a lower one is accepted any more.
    pub number: u64,
    /// Until when it is good.
    pub next_update: String,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SlotStatus {
    /// The slot.
    pub slot: String,
    /// Version of its key.
    pub key_version: Option<u32>,
    /// Header of its key.
    pub header: Option<String>,
    /// Of an initial key of DUKPT whose header says whose it is: initial key id or key serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_key_id: Option<String>,
    /// Check value, computed by the token now.
    pub kcv: Option<String>,
    /// Whether the host has confirmed it.
    pub confirmed: bool,
    /// Whether a receipt has still to reach the host.
    pub receipt_pending: bool,
    /// `held`, `empty`, `missing` (named by the record and not in the token), or `damaged` (with
    /// another check value than when it was loaded).
    pub state: &'static str,
}

impl Terminal {
    /// What the terminal holds, from its token alone.
    ///
    /// # Errors
    /// A record does not read; the token does not answer.
    pub fn status(&self) -> Result<Status, KrdError> {
        let encryption_key = if_found(self.encryption_key())?;
        let authentication_key = if_found(self.authentication_key())?;
        let credentials = match self
            .memory()
            .identity()?
            .and_then(|known| known.credentials)
        {
            Some(record) => Some(record.parse()?),
            None => None,
        };
        let certificate = |of: fn(&crate::Credentials) -> &Certificate| {
            credentials
                .as_ref()
                .map(|credentials| CertificateStatus::of(of(credentials)))
        };
        let slots = self.keyring().slots()?;
        let remembered = self.memory().binding()?;
        let last_signing_time = self.memory().last_signing_time()?;
        Ok(Status {
            serial_number: self.config.serial.to_string(),
            encryption_key_fingerprint: encryption_key
                .as_ref()
                .map(|key| hex::encode(key.public_key().fingerprint())),
            encryption_key_may_sign: encryption_key.map(|key| key.may_sign()),
            authentication_key_fingerprint: authentication_key
                .map(|key| hex::encode(key.public_key().fingerprint())),
            encryption_certificate: certificate(|credentials| &credentials.encryption),
            authentication_certificate: certificate(|credentials| &credentials.authentication),
            binding: match remembered.binding.state {
                BindingState::Unbound => BindingName::Unbound,
                BindingState::Bound(_) => BindingName::Bound,
                BindingState::Unbinding { .. } => BindingName::Unbinding,
            },
            bound_kdh: remembered.binding.kdh().ok().map(BoundKdhStatus::of),
            profile: self.config.profile.name(),
            crl: self.known_crl()?,
            last_signing_time: last_signing_time.map(|at| at.to_string()),
            pending_acknowledgements: remembered
                .acknowledgements
                .into_iter()
                .map(|pending| pending.token_sha256.into())
                .collect(),
            slots: slots
                .into_iter()
                .map(|record| self.slot_status(record))
                .collect::<Result<_, _>>()?,
        })
    }

    fn known_crl(&self) -> Result<Option<KnownCrlStatus>, KrdError> {
        let Some(record) = self.memory().crl()? else {
            return Ok(None);
        };
        let crl = Crl::from_der(&record.crl.0).map_err(damaged)?;
        Ok(Some(KnownCrlStatus {
            number: record.number,
            next_update: rfc3339(crl.next_update()),
        }))
    }

    fn slot_status(&self, record: SlotRecord) -> Result<SlotStatus, KrdError> {
        let kcv = match &record.held {
            Some(held) => self.keyring().kcv(&record.slot, held)?,
            None => None,
        };
        Ok(SlotStatus {
            state: state(record.held.as_ref(), kcv.as_ref()),
            slot: record.slot.to_string(),
            key_version: record.held.as_ref().map(|held| held.key_version),
            header: record.held.as_ref().map(|held| held.header.clone()),
            initial_key_id: record.held.as_ref().and_then(initial_key_id),
            kcv: kcv.map(|kcv| kcv.to_string()),
            confirmed: record.held.is_some_and(|held| held.confirmed),
            receipt_pending: record.report.is_some(),
        })
    }
}

fn initial_key_id(held: &HeldKey) -> Option<String> {
    let header: Kbh = held.header.parse().ok()?;
    header.initial_key().map(|block| block.data().to_owned())
}

fn state(held: Option<&HeldKey>, kcv: Option<&Kcv>) -> &'static str {
    match (held, kcv) {
        (None, _) => "empty",
        (Some(_), None) => "missing",
        (Some(held), Some(kcv)) if held.kcv == KcvRecord::from(kcv) => "held",
        (Some(_), Some(_)) => "damaged",
    }
}
