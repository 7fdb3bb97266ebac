//! What `CA_KRD` signs for a terminal whose KDH is lost: that it is unbound, or bound to another one.
//!
//! Such a token holds no nonce, so nothing but the terminal's memory keeps it from being used twice. It takes
//! two operators, and for an encryption certificate and a KDH there is one at most, which is kept.

use kdh_proto::Reason;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tr34::{CaRebindToken, CaUnbindToken, IssuerAndSerial, TokenDraft};

use crate::{
    Host, HostError,
    administration::{Operator, page_size, require_device},
    binding::{self, AuthenticatedDevice},
    claims::Working,
    dual_control,
    error::refused,
    mirror,
    names::{DeviceSerial, Why},
    other_kdh,
    state::{AuthorityState, BindingChange, BindingTokenState, DeviceState, EndOfBinding},
    store::{
        Actor, AuditEntry, AuthorityRequest, BindingToken, MadeFor, NewAuthorityRequest, Purpose,
        StoreError, Tx,
    },
    transport::record_refusal,
};

/// The action of the record that says what was asked for.
const ASKED: &str = "authority.asked";

/// Asks that `CA_KRD` takes a device from the KDH that is lost. Both certificates are DER.
pub(crate) async fn ask(
    host: &Host,
    operator: &Operator,
    serial: &str,
    change: BindingChange<&[u8]>,
    kdh: &[u8],
    why: &str,
) -> Result<AuthorityRequest, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let why = Why::parse(why)?;
    let kdh = other_kdh::verify_lost(host, kdh)?;
    if let BindingChange::Rebind(der) = change {
        require_target(host, other_kdh::verify_new(host, der).await?.id(), &kdh)?;
    }
    let id = dual_control::new_id()?;
    let now = host.now();
    let mut tx = host.store().write(now).await?;
    let certificate = present_certificate(host, &mut tx, &serial).await?;
    for expired in tx.expire_authority_requests(&serial).await? {
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "authority.expired",
            device: Some(&serial),
            outcome: "ok",
            detail: json!({"request": expired}),
        })
        .await?;
    }
    let request = NewAuthorityRequest {
        id: &id,
        device: &serial,
        certificate: &certificate,
        change,
        kdh: &kdh,
        by: operator.name(),
        why: &why,
        expires_at: now + host.config().approval_lifetime,
    };
    if !tx.insert_authority_request(&request).await? {
        let cause = format!(
            "for {serial} and this KDH there is a request already, open or signed: a token that cannot be \
             told from its copies is made once"
        );
        return Err(refused(Reason::AlreadyExists, cause));
    }
    let request = require_request(&mut tx, &id).await?;
    record(&mut tx, &operator.actor(), ASKED, &request).await?;
    tx.commit().await?;
    Ok(request)
}

/// The KDH to which the token shall bind is one at which the device can stay.
fn require_target(
    host: &Host,
    new: &IssuerAndSerial,
    lost: &IssuerAndSerial,
) -> Result<(), HostError> {
    let cause = if new == lost {
        "the new KDH is the one that is lost"
    } else if host.keys().kdhs().is_retiring(new) {
        // It would be handed over from there, and perhaps to the one that it never goes back to.
        "the new KDH is one that this host is retiring: name its present one"
    } else {
        return Ok(());
    };
    Err(refused(Reason::RequestInvalid, cause))
}

/// Approves a request of somebody else's: its token is signed and kept.
pub(crate) async fn approve(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<AuthorityRequest, HostError> {
    let approval = claim(host, operator, id).await?;
    match sign(host, operator, &approval).await {
        Ok(request) => Ok(request),
        Err(error) => {
            let mut tx = host.store().write(host.now()).await?;
            release(&mut tx, &approval.request, error.reason().as_str()).await?;
            tx.commit().await?;
            Err(error)
        }
    }
}

/// An approval that is on record. Ends with a token, or is taken back.
struct Approval {
    _working: Working,
    request: AuthorityRequest,
}

async fn claim(host: &Host, operator: &Operator, id: &str) -> Result<Approval, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let request = require_open(&mut tx, id).await?;
    // Nobody else works on what is open.
    let working = host.under_way().begin(id.to_owned());
    require_recorded(host, &request)?;
    dual_control::require_another(&request.asked_by, operator)?;
    if present_certificate(host, &mut tx, &request.device).await? != request.certificate {
        let cause = format!("{} has enrolled again since: ask anew", request.device);
        return Err(refused(Reason::WrongState, cause));
    }
    let (asked, approved) = (AuthorityState::Asked, AuthorityState::Approved);
    tx.set_authority_state(id, asked, approved, Some(operator.name()))
        .await?;
    record(&mut tx, &operator.actor(), "authority.approved", &request).await?;
    tx.commit().await?;
    Ok(Approval {
        _working: working,
        request,
    })
}

