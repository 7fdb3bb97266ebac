//! Enrolment: certifies the two keys of a terminal that its operator expects.

use kdh_proto::Reason;
use pki::{
    Certificate, CsrError, CsrKey, Issuer, PublicKey, Role, SerialNumber, Subject, Validity,
    VerifiedCsr, issue_certificate, verify_csr,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use tokio::time::Instant;
use tr34::{KrdCredentialToken, Profile};

use crate::{
    Host, HostError, alarms,
    claims::{self, Working},
    device_keys,
    error::refused,
    host::random,
    mirror,
    names::DeviceSerial,
    rollout,
    state::DeviceEvent,
    store::{Actor, AuditEntry, Device, EnrolmentClaim, KeyClaim, Purpose, Tx},
};

/// Wrong codes after which a code is locked.
const MAX_WRONG_TRIES: i64 = 5;
/// Bytes of randomness in a serial number.
const SERIAL_LEN: usize = 16;
/// When a stranger learns that the enrolment is refused: longer than the longest way to that answer
/// takes, so that the time does not tell how far it got.
const REFUSAL_TIME: std::time::Duration = std::time::Duration::from_millis(300);
/// How far a terminal's clock may be behind.
const CLOCK_SKEW: time::Duration = time::Duration::minutes(10);

/// What a terminal sends.
pub(crate) struct Request<'a> {
    pub(crate) serial: &'a str,
    pub(crate) activation_code: &'a str,
    pub(crate) encryption_csr: &'a [u8],
    pub(crate) authentication_csr: &'a [u8],
}

/// What it gets.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) ct_krd: Vec<u8>,
    pub(crate) authentication_certificate: Vec<u8>,
    pub(crate) chain: Vec<Vec<u8>>,
}

/// Two keys that proved their possession.
struct Keys {
    encryption: PublicKey,
    authentication: PublicKey,
}

impl Keys {
    /// Tells one enrolment from another.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.encryption.fingerprint());
        digest.update(self.authentication.fingerprint());
        digest.finalize().into()
    }
}

/// The right to certify these keys under these serial numbers: claimed in the database, spent by
/// [`finish`].
struct Claim {
    _working: Working,
    device: DeviceSerial,
    code_sha256: [u8; 32],
    keys: Keys,
    encryption_serial: SerialNumber,
    authentication_serial: SerialNumber,
}

enum Admission {
    /// The code is right and has not been used.
    Fresh(Device),
    /// These very keys were certified with this very code: the answer was lost.
    Repeated,
}

/// How an activation code is stored, and stands in the audit trail. 80 random bits need no stretching; with the serial
/// number beside them, whoever reads the hashes of a million codes has to search for each by itself.
pub(crate) fn hash_code(serial: &DeviceSerial, code: &str) -> [u8; 32] {
    // People type codes with and without their dashes, in either case.
    let normal: String = code
        .chars()
        .filter(|character| *character != '-')
        .flat_map(char::to_uppercase)
        .collect();
    let mut hash = Sha256::new();
    hash.update(serial.as_str());
    hash.update([0]);
    hash.update(normal);
    hash.finalize().into()
}

/// Holds back an answer that must not tell by its time how far the enrolment got.
pub(crate) async fn hide_time<T>(begun: Instant, outcome: &Result<T, HostError>) {
    let refused = |error: &HostError| error.reason() == Reason::EnrollmentRefused;
    if outcome.as_ref().is_err_and(refused) {
        tokio::time::sleep_until(begun + REFUSAL_TIME).await;
    }
}

/// Enrols a terminal, or repeats the answer that it lost.
pub(crate) async fn enrol(host: &Host, request: Request<'_>) -> Result<Enrolled, HostError> {
    // The requests are checked first and their faults told last: whoever has no right to enrol
    // learns nothing from them, and a refusal takes the same work.
    let keys = verify_keys(host, &request);
    let serial = DeviceSerial::parse(request.serial)
        .map_err(|error| refused(Reason::EnrollmentRefused, error))?;
    let code = hash_code(&serial, request.activation_code);

    let refusal = |cause| refused(Reason::EnrollmentRefused, format!("{serial}: {cause}"));
    // Whoever comes with an invented serial number, or again and again, holds up no writer.
    let mut tx = host.store().read(host.now()).await?;
    match tx.activation_code(&serial).await? {
        None => return Err(refusal(NO_CODE)),
        Some(code) if code.wrong_tries >= MAX_WRONG_TRIES => return Err(refusal(LOCKED)),
        Some(_) => drop(tx),
    }
    let mut tx = host.store().write(host.now()).await?;
    let admission = match admit(host, &mut tx, &serial, &code, keys.as_ref().ok()).await? {
        Ok(admission) => admission,
        Err(cause) => {
            // What was counted and recorded stands also though the call fails.
            tx.commit().await?;
            return Err(refusal(cause));
        }
    };
    let device = match admission {
        Admission::Repeated => return repeat(host, &mut tx, &serial).await,
        Admission::Fresh(device) => device,
    };
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => {
            record(&mut tx, &serial, "device.enrol", error.reason(), json!({})).await?;
            tx.commit().await?;
            return Err(error);
        }
    };
    let profile = host.config().profiles.of(&device.model);
    let claim = claim(host, tx, device, code, keys).await?;
    match certify(host, &claim).await {
        Ok((encryption, authentication)) => answer(host, profile, &encryption, &authentication),
        Err(error) => {
            release(host, &claim, &error).await?;
            Err(error)
        }
    }
}

