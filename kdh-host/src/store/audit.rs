//! The audit trail: who did what to which device with which outcome, each record chained to the one
//! before.

use std::{collections::HashSet, fmt};

use kdh_proto::{ChainVerifier, audit_hash, to_hex, v1::AuditRecord};
use serde_json::Value;
use sqlx::Row as _;

use super::{
    Row, Sealed, StoreError, StoredKey, Tx, act_trail, approval_trail,
    bdks::BdkTrail,
    commits::{Head, Records},
    device_trail, export_trail, holders,
    key_profiles::ProfileTrail,
    milestones::{self, is_milestone},
    profile_trail,
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

impl AuditEntry<'_> {
    /// As a record that has no place in the trail yet.
    pub(super) fn said(&self) -> AuditRecord {
        AuditRecord {
            actor: self.actor.to_string(),
            action: self.action.to_owned(),
            device: self.device.map(ToString::to_string).unwrap_or_default(),
            outcome: self.outcome.to_owned(),
            detail: self.detail.to_string(),
            ..AuditRecord::default()
        }
    }
}

impl Tx {
    /// Adds a record to the trail. It becomes part of it with this transaction.
    pub(crate) async fn record(&mut self, entry: AuditEntry<'_>) -> Result<(), StoreError> {
        let head = self.head().await?;
        let mut record = AuditRecord {
            sequence: head.sequence + 1,
            at: self.now.clone(),
            previous_hash: to_hex(&head.hash),
            ..entry.said()
        };
        let hash = audit_hash(&head.hash, &record);
        record.hash = to_hex(&hash);
        let last = Head {
            sequence: record.sequence,
            hash,
        };
        let changes = &mut self.changes;
        changes.devices.extend(self.memory.devices.change(&record));
        changes.acts.extend(act_trail::changes(&record));
        changes.holders.extend(holders::changes(&record));
        changes.profiles.extend(profile_trail::change(&record));
        if is_milestone(last) {
            changes.milestones.push(last);
        }
        let records = changes
            .records
            .get_or_insert(Records { behind: head, last });
        records.last = last;
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
        self.leave_head(last);
        Ok(())
    }

    /// Where the trail ends: as the writer before has left word, or as the database has it.
    ///
    /// # Errors
    /// [`StoreError::ForeignTrail`]: the host has not left it so.
    pub(super) async fn head(&mut self) -> Result<Head, StoreError> {
        if let Some(head) = self.take_head() {
            return Ok(head);
        }
        let last = sqlx::query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(self.connection().await?)
            .await?;
        let mut head = Head::NONE;
        if let Some(row) = last {
            let hash: String = row.try_get("hash")?;
            head = Head {
                sequence: unsigned(&row, "sequence")?,
                hash: from_hex(&hash)?,
            };
        }
        self.memory.find(head, self.is_alone())?;
        Ok(head)
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

    /// Follows the whole trail. Returns how many records hold, or what is wrong, in words: with the
    /// chain, or with a registered key, a BDK, a key profile or an approval in force whose row says something else
    /// than its record.
    pub(crate) async fn verify_audit(&mut self) -> Result<Result<u64, String>, StoreError> {
        let mut chain = ChainVerifier::default();
        let mut end = Head::NONE;
        let mut registrations = HashSet::new();
        let mut profiles = ProfileTrail::default();
        let mut bdks = BdkTrail::default();
        let mut approvals = approval_trail::Known::default();
        let mut devices = device_trail::Known::default();
        let mut exports = export_trail::Known::default();
        let mut holders = holders::Known::default();
        let mut acts = act_trail::Known::default();
        let mut milestones = milestones::Known::default();
        let mut newest_profiles = profile_trail::Known::default();
        loop {
            let page = self.audit_records(chain.verified(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            for record in page {
                if let Err(broken) = chain.verify(&record) {
                    return Ok(Err(broken.to_string()));
                }
                end = Head {
                    sequence: record.sequence,
                    hash: from_hex(&record.hash)?,
                };
                milestones.note(end);
                acts.note(&record);
                newest_profiles.note(&record);
                approvals.note(&record);
                devices.note(&record);
                exports.note(&record);
                holders.note(&record);
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
        *self.memory.exports.known() = exports;
        *self.memory.holders.known() = holders;
        *self.memory.acts.known() = acts;
        *self.memory.milestones.known() = milestones;
        *self.memory.profiles.known() = newest_profiles;
        self.memory.commits.known().learn(end);
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
