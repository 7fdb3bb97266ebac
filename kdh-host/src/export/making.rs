//! Records are made of what is in line: the HSM verifies the device's row, wraps its key for the target, and makes
//! the record's MAC, in one job. Until that is put down, with its record in the trail, nothing has left.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use hsm::{ExportTarget, HsmError, KnSource, StorageError};
use serde_json::json;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use super::{OpenTarget, Target, in_force, record, sending::put_back};
use crate::{
    Host, HostError,
    state::{DeviceKeyState, DeviceState, ExportState},
    store::{
        Actor, AuditEntry, DeviceKey, ExportMarks, ExportRow, KeyPlace, KeyRow, Owner, StoreError,
        Tx, place_of, time_text,
    },
};

/// Records in one job of the HSM and one transaction.
const BATCH: u32 = 64;
/// Jobs for one target, before the next one has its turn.
const ROUND: usize = 16;
/// How often it is looked whether there is something to be made, if nobody says so.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked whether there is something to be erased.
const TIDY: Duration = Duration::from_mins(1);
/// Records that are erased in one transaction.
const ERASED_AT_ONCE: u32 = 1000;
/// Such transactions, before the next records are made.
const ERASING: usize = 4;

/// Makes what is in line, for as long as it is awaited.
pub(crate) async fn keep_exporting(host: &Host) {
    let mut tidied = None::<Instant>;
    loop {
        let closed = host.exports().closed.swap(false, Ordering::Relaxed);
        let tidy = closed || tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY);
        match pass(host, tidy).await {
            Ok(left) => {
                if tidy {
                    tidied = (!left.to_be_erased).then(Instant::now);
                }
                if left.to_be_made || left.to_be_erased {
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "keys are not exported; the next try follows");
                host.exports().closed.fetch_or(closed, Ordering::Relaxed);
            }
        }
        tokio::select! {
            () = host.exports().work.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Whether there is more to be done at once.
struct Left {
    to_be_made: bool,
    to_be_erased: bool,
}

/// Makes some for each target, and erases some, so that none waits for the long line of another.
async fn pass(host: &Host, tidy: bool) -> Result<Left, HostError> {
    let open = in_force(host).await?;
    let is_open = |id: &String| open.iter().any(|open| open.id() == id);
    host.exports().faults().retain(|id, _| is_open(id));
    let mut to_be_made = false;
    for target in &open {
        let outcome = make_round(host, target).await;
        let mut faults = host.exports().faults();
        match outcome {
            Ok(left) => {
                to_be_made |= left;
                faults.remove(target.id());
            }
            Err(error) => {
                let name = target.target.name.as_str();
                tracing::error!(target = name, %error, "no records are made; the next try follows");
                faults.insert(target.id().to_owned(), error.to_string());
            }
        }
    }
    Ok(Left {
        to_be_made,
        to_be_erased: tidy && erase_old(host).await?,
    })
}

async fn make_round(host: &Host, target: &OpenTarget) -> Result<bool, HostError> {
    let shared = OnceCell::new();
    host.store().settle_exports(target.id(), host.now()).await?;
    for _ in 0..ROUND {
        if !make_some(host, target, &shared).await? {
            return require_none_put_back(host, target).await.map(|()| false);
        }
    }
    Ok(true)
}

/// Names what was made before and stands in line again, which is never made anew: the switch may have it already,
/// with another key.
async fn require_none_put_back(host: &Host, target: &OpenTarget) -> Result<(), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    match tx.export_put_back(target.id()).await? {
        None => Ok(()),
        Some(position) => Err(put_back(target, position)),
    }
}

/// What is in line, as the database has it.
struct Candidate {
    row: ExportRow,
    basis: Basis,
}

/// By what a record is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Basis {
    key: Option<KeyRow>,
    owner: Option<Owner>,
    /// Whether its device is of its model and in its group by the audit trail, too.
    is_owner_recorded: bool,
    /// Whether its device was revoked, by the audit trail.
    is_revoked: bool,
}

/// What came of it.
struct Outcome {
    row: ExportRow,
    basis: Basis,
    /// Of one that was skipped.
    why: String,
}

