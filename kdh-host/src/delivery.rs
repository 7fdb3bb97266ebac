//! From a nonce to a key token, and from a receipt to a confirmed key.

use std::sync::Arc;

use hsm::{Kcv, KcvMethod};
use kdh_proto::{
    RECEIPT_CONTEXT, Reason,
    v1::{KeyCheckValue, Receipt, ReceiptStatement, key_check_value::Method},
};
use pki::{PublicKeyKind, VerifiedCredential};
use prost::Message as _;
use serde_json::json;
use sha2::{Digest, Sha256};
use tr34::{KrdNonce, RandomToken, Rule};

use crate::{
    Host, HostError,
    binding::{self, AuthenticatedDevice},
    claims::Working,
    config::{KeyStrength, RSA_BITS_FOR_AES_128},
    error::refused,
    host::random,
    keys::TokenOrder,
    names::{DeviceSerial, Slot},
    stages::Laps,
    state::{DeliveryState, DeviceEvent},
    store::{Actor, Assignment, AuditEntry, Delivery, NewDelivery, Standing, StoreError, Tx},
};

/// Bytes of randomness in a delivery's id.
const ID_LEN: usize = 16;

/// What a terminal gets for its nonce.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) kt_kdh: Vec<u8>,
    pub(crate) delivery_id: String,
    pub(crate) version: u32,
    pub(crate) kcv: Kcv,
}

/// A nonce that is this device's alone, and the delivery that was recorded with it. Ends in
/// [`deliver`] or [`abandon`].
struct Prepared {
    _working: Working,
    id: String,
    nonce: KrdNonce,
    slot: Slot,
    assignment: Assignment,
    expires_at: time::OffsetDateTime,
}

impl Prepared {
    fn as_new<'a>(&'a self, device: &'a DeviceSerial) -> NewDelivery<'a> {
        NewDelivery {
            id: &self.id,
            device,
            slot: &self.slot,
            version: self.assignment.version,
            key: &self.assignment.key.name,
            nonce: &self.nonce,
            expires_at: self.expires_at,
        }
    }
}

/// What the device shall hold. What was meant for another key than its present one is left out.
pub(crate) async fn assignments(
    host: &Host,
    device: &AuthenticatedDevice,
) -> Result<Vec<Assignment>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let standing = tx.standing(device.serial(), None).await?;
    let standing = binding::require_bound(device.serial(), standing)?;
    let mut assignments = standing.assignments;
    assignments.retain(|assignment| assignment.meant_for_present_key);
    Ok(assignments)
}

/// Exchanges a random-number token for a key token.
pub(crate) async fn request_key(
    host: &Host,
    device: &AuthenticatedDevice,
    slot: &str,
    rt_krd: &[u8],
    mut laps: Laps,
) -> Result<Issued, HostError> {
    let serial = device.serial();
    let prepared = match prepare(host, device, slot, rt_krd, &mut laps).await {
        Ok(prepared) => prepared,
        Err(error) => {
            audit_refusal(host, serial, "delivery.request", &error).await?;
            return Err(error);
        }
    };
    let (prepared, credential) = prepared;
    match deliver(host, device, &prepared, &credential, &mut laps).await {
        Ok(kt_kdh) => {
            host.stages().add(&laps);
            Ok(Issued {
                kt_kdh,
                delivery_id: prepared.id,
                version: prepared.assignment.version,
                kcv: prepared.assignment.key.kcv,
            })
        }
        Err(error) => {
            abandon(host, serial, &prepared, &error).await?;
            Err(error)
        }
    }
}

/// All checks again, then the guard: the nonce and the intent are in the database, or nothing is.
async fn prepare(
    host: &Host,
    device: &AuthenticatedDevice,
    slot: &str,
    rt_krd: &[u8],
    laps: &mut Laps,
) -> Result<(Prepared, Arc<VerifiedCredential>), HostError> {
    let serial = device.serial();
    let credential = binding::encryption_credential(host, device).await?;
    laps.end("2 verify the credential");
    let nonce = parse_nonce(rt_krd)?;
    let slot = Slot::parse(slot).map_err(|_| nothing_assigned(serial))?;
    let id = hex::encode(random::<ID_LEN>()?);
    laps.end("3 parse");
    let working = host.under_way().begin(id.clone());

    let now = host.now();
    let mut tx = host.store().write(now).await?;
    let claim = tx.claim_nonce(serial, &slot, &nonce).await?;
    let standing = binding::require_bound(serial, claim.standing)?;
    let assignment = assignment(standing, serial)?;
    require_strength(host, serial, &credential, &assignment)?;
    if !claim.outcome {
        return Err(refused(
            Reason::NonceReused,
            format!("{serial} has used this nonce before"),
        ));
    }
    let prepared = Prepared {
        _working: working,
        id,
        nonce,
        slot,
        assignment,
        expires_at: now + host.config().delivery_lifetime,
    };
    tx.prepare_delivery(&prepared.as_new(serial))?;
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action: "delivery.intent",
        device: Some(serial),
        outcome: "ok",
        detail: json!({
            "delivery": prepared.id,
            "slot": prepared.slot.as_str(),
            "version": prepared.assignment.version,
            "key": prepared.assignment.key.name.as_str(),
            "certificate": credential.certificate().serial().to_string(),
        }),
    })
    .await?;
    laps.end("4 check and claim");
    tx.commit().await?;
    laps.end("5 commit the intent");
    Ok((prepared, credential))
}

