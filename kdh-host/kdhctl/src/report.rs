//! Answers as people and programs read them. The JSON has the keys of the interface's messages and
//! is stable; the text is not.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use kdh_proto::v1::{
    ActivationCode, Assignment, AuditRecord, Delivery, Device, Key, KeyCheckValue,
    ShowDeviceResponse,
};
use serde_json::{Value, json};

/// An answer in both forms.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) json: Value,
    pub(crate) text: String,
}

pub(crate) fn device(device: &Device) -> Report {
    Report {
        json: device_json(device),
        text: device_text(device),
    }
}

pub(crate) fn device_details(details: &ShowDeviceResponse) -> Report {
    let device = details.device.as_ref();
    let mut parts = vec![device.map(device_text).unwrap_or_default()];
    if !details.encryption_key_sha256.is_empty() {
        parts.push(format!(
            "Encryption key (SHA-256): {}",
            details.encryption_key_sha256
        ));
    }
    parts.push(match details.assignments.as_slice() {
        [] => "No key is assigned.".to_owned(),
        assignments => assignment_table(assignments),
    });
    if !details.withheld.is_empty() {
        parts.push(format!(
            "Withheld, because the device has enrolled again with another key since these were \
             assigned.\nIf it is the device that you mean, assign them anew:\n{}",
            assignment_table(&details.withheld)
        ));
    }
    Report {
        json: json!({
            "device": device.map(device_json),
            "encryption_key_sha256": details.encryption_key_sha256,
            "assignments": all(&details.assignments, assignment_json),
            "withheld": all(&details.withheld, assignment_json),
        }),
        text: parts.join("\n\n"),
    }
}

pub(crate) fn devices(devices: &[Device]) -> Report {
    let rows = devices.iter().map(|device| {
        [
            device.serial_number.clone(),
            device.model.clone(),
            device.state.clone(),
            device.created_at.clone(),
            dash(&device.changed_at),
        ]
    });
    Report {
        json: json!({"devices": all(devices, device_json)}),
        text: table(["SERIAL", "MODEL", "STATE", "CREATED", "CHANGED"], rows),
    }
}

pub(crate) fn activation_code(serial: &str, code: &ActivationCode) -> Report {
    let ActivationCode { code, expires_at } = code;
    Report {
        json: json!({"serial_number": serial, "code": code, "expires_at": expires_at}),
        text: format!(
            "{code}\n\nThis is the activation code for {serial}, good until {expires_at}. It is \
             shown this once and works once: hand it to whoever installs the terminal."
        ),
    }
}

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

pub(crate) fn assignment(assignment: &Assignment) -> Report {
    Report {
        json: assignment_json(assignment),
        text: assignment_table(std::slice::from_ref(assignment)),
    }
}

pub(crate) fn deliveries(deliveries: &[Delivery]) -> Report {
    let rows = deliveries.iter().map(|delivery| {
        [
            delivery.id.clone(),
            delivery.serial_number.clone(),
            delivery.slot.clone(),
            delivery.key_version.to_string(),
            delivery.key_name.clone(),
            delivery.state.clone(),
            delivery.created_at.clone(),
            dash(&delivery.changed_at),
        ]
    });
    let header = [
        "ID", "DEVICE", "SLOT", "VERSION", "KEY", "STATE", "CREATED", "CHANGED",
    ];
    Report {
        json: json!({"deliveries": all(deliveries, delivery_json)}),
        text: table(header, rows),
    }
}

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
            "{verified} audit records verified: none was altered, moved or taken out.\n\
             Head: {head}\n\n\
             Note both. A later trail whose record {verified} does not have this hash, or that \
             does not reach it, is not this one."
        ),
    }
}

fn device_json(device: &Device) -> Value {
    json!({
        "serial_number": device.serial_number,
        "model": device.model,
        "state": device.state,
        "created_at": device.created_at,
        "changed_at": device.changed_at,
        "certificate_serial": device.certificate_serial,
    })
}

fn assignment_json(assignment: &Assignment) -> Value {
    json!({
        "slot": assignment.slot,
        "key_version": assignment.key_version,
        "header": assignment.header,
        "kcv": assignment.kcv.as_ref().map(kcv_json),
        "confirmed": assignment.confirmed,
    })
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

fn kcv_json(kcv: &KeyCheckValue) -> Value {
    json!({
        "method": kcv.method().as_str_name(),
        "value": hex::encode_upper(&kcv.value),
    })
}

fn delivery_json(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "serial_number": delivery.serial_number,
        "slot": delivery.slot,
        "key_version": delivery.key_version,
        "key_name": delivery.key_name,
        "state": delivery.state,
        "created_at": delivery.created_at,
        "changed_at": delivery.changed_at,
    })
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

fn all<T>(items: &[T], one: fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
}

fn device_text(device: &Device) -> String {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.load_style(TableStyle::new());
    for (name, value) in [
        ("Serial number", &device.serial_number),
        ("Model", &device.model),
        ("State", &device.state),
        ("Created", &device.created_at),
        ("Changed", &device.changed_at),
        ("Certificate", &device.certificate_serial),
    ] {
        table.add_row([name.to_owned(), dash(value)]);
    }
    table.trim_fmt()
}

