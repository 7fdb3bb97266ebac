//! What takes two operators: one asks for it, another one approves, and it is in force from then on, until it is done
//! or one operator withdraws it. Each row is sealed by the HSM, so that whoever can write to the database approves
//! nothing; and it has to be the one that the audit trail names last, so that nobody puts an older one back.
//!
//! What an approval sets in motion belongs to the act. What has to be known of acts here stands in one table, at the
//! end.

use kdh_proto::Reason;
use serde_json::Value;

use crate::{
    Host, HostError,
    administration::{Operator, page_size},
    dual_control,
    error::refused,
    export,
    names::{Why, beginning},
    refused_rows,
    state::{ApprovalState, ApprovedAct},
    storage,
    store::{Actor, Approval, Proven, Sealed, StoreError, Tx, time_text},
};

/// How often rows are read that somebody changes meanwhile.
const TRIES: usize = 8;
/// What one operator may have asked for of one kind, and nobody has decided.
const MAX_UNDECIDED: usize = 32;

/// An approval as operators see it.
#[derive(Debug)]
pub(crate) struct Shown {
    /// As it stands now.
    pub(crate) approval: Approval,
    /// Why it is nothing worth, in words.
    pub(crate) fault: Option<String>,
}

/// Asks for something.
///
/// # Errors
/// [`Reason::AlreadyExists`]: the same is asked for, or in force. [`Reason::WrongState`]: too much that this operator has
/// asked for waits.
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
        progress: None,
        ended_by: None,
        ended_why: None,
        expires_at: time_text(now + host.config().approval_lifetime)?,
        created_at: time_text(now)?,
        changed_at: time_text(now)?,
    };
    expire(host, act).await?;
    let sealed = host.keys().seal_one(approval.clone()).await?;
    let mut tx = host.store().write(now).await?;
    if tx.undecided_approvals(act, operator.name()).await? >= MAX_UNDECIDED {
        let cause = format!(
            "{} has asked for {MAX_UNDECIDED} of this kind that nobody has decided: have them approved, or reject some \
             (kdhctl approval list)",
            operator.name()
        );
        return Err(refused(Reason::WrongState, cause));
    }
    if !host.keys().is_under_present(&sealed) || !tx.insert_approval(&sealed).await? {
        let cause = "the same is asked for already, or in force: see kdhctl approval list. If its row is REFUSED there, \
                     restore it from a backup of the database";
        return Err(refused(Reason::AlreadyExists, cause));
    }
    tx.record_approval(&operator.actor(), &approval, &[])
        .await?;
    tx.commit().await?;
    Ok(approval)
}