fn parse_nonce(rt_krd: &[u8]) -> Result<KrdNonce, HostError> {
    RandomToken::parse(rt_krd)
        .map(|token| token.nonce().clone())
        .map_err(|error| {
            let reason = match error.rule {
                Rule::Length { .. } => Reason::NonceInvalid,
                _ => Reason::TokenMalformed,
            };
            refused(reason, error)
        })
}

fn nothing_assigned(serial: &DeviceSerial) -> HostError {
    refused(
        Reason::NoKeyAssigned,
        format!("{serial} has no key in this slot"),
    )
}

/// What the device shall hold in the slot that was asked for, if the operator who assigned it meant the encryption key that
/// the device has now.
fn assignment(standing: Standing, serial: &DeviceSerial) -> Result<Assignment, HostError> {
    let mut assignments = standing.assignments.into_iter();
    let assignment = assignments.next().ok_or_else(|| nothing_assigned(serial))?;
    if assignment.meant_for_present_key {
        return Ok(assignment);
    }
    Err(refused(
        Reason::NoKeyAssigned,
        format!(
            "{serial} has enrolled again since slot {} was assigned: assign it anew",
            assignment.slot
        ),
    ))
}

/// Whether the terminal's RSA key is as strong as the key that it shall carry.
fn require_strength(
    host: &Host,
    serial: &DeviceSerial,
    credential: &VerifiedCredential,
    assignment: &Assignment,
) -> Result<(), HostError> {
    let PublicKeyKind::Rsa { bits } = credential.public_key().kind() else {
        return Err(refused(Reason::CredentialRejected, "not an RSA key"));
    };
    // Two-key TDEA counts as 112 bits at the most, which RSA-2048 matches.
    let carries_aes = assignment.key.kind.starts_with("AES");
    if !carries_aes || bits >= RSA_BITS_FOR_AES_128 {
        return Ok(());
    }
    let cause = format!(
        "{serial} has an RSA key of {bits} bits, weaker than its {} key",
        assignment.key.kind
    );
    match host.config().key_strength {
        KeyStrength::Require => Err(refused(Reason::KeyTooWeak, cause)),
        KeyStrength::Warn => {
            tracing::warn!("{cause}");
            Ok(())
        }
    }
}

async fn make_token(
    host: &Host,
    prepared: &Prepared,
    credential: &VerifiedCredential,
    laps: &mut Laps,
) -> Result<Vec<u8>, HostError> {
    let crl = host.crl_ca_kdh().await?;
    let order = TokenOrder {
        key: prepared.assignment.key.clone(),
        nonce: prepared.nonce.clone(),
        recipient: credential.public_key().clone(),
        recipient_id: credential.id().clone(),
        crl: crl.crl().der().to_vec(),
    };
    let made = host.keys().make_token(order).await?;
    let in_hsm = [
        ("7 queue for the HSM", made.queued),
        ("8 seal in the HSM", made.sealing),
        ("9 sign in the HSM", made.signing),
    ];
    laps.end_with("6 encode and hand over", &in_hsm);
    Ok(made.kt_kdh)
}

