//! What the audit trail says of imports. The trail, and not the table, is believed: whoever can write to the database
//! can change a row, and no record of the chain.

use serde_json::{Value, json};

use super::arrived::digest;
use crate::{
    HostError,
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
/// two, nor say something else than the first did.
pub(super) async fn require_recorded(
    tx: &mut Tx,
    import: &KeyImportRequest,
) -> Result<(), HostError> {
    let asked = AuditEntry {
        actor: &Actor::Operator(import.asked_by.clone()),
        action: ASKED,
        device: None,
        outcome: "ok",
        detail: detail(import),
    };
    let decided = [DONE, REJECTED, EXPIRED];
    if tx.is_recorded(&asked).await? && !tx.is_noted(&decided, IMPORT, &import.id).await? {
        return Ok(());
    }
    Err(StoreError::Damaged("key import").into())
}

/// Whether an approval of an import was taken back, and its key may be in the HSM.
pub(super) async fn may_have_left_its_key(tx: &mut Tx, id: &str) -> Result<bool, HostError> {
    Ok(tx.is_chained_note(&[RELEASED], LEFT, id).await?)
}
