//! The storage keys, and how a new pair takes the place of the present one: two operators want it, the HSM makes
//! it, every row is brought under it at a bounded rate, and the old pair is destroyed when the last row has moved.
//!
//! Which pairs there are the HSM says, and how far the move has come each row: so it is taken up where it was left,
//! whatever stopped it.
//!
//! ```text
//! approved -> the new pair is made -> what is new comes under it -> rows move -> none is left -> the old pair
//!             is destroyed -> ended
//! ```

use std::{collections::BTreeMap, time::Duration};

use hsm::{HsmError, StorageError, StorageNumber};
use kdh_proto::Reason;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Host, HostError,
    administration::Operator,
    approvals,
    error::refused,
    state::ApprovedAct,
    store::{Actor, Approval, AuditEntry, DeviceKey, Proven, Sealed, SealedRow as _, Tx},
};

/// Rows in one job of the HSM and one transaction.
const BATCH: u32 = 64;
/// How often it is looked whether there is something to be moved, if nobody says so.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of the pairs of storage keys.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) rotation: Option<Approval>,
    /// Rows that are not as the HSM has sealed them.
    pub(crate) refused_rows: u64,
}

/// A pair, by its number.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) number: u32,
    pub(crate) state: &'static str,
    pub(crate) rows: u64,
}

/// Asks that a new pair takes the place of the present one.
pub(crate) async fn ask(
    host: &Host,
    operator: &Operator,
    why: &str,
) -> Result<Approval, HostError> {
    if in_force(host).await?.is_some() {
        let cause = "rows are still being moved: wait for the end, see kdhctl storage status";
        return Err(refused(Reason::AlreadyExists, cause));
    }
    let next = host.keys().storage()?.next();
    let next = next.ok_or_else(|| HostError::Internal("too many pairs".to_owned()))?;
    let act = ApprovedAct::StorageRotation;
    approvals::ask(host, operator, act, next.to_string(), why).await
}

/// A rotation was approved.
pub(crate) fn approved(host: &Host) {
    host.keys().storage_news().notify_one();
}

/// The pairs, and how many rows are under each.
pub(crate) async fn show(host: &Host) -> Result<Standing, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let rows = tx.rows_by_storage_key().await?;
    let rotation = tx.open_approvals(ApprovedAct::StorageRotation).await?.pop();
    drop(tx);
    let rotation = match rotation {
        Some(rotation) => Some(host.keys().prove_one(rotation).await?),
        None => None,
    };
    let (held, present) = (host.keys().storage_numbers(), host.keys().storage()?);
    let mut pairs: BTreeMap<u32, u64> = held.iter().map(|number| (number.get(), 0)).collect();
    pairs.extend(rows);
    let pairs = pairs.into_iter().map(|(number, rows)| Pair {
        number,
        state: match number.cmp(&present.get()) {
            _ if !held.iter().any(|held| held.get() == number) => "ABSENT",
            std::cmp::Ordering::Less => "RETIRING",
            std::cmp::Ordering::Equal => "PRESENT",
            std::cmp::Ordering::Greater => "PREPARED",
        },
        rows,
    });
    Ok(Standing {
        pairs: pairs.collect(),
        rotation: rotation.map(|rotation| Approval::clone(&rotation)),
        refused_rows: host.keys().refused_rows(),
    })
}

/// Does what was approved, for as long as it is awaited.
pub(crate) async fn keep_moving(host: &Host) {
    loop {
        match rotate(host).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "rows of keys are not moved; the next try follows");
            }
        }
        tokio::select! {
            () = host.keys().storage_news().notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Takes a rotation that is in force to its end, from wherever it is.
async fn rotate(host: &Host) -> Result<(), HostError> {
    let Some(rotation) = in_force(host).await? else {
        return Ok(());
    };
    let to = target(&rotation)?;
    let present = host.keys().storage()?;
    if to < present {
        return Err(HostError::Internal(format!(
            "pair {to} is older than the present one"
        )));
    }
    if to != present {
        begin(host, to).await?;
    }
    let Some(moved) = Mover::new(host, to).run().await? else {
        return Ok(());
    };
    // Of a pair that was being destroyed when the host was stopped, there may be half.
    let before = to
        .get()
        .checked_sub(1)
        .and_then(|number| StorageNumber::new(number).ok());
    let mut old = host.keys().storage_numbers();
    old.extend(before);
    old.retain(|number| *number < to);
    old.dedup();
    for old in old {
        destroy(host, old).await?;
    }
    // Its row has moved, too.
    let Some(rotation) = in_force(host).await? else {
        return Ok(());
    };
    let detail = json!({"approval": rotation.id, "storage-key": to.get(), "rows": moved});
    approvals::end(host, &rotation, &Actor::Host, "storage.rotated", detail).await
}

async fn in_force(host: &Host) -> Result<Option<Proven<Approval>>, HostError> {
    let rotations = approvals::in_force(host, ApprovedAct::StorageRotation).await?;
    let by_target = |rotation: &Proven<Approval>| target(rotation).ok();
    Ok(rotations.into_iter().max_by_key(by_target))
}

/// The number of the new pair.
pub(crate) fn target(rotation: &Approval) -> Result<StorageNumber, HostError> {
    let number = rotation
        .subject
        .parse()
        .ok()
        .and_then(|number| StorageNumber::new(number).ok());
    number.ok_or_else(|| HostError::Internal(format!("{} is no pair", rotation.subject)))
}

/// From here on, what is new comes under the new pair, which the HSM makes if no ceremony has brought it.
async fn begin(host: &Host, to: StorageNumber) -> Result<(), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    require_nothing_under(&mut tx, to).await?;
    drop(tx);
    host.in_hsm(move |keys| keys.begin_storage(to)).await?;
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: "storage.began",
        device: None,
        outcome: "ok",
        detail: json!({"storage-key": to.get()}),
    })
    .await?;
    Ok(tx.commit().await?)
}

