//! Key profiles, and what a change of them does.

use kdh_proto::v1::{
    KeyProfileAssignment, KeyProfileChange, KeyProfileFinding, KeyProfilePlan, KeyProfileReach,
    KeyProfileSlot, KeyProfileSlotPlan, KeyProfileTarget, KeyProfileVersion,
    ListKeyProfilesResponse, ShowKeyProfileResponse, key_profile_slot::Source,
    key_profile_target::Target,
};
use serde_json::{Value, json};

use super::{Report, all, counted, dash, fields, table, terminals::Terminals};
use crate::profile_file::method_word;

/// Whether the host's policy refuses a change.
pub(crate) fn is_refused(change: &KeyProfileChange) -> bool {
    let mut findings = change.plan.iter().flat_map(|plan| &plan.findings);
    findings.any(|finding| finding.refuses)
}

/// What a change would do, or why nothing is to be done.
pub(crate) fn planned_profile(change: &KeyProfileChange) -> Report {
    let first = if change.unchanged {
        "Nothing is to be changed: it is so already."
    } else if is_refused(change) {
        "This would be refused:"
    } else {
        "This would be done:"
    };
    changed(change, first, "")
}

/// A profile that was put.
pub(crate) fn profile_put(change: &KeyProfileChange) -> Report {
    let version = change.current.clone().unwrap_or_default();
    let name = name_of(&version);
    let first = format!("Version {} of {name} is the current one.", version.version);
    let reach = change.plan.as_ref().map_or(0, |plan| plan.reach.len());
    let next = match reach {
        0 => format!("\n\nNext: kdhctl profile assign {name} --model MODEL, or --group NAME."),
        _ => String::new(),
    };
    changed(change, &first, &next)
}

/// A profile that a model or a group carries from now on, or does not carry any more.
pub(crate) fn profile_assigned(change: &KeyProfileChange) -> Report {
    let reach = change.plan.as_ref().and_then(|plan| plan.reach.first());
    let target = target_text(reach.and_then(|reach| reach.target.as_ref()));
    let first = match &change.current {
        Some(version) => format!("{target} carries {} from now on.", name_of(version)),
        None => format!("{target} carries no key profile any more."),
    };
    let slots = change.plan.iter().flat_map(|plan| &plan.slots);
    let keys: u64 = slots.map(|slot| slot.new_key).sum();
    let next = match terminals(reach.and_then(|reach| reach.target.as_ref())) {
        Some(terminals) if keys > 0 => format!(
            "\n\nNo key is made yet. Next: kdhctl rollout start --dry-run {}",
            terminals.as_option()
        ),
        _ => String::new(),
    };
    changed(change, &first, &next)
}

fn changed(change: &KeyProfileChange, first: &str, next: &str) -> Report {
    let plan = change.plan.clone().unwrap_or_default();
    let mut parts = vec![first.to_owned()];
    if let Some(version) = &change.current {
        parts.push(version_text(version));
    }
    parts.extend(plan_text(&plan));
    Report {
        json: json!({
            "current": change.current.as_ref().map(version_json),
            "unchanged": change.unchanged,
            "plan": plan_json(&plan),
        }),
        text: parts.join("\n\n") + next,
    }
}

pub(crate) fn profile_removed(version: &KeyProfileVersion) -> Report {
    let name = name_of(version);
    Report {
        json: version_json(version),
        text: format!(
            "{name} is removed. Its versions stay readable: kdhctl profile show {name} --version N"
        ),
    }
}

pub(crate) fn profiles(listed: &ListKeyProfilesResponse) -> Report {
    let carriers = |name: &str| {
        let carriers = listed.assignments.iter();
        let carriers = carriers.filter(|assignment| assignment.profile_name == name);
        let carriers: Vec<_> = carriers
            .map(|assignment| target_text(assignment.target.as_ref()))
            .collect();
        dash(&carriers.join(", "))
    };
    let rows = listed.profiles.iter().map(|version| {
        [
            name_of(version).to_owned(),
            version.version.to_string(),
            slots_of(version)
                .iter()
                .map(|slot| slot.slot.clone())
                .collect::<Vec<_>>()
                .join(", "),
            carriers(name_of(version)),
            version.put_by.clone(),
            version.created_at.clone(),
        ]
    });
    Report {
        json: json!({
            "profiles": all(&listed.profiles, version_json),
            "assignments": all(&listed.assignments, assignment_json),
        }),
        text: table(
            ["NAME", "VERSION", "SLOTS", "CARRIED BY", "PUT BY", "AT"],
            rows,
        ),
    }
}