fn verify_keys(host: &Host, request: &Request<'_>) -> Result<Keys, HostError> {
    let encryption = CsrKey::Encryption {
        min_rsa_bits: host.config().min_rsa_bits,
    };
    let verified = |name: &str, csr: &[u8], key: CsrKey| {
        verify_csr(csr, key)
            .map(VerifiedCsr::into_public_key)
            .map_err(|error| {
                let reason = match error {
                    CsrError::Malformed | CsrError::ProofOfPossession => Reason::CsrInvalid,
                    CsrError::KeyTooWeak { .. } | CsrError::KeyUnsound | CsrError::WrongKeyKind => {
                        Reason::KeyTooWeak
                    }
                };
                refused(reason, format!("{name}: {error}"))
            })
    };
    Ok(Keys {
        encryption: verified("encryption key", request.encryption_csr, encryption)?,
        authentication: verified(
            "authentication key",
            request.authentication_csr,
            CsrKey::Authentication,
        )?,
    })
}

const NO_CODE: &str = "unknown serial number, or no activation code";
const LOCKED: &str = "the activation code is locked";
/// Of a row that is as it was written, this says that another host did: one of before records had hashes.
const NOT_ISSUED: &str = "the audit trail knows no such activation code that is good now: its row was changed behind the \
                          host's back, or the code was issued by an earlier version of the host. Issue another one";

/// Whether this device may enrol with this code. The inner error is for the log; towards the
/// terminal all of them are one.
async fn admit(
    host: &Host,
    tx: &mut Tx,
    serial: &DeviceSerial,
    code: &[u8; 32],
    keys: Option<&Keys>,
) -> Result<Result<Admission, &'static str>, HostError> {
    let device = tx.device(serial).await?;
    let stored = tx.activation_code(serial).await?;
    // Compared in any case, so that an unknown device takes as long.
    let expected = stored
        .as_ref()
        .map_or(&[0; 32][..], |stored| &stored.code_sha256);
    let right = bool::from(expected.ct_eq(code));
    let (Some(device), Some(stored)) = (device, stored) else {
        // Not on the audit trail: anybody could fill it with invented serial numbers.
        return Ok(Err(NO_CODE));
    };
    if stored.wrong_tries >= MAX_WRONG_TRIES {
        return Ok(Err(LOCKED));
    }
    if !right {
        tx.count_wrong_code(serial).await?;
        let tries = stored.wrong_tries + 1;
        let detail = json!({"wrong-tries": tries, "locked": tries >= MAX_WRONG_TRIES});
        record(
            tx,
            serial,
            "device.enrol",
            Reason::EnrollmentRefused,
            detail,
        )
        .await?;
        return Ok(Err("wrong activation code"));
    }
    // What follows is on the record, or costs the HSM's time, each time.
    host.limits().count_call(serial.to_string())?;
    let claim = stored.claim.as_ref();
    let why_not = if stored.used {
        if claim.is_some_and(|claim| is_same_enrolment(claim, keys)) {
            return Ok(Ok(Admission::Repeated));
        }
        "the activation code was used before"
    } else if stored.expired {
        "the activation code has expired"
    } else if !tx.trail_of(serial).awaits(code, host.now()) {
        tracing::error!("{serial}: {NOT_ISSUED}");
        NOT_ISSUED
    } else if claim.is_some_and(|claim| host.under_way().contains(&claim.id)) {
        "another enrolment with this code is under way"
    } else if device
        .state
        .after(DeviceEvent::Enrolled, device.state_before)
        .is_none()
    {
        "the device's state does not allow it"
    } else {
        if let Some(left_over) = claim {
            claims::release_enrolment(tx, serial, &left_over.id).await?;
        }
        return Ok(Ok(Admission::Fresh(device)));
    };
    // Whoever knows the code is no stranger who fills the trail.
    let detail = json!({"why": why_not});
    record(
        tx,
        serial,
        "device.enrol",
        Reason::EnrollmentRefused,
        detail,
    )
    .await?;
    Ok(Err(why_not))
}

