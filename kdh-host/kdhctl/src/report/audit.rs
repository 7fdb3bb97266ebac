//! The audit trail.

use kdh_proto::v1::AuditRecord;
use serde_json::{Value, json};

use super::{Report, all, counted, dash, table};

pub(crate) fn audit_records(records: &[AuditRecord]) -> Report {
    let rows = records.iter().map(|record| {
        [
            record.sequence.to_string(),
            record.at.clone(),
            record.actor.clone(),
            record.action.clone(),
            dash(&record.device),
            record.outcome.clone(),
            record.detail.clone(),
        ]
    });
    let header = [
        "SEQUENCE", "AT", "ACTOR", "ACTION", "DEVICE", "OUTCOME", "DETAIL",
    ];
    Report {
        json: json!({"records": all(records, audit_record_json)}),
        text: table(header, rows),
    }
}

pub(crate) fn verified_audit_trail(verified: u64, head: &str) -> Report {
    Report {
        json: json!({"verified": verified, "head": head}),
        text: format!(
            "{} verified: none was altered, moved or taken out.\n\
             Head: {head}\n\n\
             Note both. A later trail whose record {verified} does not have this hash, or that \
             does not reach it, is not this one.",
            counted(verified, "audit record")
        ),
    }
}

fn audit_record_json(record: &AuditRecord) -> Value {
    json!({
        "sequence": record.sequence,
        "at": record.at,
        "actor": record.actor,
        "action": record.action,
        "device": record.device,
        "outcome": record.outcome,
        // The very text: the hash is over it.
        "detail": record.detail,
        "previous_hash": record.previous_hash,
        "hash": record.hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_record() {
        let record = AuditRecord {
            sequence: 7,
            at: "2026-01-01T00:00:00Z".to_owned(),
            actor: "operator:ada".to_owned(),
            action: "device.added".to_owned(),
            device: "SN-1001".to_owned(),
            outcome: "ok".to_owned(),
            detail: r#"{"model":"Model X"}"#.to_owned(),
            previous_hash: "00".to_owned(),
            hash: "01".to_owned(),
        };
        let json = json!({
            "sequence": 7,
            "at": "2026-01-01T00:00:00Z",
            "actor": "operator:ada",
            "action": "device.added",
            "device": "SN-1001",
            "outcome": "ok",
            "detail": r#"{"model":"Model X"}"#,
            "previous_hash": "00",
            "hash": "01",
        });
        let report = audit_records(&[record]);
        assert_eq!(report.json, json!({"records": [json]}));
        assert!(report.text.contains("operator:ada"), "{}", report.text);
    }
}
