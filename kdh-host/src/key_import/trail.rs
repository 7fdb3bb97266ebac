//! What the audit trail says of imports. It, and not the table, is believed, as the host knows it: whoever can write to the
//! database can change rows and records, and not that.

use serde_json::{Value, json};

use super::arrived::digest;
use crate::{
    Host, HostError,
    store::{Actor, AuditEntry, KeyImportRequest, StoreError, Tx, method_word},
};

/// The action of the record that says what was asked for.
pub(super) const ASKED: &str = "key-import.asked";
/// In such records, of a TR-34 token: the digest of what its sender signed.
pub(super) const SIGNED_SHA256: &str = "signed-sha256";
/// The action of the record that a key is there.
pub(super) const DONE: &str = "key-import.done";
/// The action of the record that an operator does not want it.
pub(super) const REJECTED: &str = "key-import.rejected";
/// The action of the record that nobody approved it in time.
pub(super) const EXPIRED: &str = "key-import.expired";
/// In all of these records: the import's id.
pub(super) const IMPORT: &str = "import";
/// The action of the record that an approval was taken back.
pub(super) const RELEASED: &str = "key-import.released";
/// In such records: the import's id, if the HSM may have been left with its key.
pub(super) const LEFT: &str = "may-have-left-its-key";

/// Puts down what an operator did about an import, and all that it says.
pub(super) async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &'static str,
    import: &KeyImportRequest,
) -> Result<(), HostError> {
    Ok(tx
        .record(AuditEntry {
            actor,
            action,
            device: None,
            outcome: "ok",
            detail: detail(import),
        })
        .await?)
}

/// What an import says, however it stands.
fn detail(import: &KeyImportRequest) -> Value {
    let mut detail = json!({
        IMPORT: import.id,
        "key": import.name.as_str(),
        "kind": import.kind.name(),
        "header": import.header.to_string(),
        "kcv": import.kcv.to_string(),
        "kcv-method": method_word(import.kcv.method()),
        "wrapped-sha256": digest(&import.wrapped),
        "asked-by": import.asked_by,
        "expires-at": import.expires_at,
        "why": import.why,
    });
    if let Some(digest) = &import.signed_sha256 {
        detail[SIGNED_SHA256] = digest.as_str().into();
    }
    detail
}

/// An import must be what an operator asked for: whoever can write to the database must not be the first of the
/// two, nor say something else than the first did, nor bring back what was decided.
pub(super) fn require_recorded(host: &Host, import: &KeyImportRequest) -> Result<(), HostError> {
    let asked = AuditEntry {
        actor: &Actor::Operator(import.asked_by.clone()),
        action: ASKED,
        device: None,
        outcome: "ok",
        detail: detail(import),
    };
    if host.store().is_open(&asked) {
        return Ok(());
    }
    Err(StoreError::Damaged("key import").into())
}
