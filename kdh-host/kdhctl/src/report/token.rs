//! Tokens in files.

use std::path::Path;

use inspector::{Check, Inspection, Outcome, Party};
use kdh_proto::v1::MakeOnePassTokenResponse;
use serde_json::json;

use super::{Report, counted, kcv_json, kcv_text, pairs, table};

/// A token that was looked at. The JSON has the keys of [`Inspection`].
pub(crate) fn inspection(inspection: &Inspection) -> Report {
    let profiles = inspection.profiles.join(", ");
    let party = |party: &Option<Party>| party.as_ref().map(Party::to_string);
    let mut rows = vec![
        ("Token", Some(inspection.kind.to_owned())),
        ("Profile", Some(profiles)),
        ("Length", Some(counted(inspection.length, "byte"))),
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
                .map(|len| format!("{}, in clear; not shown", counted(len, "byte"))),
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

fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "from the future".to_owned(),
        0..172_800 => counted(seconds / 3600, "hour"),
        _ => counted(seconds / 86_400, "day"),
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