fn is_same_enrolment(claim: &EnrolmentClaim, keys: Option<&Keys>) -> bool {
    keys.is_some_and(|keys| claim.keys.ct_eq(&keys.digest()).into())
}

/// Gives the answer that was lost. Only a device in good standing gets it.
async fn repeat(host: &Host, tx: &mut Tx, serial: &DeviceSerial) -> Result<Enrolled, HostError> {
    let device = tx.device(serial).await?;
    let is_revoked = tx.trail_of(serial).is_revoked();
    let device = device
        .filter(|device| !is_revoked && device.state.after(DeviceEvent::Bound, None).is_some());
    let encryption = tx.current_certificate(serial, Purpose::Encryption).await?;
    let authentication = tx
        .current_certificate(serial, Purpose::Authentication)
        .await?;
    match (device, encryption, authentication) {
        (Some(device), Some(encryption), Some(authentication)) => answer(
            host,
            host.config().profiles.of(&device.model),
            &encryption.certificate()?,
            &authentication.certificate()?,
        ),
        _ => Err(refused(
            Reason::EnrollmentRefused,
            format!("{serial}: the device's state does not allow to repeat an enrolment"),
        )),
    }
}

/// Claims code, keys and serial numbers, together with the record of the intent.
async fn claim(
    host: &Host,
    mut tx: Tx,
    device: Device,
    code_sha256: [u8; 32],
    keys: Keys,
) -> Result<Claim, HostError> {
    let serial = || {
        SerialNumber::from_random(&random::<SERIAL_LEN>()?)
            .map_err(|error| HostError::Internal(error.to_string()))
    };
    let encryption_serial = serial()?;
    let claim = Claim {
        _working: host.under_way().begin(encryption_serial.to_string()),
        device: device.serial,
        code_sha256,
        keys,
        encryption_serial,
        authentication_serial: serial()?,
    };
    let certificates = [
        (
            Purpose::Encryption,
            &claim.encryption_serial,
            &claim.keys.encryption,
        ),
        (
            Purpose::Authentication,
            &claim.authentication_serial,
            &claim.keys.authentication,
        ),
    ];
    for (purpose, serial, key) in certificates {
        let key_claim = KeyClaim {
            purpose,
            serial: serial.clone(),
            key_sha256: key.fingerprint(),
        };
        if !tx.claim_certificate(&claim.device, &key_claim).await? {
            // Nothing of this transaction stays but the record of the refusal.
            drop(tx);
            let mut tx = host.store().write(host.now()).await?;
            let detail = json!({"key": hex::encode(key.fingerprint())});
            if let Some(other) = tx
                .other_device_with_public_key(&claim.device, &key_claim)
                .await?
            {
                let alarm = format!(
                    "{} came to enrol with a public key of {other}",
                    claim.device
                );
                host.alarms().raise(&alarm);
                let actor = Actor::Device(claim.device.clone());
                let action = alarms::PUBLIC_KEY_IN_USE;
                alarms::record(&mut tx, &actor, action, Some(&claim.device), &alarm).await?;
            }
            record(
                &mut tx,
                &claim.device,
                "device.enrol",
                Reason::KeyInUse,
                detail,
            )
            .await?;
            tx.commit().await?;
            return Err(refused(
                Reason::KeyInUse,
                format!("{}: a public key is known already", claim.device),
            ));
        }
    }
    tx.claim_activation_code(
        &claim.device,
        &claim.encryption_serial,
        &claim.keys.digest(),
    )
    .await?;
    tx.record(AuditEntry {
        actor: &Actor::Device(claim.device.clone()),
        action: "device.enrol.intent",
        device: Some(&claim.device),
        outcome: "ok",
        detail: json!({
            "encryption-certificate": claim.encryption_serial.to_string(),
            "authentication-certificate": claim.authentication_serial.to_string(),
        }),
    })
    .await?;
    tx.commit().await?;
    Ok(claim)
}

/// From a claim to certificates that are on record.
async fn certify(host: &Host, claim: &Claim) -> Result<(Certificate, Certificate), HostError> {
    let (encryption, authentication) = issue(host, claim).await?;
    finish(host, claim, &encryption, &authentication).await?;
    Ok((encryption, authentication))
}

