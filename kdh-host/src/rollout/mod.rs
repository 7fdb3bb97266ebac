//! Rollouts: new versions of keys for many devices, as operators order them or as they fall due.
//!
//! ```text
//! mod      starting, pausing, resuming, stopping, looking
//! plan     what a rollout would do, and to how many devices
//! due      what the host does by itself
//! engine   takes every rollout that runs a step forward, again and again
//! making   a step: devices are read, the HSM makes keys for them, and the database gets them
//! progress how far the waves have come
//! skip     why a device or a slot gets no key
//! ```
//!
//! What is to be done stands in a row that the HSM seals; how far it has come, beside the keys, in the transaction
//! that adds them. So a host that was killed goes on where it was, and no slot gets two keys from one rollout.

mod due;
mod engine;
mod making;
mod plan;
mod progress;
mod skip;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kdh_proto::{
    Reason,
    v1::{
        ListRolloutKeysRequest, RolloutTarget, RolloutWaves, StartRolloutRequest, rollout_target,
        rollout_waves,
    },
};
use serde_json::json;
use tokio::sync::Notify;

pub(crate) use self::{
    due::came,
    engine::keep_rolling,
    plan::{Plan, SlotPlan},
    progress::Counts,
};
use crate::{
    Host, HostError,
    administration::{Operator, page_size},
    error::refused,
    names::{DeviceSerial, GroupName, Model, Slot, Why},
    refused_rows,
    state::{RolloutKind, RolloutState},
    store::{
        Actor, AuditEntry, Proven, Reach, Rollout, RolloutKeys, RolloutRow, Sealed, SealedRow as _,
        Tx, Wave, Waves, rollout_title, time_text,
    },
};

/// Devices that one rollout may name. More of them are put into a group.
const MAX_DEVICES: usize = 1000;
/// Devices in a wave.
const MAX_WAVE: u32 = 10_000_000;

/// What is shared by those who order rollouts and the engine.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    /// Something was ordered.
    news: Notify,
    /// A wave waits for confirmations.
    waits: AtomicBool,
    counts: progress::Cache,
    /// What carries profiles by which nothing is renewed, and why.
    refused: Mutex<BTreeMap<String, String>>,
}

impl Rollouts {
    /// A wave waits: what devices confirm is news from now on.
    fn await_news(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// By these nothing is renewed. Gives those of the time before.
    fn refused_profiles(&self, refused: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut known, refused)
    }
}

/// A device has confirmed a key, or failed to.
pub(crate) fn heard(host: &Host) {
    if host.rollouts().waits.swap(false, Ordering::Relaxed) {
        look(host);
    }
}

/// Something was ordered, or has come: it is looked at at once.
pub(crate) fn look(host: &Host) {
    host.rollouts().news.notify_one();
}

/// What is known of a rollout.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) rollout: Rollout,
    /// That it reaches; 0 if that is not known before.
    pub(crate) devices: u64,
    /// The last one first.
    pub(crate) waves: Vec<(Wave, Counts)>,
    /// For confirmations.
    pub(crate) waiting: bool,
}

/// Starts a rollout, or says what it would do.
pub(crate) async fn start(
    host: &Host,
    operator: &Operator,
    request: &StartRolloutRequest,
) -> Result<(Rollout, Plan), HostError> {
    let reach = parse_reach(request.target.as_ref())?;
    let slots = parse_slots(&request.slots)?;
    let why = match &*request.why {
        "" if request.dry_run => String::new(),
        why => Why::parse(why)?.to_string(),
    };
    let mut tx = host.store().read(host.now()).await?;
    let plan = Plan::of(host, &mut tx, &reach, &slots).await?;
    let number = tx.next_rollout_number().await?;
    drop(tx);
    let waves = parse_waves(request.waves.as_ref(), plan.devices)?;
    let now = time_text(host.now())?;
    let rollout = Rollout {
        number: if request.dry_run { 0 } else { number },
        kind: RolloutKind::Command,
        reach,
        slots,
        waves,
        state: RolloutState::Running,
        state_why: String::new(),
        started_by: operator.name().to_owned(),
        why,
        created_at: now.clone(),
        changed_at: now,
    };
    if !request.dry_run {
        plan.require_something()?;
        open(host, &operator.actor(), &rollout).await?;
    }
    Ok((rollout, plan))
}

/// Puts a rollout down, and has the engine begin.
async fn open(host: &Host, actor: &Actor, rollout: &Rollout) -> Result<(), HostError> {
    let sealed = host.keys().seal_one(rollout.clone()).await?;
    let mut tx = host.store().write(host.now()).await?;
    if !host.keys().is_under_present(&sealed) || !tx.insert_rollout(&sealed).await? {
        let cause = "a rollout for the same devices is running or paused: see kdhctl rollout list";
        return Err(refused(Reason::AlreadyExists, cause));
    }
    record(&mut tx, actor, "rollout.started", rollout).await?;
    tx.commit().await?;
    look(host);
    Ok(())
}

