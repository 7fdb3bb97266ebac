//! The audit trail: who did what to which device with which outcome, each record chained to the one
//! before.

use std::{collections::HashSet, fmt};

use kdh_proto::{ChainVerifier, FIRST_PREVIOUS_HASH, audit_hash, to_hex, v1::AuditRecord};
use serde_json::Value;
use sqlx::Row as _;

use super::{
    Row, Sealed, StoreError, StoredKey, Tx, approval_trail, bdks::BdkTrail, device_trail,
    export_trail, key_profiles::ProfileTrail,
};
use crate::names::DeviceSerial;

/// The action of a record that says what a key was registered as.
pub(crate) const KEY_REGISTERED: &str = "key.registered";
/// The action of a record that says which version of a slot's key a device got. Whatever makes a version writes one:
/// what has none is no version.
pub(crate) const KEY_ASSIGNED: &str = "key.assigned";
/// How many records are read at a time when the whole trail is verified.
const PAGE: i64 = 1000;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// The host itself.
    Host,
    /// An operator, by the common name of their certificate.
    Operator(String),
    /// A device.
    Device(DeviceSerial),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Device(serial) => write!(f, "device:{serial}"),
        }
    }
}

/// The last record of the trail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    sequence: u64,
    hash: [u8; 32],
}

/// A record to be written.
#[derive(Debug)]
pub(crate) struct AuditEntry<'a> {
    /// Who.
    pub(crate) actor: &'a Actor,
    /// What, in the past tense, for example `device.enrolled`; an intent ends in `.intent`.
    pub(crate) action: &'static str,
    /// To which device.
    pub(crate) device: Option<&'a DeviceSerial>,
    /// `ok`, or the reason of a refusal.
    pub(crate) outcome: &'a str,
    /// A JSON object; never a secret.
    pub(crate) detail: Value,
}

impl Tx {
    /// Adds a record to the trail. It becomes part of it with this transaction.
    pub(crate) async fn record(&mut self, entry: AuditEntry<'_>) -> Result<(), StoreError> {
        let head = match self.take_head() {
            Some(head) => head,
            None => self.read_head().await?,
        };
        let mut record = AuditRecord {
            sequence: head.sequence + 1,
            at: self.now.clone(),
            actor: entry.actor.to_string(),
            action: entry.action.to_owned(),
            device: entry.device.map(ToString::to_string).unwrap_or_default(),
            outcome: entry.outcome.to_owned(),
            detail: entry.detail.to_string(),
            previous_hash: to_hex(&head.hash),
            hash: String::new(),
        };
        self.changes
            .devices
            .extend(self.memory.devices.change(&record));
        let hash = audit_hash(&head.hash, &record);
        record.hash = to_hex(&hash);
        self.later("INSERT INTO audit VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .bind(signed(record.sequence)?)
            .bind(record.at)
            .bind(record.actor)
            .bind(record.action)
            .bind(record.device)
            .bind(record.outcome)
            .bind(record.detail)
            .bind(record.previous_hash)
            .bind(record.hash);
        self.leave_head(Head {
            sequence: head.sequence + 1,
            hash,
        });
        Ok(())
    }

    async fn read_head(&mut self) -> Result<Head, StoreError> {
        let last = sqlx::query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(self.connection().await?)
            .await?;
        let Some(row) = last else {
            return Ok(Head {
                sequence: 0,
                hash: FIRST_PREVIOUS_HASH,
            });
        };
        let hash: String = row.try_get("hash")?;
        Ok(Head {
            sequence: unsigned(&row, "sequence")?,
            hash: from_hex(&hash)?,
        })
    }

    /// Records after a sequence number, oldest first.
    pub(crate) async fn audit_records(
        &mut self,
        after: u64,
        limit: i64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        sqlx::query("SELECT * FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2")
            .bind(signed(after)?)
            .bind(limit)
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// Whether the trail has such a record, in its place. Looks through all of it.
    pub(crate) async fn is_recorded(&mut self, entry: &AuditEntry<'_>) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar(
            "SELECT sequence FROM audit WHERE sequence > 0 AND actor = $1 AND action = $2
                 AND device = $3 AND outcome = $4 AND detail = $5 ORDER BY sequence LIMIT 1",
        )
        .bind(entry.actor.to_string())
        .bind(entry.action)
        .bind(entry.device.map_or("", DeviceSerial::as_str))
        .bind(entry.outcome)
        .bind(entry.detail.to_string())
        .fetch_optional(self.connection().await?)
        .await?;
        let found = found.map(|sequence: i64| u64::try_from(sequence));
        match found.transpose() {
            Ok(Some(sequence)) => self.is_chained(sequence).await,
            Ok(None) => Ok(false),
            Err(_) => Err(StoreError::Damaged("audit record")),
        }
    }

    /// Whether the trail has a record of one of these actions whose detail says this in a field, in its place or not.
    /// Looks through all of it.
    pub(crate) async fn is_noted(
        &mut self,
        actions: &[&str],
        field: &str,
        value: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.noted(actions, field, value).await?.is_some())
    }

