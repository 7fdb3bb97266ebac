//! Who is calling, and the exchange of credentials. The checks here are made before every call of
//! a terminal, not only before the first.

use std::sync::Arc;

use kdh_proto::Reason;
use pki::{Certificate, CredentialError, Role, VerifiedCredential, verify_credential};
use serde_json::json;
use tr34::{KdhCredentialToken, KrdCredentialToken};

use crate::{
    Host, HostError,
    credentials::Candidate,
    error::refused,
    names::DeviceSerial,
    state::{DeviceEvent, DeviceState},
    store::{Actor, AuditEntry, Purpose, Standing, StoreError, StoredCertificate},
};

/// A device that proved its identity by TLS, with a certificate that is good now.
#[derive(Debug)]
pub(crate) struct AuthenticatedDevice {
    serial: DeviceSerial,
    credential: Arc<VerifiedCredential>,
    /// As the registry had it when the device was identified.
    encryption: Option<StoredCertificate>,
}

impl AuthenticatedDevice {
    pub(crate) const fn serial(&self) -> &DeviceSerial {
        &self.serial
    }

    /// The credential whose key signs the device's receipts.
    pub(crate) fn credential(&self) -> &VerifiedCredential {
        &self.credential
    }
}

/// Identifies a caller by its TLS certificate: issued by this host to this device, the current one,
/// good now, and the device not stopped.
pub(crate) async fn authenticate(
    host: &Host,
    peer: Option<&[u8]>,
) -> Result<AuthenticatedDevice, HostError> {
    let anonymous = || refused(Reason::IdentityMismatch, "no client certificate");
    // TLS verified it; what does not parse here is no certificate of this system.
    let candidate = peer.map(|der| host.credentials().candidate(der, Role::KrdTls));
    let candidate = candidate.and_then(Result::ok).ok_or_else(anonymous)?;
    let certificate = candidate.certificate();
    let mut tx = host.store().ask(host.now()).await?;
    let caller = tx.caller(certificate).await?.ok_or_else(|| {
        refused(
            Reason::CredentialRejected,
            format!("{} is not in the registry", certificate.subject()),
        )
    })?;
    // By the certificate: whoever has the one before must not use up the calls of this one.
    host.limits().count_call(certificate.serial().to_string())?;
    let serial = caller.certificate.device.clone();
    require_running(&serial, caller.state)?;
    // A changed revocation list takes a connection of its own.
    drop(tx);
    let credential = verify_current(host, &caller.certificate, candidate).await?;
    Ok(AuthenticatedDevice {
        serial,
        credential,
        encryption: caller.encryption,
    })
}

/// Verifies a certificate of the registry as it stands now: current, in its validity, not on the
/// revocation list, right role.
async fn verify_current(
    host: &Host,
    stored: &StoredCertificate,
    candidate: Candidate,
) -> Result<Arc<VerifiedCredential>, HostError> {
    let rejected = |cause: String| {
        refused(
            Reason::CredentialRejected,
            format!("{}: {cause}", stored.device),
        )
    };
    stored.require_device_of(candidate.certificate())?;
    if !stored.current {
        return Err(rejected("the certificate was superseded".to_owned()));
    }
    let crl = host.crl_ca_krd().await?;
    host.credentials()
        .verify(candidate, &crl, host.now())
        .map_err(|error: CredentialError| rejected(error.to_string()))
}

/// The device's encryption credential, verified now. Nothing is sent to a key without this proof.
pub(crate) async fn encryption_credential(
    host: &Host,
    device: &AuthenticatedDevice,
) -> Result<Arc<VerifiedCredential>, HostError> {
    let stored = device.encryption.as_ref();
    let stored =
        stored.ok_or_else(|| refused(Reason::CredentialRejected, "no current certificate"))?;
    let candidate = host.credentials().candidate(&stored.der, Role::Krd);
    let candidate = candidate.map_err(|_| StoreError::Damaged("certificate"))?;
    verify_current(host, stored, candidate).await
}

/// Verifies both credentials of a device again, as they stand now.
pub(crate) async fn recheck(
    host: &Host,
    device: &AuthenticatedDevice,
    encryption: &VerifiedCredential,
) -> Result<(), HostError> {
    let crl = host.crl_ca_krd().await?;
    let serial = device.serial();
    for credential in [encryption, device.credential()] {
        credential
            .require_good(&crl, host.now())
            .map_err(|error| refused(Reason::CredentialRejected, format!("{serial}: {error}")))?;
    }
    Ok(())
}