/// From an approval to a token that is on record.
async fn sign(
    host: &Host,
    operator: &Operator,
    approval: &Approval,
) -> Result<AuthorityRequest, HostError> {
    let request = &approval.request;
    let draft = draft(host, request).await?;
    let token = host.in_hsm(|keys| keys.sign_as_ca_krd(draft)).await?;
    let sha256 = Sha256::digest(&token);
    let mut tx = host.store().write(host.now()).await?;
    tx.put_authority_token(&request.id, &token).await?;
    tx.insert_binding_token(&BindingToken {
        id: request.id.clone(),
        device: request.device.clone(),
        made_for: MadeFor::Authority(request.id.clone()),
        change: other_kdh::by_name(&request.change)?,
        kdh: request.kdh.clone(),
        state: BindingTokenState::Issued,
        nonce: None,
        sha256: Some(sha256.to_vec()),
    })
    .await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "authority.signed",
        device: Some(&request.device),
        outcome: "ok",
        detail: json!({"request": request.id, "token-sha256": hex::encode(sha256)}),
    })
    .await?;
    let request = require_request(&mut tx, &request.id).await?;
    tx.commit().await?;
    Ok(request)
}

async fn draft(host: &Host, request: &AuthorityRequest) -> Result<TokenDraft, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let stored = tx
        .current_certificate(&request.device, Purpose::Encryption)
        .await?;
    let device = require_device(&mut tx, &request.device).await?;
    drop(tx);
    let certificate = stored.map(|stored| stored.certificate()).transpose()?;
    let certificate = certificate
        .filter(|certificate| certificate.serial().to_string() == request.certificate)
        .ok_or_else(|| HostError::Internal("the certificate is gone".to_owned()))?;
    binding::require_enrolled(host, &request.device, Purpose::Encryption, &certificate)?;
    let krd = certificate.issuer_and_serial();
    let ours = |error: tr34::MalformedToken| HostError::Internal(error.to_string());
    let (profile, krd) = (host.config().profiles.of(&device.model), krd.map_err(ours)?);
    let (kdh, now, ca) = (&request.kdh, host.signing_time()?, host.keys().ca_krd_id());
    let draft = match &request.change {
        BindingChange::Unbind => CaUnbindToken::draft(profile, &krd, kdh, now, ca),
        BindingChange::Rebind(new_kdh) => {
            // It may have been revoked since it was asked for, or be on its way out.
            let new_kdh = other_kdh::verify_new(host, new_kdh).await?;
            require_target(host, new_kdh.id(), kdh)?;
            let new_kdh = new_kdh.certificate().der();
            CaRebindToken::draft(profile, &krd, kdh, new_kdh, now, ca)
        }
    };
    draft.map_err(ours)
}

/// Takes back an approval that led to no token: the request may be approved again.
pub(crate) async fn release(
    tx: &mut Tx,
    request: &AuthorityRequest,
    outcome: &str,
) -> Result<(), HostError> {
    let (approved, asked) = (AuthorityState::Approved, AuthorityState::Asked);
    tx.set_authority_state(&request.id, approved, asked, None)
        .await?;
    Ok(tx
        .record(AuditEntry {
            actor: &Actor::Host,
            action: "authority.released",
            device: Some(&request.device),
            outcome,
            detail: json!({"request": request.id}),
        })
        .await?)
}

/// Rejects a request, one's own too.
pub(crate) async fn reject(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<AuthorityRequest, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let request = require_open(&mut tx, id).await?;
    let (asked, rejected) = (AuthorityState::Asked, AuthorityState::Rejected);
    tx.set_authority_state(id, asked, rejected, Some(operator.name()))
        .await?;
    record(&mut tx, &operator.actor(), "authority.rejected", &request).await?;
    let request = require_request(&mut tx, id).await?;
    tx.commit().await?;
    Ok(request)
}

/// Requests, newest first.
pub(crate) async fn list(
    host: &Host,
    before: &str,
    limit: u32,
) -> Result<Vec<AuthorityRequest>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    Ok(tx.authority_requests(before, page_size(limit)).await?)
}

/// The token of a request, for an operator who brings it to the terminal.
pub(crate) async fn export(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<(AuthorityRequest, Vec<u8>), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let request = require_request(&mut tx, id).await?;
    let token = request.token.clone().ok_or_else(|| {
        let state = request.state_now().as_str();
        refused(
            Reason::WrongState,
            format!("request {id} is {state}: there is no token"),
        )
    })?;
    hand_out(host, &mut tx, &operator.actor(), &request).await?;
    tx.commit().await?;
    Ok((request, token))
}