/// From a prepared delivery to a key token that is on record, and only then may leave.
async fn deliver(
    host: &Host,
    device: &AuthenticatedDevice,
    prepared: &Prepared,
    credential: &VerifiedCredential,
    laps: &mut Laps,
) -> Result<Vec<u8>, HostError> {
    let serial = device.serial();
    let kt_kdh = make_token(host, prepared, credential, laps).await?;
    let token_sha256: [u8; 32] = Sha256::digest(&kt_kdh).into();
    // Whoever was stopped, listed or enrolled anew since the intent is never sent the token.
    binding::recheck(host, device, credential).await?;
    let mut tx = host.store().write(host.now()).await?;
    let delivery = prepared.as_new(serial);
    let issue = tx.issue_delivery(&delivery, &token_sha256).await?;
    let standing = binding::require_bound(serial, issue.standing)?;
    binding::require_current(&standing, device, credential)?;
    let assigned = assignment(standing, serial)?;
    if assigned.version != prepared.assignment.version {
        return Err(refused(
            Reason::NoKeyAssigned,
            format!("{serial} has been assigned another key since the intent"),
        ));
    }
    let superseded = issue.outcome?;
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action: "delivery.issued",
        device: Some(serial),
        outcome: "ok",
        detail: json!({
            "delivery": prepared.id,
            "token-sha256": hex::encode(token_sha256),
            "superseded": superseded,
        }),
    })
    .await?;
    laps.end("A check again and record");
    tx.commit().await?;
    // The commit may have had to wait, and a revocation list may have come meanwhile.
    if let Err(error) = binding::recheck(host, device, credential).await {
        withhold(host, serial, prepared, &error).await?;
        return Err(error);
    }
    laps.end("B commit the issue");
    Ok(kt_kdh)
}

/// A token that is on record does not leave. Its nonce stays used.
async fn withhold(
    host: &Host,
    serial: &DeviceSerial,
    prepared: &Prepared,
    error: &HostError,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let (issued, abandoned) = (DeliveryState::Issued, DeliveryState::Abandoned);
    match tx.set_delivery_state(&prepared.id, issued, abandoned).await {
        // Superseded meanwhile: it counts no more either way.
        Ok(()) | Err(StoreError::Damaged(_)) => {}
        Err(error) => return Err(error.into()),
    }
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: "delivery.withheld",
        device: Some(serial),
        outcome: error.reason().as_str(),
        detail: json!({"delivery": prepared.id}),
    })
    .await?;
    Ok(tx.commit().await?)
}

/// No token left: the nonce is given back, on the record. Should the database not answer, the claim is
/// nobody's from here on, and is given back soon.
async fn abandon(
    host: &Host,
    serial: &DeviceSerial,
    prepared: &Prepared,
    error: &HostError,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    if !tx
        .abandon_delivery(serial, &prepared.id, prepared.nonce.as_bytes())
        .await?
    {
        return Ok(());
    }
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action: "delivery.abandoned",
        device: Some(serial),
        outcome: error.reason().as_str(),
        detail: json!({"delivery": prepared.id}),
    })
    .await?;
    Ok(tx.commit().await?)
}

/// A receipt whose signature is the device's, over the bytes that were received.
struct SignedStatement(ReceiptStatement);

impl SignedStatement {
    fn verify(device: &AuthenticatedDevice, receipt: &Receipt) -> Result<Self, HostError> {
        let invalid = |cause: &str| {
            refused(
                Reason::ReceiptInvalid,
                format!("{}: {cause}", device.serial()),
            )
        };
        device
            .credential()
            .public_key()
            .verify(&receipt.statement, &receipt.signature)
            .map_err(|_| invalid("the signature does not verify"))?;
        let statement = ReceiptStatement::decode(&receipt.statement[..])
            .map_err(|_| invalid("the statement does not decode"))?;
        if statement.context != RECEIPT_CONTEXT {
            return Err(invalid("the statement is of another context"));
        }
        if statement.serial_number != device.serial().as_str() {
            return Err(invalid("the statement is about another device"));
        }
        Ok(Self(statement))
    }
}

/// Takes a receipt: the delivery is confirmed, or the device quarantined.
pub(crate) async fn confirm(
    host: &Host,
    device: &AuthenticatedDevice,
    receipt: &Receipt,
) -> Result<(), HostError> {
    let outcome = match SignedStatement::verify(device, receipt) {
        Ok(statement) => settle(host, device, &statement.0).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        // A mismatch was recorded with what it changed.
        if error.reason() != Reason::KcvMismatch {
            audit_refusal(host, device.serial(), "delivery.confirm", error).await?;
        }
    }
    outcome
}

