//! From a nonce to a key token, and from a receipt to a confirmed key.

use hsm::{Kcv, KcvMethod};
use kdh_proto::{
    Reason,
    v1::{KeyCheckValue, Receipt, ReceiptStatement, key_check_value::Method},
};
use pki::{PublicKeyKind, VerifiedCredential};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tr34::{Freshness, IssuerAndSerial, Kbh, KeyKind, KrdNonce};

use crate::{
    Host, HostError,
    administration::Operator,
    binding::{self, AuthenticatedDevice},
    config::{KeyStrength, RSA_BITS_FOR_AES_128},
    device_keys::{self, Change},
    error::refused,
    export,
    keys::TokenOrder,
    names::{DeviceSerial, KeyAlias, Slot},
    orders,
    receipt::SignedStatement,
    refused_rows, rollout,
    stages::Laps,
    state::{DeliveryState, DeviceEvent, DeviceKeyState, DeviceState, EndOfBinding},
    store::{
        Actor, Assignment, AuditEntry, Delivery, DeviceKey, NewDelivery, Proven, Sealed, Standing,
        StoreError, Tx,
    },
    transport::{self, Asked, Claim, Steps, Transport, record_refusal},
    validity,
};

/// What a terminal gets for its nonce.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) kt_kdh: Vec<u8>,
    pub(crate) delivery_id: String,
    pub(crate) version: u32,
    pub(crate) header: Kbh,
    pub(crate) kcv: Kcv,
    pub(crate) expires_at: OffsetDateTime,
}

/// What a terminal finds when it asks what to do.
#[derive(Debug)]
pub(crate) struct ToDo {
    pub(crate) assignments: Vec<ProvenAssignment>,
    /// What the device shall ask for before anything else.
    pub(crate) order: Option<EndOfBinding>,
}

/// What the device shall hold, and what is ordered of it. What was meant for another key than its present
/// one is left out. A device that may have obeyed an order already is told of the order alone, as long as it
/// has not acknowledged it: the token may not have arrived.
pub(crate) async fn to_do(host: &Host, device: &AuthenticatedDevice) -> Result<ToDo, HostError> {
    let serial = device.serial();
    let mut tx = host.store().read(host.now()).await?;
    let standing = tx.standing(serial, None).await?;
    let order = match &standing {
        Some(standing) => orders::open_order(host, &mut tx, serial, standing).await?,
        None => None,
    };
    drop(tx);
    let order = order.map(|order| order.change.kind());
    let mut standing = if order.is_some() {
        binding::require_maybe_bound(serial, standing)?
    } else {
        binding::require_bound(serial, standing)?
    };
    let bound = standing.state == DeviceState::Bound;
    let recipient = standing.recipient(serial)?;
    let order = match order {
        Some(order) => Some(order),
        None => orders::standing_order(host, &standing),
    };
    let assignments = if bound {
        // Of a row that is refused the device learns nothing; operators do.
        for place in &standing.unreadable {
            refused_rows::report(host, place).await?;
        }
        let mut assignments = proven(host, std::mem::take(&mut standing.assignments)).await?;
        assignments.retain(|assignment| {
            assignment.meant_for_present_key && is_for(&assignment.key, serial, recipient.as_ref())
        });
        validity::retain(host, serial, &mut assignments).await?;
        assignments
    } else {
        Vec::new()
    };
    Ok(ToDo { assignments, order })
}

/// What a device shall hold in a slot, as the HSM has sealed it.
#[derive(Debug)]
pub(crate) struct ProvenAssignment {
    pub(crate) key: Proven<DeviceKey>,
    pub(crate) confirmed: bool,
    pub(crate) meant_for_present_key: bool,
}

/// Has the HSM verify what the database says of what a device shall hold. What is not as it was sealed is reported, and
/// left out.
pub(crate) async fn proven(
    host: &Host,
    assignments: Vec<Assignment>,
) -> Result<Vec<ProvenAssignment>, HostError> {
    let rows = assignments.iter().map(|assignment| assignment.key.clone());
    let rows = host.keys().prove_each(rows.collect()).await?;
    let mut proven = Vec::with_capacity(rows.len());
    for (row, assignment) in rows.into_iter().zip(assignments) {
        match row {
            Ok(key) => proven.push(ProvenAssignment {
                confirmed: assignment.confirmed && key.state == DeviceKeyState::Active,
                key,
                meant_for_present_key: assignment.meant_for_present_key,
            }),
            Err(row) => refused_rows::report(host, &row.unproven().place()).await?,
        }
    }
    Ok(proven)
}

