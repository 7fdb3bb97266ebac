//! A step of a rollout: devices are read, the HSM makes keys for them, and the database gets them. Each of these is
//! done for the next devices while the one behind it is at the ones before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use kdh_proto::Reason;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    due::{self, Due},
    engine::{Pace, Step},
    skip,
};
use crate::{
    Host, HostError,
    administration::key_by_profile,
    device_keys::{self, Change, DevicesNow, NewKey, SlotNow},
    key_profile::in_force,
    names::{DeviceSerial, GroupName, KeyAlias, Slot},
    refused_rows,
    state::RolloutKind,
    store::{
        Actor, AuditEntry, KEYS_MADE, Outcome, Proven, Rollout, RolloutKey, Seen, StoreError, Tx,
        Wave,
    },
};

/// Slots in one batch: in one job of the HSM, and in one record of the trail.
const BATCH: usize = 64;
/// Batches that the HSM has at the same time.
const JOBS: usize = 3;
/// Batches that one transaction takes at most.
const TOGETHER: usize = 4;
/// Batches in one step: then other rollouts have theirs.
const STEP: usize = 64;

/// Why a step ends before its time.
enum Halt {
    /// Rows are not what they were when they were read: it begins anew.
    Changed,
    Failed(HostError),
}

impl<E: Into<HostError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Takes a wave forward.
pub(super) async fn run(
    host: &Host,
    rollout: &Proven<Rollout>,
    wave: Wave,
    pace: &mut Pace,
    due: &mut Option<Vec<Due>>,
) -> Result<Step, HostError> {
    let source = match rollout.kind {
        RolloutKind::Command => Source::Reach,
        RolloutKind::Filling => Source::Queue(String::new()),
        RolloutKind::Renewal => Source::Due(match due.take() {
            Some(due) => due,
            None => due::slots(host).await?,
        }),
    };
    let mut reader = Reader::new(host, rollout, wave, pace, source);
    // All of a step have room: a batch that waited here would keep others from going on that have the turn to write,
    // for the ids of derived keys, while the writer waits for it.
    let (sender, mut to_write) = mpsc::channel(STEP);
    let mut forward = false;
    let (pages, mut to_make) = mpsc::channel(JOBS);
    let read = async {
        while let Some(page) = reader.next().await? {
            if pages.send(page).await.is_err() {
                break;
            }
        }
        drop(pages);
        Ok::<_, Halt>(())
    };
    let make = async {
        let pages = stream::poll_fn(|context| to_make.poll_recv(context));
        let mut batches = pages
            .map(|page| Batch::make(host, page))
            .buffered(JOBS)
            .boxed();
        while let Some(batch) = batches.next().await {
            if sender.send(batch?).await.is_err() {
                break;
            }
        }
        drop(batches);
        drop(sender);
        Ok(())
    };
    let write = async {
        let mut batches = Vec::with_capacity(TOGETHER);
        while to_write.recv_many(&mut batches, TOGETHER).await > 0 {
            write(host, rollout, &batches).await?;
            batches.clear();
            forward = true;
        }
        Ok(())
    };
    let outcome = tokio::try_join!(read, make, write);
    match outcome {
        Ok(_) if reader.end => Ok(Step::End),
        Err(Halt::Failed(error)) => Err(error),
        Ok(_) if matches!(reader.source, Source::Due(_)) => {
            // The next step goes on behind what is written.
            if let Source::Due(left) = reader.source {
                *due = Some(left);
            }
            Ok(Step::Forward)
        }
        Ok(_) | Err(Halt::Changed) if forward => Ok(Step::Forward),
        Ok(_) | Err(Halt::Changed) => Ok(Step::Waits),
    }
}

/// Whether a profile is what is wrong.
pub(super) fn is_of_profile(error: &HostError) -> bool {
    matches!(error, HostError::Store(StoreError::NotRecorded(_)))
        || matches!(error.reason(), Reason::RequestInvalid | Reason::NotFound)
}

/// Where the next devices come from.
enum Source {
    /// The rollout says which, in the order of their serial numbers.
    Reach,
    /// They came to a profile; behind this one.
    Queue(String),
    /// Their keys are due.
    Due(Vec<Due>),
}

/// Whether slots of a device that has come to a profile have no key.
pub(super) async fn is_wanted(
    host: &Host,
    rollout: &Rollout,
    seen: Vec<Seen>,
) -> Result<bool, HostError> {
    let mut pace = Pace::new(host);
    let source = Source::Queue(String::new());
    let mut reader = Reader::new(host, rollout, Wave::default(), &mut pace, source);
    let mut tx = host.store().read(host.now()).await?;
    let wanted = reader.page(&mut tx, seen, None).await?;
    Ok(!wanted.orders.is_empty())
}

