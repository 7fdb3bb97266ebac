//! Terminals, and what is ordered of them.

use std::path::Path;

use kdh_proto::v1::{ActivationCode, Device, DeviceExport, Order, ShowDeviceResponse};
use serde_json::{Value, json};

use super::{
    Report, all,
    assignment::{assignment_json, assignment_table},
    dash, fields,
    profile::{target_json, target_text},
    refused::{refused_json, refused_text},
    table,
};

pub(crate) fn device(device: &Device) -> Report {
    Report {
        json: device_json(device),
        text: device_text(device),
    }
}

/// A device that was added.
pub(crate) fn added_device(device: &Device) -> Report {
    let serial = &device.serial_number;
    device_and_next(
        device,
        &format!("\"kdhctl device code {serial}\" gives the code with which the terminal enrols."),
    )
}

/// A device that was ordered to change its binding.
pub(crate) fn ordered(device: &Device) -> Report {
    let serial = &device.serial_number;
    device_and_next(
        device,
        &format!(
            "the terminal obeys when it asks what it should hold (krd load). \"kdhctl device show {serial}\" \
             tells when it has; until then \"kdhctl device cancel-order {serial}\" takes the order back."
        ),
    )
}

/// A device that another host has enrolled.
pub(crate) fn admitted(device: &Device) -> Report {
    device_and_next(
        device,
        "assign its keys (kdhctl key assign); at the host it comes from, order it to go over (kdhctl device \
         rebind).",
    )
}

