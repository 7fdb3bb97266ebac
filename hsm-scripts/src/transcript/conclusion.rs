//! Whether a record holds, in a sentence: the same on a screen, to a program and on a page.

use super::{Record, Trust, report::moment};

/// What there is to say in short of records that hold as far as they go: whether anything is missing, whether the
/// verifier `accepted` that, and whether anybody looked for revoked certificates.
pub fn conclusion(records: &[Record], trust: &Trust, accepted: bool) -> String {
    let complete = records.iter().all(|record| record.missing.is_empty());
    let (said, next) = match (accepted, complete) {
        (true, true) => (
            "The record holds: no line was altered, every step is signed by who took it, and the audit key sealed it",
            "",
        ),
        (true, false) => ("The record holds, without what was accepted", ""),
        (false, _) => (
            "The record holds as far as it goes, and is not accepted, since something is missing",
            " Ask for the whole of it, and compare its last hash with the minutes.",
        ),
    };
    let bears_signatures =
        |record: &Record| record.seal.is_some() || record.entries.iter().any(|entry| entry.signed);
    let revoked = match (records.iter().any(bears_signatures), trust.crl()) {
        (false, _) => String::new(),
        (true, Some(list)) => format!(
            "; no certificate is on the revocation list number {}, of {}",
            list.number().0,
            moment(list.crl().this_update())
        ),
        (true, None) => {
            "; whether a certificate was revoked was not looked at: no revocation list was given (--crl)".to_owned()
        }
    };
    format!("{said}{revoked}.{next}")
}
