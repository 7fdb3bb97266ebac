//! Storage keys.

use kdh_proto::v1::{ShowStorageResponse, StoragePair};
use serde_json::{Value, json};

use super::{
    Report, all,
    approval::{approval, approval_json},
    counted, table,
};

pub(crate) fn storage(storage: &ShowStorageResponse) -> Report {
    let rows = storage.pairs.iter().map(|pair| {
        [
            format!("ksk.{0}, ksm.{0}", pair.number),
            pair.state.clone(),
            pair.rows.to_string(),
        ]
    });
    let mut text = table(["PAIR", "STATE", "ROWS"], rows);
    if storage.rotation.is_none() {
        text += "\n\nNo rotation is under way.";
    }
    if let Some(rotation) = &storage.rotation {
        text += "\n\n";
        text += &approval(rotation).text;
    }
    if !storage.destroyed_at.is_empty() {
        let kept = format!(
            "\n\nThe last row has moved. The old pair is destroyed at {}; until then, backups of the database \
             from before can be read.",
            storage.destroyed_at
        );
        text += &kept;
    }
    if !storage.fault.is_empty() {
        let stopped = format!(
            "\n\nIt does not go on: {}\nNext try at {}.",
            storage.fault, storage.next_try_at
        );
        text += &stopped;
    }
    if storage.refused_rows > 0 {
        let stay = format!(
            "\n\nNot as the HSM has sealed them, and staying where they are: {}. The audit trail names each \
             (storage.row-refused).\nRestore them from a backup of the database, or discard those of terminals' keys \
             (kdhctl key refused); the old\npair is destroyed when none is left.",
            counted(storage.refused_rows, "row")
        );
        text += &stay;
    }
    Report {
        json: json!({
            "pairs": all(&storage.pairs, pair_json),
            "rotation": storage.rotation.as_ref().map(approval_json),
            "refused_rows": storage.refused_rows,
            "destroyed_at": storage.destroyed_at,
            "fault": storage.fault,
            "next_try_at": storage.next_try_at,
        }),
        text,
    }
}

fn pair_json(pair: &StoragePair) -> Value {
    json!({"number": pair.number, "state": pair.state, "rows": pair.rows})
}

#[cfg(test)]
mod tests {
    use kdh_proto::v1::Approval;

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
            fault: "HSM: it is gone".to_owned(),
            next_try_at: "2026-07-01T00:00:05Z".to_owned(),
            ..ShowStorageResponse::default()
        };
        let report = storage(&response);
        for part in [
            "ksk.1, ksm.1  RETIRING  7\n ksk.2, ksm.2  PRESENT   35",
            "kdhctl storage watch",
            "staying where they are: 1 row. The audit trail",
            "It does not go on: HSM: it is gone\nNext try at 2026-07-01T00:00:05Z.",
        ] {
            assert!(report.text.contains(part), "{}", report.text);
        }
        assert_eq!(report.json["pairs"][1]["rows"], 35);
        assert_eq!(report.json["rotation"]["id"], "5f0c1a9e");
        assert!(!report.text.contains("is destroyed at"), "{}", report.text);

        let response = ShowStorageResponse {
            pairs: vec![pair(1, "MOVED", 0), pair(2, "PRESENT", 42)],
            destroyed_at: "2026-07-03T00:00:00Z".to_owned(),
            ..ShowStorageResponse::default()
        };
        let report = storage(&response);
        let kept = "The old pair is destroyed at 2026-07-03T00:00:00Z";
        assert!(report.text.contains(kept), "{}", report.text);
        assert_eq!(report.json["destroyed_at"], "2026-07-03T00:00:00Z");
    }
}
