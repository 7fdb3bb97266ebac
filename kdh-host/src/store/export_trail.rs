//! What the audit trail says of exports: of each target, up to which position records were made.
//!
//! It is learnt from the trail at the start, as what it says of approvals is, and kept in memory as the host writes. A
//! row that somebody puts back into line changes nothing here: what was made once is never made anew.

use std::collections::HashMap;

use kdh_proto::v1::AuditRecord;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Actor, AuditEntry, ExportRow, Store, StoreError, Tx,
    memory::{Learns, Memory, Remembered},
};

/// The action of the record of a key that was exported.
const MADE: &str = "export.made";
/// The same, of one that was not.
const SKIPPED: &str = "export.skipped";

/// What is known of all targets.
pub(super) type ExportTrail = Remembered<Known>;

/// By a target's id, the position of its last record that was made, or that there is nothing to be made of. Records are
/// made in the order of their positions.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, u64>);

impl Known {
    /// Takes note of a record of the trail.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if let MADE | SKIPPED = &*record.action
            && let Some((target, position)) = noted(&record.detail)
        {
            self.raise(target, position);
        }
    }

    fn raise(&mut self, target: String, position: u64) {
        let made = self.0.entry(target).or_default();
        *made = position.max(*made);
    }
}

impl Learns for Known {
    type Change = (String, u64);

    fn apply(&mut self, (target, position): (String, u64)) {
        self.raise(target, position);
    }
}

/// Target and position.
fn noted(detail: &str) -> Option<(String, u64)> {
    let detail: Value = serde_json::from_str(detail).ok()?;
    let target = detail["target"].as_str()?.to_owned();
    Some((target, detail["position"].as_u64()?))
}

impl ExportTrail {
    /// Up to which position a target's records were made for certain.
    fn made_up_to(&self, target: &str) -> u64 {
        self.known().0.get(target).copied().unwrap_or_default()
    }
}

impl Memory {
    /// Up to which positions a target's records may have been made.
    fn possible_exports(&self, target: &str) -> Vec<u64> {
        self.possible(
            || self.exports.made_up_to(target),
            |made, changes| {
                let more = changes.exports.iter().filter(|(of, _)| of == target);
                more.fold(*made, |made, (_, position)| made.max(*position))
            },
        )
    }
}

impl Store {
    /// Up to which position a target's records were made for certain. Whatever is read from now on has them.
    pub(crate) fn known_exported_up_to(&self, target: &str) -> u64 {
        self.memory.exports.made_up_to(target)
    }

    /// Takes note of a record that was made, as its MAC says.
    pub(crate) fn note_exported(&self, target: &str, position: u64) {
        let mut known = self.memory.exports.known();
        known.raise(target.to_owned(), position);
    }

    /// Sees to it that it is known how commits of a target's records have ended.
    ///
    /// # Errors
    /// It is not known yet.
    pub(crate) async fn settle_exports(
        &self,
        target: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let in_doubt = || {
            let possible = self.memory.possible_exports(target);
            possible.iter().any(|made| *made != possible[0])
        };
        if in_doubt() {
            // The next writer finds it out.
            self.write(now).await?.commit().await?;
        }
        if in_doubt() {
            let cause = "it is not known yet how another transaction has ended".to_owned();
            return Err(StoreError::NotCommitted(cause));
        }
        Ok(())
    }
}

impl Tx {
    /// Up to which position a target's records were made, or may have been, whatever the database says of them.
    pub(super) fn exported_up_to(&self, target: &str) -> u64 {
        let possible = self.memory.possible_exports(target);
        possible.into_iter().max().unwrap_or_default()
    }

    /// Puts down what became of a record of a target that is called so: the SHA-256 of what its MAC goes over, and why
    /// it has no key, if it has none.
    pub(crate) async fn record_export(
        &mut self,
        name: &str,
        row: &ExportRow,
        sha256: &str,
        why: &str,
    ) -> Result<(), StoreError> {
        let mut detail = json!({
            "target": row.target,
            "name": name,
            "position": row.position,
            "slot": row.slot.as_str(),
            "version": row.version,
            "sha256": sha256,
        });
        let action = if let Some(made) = &row.made {
            detail["kcv"] = json!(made.kcv);
            MADE
        } else {
            detail["why"] = json!(why);
            SKIPPED
        };
        self.record(AuditEntry {
            actor: &Actor::Host,
            action,
            device: Some(&row.device),
            outcome: "ok",
            detail,
        })
        .await?;
        self.changes
            .exports
            .push((row.target.clone(), row.position));
        Ok(())
    }
}