/// Approves what somebody else has asked for, and sets it in motion.
pub(crate) async fn approve(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<Approval, HostError> {
    let asked = require(host, id).await?;
    require_undecided(host, &asked)?;
    require_recorded(host, &asked).await?;
    dual_control::require_another(&asked.asked_by, operator)?;
    if asked.act == ApprovedAct::KeyDiscard {
        // Approved and done in one.
        return refused_rows::approve(host, operator, &asked).await;
    }
    asked.act.require_possible(host, &asked).await?;
    let approved = decide(host, operator, &asked, ApprovalState::Approved).await?;
    approved.act.look_again(host);
    Ok(approved)
}

/// Rejects what was asked for, one's own too.
pub(crate) async fn reject(
    host: &Host,
    operator: &Operator,
    id: &str,
) -> Result<Approval, HostError> {
    let asked = require(host, id).await?;
    require_undecided(host, &asked)?;
    if !host.store().is_approval_over(id) {
        require_recorded(host, &asked).await?;
    }
    decide(host, operator, &asked, ApprovalState::Rejected).await
}

/// Ends what is in force, if its act lets it. It takes one operator, as to be careful does. A row that is in force no
/// more by the audit trail can always be put away so. What is in force by the trail can be ended whatever became of its
/// row, which may come back.
pub(crate) async fn withdraw(
    host: &Host,
    operator: &Operator,
    id: &str,
    why: &str,
) -> Result<Approval, HostError> {
    let why = Why::parse(why)?;
    let row = require(host, id).await;
    let in_force = host.store().approvals_in_force().remove(id);
    if let Some((act, subject)) = in_force
        && act.is_withdrawable_unseen()
        && is_lost(host, &row).await?
    {
        return withdraw_unseen(host, operator, (id, act, subject), &why).await;
    }
    let approval = row?;
    let cause = match approval.state_at(&time_text(host.now())?) {
        ApprovalState::Approved => None,
        ApprovalState::Asked => Some(format!(
            "nobody has approved it: kdhctl approval reject {id}"
        )),
        over => Some(format!(
            "approval {id} is {}: it is not in force",
            over.as_str()
        )),
    };
    if let Some(cause) = cause {
        return Err(refused(Reason::WrongState, cause));
    }
    if !host.store().is_approval_over(id) {
        require_recorded(host, &approval).await?;
        approval.act.require_withdrawable(&approval)?;
    }
    let withdrawn = Approval {
        state: ApprovalState::Withdrawn,
        ended_by: Some(operator.name().to_owned()),
        ended_why: Some(why.as_str().to_owned()),
        ..Approval::clone(&approval)
    };
    let change = Change::prepare(host, &approval, withdrawn).await?;
    let why = [("withdrawn-because", why.as_str().into())];
    let withdrawn = change.commit(host, &operator.actor(), &why).await?;
    withdrawn.act.look_again(host);
    Ok(withdrawn)
}

/// Whether a row is gone, or is not what the HSM has sealed or the audit trail says.
async fn is_lost(
    host: &Host,
    row: &Result<Proven<Approval>, HostError>,
) -> Result<bool, HostError> {
    Ok(match row {
        Ok(row) => matches!(judge(host, row).await?, Verdict::Bad(_)),
        Err(error) => matches!(
            error,
            HostError::Store(StoreError::NotSealed(_) | StoreError::NotRecorded(_))
        ),
    })
}

/// Puts down that what is in force by the audit trail is so no more, without a row: none is what the trail says then.
async fn withdraw_unseen(
    host: &Host,
    operator: &Operator,
    (id, act, subject): (&str, ApprovedAct, String),
    why: &Why,
) -> Result<Approval, HostError> {
    let now = host.now();
    let mut tx = host.store().write(now).await?;
    if host.store().is_approval_over(id) {
        return Err(refused(Reason::WrongState, changed_meanwhile(id)));
    }
    let withdrawn = Approval {
        id: id.to_owned(),
        act,
        subject,
        state: ApprovalState::Withdrawn,
        // What else there was, the row alone would say.
        asked_by: String::new(),
        why: String::new(),
        decided_by: None,
        progress: None,
        ended_by: Some(operator.name().to_owned()),
        ended_why: Some(why.as_str().to_owned()),
        expires_at: String::new(),
        created_at: String::new(),
        changed_at: time_text(now)?,
    };
    let more = [
        ("withdrawn-because", why.as_str().into()),
        ("row", "lost".into()),
    ];
    tx.record_approval(&operator.actor(), &withdrawn, &more)
        .await?;
    tx.commit().await?;
    act.look_again(host);
    Ok(withdrawn)
}

/// An approval, or its id alone if it is not as the HSM has sealed it.
pub(crate) type Listed = Result<Shown, String>;

/// All of them, newest first, as they stand now.
pub(crate) async fn list(host: &Host, before: &str, limit: u32) -> Result<Vec<Listed>, HostError> {
    let now = time_text(host.now())?;
    let rows = judged(host, Which::Page(before, page_size(limit))).await?;
    let shown = rows.into_iter().map(|row| {
        let (row, fault) = row?;
        Ok(Shown {
            approval: Approval {
                state: row.state_at(&now),
                ..Approval::clone(&row)
            },
            fault,
        })
    });
    Ok(shown.collect())
}

/// What is in force of a kind: approved, sealed, and what the audit trail says. What is not is named there, and in the
/// log. Asks the HSM only if there is any.
pub(crate) async fn in_force(
    host: &Host,
    act: ApprovedAct,
) -> Result<Vec<Proven<Approval>>, HostError> {
    open(host, act, false).await
}

/// The same, and what waits to be approved.
pub(crate) async fn asked_or_in_force(
    host: &Host,
    act: ApprovedAct,
) -> Result<Vec<Proven<Approval>>, HostError> {
    open(host, act, true).await
}

async fn open(
    host: &Host,
    act: ApprovedAct,
    with_asked: bool,
) -> Result<Vec<Proven<Approval>>, HostError> {
    let rows = judged(host, Which::Open { act, with_asked }).await?;
    let mut good = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Ok((row, None)) => good.push(row),
            Ok((_, Some(_))) => {}
            // Without it nobody knows which pair of storage keys is the present one.
            Err(id) if act == ApprovedAct::StorageRotation => {
                return Err(StoreError::NotSealed(Approval::title_of(&id)).into());
            }
            Err(id) => {
                let title = Approval::title_of(&id);
                refused_rows::report_row(host, &title).await?;
            }
        }
    }
    Ok(good)
}