/// Nothing is under the pair any more, and nothing ever comes under it: writers refuse rows under another pair than
/// the present one.
async fn destroy(host: &Host, old: StorageNumber) -> Result<(), HostError> {
    // In a turn of its own: who wrote before it is seen, and who writes after it is refused.
    let mut tx = host.store().write(host.now()).await?;
    require_nothing_under(&mut tx, old).await?;
    drop(tx);
    host.in_hsm(move |keys| keys.destroy_storage(old)).await?;
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: "storage.destroyed",
        device: None,
        outcome: "ok",
        detail: json!({"storage-key": old.get()}),
    })
    .await?;
    Ok(tx.commit().await?)
}

async fn require_nothing_under(tx: &mut Tx, pair: StorageNumber) -> Result<(), HostError> {
    let rows = tx.rows_by_storage_key().await?;
    let rows = rows.into_iter().find(|(number, _)| *number == pair.get());
    match rows {
        Some((_, rows)) if rows > 0 => {
            let cause = format!("{rows} rows are under pair {pair} of storage keys");
            Err(HostError::Internal(cause))
        }
        _ => Ok(()),
    }
}

/// Brings rows under a pair.
struct Mover<'h> {
    host: &'h Host,
    to: StorageNumber,
    moved: u64,
    refused: u64,
}

/// After which row the next batch begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    pub(crate) device: String,
    pub(crate) slot: String,
    pub(crate) version: u32,
}

impl<'h> Mover<'h> {
    const fn new(host: &'h Host, to: StorageNumber) -> Self {
        Self {
            host,
            to,
            moved: 0,
            refused: 0,
        }
    }

    /// Moves all rows, once. Says how many, or nothing if some cannot be moved.
    async fn run(mut self) -> Result<Option<u64>, HostError> {
        let pause = Duration::from_secs(1) * BATCH / self.host.config().rewrap_per_second.get();
        let mut cursor = Cursor::default();
        loop {
            let next = Instant::now() + pause;
            let mut tx = self.host.store().read(self.host.now()).await?;
            let rows = tx
                .device_keys_under_older(self.to.get(), &cursor, BATCH)
                .await?;
            drop(tx);
            let Some(last) = rows.last() else { break };
            let last = last.unproven();
            cursor = Cursor {
                device: last.device.to_string(),
                slot: last.slot.to_string(),
                version: last.version,
            };
            self.move_batch(rows).await?;
            sleep_until(next).await;
        }
        self.reseal_others().await?;
        Ok((self.refused == 0).then_some(self.moved))
    }

    async fn move_batch(&mut self, mut rows: Vec<Sealed<DeviceKey>>) -> Result<(), HostError> {
        let new = loop {
            match self.host.keys().rewrap(&rows, self.to).await {
                Ok(new) => break new,
                Err(HostError::Hsm(HsmError::Storage(StorageError::At { index, .. })))
                    if index < rows.len() =>
                {
                    self.refuse(&rows.remove(index)).await?;
                }
                Err(error) => return Err(error),
            }
        };
        let mut tx = self.host.store().write(self.host.now()).await?;
        for (old, new) in rows.iter().zip(&new) {
            // One that was changed meanwhile is under the new pair already.
            if tx.replace_device_key(old, new).await? {
                self.moved += 1;
            }
        }
        Ok(tx.commit().await?)
    }

    /// A row that nobody can vouch for stays where it is, and the old pair with it.
    async fn refuse(&mut self, row: &Sealed<DeviceKey>) -> Result<(), HostError> {
        self.refused += 1;
        let row = row.unproven();
        if !self.host.keys().note_refused(row.title()) {
            return Ok(());
        }
        tracing::error!(
            row = row.title(),
            "it is not as the HSM has sealed it, and is not moved"
        );
        let mut tx = self.host.store().write(self.host.now()).await?;
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "storage.row-refused",
            device: Some(&row.device),
            outcome: Reason::Internal.as_str(),
            detail: json!({"slot": row.slot.as_str(), "version": row.version}),
        })
        .await?;
        Ok(tx.commit().await?)
    }

    /// Registered keys and approvals are few.
    async fn reseal_others(&mut self) -> Result<(), HostError> {
        let keys = self.host.keys();
        let mut tx = self.host.store().read(self.host.now()).await?;
        let mut registered = tx.keys().await?;
        let approvals = tx.approvals_under_older(self.to.get()).await?;
        drop(tx);
        registered.retain(|key| key.seal().is_none_or(|seal| seal.number < self.to));
        let registered = keys.prove(registered).await?;
        let approvals = keys.prove(approvals).await?;
        let sealed = keys
            .seal(registered.iter().map(|row| (**row).clone()).collect())
            .await?;
        let approved = keys
            .seal(approvals.iter().map(|row| (**row).clone()).collect())
            .await?;
        let mut tx = self.host.store().write(self.host.now()).await?;
        for (old, new) in registered.iter().zip(&sealed) {
            tx.reseal_key(old.sealed(), new).await?;
        }
        for (old, new) in approvals.iter().zip(&approved) {
            require_replaced(&mut tx, old, new).await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn require_replaced(
    tx: &mut Tx,
    old: &Proven<Approval>,
    new: &Sealed<Approval>,
) -> Result<(), HostError> {
    if tx.replace_approval(old.sealed(), new).await? {
        return Ok(());
    }
    Err(HostError::Internal(format!(
        "{} was changed at the same time",
        old.title()
    )))
}
