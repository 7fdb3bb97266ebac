//! Export targets.

use std::path::Path;

use kdh_proto::v1::{ExportKey, ExportTarget, FileHeader, TargetStanding, export_target::Scope};
use serde_json::{Value, json};

use super::{
    Report, all,
    approval::{self, approval_json},
    counted, kcv_json, kcv_text, lines, table,
    terminals::Terminals,
};

pub(crate) fn targets(targets: &[TargetStanding]) -> Report {
    let rows = targets.iter().map(|standing| {
        let (id, state) = (id(standing), state(standing));
        let Some(target) = &standing.target else {
            // Its row is refused: nothing else of it is told.
            let none = || "-".to_owned();
            return [
                none(),
                id,
                state,
                none(),
                none(),
                none(),
                none(),
                none(),
                none(),
            ];
        };
        [
            target.name.clone(),
            id,
            state,
            target.form.clone(),
            scope_text(target),
            way_text(target),
            standing.made.to_string(),
            standing.acknowledged.to_string(),
            lag(standing).to_string(),
        ]
    });
    let header = [
        "NAME",
        "ID",
        "STATE",
        "FORM",
        "KEYS OF",
        "GOES",
        "MADE",
        "ACKNOWLEDGED",
        "LAG",
    ];
    Report {
        json: json!({"targets": all(targets, standing_json)}),
        text: table(header, rows),
    }
}

pub(crate) fn target(standing: &TargetStanding) -> Report {
    if standing.target.is_none() {
        let text = format!(
            "Approval {} is {}: its row is not as the HSM has sealed it. Restore it from a backup of the database.",
            id(standing),
            state(standing)
        );
        return Report {
            json: standing_json(standing),
            text,
        };
    }
    let target = standing.target.clone().unwrap_or_default();
    let approval = standing.approval.clone().unwrap_or_default();
    let numbers = [
        standing.last,
        standing.made,
        standing.sent,
        standing.acknowledged,
        lag(standing),
        standing.kept_from,
    ]
    .map(|number| number.to_string());
    let [last, made, sent, acknowledged, lag, kept_from] = numbers;
    let mut shown = described(&target);
    shown.extend([
        ("Id", approval.id.clone()),
        ("State", state(standing)),
        ("Asked by", approval.asked_by.clone()),
        ("Why", approval.why.clone()),
        ("Decided by", approval.decided_by.clone()),
        ("Closed by", approval.ended_by.clone()),
        ("Because", approval.ended_why.clone()),
        ("In line", last),
        ("Made", made),
        ("Sent", sent),
        ("Acknowledged", acknowledged),
        ("Lag", lag),
        ("Kept from", kept_from),
    ]);
    let next = match (&*approval.state, &*standing.fault) {
        ("ASKED", _) => format!(
            "\n\nNext, as another operator with the role keys: kdhctl approval approve {}",
            approval.id
        ),
        (_, "") => String::new(),
        (_, fault) => format!("\n\nNo record is made: {fault}"),
    };
    Report {
        json: standing_json(standing),
        text: lines(&shown) + &next,
    }
}

/// What two operators agree on, line by line.
pub(super) fn described(target: &ExportTarget) -> Vec<(&'static str, String)> {
    let slots = if target.slots.is_empty() {
        "all".to_owned()
    } else {
        target.slots.join(", ")
    };
    vec![
        ("Target", target.name.clone()),
        ("Form", target.form.clone()),
        ("Under", key_text(target.under.as_ref())),
        ("MACs by", key_text(target.mac.as_ref())),
        ("Keys of", scope_text(target)),
        ("Slots", slots),
        ("Goes", way_text(target)),
        ("Key SHA-256", target.receiver_key_sha256.clone()),
    ]
}

pub(crate) fn closed_target(name: &str) -> Report {
    Report {
        json: json!({"name": name, "closed": true}),
        text: format!(
            "Export target {name} is closed: nothing goes there any more, and what was not fetched is destroyed."
        ),
    }
}

pub(crate) fn filled(name: &str, looked_at: u64, queued: u64) -> Report {
    Report {
        json: json!({"name": name, "looked_at": looked_at, "queued": queued}),
        text: format!(
            "{} looked at, {queued} put in line for {name}.\n\n\
             Next: kdhctl target show {name} tells how many are made.",
            counted(looked_at, "confirmed key")
        ),
    }
}

pub(crate) fn exported_file(header: &FileHeader, out: &Path) -> Report {
    let out = out.display().to_string();
    let (name, to) = (&header.name, header.to);
    Report {
        json: json!({
            "name": name,
            "from": header.from,
            "to": to,
            "count": header.count,
            "out": out,
        }),
        text: format!(
            "Records {} to {to} for {name} are in {out}.\n\n\
             Next, when the switch has them: kdhctl target ack {name} --position {to}",
            header.from
        ),
    }
}

pub(crate) fn acknowledged(name: &str, acknowledged: u64) -> Report {
    Report {
        json: json!({"name": name, "acknowledged": acknowledged}),
        text: format!("Records up to {acknowledged} for {name} are acknowledged."),
    }
}

pub(crate) fn received(name: &str, records: u64, last: u64, out: &Path) -> Report {
    let out = out.display().to_string();
    Report {
        json: json!({"name": name, "records": records, "last": last, "out": out}),
        text: format!(
            "{} for {name} received, the last one is {last}: {out}",
            counted(records, "record")
        ),
    }
}

/// Records that are in line or made and have not arrived.
const fn lag(standing: &TargetStanding) -> u64 {
    standing.last.saturating_sub(standing.acknowledged)
}