/// Puts down how far the act has come of what is in force.
pub(crate) async fn progress(
    host: &Host,
    approval: &Proven<Approval>,
    progress: String,
    more: &[(&str, Value)],
) -> Result<(), HostError> {
    let said = [&[("progress", Value::from(&*progress))], more].concat();
    let come = Approval {
        progress: Some(progress),
        ..Approval::clone(approval)
    };
    let change = Change::prepare(host, approval, come).await?;
    change.commit(host, &Actor::Host, &said).await?;
    Ok(())
}

/// The end of what was in force, and is done: to be put into the transaction that does the last of it.
pub(crate) async fn ending(host: &Host, approval: &Proven<Approval>) -> Result<Change, HostError> {
    let ended = Approval {
        state: ApprovalState::Ended,
        ..Approval::clone(approval)
    };
    Change::prepare(host, approval, ended).await
}

/// What an approval was, and what it is to be, sealed.
pub(crate) struct Change {
    old: Sealed<Approval>,
    new: Sealed<Approval>,
}

impl Change {
    async fn prepare(
        host: &Host,
        old: &Proven<Approval>,
        new: Approval,
    ) -> Result<Self, HostError> {
        let new = Approval {
            changed_at: time_text(host.now())?,
            ..new
        };
        Ok(Self {
            old: old.sealed().clone(),
            new: host.keys().seal_one(new).await?,
        })
    }

    /// Makes it so, with its record, if it is still what it was.
    pub(crate) async fn put(
        &self,
        host: &Host,
        tx: &mut Tx,
        actor: &Actor,
        more: &[(&str, Value)],
    ) -> Result<(), HostError> {
        let new = &self.new;
        // What is in force is never ended by what somebody has put in its place.
        let (old, store) = (self.old.unproven(), host.store());
        if store.fault_of_approval(old).is_some() && !store.is_approval_over(&old.id) {
            return Err(refused(Reason::WrongState, changed_meanwhile(&old.id)));
        }
        if !host.keys().is_under_present(new) || !tx.replace_approval(&self.old, new).await? {
            let cause = changed_meanwhile(&new.unproven().id);
            return Err(refused(Reason::WrongState, cause));
        }
        Ok(tx.record_approval(actor, new.unproven(), more).await?)
    }

    /// The same, by itself.
    pub(crate) async fn commit(
        self,
        host: &Host,
        actor: &Actor,
        more: &[(&str, Value)],
    ) -> Result<Approval, HostError> {
        let mut tx = host.store().write(host.now()).await?;
        self.put(host, &mut tx, actor, more).await?;
        tx.commit().await?;
        Ok(self.into_new())
    }