fn device_and_next(device: &Device, next: &str) -> Report {
    Report {
        json: device_json(device),
        text: format!("{}\n\nNext: {next}", device_text(device)),
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
    if !details.profile_name.is_empty() {
        parts.push(format!(
            "Key profile: {}, carried by its {}",
            details.profile_name,
            target_text(details.profile_target.as_ref())
        ));
    }
    if let Some(order) = &details.order {
        parts.push(order_text(order));
    }
    parts.push(match details.assignments.as_slice() {
        [] => "No key is assigned.".to_owned(),
        assignments => assignment_table(assignments),
    });
    if !details.expired_slots.is_empty() {
        parts.push(format!(
            "Expired, older than the key profile lets them be, and delivered no more: {}.\nGive the device new ones: \
             kdhctl rollout start, or kdhctl key assign --by-profile.",
            details.expired_slots.join(", ")
        ));
    }
    if !details.withheld.is_empty() {
        parts.push(format!(
            "Withheld, because the device has enrolled again with another key since these were \
             assigned.\nIf it is the device that you mean, assign them anew:\n{}",
            assignment_table(&details.withheld)
        ));
    }
    if !details.refused.is_empty() {
        parts.push(refused_text(&details.refused));
    }
    Report {
        json: json!({
            "device": device.map(device_json),
            "encryption_key_sha256": details.encryption_key_sha256,
            "order": details.order.as_ref().map(order_json),
            "profile_name": details.profile_name,
            "profile_target": target_json(details.profile_target.as_ref()),
            "assignments": all(&details.assignments, assignment_json),
            "withheld": all(&details.withheld, assignment_json),
            "refused": all(&details.refused, refused_json),
            "expired_slots": details.expired_slots,
        }),
        text: parts.join("\n\n"),
    }
}

pub(crate) fn devices(devices: &[Device]) -> Report {
    let rows = devices.iter().map(|device| {
        [
            device.serial_number.clone(),
            device.model.clone(),
            dash(&device.group),
            device.state.clone(),
            keys_text(device),
            device.created_at.clone(),
            dash(&device.changed_at),
        ]
    });
    let header = [
        "SERIAL",
        "MODEL",
        "GROUP",
        "STATE",
        "KEYS GONE",
        "CREATED",
        "CHANGED",
    ];
    Report {
        json: json!({"devices": all(devices, device_json)}),
        text: table(header, rows),
    }
}

pub(crate) fn exported_device(device: &DeviceExport, out: &Path) -> Report {
    let (serial, out) = (&device.serial_number, out.display().to_string());
    Report {
        json: json!({"serial_number": serial, "model": device.model, "out": out}),
        text: format!(
            "{out} holds what another host has to know of {serial}. There: kdhctl device admit --from {out}"
        ),
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

fn device_json(device: &Device) -> Value {
    json!({
        "serial_number": device.serial_number,
        "model": device.model,
        "state": device.state,
        "created_at": device.created_at,
        "changed_at": device.changed_at,
        "certificate_serial": device.certificate_serial,
        "bound_kdh": device.bound_kdh,
        "keys": device.keys,
        "group": device.group,
    })
}

fn order_json(order: &Order) -> Value {
    json!({
        "kind": order.kind,
        "new_kdh": order.new_kdh,
        "ordered_by": order.ordered_by,
        "why": order.why,
        "created_at": order.created_at,
    })
}

fn device_text(device: &Device) -> String {
    fields(&[
        ("Serial number", &device.serial_number),
        ("Model", &device.model),
        ("Group", &device.group),
        ("State", &device.state),
        ("Created", &device.created_at),
        ("Changed", &device.changed_at),
        ("Certificate", &device.certificate_serial),
        ("Bound to KDH", &device.bound_kdh),
        ("Keys gone", &keys_text(device)),
    ])
}

/// What became of a device's keys, as people say it.
fn keys_text(device: &Device) -> String {
    match &*device.keys {
        "ASSUMED_DESTROYED" => "assumed destroyed".to_owned(),
        "DESTROYED" => "destroyed".to_owned(),
        "HANDED_OVER" => "handed over".to_owned(),
        other => dash(other),
    }
}

fn order_text(order: &Order) -> String {
    let what = match &*order.new_kdh {
        "" => order.kind.clone(),
        new_kdh => format!("{} to {new_kdh}", order.kind),
    };
    let by = match &*order.ordered_by {
        "" => "the host itself",
        operator => operator,
    };
    format!(
        "Ordered and not acknowledged yet: {what}\nby {by} at {}: {}",
        order.created_at, order.why
    )
}

#[cfg(test)]
mod tests {
    use kdh_proto::v1::{KeyProfileTarget, key_profile_target::Target};

    use super::*;
    use crate::report::assignment::tests::sample_assignment;

    fn sample_device() -> Device {
        Device {
            serial_number: "SN-1001".to_owned(),
            model: "Model X".to_owned(),
            state: "REGISTERED".to_owned(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            changed_at: String::new(),
            certificate_serial: String::new(),
            bound_kdh: String::new(),
            keys: String::new(),
            group: "pilot".to_owned(),
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
            "bound_kdh": "",
            "keys": "",
            "group": "pilot",
        });
        assert_eq!(report.json, json);
        assert_eq!(devices(&[sample_device()]).json, json!({"devices": [json]}));
        let text = "
 Serial number  SN-1001
 Model          Model X
 Group          pilot
 State          REGISTERED
 Created        2026-01-01T00:00:00Z
 Changed        -
 Certificate    -
 Bound to KDH   -
 Keys gone      -";
        assert_eq!(format!("\n{}", report.text), text);
    }

    #[test]
    fn a_list_of_devices() {
        let list = [
            sample_device(),
            Device {
                serial_number: "SN-1002".to_owned(),
                state: "UNBOUND".to_owned(),
                keys: "ASSUMED_DESTROYED".to_owned(),
                changed_at: "2026-01-02T00:00:00Z".to_owned(),
                ..sample_device()
            },
        ];
        let text = "
 SERIAL   MODEL    GROUP  STATE       KEYS GONE          CREATED               CHANGED
────────────────────────────────────────────────────────────────────────────────────────────────────
 SN-1001  Model X  pilot  REGISTERED  -                  2026-01-01T00:00:00Z  -
 SN-1002  Model X  pilot  UNBOUND     assumed destroyed  2026-01-01T00:00:00Z  2026-01-02T00:00:00Z";
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
                ..ShowDeviceResponse::default()
            })
        };
        let report = details(vec![sample_assignment()], vec![]);
        let json = assignment_json(&sample_assignment());
        let device = device_json(&sample_device());
        assert_eq!(
            report.json,
            json!({
                "device": device,
                "encryption_key_sha256": "0a1b",
                "order": null,
                "assignments": [json],
                "profile_name": "",
                "profile_target": null,
                "withheld": [],
                "refused": [],
                "expired_slots": [],
            })
        );
        assert!(report.text.contains("Encryption key (SHA-256): 0a1b"));
        assert!(report.text.ends_with(
            "\
 SLOT  VERSION  HEADER            KCV                CONFIRMED
───────────────────────────────────────────────────────────────
 tmk   2        D0000K0AB00E0000  3F1A9C (AES_CMAC)  yes"
        ));
        assert!(
            details(vec![], vec![])
                .text
                .ends_with("\n\nNo key is assigned.")
        );
        let withheld = details(vec![], vec![sample_assignment()]);
        assert_eq!(withheld.json["withheld"], json!([json]));
        assert!(withheld.text.contains("No key is assigned.\n\nWithheld"));
        let expired = device_details(&ShowDeviceResponse {
            expired_slots: vec!["data".to_owned(), "tmk".to_owned()],
            ..ShowDeviceResponse::default()
        });
        assert!(expired.text.contains("and delivered no more: data, tmk."));
        let of_group = device_details(&ShowDeviceResponse {
            profile_name: "standard".to_owned(),
            profile_target: Some(KeyProfileTarget {
                target: Some(Target::Group("pilot".to_owned())),
            }),
            ..ShowDeviceResponse::default()
        });
        assert_eq!(of_group.json["profile_name"], json!("standard"));
        assert_eq!(of_group.json["profile_target"], json!({"group": "pilot"}));
        let text = "Key profile: standard, carried by its group pilot";
        assert!(of_group.text.contains(text), "{}", of_group.text);
        assert!(withheld.text.ends_with("3F1A9C (AES_CMAC)  yes"));
    }

    #[test]
    fn what_became_of_keys_is_said_in_words() {
        for (word, text) in [
            ("", "-"),
            ("ASSUMED_DESTROYED", "assumed destroyed"),
            ("DESTROYED", "destroyed"),
            ("HANDED_OVER", "handed over"),
            // Of a host that is newer.
            ("MELTED", "MELTED"),
        ] {
            let mut device = sample_device();
            device.keys = word.to_owned();
            assert_eq!(keys_text(&device), text);
            assert_eq!(device_json(&device)["keys"], word);
        }
    }

    #[test]
    fn an_order_that_is_open() {
        let details = |kind: &str, new_kdh: &str| {
            device_details(&ShowDeviceResponse {
                device: Some(sample_device()),
                order: Some(Order {
                    kind: kind.to_owned(),
                    new_kdh: new_kdh.to_owned(),
                    ordered_by: "ada".to_owned(),
                    why: "sold".to_owned(),
                    created_at: "2026-01-01T00:00:00Z".to_owned(),
                }),
                ..ShowDeviceResponse::default()
            })
        };
        let report = details("REBIND", "CN=kdh-2");
        let json = json!({
            "kind": "REBIND",
            "new_kdh": "CN=kdh-2",
            "ordered_by": "ada",
            "why": "sold",
            "created_at": "2026-01-01T00:00:00Z",
        });
        assert_eq!(report.json["order"], json);
        let text = "yet: REBIND to CN=kdh-2\nby ada at 2026-01-01T00:00:00Z: sold\n";
        assert!(report.text.contains(text), "{}", report.text);
        let unbind = details("UNBIND", "").text;
        assert!(unbind.contains("yet: UNBIND\nby ada"), "{unbind}");
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
}