/// Whether both credentials are still the ones of the registry, byte for byte.
pub(crate) fn require_current(
    standing: &Standing,
    device: &AuthenticatedDevice,
    encryption: &VerifiedCredential,
) -> Result<(), HostError> {
    let same = |stored: &Option<Vec<u8>>, certificate: &Certificate| {
        stored.as_deref() == Some(certificate.der())
    };
    if same(&standing.encryption, encryption.certificate())
        && same(&standing.authentication, device.credential().certificate())
    {
        return Ok(());
    }
    Err(refused(
        Reason::CredentialRejected,
        format!("{}: the certificate was superseded", device.serial()),
    ))
}

/// A device's state must not be one that stops it.
pub(crate) fn require_running(serial: &DeviceSerial, state: DeviceState) -> Result<(), HostError> {
    let reason = match state {
        DeviceState::Registered | DeviceState::Enrolled | DeviceState::Bound => return Ok(()),
        DeviceState::Quarantined => Reason::DeviceQuarantined,
        DeviceState::Suspended => Reason::DeviceSuspended,
        DeviceState::Revoked => Reason::DeviceRevoked,
    };
    Err(refused(reason, format!("{serial} is {}", state.as_str())))
}

/// A device must not be stopped, and must be bound to this host.
pub(crate) fn require_bound(
    serial: &DeviceSerial,
    standing: Option<Standing>,
) -> Result<Standing, HostError> {
    let standing = standing.ok_or_else(|| refused(Reason::CredentialRejected, "unknown device"))?;
    require_running(serial, standing.state)?;
    if standing.state == DeviceState::Bound {
        return Ok(standing);
    }
    Err(refused(
        Reason::NotBound,
        format!("{serial} is {}", standing.state.as_str()),
    ))
}

/// Checks a terminal's credential and gives it the host's: `CT_KRD` for `CT_KDH`.
pub(crate) async fn bind(
    host: &Host,
    device: &AuthenticatedDevice,
    ct_krd: &[u8],
) -> Result<Vec<u8>, HostError> {
    let outcome = exchange(host, device, ct_krd).await;
    let serial = device.serial();
    let mut tx = host.store().write(host.now()).await?;
    let actor = Actor::Device(serial.clone());
    let mut entry = AuditEntry {
        actor: &actor,
        action: "device.bound",
        device: Some(serial),
        outcome: "ok",
        detail: json!({}),
    };
    match &outcome {
        Ok((credential, _)) => {
            let stored = tx
                .device(serial)
                .await?
                .ok_or_else(|| HostError::Internal("the device is gone".to_owned()))?;
            // Stopped by an operator since it was looked at: the next check says so properly.
            let state = stored.state.after(DeviceEvent::Bound, stored.state_before);
            let Some(state) = state else {
                require_running(serial, stored.state)?;
                return Err(refused(
                    Reason::NotBound,
                    "the device's state does not allow it",
                ));
            };
            tx.set_device_state(&stored, state).await?;
            let certificate = credential.certificate().serial().to_string();
            entry.detail = json!({"certificate": certificate});
        }
        Err(error) => {
            entry.action = "device.bind";
            entry.outcome = error.reason().as_str();
        }
    }
    tx.record(entry).await?;
    tx.commit().await?;
    outcome.map(|(_, ct_kdh)| ct_kdh)
}

async fn exchange(
    host: &Host,
    device: &AuthenticatedDevice,
    ct_krd: &[u8],
) -> Result<(VerifiedCredential, Vec<u8>), HostError> {
    let token = KrdCredentialToken::parse(ct_krd)
        .map_err(|error| refused(Reason::TokenMalformed, error))?;
    let rejected = |cause: String| refused(Reason::CredentialRejected, cause);
    let certificate =
        Certificate::from_der(token.certificate()).map_err(|error| rejected(error.to_string()))?;
    // Path and role before identity: whose it is says nothing until it is known to be genuine.
    let crl = host.crl_ca_krd().await?;
    let issuer = &host.config().certificates.ca_krd;
    let credential = verify_credential(&certificate, issuer, Role::Krd, &crl, host.now())
        .map_err(|error| rejected(error.to_string()))?;
    let stored = host
        .store()
        .read(host.now())
        .await?
        .issued_certificate(&certificate, Purpose::Encryption)
        .await?
        .ok_or_else(|| rejected("the certificate is not in the registry".to_owned()))?;
    if stored.device != *device.serial() {
        return Err(refused(
            Reason::IdentityMismatch,
            format!(
                "{} sent the certificate of {}",
                device.serial(),
                stored.device
            ),
        ));
    }
    if !stored.current {
        return Err(rejected("the certificate was superseded".to_owned()));
    }
    let crl = host.crl_ca_kdh().await?;
    let kdh = &host.config().certificates.kdh;
    let ct_kdh = KdhCredentialToken::new(kdh.der(), crl.crl().der())
        .map_err(|error| HostError::Internal(error.to_string()))?;
    Ok((credential, ct_kdh.to_der()))
}
