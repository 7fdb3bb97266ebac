//! Rows of keys that are not as the HSM has sealed them.

use kdh_proto::v1::KeyRow;
use serde_json::{Value, json};

use super::{Report, all, table};

pub(crate) fn refused_keys(rows: &[KeyRow]) -> Report {
    let text = if rows.is_empty() {
        "Every row is as the HSM has sealed it.".to_owned()
    } else {
        refused_text(rows)
    };
    Report {
        json: json!({"refused": all(rows, refused_json)}),
        text,
    }
}

/// Where they stand, and what to do.
pub(super) fn refused_text(rows: &[KeyRow]) -> String {
    let listed = rows.iter().map(|row| {
        [
            row.serial_number.clone(),
            row.slot.clone(),
            row.key_version.to_string(),
        ]
    });
    let rows = table(["TERMINAL", "SLOT", "VERSION"], listed);
    format!(
        "Refused, because these rows are not as the HSM has sealed them: somebody has changed them behind the host's \
         back.\nRestore them from a backup of the database, or discard each (kdhctl key discard) and assign its slot \
         anew:\n{rows}"
    )
}

pub(super) fn refused_json(row: &KeyRow) -> Value {
    json!({
        "serial_number": row.serial_number,
        "slot": row.slot,
        "key_version": row.key_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_row_is_seen_with_what_to_do() {
        let row = KeyRow {
            serial_number: "SN-1".to_owned(),
            slot: "tmk".to_owned(),
            key_version: 3,
        };
        let report = refused_keys(&[row]);
        for part in ["SN-1      tmk   3", "kdhctl key discard"] {
            assert!(report.text.contains(part), "{}", report.text);
        }
        assert_eq!(report.json["refused"][0]["key_version"], 3);
        assert_eq!(
            refused_keys(&[]).text,
            "Every row is as the HSM has sealed it."
        );
    }
}
