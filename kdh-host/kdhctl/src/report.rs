//! Answers as people and programs read them. The JSON has the keys of the interface's messages and
//! is stable; the text is not.

mod approval;
mod bdks;
mod refused;
mod rollout;
mod storage;
mod target;

use std::path::Path;

pub(crate) use approval::{approval, approvals};
pub(crate) use bdks::{bdk, bdks};
pub(crate) use refused::refused_keys;
use refused::{refused_json, refused_text};
pub(crate) use rollout::{
    rollout, rollout_plan, rollout_report, rollout_started, rollout_sum, rollouts,
};
pub(crate) use storage::storage;
pub(crate) use target::{
    acknowledged, closed_target, exported_file, filled, received, target, targets,
};

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use inspector::{Check, Inspection, Outcome, Party};
use kdh_proto::v1::{
    ActivationCode, Assignment, AuditRecord, AuthorityRequest, Delivery, Device, DeviceExport, Kdh,
    Key, KeyCheckValue, KeyImport, MakeOnePassTokenResponse, Order, ShowDeviceResponse,
};
use serde_json::{Value, json};

use crate::profile_report::{target_json, target_text};

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
        "SERIAL", "MODEL", "GROUP", "STATE", "KEYS", "CREATED", "CHANGED",
    ];
    Report {
        json: json!({"devices": all(devices, device_json)}),
        text: table(header, rows),
    }
}

pub(crate) fn authority_request(request: &AuthorityRequest) -> Report {
    Report {
        json: authority_request_json(request),
        text: match next_for_authority_request(request) {
            Some(next) => format!("{}\n\nNext{next}", authority_request_text(request)),
            None => authority_request_text(request),
        },
    }
}

fn next_for_authority_request(request: &AuthorityRequest) -> Option<String> {
    let AuthorityRequest {
        id, kind, state, ..
    } = request;
    match &**state {
        "ASKED" => Some(format!(
            ", as another operator with the role recovery: kdhctl authority approve {id}"
        )),
        "SIGNED" => Some(format!(
            ", at the terminal: krd {} --authority. If it is not on line: kdhctl authority fetch {id} --out FILE",
            kind.to_lowercase()
        )),
        _ => None,
    }
}

pub(crate) fn authority_requests(requests: &[AuthorityRequest]) -> Report {
    let rows = requests.iter().map(|request| {
        [
            request.id.clone(),
            request.serial_number.clone(),
            request.kind.clone(),
            request.kdh.clone(),
            dash(&request.new_kdh),
            request.state.clone(),
            request.asked_by.clone(),
            request.why.clone(),
            dash(&request.decided_by),
            request.expires_at.clone(),
        ]
    });
    let header = [
        "ID",
        "DEVICE",
        "KIND",
        "LOST KDH",
        "NEW KDH",
        "STATE",
        "ASKED BY",
        "WHY",
        "DECIDED BY",
        "EXPIRES",
    ];
    Report {
        json: json!({"requests": all(requests, authority_request_json)}),
        text: table(header, rows),
    }
}