/// Exchanges a random-number token for a key token.
pub(crate) async fn request_key(
    host: &Host,
    device: &AuthenticatedDevice,
    slot: &str,
    rt_krd: &[u8],
    mut laps: Laps,
) -> Result<Issued, HostError> {
    let issued = deliver(host, device, Asked::ByDevice(rt_krd), slot, &mut laps).await?;
    host.stages().add(&laps);
    Ok(issued)
}

/// Makes a key token that nobody asked for, to be brought to the device. The time in it is later than in
/// every one before, and the device takes no other.
pub(crate) async fn make_one_pass(
    host: &Host,
    operator: &Operator,
    serial: &str,
    slot: &str,
) -> Result<Issued, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let device = binding::of_registry(host, &serial).await?;
    let asked = Asked::ByOperator(operator);
    deliver(host, &device, asked, slot, &mut Laps::begin()).await
}

async fn deliver(
    host: &Host,
    device: &AuthenticatedDevice,
    asked: Asked<'_>,
    slot: &str,
    laps: &mut Laps,
) -> Result<Issued, HostError> {
    let transport = KeyTransport { slot };
    let carried = transport::carry(host, device, asked, &transport, laps).await;
    if let Err(error) = &carried {
        refused_rows::report_cause(host, device.serial(), error).await;
        if error.reason() == Reason::KeyExpired {
            validity::require_sealed(host, device.serial(), slot).await?;
        }
    }
    let (claim, due, kt_kdh) = carried?;
    // The HSM has verified the row before it made the token.
    let key = due.key.unproven();
    Ok(Issued {
        kt_kdh,
        delivery_id: claim.id,
        version: key.version,
        header: key.header.clone(),
        kcv: key.kcv.clone(),
        expires_at: due.expires_at,
    })
}

/// A signing time is at most this far ahead of the clock: whoever asks for tokens faster than one a second
/// has to wait.
const MAX_AHEAD: u64 = 60;

/// What the device will know its token as fresh by, claimed for it alone.
async fn claim_freshness(
    host: &Host,
    tx: &mut Tx,
    claim: &Claim<'_>,
    slot: &Slot,
) -> Result<(Standing, Freshness), HostError> {
    let serial = claim.serial();
    if let Some(nonce) = claim.nonce() {
        let tried = tx.claim_nonce(serial, Some(slot), nonce).await?;
        let standing = binding::require_bound(serial, tried.standing)?;
        transport::require_fresh(tried.outcome, serial)?;
        return Ok((standing, Freshness::Nonce(nonce.clone())));
    }
    let standing = tx.standing(serial, Some(slot)).await?;
    let standing = binding::require_bound(serial, standing)?;
    let now = host.signing_time()?;
    let time = tx.claim_signing_time(serial, now).await?;
    if time.unix_seconds() > now.unix_seconds() + MAX_AHEAD {
        let cause = format!(
            "the last one-pass token for {serial} is from {time}, which this host's clock has not reached"
        );
        return Err(refused(Reason::WrongState, cause));
    }
    Ok((standing, Freshness::SigningTime(time)))
}

/// The transport of what a device shall hold in a slot.
struct KeyTransport<'r> {
    slot: &'r str,
}

/// A delivery that is on record.
struct DueKey {
    /// Who signs: the one to which the device is bound.
    kdh: IssuerAndSerial,
    freshness: Freshness,
    slot: Slot,
    /// Verified by the HSM in the same step that makes the token; what goes on record before says what the
    /// database says.
    key: Sealed<DeviceKey>,
    expires_at: OffsetDateTime,
}

impl DueKey {
    /// Of a token that nobody asked for.
    fn signing_time(&self) -> Option<String> {
        match &self.freshness {
            Freshness::Nonce(_) => None,
            Freshness::SigningTime(time) => Some(time.to_string()),
        }
    }

    fn as_new<'a>(&'a self, claim: &'a Claim<'_>) -> NewDelivery<'a> {
        NewDelivery {
            id: &claim.id,
            device: claim.serial(),
            slot: &self.slot,
            version: self.key.unproven().version,
            freshness: &self.freshness,
            expires_at: self.expires_at,
        }
    }
}

