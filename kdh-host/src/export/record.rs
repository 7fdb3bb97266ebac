//! What a switch gets of a key, and over which bytes the MACs go. docs/export.md tells the switch.

use hsm::{ExportForm, Kcv, Mac};
use kdh_proto::v1;
use sha2::{Digest as _, Sha256};

use super::Target;
use crate::{
    state::ExportState,
    store::{DeviceKey, ExportRow, Made, method_word},
};

/// Stands first in what a record's MAC goes over.
const FORMAT: &str = "kdh-export-1";
/// The same of a file.
const FILE_FORMAT: &str = "kdh-export-file-1";

/// What is put down of a key that the HSM has wrapped.
pub(super) fn made(target: &Target, key: &DeviceKey, kcv: &Kcv, wrapped: &[u8]) -> Made {
    Made {
        header: key.header.to_string(),
        kind: key.kind.name().to_owned(),
        kcv_method: method_word(kcv.method()).to_owned(),
        kcv: kcv.to_string(),
        exported: Some(match target.form {
            ExportForm::KeyWrap => hex::encode_upper(wrapped),
            ExportForm::Tr31 => String::from_utf8_lossy(wrapped).into_owned(),
        }),
    }
}

/// A record as it goes out; of one that is not made yet, without its MAC.
pub(super) fn message(target: &Target, row: &ExportRow) -> v1::ExportRecord {
    let made = row.made.as_ref();
    let text =
        |text: fn(&Made) -> &str| made.map_or_else(String::new, |made| text(made).to_owned());
    v1::ExportRecord {
        format: FORMAT.to_owned(),
        target: row.target.clone(),
        name: target.name.to_string(),
        position: row.position,
        state: if made.is_some() { "KEY" } else { "SKIPPED" }.to_owned(),
        device: row.device.to_string(),
        slot: row.slot.to_string(),
        version: row.version,
        header: text(|made| &made.header),
        kind: text(|made| &made.kind),
        kcv_method: text(|made| &made.kcv_method),
        kcv: text(|made| &made.kcv),
        form: target.form.name().to_owned(),
        key: text(|made| made.exported.as_deref().unwrap_or_default()),
        mac: row.mac.map_or_else(Vec::new, |mac| mac.as_bytes().to_vec()),
    }
}

/// Whether it is one that goes out, by what its row says.
pub(super) fn is_whole(row: &ExportRow) -> bool {
    let made = match (&row.made, row.state) {
        (Some(made), ExportState::Made) => made.exported.is_some(),
        (None, ExportState::Skipped) => true,
        _ => false,
    };
    made && row.mac.is_some()
}

/// What a record's MAC goes over.
pub(super) fn bytes(record: &v1::ExportRecord) -> Vec<u8> {
    joined(&[
        &record.format,
        &record.target,
        &record.name,
        &record.position.to_string(),
        &record.state,
        &record.device,
        &record.slot,
        &record.version.to_string(),
        &record.header,
        &record.kind,
        &record.kcv_method,
        &record.kcv,
        &record.form,
        &record.key,
    ])
}

/// SHA-256 of what a record's MAC goes over, for the audit trail.
pub(super) fn digest(record: &v1::ExportRecord) -> String {
    hex::encode(Sha256::digest(bytes(record)))
}

/// What a file says of itself, without its MAC.
pub(super) fn file_header(
    target: &Target,
    id: &str,
    (from, to): (u64, u64),
    macs: &[Mac],
) -> v1::FileHeader {
    let mut records = Sha256::new();
    for mac in macs {
        records.update(mac.as_bytes());
    }
    v1::FileHeader {
        format: FILE_FORMAT.to_owned(),
        target: id.to_owned(),
        name: target.name.to_string(),
        form: target.form.name().to_owned(),
        under_kcv: target.under.kcv.to_string(),
        from,
        to,
        count: macs.len() as u64,
        records_sha256: hex::encode(records.finalize()),
        mac: Vec::new(),
    }
}

/// What a file's MAC goes over.
pub(super) fn file_bytes(header: &v1::FileHeader) -> Vec<u8> {
    joined(&[
        &header.format,
        &header.target,
        &header.name,
        &header.form,
        &header.under_kcv,
        &header.from.to_string(),
        &header.to.to_string(),
        &header.count.to_string(),
        &header.records_sha256,
    ])
}

/// Texts, each behind its length in bytes as four bytes, the highest first: none can be taken for a part of another.
fn joined(texts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend(len.to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> v1::ExportRecord {
        v1::ExportRecord {
            format: FORMAT.to_owned(),
            target: "5f0c1a9e".to_owned(),
            name: "switch".to_owned(),
            position: 7,
            state: "KEY".to_owned(),
            device: "SN-1".to_owned(),
            slot: "tmk".to_owned(),
            version: 2,
            header: "D0000K0AB00N0000".to_owned(),
            kind: "AES-128".to_owned(),
            kcv_method: "AES_CMAC".to_owned(),
            kcv: "A1B2C3".to_owned(),
            form: "key-wrap".to_owned(),
            key: "00FF".to_owned(),
            mac: Vec::new(),
        }
    }

    /// As docs/export.md shows it.
    #[test]
    fn the_bytes_are_as_documented() {
        let expected = "0000000c6b64682d6578706f72742d31\
             000000083566306331613965\
             00000006737769746368\
             0000000137\
             000000034b4559\
             00000004534e2d31\
             00000003746d6b\
             0000000132\
             0000001044303030304b30414230304e30303030";
        let found = hex::encode(bytes(&record()));
        assert!(found.starts_with(expected), "{found}");
    }

    #[test]
    fn no_field_can_be_changed_or_moved() {
        type Change = fn(&mut v1::ExportRecord);
        let changes: [Change; 16] = [
            |r| r.format.push('0'),
            |r| r.target.push('0'),
            |r| r.name.clear(),
            |r| r.position = 8,
            |r| r.state = "SKIPPED".to_owned(),
            |r| r.device = "SN-2".to_owned(),
            |r| r.slot = "pin".to_owned(),
            |r| r.version = 22,
            |r| r.header.push('0'),
            |r| r.kind = "AES-256".to_owned(),
            |r| r.kcv_method = "TDEA_ECB".to_owned(),
            |r| r.kcv.push('0'),
            |r| r.form = "tr31".to_owned(),
            |r| r.key.push('0'),
            // From one to the next.
            |r| (r.device, r.slot) = ("SN-1t".to_owned(), "mk".to_owned()),
            |r| (r.kcv, r.key) = ("A1B2C300".to_owned(), "FF".to_owned()),
        ];
        let whole = bytes(&record());
        for (index, change) in changes.into_iter().enumerate() {
            let mut record = record();
            change(&mut record);
            assert_ne!(bytes(&record), whole, "{index}");
        }
        // The MAC is no part of it.
        let with_mac = v1::ExportRecord {
            mac: vec![1],
            ..record()
        };
        assert_eq!(bytes(&with_mac), whole);
    }
}
