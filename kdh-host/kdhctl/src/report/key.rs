//! Keys that the host hands out.

use kdh_proto::v1::Key;
use serde_json::{Value, json};

use super::{Report, all, kcv_json, kcv_text, table};

pub(crate) fn key(key: &Key) -> Report {
    Report {
        json: key_json(key),
        text: key_table(std::slice::from_ref(key)),
    }
}

pub(crate) fn keys(keys: &[Key]) -> Report {
    Report {
        json: json!({"keys": all(keys, key_json)}),
        text: key_table(keys),
    }
}

fn key_json(key: &Key) -> Value {
    json!({
        "name": key.name,
        "hsm_label": key.hsm_label,
        "header": key.header,
        "kind": key.kind,
        "kcv": key.kcv.as_ref().map(kcv_json),
        "created_at": key.created_at,
    })
}

fn key_table(keys: &[Key]) -> String {
    let rows = keys.iter().map(|key| {
        [
            key.name.clone(),
            key.kind.clone(),
            key.header.clone(),
            kcv_text(key.kcv.as_ref()),
            key.hsm_label.clone(),
            key.created_at.clone(),
        ]
    });
    let header = ["NAME", "KIND", "HEADER", "KCV", "HSM LABEL", "CREATED"];
    table(header, rows)
}

#[cfg(test)]
pub(super) mod tests {
    use kdh_proto::v1::KeyCheckValue;

    use super::*;

    pub(in crate::report) fn kcv() -> KeyCheckValue {
        KeyCheckValue {
            method: 2,
            value: vec![0x3F, 0x1A, 0x9C],
        }
    }

    fn sample_key() -> Key {
        Key {
            name: "acq-tmk-2026".to_owned(),
            hsm_label: "kn.acq-tmk-2026".to_owned(),
            header: "D0000K0AB00E0000".to_owned(),
            kind: "AES-128".to_owned(),
            kcv: Some(kcv()),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn keys_with_and_without_a_check_value() {
        let json = json!({
            "name": "acq-tmk-2026",
            "hsm_label": "kn.acq-tmk-2026",
            "header": "D0000K0AB00E0000",
            "kind": "AES-128",
            "kcv": {"method": "AES_CMAC", "value": "3F1A9C"},
            "created_at": "2026-01-01T00:00:00Z",
        });
        assert_eq!(key(&sample_key()).json, json);
        let without = Key {
            kcv: None,
            ..sample_key()
        };
        let report = keys(&[sample_key(), without]);
        assert_eq!(report.json["keys"][0], json);
        assert_eq!(report.json["keys"][1]["kcv"], Value::Null);
        assert!(report.text.contains("3F1A9C (AES_CMAC)"), "{}", report.text);
        assert_eq!(keys(&[]).json, json!({"keys": []}));
    }
}