    /// What it is then.
    pub(crate) fn into_new(self) -> Approval {
        self.new.unproven().clone()
    }
}

async fn require(host: &Host, id: &str) -> Result<Proven<Approval>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let row = tx.approval(id).await?;
    drop(tx);
    let missing = || {
        if host.store().knows_approval(id) {
            return StoreError::NotRecorded(Approval::title_of(id)).into();
        }
        let cause = format!("there is no approval {}", beginning(id));
        refused(Reason::NotFound, cause)
    };
    let row = row.ok_or_else(missing)?;
    host.keys().prove_one(row).await
}

fn require_undecided(host: &Host, approval: &Approval) -> Result<(), HostError> {
    let state = approval.state_at(&time_text(host.now())?);
    if state == ApprovalState::Asked {
        return Ok(());
    }
    let (id, state) = (&approval.id, state.as_str());
    let cause = format!("approval {id} is {state}: it is decided");
    Err(refused(Reason::WrongState, cause))
}

/// The row must be what the audit trail says.
async fn require_recorded(host: &Host, approval: &Proven<Approval>) -> Result<(), HostError> {
    let cause = match judge(host, approval).await? {
        Verdict::Good => return Ok(()),
        Verdict::Bad(fault) => format!("approval {}: {fault}", approval.id),
        Verdict::Stale => changed_meanwhile(&approval.id),
    };
    Err(refused(Reason::WrongState, cause))
}

/// Which rows are meant.
#[derive(Clone, Copy)]
enum Which<'a> {
    /// So many that are older than this one.
    Page(&'a str, i64),
    /// Those of an act that are in force, or asked for as well.
    Open { act: ApprovedAct, with_asked: bool },
}

/// A row, and why it counts for nothing, if it does, in words; its id alone, if it is not as the HSM has sealed it.
type Judged = Result<(Proven<Approval>, Option<String>), String>;

async fn judged(host: &Host, which: Which<'_>) -> Result<Vec<Judged>, HostError> {
    let now = time_text(host.now())?;
    'again: for _ in 0..TRIES {
        let mut tx = host.store().ask(host.now()).await?;
        let rows = match which {
            Which::Page(before, limit) => tx.approvals(before, limit).await?,
            Which::Open { act, with_asked } => {
                let rows = match (act, with_asked) {
                    (ApprovedAct::StorageRotation, _) => tx.open_approvals(act).await?,
                    (ApprovedAct::ExportTarget | ApprovedAct::KeyDiscard, true) => {
                        tx.readable_open_approvals(act).await?
                    }
                    (ApprovedAct::ExportTarget | ApprovedAct::KeyDiscard, false) => {
                        tx.readable_approvals_in_force(act).await?
                    }
                };
                let is_meant = |state| match state {
                    ApprovalState::Asked => with_asked,
                    state => !state.is_over(),
                };
                let rows = rows.into_iter();
                rows.filter(|row| is_meant(row.unproven().state_at(&now)))
                    .map(Ok)
                    .collect()
            }
        };
        drop(tx);
        let sealed = rows.iter().filter_map(|row| row.as_ref().ok()).cloned();
        let mut proven = host.keys().prove_each(sealed.collect()).await?.into_iter();
        let mut judged = Vec::with_capacity(rows.len());
        for row in rows {
            let row = row.and_then(|row| match proven.next() {
                Some(Ok(row)) => Ok(row),
                _ => Err(row.unproven().id.clone()),
            });
            let row = match row {
                Ok(row) => row,
                Err(id) => {
                    judged.push(Err(id));
                    continue;
                }
            };
            let fault = match judge(host, &row).await? {
                Verdict::Good => None,
                Verdict::Bad(fault) => Some(fault),
                Verdict::Stale => continue 'again,
            };
            judged.push(Ok((row, fault)));
        }
        return Ok(judged);
    }
    let cause = "approvals were changed each time that they were read";
    Err(HostError::Internal(cause.to_owned()))
}

