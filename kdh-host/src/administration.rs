//! What operators do. Each act is recorded under the operator's name in the transaction that makes
//! it true.

use hsm::{FoundKey, HsmError, Kcv, KeyName};
use kdh_proto::{
    Reason,
    v1::{AssignKeyRequest, AuditRecord, ListDevicesRequest},
};
use pki::{Certificate, Role};
use serde_json::json;
use time::OffsetDateTime;
use tr34::{Kbh, KeyKind};

use crate::{
    Host, HostError,
    bdks::DerivedKey,
    claims,
    config::OperatorRole,
    delivery::{self, ProvenAssignment},
    device_keys::{self, NewKey, SlotNow, UniqueKey},
    enrolment::hash_code,
    error::refused,
    host::random,
    key_profile::{
        Target,
        in_force::{self, Named},
        profile::{self, ProfileSlot},
    },
    mirror,
    names::{DeviceSerial, GroupName, KeyAlias, Model, Slot, Why, beginning},
    refused_rows,
    state::{DeviceEvent, DeviceState},
    store::{
        Actor, AuditEntry, BindingOrder, Delivery, Device, DeviceKey, KEY_ASSIGNED, KEY_REGISTERED,
        KeyPlace, ProfileVersion, Proven, Purpose, Sealed, StoreError, StoredKey, Tx, time_text,
    },
    validity,
};

/// Bytes of randomness in an activation code: 16 characters of 5 bits.
const CODE_LEN: usize = 10;
/// Crockford's base 32: no I, L, O, U, which people take for something else.
const CODE_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters between the dashes of an activation code.
const CODE_GROUP: usize = 4;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// An operator, by certificate and configured roles. Made by [`authenticate`] alone.
#[derive(Debug)]
pub(crate) struct Operator {
    name: String,
}

impl Operator {
    /// The common name in the certificate.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::Operator(self.name.clone())
    }
}

/// Identifies an operator who has one of the roles that a call needs.
pub(crate) async fn authenticate(
    host: &Host,
    peer: Option<&Certificate>,
    call: &'static str,
    allowed: &[OperatorRole],
) -> Result<Operator, HostError> {
    let peer = peer.ok_or_else(|| refused(Reason::IdentityMismatch, "no client certificate"))?;
    let ca_ops = &host.config().certificates.ca_ops;
    pki::verify_unlisted(peer, ca_ops, Role::Operator, host.now())
        .map_err(|error| refused(Reason::CredentialRejected, error))?;
    let name = peer
        .common_name()
        .ok_or_else(|| refused(Reason::CredentialRejected, "no common name"))?;
    let operators = &host.config().operators;
    let listed = operators
        .iter()
        .find(|operator| operator.certificate.der() == peer.der());
    let operator = Operator { name };
    let why = match listed {
        Some(listed) if allowed.iter().any(|role| listed.roles.contains(role)) => {
            return Ok(operator);
        }
        Some(_) => {
            let allowed: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
            let needed = allowed.join(" or ");
            format!("{}: {call} takes the role {needed}", operator.name)
        }
        None => format!(
            "this certificate of {}, serial number {}, is not in the host's configuration",
            operator.name,
            peer.serial()
        ),
    };
    let error = refused(Reason::RoleMissing, why);
    record_refusal(host, &operator, call, &error).await?;
    Err(error)
}

/// Does what an operator asks for; that it was refused is on the record, too.
pub(crate) async fn on_record<T>(
    host: &Host,
    operator: &Operator,
    call: &'static str,
    act: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    let outcome = act.await;
    if let Err(error) = &outcome {
        record_refusal(host, operator, call, error).await?;
    }
    outcome
}

async fn record_refusal(
    host: &Host,
    operator: &Operator,
    call: &'static str,
    error: &HostError,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "operator.refused",
        device: None,
        outcome: error.for_operator().0.as_str(),
        // What the operator is told, which names what they asked for.
        detail: json!({"call": call, "why": error.to_string()}),
    })
    .await?;
    Ok(tx.commit().await?)
}

/// How many rows a page has.
pub(crate) fn page_size(limit: u32) -> i64 {
    let limit = if limit == 0 {
        DEFAULT_LIMIT
    } else {
        limit.min(MAX_LIMIT)
    };
    i64::from(limit)
}

