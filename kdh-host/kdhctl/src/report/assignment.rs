//! Keys that terminals should hold.

use kdh_proto::v1::Assignment;
use serde_json::{Value, json};

use super::{Report, kcv_json, kcv_text, table};

pub(crate) fn assignment(assignment: &Assignment) -> Report {
    Report {
        json: assignment_json(assignment),
        text: assignment_table(std::slice::from_ref(assignment)),
    }
}

pub(super) fn assignment_json(assignment: &Assignment) -> Value {
    let initial_key = hex::encode_upper(&assignment.initial_key_id);
    json!({
        "slot": assignment.slot,
        "key_version": assignment.key_version,
        "header": assignment.header,
        "initial_key_id": (!initial_key.is_empty()).then_some(initial_key),
        "kcv": assignment.kcv.as_ref().map(kcv_json),
        "confirmed": assignment.confirmed,
    })
}

pub(super) fn assignment_table(assignments: &[Assignment]) -> String {
    let rows = assignments.iter().map(|assignment| {
        [
            assignment.slot.clone(),
            assignment.key_version.to_string(),
            header_and_id(assignment),
            kcv_text(assignment.kcv.as_ref()),
            if assignment.confirmed { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(["SLOT", "VERSION", "HEADER", "KCV", "CONFIRMED"], rows)
}

fn header_and_id(assignment: &Assignment) -> String {
    let header = &assignment.header;
    match &*assignment.initial_key_id {
        [] => header.clone(),
        id => format!("{header}\ninitial key {}", hex::encode_upper(id)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::key::tests::kcv;

    pub(in crate::report) fn sample_assignment() -> Assignment {
        Assignment {
            initial_key_id: Vec::new(),
            slot: "tmk".to_owned(),
            key_version: 2,
            header: "D0000K0AB00E0000".to_owned(),
            kcv: Some(kcv()),
            confirmed: true,
        }
    }

    #[test]
    fn an_assignment_with_and_without_an_initial_key() {
        let json = json!({
            "slot": "tmk",
            "key_version": 2,
            "header": "D0000K0AB00E0000",
            "initial_key_id": null,
            "kcv": {"method": "AES_CMAC", "value": "3F1A9C"},
            "confirmed": true,
        });
        assert_eq!(assignment(&sample_assignment()).json, json);
        let derived = Assignment {
            initial_key_id: vec![0x0A, 0x1B, 0x2C, 0x3D, 0, 0, 0, 7],
            ..sample_assignment()
        };
        let derived = assignment(&derived);
        assert_eq!(derived.json["initial_key_id"], "0A1B2C3D00000007");
        assert!(derived.text.contains("initial key 0A1B2C3D00000007"));
    }
}
