//! Keys that arrived encrypted: one operator asks, another one approves, and the HSM unwraps.
//!
//! What arrived lies in the database until then; only the HSM can open it.
//!
//! ```text
//! arrived  what arrived, as a message and the database have it
//! order    what the HSM shall bring in
//! trail    what the audit trail says of imports
//! ```

mod arrived;
mod order;
mod trail;

use hsm::{FoundKey, KeyImport, KeyName, KeyRole, UpstreamToken, WrappedKey};
use kdh_proto::{Reason, v1::AskKeyImportRequest};
use prost::Message as _;
use serde_json::json;
use tr34::Kbh;

pub(crate) use self::{
    arrived::describe,
    order::{ImportOrder, ImportedKey},
};
use self::{
    arrived::{Arrived, NOTHING},
    order::order,
    trail::{ASKED, DONE, EXPIRED, IMPORT, LEFT, REJECTED, RELEASED, record, require_recorded},
};
use crate::{
    Host, HostError,
    administration::{NewlyKnown, Operator, fault_of_key, page_size, parse_kind},
    claims::Working,
    delivery::parse_kcv,
    dual_control,
    error::refused,
    key_sender::{ArrivedToken, signed_digest},
    names::{KeyAlias, Why},
    state::KeyImportState,
    store::{Actor, AuditEntry, KeyImportRequest, NewKeyImport, Sealed, Tx},
};

const NO_KCV: &str =
    "a key check value of 3 to 5 bytes is needed, with its method: give what the sender announced";

/// The label in the HSM of a key that the host calls so.
fn label(name: &KeyAlias) -> Result<KeyName, HostError> {
    let label = format!("{}{name}", KeyRole::TransportKey.label_prefix());
    KeyName::new(&label).map_err(|error| refused(Reason::RequestInvalid, error))
}

/// Asks that a key is brought in. Everything is checked that can be without opening what arrived.
pub(crate) async fn ask(
    host: &Host,
    operator: &Operator,
    request: &AskKeyImportRequest,
) -> Result<KeyImportRequest, HostError> {
    let invalid = |cause: String| refused(Reason::RequestInvalid, cause);
    let name = KeyAlias::parse(&request.name)?;
    let why = Why::parse(&request.why)?;
    let kind = parse_kind(&request.kind)?;
    let header = Kbh::parse_plain(request.header.as_bytes());
    let header = header.map_err(|error| invalid(error.to_string()))?;
    let kcv = parse_kcv(request.kcv.as_ref());
    let kcv = kcv.ok_or_else(|| invalid(NO_KCV.into()))?;
    let wrapped = request.wrapped.as_ref();
    let wrapped = wrapped.ok_or_else(|| invalid(NOTHING.into()))?;
    let verified = match Arrived::parse(wrapped)? {
        Arrived::Wrapped(wrapped) => wrapped,
        Arrived::KeyToken { sender, token } => {
            WrappedKey::Tr34(Box::new(verify(host, sender, token).await?))
        }
    };
    let signed_sha256 = match &verified {
        WrappedKey::Tr34(token) => Some(signed_digest(token)),
        _ => None,
    };
    let import = KeyImport {
        wrapped: verified,
        kind,
        kcv,
        header: Some(header.clone()),
    };
    import
        .verify_announced(&label(&name)?)
        .map_err(fault_of_key)?;

    let id = dual_control::new_id()?;
    let now = host.now();
    let mut tx = host.store().write(now).await?;
    let expired = tx.expire_key_imports().await?;
    for id in &expired {
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: EXPIRED,
            device: None,
            outcome: "ok",
            detail: json!({IMPORT: id}),
        })
        .await?;
    }
    require_free(&mut tx, &name).await?;
    if let Some(digest) = &signed_sha256 {
        require_new(host, &mut tx, digest, None).await?;
    }
    let new = NewKeyImport {
        id: &id,
        name: &name,
        kind,
        header: &header,
        kcv: &import.kcv,
        wrapped: &wrapped.encode_to_vec(),
        signed_sha256: signed_sha256.as_deref(),
        by: operator.name(),
        why: &why,
        expires_at: now + host.config().approval_lifetime,
    };
    if !tx.insert_key_import(&new).await? {
        let cause =
            format!("an import of {name} is open already: approve or reject that one first");
        return Err(refused(Reason::AlreadyExists, cause));
    }
    let asked = require_import(&mut tx, &id).await?;
    record(&mut tx, &operator.actor(), ASKED, &asked).await?;
    let mut left = Vec::new();
    for id in expired {
        if host.store().may_have_left_its_key(&id) {
            left.push(require_import(&mut tx, &id).await?);
        }
    }
    tx.commit().await?;
    for import in left {
        destroy_left(host, &import).await?;
    }
    Ok(asked)
}