impl Transport for KeyTransport<'_> {
    const STEPS: Steps = Steps {
        request: "delivery.request",
        intent: "delivery.intent",
        issued: "delivery.issued",
        withheld: "delivery.withheld",
        abandoned: "delivery.abandoned",
        id: "delivery",
    };

    type Due = DueKey;

    async fn prepare(
        &self,
        host: &Host,
        tx: &mut Tx,
        claim: &Claim<'_>,
    ) -> Result<(DueKey, Value), HostError> {
        let serial = claim.serial();
        let slot = Slot::parse(self.slot).map_err(|_| nothing_assigned(serial))?;
        let (mut standing, freshness) = claim_freshness(host, tx, claim, &slot).await?;
        let kdh = binding::kdh_of(host, serial, &standing)?.id.clone();
        let key = assigned(&mut standing, claim, &slot)?;
        require_strength(host, serial, &claim.credential, key.unproven().kind)?;
        validity::require(host, tx, serial, key.unproven()).await?;
        let lifetime = match freshness {
            Freshness::Nonce(_) => host.config().delivery_lifetime,
            Freshness::SigningTime(_) => host.config().one_pass_lifetime,
        };
        let due = DueKey {
            kdh,
            freshness,
            slot,
            key,
            expires_at: host.now() + lifetime,
        };
        tx.prepare_delivery(&due.as_new(claim))?;
        let detail = json!({
            "delivery": claim.id,
            "slot": due.slot.as_str(),
            "version": due.key.unproven().version,
            "source": due.key.unproven().source.as_str(),
            "key": due.key.unproven().source.key_name().map(KeyAlias::as_str),
            "certificate": claim.credential.certificate().serial().to_string(),
            "signing-time": due.signing_time(),
        });
        Ok((due, detail))
    }

    async fn make(
        &self,
        host: &Host,
        claim: &Claim<'_>,
        due: &DueKey,
        laps: &mut Laps,
    ) -> Result<Vec<u8>, HostError> {
        let crl = host.crl_ca_kdh(host.keys().kdh(&due.kdh)?).await?;
        let order = TokenOrder {
            profile: claim.device.profile(),
            kdh: due.kdh.clone(),
            key: due.key.clone(),
            freshness: due.freshness.clone(),
            now: host.signing_time()?,
            recipient: claim.credential.public_key().clone(),
            recipient_id: claim.credential.id().clone(),
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

    async fn issue(
        &self,
        _: &Host,
        tx: &mut Tx,
        claim: &Claim<'_>,
        due: &DueKey,
        token_sha256: &[u8; 32],
    ) -> Result<(Standing, Value), HostError> {
        let serial = claim.serial();
        let issue = tx.issue_delivery(&due.as_new(claim), token_sha256).await?;
        let mut standing = binding::require_bound(serial, issue.standing)?;
        if standing.bound_kdh.as_ref() != Some(&due.kdh) {
            let cause = format!("{serial} has gone over to another KDH since the intent");
            return Err(refused(Reason::NotBound, cause));
        }
        // Its row may have come under another storage key meanwhile.
        if assigned(&mut standing, claim, &due.slot)?
            .unproven()
            .version
            != due.key.unproven().version
        {
            return Err(refused(
                Reason::NoKeyAssigned,
                format!("{serial} has been assigned another key since the intent"),
            ));
        }
        let detail = json!({
            "delivery": claim.id,
            "token-sha256": hex::encode(token_sha256),
            "superseded": issue.outcome?,
        });
        Ok((standing, detail))
    }

    async fn withhold(&self, tx: &mut Tx, claim: &Claim<'_>, _: &DueKey) -> Result<(), HostError> {
        let (issued, abandoned) = (DeliveryState::Issued, DeliveryState::Abandoned);
        match tx.set_delivery_state(&claim.id, issued, abandoned).await {
            // Superseded meanwhile: it counts no more either way.
            Ok(()) | Err(StoreError::Damaged(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn abandon(&self, tx: &mut Tx, claim: &Claim<'_>) -> Result<bool, HostError> {
        let nonce = claim.nonce().map_or(&[][..], KrdNonce::as_bytes);
        Ok(tx
            .abandon_delivery(claim.serial(), &claim.id, nonce)
            .await?)
    }
}

fn nothing_assigned(serial: &DeviceSerial) -> HostError {
    refused(
        Reason::NoKeyAssigned,
        format!("{serial} has no key in this slot"),
    )
}

/// What the device shall hold in the slot that was asked for, if the operator who assigned it meant the encryption key that
/// the device has now.
fn assigned(
    standing: &mut Standing,
    claim: &Claim<'_>,
    slot: &Slot,
) -> Result<Sealed<DeviceKey>, HostError> {
    let serial = claim.serial();
    if let Some(place) = standing.unreadable.pop() {
        return Err(StoreError::NotSealed(place.to_string()).into());
    }
    let assignment = standing.assignments.pop();
    let assignment = assignment.ok_or_else(|| nothing_assigned(serial))?;
    // What the HSM has sealed says for which encryption key it is meant: the one to which the token is made out.
    let recipient = claim.credential.public_key().fingerprint();
    let row = assignment.key.unproven();
    let fits = is_for(row, serial, Some(&recipient)) && row.slot == *slot;
    if assignment.meant_for_present_key && fits {
        return Ok(assignment.key);
    }
    Err(refused(
        Reason::NoKeyAssigned,
        format!("{serial} has enrolled again since slot {slot} was assigned: assign it anew"),
    ))
}

/// Whether a row is this device's, for this encryption key.
fn is_for(row: &DeviceKey, serial: &DeviceSerial, recipient: Option<&[u8; 32]>) -> bool {
    row.device == *serial && row.recipient.as_deref() == recipient.map(|recipient| &recipient[..])
}

/// Whether the terminal's RSA key is as strong as the key that it shall carry.
fn require_strength(
    host: &Host,
    serial: &DeviceSerial,
    credential: &VerifiedCredential,
    kind: KeyKind,
) -> Result<(), HostError> {
    let PublicKeyKind::Rsa { bits } = credential.public_key().kind() else {
        return Err(refused(Reason::CredentialRejected, "not an RSA key"));
    };
    // Two-key TDEA counts as 112 bits at the most, which RSA-2048 matches.
    let carries_aes = matches!(kind, KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256);
    if !carries_aes || bits >= RSA_BITS_FOR_AES_128 {
        return Ok(());
    }
    let cause = format!("{serial} has an RSA key of {bits} bits, weaker than its {kind} key");
    match host.config().key_strength {
        KeyStrength::Require => Err(refused(Reason::KeyTooWeak, cause)),
        KeyStrength::Warn => {
            tracing::warn!("{cause}");
            Ok(())
        }
    }
}

/// Takes a receipt: the delivery is confirmed, or the device quarantined.
pub(crate) async fn confirm(
    host: &Host,
    device: &AuthenticatedDevice,
    receipt: &Receipt,
) -> Result<(), HostError> {
    let outcome = match SignedStatement::verify(device, receipt) {
        Ok(statement) => settle(host, device, statement.statement()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        refused_rows::report_cause(host, device.serial(), error).await;
        // A mismatch was recorded with what it changed.
        if error.reason() != Reason::KcvMismatch {
            record_refusal(host, device.serial(), "delivery.confirm", error).await?;
        }
    }
    outcome
}

/// How often a receipt is looked at again because its rows were changed at the same time.
const TRIES: usize = 3;

async fn settle(
    host: &Host,
    device: &AuthenticatedDevice,
    statement: &ReceiptStatement,
) -> Result<(), HostError> {
    let serial = device.serial();
    for _ in 0..TRIES {
        let settlement = Settlement::prepare(host, serial, statement).await?;
        if let Some(outcome) = settlement.write(host, serial, statement).await? {
            rollout::heard(host);
            return outcome;
        }
    }
    let cause = format!("{serial}: the key is being changed all the time");
    Err(refused(Reason::WrongState, cause))
}

/// What a receipt leads to, as far as the HSM has to do with it.
struct Settlement {
    /// The key that was delivered.
    key: Proven<DeviceKey>,
    /// If the receipt is right.
    change: Change,
}

impl Settlement {
    /// Has the HSM verify the row of the delivered key and seal what a right receipt makes of it.
    async fn prepare(
        host: &Host,
        serial: &DeviceSerial,
        statement: &ReceiptStatement,
    ) -> Result<Self, HostError> {
        let mut tx = host.store().read(host.now()).await?;
        let delivery = require_delivery(&mut tx, serial, statement).await?;
        let slot = Slot::parse(&delivery.slot)?;
        let key = tx.device_key(serial, &slot, delivery.version).await?;
        let key = key.ok_or_else(|| gone(&delivery))?;
        let live = tx.live_device_keys(serial, Some(&slot)).await?;
        drop(tx);
        let key = host.keys().prove_one(key).await?;
        // Nothing is known of it any more.
        if key.state == DeviceKeyState::Discarded {
            return Err(unknown_delivery(serial, statement));
        }
        Ok(Self {
            change: device_keys::prepare_confirmation(host, &key, live).await?,
            key,
        })
    }

    /// Writes it down. `None` if the rows are not what they were.
    async fn write(
        &self,
        host: &Host,
        serial: &DeviceSerial,
        statement: &ReceiptStatement,
    ) -> Result<Option<Result<(), HostError>>, HostError> {
        let mut tx = host.store().write(host.now()).await?;
        let standing = tx.standing(serial, None).await?;
        binding::require_bound(serial, standing)?;
        let delivery = require_delivery(&mut tx, serial, statement).await?;
        let key = &self.key;
        // Somebody may have made the delivery's row say so, which makes no key good.
        let is_settled =
            delivery.state == DeliveryState::Confirmed && key.state != DeviceKeyState::Pending;
        if delivery.expired && !is_settled {
            expire(tx, &delivery).await?;
            return Err(unknown_delivery(serial, statement));
        }
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
        if right && is_settled {
            return Ok(Some(Ok(())));
        }
        let (state, outcome) = if right {
            (DeliveryState::Confirmed, "ok")
        } else {
            (DeliveryState::Mismatch, Reason::KcvMismatch.as_str())
        };
        tx.set_delivery_state(&delivery.id, delivery.state, state)
            .await?;
        if right {
            if !self.change.try_apply(host, &mut tx).await? {
                return Ok(None);
            }
        } else {
            quarantine(&mut tx, serial).await?;
        }
        if right {
            for row in self.change.replaced() {
                export::queue(&mut tx, row).await?;
            }
        }
        let destroyed = self
            .change
            .replaced()
            .filter(|row| row.state == DeviceKeyState::Destroyed);
        let destroyed: Vec<u32> = destroyed.filter(|_| right).map(|row| row.version).collect();
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
                "slot": delivery.slot,
                "version": delivery.version,
                "expected": key.kcv.to_string(),
                "reported": reported.to_string(),
                "destroyed-versions": destroyed,
            }),
        })
        .await?;
        tx.commit().await?;
        if right {
            export::queued(host);
            return Ok(Some(Ok(())));
        }
        let cause = format!("{serial} reported {reported} for delivery {}", delivery.id);
        Ok(Some(Err(refused(Reason::KcvMismatch, cause))))
    }
}

fn unknown_delivery(serial: &DeviceSerial, statement: &ReceiptStatement) -> HostError {
    refused(
        Reason::DeliveryUnknown,
        format!("{serial} has no open delivery {:?}", statement.delivery_id),
    )
}

fn gone(delivery: &Delivery) -> HostError {
    HostError::Internal(format!("the key of delivery {} is gone", delivery.id))
}

/// The delivery that a device names, if it can be settled still.
async fn require_delivery(
    tx: &mut Tx,
    serial: &DeviceSerial,
    statement: &ReceiptStatement,
) -> Result<Delivery, HostError> {
    let delivery = tx.delivery(&statement.delivery_id).await?;
    let own = delivery.filter(|delivery| delivery.device == *serial);
    let delivery = own.ok_or_else(|| unknown_delivery(serial, statement))?;
    match delivery.state {
        // The answer to a receipt may have been lost, so the same one is taken again.
        DeliveryState::Issued | DeliveryState::Confirmed => Ok(delivery),
        DeliveryState::Prepared
        | DeliveryState::Mismatch
        | DeliveryState::Superseded
        | DeliveryState::Expired
        | DeliveryState::Ended
        | DeliveryState::Abandoned => Err(unknown_delivery(serial, statement)),
    }
}

/// A device that reported a wrong check value gets nothing before an operator has looked at it.
async fn quarantine(tx: &mut Tx, serial: &DeviceSerial) -> Result<(), HostError> {
    let stored = tx.device(serial).await?;
    let stored = stored.ok_or_else(|| HostError::Internal("the device is gone".to_owned()))?;
    let state = stored
        .state
        .after(DeviceEvent::WrongKcv, stored.state_before)
        .ok_or_else(|| HostError::Internal("quarantine is not possible".to_owned()))?;
    Ok(tx.set_device_state(&stored, state).await?)
}

/// Puts down that a delivery has expired.
async fn expire(mut tx: Tx, delivery: &Delivery) -> Result<(), HostError> {
    tx.set_delivery_state(&delivery.id, delivery.state, DeliveryState::Expired)
        .await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: "delivery.expired",
        device: Some(&delivery.device),
        outcome: "ok",
        detail: json!({"delivery": delivery.id}),
    })
    .await?;
    Ok(tx.commit().await?)
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