fn unknown_device(serial: &DeviceSerial) -> HostError {
    refused(Reason::NotFound, format!("there is no device {serial}"))
}

/// A device that an operator names.
///
/// # Errors
/// [`Reason::NotFound`]: there is none. [`StoreError::NotRecorded`]: its row is gone.
pub(crate) async fn require_device(
    tx: &mut Tx,
    serial: &DeviceSerial,
) -> Result<Device, HostError> {
    if let Some(device) = tx.device(serial).await? {
        return Ok(device);
    }
    if tx.trail_of(serial).is_known() {
        return Err(StoreError::NotRecorded(format!("device {serial}")).into());
    }
    Err(unknown_device(serial))
}

/// Registers a device.
pub(crate) async fn add_device(
    host: &Host,
    operator: &Operator,
    serial: &str,
    model: &str,
) -> Result<Device, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let model = Model::parse(model)?;
    let mut tx = host.store().write(host.now()).await?;
    if !tx.insert_device(&serial, &model).await? {
        return Err(refused(
            Reason::AlreadyExists,
            format!("device {serial} exists already"),
        ));
    }
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "device.added",
        device: Some(&serial),
        outcome: "ok",
        detail: json!({"model": model.as_str()}),
    })
    .await?;
    let device = require_device(&mut tx, &serial).await?;
    tx.commit().await?;
    Ok(device)
}

/// Lists devices in the order of their serial numbers.
pub(crate) async fn list_devices(
    host: &Host,
    request: &ListDevicesRequest,
) -> Result<Vec<Device>, HostError> {
    let group = match &*request.group {
        "" => None,
        name => Some(GroupName::parse(name)?),
    };
    let state = match &*request.state {
        "" => None,
        word => Some(DeviceState::parse(word).ok_or_else(|| {
            let words: Vec<_> = DeviceState::ALL
                .iter()
                .map(|state| state.as_str())
                .collect();
            refused(
                Reason::RequestInvalid,
                format!("{word:?} is no state; states are {}", words.join(", ")),
            )
        })?),
    };
    let mut tx = host.store().read(host.now()).await?;
    let (group, limit) = (group.as_ref(), page_size(request.limit));
    Ok(tx.devices(state, group, &request.after, limit).await?)
}

/// A device with all that the registry knows of it.
#[derive(Debug)]
pub(crate) struct DeviceDetails {
    pub(crate) device: Device,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) assignments: Vec<ProvenAssignment>,
    /// Where rows of its keys stand that are not as the HSM has sealed them.
    pub(crate) refused: Vec<KeyPlace>,
    /// Slots whose keys are older than the profile lets them be.
    pub(crate) expired: Vec<Slot>,
    pub(crate) order: Option<BindingOrder>,
    /// The key profile that says what it holds, and what carries that.
    pub(crate) profile: Option<(Target, ProfileVersion)>,
}

/// Shows a device.
pub(crate) async fn show_device(host: &Host, serial: &str) -> Result<DeviceDetails, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let mut tx = host.store().read(host.now()).await?;
    let device = require_device(&mut tx, &serial).await?;
    let certificate = tx.current_certificate(&serial, Purpose::Encryption).await?;
    let standing = tx.standing(&serial, None).await?;
    let order = tx.open_order(&serial).await?;
    let profile = tx.profile_of(&device).await?;
    drop(tx);
    let mut expired = Vec::new();
    let assignments = standing.map_or_else(Vec::new, |standing| standing.assignments);
    for assignment in &assignments {
        let key = assignment.key.unproven();
        let version = profile.as_ref().map(|(_, version)| version);
        if validity::expired_after(host.now(), version, key)?.is_some() {
            expired.push(key.slot.clone());
        }
    }
    Ok(DeviceDetails {
        certificate: certificate.map(|stored| stored.certificate()).transpose()?,
        assignments: delivery::proven(host, assignments).await?,
        refused: refused_rows::of_device(host, &serial).await?,
        expired,
        device,
        order,
        profile,
    })
}

