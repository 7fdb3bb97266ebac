//! Keys of terminals for payment switches, which share a key with the host: two operators agree on a target once, and
//! from then on every key that it covers goes there when its terminal has confirmed it.
//!
//! ```text
//! target   what two operators agree on
//! record   what a switch gets of a key, and over which bytes the MACs go
//! hsm      a target's keys, and what is done with them
//! making   records are made of what is in line, and their keys taken away in the end
//! sending  records leave, arrive, and may leave again
//! again    how often they do
//! stream   a switch that is connected
//! file     the same records as a file
//! ```
//!
//! What is in line gives nothing away: whoever puts something there gets at most what the target covers anyway. The
//! target itself stands in an approval, which the HSM has sealed; so have been the devices' keys, and it verifies
//! both before it wraps one. A record that is made stands under a MAC by the target's own key, which is computed
//! again before it leaves.

mod again;
pub(crate) mod file;
mod hsm;
mod making;
mod record;
mod sending;
pub(crate) mod stream;
mod target;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kdh_proto::{
    Reason,
    v1::{AskTargetRequest, FillTargetRequest, ListTargetsRequest},
};
use serde_json::json;
use tokio::sync::{Notify, watch};

pub(crate) use self::{making::keep_exporting, sending::acknowledge_file, target::Target};
use crate::{
    Host, HostError,
    administration::{Operator, fault_of_key, page_size},
    approvals,
    error::refused,
    names::{TargetName, Why},
    refused_rows,
    state::{ApprovalState, ApprovedAct, DeviceKeyState, DeviceState},
    store::{
        Approval, AuditEntry, DeviceKey, ExportLine, ExportMarks, Proven, SealedRow as _,
        StoreError, Tx,
    },
};

/// What is known of exports while the host runs.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    /// Something is in line.
    work: Notify,
    /// What was closed may have left something behind.
    closed: AtomicBool,
    /// Records were made, or a target was closed.
    made: watch::Sender<()>,
    stopping: watch::Sender<bool>,
    /// Targets to which a switch is connected.
    taken: Arc<Mutex<HashSet<String>>>,
    again: again::Again,
    /// Why no records are made for a target.
    faults: Mutex<HashMap<String, String>>,
}

impl Exports {
    /// Has the calls of switches end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    fn faults(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A target that is in force, as the HSM has sealed it.
#[derive(Clone, Debug)]
pub(crate) struct OpenTarget {
    pub(crate) target: Target,
    approval: Proven<Approval>,
}

impl OpenTarget {
    fn new(approval: Proven<Approval>) -> Result<Self, StoreError> {
        Ok(Self {
            target: Target::of(&approval)?,
            approval,
        })
    }

    /// Its approval's.
    pub(crate) fn id(&self) -> &str {
        &self.approval.id
    }

    /// How far its records have come.
    ///
    /// # Errors
    /// By the mark, more has left than was made.
    async fn marks(&self, host: &Host, tx: &mut Tx) -> Result<ExportMarks, StoreError> {
        let marks = tx.export_marks(self.id()).await?;
        if marks.sent > host.store().known_exported_up_to(self.id()) {
            let mark = format!("how far records for {} have come", self.target.name);
            return Err(StoreError::NotRecorded(mark));
        }
        Ok(marks)
    }

    /// Whether it is in force, in this moment of the database.
    async fn is_open(&self, host: &Host, tx: &mut Tx) -> Result<bool, StoreError> {
        // Its seal is another one when the storage keys were changed.
        let now = tx.approval(self.id()).await?;
        let is_same = now.is_some_and(|now| *now.unproven() == *self.approval);
        Ok(is_same && host.store().fault_of_approval(&self.approval).is_none())
    }

    /// The same, for who is told that it is not.
    async fn require_open(&self, host: &Host, tx: &mut Tx) -> Result<(), HostError> {
        if self.is_open(host, tx).await? {
            return Ok(());
        }
        let cause = format!("export target {} was closed", self.target.name);
        Err(refused(Reason::WrongState, cause))
    }
}

/// A target, in force or not, and how far it has come.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) approval: Approval,
    pub(crate) target: Target,
    pub(crate) line: ExportLine,
    pub(crate) marks: ExportMarks,
    /// Why no record is made.
    pub(crate) fault: Option<String>,
}

/// How far keys were put in line that had been confirmed before.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) looked_at: u32,
    pub(crate) queued: u32,
    /// Device and slot; none if there are no more.
    pub(crate) last: Option<(String, String)>,
}

/// Asks that keys go to a target.
///
/// # Errors
/// The target is not as it has to be; the HSM does not have its keys, with these check values, or cannot do its form;
/// [`Reason::AlreadyExists`]: one of that name is asked for or in force.
pub(crate) async fn ask(
    host: &Host,
    operator: &Operator,
    request: AskTargetRequest,
) -> Result<Approval, HostError> {
    let target = Target::parse(request.target, host.config())?;
    Why::parse(&request.why)?;
    require_possible(host, &target).await?;
    require_name_free(
        host,
        &target,
        &[ApprovalState::Asked, ApprovalState::Approved],
    )
    .await?;
    let act = ApprovedAct::ExportTarget;
    approvals::ask(host, operator, act, target.to_subject()?, &request.why).await
}