/// What a device is to obey: the newest token for its present encryption certificate that it has not
/// acknowledged.
pub(crate) async fn fetch_for(
    host: &Host,
    device: &AuthenticatedDevice,
) -> Result<(EndOfBinding, Vec<u8>), HostError> {
    let serial = device.serial();
    let nothing = || {
        let cause = format!("nothing is signed for {serial}");
        refused(Reason::NoAuthorityToken, cause)
    };
    // Most of the time there is nothing, and writers need not be held up to see that.
    let mut tx = host.store().ask(host.now()).await?;
    if tx.pending_authority_request(serial).await?.is_none() {
        return Err(nothing());
    }
    drop(tx);
    let credential = binding::encryption_credential(host, device).await?;
    let mut tx = host.store().write(host.now()).await?;
    let standing = tx.standing(serial, None).await?;
    let standing = standing.ok_or_else(|| refused(Reason::CredentialRejected, "unknown device"))?;
    binding::require_running(serial, standing.state)?;
    binding::require_current(&standing, device, &credential)?;
    let request = tx.pending_authority_request(serial).await?;
    let request = request.ok_or_else(nothing)?;
    let token = request.token.clone().ok_or_else(nothing)?;
    hand_out(host, &mut tx, &Actor::Device(serial.clone()), &request).await?;
    tx.commit().await?;
    // The commit may have had to wait, and a revocation list may have come meanwhile.
    if let Err(error) = binding::recheck(host, device, &credential).await {
        record_refusal(host, serial, "authority.withheld", &error).await?;
        return Err(error);
    }
    Ok((request.change.kind(), token))
}

/// A token leaves. One that its device has obeyed is but a copy, which the device refuses.
async fn hand_out(
    host: &Host,
    tx: &mut Tx,
    to: &Actor,
    request: &AuthorityRequest,
) -> Result<(), HostError> {
    let token = tx.authority_token(&request.id).await?;
    let token = token.ok_or_else(|| HostError::Internal("the token is gone".to_owned()))?;
    let mut state = None;
    if token.state == BindingTokenState::Issued {
        state = Some(mirror::leave(host, tx, &token).await?);
    }
    Ok(tx
        .record(AuditEntry {
            actor: to,
            action: "authority.fetched",
            device: Some(&request.device),
            outcome: "ok",
            detail: json!({"request": request.id, "state": state.map(DeviceState::as_str)}),
        })
        .await?)
}

/// Serial number of the encryption certificate of a device that is not stopped.
async fn present_certificate(
    host: &Host,
    tx: &mut Tx,
    serial: &DeviceSerial,
) -> Result<String, HostError> {
    let device = require_device(tx, serial).await?;
    let none = || {
        let state = device.state.as_str();
        refused(
            Reason::WrongState,
            format!("{serial} is {state}: no token can be made for it"),
        )
    };
    binding::require_running(serial, device.state).map_err(|_| none())?;
    let stored = tx.current_certificate(serial, Purpose::Encryption).await?;
    let certificate = stored.ok_or_else(none)?.certificate()?;
    binding::require_enrolled(host, serial, Purpose::Encryption, &certificate)?;
    Ok(certificate.serial().to_string())
}

async fn require_request(tx: &mut Tx, id: &str) -> Result<AuthorityRequest, HostError> {
    let request = tx.authority_request(id).await?;
    request.ok_or_else(|| refused(Reason::NotFound, format!("there is no request {id:?}")))
}

/// A request that waits for a decision.
async fn require_open(tx: &mut Tx, id: &str) -> Result<AuthorityRequest, HostError> {
    let request = require_request(tx, id).await?;
    match request.state_now() {
        AuthorityState::Asked => Ok(request),
        state => {
            let cause = format!("request {id} is {}", state.as_str());
            Err(refused(Reason::WrongState, cause))
        }
    }
}

/// Puts down what an operator did about a request, and all that it says.
async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &'static str,
    request: &AuthorityRequest,
) -> Result<(), HostError> {
    Ok(tx
        .record(AuditEntry {
            actor,
            action,
            device: Some(&request.device),
            outcome: "ok",
            detail: detail(request)?,
        })
        .await?)
}

/// What a request says, however it stands.
fn detail(request: &AuthorityRequest) -> Result<Value, HostError> {
    let new_kdh = other_kdh::by_name(&request.change)?;
    let serial = |kdh: &IssuerAndSerial| hex::encode_upper(kdh.serial_bytes());
    Ok(json!({
        "request": request.id,
        "kind": request.change.kind().as_str(),
        "certificate": request.certificate,
        "kdh": serial(&request.kdh),
        "new-kdh": new_kdh.new_kdh().map(serial),
        "asked-by": request.asked_by,
        "why": request.why,
        "expires-at": request.expires_at,
    }))
}

/// A request must be what an operator asked for: whoever can write to the database must not be the first of the
/// two, nor say something else than the first did, nor bring back what was decided.
fn require_recorded(host: &Host, request: &AuthorityRequest) -> Result<(), HostError> {
    let asked = AuditEntry {
        actor: &Actor::Operator(request.asked_by.clone()),
        action: ASKED,
        device: Some(&request.device),
        outcome: "ok",
        detail: detail(request)?,
    };
    if host.store().is_open(&asked) {
        return Ok(());
    }
    Err(StoreError::Damaged("request to the authority").into())
}
