//! What takes two operators.

use kdh_proto::v1::Approval;
use serde_json::{Value, json};

use super::{Report, all, dash, lines, table, target::described, target_subject};

pub(crate) fn approval(approval: &Approval) -> Report {
    let mut shown = vec![
        ("Approval", approval.id.clone()),
        ("Of", approval.act.clone()),
    ];
    shown.extend(subject(approval));
    shown.extend([
        ("State", state(approval).to_owned()),
        ("Progress", approval.progress.clone()),
        ("Asked by", approval.asked_by.clone()),
        ("Why", approval.why.clone()),
        ("Decided by", approval.decided_by.clone()),
        (ended_by(approval), approval.ended_by.clone()),
        ("Because", approval.ended_why.clone()),
        ("Created", approval.created_at.clone()),
        ("Changed", approval.changed_at.clone()),
    ]);
    // From then on it is decided.
    if state(approval) == "ASKED" {
        shown.push(("Expires", approval.expires_at.clone()));
    }
    let next = match (state(approval), &*approval.act) {
        ("ASKED", _) => format!(
            "\n\nNext, as another operator with the role keys: kdhctl approval approve {}",
            approval.id
        ),
        ("APPROVED", "EXPORT_TARGET") => {
            let name = about(approval);
            format!(
                "\n\nNext: kdhctl target show {name}. Keys that terminals hold already: kdhctl target fill {name}."
            )
        }
        ("APPROVED", "STORAGE_ROTATION") => "\n\nNext: kdhctl storage watch.".to_owned(),
        ("ENDED", "KEY_DISCARD") => {
            "\n\nNext: kdhctl key assign, which gives the slot a key again.".to_owned()
        }
        _ => String::new(),
    };
    Report {
        json: approval_json(approval),
        text: lines(&shown) + &next + &faults(std::slice::from_ref(approval)),
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

/// What it is about, whole.
fn subject(approval: &Approval) -> Vec<(&'static str, String)> {
    let about = match &*approval.act {
        "EXPORT_TARGET" => match target_subject::read(&approval.subject) {
            Some(target) => return described(&target),
            None => approval.subject.clone(),
        },
        "STORAGE_ROTATION" => about(approval),
        _ => approval.subject.clone(),
    };
    vec![("About", about)]
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

/// Whatever a row says that counts for nothing. A target that was in force and is not any more is closed.
pub(super) fn state(approval: &Approval) -> &str {
    if !approval.fault.is_empty() {
        "FORGED"
    } else if is_closed(approval) {
        "CLOSED"
    } else {
        &approval.state
    }
}

fn is_closed(approval: &Approval) -> bool {
    let was_in_force = !approval.decided_by.is_empty();
    approval.act == "EXPORT_TARGET" && approval.state == "WITHDRAWN" && was_in_force
}

fn ended_by(approval: &Approval) -> &'static str {
    if is_closed(approval) {
        "Closed by"
    } else {
        "Withdrawn by"
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
    use crate::report::target_subject::tests::SUBJECT;

    fn of_target(subject: &str, state: &str) -> Approval {
        Approval {
            id: "5f0c1a9e".to_owned(),
            act: "EXPORT_TARGET".to_owned(),
            subject: subject.to_owned(),
            state: state.to_owned(),
            asked_by: "ada".to_owned(),
            why: "acquirer A".to_owned(),
            ..Approval::default()
        }
    }

    #[test]
    fn a_target_is_seen_line_by_line_and_not_at_all_in_part() {
        let text = "
 Approval      5f0c1a9e
 Of            EXPORT_TARGET
 Target        switch
 Form          tr31
 Under         kbpkx.switch (AES-256, A1B2C3 (AES_CMAC))
 MACs by       zmac.switch (AES-128, 0D0E0F (AES_CMAC))
 Keys of       model Model X
 Slots         dukpt, tmk
 Goes          to switch-1
 Key SHA-256   0a1b
 State         ASKED
 Progress      -
 Asked by      ada
 Why           acquirer A
 Decided by    -
 Withdrawn by  -
 Because       -
 Created       -
 Changed       -
 Expires       -

Next, as another operator with the role keys: kdhctl approval approve 5f0c1a9e";
        let report = approval(&of_target(SUBJECT, "ASKED"));
        assert_eq!(format!("\n{}", report.text), text);
        assert_eq!(report.json["subject"], SUBJECT);
        let newer = SUBJECT.replace("\"slots\"", "\"until\":\"2027\",\"slots\"");
        let shown = approval(&of_target(&newer, "ASKED")).text;
        assert!(
            shown.contains(&format!(" About         {newer}\n")),
            "{shown}"
        );
        let listed = approvals(&[of_target(&newer, "ASKED")]).text;
        assert!(listed.contains("EXPORT_TARGET  switch  ASKED"), "{listed}");
    }

    #[test]
    fn a_target_that_was_in_force_is_closed_and_nothing_else_is() {
        let ended = |act: &str, decided_by: &str| Approval {
            act: act.to_owned(),
            decided_by: decided_by.to_owned(),
            ended_by: "cleo".to_owned(),
            ..of_target(SUBJECT, "WITHDRAWN")
        };
        let closed = ended("EXPORT_TARGET", "bob");
        let report = approval(&closed);
        for part in ["State        CLOSED", "Closed by    cleo"] {
            assert!(report.text.contains(part), "{part}: {}", report.text);
        }
        assert_eq!(report.json["state"], "WITHDRAWN");
        let forged = Approval {
            fault: "it is not what the audit trail says of it (APPROVED)".to_owned(),
            ..closed
        };
        for (other, word) in [
            (ended("EXPORT_TARGET", ""), "WITHDRAWN"),
            (ended("STORAGE_ROTATION", "bob"), "WITHDRAWN"),
            (of_target(SUBJECT, "APPROVED"), "APPROVED"),
            (of_target(SUBJECT, "REJECTED"), "REJECTED"),
            (forged, "FORGED"),
        ] {
            assert_eq!(state(&other), word);
        }
    }

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