/// Whether a target can be approved now.
///
/// # Errors
/// As [`ask`].
pub(crate) async fn require_approvable(host: &Host, asked: &Approval) -> Result<(), HostError> {
    let target = Target::of(asked)?;
    require_possible(host, &target).await?;
    require_name_free(host, &target, &[ApprovalState::Approved]).await
}

async fn require_possible(host: &Host, target: &Target) -> Result<(), HostError> {
    let target = target.clone();
    host.in_hsm(move |keys| {
        keys.verify_export(&target).map_err(|error| match error {
            HostError::Hsm(error @ ::hsm::HsmError::Unsupported { .. }) => {
                refused(Reason::HsmUnsupported, error)
            }
            HostError::Hsm(
                error @ (::hsm::HsmError::Export(_)
                | ::hsm::HsmError::WrongRole { .. }
                | ::hsm::HsmError::KeyKind { .. }),
            ) => refused(Reason::RequestInvalid, error),
            HostError::Hsm(error) => fault_of_key(error),
            other => other,
        })
    })
    .await
}

async fn require_name_free(
    host: &Host,
    target: &Target,
    states: &[ApprovalState],
) -> Result<(), HostError> {
    for approval in approvals::asked_or_in_force(host, ApprovedAct::ExportTarget).await? {
        if states.contains(&approval.state) && Target::of(&approval)?.name == target.name {
            let cause = format!(
                "an export target {} is {}, approval {}: close it, or reject it, before there is another one",
                target.name,
                approval.state.as_str(),
                approval.id
            );
            return Err(refused(Reason::AlreadyExists, cause));
        }
    }
    Ok(())
}

/// Those in force.
async fn in_force(host: &Host) -> Result<Vec<OpenTarget>, HostError> {
    let approvals = approvals::in_force(host, ApprovedAct::ExportTarget).await?;
    let open = approvals.into_iter().map(OpenTarget::new);
    Ok(open.collect::<Result<_, _>>()?)
}

/// The one of this name that is in force.
async fn require_target(host: &Host, name: &str) -> Result<OpenTarget, HostError> {
    let name = TargetName::parse(name)?;
    let open = in_force(host).await?;
    let found = open.into_iter().filter(|open| open.target.name == name);
    only(&name, found)
}

fn only<T>(name: &TargetName, mut found: impl Iterator<Item = T>) -> Result<T, HostError> {
    match (found.next(), found.next()) {
        (Some(target), None) => Ok(target),
        (None, _) => {
            let cause = format!(
                "no export target {name} is in force: kdhctl target show {name} tells whether one was closed, or waits \
                 for another operator"
            );
            Err(refused(Reason::NotFound, cause))
        }
        // Two were asked for and approved at the same time.
        (Some(_), Some(_)) => Err(HostError::Internal(format!(
            "two export targets {name} are in force"
        ))),
    }
}

/// A target, or its id alone if its row is not as the HSM has sealed it.
pub(crate) type Listed = Result<Standing, String>;

/// Targets of one name, or all; newest first, page by page.
pub(crate) async fn list(
    host: &Host,
    request: &ListTargetsRequest,
) -> Result<Vec<Listed>, HostError> {
    let begins = match &*request.name {
        "" => String::new(),
        name => Target::subject_begins(&TargetName::parse(name)?),
    };
    let (before, limit) = (&request.before, page_size(request.limit));
    let mut tx = host.store().read(host.now()).await?;
    let now = tx.now().to_owned();
    let rows = tx
        .approvals_of(ApprovedAct::ExportTarget, &begins, before, limit)
        .await?;
    drop(tx);
    let id = |row: &Approval| row.id.clone();
    let approvals = refused_rows::sift_others(host, rows, id, |id| Approval::title_of(id)).await?;
    let mut tx = host.store().read(host.now()).await?;
    let mut listed = Vec::with_capacity(approvals.len());
    for approval in approvals {
        listed.push(match approval {
            Ok(approval) => Ok(standing(host, &mut tx, &approval, &now).await?),
            Err(id) => Err(id),
        });
    }
    Ok(listed)
}