fn id(standing: &TargetStanding) -> String {
    let approval = standing.approval.as_ref();
    approval.map_or_else(String::new, |approval| approval.id.clone())
}

fn state(standing: &TargetStanding) -> String {
    let approval = standing.approval.as_ref();
    approval.map_or_else(String::new, |approval| approval::state(approval).to_owned())
}

fn scope_text(target: &ExportTarget) -> String {
    match &target.scope {
        None => "all terminals".to_owned(),
        Some(Scope::Model(name)) => Terminals::OfModel(name).to_string(),
        Some(Scope::Group(name)) => Terminals::InGroup(name).to_string(),
    }
}

fn way_text(target: &ExportTarget) -> String {
    if target.receiver.is_empty() {
        "in files".to_owned()
    } else {
        format!("to {}", target.receiver)
    }
}

fn key_text(key: Option<&ExportKey>) -> String {
    key.map_or_else(String::new, |key| {
        format!(
            "{} ({}, {})",
            key.label,
            key.kind,
            kcv_text(key.kcv.as_ref())
        )
    })
}

fn key_json(key: &ExportKey) -> Value {
    json!({"label": key.label, "kind": key.kind, "kcv": key.kcv.as_ref().map(kcv_json)})
}

fn standing_json(standing: &TargetStanding) -> Value {
    let target = standing.target.clone().unwrap_or_default();
    let (mut model, mut group) = (None, None);
    match &target.scope {
        None => {}
        Some(Scope::Model(name)) => model = Some(name),
        Some(Scope::Group(name)) => group = Some(name),
    }
    json!({
        "name": target.name,
        "form": target.form,
        "under": target.under.as_ref().map(key_json),
        "mac": target.mac.as_ref().map(key_json),
        "model": model,
        "group": group,
        "slots": target.slots,
        "receiver": target.receiver,
        "receiver_key_sha256": target.receiver_key_sha256,
        "approval": standing.approval.as_ref().map(approval_json),
        "last": standing.last,
        "made": standing.made,
        "sent": standing.sent,
        "acknowledged": standing.acknowledged,
        "lag": lag(standing),
        "kept_from": standing.kept_from,
        "fault": standing.fault,
    })
}

#[cfg(test)]
mod tests {
    use kdh_proto::v1::Approval;

    use super::*;

    fn sample() -> TargetStanding {
        TargetStanding {
            approval: Some(Approval {
                id: "5f0c1a9e".to_owned(),
                act: "EXPORT_TARGET".to_owned(),
                state: "APPROVED".to_owned(),
                ..Approval::default()
            }),
            target: Some(ExportTarget {
                name: "switch".to_owned(),
                form: "tr31".to_owned(),
                scope: Some(Scope::Model("Model X".to_owned())),
                receiver: "switch-1".to_owned(),
                ..ExportTarget::default()
            }),
            last: 12,
            made: 10,
            sent: 9,
            acknowledged: 7,
            kept_from: 1,
            fault: String::new(),
        }
    }

    #[test]
    fn a_target_is_seen_with_how_far_it_has_come() {
        let report = targets(&[sample()]);
        let expected =
            "switch  5f0c1a9e  APPROVED  tr31  model Model X  to switch-1  10    7             5";
        assert!(report.text.contains(expected), "{}", report.text);
        let one = &report.json["targets"][0];
        assert_eq!(
            (&one["lag"], &one["model"], &one["group"]),
            (&json!(5), &json!("Model X"), &Value::Null)
        );
        let fault = TargetStanding {
            fault: "the key is another one".to_owned(),
            ..sample()
        };
        let shown = target(&fault);
        assert!(
            shown
                .text
                .contains("No record is made: the key is another one"),
            "{}",
            shown.text
        );
        assert!(!shown.text.contains("approval approve"), "{}", shown.text);
        assert_eq!(
            filled("switch", 1, 0).text.lines().next(),
            Some("1 confirmed key looked at, 0 put in line for switch.")
        );
    }

    #[test]
    fn a_target_that_was_in_force_is_closed() {
        let standing = |state: &str, decided_by: &str, ended_by: &str| TargetStanding {
            approval: Some(Approval {
                act: "EXPORT_TARGET".to_owned(),
                state: state.to_owned(),
                decided_by: decided_by.to_owned(),
                ended_by: ended_by.to_owned(),
                ..Approval::default()
            }),
            ..sample()
        };
        let closed = standing("WITHDRAWN", "bob", "cleo");
        for shown in [target(&closed), targets(&[closed])] {
            assert!(shown.text.contains("CLOSED"), "{}", shown.text);
            assert!(!shown.text.contains("WITHDRAWN"), "{}", shown.text);
        }
        for standing in [
            standing("APPROVED", "bob", ""),
            standing("REJECTED", "bob", ""),
            standing("WITHDRAWN", "", "ada"),
        ] {
            let shown = target(&standing).text;
            assert!(!shown.contains("CLOSED"), "{shown}");
        }
    }

    #[test]
    fn of_a_refused_target_nothing_is_told_but_that() {
        let refused = TargetStanding {
            approval: Some(Approval {
                id: "5f0c1a9e".to_owned(),
                state: "REFUSED".to_owned(),
                ..Approval::default()
            }),
            ..TargetStanding::default()
        };
        let report = targets(&[refused.clone(), sample()]);
        let expected =
            "-       5f0c1a9e  REFUSED   -     -              -            -     -             -";
        assert!(report.text.contains(expected), "{}", report.text);
        let shown = target(&refused);
        let expected = "Approval 5f0c1a9e is REFUSED: its row is not as the HSM has sealed it.";
        assert!(shown.text.starts_with(expected), "{}", shown.text);
    }
}
