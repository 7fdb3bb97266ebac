//! What takes two operators: one asks for it, another one approves, and it is in force from then on. Each row is
//! sealed by the HSM, so that whoever can write to the database approves nothing.
//!
//! What an approval sets in motion belongs to the act.

use kdh_proto::Reason;
use serde_json::{Value, json};

use crate::{
    Host, HostError,
    administration::{Operator, page_size},
    dual_control,
    error::refused,
    names::Why,
    state::{ApprovalState, ApprovedAct},
    storage,
    store::{Actor, Approval, AuditEntry, Proven, Sealed, Tx, time_text},
};

const ASKED: &str = "approval.asked";
const APPROVED: &str = "approval.approved";
const REJECTED: &str = "approval.rejected";
const EXPIRED: &str = "approval.expired";

/// Asks for something.
///
/// # Errors
/// [`Reason::AlreadyExists`]: the same is asked for, or in force.
pub(crate) async fn ask(
    host: &Host,
    operator: &Operator,
    act: ApprovedAct,
    subject: String,
    why: &str,
) -> Result<Approval, HostError> {
    let why = Why::parse(why)?;
    let now = host.now();
    let approval = Approval {
        id: dual_control::new_id()?,
        act,
        subject,
        state: ApprovalState::Asked,
        asked_by: operator.name().to_owned(),
        why: why.as_str().to_owned(),
        decided_by: None,
        expires_at: time_text(now + host.config().approval_lifetime)?,
        created_at: time_text(now)?,
        changed_at: time_text(now)?,
    };
    expire(host, act).await?;
    let sealed = host.keys().seal_one(approval.clone()).await?;
    let mut tx = host.store().write(now).await?;
    if !host.keys().is_under_present(&sealed) || !tx.insert_approval(&sealed).await? {
        let cause = "the same is asked for already, or in force: see kdhctl approval list";
        return Err(refused(Reason::AlreadyExists, cause));
    }
    record(&mut tx, &operator.actor(), ASKED, &approval).await?;
    tx.commit().await?;
    Ok(approval)
}

/// Approves what somebody else has asked for, and sets it in motion.
pub(crate) async fn approve(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<Approval, HostError> {
    let asked = require_asked(host, id).await?;
    dual_control::require_another(&asked.asked_by, operator)?;
    let approved = decide(host, operator, &asked, ApprovalState::Approved, APPROVED).await?;
    match approved.act {
        ApprovedAct::StorageRotation => storage::approved(host),
    }
    Ok(approved)
}

/// Rejects what was asked for, one's own too.
pub(crate) async fn reject(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<Approval, HostError> {
    let asked = require_asked(host, id).await?;
    decide(host, operator, &asked, ApprovalState::Rejected, REJECTED).await
}

/// All of them, newest first, as they stand now.
pub(crate) async fn list(
    host: &Host,
    before: &str,
    limit: u32,
) -> Result<Vec<Approval>, HostError> {
    let now = time_text(host.now())?;
    let mut tx = host.store().read(host.now()).await?;
    let rows = tx.approvals(before, page_size(limit)).await?;
    drop(tx);
    let rows = host.keys().prove(rows).await?;
    let shown = rows.iter().map(|row| Approval {
        state: row.state_at(&now),
        ..Approval::clone(row)
    });
    Ok(shown.collect())
}

/// What is in force of a kind.
pub(crate) async fn in_force(
    host: &Host,
    act: ApprovedAct,
) -> Result<Vec<Proven<Approval>>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let mut rows = tx.open_approvals(act).await?;
    drop(tx);
    rows.retain(|row| row.unproven().state == ApprovalState::Approved);
    host.keys().prove(rows).await
}

/// Something that was in force is over.
pub(crate) async fn end(
    host: &Host,
    approval: &Proven<Approval>,
    actor: &Actor,
    action: &'static str,
    detail: Value,
) -> Result<(), HostError> {
    let ended = Approval {
        state: ApprovalState::Ended,
        changed_at: time_text(host.now())?,
        ..Approval::clone(approval)
    };
    let sealed = host.keys().seal_one(ended).await?;
    let mut tx = host.store().write(host.now()).await?;
    replace(host, &mut tx, approval.sealed(), &sealed).await?;
    tx.record(AuditEntry {
        actor,
        action,
        device: None,
        outcome: "ok",
        detail,
    })
    .await?;
    Ok(tx.commit().await?)
}

async fn require_asked(host: &Host, id: &str) -> Result<Proven<Approval>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let row = tx.approval(id).await?;
    drop(tx);
    // A hostile text may be long.
    let id: String = id.chars().take(64).collect();
    let row = row.ok_or_else(|| refused(Reason::NotFound, format!("there is no approval {id}")))?;
    let row = host.keys().prove_one(row).await?;
    let state = row.state_at(&time_text(host.now())?);
    if state == ApprovalState::Asked {
        return Ok(row);
    }
    let cause = format!("approval {id} is {}: it is decided", state.as_str());
    Err(refused(Reason::WrongState, cause))
}

async fn decide(
    host: &Host,
    operator: &Operator,
    asked: &Proven<Approval>,
    state: ApprovalState,
    action: &'static str,
) -> Result<Approval, HostError> {
    let decided = Approval {
        state,
        decided_by: Some(operator.name().to_owned()),
        changed_at: time_text(host.now())?,
        ..Approval::clone(asked)
    };
    let sealed = host.keys().seal_one(decided.clone()).await?;
    let mut tx = host.store().write(host.now()).await?;
    replace(host, &mut tx, asked.sealed(), &sealed).await?;
    record(&mut tx, &operator.actor(), action, &decided).await?;
    tx.commit().await?;
    Ok(decided)
}

/// Puts down what nobody approved in time.
async fn expire(host: &Host, act: ApprovedAct) -> Result<(), HostError> {
    let now = time_text(host.now())?;
    let mut tx = host.store().read(host.now()).await?;
    let mut rows = tx.open_approvals(act).await?;
    drop(tx);
    rows.retain(|row| row.unproven().state_at(&now) == ApprovalState::Expired);
    if rows.is_empty() {
        return Ok(());
    }
    let rows = host.keys().prove(rows).await?;
    let expired = rows.iter().map(|row| Approval {
        state: ApprovalState::Expired,
        changed_at: now.clone(),
        ..Approval::clone(row)
    });
    let expired = host.keys().seal(expired.collect()).await?;
    let mut tx = host.store().write(host.now()).await?;
    for (old, new) in rows.iter().zip(&expired) {
        replace(host, &mut tx, old.sealed(), new).await?;
        record(&mut tx, &Actor::Host, EXPIRED, new.unproven()).await?;
    }
    Ok(tx.commit().await?)
}

async fn replace(
    host: &Host,
    tx: &mut Tx,
    old: &Sealed<Approval>,
    new: &Sealed<Approval>,
) -> Result<(), HostError> {
    if host.keys().is_under_present(new) && tx.replace_approval(old, new).await? {
        return Ok(());
    }
    let cause = format!("{} was decided at the same time", new.unproven().id);
    Err(refused(Reason::WrongState, cause))
}

async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &'static str,
    approval: &Approval,
) -> Result<(), HostError> {
    let detail = json!({
        "approval": approval.id,
        "act": approval.act.as_str(),
        "subject": approval.subject,
        "why": approval.why,
        "asked-by": approval.asked_by,
    });
    Ok(tx
        .record(AuditEntry {
            actor,
            action,
            device: None,
            outcome: "ok",
            detail,
        })
        .await?)
}