pub(crate) fn profile(shown: &ShowKeyProfileResponse) -> Report {
    let version = shown.version.clone().unwrap_or_default();
    let mut parts = vec![version_text(&version)];
    if !slots_of(&version).is_empty() {
        parts.push(slot_table(slots_of(&version)));
    }
    parts.push(reach_text(&shown.reach));
    parts.extend(findings_text(&shown.findings));
    let rows = shown.history.iter().map(|version| {
        [
            version.version.to_string(),
            if version.removed { "removed" } else { "put" }.to_owned(),
            version.put_by.clone(),
            version.created_at.clone(),
            version.why.clone(),
        ]
    });
    parts.push(table(["VERSION", "WHAT", "BY", "AT", "WHY"], rows));
    Report {
        json: json!({
            "version": version_json(&version),
            "history": all(&shown.history, version_json),
            "reach": all(&shown.reach, reach_json),
            "findings": all(&shown.findings, finding_json),
        }),
        text: parts.join("\n\n"),
    }
}

fn name_of(version: &KeyProfileVersion) -> &str {
    version.profile.as_ref().map_or("", |profile| &profile.name)
}

fn slots_of(version: &KeyProfileVersion) -> &[KeyProfileSlot] {
    version
        .profile
        .as_ref()
        .map_or(&[], |profile| &profile.slots)
}

fn version_text(version: &KeyProfileVersion) -> String {
    let number = if version.removed {
        format!("{} (removed)", version.version)
    } else {
        version.version.to_string()
    };
    fields(&[
        ("Key profile", name_of(version)),
        ("Version", &number),
        ("By", &version.put_by),
        ("Why", &version.why),
        ("At", &version.created_at),
    ])
}

fn slot_table(slots: &[KeyProfileSlot]) -> String {
    let rows = slots.iter().map(|slot| {
        [
            slot.slot.clone(),
            slot.header.clone(),
            slot.kind.clone(),
            source_text(slot.source.as_ref()),
            format!(
                "{} by {}",
                counted(slot.kcv_length, "byte"),
                method_word(slot.kcv_method())
            ),
            counted(slot.validity_days, "day"),
            match slot.renewal_days {
                0 => "never".to_owned(),
                days => format!("after {}", counted(days, "day")),
            },
        ]
    });
    let header = [
        "SLOT",
        "HEADER",
        "KIND",
        "SOURCE",
        "CHECK VALUE",
        "VALID",
        "RENEWED",
    ];
    table(header, rows)
}

fn source_text(source: Option<&Source>) -> String {
    match source {
        None => dash(""),
        Some(Source::Unique(_)) => "unique".to_owned(),
        Some(Source::Derived(derived)) => {
            let ksn = if derived.ksn_in_header {
                ", key serial number in the header"
            } else {
                ""
            };
            format!(
                "derived from bdk.{}, key set {}{ksn}",
                derived.bdk,
                hex::encode_upper(&derived.key_set_id)
            )
        }
        Some(Source::Shared(shared)) => format!("shared: {}", shared.key_name),
    }
}

fn plan_text(plan: &KeyProfilePlan) -> Vec<String> {
    let mut parts = vec![reach_text(&plan.reach)];
    if !plan.slots.is_empty() {
        let rows = plan.slots.iter().map(|slot| {
            [
                slot.slot.clone(),
                match &slot.differences[..] {
                    [] => "nothing".to_owned(),
                    differences => differences.join(", "),
                },
                slot.new_key.to_string(),
                slot.keep.to_string(),
                slot.end.to_string(),
            ]
        });
        let header = [
            "SLOT",
            "DIFFERENT",
            "NEW KEY",
            "KEEP THEIRS",
            "NO MORE KEYS",
        ];
        parts.push(table(header, rows));
    }
    parts.extend(findings_text(&plan.findings));
    parts
}

