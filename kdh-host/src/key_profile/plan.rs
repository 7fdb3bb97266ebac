//! What a change of key profiles would do, and to how many devices.

use std::collections::BTreeMap;

use super::{policy::Finding, profile::KeyProfile, target::Target};
use crate::{
    HostError,
    names::{Model, Slot},
    store::Tx,
};

/// What a change would do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What is concerned, with its devices.
    pub(crate) reach: Vec<(Target, u64)>,
    /// In the order of the slots' names.
    pub(crate) slots: Vec<SlotPlan>,
    pub(crate) findings: Vec<Finding>,
}

/// What it would do to a slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SlotPlan {
    pub(crate) slot: Slot,
    /// Each once.
    pub(crate) differences: Vec<&'static str>,
    pub(crate) devices: Counts,
}

/// Devices, by what becomes of them in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// They would get a new key.
    pub(crate) new_key: u64,
    /// They would keep theirs.
    pub(crate) keep: u64,
    /// They would get none any more.
    pub(crate) end: u64,
}

/// Devices that have one profile before a change, and one after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cohort<'p> {
    pub(crate) devices: u64,
    pub(crate) before: Option<&'p KeyProfile>,
    pub(crate) after: Option<&'p KeyProfile>,
}

impl Plan {
    /// Of a new version of a profile.
    pub(crate) async fn of_put(
        tx: &mut Tx,
        before: Option<&KeyProfile>,
        after: &KeyProfile,
        findings: Vec<Finding>,
    ) -> Result<Self, HostError> {
        let reach = reach(tx, after).await?;
        let cohort = Cohort {
            devices: reach.iter().map(|(_, devices)| devices).sum(),
            before,
            after: Some(after),
        };
        Ok(Self {
            reach,
            slots: slots(&[cohort]),
            findings,
        })
    }

    /// Of a model or a group that shall carry a profile, or none.
    pub(crate) async fn of_assignment(
        tx: &mut Tx,
        target: &Target,
        after: Option<&KeyProfile>,
        findings: Vec<Finding>,
    ) -> Result<Self, HostError> {
        let devices = tx.devices_at(target).await?;
        let own = tx.profile_at(target).await?;
        let own = own.and_then(|version| version.profile);
        // Devices of a group that carries none have the profiles of their models.
        let mut of_models = Vec::new();
        if let Target::Group(group) = target {
            for (model, devices) in tx.models_of_group(group).await? {
                of_models.push((devices, of_model(tx, model).await?));
            }
        }
        if of_models.is_empty() {
            of_models.push((devices, None));
        }
        let cohorts = of_models.iter().map(|(devices, of_model)| Cohort {
            devices: *devices,
            before: own.as_ref().or(of_model.as_ref()),
            after: after.or(of_model.as_ref()),
        });
        let slots = slots(&cohorts.collect::<Vec<_>>());
        Ok(Self {
            reach: vec![(target.clone(), devices)],
            slots,
            findings,
        })
    }
}

/// What carries a profile, with its devices.
pub(crate) async fn reach(
    tx: &mut Tx,
    profile: &KeyProfile,
) -> Result<Vec<(Target, u64)>, HostError> {
    let mut reach = Vec::new();
    for assignment in tx.profile_assignments(Some(&profile.name)).await? {
        let devices = tx.devices_at(&assignment.target).await?;
        reach.push((assignment.target, devices));
    }
    Ok(reach)
}

async fn of_model(tx: &mut Tx, model: Model) -> Result<Option<KeyProfile>, HostError> {
    let version = tx.profile_at(&Target::Model(model)).await?;
    Ok(version.and_then(|version| version.profile))
}

