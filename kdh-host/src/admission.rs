//! Devices that another host has enrolled. A rebind token leads a terminal from one host to another; there it is
//! a stranger until its certificates are in the registry.

use kdh_proto::{Reason, v1::DeviceExport};
use pki::{Certificate, PublicKeyKind, Role, VerifiedCredential, verify_credential};
use serde_json::json;

use crate::{
    Host, HostError,
    administration::{Operator, require_device},
    binding,
    error::refused,
    names::{DeviceSerial, Model},
    rollout,
    state::DeviceEvent,
    store::{AuditEntry, Device, KeyClaim, Purpose, Tx},
};

/// What another host has to know of a device.
///
/// # Errors
/// The device is stopped, or has no certificates, or others than it has enrolled with.
pub(crate) async fn export(host: &Host, serial: &str) -> Result<DeviceExport, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let mut tx = host.store().read(host.now()).await?;
    let device = require_device(&mut tx, &serial).await?;
    let encryption = tx.current_certificate(&serial, Purpose::Encryption).await?;
    let authentication = tx
        .current_certificate(&serial, Purpose::Authentication)
        .await?;
    let running = binding::require_running(&serial, device.state).is_ok();
    let (true, Some(encryption), Some(authentication)) = (running, encryption, authentication)
    else {
        let state = device.state.as_str();
        let cause = format!("{serial} is {state}: no other host can admit it");
        return Err(refused(Reason::WrongState, cause));
    };
    let (encryption, authentication) = (encryption.certificate()?, authentication.certificate()?);
    binding::require_enrolled(host, &serial, Purpose::Encryption, &encryption)?;
    binding::require_enrolled(host, &serial, Purpose::Authentication, &authentication)?;
    Ok(DeviceExport {
        serial_number: serial.to_string(),
        model: device.model,
        encryption_certificate: encryption.der().to_vec(),
        authentication_certificate: authentication.der().to_vec(),
    })
}

/// Takes a device into the registry as if it had enrolled here.
///
/// # Errors
/// A certificate is not good now, is another device's, or something of it is known here already.
pub(crate) async fn admit(
    host: &Host,
    operator: &Operator,
    device: &DeviceExport,
) -> Result<Device, HostError> {
    let serial = DeviceSerial::parse(&device.serial_number)?;
    let model = Model::parse(&device.model)?;
    let (encryption, authentication) = (Purpose::Encryption, Purpose::Authentication);
    let encryption = verify(host, &serial, &device.encryption_certificate, encryption).await?;
    let authentication = verify(
        host,
        &serial,
        &device.authentication_certificate,
        authentication,
    )
    .await?;
    require_strength(host, &serial, &encryption)?;

    let mut tx = host.store().write(host.now()).await?;
    if !tx.insert_device(&serial, &model).await? {
        let cause = format!("device {serial} exists already");
        return Err(refused(Reason::AlreadyExists, cause));
    }
    for (purpose, credential) in [
        (Purpose::Encryption, &encryption),
        (Purpose::Authentication, &authentication),
    ] {
        put(host, &mut tx, &serial, purpose, credential.certificate()).await?;
    }
    let device = require_device(&mut tx, &serial).await?;
    let state = device.state.after(DeviceEvent::Enrolled, None);
    let state = state.ok_or_else(|| HostError::Internal("a new device cannot enrol".to_owned()))?;
    tx.set_device_state(&device, state).await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "device.admitted",
        device: Some(&serial),
        outcome: "ok",
        detail: json!({
            "model": model.as_str(),
            "encryption-certificate": encryption.certificate().serial().to_string(),
            "authentication-certificate": authentication.certificate().serial().to_string(),
            "encryption-key": hex::encode(encryption.public_key().fingerprint()),
            "authentication-key": hex::encode(authentication.public_key().fingerprint()),
        }),
    })
    .await?;
    let device = require_device(&mut tx, &serial).await?;
    rollout::came(host, &mut tx, &serial);
    tx.commit().await?;
    rollout::look(host);
    Ok(device)
}

/// Verifies a certificate of the device as it stands now: by `CA_KRD`, of the right role, in its validity, not listed.
async fn verify(
    host: &Host,
    serial: &DeviceSerial,
    der: &[u8],
    purpose: Purpose,
) -> Result<VerifiedCredential, HostError> {
    let (role, which) = match purpose {
        Purpose::Encryption => (Role::Krd, "encryption"),
        Purpose::Authentication => (Role::KrdTls, "authentication"),
    };
    let rejected = |cause: &dyn std::fmt::Display| {
        let cause = format!("the {which} certificate of {serial}: {cause}");
        refused(Reason::CredentialRejected, cause)
    };
    let certificate = Certificate::from_der(der).map_err(|error| rejected(&error))?;
    let crl = host.crl_ca_krd().await?;
    let issuer = &host.config().certificates.ca_krd;
    let credential = verify_credential(&certificate, issuer, role, &crl, host.now())
        .map_err(|error| rejected(&error))?;
    let name = certificate.common_name();
    if name.as_deref() == Some(serial.as_str()) {
        return Ok(credential);
    }
    let name = name.unwrap_or_default();
    let cause = format!("the {which} certificate is of {name:?}, not of {serial}");
    Err(refused(Reason::IdentityMismatch, cause))
}

/// The other host may have demanded less.
fn require_strength(
    host: &Host,
    serial: &DeviceSerial,
    encryption: &VerifiedCredential,
) -> Result<(), HostError> {
    let least = host.config().min_rsa_bits;
    match encryption.public_key().kind() {
        PublicKeyKind::Rsa { bits } if bits >= least => Ok(()),
        _ => {
            let cause = format!("{serial}: the encryption key has less than {least} bits of RSA");
            Err(refused(Reason::KeyTooWeak, cause))
        }
    }
}

/// Stores a certificate whose key and serial number nobody has here.
async fn put(
    host: &Host,
    tx: &mut Tx,
    device: &DeviceSerial,
    purpose: Purpose,
    certificate: &Certificate,
) -> Result<(), HostError> {
    let claim = KeyClaim {
        purpose,
        serial: certificate.serial().clone(),
        key_sha256: certificate.public_key().fingerprint(),
    };
    if !tx.claim_certificate(device, &claim).await? {
        if let Some(other) = tx.other_device_with_public_key(device, &claim).await? {
            // The refusal goes on record.
            let alarm = format!("{device} was to be admitted with a public key of {other}");
            host.alarms().raise(&alarm);
        }
        let cause =
            format!("{device}: a public key or a certificate's serial number is known already");
        return Err(refused(Reason::KeyInUse, cause));
    }
    Ok(tx.put_certificate(device, purpose, certificate).await?)
}