/// Makes the first ones in line, under the keys of this round. Whether there may be more.
async fn make_some(
    host: &Host,
    open: &OpenTarget,
    shared: &OnceCell<ExportTarget>,
) -> Result<bool, HostError> {
    let candidates = candidates(host, open).await?;
    if candidates.is_empty() {
        return Ok(false);
    }
    let shared = shared.get_or_try_init(|| open.keys(host)).await?;
    let mut outcomes = Vec::with_capacity(candidates.len());
    let mut making = Vec::new();
    for candidate in candidates {
        match exportable(host, open, shared, &candidate)? {
            Ok(export) => making.push((candidate, export)),
            Err(why) => outcomes.push(skipped(candidate, why)),
        }
    }
    make(host, open, shared, making, &mut outcomes).await?;
    add_macs(host, open, shared, &mut outcomes).await?;
    outcomes.sort_by_key(|outcome| outcome.row.position);
    put_down(host, open, outcomes).await
}

async fn candidates(host: &Host, open: &OpenTarget) -> Result<Vec<Candidate>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let rows = tx.queued_exports(open.id(), BATCH).await?;
    let bases = bases(&mut tx, &open.target, rows.iter()).await?;
    let candidates = rows.into_iter().zip(bases);
    Ok(candidates
        .map(|(row, basis)| Candidate { row, basis })
        .collect())
}

/// By what records are judged, in this moment of the database.
async fn bases(
    tx: &mut Tx,
    target: &Target,
    rows: impl Iterator<Item = &ExportRow> + Clone,
) -> Result<Vec<Basis>, StoreError> {
    let places: Vec<_> = rows.clone().map(place).collect();
    let keys = tx.key_rows_at(&places).await?;
    let mut keys: HashMap<_, _> = keys.into_iter().map(|key| (place_of(&key), key)).collect();
    let devices: HashSet<_> = rows.clone().map(|row| row.device.clone()).collect();
    let owners = tx.export_owners(&Vec::from_iter(devices)).await?;
    let bases = rows.zip(places).map(|(row, place)| {
        // One that no host has written is none.
        let owner = owners.get(row.device.as_str());
        let owner = owner.and_then(|owner| owner.as_ref().ok()).cloned();
        let trail = tx.trail_of(&row.device);
        let is_recorded =
            |owner: &Owner| trail.belongs_to(owner.model.as_str(), owner.group.as_ref());
        Basis {
            key: keys.remove(&place),
            // A target of all devices does not ask what they are.
            is_owner_recorded: target.devices.is_none() || owner.as_ref().is_some_and(is_recorded),
            is_revoked: trail.is_revoked(),
            owner,
        }
    });
    Ok(bases.collect())
}

/// Where the row of the device's key stands.
fn place(row: &ExportRow) -> KeyPlace {
    KeyPlace {
        device: row.device.to_string(),
        slot: row.slot.to_string(),
        version: row.version.into(),
    }
}

fn skipped(candidate: Candidate, why: impl Into<String>) -> Outcome {
    Outcome {
        row: ExportRow {
            state: ExportState::Skipped,
            made: None,
            ..candidate.row
        },
        basis: candidate.basis,
        why: why.into(),
    }
}