/// What the audit trail says of a row.
enum Verdict {
    Good,
    /// It counts for nothing, for this reason.
    Bad(String),
    /// It is not there any more.
    Stale,
}

/// A bad row is named on the record, the first time.
async fn judge(host: &Host, row: &Proven<Approval>) -> Result<Verdict, HostError> {
    let Some(fault) = host.store().fault_of_approval(row) else {
        return Ok(Verdict::Good);
    };
    // Nobody is changing it in the turn of a writer.
    let mut tx = host.store().write(host.now()).await?;
    if tx.approval(&row.id).await?.as_ref() != Some(row.sealed()) {
        return Ok(Verdict::Stale);
    }
    if tx.refuse_approval(row).await? {
        tracing::error!(approval = row.id, %fault, "it counts for nothing");
        tx.commit().await?;
    }
    Ok(Verdict::Bad(fault))
}

fn changed_meanwhile(id: &str) -> String {
    format!("approval {id} was changed at the same time")
}

async fn decide(
    host: &Host,
    operator: &Operator,
    asked: &Proven<Approval>,
    state: ApprovalState,
) -> Result<Approval, HostError> {
    let change = decision(host, operator, asked, state).await?;
    change.commit(host, &operator.actor(), &[]).await
}

/// What an operator decides, to be put into a transaction.
pub(crate) async fn decision(
    host: &Host,
    operator: &Operator,
    asked: &Proven<Approval>,
    state: ApprovalState,
) -> Result<Change, HostError> {
    let decided = Approval {
        state,
        decided_by: Some(operator.name().to_owned()),
        ..Approval::clone(asked)
    };
    Change::prepare(host, asked, decided).await
}

/// Puts down what nobody approved in time.
async fn expire(host: &Host, act: ApprovedAct) -> Result<(), HostError> {
    let now = time_text(host.now())?;
    let mut tx = host.store().read(host.now()).await?;
    let mut rows = tx.readable_open_approvals(act).await?;
    drop(tx);
    rows.retain(|row| row.unproven().state_at(&now) == ApprovalState::Expired);
    // One that is not as it was sealed is listed as that, and stands in the way of nothing else.
    for row in host.keys().prove_each(rows).await?.into_iter().flatten() {
        if host.store().fault_of_approval(&row).is_some() {
            continue;
        }
        let expired = Approval {
            state: ApprovalState::Expired,
            ..Approval::clone(&row)
        };
        let change = Change::prepare(host, &row, expired).await?;
        change.commit(host, &Actor::Host, &[]).await?;
    }
    Ok(())
}

/// What each act says of its approvals.
impl ApprovedAct {
    /// Refuses to approve one that cannot be set in motion.
    async fn require_possible(self, host: &Host, asked: &Approval) -> Result<(), HostError> {
        match self {
            Self::ExportTarget => export::require_approvable(host, asked).await,
            Self::KeyDiscard | Self::StorageRotation => Ok(()),
        }
    }

    /// Something else is in force than before. What it sets in motion finds it by [`in_force`], after a restart too.
    fn look_again(self, host: &Host) {
        match self {
            Self::ExportTarget => export::look_again(host),
            // Done when it was approved.
            Self::KeyDiscard => {}
            Self::StorageRotation => host.rotation().look_again(),
        }
    }

    /// Whether it does not matter to the end of one how far it has come, which its row alone says.
    const fn is_withdrawable_unseen(self) -> bool {
        match self {
            Self::ExportTarget => true,
            Self::KeyDiscard | Self::StorageRotation => false,
        }
    }

    /// Refuses to withdraw one of which more was done than can be left so.
    fn require_withdrawable(self, approval: &Approval) -> Result<(), HostError> {
        match self {
            Self::ExportTarget | Self::KeyDiscard => Ok(()),
            Self::StorageRotation => storage::require_not_begun(approval),
        }
    }
}
