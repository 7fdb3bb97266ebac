//! What the host does by itself: keys that are due by their profiles, and keys for devices that came to a profile
//! later.

use std::{collections::BTreeMap, time::Duration};

use kdh_proto::Reason;
use serde_json::json;
use tokio::time::Instant;

use super::{making, open};
use crate::{
    Host, HostError,
    config::KeysForNewDevices,
    key_profile::{Target, in_force},
    names::{DeviceSerial, Slot},
    state::{RolloutKind, RolloutState},
    store::{Actor, AuditEntry, Reach, Rollout, Seen, Tx, Waves, time_text},
};

/// How often it is looked whether keys are due.
const LOOK: Duration = Duration::from_hours(1);
/// Devices that came to a profile, looked at together.
const PAGE: u32 = 64;

/// A slot whose keys are due when they are older than a time, of the devices that have one profile.
#[derive(Debug)]
pub(super) struct Due {
    reach: Reach,
    pub(super) slot: Slot,
    before: String,
    /// Behind which key the next ones are looked for.
    after: (String, String),
}

impl Due {
    /// Devices whose keys are due, the oldest key first.
    pub(super) async fn next(&mut self, tx: &mut Tx, limit: u32) -> Result<Vec<Seen>, HostError> {
        let after = (&*self.after.0, &*self.after.1);
        let due = tx.due(&self.reach, &self.slot, &self.before, after, limit);
        let due = due.await?;
        if let Some((time, last)) = due.last() {
            self.after = (time.clone(), last.serial.to_string());
        }
        Ok(due.into_iter().map(|(_, seen)| seen).collect())
    }
}

/// Every slot that profiles renew, for what carries them. A profile that is not as operators have made it, or that the
/// configuration refuses by now, renews nothing, is named, and keeps no other from it.
pub(super) async fn slots(host: &Host) -> Result<Vec<Due>, HostError> {
    let now = host.now();
    let mut due = Vec::new();
    let mut refused = BTreeMap::new();
    let mut tx = host.store().read(now).await?;
    for target in tx.profile_targets().await? {
        let (model, group) = match &target {
            Target::Model(name) => (name.as_str(), None),
            Target::Group(name) => ("", Some(name)),
        };
        let profile = match in_force::profile_at(host, &mut tx, model, group).await {
            Ok(Some((_, profile))) => profile,
            Ok(None) => continue,
            Err(error) if making::is_of_profile(&error) => {
                refused.insert(target.to_string(), error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        for slot in profile.slots {
            let Some(days) = slot.renewal_days else {
                continue;
            };
            due.push(Due {
                reach: match target.clone() {
                    Target::Model(name) => Reach::Model(name),
                    Target::Group(name) => Reach::Group(name),
                },
                slot: slot.slot,
                before: time_text(now - time::Duration::days(days.into()))?,
                after: (String::new(), String::new()),
            });
        }
    }
    drop(tx);
    report(host, refused).await?;
    Ok(due)
}

/// Puts down why nothing is renewed for what carries a profile, once until that changes.
async fn report(host: &Host, refused: BTreeMap<String, String>) -> Result<(), HostError> {
    let before = host.rollouts().refused_profiles(refused.clone());
    for (target, cause) in refused {
        if before.get(&target) == Some(&cause) {
            continue;
        }
        tracing::error!(target, cause, "no keys are renewed by its profile");
        let mut tx = host.store().write(host.now()).await?;
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "rollout.profile-refused",
            device: None,
            outcome: Reason::RequestInvalid.as_str(),
            detail: json!({"of": target, "cause": cause}),
        })
        .await?;
        tx.commit().await?;
    }
    Ok(())
}

/// A device has come to what may carry a profile, in this transaction.
pub(crate) fn came(host: &Host, tx: &mut Tx, device: &DeviceSerial) {
    if host.config().keys_for_new_devices == KeysForNewDevices::Make {
        tx.queue_for_filling(device);
    }
}

/// Looks for what is due.
#[derive(Debug, Default)]
pub(super) struct Watch {
    looked: Option<Instant>,
}

impl Watch {
    /// Begins rollouts for what is due, unless they are running, or an operator has paused them.
    pub(super) async fn look(&mut self, host: &Host) -> Result<(), HostError> {
        if host.config().keys_for_new_devices == KeysForNewDevices::Make {
            fill(host).await?;
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            renew(host).await?;
            self.looked = Some(Instant::now());
        }
        Ok(())
    }
}

async fn renew(host: &Host) -> Result<(), HostError> {
    if is_open(host, RolloutKind::Renewal).await? {
        return Ok(());
    }
    for mut due in slots(host).await? {
        let mut tx = host.store().read(host.now()).await?;
        let seen = due.next(&mut tx, 1).await?;
        drop(tx);
        if !seen.is_empty() {
            return begin(host, RolloutKind::Renewal, "keys are due by their profiles").await;
        }
    }
    Ok(())
}

async fn fill(host: &Host) -> Result<(), HostError> {
    if is_open(host, RolloutKind::Filling).await? {
        return Ok(());
    }
    let why = "devices have come to a key profile";
    let rollout = by_host(host, 0, RolloutKind::Filling, why)?;
    loop {
        let mut tx = host.store().read(host.now()).await?;
        let seen = tx.unfilled("", PAGE).await?;
        drop(tx);
        if seen.is_empty() {
            return Ok(());
        }
        if making::is_wanted(host, &rollout, seen.clone()).await? {
            return begin(host, RolloutKind::Filling, why).await;
        }
        let mut tx = host.store().write(host.now()).await?;
        // One that an operator has moved meanwhile may have come to another profile: it is looked at again.
        if tx.unqueue_as_seen(&seen).await? {
            tx.commit().await?;
        }
    }
}

async fn is_open(host: &Host, kind: RolloutKind) -> Result<bool, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let open = tx.open_rollouts().await?;
    let mut open = open.iter().flatten();
    Ok(open.any(|rollout| rollout.unproven().kind == kind))
}

async fn begin(host: &Host, kind: RolloutKind, why: &str) -> Result<(), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let number = tx.next_rollout_number().await?;
    drop(tx);
    let rollout = by_host(host, number, kind, why)?;
    match open(host, &Actor::Host, &rollout).await {
        // An operator was quicker with the number: the next look follows.
        Err(error) if error.reason() == Reason::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

fn by_host(host: &Host, number: u32, kind: RolloutKind, why: &str) -> Result<Rollout, HostError> {
    let now = time_text(host.now())?;
    Ok(Rollout {
        number,
        kind,
        reach: Reach::Any,
        slots: Vec::new(),
        waves: Waves {
            devices: 0,
            proceed_at: 0,
            stop_after: None,
            forgiven: 0,
        },
        state: RolloutState::Running,
        state_why: String::new(),
        started_by: Actor::Host.to_string(),
        why: why.to_owned(),
        created_at: now.clone(),
        changed_at: now,
    })
}