/// Suspends, resumes or revokes a device.
pub(crate) async fn move_device(
    host: &Host,
    operator: &Operator,
    serial: &str,
    event: DeviceEvent,
    why: &str,
) -> Result<Device, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let why = Why::parse(why)?;
    let mut tx = host.store().write(host.now()).await?;
    let device = require_device(&mut tx, &serial).await?;
    let state = match device.state.after(event, device.state_before) {
        Some(state) => state,
        // By its row it is REVOKED. One that says otherwise may come back.
        None if event == DeviceEvent::Revoked && !tx.trail_of(&serial).is_revoked_for_certain() => {
            DeviceState::Revoked
        }
        None => {
            let state = device.state.as_str();
            let cause = format!("{serial} is {state}: this is not possible now");
            return Err(refused(Reason::WrongState, cause));
        }
    };
    tx.set_device_state(&device, state).await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: match event {
            DeviceEvent::Suspended => "device.suspended",
            DeviceEvent::Resumed => "device.resumed",
            DeviceEvent::Revoked => "device.revoked",
            DeviceEvent::Enrolled
            | DeviceEvent::Bound
            | DeviceEvent::WrongKcv
            | DeviceEvent::Unbound
            | DeviceEvent::Rebound
            | DeviceEvent::StillBound => "device.moved",
        },
        device: Some(&serial),
        outcome: "ok",
        detail: json!({
            "why": why.as_str(),
            "from": device.state.as_str(),
            "to": state.as_str(),
        }),
    })
    .await?;
    if event == DeviceEvent::Revoked {
        mirror::record_retirement(host, &mut tx, &device).await?;
    }
    let device = require_device(&mut tx, &serial).await?;
    tx.commit().await?;
    Ok(device)
}

/// Makes an activation code. It is shown this once; the database keeps its hash, and so does the audit trail.
pub(crate) async fn issue_activation_code(
    host: &Host,
    operator: &Operator,
    serial: &str,
) -> Result<(String, OffsetDateTime), HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let code = spell(&random::<CODE_LEN>()?);
    let now = host.now();
    let expires_at = now + host.config().activation_code_lifetime;
    let mut tx = host.store().write(now).await?;
    let device = require_device(&mut tx, &serial).await?;
    if device
        .state
        .after(DeviceEvent::Enrolled, device.state_before)
        .is_none()
    {
        return Err(refused(
            Reason::WrongState,
            format!("{serial} is {} and cannot enrol", device.state.as_str()),
        ));
    }
    let under_way = tx.activation_code(&serial).await?;
    if let Some(code) = under_way
        && let Some(claim) = code.claim
        && !code.used
    {
        if host.under_way().contains(&claim.id) {
            return Err(refused(
                Reason::WrongState,
                format!("{serial} is enrolling this moment"),
            ));
        }
        claims::release_enrolment(&mut tx, &serial, &claim.id).await?;
    }
    let hash = hash_code(&serial, &code);
    tx.put_activation_code(&serial, &hash, expires_at).await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "device.code-issued",
        device: Some(&serial),
        outcome: "ok",
        detail: json!({"code-sha256": hex::encode(hash), "expires-at": time_text(expires_at)?}),
    })
    .await?;
    tx.commit().await?;
    Ok((code, expires_at))
}

/// 80 bits as people type them: XXXX-XXXX-XXXX-XXXX.
fn spell(random: &[u8; CODE_LEN]) -> String {
    let bits = random
        .iter()
        .fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let characters = CODE_LEN * 8 / 5;
    let mut code = String::with_capacity(characters + characters / CODE_GROUP);
    for index in 0..characters {
        if index > 0 && index % CODE_GROUP == 0 {
            code.push('-');
        }
        let shift = (characters - 1 - index) * 5;
        let digit = usize::try_from(bits >> shift & 0x1F).unwrap_or_default();
        code.push(CODE_ALPHABET.get(digit).copied().map_or('0', char::from));
    }
    code
}

/// What an operator says of a key that lies in the HSM.
#[derive(Debug)]
pub(crate) struct KeyRegistration<'a> {
    pub(crate) name: &'a str,
    pub(crate) hsm_label: &'a str,
    pub(crate) header: &'a str,
    pub(crate) kcv: Option<Kcv>,
}