/// Has `CA_KRD` sign both certificates, in the HSM.
async fn issue(host: &Host, claim: &Claim) -> Result<(Certificate, Certificate), HostError> {
    let ca = host.config().certificates.ca_krd.clone();
    let lifetime = host.config().certificate_validity;
    let now = host.now();
    let validity = Validity {
        not_before: (now - CLOCK_SKEW).max(ca.not_before()),
        not_after: end_of(now, lifetime).min(ca.not_after()),
    };
    let subject = |role: Role, key: &PublicKey, serial: &SerialNumber| {
        Ok::<_, HostError>(Subject {
            role,
            name: role
                .subject(ca.subject(), claim.device.as_str())
                .map_err(|error| HostError::Internal(error.to_string()))?,
            public_key: key.clone(),
            serial: serial.clone(),
            validity,
            hosts: Vec::new(),
        })
    };
    let encryption = subject(Role::Krd, &claim.keys.encryption, &claim.encryption_serial)?;
    let authentication = subject(
        Role::KrdTls,
        &claim.keys.authentication,
        &claim.authentication_serial,
    )?;
    host.in_hsm(move |keys| {
        let issuer = Issuer {
            certificate: &ca,
            signer: &keys.ca_krd,
        };
        Ok((
            issue_certificate(&issuer, &encryption)?,
            issue_certificate(&issuer, &authentication)?,
        ))
    })
    .await
}

fn end_of(now: OffsetDateTime, lifetime: std::time::Duration) -> OffsetDateTime {
    time::Duration::try_from(lifetime)
        .ok()
        .and_then(|lifetime| now.checked_add(lifetime))
        .unwrap_or(now)
}

/// Stores what was made, spends the code, moves the device on.
async fn finish(
    host: &Host,
    claim: &Claim,
    encryption: &Certificate,
    authentication: &Certificate,
) -> Result<(), HostError> {
    let serial = &claim.device;
    let encryption_key = claim.keys.encryption.fingerprint();
    let pinning = device_keys::prepare_pinning(host, serial, &encryption_key).await?;
    let mut tx = host.store().write(host.now()).await?;
    let device = tx
        .device(serial)
        .await?
        .ok_or_else(|| HostError::Internal("the device is gone".to_owned()))?;
    // An operator may have stopped it meanwhile.
    let state = device
        .state
        .after(DeviceEvent::Enrolled, device.state_before)
        .ok_or_else(|| refused(Reason::EnrollmentRefused, "the device was stopped"))?;
    // Another one may have been issued meanwhile, if the claim was not there to be seen.
    if !tx.trail_of(serial).awaits(&claim.code_sha256, host.now()) {
        tracing::error!("{serial}: {NOT_ISSUED}");
        return Err(refused(Reason::EnrollmentRefused, NOT_ISSUED));
    }
    tx.put_certificate(serial, Purpose::Encryption, encryption)
        .await?;
    tx.put_certificate(serial, Purpose::Authentication, authentication)
        .await?;
    pinning.apply(host, &mut tx, serial).await?;
    tx.spend_activation_code(serial, &claim.encryption_serial)
        .await?;
    tx.set_device_state(&device, state).await?;
    // It has to bind again; what became of its old keys stays as it was.
    tx.set_binding(serial, None, device.keys_fate).await?;
    // What was sent went to a key that is no more this device's.
    let superseded = tx.supersede_deliveries(serial).await?;
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action: "device.enrolled",
        device: Some(serial),
        outcome: "ok",
        detail: json!({
            "encryption-certificate": encryption.serial().to_string(),
            "authentication-certificate": authentication.serial().to_string(),
            "superseded": superseded,
            "encryption-key": hex::encode(encryption_key),
            "authentication-key": hex::encode(claim.keys.authentication.fingerprint()),
        }),
    })
    .await?;
    mirror::record_retirement(host, &mut tx, &device).await?;
    rollout::came(host, &mut tx, serial);
    tx.commit().await?;
    rollout::look(host);
    Ok(())
}

/// Undoes a claim: the same terminal may try again with the same code and keys. Should the database
/// not answer, the claim is nobody's from here on, and is given back to the next who asks.
async fn release(host: &Host, claim: &Claim, error: &HostError) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let id = claim.encryption_serial.to_string();
    if !tx.release_enrolment(&claim.device, &id).await? {
        return Ok(());
    }
    record(
        &mut tx,
        &claim.device,
        "device.enrol",
        error.reason(),
        json!({}),
    )
    .await?;
    Ok(tx.commit().await?)
}

fn answer(
    host: &Host,
    profile: Profile,
    encryption: &Certificate,
    authentication: &Certificate,
) -> Result<Enrolled, HostError> {
    let ct_krd = KrdCredentialToken::new(encryption.der())
        .map_err(|error| HostError::Internal(error.to_string()))?;
    Ok(Enrolled {
        ct_krd: ct_krd.to_der(profile),
        authentication_certificate: authentication.der().to_vec(),
        chain: vec![host.config().certificates.ca_krd.der().to_vec()],
    })
}

/// Records a refusal of something that a device tried.
async fn record(
    tx: &mut Tx,
    serial: &DeviceSerial,
    action: &'static str,
    reason: Reason,
    detail: serde_json::Value,
) -> Result<(), HostError> {
    let entry = AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action,
        device: Some(serial),
        outcome: reason.as_str(),
        detail,
    };
    Ok(tx.record(entry).await?)
}