/// Devices with the slots that get keys.
struct Page {
    seen: Vec<Seen>,
    before: Wave,
    last_device: String,
    /// By what they get.
    orders: Vec<(Arc<NewKey>, Vec<SlotNow>)>,
    skipped: Vec<RolloutKey>,
}

/// What devices of a model and a group get.
#[derive(Clone)]
enum Planned {
    Keys(Vec<(Slot, Arc<NewKey>)>),
    Nothing(&'static str),
}

/// Reads one page after the other.
struct Reader<'h> {
    host: &'h Host,
    rollout: &'h Rollout,
    /// As it will be when all that was read is written.
    wave: Wave,
    pace: &'h mut Pace,
    source: Source,
    planned: HashMap<(String, Option<GroupName>), Planned>,
    pages: usize,
    /// The most slots that a device had until now.
    slots: usize,
    /// There are no more devices.
    end: bool,
}

impl<'h> Reader<'h> {
    fn new(
        host: &'h Host,
        rollout: &'h Rollout,
        wave: Wave,
        pace: &'h mut Pace,
        source: Source,
    ) -> Self {
        Self {
            host,
            rollout,
            wave,
            pace,
            source,
            planned: HashMap::new(),
            pages: 0,
            slots: rollout.slots.len().max(1),
            end: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Page>, HostError> {
        if self.pages == STEP || self.end {
            return Ok(None);
        }
        let mut limit = u64::try_from((BATCH / self.slots).max(1)).unwrap_or(1);
        let of_wave = u64::from(self.rollout.waves.devices);
        if of_wave > 0 {
            limit = limit.min(of_wave.saturating_sub(self.wave.devices));
            if limit == 0 {
                return Ok(None);
            }
        }
        let limit = u32::try_from(limit).unwrap_or(1);
        let mut tx = self.host.store().read(self.host.now()).await?;
        let (seen, slot) = self.devices(&mut tx, limit).await?;
        if seen.is_empty() {
            self.end = true;
            return Ok(None);
        }
        let page = self.page(&mut tx, seen, slot.as_ref()).await?;
        drop(tx);
        self.pages += 1;
        let keys = page.orders.iter().map(|(_, slots)| slots.len()).sum();
        self.pace.wait(keys).await;
        Ok(Some(page))
    }

    /// The next devices; and, if they get a key in one slot alone, which one.
    async fn devices(
        &mut self,
        tx: &mut Tx,
        limit: u32,
    ) -> Result<(Vec<Seen>, Option<Slot>), HostError> {
        match &mut self.source {
            Source::Reach => {
                let after = &self.wave.last_device;
                let seen = tx.reached(&self.rollout.reach, after, limit).await?;
                Ok((seen, None))
            }
            Source::Queue(after) => {
                let seen = tx.unfilled(after, limit).await?;
                if let Some(last) = seen.last() {
                    *after = last.serial.to_string();
                }
                Ok((seen, None))
            }
            Source::Due(due) => {
                while let Some(first) = due.first_mut() {
                    let seen = first.next(tx, limit).await?;
                    if !seen.is_empty() {
                        return Ok((seen, Some(first.slot.clone())));
                    }
                    due.remove(0);
                }
                Ok((Vec::new(), None))
            }
        }
    }

    /// What these devices get, in one slot or in all.
    async fn page(
        &mut self,
        tx: &mut Tx,
        seen: Vec<Seen>,
        only: Option<&Slot>,
    ) -> Result<Page, HostError> {
        let mut skipped = Vec::new();
        let mut wanted = Vec::new();
        for device in &seen {
            let planned = match skip::by_state(device.state) {
                Some(why) => Planned::Nothing(why),
                None => self.planned(tx, device).await?,
            };
            match planned {
                Planned::Keys(keys) => wanted.push((device, keys)),
                // What is due by profiles is not due to devices without one.
                Planned::Nothing(_) if !matches!(self.source, Source::Reach) => {}
                Planned::Nothing(why) => skipped.push(RolloutKey {
                    device: device.serial.clone(),
                    slot: None,
                    outcome: Outcome::Skipped(why.to_owned()),
                }),
            }
        }
        let devices = wanted.iter().map(|(device, _)| device.serial.clone());
        let now = DevicesNow::read(tx, &devices.collect::<Vec<_>>()).await?;
        wanted.retain(|(device, _)| {
            let recorded = now.is_as_recorded(&device.serial, &device.model, device.group.as_ref());
            if !recorded {
                tracing::error!(device = %device.serial, "what the database says of it is not what the audit trail says");
                skipped.push(RolloutKey {
                    device: device.serial.clone(),
                    slot: None,
                    outcome: Outcome::Skipped(skip::NOT_RECORDED.to_owned()),
                });
            }
            recorded
        });
        let mut orders = BTreeMap::new();
        for (device, keys) in &wanted {
            let device = &device.serial;
            self.slots = self.slots.max(keys.len());
            for (slot, new) in keys {
                let is_due = match &self.source {
                    Source::Reach => true,
                    Source::Queue(_) => !now.has_key(device, slot),
                    Source::Due(_) => only == Some(slot),
                };
                if !is_due {
                    continue;
                }
                let order = orders
                    .entry((slot, Arc::as_ptr(new)))
                    .or_insert_with(|| (Arc::clone(new), Vec::new()));
                order.1.push(now.slot(device, slot));
            }
        }
        let orders: Vec<_> = orders.into_values().collect();
        let before = self.wave.clone();
        if let (Source::Reach, Some(last)) = (&self.source, seen.last()) {
            self.wave.last_device = last.serial.to_string();
        }
        let last_device = self.wave.last_device.clone();
        self.wave.devices += seen.len() as u64;
        Ok(Page {
            seen,
            before,
            last_device,
            orders,
            skipped,
        })
    }

    async fn planned(&mut self, tx: &mut Tx, device: &Seen) -> Result<Planned, HostError> {
        let cohort = (device.model.clone(), device.group.clone());
        if let Some(planned) = self.planned.get(&cohort) {
            return Ok(planned.clone());
        }
        let profile = in_force::profile_at(self.host, tx, &device.model, device.group.as_ref());
        let profile = match profile.await {
            // What the host does by itself leaves out devices whose profile says nothing that counts; so that others
            // get theirs.
            Err(error) if !matches!(self.source, Source::Reach) && is_of_profile(&error) => {
                tracing::warn!(model = device.model, %error, "no keys are made by the host itself");
                None
            }
            profile => profile?,
        };
        let planned = match profile {
            None => Planned::Nothing(skip::NO_PROFILE),
            Some((version, profile)) => {
                let slots = &self.rollout.slots;
                let mut keys = Vec::new();
                for slot in &profile.slots {
                    if slots.is_empty() || slots.contains(&slot.slot) {
                        let new = key_by_profile(self.host, tx, &version, slot).await?;
                        keys.push((slot.slot.clone(), Arc::new(new)));
                    }
                }
                if keys.is_empty() {
                    Planned::Nothing(skip::NO_SLOT)
                } else {
                    Planned::Keys(keys)
                }
            }
        };
        self.planned.insert(cohort, planned.clone());
        Ok(planned)
    }
}

/// Keys that the HSM has made, to be written.
struct Batch {
    seen: Vec<Seen>,
    before: Wave,
    last_device: String,
    change: Change,
    keys: Vec<RolloutKey>,
}

impl Batch {
    async fn make(host: &Host, page: Page) -> Result<Self, Halt> {
        let mut change = Change::default();
        let mut keys = page.skipped;
        for (new, slots) in page.orders {
            change.join(prepare(host, slots, &new, &mut keys).await?);
        }
        keys.extend(change.added().map(|key| RolloutKey {
            device: key.device.clone(),
            slot: Some(key.slot.clone()),
            outcome: Outcome::Made(key.version),
        }));
        Ok(Self {
            seen: page.seen,
            before: page.before,
            last_device: page.last_device,
            change,
            keys,
        })
    }

    fn skipped(&self) -> impl Iterator<Item = (&RolloutKey, &str)> {
        self.keys.iter().filter_map(|key| match &key.outcome {
            Outcome::Skipped(why) => Some((key, why.as_str())),
            Outcome::Made(_) => None,
        })
    }

    /// What the trail says of it: every key with its device, version and check value; of an initial key, its id, too.
    fn record(&self, rollout: &Rollout, wave: u32) -> Value {
        let mut made = BTreeMap::<_, Vec<String>>::new();
        for key in self.change.added() {
            let initial_key = key.source.initial_key();
            // What stands behind the 16 characters is the id, which differs from device to device.
            let header = key.header.without_optional_blocks();
            let kind = (
                key.slot.as_str(),
                key.source.as_str(),
                key.source.key_name().map(KeyAlias::as_str),
                initial_key.map(|(bdk, _)| bdk.as_str()),
                header.to_string(),
            );
            let mut entry = format!("{} {} {}", key.device, key.version, key.kcv);
            if let Some((_, id)) = initial_key {
                entry = format!("{entry} {id}");
            }
            made.entry(kind).or_default().push(entry);
        }
        let made = made.into_iter().map(|((slot, source, key, bdk, header), keys)| {
            json!({"slot": slot, "source": source, "key": key, "bdk": bdk, "header": header, "made": keys})
        });
        let made: Vec<_> = made.collect();
        let skipped = self.skipped().map(|(key, why)| match &key.slot {
            Some(slot) => format!("{} {slot} {why}", key.device),
            None => format!("{} {why}", key.device),
        });
        let skipped: Vec<_> = skipped.collect();
        json!({"rollout": rollout.number, "wave": wave, "keys": made, "skipped": skipped})
    }
}

/// Has the HSM make keys. Slots whose rows somebody has changed, or that have no version left, are skipped: one of them must
/// not keep all others from theirs.
async fn prepare(
    host: &Host,
    slots: Vec<SlotNow>,
    new: &NewKey,
    skipped: &mut Vec<RolloutKey>,
) -> Result<Change, HostError> {
    match device_keys::prepare_next(host, slots.clone(), new).await {
        Err(error) if skip::by_row(&error).is_some() => {}
        outcome => return outcome,
    }
    let mut change = Change::default();
    for slot in slots {
        match device_keys::prepare_next(host, vec![slot.clone()], new).await {
            Ok(one) => change.join(one),
            Err(error) => {
                let Some(why) = skip::by_row(&error) else {
                    return Err(error);
                };
                tracing::error!(device = %slot.device, slot = %slot.slot, %error, "it gets no next version");
                skipped.push(RolloutKey {
                    device: slot.device,
                    slot: Some(slot.slot),
                    outcome: Outcome::Skipped(why.to_owned()),
                });
            }
        }
    }
    Ok(change)
}

/// Writes batches, one behind the other.
async fn write(host: &Host, rollout: &Proven<Rollout>, batches: &[Batch]) -> Result<(), Halt> {
    let mut tx = host.store().write(host.now()).await?;
    // In the turn: those that others raise are not of these keys.
    let alarms = host.alarms().raised_of_hsm();
    if !tx.is_unchanged(rollout.sealed()).await? {
        return Err(Halt::Changed);
    }
    // What was read of it may be older than what was written since: it only says where the next batch begins.
    let mut wave = tx.last_wave(rollout.number).await?.unwrap_or_default();
    for batch in batches {
        let devices: Vec<DeviceSerial> =
            batch.seen.iter().map(|seen| seen.serial.clone()).collect();
        let at = (&wave.number, &wave.last_device);
        if at != (&batch.before.number, &batch.before.last_device)
            || tx.seen(&devices).await? != batch.seen
            || !batch.change.try_apply(host, &mut tx).await?
        {
            return Err(Halt::Changed);
        }
        let again = rollout.kind != RolloutKind::Command;
        if rollout.kind == RolloutKind::Filling {
            tx.unqueue(&devices).await?;
        }
        if !tx
            .insert_rollout_keys(rollout.number, &batch.keys, again)
            .await?
        {
            let cause = format!(
                "rollout {} has come to one of {} to {} before, and its rows do not say so: somebody else has changed them",
                rollout.number,
                batch.seen.first().map_or("", |seen| seen.serial.as_str()),
                batch.last_device
            );
            return Err(HostError::Internal(cause).into());
        }
        let after = Wave {
            last_device: batch.last_device.clone(),
            devices: wave.devices + batch.seen.len() as u64,
            made: wave.made + batch.change.added().count() as u64,
            skipped: wave.skipped + batch.skipped().count() as u64,
            ..wave.clone()
        };
        if !tx.advance_wave(rollout.number, &wave, &after).await? {
            return Err(Halt::Changed);
        }
        if !batch.keys.is_empty() {
            tx.record(AuditEntry {
                actor: &Actor::Host,
                action: KEYS_MADE,
                device: None,
                outcome: "ok",
                detail: batch.record(rollout, wave.number),
            })
            .await?;
        }
        wave = after;
    }
    tx.commit().await?;
    report_changed(host, batches).await?;
    if host.alarms().raised_of_hsm() == alarms {
        return Ok(());
    }
    let cause = "more keys have one check value than chance gives: see alarm.equal-check-values in the audit trail";
    Err(HostError::Internal(cause.to_owned()).into())
}

/// Names the rows for which slots were skipped. Not while keys are made: that stands still while batches wait to be written,
/// and must have no turn to write then.
async fn report_changed(host: &Host, batches: &[Batch]) -> Result<(), HostError> {
    let skipped = batches.iter().flat_map(Batch::skipped);
    let changed = skipped.filter(|(_, why)| *why == skip::ROW_CHANGED);
    let devices: BTreeSet<_> = changed.map(|(key, _)| &key.device).collect();
    for device in devices {
        refused_rows::of_device(host, device).await?;
    }
    Ok(())
}