fn reach_text(reach: &[KeyProfileReach]) -> String {
    if reach.is_empty() {
        return "No model and no group carries it.".to_owned();
    }
    let rows = reach.iter().map(|reach| {
        [
            target_text(reach.target.as_ref()),
            reach.devices.to_string(),
        ]
    });
    let mut text = table(["CARRIED BY", "TERMINALS"], rows);
    for reach in reach.iter().filter(|reach| reach.devices == 0) {
        let none = terminals(reach.target.as_ref()).map(|terminals| terminals.none_yet());
        text.extend(none.map(|none| format!("\n\n{none}")));
    }
    text
}

fn findings_text(findings: &[KeyProfileFinding]) -> impl Iterator<Item = String> {
    let line = |finding: &KeyProfileFinding| {
        let verdict = if finding.refuses {
            "REFUSED"
        } else {
            "Warning"
        };
        format!(
            "{verdict}: slot {}: {} ({})",
            finding.slot, finding.message, finding.rule
        )
    };
    findings.iter().map(line).collect::<Vec<_>>().into_iter()
}

pub(super) fn target_text(target: Option<&KeyProfileTarget>) -> String {
    terminals(target).map_or_else(|| dash(""), |terminals| terminals.to_string())
}

pub(super) fn target_json(target: Option<&KeyProfileTarget>) -> Value {
    terminals(target).map_or(Value::Null, |terminals| terminals.json())
}

fn terminals(target: Option<&KeyProfileTarget>) -> Option<Terminals<'_>> {
    let target = target?.target.as_ref()?;
    Some(match target {
        Target::Model(name) => Terminals::OfModel(name),
        Target::Group(name) => Terminals::InGroup(name),
    })
}

fn version_json(version: &KeyProfileVersion) -> Value {
    json!({
        "profile": {
            "name": name_of(version),
            "slots": all(slots_of(version), slot_json),
        },
        "version": version.version,
        "removed": version.removed,
        "put_by": version.put_by,
        "why": version.why,
        "created_at": version.created_at,
    })
}

fn slot_json(slot: &KeyProfileSlot) -> Value {
    let mut json = json!({
        "slot": slot.slot,
        "header": slot.header,
        "kind": slot.kind,
        "kcv_method": slot.kcv_method().as_str_name(),
        "kcv_length": slot.kcv_length,
        "validity_days": slot.validity_days,
        "renewal_days": slot.renewal_days,
    });
    match &slot.source {
        None => {}
        Some(Source::Unique(_)) => json["unique"] = json!({}),
        Some(Source::Derived(derived)) => {
            json["derived"] = json!({
                "bdk": derived.bdk,
                "key_set_id": hex::encode_upper(&derived.key_set_id),
                "ksn_in_header": derived.ksn_in_header,
            });
        }
        Some(Source::Shared(shared)) => json["shared"] = json!({"key_name": shared.key_name}),
    }
    json
}

fn plan_json(plan: &KeyProfilePlan) -> Value {
    json!({
        "reach": all(&plan.reach, reach_json),
        "slots": all(&plan.slots, slot_plan_json),
        "findings": all(&plan.findings, finding_json),
    })
}

fn slot_plan_json(plan: &KeyProfileSlotPlan) -> Value {
    json!({
        "slot": plan.slot,
        "differences": plan.differences,
        "new_key": plan.new_key,
        "keep": plan.keep,
        "end": plan.end,
    })
}

fn reach_json(reach: &KeyProfileReach) -> Value {
    json!({"target": target_json(reach.target.as_ref()), "devices": reach.devices})
}

fn finding_json(finding: &KeyProfileFinding) -> Value {
    json!({
        "slot": finding.slot,
        "rule": finding.rule,
        "refuses": finding.refuses,
        "message": finding.message,
    })
}

fn assignment_json(assignment: &KeyProfileAssignment) -> Value {
    json!({
        "target": target_json(assignment.target.as_ref()),
        "profile_name": assignment.profile_name,
        "assigned_by": assignment.assigned_by,
        "why": assignment.why,
        "created_at": assignment.created_at,
    })
}

#[cfg(test)]
mod tests {
    use kdh_proto::v1::{DerivedKey, KeyProfile, SharedKey, UniqueKey, key_check_value::Method};

    use super::*;