async fn settle(
    host: &Host,
    device: &AuthenticatedDevice,
    statement: &ReceiptStatement,
) -> Result<(), HostError> {
    let serial = device.serial();
    let mut tx = host.store().write(host.now()).await?;
    let standing = tx.standing(serial, None).await?;
    binding::require_bound(serial, standing)?;
    let unknown = || {
        refused(
            Reason::DeliveryUnknown,
            format!("{serial} has no open delivery {:?}", statement.delivery_id),
        )
    };
    let delivery = tx
        .delivery(&statement.delivery_id)
        .await?
        .filter(|delivery| delivery.device == *serial)
        .ok_or_else(unknown)?;
    match delivery.state {
        DeliveryState::Issued if delivery.expired => {
            tx.set_delivery_state(&delivery.id, delivery.state, DeliveryState::Expired)
                .await?;
            tx.record(AuditEntry {
                actor: &Actor::Host,
                action: "delivery.expired",
                device: Some(serial),
                outcome: "ok",
                detail: json!({"delivery": delivery.id}),
            })
            .await?;
            tx.commit().await?;
            return Err(unknown());
        }
        // The answer to a receipt may have been lost, so the same one is taken again.
        DeliveryState::Issued | DeliveryState::Confirmed => {}
        DeliveryState::Prepared
        | DeliveryState::Mismatch
        | DeliveryState::Superseded
        | DeliveryState::Expired
        | DeliveryState::Abandoned => return Err(unknown()),
    }
    let key = key_of(&mut tx, &delivery).await?;
    let fits = statement.slot == delivery.slot
        && statement.key_version == delivery.version
        && statement.header == key.header.to_string()
        && delivery.token_sha256.as_ref() == Some(&statement.kt_kdh_sha256);
    if !fits {
        return Err(refused(
            Reason::ReceiptInvalid,
            format!(
                "{serial}: the statement does not fit delivery {}",
                delivery.id
            ),
        ));
    }
    let reported = parse_kcv(statement.kcv.as_ref())
        .ok_or_else(|| refused(Reason::ReceiptInvalid, "no key check value"))?;
    let right = reported == key.kcv;
    if right && delivery.state == DeliveryState::Confirmed {
        return Ok(());
    }
    let (state, outcome) = if right {
        (DeliveryState::Confirmed, "ok")
    } else {
        (DeliveryState::Mismatch, Reason::KcvMismatch.as_str())
    };
    tx.set_delivery_state(&delivery.id, delivery.state, state)
        .await?;
    if !right {
        let stored = tx.device(serial).await?;
        let stored = stored.ok_or_else(|| HostError::Internal("the device is gone".to_owned()))?;
        let state = stored
            .state
            .after(DeviceEvent::WrongKcv, stored.state_before)
            .ok_or_else(|| HostError::Internal("quarantine is not possible".to_owned()))?;
        tx.set_device_state(&stored, state).await?;
    }
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action: if right {
            "delivery.confirmed"
        } else {
            "delivery.mismatch"
        },
        device: Some(serial),
        outcome,
        detail: json!({
            "delivery": delivery.id,
            "expected": key.kcv.to_string(),
            "reported": reported.to_string(),
        }),
    })
    .await?;
    tx.commit().await?;
    if right {
        Ok(())
    } else {
        Err(refused(
            Reason::KcvMismatch,
            format!("{serial} reported {reported} for delivery {}", delivery.id),
        ))
    }
}

async fn key_of(tx: &mut Tx, delivery: &Delivery) -> Result<crate::store::StoredKey, HostError> {
    let gone = || HostError::Internal(format!("the key of delivery {} is gone", delivery.id));
    let name = crate::names::KeyAlias::parse(&delivery.key_name).map_err(|_| gone())?;
    tx.key(&name).await?.ok_or_else(gone)
}

/// A check value as it stands in a message; `None` if it is none.
pub(crate) fn parse_kcv(kcv: Option<&KeyCheckValue>) -> Option<Kcv> {
    let kcv = kcv?;
    let method = match kcv.method() {
        Method::TdeaEcb => KcvMethod::TdeaEcb,
        Method::AesCmac => KcvMethod::AesCmac,
        Method::Unspecified => return None,
    };
    Kcv::new(method, &kcv.value).ok()
}

/// A check value as it stands in a message.
pub(crate) fn kcv_message(kcv: &Kcv) -> KeyCheckValue {
    let method = match kcv.method() {
        KcvMethod::TdeaEcb => Method::TdeaEcb,
        KcvMethod::AesCmac => Method::AesCmac,
    };
    KeyCheckValue {
        method: method.into(),
        value: kcv.value().to_vec(),
    }
}

async fn audit_refusal(
    host: &Host,
    serial: &DeviceSerial,
    action: &'static str,
    error: &HostError,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action,
        device: Some(serial),
        outcome: error.reason().as_str(),
        detail: json!({}),
    })
    .await?;
    Ok(tx.commit().await?)
}
