//! The storage keys, and how a new pair takes the place of the present one: two operators want it, the HSM makes
//! it, every row is brought under it at a bounded rate, and the old pair is destroyed when the last row has moved, or
//! as long after as is configured.
//!
//! Which pairs there are the HSM says, and how far the move has come each row: so it is taken up where it was left,
//! whatever stopped it.
//!
//! ```text
//! approved -> the new pair is made -> what is new comes under it -> rows move -> none is left -> the old pair
//!             is destroyed -> ended
//! ```

mod mover;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hsm::StorageNumber;
use kdh_proto::Reason;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::Notify, time::sleep};

use self::mover::Mover;
use crate::{
    Host, HostError,
    administration::Operator,
    approvals,
    error::refused,
    state::ApprovedAct,
    store::{Actor, Approval, AuditEntry, Proven, Tx, time_text},
};

/// After which time a rotation that has stopped is tried again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_mins(5);

/// How a rotation goes, as far as the database and the HSM do not say it.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    news: Notify,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// Rows that are not moved.
    refused: BTreeSet<String>,
    trouble: Option<Trouble>,
}

/// Why a rotation does not go on.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) fault: String,
    pub(crate) next_try: OffsetDateTime,
}

/// What is known of the pairs of storage keys.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) rotation: Option<Approval>,
    /// When the old pair is destroyed, if its last row has moved.
    pub(crate) destroyed_at: Option<OffsetDateTime>,
    pub(crate) refused_rows: usize,
    pub(crate) trouble: Option<Trouble>,
}

/// A pair, by its number.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) number: u32,
    pub(crate) state: &'static str,
    pub(crate) rows: u64,
}

/// How far a rotation has come. It stands in the row of its approval, sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// What is new comes under the new pair, as soon as the HSM has it.
    Begun,
    /// The last row had moved at this time.
    Moved(OffsetDateTime),
}

/// What is left to do.
enum Left {
    Nothing,
    /// The old pair is to be destroyed at this time.
    Destruction(OffsetDateTime),
    /// Rows that are not as the HSM has sealed them.
    Refused(usize),
}

impl Rotation {
    /// It may have become possible to go on.
    pub(crate) fn look_again(&self) {
        self.news.notify_one();
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows were looked at, and these are not moved. Says which of those before are mended, or gone.
    fn looked(&self, refused: &BTreeSet<String>) -> Vec<String> {
        let before = std::mem::replace(&mut self.noted().refused, refused.clone());
        before.difference(refused).cloned().collect()
    }
}

impl Progress {
    const BEGUN: &str = "BEGUN";
    const MOVED: &str = "MOVED ";

    /// Of a rotation; none if it has not begun.
    fn of(rotation: &Approval) -> Result<Option<Self>, HostError> {
        let Some(text) = &rotation.progress else {
            return Ok(None);
        };
        if text == Self::BEGUN {
            return Ok(Some(Self::Begun));
        }
        let at = text.strip_prefix(Self::MOVED);
        let at = at.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
        let unknown = || HostError::Internal(format!("{text} is no progress of a rotation"));
        at.map(Self::Moved).map(Some).ok_or_else(unknown)
    }

