//! What the audit trail says of acts on which somebody has to decide yet: orders about bindings, requests to `CA_KRD`,
//! imports of keys.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes. A row or
//! a record that comes, goes or comes back behind the host's back changes nothing here. Nothing is open while it is in
//! doubt: neither what nobody knows to be on record, nor what may be decided.

use std::collections::{HashMap, HashSet};

use kdh_proto::v1::AuditRecord;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    AuditEntry, Store,
    memory::{Learns, Remembered},
};
use crate::names::DeviceSerial;

/// An act, by what it is called in records, and its id: of an order, the device, which has one at a time. An order's
/// number stands in rows that others can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Act {
    kind: &'static str,
    id: String,
}

/// What orders are called in records.
const ORDER: &str = "order";

/// SHA-256 of who says what in a record.
type Digest = [u8; 32];

/// What a record says.
#[derive(Debug)]
pub(super) enum Change {
    Opened(Act, Digest),
    /// It is decided on, taken back or over.
    Closed(Act),
    /// `CA_KRD` has signed a token, given by its digest.
    Signed(String),
    /// A device has acknowledged a token about its binding, given by its digest.
    Acknowledged(String),
    /// A key came in a token, given by the digest of what its sender has signed.
    Imported(String),
    /// An import's key may be in the HSM.
    Left(String),
}

/// What is known of all of them.
pub(super) type ActTrail = Remembered<Known>;

#[derive(Debug, Default)]
pub(super) struct Known {
    open: HashMap<Act, Digest>,
    signed: HashSet<String>,
    acknowledged: HashSet<String>,
    imported: HashSet<String>,
    left: HashSet<String>,
}

impl Known {
    /// Takes note of a record, which follows on those before.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        for change in changes(record) {
            self.apply(change);
        }
    }
}

impl Learns for Known {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        match change {
            Change::Opened(act, digest) => {
                self.open.insert(act, digest);
            }
            Change::Closed(act) => {
                self.open.remove(&act);
            }
            Change::Signed(token) => {
                self.signed.insert(token);
            }
            Change::Acknowledged(token) => {
                self.acknowledged.insert(token);
            }
            Change::Imported(token) => {
                self.imported.insert(token);
            }
            Change::Left(import) => {
                self.left.insert(import);
            }
        }
    }
}

/// What a record says of such acts.
pub(super) fn changes(record: &AuditRecord) -> Vec<Change> {
    let kind = match &*record.action {
        "device.unbind-ordered"
        | "device.rebind-ordered"
        | "device.order-cancelled"
        | "binding.acknowledged" => ORDER,
        "authority.asked" | "authority.signed" | "authority.rejected" | "authority.expired" => {
            "request"
        }
        "key-import.asked"
        | "key-import.done"
        | "key-import.rejected"
        | "key-import.expired"
        | "key-import.released" => "import",
        _ => return Vec::new(),
    };
    let detail: Value = serde_json::from_str(&record.detail).unwrap_or_default();
    let text = |field: &str| detail[field].as_str().map(str::to_owned);
    let left = text("may-have-left-its-key").map(Change::Left);
    if record.action == "key-import.released" {
        return Vec::from_iter(left);
    }
    let acknowledged = match &*record.action {
        "binding.acknowledged" => text("token-sha256").map(Change::Acknowledged),
        _ => None,
    };
    let id = match &detail[kind] {
        // A token of `CA_KRD`, which was made for no order. Earlier hosts did not say for which one any token was.
        Value::Null if detail.get(kind).is_some() => return Vec::from_iter(acknowledged),
        _ if kind == ORDER => record.device.clone(),
        Value::String(id) => id.clone(),
        _ => return Vec::new(),
    };
    let act = Act { kind, id };
    match &*record.action {
        // The host's own take an operator's place, and need no operator's word.
        "device.unbind-ordered" | "device.rebind-ordered" if record.actor == "host" => {
            vec![Change::Closed(act)]
        }
        "device.unbind-ordered"
        | "device.rebind-ordered"
        | "authority.asked"
        | "key-import.asked" => vec![Change::Opened(act, digest(record))],
        "authority.signed" => {
            let signed = text("token-sha256").map(Change::Signed);
            [Change::Closed(act)].into_iter().chain(signed).collect()
        }
        "key-import.done" => {
            let imported = text("signed-sha256").map(Change::Imported);
            [Change::Closed(act)].into_iter().chain(imported).collect()
        }
        _ => [Change::Closed(act)]
            .into_iter()
            .chain(acknowledged)
            .collect(),
    }
}

fn digest(record: &AuditRecord) -> Digest {
    let fields = [
        &record.actor,
        &record.action,
        &record.device,
        &record.outcome,
        &record.detail,
    ];
    let mut digest = Sha256::new();
    for field in fields {
        digest.update((field.len() as u64).to_be_bytes());
        digest.update(field);
    }
    digest.finalize().into()
}

impl Store {
    /// Whether the trail has this record of an order, a request or an import, and nobody has decided on it since, nor may
    /// have.
    pub(crate) fn is_open(&self, entry: &AuditEntry<'_>) -> bool {
        let said = changes(&entry.said());
        let mut opened = said.iter().filter_map(|change| match change {
            Change::Opened(act, digest) => Some((act, digest)),
            _ => None,
        });
        opened.any(|(act, digest)| {
            let mut standings = self.standings(act).into_iter();
            standings.all(|opened| opened.as_ref() == Some(digest))
        })
    }

    /// Whether by the trail an order about a device is open, or may be.
    pub(crate) fn may_have_open_order(&self, serial: &DeviceSerial) -> bool {
        let act = Act {
            kind: ORDER,
            id: serial.as_str().to_owned(),
        };
        self.standings(&act).iter().any(Option::is_some)
    }

    /// What has opened an act, if it is open: all that may be so.
    fn standings(&self, act: &Act) -> Vec<Option<Digest>> {
        self.memory.possible(
            || self.memory.acts.known().open.get(act).copied(),
            |before, changes| {
                let changes = changes.acts.iter();
                changes.fold(*before, |opened, change| match change {
                    Change::Opened(of, digest) if of == act => Some(*digest),
                    Change::Closed(of) if of == act => None,
                    _ => opened,
                })
            },
        )
    }

    /// Whether the trail says for certain that the device has acknowledged the token of this digest.
    pub(crate) fn was_acknowledged(&self, token_sha256: &str) -> bool {
        let acts = self.memory.acts.known();
        acts.acknowledged.contains(token_sha256)
    }

    /// Whether the trail says for certain that `CA_KRD` has signed the token of this digest.
    pub(crate) fn was_signed_by_authority(&self, token_sha256: &str) -> bool {
        self.memory.acts.known().signed.contains(token_sha256)
    }

    /// Whether a key came, or may have come, in the token of which the sender has signed this, given by its digest.
    pub(crate) fn was_imported(&self, signed_sha256: &str) -> bool {
        let possible = self.memory.possible(
            || self.memory.acts.known().imported.contains(signed_sha256),
            |came, changes| {
                let mut imported = changes.acts.iter();
                *came
                    || imported
                        .any(|change| matches!(change, Change::Imported(of) if of == signed_sha256))
            },
        );
        possible.into_iter().any(|came| came)
    }

    /// Whether the trail says for certain that an import's key may be in the HSM, although its approval was taken back.
    pub(crate) fn may_have_left_its_key(&self, import: &str) -> bool {
        self.memory.acts.known().left.contains(import)
    }
}