/// Verifies a key token of a sender.
async fn verify(host: &Host, sender: &str, token: &[u8]) -> Result<UpstreamToken, HostError> {
    let arrived = ArrivedToken::new(host, sender, token).await?;
    host.in_hsm(move |keys| keys.verify_arrived(&arrived)).await
}

/// Approves an import of somebody else's: the HSM unwraps the key, and the host knows it.
pub(crate) async fn approve(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<KeyImportRequest, HostError> {
    require_free_in_hsm(host, id).await?;
    let approval = claim(host, operator, id).await?;
    let (error, left) = match bring_in(host, &approval).await {
        Ok(found) => match register(host, operator, &approval.import, &found).await {
            Ok(import) => return Ok(import),
            // Whether the database has it may not be known.
            Err(error) => (error, Left::MayBe),
        },
        // What is refused is not kept.
        Err(error @ HostError::Refused { .. }) => (error, Left::Nothing),
        Err(error) => (error, Left::MayBe),
    };
    let mut tx = host.store().write(host.now()).await?;
    release(&mut tx, &approval.import, error.reason().as_str(), left).await?;
    tx.commit().await?;
    Err(error)
}

/// What an approval that was taken back has left in the HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// Perhaps the key, perhaps nothing.
    MayBe,
}

/// Until an import is tried, the HSM has no key of its name: one that is there afterwards is the import's.
async fn require_free_in_hsm(host: &Host, id: &str) -> Result<(), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let import = require_open(&mut tx, id).await?;
    if host.store().may_have_left_its_key(id) {
        return Ok(());
    }
    drop(tx);
    let label = label(&import.name)?;
    host.in_hsm(move |keys| keys.require_free(&label)).await
}

/// An approval that is on record. Ends with a key, or is taken back.
struct Approval {
    _working: Working,
    import: KeyImportRequest,
    tried_before: bool,
}

async fn claim(host: &Host, operator: &Operator, id: &str) -> Result<Approval, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let import = require_open(&mut tx, id).await?;
    // Nobody else works on what is open.
    let working = host.under_way().begin(id.to_owned());
    require_recorded(host, &import)?;
    dual_control::require_another(&import.asked_by, operator)?;
    require_free(&mut tx, &import.name).await?;
    if let Some(digest) = &import.signed_sha256 {
        require_new(host, &mut tx, digest, Some(id)).await?;
    }
    let tried_before = host.store().may_have_left_its_key(id);
    let (asked, approved) = (KeyImportState::Asked, KeyImportState::Approved);
    tx.set_key_import_state(id, asked, approved, Some(operator.name()))
        .await?;
    record(&mut tx, &operator.actor(), "key-import.approved", &import).await?;
    tx.commit().await?;
    Ok(Approval {
        _working: working,
        import,
        tried_before,
    })
}

/// From an approval to a key that is in the HSM.
async fn bring_in(host: &Host, approval: &Approval) -> Result<FoundKey, HostError> {
    let order = order(host, &approval.import, approval.tried_before).await?;
    host.in_hsm(move |keys| keys.import(&order)).await
}

/// From there to a key that is known. If this fails, it stays in the HSM until the import is approved again, or
/// rejected.
async fn register(
    host: &Host,
    operator: &Operator,
    request: &KeyImportRequest,
    found: &FoundKey,
) -> Result<KeyImportRequest, HostError> {
    let (name, header) = (request.name.clone(), request.header.clone());
    let known = NewlyKnown::prepare(host, name, header, found).await?;
    let mut tx = host.store().write(host.now()).await?;
    let (approved, imported) = (KeyImportState::Approved, KeyImportState::Imported);
    tx.set_key_import_state(&request.id, approved, imported, Some(operator.name()))
        .await?;
    record(&mut tx, &operator.actor(), DONE, request).await?;
    let done = require_import(&mut tx, &request.id).await?;
    known.commit(host, tx, operator).await?;
    Ok(done)
}