async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &'static str,
    rollout: &Rollout,
) -> Result<(), HostError> {
    let devices = match &rollout.reach {
        Reach::Devices(devices) => Some(devices.len()),
        Reach::Model(_) | Reach::Group(_) | Reach::Any => None,
    };
    let slots: Vec<_> = rollout.slots.iter().map(Slot::as_str).collect();
    let detail = json!({
        "rollout": rollout.number,
        "kind": rollout.kind.as_str(),
        "target-kind": rollout.reach.kind(),
        "target": rollout.reach.name(),
        "devices": devices,
        "slots": slots,
        "wave-devices": rollout.waves.devices,
        "proceed-at": rollout.waves.proceed_at,
        "stop-after": rollout.waves.stop_after,
        "why": if rollout.state_why.is_empty() { &rollout.why } else { &rollout.state_why },
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

/// Rollouts, newest first, without counts of confirmations; of each that is not as the HSM has sealed it, the number
/// alone.
pub(crate) async fn list(
    host: &Host,
    before: u32,
    limit: u32,
) -> Result<Vec<Result<Standing, i64>>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let rows = tx.rollouts(before, page_size(limit)).await?;
    let mut waves = HashMap::with_capacity(rows.len());
    for row in rows.iter().flatten() {
        let number = row.unproven().number;
        waves.insert(number, tx.waves(number).await?);
    }
    drop(tx);
    let standing = |rollout: Proven<Rollout>| Standing {
        devices: 0,
        waves: waves
            .remove(&rollout.number)
            .into_iter()
            .flatten()
            .rev()
            .map(|wave| (wave, Counts::default()))
            .collect(),
        waiting: false,
        rollout: Rollout::clone(&rollout),
    };
    let rows = sift(host, rows).await?.into_iter();
    let mut standing = standing;
    Ok(rows.map(|row| row.map(&mut standing)).collect())
}

/// Has the HSM verify rows. Those that are not as it has sealed them are reported, and hide no other.
async fn sift(
    host: &Host,
    rows: Vec<RolloutRow>,
) -> Result<Vec<Result<Proven<Rollout>, i64>>, HostError> {
    let number = |rollout: &Rollout| rollout.number.into();
    refused_rows::sift_others(host, rows, number, |number| rollout_title(number)).await
}

/// A rollout with the counts of its waves.
pub(crate) async fn show(host: &Host, number: u32) -> Result<Standing, HostError> {
    let rollout = require(host, number).await?;
    standing(host, Rollout::clone(&rollout)).await
}

async fn standing(host: &Host, rollout: Rollout) -> Result<Standing, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let devices = plan::reached(&mut tx, &rollout.reach).await?;
    let waves = tx.waves(rollout.number).await?;
    drop(tx);
    let mut counted = Vec::with_capacity(waves.len());
    for wave in waves.into_iter().rev() {
        let counts = progress::counts(host, rollout.number, &wave).await?;
        counted.push((wave, counts));
    }
    let last = counted.first();
    let waiting = rollout.state == RolloutState::Running
        && last.is_some_and(|(wave, counts)| progress::waits(&rollout.waves, wave, counts));
    Ok(Standing {
        rollout,
        devices,
        waves: counted,
        waiting,
    })
}

/// What became of devices, in pages.
pub(crate) async fn keys(
    host: &Host,
    request: &ListRolloutKeysRequest,
) -> Result<RolloutKeys, HostError> {
    let number = request.number;
    require(host, number).await?;
    let after = (&*request.after_device, &*request.after_slot);
    let limit = usize::try_from(page_size(request.limit)).unwrap_or_default();
    let mut tx = host.store().read(host.now()).await?;
    Ok(tx
        .rollout_keys(number, after, limit, request.troubled)
        .await?)
}

/// What an operator wants of a rollout.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Pause,
    Resume,
    Stop,
}

/// Pauses, resumes or stops a rollout.
pub(crate) async fn order(
    host: &Host,
    operator: &Operator,
    number: u32,
    order: Order,
    why: &str,
) -> Result<Standing, HostError> {
    use RolloutState::{Paused, Running, Stopped};
    let why = Why::parse(why)?;
    let rollout = require(host, number).await?;
    let (state, action) = match (order, rollout.state) {
        (Order::Pause, Running) => (Paused, "rollout.paused"),
        (Order::Resume, Paused) => (Running, "rollout.resumed"),
        (Order::Stop, Running | Paused) => (Stopped, "rollout.stopped"),
        (_, state) => {
            let cause = format!(
                "rollout {number} is {}: this is not possible now",
                state.as_str()
            );
            return Err(refused(Reason::WrongState, cause));
        }
    };
    let mut moved = moved(host, &rollout, state, why.as_str())?;
    if let Order::Resume = order {
        let mut tx = host.store().read(host.now()).await?;
        moved.waves.forgiven = tx.mismatched(number).await?;
    }
    replace(host, &operator.actor(), action, &rollout, &moved).await?;
    if let Order::Resume = order {
        look(host);
    }
    standing(host, moved).await
}

