//! Records are made of what is in line: the HSM verifies the device's row, wraps its key for the target, and makes
//! the record's MAC, in one job. Until that is put down, with its record in the trail, nothing has left.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use hsm::{ExportTarget, HsmError, KnSource, StorageError};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{OpenTarget, in_force, record, sending::put_back};
use crate::{
    Host, HostError,
    state::{DeviceKeyState, DeviceState, ExportState},
    store::{
        Actor, AuditEntry, DeviceKey, ExportMarks, ExportRow, KeyPlace, KeyRow, Owner, StoreError,
        place_of, time_text,
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

/// Makes what is in line, for as long as it is awaited.
pub(crate) async fn keep_exporting(host: &Host) {
    let mut tidied = None::<Instant>;
    loop {
        let closed = host.exports().closed.swap(false, Ordering::Relaxed);
        let tidy = closed || tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY);
        match pass(host, tidy).await {
            Ok(more) => {
                if tidy {
                    tidied = Some(Instant::now());
                }
                if more {
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

/// Makes some for each target, so that none waits for the long line of another. Whether there is more to be made at
/// once.
async fn pass(host: &Host, tidy: bool) -> Result<bool, HostError> {
    let open = in_force(host).await?;
    let is_open = |id: &String| open.iter().any(|open| open.id() == id);
    host.exports().faults().retain(|id, _| is_open(id));
    let mut more = false;
    for target in &open {
        let outcome = make_round(host, target).await;
        let mut faults = host.exports().faults();
        match outcome {
            Ok(left) => {
                more |= left;
                faults.remove(target.id());
            }
            Err(error) => {
                let name = target.target.name.as_str();
                tracing::error!(target = name, %error, "no records are made; the next try follows");
                faults.insert(target.id().to_owned(), error.to_string());
            }
        }
    }
    if tidy {
        erase_old(host).await?;
    }
    Ok(more)
}

async fn make_round(host: &Host, target: &OpenTarget) -> Result<bool, HostError> {
    for _ in 0..ROUND {
        if !make_some(host, target).await? {
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
    key: Option<KeyRow>,
    owner: Option<Owner>,
    /// Whether its device is of its model and in its group by the audit trail, too.
    is_owner_recorded: bool,
}

/// What came of it.
struct Outcome {
    row: ExportRow,
    /// Of one that was skipped.
    why: String,
}

/// Makes the first ones in line. Whether there may be more.
async fn make_some(host: &Host, open: &OpenTarget) -> Result<bool, HostError> {
    let candidates = candidates(host, open).await?;
    if candidates.is_empty() {
        return Ok(false);
    }
    let target = open.target.clone();
    let shared = host.in_hsm(move |keys| keys.export_target(&target)).await?;
    let mut outcomes = Vec::with_capacity(candidates.len());
    let mut making = Vec::new();
    for candidate in candidates {
        match exportable(host, open, &shared, &candidate)? {
            Ok(export) => making.push((candidate, export)),
            Err(why) => outcomes.push(skipped(candidate.row, why)),
        }
    }
    make(host, open, &shared, making, &mut outcomes).await?;
    add_macs(host, open, &shared, &mut outcomes).await?;
    outcomes.sort_by_key(|outcome| outcome.row.position);
    put_down(host, open, &outcomes).await
}

async fn candidates(host: &Host, open: &OpenTarget) -> Result<Vec<Candidate>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let mut candidates = Vec::new();
    let rows = tx.queued_exports(open.id(), BATCH).await?;
    let places: Vec<_> = rows.iter().map(place).collect();
    let keys = tx.key_rows_at(&places).await?;
    let mut keys: HashMap<_, _> = keys.into_iter().map(|key| (place_of(&key), key)).collect();
    let devices: HashSet<_> = rows.iter().map(|row| row.device.clone()).collect();
    let owners = tx.export_owners(&Vec::from_iter(devices)).await?;
    for (row, place) in rows.into_iter().zip(places) {
        // One that no host has written is none.
        let owner = owners.get(row.device.as_str());
        let owner = owner.and_then(|owner| owner.as_ref().ok()).cloned();
        let is_recorded = |owner: &Owner| {
            let trail = tx.trail_of(&row.device);
            trail.belongs_to(owner.model.as_str(), owner.group.as_ref())
        };
        candidates.push(Candidate {
            key: keys.remove(&place),
            // A target of all devices does not ask what they are.
            is_owner_recorded: open.target.devices.is_none()
                || owner.as_ref().is_some_and(is_recorded),
            owner,
            row,
        });
    }
    Ok(candidates)
}

/// Where the row of the device's key stands.
fn place(row: &ExportRow) -> KeyPlace {
    KeyPlace {
        device: row.device.to_string(),
        slot: row.slot.to_string(),
        version: row.version.into(),
    }
}

fn skipped(row: ExportRow, why: impl Into<String>) -> Outcome {
    let row = ExportRow {
        state: ExportState::Skipped,
        made: None,
        ..row
    };
    Outcome {
        row,
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
    let (Some(key), Some(owner)) = (&candidate.key, &candidate.owner) else {
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
    if owner.state == DeviceState::Revoked {
        return Ok(Err("its device was revoked".to_owned()));
    }
    let scope = &open.target;
    if !scope.covers(&row.slot, &owner.model, owner.group.as_ref()) {
        return Ok(Err("the target does not cover it".to_owned()));
    }
    if !candidate.is_owner_recorded {
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
                let key = candidate.key.as_ref()?.as_ref().ok()?.unproven().clone();
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
                outcomes.push(skipped(candidate.row, error.to_string()));
            }
        }
    };
    for ((candidate, _), exported) in making.into_iter().zip(exported) {
        let Some(Ok(key)) = &candidate.key else {
            continue;
        };
        let key = key.unproven();
        if exported.kcv != key.kcv {
            let why = format!("its check value is {}, not {}", exported.kcv, key.kcv);
            outcomes.push(skipped(candidate.row, why));
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
            why: String::new(),
        });
    }
    Ok(())
}

fn made(
    target: &super::Target,
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

/// Whether there may be more to be made.
async fn put_down(host: &Host, open: &OpenTarget, outcomes: &[Outcome]) -> Result<bool, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    if !open.is_open(host, &mut tx).await? {
        return Ok(false);
    }
    let rows: Vec<_> = outcomes.iter().map(|outcome| &outcome.row).collect();
    let finished = tx.finish_exports(&rows).await?;
    for Outcome { row, why } in outcomes {
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

/// Takes away the keys in records that arrived long ago, and all of those for targets that were closed.
async fn erase_old(host: &Host) -> Result<(), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let targets = tx.export_targets().await?;
    drop(tx);
    let before = time_text(host.now() - host.config().export_keep)?;
    for (id, mut marks) in targets {
        // What the trail says to be over never comes back. What is in force the database alone could say otherwise.
        let is_over = host.store().is_approval_over(&id);
        let before = (!is_over).then_some(&*before);
        while let Some(now) = erase_some(host, &id, marks, before).await? {
            marks = now;
        }
    }
    Ok(())
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