/// Takes back an approval that led to no key: the import may be approved again.
pub(crate) async fn release(
    tx: &mut Tx,
    import: &KeyImportRequest,
    outcome: &str,
    left: Left,
) -> Result<(), HostError> {
    let mut detail = json!({IMPORT: import.id});
    if left == Left::MayBe {
        detail[LEFT] = import.id.as_str().into();
    }
    let (approved, asked) = (KeyImportState::Approved, KeyImportState::Asked);
    tx.set_key_import_state(&import.id, approved, asked, None)
        .await?;
    Ok(tx
        .record(AuditEntry {
            actor: &Actor::Host,
            action: RELEASED,
            device: None,
            outcome,
            detail,
        })
        .await?)
}

/// Rejects an import, one's own too.
pub(crate) async fn reject(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<KeyImportRequest, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let import = require_open(&mut tx, id).await?;
    let (asked, rejected) = (KeyImportState::Asked, KeyImportState::Rejected);
    tx.set_key_import_state(id, asked, rejected, Some(operator.name()))
        .await?;
    record(&mut tx, &operator.actor(), REJECTED, &import).await?;
    let tried_before = host.store().may_have_left_its_key(id);
    let import = require_import(&mut tx, id).await?;
    tx.commit().await?;
    if tried_before {
        destroy_left(host, &import).await?;
    }
    Ok(import)
}

/// Destroys what a try has left of an import that comes to nothing, unless an operator has registered it.
async fn destroy_left(host: &Host, import: &KeyImportRequest) -> Result<(), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    if require_free(&mut tx, &import.name).await.is_err() {
        return Ok(());
    }
    drop(tx);
    let key = ImportedKey::of(import)?;
    host.in_hsm(move |keys| keys.destroy_left(&key)).await
}

/// Imports, newest first.
pub(crate) async fn list(
    host: &Host,
    before: &str,
    limit: u32,
) -> Result<Vec<KeyImportRequest>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    Ok(tx.key_imports(before, page_size(limit)).await?)
}

/// Neither the name nor the label in the HSM is a registered key's.
async fn require_free(tx: &mut Tx, name: &KeyAlias) -> Result<(), HostError> {
    let label = label(name)?;
    let keys = tx.keys().await?;
    let taken = keys
        .iter()
        .map(Sealed::unproven)
        .find(|key| key.name == *name || key.hsm_label == label.label());
    let Some(key) = taken else { return Ok(()) };
    let cause = format!(
        "there is a key {} already, {} in the HSM: choose another name",
        key.name, key.hsm_label
    );
    Err(refused(Reason::AlreadyExists, cause))
}

/// A token of another host is imported once, under whatever name. The trail knows it, too, which whoever writes to
/// the database cannot make forget.
async fn require_new(
    host: &Host,
    tx: &mut Tx,
    digest: &str,
    except: Option<&str>,
) -> Result<(), HostError> {
    let already = |cause: String| refused(Reason::AlreadyExists, cause);
    match tx.key_import_of_token(digest, except).await? {
        Some((id, name, KeyImportState::Imported)) => Err(already(format!(
            "the token was imported already, as {name} (import {id}): have the sender make another one"
        ))),
        Some((id, name, _)) => Err(already(format!(
            "the token is that of import {id} of {name}, which is open: approve or reject that one first"
        ))),
        None if host.store().was_imported(digest) => Err(already(
            "the token was imported already: have the sender make another one".into(),
        )),
        None => Ok(()),
    }
}

async fn require_import(tx: &mut Tx, id: &str) -> Result<KeyImportRequest, HostError> {
    let import = tx.key_import(id).await?;
    import.ok_or_else(|| refused(Reason::NotFound, format!("there is no import {id:?}")))
}

/// An import that waits for a decision.
async fn require_open(tx: &mut Tx, id: &str) -> Result<KeyImportRequest, HostError> {
    let import = require_import(tx, id).await?;
    match import.state_now() {
        KeyImportState::Asked => Ok(import),
        state => {
            let cause = format!("import {id} is {}", state.as_str());
            Err(refused(Reason::WrongState, cause))
        }
    }
}
