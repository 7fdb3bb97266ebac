//! Who is calling, and the exchange of credentials. The checks here are made before every call of
//! a terminal, not only before the first.

use std::sync::Arc;

use kdh_proto::Reason;
use pki::{Certificate, CredentialError, Role, VerifiedCredential, VerifiedCrl, verify_credential};
use serde_json::json;
use tr34::{IssuerAndSerial, KdhCredentialToken, KrdCredentialToken, Profile};

use crate::{
    Host, HostError,
    administration::require_device,
    credentials::Candidate,
    error::refused,
    kdh::Kdh,
    mirror,
    names::DeviceSerial,
    state::DeviceState,
    store::{Actor, AuditEntry, Device, Purpose, Standing, StoreError, StoredCertificate},
};

/// A device whose TLS certificate is good now: it has proved its identity by it, or an operator has named it.
#[derive(Debug)]
pub(crate) struct AuthenticatedDevice {
    serial: DeviceSerial,
    credential: Arc<VerifiedCredential>,
    /// In which its tokens are written, both ways.
    profile: Profile,
    /// As the registry had it when the device was identified.
    encryption: Option<StoredCertificate>,
}

impl AuthenticatedDevice {
    pub(crate) const fn serial(&self) -> &DeviceSerial {
        &self.serial
    }

    /// In which form of TR-34 the device speaks.
    pub(crate) const fn profile(&self) -> Profile {
        self.profile
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
    let credential = verify_current(
        host,
        &caller.certificate,
        Purpose::Authentication,
        candidate,
    )
    .await?;
    Ok(AuthenticatedDevice {
        serial,
        credential,
        profile: host.config().profiles.of(&caller.model),
        encryption: caller.encryption,
    })
}

/// A device that an operator names, as the registry has it: with certificates, good now, and not stopped.
pub(crate) async fn of_registry(
    host: &Host,
    serial: &DeviceSerial,
) -> Result<AuthenticatedDevice, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let device = require_device(&mut tx, serial).await?;
    let authentication = tx
        .current_certificate(serial, Purpose::Authentication)
        .await?;
    let encryption = tx.current_certificate(serial, Purpose::Encryption).await?;
    drop(tx);
    require_running(serial, device.state)?;
    let none = || {
        let cause = format!("{serial} has not enrolled");
        refused(Reason::WrongState, cause)
    };
    let stored = authentication.ok_or_else(none)?;
    let candidate = host.credentials().candidate(&stored.der, Role::KrdTls);
    let candidate = candidate.map_err(|_| StoreError::Damaged("certificate"))?;
    Ok(AuthenticatedDevice {
        serial: serial.clone(),
        credential: verify_current(host, &stored, Purpose::Authentication, candidate).await?,
        profile: host.config().profiles.of(&device.model),
        encryption,
    })
}

/// Verifies a certificate of the registry as it stands now: current, also by the audit trail, in its validity, not on
/// the revocation list, right role.
async fn verify_current(
    host: &Host,
    stored: &StoredCertificate,
    purpose: Purpose,
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
    require_enrolled(host, &stored.device, purpose, candidate.certificate())?;
    let crl = host.crl_ca_krd().await?;
    host.credentials()
        .verify(candidate, &crl, host.now())
        .map_err(|error: CredentialError| rejected(error.to_string()))
}

/// Nobody but the device itself, by enrolling, says which of its certificates is the current one: whoever holds its
/// earlier key gains nothing by an edited row.
///
/// # Errors
/// It has enrolled last with another key, or was revoked, by the audit trail.
pub(crate) fn require_enrolled(
    host: &Host,
    device: &DeviceSerial,
    purpose: Purpose,
    certificate: &Certificate,
) -> Result<(), HostError> {
    require_not_revoked(host, device)?;
    if has_enrolled_with(host, device, purpose, certificate) {
        return Ok(());
    }
    let cause = format!(
        "{device}: the certificate is in the registry, and not the one that the audit trail says it has enrolled with: \
         its row was changed behind the host's back"
    );
    tracing::error!("{cause}");
    Err(refused(Reason::CredentialRejected, cause))
}

/// Whether a device has enrolled last with a certificate's key, by the audit trail.
fn has_enrolled_with(
    host: &Host,
    device: &DeviceSerial,
    purpose: Purpose,
    certificate: &Certificate,
) -> bool {
    let key = certificate.public_key().fingerprint();
    host.store().trail_of(device).has_key(purpose, &key)
}

/// Nobody takes a revocation back, by an edited row as little as otherwise.
fn require_not_revoked(host: &Host, device: &DeviceSerial) -> Result<(), HostError> {
    if !host.store().trail_of(device).is_revoked() {
        return Ok(());
    }
    let cause = format!(
        "{device}: the audit trail says that it was revoked, and the registry does not: its row was changed behind the \
         host's back"
    );
    tracing::error!("{cause}");
    Err(refused(Reason::DeviceRevoked, cause))
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
    verify_current(host, stored, Purpose::Encryption, candidate).await
}