/// What becomes of each slot that any of them has before or after.
fn slots(cohorts: &[Cohort<'_>]) -> Vec<SlotPlan> {
    let mut plans = BTreeMap::<Slot, SlotPlan>::new();
    for cohort in cohorts {
        let profiles = [cohort.before, cohort.after];
        let slots = profiles
            .into_iter()
            .flatten()
            .flat_map(|profile| &profile.slots);
        let mut names: Vec<_> = slots.map(|slot| &slot.slot).collect();
        names.sort();
        names.dedup();
        for slot in names {
            let plan = plans.entry(slot.clone()).or_insert_with(|| SlotPlan {
                slot: slot.clone(),
                differences: Vec::new(),
                devices: Counts::default(),
            });
            let (differences, counts) = would_get(cohort, slot);
            for difference in differences {
                if !plan.differences.contains(&difference) {
                    plan.differences.push(difference);
                }
            }
            plan.devices.new_key += counts.new_key;
            plan.devices.keep += counts.keep;
            plan.devices.end += counts.end;
        }
    }
    plans.into_values().collect()
}

/// What becomes of a slot of these devices. What they really hold is not looked at: all count as having what their
/// profile says.
fn would_get<'p>(cohort: &Cohort<'p>, slot: &Slot) -> (Vec<&'static str>, Counts) {
    let devices = cohort.devices;
    let of = |profile: Option<&'p KeyProfile>| profile.and_then(|profile| profile.slot(slot));
    let mut counts = Counts::default();
    let differences = match (of(cohort.before), of(cohort.after)) {
        (Some(before), Some(after)) => {
            let differences = after.differences(before);
            if differences.need_a_new_key {
                counts.new_key = devices;
            } else {
                counts.keep = devices;
            }
            differences.fields
        }
        (None, Some(_)) => {
            counts.new_key = devices;
            vec!["new"]
        }
        (Some(_), None) => {
            counts.end = devices;
            vec!["taken out"]
        }
        (None, None) => Vec::new(),
    };
    (differences, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_profile::{profile::KeySource, samples::sample};

    fn of(profile: &KeyProfile, change: impl Fn(&mut KeyProfile)) -> KeyProfile {
        let mut profile = profile.clone();
        change(&mut profile);
        profile
    }

    /// What becomes of each slot, in short.
    fn plan(cohorts: &[Cohort<'_>]) -> Vec<String> {
        let plans = slots(cohorts).into_iter();
        let short = plans.map(|plan| {
            let Counts { new_key, keep, end } = plan.devices;
            let differences = plan.differences.join(" ");
            format!("{}: {new_key} {keep} {end} [{differences}]", plan.slot)
        });
        short.collect()
    }

    #[test]
    fn only_what_makes_another_key_of_it_needs_a_new_one() {
        let before = sample();
        let mut cases: Vec<(KeyProfile, [&str; 3])> = Vec::new();
        cases.push((
            before.clone(),
            ["data: 0 7 0 []", "dukpt: 0 7 0 []", "tmk: 0 7 0 []"],
        ));
        cases.push((
            of(&before, |it| it.slots[2].renewal_days = None),
            [
                "data: 0 7 0 []",
                "dukpt: 0 7 0 []",
                "tmk: 0 7 0 [renewal-days]",
            ],
        ));
        cases.push((
            of(&before, |it| {
                it.slots[0].kcv.len = 3;
                it.slots[0].validity_days = 9;
                it.slots[2].source = KeySource::Unique;
            }),
            [
                "data: 0 7 0 [kcv validity-days]",
                "dukpt: 0 7 0 []",
                "tmk: 0 7 0 []",
            ],
        ));
        cases.push((
            of(&before, |it| {
                it.slots[0].source = KeySource::Unique;
                it.slots[1].kind = tr34::KeyKind::Aes256;
                it.slots[2].header = it.slots[0].header.clone();
                it.slots[2].validity_days = 9;
            }),
            [
                "data: 7 0 0 [source]",
                "dukpt: 7 0 0 [kind]",
                "tmk: 7 0 0 [header validity-days]",
            ],
        ));
        cases.push((
            of(&before, |it| {
                let mut new = it.slots.remove(0);
                new.slot = it.slots[0].slot.clone();
                new.source = KeySource::Unique;
                it.slots[0] = new;
            }),
            [
                "data: 0 0 7 [taken out]",
                "dukpt: 7 0 0 [header source kcv validity-days]",
                "tmk: 0 7 0 []",
            ],
        ));
        for (after, expected) in cases {
            let cohort = Cohort {
                devices: 7,
                before: Some(&before),
                after: Some(&after),
            };
            assert_eq!(plan(&[cohort]), expected);
        }
    }

    #[test]
    fn devices_that_come_from_different_profiles_are_added_up() {
        let (one, after) = (sample(), of(&sample(), |it| it.slots.truncate(2)));
        let other = of(&one, |it| it.slots[0].source = KeySource::Unique);
        let cohort = |devices, before| Cohort {
            devices,
            before,
            after: Some(&after),
        };
        let cohorts = [
            cohort(1, Some(&one)),
            cohort(10, Some(&other)),
            cohort(100, None),
        ];
        assert_eq!(
            plan(&cohorts),
            [
                "data: 110 1 0 [source new]",
                "dukpt: 100 11 0 [new]",
                "tmk: 0 0 11 [taken out]",
            ]
        );
        let gone = Cohort {
            devices: 5,
            before: Some(&after),
            after: None,
        };
        assert_eq!(
            plan(&[gone]),
            ["data: 0 0 5 [taken out]", "dukpt: 0 0 5 [taken out]"]
        );
        assert_eq!(plan(&[]), [""; 0]);
    }
}