/// What the HSM is to export; or why there is nothing.
fn exportable(
    host: &Host,
    open: &OpenTarget,
    shared: &ExportTarget,
    candidate: &Candidate,
) -> Result<Result<hsm::KeyExport, String>, HostError> {
    let (Some(key), Some(owner)) = (&candidate.basis.key, &candidate.basis.owner) else {
        return Ok(Err("it is not in the database".to_owned()));
    };
    let key = match key {
        Ok(key) => key,
        Err(row) => return Ok(Err(StoreError::NotSealed(row.place.to_string()).to_string())),
    };
    let row = key.unproven();
    if row.state != DeviceKeyState::Active {
        return Ok(Err(format!("it is {}", row.state.as_str())));
    }
    if candidate.basis.is_revoked || owner.state == DeviceState::Revoked {
        return Ok(Err("its device was revoked".to_owned()));
    }
    let scope = &open.target;
    if !scope.covers(&row.slot, &owner.model, owner.group.as_ref()) {
        return Ok(Err("the target does not cover it".to_owned()));
    }
    if !candidate.basis.is_owner_recorded {
        let cause = format!("the model or the group of {}", row.device);
        return Ok(Err(StoreError::NotRecorded(cause).to_string()));
    }
    let export = match host.keys().export_of(key) {
        Ok(export) => export,
        Err(error @ HostError::Store(StoreError::NotSealed(_))) => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let possible = shared.verify_exportable(row.kind, &export.header, &export.optional);
    Ok(possible.map(|()| export).map_err(|error| error.to_string()))
}

/// Has the HSM make records. What it cannot make one of is skipped, and does not keep others from going.
async fn make(
    host: &Host,
    open: &OpenTarget,
    shared: &ExportTarget,
    mut making: Vec<(Candidate, hsm::KeyExport)>,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), HostError> {
    let exported = loop {
        if making.is_empty() {
            return Ok(());
        }
        let keys = making.iter().map(|(_, export)| export.clone()).collect();
        let parts: Vec<_> = making
            .iter()
            .filter_map(|(candidate, _)| {
                let key = candidate.basis.key.as_ref()?.as_ref().ok()?;
                let key = key.unproven().clone();
                Some((candidate.row.clone(), key))
            })
            .collect();
        let target = open.target.clone();
        let bytes = move |index: usize, kcv: &hsm::Kcv, wrapped: &[u8]| {
            let (row, key) = &parts[index];
            let row = made(&target, row, key, kcv, wrapped);
            record::bytes(&record::message(&target, &row))
        };
        match host.keys().export(shared, keys, bytes).await {
            Ok(exported) => break exported,
            Err(error) => {
                let Some(index) = culprit(&error, &making) else {
                    return Err(error.into());
                };
                let (candidate, _) = making.remove(index);
                outcomes.push(skipped(candidate, error.to_string()));
            }
        }
    };
    for ((candidate, _), exported) in making.into_iter().zip(exported) {
        let Some(Ok(key)) = &candidate.basis.key else {
            continue;
        };
        let key = key.unproven();
        if exported.kcv != key.kcv {
            let why = format!("its check value is {}, not {}", exported.kcv, key.kcv);
            outcomes.push(skipped(candidate, why));
            continue;
        }
        let row = made(
            &open.target,
            &candidate.row,
            key,
            &exported.kcv,
            &exported.wrapped,
        );
        outcomes.push(Outcome {
            row: ExportRow {
                mac: Some(exported.mac),
                ..row
            },
            basis: candidate.basis,
            why: String::new(),
        });
    }
    Ok(())
}

fn made(
    target: &Target,
    row: &ExportRow,
    key: &DeviceKey,
    kcv: &hsm::Kcv,
    wrapped: &[u8],
) -> ExportRow {
    ExportRow {
        state: ExportState::Made,
        made: Some(record::made(target, key, kcv, wrapped)),
        ..row.clone()
    }
}

/// Which of several keys will never be exported, if it is one of them that is at fault.
fn culprit(error: &HsmError, making: &[(Candidate, hsm::KeyExport)]) -> Option<usize> {
    let index = match error {
        HsmError::Storage(StorageError::At { index, .. }) => Some(*index),
        HsmError::UsageNotAllowed { label, .. } => making.iter().position(|(_, export)| {
            matches!(&export.kn, KnSource::InToken(key) if key.name().label() == label)
        }),
        _ => None,
    };
    index.filter(|index| *index < making.len())
}

/// What was skipped goes out, too: no position is missing.
async fn add_macs(
    host: &Host,
    open: &OpenTarget,
    shared: &ExportTarget,
    outcomes: &mut [Outcome],
) -> Result<(), HostError> {
    let mut skipped: Vec<_> = outcomes
        .iter_mut()
        .filter(|outcome| outcome.row.state == ExportState::Skipped)
        .collect();
    if skipped.is_empty() {
        return Ok(());
    }
    let records = skipped
        .iter()
        .map(|outcome| record::bytes(&record::message(&open.target, &outcome.row)));
    let macs = host.keys().export_macs(shared, records.collect()).await?;
    for (outcome, mac) in skipped.iter_mut().zip(macs) {
        outcome.row.mac = Some(mac);
    }
    Ok(())
}

/// Puts down what still is as it was judged, which nobody changes in a writer's turn; the rest stays in line. Whether
/// there may be more to be made.
async fn put_down(
    host: &Host,
    open: &OpenTarget,
    mut outcomes: Vec<Outcome>,
) -> Result<bool, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    if !open.is_open(host, &mut tx).await? {
        return Ok(false);
    }
    let rows = outcomes.iter().map(|outcome| &outcome.row);
    let now = bases(&mut tx, &open.target, rows).await?;
    outcomes.truncate(unchanged(&outcomes, &now));
    if outcomes.is_empty() {
        return Ok(true);
    }
    let rows: Vec<_> = outcomes.iter().map(|outcome| &outcome.row).collect();
    let finished = tx.finish_exports(&rows).await?;
    for Outcome { row, why, .. } in &outcomes {
        if finished.contains(&row.position) {
            let sha256 = record::digest(&record::message(&open.target, row));
            tx.record_export(open.target.name.as_str(), row, &sha256, why)
                .await?;
        }
    }
    tx.commit().await?;
    host.exports().made.send_replace(());
    Ok(true)
}