    /// The same, of a record in its place.
    pub(crate) async fn is_chained_note(
        &mut self,
        actions: &[&str],
        field: &str,
        value: &str,
    ) -> Result<bool, StoreError> {
        match self.noted(actions, field, value).await? {
            Some(sequence) => self.is_chained(sequence).await,
            None => Ok(false),
        }
    }

    async fn noted(
        &mut self,
        actions: &[&str],
        field: &str,
        value: &str,
    ) -> Result<Option<u64>, StoreError> {
        let mut first = None;
        for action in actions {
            let records = sqlx::query(
                "SELECT sequence, detail FROM audit WHERE action = $1 AND sequence > 0 ORDER BY sequence",
            );
            let records = records.bind(*action).fetch_all(self.connection().await?);
            for record in records.await? {
                let detail: Value = serde_json::from_str(record.try_get("detail")?)
                    .map_err(|_| StoreError::Damaged("audit record"))?;
                if detail[field] == value {
                    let sequence = unsigned(&record, "sequence")?;
                    first = first.or(Some(sequence)).min(Some(sequence));
                    break;
                }
            }
        }
        Ok(first)
    }

    /// Whether a record follows on the one before, and the one behind it, if there is one, on it. Whoever
    /// slips one in for a moment finds no place for it.
    pub(super) async fn is_chained(&mut self, sequence: u64) -> Result<bool, StoreError> {
        let mut around = self.audit_records(sequence.saturating_sub(2), 3).await?;
        let mut chain = ChainVerifier::default();
        if sequence > 1 && !around.is_empty() {
            let before = around.remove(0);
            chain = ChainVerifier::behind(before.sequence, from_hex(&before.hash)?);
        }
        let holds = around.iter().all(|record| chain.verify(record).is_ok());
        let is_there = around.iter().any(|record| record.sequence == sequence);
        Ok(holds && is_there)
    }

    /// Follows the whole trail. Returns how many records hold, or what is wrong, in words: with the
    /// chain, or with a registered key, a BDK, a key profile or an approval in force whose row says something else
    /// than its record.
    pub(crate) async fn verify_audit(&mut self) -> Result<Result<u64, String>, StoreError> {
        let mut chain = ChainVerifier::default();
        let mut registrations = HashSet::new();
        let mut profiles = ProfileTrail::default();
        let mut bdks = BdkTrail::default();
        let mut approvals = approval_trail::Known::default();
        let mut devices = device_trail::Known::default();
        let mut exports = export_trail::Known::default();
        loop {
            let page = self.audit_records(chain.verified(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            for record in page {
                if let Err(broken) = chain.verify(&record) {
                    return Ok(Err(broken.to_string()));
                }
                approvals.note(&record);
                devices.note(&record);
                exports.note(&record);
                if record.action == KEY_REGISTERED {
                    registrations.insert(record.detail);
                } else {
                    bdks.note(&record);
                    profiles.note(record);
                }
            }
        }
        let keys = self.keys().await?;
        let unlike = |key: &&StoredKey| !registrations.contains(&key.registration().to_string());
        let mut rows = keys.iter().map(Sealed::unproven);
        if let Some(key) = rows.find(unlike) {
            return Ok(Err(format!(
                "key {}: no operator registered it as its row in the database says",
                key.name
            )));
        }
        if let Some(fault) = self.verify_profiles(profiles).await? {
            return Ok(Err(fault));
        }
        if let Some(fault) = self.verify_bdks(bdks).await? {
            return Ok(Err(fault));
        }
        if let Some(fault) = self.verify_approvals(approvals).await? {
            return Ok(Err(fault));
        }
        *self.memory.devices.known() = devices;
        self.memory.exports.learn(exports);
        Ok(Ok(chain.verified()))
    }
}

pub(super) fn read(row: &Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        sequence: unsigned(row, "sequence")?,
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        device: row.try_get("device")?,
        outcome: row.try_get("outcome")?,
        detail: row.try_get("detail")?,
        previous_hash: row.try_get("previous_hash")?,
        hash: row.try_get("hash")?,
    })
}

fn unsigned(row: &Row, column: &str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| StoreError::Damaged("audit record"))
}

fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Damaged("audit record"))
}

fn from_hex(hash: &str) -> Result<[u8; 32], StoreError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(hash, &mut bytes).map_err(|_| StoreError::Damaged("audit record"))?;
    Ok(bytes)
}