/// Makes a key known: it must be in the HSM, strong enough, of the kind that its header says, with
/// the check value that the ceremony reported, and of a length that this HSM can seal.
pub(crate) async fn register_key(
    host: &Host,
    operator: &Operator,
    request: KeyRegistration<'_>,
) -> Result<StoredKey, HostError> {
    let invalid = |cause: String| refused(Reason::RequestInvalid, cause);
    let name = KeyAlias::parse(request.name)?;
    let label = request.hsm_label.to_owned();
    KeyName::new(&label).map_err(|error| invalid(error.to_string()))?;
    let header =
        Kbh::parse_plain(request.header.as_bytes()).map_err(|error| invalid(error.to_string()))?;
    let expected = request
        .kcv
        .ok_or_else(|| invalid("a key check value of 3 to 5 bytes is needed".to_owned()))?;
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "key.register.intent",
        device: None,
        outcome: "ok",
        detail: json!({"key": name.as_str(), "hsm-label": label}),
    })
    .await?;
    tx.commit().await?;
    let (for_hsm, header_for_hsm) = (label.clone(), header.clone());
    let found = host
        .in_hsm(move |keys| {
            let found = keys.master_key(&for_hsm).map_err(fault_of_key)?;
            require_kind(&header_for_hsm, found.key().kind())?;
            keys.verify_sealable(found.key(), &header_for_hsm)?;
            Ok(found)
        })
        .await?;
    if *found.kcv() != expected {
        return Err(other_kcv(&expected));
    }
    let registered = found.key().name().clone();
    host.in_hsm(move |keys| Ok(keys.forget_unfinished(&registered)?))
        .await?;
    let known = NewlyKnown::prepare(host, name, header, &found).await?;
    let tx = host.store().write(host.now()).await?;
    known.commit(host, tx, operator).await
}

/// The right one is for the key's sender, or the ceremony's transcript, to tell.
fn other_kcv(expected: &Kcv) -> HostError {
    let cause = format!("the key does not have the check value {expected}");
    refused(Reason::KcvMismatch, cause)
}

/// What an operator learns of a key that they named, or had unwrapped, and that will not do.
pub(crate) fn fault_of_key(error: HsmError) -> HostError {
    match error {
        HsmError::KeyNotFound { .. } => refused(Reason::NotFound, error),
        HsmError::KeyExists { label } => {
            let cause = format!(
                "a key called {label} is in the HSM already: register it, or choose another name"
            );
            refused(Reason::AlreadyExists, cause)
        }
        HsmError::KcvMismatch { expected, .. } => other_kcv(&expected),
        HsmError::KeyNotUnique { .. }
        | HsmError::WeakKey { .. }
        | HsmError::KeyDiffers { .. }
        | HsmError::Import(_) => refused(Reason::RequestInvalid, error),
        other => other.into(),
    }
}

/// The key is of the kind that its header says.
fn require_kind(header: &Kbh, kind: KeyKind) -> Result<(), HostError> {
    let expected = header.key_kind(kind.key_len());
    let expected = expected.map_err(|error| refused(Reason::RequestInvalid, error))?;
    if expected == kind {
        return Ok(());
    }
    let cause = format!("the header is for {expected}, the key is {kind}");
    Err(refused(Reason::RequestInvalid, cause))
}

/// A key that was found in the HSM and shall be known, as the HSM has sealed its row.
pub(crate) struct NewlyKnown<'f> {
    row: Sealed<StoredKey>,
    found: &'f FoundKey,
}

impl<'f> NewlyKnown<'f> {
    pub(crate) async fn prepare(
        host: &Host,
        name: KeyAlias,
        header: Kbh,
        found: &'f FoundKey,
    ) -> Result<Self, HostError> {
        let key = StoredKey {
            name,
            hsm_label: found.key().name().label().to_owned(),
            header,
            kind: found.key().kind(),
            kcv: found.kcv().clone(),
            created_at: time_text(host.now())?,
        };
        Ok(Self {
            row: host.keys().seal_one(key).await?,
            found,
        })
    }

