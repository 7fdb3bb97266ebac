//! What takes two operators.

use kdh_proto::v1::Approval;
use serde_json::{Value, json};

use super::{Report, all, dash, fields, table};

pub(crate) fn approval(approval: &Approval) -> Report {
    let subject = match &*approval.act {
        "STORAGE_ROTATION" => about(approval),
        _ => approval.subject.clone(),
    };
    let text = fields(&[
        ("Approval", &approval.id),
        ("Of", &approval.act),
        ("About", &subject),
        ("State", state(approval)),
        ("Progress", &approval.progress),
        ("Asked by", &approval.asked_by),
        ("Why", &approval.why),
        ("Decided by", &approval.decided_by),
        ("Withdrawn by", &approval.ended_by),
        ("Because", &approval.ended_why),
        ("Created", &approval.created_at),
        ("Changed", &approval.changed_at),
        ("Expires", &approval.expires_at),
    ]);
    let next = match (&*approval.state, &*approval.act) {
        ("ASKED", "EXPORT_TARGET") => format!(
            "\n\nNext, as another operator with the role keys: kdhctl target show {} has it line by line; then\n\
             kdhctl approval approve {}",
            about(approval),
            approval.id
        ),
        ("ASKED", _) => format!(
            "\n\nNext, as another operator with the role keys: kdhctl approval approve {}",
            approval.id
        ),
        ("APPROVED", "EXPORT_TARGET") => {
            format!("\n\nNext: kdhctl target show {}.", about(approval))
        }
        ("APPROVED", "STORAGE_ROTATION") => "\n\nNext: kdhctl storage watch.".to_owned(),
        ("ENDED", "KEY_DISCARD") => {
            "\n\nNext: kdhctl key assign, which gives the slot a key again.".to_owned()
        }
        _ => String::new(),
    };
    Report {
        json: approval_json(approval),
        text: text + &next,
    }
}

pub(crate) fn approvals(approvals: &[Approval]) -> Report {
    let rows = approvals.iter().map(|approval| {
        [
            approval.id.clone(),
            approval.act.clone(),
            about(approval),
            state(approval).to_owned(),
            approval.asked_by.clone(),
            approval.why.clone(),
            dash(&approval.decided_by),
            approval.expires_at.clone(),
        ]
    });
    let header = [
        "ID",
        "OF",
        "ABOUT",
        "STATE",
        "ASKED BY",
        "WHY",
        "DECIDED BY",
        "EXPIRES",
    ];
    Report {
        json: json!({"approvals": all(approvals, approval_json)}),
        text: table(header, rows) + &faults(approvals),
    }
}

/// What it is about, in a word.
fn about(approval: &Approval) -> String {
    if approval.act == "STORAGE_ROTATION" {
        return format!("pair {}", approval.subject);
    }
    let described: Option<Value> = serde_json::from_str(&approval.subject).ok();
    let name = described
        .as_ref()
        .and_then(|described| described["name"].as_str());
    name.unwrap_or(&approval.subject).to_owned()
}

/// Whatever a row says that counts for nothing.
fn state(approval: &Approval) -> &str {
    if approval.fault.is_empty() {
        &approval.state
    } else {
        "FORGED"
    }
}

fn faults(approvals: &[Approval]) -> String {
    let forged = approvals.iter().filter(|one| !one.fault.is_empty());
    let lines = forged.map(|one| format!("\n{}: {}", one.id, one.fault));
    let lines: String = lines.collect();
    if lines.is_empty() {
        return lines;
    }
    format!(
        "\n{lines}\nFind out who writes to the database. kdhctl approval withdraw, or reject, puts such a row away."
    )
}

pub(super) fn approval_json(approval: &Approval) -> Value {
    json!({
        "id": approval.id,
        "act": approval.act,
        "subject": approval.subject,
        "state": approval.state,
        "asked_by": approval.asked_by,
        "why": approval.why,
        "decided_by": approval.decided_by,
        "created_at": approval.created_at,
        "changed_at": approval.changed_at,
        "expires_at": approval.expires_at,
        "progress": approval.progress,
        "ended_by": approval.ended_by,
        "ended_why": approval.ended_why,
        "fault": approval.fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_put_back_is_seen_as_forged() {
        let fault = "it is not what the audit trail says of it (WITHDRAWN)";
        let forged = Approval {
            id: "5f0c1a9e".to_owned(),
            state: "APPROVED".to_owned(),
            fault: fault.to_owned(),
            ..Approval::default()
        };
        let good = Approval {
            id: "6f0c1a9e".to_owned(),
            state: "APPROVED".to_owned(),
            ..Approval::default()
        };
        let report = approvals(&[forged, good.clone()]);
        for part in ["FORGED", "APPROVED", fault, "kdhctl approval withdraw"] {
            assert!(report.text.contains(part), "{}", report.text);
        }
        assert_eq!(report.json["approvals"][0]["fault"], fault);
        let report = approvals(&[good]);
        assert!(!report.text.contains("FORGED"), "{}", report.text);
    }
}