pub(crate) fn exported_token(request: &AuthorityRequest, out: &Path) -> Report {
    let out = out.display().to_string();
    Report {
        json: json!({"request": authority_request_json(request), "out": out}),
        text: format!(
            "{out} holds the token for {}. Bring it to that terminal: no other one obeys it.\n\n\
             Next, at the terminal: krd {} --from {out}",
            request.serial_number,
            request.kind.to_lowercase()
        ),
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

pub(crate) fn key(key: &Key) -> Report {
    Report {
        json: key_json(key),
        text: key_table(std::slice::from_ref(key)),
    }
}

pub(crate) fn key_import(import: &KeyImport) -> Report {
    let text = fields(&[
        ("Import", &import.id),
        ("Key", &import.name),
        ("Kind", &import.kind),
        ("Header", &import.header),
        ("KCV", &kcv_text(import.kcv.as_ref())),
        ("Form", &import.form),
        ("Sender", &import.sender),
        ("Under", &import.under),
        ("SHA-256", &import.sha256),
        ("State", &import.state),
        ("Asked by", &import.asked_by),
        ("Why", &import.why),
        ("Decided by", &import.decided_by),
        ("Created", &import.created_at),
        ("Changed", &import.changed_at),
        ("Expires", &import.expires_at),
    ]);
    let next = match &*import.state {
        "ASKED" => format!(
            "\n\nNext, as another operator with the role keys: kdhctl import approve {}",
            import.id
        ),
        "IMPORTED" => "\n\nNext: kdhctl key assign.".to_owned(),
        _ => String::new(),
    };
    Report {
        json: key_import_json(import),
        text: text + &next,
    }
}

pub(crate) fn import_nonce(sender: &str, nonce: &[u8], out: &Path) -> Report {
    let nonce = hex::encode_upper(nonce);
    let out = out.display().to_string();
    let text = fields(&[("Sender", sender), ("Nonce", &nonce), ("File", &out)]);
    let next = format!(
        "\n\nNext: send the file to {sender}, compare the nonce by another way, and bring in the token that \
         answers it: kdhctl import key-token."
    );
    Report {
        json: json!({"sender": sender, "nonce": nonce, "file": out}),
        text: text + &next,
    }
}

pub(crate) fn key_imports(imports: &[KeyImport]) -> Report {
    let rows = imports.iter().map(|import| {
        [
            import.id.clone(),
            import.name.clone(),
            import.kind.clone(),
            kcv_text(import.kcv.as_ref()),
            import.form.clone(),
            import.under.clone(),
            import.state.clone(),
            import.asked_by.clone(),
            import.why.clone(),
            dash(&import.decided_by),
            import.expires_at.clone(),
        ]
    });
    let header = [
        "ID",
        "KEY",
        "KIND",
        "KCV",
        "FORM",
        "UNDER",
        "STATE",
        "ASKED BY",
        "WHY",
        "DECIDED BY",
        "EXPIRES",
    ];
    Report {
        json: json!({"imports": all(imports, key_import_json)}),
        text: table(header, rows),
    }
}

pub(crate) fn keys(keys: &[Key]) -> Report {
    Report {
        json: json!({"keys": all(keys, key_json)}),
        text: key_table(keys),
    }
}

pub(crate) fn kdhs(kdhs: &[Kdh]) -> Report {
    let rows = kdhs.iter().map(|kdh| {
        [
            kdh.serial.clone(),
            dash(&kdh.name),
            kdh.state.clone(),
            kdh.devices.to_string(),
            dash(&kdh.not_after),
        ]
    });
    let json = |kdh: &Kdh| {
        json!({
            "serial": kdh.serial,
            "name": kdh.name,
            "state": kdh.state,
            "devices": kdh.devices,
            "not_after": kdh.not_after,
        })
    };
    Report {
        json: json!({"kdhs": all(kdhs, json)}),
        text: table(["SERIAL", "NAME", "STATE", "DEVICES", "HOLDS UNTIL"], rows),
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

/// A token that was looked at. The JSON has the keys of [`Inspection`].
pub(crate) fn inspection(inspection: &Inspection) -> Report {
    let profiles = inspection.profiles.join(", ");
    let party = |party: &Option<Party>| party.as_ref().map(Party::to_string);
    let mut rows = vec![
        ("Token", Some(inspection.kind.to_owned())),
        ("Profile", Some(profiles)),
        ("Length", Some(format!("{} bytes", inspection.length))),
        ("Signer", party(&inspection.signer)),
        ("Recipient", party(&inspection.recipient)),
        ("KDH", party(&inspection.kdh)),
        ("Nonce", inspection.nonce.clone()),
        ("Signing time", inspection.signing_time.clone()),
    ];
    if let Some(header) = &inspection.header {
        rows.extend([
            ("Header", Some(header.text.clone())),
            ("  usage", Some(header.usage.clone())),
            ("  algorithm", Some(header.algorithm.clone())),
            ("  mode of use", Some(header.mode.clone())),
            ("  exportability", Some(header.exportability.clone())),
        ]);
        let blocks = header.optional_blocks.iter();
        rows.extend(blocks.map(|block| ("  optional block", Some(block.clone()))));
    }
    rows.extend([
        (
            "Cipher under Ke",
            inspection.ke_algorithm.map(str::to_owned),
        ),
        ("Hash in RSA-OAEP", inspection.oaep_hash.map(str::to_owned)),
        (
            "Key",
            inspection
                .key_length
                .map(|len| format!("{len} bytes, in clear; not shown")),
        ),
    ]);
    for certificate in &inspection.certificates {
        rows.extend([
            ("Certificate", Some(certificate.subject.clone())),
            (
                "  issued by",
                Some(format!(
                    "{}, serial {}",
                    certificate.issuer, certificate.serial
                )),
            ),
            (
                "  holds",
                Some(format!(
                    "{} to {}",
                    certificate.not_before, certificate.not_after
                )),
            ),
        ]);
    }
    if let Some(crl) = &inspection.crl {
        let number = inspection.crl_number.map_or_else(
            || "no number".to_owned(),
            |number| format!("number {number}"),
        );
        rows.extend([
            (
                "Revocation list",
                Some(format!("{number}, by {}", crl.issuer)),
            ),
            (
                "  holds",
                Some(format!("{} to {}", crl.this_update, crl.next_update)),
            ),
            ("  age", Some(age(crl.age_seconds))),
            (
                "  revoked",
                Some(match &crl.revoked[..] {
                    [] => "nobody".to_owned(),
                    revoked => revoked.join(", "),
                }),
            ),
        ]);
    }
    let rows = rows
        .into_iter()
        .filter_map(|(name, value)| Some([name.to_owned(), value?]));
    let warnings = inspection
        .warnings
        .iter()
        .map(|warning| format!("Warning: {}\n         ({})", warning.what, warning.clause));
    let unverified = "Nothing of this was verified: see \"kdhctl token verify --help\".".to_owned();
    let paragraphs: Vec<_> = [pairs(rows)]
        .into_iter()
        .chain(warnings)
        .chain([unverified])
        .collect();
    Report {
        json: json!(inspection),
        text: paragraphs.join("\n\n"),
    }
}

/// The lines in front of a one-pass token, as "krd load --from" reads them.
pub(crate) fn one_pass_lines(device: &str, slot: &str, made: &MakeOnePassTokenResponse) -> String {
    format!(
        "Key token for one terminal, to be loaded with \"krd load --from\".\n\
         Device: {device}\nSlot: {slot}\nKey-Version: {}\nDelivery: {}\nHeader: {}\nKCV: {}\n\
         Confirm-Until: {}\n\n",
        made.key_version,
        made.delivery_id,
        made.header,
        kcv_text(made.kcv.as_ref()),
        made.expires_at,
    )
}

/// A one-pass token that was written into a file.
pub(crate) fn one_pass(
    device: &str,
    slot: &str,
    made: &MakeOnePassTokenResponse,
    out: &Path,
) -> Report {
    Report {
        json: json!({
            "serial_number": device,
            "slot": slot,
            "key_version": made.key_version,
            "delivery_id": made.delivery_id,
            "header": made.header,
            "kcv": made.kcv.as_ref().map(kcv_json),
            "expires_at": made.expires_at,
            "file": out.display().to_string(),
        }),
        text: format!(
            "{}\n\nThe key token is in {}. Bring it to {device}, which loads it with \"krd load \
             --from\" and confirms it when it is on line again: until {}. Only {device} can open it.",
            pairs(
                [
                    ["Slot".to_owned(), slot.to_owned()],
                    ["Key version".to_owned(), made.key_version.to_string()],
                    ["Header".to_owned(), made.header.clone()],
                    ["KCV".to_owned(), kcv_text(made.kcv.as_ref())],
                    ["Delivery".to_owned(), made.delivery_id.clone()],
                ]
                .into_iter()
            ),
            out.display(),
            made.expires_at
        ),
    }
}

fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "from the future".to_owned(),
        0..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A token's checks.
pub(crate) fn checks(checks: &[Check], all_hold: bool) -> Report {
    let rows = checks.iter().map(|check| {
        let (result, detail) = match &check.outcome {
            Outcome::Holds(detail) => ("holds", detail),
            Outcome::Fails(detail) => ("FAILS", detail),
            Outcome::NotChecked(detail) => ("NOT CHECKED", detail),
        };
        [check.check.to_owned(), result.to_owned(), detail.clone()]
    });
    let verdict = if all_hold {
        "All checks hold."
    } else {
        "Not all checks hold: until each does, this token is not to be trusted."
    };
    Report {
        json: json!({"holds": all_hold, "checks": checks}),
        text: format!(
            "{}\n\n{verdict}",
            table(["CHECK", "RESULT", "DETAIL"], rows)
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

fn key_import_json(import: &KeyImport) -> Value {
    json!({
        "id": import.id,
        "name": import.name,
        "kind": import.kind,
        "header": import.header,
        "kcv": import.kcv.as_ref().map(kcv_json),
        "form": import.form,
        "sender": import.sender,
        "under": import.under,
        "sha256": import.sha256,
        "state": import.state,
        "asked_by": import.asked_by,
        "why": import.why,
        "decided_by": import.decided_by,
        "created_at": import.created_at,
        "changed_at": import.changed_at,
        "expires_at": import.expires_at,
    })
}

fn authority_request_json(request: &AuthorityRequest) -> Value {
    json!({
        "id": request.id,
        "serial_number": request.serial_number,
        "kind": request.kind,
        "certificate_serial": request.certificate_serial,
        "kdh": request.kdh,
        "new_kdh": request.new_kdh,
        "state": request.state,
        "asked_by": request.asked_by,
        "why": request.why,
        "decided_by": request.decided_by,
        "created_at": request.created_at,
        "changed_at": request.changed_at,
        "expires_at": request.expires_at,
    })
}

fn assignment_json(assignment: &Assignment) -> Value {
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

pub(crate) fn all<T>(items: &[T], one: fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
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
        ("Keys", &keys_text(device)),
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

fn authority_request_text(request: &AuthorityRequest) -> String {
    fields(&[
        ("Request", &request.id),
        ("Device", &request.serial_number),
        ("Certificate", &request.certificate_serial),
        ("Kind", &request.kind),
        ("Lost KDH", &request.kdh),
        ("New KDH", &request.new_kdh),
        ("State", &request.state),
        ("Asked by", &request.asked_by),
        ("Why", &request.why),
        ("Decided by", &request.decided_by),
        ("Created", &request.created_at),
        ("Changed", &request.changed_at),
        ("Expires", &request.expires_at),
    ])
}

pub(crate) fn fields(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter();
    pairs(fields.map(|(name, value)| [(*name).to_owned(), dash(value)]))
}

fn assignment_table(assignments: &[Assignment]) -> String {
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

pub(crate) fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// Names with their values, one below the other.
pub(crate) fn pairs(rows: impl Iterator<Item = [String; 2]>) -> String {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.load_style(TableStyle::new());
    table.add_rows(rows);
    table.trim_fmt()
}

pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let line = LineStyle::none().fill('─');
    table.load_style(TableStyle::new().header_separator(line));
    table.set_header(header).add_rows(rows);
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use kdh_proto::v1::{KeyProfileTarget, key_profile_target::Target};

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
            bound_kdh: String::new(),
            keys: String::new(),
            group: "pilot".to_owned(),
        }
    }

    fn sample_request() -> AuthorityRequest {
        AuthorityRequest {
            id: "5f0c1a9e".to_owned(),
            serial_number: "SN-1001".to_owned(),
            kind: "REBIND".to_owned(),
            certificate_serial: "0A".to_owned(),
            kdh: "0B".to_owned(),
            new_kdh: "CN=kdh-2, serial number 0C".to_owned(),
            state: "ASKED".to_owned(),
            asked_by: "ada".to_owned(),
            why: "the HSM burnt down".to_owned(),
            decided_by: String::new(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            changed_at: "2026-01-01T00:00:00Z".to_owned(),
            expires_at: "2026-01-04T00:00:00Z".to_owned(),
        }
    }

    fn sample_assignment() -> Assignment {
        Assignment {
            initial_key_id: Vec::new(),
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
 Keys           -";
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
 SERIAL   MODEL    GROUP  STATE       KEYS               CREATED               CHANGED
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
        let json = json!({
            "slot": "tmk",
            "key_version": 2,
            "header": "D0000K0AB00E0000",
            "initial_key_id": null,
            "kcv": {"method": "AES_CMAC", "value": "3F1A9C"},
            "confirmed": true,
        });
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
        assert_eq!(assignment(&sample_assignment()).json, json);
        let derived = Assignment {
            initial_key_id: vec![0x0A, 0x1B, 0x2C, 0x3D, 0, 0, 0, 7],
            ..sample_assignment()
        };
        let derived = assignment(&derived);
        assert_eq!(derived.json["initial_key_id"], "0A1B2C3D00000007");
        assert!(derived.text.contains("initial key 0A1B2C3D00000007"));
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
    fn requests_to_the_authority() {
        let request = sample_request();
        let report = authority_request(&request);
        let json = json!({
            "id": "5f0c1a9e",
            "serial_number": "SN-1001",
            "kind": "REBIND",
            "certificate_serial": "0A",
            "kdh": "0B",
            "new_kdh": "CN=kdh-2, serial number 0C",
            "state": "ASKED",
            "asked_by": "ada",
            "why": "the HSM burnt down",
            "decided_by": "",
            "created_at": "2026-01-01T00:00:00Z",
            "changed_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-04T00:00:00Z",
        });
        assert_eq!(report.json, json);
        for part in [
            "5f0c1a9e",
            "SN-1001",
            "the HSM burnt down",
            "Decided by   -",
        ] {
            assert!(report.text.contains(part), "{part}: {}", report.text);
        }
        let list = authority_requests(std::slice::from_ref(&request));
        assert_eq!(list.json, json!({"requests": [json]}));
        let exported = exported_token(&request, Path::new("t.pem"));
        assert_eq!(exported.json, json!({"request": json, "out": "t.pem"}));
        assert!(
            exported.text.starts_with("t.pem holds"),
            "{}",
            exported.text
        );
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