    /// Makes it known, with whatever else is in the transaction.
    pub(crate) async fn commit(
        self,
        host: &Host,
        mut tx: Tx,
        operator: &Operator,
    ) -> Result<StoredKey, HostError> {
        let key = self.row.unproven();
        if !host.keys().is_under_present(&self.row) {
            let cause = "the storage keys were changed at the same time: try again";
            return Err(refused(Reason::WrongState, cause));
        }
        if !tx.insert_key(&self.row).await? {
            return Err(refused(
                Reason::AlreadyExists,
                format!(
                    "the name {} or the label {} is taken",
                    key.name, key.hsm_label
                ),
            ));
        }
        tx.record(AuditEntry {
            actor: &operator.actor(),
            action: KEY_REGISTERED,
            device: None,
            outcome: "ok",
            detail: key.registration(),
        })
        .await?;
        // Before anyone can ask for it.
        host.keys().hold(key.clone(), self.found);
        if let Err(error) = tx.commit().await {
            host.keys().release(&key.name, self.found.key());
            return Err(error.into());
        }
        Ok(key.clone())
    }
}

/// All keys that are known.
pub(crate) async fn list_keys(host: &Host) -> Result<Vec<Proven<StoredKey>>, HostError> {
    let keys = host.store().read(host.now()).await?.keys().await?;
    host.keys().prove(keys).await
}

/// Gives a device a key in a slot. The device must have the encryption key with the expected digest,
/// if one is expected.
pub(crate) async fn assign_key(
    host: &Host,
    operator: &Operator,
    request: &AssignKeyRequest,
) -> Result<DeviceKey, HostError> {
    let serial = DeviceSerial::parse(&request.serial_number)?;
    let slot = Slot::parse(&request.slot)?;
    let mut tx = host.store().read(host.now()).await?;
    let device = require_running(&mut tx, &serial).await?;
    let (new, named) = new_key(host, &mut tx, &device, &slot, &request.key_name).await?;
    let slot = SlotNow::read(&mut tx, &serial, &slot).await?;
    drop(tx);
    let recipient = slot.recipient.clone();
    let expected = request.encryption_key_sha256.to_ascii_lowercase();
    let digest = recipient.as_ref().map(hex::encode);
    if !expected.is_empty() && digest.as_ref() != Some(&expected) {
        return Err(refused(
            Reason::WrongState,
            format!(
                "the encryption key of {serial} has the digest {}, not {expected}",
                digest.as_deref().unwrap_or("of none")
            ),
        ));
    }
    let change = device_keys::prepare_next(host, vec![slot], &new).await?;
    let mut tx = host.store().write(host.now()).await?;
    require_running(&mut tx, &serial).await?;
    if device_keys::recipient(&mut tx, &serial).await? != recipient {
        let cause =
            format!("{serial} has enrolled again at the same time: look at it, and try again");
        return Err(refused(Reason::WrongState, cause));
    }
    if let (
        NewKey::Shared(key),
        Some(Named {
            is_shared: false, ..
        }),
    ) = (&new, &named)
        && tx.is_held_elsewhere(&key.name, &serial).await?
    {
        let cause = format!(
            "the key {} was assigned to another device at the same time: try again",
            key.name
        );
        return Err(refused(Reason::WrongState, cause));
    }
    change.apply(host, &mut tx).await?;
    let key = change.added().next();
    let key = key.ok_or_else(|| HostError::Internal("nothing was assigned".to_owned()))?;
    let initial_key = key.source.initial_key();
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: KEY_ASSIGNED,
        device: Some(&serial),
        outcome: "ok",
        detail: json!({
            "slot": key.slot.as_str(),
            "version": key.version,
            "source": key.source.as_str(),
            "key": key.source.key_name().map(KeyAlias::as_str),
            "bdk": initial_key.map(|(bdk, _)| bdk.as_str()),
            "initial-key-id": initial_key.map(|(_, id)| id.to_string()),
            "header": key.header.to_string(),
            "kcv": key.kcv.to_string(),
            "encryption-key": digest,
            "warned-of": named.map(|named| named.warnings),
        }),
    })
    .await?;
    tx.commit().await?;
    Ok(key.clone())
}

async fn require_running(tx: &mut Tx, serial: &DeviceSerial) -> Result<Device, HostError> {
    let device = require_device(tx, serial).await?;
    if device.state == DeviceState::Revoked {
        return Err(refused(Reason::WrongState, format!("{serial} is REVOKED")));
    }
    Ok(device)
}