async fn standing(
    host: &Host,
    tx: &mut Tx,
    approval: &Proven<Approval>,
    now: &str,
) -> Result<Standing, HostError> {
    let forged = host.store().fault_of_approval(approval);
    let fault = forged.or_else(|| host.exports().faults().get(&approval.id).cloned());
    let ((line, marks), spoilt) = match how_far(tx, &approval.id).await {
        Ok(come) => (come, None),
        // It hides no other target.
        Err(error @ StoreError::Damaged(_)) => (Default::default(), Some(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    Ok(Standing {
        line,
        marks,
        approval: Approval {
            state: approval.state_at(now),
            ..Approval::clone(approval)
        },
        target: Target::of(approval)?,
        fault: fault.or(spoilt),
    })
}

async fn how_far(tx: &mut Tx, id: &str) -> Result<(ExportLine, ExportMarks), StoreError> {
    Ok((tx.export_line(id).await?, tx.export_marks(id).await?))
}

/// Closes a target, for good, that is in force by the audit trail: its row may be gone, and come back. Says its id.
pub(crate) async fn close(
    host: &Host,
    operator: &Operator,
    name: &str,
    why: &str,
) -> Result<String, HostError> {
    let name = TargetName::parse(name)?;
    let begins = Target::subject_begins(&name);
    let in_force = host.store().approvals_in_force().into_iter();
    let found = in_force.filter(|(_, (act, subject))| {
        *act == ApprovedAct::ExportTarget && subject.starts_with(&begins)
    });
    let id = only(&name, found.map(|(id, _)| id))?;
    approvals::withdraw(host, operator, &id, why).await?;
    Ok(id)
}

/// A target was approved or withdrawn.
pub(crate) fn look_again(host: &Host) {
    let exports = host.exports();
    exports.closed.store(true, Ordering::Relaxed);
    exports.work.notify_one();
    exports.made.send_replace(());
}

/// Puts a key that its device has just confirmed in line for every target that covers it. In the transaction in which
/// it is confirmed, so that the HSM is not asked here: it is before a record is made.
pub(crate) async fn queue(tx: &mut Tx, key: &DeviceKey) -> Result<(), StoreError> {
    if key.state != DeviceKeyState::Active {
        return Ok(());
    }
    // A row that somebody has spoilt is not to keep a terminal from confirming.
    let approvals = tx
        .readable_approvals_in_force(ApprovedAct::ExportTarget)
        .await?;
    if approvals.is_empty() {
        return Ok(());
    }
    let Some(owner) = tx.export_owner(&key.device).await? else {
        return Ok(());
    };
    for approval in &approvals {
        let approval = approval.unproven();
        match Target::of(approval) {
            Ok(target) if target.covers(&key.slot, &owner.model, owner.group.as_ref()) => {
                tx.queue_export(&approval.id, &key.device, &key.slot, key.version)
                    .await?;
            }
            Ok(_) => {}
            // A terminal is not to be kept waiting by what it has nothing to do with.
            Err(error) => tracing::error!(%error, row = approval.title(), "no key goes there"),
        }
    }
    Ok(())
}

/// What was put in line is there.
pub(crate) fn queued(host: &Host) {
    host.exports().work.notify_one();
}

/// Puts keys in line that were confirmed before, some at a time; those that are there already stay.
pub(crate) async fn fill(
    host: &Host,
    operator: &Operator,
    request: &FillTargetRequest,
) -> Result<Filled, HostError> {
    let open = require_target(host, &request.name).await?;
    let limit = u32::try_from(page_size(request.limit)).unwrap_or_default();
    let mut tx = host.store().read(host.now()).await?;
    let keys = tx
        .confirmed_keys(&request.after_device, &request.after_slot, limit)
        .await?;
    drop(tx);
    let mut filled = Filled {
        looked_at: u32::try_from(keys.len()).unwrap_or_default(),
        ..Filled::default()
    };
    if filled.looked_at == limit {
        let last = keys.last().map(|key| match key {
            Ok(key) => (key.device.to_string(), key.slot.to_string()),
            Err(place) => place.clone(),
        });
        filled.last = last;
    }
    let keys = keys.into_iter().filter_map(|key| {
        let spoilt = |(device, slot): &(String, String)| {
            tracing::error!(
                device,
                slot,
                "no host has written it so: its key is left out"
            );
        };
        key.inspect_err(spoilt).ok()
    });
    let covered = keys.filter(|key| {
        let owner = &key.owner;
        let group = owner.group.as_ref();
        owner.state != DeviceState::Revoked && open.target.covers(&key.slot, &owner.model, group)
    });
    let keys: Vec<_> = covered.collect();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| (&key.device, &key.slot, key.version))
        .collect();
    let mut tx = host.store().write(host.now()).await?;
    open.require_open(host, &mut tx).await?;
    let added = tx.queue_exports(open.id(), &keys).await?;
    filled.queued = u32::try_from(added).unwrap_or(u32::MAX);
    if filled.queued == 0 {
        drop(tx);
        queued(host);
        return Ok(filled);
    }
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "export.filled",
        device: None,
        outcome: "ok",
        detail: json!({
            "target": open.id(),
            "name": open.target.name.as_str(),
            "queued": filled.queued,
        }),
    })
    .await?;
    tx.commit().await?;
    queued(host);
    Ok(filled)
}
