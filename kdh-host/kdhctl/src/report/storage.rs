//! Storage keys, and what takes two operators.

use kdh_proto::v1::{Approval, ShowStorageResponse, StoragePair};
use serde_json::{Value, json};

use super::{Report, all, dash, fields, table};

pub(crate) fn storage(storage: &ShowStorageResponse) -> Report {
    let rows = storage.pairs.iter().map(|pair| {
        [
            format!("ksk.{0}, ksm.{0}", pair.number),
            pair.state.clone(),
            pair.rows.to_string(),
        ]
    });
    let mut text = table(["PAIR", "STATE", "KEYS"], rows);
    if let Some(rotation) = &storage.rotation {
        text += "\n\n";
        text += &approval(rotation).text;
    }
    if storage.refused_rows > 0 {
        let stay = format!(
            "\n\n{} keys are not as the HSM has sealed them and stay where they are: the audit trail names them \
             (storage.row-refused).\nRestore those rows from a backup of the database; the old pair is destroyed when they have moved.",
            storage.refused_rows
        );
        text += &stay;
    }
    Report {
        json: json!({
            "pairs": all(&storage.pairs, pair_json),
            "rotation": storage.rotation.as_ref().map(approval_json),
            "refused_rows": storage.refused_rows,
        }),
        text,
    }
}

fn pair_json(pair: &StoragePair) -> Value {
    json!({"number": pair.number, "state": pair.state, "rows": pair.rows})
}

pub(crate) fn approval(approval: &Approval) -> Report {
    let text = fields(&[
        ("Approval", &approval.id),
        ("Of", &approval.act),
        ("About", &approval.subject),
        ("State", &approval.state),
        ("Asked by", &approval.asked_by),
        ("Why", &approval.why),
        ("Decided by", &approval.decided_by),
        ("Created", &approval.created_at),
        ("Changed", &approval.changed_at),
        ("Expires", &approval.expires_at),
    ]);
    let next = match (&*approval.state, &*approval.act) {
        ("ASKED", _) => format!(
            "\n\nNext, as another operator with the role keys: kdhctl approval approve {}",
            approval.id
        ),
        ("APPROVED", "STORAGE_ROTATION") => "\n\nNext: kdhctl storage watch.".to_owned(),
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
            approval.subject.clone(),
            approval.state.clone(),
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
        text: table(header, rows),
    }
}

fn approval_json(approval: &Approval) -> Value {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_under_way_is_seen_with_what_to_do() {
        let pair = |number, state: &str, rows| StoragePair {
            number,
            state: state.to_owned(),
            rows,
        };
        let rotation = Approval {
            id: "5f0c1a9e".to_owned(),
            act: "STORAGE_ROTATION".to_owned(),
            subject: "2".to_owned(),
            state: "APPROVED".to_owned(),
            ..Approval::default()
        };
        let response = ShowStorageResponse {
            pairs: vec![pair(1, "RETIRING", 7), pair(2, "PRESENT", 35)],
            rotation: Some(rotation),
            refused_rows: 1,
        };
        let report = storage(&response);
        for part in [
            "ksk.1, ksm.1  RETIRING  7\n ksk.2, ksm.2  PRESENT   35",
            "kdhctl storage watch",
            "1 keys are not as the HSM has sealed them",
        ] {
            assert!(report.text.contains(part), "{}", report.text);
        }
        assert_eq!(report.json["pairs"][1]["rows"], 35);
        assert_eq!(report.json["rotation"]["id"], "5f0c1a9e");
    }
}