/// Verifies both credentials of a device again, as they stand now: the device may have enrolled anew meanwhile.
pub(crate) async fn recheck(
    host: &Host,
    device: &AuthenticatedDevice,
    encryption: &VerifiedCredential,
) -> Result<(), HostError> {
    let crl = host.crl_ca_krd().await?;
    let serial = device.serial();
    require_not_revoked(host, serial)?;
    for (purpose, credential) in [
        (Purpose::Encryption, encryption),
        (Purpose::Authentication, device.credential()),
    ] {
        if !has_enrolled_with(host, serial, purpose, credential.certificate()) {
            return Err(superseded(serial));
        }
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
    Err(superseded(device.serial()))
}

fn superseded(serial: &DeviceSerial) -> HostError {
    let cause = format!("{serial}: the certificate was superseded");
    refused(Reason::CredentialRejected, cause)
}

/// A device's state must not be one that stops it.
pub(crate) fn require_running(serial: &DeviceSerial, state: DeviceState) -> Result<(), HostError> {
    let reason = match state {
        DeviceState::Registered
        | DeviceState::Enrolled
        | DeviceState::Bound
        | DeviceState::Unbound
        | DeviceState::Rebound => return Ok(()),
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
    require_state(serial, standing, &[DeviceState::Bound])
}

/// A device must not be stopped, and must be bound to this host, or have been told to let go: whether it
/// did is not known.
pub(crate) fn require_maybe_bound(
    serial: &DeviceSerial,
    standing: Option<Standing>,
) -> Result<Standing, HostError> {
    use DeviceState::{Bound, Rebound, Unbound};
    require_state(serial, standing, &[Bound, Unbound, Rebound])
}

/// The KDH of this host to which a device is bound.
pub(crate) fn kdh_of<'h>(
    host: &'h Host,
    serial: &DeviceSerial,
    standing: &Standing,
) -> Result<&'h Kdh, HostError> {
    let kdhs = host.keys().kdhs();
    let kdh = standing.bound_kdh.as_ref().and_then(|id| kdhs.find(id));
    kdh.ok_or_else(|| {
        let cause = format!("{serial} is bound to a KDH that this host is not configured for");
        refused(Reason::NotBound, cause)
    })
}

fn require_state(
    serial: &DeviceSerial,
    standing: Option<Standing>,
    allowed: &[DeviceState],
) -> Result<Standing, HostError> {
    let standing = standing.ok_or_else(|| refused(Reason::CredentialRejected, "unknown device"))?;
    require_running(serial, standing.state)?;
    if allowed.contains(&standing.state) {
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
    let mut before = None;
    match &outcome {
        Ok(exchanged) => {
            let stored = tx
                .device(serial)
                .await?
                .ok_or_else(|| HostError::Internal("the device is gone".to_owned()))?;
            // It may have been stopped by an operator since it was looked at, or have enrolled anew.
            require_running(serial, stored.state)?;
            let standing = tx.standing(serial, None).await?;
            let standing =
                standing.ok_or_else(|| HostError::Internal("the device is gone".to_owned()))?;
            require_current(&standing, device, &exchanged.credential)?;
            let mut detail = if binds(&stored, &exchanged.kdh) {
                mirror::bind(&mut tx, &stored, &exchanged.kdh).await?
            } else {
                entry.action = "device.credential-given";
                json!({})
            };
            let certificate = exchanged.credential.certificate();
            detail["certificate"] = certificate.serial().to_string().into();
            detail["kdh"] = hex::encode_upper(exchanged.kdh.serial_bytes()).into();
            entry.detail = detail;
            before = Some(stored);
        }
        Err(error) => {
            entry.action = "device.bind";
            entry.outcome = error.reason().as_str();
        }
    }
    tx.record(entry).await?;
    if let Some(before) = before {
        mirror::record_retirement(host, &mut tx, &before).await?;
    }
    tx.commit().await?;
    outcome.map(|exchanged| exchanged.ct_kdh)
}

/// The credentials of both sides.
struct Exchanged {
    /// The terminal's.
    credential: VerifiedCredential,
    kdh: IssuerAndSerial,
    ct_kdh: Vec<u8>,
}

/// A KDH, and the list of its CA that goes with its credential.
struct Given<'h> {
    kdh: &'h Kdh,
    crl: Arc<VerifiedCrl>,
}

/// The KDH whose credential a device is given: its own as long as that is good, since it takes no other by
/// this way and is handed over with a rebind token. The present one otherwise, at least for the list.
async fn kdh_to_give<'h>(host: &'h Host, serial: &DeviceSerial) -> Result<Given<'h>, HostError> {
    let kdhs = host.keys().kdhs();
    let stored = host.store().read(host.now()).await?.device(serial).await?;
    let bound = stored.and_then(|device| kdhs.find(device.bound_kdh.as_ref()?));
    if let Some(kdh) = bound {
        match host.crl_ca_kdh(kdh).await {
            Ok(crl) => return Ok(Given { kdh, crl }),
            // It was revoked, or has expired.
            Err(HostError::Refused { cause, .. }) => tracing::info!(%serial, cause, "lost KDH"),
            Err(error) => return Err(error),
        }
    }
    let kdh = &kdhs.present;
    let crl = host.crl_ca_kdh(kdh).await?;
    Ok(Given { kdh, crl })
}

/// Whether a device that is given the credential of this KDH is bound to it then. One that is bound to
/// another one takes nothing but the list.
fn binds(device: &Device, kdh: &IssuerAndSerial) -> bool {
    device.state != DeviceState::Bound || device.bound_kdh.as_ref() == Some(kdh)
}

async fn exchange(
    host: &Host,
    device: &AuthenticatedDevice,
    ct_krd: &[u8],
) -> Result<Exchanged, HostError> {
    let profile = device.profile();
    let token = KrdCredentialToken::parse(profile, ct_krd)
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
    require_enrolled(host, device.serial(), Purpose::Encryption, &certificate)?;
    let Given { kdh, crl } = kdh_to_give(host, device.serial()).await?;
    let ct_kdh = KdhCredentialToken::new(kdh.certificate.der(), crl.crl().der())
        .map_err(|error| HostError::Internal(error.to_string()))?;
    Ok(Exchanged {
        credential,
        kdh: kdh.id.clone(),
        ct_kdh: ct_kdh.to_der(profile),
    })
}
