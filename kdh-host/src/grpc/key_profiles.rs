//! Key profiles and device groups as messages.

use kdh_proto::v1::{
    DeviceGroup, KeyProfile, KeyProfileAssignment, KeyProfileChange, KeyProfileFinding,
    KeyProfilePlan, KeyProfileReach, KeyProfileSlotPlan, KeyProfileVersion,
    ListKeyProfilesResponse, SetDeviceGroupResponse, ShowKeyProfileResponse,
};

use crate::{
    key_profile::{Change, Finding, Plan, Shown, SlotPlan, Target, document, groups::Grouped},
    names::ProfileName,
    store::{Group, ProfileAssignment, ProfileVersion},
};

pub(super) fn change_message(change: &Change) -> KeyProfileChange {
    KeyProfileChange {
        current: change.current.as_ref().map(version_message),
        unchanged: change.unchanged,
        plan: Some(plan_message(&change.plan)),
    }
}

fn plan_message(plan: &Plan) -> KeyProfilePlan {
    KeyProfilePlan {
        reach: reach_messages(&plan.reach),
        slots: plan.slots.iter().map(slot_plan_message).collect(),
        findings: finding_messages(&plan.findings),
    }
}

fn slot_plan_message(plan: &SlotPlan) -> KeyProfileSlotPlan {
    KeyProfileSlotPlan {
        slot: plan.slot.to_string(),
        differences: plan.differences.iter().map(ToString::to_string).collect(),
        new_key: plan.devices.new_key,
        keep: plan.devices.keep,
        end: plan.devices.end,
    }
}

fn reach_messages(reach: &[(Target, u64)]) -> Vec<KeyProfileReach> {
    let reach = reach.iter().map(|(target, devices)| KeyProfileReach {
        target: Some(target.to_message()),
        devices: *devices,
    });
    reach.collect()
}

fn finding_messages(findings: &[Finding]) -> Vec<KeyProfileFinding> {
    let findings = findings.iter().map(|finding| KeyProfileFinding {
        slot: finding.slot.to_string(),
        rule: finding.rule.to_owned(),
        refuses: finding.refuses,
        message: finding.message.clone(),
    });
    findings.collect()
}

pub(super) fn version_message(version: &ProfileVersion) -> KeyProfileVersion {
    KeyProfileVersion {
        profile: Some(match &version.profile {
            Some(profile) => document::to_message(profile),
            None => named(&version.name),
        }),
        ..without_slots(version)
    }
}

fn without_slots(version: &ProfileVersion) -> KeyProfileVersion {
    KeyProfileVersion {
        profile: Some(named(&version.name)),
        version: version.version,
        removed: version.profile.is_none(),
        put_by: version.put_by.clone(),
        why: version.why.clone(),
        created_at: version.created_at.clone(),
    }
}

fn named(name: &ProfileName) -> KeyProfile {
    KeyProfile {
        name: name.to_string(),
        slots: Vec::new(),
    }
}

pub(super) fn list_message(
    (profiles, assignments): &(Vec<ProfileVersion>, Vec<ProfileAssignment>),
) -> ListKeyProfilesResponse {
    let assignments = assignments.iter().map(|assignment| KeyProfileAssignment {
        target: Some(assignment.target.to_message()),
        profile_name: assignment.profile.to_string(),
        assigned_by: assignment.assigned_by.clone(),
        why: assignment.why.clone(),
        created_at: assignment.created_at.clone(),
    });
    ListKeyProfilesResponse {
        profiles: profiles.iter().map(version_message).collect(),
        assignments: assignments.collect(),
    }
}

pub(super) fn shown_message(shown: &Shown) -> ShowKeyProfileResponse {
    ShowKeyProfileResponse {
        version: Some(version_message(&shown.version)),
        history: shown.history.iter().map(without_slots).collect(),
        reach: reach_messages(&shown.reach),
        findings: finding_messages(&shown.findings),
    }
}

pub(super) fn grouped_message(grouped: &Grouped) -> SetDeviceGroupResponse {
    SetDeviceGroupResponse {
        moved: grouped.moved,
        stayed: grouped.stayed,
        devices: grouped.devices,
        profile_name: name_or_empty(grouped.profile.as_ref()),
    }
}

pub(super) fn group_message(group: &Group) -> DeviceGroup {
    DeviceGroup {
        name: group.name.to_string(),
        devices: group.devices,
        profile_name: name_or_empty(group.profile.as_ref()),
    }
}

fn name_or_empty(name: Option<&ProfileName>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}