/// How many are as they were judged, before the first that is not: what is made behind it would have it count as made.
fn unchanged(outcomes: &[Outcome], now: &[Basis]) -> usize {
    let same = outcomes.iter().zip(now);
    same.take_while(|(outcome, now)| outcome.basis == **now)
        .count()
}

/// Takes away some keys in records that arrived long ago, and of those for targets that were closed. Whether there may
/// be more.
async fn erase_old(host: &Host) -> Result<bool, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let targets = tx.export_targets().await?;
    drop(tx);
    let before = time_text(host.now() - host.config().export_keep)?;
    let mut erased = 0;
    for (id, mut marks) in targets {
        // What the trail says to be over never comes back. What is in force the database alone could say otherwise.
        let is_over = host.store().is_approval_over(&id);
        let before = (!is_over).then_some(&*before);
        while let Some(now) = erase_some(host, &id, marks, before).await? {
            marks = now;
            erased += 1;
            if erased == ERASING {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

async fn erase_some(
    host: &Host,
    id: &str,
    seen: ExportMarks,
    before: Option<&str>,
) -> Result<Option<ExportMarks>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let last = tx.last_to_erase(id, seen.erased, before, ERASED_AT_ONCE);
    let Some(last) = last.await? else {
        return Ok(None);
    };
    drop(tx);
    let mut tx = host.store().write(host.now()).await?;
    let marks = tx.export_marks(id).await?;
    let from = marks.erased + 1;
    tx.erase_exports(id, from, last).await?;
    let marks = ExportMarks {
        erased: last,
        ..marks
    };
    tx.set_export_marks(id, marks).await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: "export.erased",
        device: None,
        outcome: "ok",
        detail: json!({"target": id, "from": from, "to": last}),
    })
    .await?;
    tx.commit().await?;
    Ok(Some(marks))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use hsm::{Kcv, KcvMethod};
    use tr34::KeyKind;

    use super::*;
    use crate::{
        names::{DeviceSerial, GroupName, Model, Slot},
        store::{KeySource, Sealed},
    };

    fn key(state: DeviceKeyState) -> Sealed<DeviceKey> {
        let key = DeviceKey {
            device: DeviceSerial::parse("SN-1").unwrap(),
            slot: Slot::parse("tmk").unwrap(),
            version: 1,
            state,
            source: KeySource::Nothing,
            header: "D0000K0AB00E0000".parse().unwrap(),
            kind: KeyKind::Aes128,
            kcv: Kcv::parse(KcvMethod::AesCmac, "A1B2C3").unwrap(),
            recipient: None,
            created_at: String::new(),
            changed_at: String::new(),
        };
        Sealed::new(key, None)
    }

    fn basis() -> Basis {
        Basis {
            key: Some(Ok(key(DeviceKeyState::Active))),
            owner: Some(Owner {
                model: Model::parse("M1").unwrap(),
                group: None,
                state: DeviceState::Bound,
            }),
            is_owner_recorded: true,
            is_revoked: false,
        }
    }

    fn outcome(position: u64) -> Outcome {
        Outcome {
            row: ExportRow {
                target: "a".to_owned(),
                position,
                device: DeviceSerial::parse("SN-1").unwrap(),
                slot: Slot::parse("tmk").unwrap(),
                version: 1,
                state: ExportState::Made,
                made: None,
                mac: None,
            },
            basis: basis(),
            why: String::new(),
        }
    }

    #[test]
    fn what_was_changed_since_it_was_judged_stays_in_line_with_those_behind_it() {
        let outcomes = [1, 2, 3].map(outcome);
        let same = [(); 3].map(|()| basis());
        assert_eq!(unchanged(&outcomes, &same), 3);
        let owner = || basis().owner.unwrap();
        let revoked = Owner {
            state: DeviceState::Revoked,
            ..owner()
        };
        let grouped = Owner {
            group: Some(GroupName::parse("pilot").unwrap()),
            ..owner()
        };
        let replaced = key(DeviceKeyState::Destroyed);
        let changes = [
            Basis {
                owner: None,
                ..basis()
            },
            Basis {
                owner: Some(revoked),
                ..basis()
            },
            Basis {
                owner: Some(grouped),
                ..basis()
            },
            Basis {
                is_owner_recorded: false,
                ..basis()
            },
            Basis {
                is_revoked: true,
                ..basis()
            },
            Basis {
                key: Some(Ok(replaced)),
                ..basis()
            },
        ];
        for change in changes {
            for place in 0..3 {
                let mut now = same.clone();
                now[place] = change.clone();
                assert_eq!(unchanged(&outcomes, &now), place, "{change:?}");
            }
        }
    }
}