/// A rollout as it is from now on.
fn moved(
    host: &Host,
    rollout: &Rollout,
    state: RolloutState,
    why: &str,
) -> Result<Rollout, HostError> {
    Ok(Rollout {
        state,
        state_why: why.to_owned(),
        changed_at: time_text(host.now())?,
        ..rollout.clone()
    })
}

async fn replace(
    host: &Host,
    actor: &Actor,
    action: &'static str,
    old: &Proven<Rollout>,
    new: &Rollout,
) -> Result<(), HostError> {
    let sealed = host.keys().seal_one(new.clone()).await?;
    let mut tx = host.store().write(host.now()).await?;
    if !replaced(host, &mut tx, old.sealed(), &sealed).await? {
        let cause = format!(
            "{} was changed at the same time: look at it, and try again",
            new.title()
        );
        return Err(refused(Reason::WrongState, cause));
    }
    record(&mut tx, actor, action, new).await?;
    Ok(tx.commit().await?)
}

async fn replaced(
    host: &Host,
    tx: &mut Tx,
    old: &Sealed<Rollout>,
    new: &Sealed<Rollout>,
) -> Result<bool, HostError> {
    Ok(host.keys().is_under_present(new) && tx.replace_rollout(old, new).await?)
}

async fn require(host: &Host, number: u32) -> Result<Proven<Rollout>, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let row = tx.rollout(number).await?;
    drop(tx);
    let missing = || refused(Reason::NotFound, format!("there is no rollout {number}"));
    host.keys().prove_one(row.ok_or_else(missing)?).await
}

fn invalid(cause: impl std::fmt::Display) -> HostError {
    refused(Reason::RequestInvalid, cause)
}

fn parse_reach(target: Option<&RolloutTarget>) -> Result<Reach, HostError> {
    use rollout_target::Target;
    let target = target.and_then(|target| target.target.as_ref());
    match target {
        Some(Target::Model(name)) => Ok(Reach::Model(Model::parse(name)?)),
        Some(Target::Group(name)) => Ok(Reach::Group(GroupName::parse(name)?)),
        Some(Target::Devices(devices)) => {
            let serials = &devices.serial_numbers;
            if !(1..=MAX_DEVICES).contains(&serials.len()) {
                return Err(invalid(format!(
                    "a rollout names 1 to {MAX_DEVICES} devices, not {}: put more of them into a group",
                    serials.len()
                )));
            }
            let serials = serials.iter().map(|text| DeviceSerial::parse(text));
            let mut serials: Vec<_> = serials.collect::<Result<_, _>>()?;
            serials.sort();
            if let Some(serial) = twice(&serials) {
                return Err(invalid(format!("{serial} is named twice")));
            }
            Ok(Reach::Devices(serials))
        }
        None => Err(invalid(
            "nothing is named that shall get keys: name a model, a group or devices",
        )),
    }
}

fn parse_slots(slots: &[String]) -> Result<Vec<Slot>, HostError> {
    let slots = slots.iter().map(|text| Slot::parse(text));
    let mut slots: Vec<_> = slots.collect::<Result<_, _>>()?;
    slots.sort();
    if let Some(slot) = twice(&slots) {
        return Err(invalid(format!("slot {slot} is named twice")));
    }
    Ok(slots)
}

/// What stands there twice, in order.
fn twice<T: PartialEq>(sorted: &[T]) -> Option<&T> {
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    pairs.find(|(one, next)| one == next).map(|(one, _)| one)
}

fn parse_waves(waves: Option<&RolloutWaves>, devices: u64) -> Result<Waves, HostError> {
    let waves = waves.copied().unwrap_or_default();
    let size = match waves.size {
        None => 0,
        Some(rollout_waves::Size::Devices(size @ 1..=MAX_WAVE)) => size,
        Some(rollout_waves::Size::Devices(size)) => {
            return Err(invalid(format!(
                "a wave has 1 to {MAX_WAVE} devices, not {size}"
            )));
        }
        Some(rollout_waves::Size::Percent(percent @ 1..=100)) => {
            let size = (devices * u64::from(percent)).div_ceil(100).max(1);
            u32::try_from(size).unwrap_or(MAX_WAVE).min(MAX_WAVE)
        }
        Some(rollout_waves::Size::Percent(percent)) => {
            return Err(invalid(format!(
                "a wave is 1 to 100 percent, not {percent}"
            )));
        }
    };
    match (size, waves.proceed_at) {
        (0, 0) | (1.., 1..=100) => {}
        (0, _) => {
            return Err(invalid(
                "there is one wave, and none behind it to proceed to",
            ));
        }
        (1.., percent) => {
            return Err(invalid(format!(
                "the next wave begins when 1 to 100 percent have confirmed, not {percent}"
            )));
        }
    }
    Ok(Waves {
        devices: size,
        proceed_at: waves.proceed_at,
        stop_after: waves.stop_after,
        forgiven: 0,
    })
}
