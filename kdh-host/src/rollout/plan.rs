//! What a rollout would do, and to how many devices: by their profiles as they are now, and by what they really hold.

use std::collections::BTreeMap;

use kdh_proto::Reason;

use super::skip;
use crate::{
    Host, HostError,
    administration::key_by_profile,
    error::refused,
    key_profile::in_force,
    names::Slot,
    store::{Cohort, Reach, Tx},
};

/// What a rollout would do.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// All that it reaches.
    pub(crate) devices: u64,
    /// Devices, by why they get nothing.
    pub(crate) skips: BTreeMap<&'static str, u64>,
    /// In the order of the slots' names, and of the profiles'.
    pub(crate) slots: Vec<SlotPlan>,
}

/// What it would do to a slot of devices that have one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotPlan {
    pub(crate) slot: Slot,
    pub(crate) profile: String,
    pub(crate) profile_version: u32,
    pub(crate) source: &'static str,
    /// That get a key.
    pub(crate) devices: u64,
    /// That hold a confirmed one now.
    pub(crate) confirmed: u64,
    /// That were offered one, which is withdrawn.
    pub(crate) pending: u64,
}

/// How many devices a rollout reaches.
pub(crate) async fn reached(tx: &mut Tx, reach: &Reach) -> Result<u64, HostError> {
    let cohorts = tx.cohorts(reach).await?;
    Ok(cohorts.iter().map(|cohort| cohort.devices).sum())
}

impl Plan {
    /// # Errors
    /// The host cannot make one of the keys, for the reason that assigning it would have.
    pub(crate) async fn of(
        host: &Host,
        tx: &mut Tx,
        reach: &Reach,
        slots: &[Slot],
    ) -> Result<Self, HostError> {
        let mut plan = Self::default();
        let mut planned = BTreeMap::<(Slot, String), SlotPlan>::new();
        let held = tx.held_by_cohort(reach).await?;
        for cohort in tx.cohorts(reach).await? {
            let devices = cohort.devices;
            plan.devices += devices;
            if let Some(why) = skip::by_state(cohort.state) {
                *plan.skips.entry(why).or_default() += devices;
                continue;
            }
            let profile =
                in_force::profile_at(host, tx, &cohort.model, cohort.group.as_ref()).await?;
            let Some((version, profile)) = profile else {
                *plan.skips.entry(skip::NO_PROFILE).or_default() += devices;
                continue;
            };
            let wanted = profile
                .slots
                .iter()
                .filter(|planned| slots.is_empty() || slots.contains(&planned.slot));
            let mut any = false;
            for slot in wanted {
                any = true;
                let new = key_by_profile(host, tx, &version, slot).await?;
                let key = (slot.slot.clone(), profile.name.to_string());
                let entry = planned.entry(key).or_insert_with(|| SlotPlan {
                    slot: slot.slot.clone(),
                    profile: profile.name.to_string(),
                    profile_version: version.version,
                    source: new.source(),
                    devices: 0,
                    confirmed: 0,
                    pending: 0,
                });
                entry.devices += devices;
                let held = held.get(&(
                    Cohort {
                        devices: 0,
                        ..cohort.clone()
                    },
                    slot.slot.clone(),
                ));
                let (confirmed, pending) = held.copied().unwrap_or_default();
                entry.confirmed += confirmed;
                entry.pending += pending;
            }
            if !any {
                *plan.skips.entry(skip::NO_SLOT).or_default() += devices;
            }
        }
        plan.slots = planned.into_values().collect();
        Ok(plan)
    }

    /// # Errors
    /// Nobody would get anything.
    pub(crate) fn require_something(&self) -> Result<(), HostError> {
        if !self.slots.is_empty() {
            return Ok(());
        }
        let cause = if self.devices == 0 {
            "there is no such device".to_owned()
        } else {
            let skips = self.skips.iter();
            let skips: Vec<_> = skips
                .map(|(why, devices)| format!("{devices} {why}"))
                .collect();
            format!(
                "nobody would get a key: of {} devices {}",
                self.devices,
                skips.join(", ")
            )
        };
        Err(refused(Reason::NotFound, cause))
    }
}
