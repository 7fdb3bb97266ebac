//! Exported records as lines of JSON. docs/export.md tells those who read them.

use kdh_proto::v1::{ExportRecord, FileHeader};
use serde::Serialize;

use crate::failure::Failure;

#[derive(Serialize)]
struct HeaderLine<'a> {
    format: &'a str,
    target: &'a str,
    name: &'a str,
    form: &'a str,
    under_kcv: &'a str,
    from: u64,
    to: u64,
    count: u64,
    records_sha256: &'a str,
    mac: String,
}

#[derive(Serialize)]
struct RecordLine<'a> {
    format: &'a str,
    target: &'a str,
    name: &'a str,
    position: u64,
    state: &'a str,
    device: &'a str,
    slot: &'a str,
    version: u32,
    header: &'a str,
    kind: &'a str,
    kcv_method: &'a str,
    kcv: &'a str,
    form: &'a str,
    key: &'a str,
    mac: String,
}

/// The first line of a file.
pub(crate) fn header_line(header: &FileHeader) -> Result<String, Failure> {
    line(&HeaderLine {
        format: &header.format,
        target: &header.target,
        name: &header.name,
        form: &header.form,
        under_kcv: &header.under_kcv,
        from: header.from,
        to: header.to,
        count: header.count,
        records_sha256: &header.records_sha256,
        mac: hex::encode_upper(&header.mac),
    })
}

/// A record's.
pub(crate) fn record_line(record: &ExportRecord) -> Result<String, Failure> {
    line(&RecordLine {
        format: &record.format,
        target: &record.target,
        name: &record.name,
        position: record.position,
        state: &record.state,
        device: &record.device,
        slot: &record.slot,
        version: record.version,
        header: &record.header,
        kind: &record.kind,
        kcv_method: &record.kcv_method,
        kcv: &record.kcv,
        form: &record.form,
        key: &record.key,
        mac: hex::encode_upper(&record.mac),
    })
}

fn line(line: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(line);
    let text = text.map_err(|error| Failure::failed(error, None))?;
    Ok(text + "\n")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whose_fields_stand_as_documented() {
        let record = ExportRecord {
            format: "kdh-export-1".to_owned(),
            name: "a\nb".to_owned(),
            position: 7,
            mac: vec![0xAB; 2],
            ..ExportRecord::default()
        };
        let line = record_line(&record).unwrap();
        assert_eq!(
            line,
            "{\"format\":\"kdh-export-1\",\"target\":\"\",\"name\":\"a\\nb\",\"position\":7,\"state\":\"\",\
             \"device\":\"\",\"slot\":\"\",\"version\":0,\"header\":\"\",\"kind\":\"\",\"kcv_method\":\"\",\
             \"kcv\":\"\",\"form\":\"\",\"key\":\"\",\"mac\":\"ABAB\"}\n"
        );
    }
}