    fn slot(name: &str, source: Source) -> KeyProfileSlot {
        KeyProfileSlot {
            slot: name.to_owned(),
            header: "D0000K0AD00N0000".to_owned(),
            kind: "AES-128".to_owned(),
            source: Some(source),
            kcv_method: Method::AesCmac.into(),
            kcv_length: 5,
            validity_days: 400,
            renewal_days: 365,
        }
    }

    fn version() -> KeyProfileVersion {
        KeyProfileVersion {
            profile: Some(KeyProfile {
                name: "standard".to_owned(),
                slots: vec![slot("tmk", Source::Unique(UniqueKey {}))],
            }),
            version: 3,
            removed: false,
            put_by: "ada".to_owned(),
            why: "first".to_owned(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    fn version_as_json() -> Value {
        json!({
            "profile": {"name": "standard", "slots": [{
                "slot": "tmk",
                "header": "D0000K0AD00N0000",
                "kind": "AES-128",
                "unique": {},
                "kcv_method": "AES_CMAC",
                "kcv_length": 5,
                "validity_days": 400,
                "renewal_days": 365,
            }]},
            "version": 3,
            "removed": false,
            "put_by": "ada",
            "why": "first",
            "created_at": "2026-01-01T00:00:00Z",
        })
    }

    fn reach(target: Target, devices: u64) -> KeyProfileReach {
        KeyProfileReach {
            target: Some(KeyProfileTarget {
                target: Some(target),
            }),
            devices,
        }
    }

    fn change() -> KeyProfileChange {
        KeyProfileChange {
            current: Some(version()),
            unchanged: false,
            plan: Some(KeyProfilePlan {
                reach: vec![reach(Target::Model("Model X".to_owned()), 41)],
                slots: vec![
                    KeyProfileSlotPlan {
                        slot: "tmk".to_owned(),
                        differences: vec!["header".to_owned(), "kcv".to_owned()],
                        new_key: 41,
                        keep: 0,
                        end: 0,
                    },
                    KeyProfileSlotPlan {
                        slot: "pin".to_owned(),
                        differences: Vec::new(),
                        new_key: 0,
                        keep: 41,
                        end: 0,
                    },
                ],
                findings: vec![KeyProfileFinding {
                    slot: "tmk".to_owned(),
                    rule: "shared-key".to_owned(),
                    refuses: false,
                    message: "all devices get one key".to_owned(),
                }],
            }),
        }
    }

    #[test]
    fn what_a_change_does() {
        let report = planned_profile(&change());
        assert_eq!(
            report.json,
            json!({
                "current": version_as_json(),
                "unchanged": false,
                "plan": {
                    "reach": [{"target": {"model": "Model X"}, "devices": 41}],
                    "slots": [
                        {"slot": "tmk", "differences": ["header", "kcv"], "new_key": 41, "keep": 0, "end": 0},
                        {"slot": "pin", "differences": [], "new_key": 0, "keep": 41, "end": 0},
                    ],
                    "findings": [{
                        "slot": "tmk",
                        "rule": "shared-key",
                        "refuses": false,
                        "message": "all devices get one key",
                    }],
                },
            })
        );
        let text = "This would be done:

 Key profile  standard
 Version      3
 By           ada
 Why          first
 At           2026-01-01T00:00:00Z

 CARRIED BY     TERMINALS
──────────────────────────
 model Model X  41

 SLOT  DIFFERENT    NEW KEY  KEEP THEIRS  NO MORE KEYS
───────────────────────────────────────────────────────
 tmk   header, kcv  41       0            0
 pin   nothing      0        41           0

Warning: slot tmk: all devices get one key (shared-key)";
        assert_eq!(report.text, text);
        let done = profile_put(&change()).text;
        assert!(
            done.starts_with("Version 3 of standard is the current one.\n"),
            "{done}"
        );
        assert!(!done.contains("Next: "), "{done}");
        let done = profile_assigned(&change()).text;
        assert!(
            done.starts_with("model Model X carries standard from now on.\n"),
            "{done}"
        );
    }

    #[test]
    fn what_is_refused_unchanged_or_carried_by_nothing() {
        let mut refused = change();
        let plan = refused.plan.as_mut();
        plan.into_iter()
            .flat_map(|plan| &mut plan.findings)
            .for_each(|finding| finding.refuses = true);
        let text = planned_profile(&refused).text;
        assert!(text.contains("\nREFUSED: slot tmk: "), "{text}");

        let unchanged = KeyProfileChange {
            unchanged: true,
            ..change()
        };
        let text = planned_profile(&unchanged).text;
        assert!(text.starts_with("Nothing is to be changed: "), "{text}");

        let nowhere = KeyProfileChange {
            plan: None,
            ..change()
        };
        let text = profile_put(&nowhere).text;
        assert!(text.contains("No model and no group carries it."), "{text}");
        let next = "Next: kdhctl profile assign standard --model MODEL, or --group NAME.";
        assert!(text.ends_with(next), "{text}");

        let mut none = change();
        none.current = None;
        if let Some(plan) = &mut none.plan {
            plan.reach = vec![reach(Target::Group("pilot".to_owned()), 2)];
        }
        let report = profile_assigned(&none);
        assert_eq!(report.json["current"], Value::Null);
        let first = "group pilot carries no key profile any more.\n";
        assert!(report.text.starts_with(first), "{}", report.text);
    }

    #[test]
    fn a_name_that_no_terminal_has_is_noticed() {
        let of = |devices| reach_text(&[reach(Target::Model("Model x".to_owned()), devices)]);
        assert!(of(0).ends_with(
            "\n\nThere is no terminal of model Model x yet. Names count as they are written: see kdhctl device list."
        ));
        assert!(!of(1).contains("no terminal"));
    }

    #[test]
    fn every_source_is_said() {
        let derived = |ksn_in_header| {
            Source::Derived(DerivedKey {
                bdk: "acquirer".to_owned(),
                key_set_id: vec![0x0A, 0x1B, 0x2C, 0x3D],
                ksn_in_header,
            })
        };
        let shared = Source::Shared(SharedKey {
            key_name: "acq-data".to_owned(),
        });
        for (source, text, field, json) in [
            (Source::Unique(UniqueKey {}), "unique", "unique", json!({})),
            (
                derived(false),
                "derived from bdk.acquirer, key set 0A1B2C3D",
                "derived",
                json!({"bdk": "acquirer", "key_set_id": "0A1B2C3D", "ksn_in_header": false}),
            ),
            (
                derived(true),
                "derived from bdk.acquirer, key set 0A1B2C3D, key serial number in the header",
                "derived",
                json!({"bdk": "acquirer", "key_set_id": "0A1B2C3D", "ksn_in_header": true}),
            ),
            (
                shared,
                "shared: acq-data",
                "shared",
                json!({"key_name": "acq-data"}),
            ),
        ] {
            assert_eq!(source_text(Some(&source)), text);
            assert_eq!(slot_json(&slot("s", source))[field], json);
        }
    }

    #[test]
    fn profiles_and_their_versions() {
        let assignment = KeyProfileAssignment {
            target: reach(Target::Group("pilot".to_owned()), 0).target,
            profile_name: "standard".to_owned(),
            assigned_by: "ada".to_owned(),
            why: "first".to_owned(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
        };
        let report = profiles(&ListKeyProfilesResponse {
            profiles: vec![version()],
            assignments: vec![assignment],
        });
        assert_eq!(
            report.json,
            json!({
                "profiles": [version_as_json()],
                "assignments": [{
                    "target": {"group": "pilot"},
                    "profile_name": "standard",
                    "assigned_by": "ada",
                    "why": "first",
                    "created_at": "2026-01-01T00:00:00Z",
                }],
            })
        );
        assert!(report.text.contains("group pilot"), "{}", report.text);

        let gone = KeyProfileVersion {
            profile: None,
            version: 4,
            removed: true,
            ..version()
        };
        let report = profile(&ShowKeyProfileResponse {
            version: Some(version()),
            history: vec![gone.clone(), version()],
            reach: Vec::new(),
            findings: Vec::new(),
        });
        assert_eq!(report.json["version"], version_as_json());
        assert_eq!(report.json["history"][0]["removed"], json!(true));
        for part in [
            "D0000K0AD00N0000",
            "5 bytes by aes-cmac",
            "400 days",
            "after 365 days",
            "removed",
        ] {
            assert!(report.text.contains(part), "{part}: {}", report.text);
        }
        assert_eq!(profile_removed(&gone).json["version"], json!(4));
        assert!(version_text(&gone).contains("4 (removed)"));
    }
}