    fn text(self) -> Result<String, HostError> {
        Ok(match self {
            Self::Begun => Self::BEGUN.to_owned(),
            Self::Moved(at) => format!("{}{}", Self::MOVED, time_text(at)?),
        })
    }
}

/// Asks that a new pair takes the place of the present one.
pub(crate) async fn ask(
    host: &Host,
    operator: &Operator,
    why: &str,
) -> Result<Approval, HostError> {
    if in_force(host).await?.is_some() {
        let cause = "a rotation is under way: wait for its end, see kdhctl storage status";
        return Err(refused(Reason::AlreadyExists, cause));
    }
    let next = host.keys().storage()?.next();
    let next = next.ok_or_else(|| HostError::Internal("too many pairs".to_owned()))?;
    let act = ApprovedAct::StorageRotation;
    approvals::ask(host, operator, act, next.to_string(), why).await
}

/// Whether what is new comes under the new pair, as soon as the HSM has it.
pub(crate) fn has_begun(rotation: &Approval) -> Result<bool, HostError> {
    Ok(Progress::of(rotation)?.is_some())
}

/// Of a rotation that has begun, there may be rows under both pairs.
pub(crate) fn require_not_begun(rotation: &Approval) -> Result<(), HostError> {
    if !has_begun(rotation)? {
        return Ok(());
    }
    let cause = "rows are being moved already: it goes on to its end, see kdhctl storage status";
    Err(refused(Reason::WrongState, cause))
}

/// The pairs, and how many rows are under each.
pub(crate) async fn show(host: &Host) -> Result<Standing, HostError> {
    // Before the rows are counted: what is said of a pass is never said of the rows as they were before it.
    let (refused_rows, trouble) = {
        let noted = host.rotation().noted();
        (host.refused_rows().count(), noted.trouble.clone())
    };
    let mut tx = host.store().read(host.now()).await?;
    let rows = tx.rows_by_storage_key().await?;
    drop(tx);
    let rotation = approvals::asked_or_in_force(host, ApprovedAct::StorageRotation).await?;
    let rotation = rotation
        .into_iter()
        .next_back()
        .map(|row| Approval::clone(&row));
    let destroyed_at = match rotation.as_ref().map(Progress::of).transpose()?.flatten() {
        Some(Progress::Moved(at)) => Some(at + host.config().keep_old_pair),
        _ => None,
    };
    let (held, present) = (host.keys().storage_numbers(), host.keys().storage()?);
    let mut pairs: BTreeMap<u32, u64> = held.iter().map(|number| (number.get(), 0)).collect();
    pairs.extend(rows);
    let pairs = pairs.into_iter().map(|(number, rows)| Pair {
        number,
        state: match number.cmp(&present.get()) {
            _ if !held.iter().any(|held| held.get() == number) => "ABSENT",
            Ordering::Less if destroyed_at.is_some() => "MOVED",
            Ordering::Less => "RETIRING",
            Ordering::Equal => "PRESENT",
            Ordering::Greater => "PREPARED",
        },
        rows,
    });
    Ok(Standing {
        pairs: pairs.collect(),
        destroyed_at,
        refused_rows,
        // One that is over has none, whatever was noted of it.
        trouble: trouble.filter(|_| rotation.is_some()),
        rotation,
    })
}

/// Does what was approved, for as long as it is awaited. If nothing is in force, it waits to be told, and asks neither
/// the database nor the HSM.
pub(crate) async fn keep_moving(host: &Host) {
    let rotation = host.rotation();
    let mut pause = FIRST_PAUSE;
    loop {
        let fault = match rotate(host).await {
            Ok(Left::Nothing) => {
                *rotation.noted() = Noted::default();
                pause = FIRST_PAUSE;
                rotation.news.notified().await;
                continue;
            }
            Ok(Left::Destruction(at)) => {
                rotation.noted().trouble = None;
                pause = FIRST_PAUSE;
                // The clock may be set meanwhile.
                let left = (at - host.now()).try_into().unwrap_or(Duration::ZERO);
                wait(rotation, left.min(LAST_PAUSE)).await;
                continue;
            }
            Ok(Left::Refused(rows)) => {
                format!("rows that are not as the HSM has sealed them, and are not moved: {rows}")
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            fault,
            ?pause,
            "the rotation of the storage keys has stopped; the next try follows"
        );
        let next_try = host.now() + pause;
        rotation.noted().trouble = Some(Trouble { fault, next_try });
        wait(rotation, pause).await;
        pause = LAST_PAUSE.min(pause * 2);
    }
}

async fn wait(rotation: &Rotation, pause: Duration) {
    tokio::select! {
        () = rotation.news.notified() => {}
        () = sleep(pause) => {}
    }
}

/// Takes a rotation that is in force as far as it goes, from wherever it is.
async fn rotate(host: &Host) -> Result<Left, HostError> {
    let Some(rotation) = in_force(host).await? else {
        return Ok(Left::Nothing);
    };
    let to = target(&rotation)?;
    let present = host.keys().storage()?;
    if to < present {
        return Err(HostError::Internal(format!(
            "pair {to} is older than the present one"
        )));
    }
    if to != present {
        begin(host, &rotation, to).await?;
    }
    let pass = Mover::new(host, to).run().await?;
    let refused = pass.refused.len();
    for mended in host.rotation().looked(&pass.refused) {
        host.refused_rows().forget(&mended);
    }
    if refused > 0 {
        return Ok(Left::Refused(refused));
    }
    // Its row has moved, too.
    let Some(rotation) = in_force(host).await? else {
        return Ok(Left::Nothing);
    };
    let at = if let Some(Progress::Moved(at)) = Progress::of(&rotation)? {
        at
    } else {
        let now = host.now();
        let moved = [("rows", pass.moved.into())];
        let progress = Progress::Moved(now).text()?;
        approvals::progress(host, &rotation, progress, &moved).await?;
        now
    };
    let end = at + host.config().keep_old_pair;
    if host.now() < end {
        return Ok(Left::Destruction(end));
    }
    // The last look before what cannot be taken back.
    let unproven = Mover::new(host, to).verify().await?;
    if !unproven.is_empty() {
        let rows = unproven.len();
        host.rotation().looked(&unproven);
        return Ok(Left::Refused(rows));
    }
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
    if let Some(rotation) = in_force(host).await? {
        let ending = approvals::ending(host, &rotation).await?;
        ending.commit(host, &Actor::Host, &[]).await?;
    }
    Ok(Left::Nothing)
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
async fn begin(
    host: &Host,
    rotation: &Proven<Approval>,
    to: StorageNumber,
) -> Result<(), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    require_nothing_under(&mut tx, to).await?;
    drop(tx);
    host.in_hsm(move |keys| keys.require_makeable(to)).await?;
    if !has_begun(rotation)? {
        // Nobody withdraws it any more.
        approvals::progress(host, rotation, Progress::Begun.text()?, &[]).await?;
    }
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
    tx.commit().await?;
    // Not before it is on record.
    host.keys().use_storage(to);
    Ok(())
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