fn assignment_table(assignments: &[Assignment]) -> String {
    let rows = assignments.iter().map(|assignment| {
        [
            assignment.slot.clone(),
            assignment.key_version.to_string(),
            assignment.header.clone(),
            kcv_text(assignment.kcv.as_ref()),
            if assignment.confirmed { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(["SLOT", "VERSION", "HEADER", "KCV", "CONFIRMED"], rows)
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

/// A check value is never shown without its method.
fn kcv_text(kcv: Option<&KeyCheckValue>) -> String {
    kcv.map_or_else(
        || dash(""),
        |kcv| {
            let value = hex::encode_upper(&kcv.value);
            format!("{value} ({})", kcv.method().as_str_name())
        },
    )
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let line = LineStyle::none().fill('─');
    table.load_style(TableStyle::new().header_separator(line));
    table.set_header(header).add_rows(rows);
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kcv() -> KeyCheckValue {
        KeyCheckValue {
            method: 2,
            value: vec![0x3F, 0x1A, 0x9C],
        }
    }

    fn sample_device() -> Device {
        Device {
            serial_number: "SN-1001".to_owned(),
            model: "Model X".to_owned(),
            state: "REGISTERED".to_owned(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            changed_at: String::new(),
            certificate_serial: String::new(),
        }
    }

    fn sample_assignment() -> Assignment {
        Assignment {
            slot: "tmk".to_owned(),
            key_version: 2,
            header: "D0000K0AB00E0000".to_owned(),
            kcv: Some(kcv()),
            confirmed: true,
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
    fn a_device() {
        let report = device(&sample_device());
        let json = json!({
            "serial_number": "SN-1001",
            "model": "Model X",
            "state": "REGISTERED",
            "created_at": "2026-01-01T00:00:00Z",
            "changed_at": "",
            "certificate_serial": "",
        });
        assert_eq!(report.json, json);
        assert_eq!(devices(&[sample_device()]).json, json!({"devices": [json]}));
        let text = "
 Serial number  SN-1001
 Model          Model X
 State          REGISTERED
 Created        2026-01-01T00:00:00Z
 Changed        -
 Certificate    -";
        assert_eq!(format!("\n{}", report.text), text);
    }

    #[test]
    fn a_list_of_devices() {
        let list = [
            sample_device(),
            Device {
                serial_number: "SN-1002".to_owned(),
                state: "BOUND".to_owned(),
                changed_at: "2026-01-02T00:00:00Z".to_owned(),
                ..sample_device()
            },
        ];
        let text = "
 SERIAL   MODEL    STATE       CREATED               CHANGED
──────────────────────────────────────────────────────────────────────────
 SN-1001  Model X  REGISTERED  2026-01-01T00:00:00Z  -
 SN-1002  Model X  BOUND       2026-01-01T00:00:00Z  2026-01-02T00:00:00Z";
        assert_eq!(format!("\n{}", devices(&list).text), text);
    }

    #[test]
    fn a_device_with_its_keys() {
        let details = |assignments, withheld| {
            device_details(&ShowDeviceResponse {
                device: Some(sample_device()),
                assignments,
                withheld,
                encryption_key_sha256: "0a1b".to_owned(),
            })
        };
        let report = details(vec![sample_assignment()], vec![]);
        let json = json!({
            "slot": "tmk",
            "key_version": 2,
            "header": "D0000K0AB00E0000",
            "kcv": {"method": "AES_CMAC", "value": "3F1A9C"},
            "confirmed": true,
        });
        let device = device_json(&sample_device());
        assert_eq!(
            report.json,
            json!({
                "device": device,
                "encryption_key_sha256": "0a1b",
                "assignments": [json],
                "withheld": [],
            })
        );
        assert!(report.text.contains("Encryption key (SHA-256): 0a1b"));
        assert!(report.text.ends_with(
            "\
 SLOT  VERSION  HEADER            KCV                CONFIRMED
───────────────────────────────────────────────────────────────
 tmk   2        D0000K0AB00E0000  3F1A9C (AES_CMAC)  yes"
        ));
        assert_eq!(assignment(&sample_assignment()).json, json);
        assert!(
            details(vec![], vec![])
                .text
                .ends_with("\n\nNo key is assigned.")
        );
        let withheld = details(vec![], vec![sample_assignment()]);
        assert_eq!(withheld.json["withheld"], json!([json]));
        assert!(withheld.text.contains("No key is assigned.\n\nWithheld"));
        assert!(withheld.text.ends_with("3F1A9C (AES_CMAC)  yes"));
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

    #[test]
    fn an_activation_code() {
        let code = ActivationCode {
            code: "ABCD-EFGH-JKMN-PQRS".to_owned(),
            expires_at: "2026-01-04T00:00:00Z".to_owned(),
        };
        let report = activation_code("SN-1001", &code);
        assert_eq!(
            report.json,
            json!({
                "serial_number": "SN-1001",
                "code": "ABCD-EFGH-JKMN-PQRS",
                "expires_at": "2026-01-04T00:00:00Z",
            })
        );
        assert_eq!(report.text.lines().next(), Some("ABCD-EFGH-JKMN-PQRS"));
    }

    #[test]
    fn deliveries_and_audit_records() {
        let delivery = Delivery {
            id: "d-1".to_owned(),
            serial_number: "SN-1001".to_owned(),
            slot: "tmk".to_owned(),
            key_version: 2,
            key_name: "acq-tmk-2026".to_owned(),
            state: "CONFIRMED".to_owned(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            changed_at: "2026-01-01T00:00:01Z".to_owned(),
        };
        let json = json!({
            "id": "d-1",
            "serial_number": "SN-1001",
            "slot": "tmk",
            "key_version": 2,
            "key_name": "acq-tmk-2026",
            "state": "CONFIRMED",
            "created_at": "2026-01-01T00:00:00Z",
            "changed_at": "2026-01-01T00:00:01Z",
        });
        assert_eq!(deliveries(&[delivery]).json, json!({"deliveries": [json]}));

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