/// What an operator wants a slot to get: a registered key that they name, or what the device's profile says.
async fn new_key(
    host: &Host,
    tx: &mut Tx,
    device: &Device,
    slot: &Slot,
    key_name: &str,
) -> Result<(NewKey, Option<Named>), HostError> {
    if !key_name.is_empty() {
        let key = shared_key(host, tx, &KeyAlias::parse(key_name)?).await?;
        let named = in_force::judge_named(host, tx, device, slot, &key).await?;
        return Ok((NewKey::Shared(key), Some(named)));
    }
    let (version, planned) = in_force::slot_of(host, tx, device, slot).await?;
    let new = key_by_profile(host, tx, &version, &planned).await?;
    Ok((new, None))
}

/// What a version of a profile says that a slot gets.
pub(crate) async fn key_by_profile(
    host: &Host,
    tx: &mut Tx,
    version: &ProfileVersion,
    planned: &ProfileSlot,
) -> Result<NewKey, HostError> {
    match &planned.source {
        profile::KeySource::Shared(name) => {
            let key = shared_key(host, tx, name).await?;
            in_force::require_fits(version, planned, &key)?;
            Ok(NewKey::Shared(key))
        }
        profile::KeySource::Unique => {
            let key = UniqueKey {
                header: planned.header.clone(),
                kind: planned.kind,
                kcv_len: usize::try_from(planned.kcv.len).unwrap_or_default(),
            };
            host.keys().verify_makeable(&key)?;
            Ok(NewKey::Unique(key))
        }
        profile::KeySource::Derived(derivation) => {
            let key = DerivedKey::new(planned, derivation);
            let wanted = key.clone();
            host.in_hsm(move |keys| keys.verify_derivable(&wanted))
                .await?;
            Ok(NewKey::Derived(key))
        }
    }
}

async fn shared_key(host: &Host, tx: &mut Tx, name: &KeyAlias) -> Result<StoredKey, HostError> {
    let missing = || refused(Reason::NotFound, format!("there is no key {name}"));
    let key = tx.key(name).await?.ok_or_else(missing)?;
    let key = host.keys().prove_one(key).await?;
    Ok(StoredKey::clone(&key))
}

/// A kind of key by its name.
pub(crate) fn parse_kind(kind: &str) -> Result<KeyKind, HostError> {
    KeyKind::from_name(kind).ok_or_else(|| {
        let kind = beginning(kind);
        let kinds = KeyKind::ALL.map(KeyKind::name).join(", ");
        let cause = format!("{kind:?} is no kind of key: name one of {kinds}");
        refused(Reason::RequestInvalid, cause)
    })
}

/// Deliveries, newest first.
pub(crate) async fn list_deliveries(
    host: &Host,
    serial: &str,
    before: &str,
    limit: u32,
) -> Result<Vec<Delivery>, HostError> {
    let serial = match serial {
        "" => None,
        serial => Some(DeviceSerial::parse(serial)?),
    };
    let mut tx = host.store().read(host.now()).await?;
    Ok(tx
        .deliveries(serial.as_ref(), before, page_size(limit))
        .await?)
}

/// The audit trail, oldest first.
pub(crate) async fn list_audit_records(
    host: &Host,
    after: u64,
    limit: u32,
) -> Result<Vec<AuditRecord>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    Ok(tx.audit_records(after, page_size(limit)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activation_code_spells_all_its_bits() {
        assert_eq!(spell(&[0; CODE_LEN]), "0000-0000-0000-0000");
        assert_eq!(spell(&[0xFF; CODE_LEN]), "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        let mut one = [0; CODE_LEN];
        one[CODE_LEN - 1] = 1;
        assert_eq!(spell(&one), "0000-0000-0000-0001");
    }

    #[test]
    #[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn a_code_is_the_same_however_it_is_typed() {
        let [one, other] = ["SN-1", "SN-2"].map(|serial| DeviceSerial::parse(serial).unwrap());
        let code = hash_code(&one, "ABCD-EFGH-JKMN-PQRS");
        assert_eq!(hash_code(&one, "abcdefghjkmnpqrs"), code);
        assert_eq!(hash_code(&one, "ABCDEFGH-jkmnpqrs"), code);
        assert_ne!(hash_code(&one, "ABCD-EFGH-JKMN-PQRT"), code);
        assert_ne!(hash_code(&other, "ABCD-EFGH-JKMN-PQRS"), code);
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(page_size(0), 100);
        assert_eq!(page_size(7), 7);
        assert_eq!(page_size(u32::MAX), 1000);
    }
}
